// What the lowerings of contractions share: plans, tiles, windows.
#ifndef QCC_PASSES_LOWER_CONV_H
#define QCC_PASSES_LOWER_CONV_H

#include "passes/lower/nest.h"
#include "passes/lower/stage.h"

// The plan written on the op, or the cheapest one when it has none.
Plan lower_plan(LowerCtx *ctx, const Op *op);
bool plan_is(const Plan *p, const char *strategy);
// The register tile a plan asks for, cut to the extents of the nest (strategy `loop`: one element).
NestTile nest_tile(LowerCtx *ctx, const Plan *p, DType type, const Nest *n);
// Vectors of a panel of the packed weights such a tile reads.
int64_t nest_panel(const NestTile *t);
// The type a contraction multiplies and adds in: the compute type of its raw result.
DType lower_arithmetic_type(const Op *op);
// Reports an op whose geometry could not be read; true when it could.
bool lower_contraction_check(LowerCtx *ctx, const Op *op, bool geom);

// A post operand has the size of the result, so memplan may put both in one place.
bool lower_operand_may_alias(const Op *op);
// The post function is long code (exp, erf, division ...) that should not be copied for every vector of a tile: store
// the raw tile, then walk it once more while it is in L1. False where that would round or overwrite an operand.
bool lower_post_again(const Op *op, DType type);

// Takes the maximum over squares that alone reads the result into the nest, where its tile can (nest_pool.c).
void nest_pool(LowerCtx *ctx, const Plan *plan, Nest *n);

// The part of x a convolution reads, and x itself or a copy of that part with zeros outside: extents of the buffer and
// the element where the window begins. Narrow floats are widened by the way when a copy pays. NULL after diag_error.
Window conv_window(const ConvGeom *g);
PBuf *conv_stage(LowerCtx *ctx, const Op *op, const Window *w, DType type, int64_t *extent, int64_t *x0);

// One filter per channel, lanes along channels, strategy fma, no depth axis. Where the code would not fit a function,
// the contraction nest does it group by group.
bool conv_depthwise_fits(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan);
bool lower_conv_depthwise(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan);
// Columns of x that `mi` neighbouring columns of the result read.
int64_t depthwise_window(const ConvGeom *g, int64_t mi);
// Tiles of up to `most` columns that one body serves, from `column` on: neighbours which miss no columns of x. Sets the
// column after them and their width; true when a tile of them misses some.
bool depthwise_tiles(const ConvGeom *g, int64_t most, int64_t column, int64_t *end, int64_t *mi);

#endif
