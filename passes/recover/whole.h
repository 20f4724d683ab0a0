// Inside of the integer pass: contractions of bytes with whole weights.
#ifndef QCC_PASSES_RECOVER_WHOLE_H
#define QCC_PASSES_RECOVER_WHOLE_H

#include "passes/contraction.h"
#include "passes/pass.h"

// Weights of a conv, conv_transpose or matmul.
typedef struct WholeWeights {
  const Type *type;
  const int64_t *v;  // [type_count(type)]
  WeightChannels of;
  const char *name;  // of the constant made of them; may be NULL
} WholeWeights;

// Can whole_sum compute with them? True for all of -128 .. 127, and for those of `op` whose channels each span at most
// 255 steps inside of -255 .. 255, as unsigned bytes less a zero point do.
bool whole_weights_fit(const Op *op, const WholeWeights *w);

// The i32 sum of (x - zero) * w before `op`, of its attributes and the shape of its result; x: u8; bias: i32 per
// channel or NULL. Exact where the true sums, and those of w less its shift, fit 31 bits.
Value *whole_sum(PassCtx *ctx, Op *op, Value *x, int64_t zero, const WholeWeights *w, Value *bias);

#endif
