// What takes the place of weights that were given few values: integers with their scales, or the floats.
//
//   %0 = conv %x, @w   =>   %1 = dequantize @q, @s, @z {axis = 0}        @q: i8[16,3,3,3], @s: f32[16], @z: i8[16]
//                           %0 = conv %x, %1
//
// The passes in recover/ and the kernels read either; the dequantize is the form that passes `integer` and `blocks`
// turn into integer kernels.
#include "ir/infer.h"
#include "passes/graph_util.h"
#include "passes/quantize/weights.h"

Value *weights_floats(Module *m, const WeightFit *fit) {
  const Type *t = fit->w->type, *f32 = type_with_dtype(m->types, t, DT_F32);
  if (t->dtype == DT_F32) return const_bytes(m, f32, fit->value, fit->w->constant->name);
  double *v = NEW_ARRAY(m->arena, double, fit->n + 1);
  for (int64_t i = 0; i < fit->n; i++) v[i] = (double)fit->value[i];
  return const_of_doubles(m, t, v, fit->w->constant->name);
}

// Can the scales of all groups be operands of a dequantize?
static bool is_sayable(const WeightFit *fit) {
  const Type *t = fit->w->type;
  if (t->dtype != DT_F32) return false;
  for (int64_t i = 0; i < fit->n_groups; i++)
    if (!fit->group[i].grid) return false;
  return fit->spec.grain != GRAIN_BLOCK || (t->rank == 2 && fit->per == t->dims[1 - fit->axis]);
}

static Value *integers(Module *m, const WeightFit *fit) {
  int8_t *q = NEW_ARRAY(m->arena, int8_t, fit->n + 1);
  for (int64_t i = 0; i < fit->n; i++) {
    const WeightGroup *g = &fit->group[i / fit->in_group];
    q[weights_place(fit, i / fit->per, i % fit->per)] = (int8_t)(g->lo + g->step * g->code[i % fit->in_group]);
  }
  return const_bytes(m, type_with_dtype(m->types, fit->w->type, DT_I8), q, fit->w->constant->name);
}

// Dims of scales: a scalar, one per channel, or those of the matrix with one per block along its other axis.
static const Type *scale_type(Module *m, const WeightFit *fit, DType t) {
  int64_t dims[2] = {fit->channels, fit->channels};
  if (fit->spec.grain == GRAIN_TENSOR) return type_scalar(m->types, t);
  if (fit->spec.grain == GRAIN_CHANNEL) return type_tensor(m->types, t, 1, dims);
  dims[1 - fit->axis] = fit->per / fit->spec.block;
  return type_tensor(m->types, t, 2, dims);
}

// Group of element i of the scales.
static int64_t group_at(const WeightFit *fit, int64_t i) {
  int64_t blocks = fit->n_groups / fit->channels;
  if (fit->spec.grain != GRAIN_BLOCK || fit->axis == 0) return i;
  return i % fit->channels * blocks + i / fit->channels;
}

Value *weights_emit(Op *before, const WeightFit *fit) {
  Module *m = before->func->module;
  if (!is_sayable(fit)) return weights_floats(m, fit);
  float *scale = NEW_ARRAY(m->arena, float, fit->n_groups);
  int8_t *zero = NEW_ARRAY(m->arena, int8_t, fit->n_groups);
  bool any_zero = false;
  for (int64_t i = 0; i < fit->n_groups; i++) {
    const WeightGroup *g = &fit->group[group_at(fit, i)];
    scale[i] = g->scale;
    zero[i] = (int8_t)g->zero;
    any_zero = any_zero || zero[i] != 0;
  }
  Value *in[3] = {integers(m, fit), const_bytes(m, scale_type(m, fit, DT_F32), scale, NULL)};
  if (any_zero) in[2] = const_bytes(m, scale_type(m, fit, DT_I8), zero, NULL);
  Op *dq = op_new(before->func, before, OP_DEQUANTIZE, any_zero ? 3 : 2, in, before->loc);
  bool blocks = fit->spec.grain == GRAIN_BLOCK;
  op_set_int(dq, A_DEQUANTIZE_axis, blocks ? 1 - (int64_t)fit->axis : (int64_t)fit->axis);
  op_set_int(dq, A_DEQUANTIZE_block, blocks ? fit->spec.block : 0);
  value_set_type(op_out(dq, 0), fit->w->type);
  QCC_CHECK(infer_op(dq), "weights: dequantize");
  return op_out(dq, 0);
}
