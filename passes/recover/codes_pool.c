// Step functions behind the maxpool that follows them. See codes.h.
//
//   %2 = (select chain of 32 values of %1); %3 = maxpool %2 {kernel = [2,2], strides = [2,2]}
//   => %2 = maxpool %1; %3 = (the chain of %2)
//
// A function that rises takes the largest of its arguments to the largest of its values; a window of four has a quarter
// of the elements. Not for chains of few steps, whose values make a narrower tensor to pool.
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/codes.h"

enum { FEWEST = 6 };

static bool rises(const Steps *s) {
  for (uint32_t i = 1; i < s->n; i++)
    if (s->value[i] < s->value[i - 1]) return false;
  return true;
}

// Fewer elements after than before, and all that counts is the values.
static bool is_smaller(const Op *pool) {
  const Type *x = op_in(pool, 0)->type, *y = pool->out[0]->type;
  return pool->out[1]->n_uses == 0 && x->dtype == DT_F32 && type_is_static(x) && 2 * type_count(y) <= type_count(x);
}

static bool pool_first(PassCtx *ctx, Map *sources, Op *pool) {
  Value *x = op_in(pool, 0), *source;
  Steps s;
  double cost;
  if (!is_smaller(pool) || x->n_uses != 1 || x->kind != VALUE_RESULT) return false;
  source = codes_source(ctx->m, sources, x);
  if (source == NULL || source->type->dtype != DT_F32 || !codes_steps_of(ctx, x, source, &s, &cost)) return false;
  if (s.n < FEWEST || !rises(&s)) return false;
  Op *now = op_new(pool->func, pool, OP_MAXPOOL, 1, &source, pool->loc);
  op_copy_attrs(now, pool);
  for (uint32_t i = 0; i < 2; i++) now->out[i]->type = pool->out[i]->type;
  Value *y = codes_emit_steps(pool, now->out[0], &s, codes_keeps_nan(&s, pool->out[0]));
  y->name = pool->out[0]->name;
  value_replace(pool->out[0], y);
  return true;
}

bool codes_pools(PassCtx *ctx, Func *f) {
  Map *sources = map_new(ctx->arena);
  bool changed = false;
  for (Op *op = f->first; op != NULL; op = op->next) {
    Value *source = op->n_out == 1 ? codes_source(ctx->m, sources, op->out[0]) : NULL;
    if (source != NULL) map_set(sources, op->out[0]->id + 1u, source);
    if (op->kind == OP_MAXPOOL) changed |= pool_first(ctx, sources, op);
  }
  if (changed) graph_drop_dead(f);
  return changed;
}
