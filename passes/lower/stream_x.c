// What the strategy stream does to x before the product. See stream.h.
//
//   bytes    u8 less 128, rows filled up with zeros, and the sum of every row
//   floats   per block: a unit (a power of two above largest / 127), slices of bytes, the sum of every slice
#include "passes/lower/lanes.h"
#include "passes/lower/stream.h"

typedef struct StageX {
  Stream *s;
  KBuild b;
  KBuf *from, *to, *sums, *units;
  KBuf *fours;   // the bytes by four
  Affine place;  // of the row that is walked
} StageX;

static KBuf *param(StageX *e, const char *name, const PBuf *buf, KSpace space) {
  int64_t count = type_count(buf->type);
  return kb_param(&e->b, name, buf->type->dtype, 1, &count, space);
}

static PBuf *work(Stream *s, const char *name, DType t, int64_t count) {
  return lower_work(s->ctx, name, type_tensor(s->ctx->m->types, t, 1, &count));
}

static void begin(StageX *e, PBuf *x) {
  Stream *s = e->s;
  kbuild_init(&e->b, s->ctx->m, arena_printf(s->ctx->m->arena, "stream_x_%u", s->op->id), s->op->loc);
  e->from = param(e, "x", x, SPACE_ARG);
  if (s->x != x) e->to = param(e, "to", s->x, SPACE_WORK);
  if (s->sums != NULL) e->sums = param(e, "sums", s->sums, SPACE_WORK);
  if (s->units != NULL) e->units = param(e, "units", s->units, SPACE_WORK);
  if (s->sums == NULL) return;
  KBuf *bytes = e->to != NULL ? e->to : e->from;
  int64_t count = bytes->dims[0] / 4;
  e->fours = kb_view(&e->b, bytes, "fours", DT_I8X4, 1, &count);
}

static void end(StageX *e, PBuf *x) {
  Stream *s = e->s;
  PBuf *bufs[4] = {x};
  uint32_t n = 1;
  if (s->x != x) bufs[n++] = s->x;
  if (s->sums != NULL) bufs[n++] = s->sums;
  if (s->units != NULL) bufs[n++] = s->units;
  lower_step(s->ctx, &e->b, s->op, NULL, n, bufs)->strategy = "slices";
}

static KForKind over_rows(const Stream *s) { return s->rows > 1 ? FOR_PAR : FOR_SEQ; }

static void fill_zero(StageX *e, Affine at, int64_t count) {
  if (count <= 0) return;
  KVar *i = kb_for(&e->b, "i", 0, count, 1, FOR_VEC);
  DType t = e->to->type;
  kb_store1(&e->b, e->to, aff_add(at, aff_var(i)), dtype_is_float(t) ? kx_f(&e->b, t, 0) : kx_i(&e->b, t, 0));
  kb_end(&e->b);
}

// Four bytes of the row, added.
static KExpr *four_bytes(void *ctx, KBuild *b, const Affine *at) {
  StageX *e = ctx;
  KExpr *x = kx_load1(b, e->fours, aff_add(e->place, at[0]));
  return kx_op3(b, KOP_DOT4, kx_i(b, DT_I32, 0), kx_i(b, DT_U8X4, 0x01010101), x);
}

// The sum of a row (or slice of a block) that begins at place 4 * `fours`.
static void store_sum(StageX *e, Affine fours, Affine at) {
  int64_t n = e->s->padded / 4;
  e->place = fours;
  KVar *sum = lanes_row(e->s->ctx, &e->b, DT_I32, KOP_ADD, 1, &n, four_bytes, e);
  kb_store1(&e->b, e->sums, at, kx_var(&e->b, sum));
}

// ---- bytes

static KExpr *signed_byte(StageX *e, Affine at) {
  KBuild *b = &e->b;
  KExpr *x = kx_load1(b, e->from, at);
  return e->from->type == DT_I8 ? x : kx_view(b, DT_I8, kx_op2(b, KOP_XOR, x, kx_i(b, DT_U8, 128)));
}

static void stage_bytes(Stream *s, PBuf *x) {
  bool copies = x->type->dtype != DT_I8 || s->padded != s->w.k;
  s->x = copies ? work(s, "bytes", DT_I8, s->rows * s->padded) : x;
  if (s->has_sums) s->sums = work(s, "sums", DT_I32, s->rows);
  if (!copies && !s->has_sums) return;
  StageX e = {.s = s};
  begin(&e, x);
  Affine m = aff_var(kb_for(&e.b, "m", 0, s->rows, 1, over_rows(s))), row = aff_mul(m, s->padded);
  if (copies) {
    KVar *k = kb_for(&e.b, "k", 0, s->w.k, 1, FOR_VEC);
    kb_store1(&e.b, e.to, aff_add(row, aff_var(k)), signed_byte(&e, aff_add(aff_mul(m, s->w.k), aff_var(k))));
    kb_end(&e.b);
    fill_zero(&e, aff_plus(row, s->w.k), s->padded - s->w.k);
  }
  if (s->has_sums) store_sum(&e, aff_mul(m, s->padded / 4), m);
  kb_end(&e.b);
  end(&e, x);
}

// ---- floats

static KExpr *magnitude(void *ctx, KBuild *b, const Affine *at) {
  StageX *e = ctx;
  return kx_op1(b, KOP_ABS, kx_load1(b, e->from, aff_add(e->place, at[0])));
}

// A power of two u with largest / 127 <= u; not so small that its inverse is not a number.
static KVar *unit_of(StageX *e, KVar *largest) {
  KBuild *b = &e->b;
  KExpr *top = kx_op2(b, KOP_MAX, kx_var(b, largest), kx_f(b, DT_F32, 0x1p-100));
  KExpr *bits = kx_view(b, DT_U32, kx_op2(b, KOP_MUL, top, kx_f(b, DT_F32, 2.0 / 127)));
  return kb_let(b, "unit", kx_view(b, DT_F32, kx_op2(b, KOP_AND, bits, kx_i(b, DT_U32, 0x7f800000))));
}

// v * 256^(slices - 1) as an integer whose bytes, each less 128, are its digits: 128 is added to all of them.
static KExpr *digits_of(KBuild *b, KExpr *v, int64_t slices) {
  int64_t ones = 0;
  double scale = 1;
  for (int64_t i = 0; i < slices; i++) ones = 256 * ones + 128;
  for (int64_t i = 1; i < slices; i++) scale *= 256;
  KExpr *whole = kx_op1(b, KOP_ROUND, slices == 1 ? v : kx_op2(b, KOP_MUL, v, kx_f(b, DT_F32, scale)));
  return kx_view(b, DT_U32, kx_op2(b, KOP_ADD, kx_cast(b, DT_I32, whole), kx_i(b, DT_I32, ones)));
}

static KExpr *digit(KBuild *b, KVar *digits, int64_t byte) {
  KExpr *v = kx_var(b, digits);
  if (byte > 0) v = kx_op2(b, KOP_SHR, v, kx_i(b, DT_U32, 8 * byte));
  return kx_view(b, DT_I8, kx_op2(b, KOP_XOR, kx_cast(b, DT_U8, v), kx_i(b, DT_U8, 128)));
}

// `len` floats from `from` on as slices at `to`; slice 0 of the block is number `at` of all slices.
static void slice_block(StageX *e, Affine from, Affine to, Affine at, int64_t len) {
  Stream *s = e->s;
  KBuild *b = &e->b;
  e->place = from;
  KVar *unit = unit_of(e, lanes_row(s->ctx, b, DT_F32, KOP_MAX, 1, &len, magnitude, e));
  KVar *inverse = kb_let(b, "inverse", kx_op2(b, KOP_DIV, kx_f(b, DT_F32, 1), kx_var(b, unit)));
  double part = 1;
  for (int64_t i = 0; i < s->slices; i++, part /= 256)
    kb_store1(b, e->units, aff_plus(at, i), kx_op2(b, KOP_MUL, kx_var(b, unit), kx_f(b, DT_F32, part)));
  KVar *k = kb_for(b, "k", 0, len, 1, FOR_VEC);
  KExpr *v = kx_op2(b, KOP_MUL, kx_load1(b, e->from, aff_add(from, aff_var(k))), kx_var(b, inverse));
  KVar *digits = kb_let(b, "digits", digits_of(b, v, s->slices));
  for (int64_t i = 0; i < s->slices; i++)
    kb_store1(b, e->to, aff_add(aff_plus(to, i * s->padded), aff_var(k)), digit(b, digits, s->slices - 1 - i));
  kb_end(b);
  for (int64_t i = 0; i < s->slices; i++) {
    fill_zero(e, aff_plus(to, i * s->padded + len), s->padded - len);
    if (s->has_sums) store_sum(e, aff_mul(aff_plus(at, i), s->padded / 4), aff_plus(at, i));
  }
}

static void stage_slices(Stream *s, PBuf *x) {
  int64_t per_row = s->blocks * s->slices, full = s->w.k / s->w.block, rest = s->w.k % s->w.block;
  s->x = work(s, "slices", DT_I8, s->rows * per_row * s->padded);
  s->units = work(s, "units", DT_F32, s->rows * per_row);
  if (s->has_sums) s->sums = work(s, "sums", DT_I32, s->rows * per_row);
  StageX e = {.s = s};
  begin(&e, x);
  Affine m = aff_var(kb_for(&e.b, "m", 0, s->rows, 1, over_rows(s)));
  Affine from = aff_mul(m, s->w.k), at = aff_mul(m, per_row);
  if (full > 0) {
    Affine block = full > 1 ? aff_var(kb_for(&e.b, "block", 0, full, 1, FOR_SEQ)) : aff(0);
    Affine first = aff_add(at, aff_mul(block, s->slices));
    slice_block(&e, aff_add(from, aff_mul(block, s->w.block)), aff_mul(first, s->padded), first, s->w.block);
    if (full > 1) kb_end(&e.b);
  }
  if (rest > 0) {
    Affine last = aff_plus(at, full * s->slices);
    slice_block(&e, aff_plus(from, full * s->w.block), aff_mul(last, s->padded), last, rest);
  }
  kb_end(&e.b);
  end(&e, x);
}

// Floats as they are, rows filled up with zeros. Only the last block can be short.
static void stage_floats(Stream *s, PBuf *x) {
  int64_t padded = s->blocks * s->padded;
  s->x = x;
  if (padded == s->w.k) return;
  s->x = work(s, "padded", DT_F32, s->rows * padded);
  StageX e = {.s = s};
  begin(&e, x);
  Affine m = aff_var(kb_for(&e.b, "m", 0, s->rows, 1, over_rows(s))), to = aff_mul(m, padded);
  KVar *k = kb_for(&e.b, "k", 0, s->w.k, 1, FOR_VEC);
  Affine from = aff_add(aff_mul(m, s->w.k), aff_var(k));
  kb_store1(&e.b, e.to, aff_add(to, aff_var(k)), kx_load1(&e.b, e.from, from));
  kb_end(&e.b);
  fill_zero(&e, aff_plus(to, s->w.k), padded - s->w.k);
  kb_end(&e.b);
  end(&e, x);
}

void stream_stage_x(Stream *s, PBuf *x) {
  if (!s->w.scaled) {
    stage_bytes(s, x);
  } else if (s->strict) {
    stage_floats(s, x);
  } else {
    stage_slices(s, x);
  }
}
