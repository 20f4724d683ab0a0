// A linear map on one activation while it is read off the graph: the letters of the tensor at hand and the cores it
// met.
#ifndef QCC_PASSES_STRUCTURE_CHAIN_NET_H
#define QCC_PASSES_STRUCTURE_CHAIN_NET_H

#include "ir/chain.h"

// f.y is the tensor at hand. Extents of one have no letter.
typedef struct ChainNet {
  ChainForm f;
  Value *x, *core[CHAIN_CORES];
  bool linked[CHAIN_CORES];  // the core sums nothing of x, only what cores before it made
} ChainNet;

// The elements of x, a letter per axis. False: a dim is symbolic.
bool net_start(ChainNet *n, Value *x);
// Follows one op whose operand `slot` is the tensor at hand: reshape, transpose, and matmul and einsum with constants.
// False: not that op, or it cuts axes where no letter ends; the net is then of no use any more.
bool net_follow(ChainNet *n, const Op *op, uint32_t slot);
// The op is one that net_follow may take, with every other operand constant. Sets the operand that is not.
bool net_is_linear(const Op *op, uint32_t *slot);

#endif
