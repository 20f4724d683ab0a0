// The strategy truth: layers of boolean functions of few bits (passes/truth.h), a row of x at a time.
//
//   bits = compare(x[0 .. k), level)                                  # k bits, 64 bytes or a few times that
//   for 64 results { for j in 0..fan { index |= bits[at[j]] & mask[j] ? 1 << j : 0 } }     # lanes are bytes: results
//   y = table[o] >> index & 1 ? y_level[1] : y_level[0]               # lanes are words: 64 inputs of one result
//
// A permutation of 64 bytes finds the byte that holds an input, a test of one bit of it gives the bit, both for 64
// results at once. Tables of more than 64 bits are several words, one of which the upper bits of the index choose.
#ifndef QCC_PASSES_LOWER_TRUTH_H
#define QCC_PASSES_LOWER_TRUTH_H

#include "passes/lower/lower.h"
#include "passes/truth.h"

#define TRUTH_TABLES 4  // most tables of 64 bytes that hold the bits of a row

// How the bits of a row lie: `lanes` neighbours are a unit; the last one ends with the row and may overlap the one
// before; all units of bit 0, then all of bit 1. In bytes a unit is lanes / 8.
typedef struct TruthBits {
  int64_t lanes, units;
  int64_t tables;  // of 64 bytes, all together
} TruthBits;
// False when a row takes too many tables.
bool truth_bits(const TruthShape *s, DType x, const Target *t, TruthBits *b);
bool lower_truth(LowerCtx *ctx, const Op *op);

#endif
