// lstm, gru, rnn: the ONNX equations step by step, states in double, rounded where they leave through a result.
//
// Past the end of a sequence (sequence_lens) the result is 0 and the state stays; the reverse direction starts at the
// end of each sequence. Clip bounds the pre-activations of the gates, not the cell state (ONNX Runtime and OpenVINO
// agree on that). Parameters of activation functions are taken from alpha and beta in the order of the functions that
// use them.
#include <math.h>
#include <string.h>
#include <strings.h>

#include "ir/eval_impl.h"

typedef enum ActKind {
  ACT_RELU,
  ACT_TANH,
  ACT_SIGMOID,
  ACT_AFFINE,
  ACT_LEAKY_RELU,
  ACT_THRESHOLDED_RELU,
  ACT_SCALED_TANH,
  ACT_HARD_SIGMOID,
  ACT_ELU,
  ACT_SOFTSIGN,
  ACT_SOFTPLUS,
  ACT_COUNT
} ActKind;

static const struct {
  const char *name;
  bool alpha, beta;  // takes the parameter
  double alpha_def, beta_def;
} activations[ACT_COUNT] = {
    [ACT_RELU] = {"Relu", false, false, 0, 0},
    [ACT_TANH] = {"Tanh", false, false, 0, 0},
    [ACT_SIGMOID] = {"Sigmoid", false, false, 0, 0},
    [ACT_AFFINE] = {"Affine", true, true, 1, 0},
    [ACT_LEAKY_RELU] = {"LeakyRelu", true, false, 0.01, 0},
    [ACT_THRESHOLDED_RELU] = {"ThresholdedRelu", true, false, 1, 0},
    [ACT_SCALED_TANH] = {"ScaledTanh", true, true, 1, 1},
    [ACT_HARD_SIGMOID] = {"HardSigmoid", true, true, 0.2, 0.5},
    [ACT_ELU] = {"Elu", true, false, 1, 0},
    [ACT_SOFTSIGN] = {"Softsign", false, false, 0, 0},
    [ACT_SOFTPLUS] = {"Softplus", false, false, 0, 0},
};

typedef struct Act {
  ActKind kind;
  double alpha, beta;
} Act;

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static double act_apply(const Act *a, double clip, double x) {
  if (clip > 0) x = min_num(max_num(x, -clip), clip);
  switch (a->kind) {
    case ACT_RELU: return max_num(x, 0);
    case ACT_TANH: return tanh(x);
    case ACT_SIGMOID: return sigmoid(x);
    case ACT_AFFINE: return a->alpha * x + a->beta;
    case ACT_LEAKY_RELU: return x < 0 ? a->alpha * x : x;
    case ACT_THRESHOLDED_RELU: return x > a->alpha || isnan(x) ? x : 0;
    case ACT_SCALED_TANH: return a->alpha * tanh(a->beta * x);
    case ACT_HARD_SIGMOID: return max_num(0, min_num(1, a->alpha * x + a->beta));
    case ACT_ELU: return x < 0 ? a->alpha * expm1(x) : x;
    case ACT_SOFTSIGN: return x / (1 + fabs(x));
    default: return max_num(x, 0) + log1p(exp(-fabs(x)));
  }
}

// ---- what the three have in common

enum { MAX_ACTS = 6 };

typedef struct RnnSlots {
  int direction, activations, alpha, beta, clip, batch_major;
} RnnSlots;

typedef struct Rnn {
  const Op *op;
  int64_t dirs, steps, batch, n_in, n_hidden, gates;
  bool batch_major, backward_only;
  double clip;
  uint32_t acts_per_dir;
  Act acts[MAX_ACTS];
  const double *x, *w, *r, *b, *p;  // b, p may be NULL
  const int64_t *lens;              // NULL: all `steps`
  double *h, *c;                    // state of one direction and batch entry at a time: [dirs][batch][hidden]
  double *y;                        // [steps][dirs][batch][hidden]
  // scratch of one step
  double *gate;   // gates x hidden: input part, then pre-activations
  double *recur;  // gates x hidden
} Rnn;

static void acts_parse(Rnn *s, const RnnSlots *slots, const char *missing) {
  uint32_t n_alpha = 0, n_beta = 0, at_alpha = 0, at_beta = 0, n = 0, wanted = s->acts_per_dir * (uint32_t)s->dirs;
  const double *alpha = op_floats(s->op, slots->alpha, &n_alpha), *beta = op_floats(s->op, slots->beta, &n_beta);
  const char *text = op_str(s->op, slots->activations);
  if (!*text) text = missing;
  for (const char *p = text; n < wanted;) {
    size_t len = strcspn(p, ",");
    uint32_t k = 0;
    while (k < ACT_COUNT && (strlen(activations[k].name) != len || strncasecmp(activations[k].name, p, len))) k++;
    QCC_CHECK(k < ACT_COUNT, "activation function '%.*s' after inference", (int)len, p);
    Act *a = &s->acts[n++];
    *a = (Act){(ActKind)k, activations[k].alpha_def, activations[k].beta_def};
    if (activations[k].alpha && at_alpha < n_alpha) a->alpha = alpha[at_alpha++];
    if (activations[k].beta && at_beta < n_beta) a->beta = beta[at_beta++];
    p = p[len] ? p + len + 1 : text;  // one list serves both directions
  }
}

static const double *optional(Arena *arena, const Op *op, const Tensor *in, uint32_t k) {
  return k < op->n_in && in[k].data ? floats_of(arena, &in[k]) : NULL;
}

// [batch][dirs][hidden] (batch major) or [dirs][batch][hidden] to and from the second order.
static int64_t state_at(const Rnn *s, int64_t d, int64_t b) {
  return (s->batch_major ? b * s->dirs + d : d * s->batch + b) * s->n_hidden;
}

static double *state_load(Arena *arena, const Rnn *s, const Tensor *in, uint32_t k) {
  double *state = NEW_ARRAY(arena, double, s->dirs * s->batch * s->n_hidden);
  const double *given = optional(arena, s->op, in, k);
  for (int64_t d = 0; d < s->dirs && given; d++)
    for (int64_t b = 0; b < s->batch; b++)
      memcpy(state + (d * s->batch + b) * s->n_hidden, given + state_at(s, d, b), (size_t)s->n_hidden * sizeof *given);
  return state;
}

static void state_store(const Rnn *s, const double *state, Tensor *t) {
  for (int64_t d = 0; d < s->dirs; d++)
    for (int64_t b = 0; b < s->batch; b++)
      for (int64_t k = 0; k < s->n_hidden; k++)
        elem_set_f(t->data, t->type->dtype, state_at(s, d, b) + k, state[(d * s->batch + b) * s->n_hidden + k]);
}

static bool rnn_init(Rnn *s, const Op *op, const Tensor *in, const RnnSlots *slots, int64_t gates, const char *acts,
                     Arena *arena) {
  const Type *x = in[0].type, *r = in[2].type;
  s->op = op;
  s->batch_major = op_bool(op, slots->batch_major);
  s->steps = x->dims[s->batch_major ? 1 : 0];
  s->batch = x->dims[s->batch_major ? 0 : 1];
  s->n_in = x->dims[2];
  s->n_hidden = r->dims[2];
  s->dirs = r->dims[0];
  s->gates = gates;
  s->backward_only = op_enum(op, slots->direction) == DIRECTION_REVERSE;
  s->clip = (float)op_float(op, slots->clip);
  s->acts_per_dir = gates == 4 ? 3 : gates == 3 ? 2 : 1;
  s->x = floats_of(arena, &in[0]);
  s->w = floats_of(arena, &in[1]);
  s->r = floats_of(arena, &in[2]);
  s->b = optional(arena, op, in, 3);
  s->lens = op->n_in > 4 && in[4].data ? ints_of(arena, &in[4]) : NULL;
  s->h = state_load(arena, s, in, 5);
  s->y = NEW_ARRAY(arena, double, s->steps * s->dirs * s->batch * s->n_hidden);
  s->gate = NEW_ARRAY(arena, double, gates * s->n_hidden);
  s->recur = NEW_ARRAY(arena, double, gates * s->n_hidden);
  for (int64_t b = 0; b < s->batch && s->lens; b++)
    if (s->lens[b] < 0 || s->lens[b] > s->steps)
      return diag_error(op_diag(op), DIAG_REFUSED, op->loc, "sequence_lens[%lld] is %lld, expected 0 to %lld",
                        (long long)b, (long long)s->lens[b], (long long)s->steps);
  acts_parse(s, slots, acts);
  return true;
}

static double dot(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; k++) sum += a[k] * b[k];
  return sum;
}

// gate = W x + Wb, recur = R h + Rb, for all gates of direction d.
static void gates_linear(Rnn *s, int64_t d, const double *x, const double *h) {
  int64_t n = s->gates * s->n_hidden;
  for (int64_t k = 0; k < n; k++) {
    s->gate[k] = dot(s->w + (d * n + k) * s->n_in, x, s->n_in) + (s->b ? s->b[2 * d * n + k] : 0);
    s->recur[k] = dot(s->r + (d * n + k) * s->n_hidden, h, s->n_hidden) + (s->b ? s->b[(2 * d + 1) * n + k] : 0);
  }
}

// One step: x is the input row, h (and c) the state, updated in place.
typedef void StepFn(Rnn *s, int64_t d, const double *x, double *h, double *c);

static void rnn_run(Rnn *s, StepFn *step) {
  for (int64_t d = 0; d < s->dirs; d++)
    for (int64_t b = 0; b < s->batch; b++) {
      bool backward = s->backward_only || d == 1;
      int64_t len = s->lens ? s->lens[b] : s->steps;
      double *h = s->h + (d * s->batch + b) * s->n_hidden, *c = s->c ? s->c + (d * s->batch + b) * s->n_hidden : NULL;
      for (int64_t k = 0; k < len; k++) {
        int64_t t = backward ? len - 1 - k : k;
        step(s, d, s->x + (s->batch_major ? b * s->steps + t : t * s->batch + b) * s->n_in, h, c);
        double *y = s->y + ((t * s->dirs + d) * s->batch + b) * s->n_hidden;
        memcpy(y, h, (size_t)s->n_hidden * sizeof *y);
      }
    }
}

// y [steps][dirs][batch][hidden], batch major [batch][steps][dirs][hidden].
static void results_store(const Rnn *s, Tensor *out) {
  state_store(s, s->h, &out[1]);
  if (!s->batch_major) {
    floats_store(&out[0], s->y);
    return;
  }
  int64_t to = 0;
  for (int64_t b = 0; b < s->batch; b++)
    for (int64_t t = 0; t < s->steps; t++)
      for (int64_t d = 0; d < s->dirs; d++)
        for (int64_t k = 0; k < s->n_hidden; k++)
          elem_set_f(out[0].data, out[0].type->dtype, to++, s->y[((t * s->dirs + d) * s->batch + b) * s->n_hidden + k]);
}

// ---- the cells

// Gates i o f c; peepholes i o f.
static void lstm_step(Rnn *s, int64_t d, const double *x, double *h, double *c) {
  int64_t n = s->n_hidden;
  const Act *acts = s->acts + d * 3;
  const double *p = s->p ? s->p + d * 3 * n : NULL;
  bool couple = op_bool(s->op, A_LSTM_input_forget);
  gates_linear(s, d, x, h);
  for (int64_t k = 0; k < n; k++) {
    double pre[4];
    for (int g = 0; g < 4; g++) pre[g] = s->gate[g * n + k] + s->recur[g * n + k];
    if (p) {
      pre[0] += p[k] * c[k];
      pre[2] += p[2 * n + k] * c[k];
    }
    double i = act_apply(&acts[0], s->clip, pre[0]);
    double f = couple ? 1 - i : act_apply(&acts[0], s->clip, pre[2]);
    double cell = f * c[k] + i * act_apply(&acts[1], s->clip, pre[3]);
    if (p) pre[1] += p[n + k] * cell;
    double o = act_apply(&acts[0], s->clip, pre[1]);
    c[k] = cell;
    h[k] = o * act_apply(&acts[2], 0, cell);
  }
}

EVAL(lstm) {
  static const RnnSlots slots = {A_LSTM_direction, A_LSTM_activations, A_LSTM_alpha,
                                 A_LSTM_beta,      A_LSTM_clip,        A_LSTM_batch_major};
  Rnn s = {0};
  if (!rnn_init(&s, op, in, &slots, 4, "Sigmoid,Tanh,Tanh", arena)) return false;
  s.c = state_load(arena, &s, in, 6);
  s.p = optional(arena, op, in, 7);
  rnn_run(&s, lstm_step);
  results_store(&s, out);
  state_store(&s, s.c, &out[2]);
  return true;
}

// Gates z r h. The reset gate multiplies h before R (default) or R h + Rb after it (linear_before_reset).
static void gru_step(Rnn *s, int64_t d, const double *x, double *h, double *c) {
  (void)c;
  int64_t n = s->n_hidden;
  const Act *acts = s->acts + d * 2;
  bool after = op_bool(s->op, A_GRU_linear_before_reset);
  gates_linear(s, d, x, h);
  double *z = s->gate, *r = s->gate + n, *cand = s->gate + 2 * n, *reset_h = s->recur, *rh = s->recur + 2 * n;
  for (int64_t k = 0; k < n; k++) {
    z[k] = act_apply(&acts[0], s->clip, z[k] + s->recur[k]);
    r[k] = act_apply(&acts[0], s->clip, r[k] + s->recur[n + k]);
  }
  for (int64_t k = 0; k < n; k++) reset_h[k] = r[k] * h[k];
  for (int64_t k = 0; k < n; k++) {
    double bias = s->b ? s->b[(2 * d + 1) * 3 * n + 2 * n + k] : 0;
    double through = after ? r[k] * rh[k] : dot(s->r + (d * 3 * n + 2 * n + k) * n, reset_h, n) + bias;
    cand[k] = act_apply(&acts[1], s->clip, cand[k] + through);
  }
  for (int64_t k = 0; k < n; k++) h[k] = (1 - z[k]) * cand[k] + z[k] * h[k];
}

EVAL(gru) {
  static const RnnSlots slots = {A_GRU_direction, A_GRU_activations, A_GRU_alpha,
                                 A_GRU_beta,      A_GRU_clip,        A_GRU_batch_major};
  Rnn s = {0};
  if (!rnn_init(&s, op, in, &slots, 3, "Sigmoid,Tanh", arena)) return false;
  rnn_run(&s, gru_step);
  results_store(&s, out);
  return true;
}

static void rnn_step(Rnn *s, int64_t d, const double *x, double *h, double *c) {
  (void)c;
  gates_linear(s, d, x, h);
  for (int64_t k = 0; k < s->n_hidden; k++) h[k] = act_apply(&s->acts[d], s->clip, s->gate[k] + s->recur[k]);
}

EVAL(rnn) {
  static const RnnSlots slots = {A_RNN_direction, A_RNN_activations, A_RNN_alpha,
                                 A_RNN_beta,      A_RNN_clip,        A_RNN_batch_major};
  Rnn s = {0};
  if (!rnn_init(&s, op, in, &slots, 1, "Tanh", arena)) return false;
  rnn_run(&s, rnn_step);
  results_store(&s, out);
  return true;
}
