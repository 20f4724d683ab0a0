// Pass blocks: weights on a grid of at most four bits that multiply floats become a dequantize of their integers, which
// is how they are stored and multiplied (strategy stream).
//
//   %1 = matmul %x, @w : f32[1,192]                      @w: f32[784,192] of -0.3, 0 and 0.3
//   => %2 = dequantize @q, @s {axis = 0, block = 784}    @q: i8[784,192] of -1, 0, 1; @s: f32[1,192]
//      %1 = matmul %x, %2
//
// Weights of at most 256 values on no grid become a lookup of their codes in a book of these values, lowest first:
//
//   %1 = matmul %x, @w : f32[1,96]                       @w: f32[128,96] of 92 values
//   => %2 = lookup @book, @codes                         @book: f32[92]; @codes: u8[128,96]
//      %1 = matmul %x, %2
//
// Only where that gives every weight back bit for bit, and where the price of what becomes of it is not far above that
// of the floats. Not with --fp=strict.
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/infer.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/lowbit.h"
#include "passes/pass.h"
#include "passes/price.h"
#include "passes/recover/slices.h"
#include "passes/recover/weights.h"

enum { MOST = 7, FEWEST = 1024, BOOK = 256 };  // largest integer; smallest number of weights; values of a book

#define DEARER 1.25  // how much more time fewer bytes are worth
#define BOOK_DEARER \
  1.75  // the same for a quarter of them: floats come from far away as often as the price says from near

// The geometry of operand 1 of a float matmul, its columns being the channels.
static bool read_weights(const Op *op, WeightGrid *g) {
  const Value *w = op_in(op, 1);
  if (op->kind != OP_MATMUL || !value_is_const(w) || w->type->dtype != DT_F32 || w->type->rank != 2) return false;
  if (op_in(op, 0)->type->dtype != DT_F32 || value_is_const(op_in(op, 0)) || type_count(w->type) < FEWEST) return false;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  const int64_t *dims = w->type->dims;
  *g = (WeightGrid){.n = dims[0] * dims[1], .channels = dims[trans ? 0 : 1], .inner = trans ? dims[1] : 1};
  return true;
}

// Every weight is f32(scale * q), the scales being floats.
static bool comes_back(Module *m, const Value *w, const WeightGrid *g) {
  const AnyF32 *v = const_data(m, w->constant);
  if (g->dorefa || g->most > MOST) return false;
  for (int64_t i = 0; i < g->n; i++) {
    double scale = g->scale[i / g->inner % g->channels];
    if ((double)(float)scale != scale || (float)(scale * (double)g->q[i]) != v[i]) return false;
  }
  return true;
}

static Value *dequantized(Op *op, const WeightGrid *g) {
  Module *m = op->func->module;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  const Value *w = op_in(op, 1);
  int64_t dims[2] = {trans ? g->channels : 1, trans ? 1 : g->channels};
  const Type *byte = type_with_dtype(m->types, w->type, DT_I8), *row = type_tensor(m->types, DT_F32, 2, dims);
  int8_t *q = arena_alloc(m->arena, (size_t)g->n);
  float *scale = arena_alloc(m->arena, (size_t)type_bytes(row));
  for (int64_t i = 0; i < g->n; i++) q[i] = (int8_t)g->q[i];
  bool one = true;
  for (int64_t i = 0; i < g->channels; i++) {
    scale[i] = (float)g->scale[i];
    one = one && scale[i] == scale[0];
  }
  Value *scales =
      one ? const_splat(m, type_scalar(m->types, DT_F32), (double)scale[0]) : const_borrowed(m, row, scale, NULL);
  Value *in[2] = {const_borrowed(m, byte, q, w->constant->name), scales};
  Op *dq = op_new(op->func, op, OP_DEQUANTIZE, 2, in, op->loc);
  op_set_int(dq, A_DEQUANTIZE_axis, trans ? 1 : 0);
  op_set_int(dq, A_DEQUANTIZE_block, g->n / g->channels);
  value_set_type(op_out(dq, 0), w->type);
  QCC_CHECK(infer_op(dq), "blocks: dequantize");
  return op_out(dq, 0);
}

static bool recover(PassCtx *ctx, Op *op) {
  WeightGrid g;
  if (!read_weights(op, &g)) return false;
  Value *w = op_in(op, 1);
  if (!weights_fit(ctx->m, ctx->arena, w, 0, &g) || !comes_back(ctx->m, w, &g)) return false;
  Price floats, bits;
  bool has_floats = price_by(op, ctx->target, "fma", &floats);
  Value *dq = dequantized(op, &g);
  op_set_operand(op, 1, dq);
  if (price_by(op, ctx->target, "stream", &bits) &&
      (!has_floats || price_total(&bits) <= DEARER * price_total(&floats)))
    return true;
  note_layer(ctx->m, op, NOTE_FLOAT, "weights of %lld levels take less time as floats", (long long)(2 * g.most + 1));
  op_set_operand(op, 1, w);
  op_unlink(dq->op);
  return false;
}

// ---- books

typedef struct Book {
  uint32_t n;
  float value[BOOK];
} Book;

// The place of v among the values, or where it belongs.
static uint32_t book_place(const Book *b, float v) {
  uint32_t lo = 0, hi = b->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (b->value[mid] < v) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

// False: too many values, or one that is no number or a zero with a sign.
static bool book_read(Module *m, const Value *w, Book *b) {
  const AnyF32 *v = const_data(m, w->constant);
  b->n = 0;
  for (int64_t i = 0, n = type_count(w->type); i < n; i++) {
    if (!isfinite(v[i]) || (v[i] == 0 && signbit(v[i]))) return false;
    uint32_t at = book_place(b, v[i]);
    if (at < b->n && b->value[at] == v[i]) continue;
    if (b->n == BOOK) return false;
    memmove(b->value + at + 1, b->value + at, (b->n - at) * sizeof *b->value);
    b->value[at] = v[i];
    b->n++;
  }
  return true;
}

static Value *looked_up(Op *op, const Book *b) {
  Module *m = op->func->module;
  const Value *w = op_in(op, 1);
  const AnyF32 *v = const_data(m, w->constant);
  int64_t count = type_count(w->type), n = b->n;
  const Type *table = type_tensor(m->types, DT_F32, 1, &n);
  uint8_t *codes = arena_alloc(m->arena, (size_t)count);
  for (int64_t i = 0; i < count; i++) codes[i] = (uint8_t)book_place(b, v[i]);
  Value *in[2] = {const_bytes(m, table, b->value, "book"),
                  const_borrowed(m, type_with_dtype(m->types, w->type, DT_U8), codes, w->constant->name)};
  return graph_emit(op, OP_LOOKUP, 2, in, w->type, op->loc);
}

// Does that strategy hold weights as codes of floats itself?
static bool holds_codes(const Price *p) {
  return strcmp(p->plan.strategy, "codebook") == 0 || strcmp(p->plan.strategy, "code") == 0 ||
         plan_param(&p->plan, "bits", 0) > 0;
}

static bool recover_book(PassCtx *ctx, Op *op) {
  WeightGrid g;
  Book b;
  Price floats, codes;
  if (!read_weights(op, &g) || !price_best(op, ctx->target, &floats)) return false;
  Value *w = op_in(op, 1);
  if (!book_read(ctx->m, w, &b)) return false;
  Value *v = looked_up(op, &b);
  op_set_operand(op, 1, v);
  double most = price_total(&floats) * (holds_codes(&floats) ? 1 : BOOK_DEARER);
  if (price_by(op, ctx->target, "stream", &codes) && price_total(&codes) <= most) return true;
  op_set_operand(op, 1, w);
  op_unlink(v->op);
  return false;
}

PassResult pass_blocks(PassCtx *ctx) {
  bool changed = false;
  if (ctx->opt->strict_fp) return PASS_SAME;
  for (Op *op = ctx->m->funcs.at[0]->first, *next; op != NULL; op = next) {
    next = op->next;
    changed |= recover(ctx, op) || recover_book(ctx, op) || slices_conv(ctx, op);
  }
  return changed ? PASS_CHANGED : PASS_SAME;
}
