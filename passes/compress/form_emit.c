// Forms as ops: into the graph, and into a function of their own that is only priced. See form.h.
//
// Convolutions are emitted channels first, as the layout pass expects them. For prices they are made channels last,
// with generated weights: kernels read channels-last tensors, and a price looks at shapes only.
#include "passes/compress/form.h"
#include "passes/graph_util.h"
#include "passes/price.h"
#include "passes/structure/chain.h"
#include "passes/structure/chain_net.h"

typedef struct Emit {
  const FactorLayer *l;
  Module *m;
  Func *f;
  Op *before;  // NULL: at the end
  bool priced;
  const Loc *loc;
} Emit;

static Value *emit_op(const Emit *e, OpKind kind, uint32_t n, Value *const *in, const Type *type) {
  Op *op = op_new(e->f, e->before, kind, n, in, e->loc);
  op->out[0]->type = type;
  return op->out[0];
}

static const Type *emit_type(const Emit *e, uint32_t rank, const int64_t *dims) {
  return type_tensor(e->m->types, e->l->dtype, rank, dims);
}

static Value *weights(const Emit *e, const FormStep *s, uint32_t rank, const int64_t *dims) {
  const Type *t = emit_type(e, rank, dims);
  return e->priced ? const_generated(e->m, t, CONST_RAND, 0, 1, NULL) : const_of_doubles(e->m, t, s->w, "factor");
}

static Value *emit_matmul(const Emit *e, const FormStep *s, Value *x, Value *bias) {
  int64_t dims[MAX_RANK], w_dims[2] = {s->in, s->out};
  uint32_t rank = x->type->rank;
  for (uint32_t i = 0; i < rank; i++) dims[i] = x->type->dims[i];
  dims[rank - 1] = s->out;
  Value *in[3] = {x, weights(e, s, 2, w_dims), bias};
  return emit_op(e, OP_MATMUL, bias ? 3 : 2, in, emit_type(e, rank, dims));
}

// A list attribute, left out where every element is the default.
static void set_unless(Op *op, int slot, uint32_t n, const int64_t *v, int64_t usual) {
  for (uint32_t i = 0; i < n; i++)
    if (v[i] != usual) {
      op_set_ints(op, slot, n, v);
      return;
    }
}

// x and y: batch, channels, axes. Channels last: batch, axes, channels, and the kernel axes, in, out.
static Value *emit_conv(const Emit *e, const FormStep *s, Value *x, Value *bias) {
  uint32_t nd = e->l->nd, first = e->priced ? 1 : 2, channels = e->priced ? nd + 1 : 1;
  int64_t y[MAX_RANK], w[MAX_RANK], pads[2 * FORM_AXES];
  y[0] = x->type->dims[0];
  y[channels] = s->out;
  w[e->priced ? nd : 1] = s->in / s->group;
  w[e->priced ? nd + 1 : 0] = s->out;
  for (uint32_t i = 0; i < nd; i++) {
    int64_t span = (s->kernel[i] - 1) * s->dilation[i] + 1;
    y[first + i] = (x->type->dims[first + i] + s->begin[i] + s->end[i] - span) / s->stride[i] + 1;
    w[e->priced ? i : 2 + i] = s->kernel[i];
    pads[i] = s->begin[i];
    pads[nd + i] = s->end[i];
  }
  Value *in[3] = {x, weights(e, s, nd + 2, w), bias};
  Value *out = emit_op(e, OP_CONV, bias ? 3 : 2, in, emit_type(e, nd + 2, y));
  op_set_int(out->op, A_CONV_layout, e->priced ? LAYOUT_NHWC : LAYOUT_NCHW);
  op_set_int(out->op, A_CONV_group, s->group);
  set_unless(out->op, A_CONV_strides, nd, s->stride, 1);
  set_unless(out->op, A_CONV_dilations, nd, s->dilation, 1);
  set_unless(out->op, A_CONV_pads, 2 * nd, pads, 0);
  return out;
}

static Value *emit_reshape(const Emit *e, Value *x, uint32_t rank, const int64_t *dims) {
  const Type *t = emit_type(e, rank, dims);
  return t == x->type ? x : emit_op(e, OP_RESHAPE, 1, &x, t);
}

// The dims after a move; those of a convolution are turned to channels last where it is priced.
static Value *emit_move(const Emit *e, const FormStep *s, Value *x) {
  int64_t dims[MAX_RANK];
  if (s->n_view > 0) {
    x = emit_reshape(e, x, s->n_view, s->view);
    for (uint32_t i = 0; i < s->n_view; i++) dims[i] = s->view[s->perm[i]];
    x = emit_op(e, OP_TRANSPOSE, 1, &x, emit_type(e, s->n_view, dims));
    op_set_ints(x->op, A_TRANSPOSE_perm, s->n_view, s->perm);
  }
  bool turned = e->priced && e->l->nd > 0;
  for (uint32_t i = 0; i < s->n_to; i++) dims[i] = s->to[turned && i > 0 ? i % (s->n_to - 1) + 1 : i];
  return emit_reshape(e, x, s->n_to, dims);
}

// The bias behind a form whose last step moves: of a convolution per channel, of a dense layer as it is.
static Value *emit_bias(const Emit *e, Value *x, Value *bias) {
  if (e->l->nd > 0 && !e->priced) {
    int64_t dims[MAX_RANK] = {e->l->out, 1, 1, 1};
    bias = emit_reshape(e, bias, e->l->nd + 1, dims);
  }
  Value *in[2] = {x, bias};
  return emit_op(e, OP_ADD, 2, in, x->type);
}

static Value *emit_steps(const Emit *e, const Form *f, Value *x, Value *bias) {
  for (uint32_t i = 0; i < f->n; i++) {
    const FormStep *s = &f->step[i];
    bool last = i + 1 == f->n;
    switch (s->kind) {
      case FORM_MATMUL: x = emit_matmul(e, s, x, last ? bias : NULL); break;
      case FORM_CONV: x = emit_conv(e, s, x, last ? bias : NULL); break;
      case FORM_MOVE:
        x = emit_move(e, s, x);
        if (last && bias) x = emit_bias(e, x, bias);
    }
  }
  return x;
}

Value *form_emit(const FactorLayer *l, const Form *f, Op *before, Value *x, Value *bias) {
  Emit e = {l, before->func->module, before->func, before, false, l->op->loc};
  return emit_steps(&e, f, x, bias);
}

// ---- prices

static Emit priced_function(const FactorLayer *l) {
  Module *m = l->op->func->module;
  int64_t dims[MAX_RANK] = {l->batch, l->in};
  for (uint32_t i = 0; i < l->nd; i++) dims[1 + i] = l->x[i];
  dims[1 + l->nd] = l->in;
  const Type *x = type_tensor(m->types, l->dtype, l->nd + 2, dims);
  if (l->nd == 0) x = op_in(l->op, 0)->type;
  Func *f = func_new(m, "qcc.price", 1, &x);
  m->funcs.n--;  // never listed
  return (Emit){l, m, f, NULL, true, l->op->loc};
}

// Tensors read and written by a transpose, at the width of single elements.
static double move_price(const Op *op, const Target *t) {
  double bytes = (double)type_bytes(op->out[0]->type);
  return t->call_cycles + 2 * bytes / price_bandwidth(t, 2 * bytes) + (double)type_count(op->out[0]->type) / 2;
}

static double function_price(Func *f, const Target *t) {
  double sum = 0;
  for (Op *op = f->first; op; op = op->next) {
    Price p;
    if (op->kind == OP_TRANSPOSE) sum += move_price(op, t);
    if ((op->kind == OP_CONV || op->kind == OP_MATMUL) && price_best(op, t, &p)) sum += price_total(&p);
  }
  for (Op *op = f->first; op; op = op->next) op_set_operands(op, 0, NULL);
  return sum;
}

// The function as the one op that pass `chain` will make of it. False: it will not.
static bool chain_price(const Emit *e, const Value *y, const Target *t, double *cycles) {
  ChainNet net;
  ChainPlan plan;
  ChainAsk any = {.fused = -1};
  if (!net_start(&net, e->f->args[0])) return false;
  for (const Op *op = e->f->first; op != NULL; op = op->next) {
    uint32_t slot;
    if (!net_is_linear(op, &slot) || !net_follow(&net, op, slot)) return false;
  }
  DType type = e->l->dtype == DT_F64 ? DT_F64 : DT_F32;
  ChainShape s = {.f = &net.f, .y = y->type, .type = type, .last_axis = true};
  uint32_t of_x = 0;
  for (uint32_t i = 0; i < net.f.n_cores; i++) of_x += !net.linked[i];
  if (of_x < 2 || !chain_plan(&s, t, &any, &plan)) return false;
  *cycles = plan.compute + plan.memory + t->call_cycles;
  return true;
}

double form_price(const FactorLayer *l, const Form *f, const Target *t) {
  Emit e = priced_function(l);
  Value *y = emit_steps(&e, f, e.f->args[0], NULL);
  double steps, chain;
  bool moves = false;
  for (uint32_t i = 0; i < f->n; i++) moves = moves || f->step[i].kind == FORM_MOVE;
  bool one = l->nd == 0 && moves && chain_price(&e, y, t, &chain);
  steps = function_price(e.f, t);
  return one ? chain : steps;
}

double layer_price(const FactorLayer *l, const Target *t) {
  Emit e = priced_function(l);
  Form dense = {.n = 0};
  if (l->nd == 0) {
    form_matmul(&dense, l->in, l->out, NULL);
  } else {
    FormStep *s = form_conv(&dense, l->in, l->out, l->group, NULL);
    for (uint32_t i = 0; i < l->nd; i++) step_take_axis(s, l, i);
  }
  emit_steps(&e, &dense, e.f->args[0], NULL);
  return function_price(e.f, t);
}
