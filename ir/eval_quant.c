// Quantisation: quantize, dequantize, threshold, requant.
//
// Each arithmetic step is rounded to the precision it is written in, because these results are compared bit for bit:
// the quotient and the product in the type of the scale (float for f8e8m0 scales), everything after the rounding to an
// integer exactly, saturation last. NaN quantises to the smallest value.
#include <math.h>

#include "ir/eval_impl.h"

static double round_to_int(EnumValue how, double v) {
  switch (how) {
    case ROUND_HALF_AWAY: return round(v);
    case ROUND_HALF_UP: {
      double low = floor(v);
      return v - low >= 0.5 ? low + 1 : low;
    }
    case ROUND_FLOOR: return floor(v);
    case ROUND_CEIL: return ceil(v);
    case ROUND_TRUNC: return trunc(v);
    default: return rint(v);
  }
}

static void store_saturated(Tensor *t, int64_t i, double v) {
  DType dt = t->type->dtype;
  if (isnan(v) && !dtype_is_float(dt))
    elem_set_i(t->data, dt, i, dtype_min(dt));
  else
    elem_set_f(t->data, dt, i, v);
}

// For each element of x the element of `scale` that belongs to it: the only one, the one of its coordinate along
// `axis`, or the one of its block.
static int64_t *scale_offsets(Arena *arena, const Type *x, const Type *scale, uint32_t axis, int64_t block) {
  int64_t n = type_count(x), *offsets = NEW_ARRAY(arena, int64_t, n), strides[MAX_RANK] = {0}, at[MAX_RANK] = {0};
  if (type_count(scale) == 1) return offsets;
  if (scale->rank == 1)
    strides[axis] = 1;
  else
    tensor_strides(scale, strides);
  if (block <= 0) block = 1;
  for (int64_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < x->rank; k++) offsets[i] += (k == axis ? at[k] / block : at[k]) * strides[k];
    for (uint32_t k = x->rank; k-- > 0; at[k] = 0)
      if (++at[k] < x->dims[k]) break;
  }
  return offsets;
}

// The zero point has one element or the shape of the scale.
static double zero_at(const double *zero, int64_t n_zero, int64_t offset) {
  return zero ? zero[n_zero == 1 ? 0 : offset] : 0;
}

EVAL(quantize) {
  const Type *t = in[0].type;
  double *x = floats_of(arena, &in[0]), *scale = floats_of(arena, &in[1]);
  bool has_zero = op->n_in > 2 && in[2].data;
  double *zero = has_zero ? floats_of(arena, &in[2]) : NULL;
  int64_t n_zero = has_zero ? type_count(in[2].type) : 0, n = type_count(t);
  uint32_t axis = type_count(in[1].type) == 1 ? 0 : op_axis(op, A_QUANTIZE_axis, t->rank);
  int64_t *at = scale_offsets(arena, t, in[1].type, axis, op_int(op, A_QUANTIZE_block));
  EnumValue how = op_enum(op, A_QUANTIZE_round), order = op_enum(op, A_QUANTIZE_order);
  DType precision = in[1].type->dtype == DT_F8E8M0 ? DT_F32 : in[1].type->dtype;
  bool to_float = dtype_is_float(out[0].type->dtype);
  for (int64_t i = 0; i < n; i++) {
    double q = elem_round(precision, elem_round(precision, x[i]) / scale[at[i]]), z = zero_at(zero, n_zero, at[i]);
    if (to_float)
      q += z;
    else if (order == ORDER_ZERO_THEN_ROUND)
      q = round_to_int(how, elem_round(precision, q + z));
    else
      q = round_to_int(how, q) + z;
    store_saturated(&out[0], i, q);
  }
  return true;
}

EVAL(dequantize) {
  const Type *t = in[0].type;
  double *x = floats_of(arena, &in[0]), *scale = floats_of(arena, &in[1]);
  bool has_zero = op->n_in > 2 && in[2].data;
  double *zero = has_zero ? floats_of(arena, &in[2]) : NULL;
  int64_t n_zero = has_zero ? type_count(in[2].type) : 0, n = type_count(t);
  uint32_t axis = type_count(in[1].type) == 1 ? 0 : op_axis(op, A_DEQUANTIZE_axis, t->rank);
  int64_t *at = scale_offsets(arena, t, in[1].type, axis, op_int(op, A_DEQUANTIZE_block));
  for (int64_t i = 0; i < n; i++) {
    double centred = x[i] - zero_at(zero, n_zero, at[i]);
    if (out[0].type->dtype != DT_F64) centred = elem_round(DT_F32, centred);
    elem_set_f(out[0].data, out[0].type->dtype, i, centred * scale[at[i]]);
  }
  return true;
}

// Level number `level` of a small type, in ascending order of its values.
static int64_t level_value(DType t, int64_t level) {
  switch (dtype_info(t)->cls) {
    case DC_BIP: return level > 0 ? 1 : -1;
    case DC_TERN:
    case DC_INT: return dtype_min(t) + level;
    default: return level;
  }
}

EVAL(threshold) {
  const Type *t = in[0].type;
  int64_t n = type_count(t), channels = t->rank ? t->dims[t->rank - 1] : 1;
  int64_t rows = in[1].type->dims[0], levels = in[1].type->dims[1];
  bool is_float = dtype_is_float(t->dtype) || dtype_is_float(in[1].type->dtype);
  Nums x = nums_as(arena, &in[0], is_float), limit = nums_as(arena, &in[1], is_float);
  int64_t *down = op->n_in > 2 && in[2].data ? ints_of(arena, &in[2]) : NULL;
  int64_t n_down = down ? type_count(in[2].type) : 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t c = i % channels, row = (rows == 1 ? 0 : c) * levels, level = 0;
    bool is_down = down && down[n_down == 1 ? 0 : c];
    for (int64_t k = 0; k < levels; k++) {
      bool ge = is_float ? x.f[i] >= limit.f[row + k] : x.i[i] >= limit.i[row + k];
      bool le = is_float ? x.f[i] <= limit.f[row + k] : x.i[i] <= limit.i[row + k];
      level += is_down ? le : ge;
    }
    elem_set_i(out[0].data, out[0].type->dtype, i, level_value(out[0].type->dtype, level));
  }
  return true;
}

EVAL(requant) {
  const Type *t = in[0].type;
  double *x = floats_of(arena, &in[0]), *mul = floats_broadcast(arena, &in[1], t),
         *add = floats_broadcast(arena, &in[2], t);
  EnumValue how = op_enum(op, A_REQUANT_round), order = op_enum(op, A_REQUANT_order);
  DType precision = dtype_is_float(in[1].type->dtype) ? in[1].type->dtype : DT_F64;
  int64_t n = type_count(t);
  for (int64_t i = 0; i < n; i++) {
    double p = elem_round(precision, elem_round(precision, x[i]) * mul[i]);
    bool zero_first = order == ORDER_ZERO_THEN_ROUND;
    double q = zero_first ? round_to_int(how, elem_round(precision, p + add[i])) : round_to_int(how, p) + add[i];
    store_saturated(&out[0], i, q);
  }
  return true;
}
