// The gate of quantisation: layers that few bits make slower stay float. See quantize.h.
//
// Both graphs, float and quantised, go through the passes up to `plan`. An op of the result belongs to the layers whose
// ONNX nodes it was made of; layers that one op holds (a chain of factors, say) are judged together. Contractions cost
// what their plan costs; whatever else became a step costs its bytes and elements. So what is lost on the way counts as
// well: a chain cut apart, transposes that a float chain does not need, conversions.
#include <math.h>
#include <string.h>

#include "passes/price.h"
#include "passes/quantize/quantize.h"

#define STEP_CYCLES 40      // to enter a step
#define MOVED_CYCLES 0.5    // per element that changes its place
#define MAPPED_CYCLES 0.15  // per element and operation of an element-wise step

static bool same_node(const Loc *a, const Loc *b) {
  if (a->node != b->node || a->line != b->line || a->col != b->col) return false;
  return a->output == b->output || (a->output != NULL && b->output != NULL && strcmp(a->output, b->output) == 0);
}

static bool shares_node(const Loc *a, const Loc *b) {
  for (; a != NULL; a = a->next)
    for (const Loc *p = b; p != NULL; p = p->next)
      if (same_node(a, p)) return true;
  return false;
}

static double body_ops(const Func *body) { return body != NULL ? (double)body->n_ops : 1; }

static double step_cost(const Op *op, const Target *t) {
  Price best;
  double bytes = 0;
  if (op_plan(op) != NULL && price_best(op, t, &best)) return price_total(&best) + STEP_CYCLES;
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op_in(op, i) != NULL && !value_is_const(op_in(op, i)) && type_is_static(op_in(op, i)->type))
      bytes += (double)type_bytes(op_in(op, i)->type);
  if (op->kind == OP_RESHAPE || !type_is_static(op->out[0]->type)) return 0;
  double elements = (double)type_count(op->out[0]->type), each = MOVED_CYCLES;
  bytes += (double)type_bytes(op->out[0]->type);
  if (op->kind == OP_MAP) each = MAPPED_CYCLES * body_ops(op_func(op, A_MAP_body));
  if (op->kind != OP_MAP && (op_info(op->kind)->traits & TRAIT_ELTWISE) != 0) each = MAPPED_CYCLES;
  return bytes / price_bandwidth(t, bytes) + each * elements + STEP_CYCLES;
}

static uint32_t head_of(const uint32_t *group, uint32_t i) {
  while (group[i] != i) i = group[i];
  return i;
}

void quant_costs(const Func *f, const Target *t, const Quantization *z, QuantCosts *out) {
  for (const Op *op = f->first; op != NULL; op = op->next) {
    double cost = step_cost(op, t);
    uint32_t owner = UINT32_MAX;
    for (uint32_t i = 0; i < z->layers.n; i++) {
      if (!shares_node(op->loc, z->layers.at[i].loc)) continue;
      uint32_t a = head_of(out->group, i), b = owner == UINT32_MAX ? a : head_of(out->group, owner);
      out->group[a > b ? a : b] = a < b ? a : b;
      owner = a < b ? a : b;
    }
    out->total += cost;
    if (owner != UINT32_MAX) out->of[owner] += cost;
  }
}

QuantCosts quant_costs_new(const Quantization *z, Arena *arena) {
  QuantCosts c = {.of = NEW_ARRAY(arena, double, z->layers.n + 1),
                  .group = NEW_ARRAY(arena, uint32_t, z->layers.n + 1)};
  for (uint32_t i = 0; i < z->layers.n; i++) c.group[i] = i;
  return c;
}

static void stay_float(Quantization *z, uint32_t i, const char *why) {
  QuantLayer *l = &z->layers.at[i];
  if (!l->choice.w_given) return;
  l->choice.w_given = false;
  l->choice.x_bits = 0;
  l->why = why;
}

// One group of either graph is a part of one group here.
static void join_groups(const Quantization *z, const uint32_t *more, uint32_t *group) {
  for (uint32_t i = 0; i < z->layers.n; i++) {
    uint32_t a = head_of(group, i), b = head_of(group, head_of(more, i));
    group[a > b ? a : b] = a < b ? a : b;
  }
}

static double group_cost(const Quantization *z, const QuantCosts *c, const uint32_t *group, uint32_t head) {
  double sum = 0;
  for (uint32_t i = 0; i < z->layers.n; i++)
    if (head_of(group, i) == head) sum += c->of[i];
  return sum;
}

uint32_t quant_gate(Quantization *z, const QuantCosts *as_float, const QuantCosts *now, double ghz, Arena *arena) {
  uint32_t refused = 0, *group = NEW_ARRAY(arena, uint32_t, z->layers.n + 1);
  for (uint32_t i = 0; i < z->layers.n; i++) group[i] = i;
  join_groups(z, as_float->group, group);
  join_groups(z, now->group, group);
  for (uint32_t head = 0; head < z->layers.n; head++) {
    if (head_of(group, head) != head) continue;
    double before = group_cost(z, as_float, group, head), after = group_cost(z, now, group, head);
    const char *why = arena_printf(z->arena, "by prices %.2f us in few bits, %.2f in floats", 1e-3 * after / ghz,
                                   1e-3 * before / ghz);
    for (uint32_t i = head; i < z->layers.n; i++) {
      QuantLayer *l = &z->layers.at[i];
      if (head_of(group, i) != head) continue;
      l->before = before;
      l->after = after;
      if (after <= before || !l->choice.w_given || l->choice.force) continue;
      stay_float(z, i, why);
      refused++;
    }
  }
  return refused;
}

void quant_refuse_all(Quantization *z, const char *why) {
  for (uint32_t i = 0; i < z->layers.n; i++)
    if (!z->layers.at[i].choice.force) stay_float(z, i, why);
}
