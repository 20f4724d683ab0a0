// Codes in the place of weights for few rows of x. See passes/sparse_book.h.
//
//   word    place code | place code | place code        5 + up to 5 bits each, or two of 5 + up to 11
//   acc[v] += book[code] * x[base + place]              two permutations; books of more than 32 values take several
#include <string.h>

#include "ir/note.h"
#include "passes/compress/deepcomp.h"
#include "passes/lower/sparse_rows.h"

enum { FEW = 16, MANY = 32 };  // values that one lookup reads

// ---- packing

typedef struct Words {
  uint32_t *words;
  int32_t *at;
} Words;

static int64_t entries_of(const SparseCodes *c) { return c->bits <= 4 ? FEW : (int64_t)1 << c->bits; }

// One group and pass; the steps are filled up to whole words. Returns the words of a lane.
static int64_t group_words(Rows *r, int64_t group, uint32_t pass, Words *to) {
  const SparseLower *l = r->e.l;
  const SparseCodes *c = &r->codes;
  int64_t width = rows_vectors(r, group) * l->lanes, filter = group * r->g * l->lanes;
  r->f.lo = pass * c->values;
  r->f.hi = r->f.lo + c->values;
  int64_t steps = sparse_window(&r->f, filter, width, NULL), words = (steps + c->slots - 1) / c->slots;
  if (to == NULL) return words;
  Arena *arena = arena_new("slots");
  uint32_t *values = NEW_ARRAY(arena, uint32_t, steps *width + 1);
  uint8_t *places = NEW_ARRAY(arena, uint8_t, steps *width + 1);
  SparseRows rows = {values, places, to->at};
  sparse_window(&r->f, filter, width, &rows);
  for (int64_t i = steps; i < words * c->slots; i++) to->at[i] = 0;
  for (int64_t i = 0; i < steps * width; i++) {
    uint32_t code = values[i] != 0 ? sparse_number(r->f.book, values[i]) - r->f.lo + 1 : 0;
    int64_t word = i / width / c->slots * width + i % width, slot = i / width % c->slots;
    to->words[word] |= (code << SPARSE_PLACE | places[i]) << slot * (c->slots == 3 ? 10 : 16);
  }
  to->words += words * width;
  to->at += words * c->slots;
  arena_free(arena);
  return words;
}

static Value *borrowed(const SparseLower *l, DType t, int64_t n, const void *data, const char *name) {
  return const_borrowed(l->ctx->m, type_tensor(l->ctx->m->types, t, 1, &n), data, name);
}

static Value *make_book(const Rows *r) {
  const SparseBook *b = r->f.book;
  const SparseCodes *c = &r->codes;
  int64_t n = entries_of(c), count = n * c->passes;
  float *data = NEW_ARRAY(r->e.l->ctx->m->arena, float, count);
  for (uint32_t i = 0; i < b->n; i++) data[i / c->values * n + i % c->values + 1] = b->value[i];
  return borrowed(r->e.l, DT_F32, count, data, "book");
}

// What the object holds for the weights, against their Deep Compression by formula (S42).
static void note_stored(const Rows *r, int64_t bytes) {
  const SparseLower *l = r->e.l;
  const SparseCodes *c = &r->codes;
  const Const *w = l->s.w;
  Arena *arena = arena_new("deep");
  Deep d;
  float *copy = NEW_ARRAY(arena, float, type_count(w->type) + 1);
  memcpy(copy, r->f.w, (size_t)type_bytes(w->type));
  note_layer(l->ctx->m, l->op, NOTE_RECOVERED,
             "%u values in %u book%s; places of %d and codes of %u bits, lanes that idle included: %lld bytes",
             r->f.book->n, c->passes, c->passes > 1 ? "s" : "", SPARSE_PLACE, c->bits, (long long)bytes);
  if (deep_best(copy, type_count(w->type), arena, &d)) {
    int64_t deep = deep_size(&d, false).total;
    note_layer(l->ctx->m, l->op, NOTE_RECOVERED, "as Deep Compression %lld bytes by formula: stored are %.2f of that",
               (long long)deep, (double)bytes / (double)deep);
  }
  arena_free(arena);
}

bool codes_pack(Rows *r, int64_t groups) {
  SparseLower *l = r->e.l;
  Module *m = l->ctx->m;
  const SparseCodes *c = &r->codes;
  int64_t passes = c->passes, words = 0, slots, at = 0;
  int32_t *first = NEW_ARRAY(m->arena, int32_t, groups *passes + 1);
  for (int64_t i = 0; i < groups * passes; i++) {
    first[i] = (int32_t)words;
    words += group_words(r, i / passes, (uint32_t)(i % passes), NULL);
    if (words > INT32_MAX / 4) return false;
  }
  first[groups * passes] = (int32_t)words;
  r->last_first = first[(groups - 1) * passes];
  if (words == 0) words = 1;
  if (!dims_count(3, (int64_t[]){words, r->g, l->lanes}, &slots)) return false;
  slots -= (words - r->last_first) * (r->g - rows_vectors(r, groups - 1)) * l->lanes;
  Words to = {NEW_ARRAY(m->arena, uint32_t, slots), NEW_ARRAY(m->arena, int32_t, words * c->slots)};
  l->values = borrowed(l, DT_U32, slots, to.words, l->s.w->name);
  l->order = borrowed(l, DT_I32, words * c->slots, to.at, "columns");
  l->first = borrowed(l, DT_I32, groups * passes + 1, first, "first");
  l->book = make_book(r);
  for (; at < groups * passes; at++) group_words(r, at / passes, (uint32_t)(at % passes), &to);
  note_stored(r, 4 * (slots + words * c->slots + groups * passes + 1 + entries_of(c) * passes));
  return true;
}

// ---- the kernel

static KExpr *shifted(KBuild *b, KVar *word, uint32_t by) {
  KExpr *x = by > 0 ? kx_op2(b, KOP_SHR, kx_var(b, word), kx_i(b, DT_U32, by)) : kx_var(b, word);
  return kx_view(b, DT_I32, x);
}

// The value of the code that lies at `shift` of the word; of several lookups one is chosen by the high bits.
static KExpr *value_of(Rows *r, KVar *word, uint32_t shift, int64_t pass) {
  KBuild *b = &r->e.b;
  KExpr *value[8];
  int64_t entries = entries_of(&r->codes), size = entries == FEW ? FEW : MANY;
  uint32_t n = (uint32_t)(entries / size), bit = shift + 5;
  KOp lookup = size == FEW ? KOP_LOOKUP16 : KOP_LOOKUP32;
  for (uint32_t i = 0; i < n; i++)
    value[i] = kx_op2(b, lookup, kx_load1(b, r->book, aff(pass * entries + i * size)), shifted(b, word, shift));
  for (; n > 1; n /= 2, bit++)
    for (uint32_t i = 0; i < n / 2; i++) {
      KExpr *one = kx_op2(b, KOP_AND, kx_var(b, word), kx_i(b, DT_U32, (int64_t)1 << bit));
      KExpr *test = kx_op2(b, KOP_GT, one, kx_i(b, DT_U32, 0));
      value[i] = kx_op3(b, KOP_SELECT, test, value[2 * i + 1], value[2 * i]);
    }
  return value[0];
}

void codes_step(Rows *r, KBuf *acc, Affine word, Affine from, Affine row, int64_t mi, int64_t g, int64_t pass) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  uint32_t slots = r->codes.slots, width = slots == 3 ? 10 : 16;
  int64_t sets = acc->dims[0] / (mi * g);
  KVar *base[3];
  for (uint32_t i = 0; i < slots; i++)
    base[i] = kb_let(b, "base", kx_load1(b, r->at, aff_plus(aff_mul(word, slots), i)));
  for (int64_t v = 0; v < g; v++) {
    Affine l = aff_var(kb_for(b, "l", 0, s->lanes, 1, FOR_VEC));
    KVar *bits = kb_let(b, "word", kx_load1(b, r->values, aff_add(aff_plus(from, v * s->lanes), l)));
    for (uint32_t i = 0; i < slots; i++) {
      KVar *w = kb_let(b, "w", value_of(r, bits, i * width + SPARSE_PLACE, pass));
      for (int64_t m = 0; m < mi; m++) {
        Affine at[2] = {aff((m * g + v) * sets + i % sets), l};
        Affine of = aff_add(aff_mul(aff_plus(row, m), s->s.c), aff_var(base[i]));
        KExpr *x = kx_op2(b, KOP_LOOKUP32, kx_load1(b, r->x, of), shifted(b, bits, i * width));
        kb_store(b, acc, at, lower_mul_add(s->ctx, b, x, kx_var(b, w), kx_load(b, acc, at)));
      }
    }
    kb_end(b);
  }
}
