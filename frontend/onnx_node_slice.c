// Importers of operators that cut and join: Slice, Split, Concat, Pad, Tile, CenterCropPad, Compress.
#include <string.h>

#include "frontend/onnx_node.h"

// ---- slice

typedef struct SliceArgs {
  const int64_t *starts, *ends, *axes, *steps;
  uint32_t n_starts, n_ends, n_axes, n_steps;
} SliceArgs;

static bool slice_args(NodeCtx *c, SliceArgs *a) {
  memset(a, 0, sizeof *a);
  if (c->opset < 10) {
    a->starts = attr_ints(c, "starts", &a->n_starts);
    a->ends = attr_ints(c, "ends", &a->n_ends);
    a->axes = attr_ints(c, "axes", &a->n_axes);
    if (!attrs_ok(c)) return false;
  } else {
    if (!node_const_ints(c, 1, &a->starts, &a->n_starts) || !node_const_ints(c, 2, &a->ends, &a->n_ends)) return false;
    if (node_in(c, 3) && !node_const_ints(c, 3, &a->axes, &a->n_axes)) return false;
    if (node_in(c, 4) && !node_const_ints(c, 4, &a->steps, &a->n_steps)) return false;
  }
  if (a->n_starts != a->n_ends || (a->axes && a->n_axes != a->n_starts) || (a->steps && a->n_steps != a->n_starts))
    return node_refuse(c, "starts, ends, axes and steps have %u, %u, %u and %u elements", a->n_starts, a->n_ends,
                       a->n_axes, a->n_steps);
  return true;
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

// NumPy slicing of an axis of extent n.
static void slice_axis(int64_t n, int64_t start, int64_t end, int64_t step, int64_t *first, int64_t *count) {
  if (start < 0) start = start < -n ? -1 : start + n;
  if (end < 0) end = end < -n ? -1 : end + n;
  if (step > 0) {
    start = clamp(start, 0, n);
    end = clamp(end, 0, n);
    *count = end > start ? (end - start - 1) / step + 1 : 0;
  } else {
    start = clamp(start, -1, n - 1);
    end = clamp(end, -1, n - 1);
    *count = start > end ? (start - end - 1) / -step + 1 : 0;
  }
  *first = *count ? start : 0;
}

bool import_slice(NodeCtx *c) {
  const Type *x = c->in[0]->type;
  SliceArgs a;
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK], counts[MAX_RANK];
  bool seen[MAX_RANK] = {0};
  if (!slice_args(c, &a)) return false;
  for (uint32_t i = 0; i < x->rank; i++) {
    steps[i] = 1;
    counts[i] = x->dims[i];
  }
  for (uint32_t i = 0, axis; i < a.n_starts; i++) {
    int64_t step = a.steps ? a.steps[i] : 1;
    if (!node_axis(c, a.axes ? a.axes[i] : i, x->rank, &axis)) return false;
    if (seen[axis]) return node_refuse(c, "axes name axis %u twice", axis);
    if (step == 0) return node_refuse(c, "steps[%u] is 0", i);
    seen[axis] = true;
    if (x->dims[axis] < 0 && a.starts[i] == 0 && a.ends[i] >= INT32_MAX && step == 1) continue;
    if (x->dims[axis] < 0) return node_need_static(c, c->in[0], "the slice");
    steps[axis] = clamp(step, -MAX_ELEMS, MAX_ELEMS);
    slice_axis(x->dims[axis], a.starts[i], a.ends[i], steps[axis], &starts[axis], &counts[axis]);
  }
  return node_result(c, node_slice(c, c->in[0], starts, steps, counts));
}

// ---- split and concat

// Extents of the parts: listed, or equal with a smaller last one.
static bool split_parts(NodeCtx *c, int64_t extent, int64_t **parts, uint32_t *n_parts) {
  uint32_t n = 0;
  const int64_t *list = c->opset < 13 ? attr_ints(c, "split", &n) : NULL;
  int64_t asked = attr_int(c, "num_outputs", 0), sum = 0;
  if (node_in(c, 1) && !node_const_ints(c, 1, &list, &n)) return false;
  if (!list) n = asked > 0 && asked <= UINT16_MAX ? (uint32_t)asked : c->n_out;
  if (n < c->n_out || n == 0) return node_refuse(c, "%u parts for %u outputs", n, c->n_out);
  *parts = NEW_ARRAY(c->scratch, int64_t, n);
  *n_parts = n;
  int64_t each = (extent + n - 1) / n;
  if (!list && !asked && extent % n != 0)
    return node_refuse(c, "an extent of %lld does not split into %u equal parts", (long long)extent, n);
  for (uint32_t i = 0; i < n; i++) {
    int64_t part = list ? list[i] : extent - sum < each ? extent - sum : each;
    if (part < 0 || part > extent - sum) return node_refuse(c, "the parts do not add up to %lld", (long long)extent);
    (*parts)[i] = part;
    sum += part;
  }
  return sum == extent || node_refuse(c, "the parts add up to %lld of %lld", (long long)sum, (long long)extent);
}

bool import_split(NodeCtx *c) {
  Value *x = c->in[0];
  uint32_t axis, n;
  int64_t starts[MAX_RANK] = {0}, counts[MAX_RANK], *parts = NULL;
  if (!node_axis(c, attr_int(c, "axis", 0), x->type->rank, &axis)) return false;
  if (x->type->dims[axis] < 0) return node_need_static(c, x, "the split");
  if (!split_parts(c, x->type->dims[axis], &parts, &n)) return false;
  memcpy(counts, x->type->dims, sizeof counts);
  for (uint32_t i = 0; i < c->n_out; i++) {
    counts[axis] = parts[i];
    if (c->wanted[i] && !(c->out[i] = node_slice(c, x, starts, NULL, counts))) return false;
    starts[axis] += parts[i];
  }
  return true;
}

bool import_concat(NodeCtx *c) {
  uint32_t axis, n = 0;
  if (c->opset >= 4 && !attr_has(c, "axis")) return node_refuse(c, "attribute axis is missing");
  if (!node_axis(c, attr_int(c, "axis", 1), c->in[0]->type->rank, &axis)) return false;
  Value **in = NEW_ARRAY(c->scratch, Value *, c->n_in);
  for (uint32_t i = 0; i < c->n_in; i++) {
    if (!c->in[i]) return node_refuse(c, "input %u is missing", i);
    const Type *t = c->in[i]->type;
    if (t->rank == 1 && t->dims[0] == 0 && t->dtype == c->in[0]->type->dtype && c->n_in - i + n > 1) continue;
    in[n++] = c->in[i];
  }
  return node_result(c, node_concat(c, n, in, axis));
}

// ---- pad

static bool pad_mode(NodeCtx *c, EnumValue *mode) {
  const char *s = attr_str(c, "mode", "constant");
  *mode = enum_by_name("PAD", s);
  return *mode != ENUM_NONE || node_refuse(c, "attribute mode is '%s'", s);
}

// Begins and ends for the listed axes, spread to all axes.
static bool pad_lists(NodeCtx *c, int64_t out[2 * MAX_RANK]) {
  uint32_t n = 0, n_axes = 0, rank = c->in[0]->type->rank;
  const int64_t *pads = NULL, *axes = NULL;
  if (c->opset < 11) {
    pads = attr_ints(c, c->opset < 2 ? "paddings" : "pads", &n);
  } else if (!node_const_ints(c, 1, &pads, &n) || (node_in(c, 3) && !node_const_ints(c, 3, &axes, &n_axes))) {
    return false;
  }
  uint32_t count = axes ? n_axes : rank;
  if (n != 2 * count) return node_refuse(c, "pads has %u elements, expected %u", n, 2 * count);
  memset(out, 0, 2 * MAX_RANK * sizeof *out);
  for (uint32_t i = 0, axis; i < count; i++) {
    if (!node_axis(c, axes ? axes[i] : i, rank, &axis)) return false;
    out[axis] = pads[i];
    out[rank + axis] = pads[count + i];
  }
  return true;
}

// The padding number of a constant, 0 by default; *runtime when it is known only at run time.
static bool pad_value(NodeCtx *c, double *v, Value **runtime) {
  Value *k = c->opset < 11 ? NULL : node_in(c, 2);
  *v = c->opset < 11 ? attr_float(c, "value", 0) : 0;
  *runtime = NULL;
  if (!k) return true;
  if (!type_is_static(k->type) || type_count(k->type) != 1) return node_refuse(c, "the padding value must be a number");
  if (!value_is_const(k)) {
    *runtime = node_reshape(c, k, 0, NULL);
    return *runtime != NULL;
  }
  *v = dtype_is_float(k->type->dtype) ? const_f(c->m, k->constant, 0) : (double)const_i(c->m, k->constant, 0);
  return true;
}

static Value *padded(NodeCtx *c, Value *x, const int64_t *pads, EnumValue mode, double value) {
  if (!x) return NULL;
  Op *op = node_op(c, OP_PAD, 1, &x);
  op_set_ints(op, A_PAD_pads, 2 * x->type->rank, pads);
  op_set_int(op, A_PAD_mode, mode);
  op_set_float(op, A_PAD_value, value);
  return node_done(c, op);
}

bool import_pad(NodeCtx *c) {
  int64_t pads[2 * MAX_RANK];
  EnumValue mode;
  double value;
  Value *runtime, *x = c->in[0];
  if (!pad_mode(c, &mode) || !pad_lists(c, pads) || !pad_value(c, &value, &runtime)) return false;
  bool any = false;
  for (uint32_t i = 0; i < 2 * x->type->rank; i++) any |= pads[i] != 0;
  if (!any) return node_result(c, x);
  Value *y = padded(c, x, pads, mode, value);
  if (!runtime || mode != PAD_CONSTANT || !y) return node_result(c, y);
  if (!node_need_static(c, x, "the mask")) return false;
  Value *inside = const_splat(c->m, type_with_dtype(c->m->types, x->type, DT_BOOL), 1);
  return node_result(c, node_emit3(c, OP_SELECT, padded(c, inside, pads, mode, 0), y, runtime));
}

// Crops or pads around the centre to the given extents.
bool import_center_crop_pad(NodeCtx *c) {
  Value *x = c->in[0];
  uint32_t n, n_axes, rank = x->type->rank;
  const int64_t *shape, *axes = attr_ints(c, "axes", &n_axes);
  int64_t starts[MAX_RANK] = {0}, counts[MAX_RANK], pads[2 * MAX_RANK] = {0};
  if (!node_const_ints(c, 1, &shape, &n) || !node_need_static(c, x, "the result")) return false;
  if (n != (axes ? n_axes : rank)) return node_refuse(c, "%u extents for %u axes", n, axes ? n_axes : rank);
  memcpy(counts, x->type->dims, sizeof counts);
  for (uint32_t i = 0, axis; i < n; i++) {
    if (!node_axis(c, axes ? axes[i] : i, rank, &axis)) return false;
    int64_t have = x->type->dims[axis], want = shape[i];
    if (want < 0 || want > MAX_ELEMS) return node_refuse(c, "shape[%u] is %lld", i, (long long)want);
    if (want < have) {
      starts[axis] = (have - want) / 2;
      counts[axis] = want;
    } else {
      pads[axis] = (want - have) / 2;
      pads[rank + axis] = want - have - pads[axis];
    }
  }
  return node_result(c, padded(c, node_slice(c, x, starts, NULL, counts), pads, PAD_CONSTANT, 0));
}

// ---- tile and compress

bool import_tile(NodeCtx *c) {
  Value *x = c->in[0];
  uint32_t n, rank = x->type->rank, axis;
  const int64_t *repeats;
  int64_t list[MAX_RANK], times, at;
  bool once = true;
  if (c->opset < 6) {
    if (!node_const_int(c, 1, &times) || !node_const_int(c, 2, &at) || !node_axis(c, at, rank, &axis)) return false;
    for (uint32_t i = 0; i < rank; i++) list[i] = i == axis ? times : 1;
  } else {
    if (!node_const_ints(c, 1, &repeats, &n)) return false;
    if (n != rank) return node_refuse(c, "repeats has %u elements for a tensor of rank %u", n, rank);
    if (rank) memcpy(list, repeats, rank * sizeof *list);
  }
  for (uint32_t i = 0; i < rank; i++) once &= list[i] == 1;
  if (once) return node_result(c, x);
  Op *op = node_op(c, OP_TILE, 1, &x);
  op_set_ints(op, A_TILE_repeats, rank, list);
  return node_result(c, node_done(c, op));
}

// A constant condition makes this a gather.
bool import_compress(NodeCtx *c) {
  Value *x = c->in[0];
  const int64_t *keep;
  uint32_t n, count = 0, axis = 0;
  if (!node_const_ints(c, 1, &keep, &n) || !node_need_static(c, x, "the result")) return false;
  if (!attr_has(c, "axis")) {
    int64_t flat = type_count(x->type);
    if (!(x = node_reshape(c, x, 1, &flat))) return false;
  } else if (!node_axis(c, attr_int(c, "axis", 0), x->type->rank, &axis)) {
    return false;
  }
  if (n > x->type->dims[axis])
    return node_refuse(c, "%u conditions for an extent of %lld", n, (long long)x->type->dims[axis]);
  int64_t *index = NEW_ARRAY(c->scratch, int64_t, n + 1);
  for (uint32_t i = 0; i < n; i++)
    if (keep[i]) index[count++] = i;
  Op *op = node_op(c, OP_GATHER, 2, (Value *[]){x, node_ints(c, count, index)});
  op_set_int(op, A_GATHER_axis, axis);
  return node_result(c, node_done(c, op));
}
