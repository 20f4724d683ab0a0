// Importers of QONNX: quantisers that read and give floats. Each becomes the chain of plain ops that its reference
// evaluates, step for step in the type of x, so results agree in every bit, ties and NaN included:
//
//   Quant  y = (round(clip(x / scale + zero, lo, hi)) - zero) * scale
//
// A zero point of 0 and factors of 1 leave no op behind. Bit widths must be constants; they may be fractions, then the
// bounds are. Recovering integers from these chains is the business of the passes, which meet the same chains in
// plain exports.
#include <math.h>
#include <string.h>

#include "frontend/onnx_node.h"
#include "frontend/onnx_node_qonnx.h"

#define BITS_MAX 64  // of a quantiser

// ---- roundings

typedef enum Rounding { R_HALF_EVEN, R_CEIL, R_FLOOR, R_UP, R_DOWN, R_HALF_UP, R_HALF_DOWN, R_COUNT } Rounding;

static bool same_text(const char *a, const char *upper) {
  for (; *a && *upper; a++, upper++) {
    char ch = *a >= 'a' && *a <= 'z' ? (char)(*a - 'a' + 'A') : *a;
    if (ch != *upper) return false;
  }
  return *a == *upper;
}

static bool rounding_read(NodeCtx *c, const char *missing, Rounding *r) {
  static const struct {
    const char *name;
    Rounding mode;
  } names[] = {{"ROUND", R_HALF_EVEN}, {"HALF_EVEN", R_HALF_EVEN}, {"CEIL", R_CEIL},       {"FLOOR", R_FLOOR},
               {"UP", R_UP},           {"DOWN", R_DOWN},           {"HALF_UP", R_HALF_UP}, {"HALF_DOWN", R_HALF_DOWN}};
  const char *text = attr_str(c, "rounding_mode", missing);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (same_text(text, names[i].name)) {
      *r = names[i].mode;
      return true;
    }
  return node_refuse(c, "rounding_mode '%s', expected ROUND, HALF_EVEN, CEIL, FLOOR, UP, DOWN, HALF_UP or HALF_DOWN",
                     str_escape(c->scratch, text, 32));
}

// sign(x) * how(|x| + shift)
static Value *symmetric(NodeCtx *c, Value *x, OpKind how, double shift) {
  Value *size = node_emit1(c, OP_ABS, x);
  if (size && shift != 0) size = node_emit2(c, OP_ADD, size, node_scalar(c, x->type->dtype, shift));
  return node_emit2(c, OP_MUL, node_emit1(c, OP_SIGN, x), node_emit1(c, how, size));
}

static Value *rounded(NodeCtx *c, Value *x, Rounding mode) {
  if (!x) return NULL;
  switch (mode) {
    case R_CEIL: return node_emit1(c, OP_CEIL, x);
    case R_FLOOR: return node_emit1(c, OP_FLOOR, x);
    case R_UP: return symmetric(c, x, OP_CEIL, 0);
    case R_DOWN: return symmetric(c, x, OP_FLOOR, 0);
    case R_HALF_UP: return symmetric(c, x, OP_FLOOR, 0.5);
    case R_HALF_DOWN: return symmetric(c, x, OP_CEIL, -0.5);
    default: return node_emit1(c, OP_ROUND, x);
  }
}

// ---- affine steps that vanish for their neutral element

static bool is_splat(NodeCtx *c, const Value *v, double k) {
  double all;
  return value_is_const(v) && const_is_splat(c->m, v->constant, &all) && all == k;
}

static Value *affine_step(NodeCtx *c, OpKind kind, Value *x, Value *k) {
  if (!x || !k) return NULL;
  bool scaling = kind == OP_MUL || kind == OP_DIV;
  if (is_splat(c, k, scaling ? 1 : 0) && k->type->rank <= x->type->rank && type_count(k->type) == 1) return x;
  return node_emit2(c, kind, x, k);
}

// The inputs of a quantiser as floats of the type of x; false when one is missing.
static bool float_inputs(NodeCtx *c, uint32_t n, Value **v) {
  DType t = c->in[0]->type->dtype;
  if (!dtype_is_float(t)) return node_refuse(c, "the input is %s, expected a float type", dtype_info(t)->name);
  for (uint32_t i = 0; i < n; i++)
    if (!(v[i] = node_cast(c, c->in[i], t))) return false;
  return true;
}

// ---- bounds from bit widths

typedef struct Bounds {
  Value *lo, *hi;
  bool bipolar;  // signed with one bit: the sign, 0 counts as positive
} Bounds;

static Value *floats_like(NodeCtx *c, const Type *t, const double *v, DType dtype) {
  int64_t n = type_count(t);
  if (n == 1) return node_scalar(c, dtype, v[0]);
  return node_cast(c, const_bytes(c->m, type_tensor(c->m->types, DT_F64, t->rank, t->dims), v, NULL), dtype);
}

static bool bounds_of(NodeCtx *c, uint32_t input, bool is_signed, bool narrow, Bounds *b) {
  const Value *bits = c->in[input];
  DType t = c->in[0]->type->dtype;
  if (!value_is_const(bits)) return node_unsupported(c, "a bit width that is not constant");
  int64_t n = type_count(bits->type), ones = 0;
  if (n < 1 || n > 1 << 20) return node_refuse(c, "%lld bit widths", (long long)n);
  double *lo = NEW_ARRAY(c->scratch, double, n), *hi = NEW_ARRAY(c->scratch, double, n);
  for (int64_t i = 0; i < n; i++) {
    double k = const_f(c->m, bits->constant, i);
    if (!(k >= 1 && k <= BITS_MAX)) return node_refuse(c, "a bit width of %g, expected 1 to %d", k, BITS_MAX);
    ones += is_signed && k == 1;
    lo[i] = is_signed ? -exp2(k - 1) + narrow : 0;
    hi[i] = is_signed ? exp2(k - 1) - 1 : exp2(k) - 1 - narrow;
  }
  if (ones && ones != n) return node_unsupported(c, "signed bit widths of 1 beside others");
  b->bipolar = ones != 0;
  b->lo = floats_like(c, bits->type, lo, t);
  b->hi = floats_like(c, bits->type, hi, t);
  return b->lo && b->hi;
}

// x >= 0 ? 1 : -1; NaN gives -1.
static Value *bipolar(NodeCtx *c, Value *x) {
  if (!x) return NULL;
  DType t = x->type->dtype;
  Value *positive = node_emit2(c, OP_GREATER_EQUAL, x, node_scalar(c, t, 0));
  return node_emit3(c, OP_SELECT, positive, node_scalar(c, t, 1), node_scalar(c, t, -1));
}

static Value *levels(NodeCtx *c, Value *x, const Bounds *b, Rounding mode) {
  if (b->bipolar) return bipolar(c, x);
  return x ? rounded(c, node_emit3(c, OP_CLIP, x, b->lo, b->hi), mode) : NULL;
}

// x, scale, zero point, bit width
bool import_quant(NodeCtx *c) {
  Bounds b;
  Rounding mode;
  Value *in[3] = {0};
  bool is_signed = attr_int(c, "signed", 1) != 0, narrow = attr_int(c, "narrow", 0) != 0;
  if (!rounding_read(c, "ROUND", &mode) || !float_inputs(c, 3, in) || !bounds_of(c, 3, is_signed, narrow, &b))
    return false;
  Value *x = affine_step(c, OP_ADD, affine_step(c, OP_DIV, in[0], in[1]), in[2]);
  Value *y = affine_step(c, OP_SUB, levels(c, x, &b, mode), in[2]);
  return node_result(c, affine_step(c, OP_MUL, y, in[1]));
}

bool import_bipolar_quant(NodeCtx *c) {
  Value *in[2] = {0};
  if (!float_inputs(c, 2, in)) return false;
  return node_result(c, affine_step(c, OP_MUL, bipolar(c, in[0]), in[1]));
}

// ---- Trunc

// Version 1: x, scale, zero point, bits in, bits out. The result keeps the scale of the input.
static bool trunc_by_bits(NodeCtx *c, Value **in, Rounding mode) {
  DType t = in[0]->type->dtype;
  for (uint32_t i = 3; i < 5; i++)
    if (!value_is_const(c->in[i]) || type_count(c->in[i]->type) != 1)
      return node_unsupported(c, "bit widths that are not one constant number");
  double from = const_f(c->m, c->in[3]->constant, 0), to = const_f(c->m, c->in[4]->constant, 0);
  if (!(from >= 1 && from <= BITS_MAX && to >= 1 && to <= BITS_MAX))
    return node_refuse(c, "bit widths %g and %g, expected 1 to %d", from, to, BITS_MAX);
  Value *x = affine_step(c, OP_ADD, affine_step(c, OP_DIV, in[0], in[1]), in[2]);
  Value *y = affine_step(c, OP_DIV, rounded(c, x, R_HALF_EVEN), node_scalar(c, t, exp2(from - to)));
  y = affine_step(c, OP_SUB, rounded(c, y, mode), in[2]);
  return node_result(c, affine_step(c, OP_MUL, y, in[1]));
}

// 2 to the rounded log2(out / scale), both constants.
static Value *trunc_factor(NodeCtx *c, Value *out, Value *scale) {
  if (!value_is_const(out) || !value_is_const(scale)) {
    node_unsupported(c, "scales that are not constant");
    return NULL;
  }
  Value *ratio = node_emit2(c, OP_DIV, out, scale);
  if (!ratio) return NULL;
  QCC_CHECK(value_is_const(ratio), "quotient of constants");
  int64_t n = type_count(ratio->type);
  double *factor = NEW_ARRAY(c->scratch, double, n + 1);
  for (int64_t i = 0; i < n; i++) {
    double r = const_f(c->m, ratio->constant, i);
    if (!(r > 0) || isinf(r)) {
      node_refuse(c, "scales with the ratio %g", r);
      return NULL;
    }
    factor[i] = exp2(rint(log2(r)));
  }
  return floats_like(c, ratio->type, factor, ratio->type->dtype);
}

// Version 2: x, scale, zero point, bits in, scale out, bits out.
static bool trunc_by_scale(NodeCtx *c, Value **in, Rounding mode) {
  Bounds b;
  bool is_signed = attr_int(c, "signed", 1) != 0, narrow = attr_int(c, "narrow", 0) != 0;
  Value *out = node_cast(c, c->in[4], in[0]->type->dtype);
  if (!out || !bounds_of(c, 5, is_signed, narrow, &b)) return false;
  b.bipolar = false;
  Value *factor = trunc_factor(c, out, in[1]);
  if (!factor) return false;
  Value *x = affine_step(c, OP_ADD, affine_step(c, OP_DIV, in[0], in[1]), in[2]);
  x = affine_step(c, OP_DIV, rounded(c, x, R_HALF_EVEN), factor);
  Value *zero = affine_step(c, OP_DIV, in[2], factor);
  return node_result(c, affine_step(c, OP_MUL, affine_step(c, OP_SUB, levels(c, x, &b, mode), zero), out));
}

bool import_trunc(NodeCtx *c) {
  Rounding mode;
  Value *in[3] = {0};
  if (!rounding_read(c, "FLOOR", &mode) || !float_inputs(c, 3, in)) return false;
  return c->n_in == 5 ? trunc_by_bits(c, in, mode) : trunc_by_scale(c, in, mode);
}

// ---- FloatQuant: x, scale, exponent bits, mantissa bits, exponent bias, largest value

typedef struct Minifloat {
  double e_min, e_max, mantissa, max;
} Minifloat;

static bool minifloat_read(NodeCtx *c, Minifloat *f) {
  double v[6];
  for (uint32_t i = 2; i < 6; i++) {
    if (!value_is_const(c->in[i]) || type_count(c->in[i]->type) != 1)
      return node_unsupported(c, "parameters that are not one constant number");
    v[i] = const_f(c->m, c->in[i]->constant, 0);
  }
  if (!(v[2] >= 1 && v[2] <= 8 && v[3] >= 0 && v[3] <= 23 && fabs(v[4]) <= 512 && v[5] >= 0))
    return node_refuse(c, "%g exponent bits, %g mantissa bits, bias %g, largest value %g", v[2], v[3], v[4], v[5]);
  if (v[2] != floor(v[2]) || v[3] != floor(v[3]) || v[4] != floor(v[4]))
    return node_unsupported(c, "widths and a bias that are not integers");
  f->e_min = 1 - v[4];
  f->e_max = exp2(v[2]) - 1 - v[4];
  f->mantissa = v[3];
  f->max = fmin((2 - exp2(-v[3])) * exp2(f->e_max), v[5]);
  return true;
}

// The spacing of the format at |x|: a table over the exponents, chosen by counting the powers of two reached.
static Value *minifloat_step(NodeCtx *c, const Minifloat *f, Value *x) {
  DType t = x->type->dtype;
  int64_t n = (int64_t)(f->e_max - f->e_min), bounds_dims[2] = {1, n}, steps_dims[1] = {n + 1};
  double *powers = NEW_ARRAY(c->scratch, double, n + 1), *steps = NEW_ARRAY(c->scratch, double, n + 1);
  for (int64_t i = 0; i <= n; i++) {
    powers[i] = exp2(f->e_min + 1 + (double)i);
    steps[i] = exp2(f->e_min + (double)i - f->mantissa);
  }
  if (n == 0) return node_scalar(c, t, steps[0]);
  Value *bounds = node_cast(c, const_bytes(c->m, type_tensor(c->m->types, DT_F64, 2, bounds_dims), powers, NULL), t);
  Value *table = node_cast(c, const_bytes(c->m, type_tensor(c->m->types, DT_F64, 1, steps_dims), steps, NULL), t);
  Value *size = node_emit1(c, OP_ABS, x);
  if (!bounds || !table || !size) return NULL;
  int64_t one = 1;
  if (x->type->rank == 0) size = node_reshape(c, size, 1, &one);
  Value *level = size ? node_given(c, node_op(c, OP_THRESHOLD, 2, (Value *[]){size, bounds}), DT_U8, size->type->rank,
                                   size->type->dims)
                      : NULL;
  if (!level) return NULL;
  Value *step =
      node_given(c, node_op(c, OP_LOOKUP, 2, (Value *[]){table, level}), t, size->type->rank, size->type->dims);
  return x->type->rank == 0 ? node_reshape(c, step, 0, NULL) : step;
}

// Saturates whatever has_inf, has_nan and saturation say: infinities become the largest value.
bool import_float_quant(NodeCtx *c) {
  Minifloat f = {0};
  Rounding mode;
  Value *in[2] = {0};
  attr_ignore(c, "has_inf");
  attr_ignore(c, "has_nan");
  attr_ignore(c, "has_subnormal");
  if (attr_int(c, "saturation", 1) == 0) return node_unsupported(c, "saturation = 0");
  if (!rounding_read(c, "ROUND", &mode) || !float_inputs(c, 2, in) || !minifloat_read(c, &f)) return false;
  DType t = in[0]->type->dtype;
  Value *x = affine_step(c, OP_DIV, in[0], in[1]);
  Value *step = x ? minifloat_step(c, &f, x) : NULL;
  if (!step) return false;
  Value *y = node_emit2(c, OP_MUL, rounded(c, node_emit2(c, OP_DIV, x, step), mode), step);
  y = y ? node_emit3(c, OP_CLIP, y, node_scalar(c, t, -f.max), node_scalar(c, t, f.max)) : NULL;
  return node_result(c, affine_step(c, OP_MUL, y, in[1]));
}

Value *qonnx_scaled(NodeCtx *c, Value *x, double scale, double bias) {
  if (!x) return NULL;
  x = affine_step(c, OP_MUL, x, node_scalar(c, x->type->dtype, scale));
  return x ? affine_step(c, OP_ADD, x, node_scalar(c, x->type->dtype, bias)) : NULL;
}
