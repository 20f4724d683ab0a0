// Low rank by responses (S39): on the recorded inputs the mean squared error of the results is the sum of the
// eigenvalues left out, and no form by the weights alone does better there.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/compress/calibrate.h"
#include "passes/compress/scheme.h"

static const char *const nets[] = {
    "const @w: f64[8,4,3,3] = rand(5)\nconst @b: f64[8] = rand(6)\n"
    "func @f(%x: f64[2,4,9,7]) -> f64[2,8,5,4] {\n"
    "%0 = conv %x, @w, @b {strides = [2,2], pads = [1,1,1,1]} : f64[2,8,5,4]\nreturn %0\n}\n",
    "const @w: f64[12,10] = rand(3)\n"
    "func @f(%x: f64[40,12]) -> f64[40,10] {\n%0 = matmul %x, @w : f64[40,10]\nreturn %0\n}\n",
    "const @w: f64[9,4,5] = rand(10)\n"
    "func @f(%x: f64[2,4,17]) -> f64[2,9,6] {\n"
    "%0 = conv %x, @w {dilations = [2], pads = [1,1], strides = [2]} : f64[2,9,6]\nreturn %0\n}\n",
};

// Smooth inputs: neighbours are alike, as in pictures and hidden layers.
static Tensor **samples_of(const Func *f, uint32_t n, Arena *arena) {
  Tensor **all = NEW_ARRAY(arena, Tensor *, n);
  uint64_t state = 3;
  for (uint32_t s = 0; s < n; s++) {
    all[s] = NEW(arena, Tensor);
    *all[s] = tensor_new(arena, f->args[0]->type);
    double last = 0;
    for (int64_t i = 0; i < type_count(all[s]->type); i++) {
      state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
      last = 0.9 * last + (double)(int64_t)(state >> 20) / 0x1p43 - 1;
      elem_set_f(all[s]->data, DT_F64, i, last);
    }
  }
  return all;
}

// Squared distance of the results of the op and of the form, over all samples.
static double distance(const FactorLayer *l, const Form *f, const PassOptions *opt, Arena *arena) {
  Func *fn = l->op->func;
  double sum = 0;
  Value *dense = l->op->out[0], *y = form_emit(l, f, fn->last, op_in(l->op, 0), op_in(l->op, 2));
  func_set_results(fn, 2, (Value *[]){dense, y});
  for (uint32_t s = 0; s < opt->n_samples; s++) {
    Tensor out[2];
    cr_assert(eval_func(fn, opt->samples[s], out, arena, NULL, NULL));
    for (int64_t i = 0; i < type_count(y->type); i++) {
      double d = elem_get_f(out[0].data, DT_F64, i) - elem_get_f(out[1].data, DT_F64, i);
      sum += d * d;
    }
  }
  func_set_results(fn, 1, &dense);
  return sum;
}

static void check_net(const char *text) {
  Arena *arena = arena_new("test");
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", text, strlen(text));
  cr_assert(m != NULL, "%s", text);
  PassOptions opt = pass_options_default();
  opt.n_samples = 3;
  opt.samples = (const Tensor *const *)samples_of(m->funcs.at[0], 3, arena);
  FactorLayer l;
  const char *why;
  cr_assert(layer_read(m->funcs.at[0]->first, &l, arena, &why), "%s", why);
  Calibration *c = calibration_of(m->funcs.at[0], &opt, arena);
  l.stats = calibration_stats(c, l.op);
  cr_assert(l.stats != NULL);
  double rows = (double)l.stats->samples;
  for (int64_t r = 1; r < l.out; r += 2) {
    FactorAsk ask = {.by = ASK_RANK, .n_ranks = 1, .rank = {r}};
    Forms by_data = {.arena = arena}, by_weights = {.arena = arena};
    scheme_by_name("responses")->run(&l, &ask, &by_data);
    scheme_by_name(l.nd ? "spatial_then_point" : "svd")->run(&l, &ask, &by_weights);
    cr_assert(by_data.list.n == 1 && by_weights.list.n == 1);
    double mean2 = 0, got = distance(&l, by_data.list.at[0], &opt, arena) / rows;
    for (int64_t i = 0; i < l.out; i++) {  // trace of W S W'
      int64_t k = l.n_w / l.out;
      for (int64_t p = 0; p < k; p++)
        for (int64_t q = 0; q < k; q++) {
          double a = l.nd ? l.w[i * k + p] : l.w[p * l.out + i], b = l.nd ? l.w[i * k + q] : l.w[q * l.out + i];
          mean2 += a * b * l.stats->covariance[p * k + q];
        }
    }
    double theory = by_data.list.at[0]->response2 * mean2;
    cr_assert_float_eq(got, theory, 1e-9 * mean2, "rank %lld: %g, by theory %g\n%s", (long long)r, got, theory, text);
    double other = distance(&l, by_weights.list.at[0], &opt, arena) / rows;
    cr_assert(got <= other * (1 + 1e-9), "rank %lld: %g by responses, %g by weights", (long long)r, got, other);
  }
  arena_free(arena);
}

Test(calibrate, error_is_the_eigenvalues_left_out) {
  for (uint32_t i = 0; i < sizeof nets / sizeof *nets; i++) check_net(nets[i]);
}

Test(calibrate, nothing_without_samples) {
  Arena *arena = arena_new("test");
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", nets[1], strlen(nets[1]));
  PassOptions opt = pass_options_default();
  cr_assert(calibration_of(m->funcs.at[0], &opt, arena) == NULL &&
            calibration_stats(NULL, m->funcs.at[0]->first) == NULL);
  arena_free(arena);
}
