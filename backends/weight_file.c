// Writes the file of weights. See weight_file.h.
#include "backends/weight_file.h"

#include <stdlib.h>
#include <string.h>

#include "ir/text.h"

static uint64_t word_at(const uint8_t *p) {
  uint64_t v = 0;
  for (uint32_t i = 8; i-- > 0;) v = v << 8 | p[i];
  return v;
}

static void put_word(uint8_t *p, uint64_t v) {
  for (uint32_t i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}

uint64_t weight_file_sum(const uint8_t *at, size_t n, uint64_t format) {
  uint64_t h = format;
  for (size_t i = 0; i + 8 <= n; i += 8) {
    h = (h ^ word_at(at + i)) * WEIGHT_FILE_FACTOR;
    h ^= h >> WEIGHT_FILE_SHIFT;
  }
  return h;
}

uint64_t weight_file_format(uint32_t n, const Level *levels, const WeightLayout *w, Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_printf(&b, "qcc %s, weights %d, %lld bytes\n", QCC_VERSION, WEIGHT_FILE_VERSION, (long long)w->bytes);
  for (uint32_t i = 0; i < n; i++) {
    const Program *p = levels[i].m->program;
    strbuf_printf(&b, "%s\n", levels[i].target->name);
    print_program(&b, p);
    for (uint32_t k = 0; k < p->bufs.n; k++)
      if (p->bufs.at[k]->kind == PBUF_CONST && !p->bufs.at[k]->alias_of)
        strbuf_printf(&b, "%u %lld\n", k, (long long)w->at[i][p->bufs.at[k]->id]);
  }
  return hash_bytes(strbuf_str(&b), b.n, 0);
}

uint8_t *weight_file_bytes(const WeightLayout *w, bool release, size_t *n) {
  size_t bytes = (size_t)w->bytes;
  uint8_t *at = calloc(1, WEIGHT_FILE_HEAD + bytes);
  if (at == NULL) return NULL;
  *n = WEIGHT_FILE_HEAD + bytes;
  for (uint32_t i = 0; i < w->packed.n; i++) {
    const Packed *p = &w->packed.at[i];
    memcpy(at + WEIGHT_FILE_HEAD + p->offset, const_data(p->m, p->c), (size_t)type_bytes(p->c->type));
    if (release) const_release(p->m, p->c);
  }
  memcpy(at, WEIGHT_FILE_MAGIC, sizeof WEIGHT_FILE_MAGIC);
  at[8] = WEIGHT_FILE_VERSION;
  put_word(at + 16, w->format);
  put_word(at + 24, bytes);
  put_word(at + 32, weight_file_sum(at + WEIGHT_FILE_HEAD, bytes, w->format));
  return at;
}
