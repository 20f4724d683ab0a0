// Pass channels: numbers that all elements of a channel have.
//
// A filter of zeros gives its bias; batch norms, activations and poolings carry the number on. Contractions with
// padding see it only inside: their own result is constant where a weight meets no such channel.
//
//   %0 = conv %x, @w, @b       filter 3 of @w is 0: channel 3 of %0 is @b[3]
//   %1 = relu %0               channel 3 of %1 is max(@b[3], 0)
//
// Weights of 0 make 0 whatever they multiply, infinities and NaN included: they are not computed.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "passes/compress/channels.h"
#include "passes/graph_util.h"

static bool has_doubles(DType t) { return t != DT_I64 && t != DT_U64 && t != DT_STR; }

static double *unknown(Channels *c, int64_t n) {
  double *v = NEW_ARRAY(c->arena, double, n);
  for (int64_t i = 0; i < n; i++) v[i] = NAN;
  return v;
}

static void fixed_set(Channels *c, const Value *v, double *fixed, int64_t n) {
  bool any = false;
  for (int64_t i = 0; i < n; i++) any |= !isnan(fixed[i]);
  if (any) c->of[v->id].fixed = fixed;
}

// ---- ops that the interpreter can apply to one element per channel

static bool varies_along_only(const Value *v, int64_t axis) {
  for (int64_t i = 0; i < v->type->rank; i++)
    if (i != axis && v->type->dims[i] != 1) return false;
  return true;
}

// The operand as a tensor with one element per channel, unknown ones 0 (or 1 element). NULL: it is not one.
static Value *operand_small(Channels *c, const Op *op, uint32_t i, uint32_t rank, int64_t axis, bool *known) {
  Value *v = op_in(op, i);
  const ChannelAxis *a = channel_axis(c, v);
  if (a->axis < 0) {
    double splat;
    if (!value_is_const(v)) return NULL;
    if (op->kind == OP_BATCHNORM || varies_along_only(v, axis - ((int64_t)rank - v->type->rank))) return v;
    bool one = value_is_splat(c->m, v, &splat) && has_doubles(v->type->dtype);
    return one ? const_splat(c->m, type_tensor(c->m->types, v->type->dtype, 0, NULL), splat) : NULL;
  }
  if (!a->fixed || !has_doubles(v->type->dtype)) return NULL;
  int64_t dims[MAX_RANK], n = v->type->dims[a->axis];
  for (uint32_t k = 0; k < v->type->rank; k++) dims[k] = k == (uint32_t)a->axis ? n : 1;
  double *x = NEW_ARRAY(c->arena, double, n);
  for (int64_t k = 0; k < n; k++) {
    known[k] &= !isnan(a->fixed[k]);
    x[k] = isnan(a->fixed[k]) ? 0 : a->fixed[k];
  }
  return const_of_doubles(c->m, type_with_dims(c->m->types, v->type, v->type->rank, dims), x, NULL);
}

static const Tensor *eval_small(Channels *c, const Op *op, Value *const *in, int64_t axis, int64_t n) {
  int64_t dims[MAX_RANK];
  const Type *y = op->out[0]->type;
  for (uint32_t k = 0; k < y->rank; k++) dims[k] = k == axis ? n : 1;
  Op *one = op_new(c->f, NULL, op->kind, op->n_in, in, op->loc);
  op_copy_attrs(one, op);
  one->out[0]->type = type_with_dims(c->m->types, y, y->rank, dims);
  Tensor *t = NEW_ARRAY(c->arena, Tensor, op->n_in), *out = NEW(c->arena, Tensor);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (in[i]) t[i] = tensor_of_const(c->m, in[i]->constant);
  bool ok = eval_op(one, t, out, c->arena);
  op_unlink(one);
  return ok ? out : NULL;
}

static void fixed_small(Channels *c, Op *op) {
  const ChannelAxis *y = channel_axis(c, op->out[0]);
  const Type *type = op->out[0]->type;
  if (y->axis < 0 || !has_doubles(type->dtype)) return;
  int64_t n = type->dims[y->axis];
  bool *known = NEW_ARRAY(c->arena, bool, n);
  memset(known, 1, (size_t)n);
  Value **in = NEW_ARRAY(c->arena, Value *, op->n_in);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op_in(op, i) && !(in[i] = operand_small(c, op, i, type->rank, y->axis, known))) return;
  const Tensor *t = eval_small(c, op, in, y->axis, n);
  double *fixed = unknown(c, n);
  for (int64_t k = 0; t && k < n; k++)
    if (known[k]) fixed[k] = elem_get_f(t->data, t->type->dtype, k);
  fixed_set(c, op->out[0], fixed, n);
}

// A factor of 0 in a batch norm or product: the rest is constant.
static void fixed_zero_factor(Channels *c, Op *op) {
  const ChannelAxis *y = channel_axis(c, op->out[0]);
  if (y->axis < 0 || (op->kind != OP_BATCHNORM && op->kind != OP_MUL)) return;
  int64_t n = op->out[0]->type->dims[y->axis];
  double *fixed = y->fixed ? y->fixed : unknown(c, n);
  for (uint32_t i = 0; i < 2; i++) {
    const Value *s = op_in(op, i);
    if (!value_is_const(s) || (op->kind == OP_BATCHNORM && i == 0) || !has_doubles(s->type->dtype)) continue;
    int64_t at = y->axis - ((int64_t)op->out[0]->type->rank - s->type->rank);
    bool per_channel = op->kind == OP_BATCHNORM || (at >= 0 && s->type->dims[at] == n && varies_along_only(s, at));
    for (int64_t k = 0; per_channel && k < n; k++)
      if (const_f(c->m, s->constant, k) == 0)
        fixed[k] = op->kind == OP_BATCHNORM ? const_f(c->m, op_in(op, 2)->constant, k) : 0;
  }
  fixed_set(c, op->out[0], fixed, n);
}

// ---- ops that look at neighbours of the same channel

static bool pads_are_zero(const Op *op, int slot) {
  uint32_t n;
  const int64_t *pads = op_ints(op, slot, &n);
  for (uint32_t i = 0; i < n; i++)
    if (pads[i]) return false;
  return true;
}

// What an op makes of a channel of `v` everywhere; NAN: not one number.
static double neighbours_fixed(const Op *op, double v, int64_t merged) {
  switch (op->kind) {
    case OP_MAXPOOL:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
    case OP_TILE: return v;
    case OP_AVGPOOL: {
      bool whole = !op_bool(op, A_AVGPOOL_count_include_pad) ||
                   (pads_are_zero(op, A_AVGPOOL_pads) && !op_bool(op, A_AVGPOOL_ceil_mode));
      return whole || v == 0 ? v : NAN;
    }
    case OP_LPPOOL: return v == 0 ? v : NAN;
    case OP_RESIZE: return op_enum(op, A_RESIZE_mode) == RESIZE_NEAREST || v == 0 ? v : NAN;
    case OP_PAD: {
      bool filled = op_enum(op, A_PAD_mode) == PAD_CONSTANT && !pads_are_zero(op, A_PAD_pads);
      return !filled || op_float(op, A_PAD_value) == v ? v : NAN;
    }
    case OP_REDUCE:
      switch (op_enum(op, A_REDUCE_op)) {
        case REDUCE_MEAN:
        case REDUCE_MAX:
        case REDUCE_MIN: return v;
        case REDUCE_SUM: return merged > 0 ? v * (double)merged : NAN;
        default: return NAN;
      }
    default: return NAN;
  }
}

// Elements of x per element of y; 0: a dim is symbolic.
static int64_t merged_elements(const Op *op) {
  const Type *x = op_in(op, 0)->type, *y = op->out[0]->type;
  if (!type_is_static(x) || !type_is_static(y) || type_count(y) == 0) return 0;
  return type_count(x) / type_count(y);
}

static void fixed_neighbours(Channels *c, Op *op) {
  const ChannelAxis *x = channel_axis(c, op_in(op, 0)), *y = channel_axis(c, op->out[0]);
  if (y->axis < 0 || !x->fixed) return;
  int64_t n = op_in(op, 0)->type->dims[x->axis], now = op->out[0]->type->dims[y->axis];
  int64_t merged = merged_elements(op);
  double *fixed = unknown(c, now);
  for (int64_t i = 0; i < now; i++) {  // a reshape cuts the axis finer or coarser
    double first = now >= n ? x->fixed[i / (now / n)] : x->fixed[i * (n / now)];
    for (int64_t k = 1; k < n / now; k++)
      if (x->fixed[i * (n / now) + k] != first) first = NAN;
    double v = isnan(first) ? NAN : neighbours_fixed(op, first, merged);
    fixed[i] = isnan(v) ? NAN : elem_round(op->out[0]->type->dtype, v);
  }
  fixed_set(c, op->out[0], fixed, now);
}

static void fixed_concat(Channels *c, Op *op) {
  const ChannelAxis *y = channel_axis(c, op->out[0]);
  int64_t axis = op_int(op, A_CONCAT_axis), rank = op->out[0]->type->rank;
  if (axis < 0) axis += rank;
  if (y->axis < 0 || axis != y->axis) return;  // joined along another axis: told apart by no number
  int64_t n = op->out[0]->type->dims[axis], at = 0;
  double *fixed = unknown(c, n);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const ChannelAxis *x = channel_axis(c, op_in(op, i));
    int64_t extent = op_in(op, i)->type->dims[axis];
    for (int64_t k = 0; x->fixed && k < extent; k++) fixed[at + k] = x->fixed[k];
    at += extent;
  }
  fixed_set(c, op->out[0], fixed, n);
}

void fixed_follow(Channels *c, Op *op) {
  switch (op->kind) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_MATMUL:  // by fixed_contraction
    case OP_INSTANCE_NORM:
    case OP_SOFTMAX: return;
    case OP_BATCHNORM:
    case OP_QUANTIZE:
    case OP_DEQUANTIZE:
    case OP_THRESHOLD:
    case OP_REQUANT:
    case OP_LOOKUP: fixed_small(c, op); break;
    case OP_CONCAT: fixed_concat(c, op); return;
    default:
      if (op_info(op->kind)->traits & TRAIT_ELTWISE) {
        fixed_small(c, op);
      } else {
        fixed_neighbours(c, op);
      }
  }
  fixed_zero_factor(c, op);
}

// ---- contractions

// An output is constant when every weight that is not 0 meets a constant, which padding must not cut.
void fixed_contraction(Channels *c, const Reader *r) {
  const Value *y = r->op->out[0], *bias = op_in(r->op, 2);
  const ChannelAxis *x = channel_axis(c, op_in(r->op, 0));
  int64_t in_group = r->in / r->group, out_group = r->out / r->group;
  double *fixed = unknown(c, r->out);
  int64_t n_bias = bias ? type_count(bias->type) : 1;
  if (!has_doubles(y->type->dtype)) return;
  if (n_bias != 1 && (n_bias != r->out || bias->type->dims[bias->type->rank - 1] != r->out)) return;
  for (int64_t o = 0; o < r->out; o++) {
    double sum = bias ? const_f(c->m, bias->constant, n_bias == 1 ? 0 : o) : 0;
    for (int64_t i = 0; i < in_group && !isnan(sum); i++) {
      double v = x->fixed ? x->fixed[o / out_group * in_group + i] - r->x_zero : NAN;
      for (int64_t t = 0; t < r->taps && !isnan(sum); t++) {
        double w = reader_weight(r, o, i, t);
        if (w != 0 && v != 0) sum += r->padded ? NAN : v * w;
      }
    }
    fixed[o] = isnan(sum) ? NAN : elem_round(y->type->dtype, sum);
  }
  fixed_set(c, y, fixed, r->out);
}
