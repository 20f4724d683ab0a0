// Importers of reductions, arg reductions, TopK and CumSum. Axes were attributes first and inputs later.
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx_node.h"

static EnumValue reduce_kind(const char *type) {
  static const struct {
    const char *name;
    EnumValue kind;
  } kinds[] = {{"ReduceL1", REDUCE_L1},         {"ReduceL2", REDUCE_L2},
               {"ReduceLogSum", REDUCE_LOGSUM}, {"ReduceLogSumExp", REDUCE_LOGSUMEXP},
               {"ReduceMax", REDUCE_MAX},       {"ReduceMean", REDUCE_MEAN},
               {"ReduceMin", REDUCE_MIN},       {"ReduceProd", REDUCE_PROD},
               {"ReduceSum", REDUCE_SUM},       {"ReduceSumSquare", REDUCE_SUMSQ}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(kinds[i].name, type) == 0) return kinds[i].kind;
  qcc_bug("no reduction for operator %s", type);
}

bool import_reduce(NodeCtx *c) {
  Value *x = c->in[0];
  uint32_t n = 0, rank = x->type->rank, count = 0;
  const int64_t *axes = attr_ints(c, "axes", &n);
  if (node_in(c, 1) && !node_const_ints(c, 1, &axes, &n)) return false;
  bool keep = attr_int(c, "keepdims", 1) != 0, noop = attr_int(c, "noop_with_empty_axes", 0) != 0;
  bool gone[MAX_RANK] = {0};
  int64_t sorted[MAX_RANK];
  for (uint32_t i = 0, axis; i < n; i++) {
    if (!node_axis(c, axes[i], rank, &axis)) return false;
    gone[axis] = true;
  }
  for (uint32_t i = 0; i < rank; i++)
    if (gone[i] || (n == 0 && !noop)) sorted[count++] = i;
  EnumValue kind = reduce_kind(c->type);
  bool nothing = count == 0 && (kind == REDUCE_SUM || kind == REDUCE_MEAN || kind == REDUCE_MAX || kind == REDUCE_MIN ||
                                kind == REDUCE_PROD);
  return node_result(c, nothing ? x : node_reduce(c, x, kind, count, sorted, keep));
}

bool import_argreduce(NodeCtx *c) {
  Op *op = node_op(c, OP_ARGREDUCE, 1, c->in);
  op_set_int(op, A_ARGREDUCE_op, strcmp(c->type, "ArgMax") == 0 ? REDUCE_MAX : REDUCE_MIN);
  op_set_int(op, A_ARGREDUCE_axis, attr_int(c, "axis", 0));
  op_set_int(op, A_ARGREDUCE_keepdims, attr_int(c, "keepdims", 1) != 0);
  op_set_int(op, A_ARGREDUCE_last, attr_int(c, "select_last_index", 0) != 0);
  return node_result(c, node_done(c, op));
}

bool import_topk(NodeCtx *c) {
  int64_t k = attr_int(c, "k", -1);
  if (c->opset >= 10 && !node_const_int(c, 1, &k)) return false;
  Op *op = node_op(c, OP_TOPK, 1, c->in);
  op_set_int(op, A_TOPK_axis, attr_int(c, "axis", -1));
  op_set_int(op, A_TOPK_k, k);
  op_set_int(op, A_TOPK_largest, attr_int(c, "largest", 1) != 0);
  op_set_int(op, A_TOPK_sorted, attr_int(c, "sorted", 1) != 0);
  Value *results[2];
  if (!node_done_all(c, op, results)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = results[i];
  return true;
}

static Value *cumsum_along(NodeCtx *c, int64_t axis) {
  Op *op = node_op(c, OP_CUMSUM, 1, c->in);
  op_set_int(op, A_CUMSUM_axis, axis);
  op_set_int(op, A_CUMSUM_exclusive, attr_int(c, "exclusive", 0) != 0);
  op_set_int(op, A_CUMSUM_reverse, attr_int(c, "reverse", 0) != 0);
  return node_done(c, op);
}

// An axis known only at run time selects among the sums along every axis.
bool import_cumsum(NodeCtx *c) {
  Value *at = c->in[1];
  int64_t axis, rank = c->in[0]->type->rank;
  if (value_is_const(at)) return node_const_int(c, 1, &axis) && node_result(c, cumsum_along(c, axis));
  if (!type_is_static(at->type) || type_count(at->type) != 1) return node_refuse(c, "the axis must be one number");
  at = node_reshape(c, at, 0, NULL);
  if (!at) return false;
  DType t = at->type->dtype;
  Value *y = cumsum_along(c, 0);
  for (int64_t k = 1; k < rank && y; k++) {
    Value *from_start = node_emit2(c, OP_EQUAL, at, const_splat_int(c->m, type_scalar(c->m->types, t), k));
    Value *from_end = node_emit2(c, OP_EQUAL, at, const_splat_int(c->m, type_scalar(c->m->types, t), k - rank));
    y = node_emit3(c, OP_SELECT, node_emit2(c, OP_OR, from_start, from_end), cumsum_along(c, k), y);
  }
  return node_result(c, y);
}
