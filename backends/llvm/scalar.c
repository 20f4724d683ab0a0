// From kernel ops to LLVM instructions, by lane type. The meaning of every op is that of ir/kop.c and ir/keval, bit for
// bit, with one exception: a float fma on a target row without FMA is a multiplication and an addition, each rounded.
// Nothing here may become a call into libm or the compiler's run-time library (object_check would refuse the object).
#include <math.h>

#include <string.h>

#include "backends/llvm/llvm.h"

static bool is_half(DType t) { return t == DT_F16 || t == DT_BF16; }
static bool is_signed(DType t) { return dtype_info(t)->cls == DC_INT; }
static LV select3(Emit *e, LV c, LV a, LV b) { return LLVMBuildSelect(e->b, c, a, b, ""); }
static LV icmp(Emit *e, LLVMIntPredicate p, LV a, LV b) { return LLVMBuildICmp(e->b, p, a, b, ""); }
static LV fcmp(Emit *e, LLVMRealPredicate p, LV a, LV b) { return LLVMBuildFCmp(e->b, p, a, b, ""); }
static LV int_of(LV like, uint64_t k) { return lv_int(LLVMTypeOf(like), k); }

LV emit_select(Emit *e, LV cond, LV a, LV b) {
  if (is_varying(cond)) {
    LV v[3] = {cond, a, b};
    same_shape(e, 3, v);
    return select3(e, v[0], v[1], v[2]);
  }
  LV v[2] = {a, b};
  same_shape(e, 2, v);
  return select3(e, cond, v[0], v[1]);
}

// ---- floats

// max(x, c) with a constant c needs one compare and select: the operand order makes NaN win, and +0 against -0 is
// settled by adding +0. The general form is llvm.maximum.
static LV minmax_const(Emit *e, bool is_max, LV x, LV c, double k) {
  LV r = select3(e, fcmp(e, is_max ? LLVMRealOGT : LLVMRealOLT, c, x), c, x);
  bool settles = k == 0 && (is_max ? !signbit(k) : signbit(k));
  if (!settles) return r;
  return is_max ? LLVMBuildFAdd(e->b, r, lv_real(LLVMTypeOf(r), 0.0), "") : NULL;
}

static bool const_float(LV v, double *k) {
  if (is_varying(v) || !LLVMIsAConstantFP(v)) return false;
  LLVMBool loses;
  *k = LLVMConstRealGetDouble(v, &loses);
  return !isnan(*k);
}

// The first `to` lanes of x, those it has not undefined.
static LV with_lanes(Emit *e, LV x, uint32_t to) {
  LLVMTypeRef i32 = LLVMInt32TypeInContext(e->ctx);
  LV mask[64];
  for (uint32_t i = 0; i < to; i++) mask[i] = i < lanes_of(x) ? LLVMConstInt(i32, i, false) : LLVMGetUndef(i32);
  return LLVMBuildShuffleVector(e->b, x, LLVMGetUndef(LLVMTypeOf(x)), LLVMConstVector(mask, to), "");
}

// AVX-512: vrange orders -0 below +0 but prefers a number to NaN; where one of the two is NaN their sum is the result.
// NULL where the row or the shape has no such instruction.
// Fewer lanes than a vector has are a vector's first ones.
static LV minmax_range(Emit *e, bool is_max, LV x, LV y) {
  static const char *const names[2][3] = {
      {"llvm.x86.avx512.mask.range.ps.128", "llvm.x86.avx512.mask.range.ps.256", "llvm.x86.avx512.mask.range.ps.512"},
      {"llvm.x86.avx512.mask.range.pd.128", "llvm.x86.avx512.mask.range.pd.256", "llvm.x86.avx512.mask.range.pd.512"}};
  LLVMTypeRef t = LLVMTypeOf(x);
  uint32_t lanes = is_varying(x) ? lanes_of(x) : 1;
  if (lanes < 2 || !target_has(e->row, FEATURE_AVX512DQ) || !target_has(e->row, FEATURE_AVX512VL)) return NULL;
  bool wide = LLVMGetTypeKind(LLVMGetElementType(t)) == LLVMDoubleTypeKind;
  uint32_t bits = lanes * (wide ? 64 : 32), whole = bits <= 128 ? 128 : bits <= 256 ? 256 : 512, had = lanes;
  if (bits > 512) return NULL;
  lanes = whole / (wide ? 64 : 32);
  uint32_t mask_bits = lanes < 8 ? 8 : lanes;
  if (lanes != had) {
    x = with_lanes(e, x, lanes);
    y = with_lanes(e, y, lanes);
  }
  LLVMTypeRef i32 = LLVMInt32TypeInContext(e->ctx), mask = LLVMIntTypeInContext(e->ctx, mask_bits);
  LV args[6] = {x, y, LLVMConstInt(i32, is_max ? 5 : 4, false), x, LLVMConstAllOnes(mask), LLVMConstInt(i32, 4, false)};
  const char *name = names[wide][whole == 128 ? 0 : whole == 256 ? 1 : 2];
  LV r = call_intrinsic(e, name, 0, NULL, whole == 512 ? 6 : 5, args);
  r = select3(e, fcmp(e, LLVMRealUNO, x, y), LLVMBuildFAdd(e->b, x, y, ""), r);
  return lanes == had ? r : with_lanes(e, r, had);
}

static bool is_double(LV x) {
  LT t = LLVMTypeOf(x);
  return LLVMGetTypeKind(is_varying(x) ? LLVMGetElementType(t) : t) == LLVMDoubleTypeKind;
}

// 32-bit ARM: by comparisons. The bits of two zeros joined order -0 below +0, a sum brings NaN forth.
static LV minmax_compared(Emit *e, bool is_max, LV x, LV y) {
  LT t = LLVMTypeOf(x);
  LT whole = type_like(is_double(x) ? e->i64 : e->i32, x);
  LV bx = LLVMBuildBitCast(e->b, x, whole, ""), by = LLVMBuildBitCast(e->b, y, whole, "");
  LV zero = LLVMBuildBitCast(e->b, is_max ? LLVMBuildAnd(e->b, bx, by, "") : LLVMBuildOr(e->b, bx, by, ""), t, "");
  LV r = select3(e, fcmp(e, is_max ? LLVMRealOGT : LLVMRealOLT, x, y), x, y);
  r = select3(e, fcmp(e, LLVMRealOEQ, x, y), zero, r);
  return select3(e, fcmp(e, LLVMRealUNO, x, y), LLVMBuildFAdd(e->b, x, y, ""), r);
}

static LV emit_minmax(Emit *e, bool is_max, LV x, LV y) {
  double k;
  if (const_float(x, &k)) {
    LV t = x;
    x = y;
    y = t;
  }
  bool constant = const_float(y, &k);
  LV v[2] = {x, y};
  same_shape(e, 2, v);
  bool compares = e->row->t.arch[0] == 'x' || e->row->bits32;
  LV r = constant && compares ? minmax_const(e, is_max, v[0], v[1], k) : NULL;
  if (!r) r = minmax_range(e, is_max, v[0], v[1]);
  if (!r && e->row->bits32) r = minmax_compared(e, is_max, v[0], v[1]);
  return r ? r : binary_intrinsic(e, is_max ? "llvm.maximum" : "llvm.minimum", v[0], v[1]);
}

static LV emit_fma(Emit *e, LV a, LV b, LV c) {
  LV v[3] = {a, b, c};
  same_shape(e, 3, v);
  bool wide = is_double(v[0]);
  if (!e->row->t.has_fma || (wide && e->row->t.no_double))
    return LLVMBuildFAdd(e->b, LLVMBuildFMul(e->b, v[0], v[1], ""), v[2], "");
  LT t = LLVMTypeOf(v[0]);
  return call_intrinsic(e, "llvm.fma", 1, &t, 3, v);
}

// a * b + c for half types: the product is exact in double, the sum is rounded to odd, the caller rounds to the type.
static LV fma_half(Emit *e, LV a, LV b, LV c) {
  LV v[3] = {a, b, c};
  same_shape(e, 3, v);
  LT t = type_like(e->f64, v[0]);
  for (int i = 0; i < 3; i++) v[i] = LLVMBuildFPExt(e->b, v[i], t, "");
  LV p = LLVMBuildFMul(e->b, v[0], v[1], ""), s = LLVMBuildFAdd(e->b, p, v[2], "");
  LV bb = LLVMBuildFSub(e->b, s, p, "");
  LV err = LLVMBuildFAdd(e->b, LLVMBuildFSub(e->b, p, LLVMBuildFSub(e->b, s, bb, ""), ""),
                         LLVMBuildFSub(e->b, v[2], bb, ""), "");
  LV bits = vary_bitcast(e, s, e->i64), zero = lv_real(t, 0);
  LV inexact = fcmp(e, LLVMRealONE, err, zero);  // false for the NaN that infinities give
  LV even = icmp(e, LLVMIntEQ, LLVMBuildAnd(e->b, bits, int_of(bits, 1), ""), int_of(bits, 0));
  LV away = icmp(e, LLVMIntEQ, fcmp(e, LLVMRealOGT, err, zero), fcmp(e, LLVMRealOGT, s, zero));
  LV step = select3(e, away, int_of(bits, 1), int_of(bits, UINT64_MAX));
  LV moved = LLVMBuildAdd(e->b, bits, step, "");
  return vary_bitcast(e, select3(e, LLVMBuildAnd(e->b, inexact, even, ""), moved, bits), e->f64);
}

// ---- the exact remainder of floats, as a function with a loop over the difference of exponents

typedef struct FloatShape {
  LT ft, it;          // scalar types
  uint32_t mantissa;  // stored bits
  uint32_t exponent;  // bits
  uint32_t chunk;     // exponent steps per division: mantissa + 1 + chunk <= 64
} FloatShape;

// Splits a positive finite number into integer mantissa (i64) and exponent >= 1 (i64); denormals have exponent 1.
static void split_float(Emit *e, const FloatShape *s, LV bits, LV *mantissa, LV *exponent) {
  LV wide = LLVMBuildZExt(e->b, bits, e->i64, "");
  LV stored = LLVMBuildAnd(e->b, wide, lv_int(e->i64, (UINT64_C(1) << s->mantissa) - 1), "");
  LV exp = LLVMBuildLShr(e->b, wide, lv_int(e->i64, s->mantissa), "");
  LV denormal = icmp(e, LLVMIntEQ, exp, lv_int(e->i64, 0));
  LV full = LLVMBuildOr(e->b, stored, lv_int(e->i64, UINT64_C(1) << s->mantissa), "");
  *mantissa = select3(e, denormal, stored, full);
  *exponent = select3(e, denormal, lv_int(e->i64, 1), exp);
}

// Of a number of 64 bits above 0. Cortex-M0 has no instruction: the bits below the highest one are set and counted.
static LV leading_zeros(Emit *e, LV x) {
  LV args[2] = {x, LLVMConstInt(e->i1, 0, false)};
  if (strncmp(e->row->triple, "thumbv6m", 8) != 0) return call_intrinsic(e, "llvm.ctlz", 1, &e->i64, 2, args);
  for (uint64_t by = 1; by < 64; by *= 2) x = LLVMBuildOr(e->b, x, LLVMBuildLShr(e->b, x, lv_int(e->i64, by), ""), "");
  return LLVMBuildSub(e->b, lv_int(e->i64, 64), unary_intrinsic(e, "llvm.ctpop", x), "");
}

// mantissa < 2^(stored + 1), exponent >= 1: the float's bits, normalised.
static LV join_float(Emit *e, const FloatShape *s, LV mantissa, LV exponent) {
  LV zeros = leading_zeros(e, mantissa);
  LV room = LLVMBuildSub(e->b, zeros, lv_int(e->i64, 63 - s->mantissa), "");
  LV down = binary_intrinsic(e, "llvm.umin", room, LLVMBuildSub(e->b, exponent, lv_int(e->i64, 1), ""));
  LV m = LLVMBuildShl(e->b, mantissa, down, ""), x = LLVMBuildSub(e->b, exponent, down, "");
  // A set top bit adds 1 to the exponent field by itself.
  LV field = LLVMBuildShl(e->b, LLVMBuildSub(e->b, x, lv_int(e->i64, 1), ""), lv_int(e->i64, s->mantissa), "");
  return LLVMBuildAdd(e->b, field, m, "");
}

// The bits of |x| mod |y| for finite |x| >= |y| > 0: as many exponent steps per division as fit 64 bits.
static LV fmod_loop(Emit *e, const FloatShape *s, LV ax, LV ay) {
  LV mx, ex, my, ey;
  split_float(e, s, ax, &mx, &ex);
  split_float(e, s, ay, &my, &ey);
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  LLVMBasicBlockRef loop = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "reduce");
  LLVMBasicBlockRef after = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "join");
  LV first = LLVMBuildURem(e->b, mx, my, "");
  LV gap = LLVMBuildSub(e->b, ex, ey, "");
  LLVMBuildCondBr(e->b, icmp(e, LLVMIntSGT, gap, lv_int(e->i64, 0)), loop, after);
  LLVMPositionBuilderAtEnd(e->b, loop);
  LV m = LLVMBuildPhi(e->b, e->i64, ""), left = LLVMBuildPhi(e->b, e->i64, "");
  LV by = binary_intrinsic(e, "llvm.umin", left, lv_int(e->i64, s->chunk));
  LV m1 = LLVMBuildURem(e->b, LLVMBuildShl(e->b, m, by, ""), my, "");
  LV left1 = LLVMBuildSub(e->b, left, by, "");
  LLVMBuildCondBr(e->b, icmp(e, LLVMIntEQ, left1, lv_int(e->i64, 0)), after, loop);
  LLVMAddIncoming(m, (LV[]){first, m1}, (LLVMBasicBlockRef[]){before, loop}, 2);
  LLVMAddIncoming(left, (LV[]){gap, left1}, (LLVMBasicBlockRef[]){before, loop}, 2);
  LLVMPositionBuilderAtEnd(e->b, after);
  LV rest = LLVMBuildPhi(e->b, e->i64, "");
  LLVMAddIncoming(rest, (LV[]){first, m1}, (LLVMBasicBlockRef[]){before, loop}, 2);
  LV bits = join_float(e, s, rest, ey);
  LV zero = icmp(e, LLVMIntEQ, rest, lv_int(e->i64, 0));
  return LLVMBuildTrunc(e->b, select3(e, zero, lv_int(e->i64, 0), bits), s->it, "");
}

static LV fmod_body(Emit *e, const FloatShape *s, LV fn) {
  LV x = LLVMGetParam(fn, 0), y = LLVMGetParam(fn, 1);
  LLVMBasicBlockRef top = LLVMAppendBasicBlockInContext(e->ctx, fn, "entry");
  LLVMBasicBlockRef usual = LLVMAppendBasicBlockInContext(e->ctx, fn, "usual");
  LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(e->ctx, fn, "done");
  LLVMPositionBuilderAtEnd(e->b, top);
  uint64_t magnitude = (UINT64_C(1) << (s->mantissa + s->exponent)) - 1;
  uint64_t infinite = ((UINT64_C(1) << s->exponent) - 1) << s->mantissa;
  LV bx = LLVMBuildBitCast(e->b, x, s->it, ""), by = LLVMBuildBitCast(e->b, y, s->it, "");
  LV ax = LLVMBuildAnd(e->b, bx, lv_int(s->it, magnitude), ""),
     ay = LLVMBuildAnd(e->b, by, lv_int(s->it, magnitude), "");
  LV sign = LLVMBuildXor(e->b, bx, ax, "");
  // NaN for x infinite or NaN, y zero or NaN; x itself where |x| < |y|.
  LV bad = LLVMBuildOr(e->b, icmp(e, LLVMIntUGE, ax, lv_int(s->it, infinite)),
                       icmp(e, LLVMIntUGT, ay, lv_int(s->it, infinite)), "");
  bad = LLVMBuildOr(e->b, bad, icmp(e, LLVMIntEQ, ay, lv_int(s->it, 0)), "");
  LV small = icmp(e, LLVMIntULT, ax, ay);
  LV nan = LLVMBuildFDiv(e->b, LLVMBuildFMul(e->b, x, y, ""), LLVMBuildFMul(e->b, x, y, ""), "");
  LV early = select3(e, bad, LLVMBuildBitCast(e->b, nan, s->it, ""), bx);
  LLVMBuildCondBr(e->b, LLVMBuildOr(e->b, bad, small, ""), done, usual);
  LLVMPositionBuilderAtEnd(e->b, usual);
  LV r = LLVMBuildOr(e->b, fmod_loop(e, s, ax, ay), sign, "");
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, done);
  LLVMPositionBuilderAtEnd(e->b, done);
  LV phi = LLVMBuildPhi(e->b, s->it, "");
  LLVMAddIncoming(phi, (LV[]){early, r}, (LLVMBasicBlockRef[]){top, from}, 2);
  return LLVMBuildBitCast(e->b, phi, s->ft, "");
}

static LV fmod_function(Emit *e, bool is_double) {
  LV *slot = &e->helper[is_double];
  if (*slot) return *slot;
  FloatShape s = is_double ? (FloatShape){e->f64, e->i64, 52, 11, 11} : (FloatShape){e->f32, e->i32, 23, 8, 40};
  LLVMBasicBlockRef back = LLVMGetInsertBlock(e->b);
  LV outer = e->fn;
  const char *name = arena_printf(e->arena, "%s_fmod_%s", e->opt->name, is_double ? "f64" : "f32");
  *slot = e->fn = fn_new(e, name, s.ft, 2, (LT[]){s.ft, s.ft}, LLVMInternalLinkage);
  LLVMBuildRet(e->b, fmod_body(e, &s, e->fn));
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, back);
  return *slot;
}

static LV emit_fmod(Emit *e, bool is_double, LV x, LV y) {
  LV fn = fmod_function(e, is_double), v[2] = {x, y};
  same_shape(e, 2, v);
  LT t = LLVMGlobalGetValueType(fn);
  if (!is_varying(v[0])) return LLVMBuildCall2(e->b, t, fn, v, 2, "");
  LV r = LLVMGetPoison(LLVMTypeOf(v[0]));
  for (uint32_t i = 0; i < lanes_of(v[0]); i++) {
    LV at = LLVMConstInt(e->i64, i, false);
    LV one[2] = {LLVMBuildExtractElement(e->b, v[0], at, ""), LLVMBuildExtractElement(e->b, v[1], at, "")};
    r = LLVMBuildInsertElement(e->b, r, LLVMBuildCall2(e->b, t, fn, one, 2, ""), at, "");
  }
  return r;
}

// Sign of the divisor, -0 and +0 included.
static LV emit_float_mod(Emit *e, bool is_double, LV x, LV y) {
  LV v[2] = {emit_fmod(e, is_double, x, y), y};
  same_shape(e, 2, v);
  LV zero = lv_real(LLVMTypeOf(v[0]), 0);
  LV differ = LLVMBuildXor(e->b, fcmp(e, LLVMRealOLT, v[0], zero), fcmp(e, LLVMRealOLT, v[1], zero), "");
  LV r = select3(e, differ, LLVMBuildFAdd(e->b, v[0], v[1], ""), v[0]);
  return select3(e, fcmp(e, LLVMRealOEQ, v[0], zero), binary_intrinsic(e, "llvm.copysign", zero, v[1]), r);
}

static LV float_binary(Emit *e, LLVMOpcode op, LV x, LV y) {
  LV v[2] = {x, y};
  same_shape(e, 2, v);
  return LLVMBuildBinOp(e->b, op, v[0], v[1], "");
}

static LV float_compare(Emit *e, LLVMRealPredicate p, LV x, LV y) {
  LV v[2] = {x, y};
  same_shape(e, 2, v);
  return fcmp(e, p, v[0], v[1]);
}

// ---- rounding and roots where no instruction does them

// Half to even: adding the first number without places behind the point, in the direction of x, rounds.
static LV round_by_sum(Emit *e, bool is_double, LV x) {
  LT t = LLVMTypeOf(x);
  LV big = lv_real(t, is_double ? 0x1p52 : 0x1p23), size = unary_intrinsic(e, "llvm.fabs", x);
  LV r = LLVMBuildFSub(e->b, LLVMBuildFAdd(e->b, size, big, ""), big, "");
  r = select3(e, fcmp(e, LLVMRealOLT, size, big), r, size);  // large numbers, infinity and NaN are whole
  return binary_intrinsic(e, "llvm.copysign", r, x);
}

// The whole number beside x, corrected where rounding went the other way.
static LV round_towards(Emit *e, bool is_double, bool up, LV x) {
  LV r = round_by_sum(e, is_double, x), one = lv_real(LLVMTypeOf(x), 1);
  LV moved = up ? LLVMBuildFAdd(e->b, r, one, "") : LLVMBuildFSub(e->b, r, one, "");
  r = select3(e, fcmp(e, up ? LLVMRealOLT : LLVMRealOGT, r, x), moved, r);
  return binary_intrinsic(e, "llvm.copysign", r, x);
}

static LV emit_round(Emit *e, KOp op, bool is_double, LV x) {
  bool by_sum = e->row->no_round || (is_double && e->row->t.no_double);
  if (e->row->bits32 && op == KOP_ROUND && !by_sum) {  // LLVM knows the instruction by this name only
    if (!is_varying(x)) return unary_intrinsic(e, "llvm.arm.neon.vrintn", x);
    by_sum = true;
  }
  if (by_sum) return op == KOP_ROUND ? round_by_sum(e, is_double, x) : round_towards(e, is_double, op == KOP_CEIL, x);
  return unary_intrinsic(e, op == KOP_FLOOR ? "llvm.floor" : op == KOP_CEIL ? "llvm.ceil" : "llvm.roundeven", x);
}

// The root of a positive finite number, bit by bit, rounded half to even. With x = m 4^n, m of twice the bits of a
// mantissa and more, the root of m has the mantissa's bits and one to round by; what is left over breaks ties.
static LV sqrt_loop(Emit *e, const FloatShape *s, LV bits) {
  LV m, x;
  split_float(e, s, bits, &m, &x);
  LV zeros = leading_zeros(e, m);
  LV up = LLVMBuildSub(e->b, zeros, lv_int(e->i64, 63 - s->mantissa), "");
  m = LLVMBuildShl(e->b, m, up, "");
  x = LLVMBuildSub(e->b, LLVMBuildSub(e->b, x, up, ""), lv_int(e->i64, (UINT64_C(1) << (s->exponent - 1)) - 1), "");
  LV odd = LLVMBuildAnd(e->b, x, lv_int(e->i64, 1), "");
  m = LLVMBuildShl(e->b, m, odd, "");  // in [1, 4) with `mantissa` places behind the point
  LV half = LLVMBuildAShr(e->b, x, lv_int(e->i64, 1), "");
  // Two bits of m at a time go into the rest; one bit of the root comes out. All places: mantissa + 1, and one more.
  uint32_t steps = s->mantissa + 2, top = s->mantissa;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  LLVMBasicBlockRef loop = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "root");
  LLVMBasicBlockRef after = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "rooted");
  m = LLVMBuildShl(e->b, m, lv_int(e->i64, 62 - top), "");  // the two whole bits are the highest ones
  LLVMBuildBr(e->b, loop);
  LLVMPositionBuilderAtEnd(e->b, loop);
  LV i = LLVMBuildPhi(e->b, e->i32, ""), left = LLVMBuildPhi(e->b, e->i64, ""), rest = LLVMBuildPhi(e->b, e->i64, ""),
     root = LLVMBuildPhi(e->b, e->i64, "");
  LV next = LLVMBuildOr(e->b, LLVMBuildShl(e->b, rest, lv_int(e->i64, 2), ""),
                        LLVMBuildLShr(e->b, left, lv_int(e->i64, 62), ""), "");
  LV trial = LLVMBuildOr(e->b, LLVMBuildShl(e->b, root, lv_int(e->i64, 2), ""), lv_int(e->i64, 1), "");
  LV fits = icmp(e, LLVMIntUGE, next, trial);
  LV rest1 = select3(e, fits, LLVMBuildSub(e->b, next, trial, ""), next);
  LV root1 =
      LLVMBuildOr(e->b, LLVMBuildShl(e->b, root, lv_int(e->i64, 1), ""), LLVMBuildZExt(e->b, fits, e->i64, ""), "");
  LV left1 = LLVMBuildShl(e->b, left, lv_int(e->i64, 2), "");
  LV i1 = LLVMBuildAdd(e->b, i, lv_int(e->i32, 1), "");
  LLVMBuildCondBr(e->b, icmp(e, LLVMIntULT, i1, lv_int(e->i32, steps)), loop, after);
  LV zero64 = lv_int(e->i64, 0);
  LLVMBasicBlockRef from[2] = {before, loop};
  LLVMAddIncoming(i, (LV[]){lv_int(e->i32, 0), i1}, from, 2);
  LLVMAddIncoming(left, (LV[]){m, left1}, from, 2);
  LLVMAddIncoming(rest, (LV[]){zero64, rest1}, from, 2);
  LLVMAddIncoming(root, (LV[]){zero64, root1}, from, 2);
  LLVMPositionBuilderAtEnd(e->b, after);
  // A root with one place more than it may have is never exactly half way: the square would need that place twice.
  LV rounded = LLVMBuildLShr(e->b, LLVMBuildAdd(e->b, root1, lv_int(e->i64, 1), ""), lv_int(e->i64, 1), "");
  LV exponent = LLVMBuildAdd(e->b, half, lv_int(e->i64, (UINT64_C(1) << (s->exponent - 1)) - 2), "");
  LV field = LLVMBuildShl(e->b, exponent, lv_int(e->i64, s->mantissa), "");
  return LLVMBuildTrunc(e->b, LLVMBuildAdd(e->b, field, rounded, ""), s->it, "");
}

// float NAME_sqrt_f32(float), or of doubles.
static LV sqrt_function(Emit *e, bool is_double) {
  LV *slot = &e->helper[2 + is_double];
  if (*slot) return *slot;
  FloatShape s = is_double ? (FloatShape){e->f64, e->i64, 52, 11, 11} : (FloatShape){e->f32, e->i32, 23, 8, 40};
  LLVMBasicBlockRef back = LLVMGetInsertBlock(e->b);
  LV outer = e->fn;
  const char *name = arena_printf(e->arena, "%s_sqrt_%s", e->opt->name, is_double ? "f64" : "f32");
  LV fn = *slot = e->fn = fn_new(e, name, s.ft, 1, &s.ft, LLVMInternalLinkage);
  LLVMBasicBlockRef top = LLVMAppendBasicBlockInContext(e->ctx, fn, "entry");
  LLVMBasicBlockRef usual = LLVMAppendBasicBlockInContext(e->ctx, fn, "usual");
  LLVMBasicBlockRef other = LLVMAppendBasicBlockInContext(e->ctx, fn, "other");
  LLVMPositionBuilderAtEnd(e->b, top);
  LV x = LLVMGetParam(fn, 0), bits = LLVMBuildBitCast(e->b, x, s.it, ""), zero = lv_real(s.ft, 0);
  LV positive = fcmp(e, LLVMRealOGT, x, zero);
  LV finite = icmp(e, LLVMIntULT, bits, lv_int(s.it, ((UINT64_C(1) << s.exponent) - 1) << s.mantissa));
  LLVMBuildCondBr(e->b, LLVMBuildAnd(e->b, positive, finite, ""), usual, other);
  LLVMPositionBuilderAtEnd(e->b, usual);
  LLVMBuildRet(e->b, LLVMBuildBitCast(e->b, sqrt_loop(e, &s, bits), s.ft, ""));
  LLVMPositionBuilderAtEnd(e->b, other);  // zeros, infinity and NaN are their own roots, below zero there is none
  LV nan = LLVMBuildFSub(e->b, x, x, "");
  nan = LLVMBuildFDiv(e->b, nan, nan, "");
  LLVMBuildRet(e->b, select3(e, fcmp(e, LLVMRealOLT, x, zero), nan, x));
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, back);
  return *slot;
}

static LV emit_sqrt(Emit *e, bool is_double, LV x) {
  if (!e->row->t.no_float && !(is_double && e->row->t.no_double)) return unary_intrinsic(e, "llvm.sqrt", x);
  LV fn = sqrt_function(e, is_double);
  LT t = LLVMGlobalGetValueType(fn);
  if (!is_varying(x)) return LLVMBuildCall2(e->b, t, fn, &x, 1, "");
  LV r = LLVMGetPoison(LLVMTypeOf(x));
  for (uint32_t i = 0; i < lanes_of(x); i++) {
    LV at = LLVMConstInt(e->i64, i, false), one = LLVMBuildExtractElement(e->b, x, at, "");
    r = LLVMBuildInsertElement(e->b, r, LLVMBuildCall2(e->b, t, fn, &one, 1, ""), at, "");
  }
  return r;
}

static LV float_op(Emit *e, KOp op, bool is_double, LV *a) {
  switch (op) {
    case KOP_NEG: return LLVMBuildFNeg(e->b, a[0], "");
    case KOP_ABS: return unary_intrinsic(e, "llvm.fabs", a[0]);
    case KOP_FLOOR:
    case KOP_CEIL:
    case KOP_ROUND: return emit_round(e, op, is_double, a[0]);
    case KOP_SQRT: return emit_sqrt(e, is_double, a[0]);
    case KOP_ADD: return float_binary(e, LLVMFAdd, a[0], a[1]);
    case KOP_SUB: return float_binary(e, LLVMFSub, a[0], a[1]);
    case KOP_MUL: return float_binary(e, LLVMFMul, a[0], a[1]);
    case KOP_DIV: return float_binary(e, LLVMFDiv, a[0], a[1]);
    case KOP_MOD: return emit_float_mod(e, is_double, a[0], a[1]);
    case KOP_FMOD: return emit_fmod(e, is_double, a[0], a[1]);
    case KOP_MIN: return emit_minmax(e, false, a[0], a[1]);
    case KOP_MAX: return emit_minmax(e, true, a[0], a[1]);
    case KOP_FMA: return emit_fma(e, a[0], a[1], a[2]);
    case KOP_EQ: return float_compare(e, LLVMRealOEQ, a[0], a[1]);
    case KOP_LT: return float_compare(e, LLVMRealOLT, a[0], a[1]);
    case KOP_LE: return float_compare(e, LLVMRealOLE, a[0], a[1]);
    case KOP_GT: return float_compare(e, LLVMRealOGT, a[0], a[1]);
    case KOP_GE: return float_compare(e, LLVMRealOGE, a[0], a[1]);
    default: qcc_bug("kernel %s: op %s on floats reached the backend", e->k->name, kop_info(op)->name);
  }
}

// Half types compute in float and round the result, which is exact for every op here but fma.
static LV half_op(Emit *e, KOp op, DType t, LV *a) {
  LV w[3];
  uint32_t n = kop_info(op)->arity;
  for (uint32_t i = 0; i < n; i++) w[i] = widen_half(e, t, a[i]);
  if (op == KOP_FMA) return emit_cast(e, DT_F64, t, fma_half(e, w[0], w[1], w[2]));
  LV r = float_op(e, op, false, w);
  return kop_info(op)->rule == KRULE_BOOL ? r : narrow_half(e, t, r);
}

// ---- integers

static LV int_binary(Emit *e, LLVMOpcode op, LV x, LV y) {
  LV v[2] = {x, y};
  same_shape(e, 2, v);
  return LLVMBuildBinOp(e->b, op, v[0], v[1], "");
}

static LV int_compare(Emit *e, LLVMIntPredicate p, LV x, LV y) {
  LV v[2] = {x, y};
  same_shape(e, 2, v);
  return icmp(e, p, v[0], v[1]);
}

// An index widened to 64 bits by a positive constant, where such a division is a call: as wide as an index. NULL else.
static LV divide_index(Emit *e, bool sign, bool remainder, LV x, LV y) {
  if (!e->row->bits32 || !sign || !LLVMIsASExtInst(x) || !LLVMIsAConstantInt(y)) return NULL;
  LV small = LLVMGetOperand(x, 0);
  int64_t by = LLVMConstIntGetSExtValue(y);
  if (LLVMTypeOf(small) != e->i32 || LLVMTypeOf(x) != e->i64 || by <= 0 || by > INT32_MAX) return NULL;
  LV k = lv_int(e->i32, (uint64_t)by);
  LV r = remainder ? LLVMBuildSRem(e->b, small, k, "") : LLVMBuildSDiv(e->b, small, k, "");
  return LLVMBuildSExt(e->b, r, e->i64, "");
}

// Truncating quotient or remainder with x/0 = 0, x%0 = 0, and MIN/-1 = MIN, MIN%-1 = 0: the divisor is replaced by 1
// where the instruction would trap.
static LV int_divide(Emit *e, bool sign, bool remainder, LV x, LV y) {
  LV narrow = divide_index(e, sign, remainder, x, y);
  if (narrow) return narrow;
  LV v[2] = {x, y};
  same_shape(e, 2, v);
  LV zero = icmp(e, LLVMIntEQ, v[1], int_of(v[1], 0));
  LV minus = sign ? icmp(e, LLVMIntEQ, v[1], int_of(v[1], UINT64_MAX)) : NULL;
  LV unsafe = sign ? LLVMBuildOr(e->b, zero, minus, "") : zero;
  LV safe = select3(e, unsafe, int_of(v[1], 1), v[1]);
  if (remainder) {
    LV r = LLVMBuildBinOp(e->b, sign ? LLVMSRem : LLVMURem, v[0], safe, "");
    return r;  // x % 1 = 0 is right for both replaced divisors
  }
  LV q = LLVMBuildBinOp(e->b, sign ? LLVMSDiv : LLVMUDiv, v[0], safe, "");
  if (sign) q = select3(e, minus, LLVMBuildNeg(e->b, v[0], ""), q);
  return select3(e, zero, int_of(q, 0), q);
}

static LV int_mod(Emit *e, bool sign, LV x, LV y) {
  LV v[2] = {int_divide(e, sign, true, x, y), y};
  if (!sign) return v[0];
  same_shape(e, 2, v);
  LV zero = int_of(v[0], 0);
  LV differ = icmp(e, LLVMIntSLT, LLVMBuildXor(e->b, v[0], v[1], ""), zero);
  LV fix = LLVMBuildAnd(e->b, differ, icmp(e, LLVMIntNE, v[0], zero), "");
  return select3(e, fix, LLVMBuildAdd(e->b, v[0], v[1], ""), v[0]);
}

static LV int_shift(Emit *e, KOp op, bool sign, LV x, LV by) {
  LV v[2] = {x, by};
  same_shape(e, 2, v);
  LT scalar = is_varying(v[0]) ? LLVMGetElementType(LLVMTypeOf(v[0])) : LLVMTypeOf(v[0]);
  uint64_t bits = LLVMGetIntTypeWidth(scalar);
  LV out = icmp(e, LLVMIntUGE, v[1], int_of(v[1], bits));
  if (op == KOP_SHR && sign) return LLVMBuildAShr(e->b, v[0], select3(e, out, int_of(v[1], bits - 1), v[1]), "");
  LV safe = select3(e, out, int_of(v[1], 0), v[1]);
  LV r = op == KOP_SHL ? LLVMBuildShl(e->b, v[0], safe, "") : LLVMBuildLShr(e->b, v[0], safe, "");
  return select3(e, out, int_of(r, 0), r);
}

static LV int_abs(Emit *e, LV x) {
  LV args[2] = {x, LLVMConstInt(e->i1, 0, false)};  // MIN stays MIN
  LT t = LLVMTypeOf(x);
  return call_intrinsic(e, "llvm.abs", 1, &t, 2, args);
}

static LV int_op(Emit *e, KOp op, bool sign, LV *a) {
  switch (op) {
    case KOP_NEG: return LLVMBuildNeg(e->b, a[0], "");
    case KOP_ABS: return sign ? int_abs(e, a[0]) : a[0];
    case KOP_FLOOR:
    case KOP_CEIL:
    case KOP_ROUND: return a[0];
    case KOP_ADD: return int_binary(e, LLVMAdd, a[0], a[1]);
    case KOP_SUB: return int_binary(e, LLVMSub, a[0], a[1]);
    case KOP_MUL: return int_binary(e, LLVMMul, a[0], a[1]);
    case KOP_FMA: return int_binary(e, LLVMAdd, int_binary(e, LLVMMul, a[0], a[1]), a[2]);
    case KOP_DIV: return int_divide(e, sign, false, a[0], a[1]);
    case KOP_MOD: return int_mod(e, sign, a[0], a[1]);
    case KOP_FMOD: return int_divide(e, sign, true, a[0], a[1]);
    case KOP_MIN: return binary_intrinsic(e, sign ? "llvm.smin" : "llvm.umin", a[0], a[1]);
    case KOP_MAX: return binary_intrinsic(e, sign ? "llvm.smax" : "llvm.umax", a[0], a[1]);
    case KOP_AND: return int_binary(e, LLVMAnd, a[0], a[1]);
    case KOP_OR: return int_binary(e, LLVMOr, a[0], a[1]);
    case KOP_XOR: return int_binary(e, LLVMXor, a[0], a[1]);
    case KOP_SHL:
    case KOP_SHR: return int_shift(e, op, sign, a[0], a[1]);
    case KOP_BIT_NOT: return LLVMBuildNot(e->b, a[0], "");
    case KOP_NOT: return icmp(e, LLVMIntEQ, a[0], int_of(a[0], 0));
    case KOP_EQ: return int_compare(e, LLVMIntEQ, a[0], a[1]);
    case KOP_LT: return int_compare(e, sign ? LLVMIntSLT : LLVMIntULT, a[0], a[1]);
    case KOP_LE: return int_compare(e, sign ? LLVMIntSLE : LLVMIntULE, a[0], a[1]);
    case KOP_GT: return int_compare(e, sign ? LLVMIntSGT : LLVMIntUGT, a[0], a[1]);
    case KOP_GE: return int_compare(e, sign ? LLVMIntSGE : LLVMIntUGE, a[0], a[1]);
    default: qcc_bug("kernel %s: op %s on integers reached the backend", e->k->name, kop_info(op)->name);
  }
}

// Bool lanes: the logical ops directly, arithmetic as on bytes with "not zero" at the end.
static LV bool_op(Emit *e, KOp op, LV *a) {
  switch (op) {
    case KOP_AND:
    case KOP_MIN:
    case KOP_MUL: return int_binary(e, LLVMAnd, a[0], a[1]);
    case KOP_OR:
    case KOP_MAX:
    case KOP_ADD: return int_binary(e, LLVMOr, a[0], a[1]);
    case KOP_XOR: return int_binary(e, LLVMXor, a[0], a[1]);
    case KOP_NOT: return LLVMBuildNot(e->b, a[0], "");
    default: break;
  }
  LV w[3];
  for (uint32_t i = 0; i < kop_info(op)->arity; i++) w[i] = LLVMBuildZExt(e->b, a[i], type_like(e->i8, a[i]), "");
  LV r = int_op(e, op, false, w);
  return kop_info(op)->rule == KRULE_BOOL ? r : icmp(e, LLVMIntNE, r, int_of(r, 0));
}

// ---- products of packed lanes

static LV byte_of(Emit *e, LV v, uint32_t i, bool sign) {
  LV up = LLVMBuildShl(e->b, v, int_of(v, 24 - 8 * i), "");
  return sign ? LLVMBuildAShr(e->b, up, int_of(v, 24), "") : LLVMBuildLShr(e->b, up, int_of(v, 24), "");
}

static const char *vnni_name(const Emit *e, uint32_t lanes) {
  bool wide = target_has(e->row, FEATURE_AVX512VNNI);
  if (!wide && !target_has(e->row, FEATURE_AVXVNNI)) return NULL;
  switch (lanes) {
    case 4: return "llvm.x86.avx512.vpdpbusd.128";
    case 8: return "llvm.x86.avx512.vpdpbusd.256";
    case 16: return wide ? "llvm.x86.avx512.vpdpbusd.512" : NULL;
    default: return NULL;
  }
}

// Signed times signed through the unsigned instruction: (a + 128) b - 128 b, where both parts are dot products.
static LV dot4_native(Emit *e, const char *name, bool a_signed, LV acc, LV a, LV b) {
  if (!a_signed) return call_intrinsic(e, name, 0, NULL, 3, (LV[]){acc, a, b});
  LV offset = int_of(a, 0x80808080u);
  LV sum = call_intrinsic(e, name, 0, NULL, 3, (LV[]){acc, LLVMBuildXor(e->b, a, offset, ""), b});
  LV excess = call_intrinsic(e, name, 0, NULL, 3, (LV[]){int_of(a, 0), offset, b});
  return LLVMBuildSub(e->b, sum, excess, "");
}

static const char *madd_name(const Emit *e, uint32_t lanes) {
  if (strcmp(e->row->t.arch, "x86-64") != 0) return NULL;
  if (lanes == 4) return "llvm.x86.sse2.pmadd.wd";
  if (lanes == 8 && target_has(e->row, FEATURE_AVX2)) return "llvm.x86.avx2.pmadd.wd";
  return lanes == 16 && target_has(e->row, FEATURE_AVX512BW) ? "llvm.x86.avx512.pmaddw.d.512" : NULL;
}

// Bytes of even or odd number as 16-bit integers; two products of them fit 32 bits exactly.
static LV halves_of(Emit *e, LV v, bool odd, bool sign) {
  LT t = LLVMVectorType(e->i16, 2 * lanes_of(v));
  LV x = LLVMBuildBitCast(e->b, v, t, ""), eight = lv_int(t, 8);
  if (!odd && !sign) return LLVMBuildAnd(e->b, x, lv_int(t, 255), "");
  if (!odd) x = LLVMBuildShl(e->b, x, eight, "");
  return sign ? LLVMBuildAShr(e->b, x, eight, "") : LLVMBuildLShr(e->b, x, eight, "");
}

static LV dot4_by_pairs(Emit *e, const char *madd, bool a_signed, LV *v) {
  LV r = v[0];
  for (int odd = 0; odd < 2; odd++) {
    LV pair[2] = {halves_of(e, v[1], odd, a_signed), halves_of(e, v[2], odd, true)};
    r = LLVMBuildAdd(e->b, r, call_intrinsic(e, madd, 0, NULL, 2, pair), "");
  }
  return r;
}

static LV emit_dot4(Emit *e, bool a_signed, LV *arg) {
  LV v[3] = {arg[0], arg[1], arg[2]};
  same_shape(e, 3, v);
  uint32_t n = lanes_of(v[0]), width = 4;
  while (width < n) width *= 2;
  if (n > 1 && width != n) {  // the lanes between are free
    for (uint32_t i = 0; i < 3; i++) v[i] = resize_lanes(e, v[i], width);
    return resize_lanes(e, emit_dot4(e, a_signed, v), n);
  }
  LV arm = emit_dot4_arm(e, a_signed, v);
  if (arm) return arm;
  const char *name = vnni_name(e, n);
  if (name) return dot4_native(e, name, a_signed, v[0], v[1], v[2]);
  const char *madd = madd_name(e, n);
  if (madd) return dot4_by_pairs(e, madd, a_signed, v);
  LV r = v[0];
  for (uint32_t i = 0; i < 4; i++) {
    LV product = LLVMBuildMul(e->b, byte_of(e, v[1], i, a_signed), byte_of(e, v[2], i, true), "");
    r = LLVMBuildAdd(e->b, r, product, "");
  }
  return r;
}

// High halves first, one rounding per product, denormals kept: the hardware's dot product does neither.
// Sixteen lanes of pairs natively; those of a short vector lie in the first of them.
static LV dot2_native(Emit *e, LV *v) {
  uint32_t n = lanes_of(v[0]);
  LT pairs = LLVMVectorType(LLVMBFloatTypeInContext(e->ctx), 32);
  LV arg[3];
  for (int i = 0; i < 3; i++) {
    arg[i] = n == 16 ? v[i] : resize_lanes(e, v[i], 16);
    if (i > 0) arg[i] = LLVMBuildBitCast(e->b, arg[i], pairs, "");
  }
  LV r = call_intrinsic(e, "llvm.x86.avx512bf16.dpbf16ps.512", 0, NULL, 3, arg);
  return n == 16 ? r : resize_lanes(e, r, n);
}

static LV emit_dot2(Emit *e, LV *arg) {
  LV v[3] = {arg[0], arg[1], arg[2]};
  same_shape(e, 3, v);
  uint32_t n = is_varying(v[0]) ? lanes_of(v[0]) : 1;
  if (n > 1 && n <= 16 && target_has(e->row, FEATURE_AVX512BF16)) return dot2_native(e, v);
  LV high = int_of(v[1], 0xffff0000u), sixteen = int_of(v[1], 16);
  LV r = emit_fma(e, vary_bitcast(e, LLVMBuildAnd(e->b, v[1], high, ""), e->f32),
                  vary_bitcast(e, LLVMBuildAnd(e->b, v[2], high, ""), e->f32), v[0]);
  return emit_fma(e, vary_bitcast(e, LLVMBuildShl(e->b, v[1], sixteen, ""), e->f32),
                  vary_bitcast(e, LLVMBuildShl(e->b, v[2], sixteen, ""), e->f32), r);
}

static LV emit_view(Emit *e, DType from, DType to, LV x) {
  if (from == DT_BOOL) x = LLVMBuildZExt(e->b, x, type_like(e->i8, x), "");
  if (to == DT_BOOL) return icmp(e, LLVMIntNE, x, int_of(x, 0));
  return vary_bitcast(e, x, type_value(e, to));
}

static LV emit_popcnt(Emit *e, DType t, LV x) { return t == DT_BOOL ? x : unary_intrinsic(e, "llvm.ctpop", x); }

// Of a vector, every second one of its halves.
static LV emit_low_word(Emit *e, LV x) {
  if (LLVMGetTypeKind(LLVMTypeOf(x)) != LLVMVectorTypeKind)
    return LLVMBuildTrunc(e->b, LLVMBuildBitCast(e->b, x, e->i64, ""), e->i32, "");
  int32_t even[256];
  uint32_t n = lanes_of(x);
  QCC_CHECK(n <= 256, "low_word of %u lanes", n);
  for (uint32_t i = 0; i < n; i++) even[i] = (int32_t)(2 * i);
  return shuffle(e, LLVMBuildBitCast(e->b, x, LLVMVectorType(e->i32, 2 * n), ""), NULL, n, even);
}

LV emit_kop(Emit *e, KOp op, DType type, DType arg_type, LV *a) {
  switch (op) {
    case KOP_SELECT: return emit_select(e, a[0], a[1], a[2]);
    case KOP_CAST: return emit_cast(e, arg_type, type, a[0]);
    case KOP_VIEW: return emit_view(e, arg_type, type, a[0]);
    case KOP_LOW_WORD: return emit_low_word(e, a[0]);
    case KOP_POPCNT: return emit_popcnt(e, type, a[0]);
    case KOP_DOT2: return emit_dot2(e, a);
    default: break;
  }
  if (is_half(arg_type)) return half_op(e, op, arg_type, a);
  if (dtype_is_float(arg_type)) return float_op(e, op, arg_type == DT_F64, a);
  return arg_type == DT_BOOL ? bool_op(e, op, a) : int_op(e, op, is_signed(arg_type), a);
}

// The type of the second operand decides whether its bytes are signed.
LV emit_kop_dot4(Emit *e, DType a_type, LV *a) { return emit_dot4(e, a_type == DT_I8X4, a); }
