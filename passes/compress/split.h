// Choosing among the ways a layer can be split in two factors of a Kronecker product (S30, S31).
//
// A split rearranges the weights to a matrix; its singular values tell which rank it needs for what is asked. All
// splits are tried by their singular values alone, cheapest terms first, until SEARCH_LIMIT is spent; the few that ask
// for the least arithmetic (of a rank given: that lose least) are decomposed in full.
#ifndef QCC_PASSES_COMPRESS_SPLIT_H
#define QCC_PASSES_COMPRESS_SPLIT_H

#include "passes/compress/scheme.h"

#define SPLIT_BEST 4

typedef struct Split {
  int64_t key[8];      // of the scheme
  int64_t rows, cols;  // of the rearranged matrix
  double macs;         // of one term
} Split;

typedef VEC(Split) Splits;

typedef struct SplitScheme {
  void (*arrange)(const FactorLayer *l, const Split *s, double *to);
  void (*add)(const FactorLayer *l, const Split *s, const Svd *d, int64_t r, double error2, Forms *out);
} SplitScheme;

// Appends the forms of the best splits.
void split_forms(const FactorLayer *l, Splits *splits, const SplitScheme *scheme, const FactorAsk *ask, Forms *out);

#endif
