// Convolutions of many shapes through plan and lower, run by the kernel interpreter, against the graph interpreter.
#include "tests/unit/contract_case.h"

typedef struct Shape {
  uint32_t nd;
  int64_t n, c, o, group, in[3], kernel[3], stride[3], dilation[3], pad[6], extra[3];
  DType type;
  bool transposed, bias, constant;
  PostKind post;
} Shape;

static const char *shape_text(Case *c, const Shape *s, const char *target) {
  char *t = arena_printf(c->arena, "%s %s n=%lld c=%lld o=%lld g=%lld post=%d bias=%d const=%d %s",
                         s->transposed ? "conv_transpose" : "conv", dtype_info(s->type)->name, (long long)s->n,
                         (long long)s->c, (long long)s->o, (long long)s->group, s->post, s->bias, s->constant, target);
  for (uint32_t i = 0; i < s->nd; i++) {
    t = arena_printf(c->arena, "%s | in=%lld k=%lld s=%lld d=%lld p=%lld,%lld", t, (long long)s->in[i],
                     (long long)s->kernel[i], (long long)s->stride[i], (long long)s->dilation[i], (long long)s->pad[i],
                     (long long)s->pad[s->nd + i]);
  }
  return t;
}

static Case build(const Shape *s, uint64_t seed) {
  int64_t xd[5] = {s->n}, wd[5];
  for (uint32_t i = 0; i < s->nd; i++) {
    xd[1 + i] = s->in[i];
    wd[i] = s->kernel[i];
  }
  xd[s->nd + 1] = s->c;
  wd[s->nd] = s->transposed ? s->c : s->c / s->group;
  wd[s->nd + 1] = s->transposed ? s->o / s->group : s->o;
  Case c = case_new(seed, s->type, s->nd + 2, xd);
  Value *in[3] = {NULL, case_weight(&c, s->type, s->nd + 2, wd, s->constant), NULL};
  if (s->bias) in[2] = case_weight(&c, s->type, 1, &s->o, s->constant);
  if (!s->constant) in[1] = c.f->args[1];
  Value *residual = NULL;
  in[0] = c.f->args[0];
  OpKind kind = s->transposed ? OP_CONV_TRANSPOSE : OP_CONV;
  c.op = op_new(c.f, NULL, kind, s->bias ? 3 : 2, in, NULL);
  op_set_int(c.op, s->transposed ? A_CONV_TRANSPOSE_layout : A_CONV_layout, LAYOUT_NHWC);
  op_set_int(c.op, s->transposed ? A_CONV_TRANSPOSE_group : A_CONV_group, s->group);
  op_set_ints(c.op, s->transposed ? A_CONV_TRANSPOSE_strides : A_CONV_strides, s->nd, s->stride);
  op_set_ints(c.op, s->transposed ? A_CONV_TRANSPOSE_dilations : A_CONV_dilations, s->nd, s->dilation);
  op_set_ints(c.op, s->transposed ? A_CONV_TRANSPOSE_pads : A_CONV_pads, 2 * s->nd, s->pad);
  if (s->transposed) op_set_ints(c.op, A_CONV_TRANSPOSE_output_padding, s->nd, s->extra);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  const Type *y = op_out(c.op, 0)->type;
  if (s->post == POST_RESIDUAL) residual = const_generated(c.m, y, CONST_RAND, 0, 5, "r");
  if (s->post == POST_CHANNEL) {
    residual = const_generated(c.m, type_tensor(c.m->types, y->dtype, 1, &s->o), CONST_RAND, 0, 6, "r");
  }
  case_post(&c, s->post, residual);
  return c;
}

static bool possible(const Shape *s) {
  for (uint32_t i = 0; i < s->nd; i++) {
    int64_t reach = (s->kernel[i] - 1) * s->dilation[i] + 1;
    if (s->transposed) {
      int64_t out = (s->in[i] - 1) * s->stride[i] + reach + s->extra[i] - s->pad[i] - s->pad[s->nd + i];
      if (out < 1) return false;
    } else if (s->in[i] + s->pad[i] + s->pad[s->nd + i] < reach) {
      return false;
    }
  }
  return true;
}

static void check(const Shape *s, uint64_t seed) {
  if (!possible(s)) return;
  for (int narrow_one = 0; narrow_one < 2; narrow_one++) {
    Case c = build(s, seed);
    const Target *t = narrow_one ? &narrow : &wide;
    case_check(&c, t, PIPE_KEVAL, run_keval, shape_text(&c, s, t->name));
  }
}

// The same through the backend, on this machine's row.
static void check_compiled(const Shape *s, uint64_t seed) {
  if (!possible(s)) return;
  Case c = build(s, seed);
  case_check(&c, target_native(), PIPE_JIT, run_jit, shape_text(&c, s, "native"));
}

static Shape sample(Case *r, bool transposed) {
  Shape s = {.nd = 1 + rnd(r, 3), .n = 1 + rnd(r, 2), .group = 1, .transposed = transposed, .type = DT_F32};
  int64_t max_in = s.nd == 1 ? 40 : s.nd == 2 ? 13 : 6, max_c = s.nd == 3 ? 9 : 40;
  s.c = 1 + rnd(r, (uint32_t)max_c);
  s.o = 1 + rnd(r, rnd(r, 3) == 0 ? 70 : 20);
  if (rnd(r, 3) == 0) {
    s.group = 1 + rnd(r, 4);
    s.c = s.group * (1 + rnd(r, 5));
    s.o = s.group * (1 + rnd(r, 9));
  }
  for (uint32_t i = 0; i < s.nd; i++) {
    s.in[i] = 1 + rnd(r, (uint32_t)max_in);
    s.kernel[i] = 1 + rnd(r, s.nd == 3 ? 3 : 7);
    if (rnd(r, 4) == 0) s.kernel[i] = 1;
    s.stride[i] = 1 + rnd(r, 3);
    s.dilation[i] = rnd(r, 4) == 0 ? 2 : 1;
    s.pad[i] = rnd(r, 3);
    s.pad[s.nd + i] = rnd(r, 3);
    if (transposed) s.extra[i] = rnd(r, (uint32_t)s.stride[i]);
  }
  if (rnd(r, 5) == 0) {
    for (uint32_t i = 0; i < s.nd; i++) {
      s.kernel[i] = s.stride[i] = s.dilation[i] = 1;
      s.pad[i] = s.pad[s.nd + i] = s.extra[i] = 0;
    }
  }
  s.bias = rnd(r, 2);
  s.constant = rnd(r, 4) != 0;
  s.post = (PostKind)rnd(r, 5);
  uint32_t t = rnd(r, 8);
  s.type = t == 0 ? DT_F64 : t == 1 ? DT_F16 : DT_F32;
  return s;
}

Test(lower_conv, sampled) {
  for (uint64_t i = 0; i < 250; i++) {
    Case r = {.seed = i * 1234567 + 99};
    for (int j = 0; j < 5; j++) rnd(&r, 2);
    Shape s = sample(&r, false);
    check(&s, i);
  }
}

Test(lower_conv, compiled) {
  for (uint64_t i = 0; i < 100; i++) {
    Case r = {.seed = i * 55511 + 3};
    for (int j = 0; j < 5; j++) rnd(&r, 2);
    Shape s = sample(&r, i % 4 == 3);
    if (i % 4 == 2) s.c = s.o = s.group = 2 + rnd(&r, 40);
    check_compiled(&s, i);
  }
}

Test(lower_conv, transposed) {
  for (uint64_t i = 0; i < 200; i++) {
    Case r = {.seed = i * 7654321 + 5};
    for (int j = 0; j < 5; j++) rnd(&r, 2);
    Shape s = sample(&r, true);
    check(&s, i);
  }
}

Test(lower_conv, depthwise) {
  for (uint64_t i = 0; i < 80; i++) {
    Case r = {.seed = i * 424243 + 17};
    for (int j = 0; j < 5; j++) rnd(&r, 2);
    Shape s = sample(&r, false);
    s.c = s.o = s.group = 2 + rnd(&r, 40);
    check(&s, i);
  }
}

Test(lower_conv, common_layers) {
  static const Shape layers[] = {
      {.nd = 2, .n = 1, .c = 3, .o = 16, .in = {28, 30}, .kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1, 1, 1}},
      {.nd = 2, .n = 1, .c = 1, .o = 20, .in = {28, 28}, .kernel = {5, 5}, .stride = {1, 1}},
      {.nd = 2, .n = 1, .c = 64, .o = 64, .in = {7, 7}, .kernel = {3, 3}, .stride = {1, 1}, .pad = {1, 1, 1, 1}},
      {.nd = 2, .n = 2, .c = 32, .o = 48, .in = {14, 14}, .kernel = {1, 1}, .stride = {1, 1}},
      {.nd = 2, .n = 1, .c = 32, .o = 40, .in = {14, 14}, .kernel = {1, 1}, .stride = {2, 2}},
  };
  for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
    Shape s = layers[i];
    s.group = s.dilation[0] = s.dilation[1] = s.dilation[2] = 1;
    s.type = DT_F32;
    s.bias = s.constant = true;
    s.post = POST_RELU;
    check(&s, i);
    check_compiled(&s, i);
  }
}

Test(lower_conv, integers_use_plain_loops) {
  Shape s = {.nd = 2,
             .n = 1,
             .c = 5,
             .o = 7,
             .group = 1,
             .in = {6, 5},
             .kernel = {3, 2},
             .stride = {1, 2},
             .dilation = {1, 1},
             .pad = {1, 0, 1, 1},
             .type = DT_I32,
             .bias = true,
             .constant = true};
  check(&s, 3);
}
