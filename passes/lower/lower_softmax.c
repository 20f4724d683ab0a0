// softmax, log_softmax and lp_norm: every row along one axis is read for its largest element (softmax), for its sum,
// and once more for the result. Exponentials are kept in the result between the passes when its type holds them.
#include "passes/lower/lanes.h"

typedef struct Softmax {
  LowerCtx *ctx;
  OpKind kind;
  int64_t p;  // of lp_norm
  DType t;
  AxisView v;
  KBuf *x, *y;
  bool keep;  // y holds exp(x - max) between the passes
  Affine x0;
  KVar *max_, *sum_;   // rows
  KBuf *maxes, *sums;  // columns
} Softmax;

// Largest element and sum of the row or lane at hand.
static KExpr *max_of(const Softmax *s, KBuild *b, const Affine *acc) {
  return acc ? kx_load(b, s->maxes, acc) : kx_var(b, s->max_);
}

static KExpr *sum_of(const Softmax *s, KBuild *b, const Affine *acc) {
  return acc ? kx_load(b, s->sums, acc) : kx_var(b, s->sum_);
}

static KExpr *centred(const Softmax *s, KBuild *b, Affine at, const Affine *acc) {
  return kx_op2(b, KOP_SUB, lower_load1(b, s->x, at), max_of(s, b, acc));
}

// What is summed.
static KExpr *term(const Softmax *s, KBuild *b, Affine at, const Affine *acc) {
  if (s->kind == OP_LP_NORM) {
    KVar *x = kb_let(b, "x", lower_load1(b, s->x, at));
    return s->p == 1 ? kx_op1(b, KOP_ABS, kx_var(b, x)) : kx_op2(b, KOP_MUL, kx_var(b, x), kx_var(b, x));
  }
  KVar *e = kb_let(b, "e", kx_op1(b, KOP_EXP, centred(s, b, at, acc)));
  if (s->keep) lower_store1(b, s->y, at, kx_var(b, e));
  return kx_var(b, e);
}

// What the sum becomes before it is used.
static KExpr *closed(const Softmax *s, KBuild *b, KExpr *sum) {
  if (s->kind == OP_LOG_SOFTMAX) return kx_op1(b, KOP_LOG, sum);
  if (s->kind == OP_SOFTMAX) return kx_op2(b, KOP_DIV, kx_f(b, s->t, 1), sum);
  if (s->kind == OP_LP_NORM && s->p != 1) return kx_op1(b, KOP_SQRT, sum);
  return sum;
}

static KExpr *result(const Softmax *s, KBuild *b, Affine at, const Affine *acc) {
  if (s->kind == OP_LOG_SOFTMAX) return kx_op2(b, KOP_SUB, centred(s, b, at, acc), sum_of(s, b, acc));
  if (s->kind == OP_SOFTMAX) {
    KExpr *e = s->keep ? lower_load1(b, s->y, at) : kx_op1(b, KOP_EXP, centred(s, b, at, acc));
    return kx_op2(b, KOP_MUL, e, sum_of(s, b, acc));
  }
  KExpr *zero = kx_op2(b, KOP_EQ, sum_of(s, b, acc), kx_f(b, s->t, 0));
  KExpr *q = kx_op2(b, KOP_DIV, lower_load1(b, s->x, at), sum_of(s, b, acc));
  return kx_op3(b, KOP_SELECT, zero, kx_f(b, s->t, 0), q);
}

// ---- rows

static KExpr *row_x(void *ctx, KBuild *b, const Affine *k) {
  const Softmax *s = ctx;
  return lower_load1(b, s->x, aff_add(s->x0, k[0]));
}

static KExpr *row_term(void *ctx, KBuild *b, const Affine *k) {
  const Softmax *s = ctx;
  return term(s, b, aff_add(s->x0, k[0]), NULL);
}

static void emit_row(void *ctx, KBuild *b, Affine x0) {
  Softmax *s = ctx;
  s->x0 = x0;
  if (s->kind != OP_LP_NORM) s->max_ = lanes_row(s->ctx, b, s->t, KOP_MAX, 1, &s->v.n, row_x, s);
  KVar *sum = lanes_row(s->ctx, b, s->t, KOP_ADD, 1, &s->v.n, row_term, s);
  s->sum_ = kb_let(b, "sum", closed(s, b, kx_var(b, sum)));
  KVar *k = kb_for(b, "k", 0, s->v.n, 1, FOR_VEC);
  Affine at = aff_add(x0, aff_var(k));
  lower_store1(b, s->y, at, result(s, b, at, NULL));
  kb_end(b);
}

// ---- columns

static Affine column_at(const Softmax *s, const Affine *k, Affine col) {
  return aff_add(aff_add(s->x0, aff_mul(k[0], s->v.inner)), aff_mul(col, s->v.step));
}

static void column_max(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Softmax *s = ctx;
  KExpr *x = lower_load1(b, s->x, column_at(s, k, col));
  kb_store(b, s->maxes, acc, kx_op2(b, KOP_MAX, kx_load(b, s->maxes, acc), x));
}

static void column_sum(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Softmax *s = ctx;
  KExpr *x = term(s, b, column_at(s, k, col), acc);
  kb_store(b, s->sums, acc, kx_op2(b, KOP_ADD, kx_load(b, s->sums, acc), x));
}

static void column_close(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)col;
  Softmax *s = ctx;
  kb_store(b, s->sums, acc, closed(s, b, kx_load(b, s->sums, acc)));
}

static void column_result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Softmax *s = ctx;
  Affine at = column_at(s, k, col);
  lower_store1(b, s->y, at, result(s, b, at, acc));
}

static void emit_tile(void *ctx, KBuild *b, const Columns *c, Affine x0) {
  Softmax *s = ctx;
  s->x0 = x0;
  if (s->kind != OP_LP_NORM) {
    s->maxes = columns_alloc(b, c, "max", s->t);
    columns_fill(b, c, s->maxes, lanes_neutral(b, s->t, KOP_MAX));
    columns_over(b, c, 1, &s->v.n, column_max, s);
  }
  s->sums = columns_alloc(b, c, "sum", s->t);
  columns_fill(b, c, s->sums, lanes_neutral(b, s->t, KOP_ADD));
  columns_over(b, c, 1, &s->v.n, column_sum, s);
  columns_each(b, c, NULL, column_close, s);
  columns_over(b, c, 1, &s->v.n, column_result, s);
}

static bool emit(LowerCtx *ctx, const Op *op, int64_t axis, int64_t p) {
  const Type *t = op_in(op, 0)->type;
  Softmax s = {.ctx = ctx, .kind = op->kind, .p = p, .t = lower_compute_type(t->dtype)};
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *y = lower_buf(ctx, op_out(op, 0));
  KBuild b;
  s.v = lower_axis_view(t, axis);
  s.keep = op->kind == OP_SOFTMAX && t->dtype == s.t;
  lower_begin(ctx, &b, op);
  s.y = lower_flat(&b, y);
  s.x = lower_flat(&b, x);
  axis_rows(ctx, &b, s.t, &s.v, emit_row, emit_tile, &s);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}

bool lower_softmax(LowerCtx *ctx, const Op *op) { return emit(ctx, op, op_int(op, A_SOFTMAX_axis), 0); }

bool lower_log_softmax(LowerCtx *ctx, const Op *op) { return emit(ctx, op, op_int(op, A_LOG_SOFTMAX_axis), 0); }

bool lower_lp_norm(LowerCtx *ctx, const Op *op) {
  return emit(ctx, op, op_int(op, A_LP_NORM_axis), op_int(op, A_LP_NORM_p));
}
