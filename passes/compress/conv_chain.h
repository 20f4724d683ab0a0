// Convolutions as chains of smaller ones, from one tensor train per group: what separable, chain_nd and tt of a
// convolution have in common.
//
// Each part of the chain takes some of the kernel's axes; the first also the input channels, the last the output
// channels, unless a part of its own does that (1x1).
#ifndef QCC_PASSES_COMPRESS_CONV_CHAIN_H
#define QCC_PASSES_COMPRESS_CONV_CHAIN_H

#include "passes/compress/scheme.h"

typedef struct ConvChain {
  const char *scheme, *shape;
  uint32_t n;                    // parts, at least 2
  uint32_t axes[FORM_AXES + 2];  // of the kernel in each part, a bit per axis
} ConvChain;

// Appends the forms asked for. Axes of each part stay in their order.
void conv_chain_forms(const FactorLayer *l, const ConvChain *c, const FactorAsk *ask, Forms *out);

#endif
