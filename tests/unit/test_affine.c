// Affine index arithmetic: canonical form, substitution, limits.
#include <criterion/criterion.h>
#include <signal.h>

#include "ir/kernel.h"

static KVar vars[16];

static KVar *var(uint32_t i) {
  vars[i] = (KVar){.id = i, .name = "v", .kind = KVAR_LOOP, .type = DT_I64};
  return &vars[i];
}

// The value at v_i = 3 + 7 i.
static int64_t value(const Affine *a) {
  int64_t v = a->base;
  for (uint32_t i = 0; i < a->n; i++) v += a->term[i].coef * (3 + 7 * (int64_t)a->term[i].var->id);
  return v;
}

static void check_canonical(const Affine *a) {
  for (uint32_t i = 0; i < a->n; i++) {
    cr_assert_neq(a->term[i].coef, 0);
    if (i) cr_assert_lt(a->term[i - 1].var->id, a->term[i].var->id);
  }
}

Test(affine, sums_are_sorted_without_zeros) {
  Affine a = aff_add(aff_term(var(5), 2), aff_plus(aff_term(var(1), -3), 4));
  check_canonical(&a);
  cr_assert_eq(a.n, 2);
  cr_assert_eq(value(&a), 2 * 38 - 3 * 10 + 4);
  Affine b = aff_sub(a, aff_term(var(5), 2));
  check_canonical(&b);
  cr_assert_eq(b.n, 1);
  cr_assert_eq(aff_coef(&b, &vars[5]), 0);
  cr_assert_eq(aff_coef(&b, &vars[1]), -3);
  Affine none = aff_sub(b, b);
  cr_assert(aff_is_const(&none));
  cr_assert_eq(none.base, 0);
}

Test(affine, equality_ignores_how_it_was_made) {
  Affine a = aff_add(aff_var(var(2)), aff_var(var(7))), b = aff_add(aff_var(&vars[7]), aff_var(&vars[2]));
  cr_assert(aff_equal(&a, &b));
  Affine c = aff_plus(b, 1);
  cr_assert_not(aff_equal(&a, &c));
  Affine d = aff_mul(a, 2);
  cr_assert_not(aff_equal(&a, &d));
  Affine zero = aff_mul(a, 0), want = aff(0);
  cr_assert(aff_equal(&zero, &want));
}

Test(affine, random_arithmetic_keeps_values) {
  uint32_t seed = 1;
  for (uint32_t i = 0; i < 8; i++) var(i);
  for (int round = 0; round < 2000; round++) {
    Affine a = aff(round % 7), b = aff(-3);
    for (int k = 0; k < 5; k++) {
      seed = seed * 1664525 + 1013904223;
      a = aff_add(a, aff_term(&vars[seed >> 29], (int64_t)(seed >> 8 & 15) - 8));
      b = aff_sub(b, aff_term(&vars[seed >> 26 & 7], (int64_t)(seed >> 4 & 15) - 8));
    }
    Affine sum = aff_add(a, b), difference = aff_sub(a, b), product = aff_mul(a, round % 5 - 2);
    check_canonical(&sum);
    check_canonical(&difference);
    check_canonical(&product);
    cr_assert_eq(value(&sum), value(&a) + value(&b));
    cr_assert_eq(value(&difference), value(&a) - value(&b));
    cr_assert_eq(value(&product), value(&a) * (round % 5 - 2));
  }
}

Test(affine, substitution) {
  Affine a = aff_plus(aff_add(aff_term(var(0), 3), aff_term(var(4), 5)), 1);
  Affine by = aff_add(aff_var(var(2)), aff_term(&vars[4], -2));
  Affine r = aff_subst(a, &vars[0], by);
  check_canonical(&r);
  cr_assert_eq(aff_coef(&r, &vars[0]), 0);
  cr_assert_eq(aff_coef(&r, &vars[2]), 3);
  cr_assert_eq(aff_coef(&r, &vars[4]), -1);
  cr_assert_eq(r.base, 1);
  Affine same = aff_subst(a, var(9), by);
  cr_assert(aff_equal(&same, &a));
  Affine self = aff_subst(a, &vars[0], aff_plus(aff_var(&vars[0]), 2));
  cr_assert_eq(value(&self), value(&a) + 6);
}

Test(affine, overflow_is_an_internal_error, .exit_code = 70) {
  Affine a = aff_mul(aff_plus(aff_var(var(0)), INT64_MAX / 2), 3);
  cr_assert_eq(a.base, 0);
}

Test(affine, too_many_variables_is_an_internal_error, .exit_code = 70) {
  Affine a = aff(0);
  for (uint32_t i = 0; i <= AFFINE_MAX; i++) a = aff_add(a, aff_var(var(i)));
  cr_assert_eq(a.n, 0);
}
