// Prices of strategies. See price.h; the measurements behind the constants are in docs and in targets.def.
#include "passes/price.h"

#include "passes/bipolar.h"
#include "passes/contraction.h"

enum { FMA_LATENCY = 4, ISSUE_WIDTH = 6, TILE_CYCLES = 12 };
#define SCALAR_CYCLES 2.0  // of one multiply-add in a plain loop

double price_total(const Price *p) { return (p->compute > p->memory ? p->compute : p->memory) + p->fixed; }

double price_bandwidth(const Target *t, double bytes) {
  if (bytes <= t->l1_bytes) return t->l1_bytes_cycle;
  if (bytes <= t->l2_bytes) return t->l2_bytes_cycle;
  return bytes <= t->l3_bytes ? t->l3_bytes_cycle : t->dram_bytes_cycle;
}

static double bytes_of(const Type *t) { return (double)type_bytes(t); }

static DType arithmetic_type(DType t) {
  if (!dtype_is_float(t)) return t;
  return t == DT_F64 ? DT_F64 : DT_F32;
}

static void work_common(const Op *op, Work *w) {
  w->type = arithmetic_type(op_in(op, 0)->type->dtype);
  w->packs_at_run = !value_is_const(op_in(op, 1));
  w->x_bytes = bytes_of(op_in(op, 0)->type);
  w->w_bytes = bytes_of(op_in(op, 1)->type);
  w->y_bytes = bytes_of(op_out(op, 0)->type);
}

static int64_t elem_bytes(const Value *v) { return dtype_info(v->type->dtype)->bits / 8; }

static bool work_conv(const Op *op, Work *w) {
  ConvGeom g;
  if (!conv_geom(op, &g)) return false;
  bool transposed = op->kind == OP_CONV_TRANSPOSE;
  int64_t taps = g.kernel[0] * g.kernel[1] * g.kernel[2], cg = g.c / g.group;
  *w = (Work){.copies = g.group, .n = g.o / g.group, .k = taps * cg};
  w->rows = g.n * g.out[0] * g.out[1];
  w->row_run = g.out[1] > 1 ? g.out[1] : g.out[0] > 1 ? g.out[0] : g.group == 1 ? g.n : 1;
  w->m = g.out[2];
  w->k_inner = g.dilation[2] == 1 && g.group == 1 ? g.kernel[2] * cg : cg;
  w->x_step = g.c * g.stride[2] * elem_bytes(op_in(op, 0));
  w->k_lanes = !transposed;
  w->depthwise = !transposed && conv_is_depthwise(&g);
  if (transposed) {
    for (int i = 0; i < CONV_AXES; i++) w->k = (w->k + g.stride[i] - 1) / g.stride[i];
    w->rows *= g.stride[2];
    w->m = (w->m + g.stride[2] - 1) / g.stride[2];
    w->k_inner = cg;
    w->row_run = 1;
  } else if (conv_folds(op, &g)) {
    w->folds = true;
    w->taps = g.kernel[2];
    w->step = g.stride[2];
  } else if (g.pointwise && result_axes_merge(op, 0, op_out(op, 0)->type->rank - 1)) {
    w->m *= w->rows;
    w->rows = 1;
  }
  work_common(op, w);
  return true;
}

static bool work_matmul(const Op *op, Work *w) {
  MatmulGeom g;
  if (!matmul_geom(op, &g)) return false;
  *w = (Work){.copies = 1, .rows = 1, .m = g.m, .n = g.n, .k = g.k, .k_inner = g.k};
  w->k_lanes = g.a_k == 1;
  w->row_run = 1;
  for (uint32_t i = 0; i < g.n_batch; i++) {
    *(g.b_batch[i] == 0 ? &w->rows : &w->copies) *= g.batch[i];
    if (g.batch[i] != 1) w->row_run = g.b_batch[i] == 0 ? g.batch[i] : 1;
  }
  if (matmul_rows_merge(op, &g)) {
    w->m *= w->rows;
    w->rows = 1;
  }
  w->x_step = g.a_m * elem_bytes(op_in(op, 0));
  work_common(op, w);
  return true;
}

bool work_of(const Op *op, Work *w) {
  switch (op->kind) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE: return work_conv(op, w);
    case OP_MATMUL: return work_matmul(op, w);
    default: return false;
  }
}

static double work_macs(const Work *w) {
  return (double)w->copies * (double)w->rows * (double)w->m * (double)w->n * (double)w->k;
}

static void plan_add(const Op *op, Plan *p, const char *name, int64_t value) {
  p->param[p->n].name = intern(op->func->module->names, name);
  p->param[p->n++].value = value;
}

// ---- loop

// A contraction without elements or without terms has no tiles to price.
static bool is_empty(const Op *op) {
  return type_count(op_out(op, 0)->type) == 0 || type_count(op_in(op, 0)->type) == 0 ||
         type_count(op_in(op, 1)->type) == 0;
}

static bool strategy_loop_applies(const Op *op, const Target *t) {
  (void)op, (void)t;
  return true;
}

static void strategy_loop_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "loop")}};
  if (!work_of(op, &w)) return;
  double bytes = w.x_bytes + w.w_bytes + w.y_bytes;
  p->compute = work_macs(&w) * SCALAR_CYCLES;
  p->memory = bytes / price_bandwidth(t, bytes);
  p->fixed = t->call_cycles;
}

// ---- fma

typedef struct Tiling {
  int64_t lanes, mr, my, nv, ks;
  int64_t k_lanes;  // lanes along the reduction, or 0
} Tiling;

static bool strategy_fma_applies(const Op *op, const Target *t) {
  Work w;
  return work_of(op, &w) && !is_empty(op) && dtype_is_float(w.type) && t->vector_bits >= 128;
}

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

// Cycles of one tile of `pixels` by `vectors` over the whole reduction.
static double tile_cycles(const Work *w, const Target *t, double pixels, double vectors, double ks) {
  double fma = pixels * vectors, loads = pixels + vectors;
  double fma_cycles = fma / t->fma_per_cycle, load_cycles = loads / t->load_per_cycle;
  double step = max2(fma_cycles, load_cycles) + 0.15 * min2(fma_cycles, load_cycles);
  step = max2(max2(step, FMA_LATENCY / ks), (fma + loads) / ISSUE_WIDTH);
  // A panel that does not stay in L1 is streamed from L2 by every tile; that hides only in part.
  double row_bytes = vectors * t->vector_bits / 8;
  if (row_bytes * (double)w->k > t->l1_bytes / 2) step += 0.3 * row_bytes / t->l2_bytes_cycle;
  if (w->k > 16 && lines_per_set(w, pixels) > 8) step += pixels * 0.5;
  double loops = (double)w->k / (double)w->k_inner * 3;  // entering and leaving the innermost loop
  return step * (double)w->k + loops + TILE_CYCLES + fma * 1.5 * ks;
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

static Tiling tiling_choose(const Work *w, const Target *t, double *cycles) {
  Tiling best = {0};
  int64_t lanes = lanes_for(w, t), vectors = (w->n + lanes - 1) / lanes;
  int64_t regs = t->n_vregs;
  *cycles = 0;
  for (int64_t nv = 1; nv <= 8 && nv <= vectors; nv++) {
    for (int64_t mr = 1; mr <= w->m && mr * nv + nv + 1 <= regs; mr++) {
      int64_t rows = mr == w->m && w->rows > 1 ? w->row_run : 1;
      for (int64_t my = 1; my <= rows && my <= 8 && my * mr * nv + nv + 1 <= regs; my++) {
        Tiling g = {lanes, mr, my, nv, tiling_parts(w, t, mr * my, nv), 0};
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
    *g = (Tiling){lanes, mr, 1, w->n, ks, lanes};
    better = true;
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

static void price_depthwise(const Op *op, const Target *t, const Work *w, Price *p) {
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
static void price_tiles(const Op *op, const Target *t, const Work *work, Price *p) {
  Work w = *work;
  int64_t fold;
  Tiling g = tiling_fold(&w, t, &fold, &p->compute);
  if (g.mr == 0) g = (Tiling){lanes_for(&w, t), 1, 1, 1, 1, 0};
  int64_t mb = column_block(&w, t, &g);
  bool outer = panels_outer(&w, t, &g, mb, &p->memory) && g.k_lanes == 0;
  if (outer && w.rows == 1) mb = (w.m + g.mr - 1) / g.mr * g.mr;
  if (w.packs_at_run) p->fixed += w.w_bytes / 8;
  int64_t tile = g.mr * g.my * g.nv * g.ks, ku = tile <= 8 ? 4 : tile <= 16 ? 2 : 1;
  // With all registers taken, LLVM puts the sums of an unrolled step into the broadcast's register and spills.
  if (tile + g.nv + 2 > (int64_t)t->n_vregs) ku = 1;
  if (fold > 1) plan_add(op, &p->plan, "fold", fold);
  plan_add(op, &p->plan, "mr", g.mr);
  if (g.my > 1) plan_add(op, &p->plan, "my", g.my);
  plan_add(op, &p->plan, "nv", g.nv);
  if (g.k_lanes > 0) plan_add(op, &p->plan, "k_lanes", g.k_lanes);
  if (g.lanes < target_lanes(t, dtype_info(w.type)->bits)) plan_add(op, &p->plan, "lanes", g.lanes);
  if (ku > 1 && g.k_lanes == 0) plan_add(op, &p->plan, "ku", ku);
  if (g.ks > 1) plan_add(op, &p->plan, "ks", g.ks);
  if (mb < w.m) plan_add(op, &p->plan, "mb", mb);
  if (outer) plan_add(op, &p->plan, "panels_outer", 1);
}

static void strategy_fma_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "fma")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  if (w.depthwise) {
    price_depthwise(op, t, &w, p);
  } else {
    price_tiles(op, t, &w, p);
  }
}

// ---- dot8

static bool is_byte(const Value *v) { return v->type->dtype == DT_U8 || v->type->dtype == DT_I8; }

static bool strategy_dot8_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1), *bias = op_in(op, 2);
  if (op->kind == OP_CONV_TRANSPOSE || !is_byte(op_in(op, 0)) || b->type->dtype != DT_I8) return false;
  if (!value_is_const(b) || (bias != NULL && !value_is_const(bias)) || t->vector_bits < 128) return false;
  if (!work_of(op, &w) || is_empty(op)) return false;
  if (op->kind == OP_CONV) return true;
  MatmulGeom g;
  if (!matmul_geom(op, &g) || g.a_k != 1 || g.b_vector || type_count(b->type) != g.k * g.n) return false;
  int64_t n = bias == NULL ? 1 : type_count(bias->type);
  return n == 1 || (n == g.n && bias->type->dims[bias->type->rank - 1] == n);
}

// The tiles of fma with lanes of four bytes: a quarter of the steps, at the rate of dot4.
static void strategy_dot8_price(const Op *op, const Target *t, Price *p) {
  Work w;
  Target bytes = *t;
  bytes.fma_per_cycle = t->dot4_per_cycle;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "dot8")}, .fixed = t->call_cycles};
  if (!work_of(op, &w)) return;
  if (w.depthwise) {
    w.type = DT_F32;
    price_depthwise(op, t, &w, p);
    return;
  }
  w.type = DT_I32;
  w.folds = w.k_lanes = false;
  w.k = w.k / w.k_inner * ((w.k_inner + 3) / 4);
  w.k_inner = (w.k_inner + 3) / 4;
  price_tiles(op, &bytes, &w, p);
}

// ---- planes

static bool strategy_planes_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1);
  if (op->kind == OP_CONV_TRANSPOSE || op_in(op, 2) != NULL || !t->has_popcnt_vec || t->vector_bits < 128) return false;
  if (op_in(op, 0)->type->dtype != DT_I8 || !value_is_const(b) || b->type->dtype != DT_I8) return false;
  if (!work_of(op, &w) || is_empty(op) || !value_is_bipolar(b) || !value_is_bipolar(op_in(op, 0))) return false;
  if (op->kind == OP_CONV) return op_int(op, A_CONV_group) == 1 && op_int(op, A_CONV_x_zero) == 0;
  MatmulGeom g;
  if (!matmul_geom(op, &g) || g.b_vector || type_count(b->type) != g.k * g.n) return false;
  return op_int(op, A_MATMUL_x_zero) == 0 && matmul_rows_merge(op, &g);
}

// The tiles of fma with words of 64 products, three operations a word, after a walk over x that makes the bits.
static void strategy_planes_price(const Op *op, const Target *t, Price *p) {
  Work w;
  Target words = *t;
  words.fma_per_cycle = t->popcnt_per_cycle;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "planes")}, .fixed = 2 * t->call_cycles};
  if (!work_of(op, &w)) return;
  const Type *x = op_in(op, 0)->type;
  int64_t c = x->dims[x->rank - 1], in_row = (c + 63) / 64, taps = w.k / c;
  p->fixed += w.x_bytes / (double)c * (double)in_row * 2;
  w.type = DT_I64;
  w.folds = w.k_lanes = false;
  w.k = taps * in_row;
  w.k_inner = op->kind == OP_CONV ? w.k_inner / c * in_row : in_row;
  if (w.k_inner < 1) w.k_inner = 1;
  w.w_bytes /= 8;
  w.x_bytes /= 8;
  price_tiles(op, &words, &w, p);
}

// ---- the table

static const Strategy strategies[] = {
#define STRATEGY(name, doc) {#name, doc, strategy_##name##_applies, strategy_##name##_price},
#include "passes/strategies.def"
#undef STRATEGY
};

uint32_t strategy_count(void) { return sizeof strategies / sizeof *strategies; }
const Strategy *strategy_at(uint32_t i) { return &strategies[i]; }

Plan plan_choose(const Op *op, const Target *t) {
  Price best = {0};
  bool found = false;
  for (uint32_t i = 0; i < strategy_count(); i++) {
    Price p;
    if (!strategies[i].applies(op, t)) continue;
    strategies[i].price(op, t, &p);
    if (found && price_total(&p) >= price_total(&best)) continue;
    best = p;
    found = true;
  }
  QCC_CHECK(found, "no strategy applies to a contraction");
  return best.plan;
}
