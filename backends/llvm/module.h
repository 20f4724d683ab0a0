// The step from a lowered module to bytes, without LLVM types: what backend.c calls in the child process.
#ifndef QCC_BACKENDS_LLVM_MODULE_H
#define QCC_BACKENDS_LLVM_MODULE_H

#include "backends/backend.h"
#include "ir/base/vec.h"

// Where each constant buffer lies in the one array of weights, which never passes through LLVM.
typedef struct Packed {
  Module *m;
  Const *c;
  int64_t offset;
  bool shared;  // by several levels
} Packed;
typedef struct WeightLayout {
  int64_t *at[MAX_LEVELS];  // by PBuf id of the level; meaningful for roots of kind CONST
  int64_t bytes, shared;    // of all, and of those that more than one level reads
  uint64_t format;          // weight_file_format, where they go to a file of their own
  VEC(Packed) packed;       // distinct, in order of offset
} WeightLayout;

typedef struct StackFrame {
  const char *function;
  uint64_t bytes;  // frame without the return address
} StackFrame;

typedef struct Emission {
  Arena *arena;
  bool in_place;  // asked for: what loops or tiles have in common is computed in each, which takes fewer registers
  uint8_t *bytes;
  size_t n;
  VEC(StackFrame) frames;  // functions with a frame
} Emission;

#define WEIGHTS_ALIGN 64

// Emits into out->bytes; errors are bugs (qcc_bug), the caller isolates the process.
void module_emit(uint32_t n, const Level *levels, const EmitOptions *opt, EmitKind kind, const WeightLayout *weights,
                 Emission *out);

#endif
