// The price of convolutions in planes: of depthwise ones products of whole vectors of columns, the last one of a row
// included; of those with one tap the register tiles of filters by pixels.
#include "passes/lower/planar.h"
#include "passes/price/tiles.h"

bool strategy_planar_applies(const Op *op, const Target *t) {
  ConvGeom g;
  int64_t lanes = target_lanes(t, 32);
  return t->vector_bits >= 128 && (planar_geom(op, lanes, &g) || planar_pointwise(op, lanes, &g));
}

static void pointwise_price(const Op *op, const Target *t, const ConvGeom *g, Price *p) {
  Work w = {.copies = 1, .rows = g->n, .row_run = 1, .m = g->o, .n = g->in[1] * g->in[2], .k = g->c, .k_inner = g->c};
  w.type = DT_F32;
  w.x_step = 4 * g->c;
  w.x_bytes = (double)type_bytes(op_in(op, 1)->type);
  w.w_bytes = (double)type_bytes(op_in(op, 0)->type);
  w.y_bytes = (double)type_bytes(op_out(op, 0)->type);
  price_tiles(op, t, &w, p);
}

void strategy_planar_price(const Op *op, const Target *t, Price *p) {
  ConvGeom g;
  int64_t lanes = target_lanes(t, 32), my = 4;
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "planar")}, .fixed = t->call_cycles};
  if (planar_pointwise(op, lanes, &g)) pointwise_price(op, t, &g, p);
  if (!planar_geom(op, lanes, &g)) return;
  double vectors = (double)(g.n * g.c * g.out[1]) * (double)((g.out[2] + lanes - 1) / lanes);
  double bytes = (double)type_bytes(op_in(op, 0)->type) + (double)type_bytes(op_out(op, 0)->type);
  p->compute = vectors * (double)(g.kernel[1] * g.kernel[2]) * 1.2 / t->fma_per_cycle;
  p->memory = bytes / price_bandwidth(t, bytes);
  plan_add(op, &p->plan, "my", my);
}
