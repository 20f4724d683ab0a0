// Folding and identities of single kernel expressions.
#ifndef QCC_PASSES_KERNEL_KFOLD_H
#define QCC_PASSES_KERNEL_KFOLD_H

#include "ir/kcopy.h"

// An expression of the same value and type that is simpler, or x itself. Operands are taken as they are.
KExpr *kfold(Arena *arena, KExpr *x);

#endif
