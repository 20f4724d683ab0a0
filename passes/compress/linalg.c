// See linalg.h.
#include "passes/compress/linalg.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#define NOISE 1e-13  // of the largest element of a factor

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void one_thread(void) { openblas_set_num_threads(1); }

double svd_cost(int64_t rows, int64_t cols) {
  double n = (double)least(rows, cols), m = (double)(rows > cols ? rows : cols);
  return 4 * m * n * n + 22 * n * n * n;
}

static bool all_finite(int64_t n, const double *a) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(a[i])) return false;
  return true;
}

static void drop_noise(int64_t n, double *a) {
  double most = 0;
  for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(a[i]));
  for (int64_t i = 0; i < n; i++)
    if (fabs(a[i]) < NOISE * most) a[i] = 0;
}

// The sign of column k of u: that of its first element about as large as the largest.
static bool column_is_negative(const Svd *d, int64_t k) {
  double most = 0;
  for (int64_t i = 0; i < d->rows; i++) most = fmax(most, fabs(d->u[i * d->n + k]));
  for (int64_t i = 0; i < d->rows; i++)
    if (fabs(d->u[i * d->n + k]) >= most * (1 - 1e-6)) return d->u[i * d->n + k] < 0;
  return false;
}

static void settle_signs(Svd *d) {
  for (int64_t k = 0; k < d->n; k++) {
    if (!column_is_negative(d, k)) continue;
    for (int64_t i = 0; i < d->rows; i++) d->u[i * d->n + k] = -d->u[i * d->n + k];
    for (int64_t i = 0; i < d->cols; i++) d->vt[k * d->cols + i] = -d->vt[k * d->cols + i];
  }
}

// Divide and conquer, and plain QR iteration where that fails to converge.
static bool decompose(char job, int64_t rows, int64_t cols, const double *a, Svd *d, Arena *arena) {
  lapack_int m = (lapack_int)cols, n = (lapack_int)rows, k = (lapack_int)d->n;  // of the transpose
  size_t bytes = (size_t)(rows * cols) * sizeof(double);
  double *copy = arena_alloc(arena, bytes), *rest = NEW_ARRAY(arena, double, d->n + 1);
  memcpy(copy, a, bytes);
  if (LAPACKE_dgesdd(LAPACK_COL_MAJOR, job, m, n, copy, m, d->s, d->vt, m, d->u, job == 'N' ? 1 : k) == 0) return true;
  memcpy(copy, a, bytes);
  return LAPACKE_dgesvd(LAPACK_COL_MAJOR, job, job, m, n, copy, m, d->s, d->vt, m, d->u, job == 'N' ? 1 : k, rest) == 0;
}

bool svd_of(int64_t rows, int64_t cols, const double *a, Arena *arena, Svd *out) {
  int64_t n = least(rows, cols);
  *out = (Svd){
      rows, cols, n, NEW_ARRAY(arena, double, rows *n), NEW_ARRAY(arena, double, n), NEW_ARRAY(arena, double, n *cols)};
  one_thread();
  if (!all_finite(rows * cols, a) || !decompose('S', rows, cols, a, out, arena)) return false;
  settle_signs(out);
  drop_noise(rows * n, out->u);
  drop_noise(n * cols, out->vt);
  return true;
}

bool svd_values(int64_t rows, int64_t cols, const double *a, Arena *arena, double *s) {
  double none[1];
  Svd d = {rows, cols, least(rows, cols), none, s, none};
  one_thread();
  return all_finite(rows * cols, a) && decompose('N', rows, cols, a, &d, arena);
}

double svd_values_rough_cost(int64_t rows, int64_t cols) {
  double n = (double)least(rows, cols), m = (double)(rows > cols ? rows : cols);
  return m * n * n + 3 * n * n * n;
}

bool svd_values_rough(int64_t rows, int64_t cols, const double *a, Arena *arena, double *s) {
  int64_t n = least(rows, cols), m = rows > cols ? rows : cols;
  double *gram = NEW_ARRAY(arena, double, n *n), *up = NEW_ARRAY(arena, double, n);
  one_thread();
  if (!all_finite(rows * cols, a)) return false;
  cblas_dsyrk(CblasRowMajor, CblasUpper, rows > cols ? CblasTrans : CblasNoTrans, (blasint)n, (blasint)m, 1, a,
              (blasint)cols, 0, gram, (blasint)n);
  // The upper triangle by rows is the lower one by columns.
  if (LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'N', 'L', (lapack_int)n, gram, (lapack_int)n, up) != 0) return false;
  for (int64_t i = 0; i < n; i++) s[i] = sqrt(fmax(up[n - 1 - i], 0));
  return true;
}

bool eigen_of(int64_t n, const double *a, Arena *arena, double *values, double *v) {
  double *up = NEW_ARRAY(arena, double, n), *copy = arena_copy(arena, a, (size_t)(n * n) * sizeof(double));
  one_thread();
  if (!all_finite(n * n, a) || LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)n, copy, (lapack_int)n, up) != 0)
    return false;
  for (int64_t i = 0; i < n; i++) {  // ascending, a vector per column: rows for us
    values[i] = up[n - 1 - i];
    memcpy(v + i * n, copy + (n - 1 - i) * n, (size_t)n * sizeof(double));
  }
  return true;
}

bool least_squares(int64_t rows, int64_t cols, int64_t k, const double *a, const double *b, double cut, double *x,
                   Arena *arena) {
  Svd d;
  if (!all_finite(rows * k, b) || !svd_of(rows, cols, a, arena, &d)) return false;
  double *utb = NEW_ARRAY(arena, double, d.n *k);
  matrix_add_tmul(d.n, k, rows, d.u, b, utb);
  for (int64_t i = 0; i < d.n; i++) {
    double scale = d.s[i] > cut * d.s[0] ? 1 / d.s[i] : 0;
    for (int64_t j = 0; j < k; j++) utb[i * k + j] *= scale;
  }
  memset(x, 0, (size_t)(cols * k) * sizeof(double));
  matrix_add_tmul(cols, k, d.n, d.vt, utb, x);
  return true;
}

void matrix_mul(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c) {
  one_thread();
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1, a, (blasint)k, b,
              (blasint)n, 0, c, (blasint)n);
}

void matrix_add_tmul(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c) {
  one_thread();
  cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1, a, (blasint)m, b,
              (blasint)n, 1, c, (blasint)n);
}

double sum_of_squares(int64_t n, const double *a) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * a[i];
  return sum;
}

double squared_distance(int64_t n, const double *a, const double *b) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

bool solve_positive(int64_t n, int64_t rows, const double *a, double *b, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  double *copy = arena_copy(arena, a, (size_t)(n * n) * sizeof(double));
  one_thread();
  bool ok =
      LAPACKE_dposv(LAPACK_COL_MAJOR, 'U', (lapack_int)n, (lapack_int)rows, copy, (lapack_int)n, b, (lapack_int)n) == 0;
  arena_reset(arena, mark);
  return ok;
}

bool eigen_general(int64_t n, const double *a, Arena *arena, double *re, double *im, double *v) {
  double *copy = NEW_ARRAY(arena, double, n *n), none[1], *columns = NEW_ARRAY(arena, double, n *n);
  one_thread();
  if (!all_finite(n * n, a)) return false;
  for (int64_t i = 0; i < n * n; i++) copy[i] = a[i % n * n + i / n];
  if (LAPACKE_dgeev(LAPACK_COL_MAJOR, 'N', 'V', (lapack_int)n, copy, (lapack_int)n, re, im, none, 1, columns,
                    (lapack_int)n) != 0)
    return false;
  for (int64_t i = 0; i < n * n; i++) v[i] = columns[i % n * n + i / n];
  return true;
}
