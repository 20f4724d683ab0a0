// Requantisation found by search against the reference. See tail.h.
//
// Per channel the level boundaries of the reference are found by bisection. Candidates are (1) the factors read off the
// network and (2) the pair of factors with the largest margin to all boundaries: for a fixed multiplier the summand
// lies in an interval whose length is concave in the multiplier. A candidate counts when it separates T[k] - 1 from
// T[k] for every k, and agrees at both ends of the range; as it is monotone too, it then agrees everywhere. It is
// evaluated with and without fused multiply-add, because a target may do either.
#include "passes/recover/tail.h"

#include <math.h>
#include <string.h>

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

typedef struct Bounds {
  int64_t first, n;  // levels first .. first + n - 1 have a boundary
  int64_t *at;       // smallest sum that reaches the level
} Bounds;

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

static Bounds bounds_of(const Tail *t, int64_t c, Arena *arena) {
  int64_t lo = t->lo[c], hi = t->hi[c], from = tail_eval(t, c, lo), to = tail_eval(t, c, hi);
  Bounds b = {.first = from + 1, .n = to > from ? to - from : 0};
  b.at = NEW_ARRAY(arena, int64_t, b.n + 1);
  int64_t step = 1 + (int64_t)clamped(t->out_scale / t->scale[c] * 1.05, 0, (double)(hi - lo));
  for (int64_t i = 0; i < b.n; i++) {
    if (i > 0 && tail_eval(t, c, b.at[i - 1]) >= b.first + i) {
      b.at[i] = b.at[i - 1];
    } else {
      b.at[i] = boundary(t, c, b.first + i, i > 0 ? b.at[i - 1] : lo, hi, step);
    }
  }
  return b;
}

// ---- candidates

typedef struct Pair {
  DType type;
  double mul, add;
  int64_t shift, low, high, zero;
} Pair;

static int64_t pair_level(const Pair *p, double v) {
  return (int64_t)clamped(nearbyint(v) + (double)p->zero, (double)p->low, (double)p->high);
}

// Is the level at the sum `k`, or on the side of k that `sign` says, however the multiply-add is rounded?
static bool pair_holds(const Pair *p, int64_t sum, int64_t k, int sign) {
  double x = elem_round(p->type, (double)(sum + p->shift)), v[2];
  if (p->type == DT_F32) {
    v[0] = (double)fmaf((float)x, (float)p->mul, (float)p->add);
    v[1] = (double)((float)((float)x * (float)p->mul) + (float)p->add);
  } else {
    v[0] = fma(x, p->mul, p->add);
    v[1] = x * p->mul + p->add;
  }
  for (int i = 0; i < 2; i++) {
    int64_t q = pair_level(p, v[i]);
    if (sign == 0 ? q != k : sign > 0 ? q < k : q >= k) return false;
  }
  return true;
}

static bool pair_fits(const Tail *t, int64_t c, const Bounds *b, const Pair *p) {
  if (!(p->mul >= 0) || !isfinite(p->mul) || !isfinite(p->add)) return false;
  if (!pair_holds(p, t->lo[c], tail_eval(t, c, t->lo[c]), 0)) return false;
  if (!pair_holds(p, t->hi[c], tail_eval(t, c, t->hi[c]), 0)) return false;
  for (int64_t i = 0; i < b->n; i++) {
    if (!pair_holds(p, b->at[i], b->first + i, 1) || !pair_holds(p, b->at[i] - 1, b->first + i, -1)) return false;
  }
  return true;
}

// Interval of summands that separate every boundary at this multiplier; its length may be negative.
static double summand(const Bounds *b, const Pair *p, double mul, double *middle) {
  double lo = -INFINITY, hi = INFINITY;
  for (int64_t i = 0; i < b->n; i++) {
    double half = (double)(b->first + i - p->zero) - 0.5, x = (double)(b->at[i] + p->shift);
    lo = fmax(lo, half - mul * x);
    hi = fmin(hi, half - mul * (x - 1));
  }
  *middle = (lo + hi) / 2;
  return hi - lo;
}

// The multiplier with the longest interval, by golden section.
static double widest(const Bounds *b, const Pair *p, double lo, double hi) {
  double unused;
  for (int i = 0; i < 90; i++) {
    double x = hi - (hi - lo) * 0.618033988749895, y = lo + (hi - lo) * 0.618033988749895;
    if (summand(b, p, x, &unused) < summand(b, p, y, &unused)) {
      lo = x;
    } else {
      hi = y;
    }
  }
  return (lo + hi) / 2;
}

// Rounds the pair to its type, the summand again in the middle of what the rounded multiplier allows.
static bool try_fitted(const Tail *t, int64_t c, const Bounds *b, Pair *p, double mul) {
  p->mul = elem_round(p->type, mul);
  double middle;
  if (summand(b, p, p->mul, &middle) <= 0) return false;
  p->add = elem_round(p->type, middle);
  return pair_fits(t, c, b, p);
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

// The pair for one channel; `shifted` asks for the bias as a shift of the sum and no summand.
static bool pair_find(const Tail *t, int64_t c, const Bounds *b, bool shifted, Pair *p) {
  double factor, add;
  written_pair(t, c, &factor, &add);
  double inside = (double)(t->out_zero - p->zero);
  p->shift = shifted ? t->shift[c] : 0;
  p->add = shifted ? inside : elem_round(p->type, add + inside);
  for (int ulp = 0; ulp < 9; ulp++) {  // 0, +1, -1, +2, ...
    double near = factor * (1 + (ulp % 2 ? 1 : -1) * (double)((ulp + 1) / 2) * (p->type == DT_F32 ? 0x1p-24 : 0x1p-30));
    p->mul = elem_round(p->type, near);
    if (pair_fits(t, c, b, p)) return true;
  }
  if (shifted) return false;
  if (b->n == 0) {
    p->mul = 0;
    p->add = (double)(tail_eval(t, c, t->lo[c]) - p->zero);
    return pair_fits(t, c, b, p);
  }
  double mul = widest(b, p, factor * 0.5, factor * 1.5);
  for (int ulp = 0; ulp < 5; ulp++) {
    double near = mul * (1 + (ulp % 2 ? 1 : -1) * (double)((ulp + 1) / 2) * 0x1p-24);
    if (try_fitted(t, c, b, p, near)) return true;
  }
  return false;
}

static bool requant_as(const Tail *t, const Bounds *b, DType type, bool shifted, int64_t zero, Requant *out) {
  out->type = type;
  out->shifted = shifted;
  out->zero = zero;
  out->boundaries = 0;
  for (int64_t c = 0; c < t->channels; c++) {
    Pair p = {.type = type, .low = out->low[c], .high = out->high[c], .zero = zero};
    if (!pair_find(t, c, &b[c], shifted, &p)) return false;
    out->mul[c] = p.mul;
    out->add[c] = p.add;
    out->boundaries += b[c].n;
  }
  return true;
}

bool tail_requant(const Tail *t, Arena *arena, Requant *out) {
  Bounds *b = NEW_ARRAY(arena, Bounds, t->channels);
  *out = (Requant){.mul = NEW_ARRAY(arena, double, t->channels), .add = NEW_ARRAY(arena, double, t->channels)};
  out->low = NEW_ARRAY(arena, int64_t, t->channels);
  out->high = NEW_ARRAY(arena, int64_t, t->channels);
  for (int64_t c = 0; c < t->channels; c++) {
    if (!(t->scale[c] > 0) || !isfinite(t->scale[c])) return false;
    b[c] = bounds_of(t, c, arena);
    out->low[c] = level_of(t, c, -3e38);
    out->high[c] = level_of(t, c, 3e38);
  }
  // The zero point inside of the summand costs nothing, but may turn ties around.
  static const DType types[2] = {DT_F32, DT_F64};
  for (int i = 0; i < 8; i++) {
    bool shifted = i % 4 < 2 && t->shift != NULL;
    if (i % 4 < 2 && !shifted) continue;
    if (requant_as(t, b, types[i / 4], shifted, i % 2 ? t->out_zero : 0, out)) return true;
  }
  return false;
}
