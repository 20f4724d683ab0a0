// Matrix products: B packed (at compile time when it is constant, else by a step before), then the contraction nest.
//
// Batches and rows of A become one axis where nothing distinguishes them. 1-D operands are vectors of unit extent.
#include "passes/lower/bits.h"
#include "passes/lower/code.h"
#include "passes/lower/codebook.h"
#include "passes/lower/dot8.h"
#include "passes/lower/lower_conv.h"
#include "passes/lower/lut.h"
#include "passes/lower/planes.h"
#include "passes/lower/sparse.h"
#include "passes/lower/stream.h"
#include "passes/lower/tile8.h"
#include "passes/lower/truth.h"

static PackSpec matmul_weights(const MatmulGeom *g, const NestTile *t, DType type) {
  PackSpec s = {.n_red = 1, .red = {g->k}, .red_stride = {g->b_k}, .n = g->n, .n_stride = g->b_n};
  s.nv = nest_panel(t);
  s.lanes = t->lanes;
  s.dense = t->dense;
  s.type = type;
  return s;
}

// One packed copy per batch of B.
static void matmul_copies(PackSpec *s, const MatmulGeom *g) {
  for (uint32_t i = 0; i < g->n_batch; i++) {
    if (g->b_batch[i] == 0) continue;
    s->copy[s->n_copies] = g->batch[i];
    s->copy_stride[s->n_copies++] = g->b_batch[i];
  }
}

// Result axes of the nest: batches, m, n; or all of batches and m as one.
static void matmul_axes(Nest *n, const MatmulGeom *g, bool merged) {
  uint32_t at = 0, batches = merged ? 0 : g->n_batch;
  for (uint32_t i = 0; i < g->n_batch; i++) {
    n->axis_of[at++] = merged ? 0 : i;
    if (!merged) n->dims[i] = g->batch[i];
  }
  if (!g->a_vector) n->axis_of[at++] = batches;
  if (!g->b_vector) n->axis_of[at++] = batches + 1;
  n->rank = batches + 2;
  n->dims[batches] = g->m;
  n->dims[batches + 1] = g->n;
  n->m = (NestLoop){.extent = g->m, .x = g->a_m, .axis = batches, .scale = 1};
  if (merged) {
    for (uint32_t i = 0; i < g->n_batch; i++) n->m.extent *= g->batch[i];
    n->dims[0] = n->m.extent;
    return;
  }
  for (uint32_t i = 0; i < g->n_batch; i++) {
    if (g->batch[i] == 1) continue;
    n->row[n->n_rows++] = (NestLoop){.extent = g->batch[i], .x = g->a_batch[i], .axis = i, .scale = 1};
  }
}

// Where each batch finds its copy of the packed weights.
static void matmul_weight_steps(Nest *n, const MatmulGeom *g, const PackSpec *s) {
  int64_t step = pack_copy_elems(s) / (s->by > 1 ? s->by : 1);
  uint32_t row = n->n_rows;
  for (uint32_t i = g->n_batch; i-- > 0;) {
    if (g->batch[i] == 1) continue;
    row--;
    if (g->b_batch[i] == 0) continue;
    n->row[row].w = step;
    step *= g->batch[i];
  }
}

// x and B as bits: from here on the reduction counts words.
static Value *matmul_planes(LowerCtx *ctx, const Op *op, const Plan *plan, Nest *n, MatmulGeom *g) {
  PlanesX x;
  PlanesW w;
  if (!planes_check(ctx, op, plan, &x, &w)) return NULL;
  const BitsValue *held = bits_of(ctx, op_in(op, 0));
  if (held != NULL) x = held->form;  // a row of x may come in pieces, each in words of its own
  int64_t pieces = g->k / x.channels;
  x.zero = op_int(op, A_MATMUL_x_zero);
  planes_sums(ctx, n, &x, &w, pieces, g->n, g->b_k, g->b_n);
  Value *weights = planes_weights(ctx, op, &x, &w, pieces, g->n, g->b_k, g->b_n);
  n->x = held != NULL ? held->words : planes_pack(ctx, op, n->x, &x);
  g->k = pieces * x.words;
  g->a_m = pieces * planes_row(&x);
  g->a_k = x.planes;
  g->b_k = g->n;
  g->b_n = 1;
  return weights;
}

// Planes of the weights outside of the reduction.
static void planes_outside(PackSpec *s, const NestPlanes *p) {
  s->red[1] = s->red[0];
  s->red_stride[1] = s->red_stride[0];
  s->red[0] = p->w + (p->form == PLANES_SIGN);
  s->red_stride[0] = s->red[1] * s->red_stride[1];
  s->n_red = 2;
  s->channels = p->channels;
}

bool lower_matmul(LowerCtx *ctx, const Op *op) {
  MatmulGeom g;
  if (!lower_contraction_check(ctx, op, matmul_geom(op, &g))) return false;
  if (type_count(op_out(op, 0)->type) == 0) return true;
  Plan plan = lower_plan(ctx, op);
  if (plan_is(&plan, "sparse")) return lower_sparse(ctx, op, &plan);
  if (plan_is(&plan, "stream")) return lower_stream(ctx, op, &g, &plan);
  if (plan_is(&plan, "code")) return lower_code(ctx, op, &plan);
  if (plan_is(&plan, "truth")) return lower_truth(ctx, op);
  bool merged = matmul_rows_merge(op, &g);
  Nest n = {.op = op, .bias = op_in(op, 2), .type = lower_arithmetic_type(op), .n = g.n};
  n.name = arena_printf(ctx->m->arena, "matmul_%u", op->id);
  if (bits_of(ctx, op_in(op, 0)) == NULL) n.x = lower_buf(ctx, op_in(op, 0));
  Value *weights = op_in(op, 1);
  if (plan_is(&plan, "lut") && !lut_check(ctx, op)) return false;
  bool book = plan_is(&plan, "codebook"), once = book && plan_param(&plan, "once", 0) != 0;
  if (book && !codebook_check(ctx, op, &plan)) return false;
  if (plan_is(&plan, "planes")) weights = matmul_planes(ctx, op, &plan, &n, &g);
  if (weights == NULL) return false;
  matmul_axes(&n, &g, merged);
  n.n_red = 1;
  n.red[0] = g.k;
  n.x_red[0] = g.a_k;
  n.tile = nest_tile(ctx, &plan, n.type, &n);
  n.x_zero = op_int(op, A_MATMUL_x_zero);
  if (plan_is(&plan, "lut")) weights = lut_weights(ctx, op, &n);
  if (book && !once) weights = codebook_weights(ctx, op, &n);
  PackSpec s = matmul_weights(&g, &n.tile, n.lookups + n.book > 0 ? DT_I8 : n.type);
  if (n.counts) planes_outside(&s, &n.planes);
  if (plan_is(&plan, "dot8")) {
    if (!dot8_plan_bits(ctx, op, &plan, &n.bits)) return false;
    dot8_reduction(&n);
    s = dot8_weights(&n, g.b_k, g.b_n);
    if (value_is_const(weights)) n.bias = dot8_bias(ctx, &n, g.k, g.n, g.b_k, g.b_n);
  }
  matmul_copies(&s, &g);
  if (!merged) matmul_weight_steps(&n, &g, &s);
  if (plan_is(&plan, "tile8")) {
    tile8_reduction(ctx, op, &plan, &n);
    n.x = tile8_room(ctx, op, &n);
    n.w = tile8_weights(ctx, op, &n, 1, 0, g.b_k, g.b_n);
    n.bias = tile8_bias(ctx, op, n.x_zero, g.k, g.n, g.b_k, g.b_n);
  } else {
    n.w = once ? codebook_open(ctx, op, weights, &s) : stage_weights(ctx, op, weights, &s);
  }
  if (n.w == NULL || n.x == NULL) return false;
  nest_result_buf(ctx, &n);
  n.post_again = n.words == NULL && !n.counts && lower_post_again(op, n.type);
  nest_settle(&n);
  return nest_lower(ctx, &n, plan.strategy);
}
