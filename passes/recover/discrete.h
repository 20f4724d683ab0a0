// Inside of the levels pass: float values on a grid of at most 256 steps, and the integers that carry them.
#ifndef QCC_PASSES_RECOVER_DISCRETE_H
#define QCC_PASSES_RECOVER_DISCRETE_H

#include "ir/base/map.h"
#include "passes/recover/levels.h"
#include "passes/recover/sets.h"

typedef struct KnownValue {
  Value *value;
  const Discrete *d;
  Op *reader;   // q is made from the float by this op and what follows it; NULL: q is made without it
  Value *root;  // the first of the integers that q is a moved copy of
} KnownValue;

typedef struct Known {
  PassCtx *pass;
  Module *m;
  Sets *sets;
  Map *of;                // value id + 1 -> Discrete
  Map *roots;             // id + 1 of integers -> what they are a moved copy of
  VEC(KnownValue) found;  // in order
} Known;

Known known_new(PassCtx *ctx);
const Discrete *known_get(const Known *k, const Value *v);  // NULL: not known to lie on a grid
// States the grid of a value that was computed from integers.
void known_set(Known *k, Value *v, const Discrete *d);
// Visits an op in order: notes the set of its result and, where that lies on a grid, emits the integers behind it in
// the cheapest form there is. What nobody uses of that is dropped by the caller.
void known_visit(Known *k, Op *op);
// Where integers are needed anyway, everybody else reads the float as scale * q: it need not be stored next to them.
void known_share(Known *k);
// An op of the same kind and attributes on other operands, its first result of element type t.
Op *emit_again(Op *at, const Op *op, uint32_t n, Value *const *in, DType t);

#endif
