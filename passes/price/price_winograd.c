// The price of Winograd tiles: the partition of both axes, the block of tile rows and the register tile that cost
// least.
//
// Matrix products at the rate of vector FMA, weights read at the bandwidth of the level they come from, which is memory
// when the network's weights do not fit the last cache; transforms by their vector stores, two per number.
#include <math.h>

#include "passes/lower/codebook.h"
#include "passes/price/tiles.h"
#include "passes/winograd.h"

#define OVERLAP 0.25   // of the shorter of products and reading weights is not hidden behind the longer
#define FROM_DRAM 0.5  // the same of weights from memory: each is read once, for a few tiles
#define L3_SHARE 0.75  // of the last cache that is left for weights

enum { FMA_LATENCY = 4, ISSUE_WIDTH = 6, TILE_CYCLES = 14, LOOP_CYCLES = 4, FEWEST_CHANNELS = 4 };

static const int64_t size[] = {6, 4, 3, 2};
#define N_SIZES (sizeof size / sizeof *size)

typedef struct Form {
  ConvGeom g;
  WinoAxis y, x;
  int64_t rows;  // of tiles in a block
  int64_t mr, nv, lanes;
  int64_t vectors;  // of output channels
} Form;

bool strategy_winograd_applies(const Op *op, const Target *t) {
  ConvGeom g;
  Codebook c;  // floats that are stored as codes stay so, words of several floats where that costs little
  if (t->vector_bits < 128 || !wino_geom(op, &g) || g.c < FEWEST_CHANNELS || g.o < FEWEST_CHANNELS) return false;
  return g.out[1] > 1 && g.out[2] > 1 && (!codebook_of(op, &c) || c.run > 1);
}

static double max2(double a, double b) { return a > b ? a : b; }

static double tile_cycles(const Target *t, double rows, double vectors, double k) {
  double fma = rows * vectors, loads = rows + vectors;
  double step = max2(fma / t->fma_per_cycle, loads / t->load_per_cycle);
  step = max2(max2(step, FMA_LATENCY), (fma + loads) / ISSUE_WIDTH);
  // A panel that does not stay in L1 beside the rows is read from L2 by every tile.
  double row_bytes = vectors * t->vector_bits / 8;
  if ((row_bytes + 4 * rows) * k > t->l1_bytes) step += 0.3 * row_bytes / t->l2_bytes_cycle;
  return 1.03 * step * k + TILE_CYCLES + 1.5 * fma;
}

// One product of `rows` tiles: parts as even as they go.
static double product_cycles(const Target *t, const Form *f, int64_t rows) {
  int64_t parts = (rows + f->mr - 1) / f->mr, small = rows / parts, large = rows % parts, k = f->g.c;
  int64_t panels = f->vectors / f->nv, rest = f->vectors % f->nv;
  double sum = 0;
  for (int which = 0; which < 2; which++) {
    int64_t n = which == 0 ? large : parts - large, mr = which == 0 ? small + 1 : small;
    if (n == 0) continue;
    sum += (double)(n * panels) * tile_cycles(t, (double)mr, (double)f->nv, (double)k);
    if (rest > 0) sum += (double)n * tile_cycles(t, (double)mr, (double)rest, (double)k);
  }
  return sum + (double)(panels + 1) * LOOP_CYCLES;
}

// All products of a block of tile rows: as many as there are pairs of points, those of the same tiles at once.
static double products_cycles(const Target *t, const Form *f, const WinoAxis *y) {
  double sum = 0;
  for (uint32_t i = 0; i < y->n; i++)
    for (uint32_t j = 0; j < f->x.n; j++) {
      int64_t py = wino_points(y->size[i]) - (i + 1 < y->n ? wino_points(y->size[i + 1]) : 0);
      int64_t px = wino_points(f->x.size[j]) - (j + 1 < f->x.n ? wino_points(f->x.size[j + 1]) : 0);
      int64_t rows = wino_with_point(y, (uint32_t)wino_points(y->size[i]) - 1);
      int64_t columns = wino_with_point(&f->x, (uint32_t)wino_points(f->x.size[j]) - 1);
      sum += (double)(py * px) * product_cycles(t, f, rows * columns);
    }
  return sum;
}

// Vector stores, each with its load and its arithmetic.
static double transform_cycles(const Target *t, const Form *f) {
  double in = ceil((double)f->g.c / (double)f->lanes), out = (double)f->vectors, sum = 0, store = 2 / t->load_per_cycle;
  for (uint32_t i = 0; i < f->y.n; i++)
    for (uint32_t j = 0; j < f->x.n; j++) {
      double my = (double)f->y.size[i], mx = (double)f->x.size[j], py = my + 2, px = mx + 2;
      double one = in * 2 * py * px + out * (px * my + py * px * 0.5 + my * mx * 2);
      one = one * store * 1.25 + 2 * LOOP_CYCLES * (px + py);
      sum += one * (double)(f->y.count[i] * f->x.count[j]);
    }
  return sum * (double)f->g.n;
}

// Bytes of the weights of all contractions: past the last cache they come from memory in every run.
static double network_weights(const Op *op) {
  double sum = 0;
  for (const Op *o = op->func->first; o != NULL; o = o->next)
    if ((o->kind == OP_CONV || o->kind == OP_MATMUL) && value_is_const(op_in(o, 1)))
      sum += (double)type_bytes(op_in(o, 1)->type);
  return sum;
}

static void blocks_of(const Form *f, WinoAxis *block, double *times, uint32_t *n) {
  int64_t all = wino_tiles(&f->y) * f->g.n;
  *n = 0;
  if (f->rows >= all) {
    block[0] = f->y;
    for (uint32_t i = 0; i < f->y.n; i++) block[0].count[i] *= f->g.n;
    times[(*n)++] = 1;
    return;
  }
  for (uint32_t i = 0; i < f->y.n; i++) {
    int64_t count = f->y.count[i] * f->g.n, h = f->rows < count ? f->rows : count;
    block[*n] = (WinoAxis){.n = 1, .size = {f->y.size[i]}, .count = {h}};
    times[(*n)++] = (double)(count / h);
    if (count % h == 0) continue;
    block[*n] = (WinoAxis){.n = 1, .size = {f->y.size[i]}, .count = {count % h}};
    times[(*n)++] = 1;
  }
}

static void form_price(const Target *t, const Form *f, double network, Price *p) {
  WinoAxis block[2 * WINO_SIZES];
  double times[2 * WINO_SIZES], blocks = 0, columns = (double)(f->vectors * f->lanes);
  double points = (double)(wino_axis_points(&f->y) * wino_axis_points(&f->x));
  double u = points * (double)f->g.c * columns * 4, tiles = 0;
  uint32_t n;
  blocks_of(f, block, times, &n);
  p->compute = 0;
  for (uint32_t i = 0; i < n; i++) {
    p->compute += times[i] * products_cycles(t, f, &block[i]);
    blocks += times[i];
    tiles = max2(tiles, (double)(wino_tiles(&block[i]) * wino_tiles(&f->x)));
  }
  double held = tiles * points * 4 * ((double)f->g.c + columns), again = u + held;
  double moved = blocks * held * 2;  // written and read; with more than L1 read for every panel
  bool dram = network * (points / 9) > t->l3_bytes * L3_SHARE;
  double first = dram ? t->dram_bytes_cycle : price_bandwidth(t, u);
  p->memory = u / first + (blocks - 1) * u / price_bandwidth(t, again);
  double slow = moved / price_bandwidth(t, held) - moved / t->l2_bytes_cycle;
  p->fixed = transform_cycles(t, f) + (slow > 0 ? slow : 0) + t->call_cycles * 3;
  p->fixed += (dram ? FROM_DRAM : OVERLAP) * (p->compute < p->memory ? p->compute : p->memory);
}

static void choose_tile(const Target *t, Form *f, double network, Form *best, Price *price) {
  int64_t regs = t->n_vregs, widest = t->panel_vectors > 0 ? t->panel_vectors : 4;
  for (f->nv = 1; f->nv <= widest && f->nv <= f->vectors; f->nv++) {
    int64_t most = (regs - f->nv - 1) / f->nv;
    for (f->mr = most < 16 ? most : 16; f->mr >= 4 || f->mr == most; f->mr -= 2) {
      Price p = *price;
      if (f->mr < 1) break;
      form_price(t, f, network, &p);
      if (best->mr > 0 && price_total(&p) >= price_total(price) * 0.998) continue;
      *best = *f;
      *price = p;
    }
  }
}

// Rows of tiles whose V and M take half of L2.
static int64_t block_rows(const Target *t, const Form *f) {
  double row = (double)(wino_axis_points(&f->y) * wino_axis_points(&f->x) * wino_tiles(&f->x)) * 4;
  double rows = t->l2_bytes / 2 / (row * (double)(f->g.c + f->vectors * f->lanes));
  return rows < 1 ? 1 : (int64_t)rows;
}

// Tiles of at most `most` results along an axis; one block, or many that stay in L2.
static void choose(const Op *op, const Target *t, const ConvGeom *g, int64_t most, Form *best, Price *price) {
  double network = network_weights(op);
  for (uint32_t i = 0; i < N_SIZES; i++)
    for (uint32_t j = 0; j < N_SIZES; j++) {
      if (size[i] > most || size[j] > most) continue;
      Form f = {.g = *g, .lanes = target_lanes(t, 32)};
      f.vectors = (g->o + f.lanes - 1) / f.lanes;
      f.y = wino_split(g->out[1], size[i]);
      f.x = wino_split(g->out[2], size[j]);
      f.rows = wino_tiles(&f.y) * g->n;
      choose_tile(t, &f, network, best, price);
      int64_t rows = block_rows(t, &f);
      if (rows >= f.rows) continue;
      f.rows = rows;
      choose_tile(t, &f, network, best, price);
    }
}

static void write_plan(const Op *op, const Form *f, Plan *p) {
  for (uint32_t i = 0; i < f->y.n; i++) plan_add(op, p, wino_param(false, f->y.size[i]), f->y.count[i]);
  for (uint32_t i = 0; i < f->x.n; i++) plan_add(op, p, wino_param(true, f->x.size[i]), f->x.count[i]);
  plan_add(op, p, "mr", f->mr);
  plan_add(op, p, "nv", f->nv);
  if (f->rows < wino_tiles(&f->y) * f->g.n) plan_add(op, p, "rows", f->rows);
}

// The largest tiles that layers of so many input channels are likely to afford: the gate of a sum grows with its terms.
static int64_t likely(int64_t channels) { return channels >= 48 ? 6 : channels >= 16 ? 4 : 3; }

void strategy_winograd_price(const Op *op, const Target *t, Price *p) {
  ConvGeom g;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "winograd")}, .compute = 1e18};
  if (!wino_geom(op, &g)) return;
  Form best = {0};
  choose(op, t, &g, likely(g.c), &best, p);
  write_plan(op, &best, &p->plan);
}
