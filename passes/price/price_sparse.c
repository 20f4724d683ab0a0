// The price of weights with zeros: a multiply-add per non-zero and vector of positions, bound by loads of x; per row of
// a part its sums and a branch that is seldom foreseen; planes made and unmade where channels come last.
//
// The rates are those of the target row. The break-even (S47) is the share of zeros from which this is the cheapest.
#include "passes/price/tiles.h"
#include "passes/sparse.h"

enum { FEWEST_ZEROS = 20, MAX_TILE = 16, ROW_CYCLES = 12, SQUARE_CYCLES = 3 };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool strategy_sparse_applies(const Op *op, const Target *t) {
  Sparse s;
  if (t->vector_bits < 128 || !sparse_of(op, &s) || s.positions < target_lanes(t, 32)) return false;
  int64_t all = type_count(s.w->type), plane = sparse_plane(&s, target_lanes(t, 32));
  if (plane > INT32_MAX / s.c || s.images * s.positions > INT32_MAX / s.o) return false;
  return 100 * (all - sparse_nonzeros(op->func->module, &s)) >= FEWEST_ZEROS * all;
}

typedef struct SparseTile {
  int64_t v, channels;
} SparseTile;

// Channels whose part of a tile of x takes half of the first-level cache; all of them in parts of one size.
static int64_t part_channels(const Sparse *s, const Target *t, int64_t v, int64_t lanes) {
  int64_t halo = 0, taps = sparse_taps(s);
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t place = sparse_tap_place(s, tap, lanes);
    if (place > halo) halo = place;
  }
  if (halo > 4 * v * lanes) halo = 4 * v * lanes;  // phases lie apart; what is read of each is a tile
  int64_t fit = (int64_t)t->l1_bytes * 6 / 10 / (4 * (v * lanes + halo));
  if (fit < 1) fit = 1;
  if (fit >= s->c) return s->c;
  return ceil_div(s->c, ceil_div(s->c, fit));
}

// Cycles of all tiles.
static double tiles_cycles(const Sparse *s, const Target *t, int64_t nonzeros, const SparseTile *tile) {
  int64_t lanes = target_lanes(t, 32), vectors = ceil_div(s->positions, lanes), parts = ceil_div(s->c, tile->channels);
  double all = (double)(s->images * vectors), tiles = (double)(s->images * ceil_div(vectors, tile->v));
  double loads = s->kernel[2] > 1 || s->positions % lanes != 0 ? 1.6 : 1;  // those across lines count twice
  double fma = 1 / t->fma_per_cycle, load = loads / t->load_per_cycle, step = fma > load ? fma : load;
  double entry = 2 / t->load_per_cycle, row = ROW_CYCLES;
  if (entry < 0.7) entry = 0.7;
  double sums = parts > 1 ? 2.0 * (double)parts / t->load_per_cycle : 1;
  return (double)nonzeros * (all * step + tiles * entry) +
         (double)s->o * (tiles * (double)parts * row + all * sums * 1.2);
}

static SparseTile tile_choose(const Sparse *s, const Target *t, int64_t nonzeros, double *cycles) {
  int64_t lanes = target_lanes(t, 32), vectors = ceil_div(s->positions, lanes);
  SparseTile best = {1, s->c};
  *cycles = tiles_cycles(s, t, nonzeros, &best);
  for (int64_t v = 2; v <= MAX_TILE && v <= vectors && v + 3 <= t->n_vregs; v++) {
    SparseTile tile = {v, part_channels(s, t, v, lanes)};
    double c = tiles_cycles(s, t, nonzeros, &tile);
    if (c >= *cycles) continue;
    best = tile;
    *cycles = c;
  }
  return best;
}

// Cycles to make planes of x and results of sums.
static double planes_cycles(const Sparse *s, const Target *t) {
  double lanes = target_lanes(t, 32), x = (double)(s->images * s->c), y = (double)(s->images * s->o), cycles = 0;
  double in = x * (double)(s->in[0] * s->in[1] * s->in[2]) / lanes, out = y * (double)s->positions / lanes;
  if (s->last) return (in + out) * SQUARE_CYCLES;
  if (!s->direct) cycles += in * 2 + x * 8;
  if (!s->dense) cycles += out * 2 + y * 8;
  return cycles;
}

void strategy_sparse_price(const Op *op, const Target *t, Price *p) {
  Sparse s;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "sparse")}, .fixed = t->call_cycles};
  if (!sparse_of(op, &s)) return;
  int64_t nonzeros = sparse_nonzeros(op->func->module, &s);
  SparseTile tile = tile_choose(&s, t, nonzeros, &p->compute);
  double x = 4.0 * (double)(s.images * s.c * s.in[0]) * (double)(s.in[1] * s.in[2]);
  double y = 4.0 * (double)(s.images * s.o * s.out[0]) * (double)(s.out[1] * s.out[2]), w = 8.0 * (double)nonzeros;
  p->memory = (x + y + w) / price_bandwidth(t, x + y + w);
  p->fixed += planes_cycles(&s, t) + (s.direct ? 0 : t->call_cycles);
  plan_add(op, &p->plan, "v", tile.v);
  if (tile.channels < s.c) plan_add(op, &p->plan, "channels", tile.channels);
}
