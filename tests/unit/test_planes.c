// Contractions of few-bit operands as planes of bits against the graph interpreter: every pair of widths in every form,
// every remainder of the words and of the columns, all widths of units, groups, padding with and without a code for
// zero, strides, dilations, zero points and biases. Compiled for this machine's row and for x86-64-v3, and by the
// kernel interpreter for invented rows. With PLANES_FULL set, every shape of the grid instead of a sample.
#include "passes/lower/planes.h"
#include "passes/price.h"
#include "tests/unit/contract_case.h"

static const Target bits = {
    .name = "bits", CPU_512, .has_dot4 = true, .has_popcnt_vec = true, .dot4_per_cycle = 2, .popcnt_per_cycle = 2};

// Values lo, lo + step, ...: 2^bits of them, or three when bits is 0.
typedef struct Levels {
  int64_t lo, step, bits;
} Levels;

static int64_t levels_count(const Levels *l) { return l->bits == 0 ? 3 : INT64_C(1) << l->bits; }

static Value *weights_of(Case *c, const Levels *l, uint32_t rank, const int64_t *dims) {
  const Type *type = type_tensor(c->m->types, DT_I8, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(type));
  uint32_t many = (uint32_t)levels_count(l);
  for (int64_t i = 0; i < type_count(type); i++) elem_set_i(bytes, DT_I8, i, l->lo + l->step * rnd(c, many));
  return const_bytes(c->m, type, bytes, "w");
}

static Value *emit(Case *c, OpKind kind, uint32_t n, Value *const *in) {
  Op *op = op_new(c->f, NULL, kind, n, in, NULL);
  cr_assert(infer_op(op), "%s", diag_text(c->m->diag));
  return op_out(op, 0);
}

// The input with those levels only: clip(x, 0, n - 1) * step + lo; of two levels select(x > 0, hi, lo).
static Value *input_of(Case *c, const Levels *l) {
  Value *x = c->f->args[0];
  const Type *one = type_scalar(c->m->types, x->type->dtype);
  if (l->bits == 8) return x;
  Value *lo = const_splat_int(c->m, one, l->lo), *zero = const_splat_int(c->m, one, 0);
  if (l->bits == 1) {
    Value *is_high = emit(c, OP_GREATER, 2, (Value *[]){x, zero});
    return emit(c, OP_SELECT, 3, (Value *[]){is_high, const_splat_int(c->m, one, l->lo + l->step), lo});
  }
  Value *most = const_splat_int(c->m, one, levels_count(l) - 1);
  x = emit(c, OP_CLIP, 3, (Value *[]){x, zero, most});
  if (l->step != 1) x = emit(c, OP_MUL, 2, (Value *[]){x, const_splat_int(c->m, one, l->step)});
  return l->lo != 0 ? emit(c, OP_ADD, 2, (Value *[]){x, lo}) : x;
}

// The cheapest plan, or any tile and any form the weights have.
static void set_plan(Case *c, const Target *t) {
  Plan plan = plan_choose(c->op, t);
  PlanesForm form = (PlanesForm)rnd(c, 3);
  PlanesW w;
  Range r = value_range(op_in(c->op, 1));
  uint32_t most = t->n_vregs / 8;
  if (strcmp(plan.strategy, "planes") != 0 || rnd(c, 2) == 0) {
    static const char *const names[] = {"mr", "nv", "ku", "my"};
    plan = (Plan){.strategy = intern(c->m->names, "planes"), .n = 4};
    for (uint32_t i = 0; i < 4; i++) {
      plan.param[i].name = intern(c->m->names, names[i]);
      plan.param[i].value = 1 + rnd(c, i == 0 ? most : i < 3 ? most - 1 : most / 2);
    }
    if (planes_w_in(&r, form, &w)) {
      plan.param[plan.n].name = intern(c->m->names, planes_form_name(form));
      plan.param[plan.n++].value = w.planes;
    }
  }
  op_set_plan(c->op, &plan);
  if (getenv("PLANES_PRINT") == NULL) return;
  fprintf(stderr, "%s", plan.strategy);
  for (uint32_t i = 0; i < plan.n; i++) fprintf(stderr, " %s=%lld", plan.param[i].name, (long long)plan.param[i].value);
  fprintf(stderr, "\n");
}

static void check_exact(Case *c, const Target *t, const char *what) {
  bool runs = t != &bits, applies = false;
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  const Type *xt = c->f->args[0]->type, *yt = result->type;
  Tensor x = tensor_new(c->arena, xt), want;
  for (int64_t i = 0; i < type_count(xt); i++) elem_set_i(x.data, xt->dtype, i, (int64_t)rnd(c, 256));
  if (rnd(c, 2)) {  // close to the levels
    for (int64_t i = 0; i < type_count(xt); i++) elem_set_i(x.data, xt->dtype, i, (int64_t)rnd(c, 18));
  }
  for (uint32_t i = 0; i < strategy_count(); i++)
    if (strcmp(strategy_at(i)->name, "planes") == 0) applies = strategy_at(i)->applies(c->op, t);
  cr_assert(applies, "%s: planes do not apply", what);
  cr_assert(eval_func(c->f, &x, &want, c->arena, NULL, NULL), "%s: %s", what, diag_text(c->m->diag));
  Target other = *t;
  if (!runs) other.vector_bits = 128u << rnd(c, 3);
  t = &other;
  set_plan(c, t);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  const char *pipe = runs ? PIPE_JIT : rnd(c, 2) ? PIPE_KEVAL : "plan,lower{open},unroll";
  cr_assert(pipeline_run(c->m, t, pipe, &opt, &runner, c->arena, NULL), "%s: %s", what, diag_text(c->m->diag));
  cr_assert(strcmp(c->m->program->steps.at[c->m->program->steps.n - 1].strategy, "planes") == 0, "%s: other", what);
  void *out = arena_alloc(c->arena, (size_t)type_bytes(yt) + 64);
  const void *in[1] = {x.data};
  memset(out, 0x5a, (size_t)type_bytes(yt));
  cr_assert(runs ? run_jit(c, t, in, &out) : run_keval(c, t, in, &out), "%s: %s", what, diag_text(c->m->diag));
  for (int64_t i = 0; i < type_count(yt); i++) {
    long long got = elem_get_i(out, yt->dtype, i), ref = elem_get_i(want.data, yt->dtype, i);
    cr_assert(got == ref, "%s: element %lld is %lld, not %lld", what, (long long)i, got, ref);
  }
  arena_free(c->arena);
}

// Rows of targets a case runs on, and names for messages.
typedef enum Row { ROW_KEVAL, ROW_NATIVE, ROW_V3 } Row;
static const Target *target_of(Row row) {
  const Target *v3 = target_by_name("x86-64-v3");
  return row == ROW_KEVAL ? &bits : row == ROW_V3 && target_runs_here(v3) ? v3 : target_native();
}

static DType input_type(const Levels *x) { return x->lo >= 0 ? DT_U8 : DT_I8; }

static void check_matmul(int64_t m, int64_t k, int64_t n, const Levels *x, const Levels *w, Row row, uint64_t seed) {
  Case c = case_new(seed, input_type(x), 2, (int64_t[]){m, k});
  bool trans = rnd(&c, 2) == 1, biased = rnd(&c, 2) == 1;
  Value *in[3] = {input_of(&c, x), weights_of(&c, w, 2, trans ? (int64_t[]){n, k} : (int64_t[]){k, n}), NULL};
  if (biased) {
    const Type *t = type_tensor(c.m->types, DT_I32, 1, &n);
    int32_t *b = arena_alloc(c.arena, (size_t)n * sizeof *b);
    for (int64_t i = 0; i < n; i++) b[i] = (int32_t)rnd(&c, 2000) - 1000;
    in[2] = const_bytes(c.m, t, b, "b");
  }
  c.op = op_new(c.f, NULL, OP_MATMUL, biased ? 3 : 2, in, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  if (rnd(&c, 3) == 0) op_set_int(c.op, A_MATMUL_x_zero, (int64_t)rnd(&c, 5));
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  check_exact(
      &c, target_of(row),
      arena_printf(c.arena, "m=%lld k=%lld n=%lld x=%lld+%lld*%lld w=%lld+%lld*%lld row %d seed %llu", (long long)m,
                   (long long)k, (long long)n, (long long)x->lo, (long long)x->step, (long long)x->bits,
                   (long long)w->lo, (long long)w->step, (long long)w->bits, (int)row, (unsigned long long)seed));
}

static const Levels x_levels[] = {{-1, 2, 1}, {0, 1, 1},  {-1, 1, 0}, {0, 1, 2},  {-3, 2, 2}, {-2, 1, 2}, {0, 1, 3},
                                  {-7, 2, 3}, {-4, 1, 3}, {0, 1, 4},  {-8, 1, 4}, {0, 5, 1},  {0, 1, 8},  {-128, 1, 8}};
static const Levels w_levels[] = {{-1, 2, 1}, {0, 1, 1},   {-1, 1, 0},  {-2, 1, 2},  {-3, 2, 2},   {0, 1, 2},
                                  {-4, 1, 3}, {-7, 2, 3},  {-8, 1, 4},  {-15, 2, 4}, {-6, 6, 0},   {-3, 6, 1},
                                  {-1, 1, 1}, {-16, 1, 5}, {-32, 1, 6}, {-64, 1, 7}, {-128, 1, 8}, {5, 0, 1}};
enum { N_X = sizeof x_levels / sizeof *x_levels, N_W = sizeof w_levels / sizeof *w_levels };

static const int64_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 49, 196};

Test(planes, all_levels) {
  uint64_t seed = 1;
  for (uint32_t x = 0; x < N_X; x++)
    for (uint32_t w = 0; w < N_W; w++, seed++) {
      int64_t k = 1 + (int64_t)(seed * 37 % 200), n = 1 + (int64_t)(seed * 11 % 40);
      check_matmul(rows[seed % 9], k, n, &x_levels[x], &w_levels[w], ROW_KEVAL, seed);
      check_matmul(rows[seed % 20], k, n, &x_levels[x], &w_levels[w], ROW_NATIVE, seed + 1000);
      if (seed % 3 == 0) check_matmul(rows[seed % 20], k, n, &x_levels[x], &w_levels[w], ROW_V3, seed + 2000);
    }
}

static bool every_shape(void) { return getenv("PLANES_FULL") != NULL; }

Test(planes, matmul_remainders) {
  uint64_t seed = 1;
  bool full = every_shape();
  for (int64_t k = 1; k <= 130; k += full || k < 20 || k > 120 ? 1 : 11)
    for (int64_t n = 1; n <= 70; n += full || n < 4 ? 1 : 13, seed++)
      check_matmul(rows[seed * 5 % 21], k, n, &x_levels[seed % 5], &w_levels[seed / 5 % 5], ROW_KEVAL, seed);
}

Test(planes, matmul_native) {
  uint64_t seed = 1;
  bool full = every_shape();
  for (int64_t k = 1; k <= 130; k += full ? 1 : 1 + k / 3)
    for (int64_t n = 1; n <= 70; n += full ? 1 : 23)
      for (uint32_t r = full ? 0 : (uint32_t)(seed * 7 % 22); r < 22; r += full ? 1 : 22, seed++)
        check_matmul(rows[r], k, n, &x_levels[seed % N_X], &w_levels[seed / 3 % N_W], seed % 4 ? ROW_NATIVE : ROW_V3,
                     seed);
}

typedef struct Conv {
  int64_t c, o, size, kernel, stride, dilation, pad, group;
} Conv;

static void check_conv(const Conv *s, const Levels *x, const Levels *w, uint32_t axes, Row row, uint64_t seed) {
  int64_t pads[6], strides[3], dilations[3], dims[5] = {2}, filter[5];
  for (uint32_t i = 0; i < axes; i++) {
    pads[i] = pads[axes + i] = s->pad;
    strides[i] = s->stride;
    dilations[i] = s->dilation;
    dims[1 + i] = s->size + i % 2;
    filter[i] = s->kernel;
  }
  dims[1 + axes] = s->c;
  filter[axes] = s->c / s->group;
  filter[axes + 1] = s->o;
  Case c = case_new(seed, input_type(x), axes + 2, dims);
  Value *in[2] = {input_of(&c, x), weights_of(&c, w, axes + 2, filter)};
  c.op = op_new(c.f, NULL, OP_CONV, 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_ints(c.op, A_CONV_pads, 2 * axes, pads);
  op_set_ints(c.op, A_CONV_strides, axes, strides);
  op_set_ints(c.op, A_CONV_dilations, axes, dilations);
  op_set_int(c.op, A_CONV_group, s->group);
  if (rnd(&c, 3) == 0) op_set_int(c.op, A_CONV_x_zero, (int64_t)rnd(&c, 5));
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  check_exact(
      &c, target_of(row),
      arena_printf(c.arena, "%u-d conv c=%lld o=%lld in=%lld k=%lld s=%lld d=%lld p=%lld g=%lld row %d seed %llu", axes,
                   (long long)s->c, (long long)s->o, (long long)s->size, (long long)s->kernel, (long long)s->stride,
                   (long long)s->dilation, (long long)s->pad, (long long)s->group, (int)row, (unsigned long long)seed));
}

static const Conv convs[] = {
    {64, 16, 9, 3, 1, 1, 1, 1},   {2, 5, 8, 3, 1, 1, 1, 1},    {2, 5, 8, 3, 1, 2, 2, 1},   {4, 33, 7, 3, 2, 1, 1, 1},
    {8, 16, 6, 1, 1, 1, 0, 1},    {7, 19, 6, 1, 2, 1, 0, 1},   {130, 3, 3, 1, 1, 1, 0, 1}, {70, 9, 6, 3, 1, 1, 0, 1},
    {20, 20, 9, 3, 1, 1, 1, 1},   {2, 40, 9, 5, 2, 1, 2, 1},   {12, 17, 8, 3, 1, 3, 3, 1}, {128, 64, 5, 3, 1, 1, 1, 1},
    {96, 32, 6, 3, 1, 1, 1, 2},   {130, 24, 5, 3, 1, 1, 1, 2}, {12, 18, 7, 3, 2, 1, 1, 3}, {192, 20, 5, 1, 1, 1, 0, 2},
    {128, 128, 4, 3, 1, 2, 2, 4},
};
enum { N_CONVS = sizeof convs / sizeof *convs };

Test(planes, conv) {
  for (uint32_t i = 0; i < N_CONVS; i++) {
    for (uint32_t j = 0; j < 6; j++) {
      const Levels *x = &x_levels[(i + 5 * j) % N_X], *w = &w_levels[(i / 2 + 3 * j) % N_W];
      check_conv(&convs[i], x, w, 2, j < 2 ? ROW_KEVAL : j < 5 ? ROW_NATIVE : ROW_V3, i + 100 * j + 1);
    }
  }
}

Test(planes, conv_other_ranks) {
  static const Conv shapes[] = {{33, 10, 9, 3, 1, 1, 1, 1}, {64, 8, 5, 3, 2, 1, 1, 2}, {5, 12, 6, 2, 1, 2, 1, 1}};
  for (uint32_t i = 0; i < 3; i++)
    for (uint32_t axes = 1; axes <= 3; axes += 2)
      for (uint32_t j = 0; j < 4; j++)
        check_conv(&shapes[i], &x_levels[3 * j], &w_levels[2 * j], axes, j % 2 ? ROW_NATIVE : ROW_KEVAL,
                   i + 10 * j + 1);
}

// ---- forms

static Range range_of(uint32_t n, const int64_t *levels) {
  Range r = {.lo = levels[0], .hi = levels[n - 1], .n = n};
  memcpy(r.level, levels, n * sizeof *levels);
  return r;
}

Test(planes, forms) {
  static const struct {
    uint32_t n;
    int64_t levels[8];
    PlanesForm form;
    int64_t planes, unit;
  } cases[] = {
      {2, {-1, 1}, PLANES_XOR, 1, 1},
      {2, {-3, 3}, PLANES_XOR, 1, 3},
      {3, {-1, 0, 1}, PLANES_SIGN, 1, 1},
      {3, {-5, 0, 5}, PLANES_SIGN, 1, 5},
      {2, {0, 1}, PLANES_AND, 1, 1},
      {2, {-1, 0}, PLANES_AND, 1, 1},
      {4, {-3, -1, 1, 3}, PLANES_XOR, 2, 1},
      {4, {0, 1, 2, 3}, PLANES_AND, 2, 1},
      {4, {-2, -1, 0, 1}, PLANES_AND, 2, 1},
      {5, {-2, -1, 0, 1, 2}, PLANES_SIGN, 2, 1},
      {7, {-3, -2, -1, 0, 1, 2, 3}, PLANES_SIGN, 2, 1},
  };
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Range r = range_of(cases[i].n, cases[i].levels);
    PlanesW w = planes_w(&r);
    cr_expect(w.form == cases[i].form && w.planes == cases[i].planes && w.unit == cases[i].unit,
              "case %u: %s with %lld planes of %lld", i, planes_form_name(w.form), (long long)w.planes,
              (long long)w.unit);
  }
}
