// Inside of the codes pass: what chains of element-wise ops, sums of contractions and contractions of few-valued
// tensors are rewritten to.
#ifndef QCC_PASSES_RECOVER_CODES_H
#define QCC_PASSES_RECOVER_CODES_H

#include "ir/base/map.h"
#include "passes/pass.h"

#define STEPS_MAX 32

// A function of one float that is constant between thresholds: value[i] for start[i] <= x < start[i + 1]. start[0] is
// -inf; -0 and +0 have the same value.
typedef struct Steps {
  uint32_t n;
  float start[STEPS_MAX];
  double value[STEPS_MAX];
  bool takes_nan;  // NaN gives value[0], as it does when comparisons choose
} Steps;

double steps_at(const Steps *s, float x);

// The float tensor `v` is a function of, element by element, through element-wise ops and numbers; NULL: of none or of
// several. `sources` maps value id + 1 to what this found for values before it.
Value *codes_source(Module *m, Map *sources, const Value *v);
// Finds the steps of `root` as a function of `source` by bisection over all floats; false when there are more than
// STEPS_MAX, or when they cannot be proved. *cost: vector instructions of the ops between the two, roughly.
bool codes_steps_of(PassCtx *ctx, Value *root, Value *source, Steps *s, double *cost);

// x >= start before `at`; past 0 is said with 0, not with the smallest float.
Value *codes_past(Op *at, Value *x, float start);

// Does NaN have to stay NaN where v is replaced by a choice among values? Not where only contractions read v.
bool codes_keeps_nan(const Steps *s, const Value *v);
// The function of every element of x, before `at`, as nested selections; keep_nan: of NaN it is NaN.
Value *codes_emit_steps(Op *at, Value *x, const Steps *s, bool keep_nan);

// Chains that are such functions become one comparison and selection per step where that is less work.
bool codes_steps(PassCtx *ctx, Func *f);

// Sums of scaled contractions of one tensor become one contraction with the sum of the weights.
bool codes_bases(PassCtx *ctx, Func *f);

// Functions that rise move behind a maxpool that makes the tensor smaller.
bool codes_pools(PassCtx *ctx, Func *f);

// ---- numbers as sums

#define TERMS_VALUES 32
#define TERMS_MAX 3
#define TERMS_FORMS 4

typedef enum TermsForm {
  TERMS_GRID,   // one term
  TERMS_PAIR,   // two terms of a few steps
  TERMS_BYTES,  // the two bytes of one integer of 16 bits: scale[0] = 256 scale[1]
  TERMS_BITS    // one bit per step
} TermsForm;

// Number i is f32(base + sum over k of scale[k] * code[k][i]), codes within a byte.
typedef struct Terms {
  TermsForm form;
  uint32_t n;
  double base, scale[TERMS_MAX];
  int16_t code[TERMS_MAX][TERMS_VALUES];
} Terms;

double terms_value(const Terms *t, uint32_t i);
const char *terms_form_text(TermsForm form);
// Writes n ascending numbers in one form; false: it has no room for them.
bool terms_find(TermsForm form, uint32_t n, const double *v, Terms *t);

// Contractions of few-valued tensors and weights become integer contractions, one per pair of terms, where the plans of
// those are cheaper.
bool codes_layers(PassCtx *ctx, Func *f);

#endif
