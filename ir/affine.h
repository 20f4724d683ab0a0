// Affine index arithmetic: base + sum(coef * var), kept sorted by variable id with no zero coefficient.
#ifndef QCC_IR_AFFINE_H
#define QCC_IR_AFFINE_H

#include <stdbool.h>
#include <stdint.h>

#define AFFINE_MAX 12

typedef struct KVar KVar;

typedef struct AffineTerm {
  KVar *var;
  int64_t coef;
} AffineTerm;

typedef struct Affine {
  int64_t base;
  uint32_t n;
  AffineTerm term[AFFINE_MAX];
} Affine;

Affine aff(int64_t base);
Affine aff_var(KVar *v);  // 1 * v
Affine aff_term(KVar *v, int64_t coef);
Affine aff_add(Affine a, Affine b);
Affine aff_sub(Affine a, Affine b);
Affine aff_mul(Affine a, int64_t k);
Affine aff_plus(Affine a, int64_t c);
Affine aff_subst(Affine a, const KVar *v, Affine by);  // replaces v
int64_t aff_coef(const Affine *a, const KVar *v);      // 0 when absent
bool aff_is_const(const Affine *a);
bool aff_equal(const Affine *a, const Affine *b);

#endif
