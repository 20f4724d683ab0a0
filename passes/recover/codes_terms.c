// Few numbers as sums of a few scaled small integers. See codes.h.
//
//   {-1.2, -0.4, 0.4, 1.2}         0.4 * {-3, -1, 1, 3}                            one term: a grid
//   {-0.9, -0.5, 0.5, 0.9}         0.7 * {-1, -1, 1, 1} + 0.2 * {-1, 1, -1, 1}     two signs
//   {0, 0.3177, 1, 1.894}          256 s * high byte + s * low byte                a grid of 16 bits in two bytes
//                                  0.3177 * bit + 0.6823 * bit + 0.894 * bit       a thermometer
//
// A sum counts only if it gives every number back bit for bit when it is rounded to f32.
#include <math.h>
#include <stdlib.h>

#include "passes/recover/codes.h"
#include "passes/recover/grid.h"

enum { REACH = 2 };  // steps of a pair

double terms_value(const Terms *t, uint32_t i) {
  double v = t->base;
  for (uint32_t k = 0; k < t->n; k++) v += t->scale[k] * (double)t->code[k][i];
  return v;
}

static bool comes_back(const Terms *t, uint32_t n, const double *v) {
  for (uint32_t i = 0; i < n; i++)
    if ((double)(float)terms_value(t, i) != v[i]) return false;
  return true;
}

static bool one_grid(uint32_t n, const double *v, Terms *t) {
  Grid g;
  int64_t k[TERMS_VALUES];
  if (!grid_fit(n, v, -127, 127, &g, k) && !grid_fit(n, v, 0, 255, &g, k)) return false;
  *t = (Terms){.form = TERMS_GRID, .n = 1, .scale = {g.scale}};
  for (uint32_t i = 0; i < n; i++) t->code[0][i] = (int16_t)k[i];
  return comes_back(t, n, v);
}

// The steps of v along a and b, if there are any.
static bool in_pair(double v, double a, double b, int16_t *p, int16_t *q) {
  for (int i = -REACH; i <= REACH; i++)
    for (int k = -REACH; k <= REACH; k++) {
      if ((double)(float)(a * i + b * k) != v) continue;
      *p = (int16_t)i;
      *q = (int16_t)k;
      return true;
    }
  return false;
}

static bool fit_pair(uint32_t n, const double *v, double a, double b, Terms *t) {
  *t = (Terms){.form = TERMS_PAIR, .n = 2, .scale = {a, b}};
  for (uint32_t i = 0; i < n; i++)
    if (!in_pair(v[i], a, b, &t->code[0][i], &t->code[1][i])) return false;
  return true;
}

// How unlike two signs the codes are: larger steps first, then zeros.
static uint32_t pair_cost(const Terms *t, uint32_t n) {
  uint32_t most = 0, zeros = 0;
  for (uint32_t k = 0; k < 2; k++)
    for (uint32_t i = 0; i < n; i++) {
      uint32_t step = (uint32_t)abs(t->code[k][i]);
      most = step > most ? step : most;
      zeros += step == 0;
    }
  return most * 2 * TERMS_VALUES + zeros;
}

// Two scales: numbers of the set, or half of what two of them have as sum and difference.
static bool pair(uint32_t n, const double *v, Terms *t) {
  uint32_t best = UINT32_MAX;
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t k = 0; k < i; k++)
      for (int half = 0; half < 2; half++) {
        Terms one;
        double a = half ? (v[i] + v[k]) / 2 : v[i], b = half ? (v[i] - v[k]) / 2 : v[k];
        if (v[k] <= 0 || !fit_pair(n, v, a, b, &one) || pair_cost(&one, n) >= best) continue;
        best = pair_cost(&one, n);
        *t = one;
      }
  return best != UINT32_MAX;
}

// A grid of 16 bits: the high byte carries the sign.
static bool two_bytes(uint32_t n, const double *v, Terms *t) {
  Grid g;
  int64_t k[TERMS_VALUES];
  bool sign = v[0] < 0;
  if (!grid_fit(n, v, sign ? -32768 : 0, sign ? 32767 : 65535, &g, k)) return false;
  *t = (Terms){.form = TERMS_BYTES, .n = 2, .scale = {256 * g.scale, g.scale}};
  for (uint32_t i = 0; i < n; i++) {
    int64_t low = k[i] & 255;
    t->code[0][i] = (int16_t)((k[i] - low) / 256);
    t->code[1][i] = (int16_t)low;
  }
  return comes_back(t, n, v);
}

// One bit per step: 0 and 1 where the smallest number is 0, else -1 and +1 around the middle of the ends.
static bool thermometer(uint32_t n, const double *v, Terms *t) {
  bool signs = n > 0 && v[0] != 0;
  if (n < 2 || n - 1 > TERMS_MAX) return false;
  *t = (Terms){.form = TERMS_BITS, .n = n - 1, .base = signs ? (v[0] + v[n - 1]) / 2 : 0};
  for (uint32_t k = 0; k + 1 < n; k++) {
    t->scale[k] = (v[k + 1] - v[k]) / (signs ? 2 : 1);
    for (uint32_t i = 0; i < n; i++) t->code[k][i] = (int16_t)(i > k ? 1 : signs ? -1 : 0);
  }
  return comes_back(t, n, v);
}

const char *terms_form_text(TermsForm form) {
  static const char *const text[] = {"one grid", "two scales", "two bytes", "a bit per step"};
  return text[form];
}

// Every term tells some numbers apart.
static bool all_vary(const Terms *t, uint32_t n) {
  for (uint32_t k = 0; k < t->n; k++) {
    bool varies = n == 1;
    for (uint32_t i = 1; i < n; i++) varies = varies || t->code[k][i] != t->code[k][0];
    if (!varies) return false;
  }
  return true;
}

bool terms_find(TermsForm form, uint32_t n, const double *v, Terms *t) {
  static bool (*const find[TERMS_FORMS])(uint32_t, const double *, Terms *) = {one_grid, pair, two_bytes, thermometer};
  return n > 0 && n <= TERMS_VALUES && find[form](n, v, t) && all_vary(t, n);
}
