// The strategy dot8. See dot8.h.
//
//   sum over k of (x - z) w  =  sum over k of x w  -  z * sum over k of w
//
// Signed x is read as x + 128, its zero point shifted alike. Sums wrap in 32 bits, so only the result has to fit, not
// what is in between.
#include "passes/lower/dot8.h"

#include "ir/elem.h"

void dot8_reduction(Nest *n) {
  nest_merge(n);
  n->dot = true;
  if (n->x_red[n->n_red - 1] == 1) return;
  if (n->red[n->n_red - 1] == 1) {
    n->x_red[n->n_red - 1] = 1;
    return;
  }
  n->red[n->n_red] = 1;
  n->x_red[n->n_red++] = 1;
}

PackSpec dot8_weights(const Nest *n, int64_t row, int64_t column) {
  PackSpec s = {.n_red = n->n_red, .n = n->n, .n_stride = column, .by = 4, .type = DT_I8};
  s.nv = n->tile.nv;
  s.lanes = n->tile.lanes;
  s.dense = n->tile.dense;
  for (uint32_t i = n->n_red; i-- > 0;) {
    s.red[i] = n->red[i];
    s.red_stride[i] = row;
    row *= n->red[i];
  }
  return s;
}

Value *dot8_bias(LowerCtx *ctx, const Op *op, int64_t x_zero, int64_t rows, int64_t columns, int64_t row,
                 int64_t column) {
  Module *m = ctx->m;
  const Value *bias = op_in(op, 2), *w = op_in(op, 1);
  const void *data = const_data(m, w->constant);
  int64_t zero = x_zero + (op_in(op, 0)->type->dtype == DT_I8 ? 128 : 0);
  if (zero == 0 && bias == NULL) return NULL;
  const Type *t = type_tensor(m->types, DT_I32, 1, &columns);
  void *sums = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t c = 0; c < columns; c++) {
    int64_t sum = 0, b = 0;
    for (int64_t r = 0; r < rows; r++) sum += elem_get_i(data, w->type->dtype, r * row + c * column);
    if (bias != NULL) b = const_i(m, bias->constant, type_count(bias->type) == 1 ? 0 : c);
    elem_set_i(sums, DT_I32, c, int_wrap(DT_I32, b - zero * sum));
  }
  return const_borrowed(m, t, sums, NULL);
}
