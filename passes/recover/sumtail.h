// The tail of a sum: everything computed from it and from constants per channel, element by element, also below ops
// that only move elements or take the largest of a window. It is run by the interpreter on sums of our choice.
//
//   sum -> value -> batchnorm -> maxpool -> clip -> mul -> round -> div
//
// Moves are identities on the sums: what stands behind them is evaluated as if they were not there. A threshold op
// counts as element-wise where its rows are the channels of the sum, through the moves before it, or all the same.
#ifndef QCC_PASSES_RECOVER_SUMTAIL_H
#define QCC_PASSES_RECOVER_SUMTAIL_H

#include "ir/eval.h"
#include "passes/recover/grid.h"
#include "passes/recover/levels.h"

#define TAIL_OPS 48
#define NO_MOVE UINT32_MAX
#define NO_AXIS UINT32_MAX

typedef struct TailOp {
  Op *op;         // its first result is the value; NULL: the value of the sum itself
  uint32_t from;  // the tail op whose value it reads, of several any
  uint32_t move;  // the last move this value is behind: an index, or NO_MOVE
  bool moves;     // it is a move itself
  uint32_t axis;  // of a move: that of the channels behind it, or NO_AXIS
  bool whole;     // it or something before it is a cast to an integer
  bool few;       // something before it or itself makes few values: a rounding, a comparison
  bool monotone;  // every step from the sum only rises or only falls, per channel
  bool two;       // the second operand takes part
} TailOp;

typedef struct SumTail {
  PassCtx *ctx;
  Arena *arena;  // lives as long as the tail
  const Sum *s;
  Value *base;  // the sum before all moves
  TailOp op[TAIL_OPS];
  uint32_t n;
  bool two;                  // a second operand is looked for
  const Value *other;        // the second operand: one value of the tail's dims on a grid, or NULL
  const Discrete *other_on;  // its grid
  float *others;             // [rows][channels], the second argument
  Func *f;                   // base and its tail on a tensor [rows, .., channels, ..]
  int64_t rows;              // of one evaluation
  int32_t *sums;             // [rows][channels], its argument
  Tensor value[TAIL_OPS];
} SumTail;

// Collects the ops; false when nothing follows the sum. two: one value that was quantised before may take part.
bool sumtail_open(SumTail *t, PassCtx *ctx, const Sum *s, bool two, Arena *arena);
// Is a value of the tail read by something that does not lead to values with `leads` only? leads is known of later ops.
bool sumtail_is_needed(const SumTail *t, uint32_t op, const bool *leads);
// May the value have few levels that something else reads (of a tail with a second operand: that takes part)?
bool sumtail_has_levels(const SumTail *t);
// The second operand is `step` steps of its grid in the runs that follow.
void sumtail_set_other(SumTail *t, int64_t step);
// The move that the operand of a move is behind, or NO_MOVE. Move 0 is the pool of the sum itself.
uint32_t sumtail_move_before(const SumTail *t, uint32_t move);
// Fills t->value from t->sums; the results of the call before are gone.
bool sumtail_run(SumTail *t, Arena *scratch);
void sumtail_close(SumTail *t);
// Element (row, channel) of a value as a double.
double sumtail_at(const SumTail *t, uint32_t op, int64_t row, int64_t channel);

#endif
