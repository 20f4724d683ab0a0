// The price of bit planes: words of 64 products and popcounts.
#include "passes/bipolar.h"
#include "passes/contraction.h"
#include "passes/price/tiles.h"

bool strategy_planes_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1);
  if (op->kind == OP_CONV_TRANSPOSE || op_in(op, 2) != NULL || !t->has_popcnt_vec || t->vector_bits < 128) return false;
  if (op_in(op, 0)->type->dtype != DT_I8 || !value_is_const(b) || b->type->dtype != DT_I8) return false;
  if (!work_of(op, &w) || is_empty(op) || !value_is_bipolar(b) || !value_is_bipolar(op_in(op, 0))) return false;
  if (op->kind == OP_CONV) return op_int(op, A_CONV_group) == 1 && op_int(op, A_CONV_x_zero) == 0;
  MatmulGeom g;
  if (!matmul_geom(op, &g) || g.b_vector || type_count(b->type) != g.k * g.n) return false;
  return op_int(op, A_MATMUL_x_zero) == 0 && matmul_rows_merge(op, &g);
}

// The tiles of fma with words of 64 products, three operations a word, after a walk over x that makes the bits.
void strategy_planes_price(const Op *op, const Target *t, Price *p) {
  Work w;
  Target words = *t;
  words.fma_per_cycle = t->popcnt_per_cycle;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "planes")}, .fixed = 2 * t->call_cycles};
  if (!work_of(op, &w)) return;
  const Type *x = op_in(op, 0)->type;
  int64_t c = x->dims[x->rank - 1], in_row = (c + 63) / 64, taps = w.k / c;
  p->fixed += w.x_bytes / (double)c * (double)in_row * 2;
  w.type = DT_I64;
  w.folds = w.k_lanes = false;
  w.k = taps * in_row;
  w.k_inner = op->kind == OP_CONV ? w.k_inner / c * in_row : in_row;
  if (w.k_inner < 1) w.k_inner = 1;
  w.w_bytes /= 8;
  w.x_bytes /= 8;
  price_tiles(op, &words, &w, p);
}
