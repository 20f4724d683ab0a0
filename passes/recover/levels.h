// Inside of the levels pass: values known to hold few small integers, and the thresholds that make them.
#ifndef QCC_PASSES_RECOVER_LEVELS_H
#define QCC_PASSES_RECOVER_LEVELS_H

#include "passes/pass.h"

// A float value on a grid: every element is f32(scale * (q - zero)) bit for bit, q an i8 or u8 value, q - zero within
// lo .. hi. zero is not 0 only where steps of both signs need all of an unsigned byte.
typedef struct Discrete {
  Value *q;
  int64_t lo, hi;
  double scale;
  int64_t zero;
} Discrete;

// An exact integer sum and the float value computed from it, element by element.
typedef struct Sum {
  Value *sum, *value;
  Op *pool;         // the maxpool `sum` was taken through, or NULL
  Value *unpooled;  // what it read
  int64_t lo, hi;   // every value of the sum lies in this range
  int64_t channels;
  uint32_t axis;  // of the channels
  Op *scale[5];   // the ops from the sum to the value, in order
  uint32_t n_scale;
  const struct Known *known;  // the grids of other values (discrete.h), or NULL
} Sum;

// A constant along `axis` of a tensor of `rank`; rank 0 when all elements are equal.
Value *levels_const(Module *m, DType t, int64_t channels, uint32_t axis, uint32_t rank, const double *v);
// An element-wise op before `at` on x and a constant, with x's dims and element type t.
Value *levels_emit(Op *at, OpKind kind, DType t, uint32_t n, Value *const *in, const Op *like);
// f32(scale * (q - zero)) before `at`, bit for bit; in f32 where its product with the rounded scale is that for every
// step.
Value *levels_float(Op *at, const Discrete *d, const Op *like);
// The maxpool again, on another tensor.
Value *levels_pool(Op *at, const Op *pool, Value *x);

// Looks for a value computed from the sum and constants alone that takes 2 to 256 numbers of one grid and rises or
// falls with the sum in each channel. It becomes an exact function of the sum in comparisons or integers where there is
// one, found and proved on the float expression (thresholds.c); `d` describes it, *value is its float form. False:
// there is none, or no other.
bool levels_threshold(PassCtx *ctx, const Sum *s, Discrete *d, Value **value);

#endif
