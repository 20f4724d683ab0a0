// Weight schemes: bounds, optima against brute force on small cases, closed forms, and what takes the weights' place.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/eval.h"
#include "passes/quantize/weights.h"

enum { MAX = 1 << 16 };

static Arena *arena;
static void setup(void) { arena = arena_new("test"); }
TestSuite(weights, .init = setup);

static double uniform(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return ((double)(*state >> 11) + 0.5) / 9007199254740992.0;
}

static double gaussian(uint64_t *state) {
  double r = sqrt(-2 * log(uniform(state)));
  return r * cos(6.283185307179586 * uniform(state));
}

static float *gaussians(int64_t n, uint64_t seed) {
  float *w = NEW_ARRAY(arena, float, n);
  for (int64_t i = 0; i < n; i++) w[i] = (float)gaussian(&seed);
  return w;
}

static WeightSpec spec(const char *text) {
  WeightSpec s;
  const char *rest;
  cr_assert(weight_spec_read(text, "--test", diag_new(arena, NULL), &s, &rest) && *rest == 0, "%s", text);
  return s;
}

static WeightFit fit(const char *text, const float *w, int64_t channels, int64_t per) {
  WeightSpec s = spec(text);
  WeightFit f;
  const char *why = "";
  cr_assert(weights_fit_floats(w, channels, per, &s, NULL, arena, &f, &why), "%s: %s", text, why);
  return f;
}

static double error2(const WeightFit *f) {
  double sum = 0;
  for (int64_t i = 0; i < f->n; i++) sum += pow((double)f->from[i] - (double)f->value[i], 2);
  return sum;
}

// ---- grids

Test(weights, grids_miss_by_half_a_step_at_most) {
  for (uint64_t seed = 1; seed < 40; seed++) {
    float *w = gaussians(60, seed);
    if (seed % 3 == 0)
      for (int i = 0; i < 60; i++) w[i] = fabsf(w[i]) + 0.25f;
    if (seed % 5 == 0) w[7] = 1e6f;
    for (uint32_t bits = 2; bits <= 8; bits++)
      for (uint32_t i = 0; i < 2; i++) {
        const char *text = arena_printf(arena, "%s:bits=%u:channel", i ? "affine" : "symmetric", bits);
        WeightFit f = fit(text, w, 3, 20);
        for (int c = 0; c < 3; c++)
          for (int k = 0; k < 20; k++) {
            double step = (double)f.group[c].scale, miss = fabs((double)w[20 * c + k] - (double)f.value[20 * c + k]);
            cr_assert(miss <= step * 0.5000001, "%s: %g of a step %g", text, miss, step);
          }
        cr_assert(f.stats.levels <= 1U << bits && f.n_groups == 3);
      }
  }
}

Test(weights, minmax_keeps_the_ends_and_is_idempotent) {
  for (uint32_t bits = 1; bits <= 8; bits++) {
    float *w = gaussians(500, bits);
    const char *text = arena_printf(arena, "minmax:bits=%u", bits);
    WeightFit f = fit(text, w, 1, 500), again = fit(text, f.value, 1, 500);
    double low = 0, high = 0;
    for (int i = 0; i < 500; i++) {
      low = fmin(low, (double)w[i]);
      high = fmax(high, (double)w[i]);
    }
    cr_assert(f.stats.largest <= (high - low) / (2 * (pow(2, bits) - 1)) * 1.000001);
    cr_assert(memcmp(f.value, again.value, 500 * sizeof(float)) == 0);
    for (int i = 0; i < 500; i++)
      for (int k = 0; k < 500; k++) cr_assert(w[i] > w[k] || f.value[i] <= f.value[k]);
  }
}

Test(weights, equal_weights_come_back) {
  float same[8] = {0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f}, none[8] = {0};
  cr_assert(fit("minmax:bits=3", same, 1, 8).stats.largest == 0);
  for (uint32_t i = 0; i < weight_scheme_count(); i++) {
    WeightFit f = fit(weight_scheme_at(i)->name, none, 2, 4);
    cr_assert(f.stats.largest == 0 && f.stats.cosine == 1, "%s", weight_scheme_at(i)->name);
  }
}

Test(weights, clipping_loses_least_of_all_ranges) {
  float *w = gaussians(300, 5);
  w[3] = 9;
  for (uint32_t bits = 2; bits <= 8; bits++) {
    WeightFit all = fit(arena_printf(arena, "symmetric:bits=%u", bits), w, 1, 300);
    WeightFit clip = fit(arena_printf(arena, "symmetric:bits=%u:clip", bits), w, 1, 300);
    double most = pow(2, bits - 1) - 1, least = INFINITY;
    for (int i = 1; i <= 20000; i++) {
      double s = 9.0 / most * i / 20000, sum = 0;
      for (int k = 0; k < 300; k++)
        sum += pow((double)w[k] - s * fmin(fmax(nearbyint((double)w[k] / s), -most), most), 2);
      least = fmin(least, sum);
    }
    cr_assert(error2(&clip) <= error2(&all));
    cr_assert(error2(&clip) <= least * 1.01, "%u bits: %g, brute force %g", bits, error2(&clip), least);
  }
}

// ---- in the graph

static void check_emitted(const char *text, uint32_t rank, const int64_t *dims, uint32_t axis, bool ints) {
  Module *m = module_new(arena, diag_new(arena, NULL));
  const Type *t = type_tensor(m->types, DT_F32, rank, dims);
  Func *f = func_new(m, "f", 1, &t);
  float *w = gaussians(type_count(t), 3);
  Value *c = const_bytes(m, t, w, "w");
  Op *op = op_new(f, NULL, OP_ADD, 2, (Value *[]){f->args[0], c}, NULL);
  WeightSpec s = spec(text);
  WeightFit fit;
  const char *why = "";
  cr_assert(weights_fit_scheme(m, c, axis, &s, NULL, arena, &fit, &why), "%s: %s", text, why);
  Value *now = weights_emit(op, &fit);
  cr_assert((now->kind == VALUE_RESULT) == ints, "%s", text);
  cr_assert(now->type == t);
  const float *v = value_is_const(now) ? const_data(m, now->constant) : NULL;
  if (ints) {
    Tensor in[3] = {{0}}, out = {0};
    for (uint32_t i = 0; i < now->op->n_in; i++) in[i] = tensor_of_const(m, op_in(now->op, i)->constant);
    cr_assert(eval_op(now->op, in, &out, arena));
    v = out.data;
  }
  cr_assert(memcmp(v, fit.value, (size_t)type_bytes(t)) == 0, "%s", text);
}

Test(weights, what_is_emitted_is_what_was_fitted) {
  int64_t conv[4] = {6, 4, 3, 3}, matrix[2] = {12, 5}, turned[2] = {5, 12}, up[4] = {4, 6, 2, 2};
  for (uint32_t i = 0; i < 2; i++) {
    const char *name = i ? "affine" : "symmetric";
    check_emitted(arena_printf(arena, "%s:bits=5", name), 4, conv, 0, true);
    check_emitted(arena_printf(arena, "%s:bits=5:channel", name), 4, conv, 0, true);
    check_emitted(arena_printf(arena, "%s:bits=8:channel", name), 4, up, 1, true);
    check_emitted(arena_printf(arena, "%s:bits=3:channel", name), 2, matrix, 1, true);
    check_emitted(arena_printf(arena, "%s:bits=4:block=4", name), 2, matrix, 1, true);
    check_emitted(arena_printf(arena, "%s:bits=4:block=6", name), 2, turned, 0, true);
    check_emitted(arena_printf(arena, "%s:bits=4:block=18", name), 4, conv, 0, false);
  }
  check_emitted("minmax:bits=4:channel", 2, matrix, 1, false);
}

// ---- text

Test(weights, specs_are_read_up_to_what_is_not_theirs) {
  WeightSpec s;
  const char *rest;
  Diag *diag = diag_new(arena, NULL);
  cr_assert(weight_spec_read("affine:bits=3:block=32:clip:conv*:x", "--test", diag, &s, &rest));
  cr_assert_str_eq(rest, "conv*:x");
  cr_assert(s.bits == 3 && s.grain == GRAIN_BLOCK && s.block == 32 && s.clip && !s.zeros);
  cr_assert_str_eq(weight_spec_text(&s, arena), "affine, 3 bits, per block of 32, clipped");
  cr_assert(!weight_spec_read("affine:bits=9", "--test", diag, &s, &rest));
  cr_assert(!weight_spec_read("nothing", "--test", diag, &s, &rest));
}
