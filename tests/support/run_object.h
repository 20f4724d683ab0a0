// One run of a compiled module in this process.
#ifndef QCC_TESTS_RUN_OBJECT_H
#define QCC_TESTS_RUN_OBJECT_H

#include "backends/backend.h"

// Emits m for `t`, or for the row of an emulator, loads it and runs it once on this thread, with a workspace of 0xff
// (NaN wherever nothing was written). False when any of that fails; m->diag may say why.
bool run_object(Module *m, const Target *t, const struct TargetRow *emulated, const void *const *in, void *const *out);

#endif
