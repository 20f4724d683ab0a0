// Interned strings (pointer equality) and a string builder.
#ifndef QCC_IR_BASE_STR_H
#define QCC_IR_BASE_STR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ir/base/arena.h"

typedef struct Interner Interner;

Interner *interner_new(Arena *arena);
// The one copy of the bytes; equal strings give equal pointers. NUL terminated.
const char *intern(Interner *in, const char *s);
const char *intern_n(Interner *in, const char *s, size_t n);
const char *intern_find(const Interner *in, const char *s);  // NULL when never interned

// A growing string in an arena. `at` is always NUL terminated once anything was added.
typedef struct StrBuf {
  Arena *arena;
  char *at;
  size_t n, cap;
} StrBuf;

void strbuf_init(StrBuf *b, Arena *arena);
void strbuf_putc(StrBuf *b, char c);
void strbuf_puts(StrBuf *b, const char *s);
void strbuf_put(StrBuf *b, const char *bytes, size_t n);
void strbuf_printf(StrBuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vprintf(StrBuf *b, const char *fmt, va_list ap);
const char *strbuf_str(StrBuf *b);  // "" when empty

// Shortest decimal text that reads back as exactly v (locale free). inf, -inf, nan spelled so.
// f32_text also reads back exactly when parsed as double and rounded to float.
void text_of_double(char out[32], double v);
void text_of_float(char out[32], float v);

// Escapes bytes < 0x20, 0x7f, quotes, backslash and invalid UTF-8 as \xHH and cuts after max bytes ("…").
const char *str_escape(Arena *arena, const char *s, size_t max);

uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed);  // stable across machines and runs

#endif
