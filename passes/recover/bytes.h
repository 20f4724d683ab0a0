// Inside of the integer pass: quantised functions of bytes that are no contraction.
#ifndef QCC_PASSES_RECOVER_BYTES_H
#define QCC_PASSES_RECOVER_BYTES_H

#include "passes/pass.h"

// quantize(chain(dequantize(a), dequantize(b))) and quantize(chain(dequantize(a))), for chains of element-wise ops: one
// multiplication per operand where that gives the same byte for every pair of bytes.
bool bytes_chains(PassCtx *ctx, Func *f);
// quantize(mean(dequantize(a))) over windows: the exact sum of the window, times one factor.
bool bytes_means(PassCtx *ctx, Func *f);

#endif
