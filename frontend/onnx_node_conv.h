// Sliding windows as ONNX states them, shared by the importers of convolutions, pools and their integer forms.
#ifndef QCC_FRONTEND_ONNX_NODE_CONV_H
#define QCC_FRONTEND_ONNX_NODE_CONV_H

#include "frontend/onnx_node.h"

typedef enum AutoPad { AUTO_NOTSET, AUTO_VALID, AUTO_SAME_UPPER, AUTO_SAME_LOWER } AutoPad;

typedef struct Window {
  uint32_t spatial;  // number of spatial axes
  AutoPad auto_pad;
  bool has_kernel;
  int64_t strides[MAX_RANK], dilations[MAX_RANK], kernel[MAX_RANK], pads[2 * MAX_RANK];
} Window;

// Reads strides, dilations, pads, kernel_shape and auto_pad and checks their lengths and ranges.
bool window_read(NodeCtx *c, uint32_t spatial, Window *w);
bool window_same(NodeCtx *c, Window *w, const int64_t *in);  // resolves SAME_* for these input extents
void window_set(Op *op, const Window *w, int strides, int pads, int dilations);  // attributes that are not default
Value *node_conv(NodeCtx *c, Value *x, Value *w, Value *bias);  // a convolution with the attributes of the node

#endif
