// Element-wise ops and `map`: one walk over the result, dimensions collapsed as far as every operand allows. The
// scalar code comes from kops.def. Operands that do not change along the innermost loop are loaded before it.
//
//   %2 = add %x, %b : f32[4,8]  with %b: f32[8]   =>   for i0 in 0..4 { for i1 in 0..8 vec { y[8*i0+i1] = ... } }
#include "passes/lower/walk.h"

typedef struct Eltwise {
  const Op *op;
  const Func *body;  // of map, else NULL
  const Walk *walk;
  uint32_t n_in;
  KBuf *y;
  KBuf *in[WALK_OPERANDS];
  KVar *hoisted[WALK_OPERANDS];
} Eltwise;

static void eltwise_hoist(void *ctx, KBuild *b, const Affine *at) {
  Eltwise *e = ctx;
  for (uint32_t i = 0; i < e->n_in; i++) {
    bool varies = walk_varies(e->walk, i + 1);
    e->hoisted[i] = varies ? NULL : kb_let(b, "s", lower_load1(b, e->in[i], at[i + 1]));
  }
}

static void eltwise_body(void *ctx, KBuild *b, const Affine *at) {
  Eltwise *e = ctx;
  KExpr *args[WALK_OPERANDS];
  for (uint32_t i = 0; i < e->n_in; i++) {
    args[i] = e->hoisted[i] ? kx_var(b, e->hoisted[i]) : lower_load1(b, e->in[i], at[i + 1]);
  }
  lower_store1(b, e->y, at[0], e->body ? lower_body(b, e->body, args) : lower_eltwise_expr(b, e->op, args));
}

static bool emit(LowerCtx *ctx, const Op *op, const Func *body) {
  const Type *t = op_out(op, 0)->type;
  if (op->n_in >= WALK_OPERANDS) {
    return diag_error(ctx->m->diag, DIAG_LIMIT, op->loc, "%u operands of one element-wise kernel, at most %d", op->n_in,
                      WALK_OPERANDS - 1);
  }
  Walk walk;
  KBuild b;
  PBuf *bufs[WALK_OPERANDS] = {lower_buf(ctx, op_out(op, 0))};
  Eltwise e = {.op = op, .body = body, .walk = &walk, .n_in = op->n_in};
  lower_begin(ctx, &b, op);
  walk_init(&walk, t->rank, t->dims);
  e.y = lower_flat(&b, bufs[0]);
  for (uint32_t i = 0; i < op->n_in; i++) {
    bufs[i + 1] = lower_buf(ctx, op_in(op, i));
    e.in[i] = lower_flat(&b, bufs[i + 1]);
    walk_broadcast(&walk, op_in(op, i)->type);
  }
  walk_collapse(&walk);
  walk_emit(&b, &walk, true, eltwise_hoist, eltwise_body, &e);
  lower_step(ctx, &b, op, NULL, op->n_in + 1, bufs);
  return true;
}

bool lower_eltwise(LowerCtx *ctx, const Op *op) { return emit(ctx, op, NULL); }

bool lower_map(LowerCtx *ctx, const Op *op) { return emit(ctx, op, op_func(op, A_MAP_body)); }
