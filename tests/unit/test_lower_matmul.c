// Matrix products of many shapes through plan and lower, run by the kernel interpreter, against the graph interpreter.
#include "tests/unit/contract_case.h"

typedef struct Shape {
  uint32_t batch_a, batch_b;  // batch axes of a and b
  int64_t batch[2], m, n, k;
  bool stretch_a, stretch_b;  // the innermost batch axis has extent 1
  bool vector_a, vector_b, trans_a, trans_b, constant;
  int bias;  // 0 none, 1 [n], 2 scalar, 3 the whole result, 4 [m, 1]
  PostKind post;
  DType type;
} Shape;

static const char *shape_text(Case *c, const Shape *s, const char *target) {
  return arena_printf(c->arena,
                      "matmul %s b=%u,%u (%lld,%lld) m=%lld n=%lld k=%lld st=%d%d vec=%d%d tr=%d%d const=%d "
                      "bias=%d post=%d %s",
                      dtype_info(s->type)->name, s->batch_a, s->batch_b, (long long)s->batch[0], (long long)s->batch[1],
                      (long long)s->m, (long long)s->n, (long long)s->k, s->stretch_a, s->stretch_b, s->vector_a,
                      s->vector_b, s->trans_a, s->trans_b, s->constant, s->bias, s->post, target);
}

static uint32_t operand_dims(const Shape *s, bool is_b, int64_t *d) {
  bool vector = is_b ? s->vector_b : s->vector_a, trans = is_b ? s->trans_b : s->trans_a;
  uint32_t batches = vector ? 0 : is_b ? s->batch_b : s->batch_a, r = 0;
  if (vector) {
    d[0] = s->k;
    return 1;
  }
  for (uint32_t i = 0; i < batches; i++) {
    bool last = i + 1 == batches;
    d[r++] = last && (is_b ? s->stretch_b : s->stretch_a) ? 1 : s->batch[2 - batches + i];
  }
  int64_t rows = is_b ? s->k : s->m, columns = is_b ? s->n : s->k;
  d[r++] = trans ? columns : rows;
  d[r++] = trans ? rows : columns;
  return r;
}

static Value *bias_of(Case *c, const Shape *s, const Type *y) {
  switch (s->bias) {
    case 1: return const_generated(c->m, type_tensor(c->m->types, s->type, 1, &s->n), CONST_RAND, 0, 3, "bias");
    case 2: return const_generated(c->m, type_scalar(c->m->types, s->type), CONST_RAND, 0, 3, "bias");
    case 3: return const_generated(c->m, y, CONST_RAND, 0, 3, "bias");
    default: {
      int64_t d[2] = {s->m, 1};
      return const_generated(c->m, type_tensor(c->m->types, s->type, 2, d), CONST_RAND, 0, 3, "bias");
    }
  }
}

static Case build(const Shape *s, uint64_t seed) {
  int64_t ad[4], bd[4];
  uint32_t ar = operand_dims(s, false, ad), br = operand_dims(s, true, bd);
  Case c = case_new(seed, s->type, ar, ad);
  Value *in[2] = {NULL, case_weight(&c, s->type, br, bd, s->constant)};
  in[0] = c.f->args[0];
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, in, NULL);
  op_set_int(c.op, A_MATMUL_trans_a, s->trans_a && !s->vector_a);
  op_set_int(c.op, A_MATMUL_trans_b, s->trans_b && !s->vector_b);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  const Type *y = op_out(c.op, 0)->type;
  bool plain = !s->vector_a && !s->vector_b;
  if (s->bias != 0 && plain) op_add_operand(c.op, bias_of(&c, s, y));
  Value *operand = NULL;
  if (s->post == POST_RESIDUAL) operand = const_generated(c.m, y, CONST_RAND, 0, 5, "r");
  if (s->post == POST_CHANNEL) operand = const_generated(c.m, type_scalar(c.m->types, s->type), CONST_RAND, 0, 6, "r");
  case_post(&c, s->post, operand);
  return c;
}

static void check(const Shape *s, uint64_t seed) {
  for (int narrow_one = 0; narrow_one < 2; narrow_one++) {
    Case c = build(s, seed);
    const Target *t = narrow_one ? &narrow : &wide;
    case_check(&c, t, PIPE_KEVAL, run_keval, shape_text(&c, s, t->name));
  }
}

// The same through the backend, on this machine's row.
static void check_compiled(const Shape *s, uint64_t seed) {
  Case c = build(s, seed);
  case_check(&c, target_native(), PIPE_JIT, run_jit, shape_text(&c, s, "native"));
}

static int64_t extent(Case *r) {
  switch (rnd(r, 4)) {
    case 0: return 1 + rnd(r, 4);
    case 1: return 1 + rnd(r, 20);
    case 2: return 14 + rnd(r, 5);
    default: return 1 + rnd(r, 130);
  }
}

static Shape sample(Case *r) {
  Shape s = {.m = extent(r), .n = extent(r), .k = extent(r), .type = DT_F32};
  s.batch[0] = 1 + rnd(r, 3);
  s.batch[1] = 1 + rnd(r, 3);
  if (rnd(r, 2)) {
    s.batch_a = rnd(r, 3);
    s.batch_b = rnd(r, 3);
    s.stretch_a = rnd(r, 4) == 0;
    s.stretch_b = rnd(r, 3) == 0;
    if (s.m * s.n * s.k > 100000) s.k = 5;
  }
  s.vector_a = rnd(r, 10) == 0;
  s.vector_b = rnd(r, 10) == 0;
  s.trans_a = rnd(r, 4) == 0;
  s.trans_b = rnd(r, 3) == 0;
  s.constant = rnd(r, 3) != 0;
  s.bias = (int)rnd(r, 5);
  s.post = (PostKind)rnd(r, 5);
  uint32_t t = rnd(r, 8);
  s.type = t == 0 ? DT_F64 : t == 1 ? DT_F16 : t == 2 ? DT_I32 : DT_F32;
  if (s.type == DT_I32 && (s.post == POST_RELU || s.post == POST_SIGMOID)) s.post = POST_NONE;
  return s;
}

Test(lower_matmul, sampled) {
  for (uint64_t i = 0; i < 300; i++) {
    Case r = {.seed = i * 31337 + 11};
    for (int j = 0; j < 5; j++) rnd(&r, 2);
    Shape s = sample(&r);
    check(&s, i);
  }
}

Test(lower_matmul, compiled) {
  for (uint64_t i = 0; i < 100; i++) {
    Case r = {.seed = i * 77777 + 5};
    for (int j = 0; j < 5; j++) rnd(&r, 2);
    Shape s = sample(&r);
    check_compiled(&s, i);
  }
}

Test(lower_matmul, empty_reduction_gives_the_bias) {
  Shape s = {.m = 3, .n = 5, .k = 0, .bias = 1, .constant = true, .type = DT_F32};
  check(&s, 1);
}
