// Pass fuse: what surrounds a contraction goes into it; what is left of element-wise code becomes maps.
//
//   %0 = conv %x, @w : f32[1,8,8,16]
//   %1 = batchnorm %0, @s, @b, @m, @v {axis = 3} : f32[1,8,8,16]
//   %2 = add %1, %y : f32[1,8,8,16]
//   %3 = relu %2 : f32[1,8,8,16]
//   => %3 = conv %x, @w', @b', %y {post = @post0} : f32[1,8,8,16]
//      func @post0(%x: f32[], %1: f32[]) -> f32[] { %0 = add %x, %1 : f32[]  %1 = relu %0 : f32[]  return %1 }
//
// Four steps in order: (1) batchnorm with constant statistics is folded into the weights of the contraction before it,
// else becomes mul and add; (2) a constant per-channel add becomes the bias; (3) groups of element-wise ops of one
// shape whose inner results stay inside become one `map`; (4) a map or element-wise op that is the only user of a
// contraction becomes its `post` function. Weights that a codebook of all channels holds keep their values. Float
// rounding may change by the folding of (1); everything else is exact.
#include "passes/fuse/fuse.h"

#include <math.h>
#include <string.h>

#include "passes/graph_util.h"
#include "passes/lower/codebook.h"
#include "passes/price/tiles.h"

// A contraction with one operand of weights, then a bias.
static bool is_postable(const Op *op) { return (op_info(op->kind)->traits & TRAIT_POST) != 0 && op->kind != OP_CHAIN; }

// ---- (1) batchnorm

// y = x * scale[c] + shift[c], in double. Valid when the four operands are constants.
static bool batchnorm_affine(PassCtx *ctx, const Op *bn, double **scale, double **shift, int64_t *channels) {
  for (uint32_t i = 1; i < 5; i++)
    if (!value_is_const(op_in(bn, i))) return false;
  int64_t n = type_count(op_in(bn, 1)->type);
  *scale = NEW_ARRAY(ctx->arena, double, n);
  *shift = NEW_ARRAY(ctx->arena, double, n);
  for (int64_t c = 0; c < n; c++) {
    double p[4];
    for (uint32_t i = 0; i < 4; i++) p[i] = const_f(ctx->m, op_in(bn, i + 1)->constant, c);
    (*scale)[c] = p[0] / sqrt(p[3] + op_float(bn, A_BATCHNORM_epsilon));
    (*shift)[c] = p[1] - p[2] * (*scale)[c];
  }
  *channels = n;
  return true;
}

// Output channel of element i of a contraction's weights: i / inner % count.
typedef struct ChannelMap {
  int64_t inner, count;
} ChannelMap;

static bool weight_channels(const Op *op, const Type *w, int64_t channels, ChannelMap *map) {
  *map = (ChannelMap){.inner = 1, .count = channels};
  if (op->kind == OP_CONV) {
    if (op_enum(op, A_CONV_layout) == LAYOUT_NCHW) map->inner = type_count(w) / (w->dims[0] ? w->dims[0] : 1);
    return true;
  }
  if (op->kind == OP_CONV_TRANSPOSE) {
    if (op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NCHW || op_int(op, A_CONV_TRANSPOSE_group) != 1) return false;
    return true;  // spatial I O: channel is the last axis
  }
  if (w->rank < 2 || op_in(op, 0)->type->rank < 2) return false;
  if (op_bool(op, A_MATMUL_trans_b)) map->inner = w->dims[w->rank - 1];
  return w->rank == 2;
}

static bool channel_axis_is_last(const Op *op) {
  if (op->kind == OP_CONV) return op_enum(op, A_CONV_layout) == LAYOUT_NHWC;
  if (op->kind == OP_CONV_TRANSPOSE) return op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NHWC;
  return true;
}

static Value *scaled_weights(PassCtx *ctx, const Value *w, const ChannelMap *map, const double *scale) {
  int64_t n = type_count(w->type);
  double *v = NEW_ARRAY(ctx->arena, double, n);
  for (int64_t i = 0; i < n; i++) v[i] = const_f(ctx->m, w->constant, i) * scale[i / map->inner % map->count];
  return const_of_doubles(ctx->m, w->type, v, w->constant->name);
}

static bool batchnorm_into(PassCtx *ctx, Op *bn) {
  Value *x = op_in(bn, 0);
  Op *op = x->kind == VALUE_RESULT ? x->op : NULL;
  if (!op || !is_postable(op) || op_post(op) || value_sole_user(x) != bn) return false;
  Value *w = op_in(op, 1), *bias = op_in(op, 2);
  int64_t axis = op_int(bn, A_BATCHNORM_axis), rank = x->type->rank;
  bool last = channel_axis_is_last(op);
  if (axis != (last ? rank - 1 : 1)) return false;
  double *scale, *shift;
  int64_t channels;
  ChannelMap map;
  if (!value_is_const(w) ||
      (bias && (!value_is_const(bias) || type_count(bias->type) != bn->in[1].value->type->dims[0])))
    return false;
  Codebook book;
  if (strategy_codebook_applies(op, ctx->target) && codebook_of(op, &book) && !book.columns)
    return false;  // scales per channel would hide its values
  if (!batchnorm_affine(ctx, bn, &scale, &shift, &channels) || !weight_channels(op, w->type, channels, &map))
    return false;
  for (int64_t c = 0; bias && c < channels; c++) shift[c] += const_f(ctx->m, bias->constant, c) * scale[c];
  const Type *bt = type_tensor(ctx->m->types, x->type->dtype, 1, &channels);
  Value *in[3] = {op_in(op, 0), scaled_weights(ctx, w, &map, scale), const_of_doubles(ctx->m, bt, shift, NULL)};
  op_set_operands(op, 3, in);
  op_add_loc(op, bn);
  value_replace(bn->out[0], x);
  op_unlink(bn);
  return true;
}

static void batchnorm_to_mul_add(PassCtx *ctx, Op *bn) {
  double *scale, *shift;
  int64_t channels, dims[MAX_RANK];
  if (!batchnorm_affine(ctx, bn, &scale, &shift, &channels)) return;
  const Type *t = bn->out[0]->type;
  uint32_t axis = (uint32_t)op_int(bn, A_BATCHNORM_axis),
           rank = t->rank - axis;  // trailing dims from the channel axis on
  for (uint32_t i = 0; i < rank; i++) dims[i] = i == 0 ? channels : 1;
  const Type *ct = type_tensor(ctx->m->types, t->dtype, rank, dims);
  Value *mul =
      graph_emit(bn, OP_MUL, 2, (Value *[]){op_in(bn, 0), const_of_doubles(ctx->m, ct, scale, NULL)}, t, bn->loc);
  Value *add = graph_emit(bn, OP_ADD, 2, (Value *[]){mul, const_of_doubles(ctx->m, ct, shift, NULL)}, t, bn->loc);
  value_replace(bn->out[0], add);
  op_unlink(bn);
}

static bool fuse_batchnorms(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (op->kind != OP_BATCHNORM) continue;
    uint32_t before = f->n_ops;
    if (!batchnorm_into(ctx, op)) batchnorm_to_mul_add(ctx, op);
    changed |= f->n_ops != before;
  }
  return changed;
}

// ---- (2) bias

// A constant that varies along the last axis only, with n elements there (or one element): [n], [1,n], [1,1,n] ...
static bool is_last_axis_vector(const Value *v, int64_t n) {
  if (!value_is_const(v) || v->type->rank == 0) return false;
  for (uint32_t i = 0; i + 1 < v->type->rank; i++)
    if (v->type->dims[i] != 1) return false;
  return v->type->dims[v->type->rank - 1] == n;
}

static bool fuse_bias(PassCtx *ctx, Op *add) {
  for (uint32_t i = 0; i < 2; i++) {
    Value *x = op_in(add, i), *b = op_in(add, 1 - i);
    Op *op = x->kind == VALUE_RESULT ? x->op : NULL;
    if (!op || !is_postable(op) || op_post(op) || op_in(op, 2) || value_sole_user(x) != add) continue;
    if (x->type != add->out[0]->type || x->type->rank == 0 || !channel_axis_is_last(op)) continue;
    int64_t n = x->type->dims[x->type->rank - 1];
    if (!is_last_axis_vector(b, n)) continue;
    double *v = NEW_ARRAY(ctx->arena, double, n);
    for (int64_t c = 0; c < n; c++) v[c] = const_f(ctx->m, b->constant, c);
    Value *bias = const_of_doubles(ctx->m, type_tensor(ctx->m->types, x->type->dtype, 1, &n), v, b->constant->name);
    op_set_operands(op, 3, (Value *[]){op_in(op, 0), op_in(op, 1), bias});
    op_add_loc(op, add);
    value_replace(add->out[0], x);
    op_unlink(add);
    return true;
  }
  return false;
}

static bool fuse_biases(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (op->kind == OP_ADD && dtype_is_float(op->out[0]->type->dtype)) changed |= fuse_bias(ctx, op);
  }
  return changed;
}

bool fuse_affine(PassCtx *ctx, Func *f) {
  bool changed = fuse_batchnorms(ctx, f);
  return fuse_biases(ctx, f) || changed;
}

PassResult pass_fuse(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  bool changed = fuse_affine(ctx, f);
  changed |= fuse_maps(ctx, f);
  changed |= fuse_posts(ctx, f);
  module_drop_unused_funcs(ctx->m);
  return changed ? PASS_CHANGED : PASS_SAME;
}
