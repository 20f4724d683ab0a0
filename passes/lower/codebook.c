// Codes and values of the strategy codebook. See codebook.h.
#include "passes/lower/codebook.h"

#include <string.h>

#include "ir/elem.h"

enum { ROW = 16 };

typedef struct Book {
  uint32_t n;
  uint32_t bits[CODEBOOK_MAX];  // of the floats: -0 and +0 differ, a NaN is itself
} Book;

static uint32_t bits_at(const uint8_t *data, int64_t i) {
  uint32_t bits;
  memcpy(&bits, data + 4 * i, sizeof bits);
  return bits;
}

static int32_t book_find(const Book *b, uint32_t bits) {
  for (uint32_t k = 0; k < b->n; k++)
    if (b->bits[k] == bits) return (int32_t)k;
  return -1;
}

// False when there are too many values.
static bool book_read(const Op *op, Book *b) {
  const Value *w = op_in(op, 1);
  b->n = 0;
  if (!value_is_const(w) || w->type->dtype != DT_F32) return false;
  const uint8_t *data = const_data(op->func->module, w->constant);
  for (int64_t i = 0, n = type_count(w->type); i < n; i++) {
    uint32_t bits = bits_at(data, i);
    if (i > 0 && bits == bits_at(data, i - 1)) continue;
    if (book_find(b, bits) >= 0) continue;
    if (b->n == CODEBOOK_MAX) return false;
    b->bits[b->n++] = bits;
  }
  return b->n > 0;
}

uint32_t codebook_values(const Op *op) {
  Book b = {0};
  return book_read(op, &b) ? b.n : 0;
}

bool codebook_check(LowerCtx *ctx, const Op *op, const Plan *plan) {
  bool once = plan_param(plan, "once", 0) != 0;
  if (once && value_is_const(op_in(op, 1)) && op_in(op, 1)->type->dtype == DT_F32) return true;
  if (!once && codebook_values(op) > 0 && op_in(op, 0)->type->dtype == DT_F32) return true;
  return diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
                    "plan 'codebook' holds constant f32 weights of at most %d values, found %s; use another plan",
                    CODEBOOK_MAX, dtype_info(op_in(op, 1)->type->dtype)->name);
}

Value *codebook_weights(LowerCtx *ctx, const Op *op, Nest *n) {
  const Value *w = op_in(op, 1);
  const uint8_t *data = const_data(ctx->m, w->constant);
  int64_t count = type_count(w->type), entries;
  Book b = {0};
  QCC_CHECK(book_read(op, &b), "a codebook of too many values");
  n->book = b.n <= ROW ? 1 : 2;
  entries = n->book * ROW;
  n->table = lower_const(ctx, const_bytes(ctx->m, type_tensor(ctx->m->types, DT_F32, 1, &entries), b.bits, "book"));
  int8_t *codes = arena_alloc(ctx->m->arena, (size_t)count + 1);
  for (int64_t i = 0; i < count; i++) codes[i] = (int8_t)book_find(&b, bits_at(data, i));
  return const_bytes(ctx->m, type_with_dtype(ctx->m->types, w->type, DT_I8), codes, w->constant->name);
}
