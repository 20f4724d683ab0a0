// Step functions as nested selections. See codes.h.
//
//   %3 = sign %x; %4 = mul %3, 0.6; %5 = sub %x, %4; %6 = sign %5; %7 = mul %6, 0.4; %8 = add %4, %7
//   => %3 = greater_equal %x, -0.6 ...; %4 = select %3, -0.6, -1.0; %5 = greater_equal %x, 0.0 ...
//
// A NaN falls below every threshold. Where the chain gives NaN for it and the result is read by more than contractions,
// one more selection keeps it; a contraction reads quantised values, and no level says NaN.
#include <math.h>

#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/codes.h"

enum { USES = 24 };

static bool moves_data(OpKind k) {
  return k == OP_RESHAPE || k == OP_TRANSPOSE || k == OP_MAXPOOL || k == OP_SLICE || k == OP_PAD || k == OP_EXPAND;
}

// Is the value only read by contractions, maybe moved in between?
static bool feeds_contractions(const Value *v) {
  const Value *open[USES] = {v};
  uint32_t n = 1;
  for (uint32_t at = 0; at < n; at++) {
    if (value_is_result_of_func(open[at])) return false;
    for (const Operand *o = open[at]->uses; o; o = o->next) {
      OpKind k = o->op->kind;
      if (k == OP_CONV || k == OP_MATMUL) continue;
      if (!moves_data(k) || n == USES) return false;
      open[n++] = o->op->out[0];
    }
  }
  return true;
}

static Value *number(Module *m, double v) { return const_splat(m, type_scalar(m->types, DT_F32), v); }

bool codes_keeps_nan(const Steps *s, const Value *v) { return !s->takes_nan && !feeds_contractions(v); }

Value *codes_past(Op *at, Value *x, float start) {
  Module *m = at->func->module;
  float before = nextafterf(start, -INFINITY);
  OpKind kind = before == 0 ? OP_GREATER : OP_GREATER_EQUAL;
  Value *in[2] = {x, number(m, before == 0 ? 0 : (double)start)};
  return graph_emit(at, kind, 2, in, type_with_dtype(m->types, x->type, DT_BOOL), at->loc);
}

Value *codes_emit_steps(Op *at, Value *x, const Steps *s, bool keep_nan) {
  Module *m = at->func->module;
  Value *y = number(m, s->value[0]);
  for (uint32_t i = 1; i < s->n; i++) {
    Value *in[3] = {codes_past(at, x, s->start[i]), number(m, s->value[i]), y};
    y = graph_emit(at, OP_SELECT, 3, in, x->type, at->loc);
  }
  if (!keep_nan) return y;
  const Type *bits = type_with_dtype(m->types, x->type, DT_BOOL);
  Value *in[3] = {graph_emit(at, OP_EQUAL, 2, (Value *[]){x, x}, bits, at->loc), y, x};
  return graph_emit(at, OP_SELECT, 3, in, x->type, at->loc);
}

// The end of a chain: something else than the rest of the chain reads it.
static bool is_root(Module *m, Map *sources, const Value *v) {
  if (v->type->dtype != DT_F32 || v->n_uses == 0) return false;
  const Value *source = map_get(sources, v->id + 1u);
  if (source == NULL || source->type->dtype != DT_F32) return false;
  if (value_is_result_of_func(v)) return true;
  for (const Operand *o = v->uses; o; o = o->next)
    if (o->op->n_out != 1 || codes_source(m, sources, o->op->out[0]) != source) return true;
  return false;
}

static bool select_steps(PassCtx *ctx, Value *root, Value *source) {
  Steps s;
  double cost;
  if (!codes_steps_of(ctx, root, source, &s, &cost) || s.n < 2) return false;
  bool keep_nan = codes_keeps_nan(&s, root);
  if (cost <= 2.0 * (s.n - 1 + keep_nan)) return false;
  Value *y = codes_emit_steps(root->op, source, &s, keep_nan);
  y->name = root->name;
  note_layer(ctx->m, root->op, NOTE_RECOVERED, "%u values by thresholds on the float before them", s.n);
  value_replace(root, y);
  return true;
}

bool codes_steps(PassCtx *ctx, Func *f) {
  Map *sources = map_new(ctx->arena);
  bool changed = false;
  for (Op *op = f->first; op != NULL; op = op->next) {
    if (op->n_out != 1) continue;
    Value *source = codes_source(ctx->m, sources, op->out[0]);
    if (source != NULL) map_set(sources, op->out[0]->id + 1u, source);
  }
  for (Op *op = f->first, *next; op != NULL; op = next) {
    next = op->next;
    if (op->n_out == 1 && is_root(ctx->m, sources, op->out[0]))
      changed |= select_steps(ctx, op->out[0], map_get(sources, op->out[0]->id + 1u));
  }
  return changed;
}
