// Canonical polyadic (CP) decomposition: a tensor as a sum of r products of one vector per mode (S34, S36).
//
//   a[i, j, k]  ~  sum over q of f0[i, q] f1[j, q] f2[k, q]
//
// No theorem gives the best one, and a best one need not exist: what is promised is that alternating least squares
// never makes a start worse, that the error stated is the distance measured, and that diverging components (large, of
// opposite sign, cancelling) are refused.
#ifndef QCC_PASSES_COMPRESS_CP_H
#define QCC_PASSES_COMPRESS_CP_H

#include "ir/base/arena.h"

#define CP_MODES 5

typedef struct Cp {
  uint32_t d;
  int64_t n[CP_MODES], r, room;  // extents; components; components the factors have room for
  double *factor[CP_MODES];      // n[k] x room, the first r columns used
} Cp;

Cp cp_new(uint32_t d, const int64_t *n, int64_t room, Arena *arena);
// Adds components until there are `r`, each the largest one that power iteration finds in what is left of `a`.
void cp_grow(Cp *c, const double *a, int64_t r, Arena *arena);
// Alternating least squares from where the factors stand, within `budget` multiply-adds. Returns the squared error,
// which is not above that of the start.
double cp_refine(Cp *c, const double *a, double budget, Arena *arena);
// All r components of three modes at once, by joint diagonalisation of the slices a[:, :, k]: r <= n[0], n[1]. False,
// with *why, when the slices have no common real eigenvectors that can be told apart.
bool cp_joint(Cp *c, const double *a, int64_t r, const char **why, Arena *arena);
// Exact, with as many components as the smallest product of all extents but one.
int64_t cp_full_rank(uint32_t d, const int64_t *n);
void cp_fill(Cp *c, const double *a);
void cp_tensor(const Cp *c, double *a, Arena *arena);
double cp_error2(const Cp *c, const double *a, Arena *arena);
// The largest norm of a component, against which cancellation shows.
double cp_largest(const Cp *c);
double cp_sweep_cost(const Cp *c);  // multiply-adds of one sweep of cp_refine

#endif
