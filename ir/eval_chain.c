// chain: x is multiplied with one core after the other, in doubles. After each, the letters that neither a later core
// nor the result holds have been summed.
#include "ir/chain.h"
#include "ir/eval_impl.h"

// Letters of one product of two terms; the first `kept` stay.
typedef struct Product {
  uint32_t n, kept;
  int64_t size[2 * CHAIN_LETTERS], a[2 * CHAIN_LETTERS], b[2 * CHAIN_LETTERS];
} Product;

static int64_t term_stride(const ChainForm *f, const ChainTerm *t, uint32_t letter) {
  int64_t stride = 1;
  for (uint32_t i = t->n; i-- > 0; stride *= f->size[t->at[i]])
    if (t->at[i] == letter) return stride;
  return 0;
}

static bool is_needed(const ChainForm *f, uint32_t from, uint32_t letter) {
  for (uint32_t i = from; i < f->n_cores; i++)
    if (chain_term_has(&f->core[i], letter)) return true;
  return chain_term_has(&f->y, letter);
}

static void product_add(Product *p, const ChainForm *f, uint32_t letter, const ChainTerm *a, const ChainTerm *b) {
  p->size[p->n] = f->size[letter];
  p->a[p->n] = term_stride(f, a, letter);
  p->b[p->n++] = term_stride(f, b, letter);
}

// The letters that stay, in the order of `to`, then the others.
static Product product_of(const ChainForm *f, const ChainTerm *a, const ChainTerm *b, const ChainTerm *to) {
  Product p = {0};
  for (uint32_t i = 0; i < to->n; i++) product_add(&p, f, to->at[i], a, b);
  p.kept = p.n;
  for (uint32_t i = 0; i < f->n_letters; i++)
    if ((chain_term_has(a, i) || chain_term_has(b, i)) && !chain_term_has(to, i)) product_add(&p, f, i, a, b);
  return p;
}

static double *multiply(const Product *p, const double *a, const double *b, Arena *arena) {
  int64_t at[2 * CHAIN_LETTERS] = {0}, count = 1, terms = 1, ia = 0, ib = 0;
  for (uint32_t i = 0; i < p->n; i++) *(i < p->kept ? &count : &terms) *= p->size[i];
  double *to = NEW_ARRAY(arena, double, count);
  for (int64_t i = 0; i < count; i++) {
    for (int64_t k = 0; k < terms; k++) {
      to[i] += a[ia] * b[ib];
      for (uint32_t l = p->n; l-- > 0;) {
        ia += p->a[l], ib += p->b[l];
        if (++at[l] < p->size[l]) break;
        ia -= p->a[l] * p->size[l], ib -= p->b[l] * p->size[l];
        at[l] = 0;
      }
    }
  }
  return to;
}

// The letters after core number `c`: those of `now` and the core that are needed later; at the end those of the result.
static ChainTerm next_term(const ChainForm *f, const ChainTerm *now, uint32_t c) {
  ChainTerm to = {0};
  if (c + 1 == f->n_cores) return f->y;
  for (uint32_t i = 0; i < f->n_letters; i++)
    if ((chain_term_has(now, i) || chain_term_has(&f->core[c], i)) && is_needed(f, c + 1, i))
      to.at[to.n++] = (uint8_t)i;
  return to;
}

static void read_form(const Op *op, ChainForm *f) {
  const char *error = chain_read(op, f);
  QCC_CHECK(error == NULL, "eval of a chain: %s", error);
}

Nums chain_sums(const Op *op, const Tensor *in, const Type *out, Arena *arena) {
  ChainForm f;
  read_form(op, &f);
  ChainTerm now = f.x;
  double *v = floats_of(arena, &in[0]);
  for (uint32_t c = 0; c < f.n_cores; c++) {
    ChainTerm to = next_term(&f, &now, c);
    Product p = product_of(&f, &now, &f.core[c], &to);
    v = multiply(&p, v, floats_of(arena, &in[c + 1]), arena);
    now = to;
  }
  return (Nums){v, NULL, type_count(out)};
}

int64_t chain_work(const Op *op) {
  ChainForm f;
  read_form(op, &f);
  ChainTerm now = f.x;
  int64_t work = 0;
  for (uint32_t c = 0; c < f.n_cores; c++) {
    ChainTerm to = next_term(&f, &now, c);
    Product p = product_of(&f, &now, &f.core[c], &to);
    int64_t macs = 1;
    for (uint32_t i = 0; i < p.n; i++) macs = work_times(macs, p.size[i]);
    work = work_plus(work, macs);
    now = to;
  }
  return work;
}

int64_t chain_terms(const Op *op) {
  ChainForm f;
  read_form(op, &f);
  int64_t of_x = 1, of_cores = 0;
  for (uint32_t i = 0; i < f.n_letters; i++) {
    if (chain_term_has(&f.y, i)) continue;
    if (chain_term_has(&f.x, i)) {
      of_x = work_times(of_x, f.size[i]);
    } else {
      of_cores = work_plus(of_cores, f.size[i]);
    }
  }
  return work_plus(of_x, of_cores);
}
