// What a contraction computes, read off the op once for the planner and the lowerings: extents, strides, groups, and
// which axes of the result can be walked as one.
//
// Convolutions are described in channels-last order with three spatial axes (missing ones have extent 1); matmul as
// batches of C[m, n] = sum over k of A[m, k] B[k, n] with element strides. Nothing here depends on a target.
#ifndef QCC_PASSES_CONTRACTION_H
#define QCC_PASSES_CONTRACTION_H

#include "ir/graph.h"

#define CONV_AXES 3

typedef struct ConvGeom {
  int64_t n, c, o, group;  // batch, input channels, output channels
  int64_t in[CONV_AXES], out[CONV_AXES], kernel[CONV_AXES];
  int64_t stride[CONV_AXES], dilation[CONV_AXES];
  int64_t pad[CONV_AXES];  // at the beginning; the end follows from the extents
  bool pointwise;          // 1x1, stride 1, no pads: the result is a matrix product over all pixels
} ConvGeom;

typedef struct MatmulGeom {
  uint32_t n_batch;
  int64_t batch[MAX_RANK], a_batch[MAX_RANK], b_batch[MAX_RANK];  // extents and element strides (0: broadcast)
  int64_t m, n, k;
  int64_t a_m, a_k, b_k, b_n;  // element strides
  bool a_vector, b_vector;     // 1-D operands: the result lacks the axis
  bool b_shared;               // one B for all batches
} MatmulGeom;

// For conv and conv_transpose in nhwc layout. False when the layout is another one or a dim is symbolic.
bool conv_geom(const Op *op, ConvGeom *g);
bool matmul_geom(const Op *op, MatmulGeom *g);
// All batches and rows of A can be walked as one axis of rows: B is shared, A dense, the operands allow it.
bool matmul_rows_merge(const Op *op, const MatmulGeom *g);
// The axis of the weights of a conv, conv_transpose or matmul (of rank 2 and more) that counts output channels: all of
// them, or those of a group where a conv_transpose has groups.
uint32_t weight_channel_axis(const Op *op);

// Which output channel each weight belongs to.
typedef struct WeightChannels {
  int64_t n, channels;  // weights; output channels in all
  int64_t per, groups;  // channels along the axis of the weights, and how often: channels = per * groups
  int64_t inner;        // weights from one channel to the next
  int64_t block;        // weights from one group to the next; of no meaning without groups
  uint32_t axis;        // of the channels in the result
} WeightChannels;

// For a conv, conv_transpose or matmul in any layout; weights of rank 1 are one channel. False where the weights are
// symbolic or have no elements.
bool weight_channels(const Op *op, WeightChannels *w);

// The channel of weight i.
static inline int64_t weight_channel(const WeightChannels *w, int64_t i) {
  return i / w->inner % w->per + (w->groups > 1 ? i / w->block % w->groups * w->per : 0);
}

// Group equals channels and every channel has one filter.
bool conv_is_depthwise(const ConvGeom *g);

// `fold` neighbouring result columns can be computed as one column with `fold` times the output channels: the result
// has the same bytes, the kernel grows to the union of their windows and the stride with it. Few channels then fill
// whole vectors. Needs constant weights and bias and a post function without operands.
bool conv_folds(const Op *op, const ConvGeom *g);
void conv_fold(ConvGeom *g, int64_t fold);

// True when result axes first .. end - 1 can be walked as one axis: every operand broadcast to the result (a matmul's
// bias, post operands) runs over all of them or over none.
bool result_axes_merge(const Op *op, uint32_t first, uint32_t end);

#endif
