// What pass `factorize` did, for the report; and the reader of its command line.
#ifndef QCC_PASSES_COMPRESS_FACTORIZE_H
#define QCC_PASSES_COMPRESS_FACTORIZE_H

#include "passes/compress/scheme.h"
#include "passes/pass.h"

// A layer that was asked about.
typedef struct Factored {
  const Loc *loc;
  bool applied;
  const char *form;  // scheme and ranks; NULL: no scheme fits
  const char *why;   // it stays dense
  int64_t parameters, parameters_after;
  double macs, macs_after;
  double theory, measured;  // relative Frobenius norm: from the tails, and from the factors as stored
  double us, us_after;      // by the prices of the target
  double alone;             // error of the network's results with this layer's form alone; < 0: not measured
  double change, weights;   // bounds of the spectral norms of what changed in the weights, and of the new ones
  double bound;             // of reach_error, by these norms and those of all layers between; infinite: none is known
  double reach_error, cosine;  // of the layer's result against the dense network, accumulated; error < 0: not measured
} Factored;

struct FactorReport {
  Arena *arena;
  VEC(Factored) layers;
  uint32_t samples;        // inputs the network was measured on, 0: it was not
  bool recorded;           // given ones, not seeded ones
  double bound;            // of `error`; infinite: none is known
  double limit;            // --max-error=network:E, 0: none
  double error, cosine;    // of the network's results: relative norm, smallest cosine
  const char *unmeasured;  // why not
};

// SCHEME[:rank=R[xR..]|energy=E|error=E][:force][:LAYERS]; scheme NULL: auto.
typedef struct FactorSpec {
  const char *text;
  const Scheme *scheme;
  FactorAsk ask;
  bool force;          // even where prices say that it loses
  const char *layers;  // pattern of names, NULL: all
  bool used;           // some layer fits the pattern
} FactorSpec;

// False after diag_error. `max_error` (0: none) is what a spec without rank, energy or error asks for.
bool factor_spec_read(const char *text, double max_error, Arena *arena, Diag *diag, FactorSpec *out);
// Does a node name or output of the location fit the pattern (* and ?)?
bool layer_is_named(const Loc *loc, const char *pattern);

#endif
