// resize of the graph interpreter against the examples of the ONNX operator document.
#include "tests/unit/eval_case.h"

#define SIXTEEN 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#define DOWN8 "scales = [0.800000011920929, 0.800000011920929]"
#define DOWN6 "scales = [0.6000000238418579, 0.6000000238418579]"

Test(eval_resize, nearest) {
  EVAL_OP("(%x: f32[2,2]) -> f32[4,6]", "resize %x {scales = [2,3]}", NUMS(1, 2, 3, 4),
          NUMS(1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4));
  EVAL_OP("(%x: f32[2,4]) -> f32[1,2]", "resize %x {" DOWN6 "}", NUMS(1, 2, 3, 4, 5, 6, 7, 8), NUMS(1, 3));
  EVAL_OP("(%x: f32[3]) -> f32[6]", "resize %x {coord = asymmetric, nearest = ceil, scales = [2]}", NUMS(1, 2, 3),
          NUMS(1, 2, 2, 3, 3, 3));
  EVAL_OP("(%x: f32[3]) -> f32[6]", "resize %x {coord = asymmetric, nearest = round_prefer_ceil, scales = [2]}",
          NUMS(1, 2, 3), NUMS(1, 2, 2, 3, 3, 3));
  EVAL_OP("(%x: f32[3]) -> f32[6]", "resize %x {coord = asymmetric, nearest = floor, scales = [2]}", NUMS(1, 2, 3),
          NUMS(1, 1, 2, 2, 3, 3));
  EVAL_OP("(%x: f32[4]) -> f32[2]", "resize %x {coord = tf_half_pixel_for_nn, nearest = floor, scales = [0.5]}",
          NUMS(1, 2, 3, 4), NUMS(2, 4));
  EVAL_OP("(%x: u2[2]) -> u2[4]", "resize %x {scales = [2]}", NUMS(1, 3), NUMS(1, 1, 3, 3));
}

Test(eval_resize, linear) {
  EVAL_NEAR("(%x: f32[2,2]) -> f32[4,4]", "resize %x {mode = linear, scales = [2,2]}", NUMS(1, 2, 3, 4),
            NUMS(1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4));
  EVAL_NEAR("(%x: f32[2]) -> f32[4]", "resize %x {mode = linear, coord = align_corners, scales = [2]}", NUMS(1, 2),
            NUMS(1, 4 / 3.0, 5 / 3.0, 2));
  EVAL_NEAR("(%x: f32[2,4]) -> f32[1,2]", "resize %x {mode = linear, " DOWN6 "}", NUMS(1, 2, 3, 4, 5, 6, 7, 8),
            NUMS(2.6666665, 4.333333));
  EVAL_NEAR("(%x: f32[4]) -> f32[2]",
            "resize %x {mode = linear, coord = half_pixel_symmetric, scales = [0.6000000238418579]}", NUMS(1, 2, 3, 4),
            NUMS(1.6666667, 3.3333333));
  EVAL_NEAR("(%x: f32[4,4]) -> f32[3,1]",
            "resize %x {mode = linear, coord = pytorch_half_pixel, scales = [0.75, 0.25]}", NUMS(SIXTEEN),
            NUMS(1.6666666, 7, 12.333333));
  EVAL_NEAR("(%x: f32[4,4]) -> f32[2,2]", "resize %x {mode = linear, " DOWN6 ", antialias = true}", NUMS(SIXTEEN),
            NUMS(2.875, 4.5, 9.375, 11));
}

Test(eval_resize, crop) {
  EVAL_NEAR("(%x: f32[4,4]) -> f32[3,3]",
            "resize %x {mode = linear, coord = tf_crop_and_resize, scales = [0.75, 0.75], roi = [0.4000000059604645, "
            "0.6000000238418579, 0.6000000238418579, 0.800000011920929]}",
            NUMS(SIXTEEN), NUMS(7.6000004, 7.9, 8.2, 8.8, 9.1, 9.400001, 10, 10.3, 10.6));
  EVAL_NEAR("(%x: f32[4,4]) -> f32[3,3]",
            "resize %x {mode = linear, coord = tf_crop_and_resize, scales = [0.75, 0.75], roi = [0.4000000059604645, "
            "0.6000000238418579, 1.2000000476837158, 1.7000000476837158], extrapolation = 10}",
            NUMS(SIXTEEN), NUMS(7.6000004, 10, 10, 12.400001, 10, 10, 10, 10, 10));
}

Test(eval_resize, cubic) {
  EVAL_NEAR("(%x: f32[4,4]) -> f32[3,3]", "resize %x {mode = cubic, " DOWN8 "}", NUMS(SIXTEEN),
            NUMS(1.4711914, 2.78125, 4.0825195, 6.711426, 8.021484, 9.322754, 11.916504, 13.2265625, 14.527832));
  EVAL_NEAR("(%x: f32[4,4]) -> f32[3,3]", "resize %x {mode = cubic, " DOWN8 ", cubic_a = -0.5, exclude_outside = true}",
            NUMS(SIXTEEN),
            NUMS(1.3681267, 2.6695013, 4.0133367, 6.573625, 7.875, 9.218835, 11.948966, 13.250341, 14.594176));
  EVAL_NEAR("(%x: f32[4,4]) -> f32[2,2]", "resize %x {mode = cubic, " DOWN6 ", antialias = true}", NUMS(SIXTEEN),
            NUMS(2.5180721, 4.2858863, 9.589329, 11.357142));
}
