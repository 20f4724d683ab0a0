// Plans that read the packed weights of another level of the same object.
#ifndef QCC_PASSES_LIKE_H
#define QCC_PASSES_LIKE_H

#include "passes/price.h"

// The plan of `op` on `t` that packs weights as `like` does on `from`. False: there is none, or it costs more than the
// bytes are worth against `own`, the cheapest plan on `t`.
bool plan_like(const Op *op, const Target *t, const Plan *like, const Target *from, const Plan *own, Plan *out);

#endif
