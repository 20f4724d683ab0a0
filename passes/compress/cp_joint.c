// CP of three modes by joint diagonalisation (S36): the slices T_k = a[:, :, k] of a tensor of r components are
// A diag(c_k) B', so with two mixtures of slices, T(x) T(y)^-1 has the columns of A for eigenvectors.
//
// Slices are first projected to the r leading directions of both modes, which takes noise away and makes them square.
// B and C follow from A: every row of A^-1 (what is left) is an outer product b c', taken by its leading singular
// vectors.
#include <math.h>

#include "passes/compress/cp.h"
#include "passes/compress/linalg.h"
#include "passes/compress/scheme.h"

// Eigenvalues nearer than this part of the largest, and bases worse conditioned than its inverse, cannot be told apart.
#define APART 1e-6

typedef struct Joint {
  int64_t r, n[3];
  double *u[2];   // n[m] x r, orthonormal: leading directions of modes 0 and 1
  double *slice;  // r x r x n[2]: the projected tensor
} Joint;

static bool leading(Joint *j, uint32_t mode, const double *a, Arena *arena) {
  int64_t cols = j->n[0] * j->n[1] * j->n[2] / j->n[mode];
  double *turned = NEW_ARRAY(arena, double, j->n[mode] * cols);
  Svd d;
  tensor_permute(3, j->n, mode == 0 ? (uint32_t[]){0, 1, 2} : (uint32_t[]){1, 0, 2}, a, turned);
  if (!svd_of(j->n[mode], cols, turned, arena, &d)) return false;
  for (int64_t i = 0; i < j->n[mode]; i++)
    for (int64_t q = 0; q < j->r; q++) j->u[mode][i * j->r + q] = d.u[i * d.n + q];
  return true;
}

static void project(Joint *j, const double *a, Arena *arena) {
  int64_t r = j->r, rest = j->n[1] * j->n[2];
  double *half = NEW_ARRAY(arena, double, r *rest), *turned = NEW_ARRAY(arena, double, r *rest);
  double *both = NEW_ARRAY(arena, double, r *r * j->n[2]);
  matrix_add_tmul(r, rest, j->n[0], j->u[0], a, half);
  tensor_permute(3, (int64_t[]){r, j->n[1], j->n[2]}, (uint32_t[]){1, 0, 2}, half, turned);
  matrix_add_tmul(r, r * j->n[2], j->n[1], j->u[1], turned, both);
  tensor_permute(3, (int64_t[]){r, r, j->n[2]}, (uint32_t[]){1, 0, 2}, both, j->slice);
}

// A mixture of the slices, r x r; its weights follow from `seed`.
static void mixture(const Joint *j, uint64_t seed, double *to) {
  int64_t r = j->r;
  for (int64_t k = 0; k < j->n[2]; k++) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    double x = (double)(int64_t)(seed >> 20) / 0x1p43 - 1;
    for (int64_t i = 0; i < r * r; i++) to[i] += x * j->slice[i * j->n[2] + k];
  }
}

// v: eigenvectors of T(x) T(y)^-1 as columns.
static bool eigenvectors(const Joint *j, double *v, const char **why, Arena *arena) {
  int64_t r = j->r;
  double *x = NEW_ARRAY(arena, double, r *r), *y = NEW_ARRAY(arena, double, r *r), *m = NEW_ARRAY(arena, double, r *r);
  double *one = NEW_ARRAY(arena, double, r *r), *inverse = NEW_ARRAY(arena, double, r *r);
  double *re = NEW_ARRAY(arena, double, r), *im = NEW_ARRAY(arena, double, r), most = 0;
  mixture(j, 1, x);
  mixture(j, 2, y);
  for (int64_t i = 0; i < r; i++) one[i * r + i] = 1;
  *why = "the slices have no common eigenvectors";
  if (!least_squares(r, r, r, y, one, APART, inverse, arena)) return false;
  matrix_mul(r, r, r, x, inverse, m);
  if (!eigen_general(r, m, arena, re, im, v)) return false;
  for (int64_t i = 0; i < r; i++) most = fmax(most, hypot(re[i], im[i]));
  for (int64_t i = 0; i < r; i++) {
    *why = "the slices have complex eigenvalues";
    if (fabs(im[i]) > 0) return false;
    *why = "eigenvalues of the slices coincide";
    for (int64_t k = 0; k < i; k++)
      if (fabs(re[i] - re[k]) < APART * most) return false;
  }
  return true;
}

// Row q of left = A^-1 (projected tensor) is b c' for one component.
static bool outer_products(Cp *c, const Joint *j, const double *left, Arena *arena) {
  int64_t r = j->r;
  double *b = NEW_ARRAY(arena, double, r);
  for (int64_t q = 0; q < r; q++) {
    Svd d;
    if (!svd_of(r, j->n[2], left + q * r * j->n[2], arena, &d)) return false;
    for (int64_t i = 0; i < r; i++) b[i] = d.u[i * d.n] * d.s[0];
    for (int64_t i = 0; i < j->n[1]; i++) {
      double sum = 0;
      for (int64_t p = 0; p < r; p++) sum += j->u[1][i * r + p] * b[p];
      c->factor[1][i * c->room + q] = sum;
    }
    for (int64_t k = 0; k < j->n[2]; k++) c->factor[2][k * c->room + q] = d.vt[k];
  }
  return true;
}

static bool joint(Cp *c, Joint *j, const double *a, const char **why, Arena *arena) {
  int64_t r = j->r;
  double *v = NEW_ARRAY(arena, double, r *r), *left = NEW_ARRAY(arena, double, r *r * j->n[2]);
  *why = "singular values do not converge";
  if (!leading(j, 0, a, arena) || !leading(j, 1, a, arena)) return false;
  project(j, a, arena);
  if (!eigenvectors(j, v, why, arena)) return false;
  *why = "eigenvectors of the slices are not independent";
  if (!least_squares(r, r, r * j->n[2], v, j->slice, APART * APART, left, arena)) return false;
  for (int64_t i = 0; i < j->n[0]; i++)
    for (int64_t q = 0; q < r; q++) {
      double sum = 0;
      for (int64_t p = 0; p < r; p++) sum += j->u[0][i * r + p] * v[p * r + q];
      c->factor[0][i * c->room + q] = sum;
    }
  c->r = r;
  return outer_products(c, j, left, arena);
}

bool cp_joint(Cp *c, const double *a, int64_t r, const char **why, Arena *arena) {
  Joint j = {.r = r, .n = {c->n[0], c->n[1], c->n[2]}};
  if (r > j.n[0] || r > j.n[1] || j.n[2] < 2) {
    *why = "more components than channels, or one slice only";
    return false;
  }
  ArenaMark mark = arena_mark(arena);
  for (int m = 0; m < 2; m++) j.u[m] = NEW_ARRAY(arena, double, j.n[m] * r);
  j.slice = NEW_ARRAY(arena, double, r *r *j.n[2]);
  bool ok = joint(c, &j, a, why, arena);
  arena_reset(arena, mark);
  return ok;
}
