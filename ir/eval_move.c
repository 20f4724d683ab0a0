// Movement: every op here copies elements bit for bit (NaN payloads and packed codes included), but for the scatter
// reductions, which compute.
//
// Run-time indices are wrapped once when negative; what is still outside is an error that names the index, its place
// and the range. one_hot alone ignores such indices, as ONNX says.
#include <string.h>

#include "ir/eval_impl.h"

enum { BLOCK = 512 };

static void copy_offsets(Tensor *to, const int64_t *a, const Tensor *from, const int64_t *b, int64_t n) {
  DType t = to->type->dtype;
  uint32_t bits = dtype_info(t)->bits;
  if (bits == 32) {
    for (int64_t k = 0; k < n; k++) memcpy((char *)to->data + 4 * a[k], (const char *)from->data + 4 * b[k], 4);
  } else {
    for (int64_t k = 0; k < n; k++) elem_copy(to->data, a[k], from->data, b[k], t);
  }
}

void move_strided(uint32_t rank, const int64_t *dims, Tensor *to, const MoveEnd *a, const Tensor *from,
                  const MoveEnd *b) {
  int64_t total = 1, at_a[BLOCK], at_b[BLOCK];
  for (uint32_t k = 0; k < rank; k++) total *= dims[k];
  for (int64_t at = 0; at < total; at += BLOCK) {
    int64_t n = total - at < BLOCK ? total - at : BLOCK;
    walk_offsets(rank, dims, a->strides, at, n, at_a);
    walk_offsets(rank, dims, b->strides, at, n, at_b);
    for (int64_t k = 0; k < n; k++) at_a[k] += a->base, at_b[k] += b->base;
    copy_offsets(to, at_a, from, at_b, n);
  }
}

// The result in order, from the operand through its own strides.
static void pull(Tensor *out, const Tensor *in, const MoveEnd *from) {
  MoveEnd to = {0};
  tensor_strides(out->type, to.strides);
  move_strided(out->type->rank, out->type->dims, out, &to, in, from);
}

// n elements in order.
static void move_run(Tensor *to, int64_t at, const Tensor *from, int64_t from_at, int64_t n) {
  uint32_t bits = dtype_info(to->type->dtype)->bits;
  if (bits % 8 == 0) {
    size_t size = bits / 8;
    if (n > 0)
      memcpy((char *)to->data + (size_t)at * size, (const char *)from->data + (size_t)from_at * size, (size_t)n * size);
    return;
  }
  for (int64_t k = 0; k < n; k++) elem_copy(to->data, at + k, from->data, from_at + k, to->type->dtype);
}

EVAL(reshape) {
  (void)op, (void)arena;
  move_run(&out[0], 0, &in[0], 0, type_count(out[0].type));
  return true;
}

EVAL(bitcast) {
  (void)op, (void)arena;
  memcpy(out[0].data, in[0].data, (size_t)type_bytes(out[0].type));
  return true;
}

EVAL(transpose) {
  (void)arena;
  uint32_t n = 0;
  const int64_t *perm = op_ints(op, A_TRANSPOSE_perm, &n);
  int64_t strides[MAX_RANK] = {0};
  MoveEnd from = {0};
  tensor_strides(in[0].type, strides);
  for (uint32_t k = 0; k < n; k++) from.strides[k] = strides[perm[k]];
  pull(&out[0], &in[0], &from);
  return true;
}

EVAL(expand) {
  (void)op, (void)arena;
  MoveEnd from = {0};
  broadcast_strides(in[0].type, out[0].type->rank, from.strides);
  pull(&out[0], &in[0], &from);
  return true;
}

EVAL(slice) {
  (void)arena;
  int64_t strides[MAX_RANK] = {0};
  MoveEnd from = {0};
  tensor_strides(in[0].type, strides);
  for (uint32_t k = 0; k < in[0].type->rank; k++) {
    from.base += op_ints_at(op, A_SLICE_starts, k, 0) * strides[k];
    from.strides[k] = op_ints_at(op, A_SLICE_steps, k, 1) * strides[k];
  }
  pull(&out[0], &in[0], &from);
  return true;
}

EVAL(concat) {
  (void)arena;
  uint32_t axis = op_axis(op, A_CONCAT_axis, out[0].type->rank);
  MoveEnd to = {0}, from = {0};
  tensor_strides(out[0].type, to.strides);
  for (uint32_t k = 0; k < op->n_in; k++) {
    tensor_strides(in[k].type, from.strides);
    move_strided(in[k].type->rank, in[k].type->dims, &out[0], &to, &in[k], &from);
    to.base += in[k].type->dims[axis] * to.strides[axis];
  }
  return true;
}

// ---- per-axis maps

void pull_maps(Tensor *out, const Tensor *in, const AxisMaps *m) {
  const Type *t = out->type;
  int64_t strides[MAX_RANK] = {0}, at[MAX_RANK] = {0}, n = type_count(t);
  tensor_strides(in->type, strides);
  for (int64_t i = 0; i < n; i++) {
    int64_t from = 0;
    bool inside = true;
    for (uint32_t k = 0; k < t->rank; k++) {
      int64_t s = m->at[k][at[k]];
      inside &= s >= 0;
      from += s * strides[k];
    }
    if (inside) elem_copy(out->data, i, in->data, from, t->dtype);
    for (uint32_t k = t->rank; k-- > 0; at[k] = 0)
      if (++at[k] < t->dims[k]) break;
  }
}

EVAL(tile) {
  AxisMaps m = {{NULL}};
  const Type *t = out[0].type;
  QCC_CHECK(in[0].type->rank == t->rank, "%s changes the rank", op_info(op->kind)->name);
  for (uint32_t k = 0; k < t->rank; k++) {
    m.at[k] = NEW_ARRAY(arena, int64_t, t->dims[k]);
    for (int64_t i = 0; i < t->dims[k]; i++) m.at[k][i] = i % in[0].type->dims[k];
  }
  pull_maps(&out[0], &in[0], &m);
  return true;
}

static int64_t floor_mod(int64_t a, int64_t b) {
  int64_t r = a % b;
  return r < 0 ? r + b : r;
}

// Source of position i (0 = first element of the operand) along an axis of n elements.
static int64_t pad_source(EnumValue mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  if (n == 0) return -1;
  switch (mode) {
    case PAD_EDGE: return i < 0 ? 0 : n - 1;
    case PAD_WRAP: return floor_mod(i, n);
    case PAD_REFLECT: {
      if (n == 1) return 0;
      int64_t r = floor_mod(i, 2 * n - 2);
      return r < n ? r : 2 * n - 2 - r;
    }
    default: return -1;
  }
}

EVAL(pad) {
  const Type *t = out[0].type;
  EnumValue mode = op_enum(op, A_PAD_mode);
  AxisMaps m = {{NULL}};
  for (uint32_t k = 0; k < t->rank; k++) {
    int64_t begin = op_ints_at(op, A_PAD_pads, k, 0);
    m.at[k] = NEW_ARRAY(arena, int64_t, t->dims[k]);
    for (int64_t i = 0; i < t->dims[k]; i++) m.at[k][i] = pad_source(mode, i - begin, in[0].type->dims[k]);
  }
  double value = op_float(op, A_PAD_value);
  int64_t n = type_count(t);
  if (mode == PAD_CONSTANT)
    for (int64_t i = 0; i < n; i++) elem_set_f(out[0].data, t->dtype, i, value);
  pull_maps(&out[0], &in[0], &m);
  return true;
}

EVAL(trilu) {
  (void)arena;
  const Type *t = out[0].type;
  int64_t n = type_count(t), cols = t->dims[t->rank - 1], rows = t->dims[t->rank - 2], k = op_int(op, A_TRILU_k);
  bool upper = op_bool(op, A_TRILU_upper);
  for (int64_t i = 0; i < n; i++) {
    int64_t col = i % cols, row = i / cols % rows;
    if (upper ? col - row >= k : col - row <= k) elem_copy(out[0].data, i, in[0].data, i, t->dtype);
  }
  return true;
}

// ---- gathers and scatters

// Index number `at` of `t`, wrapped once; -1 after an error.
static int64_t index_at(const Op *op, const Tensor *t, int64_t at, int64_t n) {
  int64_t raw = elem_get_i(t->data, t->type->dtype, at), i = raw < 0 ? raw + n : raw;
  if (i >= 0 && i < n) return i;
  diag_error(op_diag(op), DIAG_REFUSED, op->loc, "index %lld (element %lld of the indices) is outside [%lld, %lld]",
             (long long)raw, (long long)at, (long long)-n, (long long)(n - 1));
  return -1;
}

EVAL(gather) {
  (void)arena;
  AxisView v = axis_view(in[0].type, op_axis(op, A_GATHER_axis, in[0].type->rank));
  int64_t n = type_count(in[1].type);
  for (int64_t k = 0; k < n && type_count(out[0].type) > 0; k++) {
    int64_t i = index_at(op, &in[1], k, v.n);
    if (i < 0) return false;
    for (int64_t o = 0; o < v.outer; o++)
      move_run(&out[0], (o * n + k) * v.inner, &in[0], (o * v.n + i) * v.inner, v.inner);
  }
  return true;
}

// Offsets of every element of `t` inside a tensor with `strides`, axis `skip` left out.
static int64_t *offsets_without(Arena *arena, const Type *t, const int64_t *strides, uint32_t skip) {
  int64_t n = type_count(t), own[MAX_RANK] = {0}, *offsets = NEW_ARRAY(arena, int64_t, n);
  for (uint32_t k = 0; k < t->rank; k++) own[k] = k == skip ? 0 : strides[k];
  walk_offsets(t->rank, t->dims, own, 0, n, offsets);
  return offsets;
}

EVAL(gather_elements) {
  uint32_t axis = op_axis(op, A_GATHER_ELEMENTS_axis, in[0].type->rank);
  int64_t strides[MAX_RANK] = {0}, n = type_count(in[1].type);
  tensor_strides(in[0].type, strides);
  int64_t *offsets = offsets_without(arena, in[1].type, strides, axis);
  for (int64_t k = 0; k < n; k++) {
    int64_t i = index_at(op, &in[1], k, in[0].type->dims[axis]);
    if (i < 0) return false;
    elem_copy(out[0].data, k, in[0].data, offsets[k] + i * strides[axis], out[0].type->dtype);
  }
  return true;
}

// Offset that index tuple number k (of the last axis of `indices`) selects from axes first, first+1, ... of `t`; -1
// after an error.
static int64_t tuple_offset(const Op *op, const Tensor *indices, int64_t k, const Type *t, uint32_t first) {
  int64_t strides[MAX_RANK] = {0}, offset = 0, width = indices->type->dims[indices->type->rank - 1];
  tensor_strides(t, strides);
  for (int64_t a = 0; a < width; a++) {
    int64_t i = index_at(op, indices, k * width + a, t->dims[first + a]);
    if (i < 0) return -1;
    offset += i * strides[first + a];
  }
  return offset;
}

EVAL(gather_nd) {
  (void)arena;
  const Type *t = in[0].type, *ti = in[1].type;
  int64_t batch_dims = op_int(op, A_GATHER_ND_batch_dims), width = ti->dims[ti->rank - 1];
  int64_t batches = 1, tuples = 1, batch_size = 1, run = 1;
  for (uint32_t k = 0; k < t->rank; k++) {
    *(k < batch_dims ? &batches : &batch_size) *= t->dims[k];
    if (k >= batch_dims + width) run *= t->dims[k];
  }
  for (uint32_t k = 0; k + 1 < ti->rank; k++)
    if (k >= batch_dims) tuples *= ti->dims[k];
  if (run == 0) return true;
  for (int64_t k = 0; k < batches * tuples; k++) {
    int64_t at = tuple_offset(op, &in[1], k, t, (uint32_t)batch_dims);
    if (at < 0) return false;
    move_run(&out[0], k * run, &in[0], k / tuples * batch_size + at, run);
  }
  return true;
}

// out[at] = out[at] op updates[from]
static void scatter_one(EnumValue how, Tensor *out, int64_t at, const Tensor *updates, int64_t from) {
  DType t = out->type->dtype;
  if (how == SCATTER_NONE) {
    elem_copy(out->data, at, updates->data, from, t);
  } else if (dtype_is_float(t)) {
    double a = elem_get_f(out->data, t, at), b = elem_get_f(updates->data, t, from);
    double v = how == SCATTER_ADD   ? a + b
               : how == SCATTER_MUL ? a * b
               : how == SCATTER_MAX ? max_num(a, b)
                                    : min_num(a, b);
    elem_set_f(out->data, t, at, v);
  } else {
    int64_t a = elem_get_i(out->data, t, at), b = elem_get_i(updates->data, t, from);
    int64_t sum = (int64_t)((uint64_t)a + (uint64_t)b), product = (int64_t)((uint64_t)a * (uint64_t)b);
    int64_t max = int_less(t, a, b) ? b : a, min = int_less(t, a, b) ? a : b;
    elem_set_i(out->data, t, at,
               how == SCATTER_ADD   ? sum
               : how == SCATTER_MUL ? product
               : how == SCATTER_MAX ? max
                                    : min);
  }
}

EVAL(scatter_elements) {
  uint32_t axis = op_axis(op, A_SCATTER_ELEMENTS_axis, in[0].type->rank);
  EnumValue how = op_enum(op, A_SCATTER_ELEMENTS_reduction);
  int64_t strides[MAX_RANK] = {0}, n = type_count(in[1].type);
  tensor_strides(in[0].type, strides);
  int64_t *offsets = offsets_without(arena, in[1].type, strides, axis);
  move_run(&out[0], 0, &in[0], 0, type_count(in[0].type));
  for (int64_t k = 0; k < n; k++) {
    int64_t i = index_at(op, &in[1], k, in[0].type->dims[axis]);
    if (i < 0) return false;
    scatter_one(how, &out[0], offsets[k] + i * strides[axis], &in[2], k);
  }
  return true;
}

EVAL(scatter_nd) {
  (void)arena;
  const Type *t = in[0].type, *ti = in[1].type;
  EnumValue how = op_enum(op, A_SCATTER_ND_reduction);
  int64_t width = ti->dims[ti->rank - 1], tuples = 1, run = 1;
  for (uint32_t k = 0; k + 1 < ti->rank; k++) tuples *= ti->dims[k];
  for (uint32_t k = (uint32_t)width; k < t->rank; k++) run *= t->dims[k];
  move_run(&out[0], 0, &in[0], 0, type_count(t));
  if (run == 0) return true;
  for (int64_t k = 0; k < tuples; k++) {
    int64_t at = tuple_offset(op, &in[1], k, t, 0);
    if (at < 0) return false;
    for (int64_t i = 0; i < run; i++) scatter_one(how, &out[0], at + i, &in[2], k * run + i);
  }
  return true;
}

EVAL(one_hot) {
  (void)arena;
  const Type *t = out[0].type;
  AxisView v = axis_view(t, op_axis(op, A_ONE_HOT_axis, t->rank));
  for (int64_t o = 0; o < v.outer; o++)
    for (int64_t i = 0; i < v.inner; i++) {
      int64_t hot = elem_get_i(in[0].data, in[0].type->dtype, o * v.inner + i);
      if (hot < 0) hot += v.n;
      for (int64_t k = 0; k < v.n; k++)
        elem_copy(out[0].data, (o * v.n + k) * v.inner + i, in[1].data, k == hot, t->dtype);
    }
  return true;
}

EVAL(lookup) {
  (void)arena;
  int64_t n = type_count(in[1].type), rows = in[0].type->dims[0], run = 1;
  for (uint32_t k = 1; k < in[0].type->rank; k++) run *= in[0].type->dims[k];
  for (int64_t k = 0; k < n; k++) {
    int64_t i = elem_get_i(in[1].data, in[1].type->dtype, k);
    if (i < 0 || i >= rows)
      return diag_error(op_diag(op), DIAG_REFUSED, op->loc, "code %lld (element %lld) is outside a table of %lld rows",
                        (long long)i, (long long)k, (long long)rows);
    move_run(&out[0], k * run, &in[0], i * run, run);
  }
  return true;
}
