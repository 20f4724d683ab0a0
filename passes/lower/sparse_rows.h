// The kernel of the strategy sparse for few rows of x, between the file of its loops and the one of its codes.
#ifndef QCC_PASSES_LOWER_SPARSE_ROWS_H
#define QCC_PASSES_LOWER_SPARSE_ROWS_H

#include "passes/lower/sparse.h"
#include "passes/sparse_rows.h"

typedef struct Rows {
  SparseEmit e;
  SparseFilters f;
  KBuf *x, *values, *places, *at, *first, *filters, *book;
  int64_t g, mr;  // vectors of a group; rows of x in a tile
  bool blocks;
  SparseCodes codes;   // bits == 0: floats
  int64_t last_first;  // step of the group that is not full
} Rows;

// Vectors of the group.
int64_t rows_vectors(const Rows *r, int64_t group);

// Packs codes: values (words), order (columns), first (words of a group and pass) and the book. False: past the size
// limits.
bool codes_pack(Rows *r, int64_t groups);
// acc += book[code] * x of the slots of a word, one after the other when a result has several sums; `from`: the first
// of the word's vectors.
void codes_step(Rows *r, KBuf *acc, Affine word, Affine from, Affine row, int64_t mi, int64_t g, int64_t pass);

#endif
