// expand: rewrites kernel ops that no backend emits (BASIC 0 in kops.def, and floating mod) into basic ones.
//
//   store %y[%i], sigmoid(load %x[%i])
// becomes
//   let %t = load %x[%i]
//   let %t1 = neg(abs(%t)) ...
//   store %y[%i], div(select(lt(%t, 0), %e, 1), add(%e, 1))
//
// Operands of an expansion become `let`s before the statement, so nothing is computed twice. What an op becomes is a
// row of math.def; f16 and bf16 lanes are computed in f32. Basic ops are left alone.
#include "passes/kernel/math.h"
#include "passes/kernel/math_int.h"
#include "passes/pass.h"

typedef struct Row {
  Expander *fn;
  bool wide;
} Row;

static const Row rows[KOP_COUNT] = {
#define MATH(KOP, fn, wide) [KOP_##KOP] = {fn, wide},
#include "passes/kernel/math.def"
#undef MATH
};

// In `t` lanes: cast the operands, expand, cast the result back (compares stay bool).
static KExpr *expand_as(Math *m, Expander *fn, DType t, KExpr *const *a, uint32_t n) {
  KExpr *wide[3] = {NULL, NULL, NULL};
  for (uint32_t i = 0; i < n; i++)
    wide[i] = a[i]->kind == KX_CONST ? math_f(m, t, a[i]->f) : math_share(m, x_cast(m, t, a[i]));
  KExpr *r = fn(m, wide);
  return r->type == DT_BOOL ? r : x_cast(m, a[0]->type, r);
}

static bool applies(const KExpr *x) {
  if (x->kind != KX_OP || !rows[x->op].fn) return false;
  return !kop_info(x->op)->basic || dtype_is_float(x->arg[0]->type);
}

static KExpr *expand_op(Math *m, KExpr *x) {
  uint32_t n = kop_info(x->op)->arity;
  KExpr *a[3] = {NULL, NULL, NULL};
  for (uint32_t i = 0; i < n; i++) a[i] = math_share(m, x->arg[i]);
  DType t = a[0]->type;
  if (!dtype_is_float(t)) {
    KExpr *r = math_int(m, x->op, a);
    QCC_CHECK(r, "expand: kernel %s has %s on %s", m->k->name, kop_info(x->op)->name, dtype_info(t)->name);
    return r;
  }
  DType in = rows[x->op].wide ? DT_F64 : t == DT_F64 ? DT_F64 : DT_F32;
  return expand_as(m, rows[x->op].fn, in, a, n);
}

// Innermost first, so that lets come out in the order of evaluation.
static KExpr *expand_expr(Math *m, KExpr *x, bool *changed) {
  if (x->kind != KX_OP) return x;
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) x->arg[i] = expand_expr(m, x->arg[i], changed);
  if (!applies(x)) return x;
  *changed = true;
  return expand_op(m, x);
}

static void expand_block(Math *m, KBlock *b, bool *changed);

static void expand_stmt(Math *m, KBlock *b, KStmt *s, bool *changed) {
  m->block = b;
  m->before = s;
  switch (s->kind) {
    case KS_FOR: expand_block(m, &s->for_.body, changed); break;
    case KS_IF:
      s->if_.cond = expand_expr(m, s->if_.cond, changed);
      expand_block(m, &s->if_.then, changed);
      expand_block(m, &s->if_.other, changed);
      break;
    case KS_LET: s->let.value = expand_expr(m, s->let.value, changed); break;
    case KS_STORE:
    case KS_REDUCE: s->store.value = expand_expr(m, s->store.value, changed); break;
    case KS_ALLOC:
    case KS_CALL:
    case KS_TILE: break;
  }
}

static void expand_block(Math *m, KBlock *b, bool *changed) {
  for (KStmt *s = b->first; s; s = s->next) expand_stmt(m, b, s, changed);
}

PassResult pass_expand(PassCtx *ctx) {
  bool changed = false;
  for (uint32_t i = 0; i < ctx->m->program->kernels.n; i++) {
    Kernel *k = ctx->m->program->kernels.at[i];
    Math m = {.arena = ctx->m->arena, .m = ctx->m, .k = k, .no_fma = ctx->target && !ctx->target->has_fma};
    expand_block(&m, &k->body, &changed);
  }
  return changed ? PASS_CHANGED : PASS_SAME;
}
