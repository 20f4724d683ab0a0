// Packing of weights for the strategy stream. See stream.h.
#include "ir/elem.h"
#include "passes/lower/stream.h"

int64_t stream_groups(const Stream *s) {
  int64_t n = 0;
  for (uint32_t p = 0; p < s->parts.n; p++) n += s->parts.chunk * s->parts.width[p] / 32;
  return n;
}

typedef struct Packer {
  const Stream *s;
  Module *m;
  uint8_t *to;
} Packer;

// The code of column n at place i of block b, 0 where there is none.
static uint32_t code_at(const Packer *p, int64_t b, int64_t i, int64_t n) {
  const LowBit *w = &p->s->w;
  int64_t k = b * w->block + i;
  return i < w->block && k < w->k && n < w->n ? lowbit_code(p->m, w, k, n) : 0;
}

// Four bytes of one lane: `shift` and `width` of the fields, which begin at place `i` of block b.
static void pack_lane(Packer *p, int64_t b, int64_t i, int64_t n, uint32_t shift, uint32_t width) {
  for (int64_t byte = 0; byte < 4; byte++) {
    uint32_t v = 0;
    for (uint32_t f = 0; f < 8 / width; f++)
      v |= (code_at(p, b, i + 4 * f + byte, n) >> shift & ((1U << width) - 1)) << (f * width);
    *p->to++ = (uint8_t)v;
  }
}

// One chunk of `vectors` vectors of columns from `first` on.
static void pack_chunk(Packer *p, int64_t b, int64_t i, int64_t first, int64_t vectors) {
  const Stream *s = p->s;
  uint32_t shift = 0;
  int64_t columns = s->w.n - first < vectors * s->lanes ? s->w.n - first : vectors * s->lanes;
  for (uint32_t part = 0; part < s->parts.n; part++) {
    uint32_t width = s->parts.width[part];
    for (int64_t at = 0; at < s->parts.chunk; at += 32 / width)
      for (int64_t lane = 0; lane < columns; lane++) pack_lane(p, b, i + at, first + lane, shift, width);
    shift += width;
  }
}

Value *stream_pack(const Stream *s) {
  Module *m = s->ctx->m;
  int64_t chunks = s->blocks * s->padded / s->parts.chunk, count;
  if (!dims_count(3, (int64_t[]){s->w.n, chunks, stream_groups(s)}, &count)) return NULL;
  count += s->vectors * s->lanes - s->w.n;
  const Type *t = type_tensor(m->types, DT_U32, 1, &count);
  uint8_t *bytes = arena_alloc(m->arena, (size_t)type_bytes(t));
  Packer p = {s, m, bytes};
  for (int64_t v = 0; v < s->vectors; v += s->g) {
    int64_t have = s->vectors - v < s->g ? s->vectors - v : s->g;
    for (int64_t b = 0; b < s->blocks; b++)
      for (int64_t i = 0; i < s->padded; i += s->parts.chunk) pack_chunk(&p, b, i, v * s->lanes, have);
  }
  return const_borrowed(m, t, bytes, s->w.q->name);
}

Value *stream_pack_param(const Stream *s, const LowBitParam *param, bool minus_zero) {
  Module *m = s->ctx->m;
  int64_t count = s->vectors * s->lanes * s->blocks, at = 0;
  const Type *t = type_tensor(m->types, minus_zero ? DT_I16 : DT_F32, 1, &count);
  void *data = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t v = 0; v < s->vectors; v += s->g) {
    int64_t have = (s->vectors - v < s->g ? s->vectors - v : s->g) * s->lanes;
    for (int64_t b = 0; b < s->blocks; b++)
      for (int64_t lane = 0; lane < have; lane++, at++) {
        int64_t n = v * s->lanes + lane;
        double x = n < s->w.n ? lowbit_param(m, param, b, n) : 0;
        elem_set_f(data, t->dtype, at, minus_zero ? (double)s->w.lo - x : x);
      }
  }
  return const_borrowed(m, t, data, param->at->name);
}
