// Accumulated errors of a factorised network. See measure.c.
#ifndef QCC_PASSES_COMPRESS_MEASURE_H
#define QCC_PASSES_COMPRESS_MEASURE_H

#include "ir/eval.h"
#include "passes/compress/factorize.h"

// The network before and after, and the results that n factorised layers have in each.
typedef struct Measured {
  Func *dense, *now;
  uint32_t n;
  const Value *const *before, *const *after;
  const uint32_t *layer;  // index of the layer in the report
} Measured;

// What the networks are run on: recorded inputs of the options, or seeded ones. Arrays of f->n_args tensors.
const Tensor *measure_inputs(const Func *f, const PassOptions *opt, uint32_t sample, Arena *arena);
// Why the interpreter can't run f on them, or NULL.
const char *measure_refusal(const Func *f, const PassOptions *opt);
double measure_cost(const Func *f);  // of one run, in operations of the interpreter
// How many of them, each taking `cost` of at most `limit`: one to four.
uint32_t measure_samples(const PassOptions *opt, double cost, double limit);
// Fills in errors and cosines of the layers and of the network, or report->unmeasured. Samples come from the options.
void factor_measure(const Measured *m, const PassOptions *opt, FactorReport *report);

#endif
