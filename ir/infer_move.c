// Inference of data movement: reshape, transpose, expand, tile, concat, slice, pad, gather and scatter, resize.
#include <math.h>
#include <string.h>

#include "ir/infer_hooks.h"

// Equal element counts: the product of the numbers and every symbol as often on both sides.
static bool same_count(const Type *a, const Type *b) {
  int64_t na[MAX_RANK], nb[MAX_RANK], ca, cb;
  for (uint32_t i = 0; i < a->rank; i++) {
    int32_t more = 0;
    if (a->dims[i] < 0) {
      for (uint32_t k = 0; k < a->rank; k++) more += a->dims[k] == a->dims[i];
      for (uint32_t k = 0; k < b->rank; k++) more -= b->dims[k] == a->dims[i];
    }
    if (more != 0) return false;
    na[i] = a->dims[i] < 0 ? 1 : a->dims[i];
  }
  for (uint32_t i = 0; i < b->rank; i++) {
    bool found = b->dims[i] >= 0;
    for (uint32_t k = 0; k < a->rank; k++) found |= a->dims[k] == b->dims[i];
    if (!found) return false;
    nb[i] = b->dims[i] < 0 ? 1 : b->dims[i];
  }
  return dims_count(a->rank, na, &ca) && dims_count(b->rank, nb, &cb) && ca == cb;
}

// The stated result keeps the element type of operand `from`.
static bool given_like(const Op *op, uint32_t from) {
  if (!infer_given(op)) return false;
  const Type *x = infer_in(op, from), *y = op_out(op, 0)->type;
  return x->dtype == y->dtype ||
         infer_fail(op, "the result is stated as %s, the operand is %s", infer_text(op, y), infer_text(op, x));
}

static bool given_same_rank(const Op *op) {
  if (!given_like(op, 0)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  return x->rank == y->rank ||
         infer_fail(op, "the result %s has another rank than %s", infer_text(op, y), infer_text(op, x));
}

bool infer_reshape(Op *op) {
  if (!given_like(op, 0)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  return same_count(x, y) ||
         infer_fail(op, "%s and %s do not have the same number of elements", infer_text(op, x), infer_text(op, y));
}

bool infer_bitcast(Op *op) {
  if (!infer_given(op)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  bool same = x->rank == y->rank && memcmp(x->dims, y->dims, x->rank * sizeof *x->dims) == 0;
  return (same && dtype_info(x->dtype)->bits == dtype_info(y->dtype)->bits && x->dtype != DT_STR) ||
         infer_fail(op, "the result is stated as %s, the operand is %s", infer_text(op, y), infer_text(op, x));
}

bool infer_transpose(Op *op) {
  const Type *x = infer_in(op, 0);
  int64_t dims[MAX_RANK];
  bool seen[MAX_RANK] = {0};
  if (!infer_ints(op, A_TRANSPOSE_perm, x->rank, false, 0, (int64_t)x->rank - 1)) return false;
  for (uint32_t i = 0; i < x->rank; i++) {
    int64_t p = op_ints_at(op, A_TRANSPOSE_perm, i, 0);
    if (seen[p]) return infer_fail(op, "perm names axis %lld twice", (long long)p);
    seen[p] = true;
    dims[i] = x->dims[p];
  }
  return infer_set(op, 0, x->dtype, x->rank, dims);
}

bool infer_expand(Op *op) { return given_like(op, 0) && infer_fits(op, 0, op_out(op, 0)->type); }

bool infer_tile(Op *op) {
  const Type *x = infer_in(op, 0);
  int64_t dims[MAX_RANK];
  if (!infer_ints(op, A_TILE_repeats, x->rank, false, 0, MAX_ELEMS)) return false;
  for (uint32_t i = 0; i < x->rank; i++) {
    int64_t r = op_ints_at(op, A_TILE_repeats, i, 1);
    dims[i] = x->dims[i];
    if (r == 1) continue;
    if (!infer_known(op, x->dims[i], "the result shape")) return false;
    if (!size_mul(x->dims[i], r, &dims[i])) return infer_fail(op, "axis %u grows out of range", i);
  }
  return infer_set(op, 0, x->dtype, x->rank, dims);
}

bool infer_concat(Op *op) {
  const Type *x = infer_in(op, 0);
  uint32_t axis;
  int64_t dims[MAX_RANK];
  if (!infer_axis(op, A_CONCAT_axis, x->rank, &axis)) return false;
  memcpy(dims, x->dims, sizeof dims);
  for (uint32_t i = 1; i < op->n_in; i++) {
    const Type *t = infer_in(op, i);
    bool same = t->rank == x->rank && t->dtype == x->dtype;
    for (uint32_t k = 0; same && k < x->rank; k++) same = k == axis || t->dims[k] == x->dims[k];
    if (!same)
      return infer_fail(op, "operand %u of type %s does not join %s along axis %u", i, infer_text(op, t),
                        infer_text(op, x), axis);
    if (!infer_known(op, dims[axis], "the joined axis") || !infer_known(op, t->dims[axis], "the joined axis"))
      return false;
    dims[axis] += t->dims[axis];
    if (dims[axis] > MAX_ELEMS) return infer_fail(op, "the joined axis grows out of range");
  }
  return infer_set(op, 0, x->dtype, x->rank, dims);
}

bool infer_slice(Op *op) {
  if (!given_same_rank(op)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  if (!infer_ints(op, A_SLICE_starts, x->rank, false, 0, MAX_ELEMS) ||
      !infer_ints(op, A_SLICE_steps, x->rank, true, -MAX_ELEMS, MAX_ELEMS))
    return false;
  for (uint32_t i = 0; i < x->rank; i++) {
    int64_t start = op_ints_at(op, A_SLICE_starts, i, 0), step = op_ints_at(op, A_SLICE_steps, i, 1);
    int64_t n = y->dims[i], span;
    if (step == 0) return infer_fail(op, "steps[%u] is 0", i);
    if (start == 0 && step == 1 && n == x->dims[i]) continue;
    if (!infer_known(op, x->dims[i], "the slice") || !infer_known(op, n, "the slice")) return false;
    if (n == 0 && start <= x->dims[i]) continue;
    if (!size_mul(n - 1, step < 0 ? -step : step, &span) || start >= x->dims[i] ||
        (step > 0 ? span >= x->dims[i] - start : span > start))
      return infer_fail(op, "%lld elements from %lld in steps of %lld leave axis %u of %s", (long long)n,
                        (long long)start, (long long)step, i, infer_text(op, x));
  }
  return true;
}

bool infer_pad(Op *op) {
  const Type *x = infer_in(op, 0);
  int64_t dims[MAX_RANK];
  EnumValue mode = op_enum(op, A_PAD_mode);
  if (!infer_ints(op, A_PAD_pads, 2 * x->rank, false, -MAX_ELEMS, MAX_ELEMS)) return false;
  for (uint32_t i = 0; i < x->rank; i++) {
    int64_t b = op_ints_at(op, A_PAD_pads, i, 0), e = op_ints_at(op, A_PAD_pads, x->rank + i, 0), n = x->dims[i];
    dims[i] = n;
    if (b == 0 && e == 0) continue;
    if (!infer_known(op, n, "the result shape")) return false;
    dims[i] = n + b + e;
    if (dims[i] < 0 || -b > n || -e > n)
      return infer_fail(op, "pads %lld and %lld leave axis %u of %s", (long long)b, (long long)e, i, infer_text(op, x));
    int64_t room = mode == PAD_CONSTANT ? MAX_ELEMS : mode == PAD_REFLECT ? n - 1 : n > 0 ? MAX_ELEMS : 0;
    if (b > room || e > room)
      return infer_fail(op, "mode %s cannot pad axis %u of extent %lld by %lld", enum_text(mode), i, (long long)n,
                        (long long)(b > e ? b : e));
  }
  return infer_set(op, 0, x->dtype, x->rank, dims);
}

// ---- gather and scatter

bool infer_gather(Op *op) {
  const Type *x = infer_in(op, 0), *ix = infer_in(op, 1);
  uint32_t axis, rank = 0;
  int64_t dims[2 * MAX_RANK];
  if (!infer_is_int(op, 1, "the index") || !infer_axis(op, A_GATHER_axis, x->rank, &axis)) return false;
  for (uint32_t i = 0; i < axis; i++) dims[rank++] = x->dims[i];
  for (uint32_t i = 0; i < ix->rank; i++) dims[rank++] = ix->dims[i];
  for (uint32_t i = axis + 1; i < x->rank; i++) dims[rank++] = x->dims[i];
  return infer_set(op, 0, x->dtype, rank, dims);
}

// Index dims other than `axis` stay inside those of the data.
static bool indices_inside(const Op *op, uint32_t axis) {
  const Type *x = infer_in(op, 0), *ix = infer_in(op, 1);
  if (!infer_is_int(op, 1, "the index") || !infer_rank(op, 1, "the index", x->rank, x->rank)) return false;
  for (uint32_t i = 0; i < x->rank; i++)
    if (i != axis && ix->dims[i] != x->dims[i] && (ix->dims[i] < 0 || x->dims[i] < 0 || ix->dims[i] > x->dims[i]))
      return infer_fail(op, "the index %s is larger than %s on axis %u", infer_text(op, ix), infer_text(op, x), i);
  return true;
}

bool infer_gather_elements(Op *op) {
  const Type *x = infer_in(op, 0), *ix = infer_in(op, 1);
  uint32_t axis;
  if (!infer_axis(op, A_GATHER_ELEMENTS_axis, x->rank, &axis) || !indices_inside(op, axis)) return false;
  return infer_set(op, 0, x->dtype, ix->rank, ix->dims);
}

bool infer_scatter_elements(Op *op) {
  const Type *x = infer_in(op, 0), *ix = infer_in(op, 1), *u = infer_in(op, 2);
  uint32_t axis;
  if (!infer_axis(op, A_SCATTER_ELEMENTS_axis, x->rank, &axis) || !indices_inside(op, axis)) return false;
  if (u->dtype != x->dtype || u->rank != ix->rank || memcmp(u->dims, ix->dims, sizeof u->dims) != 0)
    return infer_fail(op, "the updates %s do not match the index %s and the data %s", infer_text(op, u),
                      infer_text(op, ix), infer_text(op, x));
  return infer_set(op, 0, x->dtype, x->rank, x->dims);
}

// Length of the index tuples: the last dim of the index, at most `room`.
static bool tuple_length(const Op *op, uint32_t room, uint32_t *n) {
  const Type *ix = infer_in(op, 1);
  if (!infer_is_int(op, 1, "the index") || !infer_rank(op, 1, "the index", 1, MAX_RANK)) return false;
  int64_t last = ix->dims[ix->rank - 1];
  if (!infer_known(op, last, "the length of the index tuples")) return false;
  if (last > room) return infer_fail(op, "index tuples of length %lld for %u axes", (long long)last, room);
  *n = (uint32_t)last;
  return true;
}

bool infer_gather_nd(Op *op) {
  const Type *x = infer_in(op, 0), *ix = infer_in(op, 1);
  int64_t b = op_int(op, A_GATHER_ND_batch_dims), dims[2 * MAX_RANK];
  if (b < 0 || b > x->rank || b >= ix->rank)
    return infer_fail(op, "batch_dims %lld with data %s and index %s", (long long)b, infer_text(op, x),
                      infer_text(op, ix));
  uint32_t n, rank = 0;
  if (!tuple_length(op, x->rank - (uint32_t)b, &n)) return false;
  for (uint32_t i = 0; i < b; i++)
    if (x->dims[i] != ix->dims[i])
      return infer_fail(op, "batch axis %u differs in data %s and index %s", i, infer_text(op, x), infer_text(op, ix));
  for (uint32_t i = 0; i + 1 < ix->rank; i++) dims[rank++] = ix->dims[i];
  for (uint32_t i = (uint32_t)b + n; i < x->rank; i++) dims[rank++] = x->dims[i];
  return infer_set(op, 0, x->dtype, rank, dims);
}

bool infer_scatter_nd(Op *op) {
  const Type *x = infer_in(op, 0), *ix = infer_in(op, 1), *u = infer_in(op, 2);
  int64_t dims[2 * MAX_RANK];
  uint32_t n, rank = 0;
  if (!tuple_length(op, x->rank, &n)) return false;
  for (uint32_t i = 0; i + 1 < ix->rank; i++) dims[rank++] = ix->dims[i];
  for (uint32_t i = n; i < x->rank; i++) dims[rank++] = x->dims[i];
  if (u->dtype != x->dtype || u->rank != rank || memcmp(u->dims, dims, rank * sizeof *dims) != 0)
    return infer_fail(op, "the updates %s do not match the index %s and the data %s", infer_text(op, u),
                      infer_text(op, ix), infer_text(op, x));
  return infer_set(op, 0, x->dtype, x->rank, x->dims);
}

bool infer_one_hot(Op *op) {
  const Type *ix = infer_in(op, 0), *v = infer_in(op, 1);
  int64_t axis = op_int(op, A_ONE_HOT_axis), depth = op_int(op, A_ONE_HOT_depth), r = ix->rank;
  int64_t dims[MAX_RANK + 1];
  if (axis < -r - 1 || axis > r)
    return infer_fail(op, "axis %lld is outside a tensor of rank %lld", (long long)axis, (long long)(r + 1));
  if (depth < 0 || depth > MAX_ELEMS) return infer_fail(op, "depth %lld is out of range", (long long)depth);
  if (!infer_vector(op, 1, "the values", 2)) return false;
  uint32_t at = (uint32_t)(axis < 0 ? axis + r + 1 : axis);
  for (uint32_t i = 0, k = 0; i <= ix->rank; i++) dims[i] = i == at ? depth : ix->dims[k++];
  return infer_set(op, 0, v->dtype, ix->rank + 1, dims);
}

bool infer_trilu(Op *op) {
  const Type *x = infer_in(op, 0);
  return infer_rank(op, 0, "the input", 2, MAX_RANK) && infer_set(op, 0, x->dtype, x->rank, x->dims);
}

// ---- resize

bool infer_resize(Op *op) {
  if (!given_same_rank(op)) return false;
  const Type *x = infer_in(op, 0), *y = op_out(op, 0)->type;
  uint32_t n, n_roi;
  const double *scales = op_floats(op, A_RESIZE_scales, &n);
  op_floats(op, A_RESIZE_roi, &n_roi);
  if (n != x->rank) return infer_fail(op, "scales has %u elements, expected %u", n, x->rank);
  if (n_roi != 0 && n_roi != 2 * x->rank) return infer_fail(op, "roi has %u elements, expected %u", n_roi, 2 * x->rank);
  if (n_roi == 0 && op_enum(op, A_RESIZE_coord) == COORD_TF_CROP_AND_RESIZE)
    return infer_fail(op, "tf_crop_and_resize needs roi");
  for (uint32_t i = 0; i < n; i++) {
    if (!isfinite(scales[i]) || !(scales[i] > 0))
      return infer_fail(op, "scales[%u] is %g, expected a positive number", i, scales[i]);
    if (x->dims[i] == y->dims[i]) continue;
    if (!infer_known(op, x->dims[i], "the result shape") || !infer_known(op, y->dims[i], "the result shape"))
      return false;
    if (x->dims[i] == 0) return infer_fail(op, "axis %u is empty and cannot grow", i);
  }
  return true;
}
