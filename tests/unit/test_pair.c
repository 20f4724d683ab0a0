// Products of two byte activations by dot8: B is packed at run time, in groups of four along the reduction.
#include "tests/unit/lower_case.h"

static void check_product(const char *batch_a, const char *batch_b, int m, int k, int n, bool trans, int tile) {
  Check c = {.lo = -128, .hi = 256};
  int rows = trans ? n : k, columns = trans ? k : n;
  const char *batch = *batch_a ? batch_a : batch_b;
  lower_case(c, fmt("%%a: u8[%s%d,%d], %%b: i8[%s%d,%d]", batch_a, m, k, batch_b, rows, columns),
             fmt("i32[%s%d,%d]", batch, m, n),
             fmt("%%r0 = matmul %%a, %%b {trans_b = %s, plan = dot8(mr = %d, nv = %d, ku = 2)} : i32[%s%d,%d]",
                 trans ? "true" : "false", 1 + tile % 5, 1 + tile % 3, batch, m, n));
}

Test(pair, shapes, .timeout = 600) {
  for (int k = 1; k <= 130; k += 1 + k / 3)
    for (int n = 1; n <= 70; n += 1 + n) {
      check_product("", "", 1 + (k + n) % 20, k, n, k % 2 == 0, k + n);
      check_product("", "", 1 + k % 7, k, n, k % 2 == 1, n);
    }
}

Test(pair, batches, .timeout = 600) {
  for (int k = 1; k <= 9; k++) {
    check_product("3,", "3,", 5, k, 19, false, k);
    check_product("2,3,", "2,3,", 4, k, 17, true, k + 1);
    check_product("2,", "", 6, k, 33, false, k);
  }
}
