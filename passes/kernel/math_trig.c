// sin, cos, tan; asin, acos, atan.
//
// Reduction by pi/2 works for every finite argument (Payne and Hanek): x times just those bits of 2/pi that matter for
// its exponent, cut into pieces so short that each product is exact, each product reduced modulo 4. The pieces are
// constants picked by comparing |x| with powers of two, so there is no table in memory. f32 arguments are reduced in
// f64 lanes; f64 ones in three-part sums. Polynomials are minimax (Remez, coefficients rounded one after the other).
#include <math.h>

#include "passes/kernel/math.h"

// The bits of 2/pi after the point, 24 at a time.
static const uint32_t two_over_pi[] = {0xa2f983, 0x6e4e44, 0x1529fc, 0x2757d1, 0xf534dd, 0xc0db62, 0x95993c, 0x439041,
                                       0xfe5163, 0xabdebb, 0xc561b7, 0x246e3a, 0x424dd2, 0xe00649, 0x2eea09, 0xd1921c,
                                       0xfe1deb, 0x1cb129, 0xa73ee8, 0x8235f5, 0x2ebb44, 0x84e99c, 0x7026b4, 0x5f7e41,
                                       0x3991d6, 0x398353, 0x39f49c, 0x845f8b, 0xbdf928, 0x3b1ff8, 0x97ffde, 0x05980f,
                                       0xef2f11, 0x8b5a0a, 0x6d1f6d, 0x367ecf, 0x27cb09, 0xb74f46, 0x3f669e, 0x5fea2d,
                                       0x7527ba, 0xc7ebe5, 0xf17b3d, 0x0739f7, 0x8a5292, 0xea6bfb, 0x5fb11f, 0x8d5d08,
                                       0x560330, 0x46fc7b, 0x6babf0, 0xcfbc20, 0x9af436, 0x1da9e3, 0x91615e, 0xe61b08};

// Bits first .. first+n-1 after the point (those before it are 0) as a number of weight 2^scale.
static double bits_of_two_over_pi(int first, int n, int scale) {
  double v = 0;
  for (int j = first; j < first + n; j++)
    if (j >= 1 && (two_over_pi[(j - 1) / 24] >> (23 - (j - 1) % 24)) & 1) v += ldexp(1, scale - j);
  return v;
}

// How |x| picks its window of 2/pi: window w holds from |x| >= 2^(first + step * (w - 1)) on and scales x by
// 2^(-step w), which leaves an integer.
typedef struct Windows {
  int count, step, first;
} Windows;

static KExpr *pick(Math *m, KExpr *ax, Windows w, const double *values) {
  KExpr *r = math_f(m, DT_F64, values[0]);
  for (int i = 1; i < w.count; i++) {
    KExpr *above = x_cmpc(m, KOP_GE, ax, ldexp(1, w.first + w.step * (i - 1)));
    r = x_select(m, above, math_f(m, DT_F64, values[i]), r);
  }
  return math_share(m, r);
}

// Piece of 2/pi, `at` bits behind the weight 2, n bits long, for each window.
static KExpr *pick_bits(Math *m, KExpr *ax, Windows w, int at, int n) {
  double v[32];
  for (int i = 0; i < w.count; i++) v[i] = bits_of_two_over_pi(w.step * i - 1 + at, n, w.step * i);
  return pick(m, ax, w, v);
}

static KExpr *scale_down(Math *m, KExpr *x, KExpr *ax, Windows w) {
  double v[32];
  for (int i = 0; i < w.count; i++) v[i] = ldexp(1, -w.step * i);
  return math_share(m, x_mul(m, x, pick(m, ax, w, v)));
}

static KExpr *nearest(Math *m, KExpr *x) { return math_op(m, KOP_ROUND, x->type, x, NULL, NULL); }

// p - 4 round(p / 4), exact.
static KExpr *mod4(Math *m, KExpr *p) {
  p = math_share(m, p);
  return math_share(m, x_fma(m, nearest(m, x_mulc(m, p, 0.25)), math_f(m, DT_F64, -4), p));
}

// x = (k + f) pi/2: r = f pi/2 as hi + lo, |f| <= 1/2, and k modulo 4 in the low bits of an integer lane.
typedef struct Quadrant {
  KExpr *r, *lo, *k;  // leaves; lo NULL: 0
} Quadrant;

static KExpr *low_bits(Math *m, KExpr *k) { return math_share(m, x_view(m, DT_I64, x_addc(m, k, 0x1.8p52))); }

// An f32 value in an f64 lane: 24 bits times 29 are exact.
static Quadrant reduce_f32(Math *m, KExpr *x) {
  Windows w = {7, 16, 39};
  KExpr *ax = math_share(m, x_abs(m, x)), *xs = scale_down(m, x, ax, w);
  KExpr *p1 = mod4(m, x_mul(m, xs, pick_bits(m, ax, w, 0, 29)));
  KExpr *p2 = mod4(m, x_mul(m, xs, pick_bits(m, ax, w, 29, 29)));
  KExpr *p3 = x_mul(m, xs, pick_bits(m, ax, w, 58, 53));
  KExpr *k = math_share(m, nearest(m, x_add(m, p1, p2)));
  KExpr *f = x_add(m, x_add(m, x_sub(m, p1, k), p2), p3);
  return (Quadrant){math_share(m, x_mulc(m, f, M_PI_2)), NULL, low_bits(m, k)};
}

// A sum in three parts; the first two are exact as long as they do not overlap.
typedef struct Sum3 {
  KExpr *a, *b, *c;
} Sum3;

// *a becomes a + b rounded; the result is what was rounded off (Knuth).
static KExpr *two_sum(Math *m, KExpr **a, KExpr *b) {
  KExpr *s = math_share(m, x_add(m, *a, b)), *bb = math_share(m, x_sub(m, s, *a));
  KExpr *e = x_add(m, x_sub(m, *a, x_sub(m, s, bb)), x_sub(m, b, bb));
  *a = s;
  return math_share(m, e);
}

static void sum3_add(Math *m, Sum3 *s, KExpr *x) {
  KExpr *e = two_sum(m, &s->a, x);
  KExpr *f = two_sum(m, &s->b, e);
  s->c = math_share(m, x_add(m, s->c, f));
}

#define PIECE 26  // bits of a piece of 2/pi; x is cut into 27 + 26

static Quadrant reduce_f64(Math *m, KExpr *x) {
  Windows w = {21, 48, 100};
  KExpr *ax = math_share(m, x_abs(m, x)), *xs = scale_down(m, x, ax, w);
  KExpr *head = x_and(m, x_view(m, DT_I64, xs), math_i(m, DT_I64, -(INT64_C(1) << 26)));
  KExpr *xh = math_share(m, x_view(m, DT_F64, head)), *xl = math_share(m, x_sub(m, xs, xh));
  KExpr *zero = math_f(m, DT_F64, 0);
  Sum3 s = {zero, zero, zero};
  for (int i = 0; i < 9; i++) {
    KExpr *c = pick_bits(m, ax, w, PIECE * i, PIECE);
    KExpr *ph = x_mul(m, xh, c), *pl = x_mul(m, xl, c);
    sum3_add(m, &s, i < 5 ? mod4(m, ph) : math_share(m, ph));
    sum3_add(m, &s, i < 4 ? mod4(m, pl) : math_share(m, pl));
  }
  KExpr *k = math_share(m, nearest(m, s.a));
  Sum3 f = {math_share(m, x_sub(m, s.a, k)), zero, zero};
  sum3_add(m, &f, s.b);
  sum3_add(m, &f, s.c);
  KExpr *fh = f.a, *fl = f.b;
  KExpr *r = math_share(m, x_mulc(m, fh, 0x1.921fb54442d18p+0));
  KExpr *lo = x_residual(m, fh, math_f(m, DT_F64, 0x1.921fb54442d18p+0), x_neg(m, r));
  lo = x_fma(m, fh, math_f(m, DT_F64, 0x1.1a62633145c07p-54), lo);
  lo = x_fma(m, fl, math_f(m, DT_F64, 0x1.921fb54442d18p+0), lo);
  return (Quadrant){r, math_share(m, lo), low_bits(m, k)};
}

// sin(r + lo) = r + r^3 S(r^2) + lo (1 - r^2/2), |r| <= pi/4; errors 2^-37 without, 2^-58 with lo.
static KExpr *sin_poly(Math *m, Quadrant q, KExpr *z) {
  static const double s3[] = {-0x1.5555554cb3002p-3, 0x1.11110890ea299p-7, -0x1.a00f993189de2p-13,
                              0x1.6cd743cca76cap-19};
  static const double s5[] = {-0x1.5555555555549p-3, 0x1.111111110f89cp-7,   -0x1.a01a019c14167p-13,
                              0x1.71de3578e4392p-19, -0x1.ae5e66991981dp-26, 0x1.5d92fcdf0f00fp-33};
  KExpr *rz = x_mul(m, q.r, z);
  if (!q.lo) return x_fma(m, rz, x_poly(m, z, 4, s3), q.r);
  KExpr *rest = x_mul(m, q.lo, x_fma(m, z, math_f(m, DT_F64, -0.5), math_f(m, DT_F64, 1)));
  return x_add(m, q.r, x_fma(m, rz, x_poly(m, z, 6, s5), rest));
}

// cos(r + lo) = 1 - r^2/2 + r^4 C(r^2) - r lo, the rounding error of 1 - r^2/2 given back.
static KExpr *cos_poly(Math *m, Quadrant q, KExpr *z) {
  static const double c3[] = {0x1.5555554ed32dep-5, -0x1.6c16b82370eafp-10, 0x1.a010da80b71d7p-16,
                              -0x1.241dba23fab8ap-22};
  static const double c5[] = {0x1.555555555554bp-5,   -0x1.6c16c16c1500dp-10, 0x1.a01a019c8dd21p-16,
                              -0x1.27e4f7f0503ecp-22, 0x1.1ee9dacb969cfp-29,  -0x1.8fa5ec91ed1abp-37};
  KExpr *one = math_f(m, DT_F64, 1), *zz = x_mul(m, z, z);
  if (!q.lo) return x_fma(m, zz, x_poly(m, z, 4, c3), x_fma(m, z, math_f(m, DT_F64, -0.5), one));
  KExpr *half = math_share(m, x_mulc(m, z, 0.5)), *head = math_share(m, x_sub(m, one, half));
  KExpr *lost = x_sub(m, x_sub(m, one, head), half);
  KExpr *tail = x_fma(m, zz, x_poly(m, z, 6, c5), x_fma(m, x_neg(m, q.r), q.lo, lost));
  return x_add(m, head, tail);
}

typedef struct SinCos {
  KExpr *sin, *cos;  // of r
  KExpr *k;          // quadrant
  KExpr *odd;        // k is odd
} SinCos;

static SinCos sin_cos(Math *m, KExpr *x) {
  KExpr *wide = math_share(m, x_cast(m, DT_F64, x));
  Quadrant q = x->type == DT_F64 ? reduce_f64(m, wide) : reduce_f32(m, wide);
  KExpr *z = math_share(m, x_mul(m, q.r, q.r));
  KExpr *bit = x_and(m, q.k, math_i(m, DT_I64, 1));
  KExpr *odd = math_share(m, x_cmp(m, KOP_EQ, bit, math_i(m, DT_I64, 1)));
  return (SinCos){math_share(m, sin_poly(m, q, z)), math_share(m, cos_poly(m, q, z)), q.k, odd};
}

// v with its sign flipped where bit 1 of k is set.
static KExpr *flip(Math *m, KExpr *v, KExpr *k) {
  KExpr *sign = x_shl(m, x_and(m, k, math_i(m, DT_I64, 2)), 62);
  return x_view(m, DT_F64, math_op(m, KOP_XOR, DT_I64, x_view(m, DT_I64, v), sign, NULL));
}

KExpr *math_sin(Math *m, KExpr *const *a) {
  SinCos s = sin_cos(m, a[0]);
  return x_cast(m, a[0]->type, flip(m, x_select(m, s.odd, s.cos, s.sin), s.k));
}

KExpr *math_cos(Math *m, KExpr *const *a) {
  SinCos s = sin_cos(m, a[0]);
  return x_cast(m, a[0]->type, flip(m, x_select(m, s.odd, s.sin, s.cos), x_iaddc(m, s.k, 1)));
}

// sin / cos, or -cos / sin in odd quadrants.
KExpr *math_tan(Math *m, KExpr *const *a) {
  SinCos s = sin_cos(m, a[0]);
  KExpr *num = x_select(m, s.odd, x_neg(m, s.cos), s.sin), *den = x_select(m, s.odd, s.sin, s.cos);
  return x_cast(m, a[0]->type, x_div(m, num, den));
}

// asin(x) = x + x^3 A(x^2) for |x| <= 1/2; error 2^-59.8.
static KExpr *asin_tail(Math *m, KExpr *z) {
  static const double c[] = {0x1.5555555555578p-3, 0x1.333333332df2p-4,  0x1.6db6db722ab96p-5, 0x1.f1c71a8be967dp-6,
                             0x1.6e8bdfdc8179ep-6, 0x1.1c49dedf4adcap-6, 0x1.ca212ab2bb67ep-7, 0x1.75788cc30437dp-7,
                             0x1.618404bc61ea1p-7, 0x1.e1d26ab8d9c21p-9, 0x1.64d8372d62532p-6, -0x1.59b377f8e728ap-6,
                             0x1.0bccfb355d1a6p-5};
  return x_mul(m, z, x_poly(m, z, 13, c));
}

// Both branches share one polynomial: on z = x^2 up to 1/2, on z = (1 - |x|) / 2 above, where asin x = pi/2 - 2 asin
// sqrt z. The root carries its rounding error.
typedef struct AsinParts {
  KExpr *a, *large, *root, *root_lo, *tail;  // leaves; tail = A(z) z
} AsinParts;

static AsinParts asin_parts(Math *m, KExpr *x) {
  KExpr *a = math_share(m, x_abs(m, x)), *large = math_share(m, x_cmpc(m, KOP_GT, a, 0.5));
  KExpr *w = math_share(m, x_fma(m, a, math_f(m, DT_F64, -0.5), math_f(m, DT_F64, 0.5)));
  KExpr *z = math_share(m, x_select(m, large, w, x_mul(m, a, a)));
  KExpr *root = math_share(m, x_select(m, large, x_sqrt(m, w), a));
  KExpr *err = x_div(m, x_residual(m, x_neg(m, root), root, w), x_add(m, root, root));
  KExpr *some = x_and(m, large, x_cmpc(m, KOP_LT, a, 1));
  KExpr *root_lo = x_select(m, some, err, math_f(m, DT_F64, 0));
  return (AsinParts){a, large, root, math_share(m, root_lo), math_share(m, asin_tail(m, z))};
}

#define PI_2_HI 0x1.921fb54442d18p+0
#define PI_2_LO 0x1.1a62633145c07p-54

KExpr *math_asin(Math *m, KExpr *const *arg) {
  AsinParts p = asin_parts(m, arg[0]);
  KExpr *small = math_share(m, x_fma(m, p.root, p.tail, p.root));
  KExpr *low = x_add(m, x_fma(m, p.root, p.tail, p.root_lo), math_f(m, DT_F64, -PI_2_LO / 2));
  KExpr *twice = x_fma(m, low, math_f(m, DT_F64, 2), x_add(m, p.root, p.root));
  KExpr *big = x_sub(m, math_f(m, DT_F64, PI_2_HI), twice);
  return x_copysign(m, x_select(m, p.large, big, small), arg[0]);
}

// |x| <= 1/2: pi/2 - asin x; x > 1/2: 2 asin sqrt z; x < -1/2: pi - 2 asin sqrt z.
KExpr *math_acos(Math *m, KExpr *const *arg) {
  KExpr *x = arg[0];
  AsinParts p = asin_parts(m, x);
  KExpr *low = math_share(m, x_fma(m, p.root, p.tail, p.root_lo));
  KExpr *half = math_share(m, x_add(m, p.root, low));
  KExpr *right = math_share(m, x_add(m, half, half));
  KExpr *left_low = x_fma(m, low, math_f(m, DT_F64, -2), math_f(m, DT_F64, 2 * PI_2_LO));
  KExpr *left = x_add(m, x_sub(m, math_f(m, DT_F64, 2 * PI_2_HI), x_add(m, p.root, p.root)), left_low);
  KExpr *outer = x_select(m, x_cmpc(m, KOP_LT, x, 0), left, right);
  KExpr *tail = x_fma(m, x_neg(m, x), p.tail, math_f(m, DT_F64, PI_2_LO));
  KExpr *inner = x_sub(m, math_f(m, DT_F64, PI_2_HI), x_sub(m, x, tail));
  return x_select(m, p.large, outer, inner);
}

// atan(a), a = |x|: the angle is 0, pi/4 or pi/2 plus atan(t) with |t| <= sqrt(2) - 1; t + t^3 T(t^2), error 2^-63.
KExpr *math_atan(Math *m, KExpr *const *arg) {
  static const double c[] = {-0x1.5555555555554p-2, 0x1.9999999999583p-3, -0x1.249249246f4b9p-3, 0x1.c71c71b450862p-4,
                             -0x1.745d144ef1d79p-4, 0x1.3b1364cf7ecp-4,   -0x1.110be97bcac33p-4, 0x1.e1679336b853bp-5,
                             -0x1.ab3ae9e1bfbe1p-5, 0x1.6fe09dc06e453p-5, -0x1.0fcb0fec782c3p-5, 0x1.e822470fe3d3ep-7};
  KExpr *a = math_share(m, x_abs(m, arg[0])), *one = math_f(m, DT_F64, 1);
  KExpr *middle = math_share(m, x_cmpc(m, KOP_GT, a, M_SQRT2 - 1)),
        *high = math_share(m, x_cmpc(m, KOP_GT, a, M_SQRT2 + 1));
  KExpr *num = x_select(m, high, math_f(m, DT_F64, -1), x_select(m, middle, x_addc(m, a, -1), a));
  KExpr *den = x_select(m, high, a, x_select(m, middle, x_addc(m, a, 1), one));
  KExpr *t = math_share(m, x_div(m, num, den)), *z = math_share(m, x_mul(m, t, t));
  KExpr *zero = math_f(m, DT_F64, 0);
  KExpr *base =
      x_select(m, high, math_f(m, DT_F64, PI_2_HI), x_select(m, middle, math_f(m, DT_F64, PI_2_HI / 2), zero));
  KExpr *base_lo =
      x_select(m, high, math_f(m, DT_F64, PI_2_LO), x_select(m, middle, math_f(m, DT_F64, PI_2_LO / 2), zero));
  KExpr *tail = x_fma(m, x_mul(m, t, z), x_poly(m, z, 12, c), base_lo);
  return x_copysign(m, x_add(m, base, x_add(m, t, tail)), arg[0]);
}
