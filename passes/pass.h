// Passes and their runner. A pass is one row of passes.def and one file.
//
// The runner, not the pass, verifies after each pass, prints (--print-after), times, counts ops and writes the replay
// file (last good IR plus the remaining pipeline) when something breaks.
#ifndef QCC_PASSES_PASS_H
#define QCC_PASSES_PASS_H

#include "ir/kernel.h"
#include "ir/target.h"

typedef enum PassResult { PASS_SAME, PASS_CHANGED, PASS_FAILED } PassResult;  // FAILED: after diag_error

typedef enum PassLevel { LEVEL_GRAPH, LEVEL_GATE, LEVEL_KERNEL } PassLevel;

typedef struct FactorReport FactorReport;  // passes/compress/factorize.h
typedef struct Quantization Quantization;  // passes/quantize/quantize.h
typedef struct ShareReport ShareReport;    // passes/quantize/share.h

// Options that reach passes. Command-line options set them; golden tests set them as pass arguments.
typedef struct PassOptions {
  bool strict_fp;                // --fp=strict: no contraction, no reassociation beyond what the text says
  bool bf16;                     // --fp=bf16: contractions may round their operands to bfloat16
  int64_t fold_bytes;            // folding budget: bytes a folded result may have
  double tolerate;               // weights may miss a grid by this much of a step; 0: bit for bit
  bool explain;                  // plan reports its price table
  const char *explain_layer;     // ... of the layer of this name only; NULL or "": of all
  bool no_multiply;              // --require=no-multiply: contractions by strategies without products where one applies
  const char *const *factorize;  // --factorize, in order
  uint32_t n_factorize;
  const char *const *prune;  // --prune, in order
  uint32_t n_prune;
  const char *const *share;  // --share, in order
  uint32_t n_share;
  double max_error;                     // --max-error, of a layer; 0: none
  double network_error;                 // ... and of the network's results
  bool by_size;                         // --optimize=size: compression by bytes instead of time
  const struct Tensor *const *samples;  // inputs of the network, one array per sample, to measure its error on
  uint32_t n_samples;                   // 0: seeded inputs
  FactorReport *factored;               // what was factorised, for the report; NULL: not wanted
  Quantization *quantize;               // --quantize: rules, statistics, and what became of layers; NULL: not asked for
  ShareReport *shared;                  // what --share did, for the report; NULL: not wanted
  bool release;                         // lowered weights are not read again: their memory may be given back at once
  const Module *like;                   // the same graph planned for another level of the object, or NULL
  const Target *like_target;            // ... which is this one: plans take its weights where that costs little
  bool profile;                         // lower inserts nothing extra, but keeps one step per op (bench, verify)
} PassOptions;

typedef struct PassCtx {
  Module *m;
  const Target *target;
  Diag *diag;
  Arena *arena;  // pass lifetime: dropped after the pass
  const PassOptions *opt;
  const char *args;  // text between braces in the pipeline, "" when none
} PassCtx;

typedef struct PassInfo {
  const char *name;
  PassLevel level;
  PassResult (*run)(PassCtx *ctx);
  const char *help;
} PassInfo;

uint32_t pass_count(void);
const PassInfo *pass_at(uint32_t i);
const PassInfo *pass_by_name(const char *name, size_t n);

typedef struct PassTiming {
  const char *name;
  double seconds;
  int64_t ops;  // graph ops or kernel statements after the pass
} PassTiming;

typedef VEC(PassTiming) PassTimings;

typedef struct RunOptions {
  bool verify_each;
  bool release;             // give back the memory of constants that became unused (consts_release)
  const char *print_after;  // pass name, "all", "changed" or NULL
  FILE *print_to;
  const char *replay_path;  // where a failure writes the last good IR, or NULL
  void (*progress)(void *ctx, const char *pass, uint32_t done, uint32_t total);
  void *progress_ctx;
} RunOptions;

// Parses "infer,fold,simplify{iters=8},..." checks order.def and the gate, and runs it. False after diag_error.
bool pipeline_run(Module *m, const Target *target, const char *pipeline, const PassOptions *opt, const RunOptions *run,
                  Arena *arena, PassTimings *timings);  // timings may be NULL
bool pipeline_check(const char *pipeline, Diag *diag);
extern const char *const pipeline_default;  // what `qcc MODEL.onnx` runs
PassOptions pass_options_default(void);

#endif
