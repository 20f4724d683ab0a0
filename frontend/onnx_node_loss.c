// Importers of NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: a gather along the class axis, weighted.
#include <string.h>

#include "frontend/onnx_node.h"

static Value *sum_all(NodeCtx *c, Value *x) {
  int64_t axes[MAX_RANK];
  if (!x) return NULL;
  for (uint32_t i = 0; i < x->type->rank; i++) axes[i] = i;
  return node_reduce(c, x, REDUCE_SUM, x->type->rank, axes, false);
}

// Weights of every target: those of its class, 0 for the ignored class. NULL: all 1.
static bool target_weights(NodeCtx *c, Value **index, DType t, Value **weights) {
  Value *w = node_in(c, 2), *target = *index;
  if (!attr_has(c, "ignore_index")) {
    *weights = w ? node_emit2(c, OP_GATHER, w, target) : NULL;
    return !w || *weights;
  }
  const Type *number = type_scalar(c->m->types, DT_I64);
  Value *ignored = node_emit2(c, OP_EQUAL, target, const_splat_int(c->m, number, attr_int(c, "ignore_index", 0)));
  *index = node_emit3(c, OP_SELECT, ignored, const_splat_int(c->m, number, 0), target);
  Value *each = w ? node_emit2(c, OP_GATHER, w, *index) : node_scalar(c, t, 1);
  *weights = node_emit3(c, OP_SELECT, ignored, node_scalar(c, t, 0), each);
  return *index && *weights;
}

// -log_p[n, target] weighted and reduced; `log_p` is [n, classes, ...].
static Value *nll(NodeCtx *c, Value *log_p, Value *target) {
  const char *reduction = attr_str(c, "reduction", "mean");
  const Type *x = log_p->type, *t = target->type;
  bool fits = x->rank >= 2 && t->rank + 1 == x->rank;
  for (uint32_t i = 0; fits && i < t->rank; i++) fits = t->dims[i] == x->dims[i ? i + 1 : 0];
  if (!fits) {
    node_refuse(c, "the target %s does not fit the scores %s", type_text(c->m->arena, c->m->types, t),
                type_text(c->m->arena, c->m->types, x));
    return NULL;
  }
  Value *index = node_cast(c, target, DT_I64), *weights;
  if (!index || !target_weights(c, &index, x->dtype, &weights)) return NULL;
  int64_t dims[MAX_RANK];
  memcpy(dims, x->dims, sizeof dims);
  dims[1] = 1;
  Op *gather = node_op(c, OP_GATHER_ELEMENTS, 2, (Value *[]){log_p, node_reshape(c, index, x->rank, dims)});
  op_set_int(gather, A_GATHER_ELEMENTS_axis, 1);
  Value *loss = node_emit1(c, OP_NEG, node_reshape(c, node_done(c, gather), t->rank, t->dims));
  if (weights) loss = node_emit2(c, OP_MUL, loss, weights);
  if (!loss || strcmp(reduction, "none") == 0) return loss;
  if (strcmp(reduction, "sum") == 0) return sum_all(c, loss);
  if (!weights) weights = node_expand(c, node_scalar(c, x->dtype, 1), t->rank, t->dims);
  return node_emit2(c, OP_DIV, sum_all(c, loss), sum_all(c, weights));
}

bool import_nll_loss(NodeCtx *c) { return node_result(c, nll(c, c->in[0], c->in[1])); }

bool import_softmax_cross_entropy(NodeCtx *c) {
  if (c->in[0]->type->rank < 2) return node_refuse(c, "the scores must have classes");
  Op *op = node_op(c, OP_LOG_SOFTMAX, 1, c->in);
  op_set_int(op, A_LOG_SOFTMAX_axis, 1);
  Value *log_p = node_done(c, op);
  if (!log_p) return false;
  if (c->n_out > 1) c->out[1] = log_p;
  return node_result(c, nll(c, log_p, c->in[1]));
}
