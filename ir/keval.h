// The reference interpreter of kernels: one scalar at a time, no vectors, no target. Bounds of every access are
// checked: an access outside a buffer is an internal error of the lowering and is reported as such.
#ifndef QCC_IR_KEVAL_H
#define QCC_IR_KEVAL_H

#include "ir/kernel.h"

// `args[i]` points at the bytes of parameter i. False after diag_error on the module's diagnostics.
bool keval_kernel(Module *m, const Kernel *k, void *const *args);
// Runs every step. inputs/outputs in interface order; the workspace is allocated inside.
bool keval_program(Program *p, const void *const *inputs, void *const *outputs);

#endif
