// Weights of a matrix product that need only a few bits each, read off the op once for the planner and the lowerings.
//
//   w[k, n] = lo + step * code[k, n]                                                an integer product
//   w[k, n] = (lo + step * code[k, n] - zero[k / block, n]) * scale[k / block, n]   the product with a dequantize
//   w[k, n] = book[code[k, n]]                                                      the product with a lookup
//
// The codes are what is stored; how many bits they take is counted from the constant, whatever its type says.
#ifndef QCC_PASSES_LOWBIT_H
#define QCC_PASSES_LOWBIT_H

#include "ir/graph.h"

// A constant with one element per block of k and column n; strides are 0 where it has only one.
typedef struct LowBitParam {
  Const *at;  // NULL: absent
  int64_t block_step, n_step;
} LowBitParam;

typedef struct LowBit {
  Const *q;                // the integers; element (k, n) at k * k_step + n * n_step
  int64_t k, n;            // extents
  int64_t k_step, n_step;  // element strides
  int64_t lo, step;        // value of code 0; between neighbouring codes
  uint32_t bits;           // of a code, 1 .. 8
  bool scaled;             // the product is of floats, with the two below
  LowBitParam scale, zero;
  int64_t block;  // along k that share a scale; k when there is one block
  Const *book;    // the floats codes stand for, or NULL; the product is of floats, without scales
} LowBit;

// False: operand 1 is neither constant bytes nor a dequantize or lookup of such, or its scales do not go along k and n.
bool lowbit_of(const Op *matmul, LowBit *w);
// Sets q, lo, step and bits alone, from constant bytes of any shape.
void lowbit_levels(Module *m, Const *q, LowBit *w);
// Zero is among the values.
bool lowbit_has_zero(const LowBit *w);
int64_t lowbit_blocks(const LowBit *w);
// The code of an element.
uint32_t lowbit_code(Module *m, const LowBit *w, int64_t k, int64_t n);
// Number of block b, column n of a parameter.
double lowbit_param(Module *m, const LowBitParam *p, int64_t b, int64_t n);

// How a code is cut into fields that are stored apart, lowest first: widths 8, 4, 2 or 1. Fields of one width share
// bytes, so that weights of 3 bits take 3 bits. `chunk`: k that fill whole groups of four bytes of every width.
#define LOWBIT_PARTS 3
typedef struct LowBitParts {
  uint32_t n, width[LOWBIT_PARTS];
  int64_t chunk;
} LowBitParts;

// The fields of a code.
LowBitParts lowbit_parts_of(uint32_t bits);
// Wider fields than the code needs where a block has no whole chunks; one field when `single`.
LowBitParts lowbit_parts(const LowBit *w, bool single);
// Those of a book looked up by bytes: one field of 4 or 8 bits.
LowBitParts lowbit_book_parts(const LowBit *w);

// True for a dequantize or lookup whose result is only read as weights by matmuls that lowbit_of understands.
bool lowbit_is_source(const Op *op);

#endif
