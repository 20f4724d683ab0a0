// Straight-line kernels as x86-64 assembly text (AT&T), which LLVM's assembler takes with the module.
//
//   for %o { acc = 0;  for %e in first[o]..first[o+1] { acc = fma(x[at[e] ..], w[e], acc) };  y[o] = acc }
//   =>
//   vmovups 128(%r8), %zmm31                              # x, once for all rows of the group that use it
//   vfmadd231ps -512(%rax){1to16}, %zmm31, %zmm3          # a non-zero of row 3
//   vfmadd231ps -508(%rax){1to16}, %zmm31, %zmm17         # a non-zero of row 17
//
// A kernel whose loops run over its own tables is executed here on symbols; what it does to vectors is a list of
// multiply-adds, which are put in the order of x. Rows keep their order, so the sums are those of the loops, bit for
// bit. Through LLVM IR such code would take minutes; the assembler does a million lines in two seconds.
// Integer sums of fours of bytes (dot4) are the same with vpdpbusd, and begin with a number of the row.
// Weights +1 and -1 of floats become additions and subtractions, equal weights (but for the sign) near each other share
// a place. The schedule is that of a published idea, code generated for a sparse matrix (S48); see docs/structure.md.
#ifndef QCC_BACKENDS_ASM_X86_H
#define QCC_BACKENDS_ASM_X86_H

#include "backends/target.h"
#include "ir/base/str.h"
#include "ir/kernel.h"

// Appends the function `symbol` (the kernel's parameters as pointers, local to the object) and its weights to `out`.
// False, and nothing appended: the kernel is not of this shape or the target has no fused multiply-add on vectors of
// that many lanes.
bool asm_x86_kernel(StrBuf *out, const Kernel *k, const TargetRow *row, const char *symbol);

#endif
