// CSR (S43): A the values, IA where each row begins, JA the columns.
//
//   0 0 0 0
//   5 8 0 0   =>   A = 5 8 3 6   IA = 0 0 2 3 4   JA = 0 1 2 1
//   0 0 3 0
//   0 6 0 0
#include <string.h>

#include "passes/compress/formats/formats.h"

int64_t matrix_nonzeros(const Matrix *m) {
  int64_t n = 0;
  for (int64_t i = 0; i < m->rows * m->cols; i++) n += m->v[i] != 0;
  return n;
}

int64_t index_bytes(int64_t cols) { return cols < 65536 ? 2 : 4; }

Csr csr_of(const Matrix *m, Arena *arena) {
  Csr c = {.rows = m->rows, .cols = m->cols, .n = matrix_nonzeros(m)};
  c.a = NEW_ARRAY(arena, double, c.n + 1);
  c.ja = NEW_ARRAY(arena, int64_t, c.n + 1);
  c.ia = NEW_ARRAY(arena, int64_t, m->rows + 1);
  int64_t at = 0;
  for (int64_t r = 0; r < m->rows; r++) {
    c.ia[r] = at;
    for (int64_t j = 0; j < m->cols; j++) {
      double v = m->v[r * m->cols + j];
      if (v == 0) continue;
      c.ja[at] = j;
      c.a[at++] = v;
    }
  }
  c.ia[m->rows] = at;
  return c;
}

void csr_decode(const Csr *c, double *out) {
  for (int64_t i = 0; i < c->rows * c->cols; i++) out[i] = 0;
  for (int64_t r = 0; r < c->rows; r++)
    for (int64_t t = c->ia[r]; t < c->ia[r + 1]; t++) out[r * c->cols + c->ja[t]] = c->a[t];
}

int64_t csr_bytes(const Csr *c, int64_t value_bytes) {
  return c->n * (value_bytes + index_bytes(c->cols)) + (c->rows + 1) * 4;
}
