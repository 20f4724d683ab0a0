// argreduce: the place of the largest or smallest element along one axis. The first such place wins unless `last` is
// set; the first NaN beats everything.
#include "passes/lower/lanes.h"

typedef struct Arg {
  DType t;
  KOp better;  // strictly, or "not worse" when the last place wins
  bool last;
  AxisView v;
  KBuf *x, *y, *best, *place;
  Affine x0, y0;
} Arg;

// x beats best: better, or NaN where best is not (with `last`: NaN always).
static KExpr *beats(const Arg *a, KBuild *b, KVar *x, KVar *best) {
  KExpr *better = kx_op2(b, a->better, kx_var(b, x), kx_var(b, best));
  if (!dtype_is_float(a->t)) return better;
  KExpr *nan = kx_op1(b, KOP_ISNAN, kx_var(b, x));
  if (a->last)
    return kx_op2(b, KOP_OR, nan,
                  kx_op2(b, KOP_AND, better, kx_op1(b, KOP_NOT, kx_op1(b, KOP_ISNAN, kx_var(b, best)))));
  KExpr *first = kx_op2(b, KOP_AND, nan, kx_op1(b, KOP_NOT, kx_op1(b, KOP_ISNAN, kx_var(b, best))));
  return kx_op2(b, KOP_OR, better, first);
}

static void step(const Arg *a, KBuild *b, Affine k, Affine col, const Affine *acc) {
  KVar *x = kb_let(b, "x", lower_load1(b, a->x, aff_add(a->x0, aff_add(aff_mul(k, a->v.inner), col))));
  KVar *best = kb_let(b, "best", kx_load(b, a->best, acc));
  KVar *wins = kb_let(b, "wins", beats(a, b, x, best));
  kb_store(b, a->best, acc, kx_op3(b, KOP_SELECT, kx_var(b, wins), kx_var(b, x), kx_var(b, best)));
  kb_store(b, a->place, acc, kx_op3(b, KOP_SELECT, kx_var(b, wins), kx_index(b, k), kx_load(b, a->place, acc)));
}

static void column_step(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  step(ctx, b, k[0], col, acc);
}

static void column_start(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Arg *a = ctx;
  kb_store(b, a->best, acc, lower_load1(b, a->x, aff_add(a->x0, col)));
  kb_store(b, a->place, acc, kx_i(b, DT_I64, 0));
}

static void column_result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Arg *a = ctx;
  kb_store1(b, a->y, aff_add(a->y0, col), kx_load(b, a->place, acc));
}

static void emit_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Arg save = *(Arg *)ctx, *a = ctx;
  a->x0 = aff_add(a->x0, first);
  a->y0 = aff_add(a->y0, first);
  a->best = columns_alloc(b, c, "best", a->t);
  a->place = columns_alloc(b, c, "place", DT_I64);
  columns_each(b, c, NULL, column_start, a);
  KVar *k = kb_for(b, "k", 1, a->v.n, 1, FOR_SEQ);
  Affine at = aff_var(k);
  columns_each(b, c, &at, column_step, a);
  kb_end(b);
  columns_each(b, c, NULL, column_result, a);
  *a = save;
}

static void emit_row(Arg *a, KBuild *b) {
  const int64_t one[2] = {1, 1};
  const Affine zero[2] = {aff(0), aff(0)};
  a->best = kb_alloc(b, "best", a->t, 2, one, SPACE_REG);
  a->place = kb_alloc(b, "place", DT_I64, 2, one, SPACE_REG);
  column_start(a, b, NULL, aff(0), zero);
  KVar *k = kb_for(b, "k", 1, a->v.n, 1, FOR_SEQ);
  step(a, b, aff_var(k), aff(0), zero);
  kb_end(b);
  column_result(a, b, NULL, aff(0), zero);
}

bool lower_argreduce(LowerCtx *ctx, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  Arg a = {.t = lower_compute_type(t->dtype), .v = lower_axis_view(t, op_int(op, A_ARGREDUCE_axis))};
  a.last = op_bool(op, A_ARGREDUCE_last);
  bool max = op_enum(op, A_ARGREDUCE_op) == REDUCE_MAX;
  a.better = a.last ? (max ? KOP_GE : KOP_LE) : (max ? KOP_GT : KOP_LT);
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *y = lower_buf(ctx, op_out(op, 0));
  KBuild b;
  if (!a.v.n) return diag_error(ctx->m->diag, DIAG_REFUSED, op->loc, "argreduce over an axis of extent 0");
  lower_begin(ctx, &b, op);
  a.y = lower_flat(&b, y);
  a.x = lower_flat(&b, x);
  bool par = type_count(t) >= LANES_PAR_MIN;
  a.x0 = a.y0 = aff(0);
  bool loop = a.v.outer > 1;
  if (loop) {
    KVar *o = kb_for(&b, "o", 0, a.v.outer, 1, par ? FOR_PAR : FOR_SEQ);
    a.x0 = aff_term(o, a.v.n * a.v.inner);
    a.y0 = aff_term(o, a.v.inner);
  }
  if (a.v.inner == 1) {
    emit_row(&a, &b);
  } else {
    columns_tiles(ctx, &b, a.t, a.v.inner, par && !loop, emit_tile, &a);
  }
  if (loop) kb_end(&b);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}
