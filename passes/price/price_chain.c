// The price of a factorised layer: its steps in the best order, with cores merged where that pays.
#include "passes/price/tiles.h"
#include "passes/structure/chain_price.h"

static const char *const step_name[CHAIN_CORES] = {"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"};

static void term_drop_units(const ChainForm *f, ChainTerm *t) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->n; i++)
    if (f->size[t->at[i]] != 1) t->at[n++] = t->at[i];
  t->n = n;
}

void chain_drop_units(ChainForm *f) {
  term_drop_units(f, &f->x);
  term_drop_units(f, &f->y);
  for (uint32_t i = 0; i < f->n_cores; i++) term_drop_units(f, &f->core[i]);
}

void chain_form(const Op *op, ChainForm *f) {
  const char *error = chain_read(op, f);
  QCC_CHECK(error == NULL, "a chain: %s", error);
  chain_drop_units(f);
}

static ChainShape shape_of(const Op *op, const ChainForm *f) {
  DType t = op_in(op, 0)->type->dtype;
  return (ChainShape){
      .f = f, .y = op_out(op, 0)->type, .type = t == DT_F64 ? DT_F64 : DT_F32, .last_axis = op_n_post(op) > 0};
}

// The digits of a number as a set of cores, 0 when one is no core.
static uint32_t cores_of(const ChainForm *f, int64_t digits) {
  uint32_t set = 0;
  for (; digits > 0; digits /= 10) {
    if (digits % 10 == 0 || digits % 10 > f->n_cores || (set >> (digits % 10 - 1) & 1)) return 0;
    set |= 1u << (digits % 10 - 1);
  }
  return set;
}

static int64_t digits_of(uint32_t cores) {
  int64_t digits = 0;
  for (uint32_t i = 0; i < CHAIN_CORES; i++)
    if (cores >> i & 1) digits = digits * 10 + i + 1;
  return digits;
}

bool chain_of_plan(const Op *op, const Target *t, const Plan *plan, ChainForm *f, ChainPlan *p) {
  chain_form(op, f);
  ChainAsk ask = {.fused = plan_param(plan, "fuse", -1)};
  for (uint32_t i = 0; i < CHAIN_CORES && plan_param(plan, step_name[i], 0) != 0; i++)
    ask.cores[ask.n_steps++] = cores_of(f, plan_param(plan, step_name[i], 0));
  ChainShape s = shape_of(op, f);
  return chain_plan(&s, t, &ask, p);
}

bool strategy_chain_applies(const Op *op, const Target *t) {
  (void)t;
  return op->kind == OP_CHAIN;
}

void strategy_chain_price(const Op *op, const Target *t, Price *price) {
  ChainForm f;
  ChainPlan p;
  ChainAsk any = {.fused = -1};
  *price = (Price){.plan = {.strategy = intern(op->func->module->names, "chain")}, .fixed = t->call_cycles};
  chain_form(op, &f);
  ChainShape s = shape_of(op, &f);
  QCC_CHECK(chain_plan(&s, t, &any, &p), "a chain without an order");
  double bytes = (double)type_bytes(op_in(op, 0)->type) + (double)type_bytes(op_out(op, 0)->type);
  price->compute = p.compute + p.memory;
  price->memory = bytes / price_bandwidth(t, bytes);
  for (uint32_t i = 0; i < p.n; i++) plan_add(op, &price->plan, step_name[i], digits_of(p.step[i].cores));
  plan_add(op, &price->plan, "fuse", p.n_fused);
}
