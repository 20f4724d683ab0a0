// Inference of the ops quantisation is made of: quantize, dequantize, threshold, requant, lookup. Their result types
// are stated; here the parameters are checked against them.
#include <string.h>

#include "ir/infer_hooks.h"

// The stated result has the dims of x.
static bool given_dims(const Op *op) {
  if (!infer_given(op)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  return (x->rank == y->rank && memcmp(x->dims, y->dims, sizeof x->dims) == 0) ||
         infer_fail(op, "the result is stated as %s, the operand is %s", infer_text(op, y), infer_text(op, x));
}

// Operand i is one number, one per slice of `axis`, or one per block along `axis`.
static bool check_param(const Op *op, uint32_t i, const char *what, int axis_slot, int64_t block) {
  const Type *x = infer_in(op, 0), *t = infer_in(op, i);
  uint32_t axis;
  if (!t || t->rank == 0) return true;
  if (block < 0 || block > MAX_ELEMS) return infer_fail(op, "block is %lld", (long long)block);
  if (block == 0 && t->rank == 1 && t->dims[0] == 1) return true;
  if (!infer_axis(op, axis_slot, x->rank, &axis)) return false;
  if (block == 0) return infer_vector(op, i, what, x->dims[axis]);
  bool ok = t->rank == x->rank && x->dims[axis] >= 0;
  for (uint32_t k = 0; ok && k < x->rank; k++)
    ok = t->dims[k] == (k == axis ? (x->dims[k] + block - 1) / block : x->dims[k]);
  return ok || infer_fail(op, "%s is %s, which does not fit %s in blocks of %lld", what, infer_text(op, t),
                          infer_text(op, x), (long long)block);
}

static bool check_scale_zero(const Op *op, int axis, int64_t block, DType zero) {
  if (!check_param(op, 1, "the scale", axis, block) || !check_param(op, 2, "the zero point", axis, block) ||
      !infer_is_float(op, 1, "the scale"))
    return false;
  const Type *z = infer_in(op, 2);
  return !z || z->dtype == zero ||
         infer_fail(op, "the zero point is %s, expected %s", infer_text(op, z), dtype_info(zero)->name);
}

bool infer_quantize(Op *op) {
  if (!given_dims(op)) return false;
  return check_scale_zero(op, A_QUANTIZE_axis, op_int(op, A_QUANTIZE_block), op_out(op, 0)->type->dtype);
}

bool infer_dequantize(Op *op) {
  if (!given_dims(op)) return false;
  const Type *y = op_out(op, 0)->type;
  if (!dtype_is_float(y->dtype)) return infer_fail(op, "the result must be a float type, it is %s", infer_text(op, y));
  return check_scale_zero(op, A_DEQUANTIZE_axis, op_int(op, A_DEQUANTIZE_block), infer_in(op, 0)->dtype);
}

// Channels of x along its last axis.
static bool last_extent(const Op *op, int64_t *c) {
  if (!infer_rank(op, 0, "the input", 1, MAX_RANK)) return false;
  const Type *x = infer_in(op, 0);
  *c = x->dims[x->rank - 1];
  return true;
}

bool infer_threshold(Op *op) {
  int64_t c;
  if (!given_dims(op) || !last_extent(op, &c) || !infer_rank(op, 1, "the thresholds", 2, 2)) return false;
  const Type *t = infer_in(op, 1), *d = infer_in(op, 2), *y = op_out(op, 0)->type;
  if (!infer_same_dtype(op, 0, 1) || !infer_known(op, t->dims[0], "the thresholds") ||
      !infer_known(op, t->dims[1], "the thresholds"))
    return false;
  if (t->dims[0] != 1 && t->dims[0] != c)
    return infer_fail(op, "thresholds %s for %s channels", infer_text(op, t), infer_dim_text(op, c));
  if (d && (d->dtype != DT_BOOL || !infer_vector(op, 2, "the direction", c)))
    return infer_fail(op, "the direction must be bool[%s], it is %s", infer_dim_text(op, c), infer_text(op, d));
  if (!dtype_is_int(y->dtype)) return infer_fail(op, "the result must be an integer type, it is %s", infer_text(op, y));
  DClass cls = dtype_info(y->dtype)->cls;
  int64_t levels = cls == DC_BIP ? 1 : cls == DC_TERN ? 2 : dtype_max(y->dtype);
  if (cls == DC_INT) levels = dtype_info(y->dtype)->bits >= 63 ? INT64_MAX : levels - dtype_min(y->dtype);
  if (t->dims[1] > levels)
    return infer_fail(op, "%lld thresholds for a result of type %s", (long long)t->dims[1], infer_text(op, y));
  return true;
}

bool infer_requant(Op *op) {
  int64_t c;
  if (!given_dims(op) || !last_extent(op, &c)) return false;
  const Type *y = op_out(op, 0)->type;
  if (!dtype_is_int(y->dtype)) return infer_fail(op, "the result must be an integer type, it is %s", infer_text(op, y));
  for (uint32_t i = 1; i < 3; i++) {
    const Type *t = infer_in(op, i);
    bool one = t->rank == 0 || (t->rank == 1 && t->dims[0] == 1);
    if (!infer_is_float(op, i, "the parameter") || (!one && !infer_vector(op, i, "the parameter", c))) return false;
  }
  return true;
}

bool infer_lookup(Op *op) {
  if (!infer_given(op) || !infer_rank(op, 0, "the table", 1, MAX_RANK)) return false;
  const Type *table = infer_in(op, 0), *ix = infer_in(op, 1), *y = op_out(op, 0)->type;
  if (!infer_is_int(op, 1, "the index")) return false;
  int64_t dims[2 * MAX_RANK];
  uint32_t rank = 0;
  for (uint32_t i = 0; i < ix->rank; i++) dims[rank++] = ix->dims[i];
  for (uint32_t i = 1; i < table->rank; i++) dims[rank++] = table->dims[i];
  if (y->dtype != table->dtype || y->rank != rank || memcmp(y->dims, dims, rank * sizeof *dims) != 0)
    return infer_fail(op, "the result is stated as %s, the table is %s and the index %s", infer_text(op, y),
                      infer_text(op, table), infer_text(op, ix));
  return infer_set(op, 0, table->dtype, rank, dims);
}
