// IR text of the benchmark layers. See bench_graph.h.
#include <math.h>
#include <string.h>

#include "frontend/driver/bench_graph.h"

uint32_t levels_bits(Levels l) { return l == TERN ? 2 : l == BITS1 ? 1 : l == BITS3 ? 3 : (uint32_t)l; }

double case_macs(const LayerCase *c) {
  double n = (double)c->n * (double)c->n;
  return c->form == FORM_CONV ? n * (double)(c->k * c->k * c->size * c->size) : n;
}

double case_weight_bytes(const LayerCase *c) {
  double n = (double)c->n * (double)c->n * (c->form == FORM_CONV ? (double)(c->k * c->k) : 1);
  double scales = c->form == FORM_BLOCKS ? n / 32 * 4 : 0;
  return n * levels_bits(c->w) / 8 + scales;
}

// ---- weights

static int8_t weight_value(Levels l, uint64_t r) {
  if (l == BIP || l == BITS1) return r & 1 ? 1 : -1;
  if (l == TERN) return (int8_t)((int)(r % 3) - 1);
  int bits = (int)levels_bits(l);
  return (int8_t)((int)(r & ((1u << bits) - 1)) - (1 << (bits - 1)));
}

static uint64_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return *state >> 33;
}

void case_fill(Module *m, const void *layer_case) {
  const LayerCase *c = layer_case;
  uint32_t n_consts = m->consts.n;
  for (uint32_t i = 0; i < n_consts; i++) {
    Const *w = m->consts.at[i];
    if (w->gen != CONST_RAND || w->type->dtype != DT_I8) continue;
    int64_t n = type_count(w->type);
    int8_t *q = arena_alloc(m->arena, (size_t)n);
    uint64_t state = w->id + 1u;
    for (int64_t k = 0; k < n; k++) q[k] = weight_value(c->w, next_random(&state));
    value_replace(&w->value, const_borrowed(m, w->type, q, NULL));
  }
}

// ---- activations

// The value %s<i> (integer sums, or floats when `scale` is 0) becomes the activation %q<i>.
static void activation(StrBuf *b, int i, Levels l, const char *dims, double scale) {
  const char *number = scale > 0 ? "i32" : "f32";
  uint32_t steps = l == BIP || l == BITS1 ? 1 : l == TERN ? 2 : l == BITS2 ? 3 : 0;
  if (l == FLOAT) {
    strbuf_printf(b, "  %%q%d = relu %%s%d : f32[%s]\n", i, i, dims);
    return;
  }
  if (!steps) {
    double top = exp2(levels_bits(l)) - 1;
    const char *from = "s";
    if (scale > 0) {
      strbuf_printf(b, "  %%f%d = cast %%s%d : f32[%s]\n", i, i, dims);
      from = "f";
    }
    strbuf_printf(b, "  %%m%d = mul %%%s%d, f32(%g) : f32[%s]\n", i, from, i, scale > 0 ? top / scale : top, dims);
    strbuf_printf(b, "  %%c%d = clip %%m%d, f32(0.0), f32(%.1f) : f32[%s]\n", i, i, top, dims);
    strbuf_printf(b, "  %%r%d = round %%c%d : f32[%s]\n  %%q%d = cast %%r%d : u8[%s]\n", i, i, dims, i, i, dims);
    return;
  }
  for (uint32_t k = 0; k < steps; k++) {
    double at = ((double)k - 0.5 * (steps - 1)) * (scale > 0 ? floor(scale / 2) : 0.25);
    const char *to = steps == 1 ? "q" : "e";
    const char *digits = scale > 0 ? "%s(%.0f)" : "%s(%.2f)";
    strbuf_printf(b, "  %%g%d_%u = greater_equal %%s%d, ", i, k, i);
    strbuf_printf(b, strcmp(digits, "%s(%.0f)") == 0 ? "%s(%.0f)" : "%s(%.2f)", number, at);
    strbuf_printf(b, " : bool[%s]\n", dims);
    strbuf_printf(b, "  %%%s%d%s = select %%g%d_%u, i8(1), i8(%d) : i8[%s]\n", to, i,
                  steps == 1 ? "" : arena_printf(b->arena, "_%u", k), i, k, l == BIP ? -1 : 0, dims);
  }
  if (steps == 1) return;
  const char *sum = l == TERN ? "i8(-1)" : NULL;
  for (uint32_t k = sum ? 0 : 1; k < steps; k++) {
    bool last = k == steps - 1;
    const char *to = last ? arena_printf(b->arena, "q%d", i) : arena_printf(b->arena, "h%d_%u", i, k);
    if (!sum) sum = arena_printf(b->arena, "%%e%d_0", i);
    strbuf_printf(b, "  %%%s = add %%e%d_%u, %s : i8[%s]\n", to, i, k, sum, dims);
    sum = arena_printf(b->arena, "%%%s", to);
  }
}

static double sum_scale(const LayerCase *c) {
  double terms = (double)c->n * (c->form == FORM_CONV ? (double)(c->k * c->k) : 1);
  double x = exp2(levels_bits(c->x)) / 2, w = exp2(levels_bits(c->w)) / 3;
  return sqrt(terms) * x * w + 1;
}

// ---- graphs

static void conv_text(Arena *a, StrBuf *b, const LayerCase *c) {
  bool is_float = c->w == FLOAT;
  const char *dims = arena_printf(a, "1,%lld,%lld,%lld", (long long)c->n, (long long)c->size, (long long)c->size);
  const char *type = is_float ? "f32" : "i32";
  long long pad = (long long)(c->k / 2);
  for (int i = 1; i <= 3; i++)
    strbuf_printf(b, "const @w%d: %s[%lld,%lld,%lld,%lld] = rand(%d)\n", i, is_float ? "f32" : "i8", (long long)c->n,
                  (long long)c->n, (long long)c->k, (long long)c->k, i);
  strbuf_printf(b, "func @f(%%s0: f32[%s]) -> %s[%s] {\n", dims, type, dims);
  activation(b, 0, c->x, dims, 0);
  for (int i = 1; i <= 3; i++) {
    strbuf_printf(b, "  %%s%d = conv %%q%d, @w%d {pads = [%lld,%lld,%lld,%lld]} : %s[%s]", i, i - 1, i, pad, pad, pad,
                  pad, type, dims);
    strbuf_printf(b, "  loc(\"%s\")\n", i == 2 ? CASE_LAYER : i == 1 ? "before" : "after");
    if (i < 3) activation(b, i, c->x, dims, is_float ? 0 : sum_scale(c));
  }
  strbuf_puts(b, "  return %s3\n}\n");
}

static void gemv_text(StrBuf *b, const LayerCase *c) {
  long long n = c->n;
  bool is_float = c->w == FLOAT;
  strbuf_printf(b, "const @w: %s[%lld,%lld] = rand(1)\n", is_float ? "f32" : "i8", n, n);
  strbuf_printf(b, "func @f(%%s0: f32[1,%lld]) -> f32[1,%lld] {\n", n, n);
  activation(b, 0, c->x, arena_printf(b->arena, "1,%lld", n), 0);
  strbuf_printf(b, "  %%s1 = matmul %%q0, @w : %s[1,%lld]  loc(\"%s\")\n", is_float ? "f32" : "i32", n, CASE_LAYER);
  strbuf_printf(b, "  %%y = cast %%s1 : f32[1,%lld]\n  return %%y\n}\n", n);
}

static void blocks_text(StrBuf *b, const LayerCase *c) {
  long long n = c->n;
  strbuf_printf(b, "const @w: u%u[%lld,%lld] = rand(1)\nconst @s: f32[%lld,%lld] = rand(2)\n", levels_bits(c->w), n, n,
                n, n / 32);
  strbuf_printf(b, "const @z: u%u[%lld,%lld] = splat(%g)\n", levels_bits(c->w), n, n / 32,
                exp2(levels_bits(c->w) - 1.0));
  strbuf_printf(b, "func @f(%%s0: f32[1,%lld]) -> f32[1,%lld] {\n", n, n);
  strbuf_printf(b, "  %%d = dequantize @w, @s, @z {axis = 1, block = 32} : f32[%lld,%lld]\n", n, n);
  strbuf_printf(b, "  %%y = matmul %%s0, %%d {trans_b = true} : f32[1,%lld]  loc(\"%s\")\n  return %%y\n}\n", n,
                CASE_LAYER);
}

const char *case_text(Arena *arena, const LayerCase *c) {
  StrBuf b;
  strbuf_init(&b, arena);
  switch (c->form) {
    case FORM_CONV: conv_text(arena, &b, c); break;
    case FORM_GEMV: gemv_text(&b, c); break;
    case FORM_BLOCKS: blocks_text(&b, c); break;
  }
  return strbuf_str(&b);
}
