// Histograms of activations and the schemes that choose a range from them. See activation.h.
//
// Percentile, entropy and mean squared error all read the histogram, so that calibration needs one pass whatever the
// scheme. Entropy is the calibration of Migacz (2017): the relative entropy of the clipped distribution against the
// same one in 2^bits levels, over all clips.
#include "passes/quantize/activation.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"

ActivationStats activation_stats_new(Arena *arena) {
  return (ActivationStats){.lo = INFINITY, .hi = -INFINITY, .bins = NEW_ARRAY(arena, int64_t, 2 * STATS_SIDE)};
}

// Twice the reach: neighbours are added up.
static void widen(ActivationStats *s) {
  for (int64_t i = 0; i < STATS_SIDE; i += 2) {
    int64_t up = STATS_SIDE + i, down = STATS_SIDE - 1 - i, both = s->bins[up] + s->bins[up + 1];
    s->bins[up] = s->bins[up + 1] = 0;
    s->bins[STATS_SIDE + i / 2] = both;
    both = s->bins[down] + s->bins[down - 1];
    s->bins[down] = s->bins[down - 1] = 0;
    s->bins[STATS_SIDE - 1 - i / 2] = both;
  }
  s->reach *= 2;
}

static int64_t bin_of(const ActivationStats *s, double x) {
  int64_t i = (int64_t)floor(x / s->reach * STATS_SIDE) + STATS_SIDE;
  return i < 0 ? 0 : i >= 2 * STATS_SIDE ? 2 * STATS_SIDE - 1 : i;
}

static void add_one(ActivationStats *s, double x) {
  if (s->reach == 0 && x != 0) {
    int exponent;
    frexp(x, &exponent);
    s->reach = ldexp(1, exponent);
    s->bins[STATS_SIDE] = s->count;  // zeros so far
  }
  while (fabs(x) > s->reach) widen(s);
  if (s->reach > 0) s->bins[bin_of(s, x)]++;
  s->lo = fmin(s->lo, x);
  s->hi = fmax(s->hi, x);
  s->sum2 += x * x;
  s->count++;
  if (x > 0) {
    s->positive++;
    s->positive2 += x * x;
  }
}

void activation_stats_add(ActivationStats *s, const Tensor *x) {
  DType t = x->type->dtype;
  for (int64_t i = 0, n = type_count(x->type); i < n; i++) {
    double v = t == DT_F32 ? (double)((const float *)x->data)[i] : elem_get_f(x->data, t, i);
    if (isfinite(v)) add_one(s, v);
  }
}

static double bin_middle(const ActivationStats *s, int64_t i) {
  return ((double)(i - STATS_SIDE) + 0.5) * s->reach / STATS_SIDE;
}

// The value that `share` of all lie below.
static double quantile(const ActivationStats *s, double share) {
  double below = 0, want = share * (double)s->count;
  for (int64_t i = 0; i < 2 * STATS_SIDE; i++) {
    below += (double)s->bins[i];
    if (below >= want && s->bins[i] > 0)
      return fmin(fmax((double)(i + 1 - STATS_SIDE) * s->reach / STATS_SIDE, s->lo), s->hi);
  }
  return s->hi;
}

// ---- schemes

static void range_minmax(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  (void)bits;
  (void)value;
  *lo = s->lo;
  *hi = s->hi;
}

static void range_percentile(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  double outside = 1 - value / 100;
  (void)bits;
  if (s->lo < 0 && s->hi > 0) outside /= 2;
  *lo = s->lo < 0 ? quantile(s, outside) : s->lo;
  *hi = s->hi > 0 ? quantile(s, 1 - outside) : s->hi;
}

double activation_mse(const ActivationStats *s, double lo, double hi, uint32_t bits) {
  double levels = ldexp(1, (int)bits) - 1, step = (hi - lo) / levels, error = 0;
  if (!(step > 0)) return s->count ? s->sum2 / (double)s->count : 0;
  double zero = rint(-lo / step);
  int64_t first = s->reach > 0 ? bin_of(s, s->lo) : 0, last = s->reach > 0 ? bin_of(s, s->hi) : -1;
  for (int64_t i = first; i <= last; i++) {
    if (s->bins[i] == 0) continue;
    double x = i == STATS_SIDE && s->lo == 0 ? 0.0 : bin_middle(s, i);
    double q = fmin(fmax(rint(x / step) + zero, 0), levels), off = (q - zero) * step - x;
    error += off * off * (double)s->bins[i];
  }
  return error / (double)(s->count ? s->count : 1);
}

// Each end is drawn in on its own while that helps, in turns.
static void range_mse(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  enum { STEPS = 100, ROUNDS = 2 };
  double ends[2] = {fmin(s->lo, 0), fmax(s->hi, 0)}, best = activation_mse(s, ends[0], ends[1], bits);
  const double whole[2] = {ends[0], ends[1]};
  (void)value;
  for (int round = 0; round < ROUNDS; round++)
    for (int side = 1; side >= 0; side--)
      for (int k = 1; k < STEPS && whole[side] != 0; k++) {
        double now[2] = {ends[0], ends[1]};
        now[side] = whole[side] * (1 - (double)k / STEPS);
        double error = activation_mse(s, now[0], now[1], bits);
        if (error >= best) continue;
        best = error;
        ends[side] = now[side];
      }
  *lo = ends[0];
  *hi = ends[1];
}

// Relative entropy of the first `n` of the bins, what lies beyond in the last, against the same in `levels` levels.
static double clip_entropy(const double *bins, int64_t all, int64_t n, int64_t levels) {
  double total = 0, beyond = 0, sum = 0, entropy = 0;
  for (int64_t i = 0; i < all; i++) total += bins[i];
  for (int64_t i = n; i < all; i++) beyond += bins[i];
  double kept = total - beyond;
  if (!(kept > 0)) return INFINITY;
  for (int64_t level = 0; level < levels; level++) {
    int64_t from = level * n / levels, to = (level + 1) * n / levels, used = 0;
    sum = 0;
    for (int64_t i = from; i < to; i++) {
      sum += bins[i];
      used += bins[i] > 0;
    }
    for (int64_t i = from; i < to; i++) {
      double p = bins[i] + (i == n - 1 ? beyond : 0);
      if (p <= 0) continue;
      if (sum <= 0) return INFINITY;
      entropy += p / total * log(p / total / (sum / (double)used / kept));
    }
  }
  return entropy;
}

// Both signs are folded: the clip is the same on either side.
static void range_entropy(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  enum { BINS = 2048, STEP = 8 };
  double bins[BINS] = {0}, most = fmax(fabs(s->lo), fabs(s->hi)), best = INFINITY;
  bool both = s->lo < 0 && s->hi > 0;
  int64_t levels = INT64_C(1) << (both && bits > 1 ? bits - 1 : bits), clip = BINS;
  (void)value;
  for (int64_t i = 0; i < 2 * STATS_SIDE && most > 0; i++) {
    double x = fabs(bin_middle(s, i)) / most * BINS;
    if (s->bins[i] == 0 || (i == STATS_SIDE && s->lo >= 0)) continue;  // ReLU's zeros are exact at any clip
    bins[x < BINS ? (int64_t)x : BINS - 1] += (double)s->bins[i];
  }
  for (int64_t n = levels < STEP ? STEP : levels; n <= BINS; n += STEP) {
    double entropy = clip_entropy(bins, BINS, n, levels);
    if (entropy >= best) continue;
    best = entropy;
    clip = n;
  }
  *lo = fmax(s->lo, -most * (double)clip / BINS);
  *hi = fmin(s->hi, most * (double)clip / BINS);
}

// Of the half normal distribution with variance 1: mass and first two moments below x.
static void half_normal(double x, double m[3]) {
  double mass = erf(x / sqrt(2)), density = sqrt(2 / acos(-1)) * exp(-x * x / 2);
  m[0] = mass;
  m[1] = sqrt(2 / acos(-1)) - density;
  m[2] = mass - x * density;
}

static double half_normal_error(double step, uint32_t bits, bool zero_level) {
  int64_t top = (INT64_C(1) << bits) - 1;
  double error = 0, below[3] = {0, 0, 0};
  for (int64_t k = zero_level ? 0 : 1; k <= top; k++) {
    double c = (double)k * step, m[3] = {1, sqrt(2 / acos(-1)), 1};
    if (k < top) half_normal(c + step / 2, m);
    error += m[2] - below[2] - 2 * c * (m[1] - below[1]) + c * c * (m[0] - below[0]);
    memcpy(below, m, sizeof m);
  }
  return error;
}

double half_normal_step(uint32_t bits, bool zero_level) {
  double lo = 1e-4, hi = 4;
  for (int i = 0; i < 100; i++) {
    double a = lo + (hi - lo) * 0.382, b = lo + (hi - lo) * 0.618;
    if (half_normal_error(a, bits, zero_level) < half_normal_error(b, bits, zero_level)) {
      hi = b;
    } else {
      lo = a;
    }
  }
  return (lo + hi) / 2;
}

static void range_hwgq(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  double sigma = s->positive ? sqrt(s->positive2 / (double)s->positive) : 0;
  (void)value;
  *lo = 0;
  *hi = sigma * half_normal_step(bits, true) * (ldexp(1, (int)bits) - 1);
}

static void range_dorefa(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  (void)s;
  (void)bits;
  (void)value;
  *lo = 0;
  *hi = 1;
}

static void range_nmnf(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi) {
  range_minmax(s, bits, value, lo, hi);
}

static const ActivationScheme schemes[] = {
#define ACTIVATION(name, bits, missing, least, most, help) {#name, help, missing, least, most, range_##name, bits},
#include "passes/quantize/activation_schemes.def"
#undef ACTIVATION
};

uint32_t activation_scheme_count(void) { return sizeof schemes / sizeof schemes[0]; }
const ActivationScheme *activation_scheme_at(uint32_t i) { return &schemes[i]; }

const ActivationScheme *activation_scheme_by_name(const char *name) {
  for (uint32_t i = 0; i < activation_scheme_count(); i++)
    if (strcmp(schemes[i].name, name) == 0) return &schemes[i];
  return NULL;
}

void activation_range(const ActivationStats *s, const ActivationScheme *scheme, double value, uint32_t bits, double *lo,
                      double *hi) {
  *lo = *hi = 0;
  if (s->count > 0 && s->reach > 0) scheme->range(s, bits, value, lo, hi);
  *lo = fmin(*lo, 0);
  *hi = fmax(*hi, 0);
  if (*lo == *hi) *hi = 1;
}
