// BCSR (S44): CSR of dense blocks. A block of 1 x 1 is CSR.
#include "ir/base/intmath.h"
#include "passes/compress/formats/formats.h"

static bool is_empty(const Matrix *m, int64_t row, int64_t col, int64_t r, int64_t c) {
  for (int64_t i = row; i < row + r && i < m->rows; i++)
    for (int64_t j = col; j < col + c && j < m->cols; j++)
      if (m->v[i * m->cols + j] != 0) return false;
  return true;
}

static int64_t count_blocks(const Matrix *m, int64_t r, int64_t c) {
  int64_t n = 0;
  for (int64_t i = 0; i < m->rows; i += r)
    for (int64_t j = 0; j < m->cols; j += c) n += !is_empty(m, i, j, r, c);
  return n;
}

Bcsr bcsr_of(const Matrix *m, int64_t r, int64_t c, Arena *arena) {
  int64_t down = ceil_div(m->rows, r), at = 0;
  Bcsr b = {.rows = m->rows, .cols = m->cols, .r = r, .c = c, .nonzeros = matrix_nonzeros(m)};
  b.blocks = count_blocks(m, r, c);
  b.a = NEW_ARRAY(arena, double, b.blocks *r *c + 1);
  b.ja = NEW_ARRAY(arena, int64_t, b.blocks + 1);
  b.ia = NEW_ARRAY(arena, int64_t, down + 1);
  for (int64_t i = 0; i < down; i++) {
    b.ia[i] = at;
    for (int64_t j = 0; j * c < m->cols; j++) {
      if (is_empty(m, i * r, j * c, r, c)) continue;
      b.ja[at] = j;
      for (int64_t y = 0; y < r; y++)
        for (int64_t x = 0; x < c; x++) {
          int64_t row = i * r + y, col = j * c + x;
          double v = row < m->rows && col < m->cols ? m->v[row * m->cols + col] : 0;
          b.a[(at * r + y) * c + x] = v == 0 ? 0 : v;
        }
      at++;
    }
  }
  b.ia[down] = at;
  return b;
}

void bcsr_decode(const Bcsr *b, double *out) {
  for (int64_t i = 0; i < b->rows * b->cols; i++) out[i] = 0;
  for (int64_t i = 0; i < ceil_div(b->rows, b->r); i++)
    for (int64_t t = b->ia[i]; t < b->ia[i + 1]; t++)
      for (int64_t k = 0; k < b->r * b->c; k++) {
        int64_t row = i * b->r + k / b->c, col = b->ja[t] * b->c + k % b->c;
        if (row < b->rows && col < b->cols) out[row * b->cols + col] = b->a[t * b->r * b->c + k];
      }
}

static int64_t bytes_of(int64_t rows, int64_t cols, int64_t r, int64_t c, int64_t blocks, int64_t value_bytes) {
  return blocks * (r * c * value_bytes + index_bytes(ceil_div(cols, c))) + (ceil_div(rows, r) + 1) * 4;
}

int64_t bcsr_bytes(const Bcsr *b, int64_t value_bytes) {
  return bytes_of(b->rows, b->cols, b->r, b->c, b->blocks, value_bytes);
}

double bcsr_fill(const Bcsr *b) {
  return b->nonzeros > 0 ? (double)(b->blocks * b->r * b->c) / (double)b->nonzeros : 1;
}

Bcsr bcsr_best(const Matrix *m, int64_t most, int64_t value_bytes, Arena *arena) {
  int64_t least = INT64_MAX, r = 1, c = 1;
  for (int64_t y = 1; y <= most; y++)
    for (int64_t x = 1; x <= most; x++) {
      int64_t bytes = bytes_of(m->rows, m->cols, y, x, count_blocks(m, y, x), value_bytes);
      if (bytes > least || (bytes == least && y * x >= r * c)) continue;
      least = bytes;
      r = y;
      c = x;
    }
  return bcsr_of(m, r, c, arena);
}
