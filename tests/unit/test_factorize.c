// The factoring engine on planted weights: for every scheme and form the error by theory (tails of singular values) is
// the distance between the weights and what the factors give back, and the ops of the form compute what the op computes
// with those weights: strides, pads, dilations, groups, one to three axes.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/graph_util.h"
#include "passes/compress/factorize.h"

static uint64_t state = 1;
static double next(void) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(int64_t)(state >> 20) / 0x1p43 - 1;
}

typedef struct Case {
  Arena *arena;
  Module *m;
  Op *op;
  FactorLayer layer;
} Case;

static void case_open(Case *c, const char *text) {
  const char *why = "";
  *c = (Case){.arena = arena_new("test")};
  Diag *diag = diag_new(c->arena, NULL);
  c->m = parse_module(c->arena, diag, "test", text, strlen(text));
  cr_assert(c->m != NULL, "%s", diag_text(diag));
  c->op = c->m->funcs.at[0]->first;
  cr_assert(layer_read(c->op, &c->layer, c->arena, &why), "%s", why);
  // Recorded inputs without any direction of their own: errors of responses are those of weights.
  int64_t n = c->layer.n_w / c->layer.out;
  double *one = NEW_ARRAY(c->arena, double, n *n);
  for (int64_t i = 0; i < n; i++) one[i * n + i] = 1;
  FactorStats *stats = NEW(c->arena, FactorStats);
  *stats = (FactorStats){.samples = 1000, .covariance = one};
  c->layer.stats = stats;
}

// The same layer with other weights.
static void case_weights(Case *c, const double *w) {
  c->layer.w = w;
  c->layer.norm2 = sum_of_squares(c->layer.n_w, w);
}

static Forms forms_of(Case *c, const char *scheme, const FactorAsk *ask) {
  Forms out = {.arena = c->arena};
  scheme_by_name(scheme)->run(&c->layer, ask, &out);
  return out;
}

// Error by theory against the weights given back; returns the relative error.
static double check_error(Case *c, const Form *f, const char *text) {
  const FactorLayer *l = &c->layer;
  double *w = NEW_ARRAY(c->arena, double, l->n_w), norm = sqrt(l->norm2);
  f->rebuild(l, f, w, c->arena);
  double theory = sqrt(fmax(f->error2, 0)), measured = sqrt(squared_distance(l->n_w, w, l->w));
  cr_assert(fabs(theory - measured) <= 1e-5 * theory + 1e-12 * (norm + 1), "%s: %s: theory %.9g, measured %.9g", text,
            form_text(c->arena, f), theory, measured);
  return norm > 0 ? measured / norm : measured;
}

// The ops of the form against the op with the weights given back, and the MACs counted against the ops.
static void check_ops(Case *c, const Form *f, const char *text) {
  const FactorLayer *l = &c->layer;
  Op *op = c->op;
  double *w = NEW_ARRAY(c->arena, double, l->n_w), *turned = NEW_ARRAY(c->arena, double, l->n_w);
  bool turn = op->kind == OP_MATMUL && op_bool(op, A_MATMUL_trans_b);
  f->rebuild(l, f, w, c->arena);
  for (int64_t i = 0; i < l->n_w; i++) turned[turn ? i % l->out * l->in + i / l->out : i] = w[i];
  Func *fn = op->func;
  Value *y = form_emit(l, f, op, op_in(op, 0), op_in(op, 2));
  op_set_operand(op, 1, const_of_doubles(c->m, op_in(op, 1)->type, turned, "rebuilt"));
  func_set_results(fn, 2, (Value *[]){op->out[0], y});
  cr_assert(y->type == op->out[0]->type, "%s: %s: another type", text, form_text(c->arena, f));
  Tensor x = tensor_new(c->arena, fn->args[0]->type), out[2];
  for (int64_t i = 0; i < type_count(x.type); i++) elem_set_f(x.data, x.type->dtype, i, next());
  cr_assert(eval_func(fn, &x, out, c->arena, NULL, NULL));
  double most = 1e-300, worst = 0;
  for (int64_t i = 0; i < type_count(y->type); i++) {
    double a = elem_get_f(out[0].data, DT_F64, i), b = elem_get_f(out[1].data, DT_F64, i);
    most = fmax(most, fabs(a));
    worst = fmax(worst, fabs(a - b));
  }
  cr_assert(worst <= 1e-11 * most, "%s: %s: results differ by %g of %g", text, form_text(c->arena, f), worst, most);
  func_set_results(fn, 1, (Value *[]){op->out[0]});
}

static const char *const layers[] = {
    "const @w: f64[13,7] = rand(1)\nconst @b: f64[7] = rand(2)\n"
    "func @f(%x: f64[3,13]) -> f64[3,7] {\n%0 = matmul %x, @w, @b : f64[3,7]\nreturn %0\n}\n",
    "const @w: f64[12,20] = rand(3)\n"
    "func @f(%x: f64[2,2,20]) -> f64[2,2,12] {\n%0 = matmul %x, @w {trans_b = true} : f64[2,2,12]\nreturn %0\n}\n",
    "const @w: f64[24,36] = rand(4)\nconst @b: f64[36] = rand(2)\n"
    "func @f(%x: f64[1,24]) -> f64[1,36] {\n%0 = matmul %x, @w, @b : f64[1,36]\nreturn %0\n}\n",
    "const @w: f64[8,6,3,3] = rand(5)\nconst @b: f64[8] = rand(6)\n"
    "func @f(%x: f64[2,6,9,7]) -> f64[2,8,5,4] {\n"
    "%0 = conv %x, @w, @b {strides = [2,2], pads = [1,1,1,1]} : f64[2,8,5,4]\nreturn %0\n}\n",
    "const @w: f64[7,5,4,3] = rand(7)\n"
    "func @f(%x: f64[1,5,11,9]) -> f64[1,7,4,4] {\n"
    "%0 = conv %x, @w {strides = [3,1], pads = [2,0,0,1], dilations = [1,3]} : f64[1,7,4,4]\nreturn %0\n}\n",
    "const @w: f64[8,3,3,5] = rand(8)\nconst @b: f64[8] = rand(9)\n"
    "func @f(%x: f64[1,6,6,8]) -> f64[1,8,6,8] {\n"
    "%0 = conv %x, @w, @b {group = 2, pads = [1,2,1,2]} : f64[1,8,6,8]\nreturn %0\n}\n",
    "const @w: f64[9,4,5] = rand(10)\nconst @b: f64[9] = rand(9)\n"
    "func @f(%x: f64[2,4,17]) -> f64[2,9,8] {\n"
    "%0 = conv %x, @w, @b {strides = [2], pads = [1,1]} : f64[2,9,8]\nreturn %0\n}\n",
    "const @w: f64[6,4,3,2,3] = rand(11)\n"
    "func @f(%x: f64[1,4,5,5,5]) -> f64[1,6,3,4,5] {\n"
    "%0 = conv %x, @w {pads = [0,0,1,0,0,1]} : f64[1,6,3,4,5]\nreturn %0\n}\n",
    "const @w: f64[16,8,1,1] = rand(12)\nconst @b: f64[16] = rand(9)\n"
    "func @f(%x: f64[1,8,4,4]) -> f64[1,16,2,2] {\n"
    "%0 = conv %x, @w, @b {strides = [2,2]} : f64[1,16,2,2]\nreturn %0\n}\n",
    "const @w: f64[12,1,3,3] = rand(13)\n"
    "func @f(%x: f64[1,6,5,5]) -> f64[1,12,5,5] {\n"
    "%0 = conv %x, @w {group = 6, pads = [1,1,1,1]} : f64[1,12,5,5]\nreturn %0\n}\n",
};
enum { N_LAYERS = sizeof layers / sizeof *layers };

static const FactorAsk asks[] = {
    {.by = ASK_RANK, .n_ranks = 1, .rank = {1}},
    {.by = ASK_RANK, .n_ranks = 2, .rank = {3, 2}},
    {.by = ASK_RANK, .n_ranks = 1, .rank = {1000}},
    {.by = ASK_ENERGY, .value = 0.8, .lanes = 4},
    {.by = ASK_ERROR, .value = 0.3},
};
enum { N_ASKS = sizeof asks / sizeof *asks };

Test(factorize, error_is_theory_and_ops_are_the_weights) {
  for (uint32_t s = 0; s < scheme_count(); s++) {
    uint32_t forms = 0;
    for (uint32_t i = 0; i < N_LAYERS; i++)
      for (uint32_t a = 0; a < N_ASKS; a++) {
        Case c;
        case_open(&c, layers[i]);
        Forms got = forms_of(&c, scheme_at(s)->name, &asks[a]);
        cr_assert(got.list.n > 0 || got.why != NULL, "%s says nothing", scheme_at(s)->name);
        for (uint32_t k = 0; k < got.list.n; k++) {
          const Form *f = got.list.at[k];
          double error = check_error(&c, f, layers[i]);
          if (asks[a].by == ASK_ERROR) cr_assert(error <= 0.3 * (1 + 1e-9), "%s: %g", form_text(c.arena, f), error);
          if (asks[a].by == ASK_ENERGY) cr_assert(error * error <= 0.2 * (1 + 1e-9));
          check_ops(&c, f, layers[i]);
          forms++;
        }
        arena_free(c.arena);
      }
    cr_assert(forms > 0, "no layer fits %s", scheme_at(s)->name);
  }
}

// Every rank there is reproduces the weights.
Test(factorize, full_rank_is_exact) {
  for (uint32_t s = 0; s < scheme_count(); s++)
    for (uint32_t i = 0; i < N_LAYERS; i++) {
      Case c;
      case_open(&c, layers[i]);
      Forms got = forms_of(&c, scheme_at(s)->name, &asks[2]);
      for (uint32_t k = 0; k < got.list.n; k++)
        cr_assert(check_error(&c, got.list.at[k], layers[i]) < 1e-12, "%s", form_text(c.arena, got.list.at[k]));
      arena_free(c.arena);
    }
}

Test(factorize, zero_weights) {
  for (uint32_t s = 0; s < scheme_count(); s++)
    for (uint32_t i = 0; i < N_LAYERS; i++)
      for (uint32_t a = 0; a < N_ASKS; a++) {
        Case c;
        case_open(&c, layers[i]);
        case_weights(&c, NEW_ARRAY(c.arena, double, c.layer.n_w));
        Forms got = forms_of(&c, scheme_at(s)->name, &asks[a]);
        for (uint32_t k = 0; k < got.list.n; k++) cr_assert(check_error(&c, got.list.at[k], layers[i]) == 0);
        arena_free(c.arena);
      }
}

// ---- planted structure

static double *random_matrix(Arena *arena, int64_t n) {
  double *a = NEW_ARRAY(arena, double, n);
  for (int64_t i = 0; i < n; i++) a[i] = next();
  return a;
}

Test(factorize, planted_rank) {
  Case c;
  case_open(&c, layers[2]);
  for (int64_t r = 1; r <= 5; r++) {
    double *w = NEW_ARRAY(c.arena, double, 24 * 36);
    matrix_mul(24, 36, r, random_matrix(c.arena, 24 * r), random_matrix(c.arena, r * 36), w);
    case_weights(&c, w);
    Forms got = forms_of(&c, "svd", &(FactorAsk){.by = ASK_ERROR, .value = 1e-9});
    cr_assert(got.list.n == 1 && got.list.at[0]->ranks[0] == r, "rank %lld planted", (long long)r);
    cr_assert(form_parameters(got.list.at[0]) == r * (24 + 36));
  }
  arena_free(c.arena);
}

// Three equal singular values: any basis will do, the tail is the same.
Test(factorize, repeated_singular_values) {
  Case c;
  case_open(&c, layers[2]);
  double *w = NEW_ARRAY(c.arena, double, 24 * 36);
  for (int64_t i = 0; i < 24; i++) w[i * 36 + i] = i < 3 ? 2 : 1;
  case_weights(&c, w);
  Forms got = forms_of(&c, "svd", &(FactorAsk){.by = ASK_RANK, .n_ranks = 1, .rank = {2}});
  cr_assert_float_eq(got.list.at[0]->error2, 4 + 21, 1e-12);
  check_error(&c, got.list.at[0], "repeated");
  arena_free(c.arena);
}

Test(factorize, not_finite) {
  Arena *arena = arena_new("test");
  const char *text =
                 "const @w: f32[2,2] = [nan, 1, 2, 3]\nfunc @f(%x: f32[1,2]) -> f32[1,2] {\n"
                 "%0 = matmul %x, @w : f32[1,2]\nreturn %0\n}\n",
             *why = NULL;
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", text, strlen(text));
  FactorLayer l;
  cr_assert(m != NULL && !layer_read(m->funcs.at[0]->first, &l, arena, &why) && strstr(why, "finite") != NULL);
  arena_free(arena);
}

Test(factorize, too_large) {
  Arena *arena = arena_new("test");
  Forms out = {.arena = arena};
  Svd d;
  cr_assert(!scheme_svd_of(25088, 4096, NULL, &out, &d));
  cr_assert(out.why != NULL && strstr(out.why, "25088 x 4096") != NULL);
  arena_free(arena);
}

// ---- every split and shape

static void check_all(const char *text, const char *scheme, const FactorAsk *ask, uint32_t least) {
  Case c;
  case_open(&c, text);
  Forms got = forms_of(&c, scheme, ask);
  cr_assert(got.list.n >= least, "%s: %u forms: %s", scheme, got.list.n, got.why ? got.why : "");
  for (uint32_t k = 0; k < got.list.n; k++) {
    check_error(&c, got.list.at[k], text);
    check_ops(&c, got.list.at[k], text);
  }
  arena_free(c.arena);
}

Test(factorize, every_kronecker_shape) {
  for (int64_t n1 = 1; n1 <= 24; n1++)
    for (int64_t m1 = 1; m1 <= 36; m1++) {
      FactorAsk ask = {.by = ASK_RANK, .n_ranks = 1, .rank = {2}, .n_in = 2, .n_out = 2};
      if (24 % n1 != 0 || 36 % m1 != 0) continue;
      memcpy(ask.in, (int64_t[]){n1, 24 / n1}, sizeof(int64_t[2]));
      memcpy(ask.out, (int64_t[]){m1, 36 / m1}, sizeof(int64_t[2]));
      check_all(layers[2], "kron", &ask, 1);
    }
}

Test(factorize, every_split_of_channels_and_axes) {
  static const struct {
    uint32_t layer;
    int64_t in, out;
  } of[] = {{3, 6, 8}, {6, 4, 9}, {7, 4, 6}};
  for (size_t i = 0; i < sizeof of / sizeof *of; i++)
    for (int64_t c1 = 1; c1 <= of[i].in; c1++)
      for (int64_t k1 = 1; k1 <= of[i].out; k1++) {
        FactorAsk ask = {.by = ASK_RANK, .n_ranks = 1, .rank = {2}, .n_in = 2, .n_out = 2};
        if (of[i].in % c1 != 0 || of[i].out % k1 != 0) continue;
        memcpy(ask.in, (int64_t[]){c1, of[i].in / c1}, sizeof(int64_t[2]));
        memcpy(ask.out, (int64_t[]){k1, of[i].out / k1}, sizeof(int64_t[2]));
        check_all(layers[of[i].layer], "kconv", &ask, 2);
      }
}

Test(factorize, modes_of_trains) {
  static const FactorAsk of[] = {
      {.by = ASK_RANK, .n_ranks = 3, .rank = {2, 3, 4}, .n_in = 4, .n_out = 4, .in = {2, 3, 2, 2}, .out = {3, 2, 2, 3}},
      {.by = ASK_RANK, .n_ranks = 1, .rank = {3}, .n_in = 3, .n_out = 3, .in = {24, 1, 1}, .out = {1, 6, 6}},
      {.by = ASK_ERROR, .value = 0.5, .n_in = 2, .n_out = 2, .in = {1, 24}, .out = {36, 1}},
      {.by = ASK_ERROR, .value = 0.5, .n_in = 5, .n_out = 5, .in = {2, 2, 1, 3, 2}, .out = {3, 1, 4, 3, 1}},
  };
  for (size_t i = 0; i < sizeof of / sizeof *of; i++) check_all(layers[2], "tt", &of[i], 1);
}

Test(factorize, two_axes_of_a_chain_are_separable) {
  Case c;
  case_open(&c, layers[3]);
  Forms a = forms_of(&c, "chain_nd", &asks[1]), b = forms_of(&c, "separable", &asks[1]);
  cr_assert(a.list.n == 1 && b.list.n == 2 && a.list.at[0]->error2 == b.list.at[0]->error2);
  arena_free(c.arena);
}

Test(factorize, planted_kronecker_rank) {
  Case c;
  case_open(&c, layers[2]);
  double *u = random_matrix(c.arena, 12 * 2), *v = random_matrix(c.arena, 2 * 72), *w = NEW_ARRAY(c.arena, double, 864);
  double *r = NEW_ARRAY(c.arena, double, 864);
  matrix_mul(12, 72, 2, u, v, r);  // rows (4 x 3), columns (6 x 12)
  tensor_permute(4, (int64_t[]){4, 3, 6, 12}, (uint32_t[]){0, 2, 1, 3}, r, w);
  case_weights(&c, w);
  Forms got = forms_of(&c, "kron", &(FactorAsk){.by = ASK_ERROR, .value = 1e-9});
  bool found = false;
  for (uint32_t i = 0; i < got.list.n; i++)
    found = found || (got.list.at[i]->ranks[0] == 2 && strcmp(got.list.at[i]->shape, " 4x6/3x12") == 0);
  cr_assert(found);
  arena_free(c.arena);
}

Test(factorize, planted_train_ranks) {
  Case c;
  case_open(&c, layers[2]);
  Train t = {.d = 3, .n = {2 * 3, 3 * 4, 4 * 3}, .r = {1, 3, 2, 1}};
  double *a = NEW_ARRAY(c.arena, double, 864), *w = NEW_ARRAY(c.arena, double, 864);
  for (uint32_t k = 0; k < 3; k++) t.core[k] = random_matrix(c.arena, t.r[k] * t.n[k] * t.r[k + 1]);
  train_tensor(&t, a, c.arena);  // n1 m1 n2 m2 n3 m3
  tensor_permute(6, (int64_t[]){2, 3, 3, 4, 4, 3}, (uint32_t[]){0, 2, 4, 1, 3, 5}, a, w);
  case_weights(&c, w);
  Forms got = forms_of(
      &c, "tt", &(FactorAsk){.by = ASK_ERROR, .value = 1e-9, .n_in = 3, .n_out = 3, .in = {2, 3, 4}, .out = {3, 4, 3}});
  cr_assert(got.list.n == 1 && got.list.at[0]->ranks[0] == 3 && got.list.at[0]->ranks[1] == 2);
  cr_assert(form_parameters(got.list.at[0]) == 6 * 3 + 3 * 12 * 2 + 2 * 12);
  arena_free(c.arena);
}

// Weights made of a form's own factors, where these are fewer, of each scheme on each layer, are taken apart into as
// few parameters again, with nothing lost. Components of cp are found from their start or not: test_cp.c holds them to
// what was planted.
static void check_plant(const char *text, const Scheme *scheme) {
  Case c;
  case_open(&c, text);
  Forms planted = forms_of(&c, scheme->name, &asks[1]);
  for (uint32_t k = 0; k < planted.list.n; k++) {
    const Form *f = planted.list.at[k];
    double *w = NEW_ARRAY(c.arena, double, c.layer.n_w);
    if (form_parameters(f) >= c.layer.n_w || form_macs(&c.layer, f) >= layer_macs(&c.layer)) continue;
    f->rebuild(&c.layer, f, w, c.arena);
    Case again;
    case_open(&again, text);
    case_weights(&again, w);
    FactorAsk ask = {.by = ASK_ERROR, .value = 1e-6};
    Forms got = forms_of(&again, scheme->name, &ask);
    bool found = false;
    for (uint32_t i = 0; i < got.list.n; i++) {
      const Form *g = got.list.at[i];
      double error = check_error(&again, g, text);
      found = found || (error <= 1e-6 * (1 + 1e-9) && form_parameters(g) <= form_parameters(f));
    }
    cr_assert(found, "%s: %s, %lld parameters, of %s: %s", text, form_text(c.arena, f), (long long)form_parameters(f),
              got.list.n ? form_text(again.arena, got.list.at[0]) : "none", got.why ? got.why : "");
    arena_free(again.arena);
  }
  arena_free(c.arena);
}

Test(factorize, planted_forms_of_every_scheme) {
  for (uint32_t s = 0; s < scheme_count(); s++)
    for (uint32_t i = 0; i < N_LAYERS && strncmp(scheme_at(s)->name, "cp", 2) != 0; i++)
      check_plant(layers[i], scheme_at(s));
}

// A price that must not be exceeded is kept by the form, and keeps a scheme from fitting what it forbids.
Test(factorize, gate_of_components) {
  Case c;
  case_open(&c, layers[3]);
  const Target *t = target_by_name("zen4");
  FactorGate gate = {.target = t, .by_size = true, .most = 8 * (8 * (6 + 9 + 8))};
  FactorAsk ask = {.by = ASK_ERROR, .value = 0.7, .gate = &gate};
  Forms got = forms_of(&c, "cp", &ask);
  for (uint32_t i = 0; i < got.list.n; i++)
    cr_assert(form_cost(&c.layer, got.list.at[i], &gate) <= gate.most, "%s", form_text(c.arena, got.list.at[i]));
  cr_assert(got.list.n > 0, "%s", got.why);
  gate.most = 1;
  got = forms_of(&c, "cp", &ask);
  cr_assert(got.list.n == 0 && strstr(got.why, "no less time") != NULL);
  got = forms_of(&c, "cp_joint", &ask);
  cr_assert(got.list.n == 0 && strstr(got.why, "no less time") != NULL);
  arena_free(c.arena);
}

// ---- numbers of the literature

static const int64_t grid_modes[] = {5, 5, 5, 5};

static void check_function(double (*fn)(double), const char *name) {
  Arena *arena = arena_new("test");
  double *a = NEW_ARRAY(arena, double, 625), *b = NEW_ARRAY(arena, double, 625), error2;
  const double *tensor = a;
  Forms out = {.arena = arena};
  Train t;
  bool differs;
  for (int i = 0; i < 625; i++) {
    double sum = 0;
    for (int k = i, axis = 0; axis < 4; k /= 5, axis++) sum += 0.1 + 0.3 * (k % 5);
    a[i] = fn ? fn(sum) : sum;
  }
  FactorAsk ask = {.by = ASK_ERROR, .value = 1e-9};
  cr_assert(train_of(1, 4, grid_modes, &tensor, &ask, 0, &differs, &out, &t, &error2));
  cr_assert(t.r[1] == 2 && t.r[2] == 2 && t.r[3] == 2, "%s", name);
  train_tensor(&t, b, arena);
  cr_assert(sqrt(squared_distance(625, a, b)) < 1e-12 * sqrt(sum_of_squares(625, a)), "%s", name);
  arena_free(arena);
}

// S32: the sum of the coordinates and the sine of the sum have ranks 2, 2, 2.
Test(factorize, trains_of_functions) {
  check_function(NULL, "sum");
  check_function(sin, "sine of the sum");
}

// S33: VGG-16's first dense layer with ranks 4.
Test(factorize, train_of_25088_x_4096) {
  static const int64_t n[] = {2, 7, 8, 8, 7, 4}, m[] = {4, 4, 4, 4, 4, 4};
  static const char text[] =
      "const @w: f32[25088,4096] = splat(1)\nfunc @f(%x: f32[1,25088]) -> f32[1,4096] {\n"
      "%0 = matmul %x, @w : f32[1,4096]\nreturn %0\n}\n";
  Arena *arena = arena_new("test");
  Module *m4 = parse_module(arena, diag_new(arena, NULL), "test", text, sizeof text - 1);
  FactorLayer l = {
      .op = m4->funcs.at[0]->first, .batch = 1, .in = 25088, .out = 4096, .group = 1, .n_w = 25088 * INT64_C(4096)};
  Train t = {.d = 6, .r = {1, 4, 4, 4, 4, 4, 1}};
  Forms out = {.arena = arena};
  for (int k = 0; k < 6; k++) {
    t.n[k] = n[k] * m[k];
    t.core[k] = random_matrix(arena, t.r[k] * t.n[k] * t.r[k + 1]);
  }
  tt_dense_form(&l, &t, n, m, 0, &out);
  const Form *f = out.list.at[0];
  cr_assert(form_parameters(f) == 2016);
  cr_assert_float_eq((double)l.n_w / 2016, 50972.4, 0.05);
  cr_assert_float_eq(form_macs(&l, f), 3.65e6, 0.005e6);
  double most = 0, elements = 25088;
  for (uint32_t i = 0; i < f->n; i++) {
    if (f->step[i].kind != FORM_MATMUL) continue;
    elements = elements / (double)f->step[i].in * (double)f->step[i].out;
    most = fmax(most, elements);
  }
  cr_assert(most == 100352);
  arena_free(arena);
}

static FactorLayer square_conv(Case *c, int64_t in, int64_t out, int64_t kernel, int64_t extent, int64_t pad) {
  int64_t y = extent + 2 * pad - kernel + 1;
  Arena *arena = arena_new("text");
  case_open(
      c, arena_printf(arena,
                      "const @w: f32[%lld,%lld,%lld,%lld] = rand(1)\nfunc @f(%%x: f32[1,%lld,%lld,%lld]) -> "
                      "f32[1,%lld,%lld,%lld] {\n%%0 = conv %%x, @w {pads = [%lld,%lld,%lld,%lld]} : "
                      "f32[1,%lld,%lld,%lld]\nreturn %%0\n}\n",
                      (long long)out, (long long)in, (long long)kernel, (long long)kernel, (long long)in,
                      (long long)extent, (long long)extent, (long long)out, (long long)y, (long long)y, (long long)pad,
                      (long long)pad, (long long)pad, (long long)pad, (long long)out, (long long)y, (long long)y));
  arena_free(arena);
  return c->layer;
}

static double kconv_macs(int64_t in, int64_t out, int64_t kernel, int64_t extent, const int64_t *k) {
  Case c;
  square_conv(&c, in, out, kernel, extent, 0);
  FactorAsk ask = {.by = ASK_RANK, .n_ranks = 1, .rank = {k[0]}, .n_in = 2, .n_out = 2};
  memcpy(ask.in, (int64_t[]){k[2], in / k[2]}, sizeof(int64_t[2]));
  memcpy(ask.out, (int64_t[]){k[1], out / k[1]}, sizeof(int64_t[2]));
  Forms got = forms_of(&c, "kconv", &ask);
  double macs = 0;
  for (uint32_t i = 0; i < got.list.n; i++)
    if (strstr(got.list.at[i]->shape, k[3] ? "axes 0 then 1" : "axes 1 then 0"))
      macs = form_macs(&c.layer, got.list.at[i]);
  cr_assert(macs > 0, "no such split");
  arena_free(c.arena);
  return macs;
}

// S31: the character network, conv 1 -> 96 9x9 on 24 x 24, 48 -> 128 9x9 on 16 x 16, 64 -> 512 8x8 on 8 x 8, 128 ->
// 148. Columns: rank, K1, C1, rows first.
Test(factorize, kconv_of_the_character_network) {
  static const struct {
    int64_t conv2[4], conv3[4];
    double ratio;
  } of[] = {{{1, 128, 24, 1}, {1, 256, 64, 1}, 3.50},
            {{1, 128, 48, 0}, {1, 512, 64, 0}, 3.19},
            {{2, 64, 24, 1}, {2, 256, 64, 1}, 3.13}};
  double rest = 96 * 81 * 256 + 128 * 148, before = rest + 128. * 48 * 81 * 64 + 512. * 64 * 64;
  for (int i = 0; i < 3; i++) {
    double after = rest + kconv_macs(48, 128, 9, 16, of[i].conv2) + kconv_macs(64, 512, 8, 8, of[i].conv3);
    cr_assert_float_eq(before / after, of[i].ratio, 0.005, "%c: %.4f", 'a' + i, before / after);
  }
}

// S35: one layer of MobileNet dense, separable, with 3/4 of the channels, and of those on 10 x 10.
Test(factorize, mobilenet_rows) {
  static const struct {
    int64_t channels, extent;
    double macs, parameters;
  } of[] = {{512, 14, 52.28e6, 0.267e6}, {384, 14, 29.58e6, 0.151e6}, {384, 10, 15.09e6, 0.151e6}};
  for (int i = 0; i < 3; i++) {
    Case c;
    FactorLayer l = square_conv(&c, of[i].channels, of[i].channels, 3, of[i].extent, 1);
    Forms got = forms_of(&c, "depthwise", &asks[0]);
    cr_assert(got.list.n == 1);
    cr_assert_float_eq(form_macs(&l, got.list.at[0]), of[i].macs, 0.006e6);
    cr_assert_float_eq((double)form_parameters(got.list.at[0]), of[i].parameters, 0.0006e6);
    if (i == 0) cr_assert(fabs(layer_macs(&l) - 462.42e6) < 0.005e6 && fabs((double)l.n_w - 2.359e6) < 0.0005e6);
    arena_free(c.arena);
  }
}

// S30: in the picture of 480 x 320 a Kronecker term with a right factor of 20 x 16 has the parameters of a rank-1 term.
Test(factorize, kronecker_term_of_the_picture) {
  Case c;
  case_open(&c,
            "const @w: f32[480,320] = rand(1)\nfunc @f(%x: f32[1,480]) -> f32[1,320] {\n"
            "%0 = matmul %x, @w : f32[1,320]\nreturn %0\n}\n");
  Forms svd = forms_of(&c, "svd", &asks[0]);
  Forms kron = forms_of(
      &c, "kron",
      &(FactorAsk){.by = ASK_RANK, .n_ranks = 1, .rank = {1}, .n_in = 2, .n_out = 2, .in = {24, 20}, .out = {20, 16}});
  cr_assert(form_parameters(svd.list.at[0]) == 800 && form_parameters(kron.list.at[0]) == 800);
  check_error(&c, kron.list.at[0], "picture");
  arena_free(c.arena);
}

// ---- what --factorize says

Test(factorize, specs) {
  static const char *const good[] = {"svd:rank=4", "svd:rank=4x8:force:fc?", "auto:error=0.5",
                                     "tt:rank=2:modes=2x3/4x5", "svd:energy=0.9:a:b"};
  static const char *const bad[] = {"nothing:rank=2", "svd:rank=0",         "svd:rank=2y3", "svd:error=2", "svd",
                                    "auto:force",     "tt:rank=1:modes=2x3"};
  Arena *arena = arena_new("test");
  FactorSpec s;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    cr_assert(factor_spec_read(good[i], 0, arena, diag_new(arena, NULL), &s), "%s", good[i]);
  cr_assert_str_eq(s.layers, "a:b");
  cr_assert(s.ask.by == ASK_ENERGY && s.ask.value == 0.9 && !s.force);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    cr_assert(!factor_spec_read(bad[i], 0, arena, diag_new(arena, NULL), &s), "%s", bad[i]);
  cr_assert(factor_spec_read("auto", 0.1, arena, diag_new(arena, NULL), &s) && s.ask.value == 0.1 && s.scheme == NULL);
  Loc loc = {.node_name = "/layer1/conv", .output = "y"};
  cr_assert(layer_is_named(&loc, "*layer1*") && layer_is_named(&loc, "y") && !layer_is_named(&loc, "layer1"));
  arena_free(arena);
}

// ---- linear algebra

Test(factorize, least_squares_meets_the_normal_equations) {
  Arena *arena = arena_new("test");
  double *a = random_matrix(arena, 30 * 7), *b = random_matrix(arena, 30 * 2), x[14], r[60], normal[14] = {0};
  cr_assert(least_squares(30, 7, 2, a, b, 1e-12, x, arena));
  matrix_mul(30, 2, 7, a, x, r);
  for (int i = 0; i < 60; i++) r[i] -= b[i];
  matrix_add_tmul(7, 2, 30, a, r, normal);
  cr_assert(sqrt(sum_of_squares(14, normal)) < 1e-12);
  arena_free(arena);
}

Test(factorize, eigenvalues_of_a_gram_matrix_are_squares) {
  Arena *arena = arena_new("test");
  double *a = random_matrix(arena, 9 * 5), gram[25] = {0}, values[5], v[25], s[5], rough[5], wide[5];
  matrix_add_tmul(5, 5, 9, a, a, gram);
  cr_assert(eigen_of(5, gram, arena, values, v) && svd_values(9, 5, a, arena, s));
  cr_assert(svd_values_rough(9, 5, a, arena, rough) && svd_values_rough(3, 15, a, arena, wide));
  for (int i = 0; i < 5; i++) cr_assert_float_eq(values[i], s[i] * s[i], 1e-12);
  for (int i = 0; i < 5; i++) cr_assert_float_eq(rough[i], s[i], 1e-10);
  cr_assert(svd_values(3, 15, a, arena, s));
  for (int i = 0; i < 3; i++) cr_assert_float_eq(wide[i], s[i], 1e-10);
  for (int i = 0; i < 5; i++) {
    double image[5];
    matrix_mul(5, 1, 5, gram, v + 5 * i, image);
    for (int k = 0; k < 5; k++) cr_assert_float_eq(image[k], values[i] * v[5 * i + k], 1e-12);
  }
  arena_free(arena);
}
