// Dense layer by truncated SVD (S24): y = x W, W (in x out) = (U sqrt S) (sqrt S V').
//
//   matmul %x, @w {1024 x 1024}   =>   matmul %x, @u {1024 x r} ; matmul %0, @v {r x 1024} + bias
//
// Best of its rank in the Frobenius and the spectral norm (Eckart and Young); the error is the tail of the singular
// values. Pays in arithmetic below r = in out / (in + out).
#include "passes/compress/scheme.h"

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  (void)arena;
  matrix_mul(l->in, l->out, f->ranks[0], f->step[0].w, f->step[1].w, w);
}

void scheme_svd(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  Svd d;
  if (l->nd > 0) {
    forms_none(out, "not a dense layer; convolutions of any size are taken by spatial_then_point");
    return;
  }
  if (!scheme_svd_of(l->in, l->out, l->w, out, &d)) return;
  double *tail = NEW_ARRAY(out->arena, double, d.n + 1);
  int64_t ranks[2];
  tail_add(d.n, d.s, tail);
  for (uint32_t i = 0, n = ranks_asked(ask, (AskStep){0, 1, l->norm2, 0}, d.n, tail, ranks); i < n; i++) {
    Form *f = forms_add(out, "svd");
    int64_t r = ranks[i];
    double *u = NEW_ARRAY(out->arena, double, l->in *r), *v = NEW_ARRAY(out->arena, double, r * l->out);
    svd_split(&d, r, u, v);
    form_matmul(f, l->in, r, u);
    form_matmul(f, r, l->out, v);
    f->n_ranks = 1;
    f->ranks[0] = r;
    f->error2 = tail[r];
    f->rebuild = rebuild;
  }
}
