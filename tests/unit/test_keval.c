// The kernel interpreter: IEEE arithmetic in the lane's type, packed lanes, casts, control flow, calls, bounds,
// programs.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/kbuild.h"
#include "ir/elem.h"
#include "ir/keval.h"
#include "ir/text.h"

static Arena *arena;  // of the test at hand

static void drop(void) { arena_free(arena); }

TestSuite(keval, .fini = drop);

static Module *new_module(void) {
  if (!arena) arena = arena_new("test");
  Module *m = module_new(arena, diag_new(arena, NULL));
  m->program = program_new(m);
  return m;
}

static Module *parse(const char *text) {
  if (!arena) arena = arena_new("test");
  Diag *diag = diag_new(arena, stderr);
  Module *m = parse_module(arena, diag, "test", text, strlen(text));
  cr_assert(m && m->program && m->program->kernels.n, "%s", diag_text(diag));
  return m;
}

static bool run(Module *m, const char *name, void *const *args) {
  for (uint32_t i = 0; i < m->program->kernels.n; i++)
    if (!strcmp(m->program->kernels.at[i]->name, name)) return keval_kernel(m, m->program->kernels.at[i], args);
  cr_assert_fail("no kernel %s", name);
  return false;
}

// o[0] = op(x[0], y[0], z[0]) in one lane type.
static void one(DType t, KOp op, const void *x, const void *y, const void *z, void *out) {
  Module *m = new_module();
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  int64_t n = 1;
  KExpr *a[3];
  const char *names[3] = {"x", "y", "z"};
  for (int i = 0; i < 3; i++) a[i] = kx_load1(&b, kb_param(&b, names[i], t, 1, &n, SPACE_ARG), aff(0));
  uint32_t arity = kop_info(op)->arity;
  KExpr *v = arity == 1   ? kx_op1(&b, op, a[0])
             : arity == 2 ? kx_op2(&b, op, a[0], a[1])
                          : kx_op3(&b, op, a[0], a[1], a[2]);
  kb_store1(&b, kb_param(&b, "o", v->type, 1, &n, SPACE_ARG), aff(0), v);
  cr_assert(keval_kernel(m, kbuild_done(&b), (void *[]){(void *)x, (void *)y, (void *)z, out}));
}

static float f32(KOp op, float x, float y, float z) {
  float r;
  one(DT_F32, op, &x, &y, &z, &r);
  return r;
}

Test(keval, f32_rounds_after_each_operation) {
  float x = 1 + 0x1p-12f, big = 0x1p24f;
  cr_expect_eq(f32(KOP_MUL, x, x, 0), x * x);
  cr_expect_eq(f32(KOP_ADD, big, 1, 0), big);
  cr_expect_eq(f32(KOP_FMA, x, x, -1 - 0x1p-11f), 0x1p-24f, "one rounding");
  cr_expect_eq(f32(KOP_DIV, 1, 3, 0), 1.0f / 3.0f);
  cr_expect_eq(f32(KOP_MUL, 0x1p-100f, 0x1p-49f, 0), 0x1p-149f);
  cr_expect_eq(f32(KOP_MUL, 0x1p100f, 0x1p100f, 0), INFINITY);
}

Test(keval, bf16_fma_rounds_once) {
  // 1.0078125^2 = 1.01568603515625; plus 2^-8 the exact sum lies just above the middle of two bf16 numbers.
  uint16_t x = bf16_of_double(1.0078125), y = x, z = bf16_of_double(-1.0), r;
  one(DT_BF16, KOP_FMA, &x, &y, &z, &r);
  cr_expect_eq(bf16_to_double(r), elem_round(DT_BF16, 1.0078125 * 1.0078125 - 1));
  uint16_t a = f16_of_double(2048), one_h = f16_of_double(1), tiny = f16_of_double(0x1p-24);
  one(DT_F16, KOP_FMA, &a, &one_h, &tiny, &r);
  cr_expect_eq(f16_to_double(r), 2048);
  uint16_t odd = f16_of_double(2049 * 0.5), two = f16_of_double(2);  // 2049 is half way between 2048 and 2050
  one(DT_F16, KOP_FMA, &odd, &two, &tiny, &r);
  cr_expect_eq(f16_to_double(r), elem_round(DT_F16, 2 * f16_to_double(odd) + 0x1p-24));
}

Test(keval, casts_saturate) {
  Module *m = parse(
      "kernel @k(%x: f32[6] arg, %o8: i8[6] arg, %ou: u32[6] arg, %ol: i64[6] arg, %ob: bool[6] arg) {\n"
      "  for %i in 0..6 seq {\n"
      "    store %o8[%i], cast(load %x[%i], i8)\n"
      "    store %ou[%i], cast(load %x[%i], u32)\n"
      "    store %ol[%i], cast(load %x[%i], i64)\n"
      "    store %ob[%i], cast(load %x[%i], bool)\n"
      "  }\n"
      "}\n");
  float x[6] = {-1.9f, 300.7f, NAN, INFINITY, -INFINITY, 0x1p31f};
  int8_t o8[6];
  uint32_t ou[6];
  int64_t ol[6];
  uint8_t ob[6];
  cr_assert(run(m, "k", (void *[]){x, o8, ou, ol, ob}));
  int8_t w8[6] = {-1, 127, 0, 127, -128, 127};
  uint32_t wu[6] = {0, 300, 0, UINT32_MAX, 0, 0x80000000u};
  int64_t wl[6] = {-1, 300, 0, INT64_MAX, INT64_MIN, INT64_C(1) << 31};
  cr_expect(!memcmp(o8, w8, sizeof w8) && !memcmp(ou, wu, sizeof wu) && !memcmp(ol, wl, sizeof wl));
  cr_expect_eq(ob[0], 1);
}

Test(keval, packed_lanes) {
  Module *m = parse(
      "kernel @k(%x: u8[8] arg, %w: i8[8] arg, %o: i32[2] arg, %os: i32[2] arg, %h: bf16[4] arg, %of: f32[2] arg,\n"
      "          %t: u8[16] arg, %ot: u8[8] arg) {\n"
      "  %x4 = view %x u8x4[2]\n"
      "  %s4 = view %x i8x4[2]\n"
      "  %w4 = view %w i8x4[2]\n"
      "  %h2 = view %h bf16x2[2]\n"
      "  for %i in 0..2 vec {\n"
      "    store %o[%i], dot4(i32(1000), load %x4[%i], load %w4[%i])\n"
      "    store %os[%i], dot4(i32(0), load %s4[%i], load %w4[%i])\n"
      "    store %of[%i], dot2(f32(0.5), load %h2[%i], load %h2[%i])\n"
      "  }\n"
      "  for %i in 0..8 vec { store %ot[%i], lookup16(load %t[0], load %x[%i]) }\n"
      "}\n");
  uint8_t x[8] = {255, 1, 2, 3, 0, 128, 7, 9}, t[16], ot[8];
  int8_t w[8] = {-128, 1, 2, 3, 5, -1, 1, 0};
  int32_t o[2], os[2];
  uint16_t h[4] = {bf16_of_double(1.5), bf16_of_double(2), bf16_of_double(-3), bf16_of_double(0.25)};
  float of[2];
  for (int i = 0; i < 16; i++) t[i] = (uint8_t)(i * i);
  cr_assert(run(m, "k", (void *[]){x, w, o, os, h, of, t, ot}));
  cr_expect_eq(o[0], 1000 - 255 * 128 + 1 + 4 + 9);
  cr_expect_eq(o[1], 1000 - 128 + 7);
  cr_expect_eq(os[0], 128 + 1 + 4 + 9);
  cr_expect_eq(os[1], 128 + 7);
  cr_expect_eq(of[0], 0.5f + 2.25f + 4);
  cr_expect_eq(of[1], 0.5f + 9 + 0.0625f);
  for (int i = 0; i < 8; i++) cr_expect_eq(ot[i], t[x[i] & 15]);
}

Test(keval, loops_conditions_and_reductions) {
  Module *m = parse(
      "kernel @k(%x: i32[16] arg, %o: i32[3] arg, %ob: u16[1] arg) {\n"
      "  store %o[0], 0\n"
      "  store %o[1], -2147483648\n"
      "  store %o[2], 0\n"
      "  for %i in 1..16 step 4 seq {\n"
      "    if gt(load %x[%i], 5) { store %o[2], add(load %o[2], 1) } else { store %o[2], add(load %o[2], 100) }\n"
      "  }\n"
      "  for %i in 0..16 vec {\n"
      "    reduce add %o[0], load %x[%i]\n"
      "    reduce max %o[1], load %x[%i]\n"
      "    reduce bits %ob[0], lt(load %x[%i], 3)\n"
      "  }\n"
      "}\n");
  int32_t x[16], o[3], sum = 0;
  uint16_t bits = 0xffff;
  for (int i = 0; i < 16; i++) x[i] = i * 7 % 13, sum += x[i];
  cr_assert(run(m, "k", (void *[]){x, o, &bits}));
  cr_expect_eq(o[0], sum);
  cr_expect_eq(o[1], 12);
  int32_t branches = 0;
  for (int i = 1; i < 16; i += 4) branches += x[i] > 5 ? 1 : 100;
  cr_expect_eq(o[2], branches);
  for (int i = 0; i < 16; i++) cr_expect_eq(bits >> i & 1, x[i] < 3);
}

Test(keval, gathers_through_a_let) {
  Module *m = parse(
      "kernel @k(%x: f32[4,2] arg, %at: i64[3] arg, %o: f32[3,2] arg) {\n"
      "  for %i in 0..3 seq {\n"
      "    let %a = load %at[%i]\n"
      "    for %j in 0..2 vec { store %o[%i,%j], load %x[%a,%j] }\n"
      "  }\n"
      "}\n");
  float x[8] = {0, 1, 2, 3, 4, 5, 6, 7}, o[6];
  int64_t at[3] = {3, 0, 2};
  cr_assert(run(m, "k", (void *[]){x, at, o}));
  for (int i = 0; i < 6; i++) cr_expect_eq(o[i], x[2 * at[i / 2] + i % 2]);
}

Test(keval, calls_pass_places) {
  Module *m = parse(
      "kernel @add(%x: f32[4] arg, %y: f32[4] arg) {\n"
      "  for %i in 0..4 vec { store %y[%i], add(load %y[%i], load %x[%i]) }\n"
      "}\n"
      "kernel @k(%x: f32[3,4] arg, %o: f32[4] arg) {\n"
      "  for %i in 0..4 vec { store %o[%i], 0.0 }\n"
      "  for %r in 0..3 seq { call @add(%x at 4*%r, %o) }\n"
      "}\n"
      "kernel @far(%x: f32[3,4] arg, %o: f32[4] arg) { call @add(%x at 9, %o) }\n");
  float x[12], o[4];
  for (int i = 0; i < 12; i++) x[i] = (float)i;
  cr_assert(run(m, "k", (void *[]){x, o}));
  for (int i = 0; i < 4; i++) cr_expect_eq(o[i], x[i] + x[i + 4] + x[i + 8]);
  cr_expect_not(run(m, "far", (void *[]){x, o}), "the callee would read past the end");
}

static void check_bounds(const char *index) {
  Module *m = new_module();
  const char *text = arena_printf(m->arena,
                                  "kernel @bad(%%x: f32[4,3] arg, %%o: f32[12] arg) {\n"
                                  "  for %%i in 0..3 vec { store %%o[%%i], load %%x[%s] }\n}\n",
                                  index);
  Diag *diag = diag_new(m->arena, NULL);
  Module *parsed = parse_module(m->arena, diag, "test", text, strlen(text));
  cr_assert(parsed, "%s", diag_text(diag));
  float x[12] = {0}, o[12];
  cr_expect_not(run(parsed, "bad", (void *[]){x, o}), "%s", index);
  cr_expect(strstr(diag_text(diag), "kernel bad") && strstr(diag_text(diag), "buffer x"), "%s", diag_text(diag));
}

Test(keval, every_index_is_checked) {
  check_bounds("2, %i+1");
  check_bounds("%i-1, 0");
  check_bounds("0, 2*%i");
  check_bounds("2*%i, 0");
}

Test(keval, programs_run_in_order) {
  Module *m = parse(
      "kernel @twice(%x: f32[4] arg, %y: f32[4] arg) {\n"
      "  for %i in 0..4 vec { store %y[%i], add(load %x[%i], load %x[%i]) }\n"
      "}\n"
      "program {\n"
      "  input 0 %a: f32[4]\n"
      "  output 0 %b: f32[4]\n"
      "  work %t: f32[4]\n"
      "  call @twice(%a, %t)\n"
      "  call @twice(%t, %b)\n"
      "}\n");
  float a[4] = {1, 2, 3, 4}, b[4];
  cr_assert(keval_program(m->program, (const void *[]){a}, (void *[]){b}));
  for (int i = 0; i < 4; i++) cr_expect_eq(b[i], 4 * a[i]);
}
