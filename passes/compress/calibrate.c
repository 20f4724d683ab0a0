// See calibrate.h. A convolution is a dense layer of its patches: every row that is summed up is one patch (all input
// channels, all taps, in the order of the weights), zeros where it hangs over the border.
#include "passes/compress/calibrate.h"

#include "ir/base/map.h"
#include "passes/compress/linalg.h"

#define MOST_ENTRIES 2048  // of a patch: its second moments take 32 MiB
#define MOST_BYTES 0x1p29  // of all moments
#define ROWS 1024          // patches of a layer and sample, spread evenly
#define RUN_LIMIT 4e9      // operations of the interpreter

typedef struct Seen {
  FactorLayer layer;
  FactorStats stats;
  double *covariance, *mean;
} Seen;

struct Calibration {
  Arena *arena;
  Map *by_op;  // op id + 1 -> Seen
};

static int64_t entries_of(const FactorLayer *l) { return l->n_w / l->out; }

static void watch(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Calibration *c = ctx;
  Seen *s = map_get(c->by_op, op->id + 1u);
  (void)out;
  if (s == NULL) return;
  int64_t n = entries_of(&s->layer), rows = s->layer.batch * layer_places(&s->layer);
  int64_t used = rows < ROWS ? rows : ROWS;
  ArenaMark mark = arena_mark(c->arena);
  double *patches = NEW_ARRAY(c->arena, double, used *n);
  for (int64_t i = 0; i < used; i++) layer_patch(&s->layer, &in[0], i * rows / used, patches + i * n);
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
  *c = (Calibration){arena, map_new(arena)};
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
