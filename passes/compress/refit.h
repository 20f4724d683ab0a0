// Channel pruning with least-squares refit (S38), as linear algebra on the second moments of a layer's inputs.
#ifndef QCC_PASSES_COMPRESS_REFIT_H
#define QCC_PASSES_COMPRESS_REFIT_H

#include "ir/base/arena.h"

// A layer y = W' x with x of channels * taps entries and a 1 behind them (the bias).
typedef struct Refit {
  int64_t channels, taps, out;
  const double *g;  // k x k, k = channels * taps + 1: sum over the samples of x x'
  const double *w;  // k x out; the last row is the bias
} Refit;

// Drops `drop` channels one after another, each time the one whose loss, made good by the others as well as they can,
// is least; then solves for the weights of those that stay. `gone` per channel, w_now k x out (zero rows for what is
// gone). *error2 and *plain2: sum of squared differences of y over the samples, with the refit and without it. False:
// the decomposition does not converge.
bool refit_channels(const Refit *r, int64_t drop, bool *gone, double *w_now, double *error2, double *plain2,
                    Arena *arena);
// Sum over the samples of ||(w - v)' x||^2.
double refit_error2(const Refit *r, const double *v, Arena *arena);

#endif
