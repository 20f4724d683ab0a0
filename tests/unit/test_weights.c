// Weight schemes: bounds, optima against brute force on small cases, closed forms, and what takes the weights' place.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/eval.h"
#include "passes/quantize/weight_laplace.h"
#include "passes/quantize/weight_pq.h"
#include "passes/quantize/weights.h"

enum { MAX = 1 << 16 };

static Arena *arena;
static void setup(void) { arena = arena_new("test"); }
TestSuite(weights, .init = setup);

static double uniform(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return ((double)(*state >> 11) + 0.5) / 9007199254740992.0;
}

static double gaussian(uint64_t *state) {
  double r = sqrt(-2 * log(uniform(state)));
  return r * cos(6.283185307179586 * uniform(state));
}

static float *gaussians(int64_t n, uint64_t seed) {
  float *w = NEW_ARRAY(arena, float, n);
  for (int64_t i = 0; i < n; i++) w[i] = (float)gaussian(&seed);
  return w;
}

static WeightSpec spec(const char *text) {
  WeightSpec s;
  const char *rest;
  cr_assert(weight_spec_read(text, "--test", diag_new(arena, NULL), &s, &rest) && *rest == 0, "%s", text);
  return s;
}

static WeightFit fit(const char *text, const float *w, int64_t channels, int64_t per) {
  WeightSpec s = spec(text);
  WeightFit f;
  const char *why = "";
  cr_assert(weights_fit_floats(w, channels, per, &s, NULL, arena, &f, &why), "%s: %s", text, why);
  return f;
}

static double error2(const WeightFit *f) {
  double sum = 0;
  for (int64_t i = 0; i < f->n; i++) sum += pow((double)f->from[i] - (double)f->value[i], 2);
  return sum;
}

// ---- grids

Test(weights, grids_miss_by_half_a_step_at_most) {
  for (uint64_t seed = 1; seed < 40; seed++) {
    float *w = gaussians(60, seed);
    if (seed % 3 == 0)
      for (int i = 0; i < 60; i++) w[i] = fabsf(w[i]) + 0.25f;
    if (seed % 5 == 0) w[7] = 1e6f;
    for (uint32_t bits = 2; bits <= 8; bits++)
      for (uint32_t i = 0; i < 2; i++) {
        const char *text = arena_printf(arena, "%s:bits=%u:channel", i ? "affine" : "symmetric", bits);
        WeightFit f = fit(text, w, 3, 20);
        for (int c = 0; c < 3; c++)
          for (int k = 0; k < 20; k++) {
            double step = (double)f.group[c].scale, miss = fabs((double)w[20 * c + k] - (double)f.value[20 * c + k]);
            cr_assert(miss <= step * 0.5000001, "%s: %g of a step %g", text, miss, step);
          }
        cr_assert(f.stats.levels <= 1U << bits && f.n_groups == 3);
      }
  }
}

Test(weights, minmax_keeps_the_ends_and_is_idempotent) {
  for (uint32_t bits = 1; bits <= 8; bits++) {
    float *w = gaussians(500, bits);
    const char *text = arena_printf(arena, "minmax:bits=%u", bits);
    WeightFit f = fit(text, w, 1, 500), again = fit(text, f.value, 1, 500);
    double low = 0, high = 0;
    for (int i = 0; i < 500; i++) {
      low = fmin(low, (double)w[i]);
      high = fmax(high, (double)w[i]);
    }
    cr_assert(f.stats.largest <= (high - low) / (2 * (pow(2, bits) - 1)) * 1.000001);
    cr_assert(memcmp(f.value, again.value, 500 * sizeof(float)) == 0);
    for (int i = 0; i < 500; i++)
      for (int k = 0; k < 500; k++) cr_assert(w[i] > w[k] || f.value[i] <= f.value[k]);
  }
}

Test(weights, equal_weights_come_back) {
  float same[8] = {0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f, 0.3f}, none[8] = {0};
  cr_assert(fit("minmax:bits=3", same, 1, 8).stats.largest == 0);
  for (uint32_t i = 0; i < weight_scheme_count(); i++) {
    WeightFit f = fit(weight_scheme_at(i)->name, none, 2, 4);
    cr_assert(f.stats.largest == 0 && f.stats.cosine == 1, "%s", weight_scheme_at(i)->name);
  }
}

Test(weights, clipping_loses_least_of_all_ranges) {
  float *w = gaussians(300, 5);
  w[3] = 9;
  for (uint32_t bits = 2; bits <= 8; bits++) {
    WeightFit all = fit(arena_printf(arena, "symmetric:bits=%u", bits), w, 1, 300);
    WeightFit clip = fit(arena_printf(arena, "symmetric:bits=%u:clip", bits), w, 1, 300);
    double most = pow(2, bits - 1) - 1, least = INFINITY;
    for (int i = 1; i <= 20000; i++) {
      double s = 9.0 / most * i / 20000, sum = 0;
      for (int k = 0; k < 300; k++)
        sum += pow((double)w[k] - s * fmin(fmax(nearbyint((double)w[k] / s), -most), most), 2);
      least = fmin(least, sum);
    }
    cr_assert(error2(&clip) <= error2(&all));
    cr_assert(error2(&clip) <= least * 1.01, "%u bits: %g, brute force %g", bits, error2(&clip), least);
  }
}

// ---- three values and two

// The least loss of a T over all T with entries lo .. 1 (lo = -1: three values; two with step 2), a by least squares.
static double brute(const float *w, int n, int values) {
  double all = 0, best = 0;
  int64_t count = 1;
  for (int i = 0; i < n; i++) {
    all += (double)w[i] * (double)w[i];
    count *= values;
  }
  for (int64_t t = 0; t < count; t++) {
    double dot = 0, squares = 0;
    int64_t rest = t;
    for (int i = 0; i < n; i++, rest /= values) {
      double v = values == 3 ? (double)(rest % 3) - 1 : (double)(rest % 2) * 2 - 1;
      dot += v * (double)w[i];
      squares += v * v;
    }
    if (squares > 0) best = fmax(best, dot * dot / squares);
  }
  return all - best;
}

Test(weights, ternary_and_binary_are_the_optimum) {
  for (uint64_t seed = 1; seed < 60; seed++) {
    int n = 2 + (int)(seed % 9);
    float *w = gaussians(n, seed);
    if (seed % 4 == 0)
      for (int i = 1; i < n; i++) w[i] = i % 2 ? -w[0] : w[i] / 2;
    WeightFit three = fit("ternary", w, 1, n), rule = fit("twn", w, 1, n), two = fit("binary", w, 1, n);
    cr_assert_float_eq(error2(&three), brute(w, n, 3), 1e-5);
    cr_assert_float_eq(error2(&two), brute(w, n, 2), 1e-5);
    cr_assert(error2(&three) <= error2(&rule) + 1e-6);
    double mean = 0, variance = 0;
    for (int i = 0; i < n; i++) mean += fabs((double)w[i]) / n;
    for (int i = 0; i < n; i++) variance += pow(fabs((double)w[i]) - mean, 2) / n;
    cr_assert_float_eq(error2(&two), n * variance, 1e-5);
  }
}

Test(weights, gaussians_lose_what_theory_says) {
  static const struct {
    const char *text;
    double residual, tolerance;
  } row[] = {{"ternary", .1902, .003},          {"twn", .1916, .003},
             {"binary", .3634, .004},           {"kmeans:levels=2", .3634, .004},
             {"kmeans:levels=3", .1902, .003},  {"kmeans:levels=4", .1175, .002},
             {"kmeans:levels=8", .03454, .001}, {"kmeans:levels=16", .009497, .0003},
             {"balanced:bits=1", .3634, .004},  {"symmetric:bits=2:clip", .1902, .003},
             {"abc:bits=1", .3634, .004}};
  float *w = gaussians(MAX, 11);
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    WeightFit f = fit(row[i].text, w, 1, MAX);
    double lost = f.stats.relative * f.stats.relative;
    cr_assert(fabs(lost - row[i].residual) < row[i].tolerance, "%s: %g, theory %g", row[i].text, lost, row[i].residual);
    cr_assert_float_eq(f.stats.cosine, sqrt(1 - lost), 2e-4, "%s", row[i].text);
  }
}

Test(weights, products_of_signs_are_no_products) {  // S12: the sum is -3, of signs it is 0 whatever the scale
  float w[2] = {-4, 1};
  WeightFit f = fit("binary", w, 1, 2);
  cr_assert(f.value[0] + f.value[1] == 0);
}

Test(weights, channels_never_lose_more_alone) {
  static const char *const text[] = {"ternary", "binary", "abc:bits=1", "abc:bits=3", "abc:bits=5", "kmeans:levels=4"};
  float *w = gaussians(8 * 90, 3);
  for (int i = 0; i < 8 * 90; i++) w[i] *= 1 + (float)(i / 90);
  for (size_t t = 0; t < sizeof text / sizeof *text; t++) {
    WeightFit all = fit(text[t], w, 8, 90), each = fit(arena_printf(arena, "%s:channel", text[t]), w, 8, 90);
    for (int c = 0; c < 8; c++) {
      double one = 0, two = 0;
      for (int i = 90 * c; i < 90 * c + 90; i++) {
        one += pow((double)w[i] - (double)all.value[i], 2);
        two += pow((double)w[i] - (double)each.value[i], 2);
      }
      cr_assert(two <= one * 1.00001, "%s, channel %d: %g, all %g", text[t], c, two, one);
    }
  }
}

// ---- bases

Test(weights, bases_satisfy_the_normal_equations) {
  float *w = gaussians(2000, 9);
  double last = INFINITY;
  for (uint32_t m = 1; m <= 5; m++) {
    WeightFit f = fit(arena_printf(arena, "abc:bits=%u", m), w, 1, 2000);
    double mean = f.group[0].mean, deviation = f.group[0].deviation;
    for (uint32_t i = 0; i < m; i++) {
      double dot = 0, u = m > 1 ? -1 + 2.0 * i / (m - 1) : 0;
      for (int k = 0; k < 2000; k++)
        dot += ((double)w[k] - mean + u * deviation >= 0 ? 1 : -1) * ((double)w[k] - (double)f.value[k]);
      cr_assert_float_eq(dot, 0, 1e-3, "%u bases, %u: %g", m, i, dot);
    }
    cr_assert(f.stats.levels == m + 1 && error2(&f) <= last);
    last = error2(&f);
  }
}

// ---- powers of two

Test(weights, powers_of_two_by_the_logarithm) {
  float root = 1.41421356f, w[] = {1, 2, 4, 8, nextafterf(root, 2), nextafterf(root, 1), 0.4f, 0.6f, 0, -5.5f, -6};
  float want[] = {1, 2, 4, 8, 2, 1, 0, 1, 0, -4, -8};
  WeightFit f = fit("log:bits=3", w, 1, 11);  // three exponents
  for (int i = 0; i < 11; i++) {
    double a = fabs((double)f.value[i]);
    cr_assert(a == 0 || exp2(round(log2(a))) == a, "%g", a);
  }
  f = fit("log:bits=4", w, 1, 11);
  want[6] = 0.5f;
  want[7] = 0.5f;
  for (int i = 0; i < 11; i++) cr_assert(f.value[i] == want[i], "%g: %g", (double)w[i], (double)f.value[i]);
}

Test(weights, the_largest_power_loses_least) {
  float *w = gaussians(200, 4);
  for (uint32_t bits = 2; bits <= 4; bits++) {
    WeightFit f = fit(arena_printf(arena, "log:bits=%u", bits), w, 1, 200);
    int n = (1 << (bits - 1)) - 1;
    double least = INFINITY;
    for (int top = -8; top < 8; top++) {
      double sum = 0;
      for (int i = 0; i < 200; i++) {
        double a = fabs((double)w[i]), e = fmin(round(log2(a)), top), v = exp2(e);
        if (e < top - n + 1) v = a > exp2(top - n) ? exp2(top - n + 1) : 0;
        sum += (a - v) * (a - v);
      }
      least = fmin(least, sum);
    }
    cr_assert_float_eq(error2(&f), least, 1e-4, "%u bits: %g, %g", bits, error2(&f), least);
  }
}

// ---- balanced and by chance

Test(weights, balanced_bins_are_equal) {
  float *w = gaussians(1003, 2), same[20] = {0};
  for (int i = 0; i < 20; i++) same[i] = i < 15 ? 1 : (float)i;
  for (uint32_t bits = 1; bits <= 8; bits++) {
    WeightFit f = fit(arena_printf(arena, "balanced:bits=%u", bits), w, 1, 1003);
    int64_t count[256] = {0}, least = 1003, most = 0;
    for (int i = 0; i < 1003; i++) count[f.code[i]]++;
    for (int k = 0; k < 1 << bits; k++) {
      least = count[k] < least ? count[k] : least;
      most = count[k] > most ? count[k] : most;
    }
    cr_assert(most - least <= 1, "%u bits: %lld to %lld", bits, (long long)least, (long long)most);
    for (uint32_t k = 2; k < f.group[0].n_book; k++)
      cr_assert_float_eq(f.group[0].book[k] - f.group[0].book[k - 1], f.group[0].book[1] - f.group[0].book[0], 1e-5);
    double lost = INFINITY, n = pow(2, bits) - 1;
    for (int i = 1; i < 2000; i++) {  // even levels with the step that loses least
      double step = 8.0 / n * i / 2000, sum = 0;
      for (int k = 0; k < 1003; k++)
        sum += pow((double)w[k] - step * (fmin(fmax(floor((double)w[k] / step + n / 2 + 0.5), 0), n) - n / 2), 2);
      lost = fmin(lost, sum);
    }
    cr_assert(error2(&f) >= lost * 0.999, "%u bits: %g, %g", bits, error2(&f), lost);
  }
  WeightFit tied = fit("balanced:bits=2", same, 1, 20), again = fit("balanced:bits=2", same, 1, 20);
  cr_assert(memcmp(tied.code, again.code, 20 * sizeof(uint16_t)) == 0);
}

Test(weights, chance_is_unbiased_and_seeded) {
  enum { DRAWS = 1000000 };
  float *w = NEW_ARRAY(arena, float, DRAWS);
  for (int i = 0; i < DRAWS; i++) w[i] = 0.3f;
  w[0] = 1;
  WeightFit f = fit("stochastic:bits=3:seed=5", w, 1, DRAWS);
  double sum = 0, step = (double)f.group[0].scale;
  for (int i = 1; i < DRAWS; i++) sum += (double)f.value[i];
  cr_assert(fabs(sum / (DRAWS - 1) - (double)0.3f) < 5 * step / 2 / sqrt(DRAWS), "%g", sum / (DRAWS - 1));
  WeightFit same = fit("stochastic:bits=3:seed=5", w, 1, DRAWS), other = fit("stochastic:bits=3:seed=6", w, 1, DRAWS);
  WeightFit cut = fit("stochastic:bits=3:seed=5:block=1000", w, 1, DRAWS);
  cr_assert(memcmp(f.value, same.value, DRAWS * sizeof *w) == 0 &&
            memcmp(f.value, other.value, DRAWS * sizeof *w) != 0);
  cr_assert(memcmp(f.value, cut.value, 1000 * sizeof *w) == 0);
}

// ---- books

// The least loss of `k` runs of the ascending w[0 .. n).
static double best_runs(const float *w, int n, int k) {
  double best = INFINITY;
  if (n <= k) return 0;
  for (int first = 1; first <= (k == 1 ? n : n - 1); first++) {
    if (k == 1 && first < n) continue;
    double mean = 0, loss = 0;
    for (int i = 0; i < first; i++) mean += (double)w[i] / first;
    for (int i = 0; i < first; i++) loss += pow((double)w[i] - mean, 2);
    best = fmin(best, loss + (k > 1 ? best_runs(w + first, n - first, k - 1) : 0));
  }
  return best;
}

Test(weights, clusters_are_the_optimum) {
  for (uint64_t seed = 1; seed < 30; seed++) {
    float *w = gaussians(11, seed), sorted[11];
    memcpy(sorted, w, sizeof sorted);
    floats_sort(11, sorted);
    for (int k = 2; k <= 5; k++) {
      WeightFit f = fit(arena_printf(arena, "kmeans:levels=%d", k), w, 1, 11);
      cr_assert_float_eq(error2(&f), best_runs(sorted, 11, k), 1e-5);
    }
  }
}

Test(weights, many_clusters_of_many_weights) {
  float *w = gaussians(MAX, 2);
  double last = INFINITY;
  for (int k = 2; k <= 1024; k *= 4) {
    WeightFit f = fit(arena_printf(arena, "kmeans:levels=%d", k), w, 1, MAX);
    cr_assert(error2(&f) < last && f.stats.distinct == k && f.stats.levels == (uint32_t)k);
    last = error2(&f);
  }
}

Test(weights, zeros_stay) {
  float *w = gaussians(400, 6);
  for (int i = 0; i < 400; i += 2) w[i] = 0;
  for (int i = 0; i < 400; i++) w[i] += w[i] == 0 ? 0 : 0.05f;
  WeightFit f = fit("kmeans:levels=8:zeros", w, 1, 400);
  cr_assert(f.stats.levels == 8);
  for (int i = 0; i < 400; i++) cr_assert(w[i] != 0 || f.value[i] == 0);
}

// ---- Laplacians

// Bits per code of a Laplacian with these levels, cells between their middles.
static double entropy_of(uint32_t n, const double *level) {
  double sum = 0, below = 0;
  for (uint32_t i = 0; i < n; i++) {
    double t = i + 1 < n ? (level[i] + level[i + 1]) / 2 : INFINITY, to = t < 0 ? exp(t) / 2 : 1 - exp(-t) / 2,
           p = to - below;
    if (p > 0) sum -= p * log2(p);
    below = to;
  }
  return sum;
}

Test(weights, laplacian_levels_are_fixed_points) {
  double level[1001];
  for (uint32_t n = 3; n <= 1001; n += 2) {
    laplace_absolute(n, level);
    cr_assert_float_eq(level[n - 1], log(n), 1e-9);
    double l = 0;  // the recursion of the publication
    for (uint32_t i = 1; i <= n / 2; i++) {
      l = l - log(1 - 2 * exp(l) / n);
      cr_assert_float_eq(level[n / 2 + i], l, 1e-6);
    }
  }
  for (uint32_t n = 2; n <= 64; n++) {
    laplace_squares(n, level);
    for (uint32_t i = n / 2; i < n; i++) {  // every level is the mean of its cell
      double a = i == 0 ? 0 : fmax((level[i - 1] + level[i]) / 2, n % 2 == 0 && i == n / 2 ? 0 : -1e9);
      if (n % 2 == 1 && i == n / 2) continue;  // by symmetry
      double b = i + 1 < n ? (level[i] + level[i + 1]) / 2 : a + 700, x = b - a;
      cr_assert_float_eq(level[i], a + 1 - (x < 600 ? x / expm1(x) : 0), 1e-9, "%u levels, %u", n, i);
      cr_assert_float_eq(level[i], -level[n - 1 - i], 1e-12);
    }
  }
}

Test(weights, a_thousand_levels_have_no_seven_bits) {  // S65: 9.34 by squares, 9.69 by absolute errors
  double level[1000];
  laplace_squares(1000, level);
  cr_assert_float_eq(entropy_of(1000, level), 9.34, 0.01, "%g", entropy_of(1000, level));
  laplace_absolute(999, level);
  for (int i = 0; i < 999; i++) level[i] *= 2;  // the scale that loses least
  cr_assert_float_eq(entropy_of(999, level), 9.69, 0.01, "%g", entropy_of(999, level));
}

Test(weights, laplacians_are_fitted) {
  float *w = NEW_ARRAY(arena, float, MAX);
  uint64_t state = 8;
  for (int i = 0; i < MAX; i++) {
    double u = uniform(&state);
    w[i] = (float)(0.1 + 0.05 * (u < 0.5 ? log(2 * u) : -log(2 - 2 * u)));
  }
  WeightFit one = fit("laplace1:levels=31", w, 1, MAX), two = fit("laplace2:levels=32", w, 1, MAX);
  WeightFit best = fit("kmeans:levels=32", w, 1, MAX);
  cr_assert_float_eq(one.group[0].book[15], 0.1, 1e-3);
  double b = ((double)one.group[0].book[30] - 0.1) / log(31);
  cr_assert(one.group[0].n_book == 31 && b > 0.07 && b < 0.11, "%g", b);
  cr_assert(error2(&best) <= error2(&two) && error2(&two) < 1.1 * error2(&best), "%g, %g", error2(&two), error2(&best));
}

// ---- vectors

static double weighted(const WeightFit *f, const double *g) {
  double sum = 0;
  for (int64_t c = 0; c < f->channels; c++)
    for (int64_t b = 0; b < f->per; b += f->spec.width)
      for (int64_t i = b; i < b + f->spec.width; i++)
        for (int64_t k = b; k < b + f->spec.width; k++)
          sum += ((double)f->from[c * f->per + i] - (double)f->value[c * f->per + i]) * g[i * (f->per + 1) + k] *
                 ((double)f->from[c * f->per + k] - (double)f->value[c * f->per + k]);
  return sum;
}

Test(weights, vectors_never_lose_more_with_more_rounds) {
  enum { CHANNELS = 32, PER = 36, N = PER + 1, SAMPLES = 60 };
  float *w = gaussians(CHANNELS * PER, 3);
  double *g = NEW_ARRAY(arena, double, N *N), x[N], last[2] = {INFINITY, INFINITY}, plain_weighted = 0;
  uint64_t state = 4;
  for (int s = 0; s < SAMPLES; s++) {
    for (int i = 0; i < N; i++) x[i] = gaussian(&state) * (i % 9 == 4 ? 5 : 0.3) + 0.2;
    for (int i = 0; i < N; i++)
      for (int k = 0; k < N; k++) g[i * N + k] += x[i] * x[k];
  }
  WeightMoments moments = {PER, g};
  for (uint32_t rounds = 1; rounds <= 12; rounds++)
    for (int by = 0; by < 2; by++) {
      WeightSpec s = spec(arena_printf(arena, "pq:levels=16:width=9:rounds=%u", rounds));
      WeightFit f;
      const char *why;
      cr_assert(weights_fit_floats(w, CHANNELS, PER, &s, by ? &moments : NULL, arena, &f, &why));
      double lost = by ? weighted(&f, g) : error2(&f);
      cr_assert(lost <= last[by] * 1.002, "%u rounds: %g, before %g", rounds, lost, last[by]);  // the book is of f16
      cr_assert(f.stats.levels == 16 && f.group[0].n_book == 16);
      last[by] = lost;
      if (!by) plain_weighted = weighted(&f, g);
    }
  cr_assert(last[1] < plain_weighted, "by inputs %g, without %g", last[1], plain_weighted);
}

Test(weights, vectors_that_repeat_come_back) {
  float *book = gaussians(4 * 8, 5), *w = NEW_ARRAY(arena, float, 64 * 32);
  for (int i = 0; i < 4 * 8; i++) book[i] = roundf(book[i] * 64) / 64;  // floats of 16 bits
  for (int i = 0; i < 64 * 8; i++) memcpy(w + 4 * i, book + 4 * (i * 7 % 8), 4 * sizeof *w);
  WeightFit f = fit("pq:levels=64:width=4", w, 64, 32);
  cr_assert(f.stats.largest == 0);
}

// Bytes of the quantised layers of ResNet-18: all but the first convolution, without batch norms and biases.
static int64_t resnet18_bytes(int64_t plane, int64_t point) {
  int64_t bytes = 0, in = 64;
  for (int64_t stage = 0, out = 64; stage < 4; stage++, in = out, out *= 2) {
    int64_t first = out * in, other = out * out, planes = plane / 9;
    bytes += pq_bytes(pq_entries(256, first / planes), first / planes, plane);
    bytes += 3 * pq_bytes(pq_entries(256, other / planes), other / planes, plane);
    if (in != out) bytes += pq_bytes(pq_entries(256, first / point), first / point, point);
  }
  return bytes + pq_bytes(pq_entries(2048, 1000 * 512 / 4), 1000 * 512 / 4, 4);
}

Test(weights, vector_sizes_of_the_publication) {  // S59: 1.541 and 1.029 MiB, 28.9 and 43.3 times less
  static const struct {
    int64_t plane;
    double mib, times;
  } row[] = {{9, 1.541, 28.9}, {18, 1.029, 43.3}};
  for (int i = 0; i < 2; i++) {
    double mib = (double)resnet18_bytes(row[i].plane, 4) / (1 << 20), all = 11689512.0 * 4 / (1 << 20);
    cr_assert_float_eq(mib, row[i].mib, 5e-4, "%g MiB", mib);
    cr_assert_float_eq(all / mib, row[i].times, 0.05, "%g times", all / mib);
  }
}

// ---- in the graph

static void check_emitted(const char *text, uint32_t rank, const int64_t *dims, uint32_t axis, bool ints) {
  Module *m = module_new(arena, diag_new(arena, NULL));
  const Type *t = type_tensor(m->types, DT_F32, rank, dims);
  Func *f = func_new(m, "f", 1, &t);
  float *w = gaussians(type_count(t), 3);
  Value *c = const_bytes(m, t, w, "w");
  Op *op = op_new(f, NULL, OP_ADD, 2, (Value *[]){f->args[0], c}, NULL);
  WeightSpec s = spec(text);
  WeightFit fit;
  const char *why = "";
  cr_assert(weights_fit_scheme(m, c, axis, &s, NULL, arena, &fit, &why), "%s: %s", text, why);
  Value *now = weights_emit(op, &fit);
  cr_assert((now->kind == VALUE_RESULT) == ints, "%s", text);
  cr_assert(now->type == t);
  const float *v = value_is_const(now) ? const_data(m, now->constant) : NULL;
  if (ints) {
    Tensor in[3] = {{0}}, out = {0};
    for (uint32_t i = 0; i < now->op->n_in; i++) in[i] = tensor_of_const(m, op_in(now->op, i)->constant);
    cr_assert(eval_op(now->op, in, &out, arena));
    v = out.data;
  }
  cr_assert(memcmp(v, fit.value, (size_t)type_bytes(t)) == 0, "%s", text);
}

Test(weights, what_is_emitted_is_what_was_fitted) {
  int64_t conv[4] = {6, 4, 3, 3}, matrix[2] = {12, 5}, turned[2] = {5, 12}, up[4] = {4, 6, 2, 2};
  for (uint32_t i = 0; i < 2; i++) {
    const char *name = i ? "affine" : "symmetric";
    check_emitted(arena_printf(arena, "%s:bits=5", name), 4, conv, 0, true);
    check_emitted(arena_printf(arena, "%s:bits=5:channel", name), 4, conv, 0, true);
    check_emitted(arena_printf(arena, "%s:bits=8:channel", name), 4, up, 1, true);
    check_emitted(arena_printf(arena, "%s:bits=3:channel", name), 2, matrix, 1, true);
    check_emitted(arena_printf(arena, "%s:bits=4:block=4", name), 2, matrix, 1, true);
    check_emitted(arena_printf(arena, "%s:bits=4:block=6", name), 2, turned, 0, true);
    check_emitted(arena_printf(arena, "%s:bits=4:block=18", name), 4, conv, 0, false);
  }
  check_emitted("minmax:bits=4:channel", 2, matrix, 1, false);
}

// ---- text

Test(weights, specs_are_read_up_to_what_is_not_theirs) {
  WeightSpec s;
  const char *rest;
  Diag *diag = diag_new(arena, NULL);
  cr_assert(weight_spec_read("affine:bits=3:block=32:clip:conv*:x", "--test", diag, &s, &rest));
  cr_assert_str_eq(rest, "conv*:x");
  cr_assert(s.bits == 3 && s.grain == GRAIN_BLOCK && s.block == 32 && s.clip && !s.zeros);
  cr_assert_str_eq(weight_spec_text(&s, arena), "affine, 3 bits, per block of 32, clipped");
  cr_assert(!weight_spec_read("affine:bits=9", "--test", diag, &s, &rest));
  cr_assert(!weight_spec_read("nothing", "--test", diag, &s, &rest));
}
