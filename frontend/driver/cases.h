// Inputs to run a network on: recorded ones of --data, or seeded ones.
#ifndef QCC_FRONTEND_DRIVER_CASES_H
#define QCC_FRONTEND_DRIVER_CASES_H

#include "frontend/driver/session.h"
#include "ir/eval.h"

typedef struct Case {
  const char *name;
  Tensor *in, *want;  // want[i].data NULL: not recorded
} Case;

typedef VEC(Case) Cases;

// The shapes of symbolic inputs from the first case of --data, before the model is loaded.
void cases_shapes(Session *s);
// All cases of --data (one, or test_data_set_* folders); without it one of seeded inputs. False after diag_error.
bool cases_read(Session *s, const Func *f, Cases *out);
// All cases of a folder.
bool cases_read_from(Session *s, const Func *f, const char *dir, Cases *out);

// Recorded inputs of --data for passes that compress, of the module that is loaded. False after diag_error.
bool cases_samples(Session *s);

#endif
