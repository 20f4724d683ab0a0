// Importers of operators that reshape or permute: Reshape, Squeeze, Unsqueeze, Flatten, Transpose, DepthToSpace,
// SpaceToDepth, Expand, Shape, Size. Target shapes must be constant once everything before was folded.
#include <string.h>

#include "frontend/onnx_node.h"

// A list that is an attribute up to opset `until` and input 1 after. *v NULL when it is not given.
static bool list_of(NodeCtx *c, const char *name, int64_t until, const int64_t **v, uint32_t *n) {
  *v = NULL;
  *n = 0;
  if (c->opset <= until) {
    *v = attr_ints(c, name, n);
    return attrs_ok(c);
  }
  return !node_in(c, 1) || node_const_ints(c, 1, v, n);
}

// ---- reshape

// The extent of a -1: elements of `from` divided by those of the other dims. Symbols cancel pairwise; one may be left.
static bool reshape_rest(NodeCtx *c, const Type *from, uint32_t rank, int64_t *dims, uint32_t hole) {
  int64_t have = 1, used = 1, left = 0;
  bool taken[MAX_RANK] = {0};
  for (uint32_t i = 0; i < from->rank; i++) {
    if (from->dims[i] >= 0) {
      have *= from->dims[i];
      continue;
    }
    bool cancelled = false;
    for (uint32_t k = 0; k < rank && !cancelled; k++)
      if (!taken[k] && dims[k] == from->dims[i] && k != hole) cancelled = taken[k] = true;
    if (!cancelled && left != 0) return node_need_static(c, c->in[0], "the extent of -1");
    if (!cancelled) left = from->dims[i];
  }
  for (uint32_t k = 0; k < rank; k++)
    if (k != hole && dims[k] >= 0 && !size_mul(used, dims[k], &used))
      return node_refuse(c, "the shape has too many elements");
  if (left != 0 && have == used) {
    dims[hole] = left;
    return true;
  }
  if (left != 0) return node_need_static(c, c->in[0], "the extent of -1");
  if (used == 0 || have % used != 0)
    return node_refuse(c, "%lld elements do not divide into rows of %lld", (long long)have, (long long)used);
  dims[hole] = have / used;
  return true;
}

bool import_reshape(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  const int64_t *shape;
  uint32_t n, hole = UINT32_MAX;
  int64_t dims[MAX_RANK];
  if (!list_of(c, "shape", 4, &shape, &n)) return false;
  if (!shape) return node_refuse(c, "the shape is missing");
  if (n > MAX_RANK) return node_refuse(c, "a shape of rank %u; qcc takes tensors up to rank %d", n, MAX_RANK);
  bool copy_zero = attr_int(c, "allowzero", 0) == 0;
  for (uint32_t i = 0; i < n; i++) {
    dims[i] = shape[i];
    if (shape[i] < -1) return node_refuse(c, "shape[%u] is %lld", i, (long long)shape[i]);
    if (shape[i] == -1 && hole != UINT32_MAX) return node_refuse(c, "the shape has more than one -1");
    if (shape[i] == -1) hole = i;
    if (shape[i] == 0 && copy_zero && i >= x->rank)
      return node_refuse(c, "shape[%u] is 0, the input has only rank %u", i, x->rank);
    if (shape[i] == 0 && copy_zero) dims[i] = x->dims[i];
  }
  if (hole != UINT32_MAX) {
    dims[hole] = 0;
    if (!reshape_rest(c, x, n, dims, hole)) return false;
  }
  return node_result(c, node_reshape(c, c->in[0], n, dims));
}

bool import_flatten(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  int64_t axis = attr_int(c, "axis", 1), dims[2] = {1, 1}, symbol[2] = {0, 0};
  if (axis < -(int64_t)x->rank || axis > x->rank)
    return node_refuse(c, "axis %lld is outside a tensor of rank %u", (long long)axis, x->rank);
  if (axis < 0) axis += x->rank;
  for (uint32_t i = 0; i < x->rank; i++) {
    int side = i >= axis;
    if (x->dims[i] >= 0) {
      dims[side] *= x->dims[i];
    } else if (symbol[side] == 0) {
      symbol[side] = x->dims[i];
    } else {
      return node_need_static(c, c->in[0], "flattening");
    }
  }
  for (int side = 0; side < 2; side++) {
    if (symbol[side] == 0) continue;
    if (dims[side] != 1) return node_need_static(c, c->in[0], "flattening");
    dims[side] = symbol[side];
  }
  return node_result(c, node_reshape(c, c->in[0], 2, dims));
}

bool import_squeeze(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  const int64_t *axes;
  uint32_t n, rank = 0;
  int64_t dims[MAX_RANK];
  bool gone[MAX_RANK] = {0};
  if (!list_of(c, "axes", 12, &axes, &n)) return false;
  for (uint32_t i = 0, axis; i < n; i++) {
    if (!node_axis(c, axes[i], x->rank, &axis)) return false;
    if (x->dims[axis] != 1) return node_refuse(c, "axis %u has extent %lld, not 1", axis, (long long)x->dims[axis]);
    gone[axis] = true;
  }
  for (uint32_t i = 0; i < x->rank; i++)
    if (axes ? !gone[i] : x->dims[i] != 1) dims[rank++] = x->dims[i];
  return node_result(c, node_reshape(c, c->in[0], rank, dims));
}

bool import_unsqueeze(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  const int64_t *axes;
  uint32_t n, at = 0;
  int64_t dims[MAX_RANK];
  bool added[MAX_RANK] = {0};
  if (!list_of(c, "axes", 12, &axes, &n)) return false;
  if (!axes) return node_refuse(c, "axes are missing");
  if (n > MAX_RANK - x->rank)
    return node_refuse(c, "the result would have rank %u; qcc takes tensors up to rank %d", x->rank + n, MAX_RANK);
  for (uint32_t i = 0, axis; i < n; i++) {
    if (!node_axis(c, axes[i], x->rank + n, &axis)) return false;
    if (added[axis]) return node_refuse(c, "axes name axis %u twice", axis);
    added[axis] = true;
  }
  for (uint32_t i = 0; i < x->rank + n; i++) dims[i] = added[i] ? 1 : x->dims[at++];
  return node_result(c, node_reshape(c, c->in[0], x->rank + n, dims));
}

// ---- transpose and friends

bool import_transpose(NodeCtx *c) {
  uint32_t n, rank = c->in[0]->type->rank;
  const int64_t *perm = attr_ints(c, "perm", &n);
  int64_t reversed[MAX_RANK];
  bool seen[MAX_RANK] = {0};
  if (!perm) {
    for (uint32_t i = 0; i < rank; i++) reversed[i] = rank - 1 - i;
    return node_result(c, node_transpose(c, c->in[0], rank, reversed));
  }
  if (n != rank) return node_refuse(c, "perm has %u elements for a tensor of rank %u", n, rank);
  for (uint32_t i = 0; i < n; i++) {
    if (perm[i] < 0 || perm[i] >= rank || seen[perm[i]]) return node_refuse(c, "perm is not a permutation");
    seen[perm[i]] = true;
  }
  return node_result(c, node_transpose(c, c->in[0], rank, perm));
}

// x[N,C,H,W] and its blocksize; C (or H and W) must divide.
static bool block_operand(NodeCtx *c, int64_t *b) {
  const Type *x = c->in[0]->type;
  *b = attr_int(c, "blocksize", 0);
  if (x->rank != 4) return node_refuse(c, "the input must have rank 4, it has rank %u", x->rank);
  if (*b < 1 || *b > 1 << 20) return node_refuse(c, "blocksize is %lld", (long long)*b);
  return node_need_static(c, c->in[0], "the result");
}

bool import_depth_to_space(NodeCtx *c) {
  int64_t b;
  if (!block_operand(c, &b)) return false;
  const int64_t *d = c->in[0]->type->dims;
  const char *mode = attr_str(c, "mode", "DCR");
  bool crd = strcmp(mode, "CRD") == 0;
  if (!crd && strcmp(mode, "DCR") != 0) return node_refuse(c, "attribute mode is '%s', expected DCR or CRD", mode);
  int64_t depth = d[1] / (b * b);
  if (d[1] % (b * b) != 0)
    return node_refuse(c, "%lld channels do not divide by %lld", (long long)d[1], (long long)(b * b));
  int64_t dcr_dims[6] = {d[0], b, b, depth, d[2], d[3]}, crd_dims[6] = {d[0], depth, b, b, d[2], d[3]};
  static const int64_t dcr_perm[6] = {0, 3, 4, 1, 5, 2}, crd_perm[6] = {0, 1, 4, 2, 5, 3};
  Value *y = node_reshape(c, c->in[0], 6, crd ? crd_dims : dcr_dims);
  y = node_transpose(c, y, 6, crd ? crd_perm : dcr_perm);
  return node_result(c, node_reshape(c, y, 4, (int64_t[]){d[0], depth, d[2] * b, d[3] * b}));
}

bool import_space_to_depth(NodeCtx *c) {
  int64_t b;
  if (!block_operand(c, &b)) return false;
  const int64_t *d = c->in[0]->type->dims;
  if (d[2] % b != 0 || d[3] % b != 0)
    return node_refuse(c, "an image of %lld by %lld does not divide by %lld", (long long)d[2], (long long)d[3],
                       (long long)b);
  Value *y = node_reshape(c, c->in[0], 6, (int64_t[]){d[0], d[1], d[2] / b, b, d[3] / b, b});
  y = node_transpose(c, y, 6, (int64_t[]){0, 3, 5, 1, 2, 4});
  return node_result(c, node_reshape(c, y, 4, (int64_t[]){d[0], d[1] * b * b, d[2] / b, d[3] / b}));
}

// ---- shapes as values

bool import_expand(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  const int64_t *shape;
  uint32_t n, rank;
  int64_t dims[MAX_RANK];
  if (!node_const_ints(c, 1, &shape, &n)) return false;
  if (n > MAX_RANK) return node_refuse(c, "a shape of rank %u; qcc takes tensors up to rank %d", n, MAX_RANK);
  for (uint32_t i = 0; i < n; i++)
    if (shape[i] < 0) return node_refuse(c, "shape[%u] is %lld", i, (long long)shape[i]);
  if (!dims_broadcast(x->rank, x->dims, n, shape, &rank, dims))
    return node_refuse(c, "%s does not broadcast to the shape given", type_text(c->m->arena, c->m->types, x));
  return node_result(c, node_expand(c, c->in[0], rank, dims));
}

bool import_shape(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  int64_t rank = x->rank, start = attr_int(c, "start", 0), end = attr_int(c, "end", INT64_MAX);
  if (start < 0) start = start < -rank ? 0 : start + rank;
  if (end < 0) end = end < -rank ? 0 : end + rank;
  if (start > rank) start = rank;
  if (end > rank) end = rank;
  if (end < start) end = start;
  for (int64_t i = start; i < end; i++)
    if (x->dims[i] < 0) return node_need_static(c, c->in[0], "a shape used as a value");
  return node_result(c, node_ints(c, (uint32_t)(end - start), x->dims + start));
}

bool import_size(NodeCtx *c) {
  if (!node_need_static(c, c->in[0], "a size used as a value")) return false;
  return node_result(c, const_splat_int(c->m, type_scalar(c->m->types, DT_I64), type_count(c->in[0]->type)));
}
