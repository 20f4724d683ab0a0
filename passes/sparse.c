// Reading contractions with zeros. See sparse.h.
#include "passes/sparse.h"

#include "ir/elem.h"

enum { LINE = 16, SETS = 64 };  // floats of a cache line; sets of a first-level cache

// ---- convolutions with channels first

static void conv_axes(const Op *op, uint32_t nd, Sparse *s) {
  const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type, *y = op_out(op, 0)->type;
  int64_t run = 1;
  for (uint32_t i = nd; i-- > 0;) {
    uint32_t at = CONV_AXES - nd + i;
    s->in[at] = x->dims[2 + i];
    s->out[at] = y->dims[2 + i];
    s->kernel[at] = w->dims[2 + i];
    s->stride[at] = op_ints_at(op, A_CONV_strides, i, 1);
    s->dilation[at] = op_ints_at(op, A_CONV_dilations, i, 1);
    s->pad[at] = op_ints_at(op, A_CONV_pads, i, 0);
    s->w_tap[at] = run;
    run *= w->dims[2 + i];
  }
  s->w_c = run;
  s->w_o = run * w->dims[1];
}

static bool conv_first(const Op *op, Sparse *s) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  if (x->rank < 3 || x->rank > 2 + CONV_AXES) return false;
  s->images = x->dims[0];
  s->c = x->dims[1];
  s->o = y->dims[1];
  s->group = op_int(op, A_CONV_group);
  conv_axes(op, x->rank - 2, s);
  return true;
}

// ---- rows of channels

static bool conv_last(const Op *op, Sparse *s) {
  ConvGeom g;
  if (!conv_geom(op, &g) || !g.pointwise || !result_axes_merge(op, 0, op_out(op, 0)->type->rank - 1)) return false;
  s->last = true;
  s->c = g.c;
  s->o = g.o;
  s->group = g.group;
  s->in[2] = s->out[2] = g.n * g.out[0] * g.out[1] * g.out[2];
  s->w_c = g.o;
  s->w_o = 1;
  return true;
}

// Bytes under a kernel.
static bool conv_pixels(const Op *op, Sparse *s) {
  ConvGeom g;
  if (!s->bytes || !conv_geom(op, &g) || !result_axes_merge(op, 0, op_out(op, 0)->type->rank - 1)) return false;
  s->last = s->spatial = true;
  s->images = g.n;
  s->c = g.c;
  s->o = g.o;
  s->group = g.group;
  s->w_c = g.o;
  s->w_o = 1;
  int64_t run = g.c / g.group * g.o;
  for (uint32_t i = CONV_AXES; i-- > 0; run *= g.kernel[i]) {
    s->in[i] = g.in[i];
    s->out[i] = g.out[i];
    s->kernel[i] = g.kernel[i];
    s->stride[i] = g.stride[i];
    s->dilation[i] = g.dilation[i];
    s->pad[i] = g.pad[i];
    s->w_tap[i] = run;
  }
  return true;
}

static bool matmul_rows(const Op *op, Sparse *s) {
  MatmulGeom g;
  if (!matmul_geom(op, &g) || !matmul_rows_merge(op, &g) || g.b_vector) return false;
  if (type_count(op_in(op, 1)->type) != g.k * g.n) return false;
  s->last = true;
  s->c = g.k;
  s->o = g.n;
  s->in[2] = g.m;
  for (uint32_t i = 0; i < g.n_batch; i++) s->in[2] *= g.batch[i];
  s->out[2] = s->in[2];
  s->w_c = g.b_k;
  s->w_o = g.b_n;
  return true;
}

// ---- planes

static void planes_of(Sparse *s) {
  bool same = true;
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    int64_t window = (s->out[i] - 1) * s->stride[i] + (s->kernel[i] - 1) * s->dilation[i] + 1;
    s->phases[i] = s->kernel[i] == 1 ? 1 : s->stride[i];
    s->phase[i] = (window + s->stride[i] - 1) / s->stride[i];
    same = same && s->kernel[i] == 1 && s->pad[i] == 0;
  }
  bool whole = same;
  for (uint32_t i = 0; i < CONV_AXES; i++) whole = whole && s->stride[i] == 1 && s->in[i] == s->out[i];
  s->positions = ((s->out[0] - 1) * s->phase[1] + s->out[1] - 1) * s->phase[2] + s->out[2];
  s->dense = s->phase[1] == s->out[1] && s->phase[2] == s->out[2];
  s->direct = whole && !s->last && s->positions % LINE == 0;
}

bool sparse_of(const Op *op, Sparse *s) {
  *s = (Sparse){.images = 1, .group = 1};
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    s->in[i] = s->out[i] = s->kernel[i] = s->stride[i] = s->dilation[i] = 1;
  }
  if (op->kind != OP_CONV && op->kind != OP_MATMUL) return false;
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  const Value *w = op_in(op, 1), *bias = op_in(op, 2);
  bool floats = x->dtype == DT_F32 && w->type->dtype == DT_F32;
  s->bytes = dtype_is_byte(x->dtype) && w->type->dtype == DT_I8;
  if (!value_is_const(w) || (!floats && !s->bytes) || !type_is_static(x) || !type_is_static(y)) return false;
  if (type_count(x) == 0 || type_count(y) == 0 || type_count(op_in(op, 1)->type) == 0) return false;
  bool first = op->kind == OP_CONV && op_enum(op, A_CONV_layout) == LAYOUT_NCHW;
  if (!(first ? conv_first(op, s) : op->kind == OP_CONV ? conv_last(op, s) || conv_pixels(op, s) : matmul_rows(op, s)))
    return false;
  if (s->bytes) {
    bool simple = bias == NULL || (value_is_const(bias) && bias->type->dtype == DT_I32 &&
                                   (type_count(bias->type) == 1 || type_count(bias->type) == s->o));
    if (!s->last || s->group != 1 || s->c % 4 != 0 || !simple) return false;
    s->c /= 4;
  }
  s->w = w->constant;
  planes_of(s);
  return true;
}

int64_t sparse_phases(const Sparse *s) { return s->phases[0] * s->phases[1] * s->phases[2]; }

static int64_t phase_elems(const Sparse *s, int64_t lanes) {
  int64_t n = s->phase[0] * s->phase[1] * s->phase[2];
  return (n + lanes - 1) / lanes * lanes;
}

int64_t sparse_plane(const Sparse *s, int64_t lanes) {
  int64_t n = phase_elems(s, lanes) * sparse_phases(s);
  if (s->direct) return n;
  n = (n + LINE - 1) / LINE * LINE;
  return n % (LINE * SETS / 4) == 0 ? n + LINE : n;
}

int64_t sparse_taps(const Sparse *s) { return s->kernel[0] * s->kernel[1] * s->kernel[2]; }

static void tap_axes(const Sparse *s, int64_t tap, int64_t *at) {
  for (uint32_t i = CONV_AXES; i-- > 0;) {
    at[i] = tap % s->kernel[i];
    tap /= s->kernel[i];
  }
}

int64_t sparse_weight_at(const Sparse *s, int64_t o, int64_t c, int64_t tap) {
  int64_t at[CONV_AXES], place = o * s->w_o + c * s->w_c;
  tap_axes(s, tap, at);
  for (uint32_t i = 0; i < CONV_AXES; i++) place += at[i] * s->w_tap[i];
  return place;
}

int64_t sparse_tap_place(const Sparse *s, int64_t tap, int64_t lanes) {
  int64_t at[CONV_AXES], part = 0, place = 0;
  tap_axes(s, tap, at);
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    int64_t step = at[i] * s->dilation[i];
    part = part * s->phases[i] + step % s->stride[i] % s->phases[i];
    place = place * s->phase[i] + step / s->stride[i];
  }
  return part * phase_elems(s, lanes) + place;
}

ConvGeom sparse_conv(const Sparse *s) {
  ConvGeom g = {.n = s->images, .c = s->c, .o = s->o, .group = s->group, .pointwise = s->dense};
  for (int i = 0; i < CONV_AXES; i++) {
    g.in[i] = s->in[i];
    g.out[i] = s->out[i];
    g.kernel[i] = s->kernel[i];
    g.stride[i] = s->stride[i];
    g.dilation[i] = s->dilation[i];
    g.pad[i] = s->pad[i];
    g.pointwise = g.pointwise && s->kernel[i] == 1 && s->stride[i] == 1 && s->pad[i] == 0 && s->in[i] == s->out[i];
  }
  return g;
}

uint32_t sparse_four(const Sparse *s, const void *w, int64_t o, int64_t c, int64_t tap) {
  const uint8_t *at = (const uint8_t *)w + sparse_weight_at(s, o, 4 * c, tap);
  return at[0] | (uint32_t)at[s->w_c] << 8 | (uint32_t)at[2 * s->w_c] << 16 | (uint32_t)at[3 * s->w_c] << 24;
}

int64_t sparse_entries(const Sparse *s) { return type_count(s->w->type) / (s->bytes ? 4 : 1); }

int64_t sparse_nonzeros(Module *m, const Sparse *s) {
  const void *w = const_data(m, s->w);
  int64_t found = 0;
  if (s->bytes) {
    for (int64_t tap = 0; tap < sparse_taps(s); tap++)
      for (int64_t c = 0; c < s->c; c++)
        for (int64_t o = 0; o < s->o; o++) found += sparse_four(s, w, o, c, tap) != 0;
    return found;
  }
  for (int64_t i = 0; i < sparse_entries(s); i++) found += ((const AnyF32 *)w)[i] != 0;
  return found;
}
