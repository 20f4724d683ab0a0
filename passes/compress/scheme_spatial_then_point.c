// Convolution to few channels, then 1x1 (S26): out x (in taps) = (out x r) (r x in taps).
//
//   conv 3x3 64 -> 64, stride, pads, dilation   =>   the same conv 64 -> r ; conv 1x1 r -> 64 + bias
//
// With groups every group has its matrices, and all of them the same rank: error^2 is the sum of their tails. A 1x1
// convolution is a dense layer of its pixels, and this is its SVD.
#include "passes/compress/scheme.h"

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  int64_t o = l->out / l->group, k = l->n_w / l->out, r = f->ranks[0];
  (void)arena;
  for (int64_t g = 0; g < l->group; g++)
    matrix_mul(o, k, r, f->step[1].w + g * o * r, f->step[0].w + g * r * k, w + g * o * k);
}

static void add_form(const FactorLayer *l, const Svd *d, const double *tail, int64_t r, Forms *out) {
  int64_t o = l->out / l->group, k = l->n_w / l->out;
  Form *f = forms_add(out, "spatial_then_point");
  double *u = NEW_ARRAY(out->arena, double, l->out *r), *v = NEW_ARRAY(out->arena, double, l->group *r *k);
  for (int64_t g = 0; g < l->group; g++) svd_split(&d[g], r, u + g * o * r, v + g * r * k);
  FormStep *s = form_conv(f, l->in, l->group * r, l->group, v);
  for (uint32_t i = 0; i < l->nd; i++) step_take_axis(s, l, i);
  form_conv(f, l->group * r, l->out, l->group, u);
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->error2 = tail[r];
  f->rebuild = rebuild;
}

void scheme_spatial_then_point(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  if (l->nd == 0) {
    forms_none(out, "not a convolution");
    return;
  }
  int64_t o = l->out / l->group, k = l->n_w / l->out, n = o < k ? o : k, ranks[2];
  Svd *d = NEW_ARRAY(out->arena, Svd, l->group);
  double *tail = NEW_ARRAY(out->arena, double, n + 1);
  for (int64_t g = 0; g < l->group; g++) {
    if (!scheme_svd_of(o, k, l->w + g * o * k, out, &d[g])) return;
    tail_add(n, d[g].s, tail);
  }
  for (uint32_t i = 0, count = ranks_asked(ask, (AskStep){0, 1, l->norm2, 0}, n, tail, ranks); i < count; i++)
    add_form(l, d, tail, ranks[i], out);
}
