// Grids: symmetric, affine and minmax (S49).
//
//   symmetric   s k            k = -(2^(b-1) - 1) .. 2^(b-1) - 1, s = max|w| / (2^(b-1) - 1)
//   affine      s (q - z)      q = -2^(b-1) .. 2^(b-1) - 1, s the least with which both ends are reached and 0 is a
//   level minmax      lo + a q / n   q = 0 .. n = 2^b - 1, a = max - min: 0 is no level in general
//
// No error is more than half a step. With `clip` the range is cut to the part of it that loses least by squares.
#include <math.h>

#include "passes/quantize/weights.h"

static void range_of(const WeightGroup *g, double *lo, double *hi) {
  *lo = *hi = (double)g->w[0];
  for (int64_t i = 1; i < g->n; i++) {
    *lo = fmin(*lo, (double)g->w[i]);
    *hi = fmax(*hi, (double)g->w[i]);
  }
}

// The nearest integer in lo .. hi of each weight by an even step; what is lost by squares.
static double grid_codes(WeightGroup *g, double scale, int32_t lo, int32_t hi, int32_t zero, bool store) {
  double sum = 0, s = scale > 0 ? (double)(float)scale : 1;
  for (int64_t i = 0; i < g->n; i++) {
    double k = fmin(fmax(nearbyint((double)g->w[i] / s) + zero, lo), hi);
    if (store) g->code[i] = (uint16_t)((int32_t)k - lo);
    sum += pow((double)g->w[i] - s * (k - zero), 2);
  }
  return sum;
}

// A step of a range, rounded up to a float where that keeps its ends inside.
typedef struct Range {
  WeightGroup *g;
  double low, high;  // low <= 0 <= high
  int32_t lo, hi;    // integers
  double scale;      // for `part`
  int32_t zero;
} Range;

static void range_settle(Range *r, double part) {
  double low = r->low * part, high = r->high * part, steps = r->hi - r->lo, z = 0;
  if (high > low) z = nearbyint(-low / (high - low) * steps);
  r->zero = (int32_t)z + r->lo;
  r->scale = fmax(z > 0 ? -low / z : 0, steps > z ? high / (steps - z) : 0);
  if ((double)(float)r->scale < r->scale) r->scale = (double)nextafterf((float)r->scale, INFINITY);
}

static double range_error2(void *ctx, double part) {
  Range *r = ctx;
  range_settle(r, part);
  return grid_codes(r->g, r->scale, r->lo, r->hi, r->zero, false);
}

static bool fit_range(Range *r, bool clip, Arena *arena) {
  range_settle(r, clip ? group_best_part(range_error2, r) : 1);
  grid_codes(r->g, r->scale, r->lo, r->hi, r->zero, true);
  group_grid(r->g, r->scale, r->lo, 1, (uint32_t)(r->hi - r->lo + 1), r->zero, arena);
  return true;
}

bool weight_symmetric(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  double low, high;
  range_of(g, &low, &high);
  int32_t most = (1 << (s->bits - 1)) - 1;
  Range r = {.g = g, .lo = -most, .hi = most, .high = fmax(-low, high)};
  r.low = -r.high;
  return fit_range(&r, s->clip, arena);
}

bool weight_affine(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  Range r = {.g = g, .lo = -(1 << (s->bits - 1)), .hi = (1 << (s->bits - 1)) - 1};
  range_of(g, &r.low, &r.high);
  r.low = fmin(r.low, 0);
  r.high = fmax(r.high, 0);
  return fit_range(&r, s->clip, arena);
}

bool weight_minmax(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  double low, high, n = (double)((1U << s->bits) - 1);
  range_of(g, &low, &high);
  g->n_book = high > low ? (uint32_t)n + 1 : 1;
  g->book = NEW_ARRAY(arena, float, g->n_book);
  for (uint32_t k = 0; k < g->n_book; k++) g->book[k] = (float)(low + (high - low) * k / n);
  group_assign(g);
  return true;
}
