// Importers of normalisations and softmax.
#include <string.h>

#include "frontend/onnx_node.h"

static void set_epsilon(NodeCtx *c, Op *op, int slot) {
  if (attr_has(c, "epsilon")) op_set_float(op, slot, attr_float(c, "epsilon", 0));
}

bool import_batchnorm(NodeCtx *c) {
  attr_ignore(c, "momentum");
  attr_ignore(c, "is_test");
  if (c->opset < 9 && attr_int(c, "spatial", 1) == 0) return node_unsupported(c, "spatial = 0");
  if (attr_int(c, "training_mode", 0) != 0) return node_unsupported(c, "training_mode = 1");
  for (uint32_t i = 1; i < c->n_out; i++)
    if (c->wanted[i]) return node_unsupported(c, "training outputs");
  Op *op = node_op(c, OP_BATCHNORM, 5, c->in);
  if (c->in[0]->type->rank == 1) op_set_int(op, A_BATCHNORM_axis, 0);
  set_epsilon(c, op, A_BATCHNORM_epsilon);
  return node_result(c, node_done(c, op));
}

bool import_instance_norm(NodeCtx *c) {
  Op *op = node_op(c, OP_INSTANCE_NORM, 3, c->in);
  set_epsilon(c, op, A_INSTANCE_NORM_epsilon);
  return node_result(c, node_done(c, op));
}

// Opset 18 has one scale and bias per group, opset 21 one per channel.
static Value *spread_groups(NodeCtx *c, Value *v, int64_t groups, int64_t channels) {
  if (v->type->rank != 1 || v->type->dims[0] != groups || groups == channels) return v;
  int64_t per = channels / groups;
  v = node_reshape(c, v, 2, (int64_t[]){groups, 1});
  v = node_expand(c, v, 2, (int64_t[]){groups, per});
  return node_reshape(c, v, 1, &channels);
}

bool import_group_norm(NodeCtx *c) {
  Value *x = c->in[0], *scale = c->in[1], *bias = c->in[2];
  int64_t groups = attr_int(c, "num_groups", 0);
  if (x->type->rank < 2) return node_refuse(c, "the input must have channels");
  int64_t channels = x->type->dims[1];
  if (groups < 1 || channels < 0 || channels % groups != 0)
    return node_refuse(c, "%lld channels cannot be split into %lld groups", (long long)channels, (long long)groups);
  attr_ignore(c, "stash_type");
  if (c->opset < 21) {
    scale = spread_groups(c, scale, groups, channels);
    bias = spread_groups(c, bias, groups, channels);
    if (!scale || !bias) return false;
  }
  Op *op = node_op(c, OP_GROUP_NORM, 3, (Value *[]){x, scale, bias});
  op_set_int(op, A_GROUP_NORM_groups, groups);
  set_epsilon(c, op, A_GROUP_NORM_epsilon);
  return node_result(c, node_done(c, op));
}

bool import_layer_norm(NodeCtx *c) {
  attr_ignore(c, "stash_type");
  Op *op = node_op(c, OP_LAYER_NORM, c->n_in, c->in);
  op_set_int(op, A_LAYER_NORM_axis, attr_int(c, "axis", -1));
  set_epsilon(c, op, A_LAYER_NORM_epsilon);
  Value *results[3];
  if (!node_done_all(c, op, results)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = results[i];
  return true;
}

bool import_rms_norm(NodeCtx *c) {
  attr_ignore(c, "stash_type");
  Op *op = node_op(c, OP_RMS_NORM, 2, c->in);
  op_set_int(op, A_RMS_NORM_axis, attr_int(c, "axis", -1));
  set_epsilon(c, op, A_RMS_NORM_epsilon);
  return node_result(c, node_done(c, op));
}

bool import_lp_norm(NodeCtx *c) {
  Op *op = node_op(c, OP_LP_NORM, 1, c->in);
  op_set_int(op, A_LP_NORM_axis, attr_int(c, "axis", -1));
  op_set_int(op, A_LP_NORM_p, attr_int(c, "p", 2));
  return node_result(c, node_done(c, op));
}

bool import_lrn(NodeCtx *c) {
  Op *op = node_op(c, OP_LRN, 1, c->in);
  op_set_int(op, A_LRN_size, attr_int(c, "size", 0));
  op_set_float(op, A_LRN_alpha, attr_float(c, "alpha", 0.0001f));
  op_set_float(op, A_LRN_beta, attr_float(c, "beta", 0.75f));
  op_set_float(op, A_LRN_bias, attr_float(c, "bias", 1.0f));
  return node_result(c, node_done(c, op));
}

// (x - mean) / (sqrt(mean((x - mean)^2)) + 1e-9) over `axes`.
bool import_mean_variance_norm(NodeCtx *c) {
  Value *x = c->in[0];
  uint32_t n, rank = x->type->rank;
  const int64_t *given = attr_ints(c, "axes", &n), usual[] = {0, 2, 3};
  bool gone[MAX_RANK] = {0}, deviation = attr_int(c, "normalize_variance", 1) != 0;
  if (attr_int(c, "across_channels", 0) != 0) return node_unsupported(c, "across_channels = 1");
  if (!given) n = 3, given = usual;
  for (uint32_t i = 0, axis; i < n; i++) {
    if (!node_axis(c, given[i], rank, &axis)) return false;
    gone[axis] = true;
  }
  int64_t axes[MAX_RANK];
  n = 0;
  for (uint32_t i = 0; i < rank; i++)
    if (gone[i]) axes[n++] = i;
  Value *d = node_emit2(c, OP_SUB, x, node_reduce(c, x, REDUCE_MEAN, n, axes, true));
  if (!d || !deviation) return node_result(c, d);
  Value *s = node_emit1(c, OP_SQRT, node_reduce(c, node_emit2(c, OP_MUL, d, d), REDUCE_MEAN, n, axes, true));
  return node_result(c, node_emit2(c, OP_DIV, d, node_emit2(c, OP_ADD, s, node_scalar(c, x->type->dtype, 1e-9))));
}

// ---- softmax family: before opset 13 over everything from `axis` on

typedef struct SoftAxis {
  Value *x;       // operand, flattened to two axes when `axis` alone does not describe it
  uint32_t axis;  // of x
} SoftAxis;

static bool soft_axis(NodeCtx *c, SoftAxis *s) {
  const Type *t = c->in[0]->type;
  bool old = c->opset < 13;
  s->x = c->in[0];
  int64_t axis = attr_int(c, "axis", old ? 1 : -1);
  if (old && axis == t->rank && t->rank > 0) {  // an empty tail: every element on its own
    int64_t dims[MAX_RANK];
    if (t->rank >= MAX_RANK) return node_refuse(c, "axis %lld of a tensor of rank %u", (long long)axis, t->rank);
    memcpy(dims, t->dims, sizeof dims);
    dims[t->rank] = 1;
    s->axis = t->rank;
    return (s->x = node_reshape(c, s->x, t->rank + 1, dims)) != NULL;
  }
  if (!node_axis(c, axis, t->rank, &s->axis)) return false;
  int64_t tail = 1, head = 1;
  for (uint32_t i = s->axis + 1; i < t->rank; i++) tail = t->dims[i] == 1 ? tail : t->dims[i];
  if (!old || tail == 1) return true;
  if (!node_need_static(c, s->x, "flattening")) return false;
  for (uint32_t i = 0; i < s->axis; i++) head *= t->dims[i];
  tail = 1;
  for (uint32_t i = s->axis; i < t->rank; i++) tail *= t->dims[i];
  s->axis = 1;
  s->x = node_reshape(c, s->x, 2, (int64_t[]){head, tail});
  return s->x != NULL;
}

bool import_softmax(NodeCtx *c) {
  SoftAxis s;
  if (!soft_axis(c, &s)) return false;
  Op *op = node_op(c, c->row->op, 1, &s.x);
  op_set_int(op, c->row->op == OP_SOFTMAX ? (int)A_SOFTMAX_axis : (int)A_LOG_SOFTMAX_axis, s.axis);
  const Type *t = c->in[0]->type;
  return node_result(c, node_reshape(c, node_done(c, op), t->rank, t->dims));
}

// One at the first maximum along the axis.
bool import_hardmax(NodeCtx *c) {
  SoftAxis s;
  const Type *t = c->in[0]->type;
  if (!soft_axis(c, &s) || !node_need_static(c, s.x, "the result")) return false;
  Op *arg = node_op(c, OP_ARGREDUCE, 1, &s.x);
  op_set_int(arg, A_ARGREDUCE_axis, s.axis);
  op_set_int(arg, A_ARGREDUCE_keepdims, 0);
  Value *index = node_done(c, arg);
  if (!index) return false;
  Value *zero = node_scalar(c, t->dtype, 0), *one = node_scalar(c, t->dtype, 1);
  int64_t single = 1;
  Value *values =
      node_concat(c, 2, (Value *[]){node_reshape(c, zero, 1, &single), node_reshape(c, one, 1, &single)}, 0);
  if (!values) return false;
  Op *hot = node_op(c, OP_ONE_HOT, 2, (Value *[]){index, values});
  op_set_int(hot, A_ONE_HOT_axis, s.axis);
  op_set_int(hot, A_ONE_HOT_depth, s.x->type->dims[s.axis]);
  return node_result(c, node_reshape(c, node_done(c, hot), t->rank, t->dims));
}
