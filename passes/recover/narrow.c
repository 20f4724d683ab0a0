// Contractions on widened bytes, as the integer operators of ONNX arrive: the widening goes into the contraction.
//
//   %1 = cast %q : i32[..]           %q: u8 or i8
//   %2 = sub %1, 128 : i32[..]
//   %3 = conv %2, @w : i32[..]       @w: i32 constant, every weight in -128 .. 127
//   => %3 = conv %q, @w' {x_zero = 128} : i32[..]      @w': i8
//
// A zero point known at run time only is taken out of a matrix product: a w - zero * (sums of the columns of w).
// Exact: 32-bit sums wrap in both, and padding adds nothing in both. Of two widened operands both become bytes
// (pair.c).
#include "ir/note.h"
#include "passes/contraction.h"
#include "passes/graph_util.h"
#include "passes/recover/quantised.h"
#include "passes/recover/whole.h"

typedef struct Widened {
  Value *q, *at_run;  // at_run: zero point that is no constant
  int64_t zero;
} Widened;

// Is the i32 value a byte less a constant of the byte's type?
static bool widened_of(Module *m, const Value *v, Widened *out) {
  double zero = 0;
  const Op *sub = value_def(v, OP_SUB);
  bool known = sub == NULL || value_is_splat(m, op_in(sub, 1), &zero);
  if (sub != NULL && op_in(sub, 0)->type != v->type) return false;
  const Op *cast = value_def(sub != NULL ? op_in(sub, 0) : v, OP_CAST);
  if (cast == NULL) return false;
  DType t = op_in(cast, 0)->type->dtype;
  *out = (Widened){op_in(cast, 0), known ? NULL : op_in(sub, 1), (int64_t)zero};
  if (!known && (!type_is_static(out->at_run->type) || type_count(out->at_run->type) != 1)) return false;
  return (t == DT_U8 || t == DT_I8) && out->zero >= dtype_min(t) && out->zero <= dtype_max(t) &&
         !value_is_const(out->q);
}

static bool whole_weights(PassCtx *ctx, const Op *op, WholeWeights *w) {
  const Value *v = op_in(op, 1);
  if (!value_is_const(v) || v->type->dtype != DT_I32) return false;
  WeightChannels of;
  if (!weight_channels(op, &of)) return false;
  int64_t *q = NEW_ARRAY(ctx->arena, int64_t, of.n);
  for (int64_t i = 0; i < of.n; i++) q[i] = const_i(ctx->m, v->constant, i);
  *w = (WholeWeights){v->type, q, of, v->constant->name};
  return whole_weights_fit(op, w);
}

// y - zero * (sum of each column of w): the product for a zero point known at run time; that of shifted bytes is
// shifted.
static Value *less_zero(PassCtx *ctx, Op *op, Value *y, const WholeWeights *w, Value *zero, int64_t shift) {
  Module *m = ctx->m;
  int64_t n = w->of.channels;
  double *sums = NEW_ARRAY(ctx->arena, double, n);
  for (int64_t i = 0, end = type_count(w->type); i < end; i++) sums[weight_channel(&w->of, i)] += (double)w->v[i];
  Value *s = const_of_doubles(m, type_tensor(m->types, DT_I32, 1, &n), sums, NULL);
  Value *z = graph_emit(op, OP_RESHAPE, 1, &zero, type_scalar(m->types, DT_I32), op->loc);
  if (shift != 0) z = emit_with(op, OP_ADD, z, const_splat_int(m, z->type, shift), op);
  Value *part = graph_emit(op, OP_MUL, 2, (Value *[]){s, z}, s->type, op->loc);
  return graph_emit(op, OP_SUB, 2, (Value *[]){y, part}, y->type, op->loc);
}

bool quantised_pair(PassCtx *ctx, Op *op) {
  Widened a, b;
  if (op->out[0]->type->dtype != DT_I32 || !byte_product_fits(op)) return false;
  if (!widened_of(ctx->m, op_in(op, 0), &a) || !widened_of(ctx->m, op_in(op, 1), &b)) return false;
  if (a.at_run != NULL || b.at_run != NULL || op_in(op, 0)->type->dims[op_in(op, 0)->type->rank - 1] > 65536)
    return false;
  Value *y = emit_byte_product(op, a.q, a.zero, b.q, b.zero);
  y->name = op->out[0]->name;
  note_layer(ctx->m, y->op, NOTE_RECOVERED, "%s by %s activations", dtype_info(a.q->type->dtype)->name,
             dtype_info(b.q->type->dtype)->name);
  value_replace(op->out[0], y);
  op_unlink(op);
  return true;
}

bool quantised_narrow(PassCtx *ctx, Op *op) {
  Widened x;
  WholeWeights w;
  if (op->out[0]->type->dtype != DT_I32 || op_post(op) != NULL || !widened_of(ctx->m, op_in(op, 0), &x)) return false;
  if (op_int(op, op->kind == OP_CONV ? (int)A_CONV_x_zero : (int)A_MATMUL_x_zero) != 0) return false;
  bool product = op->kind == OP_MATMUL && op_in(op, 1)->type->rank == 2 && op_in(op, 0)->type->rank > 1;
  if (x.at_run != NULL && !product) return false;
  if (!whole_weights(ctx, op, &w)) return false;
  Value *bytes = emit_unsigned(op, x.q, &x.zero), *bias = op_in(op, 2);
  Value *y = whole_sum(ctx, op, bytes, x.at_run != NULL ? 0 : x.zero, &w, bias);
  if (x.at_run != NULL) y = less_zero(ctx, op, y, &w, x.at_run, x.zero);
  y->name = op->out[0]->name;
  value_replace(op->out[0], y);
  op_unlink(op);
  return true;
}
