// Expansions on integer lanes.
#ifndef QCC_PASSES_KERNEL_MATH_INT_H
#define QCC_PASSES_KERNEL_MATH_INT_H

#include "passes/kernel/math.h"

KExpr *math_int(Math *m, KOp op, KExpr *const *a);  // NULL: the op has no meaning on integers

#endif
