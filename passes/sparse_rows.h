// Weights with zeros for few rows of x: vectors run along results, so every lane reads another place of x.
//
// The window form. A group is `lanes` filters. In a step each of them multiplies its next non-zero weight if that
// weight's column lies in the window of 32 columns that begins at the least waiting column, else zero; x comes out of
// two registers by a permutation:
//
//   filters 0: 3 9 70   1: 5 6   =>  base 3: 0 -> place 0, 1 -> place 2   base 6: 0 -> 3, 1 -> 0   base 70: 0 -> 0, -
//
// Fewer lanes wait for others when filters of like counts make a group: an order of the filters, most entries first.
//
// The block form is for zeros in blocks of one vector of filters: a column with a vector of weights per block, x
// broadcast. Blocks come in fours, the last ones of a vector may be zeros.
//
// Of bytes a column is a four of channels: the window form alone, with an entry per four that is not all zero.
#ifndef QCC_PASSES_SPARSE_ROWS_H
#define QCC_PASSES_SPARSE_ROWS_H

#include "passes/sparse_book.h"

#define SPARSE_WINDOW 32
#define SPARSE_FOURS 4

// What is read: filters in an order (NULL: as they come), of their weights those whose numbers in the book are
// lo .. hi - 1 (NULL: all).
typedef struct SparseFilters {
  const Sparse *s;
  const void *w;
  const int32_t *order;
  const SparseBook *book;
  uint32_t lo, hi;
} SparseFilters;

// What is stored; pointers advance. NULL: only counted.
typedef struct SparseRows {
  uint32_t *values;  // [step][lane]: the bits of floats, or fours of bytes
  uint8_t *places;   // [step][lane], window form
  int32_t *at;       // [step]: where the window begins, or the column
} SparseRows;

// Steps of the group of `lanes` filters from `filter` on (missing ones have no weights), in either form.
int64_t sparse_window(const SparseFilters *f, int64_t filter, int64_t lanes, SparseRows *to);
int64_t sparse_blocks(const SparseFilters *f, int64_t filter, int64_t lanes, SparseRows *to);
// The filters, most entries first.
int32_t *sparse_order(Arena *arena, const Sparse *s, const void *w);
// Steps of all groups, estimated from a share of them; one that lacks vectors counts by those it has.
double sparse_steps(const SparseFilters *f, int64_t lanes, int64_t vector, bool blocks);

#endif
