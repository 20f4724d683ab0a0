// Importer of com.microsoft DynamicQuantizeLSTM, what ONNX Runtime's dynamic quantiser makes of an LSTM: weights of 8
// bits, inputs and the hidden state rounded to u8 by their range at run time, products in integers.
//
// The hidden state of every step has a range of its own, so the steps are written out like those of Scan; the node
// budget (--max-nodes) bounds them. All steps read the same weights. The input is rounded once for all steps and both
// directions, the hidden state once per step over the whole batch, and not at all while it is the absent initial one.
//
//   W[dirs, in, 4 * hidden], R[dirs, hidden, 4 * hidden]: transposed against ONNX LSTM; gates i o f c, peepholes i o f
#include <strings.h>

#include "frontend/onnx_node_qlinear.h"

enum { X, W, R, B, LENS, H0, C0, P, W_SCALE, W_ZERO, R_SCALE, R_ZERO };

typedef struct Weights {
  Value *centred, *scale;  // [k, 4 * hidden] i32; f32, one number or [4 * hidden]
} Weights;

typedef struct Function {
  OpKind op;
  double alpha, beta;  // of HARD_SIGMOID
} Function;

typedef struct Lstm {
  int64_t dirs, steps, batch, n_in, hidden;
  bool reverse, couple;
  double clip;            // 0: none
  Function functions[6];  // f g h of each direction
  Value *x[3];            // the input [steps * batch, in] as q_dynamic has it
} Lstm;

// One direction.
typedef struct Cell {
  const Lstm *l;
  const Function *f;
  Weights r;
  Value *gates;      // of the inputs, with the bias: [steps * batch, 4 * hidden]
  Value *h, *state;  // [batch, hidden]; NULL: zeros
  Value *p;          // [3 * hidden] or NULL
} Cell;

// ---- reading

static bool has_dims(NodeCtx *c, uint32_t i, uint32_t rank, int64_t d0, int64_t d1, int64_t d2) {
  Value *v = node_in(c, i);
  if (!v) return true;
  int64_t want[3] = {d0, d1, d2};
  bool ok = v->type->rank == rank;
  for (uint32_t k = 0; ok && k < rank; k++) ok = v->type->dims[k] == want[k];
  return ok ||
         node_refuse(c, "input %u is %s and doesn't fit the others", i, type_text(c->scratch, c->m->types, v->type));
}

// [dirs] or [dirs, 4 * hidden]
static bool has_scales(NodeCtx *c, const Lstm *l, uint32_t i) {
  Value *v = node_in(c, i);
  uint32_t rank = v && v->type->rank == 2 ? 2 : 1;
  return has_dims(c, i, rank, l->dirs, 4 * l->hidden, 0);
}

static bool read_shapes(NodeCtx *c, Lstm *l) {
  const Type *x = c->in[X]->type, *r = c->in[R]->type;
  if (!node_need_static(c, c->in[X], "the input") || !node_need_static(c, c->in[R], "the weights")) return false;
  DType w = c->in[W]->type->dtype;
  if (x->rank != 3 || r->rank != 3 || x->dtype != DT_F32 || (r->dtype != DT_I8 && r->dtype != DT_U8) ||
      (w != DT_I8 && w != DT_U8))
    return node_refuse(c, "input and weights are %s and %s, expected f32 of rank 3 and bytes of rank 3",
                       type_text(c->scratch, c->m->types, x), type_text(c->scratch, c->m->types, r));
  l->steps = x->dims[0];
  l->batch = x->dims[1];
  l->n_in = x->dims[2];
  l->hidden = r->dims[1];
  if (l->steps < 1 || l->batch < 1 || l->n_in < 1 || l->hidden < 1 || l->hidden > INT32_MAX / 8)
    return node_unsupported(c, "%lld steps of %lld rows, %lld inputs and %lld units", (long long)l->steps,
                            (long long)l->batch, (long long)l->n_in, (long long)l->hidden);
  int64_t n = l->hidden, hidden = attr_int(c, "hidden_size", n);
  if (hidden != n)
    return node_refuse(c, "hidden_size is %lld, the recurrence weights have %lld", (long long)hidden, (long long)n);
  for (uint32_t i = W_SCALE; i <= R_ZERO; i++)
    if (!node_in(c, i)) return node_refuse(c, "input %u is missing", i);
  return has_dims(c, W, 3, l->dirs, l->n_in, 4 * n) && has_dims(c, R, 3, l->dirs, n, 4 * n) &&
         has_dims(c, B, 2, l->dirs, 8 * n, 0) && has_dims(c, H0, 3, l->dirs, l->batch, n) &&
         has_dims(c, C0, 3, l->dirs, l->batch, n) && has_dims(c, P, 2, l->dirs, 3 * n, 0) &&
         has_scales(c, l, W_SCALE) && has_scales(c, l, W_ZERO) && has_scales(c, l, R_SCALE) && has_scales(c, l, R_ZERO);
}

// Only lengths that repeat the number of steps.
static bool check_lens(NodeCtx *c, const Lstm *l) {
  Value *lens = node_in(c, LENS);
  if (!lens) return true;
  bool full = value_is_const(lens) && dtype_is_int(lens->type->dtype);
  for (int64_t i = 0; full && i < type_count(lens->type); i++) full = const_i(c->m, lens->constant, i) == l->steps;
  return full || node_unsupported(c, "sequence_lens other than the number of steps");
}

static bool read_functions(NodeCtx *c, Lstm *l) {
  static const Function usual[3] = {{OP_SIGMOID, 0, 0}, {OP_TANH, 0, 0}, {OP_TANH, 0, 0}};
  static const struct {
    const char *name;
    OpKind op;
  } known[] = {{"Sigmoid", OP_SIGMOID}, {"Tanh", OP_TANH}, {"Relu", OP_RELU}, {"HardSigmoid", OP_HARD_SIGMOID}};
  uint32_t n, n_alpha, n_beta, used = 0, want = 3 * (uint32_t)l->dirs;
  const char *const *names = attr_strs(c, "activations", &n);
  const double *alpha = attr_floats(c, "activation_alpha", &n_alpha);
  const double *beta = attr_floats(c, "activation_beta", &n_beta);
  for (uint32_t i = 0; i < want; i++) l->functions[i] = usual[i % 3];
  if (!names || !attrs_ok(c)) return attrs_ok(c);
  if (n != want) return node_refuse(c, "%u activations, expected %u", n, want);
  for (uint32_t i = 0; i < n; i++) {
    size_t k = 0, n_known = sizeof known / sizeof *known;
    while (k < n_known && strcasecmp(known[k].name, names[i]) != 0) k++;
    if (k == n_known) return node_unsupported(c, "activation '%s'", str_escape(c->scratch, names[i], 32));
    l->functions[i] = (Function){known[k].op, 0.2f, 0.5};
    if (known[k].op != OP_HARD_SIGMOID) continue;
    if (used < n_alpha) l->functions[i].alpha = alpha[used];
    if (used < n_beta) l->functions[i].beta = beta[used];
    used++;
  }
  return true;
}

static bool read_lstm(NodeCtx *c, Lstm *l) {
  const char *direction = attr_str(c, "direction", "forward");
  EnumValue dir = enum_by_name("DIRECTION", direction);
  if (dir == ENUM_NONE) return node_refuse(c, "attribute direction is '%s'", direction);
  l->dirs = dir == DIRECTION_BIDIRECTIONAL ? 2 : 1;
  l->reverse = dir == DIRECTION_REVERSE;
  l->couple = attr_int(c, "input_forget", 0) != 0;
  l->clip = attr_float(c, "clip", 0);
  return read_shapes(c, l) && check_lens(c, l) && read_functions(c, l) && attrs_ok(c);
}

// ---- pieces

// `n` elements of `axis` from `at`.
static Value *cut(NodeCtx *c, Value *v, uint32_t axis, int64_t at, int64_t n) {
  if (!v) return NULL;
  int64_t starts[MAX_RANK] = {0}, counts[MAX_RANK];
  for (uint32_t i = 0; i < v->type->rank; i++) counts[i] = v->type->dims[i];
  starts[axis] = at;
  counts[axis] = n;
  return node_slice(c, v, starts, NULL, counts);
}

// Input i of direction d, without that axis; NULL when it is absent.
static Value *of_direction(NodeCtx *c, uint32_t i, int64_t d) {
  Value *v = cut(c, node_in(c, i), 0, d, 1);
  return v ? node_reshape(c, v, v->type->rank - 1, v->type->dims + 1) : NULL;
}

static Weights weights_of(NodeCtx *c, uint32_t i, uint32_t scale, int64_t d) {
  return (Weights){q_centred(c, of_direction(c, i, d), of_direction(c, scale + 1, d), 0), of_direction(c, scale, d)};
}

// The product of a rounded [rows, k] with the weights, in floats.
static Value *product(NodeCtx *c, Value *const q[3], const Weights *w) {
  Value *acc = node_matmul(c, q_centred(c, q[0], q[2], 0), w->centred, NULL, false, false);
  Value *scale = w->scale ? node_emit2(c, OP_MUL, q[1], w->scale) : NULL;
  return acc && scale ? node_emit2(c, OP_MUL, node_cast(c, acc, DT_F32), scale) : NULL;
}

static Value *plus(NodeCtx *c, Value *a, Value *b) { return a && b ? node_emit2(c, OP_ADD, a, b) : NULL; }
static Value *times(NodeCtx *c, Value *a, Value *b) { return a && b ? node_emit2(c, OP_MUL, a, b) : NULL; }

static Value *applied(NodeCtx *c, const Function *f, double clip, Value *x) {
  if (!x) return NULL;
  if (clip > 0) x = node_emit3(c, OP_CLIP, x, node_scalar(c, DT_F32, -clip), node_scalar(c, DT_F32, clip));
  Op *op = x ? node_op(c, f->op, 1, &x) : NULL;
  if (!op) return NULL;
  if (f->op == OP_HARD_SIGMOID) {
    op_set_float(op, A_HARD_SIGMOID_alpha, f->alpha);
    op_set_float(op, A_HARD_SIGMOID_beta, f->beta);
  }
  return node_done(c, op);
}

// ---- steps

static bool cell_init(NodeCtx *c, const Lstm *l, int64_t d, Cell *cell) {
  int64_t n = 4 * l->hidden;
  Weights w = weights_of(c, W, W_SCALE, d);
  *cell = (Cell){.l = l,
                 .f = l->functions + 3 * d,
                 .r = weights_of(c, R, R_SCALE, d),
                 .h = of_direction(c, H0, d),
                 .state = of_direction(c, C0, d),
                 .p = of_direction(c, P, d)};
  if (!w.centred || !cell->r.centred) return false;
  cell->gates = product(c, l->x, &w);
  Value *b = of_direction(c, B, d);
  if (b) cell->gates = plus(c, cell->gates, plus(c, cut(c, b, 0, 0, n), cut(c, b, 0, n, n)));
  return cell->gates != NULL;
}

// Gate `g` before its activation: with peephole k over `state` where there are both.
static Value *gate(NodeCtx *c, const Cell *s, Value *all, int64_t g, int64_t k, Value *state) {
  int64_t n = s->l->hidden;
  Value *v = cut(c, all, 1, g * n, n);
  return s->p && state ? plus(c, v, times(c, cut(c, s->p, 0, k * n, n), state)) : v;
}

// h and state after step t.
static bool cell_step(NodeCtx *c, Cell *s, int64_t t) {
  const Lstm *l = s->l;
  Value *all = cut(c, s->gates, 0, t * l->batch, l->batch), *q[3];
  if (s->h) {
    if (!q_dynamic(c, s->h, q)) return false;
    all = plus(c, all, product(c, q, &s->r));
  }
  Value *i = applied(c, &s->f[0], l->clip, gate(c, s, all, 0, 0, s->state));
  Value *g = cut(c, all, 1, 3 * l->hidden, l->hidden);
  Value *state = times(c, i, applied(c, &s->f[1], l->clip, g));
  if (s->state && state) {
    Value *f = l->couple ? node_emit2(c, OP_SUB, node_scalar(c, DT_F32, 1), i)
                         : applied(c, &s->f[0], l->clip, gate(c, s, all, 2, 2, s->state));
    state = plus(c, times(c, f, s->state), state);
  }
  Value *o = applied(c, &s->f[0], l->clip, gate(c, s, all, 1, 1, state));
  s->state = state;
  s->h = state ? times(c, o, applied(c, &s->f[2], 0, state)) : NULL;
  return s->h != NULL;
}

// y [steps, 1, batch, hidden], h and state [1, batch, hidden] of direction d.
static bool run_direction(NodeCtx *c, const Lstm *l, int64_t d, Value *results[3]) {
  int64_t dims[4] = {1, 1, l->batch, l->hidden};
  Value **y = NEW_ARRAY(c->scratch, Value *, (size_t)l->steps);
  bool backward = l->reverse || d == 1;
  Cell cell;
  if (!cell_init(c, l, d, &cell)) return false;
  for (int64_t k = 0; k < l->steps; k++) {
    int64_t t = backward ? l->steps - 1 - k : k;
    if (!cell_step(c, &cell, t)) return false;
    y[t] = node_reshape(c, cell.h, 4, dims);
  }
  results[0] = node_concat(c, (uint32_t)l->steps, y, 0);
  results[1] = node_reshape(c, cell.h, 3, dims + 1);
  results[2] = node_reshape(c, cell.state, 3, dims + 1);
  return results[0] && results[1] && results[2];
}

bool import_dynamic_quantize_lstm(NodeCtx *c) {
  Lstm l = {0};
  if (!read_lstm(c, &l)) return false;
  int64_t rows[2] = {l.steps * l.batch, l.n_in};
  Value *x = node_reshape(c, c->in[X], 2, rows), *results[2][3];
  if (!x || !q_dynamic(c, x, l.x)) return false;
  for (int64_t d = 0; d < l.dirs; d++)
    if (!run_direction(c, &l, d, results[d])) return false;
  for (uint32_t i = 0; i < c->n_out; i++) {
    Value *both[2] = {results[0][i], l.dirs == 2 ? results[1][i] : NULL};
    c->out[i] = l.dirs == 2 ? node_concat(c, 2, both, i == 0) : both[0];
  }
  return true;
}
