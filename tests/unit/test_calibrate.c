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
#include "passes/graph_util.h"

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

// Two layers, the first one replaced: the second one's form by what comes now is not worse than the form by what came
// before, and its distance from the dense results is what theory says.
static const char *const pairs[] = {
    "const @v: f64[12,14] = rand(7)\nconst @w: f64[14,10] = rand(8)\n"
    "func @f(%x: f64[40,12]) -> f64[40,10] {\n%0 = matmul %x, @v : f64[40,14]\n%1 = tanh %0 : f64[40,14]\n"
    "%2 = matmul %1, @w : f64[40,10]\nreturn %2\n}\n",
    "const @v: f64[6,4,3,3] = rand(5)\nconst @w: f64[8,6,3,3] = rand(6)\n"
    "func @f(%x: f64[2,4,9,7]) -> f64[2,8,9,7] {\n%0 = conv %x, @v {pads = [1,1,1,1]} : f64[2,6,9,7]\n"
    "%1 = relu %0 : f64[2,6,9,7]\n%2 = conv %1, @w {pads = [1,1,1,1]} : f64[2,8,9,7]\nreturn %2\n}\n",
};

static double mean_square(const Func *f, const Tensor *const *want, const PassOptions *opt, double rows, Arena *arena) {
  double sum = 0;
  for (uint32_t s = 0; s < opt->n_samples; s++) {
    Tensor out;
    cr_assert(eval_func((Func *)f, opt->samples[s], &out, arena, NULL, NULL));
    for (int64_t i = 0; i < type_count(out.type); i++) {
      double d = elem_get_f(out.data, DT_F64, i) - (want ? elem_get_f(want[s]->data, DT_F64, i) : 0);
      sum += d * d;
    }
  }
  return sum / rows;
}

static void replace_layer(const FactorLayer *l, const Form *f) {
  Op *op = (Op *)l->op;
  Value *y = form_emit(l, f, op, op_in(op, 0), op_in(op, 2));
  value_replace(op->out[0], y);
  op_unlink(op);
}

// The mean squared distance of the network's results with both layers of rank r.
static double pair_error(const char *text, int64_t r, bool behind) {
  Arena *arena = arena_new("test");
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", text, strlen(text));
  Func *f = m->funcs.at[0], *dense = func_clone(f, "dense");
  PassOptions opt = pass_options_default();
  Op *first = f->first, *last = f->last;
  opt.n_samples = 3;
  opt.samples = (const Tensor *const *)samples_of(f, 3, arena);
  Tensor **want = NEW_ARRAY(arena, Tensor *, 3);
  for (uint32_t s = 0; s < 3; s++) {
    want[s] = NEW(arena, Tensor);
    cr_assert(eval_func(dense, opt.samples[s], want[s], arena, NULL, NULL));
  }
  Calibration *c = calibration_of(f, &opt, arena);
  FactorAsk ask = {.by = ASK_RANK, .n_ranks = 1, .rank = {r}};
  FactorLayer l;
  const char *why;
  double rows = 0, before = 0, theory = 0;
  for (int i = 0; i < 2; i++) {
    Op *op = i ? last : first, *twin = i ? dense->last : dense->first;
    Forms got = {.arena = arena};
    cr_assert(layer_read(op, &l, arena, &why));
    l.stats = i && behind ? calibration_behind(c, &opt, dense, twin, f, op, arena) : calibration_stats(c, op);
    cr_assert(l.stats != NULL && (l.stats->cross != NULL) == (i && behind));
    scheme_by_name("responses")->run(&l, &ask, &got);
    cr_assert(got.list.n == 1, "%s", got.why);
    rows = (double)l.stats->samples;
    theory = got.list.at[0]->response2;
    replace_layer(&l, got.list.at[0]);
  }
  before = mean_square(dense, NULL, &opt, rows, arena);
  double error = mean_square(f, (const Tensor *const *)want, &opt, rows, arena);
  if (behind) cr_assert_float_eq(error, theory * before, 1e-9 * before, "rank %lld: %g", (long long)r, error);
  arena_free(arena);
  return error;
}

Test(calibrate, layers_behind_make_good) {
  for (uint32_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    double gained = 0;
    for (int64_t r = 1; r <= 7; r++) {
      double before = pair_error(pairs[i], r, false), now = pair_error(pairs[i], r, true);
      cr_assert(now <= before * (1 + 1e-5), "net %u, rank %lld: %g, %g by the inputs before", i, (long long)r, now,
                before);
      gained = fmax(gained, 1 - now / before);
    }
    cr_assert(gained > 0.02, "net %u: %g", i, gained);
  }
}

Test(calibrate, nothing_without_samples) {
  Arena *arena = arena_new("test");
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", nets[1], strlen(nets[1]));
  PassOptions opt = pass_options_default();
  cr_assert(calibration_of(m->funcs.at[0], &opt, arena) == NULL &&
            calibration_stats(NULL, m->funcs.at[0]->first) == NULL);
  arena_free(arena);
}
