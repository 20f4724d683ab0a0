// Structural checks of the graph IR, from the tables: linkage, SSA order, arity, attributes, types, bodies, use lists.
//
// Nothing is repaired and nothing is assumed: use lists are recomputed from the operands and compared. Agreement of
// result types with operand types is the business of infer_op, not checked here. Kernels: verify_kernel.c.
#include "ir/verify.h"

#include <string.h>

#include "ir/base/map.h"
#include "ir/text.h"

typedef struct Verify {
  Module *m;
  Diag *d;
  Arena *scratch;
  bool *defined;        // by value id: a constant, or defined so far in the function being checked
  const Value **value;  // by value id: the value that has it
  uint32_t *uses;       // by value id: operands and function results that name it
  const Op **op;        // by op id
} Verify;

#define fail(v, loc, ...) diag_error((v)->d, DIAG_REFUSED, loc, __VA_ARGS__)

static const char *type_of(const Verify *v, const Value *value) {
  return value->type ? type_text(v->scratch, v->m->types, value->type) : "no type";
}

// ---- values

static bool check_type(const Verify *v, const Loc *loc, const Value *value, const char *what, uint32_t i) {
  if (!value->type) return fail(v, loc, "%s %u has no type", what, i);
  const DTypeInfo *info = dtype_info(value->type->dtype);
  if (value->type->dtype == DT_NONE || info->cls == DC_LANE)
    return fail(v, loc, "%s %u has element type %s, which no tensor has", what, i, info->name);
  for (uint32_t k = 0; k < value->type->rank; k++)
    if (value->type->dims[k] < -(int64_t)type_symbol_count(v->m->types))
      return fail(v, loc, "%s %u has an unknown symbol in dim %u", what, i, k);
  return true;
}

// Records a definition; false when the id is out of range or taken.
static bool define(Verify *v, const Loc *loc, const Value *value) {
  if (value->id >= v->m->n_values || (v->value[value->id] && v->value[value->id] != value))
    return fail(v, loc, "value id %u is not unique in the module", value->id);
  v->value[value->id] = value;
  v->defined[value->id] = true;
  return true;
}

static bool is_defined(const Verify *v, const Value *value) {
  return value->id < v->m->n_values && v->value[value->id] == value && v->defined[value->id];
}

static bool check_consts(Verify *v) {
  for (uint32_t i = 0; i < v->m->consts.n; i++) {
    const Const *c = v->m->consts.at[i];
    const Value *value = &c->value;
    if (c->id != i || value->kind != VALUE_CONST || value->constant != c || value->type != c->type)
      return fail(v, NULL, "constant @%s is not linked to its value", c->name);
    if (!check_type(v, NULL, value, "constant", i)) return false;
    if (!type_is_static(c->type)) return fail(v, NULL, "constant @%s has symbolic dims", c->name);
    if (c->gen == CONST_BYTES && !c->bytes && type_bytes(c->type) > 0)
      return fail(v, NULL, "constant @%s has no data", c->name);
    if (!define(v, NULL, value)) return false;
  }
  return true;
}

// ---- attributes

static bool func_is_known(const Verify *v, const Func *f) {
  return f && f->id < v->m->funcs.n && v->m->funcs.at[f->id] == f;
}

static bool check_attr_value(const Verify *v, const Op *op, const AttrInfo *info, const AttrVal *a) {
  const char *name = op_info(op->kind)->name;
  switch (info->kind) {
    case ATTR_INT: return true;
    case ATTR_FLOAT: return true;
    case ATTR_BOOL:
      return a->i == 0 || a->i == 1 || fail(v, op->loc, "attribute %s of %s is no bool", info->name, name);
    case ATTR_ENUM: {
      const char *set = enum_set((EnumValue)(int)info->def);
      return (a->i > 0 && a->i < ENUM_COUNT && strcmp(enum_set((EnumValue)a->i), set) == 0) ||
             fail(v, op->loc, "attribute %s of %s is no value of its set", info->name, name);
    }
    case ATTR_DTYPE:
      return (a->i > DT_NONE && a->i < DT_COUNT) ||
             fail(v, op->loc, "attribute %s of %s is no element type", info->name, name);
    case ATTR_STR: return a->s || fail(v, op->loc, "attribute %s of %s has no text", info->name, name);
    case ATTR_INTS:
      return a->ints || a->n == 0 || fail(v, op->loc, "attribute %s of %s has no numbers", info->name, name);
    case ATTR_FLOATS:
      return a->floats || a->n == 0 || fail(v, op->loc, "attribute %s of %s has no numbers", info->name, name);
    case ATTR_FUNC:
      return func_is_known(v, a->func) ||
             fail(v, op->loc, "attribute %s of %s names a function that is not in the module", info->name, name);
    case ATTR_PLAN:
      return (a->plan && a->plan->strategy && a->plan->n <= PLAN_MAX) ||
             fail(v, op->loc, "the plan of %s is malformed", name);
  }
  return true;
}

static bool check_attrs(const Verify *v, const Op *op) {
  const OpInfo *info = op_info(op->kind);
  for (uint32_t i = 0; i < info->n_attrs; i++) {
    if (op->attrs[i].set && !check_attr_value(v, op, &info->attrs[i], &op->attrs[i])) return false;
    if (info->attrs[i].required && !op->attrs[i].set)
      return fail(v, op->loc, "%s without attribute %s, which has no default", info->name, info->attrs[i].name);
  }
  return true;
}

// ---- ops

static bool check_arity(const Verify *v, const Op *op) {
  const OpInfo *info = op_info(op->kind);
  if (op->n_out != info->n_out)
    return fail(v, op->loc, "found %u results of %s, expected %u", op->n_out, info->name, info->n_out);
  if (op->n_in < info->min_in)
    return fail(v, op->loc, "found %u operands of %s, expected at least %u", op->n_in, info->name, info->min_in);
  bool post = (info->traits & TRAIT_POST) && op_post(op);
  if (info->max_in != VARIADIC && op->n_in > info->max_in && !post)
    return fail(v, op->loc, "found %u operands of %s, expected at most %u", op->n_in, info->name, info->max_in);
  return true;
}

static bool check_operands(Verify *v, const Op *op) {
  const OpInfo *info = op_info(op->kind);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Operand *o = &op->in[i];
    if (o->op != op || o->slot != i) return fail(v, op->loc, "operand %u of %s has another owner", i, info->name);
    if (!o->value) {
      bool optional = i >= info->min_in && info->max_in != VARIADIC && i < info->max_in;
      if (!optional) return fail(v, op->loc, "operand %u of %s is not given", i, info->name);
      continue;
    }
    if (!is_defined(v, o->value))
      return fail(v, op->loc, "operand %u of %s is not defined before it in its function", i, info->name);
    v->uses[o->value->id]++;
  }
  return true;
}

static bool check_results(Verify *v, const Op *op) {
  for (uint32_t i = 0; i < op->n_out; i++) {
    const Value *r = op->out[i];
    if (r->kind != VALUE_RESULT || r->op != op || r->index != i)
      return fail(v, op->loc, "result %u of %s is not linked to it", i, op_info(op->kind)->name);
    if (!check_type(v, op->loc, r, "result", i) || !define(v, op->loc, r)) return false;
  }
  return true;
}

// A body: rank-0 parameters, element-wise ops only, one result.
static bool check_body(const Verify *v, const Op *op, const Func *f) {
  const char *name = op_info(op->kind)->name;
  if (f == op->func || f == v->m->funcs.at[0])
    return fail(v, op->loc, "function @%s is no body of %s: it is the one that runs", f->name, name);
  if (f->n_results != 1) return fail(v, op->loc, "body @%s has %u results, expected 1", f->name, f->n_results);
  for (uint32_t i = 0; i < f->n_args; i++)
    if (!f->args[i]->type || f->args[i]->type->rank != 0)
      return fail(v, op->loc, "parameter %u of body @%s has type %s, expected rank 0", i, f->name,
                  type_of(v, f->args[i]));
  for (const Op *o = f->first; o; o = o->next) {
    if (!(op_info(o->kind)->traits & TRAIT_ELTWISE))
      return fail(v, o->loc, "%s in body @%s, expected element-wise operations only", op_info(o->kind)->name, f->name);
    if (o->out[0]->type && o->out[0]->type->rank != 0)
      return fail(v, o->loc, "%s in body @%s has type %s, expected rank 0", op_info(o->kind)->name, f->name,
                  type_of(v, o->out[0]));
  }
  const Type *result = f->results[0]->type;
  if (!result || result->dtype != op->out[0]->type->dtype)
    return fail(v, op->loc, "body @%s gives %s, expected the element type of %s", f->name, type_of(v, f->results[0]),
                type_of(v, op->out[0]));
  return true;
}

// Parameters from `first_param` on take the operands from `first_in` on.
static bool check_body_params(const Verify *v, const Op *op, const Func *f, uint32_t first_param, uint32_t first_in) {
  uint32_t n_in = op->n_in > first_in ? op->n_in - first_in : 0;
  if (f->n_args != first_param + n_in)
    return fail(v, op->loc, "body @%s has %u parameters, expected %u", f->name, f->n_args, first_param + n_in);
  for (uint32_t i = 0; i < n_in; i++) {
    const Value *in = op_in(op, first_in + i), *param = f->args[first_param + i];
    if (in && in->type && in->type->dtype != param->type->dtype)
      return fail(v, op->loc, "parameter %u of body @%s has type %s, its operand %s", first_param + i, f->name,
                  type_of(v, param), type_of(v, in));
  }
  return true;
}

static bool check_bodies(const Verify *v, const Op *op) {
  const OpInfo *info = op_info(op->kind);
  if (op->kind == OP_MAP) {
    const Func *f = op_func(op, A_MAP_body);
    return check_body(v, op, f) && check_body_params(v, op, f, 0, 0);
  }
  const Func *post = (info->traits & TRAIT_POST) ? op_post(op) : NULL;
  return !post || (check_body(v, op, post) && check_body_params(v, op, post, 1, info->max_in));
}

static bool check_op(Verify *v, const Func *f, const Op *op) {
  if (op->kind <= OP_NONE || op->kind >= OP_COUNT) return fail(v, op->loc, "operation of no kind");
  if (op->func != f) return fail(v, op->loc, "%s is listed in a function it is not of", op_info(op->kind)->name);
  if (op->id >= v->m->n_ops || v->op[op->id])
    return fail(v, op->loc, "operation id %u is not unique in the module", op->id);
  v->op[op->id] = op;
  bool ok = check_arity(v, op) && check_operands(v, op) && check_attrs(v, op);
  return op->n_out == op_info(op->kind)->n_out && check_results(v, op) && ok;
}

// ---- functions

static bool check_func_ends(Verify *v, const Func *f) {
  for (uint32_t i = 0; i < f->n_results; i++) {
    if (!f->results[i] || !is_defined(v, f->results[i]))
      return fail(v, NULL, "result %u of function @%s is not defined in it", i, f->name);
    v->uses[f->results[i]->id]++;
  }
  for (uint32_t i = 0; i < f->n_args; i++) v->defined[f->args[i]->id] = false;  // nothing else may use them
  for (const Op *op = f->first; op; op = op->next)
    for (uint32_t i = 0; i < op->n_out; i++) v->defined[op->out[i]->id] = false;
  return true;
}

static bool check_func(Verify *v, const Func *f) {
  bool ok = true;
  for (uint32_t i = 0; i < f->n_args; i++) {
    const Value *a = f->args[i];
    if (a->kind != VALUE_ARG || a->index != i)
      return fail(v, NULL, "argument %u of function @%s is not linked to it", i, f->name);
    if (!check_type(v, NULL, a, "argument", i) || !define(v, NULL, a)) return false;
  }
  uint32_t n = 0;
  const Op *last = NULL;
  for (const Op *op = f->first; op; last = op, op = op->next) {
    if (op->prev != last || n++ > v->m->n_ops)
      return fail(v, op->loc, "the operations of function @%s are not linked in order", f->name);
    bool good = check_op(v, f, op);
    ok &= good;
    if (!good && v->op[op->id < v->m->n_ops ? op->id : 0] != op) return false;  // the walk itself is not safe
  }
  if (f->last != last || f->n_ops != n)
    return fail(v, NULL, "function @%s counts %u operations, has %u", f->name, f->n_ops, n);
  return ok && check_func_ends(v, f);
}

// ---- use lists

static bool check_uses(const Verify *v) {
  for (uint32_t id = 0; id < v->m->n_values; id++) {
    const Value *value = v->value[id];
    if (!value) continue;
    const Loc *loc = value->kind == VALUE_RESULT ? value->op->loc : NULL;
    const Operand *last = NULL;
    uint32_t n = 0;
    for (const Operand *o = value->uses; o; last = o, o = o->next) {
      if (o->prev != last || o->value != value || n++ > value->n_uses)
        return fail(v, loc, "the use list of value %u is broken", id);
      if (o->op->id >= v->m->n_ops || v->op[o->op->id] != o->op || &o->op->in[o->slot] != o)
        return fail(v, loc, "the use list of value %u names an operation that is gone", id);
    }
    if (value->n_uses != v->uses[id] || n > v->uses[id])
      return fail(v, loc, "value %u counts %u uses, has %u", id, value->n_uses, v->uses[id]);
  }
  return true;
}

static bool check_all_bodies(const Verify *v) {
  bool ok = true;
  for (uint32_t i = 0; i < v->m->funcs.n; i++)
    for (const Op *op = v->m->funcs.at[i]->first; op; op = op->next) ok &= check_bodies(v, op);
  return ok;
}

bool verify_module(Module *m) {
  Arena *scratch = arena_new("verify");
  Verify v = {.m = m, .d = m->diag, .scratch = scratch};
  v.defined = NEW_ARRAY(scratch, bool, m->n_values + 1);
  v.value = NEW_ARRAY(scratch, const Value *, m->n_values + 1);
  v.uses = NEW_ARRAY(scratch, uint32_t, m->n_values + 1);
  v.op = NEW_ARRAY(scratch, const Op *, m->n_ops + 1);
  bool ok = check_consts(&v);
  for (uint32_t i = 0; i < m->funcs.n; i++) {
    if (m->funcs.at[i]->id != i) ok = fail(&v, NULL, "function @%s has id %u", m->funcs.at[i]->name, i);
    ok = ok && check_func(&v, m->funcs.at[i]);
  }
  ok = ok && check_uses(&v) && check_all_bodies(&v);
  if (ok && m->program) ok = verify_program(m->program);
  arena_free(scratch);
  return ok;
}
