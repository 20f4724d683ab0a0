// Convolutions of floats with weights on a grid of bytes, as three integer convolutions. See slices.h.
//
//   %1 = conv %x, @w                                      @w: f32 of -0.3, 0 and 0.3
//   => %u: the power of two that holds the largest |x| of an image 63.5 to 127 times
//      %v = %x / %u;             %q0 = floor(%v)
//      %r = 256 * (%v - %q0);    %q1 = floor(%r)
//      %q2 = round(256 * (%r - %q1))
//      %1 = ((conv %q2, @q) / 256^2 + (conv %q1, @q) / 256 + (conv %q0, @q)) * %u * 0.3
//
// The integer sums are exact and all steps are powers of two: where x are integers of at most 22 bits times a power of
// two and sums of the file's floats are exact, so are these, and a sum that is zero stays zero. Else the result differs
// by what the slices leave of x: 2^-22 of the largest of its image. A NaN or an infinity makes every result of its
// image not finite. Only where every weight is f32(scale * q) bit for bit and where prices say that it takes less time:
// a dot product of bytes does four times the work of a multiply-add. Not with --fp=strict. The idea is the strategy
// stream's.
#include "passes/recover/slices.h"

#include <math.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/price.h"
#include "passes/recover/weights.h"

enum { SLICES = 3, FEWEST = 1024, ZERO = 128, TOP = 127, NEXT = 256 };

#define PER_X 10.0  // cycles per vector of x for the largest and the slices
#define PER_Y 4.0   // and of the result, for the parts that go through memory
#define GAIN 0.95

typedef struct Sliced {
  PassCtx *ctx;
  Module *m;
  Op *op;
  WeightGrid g;
  const Type *x, *image;  // of the input; of a number per image
} Sliced;

static bool read_conv(Sliced *l) {
  const Op *op = l->op;
  const Value *x = op_in(op, 0), *w = op_in(op, 1), *y = op_out(op, 0);
  if (op->kind != OP_CONV || op_enum(op, A_CONV_layout) != LAYOUT_NHWC || op_post(op) != NULL) return false;
  if (x->type->dtype != DT_F32 || y->type->dtype != DT_F32 || value_is_const(x)) return false;
  if (!value_is_const(w) || w->type->dtype != DT_F32 || type_count(w->type) < FEWEST) return false;
  if (!type_is_static(x->type) || !type_is_static(y->type) || type_count(y->type) == 0) return false;
  if (op_in(op, 2) != NULL && !value_is_const(op_in(op, 2))) return false;
  int64_t dims[MAX_RANK], channels = w->type->dims[w->type->rank - 1];
  for (uint32_t i = 0; i < x->type->rank; i++) dims[i] = i == 0 ? x->type->dims[0] : 1;
  l->x = x->type;
  l->image = type_tensor(l->m->types, DT_F32, x->type->rank, dims);
  l->g = (WeightGrid){.n = type_count(w->type), .channels = channels, .inner = 1};
  return true;
}

static bool weights_come_back(Sliced *l) {
  const Value *w = op_in(l->op, 1);
  WeightGrid *g = &l->g;
  if (!weights_fit(l->m, l->ctx->arena, w, 0, g) || g->dorefa || g->most > TOP) return false;
  const AnyF32 *v = const_data(l->m, w->constant);
  for (int64_t i = 0; i < g->n; i++)
    if ((float)(g->scale[i % g->channels] * (double)g->q[i]) != v[i]) return false;
  return true;
}

// ---- the graph

static Value *emit(Sliced *l, OpKind kind, Value *a, Value *b, const Type *t) {
  return graph_emit(l->op, kind, b != NULL ? 2 : 1, (Value *[]){a, b}, t, l->op->loc);
}

static Value *number(Sliced *l, double v) { return const_splat(l->m, type_scalar(l->m->types, DT_F32), v); }

// Can a value not be below zero, as the op before it says?
static bool is_positive(const Value *v) {
  while (v->kind == VALUE_RESULT && (v->op->kind == OP_MAXPOOL || v->op->kind == OP_RESHAPE ||
                                     v->op->kind == OP_SLICE || v->op->kind == OP_TRANSPOSE))
    v = op_in(v->op, 0);
  return value_def(v, OP_RELU) != NULL || value_def(v, OP_ABS) != NULL;
}

// A power of two per image: the largest |x| is 63.5 to 127 of it. Not so small that its inverse is not a number.
static Value *unit_of_images(Sliced *l) {
  int64_t axes[MAX_RANK];
  Value *x = op_in(l->op, 0);
  const Type *word = type_with_dtype(l->m->types, l->image, DT_I32);
  for (uint32_t i = 1; i < l->x->rank; i++) axes[i - 1] = i;
  if (!is_positive(x)) x = emit(l, OP_ABS, x, NULL, l->x);
  Value *m = emit(l, OP_REDUCE, x, NULL, l->image);
  op_set_int(m->op, A_REDUCE_op, REDUCE_MAX);
  op_set_ints(m->op, A_REDUCE_axes, l->x->rank - 1, axes);
  op_set_int(m->op, A_REDUCE_keepdims, true);
  m = emit(l, OP_MAX, m, number(l, 0x1p-100), l->image);
  m = emit(l, OP_BITCAST, emit(l, OP_MUL, m, number(l, 2.0 / TOP), l->image), NULL, word);
  m = emit(l, OP_AND, m, const_splat_int(l->m, type_scalar(l->m->types, DT_I32), 0x7f800000), word);
  return emit(l, OP_BITCAST, m, NULL, l->image);
}

// Slice number i. Each is made from x anew, which takes less time than keeping what the one before leaves. The last
// one is rounded, and saturates.
static Value *slice(Sliced *l, Value *inverse, int i) {
  Value *v = emit(l, OP_MUL, op_in(l->op, 0), inverse, l->x), *q = emit(l, OP_FLOOR, v, NULL, l->x);
  for (int k = 0; k < i; k++) {
    v = emit(l, OP_MUL, emit(l, OP_SUB, v, q, l->x), number(l, NEXT), l->x);
    q = emit(l, k + 2 < SLICES ? OP_FLOOR : OP_ROUND, v, NULL, l->x);
  }
  if (i == 0) q = emit(l, OP_ADD, q, number(l, ZERO), l->x);
  return emit(l, OP_CAST, q, NULL, type_with_dtype(l->m->types, l->x, DT_U8));
}

static Value *byte_weights(Sliced *l) {
  const Value *w = op_in(l->op, 1);
  double *q = NEW_ARRAY(l->ctx->arena, double, l->g.n);
  for (int64_t i = 0; i < l->g.n; i++) q[i] = (double)l->g.q[i];
  return const_of_doubles(l->m, type_with_dtype(l->m->types, w->type, DT_I8), q, w->constant->name);
}

static Value *conv_bytes(Sliced *l, Value *x, Value *w, int64_t zero) {
  Value *y = emit(l, OP_CONV, x, w, type_with_dtype(l->m->types, op_out(l->op, 0)->type, DT_I32));
  op_copy_attrs(y->op, l->op);
  op_set_int(y->op, A_CONV_x_zero, zero);
  return y;
}

// The sums of all slices in units of the first one, small ones first.
static Value *sum_slices(Sliced *l, Value *unit) {
  const Type *y = op_out(l->op, 0)->type;
  Value *w = byte_weights(l), *part[SLICES], *inverse = emit(l, OP_DIV, number(l, 1), unit, l->image);
  for (int i = 0; i < SLICES; i++) part[i] = conv_bytes(l, slice(l, inverse, i), w, i == 0 ? ZERO : 0);
  Value *sum = NULL;
  for (int i = SLICES; i-- > 0;) {
    Value *f = emit(l, OP_CAST, part[i], NULL, y);
    sum = sum == NULL ? f : emit(l, OP_ADD, f, emit(l, OP_MUL, sum, number(l, 1.0 / NEXT), y), y);
  }
  return sum;
}

static Value *channel_scales(Sliced *l) {
  const WeightGrid *g = &l->g;
  bool one = true;
  for (int64_t c = 1; c < g->channels; c++) one = one && g->scale[c] == g->scale[0];
  double *by = NEW_ARRAY(l->ctx->arena, double, g->channels);
  for (int64_t c = 0; c < g->channels; c++) by[c] = g->scale[c];
  if (one) return number(l, by[0]);
  return const_of_doubles(l->m, type_tensor(l->m->types, DT_F32, 1, &g->channels), by, NULL);
}

static Value *emit_layer(Sliced *l) {
  const Type *y = op_out(l->op, 0)->type;
  Value *unit = unit_of_images(l), *sum = sum_slices(l, unit);
  sum = emit(l, OP_MUL, emit(l, OP_MUL, sum, unit, y), channel_scales(l), y);
  return op_in(l->op, 2) != NULL ? emit(l, OP_ADD, sum, op_in(l->op, 2), y) : sum;
}

// ---- the price

static double price_of(const Op *op, const Target *t) {
  double best = INFINITY;
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    Price p;
    if (!s->applies(op, t)) continue;
    s->price(op, t, &p);
    best = fmin(best, price_total(&p));
  }
  return best;
}

static bool pays(Sliced *l) {
  const Target *t = l->ctx->target;
  double lanes = target_lanes(t, 32), floats = price_of(l->op, t);
  double x = (double)type_count(l->x) / lanes * PER_X, y = (double)type_count(op_out(l->op, 0)->type) / lanes * PER_Y;
  Value *in = graph_emit(l->op, OP_CAST, 1, (Value *[]){op_in(l->op, 0)}, type_with_dtype(l->m->types, l->x, DT_U8),
                         l->op->loc);
  Op *one = conv_bytes(l, in, byte_weights(l), ZERO)->op;
  double sliced = SLICES * price_of(one, t) + x + y + 5 * t->call_cycles;
  op_unlink(one);
  op_unlink(in->op);
  return sliced < GAIN * floats;
}

bool slices_conv(PassCtx *ctx, Op *op) {
  Sliced l = {.ctx = ctx, .m = ctx->m, .op = op};
  if (!read_conv(&l) || !weights_come_back(&l) || !pays(&l)) return false;
  note_layer(ctx->m, op, NOTE_RECOVERED,
             "inputs as %d slices of bytes, to within 2^-22 of the largest of an image, weights -%lld..%lld x %s: as "
             "many exact integer contractions",
             SLICES, (long long)l.g.most, (long long)l.g.most, l.g.one_scale ? "a scale" : "a scale per channel");
  Value *y = emit_layer(&l);
  y->name = op_out(op, 0)->name;
  value_replace(op_out(op, 0), y);
  op_unlink(op);
  return true;
}
