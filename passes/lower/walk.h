// Walks over strided operands: the common shape of element-wise and movement kernels.
//
// A walk has loops (dims) and, for each operand, a first element and one stride per loop; operand 0 is the result.
// Collapsing merges loops that every operand walks contiguously, so most walks end with one or two loops.
#ifndef QCC_PASSES_LOWER_WALK_H
#define QCC_PASSES_LOWER_WALK_H

#include "passes/lower/lower.h"

#define WALK_OPERANDS 24
#define WALK_LOOPS 16

typedef struct Walk {
  uint32_t rank;  // loops
  int64_t dims[WALK_LOOPS];
  uint32_t n;                    // operands
  int64_t first[WALK_OPERANDS];  // element of the first iteration
  int64_t stride[WALK_OPERANDS][WALK_LOOPS];
} Walk;

// Receives the flat element index of every operand. `hoisted` is called just outside the innermost loop, with the
// innermost variable still 0, for loads that do not depend on it; may be NULL.
typedef void WalkFn(void *ctx, KBuild *b, const Affine *at);

void walk_init(Walk *walk, uint32_t rank, const int64_t *dims);       // operand 0: dense
void walk_result(Walk *walk, int64_t first, const int64_t *strides);  // operand 0: elsewhere
uint32_t walk_broadcast(Walk *walk, const Type *t);                   // adds an operand broadcast to the dims
uint32_t walk_operand(Walk *walk, int64_t first, const int64_t *strides);
void walk_collapse(Walk *walk);
int64_t walk_count(const Walk *walk);                  // iterations
bool walk_varies(const Walk *walk, uint32_t operand);  // depends on the innermost loop
// Emits the loops: the outermost is `par` when there is enough work, the innermost `vec` when all operands are
// constant, contiguous or of a small stride along it and `vec` is allowed.
void walk_emit(KBuild *b, const Walk *walk, bool vec, WalkFn *hoisted, WalkFn *body, void *ctx);

// Copies operand 1 to operand 0.
bool walk_copy(LowerCtx *ctx, const Op *op, Walk *walk, PBuf *to, PBuf *from);
void dense_strides(uint32_t rank, const int64_t *dims, int64_t *strides);

#endif
