// Magnitude pruning: the choice of weights, by part, threshold, N of M and blocks (S41). See prune.h.
#include <math.h>

#include "passes/compress/prune.h"

static void swap(double *a, double *b) {
  double t = *a;
  *a = *b;
  *b = t;
}

// The k-th smallest (k from 0) of v, which is put in another order.
static double kth_smallest(double *v, int64_t n, int64_t k) {
  int64_t lo = 0, hi = n - 1;
  while (lo < hi) {
    double pivot = v[lo + (hi - lo) / 2];
    int64_t i = lo, j = hi;
    while (i <= j) {
      while (v[i] < pivot) i++;
      while (v[j] > pivot) j--;
      if (i <= j) swap(&v[i++], &v[j--]);
    }
    if (k <= j) {
      hi = j;
    } else if (k >= i) {
      lo = i;
    } else {
      break;
    }
  }
  return v[k];
}

// Marks the `count` smallest of `score`, of equal ones the first.
static void mark_smallest(const double *score, int64_t n, int64_t count, bool *mark, Arena *arena) {
  if (count <= 0) return;
  double *order = arena_copy(arena, score, (size_t)n * sizeof *score);
  double last = kth_smallest(order, n, count - 1);
  int64_t below = 0;
  for (int64_t i = 0; i < n; i++) below += score[i] < last;
  for (int64_t i = 0, ties = count - below; i < n; i++) {
    bool tie = score[i] == last && ties > 0;
    ties -= tie;
    mark[i] = score[i] < last || tie;
  }
}

static int64_t part_of(double part, int64_t n) { return (int64_t)floor(part * (double)n + 0.5); }

static void mark_fraction(const PruneSpec *spec, int64_t n, const double *w, bool *drop, Arena *arena) {
  double *score = NEW_ARRAY(arena, double, n);
  for (int64_t i = 0; i < n; i++) score[i] = fabs(w[i]);
  mark_smallest(score, n, part_of(spec->value, n), drop, arena);
}

// A group that the input channels do not fill keeps as many.
static void mark_n_of_m(const PruneSpec *spec, const PruneShape *s, const double *w, bool *drop, Arena *arena) {
  double *score = NEW_ARRAY(arena, double, spec->m);
  bool *mark = NEW_ARRAY(arena, bool, spec->m);
  ArenaMark scratch = arena_mark(arena);
  for (int64_t o = 0; o < s->out; o++)
    for (int64_t t = 0; t < s->taps; t++)
      for (int64_t first = 0; first < s->in; first += spec->m) {
        int64_t n = s->in - first < spec->m ? s->in - first : spec->m,
                at = o * s->s_out + first * s->s_in + t * s->s_tap;
        for (int64_t i = 0; i < n; i++) score[i] = fabs(w[at + i * s->s_in]);
        for (int64_t i = 0; i < n; i++) mark[i] = false;
        mark_smallest(score, n, n - spec->n, mark, arena);
        for (int64_t i = 0; i < n; i++) drop[at + i * s->s_in] = mark[i];
        arena_reset(arena, scratch);
      }
}

typedef struct Blocks {
  const PruneShape *shape;
  int64_t rows, cols, down, across;  // of one block, blocks per tap
} Blocks;

static int64_t block_of(const Blocks *b, int64_t o, int64_t i, int64_t t) {
  return (t * b->down + o / b->rows) * b->across + i / b->cols;
}

static void mark_blocks(const PruneSpec *spec, const PruneShape *s, const double *w, bool *drop, Arena *arena) {
  Blocks b = {s, spec->rows, spec->cols, (s->out + spec->rows - 1) / spec->rows, (s->in + spec->cols - 1) / spec->cols};
  int64_t n = s->taps * b.down * b.across;
  double *score = NEW_ARRAY(arena, double, n);
  bool *mark = NEW_ARRAY(arena, bool, n);
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t o = 0; o < s->out; o++)
      for (int64_t i = 0; i < s->in; i++)
        for (int64_t t = 0; t < s->taps; t++) {
          int64_t at = o * s->s_out + i * s->s_in + t * s->s_tap, block = block_of(&b, o, i, t);
          if (pass == 0) score[block] += w[at] * w[at];
          if (pass == 1) drop[at] = mark[block];
        }
    if (pass == 0) mark_smallest(score, n, part_of(spec->value, n), mark, arena);
  }
}

int64_t prune_mark(const PruneSpec *spec, const PruneShape *shape, const double *w, bool *drop, double *error2,
                   Arena *arena) {
  int64_t n = shape->out * shape->in * shape->taps, dropped = 0;
  switch (spec->kind) {
    case PRUNE_FRACTION: mark_fraction(spec, n, w, drop, arena); break;
    case PRUNE_N_OF_M: mark_n_of_m(spec, shape, w, drop, arena); break;
    case PRUNE_BLOCKS: mark_blocks(spec, shape, w, drop, arena); break;
    case PRUNE_CHANNELS: break;
    case PRUNE_THRESHOLD:
      for (int64_t i = 0; i < n; i++) drop[i] = fabs(w[i]) < spec->value;
  }
  *error2 = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!drop[i]) continue;
    *error2 += w[i] * w[i];
    dropped++;
  }
  return dropped;
}
