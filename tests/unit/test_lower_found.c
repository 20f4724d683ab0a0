// Cases that random graphs (tests/fuzz) found, each once wrong.
#include "tests/unit/lower_case.h"

static const Check exact = {0}, near64 = {.ulps = 64};

Test(lower_found, one_row_of_a_transposed_operand_in_batches) {
  lower_case(near64, "%w: f32[2,9], %x: f32[2,5,2,1]", "f32[2,5,1,9]",
             "%r0 = matmul %x, %w {trans_a = true} : f32[2,5,1,9]");
}

Test(lower_found, empty_contractions) {
  lower_case(exact, "%x: f32[9,5,0,2]", "f32[9,5,0,0]", "%r0 = matmul %x, %x {trans_b = true} : f32[9,5,0,0]");
  lower_case(exact, "%x: f32[14,0,7], %w: f32[7,13]", "f32[14,0,13]", "%r0 = matmul %x, %w : f32[14,0,13]");
  lower_case(exact, "%x: f32[4,0], %w: f32[0,3]", "f32[4,3]", "%r0 = matmul %x, %w : f32[4,3]");
}

Test(lower_found, levels_of_signed_types_start_at_their_smallest_value) {
  Check c = {.extra = "const @t: f32[1,3] = [-0.5, 0.25, 1.0]"};
  lower_case(c, "%x: f32[4,6]", "i8[4,6]", "%r0 = threshold %x, @t : i8[4,6]");
}

Test(lower_found, last_block_is_short) {
  Check c = {.hi = 9};
  lower_case(c, "%x: u8[3,7], %s: f32[3,3], %z: u8[3,3]", "f32[3,7]",
             "%r0 = dequantize %x, %s, %z {axis = 1, block = 3} : f32[3,7]");
  lower_case(c, "%x: u8[7,2], %s: f32[2,2]", "f32[7,2]", "%r0 = dequantize %x, %s {axis = 0, block = 5} : f32[7,2]");
  lower_case(c, "%x: f32[2,5,3], %s: f32[2,3,3]", "i8[2,5,3]",
             "%r0 = quantize %x, %s {axis = 1, block = 2} : i8[2,5,3]");
}

Test(lower_found, quotients_in_the_type_of_the_scale) {
  Check c = {.extra = "const @s: f16[1] = [0.041992188]"};
  lower_case(c, "%x: f16[60,7]", "i8[60,7]", "%r0 = quantize %x, @s : i8[60,7]");
}

Test(lower_found, pooling_windows_that_stick_out_on_both_sides) {
  lower_case(near64, "%x: f32[1,6,6,11]", "f32[1,6,2,6]",
             "%r0 = avgpool %x {kernel = [5,1], strides = [4,2], pads = [6,0,6,0], dilations = [3,2], "
             "count_include_pad = true} : f32[1,6,2,6]");
}

Test(lower_found, place_of_the_first_of_two_zeros) {
  Check c = {.extra = "const @x: f32[1,1,4] = [-0.0, 0.0, -1.0, -0.0]"};
  lower_case(c, "%y: i64[1,1,1]", "i64[1,1,1]",
             "%v, %i = maxpool @x {kernel = [4]} : f32[1,1,1], i64[1,1,1]\n  %r0 = add %i, %y : i64[1,1,1]");
}

Test(lower_found, extrapolation_saturates) {
  Check c = {.hi = 200};
  lower_case(c, "%x: u8[5,8]", "u8[9,6]",
             "%r0 = resize %x {coord = tf_crop_and_resize, scales = [1.8,0.75], roi = [-0.2,0.0,0.7,1.0], "
             "extrapolation = -1.0} : u8[9,6]");
}
