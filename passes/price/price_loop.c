// The price of plain scalar loops, which apply to every layer with one operand of weights.
#include "passes/price/tiles.h"

#define SCALAR_CYCLES 2.0  // of one multiply-add
#define UNKNOWN 1e18       // of a form the loops do not read: anything else is better

bool strategy_loop_applies(const Op *op, const Target *t) {
  (void)t;
  return op->kind != OP_CHAIN;
}

void strategy_loop_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "loop")}, .compute = UNKNOWN};
  if (!work_of(op, &w)) return;
  double bytes = w.x_bytes + w.w_bytes + w.y_bytes;
  p->compute = work_macs(&w) * SCALAR_CYCLES;
  p->memory = bytes / price_bandwidth(t, bytes);
  p->fixed = t->call_cycles;
}
