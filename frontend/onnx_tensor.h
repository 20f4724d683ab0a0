// TensorProto and SparseTensorProto to constants.
#ifndef QCC_FRONTEND_ONNX_TENSOR_H
#define QCC_FRONTEND_ONNX_TENSOR_H

#include "frontend/onnx_external.h"
#include "frontend/wire_scan.h"
#include "ir/graph.h"
#include "onnx.pb-c.h"

// Where the payloads of a model are: its file in memory, the spans cut out of it, and the folder of external data.
typedef struct TensorStore {
  Module *m;
  const char *file;
  const uint8_t *bytes;
  const WireSpan *spans;
  uint32_t n_spans;
  ExternalDir dir;
} TensorStore;

typedef struct TensorData {
  const Type *type;
  const void *bytes;  // packed; borrowed from the file where its layout allows, else in the module arena
  bool unsupported;   // out: the refusal was only for want of support (string tensors, complex numbers)
} TensorData;

// Reads a tensor of any storage form and checks its lengths and values. `what` names it in messages ("initializer
// 'w'"). False after diag_error, or without a diagnostic when out->unsupported is set: then *why says what is missing.
bool tensor_read(TensorStore *store, const Loc *loc, const char *what, const Onnx__TensorProto *t, TensorData *out,
                 const char **why);
// The same for a sparse tensor (COO), made dense. Dense size at most max_bytes.
bool tensor_read_sparse(TensorStore *store, const Loc *loc, const char *what, const Onnx__SparseTensorProto *t,
                        int64_t max_bytes, TensorData *out, const char **why);

// A message for element types of ONNX that qcc has not: "string", "complex64", or NULL when the number is no type at
// all.
const char *onnx_type_name(int64_t onnx);

#endif
