// Inside of the pass blocks: convolutions of floats with weights of few levels.
#ifndef QCC_PASSES_RECOVER_SLICES_H
#define QCC_PASSES_RECOVER_SLICES_H

#include "passes/pass.h"

// The convolution as three integer ones where that takes less time; true when it was replaced.
bool slices_conv(PassCtx *ctx, Op *op);

#endif
