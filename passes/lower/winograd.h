// Strategy `winograd`: 3x3 convolutions by transformed tiles (passes/winograd.h).
//
//   V[f][tile][c] = transform of the (m + 2)^2 inputs of a tile, f = a point of y and one of x
//   M[f][tile][o] = sum over c of V[f][tile][c] * U[f][c][o]      a matrix product per f, in register tiles
//   y             = post(transform of M + bias)
//
// U is packed at compile time. Tiles of an axis are ordered by size, so those that have a point come first and a matrix
// product has no holes. Layers that fill L2 go block by block of tile rows, blocks being walked by a few tasks with V
// and M of their own; others go in three steps, shared among threads by tile rows and by f.
#ifndef QCC_PASSES_LOWER_WINOGRAD_H
#define QCC_PASSES_LOWER_WINOGRAD_H

#include "passes/lower/lower_conv.h"
#include "passes/winograd.h"

bool lower_winograd(LowerCtx *ctx, const Op *op, const Plan *plan);

// Tiles of one size along an axis. Rows of tiles are counted over all images.
typedef struct WinoKind {
  int64_t m, per_image;
  int64_t count;  // in the block at hand
  int64_t first;  // number of its first tile (row) in the block at hand
  int64_t start;  // first result of the kind along the axis
  Affine row;     // rows: number of the first one of the block among all of the kind
} WinoKind;

// A block of tile rows while its code is emitted.
typedef struct WinoEmit {
  LowerCtx *ctx;
  const Op *op;
  const Plan *plan;
  ConvGeom g;
  int64_t lanes;
  uint32_t n_y, n_x;
  WinoKind y[WINO_SIZES], x[WINO_SIZES];
  int64_t points_y, points_x;
  int64_t columns;                 // of M: output channels in whole vectors
  int64_t v_step, m_step, u_step;  // elements from one f to the next
  int64_t t_size;                  // elements of a transformed tile of one vector
  KBuild b;
  KBuf *in, *u, *v, *m, *t, *out, *bias;
  PostParams pp;
} WinoEmit;

// Tile rows of the block that have point `point`, and tiles of a row.
int64_t wino_rows_with(const WinoEmit *e, uint32_t point);
int64_t wino_columns_with(const WinoEmit *e, uint32_t point);

// The transforms of tile row `row` of the block; `v`, `m`, `t` are the elements where V, M and the room for a tile
// begin.
void wino_emit_inputs(WinoEmit *e, Affine row, Affine v, Affine t);
void wino_emit_results(WinoEmit *e, Affine row, Affine m, Affine t);
// The matrix products of all f, or of the one given.
void wino_emit_products(WinoEmit *e, Affine v, Affine m);
void wino_emit_product(WinoEmit *e, Affine f, Affine v, Affine m);

#endif
