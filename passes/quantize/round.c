// Weights on the levels of their scheme, rounded so that the sums of the layer change least on the samples.
//
// With M = R'R the second moments of patches (the one for the bias first), the change of a channel's sums is
// ||R (w - v)||^2. R is upper triangular: from the last weight to the first, each takes the level nearest to w plus
// what makes up for the errors of those behind it (Babai's nearest plane, the same steps as GPTQ). Weights of inputs
// with much energy come last in the order, so they are rounded first and the others make up for them; the bias is no
// level, comes last and takes the rest: that is the correction of the mean. Nothing is trained.
#include <math.h>
#include <stdlib.h>

#include "passes/contraction.h"
#include "passes/quantize/quantize.h"

#define DAMPING 0.01  // of the mean diagonal: directions the samples hardly show keep their weights

typedef struct Rounding {
  QuantLayer *l;
  WeightFit *fit;
  int64_t k, per_group;  // channels of a group
  int64_t *order;        // [k] index in the patch, 0 first
  double *r;             // k x k upper triangular
  double *error;         // k x per_group: w - v in the order
} Rounding;

// h becomes R with h = R'R. False: not positive definite.
static bool cholesky(int64_t n, double *h) {
  for (int64_t i = 0; i < n; i++) {
    double *row = h + i * n;
    if (!(row[i] > 0)) return false;
    double by = 1 / sqrt(row[i]);
    for (int64_t j = i; j < n; j++) row[j] *= by;
    for (int64_t m = i + 1; m < n; m++) {
      double f = row[m], *to = h + m * n;
      for (int64_t j = m; f != 0 && j < n; j++) to[j] -= f * row[j];
    }
  }
  return true;
}

typedef struct Energy {
  double value;
  int64_t at;
} Energy;

static int by_energy(const void *a, const void *b) {
  const Energy *x = a, *y = b;
  return x->value != y->value ? (x->value > y->value) - (x->value < y->value) : (x->at > y->at) - (x->at < y->at);
}

static bool factor(Rounding *r, const double *m, Arena *arena) {
  int64_t k = r->k;
  double mean = 0;
  Energy *e = NEW_ARRAY(arena, Energy, k);
  for (int64_t i = 1; i < k; i++) {
    e[i - 1] = (Energy){m[i * k + i], i};
    mean += m[i * k + i] / (double)(k > 1 ? k - 1 : 1);
  }
  if (!(mean > 0)) return false;
  qsort(e, (size_t)(k - 1), sizeof *e, by_energy);
  r->order[0] = 0;
  for (int64_t i = 1; i < k; i++) r->order[i] = e[i - 1].at;
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = 0; j < k; j++)
      r->r[i * k + j] = m[r->order[i] * k + r->order[j]] + (i == j && i > 0 ? DAMPING * mean : 0);
  return cholesky(k, r->r);
}

// The level of the ascending book nearest to w, the lower of two.
static uint16_t nearest(const WeightGroup *g, double w) {
  uint32_t lo = 0, hi = g->n_book - 1;
  while (lo < hi) {
    uint32_t middle = (lo + hi) / 2;
    if (w - (double)g->book[middle] <= (double)g->book[middle + 1] - w) {
      hi = middle;
    } else {
      lo = middle + 1;
    }
  }
  return (uint16_t)lo;
}

static void round_group(Rounding *r, int64_t group, double *wanted) {
  int64_t k = r->k, n = r->per_group, per = k - 1;
  WeightFit *fit = r->fit;
  for (int64_t i = k; i-- > 0;) {
    for (int64_t c = 0; c < n; c++) wanted[c] = 0;
    for (int64_t j = i + 1; j < k; j++) {
      double by = r->r[i * k + j] / r->r[i * k + i];
      const double *e = r->error + j * n;
      for (int64_t c = 0; by != 0 && c < n; c++) wanted[c] += by * e[c];
    }
    for (int64_t c = 0; i > 0 && c < n; c++) {
      int64_t at = (group * n + c) * per + r->order[i] - 1;
      const WeightGroup *g = &fit->group[at / fit->in_group];
      double w = (double)fit->from[at];
      fit->code[at] = nearest(g, w + wanted[c]);
      r->error[i * n + c] = w - (double)g->book[fit->code[at]];
    }
  }
}

// False: the moments are degenerate, all stays as it was.
static bool round_all(Rounding *r, double *shift, Arena *arena) {
  int64_t k = r->k, groups = r->l->shape.group;
  r->order = NEW_ARRAY(arena, int64_t, k);
  r->r = NEW_ARRAY(arena, double, k *k);
  r->error = NEW_ARRAY(arena, double, k * r->per_group);
  for (int64_t g = 0; g < groups; g++) {
    if (!factor(r, r->l->moments + g * k * k, arena)) continue;
    round_group(r, g, shift + g * r->per_group);
  }
  return true;
}

static void note_shift(QuantLayer *l, const Value *bias, const double *shift, Module *m) {
  double most = 0, largest = 0;
  for (int64_t c = 0; c < l->shape.out; c++) {
    largest = fmax(largest, fabs(shift[c]));
    if (bias != NULL) most = fmax(most, fabs(const_f(m, bias->constant, c)));
  }
  l->shift = most > 0 ? largest / most : largest;
}

Value *quant_weights(QuantState *s, uint32_t i, const double **bias, const char **why) {
  QuantLayer *l = &s->z->layers.at[i];
  Op *op = s->ops.at[i];
  Module *m = s->ctx->m;
  Arena *arena = s->ctx->arena;
  WeightFit fit;
  const Value *b = op_in(op, 2);
  WeightMoments moments = {l->k - 1, l->moments};
  *bias = NULL;
  (void)moments;
  if (!weights_fit_scheme(m, op_in(op, 1), weight_channel_axis(op), &l->choice.w, NULL, arena, &fit, why)) return NULL;
  bool fits = b == NULL || (value_is_const(b) && type_count(b->type) == l->shape.out && b->type->rank == 1);
  if (l->moments != NULL && l->patches > 0 && !l->choice.nearest && fit.code != NULL && fits &&
      l->choice.w.scheme->book != BOOK_VECTORS) {
    Rounding r = {.l = l, .fit = &fit, .k = l->k, .per_group = l->shape.out / l->shape.group};
    double *shift = NEW_ARRAY(arena, double, l->shape.out);
    round_all(&r, shift, arena);
    weights_refresh(&fit, arena);
    note_shift(l, b, shift, m);
    *bias = shift;
  }
  l->stats = fit.stats;
  l->scheme = weight_spec_text(&fit.spec, s->z->arena);
  return weights_emit(op, &fit);
}
