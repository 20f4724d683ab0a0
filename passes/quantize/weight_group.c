// What several schemes do with a group of weights. See weights.h.
#include <math.h>
#include <stdlib.h>

#include "passes/quantize/weights.h"

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

void floats_sort(int64_t n, float *w) {
  if (n > 1) qsort(w, (size_t)n, sizeof *w, compare);
}

float *group_sorted(const WeightGroup *g, Arena *arena) {
  float *v = arena_copy(arena, g->w, (size_t)g->n * sizeof *v);
  floats_sort(g->n, v);
  return v;
}

// First entry of the book that is not below w.
static uint32_t book_search(const WeightGroup *g, float w) {
  uint32_t lo = 0, hi = g->n_book;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (g->book[mid] < w) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

void group_assign(WeightGroup *g) {
  for (int64_t i = 0; i < g->n; i++) {
    uint32_t above = book_search(g, g->w[i]);
    bool lower = above == g->n_book || (above > 0 && (double)g->w[i] - (double)g->book[above - 1] <=
                                                         (double)g->book[above] - (double)g->w[i]);
    g->code[i] = (uint16_t)(lower ? above - 1 : above);
  }
}

void group_grid(WeightGroup *g, double scale, int32_t lo, int32_t step, uint32_t n, int32_t zero, Arena *arena) {
  g->grid = true;
  g->scale = scale > 0 ? (float)scale : 1;
  g->lo = lo;
  g->step = step;
  g->zero = zero;
  g->n_book = n;
  g->book = NEW_ARRAY(arena, float, n);
  for (uint32_t k = 0; k < n; k++) g->book[k] = g->scale * (float)(lo + step * (int32_t)k - zero);
}

double group_error2(const WeightGroup *g) {
  double sum = 0;
  for (int64_t i = 0; i < g->n; i++)
    sum += pow((double)g->w[i] - (double)g->book[g->code[i / g->width] * g->width + i % g->width], 2);
  return sum;
}

double group_best_part(double (*error2)(void *ctx, double part), void *ctx) {
  enum { PARTS = 100, HALVINGS = 12 };
  double best = 1, least = error2(ctx, 1);
  for (int i = 1; i < PARTS; i++) {
    double part = (double)i / PARTS, e = error2(ctx, part);
    if (e < least) {
      least = e;
      best = part;
    }
  }
  for (double width = 0.5 / PARTS; width > 0.5 / PARTS / (1 << HALVINGS); width /= 2) {
    double at[2] = {best - width, fmin(1, best + width)};
    for (int i = 0; i < 2; i++) {
      double e = error2(ctx, at[i]);
      if (e >= least) continue;
      least = e;
      best = at[i];
    }
  }
  return best;
}
