// Packing of weights for the strategy sparse. See sparse.h.
//
//   O = 2, one part:  [0 5 0; 7 0 8]  =>  values 7 8 5   places 0 2P P   first 0 2 3   order 1 0
#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"
#include "passes/lower/sparse.h"

typedef struct SparseRow {
  int64_t o, count;
} SparseRow;

// Most entries first, then in order.
static int compare_rows(const void *a, const void *b) {
  const SparseRow *x = a, *y = b;
  if (x->count != y->count) return x->count < y->count ? 1 : -1;
  return x->o < y->o ? -1 : x->o > y->o;
}

typedef struct SparsePacker {
  const SparseLower *l;
  const void *w;
  uint32_t *values;  // the bits of floats, or four bytes
  int32_t *places;
  int64_t n;
} SparsePacker;

// Channels of the part that filter o reads, as channels of its group.
static void part_channels(const Sparse *s, int64_t o, int64_t from, int64_t to, int64_t *lo, int64_t *hi) {
  int64_t width = s->c / s->group, base = o / (s->o / s->group) * width;
  *lo = from > base ? from - base : 0;
  *hi = to - base < width ? to - base : width;
}

// The entry of filter o at channel c (four of them when bytes); false: zero.
static bool entry_of(const SparsePacker *p, int64_t o, int64_t c, int64_t tap, uint32_t *bits) {
  const Sparse *s = &p->l->s;
  if (s->bytes) {
    *bits = sparse_four(s, p->w, o, c, tap);
    return *bits != 0;
  }
  float w = ((const AnyF32 *)p->w)[sparse_weight_at(s, o, c, tap)];
  memcpy(bits, &w, sizeof w);
  return w != 0;
}

// Counts the entries of a row, and writes them when `write`.
static int64_t pack_row(SparsePacker *p, int64_t o, int64_t part, bool write) {
  const Sparse *s = &p->l->s;
  int64_t from = part * p->l->channels, to = from + p->l->channels, taps = sparse_taps(s), lo, hi, found = 0;
  int64_t base = o / (s->o / s->group) * (s->c / s->group);
  part_channels(s, o, from, to < s->c ? to : s->c, &lo, &hi);
  for (int64_t c = lo; c < hi; c++)
    for (int64_t tap = 0; tap < taps; tap++) {
      uint32_t w;
      if (!entry_of(p, o, c, tap, &w)) continue;
      found++;
      if (!write) continue;
      p->values[p->n] = w;
      p->places[p->n++] = (int32_t)((base + c - from) * p->l->plane + sparse_tap_place(s, tap, p->l->lanes));
    }
  return found;
}

static Value *borrowed(const SparseLower *l, DType t, int64_t n, const void *data, const char *name) {
  return const_borrowed(l->ctx->m, type_tensor(l->ctx->m->types, t, 1, &n), data, name);
}

bool sparse_pack(SparseLower *l) {
  Module *m = l->ctx->m;
  const Sparse *s = &l->s;
  int64_t nonzeros = sparse_nonzeros(m, s), rows;
  if (nonzeros > INT32_MAX - 16 || !dims_count(2, (int64_t[]){l->parts, s->o}, &rows)) return false;
  int64_t room = nonzeros > 0 ? nonzeros : 1, at = 0;
  SparsePacker p = {.l = l, .w = const_data(m, s->w)};
  p.values = NEW_ARRAY(m->arena, uint32_t, room);
  p.places = NEW_ARRAY(m->arena, int32_t, room);
  int32_t *first = NEW_ARRAY(m->arena, int32_t, rows + 1), *order = NEW_ARRAY(m->arena, int32_t, rows);
  int32_t *busy = NEW_ARRAY(m->arena, int32_t, l->parts);
  SparseRow *row = NEW_ARRAY(m->arena, SparseRow, s->o);
  for (int64_t part = 0; part < l->parts; part++) {
    for (int64_t o = 0; o < s->o; o++) row[o] = (SparseRow){o, pack_row(&p, o, part, false)};
    qsort(row, (size_t)s->o, sizeof *row, compare_rows);
    for (int64_t r = 0; r < s->o; r++, at++) {
      first[at] = (int32_t)p.n;
      order[at] = (int32_t)row[r].o;
      busy[part] += row[r].count > 0;
      pack_row(&p, row[r].o, part, true);
    }
  }
  first[rows] = (int32_t)p.n;
  l->nonzeros = (double)nonzeros;
  l->values = borrowed(l, s->bytes ? DT_U32 : DT_F32, room, p.values, s->w->name);
  l->places = borrowed(l, DT_I32, room, p.places, "places");
  l->first = borrowed(l, DT_I32, rows + 1, first, "first");
  l->order = borrowed(l, DT_I32, rows, order, "order");
  l->busy = borrowed(l, DT_I32, l->parts, busy, "busy");
  return true;
}
