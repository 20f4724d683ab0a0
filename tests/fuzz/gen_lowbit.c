// Generators of low-bit layers: a contraction of few-level weights, then batch norm, pooling and a quantiser in one of
// the forms exporters write. See gen.h.
//
// Every number is a small integer times a power of two, and an op is only added where all its partial sums fit 24
// bits: float arithmetic is then exact in any order, and a compiler that finds the integers in it must give the same
// bits.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "tests/fuzz/gen.h"

#define EXACT_BITS 24

static Value *scalar(Gen *g, double v) { return const_splat(g->m, type_scalar(g->m->types, DT_F32), v); }

static Value *scalar_of(Gen *g, DType t, int64_t v) { return const_splat_int(g->m, type_scalar(g->m->types, t), v); }

// ---- how many bits numbers take

typedef struct Extent {
  double most, unit;  // largest magnitude; largest power of two all are multiples of
} Extent;

static void extent_add(Extent *e, double v) {
  int exponent;
  if (v == 0) return;
  double m = frexp(fabs(v), &exponent), unit;
  int64_t bits = (int64_t)ldexp(m, 53);
  unit = ldexp((double)(bits & -bits), exponent - 53);
  if (fabs(v) > e->most) e->most = fabs(v);
  if (e->unit == 0 || unit < e->unit) e->unit = unit;
}

static Extent extent_of(Gen *g, const Value *v) {
  Tensor t = gen_tensor(g, v);
  Extent e = {0};
  for (int64_t i = 0, n = type_count(t.type); i < n; i++) extent_add(&e, elem_get_f(t.data, t.type->dtype, i));
  return e;
}

static double extent_bits(Extent e) { return e.unit > 0 ? log2(e.most / e.unit) : 0; }

// Would sums of `n` products be exact?
static bool products_fit(Gen *g, const Value *x, const Value *w, int64_t n) {
  return extent_bits(extent_of(g, x)) + extent_bits(extent_of(g, w)) + log2((double)n + 1) + 2 < EXACT_BITS;
}

// A positive scale: a power of two times 1, 3 or 5.
static double scale_of(Gen *g) {
  static const double odd[] = {1, 1, 1, 1, 3, 5};
  return ldexp(odd[rnd(g) % 6], (int)rnd_in(g, -5, 0));
}

// A quantiser's step, which it divides by.
static double step_of(Gen *g) { return ldexp(1, (int)rnd_in(g, -4, 1)); }

// ---- ops on the newest value

static Value *done(Gen *g, Op *op) { return gen_done(g, op) ? op_out(op, 0) : NULL; }

static Value *unary(Gen *g, OpKind kind, Value *x) {
  if (!x) return NULL;
  Op *op = gen_op(g, kind, 1, &x);
  return done(g, op);
}

static Value *binary(Gen *g, OpKind kind, Value *x, Value *y) {
  if (!x || !y) return NULL;
  return done(g, gen_op(g, kind, 2, (Value *[]){x, y}));
}

static Value *by(Gen *g, OpKind kind, Value *x, double v) { return x ? binary(g, kind, x, scalar(g, v)) : NULL; }

static Value *clip(Gen *g, Value *x, double lo, double hi) {
  if (!x) return NULL;
  return done(g, gen_op(g, OP_CLIP, 3, (Value *[]){x, scalar(g, lo), scalar(g, hi)}));
}

static Value *choose(Gen *g, Value *cond, double yes, double no) {
  if (!cond) return NULL;
  Op *op = gen_op(g, OP_SELECT, 3, (Value *[]){cond, scalar(g, yes), scalar(g, no)});
  gen_result(g, op, DT_F32, cond->type->rank, cond->type->dims);
  return done(g, op);
}

static Value *compare(Gen *g, Value *x, double v) {
  static const OpKind kinds[] = {OP_GREATER, OP_GREATER_EQUAL, OP_LESS, OP_LESS_EQUAL};
  return by(g, kinds[rnd(g) % 4], x, v);
}

static Value *cast(Gen *g, Value *x, DType t) {
  if (!x) return NULL;
  Op *op = gen_op(g, OP_CAST, 1, &x);
  gen_result(g, op, t, x->type->rank, x->type->dims);
  return done(g, op);
}

// ---- quantisers

static Value *quant_sign(Gen *g, Value *x) {
  double a = rnd_p(g, 70) ? 1 : scale_of(g);
  switch (rnd(g) % 5) {
    case 0: return unary(g, OP_SIGN, x);
    case 1: return unary(g, OP_SIGN, by(g, OP_ADD, unary(g, OP_SIGN, x), rnd_p(g, 50) ? 0.5 : -0.25));
    case 2: return choose(g, compare(g, x, 0), a, -a);
    case 3: return by(g, OP_SUB, by(g, OP_MUL, cast(g, compare(g, x, 0), DT_F32), 2), 1);
    default: return by(g, OP_MUL, unary(g, OP_SIGN, x), a);
  }
}

// round(clip(x) * n) / n
static Value *quant_dorefa(Gen *g, Value *x) {
  double n = ldexp(1, (int)rnd_in(g, 0, 3));
  double lo = rnd_p(g, 70) ? 0 : -1;
  Value *q = unary(g, OP_ROUND, by(g, OP_MUL, clip(g, x, lo, 1), n));
  return rnd_p(g, 50) ? by(g, OP_DIV, q, n) : by(g, OP_MUL, q, 1 / n);
}

// Divide, round and limit in either order, multiply.
static Value *quant_chain(Gen *g, Value *x) {
  static const OpKind rounds[] = {OP_ROUND, OP_ROUND, OP_ROUND, OP_FLOOR, OP_CEIL};
  OpKind round = rounds[rnd(g) % 5];
  int64_t bits = rnd_in(g, 1, rnd_p(g, 80) ? 4 : 8);
  bool is_signed = rnd_p(g, 50), first = rnd_p(g, 50);
  double s = step_of(g), lo = is_signed ? -ldexp(1, (int)bits - 1) : 0, hi = lo + ldexp(1, (int)bits) - 1;
  if (rnd_p(g, 30)) x = unary(g, OP_RELU, x);
  Value *q = by(g, OP_DIV, x, s);
  if (first) q = clip(g, q, lo, hi);
  if (rnd_p(g, 20)) q = by(g, OP_ADD, q, 0.5);
  q = unary(g, round, q);
  if (!first) q = clip(g, q, lo, hi);
  return by(g, OP_MUL, q, s);
}

static Value *quant_qdq(Gen *g, Value *x) {
  if (!x) return NULL;
  bool is_signed = rnd_p(g, 50), is_short = rnd_p(g, 30);
  DType t = is_short ? (is_signed ? DT_I16 : DT_U16) : is_signed ? DT_I8 : DT_U8;
  int64_t most = is_short ? 900 : 9;
  Value *in[3] = {x, scalar(g, step_of(g)), scalar_of(g, t, rnd_in(g, is_signed ? -most : 0, most))};
  Op *op = gen_op(g, OP_QUANTIZE, 3, in);
  gen_result(g, op, t, x->type->rank, x->type->dims);
  in[0] = done(g, op);
  if (!in[0]) return NULL;
  op = gen_op(g, OP_DEQUANTIZE, 3, in);
  gen_result(g, op, DT_F32, x->type->rank, x->type->dims);
  return done(g, op);
}

// Uneven levels by comparisons, each over the last.
static Value *quant_steps(Gen *g, Value *x) {
  int64_t n = rnd_in(g, 1, 3);
  double at = -step_of(g), level = rnd_p(g, 50) ? 0 : -scale_of(g);
  if (!x) return NULL;
  Value *y = scalar(g, level);
  for (int64_t i = 0; i < n; i++) {
    at += step_of(g);
    level += rnd_p(g, 50) ? 0.5 : scale_of(g);
    Value *past = by(g, OP_GREATER, x, at);
    if (!past || !y) return NULL;
    Op *op = gen_op(g, OP_SELECT, 3, (Value *[]){past, scalar(g, level), y});
    gen_result(g, op, DT_F32, x->type->rank, x->type->dims);
    y = done(g, op);
  }
  return y;
}

// The sign, and the sign of what is left.
static Value *quant_residual(Gen *g, Value *x) {
  double a = scale_of(g), b = scale_of(g);
  Value *first = by(g, OP_MUL, unary(g, OP_SIGN, x), a);
  Value *second = first ? by(g, OP_MUL, unary(g, OP_SIGN, binary(g, OP_SUB, x, first)), b) : NULL;
  return binary(g, OP_ADD, first, second);
}

static Value *transposed(Gen *g, Value *x, const int64_t *perm) {
  int64_t dims[MAX_RANK];
  if (!x) return NULL;
  for (uint32_t i = 0; i < x->type->rank; i++) dims[i] = x->type->dims[perm[i]];
  Op *op = gen_op(g, OP_TRANSPOSE, 1, &x);
  op_set_ints(op, A_TRANSPOSE_perm, x->type->rank, perm);
  gen_result(g, op, x->type->dtype, x->type->rank, dims);
  return done(g, op);
}

// Ascending thresholds near the values of x, a row per channel of the last axis or one for all.
static Value *threshold_rows(Gen *g, Value *x) {
  int64_t c = x->type->dims[x->type->rank - 1], dims[2] = {rnd_p(g, 80) ? c : 1, rnd_in(g, 1, rnd_p(g, 80) ? 3 : 15)};
  Extent e = extent_of(g, x);
  Tensor t = tensor_new(g->arena, gen_type(g, DT_F32, 2, dims));
  int64_t top = (int64_t)fmin(2 * e.most / fmax(e.unit, 0x1p-20), 400);
  for (int64_t i = 0; i < dims[0]; i++) {
    double at = 0.5 * e.unit * (double)rnd_in(g, -top, top);
    for (int64_t k = 0; k < dims[1]; k++) {
      elem_set_f(t.data, DT_F32, i * dims[1] + k, at);
      at += 0.5 * e.unit * (double)rnd_in(g, 0, top / dims[1] + 1);
    }
  }
  return const_bytes(g->m, t.type, t.data, NULL);
}

// The count of the thresholds reached, its channels last in a transposed copy.
static Value *quant_threshold(Gen *g, Value *x) {
  if (!x || x->type->rank < 2) return NULL;
  uint32_t last = x->type->rank - 1;
  bool swap = last > 1 && rnd_p(g, 85), down = rnd_p(g, 20);
  int64_t perm[MAX_RANK];
  for (uint32_t i = 0; i <= last; i++) perm[i] = i == 1 ? last : i == last ? 1 : i;
  if (swap) x = transposed(g, x, perm);
  if (!x || x->type->dims[last] < 1) return NULL;
  Value *in[3] = {x, threshold_rows(g, x), NULL};
  if (down) in[2] = gen_const(g, gen_type(g, DT_BOOL, 1, &x->type->dims[last]));
  Op *op = gen_op(g, OP_THRESHOLD, down ? 3 : 2, in);
  gen_result(g, op, DT_U8, x->type->rank, x->type->dims);
  Value *q = done(g, op);
  if (swap) q = transposed(g, q, perm);
  q = by(g, OP_MUL, cast(g, q, DT_F32), rnd_p(g, 50) ? 1 : step_of(g));
  return rnd_p(g, 50) ? q : by(g, OP_SUB, q, 1);
}

static Value *quantised(Gen *g, Value *x) {
  static Value *(*const forms[])(Gen *, Value *) = {quant_sign,     quant_sign,  quant_dorefa,
                                                    quant_chain,    quant_chain, quant_steps,
                                                    quant_residual, quant_qdq,   quant_threshold};
  Value *q = forms[rnd(g) % 9](g, x);
  if (q && rnd_p(g, 6)) q = binary(g, OP_ADD, x, binary(g, OP_SUB, q, x));
  return q;
}

// ---- weights

// Up to 256 numbers on no grid of 8 bits.
static uint32_t book_of(Gen *g, double *book) {
  uint32_t n = (uint32_t)rnd_in(g, 3, INT64_C(1) << rnd_in(g, 2, 8));
  for (uint32_t i = 0; i < n; i++) book[i] = (double)(2 * rnd_in(g, -700, 700) + 1) / 64;
  return n;
}

// Channel c of element i: i / inner % channels.
static Value *weights(Gen *g, uint32_t rank, const int64_t *dims, int64_t channels, int64_t inner) {
  const Type *t = gen_type(g, DT_F32, rank, dims);
  int64_t n = type_count(t), form = rnd_in(g, 0, 6), top = INT64_C(1) << rnd_in(g, 1, 3);
  bool shared = rnd_p(g, 40);
  double *a = NEW_ARRAY(g->arena, double, channels + 1), *b = NEW_ARRAY(g->arena, double, channels + 1);
  for (int64_t c = 0; c < channels; c++) {
    a[c] = shared && c > 0 ? a[0] : scale_of(g);
    b[c] = rnd_p(g, 50) ? 0.5 * a[c] : scale_of(g);
    if (rnd_p(g, 3)) a[c] = b[c] = 0;
  }
  double book[256];
  uint32_t n_book = form == 6 ? book_of(g, book) : 0;
  Tensor w = tensor_new(g->arena, t);
  for (int64_t i = 0; i < n; i++) {
    int64_t c = i / inner % channels;
    double one = rnd_p(g, 50) ? 1 : -1, v;
    switch (form) {
      case 0:
      case 1: v = one * a[c]; break;
      case 2: v = rnd_p(g, 40) ? 0 : one * a[c]; break;
      case 3: v = (double)rnd_in(g, -top, top - 1) * a[c]; break;
      case 4: v = one * a[c] + (rnd_p(g, 50) ? b[c] : -b[c]); break;
      case 5: v = (double)rnd_in(g, -127, 127) * a[c] / 64; break;
      default: v = book[rnd(g) % n_book]; break;
    }
    elem_set_f(w.data, DT_F32, i, v);
  }
  return const_bytes(g->m, t, w.data, NULL);
}

// The same as quantised constants with a scale per channel.
static Value *stored_weights(Gen *g, uint32_t rank, const int64_t *dims, int64_t channels, uint32_t axis) {
  static const DType types[] = {DT_I8, DT_I4, DT_I2, DT_U8, DT_U4};
  DType t = types[rnd(g) % 5];
  Tensor w = tensor_new(g->arena, gen_type(g, t, rank, dims));
  for (int64_t i = 0, n = type_count(w.type); i < n; i++)
    elem_set_i(w.data, t, i, rnd_in(g, dtype_min(t), dtype_max(t)));
  int64_t count = rnd_p(g, 50) ? channels : 1;
  Tensor s = tensor_new(g->arena, gen_type(g, DT_F32, 1, &count)), z = tensor_new(g->arena, gen_type(g, t, 1, &count));
  for (int64_t i = 0; i < count; i++) {
    elem_set_f(s.data, DT_F32, i, step_of(g));
    elem_set_i(z.data, t, i, dtype_min(t) < 0 ? 0 : (dtype_max(t) + 1) / 2);
  }
  Value *in[3] = {const_bytes(g->m, w.type, w.data, NULL), const_bytes(g->m, s.type, s.data, NULL),
                  const_bytes(g->m, z.type, z.data, NULL)};
  if (count == 1) {
    in[1] = scalar(g, elem_get_f(s.data, DT_F32, 0));
    in[2] = scalar_of(g, t, elem_get_i(z.data, t, 0));
  }
  Op *op = gen_op(g, OP_DEQUANTIZE, 3, in);
  op_set_int(op, A_DEQUANTIZE_axis, axis);
  gen_result(g, op, DT_F32, rank, dims);
  return done(g, op);
}

static Value *bias(Gen *g, const Value *x, const Value *w, int64_t n) {
  Extent ex = extent_of(g, x), ew = extent_of(g, w);
  double unit = ex.unit * ew.unit;
  Tensor b = tensor_new(g->arena, gen_type(g, DT_F32, 1, &n));
  for (int64_t i = 0; i < n; i++) elem_set_f(b.data, DT_F32, i, unit * (double)rnd_in(g, -20, 20));
  return const_bytes(g->m, b.type, b.data, NULL);
}

// ---- contractions

static Value *conv(Gen *g, Value *x) {
  const Type *t = x->type;
  uint32_t s = t->rank - 2;
  int64_t c = t->dims[1], group = 1, dims[5], pads[6] = {0}, strides[3], dilations[3], taps = 1;
  if (c < 1) return NULL;
  if (rnd_p(g, 12)) group = c;
  if (rnd_p(g, 12))
    for (group = rnd_in(g, 1, c); c % group;) group--;
  int64_t per = group == 1 ? rnd_in(g, 1, 40) : rnd_in(g, 1, 3), out = group * per;
  dims[0] = out;
  dims[1] = c / group;
  for (uint32_t i = 0; i < s; i++) {
    dims[2 + i] = rnd_p(g, 25) ? 1 : rnd_in(g, 1, 3);
    strides[i] = rnd_p(g, 80) ? 1 : 2;
    dilations[i] = rnd_p(g, 90) ? 1 : 2;
    if (rnd_p(g, 60)) pads[i] = pads[s + i] = (dims[2 + i] - 1) * dilations[i] / 2;
    if (rnd_p(g, 10)) pads[i]++;
    taps *= dims[2 + i];
  }
  int64_t inner = dims[1] * taps;
  Value *w = rnd_p(g, 80) ? weights(g, t->rank, dims, out, inner) : stored_weights(g, t->rank, dims, out, 0);
  if (!w || !products_fit(g, x, w, inner)) return NULL;
  Value *in[3] = {x, w, NULL};
  bool has_bias = rnd_p(g, 30);
  if (has_bias) in[2] = bias(g, x, w, out);
  Op *op = gen_op(g, OP_CONV, has_bias ? 3 : 2, in);
  op_set_ints(op, A_CONV_strides, s, strides);
  op_set_ints(op, A_CONV_pads, 2 * s, pads);
  op_set_ints(op, A_CONV_dilations, s, dilations);
  op_set_int(op, A_CONV_group, group);
  return done(g, op);
}

static Value *conv_transpose(Gen *g, Value *x) {
  const Type *t = x->type;
  uint32_t s = t->rank - 2;
  int64_t c = t->dims[1], group = 1, strides[3], pads[6] = {0}, taps = 1;
  if (c < 1) return NULL;
  if (rnd_p(g, 30))
    for (group = rnd_in(g, 1, c); c % group;) group--;
  int64_t per = rnd_in(g, 1, group == 1 ? 12 : 4), dims[5] = {c, per};
  for (uint32_t i = 0; i < s; i++) {
    dims[2 + i] = rnd_in(g, 1, 4);
    strides[i] = rnd_in(g, 1, 2);
    if (dims[2 + i] > 2 && rnd_p(g, 50)) pads[i] = pads[s + i] = 1;
    taps *= dims[2 + i];
  }
  Value *w = rnd_p(g, 50) ? weights(g, t->rank, dims, per, taps) : stored_weights(g, t->rank, dims, per, 1);
  if (!w || !products_fit(g, x, w, c / group * taps)) return NULL;
  Value *in[3] = {x, w, NULL};
  bool has_bias = rnd_p(g, 30);
  if (has_bias) in[2] = bias(g, x, w, per * group);
  Op *op = gen_op(g, OP_CONV_TRANSPOSE, has_bias ? 3 : 2, in);
  op_set_ints(op, A_CONV_TRANSPOSE_strides, s, strides);
  op_set_ints(op, A_CONV_TRANSPOSE_pads, 2 * s, pads);
  op_set_int(op, A_CONV_TRANSPOSE_group, group);
  return done(g, op);
}

static Value *dense(Gen *g, Value *x) {
  const Type *t = x->type;
  int64_t k = t->dims[t->rank - 1], n = rnd_in(g, 1, 70), dims[2] = {k, n};
  bool trans = rnd_p(g, 50);
  if (k < 1) return NULL;
  if (trans) dims[0] = n, dims[1] = k;
  Value *w = rnd_p(g, 80) ? weights(g, 2, dims, n, trans ? k : 1) : stored_weights(g, 2, dims, n, trans ? 0 : 1);
  if (!w || !products_fit(g, x, w, k)) return NULL;
  Value *in[3] = {x, w, NULL};
  bool has_bias = rnd_p(g, 40);
  if (has_bias) in[2] = bias(g, x, w, n);
  Op *op = gen_op(g, OP_MATMUL, has_bias ? 3 : 2, in);
  op_set_int(op, A_MATMUL_trans_b, trans);
  return done(g, op);
}

// ---- between contraction and quantiser

static Value *channel_values(Gen *g, int64_t n, const double *of, size_t count, double unit) {
  Tensor t = tensor_new(g->arena, gen_type(g, DT_F32, 1, &n));
  for (int64_t i = 0; i < n; i++)
    elem_set_f(t.data, DT_F32, i, of ? of[rnd(g) % count] : unit * (double)rnd_in(g, -15, 15));
  return const_bytes(g->m, t.type, t.data, NULL);
}

static Value *batchnorm(Gen *g, Value *x) {
  static const double scales[] = {1, 1, 2, 0.5, 3, 1.5, -1, -0.5, -3, 0}, variances[] = {1, 1, 4, 0.25, 16};
  uint32_t axis = x->type->rank > 2 ? 1 : x->type->rank - 1;
  int64_t c = x->type->dims[axis];
  Extent e = extent_of(g, x);
  if (extent_bits(e) > EXACT_BITS - 9) return x;
  Value *in[5] = {x, channel_values(g, c, scales, 10, 0), channel_values(g, c, NULL, 0, e.unit),
                  channel_values(g, c, NULL, 0, e.unit), channel_values(g, c, variances, 5, 0)};
  Op *op = gen_op(g, OP_BATCHNORM, 5, in);
  op_set_int(op, A_BATCHNORM_axis, axis);
  op_set_float(op, A_BATCHNORM_epsilon, 0);
  return done(g, op);
}

static Value *pool(Gen *g, Value *x) {
  uint32_t s = x->type->rank - 2;
  int64_t kernel[3], strides[3], pads[6] = {0};
  bool average = rnd_p(g, 25);
  for (uint32_t i = 0; i < s; i++) {
    kernel[i] = average ? 2 : rnd_in(g, 1, 3);
    strides[i] = rnd_p(g, 70) ? 2 : 1;
    if (!average && kernel[i] == 3 && rnd_p(g, 40)) pads[i] = pads[s + i] = 1;
  }
  if (average && extent_bits(extent_of(g, x)) > EXACT_BITS - 6) return x;
  Op *op = gen_op(g, average ? OP_AVGPOOL : OP_MAXPOOL, 1, &x);
  op_set_ints(op, average ? (int)A_AVGPOOL_kernel : (int)A_MAXPOOL_kernel, s, kernel);
  op_set_ints(op, average ? (int)A_AVGPOOL_strides : (int)A_MAXPOOL_strides, s, strides);
  if (!average) op_set_ints(op, A_MAXPOOL_pads, 2 * s, pads);
  Value *y = done(g, op);
  return y ? y : x;
}

// Another value of the same type, such as the one a layer earlier.
static Value *residual(Gen *g, Value *x) {
  for (uint32_t i = g->pool.n; i-- > 0;) {
    Value *y = g->pool.at[i].v;
    if (y == x || y->type != x->type) continue;
    Extent e = extent_of(g, x), f = extent_of(g, y);
    Extent both = {e.most + f.most, e.unit > 0 && (f.unit == 0 || e.unit < f.unit) ? e.unit : f.unit};
    if (extent_bits(both) > EXACT_BITS - 4) return x;
    return binary(g, OP_ADD, x, y);
  }
  return x;
}

static Value *moved(Gen *g, Value *x) {
  const Type *t = x->type;
  int64_t dims[MAX_RANK], pads[2 * MAX_RANK] = {0};
  memcpy(dims, t->dims, sizeof dims);
  switch (rnd(g) % 4) {
    case 0: {  // flatten
      int64_t flat[2] = {t->dims[0], type_count(t) / (t->dims[0] ? t->dims[0] : 1)};
      Op *op = gen_op(g, OP_RESHAPE, 1, &x);
      gen_result(g, op, DT_F32, 2, flat);
      return done(g, op);
    }
    case 1: {  // pad with 0, 1 or -1
      if (t->rank < 3) return x;
      for (uint32_t i = 2; i < t->rank; i++) pads[i] = pads[t->rank + i] = 1;
      Op *op = gen_op(g, OP_PAD, 1, &x);
      op_set_ints(op, A_PAD_pads, 2 * t->rank, pads);
      op_set_float(op, A_PAD_value, (double)rnd_in(g, -1, 1));
      return done(g, op);
    }
    case 2: {
      Op *op = gen_op(g, OP_CONCAT, 2, (Value *[]){x, x});
      op_set_int(op, A_CONCAT_axis, rnd_in(g, 1, t->rank - 1));
      return done(g, op);
    }
    default: return x;
  }
}

static bool make_layer(Gen *g) {
  Value *x = gen_pick(g, "f", 2, 5);
  if (!x) {
    int64_t dims[4] = {rnd_in(g, 1, 2), rnd_in(g, 1, 9), rnd_in(g, 1, 9), rnd_in(g, 1, 9)};
    x = gen_arg(g, gen_type(g, DT_F32, rnd_p(g, 60) ? 4 : (uint32_t)rnd_in(g, 2, 3), dims));
  }
  if (rnd_p(g, 40) && x->kind == VALUE_ARG) x = quantised(g, x);
  if (!x) return false;
  Value *y = x->type->rank == 2 ? dense(g, x)
             : rnd_p(g, 85)     ? conv(g, x)
             : rnd_p(g, 60)     ? conv_transpose(g, x)
                                : dense(g, x);
  if (!y) return false;
  bool early = rnd_p(g, 50);
  if (early && y->type->rank > 2 && rnd_p(g, 40)) y = pool(g, y);
  if (rnd_p(g, 60)) y = batchnorm(g, y);
  if (y && rnd_p(g, 15)) y = residual(g, y);
  if (y && !early && y->type->rank > 2 && rnd_p(g, 40)) y = pool(g, y);
  if (y) y = quantised(g, y);
  if (y && rnd_p(g, 20)) y = moved(g, y);
  return y != NULL;
}

const Generator gen_lowbit[] = {{"layer", G_LOWBIT, make_layer}, {NULL, 0, NULL}};
