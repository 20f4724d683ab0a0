// Tensor trains by successive SVD (TT-SVD, S32).
//
//   A[i1, i2, .., id] = G1[i1] G2[i2] .. Gd[id],  G_k[i_k] an r_(k-1) x r_k matrix
//
// For k = 1 .. d - 1: what is left, reshaped to r_(k-1) n_k rows, is truncated; U is the core, S V' is left. The errors
// of the steps are orthogonal, so their tails add up exactly; an error asked for is shared by the steps, and what one
// does not use goes to those behind it.
#include <string.h>

#include "passes/compress/scheme.h"

typedef struct Rest {
  Svd svd;
  double *a;  // r n x rest
} Rest;

// Cuts the train at rank r: the core is U, what is left S V'.
static void train_cut(Train *t, uint32_t k, int64_t r, Rest *rest, Arena *arena) {
  const Svd *d = &rest->svd;
  t->r[k + 1] = r;
  t->core[k] = NEW_ARRAY(arena, double, d->rows *r);
  rest->a = NEW_ARRAY(arena, double, r * d->cols);
  for (int64_t i = 0; i < d->rows; i++) memcpy(t->core[k] + i * r, d->u + i * d->n, (size_t)r * sizeof(double));
  for (int64_t i = 0; i < r; i++)
    for (int64_t j = 0; j < d->cols; j++) rest->a[i * d->cols + j] = d->s[i] * d->vt[i * d->cols + j];
}

bool train_of(uint32_t groups, uint32_t d, const int64_t *n, const double *const *a, const FactorAsk *ask,
              uint32_t variant, bool *differs, Forms *out, Train *trains, double *error2) {
  Rest *rest = NEW_ARRAY(out->arena, Rest, groups);
  int64_t behind = 1, r = 1;
  double norm2 = 0;
  for (uint32_t k = 0; k < d; k++) behind *= n[k];
  for (uint32_t g = 0; g < groups; g++) {
    trains[g] = (Train){.d = d, .r = {1}};
    memcpy(trains[g].n, n, d * sizeof *n);
    norm2 += sum_of_squares(behind, a[g]);
    rest[g].a = arena_copy(out->arena, a[g], (size_t)behind * sizeof(double));
  }
  *error2 = 0;
  *differs = false;
  for (uint32_t k = 0; k + 1 < d; k++) {
    behind /= n[k];
    int64_t rows = r * n[k], most = rows < behind ? rows : behind, ranks[2];
    double *tail = NEW_ARRAY(out->arena, double, most + 1);
    for (uint32_t g = 0; g < groups; g++) {
      if (!scheme_svd_of(rows, behind, rest[g].a, out, &rest[g].svd)) return false;
      tail_add(most, rest[g].svd.s, tail);
    }
    uint32_t found = ranks_asked(ask, (AskStep){k, d - 1, norm2, *error2}, most, tail, ranks);
    *differs = *differs || found > 1;
    r = ranks[variant < found ? variant : found - 1];
    *error2 += tail[r];
    for (uint32_t g = 0; g < groups; g++) train_cut(&trains[g], k, r, &rest[g], out->arena);
  }
  for (uint32_t g = 0; g < groups; g++) {
    trains[g].core[d - 1] = rest[g].a;
    trains[g].r[d] = 1;
  }
  return true;
}

void train_tensor(const Train *t, double *a, Arena *arena) {
  int64_t rows = t->n[0];
  const double *left = t->core[0];
  for (uint32_t k = 1; k < t->d; k++) {
    int64_t cols = t->n[k] * t->r[k + 1];
    double *product = k + 1 == t->d ? a : NEW_ARRAY(arena, double, rows *cols);
    matrix_mul(rows, cols, t->r[k], left, t->core[k], product);
    left = product;
    rows *= t->n[k];
  }
  if (t->d == 1) memcpy(a, left, (size_t)rows * sizeof(double));
}
