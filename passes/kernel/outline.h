// Moving statements of a kernel into a callee (split).
#ifndef QCC_PASSES_KERNEL_OUTLINE_H
#define QCC_PASSES_KERNEL_OUTLINE_H

#include "passes/kernel/kutil.h"

typedef struct Outline {
  Module *m;
  Arena *scratch;
  Kernel *k;
  Bitset stored;               // buffers stored to anywhere in the kernel, by root id
  Bitset repeatable;           // lets a callee can compute again: no loop variable, no stored buffer; by id
  VEC(const KStmt *) visible;  // those of the blocks around, outermost first
} Outline;

Outline outline_new(Module *m, Arena *scratch, Kernel *k);
void outline_see(Outline *o, const KBlock *b, const KStmt *until);  // the lets of b before `until` (NULL: all)
bool outline_repeats(const Outline *o, const KStmt *let);
bool stmt_uses(const KStmt *s, const Bitset *vars, const Bitset *bufs);  // a variable or a buffer (by root) of the sets

// Puts [first, last] of block b into a kernel of the program and a call in their place; repeatable lets also stay.
// False when the statements need something a callee cannot get: a loop variable outside buffer indices, a register
// buffer, a let that can't be repeated. Nothing is changed then.
bool outline_call(Outline *o, KBlock *b, KStmt *first, KStmt *last);

#endif
