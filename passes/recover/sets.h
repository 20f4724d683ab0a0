// What the values of a graph can be, found by one walk over it in order: a finite set of numbers where there are few,
// an interval otherwise. NaN is left aside: it is in no set and every interval.
#ifndef QCC_PASSES_RECOVER_SETS_H
#define QCC_PASSES_RECOVER_SETS_H

#include "ir/graph.h"

#define SET_MAX 257  // 256 steps, and -0

typedef struct ValueSet {
  uint32_t n;       // numbers in v; 0: only the interval is known
  const double *v;  // ascending, -0 before +0, each exact in the element type; a superset of what occurs
  double lo, hi;    // every number lies in lo .. hi
  bool whole;       // every number is an integer, or infinite
} ValueSet;

typedef struct Sets Sets;

Sets *sets_new(Module *m, Arena *arena);
// Notes the results of an op; ops are visited in order, those that are not visited have results of any value.
void sets_visit(Sets *s, const Op *op);
// Of a visited op's result, an argument or a constant. Never NULL.
const ValueSet *sets_of(Sets *s, const Value *v);
// States what a value holds that was found in another way. The numbers are copied.
void sets_state(Sets *s, const Value *v, const ValueSet *set);
// The op's result for one number per operand, as the interpreter computes it; element-wise ops with one result.
double sets_eval(const Op *op, const double *in);

#endif
