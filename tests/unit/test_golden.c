// The golden runner's evaluation can fail: modules, programs and kernels that compute other numbers are told apart.
#include <criterion/criterion.h>
#include <string.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "tests/golden.h"

static Module *parse(Arena *a, const char *text) {
  Diag *d = diag_new(a, NULL);
  Module *m = parse_module(a, d, "t", text, strlen(text));
  cr_assert(m && verify_module(m), "%s", diag_text(d));
  return m;
}

// NULL when both agree, else the reason.
static const char *compare(Arena *a, const char *before, const char *after) {
  StrBuf why;
  strbuf_init(&why, a);
  bool ok = golden_evaluate(parse(a, before), parse(a, after), (int64_t[]){0, 4}, 0, a, &why);
  cr_assert_eq(ok, why.n == 0);
  return ok ? NULL : strbuf_str(&why);
}

#define FUNC(op) "func @f(%x: f32[3], %y: f32[3]) -> f32[3] { %0 = " op " : f32[3]\n return %0 }"
#define KERNEL(op)                                                   \
  "kernel @k(%x: f32[3] arg, %y: f32[3] arg) { for %i in 0..3 vec {" \
  " store %y[%i], " op "(load %x[%i], load %y[%i]) } }\n"
#define PROGRAM                                                                       \
  "kernel @k2(%x: f32[3] arg, %y: f32[3] arg, %z: f32[3] arg) { for %i in 0..3 vec {" \
  " store %z[%i], add(load %x[%i], load %y[%i]) } }\n"                                \
  "program { input 0 %x: f32[3]\n input 1 %y: f32[3]\n output 0 %z: f32[3]\n call @k2(%x, %y, %z) }"

Test(golden, functions) {
  Arena *a = arena_new("test");
  cr_assert_null(compare(a, FUNC("add %x, %y"), FUNC("add %y, %x")));
  cr_assert(strstr(compare(a, FUNC("add %x, %y"), FUNC("sub %x, %y")), "result 0 differs"));
  cr_assert(strstr(compare(a, FUNC("add %x, %y"), FUNC("add %x, f32(1e-3)")), "differs"));
  arena_free(a);
}

Test(golden, programs) {
  Arena *a = arena_new("test");
  cr_assert_null(compare(a, FUNC("add %x, %y"), PROGRAM));
  cr_assert(strstr(compare(a, FUNC("mul %x, %y"), PROGRAM), "result 0 differs"));
  arena_free(a);
}

Test(golden, kernels) {
  Arena *a = arena_new("test");
  cr_assert_null(compare(a, KERNEL("mul"), KERNEL("mul")));
  cr_assert(strstr(compare(a, KERNEL("mul"), KERNEL("max")), "buffer %y of kernel @k differs"));
  cr_assert(strstr(compare(a, KERNEL("mul"), "kernel @other(%x: f32[3] arg) { }"), "kernel @k is gone"));
  arena_free(a);
}

Test(golden, interface) {
  Arena *a = arena_new("test");
  const char *less = "func @f(%x: f32[3]) -> f32[3] { return %x }";
  cr_assert(strstr(compare(a, FUNC("add %x, %y"), less), "changed their types"));
  arena_free(a);
}
