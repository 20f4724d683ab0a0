// Walks over strided operands: the common shape of element-wise and movement kernels.
//
// A walk has loops (dims) and, for each operand, a first element and one stride per loop; operand 0 is the result.
// Collapsing merges loops that every operand walks contiguously, so most walks end with one or two loops.
#ifndef QCC_PASSES_LOWER_WALK_H
#define QCC_PASSES_LOWER_WALK_H

#include "passes/lower/lower.h"

#define WALK_OPERANDS 24

typedef struct Walk {
  uint32_t rank;  // loops
  int64_t dims[MAX_RANK];
  uint32_t n;                    // operands
  int64_t first[WALK_OPERANDS];  // element of the first iteration
  int64_t stride[WALK_OPERANDS][MAX_RANK];
} Walk;

// Receives the flat element index of every operand. `hoisted` is called just outside the innermost loop, with the
// innermost variable still 0, for loads that do not depend on it; may be NULL.
typedef void WalkFn(void *ctx, KBuild *b, const Affine *at);

void walk_init(Walk *walk, uint32_t rank, const int64_t *dims);  // operand 0: dense
uint32_t walk_broadcast(Walk *walk, const Type *t);              // adds an operand broadcast to the dims
uint32_t walk_operand(Walk *walk, int64_t first, const int64_t *strides);
void walk_collapse(Walk *walk);
bool walk_varies(const Walk *walk, uint32_t operand);  // depends on the innermost loop
// Emits the loops: the outermost is `par` when there is enough work, the innermost `vec` when all operands are
// contiguous or constant along it and `vec` is allowed.
void walk_emit(KBuild *b, const Walk *walk, bool vec, WalkFn *hoisted, WalkFn *body, void *ctx);

#endif
