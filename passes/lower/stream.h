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
// x = unit * (s0 + s1 / 256 + s2 / 256^2), unit being a power of two, exact to 2^-22 of the largest of the block, or
// where x are integers of at most 22 bits times a power of two; a NaN or an infinity makes every result that reads the
// block not finite. What the levels and zero points
// add is the sum of x times a constant.
//
// Codes of a book are bytes, or halves of them where 4 bits do, and tables of 128 bytes permuted by them give the three
// bytes of the weights as integers.
// Byte j times slice i is summed for i + j < 3; what is left out is below 2^-21 of the largest x times the largest
// weight. With --fp=strict codes become floats in registers instead.
#ifndef QCC_PASSES_LOWER_STREAM_H
#define QCC_PASSES_LOWER_STREAM_H

#include "passes/contraction.h"
#include "passes/lowbit.h"
#include "passes/lower/lower.h"

#define STREAM_BOOK_ZERO 128  // in the first byte of a weight that is 0

// Weights of a book: (b0 - 128 + b1 / 256 + b2 / 256^2) * unit, the bytes in tables by code.
typedef struct StreamBook {
  uint32_t n;    // bytes of a weight; 0: no book
  double unit;   // a power of two
  Value *bytes;  // u8 [n][256]
  bool exact;    // every weight comes back bit for bit
} StreamBook;

typedef struct Stream {
  LowerCtx *ctx;
  const Op *op;
  LowBit w;
  LowBitParts parts;
  StreamBook book;
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

// The book of such weights, where there is one. False after diag_error when it can't be read.
bool stream_book(Stream *s);
void stream_book_note(const Stream *s);

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
