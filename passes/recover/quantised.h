// Inside of the integer pass: what a dequantised value is, and the rewrites around contractions.
#ifndef QCC_PASSES_RECOVER_QUANTISED_H
#define QCC_PASSES_RECOVER_QUANTISED_H

#include "passes/pass.h"

// A value that is (q - zero) * scale with constant f32 scales. axis -1: one scale for all.
typedef struct Quantised {
  Value *q;
  Const *scale, *zero;  // zero NULL: none
  int64_t axis;
} Quantised;

// Is `v` the result of a dequantize with constant positive scales, not in blocks, of a type of at most 32 bits?
bool quantised_of(Module *m, const Value *v, Quantised *out);
// Is it a quantize to bytes with one constant scale and zero point, half to even?
bool quantize_is_plain(Module *m, const Op *op);
double quantised_scale(Module *m, const Quantised *d, int64_t channel);
int64_t quantised_zero(Module *m, const Quantised *d, int64_t channel);

// dequantize below data movement: op(dequantize(q)) -> dequantize(op(q)), and quantize(dequantize(q)) -> q where that
// is the identity.
bool quantised_sink(PassCtx *ctx, Func *f);
// quantize above data movement where all that is moved is dequantised bytes of different scales:
// quantize(concat(dequantize(a), dequantize(b))) -> concat(quantize(dequantize(a)), quantize(dequantize(b))).
bool quantised_rise(PassCtx *ctx, Func *f);
// A contraction of i32 values that are bytes less a zero point reads the bytes instead. False: it is none.
bool quantised_narrow(PassCtx *ctx, Op *op);
// A matrix product of two such values becomes one of bytes; `op` is unlinked. False: it is none.
bool quantised_pair(PassCtx *ctx, Op *op);
// Means of dequantised bytes are taken in f64: they fall on ties of the quantiser after them, which sums in f32 would
// turn either way.
bool quantised_means(PassCtx *ctx, Func *f);
// The quantize and dequantize ops that are left, as element-wise code that fuses with its neighbours.
bool quantised_expand(PassCtx *ctx, Func *f);

// Is it a product of two matrices known at run time only, a as it lies, without bias? (pair.c)
bool byte_product_fits(const Op *op);
// The i32 product of bytes a [.., M, K] less a_zero and b [.., K, N] less b_zero in the place of `op`, whose attributes
// hold; exact while the result fits 32 bits and K * 2^14 does.
Value *emit_byte_product(Op *op, Value *a, int64_t a_zero, Value *b, int64_t b_zero);

// Element-wise ops before `at`; `like` gives shape and location.
Value *emit_cast_to(Op *at, Value *x, DType t, const Op *like);
Value *emit_with(Op *at, OpKind kind, Value *x, Value *by, const Op *like);
// cmp(y, limit) ? y : limit. Unlike min and max it turns NaN into the limit.
Value *emit_limit(Op *at, OpKind cmp, Value *y, Value *limit);
// A byte tensor as unsigned bytes: q itself, or q + 128 of signed ones; `zero` follows.
Value *emit_unsigned(Op *at, Value *q, int64_t *zero);
// A constant per channel: f32 or another type, broadcast along `axis` of a tensor of `rank`; a scalar when all are
// equal.
Value *channel_const(Module *m, DType t, int64_t channels, uint32_t axis, uint32_t rank, const double *v);

#endif
