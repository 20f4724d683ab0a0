// The strategy stream: matrix products with weights of 1 to 8 bits, read once as one linear stream.
//
// Lanes are columns of the result. A vector of the stream holds, for each of its columns, bytes of 4 k; a byte holds
// the codes of as many fields as fit, field f being 4 f further along k:
//
//   [columns by g vectors][block of k][4 F k][vector][lane][4 bytes]
//
// The last vector has only the lanes of columns that exist; reading whole ones ends in what follows, and after the
// stream in zeros.
//
// Fields are taken out by one `and`; what is left below them is not shifted away but comes out of the sums, each field
// having one of its own:   y = sum[0] + sum[1] >> b + sum[2] >> 2b + ...
//
// x is signed bytes, four of them broadcast at a time (dot4). Floats become up to three slices of bytes per block:
// x = unit * (s0 + s1 / 254 + s2 / 254^2), exact to 2^-22 of the largest of the block; a NaN or an
// infinity makes every result that reads the block not finite. What the levels and zero points
// add is the sum of x times a constant. With --fp=strict codes become floats in registers instead.
#ifndef QCC_PASSES_LOWER_STREAM_H
#define QCC_PASSES_LOWER_STREAM_H

#include "passes/contraction.h"
#include "passes/lowbit.h"
#include "passes/lower/lower.h"

typedef struct Stream {
  LowerCtx *ctx;
  const Op *op;
  LowBit w;
  LowBitParts parts;
  int64_t lanes, vectors;  // of one vector; that cover all columns
  int64_t g, mr;           // vectors and rows of x in a tile
  int64_t slices;          // of x; 1 when x are bytes
  bool scaled;             // every field has its own sum
  bool strict;             // floats, codes widened to floats
  int64_t rows;            // of x
  int64_t blocks, padded;  // of k; k of a block in whole chunks
  bool has_sums;           // the sum of x matters
  PBuf *x;                 // bytes [rows][blocks][slices][padded], or floats [rows][blocks][padded]
  PBuf *sums, *units;      // i32 and f32 [rows][blocks][slices]; NULL when not needed
} Stream;

bool lower_stream(LowerCtx *ctx, const Op *op, const MatmulGeom *g, const Plan *plan);

// x as the kernel reads it: a step before, or x itself.
void stream_stage_x(Stream *s, PBuf *x);

// The packed codes, dwords in the order above.
Value *stream_pack(const Stream *s);
// Numbers per block and column in the order of the stream, [columns by g vectors][block][vector][lane]; columns past
// the last one are zero. `minus_zero`: the zero point taken from the value of code 0; else the scale.
Value *stream_pack_param(const Stream *s, const LowBitParam *p, bool minus_zero);
// Groups of vectors of a chunk: each part has as many as its fields need.
int64_t stream_groups(const Stream *s);

#endif
