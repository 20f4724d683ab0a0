// One contraction on random operands: built, planned, lowered, run by the kernel interpreter, and compared with the
// graph interpreter within the error bound of its summation length.
#ifndef QCC_TESTS_CONTRACT_CASE_H
#define QCC_TESTS_CONTRACT_CASE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/infer.h"
#include "ir/keval.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "runtime/qcc_rt.h"
#include "tests/support/run_object.h"
#include "tests/unit/cpus.h"

#define PIPE_KEVAL "plan,lower,unroll"
#define PIPE_JIT "plan,lower,memplan,expand,unroll"

typedef enum PostKind { POST_NONE, POST_RELU, POST_RESIDUAL, POST_CHANNEL, POST_SIGMOID } PostKind;

typedef struct Case {
  Arena *arena;
  Module *m;
  Func *f;
  Op *op;
  uint64_t seed;
} Case;

static const Target wide = {.name = "wide", CPU_512, .has_masks = true, .has_fma = true};
static const Target narrow = {.name = "narrow", CPU_128, .has_fma = true};

static inline uint32_t rnd(Case *c, uint32_t below) {
  c->seed = c->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(c->seed >> 33) % below;
}

static inline Case case_new(uint64_t seed, DType t, uint32_t rank, const int64_t *dims) {
  Case c = {.arena = arena_new("case"), .seed = seed * 77 + 1};
  c.m = module_new(c.arena, diag_new(c.arena, NULL));
  const Type *x = type_tensor(c.m->types, t, rank, dims);
  c.f = func_new(c.m, "net", 1, &x);
  return c;
}

static inline Value *case_weight(Case *c, DType t, uint32_t rank, const int64_t *dims, bool constant) {
  const Type *type = type_tensor(c->m->types, t, rank, dims);
  if (constant) return const_generated(c->m, type, CONST_RAND, 0, rnd(c, 1000) + 1, "w");
  const Type *args[8];
  uint32_t n = c->f->n_args;
  cr_assert(c->f->first == NULL && n < 8);
  for (uint32_t i = 0; i < n; i++) args[i] = c->f->args[i]->type;
  args[n] = type;
  c->f = func_new(c->m, arena_printf(c->arena, "net%u", n), n + 1, args);
  c->f->id = 0;  // takes the place of the entry without operands
  c->m->funcs.at[0] = c->f;
  c->m->funcs.n--;
  return c->f->args[n];
}

// Adds a post function: max(0, raw), or raw + operand broadcast over some axes.
static inline void case_post(Case *c, PostKind kind, Value *operand) {
  if (kind == POST_NONE) return;
  const Type *scalar = type_scalar(c->m->types, op_out(c->op, 0)->type->dtype);
  const Type *types[2] = {scalar, scalar};
  Func *post = func_new(c->m, "post", operand ? 2 : 1, types);
  Value *in[2] = {post->args[0], operand ? post->args[1] : NULL};
  Op *op = op_new(post, NULL,
                  operand                ? OP_ADD
                  : kind == POST_SIGMOID ? OP_SIGMOID
                                         : OP_RELU,
                  operand ? 2 : 1, in, c->op->loc);
  cr_assert(infer_op(op));
  Value *result = op_out(op, 0);
  func_set_results(post, 1, &result);
  op_set_func(c->op, op_info(c->op->kind)->post, post);
  if (operand) {
    while (c->op->n_in < op_info(c->op->kind)->max_in) op_add_operand(c->op, NULL);
    op_add_operand(c->op, operand);
  }
}

static inline Tensor random_tensor(Case *c, const Type *t) {
  Tensor x = tensor_new(c->arena, t);
  for (int64_t i = 0; i < type_count(t); i++) {
    if (dtype_is_float(t->dtype)) {
      elem_set_f(x.data, t->dtype, i, (double)rnd(c, 2001) / 1000 - 1);
    } else {
      elem_set_i(x.data, t->dtype, i, (int64_t)rnd(c, 15) - 7);
    }
  }
  return x;
}

static inline double unit_of(DType t) {
  return t == DT_F64 ? 0x1p-53 : t == DT_F32 ? 0x1p-24 : t == DT_F16 ? 0x1p-11 : t == DT_BF16 ? 0x1p-8 : 0;
}

typedef bool RunProgram(Case *c, const Target *t, const void *const *in, void *const *out);

static inline bool run_keval(Case *c, const Target *t, const void *const *in, void *const *out) {
  (void)t;
  return keval_program(c->m->program, in, out);
}

// Compiles for this machine, or for the row of an emulator, and runs the object in this process.
static inline bool run_jit_row(Case *c, const Target *t, const struct TargetRow *row, const void *const *in,
                               void *const *out) {
  return run_object(c->m, t, row, in, out);
}

static inline bool run_jit(Case *c, const Target *t, const void *const *in, void *const *out) {
  return run_jit_row(c, t, NULL, in, out);
}

// Lowers the case for `t`, runs it and compares. The case is used up.
static inline void case_check(Case *c, const Target *t, const char *pipeline, RunProgram *run, const char *what) {
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  Tensor args[8], want;
  const void *in[8];
  for (uint32_t i = 0; i < c->f->n_args; i++) {
    args[i] = random_tensor(c, c->f->args[i]->type);
    in[i] = args[i].data;
  }
  cr_assert(eval_func(c->f, args, &want, c->arena, NULL, NULL), "%s: %s", what, diag_text(c->m->diag));
  int64_t n = type_count(result->type), terms = 1;
  DType dt = result->type->dtype;
  double *magnitude = NEW_ARRAY(c->arena, double, n + 1);
  Tensor operands[20];
  for (uint32_t i = 0; i < c->op->n_in; i++) {
    Value *v = op_in(c->op, i);
    operands[i] = v == NULL                ? (Tensor){0}
                  : v->kind == VALUE_CONST ? tensor_of_const(c->m, v->constant)
                                           : args[v->index];
  }
  bool has = eval_op_magnitude(c->op, operands, magnitude, &terms, c->arena);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c->m, t, pipeline, &opt, &runner, c->arena, NULL), "%s: %s", what, diag_text(c->m->diag));
  void *out = arena_alloc(c->arena, (size_t)type_bytes(result->type) + 64);
  memset(out, 0x5a, (size_t)type_bytes(result->type));
  void *outs[1] = {out};
  cr_assert(run(c, t, in, outs), "%s: %s", what, diag_text(c->m->diag));
  for (int64_t i = 0; i < n; i++) {
    double got = elem_get_f(out, dt, i), ref = elem_get_f(want.data, dt, i);
    double sum = (double)(terms + 4) * unit_of(dt == DT_F64 ? DT_F64 : DT_F32) * ((has ? magnitude[i] : 0) + 2);
    double bound = dtype_is_float(dt) ? sum + 2 * unit_of(dt) * (fabs(ref) + 0x1p-14) : 0;
    if (dt == DT_F16 && op_post(c->op)) bound += unit_of(dt) * (magnitude[i] + 2);  // eval rounds before the post ops
    if (fabs(got - ref) <= bound) continue;
    StrBuf text;
    strbuf_init(&text, c->arena);
    print_func(&text, c->f, (PrintOptions){0});
    cr_assert_fail("%s: element %lld is %.9g, not %.9g (bound %.3g)\n%s", what, (long long)i, got, ref, bound,
                   strbuf_str(&text));
  }
  arena_free(c->arena);
}

#endif
