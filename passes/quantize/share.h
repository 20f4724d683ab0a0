// What pass `share` did, for the report; and the reader of its command line.
#ifndef QCC_PASSES_QUANTIZE_SHARE_H
#define QCC_PASSES_QUANTIZE_SHARE_H

#include "passes/pass.h"
#include "passes/quantize/weights.h"

// A layer that was asked about.
typedef struct Shared {
  const Loc *loc;
  bool applied;
  const char *form;  // of the scheme; NULL: the layer is none that has one
  const char *why;   // it stays as it was
  WeightStats stats;
  int64_t weights, bytes, bytes_after;  // of weights, as the best plan stores them
  double us, us_after;                  // by the prices of the target
  double reach_error, cosine;           // of the layer's result against the network before, accumulated; < 0: unknown
  double alone;                         // error of the results with the layers taken up to this one; < 0: unknown
} Shared;

struct ShareReport {
  Arena *arena;
  VEC(Shared) layers;
  uint32_t samples;        // inputs the network was measured on, 0: it was not
  bool recorded;           // given ones, not seeded ones
  double error, cosine;    // of the network's results: relative norm, smallest cosine
  double limit;            // --max-error=network:E, 0: none
  const char *unmeasured;  // why not
};

// SCHEME[:PART..][:network][:force][:LAYERS], the parts of weight_spec_read.
typedef struct ShareSpec {
  const char *text;
  WeightSpec weights;
  bool network;        // one book for all these layers
  bool force;          // even where prices say that it loses
  const char *layers;  // pattern of names, NULL: all
  bool used;
} ShareSpec;

// False after diag_error.
bool share_spec_read(const char *text, Arena *arena, Diag *diag, ShareSpec *out);

#endif
