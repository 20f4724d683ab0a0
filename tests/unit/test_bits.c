// Whole networks of one and two bits against the graph interpreter: convolutions over one to three axes with thresholds
// of either sign, pools, pads and changes of signs of bits, and a flattened last layer. Every step between the first
// map and the last layer must work on words where the network allows it.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/keval.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "runtime/qcc_rt.h"
#include "tests/support/run_object.h"
#include "tests/unit/cpus.h"

static const Target bits_512 = {
    .name = "bits", CPU_512, .has_dot4 = true, .has_popcnt_vec = true, .dot4_per_cycle = 2, .popcnt_per_cycle = 2};

static uint64_t state;
static uint32_t rnd(uint32_t below) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(state >> 33) % below;
}

// ---- random networks as text

typedef struct Net {
  StrBuf head, body, functions;  // constants; statements; post functions
  uint32_t axes, n, levels;      // spatial axes; values so far; levels of the activations now
  int64_t batch, size[3], c;
} Net;

static void put_type(StrBuf *b, const Net *net, const char *type) {
  strbuf_printf(b, "%s[%lld", type, (long long)net->batch);
  for (uint32_t i = 0; i < net->axes; i++) strbuf_printf(b, ",%lld", (long long)net->size[i]);
  strbuf_printf(b, ",%lld]", (long long)net->c);
}

// Weights of one or two bits.
static void put_weights(Net *net, const char *dims, int64_t count) {
  bool ternary = rnd(3) == 0;
  strbuf_printf(&net->head, "const @w%u: i8[%s] = [", net->n, dims);
  for (int64_t i = 0; i < count; i++)
    strbuf_printf(&net->head, "%s%d", i ? ", " : "", ternary ? (int)rnd(3) - 1 : rnd(2) ? 1 : -1);
  strbuf_puts(&net->head, "]\n");
}

static void put_signs(Net *net, const char *dims, int64_t count) {
  strbuf_printf(&net->head, "const @w%u: i8[%s] = [", net->n, dims);
  for (int64_t i = 0; i < count; i++) strbuf_printf(&net->head, "%s%d", i ? ", " : "", rnd(2) ? 1 : -1);
  strbuf_puts(&net->head, "]\n");
}

static void put_ints(StrBuf *b, const char *name, const int64_t *v, uint32_t n) {
  strbuf_printf(b, "%s = [", name);
  for (uint32_t i = 0; i < n; i++) strbuf_printf(b, "%s%lld", i ? ", " : "", (long long)v[i]);
  strbuf_puts(b, "]");
}

static void put_plan(StrBuf *b) {
  static const int lanes[] = {8, 8, 8, 4};
  strbuf_printf(b, "plan = planes(mr = %u, my = %u, nv = %u, lanes = %d, panels_outer = %u)", 1 + rnd(5), 1 + rnd(2),
                1 + rnd(4), lanes[rnd(4)], rnd(2));
}

static void put_column(Net *net, const char *name, const char *type, int64_t lo, uint32_t count) {
  strbuf_printf(&net->head, "const @%s%u: %s[%lld] = [", name, net->n, type, (long long)net->c);
  for (int64_t i = 0; i < net->c; i++) strbuf_printf(&net->head, "%s%lld", i ? ", " : "", (long long)(lo + rnd(count)));
  strbuf_puts(&net->head, "]\n");
}

// The post function: as many comparisons as levels less one, with thresholds per channel, rising or falling with the
// sum by channel. Levels -1, 1 (two), -1, 0, 1 (three) or 0 .. 3 (four).
static void put_post(Net *net, int64_t terms) {
  static const char *const value[] = {"%7 = select %4, i8(1), i8(-1) : i8[]\n  %8 = neg %7 : i8[]",
                                      "%6 = sub %5, i8(1) : i8[]\n  %7 = add %6, i8(0) : i8[]\n  %8 = neg %7 : i8[]",
                                      "%7 = add %5, i8(0) : i8[]\n  %8 = sub i8(3), %7 : i8[]"};
  int64_t lo = -(terms / 4);
  uint32_t spread = (uint32_t)(terms / 2 + 2);
  for (uint32_t k = 0; k < 3; k++) put_column(net, (const char *[]){"t", "u", "v"}[k], "i32", lo + k, spread);
  put_column(net, "h", "i8", rnd(2) ? 1 : 0, 1 + rnd(2));
  StrBuf *b = &net->functions;
  strbuf_printf(b, "func @p%u(%%0: i32[], %%1: i32[], %%2: i32[], %%3: i32[], %%h: i8[]) -> i8[] {\n", net->n);
  strbuf_puts(b, "  %4 = greater_equal %0, %1 : bool[]\n  %a = cast %4 : i8[]\n  %b4 = less %2, %0 : bool[]\n");
  strbuf_puts(b, "  %b = cast %b4 : i8[]\n  %c4 = less_equal %0, %3 : bool[]\n  %n4 = not %c4 : bool[]\n");
  strbuf_puts(b, "  %c = cast %n4 : i8[]\n  %ab = add %a, %b : i8[]\n");
  strbuf_printf(b, "  %%5 = add %%ab, %s : i8[]\n  %s\n", net->levels == 4 ? "%c" : "i8(0)", value[net->levels - 2]);
  strbuf_puts(b, "  %9 = greater %h, i8(0) : bool[]\n  %10 = select %9, %7, %8 : i8[]\n");
  if (net->levels == 2)
    strbuf_puts(b, "  %11 = greater %10, i8(0) : bool[]\n  %12 = select %11, i8(1), i8(-1) : i8[]\n");
  strbuf_printf(b, "  return %s\n}\n", net->levels == 2 ? "%12" : "%10");
}

static bool fits(const Net *net, int64_t kernel, int64_t dilation) {
  for (uint32_t i = 0; i < net->axes; i++)
    if (net->size[i] < (kernel - 1) * dilation + 1) return false;
  return true;
}

static void put_conv(Net *net) {
  int64_t kernel = 1 + rnd(3), stride = 1 + rnd(2), dilation = 1 + rnd(2), pads[6], same[3], strides[3],
          o = 1 + rnd(75);
  if (rnd(3) == 0) o = 64 * (1 + rnd(2));
  if (!fits(net, kernel, dilation)) kernel = 1;
  int64_t taps = 1, from = net->c;
  char dims[80] = "";
  for (uint32_t i = 0; i < net->axes; i++) {
    taps *= kernel;
    same[i] = dilation;
    strides[i] = stride;
    pads[i] = rnd((uint32_t)kernel + 1);
    pads[net->axes + i] = rnd((uint32_t)kernel + 1);
    snprintf(dims + strlen(dims), sizeof dims - strlen(dims), "%lld,", (long long)kernel);
  }
  snprintf(dims + strlen(dims), sizeof dims - strlen(dims), "%lld,%lld", (long long)from, (long long)o);
  uint32_t x = net->n++;
  put_weights(net, dims, taps * from * o);
  strbuf_printf(&net->body, "  %%v%u = conv %%v%u, @w%u, _, @t%u, @u%u, @v%u, @h%u {layout = nhwc, post = @p%u, ",
                net->n, x, net->n, net->n, net->n, net->n, net->n, net->n);
  net->c = o;
  for (uint32_t i = 0; i < net->axes; i++) {
    int64_t reach = net->size[i] + pads[i] + pads[net->axes + i] - (kernel - 1) * dilation - 1;
    net->size[i] = reach / stride + 1;
  }
  net->levels = rnd(2) ? 2 : 3 + rnd(2);
  put_post(net, taps * from);
  put_ints(&net->body, "pads", pads, 2 * net->axes);
  put_ints(&net->body, ", strides", strides, net->axes);
  put_ints(&net->body, ", dilations", same, net->axes);
  strbuf_puts(&net->body, ", ");
  put_plan(&net->body);
  strbuf_puts(&net->body, "} : ");
  put_type(&net->body, net, "i8");
  strbuf_puts(&net->body, "\n");
}

static void put_pool(Net *net) {
  int64_t kernel[3] = {2, 2, 2}, pads[6];
  if (!fits(net, 2, 1)) return;
  uint32_t most = 1 + rnd(2);  // without padding the maximum is taken in the convolution's registers
  for (uint32_t i = 0; i < 2 * net->axes; i++) pads[i] = rnd(most);
  uint32_t x = net->n++;
  strbuf_printf(&net->body, "  %%v%u, %%places%u = maxpool %%v%u {layout = nhwc, ", net->n, net->n, x);
  put_ints(&net->body, "kernel", kernel, net->axes);
  put_ints(&net->body, ", strides", kernel, net->axes);
  put_ints(&net->body, ", pads", pads, 2 * net->axes);
  for (uint32_t i = 0; i < net->axes; i++) net->size[i] = (net->size[i] + pads[i] + pads[net->axes + i]) / 2;
  strbuf_puts(&net->body, "} : ");
  put_type(&net->body, net, "i8");
  strbuf_puts(&net->body, ", ");
  put_type(&net->body, net, "i64");
  strbuf_puts(&net->body, "\n");
}

static void put_pad(Net *net) {
  int64_t pads[10] = {0};
  uint32_t x = net->n++, rank = net->axes + 2;
  for (uint32_t i = 0; i < net->axes; i++) {
    pads[1 + i] = rnd(3);
    pads[rank + 1 + i] = rnd(3);
    net->size[i] += pads[1 + i] + pads[rank + 1 + i];
  }
  strbuf_printf(&net->body, "  %%v%u = pad %%v%u {", net->n, x);
  put_ints(&net->body, "pads", pads, 2 * rank);
  strbuf_printf(&net->body, ", value = %d.0} : ", rnd(2) ? 1 : -1);
  put_type(&net->body, net, "i8");
  strbuf_puts(&net->body, "\n");
}

static void put_flip(Net *net) {
  uint32_t x = net->n++;
  char dims[24];
  snprintf(dims, sizeof dims, "%lld", (long long)net->c);
  put_signs(net, dims, net->c);
  net->n++;
  put_signs(net, dims, net->c);
  strbuf_printf(&net->body, "  %%v%u = map %%v%u, @w%u, @w%u {body = @flip} : ", net->n, x, net->n - 1, net->n);
  put_type(&net->body, net, "i8");
  strbuf_puts(&net->body, "\n");
}

static void put_dense(Net *net, int64_t n) {
  int64_t k = net->c;
  for (uint32_t i = 0; i < net->axes; i++) k *= net->size[i];
  strbuf_printf(&net->body, "  %%flat = reshape %%v%u : i8[%lld,%lld]\n", net->n, (long long)net->batch, (long long)k);
  char dims[48];
  snprintf(dims, sizeof dims, "%lld,%lld", (long long)k, (long long)n);
  net->n++;
  put_weights(net, dims, k * n);
  strbuf_printf(&net->body, "  %%y = matmul %%flat, @w%u {", net->n);
  put_plan(&net->body);
  strbuf_printf(&net->body, "} : i32[%lld,%lld]\n  return %%y\n}\n", (long long)net->batch, (long long)n);
}

static const char *const functions =
    "func @first(%0: f32[]) -> i8[] {\n  %1 = greater_equal %0, f32(0.1) : bool[]\n"
    "  %2 = select %1, i8(1), i8(-1) : i8[]\n  return %2\n}\n"
    "func @flip(%0: i8[], %1: i8[], %2: i8[]) -> i8[] {\n  %3 = greater %0, i8(0) : bool[]\n"
    "  %4 = select %3, %1, %2 : i8[]\n  return %4\n}\n";

static const char *network(Arena *arena) {
  Net net = {.levels = 2, .axes = 1 + rnd(3), .batch = 1 + rnd(2), .c = 1 + rnd(70)};
  int64_t n = 1 + rnd(40);
  StrBuf all;
  strbuf_init(&all, arena);
  strbuf_init(&net.head, arena);
  strbuf_init(&net.body, arena);
  strbuf_init(&net.functions, arena);
  for (uint32_t i = 0; i < net.axes; i++) net.size[i] = 2 + rnd(net.axes == 1 ? 20 : net.axes == 2 ? 8 : 4);
  strbuf_puts(&net.body, "func @main(%x: ");
  put_type(&net.body, &net, "f32");
  strbuf_printf(&net.body, ") -> i32[%lld,%lld] {\n  %%v0 = map %%x {body = @first} : ", (long long)net.batch,
                (long long)n);
  put_type(&net.body, &net, "i8");
  strbuf_puts(&net.body, "\n");
  for (uint32_t layers = 1 + rnd(2); layers > 0; layers--) {
    if (net.levels == 2 && rnd(3) == 0) put_pad(&net);
    put_conv(&net);
    if (rnd(2)) put_pool(&net);
    if (net.levels == 2 && rnd(2)) put_flip(&net);
  }
  put_dense(&net, n);
  strbuf_printf(&all, "%s%s%s%s", strbuf_str(&net.head), strbuf_str(&net.body), functions, strbuf_str(&net.functions));
  return strbuf_str(&all);
}

// ---- running

// Compares one random network; true when no activation was ever a byte in memory.
static bool check(uint64_t seed, bool native) {
  state = seed * 977 + 5;
  Arena *arena = arena_new("bits");
  const char *text = network(arena);
  Diag *diag = diag_new(arena, NULL);
  Module *m = parse_module(arena, diag, "net.qir", text, strlen(text));
  cr_assert(m != NULL, "%s\n%s", diag_text(diag), text);
  Func *f = m->funcs.at[0];
  Tensor x = tensor_new(arena, f->args[0]->type), want;
  for (int64_t i = 0; i < type_count(x.type); i++) elem_set_f(x.data, DT_F32, i, (double)rnd(2001) / 1000 - 1);
  cr_assert(eval_func(f, &x, &want, arena, NULL, NULL), "%s\n%s", diag_text(diag), text);
  Target t = native ? *target_native() : bits_512;
  if (!native) t.vector_bits = 256u << rnd(2);
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  const char *pipe = native ? "plan,lower,memplan,expand,unroll" : "plan,lower,unroll";
  cr_assert(pipeline_run(m, &t, pipe, &opt, &runner, arena, NULL), "%s\n%s", diag_text(diag), text);
  bool words = true;
  for (uint32_t i = 0; i < m->program->bufs.n; i++) {
    const PBuf *b = m->program->bufs.at[i];
    words = words && (b->kind != PBUF_WORK || b->type->dtype != DT_I8);
  }
  size_t bytes = (size_t)type_bytes(want.type);
  void *out = arena_alloc(arena, bytes + 64);
  const void *in[1] = {x.data};
  memset(out, 0x5a, bytes);
  bool ok = native ? run_object(m, &t, NULL, in, &out) : keval_program(m->program, in, &out);
  cr_assert(ok && memcmp(out, want.data, bytes) == 0, "seed %llu: %s\n%s", (unsigned long long)seed, diag_text(diag),
            text);
  arena_free(arena);
  return words;
}

Test(bits, networks) {
  uint32_t words = 0, n = 80;
  for (uint64_t seed = 1; seed <= n; seed++) words += check(seed, false);
  cr_assert(words > n / 4, "only %u of %u networks without bytes", words, n);
}

Test(bits, native_networks) {
  if (!target_native()->has_popcnt_vec) cr_skip("no vector popcount");
  for (uint64_t seed = 1000; seed <= 1030; seed++) check(seed, true);
}
