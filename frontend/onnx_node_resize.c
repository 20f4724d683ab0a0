// Importers of Resize (opset 10 on), Upsample (opsets 1 to 9) and AffineGrid: result extents and scales are fixed
// here, sampling grids are constants.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx_node.h"

typedef struct ResizePlan {
  double scales[MAX_RANK], roi[2 * MAX_RANK];
  int64_t dims[MAX_RANK];
  bool has_roi;
} ResizePlan;

static bool resize_mode(NodeCtx *c, const char *s, EnumValue *mode) {
  if (strcmp(s, "bilinear") == 0 || strcmp(s, "trilinear") == 0) s = "linear";
  *mode = enum_by_name("RESIZE", s);
  return *mode != ENUM_NONE || node_refuse(c, "attribute mode is '%s'", s);
}

static Op *resize_op(NodeCtx *c, const ResizePlan *p, EnumValue mode) {
  uint32_t rank = c->in[0]->type->rank;
  Op *op = node_op(c, OP_RESIZE, 1, c->in);
  op_set_int(op, A_RESIZE_mode, mode);
  op_set_floats(op, A_RESIZE_scales, rank, p->scales);
  if (p->has_roi) op_set_floats(op, A_RESIZE_roi, 2 * rank, p->roi);
  return op;
}

static bool resize_done(NodeCtx *c, Op *op, const ResizePlan *p) {
  const Type *x = c->in[0]->type;
  bool same = true;
  for (uint32_t i = 0; i < x->rank; i++) same &= p->scales[i] == 1 && p->dims[i] == x->dims[i];
  if (same && !p->has_roi) {
    op_unlink(op);
    return node_result(c, c->in[0]);
  }
  return node_result(c, node_given(c, op, x->dtype, x->rank, p->dims));
}

// The decimal number a float scale was written as: 0.6f means 0.6, so that coordinates fall where they were meant to.
static double decimal_scale(double v) {
  char text[32];
  text_of_float(text, (float)v);
  return strtod(text, NULL);
}

// Result extents from scales, in float as ONNX Runtime and the standard's own inference compute them.
static bool extents_from_scales(NodeCtx *c, ResizePlan *p, bool crop) {
  const Type *x = c->in[0]->type;
  for (uint32_t i = 0; i < x->rank; i++) {
    double s = p->scales[i];
    p->dims[i] = x->dims[i];
    if (s == 1 && !(crop && p->has_roi)) continue;
    if (x->dims[i] < 0) return node_need_static(c, c->in[0], "the result shape");
    if (!(s > 0) || !isfinite(s)) return node_refuse(c, "scales[%u] is %g, expected a positive number", i, s);
    float n = (float)x->dims[i];
    if (crop && p->has_roi) n *= (float)(p->roi[x->rank + i] - p->roi[i]);
    float out = floorf(n * (float)s);
    if (!(out >= 0 && out < (float)MAX_ELEMS)) return node_refuse(c, "axis %u would have extent %g", i, (double)out);
    p->dims[i] = (int64_t)out;
  }
  return true;
}

// ---- Upsample: nearest takes the floor, coordinates are asymmetric

bool import_upsample(NodeCtx *c) {
  uint32_t n = 0, rank = c->in[0]->type->rank;
  const double *scales = NULL;
  EnumValue mode;
  ResizePlan p = {0};
  if (!resize_mode(c, attr_str(c, "mode", "nearest"), &mode)) return false;
  double image[4] = {1, 1, 1, 1};
  if (c->opset >= 9) {
    if (!node_const_floats(c, 1, &scales, &n)) return false;
  } else if (c->opset >= 7 || attr_has(c, "scales")) {
    scales = attr_floats(c, "scales", &n);
  } else {
    image[2] = attr_float(c, "height_scale", 1);
    image[3] = attr_float(c, "width_scale", 1);
    scales = image;
    n = 4;
  }
  if (n != rank) return node_refuse(c, "scales has %u elements for a tensor of rank %u", n, rank);
  for (uint32_t i = 0; i < n; i++) p.scales[i] = decimal_scale(scales[i]);
  if (!extents_from_scales(c, &p, false)) return false;
  Op *op = resize_op(c, &p, mode);
  op_set_int(op, A_RESIZE_coord, COORD_ASYMMETRIC);
  op_set_int(op, A_RESIZE_nearest, NEAREST_FLOOR);
  return resize_done(c, op, &p);
}

// ---- Resize

typedef struct ResizeAxes {
  uint32_t n, axis[MAX_RANK];
} ResizeAxes;

static bool resize_axes(NodeCtx *c, ResizeAxes *a) {
  uint32_t n, rank = c->in[0]->type->rank;
  const int64_t *axes = attr_ints(c, "axes", &n);
  a->n = axes ? n : rank;
  if (a->n > rank) return node_refuse(c, "%u axes for a tensor of rank %u", a->n, rank);
  for (uint32_t i = 0; i < a->n; i++)
    if (!node_axis(c, axes ? axes[i] : i, rank, &a->axis[i])) return false;
  return true;
}

// keep_aspect_ratio_policy: one scale for all axes, the smaller or larger of those asked for.
static bool keep_aspect(NodeCtx *c, const ResizeAxes *a, ResizePlan *p) {
  const char *policy = attr_str(c, "keep_aspect_ratio_policy", "stretch");
  bool larger = strcmp(policy, "not_smaller") == 0, smaller = strcmp(policy, "not_larger") == 0;
  if (!larger && !smaller)
    return strcmp(policy, "stretch") == 0 || node_refuse(c, "attribute keep_aspect_ratio_policy is '%s'", policy);
  double one = larger ? 0 : INFINITY;
  for (uint32_t i = 0; i < a->n; i++) {
    double s = p->scales[a->axis[i]];
    one = larger ? fmax(one, s) : fmin(one, s);
  }
  for (uint32_t i = 0; i < a->n; i++) {
    uint32_t axis = a->axis[i];
    p->scales[axis] = one;
    p->dims[axis] = (int64_t)floor(one * (double)c->in[0]->type->dims[axis] + 0.5);
  }
  return true;
}

static bool resize_sizes(NodeCtx *c, uint32_t input, const ResizeAxes *a, ResizePlan *p) {
  const int64_t *sizes;
  uint32_t n;
  if (!node_const_ints(c, input, &sizes, &n) || !node_need_static(c, c->in[0], "the scale")) return false;
  if (n != a->n) return node_refuse(c, "sizes has %u elements, expected %u", n, a->n);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t axis = a->axis[i];
    int64_t in = c->in[0]->type->dims[axis];
    if (sizes[i] < 1 || sizes[i] > MAX_ELEMS || in < 1)
      return node_refuse(c, "axis %u cannot go from %lld to %lld", axis, (long long)in, (long long)sizes[i]);
    p->dims[axis] = sizes[i];
    p->scales[axis] = (double)sizes[i] / (double)in;
  }
  return keep_aspect(c, a, p);
}

static bool resize_roi(NodeCtx *c, const ResizeAxes *a, ResizePlan *p) {
  const double *roi;
  uint32_t n, rank = c->in[0]->type->rank;
  if (!node_in(c, 1)) return node_refuse(c, "tf_crop_and_resize needs roi");
  if (!node_const_floats(c, 1, &roi, &n)) return false;
  if (n != 2 * a->n) return node_refuse(c, "roi has %u elements, expected %u", n, 2 * a->n);
  p->has_roi = true;
  for (uint32_t i = 0; i < rank; i++) p->roi[rank + i] = 1;
  for (uint32_t i = 0; i < a->n; i++) {
    p->roi[a->axis[i]] = roi[i];
    p->roi[rank + a->axis[i]] = roi[a->n + i];
  }
  return true;
}

static bool resize_scales(NodeCtx *c, uint32_t input, const ResizeAxes *a, ResizePlan *p, bool crop) {
  const double *scales;
  uint32_t n;
  if (!node_const_floats(c, input, &scales, &n)) return false;
  if (n != a->n) return node_refuse(c, "scales has %u elements, expected %u", n, a->n);
  for (uint32_t i = 0; i < n; i++) p->scales[a->axis[i]] = decimal_scale(scales[i]);
  return extents_from_scales(c, p, crop);
}

// Cropping is defined by the extents; a scale only led to them. (align_corners keeps the fractional length scale *
// input, as the standard's test data has it.)
static void scales_from_extents(const Type *x, ResizePlan *p) {
  for (uint32_t i = 0; i < x->rank; i++)
    if (x->dims[i] > 0 && p->dims[i] > 0) p->scales[i] = (double)p->dims[i] / (double)x->dims[i];
}

static bool is_given(NodeCtx *c, uint32_t i) {
  Value *v = node_in(c, i);
  return v && !(v->type->rank == 1 && v->type->dims[0] == 0);
}

static bool resize_coord(NodeCtx *c, EnumValue *coord, EnumValue *nearest) {
  bool v10 = c->opset < 11;
  const char *s = v10 ? "asymmetric" : attr_str(c, "coordinate_transformation_mode", "half_pixel");
  const char *near = v10 ? "floor" : attr_str(c, "nearest_mode", "round_prefer_floor");
  *coord = enum_by_name("COORD", s);
  *nearest = enum_by_name("NEAREST", near);
  if (*coord == ENUM_NONE) return node_refuse(c, "attribute coordinate_transformation_mode is '%s'", s);
  return *nearest != ENUM_NONE || node_refuse(c, "attribute nearest_mode is '%s'", near);
}

bool import_resize(NodeCtx *c) {
  EnumValue mode, coord, nearest;
  ResizeAxes axes;
  ResizePlan p = {0};
  if (!resize_mode(c, attr_str(c, "mode", "nearest"), &mode) || !resize_coord(c, &coord, &nearest) ||
      !resize_axes(c, &axes))
    return false;
  memcpy(p.dims, c->in[0]->type->dims, sizeof p.dims);
  for (uint32_t i = 0; i < c->in[0]->type->rank; i++) p.scales[i] = 1;
  bool crop = coord == COORD_TF_CROP_AND_RESIZE;
  uint32_t scales = c->opset < 11 ? 1 : 2;
  if (crop && !resize_roi(c, &axes, &p)) return false;
  if (c->opset >= 11 && is_given(c, 3)) {
    if (!resize_sizes(c, 3, &axes, &p)) return false;
  } else if (!is_given(c, scales)) {
    return node_refuse(c, "neither scales nor sizes are given");
  } else if (!resize_scales(c, scales, &axes, &p, crop)) {
    return false;
  }
  if (crop) scales_from_extents(c->in[0]->type, &p);
  Op *op = resize_op(c, &p, mode);
  op_set_int(op, A_RESIZE_coord, coord);
  op_set_int(op, A_RESIZE_nearest, nearest);
  op_set_float(op, A_RESIZE_cubic_a, attr_float(c, "cubic_coeff_a", -0.75));
  op_set_int(op, A_RESIZE_exclude_outside, attr_int(c, "exclude_outside", 0) != 0);
  op_set_int(op, A_RESIZE_antialias, attr_int(c, "antialias", 0) != 0);
  op_set_float(op, A_RESIZE_extrapolation, attr_float(c, "extrapolation_value", 0));
  attr_ignore(c, "keep_aspect_ratio_policy");
  return resize_done(c, op, &p);
}

// ---- AffineGrid: every point of the regular grid (x, y[, z], 1) times theta transposed

static double grid_point(int64_t i, int64_t n, bool corners) {
  if (corners) return n > 1 ? -1 + 2 * (double)i / (double)(n - 1) : -1;
  return (2 * (double)i + 1) / (double)n - 1;
}

bool import_affine_grid(NodeCtx *c) {
  const int64_t *size;
  uint32_t n, space;
  int64_t points = 1, dims[MAX_RANK];
  bool corners = attr_int(c, "align_corners", 0) != 0;
  if (!node_const_ints(c, 1, &size, &n)) return false;
  if (n != 4 && n != 5) return node_refuse(c, "size has %u elements, expected 4 or 5", n);
  space = n - 2;
  dims[0] = size[0];
  for (uint32_t i = 0; i < space; i++) {
    dims[1 + i] = size[2 + i];
    if (size[2 + i] < 1 || !size_mul(points, size[2 + i], &points) || points > c->opt->fold_bytes / 32)
      return node_refuse(c, "size[%u] is %lld", 2 + i, (long long)size[2 + i]);
  }
  dims[1 + space] = space;
  float *data = NEW_ARRAY(c->m->arena, float, points *(space + 1));
  for (int64_t p = 0; p < points; p++) {
    int64_t rest = p;
    for (uint32_t i = 0; i < space; i++) {  // the last image axis is x
      int64_t extent = size[n - 1 - i];
      data[p * (space + 1) + i] = (float)grid_point(rest % extent, extent, corners);
      rest /= extent;
    }
    data[p * (space + 1) + space] = 1;
  }
  int64_t base[2] = {points, space + 1};
  Value *grid = const_borrowed(c->m, type_tensor(c->m->types, DT_F32, 2, base), data, NULL);
  Value *y = node_matmul(c, node_cast(c, grid, c->in[0]->type->dtype), c->in[0], NULL, false, true);
  return node_result(c, node_reshape(c, y, n, dims));
}
