// Single elements of packed tensor data, for every dtype.
//
// Every float format below 32 bits is a row of `small_floats` and goes through one encoder and one decoder that work
// on the bits of a double: one rounding, half to even, whatever the format. f16 and bf16 overflow to infinity, the
// 8-bit and 4-bit formats saturate. Integers narrower than a byte are read and written bit by bit, LSB first.
// No table of values, no dependence on the floating-point environment.
#include "ir/elem.h"

#include <math.h>
#include <string.h>

typedef struct SmallFloat {
  uint32_t mant, bias;
  uint32_t sign;      // sign bit
  uint32_t max_code;  // largest finite magnitude
  uint32_t overflow;  // magnitude code of anything larger: infinity, or max_code when saturating
  uint32_t nan;       // code of NaN; formats without one give +0
  bool has_inf;       // codes above max_code: infinity, then NaNs
  bool unsigned_nan;  // "fnuz": the sign bit alone is NaN, there is no -0
} SmallFloat;

static const SmallFloat small_floats[] = {
    [DT_F16] = {10, 15, 0x8000, 0x7bff, 0x7c00, 0x7e00, true, false},
    [DT_BF16] = {7, 127, 0x8000, 0x7f7f, 0x7f80, 0x7fc0, true, false},
    [DT_F8E4M3FN] = {3, 7, 0x80, 0x7e, 0x7e, 0x7f, false, false},
    [DT_F8E4M3FNUZ] = {3, 8, 0x80, 0x7f, 0x7f, 0x80, false, true},
    [DT_F8E5M2] = {2, 15, 0x80, 0x7b, 0x7b, 0x7e, true, false},
    [DT_F8E5M2FNUZ] = {2, 16, 0x80, 0x7f, 0x7f, 0x80, false, true},
    [DT_F4E2M1] = {1, 1, 0x8, 0x7, 0x7, 0x0, false, false},
};

static uint64_t bits_of_double(double v) {
  uint64_t u;
  memcpy(&u, &v, sizeof u);
  return u;
}

// Magnitude code of the finite non-zero double with these bits; carries run from mantissa into exponent by themselves.
static uint32_t encode_magnitude(const SmallFloat *s, uint64_t u) {
  int32_t raw = (int32_t)((u >> 52) & 0x7ff);
  if (raw == 0) return 0;  // subnormal double: far below every format
  int32_t e = raw - 1023, e_min = 1 - (int32_t)s->bias;
  uint64_t m = (u & UINT64_C(0xfffffffffffff)) | UINT64_C(0x10000000000000);
  int32_t shift = 52 - (int32_t)s->mant + (e < e_min ? e_min - e : 0);
  if (shift > 53) return 0;
  uint64_t q = m >> shift, rest = m & ((UINT64_C(1) << shift) - 1), half = UINT64_C(1) << (shift - 1);
  if (rest > half || (rest == half && (q & 1))) q++;
  if (e >= e_min) {
    if (e > 1023 - 4 || e + (int32_t)s->bias > 0xffff) return s->overflow;
    q += (uint64_t)(e - e_min) << s->mant;
  }
  return q > s->max_code ? s->overflow : (uint32_t)q;
}

static uint32_t small_encode(DType t, double v) {
  const SmallFloat *s = &small_floats[t];
  uint64_t u = bits_of_double(v);
  uint32_t sign = u >> 63 ? s->sign : 0;
  if (isnan(v)) {
    if (s->unsigned_nan || !s->nan) return s->nan;
    uint32_t payload = s->has_inf ? (uint32_t)((u & UINT64_C(0xfffffffffffff)) >> (52 - s->mant)) : 0;
    return sign | s->nan | payload;
  }
  uint32_t code = isinf(v) ? s->overflow : encode_magnitude(s, u);
  return code == 0 && s->unsigned_nan ? 0 : sign | code;
}

static double small_decode(DType t, uint32_t code) {
  const SmallFloat *s = &small_floats[t];
  bool negative = (code & s->sign) != 0;
  uint32_t mag = code & (s->sign - 1);
  double v;
  if (s->unsigned_nan && code == s->nan) {
    return NAN;
  } else if (mag <= s->max_code) {
    int32_t e = (int32_t)(mag >> s->mant), m = (int32_t)(mag & ((1u << s->mant) - 1));
    if (e > 0) m += 1 << s->mant;
    v = ldexp(m, (e > 0 ? e : 1) - (int32_t)s->bias - (int32_t)s->mant);
  } else if (s->has_inf && mag == s->max_code + 1) {
    v = INFINITY;
  } else {
    uint64_t u = UINT64_C(0x7ff8000000000000) | (uint64_t)(mag & ((1u << s->mant) - 1)) << (52 - s->mant);
    memcpy(&v, &u, sizeof v);
  }
  return negative ? -v : v;
}

// f8e8m0 holds only powers of two, 2^-127 .. 2^127, and NaN: the sign is dropped and the magnitude rounded up, which
// is the default of the ONNX Cast.
static uint32_t e8m0_encode(double v) {
  if (isnan(v)) return 0xff;
  double a = fabs(v);
  if (a <= 0x1p-127) return 0;
  if (a >= 0x1p127) return isinf(a) ? 0xff : 254;
  int e;
  double m = frexp(a, &e);  // a = m * 2^e, m in [0.5, 1)
  return (uint32_t)((m > 0.5 ? e : e - 1) + 127);
}

static double e8m0_decode(uint32_t code) { return code == 0xff ? NAN : ldexp(1, (int)code - 127); }

uint16_t f16_of_double(double v) { return (uint16_t)small_encode(DT_F16, v); }
double f16_to_double(uint16_t h) { return small_decode(DT_F16, h); }
uint16_t bf16_of_double(double v) { return (uint16_t)small_encode(DT_BF16, v); }

double bf16_to_double(uint16_t h) {
  uint32_t u = (uint32_t)h << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

// ---- raw bits of element i

static uint64_t code_get(const void *data, uint32_t bits, int64_t i) {
  const uint8_t *p = data;
  switch (bits) {
    case 8: return p[i];
    case 16: {
      uint16_t v;
      memcpy(&v, p + 2 * i, sizeof v);
      return v;
    }
    case 32: {
      uint32_t v;
      memcpy(&v, p + 4 * i, sizeof v);
      return v;
    }
    case 64: {
      uint64_t v;
      memcpy(&v, p + 8 * i, sizeof v);
      return v;
    }
    default: {
      uint64_t v = 0, at = (uint64_t)i * bits;
      for (uint32_t b = 0; b < bits; b++, at++) v |= (uint64_t)((uint32_t)p[at / 8] >> (at % 8) & 1u) << b;
      return v;
    }
  }
}

static void code_set(void *data, uint32_t bits, int64_t i, uint64_t code) {
  uint8_t *p = data;
  switch (bits) {
    case 8: p[i] = (uint8_t)code; return;
    case 16: {
      uint16_t v = (uint16_t)code;
      memcpy(p + 2 * i, &v, sizeof v);
      return;
    }
    case 32: {
      uint32_t v = (uint32_t)code;
      memcpy(p + 4 * i, &v, sizeof v);
      return;
    }
    case 64: memcpy(p + 8 * i, &code, sizeof code); return;
    default: {
      uint64_t at = (uint64_t)i * bits;
      for (uint32_t b = 0; b < bits; b++, at++) {
        uint32_t keep = p[at / 8] & ~(1u << (at % 8));
        p[at / 8] = (uint8_t)(keep | (uint32_t)((code >> b) & 1) << (at % 8));
      }
    }
  }
}

void elem_copy(void *to, int64_t i, const void *from, int64_t j, DType t) {
  uint32_t bits = dtype_info(t)->bits;
  code_set(to, bits, i, code_get(from, bits, j));
}

// ---- values

static double float_decode(DType t, uint64_t code) {
  switch (t) {
    case DT_F64: {
      double v;
      memcpy(&v, &code, sizeof v);
      return v;
    }
    case DT_F32: {
      uint32_t u = (uint32_t)code;
      float v;
      memcpy(&v, &u, sizeof v);
      return v;
    }
    case DT_BF16: return bf16_to_double((uint16_t)code);
    case DT_F8E8M0: return e8m0_decode((uint32_t)code);
    default: return small_decode(t, (uint32_t)code);
  }
}

static uint64_t float_encode(DType t, double v) {
  switch (t) {
    case DT_F64: return bits_of_double(v);
    case DT_F32: {
      float f = (float)v;
      uint32_t u;
      memcpy(&u, &f, sizeof u);
      return u;
    }
    case DT_F8E8M0: return e8m0_encode(v);
    default: return small_encode(t, v);
  }
}

static int64_t sign_extend(uint64_t code, uint32_t bits) {
  uint64_t top = UINT64_C(1) << (bits - 1);
  return (int64_t)((code ^ top) - top);
}

// Truncates and saturates to [-2^(bits-1), 2^(bits-1) - 1] or [0, 2^bits - 1]; NaN gives 0.
static uint64_t int_of_double(double v, uint32_t bits, bool is_signed) {
  if (isnan(v)) return 0;
  double top = ldexp(1, (int)bits - (is_signed ? 1 : 0));
  uint64_t all = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
  if (v >= top) return is_signed ? all >> 1 : all;
  if (!is_signed) return v <= 0 ? 0 : (uint64_t)v;
  if (v <= -top) return all ^ (all >> 1);
  return (uint64_t)(int64_t)v & all;
}

double elem_get_f(const void *data, DType t, int64_t i) {
  const DTypeInfo *d = dtype_info(t);
  if (d->cls == DC_FLOAT) return float_decode(t, code_get(data, d->bits, i));
  if (t == DT_U64) return (double)code_get(data, d->bits, i);
  return (double)elem_get_i(data, t, i);
}

int64_t elem_get_i(const void *data, DType t, int64_t i) {
  const DTypeInfo *d = dtype_info(t);
  uint64_t code = code_get(data, d->bits, i);
  switch (d->cls) {
    case DC_FLOAT: return (int64_t)int_of_double(float_decode(t, code), 64, true);
    case DC_INT:
    case DC_TERN: return sign_extend(code, d->bits);
    case DC_UINT: return (int64_t)code;
    case DC_BOOL: return code != 0;
    case DC_BIP: return code ? 1 : -1;
    default: qcc_bug("element of type %s has no number", d->name);
  }
}

void elem_set_f(void *data, DType t, int64_t i, double v) {
  const DTypeInfo *d = dtype_info(t);
  uint64_t code = 0;
  switch (d->cls) {
    case DC_FLOAT: code = float_encode(t, v); break;
    case DC_INT: code = int_of_double(v, d->bits, true); break;
    case DC_UINT: code = int_of_double(v, d->bits, false); break;
    case DC_TERN: code = v >= 1 ? 1 : v <= -1 ? 3 : 0; break;
    case DC_BOOL: code = v != 0; break;
    case DC_BIP: code = v >= 0; break;
    default: qcc_bug("element of type %s has no number", d->name);
  }
  code_set(data, d->bits, i, code);
}

// A double that rounds to any format below 32 mantissa bits as v itself does: bits below the double's precision are
// collected in its last place (round to odd).
static double double_of_int(uint64_t magnitude) {
  if (magnitude >> 53) {
    uint64_t low = magnitude & 0x7ff;
    magnitude = (magnitude ^ low) | (low ? 0x800 : 0);
  }
  return (double)magnitude;
}

void elem_set_i(void *data, DType t, int64_t i, int64_t v) { elem_set_int(data, t, i, v, false); }

void elem_set_int(void *data, DType t, int64_t i, int64_t v, bool is_u64) {
  const DTypeInfo *d = dtype_info(t);
  uint64_t code = (uint64_t)v;
  bool negative = v < 0 && !is_u64;
  switch (d->cls) {
    case DC_FLOAT: {
      uint64_t mag = negative ? 0 - (uint64_t)v : (uint64_t)v;
      double f = t == DT_F64 ? (double)mag : double_of_int(mag);
      code = float_encode(t, negative ? -f : f);
      break;
    }
    case DC_INT:
    case DC_UINT: break;
    case DC_TERN: code = v == 0 ? 0 : negative ? 3 : 1; break;
    case DC_BOOL: code = v != 0; break;
    case DC_BIP: code = !negative; break;
    default: qcc_bug("element of type %s has no number", d->name);
  }
  code_set(data, d->bits, i, code);
}

double elem_round(DType t, double v) {
  if (t == DT_F32) return (float)v;
  if (t == DT_F64) return v;
  uint64_t place = 0;
  elem_set_f(&place, t, 0, v);
  return elem_get_f(&place, t, 0);
}
