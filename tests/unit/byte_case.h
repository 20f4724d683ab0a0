// One contraction of bytes against the graph interpreter, bit for bit: any bytes and their extremes, zero points,
// results as sums or requantised to bytes, with a residual operand or without. Shared by the tests of the strategies
// for bytes, which say how a case is planned and run.
#ifndef QCC_TESTS_BYTE_CASE_H
#define QCC_TESTS_BYTE_CASE_H

#include "passes/price.h"
#include "tests/unit/contract_case.h"

// Values that weights take: lo, lo + step, ..., `count` of them; any bytes where there is no grid.
typedef struct ByteGrid {
  int64_t lo, step;
  uint32_t count;
} ByteGrid;

// How cases are planned and run. A strategy that `plan` would not choose gets a plan of its own.
typedef struct ByteRun {
  const char *strategy, *name;
  const Target *target;
  const char *pipeline;
  RunProgram *run;
  void (*plan)(Case *c, Plan *p);  // adds parameters to a plan of the strategy
  bool always;                     // whatever `plan` would choose
  const ByteGrid *grid;
} ByteRun;

// Any byte; every third one an end of the range.
static inline int64_t any_byte(Case *c, DType t) {
  uint32_t pick = rnd(c, 6);
  if (pick == 0) return dtype_min(t);
  if (pick == 1) return dtype_max(t);
  return dtype_min(t) + (int64_t)rnd(c, 256);
}

static inline Value *byte_weights(Case *c, DType t, uint32_t rank, const int64_t *dims, const ByteGrid *grid) {
  const Type *type = type_tensor(c->m->types, t, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < type_count(type); i++) {
    int64_t v = t == DT_I32 ? (int64_t)rnd(c, 200000) - 100000 : any_byte(c, t);
    if (grid != NULL) v = grid->lo + grid->step * (int64_t)rnd(c, grid->count);
    elem_set_i(bytes, t, i, v);
  }
  return const_bytes(c->m, type, bytes, "w");
}

static inline bool full_grid(void) {
  const char *grid = getenv("QCC_TEST_GRID");
  return grid != NULL && strcmp(grid, "full") == 0;
}

static inline Value *post_op(Func *post, OpKind kind, Value *x, Value *y, DType to) {
  Value *in[2] = {x, y};
  static const Loc loc = {.node = -1};
  Op *op = op_new(post, NULL, kind, y != NULL ? 2 : 1, in, &loc);
  op->out[0]->type = type_scalar(post->module->types, to);
  return op->out[0];
}

// round(sum * mul + add) as bytes, with a residual operand in front of the rounding or none.
static inline void case_requant(Case *c, DType to, Value *mul, Value *add, Value *residual) {
  TypeTable *types = c->m->types;
  const Type *args[4] = {type_scalar(types, DT_I32), type_scalar(types, DT_F32), type_scalar(types, DT_F32), NULL};
  if (residual != NULL) args[3] = type_scalar(types, residual->type->dtype);
  Func *post = func_new(c->m, "post", residual != NULL ? 4 : 3, args);
  Value *v = post_op(post, OP_CAST, post->args[0], NULL, DT_F32);
  v = post_op(post, OP_MUL, v, post->args[1], DT_F32);
  v = post_op(post, OP_ADD, v, post->args[2], DT_F32);
  if (residual != NULL) v = post_op(post, OP_ADD, v, post_op(post, OP_CAST, post->args[3], NULL, DT_F32), DT_F32);
  v = post_op(post, OP_CAST, post_op(post, OP_ROUND, v, NULL, DT_F32), NULL, to);
  func_set_results(post, 1, &v);
  op_set_func(c->op, op_info(c->op->kind)->post, post);
  while (c->op->n_in < op_info(c->op->kind)->max_in) op_add_operand(c->op, NULL);
  op_add_operand(c->op, mul);
  op_add_operand(c->op, add);
  if (residual != NULL) op_add_operand(c->op, residual);
  op_out(c->op, 0)->type = type_with_dtype(types, op_out(c->op, 0)->type, to);
}

// Scales that spread the sums over the bytes and past both ends.
static inline Value *channel_floats(Case *c, int64_t n, double low, double high) {
  const Type *t = type_tensor(c->m->types, DT_F32, 1, &n);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < n; i++) elem_set_f(bytes, DT_F32, i, low + (high - low) * (double)rnd(c, 1000) / 1000);
  return const_bytes(c->m, t, bytes, "scale");
}

typedef enum Result { SUMS, BYTES, RESIDUAL } Result;

static inline void case_result(Case *c, Result kind, Value *residual) {
  if (kind == SUMS) return;
  const Type *y = op_out(c->op, 0)->type;
  int64_t n = y->dims[y->rank - 1];
  Value *mul = channel_floats(c, n, 0.0001, 0.01), *add = channel_floats(c, n, -100, 200);
  case_requant(c, rnd(c, 2) ? DT_U8 : DT_I8, mul, add, residual);
}

static inline void check_exact(Case *c, const ByteRun *r, const char *what) {
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  const Type *yt = result->type;
  Tensor x[4], want;
  const void *in[4];
  for (uint32_t a = 0; a < c->f->n_args; a++) {
    const Type *t = c->f->args[a]->type;
    x[a] = tensor_new(c->arena, t);
    in[a] = x[a].data;
    for (int64_t i = 0; i < type_count(t); i++) elem_set_i(x[a].data, t->dtype, i, any_byte(c, t->dtype));
  }
  cr_assert(eval_func(c->f, x, &want, c->arena, NULL, NULL), "%s: %s", what, diag_text(c->m->diag));
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  Plan plan = plan_choose(c->op, r->target);
  if (r->always || strcmp(plan.strategy, r->strategy) != 0) {
    plan = (Plan){.strategy = intern(c->m->names, r->strategy)};
    r->plan(c, &plan);
  }
  op_set_plan(c->op, &plan);
  cr_assert(pipeline_run(c->m, r->target, r->pipeline, &opt, &runner, c->arena, NULL), "%s: %s", what,
            diag_text(c->m->diag));
  const char *used = c->m->program->steps.at[c->m->program->steps.n - 1].strategy;
  cr_assert(strcmp(used, r->strategy) == 0, "%s: %s", what, used);
  void *out = arena_alloc(c->arena, (size_t)type_bytes(yt) + 64);
  memset(out, 0x5a, (size_t)type_bytes(yt));
  cr_assert(r->run(c, r->target, in, &out), "%s: %s", what, diag_text(c->m->diag));
  for (int64_t i = 0; i < type_count(yt); i++) {
    long long got = elem_get_i(out, yt->dtype, i), ref = elem_get_i(want.data, yt->dtype, i);
    cr_assert(got == ref, "%s: element %lld is %lld, not %lld", what, (long long)i, got, ref);
  }
  arena_free(c->arena);
}

static inline void byte_plan_add(Case *c, Plan *p, const char *name, int64_t value) {
  p->param[p->n].name = intern(c->m->names, name);
  p->param[p->n++].value = value;
}

static inline void check_matmul(int64_t m, int64_t k, int64_t n, DType t, const ByteRun *r, uint64_t seed) {
  Case c = case_new(seed, t, 2, (int64_t[]){m, k});
  bool trans = rnd(&c, 2) == 1;
  Value *in[3] = {c.f->args[0], byte_weights(&c, DT_I8, 2, trans ? (int64_t[]){n, k} : (int64_t[]){k, n}, r->grid),
                  NULL};
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &n, NULL);
  c.op = op_new(c.f, NULL, OP_MATMUL, in[2] ? 3 : 2, in, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  op_set_int(c.op, A_MATMUL_x_zero, any_byte(&c, t));
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  case_result(&c, rnd(&c, 3) == 0 ? SUMS : BYTES, NULL);
  const char *what = arena_printf(c.arena, "m=%lld k=%lld n=%lld %s %s", (long long)m, (long long)k, (long long)n,
                                  dtype_info(t)->name, r->name);
  check_exact(&c, r, what);
}

typedef struct Conv {
  int64_t c, o, group, size, kernel, stride, dilation, pad;
} Conv;

// `axes` spatial axes, all alike but for the extents, which differ by one.
static inline void check_conv(const Conv *s, uint32_t axes, DType t, Result kind, const ByteRun *r, uint64_t seed) {
  int64_t x[5] = {1 + (int64_t)(seed % 3 == 0)}, w[5], pads[6], strides[3], dilations[3], y[5] = {x[0]};
  for (uint32_t a = 0; a < axes; a++) {
    x[1 + a] = s->size + a;
    w[a] = s->kernel;
    pads[a] = s->pad;
    pads[axes + a] = s->pad > 0 && seed % 4 == 1 ? s->pad - 1 : s->pad;
    strides[a] = s->stride;
    dilations[a] = s->dilation;
    int64_t reach = (s->kernel - 1) * s->dilation + 1;
    y[1 + a] = (x[1 + a] + pads[a] + pads[axes + a] - reach) / s->stride + 1;
  }
  x[1 + axes] = s->c;
  w[axes] = s->c / s->group;
  w[axes + 1] = y[1 + axes] = s->o;
  Case c = case_new(seed, t, axes + 2, x);
  Value *residual = kind == RESIDUAL ? case_weight(&c, rnd(&c, 2) ? DT_U8 : DT_I8, axes + 2, y, false) : NULL;
  Value *in[3] = {c.f->args[0], byte_weights(&c, DT_I8, axes + 2, w, r->grid), NULL};
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &s->o, NULL);
  c.op = op_new(c.f, NULL, OP_CONV, in[2] ? 3 : 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_int(c.op, A_CONV_group, s->group);
  op_set_int(c.op, A_CONV_x_zero, any_byte(&c, t));
  op_set_ints(c.op, A_CONV_pads, 2 * axes, pads);
  op_set_ints(c.op, A_CONV_strides, axes, strides);
  op_set_ints(c.op, A_CONV_dilations, axes, dilations);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  case_result(&c, kind, residual);
  const char *what =
      arena_printf(c.arena, "conv%u c=%lld o=%lld g=%lld in=%lld k=%lld s=%lld d=%lld p=%lld %s result %d seed %llu %s",
                   axes, (long long)s->c, (long long)s->o, (long long)s->group, (long long)s->size,
                   (long long)s->kernel, (long long)s->stride, (long long)s->dilation, (long long)s->pad,
                   dtype_info(t)->name, (int)kind, (unsigned long long)seed, r->name);
  check_exact(&c, r, what);
}

#endif
