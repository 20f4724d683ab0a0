// The table of schemes and what they share. See scheme.h.
#include "passes/compress/scheme.h"

#include <math.h>
#include <string.h>

// About half a minute of one core.
#define SVD_LIMIT 2e12

#define SCHEME(name, function, by_inputs, doc) void function(const FactorLayer *l, const FactorAsk *ask, Forms *out);
#include "passes/compress/schemes.def"
#undef SCHEME

static const Scheme schemes[] = {
#define SCHEME(name, function, by_inputs, doc) {#name, doc, by_inputs, function},
#include "passes/compress/schemes.def"
#undef SCHEME
};

uint32_t scheme_count(void) { return sizeof schemes / sizeof *schemes; }
const Scheme *scheme_at(uint32_t i) { return &schemes[i]; }

const Scheme *scheme_by_name(const char *name) {
  for (uint32_t i = 0; i < scheme_count(); i++)
    if (strcmp(schemes[i].name, name) == 0) return &schemes[i];
  return NULL;
}

Form *forms_add(Forms *out, const char *scheme) {
  Form *f = NEW(out->arena, Form);
  f->scheme = scheme;
  vec_push(out->arena, &out->list, f);
  return f;
}

void forms_none(Forms *out, const char *why) {
  if (out->why == NULL) out->why = why;
}

void tail_add(int64_t n, const double *s, double *tail) {
  double sum = 0;
  for (int64_t i = n; i-- > 0;) {
    sum += s[i] * s[i];
    tail[i] += sum;
  }
}

static int64_t rank_of_tail(int64_t n, const double *tail, double allowed) {
  int64_t r = 1;
  while (r < n && tail[r] > allowed) r++;
  return r;
}

uint32_t ranks_asked(const FactorAsk *ask, AskStep at, int64_t n, const double *tail, int64_t ranks[2]) {
  if (ask->by == ASK_RANK) {
    int64_t r = ask->rank[at.step < ask->n_ranks ? at.step : ask->n_ranks - 1];
    ranks[0] = r < n ? r : n;
    return 1;
  }
  double share = ask->by == ASK_ENERGY ? 1 - ask->value : ask->value * ask->value;
  ranks[0] = rank_of_tail(n, tail, (share * at.norm2 - at.spent) / (at.steps - at.step));
  int64_t whole = ask->lanes > 1 ? (ranks[0] + ask->lanes - 1) / ask->lanes * ask->lanes : ranks[0];
  if (whole == ranks[0] || whole > n) return 1;
  ranks[1] = whole;
  return 2;
}

double form_cost(const FactorLayer *l, const Form *f, const FactorGate *gate) {
  if (!gate->by_size) return form_price(l, f, gate->target);
  return (double)form_parameters(f) * dtype_info(l->dtype)->bits / 8;
}

bool scheme_svd_of(int64_t rows, int64_t cols, const double *a, Forms *out, Svd *d) {
  if (svd_cost(rows, cols) > SVD_LIMIT) {
    forms_none(out, arena_printf(out->arena,
                                 "the singular values of a %lld x %lld matrix would take %.1e multiply-adds, the limit "
                                 "is %.0e; tt works on smaller unfoldings",
                                 (long long)rows, (long long)cols, svd_cost(rows, cols), SVD_LIMIT));
    return false;
  }
  if (svd_of(rows, cols, a, out->arena, d)) return true;
  forms_none(out, "the singular values do not converge");
  return false;
}

void tensor_permute(uint32_t rank, const int64_t *dims, const uint32_t *perm, const double *from, double *to) {
  int64_t stride[MAX_RANK * 2], at[MAX_RANK * 2] = {0}, step = 1, n = 1, offset = 0;
  for (uint32_t i = rank; i-- > 0; step *= dims[i]) stride[i] = step;
  for (uint32_t i = 0; i < rank; i++) n *= dims[i];
  for (int64_t k = 0; k < n; k++) {
    to[k] = from[offset];
    for (uint32_t i = rank; i-- > 0;) {
      offset += stride[perm[i]];
      if (++at[i] < dims[perm[i]]) break;
      offset -= at[i] * stride[perm[i]];
      at[i] = 0;
    }
  }
}

void svd_split(const Svd *d, int64_t r, double *u, double *v) {
  for (int64_t k = 0; k < r; k++) {
    double root = sqrt(d->s[k]);
    for (int64_t i = 0; i < d->rows; i++) u[i * r + k] = d->u[i * d->n + k] * root;
    for (int64_t i = 0; i < d->cols; i++) v[k * d->cols + i] = d->vt[k * d->cols + i] * root;
  }
}
