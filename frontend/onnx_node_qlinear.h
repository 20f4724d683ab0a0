// What the importers of integer operators share: centred integers in, requantised integers out.
#ifndef QCC_FRONTEND_ONNX_NODE_QLINEAR_H
#define QCC_FRONTEND_ONNX_NODE_QLINEAR_H

#include "frontend/onnx_node.h"

// x - zero in 32 bits. A 1-D zero point runs along the last axis but `from_end`; NULL: no zero point.
Value *q_centred(NodeCtx *c, Value *x, Value *zero, uint32_t from_end);
// A 1-D parameter along the axis that has `after` axes behind it; v itself when it is one number.
Value *q_along(NodeCtx *c, Value *v, uint32_t after);
// quantize(acc * (sa * sb / sy)): the product of scales is rounded to its type first, as the references do.
bool q_requantised(NodeCtx *c, Value *acc, Value *sa, Value *sb, Value *sy, Value *zy);
// Input i as a number of rank 0; NULL after a diagnostic when it is missing or more than one.
Value *q_number(NodeCtx *c, uint32_t i);
// saturate(round(x) + zero) in the type of `zero`, or `order` zero first. `zero` NULL: 0 of type t.
Value *q_rounded(NodeCtx *c, Value *x, Value *zero, DType t, EnumValue order);
// DynamicQuantizeLinear of x: all[0] u8, all[1] scale, all[2] zero point.
bool q_dynamic(NodeCtx *c, Value *x, Value *all[3]);

#endif
