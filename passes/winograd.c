// Points, matrices and tiles of Winograd convolutions. See winograd.h.
#include "passes/winograd.h"

#include <math.h>
#include <string.h>

static const int64_t sizes[WINO_SIZES] = {6, 4, 3, 2, 1};
static const double points[WINO_POINTS] = {0, 1, -1, INFINITY, 2, -2, 0.5, -0.5};

enum { AT_INFINITY = 3, MOST_PAD = 2 };

bool wino_geom(const Op *op, ConvGeom *g) {
  if (op->kind != OP_CONV || !conv_geom(op, g) || g->group != 1 || op_out(op, 0)->type->rank != 4) return false;
  const Value *w = op_in(op, 1);
  if (!value_is_const(w) || !dtype_is_float(w->type->dtype) || w->type->dtype == DT_F64) return false;
  DType x = op_in(op, 0)->type->dtype;
  if ((x != DT_F32 && x != DT_F16 && x != DT_BF16) || !dtype_is_float(op_out(op, 0)->type->dtype)) return false;
  for (uint32_t i = 1; i < CONV_AXES; i++) {
    int64_t after = g->out[i] + 2 - g->in[i] - g->pad[i];
    if (g->kernel[i] != 3 || g->stride[i] != 1 || g->dilation[i] != 1) return false;
    if (g->pad[i] < 0 || g->pad[i] > MOST_PAD || after < 0 || after > MOST_PAD) return false;
  }
  return type_count(op_out(op, 0)->type) > 0 && g->c > 0;
}

int64_t wino_points(int64_t size) { return size + 2; }

// Coefficients of the product of (x - p) over the finite points of a tile but `left_out`, lowest power first.
static uint32_t product_of_others(int64_t n, uint32_t left_out, double *c) {
  uint32_t degree = 0;
  memset(c, 0, WINO_POINTS * sizeof *c);
  c[0] = 1;
  for (uint32_t i = 0; i < n; i++) {
    if (i == left_out || i == AT_INFINITY) continue;
    for (uint32_t k = ++degree; k > 0; k--) c[k] = c[k - 1] - points[i] * c[k];
    c[0] *= -points[i];
  }
  return degree;
}

// Row i: the Lagrange polynomial of point i over the finite points; of infinity the product of all.
WinoMatrix wino_input(int64_t size) {
  int64_t n = wino_points(size);
  WinoMatrix m = {.rows = (uint32_t)n, .cols = (uint32_t)n};
  for (uint32_t i = 0; i < n; i++) {
    double scale = 1;
    product_of_others(n, i, m.a[i]);
    for (uint32_t k = 0; i != AT_INFINITY && k < n; k++)
      if (k != i && k != AT_INFINITY) scale *= points[i] - points[k];
    for (uint32_t k = 0; k < n; k++) m.a[i][k] = m.a[i][k] / scale + 0.0;
  }
  return m;
}

WinoMatrix wino_output(int64_t size) {
  WinoMatrix m = {.rows = (uint32_t)size, .cols = (uint32_t)wino_points(size)};
  for (uint32_t k = 0; k < m.rows; k++)
    for (uint32_t i = 0; i < m.cols; i++) m.a[k][i] = i == AT_INFINITY ? k + 1 == m.rows : pow(points[i], k);
  return m;
}

void wino_weight(uint32_t point, double row[3]) {
  for (uint32_t k = 0; k < 3; k++) row[k] = point == AT_INFINITY ? k == 2 : pow(points[point], k);
}

// ---- tiles of an axis

WinoAxis wino_split(int64_t extent, int64_t most) {
  WinoAxis best = {0};
  int64_t best_cost = INT64_MAX;
  // All but the last tiles of a kind are of the largest size: at most 12 results are left for the others.
  int64_t large = extent > 12 ? (extent - 12) / most : 0, left = extent - large * most;
  int64_t cost[32] = {0}, last[32] = {0};
  QCC_CHECK(left < 32, "%lld results left for small tiles", (long long)left);
  for (int64_t n = 1; n <= left; n++) {
    best_cost = INT64_MAX;
    for (uint32_t s = 0; s < WINO_SIZES; s++) {
      int64_t m = sizes[s];
      if (m > most || m > n) continue;
      int64_t c = cost[n - m] + 1000 + m * m;
      if (c < best_cost) {
        best_cost = c;
        last[n] = m;
      }
    }
    cost[n] = best_cost;
  }
  int64_t count[WINO_TILE + 1] = {0};
  count[most] = large;
  for (int64_t n = left; n > 0; n -= last[n]) count[last[n]]++;
  for (uint32_t s = 0; s < WINO_SIZES; s++) {
    if (count[sizes[s]] == 0) continue;
    best.size[best.n] = sizes[s];
    best.count[best.n++] = count[sizes[s]];
  }
  return best;
}

int64_t wino_tiles(const WinoAxis *a) { return wino_with_point(a, 0); }

int64_t wino_with_point(const WinoAxis *a, uint32_t point) {
  int64_t n = 0;
  for (uint32_t i = 0; i < a->n; i++)
    if (point < wino_points(a->size[i])) n += a->count[i];
  return n;
}

int64_t wino_axis_points(const WinoAxis *a) { return wino_points(a->size[0]); }

const char *wino_param(bool x, int64_t size) {
  static const char *const names[2][WINO_TILE + 1] = {{"", "y1", "y2", "y3", "y4", "", "y6"},
                                                      {"", "x1", "x2", "x3", "x4", "", "x6"}};
  return names[x][size];
}

static bool read_axis(const Plan *p, bool x, int64_t extent, WinoAxis *a) {
  *a = (WinoAxis){0};
  for (uint32_t s = 0; s < WINO_SIZES; s++) {
    int64_t count = plan_param(p, wino_param(x, sizes[s]), 0);
    if (count < 0 || count > extent) return false;
    if (count == 0) continue;
    extent -= count * sizes[s];
    a->size[a->n] = sizes[s];
    a->count[a->n++] = count;
  }
  return extent == 0 && a->n > 0;
}

bool wino_of_plan(const Plan *p, const ConvGeom *g, WinoAxis *y, WinoAxis *x) {
  return read_axis(p, false, g->out[1], y) && read_axis(p, true, g->out[2], x);
}
