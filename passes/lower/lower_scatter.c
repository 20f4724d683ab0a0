// scatter_elements and scatter_nd: the data is copied, then the updates are applied in order, on one thread, so that
// repeated indices have one meaning. Indices are wrapped and clamped like those of gather.
#include "passes/lower/index.h"
#include "passes/lower/walk.h"

static KExpr *combined(KBuild *b, EnumValue reduction, KBuf *y, Affine at, KExpr *update) {
  KOp op = KOP_NONE;
  if (reduction == SCATTER_ADD) op = KOP_ADD;
  if (reduction == SCATTER_MUL) op = KOP_MUL;
  if (reduction == SCATTER_MAX) op = KOP_MAX;
  if (reduction == SCATTER_MIN) op = KOP_MIN;
  return op == KOP_NONE ? update : kx_op2(b, op, lower_load1(b, y, at), update);
}

static void apply(KBuild *b, EnumValue reduction, KBuf *y, Affine at, KBuf *updates, Affine from) {
  lower_store1(b, y, at, combined(b, reduction, y, at, lower_load1(b, updates, from)));
}

// ---- scatter_elements

typedef struct Elements {
  EnumValue reduction;
  KBuf *y, *idx, *updates;
  int64_t n, stride;
} Elements;

static void scatter_element(void *ctx, KBuild *b, const Affine *at) {
  Elements *s = ctx;
  Affine i = index_clamped(b, kx_load1(b, s->idx, at[1]), s->n);
  apply(b, s->reduction, s->y, aff_add(at[0], aff_mul(i, s->stride)), s->updates, at[1]);
}

// walk_emit would share the work over threads; updates go one after the other.
static void serial_walk(KBuild *b, const Walk *walk, WalkFn *body, void *ctx) {
  Affine at[2] = {aff(walk->first[0]), aff(walk->first[1])};
  for (uint32_t i = 0; i < walk->rank; i++) {
    KVar *v = kb_for(b, "i", 0, walk->dims[i], 1, FOR_SEQ);
    for (uint32_t k = 0; k < 2; k++) at[k] = aff_add(at[k], aff_term(v, walk->stride[k][i]));
  }
  body(ctx, b, at);
  for (uint32_t i = 0; i < walk->rank; i++) kb_end(b);
}

bool lower_scatter_elements(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type, *u = op_in(op, 2)->type;
  int64_t strides[MAX_RANK], dense[MAX_RANK], axis = lower_axis(op, A_SCATTER_ELEMENTS_axis);
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 1)), lower_buf(ctx, op_in(op, 2))};
  Elements s = {.reduction = op_enum(op, A_SCATTER_ELEMENTS_reduction), .n = x->dims[axis]};
  Walk walk;
  KBuild b;
  if (!lower_copy(ctx, op, lower_buf(ctx, op_in(op, 0)), bufs[0])) return false;
  if (!type_count(u)) return true;
  if (!index_axis_check(ctx, op, s.n)) return false;
  dense_strides(x->rank, x->dims, strides);
  dense_strides(u->rank, u->dims, dense);
  s.stride = strides[axis];
  strides[axis] = 0;
  lower_begin(ctx, &b, op);
  s.y = lower_flat(&b, bufs[0]);
  s.idx = lower_flat(&b, bufs[1]);
  s.updates = lower_flat(&b, bufs[2]);
  walk_init(&walk, u->rank, u->dims);
  walk_result(&walk, 0, strides);
  walk_operand(&walk, 0, dense);
  walk_collapse(&walk);
  serial_walk(&b, &walk, scatter_element, &s);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}

// ---- scatter_nd

#define SEEN_MAX (INT64_C(1) << 26)  // largest data whose constant indices are compared

typedef struct Regular {
  EnumValue reduction;
  KBuf *y, *updates;
} Regular;

static void regular_element(void *ctx, KBuild *b, const Affine *at) {
  Regular *r = ctx;
  apply(b, r->reduction, r->y, at[0], r->updates, at[1]);
}

static bool all_different(LowerCtx *ctx, const int64_t *at, int64_t n, const NdView *v) {
  if (v->image > SEEN_MAX) return false;
  bool *seen = NEW_ARRAY(ctx->m->arena, bool, v->image + 1);
  for (int64_t i = 0; i < n; i++) {
    if (seen[at[i]]) return false;
    seen[at[i]] = true;
  }
  return true;
}

// Constant rows in regular order, none twice: loops with strides, in any order.
static bool scatter_regular(LowerCtx *ctx, const Op *op, const NdView *v, EnumValue reduction) {
  int64_t *at = nd_constants(ctx, op_in(op, 1), v);
  Pattern p;
  if (!at || !all_different(ctx, at, v->rows, v) || !pattern_of(at, v->rows, &p)) return false;
  int64_t dims[PATTERN_LOOPS + 1], strides[PATTERN_LOOPS + 1], dense[PATTERN_LOOPS + 1];
  for (uint32_t i = 0; i < p.n; i++) {
    dims[i] = p.count[i];
    strides[i] = p.stride[i];
  }
  dims[p.n] = v->inner;
  strides[p.n] = 1;
  dense_strides(p.n + 1, dims, dense);
  PBuf *bufs[2] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 2))};
  Regular r = {.reduction = reduction};
  Walk walk;
  KBuild b;
  lower_begin(ctx, &b, op);
  r.y = lower_flat(&b, bufs[0]);
  r.updates = lower_flat(&b, bufs[1]);
  walk_init(&walk, p.n + 1, dims);
  walk_result(&walk, p.first, strides);
  walk_operand(&walk, 0, dense);
  walk_collapse(&walk);
  walk_emit(&b, &walk, true, NULL, regular_element, &r);
  lower_step(ctx, &b, op, NULL, 2, bufs);
  return true;
}

bool lower_scatter_nd(LowerCtx *ctx, const Op *op) {
  NdView v = nd_view(op_in(op, 0)->type, op_in(op, 1)->type, 0);
  EnumValue reduction = op_enum(op, A_SCATTER_ND_reduction);
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 1)), lower_buf(ctx, op_in(op, 2))};
  KBuild b;
  if (!lower_copy(ctx, op, lower_buf(ctx, op_in(op, 0)), bufs[0])) return false;
  if (!type_count(op_in(op, 2)->type)) return true;
  if (!nd_check(ctx, op, &v)) return false;
  if (scatter_regular(ctx, op, &v, reduction)) return true;
  lower_begin(ctx, &b, op);
  KBuf *y = lower_flat(&b, bufs[0]), *idx = lower_flat(&b, bufs[1]), *updates = lower_flat(&b, bufs[2]);
  Affine row = aff_var(kb_for(&b, "j", 0, v.rows, 1, FOR_SEQ)), at = nd_index(&b, &v, idx, row);
  Affine i = aff(0);
  if (v.inner > 1) i = aff_var(kb_for(&b, "i", 0, v.inner, 1, FOR_VEC));
  apply(&b, reduction, y, aff_add(at, i), updates, aff_add(aff_mul(row, v.inner), i));
  if (v.inner > 1) kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}
