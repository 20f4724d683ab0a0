// The gate from the graph IR to the kernel IR: one function per op kind (lower.def), sharing these helpers.
//
// A lowering makes one or more kernels with ir/kbuild.h and appends steps to the program. It decides the shape of the
// nest from the op's plan; vectorize and unroll do the mechanical rest. It writes `vec` on the innermost contiguous
// loop with the full extent (vectorize cuts it to lanes and makes the tail) unless it works with explicit lane tiles.
// The outermost loop over independent work is `par`. Index arithmetic never leaves the buffers.
#ifndef QCC_PASSES_LOWER_H
#define QCC_PASSES_LOWER_H

#include "ir/kbuild.h"
#include "ir/target.h"
#include "passes/pass.h"

typedef struct Bits Bits;          // values held as bits (bits.h)
typedef struct OpenList OpenList;  // packed weights (open.h)

typedef struct LowerCtx {
  Module *m;
  Program *p;
  const Target *target;
  const PassOptions *opt;
  PBuf **buf_of;  // by value id
  uint32_t n_buf_of;
  Bits *bits;
  bool *fused;  // by value id: the op that alone reads the value is done by the one that makes it
  uint32_t n_fused;
  OpenList *packed;
} LowerCtx;

// A row of lower.def. Emits the steps for op, reading operands from and writing results to lower_buf(...).
// False after diag_error (something it can't do, with the reason).
typedef bool LowerFn(LowerCtx *ctx, const Op *op);

PBuf *lower_buf(LowerCtx *ctx, Value *v);                          // buffer of any value; constants become PBUF_CONST
PBuf *lower_const(LowerCtx *ctx, Value *constant);                 // PBUF_CONST of a constant made while lowering
PBuf *lower_work(LowerCtx *ctx, const char *name, const Type *t);  // scratch between the steps of one op
void lower_bind(LowerCtx *ctx, const Value *v, PBuf *buf);         // gives a value made while lowering its buffer
int64_t lower_axis(const Op *op, int slot);                        // an axis of operand 0, from the front
bool lower_is_used(const Op *op, uint32_t result);                 // does anybody read this result
// The elements [first, first + type_count(t)) of a buffer, seen as type t.
PBuf *lower_alias(LowerCtx *ctx, PBuf *of, const Type *t, int64_t first);

// Starts the kernel of an op: "mnemonic_N", N counting the program's kernels.
void lower_begin(LowerCtx *ctx, KBuild *b, const Op *op);

// The type arithmetic is done in for a tensor type: f16, bf16 and smaller floats -> f32; bool and integers ->
// themselves.
DType lower_compute_type(DType t);
// Parameter for a buffer, dense in its type's shape; a rank-0 tensor is seen as [1].
KBuf *lower_param(KBuild *b, const PBuf *buf, KSpace space);
// The same, seen as one row of all elements or as the given dims (same number of elements). Space from the buffer.
KBuf *lower_flat(KBuild *b, const PBuf *buf);
KBuf *lower_shaped(KBuild *b, const PBuf *buf, uint32_t rank, const int64_t *dims);
// a * b + c of a contraction: one rounding, or two under --fp=strict.
KExpr *lower_mul_add(const LowerCtx *ctx, KBuild *b, KExpr *x, KExpr *y, KExpr *acc);
// Load widened to the compute type; store rounded from it.
KExpr *lower_load(KBuild *b, KBuf *buf, const Affine *idx);
void lower_store(KBuild *b, KBuf *buf, const Affine *idx, KExpr *value);
// Rank-1 forms.
KExpr *lower_load1(KBuild *b, KBuf *buf, Affine i);
void lower_store1(KBuild *b, KBuf *buf, Affine i, KExpr *value);
// A constant of a compute type.
KExpr *lower_number(KBuild *b, DType t, double v);
// Index of a tensor broadcast to `rank` loop indices out[]: NumPy rules, coefficient 0 on stretched axes. A rank-0
// tensor gets one index, 0.
void lower_broadcast_idx(const Type *t, uint32_t rank, const Affine *out, Affine *idx);

// Scalar code of a body function (map, post): args are compute-type values of its parameters; every op inside is
// ELTWISE (kop from the table, attributes appended as constants). Intermediate results become `let`s. Returns the value
// of result 0.
KExpr *lower_body(KBuild *b, const Func *body, KExpr *const *args);
// The scalar code of one ELTWISE op.
KExpr *lower_eltwise_expr(KBuild *b, const Op *op, KExpr *const *args);

// The post function of a contraction: parameters for its operands are added with lower_post_params, the value for
// result element out[] (indices of the result type, rank of the result) is lower_post(...). Without post it returns
// raw.
typedef struct PostParams {
  const Op *op;
  uint32_t n;
  KBuf *buf[16];
} PostParams;
PostParams lower_post_params(LowerCtx *ctx, KBuild *b, const Op *op);
KExpr *lower_post(KBuild *b, const PostParams *pp, KExpr *raw, const Affine *out);

// Ends the kernel and appends the step; `bufs` in parameter order (post buffers are appended by the callee when pp is
// given).
Step *lower_step(LowerCtx *ctx, KBuild *b, const Op *op, const PostParams *pp, uint32_t n, PBuf *const *bufs);

// Kernel that copies one buffer into another of the same type and size.
bool lower_copy(LowerCtx *ctx, const Op *op, PBuf *from, PBuf *to);
// Can the SLICE be a window of its operand's bytes? Sets the first element.
bool lower_slice_is_window(const Op *op, int64_t *first);

// ---- lower_pack.c: integers below a byte and floats of 8 and 4 bits, which only the interface holds
bool lower_is_narrow(DType t);
bool lower_is_packed_cast(const Op *op);  // a cast from or to elements below a byte
LowerFn lower_packed_cast;
bool lower_copy_bytes(LowerCtx *ctx, const Op *op, PBuf *from, PBuf *to);  // of any type

bool lower_has(OpKind kind);  // element-wise, a view, or a row of lower.def

LowerFn lower_eltwise;  // every ELTWISE op
#define LOWER(ID, fn) LowerFn fn;
#include "passes/lower/lower.def"
#undef LOWER

#endif
