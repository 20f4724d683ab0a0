// Importers of Conv, ConvTranspose and the pools. auto_pad and output_shape become explicit pads here.
#include <string.h>

#include "frontend/onnx_node.h"
#include "frontend/onnx_node_conv.h"

bool window_read(NodeCtx *c, uint32_t spatial, Window *w) {
  uint32_t n[4];
  const int64_t *strides = attr_ints(c, "strides", &n[0]), *dilations = attr_ints(c, "dilations", &n[1]);
  const int64_t *pads = attr_ints(c, "pads", &n[2]), *kernel = attr_ints(c, "kernel_shape", &n[3]);
  if (!attrs_ok(c)) return false;
  const char *auto_pad = attr_str(c, "auto_pad", "NOTSET");
  *w = (Window){.spatial = spatial, .has_kernel = kernel != NULL};
  if ((strides && n[0] != spatial) || (dilations && n[1] != spatial) || (pads && n[2] != 2 * spatial) ||
      (kernel && n[3] != spatial))
    return node_refuse(c, "strides, dilations, pads and kernel_shape do not fit %u spatial axes", spatial);
  for (uint32_t i = 0; i < spatial; i++) {
    w->strides[i] = strides ? strides[i] : 1;
    w->dilations[i] = dilations ? dilations[i] : 1;
    w->kernel[i] = kernel ? kernel[i] : 1;
    if (w->strides[i] < 1 || w->dilations[i] < 1 || w->kernel[i] < 1 || w->strides[i] > INT32_MAX ||
        w->dilations[i] > INT32_MAX || w->kernel[i] > INT32_MAX)
      return node_refuse(c, "strides, dilations and kernel_shape must be positive and below 2^31");
  }
  if (strcmp(auto_pad, "NOTSET") == 0 || auto_pad[0] == 0) {
    w->auto_pad = AUTO_NOTSET;
  } else if (strcmp(auto_pad, "VALID") == 0) {
    w->auto_pad = AUTO_VALID;
  } else if (strcmp(auto_pad, "SAME_UPPER") == 0 || strcmp(auto_pad, "SAME_LOWER") == 0) {
    w->auto_pad = auto_pad[5] == 'U' ? AUTO_SAME_UPPER : AUTO_SAME_LOWER;
  } else {
    return node_refuse(c, "attribute auto_pad is '%s'", auto_pad);
  }
  if (pads && w->auto_pad == AUTO_NOTSET) memcpy(w->pads, pads, 2 * spatial * sizeof *pads);
  return true;
}

bool window_same(NodeCtx *c, Window *w, const int64_t *in) {
  for (uint32_t i = 0; i < w->spatial && w->auto_pad >= AUTO_SAME_UPPER; i++) {
    if (in[i] < 0) return node_need_static(c, c->in[0], "auto_pad");
    int64_t out = (in[i] + w->strides[i] - 1) / w->strides[i];
    int64_t total = (out - 1) * w->strides[i] + (w->kernel[i] - 1) * w->dilations[i] + 1 - in[i];
    if (total < 0) total = 0;
    int64_t begin = w->auto_pad == AUTO_SAME_UPPER ? total / 2 : total - total / 2;
    w->pads[i] = begin;
    w->pads[w->spatial + i] = total - begin;
  }
  return true;
}

static bool all_are(uint32_t n, const int64_t *v, int64_t k) {
  for (uint32_t i = 0; i < n; i++)
    if (v[i] != k) return false;
  return true;
}

void window_set(Op *op, const Window *w, int strides, int pads, int dilations) {
  if (!all_are(w->spatial, w->strides, 1)) op_set_ints(op, strides, w->spatial, w->strides);
  if (!all_are(2 * w->spatial, w->pads, 0)) op_set_ints(op, pads, 2 * w->spatial, w->pads);
  if (!all_are(w->spatial, w->dilations, 1)) op_set_ints(op, dilations, w->spatial, w->dilations);
}

// ---- convolutions

static bool conv_ranks(NodeCtx *c, const Type *x, const Type *w) {
  if (x->rank < 3 || x->rank > 5)
    return node_unsupported(c, "an input of rank %u; convolutions have 1 to 3 spatial axes", x->rank);
  if (w->rank != x->rank) return node_refuse(c, "weights of rank %u for an input of rank %u", w->rank, x->rank);
  return true;
}

// The kernel is the weights' extent; kernel_shape only repeats it.
static bool conv_kernel(NodeCtx *c, Window *win, const Type *w) {
  for (uint32_t i = 0; i < win->spatial; i++) {
    int64_t k = w->dims[2 + i];
    if (win->has_kernel && win->kernel[i] != k)
      return node_refuse(c, "kernel_shape[%u] is %lld, the weights have %lld", i, (long long)win->kernel[i],
                         (long long)k);
    if (k < 1 || k > INT32_MAX) return node_refuse(c, "the weights have extent %lld on axis %u", (long long)k, 2 + i);
    win->kernel[i] = k;
  }
  return true;
}

Value *node_conv(NodeCtx *c, Value *x, Value *w, Value *bias) {
  Window win;
  if (!x || !w || !conv_ranks(c, x->type, w->type) || !window_read(c, x->type->rank - 2, &win) ||
      !conv_kernel(c, &win, w->type) || !window_same(c, &win, x->type->dims + 2))
    return NULL;
  Op *op = node_op(c, OP_CONV, bias ? 3 : 2, (Value *[]){x, w, bias});
  window_set(op, &win, A_CONV_strides, A_CONV_pads, A_CONV_dilations);
  op_set_int(op, A_CONV_group, attr_int(c, "group", 1));
  return node_done(c, op);
}

bool import_conv(NodeCtx *c) { return node_result(c, node_conv(c, c->in[0], c->in[1], node_in(c, 2))); }

// Pads (and output padding for a negative total) that give `shape`, or strides times the input for SAME.
static bool transpose_pads(NodeCtx *c, Window *w, const Type *x, int64_t *extra, const int64_t *shape) {
  for (uint32_t i = 0; i < w->spatial; i++) {
    if (!shape && w->auto_pad < AUTO_SAME_UPPER) break;
    int64_t in = x->dims[2 + i], natural, want, reach;
    if (in < 0) return node_need_static(c, c->in[0], "the pads");
    if (in < 1 || !size_mul(in - 1, w->strides[i], &natural) || !size_mul(w->kernel[i] - 1, w->dilations[i], &reach) ||
        !size_mul(in, w->strides[i], &want))
      return node_refuse(c, "spatial axis %u is out of range", i);
    if (shape) want = shape[i];
    if (want < 1 || want > MAX_ELEMS) return node_refuse(c, "output_shape[%u] is %lld", i, (long long)want);
    int64_t total = natural + reach + 1 + extra[i] - want;
    if (total < 0) {
      extra[i] -= total;
      total = 0;
    }
    int64_t begin = w->auto_pad == AUTO_SAME_UPPER ? total / 2 : total - total / 2;
    w->pads[i] = begin;
    w->pads[w->spatial + i] = total - begin;
  }
  return true;
}

bool import_conv_transpose(NodeCtx *c) {
  const Type *x = c->in[0]->type, *w = c->in[1]->type;
  Window win;
  uint32_t n_shape, n_extra;
  if (!conv_ranks(c, x, w) || !window_read(c, x->rank - 2, &win) || !conv_kernel(c, &win, w)) return false;
  const int64_t *shape = attr_ints(c, "output_shape", &n_shape), *given = attr_ints(c, "output_padding", &n_extra);
  if (shape && n_shape == x->rank) shape += 2, n_shape -= 2;
  if ((shape && n_shape != win.spatial) || (given && n_extra != win.spatial))
    return node_refuse(c, "output_shape and output_padding do not fit %u spatial axes", win.spatial);
  int64_t extra[MAX_RANK] = {0};
  for (uint32_t i = 0; given && i < win.spatial; i++) {
    extra[i] = given[i];
    if (extra[i] < 0 || extra[i] > INT32_MAX) return node_refuse(c, "output_padding[%u] is out of range", i);
  }
  if (!transpose_pads(c, &win, x, extra, shape)) return false;
  Op *op = node_op(c, OP_CONV_TRANSPOSE, c->n_in, c->in);
  window_set(op, &win, A_CONV_TRANSPOSE_strides, A_CONV_TRANSPOSE_pads, A_CONV_TRANSPOSE_dilations);
  if (!all_are(win.spatial, extra, 0)) op_set_ints(op, A_CONV_TRANSPOSE_output_padding, win.spatial, extra);
  op_set_int(op, A_CONV_TRANSPOSE_group, attr_int(c, "group", 1));
  return node_result(c, node_done(c, op));
}

// ---- pools

static bool pool_window(NodeCtx *c, Window *w) {
  const Type *x = c->in[0]->type;
  if (x->rank < 3 || x->rank > 5)
    return node_unsupported(c, "an input of rank %u; pools have 1 to 3 spatial axes", x->rank);
  if (!window_read(c, x->rank - 2, w)) return false;
  if (!w->has_kernel) return node_refuse(c, "attribute kernel_shape is missing");
  return window_same(c, w, x->dims + 2);
}

bool import_maxpool(NodeCtx *c) {
  Window w;
  if (!pool_window(c, &w)) return false;
  Op *op = node_op(c, OP_MAXPOOL, 1, c->in);
  window_set(op, &w, A_MAXPOOL_strides, A_MAXPOOL_pads, A_MAXPOOL_dilations);
  op_set_ints(op, A_MAXPOOL_kernel, w.spatial, w.kernel);
  op_set_int(op, A_MAXPOOL_ceil_mode, attr_int(c, "ceil_mode", 0) != 0);
  op_set_int(op, A_MAXPOOL_column_major, attr_int(c, "storage_order", 0) != 0);
  Value *results[2];
  if (!node_done_all(c, op, results)) return false;
  for (uint32_t i = 0; i < c->n_out; i++) c->out[i] = results[i];
  return true;
}

bool import_avgpool(NodeCtx *c) {
  Window w;
  if (!pool_window(c, &w)) return false;
  Op *op = node_op(c, OP_AVGPOOL, 1, c->in);
  window_set(op, &w, A_AVGPOOL_strides, A_AVGPOOL_pads, A_AVGPOOL_dilations);
  op_set_ints(op, A_AVGPOOL_kernel, w.spatial, w.kernel);
  op_set_int(op, A_AVGPOOL_ceil_mode, attr_int(c, "ceil_mode", 0) != 0);
  op_set_int(op, A_AVGPOOL_count_include_pad, attr_int(c, "count_include_pad", 0) != 0);
  return node_result(c, node_done(c, op));
}

// p was a float in opset 1.
static int64_t pool_p(NodeCtx *c) { return c->opset < 2 ? (int64_t)attr_float(c, "p", 2) : attr_int(c, "p", 2); }

bool import_lppool(NodeCtx *c) {
  Window w;
  if (!pool_window(c, &w)) return false;
  Op *op = node_op(c, OP_LPPOOL, 1, c->in);
  window_set(op, &w, A_LPPOOL_strides, A_LPPOOL_pads, A_LPPOOL_dilations);
  op_set_ints(op, A_LPPOOL_kernel, w.spatial, w.kernel);
  op_set_int(op, A_LPPOOL_ceil_mode, attr_int(c, "ceil_mode", 0) != 0);
  op_set_int(op, A_LPPOOL_p, pool_p(c));
  return node_result(c, node_done(c, op));
}

static Value *reduce_spatial(NodeCtx *c, Value *x, EnumValue kind) {
  int64_t axes[MAX_RANK];
  if (!x) return NULL;
  if (x->type->rank < 2) {
    node_refuse(c, "the input must have rank 2 or more, it has rank %u", x->type->rank);
    return NULL;
  }
  for (uint32_t i = 2; i < x->type->rank; i++) axes[i - 2] = i;
  return node_reduce(c, x, kind, x->type->rank - 2, axes, true);
}

bool import_global_avgpool(NodeCtx *c) { return node_result(c, reduce_spatial(c, c->in[0], REDUCE_MEAN)); }
bool import_global_maxpool(NodeCtx *c) { return node_result(c, reduce_spatial(c, c->in[0], REDUCE_MAX)); }

bool import_global_lppool(NodeCtx *c) {
  int64_t p = pool_p(c);
  if (p == 1 || p == 2) return node_result(c, reduce_spatial(c, c->in[0], p == 1 ? REDUCE_L1 : REDUCE_L2));
  if (p < 1) return node_refuse(c, "attribute p is %lld", (long long)p);
  DType t = c->in[0]->type->dtype;
  Value *power = node_emit2(c, OP_POW, node_emit1(c, OP_ABS, c->in[0]), node_scalar(c, t, (double)p));
  Value *sum = reduce_spatial(c, power, REDUCE_SUM);
  return node_result(c, node_emit2(c, OP_POW, sum, node_scalar(c, t, 1.0 / (double)p)));
}

// ---- columns to image: a transposed convolution whose weights put every element at its place

static Value *place_weights(NodeCtx *c, int64_t channels, uint32_t n, const int64_t *block, DType t) {
  int64_t dims[MAX_RANK] = {0, 1}, area = 1, count;
  for (uint32_t i = 0; i < n; i++) {
    area *= block[i];
    dims[2 + i] = block[i];
  }
  dims[0] = channels * area;
  if (!dims_count(n + 2, dims, &count) || count > c->opt->fold_bytes / 8) {
    diag_error(c->m->diag, DIAG_LIMIT, c->loc, "blocks of %lld elements are too large", (long long)area);
    return NULL;
  }
  float *data = NEW_ARRAY(c->m->arena, float, count + 1);
  for (int64_t i = 0; i < dims[0]; i++) data[i * area + i % area] = 1;
  return node_cast(c, const_borrowed(c->m, type_tensor(c->m->types, DT_F32, n + 2, dims), data, NULL), t);
}

bool import_col2im(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  const int64_t *image, *block;
  uint32_t n, n_block;
  Window w;
  if (!node_const_ints(c, 1, &image, &n) || !node_const_ints(c, 2, &block, &n_block) ||
      !node_need_static(c, c->in[0], "the image"))
    return false;
  if (n != n_block || n < 1 || n > 3) return node_unsupported(c, "%u image axes with %u block axes", n, n_block);
  if (x->rank != 3 || !window_read(c, n, &w)) return node_refuse(c, "the input must have rank 3");
  int64_t grid[MAX_RANK] = {x->dims[0], x->dims[1]}, extra[MAX_RANK], area = 1, cells = 1;
  for (uint32_t i = 0; i < n; i++) {
    if (block[i] < 1 || block[i] > 1 << 20 || image[i] < 1 || image[i] > 1 << 20 || !size_mul(area, block[i], &area))
      return node_refuse(c, "extents out of range on image axis %u", i);
    int64_t room = image[i] + w.pads[i] + w.pads[n + i] - (block[i] - 1) * w.dilations[i] - 1;
    if (room < 0) return node_refuse(c, "the block does not fit image axis %u", i);
    grid[2 + i] = room / w.strides[i] + 1;
    extra[i] = room % w.strides[i];
    cells *= grid[2 + i];
  }
  if (cells != x->dims[2] || x->dims[1] % area != 0)
    return node_refuse(c, "%lld columns of %lld, expected %lld of a multiple of %lld", (long long)x->dims[2],
                       (long long)x->dims[1], (long long)cells, (long long)area);
  Value *columns = node_reshape(c, c->in[0], n + 2, grid);
  Value *weights = place_weights(c, x->dims[1] / area, n, block, x->dtype);
  if (!columns || !weights) return false;
  Op *op = node_op(c, OP_CONV_TRANSPOSE, 2, (Value *[]){columns, weights});
  window_set(op, &w, A_CONV_TRANSPOSE_strides, A_CONV_TRANSPOSE_pads, A_CONV_TRANSPOSE_dilations);
  op_set_ints(op, A_CONV_TRANSPOSE_output_padding, n, extra);
  op_set_int(op, A_CONV_TRANSPOSE_group, x->dims[1] / area);
  return node_result(c, node_done(c, op));
}
