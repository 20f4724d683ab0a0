// Quantisation ops of the graph interpreter: ties, saturation, per-axis and blocked scales, levels of small types.
#include "tests/unit/eval_case.h"

Test(eval_quant, quantize_rounds_half_to_even_and_saturates) {
  EVAL_OP("(%x: f32[8], %s: f32[], %z: u8[]) -> u8[8]", "quantize %x, %s, %z",
          NUMS(0, 1, 3, -1, 1000, -1000, inf, NAN, 2, 128), NUMS(128, 128, 130, 128, 255, 0, 255, 0));
  EVAL_OP("(%x: f32[2], %s: f32[]) -> i8[2]", "quantize %x, %s", NUMS(-3e9, 3e9, 1e-3), NUMS(-128, 127));
  EVAL_OP("(%x: f32[3], %s: f32[]) -> i8[3]", "quantize %x, %s {round = half_away}", NUMS(0.5, -0.5, 2.5, 1),
          NUMS(1, -1, 3));
  EVAL_OP("(%x: f32[3], %s: f32[]) -> i8[3]", "quantize %x, %s {round = half_up}", NUMS(0.5, -0.5, 0.49999997, 1),
          NUMS(1, 0, 0));
}

Test(eval_quant, order_of_zero_point_and_rounding) {
  EVAL_OP("(%x: f32[1], %s: f32[], %z: i8[]) -> i8[1]", "quantize %x, %s, %z", NUMS(0.5, 1, 1), NUMS(1));
  EVAL_OP("(%x: f32[1], %s: f32[], %z: i8[]) -> i8[1]", "quantize %x, %s, %z {order = zero_then_round}",
          NUMS(0.5, 1, 1), NUMS(2));
}

// The exact quotient and the single-precision one round to different integers.
Test(eval_quant, quotient_is_single_precision) {
  float x = 2.45f, s = 0.1f;
  double exact = rint((double)x / (double)s), single = rint(x / s);
  cr_assert_neq(exact, single);
  EVAL_OP("(%x: f32[1], %s: f32[]) -> i8[1]", "quantize %x, %s", NUMS(x, s), NUMS(single));
}

Test(eval_quant, scales_per_axis_and_block) {
  EVAL_OP("(%x: f32[2,2], %s: f32[2], %z: i8[2]) -> i8[2,2]", "quantize %x, %s, %z {axis = 0}",
          NUMS(1, 2, 10, 20, 1, 10, 0, 5), NUMS(1, 2, 6, 7));
  EVAL_OP("(%x: f32[1,4], %s: f32[1,2]) -> i8[1,4]", "quantize %x, %s {axis = 1, block = 2}", NUMS(1, 2, 30, 40, 1, 10),
          NUMS(1, 2, 3, 4));
  EVAL_OP("(%x: i8[2,2], %s: f32[2], %z: i8[2]) -> f32[2,2]", "dequantize %x, %s, %z {axis = 1}",
          NUMS(1, 2, 3, 4, 0.5, 10, 1, 2), NUMS(0, 0, 1, 20));
  EVAL_OP("(%x: u4[3,1], %s: f32[2,1], %z: u4[2,1]) -> f32[3,1]", "dequantize %x, %s, %z {axis = 0, block = 2}",
          NUMS(0, 15, 8, 1, 2, 8, 0), NUMS(-8, 7, 16));
  EVAL_OP("(%x: f32[3], %s: f32[]) -> f8e4m3fn[3]", "quantize %x, %s", NUMS(1000, -3, 0.5, 1), NUMS(448, -3, 0.5));
}

Test(eval_quant, thresholds_count_levels) {
  EVAL_OP("(%x: i32[4], %t: i32[1,3]) -> u2[4]", "threshold %x, %t", NUMS(-5, 0, 9, 10, 0, 5, 10), NUMS(0, 1, 2, 3));
  EVAL_OP("(%x: f32[2,2], %t: f32[2,1], %d: bool[2]) -> bip[2,2]", "threshold %x, %t, %d", NUMS(0, 0, 1, 2, 1, 1, 0, 1),
          NUMS(-1, 1, 1, -1));
  EVAL_OP("(%x: f32[3], %t: f32[1,2]) -> tern[3]", "threshold %x, %t", NUMS(-1, 0, 1, -0.5, 0.5), NUMS(-1, 0, 1));
  EVAL_OP("(%x: f32[2], %t: f32[1,1]) -> u1[2]", "threshold %x, %t", NUMS(NAN, 1, 0), NUMS(0, 1));
}

Test(eval_quant, requant) {
  EVAL_OP("(%x: i32[4], %m: f32[], %a: f32[]) -> i8[4]", "requant %x, %m, %a", NUMS(5, 7, 1000, -1000, 0.5, 1),
          NUMS(3, 5, 127, -128));
  EVAL_OP("(%x: i32[1,2], %m: f32[2], %a: f32[2]) -> u8[1,2]", "requant %x, %m, %a {order = zero_then_round}",
          NUMS(5, 5, 0.5, 2, 1, -20), NUMS(4, 0));
}
