// Source positions and weights of resize, per axis. See resize_taps.h.
//
// Positions follow the ONNX formulas in double, with the scales as given. The interpolation kernel is stretched by
// 1 / scale when antialiasing a downscale; positions past the border are moved to it, or dropped (exclude_outside) with
// the remaining weights normalised.
#include "passes/lower/resize_taps.h"

#include <math.h>

typedef struct Source {
  EnumValue coord;
  double in, out, scale, start, end;  // start, end: region of interest
} Source;

static Source source_of(const Op *op, uint32_t axis) {
  uint32_t n, n_roi, rank = op_in(op, 0)->type->rank;
  const double *scales = op_floats(op, A_RESIZE_scales, &n), *roi = op_floats(op, A_RESIZE_roi, &n_roi);
  Source s = {.coord = op_enum(op, A_RESIZE_coord), .end = 1};
  s.in = (double)op_in(op, 0)->type->dims[axis];
  s.out = (double)op_out(op, 0)->type->dims[axis];
  s.scale = axis < n ? scales[axis] : 1;
  if (n_roi == 2 * rank) {
    s.start = roi[axis];
    s.end = roi[rank + axis];
  }
  return s;
}

static double position(const Source *s, double o) {
  double length = s->scale * s->in, half = (o + 0.5) / s->scale - 0.5;
  switch (s->coord) {
    case COORD_ASYMMETRIC: return o / s->scale;
    case COORD_TF_HALF_PIXEL_FOR_NN: return half + 0.5;
    case COORD_PYTORCH_HALF_PIXEL: return s->out > 1 ? half : 0;
    case COORD_HALF_PIXEL_SYMMETRIC: return s->in / 2 * (1 - s->out / length) + half;
    case COORD_ALIGN_CORNERS: return length == 1 ? 0 : o * (s->in - 1) / (length - 1);
    case COORD_TF_CROP_AND_RESIZE: {
      double across = (s->end - s->start) * (s->in - 1);
      return s->start * (s->in - 1) + (length == 1 ? across / 2 : o * across / (length - 1));
    }
    default: return half;
  }
}

static int64_t inside(double at, double n) { return at <= 0 ? 0 : at >= n - 1 ? (int64_t)n - 1 : (int64_t)at; }

static double rounded(EnumValue mode, double x) {
  double low = floor(x);
  switch (mode) {
    case NEAREST_FLOOR: return low;
    case NEAREST_CEIL: return ceil(x);
    case NEAREST_ROUND_PREFER_CEIL: return x - low >= 0.5 ? low + 1 : low;
    default: return x - low > 0.5 ? low + 1 : low;
  }
}

static double linear(double d) { return d < 1 ? 1 - d : 0; }

static double cubic(double a, double d) {
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

static void normalise(double *w, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; k++) sum += w[k];
  for (int64_t k = 0; k < n && sum != 0; k++) w[k] /= sum;
}

static void smooth_taps(const Op *op, const Source *s, ResizeAxis *a, int64_t o, int64_t reach, double stretch) {
  bool is_linear = op_enum(op, A_RESIZE_mode) == RESIZE_LINEAR, exclude = op_bool(op, A_RESIZE_exclude_outside);
  double factor = (double)(float)op_float(op, A_RESIZE_cubic_a), x = position(s, (double)o);
  double *w = a->weight + o * a->n;
  for (int64_t k = 0; k < a->n; k++) {
    double at = floor(x) + (double)(k - reach + 1), d = fabs(at - x) * stretch;
    w[k] = is_linear ? linear(d) : cubic(factor, d);
    a->index[o * a->n + k] = inside(at, s->in);
  }
  if (op_bool(op, A_RESIZE_antialias)) normalise(w, a->n);
  if (!exclude) return;
  for (int64_t k = 0; k < a->n; k++) {
    double at = floor(x) + (double)(k - reach + 1);
    if (at < 0 || at >= s->in) w[k] = 0;
  }
  normalise(w, a->n);
}

static void mark_outside(const Source *s, ResizeAxis *a, Arena *arena) {
  if (s->coord != COORD_TF_CROP_AND_RESIZE) return;
  for (int64_t o = 0; o < a->out; o++) {
    double x = position(s, (double)o);
    if (x >= 0 && x <= s->in - 1) continue;
    if (!a->outside) a->outside = NEW_ARRAY(arena, bool, a->out);
    a->outside[o] = true;
  }
}

ResizeAxis resize_axis(const Op *op, uint32_t axis, Arena *arena) {
  Source s = source_of(op, axis);
  int64_t count;
  ResizeAxis a = {.in = (int64_t)s.in, .out = (int64_t)s.out, .n = 1};
  EnumValue mode = op_enum(op, A_RESIZE_mode);
  bool whole = s.coord != COORD_TF_CROP_AND_RESIZE || (s.start == 0 && s.end == 1);
  a.touched = !(a.in == a.out && s.scale == 1 && whole);
  if (!a.touched) return a;
  double stretch = op_bool(op, A_RESIZE_antialias) && s.scale < 1 ? s.scale : 1;
  double far = ceil((mode == RESIZE_LINEAR ? 1 : 2) / stretch), most = 2 * s.in + 4;
  int64_t reach = (int64_t)(far < most ? far : most);
  if (mode != RESIZE_NEAREST) a.n = 2 * reach;
  if (!size_mul(a.out, a.n, &count) || count > RESIZE_TABLE_MAX) {
    a.too_large = true;
    return a;
  }
  a.index = NEW_ARRAY(arena, int64_t, a.out *a.n + 1);
  a.weight = NEW_ARRAY(arena, double, a.out *a.n + 1);
  for (int64_t o = 0; o < a.out; o++) {
    if (mode == RESIZE_NEAREST) {
      a.index[o] = inside(rounded(op_enum(op, A_RESIZE_nearest), position(&s, (double)o)), s.in);
      a.weight[o] = 1;
    } else {
      smooth_taps(op, &s, &a, o, reach, stretch);
    }
  }
  mark_outside(&s, &a, arena);
  return a;
}
