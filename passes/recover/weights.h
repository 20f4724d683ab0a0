// Inside of the levels pass: weights on grids.
#ifndef QCC_PASSES_RECOVER_WEIGHTS_H
#define QCC_PASSES_RECOVER_WEIGHTS_H

#include "ir/graph.h"

// Element i of a weight tensor belongs to output channel i / inner % channels.
typedef struct WeightGrid {
  int64_t n, channels, inner;
  double *scale;      // [channels]
  int64_t *q;         // [n]: weight i is f32(scale * q) bit for bit, or rounded as its form says
  int64_t most;       // largest |q|
  double miss;        // largest distance from the grid in steps; 0: bit for bit
  bool one_scale;     // for all channels
  bool dorefa;        // some channel has that form
  uint32_t distinct;  // where there is no grid: numbers seen in a channel, 257 for more
} WeightGrid;

// Fits a grid of steps -128 .. 127 to all weights together and to every channel alone, and takes what needs fewer bits.
// tolerate: how far from a grid, in steps, weights may lie that fit none (--tolerate); 0: bit for bit only.
bool weights_fit(Module *m, Arena *arena, const Value *w, double tolerate, WeightGrid *g);

#endif
