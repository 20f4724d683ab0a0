// What requant.h found, written into the graph.
#ifndef QCC_PASSES_RECOVER_REQUANT_EMIT_H
#define QCC_PASSES_RECOVER_REQUANT_EMIT_H

#include "passes/recover/requant.h"

// Where the channels of a tensor lie.
typedef struct ChannelAxis {
  int64_t channels;
  uint32_t axis, rank;
} ChannelAxis;

// The level of the integer value `sum` (i32 with the shift added where the form wants it) and of the second one, or
// NULL, before `at`, of integer type `to`. Its range can be read off the ops: it ends in a clamp to constants and a
// cast, or in a cast that saturates.
Value *requant_emit(Op *at, Value *sum, Value *other, const Requant *r, const ChannelAxis *channels, DType to,
                    Arena *arena);
// The smallest of 8, 16, 32 and 64 bits that hold lo .. hi, for proofs.
int64_t width_of_range(int64_t lo, int64_t hi);

#endif
