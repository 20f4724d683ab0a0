// Contractions on widened bytes, as the integer operators of ONNX arrive: the widening goes into the contraction.
//
//   %1 = cast %q : i32[..]           %q: u8 or i8
//   %2 = sub %1, 128 : i32[..]
//   %3 = conv %2, @w : i32[..]       @w: i32 constant, every weight in -128 .. 127
//   => %3 = conv %q, @w' {x_zero = 128} : i32[..]      @w': i8
//
// Exact: 32-bit sums wrap in both, and padding adds nothing in both.
#include "passes/graph_util.h"
#include "passes/recover/quantised.h"

typedef struct Widened {
  Value *q;
  int64_t zero;
} Widened;

static Op *def_of(const Value *v, OpKind kind) {
  return v != NULL && v->kind == VALUE_RESULT && v->op->kind == kind ? v->op : NULL;
}

// Is the i32 value a byte less a constant of the byte's type?
static bool widened_of(Module *m, const Value *v, Widened *out) {
  double zero = 0;
  const Op *sub = def_of(v, OP_SUB);
  if (sub != NULL && (!value_is_splat(m, op_in(sub, 1), &zero) || op_in(sub, 0)->type != v->type)) return false;
  const Op *cast = def_of(sub != NULL ? op_in(sub, 0) : v, OP_CAST);
  if (cast == NULL) return false;
  DType t = op_in(cast, 0)->type->dtype;
  *out = (Widened){op_in(cast, 0), (int64_t)zero};
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

bool quantised_narrow(PassCtx *ctx, Op *op) {
  Widened x;
  if (op->out[0]->type->dtype != DT_I32 || op_post(op) != NULL || !widened_of(ctx->m, op_in(op, 0), &x)) return false;
  int slot = op->kind == OP_CONV ? (int)A_CONV_x_zero : (int)A_MATMUL_x_zero;
  if (op_int(op, slot) != 0) return false;
  Value *w = narrow_weights(ctx, op_in(op, 1));
  if (w == NULL) return false;
  op_set_operand(op, 0, emit_unsigned(op, x.q, &x.zero));
  op_set_operand(op, 1, w);
  op_set_int(op, slot, x.zero);
  return true;
}
