// Greedy removal with exact bookkeeping: with P the inverse of the moments of what is left and V the least-squares
// weights, leaving out the entries B costs trace(V_B' P_BB^-1 V_B), and
//
//   V -= P_:B P_BB^-1 V_B        P -= P_:B P_BB^-1 P_B:
//
// is the solution without them (optimal brain surgeon by blocks). A little of the mean moment on the diagonal keeps P
// finite where inputs depend on each other; the weights at the end are solved for without it.
// Source: He, Zhang, Sun, Channel pruning for accelerating very deep neural networks (ICCV 2017), with this choice in
// the place of LASSO.
#include "passes/compress/refit.h"

#include <math.h>
#include <string.h>

#include "passes/compress/linalg.h"

#define RIDGE 1e-7  // of the mean of the diagonal
#define CUT 1e-11   // singular values of the moments that count as 0

static double dot(int64_t n, const double *a, const double *b) {
  double s = 0;
  for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
  return s;
}

double refit_error2(const Refit *r, const double *v, Arena *arena) {
  int64_t k = r->channels * r->taps + 1;
  ArenaMark mark = arena_mark(arena);
  double *d = NEW_ARRAY(arena, double, k * r->out), *gd = NEW_ARRAY(arena, double, k * r->out);
  for (int64_t i = 0; i < k * r->out; i++) d[i] = r->w[i] - v[i];
  matrix_mul(k, r->out, k, r->g, d, gd);
  double sum = dot(k * r->out, d, gd);
  arena_reset(arena, mark);
  return fmax(sum, 0);
}

// The inverse of a symmetric positive matrix by its eigenvectors; eigenvalues below `floor` count as it.
static bool inverse_of(int64_t n, const double *a, double floor, double *out, Arena *arena) {
  double *values = NEW_ARRAY(arena, double, n), *v = NEW_ARRAY(arena, double, n *n),
         *scaled = NEW_ARRAY(arena, double, n *n);
  if (!eigen_of(n, a, arena, values, v)) return false;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) scaled[i * n + j] = v[i * n + j] / fmax(values[i], floor);
  memset(out, 0, (size_t)(n * n) * sizeof *out);
  matrix_add_tmul(n, n, n, scaled, v, out);
  return true;
}

typedef struct Greedy {
  const Refit *r;
  int64_t k;
  double *p, *v;  // k x k, k x out
  double floor;
} Greedy;

// P_BB^-1 V_B of a channel; its trace with V_B is the loss.
static bool channel_loss(const Greedy *g, int64_t c, double *inverse, double *loss, Arena *arena) {
  int64_t t = g->r->taps, first = c * t, out = g->r->out;
  double *block = NEW_ARRAY(arena, double, t *t), *solved = NEW_ARRAY(arena, double, t *out);
  for (int64_t i = 0; i < t; i++) memcpy(block + i * t, g->p + (first + i) * g->k + first, (size_t)t * sizeof *block);
  if (!inverse_of(t, block, 1e-300, inverse, arena)) return false;
  matrix_mul(t, out, t, inverse, g->v + first * out, solved);
  *loss = dot(t * out, g->v + first * out, solved);
  return true;
}

static void channel_remove(Greedy *g, int64_t c, const double *inverse, Arena *arena) {
  int64_t t = g->r->taps, first = c * t, out = g->r->out, k = g->k;
  double *row = arena_copy(arena, g->p + first * k, (size_t)(t * k) * sizeof *row);  // P_B:
  double *part = NEW_ARRAY(arena, double, t *k), *v = NEW_ARRAY(arena, double, t *out);
  matrix_mul(t, k, t, inverse, row, part);
  matrix_mul(t, out, t, inverse, g->v + first * out, v);
  for (int64_t i = 0; i < t * k; i++) part[i] = -part[i];
  for (int64_t i = 0; i < t * out; i++) v[i] = -v[i];
  matrix_add_tmul(k, out, t, row, v, g->v);
  matrix_add_tmul(k, k, t, row, part, g->p);
  for (int64_t i = first; i < first + t; i++) memset(g->v + i * out, 0, (size_t)out * sizeof *g->v);
}

static bool greedy_choice(Greedy *g, int64_t drop, bool *gone, Arena *arena) {
  int64_t t = g->r->taps;
  double *inverse = NEW_ARRAY(arena, double, t *t), *best = NEW_ARRAY(arena, double, t *t);
  for (int64_t n = 0; n < drop; n++) {
    int64_t which = -1;
    double least = INFINITY;
    ArenaMark mark = arena_mark(arena);
    for (int64_t c = 0; c < g->r->channels; c++) {
      double loss;
      if (gone[c]) continue;
      if (!channel_loss(g, c, inverse, &loss, arena)) return false;
      arena_reset(arena, mark);
      if (loss >= least) continue;
      least = loss;
      which = c;
      memcpy(best, inverse, (size_t)(t * t) * sizeof *best);
    }
    if (which < 0) return false;
    channel_remove(g, which, best, arena);
    arena_reset(arena, mark);
    gone[which] = true;
  }
  return true;
}

// The weights of what stays: G_SS V_S = G_S: W.
static bool solve_kept(const Refit *r, const bool *gone, double *w_now, Arena *arena) {
  int64_t k = r->channels * r->taps + 1, n = 0;
  int64_t *at = NEW_ARRAY(arena, int64_t, k);
  for (int64_t i = 0; i < k; i++)
    if (i == k - 1 || !gone[i / r->taps]) at[n++] = i;
  double *a = NEW_ARRAY(arena, double, n *n), *b = NEW_ARRAY(arena, double, n * r->out),
         *v = NEW_ARRAY(arena, double, n * r->out);
  double *gw = NEW_ARRAY(arena, double, k * r->out);
  matrix_mul(k, r->out, k, r->g, r->w, gw);
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++) a[i * n + j] = r->g[at[i] * k + at[j]];
    memcpy(b + i * r->out, gw + at[i] * r->out, (size_t)r->out * sizeof *b);
  }
  if (!least_squares(n, n, r->out, a, b, CUT, v, arena)) return false;
  memset(w_now, 0, (size_t)(k * r->out) * sizeof *w_now);
  for (int64_t i = 0; i < n; i++) memcpy(w_now + at[i] * r->out, v + i * r->out, (size_t)r->out * sizeof *v);
  return true;
}

bool refit_channels(const Refit *r, int64_t drop, bool *gone, double *w_now, double *error2, double *plain2,
                    Arena *arena) {
  int64_t k = r->channels * r->taps + 1;
  double trace = 0;
  for (int64_t i = 0; i < k; i++) trace += r->g[i * k + i];
  Greedy g = {r, k, NEW_ARRAY(arena, double, k *k), arena_copy(arena, r->w, (size_t)(k * r->out) * sizeof(double)), 0};
  for (int64_t c = 0; c < r->channels; c++) gone[c] = false;
  g.floor = RIDGE * trace / (double)k;
  if (!inverse_of(k, r->g, g.floor > 0 ? g.floor : 1, g.p, arena)) return false;
  if (!greedy_choice(&g, drop, gone, arena) || !solve_kept(r, gone, w_now, arena)) return false;
  double *plain = arena_copy(arena, r->w, (size_t)(k * r->out) * sizeof *plain);
  for (int64_t i = 0; i + 1 < k; i++)
    for (int64_t o = 0; o < r->out && gone[i / r->taps]; o++) plain[i * r->out + o] = 0;
  *error2 = refit_error2(r, w_now, arena);
  *plain2 = refit_error2(r, plain, arena);
  return true;
}
