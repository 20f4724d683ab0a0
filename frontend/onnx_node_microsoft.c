// Importers of the com.microsoft operators that contract: integer Gemm and MatMul forms, block-quantised weights, and
// fused float operators, plus the float activations and norms of that domain.
#include <math.h>
#include <string.h>

#include "frontend/onnx_node_conv.h"
#include "frontend/onnx_node_qlinear.h"
#include "ir/elem.h"

// ---- integers

static Value *transposed2(NodeCtx *c, Value *x, bool yes) {
  int64_t perm[2] = {1, 0};
  return yes ? node_transpose(c, x, 2, perm) : x;
}

static Value *number_times(NodeCtx *c, Value *v, double k) {
  return !v || k == 1 ? v : node_emit2(c, OP_MUL, node_scalar(c, v->type->dtype, k), v);
}

// a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero: float out without y_scale.
bool import_qgemm(NodeCtx *c) {
  bool ta = attr_int(c, "transA", 0) != 0, tb = attr_int(c, "transB", 0) != 0;
  double alpha = attr_float(c, "alpha", 1);
  if (c->in[0]->type->rank != 2 || c->in[3]->type->rank != 2) return node_refuse(c, "factors must have rank 2");
  Value *sa = number_times(c, q_number(c, 1), alpha), *za = q_number(c, 2);
  if (!sa || !za) return false;
  Value *a = q_centred(c, transposed2(c, c->in[0], ta), za, 0);
  Value *b = q_centred(c, transposed2(c, c->in[3], tb), c->in[5], 0);
  Value *acc = node_matmul(c, a, b, node_in(c, 6), false, false);
  if (!node_in(c, 7)) {
    Value *scale = node_emit2(c, OP_MUL, sa, q_along(c, c->in[4], 0));
    return node_result(c, scale && acc ? node_emit2(c, OP_MUL, node_cast(c, acc, sa->type->dtype), scale) : NULL);
  }
  Value *sy = q_number(c, 7), *zy = node_in(c, 8) ? q_number(c, 8) : node_scalar(c, c->in[0]->type->dtype, 0);
  return sy && zy && q_requantised(c, acc, sa, q_along(c, c->in[4], 0), sy, zy);
}

// acc * (sa * sb) + bias
static bool scaled_out(NodeCtx *c, Value *acc, Value *sa, Value *sb, Value *bias) {
  Value *scale = node_emit2(c, OP_MUL, sa, sb);
  if (!scale || !acc) return false;
  Value *y = node_emit2(c, OP_MUL, node_cast(c, acc, scale->type->dtype), scale);
  return node_result(c, bias && y ? node_emit2(c, OP_ADD, y, bias) : y);
}

// a, b, a_scale, b_scale, a_zero, b_zero, bias
bool import_matmul_integer_to_float(NodeCtx *c) {
  Value *acc = node_matmul(c, q_centred(c, c->in[0], node_in(c, 4), 1), q_centred(c, c->in[1], node_in(c, 5), 0), NULL,
                           false, false);
  return scaled_out(c, acc, q_along(c, c->in[2], 1), q_along(c, c->in[3], 0), node_in(c, 6));
}

// a (float), b, b_scale, b_zero, bias
bool import_dynamic_quantize_matmul(NodeCtx *c) {
  Value *q[3];
  if (!q_dynamic(c, c->in[0], q)) return false;
  Value *acc =
      node_matmul(c, q_centred(c, q[0], q[2], 0), q_centred(c, c->in[1], node_in(c, 3), 0), NULL, false, false);
  return scaled_out(c, acc, q[1], q_along(c, c->in[2], 0), node_in(c, 4));
}

// ---- MatMulNBits: b[N, blocks, bytes] packed LSB first, scales[N * blocks], zero points packed or in the type of a

typedef struct NBits {
  int64_t k, n, bits, block, blocks;
} NBits;

static bool nbits_read(NodeCtx *c, NBits *w) {
  w->k = attr_int(c, "K", 0);
  w->n = attr_int(c, "N", 0);
  w->bits = attr_int(c, "bits", 4);
  w->block = attr_int(c, "block_size", 0);
  if (w->k < 1 || w->n < 1 || w->k > INT32_MAX || w->n > INT32_MAX)
    return node_refuse(c, "K = %lld, N = %lld", (long long)w->k, (long long)w->n);
  if (w->bits != 2 && w->bits != 4 && w->bits != 8) return node_unsupported(c, "%lld bits", (long long)w->bits);
  if (w->block < 16 || w->block > 1 << 20 || (w->block & (w->block - 1)))
    return node_refuse(c, "block_size %lld, expected a power of two from 16", (long long)w->block);
  w->blocks = (w->k + w->block - 1) / w->block;
  if (node_in(c, 4)) return node_unsupported(c, "g_idx");
  if (!value_is_const(c->in[1]) || !value_is_const(c->in[2]) || (node_in(c, 3) && !value_is_const(c->in[3])))
    return node_unsupported(c, "weights that are not constant");
  if (type_bytes(c->in[1]->type) != w->n * w->blocks * (w->block * w->bits / 8) ||
      type_count(c->in[2]->type) != w->n * w->blocks)
    return node_refuse(c, "weights %s and scales %s do not fit N, K, bits and block_size",
                       type_text(c->scratch, c->m->types, c->in[1]->type),
                       type_text(c->scratch, c->m->types, c->in[2]->type));
  return true;
}

static DType nbits_dtype(const NBits *w) { return w->bits == 2 ? DT_U2 : w->bits == 4 ? DT_U4 : DT_U8; }

// Rows of `count` fields, each row starting at a multiple of `stride` bytes, as a [rows, count] constant.
static Value *unpacked(NodeCtx *c, const Value *packed, const NBits *w, int64_t count, int64_t stride) {
  int64_t dims[2] = {w->n, count}, n_bytes = type_count(packed->type);
  const Type *t = node_type(c, nbits_dtype(w), 2, dims);
  if (!t) return NULL;
  uint8_t *out = NEW_ARRAY(c->m->arena, uint8_t, type_bytes(t) + 1);
  uint32_t bits = (uint32_t)w->bits, mask = (1u << bits) - 1;
  for (int64_t r = 0; r < w->n; r++)
    for (int64_t i = 0; i < count; i++) {
      int64_t from = r * stride + i * w->bits / 8, to = (r * count + i) * w->bits;
      uint32_t byte = from < n_bytes ? (uint32_t)const_i(c->m, packed->constant, from) & 0xff : 0;
      uint32_t field = (byte >> (i * w->bits % 8)) & mask;
      out[to / 8] = (uint8_t)(out[to / 8] | field << (to % 8));
    }
  return const_bytes(c->m, t, out, NULL);
}

// Zero points as floats [N, blocks]; the middle of the range when absent.
static Value *nbits_zero(NodeCtx *c, const NBits *w, DType t) {
  Value *z = node_in(c, 3);
  int64_t dims[2] = {w->n, w->blocks};
  if (!z) return node_scalar(c, t, exp2((double)w->bits - 1));
  if (dtype_is_float(z->type->dtype)) {
    if (type_count(z->type) == w->n * w->blocks) return node_cast(c, node_reshape(c, z, 2, dims), t);
  } else {
    int64_t stride = (w->blocks * w->bits + 7) / 8;
    if (type_bytes(z->type) == w->n * stride) return node_cast(c, unpacked(c, z, w, w->blocks, stride), t);
  }
  node_refuse(c, "zero points %s do not fit N, K, bits and block_size", type_text(c->scratch, c->m->types, z->type));
  return NULL;
}

// (q - zero) * scale per block, as [N, blocks, block], cut to K.
static Value *nbits_weights(NodeCtx *c, const NBits *w, DType t) {
  int64_t padded = w->blocks * w->block, whole[3] = {w->n, w->blocks, w->block}, flat[2] = {w->n, padded};
  int64_t per_block[3] = {w->n, w->blocks, 1}, starts[2] = {0, 0}, cut[2] = {w->n, w->k};
  Value *q = unpacked(c, c->in[1], w, padded, padded * w->bits / 8), *zero = nbits_zero(c, w, t);
  Value *scale = node_cast(c, node_reshape(c, c->in[2], 3, per_block), t);
  if (!q || !zero || !scale) return NULL;
  if (zero->type->rank) zero = node_reshape(c, zero, 3, per_block);
  Value *x = node_emit2(c, OP_SUB, node_cast(c, node_reshape(c, q, 3, whole), t), zero);
  Value *y = node_reshape(c, node_emit2(c, OP_MUL, x, scale), 2, flat);
  return node_slice(c, y, starts, NULL, cut);
}

// Zero points as integers of the type of the weights, or NULL when they are not such.
static Value *nbits_int_zero(NodeCtx *c, const NBits *w) {
  Value *z = node_in(c, 3);
  DType t = nbits_dtype(w);
  int64_t dims[2] = {w->n, w->blocks}, count = w->n * w->blocks;
  if (!z) return const_splat_int(c->m, node_type(c, t, 0, NULL), 1 << (w->bits - 1));
  if (!dtype_is_float(z->type->dtype)) {
    int64_t stride = (w->blocks * w->bits + 7) / 8;
    return type_bytes(z->type) == w->n * stride ? unpacked(c, z, w, w->blocks, stride) : NULL;
  }
  if (type_count(z->type) != count) return NULL;
  const Type *type = node_type(c, t, 2, dims);
  void *out = NEW_ARRAY(c->m->arena, uint8_t, type_bytes(type) + 1);
  for (int64_t i = 0; i < count; i++) {
    double v = const_f(c->m, z->constant, i);
    if (!(v >= 0 && v <= (double)dtype_max(t)) || v != floor(v)) return NULL;
    elem_set_i(out, t, i, (int64_t)v);
  }
  return const_bytes(c->m, type, out, NULL);
}

// The weights [N, K] as a dequantize of the integers; NULL when it cannot say what the zero points are.
static Value *nbits_dequantize(NodeCtx *c, const NBits *w) {
  int64_t dims[2] = {w->n, w->k}, per_block[2] = {w->n, w->blocks};
  Value *zero = nbits_int_zero(c, w);
  if (!zero) return NULL;
  Value *q = unpacked(c, c->in[1], w, w->k, w->blocks * w->block * w->bits / 8);
  Value *scale = node_cast(c, node_reshape(c, c->in[2], 2, per_block), DT_F32);
  if (!q || !scale) return NULL;
  Op *op = node_op(c, OP_DEQUANTIZE, 3, (Value *[]){q, scale, zero});
  op_set_int(op, A_DEQUANTIZE_axis, 1);
  op_set_int(op, A_DEQUANTIZE_block, w->block);
  return node_given(c, op, DT_F32, 2, dims);
}

bool import_matmul_nbits(NodeCtx *c) {
  NBits w;
  DType t = c->in[0]->type->dtype;
  if (!nbits_read(c, &w)) return false;
  int64_t level = attr_int(c, "accuracy_level", 0);
  Value *b = t == DT_F32 ? nbits_dequantize(c, &w) : NULL;
  bool rounds = b && level >= 2 && level <= 4;  // 1: f32; 2, 3: half precision; 4: bytes
  if (!b) b = nbits_weights(c, &w, DT_F32);
  if (!b) return false;
  Value *y = node_matmul(c, c->in[0], node_cast(c, b, t), node_in(c, 5), false, true);
  if (rounds && y && y->kind == VALUE_RESULT && y->op->kind == OP_MATMUL)
    op_set_int(y->op, A_MATMUL_x_bits, level == 4 ? 8 : 16);
  return node_result(c, y);
}

// ---- fused float operators

static Value *activation(NodeCtx *c, Value *x, const char *name, const double *p, uint32_t n) {
  static const struct {
    const char *name;
    OpKind op;
    int alpha, beta;  // attribute slots, -1: none
  } known[] = {{"Relu", OP_RELU, -1, -1},
               {"Tanh", OP_TANH, -1, -1},
               {"Sigmoid", OP_SIGMOID, -1, -1},
               {"HardSwish", OP_HARD_SWISH, -1, -1},
               {"LeakyRelu", OP_LEAKY_RELU, A_LEAKY_RELU_alpha, -1},
               {"HardSigmoid", OP_HARD_SIGMOID, A_HARD_SIGMOID_alpha, A_HARD_SIGMOID_beta}};
  if (!x || !*name) return x;
  DType t = x->type->dtype;
  if (strcmp(name, "Clip") == 0)
    return node_emit3(c, OP_CLIP, x, node_scalar(c, t, n > 0 ? p[0] : -INFINITY),
                      node_scalar(c, t, n > 1 ? p[1] : INFINITY));
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(name, known[i].name) != 0) continue;
    Op *op = node_op(c, known[i].op, 1, &x);
    if (known[i].alpha >= 0 && n > 0) op_set_float(op, known[i].alpha, p[0]);
    if (known[i].beta >= 0 && n > 1) op_set_float(op, known[i].beta, p[1]);
    return node_done(c, op);
  }
  node_unsupported(c, "activation '%s'", str_escape(c->scratch, name, 32));
  return NULL;
}

// x, w, bias, z: activation(conv + z)
bool import_fused_conv(NodeCtx *c) {
  uint32_t n;
  const char *name = attr_str(c, "activation", "");
  const double *p = attr_floats(c, "activation_params", &n);
  Value *y = node_conv(c, c->in[0], c->in[1], node_in(c, 2));
  if (y && node_in(c, 3)) y = node_emit2(c, OP_ADD, y, c->in[3]);
  return node_result(c, activation(c, y, name, p, n));
}

bool import_gemm(NodeCtx *c);

bool import_fused_gemm(NodeCtx *c) {
  const char *name = attr_str(c, "activation", "");
  double p[2] = {attr_float(c, "activation_alpha", 0), attr_float(c, "activation_beta", 0)};
  uint32_t n = attr_has(c, "activation_beta") ? 2 : attr_has(c, "activation_alpha") ? 1 : 0;
  attr_ignore(c, "activation_gamma");
  if (!import_gemm(c)) return false;
  return node_result(c, activation(c, c->out[0], name, p, n));
}

bool import_fused_matmul(NodeCtx *c) {
  double alpha = attr_float(c, "alpha", 1);
  bool ta = attr_int(c, "transA", 0) != 0, tb = attr_int(c, "transB", 0) != 0;
  if (attr_int(c, "transBatchA", 0) || attr_int(c, "transBatchB", 0))
    return node_unsupported(c, "transposed batch axes");
  if ((ta && c->in[0]->type->rank < 2) || (tb && c->in[1]->type->rank < 2))
    return node_refuse(c, "a transposed factor of rank 1");
  return node_result(c, number_times(c, node_matmul(c, c->in[0], c->in[1], NULL, ta, tb), alpha));
}

// ---- activations: x, and a bias that is added first

static Value *biased(NodeCtx *c) { return node_in(c, 1) ? node_emit2(c, OP_ADD, c->in[0], c->in[1]) : c->in[0]; }

bool import_ms_gelu(NodeCtx *c) { return node_result(c, node_emit1(c, OP_GELU, biased(c))); }
bool import_fast_gelu(NodeCtx *c) { return node_result(c, node_emit1(c, OP_GELU_TANH, biased(c))); }

bool import_quick_gelu(NodeCtx *c) {
  Op *op = node_op(c, OP_SWISH, 1, c->in);
  op_set_float(op, A_SWISH_alpha, attr_float(c, "alpha", 1.702));
  return node_result(c, node_done(c, op));
}

// ---- norms over the last axis of x + skip + bias; results y, mean, 1/std, sum

static Value *skip_sum(NodeCtx *c, uint32_t bias) {
  Value *sum = node_emit2(c, OP_ADD, c->in[0], c->in[1]);
  return sum && node_in(c, bias) ? node_emit2(c, OP_ADD, sum, c->in[bias]) : sum;
}

// x, skip, gamma, beta, bias
bool import_skip_layer_norm(NodeCtx *c) {
  Value *sum = skip_sum(c, 4), *results[3];
  if (!sum) return false;
  Op *op = node_op(c, OP_LAYER_NORM, node_in(c, 3) ? 3 : 2, (Value *[]){sum, c->in[2], node_in(c, 3)});
  op_set_int(op, A_LAYER_NORM_axis, -1);
  op_set_float(op, A_LAYER_NORM_epsilon, attr_float(c, "epsilon", 1e-5));
  if (!node_done_all(c, op, results)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = i < 3 ? results[i] : sum;
  return true;
}

static Value *rms(NodeCtx *c, Value *x, Value *scale, int64_t axis) {
  if (!x) return NULL;
  Op *op = node_op(c, OP_RMS_NORM, 2, (Value *[]){x, scale});
  op_set_int(op, A_RMS_NORM_axis, axis);
  op_set_float(op, A_RMS_NORM_epsilon, attr_float(c, "epsilon", 1e-5));
  return node_done(c, op);
}

static bool no_statistics(NodeCtx *c, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++)
    if (node_wants(c, i)) return node_unsupported(c, "result %u", i);
  return true;
}

// x, skip, gamma, bias
bool import_skip_rms_norm(NodeCtx *c) {
  Value *sum = skip_sum(c, 3), *y = rms(c, sum, c->in[2], -1);
  if (!y || !no_statistics(c, 1, 3)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = i == 0 ? y : i == 3 ? sum : NULL;
  return true;
}

bool import_simplified_layer_norm(NodeCtx *c) {
  attr_ignore(c, "stash_type");
  if (!no_statistics(c, 1, 3)) return false;
  return node_result(c, rms(c, c->in[0], c->in[1], attr_int(c, "axis", -1)));
}
