// Random shapes and attributes through the lowerings, against the graph interpreter. LOWER_CASES sets the number of
// cases per test (default 40), LOWER_SEED the first seed.
#include "tests/unit/lower_case.h"

typedef struct Dims {
  int n;
  long d[6];
} Dims;

static uint64_t rng = 99;
static long any(long lo, long hi) {  // lo..hi
  rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return lo + (long)((rng >> 33) % (uint64_t)(hi - lo + 1));
}

static int cases(void) {
  const char *n = getenv("LOWER_CASES"), *seed = getenv("LOWER_SEED");
  if (seed) rng += (uint64_t)atoll(seed);
  return n ? atoi(n) : 40;
}

static long extent(void) {
  static const long some[] = {1, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20, 33, 40};
  return some[any(0, 13)];
}

static Dims any_dims(int lo, int hi, long most) {
  Dims d = {.n = (int)any(lo, hi)};
  long count = 1;
  for (int i = 0; i < d.n; i++) {
    d.d[i] = extent();
    if (count * d.d[i] > most) d.d[i] = 1;
    count *= d.d[i];
  }
  return d;
}

static const char *list(const Dims *d) {
  const char *s = "";
  for (int i = 0; i < d->n; i++) s = fmt("%s%s%ld", s, i ? "," : "", d->d[i]);
  return s;
}

static const char *any_type(void) {
  static const char *const types[] = {"f32", "f32", "f64", "f16", "i32", "i64", "u8", "bool"};
  return types[any(0, 7)];
}

Test(lower_random, transpose) {
  for (int c = cases(); c > 0; c--) {
    Dims x = any_dims(1, 5, 6000), perm = {.n = x.n}, y = {.n = x.n};
    for (int i = 0; i < x.n; i++) perm.d[i] = i;
    for (int i = x.n - 1; i > 0; i--) {
      long j = any(0, i), t = perm.d[i];
      perm.d[i] = perm.d[j];
      perm.d[j] = t;
    }
    for (int i = 0; i < x.n; i++) y.d[i] = x.d[perm.d[i]];
    const char *t = any_type();
    lower_case((Check){0}, fmt("%%x: %s[%s]", t, list(&x)), fmt("%s[%s]", t, list(&y)),
               fmt("%%r0 = transpose %%x {perm = [%s]} : %s[%s]", list(&perm), t, list(&y)));
  }
}

Test(lower_random, slice) {
  for (int c = cases(); c > 0; c--) {
    Dims x = any_dims(1, 4, 4000), starts = {.n = x.n}, steps = {.n = x.n}, y = {.n = x.n};
    for (int i = 0; i < x.n; i++) {
      y.d[i] = any(1, x.d[i]);
      steps.d[i] = y.d[i] > 1 ? any(1, (x.d[i] - 1) / (y.d[i] - 1)) : 1;
      long span = (y.d[i] - 1) * steps.d[i];
      starts.d[i] = any(0, x.d[i] - 1 - span);
      if (any(0, 3) == 0) {
        starts.d[i] += span;
        steps.d[i] = -steps.d[i];
      }
    }
    const char *t = any_type();
    lower_case(
        (Check){0}, fmt("%%x: %s[%s]", t, list(&x)), fmt("%s[%s]", t, list(&y)),
        fmt("%%r0 = slice %%x {starts = [%s], steps = [%s]} : %s[%s]", list(&starts), list(&steps), t, list(&y)));
  }
}

Test(lower_random, pad) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
  for (int c = cases(); c > 0; c--) {
    Dims x = any_dims(1, 4, 2000), lo = {.n = x.n}, hi = {.n = x.n}, y = {.n = x.n};
    for (int i = 0; i < x.n; i++) {
      long most = x.d[i] - 1 < 3 ? x.d[i] - 1 : 3;
      lo.d[i] = any(0, 2) ? any(0, most) : -any(0, x.d[i] / 3);
      hi.d[i] = any(0, 2) ? any(0, most) : -any(0, x.d[i] / 3);
      y.d[i] = x.d[i] + lo.d[i] + hi.d[i];
    }
    const char *t = any_type();
    lower_case((Check){0}, fmt("%%x: %s[%s]", t, list(&x)), fmt("%s[%s]", t, list(&y)),
               fmt("%%r0 = pad %%x {pads = [%s,%s], mode = %s} : %s[%s]", list(&lo), list(&hi), modes[any(0, 3)], t,
                   list(&y)));
  }
}

Test(lower_random, reduce) {
  static const char *const kinds[] = {"sum", "mean", "max", "min", "l1", "l2", "sumsq", "logsumexp"};
  for (int c = cases(); c > 0; c--) {
    Dims x = any_dims(1, 5, 6000), y = x, axes = {0};
    for (int i = 0; i < x.n; i++) {
      if (any(0, 1)) continue;
      axes.d[axes.n++] = i;
      y.d[i] = 1;
    }
    const char *t = any(0, 3) ? "f32" : any(0, 1) ? "i32" : "f64";
    const char *kind = kinds[any(0, *t == 'f' ? 7 : 3)];
    lower_case((Check){.ulps = 256}, fmt("%%x: %s[%s]", t, list(&x)), fmt("%s[%s]", t, list(&y)),
               fmt("%%a = abs %%x : %s[%s]\n  %%r0 = reduce %%a {op = %s, axes = [%s]} : %s[%s]", t, list(&x), kind,
                   list(&axes), t, list(&y)));
  }
}

Test(lower_random, eltwise) {
  static const char *const ops[] = {"add", "sub", "mul", "max", "min"};
  for (int c = cases(); c > 0; c--) {
    Dims y = any_dims(1, 5, 6000), a = y, b = {.n = (int)any(0, y.n)};
    for (int i = 0; i < y.n; i++) {
      if (any(0, 3) == 0) a.d[i] = 1;
    }
    for (int i = 0; i < b.n; i++) {
      b.d[i] = any(0, 2) ? y.d[y.n - b.n + i] : 1;
    }
    for (int i = 0; i < y.n; i++) {
      long other = i >= y.n - b.n ? b.d[i - (y.n - b.n)] : 1;
      y.d[i] = a.d[i] > other ? a.d[i] : other;
    }
    const char *t = any(0, 3) ? "f32" : any(0, 1) ? "i32" : "f16";
    lower_case((Check){0}, fmt("%%a: %s[%s], %%b: %s[%s]", t, list(&a), t, list(&b)), fmt("%s[%s]", t, list(&y)),
               fmt("%%r0 = %s %%a, %%b : %s[%s]", ops[any(0, 4)], t, list(&y)));
  }
}

Test(lower_random, pool) {
  static const char *const kinds[] = {"maxpool", "avgpool", "lppool"};
  for (int c = cases(); c > 0; c--) {
    int nd = (int)any(1, 3), kind = (int)any(0, 2);
    bool last = any(0, 1), ceil_mode = any(0, 1);
    Dims k = {.n = nd}, s = {.n = nd}, lo = {.n = nd}, hi = {.n = nd}, dil = {.n = nd};
    Dims x = {.n = nd + 2}, y = {.n = nd + 2};
    long channels = extent();
    x.d[0] = y.d[0] = any(1, 2);
    x.d[last ? nd + 1 : 1] = y.d[last ? nd + 1 : 1] = channels;
    for (int i = 0; i < nd; i++) {
      k.d[i] = any(1, 4);
      s.d[i] = any(1, 3);
      dil.d[i] = any(0, 3) ? 1 : 2;
      long span = (k.d[i] - 1) * dil.d[i] + 1, in = span + any(0, nd == 1 ? 40 : nd == 2 ? 9 : 4);
      lo.d[i] = any(0, k.d[i] - 1) * (any(0, 1));
      hi.d[i] = any(0, k.d[i] - 1) * (any(0, 1));
      long room = in + lo.d[i] + hi.d[i] - span, out = (ceil_mode ? (room + s.d[i] - 1) / s.d[i] : room / s.d[i]) + 1;
      if (ceil_mode && (out - 1) * s.d[i] >= in + lo.d[i]) out--;
      x.d[last ? 1 + i : 2 + i] = in;
      y.d[last ? 1 + i : 2 + i] = out;
    }
    const char *more = kind == 1 && any(0, 1) ? ", count_include_pad = true" : "";
    const char *attrs =
        fmt("{layout = %s, kernel = [%s], strides = [%s], pads = [%s,%s], dilations = [%s], ceil_mode = %s%s}",
            last ? "nhwc" : "nchw", list(&k), list(&s), list(&lo), list(&hi), list(&dil), ceil_mode ? "true" : "false",
            more);
    const char *t = fmt("f32[%s]", list(&y)), *both = kind == 0 ? fmt("%s, i64[%s]", t, list(&y)) : t;
    lower_case((Check){.ulps = 64}, fmt("%%x: f32[%s]", list(&x)), t,
               fmt("%%r0%s = %s %%x %s : %s", kind == 0 ? ", %i" : "", kinds[kind], attrs, both));
  }
}

Test(lower_random, chains) {
  for (int c = cases(); c > 0; c--) {
    long a = extent(), b = extent(), n = any(3, 12);
    const char *body = "%v0 = neg %x : f32[A,B]";
    long rows = a, cols = b;
    for (long i = 1; i <= n; i++) {
      const char *now = fmt("f32[%ld,%ld]", rows, cols);
      switch (any(0, 5)) {
        case 0:
          body = fmt("%s\n  %%v%ld = transpose %%v%ld {perm = [1,0]} : f32[%ld,%ld]", body, i, i - 1, cols, rows);
          rows += cols;
          cols = rows - cols;
          rows -= cols;
          break;
        case 1: body = fmt("%s\n  %%v%ld = abs %%v%ld : %s", body, i, i - 1, now); break;
        case 2: body = fmt("%s\n  %%v%ld = add %%v%ld, %%v%ld : %s", body, i, i - 1, i - 1, now); break;
        case 3:
          body =
              fmt("%s\n  %%c%ld = concat %%v%ld, %%v%ld {axis = 0} : f32[%ld,%ld]\n"
                  "  %%v%ld = slice %%c%ld {starts = [%ld,0]} : %s",
                  body, i, i - 1, i - 1, 2 * rows, cols, i, i, rows / 2, now);
          break;
        case 4:
          body = fmt("%s\n  %%v%ld = reshape %%v%ld : f32[%ld,%ld]", body, i, i - 1, cols, rows);
          rows += cols;
          cols = rows - cols;
          rows -= cols;
          break;
        default: body = fmt("%s\n  %%v%ld = softmax %%v%ld : %s", body, i, i - 1, now); break;
      }
    }
    char text[2048], *at;
    snprintf(text, sizeof text, "%s", body);
    at = strstr(text, "[A,B]");
    const char *rest = fmt("%s", at + 5);
    *at = 0;
    lower_case((Check){.ulps = 512}, fmt("%%x: f32[%ld,%ld]", a, b),
               fmt("f32[%ld,%ld], f32[%ld,%ld]", rows, cols, a, b),
               fmt("%s[%ld,%ld]%s\n  %%r0 = exp %%v%ld : f32[%ld,%ld]\n  %%r1 = add %%v0, %%x : f32[%ld,%ld]", text, a,
                   b, rest, n, rows, cols, a, b));
  }
}
