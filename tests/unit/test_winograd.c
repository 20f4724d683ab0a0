// Winograd convolutions against the graph interpreter, by the kernel interpreter for wide and narrow vectors and as
// native code: every mix of tile sizes, odd tails of channels, asymmetric pads, batches, blocks, post functions; the
// identity of the matrices; where NaN and infinities go. QCC_TEST_GRID=full runs many more shapes.
#include "ir/infer.h"
#include "passes/price.h"
#include "passes/winograd.h"
#include "tests/unit/lower_case.h"

static int64_t below(int64_t n) { return (int64_t)lower_rnd((uint32_t)n); }

typedef struct Shape {
  int64_t n, h, w, c, o, pad[4];  // h, w: of the result
  char tiles[128];
  int64_t mr, nv, rows;
  int bias, post, type;
} Shape;

// Any tiles that make the extent.
static void any_tiles(Shape *s, char axis, int64_t extent) {
  static const int64_t sizes[] = {6, 4, 3, 2, 1};
  for (int i = 0; i < 5; i++) {
    int64_t most = extent / sizes[i], count = sizes[i] == 1 ? most : most > 0 ? below(most + 1) : 0;
    if (count == 0) continue;
    extent -= count * sizes[i];
    snprintf(s->tiles + strlen(s->tiles), sizeof s->tiles - strlen(s->tiles), "%c%d = %d, ", axis, (int)sizes[i],
             (int)count);
  }
}

static Shape any_shape(uint64_t seed, bool small) {
  lower_state = seed * 977 + 5;
  Shape s = {.n = 1 + below(3) / 2, .mr = 1 + below(14), .nv = 1 + below(3), .rows = below(2) ? 1 + below(4) : 0};
  s.h = 1 + below(small ? 10 : 20);
  s.w = 1 + below(small ? 10 : 20);
  s.c = 1 + below(small ? 20 : 70);
  s.o = 1 + below(small ? 20 : 70);
  for (int i = 0; i < 4; i++) s.pad[i] = below(3);
  for (int i = 0; i < 2; i++) {
    int64_t in = (i == 0 ? s.h : s.w) + 2 - s.pad[i] - s.pad[2 + i];
    if (in < 1) s.pad[i] = s.pad[2 + i] = 1;
  }
  any_tiles(&s, 'y', s.h);
  any_tiles(&s, 'x', s.w);
  s.bias = (int)below(2);
  s.post = (int)below(4);
  s.type = below(5) == 0;
  return s;
}

// Pads of h and w at the begin, then at the end.
static void check_shape(const Shape *s, Check c) {
  static const char *const bodies[] = {
      "", "func @p(%a: f32[]) -> f32[] {\n  %0 = relu %a : f32[]\n  return %0\n}",
      "func @p(%a: f32[], %b: f32[]) -> f32[] {\n  %0 = add %a, %b : f32[]\n  %1 = relu %0 : f32[]\n  return %1\n}",
      "func @p(%a: f32[]) -> f32[] {\n  %0 = sigmoid %a : f32[]\n  return %0\n}"};
  const char *x = s->type ? "f16" : "f32";
  int h = (int)(s->h + 2 - s->pad[0] - s->pad[2]), w = (int)(s->w + 2 - s->pad[1] - s->pad[3]);
  const char *result = fmt("%s[%d,%d,%d,%d]", x, (int)s->n, (int)s->h, (int)s->w, (int)s->o);
  const char *args = fmt("%%x: %s[%d,%d,%d,%d]%s%s", x, (int)s->n, h, w, (int)s->c, s->post == 2 ? ", %r: " : "",
                         s->post == 2 ? result : "");
  const char *rows = s->rows > 0 ? fmt(", rows = %d", (int)s->rows) : "";
  c.extra = fmt("const @w: %s[3,3,%d,%d] = rand(7)\nconst @b: %s[%d] = rand(8)\n%s", x, (int)s->c, (int)s->o, x,
                (int)s->o, bodies[s->type ? 0 : s->post]);
  const char *post = s->type || s->post == 0 ? "" : ", post = @p";
  const char *more = s->type || s->post != 2 ? "" : ", %r";
  lower_case(c, args, result,
             fmt("%%r0 = conv %%x, @w, %s%s {layout = nhwc, pads = [%d,%d,%d,%d]%s, plan = winograd(%smr = %d, nv = "
                 "%d%s)} : %s",
                 s->bias ? "@b" : "_", more, (int)s->pad[0], (int)s->pad[1], (int)s->pad[2], (int)s->pad[3], post,
                 s->tiles, (int)s->mr, (int)s->nv, rows, result));
}

static uint64_t cases(uint64_t some) {
  const char *grid = getenv("QCC_TEST_GRID");
  return grid != NULL && strcmp(grid, "full") == 0 ? some * 40 : some;
}

// Tiles of 6 results along both axes err by some 200 units of the largest result.
Test(winograd, any_shape, .timeout = 36000) {
  for (uint64_t i = 0; i < cases(60); i++) {
    Shape s = any_shape(i, true);
    check_shape(&s, (Check){.ulps = 1000});
  }
}

Test(winograd, larger, .timeout = 36000) {
  for (uint64_t i = 0; i < cases(6); i++) {
    Shape s = any_shape(1000 + i, false);
    check_shape(&s, (Check){.ulps = 2000});
  }
}

static double finite_weight(int64_t m, uint32_t i, int k) {
  double row[3];
  (void)m;
  wino_weight(i, row);
  return row[k];
}

// sum over points of A[k][i] G[i][l] B[i][j] is 1 where j = k + l, else 0.
Test(winograd, identity) {
  static const int64_t sizes[] = {1, 2, 3, 4, 6};
  for (int at = 0; at < 5; at++) {
    int64_t m = sizes[at];
    WinoMatrix in = wino_input(m), out = wino_output(m);
    for (uint32_t k = 0; k < m; k++)
      for (int l = 0; l < 3; l++)
        for (uint32_t j = 0; j < in.cols; j++) {
          double sum = 0;
          for (uint32_t i = 0; i < in.rows; i++) sum += out.a[k][i] * finite_weight(m, i, l) * in.a[i][j];
          cr_assert(fabs(sum - (j == k + (uint32_t)l)) < 1e-12, "size %d, result %u, weight %d, input %u: %g", (int)m,
                    k, l, j, sum);
        }
  }
}

Test(winograd, split) {
  for (int64_t n = 1; n <= 300; n++)
    for (int64_t most = 2; most <= 6; most += most == 4 ? 2 : 1) {
      WinoAxis a = wino_split(n, most);
      int64_t sum = 0;
      for (uint32_t i = 0; i < a.n; i++) {
        cr_assert(a.size[i] <= most && a.count[i] > 0 && (i == 0 || a.size[i] < a.size[i - 1]));
        sum += a.size[i] * a.count[i];
      }
      int64_t fewest = (n + most - 1) / most + (most == 6 && n % 6 == 5);  // no tile makes five
      cr_assert(sum == n && wino_tiles(&a) == fewest, "%d by %d", (int)n, (int)most);
      cr_assert(wino_with_point(&a, (uint32_t)wino_axis_points(&a) - 1) == a.count[0]);
    }
}

// A NaN in x reaches the results of every tile that reads it: those the sum names, and their neighbours in the tile.
Test(winograd, not_a_number) {
  Arena *arena = arena_new("nan");
  Diag *diag = diag_new(arena, NULL);
  const char *text =
      "const @w: f32[3,3,2,3] = rand(1)\n"
      "func @f(%x: f32[1,8,8,2]) -> f32[1,8,8,3] {\n"
      "  %0 = conv %x, @w {layout = nhwc, pads = [1,1,1,1], plan = winograd(y4 = 2, x4 = 2, mr = 4, nv = 1)} : "
      "f32[1,8,8,3]\n  return %0\n}\n";
  Module *m = parse_module(arena, diag, "nan", text, strlen(text));
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  cr_assert(m != NULL && pipeline_run(m, &lower_wide, "infer,lower,memplan", &opt, &run, arena, NULL));
  float x[128], y[192];
  const void *in[] = {x};
  void *out[] = {y};
  for (int i = 0; i < 128; i++) x[i] = 1;
  x[(0 * 8 + 0) * 2] = NAN;  // only the first tile reads it
  cr_assert(keval_program(m->program, in, out));
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < 8; j++) {
      bool named = i <= 1 && j <= 1, tile = i < 4 && j < 4, nan = isnan(y[(i * 8 + j) * 3]);
      cr_assert(!named || nan, "result %d, %d is a number", i, j);
      cr_assert(tile || !nan, "result %d, %d is none", i, j);
    }
  arena_free(arena);
}

static const Op *conv_of(Arena *arena, const char *shape, const char *attrs, const char *result) {
  Diag *diag = diag_new(arena, NULL);
  const char *text =
      fmt("const @w: f32[%s] = rand(1)\nfunc @f(%%x: f32[1,28,28,64]) -> f32[%s] {\n  %%0 = conv %%x, @w "
          "{layout = nhwc, %s} : f32[%s]\n  return %%0\n}\n",
          shape, result, attrs, result);
  Module *m = parse_module(arena, diag, "case", text, strlen(text));
  cr_assert(m != NULL, "%s", diag_text(diag));
  return m->funcs.at[0]->first;
}

Test(winograd, applies) {
  Arena *arena = arena_new("applies");
  ConvGeom g;
  cr_assert(wino_geom(conv_of(arena, "3,3,64,64", "pads = [1,1,1,1]", "1,28,28,64"), &g));
  cr_assert(wino_geom(conv_of(arena, "3,3,64,64", "pads = [0,0,0,0]", "1,26,26,64"), &g));
  cr_assert_not(wino_geom(conv_of(arena, "3,3,64,64", "pads = [1,1,1,1], strides = [2,2]", "1,14,14,64"), &g));
  cr_assert_not(wino_geom(conv_of(arena, "5,5,64,64", "pads = [2,2,2,2]", "1,28,28,64"), &g));
  cr_assert_not(wino_geom(conv_of(arena, "3,3,32,64", "pads = [1,1,1,1], group = 2", "1,28,28,64"), &g));
  cr_assert_not(wino_geom(conv_of(arena, "3,3,64,64", "pads = [2,2,2,2], dilations = [2,2]", "1,28,28,64"), &g));
  arena_free(arena);
}

// Larger tiles err more, and no measure is above its bound.
Test(winograd, error) {
  Arena *arena = arena_new("error");
  const Op *op = conv_of(arena, "3,3,64,64", "pads = [1,1,1,1]", "1,28,28,64");
  ConvGeom g;
  cr_assert(wino_geom(op, &g));
  double two = wino_error(op, &g, 2, 2), four = wino_error(op, &g, 4, 4), six = wino_error(op, &g, 6, 6);
  cr_assert(two > 0 && two < four && four < six && six < 1, "%g, %g, %g of the gate", two, four, six);
  cr_assert(wino_bound(2, 2) < wino_bound(4, 4) && wino_bound(4, 4) < wino_bound(6, 6));
  arena_free(arena);
}
