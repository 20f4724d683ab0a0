// resize: nearest copies, linear and cubic interpolate one axis after the other.
//
// All positions are computed in double from the scales as given; the fractional output length scale * input enters
// where ONNX says so (align_corners, half_pixel_symmetric, tf_crop_and_resize). Interpolation is one formula: the
// kernel around the source position, stretched by 1 / scale when antialiasing a downscale, neighbours past the border
// repeated, or dropped and the rest renormalised with exclude_outside.
#include <math.h>

#include "ir/eval_impl.h"

typedef struct ResizeAxis {
  int64_t n_in, n_out;
  double scale, start, end;  // roi
  EnumValue coord;
} ResizeAxis;

static ResizeAxis axis_of(const Op *op, const Type *in, const Type *out, uint32_t k) {
  uint32_t n = 0, n_roi = 0;
  const double *scales = op_floats(op, A_RESIZE_scales, &n), *roi = op_floats(op, A_RESIZE_roi, &n_roi);
  ResizeAxis a = {in->dims[k], out->dims[k], scales[k], 0, 1, op_enum(op, A_RESIZE_coord)};
  if (n_roi == 2 * in->rank) {
    a.start = roi[k];
    a.end = roi[in->rank + k];
  }
  return a;
}

static bool axis_untouched(const ResizeAxis *a) {
  bool whole = a->coord != COORD_TF_CROP_AND_RESIZE || (a->start == 0 && a->end == 1);
  return a->n_in == a->n_out && a->scale == 1 && whole;
}

// Position in the input of output position x.
static double source_of(const ResizeAxis *a, double x) {
  double n = (double)a->n_in, width = a->scale * n;
  switch (a->coord) {
    case COORD_ALIGN_CORNERS: return width == 1 ? 0 : x * (n - 1) / (width - 1);
    case COORD_ASYMMETRIC: return x / a->scale;
    case COORD_TF_HALF_PIXEL_FOR_NN: return (x + 0.5) / a->scale;
    case COORD_TF_CROP_AND_RESIZE: {
      double across = (a->end - a->start) * (n - 1);
      return a->start * (n - 1) + (width == 1 ? across / 2 : x * across / (width - 1));
    }
    case COORD_PYTORCH_HALF_PIXEL: return a->n_out > 1 ? (x + 0.5) / a->scale - 0.5 : 0;
    case COORD_HALF_PIXEL_SYMMETRIC: return n / 2 * (1 - (double)a->n_out / width) + (x + 0.5) / a->scale - 0.5;
    default: return (x + 0.5) / a->scale - 0.5;
  }
}

static bool outside(const ResizeAxis *a, double x) {
  return a->coord == COORD_TF_CROP_AND_RESIZE && (x < 0 || x > (double)(a->n_in - 1));
}

static int64_t clamp_index(double v, int64_t n) {
  if (!(v > 0)) return 0;
  return v >= (double)(n - 1) ? n - 1 : (int64_t)v;
}

static double nearest_of(EnumValue mode, double x) {
  double low = floor(x), r = x - low;
  switch (mode) {
    case NEAREST_FLOOR: return low;
    case NEAREST_CEIL: return ceil(x);
    case NEAREST_ROUND_PREFER_CEIL: return r >= 0.5 ? low + 1 : low;
    default: return r > 0.5 ? low + 1 : low;
  }
}

static void resize_nearest(const Op *op, const Tensor *in, Tensor *out, Arena *arena) {
  const Type *t = out->type;
  AxisMaps m = {{NULL}};
  EnumValue mode = op_enum(op, A_RESIZE_nearest);
  bool any_outside = false;
  for (uint32_t k = 0; k < t->rank; k++) {
    ResizeAxis a = axis_of(op, in->type, t, k);
    m.at[k] = NEW_ARRAY(arena, int64_t, t->dims[k]);
    for (int64_t i = 0; i < t->dims[k]; i++) {
      double x = axis_untouched(&a) ? (double)i : source_of(&a, (double)i);
      bool off = !axis_untouched(&a) && outside(&a, x);
      m.at[k][i] = off ? -1 : axis_untouched(&a) ? i : clamp_index(nearest_of(mode, x), a.n_in);
      any_outside |= off;
    }
  }
  int64_t n = type_count(t);
  if (any_outside)
    for (int64_t i = 0; i < n; i++) elem_set_f(out->data, t->dtype, i, op_float(op, A_RESIZE_extrapolation));
  pull_maps(out, in, &m);
}

// ---- linear and cubic

static double kernel_at(EnumValue mode, double a, double d) {
  d = fabs(d);
  if (mode == RESIZE_LINEAR) return d < 1 ? 1 - d : 0;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

typedef struct ResizeTaps {
  int64_t n;       // taps per output position
  int64_t *index;  // n_out x n
  double *weight;  // n_out x n
} ResizeTaps;

static void taps_normalise(double *w, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; k++) sum += w[k];
  for (int64_t k = 0; k < n && sum != 0; k++) w[k] /= sum;
}

static ResizeTaps taps_of(const Op *op, const ResizeAxis *a, Arena *arena) {
  EnumValue mode = op_enum(op, A_RESIZE_mode);
  bool antialias = op_bool(op, A_RESIZE_antialias), exclude = op_bool(op, A_RESIZE_exclude_outside);
  double cubic_a = (float)op_float(op, A_RESIZE_cubic_a), s = antialias && a->scale < 1 ? a->scale : 1;
  int64_t reach = (int64_t)ceil((mode == RESIZE_LINEAR ? 1 : 2) / s);
  ResizeTaps t = {2 * reach, NULL, NULL};
  t.index = NEW_ARRAY(arena, int64_t, a->n_out *t.n);
  t.weight = NEW_ARRAY(arena, double, a->n_out *t.n);
  for (int64_t o = 0; o < a->n_out; o++) {
    double x = source_of(a, (double)o), low = floor(x), *w = t.weight + o * t.n;
    for (int64_t k = 0; k < t.n; k++) {
      double at = low + (double)(k - reach + 1);
      w[k] = kernel_at(mode, cubic_a, (at - x) * s);
      t.index[o * t.n + k] = clamp_index(at, a->n_in);
    }
    if (antialias) taps_normalise(w, t.n);
    if (!exclude) continue;
    for (int64_t k = 0; k < t.n; k++) {
      double at = low + (double)(k - reach + 1);
      if (at < 0 || at >= (double)a->n_in) w[k] = 0;
    }
    taps_normalise(w, t.n);
  }
  return t;
}

static double *interpolate(const double *x, int64_t outer, int64_t inner, const ResizeAxis *a, const ResizeTaps *t,
                           Arena *arena) {
  double *y = NEW_ARRAY(arena, double, outer * a->n_out * inner);
  for (int64_t r = 0; r < outer; r++)
    for (int64_t o = 0; o < a->n_out; o++)
      for (int64_t k = 0; k < t->n; k++) {
        double w = t->weight[o * t->n + k], *to = y + (r * a->n_out + o) * inner;
        const double *from = x + (r * a->n_in + t->index[o * t->n + k]) * inner;
        if (w == 0) continue;
        for (int64_t i = 0; i < inner; i++) to[i] += w * from[i];
      }
  return y;
}

// Every element whose position along `axis` is outside gets the extrapolation value.
static void extrapolate(double *y, const Type *t, uint32_t axis, const ResizeAxis *a, double value) {
  AxisView v = axis_view(t, axis);
  for (int64_t o = 0; o < v.n; o++) {
    if (!outside(a, source_of(a, (double)o))) continue;
    for (int64_t r = 0; r < v.outer; r++)
      for (int64_t i = 0; i < v.inner; i++) y[(r * v.n + o) * v.inner + i] = value;
  }
}

static void resize_smooth(const Op *op, const Tensor *in, Tensor *out, Arena *arena) {
  const Type *t = out->type;
  double *x = floats_of(arena, in);
  Type now = *in->type;
  for (uint32_t k = 0; k < t->rank; k++) {
    ResizeAxis a = axis_of(op, in->type, t, k);
    if (axis_untouched(&a)) continue;
    AxisView v = axis_view(&now, k);
    ResizeTaps taps = taps_of(op, &a, arena);
    x = interpolate(x, v.outer, v.inner, &a, &taps, arena);
    now.dims[k] = a.n_out;
  }
  for (uint32_t k = 0; k < t->rank; k++) {
    ResizeAxis a = axis_of(op, in->type, t, k);
    if (!axis_untouched(&a)) extrapolate(x, t, k, &a, op_float(op, A_RESIZE_extrapolation));
  }
  floats_store(out, x);
}

EVAL(resize) {
  if (type_count(out[0].type) == 0) return true;
  if (op_enum(op, A_RESIZE_mode) == RESIZE_NEAREST)
    resize_nearest(op, in, &out[0], arena);
  else
    resize_smooth(op, in, &out[0], arena);
  return true;
}
