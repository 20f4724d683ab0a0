// What rounding alone does to the outputs of a network that rounds to levels: a sum that float arithmetic brings to the
// other side of a tie changes a level, and everything behind it. The network's own noise, measured on the interpreter.
#ifndef QCC_FRONTEND_DRIVER_NOISE_H
#define QCC_FRONTEND_DRIVER_NOISE_H

#include "frontend/driver/gate.h"

typedef struct Noise {
  double most;      // largest change of an element of the output
  int64_t changed;  // elements outside of the model gate, in the worst of the runs
} Noise;

// Is there a quantiser, a rounding or a sign of floats in the graph?
bool noise_applies(const Func *f);

// Runs `f` four times with every float sum moved at random inside of its error bound (class C), and sets noise[i] to
// what that changes of result i. False after diag_error.
bool noise_measure(Func *f, const Tensor *args, const Tensor *reference, Noise *noise, Arena *arena);

// Is a difference outside of the gate no more than twice the noise, in size and in four times as many elements?
bool noise_explains(const Noise *noise, const Tensor *want, const Tensor *got);

#endif
