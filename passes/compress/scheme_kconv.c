// Kronecker convolution (S31, KConv): output channels k = k1 K2 + k2, input channels c = c1 C2 + c2; the kernel's axes
// go to one factor or the other.
//
//   W[k][c][h, w] = sum over t of U_t[k1][c1][h] V_t[k2][c2][w]    rows (k1 c1 h), columns (k2 c2 w), truncated
//
//   the C2 subsets of channels beside the batch: conv C1 -> K1 r along h ; turned ; beside the batch the K1: conv
//   r C2 -> K2 along w ; the channels back + bias
//
// With C2 = 1 the second is a convolution of K1 groups and nothing is turned. KConv-a, -b and -c of the paper are the
// splits (C1 = C / 2, h first), (C1 = C, w first) and (C1 = C / 2, K1 = K / 2, r = 2, h first). Splits are given as
// modes=C1xC2/K1xK2 or searched over divisors; which axes come first is always searched. Per-pixel counts without the
// halo of the intermediate mislead; the counts here are of the extents as they are.
#include <string.h>

#include "passes/compress/split.h"

enum { K1, K2, C1, C2, FIRST, RANK };  // FIRST: a bit per axis of the kernel that U has

static int64_t taps_of(const FactorLayer *l, const int64_t *k, bool first) {
  int64_t n = 1;
  for (uint32_t i = 0; i < l->nd; i++)
    if ((k[FIRST] >> i & 1) == first) n *= l->kernel[i];
  return n;
}

// Result extents between the convolutions: of axes the first has, those of y.
static void middle(const FactorLayer *l, const int64_t *k, int64_t *e) {
  for (uint32_t i = 0; i < l->nd; i++) e[i] = k[FIRST] >> i & 1 ? l->y[i] : l->x[i];
}

static double term_macs(const FactorLayer *l, const int64_t *k) {
  int64_t e[FORM_AXES];
  double first = (double)l->batch, then = (double)l->batch;
  middle(l, k, e);
  for (uint32_t i = 0; i < l->nd; i++) {
    first *= (double)e[i];
    then *= (double)l->y[i];
  }
  first *= (double)(k[C2] * k[K1] * k[C1] * taps_of(l, k, true));
  return first + then * (double)(k[K1] * k[K2] * k[C2] * taps_of(l, k, false));
}

// The order (k1 c1 axes of the first) (k2 c2 axes of the second) of the axes k1 k2 c1 c2 kernel.
static uint32_t order(const FactorLayer *l, const int64_t *k, int64_t *dims, uint32_t *perm) {
  uint32_t n = 0;
  dims[0] = k[K1];
  dims[1] = k[K2];
  dims[2] = k[C1];
  dims[3] = k[C2];
  for (uint32_t i = 0; i < l->nd; i++) dims[4 + i] = l->kernel[i];
  for (uint32_t side = 0; side < 2; side++) {
    perm[n++] = side;
    perm[n++] = 2 + side;
    for (uint32_t i = 0; i < l->nd; i++)
      if ((k[FIRST] >> i & 1) == (side == 0)) perm[n++] = 4 + i;
  }
  return n;
}

static void arrange(const FactorLayer *l, const Split *s, double *to) {
  int64_t dims[MAX_RANK];
  uint32_t perm[MAX_RANK], n = order(l, s->key, dims, perm);
  tensor_permute(n, dims, perm, l->w, to);
}

// The second factor's weights, k2 x (r c2) x taps, once or once per group.
static bool repeats(const int64_t *k) { return k[C2] == 1 && k[K1] > 1; }

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  const int64_t *k = f->dims;
  int64_t r = k[RANK], a = k[C1] * taps_of(l, k, true), b = taps_of(l, k, false), dims[MAX_RANK], back[MAX_RANK];
  uint32_t perm[MAX_RANK], inverse[MAX_RANK], n = order(l, k, dims, perm);
  double *u = NEW_ARRAY(arena, double, k[K1] * a * r), *v = NEW_ARRAY(arena, double, r *k[K2] * k[C2] * b);
  double *product = NEW_ARRAY(arena, double, l->n_w);
  const FormStep *conv[2];
  for (uint32_t i = 0, c = 0; i < f->n; i++)
    if (f->step[i].kind == FORM_CONV) conv[c++] = &f->step[i];
  tensor_permute(3, (int64_t[]){k[K1], r, a}, (uint32_t[]){0, 2, 1}, conv[0]->w, u);
  tensor_permute(3, (int64_t[]){k[K2], r, k[C2] * b}, (uint32_t[]){1, 0, 2}, conv[1]->w, v);
  matrix_mul(k[K1] * a, k[K2] * k[C2] * b, r, u, v, product);
  for (uint32_t i = 0; i < n; i++) {
    back[i] = dims[perm[i]];
    inverse[perm[i]] = i;
  }
  tensor_permute(n, back, inverse, product, w);
}

// The channels in two parts, the second to the front: [n, a, b, axes] -> [n b, a, axes].
static void move_front(Form *f, int64_t n, int64_t a, int64_t b, uint32_t nd, const int64_t *e) {
  int64_t view[MAX_RANK] = {n, a, b}, perm[MAX_RANK] = {0, 2, 1}, to[MAX_RANK] = {n * b, a};
  for (uint32_t i = 0; i < nd; i++) {
    view[3 + i] = to[2 + i] = e[i];
    perm[3 + i] = 3 + i;
  }
  form_move(f, 3 + nd, view, perm, 2 + nd, to);
}

// [n c2, k1 r, axes] -> [n k1, r c2, axes].
static void move_middle(Form *f, int64_t n, const int64_t *k, uint32_t nd, const int64_t *e) {
  int64_t r = k[RANK], view[MAX_RANK] = {n, k[C2], k[K1], r}, perm[MAX_RANK] = {0, 2, 3, 1};
  int64_t to[MAX_RANK] = {n * k[K1], r * k[C2]};
  for (uint32_t i = 0; i < nd; i++) {
    view[4 + i] = to[2 + i] = e[i];
    perm[4 + i] = 4 + i;
  }
  form_move(f, 4 + nd, view, perm, 2 + nd, to);
}

static void add_steps(const FactorLayer *l, Form *f, double *first, double *then) {
  const int64_t *k = f->dims, r = k[RANK];
  int64_t e[FORM_AXES], to[MAX_RANK] = {l->batch, l->out};
  bool groups = repeats(k);
  middle(l, k, e);
  if (k[C2] > 1) move_front(f, l->batch, k[C1], k[C2], l->nd, l->x);
  FormStep *one = form_conv(f, k[C1], k[K1] * r, 1, first);
  if (k[C2] > 1) move_middle(f, l->batch, k, l->nd, e);
  FormStep *two =
      form_conv(f, r * k[C2] * (groups ? k[K1] : 1), k[K2] * (groups ? k[K1] : 1), groups ? k[K1] : 1, then);
  for (uint32_t i = 0; i < l->nd; i++) {
    step_take_axis(k[FIRST] >> i & 1 ? one : two, l, i);
    to[2 + i] = l->y[i];
  }
  if (k[C2] > 1 && k[K1] > 1) form_move(f, 0, NULL, NULL, 2 + l->nd, to);
}

static const char *shape_text(const FactorLayer *l, const int64_t *k, Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_printf(&b, " %lldx%lld/%lldx%lld axes", (long long)k[C1], (long long)k[C2], (long long)k[K1],
                (long long)k[K2]);
  for (uint32_t side = 0; side < 2; side++) {
    strbuf_puts(&b, side ? " then " : " ");
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->nd; i++)
      if ((k[FIRST] >> i & 1) == (side == 0)) strbuf_printf(&b, "%s%u", n++ ? "," : "", i);
    if (n == 0) strbuf_puts(&b, "none");
  }
  return strbuf_str(&b);
}

static void add_form(const FactorLayer *l, const Split *s, const Svd *d, int64_t r, double error2, Forms *out) {
  const int64_t *k = s->key;
  int64_t a = k[C1] * taps_of(l, k, true), b = k[C2] * taps_of(l, k, false), copies = repeats(k) ? k[K1] : 1;
  Form *f = forms_add(out, "kconv");
  double *u = NEW_ARRAY(out->arena, double, d->rows *r), *v = NEW_ARRAY(out->arena, double, r * d->cols);
  double *first = NEW_ARRAY(out->arena, double, d->rows *r);
  double *then = NEW_ARRAY(out->arena, double, copies *r * d->cols);
  memcpy(f->dims, k, sizeof s->key);
  f->dims[RANK] = r;
  svd_split(d, r, u, v);
  tensor_permute(3, (int64_t[]){k[K1], a, r}, (uint32_t[]){0, 2, 1}, u, first);
  tensor_permute(3, (int64_t[]){r, k[K2], b}, (uint32_t[]){1, 0, 2}, v, then);
  for (int64_t i = 1; i < copies; i++) memcpy(then + i * r * d->cols, then, (size_t)(r * d->cols) * sizeof *then);
  add_steps(l, f, first, then);
  f->shape = shape_text(l, k, out->arena);
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->error2 = error2;
  f->rebuild = rebuild;
}

static void add_split(const FactorLayer *l, int64_t c1, int64_t k1, int64_t first, bool given, Splits *splits,
                      Arena *arena) {
  Split s = {.key = {k1, l->out / k1, c1, l->in / c1, first}};
  s.rows = k1 * c1 * taps_of(l, s.key, true);
  s.cols = s.key[K2] * s.key[C2] * taps_of(l, s.key, false);
  s.macs = term_macs(l, s.key);
  bool trivial = s.rows == 1 || s.cols == 1 || (k1 == 1 && c1 == l->in);  // the last are separable and like
  if (given || (!trivial && s.macs < layer_macs(l))) vec_push(arena, splits, s);
}

// Axes without a kernel go to the first factor.
static bool axes_fit(const FactorLayer *l, int64_t first) {
  for (uint32_t i = 0; i < l->nd; i++)
    if (l->kernel[i] == 1 && !(first >> i & 1)) return false;
  return true;
}

void scheme_kconv(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  static const SplitScheme scheme = {arrange, add_form};
  Splits splits = {0};
  bool given = ask->n_in > 0;
  if (l->nd == 0 || l->group > 1) {
    forms_none(out, "not a convolution of one group");
    return;
  }
  if (given &&
      (ask->n_in != 2 || ask->n_out != 2 || ask->in[0] * ask->in[1] != l->in || ask->out[0] * ask->out[1] != l->out)) {
    forms_none(out, "modes of kconv are C1xC2/K1xK2 with C1 C2 input and K1 K2 output channels");
    return;
  }
  for (int64_t c1 = 1; c1 <= l->in; c1++)
    for (int64_t k1 = 1; k1 <= l->out && l->in % c1 == 0; k1++) {
      if (l->out % k1 != 0 || (given && (c1 != ask->in[0] || k1 != ask->out[0]))) continue;
      for (int64_t first = 0; first < 1 << l->nd; first++)
        if (axes_fit(l, first)) add_split(l, c1, k1, first, given, &splits, out->arena);
    }
  split_forms(l, &splits, &scheme, ask, out);
}
