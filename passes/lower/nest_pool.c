// A maximum over 2x2 squares of a convolution's result, taken in registers: the convolution stores the result of the
// pool, and the pool is no step of its own. See nest.h.
//
//   %1 = conv %x, @w : f32[1,28,28,16]
//   %2, _ = maxpool %1 {kernel = [2,2], strides = [2,2]} : f32[1,14,14,16]        %1 is never in memory
//
// The register tile covers two rows and an even number of columns, so that squares lie within it. Where bias and post
// function keep the order of floats (and NaN), they are applied to the maximum: once per square instead of four times.
#include <math.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "passes/lower/bits.h"
#include "passes/lower/lower_conv.h"

static bool all_are(const Op *op, int slot, uint32_t n, int64_t missing, int64_t want) {
  for (uint32_t i = 0; i < n; i++)
    if (op_ints_at(op, slot, i, missing) != want) return false;
  return true;
}

// The pool that alone reads the result; operands behind the weights must be numbers or one per channel.
static const Op *pool_of(const Op *op) {
  const Op *pool = value_sole_user(op_out(op, 0));
  const Type *y = op_out(op, 0)->type;
  if (pool == NULL || pool->kind != OP_MAXPOOL || y->rank != 4 || op_out(pool, 1)->n_uses > 0) return NULL;
  if (op_enum(pool, A_MAXPOOL_layout) != LAYOUT_NHWC || !all_are(pool, A_MAXPOOL_kernel, 2, 1, 2) ||
      !all_are(pool, A_MAXPOOL_strides, 2, 1, 2) || !all_are(pool, A_MAXPOOL_pads, 4, 0, 0) ||
      !all_are(pool, A_MAXPOOL_dilations, 2, 1, 1))
    return NULL;
  const Type *p = op_out(pool, 0)->type;
  if (p->dims[1] != y->dims[1] / 2 || p->dims[2] != y->dims[2] / 2 || p->dims[1] == 0 || p->dims[2] == 0) return NULL;
  for (uint32_t i = 2; i < op->n_in; i++)
    if (op_in(op, i) != NULL && type_count(op_in(op, i)->type) > y->dims[3]) return NULL;
  return pool;
}

// Two rows and an even number of columns with as many registers as before, or two columns more where registers are
// left: fewer would read x more often than the pool costs.
static bool tile_squares(const LowerCtx *ctx, NestTile *t) {
  int64_t half = (t->mr + 3) / 4 * 2, held = (2 * half + 1) * t->nv + 1;
  if (t->my % 2 == 0) return t->mr % 2 == 0;
  if (t->my != 1 || (t->mr % 4 != 0 && (t->mr % 4 != 2 || t->parts > 0 || held > (int64_t)ctx->target->n_vregs)))
    return false;
  t->my = 2;
  t->mr = half;
  return true;
}

// An infinity that meets its opposite in an element that is not the largest would be lost.
static bool is_finite(const Nest *n, const Value *v) {
  if (v == NULL) return true;
  if (!value_is_const(v)) return false;
  Tensor t = tensor_of_const(n->op->func->module, v->constant);
  for (int64_t i = 0; i < type_count(v->type); i++)
    if (!isfinite(elem_get_f(t.data, v->type->dtype, i))) return false;
  return true;
}

// An op of a post function that never falls when an operand of it rises.
static bool rises(const Nest *n, const Op *op) {
  if (op->kind != OP_RELU && op->kind != OP_CLIP && op->kind != OP_ADD) return false;
  for (uint32_t k = 0; k < op->n_in; k++)
    if (value_is_const(op_in(op, k)) && !is_finite(n, op_in(op, k))) return false;
  return op_out(op, 0)->type->dtype == n->type;
}

// Floats that only meet finite numbers, ReLU and clipping: max(f(a), f(b)) is f(max(a, b)), zeros and NaN included.
static bool keeps_order(const Nest *n) {
  const Func *post = op_post(n->op);
  bool plain = !n->dot && !n->counts && (n->type == DT_F32 || n->type == DT_F64) && is_finite(n, n->bias);
  for (uint32_t i = 0; i < n->rank; i++) plain = plain && n->class_at[i] == NULL;
  for (uint32_t i = op_info(n->op->kind)->max_in; i < n->op->n_in; i++) plain = plain && is_finite(n, op_in(n->op, i));
  for (const Op *op = post == NULL ? NULL : post->first; op != NULL; op = op->next) plain = plain && rises(n, op);
  return plain;
}

void nest_pool(LowerCtx *ctx, const Plan *plan, Nest *n) {
  const Op *pool = pool_of(n->op);
  bool strategy = plan_is(plan, "fma") || plan_is(plan, "planes") || plan_is(plan, "dot8") || plan_is(plan, "codebook");
  if (pool == NULL || !strategy || n->rank != 5 || n->n_rows == 0 || n->tile.k_lanes > 0 || n->tile.lanes < 2) return;
  NestLoop *row = &n->row[n->n_rows - 1];
  if (row->axis != 2 || row->w != 0 || n->m.axis != 3 || n->n != op_out(n->op, 0)->type->dims[3] ||
      lower_post_again(n->op, n->type))
    return;
  const BitsValue *held = bits_of(ctx, op_out(pool, 0));
  if ((held != NULL && held->form.planes != 1) || !tile_squares(ctx, &n->tile)) return;
  row->extent -= row->extent % 2;
  n->m.extent -= n->m.extent % 2;
  n->tile.mb = (n->m.extent + n->tile.mr - 1) / n->tile.mr * n->tile.mr;
  n->squares = pool;
  n->squares_first = keeps_order(n);
  ctx->fused[op_out(n->op, 0)->id] = true;
}
