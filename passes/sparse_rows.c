// Schedules of products by non-zeros for few rows of x. See sparse_rows.h.
#include "passes/sparse_rows.h"

#include <string.h>

#include "ir/elem.h"

enum { SAMPLES = 24 };

typedef struct Lanes {
  int64_t n, width;
  int32_t *column;  // [lane][width]
  int64_t *count, *next;
} Lanes;

static int64_t filter_at(const SparseFilters *f, int64_t i) { return f->order != NULL ? f->order[i] : i; }

// The bits of the weight, or the four of them, of filter number i; 0 when it is not among those that are read.
static uint32_t entry(const SparseFilters *f, int64_t i, int64_t c) {
  const Sparse *s = f->s;
  uint32_t bits;
  if (s->bytes) return sparse_four(s, f->w, filter_at(f, i), c, 0);
  float w = ((const AnyF32 *)f->w)[filter_at(f, i) * s->w_o + c * s->w_c];
  if (w == 0) return 0;
  memcpy(&bits, &w, sizeof bits);
  if (f->book == NULL) return bits;
  uint32_t number = sparse_number(f->book, bits);
  return number >= f->lo && number < f->hi ? bits : 0;
}

static Lanes collect(Arena *arena, const SparseFilters *f, int64_t filter, int64_t lanes) {
  const Sparse *s = f->s;
  Lanes l = {.n = s->o - filter < lanes ? s->o - filter : lanes, .width = s->c};
  l.column = NEW_ARRAY(arena, int32_t, lanes * s->c);
  l.count = NEW_ARRAY(arena, int64_t, lanes);
  l.next = NEW_ARRAY(arena, int64_t, lanes);
  for (int64_t c = 0; c < s->c; c++)
    for (int64_t i = 0; i < l.n; i++)
      if (entry(f, filter + i, c) != 0) l.column[i * l.width + l.count[i]++] = (int32_t)c;
  return l;
}

// The column a lane waits for; the number of columns when it has none left.
static int64_t waiting(const Lanes *l, int64_t lane) {
  return l->next[lane] < l->count[lane] ? l->column[lane * l->width + l->next[lane]] : l->width;
}

int64_t sparse_window(const SparseFilters *f, int64_t filter, int64_t lanes, SparseRows *to) {
  Arena *arena = arena_new("window");
  Lanes l = collect(arena, f, filter, lanes);
  int64_t steps = 0, width = f->s->c;
  for (;; steps++) {
    int64_t base = width;
    for (int64_t i = 0; i < l.n; i++) base = waiting(&l, i) < base ? waiting(&l, i) : base;
    if (base == width) break;
    if (base > width - SPARSE_WINDOW) base = width - SPARSE_WINDOW;
    if (to != NULL) *to->at++ = (int32_t)base;
    for (int64_t i = 0; i < lanes; i++) {
      int64_t column = i < l.n ? waiting(&l, i) : width;
      bool takes = column < width && column < base + SPARSE_WINDOW;
      if (takes) l.next[i]++;
      if (to == NULL) continue;
      *to->values++ = takes ? entry(f, filter + i, column) : 0;
      *to->places++ = (uint8_t)(takes ? column - base : 0);
    }
  }
  arena_free(arena);
  return steps;
}

int64_t sparse_blocks(const SparseFilters *f, int64_t filter, int64_t lanes, SparseRows *to) {
  const Sparse *s = f->s;
  int64_t have = s->o - filter < lanes ? s->o - filter : lanes, steps = 0;
  for (int64_t c = 0; c < s->c; c++) {
    bool any = false;
    for (int64_t i = 0; i < have && !any; i++) any = entry(f, filter + i, c) != 0;
    if (!any) continue;
    steps++;
    if (to == NULL) continue;
    *to->at++ = (int32_t)c;
    for (int64_t i = 0; i < lanes; i++) *to->values++ = i < have ? entry(f, filter + i, c) : 0;
  }
  for (; steps % SPARSE_FOURS != 0; steps++) {
    if (to == NULL) continue;
    *to->at++ = 0;
    for (int64_t i = 0; i < lanes; i++) *to->values++ = 0;
  }
  return steps;
}

int32_t *sparse_order(Arena *arena, const Sparse *s, const void *w) {
  SparseCount *of = NEW_ARRAY(arena, SparseCount, s->o);
  int32_t *order = NEW_ARRAY(arena, int32_t, s->o);
  const SparseFilters all = {.s = s, .w = w};
  for (int64_t o = 0; o < s->o; o++) of[o].key = (uint32_t)o;
  for (int64_t c = 0; c < s->c; c++)
    for (int64_t o = 0; o < s->o; o++) of[o].count += entry(&all, o, c) != 0;
  sparse_counts_sort(of, s->o);
  for (int64_t o = 0; o < s->o; o++) order[o] = (int32_t)of[o].key;
  return order;
}

double sparse_steps(const SparseFilters *f, int64_t lanes, int64_t vector, bool blocks) {
  int64_t groups = (f->s->o + lanes - 1) / lanes, stride = groups / SAMPLES + 1, seen = 0;
  double steps = 0;
  for (int64_t g = 0; g < groups; g += stride, seen++) {
    int64_t left = f->s->o - g * lanes, have = left < lanes ? (left + vector - 1) / vector * vector : lanes;
    int64_t n = blocks ? sparse_blocks(f, g * lanes, have, NULL) : sparse_window(f, g * lanes, have, NULL);
    steps += (double)n * (double)have / (double)lanes;
  }
  return seen > 0 ? steps * (double)groups / (double)seen : 0;
}
