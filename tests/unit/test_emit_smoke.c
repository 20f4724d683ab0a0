// The shortest way from a kernel to running code: y = relu(x) * 2 on 100 elements, through object, check and JIT.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "backends/backend.h"
#include "ir/kbuild.h"
#include "runtime/qcc_rt.h"

Test(emit_smoke, elementwise) {
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, stderr);
  Module *m = module_new(arena, diag);
  m->program = program_new(m);
  KBuild b;
  static const Loc loc = {.node = -1};
  kbuild_init(&b, m, "scale", &loc);
  int64_t n = 100;
  KBuf *x = kb_param(&b, "x", DT_F32, 1, &n, SPACE_ARG), *y = kb_param(&b, "y", DT_F32, 1, &n, SPACE_ARG);
  KVar *i = kb_for(&b, "i", 0, n, 1, FOR_VEC);
  KExpr *v = kx_op2(&b, KOP_MAX, kx_load1(&b, x, aff_var(i)), kx_f(&b, DT_F32, 0));
  kb_store1(&b, y, aff_var(i), kx_op2(&b, KOP_MUL, v, kx_f(&b, DT_F32, 2)));
  kb_end(&b);
  Kernel *k = program_kernel(m->program, kbuild_done(&b));
  const Type *t = type_tensor(m->types, DT_F32, 1, &n);
  PBuf *in = program_buf(m->program, PBUF_INPUT, "x", t), *out = program_buf(m->program, PBUF_OUTPUT, "y", t);
  program_step(m->program, k, 2, (PBuf *[]){in, out}, NULL);

  ObjectBytes object = {0};
  EmitOptions opt = {.name = "demo", .info_json = "{}", .pic = true};
  cr_assert(backend_emit(m, target_native(), &opt, EMIT_OBJECT, false, &object));
  if (getenv("KEEP")) {
    FILE *f = fopen(getenv("KEEP"), "wb");
    fwrite(object.at, 1, object.n, f);
    fclose(f);
  }
  Jit *jit = jit_load(&object, "demo", diag);
  cr_assert(jit);
  const qcc_model *model = jit_model(jit);
  cr_assert_eq(model->abi, 1);
  float a[100], r[100];
  for (int j = 0; j < 100; j++) a[j] = (float)(j - 50);
  void *ws = aligned_alloc(64, (model->workspace_size(NULL) + 63) / 64 * 64);
  const void *ins[] = {a};
  void *outs[] = {r};
  qcc_call call = {.workspace = ws, .inputs = ins, .outputs = outs};
  cr_assert_eq(model->run(&call), QCC_E_WORKSPACE);
  cr_assert_eq(model->init(ws), QCC_OK);
  cr_assert_eq(model->run(&call), QCC_OK);
  for (int j = 0; j < 100; j++) cr_expect_eq(r[j], j < 50 ? 0 : (float)(2 * (j - 50)), "%d: %g", j, r[j]);
  jit_free(jit);
  arena_free(arena);
}
