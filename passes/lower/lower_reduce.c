// reduce: sums, means, extrema, norms over any set of axes.
//
// Neighbouring axes of the same fate are merged, so a reduction is a list of alternating kept and reduced loops. When
// the innermost one is reduced, each result is a row of vector partial sums; when it is kept, a tile of results is one
// vector each and the reduction loops run inside. Both orders are fixed by the shape alone.
#include <math.h>

#include "passes/lower/lanes.h"

typedef struct Reduce {
  LowerCtx *ctx;
  EnumValue kind;
  DType t;  // of the arithmetic
  KOp combine;
  KBuf *x, *y;
  uint32_t n_kept, n_red;
  int64_t kept[MAX_RANK], red[MAX_RANK], x_kept[MAX_RANK], x_red[MAX_RANK];  // extents, strides in x
  int64_t count;                                                             // elements per result
  Affine x0, y0;
  KVar *shift;         // of logsumexp, rows
  KBuf *acc, *shifts;  // columns
} Reduce;

static bool in_axes(const Op *op, uint32_t axis) {
  uint32_t n;
  const int64_t *axes = op_ints(op, A_REDUCE_axes, &n);
  for (uint32_t i = 0; i < n; i++) {
    if (axes[i] == (int64_t)axis) return true;
  }
  return false;
}

// One loop of extent 1 stands for "no loop", so both lists always have a last one.
static void split_axes(Reduce *r, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  int64_t stride = 1;
  int last = -1;  // 1: reduced, 0: kept, -1: none
  r->count = 1;
  for (uint32_t i = t->rank; i-- > 0; stride *= t->dims[i]) {
    bool red = in_axes(op, i);
    if (red) r->count *= t->dims[i];
    if (t->dims[i] == 1) continue;
    uint32_t *n = red ? &r->n_red : &r->n_kept;
    int64_t *dims = red ? r->red : r->kept, *strides = red ? r->x_red : r->x_kept;
    if (last == red) {
      dims[*n - 1] *= t->dims[i];
    } else {
      dims[*n] = t->dims[i];
      strides[(*n)++] = stride;
    }
    last = red;
  }
}

static void reverse(int64_t *v, uint32_t n) {
  for (uint32_t i = 0; i < n / 2; i++) {
    int64_t t = v[i];
    v[i] = v[n - 1 - i];
    v[n - 1 - i] = t;
  }
}

static bool needs_float(EnumValue kind) {
  return kind == REDUCE_L2 || kind == REDUCE_LOGSUM || kind == REDUCE_LOGSUMEXP;
}

static KOp combine_of(EnumValue kind) {
  switch (kind) {
    case REDUCE_MAX: return KOP_MAX;
    case REDUCE_MIN: return KOP_MIN;
    case REDUCE_PROD: return KOP_MUL;
    default: return KOP_ADD;
  }
}

// The term of one element, in the type of the arithmetic.
static KExpr *term(Reduce *r, KBuild *b, Affine at, KExpr *shift) {
  KExpr *x = kx_cast(b, r->t, lower_load1(b, r->x, at));
  switch (r->kind) {
    case REDUCE_L1: return kx_op1(b, KOP_ABS, x);
    case REDUCE_L2:
    case REDUCE_SUMSQ: {
      KVar *v = kb_let(b, "x", x);
      return kx_op2(b, KOP_MUL, kx_var(b, v), kx_var(b, v));
    }
    case REDUCE_LOGSUMEXP: return kx_op1(b, KOP_EXP, kx_op2(b, KOP_SUB, x, shift));
    default: return x;
  }
}

static KExpr *finish(Reduce *r, KBuild *b, KExpr *acc, KExpr *shift) {
  switch (r->kind) {
    case REDUCE_MEAN: return kx_op2(b, KOP_DIV, acc, lower_number(b, r->t, (double)r->count));
    case REDUCE_L2: return kx_op1(b, KOP_SQRT, acc);
    case REDUCE_LOGSUM: return kx_op1(b, KOP_LOG, acc);
    case REDUCE_LOGSUMEXP: return kx_op2(b, KOP_ADD, kx_op1(b, KOP_LOG, acc), shift);
    default: return acc;
  }
}

// The largest element, or 0 where that is infinite (exp(x - inf) would be NaN).
static KExpr *finite_or_zero(KBuild *b, DType t, KVar *max) {
  KExpr *inf = kx_op2(b, KOP_EQ, kx_op1(b, KOP_ABS, kx_var(b, max)), kx_f(b, t, INFINITY));
  return kx_op3(b, KOP_SELECT, inf, kx_f(b, t, 0), kx_var(b, max));
}

static void store_result(Reduce *r, KBuild *b, Affine at, KExpr *value) {
  lower_store1(b, r->y, at, kx_cast(b, lower_compute_type(r->y->type), value));
}

// ---- rows

static Affine row_at(const Reduce *r, const Affine *k) {
  Affine at = r->x0;
  for (uint32_t i = 0; i < r->n_red; i++) at = aff_add(at, aff_mul(k[i], r->x_red[i]));
  return at;
}

static KExpr *row_term(void *ctx, KBuild *b, const Affine *k) {
  Reduce *r = ctx;
  return term(r, b, row_at(r, k), r->shift ? kx_var(b, r->shift) : NULL);
}

static KExpr *row_element(void *ctx, KBuild *b, const Affine *k) {
  Reduce *r = ctx;
  return kx_cast(b, r->t, lower_load1(b, r->x, row_at(r, k)));
}

static void emit_row(Reduce *r, KBuild *b) {
  if (r->kind == REDUCE_LOGSUMEXP) {
    KVar *max = lanes_row(r->ctx, b, r->t, KOP_MAX, r->n_red, r->red, row_element, r);
    r->shift = kb_let(b, "shift", finite_or_zero(b, r->t, max));
  }
  KVar *total = lanes_row(r->ctx, b, r->t, r->combine, r->n_red, r->red, row_term, r);
  store_result(r, b, r->y0, finish(r, b, kx_var(b, total), r->shift ? kx_var(b, r->shift) : NULL));
}

// ---- columns

static KExpr *column_shift(Reduce *r, KBuild *b, const Affine *acc) {
  return r->kind == REDUCE_LOGSUMEXP ? kx_load(b, r->shifts, acc) : NULL;
}

static void column_term(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Reduce *r = ctx;
  KExpr *x = term(r, b, aff_add(row_at(r, k), col), column_shift(r, b, acc));
  kb_store(b, r->acc, acc, kx_op2(b, r->combine, kx_load(b, r->acc, acc), x));
}

static void column_max(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Reduce *r = ctx;
  KExpr *x = kx_cast(b, r->t, lower_load1(b, r->x, aff_add(row_at(r, k), col)));
  kb_store(b, r->shifts, acc, kx_op2(b, KOP_MAX, kx_load(b, r->shifts, acc), x));
}

static void column_finite(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)col;
  Reduce *r = ctx;
  KVar *max = kb_let(b, "max", kx_load(b, r->shifts, acc));
  kb_store(b, r->shifts, acc, finite_or_zero(b, r->t, max));
}

static void column_result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Reduce *r = ctx;
  store_result(r, b, aff_add(r->y0, col), finish(r, b, kx_load(b, r->acc, acc), column_shift(r, b, acc)));
}

static void emit_columns(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Reduce save = *(Reduce *)ctx, *r = ctx;
  r->x0 = aff_add(r->x0, first);
  r->y0 = aff_add(r->y0, first);
  if (r->kind == REDUCE_LOGSUMEXP) {
    r->shifts = columns_alloc(b, c, "shift", r->t);
    columns_fill(b, c, r->shifts, lanes_neutral(b, r->t, KOP_MAX));
    columns_over(b, c, r->n_red, r->red, column_max, r);
    columns_each(b, c, NULL, column_finite, r);
  }
  r->acc = columns_alloc(b, c, "acc", r->t);
  columns_fill(b, c, r->acc, lanes_neutral(b, r->t, r->combine));
  columns_over(b, c, r->n_red, r->red, column_term, r);
  columns_each(b, c, NULL, column_result, r);
  *r = save;
}

static void emit_reduce(Reduce *r, KBuild *b, bool columns) {
  int64_t y_stride[MAX_RANK], stride = 1;
  uint32_t outer = columns ? r->n_kept - 1 : r->n_kept;
  for (uint32_t i = r->n_kept; i-- > 0; stride *= r->kept[i]) y_stride[i] = stride;
  bool par = stride * r->count >= LANES_PAR_MIN;
  r->x0 = r->y0 = aff(0);
  for (uint32_t i = 0; i < outer; i++) {
    KVar *v = kb_for(b, "i", 0, r->kept[i], 1, par && i == 0 ? FOR_PAR : FOR_SEQ);
    r->x0 = aff_add(r->x0, aff_term(v, r->x_kept[i]));
    r->y0 = aff_add(r->y0, aff_term(v, y_stride[i]));
  }
  if (columns) {
    columns_tiles(r->ctx, b, r->t, r->kept[outer], par && outer == 0, emit_columns, r);
  } else {
    emit_row(r, b);
  }
  for (uint32_t i = 0; i < outer; i++) kb_end(b);
}

bool lower_reduce(LowerCtx *ctx, const Op *op) {
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *y = lower_buf(ctx, op_out(op, 0));
  Reduce r = {.ctx = ctx, .kind = op_enum(op, A_REDUCE_op), .t = lower_compute_type(x->type->dtype)};
  KBuild b;
  if (needs_float(r.kind) && !dtype_is_float(r.t)) r.t = DT_F64;
  if (r.kind == REDUCE_MEAN && dtype_is_int(r.t)) r.t = r.t == DT_U64 ? DT_U64 : DT_I64;
  r.combine = combine_of(r.kind);
  split_axes(&r, op);
  bool columns = r.n_kept && (!r.n_red || r.x_kept[0] < r.x_red[0]);
  if (!r.n_red) {
    r.red[0] = r.count;
    r.x_red[0] = 1;
    r.n_red = 1;
  }
  reverse(r.kept, r.n_kept);
  reverse(r.x_kept, r.n_kept);
  reverse(r.red, r.n_red);
  reverse(r.x_red, r.n_red);
  lower_begin(ctx, &b, op);
  r.y = lower_flat(&b, y);
  r.x = lower_flat(&b, x);
  emit_reduce(&r, &b, columns);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x})->macs = (double)type_count(x->type);
  return true;
}
