// Rounding by chance (S50): to the step above or below, with the probability that makes the expected value the weight.
//
//   k = floor(w / s + u), u even in [0, 1)
//
// u is made from the seed and the place of the weight alone, so the same seed gives the same weights whatever runs
// when.
#include <math.h>

#include "passes/quantize/weights.h"

// A mixer of 64 bits (splitmix64).
static uint64_t mix(uint64_t x) {
  x += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

bool weight_stochastic(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  int32_t most = (1 << (s->bits - 1)) - 1;
  double largest = 0;
  for (int64_t i = 0; i < g->n; i++) largest = fmax(largest, fabs((double)g->w[i]));
  group_grid(g, largest / most, -most, 1, 2 * (uint32_t)most + 1, 0, arena);
  for (int64_t i = 0; i < g->n; i++) {
    double u = ldexp((double)(mix(mix(s->seed) ^ (uint64_t)(g->first + i)) >> 11), -53);
    double k = floor((double)g->w[i] / (double)g->scale + u);
    g->code[i] = (uint16_t)(fmin(fmax(k, -most), most) + most);
  }
  return true;
}
