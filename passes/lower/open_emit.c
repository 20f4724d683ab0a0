// The kernel that opens weights. See open.h.
//
//   for chunks of rows { for rows of a chunk { dense[row] = value(fields of the codes) } }
//   for runs { for blocks { panel[block] = lookup(dense + at + i * step, pattern) & mask } }
#include <string.h>

#include "passes/lower/open.h"

enum { BYTE = 8, TABLE_NARROW = 16 };

typedef struct Opening {
  const OpenForm *f;
  KBuild b;
  KBuf *codes, *book, *dense, *panel, *at, *mask;  // bytes
  int64_t field[3];                                // first row of each
} Opening;

// ---- constants

static PBuf *bytes_const(LowerCtx *ctx, const void *bytes, int64_t n, const char *name) {
  return lower_const(ctx, const_bytes(ctx->m, type_tensor(ctx->m->types, DT_U8, 1, &n), bytes, name));
}

static uint32_t code_of(const OpenForm *f, uint8_t byte) {
  int8_t v = (int8_t)byte;
  uint32_t code = 0;
  if (!f->book) return (uint32_t)(v - f->lo) >> f->shift;
  while (f->value[code] != v) code++;
  return code;
}

static PBuf *make_codes(LowerCtx *ctx, const OpenForm *f) {
  uint8_t *bytes = arena_alloc(ctx->m->arena, (size_t)f->stored);
  const char *name = f->w->from->name;
  if (f->bits == BYTE) {
    memcpy(bytes, f->bytes, (size_t)f->dense);
    return bytes_const(ctx, bytes, f->stored, name);
  }
  uint32_t width[3], n = open_fields(f->bits, width), low = f->bits;
  uint8_t *to = bytes;
  for (uint32_t k = 0; k < n; k++) {
    low -= width[k];
    int64_t per = BYTE / width[k];
    for (int64_t i = 0; i < f->dense; i++) {
      int64_t step = i / f->row, at = step / per * f->row + i % f->row;
      uint32_t bits = code_of(f, f->bytes[i]) >> low & ((1U << width[k]) - 1);
      to[at] = (uint8_t)(to[at] | bits << (uint32_t)(step % per) * width[k]);
    }
    to += (open_steps(f) + per - 1) / per * f->row;
  }
  return bytes_const(ctx, bytes, f->stored, name);
}

// The values, repeated to fill what a lookup reads.
static PBuf *make_book(LowerCtx *ctx, const OpenForm *f) {
  int8_t book[OPEN_BOOK];
  for (uint32_t i = 0; i < OPEN_BOOK; i++)
    book[i] = f->value[i % (1U << f->bits) < f->n_values ? i % (1U << f->bits) : 0];
  return bytes_const(ctx, book, OPEN_BOOK, "book");
}

static PBuf *make_patterns(LowerCtx *ctx, const OpenForm *f, bool mask) {
  uint8_t *bytes = arena_alloc(ctx->m->arena, (size_t)(f->n_patterns * f->block));
  for (uint32_t i = 0; i < f->n_patterns; i++)
    memcpy(bytes + i * f->block, mask ? f->pattern[i].mask : f->pattern[i].at, (size_t)f->block);
  return bytes_const(ctx, bytes, f->n_patterns * f->block, mask ? "mask" : "places");
}

// ---- codes to bytes

static KExpr *lookup(Opening *o, int64_t size, KBuf *table, Affine at, KExpr *index) {
  return kx_op2(&o->b, size == OPEN_BLOCK ? KOP_LOOKUP64 : KOP_LOOKUP16, kx_load1(&o->b, table, at), index);
}

// The byte of lane l of step `step` of chunk `chunk`.
static KExpr *opened(Opening *o, Affine chunk, int64_t per_chunk, int64_t step, Affine l) {
  KBuild *b = &o->b;
  const OpenForm *f = o->f;
  uint32_t width[3], n = open_fields(f->bits, width), low = f->bits;
  KExpr *code = NULL;
  for (uint32_t k = 0; k < n; k++) {
    low -= width[k];
    int64_t per = BYTE / width[k], shift = step % per * width[k];
    Affine row = aff_plus(aff_mul(chunk, per_chunk / per), o->field[k] + step / per);
    KExpr *bits = kx_load1(b, o->codes, aff_add(aff_mul(row, f->row), l));
    if (shift > 0) bits = kx_op2(b, KOP_SHR, bits, kx_i(b, DT_U8, shift));
    if (shift + width[k] < BYTE) bits = kx_op2(b, KOP_AND, bits, kx_i(b, DT_U8, (1 << width[k]) - 1));
    if (low > 0) bits = kx_op2(b, KOP_SHL, bits, kx_i(b, DT_U8, low));
    code = code == NULL ? bits : kx_op2(b, KOP_OR, code, bits);
  }
  if (f->book)
    return lookup(o, f->block == OPEN_BLOCK || f->bits > 4 ? OPEN_BLOCK : TABLE_NARROW, o->book, aff(0), code);
  if (f->shift > 0) code = kx_op2(b, KOP_SHL, code, kx_i(b, DT_U8, f->shift));
  return f->lo != 0 ? kx_op2(b, KOP_ADD, code, kx_i(b, DT_U8, f->lo & 255)) : code;
}

static void emit_steps(Opening *o, KBuf *to, Affine chunk, int64_t per_chunk, int64_t steps) {
  KBuild *b = &o->b;
  for (int64_t i = 0; i < steps; i++) {
    Affine l = aff_var(kb_for(b, "l", 0, o->f->row, 1, FOR_VEC)), at = aff_plus(aff_mul(chunk, per_chunk), i);
    kb_store1(b, to, aff_add(aff_mul(at, o->f->row), l), opened(o, chunk, per_chunk, i, l));
    kb_end(b);
  }
}

static void emit_codes(Opening *o, KBuf *to) {
  uint32_t width[3], n = open_fields(o->f->bits, width);
  int64_t per_chunk = BYTE / width[n - 1], steps = open_steps(o->f), chunks = steps / per_chunk, row = 0;
  for (uint32_t k = 0; k < n; k++) {
    o->field[k] = row;
    row += (steps * width[k] + BYTE - 1) / BYTE;
  }
  if (chunks > 0) {
    KVar *k = kb_for(&o->b, "k", 0, chunks, 1, FOR_SEQ);
    emit_steps(o, to, aff_var(k), per_chunk, per_chunk);
    kb_end(&o->b);
  }
  emit_steps(o, to, aff(chunks), per_chunk, steps % per_chunk);
}

// ---- bytes to panels

static void emit_run(Opening *o, KBuf *from, const OpenRun *r, Affine period) {
  KBuild *b = &o->b;
  int64_t block = o->f->block;
  KVar *i = kb_for(b, "i", 0, r->count, 1, FOR_SEQ);
  Affine l = aff_var(kb_for(b, "l", 0, block, 1, FOR_VEC)), pattern = aff_plus(l, r->pattern * block);
  Affine window = aff_plus(aff_add(aff_term(i, r->step), aff_mul(period, o->f->period_step)), r->at);
  Affine to = aff_plus(aff_add(aff_term(i, block), aff_mul(period, o->f->period * block)), r->first * block);
  KExpr *byte = lookup(o, block, from, window, kx_load1(b, o->at, pattern));
  kb_store1(b, o->panel, aff_add(to, l), kx_op2(b, KOP_AND, byte, kx_load1(b, o->mask, pattern)));
  kb_end(b);
  kb_end(b);
}

static void emit_runs(Opening *o, KBuf *from) {
  const OpenForm *f = o->f;
  if (f->n_repeated > 0) {
    KVar *p = kb_for(&o->b, "p", 0, f->periods, 1, FOR_SEQ);
    for (uint32_t i = 0; i < f->n_repeated; i++) emit_run(o, from, &f->run[i], aff_var(p));
    kb_end(&o->b);
  }
  for (uint32_t i = f->n_repeated; i < f->n_runs; i++) emit_run(o, from, &f->run[i], aff(0));
}

// ---- the step

static KBuf *flat(Opening *o, const char *name, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return kb_param(&o->b, name, DT_U8, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_WORK);
}

static PBuf *work_bytes(LowerCtx *ctx, const char *name, int64_t n) {
  return lower_work(ctx, name, type_tensor(ctx->m->types, DT_U8, 1, &n));
}

PBuf *open_emit(LowerCtx *ctx, const OpenForm *f) {
  Opening o = {.f = f};
  PBuf *bufs[6];
  uint32_t n = 0;
  int64_t opens = open_steps(f) * f->row, whole = f->expands ? (f->packed + f->block - 1) / f->block * f->block : opens;
  bool codes = f->bits < BYTE;
  kbuild_init(&o.b, ctx->m, arena_printf(ctx->m->arena, "open_%u", ctx->p->steps.n), f->w->op->loc);
  o.panel = flat(&o, "panels", bufs[n++] = work_bytes(ctx, "panels", whole));
  o.codes = flat(&o, "codes", bufs[n++] = make_codes(ctx, f));
  bufs[1]->is_weights = true;
  if (codes && f->book) o.book = flat(&o, "book", bufs[n++] = make_book(ctx, f));
  KBuf *from = o.codes;
  if (codes && f->expands) {
    from = o.dense = flat(&o, "dense", bufs[n++] = work_bytes(ctx, "dense", opens > f->block ? opens : f->block));
  }
  if (f->expands) {
    o.at = flat(&o, "places", bufs[n++] = make_patterns(ctx, f, false));
    o.mask = flat(&o, "mask", bufs[n++] = make_patterns(ctx, f, true));
  }
  if (codes) emit_codes(&o, f->expands ? o.dense : o.panel);
  emit_runs(&o, from);
  lower_step(ctx, &o.b, f->w->op, NULL, n, bufs)->strategy = "pack";
  return bufs[0];
}
