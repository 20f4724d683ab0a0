// Packed weights: the bytes a contraction nest reads, in the order it reads them.
//
// A matrix [k][n] (any strides, any number of copies, the reduction being several loops) becomes, per copy, panels of
// nv * lanes columns: [panel][k][nv * lanes]. The last panel has only the vectors it needs; missing columns of its last
// vector are zero, or with `dense` not stored: rows of the last panel are as wide as it has columns, a vector read
// there ends in the next row, and after the last row lie as many zeros as that takes. With `by` = 4 (or 2, 8) the
// innermost reduction goes in groups of four elements that lie together, the last one filled with zeros:
// [panel][groups][nv * lanes][4]; zeros come first in it, so that it ends with the last element, unless there are fewer
// than four elements. Constants are packed while lowering, so the graph keeps weights an interpreter can read.
#ifndef QCC_PASSES_PACK_H
#define QCC_PASSES_PACK_H

#include "passes/pack_bits.h"

#define PACK_DIMS 8

typedef struct PackSpec {
  int64_t first;  // element where copy 0 begins
  uint32_t n_copies, n_red;
  int64_t copy[PACK_DIMS], copy_stride[PACK_DIMS];  // outermost first
  int64_t red[PACK_DIMS], red_stride[PACK_DIMS];
  int64_t n, n_stride;
  int64_t nv, lanes;
  bool dense;
  int64_t by;        // 0, 1: element by element
  PackBits bits;     // by 4: fields instead of whole bytes
  DType type;        // of a packed element
  int64_t channels;  // elements are words of bits, rows of them hold so many; 0: numbers
} PackSpec;

int64_t pack_k(const PackSpec *s);           // rows of a panel: length of the reduction, in groups
int64_t pack_rows(const PackSpec *s);        // rows of a panel that are stored
int64_t pack_copies(const PackSpec *s);      // number of copies
int64_t pack_copy_elems(const PackSpec *s);  // elements of one packed copy
int64_t pack_columns(const PackSpec *s);     // columns stored
int64_t pack_slack(const PackSpec *s);       // elements after the last copy
// Type of the packed weights (rank 1). NULL after diag_error when the size is past the limits.
const Type *pack_type(Module *m, const PackSpec *s, const Loc *loc);
// Packs into pack_type(...) elements, zero before.
void pack_elems(Module *m, Const *c, const PackSpec *s, void *to);
// The packed constant; equal contents give the same one. NULL after diag_error.
Value *pack_const(Module *m, Const *c, const PackSpec *s, const Loc *loc);

// Channels-last convolution weights [rows][taps][c][o] of `fold` neighbouring columns as one column with fold * o
// channels: [rows][taps + (fold - 1) * step][c][fold * o], zero where a column does not reach. A vector of o values
// (a bias) is repeated. The reduction before the taps (kernel depth and height) is `rows`.
Value *pack_folded(Module *m, Const *c, int64_t rows, int64_t taps, int64_t step, int64_t fold);
Value *pack_repeated(Module *m, Const *c, int64_t times);

#endif
