// Pipelines are text: "infer,fold,simplify{iters=8},cse". One grammar for -O strings, --passes and golden files.
#ifndef QCC_PASSES_PIPELINE_H
#define QCC_PASSES_PIPELINE_H

#include "passes/pass.h"

typedef struct PipelineStep {
  const PassInfo *pass;
  const char *args;  // text between braces, "" when none
} PipelineStep;

typedef struct Pipeline {
  VEC(PipelineStep) steps;
} Pipeline;

// False after diag_error: unknown pass (nearest name suggested), unbalanced brace, an order.def row or the gate
// violated.
bool pipeline_parse(Pipeline *out, const char *text, Arena *arena, Diag *diag);
const char *pipeline_text(const Pipeline *p, uint32_t from, Arena *arena);  // steps from..end

#endif
