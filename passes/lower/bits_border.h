// Border classes of a convolution: result positions that see the same taps of the kernel outside of the input.
//
// Along one axis the taps inside are a range, and few ranges occur: with a 3-wide kernel and one element of padding
// there are three (first position, middle, last). The class of a result element is the one of each of its positions:
// 9 for a 3x3 kernel. What padding changes depends on the class and the channel only, so a table [classes][channels]
// says it, and tables by position say where the row of a class begins.
#ifndef QCC_PASSES_LOWER_BITS_BORDER_H
#define QCC_PASSES_LOWER_BITS_BORDER_H

#include "passes/contraction.h"
#include "passes/lower/nest.h"

typedef struct BorderAxis {
  int64_t n, *of;    // classes; class of every result position
  int64_t *lo, *hi;  // taps of a class that are inside: lo .. hi - 1
} BorderAxis;

typedef struct Border {
  BorderAxis axis[CONV_AXES];
  int64_t n;  // classes: one of each axis, the last axis fastest
} Border;

Border border_of(Module *m, const ConvGeom *g);
// Adds to the bias of a nest (NULL or a constant of one or g->o elements) `factor` times the sum of the weights of the
// taps outside of the input: a row of columns per class. g as the op has it, the nest over the window of a convolution
// (axes 1 to 3 are spatial); i8 weights, channels last.
void border_bias(LowerCtx *ctx, Nest *n, const ConvGeom *g, int64_t factor);
// The same rows, or the limits that bits_steps made of them, out of the packed weights at run time: they would take as
// many bytes as the weights do where channels are few. For one plane of weights of two values and groups of one; leaves
// the constant elsewhere. Every tap has `channels` bits in
// `words` words. After nest_result_buf.
//
//   for l in 0..16 vec {  t0 = popcnt(w[tap 0][l]) ..  rows[class][l] = each[l] + 2 (t0 + t1 + ..) - taps * channels  }
void border_open(LowerCtx *ctx, Nest *n, const ConvGeom *g, int64_t words, int64_t channels);
// A constant of the narrowest of i8, u8, i16, i32 and i64 that holds all values.
Value *border_const(Module *m, uint32_t rank, const int64_t *dims, const int64_t *v);

#endif
