// The strategy planes: constants. Weights as words, and what turns counts into sums. See planes.h.
//
// With x = lo + step * code, m planes of x and k of w, K products of a column, z the zero point:
//
//   xor   sum = ((2 lo + step (2^m - 1) - 2 z) W + g step K (2^m - 1) (2^k - 1)) / 2  -  g step * counts
//   sign  sum = ((2 lo + step (2^m - 1) - 2 z) W +   step   (2^m - 1) A        ) / 2  -  g step * counts
//   and   sum = (lo - z) W  +  g step * counts
//
// where W is the sum of the column's weights and A that of their magnitudes.
#include "ir/elem.h"
#include "passes/lower/bits_border.h"
#include "passes/lower/planes.h"

// Bit `plane` of one weight, the plane after the last one being the sign.
static bool weight_bit(const PlanesW *w, int64_t v, int64_t plane) {
  int64_t q = v / w->unit, size = q < 0 ? -q : q;
  switch (w->form) {
    case PLANES_XOR: return (q + (INT64_C(1) << w->planes) - 1) / 2 >> plane & 1;
    case PLANES_SIGN: return plane == w->planes ? q > 0 : size >> plane & 1;
    case PLANES_AND: break;
  }
  return q >> plane & 1;
}

Value *planes_weights(LowerCtx *ctx, const Op *op, const PlanesX *x, const PlanesW *w, int64_t taps, int64_t n,
                      int64_t row, int64_t column) {
  const Value *from = op_in(op, 1);
  const void *data = const_data(ctx->m, from->constant);
  int64_t planes = w->planes + (w->form == PLANES_SIGN);
  int64_t dims[2] = {planes * taps * x->words, n};
  const Type *t = type_tensor(ctx->m->types, planes_type(x), 2, dims);
  uint8_t *bits = arena_alloc(ctx->m->arena, (size_t)type_bytes(t));
  for (int64_t k = 0; k < taps * x->channels; k++) {
    int64_t c = k % x->channels, word = k / x->channels * x->words + c / x->word;
    for (int64_t j = 0; j < n; j++) {
      int64_t v = elem_get_i(data, from->type->dtype, k * row + j * column);
      for (int64_t i = 0; i < planes; i++) {
        int64_t at = ((i * taps * x->words + word) * n + j) * x->word + c % x->word;
        if (weight_bit(w, v, i)) bits[at / 8] |= (uint8_t)(1u << (at % 8));
      }
    }
  }
  return const_borrowed(ctx->m, t, bits, from->constant->name);
}

// What the sum of a column is when nothing is counted: `sum` of its `k` weights, `size` of their magnitudes.
static int64_t column_base(const PlanesX *x, const PlanesW *w, int64_t sum, int64_t size, int64_t k) {
  int64_t codes = (INT64_C(1) << x->planes) - 1, grid = (INT64_C(1) << w->planes) - 1;
  int64_t twice = (2 * x->lo + x->step * codes - 2 * x->zero) * sum;
  if (w->form == PLANES_XOR) return (twice + w->unit * x->step * k * codes * grid) / 2;
  if (w->form == PLANES_SIGN) return (twice + x->step * codes * size) / 2;
  return (x->lo - x->zero) * sum;
}

void planes_sums(LowerCtx *ctx, Nest *nest, const PlanesX *x, const PlanesW *w, int64_t taps, int64_t n, int64_t row,
                 int64_t column) {
  Module *m = ctx->m;
  const Value *from = op_in(nest->op, 1), *bias = op_in(nest->op, 2);
  const void *data = const_data(m, from->constant);
  int64_t k = taps * x->channels, *base = NEW_ARRAY(m->arena, int64_t, n);
  bool equal = true;
  for (int64_t j = 0; j < n; j++) {
    int64_t sum = 0, size = 0;
    for (int64_t i = 0; i < k; i++) {
      int64_t v = elem_get_i(data, from->type->dtype, i * row + j * column);
      sum += v;
      size += v < 0 ? -v : v;
    }
    base[j] = column_base(x, w, sum, size, k);
    if (bias != NULL) base[j] += const_i(m, bias->constant, type_count(bias->type) == 1 ? 0 : j);
    equal = equal && base[j] == base[0];
  }
  nest->counts = true;
  nest->type = planes_type(x);
  nest->bias = NULL;
  nest->planes =
      (NestPlanes){.form = w->form, .x = x->planes, .w = w->planes, .negative = w->negative, .channels = x->channels};
  nest->planes.mul = w->form == PLANES_AND ? w->unit * x->step : -w->unit * x->step;
  if (equal) {
    nest->planes.base = int_wrap(DT_I32, base[0]);
    return;
  }
  for (int64_t j = 0; j < n; j++) base[j] = int_wrap(DT_I32, base[j]);
  nest->bias = border_const(m, 1, &n, base);
}
