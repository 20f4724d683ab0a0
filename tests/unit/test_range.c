// Ranges of values against the graph interpreter: what a chain of element-wise ops makes of random and of special
// inputs lies in the range stated, and is among the levels when there are some; known chains have the levels expected.
#include "passes/range.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/pass.h"

static Module *module_of(Arena *arena, const char *text) {
  Diag *diag = diag_new(arena, NULL);
  Module *m = parse_module(arena, diag, "range", text, strlen(text));
  cr_assert(m != NULL, "%s\n%s", diag_text(diag), text);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(m, NULL, "infer", &opt, &runner, arena, NULL), "%s\n%s", diag_text(diag), text);
  return m;
}

// `body` assigns %y of type `type` from %f: f32[64], %i: i8[64] and %u: u8[64].
static void check_levels(const char *type, const char *body, uint32_t n, const int64_t *levels) {
  Arena *arena = arena_new("range");
  Module *m = module_of(arena, arena_printf(arena,
                                            "func @f(%%f: f32[64], %%i: i8[64], %%u: u8[64]) -> %s[64] {\n%s\n"
                                            "  return %%y\n}\n",
                                            type, body));
  Range r = value_range(m->funcs.at[0]->results[0]);
  cr_expect(r.n == n, "%u levels, not %u, of\n%s", r.n, n, body);
  for (uint32_t i = 0; i < n && i < r.n; i++)
    cr_expect(r.level[i] == levels[i], "level %u is %lld of\n%s", i, (long long)r.level[i], body);
  arena_free(arena);
}

#define LEVELS(...) \
  (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

Test(range, known_chains) {
  check_levels("i8",
               "  %0 = greater %f, f32(0.0) : bool[64]\n"
               "  %y = select %0, i8(1), i8(-1) : i8[64]",
               LEVELS(-1, 1));
  check_levels("u8",
               "  %0 = round %f : f32[64]\n  %1 = clip %0, f32(0.0), f32(3.0) : f32[64]\n"
               "  %y = cast %1 : u8[64]",
               LEVELS(0, 1, 2, 3));
  // NaN becomes 0
  check_levels("i8", "  %0 = clip %f, f32(2.0), f32(3.0) : f32[64]\n  %y = cast %0 : i8[64]", LEVELS(0, 2, 3));
  check_levels("i8",
               "  %0 = clip %i, i8(0), i8(3) : i8[64]\n  %1 = mul %0, i8(2) : i8[64]\n"
               "  %y = sub %1, i8(3) : i8[64]",
               LEVELS(-3, -1, 1, 3));
  check_levels("i8",
               "  %0 = greater %i, i8(3) : bool[64]\n  %1 = greater %i, i8(9) : bool[64]\n"
               "  %2 = cast %0 : i8[64]\n  %3 = cast %1 : i8[64]\n  %y = add %2, %3 : i8[64]",
               LEVELS(0, 1, 2));
  check_levels("i8", "  %y = sign %i : i8[64]", LEVELS(-1, 0, 1));
}

Test(range, must_stay_wide) {
  // a sum that wraps, an argument, a float that is not rounded but many levels wide
  check_levels("i8", "  %0 = clip %i, i8(100), i8(120) : i8[64]\n  %y = add %0, i8(20) : i8[64]", 0, NULL);
  check_levels("i8", "  %y = add %i, i8(0) : i8[64]", 0, NULL);
  check_levels("i8", "  %0 = clip %f, f32(-9.5), f32(9.5) : f32[64]\n  %y = cast %0 : i8[64]", 0, NULL);
}

// ---- random chains

static uint64_t state;
static uint32_t rnd(uint32_t below) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(state >> 33) % below;
}

static void one_op(StrBuf *b, uint32_t i, const char *t, bool floats) {
  static const char *const binary[] = {"add", "sub", "mul", "min", "max"}, *const unary[] = {"neg", "abs", "sign",
                                                                                             "relu"};
  uint32_t from = i > 0 ? i - 1 - rnd(i < 2 ? i : 2) : 0, other = rnd(i + 1);
  int number = (int)rnd(9) - 4;
  strbuf_printf(b, "  %%v%u = ", i + 1);
  switch (rnd(5)) {
    case 0: strbuf_printf(b, "%s %%v%u, %%v%u", binary[rnd(5)], from, other); break;
    case 1:
      strbuf_printf(b, floats ? "%s %%v%u, %s(%d.0)" : "%s %%v%u, %s(%d)", binary[rnd(5)], from, t, number);
      break;
    case 2:
      strbuf_printf(b, floats ? "clip %%v%u, %s(%d.0), %s(%d.0)" : "clip %%v%u, %s(%d), %s(%d)", from, t, number, t,
                    number + (int)rnd(6));
      break;
    case 3: strbuf_printf(b, "%s %%v%u", floats ? "round" : unary[rnd(4)], from); break;
    default: strbuf_printf(b, "%s %%v%u", unary[rnd(4)], from); break;
  }
  strbuf_printf(b, " : %s[64]\n", t);
}

static void fill(Tensor *x, bool floats) {
  static const double special[] = {NAN, INFINITY, -INFINITY, -0.0, 0.5, -0.5, 1e30, -1e30};
  for (int64_t i = 0; i < type_count(x->type); i++) {
    if (floats) {
      elem_set_f(x->data, x->type->dtype, i, rnd(3) == 0 ? special[rnd(8)] : ((double)rnd(2001) - 1000) / 100);
    } else {
      elem_set_i(x->data, x->type->dtype, i, (int64_t)rnd(2 + rnd(255)) - (int64_t)rnd(129));
    }
  }
}

static void check_inside(const Range *r, const Tensor *y, const char *text) {
  for (int64_t i = 0; i < type_count(y->type); i++) {
    int64_t v = elem_get_i(y->data, y->type->dtype, i);
    bool found = r->n == 0;
    for (uint32_t k = 0; k < r->n; k++) found |= r->level[k] == v;
    cr_assert(found && v >= r->lo && v <= r->hi, "%lld is not in %lld .. %lld (%u levels) of\n%s", (long long)v,
              (long long)r->lo, (long long)r->hi, r->n, text);
  }
}

Test(range, random_chains) {
  for (state = 1; state < 2000;) {
    uint64_t seed = state;
    Arena *arena = arena_new("range");
    StrBuf b;
    strbuf_init(&b, arena);
    bool floats = rnd(2) == 1;
    const char *t = floats ? "f32" : rnd(2) ? "i8" : "i32";
    uint32_t n = 1 + rnd(6);
    strbuf_printf(&b, "func @f(%%v0: %s[64]) -> i8[64] {\n", t);
    for (uint32_t i = 0; i < n; i++) one_op(&b, i, t, floats);
    strbuf_printf(&b, "  %%y = cast %%v%u : i8[64]\n  return %%y\n}\n", n);
    Module *m = module_of(arena, strbuf_str(&b));
    Func *f = m->funcs.at[0];
    Range r = value_range(f->results[0]);
    Tensor x = tensor_new(arena, f->args[0]->type), y;
    for (int again = 0; again < 4; again++) {
      fill(&x, floats);
      cr_assert(eval_func(f, &x, &y, arena, NULL, NULL));
      check_inside(&r, &y, strbuf_str(&b));
    }
    arena_free(arena);
    state = seed + 1;
  }
}
