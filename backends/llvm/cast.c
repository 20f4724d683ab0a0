// Conversions between lane types (KOP_CAST), bit for bit as ir/keval does them.
//
// f16 uses the hardware where the row has it and integer arithmetic elsewhere (LLVM would call the compiler's run-time
// library); bf16 is always integer arithmetic, because the instructions flush denormals. double -> f16/bf16 rounds
// once: the step through float rounds to odd.
#include <string.h>

#include "backends/llvm/llvm.h"

static LV add(Emit *e, LV a, LV b) { return LLVMBuildAdd(e->b, a, b, ""); }
static LV and_k(Emit *e, LV a, uint64_t k) { return LLVMBuildAnd(e->b, a, lv_int(LLVMTypeOf(a), k), ""); }
static LV or_k(Emit *e, LV a, uint64_t k) { return LLVMBuildOr(e->b, a, lv_int(LLVMTypeOf(a), k), ""); }
static LV shl_k(Emit *e, LV a, uint64_t k) { return LLVMBuildShl(e->b, a, lv_int(LLVMTypeOf(a), k), ""); }
static LV shr_k(Emit *e, LV a, uint64_t k) { return LLVMBuildLShr(e->b, a, lv_int(LLVMTypeOf(a), k), ""); }
static LV cmp_k(Emit *e, LLVMIntPredicate p, LV a, uint64_t k) {
  return LLVMBuildICmp(e->b, p, a, lv_int(LLVMTypeOf(a), k), "");
}
static LV select3(Emit *e, LV c, LV a, LV b) { return LLVMBuildSelect(e->b, c, a, b, ""); }
static LV resize(Emit *e, LV v, LT scalar, bool is_signed) {
  return LLVMBuildIntCast2(e->b, v, type_like(scalar, v), is_signed, "");
}

// Half to float with integers: exponent and mantissa are shifted into place and rebased by a multiplication by 2^112,
// which is exact and normalises denormals; infinity and NaN get the full exponent.
static LV f16_widen_soft(Emit *e, LV x) {
  LV w = resize(e, x, e->i32, false);
  LV magnitude = shl_k(e, and_k(e, w, 0x7fff), 13);
  LV scaled = LLVMBuildFMul(e->b, vary_bitcast(e, magnitude, e->f32), lv_real(type_like(e->f32, x), 0x1p112), "");
  LV special = cmp_k(e, LLVMIntUGE, magnitude, 0x7c00u << 13);
  LV nan = cmp_k(e, LLVMIntUGT, magnitude, 0x7c00u << 13);
  LV bits = select3(e, special, or_k(e, magnitude, 0x7f800000), vary_bitcast(e, scaled, e->i32));
  bits = select3(e, nan, or_k(e, bits, 0x400000), bits);
  LV sign = shl_k(e, and_k(e, w, 0x8000), 16);
  return vary_bitcast(e, LLVMBuildOr(e->b, bits, sign, ""), e->f32);
}

// Float to half with integers. Normal results: round the 13 low bits half to even while rebasing the exponent.
// Denormal results: adding 0.5 lines the mantissa up with the half's lowest bit and rounds it.
static LV f16_narrow_soft(Emit *e, LV x) {
  LV w = vary_bitcast(e, x, e->i32);
  LV sign = and_k(e, shr_k(e, w, 16), 0x8000);
  LV magnitude = and_k(e, w, 0x7fffffff);
  LV odd = and_k(e, shr_k(e, magnitude, 13), 1);
  LV normal = shr_k(e, add(e, add(e, magnitude, odd), lv_int(LLVMTypeOf(w), 0xc8000fffu)), 13);
  LV half = LLVMBuildFAdd(e->b, vary_bitcast(e, magnitude, e->f32), lv_real(LLVMTypeOf(x), 0.5), "");
  LV denormal = and_k(e, vary_bitcast(e, half, e->i32), 0x7ff);
  LV r = select3(e, cmp_k(e, LLVMIntULT, magnitude, 0x38800000), denormal, normal);
  r = select3(e, cmp_k(e, LLVMIntUGE, magnitude, 0x477ff000), lv_int(LLVMTypeOf(w), 0x7c00), r);
  r = select3(e, cmp_k(e, LLVMIntUGT, magnitude, 0x7f800000), lv_int(LLVMTypeOf(w), 0x7e00), r);
  return resize(e, LLVMBuildOr(e->b, r, sign, ""), e->i16, false);
}

LV widen_half(Emit *e, DType t, LV x) {
  if (t == DT_BF16) return vary_bitcast(e, shl_k(e, resize(e, x, e->i32, false), 16), e->f32);
  if (!e->row->t.has_f16_convert) return f16_widen_soft(e, x);
  LV half = vary_bitcast(e, x, LLVMHalfTypeInContext(e->ctx));
  return LLVMBuildFPExt(e->b, half, type_like(e->f32, x), "");
}

static LV bf16_narrow(Emit *e, LV x) {
  LV w = vary_bitcast(e, x, e->i32);
  LV odd = and_k(e, shr_k(e, w, 16), 1);
  LV rounded = shr_k(e, add(e, add(e, w, odd), lv_int(LLVMTypeOf(w), 0x7fff)), 16);
  LV quiet = or_k(e, shr_k(e, w, 16), 0x40);
  LV nan = LLVMBuildFCmp(e->b, LLVMRealUNO, x, x, "");
  return resize(e, select3(e, nan, quiet, rounded), e->i16, false);
}

LV narrow_half(Emit *e, DType t, LV x) {
  if (t == DT_BF16) return bf16_narrow(e, x);
  if (!e->row->t.has_f16_convert) return f16_narrow_soft(e, x);
  LV half = LLVMBuildFPTrunc(e->b, x, type_like(LLVMHalfTypeInContext(e->ctx), x), "");
  return vary_bitcast(e, half, e->i16);
}

// double -> float rounded to odd: truncated towards zero, lowest bit set when anything was cut off.
static LV f32_round_odd(Emit *e, LV x) {
  LV near = LLVMBuildFPTrunc(e->b, x, type_like(e->f32, x), "");
  LV back = LLVMBuildFPExt(e->b, near, LLVMTypeOf(x), "");
  LV inexact = LLVMBuildFCmp(e->b, LLVMRealONE, back, x, "");
  LV larger =
      LLVMBuildFCmp(e->b, LLVMRealOGT, unary_intrinsic(e, "llvm.fabs", back), unary_intrinsic(e, "llvm.fabs", x), "");
  LV bits = vary_bitcast(e, near, e->i32);
  bits = LLVMBuildSub(e->b, bits, resize(e, larger, e->i32, false), "");
  bits = LLVMBuildOr(e->b, bits, resize(e, inexact, e->i32, false), "");
  return vary_bitcast(e, bits, e->f32);
}

static LV float_to_float(Emit *e, DType from, DType to, LV x) {
  if (from == to) return x;
  LV wide = from == DT_F16 || from == DT_BF16 ? widen_half(e, from, x) : x;
  bool is_double = from == DT_F64;
  switch (to) {
    case DT_F64: return is_double ? wide : LLVMBuildFPExt(e->b, wide, type_like(e->f64, x), "");
    case DT_F32: return is_double ? LLVMBuildFPTrunc(e->b, wide, type_like(e->f32, x), "") : wide;
    default: return narrow_half(e, to, is_double ? f32_round_odd(e, wide) : wide);
  }
}

static bool is_unsigned(DType t) { return dtype_info(t)->cls != DC_INT; }

// x, or the limit where `better` does not hold (also for NaN).
static LV limited(Emit *e, LLVMRealPredicate better, LV x, double limit) {
  LV by = lv_real(LLVMTypeOf(x), limit);
  return select3(e, LLVMBuildFCmp(e->b, better, x, by, ""), x, by);
}

// ---- bytes: four registers of 32-bit integers make one

typedef struct Pack {
  uint32_t lanes;  // of a quarter
  const char *words, *bytes, *unsigned_bytes, *from_float;
  uint32_t feature;
} Pack;

static const Pack packs[] = {
    {16, "llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packsswb.512", "llvm.x86.avx512.packuswb.512",
     "llvm.x86.avx512.mask.cvtps2dq.512", FEATURE_AVX512BW},
    {8, "llvm.x86.avx2.packssdw", "llvm.x86.avx2.packsswb", "llvm.x86.avx2.packuswb", "llvm.x86.avx.cvt.ps2dq.256",
     FEATURE_AVX2},
    {4, "llvm.x86.sse2.packssdw.128", "llvm.x86.sse2.packsswb.128", "llvm.x86.sse2.packuswb.128",
     "llvm.x86.sse2.cvtps2dq", FEATURE_SSE3},
};

// How x86 packs up to four registers of lanes into bytes, or NULL: not one, which would have to be cut first.
static const Pack *pack_of(const Emit *e, DType to, uint32_t n) {
  const Pack *best = NULL;
  if (strcmp(e->row->t.arch, "x86-64") != 0 || (to != DT_U8 && to != DT_I8)) return NULL;
  if (n <= target_lanes(&e->row->t, 32)) return NULL;
  for (uint32_t i = 0; i < sizeof packs / sizeof *packs; i++)
    if (n <= 4 * packs[i].lanes && target_has(e->row, packs[i].feature)) best = &packs[i];
  return best;
}

static LV quarter_of(Emit *e, LV v, uint32_t which, uint32_t n) {
  int32_t lanes[64];
  for (uint32_t i = 0; i < n; i++) lanes[i] = (int32_t)(which * n + i);
  return shuffle(e, v, NULL, n, lanes);
}

// Four quarters saturated to bytes. Packing takes four lanes of each in turn; the order is put right at the end.
static LV pack_bytes(Emit *e, const Pack *p, DType to, LV *quarter) {
  uint32_t groups = p->lanes / 4;
  LV low = call_intrinsic(e, p->words, 0, NULL, 2, quarter),
     high = call_intrinsic(e, p->words, 0, NULL, 2, quarter + 2);
  const char *name = to == DT_U8 ? p->unsigned_bytes : p->bytes;
  LV all = call_intrinsic(e, name, 0, NULL, 2, (LV[]){low, high});
  if (groups == 1) return all;
  int32_t order[16];
  for (uint32_t i = 0; i < p->lanes; i++) order[i] = (int32_t)(i % groups * 4 + i / groups);
  LV fours = shuffle(e, LLVMBuildBitCast(e->b, all, LLVMVectorType(e->i32, p->lanes), ""), NULL, p->lanes, order);
  return LLVMBuildBitCast(e->b, fours, LLVMVectorType(e->i8, 4 * p->lanes), "");
}

// One quarter rounded half to even, and `add`. What is below 32 bits becomes the least integer, which packing
// saturates; what is above was cut before. NaN becomes the least integer too, which is 0 as an unsigned byte.
static LV round_quarter(Emit *e, const Pack *p, DType to, LV x, int64_t add) {
  LV hi = lv_real(LLVMTypeOf(x), (double)(dtype_max(to) - add));
  LV cut = select3(e, LLVMBuildFCmp(e->b, LLVMRealOLT, hi, x, ""), hi, x);
  if (add < 0) cut = limited(e, LLVMRealOGT, cut, (double)(dtype_min(to) - add));
  LT t = LLVMVectorType(e->i32, p->lanes);
  LV args[4] = {cut, LLVMConstNull(t), LLVMConstInt(e->i16, UINT64_C(0xffff), false), LLVMConstInt(e->i32, 4, false)};
  LV r = call_intrinsic(e, p->from_float, 0, NULL, p->lanes == 16 ? 4 : 1, args);
  if (add != 0) r = LLVMBuildAdd(e->b, r, lv_int(t, (uint64_t)add), "");
  return to == DT_U8 ? r : select3(e, LLVMBuildFCmp(e->b, LLVMRealORD, x, x, ""), r, LLVMConstNull(t));
}

static LV round_to_bytes(Emit *e, const Pack *p, DType to, LV x, int64_t add) {
  LV quarter[4];
  uint32_t n = lanes_of(x);
  if (n < 4 * p->lanes) return resize_lanes(e, round_to_bytes(e, p, to, resize_lanes(e, x, 4 * p->lanes), add), n);
  for (uint32_t i = 0; i < 4; i++) quarter[i] = round_quarter(e, p, to, quarter_of(e, x, i, p->lanes), add);
  return pack_bytes(e, p, to, quarter);
}

// Integers of 32 bits saturated to bytes as x86 packs them, or NULL.
LV emit_saturate_bytes(Emit *e, DType to, LV x) {
  if (LLVMGetTypeKind(LLVMTypeOf(x)) != LLVMVectorTypeKind) return NULL;
  const Pack *p = pack_of(e, to, lanes_of(x));
  uint32_t n = lanes_of(x);
  if (p == NULL) return NULL;
  if (n < 4 * p->lanes) return resize_lanes(e, emit_saturate_bytes(e, to, resize_lanes(e, x, 4 * p->lanes)), n);
  LV quarter[4];
  for (uint32_t i = 0; i < 4; i++) quarter[i] = quarter_of(e, x, i, p->lanes);
  return pack_bytes(e, p, to, quarter);
}

// Integers of 32 bits that fit bytes.
static LV narrow_to_bytes(Emit *e, DType to, LV x) {
  const Pack *p = pack_of(e, to, lanes_of(x));
  bool packs = p != NULL && lanes_of(x) == 4 * p->lanes;
  return packs ? emit_saturate_bytes(e, to, x) : resize(e, x, type_value(e, to), false);
}

// Vectors of at most 32 bits, which LLVM would convert lane by lane: clamped to a range where the instruction is exact.
// `add` is added to a rounded result of at most 16 bits.
static LV vector_to_int(Emit *e, DType from, DType to, LV x, bool round, int64_t add) {
  bool wide = dtype_info(to)->bits == 32, single = from != DT_F64;
  double lo = (double)(dtype_min(to) - add), hi = (double)(dtype_max(to) - add);
  LV in = x, zero = lv_real(LLVMTypeOf(x), (double)-add);
  if (dtype_min(to) < 0) in = select3(e, LLVMBuildFCmp(e->b, LLVMRealORD, x, x, ""), x, zero);
  in = limited(e, LLVMRealOGT, in, lo);
  in = limited(e, LLVMRealOLT, in, wide && single ? 2147483520.0 : hi);
  LT types[2] = {type_like(e->i32, x), LLVMTypeOf(x)};
  LV r = round ? call_intrinsic(e, "llvm.lrint", 2, types, 1, &in) : LLVMBuildFPToSI(e->b, in, types[0], "");
  if (wide && single)
    r = select3(e, LLVMBuildFCmp(e->b, LLVMRealOGE, x, lv_real(LLVMTypeOf(x), 0x1p31), ""),
                lv_int(LLVMTypeOf(r), INT32_MAX), r);
  if (add != 0) r = LLVMBuildAdd(e->b, r, lv_int(LLVMTypeOf(r), (uint64_t)add), "");
  return narrow_to_bytes(e, to, r);
}

static LV float_to_int(Emit *e, DType from, DType to, LV x) {
  if (from == DT_F16 || from == DT_BF16) x = widen_half(e, from, x);
  if (to == DT_BOOL) return LLVMBuildFCmp(e->b, LLVMRealONE, x, lv_real(LLVMTypeOf(x), 0), "");
  bool fits = dtype_info(to)->bits <= 16 || to == DT_I32;
  if (fits && LLVMGetTypeKind(LLVMTypeOf(x)) == LLVMVectorTypeKind) return vector_to_int(e, from, to, x, false, 0);
  LT types[2] = {type_like(type_value(e, to), x), LLVMTypeOf(x)};
  return call_intrinsic(e, is_unsigned(to) ? "llvm.fptoui.sat" : "llvm.fptosi.sat", 2, types, 1, &x);
}

static LV int_to_float(Emit *e, DType from, DType to, LV x) {
  DType through = to == DT_F32 ? DT_F32 : DT_F64;
  LT t = type_like(type_value(e, through), x);
  LV r = is_unsigned(from) ? LLVMBuildUIToFP(e->b, x, t, "") : LLVMBuildSIToFP(e->b, x, t, "");
  return float_to_float(e, through, to, r);
}

LV emit_cast(Emit *e, DType from, DType to, LV x) {
  if (dtype_is_float(from)) return dtype_is_float(to) ? float_to_float(e, from, to, x) : float_to_int(e, from, to, x);
  if (dtype_is_float(to)) return int_to_float(e, from, to, x);
  if (to == DT_BOOL) return from == DT_BOOL ? x : cmp_k(e, LLVMIntNE, x, 0);
  return resize(e, x, type_value(e, to), !is_unsigned(from));
}

// x86 rounds half to even while it converts; the limits are whole, so clamping first changes nothing.
LV emit_round_cast(Emit *e, DType from, DType to, LV x, int64_t add) {
  bool fits = dtype_is_int(to) && (dtype_info(to)->bits <= 16 || (to == DT_I32 && add == 0));
  bool vector = LLVMGetTypeKind(LLVMTypeOf(x)) == LLVMVectorTypeKind, single = from == DT_F32 || from == DT_F64;
  const Pack *p = vector && from == DT_F32 ? pack_of(e, to, lanes_of(x)) : NULL;
  if (p != NULL) return round_to_bytes(e, p, to, x, add);
  if (fits && vector && single && strcmp(e->row->t.arch, "x86-64") == 0)
    return vector_to_int(e, from, to, x, true, add);
  LV r = emit_kop(e, KOP_ROUND, from, from, &x);
  if (add != 0) r = LLVMBuildFAdd(e->b, r, lv_real(LLVMTypeOf(r), (double)add), "");
  return emit_cast(e, from, to, r);
}

LV emit_byte_and_back(Emit *e, DType byte, LV x) {
  double lo = (double)dtype_min(byte), hi = (double)dtype_max(byte);
  LV zero = lv_real(LLVMTypeOf(x), 0), in = x;
  if (lo < 0) in = select3(e, LLVMBuildFCmp(e->b, LLVMRealORD, x, x, ""), LLVMBuildFAdd(e->b, x, zero, ""), zero);
  return limited(e, LLVMRealOLT, limited(e, LLVMRealOGT, in, lo), hi);
}
