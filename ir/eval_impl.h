// What the files of the graph interpreter share: the hook form, numbers of a tensor as flat arrays, index walks, the
// element-wise engine and bit-exact movement. Private to ir/eval*.c.
//
// A hook finds its result tensors allocated and zeroed; `arena` is scratch that dies when the hook returns.
#ifndef QCC_IR_EVAL_IMPL_H
#define QCC_IR_EVAL_IMPL_H

#include "ir/elem.h"
#include "ir/eval.h"

typedef bool EvalFn(const Op *op, const Tensor *in, Tensor *out, Arena *arena);
#define EVAL(name) bool eval_##name(const Op *op, const Tensor *in, Tensor *out, Arena *arena)

// The hook of every element-wise row.
EVAL(eltwise);

// ---- numbers (eval_nums.c)

// The elements of a tensor, converted once: `f` for float types, else `i` (u64 as its bits).
typedef struct Nums {
  double *f;
  int64_t *i;
  int64_t n;
} Nums;

Nums nums_new(Arena *arena, int64_t n, bool is_float);       // zeroed
Nums nums_of(Arena *arena, const Tensor *t);                 // by the class of its type
Nums nums_as(Arena *arena, const Tensor *t, bool is_float);  // i -> f exact up to 2^53
double *floats_of(Arena *arena, const Tensor *t);            // nums_as(..., true).f
int64_t *ints_of(Arena *arena, const Tensor *t);             // nums_as(..., false).i
void nums_store(Tensor *t, const Nums *v);                   // rounds; integers wrap, float -> int saturates
void floats_store(Tensor *t, const double *v);
// New order of axes: result axis k is axis perm[k] of the source.
Nums nums_permute(Arena *arena, const Nums *v, uint32_t rank, const int64_t *dims, const uint32_t *perm);
Nums nums_permuted_of(Arena *arena, const Tensor *t, bool is_float, const uint32_t *perm);  // nums_as, then permuted
bool int_less(DType t, int64_t a, int64_t b);                                               // u64 compares unsigned
double max_num(double a, double b);                                                         // NaN propagates, -0 < +0
double min_num(double a, double b);

// ---- shapes and walks (eval_nums.c)

// A tensor seen as [outer, n, inner] around one axis.
typedef struct AxisView {
  int64_t outer, n, inner;
} AxisView;

uint32_t op_axis(const Op *op, int slot, uint32_t rank);  // attribute `axis`, negative counts from the end
AxisView axis_view(const Type *t, uint32_t axis);
void tensor_strides(const Type *t, int64_t *strides);
// Strides of `t` seen at the shape `rank`, `dims` it broadcasts to (0 along repeated axes).
void broadcast_strides(const Type *t, uint32_t rank, int64_t *strides);
// Offsets of elements start .. start+n-1 of a walk over dims in C order.
void walk_offsets(uint32_t rank, const int64_t *dims, const int64_t *strides, int64_t start, int64_t n,
                  int64_t *offsets);
// Broadcast `t` to the shape of `to` as doubles.
double *floats_broadcast(Arena *arena, const Tensor *t, const Type *to);

// ---- movement, bit for bit (eval_move.c)

// to[to_base + sum at*to_strides] = from[from_base + sum at*from_strides] for every `at` below dims.
typedef struct MoveEnd {
  int64_t base;
  int64_t strides[MAX_RANK];
} MoveEnd;
void move_strided(uint32_t rank, const int64_t *dims, Tensor *to, const MoveEnd *a, const Tensor *from,
                  const MoveEnd *b);

// Result index along each axis -> source index, or -1: elements without a source are left alone.
typedef struct AxisMaps {
  int64_t *at[MAX_RANK];
} AxisMaps;
void pull_maps(Tensor *out, const Tensor *in, const AxisMaps *m);

// ---- contractions (eval_contract.c): the sums in the order of the result, before rounding and post

Nums conv_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena);
Nums conv_transpose_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena);
Nums matmul_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena);
Nums chain_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena);
int64_t chain_terms(const Op *op);  // no order of multiplying the cores sums more numbers one after the other
int64_t chain_work(const Op *op);   // multiply-adds in the order of the operands

// Windows of conv, conv_transpose and the pools, always three spatial axes (missing leading ones have extent 1).
typedef struct Window {
  int64_t in[3], out[3], kernel[3], stride[3], pad[3], pad_end[3], dilation[3];
} Window;
typedef struct WindowSlots {
  int strides, pads, dilations;
} WindowSlots;
Window window_of(const Op *op, WindowSlots slots, const Type *in, const Type *out, bool nhwc, const int64_t *kernel);
void axes_to_last(uint32_t rank, uint32_t *perm);    // nchw -> nhwc as a permutation
void axes_from_last(uint32_t rank, uint32_t *perm);  // nhwc -> nchw

Diag *op_diag(const Op *op);

// Estimates of work saturate.
static inline int64_t work_times(int64_t a, int64_t b) {
  int64_t r;
  return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

static inline int64_t work_plus(int64_t a, int64_t b) {
  int64_t r;
  return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

#endif
