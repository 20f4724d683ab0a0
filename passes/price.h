// The price model: what a contraction costs under a strategy on a target, in cycles of one core.
//
// time = max(compute, bytes moved / bandwidth of the level they come from) + fixed. Rates are the measured ones of the
// target row. Prices compare plans with each other; they do not predict a network's time to the percent.
#ifndef QCC_PASSES_PRICE_H
#define QCC_PASSES_PRICE_H

#include "ir/graph.h"
#include "ir/target.h"

// A contraction as the planner sees it: `copies` independent products of [rows * m, k] by [k, n].
typedef struct Work {
  int64_t copies, rows, m, n, k;
  int64_t row_run;     // of the rows, how many neighbours may share a tile
  int64_t k_inner;     // length of the innermost contiguous reduction
  int64_t x_step;      // bytes between neighbouring columns of x
  DType type;          // of the arithmetic
  bool depthwise;      // one filter per channel: lanes are channels, k taps
  bool packs_at_run;   // weights are not constant
  bool folds;          // neighbouring columns may be folded into channels (conv_fold)
  bool parts;          // lanes may share a column (nest_parts.c)
  bool k_lanes;        // neighbours along the innermost reduction are neighbours in x
  int64_t taps, step;  // kernel and stride along the columns, where neighbours in x are neighbours in both; or 0
  double w_ops;        // operations on a vector of weights before it is multiplied
  int64_t w_more;      // registers that a vector of weights takes besides one
  bool x_operand;      // against one vector of weights, x is an operand in memory and needs no load of its own
  int64_t held;        // vectors per vector of the result that its end reads: bias, post operands
  bool to_bytes;       // 32-bit sums end as bytes
  int64_t post;        // operations after each sum that tiles keep apart from it (price_post)
  double x_bytes, w_bytes, y_bytes;
} Work;

typedef struct Price {
  double compute, memory, fixed;
  Plan plan;  // names are interned in the module given
} Price;

typedef struct Strategy {
  const char *name, *doc;
  bool (*applies)(const Op *op, const Target *t);
  void (*price)(const Op *op, const Target *t, Price *p);
} Strategy;

uint32_t strategy_count(void);
const Strategy *strategy_at(uint32_t i);

// The shape of a contraction. False: the op is none, a dim is symbolic, or the layout is not one the kernels read.
bool work_of(const Op *op, Work *w);
// Operations of the scalar code of the post function, long ones counted by their length; 0 without one.
int64_t price_post(const Op *op);
double price_total(const Price *p);
// Bytes per cycle from the smallest cache that holds `bytes`.
double price_bandwidth(const Target *t, double bytes);
// The price of the cheapest plan of a contraction. False: no strategy applies.
bool price_best(const Op *op, const Target *t, Price *best);
// The price under the strategy of that name. False: it does not apply.
bool price_by(const Op *op, const Target *t, const char *name, Price *p);
// Bits of a weight as the plan stores it.
uint32_t plan_weight_bits(const Op *op, const Plan *p);
// Is a convolution with channels first and zeros in its weights cheaper by its non-zeros than channels-last by panels?
bool price_stays_first(const Op *op, const Target *t);
// The share of zeros in the weights, and the one from which `sparse` is cheaper than panels for this shape. False when
// the strategy does not know the form.
bool price_break_even(const Op *op, const Target *t, double *zeros, double *even);
// The cheapest plan of a contraction whose results round as the direct sum does.
Plan plan_choose(const Op *op, const Target *t);
// Bytes of a reduction of k in one product of matrix tiles: k in equal parts of at most 64, whole groups of four. Where
// `exact`, the parts have to be whole, or the answer is 0.
int64_t tile8_chunk(int64_t k, bool exact);
// Do the loops of the strategy multiply? Those of planes count, those of lut look up.
bool strategy_multiplies(const char *name);
// Does the strategy leave out terms with a zero weight, so that a NaN or an infinity in x may go unseen?
bool strategy_drops_terms(const char *name);
// Are the sums those of transformed operands, which round otherwise than the direct ones and take more weights?
bool strategy_transforms(const char *name);
// plan_choose among strategies without what is to be avoided, where one of those applies.
// Or with words of several floats where they cost up to twenty times as much.
enum { AVOID_MULTIPLY = 1, AVOID_DROPPED_TERMS = 2, AVOID_TRANSFORMS = 4, PREFER_WORDS = 8 };
Plan plan_choose_avoiding(const Op *op, const Target *t, unsigned avoid);

#endif
