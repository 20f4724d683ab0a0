// Contractions on matrix tiles against the graph interpreter, bit for bit: every remainder of rows, columns and
// reduction, both signs of x, weights of 1 to 8 bits, zero points, padding, strides, dilation, groups. The kernels run
// in the kernel interpreter and as AMX code: on the processor where it has that, else through the emulator
// (tests/support). QCC_TEST_GRID=full runs every size instead of a sample.
#include "tests/support/amx_emulator.h"
#include "tests/unit/byte_case.h"

static bool run_tiles(Case *c, const Target *t, const void *const *in, void *const *out) {
  return run_jit_row(c, t, amx_emulator_row(), in, out) && amx_emulator_idle();
}

static void any_plan(Case *c, Plan *p) {
  byte_plan_add(c, p, "mr", 1 + rnd(c, 40));
  byte_plan_add(c, p, "my", 1 + rnd(c, 3));
  byte_plan_add(c, p, "nv", 1 + rnd(c, 3));
  if (rnd(c, 2)) byte_plan_add(c, p, "lanes", 1 + rnd(c, 16));
  if (rnd(c, 4) == 0) byte_plan_add(c, p, "mb", 1 + rnd(c, 60));
  if (rnd(c, 4) == 0) byte_plan_add(c, p, "panels_outer", 1);
  if (rnd(c, 4) != 0) byte_plan_add(c, p, "bits", 1);
  if (rnd(c, 2)) byte_plan_add(c, p, "flat", 1);
}

// Weights of 1 to 6 bits, with zero on the grid and without.
static const ByteGrid grids[] = {{-1, 2, 2},  {-1, 1, 3},  {-2, 1, 4},   {-3, 2, 4},   {-4, 1, 8},   {-7, 2, 8},
                                 {-8, 1, 16}, {-7, 1, 15}, {-15, 2, 16}, {-16, 1, 32}, {-63, 2, 64}, {-30, 5, 9}};
#define N_GRIDS ((uint64_t)(sizeof grids / sizeof *grids))

// The planner's choice or any plan at all, interpreted or compiled.
static const ByteRun *how(bool native, bool any) {
  static ByteRun run;
  run = (ByteRun){"tile8",
                  native ? "native" : "keval",
                  target_by_name("sapphire-rapids"),
                  native ? PIPE_JIT : PIPE_KEVAL,
                  native ? run_tiles : run_keval,
                  any_plan,
                  any,
                  NULL};
  return &run;
}

static const ByteRun *on_grid(bool native, bool any, uint64_t grid) {
  static ByteRun run;
  run = *how(native, any);
  run.grid = &grids[grid % N_GRIDS];
  return &run;
}

static const int64_t ms[] = {1, 2, 7, 8, 14, 15, 16, 17, 20, 28, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 130};
#define N_MS ((uint64_t)(sizeof ms / sizeof *ms))

Test(tile8, matmul_interpreted, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid();
  for (int64_t k = 1; k <= 200; k += full || k < 8 ? 1 : 17) {
    for (int64_t n = 1; n <= 70; n += full || n < 3 ? 1 : 19) {
      for (uint64_t i = 0; i < (full ? N_MS : 1); i++, seed++) {
        check_matmul(ms[full ? i : (seed * 5) % N_MS], k, n, seed & 2 ? DT_I8 : DT_U8, how(false, seed & 1), seed);
      }
    }
  }
}

Test(tile8, matmul_compiled, .timeout = 36000) {
  if (!amx_usable()) cr_skip_test("needs AVX-512");
  uint64_t seed = 1;
  bool full = full_grid();
  for (int64_t k = 1; k <= 200; k += full ? 3 : 1 + k / 2) {
    for (int64_t n = 1; n <= 70; n += full ? 3 : 17, seed++) {
      check_matmul(ms[seed % N_MS], k, n, seed & 1 ? DT_I8 : DT_U8, how(true, seed & 2), seed);
    }
  }
}

// Every grid with every remainder of the reduction by the rows that share a byte.
Test(tile8, few_bits, .timeout = 36000) {
  uint64_t seed = 1;
  bool full = full_grid(), usable = amx_usable();
  for (int64_t k = 1; k <= 200; k += full ? 1 : 1 + k / 3) {
    for (uint64_t grid = 0; grid < N_GRIDS; grid++, seed++) {
      int64_t m = ms[seed % N_MS], n = 1 + (int64_t)(seed * 7 % 70);
      check_matmul(m, k, n, seed & 1 ? DT_I8 : DT_U8, on_grid(false, seed & 2, grid), seed);
      if (usable && seed % 5 == 0) check_matmul(m, k, n, seed & 1 ? DT_I8 : DT_U8, on_grid(true, seed & 2, grid), seed);
    }
  }
}

static const Conv convs[] = {
    {3, 16, 1, 9, 3, 1, 1, 1},    {1, 5, 1, 8, 3, 1, 1, 1},   {1, 5, 1, 18, 3, 1, 2, 1},  {4, 33, 1, 17, 3, 2, 1, 1},
    {8, 16, 1, 36, 1, 1, 1, 0},   {7, 19, 1, 6, 1, 2, 1, 0},  {16, 8, 2, 16, 3, 1, 1, 1}, {6, 9, 3, 6, 3, 1, 1, 0},
    {64, 64, 1, 14, 3, 1, 1, 1},  {2, 40, 1, 39, 5, 2, 1, 2}, {12, 17, 1, 8, 3, 1, 3, 3}, {130, 3, 1, 3, 1, 1, 1, 0},
    {100, 20, 1, 15, 1, 1, 1, 0}, {9, 31, 1, 5, 1, 1, 1, 0},
};

static void check_convs(bool native) {
  for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++) {
    for (uint32_t axes = 1; axes <= (convs[i].size <= 9 ? 3 : 2); axes++) {
      check_conv(&convs[i], axes, DT_U8, (Result)(i % 3), how(native, (i + axes) & 1), i + 1);
      check_conv(&convs[i], axes, DT_I8, (Result)((i + 1) % 3), how(native, (i + axes + 1) & 1), i + 100);
      check_conv(&convs[i], axes, DT_U8, (Result)((i + 2) % 3), on_grid(native, (i + axes) & 1, i + axes), i + 200);
    }
  }
}

Test(tile8, conv_interpreted, .timeout = 600) { check_convs(false); }

Test(tile8, conv_compiled, .timeout = 600) {
  if (!amx_usable()) cr_skip_test("needs AVX-512");
  check_convs(true);
}

// A 3x3 convolution of 64 channels to 14 x 15: 7 blocks of 2 x 15 pixels by 2 x 32 channels, 9 steps each.
Test(tile8, as_many_products_as_planned) {
  static const Conv conv = {64, 64, 1, 14, 3, 1, 1, 1};
  if (amx_emulator_row() == NULL) cr_skip_test("counted by the emulator");
  check_conv(&conv, 2, DT_U8, BYTES, how(true, false), 2);
  AmxCounts n = amx_emulator_counts();
  cr_expect_eq(n.configs, 1);
  cr_expect_eq(n.releases, 1);
  cr_expect_eq(n.dots, 14 * 4 * 9, "%llu products", (unsigned long long)n.dots);
  cr_expect_eq(n.loads, 14 / 2 * 2 * 4 * 9, "%llu loads", (unsigned long long)n.loads);
  cr_expect_eq(n.stores, 14 * 4);
}

static const char layers[] =
    "const @w: i8[3,3,64,64] = rand(2)\n"
    "func @f(%x: u8[1,ROWS,14,64]) -> i32[1,ROWS,14,64] {\n"
    "  %0 = conv %x, @w {layout = nhwc, pads = [1,1,1,1]} : i32[1,ROWS,14,64]\n"
    "  return %0\n"
    "}\n";

// Assembly, or the object, of a convolution with `rows` rows of 14 pixels.
static ObjectBytes compile(const char *rows, EmitKind kind) {
  Arena *arena = arena_new("asm");
  Diag *diag = diag_new(arena, NULL);
  StrBuf text;
  strbuf_init(&text, arena);
  for (const char *p = layers; *p; p++) {
    if (strncmp(p, "ROWS", 4) == 0) {
      strbuf_puts(&text, rows);
      p += 3;
    } else {
      strbuf_putc(&text, *p);
    }
  }
  Module *m = parse_module(arena, diag, "layers", strbuf_str(&text), text.n);
  cr_assert(m != NULL, "%s", diag_text(diag));
  const Target *t = target_by_name("sapphire-rapids");
  PassOptions opt = pass_options_default();
  RunOptions runner = {.verify_each = true};
  cr_assert(pipeline_run(m, t, "infer," PIPE_JIT, &opt, &runner, arena, NULL), "%s", diag_text(diag));
  ObjectBytes out;
  EmitOptions emit = {.name = "net", .info_json = "{}", .pic = true};
  m->name = "net";
  cr_assert(backend_emit(m, t, &emit, kind, true, &out), "%s", diag_text(diag));
  arena_free(arena);
  return out;
}

static char *assembly(const char *rows) {
  ObjectBytes bytes = compile(rows, EMIT_ASM);
  char *text = calloc(bytes.n + 1, 1);
  memcpy(text, bytes.at, bytes.n);
  free(bytes.at);
  return text;
}

static int count_in(const char *from, const char *to, const char *what) {
  int n = 0;
  for (const char *p = from; (p = strstr(p, what)) != NULL && p < to; p += strlen(what)) n++;
  return n;
}

// The innermost loop: four products, four loads, no vector multiplication, and a jump back to its start.
Test(tile8, inner_loop_is_tiles) {
  char *text = assembly("14");
  const char *dot = strstr(text, "\ttdpbusd"), *start = dot, *end = dot ? strstr(dot, "\n\tj") : NULL;
  cr_assert(dot != NULL && end != NULL, "no products of tiles");
  while (start > text && strncmp(start, "\n.LBB", 5) != 0) start--;
  char label[32] = "";
  sscanf(start, "\n%31[^:]", label);
  cr_expect_eq(count_in(start, end, "\ttdpbusd"), 4);
  cr_expect_eq(count_in(start, end, "\ttileloadd"), 4);
  cr_expect_eq(count_in(start, end, "\tvp"), 0);
  cr_expect(strstr(end, label) != NULL && strstr(end, label) - end < 16, "%s is no loop", label);
  cr_expect_eq(count_in(text, text + strlen(text), "\tldtilecfg"),
               count_in(text, text + strlen(text), "\ttilerelease"));
  free(text);
}

// init asks for the tile registers where the object uses them, and only there.
Test(tile8, permission_is_asked_for) {
  char *tiles = assembly("14"), *none = assembly("1");
  cr_expect_eq(count_in(tiles, tiles + strlen(tiles), "\tsyscall"), 1);
  cr_expect_eq(count_in(none, none + strlen(none), "\tsyscall"), 0);
  cr_expect_eq(count_in(none, none + strlen(none), "\ttile") + count_in(none, none + strlen(none), "\tldtile"), 0);
  free(tiles);
  free(none);
}

// Without the emulator such an object does not start on a CPU that lacks the tiles.
Test(tile8, init_refuses_other_machines) {
  Arena *arena = arena_new("init");
  ObjectBytes object = compile("14", EMIT_OBJECT);
  Jit *jit = jit_load(&object, "net", diag_new(arena, NULL));
  cr_assert(jit != NULL);
  const qcc_model *model = jit_model(jit);
  void *workspace = aligned_alloc(64, ((size_t)model->workspace_size(NULL) + 63) / 64 * 64);
  bool here = target_runs_here(target_by_name("sapphire-rapids"));
  cr_expect_eq(model->init(workspace), here ? QCC_OK : QCC_E_CPU);
  free(workspace);
  jit_free(jit);
  free(object.at);
  arena_free(arena);
}
