// See graph_util.h.
#include "passes/graph_util.h"

#include "ir/elem.h"

uint32_t graph_drop_dead(Func *f) {
  uint32_t dropped = 0;
  for (Op *op = f->last, *prev; op; op = prev) {  // backwards: users are gone before their operands are looked at
    prev = op->prev;
    bool used = false;
    for (uint32_t i = 0; i < op->n_out; i++) used |= op->out[i]->n_uses != 0;
    if (used) continue;
    op_unlink(op);
    dropped++;
  }
  return dropped;
}

bool value_is_splat(Module *m, const Value *v, double *x) {
  return value_is_const(v) && const_is_splat(m, v->constant, x);
}

void op_add_loc(Op *to, const Op *from) { to->loc = loc_join(to->func->module->arena, to->loc, from->loc); }

Value *graph_emit(Op *before, OpKind kind, uint32_t n, Value *const *in, const Type *type, const Loc *loc) {
  Op *op = op_new(before->func, before, kind, n, in, loc);
  op->out[0]->type = type;
  return op->out[0];
}

Value *const_of_doubles(Module *m, const Type *t, const double *v, const char *name) {
  int64_t n = type_count(t);
  void *bytes = arena_alloc(m->arena, (size_t)type_bytes(t) + 8);
  for (int64_t i = 0; i < n; i++) elem_set_f(bytes, t->dtype, i, v[i]);
  return const_borrowed(m, t, bytes, name);
}
