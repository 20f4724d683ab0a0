// The price of vector FMA into register tiles.
#include "passes/price/tiles.h"

bool strategy_fma_applies(const Op *op, const Target *t) {
  Work w;
  return work_of(op, &w) && !is_empty(op) && dtype_is_float(w.type) && t->vector_bits >= 128;
}

void strategy_fma_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "fma")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  if (w.depthwise) {
    price_depthwise(op, t, &w, p);
  } else {
    w.parts = op->kind == OP_CONV && w.copies == 1 && w.k_lanes && !w.packs_at_run && w.type == DT_F32 &&
              op_in(op, 0)->type->dtype == DT_F32;
    price_tiles(op, t, &w, p);
  }
}
