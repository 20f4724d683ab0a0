// Cases for the graph interpreter: one op (or a module) as text, the elements of all arguments and of all results as
// one list of numbers each. Every case also goes through inference, so its types are right by construction.
#ifndef QCC_TESTS_EVAL_CASE_H
#define QCC_TESTS_EVAL_CASE_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/infer.h"
#include "ir/text.h"

#define NUMS(...) (const double[]){__VA_ARGS__}, (int64_t)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double))
#define NO_NUMS NULL, 0
#define inf INFINITY

// One op: signature "(%x: f32[2]) -> f32[2]", op "relu %x". Exact, with the sign of zero.
#define EVAL_OP(signature, op, in, want) case_op(__LINE__, signature, op, 0, in, want)
// The same within a relative error of 1e-6.
#define EVAL_NEAR(signature, op, in, want) case_op(__LINE__, signature, op, 1e-6, in, want)
// A whole text whose first function is called.
#define EVAL_TEXT(text, in, want) case_text(__LINE__, text, 0, in, want)
// An op that must fail with a message holding `error`.
#define EVAL_FAILS(signature, op, in, error) case_fails(__LINE__, signature, op, in, error)

typedef struct Case {
  Arena *arena;
  Diag *diag;
  Module *m;
  Func *f;
  Tensor *args, *results;
} Case;

static inline Case case_parse(int line, const char *text, const double *in, int64_t n_in) {
  Case c = {.arena = arena_new("case")};
  c.diag = diag_new(c.arena, NULL);
  c.m = parse_module(c.arena, c.diag, "case", text, strlen(text));
  cr_assert(c.m, "line %d: %s\n%s", line, diag_text(c.diag), text);
  for (uint32_t k = 0; k < c.m->funcs.n; k++)
    for (Op *op = c.m->funcs.at[k]->first; op; op = op->next) {
      const Type *said = op->out[0]->type;
      cr_assert(infer_op(op), "line %d: %s", line, diag_text(c.diag));
      cr_assert(op->out[0]->type == said, "line %d: inferred another type", line);
    }
  c.f = c.m->funcs.at[0];
  c.args = NEW_ARRAY(c.arena, Tensor, c.f->n_args);
  c.results = NEW_ARRAY(c.arena, Tensor, c.f->n_results);
  int64_t at = 0;
  for (uint32_t k = 0; k < c.f->n_args; k++) {
    c.args[k] = tensor_new(c.arena, c.f->args[k]->type);
    int64_t n = type_count(c.args[k].type);
    for (int64_t i = 0; i < n; i++, at++)
      if (at < n_in) elem_set_f(c.args[k].data, c.args[k].type->dtype, i, in[at]);
  }
  cr_assert_eq(at, n_in, "line %d: %ld input elements given, %ld needed", line, (long)n_in, (long)at);
  return c;
}

static inline bool same_number(double got, double want, double tolerance) {
  if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
  if (tolerance == 0 || isinf(want)) return got == want && (want != 0 || !signbit(got) == !signbit(want));
  return fabs(got - want) <= tolerance * fmax(1, fabs(want));
}

static inline void case_text(int line, const char *text, double tolerance, const double *in, int64_t n_in,
                             const double *want, int64_t n_want) {
  Case c = case_parse(line, text, in, n_in);
  cr_assert(eval_func(c.f, c.args, c.results, c.arena, NULL, NULL), "line %d: %s", line, diag_text(c.diag));
  int64_t at = 0;
  for (uint32_t k = 0; k < c.f->n_results; k++) {
    Tensor t = c.results[k];
    int64_t n = type_count(t.type);
    for (int64_t i = 0; i < n; i++, at++) {
      if (at >= n_want) continue;
      double got = elem_get_f(t.data, t.type->dtype, i);
      cr_assert(same_number(got, want[at], tolerance), "line %d: result %u[%ld] is %.17g, expected %.17g", line, k,
                (long)i, got, want[at]);
    }
  }
  cr_assert_eq(at, n_want, "line %d: %ld results expected, %ld made", line, (long)n_want, (long)at);
  arena_free(c.arena);
}

// A function around one op; the types after "->" are its result types.
static inline void text_of_op(char *text, size_t size, const char *signature, const char *op) {
  uint32_t n_out = op_info(op_by_name(op, strcspn(op, " ")))->n_out;
  const char *types = strstr(signature, "-> ") + 3;
  size_t n = strlen(types);
  if (*types == '(') types++, n -= 2;
  const char *names = n_out == 1 ? "%0" : n_out == 2 ? "%0, %1" : "%0, %1, %2";
  snprintf(text, size, "func @f%s {\n  %s = %s : %.*s\n  return %s\n}\n", signature, names, op, (int)n, types, names);
}

static inline void case_op(int line, const char *signature, const char *op, double tolerance, const double *in,
                           int64_t n_in, const double *want, int64_t n_want) {
  char text[4096];
  text_of_op(text, sizeof text, signature, op);
  case_text(line, text, tolerance, in, n_in, want, n_want);
}

static inline void case_fails(int line, const char *signature, const char *op, const double *in, int64_t n_in,
                              const char *error) {
  char text[4096];
  text_of_op(text, sizeof text, signature, op);
  Case c = case_parse(line, text, in, n_in);
  cr_assert(!eval_func(c.f, c.args, c.results, c.arena, NULL, NULL), "line %d: no error", line);
  cr_assert(strstr(diag_text(c.diag), error), "line %d: %s", line, diag_text(c.diag));
  arena_free(c.arena);
}

#endif
