// Affine index arithmetic (ir/affine.h). Terms are kept sorted by variable id and never have coefficient 0, so two
// equal values have equal members and comparing is member by member. Arithmetic wraps never: an index that leaves 64
// bits or needs more than AFFINE_MAX variables is a fault of the lowering that made it.
#include "ir/affine.h"

#include "ir/kernel.h"

static int64_t checked_add(int64_t a, int64_t b) {
  int64_t r;
  QCC_CHECK(!__builtin_add_overflow(a, b, &r), "affine: index overflow");
  return r;
}

static int64_t checked_mul(int64_t a, int64_t b) {
  int64_t r;
  QCC_CHECK(!__builtin_mul_overflow(a, b, &r), "affine: index overflow");
  return r;
}

Affine aff(int64_t base) {
  Affine a = {0};
  a.base = base;
  return a;
}

Affine aff_var(KVar *v) { return aff_term(v, 1); }

Affine aff_term(KVar *v, int64_t coef) {
  Affine a = {0};
  if (coef) {
    a.n = 1;
    a.term[0] = (AffineTerm){v, coef};
  }
  return a;
}

static void append(Affine *a, KVar *v, int64_t coef) {
  if (!coef) return;
  QCC_CHECK(a->n < AFFINE_MAX, "affine: more than %d variables in an index", AFFINE_MAX);
  a->term[a->n++] = (AffineTerm){v, coef};
}

// a + k * b, by merging the two sorted lists.
static Affine add_scaled(const Affine *a, const Affine *b, int64_t k) {
  Affine r = aff(checked_add(a->base, checked_mul(b->base, k)));
  uint32_t i = 0, j = 0;
  while (i < a->n || j < b->n) {
    if (j == b->n || (i < a->n && a->term[i].var->id < b->term[j].var->id)) {
      append(&r, a->term[i].var, a->term[i].coef);
      i++;
    } else if (i == a->n || b->term[j].var->id < a->term[i].var->id) {
      append(&r, b->term[j].var, checked_mul(b->term[j].coef, k));
      j++;
    } else {
      append(&r, a->term[i].var, checked_add(a->term[i].coef, checked_mul(b->term[j].coef, k)));
      i++, j++;
    }
  }
  return r;
}

Affine aff_add(Affine a, Affine b) { return add_scaled(&a, &b, 1); }
Affine aff_sub(Affine a, Affine b) { return add_scaled(&a, &b, -1); }

Affine aff_mul(Affine a, int64_t k) {
  Affine zero = aff(0);
  return add_scaled(&zero, &a, k);
}

Affine aff_plus(Affine a, int64_t c) {
  a.base = checked_add(a.base, c);
  return a;
}

Affine aff_subst(Affine a, const KVar *v, Affine by) {
  int64_t k = aff_coef(&a, v);
  if (!k) return a;
  Affine rest = aff(a.base);
  for (uint32_t i = 0; i < a.n; i++)
    if (a.term[i].var != v) append(&rest, a.term[i].var, a.term[i].coef);
  return add_scaled(&rest, &by, k);
}

int64_t aff_coef(const Affine *a, const KVar *v) {
  for (uint32_t i = 0; i < a->n; i++)
    if (a->term[i].var == v) return a->term[i].coef;
  return 0;
}

bool aff_is_const(const Affine *a) { return a->n == 0; }

bool aff_equal(const Affine *a, const Affine *b) {
  if (a->base != b->base || a->n != b->n) return false;
  for (uint32_t i = 0; i < a->n; i++)
    if (a->term[i].var != b->term[i].var || a->term[i].coef != b->term[i].coef) return false;
  return true;
}
