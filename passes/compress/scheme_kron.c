// Dense layer as a sum of Kronecker products (S30, Van Loan and Pitsianis): W = sum over t of U_t (x) V_t.
//
//   in = n1 n2, out = m1 m2, W[(j1 j2)][(i1 i2)] rearranged to rows (j1 i1), columns (j2 i2) and truncated
//
//   x as [n1, n2] * V -> [n1, r, m2] ; turned to [m2, n1 r] * U -> [m2, m1] ; turned to [m1, m2] + bias
//
// or U first and V second, whichever takes fewer operations. Best of its shape and rank in the Frobenius norm. Shapes
// are divisors of in and out, given as modes=n1xn2/m1xm2 or searched.
#include <string.h>

#include "passes/compress/split.h"

enum { N1, N2, M1, M2, U_FIRST, RANK };

static double term_macs(const int64_t *k, bool u_first) {
  double n1 = (double)k[N1], n2 = (double)k[N2], m1 = (double)k[M1], m2 = (double)k[M2];
  return u_first ? n1 * n2 * m1 + n2 * m1 * m2 : n1 * n2 * m2 + n1 * m1 * m2;
}

static void arrange(const FactorLayer *l, const Split *s, double *to) {
  tensor_permute(4, (int64_t[]){s->key[N1], s->key[N2], s->key[M1], s->key[M2]}, (uint32_t[]){0, 2, 1, 3}, l->w, to);
}

// The factors as the products read them: U as (n1 r) x m1 and V as n2 x (r m2) where V is first, U as n1 x (r m1) and V
// as (n2 r) x m2 where U is.
static void rebuild(const FactorLayer *l, const Form *f, double *w, Arena *arena) {
  const int64_t *k = f->dims;
  int64_t r = k[RANK];
  double *u = NEW_ARRAY(arena, double, k[N1] * k[M1] * r), *v = NEW_ARRAY(arena, double, r *k[N2] * k[M2]);
  double *product = NEW_ARRAY(arena, double, l->n_w);
  const FormStep *first = NULL, *then = NULL;
  for (uint32_t i = 0; i < f->n; i++) {
    if (f->step[i].kind != FORM_MATMUL) continue;
    if (first == NULL) {
      first = &f->step[i];
    } else {
      then = &f->step[i];
    }
  }
  tensor_permute(3, (int64_t[]){k[N1], r, k[M1]}, (uint32_t[]){0, 2, 1}, k[U_FIRST] ? first->w : then->w, u);
  tensor_permute(3, (int64_t[]){k[N2], r, k[M2]}, (uint32_t[]){1, 0, 2}, k[U_FIRST] ? then->w : first->w, v);
  matrix_mul(k[N1] * k[M1], k[N2] * k[M2], r, u, v, product);
  tensor_permute(4, (int64_t[]){k[N1], k[M1], k[N2], k[M2]}, (uint32_t[]){0, 2, 1, 3}, product, w);
}

static void result_dims(const FactorLayer *l, uint32_t *rank, const int64_t **dims) {
  const Type *y = op_out(l->op, 0)->type;
  *rank = y->rank;
  *dims = y->dims;
}

static void steps_v_first(const FactorLayer *l, Form *f, double *u, double *v) {
  const int64_t *k = f->dims, b = l->batch, r = k[RANK], *y;
  uint32_t rank;
  result_dims(l, &rank, &y);
  form_move(f, 0, NULL, NULL, 2, (int64_t[]){b * k[N1], k[N2]});
  form_matmul(f, k[N2], r * k[M2], v);
  form_move(f, 4, (int64_t[]){b, k[N1], r, k[M2]}, (int64_t[]){0, 3, 1, 2}, 2, (int64_t[]){b * k[M2], k[N1] * r});
  form_matmul(f, k[N1] * r, k[M1], u);
  form_move(f, 3, (int64_t[]){b, k[M2], k[M1]}, (int64_t[]){0, 2, 1}, rank, y);
}

static void steps_u_first(const FactorLayer *l, Form *f, double *u, double *v) {
  const int64_t *k = f->dims, b = l->batch, r = k[RANK], *y;
  uint32_t rank;
  result_dims(l, &rank, &y);
  form_move(f, 3, (int64_t[]){b, k[N1], k[N2]}, (int64_t[]){0, 2, 1}, 2, (int64_t[]){b * k[N2], k[N1]});
  form_matmul(f, k[N1], r * k[M1], u);
  form_move(f, 4, (int64_t[]){b, k[N2], r, k[M1]}, (int64_t[]){0, 3, 1, 2}, 2, (int64_t[]){b * k[M1], k[N2] * r});
  form_matmul(f, k[N2] * r, k[M2], v);
  form_move(f, 0, NULL, NULL, rank, y);
}

static void add_form(const FactorLayer *l, const Split *s, const Svd *d, int64_t r, double error2, Forms *out) {
  const int64_t *k = s->key;
  Form *f = forms_add(out, "kron");
  double *u = NEW_ARRAY(out->arena, double, d->rows *r), *v = NEW_ARRAY(out->arena, double, r * d->cols);
  double *u_step = NEW_ARRAY(out->arena, double, d->rows *r), *v_step = NEW_ARRAY(out->arena, double, r * d->cols);
  memcpy(f->dims, k, sizeof s->key);
  f->dims[RANK] = r;
  svd_split(d, r, u, v);
  tensor_permute(3, (int64_t[]){k[N1], k[M1], r}, (uint32_t[]){0, 2, 1}, u, u_step);
  tensor_permute(3, (int64_t[]){r, k[N2], k[M2]}, (uint32_t[]){1, 0, 2}, v, v_step);
  if (k[U_FIRST]) {
    steps_u_first(l, f, u_step, v_step);
  } else {
    steps_v_first(l, f, u_step, v_step);
  }
  f->shape = arena_printf(out->arena, " %lldx%lld/%lldx%lld", (long long)k[N1], (long long)k[N2], (long long)k[M1],
                          (long long)k[M2]);
  f->n_ranks = 1;
  f->ranks[0] = r;
  f->error2 = error2;
  f->rebuild = rebuild;
}

static void add_split(const FactorLayer *l, int64_t n1, int64_t m1, bool given, Splits *splits, Arena *arena) {
  Split s = {.key = {n1, l->in / n1, m1, l->out / m1}};
  s.rows = n1 * m1;
  s.cols = s.key[N2] * s.key[M2];
  s.key[U_FIRST] = term_macs(s.key, true) < term_macs(s.key, false);
  s.macs = (double)l->batch * term_macs(s.key, s.key[U_FIRST]);
  bool low_rank = (n1 == l->in && m1 == 1) || (n1 == 1 && m1 == l->out);
  if (given || (s.rows > 1 && s.cols > 1 && !low_rank && s.macs < layer_macs(l))) vec_push(arena, splits, s);
}

void scheme_kron(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  static const SplitScheme scheme = {arrange, add_form};
  Splits splits = {0};
  if (l->nd > 0) {
    forms_none(out, "not a dense layer; kconv takes convolutions");
    return;
  }
  if (ask->n_in > 0) {
    if (ask->n_in != 2 || ask->n_out != 2 || ask->in[0] * ask->in[1] != l->in || ask->out[0] * ask->out[1] != l->out) {
      forms_none(out, "modes of kron are n1xn2/m1xm2 with n1 n2 inputs and m1 m2 outputs");
      return;
    }
    add_split(l, ask->in[0], ask->out[0], true, &splits, out->arena);
  }
  for (int64_t n1 = 1; n1 <= l->in && ask->n_in == 0; n1++)
    for (int64_t m1 = 1; m1 <= l->out && l->in % n1 == 0; m1++)
      if (l->out % m1 == 0) add_split(l, n1, m1, false, &splits, out->arena);
  split_forms(l, &splits, &scheme, ask, out);
}
