// Schemes of factoring, and how ranks are asked for.
//
// A row of schemes.def names one function. It appends to `out` every form of the layer that it has for what is asked
// (one per order, split or shape), or none and says why. All of them work on matricisations of the weights: a
// permutation and a reshape keep the Frobenius norm, so the tail of the singular values is the error of the layer
// (S25).
#ifndef QCC_PASSES_COMPRESS_SCHEME_H
#define QCC_PASSES_COMPRESS_SCHEME_H

#include "passes/compress/form.h"
#include "passes/compress/linalg.h"

typedef enum AskKind { ASK_RANK, ASK_ENERGY, ASK_ERROR } AskKind;

// What a form may cost: schemes whose factors take long to find look at it first.
typedef struct FactorGate {
  const Target *target;
  bool by_size;  // bytes of weights instead of cycles
  double most;
} FactorGate;

typedef struct FactorAsk {
  AskKind by;
  double value;  // ENERGY: share of the squares kept; ERROR: relative Frobenius norm
  uint32_t n_ranks;
  int64_t rank[FORM_RANKS];  // RANK: of each step in order; the last one holds for those that follow
  int64_t lanes;             // > 1: offer the rank rounded up to whole vectors too
  uint32_t n_in, n_out;      // modes given for input and output: their products are the channels
  int64_t in[MAX_RANK], out[MAX_RANK];
  const FactorGate *gate;  // NULL: forms of any price are wanted
} FactorAsk;

typedef struct Forms {
  Arena *arena;
  VEC(Form *) list;
  const char *why;  // there is none
} Forms;

typedef struct Scheme {
  const char *name, *doc;
  bool by_inputs;  // reads FactorLayer.stats
  void (*run)(const FactorLayer *l, const FactorAsk *ask, Forms *out);
} Scheme;

// Cycles of the form on the target, or bytes. Only the shapes of the factors count.
double form_cost(const FactorLayer *l, const Form *f, const FactorGate *gate);

uint32_t scheme_count(void);
const Scheme *scheme_at(uint32_t i);
const Scheme *scheme_by_name(const char *name);  // NULL: none

// ---- for schemes
Form *forms_add(Forms *out, const char *scheme);
void forms_none(Forms *out, const char *why);  // the first reason is kept

// Squared tails of descending singular values: tail[r] = sum over i >= r of s[i]^2, n + 1 entries, added to `tail`.
void tail_add(int64_t n, const double *s, double *tail);
// How far a scheme of several truncations is: what may still be lost is shared evenly by the steps to come.
typedef struct AskStep {
  uint32_t step, steps;
  double norm2, spent;  // squares: of the weights, and lost so far
} AskStep;
// The ranks asked for at a step, of at most n, from the squared tails: 1 or 2 of them in `ranks` (the second one
// rounded up to whole vectors).
uint32_t ranks_asked(const FactorAsk *ask, AskStep at, int64_t n, const double *tail, int64_t ranks[2]);
// svd_of within the limit of what the compiler takes on. False: forms_none was told.
// A search over shapes goes through its candidates in order until their decompositions have cost this much together.
#define SEARCH_LIMIT 2e10
bool scheme_svd_of(int64_t rows, int64_t cols, const double *a, Forms *out, Svd *d);
// Elements of `from`, of dims[rank], with axes permuted: result axis i is axis perm[i].
void tensor_permute(uint32_t rank, const int64_t *dims, const uint32_t *perm, const double *from, double *to);
// u (rows x r) and v (r x cols) of the first r terms, the square roots of the singular values on either side, so that
// both factors have like ranges.
void svd_split(const Svd *d, int64_t r, double *u, double *v);

// ---- tensor trains (tt.c): S32

typedef struct Train {
  uint32_t d;
  int64_t n[MAX_RANK], r[MAX_RANK + 1];  // modes; ranks, r[0] = r[d] = 1
  double *core[MAX_RANK];                // r[k] x n[k] x r[k + 1]
} Train;

// `groups` tensors of the same modes n[d], truncated from the left to the same ranks. error2 gets the sum of the tails
// of all steps, which is the squared error exactly: the errors of the steps are orthogonal. `variant` 1 takes ranks
// rounded up to whole vectors; *differs says whether any was. False: forms_none was told.
bool train_of(uint32_t groups, uint32_t d, const int64_t *n, const double *const *a, const FactorAsk *ask,
              uint32_t variant, bool *differs, Forms *out, Train *trains, double *error2);
// The tensor of a train, its modes in order.
void train_tensor(const Train *t, double *a, Arena *arena);
// The form of a dense layer from the train of its weights with modes n[k] m[k] (scheme_tt.c).
void tt_dense_form(const FactorLayer *l, const Train *t, const int64_t *n, const int64_t *m, double error2, Forms *out);

#endif
