// Building and changing the graph IR. One mutator, operand_set, keeps use lists right; everything goes through it.
#include "ir/graph.h"

#include <string.h>

#include "ir/base/map.h"

Module *module_new(Arena *arena, Diag *diag) {
  Module *m = NEW(arena, Module);
  m->arena = arena;
  m->diag = diag;
  m->names = interner_new(arena);
  m->types = type_table_new(arena, m->names);
  m->name = intern(m->names, "model");
  m->const_index = map_new(arena);
  return m;
}

static Value *value_new(Module *m, ValueKind kind, const Type *type) {
  Value *v = NEW(m->arena, Value);
  v->id = m->n_values++;
  v->kind = kind;
  v->type = type;
  return v;
}

Func *func_new(Module *m, const char *name, uint32_t n_args, const Type *const *arg_types) {
  Func *f = NEW(m->arena, Func);
  f->id = m->funcs.n;
  f->name = intern(m->names, name);
  f->module = m;
  f->n_args = n_args;
  f->args = NEW_ARRAY(m->arena, Value *, n_args);
  for (uint32_t i = 0; i < n_args; i++) {
    f->args[i] = value_new(m, VALUE_ARG, arg_types[i]);
    f->args[i]->index = i;
  }
  vec_push(m->arena, &m->funcs, f);
  return f;
}

Func *module_func(const Module *m, const char *name) {
  for (uint32_t i = 0; i < m->funcs.n; i++)
    if (strcmp(m->funcs.at[i]->name, name) == 0) return m->funcs.at[i];
  return NULL;
}

void func_set_results(Func *f, uint32_t n, Value *const *values) {
  for (uint32_t i = 0; i < f->n_results; i++) f->results[i]->n_uses--;
  if (n != f->n_results) f->result_names = NEW_ARRAY(f->module->arena, const char *, n);
  f->n_results = n;
  f->results = arena_copy(f->module->arena, values, n * sizeof *values);
  for (uint32_t i = 0; i < n; i++) f->results[i]->n_uses++;
}

void func_set_result(Func *f, uint32_t i, Value *v) {
  f->results[i]->n_uses--;
  f->results[i] = v;
  v->n_uses++;
}

static void operand_set(Operand *o, Value *v) {
  if (o->value) {
    if (o->prev) {
      o->prev->next = o->next;
    } else {
      o->value->uses = o->next;
    }
    if (o->next) o->next->prev = o->prev;
    o->value->n_uses--;
  }
  o->value = v;
  o->prev = o->next = NULL;
  if (v) {
    o->next = v->uses;
    if (v->uses) v->uses->prev = o;
    v->uses = o;
    v->n_uses++;
  }
}

static void op_link(Op *op, Func *f, Op *before) {
  op->func = f;
  op->next = before;
  op->prev = before ? before->prev : f->last;
  if (op->prev) {
    op->prev->next = op;
  } else {
    f->first = op;
  }
  if (before) {
    before->prev = op;
  } else {
    f->last = op;
  }
  f->n_ops++;
}

static void op_delink(Op *op) {
  Func *f = op->func;
  if (op->prev) {
    op->prev->next = op->next;
  } else {
    f->first = op->next;
  }
  if (op->next) {
    op->next->prev = op->prev;
  } else {
    f->last = op->prev;
  }
  f->n_ops--;
  op->prev = op->next = NULL;
}

Op *op_new(Func *f, Op *before, OpKind kind, uint32_t n_in, Value *const *in, const Loc *loc) {
  Module *m = f->module;
  const OpInfo *info = op_info(kind);
  Op *op = NEW(m->arena, Op);
  op->id = m->n_ops++;
  op->kind = kind;
  op->loc = loc;
  op->n_out = info->n_out;
  op->attrs = NEW_ARRAY(m->arena, AttrVal, info->n_attrs);
  op->out = NEW_ARRAY(m->arena, Value *, op->n_out);
  for (uint32_t i = 0; i < op->n_out; i++) {
    op->out[i] = value_new(m, VALUE_RESULT, NULL);
    op->out[i]->op = op;
    op->out[i]->index = i;
  }
  op_link(op, f, before);
  op_set_operands(op, n_in, in);
  return op;
}

void op_set_operand(Op *op, uint32_t slot, Value *v) {
  QCC_CHECK(slot < op->n_in, "operand %u of %s with %u operands", slot, op_info(op->kind)->name, op->n_in);
  operand_set(&op->in[slot], v);
}

void op_set_operands(Op *op, uint32_t n, Value *const *in) {
  Operand *slots = NEW_ARRAY(op->func->module->arena, Operand, n);
  for (uint32_t i = 0; i < n; i++) {
    slots[i].op = op;
    slots[i].slot = i;
    operand_set(&slots[i], in[i]);
  }
  for (uint32_t i = 0; i < op->n_in; i++) operand_set(&op->in[i], NULL);
  op->in = slots;
  op->n_in = n;
}

void op_add_operand(Op *op, Value *v) {
  Value **in = NEW_ARRAY(op->func->module->arena, Value *, op->n_in + 1);
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = op->in[i].value;
  in[op->n_in] = v;
  op_set_operands(op, op->n_in + 1, in);
}

void op_unlink(Op *op) {
  for (uint32_t i = 0; i < op->n_out; i++)
    QCC_CHECK(op->out[i]->n_uses == 0, "unlinking %s whose result %u is used", op_info(op->kind)->name, i);
  for (uint32_t i = 0; i < op->n_in; i++) operand_set(&op->in[i], NULL);
  op_delink(op);
}

void op_move_before(Op *op, Op *before) {
  Func *f = op->func;
  if (op == before) return;
  op_delink(op);
  op_link(op, f, before);
}

// Functions whose result list names v: walked only when uses beyond the operands exist.
static uint32_t operand_uses(const Value *v) {
  uint32_t n = 0;
  for (const Operand *o = v->uses; o; o = o->next) n++;
  return n;
}

static Func *value_home(const Value *v) {
  if (v->kind == VALUE_RESULT) return v->op->func;
  return v->uses ? v->uses->op->func : NULL;
}

void value_replace(Value *old, Value *now) {
  if (old == now) return;
  Func *home = value_home(old);
  if (!home) home = value_home(now);
  while (old->uses) operand_set(old->uses, now);
  if (old->n_uses == 0) return;
  QCC_CHECK(home, "replacing a constant or argument that is only a function result by another such value");
  Module *m = home->module;
  for (uint32_t k = 0; k < m->funcs.n && old->n_uses; k++)
    for (uint32_t i = 0; i < m->funcs.at[k]->n_results; i++)
      if (m->funcs.at[k]->results[i] == old) func_set_result(m->funcs.at[k], i, now);
}

void value_set_type(Value *v, const Type *t) { v->type = t; }

bool value_is_result_of_func(const Value *v) {
  if (v->kind == VALUE_RESULT) {
    const Func *f = v->op->func;
    for (uint32_t i = 0; i < f->n_results; i++)
      if (f->results[i] == v) return true;
    return false;
  }
  return v->n_uses != operand_uses(v);
}

Op *value_sole_user(const Value *v) { return v->n_uses == 1 && v->uses ? v->uses->op : NULL; }

int64_t plan_param(const Plan *p, const char *name, int64_t missing) {
  for (uint32_t i = 0; p && i < p->n; i++)
    if (strcmp(p->param[i].name, name) == 0) return p->param[i].value;
  return missing;
}

uint32_t op_n_post(const Op *op) {
  const OpInfo *info = op_info(op->kind);
  return (info->traits & TRAIT_POST) && op->n_in > info->max_in ? op->n_in - info->max_in : 0;
}

Func *op_post(const Op *op) {
  int32_t slot = op_info(op->kind)->post;
  return slot >= 0 ? op->attrs[slot].func : NULL;
}

static AttrVal *attr_slot(const Op *op, int slot, AttrKind kind) {
  const OpInfo *info = op_info(op->kind);
  QCC_CHECK(slot >= 0 && (uint32_t)slot < info->n_attrs, "attribute slot %d of %s", slot, info->name);
  AttrKind have = info->attrs[slot].kind;
  bool intlike = have == ATTR_INT || have == ATTR_BOOL || have == ATTR_ENUM || have == ATTR_DTYPE;
  QCC_CHECK(have == kind || (kind == ATTR_INT && intlike), "attribute %s of %s read with another kind",
            info->attrs[slot].name, info->name);
  return &op->attrs[slot];
}

static double attr_default(const Op *op, int slot) { return op_info(op->kind)->attrs[slot].def; }

int64_t op_int(const Op *op, int slot) {
  const AttrVal *a = attr_slot(op, slot, ATTR_INT);
  return a->set ? a->i : (int64_t)attr_default(op, slot);
}
bool op_bool(const Op *op, int slot) { return op_int(op, slot) != 0; }
EnumValue op_enum(const Op *op, int slot) { return (EnumValue)op_int(op, slot); }
double op_float(const Op *op, int slot) {
  const AttrVal *a = attr_slot(op, slot, ATTR_FLOAT);
  return a->set ? a->f : attr_default(op, slot);
}
const char *op_str(const Op *op, int slot) {
  const AttrVal *a = attr_slot(op, slot, ATTR_STR);
  return a->set ? a->s : "";
}
const int64_t *op_ints(const Op *op, int slot, uint32_t *n) {
  const AttrVal *a = attr_slot(op, slot, ATTR_INTS);
  *n = a->n;
  return a->ints;
}
const double *op_floats(const Op *op, int slot, uint32_t *n) {
  const AttrVal *a = attr_slot(op, slot, ATTR_FLOATS);
  *n = a->n;
  return a->floats;
}
Func *op_func(const Op *op, int slot) { return attr_slot(op, slot, ATTR_FUNC)->func; }
int64_t op_ints_at(const Op *op, int slot, uint32_t i, int64_t missing) {
  const AttrVal *a = attr_slot(op, slot, ATTR_INTS);
  return i < a->n ? a->ints[i] : missing;
}
const Plan *op_plan(const Op *op) {
  int32_t slot = op_info(op->kind)->plan;
  return slot >= 0 ? op->attrs[slot].plan : NULL;
}

void op_set_int(Op *op, int slot, int64_t v) {
  AttrVal *a = attr_slot(op, slot, ATTR_INT);
  a->set = true;
  a->i = v;
}
void op_set_float(Op *op, int slot, double v) {
  AttrVal *a = attr_slot(op, slot, ATTR_FLOAT);
  a->set = true;
  a->f = v;
}
void op_set_str(Op *op, int slot, const char *v) {
  AttrVal *a = attr_slot(op, slot, ATTR_STR);
  a->set = v[0] != 0;
  a->s = intern(op->func->module->names, v);
}
void op_set_ints(Op *op, int slot, uint32_t n, const int64_t *v) {
  AttrVal *a = attr_slot(op, slot, ATTR_INTS);
  a->ints = arena_copy(op->func->module->arena, v, n * sizeof *v);
  a->n = n;
  a->set = n > 0;
}
void op_set_floats(Op *op, int slot, uint32_t n, const double *v) {
  AttrVal *a = attr_slot(op, slot, ATTR_FLOATS);
  a->floats = arena_copy(op->func->module->arena, v, n * sizeof *v);
  a->n = n;
  a->set = n > 0;
}
void op_set_func(Op *op, int slot, Func *f) {
  AttrVal *a = attr_slot(op, slot, ATTR_FUNC);
  a->func = f;
  a->set = f != NULL;
}
void op_set_plan(Op *op, const Plan *p) {
  int32_t slot = op_info(op->kind)->plan;
  QCC_CHECK(slot >= 0, "plan on %s", op_info(op->kind)->name);
  op->attrs[slot].plan = p ? arena_copy(op->func->module->arena, p, sizeof *p) : NULL;
  op->attrs[slot].set = p != NULL;
}

void op_copy_attrs(Op *to, const Op *from) {
  QCC_CHECK(to->kind == from->kind, "copying attributes of %s to %s", op_info(from->kind)->name,
            op_info(to->kind)->name);
  memcpy(to->attrs, from->attrs, op_info(from->kind)->n_attrs * sizeof *to->attrs);
}

Func *func_clone(Func *f, const char *name) {
  Module *m = f->module;
  const Type **types = NEW_ARRAY(m->arena, const Type *, f->n_args);
  for (uint32_t i = 0; i < f->n_args; i++) types[i] = f->args[i]->type;
  Func *g = func_new(m, name, f->n_args, types);
  Map *copy = map_new(m->arena);  // by value id + 1
  for (uint32_t i = 0; i < f->n_args; i++) {
    g->args[i]->name = f->args[i]->name;
    map_set(copy, f->args[i]->id + 1u, g->args[i]);
  }
  for (Op *op = f->first; op; op = op->next) {
    Value **in = NEW_ARRAY(m->arena, Value *, op->n_in);
    for (uint32_t i = 0; i < op->n_in; i++) {
      Value *v = op->in[i].value;
      Value *to = v ? map_get(copy, v->id + 1u) : NULL;
      in[i] = to ? to : v;
    }
    Op *c = op_new(g, NULL, op->kind, op->n_in, in, op->loc);
    op_copy_attrs(c, op);
    for (uint32_t i = 0; i < op->n_out; i++) {
      c->out[i]->type = op->out[i]->type;
      c->out[i]->name = op->out[i]->name;
      map_set(copy, op->out[i]->id + 1u, c->out[i]);
    }
  }
  Value **results = NEW_ARRAY(m->arena, Value *, f->n_results);
  for (uint32_t i = 0; i < f->n_results; i++) {
    Value *to = map_get(copy, f->results[i]->id + 1u);
    results[i] = to ? to : f->results[i];
  }
  func_set_results(g, f->n_results, results);
  for (uint32_t i = 0; i < f->n_results; i++) g->result_names[i] = f->result_names[i];
  return g;
}
