// Contractions of -1 and +1 as bits against the graph interpreter: every remainder of the words and of the columns, all
// widths of units, zero padding and padding by a value, strides, dilations, and the threshold as a post function.
#include "passes/price.h"
#include "tests/unit/contract_case.h"

static const Target bits = {
    .name = "bits", CPU_512, .has_dot4 = true, .has_popcnt_vec = true, .dot4_per_cycle = 2, .popcnt_per_cycle = 2};

static Value *signs(Case *c, uint32_t rank, const int64_t *dims) {
  const Type *type = type_tensor(c->m->types, DT_I8, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < type_count(type); i++) elem_set_i(bytes, DT_I8, i, rnd(c, 2) ? 1 : -1);
  return const_bytes(c->m, type, bytes, "w");
}

// What makes the input of the contraction bipolar: select(x >= 0, 1, -1).
static Value *signs_of(Case *c, Value *x) {
  const Type *byte = type_scalar(c->m->types, DT_I8);
  Op *ge = op_new(c->f, NULL, OP_GREATER_EQUAL, 2, (Value *[]){x, const_splat_int(c->m, byte, 0)}, NULL);
  cr_assert(infer_op(ge));
  Value *in[3] = {op_out(ge, 0), const_splat_int(c->m, byte, 1), const_splat_int(c->m, byte, -1)};
  Op *select = op_new(c->f, NULL, OP_SELECT, 3, in, NULL);
  cr_assert(infer_op(select));
  return op_out(select, 0);
}

static void set_plan(Case *c, const Target *t) {
  Plan plan = plan_choose(c->op, t);
  if (strcmp(plan.strategy, "planes") != 0) {  // too small to pay
    plan = (Plan){.strategy = intern(c->m->names, "planes"), .n = 2};
    plan.param[0].name = intern(c->m->names, "mr");
    plan.param[0].value = 1 + rnd(c, 4);
    plan.param[1].name = intern(c->m->names, "nv");
    plan.param[1].value = 1 + rnd(c, 3);
  }
  op_set_plan(c->op, &plan);
}

static void check_exact(Case *c, const Target *t, const char *what) {
  bool native = t != &bits, applies = false;
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  const Type *xt = c->f->args[0]->type, *yt = result->type;
  Tensor x = tensor_new(c->arena, xt), want;
  for (int64_t i = 0; i < type_count(xt); i++) elem_set_i(x.data, DT_I8, i, rnd(c, 2) ? 1 : -1);
  for (uint32_t i = 0; i < strategy_count(); i++)
    if (strcmp(strategy_at(i)->name, "planes") == 0) applies = strategy_at(i)->applies(c->op, &bits);
  cr_assert(applies, "%s: planes do not apply", what);
  cr_assert(eval_func(c->f, &x, &want, c->arena, NULL, NULL), "%s: %s", what, diag_text(c->m->diag));
  Target other = *t;
  if (!native) other.vector_bits = 128u << rnd(c, 3);
  t = &other;
  set_plan(c, t);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  const char *pipe = native ? PIPE_JIT : PIPE_KEVAL;
  cr_assert(pipeline_run(c->m, t, pipe, &opt, &runner, c->arena, NULL), "%s: %s", what, diag_text(c->m->diag));
  cr_assert(strcmp(c->m->program->steps.at[c->m->program->steps.n - 1].strategy, "planes") == 0, "%s: other", what);
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

static void check_matmul(int64_t m, int64_t k, int64_t n, bool native, uint64_t seed) {
  Case c = case_new(seed, DT_I8, 2, (int64_t[]){m, k});
  bool trans = rnd(&c, 2) == 1;
  Value *in[2] = {signs_of(&c, c.f->args[0]), signs(&c, 2, trans ? (int64_t[]){n, k} : (int64_t[]){k, n})};
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, in, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  check_exact(&c, native ? target_native() : &bits,
              arena_printf(c.arena, "m=%lld k=%lld n=%lld", (long long)m, (long long)k, (long long)n));
}

static const int64_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 49, 196};

Test(planes, matmul_remainders) {
  uint64_t seed = 1;
  for (int64_t k = 1; k <= 130; k += k < 20 || k > 120 ? 1 : 11)
    for (int64_t n = 1; n <= 70; n += n < 4 ? 1 : 13, seed++) check_matmul(rows[seed * 5 % 21], k, n, false, seed);
}

Test(planes, matmul_native) {
  uint64_t seed = 1;
  if (!target_native()->has_popcnt_vec) cr_skip("no vector popcount");
  for (int64_t k = 1; k <= 130; k += 1 + k / 3)
    for (int64_t n = 1; n <= 70; n += 23, seed++) check_matmul(rows[seed * 7 % 22], k, n, true, seed);
}

typedef struct Conv {
  int64_t c, o, size, kernel, stride, dilation, pad;
} Conv;

static void check_conv(const Conv *s, bool native, uint64_t seed) {
  int64_t pads[4] = {s->pad, s->pad, s->pad, s->pad}, strides[2] = {s->stride, s->stride};
  int64_t dilations[2] = {s->dilation, s->dilation};
  Case c = case_new(seed, DT_I8, 4, (int64_t[]){2, s->size, s->size + 2, s->c});
  Value *in[2] = {signs_of(&c, c.f->args[0]), signs(&c, 4, (int64_t[]){s->kernel, s->kernel, s->c, s->o})};
  c.op = op_new(c.f, NULL, OP_CONV, 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_ints(c.op, A_CONV_pads, 4, pads);
  op_set_ints(c.op, A_CONV_strides, 2, strides);
  op_set_ints(c.op, A_CONV_dilations, 2, dilations);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  check_exact(&c, native ? target_native() : &bits,
              arena_printf(c.arena, "conv c=%lld o=%lld in=%lld k=%lld s=%lld d=%lld p=%lld", (long long)s->c,
                           (long long)s->o, (long long)s->size, (long long)s->kernel, (long long)s->stride,
                           (long long)s->dilation, (long long)s->pad));
}

static const Conv convs[] = {
    {64, 16, 9, 3, 1, 1, 1}, {1, 5, 8, 3, 1, 1, 1},  {1, 5, 8, 3, 1, 2, 2},   {4, 33, 7, 3, 2, 1, 1},
    {8, 16, 6, 1, 1, 1, 0},  {7, 19, 6, 1, 2, 1, 0}, {130, 3, 3, 1, 1, 1, 0}, {70, 9, 6, 3, 1, 1, 0},
    {20, 20, 9, 3, 1, 1, 1}, {2, 40, 9, 5, 2, 1, 2}, {12, 17, 8, 3, 1, 3, 3}, {128, 64, 5, 3, 1, 1, 1},
};

Test(planes, conv) {
  bool can = target_native()->has_popcnt_vec;
  for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++) {
    check_conv(&convs[i], false, i + 1);
    if (can) check_conv(&convs[i], true, i + 100);
  }
}
