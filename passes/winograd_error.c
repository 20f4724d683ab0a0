// The rounding error of Winograd tiles, measured on a layer's weights and bounded from the matrices.
//
// The gate of a contraction is gamma_K * sum of |x||w| for each result, K terms of the direct sum. A tile shares its
// roundings among all its results, so the measure takes two kinds of inputs: dense ones of both signs, and few large
// ones among zeros, as a relu leaves them. Sums are made in float32 in the order of the kernel, over some
// of the input channels where there are many: with more terms the gate grows, the error in the same tile does not.
#include <math.h>
#include <stdlib.h>

#include "ir/elem.h"
#include "passes/winograd.h"

enum { CHANNELS = 4, INPUTS = 48, KINDS = 2, IN = WINO_POINTS };

typedef struct Sample {
  const ConvGeom *g;
  WinoMatrix by, bx, ay, ax;
  int64_t ny, nx, my, mx;
  const void *w;
  DType type;
  uint64_t state;
  int64_t o[CHANNELS];
  float m[CHANNELS][IN][IN];
  double exact[CHANNELS][WINO_TILE][WINO_TILE], mag[CHANNELS][WINO_TILE][WINO_TILE];
} Sample;

static double random_number(Sample *s) {
  s->state = s->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(s->state >> 40) * 0x1p-23 - 1;
}

static float draw(Sample *s, int kind) {
  double v = random_number(s) + random_number(s) + random_number(s), keep = random_number(s);
  return kind == 0 ? (float)v : keep > 0.8 ? (float)fabs(v) : 0;
}

static void transform_input(const Sample *s, float d[IN][IN], float v[IN][IN]) {
  float half[IN][IN];
  for (int64_t y = 0; y < s->ny; y++)
    for (int64_t j = 0; j < s->nx; j++) {
      half[y][j] = 0;
      for (int64_t x = 0; x < s->nx; x++) half[y][j] += (float)s->bx.a[j][x] * d[y][x];
    }
  for (int64_t i = 0; i < s->ny; i++)
    for (int64_t j = 0; j < s->nx; j++) {
      v[i][j] = 0;
      for (int64_t y = 0; y < s->ny; y++) v[i][j] += (float)s->by.a[i][y] * half[y][j];
    }
}

// Adds the products of a channel of inputs for output channel number k of the sample.
static void add_products(Sample *s, int k, int64_t c, float d[IN][IN], float v[IN][IN]) {
  double w[3][3], half[IN][3], row[3];
  for (int64_t i = 0; i < 9; i++) w[i / 3][i % 3] = elem_get_f(s->w, s->type, (i * s->g->c + c) * s->g->o + s->o[k]);
  for (int64_t i = 0; i < s->ny; i++) {
    wino_weight((uint32_t)i, row);
    for (int t = 0; t < 3; t++) half[i][t] = row[0] * w[0][t] + row[1] * w[1][t] + row[2] * w[2][t];
  }
  for (int64_t j = 0; j < s->nx; j++) {
    wino_weight((uint32_t)j, row);
    for (int64_t i = 0; i < s->ny; i++) {
      float u = (float)(half[i][0] * row[0] + half[i][1] * row[1] + half[i][2] * row[2]);
      s->m[k][i][j] += u * v[i][j];
    }
  }
  for (int64_t y = 0; y < s->my; y++)
    for (int64_t x = 0; x < s->mx; x++)
      for (int64_t t = 0; t < 9; t++) {
        double p = (double)d[y + t / 3][x + t % 3] * w[t / 3][t % 3];
        s->exact[k][y][x] += p;
        s->mag[k][y][x] += fabs(p);
      }
}

// The largest error of the results of output channel number k against gamma times the magnitude.
static double worst_result(const Sample *s, int k, double gamma) {
  double worst = 0;
  for (int64_t y = 0; y < s->my; y++)
    for (int64_t x = 0; x < s->mx; x++) {
      float sum = 0;
      for (int64_t j = 0; j < s->nx; j++) {
        float part = 0;
        for (int64_t i = 0; i < s->ny; i++) part += (float)s->ay.a[y][i] * s->m[k][i][j];
        sum += (float)s->ax.a[x][j] * part;
      }
      double error = fabs((double)sum - s->exact[k][y][x]), gate = gamma * s->mag[k][y][x];
      if (error > worst * gate && gate > 0) worst = error / gate;
    }
  return worst;
}

double wino_error(const Op *op, const ConvGeom *g, int64_t y, int64_t x) {
  const Const *w = op_in(op, 1)->constant;
  int64_t inputs = g->c < INPUTS ? g->c : INPUTS;
  double worst = 0, terms = 9 * (double)inputs + 2, gamma = terms * 0x1p-24 / (1 - terms * 0x1p-24);
  Sample s = {.g = g, .by = wino_input(y), .bx = wino_input(x), .ay = wino_output(y), .ax = wino_output(x)};
  s.ny = wino_points(y), s.nx = wino_points(x), s.my = y, s.mx = x;
  s.w = const_data(op->func->module, op_in(op, 1)->constant);
  s.type = w->type->dtype;
  for (int kind = 0; kind < KINDS; kind++) {
    s.state = 1 + (uint64_t)kind;
    for (int k = 0; k < CHANNELS; k++) {
      s.o[k] = (2 * k + 1) * g->o / (2 * CHANNELS);
      for (int i = 0; i < IN * IN; i++) s.m[k][i / IN][i % IN] = 0;
      for (int i = 0; i < WINO_TILE * WINO_TILE; i++)
        s.exact[k][i / WINO_TILE][i % WINO_TILE] = s.mag[k][i / WINO_TILE][i % WINO_TILE] = 0;
    }
    for (int64_t c = 0; c < inputs; c++) {
      float d[IN][IN], v[IN][IN];
      for (int64_t i = 0; i < s.ny; i++)
        for (int64_t j = 0; j < s.nx; j++) d[i][j] = draw(&s, kind);
      transform_input(&s, d, v);
      for (int k = 0; k < CHANNELS; k++) add_products(&s, k, c * g->c / inputs, d, v);
    }
    for (int k = 0; k < CHANNELS; k++) worst = fmax(worst, worst_result(&s, k, gamma));
  }
  return worst;
}

// |A| (|G| |g| |G|) (|B| |d| |B|) |A| over |g| |d|, the largest over the results of one axis; axes multiply.
static double axis_growth(int64_t size) {
  WinoMatrix in = wino_input(size), out = wino_output(size);
  double worst = 0;
  for (uint32_t k = 0; k < out.rows; k++) {
    double sum = 0;
    for (uint32_t i = 0; i < out.cols; i++) {
      double row[3], inputs = 0, weights = 0;
      wino_weight(i, row);
      for (uint32_t j = 0; j < in.cols; j++) inputs += fabs(in.a[i][j]);
      for (uint32_t j = 0; j < 3; j++) weights = fmax(weights, fabs(row[j]));
      sum += fabs(out.a[k][i]) * inputs * weights;
    }
    worst = fmax(worst, sum);
  }
  return worst;
}

double wino_bound(int64_t y, int64_t x) { return axis_growth(y) * axis_growth(x); }
