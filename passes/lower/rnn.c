// Shapes, activations and weights of recurrent ops. See rnn.h.
#include "passes/lower/rnn.h"

#include <string.h>

#include "passes/lower/walk.h"

#define PART_LOOPS 5

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

// A part of R as loops: how far apart elements lie in R and where they are packed.
typedef struct Part {
  int64_t dims[PART_LOOPS], from[PART_LOOPS], to[PART_LOOPS], first_from, first_to;
} Part;

// `n` tiles of `vectors` whole vectors from hidden unit `unit` on: [tiles][k][vectors][gates][lanes], rows `row` apart.
static Part part_of(const RnnShape *s, const RnnTiles *t, int64_t unit, int64_t n, int64_t vectors, int64_t lanes,
                    int64_t row) {
  int64_t h = s->n_hidden, gates = t->to - t->from;
  return (Part){.dims = {n, h, vectors, gates, lanes},
                .from = {vectors * lanes * h, 1, lanes * h, h * h, h},
                .to = {row * h, row, gates * lanes, lanes, 1},
                .first_from = ((t->dir * s->gates + t->from) * h + unit) * h,
                .first_to = unit * gates * h};
}

// Whole tiles; whole vectors of the last tile; its rest.
static void parts_of(const RnnShape *s, const RnnTiles *t, Part part[3]) {
  int64_t h = s->n_hidden, gates = t->to - t->from, rest = h % t->width, tail = rest % t->lanes;
  part[0] = part_of(s, t, 0, h / t->width, t->width / t->lanes, t->lanes, t->width * gates);
  part[1] = part_of(s, t, h - rest, 1, rest / t->lanes, t->lanes, rest * gates);
  part[2] = part_of(s, t, h - tail, 1, 1, tail, rest * gates);
  part[2].first_to = ((h - rest) * h + rest - tail) * gates;
}

static void part_copy(const Part *p, size_t size, const char *r, char *to) {
  int64_t i[PART_LOOPS];
  for (i[0] = 0; i[0] < p->dims[0]; i[0]++)
    for (i[1] = 0; i[1] < p->dims[1]; i[1]++)
      for (i[2] = 0; i[2] < p->dims[2]; i[2]++)
        for (i[3] = 0; i[3] < p->dims[3]; i[3]++)
          for (i[4] = 0; i[4] < p->dims[4]; i[4]++) {
            int64_t from_at = p->first_from, to_at = p->first_to;
            for (int d = 0; d < PART_LOOPS; d++) from_at += i[d] * p->from[d], to_at += i[d] * p->to[d];
            memcpy(to + (size_t)to_at * size, r + (size_t)from_at * size, size);
          }
}

static bool part_walk(LowerCtx *ctx, const Op *op, const Part *p, PBuf *to, PBuf *r) {
  Walk walk;
  walk_init(&walk, PART_LOOPS, p->dims);
  if (walk_count(&walk) == 0) return true;
  walk_result(&walk, p->first_to, p->to);
  walk_operand(&walk, p->first_from, p->from);
  return walk_copy(ctx, op, &walk, to, r);
}

PBuf *rnn_recurrent(LowerCtx *ctx, const Op *op, const RnnShape *s, const RnnTiles *tiles) {
  int64_t count = s->n_hidden * s->n_hidden * (tiles->to - tiles->from);
  Value *r = op_in(op, 2);
  const Type *t = type_tensor(ctx->m->types, r->type->dtype, 1, &count);
  Part part[3];
  parts_of(s, tiles, part);
  if (value_is_const(r)) {
    char *packed = NEW_ARRAY(ctx->m->arena, char, type_bytes(t) + 1);
    for (int i = 0; i < 3; i++)
      part_copy(&part[i], dtype_info(t->dtype)->bits / 8, const_data(ctx->m, r->constant), packed);
    return lower_const(ctx, const_borrowed(ctx->m, t, packed, r->constant->name));
  }
  PBuf *work = lower_work(ctx, "r", t);
  for (int i = 0; i < 3; i++)
    if (!part_walk(ctx, op, &part[i], work, lower_buf(ctx, r))) return NULL;
  return work;
}
