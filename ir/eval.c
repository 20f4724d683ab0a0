// The graph interpreter: dispatch from ops.def to the hooks, and the run of a whole function.
//
// Every row that is not element-wise has a hook eval_<mnemonic>; the table below takes its address, so a missing one
// fails at link time. eval_func keeps a value only while something still reads it: each result has an arena of its
// own, freed after the last use, so a deep network needs the memory of its widest cut.
#include "ir/eval.h"

#include <string.h>

#include "ir/base/map.h"
#include "ir/eval_impl.h"

// Rows with kop NONE name their hook by mnemonic (as a symbol name, since the preprocessor cannot change case);
// PICK takes the second argument, which is that hook exactly when PROBE_<kop> is the macro PROBE_NONE.
#define PROBE_NONE(ID) ~, eval_hook_##ID, ~
#define PICK(a, b, ...) b
#define PICK_HOOK(...) PICK(__VA_ARGS__)
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) extern EvalFn eval_hook_##ID __asm__("eval_" name);
#define ATTR(ID, name, kind, def)
#include "ir/ops.def"
#undef OP
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) [OP_##ID] = PICK_HOOK(PROBE_##kop(ID), eval_eltwise, ~),
static EvalFn *const hooks[OP_COUNT] = {
#include "ir/ops.def"
};
#undef OP
#undef ATTR

Tensor tensor_new(Arena *arena, const Type *type) {
  return (Tensor){type, arena_alloc(arena, (size_t)type_bytes(type))};
}

Tensor tensor_of_const(Module *m, Const *c) {
  union {
    const void *read;
    void *data;
  } p = {.read = const_data(m, c)};  // tensors of constants are never written
  return (Tensor){c->type, p.data};
}

static bool type_is_ready(const Op *op, const Type *t) {
  if (!t || !type_is_static(t))
    return diag_error(op_diag(op), DIAG_UNSUPPORTED, op->loc,
                      "cannot be evaluated with a symbolic shape; give the size with --dim NAME=N");
  if (t->dtype == DT_STR) return diag_error(op_diag(op), DIAG_UNSUPPORTED, op->loc, "cannot be evaluated on strings");
  return true;
}

// All types static and numeric, every result allocated in its arena, then the hook with `scratch`.
static bool eval_in(const Op *op, const Tensor *in, Tensor *out, Arena *const *homes, Arena *scratch) {
  for (uint32_t i = 0; i < op->n_in; i++)
    if (in[i].data && !type_is_ready(op, in[i].type)) return false;
  for (uint32_t i = 0; i < op->n_out; i++) {
    if (!type_is_ready(op, op->out[i]->type)) return false;
    out[i] = tensor_new(homes[i], op->out[i]->type);
  }
  ArenaMark mark = arena_mark(scratch);
  bool ok = hooks[op->kind](op, in, out, scratch);
  arena_reset(scratch, mark);
  return ok;
}

bool eval_op(const Op *op, const Tensor *in, Tensor *out, Arena *arena) {
  Arena **homes = NEW_ARRAY(arena, Arena *, op->n_out);
  for (uint32_t i = 0; i < op->n_out; i++) homes[i] = arena;
  return eval_in(op, in, out, homes, arena);
}

// ---- whole functions

typedef struct Live {
  Tensor tensor;
  Arena *home;    // NULL for arguments, constants and freed values
  uint32_t left;  // uses still to come
} Live;

typedef struct Run {
  Func *func;
  Map *live;  // value id + 1 -> Live
  Arena *arena, *scratch;
  EvalWatch *watch;
  void *ctx;
} Run;

static Live *live_of(const Run *r, const Value *v) { return map_get(r->live, (uint64_t)v->id + 1); }

static Live *live_add(Run *r, const Value *v) {
  Live *l = NEW(r->arena, Live);
  l->left = v->n_uses;
  map_set(r->live, (uint64_t)v->id + 1, l);
  return l;
}

static void live_drop(Live *l) {
  arena_free(l->home);
  l->home = NULL;
}

static Tensor tensor_of(Run *r, Value *v) {
  if (!v) return (Tensor){0};
  if (v->kind == VALUE_CONST) return tensor_of_const(r->func->module, v->constant);
  return live_of(r, v)->tensor;
}

static bool run_op(Run *r, Op *op) {
  Tensor *in = NEW_ARRAY(r->scratch, Tensor, op->n_in), *out = NEW_ARRAY(r->scratch, Tensor, op->n_out);
  Arena **homes = NEW_ARRAY(r->scratch, Arena *, op->n_out);
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = tensor_of(r, op_in(op, i));
  for (uint32_t i = 0; i < op->n_out; i++) homes[i] = live_add(r, op->out[i])->home = arena_new("value");
  bool ok = eval_in(op, in, out, homes, r->scratch);
  if (ok && r->watch) r->watch(r->ctx, op, in, out);
  for (uint32_t i = 0; i < op->n_out; i++) {
    Live *l = live_of(r, op->out[i]);
    l->tensor = out[i];
    if (l->left == 0) live_drop(l);
  }
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *v = op_in(op, i);
    Live *l = v && v->kind != VALUE_CONST ? live_of(r, v) : NULL;
    if (l && --l->left == 0) live_drop(l);
  }
  return ok;
}

static void keep_results(Run *r, Tensor *results) {
  for (uint32_t i = 0; i < r->func->n_results; i++) {
    Tensor t = tensor_of(r, r->func->results[i]);
    results[i] = tensor_new(r->arena, t.type);
    size_t bytes = (size_t)type_bytes(t.type);
    if (bytes) memcpy(results[i].data, t.data, bytes);
  }
}

bool eval_func(Func *f, const Tensor *args, Tensor *results, Arena *arena, EvalWatch *watch, void *ctx) {
  Run r = {f, map_new(arena), arena, arena_new("eval"), watch, ctx};
  for (uint32_t i = 0; i < f->n_args; i++) live_add(&r, f->args[i])->tensor = args[i];
  bool ok = true;
  for (Op *op = f->first; op && ok; op = op->next) {
    ok = run_op(&r, op);
    arena_clear(r.scratch);
  }
  if (ok) keep_results(&r, results);
  for (Op *op = f->first; op; op = op->next)
    for (uint32_t i = 0; i < op->n_out; i++)
      if (live_of(&r, op->out[i])) live_drop(live_of(&r, op->out[i]));
  arena_free(r.scratch);
  return ok;
}
