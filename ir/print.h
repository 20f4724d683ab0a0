// What print.c and print_kernel.c share.
#ifndef QCC_IR_PRINT_H
#define QCC_IR_PRINT_H

#include "ir/text.h"

void print_name(StrBuf *out, char sigil, const char *name);              // %x, or %"any text" when it is not a name
void print_string(StrBuf *out, const char *s);                           // quoted, escaped
void print_elements(StrBuf *out, DType t, const void *data, int64_t n);  // [1, 2, 3]
void print_literal(StrBuf *out, DType t, double f, int64_t i);
void print_locs(StrBuf *out, const Loc *loc);  // "  loc(...)", nothing when no location has a name

#endif
