// Pools, reductions, order and normalisations of the graph interpreter.
#include "tests/unit/eval_case.h"

Test(eval_pool, maxpool_values_and_indices) {
  EVAL_OP("(%x: f32[1,1,2,4]) -> (f32[1,1,1,2], i64[1,1,1,2])", "maxpool %x {kernel = [2,2], strides = [2,2]}",
          NUMS(1, 5, 2, 2, 4, 5, 9, 9), NUMS(5, 9, 1, 6));
  EVAL_OP("(%x: f32[1,1,2,2]) -> (f32[1,1,1,1], i64[1,1,1,1])", "maxpool %x {kernel = [2,2], column_major = true}",
          NUMS(1, 5, 2, 2), NUMS(5, 2));
  EVAL_OP("(%x: f32[1,1,2,2]) -> (f32[1,1,1,2], i64[1,1,1,2])", "maxpool %x {kernel = [1,2], layout = nhwc}",
          NUMS(1, 8, 5, 2), NUMS(5, 8, 1, 2));
  // -0 and 0 are equals: the index is that of the first, the value is +0.
  EVAL_OP("(%x: f32[1,1,3]) -> (f32[1,1,2], i64[1,1,2])", "maxpool %x {kernel = [2]}", NUMS(-0.0, 0.0, NAN),
          NUMS(0.0, NAN, 0, 2));
  EVAL_OP("(%x: i8[1,1,3]) -> (i8[1,1,3], i64[1,1,3])", "maxpool %x {kernel = [3], pads = [1,1]}", NUMS(-5, -7, -6),
          NUMS(-5, -5, -6, 0, 0, 2));
}

Test(eval_pool, ceil_mode_and_dilation) {
  EVAL_OP("(%x: f32[1,1,5]) -> (f32[1,1,3], i64[1,1,3])", "maxpool %x {kernel = [2], strides = [2], ceil_mode = true}",
          NUMS(1, 2, 3, 4, 5), NUMS(2, 4, 5, 1, 3, 4));
  EVAL_OP("(%x: f32[1,1,4]) -> (f32[1,1,2], i64[1,1,2])", "maxpool %x {kernel = [2], dilations = [2]}",
          NUMS(9, 1, 2, 3), NUMS(9, 3, 0, 3));
}

Test(eval_pool, averages_count_what_they_say) {
  EVAL_OP("(%x: f32[1,1,2]) -> f32[1,1,3]", "avgpool %x {kernel = [2], pads = [1,1]}", NUMS(2, 4), NUMS(2, 3, 4));
  EVAL_OP("(%x: f32[1,1,2]) -> f32[1,1,3]", "avgpool %x {kernel = [2], pads = [1,1], count_include_pad = true}",
          NUMS(2, 4), NUMS(1, 3, 2));
  // The last window hangs over the end: the overhang is not padding and never counts.
  EVAL_OP("(%x: f32[1,1,3]) -> f32[1,1,2]",
          "avgpool %x {kernel = [2], strides = [2], ceil_mode = true, count_include_pad = true}", NUMS(2, 4, 8),
          NUMS(3, 8));
  EVAL_OP("(%x: i32[1,1,2]) -> i32[1,1,1]", "avgpool %x {kernel = [2]}", NUMS(-3, -4), NUMS(-3));
  EVAL_NEAR("(%x: f32[1,1,3]) -> f32[1,1,2]", "lppool %x {kernel = [2], p = 3}", NUMS(1, -2, 2),
            NUMS(2.080083823, 2.5198421));
}

Test(eval_reduce, kinds) {
  EVAL_OP("(%x: f32[2,3]) -> f32[2]", "reduce %x {axes = [1], keepdims = false}", NUMS(1, 2, 3, 4, 5, 6), NUMS(6, 15));
  EVAL_OP("(%x: f32[2,3]) -> f32[1,3]", "reduce %x {op = mean, axes = [0]}", NUMS(1, 2, 3, 4, 5, 6),
          NUMS(2.5, 3.5, 4.5));
  EVAL_OP("(%x: f32[2,3]) -> f32[1,1]", "reduce %x {op = prod, axes = [0,1]}", NUMS(1, 2, 3, 4, 5, 6), NUMS(720));
  EVAL_OP("(%x: f32[3]) -> f32[1]", "reduce %x {op = max, axes = [0]}", NUMS(1, NAN, 3), NUMS(NAN));
  EVAL_OP("(%x: f32[3]) -> f32[1]", "reduce %x {op = l1, axes = [0]}", NUMS(1, -2, 3), NUMS(6));
  EVAL_OP("(%x: f32[2]) -> f32[1]", "reduce %x {op = l2, axes = [0]}", NUMS(3, -4), NUMS(5));
  EVAL_OP("(%x: f32[2]) -> f32[1]", "reduce %x {op = sumsq, axes = [0]}", NUMS(3, -4), NUMS(25));
  EVAL_NEAR("(%x: f32[2]) -> f32[1]", "reduce %x {op = logsumexp, axes = [0]}", NUMS(1000, 1000), NUMS(1000.693147));
  EVAL_OP("(%x: f32[2]) -> f32[1]", "reduce %x {op = logsumexp, axes = [0]}", NUMS(-inf, -inf), NUMS(-inf));
  EVAL_OP("(%x: f32[2]) -> f32[2]", "reduce %x", NUMS(3, -4), NUMS(3, -4));
  EVAL_OP("(%x: f32[]) -> f32[]", "reduce %x {op = l1}", NUMS(-4), NUMS(4));
  EVAL_OP("(%x: i8[2]) -> i8[1]", "reduce %x {axes = [0]}", NUMS(100, 100), NUMS(-56));
  EVAL_OP("(%x: i32[2]) -> i32[1]", "reduce %x {op = mean, axes = [0]}", NUMS(-3, -4), NUMS(-3));
  EVAL_OP("(%x: bool[3]) -> bool[1]", "reduce %x {op = min, axes = [0]}", NUMS(1, 1, 1), NUMS(1));
}

Test(eval_reduce, nothing_to_reduce) {
  EVAL_OP("(%x: f32[0,2]) -> f32[2]", "reduce %x {axes = [0], keepdims = false}", NO_NUMS, NUMS(0, 0));
  EVAL_OP("(%x: f32[0,1]) -> f32[1]", "reduce %x {op = max, axes = [0], keepdims = false}", NO_NUMS, NUMS(-inf));
  EVAL_OP("(%x: i8[0,1]) -> i8[1]", "reduce %x {op = min, axes = [0], keepdims = false}", NO_NUMS, NUMS(127));
  EVAL_OP("(%x: f32[0,1]) -> f32[1]", "reduce %x {op = prod, axes = [0], keepdims = false}", NO_NUMS, NUMS(1));
}

Test(eval_reduce, arg_ties_and_nan) {
  EVAL_OP("(%x: f32[4]) -> i64[1]", "argreduce %x", NUMS(1, 3, 3, 2), NUMS(1));
  EVAL_OP("(%x: f32[4]) -> i64[1]", "argreduce %x {last = true}", NUMS(1, 3, 3, 2), NUMS(2));
  EVAL_OP("(%x: f32[4]) -> i64[]", "argreduce %x {op = min, keepdims = false, last = true}", NUMS(1, 3, 1, 2), NUMS(2));
  EVAL_OP("(%x: f32[4]) -> i64[1]", "argreduce %x", NUMS(1, NAN, NAN, 9), NUMS(1));
  EVAL_OP("(%x: f32[2,2]) -> i64[2]", "argreduce %x {axis = 0, keepdims = false}", NUMS(1, 9, 2, 3), NUMS(1, 0));
}

Test(eval_reduce, topk_ties_take_the_lower_index) {
  EVAL_OP("(%x: f32[5]) -> (f32[3], i64[3])", "topk %x {k = 3}", NUMS(1, 3, 2, 3, 3), NUMS(3, 3, 3, 1, 3, 4));
  EVAL_OP("(%x: f32[4]) -> (f32[2], i64[2])", "topk %x {k = 2, largest = false}", NUMS(NAN, 3, -2, -2),
          NUMS(-2, -2, 2, 3));
  EVAL_OP("(%x: i32[2,2]) -> (i32[1,2], i64[1,2])", "topk %x {axis = 0, k = 1}", NUMS(1, 9, 2, 3), NUMS(2, 9, 1, 0));
}

Test(eval_reduce, cumsum) {
  EVAL_OP("(%x: f32[4]) -> f32[4]", "cumsum %x", NUMS(1, 2, 3, 4), NUMS(1, 3, 6, 10));
  EVAL_OP("(%x: f32[4]) -> f32[4]", "cumsum %x {exclusive = true}", NUMS(1, 2, 3, 4), NUMS(0, 1, 3, 6));
  EVAL_OP("(%x: i32[2,2]) -> i32[2,2]", "cumsum %x {axis = 1, exclusive = true, reverse = true}", NUMS(1, 2, 3, 4),
          NUMS(2, 0, 4, 0));
}

Test(eval_norm, softmax_does_not_overflow) {
  EVAL_OP("(%x: f32[2]) -> f32[2]", "softmax %x", NUMS(1e4, 1e4), NUMS(0.5, 0.5));
  EVAL_NEAR("(%x: f32[2,2]) -> f32[2,2]", "softmax %x {axis = 0}", NUMS(0, 1, 1, 1),
            NUMS(0.26894142, 0.5, 0.73105858, 0.5));
  EVAL_NEAR("(%x: f32[2]) -> f32[2]", "log_softmax %x", NUMS(0, 1000), NUMS(-1000, 0));
}

Test(eval_norm, statistics) {
  EVAL_NEAR("(%x: f32[1,2,1], %s: f32[2], %b: f32[2], %m: f32[2], %v: f32[2]) -> f32[1,2,1]",
            "batchnorm %x, %s, %b, %m, %v {epsilon = 0}", NUMS(5, 6, 2, 3, 10, 20, 1, 2, 4, 16), NUMS(14, 23));
  EVAL_NEAR("(%x: f32[1,2,2], %s: f32[2], %b: f32[2]) -> f32[1,2,2]", "instance_norm %x, %s, %b {epsilon = 0}",
            NUMS(1, 3, 10, 30, 1, 2, 0, 1), NUMS(-1, 1, -1, 3));
  EVAL_NEAR("(%x: f32[1,2,2], %s: f32[2], %b: f32[2]) -> f32[1,2,2]",
            "instance_norm %x, %s, %b {axis = 2, epsilon = 0}", NUMS(1, 10, 3, 30, 1, 2, 0, 1), NUMS(-1, -1, 1, 3));
  EVAL_NEAR("(%x: f32[1,2,2], %s: f32[2], %b: f32[2]) -> f32[1,2,2]", "group_norm %x, %s, %b {groups = 1, epsilon = 0}",
            NUMS(-1, -1, 1, 1, 1, 2, 0, 5), NUMS(-1, -1, 7, 7));
  EVAL_NEAR("(%x: f32[2,2], %s: f32[2]) -> (f32[2,2], f32[2,1], f32[2,1])", "layer_norm %x, %s {epsilon = 0}",
            NUMS(1, 3, 10, 50, 1, 2), NUMS(-1, 2, -1, 2, 2, 30, 1, 0.05));
  EVAL_NEAR("(%x: f32[1,2], %s: f32[2]) -> f32[1,2]", "rms_norm %x, %s {epsilon = 0}", NUMS(1, 7, 1, 10),
            NUMS(0.2, 14));
  EVAL_NEAR("(%x: f32[2,2]) -> f32[2,2]", "lp_norm %x", NUMS(3, 4, 0, 0), NUMS(0.6, 0.8, 0, 0));
  EVAL_NEAR("(%x: f32[2]) -> f32[2]", "lp_norm %x {p = 1}", NUMS(1, -3), NUMS(0.25, -0.75));
}

Test(eval_norm, lrn_window_of_even_size_leans_forward) {
  EVAL_NEAR("(%x: f32[1,3,1]) -> f32[1,3,1]", "lrn %x {size = 2, alpha = 2, beta = 1, bias = 0}", NUMS(1, 2, 4),
            NUMS(1 / 5.0, 2 / 20.0, 4 / 16.0));
}
