// Statistics of weights: the cosines of the table (S53), entropy, rank, the smallest format.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/text.h"
#include "passes/compress/tensor_stats.h"

static uint64_t state = 41;
static double uniform(void) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return ((double)(state >> 33) + 0.5) / 0x1p31;
}

static double gauss(void) { return sqrt(-2 * log(uniform())) * cos(2 * 3.14159265358979323846 * uniform()); }

Test(stats, cosines_of_tanh_of_a_gaussian) {
  static const double printed[] = {.888, .964, .992, .998};
  enum { N = 400000 };
  Arena *arena = arena_new("test");
  double *x = NEW_ARRAY(arena, double, N), w[2] = {0, 0};
  for (int i = 0; i < N; i++) x[i] = tanh(gauss());
  for (uint32_t bits = 1; bits <= 4; bits++) {
    double c = quantised_cosine(N, x, bits, 1);
    cr_assert_float_eq(c, printed[bits - 1], 0.0035, "%u bits: %g", bits, c);
  }
  cr_assert(quantised_cosine(N, x, 8, 1) > 0.9999);
  cr_assert(quantised_cosine(2, w, 2, 1) == -1);
}

Test(stats, entropy_counts_values) {
  Arena *arena = arena_new("test");
  double v[16] = {0}, all[16];
  int64_t distinct;
  for (int i = 0; i < 16; i++) all[i] = i;
  for (int i = 0; i < 4; i++) v[i] = 1 + i % 2;
  cr_assert_float_eq(values_entropy(16, all, &distinct, arena), 4, 1e-12);
  cr_assert(distinct == 16);
  cr_assert_float_eq(values_entropy(16, v, &distinct, arena), 0.75 * log2(4 / 3.0) + 0.25 * 3, 1e-12);
  cr_assert(distinct == 3);
}

Test(stats, rank_of_a_product) {
  Arena *arena = arena_new("test");
  enum { R = 40, C = 60, RANK = 7 };
  double u[R * RANK], v[RANK * C], a[R * C] = {0};
  for (int i = 0; i < R * RANK; i++) u[i] = gauss();
  for (int i = 0; i < RANK * C; i++) v[i] = gauss();
  for (int i = 0; i < R; i++)
    for (int j = 0; j < C; j++)
      for (int k = 0; k < RANK; k++) a[i * C + j] += u[i * RANK + k] * v[k * C + j];
  for (int i = 0; i < R * C; i++) a[i] = (float)a[i];
  cr_assert(numerical_rank(R, C, a, arena) == RANK);
}

static TensorStats of(const char *literal) {
  Arena *arena = arena_new("test");
  const char *text = arena_printf(arena, "const @w: %s\nfunc @f() -> f32[] {\n  return f32(0.0)\n}\n", literal);
  Diag *diag = diag_new(arena, NULL);
  Module *m = parse_module(arena, diag, "test", text, strlen(text));
  cr_assert(m, "%s", diag_text(diag));
  return tensor_stats(m, m->consts.at[0], true, arena);
}

Test(stats, of_constants) {
  TensorStats s = of("f32[64,64] = rand(1)");
  cr_assert(s.n == 4096 && s.rank == 64 && s.full_rank == 64 && !strcmp(s.stored, "dense"));
  s = of("f32[64,64] = splat(0.5)");
  cr_assert(s.distinct == 1 && s.rank == 1 && s.entropy == 0 && s.least == 0.5);
  s = of("f32[64,64] = splat(0.0)");
  cr_assert(s.zeros == 4096 && s.cosine[0] == -1 && !strcmp(s.stored, "deep") && s.stored_bytes < 200);
  s = of("i8[4,4] = iota");
  cr_assert(s.distinct == 16 && s.rank == -1 && s.cosine[0] == -1);
}

// S54: of all binary kernels 3 x 3 one half differ, a kernel and its negative being one; of those 3 x 1 four.
Test(stats, slices_modulo_sign) {
  static const int64_t elements[] = {9, 3}, distinct[] = {256, 4};
  Arena *arena = arena_new("test");
  for (int i = 0; i < 2; i++) {
    int64_t n = elements[i], all = INT64_C(1) << n;
    double *v = NEW_ARRAY(arena, double, all *n);
    for (int64_t k = 0; k < all * n; k++) v[k] = (k / n) >> (k % n) & 1 ? 1 : -1;
    cr_assert(distinct_slices(all, n, v, arena) == distinct[i]);
  }
  double few[] = {0, 1, -2, 0, -1, 2, 0, 1, 2, -0.0, 0, 0, 0, 0, 0};
  cr_assert(distinct_slices(5, 3, few, arena) == 3);
  TensorStats s = of("f32[4,8,1,2] = splat(0.5)");
  cr_assert(s.slices == 32 && s.slices_distinct == 1);
  cr_assert(of("f32[4,8,1,1] = rand(1)").slices == -1 && of("f32[64,64] = rand(1)").slices == -1);
}
