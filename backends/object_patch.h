// Finishing an object that LLVM made: the weights and the stack figure are added behind LLVM's back.
#ifndef QCC_BACKENDS_OBJECT_PATCH_H
#define QCC_BACKENDS_OBJECT_PATCH_H

#include "backends/llvm/module.h"

#define STACK_SECTION ".qcc.stack"  // not allocated, dropped by the linker: one u64, most bytes of stack run needs
#define STACK_LIMIT 4096
#define WEIGHTS_SECTION ".rodata.qcc"
#define WEIGHTS_SECTION_LARGE ".lrodata.qcc"  // x86-64: beyond the reach of 32 bits

// Appends the weights as a read-only section that defines NAME_weights (undefined so far, local afterwards), and the
// stack section. The weights are copied once, straight into the result.
bool object_patch(Diag *diag, const uint8_t *object, size_t n, const EmitOptions *opt, const WeightLayout *weights,
                  uint64_t stack, ObjectBytes *out);

#endif
