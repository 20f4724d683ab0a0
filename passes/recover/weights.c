// Grids of constant weights. See weights.h.
//
//   channel 0: {-0.25, 0.25}, channel 1: {-0.3, 0.0, 0.3}    two scales, q in -1 .. 1
//   all channels: {-0.6, -0.2, 0.2, 0.6}                     one scale 0.2, q in {-3, -1, 1, 3}
//
// A fit counts only if every weight comes back bit for bit; with a tolerance, when there is no such fit, the coarsest
// grid of each channel that no weight misses by more than that share of a step.
#include "passes/recover/weights.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "passes/recover/grid.h"

#define SLOTS (4 * GRID_MAX)

// Distinct numbers of some weights.
typedef struct Numbers {
  uint32_t n;  // GRID_MAX + 1: too many
  double v[GRID_MAX];
  uint16_t slot[SLOTS];  // number + 1 by hash of its bits
} Numbers;

static void numbers_add(Numbers *d, float v) {
  uint32_t bits, at;
  memcpy(&bits, &v, sizeof bits);
  for (at = bits * UINT32_C(2654435769) >> 22; d->slot[at] != 0; at = (at + 1) % SLOTS)
    if (d->v[d->slot[at] - 1] == (double)v) return;
  if (d->n >= GRID_MAX) {
    d->n = GRID_MAX + 1;
    return;
  }
  d->v[d->n++] = (double)v;
  d->slot[at] = (uint16_t)d->n;
}

// The weights of channels first .. end - 1.
static void numbers_of(const WeightGrid *g, const AnyF32 *w, int64_t first, int64_t end, Numbers *d) {
  memset(d, 0, sizeof *d);
  int64_t rows = g->n / (g->channels * g->inner), length = (end - first) * g->inner;
  for (int64_t r = 0; r < rows && d->n <= GRID_MAX; r++) {
    const AnyF32 *p = w + (r * g->channels + first) * g->inner;
    for (int64_t i = 0; i < length && d->n <= GRID_MAX; i++) numbers_add(d, p[i]);
  }
}

static int64_t largest(const int64_t *k, uint32_t n) {
  int64_t most = 0;
  for (uint32_t i = 0; i < n; i++) {
    int64_t a = k[i] < 0 ? -k[i] : k[i];
    most = a > most ? a : most;
  }
  return most;
}

static bool fit(const Numbers *d, Grid *g, int64_t *most) {
  int64_t k[GRID_MAX];
  if (d->n > GRID_MAX || !grid_fit_weights(d->n, d->v, -128, 127, g, k)) return false;
  *most = largest(k, d->n);
  return true;
}

static bool fit_channels(WeightGrid *g, const AnyF32 *w, Grid *grid) {
  Numbers d;
  g->most = 0;
  for (int64_t c = 0; c < g->channels; c++) {
    int64_t most;
    numbers_of(g, w, c, c + 1, &d);
    g->distinct = d.n;
    if (!fit(&d, &grid[c], &most)) return false;
    g->most = most > g->most ? most : g->most;
  }
  return true;
}

static uint32_t bits(int64_t most) {
  uint32_t n = 1;
  for (; most > 1; most >>= 1) n++;
  return n;
}

// ---- loose fits

typedef struct Miss {
  double most;      // in steps
  double vk, kk;    // sums for the best scale
  int64_t largest;  // |k|
} Miss;

static Miss channel_miss(const WeightGrid *g, const AnyF32 *w, int64_t c, double scale, double limit) {
  Miss s = {0};
  int64_t rows = g->n / (g->channels * g->inner);
  for (int64_t r = 0; r < rows && s.most <= limit; r++) {
    const AnyF32 *p = w + (r * g->channels + c) * g->inner;
    for (int64_t i = 0; i < g->inner && s.most <= limit; i++) {
      double v = (double)p[i], k = rint(v / scale);
      s.most = fmax(s.most, isfinite(v) ? fabs(v / scale - k) : INFINITY);
      s.vk += v * k;
      s.kk += k * k;
      if (fabs(k) > (double)s.largest) s.largest = (int64_t)fabs(k);
    }
  }
  return s;
}

static double channel_largest(const WeightGrid *g, const AnyF32 *w, int64_t c) {
  double most = 0;
  int64_t rows = g->n / (g->channels * g->inner);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < g->inner; i++) most = fmax(most, fabs((double)w[(r * g->channels + c) * g->inner + i]));
  return most;
}

// The coarsest grid whose largest step is the channel's largest weight, then the best scale for its steps.
static bool fit_loose(WeightGrid *g, const AnyF32 *w, int64_t c, double tolerate) {
  double most = channel_largest(g, w, c);
  g->scale[c] = 1;
  if (most == 0) return true;
  for (int64_t steps = 1; steps <= 127; steps++) {
    Miss s = channel_miss(g, w, c, most / (double)steps, tolerate);
    if (s.most > tolerate) continue;
    Miss best = channel_miss(g, w, c, s.vk / s.kk, tolerate);
    g->scale[c] = best.most <= tolerate ? s.vk / s.kk : most / (double)steps;
    g->miss = fmax(g->miss, fmin(best.most, s.most));
    g->most = steps > g->most ? steps : g->most;
    return true;
  }
  return false;
}

static bool weights_fit_loose(Arena *arena, const AnyF32 *w, WeightGrid *g, double tolerate) {
  g->most = 0;
  g->scale = NEW_ARRAY(arena, double, g->channels);
  g->q = NEW_ARRAY(arena, int64_t, g->n);
  for (int64_t c = 0; c < g->channels; c++)
    if (!fit_loose(g, w, c, tolerate)) return false;
  for (int64_t i = 0; i < g->n; i++) g->q[i] = (int64_t)rint((double)w[i] / g->scale[i / g->inner % g->channels]);
  return true;
}

bool weights_fit(Module *m, Arena *arena, const Value *value, double tolerate, WeightGrid *g) {
  const AnyF32 *w = const_data(m, value->constant);
  Grid *grid = NEW_ARRAY(arena, Grid, g->channels), all;
  Numbers d;
  int64_t most = 0;
  numbers_of(g, w, 0, g->channels, &d);
  bool together = fit(&d, &all, &most), alone = fit_channels(g, w, grid);
  if (!together && !alone) return tolerate > 0 && weights_fit_loose(arena, w, g, tolerate);
  g->one_scale = together && (!alone || bits(most) <= bits(g->most));
  if (g->one_scale) g->most = most;
  g->scale = NEW_ARRAY(arena, double, g->channels);
  g->q = NEW_ARRAY(arena, int64_t, g->n);
  for (int64_t c = 0; c < g->channels; c++) {
    if (g->one_scale) grid[c] = all;
    g->scale[c] = grid[c].scale;
    g->dorefa = g->dorefa || grid[c].form != GRID_PLAIN;
  }
  for (int64_t i = 0; i < g->n; i++) {
    const Grid *of = &grid[i / g->inner % g->channels];
    g->q[i] = (int64_t)rint((double)w[i] / of->scale);
    QCC_CHECK(grid_value(of, g->q[i]) == w[i], "weight %lld does not come back from its grid", (long long)i);
  }
  return true;
}
