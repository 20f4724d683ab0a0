// Reading a layer out of the graph. See form.h.
#include <math.h>

#include "ir/elem.h"
#include "passes/compress/form.h"
#include "passes/compress/linalg.h"

int64_t layer_taps(const FactorLayer *l) {
  int64_t taps = 1;
  for (uint32_t i = 0; i < l->nd; i++) taps *= l->kernel[i];
  return taps;
}

int64_t layer_places(const FactorLayer *l) {
  int64_t places = 1;
  for (uint32_t i = 0; i < l->nd; i++) places *= l->y[i];
  return places;
}

void layer_patch(const FactorLayer *l, const Tensor *x, int64_t row, double *to) {
  int64_t places = layer_places(l), at[FORM_AXES] = {0}, taps = layer_taps(l), plane = 1;
  DType t = x->type->dtype;
  for (uint32_t i = 0; i < l->nd; i++) plane *= l->x[i];
  int64_t image = row / places, rest = row % places;
  for (uint32_t i = l->nd; i-- > 0; rest /= l->y[i]) at[i] = rest % l->y[i];
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t offset = 0, left = tap, from[FORM_AXES];
    bool inside = true;
    for (uint32_t i = l->nd; i-- > 0; left /= l->kernel[i]) {
      from[i] = at[i] * l->stride[i] + left % l->kernel[i] * l->dilation[i] - l->begin[i];
      inside = inside && from[i] >= 0 && from[i] < l->x[i];
    }
    for (uint32_t i = 0; i < l->nd; i++) offset = offset * l->x[i] + from[i];
    for (int64_t c = 0; c < l->in; c++)
      to[c * taps + tap] = inside ? elem_get_f(x->data, t, (image * l->in + c) * plane + offset) : 0;
  }
}

static bool no(const char **why, const char *text) {
  *why = text;
  return false;
}

static void read_conv(const Op *op, FactorLayer *l) {
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type, *y = op_out(op, 0)->type;
  l->nd = x->rank - 2;
  l->batch = x->dims[0];
  l->in = x->dims[1];
  l->out = y->dims[1];
  l->group = op_int(op, A_CONV_group);
  for (uint32_t i = 0; i < l->nd; i++) {
    l->kernel[i] = w->dims[2 + i];
    l->x[i] = x->dims[2 + i];
    l->y[i] = y->dims[2 + i];
    l->stride[i] = op_ints_at(op, A_CONV_strides, i, 1);
    l->dilation[i] = op_ints_at(op, A_CONV_dilations, i, 1);
    l->begin[i] = op_ints_at(op, A_CONV_pads, i, 0);
    l->end[i] = op_ints_at(op, A_CONV_pads, l->nd + i, 0);
  }
}

static bool read_matmul(const Op *op, FactorLayer *l, const char **why) {
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type, *y = op_out(op, 0)->type;
  if (w->rank != 2 || x->rank < 2) return no(why, "the weights are no matrix");
  if (op_bool(op, A_MATMUL_trans_a)) return no(why, "the input is transposed");
  if (op_int(op, A_MATMUL_x_bits) != 0) return no(why, "the file permits few bits of the input");
  l->in = x->dims[x->rank - 1];
  l->out = y->dims[y->rank - 1];
  l->group = 1;
  l->batch = l->in ? type_count(x) / l->in : 0;
  return true;
}

// Dense weights stored as out x in are turned to in x out.
static bool read_weights(FactorLayer *l, Arena *arena, const char **why) {
  const Op *op = l->op;
  Const *c = op_in(op, 1)->constant;
  bool turned = op->kind == OP_MATMUL && op_bool(op, A_MATMUL_trans_b);
  const void *data = const_data(op->func->module, c);
  double *w = NEW_ARRAY(arena, double, l->n_w);
  for (int64_t i = 0; i < l->n_w; i++) {
    double v = elem_get_f(data, l->dtype, turned ? i % l->out * l->in + i / l->out : i);
    if (!isfinite(v)) return no(why, "weights are not finite");
    w[i] = v;
  }
  l->w = w;
  l->norm2 = sum_of_squares(l->n_w, w);
  return true;
}

bool layer_shape(const Op *op, FactorLayer *l, const char **why) {
  *l = (FactorLayer){.op = op};
  if (op->kind != OP_CONV && op->kind != OP_MATMUL) return no(why, "not a convolution or a matrix product");
  const Value *x = op_in(op, 0), *w = op_in(op, 1);
  const Type *y = op_out(op, 0)->type;
  if (!value_is_const(w) || value_is_const(x)) return no(why, "the weights are not constant");
  if (!dtype_is_float(w->type->dtype) || w->type->dtype != y->dtype || x->type->dtype != y->dtype)
    return no(why, "not a float layer");
  if (op_post(op) != NULL) return no(why, "other ops are fused into it");
  if (!type_is_static(x->type) || !type_is_static(y)) return no(why, "sizes are symbolic");
  if (type_count(x->type) == 0 || type_count(w->type) == 0 || type_count(y) == 0) return no(why, "it is empty");
  l->dtype = y->dtype;
  l->n_w = type_count(w->type);
  if (op->kind == OP_MATMUL) return read_matmul(op, l, why);
  if (op_enum(op, A_CONV_layout) != LAYOUT_NCHW || x->type->rank > 2 + FORM_AXES || x->type->rank < 3)
    return no(why, "not a convolution of one to three axes, channels first");
  read_conv(op, l);
  return true;
}

bool layer_read(const Op *op, FactorLayer *l, Arena *arena, const char **why) {
  return layer_shape(op, l, why) && read_weights(l, arena, why);
}
