// Products of bytes by four on ARM: lanes of 32 bits, each the sum of four products and what it held.
//
//   dotprod, i8mm   sdot, and usdot where the first bytes are unsigned: four lanes an instruction
//   NEON            halves of the words multiplied to 16 bits and added in pairs: smull, sadalp, smull, sadalp
//   DSP (Cortex-M4, M7, M33)  bytes 0 and 2, then 1 and 3 widened to 16 bits; smlad adds two products
//
// NULL where the row, the shape or the signs have no such instruction. Exact for all bytes: two products of 16 bits are
// added in 32.
#include <string.h>

#include "backends/llvm/llvm.h"

static bool is_a64(const Emit *e) { return strcmp(e->row->t.arch, "aarch64") == 0; }

static bool has_dsp(const Emit *e) {
  return e->row->bare && strncmp(e->row->triple, "thumbv6m", 8) != 0 && strncmp(e->row->triple, "thumbv7m", 8) != 0;
}

// ---- one lane

// Bytes 0 and 2, or 1 and 3, as two numbers of 16 bits.
static LV widen_two(Emit *e, LV word, bool odd, bool sign) {
  if (odd) word = call_intrinsic(e, "llvm.fshr", 1, &e->i32, 3, (LV[]){word, word, lv_int(e->i32, 8)});
  return call_intrinsic(e, sign ? "llvm.arm.sxtb16" : "llvm.arm.uxtb16", 0, NULL, 1, &word);
}

static LV dot4_dsp(Emit *e, bool a_signed, LV *v) {
  LV r = v[0];
  for (int odd = 0; odd < 2; odd++) {
    LV args[3] = {widen_two(e, v[1], odd, a_signed), widen_two(e, v[2], odd, true), r};
    r = call_intrinsic(e, "llvm.arm.smlad", 0, NULL, 3, args);
  }
  return r;
}

// ---- four lanes

// The low or high half of every word, as twice as many bytes.
static LV halves_as_bytes(Emit *e, LV v, bool high) {
  if (high) v = LLVMBuildLShr(e->b, v, lv_int(LLVMTypeOf(v), 16), "");
  LV half = LLVMBuildTrunc(e->b, v, LLVMVectorType(e->i16, 4), "");
  return LLVMBuildBitCast(e->b, half, LLVMVectorType(e->i8, 8), "");
}

static LV dot4_neon(Emit *e, LV *v) {
  LT wide = LLVMVectorType(e->i16, 8), sums = LLVMVectorType(e->i32, 4), types[2] = {sums, wide};
  LV r = v[0];
  for (int high = 0; high < 2; high++) {
    LV a = LLVMBuildSExt(e->b, halves_as_bytes(e, v[1], high), wide, "");
    LV b = LLVMBuildSExt(e->b, halves_as_bytes(e, v[2], high), wide, "");
    LV products = LLVMBuildMul(e->b, a, b, "");
    if (is_a64(e)) {
      r = LLVMBuildAdd(e->b, r, call_intrinsic(e, "llvm.aarch64.neon.saddlp", 2, types, 1, &products), "");
    } else {
      r = call_intrinsic(e, "llvm.arm.neon.vpadals", 2, types, 2, (LV[]){r, products});
    }
  }
  return r;
}

static LV dot4_dotprod(Emit *e, const char *name, LV *v) {
  LT bytes = LLVMVectorType(e->i8, 16), types[2] = {LLVMTypeOf(v[0]), bytes};
  LV args[3] = {v[0], LLVMBuildBitCast(e->b, v[1], bytes, ""), LLVMBuildBitCast(e->b, v[2], bytes, "")};
  return call_intrinsic(e, name, 2, types, 3, args);
}

static LV four_of(Emit *e, LV v, uint32_t first) {
  int32_t lanes[4];
  for (uint32_t i = 0; i < 4; i++) lanes[i] = (int32_t)(first + i);
  return shuffle(e, v, NULL, 4, lanes);
}

// More than four lanes go in groups of four.
static LV dot4_groups(Emit *e, bool a_signed, LV *v, uint32_t n) {
  int32_t order[64];
  LV all = NULL;
  for (uint32_t at = 0; at < n; at += 4) {
    LV part[3] = {four_of(e, v[0], at), four_of(e, v[1], at), four_of(e, v[2], at)};
    LV r = emit_dot4_arm(e, a_signed, part);
    for (uint32_t i = 0; i < at + 4; i++) order[i] = (int32_t)i;
    all = at == 0 ? r : shuffle(e, all, at > 4 ? resize_lanes(e, r, at) : r, at + 4, order);
  }
  return all;
}

LV emit_dot4_arm(Emit *e, bool a_signed, LV *v) {
  uint32_t n = lanes_of(v[0]);
  if (e->row->t.arch[0] == 'x' || n > 64) return NULL;
  if (n == 1) return has_dsp(e) ? dot4_dsp(e, a_signed, v) : NULL;
  bool i8mm = target_has(e->row, FEATURE_I8MM), dotprod = target_has(e->row, FEATURE_DOTPROD);
  if (n % 4 != 0 || e->row->bare || (!a_signed && !i8mm)) return NULL;
  if (n > 4) return dot4_groups(e, a_signed, v, n);
  if (!a_signed) return dot4_dotprod(e, "llvm.aarch64.neon.usdot", v);
  return dotprod ? dot4_dotprod(e, "llvm.aarch64.neon.sdot", v) : dot4_neon(e, v);
}
