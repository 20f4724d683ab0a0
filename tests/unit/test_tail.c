// Requantisation found by search: what it computes equals the reference at every sum, and what can't be is refused.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/recover/tail.h"

enum { CHANNELS = 6, RANGE = 9000 };

static uint32_t next(uint64_t *seed, uint32_t below) {
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*seed >> 33) % below;
}

static double multiply_add(const Requant *r, double x, double m, double a, bool fused) {
  if (r->form == REQUANT_F64) return fused ? fma(x, m, a) : x * m + a;
  return fused ? (double)fmaf((float)x, (float)m, (float)a) : (double)((float)((float)x * (float)m) + (float)a);
}

// What the ops of the form give, all multiply-adds fused or none.
static int64_t computed(const Requant *r, const Tail *t, int64_t c, int64_t sum, bool fused) {
  int64_t shifted = sum + (r->shifted ? t->shift[c] : 0);
  if (r->form == REQUANT_WHOLE) {
    double by = r->mul[c], add = r->add[c] + REQUANT_ROUNDER,
           y = fused ? fma((double)shifted, by, add) : (double)shifted * by + add;
    int64_t bits;
    memcpy(&bits, &y, sizeof bits);
    int64_t q = (int32_t)(uint32_t)bits;
    return q < r->low[c] ? r->low[c] : q > r->high[c] ? r->high[c] : q;
  }
  double x = r->form == REQUANT_F64 ? (double)shifted : (double)(float)shifted, v = r->add[c];
  if (r->form == REQUANT_SPLIT) v = multiply_add(r, x, r->mul_low[c], v, fused);
  double q = nearbyint(multiply_add(r, x, r->mul[c], v, fused)) + (double)r->zero;
  return (int64_t)fmin(fmax(q, (double)r->low[c]), (double)r->high[c]);
}

static void check_all(const Tail *t, const Requant *r, uint64_t seed) {
  for (int64_t c = 0; c < t->channels; c++) {
    for (int64_t sum = t->lo[c]; sum <= t->hi[c]; sum++) {
      int64_t want = tail_eval(t, c, sum);
      for (int fused = 0; fused < 2; fused++) {
        int64_t got = computed(r, t, c, sum, fused);
        cr_assert(got == want, "seed %llu channel %lld sum %lld: %lld, not %lld", (unsigned long long)seed,
                  (long long)c, (long long)sum, (long long)got, (long long)want);
      }
    }
  }
}

typedef struct Data {
  double scale[CHANNELS], bias[CHANNELS], by[CHANNELS], clip[2];
  int64_t shift[CHANNELS], lo[CHANNELS], hi[CHANNELS];
} Data;

// Scales are powers of two in every second case, so that sums fall on ties.
static Tail random_tail(Data *d, uint64_t *seed) {
  bool ties = next(seed, 2) == 0, whole = next(seed, 2) == 0, is_signed = next(seed, 2) == 0;
  Tail t = {.channels = CHANNELS, .scale = d->scale, .bias = d->bias, .lo = d->lo, .hi = d->hi};
  for (int c = 0; c < CHANNELS; c++) {
    d->scale[c] = ties ? ldexp(1, -(int)next(seed, 6) - 3) : 0.0001 + next(seed, 1000) * 3.7e-5;
    d->shift[c] = (int64_t)next(seed, 4000) - 2000;
    d->bias[c] = whole ? (double)(float)((double)d->shift[c] * d->scale[c]) : (double)(float)next(seed, 1000) / 77 - 6;
    d->by[c] = 0.25 + next(seed, 40) * 0.125;
    d->lo[c] = -(int64_t)next(seed, RANGE);
    d->hi[c] = next(seed, RANGE);
  }
  if (whole) t.shift = d->shift;
  if (next(seed, 2)) t.link[t.n_links++] = (TailLink){.op = KOP_RELU};
  if (next(seed, 3) == 0) t.link[t.n_links++] = (TailLink){KOP_MUL, 1, d->by, true};
  if (next(seed, 3) == 0) t.link[t.n_links++] = (TailLink){KOP_ADD, 1, d->by, false};
  d->clip[0] = 0;
  d->clip[1] = 6;
  if (next(seed, 3) == 0) t.link[t.n_links++] = (TailLink){KOP_CLIP, 2, d->clip, false};
  t.out_scale = ties ? ldexp(1, -(int)next(seed, 4)) : 0.01 + next(seed, 100) * 0.0017;
  t.out_min = is_signed ? -128 : 0;
  t.out_max = is_signed ? 127 : 255;
  t.out_zero = t.out_min + next(seed, 256);
  t.zero_first = next(seed, 4) == 0;
  return t;
}

Test(tail, equals_the_reference_everywhere) {
  uint32_t found = 0, total = 300;
  for (uint64_t i = 1; i <= total; i++) {
    Arena *arena = arena_new("tail");
    uint64_t seed = i * 7919;
    Data d;
    Tail t = random_tail(&d, &seed);
    Requant r;
    if (tail_requant(&t, arena, &r)) {
      check_all(&t, &r, i);
      found++;
    }
    arena_free(arena);
  }
  cr_assert(found * 10 >= total * 9, "only %u of %u tails have factors", found, total);
}

// A kink inside the range: no line separates all boundaries.
Test(tail, refuses_what_is_no_line) {
  Arena *arena = arena_new("tail");
  double scale = 0.5, by = 100, half = 0.5;
  int64_t lo = -1000, hi = 1000;
  Tail t = {.channels = 1, .scale = &scale, .lo = &lo, .hi = &hi, .out_scale = 1, .out_max = 255, .n_links = 3};
  t.link[0] = (TailLink){KOP_MAX, 1, &half, false};
  t.link[1] = (TailLink){KOP_POW, 1, &half, false};
  t.link[2] = (TailLink){KOP_MIN, 1, &by, false};
  Requant r;
  cr_assert(!tail_requant(&t, arena, &r));
  arena_free(arena);
}
