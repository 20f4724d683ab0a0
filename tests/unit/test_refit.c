// Channel pruning with refit: the solution obeys the normal equations, loses no more than plain removal, finds channels
// that others can stand for, and agrees with trying every choice.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/compress/linalg.h"
#include "passes/compress/moments.h"
#include "passes/compress/refit.h"

static uint64_t state = 77;
static double next(void) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(int64_t)(state >> 20) / 0x1p43 - 1;
}

enum { C = 6, T = 3, OUT = 5, K = C * T + 1, N = 400 };

typedef struct Case {
  Arena *arena;
  double x[N][K], g[K * K], w[K * OUT];
  Refit r;
} Case;

static Case *case_new(void) {
  Arena *arena = arena_new("test");
  Case *c = NEW(arena, Case);
  c->arena = arena;
  for (int i = 0; i < K * OUT; i++) c->w[i] = next();
  for (int n = 0; n < N; n++) {
    for (int k = 0; k < K; k++) c->x[n][k] = k == K - 1 ? 1 : next() + 0.3 + 0.5 * (k ? c->x[n][k - 1] : 0);
  }
  return c;
}

static void case_moments(Case *c) {
  memset(c->g, 0, sizeof c->g);
  for (int n = 0; n < N; n++)
    for (int i = 0; i < K; i++)
      for (int j = 0; j < K; j++) c->g[i * K + j] += c->x[n][i] * c->x[n][j];
  c->r = (Refit){C, T, OUT, c->g, c->w};
}

// The error over the samples themselves.
static double sampled(const Case *c, const double *v) {
  double sum = 0;
  for (int n = 0; n < N; n++)
    for (int o = 0; o < OUT; o++) {
      double d = 0;
      for (int k = 0; k < K; k++) d += (c->w[k * OUT + o] - v[k * OUT + o]) * c->x[n][k];
      sum += d * d;
    }
  return sum;
}

Test(refit, normal_equations_and_error) {
  Case *c = case_new();
  case_moments(c);
  double last = 0;
  for (int64_t drop = 1; drop < C; drop++) {
    bool gone[C];
    double v[K * OUT], error2, plain2;
    int64_t n = 0;
    cr_assert(refit_channels(&c->r, drop, gone, v, &error2, &plain2, c->arena));
    for (int k = 0; k < C; k++) n += gone[k];
    cr_assert(n == drop);
    cr_assert(error2 <= plain2 && error2 >= last, "%g after %g, plain %g", error2, last, plain2);
    cr_assert_float_eq(error2, sampled(c, v), 1e-8 * plain2);
    for (int i = 0; i < K; i++)
      for (int o = 0; o < OUT; o++) {
        double slope = 0;
        for (int j = 0; j < K; j++) slope += c->g[i * K + j] * (c->w[j * OUT + o] - v[j * OUT + o]);
        bool kept = i == K - 1 || !gone[i / T];
        if (kept) cr_assert(fabs(slope) < 1e-7 * c->g[i * K + i], "row %d: %g", i, slope);
        if (!kept) cr_assert(v[i * OUT + o] == 0);
      }
    last = error2;
  }
}

// The least error without channel `c`, by solving for the others.
static double without(const Case *c, int channel) {
  enum { S = K - T };
  double a[S * S], b[S * OUT], v[S * OUT], all[K * OUT] = {0};
  int at[S], n = 0;
  for (int i = 0; i < K; i++)
    if (i == K - 1 || i / T != channel) at[n++] = i;
  for (int i = 0; i < S; i++) {
    for (int j = 0; j < S; j++) a[i * S + j] = c->g[at[i] * K + at[j]];
    for (int o = 0; o < OUT; o++) {
      b[i * OUT + o] = 0;
      for (int j = 0; j < K; j++) b[i * OUT + o] += c->g[at[i] * K + j] * c->w[j * OUT + o];
    }
  }
  cr_assert(least_squares(S, S, OUT, a, b, 1e-12, v, c->arena));
  for (int i = 0; i < S; i++)
    for (int o = 0; o < OUT; o++) all[at[i] * OUT + o] = v[i * OUT + o];
  return sampled(c, all);
}

Test(refit, the_first_choice_is_the_best_one) {
  Case *c = case_new();
  case_moments(c);
  bool gone[C];
  double v[K * OUT], error2, plain2, best = INFINITY;
  cr_assert(refit_channels(&c->r, 1, gone, v, &error2, &plain2, c->arena));
  for (int channel = 0; channel < C; channel++) {
    double e = without(c, channel);
    if (gone[channel]) cr_assert_float_eq(e, error2, 1e-7 * e);
    best = fmin(best, e);
  }
  cr_assert_float_eq(error2, best, 1e-7 * best);
}

Test(refit, a_channel_that_others_repeat_costs_nothing) {
  Case *c = case_new();
  for (int n = 0; n < N; n++)
    for (int t = 0; t < T; t++) c->x[n][4 * T + t] = 2 * c->x[n][1 * T + t] - 0.5 * c->x[n][2 * T + t] + 0.25;
  case_moments(c);
  bool gone[C];
  double v[K * OUT], error2, plain2;
  cr_assert(refit_channels(&c->r, 1, gone, v, &error2, &plain2, c->arena));
  cr_assert(gone[1] || gone[2] || gone[4]);
  cr_assert(error2 < 1e-6 * plain2, "%g of %g", error2, plain2);
}

// The moments of a layer give the sum of squares of its results: strides, pads, dilation, one and two axes, dense.
static void moments_give_norm(const char *text) {
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, NULL);
  Module *m = parse_module(arena, diag, "test", text, strlen(text));
  cr_assert(m, "%s", diag_text(diag));
  Func *f = m->funcs.at[0];
  const Tensor *samples[2];
  double norm = 0;
  for (int n = 0; n < 2; n++) {
    Tensor x = tensor_new(arena, f->args[0]->type), y;
    for (int64_t i = 0; i < type_count(x.type); i++) elem_set_f(x.data, DT_F32, i, next());
    cr_assert(eval_func(f, &x, &y, arena, NULL, NULL));
    for (int64_t i = 0; i < type_count(y.type); i++) norm += pow(elem_get_f(y.data, DT_F32, i), 2);
    samples[n] = arena_copy(arena, &x, sizeof x);
  }
  PassOptions opt = pass_options_default();
  FactorLayer l;
  const char *why = "";
  cr_assert(layer_read(f->first, &l, arena, &why), "%s", why);
  cr_assert(layer_moments(&l, &opt, &why, arena) == NULL, "without samples");
  opt.samples = samples;
  opt.n_samples = 2;
  int64_t taps = layer_taps(&l), k = l.in * taps + 1;
  double *w = NEW_ARRAY(arena, double, k *l.out), *zero = NEW_ARRAY(arena, double, k *l.out);
  for (int64_t o = 0; o < l.out; o++)
    for (int64_t i = 0; i < k - 1; i++) w[i * l.out + o] = l.nd ? l.w[o * (k - 1) + i] : l.w[i * l.out + o];
  Refit r = {l.in, taps, l.out, layer_moments(&l, &opt, &why, arena), w};
  cr_assert(r.g, "%s", why);
  cr_assert_float_eq(refit_error2(&r, zero, arena), norm, 1e-5 * norm);
}

Test(refit, moments_of_layers) {
  moments_give_norm(
      "const @w: f32[4,3,3,2] = rand(1)\nfunc @f(%x: f32[2,3,7,6]) -> f32[2,4,3,6] {\n"
      "  %0 = conv %x, @w {strides = [2,1], pads = [0,1,1,1], dilations = [1,2]} : f32[2,4,3,6]\n  return %0\n}\n");
  moments_give_norm(
      "const @w: f32[2,5,3] = rand(2)\nfunc @f(%x: f32[1,5,9]) -> f32[1,2,4] {\n"
      "  %0 = conv %x, @w {strides = [2]} : f32[1,2,4]\n  return %0\n}\n");
  moments_give_norm(
      "const @w: f32[6,4] = rand(3)\nfunc @f(%x: f32[3,6]) -> f32[3,4] {\n"
      "  %0 = matmul %x, @w : f32[3,4]\n  return %0\n}\n");
}
