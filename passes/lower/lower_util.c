// Helpers shared by the lowerings: kernel parameters, typed loads and stores, broadcasting, scalar bodies, steps.
//
// Arithmetic happens in the compute type of a tensor (lower_compute_type): narrow floats are widened on load and
// rounded on store, everything else is used as stored. Expressions are trees, so every shared value becomes a `let`.
#include "ir/elem.h"
#include "passes/lower/lower.h"

#include "ir/base/map.h"

DType lower_compute_type(DType t) {
  if (dtype_is_float(t) && t != DT_F64) return DT_F32;
  return t;
}

int64_t lower_axis(const Op *op, int slot) {
  int64_t axis = op_int(op, slot);
  return axis < 0 ? axis + op_in(op, 0)->type->rank : axis;
}

void lower_begin(LowerCtx *ctx, KBuild *b, const Op *op) {
  const char *base = op ? op_info(op->kind)->name : "copy";
  kbuild_init(b, ctx->m, arena_printf(ctx->m->arena, "%s_%u", base, ctx->p->kernels.n), op ? op->loc : NULL);
}

// ---- parameters

static KSpace space_of(const PBuf *buf) { return buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG; }

static KBuf *param_new(KBuild *b, const PBuf *buf, uint32_t rank, const int64_t *dims, KSpace space) {
  return kb_param(b, arena_printf(b->arena, "p%u", b->k->n_params), buf->type->dtype, rank, dims, space);
}

KBuf *lower_param(KBuild *b, const PBuf *buf, KSpace space) {
  const int64_t one = 1;
  return buf->type->rank ? param_new(b, buf, buf->type->rank, buf->type->dims, space)
                         : param_new(b, buf, 1, &one, space);
}

KBuf *lower_shaped(KBuild *b, const PBuf *buf, uint32_t rank, const int64_t *dims) {
  return param_new(b, buf, rank, dims, space_of(buf));
}

KBuf *lower_flat(KBuild *b, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return lower_shaped(b, buf, 1, &count);
}

// ---- elements

KExpr *lower_load(KBuild *b, KBuf *buf, const Affine *idx) {
  return kx_cast(b, lower_compute_type(buf->type), kx_load(b, buf, idx));
}

KExpr *lower_load1(KBuild *b, KBuf *buf, Affine i) { return lower_load(b, buf, &i); }

// A value just widened from the buffer's own type is stored as it was.
static KExpr *narrowed(KBuild *b, DType t, KExpr *value) {
  bool widened = value->kind == KX_OP && value->op == KOP_CAST && value->arg[0]->type == t && dtype_is_float(t) &&
                 value->type == lower_compute_type(t);
  return widened ? value->arg[0] : kx_cast(b, t, value);
}

void lower_store(KBuild *b, KBuf *buf, const Affine *idx, KExpr *value) {
  kb_store(b, buf, idx, narrowed(b, buf->type, value));
}

void lower_store1(KBuild *b, KBuf *buf, Affine i, KExpr *value) { lower_store(b, buf, &i, value); }

KExpr *lower_mul_add(const LowerCtx *ctx, KBuild *b, KExpr *x, KExpr *y, KExpr *acc) {
  bool strict = ctx->opt != NULL && ctx->opt->strict_fp && dtype_is_float(acc->type);
  return strict ? kx_op2(b, KOP_ADD, kx_op2(b, KOP_MUL, x, y), acc) : kx_op3(b, KOP_FMA, x, y, acc);
}

KExpr *lower_number(KBuild *b, DType t, double v) {
  uint64_t cell = 0;
  if (dtype_is_float(t)) return kx_f(b, t, v);
  elem_set_f(&cell, t, 0, v);  // saturates
  return kx_i(b, t, elem_get_i(&cell, t, 0));
}

void lower_broadcast_idx(const Type *t, uint32_t rank, const Affine *out, Affine *idx) {
  QCC_CHECK(t->rank <= rank, "lower: operand of rank %u broadcast to rank %u", t->rank, rank);
  if (!t->rank) idx[0] = aff(0);
  for (uint32_t i = 0; i < t->rank; i++) idx[i] = t->dims[i] == 1 ? aff(0) : out[rank - t->rank + i];
}

// ---- scalar code

// Integer base with a float exponent, or the reverse: computed in the wider float, given back in the base's type.
static KExpr *pow_expr(KBuild *b, KExpr *base, KExpr *exponent) {
  DType t = base->type, e = exponent->type, c = t;
  if (!dtype_is_float(t) && dtype_is_float(e)) c = e;
  if (t == DT_F32 && e == DT_F64) c = DT_F64;
  return kx_cast(b, t, kx_op2(b, KOP_POW, kx_cast(b, c, base), kx_cast(b, c, exponent)));
}

// A cast to a narrow float rounds once, then goes on in the compute type.
static KExpr *cast_expr(KBuild *b, DType to, KExpr *x) {
  if (lower_compute_type(to) != to) x = kx_cast(b, to, x);
  return kx_cast(b, lower_compute_type(to), x);
}

KExpr *lower_eltwise_expr(KBuild *b, const Op *op, KExpr *const *args) {
  const OpInfo *info = op_info(op->kind);
  KExpr *arg[3] = {0};
  uint32_t n = 0;
  if (op->kind == OP_CAST) return cast_expr(b, op_out(op, 0)->type->dtype, args[0]);
  if (op->kind == OP_LOW_WORD) return kx_low_word(b, args[0]);
  if (op->kind == OP_POW) return pow_expr(b, args[0], args[1]);
  for (uint32_t i = 0; i < info->max_in; i++) arg[n++] = args[i];
  for (uint32_t i = 0; i < info->n_attrs; i++) {
    if (info->attrs[i].kind == ATTR_FLOAT) arg[n++] = lower_number(b, args[0]->type, op_float(op, (int)i));
  }
  QCC_CHECK(n == kop_info(info->kop)->arity, "lower: %s has %u scalar arguments", info->name, n);
  if (n == 1) return kx_op1(b, info->kop, arg[0]);
  if (n == 2) return kx_op2(b, info->kop, arg[0], arg[1]);
  return kx_op3(b, info->kop, arg[0], arg[1], arg[2]);
}

static KExpr *body_const(KBuild *b, Const *c) {
  DType t = c->type->dtype, ct = lower_compute_type(t);
  return dtype_is_float(t) ? kx_f(b, ct, const_f(b->m, c, 0)) : kx_i(b, ct, const_i(b->m, c, 0));
}

// A value read more than once is named.
static KExpr *shared(KBuild *b, const Value *v, KExpr *x) {
  bool simple = x->kind == KX_CONST || x->kind == KX_VAR;
  return v->n_uses > 1 && !simple ? kx_var(b, kb_let(b, "t", x)) : x;
}

static KExpr *body_value(KBuild *b, const Map *at, const Value *v) {
  if (value_is_const(v)) return body_const(b, v->constant);
  const KExpr *x = map_get(at, v->id);
  QCC_CHECK(x, "lower: body value without code");
  return kx_clone(b, x);
}

KExpr *lower_body(KBuild *b, const Func *body, KExpr *const *args) {
  Map *at = map_new(b->arena);
  for (uint32_t i = 0; i < body->n_args; i++) map_set(at, body->args[i]->id, shared(b, body->args[i], args[i]));
  for (const Op *op = body->first; op; op = op->next) {
    KExpr *arg[3] = {0};
    QCC_CHECK(op_info(op->kind)->traits & TRAIT_ELTWISE, "lower: %s inside a body", op_info(op->kind)->name);
    for (uint32_t i = 0; i < op->n_in; i++) arg[i] = body_value(b, at, op_in(op, i));
    const Value *out = op_out(op, 0);
    map_set(at, out->id, shared(b, out, lower_eltwise_expr(b, op, arg)));
  }
  return body_value(b, at, body->results[0]);
}

// ---- the post function of a contraction

PostParams lower_post_params(LowerCtx *ctx, KBuild *b, const Op *op) {
  PostParams pp = {.op = op, .n = op_n_post(op)};
  QCC_CHECK(pp.n <= sizeof pp.buf / sizeof pp.buf[0], "lower: %u post operands", pp.n);
  uint32_t first = op_info(op->kind)->max_in;
  for (uint32_t i = 0; i < pp.n; i++) {
    PBuf *buf = lower_buf(ctx, op_in(op, first + i));
    pp.buf[i] = lower_param(b, buf, space_of(buf));
  }
  return pp;
}

KExpr *lower_post(KBuild *b, const PostParams *pp, KExpr *raw, const Affine *out) {
  const Func *post = op_post(pp->op);
  if (!post) return raw;
  KExpr *args[1 + sizeof pp->buf / sizeof pp->buf[0]] = {raw};
  uint32_t rank = op_out(pp->op, 0)->type->rank, first = op_info(pp->op->kind)->max_in;
  for (uint32_t i = 0; i < pp->n; i++) {
    Affine idx[MAX_RANK];
    lower_broadcast_idx(op_in(pp->op, first + i)->type, rank, out, idx);
    args[1 + i] = lower_load(b, pp->buf[i], idx);
  }
  return lower_body(b, post, args);
}

// ---- steps

static double args_bytes(uint32_t n, PBuf *const *args) {
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += (double)args[i]->bytes;
  return sum;
}

Step *lower_step(LowerCtx *ctx, KBuild *b, const Op *op, const PostParams *pp, uint32_t n, PBuf *const *bufs) {
  uint32_t n_post = pp ? pp->n : 0;
  PBuf **args = NEW_ARRAY(ctx->m->arena, PBuf *, n + n_post + 1);
  for (uint32_t i = 0; i < n; i++) args[i] = bufs[i];
  for (uint32_t i = 0; i < n_post; i++) args[n + i] = lower_buf(ctx, op_in(op, op_info(op->kind)->max_in + i));
  Kernel *k = program_kernel(ctx->p, kbuild_done(b));
  Step *step = program_step(ctx->p, k, n + n_post, args, op);
  const Plan *plan = op && op_info(op->kind)->plan >= 0 ? op_plan(op) : NULL;
  step->loc = op ? op->loc : NULL;
  step->strategy = plan ? plan->strategy : "loop";
  step->bytes = args_bytes(n + n_post, args);
  return step;
}
