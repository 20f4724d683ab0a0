// Dense linear algebra of the compressor: the one place that calls LAPACK and BLAS.
//
// Every matrix here is row-major, in double. LAPACK reads column-major, and a row-major matrix is the transpose of what
// LAPACK sees, so A = U S V' is asked for as A' = V S U' and nothing is copied. One thread, and signs and noise settled
// below, so that the same weights give the same factors on every run.
#ifndef QCC_PASSES_COMPRESS_LINALG_H
#define QCC_PASSES_COMPRESS_LINALG_H

#include "ir/base/arena.h"

// A = U diag(s) Vt with n = min(rows, cols): u is rows x n, s descending, vt n x cols.
// Of each pair of vectors the largest element of the left one (the first of equals) is positive; elements below 1e-13
// of the largest are 0: they are rounding of the decomposition, and would differ between machines.
typedef struct Svd {
  int64_t rows, cols, n;
  double *u, *s, *vt;
} Svd;

// Multiply-adds of svd_of, for limits.
double svd_cost(int64_t rows, int64_t cols);
// a (rows x cols) is kept. False when LAPACK does not converge (a holds numbers that are not finite).
bool svd_of(int64_t rows, int64_t cols, const double *a, Arena *arena, Svd *out);
// Singular values only: s has min(rows, cols) entries. The same condition.
bool svd_values(int64_t rows, int64_t cols, const double *a, Arena *arena, double *s);

// The same values by way of the Gram matrix of the shorter side, several times faster: right to about 1e-7 of the
// largest one only, for searches that decompose in full what they find.
bool svd_values_rough(int64_t rows, int64_t cols, const double *a, Arena *arena, double *s);
double svd_values_rough_cost(int64_t rows, int64_t cols);

// Eigenvalues (descending) and vectors (rows of v, n x n) of the symmetric a (n x n). False as svd_of.
bool eigen_of(int64_t n, const double *a, Arena *arena, double *values, double *v);
// x (cols x k) that minimises ||a x - b||_F, of least norm where a (rows x cols) is rank-deficient (singular values
// below `cut` of the largest count as 0). b is rows x k. False as svd_of.
bool least_squares(int64_t rows, int64_t cols, int64_t k, const double *a, const double *b, double cut, double *x,
                   Arena *arena);

// Eigenvalues re + i im and, where im is 0, right eigenvectors (columns of v, n x n) of a (n x n). False as svd_of.
bool eigen_general(int64_t n, const double *a, Arena *arena, double *re, double *im, double *v);
// b (rows x n) becomes b a^-1 for the symmetric positive definite a (n x n). False when it is not positive definite.
bool solve_positive(int64_t n, int64_t rows, const double *a, double *b, Arena *arena);

// c (m x n) = a (m x k) b (k x n)
void matrix_mul(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);
// c (m x n) += a' b with a (k x m), b (k x n)
void matrix_add_tmul(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);
double sum_of_squares(int64_t n, const double *a);
double squared_distance(int64_t n, const double *a, const double *b);

#endif
