// Sums of sign bases (S66): B_i = sign(w - mean + u_i deviation), u_i from -1 to 1, and the factors by least squares.
//
// The thresholds are nested, so M bases have M + 1 states: a state is the number of bases that are +1, which are those
// of the largest u. Mean and deviation are of the whole tensor, so that a channel's own factors never lose more than
// common ones (S69).
#include <math.h>

#include "passes/compress/linalg.h"
#include "passes/quantize/weights.h"

enum { BASES = 8 };

static double threshold(const WeightGroup *g, uint32_t bases, uint32_t i) {
  double u = bases > 1 ? -1 + 2 * (double)i / (bases - 1) : 0;
  return g->mean - u * g->deviation;
}

// Base i in state s: the last s of all are +1.
static double base(uint32_t bases, uint32_t i, uint32_t state) { return i >= bases - state ? 1 : -1; }

bool weight_abc(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  uint32_t bases = s->bits;
  double gram[BASES * BASES] = {0}, right[BASES] = {0}, factor[BASES] = {0}, count[BASES + 1] = {0},
                      sum[BASES + 1] = {0};
  for (int64_t i = 0; i < g->n; i++) {
    uint32_t state = 0;
    for (uint32_t k = 0; k < bases; k++) state += (double)g->w[i] >= threshold(g, bases, k);
    g->code[i] = (uint16_t)state;
    count[state]++;
    sum[state] += (double)g->w[i];
  }
  for (uint32_t state = 0; state <= bases; state++)
    for (uint32_t i = 0; i < bases; i++) {
      right[i] += base(bases, i, state) * sum[state];
      for (uint32_t k = 0; k < bases; k++)
        gram[i * bases + k] += count[state] * base(bases, i, state) * base(bases, k, state);
    }
  if (!least_squares(bases, bases, 1, gram, right, 1e-10, factor, arena)) {
    *why = "the bases could not be solved for";
    return false;
  }
  g->n_book = bases + 1;
  g->book = NEW_ARRAY(arena, float, g->n_book);
  for (uint32_t state = 0; state <= bases; state++) {
    double v = 0;
    for (uint32_t i = 0; i < bases; i++) v += factor[i] * base(bases, i, state);
    g->book[state] = (float)v;
  }
  return true;
}
