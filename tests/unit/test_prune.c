// Magnitude pruning: exact counts, which of equal weights goes, the error by formula, forms of --prune.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "passes/compress/prune.h"

enum { MAX = 4096 };

static double next(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)((int64_t)(*state >> 40) - (1 << 23)) / (1 << 23);
}

static PruneSpec spec(const char *text) {
  Arena *arena = arena_new("test");
  PruneSpec s;
  cr_assert(prune_spec_read(text, arena, diag_new(arena, NULL), &s), "%s", text);
  return s;
}

static PruneShape conv_shape(int64_t out, int64_t in, int64_t taps) {
  return (PruneShape){out, in, taps, in * taps, taps, 1};
}

static int by_magnitude(const void *a, const void *b) {
  double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
  return (x > y) - (x < y);
}

// The sum of squares of the `n` smallest (or largest) weights, by sorting.
static double sorted_tail(const double *w, int64_t all, int64_t n, bool largest) {
  double v[MAX], sum = 0;
  for (int64_t i = 0; i < all; i++) v[i] = w[i];
  qsort(v, (size_t)all, sizeof *v, by_magnitude);
  for (int64_t i = 0; i < n; i++) sum += pow(v[largest ? all - 1 - i : i], 2);
  return sum;
}

Test(prune, fraction_has_exact_counts_and_the_error_of_the_formula) {
  Arena *arena = arena_new("test");
  uint64_t state = 7;
  double w[1000], error2, last = 0;
  for (int i = 0; i < 1000; i++) w[i] = next(&state);
  for (int part = 0; part <= 100; part += 4) {
    bool *drop = NEW_ARRAY(arena, bool, 1000);
    PruneSpec s = {.kind = PRUNE_FRACTION, .value = part / 100.0};
    PruneShape shape = conv_shape(10, 10, 10);
    int64_t n = prune_mark(&s, &shape, w, drop, &error2, arena), marked = 0;
    for (int i = 0; i < 1000; i++) marked += drop[i];
    cr_assert(n == part * 10 && marked == n, "%d %%: %lld", part, (long long)n);
    cr_assert_float_eq(error2, sorted_tail(w, 1000, n, false), 1e-9);
    cr_assert(error2 >= last);
    if (part > 0 && part < 100) cr_assert(error2 < sorted_tail(w, 1000, n, true), "the largest would lose less");
    last = error2;
  }
}

Test(prune, equal_weights_go_in_the_order_of_the_file) {
  Arena *arena = arena_new("test");
  double w[6] = {1, -1, 2, 1, -1, 0.5}, error2;
  bool drop[6] = {false};
  PruneSpec s = {.kind = PRUNE_FRACTION, .value = 0.5};
  PruneShape shape = conv_shape(1, 6, 1);
  cr_assert(prune_mark(&s, &shape, w, drop, &error2, arena) == 3);
  cr_assert(drop[0] && drop[1] && !drop[2] && !drop[3] && !drop[4] && drop[5]);
  cr_assert_float_eq(error2, 2.25, 1e-12);
}

Test(prune, n_of_m_leaves_n_of_every_group) {
  Arena *arena = arena_new("test");
  uint64_t state = 3;
  double w[4 * 10 * 3], error2;
  bool drop[4 * 10 * 3] = {false};
  for (int i = 0; i < 120; i++) w[i] = next(&state);
  PruneSpec s = spec("2:4:force:fc*");
  cr_assert(s.kind == PRUNE_N_OF_M && s.n == 2 && s.m == 4 && s.force);
  cr_assert_str_eq(s.layers, "fc*");
  PruneShape shape = conv_shape(4, 10, 3);
  cr_assert(prune_mark(&s, &shape, w, drop, &error2, arena) == 4 * 3 * 4);  // groups of 4, 4 and 2
  for (int o = 0; o < 4; o++)
    for (int t = 0; t < 3; t++)
      for (int g = 0; g < 10; g += 4) {
        int left = 0;
        double kept = 10, gone = 0;
        for (int i = g; i < 10 && i < g + 4; i++) {
          double v = fabs(w[(o * 10 + i) * 3 + t]);
          bool d = drop[(o * 10 + i) * 3 + t];
          left += !d;
          if (d) gone = fmax(gone, v);
          if (!d) kept = fmin(kept, v);
        }
        cr_assert(left == 2 && gone <= kept);
      }
}

Test(prune, blocks_go_whole) {
  Arena *arena = arena_new("test");
  uint64_t state = 5;
  double w[7 * 5], error2;
  bool drop[7 * 5] = {false};
  for (int i = 0; i < 35; i++) w[i] = next(&state);
  PruneSpec s = spec("block=4x2:0.5");
  PruneShape shape = conv_shape(7, 5, 1);
  int64_t n = prune_mark(&s, &shape, w, drop, &error2, arena);
  int whole = 0;
  double sum = 0;
  for (int o = 0; o < 7; o += 4)
    for (int i = 0; i < 5; i += 2) {
      int in_block = 0, gone = 0;
      for (int a = o; a < 7 && a < o + 4; a++)
        for (int b = i; b < 5 && b < i + 2; b++) {
          in_block++;
          gone += drop[a * 5 + b];
          if (drop[a * 5 + b]) sum += w[a * 5 + b] * w[a * 5 + b];
        }
      cr_assert(gone == 0 || gone == in_block);
      whole += gone > 0;
      n -= gone;
    }
  cr_assert(whole == 3 && n == 0);
  cr_assert_float_eq(sum, error2, 1e-12);
}

Test(prune, what_is_no_spec_is_refused) {
  static const char *const wrong[] = {"", "1.5", "-0.1", "5:4", "block=4x", "block=2x2", "threshold=x", "0.5x", "nan"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    Arena *arena = arena_new("test");
    PruneSpec s;
    cr_assert_not(prune_spec_read(wrong[i], arena, diag_new(arena, NULL), &s), "%s", wrong[i]);
  }
  cr_assert(spec("threshold=0.25:conv*").kind == PRUNE_THRESHOLD);
  cr_assert_float_eq(spec("0.9").value, 0.9, 1e-15);
}
