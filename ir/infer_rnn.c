// Inference of the recurrent ops: ONNX operand order; the three differ in gates and operands only.
#include <string.h>

#include "ir/infer_hooks.h"

typedef struct RnnShape {
  int64_t dirs, seq, batch, input, hidden;
  bool batch_major;
} RnnShape;

static bool expect_dims(const Op *op, uint32_t i, const char *what, uint32_t rank, const int64_t *dims) {
  const Type *t = infer_in(op, i);
  if (!t) return true;
  const Type *want = type_tensor(op->func->module->types, t->dtype, rank, dims);
  return t == want || infer_fail(op, "%s is %s, expected %s", what, infer_text(op, t), infer_text(op, want));
}

// Names of activations: a list as long as dirs * per, or nothing; scaling lists at most as long.
static bool check_activations(const Op *op, int names, int alpha, int beta, int64_t dirs, uint32_t per) {
  static const char *const known[] = {
      "Relu",       "Tanh",        "Sigmoid", "Affine",   "LeakyRelu", "ThresholdedRelu",
      "ScaledTanh", "HardSigmoid", "Elu",     "Softsign", "Softplus"};
  const char *s = op_str(op, names);
  int64_t n = 0, want = dirs * per;
  while (*s) {
    size_t len = strcspn(s, ",");
    bool ok = false;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
      ok |= strlen(known[k]) == len && memcmp(known[k], s, len) == 0;
    if (!ok)
      return infer_fail(op, "unknown activation '%s'", str_escape(op->func->module->arena, s, len < 32 ? len : 32));
    n++;
    s += len + (s[len] == ',');
  }
  if (n != 0 && n != want) return infer_fail(op, "%lld activations, expected %lld", (long long)n, (long long)want);
  uint32_t na, nb;
  op_floats(op, alpha, &na);
  op_floats(op, beta, &nb);
  if (na > want || nb > want)
    return infer_fail(op, "alpha and beta have %u and %u elements, expected at most %lld", na, nb, (long long)want);
  return true;
}

// x, w, r, b, sequence_lens, initial_h; sets y and y_h.
static bool infer_cell(Op *op, int64_t gates, EnumValue direction, bool batch_major, RnnShape *s) {
  if (!infer_rank(op, 0, "x", 3, 3) || !infer_rank(op, 1, "w", 3, 3) || !infer_rank(op, 2, "r", 3, 3) ||
      !infer_is_float(op, 0, "x"))
    return false;
  const Type *x = infer_in(op, 0), *r = infer_in(op, 2), *lens = infer_in(op, 4);
  for (uint32_t i = 1; i < op->n_in; i++)
    if (i != 4 && !infer_same_dtype(op, 0, i)) return false;
  *s = (RnnShape){direction == DIRECTION_BIDIRECTIONAL ? 2 : 1,
                  x->dims[batch_major],
                  x->dims[!batch_major],
                  x->dims[2],
                  r->dims[2],
                  batch_major};
  if (!infer_known(op, s->hidden, "the hidden size") || !infer_known(op, s->input, "the input size")) return false;
  int64_t rows, d = s->dirs, h = s->hidden;
  if (!size_mul(2 * gates, h, &rows)) return infer_fail(op, "hidden size %lld is out of range", (long long)h);
  int64_t state[3] = {d, s->batch, h};
  if (batch_major) memcpy(state, (int64_t[]){s->batch, d, h}, sizeof state);
  if (!expect_dims(op, 1, "w", 3, (int64_t[]){d, rows / 2, s->input}) ||
      !expect_dims(op, 2, "r", 3, (int64_t[]){d, rows / 2, h}) || !expect_dims(op, 3, "b", 2, (int64_t[]){d, rows}) ||
      !expect_dims(op, 4, "sequence_lens", 1, &s->batch) || !expect_dims(op, 5, "initial_h", 3, state))
    return false;
  if (lens && !infer_is_int(op, 4, "sequence_lens")) return false;
  int64_t y[4] = {s->seq, d, s->batch, h};
  if (batch_major) memcpy(y, (int64_t[]){s->batch, s->seq, d, h}, sizeof y);
  return infer_set(op, 0, x->dtype, 4, y) && infer_set(op, 1, x->dtype, 3, state);
}

bool infer_lstm(Op *op) {
  RnnShape s;
  if (!infer_cell(op, 4, op_enum(op, A_LSTM_direction), op_bool(op, A_LSTM_batch_major), &s)) return false;
  const Type *state = op_out(op, 1)->type;
  return check_activations(op, A_LSTM_activations, A_LSTM_alpha, A_LSTM_beta, s.dirs, 3) &&
         expect_dims(op, 6, "initial_c", 3, state->dims) &&
         expect_dims(op, 7, "the peephole weights", 2, (int64_t[]){s.dirs, 3 * s.hidden}) &&
         infer_set(op, 2, state->dtype, 3, state->dims);
}

bool infer_gru(Op *op) {
  RnnShape s;
  return infer_cell(op, 3, op_enum(op, A_GRU_direction), op_bool(op, A_GRU_batch_major), &s) &&
         check_activations(op, A_GRU_activations, A_GRU_alpha, A_GRU_beta, s.dirs, 2);
}

bool infer_rnn(Op *op) {
  RnnShape s;
  return infer_cell(op, 1, op_enum(op, A_RNN_direction), op_bool(op, A_RNN_batch_major), &s) &&
         check_activations(op, A_RNN_activations, A_RNN_alpha, A_RNN_beta, s.dirs, 1);
}
