// See split.h.
#include "passes/compress/split.h"

#include <math.h>
#include <stdlib.h>

#define ROUGH_ERROR 1e-5  // errors below are not told from rounding by svd_values_rough

#define ROUNDING 1e-11  // of the squares: what is lost below is the same

typedef struct Ranked {
  const Split *split;
  double score;
} Ranked;

static int by_macs(const void *a, const void *b) {
  const Split *x = a, *y = b;
  if (x->macs != y->macs) return x->macs < y->macs ? -1 : 1;
  for (uint32_t i = 0; i < sizeof x->key / sizeof *x->key; i++)
    if (x->key[i] != y->key[i]) return x->key[i] < y->key[i] ? -1 : 1;
  return 0;
}

// Keeps the SPLIT_BEST lowest scores in order.
static void ranked_add(Ranked *best, uint32_t *n, Ranked one) {
  uint32_t i = *n < SPLIT_BEST ? (*n)++ : SPLIT_BEST;
  for (; i > 0 && best[i - 1].score > one.score; i--)
    if (i < SPLIT_BEST) best[i] = best[i - 1];
  if (i < SPLIT_BEST) best[i] = one;
}

static int64_t least(const Split *s) { return s->rows < s->cols ? s->rows : s->cols; }

// Arithmetic at the rank asked for, or what is lost at a rank given. False: no gain, or no values.
static bool score_of(const FactorLayer *l, const Split *s, const double *a, const FactorAsk *ask, double *score,
                     Arena *arena) {
  int64_t n = least(s), ranks[2];
  double *values = NEW_ARRAY(arena, double, n), *tail = NEW_ARRAY(arena, double, n + 1);
  bool fine = ask->by == ASK_ERROR && ask->value < ROUGH_ERROR;
  if (!(fine ? svd_values : svd_values_rough)(s->rows, s->cols, a, arena, values)) return false;
  tail_add(n, values, tail);
  ranks_asked(ask, (AskStep){0, 1, l->norm2, 0}, n, tail, ranks);
  double macs = s->macs * (double)ranks[0];
  *score = ask->by == ASK_RANK ? fmax(tail[ranks[0]], ROUNDING * l->norm2) : macs;
  return ask->by == ASK_RANK || macs < layer_macs(l);
}

static uint32_t search(const FactorLayer *l, const Splits *splits, const SplitScheme *scheme, const FactorAsk *ask,
                       double *a, Ranked *best, Arena *arena) {
  double spent = 0;
  uint32_t n = 0;
  for (uint32_t i = 0; i < splits->n; i++) {
    const Split *s = &splits->at[i];
    double cost = svd_values_rough_cost(s->rows, s->cols);
    if (spent + cost > SEARCH_LIMIT) continue;
    spent += cost;
    ArenaMark mark = arena_mark(arena);
    Ranked one = {s, 0};
    scheme->arrange(l, s, a);
    if (score_of(l, s, a, ask, &one.score, arena)) ranked_add(best, &n, one);
    arena_reset(arena, mark);
  }
  return n;
}

void split_forms(const FactorLayer *l, Splits *splits, const SplitScheme *scheme, const FactorAsk *ask, Forms *out) {
  Ranked best[SPLIT_BEST] = {{splits->at, 0}};
  double *a = NEW_ARRAY(out->arena, double, l->n_w);
  uint32_t n = splits->n;
  if (n > 0) qsort(splits->at, n, sizeof *splits->at, by_macs);
  if (n > 1) n = search(l, splits, scheme, ask, a, best, out->arena);
  if (n == 0) forms_none(out, "no split of it takes fewer operations");
  for (uint32_t i = 0; i < n; i++) {
    const Split *s = best[i].split;
    Svd d;
    int64_t ranks[2];
    scheme->arrange(l, s, a);
    if (!scheme_svd_of(s->rows, s->cols, a, out, &d)) continue;
    double *tail = NEW_ARRAY(out->arena, double, d.n + 1);
    tail_add(d.n, d.s, tail);
    ranks_asked(ask, (AskStep){0, 1, l->norm2, 0}, d.n, tail, ranks);
    scheme->add(l, s, &d, ranks[0], tail[ranks[0]], out);
  }
}
