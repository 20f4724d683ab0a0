// Layers of boolean functions out of tables against the graph interpreter, bit for bit: rows of one to four tables of
// bits, groups that overlap, two to four values of x and of the result, floats and bytes, thresholds per column.
#include "passes/truth.h"
#include "tests/unit/lower_case.h"

typedef struct Shape {
  int64_t rows, k, n;
  int fan;          // most inputs of a column
  int x_n, y_n;     // values of x, of the result
  bool bytes;       // x and weights are integers
  bool per_column;  // a threshold each
  bool conv, y_bytes;
} Shape;

static const Shape shapes[] = {
    {1, 196, 160, 6, 2, 2, false, false, false, false}, {3, 8, 1, 2, 2, 2, false, true, false, true},
    {2, 63, 64, 8, 2, 2, false, true, false, false},    {1, 64, 65, 4, 3, 3, false, false, false, false},
    {5, 70, 127, 4, 4, 4, false, true, false, true},    {1, 600, 70, 7, 2, 3, false, false, false, false},
    {1, 2000, 130, 6, 2, 2, true, true, false, true},   {2, 300, 66, 3, 3, 2, true, false, false, true},
    {9, 40, 20, 8, 2, 4, true, true, false, true},      {6, 24, 100, 5, 2, 2, false, false, true, false},
    {4, 1000, 9, 4, 4, 2, true, false, false, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

// Weights with 0 to `fan` non-zeros per column.
static void put_weights(StrBuf *s, const Shape *p) {
  int64_t count = p->k * p->n;
  Arena *arena = arena_new("weights");
  int *w = NEW_ARRAY(arena, int, count);
  for (int64_t o = 0; o < p->n; o++)
    for (uint32_t i = 0, many = o == 0 ? (uint32_t)p->fan : lower_rnd((uint32_t)p->fan + 1); i < many; i++) {
      int64_t at = lower_rnd((uint32_t)p->k) * p->n + o;
      while (w[at] != 0) at = lower_rnd((uint32_t)p->k) * p->n + o;
      w[at] = (int)lower_rnd(9) - 4;
      if (w[at] == 0) w[at] = 5;
    }
  strbuf_printf(s, "const @w: %s[%s%lld,%lld] = [", p->bytes ? "i8" : "f32", p->conv ? "1,1," : "", (long long)p->k,
                (long long)p->n);
  for (int64_t i = 0; i < count; i++)
    strbuf_printf(s, "%s%d%s", i ? ", " : "", w[i], p->bytes ? "" : w[i] ? ".5" : ".0");
  strbuf_puts(s, "]\n");
  arena_free(arena);
}

// %q: the input with few values.
static void put_input(StrBuf *s, const Shape *p, const char *type) {
  if (p->bytes) {
    strbuf_printf(s, "  %%q = clip %%x, i8(-1), i8(%d) : %s\n", p->x_n - 2, type);
    return;
  }
  static const char *const from[] = {"-0.5", "0.25", "1.5"}, *const level[] = {"-1.0", "0.5", "1.0", "4.0"};
  strbuf_printf(s, "  %%l0 = mul %%x, f32(0.0) : %s\n", type);
  for (int i = 1; i < p->x_n; i++) {
    const char *dims = strchr(type, '[');
    strbuf_printf(s, "  %%c%d = greater %%x, f32(%s) : bool%s\n", i, from[i - 1], dims);
    if (i == 1) strbuf_printf(s, "  %%l1 = select %%c1, f32(%s), f32(%s) : %s\n", level[1], level[0], type);
    if (i > 1) strbuf_printf(s, "  %%l%d = select %%c%d, f32(%s), %%l%d : %s\n", i, i, level[i], i - 1, type);
  }
  strbuf_printf(s, "  %%q = max %%l%d, %%l%d : %s\n", p->x_n - 1, p->x_n - 1, type);
}

// The sum counted against y_n - 1 thresholds, the first of which may differ from column to column.
static void put_post(StrBuf *s, const Shape *p) {
  const char *sum = p->bytes ? "i32" : "f32", *y = p->y_bytes ? "u8" : "f32";
  strbuf_printf(s, "func @post(%%s: %s[]%s) -> %s[] {\n", sum,
                p->per_column ? p->bytes ? ", %t: i32[]" : ", %t: f32[]" : "", y);
  for (int i = 1; i < p->y_n; i++) {
    const char *limit = i == 1 && p->per_column ? "%t" : fmt("%s(%d%s)", sum, 3 * i - 4, p->bytes ? "" : ".0");
    strbuf_printf(s, "  %%g%d = greater_equal %%s, %s : bool[]\n  %%n%d = cast %%g%d : %s[]\n", i, limit, i, i, y);
    if (i > 1) strbuf_printf(s, "  %%m%d = add %%%c%d, %%n%d : %s[]\n", i, i == 2 ? 'n' : 'm', i - 1, i, y);
  }
  strbuf_printf(s, "  %%r = cast %%%c%d : %s[]\n  return %%r\n}\n", p->y_n == 2 ? 'n' : 'm', p->y_n - 1, y);
}

static const char *text_of(Arena *arena, const Shape *p, uint32_t seed) {
  lower_state = seed;
  StrBuf s;
  strbuf_init(&s, arena);
  const char *in = p->bytes ? "i8" : "f32", *sum = p->bytes ? "i32" : "f32", *out = p->y_bytes ? "u8" : "f32";
  const char *lead = p->conv ? "1,2," : "";
  long long rows = (long long)(p->conv ? p->rows / 2 : p->rows), k = (long long)p->k, n = (long long)p->n;
  const char *x = fmt("%s[%s%lld,%lld]", in, lead, rows, k), *y = fmt("%s[%s%lld,%lld]", out, lead, rows, n);
  put_weights(&s, p);
  strbuf_printf(&s, "const @b: %s[%lld] = rand(3)\nconst @t: %s[%lld] = rand(4)\n", sum, n, sum, n);
  strbuf_printf(&s, "func @f(%%x: %s) -> %s {\n", x, y);
  put_input(&s, p, x);
  strbuf_printf(&s, "  %%r = %s %%q, @w, %s%s {%spost = @post, plan = truth()} : %s\n  return %%r\n}\n",
                p->conv ? "conv" : "matmul", p->bytes ? "_" : "@b", p->per_column ? ", @t" : "",
                p->conv ? "layout = nhwc, " : "", y);
  put_post(&s, p);
  return strbuf_str(&s);
}

static const Target with_lookup = {.name = "lookup", CPU_512, .has_masks = true, .has_fma = true, .has_lookup64 = true};

Test(truth, interpreted) {
  Check c = {.lo = -3, .hi = 4};
  for (uint32_t i = 0; i < SHAPES; i++) {
    Arena *arena = arena_new("truth");
    const char *text = text_of(arena, &shapes[i], i + 1);
    lower_run(text, &c, &with_lookup, "lower,memplan", lower_keval);
    lower_run(text, &c, &lower_narrow, "lower", lower_keval);
    arena_free(arena);
  }
}

Test(truth, compiled) {
  Check c = {.lo = -3, .hi = 4};
  const char *passes = "lower,memplan,expand,ksimplify,vectorize,unroll,ksimplify";
  for (uint32_t i = 0; i < SHAPES; i++) {
    Arena *arena = arena_new("truth");
    const char *text = text_of(arena, &shapes[i], i + 50);
    lower_run(text, &c, target_native(), passes, lower_jit);
    arena_free(arena);
  }
}

// All 2^8 inputs of a column: every row of x is another one.
Test(truth, exhaustive) {
  static const char *const text =
      "const @w: f32[8,3] = [0.3, 1.5, 0.0, -1.0, 0.0, 2.0, 0.7, 0.1, 0.0, 0.2, -0.4, 1.0, -0.6, 0.0, 0.0, 0.9, 0.3, "
      "-3.0, 1.1, 0.0, 0.0, -0.2, 0.8, 1.0]\n"
      "const @place: i32[1,8] = iota\nconst @row: i32[256,1] = iota\nconst @b: f32[3] = [0.05, -0.2, 0.0]\n"
      "func @f(%x: f32[1]) -> f32[256,3] {\n"
      "  %p = expand @place : i32[256,8]\n  %r = expand @row : i32[256,8]\n  %0 = shr %r, %p : i32[256,8]\n"
      "  %1 = and %0, i32(1) : i32[256,8]\n  %2 = equal %1, i32(1) : bool[256,8]\n"
      "  %3 = select %2, f32(1.0), f32(-1.0) : f32[256,8]\n"
      "  %4 = matmul %3, @w, @b {post = @sign, plan = truth()} : f32[256,3]\n  return %4\n}\n"
      "func @sign(%s: f32[]) -> f32[] {\n  %1 = greater_equal %s, f32(0.0) : bool[]\n"
      "  %2 = select %1, f32(1.0), f32(-1.0) : f32[]\n  return %2\n}\n";
  Check c = {0};
  lower_run(text, &c, target_native(), "lower,memplan,expand,ksimplify,vectorize,unroll,ksimplify", lower_jit);
}
