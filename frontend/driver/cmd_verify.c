// qcc verify: the compiled object against the interpreter, layer by layer, and against recorded outputs.
//
// Three comparisons, each with its own object or run:
//  layers    every result of the optimised graph is made an output of a probe object; each op is evaluated by the plain
//            interpreter on the operands the object itself computed, so a layer's error is its own. Gates by op class
//            (gate.h).
//  model     the object as compiled against the interpreter on the graph as imported.
//  recorded  the same outputs against test data files, when there are any. Where a network rounds to levels, a
//            difference of these two that is no more than what float rounding alone makes of the network is reported as
//            `near` with that noise (noise.h), and is not an error: the layers are held to their gates all the same.
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/driver/cases.h"
#include "frontend/driver/gate.h"
#include "frontend/driver/noise.h"
#include "frontend/driver/quantize.h"
#include "frontend/driver/session.h"
#include "frontend/onnx.h"
#include "ir/elem.h"
#include "runtime/qcc_rt.h"

static bool call_model(Session *s, const Loaded *l) {
  int status = loaded_run(l);
  return status == 0 || diag_error(s->diag, DIAG_REFUSED, NULL, "run failed: %s", qcc_status_text(status));
}

// ---- layers

// Every op result of static numeric type becomes a function result; returns how many results the function had.
static uint32_t expose_results(Session *s, Func *f) {
  uint32_t before = f->n_results, n = before;
  Value **all = NEW_ARRAY(s->arena, Value *, before + 4 * f->n_ops + 1);
  const char **names = NEW_ARRAY(s->arena, const char *, before + 4 * f->n_ops + 1);
  for (uint32_t i = 0; i < before; i++) {
    all[i] = f->results[i];
    names[i] = f->result_names[i];
  }
  for (Op *op = f->first; op; op = op->next)
    for (uint32_t i = 0; i < op->n_out && i < 4; i++)
      if (op->out[i]->n_uses) {
        names[n] = arena_printf(s->arena, "probe%u", op->out[i]->id);
        all[n++] = op->out[i];
      }
  func_set_results(f, n, all);
  for (uint32_t i = 0; i < n; i++) f->result_names[i] = names[i];
  return before;
}

typedef struct LayerWorst {
  const Op *op;
  GateResult result;
} LayerWorst;

static Tensor probe_of(Session *s, const Func *ref, const Loaded *l, const Value *v, const Tensor *args) {
  if (value_is_const(v)) return tensor_of_const(s->m, v->constant);
  if (v->kind == VALUE_ARG) return args[v->index];
  for (uint32_t i = 0; i < ref->n_results; i++)
    if (ref->results[i] == v) return (Tensor){v->type, l->outputs[i]};
  return (Tensor){v->type, NULL};
}

static bool layers_compare(Session *s, const Func *ref, const Loaded *l, const Case *c, uint32_t *n_bad,
                           uint32_t *n_layers) {
  bool verbose = option_flag(&s->opt.verbose);
  for (const Op *op = ref->first; op; op = op->next) {
    Arena *scratch = arena_new("verify");
    Tensor *in = NEW_ARRAY(scratch, Tensor, op->n_in + 1), *want = NEW_ARRAY(scratch, Tensor, op->n_out + 1);
    for (uint32_t i = 0; i < op->n_in; i++)
      if (op_in(op, i)) in[i] = probe_of(s, ref, l, op_in(op, i), c->in);
    if (!eval_op(op, in, want, scratch)) {
      arena_free(scratch);
      return false;
    }
    for (uint32_t i = 0; i < op->n_out; i++) {
      if (!op->out[i]->n_uses) continue;
      Tensor got = probe_of(s, ref, l, op->out[i], c->in);
      GateResult g = gate_layer(op, i, in, &want[i], &got, scratch);
      ++*n_layers;
      if (!g.ok) ++*n_bad;
      if (!g.ok || verbose)
        printf("  %s %-14s %-40s %s\n", g.ok ? "ok   " : "WRONG", op_info(op->kind)->name,
               str_escape(s->arena, loc_text(s->arena, op->loc), 120), gate_text(s->arena, &g));
    }
    arena_free(scratch);
  }
  return true;
}

static void load_inputs(const Loaded *l, const Func *f, const Case *c) {
  for (uint32_t i = 0; i < f->n_args; i++) memcpy(l->inputs[i], c->in[i].data, (size_t)type_bytes(f->args[i]->type));
}

static int verify_layers(Session *s, const Cases *cases) {
  const char *graph = "", *rest = "";
  ObjectBytes object = {0};
  Loaded l = {0};
  uint32_t bad = 0, layers = 0;
  if (!session_cut(s, &graph, &rest)) {
    diag_error(s->diag, DIAG_USAGE, NULL, "verify needs a pipeline with 'plan' or 'lower'");
    return -1;
  }
  if (!session_passes(s, graph)) return -1;
  expose_results(s, s->m->funcs.at[0]);
  Func *ref = func_clone(s->m->funcs.at[0], "qcc.reference");
  bool ok = session_passes(s, rest) && session_emit(s, EMIT_OBJECT, &object) && session_jit(s, &object, s->name, &l);
  for (uint32_t i = 0; ok && i < cases->n; i++) {
    load_inputs(&l, ref, &cases->at[i]);
    ok = call_model(s, &l) && layers_compare(s, ref, &l, &cases->at[i], &bad, &layers);
  }
  loaded_free(&l);
  free(object.at);
  if (!ok) return -1;
  printf("layers: %u results compared, %u outside their gate\n", layers, bad);
  return bad ? 1 : 0;
}

// ---- whole model

typedef struct Found {
  uint32_t bad, near;  // comparisons outside of their gate: not explained, and explained by noise
} Found;

// The noise of a case, measured when a comparison first asks for it.
typedef struct NoiseOf {
  Func *f;
  const Tensor *args, *reference;
  Noise *noise;  // NULL: not measured yet
} NoiseOf;

static bool is_noise(Session *s, NoiseOf *of, uint32_t i, const Tensor *want, const Tensor *got) {
  if (!noise_applies(of->f)) return false;
  if (of->noise == NULL) {
    of->noise = NEW_ARRAY(s->arena, Noise, of->f->n_results + 1);
    if (!noise_measure(of->f, of->args, of->reference, of->noise, s->arena)) return false;
  }
  return noise_explains(&of->noise[i], want, got);
}

static void outputs_compare(Session *s, NoiseOf *of, const char *label, const Case *c, const Tensor *want, void **got,
                            Found *found) {
  for (uint32_t i = 0; i < of->f->n_results; i++) {
    if (!want[i].data) continue;
    Tensor g = {of->f->results[i]->type, got[i]};
    GateResult r = gate_model(&want[i], &g);
    bool near = !r.ok && is_noise(s, of, i, &want[i], &g);
    if (near) found->near++;
    if (!r.ok && !near) found->bad++;
    if (r.ok && !option_flag(&s->opt.verbose)) continue;
    printf("  %s %s, output '%s' against %s: %s",
           r.ok   ? "ok   "
           : near ? "near "
                  : "WRONG",
           c->name, str_escape(s->arena, of->f->result_names[i], 60), label, gate_text(s->arena, &r));
    if (near)
      printf("; rounding alone changes the interpreter's by up to %.3g in %lld elements", of->noise[i].most,
             (long long)of->noise[i].changed);
    printf("\n");
  }
}

static int verify_model(Session *s, const Cases *cases, Func *imported, Tensor *const *reference) {
  ObjectBytes object = {0};
  Loaded l = {0};
  Found found = {0};
  uint32_t recorded = 0;
  bool ok = session_compile(s, &object) && session_jit(s, &object, s->name, &l);
  for (uint32_t i = 0; ok && i < cases->n; i++) {
    const Case *c = &cases->at[i];
    load_inputs(&l, imported, c);
    ok = call_model(s, &l);
    if (!ok) break;
    NoiseOf noise = {imported, c->in, reference[i], NULL};
    outputs_compare(s, &noise, "the interpreter", c, reference[i], l.outputs, &found);
    outputs_compare(s, &noise, "the recorded output", c, c->want, l.outputs, &found);
    for (uint32_t k = 0; k < imported->n_results; k++) recorded += c->want[k].data != NULL;
  }
  loaded_free(&l);
  free(object.at);
  if (!ok) return -1;
  printf("model: %u cases, %u recorded outputs, %u comparisons outside their gate", cases->n, recorded, found.bad);
  if (found.near) printf(", %u more by no more than rounding alone", found.near);
  printf("\n");
  return found.bad ? 1 : 0;
}

// What compression loses is no fault of the compiler: the reference is the network with its factors, shared weights or
// few bits, and outputs recorded of the float one are left aside.
static bool compress_reference(Session *s, Cases *cases) {
  const char *last = s->opt.share.n > 0 ? "share" : s->opt.factorize.n > 0 ? "factorize" : "quantize";
  const char *all = session_pipeline(s), *pass = strstr(all, last);
  if ((s->opt.share.n == 0 && s->opt.factorize.n == 0 && !quantize_asked(s)) || pass == NULL) return true;
  for (uint32_t i = 0; i < cases->n; i++)
    for (uint32_t k = 0; k < s->m->funcs.at[0]->n_results; k++) cases->at[i].want[k].data = NULL;
  printf("reference: the network as compressed; recorded outputs are not compared\n");
  return cases_samples(s) && quantize_prepare(s) &&
         session_passes(s, arena_printf(s->arena, "%.*s", (int)(pass + strcspn(pass, ",") - all), all));
}

int cmd_verify(Session *s) {
  // Two modules from the same file: one keeps the graph as imported, the other is compiled twice.
  Cases cases = {0};
  s->name = "qcc_verify";
  cases_shapes(s);
  if (!session_load(s)) return diag_exit_code(s->diag);
  Module *imported = s->m;
  Func *f = imported->funcs.at[0];
  if (!cases_read(s, f, &cases) || !compress_reference(s, &cases)) return diag_exit_code(s->diag);
  Tensor **reference = NEW_ARRAY(s->arena, Tensor *, cases.n + 1);
  for (uint32_t i = 0; i < cases.n; i++) {
    reference[i] = NEW_ARRAY(s->arena, Tensor, f->n_results + 1);
    if (!eval_func(f, cases.at[i].in, reference[i], s->arena, NULL, NULL)) return diag_exit_code(s->diag);
  }
  int worst = 0;
  for (uint32_t round = 0; round < 2; round++) {
    if (!session_load(s)) return diag_exit_code(s->diag);
    s->m->name = s->name;
    int result = round == 0 ? verify_model(s, &cases, f, reference) : verify_layers(s, &cases);
    if (result < 0) return diag_exit_code(s->diag);
    worst |= result;
  }
  printf("%s\n", worst ? "verify: WRONG" : "verify: ok");
  return worst;
}
