// erf, gelu and its tanh approximation.
//
// The far side of the normal distribution is a Phi(-a) = exp(-a^2/2) G(a), where G is smooth and slow: a polynomial in
// t = (a - 4) / (a + 4) (the substitution of Shepherd and Laframboise, Math. Comp. 36, 1981). a^2 is carried with its
// rounding error, because exp magnifies it by a^2. Polynomials are minimax (Remez).
#include "passes/kernel/math.h"

// G for 1 <= a <= 14.6 (relative error 2^-25.1) and 1 <= a <= 39 (2^-54.3); a a leaf.
static KExpr *tail_factor(Math *m, KExpr *a) {
  static const double g32[] = {0x1.82b4bcp-2, 0x1.2dda08p-4, -0x1.c41d46p-4, 0x1.9adbbap-4, -0x1.02515ap-4,
                               0x1.b11bdp-6,  -0x1.675d9p-8, -0x1.f43d9p-11, 0x1.9ecb4p-11};
  static const double g64[] = {0x1.82b4bb8c94dcep-2,   0x1.2dda040d62d0cp-4,   -0x1.c41d6bcaf850ap-4,
                               0x1.9adc525a9033fp-4,   -0x1.024df8efd3988p-4,  0x1.b0ffe01dacc1ep-6,
                               -0x1.691976f9fdcfp-8,   -0x1.e4abd3bc49bd5p-11, 0x1.ce76f6a3c52p-11,
                               -0x1.99ff120225566p-15, -0x1.e8a4e9bfb8f27p-14, 0x1.16d0dd3ae79cap-16,
                               0x1.2cd96091ed47ep-16,  -0x1.5d8b25ddfcd3ep-19, -0x1.b81e576726ebp-19,
                               0x1.b65f6d8c797d1p-23,  0x1.5f667887fb31dp-21,  0x1.68590452986a3p-25,
                               -0x1.12af44c91da15p-23, -0x1.22b66968d5578p-26, 0x1.48bc2492e6299p-26};
  KExpr *t = math_share(m, x_div(m, x_addc(m, a, -4), x_addc(m, a, 4)));
  return a->type == DT_F32 ? x_poly(m, t, 9, g32) : x_poly(m, t, 21, g64);
}

// exp(scale * a^2) in parts, scale = -1/2 or -1.
static ExpParts exp_square(Math *m, KExpr *a, double scale) {
  KExpr *h = math_share(m, x_mul(m, a, a));
  KExpr *l = math_share(m, x_mulc(m, x_residual(m, a, a, x_neg(m, h)), scale));
  return math_exp_parts_negative(m, math_share(m, x_mulc(m, h, scale)), l);
}

static KExpr *abs_at_most(Math *m, KExpr *x, double hi) {
  KExpr *a = math_share(m, x_abs(m, x));
  return math_share(m, x_select(m, x_cmpc(m, KOP_GT, a, hi), math_f(m, x->type, hi), a));
}

// Up to 0.92: x + x P(x^2). Above: 1 - exp(-x^2) H(t), t = (|x| - 2) / (|x| + 2); at 4 the result has rounded to 1.
static KExpr *erf_f32(Math *m, KExpr *x) {
  static const double p[] = {0x1.06eba8p-3, -0x1.812742p-2,  0x1.ce2e26p-4, -0x1.b81412p-6,
                             0x1.550b4ap-8, -0x1.accf22p-11, 0x1.65a3f8p-14};
  static const double h[] = {0x1.058672p-2, -0x1.b57042p-2, 0x1.eeea6ep-3,  -0x1.4371cap-4,
                             0x1.e914fep-9, 0x1.bd0d84p-8,  -0x1.aa0012p-11};
  KExpr *a = abs_at_most(m, x, 4), *z = math_share(m, x_mul(m, a, a));
  KExpr *small = x_fma(m, a, x_poly(m, z, 7, p), a);
  KExpr *t = math_share(m, x_div(m, x_addc(m, a, -2), x_addc(m, a, 2)));
  ExpParts e = exp_square(m, a, -1);
  KExpr *tail = x_mul(m, x_mul(m, x_mul(m, x_poly(m, t, 7, h), e.p), e.s), e.t);
  KExpr *big = x_sub(m, math_f(m, x->type, 1), tail);
  return x_copysign(m, x_select(m, x_cmpc(m, KOP_LT, a, 0.921875), small, big), x);
}

// Up to 1: x + x P(x^2). Above: 1 - 2 exp(-x^2) G(b) / b, b = sqrt 2 |x|.
static KExpr *erf_f64(Math *m, KExpr *x) {
  static const double p[] = {0x1.06eba8214db69p-3,   -0x1.812746b037a25p-2,  0x1.ce2f21a0458e8p-4,
                             -0x1.b82ce3135567cp-6,  0x1.565bcd2c85c66p-8,   -0x1.c02db93b54da3p-11,
                             0x1.f9a3ba79eb3adp-14,  -0x1.f4dd0b636c48dp-17, 0x1.ba6a92aed0bbep-20,
                             -0x1.639ef2be8b525p-23, 0x1.1374bf637464dp-26,  -0x1.c6f03d24bb0bep-30,
                             0x1.3edab26be2a4fp-33};
  KExpr *a = abs_at_most(m, x, 6.5), *z = math_share(m, x_mul(m, a, a));
  KExpr *small = x_fma(m, a, x_poly(m, z, 13, p), a);
  KExpr *b = math_share(m, x_mulc(m, a, 0x1.6a09e667f3bcdp+0));
  ExpParts e = exp_square(m, a, -1);
  KExpr *tail = x_mul(m, x_mul(m, x_mul(m, x_div(m, tail_factor(m, b), b), e.p), e.s), e.t);
  KExpr *big = x_fma(m, tail, math_f(m, x->type, -2), math_f(m, x->type, 1));
  return x_copysign(m, x_select(m, x_cmpc(m, KOP_LT, a, 1), small, big), x);
}

KExpr *math_erf(Math *m, KExpr *const *a) { return a[0]->type == DT_F32 ? erf_f32(m, a[0]) : erf_f64(m, a[0]); }

static KExpr *positive_part(Math *m, KExpr *x) {
  return x_select(m, x_cmpc(m, KOP_GT, x, 0), x, math_f(m, x->type, 0));
}

// Phi(x) = 1/2 + x H(x^2) for |x| < 1; errors 2^-25 and 2^-53.8 of Phi - 1/2.
static KExpr *phi_small(Math *m, KExpr *x) {
  static const double h32[] = {0x1.988454p-2,   -0x1.1058c8p-4, 0x1.46f2dap-7,
                               -0x1.3a21aap-10, 0x1.0a5a06p-13, -0x1.b474d4p-17};
  static const double h64[] = {0x1.9884533d43651p-2,   -0x1.1058377e2d041p-4,  0x1.46d042977f84dp-7,
                               -0x1.37403f747b65cp-10, 0x1.e42b10e0fd9p-14,    -0x1.3ce963fcaa531p-17,
                               0x1.6598ef8a1e586p-21,  -0x1.636c37c672d3ep-25, 0x1.49c5d3f8392e3p-29,
                               -0x1.7831f3203992bp-33, 0x1.1b702f94af2efp-36};
  KExpr *z = math_share(m, x_mul(m, x, x));
  KExpr *h = x->type == DT_F32 ? x_poly(m, z, 6, h32) : x_poly(m, z, 11, h64);
  return x_fma(m, x, h, math_f(m, x->type, 0.5));
}

// Up to 1: x Phi(x). Above: max(x, 0) - w with w = |x| Phi(-|x|).
KExpr *math_gelu(Math *m, KExpr *const *arg) {
  KExpr *x = arg[0], *a = abs_at_most(m, x, x->type == DT_F32 ? 14.6 : 39);
  KExpr *g = tail_factor(m, a);
  ExpParts e = exp_square(m, a, -0.5);
  KExpr *w = x_mul(m, x_mul(m, x_mul(m, g, e.p), e.s), e.t);
  KExpr *far = x_sub(m, positive_part(m, x), w);
  return x_select(m, x_cmpc(m, KOP_LT, a, 1), x_mul(m, x, phi_small(m, x)), far);
}

// y + lo = a (A + B a^2) with A = 2 sqrt(2/pi), B = 0.044715 A, each in two parts.
static KExpr *twice_u(Math *m, KExpr *a, KExpr **lo) {
  bool single = a->type == DT_F32;
  KExpr *ah = math_f(m, a->type, single ? 0x1.988454p+0 : 0x1.9884533d43651p+0);
  KExpr *bh = math_f(m, a->type, single ? 0x1.2444f2p-4 : 0x1.2444f2a4d8b4bp-4);
  double al = single ? -0x1.857936p-25 : -0x1.cbc0d30ebfd15p-54, bl = single ? 0x1.49b16ap-29 : -0x1.6c843a29d1c7p-61;
  KExpr *h = math_share(m, x_mul(m, a, a)), *l = x_residual(m, a, a, x_neg(m, h));
  KExpr *q = math_share(m, x_mul(m, h, bh));
  KExpr *ql = x_fma(m, l, bh, x_fma(m, h, math_f(m, a->type, bl), x_residual(m, h, bh, x_neg(m, q))));
  KExpr *s = math_share(m, x_add(m, ah, q)), *qq = math_share(m, x_sub(m, s, ah));
  KExpr *err = x_add(m, x_sub(m, ah, x_sub(m, s, qq)), x_sub(m, q, qq));
  KExpr *sl = math_share(m, x_addc(m, x_add(m, err, ql), al));
  KExpr *y = math_share(m, x_mul(m, a, s));
  *lo = math_share(m, x_fma(m, a, sl, x_residual(m, a, s, x_neg(m, y))));
  return y;
}

// x sigmoid(2 u): with w = |x| e / (1 + e), e = exp(-2 |u|): max(x, 0) - w.
KExpr *math_gelu_tanh(Math *m, KExpr *const *arg) {
  KExpr *x = arg[0], *a = abs_at_most(m, x, x->type == DT_F32 ? 11.2 : 22.5), *lo;
  KExpr *y = twice_u(m, a, &lo);
  ExpParts e = math_exp_parts_negative(m, math_share(m, x_neg(m, y)), math_share(m, x_neg(m, lo)));
  KExpr *e1 = math_share(m, x_mul(m, e.p, e.s));
  KExpr *base = x_div(m, a, x_addc(m, x_mul(m, e1, e.t), 1));
  return x_sub(m, positive_part(m, x), x_mul(m, x_mul(m, base, e1), e.t));
}
