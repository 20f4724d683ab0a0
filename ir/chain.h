// The contraction of a `chain` op, read off its attributes: which letters every operand and the result hold, in the
// order of their bytes, and how many values a letter takes. See ops.def and docs/ir.md.
#ifndef QCC_IR_CHAIN_H
#define QCC_IR_CHAIN_H

#include "ir/graph.h"

#define CHAIN_CORES 8
#define CHAIN_LETTERS 52

// Letters by number, outermost first: the elements are dense in this order.
typedef struct ChainTerm {
  uint32_t n;
  uint8_t at[CHAIN_LETTERS];
} ChainTerm;

typedef struct ChainForm {
  uint32_t n_letters, n_cores;
  char name[CHAIN_LETTERS];     // in order of first appearance
  int64_t size[CHAIN_LETTERS];  // values of a letter
  ChainTerm x, core[CHAIN_CORES], y;
} ChainForm;

// Reads the attributes of a chain op. NULL, or what is wrong with them (static text); operands are not looked at.
const char *chain_read(const Op *op, ChainForm *f);
// The equation and sizes of a form, written on an op; names are given anew: a, b, ...
void chain_write(Op *op, const ChainForm *f);
// Elements of a term. False past the largest tensor.
bool chain_term_count(const ChainForm *f, const ChainTerm *t, int64_t *count);
bool chain_term_has(const ChainTerm *t, uint32_t letter);
// The result axis that a letter of y lies in, and the step of the letter along that axis. False: it lies in two.
bool chain_axis(const ChainForm *f, const Type *y, uint32_t letter, uint32_t *axis, int64_t *step);

#endif
