// What calibration keeps of an activation, and the range it gets by a scheme of activation_schemes.def.
#ifndef QCC_PASSES_QUANTIZE_ACTIVATION_H
#define QCC_PASSES_QUANTIZE_ACTIVATION_H

#include "ir/eval.h"

enum { STATS_SIDE = 4096 };  // bins on each side of zero

// A histogram over [-reach, reach) whose reach doubles when a value lies outside: one pass over the samples is enough,
// and the result depends on the values alone.
typedef struct ActivationStats {
  double lo, hi;           // smallest and largest value
  double sum2, positive2;  // squares of all, and of the positive ones
  int64_t count, positive;
  double reach;   // 0: only zeros so far
  int64_t *bins;  // [2 * STATS_SIDE]
} ActivationStats;

typedef struct ActivationScheme {
  const char *name, *help;
  double missing, least, most;  // of its number
  void (*range)(const ActivationStats *s, uint32_t bits, double value, double *lo, double *hi);
  uint32_t bits;  // it always takes; 0: those asked for
} ActivationScheme;

uint32_t activation_scheme_count(void);
const ActivationScheme *activation_scheme_at(uint32_t i);
const ActivationScheme *activation_scheme_by_name(const char *name);  // NULL: unknown

ActivationStats activation_stats_new(Arena *arena);
// Adds all elements of a float tensor; values that are not finite are left out.
void activation_stats_add(ActivationStats *s, const Tensor *x);
// lo <= 0 <= hi, never both 0.
void activation_range(const ActivationStats *s, const ActivationScheme *scheme, double value, uint32_t bits, double *lo,
                      double *hi);
// Mean squared error of the values, taken at the middle of their bins, with 2^bits levels from lo to hi.
double activation_mse(const ActivationStats *s, double lo, double hi, uint32_t bits);
// The step of 2^bits levels 0, d, 2 d .. that fits a normal distribution's positive half best in the mean square, by
// rounding (zero below d / 2), or as in S17, where all that is positive is at least d.
double half_normal_step(uint32_t bits, bool zero_level);

#endif
