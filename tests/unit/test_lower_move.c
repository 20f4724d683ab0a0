// Lowerings of movement, gather, scatter, order, resize, einsum, quantisation and recurrent ops against the graph
// interpreter.
#include "tests/unit/lower_case.h"

static const Check exact = {0}, near64 = {.ulps = 64};
static const char *const some_types[] = {"f32", "f64", "f16", "i64", "i8", "bool"};

Test(lower, transpose) {
  static const char *const cases[][3] = {
      {"3,5", "1,0", "5,3"},
      {"40,33", "1,0", "33,40"},
      {"1,3,17,18", "0,2,3,1", "1,17,18,3"},
      {"1,17,18,3", "0,3,1,2", "1,3,17,18"},
      {"2,3,4,5", "3,2,1,0", "5,4,3,2"},
      {"2,3,4,5", "0,2,1,3", "2,4,3,5"},
      {"2,20,35", "0,2,1", "2,35,20"},
      {"4,1,5", "1,2,0", "1,5,4"},
      {"2,3,4,5,6", "4,0,3,1,2", "6,2,5,3,4"},
      {"100,200", "1,0", "200,100"},
      {"3,2,58", "0,2,1", "3,58,2"},
      {"2,4,4,19", "0,1,3,2", "2,4,19,4"},
      {"8,33", "1,0", "33,8"},
      {"2,3,5,7", "0,2,3,1", "2,5,7,3"},
      {"1,3,64,48", "0,2,3,1", "1,64,48,3"},
      {"1,3,61,53", "0,2,3,1", "1,61,53,3"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (size_t t = 0; t < sizeof some_types / sizeof *some_types; t++) {
      lower_case(exact, fmt("%%x: %s[%s]", some_types[t], cases[i][0]), fmt("%s[%s]", some_types[t], cases[i][2]),
                 fmt("%%r0 = transpose %%x {perm = [%s]} : %s[%s]", cases[i][1], some_types[t], cases[i][2]));
    }
  }
}

Test(lower, expand_tile) {
  lower_case(exact, "%x: f32[3,1,5]", "f32[2,3,4,5]", "%r0 = expand %x : f32[2,3,4,5]");
  lower_case(exact, "%x: f32[]", "f32[7]", "%r0 = expand %x : f32[7]");
  lower_case(exact, "%x: f32[2,3]", "f32[4,9]", "%r0 = tile %x {repeats = [2,3]} : f32[4,9]");
  lower_case(exact, "%x: i64[2,1,2,1,2,1,2,2]", "i64[4,2,4,2,4,2,4,4]",
             "%r0 = tile %x {repeats = [2,2,2,2,2,2,2,2]} : i64[4,2,4,2,4,2,4,4]");
}

Test(lower, concat) {
  lower_case(exact, "%a: f32[2,3], %b: f32[1,3], %c: f32[4,3]", "f32[7,3]",
             "%r0 = concat %a, %b, %c {axis = 0} : f32[7,3]");
  lower_case(exact, "%a: f32[2,3], %b: f32[2,1]", "f32[2,4]", "%r0 = concat %a, %b {axis = 1} : f32[2,4]");
  lower_case(exact, "%a: f32[3], %b: f32[3]", "f32[12], f32[3]",
             "%x = neg %a : f32[3]\n  %r1 = abs %b : f32[3]\n  %u = relu %x : f32[3]\n  %c = concat %x, %r1 {axis = 0} "
             ": f32[6]\n"
             "  %d = concat %u, %x {axis = 0} : f32[6]\n  %r0 = concat %c, %d {axis = 0} : f32[12]");
  lower_case(exact, "%a: f32[1,4,5]", "f32[1,8,5]",
             "%x = neg %a : f32[1,4,5]\n  %y = relu %x : f32[1,4,5]\n  %z = concat %x, %y {axis = 1} : f32[1,8,5]\n"
             "  %r0 = neg %z : f32[1,8,5]");
}

Test(lower, slice) {
  lower_case(exact, "%x: f32[6,7]", "f32[2,7]", "%r0 = slice %x {starts = [3,0]} : f32[2,7]");
  lower_case(exact, "%x: f32[6,7]", "f32[3,2]", "%r0 = slice %x {starts = [5,1], steps = [-2,3]} : f32[3,2]");
  lower_case(exact, "%x: f32[6,7]", "f32[7], f32[2,7]",
             "%y = neg %x : f32[6,7]\n  %a = slice %y {starts = [2,0]} : f32[1,7]\n  %r0 = reshape %a : f32[7]\n"
             "  %b = slice %y {starts = [4,0]} : f32[2,7]\n  %r1 = relu %b : f32[2,7]");
}

Test(lower, results_that_need_copies) {
  lower_case(exact, "%x: f32[6]", "f32[6], f32[2,3]", "%r0 = reshape %x : f32[6]\n  %r1 = reshape %x : f32[2,3]");
  lower_case(exact, "%x: f32[6]", "f32[6], f32[3,2], f32[6]",
             "%r0 = neg %x : f32[6]\n  %r1 = reshape %r0 : f32[3,2]\n  %r2 = relu %r0 : f32[6]");
  lower_case(exact, "%x: f32[6]", "f32[2,3]", "%a = neg %x : f32[6]\n  %r0 = reshape %a : f32[2,3]");
}

Test(lower, pad) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
  static const char *const cases[][3] = {
      {"1,3,5,6", "0,0,1,2,0,0,2,1", "1,3,8,9"},
      {"1,5,6,3", "0,1,2,0,0,2,1,0", "1,8,9,3"},
      {"4,6", "1,-1,-2,2", "3,7"},
      {"9", "3,2", "14"},
      {"2,3,20", "1,0,0,0,0,0", "3,3,20"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (size_t m = 0; m < 4; m++) {
      const char *value = m == 0 ? ", value = 1.5" : "";
      lower_case(exact, fmt("%%x: f32[%s]", cases[i][0]), fmt("f32[%s]", cases[i][2]),
                 fmt("%%r0 = pad %%x {pads = [%s], mode = %s%s} : f32[%s]", cases[i][1], modes[m], value, cases[i][2]));
      lower_case(exact, fmt("%%x: i64[%s]", cases[i][0]), fmt("i64[%s]", cases[i][2]),
                 fmt("%%r0 = pad %%x {pads = [%s], mode = %s} : i64[%s]", cases[i][1], modes[m], cases[i][2]));
    }
  }
}

Test(lower, trilu) {
  for (int k = -7; k < 8; k += 2) {
    for (int upper = 0; upper < 2; upper++) {
      lower_case(exact, "%x: f32[2,4,5]", "f32[2,4,5]",
                 fmt("%%r0 = trilu %%x {upper = %s, k = %d} : f32[2,4,5]", upper ? "true" : "false", k));
    }
  }
}

Test(lower, gather) {
  for (size_t t = 0; t < sizeof some_types / sizeof *some_types; t++) {
    Check c = {.lo = -4, .hi = 4};
    const char *ty = some_types[t];
    lower_case(c, fmt("%%x: %s[4,4,4], %%i: i64[2,3]", ty), fmt("%s[4,2,3,4]", ty),
               fmt("%%r0 = gather %%x, %%i {axis = 1} : %s[4,2,3,4]", ty));
    lower_case(c, fmt("%%x: %s[4,4,4], %%i: i32[]", ty), fmt("%s[4,4]", ty),
               fmt("%%r0 = gather %%x, %%i {axis = 2} : %s[4,4]", ty));
    lower_case(c, fmt("%%x: %s[4,4,4], %%i: i64[2,3,4]", ty), fmt("%s[2,3,4]", ty),
               fmt("%%r0 = gather_elements %%x, %%i {axis = 1} : %s[2,3,4]", ty));
    lower_case(c, fmt("%%x: %s[4,4,4], %%i: i64[3,2]", ty), fmt("%s[3,4]", ty),
               fmt("%%r0 = gather_nd %%x, %%i : %s[3,4]", ty));
    lower_case(c, fmt("%%x: %s[4,4,4], %%i: i64[4,2,1]", ty), fmt("%s[4,2,4]", ty),
               fmt("%%r0 = gather_nd %%x, %%i {batch_dims = 1} : %s[4,2,4]", ty));
  }
  Check wild = {.lo = -6, .hi = 6};
  lower_case(wild, "%i: i64[7], %v: f32[2]", "f32[7,5]", "%r0 = one_hot %i, %v {depth = 5} : f32[7,5]");
  lower_case(wild, "%i: i64[7,2], %v: f32[2]", "f32[7,5,2]", "%r0 = one_hot %i, %v {depth = 5, axis = 1} : f32[7,5,2]");
}

// Indices outside the axis are clamped: no access leaves the buffers (the interpreter checks every one).
Test(lower, gather_wild_indices) {
  Arena *arena = arena_new("wild");
  Diag *diag = diag_new(arena, NULL);
  const char *text =
      "func @f(%x: f32[4,3], %i: i64[5]) -> f32[5,3] {\n  %0 = gather %x, %i : f32[5,3]\n  return %0\n}\n";
  Module *m = parse_module(arena, diag, "wild", text, strlen(text));
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  cr_assert(m && pipeline_run(m, &lower_wide, "infer,lower", &opt, &run, arena, NULL), "%s", diag_text(diag));
  float x[12], y[15];
  int64_t i[5] = {INT64_MIN, -5, 4, INT64_MAX, -1};
  for (int k = 0; k < 12; k++) x[k] = (float)k;
  cr_assert(keval_program(m->program, (const void *[]){x, i}, (void *[]){y}), "%s", diag_text(diag));
  cr_assert_eq(y[0], 0);
  cr_assert_eq(y[3], 0);
  cr_assert_eq(y[6], 9);
  cr_assert_eq(y[9], 9);
  cr_assert_eq(y[12], 9);
  arena_free(arena);
}

Test(lower, scatter) {
  static const char *const reductions[] = {"none", "add", "mul", "max", "min"};
  for (int r = 0; r < 5; r++) {
    Check c = {.lo = -4, .hi = 4, .ulps = r ? 8 : 0};
    lower_case(c, "%x: f32[4,4,4], %i: i64[2,3,4], %u: f32[2,3,4]", "f32[4,4,4]",
               fmt("%%r0 = scatter_elements %%x, %%i, %%u {axis = 1, reduction = %s} : f32[4,4,4]", reductions[r]));
    lower_case(c, "%x: i32[4,4,4], %i: i64[5,1], %u: i32[5,4,4]", "i32[4,4,4]",
               fmt("%%y = neg %%x : i32[4,4,4]\n  %%r0 = scatter_nd %%y, %%i, %%u {reduction = %s} : i32[4,4,4]",
                   reductions[r]));
    lower_case(c, "%x: f32[4,4], %i: i64[6,2], %u: f32[6]", "f32[4,4]",
               fmt("%%r0 = scatter_nd %%x, %%i, %%u {reduction = %s} : f32[4,4]", reductions[r]));
  }
}

Test(lower, constant_indices) {
  static const char *const lists[] = {"0, 1, 2, 3, 4, 5",       "5, 3, 1, 4, 2, 0", "0, 2, 4, 1, 3, 5",
                                      "-1, -2, -3, -4, -5, -6", "0, 0, 1, 1, 2, 2", "3, 3, 3, 3, 3, 3"};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    Check c = exact;
    c.extra = fmt("const @i: i64[6] = [%s]\nconst @t: i64[6,1] = [%s]\n", lists[i], lists[i]);
    lower_case(c, "%x: f32[2,6,5]", "f32[2,6,5]", "%r0 = gather %x, @i {axis = 1} : f32[2,6,5]");
    lower_case(c, "%x: f32[5,6]", "f32[5,6]", "%r0 = gather %x, @i {axis = 1} : f32[5,6]");
    lower_case(c, "%x: f32[7,5], %u: f32[6,5]", "f32[7,5]", "%r0 = scatter_nd %x, @t, %u : f32[7,5]");
    lower_case(c, "%x: f32[7], %u: f32[6]", "f32[7]", "%r0 = scatter_nd %x, @t, %u {reduction = max} : f32[7]");
  }
}

Test(lower, topk) {
  static const int ks[] = {1, 3, 15, 16, 17, 35, 40};
  for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
    for (int largest = 0; largest < 2; largest++) {
      Check c = {.specials = true, .lo = 0, .hi = 9};
      const char *a = fmt("{axis = 1, k = %d, largest = %s}", ks[k], largest ? "true" : "false");
      const char *f = fmt("f32[2,%d,3], i64[2,%d,3]", ks[k], ks[k]), *i = fmt("i32[2,%d,3], i64[2,%d,3]", ks[k], ks[k]);
      lower_case(c, "%x: f32[2,40,3]", f, fmt("%%r0, %%r1 = topk %%x %s : %s", a, f));
      lower_case(c, "%x: i32[2,40,3]", i, fmt("%%r0, %%r1 = topk %%x %s : %s", a, i));
    }
  }
}

Test(lower, topk_insert) {
  for (int k = 1; k < 90; k += 11) {
    Check c = {.specials = true, .lo = 0, .hi = 400};
    const char *f = fmt("f32[2,%d], i64[2,%d]", k, k), *h = fmt("f16[2,%d], i64[2,%d]", k, k);
    lower_case(c, "%x: f32[2,900]", f, fmt("%%r0, %%r1 = topk %%x {k = %d} : %s", k, f));
    lower_case(c, "%x: f16[2,900]", h, fmt("%%r0, %%r1 = topk %%x {k = %d, largest = false} : %s", k, h));
    lower_case(c, "%x: u8[2,900]", fmt("i64[2,%d]", k),
               fmt("%%v, %%r0 = topk %%x {k = %d} : u8[2,%d], i64[2,%d]", k, k, k));
  }
}

Test(lower, cumsum) {
  for (int axis = 0; axis < 3; axis++) {
    for (int how = 0; how < 4; how++) {
      const char *a = fmt("{axis = %d, exclusive = %s, reverse = %s}", axis, how & 1 ? "true" : "false",
                          how & 2 ? "true" : "false");
      lower_case(near64, "%x: f32[3,5,20]", "f32[3,5,20]", fmt("%%r0 = cumsum %%x %s : f32[3,5,20]", a));
      lower_case(exact, "%x: i64[3,5,20]", "i64[3,5,20]", fmt("%%r0 = cumsum %%x %s : i64[3,5,20]", a));
    }
  }
}

Test(lower, resize) {
  static const char *const coords[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                       "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
  static const char *const modes[] = {
      "nearest, nearest = floor",     "nearest", "linear", "cubic", "linear, antialias = true",
      "cubic, exclude_outside = true"};
  static const struct {
    const char *x, *y, *scales, *roi;
  } cases[] = {
      {"1,2,5,6", "1,2,10,12", "1, 1, 2, 2", "0, 0, 0.2, 0.1, 1, 1, 0.9, 1.2"},
      {"1,5,6,20", "1,10,18,20", "1, 2, 3, 1", "0, 0, 0, 0, 1, 1, 1, 1"},
      {"1,2,9,7", "1,2,4,3", "1, 1, 0.5, 0.5", "0, 0, 0.2, 0.1, 1, 1, 0.7, 1.5"},
      {"1,9,7,3", "1,4,10,3", "1, 0.5, 1.5, 1", "0, 0.2, 0, 0, 1, 0.8, 1, 1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (size_t c = 0; c < sizeof coords / sizeof *coords; c++) {
      for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        const char *roi = c == 6 ? fmt(", roi = [%s], extrapolation = 2.5", cases[i].roi) : "";
        // Attributes print and parse in table order: mode, coord, nearest, scales, roi, cubic_a, exclude_outside,
        // antialias.
        char mode[64];
        snprintf(mode, sizeof mode, "%s", modes[m]);
        char *more = strchr(mode, ',');
        if (more) *more = 0;
        const char *tail = more ? more + 1 : "";
        bool is_nearest = strstr(tail, "nearest =") != NULL;
        const char *attrs =
            fmt("mode = %s, coord = %s%s%s, scales = [%s]%s%s%s", mode, coords[c], is_nearest ? "," : "",
                is_nearest ? tail : "", cases[i].scales, "", is_nearest || !*tail ? "" : ",", is_nearest ? "" : tail);
        lower_case(m < 2 ? exact : near64, fmt("%%x: f32[%s]", cases[i].x), fmt("f32[%s]", cases[i].y),
                   fmt("%%r0 = resize %%x {%s%s} : f32[%s]", attrs, roi, cases[i].y));
      }
    }
  }
}

Test(lower, einsum) {
  static const char *const cases[][4] = {
      {"%a: f32[4,5], %b: f32[5,30]", "ij,jk->ik", "4,30", "%a, %b"},
      {"%a: f32[4,50], %b: f32[7,50]", "ij,kj->ik", "4,7", "%a, %b"},
      {"%a: f32[5,5]", "ii->i", "5", "%a"},
      {"%a: f32[5,5]", "ii->", "", "%a"},
      {"%a: f32[3,4,5]", "abc->ca", "5,3", "%a"},
      {"%a: f32[3,4], %b: f32[4,5], %c: f32[5,20]", "ab,bc,cd->ad", "3,20", "%a, %b, %c"},
      {"%a: f32[2,3,4,5], %b: f32[2,3,6,5]", "bhqd,bhkd->bhqk", "2,3,4,6", "%a, %b"},
      {"%a: f32[3], %b: f32[40]", "i,j->ij", "3,40", "%a, %b"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    lower_case(near64, cases[i][0], fmt("f32[%s]", cases[i][2]),
               fmt("%%r0 = einsum %s {equation = \"%s\"} : f32[%s]", cases[i][3], cases[i][1], cases[i][2]));
  }
}

Test(lower, quant) {
  static const char *const rounds[] = {"half_even", "half_away", "half_up", "floor", "ceil", "trunc"};
  for (int r = 0; r < 6; r++) {
    Check c = exact;
    c.extra =
        "const @s: f32[] = splat(0.25)\nconst @z: u8[] = splat(3)\nconst @sc: f32[6] = splat(0.125)\nconst @zi: i8[6] "
        "= splat(-2)\n";
    c.specials = r == 0;
    lower_case(c, "%x: f32[4,6]", "u8[4,6]", fmt("%%r0 = quantize %%x, @s, @z {round = %s} : u8[4,6]", rounds[r]));
    lower_case(c, "%x: f32[4,6]", "i8[4,6]", fmt("%%r0 = quantize %%x, @sc, @zi {round = %s} : i8[4,6]", rounds[r]));
  }
  lower_case(exact, "%x: u8[4,6], %s: f32[], %z: u8[]", "f32[4,6]", "%r0 = dequantize %x, %s, %z : f32[4,6]");
  lower_case(exact, "%x: i8[4,6], %s: f32[4], %z: i8[4]", "f32[4,6]",
             "%r0 = dequantize %x, %s, %z {axis = 0} : f32[4,6]");
  lower_case(exact, "%x: i8[4,6], %s: f32[4,2]", "f32[4,6]",
             "%r0 = dequantize %x, %s {axis = 1, block = 3} : f32[4,6]");
  lower_case((Check){.lo = 0, .hi = 5}, "%t: f32[5,20], %i: u8[3,2]", "f32[3,2,20]",
             "%r0 = lookup %t, %i : f32[3,2,20]");
  Check c = exact;
  c.extra = "const @t: f32[1,3] = [-0.5, 0, 0.75]\nconst @d: bool[6] = [true, false, true, false, true, true]\n";
  lower_case(c, "%x: f32[4,6]", "u8[4,6]", "%r0 = threshold %x, @t : u8[4,6]");
  lower_case(c, "%x: f32[4,6]", "u8[4,6]", "%r0 = threshold %x, @t, @d : u8[4,6]");
}

static void rnn_case(const char *op, int gates, int dirs, const char *attrs, bool lens, bool states, bool batch_major,
                     int h) {
  int t = 5, b = 3, in = 4;
  const char *dir = dirs == 2 ? "direction = bidirectional" : "direction = forward";
  const char *state = batch_major ? fmt("f32[%d,%d,%d]", b, dirs, h) : fmt("f32[%d,%d,%d]", dirs, b, h);
  const char *y = batch_major ? fmt("f32[%d,%d,%d,%d]", b, t, dirs, h) : fmt("f32[%d,%d,%d,%d]", t, dirs, b, h);
  bool lstm = gates == 4;
  const char *args =
      fmt("%%x: %s, %%w: f32[%d,%d,%d], %%r: f32[%d,%d,%d], %%b: f32[%d,%d], %%n: i32[3], %%h: %s, %%c: %s, %%p: "
          "f32[%d,%d]",
          batch_major ? fmt("f32[%d,%d,%d]", b, t, in) : fmt("f32[%d,%d,%d]", t, b, in), dirs, gates * h, in, dirs,
          gates * h, h, dirs, 2 * gates * h, state, state, dirs, 3 * h);
  const char *operands =
      fmt("%%x, %%w, %%r, %%b, %s%s%s", lens ? "%n" : "_", states ? ", %h" : ", _", lstm && states ? ", %c, %p" : "");
  const char *results = fmt("%s, %s%s%s", y, state, lstm ? ", " : "", lstm ? state : "");
  Check c = {.ulps = h > 100 ? 8192 : 512, .lo = 0, .hi = t + 1};  // wide cells amplify rounding
  lower_case(c, args, results,
             fmt("%s = %s %s {%s%s%s%s} : %s", lstm ? "%r0, %r1, %r2" : "%r0, %r1", op, operands, dir,
                 *attrs ? ", " : "", attrs, batch_major ? ", batch_major = true" : "", results));
}

Test(lower, rnn) {
  static const int hidden[] = {37, 8, 130, 3, 16, 64, 20, 33};
  for (int v = 0; v < 8; v++) {
    bool lens = v & 1, states = v & 2;
    int h = hidden[v], dirs = v & 4 ? 2 : 1;
    rnn_case("lstm", 4, dirs, v == 5 ? "clip = 0.7, input_forget = true" : "", lens, states, v == 6, h);
    rnn_case("gru", 3, dirs, "", lens, states, v == 6, h);
    rnn_case("gru", 3, dirs, "linear_before_reset = true", lens, states, false, h);
    rnn_case("rnn", 1, dirs, v == 3 ? "activations = \"ScaledTanh\", alpha = [0.5], beta = [0.25]" : "", lens, states,
             v == 6, h);
  }
}

Test(lower, rnn_constant_weights) {
  Check c = {.ulps = 512};
  c.extra = "const @w: f32[1,16,5] = rand(3)\nconst @r: f32[1,16,4] = rand(4)\nconst @b: f32[1,32] = rand(5)\n";
  lower_case(c, "%x: f32[6,2,5]", "f32[6,1,2,4]",
             "%r0, %h, %c = lstm %x, @w, @r, @b {direction = reverse} : f32[6,1,2,4], f32[1,2,4], f32[1,2,4]");
  lower_case(c, "%x: f32[6,2,5]", "f32[1,2,4]", "%y, %r0, %c = lstm %x, @w, @r : f32[6,1,2,4], f32[1,2,4], f32[1,2,4]");
}

// Weights packed by tiles with a rest; at 190 units they are more than half of L2, and every other step goes backwards.
Test(lower, rnn_packed_weights) {
  static const int hidden[] = {1, 16, 20, 45, 64, 97, 190};
  for (int v = 0; v < 7; v++) {
    int h = hidden[v], steps = h > 100 ? 3 : 5;
    Check c = {.ulps = h > 90 ? 8192 : 512};
    for (int gates = 3; gates <= 4; gates++) {
      c.extra = fmt("const @w: f32[1,%d,2] = rand(3)\nconst @r: f32[1,%d,%d] = rand(4)\n", gates * h, gates * h, h);
      const char *y = fmt("f32[%d,1,1,%d]", steps, h), *state = fmt("f32[1,1,%d]", h);
      const char *body = gates == 4 ? fmt("%%r0, %%h, %%c = lstm %%x, @w, @r : %s, %s, %s", y, state, state)
                                    : fmt("%%r0, %%h = gru %%x, @w, @r : %s, %s", y, state);
      lower_case(c, fmt("%%x: f32[%d,1,2]", steps), y, body);
    }
  }
}
