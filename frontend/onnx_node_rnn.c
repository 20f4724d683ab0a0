// Importers of LSTM, GRU and RNN. Activation lists get their canonical names, and alpha and
// beta their defaults where the node gives too few.
#include <string.h>
#include <strings.h>

#include "frontend/onnx_node.h"

typedef struct Activation {
  const char *name;
  uint32_t params;  // 1: takes alpha, 2: takes alpha and beta
  double alpha, beta;
} Activation;

static const Activation activations[] = {
    {"Relu", 0, 0, 0},          {"Tanh", 0, 0, 0},     {"Sigmoid", 0, 0, 0},         {"Affine", 2, 1, 0},
    {"LeakyRelu", 1, 0.01f, 0}, {"Elu", 1, 1, 0},      {"ScaledTanh", 2, 1, 1},      {"HardSigmoid", 2, 0.2f, 0.5},
    {"Softsign", 0, 0, 0},      {"Softplus", 0, 0, 0}, {"ThresholdedRelu", 1, 1, 0},
};

static const Activation *activation_by_name(const char *s) {
  for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
    if (strcasecmp(activations[i].name, s) == 0) return &activations[i];
  return NULL;
}

// Slots of the attributes the three ops share.
typedef struct RnnSlots {
  int direction, activations, alpha, beta, clip, batch_major;
  uint32_t per_direction;
} RnnSlots;

// alpha and beta are listed only for the functions that take one, in order.
static bool rnn_activations(NodeCtx *c, Op *op, const RnnSlots *s, uint32_t dirs) {
  uint32_t n, n_alpha, n_beta, used_alpha = 0, used_beta = 0;
  const char *const *names = attr_strs(c, "activations", &n);
  const double *alpha = attr_floats(c, "activation_alpha", &n_alpha);
  const double *beta = attr_floats(c, "activation_beta", &n_beta);
  if (!names || !attrs_ok(c)) return attrs_ok(c);
  if (n != dirs * s->per_direction) return node_refuse(c, "%u activations, expected %u", n, dirs * s->per_direction);
  double a[8], b[8];
  StrBuf text;
  strbuf_init(&text, c->scratch);
  for (uint32_t i = 0; i < n; i++) {
    const Activation *f = activation_by_name(names[i]);
    if (!f) return node_unsupported(c, "activation '%s'", names[i]);
    strbuf_printf(&text, "%s%s", i ? "," : "", f->name);
    if (f->params > 0) {
      a[used_alpha] = used_alpha < n_alpha ? alpha[used_alpha] : f->alpha;
      used_alpha++;
    }
    if (f->params > 1) {
      b[used_beta] = used_beta < n_beta ? beta[used_beta] : f->beta;
      used_beta++;
    }
  }
  op_set_str(op, s->activations, intern(c->m->names, strbuf_str(&text)));
  op_set_floats(op, s->alpha, used_alpha, a);
  op_set_floats(op, s->beta, used_beta, b);
  return true;
}

// sequence_lens that only repeat the sequence length are dropped.
static Value *useful_lens(NodeCtx *c, bool batch_major) {
  Value *lens = node_in(c, 4);
  const Type *x = c->in[0]->type;
  if (!lens || !value_is_const(lens) || !dtype_is_int(lens->type->dtype) || x->rank != 3) return lens;
  for (int64_t i = 0; i < type_count(lens->type); i++)
    if (const_i(c->m, lens->constant, i) != x->dims[batch_major]) return lens;
  return NULL;
}

static bool rnn_common(NodeCtx *c, const RnnSlots *s, Op **out) {
  const char *direction = attr_str(c, "direction", "forward");
  EnumValue dir = enum_by_name("DIRECTION", direction);
  if (dir == ENUM_NONE) return node_refuse(c, "attribute direction is '%s'", direction);
  bool batch_major = attr_int(c, "layout", 0) != 0;
  const Type *r = c->in[2]->type;
  int64_t hidden = attr_int(c, "hidden_size", -1);
  if (hidden >= 0 && r->rank == 3 && r->dims[2] != hidden)
    return node_refuse(c, "hidden_size is %lld, the recurrence weights have %lld", (long long)hidden,
                       (long long)r->dims[2]);
  attr_ignore(c, "output_sequence");
  Value *in[8];
  for (uint32_t i = 0; i < c->n_in; i++) in[i] = i == 4 ? useful_lens(c, batch_major) : c->in[i];
  uint32_t n_in = c->n_in;
  while (!in[n_in - 1]) n_in--;
  Op *op = node_op(c, c->row->op, n_in, in);
  op_set_int(op, s->direction, dir);
  op_set_int(op, s->batch_major, batch_major);
  op_set_float(op, s->clip, attr_float(c, "clip", 0));
  *out = op;
  return rnn_activations(c, op, s, dir == DIRECTION_BIDIRECTIONAL ? 2 : 1);
}

static bool rnn_done(NodeCtx *c, Op *op) {
  Value *results[3];
  if (!attrs_ok(c) || !node_done_all(c, op, results)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = results[i];
  return true;
}

bool import_lstm(NodeCtx *c) {
  static const RnnSlots slots = {
      A_LSTM_direction, A_LSTM_activations, A_LSTM_alpha, A_LSTM_beta, A_LSTM_clip, A_LSTM_batch_major, 3};
  Op *op;
  if (!rnn_common(c, &slots, &op)) return false;
  op_set_int(op, A_LSTM_input_forget, attr_int(c, "input_forget", 0) != 0);
  return rnn_done(c, op);
}

bool import_gru(NodeCtx *c) {
  static const RnnSlots slots = {
      A_GRU_direction, A_GRU_activations, A_GRU_alpha, A_GRU_beta, A_GRU_clip, A_GRU_batch_major, 2};
  Op *op;
  if (!rnn_common(c, &slots, &op)) return false;
  op_set_int(op, A_GRU_linear_before_reset, attr_int(c, "linear_before_reset", 0) != 0);
  return rnn_done(c, op);
}

bool import_rnn(NodeCtx *c) {
  static const RnnSlots slots = {
      A_RNN_direction, A_RNN_activations, A_RNN_alpha, A_RNN_beta, A_RNN_clip, A_RNN_batch_major, 1};
  Op *op;
  return rnn_common(c, &slots, &op) && rnn_done(c, op);
}
