// The strategy planes: small integers as planes of bits, 64 along the reduction in a word, counted instead of
// multiplied.
//
// The format of packed activations. An element x of few levels is held as a code of m bits, x = lo + step * code, and
// bit i of all codes makes plane i. Per row (a pixel, a row of a matrix: all axes but the last) lie, 64-bit words in
// this order, little endian:
//
//   [row][group][word][plane]    bit c % 64 of word c / 64 of plane i of group g: bit i of the code of channel c there
//
// Every group of a convolution begins a word of its own; channels past the last one of a group are zero bits. With one
// plane and one group that is [row][word]: bit c of a row is channel c. A window that a padded convolution reads has
// rows around it whose codes are those of the value `fill`.
//
//   x in {-1, +1}: lo = -1, step = 2, m = 1 (bit 1: +1)     x in {-1, 0, 1}: lo = -1, step = 1, m = 2 (codes 0, 1, 2)
//   x in 0 .. 3: lo = 0, step = 1, m = 2                    x in {-3, -1, 1, 3}: lo = -3, step = 2, m = 2
//
// Products of -1 and +1: sum of K products = K - 2 * popcount(x xor w).
// Zero padding is read as -1; what it adds to the sum is known per border class and channel and taken back by the
// bias (bits_border.h).
#ifndef QCC_PASSES_LOWER_PLANES_H
#define QCC_PASSES_LOWER_PLANES_H

#include "passes/lower/nest.h"
#include "passes/contraction.h"

// How operand 0 of a contraction is stored.
typedef struct PlanesX {
  int64_t lo, step, planes;        // value of code 0, value per code, bits of a code
  int64_t group, channels, words;  // groups; channels of one; words of one, per plane
  int64_t zero;                    // what padding stands for (the op's x_zero)
  int64_t fill;                    // the value whose code padding holds: zero when it has a code, else lo
} PlanesX;

// False when the values of operand 0 do not fit into such codes.
bool planes_x(const Op *op, PlanesX *f);
// Words of one row of the format.
int64_t planes_row(const PlanesX *f);

// False after diag_error when a plan asks for bits of values that are not all -1 or +1.
bool planes_check(LowerCtx *ctx, const Op *op);
int64_t planes_words(int64_t channels);
// The bytes of x, rows of `channels`, as rows of words: a step before the contraction.
PBuf *planes_pack(LowerCtx *ctx, const Op *op, PBuf *x, int64_t channels);
// Weights [taps][channels][n], element i of a tap and column at the strides given, as words [taps][words][n].
Value *planes_weights(LowerCtx *ctx, const Op *op, int64_t taps, int64_t channels, int64_t n, int64_t row,
                      int64_t column);

#endif
