// CSR, BCSR, VBL and CSX: the arrays of the slides, round trips at every density, sizes by formula.
#include <criterion/criterion.h>
#include <string.h>

#include "passes/compress/formats/formats.h"

static uint64_t state = 11;
static uint64_t next(void) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return state >> 33;
}

static Matrix random_matrix(Arena *arena, int64_t rows, int64_t cols, int percent) {
  double *v = NEW_ARRAY(arena, double, rows *cols + 1);
  for (int64_t i = 0; i < rows * cols; i++)
    if ((int)(next() % 100) < percent) v[i] = (double)(1 + next() % 1000) / 8;
  return (Matrix){rows, cols, v};
}

static void same(const Matrix *m, const double *out, const char *format) {
  for (int64_t i = 0; i < m->rows * m->cols; i++)
    cr_assert(m->v[i] == out[i], "%s: %g at %lld instead of %g", format, out[i], (long long)i, m->v[i]);
}

// All four formats; CSX's units cover every non-zero once.
static void round_trips(const Matrix *m, Arena *arena) {
  double *out = NEW_ARRAY(arena, double, m->rows * m->cols + 1);
  int64_t n = matrix_nonzeros(m), covered = 0;
  Csr csr = csr_of(m, arena);
  csr_decode(&csr, out);
  same(m, out, "csr");
  cr_assert(csr_bytes(&csr, 4) == n * 6 + (m->rows + 1) * 4);
  Bcsr best = bcsr_best(m, 4, 4, arena);
  for (int64_t r = 1; r <= 4; r++)
    for (int64_t c = 1; c <= 4; c++) {
      Bcsr b = bcsr_of(m, r, c, arena);
      bcsr_decode(&b, out);
      same(m, out, "bcsr");
      cr_assert(bcsr_bytes(&best, 4) <= bcsr_bytes(&b, 4));
      cr_assert(bcsr_fill(&b) >= 1);
      if (r * c == 1) cr_assert(bcsr_bytes(&b, 4) == csr_bytes(&csr, 4) && bcsr_fill(&b) == 1);
    }
  Vbl vbl = vbl_of(m, arena);
  vbl_decode(&vbl, out);
  same(m, out, "vbl");
  cr_assert(vbl_bytes(&vbl, 4) == 4 * n + 3 * vbl.runs + (m->rows + 1) * 4);
  Csx csx = csx_of(m, arena);
  csx_decode(&csx, out);
  same(m, out, "csx");
  for (int k = 0; k < CSX_KINDS; k++) covered += csx.covered[k];
  cr_assert(covered == n);
  cr_assert(csx_bytes(&csx, 4) == 4 * n + csx.control.n);
}

Test(formats, csr_of_the_slide) {
  Arena *arena = arena_new("test");
  static const double v[16] = {0, 0, 0, 0, 5, 8, 0, 0, 0, 0, 3, 0, 0, 6, 0, 0};
  static const double a[] = {5, 8, 3, 6};
  static const int64_t ia[] = {0, 0, 2, 3, 4}, ja[] = {0, 1, 2, 1};
  Csr c = csr_of(&(Matrix){4, 4, v}, arena);
  cr_assert(c.n == 4);
  cr_assert(!memcmp(c.a, a, sizeof a) && !memcmp(c.ia, ia, sizeof ia) && !memcmp(c.ja, ja, sizeof ja));
}

Test(formats, bcsr_of_two_blocks) {
  Arena *arena = arena_new("test");
  static const double v[16] = {1, 2, 0, 0, 3, 0, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8};
  static const double a[] = {1, 2, 3, 0, 5, 6, 7, 8};
  Bcsr b = bcsr_best(&(Matrix){4, 4, v}, 4, 4, arena);
  cr_assert(b.r == 2 && b.c == 2 && b.blocks == 2 && b.ja[0] == 0 && b.ja[1] == 1);
  cr_assert(!memcmp(b.a, a, sizeof a));
  cr_assert_float_eq(bcsr_fill(&b), 8.0 / 7, 1e-12);
}

Test(formats, vbl_splits_runs_at_255) {
  static const int64_t lengths[] = {254, 255, 256, 510, 511}, runs[] = {1, 1, 2, 2, 3};
  for (int i = 0; i < 5; i++) {
    Arena *arena = arena_new("test");
    double *v = NEW_ARRAY(arena, double, 600);
    for (int64_t k = 0; k < lengths[i]; k++) v[40 + k] = (double)(k + 1);
    Matrix m = {1, 600, v};
    Vbl vbl = vbl_of(&m, arena);
    cr_assert(vbl.runs == runs[i], "%lld: %lld runs", (long long)lengths[i], (long long)vbl.runs);
    round_trips(&m, arena);
  }
}

Test(formats, csx_finds_each_substructure) {
  static const struct {
    CsxKind kind;
    int64_t row, col, down, across;
  } lines[] = {{CSX_HORIZONTAL, 3, 2, 0, 1}, {CSX_HORIZONTAL, 5, 0, 0, 2}, {CSX_VERTICAL, 1, 4, 1, 0},
               {CSX_VERTICAL, 0, 4, 3, 0},   {CSX_DIAGONAL, 2, 3, 1, 1},   {CSX_ANTI, 2, 20, 1, -1},
               {CSX_ANTI, 0, 21, 2, -2}};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    Arena *arena = arena_new("test");
    double *v = NEW_ARRAY(arena, double, 24 * 24);
    for (int64_t k = 0; k < 6; k++)
      v[(lines[i].row + k * lines[i].down) * 24 + lines[i].col + k * lines[i].across] = (double)(k + 1);
    Matrix m = {24, 24, v};
    Csx c = csx_of(&m, arena);
    cr_assert(c.covered[lines[i].kind] == 6 && c.units.n == 1, "line %zu: %s", i, csx_kind_name(c.units.at[0].kind));
    round_trips(&m, arena);
  }
}

Test(formats, csx_takes_dense_blocks) {
  Arena *arena = arena_new("test");
  double *v = NEW_ARRAY(arena, double, 24 * 24);
  for (int64_t b = 0; b < 3; b++)
    for (int64_t k = 0; k < 9; k++) v[(6 * b + k / 3) * 24 + 3 * b + k % 3] = (double)(b * 9 + k + 1);
  Matrix m = {24, 24, v};
  Csx c = csx_of(&m, arena);
  cr_assert(c.covered[CSX_BLOCK] == 27 && c.units.n == 3);
  round_trips(&m, arena);
}

Test(formats, round_trips_at_every_density) {
  static const int64_t sizes[][2] = {{1, 1}, {1, 70}, {33, 1}, {13, 17}, {40, 64}};
  for (int percent = 0; percent <= 100; percent += 10)
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      Arena *arena = arena_new("test");
      Matrix m = random_matrix(arena, sizes[i][0], sizes[i][1], percent);
      round_trips(&m, arena);
      arena_free(arena);
    }
}

Test(formats, wide_matrices_have_wide_indices) {
  cr_assert(index_bytes(65535) == 2 && index_bytes(65536) == 4);
  Arena *arena = arena_new("test");
  double *v = NEW_ARRAY(arena, double, 2 * 70000);
  v[69999] = 1;
  v[70000 + 300] = 2;
  Matrix m = {2, 70000, v};
  Csr c = csr_of(&m, arena);
  cr_assert(csr_bytes(&c, 4) == 2 * 8 + 3 * 4);
  Csx x = csx_of(&m, arena);
  double *out = NEW_ARRAY(arena, double, 2 * 70000);
  csx_decode(&x, out);
  same(&m, out, "csx");
}
