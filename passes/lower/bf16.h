// Products of two bfloat16 pairs at once (--fp=bf16): a nest of floats made one of pairs.
#ifndef QCC_PASSES_LOWER_BF16_H
#define QCC_PASSES_LOWER_BF16_H

#include "passes/lower/nest.h"

// Whether the target multiplies pairs of bfloat16 faster than floats.
bool bf16_pays(const Target *t);
// Where --fp=bf16 is asked for, the target multiplies pairs faster than floats and the nest's reduction goes by two, x
// and w become pairs along the reduction: x by a step before the nest, constant weights now. Everything else stays.
void bf16_pairs(LowerCtx *ctx, Nest *n);

#endif
