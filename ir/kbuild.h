// Building kernels. A builder keeps a stack of open blocks; kb_for/kb_if open one, kb_end closes it.
//
//   KBuild b; kbuild_init(&b, m, "relu_0", loc);
//   KBuf *x = kb_param(&b, "x", DT_F32, 1, (int64_t[]){n}, SPACE_ARG);
//   KBuf *y = kb_param(&b, "y", DT_F32, 1, (int64_t[]){n}, SPACE_ARG);
//   KVar *i = kb_for(&b, "i", 0, n, 1, FOR_VEC);
//     kb_store(&b, y, &(Affine){...}, kx_op1(&b, KOP_RELU, kx_load1(&b, x, aff_var(i))));
//   kb_end(&b);
//   Kernel *k = kbuild_done(&b);
#ifndef QCC_IR_KBUILD_H
#define QCC_IR_KBUILD_H

#include "ir/kernel.h"

#define KBUILD_DEPTH 64

typedef struct KBuild {
  Module *m;
  Arena *arena;  // module arena, or the module's build arena
  Kernel *k;
  KBlock *block[KBUILD_DEPTH];
  uint32_t depth;
} KBuild;

void kbuild_init(KBuild *b, Module *m, const char *name, const Loc *loc);
Kernel *kbuild_done(KBuild *b);  // verifies that every block was closed

KBuf *kb_param(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, KSpace space);
KBuf *kb_param_strided(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, const int64_t *strides,
                       KSpace space);
KBuf *kb_alloc(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, KSpace space);
// Numbers of the kernel itself (SPACE_TABLE), copied.
KBuf *kb_table(KBuild *b, const char *name, DType t, int64_t n, const void *data);
KBuf *kb_view(KBuild *b, KBuf *of, const char *name, DType t, uint32_t rank, const int64_t *dims);

KVar *kb_for(KBuild *b, const char *name, int64_t lo, int64_t hi, int64_t step, KForKind kind);
KVar *kb_for_aff(KBuild *b, const char *name, Affine lo, Affine hi, int64_t step, KForKind kind);
void kb_if(KBuild *b, KExpr *cond);
void kb_else(KBuild *b);  // closes the then block and opens the other
void kb_end(KBuild *b);
KVar *kb_let(KBuild *b, const char *name, KExpr *value);
void kb_store(KBuild *b, KBuf *buf, const Affine *idx, KExpr *value);  // idx: buf->rank entries, copied
void kb_store1(KBuild *b, KBuf *buf, Affine i, KExpr *value);          // rank 1
void kb_reduce(KBuild *b, KOp op, KBuf *buf, const Affine *idx, KExpr *value);
void kb_reduce_bits(KBuild *b, KBuf *buf, const Affine *idx, KExpr *value);
void kb_call(KBuild *b, Kernel *callee, uint32_t n, KBuf *const *args, const Affine *offsets);
// Matrix tiles (kernel.h): rows of memory `step` elements apart, and c += x y.
void kb_tile_zero(KBuild *b, KBuf *tile);
void kb_tile_load(KBuild *b, KBuf *tile, KBuf *from, const Affine *idx, int64_t step);
void kb_tile_store(KBuild *b, KBuf *tile, KBuf *to, const Affine *idx, int64_t step);
void kb_tile_dot(KBuild *b, KBuf *c, KBuf *x, KBuf *y);

KExpr *kx_f(KBuild *b, DType t, double v);
KExpr *kx_i(KBuild *b, DType t, int64_t v);
KExpr *kx_index(KBuild *b, Affine a);  // i64 value
KExpr *kx_var(KBuild *b, KVar *let);
KExpr *kx_load(KBuild *b, KBuf *buf, const Affine *idx);
KExpr *kx_load1(KBuild *b, KBuf *buf, Affine i);
KExpr *kx_op1(KBuild *b, KOp op, KExpr *x);
KExpr *kx_op2(KBuild *b, KOp op, KExpr *x, KExpr *y);
KExpr *kx_op3(KBuild *b, KOp op, KExpr *x, KExpr *y, KExpr *z);
KExpr *kx_cast(KBuild *b, DType t, KExpr *x);  // x itself when it has that type already
KExpr *kx_view(KBuild *b, DType t, KExpr *x);
KExpr *kx_low_word(KBuild *b, KExpr *x);  // f64 -> i32
KExpr *kx_clone(KBuild *b, const KExpr *x);

#endif
