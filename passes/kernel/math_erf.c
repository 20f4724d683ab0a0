// erf, gelu and its tanh approximation.
//
// The far side of the normal distribution is exp(-a^2/2) M(a) with the Mills ratio M, smooth and slow: M(a) (a + 5) is
// a polynomial in (a - 5) / (a + 5) = 1 - 10 / (a + 5) (the substitution of Shepherd and Laframboise, Math. Comp. 36,
// 1981). a^2 is carried with its rounding error, because exp magnifies it by a^2. Polynomials are minimax (Remez).
#include "passes/kernel/math.h"

// (a + 5) exp(a^2/2) Phi(-a) for 0 <= a <= 14.6 (relative error 2^-25.2) and 0 <= a <= 39 (2^-54.1).
static const double mills32[] = {0x1.89d3acp-1,  -0x1.54ad04p-1, 0x1.fb319ap-2,  -0x1.410f06p-2,  0x1.51ef08p-3,
                                 -0x1.1b1a08p-4, 0x1.5608b6p-6,  -0x1.83f2fap-9, -0x1.fc0f8cp-11, 0x1.a9bb54p-12};
static const double mills64[] = {
    0x1.89d3abe1f95aep-1,   -0x1.54ad03f27ca18p-1, 0x1.fb31653876f89p-2,   -0x1.410ed5f87594cp-2,
    0x1.51f6329f01ba2p-3,   -0x1.1b1c254ca3f76p-4, 0x1.54b4d4f48aec8p-6,   -0x1.88590e985fb17p-9,
    -0x1.a2503778cf647p-11, 0x1.1daf1ae14f1e2p-11, -0x1.f21492a0a19p-15,   -0x1.a17013c4eb395p-15,
    0x1.17df10833d325p-16,  0x1.0b14eeb780d7fp-18, -0x1.73e048edacf2ap-19, -0x1.674b31e497d0ap-22,
    0x1.d465fb5dc02e1p-22,  0x1.598707de02374p-25, -0x1.2ce353a8339c8p-24, -0x1.269811d552e11p-27,
    0x1.70ba8a228d909p-27,  0x1.2ff667dfca983p-29, -0x1.39346c7405474p-30, -0x1.9aa3cc7eb342dp-32};

typedef struct Mills {
  KExpr *inverse, *poly;  // M(a) = inverse * poly
} Mills;

static Mills mills(Math *m, KExpr *a) {
  KExpr *inv = math_share(m, x_div(m, math_f(m, a->type, 1), x_addc(m, a, 5)));
  KExpr *t = math_share(m, x_fma(m, inv, math_f(m, a->type, -10), math_f(m, a->type, 1)));
  KExpr *p = a->type == DT_F32 ? x_poly(m, t, sizeof mills32 / sizeof *mills32, mills32)
                               : x_poly(m, t, sizeof mills64 / sizeof *mills64, mills64);
  return (Mills){inv, p};
}

// exp(scale * a^2) in parts, scale = -1/2 or -1.
static ExpParts exp_square(Math *m, KExpr *a, double scale) {
  KExpr *h = math_share(m, x_mul(m, a, a));
  KExpr *l = math_share(m, x_mulc(m, x_fma(m, a, a, x_neg(m, h)), scale));
  return math_exp_parts_negative(m, math_share(m, x_mulc(m, h, scale)), l);
}

static KExpr *abs_at_most(Math *m, KExpr *x, double hi) {
  KExpr *a = math_share(m, x_abs(m, x));
  return math_share(m, x_select(m, x_cmpc(m, KOP_GT, a, hi), math_f(m, x->type, hi), a));
}

// Up to 0.92: x + x P(x^2). Above: 1 - exp(-g(|x|)), g = -log erfc; at 4 the result has rounded to 1.
static KExpr *erf_f32(Math *m, KExpr *x) {
  static const double p[] = {0x1.06eba8p-3, -0x1.812742p-2,  0x1.ce2e26p-4, -0x1.b81412p-6,
                             0x1.550b4ap-8, -0x1.accf22p-11, 0x1.65a3f8p-14};
  static const double g[] = {-0x1.6f6ad6p-13, 0x1.21280ep+0, 0x1.44456p-1,    0x1.bb89d6p-4,
                             -0x1.9b9ddp-6,   0x1.1171cp-8,  -0x1.c7dae6p-12, 0x1.624c6ep-16};
  KExpr *a = abs_at_most(m, x, 4), *z = math_share(m, x_mul(m, a, a));
  KExpr *small = x_fma(m, a, x_poly(m, z, 7, p), a);
  ExpParts e = math_exp_parts_negative(m, math_share(m, x_neg(m, x_poly(m, a, 8, g))), NULL);
  KExpr *big = x_sub(m, math_f(m, x->type, 1), x_mul(m, x_mul(m, e.p, e.s), e.t));
  return x_copysign(m, x_select(m, x_cmpc(m, KOP_LT, a, 0.921875), small, big), x);
}

// Up to 1: x + x P(x^2). Above: 1 - 2 exp(-x^2) M(sqrt 2 |x|).
static KExpr *erf_f64(Math *m, KExpr *x) {
  static const double p[] = {0x1.06eba8214db69p-3,   -0x1.812746b037a25p-2,  0x1.ce2f21a0458e8p-4,
                             -0x1.b82ce3135567cp-6,  0x1.565bcd2c85c66p-8,   -0x1.c02db93b54da3p-11,
                             0x1.f9a3ba79eb3adp-14,  -0x1.f4dd0b636c48dp-17, 0x1.ba6a92aed0bbep-20,
                             -0x1.639ef2be8b525p-23, 0x1.1374bf637464dp-26,  -0x1.c6f03d24bb0bep-30,
                             0x1.3edab26be2a4fp-33};
  KExpr *a = abs_at_most(m, x, 6.5), *z = math_share(m, x_mul(m, a, a));
  KExpr *small = x_fma(m, a, x_poly(m, z, 13, p), a);
  Mills r = mills(m, math_share(m, x_mulc(m, a, 0x1.6a09e667f3bcdp+0)));
  ExpParts e = exp_square(m, a, -1);
  KExpr *tail = x_mul(m, x_mul(m, x_mul(m, x_mul(m, r.inverse, r.poly), e.p), e.s), e.t);
  KExpr *big = x_fma(m, tail, math_f(m, x->type, -2), math_f(m, x->type, 1));
  return x_copysign(m, x_select(m, x_cmpc(m, KOP_LT, a, 1), small, big), x);
}

KExpr *math_erf(Math *m, KExpr *const *a) { return a[0]->type == DT_F32 ? erf_f32(m, a[0]) : erf_f64(m, a[0]); }

static KExpr *positive_part(Math *m, KExpr *x) {
  return x_select(m, x_cmpc(m, KOP_GT, x, 0), x, math_f(m, x->type, 0));
}

// With w = |x| Phi(-|x|): max(x, 0) - w.
KExpr *math_gelu(Math *m, KExpr *const *arg) {
  KExpr *x = arg[0], *a = abs_at_most(m, x, x->type == DT_F32 ? 14.6 : 39);
  Mills r = mills(m, a);
  ExpParts e = exp_square(m, a, -0.5);
  KExpr *w = x_mul(m, x_mul(m, x_mul(m, x_mul(m, x_mul(m, a, r.inverse), r.poly), e.p), e.s), e.t);
  return x_sub(m, positive_part(m, x), w);
}

// y + lo = a (A + B a^2) with A = 2 sqrt(2/pi), B = 0.044715 A, each in two parts.
static KExpr *twice_u(Math *m, KExpr *a, KExpr **lo) {
  bool single = a->type == DT_F32;
  KExpr *ah = math_f(m, a->type, single ? 0x1.988454p+0 : 0x1.9884533d43651p+0);
  KExpr *bh = math_f(m, a->type, single ? 0x1.2444f2p-4 : 0x1.2444f2a4d8b4bp-4);
  double al = single ? -0x1.857936p-25 : -0x1.cbc0d30ebfd15p-54, bl = single ? 0x1.49b16ap-29 : -0x1.6c843a29d1c7p-61;
  KExpr *h = math_share(m, x_mul(m, a, a)), *l = x_fma(m, a, a, x_neg(m, h));
  KExpr *q = math_share(m, x_mul(m, h, bh));
  KExpr *ql = x_fma(m, l, bh, x_fma(m, h, math_f(m, a->type, bl), x_fma(m, h, bh, x_neg(m, q))));
  KExpr *s = math_share(m, x_add(m, ah, q)), *qq = math_share(m, x_sub(m, s, ah));
  KExpr *err = x_add(m, x_sub(m, ah, x_sub(m, s, qq)), x_sub(m, q, qq));
  KExpr *sl = math_share(m, x_addc(m, x_add(m, err, ql), al));
  KExpr *y = math_share(m, x_mul(m, a, s));
  *lo = math_share(m, x_fma(m, a, sl, x_fma(m, a, s, x_neg(m, y))));
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
