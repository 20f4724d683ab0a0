// lstm, gru and rnn of the graph interpreter, with linear activations where a case is to be followed by hand.
#include "tests/unit/eval_case.h"

#define LINEAR3 "activations = \"Affine,Affine,Affine\", alpha = [1,1,1], beta = [0,0,0]"
#define LSTM2 "(%x: f32[2,1,1], %w: f32[1,4,1], %r: f32[1,4,1]) -> (f32[2,1,1,1], f32[1,1,1], f32[1,1,1])"

Test(eval_rnn, lstm_by_hand) {
  // x = 1: i = o = f = g = 1, c = 1, h = 1; x = 2: all gates 2, c = 2 * 1 + 2 * 2, h = 2 * 6
  EVAL_OP(LSTM2, "lstm %x, %w, %r {" LINEAR3 "}", NUMS(1, 2, 1, 1, 1, 1, 0, 0, 0, 0), NUMS(1, 12, 12, 6));
  EVAL_OP(LSTM2, "lstm %x, %w, %r {direction = reverse, " LINEAR3 "}", NUMS(1, 2, 1, 1, 1, 1, 0, 0, 0, 0),
          NUMS(5, 8, 5, 5));
  EVAL_OP(LSTM2, "lstm %x, %w, %r {" LINEAR3 ", input_forget = true}", NUMS(1, 2, 1, 1, 1, 1, 0, 0, 0, 0),
          NUMS(1, 6, 6, 3));
  EVAL_OP(LSTM2, "lstm %x, %w, %r {" LINEAR3 ", clip = 1.5}", NUMS(1, 2, 1, 1, 1, 1, 0, 0, 0, 0),
          NUMS(1, 5.625, 5.625, 3.75));
}

Test(eval_rnn, lstm_gates_are_in_onnx_order) {
  // i = 2, o = 3, f = 5, g = 7 (from the biases), c0 = 1: c = 5 + 14, h = 57
  EVAL_OP(
      "(%x: f32[1,1,1], %w: f32[1,4,1], %r: f32[1,4,1], %b: f32[1,8], %h: f32[1,1,1], %c: f32[1,1,1]) -> "
      "(f32[1,1,1,1], f32[1,1,1], f32[1,1,1])",
      "lstm %x, %w, %r, %b, _, %h, %c {" LINEAR3 "}", NUMS(0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 7, 0, 2, 5, 0, 0, 1),
      NUMS(57, 57, 19));
}

Test(eval_rnn, lstm_peepholes) {
  // x = 1: i = f = g = 1, c = 1, o = 1 + c = 2, h = 2; x = 2: i = f = 3, g = 2, c = 9, o = 11, h = 99
  EVAL_OP("(%x: f32[2,1,1], %w: f32[1,4,1], %r: f32[1,4,1], %p: f32[1,3]) -> (f32[2,1,1,1], f32[1,1,1], f32[1,1,1])",
          "lstm %x, %w, %r, _, _, _, _, %p {" LINEAR3 "}", NUMS(1, 2, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1),
          NUMS(2, 99, 99, 9));
}

Test(eval_rnn, lstm_default_activations) {
  EVAL_NEAR(
      "(%x: f32[1,1,1], %w: f32[1,4,1], %r: f32[1,4,1], %c: f32[1,1,1]) -> "
      "(f32[1,1,1,1], f32[1,1,1], f32[1,1,1])",
      "lstm %x, %w, %r, _, _, _, %c", NUMS(0, 0, 0, 0, 0, 0, 0, 0, 0, 1), NUMS(0.231058579, 0.231058579, 0.5));
}

Test(eval_rnn, sequence_lens) {
  // Two batch entries of length 1 and 2; the reverse direction starts at the end of each.
  EVAL_OP("(%x: f32[2,2,1], %w: f32[1,1,1], %r: f32[1,1,1], %n: i32[2]) -> (f32[2,1,2,1], f32[1,2,1])",
          "rnn %x, %w, %r, _, %n {direction = reverse, activations = \"Affine\"}", NUMS(1, 10, 2, 20, 1, 2, 1, 2),
          NUMS(1, 50, 0, 20, 1, 50));
  EVAL_FAILS("(%x: f32[2,1,1], %w: f32[1,1,1], %r: f32[1,1,1], %n: i32[1]) -> (f32[2,1,1,1], f32[1,1,1])",
             "rnn %x, %w, %r, _, %n", NUMS(1, 10, 1, 2, 3), "sequence_lens[0] is 3, expected 0 to 2");
}

Test(eval_rnn, gru_by_hand) {
#define GRU1 \
  "(%x: f32[1,1,1], %w: f32[1,3,1], %r: f32[1,3,1], %b: f32[1,6], %h: f32[1,1,1]) -> (f32[1,1,1,1], f32[1,1,1])"
#define GRU1_IN NUMS(1, 0.5, 1, 1, 0, 1, 2, 0, 0, 0, 0, 0, 3, 1)
  // z = 0.5, r = 2; candidate 1 + (2 * 1) * 2 + 3 = 8, or 1 + 2 * (1 * 2 + 3) = 11
  EVAL_OP(GRU1, "gru %x, %w, %r, %b, _, %h {activations = \"Affine,Affine\"}", GRU1_IN, NUMS(4.5, 4.5));
  EVAL_OP(GRU1, "gru %x, %w, %r, %b, _, %h {activations = \"Affine,Affine\", linear_before_reset = true}", GRU1_IN,
          NUMS(6, 6));
}

Test(eval_rnn, directions_and_batch_major) {
  // [batch][steps][dirs][hidden]; forward h = x + h, backward h = 2 x + h
  EVAL_OP("(%x: f32[2,2,1], %w: f32[2,1,1], %r: f32[2,1,1]) -> (f32[2,2,2,1], f32[2,2,1])",
          "rnn %x, %w, %r {direction = bidirectional, activations = \"Affine,Affine\", batch_major = true}",
          NUMS(1, 2, 10, 20, 1, 2, 1, 1), NUMS(1, 6, 3, 4, 10, 60, 30, 40, 3, 6, 30, 60));
}

Test(eval_rnn, activation_functions) {
#define RNN1 "(%x: f32[1,1,1], %w: f32[1,1,1], %r: f32[1,1,1]) -> (f32[1,1,1,1], f32[1,1,1])"
  EVAL_NEAR(RNN1, "rnn %x, %w, %r", NUMS(0.5, 1, 0), NUMS(0.46211716, 0.46211716));
  EVAL_NEAR(RNN1, "rnn %x, %w, %r {activations = \"LeakyRelu\"}", NUMS(-2, 1, 0), NUMS(-0.02, -0.02));
  EVAL_NEAR(RNN1, "rnn %x, %w, %r {activations = \"LeakyRelu\", alpha = [0.5]}", NUMS(-2, 1, 0), NUMS(-1, -1));
  EVAL_NEAR(RNN1, "rnn %x, %w, %r {activations = \"HardSigmoid\"}", NUMS(1, 1, 0), NUMS(0.7, 0.7));
  EVAL_NEAR(RNN1, "rnn %x, %w, %r {activations = \"Softsign\"}", NUMS(-1, 1, 0), NUMS(-0.5, -0.5));
  EVAL_NEAR(RNN1, "rnn %x, %w, %r {activations = \"ScaledTanh\", alpha = [2], beta = [0.5]}", NUMS(1, 1, 0),
            NUMS(0.92423431, 0.92423431));
}
