// Convolutions of floats as integer convolutions of their slices: within the error stated of the floats, image by
// image, and not finite where an image is not.
#include <math.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "tests/unit/contract_case.h"

enum { IMAGES = 2, SIDE = 14, C = 16, O = 32, PIXELS = SIDE * SIDE * C, SUMS = SIDE * SIDE * O };

static const Target fast = {
    .name = "bytes", CPU_512, .has_masks = true, .has_fma = true, .has_dot4 = true, .dot4_per_cycle = 2};

static const char text[] =
    "func @f(%x: f32[2,14,14,16]) -> f32[2,14,14,32] {\n"
    "  %0 = conv %x, @w, @b {layout = nhwc, pads = [1,1,1,1]} : f32[2,14,14,32]\n"
    "  return %0\n}\n"
    "const @w: f32[3,3,16,32] = splat(-0.3)\nconst @b: f32[32] = rand(5)\n";

static const char exact_text[] =
    "func @f(%x: f32[2,14,14,16]) -> f32[2,14,14,32] {\n"
    "  %0 = conv %x, @w {layout = nhwc, pads = [1,1,1,1]} : f32[2,14,14,32]\n"
    "  return %0\n}\n"
    "const @w: f32[3,3,16,32] = splat(-0.25)\n";
static bool exact;

static Module *parse(Arena *arena) {
  const char *of = exact ? exact_text : text;
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", of, strlen(of));
  cr_assert(m != NULL);
  return m;
}

static void run_both(Arena *arena, const Tensor *x, Tensor *want, Tensor *got) {
  Module *before = parse(arena), *after = parse(arena);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(after, &fast, "infer,blocks", &opt, &runner, arena, NULL), "%s", diag_text(after->diag));
  uint32_t integer = 0;
  for (const Op *op = after->funcs.at[0]->first; op != NULL; op = op->next)
    integer += op->kind == OP_CONV && op_in(op, 0)->type->dtype == DT_U8;
  cr_assert(integer == 3, "%u integer convolutions", integer);
  cr_assert(eval_func(before->funcs.at[0], x, want, arena, NULL, NULL));
  cr_assert(eval_func(after->funcs.at[0], x, got, arena, NULL, NULL));
}

// Random images, the second one a thousandth of the first.
static Tensor images(Arena *arena, Module *m) {
  Tensor x = tensor_new(arena, m->funcs.at[0]->args[0]->type);
  uint64_t state = 7;
  for (int64_t i = 0; i < IMAGES * PIXELS; i++) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    double v = (double)(int64_t)(state >> 40) / 0x1p23 - 1;
    elem_set_f(x.data, DT_F32, i, i < PIXELS ? v : v / 1000);
  }
  return x;
}

Test(slices, sums_are_those_of_floats) {
  Arena *arena = arena_new("test");
  Tensor x = images(arena, parse(arena)), want, got;
  run_both(arena, &x, &want, &got);
  for (int64_t i = 0; i < IMAGES * SUMS; i++) {
    double w = elem_get_f(want.data, DT_F32, i), g = elem_get_f(got.data, DT_F32, i);
    double largest = i < SUMS ? 1 : 1e-3;  // of an image; 144 products with 0.3
    double bound = 144 * 0.3 * largest * 0x1p-22 + 8 * 0x1p-24 * (fabs(w) + 2);
    cr_assert(fabs(w - g) <= bound, "element %lld is %.9g, not %.9g", (long long)i, g, w);
  }
  arena_free(arena);
}

Test(slices, an_image_without_numbers) {
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  for (int k = 0; k < 3; k++) {
    Arena *arena = arena_new("test");
    Tensor x = images(arena, parse(arena)), want, got;
    elem_set_f(x.data, DT_F32, 3, bad[k]);
    run_both(arena, &x, &want, &got);
    for (int64_t i = 0; i < IMAGES * SUMS; i++) {
      double w = elem_get_f(want.data, DT_F32, i), g = elem_get_f(got.data, DT_F32, i);
      cr_assert(i < SUMS ? !isfinite(g) : isfinite(g), "element %lld is %.9g", (long long)i, g);
      cr_assert(isfinite(g) <= isfinite(w), "element %lld is a number, it should be %.9g", (long long)i, w);
    }
    arena_free(arena);
  }
}

// Integers times a power of two, which floats add up exactly: the same bits, zeros among them.
Test(slices, exact_sums_stay_exact) {
  Arena *arena = arena_new("test");
  Module *m = parse(arena);
  Tensor x = tensor_new(arena, m->funcs.at[0]->args[0]->type), want, got;
  uint64_t state = 5;
  for (int64_t i = 0; i < IMAGES * PIXELS; i++) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    elem_set_f(x.data, DT_F32, i, (double)((int64_t)(state >> 33) % 65536 - 32768) / 8);
  }
  exact = true;
  run_both(arena, &x, &want, &got);
  exact = false;
  cr_assert(memcmp(got.data, want.data, IMAGES * SUMS * sizeof(float)) == 0);
  arena_free(arena);
}

Test(slices, an_image_of_zeros) {
  Arena *arena = arena_new("test");
  Tensor x = tensor_new(arena, parse(arena)->funcs.at[0]->args[0]->type), want, got;
  memset(x.data, 0, IMAGES * PIXELS * sizeof(float));
  run_both(arena, &x, &want, &got);
  cr_assert(memcmp(got.data, want.data, IMAGES * SUMS * sizeof(float)) == 0);
  arena_free(arena);
}
