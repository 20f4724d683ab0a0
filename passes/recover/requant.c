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
enum { WIDE_LEAST = 32, WIDE_MOST = 51 };  // shifts of the wide form
#define WIDE_FACTOR 0x1p40                 // its factors, of bytes say, stay below

// One channel's problem and a candidate for it.
typedef struct Channel {
  const Boundaries *b;  // [n_other]
  int64_t n_other, other_lo;
  bool has_other, falls;
  int64_t passed;  // boundaries of all
  int64_t low, high, zero, shift;
  RequantForm form;
  double factor_limit;  // of the whole forms
  double mul, mul_low, other, add;
  int64_t right;
} Channel;

static bool is_whole(RequantForm f) { return f == REQUANT_SHIFT || f == REQUANT_WIDE; }
static DType type_of_form(RequantForm f) { return f == REQUANT_F64 || f == REQUANT_WHOLE ? DT_F64 : DT_F32; }

// ---- meaning

// How a target may round: every operation by itself, or products fused into the sums they go to; with two products and
// no summand either may be the one that is fused.
enum { FUSE_OUTER = 1, FUSE_INNER = 2, FUSE_OTHER = 4 };

static double multiply_add(DType t, double x, double m, double a, bool fused) {
  if (t == DT_F64) return fused ? fma(x, m, a) : x * m + a;
  if (fused) return (double)fmaf((float)x, (float)m, (float)a);
  float product = (float)x * (float)m;
  return (double)(product + (float)a);
}

static double float_form(const Channel *c, double x, double y, unsigned fused) {
  DType t = type_of_form(c->form);
  double by = c->has_other ? y : x, inner = c->has_other ? c->other : c->mul_low;
  if (!c->has_other && c->form != REQUANT_SPLIT) return multiply_add(t, x, c->mul, c->add, fused & FUSE_OUTER);
  if (fused & FUSE_OTHER) return multiply_add(t, by, inner, elem_round(t, x * c->mul), true);
  return multiply_add(t, x, c->mul, multiply_add(t, by, inner, c->add, fused & FUSE_INNER), fused & FUSE_OUTER);
}

static unsigned n_ways(const Channel *c) {
  if (is_whole(c->form)) return 1;
  if (c->form != REQUANT_SPLIT && !c->has_other) return 2;
  return c->add == 0 ? 5 : 4;
}

static int64_t level_at(const Channel *c, int64_t sum, int64_t other, unsigned fused) {
  if (is_whole(c->form)) {
    int64_t q = (sum + c->shift) * (int64_t)c->mul + other * (int64_t)c->other + (int64_t)c->add;
    q >>= c->right;
    return q < c->low ? c->low : q > c->high ? c->high : q;
  }
  double x = elem_round(type_of_form(c->form), (double)(sum + c->shift));
  if (c->form == REQUANT_WHOLE) {
    double level = multiply_add(DT_F64, x, c->mul, c->add + REQUANT_ROUNDER, fused & FUSE_OUTER) - REQUANT_ROUNDER;
    return level<(double)c->low ? c->low : level>(double) c->high ? c->high : (int64_t)level;
  }
  double v = nearbyint(float_form(c, x, (double)other, fused)) + (double)c->zero;
  return v<(double)c->low ? c->low : v>(double) c->high ? c->high : (int64_t)v;
}

const char *requant_text(const Requant *r) {
  switch (r->form) {
    case REQUANT_SHIFT: return "one i32 factor and shift per channel";
    case REQUANT_WIDE: return "one i32 factor, sum of 64 bits and shift per channel";
    case REQUANT_F32: return "one f32 factor per channel";
    case REQUANT_SPLIT: return "one f32 factor in two parts per channel";
    case REQUANT_WHOLE: return "one f64 factor and a whole number per channel";
    default: return "one f64 factor per channel";
  }
}

// ---- proof

// Is the level at a sum `passed` levels away from the first one or, by sign, at least (1) or less than (-1) that?
static bool passes_at(const Channel *c, int64_t j, int64_t sum, int64_t passed, int sign) {
  for (unsigned way = 0, n = n_ways(c); way < n; way++) {
    int64_t got = level_at(c, sum, c->other_lo + j, way) - c->b[j].first;
    if (c->falls) got = -got;
    if (sign == 0 ? got != passed : sign > 0 ? got < passed : got >= passed) return false;
  }
  return true;
}

// What products and sums of the whole forms stay below; with 52 bits a double holds them.
static double whole_limit(const Channel *c) { return c->form == REQUANT_WIDE ? 0x1p52 : 0x1p31; }

// No product or sum of the whole forms passes their limit, in whatever order they are taken.
static bool shift_fits(const Channel *c) {
  double a = fmax(fabs((double)(c->b->lo + c->shift)), fabs((double)(c->b->hi + c->shift))) * fabs(c->mul);
  double y = c->has_other ? fmax(fabs((double)c->other_lo), fabs((double)(c->other_lo + c->n_other - 1))) : 0;
  double other = y * fabs(c->other), ends[2] = {0, 0};
  double most = whole_limit(c);
  if (fabs(c->mul) >= c->factor_limit || fabs(c->other) >= c->factor_limit || fabs(c->add) >= most || a >= most)
    return false;
  for (int i = 0; i < 2; i++) {
    ends[i] = fabs((double)((i ? c->b->hi : c->b->lo) + c->shift) * c->mul + c->add);
    if (ends[i] + other >= most) return false;
  }
  return a + other < most && other + fabs(c->add) < most;
}

static bool holds_for(const Channel *c, int64_t j) {
  const Boundaries *b = &c->b[j];
  if (!passes_at(c, j, b->lo, 0, 0) || !passes_at(c, j, b->hi, b->n, 0)) return false;
  for (int64_t k = 0; k < b->n; k++)
    if (!passes_at(c, j, b->at[k], k + 1, 1) || !passes_at(c, j, b->at[k] - 1, k + 1, -1)) return false;
  return true;
}

static bool holds(const Channel *c) {
  if (!isfinite(c->mul) || !isfinite(c->add) || (c->falls ? c->mul > 0 : c->mul < 0)) return false;
  if (c->form == REQUANT_SPLIT && c->mul * c->mul_low < 0) return false;  // both parts go the same way
  if (is_whole(c->form) && !shift_fits(c)) return false;
  for (int64_t j = 0; j < c->n_other; j++)
    if (!holds_for(c, j)) return false;
  return true;
}

// ---- candidates

// What a sum at boundary k must reach (rising) or come down to (falling) before rounding, without the second integer.
static double half_of(const Channel *c, int64_t j, int64_t k) {
  double passed = (double)(c->falls ? -k - 1 : k + 1);
  double level = (double)(c->b[j].first - c->zero) + passed + (c->falls ? 0.5 : -0.5);
  return level - c->other * (double)(c->other_lo + j);
}

// What lies beyond the ends of the range is no boundary, but the level there must not be passed either, unless it is a
// limit: k = -1 at lo, k = n at hi.
static bool is_open_end(const Channel *c, const Boundaries *b, bool at_hi) {
  int64_t level = at_hi ? b->first + (c->falls ? -b->n : b->n) : b->first;
  return level != (at_hi == c->falls ? c->low : c->high);
}

// The summands that keep every boundary in place with this factor: [*lo, *hi]. Returns the length, negative for none.
static double summands(const Channel *c, double mul, double *lo, double *hi) {
  *lo = -INFINITY;
  *hi = INFINITY;
  for (int64_t j = 0; j < c->n_other; j++) {
    for (int64_t k = 0; k < c->b[j].n; k++) {
      double half = half_of(c, j, k), x = (double)(c->b[j].at[k] + c->shift);
      double past = half - mul * x, before = half - mul * (x - 1);
      *lo = fmax(*lo, c->falls ? before : past);
      *hi = fmin(*hi, c->falls ? past : before);
    }
    const Boundaries *b = &c->b[j];
    double first = half_of(c, j, -1) - mul * (double)(b->lo + c->shift);
    double last = half_of(c, j, b->n) - mul * (double)(b->hi + c->shift);
    if (is_open_end(c, b, false)) *(c->falls ? hi : lo) = c->falls ? fmin(*hi, first) : fmax(*lo, first);
    if (is_open_end(c, b, true)) *(c->falls ? lo : hi) = c->falls ? fmax(*lo, last) : fmin(*hi, last);
  }
  return *hi - *lo;
}

// A factor that no boundary list allows to be passed.
static double steepest(const Channel *c) {
  double most = INFINITY;
  for (int64_t j = 0; j < c->n_other; j++) {
    const Boundaries *b = &c->b[j];
    if (b->n > 1) most = fmin(most, 2 * ((double)b->n + 1) / fmax(1, (double)(b->at[b->n - 1] - b->at[0] - 1)));
  }
  return isfinite(most) ? most : 1;
}

// The factor with the longest interval.
static double best_factor(const Channel *c) {
  double from = 0, to = steepest(c), unused[2];
  if (c->falls) from = -to, to = 0;
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
  c->mul = c->mul_low = c->other = 0;
  c->right = c->form == REQUANT_WIDE ? WIDE_LEAST : 0;
  c->add = ldexp((double)(c->b->first - c->zero), (int)c->right);
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
  DType t = type_of_form(c->form);
  double lo, hi;
  for (int i = 0; i < NEAR_BEST; i++) {
    if (c->form == REQUANT_SPLIT) {
      set_factor(c, best * (1 + ((i % 2) ? 1 : -1) * (double)((i + 1) / 2) * 0x1p-28));
    } else {
      set_factor(c, neighbour(t, elem_round(t, best), i));
    }
    double mul = c->mul + (c->form == REQUANT_SPLIT ? c->mul_low : 0);
    if (summands(c, mul, &lo, &hi) > 0 && try_summands(c, lo, hi)) return true;
  }
  return false;
}

// At a sum, what is added must bring the level to at least `level` (reach) or keep it below.
static void bound_summand(const Channel *c, int64_t m, int64_t part, int64_t sum, int64_t level, bool reach,
                          int64_t *lo, int64_t *hi) {
  int64_t limit = level * (INT64_C(1) << c->right) - m * (sum + c->shift) - part;
  if (reach && limit > *lo) *lo = limit;
  if (!reach && limit - 1 < *hi) *hi = limit - 1;
}

// The summands that keep every boundary of (a * m + y * o + b) >> right in place, an interval of whole numbers.
static bool whole_summands(const Channel *c, int64_t m, int64_t *lo, int64_t *hi) {
  *lo = -INT64_MAX;
  *hi = INT64_MAX;
  for (int64_t j = 0; j < c->n_other; j++) {
    const Boundaries *b = &c->b[j];
    int64_t part = (c->other_lo + j) * (int64_t)c->other;
    for (int64_t k = 0; k < b->n; k++) {
      // Rising: `at` reaches the level and at - 1 does not; falling: at - 1 is the last that does.
      int64_t level = b->first + (c->falls ? -k : k + 1);
      bound_summand(c, m, part, b->at[k] - (c->falls ? 1 : 0), level, true, lo, hi);
      bound_summand(c, m, part, b->at[k] - (c->falls ? 0 : 1), level, false, lo, hi);
    }
    int64_t last = b->first + (c->falls ? -b->n : b->n);
    if (is_open_end(c, b, false)) bound_summand(c, m, part, b->lo, b->first + c->falls, !c->falls, lo, hi);
    if (is_open_end(c, b, true)) bound_summand(c, m, part, b->hi, last + !c->falls, c->falls, lo, hi);
  }
  return *lo <= *hi;
}

static bool shift_form(Channel *c, double best, double other) {
  double most = fmax(fabs((double)(c->b->lo + c->shift)), fabs((double)(c->b->hi + c->shift)));
  int64_t least = c->form == REQUANT_WIDE ? WIDE_LEAST : 0;
  c->right = c->form == REQUANT_WIDE ? WIDE_MOST : SHIFT_MOST;
  for (int tries = 0; tries < SHIFT_TRIES && c->right >= least; c->right--) {
    double near = rint(ldexp(best, (int)c->right));
    c->other = rint(ldexp(other, (int)c->right));
    bool fits = fabs(near) < c->factor_limit && fabs(c->other) < c->factor_limit;
    if (!fits || fabs(near) * most >= whole_limit(c)) continue;
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

// m with s * m >= h narrows [*lo, *hi]; with s * m <= h where it comes down.
static void bound_factor(int64_t s, double h, bool down, double *lo, double *hi) {
  bool most = down == (s > 0);
  if (s == 0) {
    if (down ? h < 0 : h > 0) *lo = INFINITY;
  } else if (most) {
    *hi = fmin(*hi, h / (double)s);
  } else {
    *lo = fmax(*lo, h / (double)s);
  }
}

// The factors that keep every boundary in place with the summand c->add: [*lo, *hi].
static bool factors(const Channel *c, double *lo, double *hi) {
  const Boundaries *b = c->b;
  *lo = -INFINITY;
  *hi = INFINITY;
  for (int64_t k = 0; k < b->n; k++) {
    double half = half_of(c, 0, k) - c->add;
    bound_factor(b->at[k] + c->shift, half, c->falls, lo, hi);
    bound_factor(b->at[k] - 1 + c->shift, half, !c->falls, lo, hi);
  }
  if (is_open_end(c, b, false)) bound_factor(b->lo + c->shift, half_of(c, 0, -1) - c->add, c->falls, lo, hi);
  if (is_open_end(c, b, true)) bound_factor(b->hi + c->shift, half_of(c, 0, b->n) - c->add, !c->falls, lo, hi);
  return *lo <= *hi && isfinite(*lo) && isfinite(*hi);
}

// No level passes 31 bits, so that a low word holds it.
static bool word_holds(const Channel *c, double mul) {
  double most = fmax(fabs((double)(c->b->lo + c->shift)), fabs((double)(c->b->hi + c->shift)));
  return most * fabs(mul) + fabs(c->add) < 0x1p31 - 1;
}

static bool whole_form(Channel *c, double mul, double add) {
  double lo, hi;
  c->add = rint(add - mul * (double)c->shift);
  if (!factors(c, &lo, &hi) || !word_holds(c, fmax(fabs(lo), fabs(hi)))) return false;
  double middle = lo / 2 + hi / 2;
  for (int i = 0; i < NEAR_WRITTEN; i++) {
    c->mul = i == 0 && mul >= lo && mul <= hi ? mul : neighbour(DT_F64, middle, i);
    if (holds(c)) return true;
  }
  return false;
}

static bool channel_find(const RequantProblem *p, int64_t i, Channel *c) {
  if (c->passed == 0 && c->n_other == 1) return constant_form(c);
  if (c->form == REQUANT_WHOLE) return p->mul != NULL && whole_form(c, p->mul[i], p->add[i]);
  double other = c->has_other ? p->other_mul[i] : 0;
  c->other = other;
  if (is_whole(c->form)) return shift_form(c, best_factor(c), other);
  c->other = elem_round(type_of_form(c->form), other);
  if (p->mul != NULL && written_form(c, p->mul[i], p->add[i])) return true;
  return fitted_form(c, best_factor(c));
}

static Channel channel_of(const RequantProblem *p, const Requant *r, double factor_limit, int64_t i) {
  Channel c = {.low = p->low[i], .high = p->high[i], .zero = r->zero, .form = r->form, .factor_limit = factor_limit};
  c.has_other = p->n_other > 0;
  c.n_other = c.has_other ? p->n_other : 1;
  c.other_lo = p->other_lo;
  c.b = &p->b[i * c.n_other];
  c.shift = r->shifted ? p->shift[i] : 0;
  for (int64_t j = 0; j < c.n_other; j++) {
    c.passed += c.b[j].n;
    c.falls = c.falls || c.b[j].falls;
  }
  return c;
}

static bool find_below(const RequantProblem *p, double factor_limit, Requant *out) {
  out->boundaries = 0;
  out->word = true;
  for (int64_t i = 0; i < p->channels; i++) {
    Channel c = channel_of(p, out, factor_limit, i);
    if (!channel_find(p, i, &c)) return false;
    out->mul[i] = c.mul;
    out->mul_low[i] = c.mul_low;
    out->add[i] = c.add;
    out->right[i] = c.right;
    out->word = out->word && !c.has_other && word_holds(&c, c.mul);
    if (c.has_other) out->other_mul[i] = c.other;
    out->boundaries += c.passed;
  }
  return true;
}

// Factors of one word first, which multiply words.
static bool find_as(const RequantProblem *p, Requant *out) {
  return find_below(p, 0x1p31, out) || (out->form == REQUANT_WIDE && find_below(p, WIDE_FACTOR, out));
}

// The forms by price.
static const RequantForm *order_for(const Target *t) {
  static const RequantForm usual[REQUANT_FORMS] = {REQUANT_SHIFT, REQUANT_F32,   REQUANT_SPLIT,
                                                   REQUANT_WIDE,  REQUANT_WHOLE, REQUANT_F64};
  static const RequantForm no_float[REQUANT_FORMS] = {REQUANT_SHIFT, REQUANT_WIDE,  REQUANT_F32,
                                                      REQUANT_SPLIT, REQUANT_WHOLE, REQUANT_F64};
  return t != NULL && t->no_float ? no_float : usual;
}

bool requant_find(const RequantProblem *p, Arena *arena, Requant *out) {
  *out = (Requant){.low = p->low, .high = p->high};
  out->mul = NEW_ARRAY(arena, double, p->channels);
  out->mul_low = NEW_ARRAY(arena, double, p->channels);
  out->add = NEW_ARRAY(arena, double, p->channels);
  out->right = NEW_ARRAY(arena, int64_t, p->channels);
  if (p->n_other > 0) out->other_mul = NEW_ARRAY(arena, double, p->channels);
  const RequantForm *order = order_for(p->target);
  for (int at = 0; at < REQUANT_FORMS; at++) {
    RequantForm form = order[at];
    bool one = form == REQUANT_SPLIT || form == REQUANT_WHOLE;
    bool wanted = (p->forms >> form & 1) || (form == REQUANT_WIDE && p->target != NULL && p->target->no_double);
    if (!wanted || (one && p->n_other > 0)) continue;
    out->form = form;
    for (int i = 0; i < 4; i++) {
      // The zero point inside of the summand costs nothing, but may turn ties around.
      bool outside = i % 2 == 1;
      out->shifted = i < 2;
      out->zero = outside ? p->zero : 0;
      bool inside = is_whole(form) || form == REQUANT_WHOLE;
      if ((out->shifted && p->shift == NULL) || (outside && (p->zero == 0 || inside))) continue;
      if (find_as(p, out)) return true;
    }
  }
  return false;
}
