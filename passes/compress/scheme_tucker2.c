// Convolution 1x1 to few channels, the kernel between few channels, 1x1 back (Tucker-2: both channel modes truncated).
//
//   conv 3x3 64 -> 64   =>   conv 1x1 64 -> p ; conv 3x3 p -> q, stride, pads ; conv 1x1 q -> 64 + bias
//
// Output channels are truncated first, input channels of what is left second; each is an orthogonal projection, so
// error^2 is the sum of the two tails. Ranks are given as q x p.
#include <string.h>

#include "passes/compress/scheme.h"

// Of one group: w (out x in x taps) = u (out x q) core (q x p x taps) v (p x in), both sides orthonormal.
typedef struct Tucker {
  Svd out, in;   // of out x (in taps), and of in x (q taps) of what the first leaves
  double *left;  // q x in x taps
} Tucker;

static void project_out(Tucker *t, int64_t q, Arena *arena) {
  int64_t cols = t->out.cols;
  t->left = NEW_ARRAY(arena, double, q *cols);
  for (int64_t k = 0; k < q; k++)
    for (int64_t j = 0; j < cols; j++) t->left[k * cols + j] = t->out.s[k] * t->out.vt[k * cols + j];
}

static bool read_in(const FactorLayer *l, Tucker *t, int64_t q, Forms *out) {
  int64_t in = l->in / l->group, taps = layer_taps(l);
  double *a = NEW_ARRAY(out->arena, double, in *q *taps);
  tensor_permute(3, (int64_t[]){q, in, taps}, (uint32_t[]){1, 0, 2}, t->left, a);
  return scheme_svd_of(in, q * taps, a, out, &t->in);
}

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  int64_t o = l->out / l->group, in = l->in / l->group, taps = layer_taps(l), q = f->ranks[0], p = f->ranks[1];
  double *turned = NEW_ARRAY(arena, double, in *q *taps), *left = NEW_ARRAY(arena, double, q *in *taps);
  double *core = NEW_ARRAY(arena, double, p *q *taps), *v = NEW_ARRAY(arena, double, in *p);
  for (int64_t g = 0; g < l->group; g++) {
    tensor_permute(2, (int64_t[]){p, in}, (uint32_t[]){1, 0}, f->step[0].w + g * p * in, v);
    tensor_permute(3, (int64_t[]){q, p, taps}, (uint32_t[]){1, 0, 2}, f->step[1].w + g * q * p * taps, core);
    matrix_mul(in, q * taps, p, v, core, turned);
    tensor_permute(3, (int64_t[]){in, q, taps}, (uint32_t[]){1, 0, 2}, turned, left);
    matrix_mul(o, in * taps, q, f->step[2].w + g * o * q, left, w + g * o * in * taps);
  }
}

static void add_form(const FactorLayer *l, const Tucker *t, int64_t q, int64_t p, double error2, Forms *out) {
  int64_t o = l->out / l->group, in = l->in / l->group, taps = layer_taps(l), g = l->group;
  Form *f = forms_add(out, "tucker2");
  double *first = NEW_ARRAY(out->arena, double, g *p *in), *core = NEW_ARRAY(out->arena, double, g *q *p *taps);
  double *last = NEW_ARRAY(out->arena, double, g *o *q), *v = NEW_ARRAY(out->arena, double, p *q *taps);
  double *u = NEW_ARRAY(out->arena, double, in *p);
  for (int64_t i = 0; i < g; i++) {
    svd_split(&t[i].in, p, u, v);
    tensor_permute(2, (int64_t[]){in, p}, (uint32_t[]){1, 0}, u, first + i * p * in);
    tensor_permute(3, (int64_t[]){p, q, taps}, (uint32_t[]){1, 0, 2}, v, core + i * q * p * taps);
    for (int64_t k = 0; k < o; k++)
      memcpy(last + (i * o + k) * q, t[i].out.u + k * t[i].out.n, (size_t)q * sizeof *last);
  }
  form_conv(f, l->in, g * p, g, first);
  FormStep *s = form_conv(f, g * p, g * q, g, core);
  for (uint32_t i = 0; i < l->nd; i++) step_take_axis(s, l, i);
  form_conv(f, g * q, l->out, g, last);
  f->n_ranks = 2;
  f->ranks[0] = q;
  f->ranks[1] = p;
  f->error2 = error2;
  f->rebuild = rebuild;
}

// One form: the output rank is `variant` of those asked for, the input rank alike.
static bool add_variant(const FactorLayer *l, const FactorAsk *ask, uint32_t variant, Tucker *t, const double *tail,
                        bool *differs, Forms *out) {
  int64_t in = l->in / l->group, n = t[0].out.n, ranks[2];
  uint32_t found = ranks_asked(ask, (AskStep){0, 2, l->norm2, 0}, n, tail, ranks);
  int64_t q = ranks[variant < found ? variant : found - 1], cols = q * layer_taps(l), m = in < cols ? in : cols;
  double spent = tail[q], *tail_in = NEW_ARRAY(out->arena, double, m + 1);
  *differs = found > 1;
  for (int64_t g = 0; g < l->group; g++) {
    project_out(&t[g], q, out->arena);
    if (!read_in(l, &t[g], q, out)) return false;
    tail_add(m, t[g].in.s, tail_in);
  }
  found = ranks_asked(ask, (AskStep){1, 2, l->norm2, spent}, m, tail_in, ranks);
  int64_t p = ranks[variant < found ? variant : found - 1];
  *differs = *differs || found > 1;
  add_form(l, t, q, p, spent + tail_in[p], out);
  return true;
}

void scheme_tucker2(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  int64_t o = l->out / l->group, k = l->n_w / l->out, n = o < k ? o : k;
  if (l->nd == 0 || layer_taps(l) == 1) {
    forms_none(out, "not a convolution of more than one tap");
    return;
  }
  Tucker *t = NEW_ARRAY(out->arena, Tucker, l->group);
  double *tail = NEW_ARRAY(out->arena, double, n + 1);
  for (int64_t g = 0; g < l->group; g++) {
    if (!scheme_svd_of(o, k, l->w + g * o * k, out, &t[g].out)) return;
    tail_add(n, t[g].out.s, tail);
  }
  bool differs = true;
  for (uint32_t variant = 0; variant < 2 && differs; variant++)
    if (!add_variant(l, ask, variant, t, tail, &differs, out)) return;
}
