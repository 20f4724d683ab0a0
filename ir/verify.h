// Structural checks of both levels, from the tables. A failure after a pass is a bug of that pass.
#ifndef QCC_IR_VERIFY_H
#define QCC_IR_VERIFY_H

#include "ir/kernel.h"

bool verify_module(Module *m);  // false after diag_error
bool verify_kernel(Module *m, const Kernel *k);
bool verify_program(const Program *p);

#endif
