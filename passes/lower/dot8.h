// What the strategy dot8 adds to a contraction nest: bytes times bytes by four, zero points moved into the bias.
#ifndef QCC_PASSES_LOWER_DOT8_H
#define QCC_PASSES_LOWER_DOT8_H

#include "passes/lower/nest.h"
#include "passes/contraction.h"
#include "passes/pack.h"

// The fields that the weights of an op can be held in (pack_bits.h); false when they are whole bytes, or when the sums
// of bytes shifted left might leave 32 bits.
bool dot8_bits(const Op *op, PackBits *b);
// The same where the plan asks for it; false after diag_error when that can't be.
bool dot8_plan_bits(LowerCtx *ctx, const Op *op, const Plan *plan, PackBits *b);
// What is added to bytes of x of this type before they are multiplied, so that their sign is one the target multiplies:
// 128, -128 or 0. Adding either changes the top bit.
int64_t dot8_move(const Target *t, DType x);
// Turns the reduction loops of a nest into those of dot4: the innermost one walks contiguous bytes of x.
void dot8_reduction(Nest *n);
// Weights [reduction of the nest][columns], column number c of row r at first + r * row + c * column, packed by four.
PackSpec dot8_weights(const Nest *n, int64_t row, int64_t column);
// The bias [columns] that makes the sum of products of stored bytes (moved as dot8_move says) the sum the op means:
// bias - zero * sum of the column's weights, shifted like the sums of the nest. NULL when it is zero everywhere and the
// op has none.
Value *dot8_bias(LowerCtx *ctx, const Nest *n, int64_t rows, int64_t columns, int64_t row, int64_t column);

// Depthwise convolutions of bytes by dot products of interleaved rows; where that cannot or should not be, the nest of
// lower_conv_depthwise.c multiplies one by one.
bool dot8_depthwise_applies(LowerCtx *ctx, const Op *op, const ConvGeom *g);
bool lower_dot8_depthwise(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan);

#endif
