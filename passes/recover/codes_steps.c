// Chains of element-wise ops that are step functions of one float. See codes.h.
//
// The floats are walked in order as integers. An interval whose ends give the same value is one step if the chain is
// monotone on it, which follows op by op from the values at its ends; any other interval is cut in two, down to single
// floats. Sign chains, residual binarisation (sign of what a sign left over), logarithms to the nearest power of two
// and nested comparisons all come out as their few thresholds.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/codes.h"

enum { CHAIN_OPS = 80, BATCH = 1024, ROUNDS = 34, NEIGHBOURS = 64, RUNS = 4096 };

typedef struct Chain {
  PassCtx *ctx;
  Arena *arena;  // dropped with the chain
  Value *source, *root;
  Op *op[CHAIN_OPS];  // operands first; the last one is the root
  uint32_t n;
  Func *f;                   // the chain on BATCH floats
  Tensor x, got[CHAIN_OPS];  // its argument and results
} Chain;

// ---- the chain

static bool is_number(Module *m, const Value *v) {
  double x;
  return value_is_splat(m, v, &x);
}

static bool has_type(const Value *v) {
  DType t = v->type->dtype;
  return t == DT_F32 || t == DT_F64 || t == DT_BOOL || t == DT_I32 || t == DT_I64;
}

// An op of a chain: element by element from operands of its own dims and from numbers.
static bool is_link(Module *m, const Value *v) {
  if (v->kind != VALUE_RESULT || !(op_info(v->op->kind)->traits & TRAIT_ELTWISE) || !has_type(v)) return false;
  for (uint32_t i = 0; i < v->op->n_in; i++) {
    const Value *in = op_in(v->op, i);
    if (in == NULL || is_number(m, in)) continue;
    if (value_is_const(in) || !type_same_shape(in->type, v->type) || !has_type(in)) return false;
  }
  return true;
}

// Everything between the root and the source.
static bool chain_collect(Chain *c) {
  Module *m = c->ctx->m;
  Value *open[CHAIN_OPS];
  uint32_t n_open = 0;
  open[n_open++] = c->root;
  for (uint32_t at = 0; at < n_open; at++) {
    Op *op = open[at]->op;
    c->op[c->n++] = op;
    for (uint32_t i = 0; i < op->n_in; i++) {
      Value *in = op_in(op, i);
      bool seen = in == NULL || in == c->source || is_number(m, in);
      for (uint32_t k = 0; k < n_open && !seen; k++) seen = open[k] == in;
      if (seen) continue;
      if (n_open == CHAIN_OPS) return false;
      open[n_open++] = in;
    }
  }
  return true;
}

// Program order: an op stands before those that use it.
static void chain_order(Chain *c) {
  Op *sorted[CHAIN_OPS];
  uint32_t n = 0, left = c->n;
  while (left > 0) {
    for (uint32_t i = 0; i < c->n; i++) {
      bool ready = c->op[i] != NULL;
      for (uint32_t k = 0; ready && k < c->op[i]->n_in; k++)
        for (uint32_t j = 0; j < c->n; j++)
          ready = ready && (c->op[j] == NULL || c->op[j]->out[0] != op_in(c->op[i], k));
      if (!ready) continue;
      sorted[n++] = c->op[i];
      c->op[i] = NULL;
      left--;
    }
  }
  memcpy(c->op, sorted, n * sizeof(Op *));
}

// The chain as a function of BATCH floats with the values of all its ops as results.
static void chain_build(Chain *c) {
  Module *m = c->ctx->m;
  int64_t batch = BATCH;
  const Type *arg = type_tensor(m->types, DT_F32, 1, &batch);
  Value *out[CHAIN_OPS], *in[4];
  c->f = func_new(m, "steps", 1, &arg);
  for (uint32_t i = 0; i < c->n; i++) {
    Op *op = c->op[i];
    for (uint32_t k = 0; k < op->n_in; k++) {
      Value *v = op_in(op, k);
      double all;
      in[k] = v;
      if (v == c->source) in[k] = c->f->args[0];
      for (uint32_t j = 0; j < i; j++)
        if (v == c->op[j]->out[0]) in[k] = out[j];
      if (v == NULL || !value_is_splat(m, v, &all)) continue;
      const Type *t = type_scalar(m->types, v->type->dtype);
      in[k] = dtype_is_float(t->dtype) ? const_splat(m, t, all) : const_splat_int(m, t, const_i(m, v->constant, 0));
    }
    Op *copy = op_new(c->f, NULL, op->kind, op->n_in, in, op->loc);
    op_copy_attrs(copy, op);
    out[i] = copy->out[0];
    out[i]->type = type_with_dtype(m->types, arg, op->out[0]->type->dtype);
  }
  func_set_results(c->f, c->n, out);
  c->x = tensor_new(c->arena, arg);
}

static bool chain_eval(Chain *c, Arena *arena) { return eval_func(c->f, &c->x, c->got, arena, NULL, NULL); }

static double got(const Chain *c, uint32_t op, int64_t i) {
  return elem_get_f(c->got[op].data, c->got[op].type->dtype, i);
}

// Vector instructions of an op on f32, roughly.
static double op_cost(OpKind kind) {
  switch (kind) {
    case OP_POW:
    case OP_TANH: return 80;
    case OP_SIGMOID:
    case OP_SOFTPLUS:
    case OP_ERF: return 40;
    case OP_EXP:
    case OP_LOG:
    case OP_SINH:
    case OP_ATAN: return 25;
    case OP_DIV:
    case OP_SQRT: return 5;
    case OP_SIGN: return 4;
    case OP_CLIP: return 2;
    default: return 1;
  }
}

// ---- floats in order: keys are neighbours where floats are, -0 and +0 share key 0

static int64_t key_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits < 0 ? -(int64_t)(bits & INT32_MAX) : bits;
}

static float float_of(int64_t key) {
  int32_t bits = (int32_t)(key < 0 ? -key : key);
  float x;
  memcpy(&x, &bits, sizeof x);
  return key < 0 ? -x : x;
}

// ---- is an op monotone between two floats?

typedef enum Course { CONSTANT, UP, DOWN, UNKNOWN } Course;

typedef struct Part {  // of an operand or result over an interval
  Course course;
  double a, b;  // values at the ends
} Part;

static Course turned(Course c) { return c == UP ? DOWN : c == DOWN ? UP : c; }

static Course both(Course a, Course b) {
  if (a == CONSTANT) return b;
  return b == CONSTANT || a == b ? a : UNKNOWN;
}

static Course scaled(const Part *by, Course of) {
  if (!isfinite(by->a)) return UNKNOWN;
  return by->a > 0 ? of : by->a < 0 ? turned(of) : CONSTANT;
}

static Course product(const Part *x, const Part *y) {
  bool finite = isfinite(x->a) && isfinite(x->b) && isfinite(y->a) && isfinite(y->b);
  if (x->course == CONSTANT) return scaled(x, y->course);
  if (y->course == CONSTANT) return scaled(y, x->course);
  return finite && fmin(x->a, x->b) >= 0 && fmin(y->a, y->b) >= 0 ? both(x->course, y->course) : UNKNOWN;
}

static Course power(const Part *x, const Part *y) {
  if (x->course == CONSTANT && x->a > 0) return x->a >= 1 ? y->course : turned(y->course);
  return y->course == CONSTANT && y->a > 0 && fmin(x->a, x->b) >= 0 ? x->course : UNKNOWN;
}

static Course chosen(const Part *p) {
  if (p[0].course == CONSTANT) return p[p[0].a != 0 ? 1 : 2].course;
  if (p[1].course != CONSTANT || p[2].course != CONSTANT) return UNKNOWN;
  return p[1].a >= p[2].a ? p[0].course : turned(p[0].course);
}

// Rounding to a type keeps the order. NaN has none; integers may wrap.
static Course cast(const Op *op, const Part *p) {
  DType from = op_in(op, 0)->type->dtype, to = op->out[0]->type->dtype;
  if (to == DT_BOOL) return fmin(p->a, p->b) >= 0 ? p->course : UNKNOWN;
  return dtype_is_float(from) || dtype_is_float(to) || from == DT_BOOL ? p->course : UNKNOWN;
}

static Course course_of(const Op *op, const Part *p) {
  switch (op->kind) {
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_SIGN:
    case OP_RELU:
    case OP_SQRT:
    case OP_EXP:
    case OP_LOG:
    case OP_TANH:
    case OP_SIGMOID:
    case OP_ERF:
    case OP_ATAN:
    case OP_SOFTPLUS:
    case OP_SOFTSIGN: return p[0].course;
    case OP_NEG:
    case OP_NOT: return turned(p[0].course);
    case OP_ABS:
      return fmin(p[0].a, p[0].b) >= 0 ? p[0].course : fmax(p[0].a, p[0].b) <= 0 ? turned(p[0].course) : UNKNOWN;
    case OP_CAST: return cast(op, p);
    case OP_ADD:
    case OP_MIN:
    case OP_MAX:
    case OP_AND:
    case OP_OR: return both(p[0].course, p[1].course);
    case OP_SUB:
    case OP_GREATER:
    case OP_GREATER_EQUAL: return both(p[0].course, turned(p[1].course));
    case OP_LESS:
    case OP_LESS_EQUAL: return both(turned(p[0].course), p[1].course);
    case OP_MUL: return product(&p[0], &p[1]);
    case OP_DIV: return p[1].course == CONSTANT ? scaled(&p[1], p[0].course) : UNKNOWN;
    case OP_POW: return power(&p[0], &p[1]);
    case OP_CLIP: return both(both(p[0].course, p[1].course), p[2].course);
    case OP_SELECT: return chosen(p);
    default: return UNKNOWN;
  }
}

static bool is_defined(const Part *p) { return !isnan(p->a) && !isnan(p->b); }

// The course of every op over the interval whose ends are floats i and i + 1 of the batch; of the root at last.
static Part chain_course(const Chain *c, int64_t i, const Part *x) {
  Part at[CHAIN_OPS];
  double number;
  for (uint32_t k = 0; k < c->n; k++) {
    const Op *op = c->op[k];
    Part p[3] = {{0}};
    bool constant = true, unknown = false;
    for (uint32_t s = 0; s < op->n_in && s < 3; s++) {
      const Value *v = op_in(op, s);
      if (v == c->source) {
        p[s] = *x;
      } else if (value_is_splat(c->ctx->m, v, &number)) {
        p[s] = (Part){CONSTANT, number, number};
      }
      for (uint32_t j = 0; j < k; j++)
        if (v == c->op[j]->out[0]) p[s] = at[j];
      constant = constant && p[s].course == CONSTANT;
      unknown = unknown || p[s].course == UNKNOWN || !is_defined(&p[s]);
    }
    at[k] = (Part){CONSTANT, got(c, k, i), got(c, k, i + 1)};
    if (constant) continue;
    bool picks = op->kind == OP_SELECT && p[0].course == CONSTANT;
    if (is_defined(&at[k]) && (picks || !unknown)) at[k].course = course_of(op, p);
    if (!is_defined(&at[k]) || (unknown && !picks)) at[k].course = UNKNOWN;
    if (at[k].course != UNKNOWN && at[k].a == at[k].b) at[k].course = CONSTANT;
  }
  return at[c->n - 1];
}

// ---- runs of floats with one value

typedef struct Run {
  int64_t a, b;  // keys
  double value;
} Run;

typedef struct Search {
  Chain *c;
  Run open[RUNS], next[RUNS], done[RUNS];
  uint32_t n_open, n_next, n_done;
} Search;

static bool push(Run *runs, uint32_t *n, Run r) {
  if (*n == RUNS) return false;
  runs[(*n)++] = r;
  return true;
}

// One interval with its ends evaluated: a step, two single floats, or two halves.
static bool search_interval(Search *s, const Run *r, int64_t i) {
  Part x = {r->a == r->b ? CONSTANT : UP, (double)float_of(r->a), (double)float_of(r->b)};
  Part y = chain_course(s->c, i, &x);
  if (!is_defined(&y)) return false;
  if (y.course == CONSTANT) return push(s->done, &s->n_done, (Run){r->a, r->b, y.a});
  if (r->b - r->a == 1)
    return push(s->done, &s->n_done, (Run){r->a, r->a, y.a}) && push(s->done, &s->n_done, (Run){r->b, r->b, y.b});
  int64_t half = r->a + (r->b - r->a) / 2;
  return push(s->next, &s->n_next, (Run){r->a, half, 0}) && push(s->next, &s->n_next, (Run){half + 1, r->b, 0});
}

static bool search_round(Search *s) {
  for (uint32_t from = 0; from < s->n_open; from += BATCH / 2) {
    uint32_t n = s->n_open - from < BATCH / 2 ? s->n_open - from : BATCH / 2;
    ArenaMark mark = arena_mark(s->c->arena);
    float *x = s->c->x.data;
    for (uint32_t i = 0; i < n; i++) {
      x[2 * i] = float_of(s->open[from + i].a);
      x[2 * i + 1] = float_of(s->open[from + i].b);
    }
    bool ok = chain_eval(s->c, s->c->arena);
    for (uint32_t i = 0; ok && i < n; i++) ok = search_interval(s, &s->open[from + i], 2 * i);
    arena_reset(s->c->arena, mark);
    if (!ok) return false;
  }
  memcpy(s->open, s->next, s->n_next * sizeof *s->next);
  s->n_open = s->n_next;
  s->n_next = 0;
  return true;
}

static int by_key(const void *a, const void *b) {
  const Run *x = a, *y = b;
  return x->a < y->a ? -1 : x->a > y->a;
}

static bool search(Search *s) {
  int64_t most = key_of(INFINITY);
  s->open[s->n_open++] = (Run){-most, most, 0};
  for (int round = 0; round < ROUNDS && s->n_open > 0; round++)
    if (!search_round(s)) return false;
  if (s->n_open > 0) return false;
  qsort(s->done, s->n_done, sizeof *s->done, by_key);
  return true;
}

static bool steps_of_runs(const Run *r, uint32_t n, Steps *out) {
  out->n = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (out->n > 0 && out->value[out->n - 1] == r[i].value) continue;
    if (out->n == STEPS_MAX) return false;
    out->start[out->n] = float_of(r[i].a);
    out->value[out->n++] = r[i].value + 0.0;  // not -0
  }
  return true;
}

double steps_at(const Steps *s, float x) {
  uint32_t i = 0;
  while (i + 1 < s->n && x >= s->start[i + 1]) i++;
  return s->value[i];
}

// Steps against the chain at floats around every threshold and at -0.
static bool steps_agree(Chain *c, const Steps *s) {
  float *x = c->x.data;
  bool ok = true;
  for (uint32_t i = 0; ok && i < s->n; i++) {
    ArenaMark mark = arena_mark(c->arena);
    for (int64_t k = 0; k < BATCH; k++) {
      int64_t key = key_of(s->start[i]) + k - NEIGHBOURS, most = key_of(INFINITY);
      x[k] = k < 2 * NEIGHBOURS && llabs(key) <= most ? float_of(key) : -0.0f;
    }
    ok = chain_eval(c, c->arena);
    for (int64_t k = 0; ok && k <= 2 * NEIGHBOURS; k++) ok = got(c, c->n - 1, k) == steps_at(s, x[k]);
    arena_reset(c->arena, mark);
  }
  return ok;
}

// A few hundred floats: a chain that is no step function gives itself away.
static bool looks_stepped(Chain *c) {
  float *x = c->x.data;
  double seen[STEPS_MAX];
  uint32_t n = 0;
  for (int64_t k = 0; k < BATCH; k++)
    x[k] = k % 2 ? (float)(k - BATCH / 2) * 0x1p-5f : float_of((k - BATCH / 2) * (key_of(INFINITY) / (BATCH / 2)));
  ArenaMark mark = arena_mark(c->arena);
  bool ok = chain_eval(c, c->arena);
  for (int64_t k = 0; ok && k < BATCH; k++) {
    double v = got(c, c->n - 1, k);
    uint32_t i = 0;
    while (i < n && seen[i] != v) i++;
    if (i < n) continue;
    ok = n < STEPS_MAX && !isnan(v);
    if (ok) seen[n++] = v;
  }
  arena_reset(c->arena, mark);
  return ok;
}

static bool find_steps(Chain *c, Steps *s) {
  Search *search_state = NEW(c->arena, Search);
  float *x = c->x.data;
  search_state->c = c;
  if (!looks_stepped(c) || !search(search_state)) return false;
  if (!steps_of_runs(search_state->done, search_state->n_done, s) || !steps_agree(c, s)) return false;
  x[0] = NAN;
  if (!chain_eval(c, c->arena)) return false;
  s->takes_nan = got(c, c->n - 1, 0) == s->value[0];
  return true;
}

bool codes_steps_of(PassCtx *ctx, Value *root, Value *source, Steps *s, double *cost) {
  Chain c = {.ctx = ctx, .root = root, .source = source};
  if (!chain_collect(&c)) return false;
  c.arena = arena_new("steps");
  chain_order(&c);
  chain_build(&c);
  *cost = 0;
  for (uint32_t i = 0; i < c.n; i++) *cost += op_cost(c.op[i]->kind);
  bool found = find_steps(&c, s);
  graph_drop_scratch(c.f);
  arena_free(c.arena);
  return found;
}

Value *codes_source(Module *m, Map *sources, const Value *v) {
  Value *source = NULL;
  if (!is_link(m, v)) return NULL;
  for (uint32_t i = 0; i < v->op->n_in; i++) {
    Value *in = op_in(v->op, i), *from;
    if (in == NULL || is_number(m, in)) continue;
    from = map_get(sources, in->id + 1u);
    if (from == NULL) from = in;
    if (source != NULL && source != from) return NULL;
    source = from;
  }
  return source;
}
