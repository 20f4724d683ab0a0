// Samples of --calibrate: inputs of the network that ranges are taken from and errors are measured on.
#ifndef QCC_FRONTEND_DRIVER_SAMPLES_H
#define QCC_FRONTEND_DRIVER_SAMPLES_H

#include "frontend/driver/session.h"
#include "ir/eval.h"

typedef struct Samples {
  uint32_t n;
  const Tensor **in;      // [n][inputs]
  const int64_t *labels;  // [n] class of each sample, NULL: not given
} Samples;

// Reads a folder, or one .npy file. A folder holds test_data_set_*/input_N.pb (or input_N.pb alone), or NumPy packs
// whose leading axis counts samples: input_N.npy or NAME.npy for input N, or any .npy files for a network with one
// input; labels.npy beside them holds classes. False after diag_error.
bool samples_read(Session *s, const Func *f, const char *path, Samples *out);

#endif
