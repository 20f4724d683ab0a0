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

typedef struct FactorAsk {
  AskKind by;
  double value;  // ENERGY: share of the squares kept; ERROR: relative Frobenius norm
  uint32_t n_ranks;
  int64_t rank[FORM_RANKS];  // RANK: of each step in order; the last one holds for those that follow
  int64_t lanes;             // > 1: offer the rank rounded up to whole vectors too
} FactorAsk;

typedef struct Forms {
  Arena *arena;
  VEC(Form *) list;
  const char *why;  // there is none
} Forms;

typedef struct Scheme {
  const char *name, *doc;
  void (*run)(const FactorLayer *l, const FactorAsk *ask, Forms *out);
} Scheme;

uint32_t scheme_count(void);
const Scheme *scheme_at(uint32_t i);
const Scheme *scheme_by_name(const char *name);  // NULL: none

// ---- for schemes
Form *forms_add(Forms *out, const char *scheme);
void forms_none(Forms *out, const char *why);  // the first reason is kept

// Squared tails of descending singular values: tail[r] = sum over i >= r of s[i]^2, n + 1 entries, added to `tail`.
void tail_add(int64_t n, const double *s, double *tail);
// The ranks asked for at step `step` of `steps`, of at most n, from the squared tails: 1 or 2 of them in `ranks`
// (the second one rounded up to whole vectors). An error or energy is shared evenly by the steps.
uint32_t ranks_asked(const FactorAsk *ask, uint32_t step, uint32_t steps, int64_t n, const double *tail, double norm2,
                     int64_t ranks[2]);
// svd_of within the limit of what the compiler takes on. False: forms_none was told.
bool scheme_svd_of(int64_t rows, int64_t cols, const double *a, Forms *out, Svd *d);
// Elements of `from`, of dims[rank], with axes permuted: result axis i is axis perm[i].
void tensor_permute(uint32_t rank, const int64_t *dims, const uint32_t *perm, const double *from, double *to);
// u (rows x r) and v (r x cols) of the first r terms, the square roots of the singular values on either side, so that
// both factors have like ranges.
void svd_split(const Svd *d, int64_t r, double *u, double *v);

#endif
