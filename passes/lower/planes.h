// The strategy planes: products of -1 and +1 as bits (1: +1, 0: -1), 64 along the reduction in a word.
//
//   sum of K products = K - 2 * popcount(x xor w)
//
// Missing bits of the last word are zero on both sides. Zero padding is read as -1; what it adds to the sum is known
// per result element and taken back by a constant.
#ifndef QCC_PASSES_LOWER_PLANES_H
#define QCC_PASSES_LOWER_PLANES_H

#include "passes/lower/nest.h"
#include "passes/contraction.h"

// False after diag_error when a plan asks for bits of values that are not all -1 or +1.
bool planes_check(LowerCtx *ctx, const Op *op);
int64_t planes_words(int64_t channels);
// The bytes of x, rows of `channels`, as rows of words: a step before the contraction.
PBuf *planes_pack(LowerCtx *ctx, const Op *op, PBuf *x, int64_t channels);
// Weights [taps][channels][n], element i of a tap and column at the strides given, as words [taps][words][n].
Value *planes_weights(LowerCtx *ctx, const Op *op, int64_t taps, int64_t channels, int64_t n, int64_t row,
                      int64_t column);
// For each result element the sum of the weights that meet padding; NULL without padding.
Value *planes_padding(LowerCtx *ctx, const Op *op, const ConvGeom *g);

#endif
