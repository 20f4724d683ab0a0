// Packed weights that are opened once a run (open.h), against the graph interpreter, bit for bit: grids and odd values
// of every number of bits, panels with and without places to spare, filters of one channel each, words of bits, panels
// of floats; by processors with a permutation of 64 bytes and without. Something must have been opened, and less is
// stored.
#include "tests/unit/byte_case.h"

static const Target wide64 = {.name = "wide64", CPU_512, .has_dot4 = true, .dot4_per_cycle = 2, .has_lookup64 = true};
static const Target narrow16 = {.name = "narrow16", CPU_512, .has_dot4 = true, .dot4_per_cycle = 2};

static uint32_t opened, kept;

static int64_t constant_bytes(const Module *m) {
  int64_t bytes = 0;
  for (uint32_t i = 0; i < m->program->steps.n; i++) {
    const Step *s = &m->program->steps.at[i];
    for (uint32_t k = 0; k < s->n_args; k++)
      if (s->args[k]->kind == PBUF_CONST && s->args[k]->is_weights) bytes += s->args[k]->bytes;
  }
  return bytes;
}

static void count_opened(const Module *m) {
  bool has = false;
  for (uint32_t i = 0; i < m->program->steps.n; i++)
    has = has || strncmp(m->program->steps.at[i].kernel->name, "open_", 5) == 0;
  opened += has;
  kept += !has;
}

static bool run_keval_opened(Case *c, const Target *t, const void *const *in, void *const *out) {
  count_opened(c->m);
  return run_keval(c, t, in, out);
}

static bool run_jit_opened(Case *c, const Target *t, const void *const *in, void *const *out) {
  count_opened(c->m);
  return run_jit(c, t, in, out);
}

static void plain_plan(Case *c, Plan *p) {
  byte_plan_add(c, p, "mr", 1 + rnd(c, 4));
  byte_plan_add(c, p, "nv", 1 + rnd(c, 5));
}

static const ByteRun *how(const char *strategy, uint64_t seed, const ByteGrid *grid) {
  static ByteRun run;
  bool native = seed % 3 == 0;
  run = (ByteRun){.strategy = strategy, .name = native ? "native" : "keval", .plan = plain_plan, .always = true};
  run.target = native ? target_native() : seed % 3 == 1 ? &wide64 : &narrow16;
  run.pipeline = native ? "plan,lower{open},memplan,expand,vectorize,unroll,ksimplify" : "plan,lower{open},unroll";
  run.run = native ? run_jit_opened : run_keval_opened;
  run.grid = grid;
  return &run;
}

static const ByteGrid grids[] = {
    {-1, 2, 2},   {0, 1, 2},    {-1, 1, 3},   {-3, 2, 4},    {-3, 1, 7}, {-7, 1, 15},  {-8, 1, 16},
    {-15, 1, 31}, {-16, 1, 32}, {-31, 1, 63}, {-64, 1, 128}, {0, 5, 20}, {-60, 3, 40}, {-128, 8, 32},
};
#define N_GRIDS (sizeof grids / sizeof *grids)

Test(open, matmul, .timeout = 600) {
  uint64_t seed = 1;
  opened = kept = 0;
  for (const ByteGrid *g = grids; g < grids + N_GRIDS; g++)
    for (int64_t k = 1; k <= 70; k += 1 + k / 2)
      for (int64_t n = 1; n <= 40; n += 13, seed++)
        check_matmul(1 + (int64_t)(seed % 5), k, n, seed & 2 ? DT_I8 : DT_U8, how("dot8", seed, g), seed);
  cr_assert(opened > 4 * kept, "%u opened, %u not", opened, kept);
}

static const Conv convs[] = {
    {3, 16, 1, 7, 3, 1, 1, 1},   {5, 20, 1, 6, 3, 1, 1, 0},   {16, 24, 1, 5, 3, 1, 1, 1},  {9, 7, 1, 6, 3, 1, 2, 2},
    {16, 8, 2, 6, 3, 1, 1, 1},   {7, 19, 1, 6, 1, 2, 1, 0},   {64, 32, 1, 3, 1, 1, 1, 0},  {24, 40, 1, 5, 3, 1, 1, 1},
    {20, 20, 20, 9, 3, 1, 1, 1}, {16, 16, 16, 9, 5, 2, 1, 2}, {96, 96, 96, 6, 3, 1, 1, 1}, {40, 40, 40, 7, 3, 2, 1, 1},
};

Test(open, conv, .timeout = 600) {
  uint64_t seed = 1;
  opened = kept = 0;
  for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++)
    for (uint32_t g = 0; g < N_GRIDS; g += 1 + i % 2, seed++)
      check_conv(&convs[i], 2, seed & 1 ? DT_U8 : DT_I8, (Result)(seed % 3), how("dot8", seed, &grids[g]), seed);
  cr_assert(opened > 4 * kept, "%u opened, %u not", opened, kept);
}

// Whole bytes: only what packing added goes.
Test(open, bytes, .timeout = 600) {
  uint64_t seed = 1;
  opened = kept = 0;
  for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++)
    for (int row = 0; row < 3; row++, seed++)
      check_conv(&convs[i], 2, DT_U8, (Result)(seed % 3), how("dot8", seed, NULL), seed);
  cr_assert(opened >= 12, "%u opened, %u not", opened, kept);
}

// Rows of 48 and 24 channels in words of 32 bits leave bytes empty, rows of 64 do not.
static void check_words(int64_t channels, bool spare, uint64_t seed) {
  Case c = case_new(seed, DT_I8, 4, (int64_t[]){1, 5, 5, channels});
  static const ByteGrid signs = {-1, 2, 2};
  Value *x = c.f->args[0], *zero = const_splat_int(c.m, type_scalar(c.m->types, DT_I8), 0),
        *one = const_splat_int(c.m, type_scalar(c.m->types, DT_I8), 1);
  Value *minus = const_splat_int(c.m, type_scalar(c.m->types, DT_I8), -1);
  Op *positive = op_new(c.f, NULL, OP_GREATER, 2, (Value *[]){x, zero}, NULL);
  cr_assert(infer_op(positive), "%s", diag_text(c.m->diag));
  Op *sign = op_new(c.f, NULL, OP_SELECT, 3, (Value *[]){op_out(positive, 0), one, minus}, NULL);
  cr_assert(infer_op(sign), "%s", diag_text(c.m->diag));
  int64_t dims[4] = {3, 3, channels, 40};
  Value *in[2] = {op_out(sign, 0), byte_weights(&c, DT_I8, 4, dims, &signs)};
  c.op = op_new(c.f, NULL, OP_CONV, 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  opened = kept = 0;
  const ByteRun *r = how("planes", seed, NULL);
  check_exact(&c, r, arena_printf(c.arena, "%lld channels %s", (long long)channels, r->name));
  cr_assert(opened == spare, "%lld channels: opened %u", (long long)channels, opened);
}

Test(open, words) {
  for (uint64_t seed = 0; seed < 3; seed++) {
    check_words(48, true, seed);
    check_words(24, true, seed);
    check_words(64, false, seed);
  }
}

// Floats of few values as codes.
Test(open, floats) {
  for (uint64_t seed = 0; seed < 6; seed++) {
    Case c = case_new(seed, DT_F32, 2, (int64_t[]){3, 60});
    int64_t dims[2] = {60, 33};
    const Type *t = type_tensor(c.m->types, DT_F32, 2, dims);
    float *w = arena_alloc(c.arena, (size_t)type_bytes(t));
    for (int64_t i = 0; i < type_count(t); i++) w[i] = (float)rnd(&c, seed < 3 ? 5 : 40) * 0.37f - 1;
    c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], const_bytes(c.m, t, w, "w")}, NULL);
    cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
    Plan plan = {.strategy = intern(c.m->names, "fma")};
    op_set_plan(c.op, &plan);
    opened = kept = 0;
    const ByteRun *r = how("fma", seed, NULL);
    case_check(&c, r->target, r->pipeline, r->run, "floats");
    cr_assert(opened == 1);
  }
}

// What is stored is what the values need: 15 of them take 4 bits, what packing added takes nothing.
Test(open, bytes_stored) {
  Case c = case_new(1, DT_U8, 4, (int64_t[]){1, 8, 8, 3});
  int64_t dims[4] = {3, 3, 3, 64};
  Value *in[2] = {c.f->args[0], byte_weights(&c, DT_I8, 4, dims, &grids[5])};
  c.op = op_new(c.f, NULL, OP_CONV, 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  cr_assert(infer_op(c.op));
  Plan plan = {.strategy = intern(c.m->names, "dot8")};
  op_set_plan(c.op, &plan);
  Value *y = op_out(c.op, 0);
  func_set_results(c.f, 1, &y);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c.m, &wide64, "lower{open}", &opt, &runner, c.arena, NULL), "%s", diag_text(c.m->diag));
  int64_t bytes = constant_bytes(c.m), needed = 27 * 64 / 2;
  cr_assert(bytes >= needed && bytes * 100 <= needed * 105, "%lld bytes for %lld", (long long)bytes, (long long)needed);
  arena_free(c.arena);
}
