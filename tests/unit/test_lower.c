// Lowerings of element-wise ops, reductions, pooling and normalisation against the graph interpreter.
#include "tests/unit/lower_case.h"

static const Check exact = {0}, near4 = {.ulps = 4}, near64 = {.ulps = 64};

Test(lower, eltwise_shapes) {
  static const char *const shapes[][3] = {
      {"4,8", "8", "4,8"},
      {"4,8", "", "4,8"},
      {"4,1,3", "5,1", "4,5,3"},
      {"1", "1", "1"},
      {"2,3,4,5", "3,1,1", "2,3,4,5"},
      {"0,4", "4", "0,4"},
      {"7,1", "1,9", "7,9"},
      {"20000", "20000", "20000"},
      {"3,5000", "3,1", "3,5000"},
      {"2,1,3,1,2", "1,4,1,5,1", "2,4,3,5,2"},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const char *a = shapes[i][0], *b = shapes[i][1], *y = shapes[i][2];
    lower_case(exact, fmt("%%a: f32[%s], %%b: f32[%s]", a, b), fmt("f32[%s]", y),
               fmt("%%r0 = sub %%a, %%b : f32[%s]", y));
    lower_case(exact, fmt("%%a: i32[%s], %%b: i32[%s]", b, a), fmt("bool[%s]", y),
               fmt("%%r0 = less %%a, %%b : bool[%s]", y));
  }
}

Test(lower, eltwise_scalar_tensor) { lower_case(exact, "%a: f32[], %b: f32[]", "f32[]", "%r0 = add %a, %b : f32[]"); }

Test(lower, eltwise_types) {
  static const char *const types[] = {"f64", "f32", "f16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8"};
  static const char *const ops[] = {"add", "sub", "mul", "div", "min", "max"};
  for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
      Check c = exact;
      c.specials = t < 3;
      lower_case(c, fmt("%%a: %s[37], %%b: %s[37]", types[t], types[t]), fmt("%s[37]", types[t]),
                 fmt("%%r0 = %s %%a, %%b : %s[37]", ops[o], types[t]));
    }
    for (size_t u = 0; u < sizeof types / sizeof *types; u++) {
      lower_case(exact, fmt("%%a: %s[37]", types[t]), fmt("%s[37]", types[u]),
                 fmt("%%r0 = cast %%a : %s[37]", types[u]));
    }
    lower_case(exact, fmt("%%a: %s[37]", types[t]), "bool[37]", "%r0 = cast %a : bool[37]");
    lower_case(exact, "%a: bool[37]", fmt("%s[37]", types[t]), fmt("%%r0 = cast %%a : %s[37]", types[t]));
  }
}

Test(lower, eltwise_unary) {
  static const char *const sharp[] = {"neg", "abs", "sign", "floor", "ceil", "round", "relu", "not"};
  static const char *const soft[] = {"sqrt", "recip", "exp", "log", "sin", "cos", "tanh", "erf", "sigmoid", "gelu"};
  for (size_t i = 0; i < sizeof sharp / sizeof *sharp - 1; i++) {
    Check c = exact;
    c.specials = true;
    lower_case(c, "%a: f32[3,11]", "f32[3,11]", fmt("%%r0 = %s %%a : f32[3,11]", sharp[i]));
  }
  for (size_t i = 0; i < sizeof soft / sizeof *soft; i++) {
    lower_case(near4, "%a: f32[3,11]", "f32[3,11]", fmt("%%r0 = %s %%a : f32[3,11]", soft[i]));
  }
  lower_case(exact, "%a: bool[9]", "bool[9]", "%r0 = not %a : bool[9]");
  lower_case(exact, "%a: bool[9], %b: f32[9], %c: f32[]", "f32[9]", "%r0 = select %a, %b, %c : f32[9]");
  lower_case(exact, "%a: f32[9], %b: f32[], %c: f32[]", "f32[9]", "%r0 = clip %a, %b, %c : f32[9]");
  lower_case(near4, "%a: f32[9]", "f32[9]", "%r0 = leaky_relu %a {alpha = 0.2} : f32[9]");
  lower_case(near4, "%a: f32[9]", "f32[9]", "%r0 = hard_sigmoid %a : f32[9]");
  lower_case(near64, "%a: f32[2,9], %b: f32[9]", "f32[2,9]", "%c = abs %a : f32[2,9]\n  %r0 = pow %c, %b : f32[2,9]");
}

Test(lower, map) {
  Check c = near4;
  c.extra =
      "func @body(%x: f32[], %y: f32[]) -> f32[] {\n  %0 = add %x, %y : f32[]\n  %1 = sigmoid %0 : f32[]\n"
      "  %2 = mul %0, %1 : f32[]\n  return %2\n}\n";
  lower_case(c, "%a: f32[4,9], %b: f32[9]", "f32[4,9]", "%r0 = map %a, %b {body = @body} : f32[4,9]");
  lower_case(c, "%a: f32[4,9], %b: f32[4,1]", "f32[4,9]", "%r0 = map %a, %b {body = @body} : f32[4,9]");
}

Test(lower, reduce) {
  static const char *const kinds[] = {"sum", "mean", "max", "min", "prod", "l1", "l2", "sumsq", "logsum", "logsumexp"};
  static const struct {
    const char *x, *axes, *y;
  } shapes[] = {
      {"4,37", "1", "4,1"},      {"4,37", "0", "1,37"},         {"3,5,7", "1", "3,1,7"},
      {"3,5,7", "0,2", "1,5,1"}, {"2,3,4,5", "2,3", "2,3,1,1"}, {"2,3,4,70", "1,2", "2,1,1,70"},
      {"300", "0", "1"},         {"2,150", "0,1", "1,1"},       {"1,1,4", "0", "1,1,4"},
      {"5,3", "1", "5,1"},       {"6,2,80", "0,1", "1,1,80"},
  };
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      bool order = k == 2 || k == 3;
      Check c = order ? exact : near64;
      c.specials = order;
      const char *pre = k == 8 ? "%a = abs %x" : "%a = neg %x";
      lower_case(c, fmt("%%x: f32[%s]", shapes[s].x), fmt("f32[%s]", shapes[s].y),
                 fmt("%s : f32[%s]\n  %%r0 = reduce %%a {op = %s, axes = [%s]} : f32[%s]", pre, shapes[s].x, kinds[k],
                     shapes[s].axes, shapes[s].y));
      lower_case(exact, fmt("%%x: i32[%s]", shapes[s].x), fmt("i32[%s]", shapes[s].y),
                 fmt("%%r0 = reduce %%x {op = %s, axes = [%s]} : i32[%s]", k >= 8 ? "sum" : kinds[k], shapes[s].axes,
                     shapes[s].y));
    }
  }
}

Test(lower, reduce_types) {
  static const char *const types[] = {"f64", "f16", "i64", "i8", "u8", "u64"};
  for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
    static const char *const kinds[] = {"sum", "mean", "max", "min"};
    for (size_t k = 0; k < 4; k++) {
      lower_case(near64, fmt("%%x: %s[3,70]", types[t]), fmt("%s[3]", types[t]),
                 fmt("%%r0 = reduce %%x {op = %s, axes = [1], keepdims = false} : %s[3]", kinds[k], types[t]));
    }
  }
}

Test(lower, reduce_empty) {
  lower_case(exact, "%x: f32[3,0]", "f32[3,1]", "%r0 = reduce %x {axes = [1]} : f32[3,1]");
  lower_case(exact, "%x: f32[0,5]", "f32[1,5]", "%r0 = reduce %x {op = max, axes = [0]} : f32[1,5]");
  lower_case(exact, "%x: f32[3,4]", "f32[3,4]", "%r0 = reduce %x {op = sum} : f32[3,4]");
}

Test(lower, argreduce) {
  for (int last = 0; last < 2; last++) {
    for (int axis = 0; axis < 3; axis++) {
      static const char *const y[] = {"1,5,19", "4,1,19", "4,5,1"};
      for (int k = 0; k < 2; k++) {
        Check c = {.specials = true, .lo = 0, .hi = 3};
        const char *attrs = fmt("{op = %s, axis = %d, last = %s}", k ? "min" : "max", axis, last ? "true" : "false");
        lower_case(c, "%x: f32[4,5,19]", fmt("i64[%s]", y[axis]),
                   fmt("%%r0 = argreduce %%x %s : i64[%s]", attrs, y[axis]));
        lower_case(c, "%x: i32[4,5,19]", fmt("i64[%s]", y[axis]),
                   fmt("%%r0 = argreduce %%x %s : i64[%s]", attrs, y[axis]));
      }
    }
  }
}

static void pool_case(const char *x_nchw, const char *x_nhwc, const char *y_nchw, const char *y_nhwc, const char *attrs,
                      const char *avg_attrs) {
  for (int nhwc = 0; nhwc < 2; nhwc++) {
    const char *x = nhwc ? x_nhwc : x_nchw, *y = nhwc ? y_nhwc : y_nchw, *layout = nhwc ? "layout = nhwc, " : "";
    Check c = exact;
    c.specials = true;
    lower_case(c, fmt("%%x: f32[%s]", x), fmt("f32[%s]", y),
               fmt("%%r0, %%r1 = maxpool %%x {%s%s} : f32[%s], i64[%s]", layout, attrs, y, y));
    lower_case(c, fmt("%%x: i8[%s]", x), fmt("i8[%s], i64[%s]", y, y),
               fmt("%%r0, %%r1 = maxpool %%x {%s%s} : i8[%s], i64[%s]", layout, attrs, y, y));
    lower_case(near4, fmt("%%x: f32[%s]", x), fmt("f32[%s]", y),
               fmt("%%r0 = avgpool %%x {%s%s%s} : f32[%s]", layout, attrs, avg_attrs, y));
    lower_case(near64, fmt("%%x: f32[%s]", x), fmt("f32[%s]", y),
               fmt("%%r0 = lppool %%x {%s%s, p = 2} : f32[%s]", layout, attrs, y));
    lower_case(near64, fmt("%%x: f16[%s]", x), fmt("f16[%s]", y),
               fmt("%%r0 = avgpool %%x {%s%s%s} : f16[%s]", layout, attrs, avg_attrs, y));
  }
}

Test(lower, pool) {
  pool_case("2,5,9,8", "2,9,8,5", "2,5,4,4", "2,4,4,5", "kernel = [2,2], strides = [2,2]", "");
  pool_case("1,35,7,7", "1,7,7,35", "1,35,7,7", "1,7,7,35", "kernel = [3,3], pads = [1,1,1,1]", "");
  pool_case("1,3,7,7", "1,7,7,3", "1,3,7,7", "1,7,7,3", "kernel = [3,3], pads = [1,1,1,1]",
            ", count_include_pad = true");
  pool_case("1,70,6,6", "1,6,6,70", "1,70,3,3", "1,3,3,70", "kernel = [3,3], strides = [2,2], pads = [0,0,1,1]", "");
  pool_case("1,2,8,9", "1,8,9,2", "1,2,4,5", "1,4,5,2", "kernel = [3,2], strides = [2,2], pads = [0,0,1,1]", "");
  pool_case("1,2,30", "1,30,2", "1,2,26", "1,26,2", "kernel = [5]", "");
  pool_case("1,2,30", "1,30,2", "1,2,30", "1,30,2", "kernel = [9], pads = [4,4]", ", count_include_pad = true");
  pool_case("1,2,5,6,7", "1,5,6,7,2", "1,2,4,5,6", "1,4,5,6,2", "kernel = [2,2,2]", "");
  pool_case("1,2,9,9", "1,9,9,2", "1,2,5,5", "1,5,5,2", "kernel = [3,3], dilations = [2,2]", "");
  pool_case("1,2,9,9", "1,9,9,2", "1,2,9,9", "1,9,9,2", "kernel = [3,3], pads = [2,2,2,2], dilations = [2,2]", "");
  pool_case("1,1,7,7", "1,7,7,1", "1,1,4,4", "1,4,4,1", "kernel = [2,2], strides = [2,2], ceil_mode = true", "");
  pool_case("2,40,7,7", "2,7,7,40", "2,40,1,1", "2,1,1,40", "kernel = [7,7]", "");
}

Test(lower, pool_places) {
  for (int major = 0; major < 2; major++) {
    const char *attrs =
        fmt("kernel = [3,2], strides = [2,1], pads = [1,0,1,1]%s", major ? ", column_major = true" : "");
    lower_case(exact, "%x: f32[2,3,8,7]", "f32[2,3,4,7], i64[2,3,4,7]",
               fmt("%%r0, %%r1 = maxpool %%x {%s} : f32[2,3,4,7], i64[2,3,4,7]", attrs));
  }
}

Test(lower, norms) {
  const char *par3 = "%x: f32[2,6,5,7], %s: f32[6], %b: f32[6]";
  lower_case(near64, par3, "f32[2,6,5,7]", "%r0 = instance_norm %x, %s, %b : f32[2,6,5,7]");
  lower_case(near64, par3, "f32[2,6,5,7]", "%r0 = group_norm %x, %s, %b {groups = 3} : f32[2,6,5,7]");
  lower_case(near64, "%x: f32[2,5,7,36], %s: f32[36], %b: f32[36]", "f32[2,5,7,36]",
             "%r0 = instance_norm %x, %s, %b {axis = 3} : f32[2,5,7,36]");
  lower_case(near64, "%x: f32[2,5,7,36], %s: f32[36], %b: f32[36]", "f32[2,5,7,36]",
             "%r0 = group_norm %x, %s, %b {axis = 3, groups = 4} : f32[2,5,7,36]");
  lower_case(near64, "%x: f32[2,3,50], %s: f32[50], %b: f32[50]", "f32[2,3,50], f32[2,3,1], f32[2,3,1]",
             "%r0, %r1, %r2 = layer_norm %x, %s, %b : f32[2,3,50], f32[2,3,1], f32[2,3,1]");
  lower_case(near64, "%x: f32[2,3,50], %s: f32[3,50]", "f32[2,3,50]",
             "%r0, %m, %i = layer_norm %x, %s {axis = 1} : f32[2,3,50], f32[2,1,1], f32[2,1,1]");
  lower_case(near64, "%x: f16[4,50], %s: f16[50]", "f16[4,50]", "%r0 = rms_norm %x, %s : f16[4,50]");
  lower_case(near64, "%x: f32[4,50], %s: f32[50]", "f32[4,50]", "%r0 = rms_norm %x, %s : f32[4,50]");
  for (int p = 1; p < 3; p++) {
    for (int axis = 0; axis < 3; axis++) {
      lower_case(near64, "%x: f32[3,5,20]", "f32[3,5,20]",
                 fmt("%%r0 = lp_norm %%x {axis = %d, p = %d} : f32[3,5,20]", axis, p));
    }
  }
}

Test(lower, batchnorm) {
  const char *args = "%x: f32[2,6,5,7], %s: f32[6], %b: f32[6], %m: f32[6], %w: f32[6]";
  const char *body = "%v = abs %w : f32[6]\n  %r0 = batchnorm %x, %s, %b, %m, %v {epsilon = 0.1} : f32[2,6,5,7]";
  lower_case(near64, args, "f32[2,6,5,7]", body);
  Check c = near64;
  c.extra = "const @c: f32[6] = splat(0.75)\n";
  lower_case(c, "%x: f32[2,6,5,7], %b: f32[6], %m: f32[6]", "f32[2,6,5,7]",
             "%r0 = batchnorm %x, @c, %b, %m, @c : f32[2,6,5,7]");
  lower_case(c, "%x: f32[2,5,6], %b: f32[6], %m: f32[6]", "f32[2,5,6]",
             "%r0 = batchnorm %x, @c, %b, %m, @c {axis = 2} : f32[2,5,6]");
}

Test(lower, lrn) {
  for (int size = 1; size < 7; size++) {
    const char *attrs = fmt("size = %d, alpha = 0.5, beta = 0.75", size);
    lower_case(near64, "%x: f32[2,7,5,3]", "f32[2,7,5,3]", fmt("%%r0 = lrn %%x {%s} : f32[2,7,5,3]", attrs));
    lower_case(near64, "%x: f32[2,5,3,40]", "f32[2,5,3,40]",
               fmt("%%r0 = lrn %%x {axis = 3, %s} : f32[2,5,3,40]", attrs));
  }
  lower_case(near64, "%x: f32[2,3,4]", "f32[2,3,4]",
             "%r0 = lrn %x {axis = 2, size = 9, alpha = 0.5, beta = 0.6} : f32[2,3,4]");
}

Test(lower, softmax) {
  static const char *const kinds[] = {"softmax", "log_softmax"};
  for (int k = 0; k < 2; k++) {
    for (int axis = 0; axis < 3; axis++) {
      lower_case(near64, "%x: f32[3,5,20]", "f32[3,5,20]",
                 fmt("%%r0 = %s %%x {axis = %d} : f32[3,5,20]", kinds[k], axis));
      lower_case(near64, "%x: f16[3,5,20]", "f16[3,5,20]",
                 fmt("%%r0 = %s %%x {axis = %d} : f16[3,5,20]", kinds[k], axis));
    }
    for (int n = 1; n < 10; n++) {
      lower_case(near64, fmt("%%x: f32[70,%d]", n), fmt("f32[70,%d]", n),
                 fmt("%%r0 = %s %%x : f32[70,%d]", kinds[k], n));
    }
    lower_case(near64, "%x: f32[2,1000]", "f32[2,1000]", fmt("%%r0 = %s %%x : f32[2,1000]", kinds[k]));
    lower_case(near64, "%x: f64[2,3,100]", "f64[2,3,100]", fmt("%%r0 = %s %%x {axis = 1} : f64[2,3,100]", kinds[k]));
  }
}

// The maximum over squares of a convolution's result is taken before what follows, where that keeps order and NaN: not
// with a bias of infinity, nor behind a function that falls. Results of fewer lanes than a vector has.
Test(lower, maxima_of_sums) {
  static const char *const bodies[] = {
      "%1 = relu %0 : f32[]\n  return %1", "%1 = add %0, %0 : f32[]\n  %2 = relu %1 : f32[]\n  return %2",
      "%1 = clip %0, @lo, @hi : f32[]\n  return %1", "%1 = neg %0 : f32[]\n  return %1"};
  static const char *const biases[] = {"rand(3)", "splat(inf)", "splat(-inf)", "splat(nan)"};
  for (int body = 0; body < 4; body++) {
    for (int bias = 0; bias < 4; bias++) {
      for (int specials = 0; specials < 2; specials++) {
        Check c = {.ulps = 64, .specials = specials};
        c.extra =
            fmt("const @w: f32[3,3,2,12] = rand(7)\nconst @b: f32[12] = %s\nconst @lo: f32[] = splat(-1)\n"
                "const @hi: f32[] = splat(2)\nfunc @after(%%0: f32[]) -> f32[] {\n"
                "  %s\n}",
                biases[bias], bodies[body]);
        lower_case(
            c, "%x: f32[1,8,12,2]", "f32[1,4,6,12]",
            "%0 = conv %x, @w, @b {layout = nhwc, pads = [1,1,1,1], post = @after, plan = fma(mr = 12, nv = 1)} : "
            "f32[1,8,12,12]\n  %r0, %i = maxpool %0 {layout = nhwc, kernel = [2,2], strides = [2,2]} : "
            "f32[1,4,6,12], i64[1,4,6,12]");
      }
    }
  }
}

// Large enough that the outermost loop is shared by threads, with extents that leave rests.
Test(lower, shared_loops) {
  lower_case(near4, "%x: f32[20011]", "f32[20011]", "%r0 = sigmoid %x : f32[20011]");
  lower_case(near4, "%x: f32[131,128]", "f32[131,128]", "%r0 = exp %x : f32[131,128]");
  lower_case(near64, "%x: f32[70,333]", "f32[1,333]", "%r0 = reduce %x {axes = [0]} : f32[1,333]");
  lower_case(near64, "%x: f32[333,70]", "f32[333,1]", "%r0 = reduce %x {axes = [1]} : f32[333,1]");
  lower_case(exact, "%x: f32[131,90]", "f32[90,131]", "%r0 = transpose %x {perm = [1,0]} : f32[90,131]");
  lower_case(near64, "%x: f32[67,211]", "f32[67,211]", "%r0 = softmax %x {axis = 0} : f32[67,211]");
  lower_case(near64, "%x: f32[2111,5]", "f32[2111,5]", "%r0 = softmax %x : f32[2111,5]");
  lower_case(
      exact, "%x: f32[1,33,33,17]", "f32[1,16,16,17]",
      "%r0, %i = maxpool %x {layout = nhwc, kernel = [3,3], strides = [2,2]} : f32[1,16,16,17], i64[1,16,16,17]");
}

// Blocks of 16 by a vector of bytes, and the last ones over those before them.
Test(lower, byte_transposes) {
  static const int sizes[][2] = {{16, 16}, {17, 16}, {16, 17}, {64, 64}, {130, 31}, {49, 100}, {15, 70}, {90, 131}};
  for (int i = 0; i < 8; i++) {
    int rows = sizes[i][0], columns = sizes[i][1];
    lower_case(exact, fmt("%%x: u8[%d,%d]", rows, columns), fmt("u8[%d,%d]", columns, rows),
               fmt("%%r0 = transpose %%x {perm = [1,0]} : u8[%d,%d]", columns, rows));
    lower_case(exact, fmt("%%x: i8[2,%d,3,%d]", rows, columns), fmt("i8[2,3,%d,%d]", columns, rows),
               fmt("%%r0 = transpose %%x {perm = [0,2,3,1]} : i8[2,3,%d,%d]", columns, rows));
  }
}
