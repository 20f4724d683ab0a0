// The plain interpreter of the graph IR: the constant folder, the oracle of golden tests and of `qcc verify`.
// Simple loops in double or int64; shares no code with passes or kernels. Float results are rounded to their type
// where a tensor is materialised; contractions accumulate in double and round once.
#ifndef QCC_IR_EVAL_H
#define QCC_IR_EVAL_H

#include "ir/graph.h"

typedef struct Tensor {
  const Type *type;
  void *data;  // packed as in constants
} Tensor;

Tensor tensor_new(Arena *arena, const Type *type);  // zeroed
Tensor tensor_of_const(Module *m, Const *c);

// Evaluates one op. `in` has op->n_in entries (data NULL where the operand is absent), `out` op->n_out entries which
// the function fills, allocating in `arena`. False after diag_error (run-time index out of range ...).
bool eval_op(const Op *op, const Tensor *in, Tensor *out, Arena *arena);

// Error bounds for float contractions (reliability.md section 5, class C): for each element of out[0] the sum of
// |x||w| (+ |bias|) into `magnitude` and the number of terms K into *terms; false when the op is not of class C.
bool eval_op_magnitude(const Op *op, const Tensor *in, double *magnitude, int64_t *terms, Arena *arena);

// Runs a whole function. `args` and `results` in order. A watcher, when given, sees every op's results (`qcc verify`).
typedef void EvalWatch(void *ctx, const Op *op, const Tensor *in, const Tensor *out);
bool eval_func(Func *f, const Tensor *args, Tensor *results, Arena *arena, EvalWatch *watch, void *ctx);

// Applies a function of rank-0 values to every element of out, whose type and memory are given; operands are broadcast
// to its shape (map, post).
void eval_body(Func *body, const Tensor *in, Tensor *out, Arena *arena);

// Work estimate in scalar operations, known before running (folding budget).
int64_t eval_cost(const Op *op);

#endif
