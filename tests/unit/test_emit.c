// Compiled kernels against the interpreter: every basic kernel op on every lane type it accepts, at many vector widths,
// on every row of targets.def that this machine can run.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "backends/target.h"
#include "ir/kbuild.h"
#include "tests/support/emit_case.h"

static const Loc loc = {.node = -1};
static const DType all[] = {DT_F64, DT_F32, DT_F16, DT_BF16, DT_I64, DT_I32, DT_I16,
                            DT_I8,  DT_U64, DT_U32, DT_U16,  DT_U8,  DT_BOOL};
static const int64_t widths_native[] = {1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 31, 32, 33};
static const int64_t widths_other[] = {1, 3, 4, 8, 13, 16};
static const int64_t widths_pack[] = {7, 13, 16, 23, 29, 32, 41, 58, 64};

typedef struct Case {
  KOp op;
  DType type, to;
} Case;

static Module *module_fresh(Arena *arena) {
  Module *m = module_new(arena, diag_new(arena, stderr));
  m->program = program_new(m);
  return m;
}

static DType operand_type(KOp op, DType t, uint32_t i) {
  if (op == KOP_SELECT) return i == 0 ? DT_BOOL : t;
  if (op == KOP_DOT4) return i == 0 ? DT_I32 : i == 1 ? t : DT_I8X4;
  if (op == KOP_DOT2) return i == 0 ? DT_F32 : DT_BF16X2;
  return t;
}

// To another type: a cast of the rounded operand.
static bool is_rounding(const Case *c) { return c->op == KOP_ROUND && c->to != c->type; }

static KExpr *case_expr(KBuild *b, const Case *c, KExpr **arg) {
  if (is_rounding(c)) return kx_cast(b, c->to, kx_op1(b, KOP_ROUND, arg[0]));
  if (c->op == KOP_CAST) return kx_cast(b, c->to, arg[0]);
  if (c->op == KOP_VIEW) return kx_view(b, c->to, arg[0]);
  if (c->op == KOP_LOW_WORD) return kx_low_word(b, arg[0]);
  uint32_t n = kop_info(c->op)->arity;
  return n == 1   ? kx_op1(b, c->op, arg[0])
         : n == 2 ? kx_op2(b, c->op, arg[0], arg[1])
                  : kx_op3(b, c->op, arg[0], arg[1], arg[2]);
}

// o[i] = op(a[i], b[i], c[i]) for one width, with the second operand uniform when `uniform`.
static void add_kernel(Module *m, const Case *c, int64_t n, bool uniform) {
  KBuild b;
  kbuild_init(&b, m,
              arena_printf(m->arena, "%s_%s_%lld", kop_info(c->op)->name, dtype_info(c->type)->name, (long long)n),
              &loc);
  static const char *const names[] = {"a", "b", "c"};
  KBuf *in[3];
  uint32_t arity = kop_info(c->op)->arity;
  for (uint32_t i = 0; i < arity; i++)
    in[i] = kb_param(&b, names[i], operand_type(c->op, c->type, i), 1, &n, SPACE_ARG);
  DType to = c->op == KOP_CAST || c->op == KOP_VIEW || is_rounding(c) ? c->to
             : kop_info(c->op)->rule == KRULE_BOOL                    ? DT_BOOL
             : c->op == KOP_DOT4 || c->op == KOP_LOW_WORD             ? DT_I32
             : c->op == KOP_DOT2                                      ? DT_F32
                                                                      : c->type;
  KBuf *out = kb_param(&b, "o", to, 1, &n, SPACE_ARG);
  KVar *i = kb_for(&b, "i", 0, n, 1, FOR_VEC);
  KExpr *arg[3];
  for (uint32_t k = 0; k < arity; k++) arg[k] = kx_load1(&b, in[k], uniform && k == 1 ? aff(0) : aff_var(i));
  kb_store1(&b, out, aff_var(i), case_expr(&b, c, arg));
  kb_end(&b);
  program_kernel(m->program, kbuild_done(&b));
}

static bool is_float_op(KOp op) { return (op >= KOP_NEG && op <= KOP_FMA) || (op >= KOP_EQ && op <= KOP_SELECT); }

static bool accepts(KOp op, DType t) {
  if (op == KOP_LOW_WORD) return t == DT_F64;
  if (dtype_is_float(t)) return is_float_op(op);
  if (op == KOP_SQRT || kop_table(op) > 0 || op == KOP_DOT4 || op == KOP_DOT2) return false;
  return true;
}

static int run_cases(const Target *target, uint32_t n, const Case *cases, bool native) {
  if (n == 0) return 0;
  Arena *arena = arena_new("test");
  Module *m = module_fresh(arena);
  const int64_t *widths = native ? widths_native : widths_other;
  size_t n_widths = native ? sizeof widths_native / 8 : sizeof widths_other / 8;
  if (is_rounding(&cases[0])) {
    widths = widths_pack;
    n_widths = sizeof widths_pack / 8;
  }
  for (uint32_t i = 0; i < n; i++)
    for (size_t w = 0; w < n_widths; w++) add_kernel(m, &cases[i], widths[w], w % 5 == 4);
  emit_case_steps(m);
  // Processors that have dot2 take denormals for 0 and round the sum once.
  EmitCase c = {.target = target, .rounds = 6, .tolerance = cases[0].op == KOP_DOT2 ? 1e-6 : 0};
  int wrong = emit_case_run(m, &c);
  if (wrong) fprintf(stderr, "op %s on %s: %s\n", kop_info(cases[0].op)->name, target->name, diag_text(m->diag));
  arena_free(arena);
  return wrong;
}

static void check_op(KOp op) {
  const Target *best = target_native();
  for (uint32_t r = 0; r < target_count(); r++) {
    const Target *t = target_at(r);
    if (!target_runs_here(t)) continue;
    Case cases[32];
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
      if (!accepts(op, all[i])) continue;
      bool inexact = op == KOP_FMA && !t->has_fma && (all[i] == DT_F32 || all[i] == DT_F64);
      if (!inexact) cases[n++] = (Case){op, all[i], all[i]};
    }
    cr_expect_eq(run_cases(t, n, cases, t == best), 0, "%s on %s", kop_info(op)->name, t->name);
  }
}

Test(emit, float_and_integer_ops) {
  for (KOp op = KOP_NEG; op <= KOP_SELECT; op++) check_op(op);
  check_op(KOP_POPCNT);
}

Test(emit, casts) {
  const Target *best = target_native();
  for (uint32_t r = 0; r < target_count(); r++) {
    const Target *t = target_at(r);
    if (!target_runs_here(t) || (t != best && t->has_masks)) continue;
    for (size_t from = 0; from < sizeof all / sizeof all[0]; from++) {
      Case cases[16];
      uint32_t n = 0;
      for (size_t to = 0; to < sizeof all / sizeof all[0]; to++)
        if (to != from) cases[n++] = (Case){KOP_CAST, all[from], all[to]};
      cr_expect_eq(run_cases(t, n, cases, false), 0, "cast from %s on %s", dtype_info(all[from])->name, t->name);
    }
  }
}

// Rounding to bytes packs whole registers; special values, both infinities and NaN included, end as the interpreter
// says.
Test(emit, rounds_to_bytes) {
  static const Case cases[] = {
      {KOP_ROUND, DT_F32, DT_U8}, {KOP_ROUND, DT_F32, DT_I8}, {KOP_ROUND, DT_F64, DT_U8}, {KOP_ROUND, DT_F64, DT_I8}};
  for (uint32_t r = 0; r < target_count(); r++) {
    if (target_runs_here(target_at(r)))
      cr_expect_eq(run_cases(target_at(r), 4, cases, false), 0, "rounding to bytes on %s", target_at(r)->name);
  }
}

// Rows this machine can't run are at least compiled: every op must do without libm and without the compiler's
// library, but for the arithmetic that Cortex-M cores lack.
Test(emit, foreign_rows_compile) {
  for (uint32_t r = 0; r < target_count(); r++) {
    const Target *t = target_at(r);
    bool bare = target_row(t)->bare;  // of those the least, one with floats and one with vectors
    if (bare && strcmp(t->name, "cortex-m0plus") && strcmp(t->name, "cortex-m4f") && t->vector_bits == 32) continue;
    if (target_runs_here(t)) continue;
    Arena *arena = arena_new("test");
    Module *m = module_fresh(arena);
    for (KOp op = KOP_NEG; op <= KOP_POPCNT; op++) {
      for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        bool convert = op == KOP_CAST || op == KOP_VIEW;
        Case c = {op, all[i], convert ? all[(i + 1) % (sizeof all / sizeof all[0])] : all[i]};
        if (!convert && !accepts(op, all[i])) continue;
        if (op == KOP_VIEW && dtype_info(c.to)->bits != dtype_info(c.type)->bits) continue;
        if (!bare) add_kernel(m, &c, 16, false);
        add_kernel(m, &c, 5, true);
      }
    }
    add_kernel(m, &(Case){KOP_DOT4, DT_I8X4, DT_I32}, 16, false);
    emit_case_steps(m);
    ObjectBytes object;
    EmitOptions opt = {.name = "unit", .info_json = "{}", .pic = true};
    bool ok = backend_emit(m, t, &opt, EMIT_OBJECT, true, &object);
    cr_expect(ok, "%s: %s", t->name, diag_text(m->diag));
    if (ok) free(object.at);
    arena_free(arena);
  }
}

Test(emit, views_and_packed_lanes) {
  const Case cases[] = {{KOP_LOW_WORD, DT_F64, DT_I32}, {KOP_VIEW, DT_F64, DT_I64},  {KOP_VIEW, DT_I32, DT_F32},
                        {KOP_VIEW, DT_U16, DT_F16},     {KOP_VIEW, DT_U16, DT_BF16}, {KOP_VIEW, DT_I8, DT_U8},
                        {KOP_VIEW, DT_U32, DT_U8X4},    {KOP_VIEW, DT_I8X4, DT_I32}, {KOP_DOT4, DT_U8X4, DT_I32},
                        {KOP_DOT4, DT_I8X4, DT_I32},    {KOP_AND, DT_U8X4, DT_U8X4}, {KOP_XOR, DT_I8X4, DT_I8X4},
                        {KOP_SHR, DT_U8X4, DT_U8X4}};
  for (uint32_t r = 0; r < target_count(); r++) {
    const Target *t = target_at(r);
    uint32_t n = sizeof cases / sizeof cases[0];
    if (target_runs_here(t)) cr_expect_eq(run_cases(t, n, cases, t == target_native()), 0, "%s", t->name);
  }
}

Test(emit, pairs_of_bfloat16) {
  const Case pairs = {KOP_DOT2, DT_BF16X2, DT_F32};
  for (uint32_t r = 0; r < target_count(); r++) {
    const Target *t = target_at(r);
    if (target_runs_here(t) && t->has_fma)
      cr_expect_eq(run_cases(t, 1, &pairs, t == target_native()), 0, "%s", t->name);
  }
}
