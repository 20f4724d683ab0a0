// Sets of values: chains of quantisers give the sets they should, and whatever the interpreter computes lies inside.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "passes/recover/sets.h"

typedef struct Walk {
  Arena *arena;
  Module *m;
  Func *f;
  Sets *sets;
  uint64_t checked;
} Walk;

static Walk walk_new(const char *text) {
  Walk w = {.arena = arena_new("test")};
  w.m = parse_module(w.arena, diag_new(w.arena, stderr), "test", text, strlen(text));
  cr_assert(w.m != NULL);
  w.f = w.m->funcs.at[0];
  w.sets = sets_new(w.m, w.arena);
  for (const Op *op = w.f->first; op; op = op->next) sets_visit(w.sets, op);
  return w;
}

static void check_inside(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  Walk *w = ctx;
  (void)in;
  const ValueSet *s = sets_of(w->sets, op->out[0]);
  for (int64_t i = 0; i < type_count(out[0].type); i++) {
    double v = dtype_is_float(out[0].type->dtype) ? elem_get_f(out[0].data, out[0].type->dtype, i)
                                                  : (double)elem_get_i(out[0].data, out[0].type->dtype, i);
    if (isnan(v)) continue;
    bool found = s->n == 0;
    for (uint32_t k = 0; k < s->n; k++) found = found || (s->v[k] == v && !signbit(s->v[k]) == !signbit(v));
    cr_assert(found && v >= s->lo && v <= s->hi, "%s: %.9g is not among %u numbers of %.9g .. %.9g",
              op_info(op->kind)->name, v, s->n, s->lo, s->hi);
    w->checked++;
  }
}

// Runs on numbers of all sizes and both zeros.
static void run(Walk *w) {
  Tensor args[4], results[8];
  for (uint32_t a = 0; a < w->f->n_args; a++) {
    args[a] = tensor_new(w->arena, w->f->args[a]->type);
    DType t = args[a].type->dtype;
    for (int64_t i = 0; i < type_count(args[a].type); i++) {
      double v = (i % 2 ? -1 : 1) * ((double)i * 0.037 * pow(10, (double)(i % 7) - 3));
      if (dtype_is_float(t)) {
        elem_set_f(args[a].data, t, i, i == 5 ? INFINITY : i == 6 ? -INFINITY : v);
      } else {
        elem_set_i(args[a].data, t, i, i * 7);
      }
    }
  }
  cr_assert(eval_func(w->f, args, results, w->arena, check_inside, w) && w->checked > 0);
}

static void expect(Walk *w, const char *op_name, uint32_t nth, uint32_t n, const double *v) {
  for (const Op *op = w->f->first; op; op = op->next) {
    if (strcmp(op_info(op->kind)->name, op_name) != 0 || nth-- > 0) continue;
    const ValueSet *s = sets_of(w->sets, op->out[0]);
    cr_assert(s->n == n, "%s: %u numbers, not %u", op_name, s->n, n);
    for (uint32_t i = 0; i < n; i++) cr_assert(s->v[i] == v[i], "%s: number %u is %.9g", op_name, i, s->v[i]);
    return;
  }
  cr_assert_fail("no %s", op_name);
}
#define EXPECT(w, op, nth, ...) \
  expect(w, op, nth, sizeof((double[]){__VA_ARGS__}) / sizeof(double), (double[]){__VA_ARGS__})

Test(sets, quantisers) {
  Walk w = walk_new(
      "func @f(%x: f32[500]) -> f32[500] {\n"
      "  %0 = clip %x, f32(0.0), f32(1.0) : f32[500]\n"
      "  %1 = mul %0, f32(3.0) : f32[500]\n"
      "  %2 = round %1 : f32[500]\n"
      "  %3 = div %2, f32(3.0) : f32[500]\n"
      "  %4 = tanh %x : f32[500]\n"
      "  %5 = mul %4, f32(2.0) : f32[500]\n"
      "  %6 = floor %5 : f32[500]\n"
      "  %7 = sign %x : f32[500]\n"
      "  %8 = mul %7, f32(0.75) : f32[500]\n"
      "  %9 = sub %x, %8 : f32[500]\n"
      "  %10 = sign %9 : f32[500]\n"
      "  %11 = mul %10, f32(0.5) : f32[500]\n"
      "  %12 = add %8, %11 : f32[500]\n"
      "  %13 = mul %7, %7 : f32[500]\n"
      "  %14 = div %x, f32(0.3) : f32[500]\n"
      "  %15 = ceil %14 : f32[500]\n"
      "  %16 = add %15, f32(1.0) : f32[500]\n"
      "  %17 = clip %16, f32(-2.0), f32(1.0) : f32[500]\n"
      "  return %12\n"
      "}\n");
  EXPECT(&w, "round", 0, 0, 1, 2, 3);
  EXPECT(&w, "div", 0, 0, 1.0f / 3.0f, 2.0f / 3.0f, 1);
  EXPECT(&w, "sign", 0, -1, 0, 1);
  EXPECT(&w, "mul", 4, 0, 1);              // one operand twice: no -1
  EXPECT(&w, "clip", 1, -2, -1, 0, 0, 1);  // both zeros
  EXPECT(&w, "add", 0, -1.25, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.25);
  run(&w);
  arena_free(w.arena);
}

Test(sets, movement_and_types) {
  Walk w = walk_new(
      "const @k: f32[2,3] = [0.5, -0.5, 0.5, 0.25, 0.5, -0.5]\n"
      "func @f(%x: f32[1,2,4,4], %u: u8[1,2,4,4]) -> f32[1,4,6,6] {\n"
      "  %0 = greater %x, f32(0.25) : bool[1,2,4,4]\n"
      "  %1 = select %0, f32(1.5), f32(-1.0) : f32[1,2,4,4]\n"
      "  %2 = pad %1 {pads = [0,0,1,1,0,0,1,1], value = 0.5} : f32[1,2,6,6]\n"
      "  %3 = cast %0 : f32[1,2,4,4]\n"
      "  %4 = pad %3 {pads = [0,0,1,1,0,0,1,1]} : f32[1,2,6,6]\n"
      "  %5 = concat %2, %4 {axis = 1} : f32[1,4,6,6]\n"
      "  %6, %7 = maxpool %5 {kernel = [2,2], pads = [1,1,1,1]} : f32[1,4,7,7], i64[1,4,7,7]\n"
      "  %8 = reshape %6 : f32[4,49]\n"
      "  %9 = cast %u : f32[1,2,4,4]\n"
      "  %10 = div %9, f32(255.0) : f32[1,2,4,4]\n"
      "  %11 = cast %9 : i32[1,2,4,4]\n"
      "  %12 = cast %x : i8[1,2,4,4]\n"
      "  %13 = dequantize %12, f32(0.1), i8(3) : f32[1,2,4,4]\n"
      "  %14 = avgpool %1 {kernel = [3,3]} : f32[1,2,2,2]\n"
      "  %15 = gather @k, i64(1) : f32[3]\n"
      "  return %5\n"
      "}\n");
  EXPECT(&w, "pad", 0, -1, 0.5, 1.5);
  EXPECT(&w, "concat", 0, -1, 0, 0.5, 1, 1.5);
  EXPECT(&w, "reshape", 0, -1, 0, 0.5, 1, 1.5);
  EXPECT(&w, "gather", 0, -0.5, 0.25, 0.5);
  for (const Op *op = w.f->first; op; op = op->next)
    if (op->kind == OP_DIV || op->kind == OP_DEQUANTIZE) cr_assert(sets_of(w.sets, op->out[0])->n == 256);
  run(&w);
  arena_free(w.arena);
}

// More than 256 numbers, numbers that are NaN, divisors around zero: only an interval, or nothing.
Test(sets, what_is_not_known) {
  Walk w = walk_new(
      "const @nan: f32[3] = [1.0, nan, 2.0]\n"
      "func @f(%x: f32[3], %u: u8[3]) -> f32[3] {\n"
      "  %0 = cast %u : f32[3]\n"
      "  %1 = relu %x : f32[3]\n"
      "  %2 = min %1, f32(257.0) : f32[3]\n"
      "  %3 = floor %2 : f32[3]\n"
      "  %4 = mul %0, @nan : f32[3]\n"
      "  %5 = div f32(1.0), %2 : f32[3]\n"
      "  %6 = recip %0 : f32[3]\n"
      "  %7 = cast %u : i8[3]\n"
      "  %8 = add %7, i8(100) : i8[3]\n"
      "  %9 = log %0 : f32[3]\n"
      "  %10 = mul %x, f32(1e30) : f32[3]\n"
      "  %11 = max %10, f32(1e20) : f32[3]\n"
      "  %12 = clip %11, f32(9e18), f32(9e18) : f32[3]\n"
      "  %13 = round %11 : f32[3]\n"
      "  %14 = clip %13, f32(1e20), f32(1e20) : f32[3]\n"
      "  return %3\n"
      "}\n");
  for (const Op *op = w.f->first; op; op = op->next) {
    const ValueSet *s = sets_of(w.sets, op->out[0]);
    if (op->kind == OP_FLOOR) cr_assert(s->n == 0 && s->lo == 0 && s->hi == 257);
    if (op->kind == OP_MUL || op->kind == OP_DIV) cr_assert(s->n == 0 && isinf(s->lo) && isinf(s->hi));
    if (op->kind == OP_RECIP || op->kind == OP_ADD) cr_assert(s->n == 256);
  }
  run(&w);
  arena_free(w.arena);
}
