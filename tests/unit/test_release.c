// Releasing constants: what is still used stays readable, bytes shared with a live constant survive, equal content made
// later is a new constant.
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "ir/graph.h"

#define N 65536

static float *mapped(void) {
  float *p = mmap(NULL, N * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < N; i++) p[i] = (float)i;
  return p;
}

static Module *m;
static float *at;
static Value *flat, *square;

// Two constants of the same bytes; only `flat` is used.
static void setup(void) {
  Arena *arena = arena_new("test");
  m = module_new(arena, diag_new(arena, stderr));
  at = mapped();
  const Type *t = type_tensor(m->types, DT_F32, 1, (int64_t[]){N});
  flat = const_borrowed(m, t, at, "flat");
  square = const_borrowed(m, type_tensor(m->types, DT_F32, 2, (int64_t[]){256, 256}), at, "square");
  static const Loc loc = {.node = -1};
  Func *f = func_new(m, "f", 0, NULL);
  Op *op = op_new(f, NULL, OP_RELU, 1, &flat, &loc);
  func_set_results(f, 1, op->out);
}

Test(release, shared_bytes_survive, .init = setup) {
  consts_release(m);
  cr_expect_eq(((const float *)const_data(m, flat->constant))[N / 2], (float)(N / 2));
}

Test(release, unused_goes, .init = setup) {
  func_set_results(m->funcs.at[0], 0, NULL);
  op_unlink(m->funcs.at[0]->first);
  consts_release(m);
  cr_expect_eq(at[N / 2], 0);
  float *copy = mapped();
  Value *again = const_borrowed(m, flat->type, copy, "again");
  cr_expect_neq(again, flat);
}

Test(release, reading_is_a_bug, .init = setup, .exit_code = 70) {
  func_set_results(m->funcs.at[0], 0, NULL);
  op_unlink(m->funcs.at[0]->first);
  consts_release(m);
  const_data(m, square->constant);
}
