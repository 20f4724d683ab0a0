// See conv_chain.h. The tensor of a group has its axes in the order (in, axes of part 0), (axes of part 1), ..,
// (axes of the last part, out); a core r x n x s is the kernel s x r x axes of its part, input channels first.
#include "passes/compress/conv_chain.h"

#include <string.h>

// The order of the axes of weights (out, in, kernel) in the train, for tensor_permute.
static uint32_t chain_order(const FactorLayer *l, const ConvChain *c, uint32_t *perm) {
  uint32_t n = 0;
  perm[n++] = 1;
  for (uint32_t part = 0; part < c->n; part++)
    for (uint32_t i = 0; i < l->nd; i++)
      if (c->axes[part] >> i & 1) perm[n++] = 2 + i;
  perm[n++] = 0;
  return n;
}

static int64_t part_taps(const FactorLayer *l, uint32_t axes) {
  int64_t n = 1;
  for (uint32_t i = 0; i < l->nd; i++)
    if (axes >> i & 1) n *= l->kernel[i];
  return n;
}

static void weight_dims(const FactorLayer *l, int64_t *dims) {
  dims[0] = l->out / l->group;
  dims[1] = l->in / l->group;
  for (uint32_t i = 0; i < l->nd; i++) dims[2 + i] = l->kernel[i];
}

// Input channels, taps and output channels of a part, per group.
typedef struct Part {
  int64_t in, taps, out;
} Part;

static Part part_of(const FactorLayer *l, const ConvChain *c, const int64_t *ranks, uint32_t part) {
  return (Part){part == 0 ? l->in / l->group : ranks[part - 1], part_taps(l, c->axes[part]),
                part + 1 == c->n ? l->out / l->group : ranks[part]};
}

// ConvChain of a form, kept in its dims.
static ConvChain chain_of(const Form *f) {
  ConvChain c = {.n = f->n};
  for (uint32_t i = 0; i < f->n; i++) c.axes[i] = (uint32_t)f->dims[i];
  return c;
}

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  ConvChain c = chain_of(f);
  int64_t dims[MAX_RANK], ordered[MAX_RANK], size = l->n_w / l->group;
  uint32_t perm[MAX_RANK], back[MAX_RANK], n = chain_order(l, &c, perm);
  double *a = NEW_ARRAY(arena, double, size);
  weight_dims(l, dims);
  for (uint32_t i = 0; i < n; i++) {
    ordered[i] = dims[perm[i]];
    back[perm[i]] = i;
  }
  for (int64_t g = 0; g < l->group; g++) {
    Train t = {.d = f->n, .r = {1}};
    for (uint32_t k = 0; k < f->n; k++) {
      Part p = part_of(l, &c, f->ranks, k);
      t.n[k] = p.taps * (k == 0 ? p.in : 1) * (k + 1 == f->n ? p.out : 1);
      t.r[k + 1] = k + 1 == f->n ? 1 : p.out;
      t.core[k] = NEW_ARRAY(arena, double, p.in *p.taps *p.out);
      tensor_permute(3, (int64_t[]){p.out, p.in, p.taps}, (uint32_t[]){1, 2, 0},
                     f->step[k].w + g * p.in * p.taps * p.out, t.core[k]);
    }
    train_tensor(&t, a, arena);
    tensor_permute(n, ordered, back, a, w + g * size);
  }
}

static void add_part(const FactorLayer *l, const ConvChain *c, const Train *trains, uint32_t k, Form *f, Arena *arena) {
  Part p = part_of(l, c, f->ranks, k);
  int64_t size = p.in * p.taps * p.out;
  double *w = NEW_ARRAY(arena, double, l->group *size);
  for (int64_t g = 0; g < l->group; g++)
    tensor_permute(3, (int64_t[]){p.in, p.taps, p.out}, (uint32_t[]){2, 0, 1}, trains[g].core[k], w + g * size);
  FormStep *s = form_conv(f, l->group * p.in, l->group * p.out, l->group, w);
  for (uint32_t i = 0; i < l->nd; i++)
    if (c->axes[k] >> i & 1) step_take_axis(s, l, i);
}

static void add_form(const FactorLayer *l, const ConvChain *c, const Train *trains, double error2, Forms *out) {
  Form *f = forms_add(out, c->scheme);
  f->shape = c->shape;
  f->n_ranks = c->n - 1;
  memcpy(f->ranks, trains[0].r + 1, f->n_ranks * sizeof *f->ranks);
  f->error2 = error2;
  f->rebuild = rebuild;
  for (uint32_t k = 0; k < c->n; k++) {
    f->dims[k] = c->axes[k];
    add_part(l, c, trains, k, f, out->arena);
  }
}

void conv_chain_forms(const FactorLayer *l, const ConvChain *c, const FactorAsk *ask, Forms *out) {
  int64_t dims[MAX_RANK], n[FORM_AXES + 2], size = l->n_w / l->group, groups = l->group;
  uint32_t perm[MAX_RANK], axes = chain_order(l, c, perm);
  double error2, **a = NEW_ARRAY(out->arena, double *, groups);
  Train *trains = NEW_ARRAY(out->arena, Train, groups);
  bool differs = true;
  weight_dims(l, dims);
  for (int64_t g = 0; g < groups; g++) {
    a[g] = NEW_ARRAY(out->arena, double, size);
    tensor_permute(axes, dims, perm, l->w + g * size, a[g]);
  }
  for (uint32_t k = 0; k < c->n; k++) n[k] = part_taps(l, c->axes[k]);
  n[0] *= l->in / groups;
  n[c->n - 1] *= l->out / groups;
  for (uint32_t variant = 0; variant < 2 && differs; variant++) {
    if (!train_of((uint32_t)groups, c->n, n, (const double *const *)a, ask, variant, &differs, out, trains, &error2))
      return;
    add_form(l, c, trains, error2, out);
  }
}
