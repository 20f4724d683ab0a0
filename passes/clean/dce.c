// Pass dce: drops ops none of whose results is used.
//
//   %0 = relu %x : f32[8]
//   %1 = exp %x : f32[8]
//   return %0
//   => %1 is gone
#include "passes/graph_util.h"
#include "passes/pass.h"

PassResult pass_dce(PassCtx *ctx) {
  uint32_t dropped = 0;
  for (uint32_t k = 0; k < ctx->m->funcs.n; k++) dropped += graph_drop_dead(ctx->m->funcs.at[k]);
  return dropped ? PASS_CHANGED : PASS_SAME;
}
