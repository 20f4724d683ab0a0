// Importers of element-wise operators: the generic one for rows that are one graph op, and those whose attributes or
// inputs moved over the opsets (Clip, Cast, PRelu, variadic Sum/Min/Max/Mean, ...).
#include <math.h>
#include <string.h>

#include "frontend/onnx_node_float8.h"

// Opsets 1 to 6: B is aligned at `axis` of A when `broadcast` is set.
static Value *legacy_operand(NodeCtx *c, Value *a, Value *b) {
  int64_t axis = attr_int(c, "axis", INT64_MAX);
  if (attr_int(c, "broadcast", 0) == 0 || axis == INT64_MAX) return b;
  uint32_t at, ra = a->type->rank, rb = b->type->rank;
  int64_t dims[MAX_RANK];
  if (!node_axis(c, axis, ra, &at)) return NULL;
  if (at + rb > ra) {
    node_refuse(c, "axis %lld does not align operands of rank %u and %u", (long long)axis, ra, rb);
    return NULL;
  }
  for (uint32_t i = 0; i < ra - at; i++) dims[i] = i < rb ? b->type->dims[i] : 1;
  return node_reshape(c, b, ra - at, dims);
}

bool import_same(NodeCtx *c) {
  Value *in[3];
  for (uint32_t i = 0; i < c->n_in; i++) in[i] = c->in[i];
  if (c->n_in == 2 && c->opset < 7 && !(in[1] = legacy_operand(c, in[0], in[1]))) return false;
  const OpInfo *info = op_info(c->row->op);
  Op *op = node_op(c, c->row->op, c->n_in, in);
  for (uint32_t i = 0; i < info->n_attrs; i++)
    if (info->attrs[i].kind == ATTR_FLOAT && attr_has(c, info->attrs[i].name))
      op_set_float(op, (int)i, (float)attr_float(c, info->attrs[i].name, 0));
  return node_result(c, node_done(c, op));
}

// Integers are computed in float and cut back.
bool import_shrink(NodeCtx *c) {
  DType t = c->in[0]->type->dtype;
  Value *x = dtype_is_float(t) ? c->in[0] : node_cast(c, c->in[0], dtype_info(t)->bits < 32 ? DT_F32 : DT_F64);
  if (!x) return false;
  Op *op = node_op(c, OP_SHRINK, 1, &x);
  op_set_float(op, A_SHRINK_lambd, (float)attr_float(c, "lambd", 0.5));
  op_set_float(op, A_SHRINK_bias, (float)attr_float(c, "bias", 0));
  Value *y = node_done(c, op);
  return node_result(c, y ? node_cast(c, y, t) : NULL);
}

bool import_selu(NodeCtx *c) {
  Op *op = node_op(c, OP_SELU, 1, c->in);
  op_set_float(op, A_SELU_alpha, attr_float(c, "alpha", c->opset < 6 ? 1.6732 : 1.67326319217681884765625));
  op_set_float(op, A_SELU_gamma, attr_float(c, "gamma", c->opset < 6 ? 1.0507 : 1.05070102214813232421875));
  return node_result(c, node_done(c, op));
}

bool import_gelu(NodeCtx *c) {
  const char *how = attr_str(c, "approximate", "none");
  if (strcmp(how, "none") == 0) return node_result(c, node_emit1(c, OP_GELU, c->in[0]));
  if (strcmp(how, "tanh") == 0) return node_result(c, node_emit1(c, OP_GELU_TANH, c->in[0]));
  return node_refuse(c, "attribute approximate is '%s', expected none or tanh", how);
}

bool import_isinf(NodeCtx *c) {
  Op *op = node_op(c, OP_ISINF, 1, c->in);
  op_set_float(op, A_ISINF_negative, attr_int(c, "detect_negative", 1) != 0);
  op_set_float(op, A_ISINF_positive, attr_int(c, "detect_positive", 1) != 0);
  return node_result(c, node_done(c, op));
}

bool import_mod(NodeCtx *c) {
  bool fmod = attr_int(c, "fmod", 0) != 0;
  if (!fmod && dtype_is_float(c->in[0]->type->dtype) && c->opset < 27)
    return node_refuse(c, "float operands need fmod = 1");
  return node_result(c, node_emit(c, fmod ? OP_FMOD : OP_MOD, 2, c->in));
}

bool import_bitshift(NodeCtx *c) {
  const char *dir = attr_str(c, "direction", "");
  if (strcmp(dir, "LEFT") == 0) return node_result(c, node_emit(c, OP_SHL, 2, c->in));
  if (strcmp(dir, "RIGHT") == 0) return node_result(c, node_emit(c, OP_SHR, 2, c->in));
  return node_refuse(c, "attribute direction is '%s', expected LEFT or RIGHT", dir);
}

// Opset 1 to 6: a one-dimensional slope belongs to the channels (axis 1).
bool import_prelu(NodeCtx *c) {
  Value *x = c->in[0], *slope = c->in[1];
  if (c->opset < 7 && slope->type->rank == 1 && x->type->rank > 2) {
    int64_t dims[MAX_RANK] = {slope->type->dims[0], 1, 1, 1, 1, 1, 1, 1};
    slope = node_reshape(c, slope, x->type->rank - 1, dims);
  }
  return node_result(c, node_emit2(c, OP_PRELU, x, slope));
}

// ---- clip

static double lowest(DType t) {
  if (!dtype_is_float(t)) return (double)dtype_min(t);
  return -INFINITY;
}

bool import_clip(NodeCtx *c) {
  Value *x = c->in[0], *lo = node_in(c, 1), *hi = node_in(c, 2);
  DType t = x->type->dtype;
  if (c->opset < 11) {
    if (c->n_in > 1) return node_refuse(c, "limits are attributes before opset 11");
    if (attr_has(c, "min")) lo = node_scalar(c, t, attr_float(c, "min", 0));
    if (attr_has(c, "max")) hi = node_scalar(c, t, attr_float(c, "max", 0));
  }
  for (uint32_t i = 0; i < 2; i++) {
    Value *v = i ? hi : lo;
    if (v && v->type->rank == 1 && v->type->dims[0] == 1 && !(v = node_reshape(c, v, 0, NULL))) return false;
    if (v && v->type->rank != 0) return node_refuse(c, "the limits must be numbers");
    *(i ? &hi : &lo) = v;
  }
  if (!lo && !hi) return node_result(c, x);
  if (!lo && dtype_is_float(t)) return node_result(c, node_emit2(c, OP_MIN, x, hi));
  if (!hi && dtype_is_float(t)) return node_result(c, node_emit2(c, OP_MAX, x, lo));
  if (!lo)
    lo = dtype_is_int(t) ? const_splat_int(c->m, type_scalar(c->m->types, t), dtype_min(t))
                         : node_scalar(c, t, lowest(t));
  if (!hi) return node_result(c, node_emit2(c, OP_MAX, x, lo));
  return node_result(c, node_emit3(c, OP_CLIP, x, lo, hi));
}

// ---- casts

// Names of TensorProto.DataType, which Cast took before opset 6.
static int64_t dtype_by_onnx_name(const char *s) {
  static const char *const names[] = {"FLOAT",  "UINT8", "INT8",    "UINT16", "INT16",  "INT32", "INT64",
                                      "STRING", "BOOL",  "FLOAT16", "DOUBLE", "UINT32", "UINT64"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i], s) == 0) return (int64_t)i + 1;
  return 0;
}

static bool cast_to(NodeCtx *c, DType t) {
  if (t == DT_STR || t == DT_NONE)
    return node_unsupported(c, "conversion to %s", t ? dtype_info(t)->name : "an unknown type");
  bool saturate = attr_int(c, "saturate", 1) != 0;
  if (strcmp(attr_str(c, "round_mode", "up"), "up") != 0) return node_unsupported(c, "round_mode other than up");
  Value *x = c->in[0];
  if (x->type->dtype == t) return node_result(c, x);
  if (is_small_float(x->type->dtype)) x = small_float_decode(c, x);
  if (is_small_float(t)) return node_result(c, x ? small_float_encode(c, x, t, saturate) : NULL);
  if (!x) return false;
  // Floats outside a 2-bit or 4-bit integer wrap: ONNX converts by way of a byte.
  if (dtype_is_int(t) && dtype_info(t)->bits < 8 && dtype_is_float(x->type->dtype)) x = node_cast(c, x, DT_I8);
  return node_result(c, x ? node_cast(c, x, t) : NULL);
}

bool import_cast(NodeCtx *c) {
  if (!attr_has(c, "to")) return node_refuse(c, "attribute to is missing");
  int64_t to = c->opset < 6 ? dtype_by_onnx_name(attr_str(c, "to", "")) : attr_int(c, "to", 0);
  return attrs_ok(c) && cast_to(c, dtype_by_onnx(to));
}

bool import_bitcast(NodeCtx *c) {
  DType t = dtype_by_onnx(attr_int(c, "to", 0));
  Value *x = c->in[0];
  if (t == DT_NONE || t == DT_STR) return node_unsupported(c, "an unknown type");
  if (x->type->dtype == t) return node_result(c, x);
  return node_result(c, node_given(c, node_op(c, OP_BITCAST, 1, &x), t, x->type->rank, x->type->dims));
}

bool import_cast_like(NodeCtx *c) { return cast_to(c, c->in[1]->type->dtype); }

// ---- variadic and identities

bool import_variadic(NodeCtx *c) {
  Value *acc = c->in[0];
  for (uint32_t i = 1; i < c->n_in && acc; i++) {
    if (!c->in[i]) return node_refuse(c, "input %u is missing", i);
    acc = node_emit2(c, c->row->op, acc, c->in[i]);
  }
  return node_result(c, acc);
}

bool import_mean(NodeCtx *c) {
  if (!import_variadic(c)) return false;
  Value *sum = c->out[0];
  if (c->n_in == 1) return true;
  return node_result(c, node_emit2(c, OP_DIV, sum, node_scalar(c, sum->type->dtype, c->n_in)));
}

bool import_identity(NodeCtx *c) { return node_result(c, c->in[0]); }

bool import_dropout(NodeCtx *c) {
  attr_ignore(c, "ratio");
  attr_ignore(c, "seed");
  attr_ignore(c, "is_test");
  Value *x = c->in[0], *training = node_in(c, 2), *ratio = node_in(c, 1);
  if (training && !value_is_const(training)) return node_unsupported(c, "training_mode is not constant");
  bool random = training && const_i(c->m, training->constant, 0) != 0;
  if (random && ratio && value_is_const(ratio) && const_f(c->m, ratio->constant, 0) == 0) random = false;
  if (random) return node_unsupported(c, "training mode");
  c->out[0] = x;
  if (!node_wants(c, 1)) return true;
  if (!node_need_static(c, x, "the mask")) return false;
  c->out[1] = const_splat(c->m, type_with_dtype(c->m->types, x->type, c->opset < 10 ? x->type->dtype : DT_BOOL), 1);
  return true;
}
