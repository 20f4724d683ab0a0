// Convolution 1x1 to few channels, then the kernel (S27): in x (out taps) = (in x r) (r x out taps).
//
//   conv 3x3 64 -> 64, stride, pads   =>   conv 1x1 64 -> r ; the same conv r -> 64 + bias
//
// The first runs at the input's resolution, so with a stride this is dearer than spatial_then_point of the same rank.
// Zero padding commutes with it because it has no bias. Of a 1x1 convolution both are the same.
#include "passes/compress/scheme.h"

// out / g x in / g x taps and in / g x out / g x taps, of one group.
static void turn(const FactorLayer *l, bool back, const double *from, double *to) {
  int64_t o = l->out / l->group, i = l->in / l->group;
  int64_t dims[3] = {back ? i : o, back ? o : i, layer_taps(l)};
  tensor_permute(3, dims, (uint32_t[]){1, 0, 2}, from, to);
}

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  int64_t o = l->out / l->group, in = l->in / l->group, k = o * layer_taps(l), r = f->ranks[0], taps = layer_taps(l);
  double *u = NEW_ARRAY(arena, double, in *r), *v = NEW_ARRAY(arena, double, r *k);
  double *product = NEW_ARRAY(arena, double, in *k);
  for (int64_t g = 0; g < l->group; g++) {
    tensor_permute(2, (int64_t[]){r, in}, (uint32_t[]){1, 0}, f->step[0].w + g * r * in, u);
    tensor_permute(3, (int64_t[]){o, r, taps}, (uint32_t[]){1, 0, 2}, f->step[1].w + g * r * k, v);
    matrix_mul(in, k, r, u, v, product);
    turn(l, true, product, w + g * in * k);
  }
}

static void add_form(const FactorLayer *l, const Svd *d, const double *tail, int64_t r, Forms *out) {
  int64_t o = l->out / l->group, in = l->in / l->group, taps = layer_taps(l), k = o * taps;
  Form *f = forms_add(out, "point_then_spatial");
  double *first = NEW_ARRAY(out->arena, double, l->in *r), *then = NEW_ARRAY(out->arena, double, l->group *r *k);
  double *u = NEW_ARRAY(out->arena, double, in *r), *v = NEW_ARRAY(out->arena, double, r *k);
  for (int64_t g = 0; g < l->group; g++) {
    svd_split(&d[g], r, u, v);
    tensor_permute(2, (int64_t[]){in, r}, (uint32_t[]){1, 0}, u, first + g * r * in);
    tensor_permute(3, (int64_t[]){r, o, taps}, (uint32_t[]){1, 0, 2}, v, then + g * r * k);
  }
  form_conv(f, l->in, l->group * r, l->group, first);
  FormStep *s = form_conv(f, l->group * r, l->out, l->group, then);
  for (uint32_t i = 0; i < l->nd; i++) step_take_axis(s, l, i);
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->error2 = tail[r];
  f->rebuild = rebuild;
}

void scheme_point_then_spatial(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  if (l->nd == 0 || layer_taps(l) == 1) {
    forms_none(out, "not a convolution of more than one tap");
    return;
  }
  int64_t in = l->in / l->group, k = l->out / l->group * layer_taps(l), n = in < k ? in : k, ranks[2];
  Svd *d = NEW_ARRAY(out->arena, Svd, l->group);
  double *tail = NEW_ARRAY(out->arena, double, n + 1), *a = NEW_ARRAY(out->arena, double, in *k);
  for (int64_t g = 0; g < l->group; g++) {
    turn(l, false, l->w + g * in * k, a);
    if (!scheme_svd_of(in, k, a, out, &d[g])) return;
    tail_add(n, d[g].s, tail);
  }
  for (uint32_t i = 0, count = ranks_asked(ask, (AskStep){0, 1, l->norm2, 0}, n, tail, ranks); i < count; i++)
    add_form(l, d, tail, ranks[i], out);
}
