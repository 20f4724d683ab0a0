// Inference of chain: operands hold as many elements as their letters say, the result type is stated by whoever built
// the op and its axes are runs of letters.
#include "ir/chain.h"
#include "ir/infer_hooks.h"

static bool holds(const Op *op, const ChainForm *f, const ChainTerm *t, const Type *type, const char *what) {
  int64_t count;
  if (!chain_term_count(f, t, &count)) return infer_fail(op, "%s of the equation is too large", what);
  for (uint32_t i = 0; i < type->rank; i++)
    if (!infer_known(op, type->dims[i], "a chain")) return false;
  if (type_count(type) == count) return true;
  return infer_fail(op, "%s has %lld elements, its letters %lld", what, (long long)type_count(type), (long long)count);
}

static bool cores_given(const Op *op, const ChainForm *f) {
  uint32_t given = 0;
  for (uint32_t i = 1; i <= CHAIN_CORES && op_in(op, i); i++) given++;
  for (uint32_t i = given + 1; i <= CHAIN_CORES; i++)
    if (op_in(op, i)) return infer_fail(op, "operand %u stands behind one that is not given", i);
  return given == f->n_cores || infer_fail(op, "the equation has %u terms for %u operands", f->n_cores + 1, given + 1);
}

bool infer_chain(Op *op) {
  ChainForm f;
  const char *error = chain_read(op, &f);
  if (error) return infer_fail(op, "%s", error);
  if (!infer_given(op) || !infer_is_float(op, 0, "x") || !cores_given(op, &f)) return false;
  if (!holds(op, &f, &f.x, infer_in(op, 0), "x")) return false;
  for (uint32_t i = 0; i < f.n_cores; i++)
    if (!infer_same_dtype(op, 0, i + 1) || !holds(op, &f, &f.core[i], infer_in(op, i + 1), "a core")) return false;
  Type y = *op_out(op, 0)->type;
  if (!holds(op, &f, &f.y, &y, "the result")) return false;
  uint32_t axis;
  int64_t step;
  for (uint32_t i = 0; i < f.y.n; i++)
    if (!chain_axis(&f, &y, f.y.at[i], &axis, &step))
      return infer_fail(op, "letter '%c' does not lie within an axis of %s", f.name[f.y.at[i]], infer_text(op, &y));
  return infer_set(op, 0, infer_in(op, 0)->dtype, y.rank, y.dims);
}
