// The price of codebooks: the tiles of fma, with permutations per vector of weights in every tile and a quarter of the
// bytes; or with the panels made once per run.
#include "ir/base/intmath.h"
#include "passes/contraction.h"
#include "passes/lower/codebook.h"
#include "passes/price/tiles.h"

#define ONE_BOOK 0.4  // cycles per vector of weights with at most 16 values, with more: measured on zen5
#define TWO_BOOKS 1.2
#define OPEN 1.2    // cycles per vector of weights opened once: shift, lookup, store
#define CHOICE 0.4  // per choice between two vectors, with its test
#define WORD 20.0   // cycles per vector of weights of words: a gather, a store

enum { FEWEST_ROWS = 4, FEWEST = 64 };  // rows of x and weights that opening once pays for

static bool in_registers(const Op *op) { return op_out(op, 0)->type->dtype == DT_F32 && codebook_values(op) > 0; }

static bool once(const Op *op, const Work *w) {
  Codebook c;
  if (type_count(op_in(op, 1)->type) < FEWEST || !codebook_of(op, &c)) return false;
  return c.run > 1 || w->m * w->rows >= FEWEST_ROWS;
}

bool strategy_codebook_applies(const Op *op, const Target *t) {
  Work w;
  const Value *b = op_in(op, 1);
  if (t->arch[0] != 'x' || t->vector_bits < 256 || op->kind == OP_CONV_TRANSPOSE || !value_is_const(b)) return false;
  if (op_in(op, 0)->type->dtype != DT_F32 || b->type->dtype != DT_F32) return false;
  if (!work_of(op, &w) || is_empty(op) || w.depthwise || w.type != DT_F32) return false;
  MatmulGeom g;
  if (op->kind == OP_MATMUL && (!matmul_geom(op, &g) || g.b_vector || type_count(b->type) != g.k * g.n)) return false;
  return in_registers(op) || once(op, &w);
}

static double vectors_of(const Target *t, const Work *w, const Price *p) {
  return (double)ceil_div(w->n, plan_param(&p->plan, "lanes", target_lanes(t, 32))) * (double)w->k * (double)w->copies;
}

static Price price_begin(const Op *op, const Target *t) {
  return (Price){.plan = {.strategy = intern(op->func->module->names, "codebook")}, .fixed = t->call_cycles};
}

static Price price_in_registers(const Op *op, const Target *t, Work w) {
  Price p = price_begin(op, t);
  w.w_bytes /= 4;
  price_tiles(op, t, &w, &p);
  double tiles =
      (double)ceil_div(w.m, plan_param(&p.plan, "mr", 1)) * (double)ceil_div(w.rows, plan_param(&p.plan, "my", 1));
  p.compute += tiles * vectors_of(t, &w, &p) * (codebook_values(op) <= 16 ? ONE_BOOK : TWO_BOOKS);
  return p;
}

// Choices by the bits of a code past those a lookup reads.
static double open_cycles(const Codebook *c) {
  if (c->run > 1) return WORD;
  double values = c->columns ? c->n : c->bits <= 5 ? 1 : 1U << (c->bits - 5);
  return OPEN * (c->columns ? 1 : values) + CHOICE * (values - 1);
}

static Price price_once(const Op *op, const Target *t, const Work *w) {
  Price p = price_begin(op, t);
  Codebook c;
  plan_add(op, &p.plan, "once", 1);
  price_tiles(op, t, w, &p);
  p.fixed += t->call_cycles;
  if (codebook_of(op, &c)) p.fixed += vectors_of(t, w, &p) * open_cycles(&c);
  return p;
}

void strategy_codebook_price(const Op *op, const Target *t, Price *p) {
  Work w;
  *p = price_begin(op, t);
  if (!work_of(op, &w)) return;
  w.folds = w.k_lanes = false;
  bool open = once(op, &w);
  if (open) *p = price_once(op, t, &w);
  if (!in_registers(op)) return;
  Price other = price_in_registers(op, t, w);
  if (!open || price_total(&other) < price_total(p)) *p = other;
}
