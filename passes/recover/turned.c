// Pass turn: a layer whose levels fall with the sum in some channels gets the weights of these channels negated, so
// that levels rise everywhere and nothing is left to complement per result.
//
//   %1 = conv %x, @w : i32[1,7,7,32]         @w: i8, channels last, -1 or 1
//   %2 = xor %1, @c : i32[1,7,7,32]          @c: -1 where the level falls, else 0
//   %3 = greater_equal %2, @t
//   => %1 = conv %x, @w' : i32[1,7,7,32]     w' = -w where @c is -1
//      %3 = greater_equal %1, @t'            t' = t + 1 there
//
// ~s = -s - 1, and -s is the sum over negated weights, padding included. Only where the values of all weights are the
// same after a change of sign, so that they need no more bits, and where every reader of the complement is such a
// comparison.
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/range.h"

typedef struct Turn {
  Module *m;
  Op *op, *flip;
  int64_t channels;
  Const *falls;  // -1 or 0, of all or one per channel
} Turn;

static bool is_channels(const Value *v, int64_t channels) {
  if (v == NULL || !value_is_const(v) || v->type->dtype != DT_I32 || !type_is_static(v->type)) return false;
  int64_t n = type_count(v->type);
  return n == 1 || (n == channels && v->type->dims[v->type->rank - 1] == channels);
}

static int64_t channel_of(const Turn *t, const Value *v, int64_t c) {
  return const_i(t->m, v->constant, type_count(v->type) == 1 ? 0 : c);
}

static bool falls(const Turn *t, int64_t c) {
  return const_i(t->m, t->falls, type_count(t->falls->type) == 1 ? 0 : c) == -1;
}

static bool mirrors(const Value *w) {
  if (!value_is_const(w) || w->type->dtype != DT_I8 || w->type->rank < 2 || type_count(w->type) == 0) return false;
  Range r = value_range(w);
  for (uint32_t i = 0; i < r.n; i++)
    if (r.level[i] != -r.level[r.n - 1 - i]) return false;
  return r.lo == -r.hi;
}

static bool is_layer(const Op *op) {
  if (op->kind == OP_CONV) return op_enum(op, A_CONV_layout) == LAYOUT_NHWC;
  return op->kind == OP_MATMUL && op_in(op, 1)->type->rank == 2 && op_in(op, 0)->type->rank > 1;
}

// The one reader of a layer's sum is a complement per channel, whose readers compare it with constants.
static bool find(Module *m, Op *op, Turn *t) {
  Value *sum = op->out[0];
  if (!is_layer(op) || op_post(op) != NULL || op_plan(op) != NULL || sum->type->dtype != DT_I32) return false;
  if (!mirrors(op_in(op, 1)) || sum->uses == NULL || sum->uses->next != NULL || value_is_result_of_func(sum))
    return false;
  Op *flip = sum->uses->op;
  if (flip->kind != OP_XOR || value_is_result_of_func(flip->out[0])) return false;
  const Value *c = op_in(flip, 1 - sum->uses->slot);
  *t = (Turn){m, op, flip, sum->type->dims[sum->type->rank - 1], NULL};
  if (!is_channels(c, t->channels) || flip->out[0]->type != sum->type || flip->out[0]->uses == NULL) return false;
  if (op_in(op, 2) != NULL && !is_channels(op_in(op, 2), t->channels)) return false;
  for (int64_t i = 0; i < type_count(c->type); i++) {
    int64_t v = const_i(m, c->constant, i);
    if (v != 0 && v != -1) return false;
  }
  for (const Operand *u = flip->out[0]->uses; u != NULL; u = u->next) {
    const Value *limit = op_in(u->op, 1);
    if (u->op->kind != OP_GREATER_EQUAL || u->slot != 0 || !is_channels(limit, t->channels)) return false;
    for (int64_t i = 0; i < type_count(limit->type); i++)
      if (const_i(m, limit->constant, i) == INT32_MAX) return false;
  }
  t->falls = c->constant;
  return true;
}

static Value *negated_weights(const Turn *t, PassCtx *ctx) {
  const Value *w = op_in(t->op, 1);
  int64_t n = type_count(w->type);
  bool trans = t->op->kind == OP_MATMUL && op_bool(t->op, A_MATMUL_trans_b);
  double *v = NEW_ARRAY(ctx->arena, double, n);
  for (int64_t i = 0; i < n; i++) {
    int64_t x = const_i(t->m, w->constant, i);
    v[i] = (double)(falls(t, trans ? i / (n / t->channels) : i % t->channels) ? -x : x);
  }
  return const_of_doubles(t->m, w->type, v, w->constant->name);
}

// v of every channel: negated, and with `add` more, where the channel falls.
static Value *turned(const Turn *t, PassCtx *ctx, const Value *v, int64_t sign, int64_t add) {
  double *to = NEW_ARRAY(ctx->arena, double, t->channels);
  for (int64_t c = 0; c < t->channels; c++) {
    int64_t x = channel_of(t, v, c);
    to[c] = (double)(falls(t, c) ? int_wrap(DT_I32, sign * x + add) : x);
  }
  return const_of_doubles(t->m, type_tensor(t->m->types, DT_I32, 1, &t->channels), to, NULL);
}

static void apply(const Turn *t, PassCtx *ctx) {
  op_set_operand(t->op, 1, negated_weights(t, ctx));
  if (op_in(t->op, 2) != NULL) op_set_operand(t->op, 2, turned(t, ctx, op_in(t->op, 2), -1, 0));
  for (const Operand *u = t->flip->out[0]->uses; u != NULL; u = u->next)
    op_set_operand(u->op, 1, turned(t, ctx, op_in(u->op, 1), 1, 1));
  Value *sum = t->op->out[0], *old = t->flip->out[0];
  value_replace(old, sum);
  op_unlink(t->flip);
  sum->name = NULL;
}

PassResult pass_turn(PassCtx *ctx) {
  PassResult result = PASS_SAME;
  for (uint32_t f = 0; f < ctx->m->funcs.n; f++)
    for (Op *op = ctx->m->funcs.at[f]->first; op != NULL; op = op->next) {
      Turn t;
      if ((op->kind != OP_CONV && op->kind != OP_MATMUL) || !find(ctx->m, op, &t)) continue;
      apply(&t, ctx);
      result = PASS_CHANGED;
    }
  return result;
}
