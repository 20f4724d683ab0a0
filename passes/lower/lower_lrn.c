// lrn: y = x / (bias + alpha / size * sum of squares over a window of channels) ^ beta.
//
// With other axes inside the channel axis, lanes run along them and the window bounds are computed per channel. With
// channels innermost, lanes run along the channels: the interior has a whole window, the borders go one by one.
#include "passes/lower/lanes.h"

#define BORDER_MAX 8  // border channels that get code of their own

typedef struct Lrn {
  LowerCtx *ctx;
  DType t;
  AxisView v;
  int64_t size, before;  // channels of the window in front of the centre
  double alpha, beta, bias;
  KBuf *x, *y, *acc;
  Affine x0;  // first element of the window's row
  Affine c;   // centre channel
} Lrn;

// base ^ beta
static KExpr *powered(const Lrn *l, KBuild *b, KExpr *base) {
  if (l->beta == 1.0) return base;
  if (l->beta == 0.5) return kx_op1(b, KOP_SQRT, base);
  if (l->beta != 0.75) return kx_op2(b, KOP_POW, base, kx_f(b, l->t, l->beta));
  KVar *root = kb_let(b, "root", kx_op1(b, KOP_SQRT, base));
  return kx_op2(b, KOP_MUL, kx_var(b, root), kx_op1(b, KOP_SQRT, kx_var(b, root)));
}

static KExpr *square(const Lrn *l, KBuild *b, Affine at) {
  KVar *x = kb_let(b, "x", lower_load1(b, l->x, at));
  return kx_op2(b, KOP_MUL, kx_var(b, x), kx_var(b, x));
}

static void add_square(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Lrn *l = ctx;
  KExpr *sq = square(l, b, aff_add(aff_add(l->x0, aff_mul(k[0], l->v.inner)), aff_mul(col, l->v.step)));
  kb_store(b, l->acc, acc, kx_op2(b, KOP_ADD, kx_load(b, l->acc, acc), sq));
}

static void result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Lrn *l = ctx;
  Affine at = aff_add(aff_add(l->x0, aff_mul(l->c, l->v.inner)), aff_mul(col, l->v.step));
  KExpr *sum = kx_op2(b, KOP_MUL, kx_load(b, l->acc, acc), kx_f(b, l->t, l->alpha / (double)l->size));
  KVar *base = kb_let(b, "base", kx_op2(b, KOP_ADD, sum, kx_f(b, l->t, l->bias)));
  lower_store1(b, l->y, at, kx_op2(b, KOP_DIV, lower_load1(b, l->x, at), powered(l, b, kx_var(b, base))));
}

// Channels [lo, hi) relative to row x0 are the window of channel c.
static void window(Lrn *l, KBuild *b, const Columns *c, Affine lo, Affine hi) {
  l->acc = columns_alloc(b, c, "acc", l->t);
  columns_fill(b, c, l->acc, kx_f(b, l->t, 0));
  Affine k = aff_var(kb_for_aff(b, "k", lo, hi, 1, FOR_SEQ));
  columns_each(b, c, &k, add_square, l);
  kb_end(b);
  columns_each(b, c, NULL, result, l);
}

static Affine let_clamped(KBuild *b, Affine v, int64_t lo, int64_t hi) {
  KExpr *x = kx_op2(b, KOP_MAX, kx_index(b, v), kx_i(b, DT_I64, lo));
  return aff_var(kb_let(b, "edge", kx_op2(b, KOP_MIN, x, kx_i(b, DT_I64, hi))));
}

// The window of channel l->c, clipped at run time.
static void clipped(Lrn *l, KBuild *b, const Columns *c) {
  Affine lo = let_clamped(b, aff_plus(l->c, -l->before), 0, l->v.n);
  Affine hi = let_clamped(b, aff_plus(l->c, l->size - l->before), 0, l->v.n);
  window(l, b, c, lo, hi);
}

static void lrn_tile(void *ctx, KBuild *b, const Columns *c, Affine x0) {
  Lrn *l = ctx;
  l->x0 = x0;
  l->c = aff_var(kb_for(b, "ch", 0, l->v.n, 1, FOR_SEQ));
  clipped(l, b, c);
  kb_end(b);
}

// ---- channels innermost

// Channels [from, to): few one by one, many in a loop that computes the windows.
static void border(Lrn *l, KBuild *b, int64_t from, int64_t to) {
  Columns one = columns_new(l->ctx, l->t, 1);
  if (to - from > BORDER_MAX) {
    l->c = aff_var(kb_for(b, "ch", from, to, 1, FOR_SEQ));
    clipped(l, b, &one);
    kb_end(b);
    return;
  }
  for (int64_t c = from; c < to; c++) {
    int64_t lo = c - l->before, hi = lo + l->size;
    l->c = aff(c);
    window(l, b, &one, aff(lo < 0 ? 0 : lo), aff(hi > l->v.n ? l->v.n : hi));
  }
}

// The tile's first centre is channel first + before; columns shift the window with it.
static void interior_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Lrn save = *(Lrn *)ctx, *l = ctx;
  l->x0 = aff_add(l->x0, first);
  l->c = aff(l->before);
  window(l, b, c, aff(0), aff(l->size));
  *l = save;
}

static void lrn_row(void *ctx, KBuild *b, Affine x0) {
  Lrn *l = ctx;
  l->x0 = x0;
  int64_t inside = l->v.n - l->size + 1;
  if (inside <= 0) {
    border(l, b, 0, l->v.n);
    return;
  }
  border(l, b, 0, l->before);
  columns_tiles(l->ctx, b, l->t, inside, false, interior_tile, l);
  border(l, b, l->before + inside, l->v.n);
}

bool lower_lrn(LowerCtx *ctx, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  Lrn l = {.ctx = ctx, .t = lower_compute_type(t->dtype), .v = lower_axis_view(t, op_int(op, A_LRN_axis))};
  l.size = op_int(op, A_LRN_size);
  l.before = (l.size - 1) / 2;
  l.alpha = op_float(op, A_LRN_alpha);
  l.beta = op_float(op, A_LRN_beta);
  l.bias = op_float(op, A_LRN_bias);
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *y = lower_buf(ctx, op_out(op, 0));
  KBuild b;
  lower_begin(ctx, &b, op);
  l.y = lower_flat(&b, y);
  l.x = lower_flat(&b, x);
  axis_rows(ctx, &b, l.t, &l.v, lrn_row, lrn_tile, &l);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}
