// What a kernel over its own tables does to vectors, as a list (asm_x86_list.c), for the printer asm_x86.c.
#ifndef QCC_BACKENDS_ASM_X86_LIST_H
#define QCC_BACKENDS_ASM_X86_LIST_H

#include "ir/base/vec.h"
#include "ir/kernel.h"

typedef enum AsmTermKind { ASM_FUSED, ASM_TWO, ASM_DOT4 } AsmTermKind;  // ASM_TWO: a product and a sum, each rounded

typedef struct AsmTerm {
  int64_t at;  // element of x in lane 0
  uint32_t w;  // bits of a float, or four signed bytes
  AsmTermKind kind;
} AsmTerm;

// y[to ..] = start + sum of terms [first, end).
typedef struct AsmRow {
  int64_t to;
  int32_t start;  // of integers; floats begin with 0
  uint32_t first, end;
} AsmRow;

typedef struct AsmList {
  uint32_t lanes;
  const KBuf *x, *y;              // parameters; x NULL: no weight is other than zero
  int64_t trips, x_step, y_step;  // of the loop around everything; elements
  VEC(AsmTerm) terms;             // of a row: in order
  VEC(AsmRow) rows;
} AsmList;

// False when the kernel does anything else, or a row does not take x in ascending order.
bool asm_list_of(Arena *arena, const Kernel *k, AsmList *list);

#endif
