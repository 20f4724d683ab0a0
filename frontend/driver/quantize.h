// --quantize: calibration on the float network before the passes run.
#ifndef QCC_FRONTEND_DRIVER_QUANTIZE_H
#define QCC_FRONTEND_DRIVER_QUANTIZE_H

#include "frontend/driver/samples.h"
#include "passes/quantize/quantize.h"

// What the float network gives on the samples.
typedef struct QuantReference {
  Samples samples;
  Tensor **want;  // [sample][result]
} QuantReference;

bool quantize_asked(const Session *s);
// Reads rules and samples, compiles the float network with all sites as outputs and runs it on the samples; what was
// seen goes to s->pass_opt.quantize. Nothing where nothing is asked for, or when it was done. False after diag_error.
bool quantize_prepare(Session *s);

// Measures the network with the choices made, and where a limit is given takes back few bits until it is kept.
// (quantize_search.c)
bool quantize_search(Session *s, Quantization *z, const QuantReference *ref);
// A session of its own on this machine, for the same model.
Session quantize_session(const Session *s, Quantization *z);

// --policy=FILE as rules, and --save-policy=FILE. False after diag_error. (quantize_policy.c)
bool policy_read(Session *s, Quantization *z);
bool policy_write(Session *s, const Quantization *z);

#endif
