// Expression builders of the math library (math.h): leaves are copied, everything else is used once.
#include "passes/kernel/math.h"

#include "ir/elem.h"

static bool is_leaf(const KExpr *x) { return x->kind == KX_CONST || x->kind == KX_VAR || x->kind == KX_INDEX; }

static KExpr *use(Math *m, KExpr *x) { return is_leaf(x) ? arena_copy(m->arena, x, sizeof *x) : x; }

static KExpr *expr(Math *m, KExprKind kind, DType t) {
  KExpr *x = NEW(m->arena, KExpr);
  x->kind = kind;
  x->type = t;
  return x;
}

KExpr *math_share(Math *m, KExpr *x) {
  if (is_leaf(x)) return x;
  KStmt *s = kstmt_new(m->arena, KS_LET);
  s->let.value = x;
  s->let.var = kvar_new(m->arena, m->k, "t", KVAR_LET, x->type);
  kblock_insert(m->block, m->before, s);
  KExpr *v = expr(m, KX_VAR, x->type);
  v->var = s->let.var;
  return v;
}

KExpr *math_f(Math *m, DType t, double v) {
  KExpr *x = expr(m, KX_CONST, t);
  x->f = elem_round(t, v);
  return x;
}

KExpr *math_i(Math *m, DType t, int64_t v) {
  KExpr *x = expr(m, KX_CONST, t);
  x->i = int_wrap(t, v);
  return x;
}

KExpr *math_op(Math *m, KOp op, DType result, KExpr *a, KExpr *b, KExpr *c) {
  KExpr *x = expr(m, KX_OP, result);
  x->op = op;
  KExpr *arg[3] = {a, b, c};
  for (uint32_t i = 0; i < kop_info(op)->arity; i++) x->arg[i] = use(m, arg[i]);
  return x;
}

KExpr *x_neg(Math *m, KExpr *a) { return math_op(m, KOP_NEG, a->type, a, NULL, NULL); }
KExpr *x_abs(Math *m, KExpr *a) { return math_op(m, KOP_ABS, a->type, a, NULL, NULL); }
KExpr *x_sqrt(Math *m, KExpr *a) { return math_op(m, KOP_SQRT, a->type, a, NULL, NULL); }
KExpr *x_add(Math *m, KExpr *a, KExpr *b) { return math_op(m, KOP_ADD, a->type, a, b, NULL); }
KExpr *x_sub(Math *m, KExpr *a, KExpr *b) { return math_op(m, KOP_SUB, a->type, a, b, NULL); }
KExpr *x_mul(Math *m, KExpr *a, KExpr *b) { return math_op(m, KOP_MUL, a->type, a, b, NULL); }
KExpr *x_div(Math *m, KExpr *a, KExpr *b) { return math_op(m, KOP_DIV, a->type, a, b, NULL); }
KExpr *x_fma(Math *m, KExpr *a, KExpr *b, KExpr *c) { return math_op(m, KOP_FMA, a->type, a, b, c); }
// The upper 26 bits of an f64, rounded, so that the rest has 26 too: products of halves are exact (Dekker).
static KExpr *upper_half(Math *m, KExpr *a) {
  KExpr *rounded = x_iaddc(m, x_view(m, DT_I64, a), INT64_C(1) << 26);
  return math_share(m, x_view(m, DT_F64, x_and(m, rounded, math_i(m, DT_I64, -(INT64_C(1) << 27)))));
}

// Without fma: f32 in f64 lanes, where the product is exact; f64 with the error of the product from its halves.
KExpr *x_residual(Math *m, KExpr *a, KExpr *b, KExpr *c) {
  if (!m->no_fma) return x_fma(m, a, b, c);
  if (a->type == DT_F32) {
    KExpr *product = x_mul(m, x_cast(m, DT_F64, a), x_cast(m, DT_F64, b));
    return x_cast(m, DT_F32, x_add(m, product, x_cast(m, DT_F64, c)));
  }
  a = math_share(m, a);
  b = math_share(m, b);
  KExpr *p = math_share(m, x_mul(m, a, b)), *ah = upper_half(m, a), *bh = upper_half(m, b);
  KExpr *al = math_share(m, x_sub(m, a, ah)), *bl = math_share(m, x_sub(m, b, bh));
  KExpr *e = x_add(m, x_add(m, x_sub(m, x_mul(m, ah, bh), p), x_mul(m, ah, bl)), x_mul(m, al, bh));
  return x_add(m, x_add(m, p, c), x_add(m, e, x_mul(m, al, bl)));
}

KExpr *x_cmp(Math *m, KOp op, KExpr *a, KExpr *b) { return math_op(m, op, DT_BOOL, a, b, NULL); }
KExpr *x_select(Math *m, KExpr *cond, KExpr *yes, KExpr *no) {
  return math_op(m, KOP_SELECT, yes->type, cond, yes, no);
}
KExpr *x_and(Math *m, KExpr *a, KExpr *b) { return math_op(m, KOP_AND, a->type, a, b, NULL); }
KExpr *x_or(Math *m, KExpr *a, KExpr *b) { return math_op(m, KOP_OR, a->type, a, b, NULL); }
KExpr *x_cast(Math *m, DType t, KExpr *a) { return a->type == t ? a : math_op(m, KOP_CAST, t, a, NULL, NULL); }
KExpr *x_view(Math *m, DType t, KExpr *a) { return a->type == t ? a : math_op(m, KOP_VIEW, t, a, NULL, NULL); }

KExpr *x_addc(Math *m, KExpr *a, double c) { return x_add(m, a, math_f(m, a->type, c)); }
KExpr *x_mulc(Math *m, KExpr *a, double c) { return x_mul(m, a, math_f(m, a->type, c)); }
KExpr *x_iaddc(Math *m, KExpr *a, int64_t c) { return x_add(m, a, math_i(m, a->type, c)); }
KExpr *x_shl(Math *m, KExpr *a, int64_t by) { return math_op(m, KOP_SHL, a->type, a, math_i(m, a->type, by), NULL); }
KExpr *x_shr(Math *m, KExpr *a, int64_t by) { return math_op(m, KOP_SHR, a->type, a, math_i(m, a->type, by), NULL); }
KExpr *x_cmpc(Math *m, KOp op, KExpr *a, double c) { return x_cmp(m, op, a, math_f(m, a->type, c)); }

KExpr *x_poly(Math *m, KExpr *x, uint32_t n, const double *coef) {
  KExpr *r = math_f(m, x->type, coef[n - 1]);
  for (uint32_t i = n - 1; i-- > 0;) r = x_fma(m, r, x, math_f(m, x->type, coef[i]));
  return r;
}

KExpr *x_copysign(Math *m, KExpr *magnitude, KExpr *sign) {
  const Float *f = math_float(sign->type);
  KExpr *bit = x_and(m, x_view(m, f->bits, sign), math_i(m, f->bits, f->sign));
  return x_view(m, f->t, x_or(m, x_view(m, f->bits, magnitude), bit));
}

const Float *math_float(DType t) {
  static const Float f32 = {DT_F32,   DT_I32,        23,          127,           INT64_C(1) << 31,
                            0x1.8p23, 0x1.715476p+0, 0x1.62e4p-1, 0x1.7f7d1cp-20};
  static const Float f64 = {
      DT_F64, DT_I64, 52, 1023, INT64_MIN, 0x1.8p52, 0x1.71547652b82fep+0, 0x1.62e42fefa38p-1, 0x1.ef35793c7673p-45};
  return t == DT_F32 ? &f32 : &f64;
}
