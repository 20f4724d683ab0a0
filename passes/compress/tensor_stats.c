// See tensor_stats.h.
#include "passes/compress/tensor_stats.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "passes/compress/deepcomp.h"
#include "passes/compress/formats/formats.h"
#include "passes/compress/linalg.h"

#define MAX_SORT (INT64_C(1) << 22)  // elements
#define MAX_SVD 2e9                  // multiply-adds: a second

double quantised_cosine(int64_t n, const double *x, uint32_t bits, double range) {
  double step = 2 * range / ((double)(1U << bits) - 1), xx = 0, qq = 0, xq = 0;
  for (int64_t i = 0; i < n; i++) {
    double level = floor((x[i] + range) / step + 0.5);  // half upwards
    level = fmin(fmax(level, 0), (double)(1U << bits) - 1);
    double q = level * step - range;
    xx += x[i] * x[i];
    qq += q * q;
    xq += x[i] * q;
  }
  return xx > 0 && qq > 0 ? xq / sqrt(xx * qq) : -1;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double values_entropy(int64_t n, const double *x, int64_t *distinct, Arena *arena) {
  double bits = 0;
  *distinct = 0;
  if (n == 0) return 0;
  double *v = arena_copy(arena, x, (size_t)n * sizeof *x);
  qsort(v, (size_t)n, sizeof *v, compare);
  for (int64_t i = 0, k; i < n; i = k) {
    for (k = i + 1; k < n && v[k] == v[i]; k++) {
    }
    double p = (double)(k - i) / (double)n;
    bits -= p * log2(p);
    ++*distinct;
  }
  return fabs(bits);
}

int64_t numerical_rank(int64_t rows, int64_t cols, const double *a, Arena *arena) {
  int64_t n = rows < cols ? rows : cols, rank = 0;
  double *s = NEW_ARRAY(arena, double, n + 1), cut = (double)(rows > cols ? rows : cols) * FLT_EPSILON;
  if (!svd_values(rows, cols, a, arena, s)) return -1;
  for (int64_t i = 0; i < n; i++) rank += s[i] > cut * s[0];
  return rank;
}

static void take(TensorStats *s, const char *format, int64_t bytes) {
  if (bytes >= s->stored_bytes) return;
  s->stored = format;
  s->stored_bytes = bytes;
}

// Formats for zeros hold floats; a layer without zeros is dense or few values in codes.
static void stored_size(TensorStats *s, const Type *t, const double *v, int64_t rows, int64_t cols, Arena *arena) {
  s->stored = "dense";
  s->stored_bytes = type_bytes(t);
  if (t->dtype != DT_F32 || s->n == 0) return;
  Matrix m = {rows, cols, v};
  if (2 * s->zeros > s->n) {
    Csr csr = csr_of(&m, arena);
    take(s, "CSR", csr_bytes(&csr, 4));
    Vbl vbl = vbl_of(&m, arena);
    take(s, "VBL", vbl_bytes(&vbl, 4));
    Bcsr bcsr = bcsr_best(&m, 4, 4, arena);
    take(s, "BCSR", bcsr_bytes(&bcsr, 4));
  }
  float *w = NEW_ARRAY(arena, float, s->n);
  for (int64_t i = 0; i < s->n; i++) w[i] = (float)v[i];
  Deep d;
  if (s->distinct >= 0 && s->distinct <= DEEP_VALUES && deep_best(w, s->n, arena, &d))
    take(s, "deep", deep_size(&d, true).total);
}

static bool all_finite(int64_t n, const double *v) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(v[i])) return false;
  return true;
}

typedef struct Slice {
  const double *v;
  int64_t n;
  double sign;  // makes the first element that is not zero positive
} Slice;

static int compare_slices(const void *a, const void *b) {
  const Slice *x = a, *y = b;
  for (int64_t i = 0; i < x->n; i++) {
    double p = x->sign * x->v[i], q = y->sign * y->v[i];
    if (p != q) return p < q ? -1 : 1;
  }
  return 0;
}

int64_t distinct_slices(int64_t slices, int64_t each, const double *v, Arena *arena) {
  Slice *all = NEW_ARRAY(arena, Slice, slices);
  int64_t distinct = slices > 0;
  for (int64_t i = 0; i < slices; i++) {
    all[i] = (Slice){v + i * each, each, 1};
    int64_t k = 0;
    while (k < each && all[i].v[k] == 0) k++;
    if (k < each && all[i].v[k] < 0) all[i].sign = -1;
  }
  qsort(all, (size_t)slices, sizeof *all, compare_slices);
  for (int64_t i = 1; i < slices; i++) distinct += compare_slices(&all[i - 1], &all[i]) != 0;
  return distinct;
}

TensorStats tensor_stats(Module *m, Const *c, bool rank, Arena *arena) {
  static const uint32_t bits[STATS_COSINES] = {1, 2, 4, 8};
  const Type *t = c->type;
  TensorStats s = {.n = type_count(t), .distinct = -1, .entropy = -1, .rank = -1, .cosine = {-1, -1, -1, -1}};
  s.slices = s.slices_distinct = -1;
  s.stored = "dense";
  s.stored_bytes = type_bytes(t);
  if (t->dtype == DT_STR || s.n == 0) return s;
  double *v = NEW_ARRAY(arena, double, s.n);
  for (int64_t i = 0; i < s.n; i++) {
    v[i] = const_f(m, c, i);
    s.zeros += v[i] == 0;
    s.least = i == 0 ? v[i] : fmin(s.least, v[i]);
    s.largest = i == 0 ? v[i] : fmax(s.largest, v[i]);
  }
  int64_t rows = t->rank > 1 ? t->dims[0] : 1, cols = s.n / rows;
  s.full_rank = rows < cols ? rows : cols;
  if (!all_finite(s.n, v)) return s;
  if (s.n <= MAX_SORT) s.entropy = values_entropy(s.n, v, &s.distinct, arena);
  if (s.n <= MAX_SORT && t->rank > 2 && s.n > t->dims[0] * t->dims[1]) {
    s.slices = t->dims[0] * t->dims[1];
    s.slices_distinct = distinct_slices(s.slices, s.n / s.slices, v, arena);
  }
  for (int k = 0; k < STATS_COSINES && dtype_is_float(t->dtype); k++)
    s.cosine[k] = quantised_cosine(s.n, v, bits[k], fmax(-s.least, s.largest));
  if (rank && t->rank > 1 && dtype_is_float(t->dtype) && svd_cost(rows, cols) <= MAX_SVD)
    s.rank = numerical_rank(rows, cols, v, arena);
  stored_size(&s, t, v, rows, cols, arena);
  return s;
}
