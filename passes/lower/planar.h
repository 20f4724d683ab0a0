// Strategy `planar`: depthwise convolutions whose planes stay where they lie, channels first. See planar.c.
#ifndef QCC_PASSES_LOWER_PLANAR_H
#define QCC_PASSES_LOWER_PLANAR_H

#include "passes/contraction.h"
#include "passes/lower/lower.h"

#define PLANAR_TAPS 25  // of larger windows the transposes are the smaller part

// The geometry of a channels-first convolution with one constant f32 filter per channel, steps of 1 and rows of at
// least `lanes` elements, which is what the strategy does. False: another op.
bool planar_geom(const Op *op, int64_t lanes, ConvGeom *g);
// The same of a convolution of one tap and step 1 whose planes fill whole vectors: a product of constant weights and
// planes.
bool planar_pointwise(const Op *op, int64_t lanes, ConvGeom *g);
// Emits the kernel for such an op, [n, c, h, w] to [n, c, h', w'].
bool lower_planar(LowerCtx *ctx, const Op *op, const Plan *plan);

#endif
