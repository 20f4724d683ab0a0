// See moments.h. Large layers are seen at every n-th place only, so that no layer takes more than a few seconds.
#include "passes/compress/moments.h"

#include "passes/compress/linalg.h"

#define MOST_ENTRIES 4000
#define MOST_WORK 4e10  // multiply-adds
#define EVAL_WORK 2e10  // operations of the interpreter, all samples

enum { ROWS = 64 };  // places that are added together

typedef struct Moments {
  const FactorLayer *l;
  int64_t k, step, place;  // places are counted over all samples; every `step`-th is taken
  double *g, *rows;
  int64_t n;  // rows that wait
} Moments;

static void flush(Moments *m) {
  matrix_add_tmul(m->k, m->k, m->n, m->rows, m->rows, m->g);
  m->n = 0;
}

static void watch(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Moments *m = ctx;
  const FactorLayer *l = m->l;
  (void)out;
  if (op != l->op) return;
  for (int64_t p = 0, n = l->batch * layer_places(l); p < n; p++, m->place++) {
    if (m->place % m->step) continue;
    double *row = m->rows + m->n * m->k;
    layer_patch(l, &in[0], p, row);
    row[m->k - 1] = 1;
    if (++m->n == ROWS) flush(m);
  }
}

static const double *no(const char **why, const char *text) {
  *why = text;
  return NULL;
}

const double *layer_moments(const FactorLayer *l, const PassOptions *opt, const char **why, Arena *arena) {
  Moments m = {.l = l, .k = l->in * layer_taps(l) + 1, .step = 1};
  Func *f = l->op->func;
  double cost = 0, rows = (double)opt->n_samples * (double)l->batch * (double)layer_places(l);
  if (opt->n_samples == 0) return no(why, "there are no samples to choose channels by; --data=DIR gives some");
  if (l->group != 1) return no(why, "it has groups");
  if (m.k > MOST_ENTRIES) return no(why, "its moments would be too large");
  for (const Op *op = f->first; op; op = op->next) cost += (double)eval_cost(op);
  if (cost * opt->n_samples > EVAL_WORK) return no(why, "running the samples would take too long");
  while (rows / (double)m.step * (double)m.k * (double)m.k > MOST_WORK) m.step++;
  m.g = NEW_ARRAY(arena, double, m.k *m.k);
  m.rows = NEW_ARRAY(arena, double, ROWS *m.k);
  for (uint32_t i = 0; i < opt->n_samples; i++) {
    Arena *scratch = arena_new("moments");
    Tensor *results = NEW_ARRAY(scratch, Tensor, f->n_results + 1);
    bool ok = eval_func(f, opt->samples[i], results, scratch, watch, &m);
    arena_free(scratch);
    if (!ok) return no(why, "the interpreter could not run a sample");
  }
  flush(&m);
  return m.g;
}
