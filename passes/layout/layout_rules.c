// How each op kind takes permuted operands: one row per kind at the end of the file.
#include <string.h>

#include "passes/graph_util.h"
#include "passes/layout/layout.h"

static uint32_t norm_axis(int64_t axis, uint32_t rank) { return (uint32_t)(axis < 0 ? axis + rank : axis); }

// ---- channels-last consumers

// Conv weights: nchw O I/g S... -> nhwc S... I/g O; conv_transpose nchw I O/g S... -> nhwc S... I O/g.
static Value *weights_last(Layout *l, Op *op) {
  Value *w = layout_plain(l, op_in(op, 1));
  uint32_t rank = w->type->rank;
  bool transposed = op->kind == OP_CONV_TRANSPOSE;
  int64_t perm[MAX_RANK], dims[MAX_RANK];
  for (uint32_t i = 0; i + 2 < rank; i++) perm[i] = i + 2;
  perm[rank - 2] = transposed ? 0 : 1;
  perm[rank - 1] = transposed ? 1 : 0;
  for (uint32_t i = 0; i < rank; i++) dims[i] = w->type->dims[perm[i]];
  if (value_is_const(w) && dtype_info(w->type->dtype)->bits % 8 == 0) {
    Value *permuted = const_permuted(layout_module(l), w->constant, perm);
    if (permuted != w) layout_read(l, w->constant);
    return permuted;
  }
  Value *out = graph_emit(layout_at(l), OP_TRANSPOSE, 1, &w,
                          type_with_dims(layout_module(l)->types, w->type, rank, dims), op->loc);
  op_set_ints(out->op, A_TRANSPOSE_perm, rank, perm);
  return out;
}

static bool rule_conv(Layout *l, Op *op) {
  int slot = op->kind == OP_CONV ? (int)A_CONV_layout : (int)A_CONV_TRANSPOSE_layout;
  if (op_enum(op, slot) != LAYOUT_NCHW || op_post(op) || layout_stays_first(l, op)) return false;
  Perm p = perm_channels_last(op_in(op, 0)->type->rank);
  Value *in[3] = {layout_base(l, op_in(op, 0), &p), weights_last(l, op),
                  op_in(op, 2) ? layout_plain(l, op_in(op, 2)) : NULL};
  Op *now = layout_op(l, op, op->n_in, in);
  op_set_int(now, slot, LAYOUT_NHWC);
  now->out[0]->type = layout_type(l, op->out[0]->type, &p);
  layout_set(l, op->out[0], now->out[0], &p);
  return true;
}

static int pool_layout_slot(const Op *op) {
  if (op->kind == OP_MAXPOOL) return A_MAXPOOL_layout;
  return op->kind == OP_AVGPOOL ? (int)A_AVGPOOL_layout : (int)A_LPPOOL_layout;
}

static bool rule_pool(Layout *l, Op *op) {
  int slot = pool_layout_slot(op);
  bool indices = op->n_out > 1 && op->out[1]->n_uses;  // flat indices count nchw elements
  if (op_enum(op, slot) != LAYOUT_NCHW || indices) return false;
  Perm p = perm_channels_last(op_in(op, 0)->type->rank);
  Value *x = layout_base(l, op_in(op, 0), &p);
  Op *now = layout_op(l, op, 1, &x);
  op_set_int(now, slot, LAYOUT_NHWC);
  for (uint32_t i = 0; i < op->n_out; i++) now->out[i]->type = layout_type(l, op->out[i]->type, &p);
  layout_set(l, op->out[0], now->out[0], &p);
  return true;
}

// ---- ops with per-channel operands along `axis`

static bool rule_channel_norm(Layout *l, Op *op) {
  int slot = op->kind == OP_BATCHNORM       ? (int)A_BATCHNORM_axis
             : op->kind == OP_INSTANCE_NORM ? (int)A_INSTANCE_NORM_axis
             : op->kind == OP_GROUP_NORM    ? (int)A_GROUP_NORM_axis
                                            : (int)A_LRN_axis;
  uint32_t rank = op_in(op, 0)->type->rank;
  Perm p = layout_perm(l, op_in(op, 0)), last = perm_channels_last(rank);
  if (!perm_equal(&p, &last)) return false;
  Value *in[5];
  in[0] = layout_base(l, op_in(op, 0), &p);
  for (uint32_t i = 1; i < op->n_in; i++) in[i] = layout_plain(l, op_in(op, i));
  Op *now = layout_op(l, op, op->n_in, in);
  op_set_int(now, slot, p.at[norm_axis(op_int(op, slot), rank)]);
  now->out[0]->type = layout_type(l, op->out[0]->type, &p);
  layout_set(l, op->out[0], now->out[0], &p);
  return true;
}

// ---- ops with one axis attribute and results shaped like operand 0 but for that axis

static int axis_slot(const Op *op) {
  switch (op->kind) {
    case OP_SOFTMAX: return A_SOFTMAX_axis;
    case OP_LOG_SOFTMAX: return A_LOG_SOFTMAX_axis;
    case OP_CUMSUM: return A_CUMSUM_axis;
    case OP_LP_NORM: return A_LP_NORM_axis;
    default: return A_TOPK_axis;
  }
}

static bool rule_axis(Layout *l, Op *op) {
  int slot = axis_slot(op);
  Perm p = layout_perm(l, op_in(op, 0));
  Value *x = layout_base(l, op_in(op, 0), &p);
  Op *now = layout_op(l, op, 1, &x);
  op_set_int(now, slot, p.at[norm_axis(op_int(op, slot), p.rank)]);
  for (uint32_t i = 0; i < op->n_out; i++) {
    now->out[i]->type = layout_type(l, op->out[i]->type, &p);
    layout_set(l, op->out[i], now->out[i], &p);
  }
  return true;
}

// The permutation after dropping the logical dims marked in `gone`.
static Perm perm_without(const Perm *p, const bool *gone) {
  Perm r = {0};
  for (uint32_t i = 0; i < p->rank; i++) {
    if (gone[i]) continue;
    uint32_t at = 0;
    for (uint32_t j = 0; j < p->rank; j++) at += !gone[j] && p->at[j] < p->at[i];
    r.at[r.rank++] = (uint8_t)at;
  }
  return r;
}

static void sort_axes(int64_t *a, uint32_t n) {
  for (uint32_t i = 1; i < n; i++)
    for (uint32_t j = i; j > 0 && a[j] < a[j - 1]; j--) {
      int64_t t = a[j];
      a[j] = a[j - 1];
      a[j - 1] = t;
    }
}

static void reduce_finish(Layout *l, Op *op, Op *now, const Perm *p, const bool *gone, bool keepdims) {
  Perm r = keepdims ? *p : perm_without(p, gone);
  now->out[0]->type = layout_type(l, op->out[0]->type, &r);
  layout_set(l, op->out[0], now->out[0], &r);
}

static bool rule_reduce(Layout *l, Op *op) {
  Perm p = layout_perm(l, op_in(op, 0));
  Value *x = layout_base(l, op_in(op, 0), &p);
  uint32_t n;
  const int64_t *axes = op_ints(op, A_REDUCE_axes, &n);
  int64_t mapped[MAX_RANK];
  bool gone[MAX_RANK] = {false};
  for (uint32_t i = 0; i < n; i++) {
    mapped[i] = p.at[axes[i]];
    gone[axes[i]] = true;
  }
  sort_axes(mapped, n);
  Op *now = layout_op(l, op, 1, &x);
  op_set_ints(now, A_REDUCE_axes, n, mapped);
  reduce_finish(l, op, now, &p, gone, op_bool(op, A_REDUCE_keepdims));
  return true;
}

static bool rule_argreduce(Layout *l, Op *op) {
  Perm p = layout_perm(l, op_in(op, 0));
  Value *x = layout_base(l, op_in(op, 0), &p);
  uint32_t axis = norm_axis(op_int(op, A_ARGREDUCE_axis), p.rank);
  bool gone[MAX_RANK] = {false};
  gone[axis] = true;
  Op *now = layout_op(l, op, 1, &x);
  op_set_int(now, A_ARGREDUCE_axis, p.at[axis]);
  reduce_finish(l, op, now, &p, gone, op_bool(op, A_ARGREDUCE_keepdims));
  return true;
}

// ---- element-wise: all operands brought to one permutation

// The permutation of the largest permuted operand of full rank; the identity when plain operands are larger.
static bool common_perm(Layout *l, const Op *op, uint32_t rank, Perm *out) {
  int64_t best = 0, plain = 0;
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *v = op_in(op, i);
    if (!v || v->type->rank != rank || value_is_const(v)) continue;
    Perm p = layout_perm(l, v);
    int64_t n = type_count(v->type);
    if (perm_is_identity(&p)) {
      plain += n;
    } else if (n > best) {
      best = n;
      *out = p;
    }
  }
  return best > 0 && best >= plain;
}

// Operand of any rank seen with `rank` dims, stored with permutation p.
static Value *aligned(Layout *l, Value *v, uint32_t rank, const Perm *p) {
  const Type *t = v->type;
  if (type_count(t) == 1 && t->rank == 0) return v;
  if (t->rank == rank) return layout_base(l, v, p);
  Value *x = layout_plain(l, v);
  int64_t logical[MAX_RANK], dims[MAX_RANK], perm[MAX_RANK];
  for (uint32_t i = 0; i < rank; i++) logical[i] = i < rank - t->rank ? 1 : t->dims[i - (rank - t->rank)];
  Module *m = layout_module(l);
  const Loc *loc = layout_at(l)->loc;
  x = graph_emit(layout_at(l), OP_RESHAPE, 1, &x, type_with_dims(m->types, t, rank, logical), loc);
  for (uint32_t i = 0; i < rank; i++) {
    dims[p->at[i]] = logical[i];
    perm[p->at[i]] = i;
  }
  x = graph_emit(layout_at(l), OP_TRANSPOSE, 1, &x, type_with_dims(m->types, t, rank, dims), loc);
  op_set_ints(x->op, A_TRANSPOSE_perm, rank, perm);
  return x;
}

static bool rule_eltwise(Layout *l, Op *op) {
  uint32_t rank = op->out[0]->type->rank;
  Perm p;
  if (!common_perm(l, op, rank, &p)) return false;
  Value *in[MAX_RANK];
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = aligned(l, op_in(op, i), rank, &p);
  Op *now = layout_op(l, op, op->n_in, in);
  now->out[0]->type = layout_type(l, op->out[0]->type, &p);
  layout_set(l, op->out[0], now->out[0], &p);
  return true;
}

static bool rule_concat(Layout *l, Op *op) {
  uint32_t rank = op->out[0]->type->rank;
  Perm p;
  if (!common_perm(l, op, rank, &p)) return false;
  Value **in = NEW_ARRAY(layout_module(l)->arena, Value *, op->n_in);
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = layout_base(l, op_in(op, i), &p);
  Op *now = layout_op(l, op, op->n_in, in);
  op_set_int(now, A_CONCAT_axis, p.at[norm_axis(op_int(op, A_CONCAT_axis), rank)]);
  now->out[0]->type = layout_type(l, op->out[0]->type, &p);
  layout_set(l, op->out[0], now->out[0], &p);
  return true;
}

// ---- ops with one attribute entry per axis

static void map_ints(Op *now, const Op *op, int slot, const Perm *p, uint32_t groups) {
  uint32_t n;
  const int64_t *v = op_ints(op, slot, &n);
  int64_t to[2 * MAX_RANK];
  if (n != groups * p->rank) return;
  for (uint32_t g = 0; g < groups; g++)
    for (uint32_t i = 0; i < p->rank; i++) to[g * p->rank + p->at[i]] = v[g * p->rank + i];
  op_set_ints(now, slot, n, to);
}

static void map_floats(Op *now, const Op *op, int slot, const Perm *p, uint32_t groups) {
  uint32_t n;
  const double *v = op_floats(op, slot, &n);
  double to[2 * MAX_RANK];
  if (n != groups * p->rank) return;
  for (uint32_t g = 0; g < groups; g++)
    for (uint32_t i = 0; i < p->rank; i++) to[g * p->rank + p->at[i]] = v[g * p->rank + i];
  op_set_floats(now, slot, n, to);
}

static bool rule_per_axis(Layout *l, Op *op) {
  Perm p = layout_perm(l, op_in(op, 0));
  Value *x = layout_base(l, op_in(op, 0), &p);
  Op *now = layout_op(l, op, 1, &x);
  if (op->kind == OP_SLICE) {
    map_ints(now, op, A_SLICE_starts, &p, 1);
    map_ints(now, op, A_SLICE_steps, &p, 1);
  } else if (op->kind == OP_PAD) {
    map_ints(now, op, A_PAD_pads, &p, 2);
  } else if (op->kind == OP_TILE) {
    map_ints(now, op, A_TILE_repeats, &p, 1);
  } else {
    map_floats(now, op, A_RESIZE_scales, &p, 1);
    map_floats(now, op, A_RESIZE_roi, &p, 2);
  }
  now->out[0]->type = layout_type(l, op->out[0]->type, &p);
  layout_set(l, op->out[0], now->out[0], &p);
  return true;
}

static double scale_of(const Op *op, uint32_t axis) {
  uint32_t n;
  const double *v = op_floats(op, A_RESIZE_scales, &n);
  return axis < n ? v[axis] : 1;
}

// A smooth resize that only the caller reads: rows are resized where channels lie together, then the smaller tensor is
// transposed, then the other axis is resized, whose rows are copied as they are.
static bool is_last_resize(const Op *op, const Perm *p) {
  const Value *y = op->out[0];
  Perm last = perm_channels_last(p->rank);
  EnumValue mode = op_enum(op, A_RESIZE_mode);
  if (mode == RESIZE_NEAREST || op_enum(op, A_RESIZE_coord) == COORD_TF_CROP_AND_RESIZE || p->rank != 4) return false;
  if (!perm_equal(p, &last) || y->uses != NULL || y->n_uses == 0) return false;
  return scale_of(op, 0) == 1 && scale_of(op, 1) == 1 && scale_of(op, 2) > 1 && scale_of(op, 3) > 1;
}

static Value *resize_axis_of(Layout *l, Op *op, Value *x, uint32_t axis, uint32_t at) {
  double scales[4] = {1, 1, 1, 1};
  int64_t dims[4];
  Op *now = layout_op(l, op, 1, &x);
  for (uint32_t i = 0; i < 4; i++) dims[i] = i == at ? op->out[0]->type->dims[axis] : x->type->dims[i];
  scales[at] = scale_of(op, axis);
  op_set_floats(now, A_RESIZE_scales, 4, scales);
  now->out[0]->type = type_with_dims(layout_module(l)->types, x->type, 4, dims);
  return now->out[0];
}

static bool rule_resize(Layout *l, Op *op) {
  Perm p = layout_perm(l, op_in(op, 0)), id = perm_identity(p.rank);
  if (!is_last_resize(op, &p)) return rule_per_axis(l, op);
  Value *x = resize_axis_of(l, op, layout_base(l, op_in(op, 0), &p), 3, p.at[3]);
  int64_t perm[4], dims[4];
  for (uint32_t i = 0; i < 4; i++) {
    perm[i] = p.at[i];
    dims[i] = x->type->dims[p.at[i]];
  }
  const Type *t = type_with_dims(layout_module(l)->types, x->type, 4, dims);
  Value *plain = graph_emit(layout_at(l), OP_TRANSPOSE, 1, &x, t, op->loc);
  op_set_ints(plain->op, A_TRANSPOSE_perm, 4, perm);
  layout_set(l, op->out[0], resize_axis_of(l, op, plain, 2, 2), &id);
  return true;
}

// ---- transposes and reshapes

static bool rule_transpose(Layout *l, Op *op) {
  Perm p = layout_perm(l, op_in(op, 0)), r = {.rank = p.rank};
  Value *base = layout_base(l, op_in(op, 0), &p);
  for (uint32_t i = 0; i < p.rank; i++) r.at[i] = p.at[op_ints_at(op, A_TRANSPOSE_perm, i, 0)];
  layout_set(l, op->out[0], base, &r);
  return true;
}

// A reshape as groups: group g covers from[g] input dims and to[g] output dims of equal product, in order, as fine as
// possible. False when there is none (zero sizes).
typedef struct Groups {
  uint32_t n, from[2 * MAX_RANK], to[2 * MAX_RANK];
} Groups;

static bool reshape_groups(const Type *a, const Type *b, Groups *g) {
  uint32_t i = 0, j = 0;
  *g = (Groups){0};
  if (type_count(a) == 0) return false;
  while (i < a->rank || j < b->rank) {
    uint32_t i0 = i, j0 = j;
    int64_t x = 1, y = 1;
    if (i < a->rank) x = a->dims[i++];
    if (j < b->rank) y = b->dims[j++];
    while (x != y) {
      if (x < y) {
        if (i == a->rank) return false;
        x *= a->dims[i++];
      } else {
        if (j == b->rank) return false;
        y *= b->dims[j++];
      }
    }
    g->from[g->n] = i - i0;
    g->to[g->n++] = j - j0;
  }
  return true;
}

// Base order of the groups: the groups sorted by the base position of their first dim of more than one element. Groups
// of size one go where they stand. When a group's dims are not adjacent and in order in the base, a transpose makes
// them so.
static bool rule_reshape(Layout *l, Op *op) {
  const Type *in = op_in(op, 0)->type, *out = op->out[0]->type;
  Perm p = layout_perm(l, op_in(op, 0));
  Groups g;
  if (!reshape_groups(in, out, &g)) return false;
  uint32_t key[2 * MAX_RANK], order[2 * MAX_RANK], first_in[2 * MAX_RANK], first_out[2 * MAX_RANK];
  for (uint32_t k = 0, i = 0, j = 0; k < g.n; k++) {
    first_in[k] = i;
    first_out[k] = j;
    key[k] = 100 * (k + 1);  // no dims on the input side: stays in logical order
    for (uint32_t d = 0; d < g.from[k]; d++)
      if (d == 0 || in->dims[i + d] != 1) {
        key[k] = p.at[i + d];
        if (in->dims[i + d] != 1) break;
      }
    if (g.from[k] == 0 || g.to[k] == 0) return false;
    order[k] = k;
    i += g.from[k];
    j += g.to[k];
  }
  for (uint32_t a = 1; a < g.n; a++)
    for (uint32_t b = a; b > 0 && key[order[b]] < key[order[b - 1]]; b--) {
      uint32_t t = order[b];
      order[b] = order[b - 1];
      order[b - 1] = t;
    }
  Perm want = {.rank = p.rank}, r = {.rank = out->rank};
  uint32_t at_in = 0, at_out = 0;
  for (uint32_t a = 0; a < g.n; a++) {
    uint32_t k = order[a];
    for (uint32_t d = 0; d < g.from[k]; d++) want.at[first_in[k] + d] = (uint8_t)at_in++;
    for (uint32_t d = 0; d < g.to[k]; d++) r.at[first_out[k] + d] = (uint8_t)at_out++;
  }
  if (perm_is_identity(&r) && !perm_equal(&want, &p)) return false;
  Value *x = layout_base(l, op_in(op, 0), &want);
  Op *now = layout_op(l, op, 1, &x);
  now->out[0]->type = layout_type(l, out, &r);
  layout_set(l, op->out[0], now->out[0], &r);
  return true;
}

// A matmul reads an operand with its last two dims swapped through trans_a / trans_b.
static bool rule_matmul(Layout *l, Op *op) {
  Value *in[3] = {op_in(op, 0), op_in(op, 1), op_in(op, 2)};
  bool flip[2] = {op_bool(op, A_MATMUL_trans_a), op_bool(op, A_MATMUL_trans_b)};
  if (op_post(op)) return false;
  bool used = false;
  for (uint32_t i = 0; i < 2; i++) {
    Perm p = layout_perm(l, in[i]), swapped = perm_identity(p.rank);
    if (p.rank >= 2) {
      swapped.at[p.rank - 1] = (uint8_t)(p.rank - 2);
      swapped.at[p.rank - 2] = (uint8_t)(p.rank - 1);
    }
    if (p.rank >= 2 && perm_equal(&p, &swapped)) {
      in[i] = layout_base(l, in[i], &p);
      flip[i] = !flip[i];
      used = true;
    } else {
      in[i] = layout_plain(l, in[i]);
    }
  }
  if (!used) return false;
  if (in[2]) in[2] = layout_plain(l, in[2]);
  Op *now = layout_op(l, op, op->n_in, in);
  op_set_int(now, A_MATMUL_trans_a, flip[0]);
  op_set_int(now, A_MATMUL_trans_b, flip[1]);
  now->out[0]->type = op->out[0]->type;
  Perm id = perm_identity(op->out[0]->type->rank);
  layout_set(l, op->out[0], now->out[0], &id);
  return true;
}

const LayoutRule *layout_rule(OpKind kind) {
  static const LayoutRule rules[] = {
      {OP_CONV, true, rule_conv},
      {OP_CONV_TRANSPOSE, true, rule_conv},
      {OP_MAXPOOL, true, rule_pool},
      {OP_AVGPOOL, true, rule_pool},
      {OP_LPPOOL, true, rule_pool},
      {OP_BATCHNORM, false, rule_channel_norm},
      {OP_INSTANCE_NORM, false, rule_channel_norm},
      {OP_GROUP_NORM, false, rule_channel_norm},
      {OP_LRN, false, rule_channel_norm},
      {OP_SOFTMAX, false, rule_axis},
      {OP_LOG_SOFTMAX, false, rule_axis},
      {OP_CUMSUM, false, rule_axis},
      {OP_LP_NORM, false, rule_axis},
      {OP_TOPK, false, rule_axis},
      {OP_REDUCE, false, rule_reduce},
      {OP_ARGREDUCE, false, rule_argreduce},
      {OP_CONCAT, false, rule_concat},
      {OP_SLICE, false, rule_per_axis},
      {OP_PAD, false, rule_per_axis},
      {OP_TILE, false, rule_per_axis},
      {OP_RESIZE, false, rule_resize},
      {OP_TRANSPOSE, true, rule_transpose},
      {OP_RESHAPE, false, rule_reshape},
      {OP_MATMUL, false, rule_matmul},
  };
  static const LayoutRule eltwise = {OP_NONE, false, rule_eltwise};
  for (uint32_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
    if (rules[i].kind == kind) return &rules[i];
  return (op_info(kind)->traits & TRAIT_ELTWISE) ? &eltwise : NULL;
}
