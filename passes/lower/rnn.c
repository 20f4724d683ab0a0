// Shapes, activations and weights of recurrent ops. See rnn.h.
#include "passes/lower/rnn.h"

#include <string.h>

#include "passes/lower/walk.h"

static const struct {
  const char *name;
  bool alpha, beta;
  RnnAct act;
} activations[] = {
    {"Relu", false, false, {.op = KOP_RELU}},
    {"Tanh", false, false, {.op = KOP_TANH}},
    {"Sigmoid", false, false, {.op = KOP_SIGMOID}},
    {"Affine", true, true, {.op = KOP_NONE, .scaled = true, .alpha = 1}},
    {"LeakyRelu", true, false, {.op = KOP_LEAKY_RELU, .alpha = 0.01, .n_params = 1}},
    {"ThresholdedRelu", true, false, {.op = KOP_THRESHOLDED_RELU, .alpha = 1, .n_params = 1}},
    {"ScaledTanh", true, true, {.op = KOP_TANH, .scaled = true, .alpha = 1, .beta = 1}},
    {"HardSigmoid", true, true, {.op = KOP_HARD_SIGMOID, .alpha = 0.2, .beta = 0.5, .n_params = 2}},
    {"Elu", true, false, {.op = KOP_ELU, .alpha = 1, .n_params = 1}},
    {"Softsign", false, false, {.op = KOP_SOFTSIGN}},
    {"Softplus", false, false, {.op = KOP_SOFTPLUS}},
};

static bool read_acts(LowerCtx *ctx, const Op *op, const RnnSlots *slots, const char *missing, RnnShape *s) {
  uint32_t n_alpha, n_beta, at_alpha = 0, at_beta = 0;
  const double *alpha = op_floats(op, slots->alpha, &n_alpha), *beta = op_floats(op, slots->beta, &n_beta);
  const char *text = op_str(op, slots->activations), *p;
  if (!*text) text = missing;
  p = text;
  for (uint32_t n = 0; n < s->acts_per_dir * (uint32_t)s->dirs; n++) {
    size_t len = strcspn(p, ","), known = sizeof activations / sizeof *activations, k = 0;
    while (k < known && (strlen(activations[k].name) != len || memcmp(activations[k].name, p, len) != 0)) k++;
    if (k == known) return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc, "unknown activation function");
    s->acts[n] = activations[k].act;
    if (activations[k].alpha && at_alpha < n_alpha) s->acts[n].alpha = alpha[at_alpha++];
    if (activations[k].beta && at_beta < n_beta) s->acts[n].beta = beta[at_beta++];
    p = p[len] ? p + len + 1 : text;  // one list serves both directions
  }
  return true;
}

bool rnn_shape(LowerCtx *ctx, const Op *op, const RnnSlots *slots, int64_t gates, const char *acts, RnnShape *s) {
  const Type *x = op_in(op, 0)->type, *r = op_in(op, 2)->type;
  *s = (RnnShape){.dirs = r->dims[0], .n_in = x->dims[2], .n_hidden = r->dims[2], .gates = gates};
  s->batch_major = op_bool(op, slots->batch_major);
  s->steps = x->dims[s->batch_major ? 1 : 0];
  s->batch = x->dims[s->batch_major ? 0 : 1];
  s->reverse = op_enum(op, slots->direction) == DIRECTION_REVERSE;
  s->clip = op_float(op, slots->clip);
  s->t = lower_compute_type(x->dtype);
  s->acts_per_dir = gates == 4 ? 3 : gates == 3 ? 2 : 1;
  return read_acts(ctx, op, slots, acts, s);
}

KExpr *rnn_activate(const RnnShape *s, KBuild *b, int64_t dir, uint32_t act, KExpr *x) {
  const RnnAct *a = &s->acts[(uint32_t)dir * s->acts_per_dir + act];
  DType t = s->t;
  if (s->clip > 0 && act != RNN_CELL_ACT) x = kx_op3(b, KOP_CLIP, x, kx_f(b, t, -s->clip), kx_f(b, t, s->clip));
  if (a->scaled && a->op == KOP_NONE) {
    return kx_op2(b, KOP_ADD, kx_op2(b, KOP_MUL, kx_f(b, t, a->alpha), x), kx_f(b, t, a->beta));
  }
  if (a->scaled) {
    KExpr *inner = kx_op2(b, KOP_MUL, kx_f(b, t, a->beta), x);
    return kx_op2(b, KOP_MUL, kx_f(b, t, a->alpha), kx_op1(b, a->op, inner));
  }
  if (a->n_params == 2) return kx_op3(b, a->op, x, kx_f(b, t, a->alpha), kx_f(b, t, a->beta));
  if (a->n_params == 1) return kx_op2(b, a->op, x, kx_f(b, t, a->alpha));
  return kx_op1(b, a->op, x);
}

// ---- weights

// The bytes of one direction of a constant [dirs, ...].
static Value *const_direction(LowerCtx *ctx, Value *v, const Type *t, int64_t dir) {
  const char *bytes = const_data(ctx->m, v->constant);
  return const_bytes(ctx->m, t, bytes + dir * type_bytes(t), v->constant->name);
}

// The projection is a matmul of its own making: it gets a plan, packed weights and the fast nest like any other. The
// function that holds it is no part of the module.
PBuf *rnn_project(LowerCtx *ctx, const Op *op, const RnnShape *s, int64_t dir) {
  Module *m = ctx->m;
  DType dt = op_in(op, 0)->type->dtype;
  int64_t rows = s->steps * s->batch, n = s->gates * s->n_hidden;
  int64_t elems, dims[2] = {rows, n};
  if (!dims_count(2, dims, &elems)) {
    diag_error(m->diag, DIAG_LIMIT, op->loc, "the projected input [%lld,%lld] is too large", (long long)rows,
               (long long)n);
    return NULL;
  }
  const Type *types[2] = {type_tensor(m->types, dt, 2, (int64_t[]){rows, s->n_in}),
                          type_tensor(m->types, dt, 2, (int64_t[]){n, s->n_in})};
  Func *f = func_new(m, "projection", 2, types);
  m->funcs.n--;
  Value *w = op_in(op, 1), *in[2] = {f->args[0], f->args[1]};
  if (value_is_const(w)) in[1] = const_direction(ctx, w, types[1], dir);
  Op *matmul = op_new(f, NULL, OP_MATMUL, 2, in, op->loc);
  op_set_int(matmul, A_MATMUL_trans_b, 1);
  value_set_type(op_out(matmul, 0), type_tensor(m->types, dt, 2, dims));
  lower_bind(ctx, in[0], lower_alias(ctx, lower_buf(ctx, op_in(op, 0)), types[0], 0));
  if (!value_is_const(w)) lower_bind(ctx, in[1], lower_alias(ctx, lower_buf(ctx, w), types[1], dir * n * s->n_in));
  uint32_t first = ctx->p->steps.n;
  bool ok = lower_matmul(ctx, matmul);
  PBuf *projected = lower_buf(ctx, op_out(matmul, 0));
  op_unlink(matmul);  // constants forget it
  for (uint32_t i = first; i < ctx->p->steps.n; i++) ctx->p->steps.at[i].op = op;
  return ok ? projected : NULL;
}

static Value *const_transposed(LowerCtx *ctx, Value *v, const Type *t, int64_t dir, int64_t rows, int64_t cols) {
  size_t size = dtype_info(t->dtype)->bits / 8;
  const char *from = (const char *)const_data(ctx->m, v->constant) + dir * type_bytes(t);
  char *to = NEW_ARRAY(ctx->m->arena, char, type_bytes(t) + 1);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++)
      memcpy(to + (size_t)(j * rows + i) * size, from + (size_t)(i * cols + j) * size, size);
  }
  return const_bytes(ctx->m, t, to, v->constant->name);
}

PBuf *rnn_recurrent(LowerCtx *ctx, const Op *op, const RnnShape *s, int64_t dir) {
  int64_t n = s->gates * s->n_hidden, dims[2] = {s->n_hidden, n}, strides[2] = {1, s->n_hidden};
  Value *r = op_in(op, 2);
  const Type *t = type_tensor(ctx->m->types, r->type->dtype, 2, dims);
  if (value_is_const(r)) return lower_const(ctx, const_transposed(ctx, r, t, dir, n, s->n_hidden));
  PBuf *to = lower_work(ctx, "r", t);
  Walk walk;
  walk_init(&walk, 2, dims);
  walk_operand(&walk, dir * n * s->n_hidden, strides);
  return walk_copy(ctx, op, &walk, to, lower_buf(ctx, r)) ? to : NULL;
}
