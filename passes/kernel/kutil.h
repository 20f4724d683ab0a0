// Questions several kernel passes ask about loops, expressions and accesses.
#ifndef QCC_PASSES_KERNEL_KUTIL_H
#define QCC_PASSES_KERNEL_KUTIL_H

#include "ir/base/bitset.h"
#include "ir/kcopy.h"

int64_t loop_trips(const KStmt *loop);                   // -1 when the bounds do not differ by a constant
Affine access_linear(const KBuf *b, const Affine *idx);  // element number of an access
const KBuf *buf_root(const KBuf *b);                     // through views
bool affine_uses(const Affine *a, const Bitset *vars);   // names one of the variables
bool expr_uses(const KExpr *x, const Bitset *vars);      // anywhere in it
// Reductions of the block become stores of op(load, value): for the body of a vec loop that becomes another kind of
// loop.
void block_reduce_scalar(Arena *arena, KBlock *b);
// The loop's body with its variable replaced by `at`, moved before the loop. The loop stays as it is.
void loop_copy_body(Arena *arena, Arena *scratch, Kernel *k, KBlock *b, KStmt *loop, Affine at);

#endif
