// Storage formats of matrices with zeros: CSR, BCSR, VBL, CSX (S43-S46). Each encodes a dense row-major matrix, gives
// it back bit for bit (zeros of either sign as +0) and knows its size. They are what the report compares; the kernels
// of strategy `sparse` have streams of their own.
//
// Indices count from 0. Sizes take values of `value_bytes` each, column indices of 2 bytes below 65,536 columns and of
// 4 from there on, row offsets of 4 bytes.
#ifndef QCC_PASSES_COMPRESS_FORMATS_H
#define QCC_PASSES_COMPRESS_FORMATS_H

#include "ir/base/vec.h"

typedef struct Matrix {
  int64_t rows, cols;
  const double *v;
} Matrix;

int64_t matrix_nonzeros(const Matrix *m);
int64_t index_bytes(int64_t cols);

// ---- CSR: values row by row, the column of each, where each row begins
typedef struct Csr {
  int64_t rows, cols, n;
  double *a;
  int64_t *ia, *ja;  // rows + 1 offsets, n columns
} Csr;

Csr csr_of(const Matrix *m, Arena *arena);
void csr_decode(const Csr *c, double *out);
int64_t csr_bytes(const Csr *c, int64_t value_bytes);

// ---- BCSR: blocks of r x c with explicit zeros, which stand where a block is not full or the matrix ends
typedef struct Bcsr {
  int64_t rows, cols, r, c, blocks, nonzeros;
  double *a;         // block by block, row-major
  int64_t *ia, *ja;  // per row of blocks; in blocks
} Bcsr;

Bcsr bcsr_of(const Matrix *m, int64_t r, int64_t c, Arena *arena);
void bcsr_decode(const Bcsr *b, double *out);
int64_t bcsr_bytes(const Bcsr *b, int64_t value_bytes);
double bcsr_fill(const Bcsr *b);  // stored values per non-zero, from 1
// The block of up to `most` rows and columns that takes the fewest bytes; of equal ones the smallest.
Bcsr bcsr_best(const Matrix *m, int64_t most, int64_t value_bytes, Arena *arena);

// ---- VBL: runs of non-zeros in a row: first column, length in a byte (longer ones are split at 255), values
typedef struct Vbl {
  int64_t rows, cols, n, runs;
  double *a;
  int64_t *ia, *start;  // per row the first of its runs; per run its first column
  uint8_t *length;
} Vbl;

Vbl vbl_of(const Matrix *m, Arena *arena);
void vbl_decode(const Vbl *v, double *out);
int64_t vbl_bytes(const Vbl *v, int64_t value_bytes);

// ---- CSX: substructures in a control stream
typedef enum CsxKind { CSX_DELTA, CSX_HORIZONTAL, CSX_VERTICAL, CSX_DIAGONAL, CSX_ANTI, CSX_BLOCK, CSX_KINDS } CsxKind;

typedef struct CsxUnit {
  CsxKind kind;
  int64_t row, col, size;  // the first element in row-major order (ANTI: the topmost), elements
  int64_t step;            // distance of neighbours; BLOCK: columns + 16 * rows; DELTA: 0
  const int64_t *places;   // row * columns + column of its elements, in the order of its values
} CsxUnit;

typedef struct Csx {
  int64_t rows, cols, n;
  VEC(CsxUnit) units;    // in order of their first element
  VEC(uint8_t) control;  // what decode reads
  double *a;
  int64_t covered[CSX_KINDS];  // non-zeros per kind
  int64_t types;               // (kind, step) pairs of the stream
} Csx;

Csx csx_of(const Matrix *m, Arena *arena);
void csx_decode(const Csx *c, double *out);  // from the control stream and the values alone
int64_t csx_bytes(const Csx *c, int64_t value_bytes);
const char *csx_kind_name(CsxKind kind);

#endif
