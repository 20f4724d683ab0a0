// einsum: for every assignment of the result's letters, the sum over all other letters of the product of the operands.
// A letter repeated inside one operand walks its diagonal.
#include <string.h>

#include "ir/eval_impl.h"

enum { LETTERS = 52 };

typedef struct Letters {
  uint32_t n, n_out;  // the first n_out belong to the result
  char name[LETTERS];
  int64_t dims[LETTERS];
} Letters;

static uint32_t letter_index(Letters *l, char c) {
  for (uint32_t k = 0; k < l->n; k++)
    if (l->name[k] == c) return k;
  QCC_CHECK(l->n < LETTERS, "einsum: too many letters");
  l->name[l->n] = c;
  l->dims[l->n] = 1;
  return l->n++;
}

typedef struct EinsumWalk {
  const Letters *letters;
  const int64_t *strides;  // n_in x LETTERS
  uint32_t n_in;
  int64_t at[LETTERS];
  int64_t *offsets;  // per operand
} EinsumWalk;

// The next assignment of letters first .. end; false after the last, with everything back at its start.
static bool walk_next(EinsumWalk *w, uint32_t first, uint32_t end) {
  for (uint32_t k = end; k-- > first;) {
    for (uint32_t o = 0; o < w->n_in; o++) w->offsets[o] += w->strides[o * LETTERS + k];
    if (++w->at[k] < w->letters->dims[k]) return true;
    for (uint32_t o = 0; o < w->n_in; o++) w->offsets[o] -= w->strides[o * LETTERS + k] * w->letters->dims[k];
    w->at[k] = 0;
  }
  return false;
}

static void add_product(const Nums *v, uint32_t n_in, const int64_t *offsets, double *f, int64_t *i) {
  if (v[0].f) {
    double p = 1;
    for (uint32_t o = 0; o < n_in; o++) p *= v[o].f[offsets[o]];
    *f += p;
  } else {
    uint64_t p = 1;
    for (uint32_t o = 0; o < n_in; o++) p *= (uint64_t)v[o].i[offsets[o]];
    *i = (int64_t)((uint64_t)*i + p);
  }
}

// Letters of the result first, then the others; per operand the stride of every letter.
static void einsum_parse(const Op *op, const Tensor *in, Letters *l, int64_t *strides) {
  const char *eq = op_str(op, A_EINSUM_equation), *arrow = strstr(eq, "->");
  QCC_CHECK(arrow, "einsum without '->'");
  for (const char *p = arrow + 2; *p; p++) letter_index(l, *p);
  l->n_out = l->n;
  uint32_t o = 0, axis = 0;
  int64_t own[MAX_RANK] = {0};
  tensor_strides(in[0].type, own);
  for (const char *p = eq; p < arrow; p++) {
    if (*p == ',') {
      tensor_strides(in[++o].type, own);
      axis = 0;
      continue;
    }
    uint32_t k = letter_index(l, *p);
    int64_t d = in[o].type->dims[axis];
    if (d != 1) {
      strides[o * LETTERS + k] += own[axis];
      l->dims[k] = d;
    }
    axis++;
  }
}

EVAL(einsum) {
  Letters l = {0};
  int64_t *strides = NEW_ARRAY(arena, int64_t, op->n_in *LETTERS);
  einsum_parse(op, in, &l, strides);
  bool is_float = false;
  for (uint32_t o = 0; o < op->n_in; o++) is_float |= dtype_is_float(in[o].type->dtype);
  Nums *v = NEW_ARRAY(arena, Nums, op->n_in), sums = nums_new(arena, type_count(out[0].type), is_float);
  bool empty = false;
  for (uint32_t o = 0; o < op->n_in; o++) {
    v[o] = nums_as(arena, &in[o], is_float);
    empty |= v[o].n == 0;
  }
  EinsumWalk w = {&l, strides, op->n_in, {0}, NEW_ARRAY(arena, int64_t, op->n_in)};
  for (int64_t r = 0; r < sums.n && !empty; r++) {
    double f = 0;
    int64_t i = 0;
    do add_product(v, op->n_in, w.offsets, &f, &i);
    while (walk_next(&w, l.n_out, l.n));
    if (is_float)
      sums.f[r] = f;
    else
      sums.i[r] = i;
    walk_next(&w, 0, l.n_out);
  }
  nums_store(&out[0], &sums);
  return true;
}
