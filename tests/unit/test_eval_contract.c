// Contractions of the graph interpreter: shapes of matmul, both layouts of convolutions, groups, strides, dilations,
// padding, integers, post functions, einsum, and the magnitudes behind error bounds.
#include "tests/unit/eval_case.h"

Test(eval_contract, matmul_shapes) {
  EVAL_OP("(%a: f32[2,2], %b: f32[2,2]) -> f32[2,2]", "matmul %a, %b", NUMS(1, 2, 3, 4, 5, 6, 7, 8),
          NUMS(19, 22, 43, 50));
  EVAL_OP("(%a: f32[3], %b: f32[3]) -> f32[]", "matmul %a, %b", NUMS(1, 2, 3, 4, 5, 6), NUMS(32));
  EVAL_OP("(%a: f32[2], %b: f32[2,3]) -> f32[3]", "matmul %a, %b", NUMS(1, 2, 1, 2, 3, 4, 5, 6), NUMS(9, 12, 15));
  EVAL_OP("(%a: f32[2,2,1,2], %b: f32[2]) -> f32[2,2,1]", "matmul %a, %b", NUMS(1, 2, 3, 4, 5, 6, 7, 8, 1, -1),
          NUMS(-1, -1, -1, -1));
  EVAL_OP("(%a: f32[2,1,2], %b: f32[1,2,1]) -> f32[2,1,1]", "matmul %a, %b", NUMS(1, 2, 3, 4, 10, 1), NUMS(12, 34));
  EVAL_OP("(%a: f32[2,0], %b: f32[0,1]) -> f32[2,1]", "matmul %a, %b", NO_NUMS, NUMS(0, 0));
}

Test(eval_contract, matmul_transposes_and_bias) {
  EVAL_OP("(%a: f32[3,2], %b: f32[2,3], %c: f32[2]) -> f32[2,2]", "matmul %a, %b, %c {trans_a = true, trans_b = true}",
          NUMS(1, 4, 2, 5, 3, 6, 1, 0, 1, 0, 1, 0, 100, 200), NUMS(104, 202, 110, 205));
}

Test(eval_contract, integers_are_exact) {
  EVAL_OP("(%a: i8[1,2], %b: i8[2,1]) -> i32[1,1]", "matmul %a, %b", NUMS(127, -128, -128, -128), NUMS(128));
  EVAL_OP("(%a: bip[1,3], %b: bip[3,1]) -> i32[1,1]", "matmul %a, %b", NUMS(1, -1, 1, -1, -1, 1), NUMS(1));
}

Test(eval_contract, conv_layouts_agree) {
  EVAL_OP("(%x: f32[1,2,1,3], %w: f32[1,2,1,2], %b: f32[1]) -> f32[1,1,1,2]", "conv %x, %w, %b",
          NUMS(1, 2, 3, 10, 20, 30, 1, 2, 3, 4, 1000), NUMS(1115, 1188));
  EVAL_OP("(%x: f32[1,1,3,2], %w: f32[1,2,2,1], %b: f32[1]) -> f32[1,1,2,1]", "conv %x, %w, %b {layout = nhwc}",
          NUMS(1, 10, 2, 20, 3, 30, 1, 3, 2, 4, 1000), NUMS(1115, 1188));
}

Test(eval_contract, conv_windows) {
  EVAL_OP("(%x: f32[1,1,5], %w: f32[1,1,2]) -> f32[1,1,2]",
          "conv %x, %w {strides = [2], pads = [1,0], dilations = [2]}", NUMS(1, 2, 3, 4, 5, 1, 10), NUMS(20, 42));
  EVAL_OP("(%x: f32[1,1,4], %w: f32[1,1,2]) -> f32[1,1,1]", "conv %x, %w {pads = [-1,-1]}", NUMS(1, 2, 3, 4, 1, 10),
          NUMS(32));
  EVAL_OP("(%x: f32[1,2,2], %w: f32[4,1,1]) -> f32[1,4,2]", "conv %x, %w {group = 2}",
          NUMS(1, 2, 3, 4, 1, 10, 100, 1000), NUMS(1, 2, 10, 20, 300, 400, 3000, 4000));
  EVAL_OP("(%x: f32[1,1,1,2,2], %w: f32[1,1,1,2,2]) -> f32[1,1,1,1,1]", "conv %x, %w", NUMS(1, 2, 3, 4, 1, 1, 1, 2),
          NUMS(14));
}

Test(eval_contract, conv_transpose) {
  EVAL_OP("(%x: f32[1,1,2], %w: f32[1,1,3]) -> f32[1,1,5]", "conv_transpose %x, %w {strides = [2]}",
          NUMS(1, 10, 1, 2, 3), NUMS(1, 2, 13, 20, 30));
  EVAL_OP("(%x: f32[1,1,2], %w: f32[1,1,3]) -> f32[1,1,4]",
          "conv_transpose %x, %w {strides = [2], pads = [1,1], output_padding = [1]}", NUMS(1, 10, 1, 2, 3),
          NUMS(2, 13, 20, 30));
  EVAL_OP("(%x: f32[1,2,1], %w: f32[2,1,2], %b: f32[2]) -> f32[1,2,2]", "conv_transpose %x, %w, %b {group = 2}",
          NUMS(1, 2, 1, 2, 3, 4, 100, 200), NUMS(101, 102, 206, 208));
  EVAL_OP("(%x: f32[1,2,1], %w: f32[2,1,2]) -> f32[1,3,2]", "conv_transpose %x, %w {layout = nhwc}",
          NUMS(1, 10, 1, 2, 3, 4), NUMS(1, 2, 13, 24, 30, 40));
}

Test(eval_contract, post_sees_the_rounded_sum_and_its_operands) {
  EVAL_TEXT(
      "func @f(%x: i8[1,2], %w: i8[2,2], %s: f32[2]) -> i8[1,2] {\n"
      "  %0 = matmul %x, %w, _, %s {post = @p} : i8[1,2]\n"
      "  return %0\n"
      "}\n"
      "func @p(%raw: i32[], %s: f32[]) -> i8[] {\n"
      "  %0 = cast %raw : f32[]\n"
      "  %1 = mul %0, %s : f32[]\n"
      "  %2 = round %1 : f32[]\n"
      "  %3 = cast %2 : i8[]\n"
      "  return %3\n"
      "}\n",
      NUMS(10, 20, 1, 2, 3, 4, 0.5, 100), NUMS(35 /* 70 / 2 */, 127));
}

Test(eval_contract, einsum_letters) {
  EVAL_OP("(%a: f32[2,2], %b: f32[2]) -> f32[2]", "einsum %a, %b {equation = \"ij,j->i\"}", NUMS(1, 2, 3, 4, 1, 10),
          NUMS(21, 43));
  EVAL_OP("(%a: f32[2,2]) -> f32[]", "einsum %a {equation = \"ii->\"}", NUMS(1, 2, 3, 4), NUMS(5));
  EVAL_OP("(%a: f32[2,3]) -> f32[3,2]", "einsum %a {equation = \"ij->ji\"}", NUMS(1, 2, 3, 4, 5, 6),
          NUMS(1, 4, 2, 5, 3, 6));
  EVAL_OP("(%a: f32[2], %b: f32[2], %c: f32[2]) -> f32[2,2]", "einsum %a, %b, %c {equation = \"i,j,j->ij\"}",
          NUMS(1, 2, 3, 4, 5, 6), NUMS(15, 24, 30, 48));
  EVAL_OP("(%a: i32[2,2,2], %b: i32[2,2,2]) -> i32[2,2,2]", "einsum %a, %b {equation = \"bij,bjk->bik\"}",
          NUMS(1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 1, 0, 1, 1, 0), NUMS(1, 2, 3, 4, 6, 5, 8, 7));
}

static void check_magnitude(const char *signature, const char *op, const double *in, int64_t n_in, double want,
                            int64_t want_terms) {
  char text[1024];
  text_of_op(text, sizeof text, signature, op);
  Case c = case_parse(__LINE__, text, in, n_in);
  double magnitude = -1;
  int64_t terms = -1;
  cr_assert(eval_op_magnitude(c.f->first, c.args, &magnitude, &terms, c.arena));
  cr_assert_eq(magnitude, want, "%s: %g", op, magnitude);
  cr_assert_eq(terms, want_terms, "%s: %ld terms", op, (long)terms);
  arena_free(c.arena);
}

Test(eval_contract, magnitudes_sum_absolute_values) {
  check_magnitude("(%a: f32[1,2], %b: f32[2,1], %c: f32[1]) -> f32[1,1]", "matmul %a, %b, %c", NUMS(1, -2, -3, 4, -5),
                  16, 3);
  check_magnitude("(%x: f32[1,1,2], %w: f32[1,1,2]) -> f32[1,1,1]", "conv %x, %w", NUMS(1, -2, -3, 4), 11, 2);
  check_magnitude("(%x: f32[1,1,1], %w: f32[1,1,1]) -> f32[1,1,1]", "conv_transpose %x, %w", NUMS(-2, 3), 6, 1);
  check_magnitude("(%x: f32[4]) -> f32[1]", "reduce %x {op = mean, axes = [0]}", NUMS(1, -1, 2, -4), 2, 4);
  check_magnitude("(%x: f32[1,1,2]) -> f32[1,1,1]", "avgpool %x {kernel = [2]}", NUMS(-1, 3), 2, 2);
  check_magnitude("(%a: f32[2], %b: f32[2]) -> f32[]", "einsum %a, %b {equation = \"i,i->\"}", NUMS(1, -2, 3, 4), 11,
                  2);
  Case c = case_parse(__LINE__, "func @f(%x: f32[1]) -> f32[1] {\n  %0 = exp %x : f32[1]\n  return %0\n}\n", NUMS(1));
  double unused;
  int64_t terms;
  cr_assert_not(eval_op_magnitude(c.f->first, c.args, &unused, &terms, c.arena));
  arena_free(c.arena);
}
