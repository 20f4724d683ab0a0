// Quantisation after training: what was asked for, what calibration found out, what became of every layer.
//
// A site is a float value that was looked at: one that may become bytes, or the input of a layer. A layer is a
// contraction with constant float weights. Both are found again in the same order on every run of the passes before
// `quantize`, so a driver may calibrate on an object made from one module (`quantize{observe}`) and quantise another.
#ifndef QCC_PASSES_QUANTIZE_QUANTIZE_H
#define QCC_PASSES_QUANTIZE_QUANTIZE_H

#include "passes/compress/form.h"
#include "passes/pass.h"
#include "passes/quantize/activation.h"
#include "passes/quantize/weights.h"

// What is asked of a layer. Bits of 0: float.
typedef struct QuantChoice {
  bool w_given, x_given;
  WeightSpec w;
  uint32_t x_bits;
  const ActivationScheme *x;
  double x_value;  // the number of the scheme
  bool nearest;    // weights are rounded one by one, the bias stays
  bool force;      // even where prices say that it loses
} QuantChoice;

// ... and of which layers; of several rules that fit a layer the last one holds.
typedef struct QuantRule {
  const char *text;
  QuantChoice choice;
  bool all;            // first and last layers too
  const char *layers;  // pattern of names, NULL: all
  bool used;
} QuantRule;

// A layer, and what became of it.
typedef struct QuantLayer {
  const Loc *loc;
  QuantChoice choice;
  FactorLayer shape;  // of the module that was calibrated
  uint32_t input;     // site
  int64_t k;          // weights of an output channel and a one for the bias
  int64_t patches;    // that were summed up
  double *moments;    // of each group k x k, the one first; NULL: too large, or not wanted
  bool first, last;   // next to inputs or results of the network
  bool done;
  const char *why;  // it stays float
  const char *scheme;
  WeightStats stats;
  double shift;          // largest change of the bias, relative to the largest bias
  double before, after;  // cycles by prices, of all layers that are judged together; 0: not asked
} QuantLayer;

typedef struct QuantSite {
  const char *name;
  ActivationStats stats;
  bool used;
  double lo, hi;  // range that was taken
  uint32_t bits;
} QuantSite;

// How far the results of a quantised network are from the float ones on the samples.
typedef struct QuantScore {
  double error, cosine, most;  // relative norm, cosine of all results, largest difference
  int64_t right;               // labelled samples whose largest result is at the label
} QuantScore;

// A network that was measured on the way.
typedef struct QuantPoint {
  const char *what;
  int64_t bytes;  // of the object
  double us;      // by prices
  QuantScore score;
} QuantPoint;

struct Quantization {
  Arena *arena;
  VEC(QuantRule) rules;
  VEC(QuantLayer) layers;
  VEC(QuantSite) sites;
  bool chosen;             // layers hold choices; else the rules are asked
  uint32_t samples;        // that statistics were taken from
  bool recorded;           // given ones, not seeded ones
  bool labelled;           // samples have classes
  VEC(QuantPoint) points;  // float network first, the one taken last
};

// BITS[:WORD..][:LAYERS]; see spec.c. False after diag_error.
bool quant_rule_read(const char *text, Diag *diag, Arena *arena, QuantRule *out);
// The rule that asks for a choice, without its layers.
const char *quant_choice_text(const QuantChoice *c, Arena *arena);
void quant_choice_bytes(QuantChoice *c);  // 8-bit weights, one scale per channel
// Adds what a site of one sample looks like; x has the type of the site.
void quant_observe(Quantization *z, uint32_t site, const Tensor *x);

// Fills in the choices of all layers by the rules, unless they are chosen.
void quant_choose(Quantization *z);

// ---- the gate

// Cycles by the prices of a target, of the graph before it is lowered.
typedef struct QuantCosts {
  double total;
  double *of;       // by layer; those of a group stand with its first
  uint32_t *group;  // layers that one op holds: index of an earlier one, or itself
} QuantCosts;

QuantCosts quant_costs_new(const Quantization *z, Arena *arena);
void quant_costs(const Func *f, const Target *t, const Quantization *z, QuantCosts *out);
// Layers whose few bits cost more than floats become float, with the reason. Returns how many.
uint32_t quant_gate(Quantization *z, const QuantCosts *as_float, const QuantCosts *now, double ghz, Arena *arena);
void quant_refuse_all(Quantization *z, const char *why);

// ---- inside of the pass

typedef struct QuantState {
  PassCtx *ctx;
  Func *f;
  Quantization *z;
  VEC(Op *) ops;        // of the layers
  VEC(Value *) values;  // of the sites
  VEC(uint32_t) group;  // sites with one range: index of the first of them
  struct Map *site_of;  // value id + 1 -> site + 1
} QuantState;

// Finds layers and sites. Layers that can't be quantised get a reason.
void quant_collect(QuantState *s);
// Sites whose bytes the input `v` of a layer is made from, through moves, pools and means.
typedef VEC(uint32_t) QuantRoots;
uint32_t quant_group(const QuantState *s, uint32_t site);  // the site whose range it shares
void quant_roots(QuantState *s, Value *v, QuantRoots *out);
// Weights by the choice of layer `i`, rounded so that the sums change least on the samples; *bias: one number per
// channel to add, NULL: none. NULL, with *why: the weights have no such form.
Value *quant_weights(QuantState *s, uint32_t i, const double **bias, const char **why);
// Float networks by the interpreter, for pipelines without a driver.
bool quant_calibrate(QuantState *s);

#endif
