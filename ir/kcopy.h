// Copying kernel IR with substitution of variables and buffers: cloning, unrolling, cutting kernels apart.
#ifndef QCC_IR_KCOPY_H
#define QCC_IR_KCOPY_H

#include "ir/kernel.h"

// What the copy replaces; all arrays are indexed by ids of the kernel copied from.
typedef struct KCopy {
  Arena *arena;
  Kernel *to;            // new variables and buffers take their ids from its counters
  const Affine **subst;  // index value of a variable, or NULL: vars[] holds
  KVar **vars;           // replacement of a variable, or NULL: keep
  KBuf **bufs;           // replacement of a buffer, or NULL: keep
} KCopy;

// Empty maps big enough for every id of `from`, in `scratch`; nodes of the copy go to `arena`.
KCopy kcopy_new(Arena *arena, Arena *scratch, const Kernel *from, Kernel *to);
// Loop variables, lets and allocs inside the block become new ones (recorded in the maps).
KBlock kcopy_block(KCopy *c, const KBlock *b);
KExpr *kcopy_expr(const KCopy *c, const KExpr *x);
Affine kcopy_affine(const KCopy *c, const Affine *a);
KBuf *kcopy_buf(KCopy *c, KBuf *b);  // makes copies of views of replaced buffers on demand

// Doubly linked statement lists.
void kblock_append(KBlock *b, KStmt *s);
void kblock_insert(KBlock *b, KStmt *before, KStmt *s);  // before NULL: at the end
void kblock_remove(KBlock *b, KStmt *s);
void kblock_splice(KBlock *b, KStmt *before, KBlock *from);  // moves every statement of `from`, which ends up empty
KStmt *kstmt_new(Arena *arena, KStmtKind kind);
KVar *kvar_new(Arena *arena, Kernel *k, const char *name, KVarKind kind, DType type);

#endif
