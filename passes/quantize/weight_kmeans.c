// Levels of least squares (S42): the sorted weights are cut into as many runs as there are levels, by dynamic
// programming, and a level is the mean of its run.
//
// Exact up to 4,096 different weights. Beyond, neighbours in the sorted order are first put together (4,096 runs of as
// many weights), and the cuts found among those are settled by Lloyd's iteration over all weights, which never loses
// more. With `zeros`, weights that are 0 keep a level and the others share the rest.
#include <math.h>

#include "passes/quantize/weights.h"

enum { RUNS = 4096, ROUNDS = 100 };

typedef struct Sorted {
  int64_t n;
  const float *v;
  double *sum, *squares;  // of the first i
} Sorted;

typedef struct Runs {
  const Sorted *s;
  uint32_t n;
  const int64_t *end;    // run i is [end[i], end[i + 1])
  double *before, *now;  // least loss of the first i runs with one level less, and with this one
  uint32_t *cut;         // levels x (n + 1): where the last level begins
} Runs;

// What the weights [from, to) lose by their mean.
static double loss(const Sorted *s, int64_t from, int64_t to) {
  double sum = s->sum[to] - s->sum[from];
  return to > from ? fmax(0, s->squares[to] - s->squares[from] - sum * sum / (double)(to - from)) : 0;
}

// Best last cuts for the first lo .. hi runs; cuts rise with the runs, so the middle one bounds the others.
typedef struct Span {
  uint32_t lo, hi, first, last;
} Span;

static void solve_row(Runs *r, uint32_t level, Arena *arena) {
  VEC(Span) todo = {0};
  vec_push(arena, &todo, ((Span){level + 1, r->n, level, r->n - 1}));
  while (todo.n > 0) {
    Span s = todo.at[--todo.n];
    if (s.lo > s.hi) continue;
    uint32_t mid = (s.lo + s.hi) / 2, best = s.first;
    double least = INFINITY;
    for (uint32_t c = s.first; c <= s.last && c < mid; c++) {
      double e = r->before[c] + loss(r->s, r->end[c], r->end[mid]);
      if (e >= least) continue;
      least = e;
      best = c;
    }
    r->now[mid] = least;
    r->cut[level * (r->n + 1) + mid] = best;
    if (mid > s.lo) vec_push(arena, &todo, ((Span){s.lo, mid - 1, s.first, best}));
    if (mid < s.hi) vec_push(arena, &todo, ((Span){mid + 1, s.hi, best, s.last}));
  }
}

// cuts[0 .. levels]: where the levels begin, in weights.
static void solve(Runs *r, uint32_t levels, int64_t *cuts, Arena *arena) {
  for (uint32_t i = 0; i <= r->n; i++) r->now[i] = loss(r->s, 0, r->end[i]);
  for (uint32_t level = 1; level < levels; level++) {
    double *t = r->before;
    r->before = r->now;
    r->now = t;
    solve_row(r, level, arena);
  }
  uint32_t at = r->n;
  for (uint32_t level = levels; level-- > 0;) {
    cuts[level + 1] = r->end[at];
    at = level > 0 ? r->cut[level * (r->n + 1) + at] : 0;
  }
  cuts[0] = 0;
}

static double mean(const Sorted *s, int64_t from, int64_t to) {
  return (s->sum[to] - s->sum[from]) / (double)(to - from);
}

// First weight above the middle of two levels.
static int64_t search(const Sorted *s, double middle) {
  int64_t lo = 0, hi = s->n;
  while (lo < hi) {
    int64_t mid = (lo + hi) / 2;
    if ((double)s->v[mid] <= middle) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

// Lloyd's iteration: cuts in the middle of levels, levels at the means between cuts.
static void settle(const Sorted *s, uint32_t levels, int64_t *cuts) {
  bool moved = true;
  for (int round = 0; round < ROUNDS && moved; round++) {
    moved = false;
    double below = mean(s, cuts[0], cuts[1]);
    for (uint32_t i = 1; i < levels; i++) {
      double above = mean(s, cuts[i], cuts[i + 1]);
      int64_t at = search(s, below / 2 + above / 2);
      if (at != cuts[i] && at > cuts[i - 1] && at < cuts[i + 1]) {
        cuts[i] = at;
        moved = true;
      }
      below = above;
    }
  }
}

// Ends of runs of equal weights where there are few, else of as many neighbours each; equal weights stay together.
static uint32_t cut_runs(const Sorted *s, int64_t *end) {
  int64_t distinct = 0;
  uint32_t n = 0;
  for (int64_t i = 0; i < s->n; i++) distinct += i == 0 || s->v[i] != s->v[i - 1];
  int64_t least = distinct <= RUNS ? 1 : s->n / RUNS + 1;
  end[0] = 0;
  for (int64_t i = 1; i <= s->n; i++)
    if (i == s->n || (s->v[i] != s->v[i - 1] && i - end[n] >= least)) end[++n] = i;
  return n;
}

// The levels of ascending weights, ascending; returns how many.
static uint32_t levels_of(int64_t n, const float *v, uint32_t levels, float *book, Arena *arena) {
  Sorted s = {.n = n, .v = v, .sum = NEW_ARRAY(arena, double, n + 1), .squares = NEW_ARRAY(arena, double, n + 1)};
  for (int64_t i = 0; i < n; i++) {
    s.sum[i + 1] = s.sum[i] + (double)v[i];
    s.squares[i + 1] = s.squares[i] + (double)v[i] * (double)v[i];
  }
  int64_t *end = NEW_ARRAY(arena, int64_t, RUNS + 2), *cuts = NEW_ARRAY(arena, int64_t, levels + 1);
  Runs r = {.s = &s, .end = end};
  r.n = cut_runs(&s, end);
  if (levels > r.n) levels = r.n;
  r.before = NEW_ARRAY(arena, double, r.n + 1);
  r.now = NEW_ARRAY(arena, double, r.n + 1);
  r.cut = NEW_ARRAY(arena, uint32_t, (int64_t)levels *(r.n + 1));
  solve(&r, levels, cuts, arena);
  settle(&s, levels, cuts);
  for (uint32_t i = 0; i < levels; i++) book[i] = (float)mean(&s, cuts[i], cuts[i + 1]);
  return levels;
}

bool weight_kmeans(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  (void)why;
  float *book = NEW_ARRAY(arena, float, s->levels);
  ArenaMark mark = arena_mark(arena);
  float *v = group_sorted(g, arena);
  int64_t n = g->n;
  if (s->zeros) {
    n = 0;
    for (int64_t i = 0; i < g->n; i++)
      if (v[i] != 0) v[n++] = v[i];
  }
  bool zero = n < g->n;
  uint32_t levels = n > 0 ? levels_of(n, v, s->levels - zero, book, arena) : 0;
  arena_reset(arena, mark);
  if (zero) book[levels++] = 0;
  floats_sort(levels, book);
  g->n_book = levels;
  g->book = book;
  group_assign(g);
  return true;
}
