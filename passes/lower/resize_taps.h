// Where a resized axis reads: source positions and weights of every output position, computed at compile time.
#ifndef QCC_PASSES_LOWER_RESIZE_TAPS_H
#define QCC_PASSES_LOWER_RESIZE_TAPS_H

#include "ir/graph.h"

#define RESIZE_TABLE_MAX (INT64_C(1) << 26)  // most entries of a table in the object

typedef struct ResizeAxis {
  int64_t in, out;
  bool touched;    // false: copied as it is
  bool too_large;  // more taps than RESIZE_TABLE_MAX; no tables were made
  int64_t n;       // taps per output position
  int64_t *index;  // [out][n], inside the axis
  double *weight;  // [out][n]; 1 for nearest
  bool *outside;   // [out]: takes the extrapolation value; NULL when none does
} ResizeAxis;

ResizeAxis resize_axis(const Op *op, uint32_t axis, Arena *arena);

#endif
