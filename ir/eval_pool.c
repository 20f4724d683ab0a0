// Pooling: maxpool with indices, avgpool, lppool, over one to three spatial axes in both layouts.
//
// Per output position the taps of the window that lie inside the input are listed once; then every image and channel
// reduces over that list. Integer averages truncate. A window without any tap gives the identity: -inf or the type's
// smallest value (index -1) for maxpool, 0 for lppool, NaN or 0 for avgpool.
#include <math.h>

#include "ir/eval_impl.h"

typedef struct Taps {
  int64_t n;
  int64_t *pixel;   // position in the input plane, C order of the spatial axes
  int64_t *column;  // the same with the first spatial axis fastest (indices of column_major)
  int64_t padded;   // taps inside the input or its declared padding
} Taps;

typedef struct Pool {
  Window win;
  bool nhwc;
  int64_t outer, inner;       // images x channels (nchw) or images (nhwc); 1 or channels
  int64_t in_size, out_size;  // pixels per plane
  Nums x;
  Taps taps;
} Pool;

static Pool pool_new(const Op *op, const Tensor *in, const Type *out, EnumValue layout, WindowSlots slots, int kernel,
                     Arena *arena) {
  const Type *x = in[0].type;
  uint32_t n_kernel = 0;
  Pool p = {.nhwc = layout == LAYOUT_NHWC};
  p.win = window_of(op, slots, x, out, p.nhwc, op_ints(op, kernel, &n_kernel));
  p.inner = p.nhwc ? x->dims[x->rank - 1] : 1;
  p.outer = p.nhwc ? x->dims[0] : x->dims[0] * x->dims[1];
  p.in_size = p.win.in[0] * p.win.in[1] * p.win.in[2];
  p.out_size = p.win.out[0] * p.win.out[1] * p.win.out[2];
  p.x = nums_of(arena, &in[0]);
  int64_t taps = p.win.kernel[0] * p.win.kernel[1] * p.win.kernel[2];
  p.taps.pixel = NEW_ARRAY(arena, int64_t, taps);
  p.taps.column = NEW_ARRAY(arena, int64_t, taps);
  return p;
}

static void tap_add(const Window *w, Taps *t, const int64_t *at) {
  bool inside = true, padded = true;
  for (int k = 0; k < 3; k++) {
    inside &= at[k] >= 0 && at[k] < w->in[k];
    padded &= at[k] < w->in[k] + w->pad_end[k];
  }
  if (padded) t->padded++;
  if (!inside) return;
  t->pixel[t->n] = (at[0] * w->in[1] + at[1]) * w->in[2] + at[2];
  t->column[t->n] = (at[2] * w->in[1] + at[1]) * w->in[0] + at[0];
  t->n++;
}

// The window of output position o (C order over the output plane).
static void taps_find(Pool *p, int64_t o) {
  const Window *w = &p->win;
  int64_t pos[3] = {o / (w->out[1] * w->out[2]), o / w->out[2] % w->out[1], o % w->out[2]}, first[3];
  for (int k = 0; k < 3; k++) first[k] = pos[k] * w->stride[k] - w->pad[k];
  p->taps.n = p->taps.padded = 0;
  for (int64_t a = 0; a < w->kernel[0]; a++)
    for (int64_t b = 0; b < w->kernel[1]; b++)
      for (int64_t c = 0; c < w->kernel[2]; c++) {
        int64_t at[3] = {first[0] + a * w->dilation[0], first[1] + b * w->dilation[1], first[2] + c * w->dilation[2]};
        tap_add(w, &p->taps, at);
      }
}

static int64_t tap_at(const Pool *p, int64_t outer, int64_t inner, int64_t tap) {
  return (outer * p->in_size + p->taps.pixel[tap]) * p->inner + inner;
}

// ---- maxpool

static bool greater_f(double a, double b) { return !isnan(b) && (isnan(a) || a > b); }

// The tap of the largest element, the first of equals; -1 when there is none.
static int64_t max_tap(const Pool *p, DType t, int64_t outer, int64_t inner) {
  int64_t best = -1;
  for (int64_t k = 0; k < p->taps.n; k++) {
    int64_t a = tap_at(p, outer, inner, k), b = best < 0 ? 0 : tap_at(p, outer, inner, best);
    if (best < 0 || (p->x.f ? greater_f(p->x.f[a], p->x.f[b]) : int_less(t, p->x.i[b], p->x.i[a]))) best = k;
  }
  return best;
}

// The largest value itself: +0 when the first of equals is -0 and another is +0.
static double max_value(const Pool *p, int64_t outer, int64_t inner, int64_t best) {
  double v = p->x.f[tap_at(p, outer, inner, best)];
  for (int64_t k = 0; v == 0 && k < p->taps.n; k++) {
    double other = p->x.f[tap_at(p, outer, inner, k)];
    if (other == 0 && !signbit(other)) v = other;
  }
  return v;
}

// Indices count in [image, channel, spatial...] whatever the layout.
static int64_t flat_index(const Pool *p, int64_t outer, int64_t inner, int64_t tap, bool column_major) {
  if (tap < 0) return -1;
  int64_t plane = p->nhwc ? outer * p->inner + inner : outer;
  return plane * p->in_size + (column_major ? p->taps.column[tap] : p->taps.pixel[tap]);
}

EVAL(maxpool) {
  WindowSlots slots = {A_MAXPOOL_strides, A_MAXPOOL_pads, A_MAXPOOL_dilations};
  Pool p = pool_new(op, in, out[0].type, op_enum(op, A_MAXPOOL_layout), slots, A_MAXPOOL_kernel, arena);
  DType t = out[0].type->dtype;
  bool column_major = op_bool(op, A_MAXPOOL_column_major);
  Nums y = nums_new(arena, type_count(out[0].type), p.x.f != NULL);
  for (int64_t o = 0; o < p.out_size; o++) {
    taps_find(&p, o);
    for (int64_t a = 0; a < p.outer; a++)
      for (int64_t c = 0; c < p.inner; c++) {
        int64_t to = (a * p.out_size + o) * p.inner + c, best = max_tap(&p, t, a, c);
        if (y.f)
          y.f[to] = best < 0 ? -INFINITY : max_value(&p, a, c, best);
        else
          y.i[to] = best < 0 ? dtype_min(t) : p.x.i[tap_at(&p, a, c, best)];
        elem_set_i(out[1].data, out[1].type->dtype, to, flat_index(&p, a, c, best, column_major));
      }
  }
  nums_store(&out[0], &y);
  return true;
}

// ---- averages and norms

EVAL(avgpool) {
  WindowSlots slots = {A_AVGPOOL_strides, A_AVGPOOL_pads, A_AVGPOOL_dilations};
  Pool p = pool_new(op, in, out[0].type, op_enum(op, A_AVGPOOL_layout), slots, A_AVGPOOL_kernel, arena);
  bool count_padding = op_bool(op, A_AVGPOOL_count_include_pad);
  Nums y = nums_new(arena, type_count(out[0].type), p.x.f != NULL);
  for (int64_t o = 0; o < p.out_size; o++) {
    taps_find(&p, o);
    int64_t n = count_padding ? p.taps.padded : p.taps.n;
    for (int64_t a = 0; a < p.outer; a++)
      for (int64_t c = 0; c < p.inner; c++) {
        int64_t to = (a * p.out_size + o) * p.inner + c, sum_i = 0;
        double sum_f = 0;
        for (int64_t k = 0; k < p.taps.n; k++)
          if (y.f)
            sum_f += p.x.f[tap_at(&p, a, c, k)];
          else
            sum_i += p.x.i[tap_at(&p, a, c, k)];
        if (y.f)
          y.f[to] = sum_f / (double)n;
        else
          y.i[to] = n ? sum_i / n : 0;
      }
  }
  nums_store(&out[0], &y);
  return true;
}

EVAL(lppool) {
  WindowSlots slots = {A_LPPOOL_strides, A_LPPOOL_pads, A_LPPOOL_dilations};
  Pool p = pool_new(op, in, out[0].type, op_enum(op, A_LPPOOL_layout), slots, A_LPPOOL_kernel, arena);
  double *x = floats_of(arena, &in[0]), *y = NEW_ARRAY(arena, double, type_count(out[0].type));
  double e = (double)op_int(op, A_LPPOOL_p);
  for (int64_t o = 0; o < p.out_size; o++) {
    taps_find(&p, o);
    for (int64_t a = 0; a < p.outer; a++)
      for (int64_t c = 0; c < p.inner; c++) {
        double sum = 0;
        for (int64_t k = 0; k < p.taps.n; k++) sum += pow(fabs(x[tap_at(&p, a, c, k)]), e);
        y[(a * p.out_size + o) * p.inner + c] = e == 2 ? sqrt(sum) : pow(sum, 1 / e);
      }
  }
  floats_store(&out[0], y);
  return true;
}
