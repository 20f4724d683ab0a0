// Steps of the fuse pass; pass `quantize` takes the first two before it looks at weights.
#ifndef QCC_PASSES_FUSE_FUSE_H
#define QCC_PASSES_FUSE_FUSE_H

#include "passes/pass.h"

bool fuse_affine(PassCtx *ctx, Func *f);  // steps 1 and 2: batch norms and biases into contractions
bool fuse_maps(PassCtx *ctx, Func *f);    // step 3: groups of element-wise ops -> map
bool fuse_posts(PassCtx *ctx, Func *f);   // step 4: map or element-wise op after a contraction -> post

#endif
