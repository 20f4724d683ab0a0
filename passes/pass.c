// The pass table and the runner: verify, print, time, count, replay. Passes themselves only transform.
#include "passes/pass.h"

#include <string.h>
#include <time.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pipeline.h"

#define PASS(name, level, fn, help) PassResult fn(PassCtx *ctx);
#include "passes/passes.def"
#undef PASS

static const PassInfo infos[] = {
#define PASS(name, level, fn, help) {#name, level, fn, help},
#include "passes/passes.def"
#undef PASS
};

// The whole way of a network, as --print-pipeline shows it.
const char *const pipeline_default =
    "infer,widen,integer,fold,simplify,cse,dce,unfloat,idioms,codes,levels,merge,prune,channels,repeats,factorize,"
    "share,"
    "planted,"
    "layout,terms,"
    "blocks,fold{codes},simplify,turn,chain,repeats,gelu,"
    "fuse,cse,dce,plan,"
    "lower,"
    "memplan,"
    "expand,ksimplify,vectorize,unroll,ksimplify,split";

uint32_t pass_count(void) { return sizeof infos / sizeof infos[0]; }
const PassInfo *pass_at(uint32_t i) { return &infos[i]; }

const PassInfo *pass_by_name(const char *name, size_t n) {
  for (uint32_t i = 0; i < pass_count(); i++)
    if (strlen(infos[i].name) == n && memcmp(infos[i].name, name, n) == 0) return &infos[i];
  return NULL;
}

PassOptions pass_options_default(void) { return (PassOptions){.fold_bytes = INT64_C(64) << 20}; }

// A failing pass must leave something to debug with: the text before it and the rest of the pipeline, as a golden file.
// Modules above this size are not snapshot; their replay is the command line.
#define REPLAY_MAX_OPS 5000

typedef struct Replay {
  const char *path, *pass;
  const char *pipeline;
  StrBuf text;
} Replay;

static void replay_write(void *ctx) {
  const Replay *r = ctx;
  if (!r->path || !r->text.n) return;
  FILE *f = fopen(r->path, "we");
  if (!f) return;
  fprintf(f, "# internal error in pass %s\n# passes: %s\n\n%s", r->pass, r->pipeline, r->text.at);
  fclose(f);
  fprintf(stderr, "qcc: replay written to %s (constants replaced by random ones); run `qcc opt %s`\n", r->path,
          r->path);
}

static int64_t module_ops(const Module *m) {
  int64_t n = 0;
  if (m->program) {
    for (uint32_t i = 0; i < m->program->kernels.n; i++) n += kernel_ops(m->program->kernels.at[i]);
    return n;
  }
  for (uint32_t i = 0; i < m->funcs.n; i++) n += m->funcs.at[i]->n_ops;
  return n;
}

static bool wants_print(const RunOptions *run, const PassInfo *pass, PassResult result) {
  if (!run->print_after) return false;
  if (strcmp(run->print_after, "all") == 0 || strcmp(run->print_after, pass->name) == 0) return true;
  return strcmp(run->print_after, "changed") == 0 && result == PASS_CHANGED;
}

static void print_after(Module *m, const RunOptions *run, const PassInfo *pass, Arena *arena) {
  ArenaMark mark = arena_mark(arena);
  StrBuf b;
  strbuf_init(&b, arena);
  print_module(&b, m, (PrintOptions){.locs = true});
  fprintf(run->print_to ? run->print_to : stderr, "# after %s\n%s\n", pass->name, strbuf_str(&b));
  arena_reset(arena, mark);
}

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool step_run(const PipelineStep *step, PassCtx *ctx, const RunOptions *run, PassTiming *timing) {
  double start = now_seconds();
  uint32_t errors = diag_errors(ctx->diag);
  PassResult result = step->pass->run(ctx);
  if (result == PASS_FAILED) {
    QCC_CHECK(diag_errors(ctx->diag) > errors, "pass %s failed without a message", step->pass->name);
    return false;
  }
  if (run->verify_each && !verify_module(ctx->m)) qcc_bug("the IR is broken after pass %s", step->pass->name);
  *timing = (PassTiming){step->pass->name, now_seconds() - start, module_ops(ctx->m)};
  if (wants_print(run, step->pass, result)) print_after(ctx->m, run, step->pass, ctx->arena);
  return true;
}

bool pipeline_run(Module *m, const Target *target, const char *pipeline, const PassOptions *opt, const RunOptions *run,
                  Arena *arena, PassTimings *timings) {
  Pipeline p;
  if (!pipeline_parse(&p, pipeline, arena, m->diag)) return false;
  Arena *pass_arena = arena_new("pass"), *text_arena = arena_new("replay");
  Replay replay = {.path = run->replay_path};
  qcc_bug_set_replay(replay_write, &replay);
  bool ok = true;
  for (uint32_t i = 0; i < p.steps.n && ok; i++) {
    const PipelineStep *step = &p.steps.at[i];
    if (run->progress) run->progress(run->progress_ctx, step->pass->name, i, p.steps.n);
    arena_clear(text_arena);
    replay.pass = step->pass->name;
    replay.pipeline = pipeline_text(&p, i, text_arena);
    strbuf_init(&replay.text, text_arena);
    if (run->replay_path && !m->program && module_ops(m) <= REPLAY_MAX_OPS)
      print_module(&replay.text, m, (PrintOptions){.random_bytes = true});
    PassCtx ctx = {m, target, m->diag, pass_arena, opt, step->args};
    PassTiming timing = {0};
    ok = step_run(step, &ctx, run, &timing);
    if (run->release) consts_release(m);
    if (timings) vec_push(arena, timings, timing);
    arena_clear(pass_arena);
  }
  qcc_bug_set_replay(NULL, NULL);
  arena_free(pass_arena);
  arena_free(text_arena);
  return ok;
}

bool pipeline_check(const char *pipeline, Diag *diag) {
  Arena *arena = arena_new("pipeline");
  Pipeline p;
  bool ok = pipeline_parse(&p, pipeline, arena, diag);
  arena_free(arena);
  return ok;
}
