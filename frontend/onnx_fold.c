// Eager folding during the import: shapes are computed by chains of constant nodes, and Reshape wants the numbers.
//
// Only the interpreter computes. The size of the results and the work are known before it runs; what exceeds the budget
// stays in the graph (later passes decide) unless it is beyond anything a program could hold, which is refused here.
// Dequantised weights stay as they are: what the exporter compressed must not be blown up on the way in.
#include "frontend/onnx_walk.h"
#include "ir/eval.h"

#define FOLD_MAX_COST INT64_C(2000000000)  // scalar operations of one folded op
#define FOLD_REFUSE_FACTOR 16              // results above this many budgets are refused

static bool all_constant(const Op *op) {
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op->in[i].value && !value_is_const(op->in[i].value)) return false;
  return op->n_in > 0;
}

// Bytes of all results, -1 when a type is not known or not static.
static int64_t result_bytes(const Op *op) {
  int64_t sum = 0;
  for (uint32_t i = 0; i < op->n_out; i++) {
    const Type *t = op->out[i]->type;
    if (!t || !type_is_static(t)) return -1;
    sum += type_bytes(t);
  }
  return sum;
}

static bool fold(NodeCtx *c, Op *op, Value **results) {
  Tensor *in = NEW_ARRAY(c->scratch, Tensor, op->n_in), *out = NEW_ARRAY(c->scratch, Tensor, op->n_out);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op->in[i].value) in[i] = tensor_of_const(c->m, op->in[i].value->constant);
  for (uint32_t i = 0; i < op->n_out; i++) out[i].type = op->out[i]->type;
  if (!eval_op(op, in, out, c->scratch)) return false;
  for (uint32_t i = 0; i < op->n_out; i++) results[i] = const_bytes(c->m, op->out[i]->type, out[i].data, NULL);
  op_unlink(op);
  return true;
}

bool onnx_fold(NodeCtx *c, Op *op, Value **results) {
  for (uint32_t i = 0; i < op->n_out; i++) results[i] = op->out[i];
  if (!all_constant(op) || op->kind == OP_DEQUANTIZE || op->kind == OP_LOOKUP) return true;
  int64_t bytes = result_bytes(op);
  if (bytes < 0) return true;
  if (bytes / FOLD_REFUSE_FACTOR > c->opt->fold_bytes)
    return diag_error(c->m->diag, DIAG_LIMIT, c->loc,
                      "computes a constant of %lld bytes; constants are folded up to %lld bytes (--fold-limit)",
                      (long long)bytes, (long long)c->opt->fold_bytes);
  if (bytes > c->opt->fold_bytes || bytes > c->importer->fold_left || eval_cost(op) > FOLD_MAX_COST) return true;
  c->importer->fold_left -= bytes;
  return fold(c, op, results);
}
