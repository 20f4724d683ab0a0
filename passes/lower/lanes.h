// Reductions over lanes, shared by reductions, pooling, normalisation and recurrent cells.
//
// Two shapes. `lanes_row` reduces along contiguous elements: vector partial sums in several accumulators, combined in
// a fixed order, so the result never depends on threads. A `Columns` tile reduces many neighbouring results at once:
// one lane per result, the reduction loops inside, nothing combined across lanes.
#ifndef QCC_PASSES_LOWER_LANES_H
#define QCC_PASSES_LOWER_LANES_H

#include "passes/lower/lower.h"

#define LANES_PAR_MIN 8192  // elements of work below which a kernel stays on one thread

// The neutral element of ADD, MUL, MAX or MIN.
KExpr *lanes_neutral(KBuild *b, DType t, KOp op);

// Value of one element: `at` holds the loop variables of the domain. Called for the vector body and its tails; may
// open lets and stores in front of the value.
typedef KExpr *LaneFn(void *ctx, KBuild *b, const Affine *at);

// op over fn(at) for all at in dims, the last of which is walked by vectors. Returns a scalar let of type t.
KVar *lanes_row(LowerCtx *ctx, KBuild *b, DType t, KOp op, uint32_t rank, const int64_t *dims, LaneFn *fn,
                void *fn_ctx);

// A tile of up to 4 vectors of results.
typedef struct Columns {
  int64_t lanes, width;   // lanes of a vector; results in this tile
  int64_t vectors, tail;  // full vectors; lanes of the rest
} Columns;

// Value for one lane: `k` are the reduction variables, `col` the number of the result inside the tile, `acc` its two
// indices into buffers made by columns_alloc.
typedef void ColumnFn(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc);

int64_t columns_max(LowerCtx *ctx, DType t);  // width of a full tile
Columns columns_new(LowerCtx *ctx, DType t, int64_t width);
KBuf *columns_alloc(KBuild *b, const Columns *c, const char *name, DType t);
// Calls fn once per lane; k is passed through.
void columns_each(KBuild *b, const Columns *c, const Affine *k, ColumnFn *fn, void *ctx);
void columns_fill(KBuild *b, const Columns *c, KBuf *acc, KExpr *value);
// Opens loops over dims, seq, and calls columns_each inside.
void columns_over(KBuild *b, const Columns *c, uint32_t rank, const int64_t *dims, ColumnFn *fn, void *ctx);

// A tensor as [outer, n, inner] around one axis, which may be counted from the end.
typedef struct AxisView {
  int64_t outer, n, inner;
  int64_t step;  // between neighbouring rows of a tile (axis_rows)
} AxisView;
AxisView lower_axis_view(const Type *t, int64_t axis);

// Calls fn for tiles that cover `count` results: one loop over full tiles, par when `par`, then the rest. `first` is
// the number of the tile's first result.
typedef void TileFn(void *ctx, KBuild *b, const Columns *c, Affine first);
void columns_tiles(LowerCtx *ctx, KBuild *b, DType t, int64_t count, bool par, TileFn *fn, void *fn_ctx);

// Visits every row of an axis view: `row` once per outer index when the axis is innermost, else `tile` for tiles of
// neighbouring rows. x0 is the first element (of the row; of the tile's first row); elements of a row are `inner`
// apart, the rows of a tile v->step. Many short innermost rows are tiles too, with step n.
typedef void RowFn(void *ctx, KBuild *b, Affine x0);
void axis_rows(LowerCtx *ctx, KBuild *b, DType t, AxisView *v, RowFn *row, TileFn *tile, void *fn_ctx);

#endif
