// The contraction nest: one generator for convolutions, matrix products and their grouped and batched forms.
//
//   y[row.., m, n] = post(bias + sum over k of x[row.., m, k] * w[row.., k, n])
//
// x is read by scalar broadcasts at affine places, w is packed in panels of nv vectors (pack.h), a tile of my rows by
// mr columns by nv vectors is kept in registers. The last tile of every direction is a smaller one, so nothing outside
// a buffer is touched and every result element is written once.
#ifndef QCC_PASSES_LOWER_NEST_H
#define QCC_PASSES_LOWER_NEST_H

#include "passes/lowbit.h"
#include "passes/lower/lower.h"
#include "passes/pack.h"

#define NEST_ROWS 10
#define NEST_REDS 5

typedef struct PlanesX PlanesX;  // planes.h

// A loop over result elements: what one step moves in x and in the packed weights (elements) and in the result.
typedef struct NestLoop {
  int64_t extent, x, w;
  uint32_t axis;  // result axis it walks
  int64_t scale;  // result elements per step along that axis
} NestLoop;

typedef struct NestTile {
  int64_t lanes;       // of one vector
  int64_t mr, my, nv;  // columns, rows and vectors of the register tile
  int64_t ku, ks;      // unrolled steps of the innermost reduction; independent partial sums
  int64_t mb;          // columns walked per panel before the next panel (a multiple of mr)
  int64_t k_lanes;     // lanes along the reduction instead (few columns: lanes = 1, nv = n), or 0
  int64_t parts;       // > 0: that many lanes share a column (nest_parts.c); one panel
  bool panels_outer;   // panels outside of rows
  bool dense;          // rows of the last panel of weights are as wide as it has columns (pack.h)
} NestTile;

// What a nest of bit planes counts (planes.h): its result is base + mul * (sum of 2^(i + j) popcount).
typedef enum PlanesForm { PLANES_XOR, PLANES_SIGN, PLANES_AND } PlanesForm;
typedef struct NestPlanes {
  PlanesForm form;
  int64_t x, w;   // planes of x, side by side in x; of w, outermost in the packed weights (then the sign)
  bool negative;  // counts of the top plane of w are subtracted
  int64_t mul, base;
  int64_t channels;  // of a row of x
} NestPlanes;

// A result that is words of step functions of the counts (bits_steps.h): the bias holds `n` tables of limits, `stride`
// apart. A code is the number of limits that the count, exclusive-or `flip` of its column, is not below (`above`) or
// is below.
typedef struct NestSteps {
  uint32_t n;  // 0: the post function makes the codes
  bool above;
  int64_t stride;
  Value *flip;           // [columns] of 0 and -1, or NULL
  const int64_t *limit;  // [n][columns] of the sums: where the tables come from; INT64_MIN, INT64_MAX: always, never
} NestSteps;

// What the rows of the bias add for padding (bits_border.h): per class and column `factor` times the sum of the weights
// of all taps outside, and `each` of the column.
typedef struct NestBorder {
  const struct Border *classes;  // NULL: one row for all
  int64_t factor;
  const int64_t *each;  // [columns]
} NestBorder;

// Matrix tiles (tile8.h): the results of a tile are products of tiles of `rows` by 4 lanes bytes of x and weights.
typedef struct NestMatrix {
  int64_t rows;       // 0: no matrix tiles
  int64_t chunk;      // bytes of the innermost reduction in one product
  int64_t stored;     // bytes that a tile of weights takes in memory
  LowBitParts parts;  // of a stored code; one of 8 bits: weights themselves
  int64_t lo, step;   // the weight of code 0; between neighbouring codes
  // Rows of the result in one: m walks `pitch` columns of x per row of the result, of which the first `width` are
  // results.
  int64_t pitch, width;  // pitch 0: m walks one row
} NestMatrix;

typedef struct Nest {
  const Op *op;
  const char *name;  // of the kernel
  PBuf *x, *w, *y;
  const PlanesX *words;  // y are words of codes (bits.h); NULL: elements
  Value *bias;           // broadcast to the result, or NULL; with classes: rows of columns
  PBuf *rows;            // the bias where a step before writes it, or NULL: the constant
  NestBorder border;
  DType type;     // of the arithmetic
  bool dot;       // x are bytes multiplied by four at once (dot4) with weights packed by four; else one by one
  PackBits bits;  // with dot: weights are fields of bytes (pack_bits.h); sums are shifted by bits.shift
  bool pairs;     // x and w are pairs of bfloat16 along the reduction (bf16.h), which counts them
  bool counts;    // x and w are words of bits, see `planes`
  NestPlanes planes;
  NestSteps steps;
  NestMatrix matrix;
  int64_t book;     // > 0: w are codes of floats in `table` (codebook.h), 16 per permutation
  int64_t lookups;  // > 0: w are codes, products come out of `table` (lut.h), by that many lookups
  PBuf *table;
  int64_t w_row;       // > 0: w are rows of numbers as they lie, that far apart, and no panels; n fills its vectors
  int64_t x_zero;      // integers, not dot: subtracted from every x
  int64_t x0;          // first element of x used
  const Op *squares;   // a maximum over 2x2 squares of axes 2 and 3 that is what y holds (nest_pool), or NULL
  bool squares_first;  // the maximum is taken of the sums, bias and post function of it alone
  bool post_again;     // the post function in a second walk over the tile (lower_post_again)
  // The result as the nest sees it: axes of the op's result may be merged or unit axes added.
  uint32_t rank;
  int64_t dims[MAX_RANK], first[MAX_RANK];  // extents; where the loops begin
  uint32_t axis_of[MAX_RANK];               // nest axis of each axis of the op's result
  Value *class_at[MAX_RANK];  // by place along a nest axis: what it adds to the element of the bias; or NULL
  uint32_t n_rows;
  NestLoop row[NEST_ROWS];  // outermost first; `my` tiles the last one
  NestLoop m;
  int64_t n;       // columns of one group, along the last axis
  uint32_t n_red;  // reduction loops, outermost first; the weights are dense over them
  int64_t red[NEST_REDS], x_red[NEST_REDS];
  NestTile tile;
} Nest;

// Last touches before nest_lower: merges adjacent reduction loops that walk x contiguously (kw and ci of a convolution
// without dilation); rows that have weights of their own are not tiled.
void nest_settle(Nest *n);
// The merging alone: for packing weights in the order of the merged loops.
void nest_merge(Nest *n);
// The extent of y along an axis.
int64_t nest_y_dim(const Nest *n, uint32_t axis);
// Sets y: words where the result of the op is held as bits and the tile of the nest can store them, else elements.
void nest_result_buf(LowerCtx *ctx, Nest *n);
// Emits the kernel and its step.
bool nest_lower(LowerCtx *ctx, const Nest *n, const char *strategy);
// Multiply-adds of the whole nest.
double nest_macs(const Nest *n);

#endif
