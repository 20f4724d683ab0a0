// topk and cumsum.
//
// topk orders by value, NaN counting as the largest, and by index among equals. Few results: each scan of the row finds
// the best element after the one found before it. Many: a merge sort of the row's indices in the workspace.
#include <math.h>

#include "passes/lower/lanes.h"

#define SCAN_MAX 16  // most results found by scans

typedef struct Topk {
  LowerCtx *ctx;
  DType t;
  bool largest;
  int64_t k;
  AxisView v;
  KBuf *x, *values, *places;  // results may be NULL
  KBuf *order[2];             // merge sort: two rows of indices
  Affine x0, y0;
} Topk;

// Strictly better by value.
static KExpr *better(const Topk *t, KBuild *b, KExpr *x, KExpr *y) {
  KExpr *less = kx_op2(b, t->largest ? KOP_GT : KOP_LT, x, y);
  if (!dtype_is_float(t->t)) return less;
  // NaN is above every number and equal to itself.
  KExpr *x_nan = kx_op1(b, KOP_ISNAN, kx_clone(b, x)), *y_nan = kx_op1(b, KOP_ISNAN, kx_clone(b, y));
  KExpr *nan_wins = t->largest ? kx_op2(b, KOP_AND, x_nan, kx_op1(b, KOP_NOT, y_nan))
                               : kx_op2(b, KOP_AND, y_nan, kx_op1(b, KOP_NOT, x_nan));
  return kx_op2(b, KOP_OR, less, nan_wins);
}

static KExpr *element(const Topk *t, KBuild *b, Affine k) {
  return lower_load1(b, t->x, aff_add(t->x0, aff_mul(k, t->v.inner)));
}

static void put(const Topk *t, KBuild *b, Affine rank, Affine place) {
  Affine to = aff_add(t->y0, aff_mul(rank, t->v.inner));
  if (t->values) lower_store1(b, t->values, to, element(t, b, place));
  if (t->places) kb_store1(b, t->places, to, kx_index(b, place));
}

// ---- scans: element i comes after (value, place) when it is worse, or equal and further right

static void scan_row(const Topk *t, KBuild *b) {
  const int64_t two = 2;
  Affine zero = aff(0), one = aff(1);
  KBuf *value = kb_alloc(b, "value", t->t, 1, &two, SPACE_REG);  // [0] found before, [1] best so far
  KBuf *place = kb_alloc(b, "place", DT_I64, 1, &two, SPACE_REG);
  kb_store1(b, place, zero, kx_i(b, DT_I64, -1));
  kb_store1(b, value, zero, lower_number(b, t->t, 0));
  Affine rank = aff_var(kb_for(b, "r", 0, t->k, 1, FOR_SEQ));
  kb_store1(b, place, one, kx_i(b, DT_I64, -1));
  kb_store1(b, value, one, lower_number(b, t->t, 0));
  Affine i = aff_var(kb_for(b, "i", 0, t->v.n, 1, FOR_SEQ));
  KVar *x = kb_let(b, "x", element(t, b, i));
  KVar *old = kb_let(b, "old", kx_load1(b, value, zero)), *best = kb_let(b, "best", kx_load1(b, value, one));
  KExpr *first = kx_op2(b, KOP_LT, kx_load1(b, place, zero), kx_i(b, DT_I64, 0));
  KExpr *worse = better(t, b, kx_var(b, old), kx_var(b, x));
  KExpr *equal = kx_op1(b, KOP_NOT, better(t, b, kx_var(b, x), kx_var(b, old)));
  KExpr *right = kx_op2(b, KOP_GT, kx_index(b, i), kx_load1(b, place, zero));
  KExpr *after = kx_op2(b, KOP_OR, kx_op2(b, KOP_OR, first, worse), kx_op2(b, KOP_AND, equal, right));
  KExpr *none = kx_op2(b, KOP_LT, kx_load1(b, place, one), kx_i(b, DT_I64, 0));
  KExpr *wins = kx_op2(b, KOP_OR, none, better(t, b, kx_var(b, x), kx_var(b, best)));
  kb_if(b, kx_op2(b, KOP_AND, after, wins));
  kb_store1(b, value, one, kx_var(b, x));
  kb_store1(b, place, one, kx_index(b, i));
  kb_end(b);
  kb_end(b);
  kb_store1(b, value, zero, kx_load1(b, value, one));
  kb_store1(b, place, zero, kx_load1(b, place, one));
  put(t, b, rank, aff_var(kb_let(b, "found", kx_load1(b, place, one))));
  kb_end(b);
}

// ---- merge sort of indices, runs of width 1, 2, 4, ...

static Affine let_min(KBuild *b, const char *name, Affine v, int64_t bound) {
  return aff_var(kb_let(b, name, kx_op2(b, KOP_MIN, kx_index(b, v), kx_i(b, DT_I64, bound))));
}

// Merges from[lo, mid) and from[mid, hi) into to[lo, hi); equal elements keep their order.
static void merge(const Topk *t, KBuild *b, KBuf *from, KBuf *to, Affine lo, Affine mid, Affine hi) {
  const int64_t two = 2, n = t->v.n;
  KBuf *at = kb_alloc(b, "at", DT_I64, 1, &two, SPACE_REG);
  kb_store1(b, at, aff(0), kx_index(b, lo));
  kb_store1(b, at, aff(1), kx_index(b, mid));
  Affine o = aff_var(kb_for_aff(b, "o", lo, hi, 1, FOR_SEQ));
  KVar *i = kb_let(b, "i", kx_load1(b, at, aff(0))), *j = kb_let(b, "j", kx_load1(b, at, aff(1)));
  Affine i_in = let_min(b, "ii", aff_var(i), n - 1), j_in = let_min(b, "jj", aff_var(j), n - 1);
  Affine pi = aff_var(kb_let(b, "pi", kx_load1(b, from, i_in))), pj = aff_var(kb_let(b, "pj", kx_load1(b, from, j_in)));
  KVar *xi = kb_let(b, "xi", element(t, b, pi)), *xj = kb_let(b, "xj", element(t, b, pj));
  KExpr *left_done = kx_op2(b, KOP_GE, kx_var(b, i), kx_index(b, mid));
  KExpr *right_left = kx_op2(b, KOP_LT, kx_var(b, j), kx_index(b, hi));
  KExpr *right_wins = kx_op2(b, KOP_AND, right_left, better(t, b, kx_var(b, xj), kx_var(b, xi)));
  kb_if(b, kx_op2(b, KOP_OR, left_done, right_wins));
  kb_store1(b, to, o, kx_index(b, pj));
  kb_store1(b, at, aff(1), kx_op2(b, KOP_ADD, kx_var(b, j), kx_i(b, DT_I64, 1)));
  kb_else(b);
  kb_store1(b, to, o, kx_index(b, pi));
  kb_store1(b, at, aff(0), kx_op2(b, KOP_ADD, kx_var(b, i), kx_i(b, DT_I64, 1)));
  kb_end(b);
  kb_end(b);
}

static void sort_row(const Topk *t, KBuild *b) {
  int64_t n = t->v.n;
  uint32_t now = 0;
  Affine i = aff_var(kb_for(b, "i", 0, n, 1, FOR_SEQ));
  kb_store1(b, t->order[0], i, kx_index(b, i));
  kb_end(b);
  for (int64_t width = 1; width < n; width *= 2, now = 1 - now) {
    Affine lo = aff_var(kb_for(b, "lo", 0, n, 2 * width, FOR_SEQ));
    Affine mid = let_min(b, "mid", aff_plus(lo, width), n), hi = let_min(b, "hi", aff_plus(lo, 2 * width), n);
    merge(t, b, t->order[now], t->order[1 - now], lo, mid, hi);
    kb_end(b);
  }
  Affine r = aff_var(kb_for(b, "r", 0, t->k, 1, FOR_SEQ));
  put(t, b, r, aff_var(kb_let(b, "found", kx_load1(b, t->order[now], r))));
  kb_end(b);
}

bool lower_topk(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type;
  int64_t axis = op_int(op, A_TOPK_axis);
  Topk t = {.ctx = ctx, .t = lower_compute_type(x->dtype), .largest = op_bool(op, A_TOPK_largest)};
  PBuf *bufs[5];
  uint32_t n_bufs = 0;
  KBuild b;
  t.v = lower_axis_view(x, axis);
  t.k = op_int(op, A_TOPK_k);
  bool sort = t.k > SCAN_MAX;
  lower_begin(ctx, &b, op);
  for (uint32_t i = 0; i < 2; i++) {
    if (!lower_is_used(op, i)) continue;
    bufs[n_bufs] = lower_buf(ctx, op_out(op, i));
    *(i == 0 ? &t.values : &t.places) = lower_flat(&b, bufs[n_bufs++]);
  }
  t.x = lower_flat(&b, bufs[n_bufs++] = lower_buf(ctx, op_in(op, 0)));
  for (uint32_t i = 0; i < 2 && sort; i++) {
    bufs[n_bufs] = lower_work(ctx, "order", type_tensor(ctx->m->types, DT_I64, 1, &t.v.n));
    t.order[i] = lower_flat(&b, bufs[n_bufs++]);
  }
  Affine o = aff_var(kb_for(&b, "o", 0, t.v.outer, 1, FOR_SEQ)), i = aff_var(kb_for(&b, "c", 0, t.v.inner, 1, FOR_SEQ));
  t.x0 = aff_add(aff_mul(o, t.v.n * t.v.inner), i);
  t.y0 = aff_add(aff_mul(o, t.k * t.v.inner), i);
  if (sort) {
    sort_row(&t, &b);
  } else {
    scan_row(&t, &b);
  }
  kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, n_bufs, bufs);
  return true;
}

// ---- cumsum

typedef struct Cumsum {
  bool exclusive, reverse;
  AxisView v;
  KBuf *x, *y, *sum;
  Affine x0;
} Cumsum;

static void cumsum_step(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Cumsum *c = ctx;
  Affine place = c->reverse ? aff_sub(aff(c->v.n - 1), k[0]) : k[0];
  Affine at = aff_add(aff_add(c->x0, aff_mul(place, c->v.inner)), aff_mul(col, c->v.step));
  KVar *before = kb_let(b, "before", kx_load(b, c->sum, acc));
  KVar *now = kb_let(b, "now", kx_op2(b, KOP_ADD, kx_var(b, before), lower_load1(b, c->x, at)));
  lower_store1(b, c->y, at, kx_var(b, c->exclusive ? before : now));
  kb_store(b, c->sum, acc, kx_var(b, now));
}

static void cumsum_tile(void *ctx, KBuild *b, const Columns *cols, Affine x0) {
  Cumsum *c = ctx;
  DType t = lower_compute_type(c->x->type);
  c->x0 = x0;
  c->sum = columns_alloc(b, cols, "sum", t);
  columns_fill(b, cols, c->sum, lower_number(b, t, 0));
  columns_over(b, cols, 1, &c->v.n, cumsum_step, c);
}

static void cumsum_row(void *ctx, KBuild *b, Affine x0) {
  Columns one = {.lanes = 1, .width = 1, .tail = 1};
  cumsum_tile(ctx, b, &one, x0);
}

bool lower_cumsum(LowerCtx *ctx, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  int64_t axis = op_int(op, A_CUMSUM_axis);
  Cumsum c = {.exclusive = op_bool(op, A_CUMSUM_exclusive), .reverse = op_bool(op, A_CUMSUM_reverse)};
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *y = lower_buf(ctx, op_out(op, 0));
  KBuild b;
  c.v = lower_axis_view(t, axis);
  lower_begin(ctx, &b, op);
  c.y = lower_flat(&b, y);
  c.x = lower_flat(&b, x);
  axis_rows(ctx, &b, lower_compute_type(t->dtype), &c.v, cumsum_row, cumsum_tile, &c);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}
