// The strategy planes: small integers as planes of bits, 16, 32 or 64 along the reduction in a word, counted instead of
// multiplied. Words are as wide as wastes fewest bits of a row, so 16 channels take 16 bits.
//
// The format of packed activations. An element x of few levels is held as a code of m bits, x = lo + step * code, and
// bit i of all codes makes plane i. Per row (a pixel, a row of a matrix: all axes but the last) lie, words of W bits
// in this order, little endian:
//
//   [row][group][word][plane]    bit c % W of word c / W of plane i of group g: bit i of the code of channel c there
//
// Every group of a convolution begins a word of its own; channels past the last one of a group are zero bits. With one
// plane and one group that is [row][word]: bit c of a row is channel c. A window that a padded convolution reads has
// rows around it whose codes are those of the value `fill`.
//
//   x in {-1, +1}: lo = -1, step = 2, m = 1 (bit 1: +1)     x in {-1, 0, 1}: lo = -1, step = 1, m = 2 (codes 0, 1, 2)
//   x in 0 .. 3: lo = 0, step = 1, m = 2                    x in {-3, -1, 1, 3}: lo = -3, step = 2, m = 2
//
// Weights are k planes in one of three forms, whichever needs the fewest counts. P is a plane of x, Q one of w:
//
//   xor   w = g * sum of 2^j t, t = -1 or +1 (odd grids):  each pair of planes counts P ^ Q
//   sign  w = g * sign * sum of 2^j q (-7 .. 7, ternary):  P ^ sign masked by the magnitude's plane Q
//   and   w = g * sum of 2^j q, the top plane -2^(k-1) when w may be negative:  P & Q, the top plane's subtracted
//
// In every form  sum of x w = base of the column + mul * sum over planes of 2^(i + j) popcount:  nothing is left to
// compute per pixel.
#ifndef QCC_PASSES_LOWER_PLANES_H
#define QCC_PASSES_LOWER_PLANES_H

#include "passes/lower/nest.h"
#include "passes/contraction.h"
#include "passes/range.h"

// How operand 0 of a contraction is stored.
typedef struct PlanesX {
  int64_t lo, step, planes;        // value of code 0, value per code, bits of a code
  int64_t group, channels, words;  // groups; channels of one; words of one, per plane
  int64_t word;                    // bits of a word
  const Target *target;            // that word is good for
  int64_t columns;                 // of the result, per group
  bool narrow;                     // words of 16 bits can hold the counts
  int64_t zero;                    // what padding stands for (the op's x_zero)
  int64_t fill;                    // the value whose code padding holds: zero when it has a code, else lo
} PlanesX;

// How operand 1 is stored.
typedef struct PlanesW {
  PlanesForm form;
  int64_t unit;    // g
  int64_t planes;  // k; without the sign
  bool negative;   // form and: the top plane counts negatively
} PlanesW;

// False when the values of operand 0 do not fit into such codes of up to 8 bits.
bool planes_x(const Op *op, const Target *t, PlanesX *f);
// The form with the fewest planes for values of that range.
PlanesW planes_w(const Range *r);
// The same in the form given; false when the values have none.
bool planes_w_in(const Range *r, PlanesForm form, PlanesW *w);
const char *planes_form_name(PlanesForm form);  // also a parameter of the plan: the number of planes
// Words of one row of the format.
int64_t planes_row(const PlanesX *f);
// The type of a word and of the counts in its lane.
DType planes_type(const PlanesX *f);
// No vector instructions worth using: one word at a time.
bool planes_counts_scalars(const Target *t);
// The same codes, with so many channels in a row.
void planes_set_channels(PlanesX *f, int64_t channels);

// Both operands of `op` as the plan has them. False after diag_error when their values do not fit.
bool planes_check(LowerCtx *ctx, const Op *op, const Plan *plan, PlanesX *x, PlanesW *w);
// The bytes of x, rows of channels, in the format above: a step before the contraction.
PBuf *planes_pack(LowerCtx *ctx, const Op *op, PBuf *x, const PlanesX *f);
// Weights [taps][channels][n], element i of a tap and column at the strides given, as words [planes][taps][words][n];
// the sign is the last plane.
Value *planes_weights(LowerCtx *ctx, const Op *op, const PlanesX *x, const PlanesW *w, int64_t taps, int64_t n,
                      int64_t row, int64_t column);
// Tells the nest what it counts, and gives it the bases of the n columns (with the op's own bias) as its bias.
// `strides` as for planes_weights.
void planes_sums(LowerCtx *ctx, Nest *nest, const PlanesX *x, const PlanesW *w, int64_t taps, int64_t n, int64_t row,
                 int64_t column);

#endif
