// Generators of contractions, pooling, normalisations, resizing and recurrent ops. See gen.h.
#include "tests/fuzz/gen.h"

#include <math.h>
#include <string.h>

#define FLOATS "fhd"

// A value of rank 3..5 for a windowed op.
static Value *image(Gen *g, const char *classes) {
  Value *x = gen_pick(g, classes, 3, 5);
  if (x && rnd_p(g, 90)) return x;
  int64_t dims[5] = {rnd_in(g, 1, 2), gen_extent(g), rnd_in(g, 1, 12), rnd_in(g, 1, 12), rnd_in(g, 1, 6)};
  uint32_t rank = (uint32_t)rnd_in(g, 3, rnd_p(g, 70) ? 4 : 5);
  char first = g->policy->dtypes[0];
  DType t = first == 'h'                                    ? DT_F16
            : first == 'd'                                  ? DT_F64
            : first == 'i' && gen_dtype_in(DT_I32, classes) ? DT_I32
                                                            : DT_F32;
  return gen_arg(g, gen_type(g, t, rank, dims));
}

typedef struct Window {
  uint32_t n;
  int64_t kernel[3], strides[3], dilations[3], pads[6];
} Window;

static Window random_window(Gen *g, uint32_t n, bool pool) {
  Window w = {.n = n};
  bool plain = rnd_p(g, 30);
  for (uint32_t i = 0; i < n; i++) {
    w.kernel[i] = rnd_p(g, 20) ? 1 : rnd_in(g, 1, n == 3 ? 3 : 5);
    w.strides[i] = plain || rnd_p(g, 50) ? 1 : rnd_in(g, 1, 4);
    w.dilations[i] = plain || rnd_p(g, 70) ? 1 : rnd_in(g, 1, 3);
    int64_t most = (w.kernel[i] - 1) * w.dilations[i];
    if (!pool && rnd_p(g, 10)) most += 2;
    w.pads[i] = rnd_p(g, 30) ? 0 : rnd_in(g, !pool && rnd_p(g, 4) ? -1 : 0, most);
    w.pads[n + i] = rnd_p(g, 30) ? 0 : rnd_in(g, 0, most);
    if (rnd_p(g, 40)) w.pads[i] = w.pads[n + i] = most / 2;
  }
  return w;
}

static void set_window(Op *op, const Window *w, int strides, int pads, int dilations) {
  op_set_ints(op, strides, w->n, w->strides);
  op_set_ints(op, pads, 2 * w->n, w->pads);
  op_set_ints(op, dilations, w->n, w->dilations);
}

static DType acc_type(DType t) { return t == DT_I8 || t == DT_U8 ? DT_I32 : t; }

static bool conv_of(Gen *g, bool depthwise) {
  Value *in[3], *x = image(g, "ffhdilbu");
  const Type *t = x->type;
  bool nhwc = rnd_p(g, 12);
  uint32_t s = t->rank - 2;
  int64_t c = t->dims[nhwc ? t->rank - 1 : 1], group = 1, dims[5];
  if (c == 0) return false;
  if (depthwise)
    group = c;
  else if (rnd_p(g, 25))
    for (group = rnd_in(g, 1, c); c % group;) group--;
  int64_t out = group * (depthwise && rnd_p(g, 70) ? 1 : rnd_in(g, 1, 1 + (int64_t)g->policy->extent / group));
  Window w = random_window(g, s, false);
  if (nhwc) {
    for (uint32_t i = 0; i < s; i++) dims[i] = w.kernel[i];
    dims[s] = c / group;
    dims[s + 1] = out;
  } else {
    dims[0] = out;
    dims[1] = c / group;
    for (uint32_t i = 0; i < s; i++) dims[2 + i] = w.kernel[i];
  }
  in[0] = x;
  in[1] = gen_weights(g, x, gen_type(g, t->dtype, t->rank, dims));
  uint32_t n = rnd_p(g, 60) ? 3 : 2;
  if (n == 3) in[2] = gen_leaf(g, gen_type(g, acc_type(t->dtype), 1, &out));
  Op *op = gen_op(g, OP_CONV, n, in);
  if (nhwc) op_set_int(op, A_CONV_layout, LAYOUT_NHWC);
  set_window(op, &w, A_CONV_strides, A_CONV_pads, A_CONV_dilations);
  op_set_int(op, A_CONV_group, group);
  return gen_done(g, op);
}

static bool make_conv(Gen *g) { return conv_of(g, false); }
static bool make_depthwise(Gen *g) { return conv_of(g, true); }

static bool make_conv_transpose(Gen *g) {
  Value *in[3], *x = image(g, "ffhd");
  const Type *t = x->type;
  bool nhwc = rnd_p(g, 12);
  uint32_t s = t->rank - 2;
  int64_t c = t->dims[nhwc ? t->rank - 1 : 1], group = 1, dims[5], extra[3];
  if (c == 0) return false;
  if (rnd_p(g, 30))
    for (group = rnd_in(g, 1, c); c % group;) group--;
  int64_t out = rnd_in(g, 1, 6), all = out * group;
  Window w = random_window(g, s, false);
  for (uint32_t i = 0; i < s; i++) {
    dims[nhwc ? i : 2 + i] = w.kernel[i];
    extra[i] = rnd_p(g, 80) ? 0 : rnd_in(g, 0, w.strides[i] - 1);
  }
  dims[nhwc ? s : 0] = c;
  dims[nhwc ? s + 1 : 1] = out;
  in[0] = x;
  in[1] = gen_leaf(g, gen_type(g, t->dtype, t->rank, dims));
  uint32_t n = rnd_p(g, 60) ? 3 : 2;
  if (n == 3) in[2] = gen_leaf(g, gen_type(g, t->dtype, 1, &all));
  Op *op = gen_op(g, OP_CONV_TRANSPOSE, n, in);
  if (nhwc) op_set_int(op, A_CONV_TRANSPOSE_layout, LAYOUT_NHWC);
  set_window(op, &w, A_CONV_TRANSPOSE_strides, A_CONV_TRANSPOSE_pads, A_CONV_TRANSPOSE_dilations);
  op_set_ints(op, A_CONV_TRANSPOSE_output_padding, s, extra);
  op_set_int(op, A_CONV_TRANSPOSE_group, group);
  return gen_done(g, op);
}

static bool make_matmul(Gen *g) {
  Value *in[3], *x = gen_need(g, "fffhdilbu", 1, 5);
  const Type *t = x->type;
  uint32_t rx = t->rank, ry = (uint32_t)rnd_in(g, 1, 2), r = 0;
  bool left = rnd_p(g, 70), tx = rx > 1 && rnd_p(g, 30), ty = false;
  int64_t k = rx == 1 ? t->dims[0] : t->dims[rx - 1 - (left ? tx : !tx)], n = gen_extent(g), dims[MAX_RANK];
  if (rx > 2 && rnd_p(g, 50)) ry = (uint32_t)rnd_in(g, 2, rx);
  for (uint32_t i = 2; i < ry; i++) {
    int64_t d = rx >= 2 + ry - i ? t->dims[rx - 2 - (ry - i)] : 1;
    dims[r++] = rnd_p(g, 70) ? d : 1;
  }
  if (ry >= 2) {
    ty = rnd_p(g, 30);
    dims[r++] = (left ? ty : !ty) ? n : k;
    dims[r++] = (left ? ty : !ty) ? k : n;
  } else {
    dims[r++] = k;
  }
  Value *y = gen_pick(g, "", ry, ry);
  const Type *want = gen_type(g, t->dtype, r, dims);
  if (!y || y->type != want) y = gen_weights(g, x, want);
  in[0] = left ? x : y;
  in[1] = left ? y : x;
  Op *op = gen_op(g, OP_MATMUL, 2, in);
  op_set_int(op, A_MATMUL_trans_a, left ? tx : ty);
  op_set_int(op, A_MATMUL_trans_b, left ? ty : tx);
  return gen_done(g, op);
}

// matmul with a bias of the shapes that broadcast to the result.
static bool make_linear(Gen *g) {
  Value *x = gen_need(g, "ffhd", 1, 4);
  const Type *t = x->type;
  int64_t k = t->dims[t->rank - 1], n = gen_extent(g), w[2] = {k, n}, b[2] = {1, n};
  bool tb = rnd_p(g, 40);
  if (tb) w[0] = n, w[1] = k;
  uint32_t rb = (uint32_t)rnd_in(g, 0, t->rank > 1 ? 2 : 1);
  if (rnd_p(g, 20)) b[1] = 1;
  Value *in[3] = {x, gen_weights(g, x, gen_type(g, t->dtype, 2, w)),
                  gen_leaf(g, gen_type(g, t->dtype, rb, b + 2 - rb))};
  Op *op = gen_op(g, OP_MATMUL, 3, in);
  op_set_int(op, A_MATMUL_trans_b, tb);
  return gen_done(g, op);
}

// Letters by chance: every letter has one extent.
static bool make_einsum(Gen *g) {
  Value *in[3], *x = gen_need(g, "ffhdi", 1, 3);
  char text[40], *p = text, letters[8];
  int64_t extents[8];
  uint32_t used = x->type->rank, n = (uint32_t)rnd_in(g, 1, 3);
  for (uint32_t i = 0; i < used; i++) {
    letters[i] = *p++ = (char)('a' + i);
    extents[i] = x->type->dims[i];
  }
  in[0] = x;
  for (uint32_t o = 1; o < n; o++) {
    int64_t dims[3];
    uint32_t r = (uint32_t)rnd_in(g, 1, 3);
    *p++ = ',';
    for (uint32_t i = 0; i < r; i++) {
      uint32_t l = (uint32_t)rnd_in(g, 0, used);
      if (l == used && used < 6) {
        letters[used] = (char)('a' + used);
        extents[used++] = rnd_in(g, 1, 5);
      }
      if (l >= used) l = used - 1;
      *p++ = letters[l];
      dims[i] = extents[l];
    }
    in[o] = gen_leaf(g, gen_type(g, x->type->dtype, r, dims));
  }
  *p++ = '-';
  *p++ = '>';
  for (uint32_t i = used; i-- > 0;)
    if (rnd_p(g, 60)) *p++ = letters[i];
  *p = 0;
  Op *op = gen_op(g, OP_EINSUM, n, in);
  op_set_str(op, A_EINSUM_equation, text);
  return gen_done(g, op);
}

// ---- pooling

static bool make_pool(Gen *g) {
  static const OpKind kinds[] = {OP_MAXPOOL, OP_AVGPOOL, OP_LPPOOL};
  OpKind k = kinds[rnd(g) % 3];
  Value *x = image(g, k == OP_MAXPOOL ? "fhdilbu" : FLOATS);
  Window w = random_window(g, x->type->rank - 2, true);
  Op *op = gen_op(g, k, 1, &x);
  bool nhwc = rnd_p(g, 15), ceil_mode = rnd_p(g, 30);
  if (k == OP_MAXPOOL) {
    if (nhwc) op_set_int(op, A_MAXPOOL_layout, LAYOUT_NHWC);
    op_set_ints(op, A_MAXPOOL_kernel, w.n, w.kernel);
    set_window(op, &w, A_MAXPOOL_strides, A_MAXPOOL_pads, A_MAXPOOL_dilations);
    op_set_int(op, A_MAXPOOL_ceil_mode, ceil_mode);
    op_set_int(op, A_MAXPOOL_column_major, rnd_p(g, 20));
  } else if (k == OP_AVGPOOL) {
    if (nhwc) op_set_int(op, A_AVGPOOL_layout, LAYOUT_NHWC);
    op_set_ints(op, A_AVGPOOL_kernel, w.n, w.kernel);
    set_window(op, &w, A_AVGPOOL_strides, A_AVGPOOL_pads, A_AVGPOOL_dilations);
    op_set_int(op, A_AVGPOOL_ceil_mode, ceil_mode);
    op_set_int(op, A_AVGPOOL_count_include_pad, rnd_p(g, 50));
  } else {
    if (nhwc) op_set_int(op, A_LPPOOL_layout, LAYOUT_NHWC);
    op_set_ints(op, A_LPPOOL_kernel, w.n, w.kernel);
    set_window(op, &w, A_LPPOOL_strides, A_LPPOOL_pads, A_LPPOOL_dilations);
    op_set_int(op, A_LPPOOL_ceil_mode, ceil_mode);
    op_set_int(op, A_LPPOOL_p, rnd_in(g, 1, 3));
  }
  return gen_done(g, op);
}

// ---- normalisations

static Value *channel_leaf(Gen *g, DType t, int64_t c) { return gen_leaf(g, gen_type(g, t, 1, &c)); }

static Value *variance(Gen *g, DType t, int64_t c) {
  const Type *type = gen_type(g, t, 1, &c);
  return const_splat(g->m, type, (double)rnd_in(g, 1, 8) / 4);
}

static bool make_batchnorm(Gen *g) {
  Value *x = gen_need(g, FLOATS, 1, 5);
  uint32_t axis = x->type->rank > 1 && rnd_p(g, 85) ? 1 : (uint32_t)rnd_in(g, 0, x->type->rank - 1);
  DType t = x->type->dtype, p = t == DT_F16 && rnd_p(g, 50) ? DT_F32 : t;
  int64_t c = x->type->dims[axis];
  Value *in[5] = {x, channel_leaf(g, p, c), channel_leaf(g, p, c), channel_leaf(g, p, c), variance(g, p, c)};
  Op *op = gen_op(g, OP_BATCHNORM, 5, in);
  op_set_int(op, A_BATCHNORM_axis, axis);
  op_set_float(op, A_BATCHNORM_epsilon, 0x1p-7);
  return gen_done(g, op);
}

static bool make_instance_norm(Gen *g) {
  Value *x = gen_need(g, FLOATS, 3, 5);
  uint32_t axis = rnd_p(g, 85) ? 1 : x->type->rank - 1;
  int64_t c = x->type->dims[axis];
  Value *in[3] = {x, channel_leaf(g, x->type->dtype, c), channel_leaf(g, x->type->dtype, c)};
  Op *op = gen_op(g, OP_INSTANCE_NORM, 3, in);
  op_set_int(op, A_INSTANCE_NORM_axis, axis);
  op_set_float(op, A_INSTANCE_NORM_epsilon, rnd_p(g, 50) ? 0x1p-7 : 0x1p-17);
  return gen_done(g, op);
}

static bool make_group_norm(Gen *g) {
  Value *x = gen_need(g, FLOATS, 2, 5);
  uint32_t axis = rnd_p(g, 85) ? 1 : x->type->rank - 1;
  int64_t c = x->type->dims[axis], groups = c ? rnd_in(g, 1, c) : 1;
  while (c % groups) groups--;
  Value *in[3] = {x, channel_leaf(g, x->type->dtype, c), channel_leaf(g, x->type->dtype, c)};
  Op *op = gen_op(g, OP_GROUP_NORM, 3, in);
  op_set_int(op, A_GROUP_NORM_axis, axis);
  op_set_int(op, A_GROUP_NORM_groups, groups);
  op_set_float(op, A_GROUP_NORM_epsilon, rnd_p(g, 50) ? 0x1p-7 : 0x1p-17);
  return gen_done(g, op);
}

static bool make_layer_norm(Gen *g) {
  Value *x = gen_need(g, FLOATS, 1, 5), *in[3] = {x, NULL, NULL};
  uint32_t r = x->type->rank, axis = (uint32_t)rnd_in(g, 0, r - 1), n = (uint32_t)rnd_in(g, 1, 3);
  bool rms = rnd_p(g, 30);
  if (rms) n = 2;
  for (uint32_t i = 1; i < n; i++) in[i] = gen_leaf(g, gen_type(g, x->type->dtype, r - axis, x->type->dims + axis));
  Op *op = gen_op(g, rms ? OP_RMS_NORM : OP_LAYER_NORM, n, in);
  int64_t a = rnd_p(g, 50) ? (int64_t)axis - r : axis;
  op_set_int(op, rms ? (int)A_RMS_NORM_axis : (int)A_LAYER_NORM_axis, a);
  op_set_float(op, rms ? (int)A_RMS_NORM_epsilon : (int)A_LAYER_NORM_epsilon, rnd_p(g, 50) ? 0x1p-7 : 0x1p-17);
  return gen_done(g, op);
}

static bool make_lp_norm(Gen *g) {
  Value *x = gen_need(g, FLOATS, 1, 5);
  Op *op = gen_op(g, OP_LP_NORM, 1, &x);
  op_set_int(op, A_LP_NORM_axis, rnd_in(g, -(int64_t)x->type->rank, x->type->rank - 1));
  op_set_int(op, A_LP_NORM_p, rnd_in(g, 1, 2));
  return gen_done(g, op);
}

static bool make_lrn(Gen *g) {
  Value *x = gen_need(g, FLOATS, 2, 5);
  Op *op = gen_op(g, OP_LRN, 1, &x);
  op_set_int(op, A_LRN_axis, rnd_p(g, 85) ? 1 : x->type->rank - 1);
  op_set_int(op, A_LRN_size, rnd_in(g, 1, 6));
  op_set_float(op, A_LRN_alpha, rnd_p(g, 50) ? 0.5 : 0x1p-13);
  if (rnd_p(g, 50)) op_set_float(op, A_LRN_beta, rnd_p(g, 50) ? 0.5 : 1.25);
  return gen_done(g, op);
}

static bool make_softmax(Gen *g) {
  Value *x = gen_need(g, FLOATS, 1, 5);
  bool logarithm = rnd_p(g, 30);
  Op *op = gen_op(g, logarithm ? OP_LOG_SOFTMAX : OP_SOFTMAX, 1, &x);
  op_set_int(op, logarithm ? (int)A_LOG_SOFTMAX_axis : (int)A_SOFTMAX_axis,
             rnd_p(g, 40) ? -1 : rnd_in(g, -(int64_t)x->type->rank, x->type->rank - 1));
  return gen_done(g, op);
}

// ---- resize

static bool make_resize(Gen *g) {
  static const EnumValue modes[] = {RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC};
  static const EnumValue coords[] = {COORD_HALF_PIXEL,        COORD_HALF_PIXEL_SYMMETRIC, COORD_PYTORCH_HALF_PIXEL,
                                     COORD_ALIGN_CORNERS,     COORD_ASYMMETRIC,           COORD_TF_HALF_PIXEL_FOR_NN,
                                     COORD_TF_CROP_AND_RESIZE};
  static const EnumValue nearests[] = {NEAREST_ROUND_PREFER_FLOOR, NEAREST_ROUND_PREFER_CEIL, NEAREST_FLOOR,
                                       NEAREST_CEIL};
  Value *x = gen_need(g, "ffhdu", 1, 5);
  uint32_t r = x->type->rank, sized = 0;
  int64_t dims[MAX_RANK];
  double scales[MAX_RANK], roi[2 * MAX_RANK];
  for (uint32_t i = 0; i < r; i++) {
    int64_t n = x->type->dims[i];
    scales[i] = 1;
    dims[i] = n;
    roi[i] = rnd_p(g, 70) ? 0 : rnd_f(g, -0.2, 0.4);
    roi[r + i] = rnd_p(g, 70) ? 1 : rnd_f(g, 0.6, 1.2);
    if (n == 0 || (r > 2 && i < 2 && rnd_p(g, 80)) || sized == 3 || rnd_p(g, 20)) {
      roi[i] = 0;
      roi[r + i] = 1;
      continue;
    }
    sized++;
    if (rnd_p(g, 50)) {
      dims[i] = rnd_in(g, 1, 2 * n + 1);
      scales[i] = (double)dims[i] / (double)n;
    } else {
      static const double factors[] = {2, 0.5, 3, 1.5, 0.75, 1.3, 4, 0.6};
      scales[i] = (double)(float)factors[rnd(g) % 8];
      dims[i] = (int64_t)floor((double)n * scales[i]);
    }
    if (dims[i] < 1) return false;
  }
  Op *op = gen_op(g, OP_RESIZE, 1, &x);
  EnumValue mode = dtype_is_float(x->type->dtype) ? modes[rnd(g) % 3] : RESIZE_NEAREST, coord = coords[rnd(g) % 7];
  op_set_int(op, A_RESIZE_mode, mode);
  op_set_int(op, A_RESIZE_coord, coord);
  op_set_int(op, A_RESIZE_nearest, nearests[rnd(g) % 4]);
  op_set_floats(op, A_RESIZE_scales, r, scales);
  if (coord == COORD_TF_CROP_AND_RESIZE) {
    op_set_floats(op, A_RESIZE_roi, 2 * r, roi);
    op_set_float(op, A_RESIZE_extrapolation, (double)rnd_in(g, -1, 2));
  } else if (mode != RESIZE_NEAREST) {
    op_set_int(op, A_RESIZE_antialias, rnd_p(g, 25));
  }
  if (mode == RESIZE_CUBIC) {
    if (rnd_p(g, 40)) op_set_float(op, A_RESIZE_cubic_a, -0.5);
    op_set_int(op, A_RESIZE_exclude_outside, rnd_p(g, 30));
  }
  gen_result(g, op, x->type->dtype, r, dims);
  return gen_done(g, op);
}

// ---- recurrent

static const char *activations(Gen *g, uint32_t n) {
  static const char *const names[] = {
      "Relu",       "Tanh",        "Sigmoid", "Affine",   "LeakyRelu", "ThresholdedRelu",
      "ScaledTanh", "HardSigmoid", "Elu",     "Softsign", "Softplus"};
  StrBuf b;
  strbuf_init(&b, g->arena);
  if (rnd_p(g, 65)) return "";
  for (uint32_t i = 0; i < n; i++) strbuf_printf(&b, "%s%s", i ? "," : "", names[rnd(g) % 11]);
  return strbuf_str(&b);
}

typedef struct RnnSlots {
  int direction, activations, alpha, beta, clip, batch_major;
} RnnSlots;

static bool make_rnn(Gen *g) {
  static const OpKind kinds[] = {OP_LSTM, OP_GRU, OP_RNN};
  static const int64_t gates_of[] = {4, 3, 1}, acts_of[] = {3, 2, 1}, inputs_of[] = {8, 6, 6};
  static const RnnSlots slots_of[] = {
      {A_LSTM_direction, A_LSTM_activations, A_LSTM_alpha, A_LSTM_beta, A_LSTM_clip, A_LSTM_batch_major},
      {A_GRU_direction, A_GRU_activations, A_GRU_alpha, A_GRU_beta, A_GRU_clip, A_GRU_batch_major},
      {A_RNN_direction, A_RNN_activations, A_RNN_alpha, A_RNN_beta, A_RNN_clip, A_RNN_batch_major},
  };
  static const EnumValue directions[] = {DIRECTION_FORWARD, DIRECTION_REVERSE, DIRECTION_BIDIRECTIONAL};
  uint32_t k = (uint32_t)rnd_in(g, 0, 2);
  RnnSlots a = slots_of[k];
  EnumValue dir = directions[rnd(g) % 3];
  bool batch_major = rnd_p(g, 20);
  int64_t dirs = dir == DIRECTION_BIDIRECTIONAL ? 2 : 1, gates = gates_of[k], h = rnd_in(g, 1, rnd_p(g, 80) ? 6 : 19);
  Value *x = gen_pick(g, FLOATS, 3, 3);
  if (!x) {
    int64_t dims[3] = {rnd_in(g, 1, 5), rnd_in(g, 1, 3), rnd_in(g, 1, 9)};
    x = gen_arg(g, gen_type(g, g->policy->dtypes[0] == 'h' ? DT_F16 : DT_F32, 3, dims));
  }
  DType t = x->type->dtype;
  int64_t seq = x->type->dims[batch_major], batch = x->type->dims[!batch_major], in = x->type->dims[2];
  int64_t w[3] = {dirs, gates * h, in}, r[3] = {dirs, gates * h, h}, b[2] = {dirs, 2 * gates * h};
  int64_t state[3] = {batch_major ? batch : dirs, batch_major ? dirs : batch, h}, peep[2] = {dirs, 3 * h};
  Value *ins[8] = {x, gen_leaf(g, gen_type(g, t, 3, w)), gen_leaf(g, gen_type(g, t, 3, r))};
  uint32_t n = 3;
  if (rnd_p(g, 70)) ins[3] = gen_leaf(g, gen_type(g, t, 2, b)), n = 4;
  if (rnd_p(g, 25) && seq > 0) ins[4] = gen_ints(g, gen_type(g, DT_I32, 1, &batch), 1, seq), n = 5;
  if (rnd_p(g, 50)) ins[5] = gen_leaf(g, gen_type(g, t, 3, state)), n = 6;
  if (inputs_of[k] == 8 && rnd_p(g, 50)) ins[6] = gen_leaf(g, gen_type(g, t, 3, state)), n = 7;
  if (inputs_of[k] == 8 && rnd_p(g, 25)) ins[7] = gen_leaf(g, gen_type(g, t, 2, peep)), n = 8;
  Op *op = gen_op(g, kinds[k], n, ins);
  op_set_int(op, a.direction, dir);
  op_set_str(op, a.activations, activations(g, (uint32_t)(dirs * acts_of[k])));
  if (rnd_p(g, 20)) op_set_floats(op, a.alpha, 1, (double[]){0.75});
  if (rnd_p(g, 20)) op_set_floats(op, a.beta, 1, (double[]){0.25});
  if (rnd_p(g, 20)) op_set_float(op, a.clip, 0.5);
  op_set_int(op, a.batch_major, batch_major);
  if (k == 0 && rnd_p(g, 15)) op_set_int(op, A_LSTM_input_forget, 1);
  if (k == 1 && rnd_p(g, 50)) op_set_int(op, A_GRU_linear_before_reset, 1);
  return gen_done(g, op);
}

// ---- idioms that passes look for

// transpose(conv(transpose(x))) and the like are left to chance; residuals and norms around a convolution are not.
static bool make_residual(Gen *g) {
  if (!make_conv(g)) return false;
  Value *y = g->pool.at[g->pool.n - 1].v;
  for (uint32_t i = 0; i + 1 < g->pool.n; i++) {
    Value *v = g->pool.at[i].v;
    if (v->type != y->type || v == y) continue;
    return gen_done(g, gen_op(g, OP_ADD, 2, (Value *[]){rnd_p(g, 50) ? y : v, rnd_p(g, 50) ? v : y}));
  }
  Value *x = gen_leaf(g, y->type);
  return gen_done(g, gen_op(g, OP_ADD, 2, (Value *[]){x, y}));
}

// Separate heads and join them again, as attention blocks do.
static bool make_heads(Gen *g) {
  Value *x = gen_need(g, "fhd", 3, 3);
  const Type *t = x->type;
  int64_t d = t->dims[2], heads = d ? rnd_in(g, 1, d) : 1;
  while (d % heads) heads--;
  int64_t dims[4] = {t->dims[0], t->dims[1], heads, d / heads};
  int64_t perms[3][4] = {{0, 2, 1, 3}, {0, 2, 3, 1}, {2, 0, 1, 3}};
  Op *op = gen_op(g, OP_RESHAPE, 1, &x);
  gen_result(g, op, t->dtype, 4, dims);
  if (!gen_done(g, op)) return false;
  x = op_out(op, 0);
  op = gen_op(g, OP_TRANSPOSE, 1, &x);
  op_set_ints(op, A_TRANSPOSE_perm, 4, perms[rnd(g) % 3]);
  if (!gen_done(g, op)) return false;
  Value *q = op_out(op, 0);
  op = gen_op(g, OP_MATMUL, 2, (Value *[]){q, q});
  bool trans = rnd_p(g, 50);
  op_set_int(op, A_MATMUL_trans_a, trans);
  op_set_int(op, A_MATMUL_trans_b, !trans);
  return gen_done(g, op);
}

const Generator gen_network[] = {
    {"conv", G_CONV, make_conv},
    {"residual", G_CONV, make_residual},
    {"depthwise", G_CONV | G_DEPTHWISE, make_depthwise},
    {"conv_transpose", G_CONV, make_conv_transpose},
    {"matmul", G_MATMUL, make_matmul},
    {"linear", G_MATMUL, make_linear},
    {"heads", G_MATMUL, make_heads},
    {"einsum", G_MATMUL, make_einsum},
    {"chain", G_MATMUL, gen_train},
    {"kronecker", G_MATMUL, gen_kronecker},
    {"pool", G_POOL, make_pool},
    {"batchnorm", G_NORM | G_CONV | G_DEPTHWISE, make_batchnorm},
    {"instance_norm", G_NORM, make_instance_norm},
    {"group_norm", G_NORM, make_group_norm},
    {"layer_norm", G_NORM, make_layer_norm},
    {"lp_norm", G_NORM, make_lp_norm},
    {"lrn", G_NORM, make_lrn},
    {"softmax", G_NORM, make_softmax},
    {"resize", G_RESIZE, make_resize},
    {"rnn", G_RNN, make_rnn},
    {NULL, 0, NULL},
};
