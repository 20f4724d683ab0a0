// A function of an exact integer sum that takes few neighbouring integer levels, as arithmetic: found by search, proved
// at every boundary.
//
// Per channel the function only rises or only falls, so it is known when its boundaries are: at[k], the smallest sum
// that is k + 1 levels away from the level at the low end. A form of arithmetic is monotone too; when it agrees at both
// ends of the range and on both sides of every boundary, it agrees everywhere. The forms, cheapest first:
//
//   shift   q = clamp((a * m + b) >> r)               i32, no product passes 31 bits
//   wide    the same in i64, where floats are slow or forbidden: m of 31 bits, or
//           40 where none of 31 does, r of 32 or more, no sum passes 52 bits
//   f32     q = clamp(round(a * m + b) + zero)
//   split   q = clamp(round(a * m + (a * l + b)) + zero)   the factor in two parts, where 24 bits are too few
//   whole   as f64, b a whole number: 1.5 * 2^52 + b is added in the same step and the low word is the level
//   f64     as f32
//
// A second integer y of few values, as of a residual part, may take part: there are boundaries for each of its values,
// and b becomes y * o + b. Floats are checked with every operation rounded and with fused multiply-adds, because a
// target may do either.
#ifndef QCC_PASSES_RECOVER_REQUANT_H
#define QCC_PASSES_RECOVER_REQUANT_H

#include "ir/graph.h"
#include "ir/target.h"

typedef struct Boundaries {
  int64_t lo, hi;  // range of the sums
  int64_t first;   // level at lo
  int64_t n;       // levels passed on the way to hi
  int64_t *at;     // [n] ascending
  bool falls;
} Boundaries;

typedef enum RequantForm {
  REQUANT_SHIFT,
  REQUANT_WIDE,
  REQUANT_F32,
  REQUANT_SPLIT,
  REQUANT_WHOLE,
  REQUANT_F64,
  REQUANT_FORMS
} RequantForm;

#define REQUANT_ROUNDER 0x1.8p52  // added to an f64 below 2^31, leaves the nearest whole number in its low word

typedef struct Requant {
  RequantForm form;
  bool word;                  // all levels before the limits lie below 2^31
  bool shifted;               // the sum comes with the problem's shift added
  int64_t zero;               // the problem's zero point, or 0 when it is inside of `add`
  double *mul, *mul_low;      // [channels]; mul_low of the split form
  double *add;                // [channels]
  int64_t *right;             // [channels], of the shift and wide forms
  const int64_t *low, *high;  // [channels] limits
  double *other_mul;          // [channels], NULL without a second integer
  int64_t boundaries;         // compared on both sides
} Requant;

// What to find. Limits hold the levels of all channels; `mul` and `add` say where to look first, level = sum * mul +
// add before rounding, or are NULL.
typedef struct RequantProblem {
  int64_t channels;
  const Boundaries *b;        // [channels][n_other]
  const int64_t *low, *high;  // [channels] limits
  const double *mul, *add;    // [channels]
  const int64_t *shift;       // [channels] what may be added to the sum for free, or NULL
  int64_t zero;               // may be added after rounding
  uint32_t forms;             // bit set of 1 << RequantForm
  const Target *target;       // whole forms for what it has no instructions for, whatever the set says; or NULL
  int64_t n_other;            // values of the second integer; 0: there is none
  int64_t other_lo;           // they are other_lo, other_lo + 1, ...
  const double *other_mul;    // [channels] what y is multiplied with
} RequantProblem;

// The first form that gives the function; false when none does.
bool requant_find(const RequantProblem *p, Arena *arena, Requant *out);
const char *requant_text(const Requant *r);  // "one f32 factor per channel"

#endif
