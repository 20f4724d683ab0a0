// 8-bit contractions against the graph interpreter, bit for bit: every remainder of the reduction and of the columns,
// both signs of x, extreme values, padding with the zero point, strides, dilation, groups, depthwise.
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

static void check_exact(Case *c, bool native, const char *what) {
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  const Type *xt = c->f->args[0]->type, *yt = result->type;
  Tensor x = tensor_new(c->arena, xt), want;
  for (int64_t i = 0; i < type_count(xt); i++) elem_set_i(x.data, xt->dtype, i, any_byte(c, xt->dtype));
  cr_assert(eval_func(c->f, &x, &want, c->arena, NULL, NULL), "%s: %s", what, diag_text(c->m->diag));
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
    plan.param[1].value = 1 + rnd(c, 3);
  }
  op_set_plan(c->op, &plan);
  const char *pipe = native ? PIPE_JIT : PIPE_KEVAL;
  cr_assert(pipeline_run(c->m, t, pipe, &opt, &runner, c->arena, NULL), "%s: %s", what, diag_text(c->m->diag));
  cr_assert(strcmp(c->m->program->steps.at[c->m->program->steps.n - 1].strategy, "dot8") == 0, "%s: not dot8", what);
  void *out = arena_alloc(c->arena, (size_t)type_bytes(yt) + 64);
  const void *in[1] = {x.data};
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
  const char *what = arena_printf(c.arena, "m=%lld k=%lld n=%lld %s%s", (long long)m, (long long)k, (long long)n,
                                  dtype_info(t)->name, native ? " native" : "");
  check_exact(&c, native, what);
}

Test(dot8, matmul_remainders) {
  static const int64_t ms[] = {1, 2, 3, 4, 5, 7, 8, 11, 13, 14, 17, 20, 49, 196};
  uint64_t seed = 1;
  for (int64_t k = 1; k <= 130; k += k < 20 ? 1 : 11) {
    for (int64_t n = 1; n <= 70; n += n < 4 ? 1 : 13) {
      for (int i = 0; i < 2; i++, seed++) {
        check_matmul(ms[(seed * 5) % 12], k, n, seed & 2 ? DT_I8 : DT_U8, false, seed);
      }
    }
  }
}

Test(dot8, matmul_native) {
  static const int64_t ms[] = {1, 2, 3, 4, 5, 7, 8, 11, 13, 14, 17, 20, 49, 196};
  uint64_t seed = 1;
  for (int64_t k = 1; k <= 130; k += 1 + k / 3) {
    for (int64_t n = 1; n <= 70; n += 23, seed++) {
      check_matmul(ms[seed % 14], k, n, seed & 1 ? DT_I8 : DT_U8, true, seed);
    }
  }
}

typedef struct Conv {
  int64_t c, o, group, size, kernel, stride, dilation, pad;
} Conv;

static void check_conv(const Conv *s, DType t, bool native, uint64_t seed) {
  int64_t two[4] = {s->pad, s->pad, s->pad, s->pad}, strides[2] = {s->stride, s->stride};
  int64_t dilations[2] = {s->dilation, s->dilation};
  Case c = case_new(seed, t, 4, (int64_t[]){1, s->size, s->size + 2, s->c});
  Value *in[3] = {c.f->args[0], NULL, NULL};
  in[1] = byte_weights(&c, DT_I8, 4, (int64_t[]){s->kernel, s->kernel, s->c / s->group, s->o});
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &s->o);
  c.op = op_new(c.f, NULL, OP_CONV, in[2] ? 3 : 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_int(c.op, A_CONV_group, s->group);
  op_set_int(c.op, A_CONV_x_zero, any_byte(&c, t));
  op_set_ints(c.op, A_CONV_pads, 4, two);
  op_set_ints(c.op, A_CONV_strides, 2, strides);
  op_set_ints(c.op, A_CONV_dilations, 2, dilations);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  const char *what =
      arena_printf(c.arena, "conv c=%lld o=%lld g=%lld in=%lld k=%lld s=%lld d=%lld p=%lld %s%s", (long long)s->c,
                   (long long)s->o, (long long)s->group, (long long)s->size, (long long)s->kernel, (long long)s->stride,
                   (long long)s->dilation, (long long)s->pad, dtype_info(t)->name, native ? " native" : "");
  check_exact(&c, native, what);
}

static const Conv convs[] = {
    {3, 16, 1, 9, 3, 1, 1, 1},   {1, 5, 1, 8, 3, 1, 1, 1},    {1, 5, 1, 8, 3, 1, 2, 1},   {4, 33, 1, 7, 3, 2, 1, 1},
    {8, 16, 1, 6, 1, 1, 1, 0},   {7, 19, 1, 6, 1, 2, 1, 0},   {16, 8, 2, 6, 3, 1, 1, 1},  {6, 9, 3, 6, 3, 1, 1, 0},
    {20, 20, 20, 9, 3, 1, 1, 1}, {16, 16, 16, 9, 5, 2, 1, 2}, {5, 5, 5, 6, 3, 1, 2, 2},   {64, 64, 1, 5, 3, 1, 1, 1},
    {2, 40, 1, 9, 5, 2, 1, 2},   {12, 17, 1, 8, 3, 1, 3, 3},  {130, 3, 1, 3, 1, 1, 1, 0}, {8, 16, 8, 5, 3, 1, 1, 1},
};

Test(dot8, conv) {
  for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++) {
    for (int native = 0; native < 2; native++) {
      check_conv(&convs[i], DT_U8, native, i + 1);
      check_conv(&convs[i], DT_I8, native, i + 100);
    }
  }
}
