// CP decompositions on planted tensors: components come back up to order, sign and scale; refining never loses; what
// cannot be told apart is said.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/compress/cp.h"
#include "passes/compress/linalg.h"

static uint64_t state = 7;
static double next(void) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(int64_t)(state >> 20) / 0x1p43 - 1;
}

static int64_t elements(uint32_t d, const int64_t *n) {
  int64_t count = 1;
  for (uint32_t k = 0; k < d; k++) count *= n[k];
  return count;
}

static Cp plant(uint32_t d, const int64_t *n, int64_t r, double **a, Arena *arena) {
  Cp c = cp_new(d, n, r, arena);
  c.r = r;
  for (uint32_t k = 0; k < d; k++)
    for (int64_t i = 0; i < n[k] * r; i++) c.factor[k][i] = next();
  *a = NEW_ARRAY(arena, double, elements(d, n));
  cp_tensor(&c, *a, arena);
  return c;
}

// The largest cosine between column q of x and a column of y.
static double best_cosine(const Cp *x, const Cp *y, uint32_t mode, int64_t q) {
  double best = 0;
  for (int64_t p = 0; p < y->r; p++) {
    double xy = 0, xx = 0, yy = 0;
    for (int64_t i = 0; i < x->n[mode]; i++) {
      double u = x->factor[mode][i * x->room + q], v = y->factor[mode][i * y->room + p];
      xy += u * v;
      xx += u * u;
      yy += v * v;
    }
    best = fmax(best, fabs(xy) / sqrt(xx * yy));
  }
  return best;
}

static void check_recovered(const Cp *planted, const Cp *found, const double *a, Arena *arena, const char *what) {
  double norm2 = sum_of_squares(elements(found->d, found->n), a), e = cp_error2(found, a, arena);
  cr_assert(sqrt(e / norm2) < 1e-6, "%s: relative error %g", what, sqrt(e / norm2));
  for (uint32_t k = 0; k < found->d; k++)
    for (int64_t q = 0; q < planted->r; q++)
      cr_assert(best_cosine(planted, found, k, q) > 1 - 1e-6, "%s: component %lld of mode %u is missing", what,
                (long long)q, k);
}

static const struct {
  uint32_t d;
  int64_t n[CP_MODES], r;
} cases[] = {{3, {8, 6, 9}, 1},   {3, {8, 6, 9}, 3},    {3, {13, 7, 5}, 4},
             {3, {16, 16, 9}, 6}, {4, {8, 6, 3, 3}, 3}, {5, {5, 4, 3, 2, 3}, 2}};

Test(cp, planted_components_by_power) {
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Arena *arena = arena_new("test");
    double *a;
    Cp planted = plant(cases[i].d, cases[i].n, cases[i].r, &a, arena);
    Cp c = cp_new(cases[i].d, cases[i].n, cases[i].r, arena);
    cp_grow(&c, a, cases[i].r, arena);
    cp_refine(&c, a, 1e9, arena);
    check_recovered(&planted, &c, a, arena, "power");
    arena_free(arena);
  }
}

Test(cp, planted_components_by_joint_diagonalisation) {
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (cases[i].d != 3) continue;
    Arena *arena = arena_new("test");
    double *a;
    const char *why = "";
    Cp planted = plant(3, cases[i].n, cases[i].r, &a, arena);
    Cp c = cp_new(3, cases[i].n, cases[i].r, arena);
    cr_assert(cp_joint(&c, a, cases[i].r, &why, arena), "%s", why);
    check_recovered(&planted, &c, a, arena, "joint");
    arena_free(arena);
  }
}

// Two components with the same third vector: every mixture of the slices has a double eigenvalue.
Test(cp, repeated_ratios_are_detected) {
  Arena *arena = arena_new("test");
  double *a;
  const char *why = NULL;
  Cp planted = plant(3, (int64_t[]){8, 6, 5}, 3, &a, arena);
  for (int64_t i = 0; i < 5; i++) planted.factor[2][i * 3 + 1] = 2 * planted.factor[2][i * 3];
  cp_tensor(&planted, a, arena);
  Cp c = cp_new(3, planted.n, 3, arena);
  cr_assert(!cp_joint(&c, a, 3, &why, arena) && strstr(why, "coincide") != NULL, "%s", why ? why : "was taken");
  arena_free(arena);
}

Test(cp, too_many_components_or_one_slice) {
  Arena *arena = arena_new("test");
  double *a;
  const char *why = NULL;
  Cp planted = plant(3, (int64_t[]){4, 3, 5}, 3, &a, arena), c = cp_new(3, planted.n, 4, arena);
  cr_assert(!cp_joint(&c, a, 4, &why, arena) && why != NULL);
  Cp flat = plant(3, (int64_t[]){4, 4, 1}, 2, &a, arena), d = cp_new(3, flat.n, 2, arena);
  cr_assert(!cp_joint(&d, a, 2, &why, arena) && why != NULL);
  arena_free(arena);
}

// Of a tensor without structure: more sweeps and more components never lose, and the full rank is exact.
Test(cp, refining_never_loses) {
  Arena *arena = arena_new("test");
  const int64_t n[] = {7, 6, 5};
  double *a = NEW_ARRAY(arena, double, 210);
  for (int64_t i = 0; i < 210; i++) a[i] = next();
  Cp c = cp_new(3, n, 30, arena);
  double last = INFINITY;
  for (int64_t r = 1; r <= 20; r += 3) {
    cp_grow(&c, a, r, arena);
    double start = cp_error2(&c, a, arena), before = start;
    for (int i = 0; i < 5; i++) {
      double e = cp_refine(&c, a, 3 * cp_sweep_cost(&c), arena);
      cr_assert(e <= before, "%g after %g", e, before);
      cr_assert_float_eq(e, cp_error2(&c, a, arena), 1e-12 * (1 + e));
      before = e;
    }
    cr_assert(before < start && start <= last * (1 + 1e-12), "rank %lld", (long long)r);
    last = before;
  }
  cr_assert(cp_full_rank(3, n) == 30);
  cp_fill(&c, a);
  cr_assert(c.r == 30 && cp_error2(&c, a, arena) == 0);
  arena_free(arena);
}
