// The price of depthwise convolutions in planes: products of whole vectors of columns, the last one of a row included.
#include "passes/lower/planar.h"
#include "passes/price/tiles.h"

bool strategy_planar_applies(const Op *op, const Target *t) {
  ConvGeom g;
  return t->vector_bits >= 128 && planar_geom(op, target_lanes(t, 32), &g);
}

void strategy_planar_price(const Op *op, const Target *t, Price *p) {
  ConvGeom g;
  int64_t lanes = target_lanes(t, 32), my = 4;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "planar")}, .fixed = t->call_cycles};
  if (!planar_geom(op, lanes, &g)) return;
  double vectors = (double)(g.n * g.c * g.out[1]) * (double)((g.out[2] + lanes - 1) / lanes);
  double bytes = (double)type_bytes(op_in(op, 0)->type) + (double)type_bytes(op_out(op, 0)->type);
  p->compute = vectors * (double)(g.kernel[1] * g.kernel[2]) * 1.2 / t->fma_per_cycle;
  p->memory = bytes / price_bandwidth(t, bytes);
  plan_add(op, &p->plan, "my", my);
}
