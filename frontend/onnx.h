// The importer's interface: one ONNX file to one module.
#ifndef QCC_FRONTEND_ONNX_H
#define QCC_FRONTEND_ONNX_H

#include "ir/graph.h"

typedef struct NamedDim {
  const char *name;
  int64_t value;
} NamedDim;
typedef struct NamedShape {
  const char *name;
  uint32_t rank;
  int64_t dims[MAX_RANK];
} NamedShape;
typedef struct NamedFile {
  const char *name;
  const char *path;
} NamedFile;

typedef struct OnnxOptions {
  VEC(NamedDim) dims;      // --dim N=1
  VEC(NamedShape) shapes;  // --input-shape NAME=1,3,224,224
  VEC(NamedFile) binds;    // --bind NAME=FILE.pb
  bool external_data;      // allow external data files beside the model (default true)
  int64_t fold_bytes;      // budget of one folded constant (default 64 MiB)
  int64_t max_nodes;       // after inlining (default 1,000,000)
  bool strict_fp;          // constants are folded as they are written (default false: x + (q - x) is q)
} OnnxOptions;

OnnxOptions onnx_options_default(void);

// Reads, scans, unpacks and imports. The returned module borrows the mapped file: it stays mapped until exit.
// NULL after diag_error (every unsupported node is listed, grouped by operator).
Module *onnx_import(Arena *arena, Diag *diag, const char *path, const OnnxOptions *opt);

// The same from bytes in memory (fuzzing, tests); `dir` is where external data is looked up, NULL forbids it.
Module *onnx_import_bytes(Arena *arena, Diag *diag, const char *file, const char *dir, const uint8_t *bytes, size_t n,
                          const OnnxOptions *opt);

// Test data: a TensorProto (.pb) or NumPy (.npy) file.
typedef struct FileTensor {
  const char *name;  // "" for .npy
  const Type *type;
  const void *data;  // packed as constants
} FileTensor;
bool tensor_file_read(Module *m, const char *path, FileTensor *out);
bool tensor_file_write(Module *m, const char *path, const char *name, const Type *type,
                       const void *data);  // by extension

#endif
