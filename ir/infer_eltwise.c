// Inference of element-wise ops: broadcasting, equal element types, and which classes an op takes.
#include "ir/infer_hooks.h"

// Dims of all operands broadcast together.
static bool broadcast_all(const Op *op, uint32_t *rank, int64_t dims[MAX_RANK]) {
  *rank = 0;
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Type *t = infer_in(op, i);
    if (!dims_broadcast(*rank, dims, t->rank, t->dims, rank, dims))
      return infer_fail(op, "operands %s and %s do not broadcast", infer_text(op, infer_in(op, 0)), infer_text(op, t));
  }
  return true;
}

static bool is_number(const Op *op) {
  DClass c = dtype_info(infer_in(op, 0)->dtype)->cls;
  return c != DC_BOOL || infer_fail(op, "operand 0 must be a number, it is %s", infer_text(op, infer_in(op, 0)));
}

static bool is_integer(const Op *op) {
  return dtype_is_int(infer_in(op, 0)->dtype) ||
         infer_fail(op, "operand 0 must be of an integer type, it is %s", infer_text(op, infer_in(op, 0)));
}

// Broadcast dims with the element type `result`; operands from `first` on must agree in theirs.
static bool broadcast_to(Op *op, uint32_t first, DType result) {
  uint32_t rank;
  int64_t dims[MAX_RANK];
  for (uint32_t i = first + 1; i < op->n_in; i++)
    if (!infer_same_dtype(op, first, i)) return false;
  return broadcast_all(op, &rank, dims) && infer_set(op, 0, result, rank, dims);
}

bool infer_eltwise(Op *op) { return is_number(op) && broadcast_to(op, 0, infer_in(op, 0)->dtype); }

bool infer_eltwise_float(Op *op) {
  return infer_is_float(op, 0, "operand 0") && broadcast_to(op, 0, infer_in(op, 0)->dtype);
}

bool infer_eltwise_int(Op *op) { return is_integer(op) && broadcast_to(op, 0, infer_in(op, 0)->dtype); }

bool infer_eltwise_bits(Op *op) {
  DType t = infer_in(op, 0)->dtype;
  return (t == DT_BOOL || is_integer(op)) && broadcast_to(op, 0, t);
}

bool infer_not(Op *op) {
  const Type *t = infer_in(op, 0);
  if (t->dtype != DT_BOOL) return infer_fail(op, "operand 0 must be bool, it is %s", infer_text(op, t));
  return broadcast_to(op, 0, DT_BOOL);
}

bool infer_eltwise_bool(Op *op) { return broadcast_to(op, 0, DT_BOOL); }

bool infer_float_bool(Op *op) { return infer_is_float(op, 0, "operand 0") && broadcast_to(op, 0, DT_BOOL); }

static bool is_double(const Op *op) {
  const Type *t = infer_in(op, 0);
  return t->dtype == DT_F64 || infer_fail(op, "operand 0 must be f64, it is %s", infer_text(op, t));
}

bool infer_fma(Op *op) { return is_double(op) && broadcast_to(op, 0, DT_F64); }

bool infer_low_word(Op *op) { return is_double(op) && broadcast_to(op, 0, DT_I32); }

bool infer_pow(Op *op) {
  uint32_t rank;
  int64_t dims[MAX_RANK];
  return is_number(op) && broadcast_all(op, &rank, dims) && infer_set(op, 0, infer_in(op, 0)->dtype, rank, dims);
}

bool infer_select(Op *op) {
  const Type *t = infer_in(op, 0);
  if (t->dtype != DT_BOOL) return infer_fail(op, "the condition must be bool, it is %s", infer_text(op, t));
  return broadcast_to(op, 1, infer_in(op, 1)->dtype);
}

bool infer_cast(Op *op) {
  if (!infer_given(op)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  DClass c = dtype_info(y->dtype)->cls;
  if (c == DC_STR || c == DC_LANE) return infer_fail(op, "there is no conversion to %s", infer_text(op, y));
  return infer_set(op, 0, y->dtype, x->rank, x->dims);
}

bool infer_map(Op *op) {
  if (!infer_given(op)) return false;
  uint32_t rank;
  int64_t dims[MAX_RANK];
  DType *params = NEW_ARRAY(op->func->module->arena, DType, op->n_in), result;
  for (uint32_t i = 0; i < op->n_in; i++) params[i] = infer_in(op, i)->dtype;
  if (!infer_body(op, op_func(op, A_MAP_body), op->n_in, params, &result)) return false;
  const Type *y = op_out(op, 0)->type;
  if (!broadcast_all(op, &rank, dims) || !infer_fits(op, 0, y)) return false;
  return infer_set(op, 0, result, y->rank, y->dims);
}
