// See graph_util.h.
#include "passes/graph_util.h"

#include <string.h>

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

Op *value_def(const Value *v, OpKind kind) {
  return v != NULL && v->kind == VALUE_RESULT && v->op->kind == kind ? v->op : NULL;
}

void graph_drop_scratch(Func *f) {
  func_set_results(f, 0, NULL);
  while (f->last != NULL) op_unlink(f->last);
  f->module->funcs.n--;
}

bool op_is_mean(const Op *op) {
  return op->kind == OP_AVGPOOL || (op->kind == OP_REDUCE && op_enum(op, A_REDUCE_op) == REDUCE_MEAN);
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

// Walks the result in order; the innermost axis is a strided copy.
Value *const_permuted(Module *m, Const *c, const int64_t *perm) {
  const Type *t = c->type;
  int64_t dims[MAX_RANK], stride[MAX_RANK], at[MAX_RANK] = {0}, step = 1;
  size_t size = dtype_info(t->dtype)->bits / 8;
  for (uint32_t i = t->rank; i-- > 0; step *= t->dims[i]) stride[i] = step;
  for (uint32_t i = 0; i < t->rank; i++) dims[i] = t->dims[perm[i]];
  const Type *out = type_with_dims(m->types, t, t->rank, dims);
  if (c->gen == CONST_SPLAT)
    return dtype_is_float(t->dtype) ? const_splat(m, out, c->splat) : const_splat_int(m, out, c->splat_i);
  const char *from = const_data(m, c);
  char *first = arena_alloc(m->arena, (size_t)type_bytes(out) + 8), *to = first;
  int64_t n = dims[t->rank - 1], rows = n ? type_count(t) / n : 0, inner = stride[perm[t->rank - 1]];
  for (int64_t row = 0; row < rows; row++) {
    int64_t offset = 0;
    for (uint32_t i = 0; i + 1 < t->rank; i++) offset += at[i] * stride[perm[i]];
    for (int64_t k = 0; k < n; k++, to += size) memcpy(to, from + (size_t)(offset + k * inner) * size, size);
    for (uint32_t i = t->rank - 1; i-- > 0;) {
      if (++at[i] < dims[i]) break;
      at[i] = 0;
    }
  }
  return const_borrowed(m, out, first, c->name);
}
