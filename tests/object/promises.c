/* Runs two compiled models in one program and holds them to the promises of the interface: statuses for bad arguments,
 * no byte outside the caller's buffers, results that depend on nothing but the inputs. Prints one line per failure and
 * "N passed, N failed". Links with the pool of runtime/. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "a.h"
#include "b_2.h"
#include "runtime/qcc_rt.h"

#define PAGE 4096u
#define MAX_TENSORS 8
#define SNAN 256 /* fill with signalling NaNs instead of one byte */

static int passed, failed;

static void check(int ok, const char *model, const char *what) {
  if (ok) {
    passed++;
  } else {
    failed++;
    printf("FAIL %s: %s\n", model, what);
  }
}

typedef struct Guarded {
  unsigned char *map, *at;
  size_t total;
} Guarded;

static Guarded guarded_new(size_t n, int at_end) {
  Guarded g;
  size_t pages = (n + PAGE - 1) / PAGE * PAGE;
  g.total = pages + 2 * PAGE;
  g.map = mmap(NULL, g.total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.map == MAP_FAILED || mprotect(g.map + PAGE, pages, PROT_READ | PROT_WRITE) != 0) abort();
  g.at = at_end ? g.map + PAGE + pages - n : g.map + PAGE;
  return g;
}

static void guarded_free(Guarded *g) { munmap(g->map, g->total); }

typedef struct Buffers {
  const qcc_model *model;
  Guarded workspace, in[MAX_TENSORS], out[MAX_TENSORS];
  const void *inputs[MAX_TENSORS];
  void *outputs[MAX_TENSORS];
  qcc_call call;
} Buffers;

static void fill_random(unsigned char *at, uint64_t bytes, unsigned seed) {
  float *f = malloc(bytes);
  for (uint64_t i = 0; i < bytes / 4; i++) {
    seed = seed * 1664525u + 1013904223u;
    f[i] = (float)(seed >> 8) / (1 << 23) - 1;
  }
  memcpy(at, f, bytes);
  free(f);
}

/* at_end: buffers end at a forbidden page, else they begin behind one. The workspace is aligned, so only its slack
 * differs. */
static void poison_fill(unsigned char *at, uint64_t n, int poison) {
  static const unsigned char nan[4] = {0x01, 0x00, 0xa0, 0x7f};
  if (poison != SNAN) memset(at, poison, n);
  for (uint64_t i = 0; poison == SNAN && i < n; i++) at[i] = nan[i % 4];
}

static void buffers_init(Buffers *b, const qcc_model *model, int at_end, int poison) {
  memset(b, 0, sizeof *b);
  b->model = model;
  uint64_t bytes = model->workspace_size(NULL);
  b->workspace = guarded_new((bytes + 63) / 64 * 64, at_end);
  poison_fill(b->workspace.at, bytes, poison);
  for (uint32_t i = 0; i < model->n_inputs; i++) {
    b->in[i] = guarded_new(model->inputs[i].bytes, at_end);
    fill_random(b->in[i].at, model->inputs[i].bytes, i + 1);
    b->inputs[i] = b->in[i].at;
  }
  for (uint32_t i = 0; i < model->n_outputs; i++) {
    b->out[i] = guarded_new(model->outputs[i].bytes, at_end);
    poison_fill(b->out[i].at, model->outputs[i].bytes, poison);
    b->outputs[i] = b->out[i].at;
  }
  b->call.workspace = b->workspace.at;
  b->call.inputs = b->inputs;
  b->call.outputs = b->outputs;
}

static void buffers_free(Buffers *b) {
  guarded_free(&b->workspace);
  for (uint32_t i = 0; i < b->model->n_inputs; i++) guarded_free(&b->in[i]);
  for (uint32_t i = 0; i < b->model->n_outputs; i++) guarded_free(&b->out[i]);
}

static int same_results(const Buffers *a, const Buffers *b) {
  for (uint32_t i = 0; i < a->model->n_outputs; i++)
    if (memcmp(a->outputs[i], b->outputs[i], a->model->outputs[i].bytes) != 0) return 0;
  return 1;
}

static int run(Buffers *b, const qcc_exec *exec) {
  b->call.exec = exec;
  if (b->model->init(b->call.workspace) != QCC_OK) return 0;
  return b->model->run(&b->call) == QCC_OK;
}

static void check_statuses(const qcc_model *m) {
  Buffers b;
  buffers_init(&b, m, 0, 0);
  check(m->abi == QCC_ABI, m->name, "abi");
  check(m->run(NULL) == QCC_E_ARG, m->name, "run(NULL)");
  check(m->init(NULL) == QCC_E_ARG, m->name, "init(NULL)");
  check(m->run(&b.call) == QCC_E_WORKSPACE, m->name, "run before init");
  check(m->init(b.workspace.at + 8) == QCC_E_ALIGN, m->name, "init of an unaligned workspace");
  check(m->init(b.workspace.at) == QCC_OK, m->name, "init");
  b.call.workspace = b.workspace.at + 8;
  check(m->run(&b.call) == QCC_E_ALIGN, m->name, "run with an unaligned workspace");
  b.call.workspace = NULL;
  check(m->run(&b.call) == QCC_E_ARG, m->name, "run without a workspace");
  b.call.workspace = b.workspace.at;
  b.call.inputs = NULL;
  check(m->run(&b.call) == QCC_E_ARG, m->name, "run without inputs");
  b.call.inputs = b.inputs;
  b.inputs[0] = NULL;
  check(m->run(&b.call) == QCC_E_ARG, m->name, "run with a NULL input");
  b.inputs[0] = b.in[0].at;
  b.outputs[0] = NULL;
  check(m->run(&b.call) == QCC_E_ARG, m->name, "run with a NULL output");
  b.outputs[0] = b.out[0].at;
  check(m->run(&b.call) == QCC_OK, m->name, "run");
  buffers_free(&b);
}

/* The reference of every other check: one thread, zeroed memory. */
static void check_results(const qcc_model *m) {
  static const int poisons[] = {0x00, 0xff, 0x7f, 0xa5, SNAN};
  Buffers want, got;
  buffers_init(&want, m, 0, 0);
  check(run(&want, NULL), m->name, "run");
  for (int end = 0; end < 2; end++)
    for (int p = 0; p < 5; p++) {
      buffers_init(&got, m, end, poisons[p]);
      check(run(&got, NULL) && same_results(&want, &got), m->name, "result depends on the memory before");
      check(m->run(&got.call) == QCC_OK && same_results(&want, &got), m->name, "second run differs");
      buffers_free(&got);
    }
  for (uint32_t threads = 1; threads <= 9; threads++) {
    qcc_pool *pool = qcc_pool_new(threads);
    buffers_init(&got, m, threads % 2, 0xff);
    check(run(&got, qcc_pool_exec(pool)) && same_results(&want, &got), m->name, "result depends on threads");
    buffers_free(&got);
    qcc_pool_free(pool);
  }
  buffers_free(&want);
}

/* Inputs and outputs may have any alignment. */
static void check_unaligned(const qcc_model *m) {
  Buffers want, got;
  buffers_init(&want, m, 0, 0);
  run(&want, NULL);
  for (unsigned shift = 1; shift < 64; shift += 7) {
    buffers_init(&got, m, 0, 0);
    unsigned char *in = malloc(m->inputs[0].bytes + 64), *out = malloc(m->outputs[0].bytes + 64);
    memcpy(in + shift, got.inputs[0], m->inputs[0].bytes);
    got.inputs[0] = in + shift;
    got.outputs[0] = out + shift;
    check(run(&got, NULL) && same_results(&want, &got), m->name, "unaligned buffers");
    free(in);
    free(out);
    buffers_free(&got);
  }
  buffers_free(&want);
}

typedef struct Job {
  const qcc_model *model;
  int ok;
} Job;

static void *run_often(void *arg) {
  Job *job = arg;
  Buffers want, got;
  buffers_init(&want, job->model, 0, 0);
  buffers_init(&got, job->model, 0, 0xff);
  job->ok = run(&want, NULL);
  for (int i = 0; i < 50; i++) job->ok = job->ok && run(&got, NULL) && same_results(&want, &got);
  buffers_free(&want);
  buffers_free(&got);
  return NULL;
}

/* Four threads, two per model, at once. */
static void check_reentrant(const qcc_model *a, const qcc_model *b) {
  Job jobs[4] = {{a, 0}, {b, 0}, {a, 0}, {b, 0}};
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, run_often, &jobs[i]);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  for (int i = 0; i < 4; i++) check(jobs[i].ok, jobs[i].model->name, "two models on four threads");
}

static void *run_call(void *arg) {
  Buffers *b = arg;
  b->call.exec = NULL;
  return (void *)(uintptr_t)(b->model->run(&b->call) == QCC_OK);
}

/* A thread with the smallest stack the system allows. */
static void check_small_stack(const qcc_model *m) {
  Buffers b;
  buffers_init(&b, m, 0, 0);
  m->init(b.call.workspace);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 16384);
  pthread_t t;
  void *ok = NULL;
  if (pthread_create(&t, &attr, run_call, &b) == 0) pthread_join(t, &ok);
  check(ok != NULL, m->name, "run on a stack of 16 KiB");
  buffers_free(&b);
}

/* ---- stack: how much of a painted stack a call touched, beyond what the thread itself takes */

#define PAINTED (256u << 10)

static void *run_nothing(void *arg) {
  ((Buffers *)arg)->call.exec = NULL;
  return arg;
}

static size_t stack_used(void *(*start)(void *), Buffers *b) {
  unsigned char *stack = mmap(NULL, PAINTED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) abort();
  memset(stack, 0xa5, PAINTED);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstack(&attr, stack, PAINTED);
  pthread_t t;
  if (pthread_create(&t, &attr, start, b) != 0) abort();
  pthread_join(t, NULL);
  size_t untouched = 0;
  while (untouched < PAINTED && stack[untouched] == 0xa5) untouched++;
  munmap(stack, PAINTED);
  return PAINTED - untouched;
}

static void check_stack_size(const qcc_model *m, size_t bound) {
  Buffers b;
  buffers_init(&b, m, 0, 0);
  check(run(&b, NULL), m->name, "run"); /* symbols are bound now */
  size_t thread = stack_used(run_nothing, &b), call = stack_used(run_call, &b);
  check(bound > 0 && bound <= 4096, m->name, "stack bound of the header");
  check(call <= thread + bound + 64, m->name, "stack used by a call");
  check(call > thread, m->name, "stack measured");
  buffers_free(&b);
}

/* The typed functions of the headers do the same as the model structs. */
static void check_typed(void) {
  Buffers want, got;
  buffers_init(&want, &a_model, 0, 0);
  buffers_init(&got, &a_model, 1, 0xff);
  run(&want, NULL);
  a_inputs in = {(const float *)got.inputs[0], (const float *)got.inputs[1]};
  a_outputs out = {(float *)got.outputs[0], (float *)got.outputs[1]};
  check(a_model.workspace_size(NULL) == a_WORKSPACE_SIZE, "a", "workspace size of the header");
  check(a_model.workspace_align == a_WORKSPACE_ALIGN, "a", "workspace alignment of the header");
  check(a_init(got.call.workspace) == QCC_OK, "a", "a_init");
  check(a_run(got.call.workspace, &in, &out, NULL) == QCC_OK && same_results(&want, &got), "a", "a_run");
  check(b__2_init == b__2_model.init, "b_2", "init of the struct");
  buffers_free(&want);
  buffers_free(&got);
}

int main(void) {
  const qcc_model *models[2] = {&a_model, &b__2_model};
  for (int i = 0; i < 2; i++) {
    check_statuses(models[i]);
    check_results(models[i]);
    check_unaligned(models[i]);
    check_small_stack(models[i]);
  }
  check_stack_size(models[0], a_STACK_SIZE);
  check_stack_size(models[1], b__2_STACK_SIZE);
  check_reentrant(models[0], models[1]);
  check_typed();
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
