// Numeric gates by op class: when is a float result right (reliability rules: E exact, U ULP, C contraction, N
// composite, M model). No fixed tolerance for contractions: their bound follows from the operands.
#ifndef QCC_FRONTEND_DRIVER_GATE_H
#define QCC_FRONTEND_DRIVER_GATE_H

#include "ir/eval.h"

typedef struct GateResult {
  bool ok;
  char cls;          // E, U, C, N or M
  double worst;      // largest |got - want| / allowed; > 1 is outside
  double max_abs;    // largest |got - want|
  int64_t at;        // element with the largest ratio
  double got, want;  // there
  int64_t outside;   // elements that are not ok
} GateResult;

// Result `index` of op, computed by the object from `in`, against the interpreter's.
GateResult gate_layer(const Op *op, uint32_t index, const Tensor *in, const Tensor *want, const Tensor *got,
                      Arena *scratch);
// A model output: ONNX's own gate |got - want| <= 1e-7 + 1e-3 |want| loosened to 1e-5 of the largest value (sums that
// cancel), 2^-9 of it for half outputs; integers and bools equal.
GateResult gate_model(const Tensor *want, const Tensor *got);
const char *gate_text(Arena *arena, const GateResult *r);

#endif
