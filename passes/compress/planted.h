// Is a matrix of float weights the product of fewer numbers? Asked on samples of it, so that most layers cost little.
#ifndef QCC_PASSES_COMPRESS_PLANTED_H
#define QCC_PASSES_COMPRESS_PLANTED_H

#include "passes/compress/scheme.h"

// An index of a matrix as up to three parts, for matrices seen in the elements of a tensor: element (row, col) of the
// view is data[row_at(row) + col_at(col)], where an index is taken apart by extents (innermost last) and strides. The
// data are the bytes of the constant: most layers are never converted.
typedef struct ViewSide {
  uint32_t n;
  int64_t extent[3], stride[3];
} ViewSide;
typedef struct View {
  const void *data;
  DType dtype;
  ViewSide row, col;
} View;
int64_t view_extent(const ViewSide *s);
// Rows [from, from + n) of the view as doubles; `col_at` holds the places of all columns.
int64_t *view_columns(const View *v, Arena *arena);
void view_rows(const View *v, const int64_t *col_at, int64_t from, int64_t n, double *to);
// `count` <= n different indices below n, ascending: one of each of as many equal parts, by a fixed generator.
void view_sample(int64_t n, int64_t count, uint64_t *state, int64_t *to);

// The stored weights of a layer of layer_shape: rows are inputs and taps or parts of them; those of a dense layer with
// (n m) of its inputs and outputs in front as rows.
View dense_view(const FactorLayer *l, int64_t n, int64_t m);

// The rank of the view as far as samples of up to `most` rows and columns tell; -1: not below what pays, `pays` being
// the largest rank of interest.
int64_t view_rank(const View *v, int64_t most, int64_t pays, Arena *arena);

// Weights of few values, all together or in each output by itself; a few outputs tell. Small layers never are. Of a
// layer of layer_shape the stored weights are looked at.
bool layer_has_few_values(const FactorLayer *l, Arena *arena);

// Singular values below this share of the largest are rounding: weights of 24 bits leave about 1e-7.
#define VIEW_NOISE 2e-6

// Forms of dense layers that are too large to be copied as doubles: of a view whose samples have low rank, and of the
// train with the modes of `ask`. *error is the relative distance between the weights and the factors rounded as they
// are stored. NULL: the samples misled.
Form *large_low_rank(const FactorLayer *l, Forms *out, double *error);
Form *large_train(const FactorLayer *l, const FactorAsk *ask, Forms *out, double *error);

// Paired modes of a matrix in x out for which all unfoldings are of low rank, of fewest parameters; false: none.
bool planted_modes(const FactorLayer *l, FactorAsk *ask, Arena *arena);

#endif
