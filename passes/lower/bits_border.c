// Border classes. See bits_border.h.
//
//   conv 3x3, pads 1, 5 columns:   class of the columns 0 1 1 1 2, taps inside 1..2, 0..2, 0..1
#include "passes/lower/bits_border.h"

#include "ir/elem.h"

static BorderAxis axis_classes(Module *m, const ConvGeom *g, uint32_t axis) {
  int64_t out = g->out[axis], kernel = g->kernel[axis];
  BorderAxis a = {.of = NEW_ARRAY(m->arena, int64_t, out)};
  a.lo = NEW_ARRAY(m->arena, int64_t, out);
  a.hi = NEW_ARRAY(m->arena, int64_t, out);
  for (int64_t o = 0; o < out; o++) {
    int64_t lo = 0, hi = kernel, at = o * g->stride[axis] - g->pad[axis], step = g->dilation[axis];
    while (lo < hi && at + lo * step < 0) lo++;
    while (hi > lo && at + (hi - 1) * step >= g->in[axis]) hi--;
    int64_t k = 0;
    while (k < a.n && (a.lo[k] != lo || a.hi[k] != hi)) k++;
    if (k == a.n) {
      a.lo[k] = lo;
      a.hi[k] = hi;
      a.n++;
    }
    a.of[o] = k;
  }
  return a;
}

Border border_of(Module *m, const ConvGeom *g) {
  Border b = {.n = 1};
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    b.axis[i] = axis_classes(m, g, i);
    b.n *= b.axis[i].n;
  }
  return b;
}

static void split3(int64_t i, int64_t d1, int64_t d2, int64_t *at) {
  at[2] = i % d2;
  at[1] = i / d2 % d1;
  at[0] = i / d2 / d1;
}

static bool is_inside(const Border *b, const int64_t *class_at, const int64_t *tap) {
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    const BorderAxis *a = &b->axis[i];
    if (tap[i] < a->lo[class_at[i]] || tap[i] >= a->hi[class_at[i]]) return false;
  }
  return true;
}

// [classes][o]: the sum of the weights of all taps outside. NULL when no tap ever is.
static int64_t *outside_sums(Module *m, const Border *b, const ConvGeom *g, const Value *w) {
  int64_t taps = g->kernel[0] * g->kernel[1] * g->kernel[2], o = g->o, channels = g->c / g->group;
  const void *data = const_data(m, w->constant);
  int64_t *tap_sum = NEW_ARRAY(m->arena, int64_t, taps *o), *sums = NEW_ARRAY(m->arena, int64_t, b->n *o);
  bool any = false;
  for (int64_t k = 0; k < taps * channels; k++)
    for (int64_t j = 0; j < o; j++) tap_sum[k / channels * o + j] += elem_get_i(data, w->type->dtype, k * o + j);
  for (int64_t i = 0; i < b->n * taps; i++) {
    int64_t class_at[CONV_AXES], tap[CONV_AXES];
    split3(i / taps, b->axis[1].n, b->axis[2].n, class_at);
    split3(i % taps, g->kernel[1], g->kernel[2], tap);
    if (is_inside(b, class_at, tap)) continue;
    any = true;
    for (int64_t j = 0; j < o; j++) sums[i / taps * o + j] += tap_sum[i % taps * o + j];
  }
  return any ? sums : NULL;
}

Value *border_const(Module *m, uint32_t rank, const int64_t *dims, const int64_t *v) {
  int64_t most = 0, count = 1;
  for (uint32_t i = 0; i < rank; i++) count *= dims[i];
  for (int64_t i = 0; i < count; i++) most = v[i] > most ? v[i] : -v[i] - 1 > most ? -v[i] - 1 : most;
  DType type = most <= INT16_MAX ? DT_I16 : most <= INT32_MAX ? DT_I32 : DT_I64;
  const Type *t = type_tensor(m->types, type, rank, dims);
  void *bytes = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < count; i++) elem_set_i(bytes, type, i, v[i]);
  return const_borrowed(m, t, bytes, NULL);
}

// Where along the spatial axes of the result the row of a class begins.
static void class_tables(LowerCtx *ctx, Nest *n, const Border *b, int64_t o) {
  int64_t row = b->n * o;
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    const BorderAxis *a = &b->axis[i];
    int64_t out = n->dims[1 + i], *at = NEW_ARRAY(ctx->m->arena, int64_t, out);
    row /= a->n;
    if (a->n == 1) continue;
    for (int64_t k = 0; k < out; k++) at[k] = a->of[k] * row;
    n->class_at[1 + i] = border_const(ctx->m, 1, &out, at);
  }
}

void border_bias(LowerCtx *ctx, Nest *n, const ConvGeom *g, int64_t factor) {
  Module *m = ctx->m;
  Border b = border_of(m, g);
  int64_t *table = factor == 0 ? NULL : outside_sums(m, &b, g, op_in(n->op, 1));
  if (table == NULL) return;
  int64_t each = n->bias == NULL ? 0 : type_count(n->bias->type);
  for (int64_t i = 0; i < b.n * g->o; i++) {
    int64_t base = each == 0 ? 0 : const_i(m, n->bias->constant, each == 1 ? 0 : i % g->o);
    table[i] = base + factor * table[i];
  }
  n->bias = border_const(m, 2, (int64_t[]){b.n, g->o}, table);
  class_tables(ctx, n, &b, g->o);
}
