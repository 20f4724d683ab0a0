// log, log1p and everything built on them: asinh, acosh, atanh, pow.
//
// log: x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)], by subtracting the bits of sqrt(1/2) and shifting. f32
// lanes: f - f^2/2 + f^3 P(f). f64 lanes: with s = f / (2 + f), log(1 + f) = 2 atanh(s) in the arrangement of FDLIBM's
// e_log. P and L are minimax (Remez, coefficients rounded one after the other).
#include <math.h>

#include "passes/kernel/math.h"

typedef struct Parts {
  KExpr *f;  // leaf
  KExpr *k;  // leaf, float
} Parts;

static Parts split(Math *m, KExpr *x) {
  const Float *f = math_float(x->type);
  bool single = f->t == DT_F32;
  int64_t root = single ? INT64_C(0x3f3504f3) : INT64_C(0x3fe6a09e667f3bcd);
  KExpr *tiny = math_share(m, x_cmpc(m, KOP_LT, x, single ? 0x1p-126 : 0x1p-1022));
  KExpr *scaled = x_select(m, tiny, x_mulc(m, x, single ? 0x1p32 : 0x1p64), x);
  KExpr *adjust = x_select(m, tiny, math_f(m, f->t, single ? -32 : -64), math_f(m, f->t, 0));
  KExpr *i = math_share(m, x_view(m, f->bits, scaled));
  KExpr *k = math_share(m, x_shr(m, x_iaddc(m, i, -root), f->mantissa));
  KExpr *one_f = x_view(m, f->t, math_op(m, KOP_SUB, f->bits, i, x_shl(m, k, f->mantissa), NULL));
  return (Parts){math_share(m, x_addc(m, one_f, -1)), math_share(m, x_add(m, x_cast(m, f->t, k), adjust))};
}

// Relative error 2^-28.6.
static KExpr *log_f32(Math *m, Parts p) {
  static const double c[] = {0x1.555548p-2,  -0x1.00000cp-2, 0x1.99a43cp-3,  -0x1.5557ap-3, 0x1.233932p-3,
                             -0x1.fca6eep-4, 0x1.e76202p-4,  -0x1.dcb31ap-4, 0x1.12c286p-4};
  const Float *f = math_float(DT_F32);
  KExpr *h = math_share(m, x_mul(m, p.f, p.f));
  KExpr *r = x_fma(m, x_mul(m, h, p.f), x_poly(m, p.f, 9, c), x_mulc(m, p.k, f->ln2_lo));
  r = x_add(m, x_fma(m, h, math_f(m, DT_F32, -0.5), r), p.f);
  return x_fma(m, p.k, math_f(m, DT_F32, f->ln2_hi), r);
}

// log(1 + f) + k ln2 + more; relative error 2^-59 before rounding.
static KExpr *log_f64(Math *m, Parts p, KExpr *more) {
  static const double c[] = {0x1.5555555555593p-1, 0x1.999999997f976p-2, 0x1.2492494235a2p-2, 0x1.c71c51cc41e0bp-3,
                             0x1.74664c6b87dc5p-3, 0x1.39a04737cc7e1p-3, 0x1.2f14d8cbbfa66p-3};
  const Float *f = math_float(DT_F64);
  KExpr *s = math_share(m, x_div(m, p.f, x_addc(m, p.f, 2)));
  KExpr *z = math_share(m, x_mul(m, s, s));
  KExpr *half = math_share(m, x_mul(m, x_mulc(m, p.f, 0.5), p.f));
  KExpr *r = x_fma(m, z, x_poly(m, z, 7, c), half);
  KExpr *low = x_mulc(m, p.k, f->ln2_lo);
  if (more) low = x_add(m, low, more);
  KExpr *rest = x_sub(m, x_sub(m, half, x_fma(m, s, r, low)), p.f);
  return x_sub(m, x_mulc(m, p.k, f->ln2_hi), rest);
}

KExpr *math_log(Math *m, KExpr *x) {
  Parts p = split(m, x);
  KExpr *r = x->type == DT_F32 ? log_f32(m, p) : log_f64(m, p, NULL);
  KExpr *negative = x_select(m, x_cmpc(m, KOP_LT, x, 0), math_f(m, x->type, NAN), x);
  KExpr *special = x_select(m, x_cmpc(m, KOP_EQ, x, 0), math_f(m, x->type, -INFINITY), negative);
  KExpr *normal = x_and(m, x_cmpc(m, KOP_GT, x, 0), x_cmpc(m, KOP_LT, x, INFINITY));
  return x_select(m, normal, r, special);
}

KExpr *math_log_op(Math *m, KExpr *const *a) { return math_log(m, a[0]); }

typedef struct Pair {
  KExpr *hi, *lo;  // leaves; hi + lo is the value
} Pair;

// a + b and its rounding error (Knuth).
static Pair two_sum(Math *m, KExpr *a, KExpr *b) {
  KExpr *s = math_share(m, x_add(m, a, b)), *bb = math_share(m, x_sub(m, s, a));
  KExpr *e = x_add(m, x_sub(m, a, x_sub(m, s, bb)), x_sub(m, b, bb));
  return (Pair){s, math_share(m, e)};
}

// With u = 1 + x rounded and c its error: log(u) + c / u.
KExpr *math_log1p(Math *m, KExpr *x) {
  Pair u = two_sum(m, math_f(m, DT_F64, 1), x);
  KExpr *more = x_div(m, u.lo, u.hi);
  KExpr *r = log_f64(m, split(m, u.hi), more);
  return x_select(m, x_cmpc(m, KOP_EQ, x, INFINITY), x, r);
}

#define BIG 0x1p500  // squares still fit, and 1 is long negligible

// log1p(t) where t is `small` up to BIG, log(2 x) above.
static KExpr *log1p_or_big(Math *m, KExpr *x, KExpr *small) {
  KExpr *big = math_share(m, x_cmpc(m, KOP_GT, x, BIG));
  KExpr *l = math_log1p(m, math_share(m, x_select(m, big, x, small)));
  return x_add(m, l, x_select(m, big, math_f(m, DT_F64, M_LN2), math_f(m, DT_F64, 0)));
}

// log1p(a + a^2 / (1 + sqrt(a^2 + 1))), a = |x|
KExpr *math_asinh(Math *m, KExpr *const *arg) {
  KExpr *a = math_share(m, x_abs(m, arg[0])), *aa = math_share(m, x_mul(m, a, a));
  KExpr *root = x_addc(m, x_sqrt(m, x_addc(m, aa, 1)), 1);
  return x_copysign(m, log1p_or_big(m, a, x_add(m, a, x_div(m, aa, root))), arg[0]);
}

// log1p(t + sqrt(2 t + t^2)), t = x - 1
KExpr *math_acosh(Math *m, KExpr *const *arg) {
  KExpr *x = arg[0], *t = math_share(m, x_addc(m, x, -1));
  KExpr *root = x_sqrt(m, x_fma(m, t, t, x_add(m, t, t)));
  KExpr *r = log1p_or_big(m, x, x_add(m, t, root));
  return x_select(m, x_cmpc(m, KOP_LT, x, 1), math_f(m, DT_F64, NAN), r);
}

// log1p(2 a / (1 - a)) / 2, a = |x|
KExpr *math_atanh(Math *m, KExpr *const *arg) {
  KExpr *a = math_share(m, x_abs(m, arg[0]));
  KExpr *t = x_div(m, x_add(m, a, a), x_sub(m, math_f(m, DT_F64, 1), a));
  KExpr *r = x_mulc(m, math_log1p(m, math_share(m, t)), 0.5);
  KExpr *known = x_select(m, x_cmpc(m, KOP_GT, a, 1), math_f(m, DT_F64, NAN), r);
  return x_copysign(m, known, arg[0]);
}

// log(x) of a positive finite x as hi + lo, relative error about 2^-65: 2 s + (2/3) s^3 in double-double,
// s^5 T(s^2) in double.
static Pair log_pair(Math *m, KExpr *x) {
  static const double t[] = {0x1.9999999999995p-2, 0x1.2492492493193p-2, 0x1.c71c71c557102p-3, 0x1.745d18460532p-3,
                             0x1.3b135d7ed4fc1p-3, 0x1.11217cf815e71p-3, 0x1.de1409f7253e1p-4, 0x1.ec14e4259de12p-4};
  const Float *f = math_float(DT_F64);
  Parts p = split(m, x);
  Pair d = two_sum(m, math_f(m, DT_F64, 2), p.f);
  KExpr *sh = math_share(m, x_div(m, p.f, d.hi)), *minus_sh = math_share(m, x_neg(m, sh));
  KExpr *sl = x_div(m, x_fma(m, minus_sh, d.lo, x_residual(m, minus_sh, d.hi, p.f)), d.hi);
  sl = math_share(m, sl);
  KExpr *two_sh = math_share(m, x_add(m, sh, sh));
  KExpr *zh = math_share(m, x_mul(m, sh, sh));
  KExpr *zl = math_share(m, x_fma(m, two_sh, sl, x_residual(m, sh, sh, x_neg(m, zh))));
  KExpr *wh = math_share(m, x_mul(m, sh, zh));
  KExpr *wl = x_fma(m, sl, zh, x_fma(m, sh, zl, x_residual(m, sh, zh, x_neg(m, wh))));
  KExpr *ch = math_f(m, DT_F64, 0x1.5555555555555p-1), *cl = math_f(m, DT_F64, 0x1.5555555555555p-55);
  KExpr *vh = math_share(m, x_mul(m, wh, ch));
  KExpr *vl = x_fma(m, wl, ch, x_fma(m, wh, cl, x_residual(m, wh, ch, x_neg(m, vh))));
  KExpr *tail = x_fma(m, x_mul(m, wh, zh), x_poly(m, zh, 8, t), vl);
  Pair a = two_sum(m, math_share(m, x_mulc(m, p.k, f->ln2_hi)), two_sh);
  Pair b = two_sum(m, a.hi, vh);
  KExpr *lo = x_fma(m, p.k, math_f(m, DT_F64, f->ln2_lo), tail);
  lo = x_add(m, x_add(m, a.lo, b.lo), x_add(m, lo, x_add(m, sl, sl)));
  lo = math_share(m, lo);
  KExpr *hi = math_share(m, x_add(m, b.hi, lo));
  return (Pair){hi, math_share(m, x_sub(m, lo, x_sub(m, hi, b.hi)))};
}

// exp(y log(x)) for x >= 0 in f64 lanes. `precise`: the logarithm in double-double, for an f64 result.
static KExpr *pow_positive(Math *m, KExpr *x, KExpr *y, bool precise) {
  if (!precise) return math_exp(m, math_share(m, x_mul(m, y, math_log(m, x))));
  Pair l = log_pair(m, x);
  KExpr *hi = x_select(m, x_cmpc(m, KOP_EQ, x, 0), math_f(m, DT_F64, -INFINITY), l.hi);
  hi = math_share(m, x_select(m, x_cmpc(m, KOP_LT, x, INFINITY), hi, x));
  KExpr *ph = math_share(m, x_mul(m, y, hi));
  KExpr *pl = math_share(m, x_fma(m, y, l.lo, x_residual(m, y, hi, x_neg(m, ph))));
  KExpr *finite = x_cmpc(m, KOP_LT, x_abs(m, ph), 1e4);
  pl = math_share(m, x_select(m, finite, pl, math_f(m, DT_F64, 0)));
  ExpParts e = math_exp_parts(m, ph, pl);
  return x_mul(m, x_mul(m, e.p, e.s), e.t);
}

// Signs and the special cases of IEEE 754 pow around pow_positive.
static KExpr *pow_general(Math *m, KExpr *x, KExpr *y, bool precise) {
  KExpr *ax = math_share(m, x_abs(m, x)), *one = math_f(m, DT_F64, 1);
  KExpr *r = math_share(m, pow_positive(m, ax, y, precise));
  KExpr *half = math_share(m, x_mulc(m, y, 0.5));
  KExpr *integer = math_share(m, x_cmp(m, KOP_EQ, math_op(m, KOP_FLOOR, DT_F64, y, NULL, NULL), y));
  KExpr *even = x_cmp(m, KOP_EQ, math_op(m, KOP_FLOOR, DT_F64, half, NULL, NULL), half);
  KExpr *odd = x_and(m, integer, math_op(m, KOP_NOT, DT_BOOL, even, NULL, NULL));
  r = math_share(m, x_select(m, odd, x_copysign(m, r, x), r));
  KExpr *below = x_and(m, x_cmpc(m, KOP_LT, x, 0), x_cmpc(m, KOP_GT, x, -INFINITY));
  KExpr *no_root = x_and(m, below, math_op(m, KOP_NOT, DT_BOOL, integer, NULL, NULL));
  r = x_select(m, no_root, math_f(m, DT_F64, NAN), r);
  KExpr *unit = x_and(m, x_cmpc(m, KOP_EQ, ax, 1), x_cmpc(m, KOP_EQ, x_abs(m, y), INFINITY));
  KExpr *is_one = x_or(m, unit, x_or(m, x_cmpc(m, KOP_EQ, y, 0), x_cmpc(m, KOP_EQ, x, 1)));
  return x_select(m, is_one, one, r);
}

KExpr *math_pow(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *y = a[1];
  DType t = x->type;
  if (y->kind == KX_CONST) {
    if (y->f == 1) return x;
    if (y->f == 2) return x_mul(m, x, x);
    if (y->f == -1) return x_div(m, math_f(m, t, 1), x);
    if (y->f == 3) return x_mul(m, x_mul(m, x, x), x);
  }
  KExpr *wide_x = math_share(m, x_cast(m, DT_F64, x)), *wide_y = math_share(m, x_cast(m, DT_F64, y));
  return x_cast(m, t, pow_general(m, wide_x, wide_y, t == DT_F64));
}
