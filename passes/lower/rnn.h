// What the recurrent lowerings share: shapes, operands, activation functions.
#ifndef QCC_PASSES_LOWER_RNN_H
#define QCC_PASSES_LOWER_RNN_H

#include "passes/lower/lanes.h"

#define RNN_GATES 4
#define RNN_ACTS 6
#define RNN_CELL_ACT 2  // of lstm: takes the cell state, which clip leaves alone

typedef struct RnnAct {
  KOp op;       // KOP_NONE: affine
  bool scaled;  // alpha * tanh(beta * x), alpha * x + beta
  double alpha, beta;
  uint32_t n_params;  // passed to the op
} RnnAct;

typedef struct RnnShape {
  int64_t dirs, steps, batch, n_in, n_hidden, gates;
  bool batch_major, reverse;
  double clip;
  DType t;
  RnnAct acts[RNN_ACTS];  // per direction
  uint32_t acts_per_dir;
} RnnShape;

// Attribute slots of the three ops.
typedef struct RnnSlots {
  int direction, activations, alpha, beta, clip, batch_major;
} RnnSlots;

bool rnn_shape(LowerCtx *ctx, const Op *op, const RnnSlots *slots, int64_t gates, const char *acts, RnnShape *s);
// The activation function of a direction applied to x, which is clipped first unless it is the cell state.
KExpr *rnn_activate(const RnnShape *s, KBuild *b, int64_t dir, uint32_t act, KExpr *x);
// x W^T of one direction for the whole sequence: [rows of x, gates * hidden], by the matmul lowering. NULL after an
// error.
PBuf *rnn_project(LowerCtx *ctx, const Op *op, const RnnShape *s, int64_t dir);
// Gates [from, to) of one direction in tiles of `width` hidden units, the last one narrower, of vectors of `lanes`.
typedef struct RnnTiles {
  int64_t dir, from, to, width, lanes;
} RnnTiles;

// R in the order it is read: [tiles][k][vectors][gates][lanes], at the end of the last tile's rows [gates][rest]. NULL
// after an error.
PBuf *rnn_recurrent(LowerCtx *ctx, const Op *op, const RnnShape *s, const RnnTiles *tiles);

#endif
