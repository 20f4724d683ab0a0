// Weights of few bits against the graph interpreter: every width, both signs of x, remainders of columns, blocks and
// fields, sums per field and shifted ones, scales and zero points per block, slices of float x and strict floats.
#include "passes/lowbit.h"
#include "passes/price/tiles.h"
#include "tests/unit/contract_case.h"

static const Target dots = {.name = "dots", CPU_512, .has_dot4 = true, .dot4_per_cycle = 2, .popcnt_per_cycle = 2};

typedef struct Shape {
  int64_t m, k, n, block;  // block 0: integers; k: one scale per column
  int64_t lo, hi, step;    // of the weights
  bool zero, strict;
  int64_t x_bits;
} Shape;

static Value *levels(Case *c, const Shape *s, bool trans) {
  int64_t dims[2] = {trans ? s->n : s->k, trans ? s->k : s->n};
  const Type *type = type_tensor(c->m->types, s->hi > 127 ? DT_U8 : DT_I8, 2, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(type));
  uint32_t count = (uint32_t)((s->hi - s->lo) / s->step + 1);
  for (int64_t i = 0; i < type_count(type); i++) elem_set_i(bytes, type->dtype, i, s->lo + s->step * rnd(c, count));
  return const_bytes(c->m, type, bytes, "w");
}

// A scale or zero point per block and column.
static Value *parameter(Case *c, const Shape *s, DType t, bool trans) {
  int64_t blocks = (s->k + s->block - 1) / s->block, dims[2] = {trans ? s->n : blocks, trans ? blocks : s->n};
  bool vector = s->block == s->k;
  const Type *type = type_tensor(c->m->types, t, vector ? 1 : 2, vector ? &s->n : dims);
  void *data = arena_alloc(c->arena, (size_t)type_bytes(type));
  for (int64_t i = 0; i < type_count(type); i++) {
    if (dtype_is_float(t)) {
      elem_set_f(data, t, i, 0.01 * (1 + rnd(c, 200)));
    } else {
      elem_set_i(data, t, i, s->lo + rnd(c, (uint32_t)(s->hi - s->lo + 1)));
    }
  }
  return const_bytes(c->m, type, data, NULL);
}

static Value *dequantized(Case *c, const Shape *s, Value *q, bool trans) {
  Value *in[3] = {q, parameter(c, s, DT_F32, trans), s->zero ? parameter(c, s, q->type->dtype, trans) : NULL};
  Op *op = op_new(c->f, NULL, OP_DEQUANTIZE, s->zero ? 3 : 2, in, NULL);
  bool vector = s->block == s->k;
  op_set_int(op, A_DEQUANTIZE_axis, trans != vector ? 1 : 0);
  if (!vector) op_set_int(op, A_DEQUANTIZE_block, s->block);
  value_set_type(op_out(op, 0), type_with_dtype(c->m->types, q->type, DT_F32));
  cr_assert(infer_op(op), "%s", diag_text(c->m->diag));
  return op_out(op, 0);
}

static void set_plan(Case *c, const Target *t, const Shape *s) {
  Plan plan = plan_choose(c->op, t);
  if (strcmp(plan.strategy, "stream") != 0 || rnd(c, 2) == 0) {  // too small to pay, or another tile
    static const char *const names[] = {"g", "mr", "scaled", "slices"};
    plan = (Plan){.strategy = intern(c->m->names, "stream"), .n = s->block > 0 ? 4 : 3};
    for (uint32_t i = 0; i < plan.n; i++) plan.param[i].name = intern(c->m->names, names[i]);
    plan.param[0].value = 1 + rnd(c, 4);
    plan.param[1].value = 1 + rnd(c, 3);
    plan.param[2].value = 0;
    plan.param[3].value = s->x_bits == 0 ? 3 : s->x_bits / 8;
    // Eight fields and three slices have to fit registers.
    if (plan.param[0].value * plan.param[1].value == 1) plan.param[2].value = rnd(c, 2);
    if (s->block > 0 && plan.param[1].value > 1) plan.param[0].value = 1;
  }
  op_set_plan(c->op, &plan);
}

static Tensor input(Case *c, const Type *t) {
  Tensor x = tensor_new(c->arena, t);
  for (int64_t i = 0; i < type_count(t); i++) {
    if (dtype_is_float(t->dtype)) {
      elem_set_f(x.data, t->dtype, i, ((double)rnd(c, 200001) / 100000 - 1) * (rnd(c, 8) ? 1 : 0.001));
    } else {
      elem_set_i(x.data, t->dtype, i, (int64_t)rnd(c, 256) + dtype_min(t->dtype));
    }
  }
  return x;
}

// Sum of |x w| of every result element, and what rounding x to x_bits may add to it.
static void magnitudes(const Shape *s, const Tensor *x, const Tensor *w, bool trans, double largest, double *sum) {
  double rounding = s->x_bits == 8 ? largest / 127 : s->x_bits == 16 ? largest / 127 / 254 : 0;
  for (int64_t i = 0; i < s->m; i++)
    for (int64_t k = 0; k < s->k; k++)
      for (int64_t n = 0; n < s->n; n++) {
        double weight = fabs(elem_get_f(w->data, DT_F32, trans ? n * s->k + k : k * s->n + n));
        double sum_bound = 0x1p-22 * sqrt((double)s->k) * fabs(elem_get_f(x->data, DT_F32, i * s->k + k));
        sum[i * s->n + n] += weight * (sum_bound + rounding);
      }
}

static void compare(Case *c, const Shape *s, const Tensor *x, const void *out, const Tensor *want, const char *what) {
  double *bound = NEW_ARRAY(c->arena, double, s->m * s->n);
  if (s->block > 0) {
    const Op *dq = op_in(c->op, 1)->op;
    Tensor in[3] = {0}, w;
    for (uint32_t i = 0; i < dq->n_in; i++) in[i] = tensor_of_const(c->m, op_in(dq, i)->constant);
    cr_assert(eval_op(dq, in, &w, c->arena));
    double largest = 0;
    for (int64_t i = 0; i < s->m * s->k; i++) largest = fmax(largest, fabs(elem_get_f(x->data, DT_F32, i)));
    magnitudes(s, x, &w, op_bool(c->op, A_MATMUL_trans_b), largest, bound);
    for (int64_t i = 0; i < s->m * s->n; i++) bound[i] += largest * 0x1p-19;
  }
  for (int64_t i = 0; i < s->m * s->n; i++) {
    DType t = want->type->dtype;
    double got = elem_get_f(out, t, i), ref = elem_get_f(want->data, t, i);
    cr_assert(fabs(got - ref) <= bound[i], "%s: element %lld is %.9g, not %.9g (bound %.3g)", what, (long long)i, got,
              ref, bound[i]);
  }
}

static void check(const Shape *s, DType x_type, const Target *t, uint64_t seed) {
  Case c = case_new(seed, x_type, 2, (int64_t[]){s->m, s->k});
  bool native = t != &dots, trans = rnd(&c, 2) == 1;
  char *what = arena_printf(c.arena, "m=%lld k=%lld n=%lld block=%lld levels %lld..%lld step %lld zero=%d strict=%d %s",
                            (long long)s->m, (long long)s->k, (long long)s->n, (long long)s->block, (long long)s->lo,
                            (long long)s->hi, (long long)s->step, s->zero, s->strict, t->name);
  Value *w = levels(&c, s, trans);
  if (s->block > 0) w = dequantized(&c, s, w, trans);
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  op_set_int(c.op, A_MATMUL_x_bits, s->x_bits);
  if (s->block == 0) op_set_int(c.op, A_MATMUL_x_zero, (int64_t)rnd(&c, 20) - (x_type == DT_I8 ? 10 : 0));
  cr_assert(infer_op(c.op), "%s: %s", what, diag_text(c.m->diag));
  Value *result = op_out(c.op, 0);
  func_set_results(c.f, 1, &result);
  Tensor x = input(&c, c.f->args[0]->type), want;
  cr_assert(eval_func(c.f, &x, &want, c.arena, NULL, NULL), "%s: %s", what, diag_text(c.m->diag));
  Target other = *t;
  if (!native) other.vector_bits = 128u << rnd(&c, 3);
  set_plan(&c, &other, s);
  PassOptions opt = pass_options_default();
  opt.strict_fp = s->strict;
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c.m, &other, native ? PIPE_JIT : PIPE_KEVAL, &opt, &runner, c.arena, NULL), "%s: %s", what,
            diag_text(c.m->diag));
  const Program *p = c.m->program;
  cr_assert(strcmp(p->steps.at[p->steps.n - 1].strategy, "stream") == 0, "%s: other", what);
  for (uint32_t i = 0; i < p->bufs.n; i++)
    cr_assert(s->block == 0 || p->bufs.at[i]->kind != PBUF_CONST || p->bufs.at[i]->type->dtype != DT_F32 ||
                  type_count(p->bufs.at[i]->type) < s->k * (s->n + 64),
              "%s: weights as floats", what);
  void *out = arena_alloc(c.arena, (size_t)type_bytes(result->type) + 64);
  const void *in[1] = {x.data};
  memset(out, 0x5a, (size_t)type_bytes(result->type));
  cr_assert(native ? run_jit(&c, &other, in, &out) : run_keval(&c, &other, in, &out), "%s: %s", what,
            diag_text(c.m->diag));
  compare(&c, s, &x, out, &want, what);
  arena_free(c.arena);
}

// Levels of every number of bits, the two-valued and three-valued ones among them.
static const struct {
  int64_t lo, hi, step;
} grids[] = {{-1, 1, 2}, {0, 1, 1},    {-1, 1, 1},   {-2, 1, 1},   {-3, 3, 2},  {-4, 3, 1},     {-8, 7, 1}, {-7, 7, 1},
             {0, 15, 1}, {-16, 15, 1}, {-20, 40, 1}, {-60, 60, 1}, {0, 255, 1}, {-128, 127, 1}, {5, 5, 1}};

enum { GRIDS = sizeof grids / sizeof *grids };

static Shape shape_of(uint64_t seed, int64_t k, int64_t n) {
  static const int64_t rows[] = {1, 1, 2, 3, 1, 4, 7, 1, 20, 5};
  Shape s = {.m = rows[seed * 3 % 10], .k = k, .n = n};
  s.lo = grids[seed % GRIDS].lo;
  s.hi = grids[seed % GRIDS].hi;
  s.step = grids[seed % GRIDS].step;
  return s;
}

static void check_integers(const Target *t, int64_t wide) {
  uint64_t seed = 1;
  for (int64_t k = 1; k <= 130; k += k < 10 ? 1 : wide)
    for (int64_t n = 1; n <= 70; n += n < 3 ? 1 : 15, seed++) {
      Shape s = shape_of(seed, k, n);
      if (s.hi > 127) s.lo = -100, s.hi = 100;
      check(&s, seed % 2 ? DT_I8 : DT_U8, t, seed);
    }
}

static void check_floats(const Target *t, int64_t wide) {
  static const int64_t blocks[] = {0, 16, 32, 4, 64, 8};
  uint64_t seed = 1;
  for (int64_t k = 1; k <= 130; k += k < 10 ? 1 : wide)
    for (int64_t n = 1; n <= 70; n += n < 3 ? 2 : 17, seed++) {
      Shape s = shape_of(seed, k, n);
      s.block = blocks[seed % 6] < k && blocks[seed % 6] > 0 ? blocks[seed % 6] : k;
      s.zero = seed / 2 % 2;
      s.strict = seed / 3 % 4 == 1;
      s.x_bits = (int64_t)(seed / 5 % 3 * 8);
      check(&s, DT_F32, t, seed);
    }
}

Test(stream, integers) { check_integers(&dots, 13); }
Test(stream, integers_native) { check_integers(target_native(), 17); }
Test(stream, floats) { check_floats(&dots, 13); }
Test(stream, floats_native) { check_floats(target_native(), 19); }

// ---- books

// `values` floats: random ones, or where sums are to be exact multiples of 2^-12 below 1.
static Value *book_weights(Case *c, int64_t values, bool exact, bool trans, int64_t k, int64_t n) {
  int64_t dims[2] = {trans ? n : k, trans ? k : n};
  const Type *type = type_tensor(c->m->types, DT_U8, 2, dims), *table = type_tensor(c->m->types, DT_F32, 1, &values);
  uint8_t *codes = arena_alloc(c->arena, (size_t)(k * n));
  float *book = NEW_ARRAY(c->arena, float, values);
  for (int64_t i = 0; i < k * n; i++) codes[i] = (uint8_t)rnd(c, (uint32_t)values);
  for (int64_t i = 0; i < values; i++)
    book[i] = exact ? (float)ldexp((double)rnd(c, 8192) - 4096, -12) : (float)((double)rnd(c, 2000001) / 3e6 - 0.3);
  Value *in[2] = {const_bytes(c->m, table, book, NULL), const_bytes(c->m, type, codes, "w")};
  Op *op = op_new(c->f, NULL, OP_LOOKUP, 2, in, NULL);
  value_set_type(op_out(op, 0), type_with_dtype(c->m->types, type, DT_F32));
  cr_assert(infer_op(op), "%s", diag_text(c->m->diag));
  return op_out(op, 0);
}

// What the result may differ by: the rounding of sums, weights in steps of 2^-24 and what is left out of the products.
static void check_book(const Target *t, bool jit, int64_t m, int64_t k, int64_t n, int64_t values, bool exact) {
  Case c = case_new((uint64_t)(k + n + values), DT_F32, 2, (int64_t[]){m, k});
  bool trans = (k + n) % 2 == 0;
  Value *w = book_weights(&c, values, exact, trans, k, n);
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  cr_assert(infer_op(c.op));
  Value *result = op_out(c.op, 0);
  func_set_results(c.f, 1, &result);
  Tensor x = input(&c, c.f->args[0]->type), want;
  for (int64_t i = 0; exact && i < m * k; i++) elem_set_f(x.data, DT_F32, i, (double)rnd(&c, 201) - 100);
  cr_assert(eval_func(c.f, &x, &want, c.arena, NULL, NULL));
  Plan plan = {.strategy = intern(c.m->names, "stream")};
  plan_add(c.op, &plan, "g", 1 + (k + n) % 3);
  plan_add(c.op, &plan, "mr", m > 1 ? 2 : 1);
  plan_add(c.op, &plan, "slices", 3);
  op_set_plan(c.op, &plan);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c.m, t, jit ? PIPE_JIT : PIPE_KEVAL, &opt, &runner, c.arena, NULL));
  float *out = NEW_ARRAY(c.arena, float, m *n);
  const void *in[1] = {x.data};
  void *outs[1] = {out};
  cr_assert(jit ? run_jit(&c, t, in, outs) : run_keval(&c, t, in, outs), "%s", diag_text(c.m->diag));
  for (int64_t i = 0; i < m * n; i++) {
    double bound = 0, ref = elem_get_f(want.data, DT_F32, i);
    for (int64_t j = 0; j < k; j++) bound += 0x1p-21 * (0.05 + fabs(elem_get_f(x.data, DT_F32, i / n * k + j)));
    cr_assert(exact ? (double)out[i] == ref : fabs((double)out[i] - ref) <= bound,
              "m=%lld k=%lld n=%lld values=%lld: element %lld is %.9g, not %.9g", (long long)m, (long long)k,
              (long long)n, (long long)values, (long long)i, (double)out[i], ref);
  }
  arena_free(c.arena);
}

// Codes of 4 and of 8 bits; books that one permutation reads, one of two vectors, two of those; tails of columns, of
// groups of four and of tiles.
Test(stream, books) {
  static const int64_t values[] = {1, 3, 16, 17, 64, 65, 128, 129, 256},
                       shapes[][3] = {{1, 1, 1},   {1, 4, 16},  {2, 7, 17},  {3, 130, 5},
                                      {1, 33, 70}, {5, 64, 48}, {1, 300, 33}};
  const Target *native = target_native();
  Target invented = dots;
  invented.has_lookup64 = true;
  for (uint32_t i = 0; i < 9; i++)
    for (uint32_t j = 0; j < 7; j++)
      for (int exact = 0; exact < 2; exact++) {
        check_book(&invented, false, shapes[j][0], shapes[j][1], shapes[j][2], values[i], exact != 0);
        if (native->vector_bits == 512)
          check_book(native, true, shapes[j][0], shapes[j][1], shapes[j][2], values[i], exact != 0);
      }
}

// One number of x that is not finite reaches every result.
Test(stream, not_finite) {
  static const double odd[] = {NAN, INFINITY, -INFINITY};
  for (uint32_t i = 0; i < 6; i++) {
    Shape s = {.m = 2, .k = 64, .n = 20, .block = 32, .lo = -8, .hi = 7, .step = 1};
    Case c = case_new(i + 1, DT_F32, 2, (int64_t[]){s.m, s.k});
    Value *w = dequantized(&c, &s, levels(&c, &s, false), false);
    c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
    cr_assert(infer_op(c.op));
    Value *result = op_out(c.op, 0);
    func_set_results(c.f, 1, &result);
    Tensor x = input(&c, c.f->args[0]->type);
    elem_set_f(x.data, DT_F32, s.k + 40, odd[i % 3]);
    const Target *t = i < 3 ? target_native() : &dots;
    set_plan(&c, t, &s);
    PassOptions opt = pass_options_default();
    RunOptions runner = {.verify_each = true};
    cr_assert(pipeline_run(c.m, t, i < 3 ? PIPE_JIT : PIPE_KEVAL, &opt, &runner, c.arena, NULL));
    float out[40];
    const void *in[1] = {x.data};
    void *outs[1] = {out};
    cr_assert(i < 3 ? run_jit(&c, t, in, outs) : run_keval(&c, t, in, outs));
    for (int64_t j = 0; j < s.n; j++)
      cr_assert(isfinite(out[j]) && !isfinite(out[s.n + j]), "%u %lld", i, (long long)j);
    arena_free(c.arena);
  }
}

Test(stream, deep_sums) {
  Shape s = {.m = 1, .k = 70000, .n = 3, .lo = -1, .hi = 1, .step = 2};
  for (uint64_t seed = 1; seed < 4; seed++) {
    s.block = 0;
    check(&s, seed % 2 ? DT_U8 : DT_I8, target_native(), seed);
    s.block = s.k;
    check(&s, DT_F32, target_native(), seed);
  }
}
