// Giving back the memory of constants that nothing needs any more.
//
// Folding and packing leave copies of large weights behind, and arenas never free. The pages inside such a constant go
// back to the system; the entry stays in the pool as one that must not be read. Constants may share bytes (a reshape of
// another), so only ranges that no other constant needs are given back.
#include <sys/mman.h>

#include "ir/base/bitset.h"
#include "ir/kernel.h"

#define WORTH_BYTES (INT64_C(64) << 10)
#define PAGE 4096u

static Bitset needed_consts(Module *m, Arena *arena) {
  Bitset needed = bitset_new(arena, m->n_consts);
  if (m->program) {
    for (uint32_t i = 0; i < m->program->bufs.n; i++)
      if (m->program->bufs.at[i]->kind == PBUF_CONST && m->program->bufs.at[i]->constant)
        bitset_add(&needed, m->program->bufs.at[i]->constant->id);
    return needed;
  }
  for (uint32_t i = 0; i < m->consts.n; i++)
    if (m->consts.at[i]->value.n_uses > 0) bitset_add(&needed, m->consts.at[i]->id);
  return needed;
}

static bool has_large_bytes(const Const *c) {
  return c->gen == CONST_BYTES && !c->released && c->bytes && type_bytes(c->type) >= WORTH_BYTES;
}

static bool overlaps(const Const *a, const Const *b) {
  uintptr_t x = (uintptr_t)a->bytes, y = (uintptr_t)b->bytes;
  return x < y + (uintptr_t)type_bytes(b->type) && y < x + (uintptr_t)type_bytes(a->type);
}

static void release(Const *c) {
  uintptr_t from = ((uintptr_t)c->bytes + PAGE - 1) / PAGE * PAGE;
  uintptr_t to = ((uintptr_t)c->bytes + (uintptr_t)type_bytes(c->type)) / PAGE * PAGE;
  if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
  c->released = true;
}

static void release_unless_shared(Module *m, Const *c, const Bitset *needed) {
  if (!has_large_bytes(c)) return;
  for (uint32_t k = 0; k < m->consts.n; k++) {
    const Const *other = m->consts.at[k];
    if (other == c || other->gen != CONST_BYTES || other->released) continue;
    if (bitset_has(needed, other->id) && overlaps(c, other)) return;
  }
  release(c);
}

void consts_release(Module *m) {
  Arena *arena = arena_new("release");
  Bitset needed = needed_consts(m, arena);
  for (uint32_t i = 0; i < m->consts.n; i++)
    if (!bitset_has(&needed, m->consts.at[i]->id)) release_unless_shared(m, m->consts.at[i], &needed);
  arena_free(arena);
}

void const_release(Module *m, Const *c) {
  if (!has_large_bytes(c)) return;
  Arena *arena = arena_new("release");
  Bitset needed = needed_consts(m, arena);
  release_unless_shared(m, c, &needed);
  arena_free(arena);
}

void const_release_read(Module *m, Const *c) {
  if (!has_large_bytes(c) || c->value.n_uses != 1) return;
  for (uint32_t k = 0; k < m->consts.n; k++) {
    const Const *other = m->consts.at[k];
    if (other != c && other->gen == CONST_BYTES && !other->released && overlaps(c, other)) return;
  }
  release(c);
}
