// Products of floats and weights of one or two signs: w[row][k] = c0[row] * s0[row][k] + c1[row] * s1[row][k], s = +-1.
//
// Rows with one or two magnitudes are of this form: +-a, three values, four symmetric values of any spacing. Nothing is
// multiplied inside the sum. For each five neighbouring k a table holds the 32 sums +-x[k] +- ... +- x[k + 4]; five
// bits of a weight look one up, so a vector of rows takes one permutation and one addition for five products of each
// row:
//
//   sum over k of s[k] x[k]  =  table0[bits 0..4] + table1[bits 5..9] + ...
//
// A dword of signs (bit set: +1) is six groups of five and one of two.
#ifndef QCC_PASSES_LOWER_SIGNS_H
#define QCC_PASSES_LOWER_SIGNS_H

#include "passes/lower/lower.h"

#define SIGN_PLANES 2
#define SIGN_TABLES 7  // of a dword
#define SIGN_ENTRIES 32

typedef struct Signs {
  int64_t rows, k;
  uint32_t planes;
  float *scale[SIGN_PLANES];  // [rows]
  uint8_t *sign;              // [rows][k]: bit p: the sign of plane p is +1
} Signs;

// Finds the signs and scales of f32 weights [rows][k], which c0 s0 + c1 s1 gives back bit for bit. False: there are
// none.
bool signs_of(Arena *arena, const void *weights, int64_t rows, int64_t k, Signs *s);

int64_t signs_dwords(const Signs *s);  // of one row and plane
// Dword `d` of one row and plane.
uint32_t signs_dword(const Signs *s, int64_t row, uint32_t plane, int64_t d);

// Emits the tables of x[at .. at + k): into tables [dwords][SIGN_TABLES][SIGN_ENTRIES] from `to` on. `pattern` is a
// parameter of the kernel bound to signs_pattern.
void signs_tables(KBuild *b, const Signs *s, KBuf *x, Affine at, KBuf *tables, Affine to, KBuf *pattern);
Value *signs_pattern(Module *m);  // f32[5][32]: +1 where bit i of the entry is set, else -1
// The sum that group `group` of a dword of signs looks up; `table`: where the tables of the dword begin.
KExpr *signs_lookup(KBuild *b, KBuf *tables, Affine table, int64_t group, KExpr *dword);

#endif
