// Arenas. Blocks are chained; each block knows how much of it is used, so a mark is a block and an offset.
// Hostile arenas give every allocation its own block (see arena.h).
#include "ir/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/vec.h"

typedef struct Block Block;
struct Block {
  Block *prev;
  size_t cap, used;
  void *raw;       // what malloc gave
  uint8_t *bytes;  // 64-byte aligned
};

struct Arena {
  const char *name;
  Block *block;
  size_t total;
  size_t next_block;
  bool hostile;
};

static bool hostile_default = false;

static _Noreturn void out_of_memory(const char *name, size_t size) {
  fprintf(stderr, "qcc: out of memory (%zu more bytes wanted by the %s arena)\n", size, name);
  exit(5);
}

Arena *arena_new(const char *name) {
  Arena *a = calloc(1, sizeof *a);
  if (!a) out_of_memory(name, sizeof *a);
  const char *env = getenv("QCC_HOSTILE");
  a->name = name;
  a->next_block = 16384;
  a->hostile = hostile_default || (env && env[0] == '1');
  return a;
}

static void block_drop(Arena *a) {
  Block *b = a->block;
  a->block = b->prev;
  free(b->raw);
  free(b);
}

void arena_free(Arena *arena) {
  if (!arena) return;
  arena_clear(arena);
  free(arena);
}

static Block *block_new(Arena *a, size_t size) {
  size_t cap = size;
  if (!a->hostile) {
    if (cap < a->next_block) cap = a->next_block;
    if (a->next_block < (size_t)1 << 20) a->next_block *= 2;
  }
  Block *b = calloc(1, sizeof *b);
  if (!b || cap > SIZE_MAX - 64) out_of_memory(a->name, cap);
  b->raw = calloc(1, cap + 64);
  if (!b->raw) out_of_memory(a->name, cap);
  b->bytes = (uint8_t *)(((uintptr_t)b->raw + 63) & ~(uintptr_t)63);
  b->cap = cap;
  b->prev = a->block;
  a->block = b;
  return b;
}

void *arena_alloc(Arena *arena, size_t size) {
  size_t align = size >= 64 ? 64 : 16;
  if (size > SIZE_MAX / 2) out_of_memory(arena->name, size);
  Block *b = arena->block;
  size_t at = b ? (b->used + align - 1) & ~(align - 1) : 0;
  if (!b || arena->hostile || at > b->cap || size > b->cap - at) {
    b = block_new(arena, size);
    at = 0;
  }
  arena->total += at + size - b->used;
  b->used = at + size;
  return b->bytes + at;
}

void *arena_array(Arena *arena, size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) out_of_memory(arena->name, SIZE_MAX);
  return arena_alloc(arena, total);
}

void *arena_copy(Arena *arena, const void *bytes, size_t size) {
  void *p = arena_alloc(arena, size);
  if (size) memcpy(p, bytes, size);
  return p;
}

char *arena_vprintf(Arena *arena, const char *fmt, va_list args) {
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  char *s = arena_alloc(arena, n < 0 ? 1 : (size_t)n + 1);
  if (n > 0) vsnprintf(s, (size_t)n + 1, fmt, again);
  va_end(again);
  return s;
}

char *arena_printf(Arena *arena, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  char *s = arena_vprintf(arena, fmt, args);
  va_end(args);
  return s;
}

ArenaMark arena_mark(const Arena *arena) {
  return (ArenaMark){arena->block, arena->block ? arena->block->used : 0, arena->total};
}

void arena_reset(Arena *arena, ArenaMark mark) {
  while (arena->block && arena->block != mark.block) block_drop(arena);
  Block *b = arena->block;
  if (b && b->used > mark.used) {
    memset(b->bytes + mark.used, 0, b->used - mark.used);
    b->used = mark.used;
  }
  arena->total = mark.total;
}

void arena_clear(Arena *arena) { arena_reset(arena, (ArenaMark){NULL, 0, 0}); }

size_t arena_bytes(const Arena *arena) { return arena->total; }

void arena_hostile(bool on) { hostile_default = on; }

void *vec_grown(Arena *arena, void *at, uint32_t n, uint32_t *cap, size_t size) {
  uint32_t grown = arena->hostile ? *cap + 1 : (*cap ? *cap * 2 : 8);
  if (grown <= *cap) out_of_memory(arena->name, SIZE_MAX);
  void *p = arena_array(arena, grown, size);
  if (n) memcpy(p, at, (size_t)n * size);
  *cap = grown;
  return p;
}
