// What the two forms of codebooks opened once per run share. See codebook.h.
#ifndef QCC_PASSES_LOWER_CODEBOOK_OPEN_H
#define QCC_PASSES_LOWER_CODEBOOK_OPEN_H

#include "ir/elem.h"
#include "passes/lower/codebook.h"

typedef struct Book {
  uint32_t n, cap;
  uint32_t *bits;  // of the floats: -0 and +0 differ, a NaN is itself
} Book;

// At most CODEBOOK_ALL floats by their bits, numbered as they come.
enum { VALUE_SLOTS = 4 * CODEBOOK_ALL };
typedef struct Values {
  uint32_t n, at[VALUE_SLOTS], code[VALUE_SLOTS];
  bool used[VALUE_SLOTS];
} Values;

typedef struct BookOpen BookOpen;

struct BookOpen {
  LowerCtx *ctx;
  const PackSpec *s;
  const AnyF32 *panels;  // packed floats
  int64_t k, vectors;    // rows of a panel; vectors of a copy
  bool columns;
  uint32_t n, bits, fields;  // values of the largest book; of a code; codes in a lane of a word
  DType word;
  Values *all;  // one book
  Book *book;   // or one per lane of every vector of every copy
  KBuild b;
  KBuf *words, *table, *to;
  void (*vector)(BookOpen *e, Affine number, Affine to, int64_t width);  // one of columns over all of k; `number`
                                                                         // counts those of all copies
};

// Emits the loops over panels and their vectors.
void codebook_panels(BookOpen *e);
KBuf *codebook_param(BookOpen *e, const char *name, const PBuf *buf);
uint32_t codebook_bits(uint32_t n);  // of the codes of n values

// Codes of sub-vectors: sets `c` where they take fewer than `most` bits.
bool codebook_words(const Op *op, double most, Codebook *c);
// The packed weights (of that type) in a work buffer.
PBuf *codebook_open_words(LowerCtx *ctx, const Op *op, const Codebook *c, const PackSpec *s, const Type *packed);

#endif
