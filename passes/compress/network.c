// See network.h. The interpreter runs the network on a few inputs with the weights that the forms stand for in the
// place of those of the layers, so that no graph is rewritten to find out what a form does to the results.
//
//   all forms within the limit?  yes: done
//   no: every form alone; in the order of error^2 per time saved the longest beginning within the limit (bisection);
//   then each of the rest that still fits
//
// What is taken has been measured together: the sum of errors is never assumed. Networks that take long to interpret
// are ordered by the errors of the weights instead.
#include "passes/compress/network.h"

#include <math.h>
#include <stdlib.h>

#include "ir/elem.h"
#include "passes/compress/measure.h"

#define WORK_LIMIT \
  8e9  // operations of the interpreter for all that is measured of one set of forms; about half a minute

typedef struct Trial {
  Func *f;
  const PassOptions *opt;
  Arena *arena;
  uint32_t samples;
  Tensor **want;  // results of the dense network, by sample
  NetworkLayer *layers;
  NetworkFit *fit;
} Trial;

static bool results_of(const Trial *t, uint32_t sample, Tensor *out, Arena *arena) {
  return eval_func(t->f, measure_inputs(t->f, t->opt, sample, arena), out, arena, NULL, NULL);
}

static bool keep_dense(Trial *t) {
  t->want = NEW_ARRAY(t->arena, Tensor *, t->samples);
  for (uint32_t i = 0; i < t->samples; i++) {
    Arena *scratch = arena_new("sample");
    Tensor *out = t->want[i] = NEW_ARRAY(t->arena, Tensor, t->f->n_results + 1);
    bool ok = results_of(t, i, out, scratch);
    for (uint32_t k = 0; ok && k < t->f->n_results; k++)
      out[k].data = arena_copy(t->arena, out[k].data, (size_t)type_bytes(out[k].type));
    arena_free(scratch);
    if (!ok) return false;
  }
  return true;
}

// The relative error of all float results on all samples; infinite where one is not a number.
static double error_now(const Trial *t) {
  double error2 = 0, norm2 = 0;
  for (uint32_t i = 0; i < t->samples; i++) {
    Arena *scratch = arena_new("sample");
    Tensor *out = NEW_ARRAY(scratch, Tensor, t->f->n_results + 1);
    if (!results_of(t, i, out, scratch)) error2 = INFINITY;
    for (uint32_t k = 0; isfinite(error2) && k < t->f->n_results; k++) {
      DType d = out[k].type->dtype;
      for (int64_t e = 0; dtype_is_float(d) && e < type_count(out[k].type); e++) {
        double want = elem_get_f(t->want[i][k].data, d, e), off = elem_get_f(out[k].data, d, e) - want;
        error2 += off * off;
        norm2 += want * want;
      }
    }
    arena_free(scratch);
  }
  return isfinite(error2) ? sqrt(norm2 > 0 ? error2 / norm2 : error2) : INFINITY;
}

static void put(NetworkLayer *l, bool factored) { op_set_operand(l->op, 1, factored ? l->factored : l->dense); }

static int by_worth(const void *a, const void *b) {
  const NetworkLayer *x = *(NetworkLayer *const *)a, *y = *(NetworkLayer *const *)b;
  double p = x->alone >= 0 ? x->alone : x->loss, q = y->alone >= 0 ? y->alone : y->loss;
  p = p * p / x->saved;
  q = q * q / y->saved;
  return p != q ? (p > q) - (p < q) : (x->op->id > y->op->id) - (x->op->id < y->op->id);
}

// The first `k` of the order, of which `now` are in place.
static double error_of_first(const Trial *t, NetworkLayer **order, uint32_t n, uint32_t k) {
  for (uint32_t i = 0; i < n; i++) put(order[i], i < k);
  return error_now(t);
}

static uint32_t longest_beginning(Trial *t, NetworkLayer **order, uint32_t n) {
  uint32_t fits = 0, fails = n;
  while (fails - fits > 1) {
    uint32_t middle = fits + (fails - fits) / 2;
    double error = error_of_first(t, order, n, middle);
    if (error <= t->fit->limit) {
      fits = middle;
      t->fit->error = error;
    } else {
      fails = middle;
    }
  }
  for (uint32_t i = 0; i < n; i++) put(order[i], order[i]->taken = i < fits);
  return fits;
}

static void try_each(Trial *t, NetworkLayer **order, uint32_t from, uint32_t n) {
  for (uint32_t i = from; i < n; i++) {
    put(order[i], true);
    double error = error_now(t);
    order[i]->taken = error <= t->fit->limit;
    if (order[i]->taken) {
      t->fit->error = error;
    } else {
      put(order[i], false);
    }
  }
}

static void take_some(Trial *t, NetworkLayer **order, uint32_t n, bool thorough) {
  double error = error_of_first(t, order, n, n);
  if (error <= t->fit->limit) {
    for (uint32_t i = 0; i < n; i++) order[i]->taken = true;
    t->fit->error = error;
    return;
  }
  for (uint32_t i = 0; i < n; i++) put(order[i], false);
  for (uint32_t i = 0; thorough && i < n; i++) {
    put(order[i], true);
    order[i]->alone = error_now(t);
    put(order[i], false);
  }
  qsort(order, n, sizeof *order, by_worth);
  uint32_t fits = longest_beginning(t, order, n);
  if (thorough) try_each(t, order, fits + 1, n);
}

void network_fit(Func *f, const PassOptions *opt, uint32_t n, NetworkLayer *layers, NetworkFit *fit, Arena *arena) {
  Trial t = {.f = f, .opt = opt, .arena = arena, .layers = layers, .fit = fit};
  NetworkLayer **order = NEW_ARRAY(arena, NetworkLayer *, n + 1);
  uint32_t count = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (layers[i].taken || layers[i].factored == NULL) continue;
    layers[i].alone = -1;
    order[count++] = &layers[i];
  }
  double cost = measure_cost(f), few = log2(count + 1.0) + 3, all = few + 2.0 * count;
  fit->reason = measure_refusal(f, opt);
  if (fit->reason == NULL && cost * few > WORK_LIMIT)
    fit->reason = arena_printf(arena, "a run of the interpreter takes %.1e operations", cost);
  if (fit->reason != NULL || count == 0) return;
  t.samples = fit->samples =
      fit->samples > 0 ? fit->samples : measure_samples(opt, fmin(cost, WORK_LIMIT) * few, WORK_LIMIT);
  bool thorough = cost * all * t.samples <= WORK_LIMIT;
  for (uint32_t i = 0; i < n; i++) put(&layers[i], false);
  bool measured = keep_dense(&t);
  for (uint32_t i = 0; i < n; i++)
    if (layers[i].taken) put(&layers[i], true);
  if (measured) {
    take_some(&t, order, count, thorough);
  } else {
    fit->reason = "the interpreter refused the inputs";
  }
}
