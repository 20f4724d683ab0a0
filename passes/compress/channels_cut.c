// Pass channels: the rewrite. Weights, biases and tables are cut, constants that went are added to biases or as maps,
// then all types shrink.
//
//   %1 = conv %0, @w, @b {pads = [1,1,1,1]}      inputs 2 and 5 are 0.25 and 0, filter 7 is not read
//   => %1 = conv %0', @w', @b'                   w' without inputs 2, 5 and filter 7
//      %2 = add %1, @map                         what input 2 contributed where padding did not replace it
//
// A map behind which a batch norm with constant statistics stands is added after it, scaled, so that the batch norm
// still goes into the weights.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/compress/channels.h"
#include "passes/graph_util.h"

// A map to be added once every op has been cut.
typedef struct DelayedAdd {
  Op *op;  // behind it
  Value *map;
} DelayedAdd;

typedef struct Kept {
  int64_t n;
  int64_t *at;  // old positions
} Kept;

static Kept kept_of(const Channels *c, const ChannelAxis *a, int64_t extent) {
  Kept k = {0, NEW_ARRAY(c->arena, int64_t, extent)};
  for (int64_t i = 0; i < extent; i++)
    if (axis_keeps(c, a, i)) k.at[k.n++] = i;
  return k;
}

static Value *const_cut(Channels *c, const Value *v, int64_t axis, const Kept *kept) {
  const Type *t = v->type;
  int64_t dims[MAX_RANK] = {0}, outer = 1, inner = 1, to = 0;
  for (int64_t i = 0; i < t->rank; i++) {
    dims[i] = i == axis ? kept->n : t->dims[i];
    if (i < axis) outer *= t->dims[i];
    if (i > axis) inner *= t->dims[i];
  }
  const Type *now = type_with_dims(c->m->types, t, t->rank, dims);
  const void *from = const_data(c->m, v->constant);
  void *bytes = arena_alloc(c->m->arena, (size_t)type_bytes(now) + 8);
  for (int64_t o = 0; o < outer; o++)
    for (int64_t k = 0; k < kept->n; k++)
      for (int64_t i = 0; i < inner; i++)
        elem_copy(bytes, to++, from, (o * t->dims[axis] + kept->at[k]) * inner + i, t->dtype);
  return const_borrowed(c->m, now, bytes, v->constant->name);
}

static bool shrinks(const Channels *c, const ChannelAxis *a) {
  for (uint32_t i = 0; i < a->n; i++) {
    const ChannelClass *cls = class_root(c, a->segment[i].cls);
    if (cls->left < cls->n) return true;
  }
  return false;
}

// Constant operands of an op that runs along an axis of the result: those with that extent there are cut.
static void operands_cut(Channels *c, Op *op) {
  const ChannelAxis *y = channel_axis(c, op->out[0]);
  if (y->axis < 0 || !shrinks(c, y)) return;
  const Type *type = op->out[0]->type;
  int64_t extent = type->dims[y->axis];
  Kept kept = kept_of(c, y, extent);
  bool vectors = op->kind == OP_BATCHNORM || op->kind == OP_INSTANCE_NORM || op->kind == OP_QUANTIZE ||
                 op->kind == OP_DEQUANTIZE || op->kind == OP_THRESHOLD || op->kind == OP_REQUANT;
  bool plain = (op_info(op->kind)->traits & TRAIT_ELTWISE) != 0;
  for (uint32_t i = 0; i < op->n_in && (vectors || plain); i++) {
    const Value *v = op_in(op, i);
    if (!value_is_const(v) || v->type->rank == 0) continue;
    int64_t at = vectors ? 0 : y->axis - ((int64_t)type->rank - v->type->rank);
    if (at >= 0 && v->type->dims[at] == extent && extent > 1) op_set_operand(op, i, const_cut(c, v, at, &kept));
  }
}

// ---- contractions

// What outputs lose: sum over constant inputs that went of constant * weight, per output and tap.
static double *contributions(Channels *c, const Reader *r, const ChannelAxis *x, const Kept *out) {
  int64_t in_group = r->in / r->group, out_group = r->out / r->group;
  double *sum = NEW_ARRAY(c->arena, double, out->n * r->taps);
  if (x->axis < 0 || !x->fixed) return sum;
  for (int64_t p = 0; p < r->in; p++) {
    double v = x->fixed[p] - r->x_zero;
    if (isnan(v) || v == 0 || axis_keeps(c, x, p)) continue;
    for (int64_t k = 0; k < out->n; k++) {
      int64_t o = out->at[k];
      if (o / out_group != p / in_group) continue;
      for (int64_t t = 0; t < r->taps; t++) {
        double w = reader_weight(r, o, p % in_group, t);
        if (w != 0) sum[k * r->taps + t] += v * w;
      }
    }
  }
  return sum;
}

static bool any_not_zero(const double *v, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (v[i] != 0) return true;
  return false;
}

static Value *bias_cut(Channels *c, const Reader *r, const Kept *out, const double *sum) {
  Value *bias = op_in(r->op, 2);
  double *v = NEW_ARRAY(c->arena, double, out->n);
  for (int64_t k = 0; k < out->n; k++)
    for (int64_t t = 0; sum && t < r->taps; t++) v[k] += sum[k * r->taps + t];
  bool added = any_not_zero(v, out->n);
  if (bias && bias->type->rank > 0 && bias->type->dims[bias->type->rank - 1] == r->out && r->out > 1)
    bias = const_cut(c, bias, bias->type->rank - 1, out);
  if (!added) return bias;
  const Type *t = type_tensor(c->m->types, r->op->out[0]->type->dtype, 1, &out->n);
  if (bias && type_count(bias->type) > 1) t = bias->type;
  int64_t n = type_count(t), n_bias = bias ? type_count(bias->type) : 0;
  double *now = NEW_ARRAY(c->arena, double, n);
  for (int64_t i = 0; i < n; i++)
    now[i] = v[i % out->n] + (n_bias ? const_f(c->m, bias->constant, n_bias == 1 ? 0 : i) : 0);
  return const_of_doubles(c->m, t, now, bias ? bias->constant->name : NULL);
}

// Inputs that go because they are equal to one that stays: next[p] is the next one behind p of the same list; lists
// begin at what stays. -1: the end.
static int64_t *merged_inputs(Channels *c, const Reader *r, const ChannelAxis *x, int64_t *count) {
  int64_t *next = NEW_ARRAY(c->arena, int64_t, r->in);
  *count = 0;
  for (int64_t p = 0; p < r->in; p++) next[p] = -1;
  for (int64_t p = r->in; x->same && p-- > 0;) {
    int64_t first = same_in_group(r, x, p);
    bool constant = x->fixed && isfinite(x->fixed[p]);
    if (first == p || constant || axis_keeps(c, x, p) || !axis_keeps(c, x, first)) continue;
    next[p] = next[first];
    next[first] = p;
    ++*count;
  }
  return next;
}

typedef struct Cut {
  const Kept *in, *out;
  const double *sum;    // what constants contributed that a carrier takes, or NULL
  const int64_t *next;  // merged_inputs
} Cut;

// One weight of what stays; equal to the old one bit for bit unless others join it.
static void weight_set(Channels *c, const Reader *r, const Cut *cut, void *bytes, int64_t at, const int64_t *which) {
  int64_t k = which[0], in = which[1], tap = which[2], o = cut->out->at[k], in_group = r->in / r->group;
  const ChannelAxis *x = channel_axis(c, op_in(r->op, 0));
  elem_copy(bytes, at, r->weights, o * r->s_out + in % in_group * r->s_in + tap * r->s_tap, r->dtype);
  bool carries = cut->sum && in == reader_carrier(c, r, in / in_group);
  if (!carries && cut->next[in] < 0) return;
  double v = reader_weight(r, o, in % in_group, tap);
  if (carries) v += cut->sum[k * r->taps + tap] / (x->fixed[in] - r->x_zero);
  for (int64_t p = cut->next[in]; p >= 0; p = cut->next[p]) v += reader_weight(r, o, p % in_group, tap);
  elem_set_f(bytes, r->dtype, at, v);
}

static Value *weights_cut(Channels *c, const Reader *r, const Cut *cut) {
  const Value *w = op_in(r->op, 1);
  int64_t in_group = r->in / r->group, out_group = r->out / r->group, dims[MAX_RANK], stride[MAX_RANK], step = 1;
  memcpy(dims, w->type->dims, sizeof dims);
  dims[r->o_dim] = cut->out->n;
  dims[r->i_dim] = 0;
  for (int64_t p = 0; p < cut->in->n; p++) dims[r->i_dim] += cut->in->at[p] / in_group == cut->out->at[0] / out_group;
  const Type *t = type_with_dims(c->m->types, w->type, w->type->rank, dims);
  for (uint32_t i = w->type->rank; i-- > 0; step *= dims[i]) stride[i] = step;
  int64_t tap_step = r->s_tap == 1 ? 1 : dims[r->i_dim] * dims[r->o_dim];
  void *bytes = arena_alloc(c->m->arena, (size_t)type_bytes(t) + 8);
  for (int64_t k = 0; k < cut->out->n; k++) {
    int64_t to = k * stride[r->o_dim];
    for (int64_t p = 0; p < cut->in->n; p++) {
      if (cut->in->at[p] / in_group != cut->out->at[k] / out_group) continue;
      for (int64_t tap = 0; tap < r->taps; tap++)
        weight_set(c, r, cut, bytes, to + tap * tap_step, (int64_t[]){k, cut->in->at[p], tap});
      to += stride[r->i_dim];
    }
  }
  return const_borrowed(c->m, t, bytes, w->constant->name);
}

// Does tap `tap` of the kernel read inside the input, for the result at `at`?
static bool tap_inside(const Op *op, uint32_t first, const int64_t *at, int64_t tap) {
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type;
  uint32_t spatial = x->rank - 2, w_first = first == 1 ? 0 : 2;
  for (uint32_t i = spatial; i-- > 0;) {
    int64_t k = w->dims[w_first + i], in = at[i] * op_ints_at(op, A_CONV_strides, i, 1) +
                                           tap % k * op_ints_at(op, A_CONV_dilations, i, 1) -
                                           op_ints_at(op, A_CONV_pads, i, 0);
    tap /= k;
    if (in < 0 || in >= x->dims[first + i]) return false;
  }
  return true;
}

// What the constants contribute at each place of the result, scaled per output.
static Value *map_of(Channels *c, const Reader *r, const Kept *out, const double *sum, const double *scale) {
  const Type *y = r->op->out[0]->type;
  bool nhwc = op_enum(r->op, A_CONV_layout) == LAYOUT_NHWC;
  uint32_t first = nhwc ? 1 : 2, spatial = y->rank - 2;
  int64_t dims[MAX_RANK] = {1}, places = 1, at[MAX_RANK] = {0};
  for (uint32_t i = 0; i < spatial; i++) places *= dims[first + i] = y->dims[first + i];
  dims[nhwc ? y->rank - 1 : 1] = out->n;
  const Type *t = type_with_dims(c->m->types, y, y->rank, dims);
  double *v = NEW_ARRAY(c->arena, double, places * out->n);
  for (int64_t place = 0; place < places; place++) {
    int64_t rest = place;
    for (uint32_t i = spatial; i-- > 0; rest /= y->dims[first + i]) at[i] = rest % y->dims[first + i];
    for (int64_t tap = 0; tap < r->taps; tap++) {
      if (!tap_inside(r->op, first, at, tap)) continue;
      for (int64_t k = 0; k < out->n; k++)
        v[nhwc ? place * out->n + k : k * places + place] += scale[k] * sum[k * r->taps + tap];
    }
  }
  return const_of_doubles(c->m, t, v, NULL);
}

// The batch norm with constant statistics that alone reads the result: the map goes behind it.
static Op *batchnorm_behind(const Op *op) {
  Op *bn = value_sole_user(op->out[0]);
  int64_t channels = op_enum(op, A_CONV_layout) == LAYOUT_NHWC ? (int64_t)op->out[0]->type->rank - 1 : 1;
  if (!bn || bn->kind != OP_BATCHNORM || op_in(bn, 0) != op->out[0] || op_int(bn, A_BATCHNORM_axis) != channels)
    return NULL;
  for (uint32_t i = 1; i < 5; i++)
    if (!value_is_const(op_in(bn, i))) return NULL;
  return bn;
}

static void map_add(Channels *c, const Reader *r, const Kept *out, const double *sum) {
  Op *bn = batchnorm_behind(r->op);
  double *scale = NEW_ARRAY(c->arena, double, out->n);
  for (int64_t k = 0; k < out->n; k++) {
    int64_t o = out->at[k];
    scale[k] = 1;
    if (bn)
      scale[k] = const_f(c->m, op_in(bn, 1)->constant, o) /
                 sqrt(const_f(c->m, op_in(bn, 4)->constant, o) + op_float(bn, A_BATCHNORM_epsilon));
  }
  DelayedAdd *add = NEW(c->arena, DelayedAdd);
  *add = (DelayedAdd){bn ? bn : r->op, map_of(c, r, out, sum, scale)};
  vec_push(c->arena, &c->adds, add);
}

static Kept all_of(const Channels *c, int64_t n) {
  Kept k = {n, NEW_ARRAY(c->arena, int64_t, n)};
  for (int64_t i = 0; i < n; i++) k.at[i] = i;
  return k;
}

static void reader_note(Channels *c, const Reader *r, const Cut *cut, int64_t before, int64_t merged, bool map) {
  const char *equal = merged ? arena_printf(c->arena, ", %lld of them equal to others", (long long)merged) : "";
  int64_t after = type_count(op_in(r->op, 1)->type);
  note_layer(c->m, r->op, NOTE_REMOVED, "%lld of %lld filters, %lld of %lld inputs%s; %lld -> %lld weights%s",
             (long long)(r->out - cut->out->n), (long long)r->out, (long long)(r->in - cut->in->n), (long long)r->in,
             equal, (long long)before, (long long)after, map ? "; constant inputs became a map of the result" : "");
}

static void reader_cut(Channels *c, const Reader *r) {
  Op *op = r->op;
  const ChannelAxis *x = channel_axis(c, op_in(op, 0)), *y = channel_axis(c, op->out[0]);
  if (!shrinks(c, x) && !shrinks(c, y)) return;
  Kept in = x->axis < 0 ? all_of(c, r->in) : kept_of(c, x, r->in), out = kept_of(c, y, r->out);
  double *sum = contributions(c, r, x, &out);
  bool any = any_not_zero(sum, out.n * r->taps), carried = any && r->padded && !reader_maps(r);
  bool map = any && r->padded && !carried;
  int64_t groups = 0, last = -1, before = type_count(op_in(op, 1)->type);
  for (int64_t k = 0; k < out.n; k++) {
    groups += out.at[k] / (r->out / r->group) != last;
    last = out.at[k] / (r->out / r->group);
  }
  if (map) map_add(c, r, &out, sum);
  Value *bias = bias_cut(c, r, &out, r->padded ? NULL : sum);
  int64_t merged;
  Cut cut = {&in, &out, carried ? sum : NULL, merged_inputs(c, r, x, &merged)};
  Value *weights = weights_cut(c, r, &cut);
  if (bias) {
    op_set_operands(op, 3, (Value *[]){op_in(op, 0), weights, bias});
  } else {
    op_set_operand(op, 1, weights);
  }
  if (r->group > 1) op_set_int(op, A_CONV_group, groups);
  reader_note(c, r, &cut, before, merged, map);
}

static const Type *type_cut(Channels *c, const Value *v) {
  const ChannelAxis *a = channel_axis(c, v);
  int64_t dims[MAX_RANK], n = 0;
  for (uint32_t i = 0; i < a->n; i++) n += class_root(c, a->segment[i].cls)->left * a->segment[i].inner;
  memcpy(dims, v->type->dims, sizeof dims);
  dims[a->axis] = n;
  return type_with_dims(c->m->types, v->type, v->type->rank, dims);
}

void channels_cut(Channels *c) {
  for (uint32_t i = 0; i < c->readers.n; i++) reader_cut(c, &c->readers.at[i]);
  for (Op *op = c->f->first; op; op = op->next) operands_cut(c, op);
  for (Op *op = c->f->first; op; op = op->next)
    for (uint32_t i = 0; i < op->n_out; i++)
      if (channel_axis(c, op->out[i])->axis >= 0) value_set_type(op->out[i], type_cut(c, op->out[i]));
  for (uint32_t i = 0; i < c->adds.n; i++) {
    const DelayedAdd *a = c->adds.at[i];
    Value *y = a->op->out[0];
    Op *add = op_new(c->f, a->op->next, OP_ADD, 2, (Value *[]){y, a->map}, a->op->loc);
    add->out[0]->type = y->type;
    value_replace(y, add->out[0]);
    op_set_operand(add, 0, y);
  }
}
