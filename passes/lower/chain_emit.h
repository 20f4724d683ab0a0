// Inside of the lowering of chains: what the loops (chain_emit.c) and the merging of cores (chain_core.c) share.
#ifndef QCC_PASSES_LOWER_CHAIN_EMIT_H
#define QCC_PASSES_LOWER_CHAIN_EMIT_H

#include "passes/lower/lower.h"
#include "passes/structure/chain.h"

typedef struct ChainEmit {
  LowerCtx *ctx;
  const Op *op;
  ChainForm f;  // without letters of one value
  ChainPlan p;
  DType type;  // of the arithmetic
  KBuild b;
  KBuf *tensor[CHAIN_CORES + 1];  // x, those between the steps, the result
  ChainLayout at[CHAIN_CORES + 1];
  KBuf *core[CHAIN_CORES];  // by step, merged and packed
  ChainLayout core_at[CHAIN_CORES];
  PostParams pp;
  Affine index[CHAIN_LETTERS];  // of the shared loops that are open
  uint32_t depth;               // loops open
} ChainEmit;

// The merged core of a step in the order its tile reads: kept letters, summed ones, then rows or vectors, the lanes
// padded with zeros to whole vectors. Sets the strides of its letters.
Value *chain_core(ChainEmit *e, uint32_t step, ChainLayout *at);
// The loops of all steps.
void chain_emit(ChainEmit *e);

#endif
