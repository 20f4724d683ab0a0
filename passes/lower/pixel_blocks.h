// Contractions over blocks of pixels: x is channels-last, the kernel inside wants pixels in its lanes.
//
//   for chunks par {                                       # rows of blocks, shared out to PIXEL_GROUPS buffers
//     xb[row][channel][lane] = x[pixel][channel]           # transposed in registers, square by square
//     call inner(xb, yb, ...)                              # yb[row][channel of the result][lane]
//     y[pixel][channel] = post(yb[..] + bias)              # transposed back while it is stored
//   }
//
// A chunk is small enough for a near cache, so x and y move once. A picture has rows of blocks; a block holds `lanes`
// columns of it, of which the first `step` are columns of the result (the others are the halo of a convolution, whose
// results are thrown away). Where x and y have their channels first, blocks are copied to and fro, with zeros around
// the picture, instead of transposed. A plain list of pixels is a picture whose rows are one block long; the last may
// be shorter, its missing lanes are zero. The layout is that of kernel-level SpMM studies ([pixels/16][C][16]; S48,
// Elsen et al.).
#ifndef QCC_PASSES_LOWER_PIXEL_BLOCKS_H
#define QCC_PASSES_LOWER_PIXEL_BLOCKS_H

#include "passes/contraction.h"
#include "passes/lower/lower.h"

#define PIXEL_GROUPS 8  // most iterations of the par loop, each with buffers of its own
#define PIXEL_INNER 8   // most further operands of the inner kernel

typedef struct PixelBlocks {
  const Op *op;
  PBuf *x;                          // floats, or bytes with channels last
  bool fours;                       // bytes: elements of blocks are fours of channels, those of the result are i32
  int64_t flip;                     // of fours: xored into the elements of x
  bool first;                       // x and y have their channels first, else last
  int64_t c, o;                     // channels (or fours) of x, of the result
  int64_t images, rows, cols;       // of the result
  int64_t pixels;                   // of the result of an image; less than rows * cols: the last row is shorter
  int64_t x_first, x_image, x_row;  // elements of x: of the first block; between images, rows
  int64_t x_plane;                  // of channels first: elements of x between channels
  int64_t in[2], pad[2];            // of channels first: rows and columns of x, and of zeros before them
  int64_t x_stride;                 // rows of x between rows of the result
  int64_t halo;                     // further rows of x that the last row of a chunk reads
  int64_t lanes, step;              // pixels of a block; columns of the result in it
  int64_t chunk;                    // rows of the result done by one call of the inner kernel
  uint32_t n_inner;                 // constants the inner kernel reads
  PBuf *inner[PIXEL_INNER];
} PixelBlocks;

// The type of an element of both blocks.
DType pixel_blocks_type(const PixelBlocks *p);
// A 1x1 convolution or matrix product over a list of `pixels` (channels first: of each image), in blocks of `lanes`.
// Set before: op, x, first, c, o, images.
void pixel_blocks_list(PixelBlocks *p, int64_t pixels, int64_t lanes);
// A convolution with a stride of 1 along columns, groups and depth of 1; channels last: copies x where it has borders.
// False after diag_error.
bool pixel_blocks_window(LowerCtx *ctx, PixelBlocks *p, const ConvGeom *g, int64_t lanes);
// Rows of x in a chunk, and the elements of the buffers the inner kernel is given: x ends with a vector that may be
// read but belongs to no row.
int64_t pixel_blocks_x_rows(const PixelBlocks *p);
int64_t pixel_blocks_x_elems(const PixelBlocks *p);
int64_t pixel_blocks_y_elems(const PixelBlocks *p);
// Can the result of the op be walked by rows of pixels: operands broadcast to it run over all of them or over none.
bool pixel_blocks_applies(const Op *op, const Target *t);
// Emits the kernel above and its step. `inner` takes (x, y, further constants) and fills [chunk][o][lanes] of y.
// `macs`: multiply-adds it really does. Strategy and plan are those of the op.
bool pixel_blocks_lower(LowerCtx *ctx, const PixelBlocks *p, Kernel *inner, double macs);

#endif
