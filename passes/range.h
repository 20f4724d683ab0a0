// What values an integer tensor of the graph can hold: bounds and, when they are few, the levels themselves. Read off
// the ops that make it, whatever the inputs are; anything unknown has the full range of its type.
//
//   select(x > 0, 1, -1)                     levels -1, 1
//   cast(clip(round(x), 0, 3)) to u8         levels 0, 1, 2, 3
//   cast(x > 1) + cast(x > 5)                levels 0, 1, 2
#ifndef QCC_PASSES_RANGE_H
#define QCC_PASSES_RANGE_H

#include "ir/graph.h"

#define RANGE_LEVELS 16

typedef struct Range {
  int64_t lo, hi;
  uint32_t n;                   // 0: more than RANGE_LEVELS, or not known
  int64_t level[RANGE_LEVELS];  // ascending; level[0] = lo
} Range;

// Of an integer or bool value; every element is among the levels, or within lo .. hi when n is 0.
Range value_range(const Value *v);
// The numbers that elements of a value of any type can be, ascending, -0 as 0; their count. 0: more than RANGE_LEVELS,
// NaN among them, or not known.
uint32_t value_levels(const Value *v, double level[RANGE_LEVELS]);
// The largest step such that all values are lo + step * i; 1 when nothing is known, hi - lo of two levels, 0 of one.
int64_t range_step(const Range *r);

#endif
