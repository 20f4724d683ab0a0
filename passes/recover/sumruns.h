// Where the values of a sum's tail change: found by running the tail on every sum of the range or, where that is too
// much and every step of the tail is monotone, by bisection.
#ifndef QCC_PASSES_RECOVER_SUMRUNS_H
#define QCC_PASSES_RECOVER_SUMRUNS_H

#include "passes/recover/sumtail.h"

// Where a value of one channel changes, ascending; direction: 1 rises, -1 falls, 0 constant.
typedef struct Runs {
  uint32_t n, room;
  int64_t *at;    // first sum of each run
  double *value;  // of each run
  int direction;
} Runs;

typedef struct SumRuns {
  SumTail *t;
  bool few[TAIL_OPS];      // has at most GRID_MAX numbers per channel, in order: its runs are complete
  bool ordered[TAIL_OPS];  // of few and of what pools read: rises or falls in every channel, no NaN or infinity
  Runs *runs[TAIL_OPS];    // [channels]; of values with more numbers only the direction
  bool exhaustive;
} SumRuns;

// The runs of an open tail, at the second operand it has now; `times` as often as this will be called. False when it
// cannot be run.
bool sumruns_find(SumRuns *s, SumTail *t, int64_t times);

#endif
