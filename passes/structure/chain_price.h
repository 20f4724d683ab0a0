// Between a `chain` op and its plan as text.
#ifndef QCC_PASSES_STRUCTURE_CHAIN_PRICE_H
#define QCC_PASSES_STRUCTURE_CHAIN_PRICE_H

#include "passes/price.h"
#include "passes/structure/chain.h"

// The form of an op without the letters of one value.
void chain_form(const Op *op, ChainForm *f);
// What a plan written on an op asks for, carried out. False: it does not name each core once.
bool chain_of_plan(const Op *op, const Target *t, const Plan *plan, ChainForm *f, ChainPlan *p);

#endif
