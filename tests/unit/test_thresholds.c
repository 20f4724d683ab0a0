// Tails of integer sums become comparisons or one multiplication that give what the float network gives, at every sum,
// for batch norms of either sign, scales of zero, ties, each meaning of sign(0); NaN parameters are left alone.
#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ir/eval.h"
#include "ir/text.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/recover/levels.h"

enum { CHANNELS = 5, LENGTH = 37, ROWS = CHANNELS * (LENGTH + 1), TEXT = 16384 };

static uint32_t next(uint64_t *seed, uint32_t below) {
  *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*seed >> 33) % below;
}

typedef struct Text {
  char at[TEXT];
  size_t n;
  int values;  // %v0 .. were written
} Text;

static void put(Text *t, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  t->n += (size_t)vsnprintf(t->at + t->n, TEXT - t->n, fmt, args);
  va_end(args);
  cr_assert(t->n < TEXT);
}

typedef struct Case {
  uint64_t seed;
  bool ties, low_zero;  // scales are powers of two; the low input level is 0
  bool nan;             // one parameter is NaN
  bool residual;        // a quantised argument is added
  double sign[CHANNELS][LENGTH];
} Case;

static double scale_of(Case *c) {
  double v = c->ties ? ldexp(1, -(int)next(&c->seed, 5)) : 0.02 + next(&c->seed, 1000) * 0.0007;
  uint32_t kind = next(&c->seed, 8);
  return kind == 0 ? 0 : kind < 4 ? -v : v;
}

static double shift_of(Case *c) {
  double v = (double)next(&c->seed, 64) - 32;
  return c->ties ? v / 8 : v * 0.0711;
}

static void put_numbers(Text *t, const char *name, const double *v, int n, const char *dims) {
  put(t, "const @%s: f32%s = [", name, dims);
  for (int i = 0; i < n; i++) put(t, "%s%.9g", i ? ", " : "", v[i]);
  put(t, "]\n");
}

static void put_constants(Text *t, Case *c) {
  double w[CHANNELS * LENGTH], v[4][CHANNELS];
  for (int i = 0; i < CHANNELS; i++) {
    double a = c->ties ? ldexp(1, -(int)next(&c->seed, 4)) : 0.1 + next(&c->seed, 100) * 0.013;
    for (int k = 0; k < LENGTH; k++) {
      c->sign[i][k] = next(&c->seed, 2) ? 1 : -1;
      w[i * LENGTH + k] = a * c->sign[i][k];
    }
    v[0][i] = scale_of(c);
    v[1][i] = shift_of(c);
    v[2][i] = shift_of(c);
    v[3][i] = c->ties ? ldexp(1, 2 * (int)next(&c->seed, 3)) : 0.1 + next(&c->seed, 50) * 0.1;
  }
  if (c->nan) v[0][next(&c->seed, CHANNELS)] = NAN;
  char dims[32];
  snprintf(dims, sizeof dims, "[%d,%d]", CHANNELS, LENGTH);
  put_numbers(t, "w", w, CHANNELS * LENGTH, dims);
  snprintf(dims, sizeof dims, "[%d]", CHANNELS);
  put_numbers(t, "s", v[0], CHANNELS, dims);
  put_numbers(t, "b", v[1], CHANNELS, dims);
  put_numbers(t, "m", v[2], CHANNELS, dims);
  put_numbers(t, "v", v[3], CHANNELS, dims);
}

// %vN = OP %vN-1, OPERANDS : f32
static void step(Text *t, const char *op, const char *operands) {
  put(t, "  %%v%d = %s %%v%d%s : f32[%d,%d]\n", t->values + 1, op, t->values, operands, ROWS, CHANNELS);
  t->values++;
}

static void compare(Text *t, const char *op, double yes, double no) {
  put(t, "  %%c = %s %%v%d, f32(0.0) : bool[%d,%d]\n", op, t->values, ROWS, CHANNELS);
  put(t, "  %%v%d = select %%c, f32(%.1f), f32(%.1f) : f32[%d,%d]\n", t->values + 1, yes, no, ROWS, CHANNELS);
  t->values++;
}

static void put_scaling(Text *t, Case *c) {
  switch (next(&c->seed, 4)) {
    case 0: step(t, "batchnorm", ", @s, @b, @m, @v {epsilon = 0.0}"); break;
    case 1: step(t, "batchnorm", ", @s, @b, @m, @v"); break;
    case 2:
      step(t, "mul", ", @s");
      step(t, "add", ", @b");
      break;
    default: step(t, "sub", ", @m"); step(t, "mul", ", @s");
  }
}

enum { QUANTISERS = 9 };

static void put_quantiser(Text *t, uint32_t kind) {
  switch (kind) {
    case 0: compare(t, "greater_equal", 1, -1); break;
    case 1: compare(t, "greater", 1, -1); break;
    case 2: step(t, "sign", ""); break;
    case 3:
      step(t, "sign", "");
      step(t, "add", ", f32(0.1)");
      step(t, "sign", "");
      break;
    case 4:
      step(t, "clip", ", f32(0.0), f32(1.0)");
      step(t, "mul", ", f32(3.0)");
      step(t, "round", "");
      step(t, "div", ", f32(3.0)");
      break;
    case 5:
      step(t, "div", ", f32(0.25)");
      step(t, "round", "");
      step(t, "clip", ", f32(-7.0), f32(7.0)");
      step(t, "mul", ", f32(0.25)");
      break;
    case 6:
      step(t, "relu", "");
      step(t, "div", ", f32(0.131)");
      step(t, "clip", ", f32(0.0), f32(15.0)");
      step(t, "round", "");
      step(t, "mul", ", f32(0.131)");
      break;
    case 7:
      step(t, "mul", ", f32(4.0)");
      step(t, "add", ", f32(0.5)");
      step(t, "floor", "");
      step(t, "clip", ", f32(-2.0), f32(1.0)");
      break;
    default:
      step(t, "clip", ", f32(-1.0), f32(1.0)");
      step(t, "mul", ", f32(127.0)");
      step(t, "round", "");
      step(t, "div", ", f32(127.0)");
  }
}

static void put_module(Text *t, Case *c, uint32_t quantiser) {
  put_constants(t, c);
  put(t, "func @f(%%x: f32[%d,%d], %%y: f32[%d,%d]) -> f32[%d,%d] {\n", ROWS, LENGTH, ROWS, CHANNELS, ROWS, CHANNELS);
  put(t, "  %%o0 = round %%y : f32[%d,%d]\n", ROWS, CHANNELS);
  put(t, "  %%o1 = clip %%o0, f32(-2.0), f32(5.0) : f32[%d,%d]\n", ROWS, CHANNELS);
  put(t, "  %%o2 = mul %%o1, f32(%s) : f32[%d,%d]\n", c->ties ? "0.25" : "0.317", ROWS, CHANNELS);
  put(t, "  %%g = greater_equal %%x, f32(0.0) : bool[%d,%d]\n", ROWS, LENGTH);
  put(t, "  %%q = select %%g, f32(1.0), f32(%.1f) : f32[%d,%d]\n", c->low_zero ? 0.0 : -1.0, ROWS, LENGTH);
  put(t, "  %%v0 = matmul %%q, @w {trans_b = true} : f32[%d,%d]\n", ROWS, CHANNELS);
  put_scaling(t, c);
  if (c->residual) step(t, "add", ", %o2");
  put_quantiser(t, quantiser);
  put(t, "  return %%v%d\n}\n", t->values);
}

// For each channel one row per sum: the first elements agree with its weights, the others do not.
static void fill(const Case *c, float *x) {
  for (int row = 0; row < ROWS; row++)
    for (int k = 0; k < LENGTH; k++)
      x[row * LENGTH + k] = (float)((k < row % (LENGTH + 1) ? 1 : -1) * c->sign[row / (LENGTH + 1)][k]);
}

static bool has(const Func *f, OpKind kind) {
  for (const Op *op = f->first; op; op = op->next)
    if (op->kind == kind) return true;
  return false;
}

static void run_passes(Module *m, Arena *arena) {
  static const Target target = {.name = "any", .arch = "x86-64", .vector_bits = 512, .n_vregs = 32};
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  cr_assert(pipeline_run(m, &target, "infer,levels,dce", &opt, &run, arena, NULL));
}

static bool same(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

// Returns whether the float tail is gone.
static bool run(Case *c, uint32_t quantiser) {
  Arena *arena = arena_new("thresholds");
  Diag *diag = diag_new(arena, NULL);
  Text t = {.n = 0};
  put_module(&t, c, quantiser);
  Module *m = parse_module(arena, diag, "case", t.at, t.n);
  cr_assert(m != NULL, "%s", t.at);
  Tensor x[2], want, got;
  for (int i = 0; i < 2; i++) x[i] = tensor_new(arena, m->funcs.at[0]->args[i]->type);
  fill(c, x[0].data);
  for (int i = 0; i < ROWS * CHANNELS; i++) ((float *)x[1].data)[i] = (float)next(&c->seed, 800) / 100 - 2.5f;
  cr_assert(eval_func(m->funcs.at[0], x, &want, arena, NULL, NULL));
  run_passes(m, arena);
  Func *f = m->funcs.at[0];
  cr_assert(eval_func(f, x, &got, arena, NULL, NULL));
  for (int i = 0; i < ROWS * CHANNELS; i++)
    cr_assert(same(((float *)got.data)[i], ((float *)want.data)[i]), "element %d: %g, not %g\n%s", i,
              ((float *)got.data)[i], ((float *)want.data)[i], t.at);
  const Value *y = f->results[0];
  while (y->kind == VALUE_RESULT && (y->op->kind == OP_MUL || y->op->kind == OP_CAST)) y = op_in(y->op, 0);
  bool gone = !dtype_is_float(y->type->dtype);
  arena_free(arena);
  return gone;
}

static void check(Case *c, uint32_t quantiser, bool fires) {
  cr_assert(run(c, quantiser) == fires, "seed %llu, quantiser %u", (unsigned long long)c->seed, quantiser);
}

Test(thresholds, equal_the_float_network_at_every_sum) {
  for (uint64_t i = 0; i < 180; i++) {
    Case c = {.seed = i * 7919 + 1, .ties = i % 2 == 0, .low_zero = i / 2 % 2 == 0};
    check(&c, (uint32_t)(i % QUANTISERS), true);
  }
}

Test(thresholds, with_a_residual_part) {
  int gone = 0;
  for (uint64_t i = 0; i < 60; i++) {
    Case c = {.seed = i * 7919 + 1, .ties = i % 2 == 0, .low_zero = i / 2 % 2 == 0, .residual = true};
    gone += run(&c, (uint32_t)(4 + i % 3));
  }
  cr_assert(gone >= 20, "%d of 60 became integer", gone);
}

Test(thresholds, leave_nan_alone) {
  for (uint64_t i = 0; i < 20; i++) {
    Case c = {.seed = i * 104729 + 1, .nan = true};
    check(&c, 8, false);
  }
}

// A range too long to be run through: level boundaries by bisection.
enum { LONG_ROWS = 20000, LONG_RANGE = 3000000 };

static const char long_tail[] =
    "const @a: f64[3] = [0.0001, 0.00025, 0.5]\n"
    "const @s: f32[3] = [0.11, -0.37, 0.0]\n"
    "const @b: f32[3] = [3.0, 41.7, 5.3]\n"
    "const @m: f32[3] = [0.7, -2.5, 1.0]\n"
    "const @v: f32[3] = [0.6, 1.3, 2.0]\n"
    "func @f(%s: i32[20000,3]) -> f32[20000,3] {\n"
    "  %0 = cast %s : f64[20000,3]\n"
    "  %1 = mul %0, @a : f64[20000,3]\n"
    "  %2 = cast %1 : f32[20000,3]\n"
    "  %3 = batchnorm %2, @s, @b, @m, @v : f32[20000,3]\n"
    "  %4 = div %3, f32(STEP) : f32[20000,3]\n"
    "  %5 = round %4 : f32[20000,3]\n"
    "  %6 = clip %5, f32(0.0), f32(MOST) : f32[20000,3]\n"
    "  %7 = mul %6, f32(STEP) : f32[20000,3]\n"
    "  %8 = neg %7 : f32[20000,3]\n"
    "  %9 = expand %8 : f32[20000,3]\n"
    "  return %9\n"
    "}\n";

static Op *op_number(Func *f, int n) {
  Op *op = f->first;
  while (n-- > 0) op = op->next;
  return op;
}

// Sums next to where the levels change, and some anywhere.
static void fill_long(int32_t *s, uint64_t *seed, const int32_t *near, int n_near) {
  for (int i = 0; i < LONG_ROWS * 3; i++) {
    int32_t any = (int32_t)next(seed, 2 * LONG_RANGE + 1) - LONG_RANGE;
    s[i] = n_near > 0 && next(seed, 4) ? near[next(seed, (uint32_t)n_near)] + (int32_t)next(seed, 5) - 2 : any;
    if (s[i] > LONG_RANGE) s[i] = LONG_RANGE;
    if (s[i] < -LONG_RANGE) s[i] = -LONG_RANGE;
  }
}

static int32_t *boundaries_by_hand(Func *f, Arena *arena, int *n) {
  int32_t *found = NEW_ARRAY(arena, int32_t, 1000);
  Arena *scratch = arena_new("scratch");
  Tensor x = tensor_new(arena, f->args[0]->type), y;
  *n = 0;
  for (int64_t from = -LONG_RANGE; from <= LONG_RANGE; from += LONG_ROWS - 1) {
    for (int64_t i = 0; i < LONG_ROWS * 3; i++) ((int32_t *)x.data)[i] = (int32_t)(from + i / 3);
    arena_clear(scratch);
    cr_assert(eval_func(f, &x, &y, scratch, NULL, NULL));
    for (int64_t i = 3; i < LONG_ROWS * 3 && *n < 1000; i++)
      if (((float *)y.data)[i] != ((float *)y.data)[i - 3]) found[(*n)++] = (int32_t)(from + i / 3);
  }
  arena_free(scratch);
  return found;
}

static void put_long(Text *t, const char *step_size, const char *most) {
  for (const char *p = long_tail; *p; p++) {
    bool is_step = strncmp(p, "STEP", 4) == 0, is_most = strncmp(p, "MOST", 4) == 0;
    if (is_step || is_most) {
      put(t, "%s", is_step ? step_size : most);
      p += 3;
    } else {
      put(t, "%c", *p);
    }
  }
}

// levels: of the result; float_code: the reference expression stays.
static void check_long(const char *step_size, const char *most, int64_t levels, bool float_code) {
  Arena *arena = arena_new("thresholds");
  Text t = {.n = 0};
  put_long(&t, step_size, most);
  Module *m = parse_module(arena, diag_new(arena, NULL), "case", t.at, t.n);
  cr_assert(m != NULL);
  Func *f = m->funcs.at[0];
  PassOptions opt = pass_options_default();
  PassCtx ctx = {.m = m, .diag = m->diag, .arena = arena_new("pass"), .opt = &opt, .args = ""};
  Sum s = {.sum = f->args[0], .value = op_number(f, 2)->out[0], .lo = -LONG_RANGE, .hi = LONG_RANGE, .channels = 3};
  s.axis = 1;
  for (int i = 0; i < 3; i++) s.scale[s.n_scale++] = op_number(f, i);
  int n;
  int32_t *near = boundaries_by_hand(f, arena, &n);
  cr_assert(n > levels && n < 1000, "%d boundaries", n);
  Tensor x = tensor_new(arena, f->args[0]->type), want, got;
  uint64_t seed = 5;
  fill_long(x.data, &seed, near, n);
  cr_assert(eval_func(f, &x, &want, arena, NULL, NULL));
  Discrete d;
  Value *value;
  cr_assert(levels_threshold(&ctx, &s, &d, &value));
  Discrete other;
  Value *second;
  cr_assert(!levels_threshold(&ctx, &s, &other, &second));
  cr_assert(d.lo == 1 - levels && d.hi == 0);
  func_set_result(f, 0, value);
  graph_drop_dead(f);
  cr_assert(has(f, OP_BATCHNORM) == float_code);
  cr_assert(eval_func(f, &x, &got, arena, NULL, NULL));
  for (int i = 0; i < LONG_ROWS * 3; i++)
    cr_assert(((float *)got.data)[i] == ((float *)want.data)[i], "sum %d of channel %d: %g, not %g",
              ((int32_t *)x.data)[i], i % 3, ((float *)got.data)[i], ((float *)want.data)[i]);
  arena_free(ctx.arena);
  arena_free(arena);
}

Test(thresholds, by_bisection) {
  check_long("7.0", "9.0", 10, false);
  check_long("0.7", "100.0", 101, true);
}
