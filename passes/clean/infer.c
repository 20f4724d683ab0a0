// Pass infer: recompute every result type from operands and attributes, and check it against what stands there.
//
//   %1 = relu %0 : f32[1,8]      with %0 : f32[4,8]
//   => error: the text says f32[1,8], inference gives f32[4,8]
#include "ir/infer.h"
#include "passes/pass.h"

static bool infer_checked(PassCtx *ctx, Op *op) {
  const Type *said[8] = {0};
  for (uint32_t i = 0; i < op->n_out && i < 8; i++) said[i] = op->out[i]->type;
  if (!infer_op(op)) return false;
  for (uint32_t i = 0; i < op->n_out && i < 8; i++)
    if (said[i] && said[i] != op->out[i]->type)
      return diag_error(ctx->diag, DIAG_REFUSED, op->loc, "result %u of '%s' is stated as %s, but inference gives %s",
                        i, op_info(op->kind)->name, type_text(ctx->arena, ctx->m->types, said[i]),
                        type_text(ctx->arena, ctx->m->types, op->out[i]->type));
  return true;
}

PassResult pass_infer(PassCtx *ctx) {
  bool ok = true;
  for (uint32_t k = 0; k < ctx->m->funcs.n; k++)
    for (Op *op = ctx->m->funcs.at[k]->first; op; op = op->next) ok &= infer_checked(ctx, op);
  return ok ? PASS_SAME : PASS_FAILED;
}
