// Which tensors hold only -1 and +1: a fact read off the graph, for strategies that store one bit per element.
#ifndef QCC_PASSES_BIPOLAR_H
#define QCC_PASSES_BIPOLAR_H

#include "ir/graph.h"

// True when every element of the i8 value is -1 or +1 whatever the inputs are.
bool value_is_bipolar(const Value *v);

#endif
