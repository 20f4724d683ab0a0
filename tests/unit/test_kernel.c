// Kernels as data: the builder, equality without names, copies, counts; the kernel op table.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/kbuild.h"
#include "ir/text.h"
#include "ir/verify.h"

static Arena *arena;  // of the test at hand

static void drop(void) { arena_free(arena); }

TestSuite(kernel, .fini = drop);

static Module *new_module(void) {
  arena = arena_new("test");
  Module *m = module_new(arena, diag_new(arena, stderr));
  m->program = program_new(m);
  return m;
}

// y[i, j] = op(x[i, j], bias) with `rows` rows in a par loop.
static Kernel *build(Module *m, const char *name, const char *loop, int64_t rows, KOp op, double bias) {
  KBuild b;
  kbuild_init(&b, m, name, NULL);
  int64_t dims[2] = {rows, 8};
  KBuf *x = kb_param(&b, "x", DT_F32, 2, dims, SPACE_ARG), *y = kb_param(&b, "y", DT_F32, 2, dims, SPACE_ARG);
  KVar *i = kb_for(&b, loop, 0, rows, 1, FOR_PAR), *j = kb_for(&b, "j", 0, 8, 1, FOR_VEC);
  Affine at[2] = {aff_var(i), aff_var(j)};
  KVar *v = kb_let(&b, "v", kx_load(&b, x, at));
  kb_store(&b, y, at, kx_op2(&b, op, kx_var(&b, v), kx_f(&b, DT_F32, bias)));
  kb_end(&b);
  kb_end(&b);
  return kbuild_done(&b);
}

static const char *text_of(Module *m, const Kernel *k) {
  StrBuf b;
  strbuf_init(&b, m->arena);
  print_kernel(&b, k);
  return strbuf_str(&b);
}

Test(kernel, builder_makes_well_formed_kernels) {
  Module *m = new_module();
  Kernel *k = build(m, "k", "i", 4, KOP_ADD, 1);
  cr_assert(verify_kernel(m, k));
  cr_assert_eq(k->n_params, 2);
  cr_assert_eq(kernel_par_extent(k), 4);
  cr_assert_eq(k->body.first->for_.body.first->for_.body.last->store.value->type, DT_F32);
}

Test(kernel, equality_ignores_names_only) {
  Module *m = new_module();
  Kernel *a = program_kernel(m->program, build(m, "a", "i", 4, KOP_ADD, 1));
  cr_expect_eq(program_kernel(m->program, build(m, "b", "row", 4, KOP_ADD, 1)), a, "names do not count");
  cr_expect_eq(program_kernel(m->program, a), a);
  cr_expect_neq(program_kernel(m->program, build(m, "a", "i", 5, KOP_ADD, 1)), a, "extents count");
  cr_expect_neq(program_kernel(m->program, build(m, "a", "i", 4, KOP_MUL, 1)), a, "ops count");
  cr_expect_neq(program_kernel(m->program, build(m, "a", "i", 4, KOP_ADD, 2)), a, "constants count");
  cr_expect_neq(program_kernel(m->program, build(m, "a", "i", 4, KOP_ADD, -1)), a);
  cr_assert_eq(m->program->kernels.n, 5);
  for (uint32_t i = 0; i < 5; i++)
    for (uint32_t j = 0; j < i; j++)
      cr_expect_str_neq(m->program->kernels.at[i]->name, m->program->kernels.at[j]->name, "names are unique");
}

Test(kernel, negative_zero_is_another_constant) {
  Module *m = new_module();
  Kernel *a = program_kernel(m->program, build(m, "a", "i", 4, KOP_ADD, 0.0));
  cr_assert_neq(program_kernel(m->program, build(m, "a", "i", 4, KOP_ADD, -0.0)), a);
}

Test(kernel, a_shared_kernel_may_alias_if_one_caller_does) {
  Module *m = new_module();
  Kernel *a = build(m, "a", "i", 4, KOP_ADD, 1), *b = build(m, "b", "i", 4, KOP_ADD, 1);
  a->noalias = true;
  cr_assert_eq(program_kernel(m->program, a), program_kernel(m->program, b));
  cr_assert_not(a->noalias);
}

Test(kernel, clone_is_equal_and_apart) {
  Module *m = new_module();
  Kernel *k = build(m, "k", "i", 4, KOP_ADD, 1), *c = kernel_clone(m, k);
  cr_assert(verify_kernel(m, c));
  cr_assert_str_eq(text_of(m, k), text_of(m, c));
  KStmt *inner = c->body.first->for_.body.first;
  cr_assert_neq(inner, k->body.first->for_.body.first);
  cr_assert_neq(inner->for_.body.last->store.buf, k->params[1]);
  cr_assert_eq(inner->for_.body.last->store.buf, c->params[1]);
  inner->for_.body.last->store.value->op = KOP_MUL;
  cr_assert_str_neq(text_of(m, k), text_of(m, c));
}

Test(kernel, ops_count_unrolled_copies) {
  Module *m = new_module();
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  int64_t n = 8;
  KBuf *x = kb_param(&b, "x", DT_F32, 1, &n, SPACE_ARG);
  kb_for(&b, "u", 0, 10, 3, FOR_UNROLL);
  kb_store1(&b, x, aff(0), kx_op2(&b, KOP_ADD, kx_load1(&b, x, aff(1)), kx_f(&b, DT_F32, 1)));
  kb_end(&b);
  cr_assert_eq(kernel_ops(kbuild_done(&b)), 4 * 3, "four copies of load, add, store");
}

Test(kernel, dense_buffers) {
  Module *m = new_module();
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  int64_t dims[3] = {2, 1, 3}, strides[3] = {8, 5, 1};
  cr_expect(kbuf_is_dense(kb_param(&b, "a", DT_F32, 3, dims, SPACE_ARG)));
  cr_expect_not(kbuf_is_dense(kb_param_strided(&b, "b", DT_F32, 3, dims, strides, SPACE_ARG)));
  strides[0] = 3;
  cr_expect(kbuf_is_dense(kb_param_strided(&b, "c", DT_F32, 3, dims, strides, SPACE_ARG)), "a dim of 1 has any stride");
}

Test(kernel, misuse_mixed_types, .exit_code = 70) {
  Module *m = new_module();
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  kx_op2(&b, KOP_ADD, kx_f(&b, DT_F32, 1), kx_f(&b, DT_F64, 1));
}

Test(kernel, misuse_open_block, .exit_code = 70) {
  Module *m = new_module();
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  kb_for(&b, "i", 0, 4, 1, FOR_SEQ);
  kbuild_done(&b);
}

Test(kernel, misuse_store_type, .exit_code = 70) {
  Module *m = new_module();
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  int64_t n = 8;
  KBuf *x = kb_param(&b, "x", DT_F32, 1, &n, SPACE_ARG);
  kb_store1(&b, x, aff(0), kx_i(&b, DT_I32, 1));
}

// ---- the op table

Test(kop, names_are_found_again) {
  for (int op = 1; op < KOP_COUNT; op++) {
    const KOpInfo *info = kop_info((KOp)op);
    cr_expect(info->arity >= 1 && info->arity <= 3, "%s", info->name);
    cr_expect_eq(kop_by_name(info->name, strlen(info->name)), (KOp)op, "%s", info->name);
  }
  cr_assert_eq(kop_by_name("addd", 4), KOP_NONE);
}

static int64_t ints(KOp op, DType t, int64_t a, int64_t b) { return kop_eval_i(op, t, (int64_t[]){a, b, 0}); }

Test(kop, integers_wrap_and_never_trap) {
  cr_expect_eq(ints(KOP_ADD, DT_I8, 127, 1), -128);
  cr_expect_eq(ints(KOP_ADD, DT_U8, 255, 1), 0);
  cr_expect_eq(ints(KOP_MUL, DT_I64, INT64_MAX, 2), -2);
  cr_expect_eq(ints(KOP_NEG, DT_I32, INT32_MIN, 0), INT32_MIN);
  cr_expect_eq(ints(KOP_DIV, DT_I32, 7, 0), 0);
  cr_expect_eq(ints(KOP_DIV, DT_I64, INT64_MIN, -1), INT64_MIN);
  cr_expect_eq(ints(KOP_DIV, DT_I32, -7, 2), -3);
  cr_expect_eq(ints(KOP_DIV, DT_U64, -1, 2), INT64_MAX);
  cr_expect_eq(ints(KOP_MOD, DT_I32, -7, 3), 2);
  cr_expect_eq(ints(KOP_MOD, DT_I32, 7, -3), -2);
  cr_expect_eq(ints(KOP_FMOD, DT_I32, -7, 3), -1);
  cr_expect_eq(ints(KOP_MOD, DT_I64, INT64_MIN, -1), 0);
  cr_expect_eq(ints(KOP_SHL, DT_U8, 3, 7), 128);
  cr_expect_eq(ints(KOP_SHL, DT_I32, 1, 32), 0);
  cr_expect_eq(ints(KOP_SHR, DT_I32, -8, 1), -4);
  cr_expect_eq(ints(KOP_SHR, DT_I32, -8, 99), -1);
  cr_expect_eq(ints(KOP_SHR, DT_U32, 0xfffffff8, 1), 0x7ffffffc);
  cr_expect_eq(ints(KOP_LT, DT_U64, -1, 1), 0);
  cr_expect_eq(ints(KOP_LT, DT_I64, -1, 1), 1);
  cr_expect_eq(ints(KOP_POW, DT_I32, 3, 4), 81);
  cr_expect_eq(ints(KOP_POW, DT_I32, -1, -3), -1);
  cr_expect_eq(ints(KOP_POW, DT_I32, 2, -1), 0);
}

static double floats(KOp op, double a, double b, double c) { return kop_eval_f(op, (double[]){a, b, c}); }

Test(kop, floats_follow_the_stated_rules) {
  cr_expect(isnan(floats(KOP_MAX, NAN, 1, 0)) && isnan(floats(KOP_MIN, 1, NAN, 0)) &&
            isnan(floats(KOP_RELU, NAN, 0, 0)));
  cr_expect_not(signbit(floats(KOP_MAX, -0.0, 0.0, 0)));
  cr_expect(signbit(floats(KOP_MIN, 0.0, -0.0, 0)) != 0);
  cr_expect_eq(floats(KOP_ROUND, 2.5, 0, 0), 2);
  cr_expect_eq(floats(KOP_ROUND, -3.5, 0, 0), -4);
  cr_expect_eq(floats(KOP_MOD, -7, 3, 0), 2);
  cr_expect_eq(floats(KOP_FMOD, -7, 3, 0), -1);
  cr_expect_eq(floats(KOP_CLIP, 9, 0, 6), 6);
  cr_expect_eq(floats(KOP_ISINF, -INFINITY, 0, 1), 0);
  cr_expect_eq(floats(KOP_ISINF, -INFINITY, 1, 0), 1);
  cr_expect_eq(floats(KOP_GELU, -INFINITY, 0, 0), 0);
  cr_expect_eq(floats(KOP_SHRINK, -2, 1.5, 0.5), -1.5);
}
