// Lattice fits by intersection of intervals. See grid.h.
//
//   {-1.0, 0.0, 0.5, 0.25}            -> scale 0.25, k = {-4, 0, 2, 1}
//   {0.33333334, 0.6666667, 1.0}      -> scale 1/3, k = {1, 2, 3}
//   {0.33333334, 0.6666667, 1.0000001} -> none: one unit in the last place off
//
// Number v of step k says that the scale lies within half a unit in the last place of v, over k. The smallest number
// is step j = 1, 2, 3, ... in turn; a j counts when the intervals of all numbers meet. A scale out of the common
// interval is then tried until every number comes back bit for bit. Scales with few digits are preferred: powers of
// two keep sums exact, and 1 / n or a scale that is itself an f32 is the one the network was made with.
#include "passes/recover/grid.h"

#include <math.h>

typedef struct Range {
  double lo, hi;
} Range;

static float dorefa_level(int64_t j, int64_t n) { return 2.0f * ((float)j / (float)n) - 1.0f; }

float grid_value(const Grid *g, int64_t k) {
  if (g->form == GRID_PLAIN) return (float)(g->scale * (double)k);
  int64_t step = g->form == GRID_DOREFA ? k : -k;
  float v = (float)(g->scale * (double)g->n * (double)dorefa_level((step + g->n) / 2, g->n));
  return g->form == GRID_DOREFA ? v : -v;
}

// The numbers that round to the f32 |v|, ends included.
static Range rounding(double v) {
  float f = fabsf((float)v);
  double up = (double)nextafterf(f, INFINITY), down = (double)nextafterf(f, 0);
  if (isinf(up)) up = 2 * (double)f - down;
  return (Range){((double)f + down) / 2, ((double)f + up) / 2};
}

static bool meets(Range *r, Range with) {
  r->lo = fmax(r->lo, with.lo);
  r->hi = fmin(r->hi, with.hi);
  return r->lo <= r->hi;
}

// Every number has its step and comes back; fills in k.
static bool holds(uint32_t n, const double *v, const Range *limit, const Grid *g, int64_t *k) {
  for (uint32_t i = 0; i < n; i++) {
    double step = rint(v[i] / g->scale);
    if (!(step >= limit->lo && step <= limit->hi)) return false;
    k[i] = (int64_t)step;
    if ((double)grid_value(g, k[i]) != v[i]) return false;
  }
  return true;
}

// The number of the interval with the fewest binary digits.
static double simplest(Range r) {
  int e;
  frexp(r.hi, &e);
  for (int digits = 1; digits < 53; digits++) {
    double unit = ldexp(1, e - digits), x = floor(r.hi / unit) * unit;
    if (x >= r.lo && x > 0) return x;
  }
  return (r.lo + r.hi) / 2;
}

// Tries the scales of an interval, the best first.
static bool settle(uint32_t n, const double *v, const Range *limit, Range r, Grid *g, int64_t *k) {
  double middle = (r.lo + r.hi) / 2, whole = rint(1 / middle);
  bool inverse = whole >= 2 && whole <= 4096 && 1 / whole >= r.lo && 1 / whole <= r.hi;
  double tries[4] = {inverse ? 1 / whole : simplest(r), middle, r.lo, r.hi};
  for (int i = 0; i < 4; i++) {
    g->scale = tries[i];
    if (g->scale > 0 && isfinite(g->scale) && holds(n, v, limit, g, k)) return true;
  }
  return false;
}

// The smallest number is step j: what all numbers say about the scale.
static bool common(uint32_t n, const double *v, const Range *limit, double least, int64_t j, Range *r) {
  *r = rounding(least);
  r->lo /= (double)j;
  r->hi /= (double)j;
  for (uint32_t i = 0; i < n; i++) {
    if (v[i] == 0) continue;
    double step = rint(fabs(v[i]) / ((r->lo + r->hi) / 2));
    if (step < 1 || step > (v[i] < 0 ? -limit->lo : limit->hi)) return false;
    Range with = rounding(v[i]);
    if (!meets(r, (Range){with.lo / step, with.hi / step})) return false;
  }
  return true;
}

static bool extremes(uint32_t n, const double *v, double *least, double *most) {
  *least = INFINITY;
  *most = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (!isfinite(v[i]) || (double)(float)v[i] != v[i]) return false;
    if (v[i] != 0) *least = fmin(*least, fabs(v[i]));
    *most = fmax(*most, fabs(v[i]));
  }
  return true;
}

bool grid_fit(uint32_t n, const double *v, int64_t lo, int64_t hi, Grid *g, int64_t *k) {
  double least, most;
  *g = (Grid){.scale = 1};
  if (n > GRID_MAX || !extremes(n, v, &least, &most)) return false;
  for (uint32_t i = 0; i < n; i++) k[i] = 0;
  if (most == 0) return true;
  Range limit = {(double)lo, (double)hi}, r;
  double steps = fmax(-limit.lo, limit.hi) + 1;
  for (int64_t j = 1; (double)j <= steps * (least / most); j++)
    if (common(n, v, &limit, least, j, &r) && settle(n, v, &limit, r, g, k)) return true;
  return false;
}

// v = f32(a t) with t the level of each number when the largest is step `top`: the interval of a.
static bool dorefa_range(uint32_t n, const double *v, double sign, double unit, int64_t levels, Range *r) {
  *r = (Range){0, INFINITY};
  for (uint32_t i = 0; i < n; i++) {
    double j = rint((sign * v[i] / unit + (double)levels) / 2), t = (double)dorefa_level((int64_t)j, levels);
    if (j < 0 || j > (double)levels || t * sign * v[i] <= 0) return false;
    Range with = rounding(v[i]);
    if (!meets(r, (Range){with.lo / fabs(t), with.hi / fabs(t)})) return false;
  }
  return true;
}

static bool fit_dorefa(uint32_t n, const double *v, GridForm form, double most, int64_t levels, int64_t top, Grid *g,
                       int64_t *k) {
  Range r, limit = {-(double)levels, (double)levels};
  double sign = form == GRID_DOREFA ? 1 : -1;
  if (!dorefa_range(n, v, sign, most / (double)top, levels, &r)) return false;
  *g = (Grid){.form = form, .n = levels};
  double tries[4] = {simplest(r), (r.lo + r.hi) / 2, r.lo, r.hi};
  for (int i = 0; i < 4; i++) {
    g->scale = tries[i] / (double)levels;
    bool odd = g->scale > 0 && isfinite(g->scale) && holds(n, v, &limit, g, k);
    for (uint32_t c = 0; odd && c < n; c++) odd = (k[c] + levels) % 2 == 0;
    if (odd) return true;
  }
  return false;
}

bool grid_fit_weights(uint32_t n, const double *v, int64_t lo, int64_t hi, Grid *g, int64_t *k) {
  double least, most;
  if (grid_fit(n, v, lo, hi, g, k)) return true;
  if (n < 3 || !extremes(n, v, &least, &most)) return false;
  for (int64_t levels = 3; levels <= hi && levels <= -lo; levels = 2 * levels + 1)
    for (int64_t top = levels; top > 0; top -= 2)
      if (fit_dorefa(n, v, GRID_DOREFA, most, levels, top, g, k) ||
          fit_dorefa(n, v, GRID_MIRRORED, most, levels, top, g, k))
        return true;
  return false;
}
