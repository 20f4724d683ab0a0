// Random graphs through the whole compiler: the compiled object and the kernel interpreter against the graph
// interpreter.
//
//   random_graphs [--seeds A..B] [--policy NAME] [--pipelines N] [--target CPU] [--seconds S] [--jobs N] [--print]
//   [--coverage] [--factorize SPECS] [--quantize RULES] [--share SPEC]
//
// --factorize: as of qcc, e.g. kron:error=0.0000001:force for layers as exact factors.
// --quantize: as of qcc, e.g. w8a8; the float layers of the graph are quantised first, and what comes out of that is
// what interpreter and object have to agree on. --share: the same with shared weights, e.g. kmeans:levels=4:force.
// --target: instead of native; sapphire-rapids runs everywhere, by the emulator where the machine has no AMX.
// Every graph runs in a child with a time limit. Integers must be equal; a float may differ by a multiple of what
// rounding errors of the size of the type do to it, measured by evaluating again with noise after every op that rounds.
// Objects run with inputs, outputs and workspace flush against pages that must not be touched, from a poisoned
// workspace, twice and with three threads, bit for bit the same. A failing graph is cut down and printed as text.
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/driver/session.h"
#include "ir/elem.h"
#include "ir/keval.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/qcc_rt.h"
#include "tests/fuzz/gen.h"
#include "tests/support/amx_emulator.h"

#define NOISE_RUNS 8
#define MAX_CUT 512

// ---- what one run leaves for the parent

typedef struct Report {
  char text[600];
  uint8_t covered[OP_COUNT];
} Report;

typedef struct Request {
  uint64_t seed;
  const char *policy, *target;
  uint32_t pipelines;  // besides the default one
  uint32_t only;       // 0 all, else pipeline number only - 1
  bool print;
  uint8_t drop[MAX_CUT], keep[16];
  bool cut;
} Request;

// ---- pipelines: the default one, it without some passes, and it for older CPUs

typedef struct Variant {
  const char *without, *target;
} Variant;

static const Variant variants[] = {
    {"", "native"},
    {"", "x86-64-v3"},
    {"fuse", "native"},
    {"simplify,cse", "native"},
    {"", "x86-64-v2"},
    {"ksimplify", "native"},
    {"fuse,fold,simplify,cse", "native"},
    {"plan", "native"},
};
#define N_PIPELINES (sizeof variants / sizeof *variants)

static bool listed(const char *list, const char *name, size_t n) {
  for (const char *p = list; *p; p += *p == ',') {
    size_t k = strcspn(p, ",");
    if (k == n && memcmp(p, name, n) == 0) return true;
    p += k;
  }
  return false;
}

// What pass factorize is asked for: every layer in factors, as exact as the element type allows.
static const char *factorize = "";
static const char *quantize = "", *share = "";

static const char *pipeline_without(Arena *arena, const char *drop) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (const char *p = pipeline_default; *p; p += *p == ',') {
    size_t k = strcspn(p, ",");
    if (!listed(drop, p, strcspn(p, ",{"))) {
      if (b.n) strbuf_putc(&b, ',');
      strbuf_put(&b, p, k);
      if (listed("factorize", p, k) && *factorize) strbuf_printf(&b, "{%s}", factorize);
    }
    p += k;
  }
  return strbuf_str(&b);
}

// ---- the child

typedef struct Check {
  Gen g;
  Arena *arena;
  Report *report;
  Tensor *want;  // results
  Tensor (*noisy)[NOISE_RUNS];
  bool *exact;                // of a result: noise never reaches it
  uint64_t noise;             // random state
  const char *text, *native;  // the CPU that stands for native
} Check;

static bool fail(Check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(Check *c, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(c->report->text, sizeof c->report->text, fmt, ap);
  va_end(ap);
  return false;
}

static double noise_of(DType t) {
  switch (t) {
    case DT_F64: return 1e-15;
    case DT_F32: return 5e-7;
    case DT_F16: return 1e-3;
    default: return 8e-3;
  }
}

static double noise_next(Check *c) {  // in [-1, 1]
  c->noise = c->noise * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(int64_t)(c->noise >> 11) * 0x1p-52 - 1;
}

// Relative to each element, and to `base`.
static void add_noise(Check *c, Tensor *t, double base) {
  DType dt = t->type->dtype;
  int64_t n = type_count(t->type);
  if (!dtype_is_float(dt)) return;
  for (int64_t i = 0; i < n; i++) {
    double v = elem_get_f(t->data, dt, i);
    elem_set_f(t->data, dt, i, v + noise_of(dt) * (v * noise_next(c) + base * noise_next(c)));
  }
}

static bool op_is_exact(const Op *op) {
  switch (op->kind) {
    case OP_NEG:
    case OP_ABS:
    case OP_SIGN:
    case OP_RELU:
    case OP_MIN:
    case OP_MAX:
    case OP_NOT:
    case OP_SELECT:
    case OP_CLIP:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_EQUAL:
    case OP_LESS:
    case OP_LESS_EQUAL:
    case OP_GREATER:
    case OP_GREATER_EQUAL:
    case OP_ISNAN:
    case OP_ISINF:
    case OP_CAST:
    case OP_QUANTIZE:
    case OP_THRESHOLD:
    case OP_LOOKUP:
    case OP_MAXPOOL:
    case OP_ARGREDUCE:
    case OP_TOPK:
    case OP_RESHAPE:
    case OP_BITCAST:
    case OP_LOW_WORD:
    case OP_TRANSPOSE:
    case OP_EXPAND:
    case OP_TILE:
    case OP_CONCAT:
    case OP_SLICE:
    case OP_PAD:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_ONE_HOT:
    case OP_TRILU: return true;
    default: return false;
  }
}

// After an op that rounds: what it gives for operands with noise, and noise on that.
static void watch(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Check *c = ctx;
  if (op_is_exact(op)) return;
  Arena *arena = arena_new("noise");
  Tensor *in2 = NEW_ARRAY(arena, Tensor, op->n_in), *out2 = NEW_ARRAY(arena, Tensor, op->n_out);
  for (uint32_t i = 0; i < op->n_in; i++) {
    if (!in[i].data) continue;
    in2[i] = (Tensor){in[i].type, arena_copy(arena, in[i].data, (size_t)type_bytes(in[i].type))};
    add_noise(c, &in2[i], 0);
  }
  if (eval_op(op, in2, out2, arena))
    for (uint32_t i = 0; i < op->n_out; i++)
      if (type_bytes(out[i].type)) memcpy(out[i].data, out2[i].data, (size_t)type_bytes(out[i].type));
  // Gates near 0 and 1, and the logarithm of a sum near 1, cancel inside.
  bool cell = op->kind == OP_LSTM || op->kind == OP_GRU || op->kind == OP_RNN || op->kind == OP_LOG_SOFTMAX ||
              op->kind == OP_REDUCE;
  for (uint32_t i = 0; i < op->n_out; i++) add_noise(c, &(Tensor){out[i].type, out[i].data}, cell ? 1 : 0);
  arena_free(arena);
}

static bool evaluate(Check *c) {
  Func *f = c->g.f;
  c->want = NEW_ARRAY(c->arena, Tensor, f->n_results + 1);
  c->noisy = arena_array(c->arena, f->n_results + 1, sizeof *c->noisy);
  if (!eval_func(f, c->g.args.at, c->want, c->arena, NULL, NULL))
    return fail(c, "evaluation: %s", diag_text(c->g.m->diag));
  for (uint32_t k = 0; k < NOISE_RUNS; k++) {
    if (c->g.policy->exact) {
      for (uint32_t i = 0; i < f->n_results; i++) c->noisy[i][k] = c->want[i];
      continue;
    }
    Tensor *r = NEW_ARRAY(c->arena, Tensor, f->n_results + 1);
    c->noise = k + 1;
    if (!eval_func(f, c->g.args.at, r, c->arena, watch, c)) r = c->want;
    for (uint32_t i = 0; i < f->n_results; i++) c->noisy[i][k] = r[i];
  }
  c->exact = NEW_ARRAY(c->arena, bool, f->n_results + 1);
  for (uint32_t i = 0; i < f->n_results; i++) {
    size_t n = (size_t)type_bytes(c->want[i].type);
    c->exact[i] = true;
    for (uint32_t k = 0; n && k < NOISE_RUNS; k++) c->exact[i] &= memcmp(c->want[i].data, c->noisy[i][k].data, n) == 0;
  }
  return true;
}

static bool element_ok(const Check *c, uint32_t result, int64_t i, const void *got) {
  DType t = c->want[result].type->dtype;
  if (!dtype_is_float(t)) {
    int64_t want = elem_get_i(c->want[result].data, t, i);
    if (elem_get_i(got, t, i) == want) return true;
    for (uint32_t k = 0; k < NOISE_RUNS; k++)
      if (elem_get_i(c->noisy[result][k].data, t, i) != want) return true;
    return false;
  }
  double want = elem_get_f(c->want[result].data, t, i), have = elem_get_f(got, t, i), spread = 0;
  if (want == have || (isnan(want) && isnan(have))) return true;
  for (uint32_t k = 0; k < NOISE_RUNS; k++) {
    double v = elem_get_f(c->noisy[result][k].data, t, i);
    if (isnan(v) != isnan(want) || isinf(v) != isinf(want)) return true;
    spread = fmax(spread, fabs(v - want));
  }
  double least = t == DT_F16 ? 1e-6 : 1e-37;
  return !c->exact[result] && fabs(have - want) <= 30 * spread + 4 * noise_of(t) * fabs(want) + least;
}

static bool compare(Check *c, const char *what, void *const *got) {
  for (uint32_t r = 0; r < c->g.f->n_results; r++) {
    int64_t n = type_count(c->want[r].type);
    DType t = c->want[r].type->dtype;
    int digits = t == DT_F64 ? 17 : 9;
    for (int64_t i = 0; i < n; i++)
      if (!element_ok(c, r, i, got[r]))
        return fail(c, "%s: result %u element %lld is %.*g, expected %.*g", what, r, (long long)i, digits,
                    elem_get_f(got[r], t, i), digits, elem_get_f(c->want[r].data, t, i));
  }
  return true;
}

// ---- buffers against guard pages

typedef struct Guarded {
  uint8_t *map, *at;
  size_t pages, bytes;
} Guarded;

// `at_end`: the last byte touches the guard page (rounded down to `align`), else the first byte does.
static Guarded guarded_new(size_t bytes, size_t align, bool at_end) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (bytes + page) / page * page;
  Guarded b = {.pages = inner + 2 * page, .bytes = bytes};
  b.map = mmap(NULL, b.pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b.map == MAP_FAILED) qcc_bug("no memory for a buffer");
  memset(b.map, 0xff, b.pages);
  mprotect(b.map, page, PROT_NONE);
  mprotect(b.map + page + inner, page, PROT_NONE);
  b.at = at_end ? b.map + page + inner - (bytes + align - 1) / align * align : b.map + page;
  return b;
}

static void guarded_free(Guarded *b) { munmap(b->map, b->pages); }

// One run of the model with fresh buffers; results are copied into `out`.
static bool run_once(Check *c, const qcc_model *model, const qcc_exec *exec, bool at_end, uint8_t poison, void **out) {
  const Func *f = c->g.f;
  Guarded *in = NEW_ARRAY(c->arena, Guarded, f->n_args + 1), *res = NEW_ARRAY(c->arena, Guarded, f->n_results + 1);
  const void **inputs = NEW_ARRAY(c->arena, const void *, f->n_args + 1);
  void **outputs = NEW_ARRAY(c->arena, void *, f->n_results + 1);
  for (uint32_t i = 0; i < f->n_args; i++) {
    in[i] = guarded_new((size_t)type_bytes(c->g.args.at[i].type), 1, at_end);
    if (in[i].bytes) memcpy(in[i].at, c->g.args.at[i].data, in[i].bytes);
    inputs[i] = in[i].at;
  }
  for (uint32_t i = 0; i < f->n_results; i++) {
    res[i] = guarded_new((size_t)type_bytes(c->want[i].type), 1, at_end);
    outputs[i] = res[i].at;
  }
  Guarded ws = guarded_new(model->workspace_size(NULL), model->workspace_align ? model->workspace_align : 1, at_end);
  memset(ws.at, poison, ws.bytes);
  int status = model->init(ws.at);
  qcc_call call = {.workspace = ws.at, .inputs = inputs, .outputs = outputs, .exec = exec};
  if (status == QCC_OK) status = model->run(&call);
  if (status == QCC_OK) status = model->run(&call);
  for (uint32_t i = 0; i < f->n_results; i++) out[i] = arena_copy(c->arena, res[i].at, res[i].bytes);
  for (uint32_t i = 0; i < f->n_args; i++) {
    bool same = !in[i].bytes || memcmp(in[i].at, c->g.args.at[i].data, in[i].bytes) == 0;
    guarded_free(&in[i]);
    if (!same) return fail(c, "input %u was written to", i);
  }
  for (uint32_t i = 0; i < f->n_results; i++) guarded_free(&res[i]);
  guarded_free(&ws);
  return status == QCC_OK || fail(c, "run: %s", qcc_status_text(status));
}

static bool same_bits(Check *c, const char *what, void *const *a, void *const *b) {
  for (uint32_t i = 0; i < c->g.f->n_results; i++) {
    size_t n = (size_t)type_bytes(c->want[i].type);
    if (n && memcmp(a[i], b[i], n) != 0) return fail(c, "%s: result %u has other bits", what, i);
  }
  return true;
}

static bool run_object(Check *c, const char *what, const qcc_model *model) {
  uint32_t n = c->g.f->n_results + 1;
  void **a = NEW_ARRAY(c->arena, void *, n), **b = NEW_ARRAY(c->arena, void *, n), **t = NEW_ARRAY(c->arena, void *, n);
  if (!run_once(c, model, NULL, true, 0xff, a) || !compare(c, what, a)) return false;
  if (!run_once(c, model, NULL, false, 0x00, b) || !same_bits(c, "another workspace content", a, b)) return false;
  qcc_pool *pool = qcc_pool_new(3);
  bool ok = run_once(c, model, qcc_pool_exec(pool), true, 0xff, t) && same_bits(c, "three threads", a, t);
  qcc_pool_free(pool);
  return ok;
}

static bool run_kernels(Check *c, const char *what, Program *p) {
  uint32_t n = c->g.f->n_results;
  const void **in = NEW_ARRAY(c->arena, const void *, c->g.f->n_args + 1);
  void **out = NEW_ARRAY(c->arena, void *, n + 1);
  for (uint32_t i = 0; i < c->g.f->n_args; i++) in[i] = c->g.args.at[i].data;
  for (uint32_t i = 0; i < n; i++) {
    out[i] = arena_alloc(c->arena, (size_t)type_bytes(c->want[i].type) + 1);
    memset(out[i], 0xff, (size_t)type_bytes(c->want[i].type));
  }
  return keval_program(p, in, out) && compare(c, arena_printf(c->arena, "%s, kernel interpreter", what), out);
}

static bool run_pipeline(Check *c, uint32_t number) {
  const Variant *v = &variants[number];
  const char *cpu = strcmp(v->target, "native") == 0 ? c->native : v->target;
  const char *what = arena_printf(c->arena, "%s, %s%s", cpu, *v->without ? "without " : "all passes", v->without);
  Session s = {.arena = arena_new("module"), .name = "qcc_random", .in_process = true, .target = target_by_name(cpu)};
  s.diag = diag_new(s.arena, NULL);
  s.pass_opt = pass_options_default();
  snprintf(c->report->text, sizeof c->report->text, "%s: crash", what);
  s.m = parse_module(s.arena, s.diag, "random.qir", c->text, strlen(c->text));
  if (!s.m) return fail(c, "%s: text: %s", what, diag_text(s.diag));
  s.m->name = s.name;
  ObjectBytes object = {0};
  if (s.target) s.emulated = amx_emulated(s.target);
  if (!s.target || (!s.emulated && !target_runs_here(s.target))) return true;
  RunOptions run = {.verify_each = true};
  if (!pipeline_run(s.m, s.target, pipeline_without(s.arena, v->without), &s.pass_opt, &run, s.arena, NULL))
    return fail(c, "%s: %s", what, diag_text(s.diag));
  if (!run_kernels(c, what, s.m->program)) {
    if (diag_errors(s.diag)) fail(c, "%s, kernel interpreter: %s", what, diag_text(s.diag));
    return false;
  }
  Loaded l = {0};
  EmitOptions emit = {.name = s.name, .info_json = "{}", .pic = true, .emulated = s.emulated, .par_always = true};
  if (!backend_emit(s.m, s.target, &emit, EMIT_OBJECT, true, &object) || !session_jit(&s, &object, s.name, &l))
    return fail(c, "%s: %s", what, diag_text(s.diag));
  bool ok = run_object(c, what, l.model);
  loaded_free(&l);
  free(object.at);
  arena_free(s.arena);
  return ok;
}

// Text form and structure.
static bool check_text(Check *c) {
  StrBuf a, b;
  strbuf_init(&a, c->arena);
  strbuf_init(&b, c->arena);
  PrintOptions all = {.locs = true, .all_bytes = true};
  print_module(&a, c->g.m, all);
  c->text = strbuf_str(&a);
  if (!verify_module(c->g.m)) return fail(c, "verify: %s", diag_text(c->g.m->diag));
  Diag *diag = diag_new(c->arena, NULL);
  Module *m = parse_module(c->arena, diag, "random.qir", c->text, strlen(c->text));
  if (!m) return fail(c, "parse: %s", diag_text(diag));
  print_module(&b, m, all);
  return strcmp(c->text, strbuf_str(&b)) == 0 || fail(c, "text: printed again it is another text");
}

// The graph with few bits (ranges taken from seeded inputs) or shared weights; its values are computed anew by
// evaluate().
static bool compress_graph(Check *c) {
  const char *passes = arena_printf(c->arena, "infer,fold,simplify,cse,dce,idioms,codes,levels,%s{%s}",
                                    *share ? "share" : "quantize", *share ? share : quantize);
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  if (!pipeline_run(c->g.m, target_by_name("x86-64-v3"), passes, &opt, &run, c->arena, NULL))
    return fail(c, "compress: %s", diag_text(c->g.m->diag));
  c->g.m->notes.n = 0;
  return true;
}

static void check_graph(const Request *q, Report *report) {
  Check c = {.arena = arena_new("check"), .report = report, .native = q->target};
  gen_graph(&c.g, q->seed, q->policy, c.arena, diag_new(c.arena, NULL));
  if (q->cut) gen_cut(&c.g, q->drop, q->keep);
  c.g.m->diag = diag_new(c.arena, NULL);
  for (const Op *op = c.g.f->first; op; op = op->next) report->covered[op->kind] = 1;
  snprintf(report->text, sizeof report->text, "crash before any pass");
  bool ok = ((!*quantize && !*share) || compress_graph(&c)) && check_text(&c);
  if (q->print) puts(c.text), fflush(stdout);
  ok = ok && evaluate(&c);
  for (uint32_t k = 0; ok && k <= q->pipelines; k++) {
    uint32_t number = k == 0 ? 0 : 1 + (uint32_t)((q->seed + k) % (N_PIPELINES - 1));
    if (q->only && q->only - 1 != number) continue;
    ok = run_pipeline(&c, number);
  }
  if (ok) report->text[0] = 0;
}

// ---- the parent

static uint32_t limit_seconds = 60;

static pid_t child_start(const Request *q, Report *report) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid < 0) qcc_bug("no process for a graph");
  if (pid) return pid;
  struct rlimit core = {0, 0};
  setrlimit(RLIMIT_CORE, &core);
  if (q->cut && !freopen("/dev/null", "w", stderr)) _exit(1);
  alarm(limit_seconds);
  memset(report, 0, sizeof *report);
  check_graph(q, report);
  fflush(NULL);
  _exit(0);
}

static void child_end(int status, Report *report) {
  size_t n = strlen(report->text);
  if (WIFSIGNALED(status)) {
    const char *why = WTERMSIG(status) == SIGALRM ? "time limit" : strsignal(WTERMSIG(status));
    snprintf(report->text + n, sizeof report->text - n, " (%s)", why);
  } else if (WEXITSTATUS(status) != 0) {
    snprintf(report->text + n, sizeof report->text - n, " (exit code %d)", WEXITSTATUS(status));
  }
}

static void *shared(size_t n) {
  void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) qcc_bug("no shared memory");
  return p;
}

static bool still_fails(const Request *q, Report *report) {
  int status;
  waitpid(child_start(q, report), &status, 0);
  child_end(status, report);
  return report->text[0] != 0;
}

// Keeps one result, then turns ops into arguments as long as the graph fails, last op first.
static void reduce_and_print(Request q) {
  Report *report = shared(sizeof *report);
  q.cut = true;
  memset(q.keep, 1, sizeof q.keep);
  for (uint32_t i = 0; i < 12; i++) {
    Request one = q;
    memset(one.keep, 0, sizeof one.keep);
    one.keep[i] = 1;
    if (still_fails(&one, report) && !strstr(report->text, "before any pass")) {
      q = one;
      break;
    }
  }
  for (uint32_t i = 40; i-- > 0;) {
    q.drop[i] = 1;
    if (!still_fails(&q, report)) q.drop[i] = 0;
  }
  q.print = true;
  still_fails(&q, report);
  printf("  cut down: %s\n\n", report->text);
  munmap(report, sizeof *report);
}

typedef struct RunArgs {
  uint64_t first, last;
  const char *policy, *target;
  uint32_t pipelines, only, jobs;
  double seconds;
  bool print, coverage, reduce;
} RunArgs;

static RunArgs parse_args(int argc, char **argv) {
  RunArgs a = {.first = 1, .last = 100, .target = "native", .pipelines = 1, .jobs = 2, .reduce = true};
  for (int i = 1; i < argc; i++) {
    const char *v = i + 1 < argc ? argv[i + 1] : "";
    if (!strcmp(argv[i], "--seeds")) {
      char *end;
      a.first = a.last = strtoull(v, &end, 10);
      if (!strncmp(end, "..", 2)) a.last = strtoull(end + 2, NULL, 10);
      i++;
    } else if (!strcmp(argv[i], "--policy")) {
      a.policy = argv[++i];
    } else if (!strcmp(argv[i], "--target")) {
      a.target = argv[++i];
    } else if (!strcmp(argv[i], "--factorize")) {
      factorize = argv[++i];
    } else if (!strcmp(argv[i], "--quantize")) {
      quantize = argv[++i];
    } else if (!strcmp(argv[i], "--share")) {
      share = argv[++i];
    } else if (!strcmp(argv[i], "--pipelines")) {
      a.pipelines = (uint32_t)atoi(argv[++i]);
    } else if (!strcmp(argv[i], "--only")) {
      a.only = (uint32_t)atoi(argv[++i]) + 1;
    } else if (!strcmp(argv[i], "--jobs")) {
      a.jobs = (uint32_t)atoi(argv[++i]);
    } else if (!strcmp(argv[i], "--seconds")) {
      a.seconds = atof(argv[++i]);
    } else if (!strcmp(argv[i], "--print")) {
      a.print = true;
    } else if (!strcmp(argv[i], "--coverage")) {
      a.coverage = true;
    } else if (!strcmp(argv[i], "--whole")) {
      a.reduce = false;
    } else {
      fprintf(stderr, "random_graphs: what is '%s'?\n", argv[i]);
      exit(2);
    }
  }
  return a;
}

typedef struct Child {
  pid_t pid;
  Report *report;
  Request request;
} Child;

int main(int argc, char **argv) {
  RunArgs a = parse_args(argc, argv);
  Child children[16] = {0};
  uint32_t live = 0, passed = 0, failed = 0;
  uint8_t covered[OP_COUNT] = {0};
  double start = session_now();
  uint64_t seed = a.first;
  if (a.jobs < 1 || a.jobs > 16) a.jobs = 2;
  for (uint32_t i = 0; i < a.jobs; i++) children[i].report = shared(sizeof(Report));
  for (;;) {
    bool more = seed <= a.last && (a.seconds <= 0 || session_now() - start < a.seconds);
    if (!more && !live) break;
    uint32_t slot = 0;
    if (more && live < a.jobs) {
      while (children[slot].pid) slot++;
      Child *c = &children[slot];
      c->request = (Request){.seed = seed++,
                             .policy = a.policy,
                             .target = a.target,
                             .pipelines = a.pipelines,
                             .only = a.only,
                             .print = a.print};
      if (a.only) c->request.pipelines = N_PIPELINES;
      c->pid = child_start(&c->request, c->report);
      live++;
      continue;
    }
    int status;
    pid_t pid = waitpid(-1, &status, 0);
    while (slot < a.jobs && children[slot].pid != pid) slot++;
    if (slot == a.jobs) continue;
    Child *c = &children[slot];
    c->pid = 0;
    live--;
    child_end(status, c->report);
    for (uint32_t k = 0; k < OP_COUNT; k++) covered[k] |= c->report->covered[k];
    if (!c->report->text[0]) {
      passed++;
      continue;
    }
    failed++;
    printf("FAIL seed %llu: %s\n", (unsigned long long)c->request.seed, c->report->text);
    fflush(stdout);
    if (a.reduce) reduce_and_print(c->request);
  }
  if (a.coverage) {
    uint32_t missing = 0;
    for (uint32_t k = 1; k < OP_COUNT; k++)
      if (!covered[k] && ++missing) printf("FAIL: no graph contains %s\n", op_info((OpKind)k)->name);
    if (missing)
      failed++;
    else
      passed++;
  }
  printf("%u passed, %u failed\n", passed, failed);
  return failed != 0;
}
