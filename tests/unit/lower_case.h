// One function in text form, lowered for several targets, run by the kernel interpreter and compared with the graph
// interpreter. Shared by the tests of the lowerings.
#ifndef QCC_TESTS_LOWER_CASE_H
#define QCC_TESTS_LOWER_CASE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/keval.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pass.h"
#include "runtime/qcc_rt.h"
#include "tests/unit/cpus.h"

// How close the kernels must come: EXACT (same bits, NaN aside), or within `ulps` of the element type at the largest
// magnitude of the result.
typedef struct Check {
  double ulps;        // 0: exact
  int64_t lo, hi;     // range of integer arguments, [lo, hi)
  bool whole;         // float arguments are whole numbers from -8 to 8
  bool bf16;          // --fp=bf16
  bool specials;      // float arguments contain NaN, infinities, -0
  const char *extra;  // more text (functions, constants) in front
} Check;

static const Target lower_wide = {.name = "wide", CPU_512, .has_masks = true, .has_fma = true, .dot2_per_cycle = 2};
static const Target lower_narrow = {.name = "narrow", CPU_128, .has_fma = true};

static uint64_t lower_state = 1;
static inline uint32_t lower_rnd(uint32_t below) {
  lower_state = lower_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(lower_state >> 33) % below;
}

static inline void lower_fill(void *data, const Type *t, const Check *c) {
  static const double special[] = {NAN, INFINITY, -INFINITY, -0.0, 0.0, 1.0, -1.0, 0.5};
  for (int64_t i = 0; i < type_count(t); i++) {
    if (dtype_is_float(t->dtype)) {
      double v = ((double)lower_rnd(4001) - 2000) / 1000;
      if (c->whole) v = (double)lower_rnd(17) - 8;
      if (c->specials && lower_rnd(4) == 0) v = special[lower_rnd(8)];
      elem_set_f(data, t->dtype, i, v);
    } else {
      int64_t lo = c->lo < dtype_min(t->dtype) ? dtype_min(t->dtype) : c->lo;
      int64_t hi = c->hi > dtype_max(t->dtype) && t->dtype != DT_U64 ? dtype_max(t->dtype) + 1 : c->hi;
      if (t->dtype == DT_BOOL) lo = 0, hi = 2;
      elem_set_i(data, t->dtype, i, lo + (int64_t)lower_rnd((uint32_t)(hi - lo)));
    }
  }
}

static inline double lower_unit(DType t) { return t == DT_F64 ? 0x1p-53 : t == DT_F32 ? 0x1p-24 : 0x1p-11; }

static inline void lower_compare(const Type *t, const void *got, const void *want, const Check *c, const char *text) {
  double scale = 0;
  bool is_float = dtype_is_float(t->dtype);
  for (int64_t i = 0; is_float && i < type_count(t); i++) {
    double x = fabs(elem_get_f(want, t->dtype, i));
    if (isfinite(x) && x > scale) scale = x;
  }
  for (int64_t i = 0; i < type_count(t); i++) {
    if (!is_float) {
      int64_t g = elem_get_i(got, t->dtype, i), w = elem_get_i(want, t->dtype, i);
      cr_assert(g == w, "element %lld is %lld, not %lld\n%s", (long long)i, (long long)g, (long long)w, text);
      continue;
    }
    double g = elem_get_f(got, t->dtype, i), w = elem_get_f(want, t->dtype, i);
    if (isnan(g) && isnan(w)) continue;
    bool same = g == w && (c->ulps > 0 || signbit(g) == signbit(w));
    if (same || fabs(g - w) <= c->ulps * lower_unit(t->dtype) * scale) continue;
    cr_assert_fail("element %lld is %.9g, not %.9g\n%s", (long long)i, g, w, text);
  }
}

// Runs a lowered module; results in order.
typedef bool LowerRun(Module *m, const Target *t, const void *const *in, void *const *out);

static inline bool lower_keval(Module *m, const Target *t, const void *const *in, void *const *out) {
  (void)t;
  return keval_program(m->program, in, out);
}

// An executor that runs the tasks last first.
static inline void lower_backwards(void *ctx, void (*task)(void *arg, uint32_t i), void *arg, uint32_t n) {
  (void)ctx;
  while (n-- > 0) task(arg, n);
}

static inline size_t lower_result_bytes(const Module *m, uint32_t i) {
  return (size_t)type_bytes(m->funcs.at[0]->results[i]->type);
}

// The same call on an executor gives the same bits.
static inline void lower_same_bits(Module *m, const qcc_model *model, qcc_call call) {
  const qcc_exec exec = {.threads = 3, .parallel_for = lower_backwards};
  uint32_t n = m->funcs.at[0]->n_results;
  void **out = NEW_ARRAY(m->arena, void *, n + 1);
  void *const *first = call.outputs;
  for (uint32_t i = 0; i < n; i++) out[i] = arena_alloc(m->arena, lower_result_bytes(m, i) + 64);
  call.exec = &exec;
  call.outputs = out;
  cr_assert(model->run(&call) == 0);
  for (uint32_t i = 0; i < n; i++) {
    cr_assert(memcmp(out[i], first[i], lower_result_bytes(m, i)) == 0, "other bits on an executor");
  }
}

// Compiles for this machine and runs the object in this process, in a workspace full of NaN.
static inline bool lower_jit(Module *m, const Target *t, const void *const *in, void *const *out) {
  ObjectBytes object;
  EmitOptions opt = {.name = "net", .info_json = "{}", .pic = true, .par_always = true};
  m->name = "net";
  if (!backend_emit(m, t, &opt, EMIT_OBJECT, true, &object)) return false;
  Jit *jit = jit_load(&object, "net", m->diag);
  if (!jit) return false;
  const qcc_model *model = jit_model(jit);
  size_t bytes = (size_t)model->workspace_size(NULL), align = (size_t)model->workspace_align;
  void *workspace = aligned_alloc(align, (bytes + align) / align * align);
  memset(workspace, 0xff, bytes);
  qcc_call call = {.workspace = workspace, .inputs = in, .outputs = out};
  bool ok = model->init(workspace) == 0 && model->run(&call) == 0;
  if (ok) lower_same_bits(m, model, call);
  free(workspace);
  jit_free(jit);
  free(object.at);
  return ok;
}

static inline void lower_run(const char *text, const Check *c, const Target *target, const char *passes,
                             LowerRun *run) {
  Arena *arena = arena_new("case");
  Diag *diag = diag_new(arena, NULL);
  Module *m = parse_module(arena, diag, "case", text, strlen(text));
  cr_assert(m != NULL, "%s\n%s", diag_text(diag), text);
  Func *f = m->funcs.at[0];
  PassOptions opt = pass_options_default();
  opt.bf16 = c->bf16;
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(m, target, "infer", &opt, &runner, arena, NULL), "%s\n%s", diag_text(diag), text);
  Tensor *args = NEW_ARRAY(arena, Tensor, f->n_args + 1), *want = NEW_ARRAY(arena, Tensor, f->n_results + 1);
  const void **in = NEW_ARRAY(arena, const void *, f->n_args + 1);
  void **out = NEW_ARRAY(arena, void *, f->n_results + 1);
  for (uint32_t i = 0; i < f->n_args; i++) {
    args[i] = tensor_new(arena, f->args[i]->type);
    lower_fill(args[i].data, f->args[i]->type, c);
    in[i] = args[i].data;
  }
  cr_assert(eval_func(f, args, want, arena, NULL, NULL), "%s\n%s", diag_text(diag), text);
  cr_assert(pipeline_run(m, target, passes, &opt, &runner, arena, NULL), "%s\n%s", diag_text(diag), text);
  for (uint32_t i = 0; i < f->n_results; i++) {
    size_t bytes = (size_t)type_bytes(f->results[i]->type);
    out[i] = arena_alloc(arena, bytes + 64);
    memset(out[i], 0x5a, bytes);
  }
  cr_assert(run(m, target, in, out), "%s\n%s", diag_text(diag), text);
  for (uint32_t i = 0; i < f->n_results; i++) lower_compare(f->results[i]->type, out[i], want[i].data, c, text);
  arena_free(arena);
}

// `args`, `results` (types) and `body` as in a function text; the body assigns %r0, %r1, ... which are returned.
static inline void lower_case(Check c, const char *args, const char *results, const char *body) {
  static const char *const pipelines[] = {"lower", "lower,memplan"};
  char text[8192], list[256] = "";
  uint32_t n = 1;
  int depth = 0;
  for (const char *p = results; *p; p++) {
    depth += (*p == '[') - (*p == ']');
    n += *p == ',' && depth == 0;
  }
  for (uint32_t i = 0; i < n; i++)
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%%r%u", i ? ", " : "", i);
  snprintf(
      text, sizeof text,
      n > 1 ? "func @f(%s) -> (%s) {\n  %s\n  return %s\n}\n%s\n" : "func @f(%s) -> %s {\n  %s\n  return %s\n}\n%s\n",
      args, results, body, list, c.extra ? c.extra : "");
  if (c.lo == c.hi) {
    c.lo = -7;
    c.hi = 8;
  }
  for (uint32_t p = 0; p < sizeof pipelines / sizeof *pipelines; p++) {
    lower_state = 12345;
    lower_run(text, &c, &lower_wide, pipelines[p], lower_keval);
    lower_run(text, &c, &lower_narrow, pipelines[p], lower_keval);
  }
  lower_state = 12345;
  lower_run(text, &c, target_native(), "lower,memplan,expand,ksimplify,vectorize,unroll,ksimplify", lower_jit);
}

static inline const char *fmt(const char *f, ...) __attribute__((format(printf, 1, 2)));
static inline const char *fmt(const char *f, ...) {
  static char ring[128][2048];
  static uint32_t at;
  char *to = ring[at++ % 128];
  va_list ap;
  va_start(ap, f);
  vsnprintf(to, sizeof ring[0], f, ap);
  va_end(ap);
  return to;
}

#endif
