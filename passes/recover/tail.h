// The way from an exact integer sum of dequantised bytes to a quantised value, for one multiplication per channel.
//
// The reference of channel c at sum a is the network's own chain in f64: v = a * scale[c] + bias[c], the links in
// order, then saturate(round(v / out_scale) + out_zero). (In f32 the chain is no function of the sum: it rounds every
// factor and partial sum first. Where its scales are powers of two both are exact and the same.) Every step is
// monotone, so the reference is known when its level boundaries are (requant.h).
#ifndef QCC_PASSES_RECOVER_TAIL_H
#define QCC_PASSES_RECOVER_TAIL_H

#include "passes/recover/requant.h"

#define TAIL_LINKS 6

// v -> op(v, by[c]) or, where the channels share it, op(v, by[0], by[1]).
typedef struct TailLink {
  KOp op;
  uint32_t n_by;     // operands after v
  const double *by;  // [channels] of one operand, or the two limits of a clip
  bool per_channel;
} TailLink;

typedef struct Tail {
  int64_t channels;
  const double *scale, *bias;  // bias: the f32 value added, or NULL
  const int64_t *shift;        // the bias in units of the sum, rounded to a whole number of them, or NULL
  const int64_t *lo, *hi;      // range of the sums, without bias
  TailLink link[TAIL_LINKS];
  uint32_t n_links;
  double out_scale;
  int64_t out_zero, out_min, out_max;
  bool zero_first;       // the zero point is added before rounding
  const Target *target;  // of the arithmetic, or NULL
} Tail;

int64_t tail_eval(const Tail *t, int64_t channel, int64_t sum);
// False when no form of arithmetic gives the reference at every sum.
bool tail_requant(const Tail *t, Arena *arena, Requant *out);

#endif
