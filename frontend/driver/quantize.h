// --quantize: calibration on the float network before the passes run.
#ifndef QCC_FRONTEND_DRIVER_QUANTIZE_H
#define QCC_FRONTEND_DRIVER_QUANTIZE_H

#include "frontend/driver/session.h"

bool quantize_asked(const Session *s);
// Reads rules and samples, compiles the float network with all sites as outputs and runs it on the samples; what was
// seen goes to s->pass_opt.quantize. Nothing where nothing is asked for, or when it was done. False after diag_error.
bool quantize_prepare(Session *s);

#endif
