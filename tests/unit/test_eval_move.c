// Movement, gathers and scatters of the graph interpreter.
#include "tests/unit/eval_case.h"

Test(eval_move, orders) {
  EVAL_OP("(%x: f32[2,3]) -> f32[3,2]", "transpose %x {perm = [1,0]}", NUMS(1, 2, 3, 4, 5, 6), NUMS(1, 4, 2, 5, 3, 6));
  EVAL_OP("(%x: u3[2,3]) -> u3[3,2]", "transpose %x {perm = [1,0]}", NUMS(1, 2, 3, 4, 5, 6), NUMS(1, 4, 2, 5, 3, 6));
  EVAL_OP("(%x: f32[2,3]) -> f32[3,2]", "reshape %x", NUMS(1, 2, 3, 4, 5, 6), NUMS(1, 2, 3, 4, 5, 6));
  EVAL_OP("(%x: f32[]) -> f32[1,1]", "reshape %x", NUMS(4), NUMS(4));
  EVAL_OP("(%x: f32[2,1]) -> f32[2,2,2]", "expand %x", NUMS(1, 2), NUMS(1, 1, 2, 2, 1, 1, 2, 2));
  EVAL_OP("(%x: i4[1,2]) -> i4[2,4]", "tile %x {repeats = [2,2]}", NUMS(-8, 7), NUMS(-8, 7, -8, 7, -8, 7, -8, 7));
}

Test(eval_move, pieces) {
  EVAL_OP("(%x: f32[5]) -> f32[3]", "slice %x {starts = [4], steps = [-2]}", NUMS(0, 1, 2, 3, 4), NUMS(4, 2, 0));
  EVAL_OP("(%x: f32[2,3]) -> f32[1,2]", "slice %x {starts = [1,0], steps = [1,2]}", NUMS(0, 1, 2, 3, 4, 5), NUMS(3, 5));
  EVAL_OP("(%x: f32[3]) -> f32[0]", "slice %x {starts = [3]}", NUMS(0, 1, 2), NO_NUMS);
  EVAL_OP("(%a: f32[2,1], %b: f32[2,2], %c: f32[2,0]) -> f32[2,3]", "concat %a, %b, %c {axis = 1}",
          NUMS(1, 4, 2, 3, 5, 6), NUMS(1, 2, 3, 4, 5, 6));
  EVAL_OP("(%a: bip[3], %b: bip[2]) -> bip[5]", "concat %a, %b {axis = 0}", NUMS(1, -1, 1, -1, 1),
          NUMS(1, -1, 1, -1, 1));
}

Test(eval_move, pads) {
  EVAL_OP("(%x: f32[3]) -> f32[6]", "pad %x {pads = [2,1], value = 9}", NUMS(1, 2, 3), NUMS(9, 9, 1, 2, 3, 9));
  EVAL_OP("(%x: f32[3]) -> f32[6]", "pad %x {pads = [2,1], mode = reflect}", NUMS(1, 2, 3), NUMS(3, 2, 1, 2, 3, 2));
  EVAL_OP("(%x: f32[3]) -> f32[6]", "pad %x {pads = [2,1], mode = edge}", NUMS(1, 2, 3), NUMS(1, 1, 1, 2, 3, 3));
  EVAL_OP("(%x: f32[3]) -> f32[7]", "pad %x {pads = [2,2], mode = wrap}", NUMS(1, 2, 3), NUMS(2, 3, 1, 2, 3, 1, 2));
  EVAL_OP("(%x: f32[4]) -> f32[3]", "pad %x {pads = [-2,1]}", NUMS(1, 2, 3, 4), NUMS(3, 4, 0));
  EVAL_OP("(%x: f32[1,2]) -> f32[2,2]", "pad %x {pads = [1,0,0,0], value = 5}", NUMS(1, 2), NUMS(5, 5, 1, 2));
}

Test(eval_move, triangles) {
  EVAL_OP("(%x: f32[2,3]) -> f32[2,3]", "trilu %x {k = 1}", NUMS(1, 2, 3, 4, 5, 6), NUMS(0, 2, 3, 0, 0, 6));
  EVAL_OP("(%x: f32[2,3]) -> f32[2,3]", "trilu %x {upper = false}", NUMS(1, 2, 3, 4, 5, 6), NUMS(1, 0, 0, 4, 5, 0));
}

Test(eval_move, gathers) {
  EVAL_OP("(%x: f32[3,2], %i: i64[2]) -> f32[2,2]", "gather %x, %i", NUMS(1, 2, 3, 4, 5, 6, -1, 0), NUMS(5, 6, 1, 2));
  EVAL_OP("(%x: f32[3], %i: i64[]) -> f32[]", "gather %x, %i", NUMS(1, 2, 3, 1), NUMS(2));
  EVAL_OP("(%x: f32[2,3], %i: i64[2,1]) -> f32[2,2,1]", "gather %x, %i {axis = 1}", NUMS(1, 2, 3, 4, 5, 6, 2, 0),
          NUMS(3, 1, 6, 4));
  EVAL_OP("(%x: f32[2,2], %i: i64[2,2]) -> f32[2,2]", "gather_elements %x, %i {axis = 1}",
          NUMS(1, 2, 3, 4, 0, 0, 1, -2), NUMS(1, 1, 4, 3));
  EVAL_OP("(%x: f32[2,2], %i: i64[2,2]) -> f32[2]", "gather_nd %x, %i", NUMS(0, 1, 2, 3, 0, 0, 1, 1), NUMS(0, 3));
  EVAL_OP("(%x: f32[2,2,2], %i: i64[2,1]) -> f32[2,2]", "gather_nd %x, %i {batch_dims = 1}",
          NUMS(0, 1, 2, 3, 4, 5, 6, 7, 1, 0), NUMS(2, 3, 4, 5));
  EVAL_OP("(%t: f32[3,2], %i: u2[2]) -> f32[2,2]", "lookup %t, %i", NUMS(1, 2, 3, 4, 5, 6, 2, 0), NUMS(5, 6, 1, 2));
}

Test(eval_move, wrong_indices_are_errors) {
  EVAL_FAILS("(%x: f32[3], %i: i64[2]) -> f32[2]", "gather %x, %i", NUMS(1, 2, 3, 0, 3),
             "index 3 (element 1 of the indices) is outside [-3, 2]");
  EVAL_FAILS("(%x: f32[3], %i: i64[1]) -> f32[1]", "gather_elements %x, %i", NUMS(1, 2, 3, -4), "index -4");
  EVAL_FAILS("(%x: f32[3], %i: i64[1,1]) -> f32[1]", "gather_nd %x, %i", NUMS(1, 2, 3, 7), "index 7");
  EVAL_FAILS("(%x: f32[3], %i: i64[1], %u: f32[1]) -> f32[3]", "scatter_elements %x, %i, %u", NUMS(1, 2, 3, 5, 0),
             "index 5");
  EVAL_FAILS("(%x: f32[3], %i: i64[1,1], %u: f32[1]) -> f32[3]", "scatter_nd %x, %i, %u", NUMS(1, 2, 3, -9, 0),
             "index -9");
  EVAL_FAILS("(%t: f32[3], %i: u2[1]) -> f32[1]", "lookup %t, %i", NUMS(1, 2, 3, 3), "code 3 (element 0)");
}

Test(eval_move, scatters) {
  EVAL_OP("(%x: f32[3], %i: i64[2], %u: f32[2]) -> f32[3]", "scatter_elements %x, %i, %u", NUMS(1, 2, 3, -1, 0, 30, 10),
          NUMS(10, 2, 30));
  EVAL_OP("(%x: f32[3], %i: i64[2], %u: f32[2]) -> f32[3]", "scatter_elements %x, %i, %u {reduction = add}",
          NUMS(1, 2, 3, 1, 1, 10, 20), NUMS(1, 32, 3));
  EVAL_OP("(%x: f32[2,2], %i: i64[1,2], %u: f32[1,2]) -> f32[2,2]", "scatter_elements %x, %i, %u {reduction = mul}",
          NUMS(1, 2, 3, 4, 1, 0, 10, 20), NUMS(1, 40, 30, 4));
  EVAL_OP("(%x: f32[2,2], %i: i64[2,1], %u: f32[2,2]) -> f32[2,2]", "scatter_nd %x, %i, %u {reduction = max}",
          NUMS(1, 2, 3, 4, 1, 1, 9, 0, 0, 8), NUMS(1, 2, 9, 8));
  EVAL_OP("(%x: i32[3], %i: i64[1,1], %u: i32[1]) -> i32[3]", "scatter_nd %x, %i, %u {reduction = min}",
          NUMS(1, 2, 3, 1, -9), NUMS(1, -9, 3));
}

Test(eval_move, one_hot_ignores_wrong_indices) {
  EVAL_OP("(%i: i64[4], %v: f32[2]) -> f32[4,3]", "one_hot %i, %v {depth = 3}", NUMS(0, -1, 3, -4, 5, 7),
          NUMS(7, 5, 5, 5, 5, 7, 5, 5, 5, 5, 5, 5));
  EVAL_OP("(%i: i64[2], %v: f32[2]) -> f32[2,2]", "one_hot %i, %v {depth = 2, axis = 0}", NUMS(1, 1, 0, 1),
          NUMS(0, 0, 1, 1));
}
