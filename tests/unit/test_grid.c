// Lattice fits: what is built on a grid is found, what is found comes back bit for bit, near misses are refused.
#include <criterion/criterion.h>
#include <math.h>

#include "ir/base/intmath.h"
#include "passes/recover/grid.h"

static uint32_t next(uint64_t *seed, uint32_t below) {
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*seed >> 33) % below;
}

typedef struct Made {
  uint32_t n;
  double v[GRID_MAX], scale;
  int64_t k[GRID_MAX], step;  // step: the common divisor of all k
} Made;

// Distinct multiples within +-limit of a random scale.
static Made make(uint64_t *seed, int64_t limit, int exponent) {
  Made m = {.scale = ldexp(1 + next(seed, 1 << 30) * 0x1p-30, exponent)};
  if (next(seed, 3) == 0) m.scale = ldexp(1, exponent);
  if (next(seed, 3) == 0) m.scale = (double)(float)m.scale;
  for (int64_t k = -limit; k <= limit; k++) {
    if (m.n == 255 || next(seed, (uint32_t)limit) > 12) continue;
    m.k[m.n] = k;
    m.step = gcd(m.step, k);
    m.v[m.n++] = (double)(float)(m.scale * (double)k);
  }
  return m;
}

static void check_comes_back(const Grid *g, uint32_t n, const double *v, const int64_t *k, const char *what) {
  for (uint32_t i = 0; i < n; i++) {
    double is = (double)grid_value(g, k[i]);
    cr_assert(is == v[i], "%s: step %lld of %.17g gives %.9g, not %.9g", what, (long long)k[i], g->scale, is, v[i]);
  }
}

Test(grid, what_is_built_is_found) {
  for (uint64_t i = 0; i < 20000; i++) {
    uint64_t seed = i * 91 + 7;
    int64_t limit = 1 + next(&seed, 127), k[GRID_MAX];
    Made m = make(&seed, limit, (int)next(&seed, 240) - 124);
    Grid g;
    cr_assert(grid_fit(m.n, m.v, -127, 127, &g, k), "case %llu: %u numbers are not found", (unsigned long long)i, m.n);
    check_comes_back(&g, m.n, m.v, k, "built");
    for (uint32_t c = 0; c < m.n && m.step > 0; c++)
      cr_assert(k[c] * m.step == m.k[c], "case %llu: step %lld is not the coarsest", (unsigned long long)i,
                (long long)k[c]);
  }
}

// Whole multiples of the smallest subnormal lie on a grid; others may be refused, but never come back wrong.
Test(grid, subnormals) {
  int64_t k[GRID_MAX];
  Grid g;
  double v[4] = {-3 * 0x1p-149, 0, 0x1p-149, 100 * 0x1p-149};
  cr_assert(grid_fit(4, v, -127, 127, &g, k) && k[0] == -3 && k[2] == 1 && k[3] == 100);
  for (uint64_t i = 0; i < 3000; i++) {
    uint64_t seed = i * 13 + 5;
    Made m = make(&seed, 1 + next(&seed, 20), (int)next(&seed, 30) - 150);
    if (grid_fit(m.n, m.v, -127, 127, &g, k)) check_comes_back(&g, m.n, m.v, k, "subnormal");
  }
}

// One number moved by one unit in the last place: another grid may hold it, the same steps may not. With many steps
// of one scale there is no grid left.
Test(grid, near_misses_are_refused) {
  uint32_t fits = 0;
  for (uint64_t i = 0; i < 5000; i++) {
    uint64_t seed = i * 17 + 3;
    double scale = (double)(float)(0.01 + next(&seed, 1000) * 1.7e-3), v[15];
    int64_t k[15];
    Grid g;
    for (int q = -7; q <= 7; q++) v[q + 7] = (double)(float)(scale * q);
    uint32_t at = next(&seed, 15);
    if (at == 7) continue;
    v[at] = (double)nextafterf((float)v[at], next(&seed, 2) ? 100.0f : -100.0f);
    fits += grid_fit(15, v, -127, 127, &g, k) || grid_fit_weights(15, v, -127, 127, &g, k);
  }
  cr_assert(fits == 0, "%u near misses were taken", fits);
  double two[2] = {-0.5, (double)nextafterf(0.5f, 1.0f)},
         thirds[4] = {0, (double)nextafterf(1.0f / 3, 1), (double)(2.0f / 3), 1};
  int64_t k[4];
  Grid g;
  cr_assert(!grid_fit(2, two, -127, 127, &g, k) && !grid_fit_weights(2, two, -127, 127, &g, k));
  cr_assert(!grid_fit(4, thirds, -127, 127, &g, k) && !grid_fit_weights(4, thirds, -127, 127, &g, k));
}

Test(grid, limits) {
  int64_t k[GRID_MAX];
  Grid g;
  double v[3] = {0, 1, 255};
  cr_assert(grid_fit(3, v, 0, 255, &g, k) && k[2] == 255);
  cr_assert(!grid_fit(3, v, -127, 127, &g, k), "255 steps in a signed byte");
  cr_assert(!grid_fit(1, (double[]){-1}, 0, 255, &g, k), "a negative step of an unsigned byte");
  cr_assert(grid_fit(1, (double[]){-128}, -128, 127, &g, k) && g.scale == 128 && k[0] == -1);
  cr_assert(!grid_fit(2, (double[]){1, NAN}, -127, 127, &g, k) && !grid_fit(2, (double[]){1, INFINITY}, -9, 9, &g, k));
  cr_assert(grid_fit(2, (double[]){0, -0.0}, -127, 127, &g, k) && g.scale == 1 && k[0] == 0 && k[1] == 0);
  cr_assert(grid_fit(4, (double[]){0, 1.0f / 3.0f, 2.0f / 3.0f, 1}, 0, 255, &g, k) && g.scale == 1.0 / 3);
  cr_assert(grid_fit(3, (double[]){0.25, 0.5, -4}, -127, 127, &g, k) && g.scale == 0.25 && k[2] == -16);
}

// Weights of DoReFa: 2 round(n x) / n - 1 in f32, and times a batch norm's factor.
Test(grid, dorefa_weights) {
  for (uint64_t i = 0; i < 3000; i++) {
    uint64_t seed = i * 29 + 11;
    int64_t n = (2 << (1 + next(&seed, 3))) - 1, k[GRID_MAX], q[GRID_MAX];
    float by = i % 3 ? 1.0f : (float)(0.05 + next(&seed, 4000) * 1e-3);
    if (i % 2) by = -by;
    double v[GRID_MAX];
    uint32_t count = 0;
    for (int64_t j = 0; j <= n; j++) {
      if (j > 0 && j < n && n > 3 && next(&seed, 4) == 0) continue;
      q[count] = by > 0 ? 2 * j - n : n - 2 * j;
      v[count++] = (double)(by * (2.0f * ((float)j / (float)n) - 1.0f));
    }
    Grid g;
    cr_assert(grid_fit_weights(count, v, -127, 127, &g, k), "case %llu: n %lld", (unsigned long long)i, (long long)n);
    check_comes_back(&g, count, v, k, "dorefa");
    for (uint32_t c = 0; c < count; c++)
      cr_assert(k[c] * q[count - 1] == q[c] * k[count - 1], "case %llu: steps in other proportions",
                (unsigned long long)i);
  }
}
