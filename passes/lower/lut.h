// The strategy lut: products looked up in registers instead of multiplied.
//
// A table of 32-bit products has one row per value of x: x times each of 16 weights. One element of x picks the row, 16
// lanes of weight codes pick products out of it, and what they pick is added. Weights of at most 16 values are codes of
// those values, one lookup each; others are two nibbles of a byte:
//
//   x w = table[x][w & 15] + table[x][16 + (w >> 4 & 15)]      16 products x * 0 .. x * 15; 16 of x * (-128 .. 112)
//
// Sums are the exact sums of the integer contraction. The tables are made when compiling, the address of a row is a
// shift: no instruction of the loop multiplies.
#ifndef QCC_PASSES_LOWER_LUT_H
#define QCC_PASSES_LOWER_LUT_H

#include "passes/lower/nest.h"

// Lookups per product: 1 with at most 16 weights, else 2. The weights are constant bytes.
int64_t lut_lookups(const Op *op);
// False after diag_error when a plan asks for tables of other than bytes times constant i8.
bool lut_check(LowerCtx *ctx, const Op *op);
// Sets the table of the nest from the op's bytes and zero point (cleared in the nest: the table holds it). Returns the
// weights as codes, of the dims of the op's weights.
Value *lut_weights(LowerCtx *ctx, const Op *op, Nest *n);

#endif
