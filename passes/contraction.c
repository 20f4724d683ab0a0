// Geometry of contractions. See contraction.h.
#include "passes/contraction.h"

static int64_t spatial_attr(const Op *op, int slot, uint32_t axis, int64_t missing) {
  return op_ints_at(op, slot, axis, missing);
}

static void conv_attrs(const Op *op, uint32_t nd, ConvGeom *g) {
  bool transposed = op->kind == OP_CONV_TRANSPOSE;
  int strides = transposed ? A_CONV_TRANSPOSE_strides : A_CONV_strides;
  int dilations = transposed ? A_CONV_TRANSPOSE_dilations : A_CONV_dilations;
  int pads = transposed ? A_CONV_TRANSPOSE_pads : A_CONV_pads;
  for (uint32_t i = 0; i < nd; i++) {
    uint32_t at = CONV_AXES - nd + i;
    g->stride[at] = spatial_attr(op, strides, i, 1);
    g->dilation[at] = spatial_attr(op, dilations, i, 1);
    g->pad[at] = spatial_attr(op, pads, i, 0);
  }
}

bool conv_geom(const Op *op, ConvGeom *g) {
  bool transposed = op->kind == OP_CONV_TRANSPOSE;
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type, *y = op_out(op, 0)->type;
  if (op_enum(op, transposed ? A_CONV_TRANSPOSE_layout : A_CONV_layout) != LAYOUT_NHWC) return false;
  if (!type_is_static(x) || !type_is_static(w) || !type_is_static(y)) return false;
  if (x->rank < 3 || x->rank > 2 + CONV_AXES) return false;
  uint32_t nd = x->rank - 2;
  *g = (ConvGeom){.n = x->dims[0], .c = x->dims[nd + 1], .o = y->dims[nd + 1]};
  g->group = op_int(op, transposed ? A_CONV_TRANSPOSE_group : A_CONV_group);
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    g->in[i] = g->out[i] = g->kernel[i] = g->stride[i] = g->dilation[i] = 1;
  }
  for (uint32_t i = 0; i < nd; i++) {
    uint32_t at = CONV_AXES - nd + i;
    g->in[at] = x->dims[1 + i];
    g->out[at] = y->dims[1 + i];
    g->kernel[at] = w->dims[i];
  }
  conv_attrs(op, nd, g);
  g->pointwise = true;
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    g->pointwise = g->pointwise && g->kernel[i] == 1 && g->stride[i] == 1 && g->pad[i] == 0 && g->in[i] == g->out[i];
  }
  return true;
}

bool conv_is_depthwise(const ConvGeom *g) { return g->group == g->c && g->group == g->o && g->group > 1; }

bool conv_folds(const Op *op, const ConvGeom *g) {
  const Value *bias = op_in(op, 2);
  if (op->kind != OP_CONV || g->group != 1 || g->kernel[2] == 1 || g->dilation[2] != 1 || op_n_post(op) > 0)
    return false;
  return value_is_const(op_in(op, 1)) && (bias == NULL || value_is_const(bias));
}

void conv_fold(ConvGeom *g, int64_t fold) {
  g->kernel[2] += (fold - 1) * g->stride[2];
  g->stride[2] *= fold;
  g->out[2] /= fold;
  g->o *= fold;
}

// Element strides of a dense tensor over the batch axes of the result; 0 where it is stretched.
static void batch_strides(const Type *t, uint32_t n_batch, int64_t matrix, int64_t *strides) {
  uint32_t own = t->rank > 2 ? t->rank - 2 : 0;
  int64_t run = matrix;
  for (uint32_t i = 0; i < n_batch; i++) strides[i] = 0;
  for (uint32_t i = own; i-- > 0;) {
    if (t->dims[i] != 1) strides[n_batch - own + i] = run;
    run *= t->dims[i];
  }
}

bool matmul_geom(const Op *op, MatmulGeom *g) {
  const Type *a = op_in(op, 0)->type, *b = op_in(op, 1)->type, *y = op_out(op, 0)->type;
  if (!type_is_static(a) || !type_is_static(b) || !type_is_static(y)) return false;
  *g = (MatmulGeom){.m = 1, .n = 1, .a_vector = a->rank == 1, .b_vector = b->rank == 1};
  bool trans_a = op_bool(op, A_MATMUL_trans_a) && !g->a_vector, trans_b = op_bool(op, A_MATMUL_trans_b) && !g->b_vector;
  const int64_t *ad = a->dims + (g->a_vector ? 0 : a->rank - 2), *bd = b->dims + (g->b_vector ? 0 : b->rank - 2);
  g->k = g->a_vector ? ad[0] : trans_a ? ad[0] : ad[1];
  g->m = g->a_vector ? 1 : trans_a ? ad[1] : ad[0];
  g->n = g->b_vector ? 1 : trans_b ? bd[0] : bd[1];
  if (g->m == 1) trans_a = false;  // the same bytes; rows of batches follow each other
  g->a_m = g->a_vector ? 0 : trans_a ? 1 : g->k;
  g->a_k = trans_a ? g->m : 1;
  g->b_k = g->b_vector || trans_b ? 1 : g->n;
  g->b_n = trans_b ? g->k : 1;
  g->n_batch = y->rank - (g->a_vector ? 0 : 1) - (g->b_vector ? 0 : 1);
  for (uint32_t i = 0; i < g->n_batch; i++) g->batch[i] = y->dims[i];
  batch_strides(a, g->n_batch, g->m * g->k, g->a_batch);
  batch_strides(b, g->n_batch, g->n * g->k, g->b_batch);
  g->b_shared = true;
  for (uint32_t i = 0; i < g->n_batch; i++) g->b_shared = g->b_shared && g->b_batch[i] == 0;
  return true;
}

static int64_t aligned_dim(const Type *t, uint32_t rank, uint32_t axis) {
  return axis + t->rank < rank ? 1 : t->dims[axis + t->rank - rank];
}

bool result_axes_merge(const Op *op, uint32_t first, uint32_t end) {
  const Type *y = op_out(op, 0)->type;
  uint32_t from = op->kind == OP_MATMUL ? 2 : op_info(op->kind)->max_in;
  for (uint32_t i = from; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    if (v == NULL) continue;
    bool some = false, all = true;
    for (uint32_t a = first; a < end; a++) {
      if (y->dims[a] == 1) continue;
      bool runs = aligned_dim(v->type, y->rank, a) != 1;
      some = some || runs;
      all = all && runs;
    }
    if (some && !all) return false;
  }
  return true;
}

bool matmul_rows_merge(const Op *op, const MatmulGeom *g) {
  if (!g->b_shared || g->a_vector || g->a_k != 1) return false;
  for (uint32_t i = 0; i < g->n_batch; i++) {
    if (g->a_batch[i] == 0 && g->batch[i] != 1) return false;
  }
  return result_axes_merge(op, 0, g->n_batch + 1);
}

uint32_t weight_channel_axis(const Op *op) {
  uint32_t rank = op_in(op, 1)->type->rank;
  if (op->kind == OP_CONV) return op_enum(op, A_CONV_layout) == LAYOUT_NCHW ? 0 : rank - 1;
  if (op->kind == OP_CONV_TRANSPOSE) return op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NCHW ? 1 : rank - 1;
  return op_bool(op, A_MATMUL_trans_b) ? rank - 2 : rank - 1;
}

static bool channels_last(const Op *op) {
  if (op->kind == OP_CONV) return op_enum(op, A_CONV_layout) == LAYOUT_NHWC;
  return op->kind == OP_MATMUL || op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NHWC;
}

bool weight_channels(const Op *op, WeightChannels *w) {
  const Type *t = op_in(op, 1)->type;
  uint32_t rank = op->out[0]->type->rank;
  if (!type_is_static(t) || type_count(t) == 0) return false;
  *w = (WeightChannels){.n = type_count(t), .channels = 1, .per = 1, .groups = 1, .inner = type_count(t)};
  if (t->rank < 2) return true;
  uint32_t axis = weight_channel_axis(op);
  bool last = channels_last(op);
  if (op->kind == OP_CONV_TRANSPOSE) w->groups = op_int(op, A_CONV_TRANSPOSE_group);
  w->axis = last ? rank - 1 : 1;
  w->per = t->dims[axis];
  w->channels = w->per * w->groups;
  w->inner = 1;
  for (uint32_t i = axis + 1; i < t->rank; i++) w->inner *= t->dims[i];
  if (w->groups > 1) w->block = w->inner * w->per * (t->dims[axis - 1] / w->groups);  // input channels come before
  return true;
}
