// Importers of operators that make constants: Constant, ConstantOfShape, Range, EyeLike, NonZero of a constant.
#include <math.h>
#include <string.h>

#include "frontend/onnx_node.h"
#include "ir/elem.h"

static Value *float_list(NodeCtx *c, uint32_t n, const double *v) {
  float *data = NEW_ARRAY(c->scratch, float, n + 1);
  int64_t dims[1] = {n};
  for (uint32_t i = 0; i < n; i++) data[i] = (float)v[i];
  return const_bytes(c->m, type_tensor(c->m->types, DT_F32, 1, dims), data, NULL);
}

bool import_constant(NodeCtx *c) {
  uint32_t n = 0;
  if (attr_has(c, "value")) return node_result(c, attr_tensor(c, "value"));
  if (attr_has(c, "value_float")) return node_result(c, node_scalar(c, DT_F32, attr_float(c, "value_float", 0)));
  if (attr_has(c, "value_int"))
    return node_result(c, const_splat_int(c->m, type_scalar(c->m->types, DT_I64), attr_int(c, "value_int", 0)));
  if (attr_has(c, "value_floats")) {
    const double *v = attr_floats(c, "value_floats", &n);
    return attrs_ok(c) && node_result(c, float_list(c, n, v));
  }
  if (attr_has(c, "value_ints")) {
    const int64_t *v = attr_ints(c, "value_ints", &n), none = 0;
    return attrs_ok(c) && node_result(c, node_ints(c, n, v ? v : &none));
  }
  if (attr_has(c, "sparse_value")) return node_unsupported(c, "sparse_value");
  if (attr_has(c, "value_string") || attr_has(c, "value_strings")) return node_unsupported(c, "a string constant");
  return node_refuse(c, "no value attribute");
}

bool import_constant_of_shape(NodeCtx *c) {
  const int64_t *shape;
  uint32_t n;
  if (!node_const_ints(c, 0, &shape, &n)) return false;
  Value *v = attr_tensor(c, "value");
  if (!attrs_ok(c)) return false;
  if (v && type_count(v->type) != 1) return node_refuse(c, "attribute value must have one element");
  for (uint32_t i = 0; i < n; i++)
    if (shape[i] < 0) return node_refuse(c, "shape[%u] is %lld", i, (long long)shape[i]);
  const Type *t = node_type(c, v ? v->type->dtype : DT_F32, n, shape);
  if (!t) return false;
  if (!v) return node_result(c, const_splat(c->m, t, 0));
  if (t->dtype == DT_STR) return node_unsupported(c, "a string constant");
  bool is_float = dtype_is_float(t->dtype);
  return node_result(c, is_float ? const_splat(c->m, t, const_f(c->m, v->constant, 0))
                                 : const_splat_int(c->m, t, const_i(c->m, v->constant, 0)));
}

// ---- range

static bool range_float(NodeCtx *c, DType t) {
  double start, limit, delta;
  if (!node_const_float(c, 0, &start) || !node_const_float(c, 1, &limit) || !node_const_float(c, 2, &delta))
    return false;
  double count = ceil((limit - start) / delta);
  if (!(delta != 0) || !isfinite(count) || count > 1 << 28) return node_refuse(c, "%g values", count);
  int64_t n = count > 0 ? (int64_t)count : 0;
  uint8_t *data = arena_alloc(c->m->arena, (size_t)n * 8 + 8);
  for (int64_t i = 0; i < n; i++) elem_set_f(data, t, i, start + (double)i * delta);
  return node_result(c, const_borrowed(c->m, type_tensor(c->m->types, t, 1, &n), data, NULL));
}

static bool range_int(NodeCtx *c, DType t) {
  int64_t start, limit, delta, span;
  if (!node_const_int(c, 0, &start) || !node_const_int(c, 1, &limit) || !node_const_int(c, 2, &delta)) return false;
  if (delta == 0 || delta == INT64_MIN || __builtin_sub_overflow(limit, start, &span) || span == INT64_MIN)
    return node_refuse(c, "from %lld to %lld in steps of %lld", (long long)start, (long long)limit, (long long)delta);
  int64_t step = delta < 0 ? -delta : delta, reach = delta < 0 ? -span : span;
  int64_t n = reach > 0 ? (reach - 1) / step + 1 : 0;
  if (n > 1 << 28) return node_refuse(c, "%lld values", (long long)n);
  uint8_t *data = arena_alloc(c->m->arena, (size_t)n * 8 + 8);
  for (int64_t i = 0; i < n; i++) elem_set_i(data, t, i, start + i * delta);
  return node_result(c, const_borrowed(c->m, type_tensor(c->m->types, t, 1, &n), data, NULL));
}

bool import_range(NodeCtx *c) {
  DType t = c->in[0]->type->dtype;
  if (c->in[1]->type->dtype != t || c->in[2]->type->dtype != t) return node_refuse(c, "the inputs differ in type");
  return dtype_is_float(t) ? range_float(c, t) : range_int(c, t);
}

bool import_eye_like(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  DType t = attr_has(c, "dtype") ? dtype_by_onnx(attr_int(c, "dtype", 0)) : x->dtype;
  int64_t k = attr_int(c, "k", 0);
  if (!attrs_ok(c)) return false;
  if (t == DT_NONE || t == DT_STR) return node_unsupported(c, "this element type");
  if (x->rank != 2) return node_refuse(c, "the input must have rank 2, it has rank %u", x->rank);
  if (!node_need_static(c, c->in[0], "the result")) return false;
  const Type *y = type_with_dtype(c->m->types, x, t);
  if (type_count(y) > c->opt->fold_bytes) return diag_error(c->m->diag, DIAG_LIMIT, c->loc, "the matrix is too large");
  uint8_t *data = arena_alloc(c->m->arena, (size_t)type_bytes(y) + 8);
  for (int64_t i = 0; i < x->dims[0]; i++) {
    if ((k > 0 && i > INT64_MAX - k) || i + k < 0 || i + k >= x->dims[1]) continue;
    elem_set_f(data, t, i * x->dims[1] + i + k, 1);
  }
  return node_result(c, const_borrowed(c->m, y, data, NULL));
}

// The places of a constant, one row of coordinates per axis.
bool import_non_zero(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  if (!value_is_const(c->in[0]))
    return node_unsupported(c, "the number of non-zero elements is not known; make the input constant with --bind");
  Const *k = c->in[0]->constant;
  int64_t n = type_count(x), found = 0;
  bool is_float = dtype_is_float(x->dtype);
  int64_t *place = NEW_ARRAY(c->scratch, int64_t, n + 1);
  for (int64_t i = 0; i < n; i++)
    if (is_float ? const_f(c->m, k, i) != 0 : const_i(c->m, k, i) != 0) place[found++] = i;
  int64_t dims[2] = {x->rank ? x->rank : 1, found}, run = 1;
  int64_t *at = NEW_ARRAY(c->scratch, int64_t, dims[0] * found + 1);
  for (uint32_t axis = x->rank; axis-- > 0; run *= x->dims[axis])
    for (int64_t i = 0; i < found; i++) at[axis * found + i] = place[i] / run % x->dims[axis];
  return node_result(c, const_bytes(c->m, type_tensor(c->m->types, DT_I64, 2, dims), at, NULL));
}
