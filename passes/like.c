// One pack of weights for several levels of an object. See like.h.
//
//   icelake      fma(mr = 14, nv = 2)                        panels of 2 x 16 columns
//   x86-64-v3    fma(mr = 2, nv = 2, lanes = 16, mb = 96)    the same panels, of 4 x 8
//
// Where vectors are alike the plan is taken over as it is, so that the kernels are equal too. Where they are shorter a
// panel keeps its columns and the tile gets fewer rows. Other strategies keep their own plan: what they store depends
// on the vectors, and bytes that come out equal are there once anyway.
#include <string.h>

#include "passes/like.h"
#include "passes/price/tiles.h"

#define WORTH 1.1          // times the cost: another strategy, to share weights and kernels
#define WORTH_NARROW 1.35  // ... where vectors are shorter

static bool is(const Plan *p, const char *name) { return strcmp(p->strategy, name) == 0; }

static bool costs_little(const Op *op, const Target *t, const Plan *like, const Plan *own, double most) {
  Price a, b;
  if (is(like, own->strategy)) return true;
  return price_by(op, t, like->strategy, &a) && price_by(op, t, own->strategy, &b) &&
         price_total(&a) <= most * price_total(&b);
}

// What makes a pack of weights: nothing but the strategy, the columns of a panel and the sizes of Winograd tiles.
static bool is_pack_param(const char *name) {
  static const char *const tile[] = {"mr", "my", "nv", "ku", "ks", "mb", "panels_outer", "lanes", "rows"};
  for (size_t i = 0; i < sizeof tile / sizeof *tile; i++)
    if (strcmp(tile[i], name) == 0) return true;
  return false;
}

static bool adapts(const Op *op, const Plan *like, const Target *t) {
  Work w;
  bool winograd = is(like, "winograd"), bytes = is(like, "dot8");  // summed in 32 bits
  if (!winograd && !is(like, "fma") && !bytes) return false;
  if (!work_of(op, &w) || w.depthwise || plan_param(like, "nv", 0) == 0) return false;
  if (!bytes && dtype_info(w.type)->bits != 32) return false;
  for (uint32_t i = 0; i < like->n && !winograd; i++)
    if (!is_pack_param(like->param[i].name)) return false;
  Price p;
  return price_by(op, t, like->strategy, &p);
}

// Columns of the panel as they are; rows as registers allow.
static bool adapt(const Op *op, const Target *t, const Plan *like, const Target *from, Plan *out) {
  int64_t lanes = plan_param(like, "lanes", target_lanes(from, 32)), here = target_lanes(t, 32);
  int64_t each = lanes > here ? lanes / here : 1, vectors = plan_param(like, "nv", 1) * each, regs = t->n_vregs;
  int64_t mr = (regs - vectors - 1) / vectors, most = plan_param(like, "mr", 1);
  if (mr < 1 && vectors + 4 <= regs) mr = 1;
  if (mr < 1) return false;
  if (mr > most) mr = most;
  *out = (Plan){.strategy = like->strategy};
  for (uint32_t i = 0; i < like->n; i++) {
    const char *name = like->param[i].name;
    bool tile =
        strcmp(name, "mr") == 0 || strcmp(name, "my") == 0 || strcmp(name, "ku") == 0 || strcmp(name, "ks") == 0;
    if (!tile && strcmp(name, "lanes") != 0) plan_add(op, out, name, like->param[i].value);
  }
  plan_add(op, out, "mr", mr);
  if (lanes != here) plan_add(op, out, "lanes", lanes);
  return true;
}

bool plan_like(const Op *op, const Target *t, const Plan *like, const Target *from, const Plan *own, Plan *out) {
  if (t->vector_bits == from->vector_bits && t->n_vregs == from->n_vregs) {
    *out = *like;
    return costs_little(op, t, like, own, WORTH);
  }
  return adapts(op, like, t) && costs_little(op, t, like, own, WORTH_NARROW) && adapt(op, t, like, from, out);
}
