// Pass channels: filters that compute a constant and channels nobody reads are taken out of the whole graph (group
// sparsity: a network that learnt how many neurons it needs).
//
//   %0 = conv %x, @w, @b {pads = [1,1,1,1]} : f32[1,16,28,28]     filters 3 and 9 are 0
//   %1 = relu %0 : f32[1,16,28,28]                                 channels 3 and 9 are relu(b)
//   %2 = conv %1, @v {pads = [1,1,1,1]} : f32[1,32,28,28]
//   => 14 filters, 14 channels, @v without inputs 3 and 9; what they gave to %2 is its bias, or under padding, where
//      the constant is absent, a constant map added to %2
//
// A channel goes when every contraction that reads it has weights of 0 for it or sees one number there, and all axes
// it is on can drop it together: batch norms, activations, poolings, concat, reshape, residual additions, groups and
// depthwise layers (channels_axes.c). Exact but for the rounding of sums in another order; integers exactly.
//
// Channels that are equal everywhere are one: who reads both reads the first with the sum of the weights
// (channels_same.c).
//
// Source: techniques.md S37, S38, S54 (Zhou et al., less is more; Alvarez and Salzmann, learning the number of
// neurons).
#include "passes/compress/channels.h"

PassResult pass_channels(PassCtx *ctx) {
  Channels c = {.ctx = ctx, .m = ctx->m, .f = ctx->m->funcs.at[0], .arena = ctx->arena, .n_values = ctx->m->n_values};
  if (!channels_follow(&c) || !channels_keep(&c)) return PASS_SAME;
  channels_cut(&c);
  return PASS_CHANGED;
}
