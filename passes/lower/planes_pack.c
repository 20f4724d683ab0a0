// The strategy planes: the step that turns rows of bytes into rows of bits. See planes.h.
//
// A word of channels at a time (or as many as a vector has bytes) are compared at once, the rest of a row in ever
// smaller pieces; nothing outside of x is read.
#include "passes/lower/planes.h"

typedef struct BitsPack {
  KBuild b;
  const PlanesX *f;
  KBuf *x, *words, *unit[4];  // the words as u8, u16, u32, u64, none wider than a word
} BitsPack;

static const DType unit_types[] = {DT_U8, DT_U16, DT_U32, DT_U64};

// Is bit `plane` of the code of an element set.
static KExpr *code_bit(BitsPack *p, Affine at, int64_t plane) {
  const PlanesX *f = p->f;
  KBuild *b = &p->b;
  KExpr *x = kx_load1(b, p->x, at);
  if (f->planes == 1) return kx_op2(b, KOP_GT, x, kx_i(b, p->x->type, f->lo));
  if (p->x->type != DT_U8) x = kx_view(b, DT_U8, x);
  if (f->lo != 0) x = kx_op2(b, KOP_SUB, x, kx_i(b, DT_U8, f->lo & 0xff));
  KExpr *bit = kx_op2(b, KOP_AND, x, kx_i(b, DT_U8, f->step << plane));
  return kx_op1(b, KOP_NOT, kx_op2(b, KOP_EQ, bit, kx_i(b, DT_U8, 0)));
}

// `lanes` (8 to the bits of a word) neighbours, channel `bit` of their word and on, to the words of all planes.
static void emit_lanes(BitsPack *p, Affine word, Affine from, int64_t bit, uint32_t log_bytes) {
  int64_t lanes = 8 << log_bytes, per_word = p->f->word / lanes;
  for (int64_t i = 0; i < p->f->planes; i++) {
    Affine to = aff_plus(aff_mul(word, per_word), i * per_word + bit / lanes);
    KVar *l = kb_for(&p->b, "l", 0, lanes, 1, FOR_VEC);
    kb_reduce_bits(&p->b, p->unit[log_bytes], &to, code_bit(p, aff_add(from, aff_var(l)), i));
    kb_end(&p->b);
  }
}

// The last, incomplete byte of a row.
static void emit_last(BitsPack *p, Affine word, Affine from, int64_t bit, int64_t have) {
  for (int64_t i = 0; i < p->f->planes; i++) {
    KExpr *byte = NULL;
    for (int64_t c = 0; c < have; c++) {
      KExpr *one = kx_cast(&p->b, DT_U8, code_bit(p, aff_plus(from, c), i));
      if (c > 0) one = kx_op2(&p->b, KOP_SHL, one, kx_i(&p->b, DT_U8, c));
      byte = byte ? kx_op2(&p->b, KOP_OR, byte, one) : one;
    }
    kb_store1(&p->b, p->unit[0], aff_plus(aff_mul(word, p->f->word / 8), i * p->f->word / 8 + bit / 8), byte);
  }
}

// The words of one group of a row.
static void emit_group(BitsPack *p, Affine word, Affine from, uint32_t log_most) {
  int64_t channels = p->f->channels, size = p->f->word, whole = channels / size, at = 0, rest = channels % size;
  if (whole > 0) {
    Affine w = aff_var(kb_for(&p->b, "w", 0, whole, 1, FOR_SEQ));
    Affine to = aff_add(word, aff_mul(w, p->f->planes)), x = aff_add(from, aff_mul(w, size));
    for (int64_t bit = 0; bit < size; bit += 8 << log_most) emit_lanes(p, to, aff_plus(x, bit), bit, log_most);
    kb_end(&p->b);
  }
  if (rest == 0) return;
  word = aff_plus(word, whole * p->f->planes);
  from = aff_plus(from, whole * size);
  for (int64_t i = 0; i < p->f->planes; i++)
    kb_store1(&p->b, p->words, aff_plus(word, i), kx_i(&p->b, p->words->type, 0));
  for (uint32_t log_bytes = log_most + 1; log_bytes-- > 0;) {
    for (int64_t lanes = 8 << log_bytes; at + lanes <= rest; at += lanes)
      emit_lanes(p, word, aff_plus(from, at), at, log_bytes);
  }
  if (at < rest) emit_last(p, word, aff_plus(from, at), at, rest - at);
}

PBuf *planes_pack(LowerCtx *ctx, const Op *op, PBuf *x, const PlanesX *f) {
  int64_t in_row = planes_row(f), rows = type_count(x->type) / (f->channels * f->group), count = rows * in_row;
  uint32_t log_most = ctx->target->vector_bits >= 512 ? 3 : ctx->target->vector_bits >= 256 ? 2 : 1;
  while (8 << log_most > f->word) log_most--;
  PBuf *to = lower_work(ctx, "bits", type_tensor(ctx->m->types, planes_type(f), 1, &count));
  BitsPack p = {.f = f};
  kbuild_init(&p.b, ctx->m, arena_printf(ctx->m->arena, "bits_%u", op->id), op->loc);
  p.x = lower_flat(&p.b, x);
  p.words = kb_param(&p.b, "bits", planes_type(f), 1, &count, SPACE_WORK);
  for (uint32_t i = 0; i <= log_most; i++) {
    int64_t units = count * f->word / (8 << i);
    p.unit[i] = kb_view(&p.b, p.words, dtype_info(unit_types[i])->name, unit_types[i], 1, &units);
  }
  Affine row = aff_var(kb_for(&p.b, "row", 0, rows, 1, FOR_PAR));
  Affine word = aff_mul(row, in_row), from = aff_mul(row, f->channels * f->group);
  if (f->group > 1) {
    Affine g = aff_var(kb_for(&p.b, "g", 0, f->group, 1, FOR_SEQ));
    word = aff_add(word, aff_mul(g, f->words * f->planes));
    from = aff_add(from, aff_mul(g, f->channels));
  }
  emit_group(&p, word, from, log_most);
  if (f->group > 1) kb_end(&p.b);
  kb_end(&p.b);
  PBuf *bufs[2] = {x, to};
  lower_step(ctx, &p.b, op, NULL, 2, bufs)->strategy = "bits";
  return to;
}
