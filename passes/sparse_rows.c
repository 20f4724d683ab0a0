// Schedules of products by non-zeros for few rows of x. See sparse_rows.h.
#include "passes/sparse_rows.h"

#include "ir/elem.h"

enum { SAMPLES = 24 };

typedef struct Lanes {
  int64_t n, width;
  int32_t *column;  // [lane][width]
  int64_t *count, *next;
} Lanes;

static float weight(const Sparse *s, const void *w, int64_t o, int64_t c) {
  return ((const AnyF32 *)w)[o * s->w_o + c * s->w_c];
}

static Lanes collect(Arena *arena, const Sparse *s, const void *w, int64_t filter, int64_t lanes) {
  Lanes l = {.n = s->o - filter < lanes ? s->o - filter : lanes, .width = s->c};
  l.column = NEW_ARRAY(arena, int32_t, lanes * s->c);
  l.count = NEW_ARRAY(arena, int64_t, lanes);
  l.next = NEW_ARRAY(arena, int64_t, lanes);
  for (int64_t c = 0; c < s->c; c++)
    for (int64_t i = 0; i < l.n; i++)
      if (weight(s, w, filter + i, c) != 0) l.column[i * l.width + l.count[i]++] = (int32_t)c;
  return l;
}

// The column a lane waits for; the number of columns when it has none left.
static int64_t waiting(const Lanes *l, int64_t lane) {
  return l->next[lane] < l->count[lane] ? l->column[lane * l->width + l->next[lane]] : l->width;
}

int64_t sparse_window(const Sparse *s, const void *w, int64_t filter, int64_t lanes, SparseRows *to) {
  Arena *arena = arena_new("window");
  Lanes l = collect(arena, s, w, filter, lanes);
  int64_t steps = 0;
  for (;; steps++) {
    int64_t base = s->c;
    for (int64_t i = 0; i < l.n; i++) base = waiting(&l, i) < base ? waiting(&l, i) : base;
    if (base == s->c) break;
    if (base > s->c - SPARSE_WINDOW) base = s->c - SPARSE_WINDOW;
    if (to != NULL) *to->at++ = (int32_t)base;
    for (int64_t i = 0; i < lanes; i++) {
      int64_t column = i < l.n ? waiting(&l, i) : s->c;
      bool takes = column < s->c && column < base + SPARSE_WINDOW;
      if (takes) l.next[i]++;
      if (to == NULL) continue;
      *to->values++ = takes ? weight(s, w, filter + i, column) : 0;
      *to->places++ = (uint8_t)(takes ? column - base : 0);
    }
  }
  arena_free(arena);
  return steps;
}

int64_t sparse_blocks(const Sparse *s, const void *w, int64_t filter, int64_t lanes, SparseRows *to) {
  int64_t have = s->o - filter < lanes ? s->o - filter : lanes, steps = 0;
  for (int64_t c = 0; c < s->c; c++) {
    bool any = false;
    for (int64_t i = 0; i < have && !any; i++) any = weight(s, w, filter + i, c) != 0;
    if (!any) continue;
    steps++;
    if (to == NULL) continue;
    *to->at++ = (int32_t)c;
    for (int64_t i = 0; i < lanes; i++) *to->values++ = i < have ? weight(s, w, filter + i, c) : 0;
  }
  for (; steps % SPARSE_FOURS != 0; steps++) {
    if (to == NULL) continue;
    *to->at++ = 0;
    for (int64_t i = 0; i < lanes; i++) *to->values++ = 0;
  }
  return steps;
}

double sparse_steps(Module *m, const Sparse *s, int64_t lanes, bool blocks) {
  const void *w = const_data(m, s->w);
  int64_t groups = (s->o + lanes - 1) / lanes, stride = groups / SAMPLES + 1, seen = 0, steps = 0;
  for (int64_t g = 0; g < groups; g += stride, seen++)
    steps += blocks ? sparse_blocks(s, w, g * lanes, lanes, NULL) : sparse_window(s, w, g * lanes, lanes, NULL);
  return seen > 0 ? (double)steps * (double)groups / (double)seen : 0;
}
