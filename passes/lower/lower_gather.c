// gather, gather_elements, gather_nd, one_hot: reads at places known only at run time.
//
// Every index is wrapped (negative counts from the end) and then clamped into its axis by the generated code, so no
// input can make a kernel read outside its operand. Constant indices were checked by inference.
#include "passes/lower/index.h"
#include "passes/lower/walk.h"

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

// Constant indices in regular order are loops: a copy with strides.
static bool gather_regular(LowerCtx *ctx, const Op *op, const AxisView *v, bool *done) {
  int64_t n = type_count(op_in(op, 1)->type), *at = index_constants(ctx, op_in(op, 1), v->n);
  Pattern p;
  *done = at && n > 0 && pattern_of(at, n, &p);
  if (!*done) return true;
  int64_t dims[PATTERN_LOOPS + 2] = {v->outer}, strides[PATTERN_LOOPS + 2] = {v->n * v->inner};
  uint32_t rank = 1;
  for (uint32_t i = 0; i < p.n; i++) {
    dims[rank] = p.count[i];
    strides[rank++] = p.stride[i] * v->inner;
  }
  dims[rank] = v->inner;
  strides[rank++] = 1;
  Walk walk;
  walk_init(&walk, rank, dims);
  walk_operand(&walk, p.first * v->inner, strides);
  return walk_copy(ctx, op, &walk, lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)));
}

// y[outer, index.., inner] = x[outer, indices[index..], inner]
bool lower_gather(LowerCtx *ctx, const Op *op) {
  AxisView v = lower_axis_view(op_in(op, 0)->type, op_int(op, A_GATHER_axis));
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  int64_t n = type_count(op_in(op, 1)->type);
  bool par = type_count(op_out(op, 0)->type) >= LANES_PAR_MIN;
  KBuild b;
  bool done;
  if (!index_axis_check(ctx, op, v.n)) return false;
  if (!gather_regular(ctx, op, &v, &done)) return false;
  if (done) return true;
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

// ---- gather_nd

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
