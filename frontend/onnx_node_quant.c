// Importers of quantisation: QuantizeLinear and DequantizeLinear map to the plain ops; the integer operators become
// exact 32-bit contractions between zero point subtraction and requantisation.
#include <string.h>

#include "frontend/onnx_node.h"
#include "frontend/onnx_node_conv.h"
#include "frontend/onnx_node_float8.h"
#include "frontend/onnx_node_qlinear.h"

static DType attr_dtype(NodeCtx *c, const char *name) {
  int64_t t = attr_int(c, name, 0);
  return t == 0 ? DT_NONE : dtype_by_onnx(t);
}

// Operands x, scale and, when given, zero.
static Op *quant_op(NodeCtx *c, OpKind kind, Value *x, Value *scale, Value *zero) {
  return node_op(c, kind, zero ? 3 : 2, (Value *[]){x, scale, zero});
}

// A constant scale of zero divides by nothing.
static bool scale_fits(NodeCtx *c, const Value *scale) {
  if (!value_is_const(scale)) return true;
  int64_t n = type_count(scale->type);
  for (int64_t i = 0; i < n; i++)
    if (const_f(c->m, scale->constant, i) == 0) return node_refuse(c, "element %lld of the scale is 0", (long long)i);
  return true;
}

// Scales and zero points of small float types as f32.
static Value *widened(NodeCtx *c, Value *v) {
  return v && is_small_float(v->type->dtype) ? small_float_decode(c, v) : v;
}

bool import_quantize(NodeCtx *c) {
  Value *x = c->in[0], *zero = node_in(c, 2);
  DType asked = attr_dtype(c, "output_dtype"), t = zero ? zero->type->dtype : asked ? asked : DT_U8;
  if (asked && asked != t) return node_refuse(c, "output_dtype and the zero point differ");
  attr_ignore(c, "precision");
  if (!scale_fits(c, c->in[1])) return false;
  bool saturate = attr_int(c, "saturate", 1) != 0;
  int64_t axis = attr_int(c, "axis", 1), block = attr_int(c, "block_size", 0);
  if (!dtype_is_float(x->type->dtype)) x = node_cast(c, x, c->in[1]->type->dtype);
  Value *scale = widened(c, c->in[1]);
  if (!x || !scale) return false;
  if (is_small_float(t)) {
    Value *y =
        node_emit2(c, OP_DIV, node_cast(c, x, scale->type->dtype), parameter_over(c, x->type, scale, axis, block));
    if (zero && y)
      y = node_emit2(c, OP_ADD, y,
                     parameter_over(c, x->type, node_cast(c, widened(c, zero), y->type->dtype), axis, block));
    return node_result(c, small_float_encode(c, y, t, saturate));
  }
  Op *op = quant_op(c, OP_QUANTIZE, x, scale, zero);
  op_set_int(op, A_QUANTIZE_axis, axis);
  op_set_int(op, A_QUANTIZE_block, block);
  return node_result(c, node_given(c, op, t, x->type->rank, x->type->dims));
}

bool import_dequantize(NodeCtx *c) {
  Value *x = c->in[0];
  DType asked = attr_dtype(c, "output_dtype"), t = asked ? asked : c->in[1]->type->dtype;
  int64_t axis = attr_int(c, "axis", 1), block = attr_int(c, "block_size", 0);
  Value *scale = widened(c, c->in[1]), *zero = node_in(c, 2);
  if (!scale) return false;
  if (is_small_float(x->type->dtype)) {
    Value *v = small_float_decode(c, x);
    if (zero && v) v = node_emit2(c, OP_SUB, v, parameter_over(c, x->type, widened(c, zero), axis, block));
    scale = node_cast(c, parameter_over(c, x->type, scale, axis, block), DT_F32);
    return v && scale && node_result(c, node_cast(c, node_emit2(c, OP_MUL, v, scale), is_small_float(t) ? DT_F32 : t));
  }
  Op *op = quant_op(c, OP_DEQUANTIZE, x, scale, zero);
  op_set_int(op, A_DEQUANTIZE_axis, axis);
  op_set_int(op, A_DEQUANTIZE_block, block);
  if (is_small_float(t)) t = DT_F32;
  return node_result(c, node_given(c, op, t, x->type->rank, x->type->dims));
}

static Value *reduce_all(NodeCtx *c, Value *x, EnumValue kind) {
  int64_t axes[MAX_RANK];
  for (uint32_t i = 0; i < x->type->rank; i++) axes[i] = i;
  return node_reduce(c, x, kind, x->type->rank, axes, false);
}

// scale = (max(x, 0) - min(x, 0)) / 255, zero = clip(round(-min / scale)).
bool q_dynamic(NodeCtx *c, Value *x, Value *all[3]) {
  Value *none = node_scalar(c, DT_F32, 0), *full = node_scalar(c, DT_F32, 255);
  Value *hi = node_emit2(c, OP_MAX, reduce_all(c, x, REDUCE_MAX), none);
  Value *lo = node_emit2(c, OP_MIN, reduce_all(c, x, REDUCE_MIN), none);
  Value *scale = node_emit2(c, OP_DIV, node_emit2(c, OP_SUB, hi, lo), full);
  Value *raw = node_emit2(c, OP_DIV, node_emit2(c, OP_SUB, none, lo), scale);
  Value *zero = node_cast(c, node_emit1(c, OP_ROUND, node_emit3(c, OP_CLIP, raw, none, full)), DT_U8);
  if (!zero) return false;
  all[0] = node_given(c, quant_op(c, OP_QUANTIZE, x, scale, zero), DT_U8, x->type->rank, x->type->dims);
  all[1] = scale;
  all[2] = zero;
  return all[0] != NULL;
}

bool import_dynamic_quantize(NodeCtx *c) {
  Value *all[3];
  if (!q_dynamic(c, c->in[0], all)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = all[i];
  return true;
}

// ---- integer contractions

Value *q_centred(NodeCtx *c, Value *x, Value *zero, uint32_t from_end) {
  x = node_cast(c, x, DT_I32);
  if (!x || !zero) return x;
  zero = node_cast(c, zero, DT_I32);
  if (zero && zero->type->rank == 1 && zero->type->dims[0] == 1) zero = node_reshape(c, zero, 0, NULL);
  if (zero && zero->type->rank == 1) {
    int64_t dims[MAX_RANK] = {zero->type->dims[0], 1, 1, 1, 1, 1, 1, 1};
    zero = node_reshape(c, zero, from_end + 1, dims);
  }
  double all = 1;
  if (zero && value_is_const(zero) && const_is_splat(c->m, zero->constant, &all) && all == 0) return x;
  return node_emit2(c, OP_SUB, x, zero);
}

bool import_matmul_integer(NodeCtx *c) {
  Value *a = q_centred(c, c->in[0], node_in(c, 2), 1), *b = q_centred(c, c->in[1], node_in(c, 3), 0);
  return node_result(c, node_matmul(c, a, b, NULL, false, false));
}

bool import_conv_integer(NodeCtx *c) {
  uint32_t rank = c->in[0]->type->rank;
  Value *x = q_centred(c, c->in[0], node_in(c, 2), 0);
  Value *w = q_centred(c, c->in[1], node_in(c, 3), rank ? rank - 1 : 0);
  return node_result(c, node_conv(c, x, w, NULL));
}

Value *q_along(NodeCtx *c, Value *v, uint32_t after) {
  if (!v || v->type->rank != 1) return v;
  if (v->type->dims[0] == 1) return node_reshape(c, v, 0, NULL);
  int64_t dims[MAX_RANK] = {v->type->dims[0], 1, 1, 1, 1, 1, 1, 1};
  return node_reshape(c, v, after + 1, dims);
}

bool q_requantised(NodeCtx *c, Value *acc, Value *sa, Value *sb, Value *sy, Value *zy) {
  if (!acc) return false;
  DType t = sy->type->dtype;
  Value *scale =
      node_emit2(c, OP_DIV, node_emit2(c, OP_MUL, sa, sb), sy->type->rank ? node_reshape(c, sy, 0, NULL) : sy);
  Value *y = node_emit2(c, OP_MUL, node_cast(c, acc, t), scale);
  if (!y || !zy) return false;
  zy = q_along(c, zy, 0);
  if (!zy) return false;
  Op *op = quant_op(c, OP_QUANTIZE, y, node_scalar(c, t, 1), zy);
  return node_result(c, node_given(c, op, zy->type->dtype, y->type->rank, y->type->dims));
}

// a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero
bool import_qlinear_matmul(NodeCtx *c) {
  for (uint32_t i = 6; i < 8; i++)
    if (!type_is_static(c->in[i]->type) || type_count(c->in[i]->type) != 1)
      return node_unsupported(c, "a result scale or zero point that is not one number");
  Value *a = q_centred(c, c->in[0], c->in[2], 1), *b = q_centred(c, c->in[3], c->in[5], 0);
  Value *acc = node_matmul(c, a, b, NULL, false, false);
  return q_requantised(c, acc, q_along(c, c->in[1], 1), q_along(c, c->in[4], 0), c->in[6], c->in[7]);
}

// x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias
bool import_qlinear_conv(NodeCtx *c) {
  uint32_t rank = c->in[0]->type->rank;
  if (rank < 3) return node_refuse(c, "the input must have rank 3 or more");
  for (uint32_t i = 6; i < 8; i++)
    if (!type_is_static(c->in[i]->type) || type_count(c->in[i]->type) != 1)
      return node_unsupported(c, "a result scale or zero point that is not one number");
  Value *x = q_centred(c, c->in[0], c->in[2], 0), *w = q_centred(c, c->in[3], c->in[5], rank - 1);
  Value *acc = node_conv(c, x, w, node_in(c, 8));
  return q_requantised(c, acc, q_along(c, c->in[1], 0), q_along(c, c->in[4], rank - 2), c->in[6], c->in[7]);
}
