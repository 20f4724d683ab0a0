// The price of weights with zeros: a multiply-add per non-zero and vector of positions, bound by loads of x; per row of
// a part its sums and a branch that is seldom foreseen; planes made and unmade where channels come last.
//
// The rates are those of the target row. The break-even (S47) is the share of zeros from which this is the cheapest.
#include "ir/base/intmath.h"
#include "passes/price/tiles.h"
#include "passes/price/ties.h"
#include "passes/sparse_rows.h"

#define NEVER 1e18
#define GATHER_CYCLES 1.2    // per lane
#define PERMUTE_CYCLES 0.65  // per permutation of two registers: measured on zen5
#define SCATTER_CYCLES 2.0   // per result that is stored by itself

enum { FEWEST_ZEROS = 20, MAX_TILE = 16, ROW_CYCLES = 8, SQUARE_CYCLES = 3, FMA_LATENCY = 4, MOST_ROWS = 8 };

// Few rows: lanes are results, x comes out of a window.
static bool has_rows_form(const Sparse *s) {
  return s->last && !s->spatial && s->group == 1 && s->c >= SPARSE_WINDOW && s->positions <= MOST_ROWS;
}

static bool has_planes_form(const Sparse *s, const Target *t) { return s->positions >= target_lanes(t, 32); }

bool strategy_sparse_applies(const Op *op, const Target *t) {
  Sparse s;
  if (t->vector_bits < 128 || !sparse_of(op, &s)) return false;
  if (!has_planes_form(&s, t) && !has_rows_form(&s)) return false;
  int64_t all = sparse_entries(&s), plane = sparse_plane(&s, target_lanes(t, 32));
  if (plane > INT32_MAX / s.c || s.images * s.positions > INT32_MAX / s.o) return false;
  return 100 * (all - sparse_nonzeros(op->func->module, &s)) >= FEWEST_ZEROS * all;
}

typedef struct SparseTile {
  int64_t v, channels;
} SparseTile;

// Elements between the first and the last place of a plane that a tile of one position reads.
static int64_t halo_of(const Sparse *s, int64_t tile, int64_t lanes) {
  int64_t halo = 0, taps = sparse_taps(s);
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t place = sparse_tap_place(s, tap, lanes);
    if (place > halo) halo = place;
  }
  return halo < 4 * tile ? halo : 4 * tile;  // phases lie apart; what is read of each is a tile
}

static double part_bytes(const Sparse *s, const SparseTile *tile, int64_t lanes) {
  int64_t width = tile->v * lanes;
  return 4.0 * (double)tile->channels * (double)(width + halo_of(s, width, lanes));
}

// Loads a vector of x costs: those across cache lines count twice.
static double loads_of(const Sparse *s, int64_t lanes) {
  int64_t taps = sparse_taps(s), across = 0;
  for (int64_t tap = 0; tap < taps; tap++) across += sparse_tap_place(s, tap, lanes) % lanes != 0;
  return 1 + (double)across / (double)taps * (double)lanes / 16;
}

// Cycles of all tiles: entries by their loads, rows, and sums that wait in near caches between parts.
static double tiles_cycles(const Sparse *s, const Target *t, int64_t nonzeros, const SparseTile *tile) {
  int64_t lanes = target_lanes(t, 32), vectors = ceil_div(s->positions, lanes), parts = ceil_div(s->c, tile->channels);
  double v = (double)tile->v, count = (double)(s->images * ceil_div(vectors, tile->v));
  double entry = (v * loads_of(s, lanes) + 2) / t->sparse_loads_cycle, row = (double)(s->images * s->o);
  if (part_bytes(s, tile, lanes) > 0.6 * t->l1_bytes) {
    double far = 1 + 4 * v * (double)lanes * loads_of(s, lanes) / t->l2_bytes_cycle;
    if (far > entry) entry = far;
  }
  if (entry < FMA_LATENCY) entry = FMA_LATENCY;
  if (s->bytes && v / t->dot4_per_cycle > entry) entry = v / t->dot4_per_cycle;
  double sums = 4 * (double)(vectors * lanes) * (double)(2 * parts - 1) / ((t->l1_bytes_cycle + t->l2_bytes_cycle) / 2);
  // A tile that is not full wastes what it lacks.
  double full = (double)(s->images * vectors) / (count * v);
  return (double)nonzeros * count * entry * (0.2 + 0.8 * full) + row * sums +
         row * ROW_CYCLES * (count * (double)parts) / (double)s->images;
}

static SparseTile tile_choose(const Sparse *s, const Target *t, int64_t nonzeros, double *cycles) {
  int64_t lanes = target_lanes(t, 32), vectors = ceil_div(s->positions, lanes);
  SparseTile best = {1, s->c};
  *cycles = tiles_cycles(s, t, nonzeros, &best);
  for (int64_t v = 2; v <= MAX_TILE && v <= vectors && v + 3 <= t->n_vregs; v++)
    for (int64_t parts = 1; parts <= s->c && parts <= 64; parts++) {
      SparseTile tile = {v, ceil_div(s->c, parts)};
      if (parts > 1 && ceil_div(s->c, tile.channels) != parts) continue;
      double c = tiles_cycles(s, t, nonzeros, &tile);
      if (c < *cycles) {
        best = tile;
        *cycles = c;
      }
      if (part_bytes(s, &tile, lanes) <= 0.6 * t->l1_bytes) break;
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

static void planes_price(const Sparse *s, const Target *t, int64_t nonzeros, SparseTile *tile, Price *p) {
  *tile = tile_choose(s, t, nonzeros, &p->compute);
  double x = 4.0 * (double)(s->images * s->c * s->in[0]) * (double)(s->in[1] * s->in[2]);
  double y = 4.0 * (double)(s->images * s->o * s->out[0]) * (double)(s->out[1] * s->out[2]), w = 8.0 * (double)nonzeros;
  p->memory = (x + y + w) / price_bandwidth(t, x + y + w);
  p->fixed = t->call_cycles + planes_cycles(s, t) + (s->direct ? 0 : t->call_cycles);
}

// ---- few rows

typedef struct RowsTile {
  int64_t g, mr;
  bool blocks, sorted;
  SparseCodes codes;  // bits == 0: floats
} RowsTile;

static bool permutes_two(const Target *t) { return t->vector_bits == 512 && t->arch[0] == 'x'; }

// Cycles to look up a vector of values by their codes.
static double code_cycles(const Target *t, const SparseCodes *c) {
  double lookups = c->bits <= 5 ? 1 : (double)(1U << (c->bits - 5));
  bool permutes = permutes_two(t) || (c->bits <= 4 && t->vector_bits == 256 && t->arch[0] == 'x');
  return lookups * (permutes ? PERMUTE_CYCLES : (double)target_lanes(t, 32) * GATHER_CYCLES) + 2 * (lookups - 1);
}

// `steps`: of all groups.
static void rows_price(const Sparse *s, const Target *t, const RowsTile *r, double steps, Price *p) {
  double lanes = target_lanes(t, 32), g = (double)r->g, mr = (double)r->mr;
  double tiles = (double)ceil_div(s->positions, r->mr), groups = (double)ceil_div(s->o, r->g * (int64_t)lanes);
  double slot = r->codes.bits > 0 ? 4.0 / r->codes.slots : r->blocks ? 4 : 5, bytes = steps * (g * lanes * slot + 4);
  double loads = r->codes.bits > 0 ? 0 : r->blocks ? g : 2 * g;
  double x = r->blocks ? mr : permutes_two(t) ? 2 * mr : 0, step = (loads + x + 1) / t->sparse_loads_cycle;
  if (!r->blocks) {
    step += mr * g * (permutes_two(t) ? PERMUTE_CYCLES : lanes * GATHER_CYCLES);
    if (r->codes.bits > 0) step += g * code_cycles(t, &r->codes);
    if (step < FMA_LATENCY) step = FMA_LATENCY;
  }
  p->compute = tiles * (steps * step + groups * ROW_CYCLES) + (r->sorted ? SCATTER_CYCLES * (double)s->o : 0);
  p->memory = bytes / price_bandwidth(t, bytes) * (tiles > 1 && bytes > t->l2_bytes ? tiles : 1);
  p->fixed = t->call_cycles;
}

typedef struct RowsChoice {
  const Sparse *s;
  const Target *t;
  RowsTile best;
  Price *price;
  double cost;
} RowsChoice;

static void rows_offer(RowsChoice *c, const RowsTile *tile, double steps) {
  Price p = *c->price;
  rows_price(c->s, c->t, tile, steps, &p);
  double cost = tile->codes.bits > 0 ? price_total(&p) * CODES_SHARE : price_total(&p) * TIE_SHARE + TIE_CYCLES;
  if (tile->sorted) cost *= TIE_SHARE;
  if (c->cost > 0 && cost >= c->cost) return;
  c->best = *tile;
  c->cost = cost;
  *c->price = p;
}

// Codes of the fewest bits, or of 5 in two passes; with more rows the windows of all slots take too many registers.
static void rows_offer_codes(RowsChoice *c, const SparseFilters *f, RowsTile tile, double steps) {
  if (tile.mr > 2) tile.mr = 2;
  uint32_t bits = sparse_code_bits(f->book);
  if (sparse_codes(f->book, bits, &tile.codes)) rows_offer(c, &tile, steps);
  if (bits <= 5 || !sparse_codes(f->book, 5, &tile.codes)) return;
  int64_t lanes = target_lanes(c->t, 32);
  SparseFilters part = *f;
  for (steps = 0; part.lo < f->book->n; part.lo += tile.codes.values) {
    part.hi = part.lo + tile.codes.values;
    steps += sparse_steps(&part, tile.g * lanes, lanes, false);
  }
  rows_offer(c, &tile, steps);
}

// The window form with `g` vectors of filters, in order and sorted.
static void rows_offer_windows(RowsChoice *c, const SparseFilters *all, const SparseBook *book, int64_t g) {
  const Sparse *s = c->s;
  int64_t lanes = target_lanes(c->t, 32);
  RowsTile tile = {.g = g, .mr = s->positions < 4 ? s->positions : 4};
  while (tile.g * tile.mr + 2 * tile.mr + 2 > c->t->n_vregs) tile.mr--;
  for (int i = 0; i < 2; i++) {
    SparseFilters f = *all;
    tile.sorted = i > 0;
    if (!tile.sorted) f.order = NULL;
    tile.codes.bits = 0;
    double steps = sparse_steps(&f, tile.g * lanes, lanes, false);
    rows_offer(c, &tile, steps);
    if (book == NULL) continue;
    f.book = book;
    rows_offer_codes(c, &f, tile, steps);
  }
}

static RowsTile rows_choose(Module *m, const Sparse *s, const Target *t, Price *p) {
  int64_t lanes = target_lanes(t, 32), vectors = ceil_div(s->o, lanes);
  SparseBook book;
  const SparseBook *few = sparse_book(m, s, &book) ? &book : NULL;
  RowsChoice c = {.s = s, .t = t, .price = p};
  Arena *arena = arena_new("order");
  SparseFilters all = {.s = s, .w = const_data(m, s->w)};
  all.order = sparse_order(arena, s, all.w);
  rows_offer_windows(&c, &all, few, vectors < 4 ? vectors : 4);
  all.order = NULL;
  if (s->bytes) {
    arena_free(arena);
    return c.best;
  }
  RowsTile blocks = {.g = 1, .mr = s->positions < 3 ? s->positions : 3, .blocks = true};
  rows_offer(&c, &blocks, sparse_steps(&all, lanes, lanes, true));
  arena_free(arena);
  return c.best;
}

static void rows_plan(const Op *op, const RowsTile *r, Plan *plan) {
  plan_add(op, plan, r->blocks ? "blocks" : "g", r->blocks ? 1 : r->g);
  plan_add(op, plan, "mr", r->mr);
  if (r->sorted) plan_add(op, plan, "sort", 1);
  if (r->codes.bits > 0) plan_add(op, plan, "bits", r->codes.bits);
}

void strategy_sparse_price(const Op *op, const Target *t, Price *p) {
  Sparse s;
  Module *m = op->func->module;
  *p = (Price){.plan = {.strategy = intern(m->names, "sparse")}, .compute = NEVER};
  if (!sparse_of(op, &s)) return;
  SparseTile tile = {0};
  if (has_planes_form(&s, t)) planes_price(&s, t, sparse_nonzeros(m, &s), &tile, p);
  if (has_rows_form(&s)) {
    Price few = *p;
    RowsTile rows = rows_choose(m, &s, t, &few);
    if (price_total(&few) < price_total(p)) {
      *p = few;
      rows_plan(op, &rows, &p->plan);
      return;
    }
  }
  plan_add(op, &p->plan, "v", tile.v);
  if (tile.channels < s.c) plan_add(op, &p->plan, "channels", tile.channels);
}

// ---- against panels

// What the layer takes with all its weights, channels last.
static double dense_cycles(const Op *op, const Target *t, const Sparse *s) {
  Work w = {.copies = s->group, .n = s->o / s->group, .k = sparse_taps(s) * s->c / s->group, .type = DT_F32};
  Price p = {.fixed = t->call_cycles};
  w.rows = s->images * s->out[0] * s->out[1];
  w.m = s->out[2];
  w.row_run = s->out[1] > 1 ? s->out[1] : 1;
  if (s->last || s->dense) {
    w.m *= w.rows;
    w.rows = w.row_run = 1;
  }
  w.k_inner = w.k;
  w.x_step = s->c * s->stride[2] * 4;
  w.x_bytes = 4.0 * (double)(s->images * s->c * s->in[0]) * (double)(s->in[1] * s->in[2]);
  w.y_bytes = 4.0 * (double)(s->images * s->o * s->out[0]) * (double)(s->out[1] * s->out[2]);
  w.w_bytes = 4.0 * (double)type_count(s->w->type);
  price_tiles(op, t, &w, &p);
  return price_total(&p);
}

// Zeros without structure. Lanes of a window that are used at a density: measured (kernel-studies.md, section 4).
static double sparse_cycles(const Target *t, const Sparse *s, int64_t nonzeros) {
  Price p = {0}, few = {0};
  SparseTile tile;
  planes_price(s, t, nonzeros, &tile, &p);
  if (!has_rows_form(s)) return price_total(&p);
  double lanes = target_lanes(t, 32), density = (double)nonzeros / (double)type_count(s->w->type);
  double used = 0.55 + 0.75 * density < 0.95 ? 0.55 + 0.75 * density : 0.95;
  RowsTile rows = {.g = 4, .mr = s->positions < 4 ? s->positions : 4};
  rows_price(s, t, &rows, (double)nonzeros / (used * 4 * lanes), &few);
  return !has_planes_form(s, t) || price_total(&few) < price_total(&p) ? price_total(&few) : price_total(&p);
}

bool price_stays_first(const Op *op, const Target *t) {
  Sparse s;
  if (!strategy_sparse_applies(op, t) || !sparse_of(op, &s) || s.last) return false;
  return sparse_cycles(t, &s, sparse_nonzeros(op->func->module, &s)) < dense_cycles(op, t, &s);
}

bool price_break_even(const Op *op, const Target *t, double *zeros, double *even) {
  Sparse s;
  if (t->vector_bits < 128 || !sparse_of(op, &s) || s.bytes) return false;
  if (!has_planes_form(&s, t) && !has_rows_form(&s)) return false;
  int64_t all = type_count(s.w->type), lo = 0, hi = all;
  *zeros = 1 - (double)sparse_nonzeros(op->func->module, &s) / (double)all;
  double dense = dense_cycles(op, t, &s);
  while (lo < hi) {  // most non-zeros that are not slower
    int64_t mid = hi - (hi - lo) / 2;
    if (sparse_cycles(t, &s, mid) <= dense) {
      lo = mid;
    } else {
      hi = mid - 1;
    }
  }
  *even = 1 - (double)lo / (double)all;
  return true;
}
