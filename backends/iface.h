// The interface of a compiled module: its input and output tensors, as the header and the tables show them.
#ifndef QCC_BACKENDS_IFACE_H
#define QCC_BACKENDS_IFACE_H

#include "ir/kernel.h"

typedef struct IfaceTensor {
  const char *name;    // ONNX name, never NULL
  const char *member;  // mangled, unique among the inputs or the outputs
  const Type *type;
  int64_t bytes;
} IfaceTensor;

typedef struct Iface {
  uint32_t n_in, n_out;
  IfaceTensor *in, *out;
} Iface;

Iface iface_of(Module *m, Arena *arena);

#endif
