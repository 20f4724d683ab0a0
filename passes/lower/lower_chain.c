// chain: one kernel with all steps, the merged cores as constants, the tensors between the steps in the workspace.
//
// The plan names the steps by the numbers of their cores, "s1 = 56, s2 = 4, s3 = 3, s4 = 12", and how many loops they
// share, "fuse = 3"; everything else follows (passes/structure/chain.h).
#include "passes/lower/chain_emit.h"
#include "passes/lower/lower_conv.h"
#include "passes/structure/chain_price.h"

static bool check(LowerCtx *ctx, const Op *op, ChainEmit *e) {
  for (uint32_t i = 1; i <= CHAIN_CORES; i++) {
    const Value *core = op_in(op, i);
    if (core != NULL && !value_is_const(core))
      return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc, "core %u of a chain is not constant", i);
  }
  Plan plan = lower_plan(ctx, op);
  if (chain_of_plan(op, ctx->target, &plan, &e->f, &e->p)) return true;
  return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc, "the plan of a chain does not name every core once");
}

// Buffers of the kernel: the tensors, then the cores.
static void open_buffers(ChainEmit *e, PBuf **bufs) {
  LowerCtx *ctx = e->ctx;
  uint32_t n = e->p.n;
  for (uint32_t i = 0; i <= n; i++) {
    e->at[i] = chain_layout(&e->f, &e->p, i);
    if (i == 0) {
      bufs[i] = lower_buf(ctx, op_in(e->op, 0));
    } else if (i == n) {
      bufs[i] = lower_buf(ctx, op_out(e->op, 0));
    } else {
      bufs[i] = lower_work(ctx, "between", type_tensor(ctx->m->types, e->type, 1, &e->at[i].count));
    }
    e->tensor[i] = lower_flat(&e->b, bufs[i]);
  }
  for (uint32_t i = 0; i < n; i++) {
    bufs[n + 1 + i] = lower_const(ctx, chain_core(e, i, &e->core_at[i]));
    e->core[i] = lower_flat(&e->b, bufs[n + 1 + i]);
  }
}

bool lower_chain(LowerCtx *ctx, const Op *op) {
  ChainEmit *e = NEW(ctx->m->arena, ChainEmit);
  *e = (ChainEmit){.ctx = ctx, .op = op, .type = lower_arithmetic_type(op)};
  PBuf *bufs[2 * CHAIN_CORES + 1];
  if (!check(ctx, op, e)) return false;
  lower_begin(ctx, &e->b, op);
  open_buffers(e, bufs);
  e->pp = lower_post_params(ctx, &e->b, op);
  chain_emit(e);
  lower_step(ctx, &e->b, op, &e->pp, 2 * e->p.n + 1, bufs)->macs = e->p.macs;
  return true;
}
