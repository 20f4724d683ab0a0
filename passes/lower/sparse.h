// The strategy sparse: a multiply-add of a vector of positions per non-zero weight, weights as data.
//
//   values   f32[non-zeros], or four bytes each   places   i32[non-zeros]: where x begins, from the first plane of the
//   part first    i32[parts * O + 1]: entries of row r of a part       order   i32[parts * O]: the filter of row r
//
// A part is as many channels as leave a tile of x in the first-level cache; between parts sums lie in memory. The rows
// of a part are ordered by their number of non-zeros, so that the length of the inner loop changes seldom.
//
//   for images, tiles of v vectors par { for parts { for rows { acc = 0 or sums;
//     for entries { acc[0..v] += values[e] * x[part][places[e] + tile] }   sums or y = acc } } }
//
// See passes/sparse.h for what planes are; price_sparse.c for the sizes.
#ifndef QCC_PASSES_LOWER_SPARSE_H
#define QCC_PASSES_LOWER_SPARSE_H

#include "passes/lower/lower.h"
#include "passes/sparse.h"

#define SPARSE_EXTRA 17
#define SPARSE_SQUARE 16  // most channels transposed at once; rows of sums beyond the last one are read

typedef struct SparseLower {
  LowerCtx *ctx;
  const Op *op;
  Sparse s;
  int64_t lanes, v;         // of a vector; vectors of a tile
  int64_t channels, parts;  // of a part; parts
  int64_t plane, row;       // elements of a plane of x, of a row of sums
  double nonzeros;
  DType type;     // of sums: f32, or i32 of bytes
  Value *bias;    // of the result, or NULL
  bool in_order;  // sums become results where they are computed, else in a step of their own
  PBuf *x;        // planes
  PBuf *sums;     // [images][o][row]; NULL: not needed
  Value *values, *places, *first, *order, *busy, *book;
} SparseLower;

// An operand broadcast to the result: its strides over image, channel and the three spatial axes; rows of a matrix are
// the last of these.
typedef struct SparseExtra {
  KBuf *buf;
  int64_t stride[2 + CONV_AXES];
} SparseExtra;

typedef struct SparseEmit {
  SparseLower *l;
  KBuild b;
  KBuf *y, *sums;
  SparseExtra extra[SPARSE_EXTRA];  // the bias when there is one, then the operands of the post function
  uint32_t n_extra;
  bool has_bias;
  PBuf *bufs[32];
  uint32_t n_bufs;
} SparseEmit;

bool lower_sparse(LowerCtx *ctx, const Op *op, const Plan *plan);

// Sets values, places, first, order, busy. False: past the size limits.
bool sparse_pack(SparseLower *l);
// The product for few rows of x, weights packed on the way. False: past the size limits.
bool sparse_rows(SparseLower *l, const Plan *plan);
// x as planes: a step before, or x itself.
PBuf *sparse_planes(SparseLower *l, PBuf *x);
// Places lo .. hi - 1 of phase `part` along an axis lie in x.
void sparse_inside(const Sparse *s, uint32_t axis, int64_t part, int64_t *lo, int64_t *hi);
// The same of bytes under a kernel (sparse_pixels.c).
void sparse_pixels(SparseLower *l, KBuild *b, KBuf *from, KBuf *to);
// The product.
void sparse_multiply(SparseLower *l);
// Sums to results, when they were not in order.
void sparse_store(SparseLower *l);

KBuf *sparse_param(SparseEmit *e, PBuf *buf);
// Parameters for y, the bias and the operands of the post function.
void sparse_results(SparseEmit *e);
// Results of the pixels of a picture.
void sparse_store_pixels(SparseEmit *e);

// ---- squares: `side` x `side` elements whose rows become columns
// A tile whose row r holds `side` elements of `from` beginning at `at` + r * step.
KBuf *sparse_square(KBuild *b, KBuf *from, Affine at, int64_t step, int64_t side);
// The largest side for `rows` x `columns` elements; 0: too few for one.
int64_t sparse_side(const SparseLower *l, int64_t rows, int64_t columns);
// Begins a loop over n in steps of `side`, the last one over the elements before the end.
Affine sparse_squares_begin(KBuild *b, int64_t n, int64_t side, KForKind kind);
void sparse_squares_end(KBuild *b, int64_t n, int64_t side);
// Signed bytes shifted into the range of unsigned ones.
KExpr *sparse_unsigned(const SparseLower *l, KBuild *b, KExpr *x);
// Stores the first `width` channels from j on of a square of results; sums of channel j begin at `from`, and pixel m is
// the first one. rows: NULL, or memory for a square where the code after a sum is long. guard: pixels past the end are
// left out.
void sparse_store_square(SparseEmit *e, Affine from, Affine m, Affine j, int64_t side, int64_t width, KBuf *rows,
                         bool guard);
// Memory for sparse_store_square, or NULL.
KBuf *sparse_square_rows(SparseEmit *e, int64_t side);

// The result for a sum at image, channel and spatial place; stored to y at `to`.
void sparse_finish(SparseEmit *e, KExpr *sum, const Affine *at, Affine to);

#endif
