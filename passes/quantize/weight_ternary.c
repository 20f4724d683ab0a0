// Three values and two: -a, 0, a and -a, a.
//
// Least squares of a T with T of -1, 0, 1: the k largest magnitudes are not 0, a is their mean, and what is kept of the
// squares is (sum of them)^2 / k. That is convex in k among equal magnitudes, so a best k takes all of them or none,
// and one walk over the sorted magnitudes finds it (S08). The published rule takes those above 0.7 mean |w|.
//
// -a, a: a = mean |w| and the sign, which is +1 at 0; what is lost is n times the variance of |w| (S12).
#include <math.h>

#include "passes/quantize/weights.h"

static float *magnitudes(const WeightGroup *g, Arena *arena) {
  float *v = NEW_ARRAY(arena, float, g->n);
  for (int64_t i = 0; i < g->n; i++) v[i] = fabsf(g->w[i]);
  return v;
}

// Weights of at least (`strict`: more than) that magnitude are not 0.
static bool ternary_at(WeightGroup *g, double threshold, bool strict, Arena *arena) {
  double sum = 0;
  int64_t k = 0;
  for (int64_t i = 0; i < g->n; i++) {
    double a = fabs((double)g->w[i]);
    bool some = strict ? a > threshold : a >= threshold && a > 0;
    g->code[i] = !some ? 1 : g->w[i] > 0 ? 2 : 0;
    sum += some ? a : 0;
    k += some;
  }
  group_grid(g, k > 0 ? sum / (double)k : 0, -1, 1, 3, 0, arena);
  return true;
}

bool weight_ternary(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)s, (void)why;
  ArenaMark mark = arena_mark(arena);
  float *v = magnitudes(g, arena);
  double sum = 0, most = 0, threshold = INFINITY;
  floats_sort(g->n, v);
  for (int64_t i = g->n; i-- > 0;) {
    sum += (double)v[i];
    double kept = sum * sum / (double)(g->n - i);
    if (kept <= most) continue;
    most = kept;
    threshold = (double)v[i];
  }
  arena_reset(arena, mark);
  return ternary_at(g, threshold, false, arena);
}

bool weight_twn(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)s, (void)why;
  double sum = 0;
  for (int64_t i = 0; i < g->n; i++) sum += fabs((double)g->w[i]);
  return ternary_at(g, 0.7 * sum / (double)g->n, true, arena);
}

bool weight_binary(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)s, (void)why;
  double sum = 0;
  for (int64_t i = 0; i < g->n; i++) {
    sum += fabs((double)g->w[i]);
    g->code[i] = g->w[i] >= 0;
  }
  if (sum > 0) {
    group_grid(g, sum / (double)g->n, -1, 2, 2, 0, arena);
  } else {
    for (int64_t i = 0; i < g->n; i++) g->code[i] = 0;
    group_grid(g, 0, 0, 1, 1, 0, arena);
  }
  return true;
}
