// Calibration for --quantize. See quantize.h.
//
// The float network is compiled for this machine, whatever the target, with every site as an output: that is a hundred
// times faster than the interpreter. The pass `quantize` finds the same sites again when the module is compiled.
#include "frontend/driver/quantize.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/qcc_rt.h"

bool quantize_asked(const Session *s) { return s->opt.quantize.n > 0 || s->opt.policy.n > 0; }

static bool read_rules(Session *s, Quantization *z) {
  for (uint32_t i = 0; i < s->opt.quantize.n; i++) {
    QuantRule r;
    if (!quant_rule_read(s->opt.quantize.at[i], s->diag, s->arena, &r)) return false;
    vec_push(s->arena, &z->rules, r);
  }
  return policy_read(s, z);
}

static const char *observing_pipeline(Session *s) {
  const char *all = pipeline_default, *cut = strstr(all, ",merge");
  QCC_CHECK(cut != NULL, "quantize: no place in the pipeline");
  return arena_printf(s->arena, "%.*s,quantize{observe}%s", (int)(cut - all), all, cut);
}

static void progress(const Session *s, const char *what, uint32_t i, uint32_t n) {
  if (!s->terminal) return;
  fprintf(stderr, "\r\033[K[%u/%u] %s", i, n, what);
  if (i == n) fprintf(stderr, "\r\033[K");
  fflush(stderr);
}

static Tensor *results_of(Session *t, const Func *f, uint32_t n, const Loaded *l) {
  Tensor *all = NEW_ARRAY(t->arena, Tensor, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    const Type *type = f->results[i]->type;
    all[i] = (Tensor){type, arena_copy(t->arena, l->outputs[i], (size_t)type_bytes(type))};
  }
  return all;
}

static bool observe_all(Session *t, Quantization *z, QuantReference *ref, const Loaded *l) {
  const Func *f = t->m->funcs.at[0];
  const Samples *samples = &ref->samples;
  uint32_t first = f->n_results - z->sites.n;
  ref->want = NEW_ARRAY(t->arena, Tensor *, samples->n + 1);
  for (uint32_t i = 0; i < samples->n; i++) {
    progress(t, "calibration", i, samples->n);
    for (uint32_t k = 0; k < f->n_args; k++)
      memcpy(l->inputs[k], samples->in[i][k].data, (size_t)type_bytes(f->args[k]->type));
    int status = loaded_run(l);
    if (status != 0)
      return diag_error(t->diag, DIAG_REFUSED, NULL, "calibration: run failed: %s", qcc_status_text(status));
    ref->want[i] = results_of(t, f, first, l);
    for (uint32_t k = 0; k < z->sites.n; k++)
      quant_observe(z, k, &(Tensor){f->results[first + k]->type, l->outputs[first + k]});
  }
  progress(t, "calibration", samples->n, samples->n);
  z->samples = samples->n;
  z->recorded = true;
  z->labelled = samples->labels != NULL;
  return true;
}

Session quantize_session(const Session *s, Quantization *z) {
  Session t = *s;
  t.m = NULL;
  t.name = "qcc_calibration";
  t.target = target_native();
  t.n_levels = 0;
  t.pass_opt = pass_options_default();
  t.pass_opt.quantize = z;
  t.opt.passes.n = t.opt.print_after.n = 0;
  t.timings = (PassTimings){0};
  t.threads = 1;
  t.release = t.steps = false;
  t.emulated = NULL;
  return t;
}

static bool calibrate(Session *s, Quantization *z, const char *path, QuantReference *ref) {
  Session t = quantize_session(s, z);
  ObjectBytes object = {0};
  Loaded l = {0};
  if (!session_load(&t)) return false;
  t.m->name = t.name;
  if (!samples_read(&t, t.m->funcs.at[0], path, &ref->samples)) return false;
  bool ok = session_passes(&t, observing_pipeline(s)) && session_emit(&t, EMIT_OBJECT, &object) &&
            session_jit(&t, &object, t.name, &l) && observe_all(&t, z, ref, &l);
  loaded_free(&l);
  free(object.at);
  return ok;
}

// The layers alone: weights need no samples.
static bool find_layers(Session *s, Quantization *z) {
  Session t = quantize_session(s, z);
  const char *all = pipeline_default, *cut = strstr(all, ",merge");
  if (!session_load(&t)) return false;
  t.m->name = t.name;
  return session_passes(&t, arena_printf(s->arena, "%.*s,quantize{observe}", (int)(cut - all), all));
}

// ---- the gate

// The graph before it is lowered, of a module of its own.
static bool graph_costs(const Session *s, Quantization *z, bool few_bits, QuantCosts *out) {
  const char *pipeline = few_bits ? session_pipeline(s) : pipeline_default;
  Session t = *s;
  Arena *arena = arena_new("gate");
  t.arena = arena;
  t.pass_opt.quantize = few_bits ? z : NULL;
  t.opt.print_after.n = 0;
  t.timings = (PassTimings){0};
  t.release = false;
  t.n_levels = 0;
  const char *gate = strstr(pipeline, ",lower");
  bool ok = session_load(&t);
  if (ok) t.m->name = "qcc_gate";
  ok = ok && session_passes(&t, arena_printf(arena, "%.*s", (int)(gate - pipeline), pipeline));
  if (ok) quant_costs(t.m->funcs.at[0], s->target, z, out);
  arena_free(arena);
  return ok;
}

// Layers that lose go back to floats, which may make others lose: a few rounds.
static bool apply_gate(Session *s, Quantization *z) {
  enum { ROUNDS = 6 };
  QuantCosts as_float = quant_costs_new(z, s->arena);
  if (s->opt.passes.n > 0 || z->layers.n == 0) return true;
  if (!graph_costs(s, z, false, &as_float)) return false;
  for (int round = 0; round < ROUNDS; round++) {
    QuantCosts now = quant_costs_new(z, s->arena);
    if (!graph_costs(s, z, true, &now)) return false;
    if (quant_gate(z, &as_float, &now, s->target->ghz, s->arena) > 0) continue;
    if (now.total > as_float.total)
      quant_refuse_all(z, arena_printf(s->arena, "by prices the network takes %.2f us, %.2f in floats",
                                       1e-3 * now.total / s->target->ghz, 1e-3 * as_float.total / s->target->ghz));
    break;
  }
  return true;
}

// Weights alone need no samples.
static bool needs_samples(const Quantization *z) {
  for (uint32_t i = 0; i < z->rules.n; i++)
    if (z->rules.at[i].choice.x_bits != 0) return true;
  return false;
}

bool quantize_prepare(Session *s) {
  if (!quantize_asked(s) || s->pass_opt.quantize != NULL) return true;
  Quantization *z = NEW(s->arena, Quantization);
  z->arena = s->arena;
  const char *path = option_text(&s->opt.calibrate, option_text(&s->opt.data, NULL));
  if (!read_rules(s, z)) return false;
  if (path == NULL && needs_samples(z))
    return diag_error(s->diag, DIAG_USAGE, NULL,
                      "--quantize needs samples for the ranges of activations: --calibrate=DIR with .npy packs or .pb "
                      "files; or weights alone, as --quantize=w8");
  s->pass_opt.quantize = z;
  QuantReference ref = {0};
  if (!(path == NULL ? find_layers(s, z) : calibrate(s, z, path, &ref)) || !apply_gate(s, z)) return false;
  return quantize_search(s, z, &ref) && policy_write(s, z);
}
