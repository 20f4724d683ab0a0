// The register tile of a step of a chain: how many rows and vectors, by what a tile costs.
//
// A step of the sum is rows * vectors multiply-adds, a load per vector and a broadcast per row; sums wait for each
// other four cycles. Loops of a side are cut at one of them, so a tile is `chunk` times everything inside. Measured: 8
// x 3 and 14 x 2 tiles reach 98 % of the limit, 16 x 1 tiles 94 % where two loads are issued beside two multiply-adds.
#include "passes/structure/chain.h"

enum { LATENCY = 4, TILE_CYCLES = 6 };

static double max2(double a, double b) { return a > b ? a : b; }

static double tile_cycles(const Target *t, double k, double rows, double vecs) {
  double sums = rows * vecs;
  double step = max2(max2(sums / t->fma_per_cycle, (rows + vecs) / t->load_per_cycle), LATENCY);
  return k * step + TILE_CYCLES + sums;
}

static int64_t side_extent(const ChainForm *f, const ChainSide *s, uint32_t i, int64_t vectors) {
  return i < s->n ? f->size[s->letter[i]] : vectors;
}

// Sets the cut of a side; the loop behind the letters is that of the vectors of the group (1 for rows).
static void side_cut(const ChainForm *f, ChainSide *s, uint32_t at, int64_t chunk, int64_t vectors) {
  s->at = at;
  s->chunk = chunk;
  s->size = chunk;
  for (uint32_t i = at + 1; i <= s->n; i++) s->size *= side_extent(f, s, i, vectors);
}

// Full tiles of a side, and what the rest of the loop that is cut makes.
static int64_t side_tiles(const ChainForm *f, const ChainSide *s, int64_t vectors, int64_t *outer, int64_t *rest) {
  *outer = 1;
  for (uint32_t i = 0; i < s->at; i++) *outer *= side_extent(f, s, i, vectors);
  int64_t extent = side_extent(f, s, s->at, vectors);
  *rest = extent % s->chunk * (s->size / s->chunk);
  return extent / s->chunk;
}

static double step_cycles(const ChainForm *f, const Target *t, const ChainStep *s, double k) {
  int64_t ro, rr, vo, vr, rows = side_tiles(f, &s->rows, 1, &ro, &rr);
  int64_t vecs = side_tiles(f, &s->vecs, s->vectors, &vo, &vr);
  double r = (double)s->rows.size, v = (double)s->vecs.size, sum = 0;
  sum += (double)rows * (double)vecs * tile_cycles(t, k, r, v);
  if (rr > 0) sum += (double)vecs * tile_cycles(t, k, (double)rr, v);
  if (vr > 0) sum += (double)rows * tile_cycles(t, k, r, (double)vr);
  if (rr > 0 && vr > 0) sum += tile_cycles(t, k, (double)rr, (double)vr);
  return sum * (double)ro * (double)vo;
}

static bool fits(const Target *t, const ChainStep *s) {
  return s->rows.size * s->vecs.size + s->vecs.size + 1 <= (int64_t)t->n_vregs;
}

static void try_rows(const ChainForm *f, const Target *t, ChainStep *s, double k, ChainStep *best) {
  for (uint32_t at = s->rows.n + 1; at-- > 0;) {
    int64_t extent = side_extent(f, &s->rows, at, 1);
    for (int64_t chunk = 1; chunk <= extent; chunk++) {
      side_cut(f, &s->rows, at, chunk, 1);
      if (!fits(t, s)) return;
      s->cycles = step_cycles(f, t, s, k);
      if (best->cycles < 0 || s->cycles < best->cycles) *best = *s;
    }
  }
}

void chain_tile(const ChainForm *f, const Target *t, ChainStep *step) {
  ChainStep s = *step, best = *step;
  double k = 1, copies = 1;
  for (uint32_t i = 0; i < s.k.n; i++) k *= (double)f->size[s.k.at[i]];
  for (uint32_t i = 0; i < s.both.n; i++) copies *= (double)f->size[s.both.at[i]];
  best.cycles = -1;
  for (uint32_t at = s.vecs.n + 1; at-- > 0;) {
    int64_t extent = side_extent(f, &s.vecs, at, s.vectors);
    for (int64_t chunk = 1; chunk <= extent && chunk < (int64_t)t->n_vregs; chunk++) {
      side_cut(f, &s.vecs, at, chunk, s.vectors);
      side_cut(f, &s.rows, s.rows.n, 1, 1);
      if (!fits(t, &s)) break;
      try_rows(f, t, &s, k, &best);
    }
  }
  *step = best;
  step->cycles *= copies;
}

int64_t chain_lanes(const Target *t, DType type, int64_t width, bool inside) {
  int64_t lanes = target_lanes(t, dtype_info(type)->bits);
  if (lanes < 1) lanes = 1;
  while (lanes > 1 && (inside ? lanes > width : lanes / 2 >= width)) lanes /= 2;
  return lanes;
}
