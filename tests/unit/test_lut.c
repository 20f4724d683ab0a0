// Few-valued networks that lie on no grid: chains as thresholds give the chain's value at every float tried, numbers as
// sums of terms come back bit for bit, layers rewritten to integer contractions give the float layer's result, and
// products out of tables the integer contraction's.
#include <float.h>

#include "passes/lower/codebook.h"
#include "passes/price.h"
#include "passes/price/tiles.h"
#include "passes/recover/codes.h"
#include "tests/unit/contract_case.h"

static const Target cpu = {
    .name = "bytes", CPU_512, .has_masks = true, .has_fma = true, .has_dot4 = true, .dot4_per_cycle = 2};

static Module *parse(Arena *arena, const char *text) {
  Module *m = parse_module(arena, diag_new(arena, NULL), "test", text, strlen(text));
  cr_assert(m != NULL, "%s", text);
  return m;
}

static void run_passes(Module *m, Arena *arena, const char *passes) {
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(m, &cpu, passes, &opt, &runner, arena, NULL), "%s", diag_text(m->diag));
}

static uint32_t ops_of(const Module *m, OpKind kind, DType t) {
  uint32_t n = 0;
  for (const Op *op = m->funcs.at[0]->first; op; op = op->next) n += op->kind == kind && op_in(op, 0)->type->dtype == t;
  return n;
}

// ---- chains

#define FLOATS 4096

static const char *const chains[] = {
    "  %a = relu %x : f32[4096]\n  %b = max %a, f32(1e-30) : f32[4096]\n  %c = log %b : f32[4096]\n"
    "  %d = div %c, f32(0.6931472) : f32[4096]\n  %e = round %d : f32[4096]\n"
    "  %f = clip %e, f32(-5.0), f32(1.0) : f32[4096]\n  %g = sign %a : f32[4096]\n"
    "  %h = pow f32(2.0), %f : f32[4096]\n  %y = mul %g, %h : f32[4096]\n",
    "  %a = sign %x : f32[4096]\n  %b = mul %a, f32(0.25) : f32[4096]\n  %c = sub %x, %b : f32[4096]\n"
    "  %d = sign %c : f32[4096]\n  %e = mul %d, f32(0.6) : f32[4096]\n  %f = add %b, %e : f32[4096]\n"
    "  %y = tanh %f : f32[4096]\n",
    "  %a = tanh %x : f32[4096]\n  %b = sub %a, f32(-1.0) : f32[4096]\n  %c = div %b, f32(0.06451613) : f32[4096]\n"
    "  %d = add %c, f32(0.5) : f32[4096]\n  %e = floor %d : f32[4096]\n"
    "  %f = mul %e, f32(0.06451613) : f32[4096]\n  %y = add %f, f32(-1.0) : f32[4096]\n",
    "  %a = add %x, f32(-0.55) : f32[4096]\n  %b = clip %a, f32(0.0), f32(1.0) : f32[4096]\n"
    "  %c = greater_equal %b, f32(0.5) : bool[4096]\n  %d = select %c, f32(0.44), f32(-0.44) : f32[4096]\n"
    "  %e = less %x, f32(-0.3) : bool[4096]\n  %f = cast %e : f32[4096]\n  %g = exp %f : f32[4096]\n"
    "  %y = sub %d, %g : f32[4096]\n",
};

// Around every start of a step, at the ends of the floats, and at random.
static float probe(const Op *op, int64_t i, uint64_t *seed) {
  static const float ends[] = {0, -0.0f, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, 1e-45f, -1e-45f};
  if (i < 10) return ends[i];
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  for (int64_t skip = i / 33; op; op = op->next) {
    bool compares = op->kind == OP_GREATER || op->kind == OP_GREATER_EQUAL;
    if (!compares || skip-- > 0) continue;
    float at = (float)const_f(op->func->module, op_in(op, 1)->constant, 0);
    for (int64_t k = i % 33 - 16; k != 0; k += k < 0 ? 1 : -1) at = nextafterf(at, k < 0 ? -INFINITY : INFINITY);
    return at;
  }
  return ldexpf((float)(int32_t)(*seed >> 32) * 0x1p-31f, (int)(*seed >> 20 & 15) - 8);
}

Test(lut, steps_equal_the_chain) {
  for (uint32_t k = 0; k < sizeof chains / sizeof *chains; k++) {
    Arena *arena = arena_new("steps");
    const char *text = arena_printf(arena, "func @f(%%x: f32[4096]) -> f32[4096] {\n%s  return %%y\n}\n", chains[k]);
    Module *before = parse(arena, text), *after = parse(arena, text);
    run_passes(after, arena, "codes,dce");
    cr_assert(ops_of(after, OP_SELECT, DT_BOOL) > 0, "chain %u is still there", k);
    cr_assert(ops_of(after, OP_TANH, DT_F32) + ops_of(after, OP_EXP, DT_F32) + ops_of(after, OP_LOG, DT_F32) == 0);
    Tensor x = tensor_new(arena, before->funcs.at[0]->args[0]->type), want, got;
    uint64_t seed = k + 1;
    for (int64_t i = 0; i < FLOATS; i++) ((float *)x.data)[i] = probe(after->funcs.at[0]->first, i, &seed);
    cr_assert(eval_func(before->funcs.at[0], &x, &want, arena, NULL, NULL));
    cr_assert(eval_func(after->funcs.at[0], &x, &got, arena, NULL, NULL));
    for (int64_t i = 0; i < FLOATS; i++) {
      double a = elem_get_f(want.data, DT_F32, i), b = elem_get_f(got.data, DT_F32, i);
      cr_assert(a == b, "chain %u at %a: %.9g, not %.9g", k, (double)((float *)x.data)[i], b, a);
    }
    arena_free(arena);
  }
}

// ---- numbers as sums

static void check_terms(TermsForm form, uint32_t n, const double *v, bool want, const char *what) {
  Terms t;
  cr_assert_eq(terms_find(form, n, v, &t), want, "%s", what);
  for (uint32_t i = 0; want && i < n; i++) cr_assert((double)(float)terms_value(&t, i) == v[i], "%s: %u", what, i);
}

Test(lut, forms) {
  static const double none[4] = {0, (double)0.3177f, 1, (double)1.894f}, even[4] = {-0.75, -0.25, 0.25, 0.75};
  double two[4] = {(double)(-0.7f - 0.2f), (double)(-0.7f + 0.2f), (double)(0.7f - 0.2f), (double)(0.7f + 0.2f)};
  check_terms(TERMS_GRID, 4, even, true, "a grid");
  check_terms(TERMS_GRID, 4, none, false, "no grid of a byte");
  check_terms(TERMS_PAIR, 4, two, true, "two signs");
  check_terms(TERMS_PAIR, 4, none, false, "no two scales");
  check_terms(TERMS_BYTES, 4, none, true, "a grid of 16 bits");
  check_terms(TERMS_BITS, 4, none, true, "a thermometer from 0");
  check_terms(TERMS_BITS, 4, two, true, "a thermometer of signs");
  two[1] = (double)nextafterf((float)two[1], 1);
  check_terms(TERMS_PAIR, 4, two, false, "one unit in the last place off");
}

// ---- layers

typedef struct Few {
  uint32_t n;
  double v[8];
} Few;

static const Few inputs[] = {
    {4, {0, (double)0.3177f, 1, (double)1.894f}},
    {4, {-0.9, -0.5, 0.5, 0.9}},
    {4, {0.1, 0.25, 0.7, 1.3}},
    {8, {0, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1, 2}},
};
static const Few weights[] = {{2, {-0.3, 0.3}},
                              {4, {-0.31415927, -0.1234567, 0.1234567, 0.31415927}},
                              {3, {-0.7, 0, 0.7}},
                              {5, {-1, -0.5, 0.25, 0.5, 1}}};

static Value *few_weights(Case *c, const Few *w, uint32_t rank, const int64_t *dims) {
  const Type *t = type_tensor(c->m->types, DT_F32, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < type_count(t); i++) elem_set_f(bytes, DT_F32, i, w->v[rnd(c, w->n)]);
  return const_bytes(c->m, t, bytes, "w");
}

static Value *few_values(Case *c, const Few *x) {
  Value *arg = c->f->args[0], *y = const_splat(c->m, type_scalar(c->m->types, DT_F32), x->v[0]);
  for (uint32_t i = 1; i < x->n; i++) {
    Value *at = const_splat(c->m, type_scalar(c->m->types, DT_F32), -1 + 2.0 * i / x->n);
    Op *past = op_new(c->f, NULL, OP_GREATER_EQUAL, 2, (Value *[]){arg, at}, NULL);
    cr_assert(infer_op(past));
    Value *in[3] = {op_out(past, 0), const_splat(c->m, type_scalar(c->m->types, DT_F32), x->v[i]), y};
    Op *select = op_new(c->f, NULL, OP_SELECT, 3, in, NULL);
    cr_assert(infer_op(select));
    y = op_out(select, 0);
  }
  return y;
}

// Runs the pass and compares the interpreter's results before and after; says whether a float layer is left.
static bool check_layer(Case *c, const char *what) {
  Value *result = op_out(c->op, 0);
  func_set_results(c->f, 1, &result);
  Tensor x = random_tensor(c, c->f->args[0]->type), want, got;
  int64_t terms = 0, count = type_count(result->type);
  cr_assert(eval_func(c->f, &x, &want, c->arena, NULL, NULL));
  OpKind kind = c->op->kind;
  const Type *w = op_in(c->op, 1)->type;
  terms = type_count(w) / result->type->dims[result->type->rank - 1];
  run_passes(c->m, c->arena, "terms,dce");
  cr_assert(eval_func(c->f, &x, &got, c->arena, NULL, NULL));
  for (int64_t i = 0; i < count; i++) {
    double a = elem_get_f(want.data, DT_F32, i), b = elem_get_f(got.data, DT_F32, i);
    cr_assert(fabs(a - b) <= 0x1p-22 * (2 + (double)terms), "%s: element %lld is %.9g, not %.9g", what, (long long)i, b,
              a);
  }
  return ops_of(c->m, kind, DT_F32) > 0;
}

static Case conv_case(const Few *x, const Few *w, int64_t c_in, int64_t c_out, int64_t pad, uint64_t seed) {
  Case c = case_new(seed, DT_F32, 4, (int64_t[]){1, 14, 13, c_in});
  Value *in[2] = {few_values(&c, x), few_weights(&c, w, 4, (int64_t[]){3, 3, c_in, c_out})};
  c.op = op_new(c.f, NULL, OP_CONV, 2, in, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_ints(c.op, A_CONV_pads, 4, (int64_t[]){pad, pad, 0, pad});
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  return c;
}

Test(lut, layers) {
  uint32_t integer = 0, all = 0;
  for (uint32_t x = 0; x < sizeof inputs / sizeof *inputs; x++)
    for (uint32_t w = 0; w < sizeof weights / sizeof *weights; w++, all += 2) {
      Few in = inputs[x], by = weights[w];
      for (uint32_t i = 0; i < 8; i++) {
        in.v[i] = (double)(float)in.v[i];
        by.v[i] = (double)(float)by.v[i];
      }
      Case c = conv_case(&in, &by, 32, 33, (int64_t)(w & 1), all + 1);
      const char *what = arena_printf(c.arena, "input %u weights %u", x, w);
      integer += !check_layer(&c, what);
      arena_free(c.arena);
      Case d = case_new(all + 7, DT_F32, 2, (int64_t[]){40, 70});
      Value *operands[2] = {few_values(&d, &in), few_weights(&d, &by, 2, (int64_t[]){70, 65})};
      d.op = op_new(d.f, NULL, OP_MATMUL, 2, operands, NULL);
      cr_assert(infer_op(d.op));
      integer += !check_layer(&d, what = arena_printf(d.arena, "matmul %u %u", x, w));
      arena_free(d.arena);
    }
  cr_assert(integer >= all / 4 && integer < all, "%u of %u layers became integer", integer, all);
}

// ---- products out of tables

static Value *byte_weights(Case *c, uint32_t values, uint32_t rank, const int64_t *dims) {
  const Type *t = type_tensor(c->m->types, DT_I8, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < type_count(t); i++)
    elem_set_i(bytes, DT_I8, i, values < 256 ? (int64_t)(rnd(c, values) * 37 % 256) - 128 : (int64_t)rnd(c, 256) - 128);
  return const_bytes(c->m, t, bytes, "w");
}

static Plan lut_plan(Case *c, const Target *t, bool *applies) {
  Plan plan = {0};
  *applies = false;
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    Price price;
    if (strcmp(s->name, "lut") != 0 || !s->applies(c->op, t)) continue;
    s->price(c->op, t, &price);
    plan = price.plan;
    *applies = true;
  }
  return plan;
}

static void check_lut(Case *c, const Target *t, bool native, const char *what) {
  Value *result = op_out(c->op, 0);
  bool applies;
  Plan plan = lut_plan(c, t, &applies);
  cr_assert(applies, "%s: lut does not apply", what);
  op_set_plan(c->op, &plan);
  func_set_results(c->f, 1, &result);
  Tensor x = tensor_new(c->arena, c->f->args[0]->type), want;
  for (int64_t i = 0; i < type_count(x.type); i++) ((uint8_t *)x.data)[i] = (uint8_t)rnd(c, 256);
  cr_assert(eval_func(c->f, &x, &want, c->arena, NULL, NULL), "%s: %s", what, diag_text(c->m->diag));
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(c->m, t, native ? PIPE_JIT : PIPE_KEVAL, &opt, &runner, c->arena, NULL), "%s: %s", what,
            diag_text(c->m->diag));
  int32_t *out = arena_alloc(c->arena, (size_t)type_bytes(result->type) + 64);
  const void *in[1] = {x.data};
  void *outs[1] = {out};
  memset(out, 0x5a, (size_t)type_bytes(result->type));
  cr_assert(native ? run_jit(c, t, in, outs) : run_keval(c, t, in, outs), "%s: %s", what, diag_text(c->m->diag));
  for (int64_t i = 0; i < type_count(result->type); i++)
    cr_assert(out[i] == ((int32_t *)want.data)[i], "%s: element %lld is %d, not %d", what, (long long)i, out[i],
              ((int32_t *)want.data)[i]);
  arena_free(c->arena);
}

typedef struct Shape {
  int64_t size, c, o, kernel, stride, pad, group;
} Shape;

static const Shape shapes[] = {{9, 16, 32, 3, 1, 1, 1}, {7, 5, 3, 3, 2, 1, 1}, {6, 33, 17, 1, 1, 0, 1},
                               {8, 4, 40, 2, 1, 0, 1},  {5, 1, 1, 5, 1, 2, 1}, {7, 12, 18, 3, 1, 0, 3}};

static Case lut_conv(const Shape *s, uint64_t seed) {
  DType x = seed % 2 ? DT_U8 : DT_I8;
  Case c = case_new(seed, x, 4, (int64_t[]){2, s->size, s->size + 1, s->c});
  Value *w = byte_weights(&c, seed % 3 ? 300 : 2 + (uint32_t)seed % 15, 4,
                          (int64_t[]){s->kernel, s->kernel, s->c / s->group, s->o});
  c.op = op_new(c.f, NULL, OP_CONV, 2, (Value *[]){c.f->args[0], w}, NULL);
  op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  op_set_int(c.op, A_CONV_x_zero, x == DT_U8 ? 131 : -3);
  op_set_int(c.op, A_CONV_group, s->group);
  op_set_ints(c.op, A_CONV_pads, 4, (int64_t[]){s->pad, s->pad, s->pad, s->pad});
  op_set_ints(c.op, A_CONV_strides, 2, (int64_t[]){s->stride, s->stride});
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  return c;
}

static Case lut_matmul(int64_t m, int64_t k, int64_t n, uint64_t seed) {
  Case c = case_new(seed, seed % 2 ? DT_I8 : DT_U8, 2, (int64_t[]){m, k});
  bool trans = seed % 4 < 2;
  Value *w =
      byte_weights(&c, seed % 3 ? 1 + (uint32_t)seed % 16 : 300, 2, trans ? (int64_t[]){n, k} : (int64_t[]){k, n});
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  op_set_int(c.op, A_MATMUL_x_zero, 7);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  return c;
}

// Every row this machine runs that has permutations; the invented one by the kernel interpreter.
Test(lut, tables) {
  const char *const rows[] = {NULL, "x86-64-v3", "x86-64-v4"};
  for (uint32_t r = 0; r < 3; r++) {
    const Target *t = rows[r] ? target_by_name(rows[r]) : &cpu;
    if (rows[r] != NULL && t->vector_bits > target_native()->vector_bits) continue;
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
      for (uint64_t seed = 1; seed <= 4; seed++) {
        Case c = lut_conv(&shapes[i], seed + i);
        check_lut(&c, t, rows[r] != NULL, arena_printf(c.arena, "row %u conv %u seed %d", r, i, (int)seed));
      }
    for (int64_t k = 1; k <= 130; k += 1 + k / 2)
      for (int64_t n = 1; n <= 70; n += 23) {
        Case c = lut_matmul(1 + (k + n) % 5, k, n, (uint64_t)(k + n));
        check_lut(&c, t, rows[r] != NULL, arena_printf(c.arena, "row %u k=%d n=%d", r, (int)k, (int)n));
      }
  }
}

// ---- floats out of a codebook

static Plan book_plan(const Case *c, const Target *t) {
  Plan plan = {0};
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    Price price;
    if (strcmp(s->name, "codebook") != 0) continue;
    cr_assert(s->applies(c->op, t), "a codebook does not apply");
    s->price(c->op, t, &price);
    plan = price.plan;
  }
  return plan;
}

static Value *book_weights(Case *c, uint32_t values, uint32_t rank, const int64_t *dims) {
  const Type *t = type_tensor(c->m->types, DT_F32, rank, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < type_count(t); i++) elem_set_f(bytes, DT_F32, i, 0.37 * (double)rnd(c, values) - 2.11);
  return const_bytes(c->m, t, bytes, "w");
}

Test(lut, codebooks) {
  const char *const rows[] = {NULL, "x86-64-v3", "x86-64-v4"};
  for (uint32_t r = 0; r < 3; r++) {
    const Target *t = rows[r] ? target_by_name(rows[r]) : &cpu;
    if (rows[r] != NULL && t->vector_bits > target_native()->vector_bits) continue;
    for (int64_t k = 1; k <= 130; k += 1 + k / 2)
      for (int64_t n = 1; n <= 70; n += 23) {
        Case c = case_new((uint64_t)(k + n), DT_F32, 2, (int64_t[]){1 + (k + n) % 5, k});
        bool trans = k % 2 == 0;
        Value *w = book_weights(&c, n % 2 ? 16 : 32, 2, trans ? (int64_t[]){n, k} : (int64_t[]){k, n});
        c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
        op_set_int(c.op, A_MATMUL_trans_b, trans);
        cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
        Plan plan = book_plan(&c, t);
        op_set_plan(c.op, &plan);
        case_check(&c, t, rows[r] ? PIPE_JIT : PIPE_KEVAL, rows[r] ? run_jit : run_keval, "codebook matmul");
      }
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
      const Shape *s = &shapes[i];
      Case c = case_new(i + 1, DT_F32, 4, (int64_t[]){2, s->size, s->size + 1, s->c});
      Value *w = book_weights(&c, 5 + 4 * i, 4, (int64_t[]){s->kernel, s->kernel, s->c / s->group, s->o});
      c.op = op_new(c.f, NULL, OP_CONV, 2, (Value *[]){c.f->args[0], w}, NULL);
      op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
      op_set_int(c.op, A_CONV_group, s->group);
      op_set_ints(c.op, A_CONV_pads, 4, (int64_t[]){s->pad, s->pad, s->pad, s->pad});
      op_set_ints(c.op, A_CONV_strides, 2, (int64_t[]){s->stride, s->stride});
      cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
      Plan plan = book_plan(&c, t);
      op_set_plan(c.op, &plan);
      case_check(&c, t, rows[r] ? PIPE_JIT : PIPE_KEVAL, rows[r] ? run_jit : run_keval, "codebook conv");
    }
  }
}

// ---- opened once

// `values` of a column, of which columns have other ones when `own`.
static Value *many_weights(Case *c, uint32_t values, bool own, const int64_t *dims, bool trans) {
  const Type *t = type_tensor(c->m->types, DT_F32, 2, dims);
  void *bytes = arena_alloc(c->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < type_count(t); i++) {
    double column = own ? 1.0 + (double)(trans ? i / dims[1] : i % dims[1]) / 64 : 1;
    elem_set_f(bytes, DT_F32, i, column * (0.37 * (double)rnd(c, values) - 2.11));
  }
  return const_bytes(c->m, t, bytes, "w");
}

static void check_once(const Target *t, bool jit, int64_t m, int64_t k, int64_t n, uint32_t values, bool own) {
  Case c = case_new((uint64_t)(k + n + values), DT_F32, 2, (int64_t[]){m, k});
  bool trans = (k + n) % 2 == 0;
  Value *w = many_weights(&c, values, own, trans ? (int64_t[]){n, k} : (int64_t[]){k, n}, trans);
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
  op_set_int(c.op, A_MATMUL_trans_b, trans);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  Codebook book;
  bool found = codebook_of(c.op, &book);
  if (k == 130 && n == 37 && (!own || values <= CODEBOOK_COLUMN)) {
    cr_assert(found, "no book for %u values", values);
    cr_assert(book.columns == own, "the wrong book for %u values", values);
    cr_assert(book.n <= values && book.bits <= 8);
  }
  if (!found && own && values * n > CODEBOOK_ALL) {
    arena_free(c.arena);
    return;
  }
  Plan plan = {.strategy = intern(c.m->names, "codebook")};
  plan_add(c.op, &plan, "once", 1);
  plan_add(c.op, &plan, "mr", 3);
  plan_add(c.op, &plan, "nv", 2);
  op_set_plan(c.op, &plan);
  case_check(&c, t, jit ? PIPE_JIT : PIPE_KEVAL, jit ? run_jit : run_keval, "codebook opened once");
}

Test(lut, codebooks_once) {
  static const uint32_t values[] = {1, 2, 3, 5, 8, 16, 17, 32, 60, 128, 256};
  static const int64_t ks[] = {1, 3, 9, 31, 64, 130}, ns[] = {1, 16, 37, 70};
  const char *const rows[] = {NULL, "x86-64-v3", "x86-64-v4"};
  for (uint32_t r = 0; r < 3; r++) {
    const Target *t = rows[r] ? target_by_name(rows[r]) : &cpu;
    if (rows[r] != NULL && t->vector_bits > target_native()->vector_bits) continue;
    for (size_t v = 0; v < sizeof values / sizeof *values; v++)
      for (size_t i = rows[r] ? v % 3 : 0; i < sizeof ks / sizeof *ks; i += rows[r] ? 3 : 1)
        for (size_t j = v % 2; j < sizeof ns / sizeof *ns; j += rows[r] ? 2 : 1)
          for (int own = 0; own < 2; own++)
            check_once(t, rows[r] != NULL, 1 + (int64_t)(v + i + j) % 9, ks[i], ns[j], values[v], own != 0);
  }
}

// ---- words of several floats

// Weights of a convolution, channels last, or of a matrix product (taps 1): words of d weights of a column, the taps of
// an input channel before the next channel.
static Value *word_weights(Case *c, int64_t taps, int64_t channels, int64_t columns, int64_t d, uint32_t words,
                           uint32_t rank, const int64_t *dims) {
  const Type *t = type_tensor(c->m->types, DT_F32, rank, dims);
  float *w = NEW_ARRAY(c->arena, float, type_count(t)), *book = NEW_ARRAY(c->arena, float, words *d);
  for (int64_t i = 0; i < words * d; i++) book[i] = (float)rnd(c, 1 << 20) / 1e6F - 0.5F;
  for (int64_t o = 0; o < columns; o++)
    for (int64_t b = 0; b < taps * channels / d; b++) {
      const float *word = book + (int64_t)rnd(c, words) * d;
      for (int64_t p = 0; p < d; p++) {
        int64_t f = b * d + p;
        w[(f % taps * channels + f / taps) * columns + o] = word[p];
      }
    }
  return const_bytes(c->m, t, w, "w");
}

static void check_words(const Target *t, bool jit, int64_t kernel, int64_t channels, int64_t columns, int64_t d,
                        uint32_t words) {
  bool conv = kernel > 0;
  int64_t taps = conv ? kernel * kernel : 1, conv_dims[4] = {kernel, kernel, channels, columns};
  Case c = conv ? case_new((uint64_t)(d + columns), DT_F32, 4, (int64_t[]){1, 6, 7, channels})
                : case_new((uint64_t)(d + columns), DT_F32, 2, (int64_t[]){5, channels});
  Value *w = word_weights(&c, taps, channels, columns, d, words, conv ? 4 : 2,
                          conv ? conv_dims : (int64_t[]){channels, columns});
  c.op = op_new(c.f, NULL, conv ? OP_CONV : OP_MATMUL, 2, (Value *[]){c.f->args[0], w}, NULL);
  if (conv) op_set_int(c.op, A_CONV_layout, LAYOUT_NHWC);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  Codebook book;
  cr_assert(codebook_of(c.op, &book), "no book");
  cr_assert(book.run == d && book.n <= words && book.bits == (book.n > 256 ? 16 : 8), "words of %u, %u of them",
            book.run, book.n);
  Plan plan = {.strategy = intern(c.m->names, "codebook")};
  plan_add(c.op, &plan, "once", 1);
  plan_add(c.op, &plan, "mr", 3);
  plan_add(c.op, &plan, "nv", 2);
  op_set_plan(c.op, &plan);
  case_check(&c, t, jit ? PIPE_JIT : PIPE_KEVAL, jit ? run_jit : run_keval, "codebook of words");
}

// Words of a channel, of two, of a part of one and of several without taps; more than a byte tells apart; tails.
Test(lut, words) {
  const char *const rows[] = {NULL, "x86-64-v3", "x86-64-v4"};
  for (uint32_t r = 0; r < 3; r++) {
    const Target *t = rows[r] ? target_by_name(rows[r]) : &cpu;
    if (rows[r] != NULL && t->vector_bits > target_native()->vector_bits) continue;
    check_words(t, rows[r] != NULL, 3, 16, 70, 9, 40);
    check_words(t, rows[r] != NULL, 3, 16, 64, 18, 40);
    check_words(t, rows[r] != NULL, 3, 32, 33, 3, 90);
    check_words(t, rows[r] != NULL, 1, 64, 48, 4, 70);
    check_words(t, rows[r] != NULL, 0, 128, 37, 8, 50);
    check_words(t, rows[r] != NULL, 0, 256, 150, 4, 300);
  }
}

// Different words of a column, counted from what was drawn: words of 4 weights in 30 blocks, column o has 1 + o of
// them.
Test(lut, words_met_again) {
  enum { D = 4, BLOCKS = 30, COLUMNS = 24 };
  Case c = case_new(1, DT_F32, 2, (int64_t[]){5, D * BLOCKS});
  const Type *t = type_tensor(c.m->types, DT_F32, 2, (int64_t[]){D * BLOCKS, COLUMNS});
  float *w = NEW_ARRAY(c.arena, float, D *BLOCKS *COLUMNS);
  for (int64_t o = 0; o < COLUMNS; o++)
    for (int64_t b = 0; b < BLOCKS; b++)
      for (int64_t p = 0; p < D; p++)
        w[(b * D + p) * COLUMNS + o] = (float)(b % (1 + o) * 7 + p * p) / 3 + (float)p / 7;
  c.op = op_new(c.f, NULL, OP_MATMUL, 2, (Value *[]){c.f->args[0], const_bytes(c.m, t, w, "w")}, NULL);
  cr_assert(infer_op(c.op), "%s", diag_text(c.m->diag));
  Codebook book;
  WordSharing s;
  cr_assert(codebook_of(c.op, &book) && book.run == D && book.n == COLUMNS, "%u words of %u", book.n, book.run);
  cr_assert(codebook_sharing(c.op, &book, &s));
  cr_assert_eq(s.blocks, BLOCKS);
  cr_assert_eq(s.sum, COLUMNS * (COLUMNS + 1) / 2);
  cr_assert_eq(s.most, COLUMNS);
  cr_assert_float_eq(s.mean, 12.5, 1e-12);
  arena_free(c.arena);
}

// "And the bit goes down": the published sizes of ResNet-18 from the shapes of its layers, codes of a byte (of two
// bytes for the last layer) and words of 16-bit floats. 1.54 MB and 29x with words of 9 weights, 1.03 MB and 43x
// with 18.
static double words_bytes(double weights, double d, double most, double code) {
  double blocks = weights / d, words = most;
  while (words > blocks / 4) words /= 2;  // the largest power of two below a quarter of the blocks
  return blocks * code + words * d * 2;
}

static double resnet18_bytes(double d3, double *floats) {
  static const double extent[] = {64, 128, 256, 512};
  double bytes = words_bytes(512000, 4, 2048, 2), channels = 64, norms = 64;
  *floats = 512000 + 1000 + 64 * 147;
  for (int stage = 0; stage < 4; stage++)
    for (int block = 0; block < 2; block++) {
      double o = extent[stage], first = 9 * channels * o, second = 9 * o * o;
      bytes += words_bytes(first, d3, 256, 1) + words_bytes(second, d3, 256, 1);
      *floats += first + second;
      norms += 2 * o;
      if (channels != o) {
        bytes += words_bytes(channels * o, 4, 256, 1);
        *floats += channels * o;
        norms += o;
      }
      channels = o;
    }
  *floats += 2 * norms;
  return bytes;
}

Test(lut, published_sizes) {
  double floats, small = resnet18_bytes(9, &floats), large = resnet18_bytes(18, &floats);
  cr_assert_float_eq(floats, 11689512, 0.5);
  cr_assert_float_eq(small / 1048576, 1.541, 5e-4);
  cr_assert_float_eq(4 * floats / small, 28.9, 0.05);
  cr_assert_float_eq(large / 1048576, 1.029, 5e-4);
  cr_assert_float_eq(4 * floats / large, 43.3, 0.05);
}
