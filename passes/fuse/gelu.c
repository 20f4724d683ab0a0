// Pass gelu: the activation that exporters spell out becomes one op.
//
//   %1 = div %x, 1.41421
//   %2 = erf %1
//   %3 = add %2, 1
//   %4 = mul %x, %3
//   %5 = mul %4, 0.5
//   => %5 = gelu %x
//
// and 0.5 x (1 + tanh(0.797885 (x + 0.044715 x^3))), its cube written as pow or products, becomes gelu_tanh (Hendrycks
// and Gimpel, arXiv 1606.08415). The factors may come in any order. Constants must be those of the formula to within a
// few roundings of the type; nothing between may have another reader. The op is closer to the function than the chain,
// whose 1 + erf cancels for x << 0; under --fp=strict the chain stays.
#include <math.h>

#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/pass.h"

enum { FACTORS = 4 };

// A product seen as a constant times values.
typedef struct Product {
  double constant;
  Value *factor[FACTORS];
  uint32_t n;
} Product;

static bool add_factor(Product *p, Value *v) {
  if (p->n == FACTORS) return false;
  p->factor[p->n++] = v;
  return true;
}

// Takes products, quotients by constants and cubes apart, as long as nobody else reads them. At most FACTORS values
// come out, so a walk over their parts ends.
static bool product_of(Module *m, const Op *root, Product *p) {
  *p = (Product){.constant = 1};
  const Op *todo[FACTORS] = {root};
  for (uint32_t at = 0, n = 1; at < n; at++) {
    const Op *op = todo[at];
    for (uint32_t i = 0; i < 2; i++) {
      Value *v = op_in(op, i);
      double c;
      if (value_is_splat(m, v, &c)) {
        p->constant = op->kind == OP_DIV && i == 1 ? p->constant / c : p->constant * c;
        continue;
      }
      if (op->kind == OP_DIV && i == 1) return false;
      const Op *inner = v->n_uses == 1 ? value_def(v, OP_MUL) : NULL;
      if (inner == NULL && v->n_uses == 1) inner = value_def(v, OP_DIV);
      if (inner && n < FACTORS) {
        todo[n++] = inner;
      } else if (!add_factor(p, v)) {
        return false;
      }
    }
  }
  return true;
}

static bool product_at(Module *m, const Value *v, Product *p) {
  const Op *op = v->n_uses == 1 ? value_def(v, OP_MUL) : NULL;
  if (op == NULL && v->n_uses == 1) op = value_def(v, OP_DIV);
  return op != NULL && product_of(m, op, p);
}

static bool near(double a, double b, const Type *t) {
  return fabs(a - b) <= fabs(b) * (t->dtype == DT_F64 ? 1e-15 : t->dtype == DT_F32 ? 4e-7 : 4e-3);
}

// The operand of a sum with `c`, or NULL.
static Value *sum_with(Module *m, const Value *v, double c) {
  const Op *add = v->n_uses == 1 ? value_def(v, OP_ADD) : NULL;
  double x;
  for (uint32_t i = 0; add != NULL && i < 2; i++)
    if (value_is_splat(m, op_in(add, i), &x) && x == c) return op_in(add, 1 - i);
  return NULL;
}

static bool is_power(const Product *p, const Value *x, uint32_t n) {
  for (uint32_t i = 0; i < p->n; i++)
    if (p->factor[i] != x) return false;
  return p->n == n;
}

// 0.044715 x^n.
static bool is_cubic_part(Module *m, const Value *v, const Value *x, uint32_t n) {
  Product p;
  double e;
  if (!product_at(m, v, &p) || !near(p.constant, 0.044715, x->type)) return false;
  const Op *power = p.n == 1 ? value_def(p.factor[0], OP_POW) : NULL;
  if (power && op_in(power, 0) == x && value_is_splat(m, op_in(power, 1), &e)) return e == n;
  return is_power(&p, x, n);
}

// sqrt(2 / pi) (x + 0.044715 x^3) or sqrt(2 / pi) x (1 + 0.044715 x^2).
static bool is_tanh_argument(Module *m, const Value *v, const Value *x) {
  Product p;
  if (!product_at(m, v, &p) || !near(p.constant, 0.7978845608028654, x->type)) return false;
  for (uint32_t i = 0; i < p.n; i++) {
    const Value *part = sum_with(m, p.factor[i], 1);
    if (p.n == 2 && p.factor[1 - i] == x && part && is_cubic_part(m, part, x, 2)) return true;
  }
  const Op *sum = p.n == 1 && p.factor[0]->n_uses == 1 ? value_def(p.factor[0], OP_ADD) : NULL;
  if (sum == NULL) return false;
  uint32_t other = op_in(sum, 0) == x ? 1 : 0;
  return op_in(sum, 1 - other) == x && is_cubic_part(m, op_in(sum, other), x, 3);
}

static bool is_erf_argument(Module *m, const Value *v, const Value *x) {
  Product p;
  return product_at(m, v, &p) && near(p.constant, 0.7071067811865476, x->type) && p.n == 1 && p.factor[0] == x;
}

// OP_GELU or OP_GELU_TANH when `s` is the factor 1 + erf or 1 + tanh that belongs to x, else OP_GELU with false.
static bool gate_of(Module *m, const Value *s, const Value *x, OpKind *kind) {
  const Value *f = sum_with(m, s, 1);
  if (f == NULL || f->n_uses != 1 || f->op == NULL) return false;
  *kind = f->op->kind == OP_ERF ? OP_GELU : OP_GELU_TANH;
  if (f->op->kind == OP_ERF) return is_erf_argument(m, op_in(f->op, 0), x);
  return f->op->kind == OP_TANH && is_tanh_argument(m, op_in(f->op, 0), x);
}

static bool rewrite(Module *m, Op *op) {
  Product p;
  if (op->kind != OP_MUL || !dtype_is_float(op->out[0]->type->dtype)) return false;
  if (!product_of(m, op, &p) || p.n != 2 || p.constant != 0.5) return false;
  for (uint32_t i = 0; i < 2; i++) {
    Value *x = p.factor[i];
    OpKind kind;
    if (x->type != op->out[0]->type || !gate_of(m, p.factor[1 - i], x, &kind)) continue;
    value_replace(op->out[0], graph_emit(op, kind, 1, &x, op->out[0]->type, op->loc));
    return true;
  }
  return false;
}

PassResult pass_gelu(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  if (ctx->opt->strict_fp) return PASS_SAME;
  bool changed = false;
  for (Op *op = f->first; op; op = op->next) changed |= rewrite(ctx->m, op);
  if (changed) graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}
