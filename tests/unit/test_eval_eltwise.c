// Element-wise ops of the graph interpreter: broadcasting, special values, integer semantics, casts, bodies.
#include "tests/unit/eval_case.h"

Test(eval_eltwise, broadcasts_like_numpy) {
  EVAL_OP("(%a: f32[2,1], %b: f32[3]) -> f32[2,3]", "add %a, %b", NUMS(10, 20, 1, 2, 3), NUMS(11, 12, 13, 21, 22, 23));
  EVAL_OP("(%a: f32[], %b: f32[]) -> f32[]", "sub %a, %b", NUMS(1, 3), NUMS(-2));
  EVAL_OP("(%a: f32[0,2], %b: f32[2]) -> f32[0,2]", "mul %a, %b", NUMS(1, 2), NO_NUMS);
}

Test(eval_eltwise, nan_and_signed_zero) {
  EVAL_OP("(%a: f32[4], %b: f32[4]) -> f32[4]", "max %a, %b", NUMS(NAN, 1, -0.0, -1, 1, NAN, 0.0, -2),
          NUMS(NAN, NAN, 0.0, -1));
  EVAL_OP("(%a: f32[4], %b: f32[4]) -> f32[4]", "min %a, %b", NUMS(NAN, 1, 0.0, -1, 1, NAN, -0.0, -2),
          NUMS(NAN, NAN, -0.0, -2));
  EVAL_OP("(%a: f32[3]) -> f32[3]", "relu %a", NUMS(NAN, -1, 2), NUMS(NAN, 0, 2));
  EVAL_OP("(%a: f32[4]) -> f32[4]", "clip %a, f32(2), f32(1)", NUMS(NAN, 0, 1.5, 9), NUMS(NAN, 1, 1, 1));
  EVAL_OP("(%a: f32[4]) -> f32[4]", "sign %a", NUMS(NAN, -2, 0, 5), NUMS(NAN, -1, 0, 1));
}

Test(eval_eltwise, round_takes_ties_to_even) {
  EVAL_OP("(%a: f32[6]) -> f32[6]", "round %a", NUMS(0.5, 1.5, 2.5, -0.5, -1.5, 2.6), NUMS(0, 2, 2, -0.0, -2, 3));
}

Test(eval_eltwise, mod_signs) {
  EVAL_OP("(%a: i32[5], %b: i32[5]) -> i32[5]", "mod %a, %b", NUMS(-4, 7, 5, -7, 3, 3, -3, 8, -3, 0),
          NUMS(2, -2, 5, -1, 0));
  EVAL_OP("(%a: i32[5], %b: i32[5]) -> i32[5]", "fmod %a, %b", NUMS(-4, 7, 5, -7, 3, 3, -3, 8, -3, 0),
          NUMS(-1, 1, 5, -1, 0));
  EVAL_OP("(%a: f32[2], %b: f32[2]) -> f32[2]", "mod %a, %b", NUMS(-5.5, 5.5, 2, -2), NUMS(0.5, -0.5));
  EVAL_OP("(%a: f32[2], %b: f32[2]) -> f32[2]", "fmod %a, %b", NUMS(-5.5, 5.5, 2, -2), NUMS(-1.5, 1.5));
}

Test(eval_eltwise, integers) {
  EVAL_OP("(%a: i32[4], %b: i32[4]) -> i32[4]", "div %a, %b", NUMS(7, -7, 5, -2147483648.0, 2, 2, 0, -1),
          NUMS(3, -3, 0, -2147483648.0));
  EVAL_OP("(%a: i8[2], %b: i8[2]) -> i8[2]", "add %a, %b", NUMS(127, -128, 1, -1), NUMS(-128, 127));
  EVAL_OP("(%a: u8[1], %b: u8[1]) -> u8[1]", "sub %a, %b", NUMS(1, 2), NUMS(255));
  EVAL_OP("(%a: u64[1], %b: u64[1]) -> bool[1]", "less %a, %b", NUMS(1, 0x1p63), NUMS(1));
  EVAL_OP("(%a: u8[3], %b: u8[3]) -> u8[3]", "shr %a, %b", NUMS(255, 255, 8, 1, 8, 2), NUMS(127, 0, 2));
  EVAL_OP("(%a: bip[2], %b: bip[2]) -> bip[2]", "mul %a, %b", NUMS(1, -1, -1, -1), NUMS(-1, 1));
}

Test(eval_eltwise, pow_has_the_type_of_its_base) {
  EVAL_OP("(%a: f32[3], %b: i64[3]) -> f32[3]", "pow %a, %b", NUMS(2, 3, -2, 3, -1, 2), NUMS(8, (float)(1 / 3.0), 4));
  EVAL_OP("(%a: i32[2], %b: f32[2]) -> i32[2]", "pow %a, %b", NUMS(9, 2, 0.5, 10), NUMS(3, 1024));
}

Test(eval_eltwise, casts) {
  EVAL_OP("(%a: f32[6]) -> i8[6]", "cast %a", NUMS(300, -300, 1.9, -1.9, NAN, inf), NUMS(127, -128, 1, -1, 0, 127));
  EVAL_OP("(%a: i32[3]) -> i8[3]", "cast %a", NUMS(300, -129, 5), NUMS(44, 127, 5));
  EVAL_OP("(%a: f32[3]) -> bool[3]", "cast %a", NUMS(0, -0.5, NAN), NUMS(0, 1, 1));
  EVAL_OP("(%a: f32[2]) -> u64[2]", "cast %a", NUMS(-5, 0x1p63), NUMS(0, 0x1p63));
  EVAL_OP("(%a: u64[1]) -> f32[1]", "cast %a", NUMS(0x1p63), NUMS(0x1p63));
  EVAL_OP("(%a: f32[3]) -> f16[3]", "cast %a", NUMS(65520, 1.00048828125, 1e-8), NUMS(inf, 1, 0));
  EVAL_OP("(%a: f32[3]) -> f8e4m3fn[3]", "cast %a", NUMS(1000, -inf, 0.06), NUMS(448, -448, 0.0625 - 0.0625 / 16));
  EVAL_OP("(%a: f64[1]) -> f32[1]", "cast %a", NUMS(0.1), NUMS(0.1f));
}

Test(eval_eltwise, select_and_compare) {
  EVAL_OP("(%c: bool[3], %a: f32[], %b: f32[3]) -> f32[3]", "select %c, %a, %b", NUMS(1, 0, 1, 7, 1, 2, 3),
          NUMS(7, 2, 7));
  EVAL_OP("(%a: f32[3], %b: f32[3]) -> bool[3]", "equal %a, %b", NUMS(NAN, 0.0, 2, NAN, -0.0, 3), NUMS(0, 1, 0));
  EVAL_OP("(%a: f32[3]) -> bool[3]", "isinf %a {negative = 0.0}", NUMS(inf, -inf, 1), NUMS(1, 0, 0));
}

Test(eval_eltwise, functions) {
  EVAL_NEAR("(%a: f32[2]) -> f32[2]", "sigmoid %a", NUMS(0, -100), NUMS(0.5, 0));
  EVAL_NEAR("(%a: f32[1]) -> f32[1]", "gelu %a", NUMS(1), NUMS(0.8413447460685429));
  EVAL_NEAR("(%a: f32[2]) -> f32[2]", "leaky_relu %a {alpha = 0.5}", NUMS(-2, 3), NUMS(-1, 3));
  EVAL_NEAR("(%a: f32[2]) -> f32[2]", "hard_sigmoid %a", NUMS(-9, 1), NUMS(0, 0.7));
  EVAL_NEAR("(%a: f32[2]) -> f32[2]", "softplus %a", NUMS(200, 0), NUMS(200, 0.6931471805599453));
  EVAL_NEAR("(%a: f32[3]) -> f32[3]", "shrink %a {lambd = 1, bias = 0.5}", NUMS(-2, 0.5, 2), NUMS(-1.5, 0, 1.5));
}

Test(eval_eltwise, half_precision_rounds_every_result) {
  EVAL_OP("(%a: f16[1], %b: f16[1]) -> f16[1]", "add %a, %b", NUMS(2048, 1), NUMS(2048));
  EVAL_OP("(%a: bf16[1], %b: bf16[1]) -> bf16[1]", "mul %a, %b", NUMS(1.0078125, 1.0078125), NUMS(1.015625));
}

Test(eval_eltwise, map_broadcasts_and_rounds_inside) {
  EVAL_TEXT(
      "func @f(%x: f16[2,2], %y: f16[2]) -> f16[2,2] {\n"
      "  %0 = map %x, %y {body = @g} : f16[2,2]\n"
      "  return %0\n"
      "}\n"
      "func @g(%a: f16[], %b: f16[]) -> f16[] {\n"
      "  %0 = add %a, %b : f16[]\n"
      "  %1 = sub %0, f16(2048) : f16[]\n"
      "  return %1\n"
      "}\n",
      NUMS(2048, 0, 2050, 1, 1, 2048), NUMS(0, 0, 4, 0));  // 2051 is a tie and rounds to 2052
}

Test(eval_eltwise, large_maps_cross_blocks) {
  enum { N = 700 };
  double in[N], want[N];
  for (int k = 0; k < N; k++) in[k] = k, want[k] = 2 * k + 1;
  case_text(__LINE__,
            "func @f(%x: i32[700]) -> i32[700] {\n  %0 = map %x {body = @g} : i32[700]\n  return %0\n}\n"
            "func @g(%a: i32[]) -> i32[] {\n  %0 = add %a, %a : i32[]\n  %1 = add %0, i32(1) : i32[]\n  return %1\n}\n",
            0, in, N, want, N);
}
