// Register tiles of the contraction nest and their cycles. See tiles.h.
#include <math.h>

#include "passes/price/tiles.h"

#include "ir/base/intmath.h"

enum { FMA_LATENCY = 4, ISSUE_WIDTH = 6, TILE_CYCLES = 12 };

typedef struct Tiling {
  int64_t lanes, mr, my, nv, ks;
  int64_t k_lanes;  // lanes along the reduction, or 0
  int64_t parts;    // lanes that share a column, or 0
} Tiling;

static double max2(double a, double b) { return a > b ? a : b; }
static double min2(double a, double b) { return a < b ? a : b; }

// Cache lines of neighbouring columns of x that fall into the same L1 set (sets repeat every 4 KiB).
static double lines_per_set(const Work *w, double pixels) {
  if (w->x_step % 64 != 0) return 1;
  int64_t lines = w->x_step / 64, sets = 64;
  while (lines % 2 == 0 && sets > 1) {
    lines /= 2;
    sets /= 2;
  }
  return pixels / (double)sets;
}

// A channel of x whose windows overlap: columns of the kernel are the innermost reduction.
static bool overlaps(const Work *w) { return w->taps > w->step && w->k_inner == w->taps && w->taps <= 8; }

// Neighbouring columns read most of x twice. With the innermost reduction unrolled in full an element is loaded once
// for all of them, where registers are left for that.
static bool shares_columns(const Work *w, const Target *t, double pixels, double vectors) {
  return overlaps(w) && vectors == 1 && pixels > 1 && pixels + 2 <= (double)t->n_vregs * 9 / 16;
}

// Elements of x that a step of a tile loads.
static double x_loads(const Work *w, const Target *t, double pixels, double vectors) {
  if (w->x_operand && vectors == 1) return 0;
  if (!shares_columns(w, t, pixels, vectors)) return pixels;
  double taps = (double)w->taps, step = (double)w->step;
  return (pixels * step + taps - step) / taps;
}

// Cycles of one tile of `pixels` by `vectors` over the whole reduction.
static double tile_cycles(const Work *w, const Target *t, double pixels, double vectors, double ks) {
  double fma = pixels * vectors, loads = x_loads(w, t, pixels, vectors) + vectors;
  double fma_cycles = (fma + vectors * w->w_ops / 4) / t->fma_per_cycle, load_cycles = loads / t->load_per_cycle;
  // One load per product runs at four fifths of either rate.
  double step =
      max2(fma_cycles, load_cycles) + (vectors == 1 && overlaps(w) ? 0.28 : 0.15) * min2(fma_cycles, load_cycles);
  step = max2(max2(step, FMA_LATENCY / ks), (fma + loads + vectors * w->w_ops) / ISSUE_WIDTH);
  // A panel that does not stay in L1 is streamed from L2 by every tile; that hides only in part.
  double row_bytes = vectors * t->vector_bits / 8;
  if (row_bytes * (double)w->k > t->l1_bytes / 2) step += 0.3 * row_bytes / t->l2_bytes_cycle;
  if (w->k > 16 && lines_per_set(w, pixels) > 8) step += pixels * 0.5;
  // Entering and leaving the innermost loop, which may be unrolled in full.
  double loops = (double)w->k / (double)w->k_inner * (shares_columns(w, t, pixels, vectors) ? 1 : 3);
  // What the end of a tile reads stays in registers, or is read again for every pixel while sums wait in memory.
  bool crowded = w->held > 0 && fma + vectors * (1 + (double)w->held) + 2 > (double)t->n_vregs;
  // Four vectors of sums make one of bytes; of three it is stored in parts, and fewer are cut into halves first.
  double bytes = !w->to_bytes || vectors > 3 ? 0 : vectors > 2 ? 1 : 2;
  double store = 1.5 + (crowded ? 1.2 : 0) + bytes;
  return step * (double)w->k + loops + TILE_CYCLES + fma * store * ks;
}

// Cycles of all tiles: every direction has whole tiles and at most one smaller one.
static double tiling_cycles(const Work *w, const Target *t, const Tiling *g) {
  int64_t vectors = (w->n + g->lanes - 1) / g->lanes;
  double sum = 0;
  for (int part = 0; part < 8; part++) {
    int64_t mr = part & 1 ? w->m % g->mr : g->mr, nm = part & 1 ? mr > 0 : w->m / g->mr;
    int64_t my = part & 2 ? w->rows % g->my : g->my, ny = part & 2 ? my > 0 : w->rows / g->my;
    int64_t nv = part & 4 ? vectors % g->nv : g->nv, nn = part & 4 ? nv > 0 : vectors / g->nv;
    if (nm * ny * nn == 0) continue;
    double count = (double)nm * (double)ny * (double)nn;
    sum += count * tile_cycles(w, t, (double)(mr * my), (double)nv, (double)g->ks);
  }
  return sum * (double)w->copies;
}

// Partial sums that hide the latency of a short tile, as far as registers go.
static int64_t tiling_parts(const Work *w, const Target *t, int64_t pixels, int64_t nv) {
  int64_t ks = 1, want = (int64_t)(FMA_LATENCY * t->fma_per_cycle);
  while (ks < 4 && pixels * nv * ks < want && pixels * nv * ks * 2 + nv + 1 <= t->n_vregs && ks * 2 <= w->k_inner)
    ks *= 2;
  return ks;
}

// Full vectors, or shorter ones when the result has only a few columns.
static int64_t lanes_for(const Work *w, const Target *t) {
  int64_t lanes = target_lanes(t, dtype_info(w->type)->bits);
  while (lanes > 4 && w->n <= lanes / 2) lanes /= 2;
  return lanes;
}

// Vectors of sums whose ends may be in flight together: LLVM interleaves the ends of all of them, and past this many
// values it needs more stack than a kernel may have.
static int64_t most_sums(const Work *w, int64_t lanes) {
  int64_t most = w->post > 8 ? 2560 / (w->post * lanes) : INT64_MAX;
  return most < 8 ? 8 : most;
}

// Sums of a tile that registers and the results in flight leave room for. Against one vector of weights more columns
// save nothing, and of so many two steps are written out.
static int64_t tile_sums(const Work *w, const Target *t, int64_t nv) {
  enum { OPERAND_COLUMNS = 16 };
  int64_t sums = (int64_t)t->n_vregs - nv * (1 + w->w_more) - 1;
  return w->x_operand && nv == 1 && sums > OPERAND_COLUMNS ? OPERAND_COLUMNS : sums;
}

static Tiling tiling_choose(const Work *w, const Target *t, double *cycles) {
  Tiling best = {0};
  int64_t lanes = lanes_for(w, t), vectors = (w->n + lanes - 1) / lanes;
  int64_t most = most_sums(w, lanes);
  *cycles = 0;
  int64_t widest = t->panel_vectors > 0 ? t->panel_vectors : 8;
  for (int64_t nv = 1; nv <= widest && nv <= vectors; nv++) {
    int64_t sums = tile_sums(w, t, nv) < most ? tile_sums(w, t, nv) : most;
    for (int64_t mr = 1; mr <= w->m && mr * nv <= sums; mr++) {
      int64_t rows = mr == w->m && w->rows > 1 ? w->row_run : 1;
      for (int64_t my = 1; my <= rows && my <= 8 && my * mr * nv <= sums; my++) {
        Tiling g = {lanes, mr, my, nv, tiling_parts(w, t, mr * my, nv), 0, 0};
        double c = tiling_cycles(w, t, &g);
        if (best.mr == 0 || c < *cycles * 0.995) {
          best = g;
          *cycles = c;
        }
      }
    }
  }
  return best;
}

// Cycles of a tile whose lanes run along the reduction: x is a vector load per pixel, every sum ends in a lane sum.
static double k_lanes_cycles(const Work *w, const Target *t, double pixels, double lanes, double ks) {
  double n = (double)w->n, fma = pixels * n, loads = pixels + n;
  double outer = (double)w->k / (double)w->k_inner, steps = outer * ((double)w->k_inner / lanes + 0.5);
  double step = max2(max2(fma / t->fma_per_cycle, loads / t->load_per_cycle), FMA_LATENCY / ks);
  return steps * step + outer * 3 + TILE_CYCLES + fma * 8;
}

// The best tile of that kind when it beats `cycles`.
static bool tiling_k_lanes(const Work *w, const Target *t, Tiling *g, double *cycles) {
  int64_t lanes = target_lanes(t, dtype_info(w->type)->bits), most = w->m < 8 ? w->m : 8;
  bool better = false;
  if (!w->k_lanes || w->n > 4 || w->n < 1 || w->k_inner < lanes) return false;
  for (int64_t mr = 1; mr <= most && (mr + 1) * w->n + 1 <= t->n_vregs; mr++) {
    int64_t ks = mr * w->n >= 4 || w->k_inner < 4 * lanes ? 1 : 4, rest = w->m % mr;
    double c = k_lanes_cycles(w, t, (double)mr, (double)lanes, (double)ks) * (double)(w->m / mr);
    if (rest > 0) c += k_lanes_cycles(w, t, (double)rest, (double)lanes, (double)ks);
    c *= (double)w->rows * (double)w->copies;
    if (c >= *cycles) continue;
    *cycles = c;
    *g = (Tiling){lanes, mr, 1, w->n, ks, lanes, 0};
    better = true;
  }
  return better;
}

// Cycles of one tile whose vectors hold `parts` places of the reduction of lanes / parts columns each.
static double parts_cycles(const Work *w, const Target *t, const Tiling *g, double pixels) {
  Work steps = *w;
  double lanes = (double)target_lanes(t, 32), vectors = (double)g->nv, stored = ceil((double)w->n / lanes);
  steps.k_inner = (w->k_inner + g->parts - 1) / g->parts;
  steps.k = w->k / w->k_inner * steps.k_inner;
  steps.held = 0;
  double sum = tile_cycles(&steps, t, pixels, vectors, (double)g->ks);
  if (w->k_inner % g->parts != 0) sum += (double)(w->k / w->k_inner) * pixels * 0.5;
  return sum + pixels * stored * (double)(g->parts * g->parts) / 2;  // shuffles and additions of the parts
}

// The best tile of that kind when it beats `cycles`.
static bool tiling_parted(const Work *w, const Target *t, Tiling *best, double *cycles) {
  int64_t lanes = target_lanes(t, 32), mb = w->m;
  bool better = false;
  if (!w->parts || w->n < 1 || w->copies != 1) return false;
  for (int64_t parts = 2; parts <= 8 && 2 * parts <= lanes && parts <= w->k_inner; parts *= 2) {
    Tiling g = {.lanes = lanes, .parts = parts, .nv = (w->n * parts + lanes - 1) / lanes};
    if (g.nv > 8) continue;
    for (g.mr = 1; g.mr <= mb && (g.mr + 1) * g.nv + 1 <= t->n_vregs; g.mr++) {
      int64_t rows = g.mr == w->m && w->rows > 1 ? w->row_run : 1;
      for (g.my = 1; g.my <= rows && g.my <= 8 && (g.my * g.mr + 1) * g.nv + 1 <= t->n_vregs; g.my++) {
        double c = 0;
        g.ks = g.my * g.mr * g.nv >= 8 || ((g.my * g.mr * 2 + 1) * g.nv + 1 > t->n_vregs) ? 1 : 2;
        for (int part = 0; part < 4; part++) {
          int64_t mr = part & 1 ? w->m % g.mr : g.mr, nm = part & 1 ? mr > 0 : w->m / g.mr;
          int64_t my = part & 2 ? w->rows % g.my : g.my, ny = part & 2 ? my > 0 : w->rows / g.my;
          if (nm * ny > 0) c += (double)(nm * ny) * parts_cycles(w, t, &g, (double)(mr * my));
        }
        if (c >= *cycles * 0.97) continue;
        *cycles = c;
        *best = g;
        better = true;
      }
    }
  }
  return better;
}

// The work after folding `fold` neighbouring columns into one with `fold` times the channels (conv_fold).
static Work folded(const Work *w, int64_t fold) {
  Work f = *w;
  int64_t taps = w->taps + (fold - 1) * w->step;
  f.m /= fold;
  f.n *= fold;
  f.k = w->k / w->taps * taps;
  f.k_inner = w->k_inner / w->taps * taps;
  f.x_step *= fold;
  f.taps = taps;
  f.step *= fold;
  return f;
}

// The cheapest tiling, with a few columns folded into channels where that fills vectors better.
static Tiling tiling_fold(Work *w, const Target *t, int64_t *fold, double *cycles) {
  Tiling best = tiling_choose(w, t, cycles);
  Work plain = *w;
  *fold = 1;
  for (int64_t f = 2; plain.folds && f <= 4; f++) {
    double c;
    if (plain.m % f != 0 || plain.n >= 2 * target_lanes(t, dtype_info(plain.type)->bits)) continue;
    Work other = folded(&plain, f);
    Tiling g = tiling_choose(&other, t, &c);
    if (c >= *cycles * 0.9) continue;
    best = g;
    *w = other;
    *fold = f;
    *cycles = c;
  }
  if (tiling_k_lanes(&plain, t, &best, cycles)) {
    *w = plain;
    *fold = 1;
  }
  if (tiling_parted(&plain, t, &best, cycles)) {
    *w = plain;
    *fold = 1;
  }
  return best;
}

// Bytes moved past L1: panels inside rows read all weights per block of columns, panels outside read x per panel.
static bool panels_outer(const Work *w, const Target *t, const Tiling *g, int64_t mb, double *cycles) {
  double blocks = (double)((w->m + mb - 1) / mb) * (double)((w->rows + g->my - 1) / g->my);
  double panels = (double)((w->n + g->nv * g->lanes - 1) / (g->nv * g->lanes));
  double one_w = w->w_bytes / (double)w->copies, one_x = w->x_bytes / (double)w->copies;
  double inner = one_w * blocks / price_bandwidth(t, one_w + one_x / blocks) + one_x / price_bandwidth(t, w->x_bytes);
  double outer = one_x * panels / price_bandwidth(t, one_x + one_w / panels) + one_w / price_bandwidth(t, w->w_bytes);
  *cycles = (inner < outer ? inner : outer) * (double)w->copies;
  if (blocks < 8 && panels > blocks) return true;  // something to share among threads
  return outer < inner * 0.9;
}

// Columns walked before the next panel: their x should stay in half of L2, and there should be work for threads.
static int64_t column_block(const Work *w, const Target *t, const Tiling *g) {
  if (w->rows > 1) return (w->m + g->mr - 1) / g->mr * g->mr;
  double per_column = w->x_bytes / (double)(w->m * w->copies) + 1;
  int64_t fit = (int64_t)(t->l2_bytes / 2 / per_column), share = (w->m + 7) / 8;
  int64_t mb = fit < share ? fit : share;
  mb = (mb + g->mr - 1) / g->mr * g->mr;
  return mb < g->mr ? g->mr : mb;
}

// Panels outside: where they are too few to keep several threads evenly busy, their columns are cut into blocks too.
static int64_t columns_of_unit(const Work *w, const Tiling *g, double cycles) {
  enum { UNITS = 16, UNIT_CYCLES = 8000 };  // of a layer, for any number of threads; the least worth handing over
  int64_t tiles = ceil_div(w->m, g->mr), panels = ceil_div(w->n, g->nv * g->lanes);
  int64_t units = cycles < (double)UNITS * UNIT_CYCLES ? (int64_t)(cycles / UNIT_CYCLES) : UNITS;
  int64_t blocks = units > panels ? ceil_div(units, panels) : 1;
  return ceil_div(tiles, blocks < tiles ? blocks : tiles) * g->mr;
}

void price_depthwise(const Op *op, const Target *t, const Work *w, Price *p) {
  int64_t lanes = target_lanes(t, dtype_info(w->type)->bits), mr = 4, my = 2;
  if (t->n_vregs < 32 || w->k > 25) my = 1;
  // Bytes are widened into registers of their own: a large window of them would not fit.
  if (elem_bytes(op_in(op, 0)) == 1 && w->k > 9) {
    my = 1;
    mr = 2;
  }
  if (mr > w->m) mr = w->m;
  if (my > w->row_run) my = w->row_run;
  double vectors = (double)((w->copies + lanes - 1) / lanes);
  double bytes = w->x_bytes + w->y_bytes;
  p->compute = (double)w->rows * (double)w->m * (double)w->k * vectors * 1.1 / t->fma_per_cycle;
  p->memory = bytes / price_bandwidth(t, bytes);
  plan_add(op, &p->plan, "mr", mr);
  plan_add(op, &p->plan, "my", my);
}

// The register tile and the order of loops.
void price_tiles(const Op *op, const Target *t, const Work *work, Price *p) {
  Work w = *work;
  int64_t fold;
  Tiling g = tiling_fold(&w, t, &fold, &p->compute);
  if (g.mr == 0) g = (Tiling){lanes_for(&w, t), 1, 1, 1, 1, 0, 0};
  int64_t mb = column_block(&w, t, &g);
  bool outer = panels_outer(&w, t, &g, mb, &p->memory) && g.k_lanes == 0 && g.parts == 0;
  if (outer && w.rows == 1) mb = columns_of_unit(&w, &g, p->compute);
  if (w.packs_at_run) p->fixed += w.w_bytes / 8;
  int64_t tile = g.mr * g.my * g.nv * g.ks, ku = tile <= 8 ? 4 : tile <= 16 ? 2 : 1;
  // With all registers taken, LLVM puts the sums of an unrolled step into the broadcast's register and spills.
  if (tile + g.nv + 2 > (int64_t)t->n_vregs || t->vector_bits == 32) ku = 1;
  if (g.parts + g.k_lanes == 0 && g.ks == 1 && shares_columns(&w, t, (double)(g.mr * g.my), (double)g.nv))
    ku = w.k_inner;
  if (fold > 1) plan_add(op, &p->plan, "fold", fold);
  plan_add(op, &p->plan, "mr", g.mr);
  if (g.my > 1) plan_add(op, &p->plan, "my", g.my);
  if (g.parts > 0) {
    plan_add(op, &p->plan, "parts", g.parts);
  } else {
    plan_add(op, &p->plan, "nv", g.nv);
  }
  if (g.k_lanes > 0) plan_add(op, &p->plan, "k_lanes", g.k_lanes);
  if (g.lanes < target_lanes(t, dtype_info(w.type)->bits)) plan_add(op, &p->plan, "lanes", g.lanes);
  if (ku > 1 && g.k_lanes == 0) plan_add(op, &p->plan, "ku", ku);
  if (g.ks > 1) plan_add(op, &p->plan, "ks", g.ks);
  if (mb < w.m) plan_add(op, &p->plan, "mb", mb);
  if (outer) plan_add(op, &p->plan, "panels_outer", 1);
}
