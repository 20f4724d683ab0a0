// Activations and other ops that need no approximation, on float lanes (math.h) and on integer lanes; floating mod.
#include "passes/kernel/math.h"

#include <math.h>

#include "passes/kernel/math_int.h"

static bool is_const(const KExpr *x) { return x->kind == KX_CONST; }

static KExpr *zero_like(Math *m, const KExpr *x) { return math_f(m, x->type, 0); }

KExpr *math_sign(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *rest = x_fma(m, x, zero_like(m, x), zero_like(m, x));  // +0, or NaN
  KExpr *low = x_select(m, x_cmpc(m, KOP_LT, x, 0), math_f(m, x->type, -1), rest);
  return x_select(m, x_cmpc(m, KOP_GT, x, 0), math_f(m, x->type, 1), low);
}

KExpr *math_recip(Math *m, KExpr *const *a) { return x_div(m, math_f(m, a[0]->type, 1), a[0]); }

// |x| is bounded first so that infinity gives 1.
KExpr *math_softsign(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *u = math_share(m, x_abs(m, x));
  u = math_share(m, x_select(m, x_cmpc(m, KOP_GT, u, 0x1p60), math_f(m, x->type, 0x1p60), u));
  return x_copysign(m, x_div(m, u, x_addc(m, u, 1)), x);
}

// NaN fails the comparison and stays; -0 becomes +0.
KExpr *math_relu(Math *m, KExpr *const *a) { return x_select(m, x_cmpc(m, KOP_LE, a[0], 0), zero_like(m, a[0]), a[0]); }

KExpr *math_prelu(Math *m, KExpr *const *a) {
  return x_select(m, x_cmpc(m, KOP_LT, a[0], 0), x_mul(m, a[0], a[1]), a[0]);
}

// A constant bound is never NaN, so one comparison does; it includes equality at 0, where -0 must become +0.
static KExpr *clamp_low(Math *m, KExpr *x, KExpr *lo) {
  if (!is_const(lo) || isnan(lo->f)) return math_op(m, KOP_MAX, x->type, x, lo, NULL);
  return x_select(m, x_cmp(m, lo->f == 0 ? KOP_LE : KOP_LT, x, lo), lo, x);
}

static KExpr *clamp_high(Math *m, KExpr *x, KExpr *hi) {
  if (!is_const(hi) || isnan(hi->f)) return math_op(m, KOP_MIN, x->type, x, hi, NULL);
  return x_select(m, x_cmp(m, hi->f == 0 ? KOP_GE : KOP_GT, x, hi), hi, x);
}

KExpr *math_clip(Math *m, KExpr *const *a) {
  KExpr *x = a[0];
  if (!is_const(a[1]) || a[1]->f != -INFINITY) x = math_share(m, clamp_low(m, x, a[1]));
  return is_const(a[2]) && a[2]->f == INFINITY ? x : clamp_high(m, x, a[2]);
}

KExpr *math_hard_sigmoid(Math *m, KExpr *const *a) {
  KExpr *y = math_share(m, x_fma(m, a[1], a[0], a[2]));
  y = math_share(m, clamp_high(m, y, math_f(m, y->type, 1)));
  return clamp_low(m, y, zero_like(m, y));
}

// x min(max(x + 3, 0), 6) / 6: x + 3 is exact where it cancels.
KExpr *math_hard_swish(Math *m, KExpr *const *a) {
  DType t = a[0]->type;
  KExpr *x = math_share(m, clamp_low(m, a[0], math_f(m, t, -3)));
  KExpr *y = math_share(m, clamp_high(m, math_share(m, x_addc(m, x, 3)), math_f(m, t, 6)));
  return x_mul(m, x, x_mulc(m, y, 1.0 / 6));
}

KExpr *math_thresholded_relu(Math *m, KExpr *const *a) {
  return x_select(m, x_cmp(m, KOP_LE, a[0], a[1]), zero_like(m, a[0]), a[0]);
}

KExpr *math_shrink(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *low = is_const(a[1]) ? math_f(m, x->type, -a[1]->f) : x_neg(m, a[1]);
  KExpr *above = x_select(m, x_cmp(m, KOP_GT, x, a[1]), x_sub(m, x, a[2]), zero_like(m, x));
  return x_select(m, x_cmp(m, KOP_LT, x, low), x_add(m, x, a[2]), above);
}

KExpr *math_isnan(Math *m, KExpr *const *a) {
  return math_op(m, KOP_NOT, DT_BOOL, x_cmp(m, KOP_EQ, a[0], a[0]), NULL, NULL);
}

KExpr *math_isinf(Math *m, KExpr *const *a) {
  KExpr *none = zero_like(m, a[0]);
  KExpr *minus = x_and(m, x_cmpc(m, KOP_EQ, a[0], -INFINITY),
                       math_op(m, KOP_NOT, DT_BOOL, x_cmp(m, KOP_EQ, a[1], none), NULL, NULL));
  KExpr *plus = x_and(m, x_cmpc(m, KOP_EQ, a[0], INFINITY),
                      math_op(m, KOP_NOT, DT_BOOL, x_cmp(m, KOP_EQ, a[2], none), NULL, NULL));
  return x_or(m, minus, plus);
}

// |x| reduced by |y| 2^48, |y| 2^(48 * (i-1)) ... |y|. Each quotient has at most 48 bits, so its truncation is at most
// one too large and every remainder is a number of the type: the result is exact.
static KExpr *fmod_wide(Math *m, KExpr *x, KExpr *y, int steps) {
  enum { MAX_STEPS = 46, BITS = 48 };
  KExpr *part[MAX_STEPS];
  part[0] = math_share(m, x_abs(m, y));
  for (int i = 1; i < steps; i++) part[i] = math_share(m, x_mulc(m, part[i - 1], ldexp(1, BITS)));
  KExpr *r = math_share(m, x_abs(m, x));
  for (int i = steps - 1; i >= 0; i--) {
    KExpr *q = math_share(m, x_div(m, r, part[i]));
    // Rounding toward zero: floor of a quotient that is not negative.
    KExpr *whole = math_op(m, KOP_FLOOR, q->type, q, NULL, NULL);
    KExpr *rest = math_share(m, x_residual(m, x_neg(m, whole), part[i], r));
    KExpr *fixed = x_select(m, x_cmpc(m, KOP_LT, rest, 0), x_add(m, rest, part[i]), rest);
    r = math_share(m, x_select(m, x_cmp(m, KOP_LT, r, part[i]), r, fixed));
  }
  return x_copysign(m, r, x);
}

// f32 in f64 lanes: exponents of f32 differ by 277 at most, those of f64 by 2098.
KExpr *math_fmod(Math *m, KExpr *const *a) {
  DType t = a[0]->type;
  KExpr *x = math_share(m, x_cast(m, DT_F64, a[0])), *y = math_share(m, x_cast(m, DT_F64, a[1]));
  return x_cast(m, t, fmod_wide(m, x, y, t == DT_F64 ? 44 : 6));
}

// fmod moved to the sign of the divisor.
KExpr *math_mod(Math *m, KExpr *const *a) {
  KExpr *y = a[1], *r = math_share(m, math_fmod(m, a));
  KExpr *other = math_op(m, KOP_XOR, DT_BOOL, x_cmpc(m, KOP_LT, r, 0), x_cmpc(m, KOP_LT, y, 0), NULL);
  KExpr *moved = x_select(m, other, x_add(m, r, y), r);
  KExpr *zero = x_copysign(m, zero_like(m, y), y);
  return x_select(m, x_cmpc(m, KOP_EQ, r, 0), zero, moved);
}

// ---- integer lanes

static KExpr *int_cmp(Math *m, KOp op, KExpr *x, int64_t c) { return x_cmp(m, op, x, math_i(m, x->type, c)); }

static KExpr *int_sign(Math *m, KExpr *x) {
  KExpr *low = x_select(m, int_cmp(m, KOP_LT, x, 0), math_i(m, x->type, -1), math_i(m, x->type, 0));
  return x_select(m, int_cmp(m, KOP_GT, x, 0), math_i(m, x->type, 1), low);
}

// One squaring per bit of the exponent; the bases of negative exponents are 1 and -1 or give 0.
static KExpr *int_pow(Math *m, KExpr *x, KExpr *e) {
  DType t = x->type;
  uint32_t bits = dtype_info(t)->bits;
  KExpr *r = math_i(m, t, 1), *base = x;
  for (uint32_t i = 0; i < bits; i++) {
    KExpr *bit = x_and(m, i ? x_shr(m, e, i) : e, math_i(m, t, 1));
    r = math_share(m, x_select(m, int_cmp(m, KOP_EQ, bit, 1), x_mul(m, r, base), r));
    if (i + 1 < bits) base = math_share(m, x_mul(m, base, base));
  }
  if (dtype_info(t)->cls == DC_UINT) return r;
  KExpr *unit = x_or(m, int_cmp(m, KOP_EQ, x, 1), int_cmp(m, KOP_EQ, x, -1));
  KExpr *lost = x_and(m, int_cmp(m, KOP_LT, e, 0), math_op(m, KOP_NOT, DT_BOOL, unit, NULL, NULL));
  return x_select(m, lost, math_i(m, t, 0), r);
}

KExpr *math_int(Math *m, KOp op, KExpr *const *a) {
  KExpr *x = a[0], *zero = math_i(m, x->type, 0);
  switch (op) {
    case KOP_SIGN: return int_sign(m, x);
    case KOP_RECIP: return x_div(m, math_i(m, x->type, 1), x);
    case KOP_RELU: return math_op(m, KOP_MAX, x->type, x, zero, NULL);
    case KOP_LEAKY_RELU:
    case KOP_PRELU: return x_select(m, int_cmp(m, KOP_LT, x, 0), x_mul(m, x, a[1]), x);
    case KOP_THRESHOLDED_RELU: return x_select(m, x_cmp(m, KOP_GT, x, a[1]), x, zero);
    case KOP_CLIP: return math_op(m, KOP_MIN, x->type, math_op(m, KOP_MAX, x->type, x, a[1], NULL), a[2], NULL);
    case KOP_POW: return int_pow(m, x, a[1]);
    case KOP_ISNAN:
    case KOP_ISINF: return math_i(m, DT_BOOL, 0);
    default: return NULL;
  }
}
