// See cp.h. The tensor unfolded along mode k is n[k] x (product of the others, in order); the Khatri-Rao product of the
// other factors has a row for each of its columns, so one sweep is d matrix products and d small solves.
#include "passes/compress/cp.h"

#include <math.h>
#include <string.h>

#include "passes/compress/linalg.h"
#include "passes/compress/scheme.h"

#define POWER_STEPS 12
#define MOST_SWEEPS 2000

static int64_t elements(const Cp *c) {
  int64_t n = 1;
  for (uint32_t k = 0; k < c->d; k++) n *= c->n[k];
  return n;
}

Cp cp_new(uint32_t d, const int64_t *n, int64_t room, Arena *arena) {
  Cp c = {.d = d, .room = room};
  for (uint32_t k = 0; k < d; k++) {
    c.n[k] = n[k];
    c.factor[k] = NEW_ARRAY(arena, double, n[k] * room);
  }
  return c;
}

double cp_sweep_cost(const Cp *c) {
  double r = (double)c->r;
  return (double)c->d * ((double)elements(c) * (r + 1) + r * r * r);
}

// a with mode k in front.
static void unfold(const Cp *c, uint32_t k, const double *a, double *to) {
  uint32_t perm[CP_MODES] = {k}, n = 1;
  for (uint32_t i = 0; i < c->d; i++)
    if (i != k) perm[n++] = i;
  tensor_permute(c->d, c->n, perm, a, to);
}

// Columns [first, first + count) of all factors but k: one row per place of the other modes.
static void khatri_rao(const Cp *c, uint32_t k, int64_t first, int64_t count, double *to) {
  int64_t rows = 1;
  for (int64_t q = 0; q < count; q++) to[q] = 1;
  for (uint32_t m = 0; m < c->d; m++) {
    if (m == k) continue;
    for (int64_t row = rows; row-- > 0;)
      for (int64_t i = c->n[m]; i-- > 0;)
        for (int64_t q = 0; q < count; q++)
          to[(row * c->n[m] + i) * count + q] = to[row * count + q] * c->factor[m][i * c->room + first + q];
    rows *= c->n[m];
  }
}

void cp_tensor(const Cp *c, double *a, Arena *arena) {
  int64_t rest = elements(c) / c->n[0];
  ArenaMark mark = arena_mark(arena);
  double *kr = NEW_ARRAY(arena, double, rest * c->r), *turned = NEW_ARRAY(arena, double, rest * c->r);
  double *f = NEW_ARRAY(arena, double, c->n[0] * c->r);
  khatri_rao(c, 0, 0, c->r, kr);
  tensor_permute(2, (int64_t[]){rest, c->r}, (uint32_t[]){1, 0}, kr, turned);
  for (int64_t i = 0; i < c->n[0]; i++) memcpy(f + i * c->r, c->factor[0] + i * c->room, (size_t)c->r * sizeof *f);
  matrix_mul(c->n[0], rest, c->r, f, turned, a);
  arena_reset(arena, mark);
}

double cp_error2(const Cp *c, const double *a, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  double *got = NEW_ARRAY(arena, double, elements(c)), e;
  cp_tensor(c, got, arena);
  e = squared_distance(elements(c), got, a);
  arena_reset(arena, mark);
  return e;
}

static double column_norm(const Cp *c, uint32_t k, int64_t q) {
  double sum = 0;
  for (int64_t i = 0; i < c->n[k]; i++) sum += c->factor[k][i * c->room + q] * c->factor[k][i * c->room + q];
  return sqrt(sum);
}

static void scale_column(Cp *c, uint32_t k, int64_t q, double by) {
  for (int64_t i = 0; i < c->n[k]; i++) c->factor[k][i * c->room + q] *= by;
}

static double component_norm(const Cp *c, int64_t q) {
  double norm = 1;
  for (uint32_t k = 0; k < c->d; k++) norm *= column_norm(c, k, q);
  return norm;
}

double cp_largest(const Cp *c) {
  double most = 0;
  for (int64_t q = 0; q < c->r; q++) most = fmax(most, component_norm(c, q));
  return most;
}

// The vectors of a component get the same length.
static void balance(Cp *c) {
  for (int64_t q = 0; q < c->r; q++) {
    double each = pow(component_norm(c, q), 1.0 / c->d);
    for (uint32_t k = 0; k < c->d; k++) {
      double norm = column_norm(c, k, q);
      scale_column(c, k, q, norm > 0 ? each / norm : 0);
    }
  }
}

// ---- power iteration

// Component q starts along the longest fibre of what is left, by mode.
static void start_column(Cp *c, double *const *left, int64_t q, Arena *arena) {
  for (uint32_t k = 0; k < c->d; k++) {
    int64_t rest = elements(c) / c->n[k], best = 0;
    double *sum = NEW_ARRAY(arena, double, rest);
    for (int64_t i = 0; i < c->n[k]; i++)
      for (int64_t j = 0; j < rest; j++) sum[j] += left[k][i * rest + j] * left[k][i * rest + j];
    for (int64_t j = 1; j < rest; j++)
      if (sum[j] > sum[best] * (1 + 1e-9)) best = j;
    for (int64_t i = 0; i < c->n[k]; i++) c->factor[k][i * c->room + q] = left[k][i * rest + best];
    double norm = column_norm(c, k, q);
    scale_column(c, k, q, norm > 0 ? 1 / norm : 0);
  }
}

// u_k = left x u of all other modes, normalised but in the last step of all.
static void power_step(Cp *c, double *const *left, int64_t q, bool last, double *kr, double *u) {
  for (uint32_t k = 0; k < c->d; k++) {
    int64_t rest = elements(c) / c->n[k];
    khatri_rao(c, k, q, 1, kr);
    matrix_mul(c->n[k], 1, rest, left[k], kr, u);
    for (int64_t i = 0; i < c->n[k]; i++) c->factor[k][i * c->room + q] = u[i];
    double norm = column_norm(c, k, q);
    if (!last || k + 1 < c->d) scale_column(c, k, q, norm > 0 ? 1 / norm : 0);
  }
}

static void take_out(const Cp *c, double *const *left, int64_t q, double *kr) {
  for (uint32_t k = 0; k < c->d; k++) {
    int64_t rest = elements(c) / c->n[k];
    khatri_rao(c, k, q, 1, kr);
    for (int64_t i = 0; i < c->n[k]; i++)
      for (int64_t j = 0; j < rest; j++) left[k][i * rest + j] -= c->factor[k][i * c->room + q] * kr[j];
  }
}

void cp_grow(Cp *c, const double *a, int64_t r, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  int64_t n = elements(c), longest = 1;
  double *left[CP_MODES], *rest = NEW_ARRAY(arena, double, n), *kr = NEW_ARRAY(arena, double, n);
  for (uint32_t k = 0; k < c->d; k++) longest = c->n[k] > longest ? c->n[k] : longest;
  double *u = NEW_ARRAY(arena, double, longest);
  if (c->r > 0) cp_tensor(c, rest, arena);
  for (int64_t i = 0; i < n; i++) rest[i] = a[i] - rest[i];
  for (uint32_t k = 0; k < c->d; k++) {
    left[k] = NEW_ARRAY(arena, double, n);
    unfold(c, k, rest, left[k]);
  }
  for (; c->r < r; c->r++) {
    ArenaMark inner = arena_mark(arena);
    start_column(c, left, c->r, arena);
    for (int step = 0; step < POWER_STEPS; step++) power_step(c, left, c->r, step + 1 == POWER_STEPS, kr, u);
    take_out(c, left, c->r, kr);
    arena_reset(arena, inner);
  }
  balance(c);
  arena_reset(arena, mark);
}

// ---- alternating least squares

// g (r x r) = the element-wise product of F'F of all modes but k.
static void gram(const Cp *c, uint32_t k, double *one, double *g) {
  int64_t r = c->r;
  for (int64_t i = 0; i < r * r; i++) g[i] = 1;
  for (uint32_t m = 0; m < c->d; m++) {
    if (m == k) continue;
    memset(one, 0, (size_t)(r * r) * sizeof *one);
    for (int64_t i = 0; i < c->n[m]; i++) {
      const double *row = c->factor[m] + i * c->room;
      for (int64_t p = 0; p < r; p++)
        for (int64_t q = 0; q < r; q++) one[p * r + q] += row[p] * row[q];
    }
    for (int64_t i = 0; i < r * r; i++) g[i] *= one[i];
  }
}

typedef struct Sweep {
  double *unfolded[CP_MODES], *kr, *g, *one, *m;
} Sweep;

// Minimises ||a - sum||^2 + weight ||F - F_before||^2 over the factor of mode k: the second part keeps components that
// cancel from running away, and the error from growing.
static bool update_mode(Cp *c, Sweep *s, uint32_t k, Arena *arena) {
  int64_t r = c->r, rest = elements(c) / c->n[k];
  double trace = 0;
  khatri_rao(c, k, 0, r, s->kr);
  matrix_mul(c->n[k], r, rest, s->unfolded[k], s->kr, s->m);
  gram(c, k, s->one, s->g);
  for (int64_t q = 0; q < r; q++) trace += s->g[q * r + q];
  double weight = 1e-9 * trace / (double)r;
  if (!(weight > 0)) return true;
  for (int64_t q = 0; q < r; q++) s->g[q * r + q] += weight;
  for (int64_t i = 0; i < c->n[k]; i++)
    for (int64_t q = 0; q < r; q++) s->m[i * r + q] += weight * c->factor[k][i * c->room + q];
  if (!solve_positive(r, c->n[k], s->g, s->m, arena)) return false;
  for (int64_t i = 0; i < c->n[k]; i++) memcpy(c->factor[k] + i * c->room, s->m + i * r, (size_t)r * sizeof *s->m);
  return true;
}

static Sweep sweep_new(const Cp *c, const double *a, Arena *arena) {
  int64_t n = elements(c), r = c->r, longest = 1, least = n;
  Sweep s;
  for (uint32_t k = 0; k < c->d; k++) {
    longest = c->n[k] > longest ? c->n[k] : longest;
    least = c->n[k] < least ? c->n[k] : least;
    s.unfolded[k] = NEW_ARRAY(arena, double, n);
    unfold(c, k, a, s.unfolded[k]);
  }
  s.kr = NEW_ARRAY(arena, double, n / least * r);
  s.g = NEW_ARRAY(arena, double, r *r);
  s.one = NEW_ARRAY(arena, double, r *r);
  s.m = NEW_ARRAY(arena, double, longest *r);
  return s;
}

static void copy_factors(const Cp *from, Cp *to) {
  for (uint32_t k = 0; k < from->d; k++)
    memcpy(to->factor[k], from->factor[k], (size_t)(from->n[k] * from->room) * sizeof(double));
}

double cp_refine(Cp *c, const double *a, double budget, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  double norm2 = sum_of_squares(elements(c), a), best = cp_error2(c, a, arena), before = best;
  double sweeps = fmin(fmax(budget / cp_sweep_cost(c), 2), MOST_SWEEPS);
  Cp kept = cp_new(c->d, c->n, c->room, arena);
  Sweep s = sweep_new(c, a, arena);
  copy_factors(c, &kept);
  for (int i = 0; i < (int)sweeps && best > 1e-24 * norm2; i++) {
    bool solved = true;
    for (uint32_t k = 0; k < c->d && solved; k++) solved = update_mode(c, &s, k, arena);
    balance(c);
    double e = solved ? cp_error2(c, a, arena) : INFINITY;
    if (!(e <= best)) break;
    best = e;
    copy_factors(c, &kept);
    if (i % 10 != 9) continue;
    if (before - best < 1e-6 * before) break;
    before = best;
  }
  copy_factors(&kept, c);
  arena_reset(arena, mark);
  return best;
}

// ---- every component of its own

static uint32_t longest_mode(uint32_t d, const int64_t *n) {
  uint32_t k = 0;
  for (uint32_t i = 1; i < d; i++)
    if (n[i] > n[k]) k = i;
  return k;
}

int64_t cp_full_rank(uint32_t d, const int64_t *n) {
  int64_t r = 1;
  uint32_t skip = longest_mode(d, n);
  for (uint32_t i = 0; i < d; i++)
    if (i != skip) r *= n[i];
  return r;
}

void cp_fill(Cp *c, const double *a) {
  uint32_t k = longest_mode(c->d, c->n);
  int64_t stride[CP_MODES], step = 1;
  for (uint32_t m = c->d; m-- > 0; step *= c->n[m]) stride[m] = step;
  c->r = cp_full_rank(c->d, c->n);
  for (int64_t q = 0; q < c->r; q++) {
    int64_t rest = q, at = 0;
    for (uint32_t m = c->d; m-- > 0;) {
      if (m == k) continue;
      int64_t i = rest % c->n[m];
      rest /= c->n[m];
      at += i * stride[m];
      for (int64_t j = 0; j < c->n[m]; j++) c->factor[m][j * c->room + q] = j == i;
    }
    for (int64_t i = 0; i < c->n[k]; i++) c->factor[k][i * c->room + q] = a[at + i * stride[k]];
  }
}
