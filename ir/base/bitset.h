// Fixed-size bit sets in an arena.
#ifndef QCC_IR_BASE_BITSET_H
#define QCC_IR_BASE_BITSET_H

#include "ir/base/arena.h"

typedef struct Bitset {
  uint64_t *words;
  uint32_t n_bits;
} Bitset;

static inline Bitset bitset_new(Arena *arena, uint32_t n_bits) {
  return (Bitset){NEW_ARRAY(arena, uint64_t, (n_bits + 63u) / 64u + 1u), n_bits};
}
static inline bool bitset_has(const Bitset *s, uint32_t i) { return (s->words[i / 64] >> (i % 64)) & 1u; }
static inline void bitset_add(Bitset *s, uint32_t i) { s->words[i / 64] |= UINT64_C(1) << (i % 64); }
static inline void bitset_drop(Bitset *s, uint32_t i) { s->words[i / 64] &= ~(UINT64_C(1) << (i % 64)); }

#endif
