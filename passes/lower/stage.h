// Staging of contraction operands at run time: copies into work buffers that make the inner nests simple.
#ifndef QCC_PASSES_LOWER_STAGE_H
#define QCC_PASSES_LOWER_STAGE_H

#include "passes/contraction.h"
#include "passes/lower/lower.h"
#include "passes/pack.h"

// Packed weights for a nest: a constant is packed now, anything else by a step before. NULL after diag_error.
PBuf *stage_weights(LowerCtx *ctx, const Op *op, Value *w, const PackSpec *s);

// The window of a channels-last tensor [n, d, h, w, c] that a convolution reads, `fill` where it lies outside: extents
// and number of the first element per spatial axis (negative: padding).
typedef struct Window {
  int64_t n, c;
  int64_t in[CONV_AXES], from[CONV_AXES], extent[CONV_AXES];
  int64_t fill;
  int64_t room;  // elements of any value behind the copy
} Window;
bool window_is_inside(const Window *w);  // reads no padding
// Copies the window into a work buffer [n, extent.., c] (one row when there is room behind it) of type `type` (that of
// x or a wider one), `fill` outside x.
PBuf *stage_window(LowerCtx *ctx, const Op *op, PBuf *x, const Window *w, DType type);

#endif
