// The math library of compiled code (passes/kernel/expand.c): every function over all exponents against the C library,
// run by the kernel interpreter, with a limit in units of the last place; and compiled code against the interpreter,
// bit for bit. f32 results are measured against double, f64 results against long double.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/kbuild.h"
#include "ir/keval.h"
#include "passes/pass.h"
#include "tests/support/emit_case.h"

PassResult pass_expand(PassCtx *ctx);
PassResult pass_vectorize(PassCtx *ctx);
PassResult pass_unroll(PassCtx *ctx);

typedef long double Real;

#define BLOCK 4096
#define SAMPLES_F32 (1 << 20)
#define SAMPLES_F64 (1 << 17)

// ---- references

static Real sigmoid_ref(Real x) { return x >= 0 ? 1 / (1 + expl(-x)) : expl(x) / (1 + expl(x)); }
static Real softplus_ref(Real x) { return isnan(x) ? x : fmaxl(x, 0) + log1pl(expl(-fabsl(x))); }
static Real softsign_ref(Real x) { return isinf(x) ? copysignl(1, x) : x / (1 + fabsl(x)); }
static Real mish_ref(Real x) {
  if (x > 60) return x;
  Real e = expl(x), n = e * (e + 2);
  return x == -INFINITY ? 0 : x * (n / (n + 2));
}
static Real gelu_ref(Real x) {
  return x == -INFINITY ? 0 : x * (0.5L * erfcl(-x * 0.70710678118654752440084436210485L));
}
static Real gelu_tanh_ref(Real x) {
  Real u = 0.79788456080286535587989211986876374L * (x + 0.044715L * x * x * x);
  return x == -INFINITY ? 0 : x * sigmoid_ref(2 * u);
}
static Real hard_swish_ref(Real x) { return x == -INFINITY ? 0 : x * fmaxl(0, fminl(1, x / 6 + 0.5L)); }
static Real elu_ref(Real x) { return x < 0 ? expm1l(x) : x; }
static Real celu_ref(Real x) { return x < 0 ? 0.75L * expm1l(x / 0.75L) : x; }
static Real selu_ref(Real x) { return 1.5L * (x < 0 ? 1.25L * expm1l(x) : x); }
static Real silu_ref(Real x) { return x == -INFINITY ? 0 : x * sigmoid_ref(x); }
static Real swish_ref(Real x) { return x == -INFINITY ? 0 : x * sigmoid_ref(1.75L * x); }
static Real recip_ref(Real x) { return 1 / x; }
static Real sign_ref(Real x) { return isnan(x) ? x : (x > 0) - (x < 0); }
static Real relu_ref(Real x) { return x <= 0 ? 0 : x; }

typedef struct Function {
  KOp op;
  Real (*ref)(Real);
  double args[2];  // constant operands after the first
  double gate;     // ULP, f32 and f64
  int monotone;    // f32: 1 rising, -1 falling
} Function;

static const Function functions[] = {
    {KOP_EXP, expl, {0}, 1.1, 1},
    {KOP_LOG, logl, {0}, 1.1, 1},
    {KOP_SIN, sinl, {0}, 2, 0},
    {KOP_COS, cosl, {0}, 2, 0},
    {KOP_TAN, tanl, {0}, 3, 0},
    {KOP_ASIN, asinl, {0}, 2, 1},
    {KOP_ACOS, acosl, {0}, 2, -1},
    {KOP_ATAN, atanl, {0}, 2, 1},
    {KOP_SINH, sinhl, {0}, 2.5, 1},
    {KOP_COSH, coshl, {0}, 2, 0},
    {KOP_TANH, tanhl, {0}, 2, 1},
    {KOP_ASINH, asinhl, {0}, 2, 1},
    {KOP_ACOSH, acoshl, {0}, 2, 1},
    {KOP_ATANH, atanhl, {0}, 2, 1},
    {KOP_ERF, erfl, {0}, 2, 1},
    {KOP_SIGMOID, sigmoid_ref, {0}, 2, 1},
    {KOP_SOFTPLUS, softplus_ref, {0}, 4, 1},
    {KOP_SOFTSIGN, softsign_ref, {0}, 2, 0},
    {KOP_MISH, mish_ref, {0}, 4, 0},
    {KOP_GELU, gelu_ref, {0}, 4, 0},
    {KOP_GELU_TANH, gelu_tanh_ref, {0}, 4, 0},
    {KOP_HARD_SWISH, hard_swish_ref, {0}, 3, 0},
    {KOP_ELU, elu_ref, {1}, 2, 1},
    {KOP_CELU, celu_ref, {0.75}, 2.5, 1},
    {KOP_SELU, selu_ref, {1.25, 1.5}, 2, 1},
    {KOP_SWISH, silu_ref, {1}, 4, 0},
    {KOP_SWISH, swish_ref, {1.75}, 4, 0},
    {KOP_RECIP, recip_ref, {0}, 0.5, 0},
    {KOP_SIGN, sign_ref, {0}, 0, 1},
    {KOP_RELU, relu_ref, {0}, 0, 1},
};
#define N_FUNCTIONS (sizeof functions / sizeof *functions)

// ---- one kernel per function: o[i] = op(x[i], arguments)

static Module *new_module(Arena *arena) {
  Module *m = module_new(arena, diag_new(arena, stderr));
  m->program = program_new(m);
  return m;
}

static KExpr *call(KBuild *b, KOp op, KExpr *const *a) {
  uint32_t n = kop_info(op)->arity;
  return n == 1 ? kx_op1(b, op, a[0]) : n == 2 ? kx_op2(b, op, a[0], a[1]) : kx_op3(b, op, a[0], a[1], a[2]);
}

static Kernel *unary_kernel(Module *m, const Function *f, DType t, int64_t n) {
  KBuild b;
  kbuild_init(&b, m, kop_info(f->op)->name, NULL);
  KBuf *x = kb_param(&b, "x", t, 1, &n, SPACE_ARG), *y = kb_param(&b, "o", t, 1, &n, SPACE_ARG);
  KVar *i = kb_for(&b, "i", 0, n, 1, FOR_VEC);
  KExpr *a[3] = {kx_load1(&b, x, aff_var(i)), kx_f(&b, t, f->args[0]), kx_f(&b, t, f->args[1])};
  kb_store1(&b, y, aff_var(i), call(&b, f->op, a));
  kb_end(&b);
  return program_kernel(m->program, kbuild_done(&b));
}

static Kernel *binary_kernel(Module *m, KOp op, DType t, int64_t n) {
  KBuild b;
  kbuild_init(&b, m, kop_info(op)->name, NULL);
  KBuf *x = kb_param(&b, "x", t, 1, &n, SPACE_ARG), *z = kb_param(&b, "z", t, 1, &n, SPACE_ARG);
  KBuf *y = kb_param(&b, "o", t, 1, &n, SPACE_ARG);
  KVar *i = kb_for(&b, "i", 0, n, 1, FOR_VEC);
  kb_store1(&b, y, aff_var(i), kx_op2(&b, op, kx_load1(&b, x, aff_var(i)), kx_load1(&b, z, aff_var(i))));
  kb_end(&b);
  return program_kernel(m->program, kbuild_done(&b));
}

static void expand(Module *m) {
  PassCtx ctx = {.m = m, .arena = m->arena, .diag = m->diag, .args = ""};
  cr_assert_eq(pass_expand(&ctx), PASS_CHANGED);
}

// ---- samples and errors

static uint64_t next_random(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

// Exponents in turn, every second time one near 1; subnormals, infinities and NaN included.
static float sample_f32(uint64_t *s, uint32_t i) {
  uint64_t r = next_random(s);
  uint32_t exponent = i & 1 ? 107 + (i >> 1) % 30 : (i >> 1) % 256;
  uint32_t bits = (uint32_t)(r & 0x807fffff) | exponent << 23;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static double sample_f64(uint64_t *s, uint32_t i) {
  uint64_t r = next_random(s), exponent = i & 1 ? 993 + (i >> 1) % 43 : (i >> 1) % 2048;
  uint64_t bits = (r & UINT64_C(0x800fffffffffffff)) | exponent << 52;
  double v;
  memcpy(&v, &bits, 8);
  return v;
}

static Real ulp(Real r, bool single) {
  int e, lowest = single ? -125 : -1021, highest = single ? 128 : 1024;
  frexpl(r, &e);
  if (r == 0 || e < lowest) e = lowest;
  if (e > highest) e = highest;
  return ldexpl(1, e - (single ? 24 : 53));
}

// Overflow counts as the first power of two that does not fit; agreeing NaNs and infinities as no error.
static Real error_ulp(Real got, Real want, bool single) {
  if (isnan(got) || isnan(want)) return isnan(got) && isnan(want) ? 0 : INFINITY;
  Real top = single ? 0x1p128L : 0x1p1024L;
  got = fminl(fmaxl(got, -top), top);
  want = fminl(fmaxl(want, -top), top);
  return fabsl(got - want) / ulp(want, single);
}

typedef struct Worst {
  Real error;
  double at, at2;
} Worst;

static void worse(Worst *w, Real error, double x, double y) {
  if (error > w->error) *w = (Worst){error, x, y};
}

static void check_f32(const Function *f) {
  static float x[BLOCK], y[BLOCK];
  Arena *arena = arena_new("test");
  Module *m = new_module(arena);
  Kernel *k = unary_kernel(m, f, DT_F32, BLOCK);
  expand(m);
  uint64_t seed = 88172645463325252u;
  Worst w = {0, 0, 0};
  uint32_t turns = 0;
  for (uint32_t done = 0; done < SAMPLES_F32; done += BLOCK) {
    for (uint32_t i = 0; i < BLOCK; i += 2) {
      x[i] = sample_f32(&seed, (done + i) / 2);
      x[i + 1] = nextafterf(x[i], INFINITY);
    }
    cr_assert(keval_kernel(m, k, (void *[]){x, y}));
    for (uint32_t i = 0; i < BLOCK; i++) {
      double v[3] = {x[i], f->args[0], f->args[1]};
      worse(&w, error_ulp(y[i], kop_eval_f(f->op, v), true), x[i], y[i]);
      turns += i % 2 && (f->monotone > 0 ? y[i] < y[i - 1] : f->monotone < 0 && y[i] > y[i - 1]);
    }
  }
  cr_expect(w.error <= f->gate, "%s f32: %.3Lf ULP at %a (%a), limit %g", kop_info(f->op)->name, w.error, w.at, w.at2,
            f->gate);
  cr_expect_eq(turns, 0, "%s f32: not monotone in %u places", kop_info(f->op)->name, turns);
  cr_log_info("%s f32: %.3Lf ULP at %a", kop_info(f->op)->name, w.error, w.at);
  arena_free(arena);
}

static void check_f64(const Function *f) {
  static double x[BLOCK], y[BLOCK];
  static const double known[] = {
      0,         -0.0,  INFINITY, -INFINITY, NAN,    1,     -1,   0.5,
      0x1p-1074, 710.5, -745.1,   -745.2,    709.78, 1e308, -2.0, 6381956970095103.0 * 0x1p797};
  Arena *arena = arena_new("test");
  Module *m = new_module(arena);
  Kernel *k = unary_kernel(m, f, DT_F64, BLOCK);
  expand(m);
  uint64_t seed = 88172645463325252u;
  Worst w = {0, 0, 0};
  for (uint32_t done = 0; done < SAMPLES_F64; done += BLOCK) {
    for (uint32_t i = 0; i < BLOCK; i++) x[i] = sample_f64(&seed, done + i);
    if (!done) memcpy(x, known, sizeof known);
    cr_assert(keval_kernel(m, k, (void *[]){x, y}));
    for (uint32_t i = 0; i < BLOCK; i++) worse(&w, error_ulp(y[i], f->ref(x[i]), false), x[i], y[i]);
  }
  double gate = f->gate < 1 ? f->gate : f->gate < 3 ? 3 : 4;
  cr_expect(w.error <= gate, "%s f64: %.3Lf ULP at %a (%a), limit %g", kop_info(f->op)->name, w.error, w.at, w.at2,
            gate);
  cr_log_info("%s f64: %.3Lf ULP at %a", kop_info(f->op)->name, w.error, w.at);
  arena_free(arena);
}

Test(math, f32, .timeout = 600) {
  for (uint32_t i = 0; i < N_FUNCTIONS; i++) check_f32(&functions[i]);
}

Test(math, f64, .timeout = 600) {
  for (uint32_t i = 0; i < N_FUNCTIONS; i++) check_f64(&functions[i]);
}

// ---- two operands

// x and an exponent such that the power mostly stays in range; every fourth pair is arbitrary, some x are negative.
static void sample_pow(uint64_t *s, uint32_t i, float *x, float *z) {
  *x = sample_f32(s, i);
  *z = sample_f32(s, i * 7 + 3);
  if (i % 4 == 0) return;
  *x = ldexpf(1 + (float)(next_random(s) >> 41) * 0x1p-23f, (int)(i % 200) - 100);
  double l = log2(*x);
  if (l != 0) *z = (float)(((double)(next_random(s) % 30000) / 100 - 150) / l);
  if (i % 4 == 1) *x = -*x, *z = rintf(*z);
}

static double mod_ref(double a, double b) { return kop_eval_f(KOP_MOD, (double[]){a, b}); }

static void check_binary(KOp op, double (*ref)(double, double), double gate) {
  static float x[BLOCK], z[BLOCK], y[BLOCK];
  static const float known[] = {0, -0.0f,    1,         -1,  2,         -2,    0.5f,   -0.5f,
                                3, INFINITY, -INFINITY, NAN, 0x1p-149f, 3e38f, -3e38f, 1e9f};
  enum { KNOWN = sizeof known / sizeof *known };
  Arena *arena = arena_new("test");
  Module *m = new_module(arena);
  Kernel *k = binary_kernel(m, op, DT_F32, BLOCK);
  expand(m);
  uint64_t seed = 88172645463325252u;
  Worst w = {0, 0, 0};
  for (uint32_t done = 0; done < SAMPLES_F32 / 4; done += BLOCK) {
    for (uint32_t i = 0; i < BLOCK; i++) sample_pow(&seed, done + i, &x[i], &z[i]);
    for (uint32_t i = 0; !done && i < KNOWN * KNOWN; i++) x[i] = known[i / KNOWN], z[i] = known[i % KNOWN];
    cr_assert(keval_kernel(m, k, (void *[]){x, z, y}));
    for (uint32_t i = 0; i < BLOCK; i++) {
      double want = ref(x[i], z[i]);
      worse(&w, error_ulp(y[i], want, true), x[i], z[i]);
      if (want == 0 && y[i] == 0)
        cr_expect_eq(!signbit(want), !signbit(y[i]), "%s(%a, %a) = %a", kop_info(op)->name, x[i], z[i], y[i]);
    }
  }
  cr_expect(w.error <= gate, "%s: %.3Lf ULP at %a, %a", kop_info(op)->name, w.error, w.at, w.at2);
  arena_free(arena);
}

Test(math, binary, .timeout = 600) {
  check_binary(KOP_POW, pow, 1);
  check_binary(KOP_FMOD, fmod, 0);
  check_binary(KOP_MOD, mod_ref, 0.5);
}

static void check_binary_f64(KOp op, Real (*ref)(Real, Real), double gate) {
  static double x[BLOCK], z[BLOCK], y[BLOCK];
  Arena *arena = arena_new("test");
  Module *m = new_module(arena);
  Kernel *k = binary_kernel(m, op, DT_F64, BLOCK);
  expand(m);
  uint64_t seed = 88172645463325252u;
  Worst w = {0, 0, 0};
  for (uint32_t done = 0; done < SAMPLES_F64 / 2; done += BLOCK) {
    for (uint32_t i = 0; i < BLOCK; i++) {
      x[i] = fabs(sample_f64(&seed, done + i));
      double l = log2(x[i]);
      z[i] = (done + i) % 2 && isfinite(l) && l != 0 ? ((double)(next_random(&seed) % 2100000) / 1000 - 1050) / l
                                                     : sample_f64(&seed, i * 7);
    }
    cr_assert(keval_kernel(m, k, (void *[]){x, z, y}));
    for (uint32_t i = 0; i < BLOCK; i++) worse(&w, error_ulp(y[i], ref(x[i], z[i]), false), x[i], z[i]);
  }
  cr_expect(w.error <= gate, "%s f64: %.3Lf ULP at %a, %a", kop_info(op)->name, w.error, w.at, w.at2);
  arena_free(arena);
}

Test(math, binary_f64, .timeout = 600) {
  check_binary_f64(KOP_POW, powl, 3);
  check_binary_f64(KOP_FMOD, fmodl, 0);
}

// ---- compiled code

static void check_compiled(const Target *target, DType t) {
  Arena *arena = arena_new("test");
  Module *m = new_module(arena);
  for (uint32_t i = 0; i < N_FUNCTIONS; i++) unary_kernel(m, &functions[i], t, 61);
  binary_kernel(m, KOP_POW, t, 61);
  binary_kernel(m, KOP_MOD, t, 61);
  PassCtx ctx = {.m = m, .arena = arena_new("pass"), .diag = m->diag, .target = target, .args = ""};
  pass_expand(&ctx);
  pass_vectorize(&ctx);
  pass_unroll(&ctx);
  emit_case_steps(m);
  EmitCase c = {.target = target, .rounds = 50};
  if (!target->has_fma) c.tolerance = t == DT_F32 ? 2e-6 : 4e-15;  // products are rounded before they are added
  cr_expect_eq(emit_case_run(m, &c), 0, "%s on %s", dtype_info(t)->name, target->name);
  arena_free(ctx.arena);
  arena_free(arena);
}

Test(math, compiled, .timeout = 600) {
  for (uint32_t i = 0; i < target_count(); i++) {
    if (!target_runs_here(target_at(i))) continue;
    check_compiled(target_at(i), DT_F32);
    check_compiled(target_at(i), DT_F64);
  }
}
