// Quantisation after training: ranges of activations against brute force and closed forms, rules as text, rounding by
// moments against rounding one by one.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/elem.h"
#include "ir/text.h"
#include "passes/quantize/quantize.h"

static Tensor tensor_of(Arena *arena, int64_t n, double (*value)(int64_t i, int64_t n)) {
  TypeTable *types = type_table_new(arena, interner_new(arena));
  Tensor t = tensor_new(arena, type_tensor(types, DT_F32, 1, &n));
  for (int64_t i = 0; i < n; i++) elem_set_f(t.data, DT_F32, i, value(i, n));
  return t;
}

static double even(int64_t i, int64_t n) { return (double)(i + 1) / (double)n; }
static double growing(int64_t i, int64_t n) { return (i % 2 ? -1 : 1) * ldexp(1, (int)(20 * i / n) - 10); }
// Most values near zero, a few far away.
static double heavy(int64_t i, int64_t n) { return pow((double)(i + 1) / (double)n, 9) * 40; }

static ActivationStats stats_of(Arena *arena, int64_t n, double (*value)(int64_t i, int64_t n)) {
  ActivationStats s = activation_stats_new(arena);
  Tensor t = tensor_of(arena, n, value);
  activation_stats_add(&s, &t);
  return s;
}

Test(quantize, histogram_grows_without_losing_a_value) {
  Arena *arena = arena_new("test");
  ActivationStats s = stats_of(arena, 1000, growing);
  int64_t sum = 0;
  for (int64_t i = 0; i < 2 * STATS_SIDE; i++) sum += s.bins[i];
  cr_assert_eq(sum, 1000);
  cr_assert_eq(s.hi, 512);
  cr_assert_eq(s.lo, -512);
  int64_t far = s.bins[2 * STATS_SIDE - 1] + s.bins[STATS_SIDE + STATS_SIDE / 2];
  cr_assert_eq(far, 25, "of 512 there are %lld", (long long)far);
  arena_free(arena);
}

// S17: the steps of HWGQ, where all that is positive is at least one step; and those with a level of zero.
Test(quantize, steps_for_a_half_normal_distribution) {
  const double hwgq[] = {0.798, 0.539, 0.3215, 0.184}, rounded[] = {0, 0.651, 0.3535, 0.193};
  for (uint32_t bits = 1; bits <= 4; bits++) {
    cr_assert_float_eq(half_normal_step(bits, false), hwgq[bits - 1], 1e-3, "%u bits", bits);
    if (bits > 1) cr_assert_float_eq(half_normal_step(bits, true), rounded[bits - 1], 1e-3, "%u bits", bits);
  }
}

Test(quantize, ranges_by_scheme) {
  Arena *arena = arena_new("test");
  ActivationStats s = stats_of(arena, 10000, even);
  double lo, hi;
  activation_range(&s, activation_scheme_by_name("percentile"), 99, 8, &lo, &hi);
  cr_assert_eq(lo, 0);
  cr_assert_float_eq(hi, 0.99, 1e-3);
  activation_range(&s, activation_scheme_by_name("minmax"), 0, 8, &lo, &hi);
  cr_assert_eq(hi, 1);
  activation_range(&s, activation_scheme_by_name("dorefa"), 0, 2, &lo, &hi);
  cr_assert(lo == 0 && hi == 1);
  // An even distribution is clipped nowhere.
  activation_range(&s, activation_scheme_by_name("entropy"), 0, 8, &lo, &hi);
  cr_assert_gt(hi, 0.97);
  ActivationStats none = activation_stats_new(arena);
  activation_range(&none, activation_scheme_by_name("mse"), 0, 8, &lo, &hi);
  cr_assert_lt(lo, hi);
  arena_free(arena);
}

// The clip by mean squared error against all clips of a fine grid, and it does clip.
Test(quantize, mse_against_brute_force) {
  Arena *arena = arena_new("test");
  ActivationStats s = stats_of(arena, 20000, heavy);
  for (uint32_t bits = 2; bits <= 5; bits++) {
    double lo, hi, best = INFINITY;
    activation_range(&s, activation_scheme_by_name("mse"), 0, bits, &lo, &hi);
    for (int k = 1; k <= 2000; k++) best = fmin(best, activation_mse(&s, 0, 40.0 * k / 2000, bits));
    cr_assert_leq(activation_mse(&s, lo, hi, bits), best * 1.01, "%u bits", bits);
    cr_assert_lt(hi, 39, "%u bits", bits);
  }
  arena_free(arena);
}

Test(quantize, rules_read_back_as_they_are_written) {
  const char *const rules[] = {"w8a8",        "w4a8:percentile=99.5", "w3a4:minmax:nearest", "w8",
                               "w4a8:affine", "w2a8:weights=minmax",  "w8a8:force",          "float"};
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, NULL);
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
    QuantRule a, b;
    cr_assert(quant_rule_read(rules[i], diag, arena, &a), "%s", diag_text(diag));
    const char *text = quant_choice_text(&a.choice, arena);
    cr_assert(quant_rule_read(text, diag, arena, &b), "%s: %s", text, diag_text(diag));
    cr_assert_str_eq(quant_choice_text(&b.choice, arena), text);
    cr_assert_eq(a.choice.w.bits, b.choice.w.bits);
    cr_assert_eq(a.choice.x_bits, b.choice.x_bits);
    cr_assert_null(b.layers, "%s", text);
  }
  const char *const bad[] = {"w9", "a8", "w8a8b", "w8a9", "w8a8:minmax=1", "w8a8:percentile=200", "", "w1a8"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    QuantRule r;
    cr_assert_not(quant_rule_read(bad[i], diag, arena, &r), "%s", bad[i]);
  }
  arena_free(arena);
}

// Relative error of the network's results after quantize{rule}, on inputs that calibration has not seen.
static double loss(const char *rule) {
  static const char text[] =
      "const @w: f32[24,16] = rand(11)\nconst @m: f32[4,24] = rand(12)\n"
      "func @f(%a: f32[64,4]) -> f32[64,16] {\n%0 = matmul %a, @m : f32[64,24]\n%x = sigmoid %0 : f32[64,24]\n"
      "%1 = matmul %x, @w : f32[64,16]\nreturn %1\n}\n";
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, stderr);
  Module *m = parse_module(arena, diag, "text", text, sizeof text - 1), *q = NULL;
  q = parse_module(arena, diag, "text", text, sizeof text - 1);
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  cr_assert(pipeline_run(q, target_by_name("x86-64-v3"), rule, &opt, &run, arena, NULL));
  Tensor in = tensor_new(arena, m->funcs.at[0]->args[0]->type), want, got;
  uint64_t state = 77;
  for (int64_t i = 0; i < type_count(in.type); i++) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    elem_set_f(in.data, DT_F32, i, (double)(int64_t)(state >> 20) / 0x1p43 - 1);
  }
  cr_assert(eval_func(m->funcs.at[0], &in, &want, arena, NULL, NULL));
  cr_assert(eval_func(q->funcs.at[0], &in, &got, arena, NULL, NULL));
  double error = 0, norm = 0;
  for (int64_t i = 0; i < type_count(want.type); i++) {
    double a = elem_get_f(want.data, DT_F32, i), b = elem_get_f(got.data, DT_F32, i);
    error += (a - b) * (a - b);
    norm += a * a;
  }
  arena_free(arena);
  return sqrt(error / norm);
}

// 24 inputs that are functions of 4 numbers: what one weight loses, the others and the bias make up for.
Test(quantize, rounding_by_moments) {
  double nearest = loss("quantize{w3a8:all:nearest}"), moments = loss("quantize{w3a8:all}");
  cr_assert_lt(nearest, 0.5);
  cr_assert_lt(moments, nearest / 2, "%g by moments, %g one by one", moments, nearest);
  cr_assert_lt(loss("quantize{int8:all}"), 0.01);
}
