// Layers that may be quantised, and the values that become bytes for them. See quantize.h.
//
//   conv -> relu -> maxpool -> concat -> conv          the pair lies behind relu: maxpool and concat move bytes
//
// From the input of a layer the walk goes up through what moves elements or takes the largest, to values that
// something computed: those are quantised, so that everything between stays in bytes. Operands of a concat share one
// range, or it could not join their bytes. The input of a mean is a site as well: means of bytes are exact sums.
#include <string.h>

#include "ir/base/map.h"
#include "passes/graph_util.h"
#include "passes/quantize/quantize.h"

#define WALK_VALUES 256

static uint32_t site_add(QuantState *s, Value *v) {
  uintptr_t known = (uintptr_t)map_get(s->site_of, v->id + UINT64_C(1));
  if (known != 0) return (uint32_t)(known - 1);
  uint32_t at = s->values.n;
  vec_push(s->ctx->arena, &s->values, v);
  vec_push(s->ctx->arena, &s->group, at);
  map_set(s->site_of, v->id + UINT64_C(1), (void *)(uintptr_t)(at + 1));
  if (at == s->z->sites.n) {
    QuantSite site = {.name = v->name ? arena_copy(s->z->arena, v->name, strlen(v->name) + 1) : "",
                      .stats = activation_stats_new(s->z->arena)};
    vec_push(s->z->arena, &s->z->sites, site);
  }
  return at;
}

uint32_t quant_group(const QuantState *s, uint32_t site) {
  while (s->group.at[site] != site) site = s->group.at[site];
  return site;
}

static void group_join(QuantState *s, uint32_t a, uint32_t b) {
  a = quant_group(s, a);
  b = quant_group(s, b);
  s->group.at[a < b ? b : a] = a < b ? a : b;
}

// Ops whose result has only elements of operand 0 (of all operands: concat), or zeros.
static bool moves(const Op *op) {
  switch (op->kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_CONCAT: return true;
    case OP_PAD: return op_enum(op, A_PAD_mode) != PAD_CONSTANT || op_float(op, A_PAD_value) == 0;
    case OP_MAXPOOL: return op->out[1]->n_uses == 0;
    default: return false;
  }
}

// All sources of a concat are computed; a constant among them would have to be on the grid of the others.
static bool passes(const Op *op) {
  if (!moves(op)) return false;
  for (uint32_t i = 0; op->kind == OP_CONCAT && i < op->n_in; i++)
    if (value_is_const(op_in(op, i))) return false;
  return true;
}

void quant_roots(QuantState *s, Value *v, QuantRoots *out) {
  Value *open[WALK_VALUES] = {v};
  uint32_t n = 1, first = out->n;
  while (n > 0) {
    v = open[--n];
    Op *op = v->kind == VALUE_RESULT ? v->op : NULL;
    uint32_t wide = op != NULL && op->kind == OP_CONCAT ? op->n_in : 1;
    if (op != NULL && v->index == 0 && passes(op) && n + wide < WALK_VALUES) {
      for (uint32_t i = 0; i < wide; i++) open[n++] = op_in(op, i);
      continue;
    }
    vec_push(s->ctx->arena, out, site_add(s, v));
  }
  for (uint32_t i = first + 1; i < out->n; i++) group_join(s, out->at[first], out->at[i]);
  for (uint32_t i = first, end = out->n; i < end; i++) {
    const Value *root = s->values.at[out->at[i]];
    if (root->kind == VALUE_RESULT && op_is_mean(root->op)) quant_roots(s, op_in(root->op, 0), out);
  }
}

// ---- layers

// Is there no other layer between the network's inputs and this one, or between it and the results?
static void mark_ends(QuantState *s) {
  Arena *arena = s->ctx->arena;
  uint32_t n = s->f->module->n_values;
  bool *below = NEW_ARRAY(arena, bool, n + 1), *above = NEW_ARRAY(arena, bool, n + 1);
  Map *layer_of = map_new(arena);
  for (uint32_t i = 0; i < s->ops.n; i++) map_set(layer_of, s->ops.at[i]->id + UINT64_C(1), &s->z->layers.at[i]);
  for (Op *op = s->f->first; op != NULL; op = op->next) {
    bool any = false;
    for (uint32_t i = 0; i < op->n_in; i++)
      if (op_in(op, i) != NULL) any = any || below[op_in(op, i)->id];
    QuantLayer *l = map_get(layer_of, op->id + UINT64_C(1));
    if (l != NULL) l->first = !any;
    for (uint32_t i = 0; i < op->n_out; i++) below[op->out[i]->id] = any || l != NULL;
  }
  for (Op *op = s->f->last; op != NULL; op = op->prev) {
    bool any = false;
    for (uint32_t i = 0; i < op->n_out; i++) any = any || above[op->out[i]->id];
    QuantLayer *l = map_get(layer_of, op->id + UINT64_C(1));
    if (l != NULL) l->last = !any;
    for (uint32_t i = 0; i < op->n_in; i++)
      if (op_in(op, i) != NULL && (any || l != NULL)) above[op_in(op, i)->id] = true;
  }
}

static void layer_add(QuantState *s, Op *op) {
  FactorLayer shape;
  const char *why;
  bool again = s->ops.n < s->z->layers.n;
  Arena *arena = again ? s->ctx->arena : s->z->arena;
  if (!layer_read(op, &shape, arena, &why) || shape.dtype != DT_F32) return;
  QuantRoots roots = {0};
  quant_roots(s, op_in(op, 0), &roots);
  uint32_t input = site_add(s, op_in(op, 0));
  vec_push(s->ctx->arena, &s->ops, op);
  if (again) return;
  QuantLayer l = {.loc = op->loc, .shape = shape, .input = input};
  l.k = shape.in / shape.group * layer_taps(&shape) + 1;
  vec_push(s->z->arena, &s->z->layers, l);
}

void quant_collect(QuantState *s) {
  s->site_of = map_new(s->ctx->arena);
  for (Op *op = s->f->first; op != NULL; op = op->next)
    if (op->kind == OP_CONV || op->kind == OP_MATMUL) layer_add(s, op);
  mark_ends(s);
}
