// Arithmetic for step functions of integer sums, by search. See requant.h.
//
// For a fixed factor the summands that keep all boundaries in place form an interval, whose length is concave in the
// factor: the best factor is found by golden section, then the factors of the type around it are tried, each with the
// summands of its interval. Factors read off the network come first: where its scales are powers of two, sums lie on
// ties and only its own factors turn them the right way.
#include "passes/recover/requant.h"

#include <math.h>

#include "ir/elem.h"

enum { NEAR_WRITTEN = 5, NEAR_BEST = 24, SUMMANDS = 4, SHIFT_NEAR = 5, SHIFT_MOST = 30, SHIFT_TRIES = 8 };

typedef struct Channel {
  const Boundaries *b;
  int64_t low, high, zero, shift;
  RequantForm form;
  double mul, mul_low, add;
  int64_t right;
} Channel;

static DType type_of_form(RequantForm f) { return f == REQUANT_F64 ? DT_F64 : DT_F32; }

// ---- meaning

// How a target may round: every operation by itself, or products fused into the sums they go to.
enum { FUSE_OUTER = 1, FUSE_INNER = 2, FUSE_OTHER = 4 };

static double multiply_add(DType t, double x, double m, double a, bool fused) {
  if (t == DT_F64) return fused ? fma(x, m, a) : x * m + a;
  if (fused) return (double)fmaf((float)x, (float)m, (float)a);
  float product = (float)x * (float)m;
  return (double)(product + (float)a);
}

static double float_form(const Channel *c, double x, unsigned fused) {
  DType t = type_of_form(c->form);
  if (c->form != REQUANT_SPLIT) return multiply_add(t, x, c->mul, c->add, fused & FUSE_OUTER);
  // Two products and no summand: either may be fused.
  if (fused & FUSE_OTHER) return multiply_add(t, x, c->mul_low, elem_round(t, x * c->mul), true);
  return multiply_add(t, x, c->mul, multiply_add(t, x, c->mul_low, c->add, fused & FUSE_INNER), fused & FUSE_OUTER);
}

static unsigned n_ways(const Channel *c) {
  if (c->form == REQUANT_SHIFT) return 1;
  if (c->form != REQUANT_SPLIT) return 2;
  return c->add == 0 ? 5 : 4;
}

static int64_t level_at(const Channel *c, int64_t sum, unsigned fused) {
  if (c->form == REQUANT_SHIFT) {
    int64_t q = ((sum + c->shift) * (int64_t)c->mul + (int64_t)c->add) >> c->right;
    return q < c->low ? c->low : q > c->high ? c->high : q;
  }
  double x = elem_round(type_of_form(c->form), (double)(sum + c->shift));
  double v = nearbyint(float_form(c, x, fused)) + (double)c->zero;
  return v<(double)c->low ? c->low : v>(double) c->high ? c->high : (int64_t)v;
}

static Channel channel_of(const Requant *r, int64_t channel, int64_t shift) {
  Channel c = {.low = r->low[channel], .high = r->high[channel], .zero = r->zero, .shift = shift, .form = r->form};
  c.mul = r->mul[channel];
  c.mul_low = r->mul_low[channel];
  c.add = r->add[channel];
  c.right = r->right[channel];
  return c;
}

int64_t requant_eval(const Requant *r, int64_t channel, int64_t sum, int64_t shift, unsigned way) {
  Channel c = channel_of(r, channel, shift);
  return level_at(&c, sum, way);
}

unsigned requant_ways(const Requant *r, int64_t channel) {
  Channel c = channel_of(r, channel, 0);
  return n_ways(&c);
}

const char *requant_text(const Requant *r) {
  switch (r->form) {
    case REQUANT_SHIFT: return "one i32 factor and shift per channel";
    case REQUANT_F32: return "one f32 factor per channel";
    case REQUANT_SPLIT: return "one f32 factor in two parts per channel";
    default: return "one f64 factor per channel";
  }
}

// ---- proof

// Levels passed at a sum, in the direction of the channel.
static bool passes_at(const Channel *c, int64_t sum, int64_t passed, int sign) {
  for (unsigned way = 0, n = n_ways(c); way < n; way++) {
    int64_t got = level_at(c, sum, way) - c->b->first;
    if (c->b->falls) got = -got;
    if (sign == 0 ? got != passed : sign > 0 ? got < passed : got >= passed) return false;
  }
  return true;
}

// No product or sum of the shift form passes 31 bits.
static bool shift_fits(const Channel *c) {
  double ends[2] = {(double)(c->b->lo + c->shift), (double)(c->b->hi + c->shift)};
  if (fabs(c->mul) >= 0x1p31 || fabs(c->add) >= 0x1p31) return false;
  for (int i = 0; i < 2; i++)
    if (fabs(ends[i] * c->mul) >= 0x1p31 || fabs(ends[i] * c->mul + c->add) >= 0x1p31) return false;
  return true;
}

static bool holds(const Channel *c) {
  const Boundaries *b = c->b;
  if (!isfinite(c->mul) || !isfinite(c->add) || (b->falls ? c->mul > 0 : c->mul < 0)) return false;
  if (c->form == REQUANT_SPLIT && c->mul * c->mul_low < 0) return false;  // both parts go the same way
  if (c->form == REQUANT_SHIFT && !shift_fits(c)) return false;
  if (!passes_at(c, b->lo, 0, 0) || !passes_at(c, b->hi, b->n, 0)) return false;
  for (int64_t k = 0; k < b->n; k++)
    if (!passes_at(c, b->at[k], k + 1, 1) || !passes_at(c, b->at[k] - 1, k + 1, -1)) return false;
  return true;
}

// ---- candidates

// What a sum at boundary k must reach (rising) or come down to (falling), before rounding.
static double half_of(const Channel *c, int64_t k) {
  double passed = (double)(c->b->falls ? -k - 1 : k + 1);
  return (double)(c->b->first - c->zero) + passed + (c->b->falls ? 0.5 : -0.5);
}

// The summands that keep every boundary in place with this factor: [*lo, *hi]. Returns the length, negative for none.
static double summands(const Channel *c, double mul, double *lo, double *hi) {
  *lo = -INFINITY;
  *hi = INFINITY;
  for (int64_t k = 0; k < c->b->n; k++) {
    double half = half_of(c, k), x = (double)(c->b->at[k] + c->shift);
    double past = half - mul * x, before = half - mul * (x - 1);
    *lo = fmax(*lo, c->b->falls ? before : past);
    *hi = fmin(*hi, c->b->falls ? past : before);
  }
  return *hi - *lo;
}

// The factor with the longest interval.
static double best_factor(const Channel *c) {
  const Boundaries *b = c->b;
  double from = 0, to = 1, unused[2];
  if (b->n > 1) to = 2 * ((double)b->n + 1) / fmax(1, (double)(b->at[b->n - 1] - b->at[0] - 1));
  if (b->falls) from = -to, to = 0;
  for (int i = 0; i < 110; i++) {
    double x = to - (to - from) * 0.618033988749895, y = from + (to - from) * 0.618033988749895;
    if (summands(c, x, &unused[0], &unused[1]) < summands(c, y, &unused[0], &unused[1])) {
      from = x;
    } else {
      to = y;
    }
  }
  return (from + to) / 2;
}

// Steps 0, +1, -1, +2, ... from v in the type.
static double neighbour(DType t, double v, int i) {
  int steps = (i + 1) / 2;
  double to = i % 2 ? INFINITY : -INFINITY;
  for (int k = 0; k < steps; k++) v = t == DT_F64 ? nextafter(v, to) : (double)nextafterf((float)v, (float)to);
  return v;
}

// Summands of the type inside an interval: those around its middle.
static bool try_summands(Channel *c, double lo, double hi) {
  DType t = type_of_form(c->form);
  double middle = elem_round(t, (lo + hi) / 2);
  for (int i = 0; i < SUMMANDS; i++) {
    c->add = neighbour(t, middle, i);
    if (holds(c)) return true;
  }
  return false;
}

// The factor as one number of the type or, split, as one whose products are exact and a rest of the same sign.
static void set_factor(Channel *c, double mul) {
  c->mul = elem_round(type_of_form(c->form), mul);
  if (c->form != REQUANT_SPLIT) return;
  double most = fmax(fabs((double)(c->b->lo + c->shift)), fabs((double)(c->b->hi + c->shift)));
  int bits, exponent;
  frexp(most + 1, &bits);
  double part = frexp(mul, &exponent), unit = ldexp(1, bits < 23 ? 24 - bits : 1);
  c->mul = ldexp(trunc(part * unit) / unit, exponent);
  c->mul_low = (double)(float)(mul - c->mul);
}

static bool constant_form(Channel *c) {
  c->mul = c->mul_low = 0;
  c->right = 0;
  c->add = (double)(c->b->first - c->zero);
  return holds(c);
}

// A summand that is a whole number up to the rounding of its parts is that number: ties depend on it.
static double whole_or(double v) { return fabs(v - rint(v)) < 0x1p-30 * (1 + fabs(v)) ? rint(v) : v; }

static bool written_form(Channel *c, double mul, double add) {
  DType t = type_of_form(c->form);
  double inside = whole_or(add - (double)c->zero - mul * (double)c->shift);
  for (int i = 0; i < (c->form == REQUANT_SPLIT ? 1 : NEAR_WRITTEN); i++) {
    set_factor(c, mul);
    c->mul = neighbour(t, c->mul, i);
    c->add = elem_round(t, inside);
    if (holds(c)) return true;
  }
  return false;
}

static bool fitted_form(Channel *c, double best) {
  double lo, hi;
  for (int i = 0; i < NEAR_BEST; i++) {
    if (c->form == REQUANT_SPLIT) {
      set_factor(c, best * (1 + ((i % 2) ? 1 : -1) * (double)((i + 1) / 2) * 0x1p-28));
    } else {
      set_factor(c, neighbour(type_of_form(c->form), elem_round(type_of_form(c->form), best), i));
    }
    if (summands(c, c->mul + (c->form == REQUANT_SPLIT ? c->mul_low : 0), &lo, &hi) > 0 && try_summands(c, lo, hi))
      return true;
  }
  return false;
}

// The summands that keep every boundary of (a * m + b) >> right in place, an interval of whole numbers.
static bool whole_summands(const Channel *c, int64_t m, int64_t *lo, int64_t *hi) {
  *lo = -INT64_MAX;
  *hi = INT64_MAX;
  for (int64_t k = 0; k < c->b->n; k++) {
    // Rising: `at` reaches the level and at - 1 does not; falling: at - 1 is the last that does.
    int64_t at = c->b->at[k] + c->shift, level = c->b->first + (c->b->falls ? -k : k + 1);
    int64_t reaches = level * (INT64_C(1) << c->right) - m * (c->b->falls ? at - 1 : at);
    int64_t below = level * (INT64_C(1) << c->right) - 1 - m * (c->b->falls ? at : at - 1);
    *lo = reaches > *lo ? reaches : *lo;
    *hi = below < *hi ? below : *hi;
  }
  return *lo <= *hi;
}

static bool shift_form(Channel *c, double best) {
  double most = fmax(fabs((double)(c->b->lo + c->shift)), fabs((double)(c->b->hi + c->shift)));
  c->right = SHIFT_MOST;
  for (int tries = 0; tries < SHIFT_TRIES && c->right >= 0; c->right--) {
    double near = rint(ldexp(best, (int)c->right));
    if (fabs(near) * most >= 0x1p31) continue;
    tries++;
    for (int i = 0; i < SHIFT_NEAR; i++) {
      int64_t m = (int64_t)near + (i % 2 ? 1 : -1) * ((i + 1) / 2), lo, hi;
      if (!whole_summands(c, m, &lo, &hi)) continue;
      c->mul = (double)m;
      c->add = (double)(lo + (hi - lo) / 2);
      if (holds(c)) return true;
    }
  }
  return false;
}

static bool channel_find(const RequantProblem *p, int64_t i, Channel *c) {
  if (c->b->n == 0) return constant_form(c);
  double best = best_factor(c);
  if (c->form == REQUANT_SHIFT) return shift_form(c, best);
  if (p->mul != NULL && written_form(c, p->mul[i], p->add[i])) return true;
  return fitted_form(c, best);
}

static bool find_as(const RequantProblem *p, Requant *out) {
  out->boundaries = 0;
  for (int64_t i = 0; i < p->channels; i++) {
    Channel c = {.b = &p->b[i], .low = p->low[i], .high = p->high[i], .zero = out->zero, .form = out->form};
    c.shift = out->shifted ? p->shift[i] : 0;
    if (!channel_find(p, i, &c)) return false;
    out->mul[i] = c.mul;
    out->mul_low[i] = c.mul_low;
    out->add[i] = c.add;
    out->right[i] = c.right;
    out->boundaries += c.b->n;
  }
  return true;
}

bool requant_find(const RequantProblem *p, Arena *arena, Requant *out) {
  *out = (Requant){.low = p->low, .high = p->high};
  out->mul = NEW_ARRAY(arena, double, p->channels);
  out->mul_low = NEW_ARRAY(arena, double, p->channels);
  out->add = NEW_ARRAY(arena, double, p->channels);
  out->right = NEW_ARRAY(arena, int64_t, p->channels);
  for (int form = 0; form < REQUANT_FORMS; form++) {
    if (!(p->forms >> form & 1)) continue;
    out->form = (RequantForm)form;
    for (int i = 0; i < 4; i++) {
      // The zero point inside of the summand costs nothing, but may turn ties around.
      bool outside = i % 2 == 1;
      out->shifted = i < 2;
      out->zero = outside ? p->zero : 0;
      if ((out->shifted && p->shift == NULL) || (outside && (p->zero == 0 || form == REQUANT_SHIFT))) continue;
      if (find_as(p, out)) return true;
    }
  }
  return false;
}
