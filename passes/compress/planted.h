// Is a matrix of float weights the product of fewer numbers? Asked on samples of it, so that most layers cost little.
#ifndef QCC_PASSES_COMPRESS_PLANTED_H
#define QCC_PASSES_COMPRESS_PLANTED_H

#include "passes/compress/scheme.h"

// An index of a matrix as up to three parts, for matrices seen in the elements of a tensor: element (row, col) of the
// view is a[row_at(row) + col_at(col)], where an index is taken apart by extents (innermost last) and strides.
typedef struct ViewSide {
  uint32_t n;
  int64_t extent[3], stride[3];
} ViewSide;
typedef struct View {
  const double *a;
  ViewSide row, col;
} View;
int64_t view_extent(const ViewSide *s);

// The rank of the view as far as samples of up to `most` rows and columns tell; -1: not below what pays, `pays` being
// the largest rank of interest.
int64_t view_rank(const View *v, int64_t most, int64_t pays, Arena *arena);

// Weights of few values, all together or in each output by itself; a few outputs tell. Small layers never are.
bool layer_has_few_values(const FactorLayer *l, Arena *arena);

// Paired modes of a matrix in x out for which all unfoldings are of low rank, of fewest parameters; false: none.
bool planted_modes(const FactorLayer *l, FactorAsk *ask, Arena *arena);

#endif
