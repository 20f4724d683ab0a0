// Compiled kernels against the interpreter: loops, tiles, strides, gathers, masks, reductions, threads. Every kernel
// runs on every row of targets.def that this machine offers, alone and with four threads.
#include <criterion/criterion.h>
#include <string.h>

#include "ir/text.h"
#include "tests/support/emit_case.h"

static void check(const char *text, double tolerance) {
  for (uint32_t r = 0; r < target_count(); r++) {
    const Target *t = target_at(r);
    if (!target_runs_here(t)) continue;
    for (uint32_t threads = 0; threads <= 4; threads += 4) {
      Arena *arena = arena_new("test");
      Diag *diag = diag_new(arena, stderr);
      Module *m = parse_module(arena, diag, "test", text, strlen(text));
      cr_assert(m && m->program, "%s", diag_text(diag));
      emit_case_steps(m);
      EmitCase c = {.target = t, .rounds = 4, .threads = threads, .tolerance = tolerance, .keep_ranges = true};
      cr_expect_eq(emit_case_run(m, &c), 0, "%s with %u threads", t->name, threads);
      arena_free(arena);
    }
  }
}

Test(emit_kernels, gemm_tile) {
  check(
      "kernel @gemm(%a: f32[24,20] arg, %b: f32[2,20,16] arg, %bias: f32[2,16] arg, %o: f32[24,32] arg) {\n"
      "  for %m in 0..24 step 6 par {\n"
      "    %acc = alloc f32[6,2,16] reg\n"
      "    for %i in 0..6 unroll { for %v in 0..2 unroll { for %l in 0..16 vec {\n"
      "      store %acc[%i, %v, %l], load %bias[%v, %l]\n"
      "    } } }\n"
      "    for %k in 0..20 seq { for %i in 0..6 unroll { for %v in 0..2 unroll { for %l in 0..16 vec {\n"
      "      store %acc[%i, %v, %l], add(mul(load %a[%m+%i, %k], load %b[%v, %k, %l]), load %acc[%i, %v, %l])\n"
      "    } } } }\n"
      "    for %i in 0..6 unroll { for %v in 0..2 unroll { for %l in 0..16 vec {\n"
      "      store %o[%m+%i, 16*%v+%l], max(load %acc[%i, %v, %l], 0.0)\n"
      "    } } }\n"
      "  }\n"
      "}\n",
      0);
}

Test(emit_kernels, strides) {
  check(
      "kernel @s(%x: f32[8,100] arg, %y: i8[200] arg, %o2: f32[8,16] arg, %o3: f32[8,33] arg, %o4: f32[25] arg,\n"
      "          %o5: f32[20] arg, %ob: i8[64] arg, %ow: i16[64] arg) {\n"
      "  for %r in 0..8 par {\n"
      "    for %i in 0..16 vec { store %o2[%r, %i], load %x[%r, 2*%i+3] }\n"
      "    for %i in 0..33 vec { store %o3[%r, %i], load %x[%r, 3*%i+1] }\n"
      "  }\n"
      "}\n"
      "kernel @t(%x: f32[8,100] arg, %y: i8[200] arg, %o4: f32[25] arg, %o5: f32[20] arg, %ob: i8[64] arg,\n"
      "          %ow: i16[64] arg) {\n"
      "  for %i in 0..25 vec { store %o4[%i], load %x[0, 4*%i] }\n"
      "  for %i in 0..20 vec { store %o5[%i], load %x[7, 5*%i+4] }\n"
      "  for %i in 0..64 step 2 vec { store %ob[%i], load %y[3*%i] }\n"
      "  for %i in 0..16 vec { store %ow[4*%i+1], cast(load %y[2*%i], i16) }\n"
      "}\n",
      0);
}

Test(emit_kernels, long_and_odd_vec_loops) {
  check(
      "kernel @v(%x: f32[200] arg, %k: f64[131] arg, %o: f32[200] arg, %od: f64[131] arg, %tri: i32[1] arg,\n"
      "          %ot: f32[10,10] arg) {\n"
      "  for %i in 3..200 vec { store %o[%i], mul(load %x[%i], 2.0) }\n"
      "  for %i in 0..131 vec { store %od[%i], cast(cast(load %k[%i], f32), f64) }\n"
      "  for %r in 0..10 seq { for %i in 0..%r vec { store %ot[%r, %i], cast(index(%i+%r), f32) } }\n"
      "}\n",
      0);
}

Test(emit_kernels, gather) {
  check(
      "kernel @g(%x: f32[8,16] arg, %at: i64[40] arg, %b: i8[16] arg, %t: u8[16] arg, %o: f32[40] arg,\n"
      "          %oo: i8[40] arg, %ol: u8[40] arg) {\n"
      "  for %i in 0..40 vec {\n"
      "    let %j = load %at[%i]\n"
      "    store %o[%i], load %x[%j, 3]\n"
      "    store %oo[%i], load %b[%j+2]\n"
      "    store %ol[%i], lookup16(load %t[0], cast(load %at[%i], u8))\n"
      "  }\n"
      "}\n"
      "kernel @table(%x: i32[48] arg, %t: f32[40] arg, %o: f32[48] arg) {\n"
      "  for %i in 0..16 vec { store %o[%i], lookup32(load %t[8], load %x[%i]) }\n"
      "  for %i in 16..48 vec { store %o[%i], lookup32(load %t[0], shr(load %x[%i], 7)) }\n"
      "}\n"
      "kernel @bytes(%x: u8[128] arg, %t: u8[192] arg, %o: u8[256] arg) {\n"
      "  for %i in 0..128 vec { store %o[%i], lookup64(load %t[8], load %x[%i]) }\n"
      "  for %i in 0..128 vec { store %o[%i+128], lookup128(load %t[64], load %x[%i]) }\n"
      "}\n"
      "kernel @one(%x: f32[8,16] arg, %at: i32[4] arg, %o: f32[4,16] arg) {\n"
      "  for %r in 0..4 par {\n"
      "    let %j = load %at[%r]\n"
      "    for %i in 0..16 vec { store %o[%r, %i], load %x[%j, %i] }\n"
      "  }\n"
      "}\n",
      0);
}

Test(emit_kernels, divergent_if) {
  check(
      "kernel @d(%x: f32[30] arg, %c: i32[32] arg, %o: f32[32] arg, %oi: i32[32] arg, %os: i32[64] arg) {\n"
      "  for %i in 0..32 vec {\n"
      "    if lt(index(%i), 30) {\n"
      "      let %v = load %x[%i]\n"
      "      store %o[%i], neg(%v)\n"
      "      if gt(load %c[%i], 3) { store %oi[%i], div(7, load %c[%i]) } else { store %os[2*%i], 5 }\n"
      "    } else {\n"
      "      store %o[%i], 1.0\n"
      "    }\n"
      "  }\n"
      "}\n"
      "kernel @u(%x: f32[4] arg, %n: i32[1] arg, %o: f32[4] arg) {\n"
      "  if eq(load %n[0], 3) { for %i in 0..4 vec { store %o[%i], load %x[%i] } } else { store %o[2], 9.0 }\n"
      "}\n",
      0);
}

Test(emit_kernels, reductions) {
  check(
      "kernel @r(%x: i32[40] arg, %f: f32[17] arg, %w: u8[33] arg, %oi: i32[4] arg, %of: f32[2] arg, %o8: u8[4] arg,\n"
      "          %o64: u64[1] arg, %o16: u16[1] arg, %o32: u32[1] arg, %ov: i32[40] arg) {\n"
      "  for %i in 0..40 vec { reduce add %oi[0], load %x[%i] }\n"
      "  for %i in 0..7 vec { reduce max %oi[1], load %x[%i] }\n"
      "  for %i in 0..100 vec { reduce add %oi[2], 3 }\n"
      "  for %i in 0..17 vec { reduce max %of[0], load %f[%i] }\n"
      "  for %i in 0..17 vec { reduce min %of[1], load %f[%i] }\n"
      "  for %i in 0..33 vec { reduce xor %o8[0], load %w[%i] }\n"
      "  for %i in 0..33 vec { reduce max %o8[1], load %w[%i] }\n"
      "  for %i in 0..40 vec { reduce add %ov[%i], load %x[%i] }\n"
      "  for %i in 0..8 vec { reduce bits %o8[2], gt(load %x[%i], 3) }\n"
      "  for %i in 0..16 vec { reduce bits %o16[0], gt(load %x[%i], 3) }\n"
      "  for %i in 0..32 vec { reduce bits %o32[0], gt(load %x[%i], 3) }\n"
      "  for %i in 0..33 seq { reduce add %oi[3], load %x[%i] }\n"
      "}\n"
      "kernel @b(%x: i8[64] arg, %o64: u64[1] arg, %o8: u8[1] arg, %oi: i32[1] arg) {\n"
      "  for %i in 0..64 vec { reduce bits %o64[0], gt(load %x[%i], 3) }\n"
      "  for %i in 0..64 vec { if gt(load %x[%i], 5) { reduce add %oi[0], cast(load %x[%i], i32) } }\n"
      "}\n",
      0);
}

Test(emit_kernels, float_sums) {
  check(
      "kernel @r(%f: f32[37] arg, %d: f64[37] arg, %of: f32[1] arg, %od: f64[1] arg) {\n"
      "  for %i in 0..37 vec { reduce add %of[0], load %f[%i] }\n"
      "  for %i in 0..37 vec { reduce add %od[0], load %d[%i] }\n"
      "}\n",
      1e-5);
}

Test(emit_kernels, calls_and_local_buffers) {
  check(
      "kernel @inner(%x: f32[8] arg, %o: f32[8] arg) {\n"
      "  for %i in 0..8 par { store %o[%i], add(load %x[%i], 1.0) }\n"
      "}\n"
      "kernel @outer(%x: f32[4,8] arg, %o: f32[4,8] arg) {\n"
      "  for %r in 0..4 seq { call @inner(%x at 8*%r, %o at 8*%r) }\n"
      "}\n"
      "kernel @local(%x: f32[4,8] arg, %o: f32[4,8] arg) {\n"
      "  %t = alloc f32[8] stack\n"
      "  for %r in 0..4 seq {\n"
      "    for %i in 0..8 vec { store %t[%i], load %x[%r, %i] }\n"
      "    for %i in 0..8 seq { store %o[%r, %i], load %t[7-%i] }\n"
      "  }\n"
      "}\n",
      0);
}

// Columns of byte tiles 16 wide, as transposes read them; the rows are written in another order than they are read.
Test(emit_kernels, byte_tiles) {
  for (int height = 16; height <= 64; height *= 2) {
    char text[6000];
    int n = snprintf(text, sizeof text,
                     "kernel @tile(%%x: u8[%d,16] arg, %%o: u8[16,%d] arg) {\n  for %%p in 0..1 par {\n"
                     "    %%t = alloc u8[%d,16] reg\n    for %%r in 0..%d unroll { for %%l in 0..16 vec {\n"
                     "      store %%t[%%r, %%l], load %%x[%%r, %%l]\n    } }\n",
                     height, height, height, height);
    for (int c = 0; c < 16; c++) {
      n += snprintf(text + n, sizeof text - (size_t)n,
                    "    for %%l in 0..%d vec { store %%o[%d, %%l], load %%t[%%l, %d] }\n", height, 15 - c, c);
    }
    snprintf(text + n, sizeof text - (size_t)n, "  }\n}\n");
    check(text, 0);
  }
}
