// Straight-line code per non-zero against the graph interpreter: shapes, zeros, weights of one and of few values,
// posts; the assembly against the loops it stands for, bit for bit; what the assembly consists of.
#include <time.h>

#include "passes/price.h"
#include "tests/unit/contract_case.h"

typedef struct Shape {
  bool conv;
  int64_t n, c, o, size[2], kernel[2], dilation, stride;  // matmul: n rows
  int64_t zeros;                                          // percent
  int values;                                             // 0: any; 1: -1 and 1; 2: three magnitudes
  PostKind post;
  bool first;  // channels first
  DType x;     // DT_NONE: floats; else of bytes
  int64_t x_zero;
} Shape;

// Bytes for x of bytes: fours of them are all zero more often than single weights by chance would be.
static Value *byte_weights(Case *c, const Shape *s, uint32_t rank, const int64_t *dims) {
  const Type *type = type_tensor(c->m->types, DT_I8, rank, dims);
  int8_t *w = arena_alloc(c->arena, (size_t)type_count(type) + 1);
  for (int64_t i = 0; i < type_count(type); i++) {
    bool zero = rnd(c, 100) < s->zeros;
    w[i] = (int8_t)(zero ? 0 : s->values == 1 ? (int)rnd(c, 2) * 2 - 1 : (int)rnd(c, 255) - 127);
  }
  return const_bytes(c->m, type, w, "w");
}

static Value *weights(Case *c, const Shape *s, uint32_t rank, const int64_t *dims) {
  if (s->x != DT_NONE) return byte_weights(c, s, rank, dims);
  const Type *type = type_tensor(c->m->types, DT_F32, rank, dims);
  float *w = arena_alloc(c->arena, (size_t)type_bytes(type) + 4);
  for (int64_t i = 0; i < type_count(type); i++) {
    bool zero = rnd(c, 100) < s->zeros;
    float sign = rnd(c, 2) == 0 ? -1.0f : 1.0f;
    float v = s->values == 1 ? 1 : s->values == 2 ? 0.25f * (float)(1 + rnd(c, 3)) : (float)(1 + rnd(c, 1999)) / 1000;
    w[i] = zero ? sign * 0.0f : sign * v;
  }
  return const_bytes(c->m, type, w, "w");
}

static Op *conv_op(Case *c, const Shape *s) {
  int64_t last[4] = {s->kernel[0], s->kernel[1], s->c, s->o}, pads[4];
  int64_t dims[4] = {s->o, s->c, s->kernel[0], s->kernel[1]};
  for (int i = 0; i < 2; i++) pads[i] = pads[i + 2] = (s->kernel[i] - 1) * s->dilation / 2;
  Value *in[3] = {c->f->args[0], weights(c, s, 4, s->first ? dims : last), NULL};
  in[2] = case_weight(c, s->x == DT_NONE ? DT_F32 : DT_I32, 1, &s->o, true);
  Op *op = op_new(c->f, NULL, OP_CONV, 3, in, NULL);
  op_set_int(op, A_CONV_layout, s->first ? LAYOUT_NCHW : LAYOUT_NHWC);
  op_set_ints(op, A_CONV_pads, 4, pads);
  op_set_ints(op, A_CONV_dilations, 2, (int64_t[]){s->dilation, s->dilation});
  op_set_ints(op, A_CONV_strides, 2, (int64_t[]){s->stride, 1});
  op_set_int(op, A_CONV_x_zero, s->x_zero);
  return op;
}

static Case build(const Shape *s, const Target *t, int64_t lanes, int64_t chunk, uint64_t seed) {
  int64_t x[4] = {s->n, s->size[0], s->size[1], s->c}, rows[2] = {s->n, s->c};
  if (s->first) {
    x[1] = s->c;
    x[2] = s->size[0];
    x[3] = s->size[1];
  }
  bool bytes = s->x != DT_NONE;
  Case c = case_new(seed, bytes ? s->x : DT_F32, s->conv ? 4 : 2, s->conv ? x : rows);
  if (s->conv) {
    c.op = conv_op(&c, s);
  } else {
    bool trans = rnd(&c, 2) == 1;
    int64_t dims[2] = {trans ? s->o : s->c, trans ? s->c : s->o};
    c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], weights(&c, s, 2, dims)}, NULL);
    op_set_int(c.op, A_MATMUL_trans_b, trans);
    op_set_int(c.op, A_MATMUL_x_zero, s->x_zero);
  }
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  int64_t channels[3] = {s->o, 1, 1};
  case_post(
      &c, s->post,
      s->post == POST_CHANNEL ? case_weight(&c, bytes ? DT_I32 : DT_F32, s->first ? 3 : 1, channels, true) : NULL);
  Plan plan = {.strategy = intern(c.m->names, "code"), .n = 2};
  plan.param[0].name = intern(c.m->names, "chunk");
  plan.param[0].value = chunk;
  plan.param[1].name = intern(c.m->names, "lanes");
  plan.param[1].value = lanes;
  op_set_plan(c.op, &plan);
  (void)t;
  return c;
}

static const Shape shapes[] = {
    {.n = 1, .c = 3, .o = 2, .zeros = 50},
    {.n = 16, .c = 16, .o = 28, .zeros = 90},
    {.n = 33, .c = 40, .o = 57, .zeros = 70, .post = POST_RELU},
    {.n = 100, .c = 17, .o = 31, .zeros = 95, .values = 1},
    {.n = 50, .c = 300, .o = 5, .zeros = 20, .values = 2, .post = POST_SIGMOID},
    {.n = 20, .c = 24, .o = 30, .zeros = 100},
    {.n = 7, .c = 1, .o = 1, .zeros = 0},
    {true, 1, 20, 33, {5, 7}, {1, 1}, 1, 1, 80, 0, POST_RELU, false, DT_NONE, 0},
    {true, 2, 16, 16, {6, 14}, {3, 3}, 1, 1, 90, 0, POST_RELU, false, DT_NONE, 0},
    {true, 1, 5, 40, {9, 31}, {3, 3}, 1, 1, 70, 1, POST_NONE, false, DT_NONE, 0},
    {true, 1, 18, 20, {7, 20}, {5, 1}, 1, 1, 60, 2, POST_SIGMOID, false, DT_NONE, 0},
    {true, 1, 8, 3, {11, 13}, {3, 3}, 2, 2, 85, 0, POST_NONE, false, DT_NONE, 0},
    {true, 3, 7, 30, {4, 9}, {1, 4}, 1, 1, 50, 0, POST_CHANNEL, false, DT_NONE, 0},
    {true, 1, 20, 33, {5, 7}, {1, 1}, 1, 1, 80, 0, POST_RELU, true, DT_NONE, 0},
    {true, 2, 9, 16, {8, 4}, {1, 1}, 1, 1, 80, 2, POST_CHANNEL, true, DT_NONE, 0},
    {true, 2, 16, 16, {6, 14}, {3, 3}, 1, 1, 90, 0, POST_SIGMOID, true, DT_NONE, 0},
    {true, 1, 5, 40, {9, 31}, {3, 3}, 1, 1, 70, 1, POST_NONE, true, DT_NONE, 0},
    {true, 1, 6, 3, {5, 29}, {5, 5}, 1, 1, 70, 0, POST_NONE, true, DT_NONE, 0},
    {true, 2, 8, 3, {11, 45}, {3, 3}, 2, 2, 85, 0, POST_CHANNEL, true, DT_NONE, 0},
    {true, 1, 4, 30, {1, 3}, {1, 3}, 1, 1, 30, 0, POST_NONE, true, DT_NONE, 0},
    {.n = 33, .c = 64, .o = 57, .zeros = 70, .x = DT_U8},
    {.n = 5, .c = 8, .o = 3, .zeros = 40, .x = DT_I8, .x_zero = -3, .post = POST_RELU},
    {.n = 100, .c = 128, .o = 60, .zeros = 95, .values = 1, .x = DT_U8, .x_zero = 4, .post = POST_CHANNEL},
    {.n = 20, .c = 24, .o = 30, .zeros = 100, .x = DT_I8},
    {true, 2, 16, 33, {6, 14}, {3, 3}, 1, 1, 90, 0, POST_RELU, false, DT_U8, 5},
    {true, 1, 8, 40, {9, 31}, {3, 3}, 1, 1, 70, 1, POST_CHANNEL, false, DT_I8, -7},
    {true, 1, 20, 17, {7, 20}, {5, 1}, 1, 1, 60, 0, POST_NONE, false, DT_I8, 0},
    {true, 1, 8, 4, {11, 13}, {3, 3}, 2, 2, 85, 0, POST_NONE, false, DT_U8, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const char *shape_name(Case *c, uint32_t i, int64_t chunk, const char *where) {
  return arena_printf(c->arena, "shape %u, chunk %lld, %s", i, (long long)chunk, where);
}

Test(code, interpreted) {
  for (uint32_t i = 0; i < SHAPES; i++)
    for (int64_t chunk = 1; chunk <= 3; chunk++) {
      const Target *t = i % 2 == 0 ? &wide : &narrow;
      Case c = build(&shapes[i], t, 16, chunk, i * 10 + (uint64_t)chunk);
      case_check(&c, t, PIPE_KEVAL, run_keval, shape_name(&c, i, chunk, t->name));
    }
}

static const Target *row(const char *name) {
  const Target *t = target_by_name(name);
  cr_assert(t != NULL && target_runs_here(t), "%s", name);
  return t;
}

Test(code, compiled) {
  for (uint32_t i = 0; i < SHAPES; i++) {
    int64_t chunk = 1 + i % 4;
    const Target *native = target_native(), *ymm = row("x86-64-v3");
    Case c = build(&shapes[i], native, target_lanes(native, 32), chunk, i);
    case_check(&c, native, PIPE_JIT, run_jit, shape_name(&c, i, chunk, "native"));
    c = build(&shapes[i], ymm, 8, chunk, i + 100);
    case_check(&c, ymm, PIPE_JIT, run_jit, shape_name(&c, i, chunk, "x86-64-v3"));
  }
}

// ---- assembly against the loops

static void lower(Case *c, const Target *t, const char *pipeline, bool strict) {
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  PassOptions opt = pass_options_default();
  opt.strict_fp = strict;
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c->m, t, pipeline, &opt, &runner, c->arena, NULL), "%s", diag_text(c->m->diag));
}

// A kernel whose arguments may overlap keeps its order of loads and stores, which straight code does not.
static void *run_way(const Shape *s, const Target *t, uint64_t seed, bool loops, bool strict, size_t *n) {
  Case c = build(s, t, target_lanes(t, 32), 2, seed);
  lower(&c, t, PIPE_JIT ",ksimplify", strict);
  for (uint32_t i = 0; loops && i < c.m->program->kernels.n; i++) c.m->program->kernels.at[i]->noalias = false;
  Tensor x = random_tensor(&c, c.f->args[0]->type);
  size_t bytes = *n = (size_t)type_bytes(op_out(c.op, 0)->type);
  void *out = malloc(bytes + 64);
  const void *in[1] = {x.data};
  memset(out, 0x5a, bytes);
  cr_assert(run_jit(&c, t, in, &out), "%s", diag_text(c.m->diag));
  arena_free(c.arena);
  return out;
}

Test(code, same_bits_as_its_loops) {
  for (uint32_t i = 0; i < SHAPES; i++)
    for (int strict = 0; strict < 2; strict++) {
      const Target *t = i % 2 == 0 ? target_native() : row("x86-64-v3");
      const Shape *s = &shapes[i];
      size_t n;
      void *a = run_way(s, t, i, false, strict != 0, &n), *b = run_way(s, t, i, true, strict != 0, &n);
      cr_assert(memcmp(a, b, n) == 0, "shape %u: other bits", i);
      free(a);
      free(b);
    }
}

// ---- what the assembly consists of

typedef struct Count {
  int64_t products, loads, jumps, others, stores;
} Count;

// Lines of the function of the first kernel named code, by what they do.
static Count count_code(Case *c, const Target *t) {
  ObjectBytes text;
  EmitOptions opt = {.name = "net", .info_json = "{}", .pic = true};
  c->m->name = "net";
  cr_assert(backend_emit(c->m, t, &opt, EMIT_ASM, true, &text), "%s", diag_text(c->m->diag));
  char *all = arena_printf(c->arena, "%.*s", (int)text.n, (const char *)text.at), *at = strstr(all, "endbr64");
  char *head = strstr(all, "net_k_code");
  cr_assert(head != NULL && at != NULL && head < at);
  Count n = {0};
  for (char *line = strtok(at, "\n"); line != NULL && strstr(line, "vzeroupper") == NULL; line = strtok(NULL, "\n")) {
    if (strstr(line, "231ps") || strstr(line, "vpdpbusd") || strstr(line, "vaddps") || strstr(line, "vsubps")) {
      n.products++;
    } else if (strstr(line, "vmovups") && strstr(line, "(%r8),")) {
      n.loads++;
    } else if (strstr(line, "vmovups") && strstr(line, "(%r9)")) {
      n.stores++;
    } else if (strstr(line, "\tj")) {
      n.jumps++;
    } else if (strstr(line, "(%r")) {
      n.others += strstr(line, "lea") == NULL && strstr(line, "vbroadcastss") == NULL;
    }
  }
  free(text.at);
  return n;
}

// The example of S48: A dense 8 x 12, B sparse 12 x 8 with ten products (places counted from 0).
Test(code, ten_products) {
  static const int at[10][2] = {{1, 7}, {2, 3}, {3, 6}, {5, 2}, {5, 5}, {7, 4}, {7, 5}, {10, 3}, {10, 5}, {11, 4}};
  static const char *const names[] = {"x86-64-v3", "zen4"};
  for (uint32_t r = 0; r < 2; r++) {
    const Target *t = target_by_name(names[r]);
    Case c = case_new(1, DT_F32, 2, (int64_t[]){8, 12});
    const Type *type = type_tensor(c.m->types, DT_F32, 2, (int64_t[]){12, 8});
    float *b = arena_alloc(c.arena, 12 * 8 * 4);
    for (int i = 0; i < 10; i++) b[at[i][0] * 8 + at[i][1]] = 0.3f + (float)i;
    c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], const_bytes(c.m, type, b, "b")}, NULL);
    cr_assert(infer_op(c.op));
    Plan plan = {.strategy = intern(c.m->names, "code")};
    op_set_plan(c.op, &plan);
    lower(&c, t, PIPE_JIT, false);
    Count n = count_code(&c, t);
    cr_expect(n.products == 10 && n.loads == 7 && n.jumps == 0 && n.others == 0,
              "%lld products, %lld loads, %lld jumps", (long long)n.products, (long long)n.loads, (long long)n.jumps);
    cr_expect(n.stores == 8, "%lld stores", (long long)n.stores);
    arena_free(c.arena);
  }
}

static int64_t nonzero_floats(Case *c) {
  const float *w = const_data(c->m, op_in(c->op, 1)->constant);
  int64_t n = 0;
  for (int64_t k = 0; k < type_count(op_in(c->op, 1)->type); k++) n += w[k] != 0;
  return n;
}

// Fours along the channels, which are the last but one axis of the weights, the last one when transposed.
static int64_t nonzero_fours(Case *c, const Shape *s) {
  const int8_t *w = const_data(c->m, op_in(c->op, 1)->constant);
  bool trans = !s->conv && op_int(c->op, A_MATMUL_trans_b) != 0;
  int64_t n = 0, count = type_count(op_in(c->op, 1)->type), step = trans ? 1 : s->o;
  for (int64_t k = 0; k < count; k++) {
    int64_t channel = trans ? k % s->c : k / s->o % s->c;
    if (channel % 4 == 0) n += w[k] != 0 || w[k + step] != 0 || w[k + 2 * step] != 0 || w[k + 3 * step] != 0;
  }
  return n;
}

Test(code, a_product_per_nonzero) {
  for (uint32_t i = 0; i < SHAPES; i++) {
    const Shape *s = &shapes[i];
    const Target *t = target_by_name(i % 2 == 0 || s->x != DT_NONE ? "zen4" : "x86-64-v3");
    Case c = build(s, t, target_lanes(t, 32), 1, i);
    int64_t nonzeros = s->x == DT_NONE ? nonzero_floats(&c) : nonzero_fours(&c, s);
    lower(&c, t, PIPE_JIT, false);
    Count n = count_code(&c, t);
    cr_expect(n.products == nonzeros && n.stores == s->o && n.others == 0, "shape %u: %lld products of %lld", i,
              (long long)n.products, (long long)nonzeros);
    arena_free(c.arena);
  }
}

// ---- the budget

Test(code, too_much_is_refused) {
  Target t = *target_by_name("zen4");
  Case c = build(&shapes[2], &t, 16, 1, 1);
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    if (strcmp(s->name, "code") != 0) continue;
    cr_expect(s->applies(c.op, &t));
    t.code_bytes = 1024;
    cr_expect(!s->applies(c.op, &t));
    t = *target_by_name("armv8-a");
    cr_expect(!s->applies(c.op, &t));
  }
  arena_free(c.arena);
}

// ---- what compiling costs

// Processor seconds of compiling a matrix of n rows and columns with 39 % zeros.
static double compile_seconds(int64_t n) {
  const Target *t = target_by_name("zen4");
  Case c = case_new(1, DT_F32, 2, (int64_t[]){64, n});
  const Type *type = type_tensor(c.m->types, DT_F32, 2, (int64_t[]){n, n});
  Value *w = const_generated(c.m, type, CONST_RAND, 39, 1, "w");
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
  cr_assert(infer_op(c.op));
  Plan plan = {.strategy = intern(c.m->names, "code")};
  op_set_plan(c.op, &plan);
  clock_t start = clock();
  lower(&c, t, PIPE_JIT, false);
  ObjectBytes object;
  EmitOptions opt = {.name = "net", .info_json = "{}", .pic = true};
  c.m->name = "net";
  cr_assert(backend_emit(c.m, t, &opt, EMIT_OBJECT, true, &object), "%s", diag_text(c.m->diag));
  free(object.at);
  arena_free(c.arena);
  return (double)(clock() - start) / CLOCKS_PER_SEC;
}

// 640,000 non-zeros in less than a minute, and about in proportion to a quarter of them. Processor seconds still vary
// with what else the machine runs, so that one of three rounds has to hold; a compiler with a larger exponent fails
// all.
Test(code, compile_time) {
  double whole = 0, exponent = 9;
  for (int round = 0; round < 3 && (whole > 60 || exponent > 1.2); round++) {
    double quarter = compile_seconds(512);
    whole = compile_seconds(1024);
    exponent = log(whole / quarter) / log(4);
  }
  cr_expect(whole < 60, "%.1f s", whole);
  cr_expect(exponent <= 1.2, "%.2f s for 640,000 non-zeros: exponent %.2f", whole, exponent);
}
