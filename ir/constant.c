// The constant pool: one entry per distinct type and content. Generators stay symbolic until their bytes are wanted.
#include "ir/graph.h"

#include <string.h>

#include "ir/base/map.h"
#include "ir/elem.h"

typedef struct ConstNode ConstNode;
struct ConstNode {
  Const *c;
  ConstNode *next;
};

static bool const_same(const Const *a, const Const *b) {
  if (a->type != b->type || a->gen != b->gen || a->released) return false;
  switch (a->gen) {
    case CONST_BYTES: return a->bytes == b->bytes || memcmp(a->bytes, b->bytes, (size_t)type_bytes(a->type)) == 0;
    case CONST_SPLAT: return memcmp(&a->splat, &b->splat, sizeof a->splat) == 0 && a->splat_i == b->splat_i;
    case CONST_IOTA: return true;
    case CONST_RAND: return a->seed == b->seed && a->zeros == b->zeros;
  }
  return false;
}

static uint64_t const_hash(const Const *c) {
  uint64_t h = hash_bytes(c->type->dims, sizeof c->type->dims, (uint64_t)c->type->dtype * 8 + (uint64_t)c->gen);
  if (c->gen == CONST_BYTES) return hash_bytes(c->bytes, (size_t)type_bytes(c->type), h);
  if (c->gen == CONST_SPLAT) return hash_bytes(&c->splat, sizeof c->splat, h ^ (uint64_t)c->splat_i);
  return h ^ c->seed ^ (uint64_t)c->zeros << 32;
}

static const char *unique_name(Module *m, const char *hint) {
  Map *index = m->const_index;
  const char *name = hint && hint[0] ? intern(m->names, hint) : NULL;
  if (name && !map_get_str(index, name)) return name;
  for (uint32_t i = m->n_consts;; i++) {
    char text[24];
    snprintf(text, sizeof text, "c%u", i);
    if (!map_get_str(index, text)) return intern(m->names, text);
  }
}

static void const_enter(Module *m, Const *c) {
  ConstNode *n = NEW(m->arena, ConstNode);
  *n = (ConstNode){c, map_get(m->const_index, c->hash)};
  map_set(m->const_index, c->hash, n);
  map_set_str(m->const_index, c->name, c);
  vec_push(m->arena, &m->consts, c);
}

static Value *const_add(Module *m, Const key, const char *name) {
  Map *index = m->const_index;
  key.hash = const_hash(&key);
  for (ConstNode *n = map_get(index, key.hash); n; n = n->next)
    if (const_same(n->c, &key)) return &n->c->value;
  Const *c = arena_copy(m->arena, &key, sizeof key);
  c->id = m->n_consts;
  c->name = unique_name(m, name);
  m->n_consts++;
  c->value = (Value){.id = m->n_values++, .kind = VALUE_CONST, .type = c->type, .name = c->name, .constant = c};
  const_enter(m, c);
  return &c->value;
}

void consts_clone(Module *to, const Module *from) {
  for (uint32_t i = 0; i < from->consts.n; i++) {
    Const *c = arena_copy(to->arena, from->consts.at[i], sizeof *c);
    c->value = (Value){.id = c->value.id, .kind = VALUE_CONST, .type = c->type, .name = c->name, .constant = c};
    const_enter(to, c);
  }
  to->n_consts = from->n_consts;
}

Value *const_borrowed(Module *m, const Type *t, const void *bytes, const char *name) {
  return const_add(m, (Const){.type = t, .gen = CONST_BYTES, .bytes = bytes}, name);
}

Value *const_bytes(Module *m, const Type *t, const void *bytes, const char *name) {
  return const_borrowed(m, t, arena_copy(m->arena, bytes, (size_t)type_bytes(t)), name);
}

Value *const_splat(Module *m, const Type *t, double v) {
  Const key = {.type = t, .gen = CONST_SPLAT, .splat = elem_round(t->dtype, v)};
  if (!dtype_is_float(t->dtype)) key.splat_i = (int64_t)key.splat;
  return const_add(m, key, NULL);
}

Value *const_splat_int(Module *m, const Type *t, int64_t v) {
  if (dtype_is_float(t->dtype)) return const_splat(m, t, (double)v);
  uint64_t cell = 0;
  elem_set_i(&cell, t->dtype, 0, v);
  int64_t wrapped = elem_get_i(&cell, t->dtype, 0);
  return const_add(m, (Const){.type = t, .gen = CONST_SPLAT, .splat = (double)wrapped, .splat_i = wrapped}, NULL);
}

Value *const_generated(Module *m, const Type *t, ConstGen gen, double splat, uint64_t seed, const char *name) {
  if (gen == CONST_SPLAT) return const_splat(m, t, splat);
  return const_add(m, (Const){.type = t, .gen = gen, .seed = seed}, name);
}

Value *const_with_zeros(Module *m, const Type *t, uint64_t seed, uint32_t percent, const char *name) {
  return const_add(m, (Const){.type = t, .gen = CONST_RAND, .seed = seed, .zeros = percent}, name);
}

void const_rename(Module *m, Const *c, const char *name) {
  Map *index = m->const_index;
  if (map_get_str(index, name)) return;
  map_set_str(index, c->name, NULL);
  c->name = c->value.name = intern(m->names, name);
  map_set_str(index, c->name, c);
}

// splitmix64 (Steele, Lea, Flood 2014): a counter-based generator, the same on every machine.
static uint64_t splitmix(uint64_t *state) {
  uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

// Seeded data: floats uniform in [-1, 1) on a 2^-10 grid (exact in every float type down to f16), integers uniform over
// the type's range cut to [-100, 100]. `zeros` percent of them are zero.
static void const_rand(void *to, const Type *t, uint64_t seed, uint32_t zeros) {
  uint64_t state = seed;
  int64_t n = type_count(t), lo = dtype_min(t->dtype), hi = dtype_max(t->dtype);
  if (lo < -100) lo = -100;
  if (hi > 100) hi = 100;
  for (int64_t i = 0; i < n; i++) {
    uint64_t r = splitmix(&state) >> 16;
    if (zeros > 0 && (splitmix(&state) >> 16) % 100 < zeros) {
      elem_set_i(to, t->dtype, i, 0);
    } else if (dtype_is_float(t->dtype)) {
      elem_set_f(to, t->dtype, i, (double)((int64_t)(r % 2048) - 1024) / 1024.0);
    } else if (dtype_info(t->dtype)->cls == DC_BIP) {
      elem_set_i(to, t->dtype, i, r & 1 ? 1 : -1);
    } else {
      elem_set_i(to, t->dtype, i, lo + (int64_t)(r % (uint64_t)(hi - lo + 1)));
    }
  }
}

static void const_fill(const Const *c, void *to) {
  int64_t n = type_count(c->type);
  DType t = c->type->dtype;
  if (c->gen == CONST_RAND) {
    const_rand(to, c->type, c->seed, c->zeros);
  } else if (c->gen == CONST_IOTA) {
    for (int64_t i = 0; i < n; i++) dtype_is_float(t) ? elem_set_f(to, t, i, (double)i) : elem_set_i(to, t, i, i);
  } else {
    for (int64_t i = 0; i < n; i++)
      dtype_is_float(t) ? elem_set_f(to, t, i, c->splat) : elem_set_i(to, t, i, c->splat_i);
  }
}

const void *const_data(Module *m, Const *c) {
  QCC_CHECK(!c->released, "constant %s is read after its memory was released", c->name);
  if (!c->bytes) {
    void *to = arena_alloc(m->arena, (size_t)type_bytes(c->type) + 8);
    const_fill(c, to);
    c->bytes = to;
  }
  return c->bytes;
}

bool value_is_const(const Value *v) { return v && v->kind == VALUE_CONST; }

bool const_is_splat(Module *m, Const *c, double *v) {
  int64_t n = type_count(c->type);
  if (n == 0) return false;
  if (c->gen == CONST_SPLAT) {
    *v = c->splat;
    return true;
  }
  const void *data = const_data(m, c);
  size_t bits = dtype_info(c->type->dtype)->bits;
  double first = elem_get_f(data, c->type->dtype, 0);
  if (bits % 8 == 0) {  // bitwise, so that -0 and NaN payloads count
    for (int64_t i = 1; i < n; i++)
      if (memcmp((const char *)data + (size_t)i * bits / 8, data, bits / 8) != 0) return false;
  } else {
    for (int64_t i = 1; i < n; i++)
      if (elem_get_i(data, c->type->dtype, i) != elem_get_i(data, c->type->dtype, 0)) return false;
  }
  *v = first;
  return true;
}

double const_f(Module *m, Const *c, int64_t i) { return elem_get_f(const_data(m, c), c->type->dtype, i); }
int64_t const_i(Module *m, Const *c, int64_t i) { return elem_get_i(const_data(m, c), c->type->dtype, i); }
