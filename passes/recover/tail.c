// The reference between quantised sums and bytes, its boundaries and the factors written in it. See tail.h.
#include "passes/recover/tail.h"

#include <math.h>

#include "ir/elem.h"

static double clamped(double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; }

// The level of a float before the links.
static int64_t level_of(const Tail *t, int64_t c, double v) {
  for (uint32_t i = 0; i < t->n_links; i++) {
    const TailLink *l = &t->link[i];
    double args[3] = {v};
    for (uint32_t k = 0; k < l->n_by; k++) args[1 + k] = l->by[l->per_channel ? c : k];
    v = kop_eval_f(l->op, args);
  }
  double q = v / t->out_scale, zero = (double)t->out_zero;
  q = t->zero_first ? nearbyint(q + zero) : nearbyint(q) + zero;
  return (int64_t)clamped(q, (double)t->out_min, (double)t->out_max);
}

int64_t tail_eval(const Tail *t, int64_t c, int64_t sum) {
  return level_of(t, c, (double)sum * t->scale[c] + (t->bias ? t->bias[c] : 0));
}

// ---- boundaries

// Smallest sum in (lo, hi] that reaches level k; the reference is below k at lo and not below at hi.
static int64_t boundary(const Tail *t, int64_t c, int64_t k, int64_t lo, int64_t hi, int64_t step) {
  while (hi - lo > 2 * step && tail_eval(t, c, lo + step) < k) lo += step;
  if (hi - lo > step && tail_eval(t, c, lo + step) >= k) hi = lo + step;
  while (hi - lo > 1) {
    int64_t mid = lo + (hi - lo) / 2;
    if (tail_eval(t, c, mid) >= k) {
      hi = mid;
    } else {
      lo = mid;
    }
  }
  return hi;
}

static Boundaries bounds_of(const Tail *t, int64_t c, Arena *arena) {
  int64_t lo = t->lo[c], hi = t->hi[c], from = tail_eval(t, c, lo), to = tail_eval(t, c, hi);
  Boundaries b = {.lo = lo, .hi = hi, .first = from, .n = to > from ? to - from : 0};
  b.at = NEW_ARRAY(arena, int64_t, b.n + 1);
  int64_t step = 1 + (int64_t)clamped(t->out_scale / t->scale[c] * 1.05, 0, (double)(hi - lo));
  for (int64_t i = 0; i < b.n; i++) {
    int64_t level = from + 1 + i;
    if (i > 0 && tail_eval(t, c, b.at[i - 1]) >= level) {
      b.at[i] = b.at[i - 1];
    } else {
      b.at[i] = boundary(t, c, level, i > 0 ? b.at[i - 1] : lo, hi, step);
    }
  }
  return b;
}

// Multiplier and summand read off the network; limits are no part of them.
static void written_pair(const Tail *t, int64_t c, double *mul, double *add) {
  *mul = t->scale[c];
  *add = t->bias ? t->bias[c] : 0;
  for (uint32_t i = 0; i < t->n_links; i++) {
    const TailLink *l = &t->link[i];
    double by = l->n_by == 1 ? l->by[l->per_channel ? c : 0] : 0;
    bool scales = l->op == KOP_MUL || l->op == KOP_DIV;
    if (scales) *mul = l->op == KOP_MUL ? *mul * by : *mul / by;
    if (scales) *add = l->op == KOP_MUL ? *add * by : *add / by;
    if (l->op == KOP_ADD || l->op == KOP_SUB) *add += l->op == KOP_ADD ? by : -by;
  }
  *mul /= t->out_scale;
  *add /= t->out_scale;
}

bool tail_requant(const Tail *t, Arena *arena, Requant *out) {
  int64_t n = t->channels;
  Boundaries *b = NEW_ARRAY(arena, Boundaries, n);
  int64_t *low = NEW_ARRAY(arena, int64_t, n), *high = NEW_ARRAY(arena, int64_t, n);
  double *mul = NEW_ARRAY(arena, double, n), *add = NEW_ARRAY(arena, double, n);
  for (int64_t c = 0; c < n; c++) {
    if (!(t->scale[c] > 0) || !isfinite(t->scale[c])) return false;
    b[c] = bounds_of(t, c, arena);
    low[c] = level_of(t, c, -3e38);
    high[c] = level_of(t, c, 3e38);
    written_pair(t, c, &mul[c], &add[c]);
    add[c] += (double)t->out_zero;
  }
  RequantProblem p = {.channels = n, .b = b, .low = low, .high = high, .mul = mul, .add = add, .shift = t->shift};
  p.zero = t->out_zero;
  p.target = t->target;
  p.forms = 1u << REQUANT_F32 | 1u << REQUANT_SPLIT | 1u << REQUANT_WHOLE | 1u << REQUANT_F64;
  return requant_find(&p, arena, out);
}
