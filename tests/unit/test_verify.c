// The verifier on modules damaged in memory, which no text can say: links, ids, use lists, order, scopes.
#include <criterion/criterion.h>
#include <string.h>

#include "ir/kbuild.h"
#include "ir/text.h"
#include "ir/verify.h"

static Arena *a;
static Module *m;
static Func *f;
static Op *first, *second;

static const char *const sample =
    "func @f(%x: f32[3]) -> f32[3] {\n"
    "  %0 = add %x, @w : f32[3]\n"
    "  %1 = mul %0, %x : f32[3]\n"
    "  return %1\n"
    "}\n"
    "const @w: f32[3] = [1, 2, 3]\n";

static void setup(void) {
  a = arena_new("test");
  m = parse_module(a, diag_new(a, NULL), "t", sample, strlen(sample));
  cr_assert(m && verify_module(m));
  f = m->funcs.at[0];
  first = f->first;
  second = f->last;
}

static void teardown(void) { arena_free(a); }

static void refused(const char *why) {
  cr_assert_not(verify_module(m), "not refused: %s", why);
  cr_assert(strstr(diag_text(m->diag), why), "%s", diag_text(m->diag));
}

TestSuite(verify, .init = setup, .fini = teardown);

Test(verify, use_before_definition) {
  op_move_before(second, first);
  refused("operand 0 of mul is not defined before it");
}
Test(verify, result_of_another_function) {
  Func *g = func_new(m, "g", 0, NULL);
  func_set_results(g, 1, second->out);
  refused("result 0 of function @g is not defined in it");
}
Test(verify, use_count) {
  first->out[0]->n_uses++;
  refused("counts 2 uses, has 1");
}
Test(verify, operand_changed_behind_the_use_list) {
  second->in[1].value = first->out[0];
  refused("use");
}
Test(verify, use_list_linked_wrong) {
  f->args[0]->uses->next->prev = NULL;
  refused("the use list of value 1 is broken");
}
Test(verify, owner_of_an_operand) {
  second->in[1].slot = 0;
  refused("operand 1 of mul has another owner");
}
Test(verify, order_links) {
  second->prev = NULL;
  refused("not linked in order");
}
Test(verify, count_of_operations) {
  f->n_ops = 3;
  refused("counts 3 operations, has 2");
}
Test(verify, id_taken) {
  second->id = first->id;
  refused("operation id 0 is not unique");
}
Test(verify, value_id_taken) {
  second->out[0]->id = first->out[0]->id;
  refused("is not unique");
}
Test(verify, result_without_type) {
  value_set_type(second->out[0], NULL);
  refused("result 0 has no type");
}
Test(verify, constant_unlinked) {
  m->consts.at[0]->value.type = type_scalar(m->types, DT_F32);
  refused("constant @w is not linked to its value");
}
Test(verify, constant_without_data) {
  m->consts.at[0]->bytes = NULL;
  refused("constant @w has no data");
}
Test(verify, enum_of_another_set) {
  Op *op = op_new(f, NULL, OP_CONV, 2, (Value *[]){f->args[0], f->args[0]}, NULL);
  value_set_type(op->out[0], f->args[0]->type);
  cr_assert(verify_module(m));
  op_set_int(op, A_CONV_layout, ROUND_FLOOR);
  refused("attribute layout of conv is no value of its set");
}
Test(verify, function_not_of_the_module) {
  Op *op = op_new(f, NULL, OP_MAP, 1, f->args, NULL);
  value_set_type(op->out[0], f->args[0]->type);
  Func *body = func_clone(f, "body");
  op_set_func(op, A_MAP_body, body);
  m->funcs.n--;
  refused("names a function that is not in the module");
}

// ---- kernels

static Kernel *sample_kernel(KVar **i, KBuf **x) {
  KBuild b;
  kbuild_init(&b, m, "k", NULL);
  *x = kb_param(&b, "x", DT_F32, 1, (int64_t[]){4}, SPACE_ARG);
  *i = kb_for(&b, "i", 0, 4, 1, FOR_SEQ);
  kb_store1(&b, *x, aff_var(*i), kx_f(&b, DT_F32, 1));
  kb_end(&b);
  kb_store1(&b, *x, aff(0), kx_f(&b, DT_F32, 1));
  Kernel *k = kbuild_done(&b);
  cr_assert(verify_kernel(m, k));
  return k;
}

static void kernel_refused(const Kernel *k, const char *why) {
  cr_assert_not(verify_kernel(m, k), "not refused: %s", why);
  cr_assert(strstr(diag_text(m->diag), why), "%s", diag_text(m->diag));
}

Test(verify, variable_outside_its_loop) {
  KVar *i;
  KBuf *x;
  Kernel *k = sample_kernel(&i, &x);
  k->body.last->store.idx[0] = aff_var(i);
  kernel_refused(k, "variable %i is used outside its scope");
}
Test(verify, buffer_of_another_kernel) {
  KVar *i;
  KBuf *x, *y;
  Kernel *k = sample_kernel(&i, &x);
  sample_kernel(&i, &y);
  k->body.last->store.buf = y;
  kernel_refused(k, "buffer %x is used outside its scope");
}
Test(verify, expression_type) {
  KVar *i;
  KBuf *x;
  Kernel *k = sample_kernel(&i, &x);
  k->body.last->store.value->type = DT_F64;
  kernel_refused(k, "f64 value stored to f32 buffer %x");
}
Test(verify, index_not_canonical) {
  KVar *i;
  KBuf *x;
  Kernel *k = sample_kernel(&i, &x);
  k->body.first->for_.body.first->store.idx[0].term[0].coef = 0;
  kernel_refused(k, "an index is not in canonical form");
}
Test(verify, statements_linked_wrong) {
  KVar *i;
  KBuf *x;
  Kernel *k = sample_kernel(&i, &x);
  k->body.last->prev = NULL;
  kernel_refused(k, "statements are not linked in order");
}
