// Inside of the layout pass: permuted views of values, and the rule table.
#ifndef QCC_PASSES_LAYOUT_LAYOUT_H
#define QCC_PASSES_LAYOUT_LAYOUT_H

#include "passes/pass.h"

typedef struct Perm {
  uint32_t rank;
  uint8_t at[MAX_RANK];  // logical dim i is base dim at[i]
} Perm;

typedef struct Layout Layout;

Perm perm_identity(uint32_t rank);
Perm perm_channels_last(uint32_t rank);
bool perm_equal(const Perm *a, const Perm *b);
bool perm_is_identity(const Perm *p);

Perm layout_perm(const Layout *l, Value *v);                                // permutation v is stored with
Value *layout_base(Layout *l, Value *v, const Perm *want);                  // stored tensor of v with that permutation
Value *layout_plain(Layout *l, Value *v);                                   // ... with the identity
void layout_set(Layout *l, Value *v, Value *base, const Perm *perm);        // v is from now on `base` read through perm
const Type *layout_type(Layout *l, const Type *logical, const Perm *perm);  // type of the base
Op *layout_op(Layout *l, const Op *old, uint32_t n,
              Value *const *in);  // copy of an op with other operands, untyped results
Module *layout_module(const Layout *l);
Op *layout_at(const Layout *l);         // the op being rewritten
void layout_read(Layout *l, Const *c);  // the op being rewritten was the last to read these bytes
// A convolution by its non-zeros (strategy sparse), whose vectors run along pixels.
bool layout_stays_first(const Layout *l, const Op *op);

// apply returns false when it leaves the op alone (its operands are then made plain).
typedef struct LayoutRule {
  OpKind kind;
  bool always;  // also when no operand is permuted
  bool (*apply)(Layout *l, Op *op);
} LayoutRule;

const LayoutRule *layout_rule(OpKind kind);  // NULL: operands must be plain

#endif
