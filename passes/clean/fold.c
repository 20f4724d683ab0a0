// Pass fold: ops whose operands are all constants are evaluated by the plain interpreter.
//
//   %0 = add @a, @b : f32[2]     with @a = [1.0, 2.0], @b = [3.0, 4.0]
//   => uses of %0 become @c = [4.0, 6.0]
//
// Bounded: a result larger than the budget (64 MiB or what `fold{bytes=N}` says) stays an op; so does one whose
// evaluation would take more than 2^34 scalar operations. Both are known before anything runs. Low-bit weights with a
// scale per block, read by matmuls alone, stay a dequantize of their integers, which is how they are stored; so do
// constant weights that a lookup makes of codes where the arguments say `codes`.
#include <stdlib.h>
#include <string.h>

#include "ir/eval.h"
#include "passes/graph_util.h"
#include "passes/lowbit.h"
#include "passes/pass.h"

#define MAX_COST (INT64_C(1) << 34)

// Weights whose scales differ along the reduction stay integers: nothing recovers them from the floats.
static bool is_blocked_weight(const Op *op) {
  return op->kind == OP_DEQUANTIZE && op_int(op, A_DEQUANTIZE_block) > 0 && lowbit_is_source(op);
}

static bool foldable(const Op *op, int64_t budget, bool keep_codes) {
  if (op->n_in == 0 || is_blocked_weight(op)) return false;
  if (keep_codes && op->kind == OP_LOOKUP && lowbit_is_source(op)) return false;
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op->in[i].value && !value_is_const(op->in[i].value)) return false;
  for (uint32_t i = 0; i < op->n_out; i++)
    if (op->out[i]->n_uses && type_bytes(op->out[i]->type) > budget) return false;
  return eval_cost(op) <= MAX_COST;
}

static bool op_fold(PassCtx *ctx, Op *op) {
  Module *m = ctx->m;
  ArenaMark mark = arena_mark(ctx->arena);
  Tensor *in = NEW_ARRAY(ctx->arena, Tensor, op->n_in), *out = NEW_ARRAY(ctx->arena, Tensor, op->n_out);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op->in[i].value) in[i] = tensor_of_const(m, op->in[i].value->constant);
  if (!eval_op(op, in, out, ctx->arena)) return false;
  for (uint32_t i = 0; i < op->n_out; i++)
    if (op->out[i]->n_uses) value_replace(op->out[i], const_bytes(m, op->out[i]->type, out[i].data, op->out[i]->name));
  op_unlink(op);
  arena_reset(ctx->arena, mark);
  return true;
}

PassResult pass_fold(PassCtx *ctx) {
  int64_t budget = ctx->opt->fold_bytes;
  if (strncmp(ctx->args, "bytes=", 6) == 0) budget = strtoll(ctx->args + 6, NULL, 10);
  bool changed = false, keep_codes = strcmp(ctx->args, "codes") == 0;
  Func *f = ctx->m->funcs.at[0];
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (!foldable(op, budget, keep_codes)) continue;
    if (!op_fold(ctx, op)) return PASS_FAILED;
    changed = true;
  }
  return changed ? PASS_CHANGED : PASS_SAME;
}
