// The price of bit planes: words of products and popcounts.
#include <string.h>

#include "passes/contraction.h"
#include "passes/lower/planes.h"
#include "passes/price/tiles.h"

// A bias that is one number per column, known now.
static bool bias_is_column(const Op *op) {
  const Value *bias = op_in(op, 2);
  if (bias == NULL) return true;
  const Type *y = op_out(op, 0)->type;
  int64_t n = y->rank > 0 ? y->dims[y->rank - 1] : 1, count = type_count(bias->type);
  bool last = count == 1 || (count == n && bias->type->rank > 0 && bias->type->dims[bias->type->rank - 1] == n);
  return value_is_const(bias) && last;
}

// AVX-512 broadcasts a word of x in the instruction that combines it with weights.
static void price_operands(Work *w, const Target *t) {
  w->x_operand = t->has_popcnt_vec && t->vector_bits == 512;
  if (w->x_operand) w->taps = 0;  // what columns share is not worth a register
}

bool strategy_planes_applies(const Op *op, const Target *t) {
  Work w;
  PlanesX x;
  const Value *b = op_in(op, 1);
  if (op->kind == OP_CONV_TRANSPOSE || !bias_is_column(op)) return false;
  if (!value_is_const(b) || b->type->dtype != DT_I8 || !work_of(op, &w) || is_empty(op) || w.depthwise) return false;
  if (!planes_x(op, t, &x)) return false;
  if (op->kind == OP_CONV) return true;
  MatmulGeom g;
  if (!matmul_geom(op, &g) || g.b_vector || type_count(b->type) != g.k * g.n) return false;
  return matmul_rows_merge(op, &g);
}

// The tiles of fma with words of products, three operations a word and pair of planes, after a walk over x that
// makes the bits.
void strategy_planes_price(const Op *op, const Target *t, Price *p) {
  Work w;
  PlanesX x;
  Target words = *t;
  Range r = value_range(op_in(op, 1));
  PlanesW f = planes_w(&r);
  words.fma_per_cycle = t->popcnt_per_cycle;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "planes")}, .fixed = 2 * t->call_cycles};
  if (!work_of(op, &w) || !planes_x(op, t, &x)) return;
  plan_add(op, &p->plan, planes_form_name(f.form), f.planes);
  plan_add(op, &p->plan, "m", x.planes);
  int64_t pairs = x.planes * f.planes, taps = w.k / x.channels, rows = x.group * x.words;
  p->fixed += w.x_bytes / (double)(x.channels * x.group) * (double)rows * 2 * (double)x.planes;
  w.type = planes_type(&x);
  w.folds = w.k_lanes = false;
  w.post = price_post(op) / 2;  // counts widen one vector at a time
  w.k = taps * x.words * pairs;
  w.k_inner = w.k_inner / x.channels * x.words;
  if (w.k_inner < 1) w.k_inner = 1;
  w.w_bytes = w.w_bytes * (double)(f.planes + (f.form == PLANES_SIGN)) / 8;
  w.x_bytes = w.x_bytes * (double)x.planes / 8;
  w.w_more = f.form == PLANES_SIGN;
  if (f.form == PLANES_SIGN) words.fma_per_cycle *= 0.85;  // a copy of x for each mask
  if (planes_counts_scalars(t)) {
    plan_add(op, &p->plan, "lanes", 1);
    words.fma_per_cycle *= t->vector_bits / (double)x.word;
    words.vector_bits = (uint32_t)x.word;
  }
  price_operands(&w, &words);
  // Without an instruction that counts, the table of counts and many temporaries need registers.
  if (!t->has_popcnt_vec) words.n_vregs = t->n_vregs > 12 ? t->n_vregs - 8 : 4;
  price_tiles(op, &words, &w, p);
  for (uint32_t i = 0; i < p->plan.n && !t->has_popcnt_vec; i++)
    if (strcmp(p->plan.param[i].name, "ku") == 0) p->plan.param[i].value = 1;
}
