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
#include "passes/graph_util.h"
#include "passes/recover/quantised.h"

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

static Value *narrow_weights(PassCtx *ctx, const Value *w) {
  Module *m = ctx->m;
  if (!value_is_const(w) || w->type->dtype != DT_I32) return NULL;
  int64_t n = type_count(w->type);
  for (int64_t i = 0; i < n; i++) {
    int64_t v = const_i(m, w->constant, i);
    if (v < -128 || v > 127) return NULL;
  }
  double *v = NEW_ARRAY(ctx->arena, double, n + 1);
  for (int64_t i = 0; i < n; i++) v[i] = (double)const_i(m, w->constant, i);
  return const_of_doubles(m, type_with_dtype(m->types, w->type, DT_I8), v, w->constant->name);
}

// -zero * (sum of each column) added to the product; the zero point of shifted bytes is shifted.
static void subtract_zero(PassCtx *ctx, Op *op, Value *zero, int64_t shift) {
  Module *m = ctx->m;
  const Type *w = op_in(op, 1)->type, *y = op->out[0]->type;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  int64_t k = w->dims[trans ? 1 : 0], n = w->dims[trans ? 0 : 1];
  double *sums = NEW_ARRAY(ctx->arena, double, n);
  for (int64_t i = 0; i < k * n; i++) sums[trans ? i / k : i % n] += (double)const_i(m, op_in(op, 1)->constant, i);
  Op *after = op->next;
  Value *s = const_of_doubles(m, type_tensor(m->types, DT_I32, 1, &n), sums, NULL), *out = op->out[0];
  Value *z = graph_emit(after, OP_RESHAPE, 1, &zero, type_scalar(m->types, DT_I32), op->loc);
  if (shift != 0) z = emit_with(after, OP_ADD, z, const_splat_int(m, z->type, shift), op);
  Value *part = graph_emit(after, OP_MUL, 2, (Value *[]){s, z}, s->type, op->loc);
  Value *less = graph_emit(after, OP_SUB, 2, (Value *[]){out, part}, y, op->loc);
  value_replace(out, less);
  op_set_operand(less->op, 0, out);
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
  if (op->out[0]->type->dtype != DT_I32 || op_post(op) != NULL || !widened_of(ctx->m, op_in(op, 0), &x)) return false;
  int slot = op->kind == OP_CONV ? (int)A_CONV_x_zero : (int)A_MATMUL_x_zero;
  if (op_int(op, slot) != 0) return false;
  bool product = op->kind == OP_MATMUL && op_in(op, 1)->type->rank == 2 && op_in(op, 0)->type->rank > 1 && op->next;
  if (x.at_run != NULL && !product) return false;
  Value *w = narrow_weights(ctx, op_in(op, 1));
  if (w == NULL) return false;
  op_set_operand(op, 0, emit_unsigned(op, x.q, &x.zero));
  op_set_operand(op, 1, w);
  if (x.at_run != NULL) {
    subtract_zero(ctx, op, x.at_run, x.zero);
  } else {
    op_set_int(op, slot, x.zero);
  }
  return true;
}
