// See calibrate.h. A convolution is a dense layer of its patches: every row that is summed up is one patch (all input
// channels, all taps, in the order of the weights), zeros where it hangs over the border.
#include "passes/compress/calibrate.h"

#include "ir/base/map.h"
#include "passes/compress/linalg.h"

#define MOST_ENTRIES 2048  // of a patch: its second moments take 32 MiB
#define MOST_BYTES 0x1p29  // of all moments
#define ROWS 1024          // patches of a layer and sample, spread evenly
#define RUN_LIMIT 4e9      // operations of the interpreter
#define FOLLOW_LIMIT 8e9   // for layers behind others that were replaced

typedef struct Seen {
  FactorLayer layer;
  FactorStats stats;
  double *covariance, *mean;
} Seen;

struct Calibration {
  Arena *arena;
  Map *by_op;          // op id + 1 -> Seen
  double cost, spent;  // operations of a run; of all runs for layers behind others
};

static int64_t entries_of(const FactorLayer *l) { return l->n_w / l->out; }

// The patches of a layer and sample; sets the number of rows.
static double *patches_of(const FactorLayer *l, const Tensor *x, int64_t *used, Arena *arena) {
  int64_t n = entries_of(l), rows = l->batch * layer_places(l);
  *used = rows < ROWS ? rows : ROWS;
  double *patches = NEW_ARRAY(arena, double, *used *n);
  for (int64_t i = 0; i < *used; i++) layer_patch(l, x, i * rows / *used, patches + i * n);
  return patches;
}

static void watch(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Calibration *c = ctx;
  Seen *s = map_get(c->by_op, op->id + 1u);
  (void)out;
  if (s == NULL) return;
  int64_t n = entries_of(&s->layer), used;
  ArenaMark mark = arena_mark(c->arena);
  double *patches = patches_of(&s->layer, &in[0], &used, c->arena);
  matrix_add_tmul(n, n, used, patches, patches, s->covariance);
  for (int64_t i = 0; i < used * n; i++) s->mean[i % n] += patches[i];
  s->stats.samples += used;
  arena_reset(c->arena, mark);
}

static void add_layer(Calibration *c, const Op *op, double *bytes) {
  Seen *s = NEW(c->arena, Seen);
  const char *why;
  if ((op->kind != OP_CONV && op->kind != OP_MATMUL) || !layer_read(op, &s->layer, c->arena, &why)) return;
  int64_t n = entries_of(&s->layer);
  if (s->layer.group != 1 || n > MOST_ENTRIES || *bytes + (double)(n * n) * 8 > MOST_BYTES) return;
  *bytes += (double)(n * n) * 8;
  s->covariance = NEW_ARRAY(c->arena, double, n *n);
  s->mean = NEW_ARRAY(c->arena, double, n);
  s->stats.mean = s->mean;
  s->stats.covariance = s->covariance;
  map_set(c->by_op, op->id + 1u, s);
}

static void take_means(Seen *s) {
  int64_t n = entries_of(&s->layer);
  for (int64_t i = 0; i < n * n; i++) s->covariance[i] /= (double)s->stats.samples;
  for (int64_t i = 0; i < n; i++) s->mean[i] /= (double)s->stats.samples;
}

Calibration *calibration_of(Func *f, const PassOptions *opt, Arena *arena) {
  double cost = 0, bytes = 0, spent = 0;
  if (opt->n_samples == 0) return NULL;
  Calibration *c = NEW(arena, Calibration);
  *c = (Calibration){.arena = arena, .by_op = map_new(arena)};
  for (const Op *op = f->first; op != NULL; op = op->next) {
    cost += (double)eval_cost(op);
    add_layer(c, op, &bytes);
  }
  for (uint32_t i = 0; i < opt->n_samples && (spent += cost) <= RUN_LIMIT; i++) {
    Arena *scratch = arena_new("sample");
    Tensor *results = NEW_ARRAY(scratch, Tensor, f->n_results + 1);
    bool typed = true;
    for (uint32_t k = 0; k < f->n_args; k++) typed = typed && opt->samples[i][k].type == f->args[k]->type;
    if (typed) typed = eval_func(f, opt->samples[i], results, scratch, watch, c);
    arena_free(scratch);
    if (!typed) return NULL;
  }
  if (cost > RUN_LIMIT) return NULL;
  c->cost = cost;
  for (const Op *op = f->first; op != NULL; op = op->next) {
    Seen *s = map_get(c->by_op, op->id + 1u);
    if (s != NULL && s->stats.samples > 0) take_means(s);
  }
  return c;
}

const FactorStats *calibration_stats(const Calibration *c, const Op *op) {
  const Seen *s = c == NULL ? NULL : map_get(c->by_op, op->id + 1u);
  return s != NULL && s->stats.samples > 0 ? &s->stats : NULL;
}

// ---- behind layers that were replaced

typedef struct Grab {
  const Op *op;
  const FactorLayer *layer;
  Arena *arena;
  double *patches;
  int64_t used;
} Grab;

static void grab(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Grab *g = ctx;
  (void)out;
  if (op == g->op) g->patches = patches_of(g->layer, &in[0], &g->used, g->arena);
}

static bool run(Func *f, const Tensor *inputs, Grab *g) {
  Tensor *results = NEW_ARRAY(g->arena, Tensor, f->n_results + 1);
  return eval_func(f, inputs, results, g->arena, grab, g) && g->patches != NULL;
}

const FactorStats *calibration_behind(Calibration *c, const PassOptions *opt, Func *dense, const Op *twin, Func *now,
                                      const Op *op, Arena *arena) {
  const Seen *s = c == NULL ? NULL : map_get(c->by_op, op->id + 1u);
  double cost = c == NULL ? 0 : 2 * c->cost * opt->n_samples;
  if (s == NULL || s->stats.samples == 0 || (c->spent += cost) > FOLLOW_LIMIT) return calibration_stats(c, op);
  int64_t n = entries_of(&s->layer), rows = 0;
  double *moments = NEW_ARRAY(arena, double, n *n), *cross = NEW_ARRAY(arena, double, n *n);
  for (uint32_t i = 0; i < opt->n_samples; i++) {
    Arena *scratch = arena_new("sample");
    Grab x = {.op = twin, .layer = &s->layer, .arena = scratch}, z = {.op = op, .layer = &s->layer, .arena = scratch};
    bool ok = run(dense, opt->samples[i], &x) && run(now, opt->samples[i], &z);
    if (ok) {
      matrix_add_tmul(n, n, z.used, z.patches, z.patches, moments);
      matrix_add_tmul(n, n, z.used, x.patches, z.patches, cross);
      rows += z.used;
    }
    arena_free(scratch);
    if (!ok) return &s->stats;
  }
  for (int64_t i = 0; i < n * n; i++) {
    moments[i] /= (double)rows;
    cross[i] /= (double)rows;
  }
  FactorStats *stats = NEW(arena, FactorStats);
  *stats = s->stats;
  stats->now = moments;
  stats->cross = cross;
  return stats;
}
