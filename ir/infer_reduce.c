// Inference of normalisations, reductions and order: results follow x, parameters follow an axis of it.
#include <string.h>

#include "ir/infer_hooks.h"

static bool like_first(Op *op) {
  const Type *x = infer_in(op, 0);
  return infer_set(op, 0, x->dtype, x->rank, x->dims);
}

static bool float_axis(Op *op, int slot, uint32_t min_rank, uint32_t *axis) {
  return infer_rank(op, 0, "the input", min_rank, MAX_RANK) && infer_is_float(op, 0, "the input") &&
         infer_axis(op, slot, infer_in(op, 0)->rank, axis);
}

// Operands 1.. are [C] vectors of a float type.
static bool channel_params(Op *op, uint32_t axis) {
  int64_t c = infer_in(op, 0)->dims[axis];
  for (uint32_t i = 1; i < op->n_in; i++)
    if (!infer_vector(op, i, "each parameter", c) || !infer_is_float(op, i, "each parameter")) return false;
  return true;
}

bool infer_batchnorm(Op *op) {
  uint32_t axis;
  return float_axis(op, A_BATCHNORM_axis, 1, &axis) && channel_params(op, axis) && like_first(op);
}

bool infer_instance_norm(Op *op) {
  uint32_t axis;
  return float_axis(op, A_INSTANCE_NORM_axis, 3, &axis) && channel_params(op, axis) && like_first(op);
}

bool infer_group_norm(Op *op) {
  uint32_t axis;
  if (!float_axis(op, A_GROUP_NORM_axis, 2, &axis)) return false;
  int64_t c = infer_in(op, 0)->dims[axis], g = op_int(op, A_GROUP_NORM_groups);
  if (!infer_known(op, c, "the number of channels")) return false;
  if (g < 1 || c % g != 0)
    return infer_fail(op, "%lld channels cannot be split into %lld groups", (long long)c, (long long)g);
  return channel_params(op, axis) && like_first(op);
}

bool infer_layer_norm(Op *op) {
  uint32_t axis;
  if (!float_axis(op, A_LAYER_NORM_axis, 1, &axis) || !infer_fits(op, 1, infer_in(op, 0))) return false;
  const Type *x = infer_in(op, 0);
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < x->rank; i++) dims[i] = i < axis ? x->dims[i] : 1;
  return like_first(op) && infer_set(op, 1, DT_F32, x->rank, dims) && infer_set(op, 2, DT_F32, x->rank, dims);
}

bool infer_rms_norm(Op *op) {
  uint32_t axis;
  return float_axis(op, A_RMS_NORM_axis, 1, &axis) && infer_fits(op, 1, infer_in(op, 0)) && like_first(op);
}

bool infer_lp_norm(Op *op) {
  uint32_t axis;
  int64_t p = op_int(op, A_LP_NORM_p);
  if (p != 1 && p != 2) return infer_fail(op, "p is %lld, expected 1 or 2", (long long)p);
  return float_axis(op, A_LP_NORM_axis, 1, &axis) && like_first(op);
}

bool infer_lrn(Op *op) {
  uint32_t axis;
  int64_t size = op_int(op, A_LRN_size);
  if (size < 1 || size > INFER_MAX_STEP) return infer_fail(op, "size is %lld, expected 1 or more", (long long)size);
  return float_axis(op, A_LRN_axis, 2, &axis) && like_first(op);
}

bool infer_softmax(Op *op) {
  uint32_t axis;
  int slot = op->kind == OP_SOFTMAX ? (int)A_SOFTMAX_axis : (int)A_LOG_SOFTMAX_axis;
  return float_axis(op, slot, 1, &axis) && like_first(op);
}

bool infer_cumsum(Op *op) {
  uint32_t axis;
  return infer_axis(op, A_CUMSUM_axis, infer_in(op, 0)->rank, &axis) && like_first(op);
}

bool infer_reduce(Op *op) {
  const Type *x = infer_in(op, 0);
  uint32_t n, rank = 0;
  const int64_t *axes = op_ints(op, A_REDUCE_axes, &n);
  int64_t dims[MAX_RANK], last = -1;
  bool gone[MAX_RANK] = {0};
  EnumValue kind = op_enum(op, A_REDUCE_op);
  if (x->dtype == DT_BOOL && kind != REDUCE_MAX && kind != REDUCE_MIN)
    return infer_fail(op, "%s of a bool tensor", enum_text(kind));
  for (uint32_t i = 0; i < n; i++) {
    if (axes[i] <= last || axes[i] >= x->rank)
      return infer_fail(op, "axes must be ascending and below the rank %u; axes[%u] is %lld", x->rank, i,
                        (long long)axes[i]);
    last = axes[i];
    gone[last] = true;
  }
  for (uint32_t i = 0; i < x->rank; i++) {
    if (gone[i] && op_bool(op, A_REDUCE_keepdims)) dims[rank++] = 1;
    if (!gone[i]) dims[rank++] = x->dims[i];
  }
  return infer_set(op, 0, x->dtype, rank, dims);
}

bool infer_argreduce(Op *op) {
  const Type *x = infer_in(op, 0);
  uint32_t axis, rank = 0;
  int64_t dims[MAX_RANK];
  EnumValue kind = op_enum(op, A_ARGREDUCE_op);
  if (kind != REDUCE_MAX && kind != REDUCE_MIN) return infer_fail(op, "op is %s, expected max or min", enum_text(kind));
  if (!infer_axis(op, A_ARGREDUCE_axis, x->rank, &axis)) return false;
  if (x->dims[axis] == 0) return infer_fail(op, "axis %u of %s is empty", axis, infer_text(op, x));
  for (uint32_t i = 0; i < x->rank; i++) {
    if (i == axis && op_bool(op, A_ARGREDUCE_keepdims)) dims[rank++] = 1;
    if (i != axis) dims[rank++] = x->dims[i];
  }
  return infer_set(op, 0, DT_I64, rank, dims);
}

bool infer_topk(Op *op) {
  const Type *x = infer_in(op, 0);
  uint32_t axis;
  int64_t dims[MAX_RANK], k = op_int(op, A_TOPK_k);
  if (!infer_axis(op, A_TOPK_axis, x->rank, &axis) || !infer_known(op, x->dims[axis], "the result")) return false;
  if (k < 0 || k > x->dims[axis])
    return infer_fail(op, "k is %lld, axis %u has %lld elements", (long long)k, axis, (long long)x->dims[axis]);
  memcpy(dims, x->dims, sizeof dims);
  dims[axis] = k;
  return infer_set(op, 0, x->dtype, x->rank, dims) && infer_set(op, 1, DT_I64, x->rank, dims);
}
