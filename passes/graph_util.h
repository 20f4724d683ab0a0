// Small questions several graph passes ask.
#ifndef QCC_PASSES_GRAPH_UTIL_H
#define QCC_PASSES_GRAPH_UTIL_H

#include "ir/graph.h"

// Drops ops without used results, from `from` backwards along operands. Returns the number dropped.
uint32_t graph_drop_dead(Func *f);
// Takes the function added to its module last, one only made to be evaluated, out again; constants forget its ops.
void graph_drop_scratch(Func *f);
// Forgets functions no op names any more (bodies of maps and posts that were merged). The entry stays.
void module_drop_unused_funcs(Module *m);
bool value_is_splat(Module *m, const Value *v, double *x);  // a constant with one value everywhere
bool op_is_mean(const Op *op);                              // of a pool or along axes
Op *value_def(const Value *v, OpKind kind);                 // the op of that kind whose result v is, or NULL
// Copies an op's location onto a rewritten one: all of both.
void op_add_loc(Op *to, const Op *from);
// A new op before `before` with operands, result type and location; attributes are set by the caller.
Value *graph_emit(Op *before, OpKind kind, uint32_t n, Value *const *in, const Type *type, const Loc *loc);
// A new constant with elements computed by the caller in double (rounded to the type).
Value *const_of_doubles(Module *m, const Type *t, const double *v, const char *name);

// The constant with its axes permuted (result dim i is dim perm[i]); rank >= 1, elements of whole bytes.
Value *const_permuted(Module *m, Const *c, const int64_t *perm);

#endif
