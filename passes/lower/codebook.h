// The strategy codebook: float weights of few values, held as codes and looked up in registers.
//
//   w[k][n] = book[code[k][n]]        at most 32 values: one or two permutations of 16 per vector of weights
//
// The values are those of the weights bit for bit and the sums are made as with panels of floats, so the results are
// those of fma; what is read is a quarter. It pays where weights come from far away.
#ifndef QCC_PASSES_LOWER_CODEBOOK_H
#define QCC_PASSES_LOWER_CODEBOOK_H

#include "passes/lower/nest.h"

#define CODEBOOK_MAX 32

// Distinct values of the op's weights, 0 when there are more than CODEBOOK_MAX or they are no constant f32.
uint32_t codebook_values(const Op *op);
// False after diag_error when a plan asks for a codebook of other weights.
bool codebook_check(LowerCtx *ctx, const Op *op);
// Sets the book of the nest; returns the weights as codes, of the dims of the op's weights.
Value *codebook_weights(LowerCtx *ctx, const Op *op, Nest *n);

#endif
