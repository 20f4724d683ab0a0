// Importers of MatMul, Gemm and Einsum.
#include <string.h>

#include "frontend/onnx_node.h"

bool import_matmul(NodeCtx *c) { return node_result(c, node_matmul(c, c->in[0], c->in[1], NULL, false, false)); }

static Value *scaled(NodeCtx *c, Value *v, double k) {
  return k == 1 || !v ? v : node_emit2(c, OP_MUL, v, node_scalar(c, v->type->dtype, k));
}

// alpha goes into a constant factor when there is one; beta into C.
bool import_gemm(NodeCtx *c) {
  Value *a = c->in[0], *b = c->in[1], *bias = node_in(c, 2);
  double alpha = attr_float(c, "alpha", 1), beta = attr_float(c, "beta", 1);
  bool ta = attr_int(c, "transA", 0) != 0, tb = attr_int(c, "transB", 0) != 0;
  attr_ignore(c, "broadcast");
  if (a->type->rank != 2 || b->type->rank != 2)
    return node_refuse(c, "factors of rank %u and %u, expected 2", a->type->rank, b->type->rank);
  if (!dtype_is_float(a->type->dtype) && (alpha != (double)(int32_t)alpha || beta != (double)(int32_t)beta))
    return node_refuse(c, "alpha %g and beta %g for integers", alpha, beta);
  if (beta == 0) bias = NULL;
  bias = scaled(c, bias, beta);
  if (node_in(c, 2) && beta != 0 && !bias) return false;
  if (alpha == 1) return node_result(c, node_matmul(c, a, b, bias, ta, tb));
  if (value_is_const(b)) return node_result(c, node_matmul(c, a, scaled(c, b, alpha), bias, ta, tb));
  if (value_is_const(a)) return node_result(c, node_matmul(c, scaled(c, a, alpha), b, bias, ta, tb));
  Value *y = scaled(c, node_matmul(c, a, b, NULL, ta, tb), alpha);
  return node_result(c, bias && y ? node_emit2(c, OP_ADD, y, bias) : y);
}

// ---- einsum: to the explicit form without blanks and ellipsis

#define EINSUM_TERMS 32

typedef struct Einsum {
  char term[EINSUM_TERMS][MAX_RANK + 8];  // letters of each operand; '.' once for an ellipsis
  char out[MAX_RANK + 60];
  bool explicit_out;
  uint32_t n;
  char fresh[MAX_RANK];  // letters of the ellipsis axes, first to last
  uint32_t n_fresh;
} Einsum;

static bool is_letter(char ch) { return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z'); }

// One term: letters and at most one "...", which becomes '.'.
static bool einsum_term(NodeCtx *c, const char **s, char *out, size_t room) {
  size_t n = 0;
  bool dots = false;
  for (; **s && **s != ',' && **s != '-'; ++*s) {
    if (**s == ' ') continue;
    if (n + 1 >= room) return node_refuse(c, "a term of the equation is too long");
    if (is_letter(**s)) {
      out[n++] = **s;
    } else if (strncmp(*s, "...", 3) == 0 && !dots) {
      out[n++] = '.';
      dots = true;
      *s += 2;
    } else {
      return node_refuse(c, "the equation is not valid at '%s'", str_escape(c->m->arena, *s, 16));
    }
  }
  out[n] = 0;
  return true;
}

static bool einsum_parse(NodeCtx *c, const char *s, Einsum *e) {
  memset(e, 0, sizeof *e);
  for (;;) {
    if (e->n == EINSUM_TERMS) return node_unsupported(c, "more than %d terms", EINSUM_TERMS);
    if (!einsum_term(c, &s, e->term[e->n++], sizeof e->term[0])) return false;
    if (*s != ',') break;
    s++;
  }
  if (*s == '-') {
    if (s[1] != '>') return node_refuse(c, "expected '->' in the equation");
    s += 2;
    e->explicit_out = true;
    if (!einsum_term(c, &s, e->out, sizeof e->out)) return false;
  }
  if (*s) return node_refuse(c, "the equation is not valid at '%s'", str_escape(c->m->arena, s, 16));
  if (e->n != c->n_in) return node_refuse(c, "the equation has %u terms for %u inputs", e->n, c->n_in);
  return true;
}

// The implicit result: the ellipsis, then letters that occur once, in order.
static void einsum_implicit(Einsum *e) {
  char *out = e->out;
  for (uint32_t i = 0; i < e->n && out == e->out; i++)
    if (strchr(e->term[i], '.')) *out++ = '.';
  for (int ch = 'A'; ch <= 'z'; ch++) {
    int count = 0;
    for (uint32_t i = 0; i < e->n; i++)
      for (const char *p = e->term[i]; *p; p++) count += *p == ch;
    if (is_letter((char)ch) && count == 1) *out++ = (char)ch;
  }
  *out = 0;
}

// Letters that the equation does not use stand for the ellipsis axes.
static bool einsum_fresh(NodeCtx *c, Einsum *e) {
  for (uint32_t i = 0; i < e->n; i++) {
    if (!c->in[i]) return node_refuse(c, "input %u is missing", i);
    uint32_t letters = (uint32_t)strlen(e->term[i]), rank = c->in[i]->type->rank;
    if (!strchr(e->term[i], '.')) continue;
    if (rank + 1 < letters) return node_refuse(c, "input %u has rank %u, its term has more letters", i, rank);
    if (rank + 1 - letters > e->n_fresh) e->n_fresh = rank + 1 - letters;
  }
  uint32_t n = 0;
  for (int ch = 'A'; ch <= 'z' && n < e->n_fresh; ch++) {
    bool used = !is_letter((char)ch) || strchr(e->out, ch);
    for (uint32_t i = 0; i < e->n; i++) used |= strchr(e->term[i], ch) != NULL;
    if (!used) e->fresh[n++] = (char)ch;
  }
  return n == e->n_fresh || node_unsupported(c, "an equation that uses all letters");
}

// Writes the letters of operand i, dropping ellipsis axes of extent 1 where another operand is larger: they broadcast.
static Value *einsum_operand(NodeCtx *c, const Einsum *e, uint32_t i, const int64_t *extent, StrBuf *text) {
  const Type *t = c->in[i]->type;
  uint32_t axis = 0, rank = 0, dots = t->rank + 1 - (uint32_t)strlen(e->term[i]);
  int64_t dims[MAX_RANK];
  for (const char *p = e->term[i]; *p; p++) {
    for (uint32_t k = 0; k < (*p == '.' ? dots : 1); k++, axis++) {
      uint32_t f = e->n_fresh - dots + k;
      if (axis >= t->rank) {
        node_refuse(c, "input %u has rank %u, its term has more letters", i, t->rank);
        return NULL;
      }
      if (*p == '.' && t->dims[axis] == 1 && extent[f] != 1) continue;
      strbuf_putc(text, *p == '.' ? e->fresh[f] : *p);
      dims[rank++] = t->dims[axis];
    }
  }
  if (axis != t->rank) {
    node_refuse(c, "input %u has rank %u, its term has %u letters", i, t->rank, axis);
    return NULL;
  }
  return node_reshape(c, c->in[i], rank, dims);
}

// Extents of the ellipsis axes over all operands.
static void einsum_extents(NodeCtx *c, const Einsum *e, int64_t extent[MAX_RANK]) {
  for (uint32_t f = 0; f < e->n_fresh; f++) extent[f] = 1;
  for (uint32_t i = 0; i < e->n; i++) {
    const char *dot = strchr(e->term[i], '.');
    if (!dot) continue;
    uint32_t dots = c->in[i]->type->rank + 1 - (uint32_t)strlen(e->term[i]);
    for (uint32_t k = 0; k < dots; k++) {
      int64_t d = c->in[i]->type->dims[(uint32_t)(dot - e->term[i]) + k];
      if (d != 1) extent[e->n_fresh - dots + k] = d;
    }
  }
}

bool import_einsum(NodeCtx *c) {
  Einsum e;
  int64_t extent[MAX_RANK];
  StrBuf text;
  Value *in[EINSUM_TERMS];
  if (!einsum_parse(c, attr_str(c, "equation", ""), &e)) return false;
  if (!e.explicit_out) einsum_implicit(&e);
  if (!einsum_fresh(c, &e)) return false;
  einsum_extents(c, &e, extent);
  strbuf_init(&text, c->scratch);
  for (uint32_t i = 0; i < e.n; i++) {
    if (i) strbuf_putc(&text, ',');
    if (!(in[i] = einsum_operand(c, &e, i, extent, &text))) return false;
  }
  strbuf_puts(&text, "->");
  for (const char *p = e.out; *p; p++) {
    if (*p != '.') strbuf_putc(&text, *p);
    for (uint32_t f = 0; *p == '.' && f < e.n_fresh; f++) strbuf_putc(&text, e.fresh[f]);
  }
  Op *op = node_op(c, OP_EINSUM, e.n, in);
  op_set_str(op, A_EINSUM_equation, intern(c->m->names, strbuf_str(&text)));
  return node_result(c, node_done(c, op));
}
