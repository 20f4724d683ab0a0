// 8-bit contractions against the graph interpreter, bit for bit: every remainder of the reduction and of the columns,
// both signs of x, extreme values, padding with the zero point, strides, dilation, groups, depthwise, one to three
// spatial axes, results as sums and as bytes; weights of 1 to 7 bits as fields of bytes. QCC_TEST_GRID=full runs every
// size instead of a sample.
#include "passes/lower/dot8.h"
#include "tests/unit/byte_case.h"

static const Target vnni = {.name = "vnni", CPU_512, .has_dot4 = true, .dot4_per_cycle = 2};

static void any_plan(Case *c, Plan *p) {
  byte_plan_add(c, p, "mr", 1 + rnd(c, 4));
  byte_plan_add(c, p, "nv", 1 + rnd(c, 5));
}

static const ByteRun *how(bool native) {
  static ByteRun compiled = {"dot8", "native", NULL, PIPE_JIT, run_jit, any_plan, false, NULL};
  static const ByteRun interpreted = {"dot8", "keval", &vnni, PIPE_KEVAL, run_keval, any_plan, false, NULL};
  compiled.target = target_native();
  return native ? &compiled : &interpreted;
}

static const int64_t ms[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 49, 196};
#define N_MS ((uint64_t)(sizeof ms / sizeof *ms))

Test(dot8, matmul_remainders, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid();
  for (int64_t k = 1; k <= 130; k += full || k < 20 ? 1 : 11) {
    for (int64_t n = 1; n <= 70; n += full || n < 4 ? 1 : 13) {
      for (uint64_t i = 0; i < (full ? N_MS : 2); i++, seed++) {
        check_matmul(ms[full ? i : (seed * 5) % 12], k, n, seed & 2 ? DT_I8 : DT_U8, how(false), seed);
      }
    }
  }
}

Test(dot8, matmul_native, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid();
  for (int64_t k = 1; k <= 130; k += full ? 7 : 1 + k / 3) {
    for (int64_t n = 1; n <= 70; n += full ? 3 : 23, seed++) {
      check_matmul(ms[seed % N_MS], k, n, seed & 1 ? DT_I8 : DT_U8, how(true), seed);
    }
  }
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
        check_conv(&convs[i], axes, DT_U8, (Result)(i % 3), how(native), i + 1);
        check_conv(&convs[i], axes, DT_I8, (Result)((i + 1) % 3), how(native), i + 100);
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
    check_conv(&c, 2, seed & 1 ? DT_U8 : DT_I8, (Result)(seed / 4 % 3), how(native), seed);
  }
}

// A window whose code would not fit one function.
Test(dot8, large_depthwise) {
  Conv c = {20, 20, 20, 24, 11, 1, 1, 5};
  check_conv(&c, 2, DT_U8, BYTES, how(true), 1);
}

typedef struct Transposed {
  int64_t c, o, group, size, kernel, stride, dilation, pad;
} Transposed;

static void check_transposed(const Transposed *s, DType t, Result kind, const ByteRun *r, uint64_t seed) {
  int64_t x[4] = {1 + (int64_t)(seed % 2), s->size, s->size + 1, s->c}, pads[4] = {s->pad, s->pad, s->pad, s->pad};
  int64_t w[4] = {s->kernel, s->kernel, s->c, s->o / s->group}, strides[2] = {s->stride, s->stride};
  int64_t dilations[2] = {s->dilation, s->dilation};
  Case c = case_new(seed, t, 4, x);
  Value *in[3] = {c.f->args[0], byte_weights(&c, DT_I8, 4, w, r->grid), NULL};
  if (rnd(&c, 2)) in[2] = byte_weights(&c, DT_I32, 1, &s->o, NULL);
  c.op = op_new(c.f, NULL, OP_CONV_TRANSPOSE, in[2] ? 3 : 2, in, NULL);
  op_set_int(c.op, A_CONV_TRANSPOSE_layout, LAYOUT_NHWC);
  op_set_int(c.op, A_CONV_TRANSPOSE_group, s->group);
  op_set_int(c.op, A_CONV_TRANSPOSE_x_zero, rnd(&c, 3) ? any_byte(&c, t) : 0);
  op_set_ints(c.op, A_CONV_TRANSPOSE_pads, 4, pads);
  op_set_ints(c.op, A_CONV_TRANSPOSE_strides, 2, strides);
  op_set_ints(c.op, A_CONV_TRANSPOSE_dilations, 2, dilations);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  case_result(&c, kind, NULL);
  const char *what =
      arena_printf(c.arena, "conv_transpose c=%lld o=%lld g=%lld in=%lld k=%lld s=%lld d=%lld p=%lld %s %s",
                   (long long)s->c, (long long)s->o, (long long)s->group, (long long)s->size, (long long)s->kernel,
                   (long long)s->stride, (long long)s->dilation, (long long)s->pad, dtype_info(t)->name, r->name);
  check_exact(&c, r, what);
}

Test(dot8, conv_transpose, .timeout = 600) {
  static const Transposed cases[] = {
      {16, 16, 1, 5, 2, 2, 1, 0}, {8, 20, 1, 5, 3, 2, 1, 1}, {7, 33, 1, 4, 4, 2, 1, 1},  {12, 6, 3, 5, 3, 1, 1, 1},
      {5, 9, 1, 6, 3, 3, 1, 0},   {3, 4, 1, 5, 3, 2, 2, 1},  {64, 64, 1, 4, 4, 4, 1, 0}, {6, 5, 1, 5, 1, 2, 1, 0},
  };
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (int native = 0; native < 2; native++) {
      check_transposed(&cases[i], DT_U8, i % 2 ? BYTES : SUMS, how(native), i + 1);
      check_transposed(&cases[i], DT_I8, i % 2 ? SUMS : BYTES, how(native), i + 50);
    }
  }
}

// ---- weights of fewer bits

typedef struct Narrow {
  uint32_t bits;
  ByteGrid grid;
} Narrow;

static const Narrow narrows[] = {
    {1, {-1, 2, 2}},   {1, {0, 1, 2}},    {1, {-1, 1, 2}},    {2, {-1, 1, 3}},  {2, {-3, 2, 4}},  {2, {0, 1, 4}},
    {2, {-4, 4, 3}},   {2, {-7, 4, 4}},   {3, {-3, 1, 7}},    {4, {-8, 1, 16}}, {4, {-7, 1, 15}}, {4, {0, 1, 16}},
    {5, {-16, 1, 32}}, {6, {-31, 1, 63}}, {7, {-64, 1, 128}}, {7, {0, 1, 128}},
};
#define N_NARROW (sizeof narrows / sizeof *narrows)

static int64_t plan_bits;  // of the case at hand

static void narrow_plan(Case *c, Plan *p) {
  any_plan(c, p);
  byte_plan_add(c, p, "my", 1 + rnd(c, 3));
  byte_plan_add(c, p, "ku", 1 + rnd(c, 4));
  byte_plan_add(c, p, "bits", plan_bits);
}

// As planned, or with a tile of any size.
static const ByteRun *how_narrow(const Narrow *n, bool native, bool always) {
  static ByteRun run;
  run = *how(native);
  run.plan = narrow_plan;
  run.always = always;
  run.grid = &n->grid;
  plan_bits = n->bits;
  return &run;
}

// Every field, every remainder of a chunk, one to many vectors of columns.
Test(dot8, bits_matmul, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid();
  for (const Narrow *w = narrows; w < narrows + N_NARROW; w++) {
    for (int64_t k = 1; k <= 80; k += full || k < 12 ? 1 : 7) {
      for (int64_t n = 1; n <= 40; n += full ? 3 : 17, seed++) {
        const ByteRun *r = how_narrow(w, seed % 5 == 0, seed % 3 != 0);
        check_matmul(ms[seed % 12], k, n, seed & 2 ? DT_I8 : DT_U8, r, seed);
      }
    }
  }
}

// What is left of the rows of a window after chunks; groups; taps of transposed convolutions.
Test(dot8, bits_conv, .timeout = 36000) {
  static const Conv odd[] = {
      {12, 16, 1, 7, 3, 1, 1, 1}, {12, 24, 1, 6, 5, 2, 1, 2}, {9, 7, 1, 6, 3, 1, 2, 2}, {24, 40, 1, 6, 3, 1, 1, 1},
      {16, 8, 2, 6, 3, 1, 1, 1},  {7, 19, 1, 6, 1, 2, 1, 0},  {4, 4, 1, 9, 7, 1, 1, 3}, {6, 9, 3, 6, 3, 1, 1, 0},
  };
  static const Transposed transposed[] = {
      {8, 20, 1, 5, 3, 2, 1, 1}, {12, 6, 3, 5, 3, 1, 1, 1}, {7, 33, 1, 4, 4, 2, 1, 1}};
  uint64_t seed = 1;
  for (const Narrow *w = narrows; w < narrows + N_NARROW; w++) {
    for (uint32_t i = 0; i < sizeof odd / sizeof *odd; i++, seed++) {
      for (uint32_t axes = 1; axes <= (full_grid() ? 3 : 2); axes++) {
        const ByteRun *r = how_narrow(w, (seed + axes) % 4 == 0, seed % 3 == 0);
        check_conv(&odd[i], axes, seed & 1 ? DT_U8 : DT_I8, (Result)(seed % 3), r, seed);
      }
    }
    for (uint32_t i = 0; i < sizeof transposed / sizeof *transposed; i++, seed++) {
      const ByteRun *r = how_narrow(w, seed % 4 == 0, seed % 3 == 0);
      check_transposed(&transposed[i], seed & 1 ? DT_U8 : DT_I8, seed & 2 ? SUMS : BYTES, r, seed);
    }
  }
}

// A product of one row of k bytes by weights [k][9].
static bool bits_found(const ByteGrid *grid, int64_t k, PackBits *b) {
  Case c = case_new(1, DT_U8, 2, (int64_t[]){1, k});
  Value *in[2] = {c.f->args[0], byte_weights(&c, DT_I8, 2, (int64_t[]){k, 9}, grid)};
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, in, NULL);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  bool found = dot8_bits(c.op, b);
  arena_free(c.arena);
  return found;
}

// As few bits as the values differ in; sums of shifted bytes stay in 32 bits whatever x is.
Test(dot8, bits_found) {
  PackBits b;
  for (const Narrow *w = narrows; w < narrows + N_NARROW; w++) {
    cr_assert(bits_found(&w->grid, 600, &b));
    cr_expect(pack_bits_width(&b) == w->bits, "row %d: %u bits", (int)(w - narrows), pack_bits_width(&b));
  }
  cr_expect(!bits_found(NULL, 600, &b));
  for (int64_t k = 30000; k <= 70000; k += 20000)
    cr_expect(bits_found(&narrows[9].grid, k, &b) == (k < INT32_MAX / (128 * 255)), "%lld terms", (long long)k);
}
