// Weights with zeros: what a contraction computes when every non-zero is a multiply-add of its own, read off the op
// once for the planner, the layout pass and the lowering.
//
//   y[o, p] = bias[o] + sum over the non-zeros (c, tap) of filter o of w * x[c, place(p, tap)]
//
// Positions p are the lanes, so x is wanted in planes: one run of positions per channel. A convolution whose channels
// come first has planes; strides and padding split a plane into one part per phase, with zeros around it, so that every
// tap is a constant distance and rows of results are one run (a few positions between rows compute nothing). Rows of a
// matrix and pixels of channels-last tensors are transposed into planes first and back afterwards.
// Bytes (channels last, one group) go by four channels at a time: an entry is four weights that are not all zero.
// Terms with a zero weight disappear (S48): a NaN or an infinity in x reaches only results that read it by a non-zero.
#ifndef QCC_PASSES_SPARSE_H
#define QCC_PASSES_SPARSE_H

#include "passes/contraction.h"

typedef struct Sparse {
  int64_t images, c, o, group;
  int64_t in[CONV_AXES], out[CONV_AXES], kernel[CONV_AXES], stride[CONV_AXES], dilation[CONV_AXES], pad[CONV_AXES];
  bool last;     // channels are the last axis of x and y: rows of a matrix
  bool spatial;  // ... and they are pixels of a picture under a kernel
  bool bytes;    // times bytes; c counts fours of channels
  Const *w;
  int64_t w_o, w_c, w_tap[CONV_AXES];  // element strides of the weights
  // Planes: extents of one phase, phases per axis, positions of a result run, whether x is read where it lies.
  int64_t phase[CONV_AXES], phases[CONV_AXES];
  int64_t positions;
  bool dense;   // positions are the results of one image in order
  bool direct;  // ... and x has that form already
} Sparse;

// False: operand 1 is not a constant matrix or filters of f32 (i8 with x of bytes), or x has another form than those
// above.
bool sparse_of(const Op *op, Sparse *s);
// Its convolution; one with channels first where s->last is false.
ConvGeom sparse_conv(const Sparse *s);
// Phases that are stored: those a tap reads, all axes together.
int64_t sparse_phases(const Sparse *s);
// Elements of one plane with all its phases when vectors have `lanes` lanes: no two planes begin in one set of a cache.
int64_t sparse_plane(const Sparse *s, int64_t lanes);
// Element of the weights for output channel o, channel c of its group, tap number `tap`.
int64_t sparse_weight_at(const Sparse *s, int64_t o, int64_t c, int64_t tap);
int64_t sparse_taps(const Sparse *s);
// Where tap number `tap` of result position 0 lies in a plane.
int64_t sparse_tap_place(const Sparse *s, int64_t tap, int64_t lanes);
// Entries in all weights, and how many of them are not zero.
int64_t sparse_entries(const Sparse *s);
int64_t sparse_nonzeros(Module *m, const Sparse *s);
// Four weights of a tap from channel 4 c on, the first lowest.
uint32_t sparse_four(const Sparse *s, const void *w, int64_t o, int64_t c, int64_t tap);

#endif
