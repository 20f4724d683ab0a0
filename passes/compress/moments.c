// See moments.h. Large layers are seen at every n-th place only, so that no layer takes more than a few seconds.
#include "passes/compress/moments.h"

#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
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

// The unfolded input at place `at` of image `image`.
static void unfold(const Moments *m, const Tensor *x, int64_t image, const int64_t *at, double *row) {
  const FactorLayer *l = m->l;
  int64_t taps = layer_taps(l), area = 1;
  for (uint32_t i = 0; i < l->nd; i++) area *= l->x[i];
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t place = 0, rest = tap, scale = 1;
    bool inside = true;
    for (uint32_t i = l->nd; i-- > 0; rest /= l->kernel[i], scale *= l->x[i]) {
      int64_t in = at[i] * l->stride[i] + rest % l->kernel[i] * l->dilation[i] - l->begin[i];
      inside = inside && in >= 0 && in < l->x[i];
      place += in * scale;
    }
    for (int64_t c = 0; c < l->in; c++)
      row[c * taps + tap] = inside ? elem_get_f(x->data, x->type->dtype, (image * l->in + c) * area + place) : 0;
  }
  row[m->k - 1] = 1;
}

static int64_t places_of(const FactorLayer *l) {
  int64_t n = 1;
  for (uint32_t i = 0; i < l->nd; i++) n *= l->y[i];
  return n;
}

static void watch(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Moments *m = ctx;
  const FactorLayer *l = m->l;
  (void)out;
  if (op != l->op) return;
  int64_t places = places_of(l);
  for (int64_t p = 0; p < l->batch * places; p++, m->place++) {
    if (m->place % m->step) continue;
    int64_t at[FORM_AXES] = {0}, rest = p % places;
    for (uint32_t i = l->nd; i-- > 0; rest /= l->y[i]) at[i] = rest % l->y[i];
    unfold(m, &in[0], p / places, at, m->rows + m->n * m->k);
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
  double cost = 0, rows = (double)opt->n_samples * (double)l->batch * (double)places_of(l);
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
