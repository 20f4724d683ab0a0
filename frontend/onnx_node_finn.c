// Importers of the QONNX operators that FINN's streamlining leaves in a graph: thresholds, popcount products, integer
// pools, explicit columns of a convolution.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx_node_qonnx.h"

#define THRESHOLDS_MAX (1 << 16)  // per channel
#define KERNEL_MAX 1024

// ---- MultiThreshold

// The channel axis that data_layout or, without one, the rank says.
static bool channel_axis(NodeCtx *c, const Type *x, uint32_t *axis) {
  static const char *const by_rank[] = {"", "", "NC", "NWC", "NCHW"};
  const char *layout = attr_str(c, "data_layout", "");
  if (!*layout && x->rank < 5) layout = by_rank[x->rank];
  const char *at = strchr(layout, 'C');
  *axis = at ? (uint32_t)(at - layout) : 1;
  return *axis < x->rank ||
         node_refuse(c, "data_layout '%s' for an input of rank %u", str_escape(c->scratch, layout, 16), x->rank);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Every row in ascending order: the level counts thresholds, their order does not matter.
static Value *ascending(NodeCtx *c, Value *t, DType dtype) {
  int64_t rows = t->type->dims[0], n = t->type->dims[1];
  double *v = NEW_ARRAY(c->scratch, double, rows *n + 1);
  bool sorted = true;
  for (int64_t i = 0; i < rows * n; i++) {
    v[i] = const_f(c->m, t->constant, i);
    if (isnan(v[i])) {
      node_refuse(c, "threshold %lld is not a number", (long long)i);
      return NULL;
    }
    sorted &= i % n == 0 || v[i - 1] <= v[i];
  }
  if (sorted) return node_cast(c, t, dtype);
  for (int64_t r = 0; r < rows; r++) qsort(v + r * n, (size_t)n, sizeof *v, by_value);
  return node_cast(c, const_bytes(c->m, type_tensor(c->m->types, DT_F64, 2, t->type->dims), v, NULL), dtype);
}

// Moves `axis` to the end, or the last axis to `axis`.
static Value *moved_axis(NodeCtx *c, Value *x, uint32_t axis, bool back) {
  if (!x) return NULL;
  int64_t perm[MAX_RANK];
  uint32_t last = x->type->rank - 1, from = back ? last : axis, to = back ? axis : last;
  for (uint32_t i = 0; i <= last; i++) perm[i] = i;
  for (uint32_t i = axis; i < last; i++) perm[back ? i + 1 : i] = back ? i : i + 1;
  perm[to] = from;
  return node_transpose(c, x, x->type->rank, perm);
}

// out_scale * #{t: x >= t} + out_bias
bool import_multi_threshold(NodeCtx *c) {
  Value *x = c->in[0], *t = c->in[1];
  uint32_t axis;
  attr_ignore(c, "out_dtype");
  double scale = attr_float(c, "out_scale", 1), bias = attr_float(c, "out_bias", 0);
  if (x->type->rank < 2) return node_refuse(c, "the input must have rank 2 or more, it has rank %u", x->type->rank);
  if (t->type->rank != 2)
    return node_refuse(c, "thresholds of rank %u, expected [channels, thresholds]", t->type->rank);
  if (!value_is_const(t)) return node_unsupported(c, "thresholds that are not constant");
  int64_t n = t->type->dims[1];
  if (n < 1 || n > THRESHOLDS_MAX) return node_refuse(c, "%lld thresholds per channel", (long long)n);
  if (!channel_axis(c, x->type, &axis)) return false;
  DType dtype = x->type->dtype, level = n <= 255 ? DT_U8 : n <= 65535 ? DT_U16 : DT_I32;
  t = ascending(c, t, dtype);
  Value *last = moved_axis(c, x, axis, false);
  if (!t || !last) return false;
  Op *op = node_op(c, OP_THRESHOLD, 2, (Value *[]){last, t});
  Value *y = moved_axis(c, node_given(c, op, level, last->type->rank, last->type->dims), axis, true);
  return node_result(c, qonnx_scaled(c, node_cast(c, y, dtype), scale, bias));
}

// ---- XnorPopcountMatMul: matches of {0, 1} vectors, (dot of their +-1 forms + K) / 2

bool import_xnor_popcount(NodeCtx *c) {
  const Type *a = c->in[0]->type;
  if (!a->rank || !node_need_static(c, c->in[0], "the number of terms")) return a->rank != 0;
  Value *y = node_matmul(c, qonnx_scaled(c, c->in[0], 2, -1), qonnx_scaled(c, c->in[1], 2, -1), NULL, false, false);
  y = qonnx_scaled(c, y, 1, (double)a->dims[a->rank - 1]);
  return node_result(c, qonnx_scaled(c, y, 0.5, 0));
}

// ---- pools

static bool channels_first(NodeCtx *c, bool *nhwc) {
  const char *layout = attr_str(c, "data_layout", "NCHW");
  *nhwc = strcmp(layout, "NHWC") == 0;
  if (c->in[0]->type->rank != 4) return node_refuse(c, "the input must have rank 4");
  return *nhwc || strcmp(layout, "NCHW") == 0 ||
         node_refuse(c, "data_layout '%s', expected NCHW or NHWC", str_escape(c->scratch, layout, 16));
}

// Right shift of the window sum that leaves `out` bits of the largest possible sum.
static int64_t pool_shift(int64_t bits, int64_t out, int64_t kernel) {
  double top = (exp2((double)bits) - 1) * (double)(kernel * kernel);
  int width = 0;
  (void)frexp(top, &width);
  return width > out ? width - out : 0;
}

// The window sum from the average, which is exact below 2^22, shifted right.
bool import_quant_avgpool(NodeCtx *c) {
  bool nhwc;
  int64_t k = attr_int(c, "kernel", 1), stride = attr_int(c, "stride", 1);
  int64_t in_bits = attr_int(c, "ibits", 1), out_bits = attr_int(c, "obits", 1);
  attr_ignore(c, "signed");
  if (!channels_first(c, &nhwc)) return false;
  if (k < 1 || k > KERNEL_MAX || stride < 1 || stride > KERNEL_MAX || in_bits < 1 || in_bits > 32 || out_bits < 1 ||
      out_bits > 32)
    return node_refuse(c, "kernel %lld, stride %lld, ibits %lld, obits %lld", (long long)k, (long long)stride,
                       (long long)in_bits, (long long)out_bits);
  int64_t kernel[2] = {k, k}, strides[2] = {stride, stride};
  Op *op = node_op(c, OP_AVGPOOL, 1, c->in);
  op_set_ints(op, A_AVGPOOL_kernel, 2, kernel);
  if (stride != 1) op_set_ints(op, A_AVGPOOL_strides, 2, strides);
  op_set_int(op, A_AVGPOOL_layout, nhwc ? LAYOUT_NHWC : LAYOUT_NCHW);
  Value *sum = qonnx_scaled(c, node_done(c, op), (double)(k * k), 0);
  if (!sum) return false;
  double down = exp2(-(double)pool_shift(in_bits, out_bits, k));
  return node_result(c, node_emit1(c, OP_FLOOR, qonnx_scaled(c, node_emit1(c, OP_ROUND, sum), down, 0)));
}

// ---- Im2Col: [N,H,W,C] to [N,OH,OW,KH*KW*C]

typedef struct Columns {
  int64_t kernel[2], stride[2], dilation[2], pads[4];
} Columns;

static bool columns_read(NodeCtx *c, Columns *w) {
  static const char *const names[] = {"kernel_size", "stride", "dilations", "pad_amount"};
  int64_t *to[] = {w->kernel, w->stride, w->dilation, w->pads};
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t n, want = i == 3 ? 4 : 2;
    const int64_t *v = attr_ints(c, names[i], &n);
    if (!v && i < 2) return node_refuse(c, "attribute %s is missing", names[i]);
    if (v && n != want) return node_refuse(c, "attribute %s has %u numbers, expected %u", names[i], n, want);
    for (uint32_t k = 0; k < want; k++) {
      to[i][k] = v ? v[k] : i == 2;
      if (to[i][k] < (i == 3 ? 0 : 1) || to[i][k] > KERNEL_MAX)
        return node_refuse(c, "attribute %s has %lld", names[i], (long long)to[i][k]);
    }
  }
  return true;
}

static Value *padded(NodeCtx *c, Value *x, const Columns *w, double value) {
  int64_t pads[8] = {0, w->pads[0], w->pads[1], 0, 0, w->pads[2], w->pads[3], 0};
  if (!w->pads[0] && !w->pads[1] && !w->pads[2] && !w->pads[3]) return x;
  Op *op = node_op(c, OP_PAD, 1, &x);
  op_set_ints(op, A_PAD_pads, 8, pads);
  if (value != 0) op_set_float(op, A_PAD_value, value);
  return node_done(c, op);
}

bool import_im2col(NodeCtx *c) {
  Columns w;
  attr_ignore(c, "input_shape");
  attr_ignore(c, "depthwise");
  double fill = (double)attr_int(c, "pad_value", 0);
  if (c->in[0]->type->rank != 4) return node_refuse(c, "the input must be [N,H,W,C]");
  if (!columns_read(c, &w) || !node_need_static(c, c->in[0], "the number of columns")) return false;
  Value *x = padded(c, c->in[0], &w, fill);
  if (!x) return false;
  int64_t steps[4] = {1, w.stride[0], w.stride[1], 1}, counts[4] = {x->type->dims[0], 0, 0, x->type->dims[3]};
  for (uint32_t i = 0; i < 2; i++) {
    int64_t room = x->type->dims[1 + i] - w.dilation[i] * (w.kernel[i] - 1) - 1;
    if (room < 0) return node_refuse(c, "the kernel does not fit spatial axis %u", i);
    counts[1 + i] = room / w.stride[i] + 1;
  }
  int64_t taps = w.kernel[0] * w.kernel[1];
  if (taps > KERNEL_MAX) return node_unsupported(c, "kernels of more than %d taps", KERNEL_MAX);
  Value **part = NEW_ARRAY(c->scratch, Value *, taps);
  for (int64_t i = 0; i < taps; i++) {
    int64_t starts[4] = {0, i / w.kernel[1] * w.dilation[0], i % w.kernel[1] * w.dilation[1], 0};
    part[i] = node_slice(c, x, starts, steps, counts);
  }
  return node_result(c, node_concat(c, (uint32_t)taps, part, 3));
}
