// Inside of thresholds: the levels of a value of a sum's tail, and the two ways they are found.
#ifndef QCC_PASSES_RECOVER_THRESHOLDS_H
#define QCC_PASSES_RECOVER_THRESHOLDS_H

#include "passes/recover/requant_emit.h"
#include "passes/recover/sumruns.h"

typedef struct Levels {
  uint32_t n;
  double number[GRID_MAX];  // ascending
  int64_t q[GRID_MAX];      // of the grid
  Grid grid;
  int64_t least, most;  // of q
} Levels;

bool levels_add(Levels *l, double v);  // false when there are too many
bool levels_fit(Levels *l);            // puts the numbers on one grid of 8 bits
uint32_t level_of(const Levels *l, double v);
// levels_threshold where a second quantised operand takes part, as of a residual part.
bool thresholds_two(PassCtx *ctx, const Sum *sum, Arena *arena, Discrete *d, Value **value);

#endif
