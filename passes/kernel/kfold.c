// Folding of constant operands and exact identities (kfold.h).
//
// A rule may not change a bit of any result: x + 0.0 stays (it turns -0 into +0), x + -0.0 and x - 0.0 go. fma is only
// folded in f64, where the scalar meaning rounds once.
#include "passes/kernel/kfold.h"

#include <math.h>

#include "ir/elem.h"

static bool is_const(const KExpr *x) { return x->kind == KX_CONST; }

static bool is_f(const KExpr *x, double v) {
  return is_const(x) && dtype_is_float(x->type) && x->f == v && signbit(x->f) == signbit(v);
}

static bool is_i(const KExpr *x, int64_t v) { return is_const(x) && !dtype_is_float(x->type) && x->i == v; }

static KExpr *new_const(Arena *arena, DType t) {
  KExpr *r = NEW(arena, KExpr);
  r->kind = KX_CONST;
  r->type = t;
  return r;
}

static KExpr *number_f(Arena *arena, DType t, double v) {
  KExpr *r = new_const(arena, t);
  r->f = elem_round(t, v);
  return r;
}

static KExpr *number_i(Arena *arena, DType t, int64_t v) {
  KExpr *r = new_const(arena, t);
  r->i = int_wrap(t, v);
  return r;
}

static bool all_const(const KExpr *x) {
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++)
    if (!is_const(x->arg[i]) || dtype_info(x->arg[i]->type)->cls == DC_LANE) return false;
  return true;
}

// Integers and floats that stay what they are.
static KExpr *fold_cast(Arena *arena, KExpr *x) {
  const KExpr *a = x->arg[0];
  bool from_f = dtype_is_float(a->type), to_f = dtype_is_float(x->type);
  if (from_f && to_f) return number_f(arena, x->type, a->f);
  if (!from_f && !to_f) return number_i(arena, x->type, x->type == DT_BOOL ? a->i != 0 : a->i);
  if (!from_f && a->type != DT_U64 && a->i > -(INT64_C(1) << 53) && a->i < INT64_C(1) << 53)
    return number_f(arena, x->type, (double)a->i);
  return x;
}

static KExpr *fold_const(Arena *arena, KExpr *x) {
  DType t = x->arg[0]->type;
  switch (x->op) {
    case KOP_CAST: return fold_cast(arena, x);
    case KOP_SELECT: return x->arg[0]->i ? x->arg[1] : x->arg[2];
    case KOP_VIEW:
    case KOP_LOW_WORD:
    case KOP_POPCNT:
    case KOP_DOT2:
    case KOP_DOT4:
    case KOP_LOOKUP2:
    case KOP_LOOKUP4:
    case KOP_LOOKUP8:
    case KOP_LOOKUP16:
    case KOP_LOOKUP32:
    case KOP_LOOKUP64:
    case KOP_LOOKUP128: return x;
    case KOP_FMA:
      if (dtype_is_float(t) && t != DT_F64) return x;
      break;
    default: break;
  }
  uint32_t n = kop_info(x->op)->arity;
  double f[3] = {0, 0, 0};
  int64_t v[3] = {0, 0, 0};
  for (uint32_t i = 0; i < n; i++) {
    f[i] = x->arg[i]->f;
    v[i] = x->arg[i]->i;
  }
  if (!dtype_is_float(t)) return number_i(arena, x->type, kop_eval_i(x->op, t, v));
  double r = kop_eval_f(x->op, f);
  return x->type == DT_BOOL ? number_i(arena, DT_BOOL, r != 0) : number_f(arena, x->type, r);
}

static bool same_leaf(const KExpr *a, const KExpr *b) {
  if (a->kind != b->kind || a->type != b->type) return false;
  if (a->kind == KX_VAR) return a->var == b->var;
  if (a->kind != KX_CONST) return false;
  return dtype_is_float(a->type) ? a->f == b->f && signbit(a->f) == signbit(b->f) : a->i == b->i;
}

static KExpr *fold_select(KExpr *x) {
  if (is_const(x->arg[0])) return x->arg[0]->i ? x->arg[1] : x->arg[2];
  if (same_leaf(x->arg[1], x->arg[2])) return x->arg[1];
  if (x->arg[0]->kind == KX_OP && x->arg[0]->op == KOP_NOT) {
    KExpr *yes = x->arg[1];
    x->arg[0] = x->arg[0]->arg[0];
    x->arg[1] = x->arg[2];
    x->arg[2] = yes;
  }
  return x;
}

static KExpr *fold_float(KExpr *x) {
  KExpr *a = x->arg[0], *b = x->arg[1];
  switch (x->op) {
    case KOP_ADD: return is_f(b, -0.0) ? a : is_f(a, -0.0) ? b : x;
    case KOP_SUB: return is_f(b, 0.0) ? a : x;
    case KOP_MUL: return is_f(b, 1.0) ? a : is_f(a, 1.0) ? b : x;
    case KOP_DIV: return is_f(b, 1.0) ? a : x;
    case KOP_MAX: return is_f(b, -INFINITY) ? a : is_f(a, -INFINITY) ? b : x;
    case KOP_MIN: return is_f(b, INFINITY) ? a : is_f(a, INFINITY) ? b : x;
    case KOP_NEG: return a->kind == KX_OP && a->op == KOP_NEG ? a->arg[0] : x;
    case KOP_FMA:
      if (!is_f(a, 1.0) && !is_f(b, 1.0)) return x;
      x->op = KOP_ADD;
      x->arg[0] = is_f(a, 1.0) ? b : a;
      x->arg[1] = x->arg[2];
      return x;
    default: return x;
  }
}

static KExpr *fold_int(KExpr *x) {
  KExpr *a = x->arg[0], *b = x->arg[1];
  switch (x->op) {
    case KOP_ADD:
    case KOP_OR:
    case KOP_XOR: return is_i(b, 0) ? a : is_i(a, 0) ? b : x;
    case KOP_SUB:
    case KOP_SHL:
    case KOP_SHR: return is_i(b, 0) ? a : x;
    case KOP_MUL:
      if (is_i(b, 0) || is_i(a, 1)) return b;
      return is_i(a, 0) || is_i(b, 1) ? a : x;
    case KOP_DIV: return is_i(b, 1) ? a : x;
    case KOP_AND: return is_i(a, 0) ? a : is_i(b, 0) ? b : x;
    default: return x;
  }
}

KExpr *kfold(Arena *arena, KExpr *x) {
  if (x->kind == KX_INDEX && aff_is_const(&x->index)) return number_i(arena, DT_I64, x->index.base);
  if (x->kind != KX_OP) return x;
  if (all_const(x)) return fold_const(arena, x);
  if (x->op == KOP_SELECT) return fold_select(x);
  if (x->op == KOP_CAST || x->op == KOP_VIEW) return x->arg[0]->type == x->type ? x->arg[0] : x;
  if (x->op == KOP_NOT) return x->arg[0]->kind == KX_OP && x->arg[0]->op == KOP_NOT ? x->arg[0]->arg[0] : x;
  if (kop_info(x->op)->rule == KRULE_BOOL || dtype_info(x->arg[0]->type)->cls == DC_LANE) return x;
  return dtype_is_float(x->arg[0]->type) ? fold_float(x) : fold_int(x);
}
