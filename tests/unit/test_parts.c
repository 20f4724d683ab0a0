// Register tiles whose vectors hold a few columns, each in several parts of the reduction (nest_parts.c): channel
// counts, windows, tails of the reduction, borders and specials, against eval.
#include "tests/unit/lower_case.h"

static const Check near = {.ulps = 128};

typedef struct Shape {
  int64_t n, h, w, c, o, kh, kw, pad, stride, dilation;
} Shape;

static int64_t out_of(const Shape *s, int64_t in, int64_t kernel) {
  return (in + 2 * s->pad - (kernel - 1) * s->dilation - 1) / s->stride + 1;
}

static const char *x_type(const Shape *s) {
  return fmt("f32[%lld,%lld,%lld,%lld]", (long long)s->n, (long long)s->h, (long long)s->w, (long long)s->c);
}

static const char *y_type(const Shape *s) {
  return fmt("f32[%lld,%lld,%lld,%lld]", (long long)s->n, (long long)out_of(s, s->h, s->kh),
             (long long)out_of(s, s->w, s->kw), (long long)s->o);
}

static const char *constants(const Shape *s) {
  return fmt("const @w: f32[%lld,%lld,%lld,%lld] = rand(1)\nconst @b: f32[%lld] = rand(2)\n", (long long)s->kh,
             (long long)s->kw, (long long)s->c, (long long)s->o, (long long)s->o);
}

static const char *attributes(const Shape *s, const char *plan) {
  return fmt("layout = nhwc, pads = [%lld,%lld,%lld,%lld], strides = [%lld,%lld], dilations = [%lld,%lld], plan = %s",
             (long long)s->pad, (long long)s->pad, (long long)s->pad, (long long)s->pad, (long long)s->stride,
             (long long)s->stride, (long long)s->dilation, (long long)s->dilation, plan);
}

static const Shape shapes[] = {
    {1, 7, 7, 32, 20, 3, 3, 1, 1, 1}, {1, 5, 6, 9, 19, 3, 3, 1, 1, 1},  {2, 4, 5, 8, 12, 1, 1, 0, 1, 1},
    {1, 6, 9, 5, 10, 3, 1, 0, 1, 1},  {1, 9, 8, 3, 24, 3, 3, 1, 2, 1},  {1, 9, 9, 8, 17, 3, 3, 2, 1, 2},
    {1, 3, 3, 16, 3, 2, 2, 0, 1, 1},  {1, 4, 4, 11, 31, 1, 3, 1, 1, 1}, {1, 3, 4, 1, 9, 3, 3, 1, 1, 1},
    {1, 2, 5, 2, 40, 1, 1, 0, 1, 1},  {1, 1, 5, 7, 1, 1, 1, 0, 1, 1},
};

static const char *const plans[] = {
    "fma(mr = 3, parts = 4)",
    "fma(mr = 2, my = 2, parts = 2, ks = 2)",
    "fma(mr = 4, parts = 8, ku = 2)",
    "fma(mr = 2, parts = 4, ks = 2, ku = 2, mb = 2)",
};

Test(parts, channels_windows_tails) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (size_t k = 0; k < sizeof plans / sizeof *plans; k++) {
      const Shape *s = &shapes[i];
      Check c = near;
      c.extra = constants(s);
      lower_case(c, fmt("%%x: %s", x_type(s)), y_type(s),
                 fmt("%%r0 = conv %%x, @w, @b {%s} : %s", attributes(s, plans[k]), y_type(s)));
    }
}

// A maximum over squares in the tile, and a post function with an operand.
Test(parts, squares) {
  const Shape *s = &shapes[1];
  Check c = near;
  c.extra = fmt("%sfunc @post(%%x: f32[]) -> f32[] {\n  %%0 = relu %%x : f32[]\n  return %%0\n}\n", constants(s));
  for (size_t k = 0; k < sizeof plans / sizeof *plans; k++)
    lower_case(c, fmt("%%x: %s", x_type(s)), "f32[1,2,3,19]",
               fmt("%%0 = conv %%x, @w, @b {post = @post, %s} : %s\n"
                   "  %%r0, %%1 = maxpool %%0 {layout = nhwc, kernel = [2,2], strides = [2,2]} : f32[1,2,3,19], "
                   "i64[1,2,3,19]",
                   attributes(s, plans[k]), y_type(s)));
}

Test(parts, post_operand) {
  const Shape *s = &shapes[3];
  Check c = near;
  c.extra = fmt("%sfunc @post(%%x: f32[], %%y: f32[]) -> f32[] {\n  %%0 = add %%x, %%y : f32[]\n  return %%0\n}\n",
                constants(s));
  for (size_t k = 0; k < sizeof plans / sizeof *plans; k++)
    lower_case(c, fmt("%%x: %s, %%y: %s", x_type(s), y_type(s)), y_type(s),
               fmt("%%r0 = conv %%x, @w, @b, %%y {post = @post, %s} : %s", attributes(s, plans[k]), y_type(s)));
}

// The last step reads elements that another one has multiplied: an infinity among them stays what it was.
Test(parts, special_values) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const Shape *s = &shapes[i];
    Check c = near;
    c.specials = true;
    c.extra = constants(s);
    lower_case(c, fmt("%%x: %s", x_type(s)), y_type(s),
               fmt("%%r0 = conv %%x, @w, @b {%s} : %s", attributes(s, plans[0]), y_type(s)));
  }
}
