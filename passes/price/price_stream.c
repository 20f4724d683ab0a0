// The price of weights of few bits read once: bytes of the weights against dot products of four, plus taking the fields
// of a byte apart, which the rows of x in a tile share.
#include "passes/contraction.h"
#include "passes/lowbit.h"
#include "passes/price/tiles.h"

enum { ISSUE = 6, LATENCY = 4, MOST_SUM = 65000, TILE_CYCLES = 12 };
enum { BOOK_BYTES = 3, VECTOR_ISSUE = 4 };

#define PERMUTES_CYCLE 2.0  // of bytes of two vectors, per cycle

// x are bytes and the result is an integer, or x are floats and the weights carry scales. Bytes times bytes need
// nothing taken apart: that is dot8.
static bool types_fit(const Op *op, const LowBit *w) {
  DType x = op_in(op, 0)->type->dtype;
  const Value *bias = op_in(op, 2);
  if (w->scaled) return x == DT_F32 && op_int(op, A_MATMUL_x_zero) == 0;
  return w->bits <= 6 && is_byte(op_in(op, 0)) && (bias == NULL || bias->type->dtype == DT_I32);
}

// Codes of a book: bytes permuted by bytes, sums below 2^31.
static bool book_fits(const LowBit *w, const Target *t) {
  return t->has_lookup64 && t->has_dot4 && t->vector_bits == 512 && w->k < MOST_SUM;
}

bool strategy_stream_applies(const Op *op, const Target *t) {
  LowBit w;
  MatmulGeom g;
  if (op->kind != OP_MATMUL || t->vector_bits < 128 || is_empty(op) || !matmul_geom(op, &g)) return false;
  if (g.a_vector || g.b_vector || op_in(op, 1)->type->rank != 2) return false;
  if (!matmul_rows_merge(op, &g) || !lowbit_of(op, &w) || !types_fit(op, &w)) return false;
  return w.book == NULL || book_fits(&w, t);
}

// What one register tile does for 4 k: g vectors of rows, mr rows of x in `slices` pieces.
typedef struct StreamTile {
  int64_t g, mr, slices;
  bool scaled;    // every field has a sum of its own, so none is shifted
  int64_t books;  // codes of a book: permutations per vector of codes; else 0
} StreamTile;

static int64_t fields_of(const LowBitParts *p) {
  int64_t n = 0;
  for (uint32_t i = 0; i < p->n; i++) n += 8 / p->width[i];
  return n;
}

// Products of bytes of the weights and slices of x.
static int64_t book_products(const StreamTile *s) { return s->slices == 3 ? 6 : s->slices == 2 ? 5 : 3; }

static int64_t sums_of(const LowBitParts *p, const StreamTile *s) {
  if (s->books > 0) return s->g * s->mr * book_products(s);
  return s->g * s->mr * s->slices * (s->scaled ? fields_of(p) : (int64_t)p->n);
}

static bool tile_fits(const Target *t, const LowBit *w, const LowBitParts *p, const StreamTile *s) {
  int64_t held = sums_of(p, s) + s->g + 2 + (s->books > 0 ? 4 : 0);
  if (w->scaled && s->slices * s->mr * s->g > 4) held += s->mr * s->g;
  return held <= t->n_vregs && (!s->scaled || w->block / fields_of(p) < MOST_SUM);
}

static double max2(double a, double b) { return a > b ? a : b; }
static double min2(double a, double b) { return a < b ? a : b; }

// The same of a book: permutations and choices that the rows of a tile share.
static double book_cycles(const Target *t, const StreamTile *s) {
  double g = (double)s->g, mr = (double)s->mr, looks = g * (double)s->books, dots = g * mr * (double)book_products(s);
  double loads = g + mr * (double)s->slices, choices = s->books > BOOK_BYTES ? looks / 2 + g : 0;
  double busy = max2(dots / t->dot4_per_cycle, looks / PERMUTES_CYCLE);
  return max2(max2(busy, loads / t->load_per_cycle), (dots + looks + choices + loads) / VECTOR_ISSUE);
}

// Cycles of a tile for 4 k of all its parts.
static double step_cycles(const Target *t, const LowBitParts *p, const StreamTile *s) {
  if (s->books > 0) return book_cycles(t, s);
  double g = (double)s->g, pixels = (double)(s->mr * s->slices), sum = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    double fields = 8.0 / p->width[i], ands = p->width[i] == 8 ? 0 : g;
    double shifts = s->scaled ? 0 : ands * (fields - 1) / fields, loads = g / fields + pixels;
    double dots = g * pixels, unit = max2(dots, shifts) / t->dot4_per_cycle, load = loads / t->load_per_cycle;
    double step = max2(max2(unit, load) + 0.15 * min2(unit, load), (dots + ands + shifts + loads) / ISSUE);
    sum += max2(step, LATENCY / (s->scaled ? fields : 1));
  }
  return sum;
}

// All cycles with such tiles; blocks end with a conversion and a scale.
static double stream_cycles(const Work *work, const Target *t, const LowBit *w, const LowBitParts *p,
                            const StreamTile *s) {
  int64_t lanes = target_lanes(t, 32), vectors = (w->n + lanes - 1) / lanes, m = work->m * work->rows;
  double tiles = (double)((vectors + s->g - 1) / s->g) * (double)((m + s->mr - 1) / s->mr);
  double end = (double)(sums_of(p, s) + 3 * s->g * s->mr * s->slices) / 2 + (w->scaled ? 2 : 8);
  return tiles * ((double)w->k / 4 * step_cycles(t, p, s) + (double)lowbit_blocks(w) * end + TILE_CYCLES);
}

static StreamTile tile_choose(const Work *work, const Target *t, const LowBit *w, const LowBitParts *p, int64_t slices,
                              double *cycles) {
  int64_t books = w->book == NULL ? 0 : w->bits > 7 ? 2 * BOOK_BYTES : BOOK_BYTES;
  StreamTile best = {1, 1, slices, false, books};
  int64_t lanes = target_lanes(t, 32), vectors = (w->n + lanes - 1) / lanes, m = work->m * work->rows;
  *cycles = stream_cycles(work, t, w, p, &best);
  for (int64_t g = 1; g <= 4 && g <= vectors; g++)
    for (int64_t mr = 1; mr <= 8 && mr <= m; mr++)
      for (int scaled = 0; scaled < (books > 0 ? 1 : 2); scaled++) {
        StreamTile s = {g, mr, slices, scaled != 0, books};
        if (!tile_fits(t, w, p, &s)) continue;
        double c = stream_cycles(work, t, w, p, &s);
        if (c >= *cycles) continue;
        best = s;
        *cycles = c;
      }
  return best;
}

// Bytes per float: three are as good as floats, fewer where the file permits that.
static int64_t stream_slices(const Op *op) {
  int64_t bits = op_int(op, A_MATMUL_x_bits);
  return bits == 0 || bits > 16 ? 3 : bits > 8 ? 2 : 1;
}

void strategy_stream_price(const Op *op, const Target *t, Price *price) {
  Work work;
  LowBit w;
  *price = (Price){.plan = {.strategy = intern(op->func->module->names, "stream")}, .fixed = 2 * t->call_cycles};
  if (!work_of(op, &work) || !lowbit_of(op, &w)) return;
  int64_t slices = w.scaled ? stream_slices(op) : 1;
  LowBitParts p = w.book != NULL ? lowbit_book_parts(&w) : lowbit_parts(&w, false);
  StreamTile s = tile_choose(&work, t, &w, &p, slices, &price->compute);
  double k = (double)work.k, rows = (double)(work.m * work.rows), bits = 0;
  for (uint32_t i = 0; i < p.n; i++) bits += p.width[i];
  double bytes = k * (double)work.n * bits / 8;
  if (w.scale.n_step != 0) bytes += 4 * (double)lowbit_blocks(&w) * (double)work.n;
  price->memory = bytes / price_bandwidth(t, bytes);
  price->fixed += rows * k * (w.scaled ? 0.4 : 0.05);  // x made ready
  plan_add(op, &price->plan, "g", s.g);
  plan_add(op, &price->plan, "mr", s.mr);
  if (s.scaled) plan_add(op, &price->plan, "scaled", 1);
  if (w.scaled) plan_add(op, &price->plan, "slices", slices);
}
