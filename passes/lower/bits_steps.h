// Results that are step functions of the sum: comparisons of the counts themselves, with limits known per border class
// and column.
//
//   post: select(sum >= t, 1, -1), sum = base + bias[class][column] - 2 * count
//   =>    bit = count <= (base + bias[class][column] - t[column]) / 2
//
// A column whose code falls with the sum compares the complement of its count; so one comparison serves all columns.
#ifndef QCC_PASSES_LOWER_BITS_STEPS_H
#define QCC_PASSES_LOWER_BITS_STEPS_H

#include "passes/lower/nest.h"
#include "passes/lower/planes.h"

// The value of result 0 of a body for one channel: parameter `slot` is x, the others are the operands given, constants
// with one element or one per channel. Clears the scratch arena. False when it can't be evaluated.
bool bits_body_value(Arena *scratch, Func *body, Value *const *operands, uint32_t slot, int64_t x, int64_t channel,
                     int64_t *value);
// A constant with one value, or one per channel (the last axis).
bool bits_per_channel(const Value *v, int64_t channels);

// The largest magnitude of a count: bits of one column, missing channels included, times the weights of the planes.
int64_t bits_most_counts(const Nest *n);

// For a nest of counts whose result is words: turns bias and post function into limits of comparisons where the post
// function allows it.
void bits_steps(LowerCtx *ctx, Nest *n);

#endif
