// Runs of whole functions by the graph interpreter: values freed and kept, constants and arguments as results, the
// watcher, errors half way, symbolic shapes, and the work estimate.
#include "tests/unit/eval_case.h"

Test(eval_func, results_may_be_anything) {
  EVAL_TEXT(
      "func @f(%x: f32[2]) -> (f32[2], f32[2], f32[2], f32[2]) {\n"
      "  %0 = neg %x : f32[2]\n"
      "  return %0, %x, @c, %0\n"
      "}\n"
      "const @c: f32[2] = [5, 6]\n",
      NUMS(1, 2), NUMS(-1, -2, 1, 2, 5, 6, -1, -2));
}

// A value used twice by one op, a value used again much later, results nobody uses.
Test(eval_func, values_live_until_their_last_use) {
  EVAL_TEXT(
      "func @f(%x: f32[3]) -> f32[3] {\n"
      "  %0 = mul %x, %x : f32[3]\n"
      "  %1 = add %0, %0 : f32[3]\n"
      "  %2, %3 = topk %1 {k = 3} : f32[3], i64[3]\n"
      "  %4 = neg %2 : f32[3]\n"
      "  %5 = add %4, %0 : f32[3]\n"
      "  return %5\n"
      "}\n",
      NUMS(1, 2, 3), NUMS(1 - 18, 4 - 8, 9 - 2));
}

static void count_ops(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  double *sum = ctx;
  cr_assert(in[0].type == op_in(op, 0)->type && out[0].type == op_out(op, 0)->type);
  *sum = *sum * 10 + elem_get_f(out[0].data, out[0].type->dtype, 0) - elem_get_f(in[0].data, in[0].type->dtype, 0);
}

Test(eval_func, the_watcher_sees_every_op) {
  Case c = case_parse(__LINE__,
                      "func @f(%x: f32[1]) -> f32[1] {\n  %0 = add %x, %x : f32[1]\n  %1 = add %0, %x : f32[1]\n"
                      "  %2 = add %1, %1 : f32[1]\n  return %1\n}\n",
                      NUMS(1));
  double seen = 0;
  cr_assert(eval_func(c.f, c.args, c.results, c.arena, count_ops, &seen));
  cr_assert_eq(seen, 113);  // 2 - 1, 3 - 2, 6 - 3
  arena_free(c.arena);
}

Test(eval_func, errors_and_symbols_are_diagnosed) {
  EVAL_FAILS("(%x: f32[2], %i: i64[1]) -> f32[1]", "gather %x, %i", NUMS(1, 2, 9), "index 9");
  const char *text = "func @f(%x: f32[N]) -> f32[N] {\n  %0 = neg %x : f32[N]\n  return %0\n}\n";
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, NULL);
  Module *m = parse_module(arena, diag, "case", text, strlen(text));
  cr_assert(m);
  float x[2] = {1, 2};
  int64_t two = 2;
  Tensor in = {type_tensor(m->types, DT_F32, 1, &two), x}, out;
  cr_assert_not(eval_op(m->funcs.at[0]->first, &in, &out, arena));
  cr_assert(strstr(diag_text(diag), "--dim"), "%s", diag_text(diag));
  cr_assert_eq(eval_cost(m->funcs.at[0]->first), INT64_MAX);
  arena_free(arena);
}

static int64_t cost_of(const char *signature, const char *op) {
  char text[1024];
  text_of_op(text, sizeof text, signature, op);
  Arena *arena = arena_new("test");
  Module *m = parse_module(arena, diag_new(arena, NULL), "case", text, strlen(text));
  cr_assert(m, "%s", text);
  int64_t cost = eval_cost(m->funcs.at[0]->first);
  arena_free(arena);
  return cost;
}

Test(eval_func, cost_grows_with_the_work) {
  cr_assert_eq(cost_of("(%a: f32[10,20], %b: f32[20,30]) -> f32[10,30]", "matmul %a, %b"), 200 + 600 + 6000);
  cr_assert_eq(cost_of("(%x: f32[1,2,4], %w: f32[3,2,3]) -> f32[1,3,2]", "conv %x, %w"), 8 + 18 + 6 * 6);
  cr_assert_eq(cost_of("(%x: f32[100]) -> f32[100]", "exp %x"), 200);
  cr_assert_eq(cost_of("(%a: f32[4,5], %b: f32[5,6]) -> f32[4,6]", "einsum %a, %b {equation = \"ij,jk->ik\"}"),
               20 + 30 + 24 * 5);
  cr_assert_eq(cost_of("(%x: f32[1000000,1000], %y: f32[1000,1000000]) -> f32[1000000,1000000]", "matmul %x, %y"),
               2000000000 + INT64_C(1000000000000000));
}
