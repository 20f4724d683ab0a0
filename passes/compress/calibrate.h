// What the inputs of layers look like on recorded samples (PassOptions.samples), for schemes that weigh errors by them.
#ifndef QCC_PASSES_COMPRESS_CALIBRATE_H
#define QCC_PASSES_COMPRESS_CALIBRATE_H

#include "passes/compress/form.h"
#include "passes/pass.h"

typedef struct Calibration Calibration;

// Runs the interpreter on the samples and sums up the inputs of every convolution of one group and every dense layer
// with constant weights whose unfolded input has at most 2,048 entries. NULL without samples, or when the network is
// too large to interpret.
Calibration *calibration_of(Func *f, const PassOptions *opt, Arena *arena);
// The statistics of a layer when others before it have been replaced, so that its form makes good what these lose: `op`
// of `now` is `twin` of the dense network. Those of calibration_stats when it was not seen, or when the runs of the
// interpreter add up to too many.
const FactorStats *calibration_behind(Calibration *c, const PassOptions *opt, Func *dense, const Op *twin, Func *now,
                                      const Op *op, Arena *arena);
// NULL: that layer was not seen. `c` may be NULL.
const FactorStats *calibration_stats(const Calibration *c, const Op *op);

#endif
