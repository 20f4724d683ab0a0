// Interned strings, string builder, number text, escaping, hashing.
#include "ir/base/str.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Entry Entry;
struct Entry {
  uint64_t hash;
  size_t n;
  const char *s;
  Entry *next;
};

struct Interner {
  Arena *arena;
  Entry **slots;
  uint32_t n_slots, n;
};

uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed) {
  // Multiply-xorshift over 8-byte words; byte order of the tail is fixed, so the value is the same on every machine.
  const uint8_t *p = bytes;
  uint64_t h = seed ^ (n * UINT64_C(0x9E3779B97F4A7C15));
  while (n >= 8) {
    uint64_t w = 0;
    for (int i = 0; i < 8; i++) w |= (uint64_t)p[i] << (8 * i);
    h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 32;
    p += 8;
    n -= 8;
  }
  uint64_t w = 0;
  for (size_t i = 0; i < n; i++) w |= (uint64_t)p[i] << (8 * i);
  h = (h ^ w) * UINT64_C(0xc4ceb9fe1a85ec53);
  h ^= h >> 29;
  h *= UINT64_C(0xff51afd7ed558ccd);
  return h ^ (h >> 32);
}

Interner *interner_new(Arena *arena) {
  Interner *in = NEW(arena, Interner);
  in->arena = arena;
  in->n_slots = 256;
  in->slots = NEW_ARRAY(arena, Entry *, in->n_slots);
  return in;
}

static Entry *entry_find(const Interner *in, const char *s, size_t n, uint64_t h) {
  for (Entry *e = in->slots[h & (in->n_slots - 1)]; e; e = e->next)
    if (e->hash == h && e->n == n && memcmp(e->s, s, n) == 0) return e;
  return NULL;
}

static void interner_grow(Interner *in) {
  uint32_t n = in->n_slots * 2;
  Entry **slots = NEW_ARRAY(in->arena, Entry *, n);
  for (uint32_t i = 0; i < in->n_slots; i++)
    for (Entry *e = in->slots[i], *next; e; e = next) {
      next = e->next;
      e->next = slots[e->hash & (n - 1)];
      slots[e->hash & (n - 1)] = e;
    }
  in->slots = slots;
  in->n_slots = n;
}

const char *intern_n(Interner *in, const char *s, size_t n) {
  uint64_t h = hash_bytes(s, n, 1);
  Entry *e = entry_find(in, s, n, h);
  if (e) return e->s;
  if (++in->n > in->n_slots) interner_grow(in);
  char *copy = arena_alloc(in->arena, n + 1);
  if (n) memcpy(copy, s, n);
  e = NEW(in->arena, Entry);
  *e = (Entry){h, n, copy, in->slots[h & (in->n_slots - 1)]};
  in->slots[h & (in->n_slots - 1)] = e;
  return copy;
}

const char *intern(Interner *in, const char *s) { return intern_n(in, s, strlen(s)); }

const char *intern_find(const Interner *in, const char *s) {
  size_t n = strlen(s);
  Entry *e = entry_find(in, s, n, hash_bytes(s, n, 1));
  return e ? e->s : NULL;
}

void strbuf_init(StrBuf *b, Arena *arena) { *b = (StrBuf){.arena = arena}; }

static void strbuf_reserve(StrBuf *b, size_t more) {
  if (b->n + more + 1 <= b->cap) return;
  size_t cap = b->cap ? b->cap * 2 : 256;
  while (cap < b->n + more + 1) cap *= 2;
  char *at = arena_alloc(b->arena, cap);
  if (b->n) memcpy(at, b->at, b->n);
  b->at = at;
  b->cap = cap;
}

void strbuf_put(StrBuf *b, const char *bytes, size_t n) {
  strbuf_reserve(b, n);
  if (n) memcpy(b->at + b->n, bytes, n);
  b->n += n;
  b->at[b->n] = 0;
}

void strbuf_putc(StrBuf *b, char c) { strbuf_put(b, &c, 1); }
void strbuf_puts(StrBuf *b, const char *s) { strbuf_put(b, s, strlen(s)); }

void strbuf_vprintf(StrBuf *b, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, again);
  va_end(again);
  if (n <= 0) return;
  strbuf_reserve(b, (size_t)n);
  vsnprintf(b->at + b->n, (size_t)n + 1, fmt, ap);
  b->n += (size_t)n;
}

void strbuf_printf(StrBuf *b, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  strbuf_vprintf(b, fmt, ap);
  va_end(ap);
}

const char *strbuf_str(StrBuf *b) { return b->at ? b->at : ""; }

static bool special_text(char out[32], double v) {
  if (isnan(v)) {
    snprintf(out, 32, "nan");
  } else if (isinf(v)) {
    snprintf(out, 32, v > 0 ? "inf" : "-inf");
  } else {
    return false;
  }
  return true;
}

// Marks the text as a float: digits alone get ".0". The C library's decimal point is '.', as qcc never sets a locale.
static void mark_float(char out[32]) {
  if (!strpbrk(out, ".en")) strcat(out, ".0");
}

void text_of_double(char out[32], double v) {
  if (special_text(out, v)) return;
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(out, 30, "%.*g", digits, v);
    if (strtod(out, NULL) == v) break;
  }
  mark_float(out);
}

void text_of_float(char out[32], float v) {
  if (special_text(out, (double)v)) return;
  for (int digits = 1; digits <= 9; digits++) {
    snprintf(out, 30, "%.*g", digits, (double)v);
    if ((float)strtod(out, NULL) == v) break;
  }
  mark_float(out);
}

// Length of the valid UTF-8 sequence at s (n bytes left), 0 when it is not one.
static size_t utf8_length(const uint8_t *s, size_t n) {
  if (s[0] < 0x80) return 1;
  size_t k = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4 || k > n) return 0;
  for (size_t i = 1; i < k; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
      (s[0] == 0xf4 && s[1] > 0x8f))
    return 0;
  return k;
}

const char *str_escape(Arena *arena, const char *s, size_t max) {
  StrBuf b;
  strbuf_init(&b, arena);
  size_t n = strlen(s);
  for (size_t i = 0; i < n;) {
    if (b.n >= max) {
      strbuf_puts(&b, "...");
      break;
    }
    uint8_t c = (uint8_t)s[i];
    size_t k = utf8_length((const uint8_t *)s + i, n - i);
    bool c1_control = k == 2 && c == 0xc2 && (uint8_t)s[i + 1] < 0xa0;
    if (k == 0 || c < 0x20 || c == 0x7f || c == '"' || c == '\\' || c1_control) {
      strbuf_printf(&b, "\\x%02X", c);
      i++;
    } else {
      strbuf_put(&b, s + i, k);
      i += k;
    }
  }
  return strbuf_str(&b);
}
