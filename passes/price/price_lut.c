// The price of products out of tables: the tiles of fma with a permutation and an addition per lookup.
#include "passes/contraction.h"
#include "passes/lower/lut.h"
#include "passes/price/tiles.h"

#define STEPS 1.4  // of fma for a lookup, measured on zen5

// Weights of u8 have no room for their high nibble's sign.
bool strategy_lut_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1), *bias = op_in(op, 2);
  if (t->arch[0] != 'x' || t->vector_bits < 256 || op->kind == OP_CONV_TRANSPOSE) return false;
  if (!is_byte(op_in(op, 0)) || !value_is_const(b) || b->type->dtype != DT_I8 || bias != NULL) return false;
  if (!work_of(op, &w) || is_empty(op) || w.depthwise) return false;
  MatmulGeom g;
  return op->kind == OP_CONV || (matmul_geom(op, &g) && !g.b_vector && type_count(b->type) == g.k * g.n);
}

void strategy_lut_price(const Op *op, const Target *t, Price *p) {
  Work w;
  Target lookups = *t;
  lookups.fma_per_cycle = t->fma_per_cycle / (STEPS * (double)lut_lookups(op));
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "lut")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  w.type = DT_I32;
  w.folds = w.k_lanes = false;
  price_tiles(op, &lookups, &w, p);
}
