// Compares compiled kernels with the kernel interpreter: every parameter named %o... is an output, the others are
// inputs. Inputs are special values and random bits; each buffer ends or begins at a page that must not be touched.
#ifndef QCC_TESTS_EMIT_CASE_H
#define QCC_TESTS_EMIT_CASE_H

#include "backends/backend.h"
#include "ir/kernel.h"

// Makes one step per kernel of the program with buffers of its own.
void emit_case_steps(Module *m);

typedef struct EmitCase {
  const Target *target;
  uint32_t rounds;   // sets of inputs
  uint32_t threads;  // 0: no executor
  double tolerance;  // relative, for float outputs; 0: bit for bit
  bool keep_ranges;  // integers stay within 0..7 (indices), floats within [-4, 4)
} EmitCase;

// Compiles, loads and runs the module's program; the number of differing elements (reported with cr_log), or -1.
int emit_case_run(Module *m, const EmitCase *c);

#endif
