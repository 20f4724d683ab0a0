// What a weight tensor is like: different values, zeros, entropy, numerical rank, what quantisation would lose (S21,
// S41, S53), and what it would take in each format for zeros.
#ifndef QCC_PASSES_COMPRESS_TENSOR_STATS_H
#define QCC_PASSES_COMPRESS_TENSOR_STATS_H

#include "ir/graph.h"

#define STATS_COSINES 4  // 1, 2, 4 and 8 bits

typedef struct TensorStats {
  int64_t n, zeros;
  int64_t distinct;              // different values, -0 and +0 as one; -1: too large to be counted
  double entropy;                // bits per element of their distribution; -1: not known
  int64_t rank, full_rank;       // of out x everything else, by singular values above rounding; -1: not computed
  double cosine[STATS_COSINES];  // with the tensor rounded to 2^k uniform levels from -max to max; -1: all zero
  double least, largest;
  // Of weights of convolutions, channels first: slices of one output and one input channel, and those that differ, a
  // slice and its negative being one (S54); -1: not counted.
  int64_t slices, slices_distinct;
  const char *stored;  // smallest of "dense", "CSR", "BCSR", "VBL", "deep"; deep: codes, gaps and Huffman codes
  int64_t stored_bytes;
} TensorStats;

// Of a constant of numbers (any rank), the rank only if asked for. Work is bounded: what would take longer is not
// computed.
TensorStats tensor_stats(Module *m, Const *c, bool rank, Arena *arena);

// cos(x, Q(x)) with Q the nearest of 2^bits levels, evenly spaced from -range to range. -1 when x is 0.
double quantised_cosine(int64_t n, const double *x, uint32_t bits, double range);
// Bits per element by the distribution of the values; *distinct their number. Sorts a copy.
double values_entropy(int64_t n, const double *x, int64_t *distinct, Arena *arena);
// Of `slices` slices of `each` elements, those that differ, negatives being the same.
int64_t distinct_slices(int64_t slices, int64_t each, const double *v, Arena *arena);
// Singular values above max(rows, cols) times the rounding of f32 times the largest. -1: no convergence.
int64_t numerical_rank(int64_t rows, int64_t cols, const double *a, Arena *arena);

#endif
