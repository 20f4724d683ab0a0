// Second moments of the inputs of layers, over samples run by the interpreter.
#ifndef QCC_PASSES_COMPRESS_MOMENTS_H
#define QCC_PASSES_COMPRESS_MOMENTS_H

#include "passes/compress/form.h"
#include "passes/pass.h"

// The sum of x x' over all places of the results of layer `l` (one group) in all samples, x the unfolded input, input
// channel by input channel with the taps inside, and a 1 behind: (in * taps + 1) squared numbers. NULL, with *why: no
// samples were given, they do not fit, or it would be too much work.
const double *layer_moments(const FactorLayer *l, const PassOptions *opt, const char **why, Arena *arena);

#endif
