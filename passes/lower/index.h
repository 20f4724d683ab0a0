// Indices that come from tensors: wrapped, then clamped, by the generated code.
#ifndef QCC_PASSES_LOWER_INDEX_H
#define QCC_PASSES_LOWER_INDEX_H

#include "passes/lower/lanes.h"

KExpr *index_wrapped(KBuild *b, KExpr *raw, int64_t n);         // negative values count from the end of n
Affine index_clamped(KBuild *b, KExpr *raw, int64_t n);         // wrapped and moved into [0, n), as a let
bool index_axis_check(LowerCtx *ctx, const Op *op, int64_t n);  // an axis that is indexed must not be empty

// Constant indices, wrapped and clamped; NULL when they are not constant.
int64_t *index_constants(LowerCtx *ctx, const Value *indices, int64_t n);

// Offsets in regular order: nested loops over `first + sum of stride * counter`, outermost loop first.
#define PATTERN_LOOPS 6
typedef struct Pattern {
  int64_t first;
  uint32_t n;
  int64_t count[PATTERN_LOOPS], stride[PATTERN_LOOPS];
} Pattern;
bool pattern_of(int64_t *at, int64_t n, Pattern *p);  // uses up at; n > 0. False when there is no such order

// Tuples of indices: x [batch.., dims[depth].., inner], indices [batch.., rows.., depth].
typedef struct NdView {
  int64_t batch, rows, inner, image;  // image: elements of x per batch item
  uint32_t depth;
  int64_t dims[MAX_RANK], strides[MAX_RANK];
} NdView;
NdView nd_view(const Type *x, const Type *indices, int64_t batch_dims);
bool nd_check(LowerCtx *ctx, const Op *op, const NdView *v);
Affine nd_index(KBuild *b, const NdView *v, KBuf *indices, Affine row);  // element of x inside its batch item
// Offsets of all rows of constant indices (one batch item); NULL when they are not constant.
int64_t *nd_constants(LowerCtx *ctx, const Value *indices, const NdView *v);

#endif
