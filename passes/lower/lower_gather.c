// gather, gather_elements, gather_nd, one_hot: reads at places known only at run time.
//
// Every index is wrapped (negative counts from the end) and then clamped into its axis by the generated code, so no
// input can make a kernel read outside its operand. Constant indices were checked by inference.
#include "passes/lower/index.h"
#include "passes/lower/walk.h"

KExpr *index_wrapped(KBuild *b, KExpr *raw, int64_t n) {
  KVar *i = kb_let(b, "raw", kx_cast(b, DT_I64, raw));
  KExpr *negative = kx_op2(b, KOP_LT, kx_var(b, i), kx_i(b, DT_I64, 0));
  KExpr *from_end = kx_op2(b, KOP_ADD, kx_var(b, i), kx_i(b, DT_I64, n));
  return kx_op3(b, KOP_SELECT, negative, from_end, kx_var(b, i));
}

Affine index_clamped(KBuild *b, KExpr *raw, int64_t n) {
  KExpr *low = kx_op2(b, KOP_MAX, index_wrapped(b, raw, n), kx_i(b, DT_I64, 0));
  return aff_var(kb_let(b, "at", kx_op2(b, KOP_MIN, low, kx_i(b, DT_I64, n - 1))));
}

bool index_axis_check(LowerCtx *ctx, const Op *op, int64_t n) {
  if (n > 0) return true;
  return diag_error(ctx->m->diag, DIAG_REFUSED, op->loc, "%s reads from an axis of extent 0", op_info(op->kind)->name);
}

static KForKind par_if(bool yes) { return yes ? FOR_PAR : FOR_SEQ; }

static Affine open_loop(KBuild *b, const char *name, int64_t n, KForKind kind) {
  return aff_var(kb_for(b, name, 0, n, 1, kind));
}

static void copy_run(KBuild *b, KBuf *y, Affine to, KBuf *x, Affine from, int64_t n) {
  if (n == 1) {
    kb_store1(b, y, to, kx_load1(b, x, from));
    return;
  }
  Affine i = open_loop(b, "i", n, FOR_VEC);
  kb_store1(b, y, aff_add(to, i), kx_load1(b, x, aff_add(from, i)));
  kb_end(b);
}

// y[outer, index.., inner] = x[outer, indices[index..], inner]
bool lower_gather(LowerCtx *ctx, const Op *op) {
  AxisView v = lower_axis_view(op_in(op, 0)->type, op_int(op, A_GATHER_axis));
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  int64_t n = type_count(op_in(op, 1)->type);
  bool par = type_count(op_out(op, 0)->type) >= LANES_PAR_MIN;
  KBuild b;
  if (!index_axis_check(ctx, op, v.n)) return false;
  lower_begin(ctx, &b, op);
  KBuf *y = lower_flat(&b, bufs[0]), *x = lower_flat(&b, bufs[1]), *idx = lower_flat(&b, bufs[2]);
  Affine o = v.outer > 1 ? open_loop(&b, "o", v.outer, par_if(par)) : aff(0);
  Affine j = open_loop(&b, "j", n, par_if(par && v.outer == 1));
  Affine at = index_clamped(&b, kx_load1(&b, idx, j), v.n);
  Affine to = aff_mul(aff_add(aff_mul(o, n), j), v.inner);
  Affine from = aff_mul(aff_add(aff_mul(o, v.n), at), v.inner);
  copy_run(&b, y, to, x, from, v.inner);
  kb_end(&b);
  if (v.outer > 1) kb_end(&b);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}

// ---- gather_elements: indices has the result's shape, which may be smaller than x away from the axis

typedef struct Elements {
  KBuf *y, *x, *idx;
  int64_t n, stride;  // of the axis in x
} Elements;

static void gather_element(void *ctx, KBuild *b, const Affine *at) {
  Elements *g = ctx;
  Affine i = index_clamped(b, kx_load1(b, g->idx, at[0]), g->n);
  kb_store1(b, g->y, at[0], kx_load1(b, g->x, aff_add(at[1], aff_mul(i, g->stride))));
}

bool lower_gather_elements(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  int64_t strides[MAX_RANK], axis = lower_axis(op, A_GATHER_ELEMENTS_axis);
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  Elements g = {.n = x->dims[axis]};
  Walk walk;
  KBuild b;
  if (!index_axis_check(ctx, op, g.n)) return false;
  dense_strides(x->rank, x->dims, strides);
  g.stride = strides[axis];
  strides[axis] = 0;
  lower_begin(ctx, &b, op);
  g.y = lower_flat(&b, bufs[0]);
  g.x = lower_flat(&b, bufs[1]);
  g.idx = lower_flat(&b, bufs[2]);
  walk_init(&walk, y->rank, y->dims);
  walk_operand(&walk, 0, strides);
  walk_collapse(&walk);
  walk_emit(&b, &walk, false, NULL, gather_element, &g);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}

// ---- gather_nd: x [batch.., dims.., inner], indices [batch.., rows.., depth]

NdView nd_view(const Type *x, const Type *indices, int64_t batch_dims) {
  NdView v = {.batch = 1, .rows = 1, .inner = 1, .depth = (uint32_t)indices->dims[indices->rank - 1]};
  uint32_t first = (uint32_t)batch_dims;
  for (uint32_t i = 0; i < first; i++) v.batch *= x->dims[i];
  for (uint32_t i = first; i + 1 < indices->rank; i++) v.rows *= indices->dims[i];
  for (uint32_t i = first + v.depth; i < x->rank; i++) v.inner *= x->dims[i];
  int64_t stride = v.inner;
  for (uint32_t i = v.depth; i-- > 0; stride *= v.dims[i]) {
    v.dims[i] = x->dims[first + i];
    v.strides[i] = stride;
  }
  v.image = stride;
  return v;
}

Affine nd_index(KBuild *b, const NdView *v, KBuf *indices, Affine row) {
  Affine at = aff(0);
  for (uint32_t d = 0; d < v->depth; d++) {
    Affine i = aff_plus(aff_mul(row, v->depth), d);
    at = aff_add(at, aff_mul(index_clamped(b, kx_load1(b, indices, i), v->dims[d]), v->strides[d]));
  }
  return at;
}

bool nd_check(LowerCtx *ctx, const Op *op, const NdView *v) {
  for (uint32_t d = 0; d < v->depth; d++) {
    if (!index_axis_check(ctx, op, v->dims[d])) return false;
  }
  return true;
}

bool lower_gather_nd(LowerCtx *ctx, const Op *op) {
  NdView v = nd_view(op_in(op, 0)->type, op_in(op, 1)->type, op_int(op, A_GATHER_ND_batch_dims));
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  bool par = type_count(op_out(op, 0)->type) >= LANES_PAR_MIN;
  KBuild b;
  if (!nd_check(ctx, op, &v)) return false;
  lower_begin(ctx, &b, op);
  KBuf *y = lower_flat(&b, bufs[0]), *x = lower_flat(&b, bufs[1]), *idx = lower_flat(&b, bufs[2]);
  Affine o = v.batch > 1 ? open_loop(&b, "o", v.batch, par_if(par)) : aff(0);
  Affine row = aff_add(aff_mul(o, v.rows), open_loop(&b, "j", v.rows, par_if(par && v.batch == 1)));
  Affine from = aff_add(aff_mul(o, v.image), nd_index(&b, &v, idx, row));
  copy_run(&b, y, aff_mul(row, v.inner), x, from, v.inner);
  kb_end(&b);
  if (v.batch > 1) kb_end(&b);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}

// ---- one_hot

bool lower_one_hot(LowerCtx *ctx, const Op *op) {
  const Type *t = op_out(op, 0)->type;
  int64_t axis = op_int(op, A_ONE_HOT_axis), depth = op_int(op, A_ONE_HOT_depth);
  AxisView v = lower_axis_view(t, axis);
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  KBuild b;
  lower_begin(ctx, &b, op);
  KBuf *y = lower_flat(&b, bufs[0]), *idx = lower_flat(&b, bufs[1]), *values = lower_flat(&b, bufs[2]);
  KExpr *off = kx_var(&b, kb_let(&b, "off", kx_load1(&b, values, aff(0))));
  KExpr *on = kx_var(&b, kb_let(&b, "on", kx_load1(&b, values, aff(1))));
  Affine o = open_loop(&b, "o", v.outer, FOR_SEQ), i = open_loop(&b, "i", v.inner, FOR_SEQ);
  KExpr *raw = kx_load1(&b, idx, aff_add(aff_mul(o, v.inner), i));
  KVar *at = kb_let(&b, "at", index_wrapped(&b, raw, depth));
  Affine d = open_loop(&b, "d", v.n, FOR_SEQ);
  KExpr *hit = kx_op2(&b, KOP_EQ, kx_var(&b, at), kx_index(&b, d));
  Affine to = aff_add(aff_mul(aff_add(aff_mul(o, v.n), d), v.inner), i);
  kb_store1(&b, y, to, kx_op3(&b, KOP_SELECT, hit, on, off));
  for (int k = 0; k < 3; k++) kb_end(&b);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}
