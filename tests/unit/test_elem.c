// Elements of packed data: every code of every narrow float format, rounding at every boundary of f16 and bf16, every
// integer width packed and unpacked, saturation and wrapping.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/elem.h"

static const DType small[] = {DT_F16,    DT_BF16,   DT_F8E4M3FN,   DT_F8E4M3FNUZ,
                              DT_F8E5M2, DT_F4E2M1, DT_F8E5M2FNUZ, DT_F8E8M0};
#define N_SMALL (sizeof small / sizeof small[0])

static uint32_t code_of(DType t, double v) {
  uint64_t place = 0;
  elem_set_f(&place, t, 0, v);
  return (uint32_t)place;
}

static double value_of(DType t, uint32_t code) {
  uint64_t place = code;
  return elem_get_f(&place, t, 0);
}

Test(elem, every_code_round_trips) {
  for (size_t k = 0; k < N_SMALL; k++) {
    DType t = small[k];
    uint32_t n = 1u << dtype_info(t)->bits;
    for (uint32_t c = 0; c < n; c++) {
      double v = value_of(t, c);
      if (isnan(v)) {
        cr_assert(isnan(value_of(t, code_of(t, v))), "%s %x", dtype_info(t)->name, c);
      } else if (!isinf(v) || t == DT_F16 || t == DT_BF16) {
        cr_assert_eq(code_of(t, v), c, "%s %x gives %x", dtype_info(t)->name, c, code_of(t, v));
      }
    }
  }
}

Test(elem, f16_and_bf16_keep_quiet_nans) {
  for (uint32_t c = 0; c < 65536; c++) {
    if ((c & 0x7e00) == 0x7e00) cr_assert_eq(f16_of_double(f16_to_double((uint16_t)c)), c, "%x", c);
    if ((c & 0x7fc0) == 0x7fc0) cr_assert_eq(bf16_of_double(bf16_to_double((uint16_t)c)), c, "%x", c);
  }
}

// Between neighbours a < b: just below the middle gives a, just above gives b, the middle gives the even code.
static void check_boundaries(DType t, uint32_t first, uint32_t last) {
  for (uint32_t c = first; c < last; c++) {
    double a = value_of(t, c), b = value_of(t, c + 1), mid = (a + b) / 2;
    cr_assert_lt(a, b);
    cr_assert_eq(code_of(t, nextafter(mid, a)), c, "%s below the middle after %x", dtype_info(t)->name, c);
    cr_assert_eq(code_of(t, nextafter(mid, b)), c + 1, "%s above the middle after %x", dtype_info(t)->name, c);
    cr_assert_eq(code_of(t, mid), c & 1 ? c + 1 : c, "%s tie after %x", dtype_info(t)->name, c);
    uint32_t sign = 1u << (dtype_info(t)->bits - 1);
    if (c > 0) cr_assert_eq(code_of(t, -mid), sign | (c & 1 ? c + 1 : c), "%s negative tie", dtype_info(t)->name);
  }
}

Test(elem, rounds_half_to_even) {
  check_boundaries(DT_F16, 0, 0x7bff);
  check_boundaries(DT_BF16, 0, 0x7f7f);
  check_boundaries(DT_F8E4M3FN, 0, 0x7e);
  check_boundaries(DT_F8E4M3FNUZ, 0, 0x7f);
  check_boundaries(DT_F8E5M2, 0, 0x7b);
  check_boundaries(DT_F8E5M2FNUZ, 0, 0x7f);
  check_boundaries(DT_F4E2M1, 0, 7);
}

Test(elem, overflow) {
  cr_assert_eq(code_of(DT_F16, 65519.99), 0x7bff);
  cr_assert_eq(code_of(DT_F16, 65520), 0x7c00);
  cr_assert_eq(code_of(DT_F16, -1e300), 0xfc00);
  cr_assert_eq(code_of(DT_BF16, 3.5e38), 0x7f80);
  cr_assert_eq(code_of(DT_BF16, -INFINITY), 0xff80);
  cr_assert_eq(code_of(DT_F16, 1e-320), 0);
  cr_assert_eq(code_of(DT_F16, -0.0), 0x8000);
  double top[] = {448, 240, 57344, 57344, 6};
  DType saturating[] = {DT_F8E4M3FN, DT_F8E4M3FNUZ, DT_F8E5M2, DT_F8E5M2FNUZ, DT_F4E2M1};
  for (int k = 0; k < 5; k++) {
    cr_assert_eq(elem_round(saturating[k], 1e30), top[k]);
    cr_assert_eq(elem_round(saturating[k], -INFINITY), -top[k]);
    cr_assert_eq(elem_round(saturating[k], top[k] * 1.01), top[k]);
  }
  cr_assert(isnan(elem_round(DT_F8E4M3FN, NAN)));
  cr_assert_eq(code_of(DT_F8E4M3FNUZ, NAN), 0x80);
  cr_assert_eq(code_of(DT_F8E4M3FNUZ, -0.0), 0);
  cr_assert_eq(code_of(DT_F8E4M3FNUZ, -1e-9), 0);
}

Test(elem, powers_of_two_only) {
  cr_assert_eq(elem_round(DT_F8E8M0, 1), 1);
  cr_assert_eq(elem_round(DT_F8E8M0, 1.0001), 2);
  cr_assert_eq(elem_round(DT_F8E8M0, -3), 4);
  cr_assert_eq(elem_round(DT_F8E8M0, 0), 0x1p-127);
  cr_assert_eq(elem_round(DT_F8E8M0, 1e300), 0x1p127);
  cr_assert(isnan(elem_round(DT_F8E8M0, NAN)));
}

Test(elem, integers_pack_without_gaps) {
  static const DType ints[] = {DT_U1, DT_U2, DT_U3, DT_U4, DT_U5, DT_U6, DT_U7, DT_U8,  DT_U16, DT_U32,
                               DT_I2, DT_I3, DT_I4, DT_I5, DT_I6, DT_I7, DT_I8, DT_I16, DT_I32, DT_I64};
  enum { N = 100 };
  for (size_t k = 0; k < sizeof ints / sizeof ints[0]; k++) {
    DType t = ints[k];
    uint32_t bits = dtype_info(t)->bits;
    uint8_t bytes[N * 8 + 1];
    memset(bytes, 0xa5, sizeof bytes);
    int64_t lo = dtype_min(t), hi = dtype_max(t), want[N];
    for (int i = 0; i < N; i++) {
      want[i] = i % 3 == 0 ? lo : i % 3 == 1 ? hi : lo + i % (bits < 7 ? hi - lo + 1 : 90);
      elem_set_i(bytes, t, i, want[i]);
    }
    for (int i = 0; i < N; i++) cr_assert_eq(elem_get_i(bytes, t, i), want[i], "%s[%d]", dtype_info(t)->name, i);
    cr_assert_eq(bytes[(N * bits + 7) / 8], 0xa5, "%s writes past its end", dtype_info(t)->name);
  }
  uint8_t one[2] = {0, 0};
  elem_set_i(one, DT_I3, 2, -1);  // bits 6..8
  cr_assert_eq(one[0], 0xc0);
  cr_assert_eq(one[1], 0x01);
}

Test(elem, integers_wrap_from_integers_and_saturate_from_floats) {
  int64_t place = 0;
  elem_set_i(&place, DT_I8, 0, 200);
  cr_assert_eq(elem_get_i(&place, DT_I8, 0), -56);
  elem_set_f(&place, DT_I8, 0, 200);
  cr_assert_eq(elem_get_i(&place, DT_I8, 0), 127);
  elem_set_f(&place, DT_I8, 0, -128.9);
  cr_assert_eq(elem_get_i(&place, DT_I8, 0), -128);
  elem_set_f(&place, DT_I8, 0, -1.9);
  cr_assert_eq(elem_get_i(&place, DT_I8, 0), -1);
  elem_set_f(&place, DT_I32, 0, NAN);
  cr_assert_eq(elem_get_i(&place, DT_I32, 0), 0);
  elem_set_f(&place, DT_U8, 0, -3);
  cr_assert_eq(elem_get_i(&place, DT_U8, 0), 0);
  elem_set_f(&place, DT_I64, 0, INFINITY);
  cr_assert_eq(elem_get_i(&place, DT_I64, 0), INT64_MAX);
  elem_set_f(&place, DT_I64, 0, -1e19);
  cr_assert_eq(elem_get_i(&place, DT_I64, 0), INT64_MIN);
  elem_set_f(&place, DT_U64, 0, 1.8e19);
  cr_assert_eq(elem_get_f(&place, DT_U64, 0), 1.8e19);
  elem_set_f(&place, DT_U4, 0, 99);
  cr_assert_eq(elem_get_i(&place, DT_U4, 0), 15);
}

Test(elem, integers_to_floats_round_once) {
  float f;
  int64_t v = (INT64_C(1) << 62) + (INT64_C(1) << 38) + 1;  // just above a tie of f32; as a double exactly the tie
  elem_set_i(&f, DT_F32, 0, v);
  cr_assert_eq(f, nextafterf(0x1p62f, INFINITY));
  elem_set_i(&f, DT_F32, 0, -v);
  cr_assert_eq(f, -nextafterf(0x1p62f, INFINITY));
  elem_set_int(&f, DT_F32, 0, -1, true);
  cr_assert_eq(f, 0x1p64f);
  elem_set_i(&f, DT_F32, 0, -1);
  cr_assert_eq(f, -1);
}

Test(elem, bip_tern_bool) {
  uint8_t b = 0;
  elem_set_i(&b, DT_BIP, 0, 1);
  elem_set_i(&b, DT_BIP, 1, -5);
  elem_set_f(&b, DT_BIP, 2, -0.0);
  elem_set_f(&b, DT_BIP, 3, -0.1);
  cr_assert_eq(b, 0x05);
  cr_assert_eq(elem_get_i(&b, DT_BIP, 1), -1);
  cr_assert_eq(elem_get_f(&b, DT_BIP, 2), 1);
  b = 0;
  elem_set_i(&b, DT_TERN, 0, -7);
  elem_set_i(&b, DT_TERN, 1, 1);
  elem_set_f(&b, DT_TERN, 2, 0.9);
  elem_set_f(&b, DT_TERN, 3, -2);
  cr_assert_eq(b, 0xc7);
  cr_assert_eq(elem_get_i(&b, DT_TERN, 0), -1);
  elem_set_f(&b, DT_BOOL, 0, 0.25);
  cr_assert_eq(b, 1);
  elem_set_f(&b, DT_BOOL, 0, NAN);
  cr_assert_eq(b, 1);
}

Test(elem, copy_moves_bits) {
  uint8_t from[3] = {0xff, 0x12, 0x80}, to[3] = {0};
  elem_copy(to, 1, from, 5, DT_U3);  // bits 15..17 of from: 0, 0, 0
  cr_assert_eq(to[0], 0);
  elem_copy(to, 1, from, 1, DT_U3);
  cr_assert_eq(to[0], 0x38);
  uint32_t nan = 0x7fa00001, got = 0;  // a signalling NaN stays one
  elem_copy(&got, 0, &nan, 0, DT_F32);
  cr_assert_eq(got, nan);
}
