// Copying a module before passes take it different ways, one copy for each level of a family of targets.
//
// Ids are kept, so a pass whose choices follow ids chooses alike on every copy. What can't change is shared: locations,
// types, names, the bytes of constants. Ops that were unlinked stay behind.
#include "ir/base/map.h"
#include "ir/note.h"

typedef struct Clone {
  Module *to;
  Value **value;  // by id of the original
  Map *func;      // by id of the original + 1
} Clone;

static void clone_value(Clone *c, Value *copy, const Value *from) {
  copy->id = from->id;
  copy->name = from->name;
  copy->type = from->type;
  c->value[from->id] = copy;
}

static void clone_attrs(const Clone *c, Op *copy, const Op *op) {
  op_copy_attrs(copy, op);
  for (uint32_t i = 0; i < op_info(op->kind)->n_attrs; i++)
    if (copy->attrs[i].func) copy->attrs[i].func = map_get(c->func, copy->attrs[i].func->id + 1u);
}

static void clone_op(Clone *c, Func *f, const Op *op) {
  Value **in = NEW_ARRAY(c->to->arena, Value *, op->n_in + 1);
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = op->in[i].value ? c->value[op->in[i].value->id] : NULL;
  Op *copy = op_new(f, NULL, op->kind, op->n_in, in, op->loc);
  copy->id = op->id;
  clone_attrs(c, copy, op);
  QCC_CHECK(copy->n_out == op->n_out, "cloning %s of %u results", op_info(op->kind)->name, op->n_out);
  for (uint32_t i = 0; i < op->n_out; i++) clone_value(c, copy->out[i], op->out[i]);
}

static void clone_body(Clone *c, const Func *from) {
  Func *f = map_get(c->func, from->id + 1u);
  for (const Op *op = from->first; op; op = op->next) clone_op(c, f, op);
  Value **results = NEW_ARRAY(c->to->arena, Value *, from->n_results + 1);
  for (uint32_t i = 0; i < from->n_results; i++) results[i] = c->value[from->results[i]->id];
  func_set_results(f, from->n_results, results);
  for (uint32_t i = 0; i < from->n_results; i++) f->result_names[i] = from->result_names[i];
}

static void clone_signature(Clone *c, const Func *from) {
  const Type **types = NEW_ARRAY(c->to->arena, const Type *, from->n_args + 1);
  for (uint32_t i = 0; i < from->n_args; i++) types[i] = from->args[i]->type;
  Func *f = func_new(c->to, from->name, from->n_args, types);
  f->id = from->id;
  map_set(c->func, from->id + 1u, f);
  for (uint32_t i = 0; i < from->n_args; i++) clone_value(c, f->args[i], from->args[i]);
}

Module *module_clone(const Module *m) {
  QCC_CHECK(!m->program, "cloning a lowered module");
  Module *to = NEW(m->arena, Module);
  *to = (Module){.arena = m->arena, .names = m->names, .types = m->types, .diag = m->diag, .name = m->name};
  to->const_index = map_new(m->arena);
  Clone c = {to, NEW_ARRAY(m->arena, Value *, m->n_values + 1), map_new(m->arena)};
  consts_clone(to, m);
  for (uint32_t i = 0; i < m->consts.n; i++) c.value[m->consts.at[i]->value.id] = &to->consts.at[i]->value;
  for (uint32_t i = 0; i < m->funcs.n; i++) clone_signature(&c, m->funcs.at[i]);
  for (uint32_t i = 0; i < m->funcs.n; i++) clone_body(&c, m->funcs.at[i]);
  notes_clone(to, m);
  to->n_values = m->n_values;
  to->n_ops = m->n_ops;
  return to;
}
