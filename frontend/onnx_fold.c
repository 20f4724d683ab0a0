// Eager folding during the import: shapes are computed by chains of constant nodes, and Reshape wants the numbers.
//
// Only the interpreter computes. The size of the results and the work are known before it runs; what exceeds the budget
// stays in the graph (later passes decide) unless it is beyond anything a program could hold, which is refused here.
// Dequantised weights stay as they are: what the exporter compressed must not be blown up on the way in.
//
// Weights that a straight-through estimator quantised arrive as w + (q - w). Folded as it is written that is q up to a
// rounding of the difference, which would hide the levels; folded here it is q, if q takes few values and the sum is q
// but for that rounding. Pass idioms does the same for activations. Not under --fp=strict.
#include <math.h>

#include "frontend/onnx_walk.h"
#include "ir/base/map.h"
#include "ir/elem.h"
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

// ---- w + (q - w)

#define LEVELS 256  // q takes at most

typedef struct Difference {
  Value *q, *x;
} Difference;

static bool is_f32(const Value *v) { return v->type->dtype == DT_F32 && type_is_static(v->type); }

static void note_difference(NodeCtx *c, Value *result, Value *q, Value *x) {
  OnnxImporter *im = c->importer;
  if (!is_f32(result) || q->type != result->type || x->type != result->type) return;
  if (im->differences == NULL) im->differences = map_new(im->arena);
  Difference *d = NEW(im->arena, Difference);
  *d = (Difference){q, x};
  map_set(im->differences, result->constant->id + 1u, d);
}

static bool takes_few_values(Module *m, Value *v) {
  float seen[LEVELS];
  uint32_t n = 0;
  const AnyF32 *data = const_data(m, v->constant);
  for (int64_t i = 0, count = type_count(v->type); i < count; i++) {
    uint32_t k = 0;
    while (k < n && seen[k] != data[i]) k++;
    if (k < n) continue;
    if (n == LEVELS) return false;
    seen[n++] = data[i];
  }
  return true;
}

// The q that the sum of x and a difference q - x stands for, or NULL.
static Value *quantised(NodeCtx *c, Value *x, Value *difference, Value *sum) {
  Map *differences = c->importer->differences;
  Difference *d = differences ? map_get(differences, difference->constant->id + 1u) : NULL;
  if (d == NULL || d->x->constant != x->constant || d->q->type != sum->type || c->opt->strict_fp) return NULL;
  const AnyF32 *q = const_data(c->m, d->q->constant), *y = const_data(c->m, sum->constant);
  const AnyF32 *w = const_data(c->m, x->constant);
  for (int64_t i = 0, n = type_count(sum->type); i < n; i++)
    if (!(fabsf(y[i] - q[i]) <= 0x1p-22f * (fabsf(q[i]) + fabsf(w[i])))) return NULL;
  return takes_few_values(c->m, d->q) ? d->q : NULL;
}

static void resolve(NodeCtx *c, OpKind kind, Value *const *in, Value **result) {
  if (kind == OP_SUB) note_difference(c, *result, in[0], in[1]);
  if (kind != OP_ADD) return;
  Value *q = quantised(c, in[0], in[1], *result);
  if (q == NULL) q = quantised(c, in[1], in[0], *result);
  if (q != NULL) *result = q;
}

// ---- folding

static bool fold(NodeCtx *c, Op *op, Value **results) {
  Tensor *in = NEW_ARRAY(c->scratch, Tensor, op->n_in), *out = NEW_ARRAY(c->scratch, Tensor, op->n_out);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op->in[i].value) in[i] = tensor_of_const(c->m, op->in[i].value->constant);
  for (uint32_t i = 0; i < op->n_out; i++) out[i].type = op->out[i]->type;
  if (!eval_op(op, in, out, c->scratch)) return false;
  for (uint32_t i = 0; i < op->n_out; i++) results[i] = const_bytes(c->m, op->out[i]->type, out[i].data, NULL);
  OpKind kind = op->kind;
  Value *operands[2] = {op_in(op, 0), op_in(op, 1)};
  op_unlink(op);
  if (kind == OP_ADD || kind == OP_SUB) resolve(c, kind, operands, results);
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
