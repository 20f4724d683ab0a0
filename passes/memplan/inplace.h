// May a kernel write its result over one of its operands?
#ifndef QCC_PASSES_MEMPLAN_INPLACE_H
#define QCC_PASSES_MEMPLAN_INPLACE_H

#include "ir/kernel.h"

// Every element of parameter `to` is written exactly once, and every load of parameter `from` happens in the block that
// writes the same element, not after the write. *identity: the value written is the element itself.
bool kernel_in_place(const Kernel *k, uint32_t from, uint32_t to, bool *identity);

// Parameters that are read and written (through views too; calls count as both).
void kernel_access(const Kernel *k, bool *reads, bool *writes);

#endif
