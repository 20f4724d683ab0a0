// backend_emit from outside: the child process and its death, text output, single steps, limits, the header.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/kbuild.h"
#include "ir/text.h"
#include "runtime/qcc_rt.h"

static Arena *arena;
static Diag *diag;
static const Loc loc = {.node = -1};

static void setup(void) {
  arena = arena_new("test");
  diag = diag_new(arena, NULL);
}

static void teardown(void) { arena_free(arena); }

TestSuite(backend, .init = setup, .fini = teardown);

// x -> middle = x + 1 -> y = middle * 2, on 24 floats; `op` is the second operation.
static Module *two_steps(KOp op, bool placed) {
  Module *m = module_new(arena, diag);
  m->program = program_new(m);
  int64_t n = 24;
  const Type *t = type_tensor(m->types, DT_F32, 1, &n);
  PBuf *buf[3] = {program_buf(m->program, PBUF_INPUT, "x", t), program_buf(m->program, PBUF_WORK, "middle", t),
                  program_buf(m->program, PBUF_OUTPUT, "y", t)};
  if (placed) {
    buf[1]->offset = 0;
    m->program->workspace_bytes = 96;
  }
  for (int i = 0; i < 2; i++) {
    KBuild b;
    kbuild_init(&b, m, i ? "second" : "first", &loc);
    KBuf *x = kb_param(&b, "x", DT_F32, 1, &n, SPACE_ARG), *y = kb_param(&b, "y", DT_F32, 1, &n, SPACE_ARG);
    KVar *v = kb_for(&b, "i", 0, n, 1, FOR_VEC);
    KExpr *arg = kx_load1(&b, x, aff_var(v));
    KExpr *value = i == 0                     ? kx_op2(&b, KOP_ADD, arg, kx_f(&b, DT_F32, 1))
                   : kop_info(op)->arity == 1 ? kx_op1(&b, op, arg)
                                              : kx_op2(&b, op, arg, kx_f(&b, DT_F32, 2));
    kb_store1(&b, y, aff_var(v), value);
    kb_end(&b);
    program_step(m->program, program_kernel(m->program, kbuild_done(&b)), 2, &buf[i], NULL);
  }
  return m;
}

static bool emit(Module *m, EmitOptions opt, EmitKind kind, ObjectBytes *out) {
  opt.name = "net";
  opt.info_json = "{\"a\":1}";
  opt.pic = true;
  return backend_emit(m, target_native(), &opt, kind, false, out);
}

Test(backend, model_and_single_steps) {
  ObjectBytes object;
  cr_assert(emit(two_steps(KOP_MUL, true), (EmitOptions){.steps = true}, EMIT_OBJECT, &object), "%s", diag_text(diag));
  Jit *jit = jit_load(&object, "net", diag);
  const qcc_model *model = jit_model(jit);
  cr_expect_str_eq(model->name, "net");
  cr_expect_str_eq(model->info, "{\"a\":1}");
  cr_expect_eq(model->n_inputs, 1);
  cr_expect_eq(model->inputs[0].dims[0], 24);
  cr_expect_eq(model->outputs[0].bytes, 96);
  cr_expect_eq(model->workspace_size(NULL), 64 + 96);
  float x[24], y[24] = {0};
  for (int i = 0; i < 24; i++) x[i] = (float)i;
  const void *inputs[] = {x};
  void *outputs[] = {y}, *workspace = aligned_alloc(64, 192);
  qcc_call call = {workspace, inputs, outputs, NULL, NULL};
  int (*step)(const qcc_call *, uint32_t);
  void *symbol = jit_symbol(jit, "net_run_step");
  cr_assert(symbol);
  memcpy(&step, &symbol, sizeof step);
  cr_expect_eq(step(&call, 0), QCC_E_WORKSPACE);
  cr_assert_eq(model->init(workspace), QCC_OK);
  cr_expect_eq(step(&call, 0), QCC_OK);
  cr_expect_eq(y[3], 0);
  cr_expect_eq(((float *)workspace)[16 + 3], 4);  // buffers begin at byte 64
  cr_expect_eq(step(&call, 1), QCC_OK);
  cr_expect_eq(y[3], 8);
  cr_expect_eq(step(&call, 2), QCC_E_ARG);
  memset(y, 0, sizeof y);
  cr_expect_eq(model->run(&call), QCC_OK);
  cr_expect_eq(y[23], 48);
  cr_expect_null(jit_symbol(jit, "net_k_first"));
  jit_free(jit);
  free(workspace);
  free(object.at);
}

// Ops that passes/kernel/expand should have rewritten, and buffers memplan should have placed, are bugs found in the
// child; the parent ends with the same exit code.
Test(backend, bug_in_the_child, .exit_code = 70) {
  ObjectBytes out;
  emit(two_steps(KOP_TANH, true), (EmitOptions){0}, EMIT_OBJECT, &out);
}

Test(backend, unplaced_buffer, .exit_code = 70) {
  ObjectBytes out;
  emit(two_steps(KOP_MUL, false), (EmitOptions){0}, EMIT_OBJECT, &out);
}

Test(backend, text_output) {
  ObjectBytes out;
  cr_assert(emit(two_steps(KOP_MUL, true), (EmitOptions){0}, EMIT_ASM, &out));
  cr_expect(strstr(arena_printf(arena, "%.*s", (int)out.n, (char *)out.at), "net_run:"));
  free(out.at);
  cr_assert(emit(two_steps(KOP_MUL, true), (EmitOptions){0}, EMIT_LL, &out));
  cr_expect(strstr(arena_printf(arena, "%.*s", (int)out.n, (char *)out.at), "define internal void @net_k_first("));
  free(out.at);
}

Test(backend, same_bytes_twice) {
  ObjectBytes a, b;
  cr_assert(emit(two_steps(KOP_MUL, true), (EmitOptions){0}, EMIT_OBJECT, &a));
  cr_assert(emit(two_steps(KOP_MUL, true), (EmitOptions){0}, EMIT_OBJECT, &b));
  cr_expect(a.n == b.n && memcmp(a.at, b.at, a.n) == 0);
  free(a.at);
  free(b.at);
}

// Model text never leaves a comment, and members stay apart whatever the names.
Test(backend, header_with_hostile_names) {
  static const char text[] =
      "func @f(%\"a*/ int x; /*\": f32[2], %\"a.b\": f32[2], %a_b: f32[2], %int: i64[], %\"?\?/\": f16[3]) -> f32[2] "
      "{\n"
      "  %0 = add %\"a.b\", %a_b : f32[2]\n"
      "  return %0\n"
      "}\n";
  Module *m = parse_module(arena, diag, "test", text, sizeof text - 1);
  cr_assert(m, "%s", diag_text(diag));
  m->program = program_new(m);
  StrBuf b;
  strbuf_init(&b, arena);
  cr_assert(header_text(m, "net", &(ObjectBytes){.stack = 512, .workspace = 128}, &b));
  const char *h = strbuf_str(&b), *members = strstr(h, "typedef struct net_inputs");
  cr_expect_null(strstr(members, "int x;"));
  cr_expect(strstr(members, "const float *a_x2eb;"));
  cr_expect(strstr(members, "const float *a__b;"));
  cr_expect(strstr(members, "const int64_t *n_int;"));
  cr_expect_null(strstr(members, "?\?/"));
  cr_expect(strstr(h, "QCC_E_WORKSPACE = 3"));
  cr_expect_null(strstr(h, "#include \"status.def\""));
}
