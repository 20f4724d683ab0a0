// Levels for a Laplacian of mean 0 and scale 1. See weight_laplace.c.
#ifndef QCC_PASSES_QUANTIZE_WEIGHT_LAPLACE_H
#define QCC_PASSES_QUANTIZE_WEIGHT_LAPLACE_H

#include <stdint.h>

// N levels, ascending, odd N: level i from the middle is ln(N / (N - 2i)). Times 2 they are those of absolute errors
// for large N.
void laplace_absolute(uint32_t n, double *level);
// By expected squared error, scale 1.
void laplace_squares(uint32_t n, double *level);

#endif
