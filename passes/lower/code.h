// The strategy code: constant sparse weights as straight-line code, one multiply-add per non-zero (S48). Bytes go by
// fours of channels, one dot product per four with a weight that is not zero.
//
//   for rows of the chunk { for channels o of the result { acc = 0
//     for e in first[o]..first[o+1] { acc = fma(x[at[e] ..], w[e], acc) }      # lanes are pixels (pixel_blocks.h)
//     y[o] = acc } }
//
// first, at and w are tables of the kernel, so its text holds the matrix. Backends that print assembly unroll the two
// inner loops (backends/asm_x86.h): many rows side by side in registers, x loaded once for all of them, weights as
// memory operands in order of use. Elsewhere, and in the interpreter, the loops run as they stand; sums are made in the
// same order, so all give the same bits.
//
// Of bytes an element of x is a four, acc = dot4(acc, x, w) and begins with what bias and zero point add to the row:
// bias[o] - x_zero * sum of its weights. Signed bytes of x become unsigned ones by 128 more, which is taken off there
// too.
//
// Products with a zero weight are not made: where x is an infinity or NaN that only such weights meet, the result has
// none. fma sums as everywhere else (--fp=strict: a product, then a sum).
#ifndef QCC_PASSES_LOWER_CODE_H
#define QCC_PASSES_LOWER_CODE_H

#include "passes/contraction.h"
#include "passes/lower/lower.h"

// A contraction that code can be made for: 1x1 and k x k convolutions and matrix products with one set of weights.
typedef struct CodeShape {
  bool first;               // x and y have their channels first
  bool fours;               // of bytes: g.c counts fours of channels
  bool window;              // a convolution over a window of x, else a list of pixels
  ConvGeom g;               // of the window; of a list: c and o
  int64_t pixels;           // of a list
  int64_t w_tap, w_c, w_o;  // elements of the weights between taps, channels of x and of the result
} CodeShape;

// False where the op is no such contraction or its weights are neither constant floats nor constant i8 for x of bytes.
// lanes: pixels of a block.
bool code_shape(const Op *op, int64_t lanes, CodeShape *s);
// Weights, or fours of them, that are not zero.
int64_t code_nonzeros(const Op *op, const CodeShape *s);
// Rows of the result that one call of the code does: those of a window share rows of x, and fill at most half of the
// second-level cache; there are chunks for several threads where that leaves enough rows to each.
int64_t code_chunk(const CodeShape *s, const Target *t, int64_t lanes);
bool lower_code(LowerCtx *ctx, const Op *op, const Plan *plan);

#endif
