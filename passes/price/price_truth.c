// The price of boolean functions out of tables: comparisons that make bits of a row, permutations and tests that put
// indices together, shifts of the tables. Measured on zen5: docs/structure.md.
#include "passes/lower/truth.h"
#include "passes/price/tiles.h"

#define ISSUE 2.0        // of the operations below per cycle
#define ROW_CYCLES 30.0  // bits stored and loaded again, latencies

bool strategy_truth_applies(const Op *op, const Target *t) {
  TruthShape s;
  TruthBits f;
  if (!t->has_lookup64 || is_empty(op) || op->kind == OP_CONV_TRANSPOSE || op->kind == OP_CHAIN) return false;
  return truth_shape(op, &s) && truth_bits(&s, op_in(op, 0)->type->dtype, t, &f);
}

void strategy_truth_price(const Op *op, const Target *t, Price *p) {
  TruthShape s;
  TruthBits f;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "truth")}, .fixed = t->call_cycles};
  if (!truth_shape(op, &s) || !truth_bits(&s, op_in(op, 0)->type->dtype, t, &f)) return;
  double groups = (double)((s.n + 63) / 64), vectors = (double)((s.n + 7) / 8), words = 1;
  if (s.fan > 6) words = (double)(1 << (s.fan - 6));
  double pack = (double)(f.units * s.x_bits) * 3;
  double index = groups * (double)s.fan * (3 * (double)f.tables + 1);
  double look = vectors * (3 + (double)s.y_bits * (3 * words));
  p->compute = (double)s.rows * ((pack + index + look) / ISSUE + ROW_CYCLES);
  double bytes = groups * 128 * (double)s.fan + (double)s.n * 8 * words * s.y_bits;
  p->memory = bytes / price_bandwidth(t, bytes);
}
