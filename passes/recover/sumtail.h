// The tail of a sum: everything computed from it and from constants per channel, element by element, also below ops
// that only move elements or take the largest of a window. It is run by the interpreter on sums of our choice.
//
//   sum -> value -> batchnorm -> maxpool -> clip -> mul -> round -> div
//
// Moves are identities on the sums: what stands behind them is evaluated as if they were not there.
#ifndef QCC_PASSES_RECOVER_SUMTAIL_H
#define QCC_PASSES_RECOVER_SUMTAIL_H

#include "ir/eval.h"
#include "passes/recover/levels.h"

#define TAIL_OPS 48
#define NO_MOVE UINT32_MAX

typedef struct TailOp {
  Op *op;         // its first result is the value; NULL: the value of the sum itself
  uint32_t from;  // the tail op whose value it reads, of several any
  uint32_t move;  // the last move this value is behind: an index, or NO_MOVE
  bool moves;     // it is a move itself
  bool whole;     // it or something before it is a cast to an integer
  bool few;       // something before it or itself makes few values: a rounding, a comparison
  bool monotone;  // every step from the sum only rises or only falls, per channel
} TailOp;

typedef struct SumTail {
  PassCtx *ctx;
  Arena *arena;  // lives as long as the tail
  const Sum *s;
  Value *base;  // the sum before all moves
  TailOp op[TAIL_OPS];
  uint32_t n;
  Func *f;        // base and its tail on a tensor [rows, .., channels, ..]
  int64_t rows;   // of one evaluation
  int32_t *sums;  // [rows][channels], its argument
  Tensor value[TAIL_OPS];
} SumTail;

// Collects the ops; false when nothing follows the sum.
bool sumtail_open(SumTail *t, PassCtx *ctx, const Sum *s, Arena *arena);
// The move that the operand of a move is behind, or NO_MOVE. Move 0 is the pool of the sum itself.
uint32_t sumtail_move_before(const SumTail *t, uint32_t move);
// Fills t->value from t->sums; the results of the call before are gone.
bool sumtail_run(SumTail *t, Arena *scratch);
void sumtail_close(SumTail *t);
// Element (row, channel) of a value as a double.
double sumtail_at(const SumTail *t, uint32_t op, int64_t row, int64_t channel);

#endif
