// Shape and type inference: the driver and the checks that hooks share. Hooks live in infer_*.c by meaning; the table
// is made from ops.def, so an op without a hook does not link.
//
// Model content is never asserted on: everything wrong is one located diagnostic. Symbolic dims flow through where
// the result does not depend on their value.
#include "ir/infer.h"

#include <stdarg.h>
#include <string.h>

#include "ir/infer_hooks.h"

typedef bool InferHook(Op *op);

static InferHook *const hooks[OP_COUNT] = {
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) [OP_##ID] = infer_##infer,
#define ATTR(ID, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
};

bool infer_fail(const Op *op, const char *fmt, ...) {
  Module *m = op->func->module;
  StrBuf text;
  strbuf_init(&text, m->arena);
  strbuf_printf(&text, "%s: ", op_info(op->kind)->name);
  va_list ap;
  va_start(ap, fmt);
  strbuf_vprintf(&text, fmt, ap);
  va_end(ap);
  return diag_error(m->diag, DIAG_REFUSED, op->loc, "%s", strbuf_str(&text));
}

const char *infer_text(const Op *op, const Type *t) {
  return type_text(op->func->module->arena, op->func->module->types, t);
}

const char *infer_dim_text(const Op *op, int64_t dim) {
  Module *m = op->func->module;
  if (dim < 0) return str_escape(m->arena, type_symbol_name(m->types, dim), 64);
  return arena_printf(m->arena, "%lld", (long long)dim);
}

bool infer_set(Op *op, uint32_t i, DType t, uint32_t rank, const int64_t *dims) {
  if (rank > MAX_RANK)
    return infer_fail(op, "the result would have rank %u; qcc takes tensors up to rank %d", rank, MAX_RANK);
  int64_t known[MAX_RANK], count;
  for (uint32_t k = 0; k < rank; k++) known[k] = dims[k] < 0 ? 1 : dims[k];
  if (!dims_count(rank, known, &count))
    return diag_error(op->func->module->diag, DIAG_LIMIT, op->loc, "%s: the result would have more than 2^40 elements",
                      op_info(op->kind)->name);
  value_set_type(op_out(op, i), type_tensor(op->func->module->types, t, rank, dims));
  return true;
}

bool infer_rank(const Op *op, uint32_t i, const char *what, uint32_t lo, uint32_t hi) {
  const Type *t = infer_in(op, i);
  if (t->rank >= lo && t->rank <= hi) return true;
  if (lo == hi) return infer_fail(op, "%s must have rank %u, it is %s", what, lo, infer_text(op, t));
  return infer_fail(op, "%s must have rank %u to %u, it is %s", what, lo, hi, infer_text(op, t));
}

bool infer_axis(const Op *op, int slot, uint32_t rank, uint32_t *axis) {
  int64_t a = op_int(op, slot), r = rank;
  if (a < -r || a >= r)
    return infer_fail(op, "%s %lld is outside a tensor of rank %u", op_info(op->kind)->attrs[slot].name, (long long)a,
                      rank);
  *axis = (uint32_t)(a < 0 ? a + r : a);
  return true;
}

bool infer_ints(const Op *op, int slot, uint32_t n, bool empty, int64_t lo, int64_t hi) {
  const char *name = op_info(op->kind)->attrs[slot].name;
  uint32_t have;
  const int64_t *v = op_ints(op, slot, &have);
  if (have == 0 && empty) return true;
  if (have != n) return infer_fail(op, "%s has %u elements, expected %u", name, have, n);
  for (uint32_t i = 0; i < n; i++)
    if (v[i] < lo || v[i] > hi)
      return infer_fail(op, "%s[%u] = %lld is outside %lld..%lld", name, i, (long long)v[i], (long long)lo,
                        (long long)hi);
  return true;
}

bool infer_same_dtype(const Op *op, uint32_t a, uint32_t b) {
  const Type *ta = infer_in(op, a), *tb = infer_in(op, b);
  if (!ta || !tb || ta->dtype == tb->dtype) return true;
  return infer_fail(op, "operands %u and %u have types %s and %s, expected the same element type", a, b,
                    infer_text(op, ta), infer_text(op, tb));
}

bool infer_is_int(const Op *op, uint32_t i, const char *what) {
  const Type *t = infer_in(op, i);
  DClass c = dtype_info(t->dtype)->cls;
  if (c == DC_INT || c == DC_UINT) return true;
  return infer_fail(op, "%s must be of an integer type, it is %s", what, infer_text(op, t));
}

bool infer_is_float(const Op *op, uint32_t i, const char *what) {
  const Type *t = infer_in(op, i);
  return dtype_is_float(t->dtype) || infer_fail(op, "%s must be of a float type, it is %s", what, infer_text(op, t));
}

bool infer_known(const Op *op, int64_t dim, const char *what) {
  if (dim >= 0) return true;
  const char *name = infer_dim_text(op, dim);
  return infer_fail(op, "%s depends on dimension '%s', which is not known; give --dim %s=NUMBER", what, name, name);
}

bool infer_vector(const Op *op, uint32_t i, const char *what, int64_t n) {
  const Type *t = infer_in(op, i);
  if (!t || (t->rank == 1 && t->dims[0] == n)) return true;
  return infer_fail(op, "%s must have shape [%s], it is %s", what, infer_dim_text(op, n), infer_text(op, t));
}

bool infer_given(const Op *op) { return op_out(op, 0)->type || infer_fail(op, "the result type must be stated"); }

// ---- the driver

static bool check_operands(const Op *op, const OpInfo *info) {
  bool variadic = info->max_in == VARIADIC;
  if (op->n_in < info->min_in) return infer_fail(op, "%u operands, expected at least %u", op->n_in, info->min_in);
  if (!variadic && op->n_in > info->max_in && !op_post(op))
    return infer_fail(op, "%u operands, expected at most %u", op->n_in, info->max_in);
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *v = op_in(op, i);
    bool optional = !variadic && i >= info->min_in && i < info->max_in;
    if (!v && !optional) return infer_fail(op, "operand %u is missing", i);
    if (v && !v->type) return infer_fail(op, "operand %u has no type", i);
    DClass c = v ? dtype_info(v->type->dtype)->cls : DC_NONE;
    if (c == DC_STR || c == DC_LANE)
      return infer_fail(op, "operand %u has type %s, which no operator takes", i, infer_text(op, v->type));
  }
  return true;
}

static bool check_attrs(const Op *op, const OpInfo *info) {
  for (uint32_t i = 0; i < info->n_attrs; i++) {
    const AttrInfo *a = &info->attrs[i];
    const AttrVal *v = &op->attrs[i];
    if (a->required && !v->set) return infer_fail(op, "attribute %s is missing", a->name);
    if (a->kind != ATTR_ENUM || !v->set) continue;
    const char *set = enum_set((EnumValue)(int)a->def);
    if (v->i <= 0 || v->i >= ENUM_COUNT || strcmp(enum_set((EnumValue)v->i), set) != 0)
      return infer_fail(op, "attribute %s does not hold a value of %s", a->name, set);
  }
  return true;
}

// The body of a post or map attribute: element-wise ops on rank-0 values, parameter types as announced.
bool infer_body(const Op *op, Func *body, uint32_t n_params, const DType *params, DType *result) {
  if (body->n_args != n_params || body->n_results != 1)
    return infer_fail(op, "@%s has %u parameters and %u results, expected %u and 1", body->name, body->n_args,
                      body->n_results, n_params);
  for (uint32_t i = 0; i < n_params; i++) {
    const Type *t = body->args[i]->type;
    if (t->rank != 0 || t->dtype != params[i])
      return infer_fail(op, "parameter %u of @%s is %s, expected %s[]", i, body->name, infer_text(op, t),
                        dtype_info(params[i])->name);
  }
  for (Op *b = body->first; b; b = b->next) {
    if (!(op_info(b->kind)->traits & TRAIT_ELTWISE))
      return infer_fail(op, "@%s contains %s, which is not element-wise", body->name, op_info(b->kind)->name);
    if (!infer_op(b)) return false;
    if (op_out(b, 0)->type->rank != 0) return infer_fail(op, "@%s computes a value that is not rank 0", body->name);
  }
  const Type *r = body->results[0] ? body->results[0]->type : NULL;
  if (!r || r->rank != 0) return infer_fail(op, "the result of @%s must have rank 0", body->name);
  *result = r->dtype;
  return true;
}

// Operands from `first` on broadcast to the dims of `to` without enlarging them.
bool infer_fits(const Op *op, uint32_t first, const Type *to) {
  for (uint32_t i = first; i < op->n_in; i++) {
    const Type *t = infer_in(op, i);
    uint32_t rank;
    int64_t dims[MAX_RANK];
    if (!t) continue;
    if (!dims_broadcast(t->rank, t->dims, to->rank, to->dims, &rank, dims) || rank != to->rank ||
        memcmp(dims, to->dims, rank * sizeof *dims) != 0)
      return infer_fail(op, "operand %u of type %s does not broadcast to %s", i, infer_text(op, t), infer_text(op, to));
  }
  return true;
}

static bool infer_post(Op *op) {
  Func *post = op_post(op);
  uint32_t fixed = op_info(op->kind)->max_in, n = op_n_post(op) + 1;
  const Type *raw = op_out(op, 0)->type;
  DType *params = NEW_ARRAY(op->func->module->arena, DType, n), result;
  params[0] = raw->dtype;
  for (uint32_t i = 1; i < n; i++) params[i] = infer_in(op, fixed + i - 1)->dtype;
  if (!infer_fits(op, fixed, raw) || !infer_body(op, post, n, params, &result)) return false;
  return infer_set(op, 0, result, raw->rank, raw->dims);
}

bool infer_op(Op *op) {
  const OpInfo *info = op_info(op->kind);
  if (!check_operands(op, info) || !check_attrs(op, info) || !hooks[op->kind](op)) return false;
  return !(info->traits & TRAIT_POST) || !op_post(op) || infer_post(op);
}
