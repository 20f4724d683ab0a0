// Pass idioms: what training frameworks leave around a quantiser, taken for what it means.
//
//   %1 = div (round (mul %0, 15)), 15        few values
//   %2 = sub %1, %0
//   %3 = add %0, %2                          the straight-through estimator: x + (q - x), gradient of x, value of q
//   => uses of %3 become %1
//
// In floats x + (q - x) is q up to the rounding of the difference, which nobody meant; in real arithmetic it is q. The
// rewrite is made only where q has finitely many values (sets.h), so that sums compensated on purpose stay, and not
// under --fp=strict. Written as q + x - x or x - (x - q) it is the same.
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/recover/sets.h"

// The other operand of a sum with x, or NULL.
static Value *sum_with(const Value *v, const Value *x) {
  const Op *add = value_def(v, OP_ADD);
  if (add == NULL) return NULL;
  return op_in(add, 0) == x ? op_in(add, 1) : op_in(add, 1) == x ? op_in(add, 0) : NULL;
}

static Value *minuend(const Value *v, const Value *x) {
  const Op *sub = value_def(v, OP_SUB);
  return sub && op_in(sub, 1) == x ? op_in(sub, 0) : NULL;
}

// The q of x + (q - x), (q + x) - x or x - (x - q).
static Value *quantised(const Op *op) {
  Value *a = op_in(op, 0), *b = op_in(op, 1), *q = NULL;
  if (op->kind == OP_ADD) {
    q = minuend(b, a);
    return q ? q : minuend(a, b);
  }
  if (op->kind != OP_SUB) return NULL;
  q = sum_with(a, b);
  const Op *less = value_def(b, OP_SUB);
  return q || !less || op_in(less, 0) != a ? q : op_in(less, 1);
}

PassResult pass_idioms(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  if (ctx->opt->strict_fp) return PASS_SAME;
  Sets *sets = sets_new(ctx->m, ctx->arena);
  bool changed = false;
  for (Op *op = f->first; op; op = op->next) {
    sets_visit(sets, op);
    Value *q = quantised(op);
    if (q == NULL || q->type != op->out[0]->type || q->type->dtype != DT_F32 || sets_of(sets, q)->n == 0) continue;
    note_layer(ctx->m, op, NOTE_RECOVERED, "x + (q - x) taken as q, of %u values", sets_of(sets, q)->n);
    value_replace(op->out[0], q);
    changed = true;
  }
  if (changed) graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}
