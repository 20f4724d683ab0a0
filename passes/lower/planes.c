// The strategy planes. See planes.h.
#include "passes/lower/planes.h"

#include "ir/elem.h"
#include "passes/bipolar.h"

enum { WORD = 64 };

bool planes_x(const Op *op, PlanesX *f) {
  const Value *x = op_in(op, 0);
  int64_t channels = x->type->dims[x->type->rank - 1];
  *f = (PlanesX){.lo = -1, .step = 2, .planes = 1, .group = 1, .channels = channels, .words = planes_words(channels)};
  f->fill = f->lo;
  return value_is_bipolar(x);
}

int64_t planes_row(const PlanesX *f) { return f->group * f->words * f->planes; }

bool planes_check(LowerCtx *ctx, const Op *op) {
  for (uint32_t i = 0; i < 2; i++) {
    if (value_is_bipolar(op_in(op, i))) continue;
    return diag_error(
        ctx->m->diag, DIAG_USAGE, op->loc,
        "plan 'planes' stores one bit per element, but operand %u is not known to hold only -1 and +1; use "
        "another plan",
        i);
  }
  return true;
}

int64_t planes_words(int64_t channels) { return (channels + WORD - 1) / WORD; }

// ---- x

typedef struct PackBits {
  KBuild b;
  KBuf *x, *words;
} PackBits;

static KExpr *is_one(PackBits *p, Affine at) {
  return kx_op2(&p->b, KOP_GT, kx_load1(&p->b, p->x, at), kx_i(&p->b, DT_I8, 0));
}

// `lanes` neighbouring elements to a place of as many bits.
static void emit_lanes(PackBits *p, KBuf *place, Affine to, Affine from, int64_t lanes) {
  KVar *l = kb_for(&p->b, "l", 0, lanes, 1, FOR_VEC);
  kb_reduce_bits(&p->b, place, &to, is_one(p, aff_add(from, aff_var(l))));
  kb_end(&p->b);
}

// The last, incomplete byte of a row.
static void emit_rest(PackBits *p, KBuf *bytes, Affine to, Affine from, int64_t have) {
  KExpr *byte = NULL;
  for (int64_t i = 0; i < have; i++) {
    KExpr *bit = kx_cast(&p->b, DT_U8, is_one(p, aff_plus(from, i)));
    if (i > 0) bit = kx_op2(&p->b, KOP_SHL, bit, kx_i(&p->b, DT_U8, i));
    byte = byte ? kx_op2(&p->b, KOP_OR, byte, bit) : bit;
  }
  kb_store1(&p->b, bytes, to, byte);
}

PBuf *planes_pack(LowerCtx *ctx, const Op *op, PBuf *x, int64_t channels) {
  int64_t words = planes_words(channels), rows = type_count(x->type) / channels, count = rows * words;
  int64_t lanes = ctx->target->vector_bits / 8, n_bytes = 8 * count, in_row = 8 * words;
  if (lanes > WORD) lanes = WORD;
  DType unit = lanes == 64 ? DT_U64 : lanes == 32 ? DT_U32 : DT_U16;
  PBuf *to = lower_work(ctx, "bits", type_tensor(ctx->m->types, DT_I64, 1, &count));
  PackBits p;
  kbuild_init(&p.b, ctx->m, arena_printf(ctx->m->arena, "bits_%u", op->id), op->loc);
  p.x = lower_flat(&p.b, x);
  p.words = kb_param(&p.b, "bits", DT_I64, 1, &count, SPACE_WORK);
  int64_t n_units = n_bytes * 8 / lanes;
  KBuf *units = kb_view(&p.b, p.words, "units", unit, 1, &n_units);
  KBuf *bytes = kb_view(&p.b, p.words, "bytes", DT_U8, 1, &n_bytes);
  Affine row = aff_var(kb_for(&p.b, "row", 0, rows, 1, FOR_PAR));
  Affine from = aff_mul(row, channels);
  int64_t whole = channels / lanes, at = whole * lanes;
  if (whole > 0) {
    KVar *u = kb_for(&p.b, "u", 0, whole, 1, FOR_SEQ);
    emit_lanes(&p, units, aff_add(aff_mul(row, WORD * words / lanes), aff_var(u)), aff_add(from, aff_term(u, lanes)),
               lanes);
    kb_end(&p.b);
  }
  for (; at + 8 <= channels; at += 8)
    emit_lanes(&p, bytes, aff_plus(aff_mul(row, in_row), at / 8), aff_plus(from, at), 8);
  if (at < channels) emit_rest(&p, bytes, aff_plus(aff_mul(row, in_row), at / 8), aff_plus(from, at), channels - at);
  for (int64_t i = (channels + 7) / 8; i < in_row; i++)
    kb_store1(&p.b, bytes, aff_plus(aff_mul(row, in_row), i), kx_i(&p.b, DT_U8, 0));
  kb_end(&p.b);
  PBuf *bufs[2] = {x, to};
  lower_step(ctx, &p.b, op, NULL, 2, bufs)->strategy = "bits";
  return to;
}

// ---- weights

Value *planes_weights(LowerCtx *ctx, const Op *op, int64_t taps, int64_t channels, int64_t n, int64_t row,
                      int64_t column) {
  const Value *w = op_in(op, 1);
  const void *data = const_data(ctx->m, w->constant);
  int64_t words = planes_words(channels), dims[2] = {taps * words, n};
  const Type *t = type_tensor(ctx->m->types, DT_I64, 2, dims);
  uint64_t *bits = arena_alloc(ctx->m->arena, (size_t)type_bytes(t));
  for (int64_t k = 0; k < taps * channels; k++) {
    int64_t c = k % channels, word = k / channels * words + c / WORD;
    for (int64_t j = 0; j < n; j++)
      if (elem_get_i(data, w->type->dtype, k * row + j * column) > 0) bits[word * n + j] |= UINT64_C(1) << (c % WORD);
  }
  return const_borrowed(ctx->m, t, bits, w->constant->name);
}
