// Contractions: matmul, conv, conv_transpose, chain, and the magnitudes behind their error bounds.
//
// Operands become flat arrays of doubles (any float operand) or 64-bit integers, spatial ops channels-last, so that
// every inner loop is one row update acc[0..n) += x * w[0..n). Sums are exact for integers (modulo 2^64) and rounded
// once for floats, when the result or the parameter of the post function is stored. Padding contributes nothing.
#include <math.h>
#include <string.h>

#include "ir/eval_impl.h"

static bool any_float(const Op *op, const Tensor *in, uint32_t n) {
  for (uint32_t k = 0; k < n && k < op->n_in; k++)
    if (in[k].data && dtype_is_float(in[k].type->dtype)) return true;
  return false;
}

// acc[at..at+n) += x[xi] * w[wi..wi+n)
static inline void row_add(const Nums *acc, int64_t at, const Nums *x, int64_t xi, const Nums *w, int64_t wi,
                           int64_t n) {
  if (acc->f) {
    double *restrict a = acc->f + at;
    const double *restrict b = w->f + wi;
    double v = x->f[xi];
    for (int64_t k = 0; k < n; k++) a[k] += v * b[k];
  } else {
    int64_t *restrict a = acc->i + at;
    const int64_t *restrict b = w->i + wi;
    uint64_t v = (uint64_t)x->i[xi];
    for (int64_t k = 0; k < n; k++) a[k] = (int64_t)((uint64_t)a[k] + v * (uint64_t)b[k]);
  }
}

// The operand minus its zero point.
static void zero_subtract(const Nums *x, int64_t zero) {
  for (int64_t k = 0; x->i && zero != 0 && k < x->n; k++) x->i[k] -= zero;
}

// acc[k] += bias[offset of k]; `strides` place the bias in the shape of acc.
static void bias_add(const Nums *acc, const Tensor *bias, const Type *shape, const int64_t *strides, Arena *arena) {
  Nums b = nums_as(arena, bias, acc->f != NULL);
  int64_t *offsets = NEW_ARRAY(arena, int64_t, acc->n);
  walk_offsets(shape->rank, shape->dims, strides, 0, acc->n, offsets);
  for (int64_t k = 0; k < acc->n; k++)
    if (acc->f)
      acc->f[k] += b.f[offsets[k]];
    else
      acc->i[k] = (int64_t)((uint64_t)acc->i[k] + (uint64_t)b.i[offsets[k]]);
}

// Rounds the sums to the result type, or to the parameter of the post function and through it.
static void sums_store(const Op *op, const Tensor *in, const Nums *sums, Tensor *out, Arena *arena) {
  Func *post = op_post(op);
  if (!post) {
    nums_store(out, sums);
    return;
  }
  Type raw_type = *out->type;
  raw_type.dtype = post->args[0]->type->dtype;
  Tensor *args = NEW_ARRAY(arena, Tensor, 1 + op_n_post(op));
  args[0] = tensor_new(arena, &raw_type);
  nums_store(&args[0], sums);
  for (uint32_t k = 0; k < op_n_post(op); k++) args[1 + k] = in[op_info(op->kind)->max_in + k];
  eval_body(post, args, out, arena);
}

// ---- convolutions

void axes_to_last(uint32_t rank, uint32_t *perm) {
  perm[0] = 0;
  for (uint32_t k = 2; k < rank; k++) perm[k - 1] = k;
  perm[rank - 1] = 1;
}

void axes_from_last(uint32_t rank, uint32_t *perm) {
  perm[0] = 0;
  perm[1] = rank - 1;
  for (uint32_t k = 2; k < rank; k++) perm[k] = k - 1;
}

Window window_of(const Op *op, WindowSlots slots, const Type *in, const Type *out, bool nhwc, const int64_t *kernel) {
  Window w;
  uint32_t n = in->rank - 2;
  QCC_CHECK(in->rank >= 3 && n <= 3, "%s with %u spatial axes", op_info(op->kind)->name, n);
  for (uint32_t k = 0; k < 3; k++) {
    bool missing = k + n < 3;
    uint32_t a = missing ? 0 : k + n - 3, dim = a + (nhwc ? 1 : 2);
    w.in[k] = missing ? 1 : in->dims[dim];
    w.out[k] = missing ? 1 : out->dims[dim];
    w.kernel[k] = missing ? 1 : kernel[a];
    w.stride[k] = missing ? 1 : op_ints_at(op, slots.strides, a, 1);
    w.dilation[k] = missing ? 1 : op_ints_at(op, slots.dilations, a, 1);
    w.pad[k] = missing ? 0 : op_ints_at(op, slots.pads, a, 0);
    w.pad_end[k] = missing ? 0 : op_ints_at(op, slots.pads, n + a, 0);
  }
  return w;
}

typedef struct ConvArgs {
  Window win;
  Nums x, w;              // channels-last; weights taps x I x O, as they are walked
  int64_t n, ci, co;      // batch, channels in and out
  int64_t group, gi, go;  // channels per group
} ConvArgs;

static Nums to_channels_last(Arena *arena, const Tensor *t, bool is_float) {
  uint32_t perm[MAX_RANK] = {0};
  axes_to_last(t->type->rank, perm);
  return nums_permuted_of(arena, t, is_float, perm);
}

static Nums result_order(Arena *arena, const Nums *acc, const Type *out, bool nhwc) {
  if (nhwc) return *acc;
  uint32_t rank = out->rank, perm[MAX_RANK] = {0}, back[MAX_RANK] = {0};
  int64_t dims[MAX_RANK] = {0};
  axes_to_last(rank, perm);
  axes_from_last(rank, back);
  for (uint32_t k = 0; k < rank; k++) dims[k] = out->dims[perm[k]];
  return nums_permute(arena, acc, rank, dims, back);
}

// Weights of nchw convolutions to spatial-first: conv [O, I, s...] -> [s..., I, O], transposed [I, O, s...] ->
// [s..., I, O].
static Nums weights_spatial_first(Arena *arena, const Tensor *w, bool is_float, bool swap) {
  uint32_t rank = w->type->rank, perm[MAX_RANK] = {0};
  for (uint32_t k = 2; k < rank; k++) perm[k - 2] = k;
  perm[rank - 2] = swap ? 1 : 0;
  perm[rank - 1] = swap ? 0 : 1;
  return nums_permuted_of(arena, w, is_float, perm);
}

static void conv_bias(const Op *op, const Tensor *in, const Nums *sums, const Type *out, bool nhwc, Arena *arena) {
  int64_t strides[MAX_RANK] = {0};
  strides[nhwc ? out->rank - 1 : 1] = 1;
  if (op->n_in > 2 && in[2].data) bias_add(sums, &in[2], out, strides, arena);
}

static void conv_row(const ConvArgs *c, const Nums *acc, int64_t n, int64_t od, int64_t oh) {
  const Window *w = &c->win;
  int64_t row = ((n * w->out[0] + od) * w->out[1] + oh) * w->out[2] * c->co;
  for (int64_t kd = 0; kd < w->kernel[0]; kd++) {
    int64_t id = od * w->stride[0] - w->pad[0] + kd * w->dilation[0];
    if (id < 0 || id >= w->in[0]) continue;
    for (int64_t kh = 0; kh < w->kernel[1]; kh++) {
      int64_t ih = oh * w->stride[1] - w->pad[1] + kh * w->dilation[1];
      if (ih < 0 || ih >= w->in[1]) continue;
      int64_t line = ((n * w->in[0] + id) * w->in[1] + ih) * w->in[2];
      for (int64_t kw = 0; kw < w->kernel[2]; kw++) {
        int64_t tap = (kd * w->kernel[1] + kh) * w->kernel[2] + kw;
        int64_t iw0 = kw * w->dilation[2] - w->pad[2];
        for (int64_t ci = 0; ci < c->ci; ci++) {
          int64_t g = ci / c->gi, wi = (tap * c->gi + ci % c->gi) * c->co + g * c->go;
          for (int64_t ow = 0; ow < w->out[2]; ow++) {
            int64_t iw = iw0 + ow * w->stride[2];
            if (iw < 0 || iw >= w->in[2]) continue;
            row_add(acc, row + ow * c->co + g * c->go, &c->x, (line + iw) * c->ci + ci, &c->w, wi, c->go);
          }
        }
      }
    }
  }
}

Nums conv_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena) {
  bool nhwc = op_enum(op, A_CONV_layout) == LAYOUT_NHWC, is_float = any_float(op, in, 3);
  const Type *x = in[0].type, *w = in[1].type;
  WindowSlots slots = {A_CONV_strides, A_CONV_pads, A_CONV_dilations};
  ConvArgs c = {.win = window_of(op, slots, x, out, nhwc, nhwc ? w->dims : w->dims + 2)};
  c.n = x->dims[0];
  c.ci = x->dims[nhwc ? x->rank - 1 : 1];
  c.co = out->dims[nhwc ? out->rank - 1 : 1];
  c.group = op_int(op, A_CONV_group);
  c.gi = c.ci / c.group;
  c.go = c.co / c.group;
  c.x = nhwc ? nums_as(arena, &in[0], is_float) : to_channels_last(arena, &in[0], is_float);
  c.w = nhwc ? nums_as(arena, &in[1], is_float) : weights_spatial_first(arena, &in[1], is_float, true);
  zero_subtract(&c.x, op_int(op, A_CONV_x_zero));
  Nums acc = nums_new(arena, type_count(out), is_float);
  for (int64_t n = 0; n < c.n; n++)
    for (int64_t od = 0; od < c.win.out[0]; od++)
      for (int64_t oh = 0; oh < c.win.out[1]; oh++) conv_row(&c, &acc, n, od, oh);
  Nums sums = result_order(arena, &acc, out, nhwc);
  conv_bias(op, in, &sums, out, nhwc, arena);
  return sums;
}

EVAL(conv) {
  Nums sums = conv_sums(op, in, out[0].type, arena);
  sums_store(op, in, &sums, &out[0], arena);
  return true;
}

// Every input pixel adds its row of weights to the output pixels of its window.
static void conv_transpose_pixel(const ConvArgs *c, const Nums *acc, int64_t n, const int64_t *at) {
  const Window *w = &c->win;
  int64_t pixel = ((n * w->in[0] + at[0]) * w->in[1] + at[1]) * w->in[2] + at[2];
  for (int64_t kd = 0; kd < w->kernel[0]; kd++) {
    int64_t od = at[0] * w->stride[0] - w->pad[0] + kd * w->dilation[0];
    if (od < 0 || od >= w->out[0]) continue;
    for (int64_t kh = 0; kh < w->kernel[1]; kh++) {
      int64_t oh = at[1] * w->stride[1] - w->pad[1] + kh * w->dilation[1];
      if (oh < 0 || oh >= w->out[1]) continue;
      for (int64_t kw = 0; kw < w->kernel[2]; kw++) {
        int64_t ow = at[2] * w->stride[2] - w->pad[2] + kw * w->dilation[2];
        if (ow < 0 || ow >= w->out[2]) continue;
        int64_t tap = (kd * w->kernel[1] + kh) * w->kernel[2] + kw;
        int64_t to = (((n * w->out[0] + od) * w->out[1] + oh) * w->out[2] + ow) * c->co;
        for (int64_t ci = 0; ci < c->ci; ci++)
          row_add(acc, to + ci / c->gi * c->go, &c->x, pixel * c->ci + ci, &c->w, (tap * c->ci + ci) * c->go, c->go);
      }
    }
  }
}

Nums conv_transpose_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena) {
  bool nhwc = op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NHWC, is_float = any_float(op, in, 3);
  const Type *x = in[0].type, *w = in[1].type;
  WindowSlots slots = {A_CONV_TRANSPOSE_strides, A_CONV_TRANSPOSE_pads, A_CONV_TRANSPOSE_dilations};
  ConvArgs c = {.win = window_of(op, slots, x, out, nhwc, nhwc ? w->dims : w->dims + 2)};
  c.n = x->dims[0];
  c.ci = x->dims[nhwc ? x->rank - 1 : 1];
  c.co = out->dims[nhwc ? out->rank - 1 : 1];
  c.group = op_int(op, A_CONV_TRANSPOSE_group);
  c.gi = c.ci / c.group;
  c.go = c.co / c.group;
  c.x = nhwc ? nums_as(arena, &in[0], is_float) : to_channels_last(arena, &in[0], is_float);
  c.w = nhwc ? nums_as(arena, &in[1], is_float) : weights_spatial_first(arena, &in[1], is_float, false);
  zero_subtract(&c.x, op_int(op, A_CONV_TRANSPOSE_x_zero));
  Nums acc = nums_new(arena, type_count(out), is_float);
  for (int64_t n = 0; n < c.n; n++)
    for (int64_t d = 0; d < c.win.in[0]; d++)
      for (int64_t h = 0; h < c.win.in[1]; h++)
        for (int64_t v = 0; v < c.win.in[2]; v++) conv_transpose_pixel(&c, &acc, n, (int64_t[3]){d, h, v});
  Nums sums = result_order(arena, &acc, out, nhwc);
  conv_bias(op, in, &sums, out, nhwc, arena);
  return sums;
}

EVAL(conv_transpose) {
  Nums sums = conv_transpose_sums(op, in, out[0].type, arena);
  sums_store(op, in, &sums, &out[0], arena);
  return true;
}

// ---- matmul

// An operand as a batch of dense matrices; a vector is one row (left) or one column (right).
typedef struct Matrices {
  Nums v;
  int64_t rows, cols;
  Type batch;
} Matrices;

static Matrices matrices_of(Arena *arena, const Tensor *t, bool is_float, bool trans, bool left) {
  Matrices m = {.batch = *t->type};
  uint32_t rank = t->type->rank, perm[MAX_RANK] = {0};
  if (rank == 1) {
    m.rows = left ? 1 : t->type->dims[0];
    m.cols = left ? t->type->dims[0] : 1;
    m.batch.rank = 0;
    m.v = nums_as(arena, t, is_float);
    return m;
  }
  m.rows = t->type->dims[rank - (trans ? 1 : 2)];
  m.cols = t->type->dims[rank - (trans ? 2 : 1)];
  m.batch.rank = rank - 2;
  for (uint32_t k = 0; k < rank; k++) perm[k] = k;
  perm[rank - 2] = rank - 1;
  perm[rank - 1] = rank - 2;
  m.v = trans ? nums_permuted_of(arena, t, is_float, perm) : nums_as(arena, t, is_float);
  return m;
}

Nums matmul_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena) {
  bool is_float = any_float(op, in, 3);
  Matrices a = matrices_of(arena, &in[0], is_float, op_bool(op, A_MATMUL_trans_a), true);
  Matrices b = matrices_of(arena, &in[1], is_float, op_bool(op, A_MATMUL_trans_b), false);
  zero_subtract(&a.v, op_int(op, A_MATMUL_x_zero));
  int64_t dims[MAX_RANK] = {0}, sa[MAX_RANK] = {0}, sb[MAX_RANK] = {0}, batches = 1;
  uint32_t rank = 0;
  QCC_CHECK(dims_broadcast(a.batch.rank, a.batch.dims, b.batch.rank, b.batch.dims, &rank, dims), "matmul: batch dims");
  broadcast_strides(&a.batch, rank, sa);
  broadcast_strides(&b.batch, rank, sb);
  for (uint32_t k = 0; k < rank; k++) batches *= dims[k];
  int64_t *ia = NEW_ARRAY(arena, int64_t, batches), *ib = NEW_ARRAY(arena, int64_t, batches);
  walk_offsets(rank, dims, sa, 0, batches, ia);
  walk_offsets(rank, dims, sb, 0, batches, ib);
  Nums acc = nums_new(arena, type_count(out), is_float);
  for (int64_t t = 0; t < batches; t++)
    for (int64_t m = 0; m < a.rows; m++)
      for (int64_t k = 0; k < a.cols; k++)
        row_add(&acc, (t * a.rows + m) * b.cols, &a.v, (ia[t] * a.rows + m) * a.cols + k, &b.v,
                (ib[t] * b.rows + k) * b.cols, b.cols);
  int64_t strides[MAX_RANK] = {0};
  if (op->n_in > 2 && in[2].data) {
    broadcast_strides(in[2].type, out->rank, strides);
    bias_add(&acc, &in[2], out, strides, arena);
  }
  return acc;
}

EVAL(matmul) {
  Nums sums = matmul_sums(op, in, out[0].type, arena);
  sums_store(op, in, &sums, &out[0], arena);
  return true;
}

EVAL(chain) {
  Nums sums = chain_sums(op, in, out[0].type, arena);
  sums_store(op, in, &sums, &out[0], arena);
  return true;
}
