// topk and cumsum.
//
// topk orders by value, NaN counting as the largest, and by index among equals. Few results of many elements: one pass
// that inserts into a sorted list, by vectors; most elements only meet its last entry. Else a merge sort of the row's
// indices. Both work in the workspace.
#include <math.h>

#include "passes/lower/lanes.h"

typedef struct Topk {
  LowerCtx *ctx;
  DType t;
  bool largest;
  int64_t k;
  AxisView v;
  KBuf *x, *values, *places;  // results may be NULL
  KBuf *order[2];             // merge sort: two rows of indices
  KBuf *list, *at;            // insertion: values and places
  DType place_type;
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

// ---- a sorted list of the best, in entries 1..k; entry 0 is never beaten

typedef struct Insert {
  const Topk *t;
  KVar *x;
  Affine i;      // place of x
  bool filling;  // entries from i on are empty
} Insert;

static KExpr *beats(const Insert *in, KBuild *b, KVar *entry, Affine number) {
  KExpr *wins = better(in->t, b, kx_var(b, in->x), kx_var(b, entry));
  if (!in->filling) return wins;
  return kx_op2(b, KOP_OR, kx_op2(b, KOP_GE, kx_index(b, number), kx_index(b, in->i)), wins);
}

// New contents of the entries of `width` ranks from r0 on: an entry that x beats takes the one before it, or x where
// that one is not beaten.
static void insert_block(const Insert *in, KBuild *b, Affine r0, int64_t width) {
  const Topk *t = in->t;
  KBuf *value = kb_alloc(b, "v", t->t, 1, &width, SPACE_REG),
       *place = kb_alloc(b, "p", t->place_type, 1, &width, SPACE_REG);
  Affine l = aff_var(kb_for(b, "l", 0, width, 1, FOR_VEC)), before = aff_add(r0, l), entry = aff_plus(before, 1);
  KVar *old = kb_let(b, "old", kx_load1(b, t->list, entry)), *prev = kb_let(b, "prev", kx_load1(b, t->list, before));
  KVar *down = kb_let(b, "down", beats(in, b, prev, aff_plus(before, -1)));
  KVar *here = kb_let(b, "here", beats(in, b, old, before));
  KExpr *v = kx_op3(b, KOP_SELECT, kx_var(b, here), kx_var(b, in->x), kx_var(b, old));
  kb_store1(b, value, l, kx_op3(b, KOP_SELECT, kx_var(b, down), kx_var(b, prev), v));
  KExpr *i = kx_cast(b, t->place_type, kx_index(b, in->i));
  KExpr *p = kx_op3(b, KOP_SELECT, kx_var(b, here), i, kx_load1(b, t->at, entry));
  kb_store1(b, place, l, kx_op3(b, KOP_SELECT, kx_var(b, down), kx_load1(b, t->at, before), p));
  kb_end(b);
  l = aff_var(kb_for(b, "l", 0, width, 1, FOR_VEC));
  entry = aff_plus(aff_add(r0, l), 1);
  kb_store1(b, t->list, entry, kx_load1(b, value, l));
  kb_store1(b, t->at, entry, kx_load1(b, place, l));
  kb_end(b);
}

// The last ranks first: a block reads the entry before it.
static void insert(const Insert *in, KBuild *b) {
  int64_t lanes = target_lanes(in->t->ctx->target, dtype_info(in->t->t)->bits), k = in->t->k;
  if (lanes < 1) lanes = 1;
  int64_t blocks = k / lanes, rest = k % lanes;
  if (blocks) {
    Affine s = aff_var(kb_for(b, "s", 0, blocks, 1, FOR_SEQ));
    insert_block(in, b, aff_sub(aff(k - lanes), aff_mul(s, lanes)), lanes);
    kb_end(b);
  }
  if (rest) insert_block(in, b, aff(0), rest);
}

static KExpr *unbeaten(const Topk *t, KBuild *b) {
  if (dtype_is_float(t->t)) return kx_f(b, t->t, t->largest ? NAN : -INFINITY);
  return lanes_neutral(b, t->t, t->largest ? KOP_MIN : KOP_MAX);
}

static void insert_row(const Topk *t, KBuild *b) {
  Insert in = {.t = t, .filling = true};
  kb_store1(b, t->list, aff(0), unbeaten(t, b));
  kb_store1(b, t->at, aff(0), kx_i(b, t->place_type, 0));
  Affine e = aff_var(kb_for(b, "e", 1, t->k + 1, 1, FOR_SEQ));
  kb_store1(b, t->list, e, lower_number(b, t->t, 0));
  kb_store1(b, t->at, e, kx_i(b, t->place_type, 0));
  kb_end(b);
  in.i = aff_var(kb_for(b, "i", 0, t->k, 1, FOR_SEQ));
  in.x = kb_let(b, "x", element(t, b, in.i));
  insert(&in, b);
  kb_end(b);
  in.filling = false;
  in.i = aff_var(kb_for(b, "i", t->k, t->v.n, 1, FOR_SEQ));
  in.x = kb_let(b, "x", element(t, b, in.i));
  kb_if(b, better(t, b, kx_var(b, in.x), kx_load1(b, t->list, aff(t->k))));
  insert(&in, b);
  kb_end(b);
  kb_end(b);
  Affine r = aff_var(kb_for(b, "r", 0, t->k, 1, FOR_SEQ));
  put(t, b, r, aff_var(kb_let(b, "found", kx_load1(b, t->at, aff_plus(r, 1)))));
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

// Rough work of both ways, in operations: on random input the list changes k (1 + ln(n / k)) times.
static bool sort_is_cheaper(const Topk *t) {
  double n = (double)t->v.n, k = (double)t->k;
  return n * log2(n + 1) * 6 < 3 * n + k * (1 + log(n / k)) * (20 + k / 2);
}

static PBuf *row_scratch(Topk *t, KBuild *b, const char *name, DType type, int64_t n, KBuf **param) {
  PBuf *buf = lower_work(t->ctx, name, type_tensor(t->ctx->m->types, type, 1, &n));
  *param = lower_flat(b, buf);
  return buf;
}

bool lower_topk(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type;
  int64_t axis = op_int(op, A_TOPK_axis);
  Topk t = {.ctx = ctx, .t = lower_compute_type(x->dtype), .largest = op_bool(op, A_TOPK_largest)};
  PBuf *bufs[5];
  uint32_t n = 0;
  KBuild b;
  t.v = lower_axis_view(x, axis);
  t.k = op_int(op, A_TOPK_k);
  t.place_type = t.v.n <= INT32_MAX ? DT_I32 : DT_I64;
  bool sort = sort_is_cheaper(&t);
  lower_begin(ctx, &b, op);
  for (uint32_t i = 0; i < 2; i++) {
    if (!lower_is_used(op, i)) continue;
    bufs[n] = lower_buf(ctx, op_out(op, i));
    *(i == 0 ? &t.values : &t.places) = lower_flat(&b, bufs[n++]);
  }
  t.x = lower_flat(&b, bufs[n++] = lower_buf(ctx, op_in(op, 0)));
  bufs[n++] = sort ? row_scratch(&t, &b, "order", DT_I64, t.v.n, &t.order[0])
                   : row_scratch(&t, &b, "best", t.t, t.k + 1, &t.list);
  bufs[n++] = sort ? row_scratch(&t, &b, "order", DT_I64, t.v.n, &t.order[1])
                   : row_scratch(&t, &b, "at", t.place_type, t.k + 1, &t.at);
  Affine o = aff_var(kb_for(&b, "o", 0, t.v.outer, 1, FOR_SEQ)), i = aff_var(kb_for(&b, "c", 0, t.v.inner, 1, FOR_SEQ));
  t.x0 = aff_add(aff_mul(o, t.v.n * t.v.inner), i);
  t.y0 = aff_add(aff_mul(o, t.k * t.v.inner), i);
  if (sort) {
    sort_row(&t, &b);
  } else {
    insert_row(&t, &b);
  }
  kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, n, bufs);
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
