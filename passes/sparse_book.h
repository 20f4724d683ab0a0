// Weights with zeros and few values: the values of a layer once each, and a code per non-zero.
//
//   0 0.5 0 -1 0.5   =>   book 0.5 -1 (most frequent first)   numbers of the non-zeros 0 1 0
//
// For few rows of x (sparse_rows.h) a slot of the window form is a place of 5 bits below a code; code 0 is zero, for
// lanes that idle. Codes of at most 5 bits go three to a word of 32 bits, wider ones two. Values past the 31 most
// frequent may make a second pass with a book of their own, if that takes fewer bytes than wide codes.
#ifndef QCC_PASSES_SPARSE_BOOK_H
#define QCC_PASSES_SPARSE_BOOK_H

#include "passes/sparse.h"

#define SPARSE_BOOK 255  // values besides zero
#define SPARSE_PLACE 5   // bits of a place in a window

typedef struct SparseBook {
  uint32_t n;
  float value[SPARSE_BOOK];
  uint32_t key[SPARSE_BOOK];  // ascending bits of the values, and their numbers
  uint8_t number[SPARSE_BOOK];
} SparseBook;

// False: weights are not f32, or have more values.
bool sparse_book(Module *m, const Sparse *s, SparseBook *b);
// The number of a value that is in the book, by its bits.
uint32_t sparse_number(const SparseBook *b, uint32_t bits);

// What has been counted: a value by its bits, a filter by its number.
typedef struct SparseCount {
  uint32_t key;
  int64_t count;
} SparseCount;

// The largest counts first; of equal ones the lower key.
void sparse_counts_sort(SparseCount *of, int64_t n);

// How the codes of a window are stored.
typedef struct SparseCodes {
  uint32_t passes;  // over the columns, with a book each
  uint32_t values;  // of a pass, at most
  uint32_t bits;    // of a code
  uint32_t slots;   // in a word
} SparseCodes;

// Codes of that many bits: 4 and 5 in as many passes as it takes, 6 .. 8 in one. False: they do not hold the values in
// two passes.
bool sparse_codes(const SparseBook *b, uint32_t bits, SparseCodes *c);
// The fewest bits that hold all values in one pass.
uint32_t sparse_code_bits(const SparseBook *b);

#endif
