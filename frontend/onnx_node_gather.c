// Importers of indexed access: Gather*, Scatter*, OneHot, Trilu, ReverseSequence.
#include <string.h>

#include "frontend/onnx_node.h"

// Constant indices lie inside the axes they index; an index tuple has one component per axis.
static bool indices_fit(NodeCtx *c, const Value *indices, uint32_t n_axes, const int64_t *dims) {
  if (!value_is_const(indices) || !dtype_is_int(indices->type->dtype)) return true;
  int64_t n = type_count(indices->type);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = const_i(c->m, indices->constant, i), extent = dims[(uint64_t)i % n_axes];
    if (extent >= 0 && (at < -extent || at >= extent))
      return node_refuse(c, "constant index %lld is outside an axis of length %lld", (long long)at, (long long)extent);
  }
  return true;
}

// The same for one axis; a wrong axis is reported by inference.
static bool axis_indices_fit(NodeCtx *c, int64_t axis) {
  const Type *t = c->in[0]->type;
  if (axis < 0) axis += t->rank;
  return axis < 0 || axis >= t->rank || indices_fit(c, c->in[1], 1, &t->dims[axis]);
}

// For index tuples in the last axis, behind `batch` axes.
static bool tuple_indices_fit(NodeCtx *c, int64_t batch) {
  const Type *t = c->in[0]->type, *i = c->in[1]->type;
  int64_t n = i->rank ? i->dims[i->rank - 1] : 0;
  return batch < 0 || n < 1 || batch + n > t->rank || indices_fit(c, c->in[1], (uint32_t)n, t->dims + batch);
}

static bool with_axis(NodeCtx *c, OpKind kind, int slot) {
  int64_t axis = attr_int(c, "axis", 0);
  if (!axis_indices_fit(c, axis)) return false;
  Op *op = node_op(c, kind, c->n_in, c->in);
  op_set_int(op, slot, axis);
  return node_result(c, node_done(c, op));
}

bool import_gather(NodeCtx *c) { return with_axis(c, OP_GATHER, A_GATHER_axis); }
bool import_gather_elements(NodeCtx *c) { return with_axis(c, OP_GATHER_ELEMENTS, A_GATHER_ELEMENTS_axis); }

bool import_gather_nd(NodeCtx *c) {
  int64_t batch = attr_int(c, "batch_dims", 0);
  if (!tuple_indices_fit(c, batch)) return false;
  Op *op = node_op(c, OP_GATHER_ND, 2, c->in);
  op_set_int(op, A_GATHER_ND_batch_dims, batch);
  return node_result(c, node_done(c, op));
}

static bool scatter_kind(NodeCtx *c, EnumValue *kind) {
  const char *s = attr_str(c, "reduction", "none");
  *kind = enum_by_name("SCATTER", s);
  return *kind != ENUM_NONE || node_refuse(c, "attribute reduction is '%s'", s);
}

bool import_scatter_elements(NodeCtx *c) {
  EnumValue kind;
  int64_t axis = attr_int(c, "axis", 0);
  if (!scatter_kind(c, &kind) || !axis_indices_fit(c, axis)) return false;
  Op *op = node_op(c, OP_SCATTER_ELEMENTS, 3, c->in);
  op_set_int(op, A_SCATTER_ELEMENTS_axis, axis);
  op_set_int(op, A_SCATTER_ELEMENTS_reduction, kind);
  return node_result(c, node_done(c, op));
}

bool import_scatter_nd(NodeCtx *c) {
  EnumValue kind;
  if (!scatter_kind(c, &kind) || !tuple_indices_fit(c, 0)) return false;
  Op *op = node_op(c, OP_SCATTER_ND, 3, c->in);
  op_set_int(op, A_SCATTER_ND_reduction, kind);
  return node_result(c, node_done(c, op));
}

bool import_one_hot(NodeCtx *c) {
  Value *depth_in = c->in[1], *index = c->in[0];
  int64_t depth;
  if (dtype_is_float(depth_in->type->dtype)) {
    double d;
    if (!node_const_float(c, 1, &d)) return false;
    if (!(d >= 0 && d < (double)MAX_ELEMS)) return node_refuse(c, "depth is %g", d);
    depth = (int64_t)d;
  } else if (!node_const_int(c, 1, &depth)) {
    return false;
  }
  if (dtype_is_float(index->type->dtype)) index = node_cast(c, index, DT_I64);
  if (!index) return false;
  Op *op = node_op(c, OP_ONE_HOT, 2, (Value *[]){index, c->in[2]});
  op_set_int(op, A_ONE_HOT_axis, attr_int(c, "axis", -1));
  op_set_int(op, A_ONE_HOT_depth, depth);
  return node_result(c, node_done(c, op));
}

// A diagonal known only at run time: compare column - row with it.
static bool trilu_masked(NodeCtx *c, bool upper) {
  const Type *x = c->in[0]->type;
  if (x->rank < 2) return node_refuse(c, "the input must have rank 2 or more");
  if (!node_need_static(c, c->in[0], "the mask")) return false;
  if (!type_is_static(c->in[1]->type) || type_count(c->in[1]->type) != 1) return node_refuse(c, "k must be one number");
  int64_t rows = x->dims[x->rank - 2], columns = x->dims[x->rank - 1];
  Value *row = node_reshape(c, node_iota(c, rows), 2, (int64_t[]){rows, 1});
  Value *distance = node_emit2(c, OP_SUB, node_iota(c, columns), row);
  Value *k = node_reshape(c, node_cast(c, c->in[1], DT_I64), 0, NULL);
  Value *keep = node_emit2(c, upper ? OP_GREATER_EQUAL : OP_LESS_EQUAL, distance, k);
  return node_result(c, node_emit3(c, OP_SELECT, keep, c->in[0], node_scalar(c, x->dtype, 0)));
}

bool import_trilu(NodeCtx *c) {
  int64_t k = 0;
  bool upper = attr_int(c, "upper", 1) != 0;
  if (node_in(c, 1) && !value_is_const(c->in[1])) return trilu_masked(c, upper);
  if (node_in(c, 1) && !node_const_int(c, 1, &k)) return false;
  Op *op = node_op(c, OP_TRILU, 1, c->in);
  op_set_int(op, A_TRILU_upper, upper);
  op_set_int(op, A_TRILU_k, k);
  return node_result(c, node_done(c, op));
}

// y[t, b] = x[t < len[b] ? len[b] - 1 - t : t, b]: a gather by index pairs, constant when the lengths are.
bool import_reverse_sequence(NodeCtx *c) {
  Value *x = c->in[0], *len = c->in[1];
  int64_t batch_axis = attr_int(c, "batch_axis", 1), time_axis = attr_int(c, "time_axis", 0);
  if (x->type->rank < 2) return node_refuse(c, "the input must have rank 2 or more");
  if (batch_axis + time_axis != 1 || batch_axis * time_axis != 0)
    return node_refuse(c, "batch_axis %lld and time_axis %lld must be 0 and 1", (long long)batch_axis,
                       (long long)time_axis);
  if (!node_need_static(c, x, "the index")) return false;
  int64_t times = x->type->dims[time_axis], batches = x->type->dims[batch_axis], column[2] = {1, 1}, row[2] = {1, 1};
  if (len->type->rank != 1 || len->type->dims[0] != batches)
    return node_refuse(c, "sequence_lens must have %lld elements", (long long)batches);
  column[time_axis] = times;
  row[batch_axis] = batches;
  Value *t = node_reshape(c, node_iota(c, times), 2, column), *b = node_reshape(c, node_iota(c, batches), 2, row);
  Value *l = node_reshape(c, node_cast(c, len, DT_I64), 2, row), *one = node_scalar(c, DT_I64, 1);
  Value *back = node_emit2(c, OP_SUB, node_emit2(c, OP_SUB, l, one), t);
  Value *index = node_emit3(c, OP_SELECT, node_emit2(c, OP_LESS, t, l), back, t);
  int64_t pair[3] = {x->type->dims[0], x->type->dims[1], 1};
  Value *ti = node_reshape(c, node_expand(c, index, 2, pair), 3, pair);
  Value *bi = node_reshape(c, node_expand(c, b, 2, pair), 3, pair);
  Value *both = node_concat(c, 2, time_axis == 0 ? (Value *[]){ti, bi} : (Value *[]){bi, ti}, 2);
  return node_result(c, node_emit2(c, OP_GATHER_ND, x, both));
}
