// The price of matrix tiles of bytes: a product of tiles per tile_cycles, or the loads of their operands where those
// come from further away, and the stores of the sums with what follows them.
#include "ir/base/intmath.h"
#include "passes/contraction.h"
#include "passes/lowbit.h"
#include "passes/price/tiles.h"

enum { ROWS = 16, LANES = 16, CHUNK = 64, BLOCK_CYCLES = 40 };

int64_t tile8_chunk(int64_t k, bool exact) {
  int64_t least = ceil_div(k, CHUNK);
  if (!exact) return ceil_div(ceil_div(k, least), 4) * 4;
  for (int64_t parts = least; parts <= 2 * least; parts++)
    if (k % (4 * parts) == 0) return k / parts;
  return 0;
}

// Bits that a weight takes in memory: where few are enough, codes are widened while they are loaded. Bytes of the
// reduction that are taken twice have weights of zero, which not every grid has.
static uint32_t stored_bits(const Op *op, const Work *w, int64_t *chunk) {
  LowBit levels;
  *chunk = tile8_chunk(w->k_inner, false);
  lowbit_levels(op->func->module, op_in(op, 1)->constant, &levels);
  if (levels.bits > 6) return 8;
  if (w->k_inner % *chunk == 0 || lowbit_has_zero(&levels)) return levels.bits;
  int64_t exact = tile8_chunk(w->k_inner, true);
  if (exact == 0) return 8;
  *chunk = exact;
  return levels.bits;
}
static double max2(double a, double b) { return a > b ? a : b; }
static double min2(double a, double b) { return a < b ? a : b; }

// Where dot8 applies to constant weights, but for what has no matrix product: one filter per channel, and transposed
// convolutions.
bool strategy_tile8_applies(const Op *op, const Target *t) {
  Work w;
  if (!t->has_amx || t->tile_cycles <= 0 || op->kind == OP_CONV_TRANSPOSE || !strategy_dot8_applies(op, t))
    return false;
  return value_is_const(op_in(op, 1)) && work_of(op, &w) && !w.depthwise && w.rows * w.m >= ROWS;
}

// Columns of x that a convolution walks when the rows of its result are one: 0 where they are not whole columns apart.
static int64_t flat_columns(const Op *op) {
  ConvGeom g;
  if (op->kind != OP_CONV || !conv_geom(op, &g) || g.pointwise || g.out[1] < 2) return 0;
  int64_t reach = (g.out[2] - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
  bool inside = g.pad[0] + g.pad[1] + g.pad[2] == 0 && reach <= g.in[2];
  int64_t step = (inside ? g.in[2] : reach) * g.stride[1], pitch = step / g.stride[2];
  if (step % g.stride[2] != 0 || pitch < g.out[2]) return 0;
  return (g.out[1] - 1) * pitch + g.out[2];
}

// Tiles of rows, tiles of columns and steps of the reduction, all cut into equal parts.
typedef struct Tiling {
  int64_t rows, per_row, mr, my, nv, lanes, chunk;
  bool flat;  // rows of the result in one
  uint32_t bits;
  double blocks, tiles_m, tiles_n, steps;
} Tiling;

static Tiling tiling_of(const Op *op, const Work *w) {
  Tiling g = {.per_row = ceil_div(w->m, ROWS)};
  g.bits = stored_bits(op, w, &g.chunk);
  int64_t columns = ceil_div(w->n, LANES);
  g.rows = ceil_div(w->m, g.per_row);
  g.my = g.per_row == 1 && w->row_run > 1 && w->rows > 1 ? 2 : 1;
  g.mr = g.my > 1 || g.per_row == 1 ? g.rows : w->m > 2 * ROWS ? 2 * ROWS : w->m;
  int64_t all = flat_columns(op), tiles = w->rows * g.per_row;
  g.tiles_m = (double)(tiles * w->copies);
  if (all > 0 && w->rows / w->row_run * ceil_div(all, ROWS) * 100 < tiles * 95) {
    g.flat = true;
    g.rows = ROWS;
    g.my = 1;
    g.mr = all < 2 * ROWS ? all : 2 * ROWS;
    g.tiles_m = (double)(w->rows / w->row_run * ceil_div(all, ROWS) * w->copies);
  }
  g.lanes = ceil_div(w->n, columns);
  g.nv = columns > 1 ? 2 : 1;
  g.tiles_n = (double)columns;
  g.steps = (double)(w->k / w->k_inner * ceil_div(w->k_inner, g.chunk));
  return g;
}

// Cycles of one product: its own, or its share of the loads.
static double product_cycles(const Work *w, const Target *t, const Tiling *g) {
  double pair = g->my > 1 || g->mr > g->rows ? 2 : 1, nv = (double)g->nv;
  double bytes = (pair + nv) / (pair * nv) * ROWS * CHUNK, unit = t->tile_cycles;
  double loads = bytes / price_bandwidth(t, 2 * ((double)w->k * (double)(g->nv * g->lanes) + w->x_bytes));
  // Widening a row of a tile: shift, and, two operations for the value, a store; shared by the tiles of rows.
  double widen = g->bits < 8 ? (double)g->chunk / 4 * (g->bits == 3 || g->bits > 4 ? 5 : 2.5) / pair : 0;
  return max2(max2(unit, loads), widen) + 0.15 * min2(unit, loads + widen);
}

void strategy_tile8_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "tile8")}, .fixed = t->call_cycles + 100};
  if (!work_of(op, &w)) return;
  Tiling g = tiling_of(op, &w);
  double sums = g.tiles_m * g.tiles_n, vectors = sums * (double)g.rows;
  double end = 3 + 0.5 * (double)price_post(op) + (is_byte(op_out(op, 0)) ? 1 : 0);
  p->compute = sums * g.steps * product_cycles(&w, t, &g) + vectors * end + sums / 4 * BLOCK_CYCLES;
  double bytes = w.w_bytes * g.bits / 8 + w.x_bytes;
  p->memory = bytes / price_bandwidth(t, bytes);
  plan_add(op, &p->plan, "mr", g.mr);
  if (g.my > 1) plan_add(op, &p->plan, "my", g.my);
  plan_add(op, &p->plan, "nv", g.nv);
  if (g.lanes < LANES) plan_add(op, &p->plan, "lanes", g.lanes);
  if (g.flat) plan_add(op, &p->plan, "flat", 1);
  if (g.bits < 8) plan_add(op, &p->plan, "bits", g.bits);
  // Panels outside keep their weights near while all rows pass; parts of many rows are there for threads.
  int64_t all = g.flat ? flat_columns(op) : w.rows == 1 ? w.m : 0;
  if (all >= 8 * g.mr) plan_add(op, &p->plan, "mb", ceil_div(all, 8 * g.mr) * g.mr);
  if (w.n > g.nv * g.lanes) plan_add(op, &p->plan, "panels_outer", 1);
}
