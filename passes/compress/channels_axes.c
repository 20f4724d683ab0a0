// Pass channels: the axis of every value that counts channels, and which of them are the same channels.
//
//   %0 = conv %x, @w : f32[1,16,28,28]      axis 1: a new class of 16
//   %1 = relu %0 : f32[1,16,28,28]          axis 1: the same class
//   %2 = reshape %1 : f32[1,12544]          axis 1: the same class, 784 neighbouring indices each
//   %3 = concat %2, %2 {axis = 1}           axis 1: two segments
//
// An op that no rule speaks for pins the classes of its operands: their channels stay. A class that meets another one
// element by element becomes one with it.
#include <string.h>

#include "ir/elem.h"
#include "passes/compress/channels.h"
#include "passes/graph_util.h"

const ChannelAxis *channel_axis(const Channels *c, const Value *v) {
  static const ChannelAxis none = {.axis = -1};
  return v && v->kind != VALUE_CONST && v->id < c->n_values ? &c->of[v->id] : &none;
}

ChannelClass *class_root(const Channels *c, uint32_t cls) {
  while (c->classes.at[cls].parent != cls) cls = c->classes.at[cls].parent;
  return &c->classes.at[cls];
}

int64_t axis_extent(const Channels *c, const ChannelAxis *a) {
  int64_t n = 0;
  for (uint32_t i = 0; i < a->n; i++) n += class_root(c, a->segment[i].cls)->n * a->segment[i].inner;
  return n;
}

uint32_t axis_units(const Channels *c, const ChannelAxis *a) {
  int64_t n = 0;
  for (uint32_t i = 0; i < a->n; i++) n += class_root(c, a->segment[i].cls)->n;
  return (uint32_t)n;
}

void axis_unit(const Channels *c, const ChannelAxis *a, int64_t position, int64_t *unit, ChannelClass **cls,
               int64_t *index) {
  int64_t units = 0;
  for (uint32_t i = 0; i < a->n; i++) {
    ChannelClass *k = class_root(c, a->segment[i].cls);
    int64_t inner = a->segment[i].inner;
    if (position < k->n * inner) {
      *cls = k;
      *index = position / inner;
      *unit = units + position / inner;
      return;
    }
    position -= k->n * inner;
    units += k->n;
  }
  qcc_bug("a position behind the end of its axis");
}

bool axis_keeps(const Channels *c, const ChannelAxis *a, int64_t position) {
  int64_t unit, index;
  ChannelClass *cls;
  if (a->axis < 0) return true;
  axis_unit(c, a, position, &unit, &cls, &index);
  return cls->keep[index];
}

static void pin(Channels *c, const ChannelAxis *a) {
  for (uint32_t i = 0; i < a->n; i++) class_root(c, a->segment[i].cls)->pinned = true;
}

static ChannelAxis *axis_set(Channels *c, const Value *v, int64_t axis, uint32_t n, Segment *segment) {
  ChannelAxis *a = &c->of[v->id];
  *a = (ChannelAxis){(int32_t)axis, n, segment, NULL, NULL};
  return a;
}

static Segment segment_new(Channels *c, int64_t n) {
  ChannelClass k = {.parent = c->classes.n, .n = n};
  vec_push(c->arena, &c->classes, k);
  return (Segment){k.parent, 1};
}

// One class per segment becomes the other's. False: the axes are cut differently.
static bool unify(Channels *c, const ChannelAxis *a, const ChannelAxis *b) {
  if (a->n != b->n) return false;
  for (uint32_t i = 0; i < a->n; i++) {
    const ChannelClass *x = class_root(c, a->segment[i].cls), *y = class_root(c, b->segment[i].cls);
    if (x->n != y->n || a->segment[i].inner != b->segment[i].inner) return false;
  }
  for (uint32_t i = 0; i < a->n; i++) {
    ChannelClass *x = class_root(c, a->segment[i].cls), *y = class_root(c, b->segment[i].cls);
    if (x == y) continue;
    x->pinned |= y->pinned;
    y->parent = x->parent;
  }
  return true;
}

static void carry(Channels *c, Op *op, const ChannelAxis *x, int64_t axis) {
  for (uint32_t i = 0; i < op->n_out; i++) axis_set(c, op->out[i], axis, x->n, x->segment);
}

// ---- contractions

static bool is_whole(const Op *op, int slot) {
  uint32_t n;
  const int64_t *v = op_ints(op, slot, &n);
  for (uint32_t i = 0; i < n; i++)
    if (v[i] != 0) return false;
  return true;
}

static void conv_strides(Reader *r, const Type *w, bool nhwc, uint32_t spatial) {
  r->taps = 1;
  for (uint32_t i = 0; i < spatial; i++) r->taps *= w->dims[nhwc ? i : 2 + i];
  int64_t second = nhwc ? w->dims[spatial + 1] : w->dims[1];
  if (nhwc) {
    r->s_out = 1, r->s_in = second, r->s_tap = second * w->dims[spatial];
  } else {
    r->s_out = r->transposed ? r->taps : second * r->taps;
    r->s_in = r->transposed ? second * r->taps : r->taps;
    r->s_tap = 1;
  }
}

static bool reader_conv(Op *op, Reader *r) {
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type, *y = op->out[0]->type;
  r->transposed = op->kind == OP_CONV_TRANSPOSE;
  bool nhwc = op_enum(op, r->transposed ? A_CONV_TRANSPOSE_layout : A_CONV_layout) == LAYOUT_NHWC;
  uint32_t axis = nhwc ? x->rank - 1 : 1;
  r->in = x->dims[axis];
  r->out = y->dims[axis];
  r->group = op_int(op, r->transposed ? A_CONV_TRANSPOSE_group : A_CONV_group);
  r->x_zero = (double)op_int(op, r->transposed ? A_CONV_TRANSPOSE_x_zero : A_CONV_x_zero);
  r->padded = r->transposed || !is_whole(op, A_CONV_pads);
  r->o_dim = nhwc ? x->rank - 1 : r->transposed ? 1 : 0;
  r->i_dim = nhwc ? x->rank - 2 : r->transposed ? 0 : 1;
  conv_strides(r, w, nhwc, x->rank - 2);
  return r->in > 0 && r->out > 0 && !(r->transposed && r->group != 1) && type_is_static(w);
}

static bool reader_matmul(Op *op, Reader *r) {
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type, *y = op->out[0]->type;
  const Value *bias = op_in(op, 2);
  if (op_bool(op, A_MATMUL_trans_a) || op_int(op, A_MATMUL_x_bits) || w->rank != 2 || x->rank < 1) return false;
  bool flipped = op_bool(op, A_MATMUL_trans_b);
  r->in = x->dims[x->rank - 1];
  r->out = y->dims[y->rank - 1];
  r->group = r->taps = 1;
  r->o_dim = flipped ? 0 : 1;
  r->i_dim = flipped ? 1 : 0;
  r->s_in = flipped ? 1 : w->dims[1];
  r->s_out = flipped ? w->dims[1] : 1;
  r->x_zero = (double)op_int(op, A_MATMUL_x_zero);
  return !bias || type_count(bias->type) == 1 || bias->type->dims[bias->type->rank - 1] == r->out;
}

bool reader_of(Channels *c, Op *op, Reader *r) {
  *r = (Reader){.op = op};
  bool conv = op->kind == OP_CONV || op->kind == OP_CONV_TRANSPOSE;
  if (!conv && op->kind != OP_MATMUL) return false;
  const Value *w = op_in(op, 1), *bias = op_in(op, 2);
  if (!value_is_const(w) || value_is_const(op_in(op, 0)) || op_post(op) || (bias && !value_is_const(bias)))
    return false;
  if (!(conv ? reader_conv(op, r) : reader_matmul(op, r))) return false;
  r->weights = const_data(c->m, w->constant);
  r->dtype = w->type->dtype;
  const ChannelAxis *x = channel_axis(c, op_in(op, 0));
  uint32_t rank = op_in(op, 0)->type->rank;
  bool last = !conv || op_enum(op, r->transposed ? A_CONV_TRANSPOSE_layout : A_CONV_layout) == LAYOUT_NHWC;
  return x->axis < 0 || x->axis == (last ? (int32_t)rank - 1 : 1);
}

double reader_weight(const Reader *r, int64_t o, int64_t in, int64_t tap) {
  int64_t at = o * r->s_out + in * r->s_in + tap * r->s_tap;
  return r->dtype == DT_F32 ? (double)((const AnyF32 *)r->weights)[at] : elem_get_f(r->weights, r->dtype, at);
}

static bool follow_contraction(Channels *c, Op *op) {
  Reader r;
  if (!reader_of(c, op, &r)) return false;
  uint32_t rank = op->out[0]->type->rank;
  bool last =
      op->kind == OP_MATMUL || op_enum(op, r.transposed ? A_CONV_TRANSPOSE_layout : A_CONV_layout) == LAYOUT_NHWC;
  Segment *s = NEW(c->arena, Segment);
  *s = segment_new(c, r.out);
  axis_set(c, op->out[0], last ? rank - 1 : 1, 1, s);
  fixed_contraction(c, &r);
  same_contraction(c, &r);
  vec_push(c->arena, &c->readers, r);
  return true;
}

// ---- ops that treat channels one by one

// All operands but NULL: followed along the same axis of the result, constant there, or of extent 1.
static bool follow_eltwise(Channels *c, Op *op) {
  const Type *y = op->out[0]->type;
  const ChannelAxis *first = NULL;
  int64_t axis = 0;
  for (uint32_t i = 0; i < op->n_in && !first; i++) {
    const ChannelAxis *a = channel_axis(c, op_in(op, i));
    if (a->axis < 0) continue;
    axis = a->axis + (int64_t)y->rank - op_in(op, i)->type->rank;
    first = a;
  }
  if (!first || y->dims[axis] != axis_extent(c, first)) return false;
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    if (!v) continue;
    const ChannelAxis *a = channel_axis(c, v);
    int64_t at = axis - ((int64_t)y->rank - v->type->rank);
    bool has = at >= 0 && v->type->dims[at] != 1;
    if (a->axis >= 0 ? a->axis != at || !unify(c, first, a) : has && !value_is_const(v)) return false;
  }
  carry(c, op, first, axis);
  return true;
}

static bool is_constant_from(const Op *op, uint32_t first) {
  for (uint32_t i = first; i < op->n_in; i++)
    if (op_in(op, i) && !value_is_const(op_in(op, i))) return false;
  return true;
}

static bool follow_batchnorm(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  int slot = op->kind == OP_BATCHNORM ? (int)A_BATCHNORM_axis : (int)A_INSTANCE_NORM_axis;
  if (a->axis != op_int(op, slot) || !is_constant_from(op, 1)) return false;
  carry(c, op, a, a->axis);
  return true;
}

// Scales have one element or lie along the channels.
static bool follow_quantize(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  int slot = op->kind == OP_QUANTIZE ? (int)A_QUANTIZE_axis : (int)A_DEQUANTIZE_axis;
  int block = op->kind == OP_QUANTIZE ? (int)A_QUANTIZE_block : (int)A_DEQUANTIZE_block;
  int64_t axis = op_int(op, slot), rank = op_in(op, 0)->type->rank;
  if (!is_constant_from(op, 1) || op_int(op, block) > 0) return false;
  if (type_count(op_in(op, 1)->type) != 1 && (op_in(op, 1)->type->rank != 1 || (axis + rank) % rank != a->axis))
    return false;
  carry(c, op, a, a->axis);
  return true;
}

// Tables per index of the last axis.
static bool follow_last(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  if (!is_constant_from(op, 1) || a->axis != (int32_t)op_in(op, 0)->type->rank - 1) return false;
  for (uint32_t i = 1; i < op->n_in; i++)
    if (op_in(op, i) && op->kind == OP_REQUANT && op_in(op, i)->type->rank > 1) return false;
  carry(c, op, a, a->axis);
  return true;
}

static bool follow_lookup(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 1));
  if (!value_is_const(op_in(op, 0)) || op_in(op, 0)->type->rank != 1) return false;
  carry(c, op, a, a->axis);
  return true;
}

static bool follow_pool(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  int slot = op->kind == OP_MAXPOOL   ? (int)A_MAXPOOL_layout
             : op->kind == OP_AVGPOOL ? (int)A_AVGPOOL_layout
                                      : (int)A_LPPOOL_layout;
  bool nhwc = op_enum(op, slot) == LAYOUT_NHWC;
  if (a->axis != (nhwc ? (int32_t)op_in(op, 0)->type->rank - 1 : 1)) return false;
  if (op->n_out > 1 && op->out[1]->n_uses) return false;  // flat indices count channels
  carry(c, op, a, a->axis);
  return true;
}

static bool follow_reduce(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  uint32_t n;
  const int64_t *axes = op_ints(op, A_REDUCE_axes, &n);
  int64_t axis = a->axis;
  for (uint32_t i = 0; i < n; i++) {
    if (axes[i] == a->axis) return false;
    if (axes[i] < a->axis && !op_bool(op, A_REDUCE_keepdims)) axis--;
  }
  carry(c, op, a, axis);
  return true;
}

// softmax and the like: each index of another axis is treated alike
static bool follow_along_other(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  int64_t axis = op_int(op, A_SOFTMAX_axis), rank = op_in(op, 0)->type->rank;
  if ((axis + rank) % rank == a->axis) return false;
  carry(c, op, a, a->axis);
  return true;
}

// ---- movement

static int64_t product(const Type *t, int64_t from, int64_t to) {
  int64_t n = 1;
  for (int64_t i = from; i < to; i++) n *= t->dims[i];
  return n;
}

// The axis of the result that begins where the followed one does: of the same extent, of k times as many indices (dims
// behind it join) or of a k-th of them.
static bool follow_reshape(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  const Type *x = op_in(op, 0)->type, *y = op->out[0]->type;
  if (!type_is_static(x) || !type_is_static(y) || type_count(x) == 0) return false;
  int64_t before = product(x, 0, a->axis), axis = 0, extent = axis_extent(c, a);
  while (axis < y->rank && (product(y, 0, axis) != before || (y->dims[axis] == 1 && extent > 1))) axis++;
  if (axis == y->rank) return false;
  int64_t now = y->dims[axis], behind = product(x, a->axis + 1, x->rank);
  Segment *s = NEW_ARRAY(c->arena, Segment, a->n);
  for (uint32_t i = 0; i < a->n; i++) {
    s[i] = a->segment[i];
    if (now % extent == 0 && behind % (now / extent) == 0) {
      s[i].inner *= now / extent;
    } else if (extent % now == 0 && s[i].inner % (extent / now) == 0) {
      s[i].inner /= extent / now;
    } else {
      return false;
    }
  }
  axis_set(c, op->out[0], axis, a->n, s);
  return true;
}

static bool follow_transpose(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  for (uint32_t i = 0; i < op->out[0]->type->rank; i++)
    if (op_ints_at(op, A_TRANSPOSE_perm, i, 0) == a->axis) carry(c, op, a, i);
  return true;
}

static bool follow_concat(Channels *c, Op *op) {
  int64_t axis = op_int(op, A_CONCAT_axis), rank = op->out[0]->type->rank;
  if (axis < 0) axis += rank;
  VEC(Segment) all = {0};
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    const ChannelAxis *a = channel_axis(c, v), *first = channel_axis(c, op_in(op, 0));
    bool along = a->axis == axis;
    if (a->axis >= 0 && !along) {  // joined along another axis: the same channels everywhere
      if (!unify(c, first, a) || a->axis != first->axis) return false;
      continue;
    }
    for (uint32_t k = 0; along && k < a->n; k++) vec_push(c->arena, &all, a->segment[k]);
    if (along) continue;
    if ((first->axis >= 0 && first->axis != axis) || v->type->dims[axis] < 0) return false;
    Segment s = segment_new(c, v->type->dims[axis]);
    c->classes.at[s.cls].pinned = true;
    vec_push(c->arena, &all, s);
  }
  if (all.n) {
    axis_set(c, op->out[0], axis, all.n, all.at);
  } else {
    const ChannelAxis *first = channel_axis(c, op_in(op, 0));
    carry(c, op, first, first->axis);
  }
  return true;
}

// pad, slice, resize, expand, tile: the axis is left as it is
static bool follow_same_axis(Channels *c, Op *op) {
  const ChannelAxis *a = channel_axis(c, op_in(op, 0));
  const Type *x = op_in(op, 0)->type, *y = op->out[0]->type;
  int64_t axis = a->axis + (op->kind == OP_EXPAND ? (int64_t)y->rank - x->rank : 0);
  if (y->dims[axis] != x->dims[a->axis]) return false;
  uint32_t at = (uint32_t)a->axis;
  if (op->kind == OP_PAD && (op_ints_at(op, A_PAD_pads, at, 0) || op_ints_at(op, A_PAD_pads, at + x->rank, 0)))
    return false;
  if (op->kind == OP_SLICE && (op_ints_at(op, A_SLICE_starts, at, 0) || op_ints_at(op, A_SLICE_steps, at, 1) != 1))
    return false;
  if (op->kind == OP_RESIZE) {
    uint32_t n;
    const double *scales = op_floats(op, A_RESIZE_scales, &n);
    if (at >= n || scales[at] != 1 || op_enum(op, A_RESIZE_coord) == COORD_TF_CROP_AND_RESIZE) return false;
  }
  carry(c, op, a, axis);
  return true;
}

static const struct {
  OpKind kind;
  bool (*follow)(Channels *, Op *);
} rules[] = {
    {OP_CONV, follow_contraction},
    {OP_CONV_TRANSPOSE, follow_contraction},
    {OP_MATMUL, follow_contraction},
    {OP_BATCHNORM, follow_batchnorm},
    {OP_INSTANCE_NORM, follow_batchnorm},
    {OP_QUANTIZE, follow_quantize},
    {OP_DEQUANTIZE, follow_quantize},
    {OP_THRESHOLD, follow_last},
    {OP_REQUANT, follow_last},
    {OP_LOOKUP, follow_lookup},
    {OP_MAXPOOL, follow_pool},
    {OP_AVGPOOL, follow_pool},
    {OP_LPPOOL, follow_pool},
    {OP_REDUCE, follow_reduce},
    {OP_SOFTMAX, follow_along_other},
    {OP_RESHAPE, follow_reshape},
    {OP_TRANSPOSE, follow_transpose},
    {OP_CONCAT, follow_concat},
    {OP_PAD, follow_same_axis},
    {OP_SLICE, follow_same_axis},
    {OP_RESIZE, follow_same_axis},
    {OP_EXPAND, follow_same_axis},
    {OP_TILE, follow_same_axis},
};

static bool op_follow(Channels *c, Op *op) {
  bool followed = op->kind == OP_CONV || op->kind == OP_CONV_TRANSPOSE || op->kind == OP_MATMUL;
  for (uint32_t i = 0; i < op->n_in; i++) followed |= channel_axis(c, op_in(op, i))->axis >= 0;
  if (!followed) return true;  // nothing to carry on, nothing to pin
  if (op_info(op->kind)->traits & TRAIT_ELTWISE) return follow_eltwise(c, op);
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
    if (rules[i].kind == op->kind) return rules[i].follow(c, op);
  return false;
}

bool channels_follow(Channels *c) {
  c->of = NEW_ARRAY(c->arena, ChannelAxis, c->n_values);
  for (uint32_t i = 0; i < c->n_values; i++) c->of[i].axis = -1;
  for (Op *op = c->f->first; op; op = op->next) {
    if (op_follow(c, op)) {
      fixed_follow(c, op);
      same_follow(c, op);
      continue;
    }
    for (uint32_t i = 0; i < op->n_in; i++) pin(c, channel_axis(c, op_in(op, i)));
  }
  for (uint32_t i = 0; i < c->f->n_results; i++) pin(c, channel_axis(c, c->f->results[i]));
  return c->classes.n > 0;
}
