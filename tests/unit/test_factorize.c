// The factoring engine on planted weights: for every scheme and form the error by theory (tails of singular values) is
// the distance between the weights and what the factors give back, and the ops of the form compute what the op computes
// with those weights: strides, pads, dilations, groups, one to three axes.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

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

// ---- what --factorize says

Test(factorize, specs) {
  static const char *const good[] = {"svd:rank=4", "svd:rank=4x8:force:fc?", "auto:error=0.5", "svd:energy=0.9:a:b"};
  static const char *const bad[] = {"nothing:rank=2", "svd:rank=0", "svd:rank=2y3", "svd:error=2", "svd", "auto:force"};
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
  double *a = random_matrix(arena, 9 * 5), gram[25] = {0}, values[5], v[25], s[5];
  matrix_add_tmul(5, 5, 9, a, a, gram);
  cr_assert(eigen_of(5, gram, arena, values, v) && svd_values(9, 5, a, arena, s));
  for (int i = 0; i < 5; i++) cr_assert_float_eq(values[i], s[i] * s[i], 1e-12);
  for (int i = 0; i < 5; i++) {
    double image[5];
    matrix_mul(5, 1, 5, gram, v + 5 * i, image);
    for (int k = 0; k < 5; k++) cr_assert_float_eq(image[k], values[i] * v[5 * i + k], 1e-12);
  }
  arena_free(arena);
}
