// Powers of two (S18): 0 and +-2^e for 2^(b-1) - 1 neighbouring exponents, rounded in the logarithm.
//
//   |w| between levels goes up from sqrt(2) 2^e on; above the largest level it is that level; below the smallest one it
//   goes to the nearer of it and 0.
//
// The largest exponent is the one that loses least by squares.
#include <math.h>

#include "passes/quantize/weights.h"

#define ROOT_HALF 0.70710678118654752440
enum { LEAST = -120, CANDIDATES = 5 };

// 0 for no level, else the place 1 .. n of the exponent from `top - n + 1` to `top`.
static int32_t place_of(float w, int32_t top, int32_t n) {
  int e;
  double m = frexp(fabs((double)w), &e);
  if (m == 0) return 0;
  int32_t rounded = m >= ROOT_HALF ? e : e - 1, least = top - n + 1;
  if (rounded >= top) return n;
  if (rounded >= least) return rounded - least + 1;
  return fabs((double)w) > ldexp(1, least - 1) ? 1 : 0;
}

static double level_of(int32_t place, int32_t top, int32_t n) { return place > 0 ? ldexp(1, top - n + place) : 0; }

static double lost(const WeightGroup *g, int32_t top, int32_t n) {
  double sum = 0;
  for (int64_t i = 0; i < g->n; i++) sum += pow(fabs((double)g->w[i]) - level_of(place_of(g->w[i], top, n), top, n), 2);
  return sum;
}

bool weight_log(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  int32_t n = (1 << (s->bits - 1)) - 1, best = 0;
  double most = 0, least = INFINITY;
  for (int64_t i = 0; i < g->n; i++) most = fmax(most, fabs((double)g->w[i]));
  int32_t top = most > 0 ? ilogb(most) + 1 : 0;
  if (top - n < LEAST) n = top - LEAST > 1 ? top - LEAST : 1;
  for (int32_t i = 0; i < CANDIDATES; i++) {
    double e = lost(g, top - i, n);
    if (e >= least) continue;
    least = e;
    best = top - i;
  }
  g->n_book = 2 * (uint32_t)n + 1;
  g->book = NEW_ARRAY(arena, float, g->n_book);
  for (int32_t k = -n; k <= n; k++) g->book[k + n] = (float)copysign(level_of(k < 0 ? -k : k, best, n), k);
  g->book[n] = 0;
  for (int64_t i = 0; i < g->n; i++) {
    int32_t place = place_of(g->w[i], best, n);
    g->code[i] = (uint16_t)(g->w[i] < 0 ? n - place : n + place);
  }
  return true;
}
