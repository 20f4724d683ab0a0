// How far the network with factors is from the dense one (S40): both are run by the interpreter on the same inputs, and
// every factorised layer's result, and every result of the network, is compared.
//
// Beside every number stands its bound (bound.h). A layer's number is accumulated: it sees the inputs that the layers
// before it have already changed. Inputs are those of PassOptions, or seeded ones: floats uniform in [-1, 1), small
// whole numbers.
#include "passes/compress/measure.h"

#include <math.h>
#include <string.h>

#include "ir/base/map.h"
#include "ir/elem.h"
#include "passes/compress/bound.h"

// Operations of the interpreter for one run of each network; about ten seconds.
#define RUN_LIMIT 2e9
#define MOST_SAMPLES 4

typedef struct Sums {
  double error2, norm2, other2, dot, bound2;
} Sums;

// The results of one run: those of the layers and of the network, in order.
typedef struct Kept {
  Arena *arena;
  const Value *const *values;
  uint32_t n;
  Tensor *of;
  Map *by_op;  // op id + 1 -> index + 1
} Kept;

static void keep(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Kept *k = ctx;
  uintptr_t at = (uintptr_t)map_get(k->by_op, op->id + 1u);
  (void)in;
  if (at == 0) return;
  const Value *v = k->values[at - 1];
  size_t bytes = (size_t)type_bytes(v->type);
  k->of[at - 1] = (Tensor){v->type, arena_copy(k->arena, out[v->index].data, bytes)};
}

static bool run(Func *f, const Tensor *in, Kept *k, Arena *arena) {
  k->by_op = map_new(arena);
  for (uint32_t i = 0; i < k->n; i++)
    map_set(k->by_op, k->values[i]->op->id + 1u, (void *)(uintptr_t)(i + 1));  // a layer's op has one result
  Tensor *results = NEW_ARRAY(arena, Tensor, k->n + f->n_results + 1);
  if (!eval_func(f, in, results, arena, keep, k)) return false;
  for (uint32_t i = 0; i < f->n_results; i++) k->of[k->n + i] = results[i];
  return true;
}

static void sums_add(Sums *s, const Tensor *dense, const Tensor *now) {
  DType t = dense->type->dtype;
  int64_t n = type_count(dense->type);
  for (int64_t i = 0; i < n; i++) {
    double a = elem_get_f(dense->data, t, i), b = elem_get_f(now->data, t, i);
    s->error2 += (a - b) * (a - b);
    s->norm2 += a * a;
    s->other2 += b * b;
    s->dot += a * b;
  }
}

static double sums_error(const Sums *s) { return s->norm2 > 0 ? sqrt(s->error2 / s->norm2) : sqrt(s->error2); }

static double sums_bound(const Sums *s) { return s->norm2 > 0 ? sqrt(s->bound2 / s->norm2) : sqrt(s->bound2); }

static double sums_cosine(const Sums *s) {
  if (s->norm2 == 0 || s->other2 == 0) return s->norm2 == s->other2;
  return s->dot / sqrt(s->norm2 * s->other2);
}

static Tensor *seeded(const Func *f, uint32_t sample, Arena *arena) {
  Tensor *in = NEW_ARRAY(arena, Tensor, f->n_args + 1);
  uint64_t state = UINT64_C(0x9E3779B97F4A7C15) * (sample + 1);
  for (uint32_t i = 0; i < f->n_args; i++) {
    const Type *t = f->args[i]->type;
    in[i] = tensor_new(arena, t);
    for (int64_t k = 0; k < type_count(t); k++) {
      state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
      double x = (double)(int64_t)(state >> 11) / 0x1p52 - 1;
      elem_set_f(in[i].data, t->dtype, k, dtype_is_float(t->dtype) ? x : floor(fabs(x) * 2));
    }
  }
  return in;
}

const Tensor *measure_inputs(const Func *f, const PassOptions *opt, uint32_t sample, Arena *arena) {
  return opt->n_samples > 0 ? opt->samples[sample] : seeded(f, sample, arena);
}

double measure_cost(const Func *f) {
  double cost = 0;
  for (const Op *op = f->first; op != NULL; op = op->next) cost += (double)eval_cost(op);
  return cost;
}

const char *measure_refusal(const Func *f, const PassOptions *opt) {
  for (uint32_t i = 0; i < opt->n_samples; i++)
    for (uint32_t k = 0; k < f->n_args; k++)
      if (opt->samples[i][k].type != f->args[k]->type) return "the recorded inputs have other types";
  for (uint32_t i = 0; i < f->n_args; i++)
    if (!type_is_static(f->args[i]->type) || f->args[i]->type->dtype == DT_STR) return "inputs of unknown size";
  return NULL;
}

// The distances are at most: squares are added up as those that are measured are.
static bool sample_bound(const Measured *m, const Tensor *in, const FactorReport *report, Sums *sums, Arena *arena) {
  uint32_t all = m->n + m->dense->n_results;
  BoundLayer *layers = NEW_ARRAY(arena, BoundLayer, m->n + 1);
  double *bound = NEW_ARRAY(arena, double, all + 1);
  for (uint32_t i = 0; i < m->n; i++) {
    const Factored *f = &report->layers.at[m->layer[i]];
    layers[i] = (BoundLayer){m->before[i]->op, f->change, f->weights};
  }
  if (!bound_run(m->dense, in, m->n, layers, bound, arena)) return false;
  for (uint32_t i = 0; i < all; i++) sums[i].bound2 += bound[i] * bound[i];
  return true;
}

// One sample through both networks.
static bool sample_run(const Measured *m, const Tensor *in, const FactorReport *report, Sums *sums, Arena *arena) {
  uint32_t all = m->n + m->dense->n_results;
  Kept before = {arena, m->before, m->n, NEW_ARRAY(arena, Tensor, all + 1), NULL};
  Kept after = {arena, m->after, m->n, NEW_ARRAY(arena, Tensor, all + 1), NULL};
  if (!run(m->dense, in, &before, arena) || !run(m->now, in, &after, arena)) return false;
  for (uint32_t i = 0; i < all; i++)
    if (dtype_is_float(before.of[i].type->dtype)) sums_add(&sums[i], &before.of[i], &after.of[i]);
  return sample_bound(m, in, report, sums, arena);
}

static void write_sums(const Measured *m, const Sums *sums, FactorReport *report) {
  Sums whole = {0};
  for (uint32_t i = 0; i < m->n; i++) {
    Factored *f = &report->layers.at[m->layer[i]];
    f->reach_error = sums_error(&sums[i]);
    f->cosine = sums_cosine(&sums[i]);
    f->bound = sums_bound(&sums[i]);
  }
  for (uint32_t i = m->n; i < m->n + m->dense->n_results; i++) {
    whole.error2 += sums[i].error2;
    whole.norm2 += sums[i].norm2;
    whole.other2 += sums[i].other2;
    whole.dot += sums[i].dot;
    whole.bound2 += sums[i].bound2;
  }
  report->error = sums_error(&whole);
  report->cosine = sums_cosine(&whole);
  report->bound = sums_bound(&whole);
}

uint32_t measure_samples(const PassOptions *opt, double cost, double limit) {
  uint32_t most = (uint32_t)fmax(1, fmin(MOST_SAMPLES, limit / fmax(cost, 1)));
  return opt->n_samples > 0 && opt->n_samples < most ? opt->n_samples : most;
}

void factor_measure(const Measured *m, const PassOptions *opt, FactorReport *report) {
  double cost = measure_cost(m->dense) + measure_cost(m->now);
  report->unmeasured = measure_refusal(m->dense, opt);
  if (report->unmeasured == NULL && cost > 2 * RUN_LIMIT)
    report->unmeasured = arena_printf(report->arena, "a run of the interpreter takes %.1e operations", cost / 2);
  if (report->unmeasured != NULL) return;
  Arena *arena = arena_new("measure");
  uint32_t n = report->samples > 0 ? report->samples : measure_samples(opt, cost, 2 * RUN_LIMIT);
  Sums *sums = NEW_ARRAY(arena, Sums, m->n + m->dense->n_results + 1);
  for (uint32_t i = 0; i < n; i++) {
    Arena *scratch = arena_new("sample");
    const Tensor *in = measure_inputs(m->dense, opt, i, scratch);
    if (!sample_run(m, in, report, sums, scratch)) {
      report->unmeasured = "the interpreter refused the inputs";
      n = i;
    }
    arena_free(scratch);
  }
  report->samples = n;
  report->recorded = opt->n_samples > 0;
  if (n > 0) write_sums(m, sums, report);
  arena_free(arena);
}
