// The text form of both levels. print is the inverse of parse.
#ifndef QCC_IR_TEXT_H
#define QCC_IR_TEXT_H

#include "ir/kernel.h"

// Parses a .qir text (functions, constants, kernels, program) into a new module. NULL after errors "FILE:LINE:COL:
// ...".
Module *parse_module(Arena *arena, Diag *diag, const char *file, const char *text, size_t n);

typedef struct PrintOptions {
  bool locs;       // print loc("...")
  bool all_bytes;  // print constants of any size in full (default: above 64 elements as a hash, which does not parse)
  bool random_bytes;  // constants above 64 elements as rand(ID): parses, with other numbers (replay files)
} PrintOptions;

void print_module(StrBuf *out, Module *m, PrintOptions opt);
void print_func(StrBuf *out, Func *f, PrintOptions opt);
void print_op(StrBuf *out, const Op *op);  // one line, for messages
void print_kernel(StrBuf *out, const Kernel *k);
void print_program(StrBuf *out, const Program *p);
void print_type(StrBuf *out, const TypeTable *tt, const Type *t);

#endif
