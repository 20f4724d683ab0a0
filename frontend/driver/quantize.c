// Calibration for --quantize. See quantize.h.
//
// The float network is compiled for this machine, whatever the target, with every site as an output: that is a hundred
// times faster than the interpreter. The pass `quantize` finds the same sites again when the module is compiled.
#include "frontend/driver/quantize.h"

#include <stdlib.h>
#include <string.h>

#include "frontend/driver/samples.h"
#include "passes/quantize/quantize.h"
#include "runtime/qcc_rt.h"

bool quantize_asked(const Session *s) { return s->opt.quantize.n > 0; }

static bool read_rules(Session *s, Quantization *z) {
  for (uint32_t i = 0; i < s->opt.quantize.n; i++) {
    QuantRule r;
    if (!quant_rule_read(s->opt.quantize.at[i], s->diag, s->arena, &r)) return false;
    vec_push(s->arena, &z->rules, r);
  }
  return true;
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

static bool observe_all(Session *t, Quantization *z, const Samples *samples, const Loaded *l) {
  const Func *f = t->m->funcs.at[0];
  uint32_t first = f->n_results - z->sites.n;
  for (uint32_t i = 0; i < samples->n; i++) {
    progress(t, "calibration", i, samples->n);
    for (uint32_t k = 0; k < f->n_args; k++)
      memcpy(l->inputs[k], samples->in[i][k].data, (size_t)type_bytes(f->args[k]->type));
    int status = loaded_run(l);
    if (status != 0)
      return diag_error(t->diag, DIAG_REFUSED, NULL, "calibration: run failed: %s", qcc_status_text(status));
    for (uint32_t k = 0; k < z->sites.n; k++)
      quant_observe(z, k, &(Tensor){f->results[first + k]->type, l->outputs[first + k]});
  }
  progress(t, "calibration", samples->n, samples->n);
  z->samples = samples->n;
  z->recorded = true;
  return true;
}

// A session of its own for the float network on this machine.
static Session float_session(const Session *s, Quantization *z) {
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

static bool calibrate(Session *s, Quantization *z, const char *path) {
  Session t = float_session(s, z);
  Samples samples;
  ObjectBytes object = {0};
  Loaded l = {0};
  if (!session_load(&t)) return false;
  t.m->name = t.name;
  if (!samples_read(&t, t.m->funcs.at[0], path, &samples)) return false;
  bool ok = session_passes(&t, observing_pipeline(s)) && session_emit(&t, EMIT_OBJECT, &object) &&
            session_jit(&t, &object, t.name, &l) && observe_all(&t, z, &samples, &l);
  loaded_free(&l);
  free(object.at);
  return ok;
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
  return path == NULL || calibrate(s, z, path);
}
