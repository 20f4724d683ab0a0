// Dense layers of low rank, or that are tensor trains, too large to be decomposed: no copy of the weights is made.
//
//   w [25088 x 4096] seen as 224 x 458752 of rank 4   =>   left (224 x 4) right (4 x 458752), trains of both joined
//
// Columns are sampled, a few more than the rank; their left singular vectors U span what the columns of the view span.
// One step of subspace iteration follows, in blocks of rows: the right singular vectors Q of U' W, and W Q. Factors of
// the small matrices are factors of the weights. Source: Halko, Martinsson, Tropp 2011, with columns for random
// vectors, as the weights are known to be of low rank to rounding.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "passes/compress/planted.h"

enum { BLOCK = 1 << 20, MOST_COLUMNS = 400, MOST_VECTORS = 1 << 24 };

// view = left (rows x r) right (r x cols), the rows of right orthonormal.
typedef struct Skeleton {
  View view;
  int64_t rows, cols, r;
  double *left, *right, norm2;
} Skeleton;

static int64_t block_rows(const Skeleton *s) {
  int64_t n = BLOCK / s->cols;
  return n < 1 ? 1 : n < s->rows ? n : s->rows;
}

// The left singular vectors of sampled columns, rows x r; sets r. NULL: not of low rank.
static double *sample_vectors(Skeleton *s, int64_t rank, Arena *arena) {
  int64_t n = 2 * rank + 8 < s->cols ? 2 * rank + 8 : s->cols, *at = NEW_ARRAY(arena, int64_t, n);
  uint64_t state = 1;
  Svd d;
  if (n > MOST_COLUMNS || n > s->rows || s->rows * n > MOST_VECTORS || s->cols * rank > MOST_VECTORS) return NULL;
  view_sample(s->cols, n, &state, at);
  int64_t *col_at = view_columns(&s->view, arena);
  double *a = NEW_ARRAY(arena, double, s->rows *n);
  View v = s->view;
  v.col = (ViewSide){1, {n}, {0}};
  for (int64_t i = 0; i < n; i++) at[i] = col_at[at[i]];
  view_rows(&v, at, 0, s->rows, a);
  if (!svd_of(s->rows, n, a, arena, &d)) return NULL;
  for (s->r = 0; s->r < d.n && d.s[s->r] > VIEW_NOISE * d.s[0];) s->r++;
  if (s->r == 0 || s->r == n) return NULL;
  double *u = NEW_ARRAY(arena, double, s->rows * s->r);
  for (int64_t i = 0; i < s->rows; i++) memcpy(u + i * s->r, d.u + i * d.n, (size_t)s->r * sizeof *u);
  return u;
}

static bool skeleton_of(const View *v, int64_t rank, Skeleton *s, Arena *arena) {
  *s = (Skeleton){.view = *v, .rows = view_extent(&v->row), .cols = view_extent(&v->col)};
  double *u = sample_vectors(s, rank, arena);
  if (u == NULL) return false;
  Svd d;
  int64_t step = block_rows(s), *col_at = view_columns(v, arena);
  double *block = NEW_ARRAY(arena, double, step * s->cols), *seen = NEW_ARRAY(arena, double, s->r * s->cols);
  for (int64_t i = 0; i < s->rows; i += step) {
    int64_t n = s->rows - i < step ? s->rows - i : step;
    view_rows(v, col_at, i, n, block);
    s->norm2 += sum_of_squares(n * s->cols, block);
    matrix_add_tmul(s->r, s->cols, n, u + i * s->r, block, seen);
  }
  if (!svd_of(s->r, s->cols, seen, arena, &d)) return false;
  s->right = d.vt;
  s->left = NEW_ARRAY(arena, double, s->rows * s->r);
  double *turned = NEW_ARRAY(arena, double, s->cols * s->r);
  tensor_permute(2, (int64_t[]){s->r, s->cols}, (uint32_t[]){1, 0}, d.vt, turned);
  for (int64_t i = 0; i < s->rows; i += step) {
    int64_t n = s->rows - i < step ? s->rows - i : step;
    view_rows(v, col_at, i, n, block);
    matrix_mul(n, s->r, s->cols, block, turned, s->left + i * s->r);
  }
  return true;
}

// The relative distance between the weights and left (rows x r) right (r x cols).
static double skeleton_error(const Skeleton *s, int64_t r, const double *left, const double *right, Arena *arena) {
  int64_t step = block_rows(s), *col_at = view_columns(&s->view, arena);
  double *block = NEW_ARRAY(arena, double, step * s->cols), *got = NEW_ARRAY(arena, double, step * s->cols), sum = 0;
  for (int64_t i = 0; i < s->rows; i += step) {
    int64_t n = s->rows - i < step ? s->rows - i : step;
    view_rows(&s->view, col_at, i, n, block);
    matrix_mul(n, s->cols, r, left + i * r, right, got);
    sum += squared_distance(n * s->cols, block, got);
  }
  return sqrt(sum / s->norm2);
}

static void round_factors(DType t, int64_t n, double *w) {
  for (int64_t i = 0; i < n; i++) w[i] = elem_round(t, w[i]);
}

Form *large_low_rank(const FactorLayer *l, Forms *out, double *error) {
  Arena *arena = out->arena;
  View v = dense_view(l, l->in, 1);
  Skeleton s;
  Svd d;
  int64_t rank = view_rank(&v, MOST_COLUMNS / 2, l->n_w / (l->in + l->out), arena);
  if (rank <= 0 || !skeleton_of(&v, rank, &s, arena) || !svd_of(s.rows, s.r, s.left, arena, &d)) return NULL;
  double *u = NEW_ARRAY(arena, double, s.rows *s.r), *v1 = NEW_ARRAY(arena, double, s.r *s.r);
  double *w = NEW_ARRAY(arena, double, s.r *s.cols);
  svd_split(&d, s.r, u, v1);
  matrix_mul(s.r, s.cols, s.r, v1, s.right, w);
  round_factors(l->dtype, s.rows * s.r, u);
  round_factors(l->dtype, s.r * s.cols, w);
  *error = skeleton_error(&s, s.r, u, w, arena);
  Form *f = forms_add(out, "svd");
  form_matmul(f, l->in, s.r, u);
  form_matmul(f, s.r, l->out, w);
  f->n_ranks = 1;
  f->ranks[0] = s.r;
  return f;
}

// ---- trains

// Paired modes of `d` inputs and outputs, all inputs in front, as n1 m1 n2 m2 .. or back; `extra` elements per place
// lie in front or behind.
static void pair_modes(uint32_t d, const int64_t *n, const int64_t *m, int64_t front, int64_t behind, bool back,
                       const double *from, double *to) {
  int64_t dims[2 * MAX_RANK + 2] = {front};
  uint32_t perm[2 * MAX_RANK + 2] = {0}, rank = 2 * d + 2;
  for (uint32_t k = 0; k < d; k++) {
    dims[back ? 1 + 2 * k : 1 + k] = n[k];
    dims[back ? 2 + 2 * k : 1 + d + k] = m[k];
    perm[back ? 1 + k : 1 + 2 * k] = back ? 1 + 2 * k : 1 + k;
    perm[back ? 1 + d + k : 2 + 2 * k] = back ? 2 + 2 * k : 1 + d + k;
  }
  dims[rank - 1] = behind;
  perm[rank - 1] = rank - 1;
  tensor_permute(rank, dims, perm, from, to);
}

// The train of one side: modes [from, from + d) of `ask`, and the rank of the skeleton as a mode behind or in front.
static bool side_train(const Skeleton *s, const FactorAsk *ask, uint32_t from, uint32_t d, bool left, Forms *out,
                       Train *t) {
  int64_t modes[MAX_RANK + 1], size = s->r;
  double error2;
  bool differs;
  if (!left) modes[0] = s->r;
  for (uint32_t k = 0; k < d; k++) {
    modes[k + !left] = ask->in[from + k] * ask->out[from + k];
    size *= modes[k + !left];
  }
  if (left) modes[d] = s->r;
  double *paired = NEW_ARRAY(out->arena, double, size);
  const double *tensor = paired;
  pair_modes(d, ask->in + from, ask->out + from, left ? 1 : s->r, left ? s->r : 1, false, left ? s->left : s->right,
             paired);
  return train_of(1, d + 1, modes, &tensor, ask, 0, &differs, out, t, &error2);
}

// One train of both: what stands between them, r1 x r of the left and r x r2 of the right, goes into the core before.
static void join(const Train *a, const Train *b, Train *t, Arena *arena) {
  uint32_t k = a->d - 2;
  int64_t r1 = a->r[k + 1], r = a->n[k + 1], r2 = b->r[1];
  double *link = NEW_ARRAY(arena, double, r1 *r2);
  *t = (Train){.d = a->d + b->d - 2, .r = {1}};
  matrix_mul(r1, r2, r, a->core[k + 1], b->core[0], link);
  for (uint32_t i = 0; i <= k; i++) {
    t->n[i] = a->n[i];
    t->r[i + 1] = a->r[i + 1];
    t->core[i] = a->core[i];
  }
  t->r[k + 1] = r2;
  t->core[k] = NEW_ARRAY(arena, double, a->r[k] * a->n[k] * r2);
  matrix_mul(a->r[k] * a->n[k], r2, r1, a->core[k], link, t->core[k]);
  for (uint32_t i = 1; i < b->d; i++) {
    t->n[k + i] = b->n[i];
    t->r[k + i + 1] = b->r[i + 1];
    t->core[k + i] = b->core[i];
  }
}

// Weights that cores [from, from + d) stand for, as one side of the skeleton's matrix: the rank between the sides is
// the mode of a core of ones on the diagonal.
static double *side_tensor(const Train *t, const FactorAsk *ask, uint32_t from, uint32_t d, bool left, Arena *arena) {
  Train part = {.d = d + 1};
  int64_t r = left ? t->r[from + d] : t->r[from], size = r;
  double *unit = NEW_ARRAY(arena, double, r *r);
  uint32_t at = left ? 0 : 1;
  for (int64_t i = 0; i < r; i++) unit[i * r + i] = 1;
  part.n[left ? d : 0] = r;
  part.core[left ? d : 0] = unit;
  part.r[0] = part.r[d + 1] = 1;
  part.r[left ? d : 1] = r;
  for (uint32_t k = 0; k < d; k++) {
    part.n[at + k] = t->n[from + k];
    part.core[at + k] = t->core[from + k];
    part.r[at + k] = at + k == 0 ? 1 : t->r[from + k];
    size *= t->n[from + k];
  }
  double *paired = NEW_ARRAY(arena, double, size), *w = NEW_ARRAY(arena, double, size);
  train_tensor(&part, paired, arena);
  pair_modes(d, ask->in + from, ask->out + from, left ? 1 : r, left ? r : 1, true, paired, w);
  return w;
}

// Modes in front of the cut with the fewest numbers on both sides.
static uint32_t best_cut(const FactorLayer *l, const FactorAsk *ask, int64_t *n, int64_t *m) {
  int64_t least = 0, rows = 1, in = 1, out = 1;
  uint32_t cut = 0;
  for (uint32_t k = 0; k + 1 < ask->n_in; k++) {
    in *= ask->in[k];
    out *= ask->out[k];
    rows *= ask->in[k] * ask->out[k];
    int64_t both = rows + l->n_w / rows;
    if (cut > 0 && both >= least) continue;
    least = both;
    cut = k + 1;
    *n = in;
    *m = out;
  }
  return cut;
}

Form *large_train(const FactorLayer *l, const FactorAsk *ask, Forms *out, double *error) {
  int64_t n = 1, m = 1;
  uint32_t cut = best_cut(l, ask, &n, &m), rest = ask->n_in - cut;
  View v = dense_view(l, n, m);
  Skeleton s;
  Train a, b, t;
  int64_t rank = view_rank(&v, MOST_COLUMNS / 2, MOST_COLUMNS / 2, out->arena);
  if (cut == 0 || rank <= 0 || !skeleton_of(&v, rank, &s, out->arena)) return NULL;
  if (!side_train(&s, ask, 0, cut, true, out, &a) || !side_train(&s, ask, cut, rest, false, out, &b)) return NULL;
  join(&a, &b, &t, out->arena);
  for (uint32_t k = 0; k < t.d; k++) round_factors(l->dtype, t.r[k] * t.n[k] * t.r[k + 1], t.core[k]);
  *error = skeleton_error(&s, t.r[cut], side_tensor(&t, ask, 0, cut, true, out->arena),
                          side_tensor(&t, ask, cut, rest, false, out->arena), out->arena);
  tt_dense_form(l, &t, ask->in, ask->out, 0, out);
  return out->list.at[out->list.n - 1];
}
