// Which layers may take their forms so that the results of the network stay within a limit (S40).
#ifndef QCC_PASSES_COMPRESS_NETWORK_H
#define QCC_PASSES_COMPRESS_NETWORK_H

#include "ir/graph.h"
#include "passes/pass.h"

// A layer that may take the weights its form stands for.
typedef struct NetworkLayer {
  Op *op;                   // of the function that is measured; operand 1 are its weights
  Value *dense, *factored;  // weights; factored NULL: it has no form
  double loss;              // relative error of the weights
  double saved;             // what the form saves, > 0
  double alone;             // error of the network with this layer's form and those taken before; < 0: not measured
  bool taken;
} NetworkLayer;

typedef struct NetworkFit {
  double limit;        // of the relative error of the results
  double error;        // of the layers taken
  uint32_t samples;    // that it was measured on; 0: not yet
  const char *reason;  // the network can't be measured: no more layers are taken
} NetworkFit;

// Takes as many of the layers that are not taken yet as fit into the limit; f must compute the dense network when it is
// first called, and computes the one with the layers taken after it. Samples come from the options.
void network_fit(Func *f, const PassOptions *opt, uint32_t n, NetworkLayer *layers, NetworkFit *fit, Arena *arena);

#endif
