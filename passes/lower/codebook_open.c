// Codebooks opened once per run: packed floats out of codes, by a step before the nest. See codebook.h.
//
//   for panels { for vectors of columns {
//     for groups of k { for fields of a word { panel[k][column] = book[word >> field] } } } }
//
// A lane of a word holds the codes of neighbouring k of one column, lowest bits first; words are of 8, 16 or 32 bits,
// whichever makes the rows of k end with the least to spare. One book for all is looked up, 16 or 32 values at a time;
// a book per column is a vector per code, chosen among by the bits of the code.
#include <string.h>

#include "ir/elem.h"
#include "ir/note.h"

#include "passes/lower/codebook_open.h"

typedef BookOpen Open;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- books

// The place of a value, added when it is new; -1 when the book is full.
static int32_t book_add(Book *b, uint32_t bits) {
  for (uint32_t i = 0; i < b->n; i++)
    if (b->bits[i] == bits) return (int32_t)i;
  if (b->n == b->cap) return -1;
  b->bits[b->n] = bits;
  return (int32_t)b->n++;
}

uint32_t codebook_bits(uint32_t n) {
  uint32_t bits = 1;
  while (n > 1U << bits) bits++;
  return bits;
}

// The number of a value, added when it is new; -1 when there are too many.
static int32_t values_add(Values *v, uint32_t bits) {
  uint32_t i = bits * 2654435761U >> 22;
  for (; v->used[i]; i = (i + 1) % VALUE_SLOTS)
    if (v->at[i] == bits) return (int32_t)v->code[i];
  if (v->n == CODEBOOK_ALL) return -1;
  v->used[i] = true;
  v->at[i] = bits;
  v->code[i] = v->n;
  return (int32_t)v->n++;
}

static uint32_t float_bits(const uint8_t *data, int64_t i) {
  uint32_t bits;
  memcpy(&bits, data + 4 * i, sizeof bits);
  return bits;
}

static uint32_t values_of_all(const uint8_t *data, int64_t count) {
  Values v = {0};
  for (int64_t i = 0; i < count; i++)
    if (values_add(&v, float_bits(data, i)) < 0) return 0;
  return v.n;
}

// The most values of a column, 0 when one has too many. Element (k, c) is at k * k_step + c * c_step.
static uint32_t values_of_columns(const uint8_t *data, int64_t rows, int64_t k_step, int64_t columns, int64_t c_step) {
  uint32_t most = 0;
  for (int64_t c = 0; c < columns; c++) {
    uint32_t bits[CODEBOOK_COLUMN];
    Book b = {.cap = CODEBOOK_COLUMN, .bits = bits};
    for (int64_t k = 0; k < rows; k++)
      if (book_add(&b, float_bits(data, k * k_step + c * c_step)) < 0) return 0;
    most = b.n > most ? b.n : most;
  }
  return most;
}

// Bits of the codes of n values and of `books` books of them.
static double stored_bits(double weights, uint32_t n, double books) {
  return weights * codebook_bits(n) + 32.0 * books * n;
}

bool codebook_of(const Op *op, Codebook *c) {
  const Value *w = op_in(op, 1);
  if (!value_is_const(w) || w->type->dtype != DT_F32 || type_count(w->type) == 0) return false;
  const uint8_t *data = const_data(op->func->module, w->constant);
  int64_t count = type_count(w->type), last = w->type->dims[w->type->rank - 1];
  bool trans = op->kind == OP_MATMUL && op_bool(op, A_MATMUL_trans_b);
  int64_t columns = trans ? count / last : last, rows = count / columns;
  uint32_t all = values_of_all(data, count);
  uint32_t column = values_of_columns(data, rows, trans ? 1 : columns, columns, trans ? rows : 1);
  double floats = 32.0 * (double)count, one = all ? stored_bits((double)count, all, 1) : floats;
  double each = column ? stored_bits((double)count, column, (double)columns) : floats;
  *c = (Codebook){.columns = each < 0.9 * one, .run = 1};
  c->n = c->columns ? column : all;
  c->bits = codebook_bits(c->n);
  double least_bits = c->columns ? each : one;
  if (least_bits >= floats / 2) return codebook_words(op, floats / 2, c);
  if (c->n > CODEBOOK_MAX) codebook_words(op, 0.9 * least_bits, c);
  return true;
}

// ---- the packed floats

// Element (k, lane 0) of a vector of a copy.
static int64_t panel_at(const Open *e, int64_t copy, int64_t vector, int64_t k) {
  const PackSpec *s = e->s;
  int64_t panel = vector / s->nv, width = least(s->nv, e->vectors - panel * s->nv) * s->lanes;
  return copy * pack_copy_elems(s) + panel * s->nv * s->lanes * e->k + k * width + vector % s->nv * s->lanes;
}

// The code of element (k, lane) of a vector, new values being added to its book; -1 when that is full.
static int32_t code_of(const Open *e, int64_t copy, int64_t vector, int64_t k, int64_t lane) {
  uint32_t bits = float_bits((const uint8_t *)e->panels, panel_at(e, copy, vector, k) + lane);
  if (!e->columns) return values_add(e->all, bits);
  return book_add(&e->book[(copy * e->vectors + vector) * e->s->lanes + lane], bits);
}

static bool is_missing(const Open *e, int64_t vector, int64_t lane) { return vector * e->s->lanes + lane >= e->s->n; }

// Fills the books; false when one has no more room.
static bool read_books(Open *e) {
  for (int64_t c = 0; c < pack_copies(e->s); c++)
    for (int64_t v = 0; v < e->vectors; v++)
      for (int64_t k = 0; k < e->k; k++)
        for (int64_t l = 0; l < e->s->lanes && !is_missing(e, v, l); l++)
          if (code_of(e, c, v, k, l) < 0) return false;
  return true;
}

static int64_t book_count(const Open *e) { return pack_copies(e->s) * e->vectors * e->s->lanes; }

static void new_books(Open *e) {
  Arena *arena = e->ctx->m->arena;
  if (!e->columns) {
    e->all = NEW(arena, Values);
    return;
  }
  e->book = NEW_ARRAY(arena, Book, book_count(e));
  uint32_t *bits = NEW_ARRAY(arena, uint32_t, book_count(e) * CODEBOOK_COLUMN);
  for (int64_t i = 0; i < book_count(e); i++)
    e->book[i] = (Book){.cap = CODEBOOK_COLUMN, .bits = bits + i * CODEBOOK_COLUMN};
}

static void settle_books(Open *e) {
  e->n = e->columns ? 1 : e->all->n;
  for (int64_t i = 0; e->columns && i < book_count(e); i++) e->n = e->book[i].n > e->n ? e->book[i].n : e->n;
  e->bits = codebook_bits(e->n);
}

static uint32_t word_bits(DType word) { return dtype_info(word)->bits; }

// Words per lane of a row of k.
static int64_t word_count(const Open *e, DType word) {
  uint32_t fields = word_bits(word) / e->bits;
  return (e->k + fields - 1) / fields;
}

static void choose_word(Open *e) {
  static const DType words[] = {DT_U32, DT_U16, DT_U8};
  e->word = DT_U32;
  for (size_t i = 1; i < sizeof words / sizeof *words; i++)
    if (word_count(e, words[i]) * word_bits(words[i]) < word_count(e, e->word) * word_bits(e->word)) e->word = words[i];
  e->fields = word_bits(e->word) / e->bits;
}

// ---- constants

static uint32_t code_at(const Open *e, int64_t copy, int64_t vector, int64_t k, int64_t lane) {
  return k < e->k && !is_missing(e, vector, lane) ? (uint32_t)code_of(e, copy, vector, k, lane) : 0;
}

static Value *make_words(Open *e, const char *name) {
  int64_t groups = word_count(e, e->word), lanes = e->s->lanes, at = 0;
  int64_t count = pack_copies(e->s) * e->vectors * groups * lanes;
  const Type *t = type_tensor(e->ctx->m->types, e->word, 1, &count);
  uint8_t *data = arena_alloc(e->ctx->m->arena, (size_t)type_bytes(t) + 1);
  size_t size = word_bits(e->word) / 8;
  for (int64_t i = 0; i < count / lanes; i++)
    for (int64_t l = 0; l < lanes; l++, at++) {
      int64_t group = i % groups, vector = i / groups;
      uint32_t word = 0;
      for (uint32_t f = 0; f < e->fields; f++)
        word |= code_at(e, vector / e->vectors, vector % e->vectors, group * e->fields + f, l) << (f * e->bits);
      memcpy(data + (size_t)at * size, &word, size);  // little-endian, as the targets are
    }
  return const_borrowed(e->ctx->m, t, data, name);
}

// As many entries as codes, repeated to fill what one lookup reads.
static void fill_table(const Open *e, uint32_t *data, int64_t count) {
  for (uint32_t i = 0; i < VALUE_SLOTS; i++)
    for (int64_t at = e->all->code[i]; e->all->used[i] && at < count; at += (int64_t)1 << e->bits)
      data[at] = e->all->at[i];
}

// A vector per code.
static void fill_column_table(const Open *e, uint32_t *data, int64_t count) {
  int64_t lanes = e->s->lanes;
  for (int64_t i = 0; i < count; i++) {
    const Book *b = &e->book[i / (e->n * lanes) * lanes + i % lanes];
    uint32_t code = (uint32_t)(i / lanes % e->n);
    data[i] = code < b->n ? b->bits[code] : 0;
  }
}

static Value *make_table(Open *e) {
  Module *m = e->ctx->m;
  int64_t entries = e->bits <= 4 ? 16 : (int64_t)1 << e->bits, count = e->columns ? book_count(e) * e->n : entries;
  const Type *t = type_tensor(m->types, DT_F32, 1, &count);
  uint32_t *data = NEW_ARRAY(m->arena, uint32_t, count);
  (e->columns ? fill_column_table : fill_table)(e, data, count);
  return const_borrowed(m, t, data, "book");
}

// ---- the kernel

// One of `n` values by the bits of the code at `shift` of the word, bit `bit` on.
static KExpr *choose(Open *e, KVar *word, uint32_t shift, KExpr **value, uint32_t n) {
  KBuild *b = &e->b;
  for (uint32_t bit = shift; n > 1; bit++, n = (n + 1) / 2) {
    for (uint32_t i = 0; i < n / 2; i++) {
      KExpr *one = kx_op2(b, KOP_AND, kx_var(b, word), kx_i(b, DT_U32, (int64_t)1 << bit));
      KExpr *test = kx_op2(b, KOP_GT, one, kx_i(b, DT_U32, 0));
      value[i] = kx_op3(b, KOP_SELECT, test, value[2 * i + 1], value[2 * i]);
    }
    if (n % 2 == 1) value[n / 2] = value[n - 1];
  }
  return value[0];
}

// The floats of field f of a vector of words; `book` is where the books of the vector begin.
static KExpr *open_field(Open *e, KVar *word, uint32_t f, Affine book, Affine lane) {
  KBuild *b = &e->b;
  KExpr *value[CODEBOOK_COLUMN];
  uint32_t shift = f * e->bits;
  if (e->columns) {
    for (uint32_t i = 0; i < e->n; i++)
      value[i] = kx_load1(b, e->table, aff_add(aff_plus(book, i * e->s->lanes), lane));
    return choose(e, word, shift, value, e->n);
  }
  uint32_t entries = e->bits <= 4 ? 16 : 32, tables = e->bits <= 5 ? 1 : 1U << (e->bits - 5);
  for (uint32_t i = 0; i < tables; i++) {
    KExpr *code = kx_view(b, DT_I32, kx_var(b, word));
    if (shift > 0) code = kx_view(b, DT_I32, kx_op2(b, KOP_SHR, kx_var(b, word), kx_i(b, DT_U32, shift)));
    value[i] = kx_op2(b, entries == 16 ? KOP_LOOKUP16 : KOP_LOOKUP32, kx_load1(b, e->table, aff(i * entries)), code);
  }
  return choose(e, word, shift + 5, value, tables);
}

// `fields` rows of k from one vector of words; `to` is the first of them.
static void emit_word(Open *e, Affine words, Affine book, Affine to, int64_t width, int64_t fields) {
  KBuild *b = &e->b;
  for (int64_t f = 0; f < fields; f++) {
    Affine l = aff_var(kb_for(b, "l", 0, e->s->lanes, 1, FOR_VEC));
    KVar *word = kb_let(b, "word", kx_cast(b, DT_U32, kx_load1(b, e->words, aff_add(words, l))));
    kb_store1(b, e->to, aff_add(aff_plus(to, f * width), l), open_field(e, word, (uint32_t)f, book, l));
    kb_end(b);
  }
}

static void emit_vector(Open *e, Affine number, Affine to, int64_t width) {
  KBuild *b = &e->b;
  int64_t whole = e->k / e->fields, rest = e->k % e->fields, lanes = e->s->lanes;
  Affine words = aff_mul(number, word_count(e, e->word) * lanes), book = aff_mul(number, e->columns ? e->n * lanes : 0);
  if (whole > 0) {
    Affine g = whole > 1 ? aff_var(kb_for(b, "g", 0, whole, 1, FOR_SEQ)) : aff(0);
    emit_word(e, aff_add(words, aff_mul(g, lanes)), book, aff_add(to, aff_mul(g, e->fields * width)), width, e->fields);
    if (whole > 1) kb_end(b);
  }
  if (rest > 0)
    emit_word(e, aff_plus(words, whole * lanes), book, aff_plus(to, whole * e->fields * width), width, rest);
}

// Panels [first, first + n) of a copy, of nv vectors each.
static void emit_panels(Open *e, Affine copy, int64_t first, int64_t n, int64_t nv, KForKind kind) {
  KBuild *b = &e->b;
  const PackSpec *s = e->s;
  Affine p = aff(first), v = aff(0);
  if (n > 1) p = aff_var(kb_for(b, "p", first, first + n, 1, kind));
  if (nv > 1) v = aff_var(kb_for(b, "v", 0, nv, 1, FOR_SEQ));
  Affine number = aff_add(aff_add(aff_mul(copy, e->vectors), aff_mul(p, s->nv)), v);
  Affine to = aff_add(aff_mul(copy, pack_copy_elems(s)), aff_mul(p, s->nv * s->lanes * e->k));
  e->vector(e, number, aff_add(to, aff_mul(v, s->lanes)), nv * s->lanes);
  if (nv > 1) kb_end(b);
  if (n > 1) kb_end(b);
}

void codebook_panels(Open *e) {
  KBuild *b = &e->b;
  int64_t copies = pack_copies(e->s), full = e->vectors / e->s->nv, rest = e->vectors % e->s->nv;
  Affine copy = copies > 1 ? aff_var(kb_for(b, "copy", 0, copies, 1, FOR_PAR)) : aff(0);
  if (full > 0) emit_panels(e, copy, 0, full, e->s->nv, copies == 1 && rest == 0 ? FOR_PAR : FOR_SEQ);
  if (rest > 0) emit_panels(e, copy, full, 1, rest, FOR_SEQ);
  if (copies > 1) kb_end(b);
}

KBuf *codebook_param(Open *e, const char *name, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return kb_param(&e->b, name, buf->type->dtype, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_WORK);
}

PBuf *codebook_open(LowerCtx *ctx, const Op *op, Value *w, const PackSpec *s) {
  Value *packed = pack_const(ctx->m, w->constant, s, op->loc);
  Codebook c;
  if (packed == NULL) return NULL;
  if (codebook_of(op, &c) && c.run > 1) return codebook_open_words(ctx, op, &c, s, packed->type);
  Open e = {.ctx = ctx, .s = s, .panels = const_data(ctx->m, packed->constant), .k = pack_k(s), .vector = emit_vector};
  e.vectors = (s->n + s->lanes - 1) / s->lanes;
  e.columns = codebook_of(op, &c) && c.columns;
  new_books(&e);
  if (!read_books(&e)) {
    diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
               "plan 'codebook' holds constant f32 weights of at most %d values or %d in a column, found more; use "
               "another plan",
               CODEBOOK_ALL, CODEBOOK_COLUMN);
    return NULL;
  }
  settle_books(&e);
  choose_word(&e);
  note_layer(ctx->m, op, NOTE_RECOVERED,
             "weights stored in %u bits each, a book of %u floats for %s; opened once a run", e.bits, e.n,
             e.columns ? "a column" : "all");
  PBuf *bufs[3] = {lower_work(ctx, "panels", packed->type), lower_const(ctx, make_words(&e, w->constant->name)),
                   lower_const(ctx, make_table(&e))};
  bufs[1]->is_weights = true;
  kbuild_init(&e.b, ctx->m, arena_printf(ctx->m->arena, "open_%u", op->id), op->loc);
  e.to = codebook_param(&e, "panels", bufs[0]);
  e.words = codebook_param(&e, "words", bufs[1]);
  e.table = codebook_param(&e, "table", bufs[2]);
  codebook_panels(&e);
  lower_step(ctx, &e.b, op, NULL, 3, bufs)->strategy = "pack";
  return bufs[0];
}
