// Reductions over lanes. See lanes.h.
#include "passes/lower/lanes.h"

#include <math.h>

#define SHORT_ROW 8     // longest row that gets a lane instead of lanes
#define ACCUMULATORS 4  // independent chains, enough to hide the latency of an add

KExpr *lanes_neutral(KBuild *b, DType t, KOp op) {
  bool f = dtype_is_float(t);
  switch (op) {
    case KOP_MUL: return lower_number(b, t, 1);
    case KOP_MAX: return f ? kx_f(b, t, -INFINITY) : kx_i(b, t, t == DT_BOOL ? 0 : dtype_min(t));
    case KOP_MIN: return f ? kx_f(b, t, INFINITY) : kx_i(b, t, t == DT_BOOL ? 1 : t == DT_U64 ? -1 : dtype_max(t));
    default: return lower_number(b, t, 0);
  }
}

static int64_t lanes_of(LowerCtx *ctx, DType t) {
  int64_t n = target_lanes(ctx->target, dtype_info(t)->bits);
  return n > 0 ? n : 1;
}

// No loop for a single iteration.
static Affine open_unroll(KBuild *b, const char *name, int64_t n) {
  return n > 1 ? aff_var(kb_for(b, name, 0, n, 1, FOR_UNROLL)) : aff(0);
}

static void close_unroll(KBuild *b, int64_t n) {
  if (n > 1) kb_end(b);
}

// ---- rows

typedef struct Row {
  KBuild *b;
  KOp op;
  KBuf *acc;
  int64_t lanes;
  uint32_t rank;
  Affine at[MAX_RANK];
  LaneFn *fn;
  void *ctx;
} Row;

// acc[u, l] = op(acc[u, l], fn(..., from + l)) for l in 0..width
static void row_vector(Row *r, Affine from, Affine u, int64_t width) {
  KVar *l = kb_for(r->b, "l", 0, width, 1, FOR_VEC);
  Affine acc[2] = {u, aff_var(l)};
  r->at[r->rank - 1] = aff_add(from, aff_var(l));
  KExpr *value = r->fn(r->ctx, r->b, r->at);
  kb_store(r->b, r->acc, acc, kx_op2(r->b, r->op, kx_load(r->b, r->acc, acc), value));
  kb_end(r->b);
}

// All n elements of the innermost loop: blocks of `units` vectors, single vectors, the rest.
static void row_inner(Row *r, int64_t n, int64_t units) {
  KBuild *b = r->b;
  int64_t block = units * r->lanes, blocks = n / block, done = blocks * block;
  if (blocks > 0) {
    KVar *k = kb_for(b, "k", 0, done, block, FOR_SEQ);
    Affine u = open_unroll(b, "u", units);
    row_vector(r, aff_add(aff_var(k), aff_mul(u, r->lanes)), u, r->lanes);
    close_unroll(b, units);
    kb_end(b);
  }
  int64_t singles = (n - done) / r->lanes;
  if (singles > 0) {
    Affine u = open_unroll(b, "u", singles);
    row_vector(r, aff_plus(aff_mul(u, r->lanes), done), u, r->lanes);
    close_unroll(b, singles);
    done += singles * r->lanes;
  }
  if (done < n) row_vector(r, aff(done), aff(0), n - done);
}

static void acc_fill(KBuild *b, KBuf *acc, int64_t units, int64_t lanes, DType t, KOp op) {
  Affine u = open_unroll(b, "u", units);
  KVar *l = kb_for(b, "l", 0, lanes, 1, FOR_VEC);
  kb_store(b, acc, (Affine[]){u, aff_var(l)}, lanes_neutral(b, t, op));
  kb_end(b);
  close_unroll(b, units);
}

// acc[0] = op(acc[0], acc[half]) in halves, then over the lanes into place[0].
static void acc_combine(KBuild *b, KBuf *acc, int64_t units, int64_t lanes, KOp op, KBuf *place) {
  for (int64_t half = units / 2; half > 0; half /= 2) {
    Affine u = open_unroll(b, "u", half);
    KVar *l = kb_for(b, "l", 0, lanes, 1, FOR_VEC);
    Affine to[2] = {u, aff_var(l)}, from[2] = {aff_plus(u, half), aff_var(l)};
    kb_store(b, acc, to, kx_op2(b, op, kx_load(b, acc, to), kx_load(b, acc, from)));
    kb_end(b);
    close_unroll(b, half);
  }
  KVar *l = kb_for(b, "l", 0, lanes, 1, FOR_VEC);
  Affine zero = aff(0);
  kb_reduce(b, op, place, &zero, kx_load(b, acc, (Affine[]){aff(0), aff_var(l)}));
  kb_end(b);
}

static void row_scalar(Row *r, int64_t n, KBuf *place) {
  KVar *k = kb_for(r->b, "k", 0, n, 1, FOR_SEQ);
  r->at[r->rank - 1] = aff_var(k);
  KExpr *value = r->fn(r->ctx, r->b, r->at);
  kb_store1(r->b, place, aff(0), kx_op2(r->b, r->op, kx_load1(r->b, place, aff(0)), value));
  kb_end(r->b);
}

KVar *lanes_row(LowerCtx *ctx, KBuild *b, DType t, KOp op, uint32_t rank, const int64_t *dims, LaneFn *fn,
                void *fn_ctx) {
  const int64_t one = 1, n = dims[rank - 1];
  Row r = {.b = b, .op = op, .lanes = lanes_of(ctx, t), .rank = rank, .fn = fn, .ctx = fn_ctx};
  int64_t units = n >= ACCUMULATORS * r.lanes ? ACCUMULATORS : n >= 2 * r.lanes ? 2 : 1;
  bool scalar = n < 4 || r.lanes == 1;
  KBuf *place = kb_alloc(b, "r", t, 1, &one, SPACE_REG);
  kb_store1(b, place, aff(0), lanes_neutral(b, t, op));
  if (!scalar) {
    r.acc = kb_alloc(b, "acc", t, 2, (int64_t[]){units, r.lanes}, SPACE_REG);
    acc_fill(b, r.acc, units, r.lanes, t, op);
  }
  for (uint32_t i = 0; i + 1 < rank; i++) {
    r.at[i] = dims[i] == 1 ? aff(0) : aff_var(kb_for(b, "o", 0, dims[i], 1, FOR_SEQ));
  }
  if (scalar) {
    row_scalar(&r, n, place);
  } else {
    row_inner(&r, n, units);
  }
  for (uint32_t i = 0; i + 1 < rank; i++) {
    if (dims[i] != 1) kb_end(b);
  }
  if (!scalar) acc_combine(b, r.acc, units, r.lanes, op, place);
  return kb_let(b, "total", kx_load1(b, place, aff(0)));
}

// ---- columns

int64_t columns_max(LowerCtx *ctx, DType t) { return ACCUMULATORS * lanes_of(ctx, t); }

Columns columns_new(LowerCtx *ctx, DType t, int64_t width) {
  Columns c = {.lanes = lanes_of(ctx, t), .width = width};
  c.vectors = width / c.lanes;
  c.tail = width % c.lanes;
  return c;
}

KBuf *columns_alloc(KBuild *b, const Columns *c, const char *name, DType t) {
  int64_t vectors = c->vectors + (c->tail > 0), lanes = c->vectors ? c->lanes : c->tail;
  return kb_alloc(b, name, t, 2, (int64_t[]){vectors, lanes}, SPACE_REG);
}

void columns_each(KBuild *b, const Columns *c, const Affine *k, ColumnFn *fn, void *ctx) {
  if (c->vectors) {
    Affine v = open_unroll(b, "v", c->vectors);
    KVar *l = kb_for(b, "l", 0, c->lanes, 1, FOR_VEC);
    Affine acc[2] = {v, aff_var(l)};
    fn(ctx, b, k, aff_add(aff_mul(v, c->lanes), aff_var(l)), acc);
    kb_end(b);
    close_unroll(b, c->vectors);
  }
  if (c->tail == 1) {
    Affine acc[2] = {aff(c->vectors), aff(0)};
    fn(ctx, b, k, aff(c->vectors * c->lanes), acc);
  } else if (c->tail) {
    KVar *l = kb_for(b, "l", 0, c->tail, 1, FOR_VEC);
    Affine acc[2] = {aff(c->vectors), aff_var(l)};
    fn(ctx, b, k, aff_plus(aff_var(l), c->vectors * c->lanes), acc);
    kb_end(b);
  }
}

typedef struct Fill {
  KBuf *acc;
  KExpr *value;
} Fill;

static void fill_lane(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)col;
  Fill *f = ctx;
  kb_store(b, f->acc, acc, kx_clone(b, f->value));
}

void columns_fill(KBuild *b, const Columns *c, KBuf *acc, KExpr *value) {
  Fill f = {acc, value};
  columns_each(b, c, NULL, fill_lane, &f);
}

void columns_over(KBuild *b, const Columns *c, uint32_t rank, const int64_t *dims, ColumnFn *fn, void *ctx) {
  Affine k[MAX_RANK] = {0};
  for (uint32_t i = 0; i < rank; i++) k[i] = aff_var(kb_for(b, "k", 0, dims[i], 1, FOR_SEQ));
  columns_each(b, c, k, fn, ctx);
  for (uint32_t i = 0; i < rank; i++) kb_end(b);
}

// A par loop is alone in its kernel, so the rest is one of its iterations.
static void par_tiles(LowerCtx *ctx, KBuild *b, DType t, int64_t whole, int64_t rest, TileFn *fn, void *fn_ctx) {
  int64_t width = columns_max(ctx, t);
  Columns c = columns_new(ctx, t, width), last = columns_new(ctx, t, rest);
  KVar *first = kb_for(b, "c", 0, whole + rest, width, FOR_PAR);
  if (rest) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, aff_var(first)), kx_i(b, DT_I64, whole)));
  fn(fn_ctx, b, &c, aff_var(first));
  if (rest) {
    kb_else(b);
    fn(fn_ctx, b, &last, aff(whole));
    kb_end(b);
  }
  kb_end(b);
}

void columns_tiles(LowerCtx *ctx, KBuild *b, DType t, int64_t count, bool par, TileFn *fn, void *fn_ctx) {
  int64_t width = columns_max(ctx, t), rest = count % width, whole = count - rest;
  if (par && whole) {
    par_tiles(ctx, b, t, whole, rest, fn, fn_ctx);
    return;
  }
  if (whole) {
    Columns c = columns_new(ctx, t, width);
    bool loop = whole > width;
    Affine first = loop ? aff_var(kb_for(b, "c", 0, whole, width, FOR_SEQ)) : aff(0);
    fn(fn_ctx, b, &c, first);
    if (loop) kb_end(b);
  }
  if (rest) {
    Columns c = columns_new(ctx, t, rest);
    fn(fn_ctx, b, &c, aff(whole));
  }
}

AxisView lower_axis_view(const Type *t, int64_t axis) {
  if (axis < 0) axis += t->rank;
  AxisView v = {.outer = 1, .n = t->dims[axis], .inner = 1, .step = 1};
  for (int64_t i = 0; i < axis; i++) v.outer *= t->dims[i];
  for (int64_t i = axis + 1; i < (int64_t)t->rank; i++) v.inner *= t->dims[i];
  return v;
}

typedef struct Shifted {
  TileFn *tile;
  void *ctx;
  Affine by;
  int64_t step;
} Shifted;

static void shifted_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Shifted *s = ctx;
  s->tile(s->ctx, b, c, aff_add(s->by, aff_mul(first, s->step)));
}

void axis_rows(LowerCtx *ctx, KBuild *b, DType t, AxisView *v, RowFn *row, TileFn *tile, void *fn_ctx) {
  bool par = v->outer * v->n * v->inner >= LANES_PAR_MIN, loop = v->outer > 1;
  if (v->inner == 1 && v->n <= SHORT_ROW && v->outer >= lanes_of(ctx, t)) {
    v->step = v->n;
    Shifted s = {tile, fn_ctx, aff(0), v->n};
    columns_tiles(ctx, b, t, v->outer, par, shifted_tile, &s);
    return;
  }
  Shifted s = {tile, fn_ctx, aff(0), 1};
  if (loop) s.by = aff_term(kb_for(b, "o", 0, v->outer, 1, par ? FOR_PAR : FOR_SEQ), v->n * v->inner);
  if (v->inner == 1) {
    row(fn_ctx, b, s.by);
  } else {
    columns_tiles(ctx, b, t, v->inner, par && !loop, shifted_tile, &s);
  }
  if (loop) kb_end(b);
}
