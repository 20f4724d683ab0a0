// Levels of a Laplacian put on weights (S63): a +- b L_i.
//
// laplace1: L_i = ln(N / (N - 2i)), the published levels for absolute errors: even quantiles of a Laplacian, the
// outermost ln N; many of them lose least at twice its scale.
//
// laplace2: a level is the mean of its cell. What lies behind any point of an exponential is the same exponential
// again, so they are found from the outside in, one cell after another: behind the last threshold the mean is 1
// further, and a cell that reaches d above its level begins where the mean of the cell is its level.
//
// a is the mean of the weights, b the scale at which they lose least by the measure.
#include "passes/quantize/weight_laplace.h"

#include <math.h>

#include "passes/quantize/weights.h"

enum { SAMPLE = 1 << 14, HALVINGS = 60 };

void laplace_absolute(uint32_t n, double *level) {
  for (uint32_t i = 0; i <= n / 2; i++) {
    double l = log((double)n / (double)(n - 2 * i));
    level[n / 2 + i] = l;
    level[n / 2 - i] = -l;
  }
}

// The distance from the lower threshold of a cell to its level when the level lies d below the upper one: the mean of
// an exponential cut off at width x is 1 - x / (e^x - 1), and has to be x - d.
static double below_level(double d) {
  double lo = d, hi = d + 1;
  for (int i = 0; i < HALVINGS; i++) {
    double x = (lo + hi) / 2;
    if (1 - x / expm1(x) > x - d) {
      lo = x;
    } else {
      hi = x;
    }
  }
  return (lo + hi) / 2 - d;
}

void laplace_squares(uint32_t n, double *level) {
  uint32_t half = n / 2;
  double d = 1;  // from threshold to level, of the outermost cell; gaps between levels are twice that
  for (uint32_t i = half; i-- > 0; d = below_level(d)) level[n - half + i] = d;
  // level[n - half + i] holds the half gap below level i; they add up from the middle.
  double at = n % 2 == 1 ? 0 : -level[half];
  for (uint32_t i = 0; i < half; i++) {
    at += 2 * level[n - half + i];
    level[n - half + i] = at;
    level[half - 1 - i] = -at;
  }
  if (n % 2 == 1) level[half] = 0;
}

typedef struct Scaled {
  int64_t n;
  const float *v;  // a sample, ascending
  double mean, most;
  uint32_t levels;
  const double *unit;
  bool squares;
} Scaled;

static double scaled_loss(void *ctx, double part) {
  const Scaled *s = ctx;
  double b = s->most / s->unit[s->levels - 1] * part, sum = 0;
  uint32_t k = 0;
  for (int64_t i = 0; i < s->n; i++) {
    double w = (double)s->v[i] - s->mean;
    while (k + 1 < s->levels && w > b * (s->unit[k] + s->unit[k + 1]) / 2) k++;
    double e = fabs(w - b * s->unit[k]);
    sum += s->squares ? e * e : e;
  }
  return sum;
}

static double own_mean(const WeightGroup *g) {
  double sum = 0;
  for (int64_t i = 0; i < g->n; i++) sum += (double)g->w[i];
  return sum / (double)g->n;
}

static bool laplace(WeightGroup *g, uint32_t levels, bool squares, Arena *arena) {
  double *unit = NEW_ARRAY(arena, double, levels);
  (squares ? laplace_squares : laplace_absolute)(levels, unit);
  float *v = group_sorted(g, arena);
  Scaled s = {.n = g->n < SAMPLE ? g->n : SAMPLE, .v = v, .levels = levels, .unit = unit, .squares = squares};
  s.mean = own_mean(g);
  s.most = fmax((double)v[g->n - 1] - s.mean, s.mean - (double)v[0]);
  for (int64_t i = 0; i < s.n; i++) v[i] = v[(2 * i + 1) * g->n / (2 * s.n)];
  double b = s.most > 0 ? s.most / unit[levels - 1] * group_best_part(scaled_loss, &s) : 0;
  g->n_book = b > 0 ? levels : 1;
  g->book = NEW_ARRAY(arena, float, g->n_book);
  for (uint32_t k = 0; k < g->n_book; k++) g->book[k] = (float)(s.mean + (b > 0 ? b * unit[k] : 0));
  group_assign(g);
  return true;
}

bool weight_laplace1(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  return laplace(g, s->levels - 1 + s->levels % 2, false, arena);
}

bool weight_laplace2(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  return laplace(g, s->levels, true, arena);
}
