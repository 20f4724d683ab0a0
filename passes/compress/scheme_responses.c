// A layer in two by the directions its responses really have (S39, Zhang et al.): filters U'W, then U, with U the
// leading eigenvectors of the second moments of y = W x over recorded inputs.
//
//   conv 3x3 64 -> 64   =>   conv 3x3 64 -> r ; conv 1x1 r -> 64 + bias        dense: two products
//
// The mean squared error of the responses on those inputs is the sum of the eigenvalues left out, exactly, and no other
// form of rank r has less. Energy and error of a spec are those of the responses. The error of the weights follows from
// U being orthonormal: what the other eigenvectors see of W.
//
// Behind layers that were replaced the inputs z are not those that W was trained for: W becomes M, which gives from z
// the best approximation of W x by least squares, and U are the eigenvectors of the moments of M z (the asymmetric
// form). What is lost is reckoned from W x, so the errors of the layers before are in it, and made good as far as z
// allows.
#include <math.h>
#include <string.h>

#include "passes/compress/scheme.h"

#define RIDGE 1e-6            // of the mean square of an input: directions that z lacks keep W
#define SAMPLES_PER_INPUT 4   // of M; fewer: W as it is
#define SAMPLES_PER_OUTPUT 4  // fewer would fit the samples, not what they stand for

static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  int64_t k = l->n_w / l->out, r = f->ranks[0];
  (void)arena;
  if (l->nd == 0) {
    matrix_mul(k, l->out, r, f->step[0].w, f->step[1].w, w);
  } else {
    matrix_mul(l->out, k, r, f->step[1].w, f->step[0].w, w);
  }
}

// w as out x k.
static const double *weights_by_output(const FactorLayer *l, Arena *arena) {
  if (l->nd > 0) return l->w;
  double *w = NEW_ARRAY(arena, double, l->n_w);
  tensor_permute(2, (int64_t[]){l->in, l->out}, (uint32_t[]){1, 0}, l->w, w);
  return w;
}

// M is wanted, and there are inputs enough for it.
static bool looks_at_now(const FactorLayer *l) {
  return l->stats->cross != NULL && l->stats->samples >= SAMPLES_PER_INPUT * (l->n_w / l->out);
}

static void add_form(const FactorLayer *l, const double *w, const double *v, int64_t r, double response2, Forms *out) {
  int64_t k = l->n_w / l->out, o = l->out;
  double *first = NEW_ARRAY(out->arena, double, o *k), *last = NEW_ARRAY(out->arena, double, o *r);
  Form *f = forms_add(out, "responses");
  matrix_mul(o, k, o, v, w, first);
  f->error2 = sum_of_squares((o - r) * k, first + r * k);
  if (l->nd == 0) {
    double *turned = NEW_ARRAY(out->arena, double, r *k);
    tensor_permute(2, (int64_t[]){r, k}, (uint32_t[]){1, 0}, first, turned);
    memcpy(last, v, (size_t)(r * o) * sizeof *last);
    form_matmul(f, l->in, r, turned);
    form_matmul(f, r, o, last);
  } else {
    tensor_permute(2, (int64_t[]){r, o}, (uint32_t[]){1, 0}, v, last);
    FormStep *s = form_conv(f, l->in, r, 1, first);
    for (uint32_t i = 0; i < l->nd; i++) step_take_axis(s, l, i);
    form_conv(f, r, o, 1, last);
  }
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->rebuild = rebuild;
  f->by_responses = true;
  f->response2 = response2;
  if (!looks_at_now(l)) return;
  double *back = NEW_ARRAY(out->arena, double, l->n_w);
  rebuild(l, f, back, out->arena);
  f->error2 = squared_distance(l->n_w, back, l->w);
}

// w times the moments of what x and z have in common, o x k.
static double *times_cross(const FactorLayer *l, const double *w, Arena *arena) {
  int64_t o = l->out, k = l->n_w / l->out;
  double *m = NEW_ARRAY(arena, double, o *k);
  matrix_mul(o, k, k, w, l->stats->cross, m);
  return m;
}

// M = (W E[x z'] + ridge W) (E[z z'] + ridge)^-1; NULL: no such thing.
static const double *weights_for_now(const FactorLayer *l, const double *w, Arena *arena) {
  int64_t o = l->out, k = l->n_w / l->out;
  double *m = times_cross(l, w, arena), *a = arena_copy(arena, l->stats->now, (size_t)(k * k) * sizeof *a), ridge = 0;
  for (int64_t i = 0; i < k; i++) ridge += RIDGE * a[i * k + i] / (double)k;
  for (int64_t i = 0; i < k; i++) a[i * k + i] += ridge;
  for (int64_t i = 0; i < o * k; i++) m[i] += ridge * w[i];
  return ridge > 0 && solve_positive(k, o, a, m, arena) ? m : NULL;
}

// Mean squares of u'y for the rows u of v (o x o): of y = w x with the moments of x.
static double *squares_along(int64_t o, int64_t k, const double *v, const double *left, const double *w, Arena *arena) {
  double *a = NEW_ARRAY(arena, double, o *k), *b = NEW_ARRAY(arena, double, o *k), *along = NEW_ARRAY(arena, double, o);
  matrix_mul(o, k, o, v, left, a);
  matrix_mul(o, k, o, v, w, b);
  for (int64_t i = 0; i < o; i++)
    for (int64_t j = 0; j < k; j++) along[i] += a[i * k + j] * b[i * k + j];
  return along;
}

// tail[r] = E|W x - U_r U_r' M z|^2: E|W x|^2 less what each direction gives, 2 E[(u'W x)(u'M z)] - E(u'M z)^2.
static void tail_of_now(const FactorLayer *l, const double *w, const double *m, const double *v, const double *values,
                        double *tail, Arena *arena) {
  int64_t o = l->out, k = l->n_w / l->out;
  double *half = NEW_ARRAY(arena, double, o *k);
  matrix_mul(o, k, k, w, l->stats->covariance, half);
  const double *all = squares_along(o, k, v, half, w, arena);
  const double *both = squares_along(o, k, v, times_cross(l, w, arena), m, arena);
  tail[0] = 0;
  for (int64_t i = 0; i < o; i++) tail[0] += all[i];
  for (int64_t i = 0; i < o; i++) tail[i + 1] = fmax(tail[i] - 2 * both[i] + values[i], 0);
}

void scheme_responses(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  int64_t o = l->out, k = l->n_w / l->out, ranks[2];
  if (l->group != 1 || l->stats == NULL) {
    forms_none(out, l->group != 1 ? "a layer of several groups" : "no recorded inputs reach it: give --data DIR");
    return;
  }
  if (l->stats->samples < SAMPLES_PER_OUTPUT * o) {
    forms_none(out, arena_printf(out->arena, "%lld recorded inputs of the layer say too little about %lld outputs",
                                 (long long)l->stats->samples, (long long)o));
    return;
  }
  const double *w = weights_by_output(l, out->arena), *m = w, *inputs = l->stats->covariance;
  if (looks_at_now(l) && (m = weights_for_now(l, w, out->arena)) != NULL) inputs = l->stats->now;
  if (m == NULL) {
    forms_none(out, "its inputs as they are now have no moments");
    return;
  }
  double *half = NEW_ARRAY(out->arena, double, o *k), *turned = NEW_ARRAY(out->arena, double, o *k);
  double *moments = NEW_ARRAY(out->arena, double, o *o), *values = NEW_ARRAY(out->arena, double, o);
  double *v = NEW_ARRAY(out->arena, double, o *o), *tail = NEW_ARRAY(out->arena, double, o + 1);
  matrix_mul(o, k, k, m, inputs, half);
  tensor_permute(2, (int64_t[]){o, k}, (uint32_t[]){1, 0}, m, turned);
  matrix_mul(o, o, k, half, turned, moments);
  if (!eigen_of(o, moments, out->arena, values, v)) {
    forms_none(out, "the eigenvalues of its responses do not converge");
    return;
  }
  for (int64_t i = o; i-- > 0;) tail[i] = tail[i + 1] + fmax(values[i], 0);
  if (inputs == l->stats->now) tail_of_now(l, w, m, v, values, tail, out->arena);
  uint32_t count = ranks_asked(ask, (AskStep){0, 1, tail[0], 0}, o, tail, ranks);
  for (uint32_t i = 0; i < count; i++) add_form(l, m, v, ranks[i], tail[0] > 0 ? tail[ranks[i]] / tail[0] : 0, out);
}
