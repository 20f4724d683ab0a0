// See graph_util.h.
#include "passes/graph_util.h"

#include "ir/base/bitset.h"
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

// Gives back what a function uses outside of it: constants.
static void func_release(Func *f) {
  for (Op *op = f->first; op; op = op->next) op_set_operands(op, 0, NULL);
  func_set_results(f, 0, NULL);
}

void module_drop_unused_funcs(Module *m) {
  // Bodies hold element-wise ops only, so every reference is an attribute of an op of the entry.
  Bitset named = bitset_new(m->arena, m->funcs.n);
  for (const Op *op = m->funcs.n ? m->funcs.at[0]->first : NULL; op; op = op->next)
    for (uint32_t i = 0; i < op_info(op->kind)->n_attrs; i++)
      if (op->attrs[i].func) bitset_add(&named, op->attrs[i].func->id);
  uint32_t n = 0;
  for (uint32_t i = 0; i < m->funcs.n; i++) {
    if (i == 0 || bitset_has(&named, m->funcs.at[i]->id)) {
      m->funcs.at[n++] = m->funcs.at[i];
    } else {
      func_release(m->funcs.at[i]);
    }
  }
  for (uint32_t i = 0; i < n; i++) m->funcs.at[i]->id = i;
  m->funcs.n = n;
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
