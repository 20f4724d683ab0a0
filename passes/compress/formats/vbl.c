// VBL (S45): maximal horizontal runs, no explicit zeros.
//
//   0 5 8 0 3   =>   start 1, length 2, values 5 8; start 4, length 1, value 3
#include "passes/compress/formats/formats.h"

// Splits row `r` into runs; counts them, and stores them from *run and *at on unless v is NULL.
static void row_runs(const Matrix *m, int64_t r, Vbl *v, int64_t *run, int64_t *at) {
  const double *row = m->v + r * m->cols;
  for (int64_t j = 0; j < m->cols;) {
    if (row[j] == 0) {
      j++;
      continue;
    }
    int64_t first = j;
    while (j < m->cols && row[j] != 0 && j - first < 255) {
      if (v) v->a[*at] = row[j];
      ++*at;
      j++;
    }
    if (v) {
      v->start[*run] = first;
      v->length[*run] = (uint8_t)(j - first);
    }
    ++*run;
  }
}

Vbl vbl_of(const Matrix *m, Arena *arena) {
  Vbl v = {.rows = m->rows, .cols = m->cols};
  for (int64_t r = 0; r < m->rows; r++) row_runs(m, r, NULL, &v.runs, &v.n);
  v.a = NEW_ARRAY(arena, double, v.n + 1);
  v.ia = NEW_ARRAY(arena, int64_t, v.rows + 1);
  v.start = NEW_ARRAY(arena, int64_t, v.runs + 1);
  v.length = NEW_ARRAY(arena, uint8_t, v.runs + 1);
  int64_t run = 0, at = 0;
  for (int64_t r = 0; r < m->rows; r++) {
    v.ia[r] = run;
    row_runs(m, r, &v, &run, &at);
  }
  v.ia[v.rows] = run;
  return v;
}

void vbl_decode(const Vbl *v, double *out) {
  for (int64_t i = 0; i < v->rows * v->cols; i++) out[i] = 0;
  int64_t at = 0;
  for (int64_t r = 0; r < v->rows; r++)
    for (int64_t t = v->ia[r]; t < v->ia[r + 1]; t++)
      for (int64_t k = 0; k < v->length[t]; k++) out[r * v->cols + v->start[t] + k] = v->a[at++];
}

int64_t vbl_bytes(const Vbl *v, int64_t value_bytes) {
  return v->n * value_bytes + v->runs * (index_bytes(v->cols) + 1) + (v->rows + 1) * 4;
}
