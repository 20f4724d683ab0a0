// Shape and type inference: pure functions of operand types and attributes. They report through the module's
// diagnostics with the op's location and never assert on model content.
#ifndef QCC_IR_INFER_H
#define QCC_IR_INFER_H

#include "ir/graph.h"

// Checks arity, operand ranks, attribute lengths and ranges, then sets the types of all results. Ops whose row says
// `given` keep the result type already set and have it checked for consistency (element counts, ranks, extents).
// False after diag_error.
bool infer_op(Op *op);

#endif
