// Every row of ops.def can be compiled: element-wise, a view, or a row of lower.def.
#include <criterion/criterion.h>

#include "ir/op.h"
#include "passes/lower/lower.h"

Test(tables, every_op_has_a_lowering) {
  for (int k = OP_NONE + 1; k < OP_COUNT; k++)
    cr_expect(lower_has((OpKind)k), "%s has no lowering", op_info((OpKind)k)->name);
}
