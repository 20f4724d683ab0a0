// How far the results of a network with factors can be from those of the dense one (S40).
#ifndef QCC_PASSES_COMPRESS_BOUND_H
#define QCC_PASSES_COMPRESS_BOUND_H

#include "ir/eval.h"
#include "passes/compress/form.h"

// A layer whose weights changed: upper bounds of the spectral norms of the change and of the new weights as a matrix of
// outputs by everything else (the largest of its groups).
typedef struct BoundLayer {
  const Op *op;
  double change, weights;
} BoundLayer;

// An upper bound of the spectral norm of a (rows x cols): the norm itself where that is cheap, else the smaller of the
// Frobenius norm and sqrt(|a|_1 |a|_inf).
double spectral_bound(int64_t rows, int64_t cols, const double *a, Arena *arena);
// What a BoundLayer says of a layer that takes the form.
void form_norms(const FactorLayer *l, const Form *f, double *change, double *weights, Arena *arena);
// Bounds of the Euclidean distance of the first result of n layers and of every result of f (behind them) from what
// they would be with the new weights, for the dense function f on `in`: into bound[n + f->n_results]. Infinite behind
// an op without a known Lipschitz constant. False where the interpreter refuses.
bool bound_run(Func *f, const Tensor *in, uint32_t n, const BoundLayer *layers, double *bound, Arena *arena);

#endif
