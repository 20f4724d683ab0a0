// Activations that leave a layer as bits: values that only bit planes read are never bytes in memory.
//
//   %1 = conv ... {post = @sign, plan = planes} : i8[1,14,14,64]
//   %2, _ = maxpool %1 : i8[1,7,7,64]
//   %3 = conv %2, @w {plan = planes} : ...
//
// %1 and %2 are words in the format of planes.h: the first convolution stores a bit per comparison, the maximum of
// bits is their disjunction, the second convolution reads words. Nothing is converted in between.
//
// A value is held so when every one of its users wants the same codes: a contraction planned as `planes` as its first
// operand, or an operation that moves codes (a reshape, a pool, a pad, a change of signs) whose own result is held so.
// What makes such a value stores the words itself where it can (a contraction nest, a map); else a step `bits` follows
// it. A reshape of rows into one long row keeps the rows apart: the reader packs its weights in the same pieces.
#ifndef QCC_PASSES_LOWER_BITS_H
#define QCC_PASSES_LOWER_BITS_H

#include "passes/lower/planes.h"

typedef struct BitsValue {
  PlanesX form;  // `channels` elements of the value are a row
  bool rows;     // a user relies on the rows being the last axis
  PBuf *words;   // once its producer is lowered
} BitsValue;

// Before lowering: which values of f are held as bits.
void bits_analyse(LowerCtx *ctx, const Func *f);
// How a value is held; NULL: as its type says.
BitsValue *bits_of(const LowerCtx *ctx, const Value *v);
// The words of a value, made by the caller.
PBuf *bits_make(LowerCtx *ctx, const Value *v);
// Lowers an op to words when its result is held so and there is a way without bytes. False: there is none.
bool bits_lower(LowerCtx *ctx, const Op *op);
// After an op was lowered otherwise: words of a result that was stored as bytes.
void bits_finish(LowerCtx *ctx, const Op *op);

#endif
