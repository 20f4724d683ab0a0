// Arenas: memory by lifetime, never by object (lcc's scheme).
//
// Three lifetimes are used in the compiler: module (until exit), pass (dropped after each pass) and
// scratch (mark/release inside one function). Nothing in the compiler frees a single object.
// In hostile mode (environment QCC_HOSTILE=1 or arena_hostile) every allocation is its own malloc
// block, so that AddressSanitizer sees every overrun and every use after reset.
#ifndef QCC_IR_BASE_ARENA_H
#define QCC_IR_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

typedef struct Arena Arena;

typedef struct ArenaMark {
  void *block;   // block that was current
  size_t used;   // bytes used in it
  size_t total;  // arena_bytes at the mark
} ArenaMark;

Arena *arena_new(const char *name);
void arena_free(Arena *arena);  // NULL is allowed

// Zeroed memory, aligned to 16 (64 when size >= 64). Never NULL: when memory runs out one line is
// printed and the process ends with exit code 5 (limit).
void *arena_alloc(Arena *arena, size_t size);
void *arena_copy(Arena *arena, const void *bytes, size_t size);
char *arena_printf(Arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(Arena *arena, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));

ArenaMark arena_mark(const Arena *arena);
void arena_reset(Arena *arena, ArenaMark mark);  // drops everything allocated after the mark
void arena_clear(Arena *arena);                  // drops everything
size_t arena_bytes(const Arena *arena);          // live bytes
void arena_hostile(bool on);                     // for arenas made after the call

void *arena_array(Arena *arena, size_t count, size_t size);  // count*size checked for overflow
#define NEW(arena, T) ((T *)arena_alloc((arena), sizeof(T)))
#define NEW_ARRAY(arena, T, n) ((T *)arena_array((arena), (size_t)(n), sizeof(T)))

#endif
