// libFuzzer target: any bytes through scan, unpacking and import. Build with clang and -DQCC_FUZZ=ON.
#include "frontend/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  Arena *arena = arena_new("fuzz");
  Diag *diag = diag_new(arena, NULL);
  OnnxOptions opt = onnx_options_default();
  opt.fold_bytes = 1 << 20;
  opt.max_nodes = 10000;
  bool ok = onnx_import_bytes(arena, diag, "fuzz.onnx", NULL, bytes, n, &opt) != NULL;
  QCC_CHECK(ok == (diag_errors(diag) == 0), "import and diagnostics disagree");
  arena_free(arena);
  return 0;
}
