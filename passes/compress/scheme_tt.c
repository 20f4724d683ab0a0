// Tensor trains (S32, S33): a dense layer with its inputs and outputs as paired modes, and convolutions as 1x1, one per
// axis, 1x1.
//
//   in = n1 n2 .. nd, out = m1 m2 .. md, core k: r(k-1) x nk x mk x rk
//
//   from the last mode to the first: [batch, m done, n left, nk rk] * [nk rk, r(k-1) mk], mk turned to the front
//
// 25088 x 4096 with modes 2x7x8x8x7x4/4x4x4x4x4x4 and rank 4 has 2016 parameters. Modes are given as
// modes=n1x..xnd/m1x..xmd, or made of the prime factors, two to four of them, the large ones inside; modes that the
// weights were made of, as far as samples tell, are tried too.
#include <string.h>

#include "passes/compress/conv_chain.h"
#include "passes/compress/planted.h"

// ---- dense

// [(nk rk)][(r(k-1) mk)] and back to [r(k-1)][nk][mk][rk].
static void core_to_step(const Train *t, uint32_t k, const int64_t *n, const int64_t *m, double *to) {
  tensor_permute(4, (int64_t[]){t->r[k], n[k], m[k], t->r[k + 1]}, (uint32_t[]){1, 3, 0, 2}, t->core[k], to);
}

static void step_to_core(const int64_t *r, uint32_t k, const int64_t *n, const int64_t *m, const double *from,
                         double *to) {
  tensor_permute(4, (int64_t[]){n[k], r[k + 1], r[k], m[k]}, (uint32_t[]){2, 0, 3, 1}, from, to);
}

// Axes n1 .. nd m1 .. md of the weights in the order n1 m1 n2 m2 ..
static void pair_modes(uint32_t d, const int64_t *n, const int64_t *m, int64_t *dims, uint32_t *perm) {
  for (uint32_t k = 0; k < d; k++) {
    dims[k] = n[k];
    dims[d + k] = m[k];
    perm[2 * k] = k;
    perm[2 * k + 1] = d + k;
  }
}

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  uint32_t d = f->n_ranks + 1, perm[2 * MAX_RANK], back[2 * MAX_RANK], k = d;
  const int64_t *n = f->dims, *m = f->dims + MAX_RANK;
  int64_t dims[2 * MAX_RANK], paired[2 * MAX_RANK];
  Train t = {.d = d, .r = {1}};
  double *a = NEW_ARRAY(arena, double, l->n_w);
  for (uint32_t i = 0; i < d; i++) t.r[i + 1] = i + 1 < d ? f->ranks[i] : 1;
  for (uint32_t i = 0; i < f->n; i++) {
    if (f->step[i].kind != FORM_MATMUL) continue;
    k--;
    t.n[k] = n[k] * m[k];
    t.core[k] = NEW_ARRAY(arena, double, t.r[k] * t.n[k] * t.r[k + 1]);
    step_to_core(t.r, k, n, m, f->step[i].w, t.core[k]);
  }
  train_tensor(&t, a, arena);
  pair_modes(d, n, m, dims, perm);
  for (uint32_t i = 0; i < 2 * d; i++) {
    paired[i] = dims[perm[i]];
    back[perm[i]] = i;
  }
  tensor_permute(2 * d, paired, back, a, w);
}

static const char *modes_text(Arena *arena, uint32_t d, const int64_t *n, const int64_t *m) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (uint32_t k = 0; k < d; k++) strbuf_printf(&b, "%c%lld", k ? 'x' : ' ', (long long)n[k]);
  for (uint32_t k = 0; k < d; k++) strbuf_printf(&b, "%c%lld", k ? 'x' : '/', (long long)m[k]);
  return strbuf_str(&b);
}

static void dense_steps(const FactorLayer *l, Form *f, const Train *t, const int64_t *n, const int64_t *m,
                        Arena *arena) {
  const Type *y = op_out(l->op, 0)->type;
  int64_t left = l->in / n[t->d - 1], done = 1, b = l->batch;  // inputs before the mode, outputs behind it
  form_move(f, 0, NULL, NULL, 2, (int64_t[]){b * left, n[t->d - 1]});
  for (uint32_t k = t->d; k-- > 0;) {
    int64_t r = t->r[k];
    double *w = NEW_ARRAY(arena, double, r *n[k] * m[k] * t->r[k + 1]);
    core_to_step(t, k, n, m, w);
    form_matmul(f, n[k] * t->r[k + 1], r * m[k], w);
    int64_t view[4] = {b, done, left * r, m[k]}, perm[4] = {0, 3, 1, 2};
    done *= m[k];
    if (k > 0) left /= n[k - 1];
    int64_t to[2] = {k > 0 ? b * done * left : 0, k > 0 ? n[k - 1] * r : 0};
    form_move(f, 4, view, perm, k > 0 ? 2 : y->rank, k > 0 ? to : y->dims);
  }
}

void tt_dense_form(const FactorLayer *l, const Train *t, const int64_t *n, const int64_t *m, double error2,
                   Forms *out) {
  Form *f = forms_add(out, "tt");
  f->n_ranks = t->d - 1;
  memcpy(f->ranks, t->r + 1, f->n_ranks * sizeof *f->ranks);
  memcpy(f->dims, n, t->d * sizeof *n);
  memcpy(f->dims + MAX_RANK, m, t->d * sizeof *m);
  f->shape = modes_text(out->arena, t->d, n, m);
  f->error2 = error2;
  f->rebuild = rebuild;
  dense_steps(l, f, t, n, m, out->arena);
}

static void dense_forms(const FactorLayer *l, uint32_t d, const int64_t *n, const int64_t *m, const FactorAsk *ask,
                        Forms *out) {
  int64_t dims[2 * MAX_RANK], modes[MAX_RANK];
  uint32_t perm[2 * MAX_RANK];
  double *a = NEW_ARRAY(out->arena, double, l->n_w), error2;
  const double *tensor = a;
  Train t;
  bool differs;
  pair_modes(d, n, m, dims, perm);
  tensor_permute(2 * d, dims, perm, l->w, a);
  for (uint32_t k = 0; k < d; k++) modes[k] = n[k] * m[k];
  if (train_of(1, d, modes, &tensor, ask, 0, &differs, out, &t, &error2)) tt_dense_form(l, &t, n, m, error2, out);
}

// ---- modes

static int64_t modes_product(uint32_t d, const int64_t *n) {
  int64_t p = 1;
  for (uint32_t i = 0; i < d; i++)
    if (!size_mul(p, n[i], &p)) return 0;
  return p;
}

// Prime factors, the largest first, each to the smallest mode so far; then the small modes outside.
static void modes_of(int64_t n, uint32_t d, int64_t *modes) {
  int64_t bins[MAX_RANK], primes[64];
  uint32_t count = 0;
  for (int64_t p = 2; n > 1; p += p * p > n ? n - p : 1)
    for (; n % p == 0; n /= p) primes[count++] = p;
  for (uint32_t k = 0; k < d; k++) bins[k] = 1;
  while (count-- > 0) {
    uint32_t small = 0;
    for (uint32_t k = 1; k < d; k++)
      if (bins[k] < bins[small]) small = k;
    bins[small] *= primes[count];
  }
  for (uint32_t i = 1; i < d; i++)
    for (uint32_t k = i; k > 0 && bins[k] < bins[k - 1]; k--) {
      int64_t t = bins[k];
      bins[k] = bins[k - 1];
      bins[k - 1] = t;
    }
  for (uint32_t i = 0; i < d; i++) modes[i % 2 ? d - 1 - i / 2 : i / 2] = bins[i];
}

static void dense(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  int64_t n[MAX_RANK], m[MAX_RANK];
  if (ask->n_in > 0) {
    if (ask->n_in != ask->n_out || modes_product(ask->n_in, ask->in) != l->in ||
        modes_product(ask->n_out, ask->out) != l->out) {
      forms_none(out, "modes of tt are n1x..xnd/m1x..xmd, as many of the input as of the output");
    } else {
      dense_forms(l, ask->n_in, ask->in, ask->out, ask, out);
    }
    return;
  }
  for (uint32_t d = 2; d <= 4; d++) {
    modes_of(l->in, d, n);
    modes_of(l->out, d, m);
    bool whole = true;
    for (uint32_t k = 0; k < d; k++) whole = whole && n[k] * m[k] > 1;
    if (whole) dense_forms(l, d, n, m, ask, out);
  }
  FactorAsk found = *ask;
  if (planted_modes(l, &found, out->arena)) dense_forms(l, found.n_in, found.in, found.out, ask, out);
  if (out->list.n == 0) forms_none(out, "its sizes have too few factors");
}

// ---- convolutions

static void conv(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  ConvChain c = {.scheme = "tt", .n = 1};
  for (uint32_t i = 0; i < l->nd; i++)
    if (l->kernel[i] > 1) c.axes[c.n++] = 1u << i;
  for (uint32_t i = 0; i < l->nd; i++)  // strides and pads of axes without a kernel
    if (l->kernel[i] == 1) c.axes[1] |= 1u << i;
  c.n++;
  if (layer_taps(l) == 1) {
    forms_none(out, "a convolution of one tap is taken by spatial_then_point");
    return;
  }
  conv_chain_forms(l, &c, ask, out);
}

void scheme_tt(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  if (l->nd == 0) {
    dense(l, ask, out);
  } else {
    conv(l, ask, out);
  }
}
