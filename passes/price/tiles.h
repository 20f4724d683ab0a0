// Shared by the prices of strategies: small readings of an op, and the register tiles of the contraction nest.
#ifndef QCC_PASSES_PRICE_TILES_H
#define QCC_PASSES_PRICE_TILES_H

#include "passes/price.h"

// Declared for every row of strategies.def: passes/price/price_<name>.c defines them.
#define STRATEGY(name, doc)                                      \
  bool strategy_##name##_applies(const Op *op, const Target *t); \
  void strategy_##name##_price(const Op *op, const Target *t, Price *p);
#include "passes/strategies.def"
#undef STRATEGY

double work_macs(const Work *w);
int64_t elem_bytes(const Value *v);
bool is_byte(const Value *v);  // i8 or u8
// A contraction without elements or without terms has no tiles to price.
bool is_empty(const Op *op);
// A parameter of the plan; lowering reads it by name.
void plan_add(const Op *op, Plan *p, const char *name, int64_t value);

// The register tile and the order of loops of a nest whose step of one vector by one column costs 1 / fma_per_cycle.
void price_tiles(const Op *op, const Target *t, const Work *work, Price *p);
// One filter per channel: lanes are channels.
void price_depthwise(const Op *op, const Target *t, const Work *w, Price *p);

#endif
