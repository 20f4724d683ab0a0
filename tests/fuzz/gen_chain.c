// Generators of factorised layers: tensor trains as one op, Kronecker products as files hold them.
#include <stdio.h>
#include <string.h>

#include "tests/fuzz/gen.h"

// A tensor train over the last axes of x, one letter an axis; those in front pass through.
bool gen_train(Gen *g) {
  Value *in[4] = {gen_need(g, "ffhd", 1, 3)};
  const Type *t = in[0]->type;
  char x[4] = "", y[8] = "", cores[40] = "", next = 'd';
  int64_t sizes[16], dims[MAX_RANK], link = 1;
  uint32_t n = 0, first = (uint32_t)rnd_in(g, 0, t->rank - 1), used = 0;
  for (uint32_t i = 0; i < t->rank; i++) {
    x[i] = (char)('a' + i);
    dims[i] = sizes[used++] = t->dims[i];
    if (i < first) y[n++] = x[i];
  }
  for (uint32_t i = first; i < t->rank; i++) {
    bool last = i + 1 == t->rank;
    int64_t m = rnd_in(g, 1, 6), rank = last ? 1 : rnd_in(g, 1, 4), core = link * t->dims[i] * m * rank;
    char before = (char)(next - 1), text[8];
    snprintf(text, sizeof text, ",%c%c%c", i > first ? before : x[i], i > first ? x[i] : next, i > first ? next : 0);
    strcat(cores, text);
    y[n++] = next++;
    sizes[used++] = dims[i] = m;
    if (!last) {
      snprintf(text, sizeof text, "%c", next++);
      strcat(cores, text);
      sizes[used++] = rank;
    }
    in[1 + i - first] = gen_const(g, gen_type(g, t->dtype, 1, &core));
    link = rank;
  }
  char equation[64];
  snprintf(equation, sizeof equation, "%s%s->%s", x, cores, y);
  Op *op = gen_op(g, OP_CHAIN, 1 + t->rank - first, in);
  op_set_str(op, A_CHAIN_equation, equation);
  op_set_ints(op, A_CHAIN_sizes, used, sizes);
  gen_result(g, op, t->dtype, t->rank, dims);
  return gen_done(g, op);
}

// A Kronecker product as files hold it: a constant on either side.
bool gen_kronecker(Gen *g) {
  Value *x = gen_need(g, "ffhd", 2, 2);
  const Type *t = x->type;
  int64_t a[2] = {rnd_in(g, 1, 9), t->dims[0]}, b[2] = {t->dims[1], rnd_in(g, 1, 9)};
  Op *left = gen_op(g, OP_MATMUL, 2, (Value *[]){gen_const(g, gen_type(g, t->dtype, 2, a)), x});
  if (!gen_done(g, left)) return false;
  return gen_done(g, gen_op(g, OP_MATMUL, 2, (Value *[]){left->out[0], gen_const(g, gen_type(g, t->dtype, 2, b))}));
}
