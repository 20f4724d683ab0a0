// Weights with zeros against the graph interpreter: densities from nothing to all, tails of positions and channels,
// strides, padding, dilation, groups, post functions; on this machine and by the kernel interpreter.
#include "passes/price.h"
#include "tests/unit/contract_case.h"

typedef struct Shape {
  int64_t n, c, o, group, nd, size[3], kernel[3], stride[3], dilation[3], pad[3];
  uint32_t zeros;
  bool bias;
  PostKind post;
} Shape;

// By rows: blocks, or windows of floats or of codes that hold the values or do not.
static void rows_plan(Case *c, Plan *plan) {
  static const char *const names[] = {"g", "mr", "sort", "bits"};
  if (rnd(c, 3) == 0) {
    plan->param[0].name = intern(c->m->names, "blocks");
    plan->param[1].name = intern(c->m->names, "mr");
    plan->param[0].value = 1;
    plan->param[1].value = 1 + rnd(c, 3);
    return;
  }
  plan->n = 4;
  for (uint32_t i = 0; i < 4; i++) plan->param[i].name = intern(c->m->names, names[i]);
  plan->param[0].value = 1 + rnd(c, 4);
  plan->param[1].value = 1 + rnd(c, 3);
  plan->param[2].value = rnd(c, 2);
  plan->param[3].value = rnd(c, 4) ? 4 + rnd(c, 5) : 0;
}

static void set_plan(Case *c, const Target *t) {
  static const char *const names[] = {"v", "channels"};
  Plan plan = plan_choose(c->op, t);
  if (strcmp(plan.strategy, "sparse") == 0 && rnd(c, 2) == 0) return;
  plan = (Plan){.strategy = intern(c->m->names, "sparse"), .n = 2};
  for (uint32_t i = 0; i < 2; i++) plan.param[i].name = intern(c->m->names, names[i]);
  plan.param[0].value = 1 + rnd(c, 9);
  plan.param[1].value = 1 + rnd(c, 40);
  const Type *x = op_in(c->op, 0)->type;
  bool few = c->op->kind == OP_MATMUL && x->dims[0] <= 9;
  if (few && (dtype_is_float(x->dtype) || rnd(c, 2))) rows_plan(c, &plan);
  op_set_plan(c->op, &plan);
}

static void run_case(Case *c, const Target *t, const char *what) {
  bool native = t != &wide && t != &narrow;
  set_plan(c, t);
  case_check(c, t, native ? PIPE_JIT : PIPE_KEVAL, native ? run_jit : run_keval, what);
}

static void add_post(Case *c, PostKind kind) {
  const Type *y = op_out(c->op, 0)->type;
  Value *operand = NULL;
  if (kind == POST_RESIDUAL) operand = const_generated(c->m, y, CONST_RAND, 0, 5, "r");
  if (kind == POST_CHANNEL) {
    int64_t dims[5] = {1, 1, 1, 1, 1};
    uint32_t at = c->op->kind == OP_CONV ? 1 : y->rank - 1;
    dims[at] = y->dims[at];
    operand = const_generated(c->m, type_tensor(c->m->types, y->dtype, y->rank, dims), CONST_RAND, 0, 6, "r");
  }
  case_post(c, kind, operand);
}

// ---- matrices

// Few values: 15 and 31 fit codes of 4 and 5 bits, one more does not. Values come often or seldom.
static Value *shared_weights(Case *c, const Type *t, uint32_t zeros, uint32_t values) {
  float *w = arena_alloc(c->arena, (size_t)type_bytes(t) + 1);
  for (int64_t i = 0; i < type_count(t); i++) {
    uint32_t v = rnd(c, values);
    if (rnd(c, 3)) v = v * rnd(c, values) / values;
    w[i] = rnd(c, 100) < zeros ? 0 : ((float)v - (float)values / 3 + 0.1f) / 64;
  }
  return const_bytes(c->m, t, w, "w");
}

static void check_matmul(const Target *t, int64_t m, int64_t k, int64_t n, uint32_t zeros, uint64_t seed) {
  Case c = case_new(seed, DT_F32, 2, (int64_t[]){m, k});
  bool trans = rnd(&c, 2) == 1, bias = rnd(&c, 2) == 1;
  char *what = arena_printf(c.arena, "m=%lld k=%lld n=%lld zeros=%u %s", (long long)m, (long long)k, (long long)n,
                            zeros, t->name);
  const Type *w = type_tensor(c.m->types, DT_F32, 2, (int64_t[]){trans ? n : k, trans ? k : n});
  static const uint32_t values[] = {15, 16, 31, 32, 60, 63, 100, 250};
  Value *in[3] = {c.f->args[0], NULL, NULL};
  in[1] = rnd(&c, 4) ? shared_weights(&c, w, zeros, values[rnd(&c, 8)]) : const_with_zeros(c.m, w, seed, zeros, "w");
  if (bias) in[2] = const_generated(c.m, type_tensor(c.m->types, DT_F32, 1, &n), CONST_RAND, 0, 3, "bias");
  c.op = op_new(c.f, NULL, OP_MATMUL, bias ? 3 : 2, in, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  cr_assert(infer_op(c.op), "%s: %s", what, diag_text(c.m->diag));
  add_post(&c, (PostKind)rnd(&c, 5));
  run_case(&c, t, what);
}

static void check_matmuls(const Target *t, int64_t step) {
  static const uint32_t zeros[] = {90, 0, 50, 100, 75, 99, 30};
  uint64_t seed = 1;
  for (int64_t m = 1; m <= 130; m += m < 5 ? 1 : step)
    for (int64_t n = 1; n <= 70; n += n < 3 ? 1 : 15, seed++)
      check_matmul(t, m, 1 + (int64_t)(seed * 7 % 90), n, zeros[seed % 7], seed);
}

Test(sparse, matmul) { check_matmuls(&wide, 17); }
Test(sparse, matmul_narrow) { check_matmuls(&narrow, 23); }
Test(sparse, matmul_native) { check_matmuls(target_native(), 13); }

// By rows: every density with every number of rows, of columns past the window and of filters around vectors.
static void check_rows(const Target *t) {
  uint64_t seed = 1000;
  for (int64_t m = 1; m <= 9; m += m < 5 ? 1 : 4)
    for (int64_t n = 1; n <= 150; n += n < 3 ? 1 : 21, seed++)
      check_matmul(t, m, 32 + (int64_t)(seed * 31 % 170), n, (uint32_t)(seed * 13 % 101), seed);
}

Test(sparse, rows) { check_rows(&wide); }
Test(sparse, rows_narrow) { check_rows(&narrow); }
Test(sparse, rows_native) { check_rows(target_native()); }

// ---- bytes

static void check_bytes(const Target *t, int64_t m, int64_t k, int64_t n, uint32_t zeros, uint64_t seed) {
  DType type = seed % 2 ? DT_I8 : DT_U8;
  bool conv = seed % 3 == 0;
  Case c = conv ? case_new(seed, type, 4, (int64_t[]){1, 1, m, k}) : case_new(seed, type, 2, (int64_t[]){m, k});
  bool trans = !conv && rnd(&c, 2) == 1, bias = rnd(&c, 2) == 1;
  char *what = arena_printf(c.arena, "bytes m=%lld k=%lld n=%lld zeros=%u %s", (long long)m, (long long)k, (long long)n,
                            zeros, t->name);
  const Type *w = conv ? type_tensor(c.m->types, DT_I8, 4, (int64_t[]){1, 1, k, n})
                       : type_tensor(c.m->types, DT_I8, 2, (int64_t[]){trans ? n : k, trans ? k : n});
  Value *in[3] = {c.f->args[0], const_with_zeros(c.m, w, seed, zeros, "w"), NULL};
  if (bias) in[2] = const_generated(c.m, type_tensor(c.m->types, DT_I32, 1, &n), CONST_RAND, 0, 3, "bias");
  c.op = op_new(c.f, NULL, conv ? OP_CONV : OP_MATMUL, bias ? 3 : 2, in, NULL);
  if (conv) op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  if (!conv) op_set_int(c.op, A_MATMUL_trans_b, trans);
  op_set_int(c.op, conv ? (int)A_CONV_x_zero : (int)A_MATMUL_x_zero, (int64_t)rnd(&c, 5));
  cr_assert(infer_op(c.op), "%s: %s", what, diag_text(c.m->diag));
  add_post(&c, rnd(&c, 2) ? POST_RELU : POST_NONE);
  run_case(&c, t, what);
}

static void check_all_bytes(const Target *t, int64_t step) {
  static const uint32_t zeros[] = {90, 0, 50, 100, 75, 99, 97};
  uint64_t seed = 1;
  for (int64_t m = 1; m <= 90; m += m < 5 ? 1 : step)
    for (int64_t n = 1; n <= 70; n += n < 3 ? 1 : 23, seed++)
      check_bytes(t, m, 4 + 4 * (int64_t)(seed * 7 % 20), n, zeros[seed % 7], seed);
  for (int64_t n = 1; n <= 150; n += n < 3 ? 1 : 21, seed++)  // windows of fours
    check_bytes(t, 1 + (int64_t)(seed % 5), 128 + 4 * (int64_t)(seed * 7 % 60), n, zeros[seed % 7], seed);
}

Test(sparse, bytes) { check_all_bytes(&wide, 17); }
Test(sparse, bytes_narrow) { check_all_bytes(&narrow, 29); }
Test(sparse, bytes_native) { check_all_bytes(target_native(), 19); }

// ---- convolutions

static void check_conv(const Target *t, const Shape *s, bool last, uint64_t seed) {
  int64_t x[5] = {s->n, s->c}, w[5] = {s->o, s->c / s->group}, pads[6];
  uint32_t rank = (uint32_t)s->nd + 2;
  for (int64_t i = 0; i < s->nd; i++) {
    x[2 + i] = s->size[i];
    w[2 + i] = s->kernel[i];
    pads[i] = pads[s->nd + i] = s->pad[i];
  }
  if (last) {
    for (int64_t i = 0; i < s->nd; i++) x[1 + i] = s->size[i], w[i] = 1;
    x[rank - 1] = s->c;
    w[rank - 2] = s->c / s->group;
    w[rank - 1] = s->o;
  }
  Case c = case_new(seed, DT_F32, rank, x);
  char *what = arena_printf(
      c.arena, "n=%lld c=%lld o=%lld group=%lld %lldx%lld kernel %lldx%lld stride %lld zeros=%u last=%d %s",
      (long long)s->n, (long long)s->c, (long long)s->o, (long long)s->group, (long long)s->size[0],
      (long long)s->size[1], (long long)s->kernel[0], (long long)s->kernel[1], (long long)s->stride[0], s->zeros, last,
      t->name);
  Value *in[3] = {c.f->args[0], const_with_zeros(c.m, type_tensor(c.m->types, DT_F32, rank, w), seed, s->zeros, "w"),
                  NULL};
  if (s->bias) in[2] = const_generated(c.m, type_tensor(c.m->types, DT_F32, 1, &s->o), CONST_RAND, 0, 3, "bias");
  c.op = op_new(c.f, NULL, OP_CONV, s->bias ? 3 : 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, last ? LAYOUT_NHWC : LAYOUT_NCHW);
  op_set_int(c.op, A_CONV_group, s->group);
  if (!last) {
    op_set_ints(c.op, A_CONV_strides, (uint32_t)s->nd, s->stride);
    op_set_ints(c.op, A_CONV_dilations, (uint32_t)s->nd, s->dilation);
    op_set_ints(c.op, A_CONV_pads, (uint32_t)s->nd * 2, pads);
  }
  cr_assert(infer_op(c.op), "%s: %s", what, diag_text(c.m->diag));
  if (!last || s->post != POST_CHANNEL) add_post(&c, s->post);
  run_case(&c, t, what);
}

static int64_t pick(uint64_t *state, int64_t lo, int64_t hi) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return lo + (int64_t)((*state >> 33) % (uint64_t)(hi - lo + 1));
}

static Shape random_shape(uint64_t seed) {
  static const uint32_t zeros[] = {90, 0, 50, 100, 75, 99, 30};
  uint64_t r = seed * 1234567 + 99;
  Shape s = {.n = pick(&r, 1, 2), .group = pick(&r, 0, 3) ? 1 : pick(&r, 1, 3), .nd = pick(&r, 0, 9) ? 2 : 3};
  if (seed % 11 == 0) s.nd = 1;
  s.c = s.group * pick(&r, 1, 24);
  s.o = s.group * pick(&r, 1, 24);
  bool pointwise = seed % 3 == 0;
  for (int64_t i = 0; i < s.nd; i++) {
    s.kernel[i] = pointwise ? 1 : pick(&r, 1, 4);
    s.stride[i] = seed % 6 == 0 || pick(&r, 0, 2) ? 1 : pick(&r, 1, 3);
    s.dilation[i] = pick(&r, 0, 3) ? 1 : 2;
    s.pad[i] = pointwise ? 0 : pick(&r, 0, (s.kernel[i] - 1) * s.dilation[i] + 1);
    s.size[i] = (s.kernel[i] - 1) * s.dilation[i] + pick(&r, 1, s.nd == 3 ? 5 : 18);
  }
  if (pointwise && seed % 2 == 0) s.size[s.nd - 1] = 16;
  s.zeros = zeros[seed % 7];
  s.bias = pick(&r, 0, 1) == 1;
  s.post = (PostKind)pick(&r, 0, 4);
  return s;
}

static void check_convs(const Target *t, uint64_t from, uint64_t count) {
  for (uint64_t seed = from; seed < from + count; seed++) {
    Shape s = random_shape(seed);
    check_conv(t, &s, false, seed);
    bool plain = s.n > 0;
    for (int64_t i = 0; i < s.nd; i++) plain = plain && s.kernel[i] == 1 && s.stride[i] == 1;
    if (plain && seed % 2 == 0) check_conv(t, &s, true, seed);
  }
}

// Bytes under kernels, channels last.
static void check_byte_conv(const Target *t, uint64_t seed) {
  Shape s = random_shape(seed);
  int64_t x[5] = {s.n}, w[5], pads[6], rank = s.nd + 2;
  s.c = 4 * (1 + (int64_t)(seed * 7 % 11));
  for (int64_t i = 0; i < s.nd; i++) {
    x[1 + i] = s.size[i];
    w[i] = s.kernel[i];
    pads[i] = pads[s.nd + i] = s.pad[i];
  }
  x[rank - 1] = w[rank - 2] = s.c;
  w[rank - 1] = s.o;
  Case c = case_new(seed, seed % 2 ? DT_I8 : DT_U8, (uint32_t)rank, x);
  char *what = arena_printf(c.arena, "bytes n=%lld c=%lld o=%lld %lldx%lld kernel %lldx%lld stride %lld zeros=%u %s",
                            (long long)s.n, (long long)s.c, (long long)s.o, (long long)s.size[0], (long long)s.size[1],
                            (long long)s.kernel[0], (long long)s.kernel[1], (long long)s.stride[0], s.zeros, t->name);
  const Type *type = type_tensor(c.m->types, DT_I8, (uint32_t)rank, w);
  Value *in[3] = {c.f->args[0], const_with_zeros(c.m, type, seed, s.zeros, "w"), NULL};
  if (s.bias) in[2] = const_generated(c.m, type_tensor(c.m->types, DT_I32, 1, &s.o), CONST_RAND, 0, 3, "bias");
  c.op = op_new(c.f, NULL, OP_CONV, s.bias ? 3 : 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_ints(c.op, A_CONV_strides, (uint32_t)s.nd, s.stride);
  op_set_ints(c.op, A_CONV_dilations, (uint32_t)s.nd, s.dilation);
  op_set_ints(c.op, A_CONV_pads, (uint32_t)s.nd * 2, pads);
  op_set_int(c.op, A_CONV_x_zero, (int64_t)rnd(&c, 9) - (seed % 2 ? 4 : 0));
  cr_assert(infer_op(c.op), "%s: %s", what, diag_text(c.m->diag));
  add_post(&c, rnd(&c, 2) ? POST_RELU : POST_NONE);
  run_case(&c, t, what);
}

Test(sparse, byte_conv) {
  for (uint64_t seed = 1; seed <= 60; seed++) check_byte_conv(&wide, seed);
}
Test(sparse, byte_conv_narrow) {
  for (uint64_t seed = 100; seed < 140; seed++) check_byte_conv(&narrow, seed);
}
Test(sparse, byte_conv_native) {
  for (uint64_t seed = 200; seed < 320; seed++) check_byte_conv(target_native(), seed);
}

Test(sparse, conv) { check_convs(&wide, 1, 60); }
Test(sparse, conv_narrow) { check_convs(&narrow, 100, 40); }
Test(sparse, conv_native) { check_convs(target_native(), 200, 120); }
