// What the golden runner's two files share.
#ifndef QCC_TESTS_GOLDEN_H
#define QCC_TESTS_GOLDEN_H

#include "ir/kernel.h"

// Runs both modules on the same seeded inputs and compares all results: the entry function, or the program when there
// is one, or (without functions and steps) every kernel by name. `ints` bounds i32 and i64 inputs: [ints[0], ints[1]).
// `within`: what floats may lose, relative to the largest of a result; 0: rounding only.
// True when they agree or when there is nothing that can run (symbolic dims); else the reason is in `why`.
bool golden_evaluate(Module *before, Module *after, const int64_t ints[2], double within, Arena *arena, StrBuf *why);

#endif
