// Compiles and times one benchmark module. See bench.h.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/bench.h"
#include "ir/text.h"
#include "passes/price.h"

static const char *const after_gate = "expand,ksimplify,vectorize,unroll,ksimplify,split";

// Inputs of ones would make comparisons degenerate; a small ramp keeps floats normal and integers valid indices (0).
void bench_fill(const Loaded *l) {
  for (uint32_t i = 0; i < l->model->n_inputs; i++) {
    const qcc_tensor *t = &l->model->inputs[i];
    if (t->dtype != 1) continue;
    float *x = l->inputs[i];
    for (uint64_t k = 0; k < t->bytes / sizeof *x; k++) x[k] = (float)(k % 17) / 17.0f - 0.5f;
  }
}

StepFn *bench_step_fn(const Session *s, const Loaded *l) {
  StepFn *fn = NULL;
  void *symbol = jit_symbol(l->jit, arena_printf(s->arena, "%s_run_step", s->name));
  memcpy(&fn, &symbol, sizeof fn);
  return fn;
}

static bool is_planned(OpKind k) { return k == OP_CONV || k == OP_CONV_TRANSPOSE || k == OP_MATMUL || k == OP_CHAIN; }

// Writes the plan of one strategy on every contraction; `plan` leaves it there.
static bool force(Session *s, const char *strategy) {
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *row = strategy_at(i);
    if (strcmp(row->name, strategy) != 0) continue;
    for (Op *op = s->m->funcs.at[0]->first; op; op = op->next) {
      Price p;
      if (!is_planned(op->kind)) continue;
      if (!row->applies(op, s->target)) return false;
      row->price(op, s->target, &p);
      op_set_plan(op, &p.plan);
    }
    return true;
  }
  return false;
}

static bool bench_passes(Session *s, const BenchSpec *spec) {
  if (spec->lowered) return session_passes(s, after_gate);
  const char *gate = strstr(pipeline_default, "plan,");
  const char *first = arena_printf(s->arena, "%.*s", (int)(gate - pipeline_default), pipeline_default);
  if (!session_passes(s, first) || (spec->strategy && !force(s, spec->strategy))) return false;
  return session_passes(s, gate);
}

bool bench_open(Bench *b, const Session *parent, const BenchSpec *spec) {
  *b = (Bench){.s = {.arena = arena_new("bench"), .start = session_now(), .name = "qcc_bench", .steps = true}};
  Session *s = &b->s;
  s->diag = parent->diag;
  s->target = parent->target;
  s->pass_opt = parent->pass_opt;
  s->m = parse_module(s->arena, s->diag, "benchmark", spec->text, strlen(spec->text));
  if (!s->m) return false;
  s->m->name = s->name;
  if (spec->edit) spec->edit(s->m, spec->ctx);
  if (!bench_passes(s, spec) || !session_emit(s, EMIT_OBJECT, &b->object) ||
      !session_jit(s, &b->object, s->name, &b->l))
    return false;
  b->run_step = bench_step_fn(s, &b->l);
  bench_fill(&b->l);
  loaded_run(&b->l);
  return b->run_step != NULL;
}

void bench_close(Bench *b) {
  loaded_free(&b->l);
  free(b->object.at);
  arena_free(b->s.arena);
}

double bench_step(const Bench *b, uint32_t step) {
  qcc_call call = {.workspace = b->l.workspace, .inputs = (const void *const *)b->l.inputs, .outputs = b->l.outputs};
  enum { REPEATS = 25 };
  double start = session_now();
  b->run_step(&call, step);
  double once = session_now() - start, least = INFINITY;
  uint32_t inner = (uint32_t)fmin(fmax(2e-4 / fmax(once, 1e-9), 1), 5000);
  for (uint32_t r = 0; r < REPEATS; r++) {
    start = session_now();
    for (uint32_t k = 0; k < inner; k++) b->run_step(&call, step);
    least = fmin(least, (session_now() - start) / inner);
  }
  return least;
}

static bool is_of(const Step *step, const char *layer) {
  for (const Loc *l = step->op ? step->op->loc : step->loc; l; l = l->next)
    if (l->node_name && strcmp(l->node_name, layer) == 0) return true;
  return false;
}

double bench_layer(const Bench *b, const char *layer) {
  const Program *p = b->s.m->program;
  double sum = 0;
  for (uint32_t i = 0; i < p->steps.n; i++)
    if (is_of(&p->steps.at[i], layer)) sum += bench_step(b, i);
  return sum;
}

const char *bench_strategy(const Bench *b, const char *layer) {
  const Program *p = b->s.m->program;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    if (step->op && is_planned(step->op->kind) && is_of(step, layer) && op_plan(step->op))
      return op_plan(step->op)->strategy;
  }
  return "none";
}
