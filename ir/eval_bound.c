// What is known about an op besides its value: the magnitudes behind the error bound of a contraction, and its cost.
//
// The magnitude of a contraction is the same contraction of absolute values; the operands are turned into f64 tensors
// of absolute values and go through the op's own code.
#include <math.h>

#include "ir/eval_impl.h"

EVAL(avgpool);
EVAL(reduce);
EVAL(einsum);

static int64_t product(const Type *t, uint32_t first, uint32_t end) {
  int64_t n = 1;
  for (uint32_t k = first; k < end && k < t->rank; k++)
    if (__builtin_mul_overflow(n, t->dims[k], &n)) return INT64_MAX;
  return n;
}

static int64_t window_size(const Op *op, int slot) {
  uint32_t n = 0;
  const int64_t *k = op_ints(op, slot, &n);
  int64_t size = 1;
  for (uint32_t i = 0; i < n; i++)
    if (__builtin_mul_overflow(size, k[i], &size)) return INT64_MAX;
  return size;
}

// Assignments of all letters of the equation that are not in the result.
static int64_t einsum_terms(const Op *op) {
  const char *eq = op_str(op, A_EINSUM_equation), *arrow = eq;
  while (*arrow && *arrow != '-') arrow++;
  int64_t sizes[128] = {0}, n = 1;
  uint32_t o = 0, axis = 0;
  for (const char *p = eq; p < arrow; p++) {
    if (*p == ',') {
      o++;
      axis = 0;
    } else {
      int64_t d = op_in(op, o)->type->dims[axis++];
      if (d > sizes[*p & 127]) sizes[*p & 127] = d;
    }
  }
  for (const char *p = arrow; *p; p++) sizes[*p & 127] = 0;
  for (int c = 0; c < 128; c++)
    if (sizes[c] && __builtin_mul_overflow(n, sizes[c], &n)) return INT64_MAX;
  return n;
}

// Terms of one result element, the bias not counted.
static int64_t terms_of(const Op *op, const Type *x, const Type *w, const Type *out) {
  bool nhwc;
  switch (op->kind) {
    case OP_MATMUL: return x->dims[x->rank - (x->rank > 1 && op_bool(op, A_MATMUL_trans_a) ? 2 : 1)];
    case OP_CONV:
      nhwc = op_enum(op, A_CONV_layout) == LAYOUT_NHWC;
      return nhwc ? product(w, 0, w->rank - 1) : product(w, 1, w->rank);
    case OP_CONV_TRANSPOSE:
      nhwc = op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NHWC;
      return nhwc ? product(w, 0, w->rank - 1) / op_int(op, A_CONV_TRANSPOSE_group)
                  : w->dims[0] / op_int(op, A_CONV_TRANSPOSE_group) * product(w, 2, w->rank);
    case OP_EINSUM: return einsum_terms(op);
    case OP_CHAIN: return chain_terms(op);
    case OP_AVGPOOL: return window_size(op, A_AVGPOOL_kernel);
    case OP_REDUCE: return product(out, 0, out->rank) ? product(x, 0, x->rank) / product(out, 0, out->rank) : 0;
    default: return 0;
  }
}

static bool has_bound(const Op *op) {
  switch (op->kind) {
    case OP_MATMUL:
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_EINSUM:
    case OP_CHAIN:
    case OP_AVGPOOL: return true;
    case OP_REDUCE: return op_enum(op, A_REDUCE_op) == REDUCE_SUM || op_enum(op, A_REDUCE_op) == REDUCE_MEAN;
    default: return false;
  }
}

static Tensor magnitudes(Arena *arena, const Tensor *t, Type *type) {
  if (!t->data) return (Tensor){0};
  double *v = floats_of(arena, t);
  int64_t n = type_count(t->type);
  for (int64_t k = 0; k < n; k++) v[k] = fabs(v[k]);
  *type = *t->type;
  type->dtype = DT_F64;
  return (Tensor){type, v};
}

bool eval_op_magnitude(const Op *op, const Tensor *in, double *magnitude, int64_t *terms, Arena *arena) {
  if (!has_bound(op) || !dtype_is_float(in[0].type->dtype)) return false;
  uint32_t n_in = op_info(op->kind)->max_in == VARIADIC ? op->n_in : op->n_in - op_n_post(op);
  Tensor *abs_in = NEW_ARRAY(arena, Tensor, op->n_in);
  Type *types = NEW_ARRAY(arena, Type, op->n_in), out_type = *op->out[0]->type;
  for (uint32_t k = 0; k < n_in; k++) abs_in[k] = magnitudes(arena, &in[k], &types[k]);
  out_type.dtype = DT_F64;
  Tensor out = {&out_type, magnitude};
  Nums sums = {NULL, NULL, 0};
  bool ok = true;
  switch (op->kind) {
    case OP_MATMUL: sums = matmul_sums(op, abs_in, &out_type, arena); break;
    case OP_CONV: sums = conv_sums(op, abs_in, &out_type, arena); break;
    case OP_CONV_TRANSPOSE: sums = conv_transpose_sums(op, abs_in, &out_type, arena); break;
    case OP_CHAIN: sums = chain_sums(op, abs_in, &out_type, arena); break;
    case OP_EINSUM: ok = eval_einsum(op, abs_in, &out, arena); break;
    case OP_AVGPOOL: ok = eval_avgpool(op, abs_in, &out, arena); break;
    default: ok = eval_reduce(op, abs_in, &out, arena); break;
  }
  for (int64_t k = 0; k < sums.n; k++) magnitude[k] = sums.f[k];
  bool has_bias = op->kind != OP_EINSUM && op->kind != OP_CHAIN && n_in > 2 && in[2].data;
  *terms = terms_of(op, in[0].type, n_in > 1 ? in[1].type : NULL, &out_type) + has_bias;
  return ok;
}

// ---- cost

static int64_t count_of(const Value *v) { return v && v->type && type_is_static(v->type) ? type_count(v->type) : 0; }

// Work per result element of the ops whose results cost more than reading the operands once.
static int64_t work_per_result(const Op *op) {
  const Type *x = op->in[0].value->type, *w = op_in(op, 1) ? op_in(op, 1)->type : NULL, *out = op->out[0]->type;
  switch (op->kind) {
    case OP_MATMUL:
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_EINSUM: return terms_of(op, x, w, out);
    case OP_CHAIN: return chain_work(op) / (type_count(out) > 0 ? type_count(out) : 1) + 1;
    case OP_MAXPOOL: return window_size(op, A_MAXPOOL_kernel);
    case OP_AVGPOOL: return window_size(op, A_AVGPOOL_kernel);
    case OP_LPPOOL: return window_size(op, A_LPPOOL_kernel);
    case OP_LRN: return op_int(op, A_LRN_size);
    case OP_MAP: return (int64_t)op_func(op, A_MAP_body)->n_ops;
    case OP_LSTM:
    case OP_GRU:
    case OP_RNN: {
      const Type *r = op_in(op, 2)->type;  // every hidden unit reads its rows of W and R
      return r->dims[2] ? work_times(r->dims[1] / r->dims[2], work_plus(w->dims[2], r->dims[2])) : 1;
    }
    case OP_RESIZE: {
      double taps = 1;
      uint32_t n = 0;
      const double *scales = op_floats(op, A_RESIZE_scales, &n);
      for (uint32_t k = 0; k < n; k++) taps += scales[k] < 1 ? 4 / scales[k] : 4;
      return taps < 1e15 ? (int64_t)taps : INT64_MAX;
    }
    default: return 1;
  }
}

int64_t eval_cost(const Op *op) {
  int64_t n_out = 0, n_in = 0;
  for (uint32_t k = 0; k < op->n_in; k++) n_in = work_plus(n_in, count_of(op_in(op, k)));
  for (uint32_t k = 0; k < op->n_out; k++) {
    if (op->out[k]->type && !type_is_static(op->out[k]->type)) return INT64_MAX;
    n_out = work_plus(n_out, count_of(op->out[k]));
  }
  for (uint32_t k = 0; k < op->n_in; k++)
    if (op_in(op, k) && !type_is_static(op_in(op, k)->type)) return INT64_MAX;
  int64_t work = op->n_in && op_in(op, 0) ? work_per_result(op) : 1;
  return work_plus(n_in, work_times(n_out, work < 1 ? 1 : work));
}
