// Ranks from samples: the rank of a matrix of products is that of nearly every sample of rows and columns that is
// larger.
//
//   dense [784 x 195] = sum of three A (x) B   =>   seen as [(14 13) x (56 15)] its samples have rank 3
//
// Every split of both extents is looked at as Van Loan and Pitsianis rearrange it (S30); splits of low rank that divide
// each other are the unfoldings of one tensor train (S32), and the path of fewest parameters through them is taken.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "passes/compress/planted.h"

enum { MOST_SPLITS = 1024, SAMPLE = 40, MARGIN = 4 };

int64_t view_extent(const ViewSide *s) {
  int64_t n = 1;
  for (uint32_t i = 0; i < s->n; i++) n *= s->extent[i];
  return n;
}

static int64_t view_at(const ViewSide *s, int64_t index) {
  int64_t at = 0;
  for (uint32_t i = s->n; i-- > 0; index /= s->extent[i]) at += index % s->extent[i] * s->stride[i];
  return at;
}

int64_t *view_columns(const View *v, Arena *arena) {
  int64_t n = view_extent(&v->col), *at = NEW_ARRAY(arena, int64_t, n);
  for (int64_t j = 0; j < n; j++) at[j] = view_at(&v->col, j);
  return at;
}

void view_rows(const View *v, const int64_t *col_at, int64_t from, int64_t n, double *to) {
  int64_t cols = view_extent(&v->col);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = view_at(&v->row, from + i);
    for (int64_t j = 0; j < cols; j++) to[i * cols + j] = elem_get_f(v->data, v->dtype, at + col_at[j]);
  }
}

void view_sample(int64_t n, int64_t count, uint64_t *state, int64_t *to) {
  for (int64_t i = 0; i < count; i++) {
    int64_t from = n / count * i + n % count * i / count, end = n / count * (i + 1) + n % count * (i + 1) / count;
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    to[i] = from + (int64_t)((*state >> 33) % (uint64_t)(end - from));
  }
}

static int64_t min2(int64_t a, int64_t b) { return a < b ? a : b; }

#define FULL 1e-3  // a share of the largest pivot far above rounding

static void swap_columns(int64_t rows, int64_t cols, double *a, int64_t i, int64_t j) {
  for (int64_t k = 0; k < rows && i != j; k++) {
    double t = a[k * cols + i];
    a[k * cols + i] = a[k * cols + j];
    a[k * cols + j] = t;
  }
}

// Elimination with the largest element left as the pivot: no pivot is much smaller than the first. Most samples are
// settled so, in a tenth of the time of singular values. a is destroyed.
static bool is_clearly_full(int64_t rows, int64_t cols, double *a) {
  double first = 0;
  for (int64_t k = 0; k < min2(rows, cols); k++) {
    int64_t row = k, col = k;
    double most = 0;
    for (int64_t i = k; i < rows; i++)
      for (int64_t j = k; j < cols; j++) {
        if (!(fabs(a[i * cols + j]) > most)) continue;
        most = fabs(a[i * cols + j]);
        row = i;
        col = j;
      }
    if (k == 0) first = most;
    if (!(most > FULL * first) || !isfinite(most)) return false;
    swap_columns(rows, cols, a, k, col);
    for (int64_t j = k; j < cols && row != k; j++) {
      double t = a[k * cols + j];
      a[k * cols + j] = a[row * cols + j];
      a[row * cols + j] = t;
    }
    for (int64_t i = k + 1; i < rows; i++) {
      double f = a[i * cols + k] / a[k * cols + k];
      for (int64_t j = k + 1; j < cols; j++) a[i * cols + j] -= f * a[k * cols + j];
    }
  }
  return true;
}

// The rank of `rows` x `cols` sampled elements.
static int64_t sample_rank(const View *v, int64_t rows, int64_t cols, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  uint64_t state = 1;
  int64_t *r = NEW_ARRAY(arena, int64_t, rows), *c = NEW_ARRAY(arena, int64_t, cols), rank = 0;
  double *a = NEW_ARRAY(arena, double, rows *cols), *s = NEW_ARRAY(arena, double, rows < cols ? rows : cols);
  view_sample(view_extent(&v->row), rows, &state, r);
  view_sample(view_extent(&v->col), cols, &state, c);
  for (int64_t j = 0; j < cols; j++) c[j] = view_at(&v->col, c[j]);
  for (int64_t i = 0; i < rows; i++) {
    int64_t at = view_at(&v->row, r[i]);
    for (int64_t j = 0; j < cols; j++) a[i * cols + j] = elem_get_f(v->data, v->dtype, at + c[j]);
  }
  int64_t n = min2(rows, cols);
  bool full = is_clearly_full(rows, cols, arena_copy(arena, a, (size_t)(rows * cols) * sizeof *a));
  if (full) rank = n;
  bool ok = full || svd_values(rows, cols, a, arena, s);
  while (ok && !full && rank < n && s[rank] > VIEW_NOISE * s[0]) rank++;
  arena_reset(arena, mark);
  return ok ? rank : n;
}

int64_t view_rank(const View *v, int64_t most, int64_t pays, Arena *arena) {
  int64_t rows = view_extent(&v->row), cols = view_extent(&v->col), all = min2(rows, cols);
  for (int64_t size = SAMPLE;; size *= 2) {
    int64_t n = min2(min2(size, most), all), wide = min2(n + 8, rows), tall = min2(n + 8, cols);
    int64_t rank = sample_rank(v, wide, tall, arena), whole = min2(wide, tall);
    bool certain = whole == all ? rank < whole : rank + MARGIN <= whole;
    if (certain) return rank <= pays ? rank : -1;
    if (n == all || n == most || n > pays) return -1;
  }
}

// ---- modes

typedef struct Split {
  int64_t n, m, rank;  // inputs and outputs in front
  int64_t params;      // of the best train up to here
  int32_t before;
} Split;

View dense_view(const FactorLayer *l, int64_t n, int64_t m) {
  const Op *op = l->op;
  bool turned = op_bool(op, A_MATMUL_trans_b);
  int64_t in = turned ? 1 : l->out, out = turned ? l->in : 1, n2 = l->in / n, m2 = l->out / m;
  return (View){.data = const_data(op->func->module, op_in(op, 1)->constant),
                .dtype = l->dtype,
                .row = {2, {n, m}, {n2 * in, m2 * out}},
                .col = {2, {n2, m2}, {in, out}}};
}

// Splits of low rank, the whole behind them.
static uint32_t find_splits(const FactorLayer *l, Split *s, Arena *arena) {
  uint32_t n_splits = 1;
  s[0] = (Split){1, 1, 1, 0, -1};
  for (int64_t n = 1; n <= l->in; n++) {
    for (int64_t m = 1; l->in % n == 0 && m <= l->out; m++) {
      if (l->out % m != 0) continue;
      View v = dense_view(l, n, m);
      int64_t rows = view_extent(&v.row), cols = view_extent(&v.col), less = min2(rows, cols);
      if (less < 4 || n_splits + 1 == MOST_SPLITS) continue;
      int64_t rank = view_rank(&v, SAMPLE, less * 3 / 4, arena);
      if (rank > 0) s[n_splits++] = (Split){n, m, rank, 0, -1};
    }
  }
  s[n_splits++] = (Split){l->in, l->out, 1, 0, -1};
  return n_splits;
}

bool planted_modes(const FactorLayer *l, FactorAsk *ask, Arena *arena) {
  Split *s = NEW_ARRAY(arena, Split, MOST_SPLITS);
  uint32_t n = find_splits(l, s, arena);
  for (uint32_t i = 1; i < n; i++) {
    s[i].params = -1;
    for (uint32_t k = 0; k < i; k++) {
      if (s[i].n % s[k].n != 0 || s[i].m % s[k].m != 0) continue;
      int64_t core = s[k].rank * (s[i].n / s[k].n) * (s[i].m / s[k].m) * s[i].rank, params = s[k].params + core;
      if (s[i].params >= 0 && params >= s[i].params) continue;
      s[i].params = params;
      s[i].before = (int32_t)k;
    }
  }
  uint32_t d = 0;
  for (int32_t i = (int32_t)n - 1; i > 0; i = s[i].before) d++;
  if (d < 2 || d > MAX_RANK || s[n - 1].params > l->n_w / 2) return false;
  ask->n_in = ask->n_out = d;
  for (int32_t i = (int32_t)n - 1; i > 0; i = s[i].before) {
    d--;
    ask->in[d] = s[i].n / s[s[i].before].n;
    ask->out[d] = s[i].m / s[s[i].before].m;
  }
  return true;
}
