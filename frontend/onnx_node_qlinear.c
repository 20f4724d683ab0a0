// Importers of the com.microsoft operators on 8-bit integers, with the arithmetic of ONNX Runtime written out in plain
// ops: where it divides, where it multiplies by a ratio of scales, and where the zero point comes in before or after
// the rounding. Scales and zero points of activations are single numbers there.
#include <math.h>
#include <string.h>

#include "frontend/onnx_node_qlinear.h"

Value *q_number(NodeCtx *c, uint32_t i) {
  Value *v = node_in(c, i);
  if (!v) {
    node_refuse(c, "input %u is missing", i);
  } else if (!type_is_static(v->type) || type_count(v->type) != 1) {
    node_refuse(c, "input %u has type %s, expected one number", i, type_text(c->scratch, c->m->types, v->type));
  } else {
    return node_reshape(c, v, 0, NULL);
  }
  return NULL;
}

// An optional zero point: 0 of the type of x when absent.
static Value *zero_or_none(NodeCtx *c, uint32_t i, DType t) {
  return node_in(c, i) ? q_number(c, i) : node_scalar(c, t, 0);
}

Value *q_rounded(NodeCtx *c, Value *x, Value *zero, DType t, EnumValue order) {
  if (!x) return NULL;
  Value *in[3] = {x, node_scalar(c, x->type->dtype, 1), zero};
  Op *op = node_op(c, OP_QUANTIZE, zero ? 3 : 2, in);
  op_set_int(op, A_QUANTIZE_order, order);
  return node_given(c, op, zero ? zero->type->dtype : t, x->type->rank, x->type->dims);
}

// scale * (x - zero) as float
static Value *dequantised(NodeCtx *c, Value *x, Value *scale, Value *zero) {
  if (!x || !scale || !zero) return NULL;
  return node_emit2(c, OP_MUL, node_cast(c, q_centred(c, x, zero, 0), scale->type->dtype), scale);
}

// saturate(round(x / scale) + zero)
static Value *quantised(NodeCtx *c, Value *x, Value *scale, Value *zero, EnumValue order) {
  if (!x || !scale || !zero) return NULL;
  Op *op = node_op(c, OP_QUANTIZE, 3, (Value *[]){x, scale, zero});
  op_set_int(op, A_QUANTIZE_order, order);
  return node_given(c, op, zero->type->dtype, x->type->rank, x->type->dims);
}

// ---- element-wise: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero

typedef struct Binary {
  Value *a, *sa, *za, *b, *sb, *zb, *sy, *zy;
} Binary;

static bool binary_read(NodeCtx *c, Binary *q) {
  DType t = c->in[0]->type->dtype;
  q->a = c->in[0];
  q->b = c->in[3];
  q->sa = q_number(c, 1);
  q->za = zero_or_none(c, 2, t);
  q->sb = q_number(c, 4);
  q->zb = zero_or_none(c, 5, t);
  q->sy = q_number(c, 6);
  q->zy = zero_or_none(c, 7, t);
  return q->sa && q->za && q->sb && q->zb && q->sy && q->zy;
}

static Value *in_f64(NodeCtx *c, Value *v) { return node_cast(c, v, DT_F64); }

// x * ratio + rest as one fused step: exact in double, rounded to float.
static Value *fused_step(NodeCtx *c, Value *x, Value *ratio, Value *rest) {
  Value *product = node_emit2(c, OP_MUL, in_f64(c, x), in_f64(c, ratio));
  return node_cast(c, node_emit2(c, OP_ADD, product, in_f64(c, rest)), DT_F32);
}

// round(a * ra + (b * rb + fixed)) with ra = sa / sy, rb = sb / sy, fixed = zy - (ra * za + rb * zb).
bool import_qlinear_add(NodeCtx *c) {
  Binary q;
  if (!binary_read(c, &q)) return false;
  Value *ra = node_emit2(c, OP_DIV, q.sa, q.sy), *rb = node_emit2(c, OP_DIV, q.sb, q.sy);
  Value *za = node_emit2(c, OP_MUL, ra, node_cast(c, q.za, DT_F32));
  Value *zb = node_emit2(c, OP_MUL, rb, node_cast(c, q.zb, DT_F32));
  Value *fixed = node_emit2(c, OP_SUB, node_cast(c, q.zy, DT_F32), node_emit2(c, OP_ADD, za, zb));
  if (!fixed) return false;
  Value *sum = fused_step(c, q.a, ra, fused_step(c, q.b, rb, fixed));
  return node_result(c, q_rounded(c, sum, NULL, q.zy->type->dtype, ORDER_ROUND_THEN_ZERO));
}

// round((a - za) * (b - zb) * (sa * sb / sy) + zy)
bool import_qlinear_mul(NodeCtx *c) {
  Binary q;
  if (!binary_read(c, &q)) return false;
  Value *product = node_emit2(c, OP_MUL, q_centred(c, q.a, q.za, 0), q_centred(c, q.b, q.zb, 0));
  Value *ratio = node_emit2(c, OP_DIV, node_emit2(c, OP_MUL, q.sa, q.sb), q.sy);
  Value *y = ratio ? node_emit2(c, OP_MUL, node_cast(c, product, DT_F32), ratio) : NULL;
  return node_result(c, q_rounded(c, y, q.zy, q.zy->type->dtype, ORDER_ZERO_THEN_ROUND));
}

// ---- one operand: x, x_scale, x_zero, y_scale, y_zero

typedef struct Unary {
  Value *x, *sx, *zx, *sy, *zy;
} Unary;

static bool unary_read(NodeCtx *c, Unary *q) {
  DType t = c->in[0]->type->dtype;
  q->x = c->in[0];
  q->sx = q_number(c, 1);
  q->zx = zero_or_none(c, 2, t);
  q->sy = q_number(c, 3);
  q->zy = zero_or_none(c, 4, t);
  return q->sx && q->zx && q->sy && q->zy;
}

bool import_qlinear_leaky_relu(NodeCtx *c) {
  Unary q;
  if (!unary_read(c, &q)) return false;
  Value *x = dequantised(c, q.x, q.sx, q.zx);
  if (!x) return false;
  Op *op = node_op(c, OP_LEAKY_RELU, 1, &x);
  op_set_float(op, A_LEAKY_RELU_alpha, attr_float(c, "alpha", 0.01));
  return node_result(c, quantised(c, node_done(c, op), q.sy, q.zy, ORDER_ROUND_THEN_ZERO));
}

bool import_qlinear_sigmoid(NodeCtx *c) {
  Unary q;
  if (!unary_read(c, &q)) return false;
  Value *y = node_emit1(c, OP_SIGMOID, dequantised(c, q.x, q.sx, q.zx));
  return node_result(c, quantised(c, y, q.sy, q.zy, ORDER_ROUND_THEN_ZERO));
}

// ---- pools

// x as [N,C,spatial...], and back.
static Value *channels_first(NodeCtx *c, Value *x, bool last, bool back) {
  if (!x || !last) return x;
  uint32_t rank = x->type->rank;
  int64_t perm[MAX_RANK] = {0};
  for (uint32_t i = 1; i < rank; i++) perm[i] = back ? (i + 1 < rank ? i + 1 : 1) : (i == 1 ? rank - 1 : i - 1);
  return node_transpose(c, x, rank, perm);
}

bool import_avgpool(NodeCtx *c);

// The mean of the dequantised window, quantised with the zero point before the rounding.
bool import_qlinear_avgpool(NodeCtx *c) {
  Unary q;
  bool last = attr_int(c, "channels_last", 0) != 0;
  if (!unary_read(c, &q)) return false;
  if (q.x->type->rank < 3) return node_refuse(c, "the input must have rank 3 or more");
  Value *x = channels_first(c, dequantised(c, q.x, q.sx, q.zx), last, false), *out[1] = {NULL};
  if (!x) return false;
  NodeCtx pool = *c;
  pool.in = &x;
  pool.n_in = 1;
  pool.out = out;
  if (!import_avgpool(&pool)) return false;
  return node_result(c, quantised(c, channels_first(c, out[0], last, true), q.sy, q.zy, ORDER_ZERO_THEN_ROUND));
}

// round(sum of (x - zx) * (sx / (sy * count))) + zy
bool import_qlinear_global_avgpool(NodeCtx *c) {
  Unary q;
  int64_t axes[MAX_RANK], count = 1;
  bool last = attr_int(c, "channels_last", 0) != 0;
  if (!unary_read(c, &q)) return false;
  const Type *t = q.x->type;
  if (t->rank < 3) return node_refuse(c, "the input must have rank 3 or more");
  if (!node_need_static(c, q.x, "the mean")) return false;
  for (uint32_t i = 2; i < t->rank; i++) {
    axes[i - 2] = last ? i - 1 : i;
    count *= t->dims[axes[i - 2]];
  }
  Value *sum = node_reduce(c, q_centred(c, q.x, q.zx, 0), REDUCE_SUM, t->rank - 2, axes, true);
  Value *room = node_emit2(c, OP_MUL, q.sy, node_scalar(c, DT_F32, (double)count));
  Value *ratio = node_emit2(c, OP_DIV, q.sx, room);
  Value *y = ratio ? node_emit2(c, OP_MUL, node_cast(c, sum, DT_F32), ratio) : NULL;
  return node_result(c, q_rounded(c, y, q.zy, q.zy->type->dtype, ORDER_ROUND_THEN_ZERO));
}

// ---- softmax: a table of 256 exponentials, indexed by the distance to the maximum

// e^(-d * scale) times the largest power that keeps a sum of n of them in range.
static Value *exp_table(NodeCtx *c, double scale, int64_t n) {
  double headroom = log((double)((float)0x1.fffffep127 / (float)n)) - 5;
  double shift = (headroom > 0 ? headroom : 0) / scale;
  float table[256];
  int64_t dims[1] = {256};
  for (int d = 0; d < 256; d++) table[d] = (float)exp((shift - d) * scale);
  return const_bytes(c->m, type_tensor(c->m->types, DT_F32, 1, dims), table, NULL);
}

// Softmax over `axis` of a tensor whose rows are what is summed.
static Value *softmax_rows(NodeCtx *c, const Unary *q, Value *x, int64_t axis) {
  const Type *t = x->type;
  int64_t n = t->dims[axis];
  double scale = const_f(c->m, q->sx->constant, 0),
         inverse = floor((double)(1.0F / (float)const_f(c->m, q->sy->constant, 0)));
  Value *wide = node_cast(c, x, DT_I32);
  Value *distance = node_emit2(c, OP_SUB, node_reduce(c, wide, REDUCE_MAX, 1, &axis, true), wide);
  Value *table = exp_table(c, scale, n);
  if (!distance || !table) return NULL;
  Value *e = node_given(c, node_op(c, OP_LOOKUP, 2, (Value *[]){table, distance}), DT_F32, t->rank, t->dims);
  Value *sum = node_reduce(c, e, REDUCE_SUM, 1, &axis, true);
  Value *y = node_emit2(c, OP_DIV, e ? node_emit2(c, OP_MUL, e, node_scalar(c, DT_F32, inverse)) : NULL, sum);
  return q_rounded(c, y, q->zy, q->zy->type->dtype, ORDER_ROUND_THEN_ZERO);
}

bool import_qlinear_softmax(NodeCtx *c) {
  Unary q;
  uint32_t axis;
  int64_t opset = attr_int(c, "opset", 0);
  if (!unary_read(c, &q) || !node_need_static(c, q.x, "the table")) return false;
  if (!value_is_const(q.sx) || !value_is_const(q.sy)) return node_unsupported(c, "scales that are not constant");
  if (!(const_f(c->m, q.sx->constant, 0) > 0) || !(const_f(c->m, q.sy->constant, 0) > 0))
    return node_refuse(c, "a scale that is not positive");
  const Type *t = q.x->type;
  if (!node_axis(c, attr_int(c, "axis", opset < 13 ? 1 : -1), t->rank, &axis)) return false;
  if (opset >= 13) return node_result(c, softmax_rows(c, &q, q.x, axis));
  int64_t rows[2] = {1, 1};
  for (uint32_t i = 0; i < t->rank; i++) rows[i >= axis] *= t->dims[i];
  Value *x = node_reshape(c, q.x, 2, rows);
  return node_result(c, node_reshape(c, x ? softmax_rows(c, &q, x, 1) : NULL, t->rank, t->dims));
}

// ---- concat and where: requantised unless scale and zero point agree

static bool same_number(NodeCtx *c, const Value *a, const Value *b) {
  if (a == b) return true;
  return value_is_const(a) && value_is_const(b) && const_f(c->m, a->constant, 0) == const_f(c->m, b->constant, 0);
}

static Value *moved(NodeCtx *c, Value *x, Value *sx, Value *zx, Value *sy, Value *zy) {
  if (!x || !sx || !zx || !sy || !zy) return NULL;
  if (same_number(c, sx, sy) && same_number(c, zx, zy)) return x;
  return quantised(c, dequantised(c, x, sx, zx), sy, zy, ORDER_ROUND_THEN_ZERO);
}

// y_scale, y_zero, then x, x_scale, x_zero for each part
bool import_qlinear_concat(NodeCtx *c) {
  uint32_t n = (c->n_in - 2) / 3;
  if (n == 0 || c->n_in != 2 + 3 * n) return node_refuse(c, "%u inputs, expected 2 and three for each part", c->n_in);
  Value *sy = q_number(c, 0), *zy = q_number(c, 1), **part = NEW_ARRAY(c->scratch, Value *, n);
  for (uint32_t i = 0; i < n; i++) {
    Value *x = node_in(c, 2 + 3 * i);
    if (!x) return node_refuse(c, "input %u is missing", 2 + 3 * i);
    part[i] = moved(c, x, q_number(c, 3 + 3 * i), zero_or_none(c, 4 + 3 * i, x->type->dtype), sy, zy);
    if (!part[i]) return false;
  }
  return node_result(c, node_concat(c, n, part, attr_int(c, "axis", 0)));
}

// condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero
bool import_qlinear_where(NodeCtx *c) {
  Value *sz = q_number(c, 7), *zz = q_number(c, 8);
  Value *x = moved(c, c->in[1], q_number(c, 2), q_number(c, 3), sz, zz);
  Value *y = moved(c, c->in[4], q_number(c, 5), q_number(c, 6), sz, zz);
  return x && y && node_result(c, node_emit3(c, OP_SELECT, c->in[0], x, y));
}
