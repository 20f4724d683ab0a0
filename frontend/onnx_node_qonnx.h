// Shared by the two files of QONNX importers.
#ifndef QCC_FRONTEND_ONNX_NODE_QONNX_H
#define QCC_FRONTEND_ONNX_NODE_QONNX_H

#include "frontend/onnx_node.h"

Value *qonnx_scaled(NodeCtx *c, Value *x, double scale, double bias);  // x * scale + bias; no op where neutral

#endif
