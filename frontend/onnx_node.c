// What all operator importers share: the table of operators, reading constant inputs, and emitting graph ops.
//
// Every emitted op is inferred at once and folded when its operands are constants, so importers can compute with
// values freely: what is known at compile time is a constant when they look at it.
#include "frontend/onnx_node.h"

#include <stdarg.h>
#include <string.h>

#include "ir/eval.h"
#include "ir/infer.h"

#define ONNX(name, domain, since, until, min_in, max_in, max_out, op, import) bool import_##import(NodeCtx *c);
#include "frontend/onnx_ops.def"
#undef ONNX

static const OnnxRow rows[] = {
#define ONNX(name, domain, since, until, min_in, max_in, max_out, op, import) \
  {name, domain, since, until, min_in, max_in, max_out, OP_##op, import_##import},
#include "frontend/onnx_ops.def"
#undef ONNX
};

bool node_refuse(NodeCtx *c, const char *fmt, ...) {
  StrBuf text;
  strbuf_init(&text, c->m->arena);
  va_list ap;
  va_start(ap, fmt);
  strbuf_vprintf(&text, fmt, ap);
  va_end(ap);
  return diag_error(c->m->diag, DIAG_REFUSED, c->loc, "%s", strbuf_str(&text));
}

// ---- the table

// QONNX goes by many names; some exporters leave the domain out.
static bool domain_is(const char *row, const char *domain) {
  static const char *const qonnx[] = {"qonnx.custom_op.general", "finn.custom_op.general", "finn", "onnx.brevitas", ""};
  if (strcmp(row, domain) == 0) return true;
  if (strcmp(row, "qonnx") != 0) return false;
  for (size_t i = 0; i < sizeof qonnx / sizeof *qonnx; i++)
    if (strcmp(domain, qonnx[i]) == 0) return true;
  return false;
}

static const OnnxRow *find_row(NodeCtx *c) {
  const OnnxRow *newer = NULL, *older = NULL;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const OnnxRow *r = &rows[i];
    if (strcmp(r->name, c->type) != 0 || !domain_is(r->domain, c->domain)) continue;
    if (c->opset < r->since) {
      newer = r;
    } else if (r->until != ONNX_LATEST && c->opset > r->until) {
      older = r;
    } else {
      return r;
    }
  }
  if (newer) {
    node_refuse(c, "operator %s exists from opset %d, the model imports opset %lld", c->type, newer->since,
                (long long)c->opset);
  } else if (older) {
    node_refuse(c, "operator %s exists up to opset %d, the model imports opset %lld", c->type, older->until,
                (long long)c->opset);
  } else {
    node_unsupported(c, "unknown operator");
  }
  return NULL;
}

const OnnxRow *onnx_row(NodeCtx *c) {
  const OnnxRow *r = find_row(c);
  if (!r) return NULL;
  if (c->n_in < r->min_in || (r->max_in != ONNX_VARIADIC && c->n_in > r->max_in)) {
    node_refuse(c, "%u inputs, expected %u to %u", c->n_in, r->min_in, r->max_in);
    return NULL;
  }
  for (uint32_t i = 0; i < r->min_in; i++)
    if (!c->in_names[i][0]) {  // a named input without a value was reported where it failed
      node_refuse(c, "input %u is missing", i);
      return NULL;
    }
  if (r->max_out != ONNX_VARIADIC && c->n_out > r->max_out) {
    node_refuse(c, "%u outputs, expected at most %u", c->n_out, r->max_out);
    return NULL;
  }
  for (uint32_t i = 0; i < c->n_in; i++)
    if (c->in[i] && c->in[i]->type->dtype == DT_STR) {
      node_unsupported(c, "string tensors");
      return NULL;
    }
  if (c->opset < 6) attr_ignore(c, "consumed_inputs");
  c->row = r;
  return r;
}

// ---- constant inputs

static const char *input_name(NodeCtx *c, uint32_t i) {
  return str_escape(c->m->arena, i < c->n_in && c->in_names ? c->in_names[i] : "", 128);
}

static Const *constant_input(NodeCtx *c, uint32_t i, bool integer) {
  Value *v = node_in(c, i);
  const char *name = input_name(c, i);
  if (!v) {
    node_refuse(c, "input %u is missing", i);
  } else if (v->type->rank > 1) {
    node_refuse(c, "input %u ('%s') must be a number or a list", i, name);
  } else if (integer ? !dtype_is_int(v->type->dtype) && v->type->dtype != DT_BOOL : !dtype_is_float(v->type->dtype)) {
    node_refuse(c, "input %u ('%s') must be of %s type, it is %s", i, name, integer ? "an integer" : "a float",
                dtype_info(v->type->dtype)->name);
  } else if (!value_is_const(v)) {
    node_unsupported(c, "input %u ('%s') must be known at compile time; give --bind %s=FILE.pb", i, name, name);
  } else {
    return v->constant;
  }
  return NULL;
}

bool node_const_ints(NodeCtx *c, uint32_t i, const int64_t **v, uint32_t *n) {
  Const *k = constant_input(c, i, true);
  if (!k) return false;
  int64_t count = type_count(k->type);
  if (count > 1 << 24) return node_refuse(c, "input %u has %lld elements", i, (long long)count);
  int64_t *out = NEW_ARRAY(c->m->arena, int64_t, count + 1);
  for (int64_t j = 0; j < count; j++) out[j] = const_i(c->m, k, j);
  *v = out;
  *n = (uint32_t)count;
  return true;
}

bool node_const_floats(NodeCtx *c, uint32_t i, const double **v, uint32_t *n) {
  Const *k = constant_input(c, i, false);
  if (!k) return false;
  int64_t count = type_count(k->type);
  if (count > 1 << 24) return node_refuse(c, "input %u has %lld elements", i, (long long)count);
  double *out = NEW_ARRAY(c->m->arena, double, count + 1);
  for (int64_t j = 0; j < count; j++) out[j] = const_f(c->m, k, j);
  *v = out;
  *n = (uint32_t)count;
  return true;
}

bool node_const_int(NodeCtx *c, uint32_t i, int64_t *v) {
  const int64_t *list;
  uint32_t n;
  if (!node_const_ints(c, i, &list, &n)) return false;
  if (n != 1) return node_refuse(c, "input %u ('%s') has %u elements, expected 1", i, input_name(c, i), n);
  *v = list[0];
  return true;
}

bool node_const_float(NodeCtx *c, uint32_t i, double *v) {
  const double *list;
  uint32_t n;
  if (!node_const_floats(c, i, &list, &n)) return false;
  if (n != 1) return node_refuse(c, "input %u ('%s') has %u elements, expected 1", i, input_name(c, i), n);
  *v = list[0];
  return true;
}

bool node_need_static(NodeCtx *c, const Value *v, const char *what) {
  for (uint32_t i = 0; i < v->type->rank; i++) {
    if (v->type->dims[i] >= 0) continue;
    const char *name = str_escape(c->m->arena, type_symbol_name(c->m->types, v->type->dims[i]), 64);
    return node_refuse(c, "%s depends on dimension '%s', which is not known; give --dim %s=NUMBER", what, name, name);
  }
  return true;
}

bool node_axis(NodeCtx *c, int64_t axis, int64_t rank, uint32_t *out) {
  if (axis < -rank || axis >= rank)
    return node_refuse(c, "axis %lld is outside a tensor of rank %lld", (long long)axis, (long long)rank);
  *out = (uint32_t)(axis < 0 ? axis + rank : axis);
  return true;
}

// ---- building

Op *node_op(NodeCtx *c, OpKind kind, uint32_t n_in, Value *const *in) {
  return op_new(c->func, NULL, kind, n_in, in, c->loc);
}

bool node_done_all(NodeCtx *c, Op *op, Value **results) { return infer_op(op) && onnx_fold(c, op, results); }

Value *node_done(NodeCtx *c, Op *op) {
  Value **results = NEW_ARRAY(c->scratch, Value *, op->n_out);
  return node_done_all(c, op, results) ? results[0] : NULL;
}

Value *node_emit(NodeCtx *c, OpKind kind, uint32_t n_in, Value *const *in) {
  for (uint32_t i = 0; i < n_in; i++)
    if (!in[i] && i < op_info(kind)->min_in) return NULL;  // an earlier step failed and said so
  return node_done(c, node_op(c, kind, n_in, in));
}

Value *node_emit1(NodeCtx *c, OpKind kind, Value *x) { return node_emit(c, kind, 1, &x); }
Value *node_emit2(NodeCtx *c, OpKind kind, Value *x, Value *y) { return node_emit(c, kind, 2, (Value *[]){x, y}); }
Value *node_emit3(NodeCtx *c, OpKind kind, Value *x, Value *y, Value *z) {
  return node_emit(c, kind, 3, (Value *[]){x, y, z});
}

// Ranks and sizes of types made by importers are checked here: type_tensor takes them for granted.
const Type *node_type(NodeCtx *c, DType t, uint32_t rank, const int64_t *dims) {
  int64_t known[MAX_RANK], count;
  if (rank > MAX_RANK) {
    node_refuse(c, "a tensor of rank %u; qcc takes tensors up to rank %d", rank, MAX_RANK);
    return NULL;
  }
  for (uint32_t i = 0; i < rank; i++) known[i] = dims[i] < 0 ? 1 : dims[i];
  if (!dims_count(rank, known, &count)) {
    diag_error(c->m->diag, DIAG_LIMIT, c->loc, "a tensor of more than 2^40 elements");
    return NULL;
  }
  return type_tensor(c->m->types, t, rank, dims);
}

Value *node_given(NodeCtx *c, Op *op, DType t, uint32_t rank, const int64_t *dims) {
  const Type *type = node_type(c, t, rank, dims);
  if (!type) return NULL;
  value_set_type(op_out(op, 0), type);
  return node_done(c, op);
}

static bool same_dims(const Type *t, uint32_t rank, const int64_t *dims) {
  return t->rank == rank && (rank == 0 || memcmp(t->dims, dims, rank * sizeof *dims) == 0);
}

Value *node_reshape(NodeCtx *c, Value *x, uint32_t rank, const int64_t *dims) {
  if (!x || same_dims(x->type, rank, dims)) return x;
  return node_given(c, node_op(c, OP_RESHAPE, 1, &x), x->type->dtype, rank, dims);
}

Value *node_transpose(NodeCtx *c, Value *x, uint32_t rank, const int64_t *perm) {
  bool identity = x && rank == x->type->rank;
  for (uint32_t i = 0; i < rank; i++) identity &= perm[i] == i;
  if (!x || identity) return x;
  Op *op = node_op(c, OP_TRANSPOSE, 1, &x);
  op_set_ints(op, A_TRANSPOSE_perm, rank, perm);
  return node_done(c, op);
}

Value *node_expand(NodeCtx *c, Value *x, uint32_t rank, const int64_t *dims) {
  if (!x || same_dims(x->type, rank, dims)) return x;
  return node_given(c, node_op(c, OP_EXPAND, 1, &x), x->type->dtype, rank, dims);
}

Value *node_cast(NodeCtx *c, Value *x, DType t) {
  if (!x || x->type->dtype == t) return x;
  return node_given(c, node_op(c, OP_CAST, 1, &x), t, x->type->rank, x->type->dims);
}

Value *node_slice(NodeCtx *c, Value *x, const int64_t *starts, const int64_t *steps, const int64_t *counts) {
  if (!x) return NULL;
  uint32_t rank = x->type->rank;
  bool whole = same_dims(x->type, rank, counts), ones = true;
  for (uint32_t i = 0; i < rank; i++) {
    whole &= starts[i] == 0 && (!steps || steps[i] == 1);
    ones &= !steps || steps[i] == 1;
  }
  if (whole) return x;
  Op *op = node_op(c, OP_SLICE, 1, &x);
  op_set_ints(op, A_SLICE_starts, rank, starts);
  if (!ones) op_set_ints(op, A_SLICE_steps, rank, steps);
  return node_given(c, op, x->type->dtype, rank, counts);
}

Value *node_concat(NodeCtx *c, uint32_t n, Value *const *in, int64_t axis) {
  for (uint32_t i = 0; i < n; i++)
    if (!in[i]) return NULL;
  if (n == 1) return in[0];
  Op *op = node_op(c, OP_CONCAT, n, in);
  op_set_int(op, A_CONCAT_axis, axis);
  return node_done(c, op);
}

Value *node_reduce(NodeCtx *c, Value *x, EnumValue kind, uint32_t n, const int64_t *axes, bool keepdims) {
  if (!x) return NULL;
  Op *op = node_op(c, OP_REDUCE, 1, &x);
  op_set_int(op, A_REDUCE_op, kind);
  op_set_ints(op, A_REDUCE_axes, n, axes);
  op_set_int(op, A_REDUCE_keepdims, keepdims);
  return node_done(c, op);
}

Value *node_matmul(NodeCtx *c, Value *a, Value *b, Value *bias, bool trans_a, bool trans_b) {
  if (!a || !b) return NULL;
  Op *op = node_op(c, OP_MATMUL, bias ? 3 : 2, (Value *[]){a, b, bias});
  if (trans_a) op_set_int(op, A_MATMUL_trans_a, 1);
  if (trans_b) op_set_int(op, A_MATMUL_trans_b, 1);
  return node_done(c, op);
}

Value *node_scalar(NodeCtx *c, DType t, double v) { return const_splat(c->m, type_scalar(c->m->types, t), v); }

Value *node_ints(NodeCtx *c, uint32_t n, const int64_t *v) {
  int64_t dims[1] = {n};
  return const_bytes(c->m, type_tensor(c->m->types, DT_I64, 1, dims), v, NULL);
}

Value *node_iota(NodeCtx *c, int64_t n) {
  const Type *t = node_type(c, DT_I64, 1, &n);
  return t ? const_generated(c->m, t, CONST_IOTA, 0, 0, NULL) : NULL;
}

bool node_result(NodeCtx *c, Value *v) {
  if (v) c->out[0] = v;
  return v != NULL;
}
