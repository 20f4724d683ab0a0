// Convolution as rho filters per input channel, then 1x1 (S35, depthwise separable): for every input channel the matrix
// out x taps is cut to rho terms.
//
//   conv 3x3 64 -> 128   =>   conv 3x3 64 -> 64 rho, group 64 ; conv 1x1 64 rho -> 128 + bias
//
// The rank is the depth multiplier, the same for all channels; error^2 is the sum of their tails; exact at
// min(out, taps).
#include "passes/compress/scheme.h"

// Channel c of the input: out / g x taps with the input channels of a group between them.
static void channel_matrix(const FactorLayer *l, int64_t c, double *a) {
  int64_t o = l->out / l->group, in = l->in / l->group, taps = layer_taps(l);
  const double *w = l->w + c / in * o * in * taps + c % in * taps;
  for (int64_t i = 0; i < o; i++)
    for (int64_t t = 0; t < taps; t++) a[i * taps + t] = w[i * in * taps + t];
}

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  int64_t o = l->out / l->group, in = l->in / l->group, taps = layer_taps(l), r = f->ranks[0];
  double *u = NEW_ARRAY(arena, double, o *r), *a = NEW_ARRAY(arena, double, o *taps);
  for (int64_t c = 0; c < l->in; c++) {
    const double *point = f->step[1].w + c / in * o * in * r + c % in * r;
    double *to = w + c / in * o * in * taps + c % in * taps;
    for (int64_t i = 0; i < o; i++)
      for (int64_t k = 0; k < r; k++) u[i * r + k] = point[i * in * r + k];
    matrix_mul(o, taps, r, u, f->step[0].w + c * r * taps, a);
    for (int64_t i = 0; i < o; i++)
      for (int64_t t = 0; t < taps; t++) to[i * in * taps + t] = a[i * taps + t];
  }
}

static void add_form(const FactorLayer *l, const Svd *d, const double *tail, int64_t r, Forms *out) {
  int64_t o = l->out / l->group, in = l->in / l->group, taps = layer_taps(l);
  Form *f = forms_add(out, "depthwise");
  double *filters = NEW_ARRAY(out->arena, double, l->in *r *taps),
         *point = NEW_ARRAY(out->arena, double, l->out *in *r);
  double *u = NEW_ARRAY(out->arena, double, o *r);
  for (int64_t c = 0; c < l->in; c++) {
    double *to = point + c / in * o * in * r + c % in * r;
    svd_split(&d[c], r, u, filters + c * r * taps);
    for (int64_t i = 0; i < o; i++)
      for (int64_t k = 0; k < r; k++) to[i * in * r + k] = u[i * r + k];
  }
  FormStep *s = form_conv(f, l->in, l->in * r, l->in, filters);
  for (uint32_t i = 0; i < l->nd; i++) step_take_axis(s, l, i);
  form_conv(f, l->in * r, l->out, l->group, point);
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->error2 = tail[r];
  f->rebuild = rebuild;
}

void scheme_depthwise(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  int64_t o = l->out / l->group, taps = layer_taps(l), n = o < taps ? o : taps, ranks[2];
  if (l->nd == 0 || taps == 1) {
    forms_none(out, "not a convolution of more than one tap");
    return;
  }
  Svd *d = NEW_ARRAY(out->arena, Svd, l->in);
  double *tail = NEW_ARRAY(out->arena, double, n + 1), *a = NEW_ARRAY(out->arena, double, o *taps);
  for (int64_t c = 0; c < l->in; c++) {
    channel_matrix(l, c, a);
    if (!scheme_svd_of(o, taps, a, out, &d[c])) return;
    tail_add(n, d[c].s, tail);
  }
  for (uint32_t i = 0, count = ranks_asked(ask, (AskStep){0, 1, l->norm2, 0}, n, tail, ranks); i < count; i++)
    add_form(l, d, tail, ranks[i], out);
}
