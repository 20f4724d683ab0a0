// What the strategy tile8 adds to a contraction nest: products of matrix tiles of bytes (ir/kernel.h).
//
// A block of the nest is up to two tiles of rows of x by up to two tiles of columns; every tile of a kernel has one
// shape, chosen so that extents divide into equal parts: 14 columns of the result make a tile of 14 rows, 20 channels
// two of 10 columns, 96 bytes of the reduction two steps of 48. Where a part is not whole, rows and bytes are taken
// once more from the part before: results are stored only once, and weights of bytes taken twice are zero.
#ifndef QCC_PASSES_LOWER_TILE8_H
#define QCC_PASSES_LOWER_TILE8_H

#include "passes/lower/nest.h"

// Where few columns would fill tiles badly: walks all rows of the result as one, the columns of x between two rows as
// if they had results too, which are not stored. Nothing happens where rows are not whole columns apart.
void tile8_flatten(Nest *n);
// Sets n->matrix and cuts the tile of the nest to what eight matrix tiles allow; the innermost reduction loop walks
// contiguous bytes of x from here on. Weights are stored as codes of few bits where the plan says so and they fit.
void tile8_reduction(LowerCtx *ctx, const Op *op, const Plan *plan, Nest *n);
// The weights in the order of the tiles, column c of reduction row r of copy g at g * copy + r * row + c * column; one
// group of columns after the other for each copy. NULL after diag_error when they are past the size limits.
PBuf *tile8_weights(LowerCtx *ctx, const Op *op, const Nest *n, int64_t copies, int64_t copy, int64_t row,
                    int64_t column);
// A tile of codes of `width` bits, rows of `bytes` bytes: 8 / width rows share a row of the memory, bits of the first
// lowest. Rows that are left over share bytes too: `pieces` pieces of each, `piece` bytes long.
typedef struct TileRows {
  int64_t per, groups;          // rows that share one; such groups
  int64_t left, pieces, piece;  // rows left over
} TileRows;
TileRows tile8_rows(int64_t rows, int64_t bytes, uint32_t width);
// Elements of one copy in the buffer of the weights.
int64_t tile8_copy_elems(const Nest *n);
// x itself, or a copy with room behind it where the last row would be read past its end. NULL after diag_error.
PBuf *tile8_room(LowerCtx *ctx, const Op *op, const Nest *n);
// Bytes that a last row can be read past its end at most.
#define TILE8_ROOM 3
// The bias [columns] with the zero point of x taken back: bias - x_zero * sum of the column's weights, or NULL.
Value *tile8_bias(LowerCtx *ctx, const Op *op, int64_t x_zero, int64_t rows, int64_t columns, int64_t row,
                  int64_t column);

#endif
