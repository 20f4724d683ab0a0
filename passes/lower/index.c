// Indices that come from tensors. See index.h.
#include "passes/lower/index.h"

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

// ---- constant indices

static int64_t clamped(int64_t i, int64_t n) {
  if (i < 0) i += n;
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}

int64_t *index_constants(LowerCtx *ctx, const Value *indices, int64_t n) {
  if (!value_is_const(indices)) return NULL;
  int64_t count = type_count(indices->type), *at = NEW_ARRAY(ctx->m->arena, int64_t, count + 1);
  for (int64_t i = 0; i < count; i++) at[i] = clamped(const_i(ctx->m, indices->constant, i), n);
  return at;
}

// Every run of `count` offsets starts anywhere and goes on by `stride`; the starts move to the front of at.
static bool take_runs(int64_t *at, int64_t *n, int64_t *count, int64_t *stride) {
  int64_t run = 2;
  *stride = at[1] - at[0];
  while (run < *n && at[run] - at[run - 1] == *stride) run++;
  if (*n % run) return false;
  for (int64_t i = 0; i < *n; i++) {
    if (at[i] != at[i - i % run] + i % run * *stride) return false;
  }
  for (int64_t i = 0; i < *n; i += run) at[i / run] = at[i];
  *n /= run;
  *count = run;
  return true;
}

bool pattern_of(int64_t *at, int64_t n, Pattern *p) {
  *p = (Pattern){0};
  while (n > 1) {
    int64_t count, stride;
    if (p->n == PATTERN_LOOPS || !take_runs(at, &n, &count, &stride)) return false;
    for (uint32_t i = p->n++; i > 0; i--) {  // found innermost first
      p->count[i] = p->count[i - 1];
      p->stride[i] = p->stride[i - 1];
    }
    p->count[0] = count;
    p->stride[0] = stride;
  }
  p->first = at[0];
  return true;
}

// ---- tuples of indices

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

int64_t *nd_constants(LowerCtx *ctx, const Value *indices, const NdView *v) {
  if (!value_is_const(indices)) return NULL;
  int64_t *at = NEW_ARRAY(ctx->m->arena, int64_t, v->rows + 1);
  for (int64_t r = 0; r < v->rows; r++) {
    for (uint32_t d = 0; d < v->depth; d++) {
      at[r] += clamped(const_i(ctx->m, indices->constant, r * v->depth + d), v->dims[d]) * v->strides[d];
    }
  }
  return at;
}
