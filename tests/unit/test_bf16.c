// --fp=bf16: products of bfloat16 pairs. Whole numbers up to 8 are exact in bfloat16, so results must be exact too.
#include "passes/lower/bf16.h"

#include <criterion/criterion.h>
#include <stdarg.h>

#include "tests/unit/lower_case.h"

// n whole numbers from -4 to 4 as the text of a constant.
static char *numbers(const char *head, int n) {
  char *text = malloc(strlen(head) + 8 + 5 * (size_t)n), *at = text + sprintf(text, "%s = [", head);
  for (int i = 0; i < n; i++) at += sprintf(at, "%s%d.0", i ? "," : "", (i * 7 + i / 5) % 9 - 4);
  strcpy(at, "]\n");
  return text;
}

static void matmul_case(int m, int k, int n) {
  char *w = numbers(fmt("const @b: f32[%d] = iota\nconst @w: f32[%d,%d]", n, k, n), k * n);
  Check c = {.whole = true, .bf16 = true, .extra = w};
  lower_case(c, fmt("%%x: f32[%d,%d]", m, k), fmt("f32[%d,%d]", m, n),
             fmt("%%r0 = matmul %%x, @w, @b {plan = fma(mr = 4, nv = 2)} : f32[%d,%d]", m, n));
  free(w);
}

Test(bf16, matmul) {
  static const int k[] = {2, 6, 7, 34}, n[] = {1, 7, 16, 20, 33};
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 5; j++) matmul_case(i == 0 ? 1 : 9, k[i], n[j]);
}

static void conv_case(int c, int o, const char *attrs, const char *y) {
  char *w = numbers(fmt("const @w: f32[3,3,%d,%d]", c, o), 9 * c * o);
  Check check = {.whole = true, .bf16 = true, .extra = w};
  lower_case(check, fmt("%%x: f32[1,7,6,%d]", c), y,
             fmt("%%r0 = conv %%x, @w {layout = nhwc, %s, plan = fma(mr = 3, nv = 1)} : %s", attrs, y));
  free(w);
}

Test(bf16, conv) {
  conv_case(2, 20, "pads = [1,1,1,1]", "f32[1,7,6,20]");
  conv_case(4, 17, "strides = [2,2]", "f32[1,3,2,17]");
  conv_case(4, 8, "dilations = [2,2]", "f32[1,3,2,8]");
  conv_case(3, 16, "pads = [1,1,1,1]", "f32[1,7,6,16]");
}

static bool has_pairs(const Target *t, const char *k, bool bf16) {
  Arena *arena = arena_new("case");
  const char *text =
      fmt("func @f(%%x: f32[5,%s]) -> f32[5,32] {\n  %%0 = matmul %%x, @w {plan = fma(mr = 4, nv = 2)} : "
          "f32[5,32]\n  return %%0\n}\nconst @w: f32[%s,32] = rand(1)\n",
          k, k);
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  StrBuf out;
  opt.bf16 = bf16;
  Module *m = parse_module(arena, diag_new(arena, NULL), "case", text, strlen(text));
  cr_assert(m != NULL && pipeline_run(m, t, "infer,lower", &opt, &run, arena, NULL));
  strbuf_init(&out, arena);
  for (uint32_t i = 0; i < m->program->kernels.n; i++) print_kernel(&out, m->program->kernels.at[i]);
  bool found = strstr(strbuf_str(&out), "dot2") != NULL;
  arena_free(arena);
  return found;
}

Test(bf16, only_where_asked_even_and_faster) {
  cr_expect(has_pairs(&lower_wide, "8", true));
  cr_expect_not(has_pairs(&lower_wide, "8", false));
  cr_expect_not(has_pairs(&lower_wide, "7", true));
  cr_expect_not(has_pairs(&lower_narrow, "8", true));
  cr_expect(bf16_pays(target_by_name("zen5")));
  cr_expect_not(bf16_pays(target_by_name("sapphire-rapids")));
}
