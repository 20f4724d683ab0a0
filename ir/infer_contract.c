// Inference of contractions and pooling: matmul, conv, conv_transpose, einsum, pool.
//
// Convolutions know two layouts (ops.def): the position of channels and spatial axes is computed once in ConvDims.
#include <string.h>

#include "ir/infer_hooks.h"

// Small integers accumulate in 32 bits; everything else in its own type.
static DType product_type(DType t) {
  if (dtype_is_float(t) || dtype_info(t)->bits >= 32) return t;
  return DT_I32;
}

// Operands have one type, or are 8-bit integers of either sign; a zero point is a value of the first one's type.
static bool product_operands(const Op *op, int zero_slot) {
  DType a = infer_in(op, 0)->dtype, b = infer_in(op, 1)->dtype;
  bool bytes = (a == DT_U8 || a == DT_I8) && (b == DT_U8 || b == DT_I8);
  if (!bytes && !infer_same_dtype(op, 0, 1)) return false;
  int64_t zero = op_int(op, zero_slot);
  if (zero == 0 || (dtype_is_int(a) && zero >= dtype_min(a) && zero <= dtype_max(a))) return true;
  return infer_fail(op, "x_zero is %lld, which is no value of %s", (long long)zero, dtype_info(a)->name);
}

// ---- matmul

bool infer_matmul(Op *op) {
  const Type *a = infer_in(op, 0), *b = infer_in(op, 1);
  if (!infer_rank(op, 0, "a", 1, MAX_RANK) || !infer_rank(op, 1, "b", 1, MAX_RANK) ||
      !product_operands(op, A_MATMUL_x_zero))
    return false;
  bool ta = op_bool(op, A_MATMUL_trans_a), tb = op_bool(op, A_MATMUL_trans_b);
  if ((ta && a->rank < 2) || (tb && b->rank < 2)) return infer_fail(op, "a vector cannot be transposed");
  uint32_t ra = a->rank, rb = b->rank;
  int64_t m = ra > 1 ? a->dims[ra - 1 - !ta] : 1, ka = a->dims[ra == 1 ? 0 : ra - 1 - ta];
  int64_t kb = b->dims[rb == 1 ? 0 : rb - 1 - !tb], n = rb > 1 ? b->dims[rb - 1 - tb] : 1;
  if (ka != kb)
    return infer_fail(op, "%s and %s have different inner extents %s and %s", infer_text(op, a), infer_text(op, b),
                      infer_dim_text(op, ka), infer_dim_text(op, kb));
  uint32_t rank;
  int64_t dims[MAX_RANK + 2];
  if (!dims_broadcast(ra > 2 ? ra - 2 : 0, a->dims, rb > 2 ? rb - 2 : 0, b->dims, &rank, dims))
    return infer_fail(op, "the leading dims of %s and %s do not broadcast", infer_text(op, a), infer_text(op, b));
  if (ra > 1) dims[rank++] = m;
  if (rb > 1) dims[rank++] = n;
  if (!infer_set(op, 0, product_type(a->dtype), rank, dims)) return false;
  const Type *bias = infer_in(op, 2), *y = op_out(op, 0)->type;
  if (!bias) return true;
  uint32_t r;
  if (bias->dtype != y->dtype || !dims_broadcast(bias->rank, bias->dims, rank, y->dims, &r, dims) || r != rank ||
      memcmp(dims, y->dims, rank * sizeof *dims) != 0)
    return infer_fail(op, "the bias %s does not broadcast to %s", infer_text(op, bias), infer_text(op, y));
  return true;
}

// ---- convolution geometry

typedef struct ConvDims {
  uint32_t spatial;    // number of spatial axes
  uint32_t x_channel;  // axis of the channels of x and y
  uint32_t x_space;    // first spatial axis of x and y
  uint32_t w_in, w_out, w_space;
} ConvDims;

static ConvDims conv_dims(uint32_t rank, bool nhwc, bool transposed) {
  uint32_t s = rank - 2;
  ConvDims d = {s, nhwc ? rank - 1 : 1, nhwc ? 1 : 2, nhwc ? s : 1, nhwc ? s + 1 : 0, nhwc ? 0 : 2};
  if (transposed && !nhwc) {
    d.w_in = 0;
    d.w_out = 1;
  }
  return d;
}

// Extent of one output axis of a sliding window, -1 after a diagnostic.
static int64_t window_out(const Op *op, uint32_t axis, int64_t in, int64_t k, int64_t stride, int64_t begin,
                          int64_t end, int64_t dilation, bool ceil_mode) {
  if (in < 0 && k == 1 && stride == 1 && begin == 0 && end == 0) return in;
  if (!infer_known(op, in, "the result shape")) return INT64_MIN;
  int64_t reach;
  if (k < 1 || !size_mul(k - 1, dilation, &reach)) {
    infer_fail(op, "a kernel extent of %lld with dilation %lld is out of range", (long long)k, (long long)dilation);
    return INT64_MIN;
  }
  int64_t padded = in + begin + end, slack = padded - reach - 1;
  if (slack < 0) {
    infer_fail(op, "on spatial axis %u the kernel spans %lld, the padded input only %lld", axis, (long long)(reach + 1),
               (long long)padded);
    return INT64_MIN;
  }
  int64_t out = slack / stride + 1;
  // A window that would start past the input and its leading padding is dropped.
  if (ceil_mode && slack % stride != 0 && out * stride < in + begin) out++;
  return out;
}

static bool check_window(const Op *op, uint32_t s, int strides, int pads, int dilations) {
  return infer_ints(op, strides, s, true, 1, INFER_MAX_STEP) &&
         infer_ints(op, pads, 2 * s, true, -INFER_MAX_STEP, INFER_MAX_STEP) &&
         infer_ints(op, dilations, s, true, 1, INFER_MAX_STEP);
}

// Ranks and channel counts of x, w, bias; O of the result.
static bool check_channels(const Op *op, const ConvDims *d, int64_t group, bool transposed, int64_t *out) {
  const Type *x = infer_in(op, 0), *w = infer_in(op, 1);
  int64_t c = x->dims[d->x_channel];
  if (!infer_known(op, c, "the number of channels") || !infer_known(op, w->dims[d->w_in], "the weights") ||
      !infer_known(op, w->dims[d->w_out], "the weights"))
    return false;
  if (group < 1 || c % group != 0)
    return infer_fail(op, "%lld channels cannot be split into %lld groups", (long long)c, (long long)group);
  int64_t expect = transposed ? c : c / group;
  if (w->dims[d->w_in] != expect)
    return infer_fail(op, "the weights %s take %lld channels, the input %s has %lld%s", infer_text(op, w),
                      (long long)w->dims[d->w_in], infer_text(op, x), (long long)expect,
                      transposed || group == 1 ? "" : " per group");
  *out = w->dims[d->w_out];
  if (transposed && !size_mul(*out, group, out)) return infer_fail(op, "too many output channels");
  if (!transposed && *out % group != 0)
    return infer_fail(op, "%lld output channels cannot be split into %lld groups", (long long)*out, (long long)group);
  return infer_vector(op, 2, "the bias", *out);
}

static bool check_conv_operands(const Op *op) {
  if (!infer_rank(op, 0, "the input", 3, 5)) return false;
  uint32_t rank = infer_in(op, 0)->rank;
  if (!infer_rank(op, 1, "the weights", rank, rank)) return false;
  return product_operands(op, op->kind == OP_CONV ? (int)A_CONV_x_zero : (int)A_CONV_TRANSPOSE_x_zero);
}

bool infer_conv(Op *op) {
  if (!check_conv_operands(op)) return false;
  const Type *x = infer_in(op, 0), *w = infer_in(op, 1), *b = infer_in(op, 2);
  ConvDims d = conv_dims(x->rank, op_enum(op, A_CONV_layout) == LAYOUT_NHWC, false);
  int64_t dims[MAX_RANK], out;
  DType result = product_type(x->dtype);
  if (!check_window(op, d.spatial, A_CONV_strides, A_CONV_pads, A_CONV_dilations) ||
      !check_channels(op, &d, op_int(op, A_CONV_group), false, &out))
    return false;
  if (b && b->dtype != result) return infer_fail(op, "the bias must be %s", dtype_info(result)->name);
  dims[0] = x->dims[0];
  dims[d.x_channel] = out;
  for (uint32_t i = 0; i < d.spatial; i++) {
    dims[d.x_space + i] =
        window_out(op, i, x->dims[d.x_space + i], w->dims[d.w_space + i], op_ints_at(op, A_CONV_strides, i, 1),
                   op_ints_at(op, A_CONV_pads, i, 0), op_ints_at(op, A_CONV_pads, d.spatial + i, 0),
                   op_ints_at(op, A_CONV_dilations, i, 1), false);
    if (dims[d.x_space + i] == INT64_MIN) return false;
  }
  return infer_set(op, 0, result, x->rank, dims);
}

// stride * (in - 1) + output_padding + (k - 1) * dilation + 1 - pads; -1 after a diagnostic.
static int64_t transposed_out(const Op *op, uint32_t s, uint32_t i, int64_t in, int64_t k) {
  int64_t span, reach;
  if (!infer_known(op, in, "the result shape")) return -1;
  if (!size_mul(in > 0 ? in - 1 : 0, op_ints_at(op, A_CONV_TRANSPOSE_strides, i, 1), &span) || k < 1 ||
      !size_mul(k - 1, op_ints_at(op, A_CONV_TRANSPOSE_dilations, i, 1), &reach)) {
    infer_fail(op, "spatial axis %u grows out of range", i);
    return -1;
  }
  int64_t out = span + reach + 1 + op_ints_at(op, A_CONV_TRANSPOSE_output_padding, i, 0) -
                op_ints_at(op, A_CONV_TRANSPOSE_pads, i, 0) - op_ints_at(op, A_CONV_TRANSPOSE_pads, s + i, 0);
  if (in == 0 || out < 1) {
    infer_fail(op, "on spatial axis %u the result would have extent %lld", i, (long long)out);
    return -1;
  }
  return out;
}

bool infer_conv_transpose(Op *op) {
  if (!check_conv_operands(op)) return false;
  const Type *x = infer_in(op, 0), *w = infer_in(op, 1), *b = infer_in(op, 2);
  ConvDims d = conv_dims(x->rank, op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NHWC, true);
  int64_t dims[MAX_RANK], out;
  DType result = product_type(x->dtype);
  if (!check_window(op, d.spatial, A_CONV_TRANSPOSE_strides, A_CONV_TRANSPOSE_pads, A_CONV_TRANSPOSE_dilations) ||
      !infer_ints(op, A_CONV_TRANSPOSE_output_padding, d.spatial, true, 0, INFER_MAX_STEP) ||
      !check_channels(op, &d, op_int(op, A_CONV_TRANSPOSE_group), true, &out))
    return false;
  if (b && b->dtype != result) return infer_fail(op, "the bias must be %s", dtype_info(result)->name);
  dims[0] = x->dims[0];
  dims[d.x_channel] = out;
  for (uint32_t i = 0; i < d.spatial; i++) {
    dims[d.x_space + i] = transposed_out(op, d.spatial, i, x->dims[d.x_space + i], w->dims[d.w_space + i]);
    if (dims[d.x_space + i] < 0) return false;
  }
  return infer_set(op, 0, result, x->rank, dims);
}

// ---- pooling: the three ops have the same first attributes in their own slots

typedef struct PoolSlots {
  int layout, kernel, strides, pads, dilations, ceil_mode;
} PoolSlots;

static PoolSlots pool_slots(OpKind kind) {
  switch (kind) {
    case OP_MAXPOOL:
      return (PoolSlots){A_MAXPOOL_layout, A_MAXPOOL_kernel,    A_MAXPOOL_strides,
                         A_MAXPOOL_pads,   A_MAXPOOL_dilations, A_MAXPOOL_ceil_mode};
    case OP_AVGPOOL:
      return (PoolSlots){A_AVGPOOL_layout, A_AVGPOOL_kernel,    A_AVGPOOL_strides,
                         A_AVGPOOL_pads,   A_AVGPOOL_dilations, A_AVGPOOL_ceil_mode};
    default:
      return (PoolSlots){A_LPPOOL_layout, A_LPPOOL_kernel,    A_LPPOOL_strides,
                         A_LPPOOL_pads,   A_LPPOOL_dilations, A_LPPOOL_ceil_mode};
  }
}

bool infer_pool(Op *op) {
  if (!infer_rank(op, 0, "the input", 3, 5)) return false;
  const Type *x = infer_in(op, 0);
  PoolSlots a = pool_slots(op->kind);
  uint32_t s = x->rank - 2, first = op_enum(op, a.layout) == LAYOUT_NHWC ? 1 : 2;
  int64_t dims[MAX_RANK];
  if (x->dtype == DT_BOOL) return infer_fail(op, "the input must be a number, it is %s", infer_text(op, x));
  if (!infer_ints(op, a.kernel, s, false, 1, INFER_MAX_STEP) || !check_window(op, s, a.strides, a.pads, a.dilations) ||
      !infer_ints(op, a.pads, 2 * s, true, 0, INFER_MAX_STEP))
    return false;
  if (op->kind == OP_LPPOOL && !infer_is_float(op, 0, "the input")) return false;
  if (op->kind == OP_LPPOOL && op_int(op, A_LPPOOL_p) < 1) return infer_fail(op, "p must be at least 1");
  memcpy(dims, x->dims, sizeof dims);
  for (uint32_t i = 0; i < s; i++) {
    int64_t k = op_ints_at(op, a.kernel, i, 1), d = op_ints_at(op, a.dilations, i, 1), span;
    int64_t begin = op_ints_at(op, a.pads, i, 0), end = op_ints_at(op, a.pads, s + i, 0);
    if (!size_mul(k - 1, d, &span)) return infer_fail(op, "the kernel on spatial axis %u is out of range", i);
    if (begin > span || end > span)
      return infer_fail(op, "padding %lld on spatial axis %u is not smaller than the kernel, which spans %lld",
                        (long long)(begin > end ? begin : end), i, (long long)(span + 1));
    dims[first + i] = window_out(op, i, x->dims[first + i], k, op_ints_at(op, a.strides, i, 1), begin, end, d,
                                 op_bool(op, a.ceil_mode));
    if (dims[first + i] == INT64_MIN) return false;
  }
  return infer_set(op, 0, x->dtype, x->rank, dims) &&
         (op->kind != OP_MAXPOOL || infer_set(op, 1, DT_I64, x->rank, dims));
}

// ---- einsum

static int letter_index(char c) {
  if (c >= 'a' && c <= 'z') return c - 'a';
  return c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -1;
}

// Reads the letters of operand `i` from *s and records their extents.
static bool einsum_operand(const Op *op, uint32_t i, const char **s, int64_t extent[52], bool seen[52]) {
  const Type *t = infer_in(op, i);
  uint32_t n = 0;
  for (; letter_index(**s) >= 0; ++*s, n++) {
    int l = letter_index(**s);
    if (n >= t->rank) return infer_fail(op, "operand %u has rank %u, its term has more letters", i, t->rank);
    if (seen[l] && extent[l] != t->dims[n])
      return infer_fail(op, "letter '%c' stands for extents %s and %s", **s, infer_dim_text(op, extent[l]),
                        infer_dim_text(op, t->dims[n]));
    seen[l] = true;
    extent[l] = t->dims[n];
  }
  return n == t->rank || infer_fail(op, "operand %u has rank %u, its term has %u letters", i, t->rank, n);
}

bool infer_einsum(Op *op) {
  const char *s = op_str(op, A_EINSUM_equation);
  int64_t extent[52], dims[MAX_RANK];
  bool seen[52] = {0}, used[52] = {0};
  for (uint32_t i = 0; i < op->n_in; i++) {
    if (!infer_same_dtype(op, 0, i)) return false;
    if (i > 0 && *s++ != ',') return infer_fail(op, "the equation has %u terms for %u operands", i, op->n_in);
    if (!einsum_operand(op, i, &s, extent, seen)) return false;
  }
  if (strncmp(s, "->", 2) != 0) return infer_fail(op, "expected '->' after %u terms of the equation", op->n_in);
  uint32_t rank = 0;
  for (s += 2; *s; s++) {
    int l = letter_index(*s);
    if (l < 0 || !seen[l] || used[l] || rank == MAX_RANK)
      return infer_fail(op, "the result term of the equation is not valid at '%s'",
                        str_escape(op->func->module->arena, s, 16));
    used[l] = true;
    dims[rank++] = extent[l];
  }
  return infer_set(op, 0, infer_in(op, 0)->dtype, rank, dims);
}
