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
    price_tiles(op, t, &w, p);
  }
}
