// A network of bytes, signs and few-level activations has no float operation in any kernel but the last one.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "ir/text.h"
#include "passes/pass.h"
#include "tests/unit/cpus.h"

enum { TEXT = 32768 };

typedef struct Text {
  char at[TEXT];
  size_t n;
  uint64_t seed;
} Text;

static double next(Text *t) {
  t->seed = t->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(t->seed >> 33) / 0x1p31;
}

static void put(Text *t, const char *text) {
  int n = snprintf(t->at + t->n, TEXT - t->n, "%s", text);
  t->n += (size_t)n;
  cr_assert(t->n < TEXT);
}

// Numbers lo + (hi - lo) * u; or -hi and +hi where lo is -hi and `signs`.
static void put_const(Text *t, const char *name, const char *dims, int n, double lo, double hi, bool signs) {
  char line[96];
  snprintf(line, sizeof line, "const @%s: f32%s = [", name, dims);
  put(t, line);
  for (int i = 0; i < n; i++) {
    double u = next(t);
    snprintf(line, sizeof line, "%s%.7g", i ? ", " : "", signs ? (u < 0.5 ? lo : hi) : lo + (hi - lo) * u);
    put(t, line);
  }
  put(t, "]\n");
}

static const char network[] =
    "func @f(%x: u8[1,2,8,8]) -> f32[1,10] {\n"
    "  %0 = cast %x : f32[1,2,8,8]\n"
    "  %1 = div %0, f32(255.0) : f32[1,2,8,8]\n"
    "  %2 = conv %1, @w1 {pads = [1,1,1,1]} : f32[1,8,8,8]\n"
    "  %3 = batchnorm %2, @s, @b, @m, @v : f32[1,8,8,8]\n"
    "  %4 = clip %3, f32(0.0), f32(1.0) : f32[1,8,8,8]\n"
    "  %5 = mul %4, f32(3.0) : f32[1,8,8,8]\n"
    "  %6 = round %5 : f32[1,8,8,8]\n"
    "  %7 = div %6, f32(3.0) : f32[1,8,8,8]\n"
    "  %8 = conv %7, @w2 {pads = [1,1,1,1]} : f32[1,8,8,8]\n"
    "  %9 = batchnorm %8, @s, @b, @m, @v : f32[1,8,8,8]\n"
    "  %10 = add %9, %7 : f32[1,8,8,8]\n"
    "  %11 = relu %10 : f32[1,8,8,8]\n"
    "  %12 = div %11, f32(0.217) : f32[1,8,8,8]\n"
    "  %13 = round %12 : f32[1,8,8,8]\n"
    "  %14 = clip %13, f32(0.0), f32(7.0) : f32[1,8,8,8]\n"
    "  %15 = mul %14, f32(0.217) : f32[1,8,8,8]\n"
    "  %16, %17 = maxpool %15 {kernel = [2,2], strides = [2,2]} : f32[1,8,4,4], i64[1,8,4,4]\n"
    "  %18 = conv %16, @w3 {pads = [1,1,1,1]} : f32[1,8,4,4]\n"
    "  %19 = batchnorm %18, @s, @b, @m, @v : f32[1,8,4,4]\n"
    "  %20 = greater_equal %19, f32(0.0) : bool[1,8,4,4]\n"
    "  %21 = select %20, f32(1.0), f32(-1.0) : f32[1,8,4,4]\n"
    "  %22 = reshape %21 : f32[1,128]\n"
    "  %23 = matmul %22, @w4 {trans_b = true} : f32[1,10]\n"
    "  return %23\n"
    "}\n";

static bool has_floats(const Kernel *k, Arena *arena) {
  StrBuf text;
  strbuf_init(&text, arena);
  print_kernel(&text, k);
  const char *s = strbuf_str(&text);
  return strstr(s, "f32") != NULL || strstr(s, "f64") != NULL;
}

static void check(const Target *target) {
  static Text t;
  t = (Text){.n = 0, .seed = 11};
  put_const(&t, "w1", "[8,2,3,3]", 8 * 2 * 9, -0.3, 0.3, true);
  put_const(&t, "w2", "[8,8,3,3]", 8 * 8 * 9, -0.13, 0.13, true);
  put_const(&t, "w3", "[8,8,3,3]", 8 * 8 * 9, -0.21, 0.21, true);
  put_const(&t, "w4", "[10,128]", 1280, -0.5, 0.5, true);
  put_const(&t, "s", "[8]", 8, -0.9, 0.9, false);
  put_const(&t, "b", "[8]", 8, -0.4, 0.6, false);
  put_const(&t, "m", "[8]", 8, -0.5, 0.5, false);
  put_const(&t, "v", "[8]", 8, 0.4, 2, false);
  put(&t, network);
  Arena *arena = arena_new("float free");
  Module *m = parse_module(arena, diag_new(arena, NULL), "case", t.at, t.n);
  cr_assert(m != NULL);
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = false};
  cr_assert(pipeline_run(m, target, pipeline_default, &opt, &run, arena, NULL), "%s", diag_text(m->diag));
  cr_assert(m->program->steps.n >= 5);
  for (uint32_t i = 0; i + 1 < m->program->steps.n; i++)
    cr_assert(!has_floats(m->program->steps.at[i].kernel, arena), "%s: step %u computes in floats", target->name, i);
  cr_assert(has_floats(m->program->steps.at[m->program->steps.n - 1].kernel, arena), "the last layer gives floats");
  arena_free(arena);
}

static const Target wide = {
    .name = "wide", CPU_512, .has_masks = true, .has_fma = true, .has_dot4 = true, .dot4_per_cycle = 2};
static const Target narrow = {.name = "narrow", CPU_128, .has_fma = true};

Test(float_free, between_the_first_and_the_last_layer) {
  check(&wide);
  check(&narrow);
}
