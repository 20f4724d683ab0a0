// Pass `repeats`: filters that are equal, or the negative of each other, are computed once (filter repetition, S54).
//
//   %0 = conv %x, @w : i32[1,14,14,64]               # 16 different filters but for the sign
//   => %1 = conv %x, @u : i32[1,14,14,16]   %2 = gather %1, @which {axis = 3}   %0 = mul %2, @sign
//
// Floats repeat where weights and biases have the same bits; negatives are taken of integers alone, where no sum is a
// zero of the other sign and nothing is rounded. So the result has the same bits. The copy costs about as much as a
// hundred multiply-adds per element, and what would have been fused behind the layer runs over memory: a layer is
// rewritten only where the prices of both forms, copy included, say that it becomes cheaper. Equal channels that the
// next layer can add up are merged by pass `channels` before, without a copy.
#include <string.h>

#include "ir/note.h"
#include "passes/compress/form.h"
#include "passes/contraction.h"
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/price.h"

#define COPY_CYCLES 3.0  // of an element by its index (zen5), and of what is no longer fused

enum { MOST_WEIGHTS = 1 << 24, MOST_FILTERS = 8192 };

typedef struct Layer {
  Op *op;
  Const *w, *bias;         // bias NULL: none
  int64_t n, k, w_n, w_k;  // filters, weights of one, element strides
  size_t size;             // bytes of a weight
  uint32_t axis;           // of the filters in the result
  bool first;              // a convolution with channels first, of floats
  bool whole;              // integers
} Layer;

static bool layer_of(Op *op, Layer *l) {
  const Value *w = op_in(op, 1), *bias = op_in(op, 2);
  if (op_post(op) != NULL || op_plan(op) != NULL || !value_is_const(w) || type_count(w->type) > MOST_WEIGHTS)
    return false;
  if (!type_is_static(op_in(op, 0)->type) || type_count(op_out(op, 0)->type) == 0) return false;
  if (w->type->dtype != DT_F32 && w->type->dtype != DT_I8) return false;
  *l = (Layer){.op = op, .w = w->constant, .whole = w->type->dtype == DT_I8, .size = w->type->dtype == DT_I8 ? 1 : 4};
  ConvGeom g;
  MatmulGeom m;
  if (op->kind == OP_CONV && conv_geom(op, &g) && g.group == 1) {
    l->n = l->w_k = g.o;
    l->w_n = 1;
    l->axis = op_out(op, 0)->type->rank - 1;
  } else if (op->kind == OP_CONV && op_enum(op, A_CONV_layout) == LAYOUT_NCHW && op_int(op, A_CONV_group) == 1) {
    l->n = w->type->dims[0];
    l->w_k = 1;
    l->w_n = l->n > 0 ? type_count(w->type) / l->n : 1;
    l->axis = 1;
    l->first = true;
    if (l->whole) return false;
  } else if (op->kind == OP_MATMUL && w->type->rank == 2 && matmul_geom(op, &m)) {
    l->n = m.n;
    l->w_k = m.b_k;
    l->w_n = m.b_n;
    l->axis = op_out(op, 0)->type->rank - 1;
    if (m.b_vector) return false;
  } else {
    return false;
  }
  l->k = type_count(w->type) / (l->n > 0 ? l->n : 1);
  if (bias == NULL) return l->n > 1 && l->n <= MOST_FILTERS;
  if (!value_is_const(bias) || bias->type->rank != 1 || bias->type->dims[0] != l->n) return false;
  l->bias = bias->constant;
  return l->n > 1 && l->n <= MOST_FILTERS;
}

// ---- which filters repeat

typedef struct Filters {
  const uint8_t *w, *bias;
  uint64_t *hash;  // of a filter up to its sign
  int8_t *sign;    // that of its first weight other than zero; 1 for floats
} Filters;

static const uint8_t *weight(const Layer *l, const Filters *f, int64_t o, int64_t k) {
  return f->w + (size_t)(o * l->w_n + k * l->w_k) * l->size;
}

static int64_t bias_at(const Filters *f, int64_t o) {
  int32_t v = 0;
  if (f->bias != NULL) memcpy(&v, f->bias + 4 * o, sizeof v);
  return v;
}

static Filters filters_of(Arena *arena, const Layer *l) {
  Module *m = l->op->func->module;
  Filters f = {.w = const_data(m, l->w), .bias = l->bias != NULL ? const_data(m, l->bias) : NULL};
  f.hash = NEW_ARRAY(arena, uint64_t, l->n);
  f.sign = NEW_ARRAY(arena, int8_t, l->n);
  for (int64_t o = 0; o < l->n; o++) {
    f.sign[o] = l->whole ? 0 : 1;
    for (int64_t k = 0; k < l->k; k++) {
      int32_t v = 0;
      memcpy(&v, weight(l, &f, o, k), l->size);
      if (l->whole) v = (int8_t)v;
      if (l->whole && f.sign[o] == 0 && v != 0) f.sign[o] = v < 0 ? -1 : 1;
      f.hash[o] = (f.hash[o] ^ (uint32_t)(l->whole && f.sign[o] < 0 ? -v : v)) * UINT64_C(0x100000001b3) + 1;
    }
    if (f.sign[o] == 0) f.sign[o] = 1;
  }
  return f;
}

// Is filter b filter a, times the product of their signs?
static bool repeats(const Layer *l, const Filters *f, int64_t a, int64_t b) {
  int sign = f->sign[a] * f->sign[b];
  if (f->hash[a] != f->hash[b] || bias_at(f, b) != (int64_t)sign * bias_at(f, a)) return false;
  for (int64_t k = 0; k < l->k; k++) {
    const uint8_t *x = weight(l, f, a, k), *y = weight(l, f, b, k);
    if (sign > 0 ? memcmp(x, y, l->size) != 0 : (int8_t)*x != -(int8_t)*y) return false;
  }
  return true;
}

typedef struct Groups {
  int64_t n, *which;  // different filters; for every filter the number of its own among them
  int64_t *first;     // the filter that stands for each
  int8_t *sign;       // for every filter
  bool negative;      // some are
} Groups;

static Groups groups_of(Arena *arena, const Layer *l) {
  Filters f = filters_of(arena, l);
  Groups g = {.which = NEW_ARRAY(arena, int64_t, l->n), .first = NEW_ARRAY(arena, int64_t, l->n)};
  g.sign = NEW_ARRAY(arena, int8_t, l->n);
  for (int64_t o = 0; o < l->n; o++) {
    int64_t i = 0;
    while (i < g.n && !repeats(l, &f, g.first[i], o)) i++;
    if (i == g.n) g.first[g.n++] = o;
    g.which[o] = i;
    g.sign[o] = (int8_t)(f.sign[o] * f.sign[g.first[i]]);
    g.negative |= g.sign[o] < 0;
  }
  return g;
}

// ---- the layer of different filters

// The constant with the filters that are kept along its axis of that stride.
static Value *kept(Module *m, const Layer *l, const Groups *g, Const *c, int64_t stride, size_t size) {
  const Type *t = c->type;
  uint32_t axis = t->rank - 1;
  int64_t dims[MAX_RANK], run = 1;
  while (axis > 0 && run * t->dims[axis] <= stride) run *= t->dims[axis--];
  for (uint32_t i = 0; i < t->rank; i++) dims[i] = t->dims[i];
  dims[axis] = g->n;
  const Type *type = type_with_dims(m->types, t, t->rank, dims);
  uint8_t *to = arena_alloc(m->arena, (size_t)type_bytes(type) + 8), *at = to;
  const uint8_t *from = const_data(m, c);
  for (int64_t outer = 0; outer < type_count(t) / (l->n * stride); outer++)
    for (int64_t i = 0; i < g->n; i++, at += (size_t)stride * size)
      memcpy(at, from + (size_t)((outer * l->n + g->first[i]) * stride) * size, (size_t)stride * size);
  return const_borrowed(m, type, to, c->name);
}

static const Type *with_filters(Module *m, const Layer *l, const Type *t, int64_t n) {
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < t->rank; i++) dims[i] = t->dims[i];
  dims[l->axis] = n;
  return type_with_dims(m->types, t, t->rank, dims);
}

static void set_layer(Op *op, Value *w, Value *bias, const Type *t) {
  op_set_operand(op, 1, w);
  if (bias != NULL) op_set_operand(op, 2, bias);
  op_out(op, 0)->type = t;
}

// Everybody but the new ops reads the copies.
static void emit_copies(const Layer *l, const Groups *g, const Type *whole) {
  Module *m = l->op->func->module;
  Value *raw = op_out(l->op, 0);
  int32_t *sign = arena_alloc(m->arena, (size_t)l->n * sizeof *sign);
  for (int64_t o = 0; o < l->n; o++) sign[o] = g->sign[o];
  Value *index = const_borrowed(m, type_tensor(m->types, DT_I64, 1, &l->n), g->which, "which");
  Op *gather = op_new(l->op->func, l->op->next, OP_GATHER, 2, (Value *[]){raw, index}, l->op->loc);
  op_set_int(gather, A_GATHER_axis, l->axis);
  Value *y = op_out(gather, 0);
  y->type = whole;
  if (g->negative) {
    Value *by = const_borrowed(m, type_tensor(m->types, DT_I32, 1, &l->n), sign, "sign");
    Op *mul = op_new(l->op->func, gather->next, OP_MUL, 2, (Value *[]){y, by}, l->op->loc);
    y = op_out(mul, 0);
    y->type = whole;
  }
  value_replace(raw, y);
  op_set_operand(gather, 0, raw);
}

// Cycles of the layer with `n` filters, which it has now. Layouts are not settled while channels come first.
static bool layer_cycles(PassCtx *ctx, const Layer *l, int64_t n, double *cycles) {
  Price p;
  if (!l->first) {
    if (!price_best(l->op, ctx->target, &p)) return false;
    *cycles = price_total(&p);
    return true;
  }
  Arena *arena = arena_new("repeats");
  FactorLayer form;
  const char *why;
  bool read = layer_read(l->op, &form, arena, &why);
  form.out = n;
  if (read) *cycles = layer_price(&form, ctx->target);
  arena_free(arena);
  return read;
}

static bool layer_rewrite(PassCtx *ctx, const Layer *l) {
  Module *m = ctx->m;
  Op *op = l->op;
  double before, after;
  Groups g = groups_of(m->arena, l);
  if (g.n == l->n || !layer_cycles(ctx, l, l->n, &before)) return false;
  const Type *whole = op_out(op, 0)->type;
  Value *w = op_in(op, 1), *bias = op_in(op, 2);
  Value *few = kept(m, l, &g, l->w, l->w_n, l->size);
  set_layer(op, few, l->bias != NULL ? kept(m, l, &g, l->bias, 1, 4) : NULL, with_filters(m, l, whole, g.n));
  bool priced = layer_cycles(ctx, l, g.n, &after);
  double copy = COPY_CYCLES * (double)type_count(whole) + ctx->target->call_cycles;
  if (!priced || after + copy >= before) {
    set_layer(op, w, bias, whole);
    return false;
  }
  emit_copies(l, &g, whole);
  note_layer(m, op, NOTE_REMOVED, "%lld of %lld filters repeat others%s and are copies of their results",
             (long long)(l->n - g.n), (long long)l->n, g.negative ? ", some negated," : "");
  return true;
}

PassResult pass_repeats(PassCtx *ctx) {
  PassResult result = PASS_SAME;
  for (Op *op = ctx->m->funcs.at[0]->first, *next; op != NULL; op = next) {
    Layer l;
    next = op->next;
    if ((op->kind == OP_CONV || op->kind == OP_MATMUL) && layer_of(op, &l) && layer_rewrite(ctx, &l))
      result = PASS_CHANGED;
  }
  return result;
}
