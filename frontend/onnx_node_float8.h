// Floats of 8 and 4 bits: their arithmetic is conversion only, made of tables while importing.
#ifndef QCC_FRONTEND_ONNX_NODE_FLOAT8_H
#define QCC_FRONTEND_ONNX_NODE_FLOAT8_H

#include "frontend/onnx_node.h"

static inline bool is_small_float(DType t) { return dtype_is_float(t) && dtype_info(t)->bits <= 8; }

// x of a small float type as f32.
Value *small_float_decode(NodeCtx *c, Value *x);
// x rounded to `to`, half to even; what is too large becomes the largest value or, without `saturate`, infinity or NaN.
Value *small_float_encode(NodeCtx *c, Value *x, DType to, bool saturate);
// A scale or zero point (one number, one per slice of `axis`, one per block) with a shape that broadcasts over x.
Value *parameter_over(NodeCtx *c, const Type *x, Value *p, int64_t axis, int64_t block);

#endif
