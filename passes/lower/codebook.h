// The strategy codebook: float weights of few values, held as codes.
//
//   w[k][n] = book[code[k][n]]          at most 256 values in all
//   w[k][n] = book[code[k][n]][n]       at most 32 values in a column (an output channel)
//   w[k][n] = book[code[k / d][n]][k % d]   product quantisation (S59): d weights of a column at once, k counting the
//   taps
//                                       of an input channel before the next channel
//
// Opened in registers, a byte per code and at most 32 values: one or two permutations of 16 per vector of weights. What
// is read is a quarter; it pays where weights come from far away.
//
// Opened once per run (plan parameter `once`): a step before the nest makes the panels of floats in the workspace.
// Codes take the bits they need. It pays where each weight meets many places, as in convolutions.
//
// The values are those of the weights bit for bit and the sums are made as with panels of floats, so the results are
// those of fma.
#ifndef QCC_PASSES_LOWER_CODEBOOK_H
#define QCC_PASSES_LOWER_CODEBOOK_H

#include "passes/lower/nest.h"
#include "passes/pack.h"

#define CODEBOOK_MAX 32      // opened in registers
#define CODEBOOK_ALL 256     // opened once, one book
#define CODEBOOK_COLUMN 32   // opened once, a book per column
#define CODEBOOK_WORDS 4096  // sub-vectors of a book

typedef struct Codebook {
  bool columns;   // a book per column
  uint32_t n;     // values of a book
  uint32_t bits;  // of a code
  uint32_t run;   // weights of a column that a code stands for (d); else 1
} Codebook;

// Distinct values of the op's weights, 0 when there are more than CODEBOOK_MAX or they are no constant f32.
uint32_t codebook_values(const Op *op);
// The book of weights opened once. False: too many values, or it would not halve the bytes of the floats.
bool codebook_of(const Op *op, Codebook *c);
// How often words come again in the column of an output channel (S60): inputs that meet the same word may be added up
// before they are multiplied.
typedef struct WordSharing {
  int64_t blocks;  // words of a column
  int64_t sum;     // different ones, over all columns
  int64_t most;    // and of the column with the most
  double mean;     // of a column
} WordSharing;
bool codebook_sharing(const Op *op, const Codebook *c, WordSharing *s);  // false: no words of several weights
// False after diag_error when a plan asks for a codebook of other weights.
bool codebook_check(LowerCtx *ctx, const Op *op, const Plan *plan);
// Sets the book of the nest; returns the weights as codes, of the dims of the op's weights.
Value *codebook_weights(LowerCtx *ctx, const Op *op, Nest *n);
// The packed weights of a nest in a work buffer, made of codes by a step. NULL after diag_error.
PBuf *codebook_open(LowerCtx *ctx, const Op *op, Value *w, const PackSpec *s);

#endif
