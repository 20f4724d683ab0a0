// What the parts of the kernel of the strategy stream share. See stream.h.
#ifndef QCC_PASSES_LOWER_STREAM_EMIT_H
#define QCC_PASSES_LOWER_STREAM_EMIT_H

#include "passes/lower/stream.h"

#define STREAM_MAX_EXTRA 17

// An operand broadcast to the result: element row * row_step + column * step.
typedef struct StreamExtra {
  KBuf *buf;
  int64_t row_step, step;
} StreamExtra;

typedef struct StreamEmit {
  Stream *s;
  KBuild b;
  KBuf *x, *w, *y, *sums, *units, *scale, *zero, *columns;
  KBuf *codes, *books;                  // with a book: the stream as bytes, bytes of the weights
  StreamExtra extra[STREAM_MAX_EXTRA];  // the bias when there is one, then the operands of the post function
  uint32_t n_extra;
  bool has_bias;
  PBuf *bufs[32];
  uint32_t n_bufs;
} StreamEmit;

// A register tile: vectors of columns, lanes of the last one that exist, rows of x; where it begins.
typedef struct StreamTile {
  int64_t g, tail, mi;
  Affine w, params, column, row;  // dwords of the stream; blocks of numbers; result column and row
  KBuf *acc, *v, *c, *total;
  KBuf *bytes;  // with a book: c as bytes
} StreamTile;

Affine stream_lanes(StreamEmit *e, int64_t lanes);  // opens a vec loop over so many
KExpr *stream_reg(StreamEmit *e, KBuf *buf, int64_t i, int64_t j, Affine lane);
// acc[row and slice, sum, g] += field * x[row, slice] of the first `slices` slices, fields being vectors g of row
// `from` of t->c; x_at: of row 0 and slice 0, in fours of bytes.
void stream_products(StreamEmit *e, const StreamTile *t, int64_t from, int64_t sum, int64_t slices, Affine x_at);

// With a book: a chunk of the stream; the sum of weights times slice i of a row of x, in units of the first byte.
void stream_book_params(StreamEmit *e);
void stream_book_alloc(StreamEmit *e, StreamTile *t);
void stream_book_chunk(StreamEmit *e, const StreamTile *t, Affine w_at, Affine x_at);
KExpr *stream_book_sum(StreamEmit *e, const StreamTile *t, int64_t r, int64_t g, KVar *sum_of_x, Affine lane);

#endif
