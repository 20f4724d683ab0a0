// Pass codes: layers whose weights or activations take few values that lie on no grid of small integers.
//
//   %1 = log(max(abs(relu %0)), 1e-30)) ... sign(relu %0) * pow(2, clip(round(%1 / ln 2), -5, 1))
//   => %1 = select(%0 > 0, 2^-5, 0), %2 = select(%0 >= 0.0441.., 2^-4, %1), ...          (codes_steps.c)
//
//   %1 = conv %x, @b0; %2 = mul %1, 0.02; %3 = conv %x, @b1; %4 = mul %3, 0.01; %5 = add %2, %4
//   => %5 = conv %x, @w                                          @w: 0.02 @b0 + 0.01 @b1 (codes_bases.c)
//
// Steps equal the interpreter's value of the chain for every float: boundaries are found by bisection, and monotonicity
// between them is proved op by op.
#include "passes/recover/codes.h"

#include "passes/graph_util.h"

PassResult pass_codes(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  bool changed = codes_bases(ctx, f);
  changed |= codes_steps(ctx, f);
  if (changed) graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}

PassResult pass_terms(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  bool changed = codes_pools(ctx, f);
  return codes_layers(ctx, f) || changed ? PASS_CHANGED : PASS_SAME;
}
