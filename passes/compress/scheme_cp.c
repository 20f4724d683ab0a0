// Convolution as a sum of products of vectors (CP, S34; Lebedev's form), the components found by the tensor power
// method or (cp_joint, S36) by joint diagonalisation of the kernel's slices, then refined by alternating least squares.
//
//   conv 3x3 64 -> 64   =>   conv 1x1 64 -> r ; conv 3x1 and 1x3 of r groups ; conv 1x1 r -> 64 + bias
//
// Where a price is given that the form must not exceed, fits with components past it are not tried.
//
// Two forms: an axis at a time (" by axes"), and the kernel's axes as one mode (cp_joint has only this one). Stride,
// pads and dilation are those of the filters in the middle. There is no theorem on the error: it is what is measured.
#include "passes/compress/cp.h"
#include "passes/compress/scheme.h"

#define CP_BUDGET 2e9   // multiply-adds of the sweeps of all fits of a form
#define CP_FITS 10      // numbers of components that are tried
#define CP_GLANCE 8     // part of a fit's sweeps that tell whether it comes near
#define CP_NEAR 4       // ... which is: this many times the squared error that is allowed
#define CANCELLING 1e3  // a component this many times the tensor cancels against others

// The modes of a form: output channels, input channels, then all taps or one mode per axis.
static Cp cp_modes(const FactorLayer *l, bool by_axes, int64_t room, Arena *arena) {
  int64_t n[CP_MODES] = {l->out, l->in, layer_taps(l)};
  for (uint32_t i = 0; by_axes && i < l->nd; i++) n[2 + i] = l->kernel[i];
  return cp_new(by_axes ? 2 + l->nd : 3, n, room, arena);
}

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  int64_t r = f->ranks[0];
  Cp c = cp_modes(l, f->n > 3, r, arena);
  c.r = r;
  for (int64_t q = 0; q < r; q++) {
    for (int64_t i = 0; i < l->out; i++) c.factor[0][i * r + q] = f->step[f->n - 1].w[i * r + q];
    for (int64_t i = 0; i < l->in; i++) c.factor[1][i * r + q] = f->step[0].w[q * l->in + i];
    for (uint32_t m = 2; m < c.d; m++)
      for (int64_t i = 0; i < c.n[m]; i++) c.factor[m][i * r + q] = f->step[m - 1].w[q * c.n[m] + i];
  }
  cp_tensor(&c, w, arena);
}

static void form_steps(const FactorLayer *l, uint32_t modes, int64_t r, double *const *w, Form *f) {
  for (uint32_t k = 1; k <= modes; k++) {
    uint32_t m = k < modes ? k : 0;  // input channels, taps, output channels
    FormStep *s = form_conv(f, m == 1 ? l->in : r, m == 0 ? l->out : r, m < 2 ? 1 : r, w == NULL ? NULL : w[m]);
    for (uint32_t axis = 0; m >= 2 && axis < l->nd; axis++)
      if (modes == 3 || axis == m - 2) step_take_axis(s, l, axis);
  }
}

static void add_form(const FactorLayer *l, const char *scheme, const Cp *c, double error2, Forms *out) {
  Form *f = forms_add(out, scheme);
  double *w[CP_MODES];
  int64_t r = c->r;
  f->shape = c->d > 3 ? " by axes" : NULL;
  for (uint32_t m = 0; m < c->d; m++) {
    w[m] = NEW_ARRAY(out->arena, double, c->n[m] * r);
    for (int64_t i = 0; i < c->n[m]; i++)
      for (int64_t q = 0; q < r; q++) w[m][m == 0 ? i * r + q : q * c->n[m] + i] = c->factor[m][i * c->room + q];
  }
  form_steps(l, c->d, r, w, f);
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->error2 = error2;
  f->rebuild = rebuild;
}

static bool pays(const FactorLayer *l, const FactorAsk *ask, uint32_t modes, int64_t r) {
  Form f = {.n = 0};
  if (ask->gate == NULL) return true;
  form_steps(l, modes, r, NULL, &f);
  return form_cost(l, &f, ask->gate) <= ask->gate->most;
}

// The most components of [least, most] whose price is not too high; least - 1: none.
static int64_t most_that_pay(const FactorLayer *l, const FactorAsk *ask, uint32_t modes, int64_t least, int64_t most) {
  int64_t lo = least - 1, hi = most;
  while (lo < hi) {
    int64_t mid = hi - (hi - lo) / 2;
    if (pays(l, ask, modes, mid)) {
      lo = mid;
    } else {
      hi = mid - 1;
    }
  }
  return lo;
}

static double allowed2(const FactorLayer *l, const FactorAsk *ask) {
  if (ask->by == ASK_RANK) return -1;
  return l->norm2 * (ask->by == ASK_ENERGY ? 1 - ask->value : ask->value * ask->value);
}

// The most components that take fewer operations than the layer (per result of stride 1).
static int64_t most_components(const FactorLayer *l, const FactorAsk *ask, const Cp *c) {
  int64_t full = cp_full_rank(c->d, c->n), taps = 0;
  if (ask->by == ASK_RANK) return ask->rank[0] < full ? ask->rank[0] : full;
  for (uint32_t m = 2; m < c->d; m++) taps += c->n[m];
  int64_t gain = l->n_w / (l->in + taps + l->out);
  return gain < 1 ? 1 : gain < full ? gain : full;
}

// Terms that the unfolded weights, rows x cols, need. 0 after forms_none.
static int64_t terms_of(const FactorAsk *ask, int64_t rows, int64_t cols, const double *a, double norm2, Forms *out) {
  ArenaMark mark = arena_mark(out->arena);
  int64_t ranks[2] = {0};
  Svd d;
  if (scheme_svd_of(rows, cols, a, out, &d)) {
    double *tail = NEW_ARRAY(out->arena, double, d.n + 1);
    tail_add(d.n, d.s, tail);
    ranks_asked(ask, (AskStep){0, 1, norm2, 0}, d.n, tail, ranks);
    arena_reset(out->arena, mark);
  }
  return ranks[0];
}

// No fewer components than the weights need terms, unfolded along the output channels or along the input channels.
static int64_t least_components(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  int64_t by_out = terms_of(ask, l->out, l->n_w / l->out, l->w, l->norm2, out);
  if (by_out == 0 || ask->gate == NULL) return by_out;
  ArenaMark mark = arena_mark(out->arena);
  double *turned = NEW_ARRAY(out->arena, double, l->n_w);
  tensor_permute(3, (int64_t[]){l->out, l->in, layer_taps(l)}, (uint32_t[]){1, 0, 2}, l->w, turned);
  int64_t by_in = terms_of(ask, l->in, l->n_w / l->in, turned, l->norm2, out);
  if (by_in == 0) return 0;
  arena_reset(out->arena, mark);
  return by_in > by_out ? by_in : by_out;
}

// Fits with growing numbers of components from `r` on until the error fits; by rank, the one that is asked for. A fit
// that is far off after a few sweeps is not worth all of them: the next one starts from it.
static bool fit(const FactorLayer *l, const FactorAsk *ask, Cp *c, int64_t r, int64_t most, double *error2,
                Arena *arena) {
  double allowed = allowed2(l, ask);
  if (ask->by == ASK_RANK && most == cp_full_rank(c->d, c->n)) {
    cp_fill(c, l->w);
    *error2 = 0;
    return true;
  }
  for (int i = 0; i < CP_FITS && r <= most; i++) {
    cp_grow(c, l->w, r, arena);
    double budget = CP_BUDGET / (ask->by == ASK_RANK ? 1 : CP_FITS);
    *error2 = cp_refine(c, l->w, ask->by == ASK_RANK ? budget : budget / CP_GLANCE, arena);
    if (ask->by != ASK_RANK && *error2 > allowed && *error2 <= CP_NEAR * allowed)
      *error2 = cp_refine(c, l->w, budget, arena);
    if (ask->by == ASK_RANK || *error2 <= allowed) return true;
    r += (r + 3) / 4;
  }
  return false;
}

static bool layer_fits(const FactorLayer *l, Forms *out) {
  if (l->nd > 0 && layer_taps(l) > 1 && l->group == 1) return true;
  forms_none(out, "not a convolution of one group and more than one tap");
  return false;
}

static bool cancels(const FactorLayer *l, const Cp *c, Forms *out) {
  double largest = cp_largest(c);
  if (largest * largest <= CANCELLING * CANCELLING * l->norm2) return false;
  forms_none(out, "components grow without bound and cancel");
  return true;
}

void scheme_cp(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  if (!layer_fits(l, out)) return;
  uint32_t axes = 0;
  int64_t least = ask->by == ASK_RANK ? ask->rank[0] : least_components(l, ask, out);
  if (least == 0) return;
  for (uint32_t i = 0; i < l->nd; i++) axes += l->kernel[i] > 1;
  for (int by_axes = 0; by_axes <= (axes > 1); by_axes++) {
    double error2;
    Cp none = cp_modes(l, by_axes, 1, out->arena);
    int64_t most = most_components(l, ask, &none);
    most = most_that_pay(l, ask, none.d, least < most ? least : most, most);
    if (most < 1 || (least > most && ask->by != ASK_RANK)) {
      forms_none(out, "as many components as the weights have directions take no less time");
      continue;
    }
    Cp c = cp_modes(l, by_axes, most, out->arena);
    if (!fit(l, ask, &c, least < most || ask->by != ASK_RANK ? least : most, most, &error2, out->arena)) {
      forms_none(out, "no number of components that takes fewer operations comes within the error");
    } else if (!cancels(l, &c, out)) {
      add_form(l, "cp", &c, error2, out);
    }
  }
}

void scheme_cp_joint(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  if (!layer_fits(l, out)) return;
  int64_t r = ask->by == ASK_RANK ? ask->rank[0] : least_components(l, ask, out);
  const char *why;
  if (r == 0) return;
  if (!pays(l, ask, 3, r)) {
    forms_none(out, "as many components as the weights have directions take no less time");
    return;
  }
  Cp c = cp_modes(l, false, r, out->arena);
  if (!cp_joint(&c, l->w, r, &why, out->arena)) {
    forms_none(out, why);
    return;
  }
  double error2 = cp_refine(&c, l->w, CP_BUDGET / CP_FITS, out->arena);
  if (ask->by != ASK_RANK && error2 > allowed2(l, ask)) {
    forms_none(out, "as many components as the weights have directions do not come within the error");
  } else if (!cancels(l, &c, out)) {
    add_form(l, "cp_joint", &c, error2, out);
  }
}
