// Open-addressing hash maps, keyed by 64-bit number or by string (the string's hash plus comparison).
#include "ir/base/map.h"

#include <string.h>

#include "ir/base/str.h"

typedef struct Slot {
  uint64_t key;
  const char *str;  // NULL for number keys
  void *value;      // NULL: free, or removed when `gone`
  bool gone;
} Slot;

struct Map {
  Arena *arena;
  Slot *slots;
  uint32_t n_slots, n_used, n_live;
};

Map *map_new(Arena *arena) {
  Map *m = NEW(arena, Map);
  m->arena = arena;
  m->n_slots = 16;
  m->slots = NEW_ARRAY(arena, Slot, m->n_slots);
  return m;
}

static uint64_t spread(uint64_t key) {
  key ^= key >> 31;
  key *= UINT64_C(0x9E3779B97F4A7C15);
  return key ^ (key >> 29);
}

static bool slot_is(const Slot *s, uint64_t key, const char *str) {
  return s->key == key && (str ? s->str && strcmp(s->str, str) == 0 : !s->str);
}

// The slot of the key, or the first one it may be put into.
static Slot *slot_of(const Map *m, uint64_t key, const char *str) {
  Slot *hole = NULL;
  for (uint64_t i = spread(key);; i++) {
    Slot *s = &m->slots[i & (m->n_slots - 1)];
    if (s->value && slot_is(s, key, str)) return s;
    if (!s->value && s->gone && !hole) hole = s;
    if (!s->value && !s->gone) return hole ? hole : s;
  }
}

static void put(Map *m, uint64_t key, const char *str, void *value);

static void grow(Map *m) {
  Slot *old = m->slots;
  uint32_t n = m->n_slots;
  m->n_slots = m->n_live * 2 >= n ? n * 2 : n;
  m->slots = NEW_ARRAY(m->arena, Slot, m->n_slots);
  m->n_used = m->n_live = 0;
  for (uint32_t i = 0; i < n; i++)
    if (old[i].value) put(m, old[i].key, old[i].str, old[i].value);
}

static void put(Map *m, uint64_t key, const char *str, void *value) {
  if ((m->n_used + 1) * 4 > m->n_slots * 3) grow(m);
  Slot *s = slot_of(m, key, str);
  if (!value) {
    if (!s->value) return;
    s->value = NULL;
    s->gone = true;
    m->n_live--;
    return;
  }
  if (!s->value) {
    m->n_live++;
    if (!s->gone) m->n_used++;
  }
  *s = (Slot){key, str, value, s->gone};
}

void map_set(Map *m, uint64_t key, void *value) { put(m, key, NULL, value); }
void *map_get(const Map *m, uint64_t key) { return slot_of(m, key, NULL)->value; }
void map_set_str(Map *m, const char *key, void *value) { put(m, hash_bytes(key, strlen(key), 2), key, value); }
void *map_get_str(const Map *m, const char *key) { return slot_of(m, hash_bytes(key, strlen(key), 2), key)->value; }
uint32_t map_count(const Map *m) { return m->n_live; }
