// Codebooks of sub-vectors (product quantisation, S59, "And the bit goes down"). See codebook.h.
//
//   columns of the weights, k counting the taps of an input channel before the next channel, are cut into blocks of d;
//   each block is one of at most 4096 words of d floats:  w[d b + p][n] = word[code[b][n]][p]
//
// Found in the dense floats a file holds or folds to, for every d that goes with the taps; used only where the words
// give every weight back bit for bit. Codes are stored per vector of columns, block by block; opening a block looks up
// one of its places after the other in a table of that place:
//
//   for blocks b { c = code[b][lanes];  for places p { panel[row of (b, p)][lanes] = table[p][c] } }
#include <string.h>

#include "ir/note.h"
#include "passes/contraction.h"
#include "passes/lower/codebook_open.h"

enum { LONGEST = 36, SLOTS = 4 * CODEBOOK_WORDS, BYTE = 256 };

// The weights as columns: element (channel, tap, column).
typedef struct Columns {
  const uint8_t *data;
  int64_t channels, taps, columns;
  int64_t channel_step, tap_step, column_step;
} Columns;

typedef struct Words {
  uint32_t d, n, most;
  uint32_t *bits;        // [n][d]
  uint32_t slot[SLOTS];  // of a word, one above its number
} Words;

static bool columns_of(const Op *op, Columns *c) {
  const Value *w = op_in(op, 1);
  if (!value_is_const(w) || w->type->dtype != DT_F32 || type_count(w->type) == 0) return false;
  *c = (Columns){.data = const_data(op->func->module, w->constant), .taps = 1};
  const int64_t *dims = w->type->dims;
  if (op->kind == OP_MATMUL) {
    bool trans = op_bool(op, A_MATMUL_trans_b);
    if (w->type->rank != 2) return false;
    c->channels = dims[trans];
    c->columns = dims[!trans];
    c->channel_step = trans ? 1 : c->columns;
    c->column_step = trans ? c->channels : 1;
    return true;
  }
  ConvGeom g;
  if (op->kind != OP_CONV || op_enum(op, A_CONV_layout) != LAYOUT_NHWC || !conv_geom(op, &g) || g.group != 1)
    return false;
  c->taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
  c->channels = g.c;
  c->columns = c->channel_step = g.o;
  c->tap_step = g.c * g.o;
  c->column_step = 1;
  return true;
}

static int64_t length_of(const Columns *c) { return c->channels * c->taps; }

// Place `f` of a column, counted taps first.
static uint32_t bits_at(const Columns *c, int64_t f, int64_t column) {
  int64_t at = f / c->taps * c->channel_step + f % c->taps * c->tap_step + column * c->column_step;
  uint32_t bits;
  memcpy(&bits, c->data + 4 * at, sizeof bits);
  return bits;
}

// The number of the word at block b of a column, added when it is new; -1 when there is no room.
static int32_t word_at(Words *w, const Columns *c, int64_t b, int64_t column) {
  uint32_t word[LONGEST], hash = 2166136261U;
  for (uint32_t p = 0; p < w->d; p++) {
    word[p] = bits_at(c, b * w->d + p, column);
    hash = (hash ^ word[p]) * 16777619U;
    hash ^= hash >> 15;
  }
  uint32_t i = hash % SLOTS;
  for (; w->slot[i] != 0; i = (i + 1) % SLOTS)
    if (memcmp(w->bits + (size_t)(w->slot[i] - 1) * w->d, word, w->d * sizeof *word) == 0)
      return (int32_t)w->slot[i] - 1;
  if (w->n == w->most) return -1;
  memcpy(w->bits + (size_t)w->n * w->d, word, w->d * sizeof *word);
  w->slot[i] = ++w->n;
  return (int32_t)w->n - 1;
}

static Words *words_new(Arena *arena, uint32_t d, uint32_t most) {
  Words *w = NEW(arena, Words);
  w->d = d;
  w->most = most;
  w->bits = NEW_ARRAY(arena, uint32_t, (size_t)most *d);
  return w;
}

// Bits of codes, whole bytes of them, and of the words.
static double stored_bits(const Columns *c, uint32_t d, uint32_t n) {
  return (double)(length_of(c) / d * c->columns) * (n > BYTE ? 16 : 8) + 32.0 * d * n;
}

// Number of words of length d, 0: too many to take fewer than `most` bits.
static uint32_t count_words(const Columns *c, uint32_t d, double most, Arena *arena) {
  uint32_t room = CODEBOOK_WORDS;
  while (room > 0 && stored_bits(c, d, room) >= most) room /= 2;
  if (room == 0) return 0;
  Words *w = words_new(arena, d, room);
  for (int64_t column = 0; column < c->columns; column++)
    for (int64_t b = 0; b < length_of(c) / d; b++)
      if (word_at(w, c, b, column) < 0) return 0;
  return w->n;
}

// Blocks of whole channels, or a channel of whole blocks.
static bool goes_with_taps(const Columns *c, uint32_t d) {
  return length_of(c) % d == 0 && (d % c->taps == 0 || c->taps % d == 0);
}

bool codebook_words(const Op *op, double most, Codebook *book) {
  Columns c;
  bool found = false;
  if (!columns_of(op, &c)) return false;
  for (uint32_t d = LONGEST; d > 1; d--) {
    if (!goes_with_taps(&c, d)) continue;
    Arena *arena = arena_new("words");
    uint32_t n = count_words(&c, d, most, arena);
    arena_free(arena);
    if (n == 0) continue;
    most = stored_bits(&c, d, n);
    *book = (Codebook){.n = n, .bits = n > BYTE ? 16 : 8, .run = d};
    found = true;
  }
  return found;
}

// ---- words met again

// Number of different words in a column.
static int64_t words_of_column(Words *w, const Columns *c, int64_t column, uint32_t *seen) {
  int64_t different = 0;
  for (int64_t b = 0; b < length_of(c) / w->d; b++) {
    int32_t code = word_at(w, c, b, column);
    if (code < 0 || seen[code] == column + 1) continue;
    seen[code] = (uint32_t)column + 1;
    different++;
  }
  return different;
}

bool codebook_sharing(const Op *op, const Codebook *book, WordSharing *s) {
  Columns c;
  if (book->run < 2 || !columns_of(op, &c)) return false;
  Arena *arena = arena_new("sharing");
  Words *w = words_new(arena, book->run, book->n);
  uint32_t *seen = NEW_ARRAY(arena, uint32_t, book->n);
  *s = (WordSharing){.blocks = length_of(&c) / book->run};
  for (int64_t column = 0; column < c.columns; column++) {
    int64_t different = words_of_column(w, &c, column, seen);
    s->sum += different;
    if (different > s->most) s->most = different;
  }
  s->mean = (double)s->sum / (double)c.columns;
  arena_free(arena);
  return true;
}

// ---- constants

typedef struct OpenWords {
  BookOpen open;
  Columns c;
  Words *words;
} OpenWords;

// [vector][block][lane]; missing columns have code 0.
static Value *make_codes(OpenWords *e) {
  LowerCtx *ctx = e->open.ctx;
  int64_t lanes = e->open.s->lanes, blocks = length_of(&e->c) / e->words->d, count = e->open.vectors * blocks * lanes;
  bool wide = e->open.bits > 8;
  const Type *t = type_tensor(ctx->m->types, wide ? DT_U16 : DT_U8, 1, &count);
  uint8_t *data = arena_alloc(ctx->m->arena, (size_t)type_bytes(t) + 1);
  for (int64_t i = 0; i < count; i++) {
    int64_t column = i / lanes / blocks * lanes + i % lanes, b = i / lanes % blocks;
    int32_t code = column < e->c.columns ? word_at(e->words, &e->c, b, column) : 0;
    QCC_CHECK(code >= 0, "a codebook of more words than were counted");
    if (wide) {
      uint16_t two = (uint16_t)code;
      memcpy(data + 2 * i, &two, sizeof two);
    } else {
      data[i] = (uint8_t)code;
    }
  }
  return const_borrowed(ctx->m, t, data, "codes");
}

// [place][word], after the codes were made.
static Value *make_tables(OpenWords *e) {
  LowerCtx *ctx = e->open.ctx;
  int64_t d = e->words->d, n = e->words->n, count = d * n;
  const Type *t = type_tensor(ctx->m->types, DT_F32, 1, &count);
  uint32_t *data = NEW_ARRAY(ctx->m->arena, uint32_t, count);
  for (int64_t i = 0; i < count; i++) data[i] = e->words->bits[i % n * d + i / n];
  return const_borrowed(ctx->m, t, data, "book");
}

// ---- the kernel

// Row of the panel, in rows, of place p of block `b` of a group of blocks that begins with a channel.
static int64_t row_of(const Columns *c, int64_t d, int64_t b, int64_t p) {
  int64_t f = b * d + p;
  return f % c->taps * c->channels + f / c->taps;
}

// Blocks of one or more whole channels are walked as groups: the rows of a group move on by its channels.
static void open_vector(BookOpen *open, Affine number, Affine to, int64_t width) {
  OpenWords *e = (OpenWords *)open;
  KBuild *b = &open->b;
  int64_t d = e->words->d, n = e->words->n, lanes = open->s->lanes, blocks = length_of(&e->c) / d;
  int64_t group = d < e->c.taps ? e->c.taps / d : 1, channels = group * d / e->c.taps;
  Affine g = aff_var(kb_for(b, "g", 0, blocks / group, 1, FOR_SEQ));
  Affine codes = aff_add(aff_mul(number, blocks * lanes), aff_mul(g, group * lanes));
  Affine row = aff_add(to, aff_mul(g, channels * width));
  for (int64_t i = 0; i < group; i++) {
    Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
    KExpr *code = kx_cast(b, DT_I64, kx_load1(b, open->words, aff_plus(aff_add(codes, l), i * lanes)));
    Affine at = aff_var(kb_let(b, "code", code));
    for (int64_t p = 0; p < d; p++)
      kb_store1(b, open->to, aff_plus(aff_add(row, l), row_of(&e->c, d, i, p) * width),
                kx_load1(b, open->table, aff_plus(at, p * n)));
    kb_end(b);
  }
  kb_end(b);
}

PBuf *codebook_open_words(LowerCtx *ctx, const Op *op, const Codebook *c, const PackSpec *s, const Type *packed) {
  OpenWords e = {.open = {.ctx = ctx, .s = s, .k = pack_k(s), .bits = c->bits, .vector = open_vector}};
  BookOpen *open = &e.open;
  open->vectors = (s->n + s->lanes - 1) / s->lanes;
  QCC_CHECK(columns_of(op, &e.c) && length_of(&e.c) == open->k, "a codebook of other weights");
  e.words = words_new(ctx->m->arena, c->run, c->n);
  Value *codes = make_codes(&e), *tables = make_tables(&e);
  note_layer(ctx->m, op, NOTE_RECOVERED,
             "weights stored as %u words of %u weights, %u bits for a word: %.2f bits a weight; opened once a run",
             c->n, c->run, c->bits, stored_bits(&e.c, c->run, c->n) / (double)type_count(op_in(op, 1)->type));
  PBuf *bufs[3] = {lower_work(ctx, "panels", packed), lower_const(ctx, codes), lower_const(ctx, tables)};
  kbuild_init(&open->b, ctx->m, arena_printf(ctx->m->arena, "open_%u", op->id), op->loc);
  open->to = codebook_param(open, "panels", bufs[0]);
  open->words = codebook_param(open, "words", bufs[1]);
  open->table = codebook_param(open, "table", bufs[2]);
  codebook_panels(open);
  lower_step(ctx, &open->b, op, NULL, 3, bufs)->strategy = "pack";
  return bufs[0];
}
