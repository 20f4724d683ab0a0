// 8-bit contractions against the graph interpreter, bit for bit: every remainder of the reduction and of the columns,
// both signs of x, extreme values, padding with the zero point, strides, dilation, groups, depthwise, one to three
// spatial axes, results as sums and as bytes. QCC_TEST_GRID=full runs every size instead of a sample.
#include "passes/price.h"
#include "tests/unit/contract_case.h"

static const Target vnni = {.name = "vnni", CPU_512, .has_dot4 = true, .dot4_per_cycle = 2};

// Any byte; every third one an end of the range.
static int64_t any_byte(Case *c, DType t) {
  uint32_t pick = rnd(c, 6);
  if (pick == 0) return dtype_min(t);
  if (pick == 1) return dtype_max(t);
  return dtype_min(t) + (int64_t)rnd(c, 256);
}

static Value *byte_weights(Case *c, DType t, uint32_t rank, const int64_t *dims) {
  const Type *type = type_tensor(c->m->types, t, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < type_count(type); i++) {
    int64_t v = t == DT_I32 ? (int64_t)rnd(c, 200000) - 100000 : any_byte(c, t);
    elem_set_i(bytes, t, i, v);
  }
  return const_bytes(c->m, type, bytes, "w");
}

static bool full_grid(void) {
  const char *grid = getenv("QCC_TEST_GRID");
  return grid != NULL && strcmp(grid, "full") == 0;
}

static Value *post_op(Func *post, OpKind kind, Value *x, Value *y, DType to) {
  Value *in[2] = {x, y};
  static const Loc loc = {.node = -1};
  Op *op = op_new(post, NULL, kind, y != NULL ? 2 : 1, in, &loc);
  op->out[0]->type = type_scalar(post->module->types, to);
  return op->out[0];
}

// round(sum * mul + add) as bytes, with a residual operand in front of the rounding or none.
static void case_requant(Case *c, DType to, Value *mul, Value *add, Value *residual) {
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
static Value *channel_floats(Case *c, int64_t n, double low, double high) {
  const Type *t = type_tensor(c->m->types, DT_F32, 1, &n);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < n; i++) elem_set_f(bytes, DT_F32, i, low + (high - low) * (double)rnd(c, 1000) / 1000);
  return const_bytes(c->m, t, bytes, "scale");
}

typedef enum Result { SUMS, BYTES, RESIDUAL } Result;

static void case_result(Case *c, Result kind, Value *residual) {
  if (kind == SUMS) return;
  const Type *y = op_out(c->op, 0)->type;
  int64_t n = y->dims[y->rank - 1];
  Value *mul = channel_floats(c, n, 0.0001, 0.01), *add = channel_floats(c, n, -100, 200);
  case_requant(c, rnd(c, 2) ? DT_U8 : DT_I8, mul, add, residual);
}

static void check_exact(Case *c, bool native, const char *what) {
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
  const Target *t = &vnni;
  if (native) t = target_native();
  Plan plan = plan_choose(c->op, t);
  if (strcmp(plan.strategy, "dot8") != 0) {  // too small to pay
    plan = (Plan){.strategy = intern(c->m->names, "dot8"), .n = 2};
    plan.param[0].name = intern(c->m->names, "mr");
    plan.param[0].value = 1 + rnd(c, 4);
    plan.param[1].name = intern(c->m->names, "nv");
    plan.param[1].value = 1 + rnd(c, 5);
  }
  op_set_plan(c->op, &plan);
  const char *pipe = native ? PIPE_JIT : PIPE_KEVAL;
  cr_assert(pipeline_run(c->m, t, pipe, &opt, &runner, c->arena, NULL), "%s: %s", what, diag_text(c->m->diag));
  cr_assert(strcmp(c->m->program->steps.at[c->m->program->steps.n - 1].strategy, "dot8") == 0, "%s: not dot8", what);
  void *out = arena_alloc(c->arena, (size_t)type_bytes(yt) + 64);
  memset(out, 0x5a, (size_t)type_bytes(yt));
  cr_assert(native ? run_jit(c, t, in, &out) : run_keval(c, t, in, &out), "%s: %s", what, diag_text(c->m->diag));
  for (int64_t i = 0; i < type_count(yt); i++) {
    long long got = elem_get_i(out, yt->dtype, i), ref = elem_get_i(want.data, yt->dtype, i);
    cr_assert(got == ref, "%s: element %lld is %lld, not %lld", what, (long long)i, got, ref);
  }
  arena_free(c->arena);
}

static void check_matmul(int64_t m, int64_t k, int64_t n, DType t, bool native, uint64_t seed) {
  Case c = case_new(seed, t, 2, (int64_t[]){m, k});
  bool trans = rnd(&c, 2) == 1;
  Value *in[3] = {c.f->args[0], byte_weights(&c, DT_I8, 2, trans ? (int64_t[]){n, k} : (int64_t[]){k, n}), NULL};
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &n);
  c.op = op_new(c.f, NULL, OP_MATMUL, in[2] ? 3 : 2, in, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  op_set_int(c.op, A_MATMUL_x_zero, any_byte(&c, t));
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  case_result(&c, rnd(&c, 3) == 0 ? SUMS : BYTES, NULL);
  const char *what = arena_printf(c.arena, "m=%lld k=%lld n=%lld %s%s", (long long)m, (long long)k, (long long)n,
                                  dtype_info(t)->name, native ? " native" : "");
  check_exact(&c, native, what);
}

static const int64_t ms[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 49, 196};
#define N_MS ((uint64_t)(sizeof ms / sizeof *ms))

Test(dot8, matmul_remainders, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid();
  for (int64_t k = 1; k <= 130; k += full || k < 20 ? 1 : 11) {
    for (int64_t n = 1; n <= 70; n += full || n < 4 ? 1 : 13) {
      for (uint64_t i = 0; i < (full ? N_MS : 2); i++, seed++) {
        check_matmul(ms[full ? i : (seed * 5) % 12], k, n, seed & 2 ? DT_I8 : DT_U8, false, seed);
      }
    }
  }
}

Test(dot8, matmul_native, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid();
  for (int64_t k = 1; k <= 130; k += full ? 7 : 1 + k / 3) {
    for (int64_t n = 1; n <= 70; n += full ? 3 : 23, seed++) {
      check_matmul(ms[seed % N_MS], k, n, seed & 1 ? DT_I8 : DT_U8, true, seed);
    }
  }
}

typedef struct Conv {
  int64_t c, o, group, size, kernel, stride, dilation, pad;
} Conv;

// `axes` spatial axes, all alike but for the extents, which differ by one.
static void check_conv(const Conv *s, uint32_t axes, DType t, Result kind, bool native, uint64_t seed) {
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
  Value *in[3] = {c.f->args[0], byte_weights(&c, DT_I8, axes + 2, w), NULL};
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &s->o);
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
      arena_printf(c.arena, "conv%u c=%lld o=%lld g=%lld in=%lld k=%lld s=%lld d=%lld p=%lld %s result %d seed %llu%s",
                   axes, (long long)s->c, (long long)s->o, (long long)s->group, (long long)s->size,
                   (long long)s->kernel, (long long)s->stride, (long long)s->dilation, (long long)s->pad,
                   dtype_info(t)->name, (int)kind, (unsigned long long)seed, native ? " native" : "");
  check_exact(&c, native, what);
}

static const Conv convs[] = {
    {3, 16, 1, 9, 3, 1, 1, 1},   {1, 5, 1, 8, 3, 1, 1, 1},    {1, 5, 1, 8, 3, 1, 2, 1},   {4, 33, 1, 7, 3, 2, 1, 1},
    {8, 16, 1, 6, 1, 1, 1, 0},   {7, 19, 1, 6, 1, 2, 1, 0},   {16, 8, 2, 6, 3, 1, 1, 1},  {6, 9, 3, 6, 3, 1, 1, 0},
    {20, 20, 20, 9, 3, 1, 1, 1}, {16, 16, 16, 9, 5, 2, 1, 2}, {5, 5, 5, 6, 3, 1, 2, 2},   {64, 64, 1, 5, 3, 1, 1, 1},
    {2, 40, 1, 9, 5, 2, 1, 2},   {12, 17, 1, 8, 3, 1, 3, 3},  {130, 3, 1, 3, 1, 1, 1, 0}, {8, 16, 8, 5, 3, 1, 1, 1},
};

Test(dot8, conv, .timeout = 600) {
  for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++) {
    for (int native = 0; native < 2; native++) {
      for (uint32_t axes = 1; axes <= (convs[i].c <= 20 ? 3 : 2); axes++) {
        check_conv(&convs[i], axes, DT_U8, (Result)(i % 3), native, i + 1);
        check_conv(&convs[i], axes, DT_I8, (Result)((i + 1) % 3), native, i + 100);
      }
    }
  }
}

// One filter per channel: every channel count, windows that hang over every edge, tiles cut by rows and by columns.
static Conv depthwise(uint64_t seed) {
  static const int64_t kernels[] = {3, 3, 3, 5, 1, 2, 4, 7, 9}, channels[] = {1, 5, 15, 16, 17, 32, 40, 58, 70};
  Conv c = {.kernel = kernels[seed % 9], .stride = 1 + (int64_t)(seed / 2 % 3), .dilation = seed % 5 == 0 ? 2 : 1};
  c.c = c.o = c.group = channels[seed / 3 % 9];
  c.pad = (int64_t)(seed / 7 % (uint64_t)(c.kernel + 1));
  c.size = 1 + (int64_t)(seed / 5 % 21);
  int64_t reach = (c.kernel - 1) * c.dilation + 1;
  if (c.size + 2 * c.pad <= reach) c.size = reach + 1;
  return c;
}

Test(dot8, depthwise, .timeout = 36000) {
  uint64_t count = full_grid() ? 6000 : 160;
  for (uint64_t seed = 0; seed < count; seed++) {
    Conv c = depthwise(seed);
    bool native = seed % 4 == 0;
    check_conv(&c, 2, seed & 1 ? DT_U8 : DT_I8, (Result)(seed / 4 % 3), native, seed);
  }
}

// A window whose code would not fit one function.
Test(dot8, large_depthwise) {
  Conv c = {20, 20, 20, 24, 11, 1, 1, 5};
  check_conv(&c, 2, DT_U8, BYTES, true, 1);
}

typedef struct Transposed {
  int64_t c, o, group, size, kernel, stride, dilation, pad;
} Transposed;

static void check_transposed(const Transposed *s, DType t, Result kind, bool native, uint64_t seed) {
  int64_t x[4] = {1 + (int64_t)(seed % 2), s->size, s->size + 1, s->c}, pads[4] = {s->pad, s->pad, s->pad, s->pad};
  int64_t w[4] = {s->kernel, s->kernel, s->c, s->o / s->group}, strides[2] = {s->stride, s->stride};
  int64_t dilations[2] = {s->dilation, s->dilation};
  Case c = case_new(seed, t, 4, x);
  Value *in[3] = {c.f->args[0], byte_weights(&c, DT_I8, 4, w), NULL};
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &s->o);
  c.op = op_new(c.f, NULL, OP_CONV_TRANSPOSE, in[2] ? 3 : 2, in, NULL);
  op_set_int(c.op, A_CONV_TRANSPOSE_layout, LAYOUT_NHWC);
  op_set_int(c.op, A_CONV_TRANSPOSE_group, s->group);
  op_set_int(c.op, A_CONV_TRANSPOSE_x_zero, rnd(&c, 3) ? any_byte(&c, t) : 0);
  op_set_ints(c.op, A_CONV_TRANSPOSE_pads, 4, pads);
  op_set_ints(c.op, A_CONV_TRANSPOSE_strides, 2, strides);
  op_set_ints(c.op, A_CONV_TRANSPOSE_dilations, 2, dilations);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  case_result(&c, kind, NULL);
  const char *what = arena_printf(
      c.arena, "conv_transpose c=%lld o=%lld g=%lld in=%lld k=%lld s=%lld d=%lld p=%lld %s%s", (long long)s->c,
      (long long)s->o, (long long)s->group, (long long)s->size, (long long)s->kernel, (long long)s->stride,
      (long long)s->dilation, (long long)s->pad, dtype_info(t)->name, native ? " native" : "");
  check_exact(&c, native, what);
}

Test(dot8, conv_transpose, .timeout = 600) {
  static const Transposed cases[] = {
      {16, 16, 1, 5, 2, 2, 1, 0}, {8, 20, 1, 5, 3, 2, 1, 1}, {7, 33, 1, 4, 4, 2, 1, 1},  {12, 6, 3, 5, 3, 1, 1, 1},
      {5, 9, 1, 6, 3, 3, 1, 0},   {3, 4, 1, 5, 3, 2, 2, 1},  {64, 64, 1, 4, 4, 4, 1, 0}, {6, 5, 1, 5, 1, 2, 1, 0},
  };
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (int native = 0; native < 2; native++) {
      check_transposed(&cases[i], DT_U8, i % 2 ? BYTES : SUMS, native, i + 1);
      check_transposed(&cases[i], DT_I8, i % 2 ? SUMS : BYTES, native, i + 50);
    }
  }
}
