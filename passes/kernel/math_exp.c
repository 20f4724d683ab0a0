// exp, expm1 and everything built on them: sigmoid, tanh, softplus, swish, mish, elu, celu, selu, sinh, cosh.
//
// exp: x = n ln2 + r with |r| <= ln2 / 2; n comes out of the low bits of x / ln2 + 1.5 * 2^mantissa (the sum rounds to
// an integer), r by two fma with ln2 split so that the first is exact (Cody and Waite), and e^r - 1 = r + r^2 Q(r) with
// Q minimax (Remez, coefficients rounded one after the other). 2^n is put together in the exponent field.
#include "passes/kernel/math.h"

// Q on [-0.347, 0.347], relative error of r + r^2 Q(r) against e^r - 1: 2^-30.6 and 2^-58.
static const double q32[] = {0x1p-1, 0x1.555554p-3, 0x1.5554f8p-5, 0x1.1112d6p-7, 0x1.6d3d12p-10, 0x1.9eb65ap-13};
static const double q64[] = {0x1p-1,
                             0x1.5555555555559p-3,
                             0x1.5555555555558p-5,
                             0x1.111111110f70fp-7,
                             0x1.6c16c16c17a3ap-10,
                             0x1.a01a01afb76c2p-13,
                             0x1.a01a0195a7f8fp-16,
                             0x1.71ddf87056e4ap-19,
                             0x1.27e52555fb726p-22,
                             0x1.af5f086d5588cp-26,
                             0x1.1eafe5a149344p-29};

static KExpr *q_poly(Math *m, KExpr *r) {
  return r->type == DT_F32 ? x_poly(m, r, sizeof q32 / sizeof *q32, q32) : x_poly(m, r, sizeof q64 / sizeof *q64, q64);
}

typedef struct Reduced {
  KExpr *r;  // leaf
  KExpr *n;  // leaf, integer lanes; n in the low bits
} Reduced;

static Reduced reduce(Math *m, KExpr *x, KExpr *lo) {
  const Float *f = math_float(x->type);
  KExpr *biased = math_share(m, x_fma(m, x, math_f(m, f->t, f->log2e), math_f(m, f->t, f->round)));
  KExpr *n = math_share(m, x_addc(m, biased, -f->round));
  KExpr *r = x_fma(m, n, math_f(m, f->t, -f->ln2_hi), x);
  r = x_fma(m, n, math_f(m, f->t, -f->ln2_lo), r);
  if (lo) r = x_add(m, r, lo);
  return (Reduced){math_share(m, r), math_share(m, x_view(m, f->bits, biased))};
}

// 2^(n + more) as a float; n in the low bits of an integer lane.
static KExpr *power2(Math *m, const Float *f, KExpr *n, int64_t more) {
  return x_view(m, f->t, x_iaddc(m, x_shl(m, n, f->mantissa), (f->bias + more) << f->mantissa));
}

// e^r - 1 = r + r^2 Q. This sum and adding 1 round monotonically, which keeps exp monotone.
static KExpr *expm1_poly(Math *m, KExpr *r) { return x_fma(m, x_mul(m, r, r), q_poly(m, r), r); }

static KExpr *exp_poly(Math *m, KExpr *r) { return x_addc(m, expm1_poly(m, r), 1); }

static KExpr *at_least(Math *m, KExpr *x, double lo) {
  return math_share(m, x_select(m, x_cmpc(m, KOP_LT, x, lo), math_f(m, x->type, lo), x));
}

static KExpr *at_most(Math *m, KExpr *x, double hi) {
  return math_share(m, x_select(m, x_cmpc(m, KOP_GT, x, hi), math_f(m, x->type, hi), x));
}

// 2^n as the product of 2^floor(n/2) and 2^ceil(n/2), neither of which leaves the normal range.
ExpParts math_exp_parts(Math *m, KExpr *x, KExpr *lo) {
  const Float *f = math_float(x->type);
  bool single = f->t == DT_F32;
  x = at_most(m, at_least(m, x, single ? -110 : -1416), single ? 90 : 712);
  Reduced r = reduce(m, x, lo);
  KExpr *half = math_share(m, x_shr(m, r.n, 1));
  KExpr *rest = math_share(m, math_op(m, KOP_SUB, f->bits, r.n, half, NULL));
  return (ExpParts){math_share(m, exp_poly(m, r.r)), math_share(m, power2(m, f, half, 0)),
                    math_share(m, power2(m, f, rest, 0))};
}

// n <= 0: 2^(n + c) stays normal for every n that matters, and 2^-c is a constant.
ExpParts math_exp_parts_negative(Math *m, KExpr *x, KExpr *lo) {
  const Float *f = math_float(x->type);
  int64_t c = f->t == DT_F32 ? 64 : 128;
  x = at_least(m, x, f->t == DT_F32 ? -110 : -760);
  Reduced r = reduce(m, x, lo);
  return (ExpParts){math_share(m, exp_poly(m, r.r)), math_share(m, power2(m, f, r.n, c)),
                    math_f(m, f->t, f->t == DT_F32 ? 0x1p-64 : 0x1p-128)};
}

static KExpr *whole(Math *m, ExpParts e) { return x_mul(m, x_mul(m, e.p, e.s), e.t); }

KExpr *math_exp(Math *m, KExpr *x) { return whole(m, math_exp_parts(m, x, NULL)); }

KExpr *math_exp_op(Math *m, KExpr *const *a) { return math_exp(m, a[0]); }

// 2^n (r + r^2 Q) + (2^n - 1)
KExpr *math_expm1(Math *m, KExpr *x) {
  const Float *f = math_float(x->type);
  x = at_least(m, x, -40);
  Reduced r = reduce(m, x, NULL);
  KExpr *s = math_share(m, power2(m, f, r.n, 0));
  return x_fma(m, s, expm1_poly(m, r.r), x_addc(m, s, -1));
}

// log(1 + x) = 2 atanh(s / 2) = s + s z L(z) with s = x / (1 + x / 2), z = s^2 / 4; L minimax for z <= 1/9,
// errors 2^-33 and 2^-64.
KExpr *math_log1p_unit(Math *m, KExpr *x) {
  static const double l32[] = {0x1.555558p-2, 0x1.9996d8p-3, 0x1.25051p-3, 0x1.b72bbcp-4, 0x1.f08adp-4};
  static const double l64[] = {0x1.5555555555556p-2, 0x1.9999999999656p-3, 0x1.24924924ba50ep-3, 0x1.c71c71a9abbeep-4,
                               0x1.745d1d70fec1dp-4, 0x1.3b12e3b6741p-4,   0x1.11226adec3021p-4, 0x1.dff4265b21453p-5,
                               0x1.c0ffa61dc52aep-5, 0x1.2013c758682fap-5, 0x1.4fffded548f84p-4};
  KExpr *half = math_f(m, x->type, 0.5), *one = math_f(m, x->type, 1);
  KExpr *s = math_share(m, x_div(m, x, x_fma(m, x, half, one)));
  KExpr *z = math_share(m, x_mul(m, x_mulc(m, s, 0.25), s));
  KExpr *l =
      x->type == DT_F32 ? x_poly(m, z, sizeof l32 / sizeof *l32, l32) : x_poly(m, z, sizeof l64 / sizeof *l64, l64);
  return x_fma(m, x_mul(m, s, z), l, s);
}

static KExpr *minus_abs(Math *m, KExpr *x) { return math_share(m, x_neg(m, x_abs(m, x))); }

// 1 / (1 + p 2^n) with p 2^n = exp(-x), p = 1 + q: the denominator is q 2^n + (1 + 2^n). For large -x the result is
// 2^-n / ((q + 2^-n) + 1), with 2^-n scaled by 2^c so that it stays normal. p itself is never rounded.
KExpr *math_sigmoid(Math *m, KExpr *const *a) {
  const Float *f = math_float(a[0]->type);
  bool single = f->t == DT_F32;
  int64_t c = single ? 64 : 128;
  KExpr *one = math_f(m, f->t, 1), *up = math_f(m, f->t, single ? 0x1p64 : 0x1p128);
  KExpr *down = math_f(m, f->t, single ? 0x1p-64 : 0x1p-128);
  KExpr *y = at_most(m, at_least(m, math_share(m, x_neg(m, a[0])), -40), single ? 110 : 760);
  Reduced r = reduce(m, y, NULL);
  KExpr *field = math_share(m, x_shl(m, r.n, f->mantissa));
  KExpr *large = math_share(m, x_cmpc(m, KOP_GT, y, 16));
  KExpr *power = x_view(m, f->t, x_iaddc(m, field, f->bias << f->mantissa));
  KExpr *inverse =
      x_view(m, f->t, math_op(m, KOP_SUB, f->bits, math_i(m, f->bits, (f->bias + c) << f->mantissa), field, NULL));
  KExpr *s = math_share(m, x_select(m, large, inverse, up));
  KExpr *b = math_share(m, x_select(m, large, one, power));
  KExpr *first = x_select(m, large, x_mul(m, s, down), x_add(m, b, one));
  KExpr *d = x_add(m, x_fma(m, expm1_poly(m, r.r), b, first), x_select(m, large, one, math_f(m, f->t, 0)));
  return x_mul(m, x_mul(m, x_div(m, one, d), s), down);
}

// Up to 0.55: x + x^3 T(x^2), errors 2^-29.7 and 2^-65. Above: 1 - 2 / (exp(2 |x|) + 1); past the clamp it rounds to 1.
KExpr *math_tanh(Math *m, KExpr *const *a) {
  static const double t32[] = {-0x1.55554ap-2, 0x1.110ceep-3, -0x1.b91e7ep-5, 0x1.58e516p-6, -0x1.992186p-8};
  static const double t64[] = {-0x1.5555555555555p-2,  0x1.111111111108p-3,    -0x1.ba1ba1ba10e26p-5,
                               0x1.664f487f8e829p-6,   -0x1.226e34cf7b6c9p-7,  0x1.d6d3b105545a8p-9,
                               -0x1.7da10415805eap-10, 0x1.35390678e07b5p-11,  -0x1.f34a1b426a292p-13,
                               0x1.88d9780a2bb8ap-14,  -0x1.1138126815b9bp-15, 0x1.e4d3e043cbe6ap-18};
  const Float *f = math_float(a[0]->type);
  KExpr *x = a[0], *one = math_f(m, f->t, 1);
  KExpr *u = at_most(m, math_share(m, x_abs(m, x)), f->t == DT_F32 ? 9.5 : 19.5);
  KExpr *z = math_share(m, x_mul(m, u, u));
  KExpr *poly = f->t == DT_F32 ? x_poly(m, z, 5, t32) : x_poly(m, z, 12, t64);
  KExpr *small = x_fma(m, x_mul(m, u, z), poly, u);
  Reduced r = reduce(m, math_share(m, x_add(m, u, u)), NULL);
  KExpr *s = math_share(m, power2(m, f, r.n, 0));
  KExpr *e1 = x_fma(m, expm1_poly(m, r.r), s, x_add(m, s, one));
  KExpr *large = x_sub(m, one, x_div(m, math_f(m, f->t, 2), e1));
  return x_copysign(m, x_select(m, x_cmpc(m, KOP_LT, u, 0.55), small, large), x);
}

// max(x, 0) + log(1 + exp(-|x|))
KExpr *math_softplus(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *e = math_share(m, whole(m, math_exp_parts_negative(m, minus_abs(m, x), NULL)));
  KExpr *l = math_log1p_unit(m, e);
  return x_add(m, x_select(m, x_cmpc(m, KOP_GT, x, 0), x, math_f(m, x->type, 0)), l);
}

// x sigmoid(y), y + lo = alpha x: base = x / (1 + exp(-|y|)), times exp(y) for y < 0.
static KExpr *swish(Math *m, KExpr *x, KExpr *y, ExpParts e) {
  KExpr *one_e = x_addc(m, whole(m, e), 1);
  KExpr *base = math_share(m, x_div(m, x, one_e));
  KExpr *small = x_mul(m, x_mul(m, base, x_mul(m, e.p, e.s)), e.t);
  return x_select(m, x_cmpc(m, KOP_LT, y, 0), small, base);
}

// alpha = 1 (SiLU) stays in the lane type. Any other alpha: f32 in f64 lanes, where alpha x is exact.
KExpr *math_swish(Math *m, KExpr *const *a) {
  DType t = a[0]->type;
  if (a[1]->kind == KX_CONST && a[1]->f == 1) {
    KExpr *x = at_least(m, a[0], t == DT_F32 ? -110 : -760);
    return swish(m, x, x, math_exp_parts_negative(m, minus_abs(m, x), NULL));
  }
  KExpr *x = math_share(m, x_cast(m, DT_F64, a[0])), *alpha = math_share(m, x_cast(m, DT_F64, a[1]));
  KExpr *y = math_share(m, x_mul(m, x, alpha));
  KExpr *lo = math_share(m, x_residual(m, x, alpha, x_neg(m, y)));
  KExpr *finite = x_cmpc(m, KOP_LT, x_abs(m, y), 1e4);
  lo = math_share(m, x_select(m, finite, lo, math_f(m, DT_F64, 0)));
  KExpr *minus_lo = math_share(m, x_select(m, x_cmpc(m, KOP_LT, y, 0), lo, x_neg(m, lo)));
  KExpr *r = swish(m, x, y, math_exp_parts(m, minus_abs(m, y), minus_lo));
  KExpr *lost = x_cmpc(m, KOP_LT, y, -1416);
  return x_cast(m, t, x_select(m, lost, math_f(m, DT_F64, 0), r));
}

// x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^2 + 2 e, e = exp(x). Past the clamp the quotient is 1.
KExpr *math_mish(Math *m, KExpr *const *a) {
  bool single = a[0]->type == DT_F32;
  KExpr *x = at_least(m, a[0], single ? -110 : -760), *c = at_most(m, x, single ? 20 : 40);
  ExpParts parts = math_exp_parts(m, c, NULL);
  KExpr *e1 = math_share(m, x_mul(m, parts.p, parts.s)), *e = x_mul(m, e1, parts.t);
  KExpr *n1 = math_share(m, x_fma(m, e1, e, x_add(m, e1, e1)));  // n = n1 t
  KExpr *d = x_fma(m, n1, parts.t, math_f(m, x->type, 2));
  return x_mul(m, x_mul(m, x_div(m, x, d), n1), parts.t);
}

static KExpr *negative_branch(Math *m, KExpr *x, KExpr *below, KExpr *above) {
  return x_select(m, x_cmpc(m, KOP_LT, x, 0), below, above);
}

KExpr *math_elu(Math *m, KExpr *const *a) {
  return negative_branch(m, a[0], x_mul(m, a[1], math_expm1(m, a[0])), a[0]);
}

KExpr *math_celu(Math *m, KExpr *const *a) {
  KExpr *u = math_share(m, x_div(m, a[0], a[1]));
  return negative_branch(m, a[0], x_mul(m, a[1], math_expm1(m, u)), a[0]);
}

// The product of two constants keeps its low part, so that each side is rounded about once.
KExpr *math_selu(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *e = math_share(m, math_expm1(m, x)), *above = x_mul(m, a[2], x);
  if (a[1]->kind != KX_CONST || a[2]->kind != KX_CONST)
    return negative_branch(m, x, x_mul(m, a[2], x_mul(m, a[1], e)), above);
  double c = a[1]->f * a[2]->f;
  KExpr *hi = math_f(m, x->type, c), *lo = math_f(m, x->type, c - hi->f);
  return negative_branch(m, x, x_fma(m, e, hi, x_mul(m, e, lo)), above);
}

// (e + e / (e + 1)) / 2 with e = expm1(|x|) up to 22, exp(|x|) / 2 above. f64 lanes.
KExpr *math_sinh(Math *m, KExpr *const *a) {
  KExpr *x = a[0], *u = math_share(m, x_abs(m, x));
  KExpr *e = math_share(m, math_expm1(m, at_most(m, u, 22)));
  KExpr *small = x_mulc(m, x_add(m, e, x_div(m, e, x_addc(m, e, 1))), 0.5);
  ExpParts parts = math_exp_parts(m, u, NULL);
  KExpr *large = x_mul(m, x_mul(m, x_mulc(m, parts.p, 0.5), parts.s), parts.t);
  return x_copysign(m, x_select(m, x_cmpc(m, KOP_GT, u, 22), large, small), x);
}

// h + 1 / (4 h) with h = exp(|x|) / 2. f64 lanes.
KExpr *math_cosh(Math *m, KExpr *const *a) {
  KExpr *u = math_share(m, x_abs(m, a[0]));
  ExpParts parts = math_exp_parts(m, u, NULL);
  KExpr *half = math_share(m, x_mul(m, x_mul(m, x_mulc(m, parts.p, 0.5), parts.s), parts.t));
  return x_add(m, half, x_div(m, math_f(m, half->type, 0.25), half));
}
