// Depthwise convolutions in planes (strategy planar): borders, tails and windows of every kind, against eval.
#include "passes/lower/planar.h"
#include "tests/unit/lower_case.h"

static const Check near = {.ulps = 64};

typedef struct Shape {
  int64_t n, c, h, w, kh, kw, pad[4];  // top, left, bottom, right
} Shape;

static int64_t out_of(int64_t in, int64_t kernel, int64_t before, int64_t behind) {
  return in + before + behind - kernel + 1;
}

static const char *attributes(const Shape *s, int64_t my) {
  return fmt("group = %lld, pads = [%lld,%lld,%lld,%lld], plan = planar(my = %lld)", (long long)s->c,
             (long long)s->pad[0], (long long)s->pad[1], (long long)s->pad[2], (long long)s->pad[3], (long long)my);
}

static const char *type_of(const Shape *s, bool result) {
  int64_t h = result ? out_of(s->h, s->kh, s->pad[0], s->pad[2]) : s->h;
  int64_t w = result ? out_of(s->w, s->kw, s->pad[1], s->pad[3]) : s->w;
  return fmt("f32[%lld,%lld,%lld,%lld]", (long long)s->n, (long long)s->c, (long long)h, (long long)w);
}

static const char *constants(const Shape *s) {
  return fmt("const @w: f32[%lld,1,%lld,%lld] = rand(1)\nconst @b: f32[%lld] = rand(2)\n", (long long)s->c,
             (long long)s->kh, (long long)s->kw, (long long)s->c);
}

static const Shape shapes[] = {
    {1, 3, 8, 56, 3, 3, {1, 1, 1, 1}}, {2, 2, 9, 16, 3, 3, {1, 1, 1, 1}},  {1, 2, 5, 17, 3, 3, {1, 1, 1, 1}},
    {1, 2, 3, 20, 5, 5, {2, 2, 2, 2}}, {1, 2, 7, 40, 5, 5, {4, 4, 3, 3}},  {1, 2, 4, 33, 3, 3, {0, 0, 0, 0}},
    {1, 2, 4, 31, 1, 5, {0, 4, 0, 0}}, {1, 2, 6, 18, 4, 2, {3, 1, 0, 0}},  {1, 2, 2, 24, 3, 3, {2, 2, 2, 0}},
    {3, 2, 1, 19, 1, 3, {0, 1, 0, 1}}, {1, 2, 13, 64, 3, 3, {1, 0, 1, 2}}, {1, 2, 1, 16, 5, 3, {2, 1, 2, 1}},
    {1, 2, 6, 16, 3, 8, {1, 7, 1, 0}},
};

Test(planar, borders_and_tails) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const Shape *s = &shapes[i];
    for (int64_t my = 1; my <= 5; my += 2) {
      Check c = near;
      c.extra = constants(s);
      lower_case(c, fmt("%%x: %s", type_of(s, false)), type_of(s, true),
                 fmt("%%r0 = conv %%x, @w%s {%s} : %s", my > 1 ? ", @b" : "", attributes(s, my), type_of(s, true)));
    }
  }
}

// A residual may live where the result does: no vector overlaps another then.
Test(planar, post_function) {
  Check c = near;
  c.extra =
      fmt("%sfunc @post(%%x: f32[], %%y: f32[]) -> f32[] {\n  %%0 = add %%x, %%y : f32[]\n"
          "  %%1 = relu %%0 : f32[]\n  return %%1\n}\n",
          constants(&shapes[2]));
  for (int64_t my = 1; my <= 4; my++) {
    const char *t = type_of(&shapes[2], true);
    lower_case(c, fmt("%%x: %s, %%y: %s", t, t), t,
               fmt("%%0 = relu %%y : %s\n  %%r0 = conv %%x, @w, @b, %%0 {post = @post, %s} : %s", t,
                   attributes(&shapes[2], my), t));
  }
}

// Infinities and NaN of x reach the results whose windows hold them, and no others.
Test(planar, special_values) {
  Check c = near;
  c.specials = true;
  c.extra = constants(&shapes[0]);
  lower_case(c, fmt("%%x: %s", type_of(&shapes[0], false)), type_of(&shapes[0], true),
             fmt("%%r0 = conv %%x, @w, @b {%s} : %s", attributes(&shapes[0], 4), type_of(&shapes[0], true)));
}

// One tap: products of the weights and planes that fill whole vectors; several images, groups of filters, tails.
Test(planar, pointwise) {
  static const int64_t sizes[][5] = {{1, 5, 7, 4, 8}, {2, 3, 20, 8, 8}, {1, 16, 1, 2, 24}, {3, 1, 33, 1, 16}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int64_t mr = 1; mr <= 5; mr += 2) {
      const int64_t *s = sizes[i];
      const char *x =
          fmt("f32[%lld,%lld,%lld,%lld]", (long long)s[0], (long long)s[1], (long long)s[3], (long long)s[4]);
      const char *y =
          fmt("f32[%lld,%lld,%lld,%lld]", (long long)s[0], (long long)s[2], (long long)s[3], (long long)s[4]);
      Check c = near;
      c.extra =
          fmt("const @w: f32[%lld,%lld,1,1] = rand(1)\nconst @b: f32[%lld] = rand(2)\n"
              "func @post(%%x: f32[], %%y: f32[]) -> f32[] {\n  %%0 = add %%x, %%y : f32[]\n  return %%0\n}\n",
              (long long)s[2], (long long)s[1], (long long)s[2]);
      const char *plan = fmt("plan = planar(mr = %lld, nv = 2, panels_outer = %d)", (long long)mr, mr > 1);
      lower_case(c, fmt("%%x: %s", x), y, fmt("%%r0 = conv %%x, @w {%s} : %s", plan, y));
      lower_case(c, fmt("%%x: %s, %%y: %s", x, y), y,
                 fmt("%%r0 = conv %%x, @w, @b, %%y {post = @post, %s} : %s", plan, y));
    }
}
