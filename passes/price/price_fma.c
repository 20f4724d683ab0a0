// The price of vector FMA into register tiles.
#include "passes/lower/codebook.h"
#include "passes/price/tiles.h"

bool strategy_fma_applies(const Op *op, const Target *t) {
  (void)t;
  Work w;
  return work_of(op, &w) && !is_empty(op) && dtype_is_float(w.type);
}

// Lanes may share a column; weights that are stored as codes stay so.
static bool may_share_columns(const Op *op, const Work *w) {
  Codebook c;
  bool plain = op->kind == OP_CONV && w->copies == 1 && w->k_lanes && !w->packs_at_run && w->type == DT_F32;
  return plain && op_in(op, 0)->type->dtype == DT_F32 && !codebook_of(op, &c);
}

void strategy_fma_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "fma")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  if (w.depthwise) {
    price_depthwise(op, t, &w, p);
  } else {
    w.parts = may_share_columns(op, &w);
    price_tiles(op, t, &w, p);
  }
}
