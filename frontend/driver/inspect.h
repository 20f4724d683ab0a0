// The tables of qcc inspect (cmd_inspect.c).
#ifndef QCC_FRONTEND_DRIVER_INSPECT_H
#define QCC_FRONTEND_DRIVER_INSPECT_H

#include "frontend/driver/session.h"
#include "passes/compress/tensor_stats.h"

typedef struct InspectTensor {
  const char *name, *type;
  uint32_t bits;
  int64_t bytes;
  TensorStats stats;
} InspectTensor;

typedef struct InspectLayer {
  const char *layer, *op, *in, *out;
  int64_t params, bytes, elements;  // of its constants; of its result
  int64_t macs, ops, operations;
} InspectLayer;

typedef struct Inspect {
  VEC(InspectTensor) tensors;
  VEC(InspectLayer) layers;
  int64_t params, bytes, macs, ops, operations;
} Inspect;

#endif
