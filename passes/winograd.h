// Winograd's minimal filtering for 3x3 convolutions of stride 1, with nested points.
//
// A tile of m results along an axis is made from m + 2 numbers, one per point: transformed inputs times transformed
// weights. The points of a tile are the first m + 2 of
//
//   0, 1, -1, inf, 2, -2, 1/2, -1/2
//
// and the row of weights of a point p is [1 p p^2], unscaled: what a point asks of the weights does not depend on the
// tile. One set of transformed weights serves tiles of every size, so sizes mix along an axis and no tile overhangs.
// (A tile of one result has the three points 0, 1, -1.) The factors 1/N lie in the transform of the input.
// After A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks (2016), and kernel study 1.
#ifndef QCC_PASSES_WINOGRAD_H
#define QCC_PASSES_WINOGRAD_H

#include "passes/contraction.h"

enum { WINO_POINTS = 8, WINO_SIZES = 5, WINO_TILE = 6 };

// The tiles along an axis: kinds of tile, the largest first.
typedef struct WinoAxis {
  uint32_t n;
  int64_t size[WINO_SIZES], count[WINO_SIZES];
} WinoAxis;

typedef struct WinoMatrix {
  uint32_t rows, cols;
  double a[WINO_POINTS][WINO_POINTS];
} WinoMatrix;

// A 3x3 convolution over two axes with constant float weights, one group, no strides or dilations and pads of at most
// two. False for anything else.
bool wino_geom(const Op *op, ConvGeom *g);

int64_t wino_points(int64_t size);
// [points][points] of the inputs, [size][points] of the results.
WinoMatrix wino_input(int64_t size);
WinoMatrix wino_output(int64_t size);
// What point number `point` multiplies the three weights of an axis with.
void wino_weight(uint32_t point, double row[3]);

// The fewest tiles of at most `most` results that make `extent` results, the more even ones of equally many.
WinoAxis wino_split(int64_t extent, int64_t most);
int64_t wino_tiles(const WinoAxis *a);
// Tiles of the axis that have point number `point`: they come first.
int64_t wino_with_point(const WinoAxis *a, uint32_t point);
int64_t wino_axis_points(const WinoAxis *a);  // of the largest tile

// The tiles written in a plan: parameters y6, y4, ... and x6, x4, ... count those of a size. False: they do not make
// the result, or are none.
bool wino_of_plan(const Plan *p, const ConvGeom *g, WinoAxis *y, WinoAxis *x);
const char *wino_param(bool x, int64_t size);

#define WINO_SHARE 0.33  // of that gate the measured error may take

// The largest error of tiles of y by x results against the gate of a contraction, which is gamma_K * sum of |x||w|:
// measured in float32 on sampled inputs and the layer's weights, a few results of each tile.
double wino_error(const Op *op, const ConvGeom *g, int64_t y, int64_t x);
// The same as a bound for any input whose tile has no sums of |x||w| that differ: from the matrices alone.
double wino_bound(int64_t y, int64_t x);

#endif
