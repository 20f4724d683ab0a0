// Tensors as flat arrays of numbers, and walks over index spaces: the ground the interpreter's hooks stand on.
//
// A hook converts its operands once, works on doubles or 64-bit integers, and stores once; that store is where a
// result is rounded to its type.
#include <math.h>
#include <string.h>

#include "ir/eval_impl.h"

Nums nums_new(Arena *arena, int64_t n, bool is_float) {
  Nums v = {NULL, NULL, n};
  if (is_float)
    v.f = NEW_ARRAY(arena, double, n);
  else
    v.i = NEW_ARRAY(arena, int64_t, n);
  return v;
}

Nums nums_as(Arena *arena, const Tensor *t, bool is_float) {
  int64_t n = type_count(t->type);
  DType dt = t->type->dtype;
  Nums v = nums_new(arena, n, is_float);
  if (!is_float) {
    for (int64_t i = 0; i < n; i++) v.i[i] = elem_get_i(t->data, dt, i);
  } else if (dt == DT_F32) {
    const AnyF32 *p = t->data;
    for (int64_t i = 0; i < n; i++) v.f[i] = p[i];
  } else {
    for (int64_t i = 0; i < n; i++) v.f[i] = elem_get_f(t->data, dt, i);
  }
  return v;
}

Nums nums_of(Arena *arena, const Tensor *t) { return nums_as(arena, t, dtype_is_float(t->type->dtype)); }
double *floats_of(Arena *arena, const Tensor *t) { return nums_as(arena, t, true).f; }
int64_t *ints_of(Arena *arena, const Tensor *t) { return nums_as(arena, t, false).i; }

void floats_store(Tensor *t, const double *v) {
  int64_t n = type_count(t->type);
  DType dt = t->type->dtype;
  if (dt == DT_F32) {
    float *p = t->data;
    for (int64_t i = 0; i < n; i++) p[i] = (float)v[i];
  } else {
    for (int64_t i = 0; i < n; i++) elem_set_f(t->data, dt, i, v[i]);
  }
}

void nums_store(Tensor *t, const Nums *v) {
  int64_t n = type_count(t->type);
  if (v->f)
    floats_store(t, v->f);
  else
    for (int64_t i = 0; i < n; i++) elem_set_i(t->data, t->type->dtype, i, v->i[i]);
}

enum { BLOCK = 1024 };

// Walk of the axes in the order of perm: result axis k is axis perm[k] of dense `dims`.
static void permuted_walk(uint32_t rank, const int64_t *dims, const uint32_t *perm, int64_t *to_dims,
                          int64_t *to_strides) {
  int64_t strides[MAX_RANK] = {0}, step = 1;
  for (uint32_t k = rank; k-- > 0; step *= dims[k]) strides[k] = step;
  for (uint32_t k = 0; k < rank; k++) to_dims[k] = dims[perm[k]], to_strides[k] = strides[perm[k]];
}

Nums nums_permute(Arena *arena, const Nums *v, uint32_t rank, const int64_t *dims, const uint32_t *perm) {
  int64_t to_dims[MAX_RANK] = {0}, to_strides[MAX_RANK] = {0}, offsets[BLOCK];
  permuted_walk(rank, dims, perm, to_dims, to_strides);
  Nums to = nums_new(arena, v->n, v->f != NULL);
  for (int64_t at = 0; at < v->n; at += BLOCK) {
    int64_t n = v->n - at < BLOCK ? v->n - at : BLOCK;
    walk_offsets(rank, to_dims, to_strides, at, n, offsets);
    if (v->f)
      for (int64_t i = 0; i < n; i++) to.f[at + i] = v->f[offsets[i]];
    else
      for (int64_t i = 0; i < n; i++) to.i[at + i] = v->i[offsets[i]];
  }
  return to;
}

Nums nums_permuted_of(Arena *arena, const Tensor *t, bool is_float, const uint32_t *perm) {
  int64_t to_dims[MAX_RANK] = {0}, to_strides[MAX_RANK] = {0}, offsets[BLOCK], total = type_count(t->type);
  DType dt = t->type->dtype;
  permuted_walk(t->type->rank, t->type->dims, perm, to_dims, to_strides);
  Nums to = nums_new(arena, total, is_float);
  for (int64_t at = 0; at < total; at += BLOCK) {
    int64_t n = total - at < BLOCK ? total - at : BLOCK;
    walk_offsets(t->type->rank, to_dims, to_strides, at, n, offsets);
    const AnyF32 *p = t->data;
    if (!is_float)
      for (int64_t i = 0; i < n; i++) to.i[at + i] = elem_get_i(t->data, dt, offsets[i]);
    else if (dt == DT_F32)
      for (int64_t i = 0; i < n; i++) to.f[at + i] = p[offsets[i]];
    else
      for (int64_t i = 0; i < n; i++) to.f[at + i] = elem_get_f(t->data, dt, offsets[i]);
  }
  return to;
}

bool int_less(DType t, int64_t a, int64_t b) { return t == DT_U64 ? (uint64_t)a < (uint64_t)b : a < b; }

double max_num(double a, double b) {
  if (isnan(a)) return a;
  if (isnan(b)) return b;
  return a > b || (a == b && !signbit(a)) ? a : b;
}

double min_num(double a, double b) {
  if (isnan(a)) return a;
  if (isnan(b)) return b;
  return a < b || (a == b && signbit(a)) ? a : b;
}

uint32_t op_axis(const Op *op, int slot, uint32_t rank) {
  int64_t axis = op_int(op, slot);
  if (axis < 0) axis += rank;
  QCC_CHECK(axis >= 0 && axis <= (int64_t)rank, "%s: axis out of range after inference", op_info(op->kind)->name);
  return (uint32_t)axis;
}

AxisView axis_view(const Type *t, uint32_t axis) {
  AxisView v = {1, axis < t->rank ? t->dims[axis] : 1, 1};
  for (uint32_t k = 0; k < t->rank; k++) {
    if (k < axis) v.outer *= t->dims[k];
    if (k > axis) v.inner *= t->dims[k];
  }
  return v;
}

void tensor_strides(const Type *t, int64_t *strides) {
  int64_t step = 1;
  for (uint32_t k = t->rank; k-- > 0; step *= t->dims[k]) strides[k] = step;
}

void broadcast_strides(const Type *t, uint32_t rank, int64_t *strides) {
  int64_t own[MAX_RANK] = {0};
  tensor_strides(t, own);
  for (uint32_t k = 0; k < rank; k++) {
    bool missing = k + t->rank < rank;
    uint32_t from = missing ? 0 : k + t->rank - rank;
    strides[k] = missing || t->dims[from] == 1 ? 0 : own[from];
  }
}

void walk_offsets(uint32_t rank, const int64_t *dims, const int64_t *strides, int64_t start, int64_t n,
                  int64_t *offsets) {
  int64_t at[MAX_RANK] = {0}, offset = 0, rest = start;
  for (uint32_t k = rank; k-- > 0;) {
    at[k] = dims[k] ? rest % dims[k] : 0;
    rest = dims[k] ? rest / dims[k] : 0;
    offset += at[k] * strides[k];
  }
  for (int64_t i = 0; i < n; i++) {
    offsets[i] = offset;
    for (uint32_t k = rank; k-- > 0;) {
      offset += strides[k];
      if (++at[k] < dims[k]) break;
      offset -= strides[k] * dims[k];
      at[k] = 0;
    }
  }
}

double *floats_broadcast(Arena *arena, const Tensor *t, const Type *to) {
  int64_t strides[MAX_RANK] = {0}, n = type_count(to);
  broadcast_strides(t->type, to->rank, strides);
  double *from = floats_of(arena, t), *v = NEW_ARRAY(arena, double, n);
  int64_t *offsets = NEW_ARRAY(arena, int64_t, n);
  walk_offsets(to->rank, to->dims, strides, 0, n, offsets);
  for (int64_t i = 0; i < n; i++) v[i] = from[offsets[i]];
  return v;
}

Diag *op_diag(const Op *op) { return op->func->module->diag; }
