// Layers whose results are boolean functions of few bits: every column of the weights has so few non-zeros, and x so
// few values, that all inputs of a result can be enumerated.
//
//   %1 = matmul %x, @w, @bias {post = @sign} : f32[1,160]        # %x in {-1, 1}; 6 non-zeros in each column of @w
//   => result o is bit i of a 64-bit number T[o], i being 6 bits of x put together
//
// An element of x is a code of bits, number of its level among the ascending ones; bit p of it is the parity of the
// levels it reaches at which bit p changes. The tables hold what the interpreter computes for all inputs, bias and post
// function included, so the results are those of the sums rounded once, whatever an order of additions would give. This
// is the logic cell of FPGAs (S57; networks trained for it: Umuroglu et al., LogicNets, 2020).
#ifndef QCC_PASSES_TRUTH_H
#define QCC_PASSES_TRUTH_H

#include "ir/graph.h"

#define TRUTH_FAN 8         // most bits of an index
#define TRUTH_LEVELS 4      // most values of an element of x and of the result
#define TRUTH_TABLE_BITS 2  // bits of their codes

typedef struct TruthShape {
  int64_t rows, k, n;  // of x; elements of one; results of one
  int64_t w_k, w_n;    // element strides of the weights
  uint32_t x_n, y_n;   // levels
  uint32_t x_bits, y_bits;
  double x_level[TRUTH_LEVELS], y_level[TRUTH_LEVELS];  // ascending
  uint32_t fan;                                         // bits of an index: of the column with the most
} TruthShape;

typedef struct Truth {
  int32_t *input;   // [n][fan]: element * x_bits + bit; -1: this bit of the index is 0
  uint8_t *result;  // [n][2^fan]: the code of the result
} Truth;

// A matrix product with one set of weights, or a pointwise convolution with channels last. False where it is not a
// layer of such functions.
bool truth_shape(const Op *op, TruthShape *s);
// The functions. False, without a message: a value came out that is none of y_level, or -0.
bool truth_tables(const Op *op, const TruthShape *s, Arena *arena, Truth *t);
// Is bit p of the code of level `to` other than that of the level below?
bool truth_bit_flips(uint32_t to, uint32_t p);

#endif
