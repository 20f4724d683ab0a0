// What the processor can do, through kernels of our own: register tiles without memory for the arithmetic, a walk over
// buffers of four sizes for the reads, a chain of dependent xors and additions for the clock. Numbers are the best of
// many short samples, so that neighbours on the machine cost little.
#include <math.h>
#include <string.h>

#include "frontend/driver/bench.h"

enum { ROUNDS = 4000, CHAIN = 64, READ_UNROLL = 16 };

typedef struct Text {
  StrBuf b, calls;
  const Target *t;
  int64_t accs;
} Text;

static const int64_t dram_bytes = INT64_C(192) << 20;

static int64_t level_bytes(const Target *t, int level) {
  int64_t at[4] = {t->l1_bytes / 2, t->l2_bytes / 2, t->l3_bytes ? t->l3_bytes / 4 : t->l2_bytes * 4, dram_bytes};
  int64_t line = t->vector_bits / 8 * READ_UNROLL;
  return at[level] / line * line;
}

// for all sums: acc = EXPR(acc); operands are loaded once. `name` is the kernel and its inputs are %x and %y.
static void arithmetic(Text *t, const char *name, const char *type, const char *x, const char *y, int64_t lanes,
                       const char *expr) {
  strbuf_printf(&t->b, "kernel @%s(%%o: %s[%lld,%lld] arg, %%x: %s[%lld] arg, %%y: %s[%lld] arg) noalias {\n", name,
                type, (long long)t->accs, (long long)lanes, x, (long long)lanes, y, (long long)lanes);
  strbuf_printf(&t->b, "  %%a = alloc %s[%lld,%lld] reg\n", type, (long long)t->accs, (long long)lanes);
  for (int part = 0; part < 3; part++) {
    const char *to = part == 2 ? "%o[%i, %l]" : "%a[%i, %l]";
    const char *from = part == 0 ? "load %o[%i, %l]" : part == 1 ? expr : "load %a[%i, %l]";
    if (part == 1) strbuf_printf(&t->b, "  for %%r in 0..%d seq {\n", ROUNDS);
    strbuf_printf(&t->b,
                  "  for %%i in 0..%lld unroll {\n    for %%l in 0..%lld vec {\n      store %s, %s\n    }\n  }\n",
                  (long long)t->accs, (long long)lanes, to, from);
    if (part == 1) strbuf_puts(&t->b, "  }\n");
  }
  strbuf_puts(&t->b, "}\n");
  strbuf_printf(&t->calls, "  work %%o_%s: %s[%lld,%lld] at 0\n", name, type, (long long)t->accs, (long long)lanes);
  strbuf_printf(&t->calls, "  work %%x_%s: %s[%lld] at 8192\n  work %%y_%s: %s[%lld] at 12288\n", name, x,
                (long long)lanes, name, y, (long long)lanes);
}

static void clock_chain(Text *t) {
  strbuf_printf(&t->b,
                "kernel @clock(%%o: i64[1] arg, %%x: i64[1] arg) noalias {\n  %%a = alloc i64[1] reg\n"
                "  store %%a[0], load %%o[0]\n  for %%r in 0..%d seq {\n    for %%i in 0..%d unroll {\n"
                "      store %%a[0], add(xor(load %%a[0], load %%x[0]), load %%x[0])\n    }\n  }\n  store %%o[0], load "
                "%%a[0]\n}\n",
                ROUNDS, CHAIN);
  strbuf_puts(&t->b, "kernel @nothing(%o: i64[1] arg, %x: i64[1] arg) noalias {\n  store %o[0], load %x[0]\n}\n");
  strbuf_puts(&t->calls, "  work %one: i64[1] at 0\n  work %other: i64[1] at 64\n");
}

// Walks over a level at a time: small ones are read again and again, so that the call is lost in them.
static int64_t walks(const Target *t, int level) {
  int64_t n = (INT64_C(2) << 20) / level_bytes(t, level);
  return n > 1 ? n : 1;
}

static void reading(Text *t, int level) {
  int64_t lanes = t->t->vector_bits / 64, n = level_bytes(t->t, level) / 8;
  strbuf_printf(&t->b, "kernel @read%d(%%o: i64[%lld] arg, %%x: i64[%lld] arg) noalias {\n", level, (long long)lanes,
                (long long)n);
  strbuf_printf(&t->b, "  %%a = alloc i64[%d,%lld] reg\n", READ_UNROLL, (long long)lanes);
  strbuf_printf(
      &t->b,
      "  for %%u in 0..%d unroll {\n    for %%l in 0..%lld vec {\n      store %%a[%%u, %%l], load %%o[%%l]\n"
      "    }\n  }\n  for %%r in 0..%lld seq {\n  for %%k in 0..%lld step %lld seq {\n    for %%u in 0..%d unroll {\n"
      "      for %%l in 0..%lld vec {\n        store %%a[%%u, %%l], xor(load %%a[%%u, %%l], load "
      "%%x[%%k+%lld*%%u+%%l])\n      }\n    }\n  }\n  }\n",
      READ_UNROLL, (long long)lanes, (long long)walks(t->t, level), (long long)n, (long long)(READ_UNROLL * lanes),
      READ_UNROLL, (long long)lanes, (long long)lanes);
  strbuf_printf(&t->b,
                "  for %%u in 0..%d unroll {\n    for %%l in 0..%lld vec {\n      store %%o[%%l], xor(load %%o[%%l], "
                "load %%a[%%u, %%l])\n    }\n  }\n}\n",
                READ_UNROLL, (long long)lanes);
  strbuf_printf(&t->calls, "  work %%s%d: i64[%lld] at 0\n  work %%m%d: i64[%lld] at 4096\n", level, (long long)lanes,
                level, (long long)n);
}

enum { STEP_FMA, STEP_DOT4, STEP_POPCNT, STEP_CLOCK, STEP_NOTHING, STEP_READ };

static const char *roof_text(Arena *arena, const Target *t) {
  Text x = {.t = t, .accs = t->n_vregs >= 32 ? 24 : 12};
  strbuf_init(&x.b, arena);
  strbuf_init(&x.calls, arena);
  int64_t words = t->vector_bits / 64, floats = t->vector_bits / 32;
  arithmetic(&x, "fma", "f32", "f32", "f32", floats, "fma(load %x[%l], load %y[%l], load %a[%i, %l])");
  arithmetic(&x, "dot4", "i32", "u8x4", "i8x4", floats, "dot4(load %a[%i, %l], load %x[%l], load %y[%l])");
  arithmetic(&x, "popcnt", "i64", "i64", "i64", words,
             "add(load %a[%i, %l], popcnt(xor(load %a[%i, %l], load %x[%l])))");
  clock_chain(&x);
  for (int level = 0; level < 4; level++) reading(&x, level);
  strbuf_printf(&x.b, "program {\n  workspace %lld\n  input 0 %%in: f32[1]\n  output 0 %%out: f32[1]\n",
                (long long)(dram_bytes + 65536));
  strbuf_puts(&x.b, strbuf_str(&x.calls));
  strbuf_puts(&x.b,
              "  call @fma(%o_fma, %x_fma, %y_fma)\n  call @dot4(%o_dot4, %x_dot4, %y_dot4)\n"
              "  call @popcnt(%o_popcnt, %x_popcnt, %y_popcnt)\n  call @clock(%one, %other)\n"
              "  call @nothing(%one, %other)\n");
  for (int level = 0; level < 4; level++) strbuf_printf(&x.b, "  call @read%d(%%s%d, %%m%d)\n", level, level, level);
  strbuf_puts(&x.b, "}\n");
  return strbuf_str(&x.b);
}

// One round of all; the best of some rounds is kept, so that a busy moment does not lower a limit.
static void measure_round(const Bench *b, const Target *t, Roofs *r) {
  double ops = (double)ROUNDS * (t->n_vregs >= 32 ? 24 : 12);
  r->hz = fmax(r->hz, 2.0 * ROUNDS * CHAIN / bench_step(b, STEP_CLOCK));
  r->fma = fmax(r->fma, roof_fma_now(b, t));
  r->dot4 = fmax(r->dot4, ops / bench_step(b, STEP_DOT4));
  r->popcnt = fmax(r->popcnt, ops / bench_step(b, STEP_POPCNT));
  r->call = fmin(r->call, bench_step(b, STEP_NOTHING));
  for (int level = 0; level < 4; level++)
    r->bytes[level] = fmax(r->bytes[level], (double)walks(t, level) * (double)level_bytes(t, level) /
                                                bench_step(b, (uint32_t)(STEP_READ + level)));
  r->loads = r->bytes[0] / (t->vector_bits / 8.0);
}

bool roof_open(const Session *s, Bench *b) {
  BenchSpec spec = {.text = roof_text(s->arena, s->target), .lowered = true};
  return bench_open(b, s, &spec);
}

double roof_fma_now(const Bench *b, const Target *t) {
  return (double)ROUNDS * (t->n_vregs >= 32 ? 24 : 12) / bench_step(b, STEP_FMA);
}

bool roofs_measure(const Session *s, Roofs *r) {
  enum { MEASURED = 4 };
  Bench b;
  bool ok = roof_open(s, &b);
  *r = (Roofs){.call = 1};
  for (int i = 0; ok && i < MEASURED; i++) measure_round(&b, s->target, r);
  bench_close(&b);
  return ok;
}

double roofs_bandwidth(const Roofs *r, const Target *t, double bytes) {
  if (bytes <= t->l1_bytes) return r->bytes[0];
  if (bytes <= t->l2_bytes) return r->bytes[1];
  return bytes <= t->l3_bytes ? r->bytes[2] : r->bytes[3];
}

double roof_float(const Roofs *r, const Target *t, double macs) { return macs / (r->fma * t->vector_bits / 32.0); }
double roof_bytes(const Roofs *r, const Target *t, double macs) { return macs / (r->dot4 * t->vector_bits / 8.0); }
double roof_bits(const Roofs *r, const Target *t, double macs) { return macs / (r->popcnt * t->vector_bits); }
