// What the two halves of the terms pass share: the layer, and the codes of its input.
#ifndef QCC_PASSES_RECOVER_CODES_LAYER_H
#define QCC_PASSES_RECOVER_CODES_LAYER_H

#include "passes/contraction.h"
#include "passes/recover/codes.h"

// A contraction of a few-valued tensor on its way to integer contractions.
typedef struct CodedLayer {
  PassCtx *ctx;
  Module *m;
  Op *op;
  uint32_t n;              // values of x
  double v[TERMS_VALUES];  // ascending
  WeightChannels of;
  uint32_t *w_n;  // [channel] distinct weights
  double (*w_v)[TERMS_VALUES];
  uint8_t *w_at;  // [element] which of them
  Map *sources;   // codes_source
  Value *places;  // of the values of x, once made
  double best;    // cycles
  Value *y;       // of the best form
  TermsForm x_form, w_form;
  uint32_t contractions;
} CodedLayer;

// The codes of term k for every element of the layer's input, as bytes, before its op.
Value *codes_input(CodedLayer *l, const Terms *t, uint32_t k);

#endif
