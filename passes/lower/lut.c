// Tables and codes of the strategy lut. See lut.h.
#include "passes/lower/lut.h"

#include "ir/elem.h"

enum { ROW = 16 };

typedef struct Codebook {
  int64_t n, value[ROW];  // n > ROW: too many values
} Codebook;

static Codebook codebook_of(const void *data, DType t, int64_t count) {
  Codebook c = {0};
  for (int64_t i = 0; i < count && c.n <= ROW; i++) {
    int64_t v = elem_get_i(data, t, i), at = 0;
    while (at < c.n && c.value[at] != v) at++;
    if (at < c.n) continue;
    if (c.n < ROW) c.value[c.n] = v;
    c.n++;
  }
  return c;
}

// The weight a lane of the table stands for: by code, or by low and high nibble.
static int64_t lane_weight(const Codebook *c, int64_t lane) {
  if (c->n <= ROW) return lane < c->n ? c->value[lane] : 0;
  if (lane < ROW) return lane;
  int64_t high = lane - ROW;
  return 16 * (high < 8 ? high : high - 16);
}

static Value *lut_table(LowerCtx *ctx, const Op *op, const Codebook *c, int64_t lookups, int64_t zero) {
  DType x = op_in(op, 0)->type->dtype;
  int64_t lo = dtype_min(x), rows = dtype_max(x) - lo + 1, width = lookups * ROW, dims[2] = {rows, width};
  const Type *t = type_tensor(ctx->m->types, DT_I32, 2, dims);
  int32_t *products = arena_alloc(ctx->m->arena, (size_t)type_bytes(t));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < width; k++) products[r * width + k] = (int32_t)((lo + r - zero) * lane_weight(c, k));
  return const_bytes(ctx->m, t, products, "products");
}

bool lut_check(LowerCtx *ctx, const Op *op) {
  const Value *w = op_in(op, 1);
  DType x = op_in(op, 0)->type->dtype;
  if ((x == DT_U8 || x == DT_I8) && value_is_const(w) && w->type->dtype == DT_I8 && op_in(op, 2) == NULL) return true;
  return diag_error(
      ctx->m->diag, DIAG_USAGE, op->loc,
      "plan 'lut' looks up products of bytes with constant i8 weights and no bias, found %s and %s%s; use "
      "another plan",
      dtype_info(x)->name, dtype_info(w->type->dtype)->name, value_is_const(w) ? "" : " at run time");
}

int64_t lut_lookups(const Op *op) {
  const Value *w = op_in(op, 1);
  const void *data = const_data(op->func->module, w->constant);
  return codebook_of(data, w->type->dtype, type_count(w->type)).n <= ROW ? 1 : 2;
}

Value *lut_weights(LowerCtx *ctx, const Op *op, Nest *n) {
  const Value *w = op_in(op, 1);
  const void *data = const_data(ctx->m, w->constant);
  int64_t count = type_count(w->type);
  Codebook c = codebook_of(data, w->type->dtype, count);
  n->lookups = c.n <= ROW ? 1 : 2;
  n->table = lower_const(ctx, lut_table(ctx, op, &c, n->lookups, n->x_zero));
  n->x_zero = 0;
  int8_t *codes = arena_alloc(ctx->m->arena, (size_t)count + 1);
  for (int64_t i = 0; i < count; i++) {
    int64_t v = elem_get_i(data, w->type->dtype, i), code = v;
    for (int64_t k = 0; c.n <= ROW && k < c.n; k++)
      if (c.value[k] == v) code = k;
    codes[i] = (int8_t)code;
  }
  return const_bytes(ctx->m, type_with_dtype(ctx->m->types, w->type, DT_I8), codes, w->constant->name);
}
