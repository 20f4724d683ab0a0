// Prices of strategies. See price.h; the measurements behind the constants are in docs and in targets.def.
#include "passes/price.h"

#include <string.h>

#include "passes/contraction.h"
#include "passes/lower/codebook.h"
#include "passes/price/ties.h"
#include "passes/price/tiles.h"

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

int64_t elem_bytes(const Value *v) { return dtype_info(v->type->dtype)->bits / 8; }

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
  if (!transposed && g.dilation[2] == 1 && g.group == 1) {
    w->taps = g.kernel[2];
    w->step = g.stride[2];
  }
  w->depthwise = !transposed && conv_is_depthwise(&g);
  if (transposed) {
    for (int i = 0; i < CONV_AXES; i++) w->k = (w->k + g.stride[i] - 1) / g.stride[i];
    w->rows *= g.stride[2];
    w->m = (w->m + g.stride[2] - 1) / g.stride[2];
    w->k_inner = cg;
    w->row_run = 1;
  } else if (conv_folds(op, &g)) {
    w->folds = true;
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

double work_macs(const Work *w) {
  return (double)w->copies * (double)w->rows * (double)w->m * (double)w->n * (double)w->k;
}

void plan_add(const Op *op, Plan *p, const char *name, int64_t value) {
  p->param[p->n].name = intern(op->func->module->names, name);
  p->param[p->n++].value = value;
}

bool is_empty(const Op *op) {
  return type_count(op_out(op, 0)->type) == 0 || type_count(op_in(op, 0)->type) == 0 ||
         type_count(op_in(op, 1)->type) == 0;
}

bool is_byte(const Value *v) { return dtype_is_byte(v->type->dtype); }

int64_t price_post(const Op *post_op) {
  const Func *f = op_post(post_op);
  int64_t cost = 0;
  for (const Op *op = f ? f->first : NULL; op != NULL; op = op->next) {
    KOp kop = op_info(op->kind)->kop;
    bool division = kop == KOP_DIV || kop == KOP_SQRT || kop == KOP_RECIP || kop == KOP_MOD || kop == KOP_FMOD;
    bool simple = kop == KOP_RELU || kop == KOP_LEAKY_RELU || kop == KOP_CLIP || kop == KOP_PRELU ||
                  kop == KOP_HARD_SIGMOID || kop == KOP_HARD_SWISH || kop == KOP_SIGN || kop == KOP_THRESHOLDED_RELU;
    cost += division ? 4 : simple ? 2 : kop_info(kop)->basic ? 1 : 20;
  }
  return cost;
}

// ---- the table

static const Strategy strategies[] = {
#define STRATEGY(name, doc) {#name, doc, strategy_##name##_applies, strategy_##name##_price},
#include "passes/strategies.def"

#undef STRATEGY
};

uint32_t strategy_count(void) { return sizeof strategies / sizeof *strategies; }
const Strategy *strategy_at(uint32_t i) { return &strategies[i]; }

bool strategy_multiplies(const char *name) {
  return strcmp(name, "planes") != 0 && strcmp(name, "lut") != 0 && strcmp(name, "truth") != 0;
}

bool strategy_drops_terms(const char *name) { return strcmp(name, "sparse") == 0 || strcmp(name, "code") == 0; }

bool strategy_transforms(const char *name) { return strcmp(name, "winograd") == 0; }

static bool is_avoided(const char *name, unsigned avoid) {
  if ((avoid & AVOID_TRANSFORMS) != 0 && strategy_transforms(name)) return true;
  return ((avoid & AVOID_MULTIPLY) != 0 && strategy_multiplies(name)) ||
         ((avoid & AVOID_DROPPED_TERMS) != 0 && strategy_drops_terms(name));
}

// Floats held as codes: opened once a run, looked up per non-zero, or in the instructions of straight-line code.
static bool holds_codes(const Op *op, const Plan *p) {
  Codebook book;
  if (strcmp(p->strategy, "sparse") == 0) return plan_param(p, "bits", 0) > 0;
  if (strcmp(p->strategy, "code") == 0) return codebook_of(op, &book);
  return plan_param(p, "once", 0) != 0;
}

// Words of several floats, opened once a run.
static bool holds_words(const Op *op, const Plan *p) {
  Codebook book;
  return plan_param(p, "once", 0) != 0 && codebook_of(op, &book) && book.run > 1;
}

// Equal within what prices can tell, the weights that take fewer bytes win: those of strategies that store bits. Floats
// held as codes are the only form of their layer with its bits, which may cost a little more time.
static double cost(const Op *op, const Price *p, unsigned avoid) {
  bool bits = strcmp(p->plan.strategy, "planes") == 0 || strcmp(p->plan.strategy, "stream") == 0;
  if (holds_words(op, &p->plan)) return price_total(p) * ((avoid & PREFER_WORDS) != 0 ? SIZE_SHARE : WORDS_SHARE);
  if (holds_codes(op, &p->plan)) return price_total(p) * CODES_SHARE;
  return bits ? price_total(p) : price_total(p) * TIE_SHARE + TIE_CYCLES;
}

static bool choose(const Op *op, const Target *t, unsigned avoid, Price *best) {
  bool found = false;
  for (uint32_t i = 0; i < strategy_count(); i++) {
    Price p;
    if (is_avoided(strategies[i].name, avoid) || !strategies[i].applies(op, t)) continue;
    strategies[i].price(op, t, &p);
    if (found && cost(op, &p, avoid) >= cost(op, best, avoid)) continue;
    *best = p;
    found = true;
  }
  return found;
}

bool price_best(const Op *op, const Target *t, Price *best) { return choose(op, t, 0, best); }

bool price_by(const Op *op, const Target *t, const char *name, Price *p) {
  for (uint32_t i = 0; i < strategy_count(); i++) {
    if (strcmp(strategies[i].name, name) != 0 || !strategies[i].applies(op, t)) continue;
    strategies[i].price(op, t, p);
    return true;
  }
  return false;
}

Plan plan_choose_avoiding(const Op *op, const Target *t, unsigned avoid) {
  Price best = {0};
  bool found = choose(op, t, avoid, &best) || choose(op, t, avoid & ~(unsigned)AVOID_MULTIPLY, &best);
  QCC_CHECK(found, "no strategy applies to a contraction");
  return best.plan;
}

Plan plan_choose(const Op *op, const Target *t) { return plan_choose_avoiding(op, t, AVOID_TRANSFORMS); }
