// Balanced levels (S51): the sorted weights are cut into 2^b bins of as many weights (one more or less), bin q is the
// level s (2 q - n) with n = 2^b - 1, and s is what loses least by squares. Of equal weights the first in the file come
// first. What is evened out is the use of the levels, not the error.
#include <math.h>
#include <stdlib.h>

#include "passes/quantize/weights.h"

typedef struct Placed {
  float w;
  int64_t at;
} Placed;

static int compare(const void *a, const void *b) {
  const Placed *x = a, *y = b;
  if (x->w != y->w) return x->w < y->w ? -1 : 1;
  return (x->at > y->at) - (x->at < y->at);
}

bool weight_balanced(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  int32_t n = (1 << s->bits) - 1;
  double product = 0, squares = 0;
  ArenaMark mark = arena_mark(arena);
  Placed *v = NEW_ARRAY(arena, Placed, g->n);
  for (int64_t i = 0; i < g->n; i++) v[i] = (Placed){g->w[i], i};
  qsort(v, (size_t)g->n, sizeof *v, compare);
  for (int64_t i = 0; i < g->n; i++) {
    int64_t q = i * (n + 1) / g->n;
    double t = (double)(2 * q - n);
    g->code[v[i].at] = (uint16_t)q;
    product += t * (double)v[i].w;
    squares += t * t;
  }
  arena_reset(arena, mark);
  if (product <= 0) {  // all weights are equal: there is nothing to even out
    for (int64_t i = 0; i < g->n; i++) g->code[i] = 0;
    g->n_book = 1;
    g->book = arena_copy(arena, g->w, sizeof *g->w);
    return true;
  }
  group_grid(g, product / squares, -n, 2, (uint32_t)n + 1, 0, arena);
  g->grid = n <= INT8_MAX;
  return true;
}
