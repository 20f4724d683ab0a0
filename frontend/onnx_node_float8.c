// Conversions from and to floats of 8 and 4 bits, as plain ops:
//
//   decode   lookup(values, bitcast(x))
//   encode   bitcast(#{ j : |x| >= t[j] } + sign), t[j] the smallest number that rounds to code j
//
// The thresholds are found by bisection over the bit patterns of f32 with the element writer of the interpreter as the
// judge, so there is one definition of each format. Ties, subnormals and saturation are in the table.
#include "frontend/onnx_node_float8.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"

#define INFINITE_BITS 0x7f800000u

static float float_of_bits(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static uint32_t code_of(DType t, double v) {
  uint8_t byte = 0;
  elem_set_f(&byte, t, 0, v);
  return byte;
}

static double value_of(DType t, uint32_t code) {
  uint8_t byte = (uint8_t)code;
  return elem_get_f(&byte, t, 0);
}

static uint32_t sign_of(DType t) { return t == DT_F8E8M0 ? 0 : 1u << (dtype_info(t)->bits - 1); }
static bool has_negative_zero(DType t) { return t != DT_F8E4M3FNUZ && t != DT_F8E5M2FNUZ; }
static uint32_t top_code(DType t) { return code_of(t, INFINITY); }

// The smallest positive float whose code is j or more.
static float threshold_of(DType t, uint32_t j) {
  uint32_t lo = 0, hi = INFINITE_BITS;
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (code_of(t, (double)float_of_bits(mid)) >= j) {
      hi = mid;
    } else {
      lo = mid + 1;
    }
  }
  return float_of_bits(lo);
}

// The smallest float that rounds beyond the largest value, and what it becomes when nothing saturates.
static double overflow_of(DType t, uint32_t *code) {
  uint32_t top = top_code(t);
  double max = value_of(t, top), edge = max + (max - value_of(t, top - 1)) / 2;
  *code = t == DT_F8E5M2 ? top + 1 : t == DT_F8E4M3FN ? 0x7f : 0x80;
  return top & 1 ? edge : (double)nextafterf((float)edge, INFINITY);
}

static Value *vector(NodeCtx *c, uint32_t rank, int64_t n, const float *v) {
  int64_t dims[2] = {1, n};
  return const_bytes(c->m, type_tensor(c->m->types, DT_F32, rank, dims + 2 - rank), v, NULL);
}

static Value *bitcast(NodeCtx *c, Value *x, DType t) {
  if (!x || x->type->dtype == t) return x;
  return node_given(c, node_op(c, OP_BITCAST, 1, &x), t, x->type->rank, x->type->dims);
}

static DType code_type(DType t) { return dtype_info(t)->bits == 4 ? DT_U4 : DT_U8; }

Value *small_float_decode(NodeCtx *c, Value *x) {
  if (!x) return NULL;
  float table[256];
  DType t = x->type->dtype;
  int64_t n = INT64_C(1) << dtype_info(t)->bits;
  for (int64_t i = 0; i < n; i++) table[i] = (float)value_of(t, (uint32_t)i);
  Value *code = bitcast(c, x, code_type(t));
  if (!code) return NULL;
  Op *op = node_op(c, OP_LOOKUP, 2, (Value *[]){vector(c, 1, n, table), code});
  return node_given(c, op, DT_F32, x->type->rank, x->type->dims);
}

// #{ j : |x| >= t[j] } as u8
static Value *magnitude(NodeCtx *c, Value *x, DType to) {
  float bounds[256];
  int64_t n = top_code(to), one = 1;
  for (int64_t j = 0; j < n; j++) bounds[j] = threshold_of(to, (uint32_t)j + 1);
  uint32_t rank = x->type->rank;
  Value *size = node_emit1(c, OP_ABS, x);
  if (size && rank == 0) size = node_reshape(c, size, 1, &one);
  if (!size) return NULL;
  Op *op = node_op(c, OP_THRESHOLD, 2, (Value *[]){size, vector(c, 2, n, bounds)});
  Value *code = node_given(c, op, DT_U8, size->type->rank, size->type->dims);
  return node_reshape(c, code, rank, x->type->dims);
}

static Value *byte(NodeCtx *c, uint32_t v) { return node_scalar(c, DT_U8, v); }

// Adds the sign bit where the float has one.
static Value *with_sign(NodeCtx *c, Value *x, Value *code, DType to) {
  if (!code || !sign_of(to)) return code;
  Value *negative = node_emit2(c, OP_LESS, bitcast(c, x, DT_I32), node_scalar(c, DT_I32, 0));
  if (!has_negative_zero(to)) negative = node_emit2(c, OP_AND, negative, node_emit2(c, OP_GREATER, code, byte(c, 0)));
  Value *sign = negative ? node_emit3(c, OP_SELECT, negative, byte(c, sign_of(to)), byte(c, 0)) : NULL;
  return node_emit2(c, OP_OR, code, sign);
}

Value *small_float_encode(NodeCtx *c, Value *x, DType to, bool saturate) {
  x = node_cast(c, x, DT_F32);
  Value *code = x ? magnitude(c, x, to) : NULL;
  if (code && !saturate && to != DT_F8E8M0 && to != DT_F4E2M1) {
    uint32_t beyond;
    double edge = overflow_of(to, &beyond);
    Value *over = node_emit2(c, OP_GREATER_EQUAL, node_emit1(c, OP_ABS, x), node_scalar(c, DT_F32, edge));
    code = over ? node_emit3(c, OP_SELECT, over, byte(c, beyond), code) : NULL;
    if (has_negative_zero(to)) code = with_sign(c, x, code, to);
    if (code && !has_negative_zero(to)) {
      Value *is_nan = node_emit2(c, OP_EQUAL, code, byte(c, 0x80)), *other = with_sign(c, x, code, to);
      code = is_nan && other ? node_emit3(c, OP_SELECT, is_nan, byte(c, 0x80), other) : NULL;
    }
  } else {
    code = with_sign(c, x, code, to);
  }
  Value *nan = code ? node_emit1(c, OP_ISNAN, x) : NULL;
  code = nan ? node_emit3(c, OP_SELECT, nan, byte(c, code_of(to, NAN)), code) : NULL;
  return bitcast(c, node_cast(c, code, code_type(to)), to);
}

Value *parameter_over(NodeCtx *c, const Type *x, Value *p, int64_t axis, int64_t block) {
  uint32_t at;
  if (!p || type_count(p->type) == 1) return p ? node_reshape(c, p, 0, NULL) : NULL;
  if (!node_axis(c, axis, x->rank, &at)) return NULL;
  int64_t dims[MAX_RANK], starts[MAX_RANK] = {0};
  if (!block) {
    for (uint32_t i = 0; i < x->rank; i++) dims[i] = i == at ? p->type->dims[0] : 1;
    return node_reshape(c, p, x->rank, dims);
  }
  if (p->type->rank != x->rank || x->rank == MAX_RANK) {
    node_refuse(c, "a blocked parameter of rank %u for a tensor of rank %u", p->type->rank, x->rank);
    return NULL;
  }
  for (uint32_t i = 0; i <= x->rank; i++) dims[i] = i == at + 1 ? 1 : p->type->dims[i > at ? i - 1 : i];
  p = node_reshape(c, p, x->rank + 1, dims);
  dims[at + 1] = block;
  p = p ? node_expand(c, p, x->rank + 1, dims) : NULL;
  for (uint32_t i = 0; i < x->rank; i++) dims[i] = i == at ? dims[at] * block : x->dims[i];
  return node_slice(c, node_reshape(c, p, x->rank, dims), starts, NULL, x->dims);
}
