// qcc bench: the very bytes of the object, loaded into this process and timed: whole inferences, then each step of the
// program through NAME_run_step, which the backend emits on request.
#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/bench.h"
#include "frontend/driver/report.h"

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static BenchTime sample_of(double *t, uint32_t n) {
  qsort(t, n, sizeof *t, by_value);
  return (BenchTime){n % 2 ? t[n / 2] : 0.5 * (t[n / 2 - 1] + t[n / 2]), t[0]};
}

bool bench_whole(Session *s, const Loaded *l, BenchTime *out, uint32_t *runs) {
  double start = session_now();
  int status = loaded_run(l);
  if (status) return diag_error(s->diag, DIAG_REFUSED, NULL, "run failed: %s", qcc_status_text(status));
  double once = session_now() - start;
  bool given = s->iterations > 0;
  double wanted = 1.0 / (once > 1e-9 ? once : 1e-9);
  *runs = given ? (uint32_t)s->iterations : (uint32_t)fmin(fmax(wanted, 5), 1000);
  uint32_t inner = given ? 1 : (uint32_t)fmin(fmax(wanted / *runs, 1), 1e5);  // calls per timing: short networks
  double *t = NEW_ARRAY(s->arena, double, *runs);
  for (uint32_t i = 0; i < *runs; i++) {
    start = session_now();
    for (uint32_t k = 0; k < inner; k++) loaded_run(l);
    t[i] = (session_now() - start) / inner;
  }
  *out = sample_of(t, *runs);
  return true;
}

static void time_steps(Session *s, const Loaded *l, StepFn *run_step, double *seconds) {
  qcc_call call = {.workspace = l->workspace, .inputs = (const void *const *)l->inputs, .outputs = l->outputs};
  const Program *p = s->m->program;
  enum { REPEATS = 15 };
  for (uint32_t i = 0; i < p->steps.n; i++) {
    double t[REPEATS];
    double start = session_now();
    run_step(&call, i);
    double once = session_now() - start;
    uint32_t inner = (uint32_t)fmin(fmax(2e-4 / (once > 1e-9 ? once : 1e-9), 1), 2000);
    for (uint32_t r = 0; r < REPEATS; r++) {
      start = session_now();
      for (uint32_t k = 0; k < inner; k++) run_step(&call, i);
      t[r] = (session_now() - start) / inner;
    }
    seconds[i] = sample_of(t, REPEATS).median;
  }
}

// The time the fused step can't go below on this row: its multiply-adds at the FMA rate or its bytes at L2 bandwidth.
static double roof_seconds(const Target *t, const Step *step) {
  double lanes = t->vector_bits / 32.0;
  double compute = step->macs / (t->fma_per_cycle * lanes), memory = step->bytes / t->l2_bytes_cycle;
  return fmax(compute, memory) / (t->ghz * 1e9);
}

static void print_layers(Session *s, const double *seconds) {
  const Program *p = s->m->program;
  double total = 0;
  for (uint32_t i = 0; i < p->steps.n; i++) total += seconds[i];
  printf("%-4s %-36s %-14s %-8s %10s %6s %6s\n", "step", "layer", "op", "strategy", "us", "share", "roof");
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    printf("%-4u %-36s %-14s %-8s %10.2f %5.1f%% %5.1f%%\n", i, loc_layer(s->arena, step->loc),
           step->op ? op_info(step->op->kind)->name : "copy", step->strategy ? step->strategy : "loop",
           1e6 * seconds[i], 100 * seconds[i] / total, 100 * roof_seconds(s->target, step) / seconds[i]);
  }
  printf("sum of steps %.1f us\n", 1e6 * total);
}

// The layers are timed only next to peers: a plain --json is for scripts that want the network's time alone.
static void json_layers(Session *s, const Loaded *l, cJSON *to) {
  const Program *p = s->m->program;
  StepFn *run_step = bench_step_fn(s, l);
  Roofs roofs;
  if (!run_step || !roofs_measure(s, &roofs)) return;
  double *seconds = NEW_ARRAY(s->arena, double, p->steps.n + 1);
  time_steps(s, l, run_step, seconds);
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    double roof =
        fmax(roof_float(&roofs, s->target, step->macs), step->bytes / roofs_bandwidth(&roofs, s->target, step->bytes));
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "layer", loc_layer(s->arena, step->loc));
    cJSON_AddStringToObject(row, "op", step->op ? op_info(step->op->kind)->name : "copy");
    cJSON_AddStringToObject(row, "strategy", step->strategy ? step->strategy : "loop");
    cJSON_AddNumberToObject(row, "us", 1e6 * seconds[i]);
    cJSON_AddNumberToObject(row, "float_roof", roof / seconds[i]);
    cJSON_AddItemToArray(to, row);
  }
}

static void print_json(Session *s, const Loaded *l, const BenchTime *whole, uint32_t runs, double macs,
                       const Peers *peers) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddNumberToObject(json, "median_us", 1e6 * whole->median);
  cJSON_AddNumberToObject(json, "min_us", 1e6 * whole->min);
  cJSON_AddNumberToObject(json, "runs", runs);
  cJSON_AddNumberToObject(json, "macs", macs);
  if (peers->n > 0) {
    cJSON *list = cJSON_AddArrayToObject(json, "peers");
    for (uint32_t i = 0; i < peers->n; i++) {
      cJSON *row = cJSON_CreateObject();
      const Peer *p = &peers->at[i];
      cJSON_AddStringToObject(row, "engine", p->name);
      if (isfinite(p->time.median)) {
        cJSON_AddNumberToObject(row, "median_us", 1e6 * p->time.median);
        cJSON_AddNumberToObject(row, "min_us", 1e6 * p->time.min);
      } else {
        cJSON_AddStringToObject(row, "refused", p->refused);
      }
      cJSON_AddItemToArray(list, row);
    }
    json_layers(s, l, cJSON_AddArrayToObject(json, "layers"));
  }
  char *text = cJSON_PrintUnformatted(json);
  if (text) printf("%s\n", text);
  free(text);
  cJSON_Delete(json);
}

// What a table calls the network: the name of the file, or of its folder when the file is one of many `model.onnx`.
static const char *network_name(Session *s) {
  char *path = arena_printf(s->arena, "%s", s->opt.file), *slash = strrchr(path, '/');
  if (slash && strcmp(slash, "/model.onnx") == 0) {
    *slash = '\0';
    slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
  }
  char *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
  if (dot) *dot = '\0';
  return name;
}

static void print_steps(Session *s, const Loaded *l) {
  StepFn *run_step = bench_step_fn(s, l);
  if (!run_step) return;
  double *seconds = NEW_ARRAY(s->arena, double, s->m->program->steps.n + 1);
  time_steps(s, l, run_step, seconds);
  print_layers(s, seconds);
}

int cmd_bench(Session *s) {
  if (option_flag(&s->opt.calibrate) && !option_text(&s->opt.calibrate, "")[0]) return bench_calibrate(s);
  if (s->opt.suite.n) return bench_suite(s, option_text(&s->opt.suite, ""));
  ObjectBytes object = {0};
  Loaded l = {0};
  s->name = "qcc_bench";
  s->steps = true;
  if (!session_load(s)) return diag_exit_code(s->diag);
  s->m->name = s->name;
  if (!require_known(s) || !session_compile(s, &object)) return diag_exit_code(s->diag);
  bool ok = session_jit(s, &object, s->name, &l);
  BenchTime whole = {0};
  uint32_t runs = 0;
  Peers peers = {0};
  if (ok) {
    bench_fill(&l);
    ok = s->opt.peer.n ? bench_peers(s, &l, &whole, &runs, &peers) : bench_whole(s, &l, &whole, &runs);
  }
  if (ok) {
    double macs = 0;
    for (uint32_t i = 0; i < s->m->program->steps.n; i++) macs += s->m->program->steps.at[i].macs;
    if (option_flag(&s->opt.json)) {
      print_json(s, &l, &whole, runs, macs, &peers);
    } else if (option_flag(&s->opt.markdown)) {
      bench_print_markdown(network_name(s), macs, &whole, &peers);
    } else {
      print_steps(s, &l);
      printf("median %.2f us, min %.2f us over %u timings, %.1f GFLOP/s\n", 1e6 * whole.median, 1e6 * whole.min, runs,
             2e-9 * macs / whole.median);
      if (peers.n > 0) bench_print_peers(&whole, &peers);
    }
  }
  loaded_free(&l);
  free(object.at);
  return ok ? 0 : diag_exit_code(s->diag);
}
