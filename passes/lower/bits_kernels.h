// Kernels of values held as bits (bits.h), and how codes are stored by any kernel.
#ifndef QCC_PASSES_LOWER_BITS_KERNELS_H
#define QCC_PASSES_LOWER_BITS_KERNELS_H

#include "passes/lower/bits.h"

// The words of a buffer seen as units of 8, 16, 32 or 64 bits.
typedef struct BitsUnits {
  KBuild *b;
  KBuf *words, *unit[4];  // by log2(bits / 8)
} BitsUnits;

KBuf *bits_unit(BitsUnits *u, int64_t bits);
// Can codes of the form be told from values by masks?
bool bits_can_store(const PlanesX *f);
// Bit `plane` of the code of a value of the compute type, as a bool.
KExpr *bits_code(KBuild *b, const PlanesX *f, int64_t plane, KExpr *value);
// Channels whose bits of a plane lie together: a power of two from 16 to 64 that divides a row. With one plane words
// are neighbours; with more they are not, and it is a word.
int64_t bits_chunk(const PlanesX *f);
// The unit that holds channels from .. from + bits - 1 (from a multiple of bits) of a chunk; `chunk` is its number,
// that of plane 0.
Affine bits_place(const PlanesX *f, Affine chunk, int64_t plane, int64_t from, int64_t bits);
// Stores zeros for the channels of a chunk from `from` on (a multiple of 8).
void bits_clear(BitsUnits *u, const PlanesX *f, Affine chunk, int64_t from);

// A map or element-wise op of bytes or floats. False when its codes can't be told by masks.
bool bits_map(LowerCtx *ctx, const Op *op);
// (x & keep) ^ flip of all rows of words: `signs` is [2][words of a row].
void bits_signs(LowerCtx *ctx, const Op *op, PBuf *x, Value *signs);
// A maxpool of words: lower_pool.c. `signs` as above on the result, or NULL.
void lower_maxpool_words(LowerCtx *ctx, const Op *op, PBuf *x, PBuf *y, int64_t row, Value *signs);

#endif
