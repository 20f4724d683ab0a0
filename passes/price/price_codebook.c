// The price of codebooks: the tiles of fma with a quarter of the bytes of weights, and permutations per vector of them.
#include "passes/contraction.h"
#include "passes/lower/codebook.h"
#include "passes/price/tiles.h"

#define ONE_BOOK 0.4  // cycles per vector of weights with at most 16 values, with more: measured on zen5
#define TWO_BOOKS 1.2

bool strategy_codebook_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1);
  if (t->arch[0] != 'x' || t->vector_bits < 256 || op->kind == OP_CONV_TRANSPOSE || !value_is_const(b)) return false;
  if (op_in(op, 0)->type->dtype != DT_F32 || op_out(op, 0)->type->dtype != DT_F32) return false;
  if (!work_of(op, &w) || is_empty(op) || w.depthwise || w.type != DT_F32 || codebook_values(op) == 0) return false;
  MatmulGeom g;
  return op->kind == OP_CONV || (matmul_geom(op, &g) && !g.b_vector && type_count(b->type) == g.k * g.n);
}

static double ceil_div(int64_t a, int64_t b) { return (double)((a + b - 1) / b); }

void strategy_codebook_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "codebook")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  w.folds = w.k_lanes = false;
  w.w_bytes /= 4;
  price_tiles(op, t, &w, p);
  double tiles = ceil_div(w.m, plan_param(&p->plan, "mr", 1)) * ceil_div(w.rows, plan_param(&p->plan, "my", 1));
  double vectors = ceil_div(w.n, plan_param(&p->plan, "lanes", target_lanes(t, 32))) * (double)w.k * (double)w.copies;
  p->compute += tiles * vectors * (codebook_values(op) <= 16 ? ONE_BOOK : TWO_BOOKS);
}
