// batchnorm that was not folded into a contraction: element-wise over x with per-channel operands. Constant scale and
// variance become one constant factor, computed in double.
#include <math.h>

#include "passes/lower/walk.h"

typedef struct Batchnorm {
  const Walk *walk;
  DType t;
  double epsilon;
  bool folded;  // scale is already divided by the deviation
  KBuf *y, *x, *in[4];
  KVar *hoisted[4];
} Batchnorm;  // in: scale, bias, mean, var

static KExpr *parameter(Batchnorm *bn, KBuild *b, uint32_t i, const Affine *at) {
  if (bn->hoisted[i]) return kx_var(b, bn->hoisted[i]);
  return kx_cast(b, bn->t, lower_load1(b, bn->in[i], at[2 + i]));
}

static KExpr *factor(Batchnorm *bn, KBuild *b, const Affine *at) {
  KExpr *scale = parameter(bn, b, 0, at);
  if (bn->folded) return scale;
  KExpr *var = kx_op2(b, KOP_ADD, parameter(bn, b, 3, at), kx_f(b, bn->t, bn->epsilon));
  return kx_op2(b, KOP_DIV, scale, kx_op1(b, KOP_SQRT, var));
}

// Parameters that stay the same along the innermost loop; the first one then holds the whole factor.
static void hoist(void *ctx, KBuild *b, const Affine *at) {
  Batchnorm *bn = ctx;
  for (uint32_t i = 0; i < 4; i++) bn->hoisted[i] = NULL;
  if (walk_varies(bn->walk, 2)) return;
  KVar *f = kb_let(b, "scale", factor(bn, b, at));
  bn->hoisted[1] = kb_let(b, "bias", parameter(bn, b, 1, at));
  bn->hoisted[2] = kb_let(b, "mean", parameter(bn, b, 2, at));
  bn->hoisted[0] = f;
}

static void body(void *ctx, KBuild *b, const Affine *at) {
  Batchnorm *bn = ctx;
  KExpr *scale = bn->hoisted[0] ? kx_var(b, bn->hoisted[0]) : factor(bn, b, at);
  KExpr *d = kx_op2(b, KOP_SUB, lower_load1(b, bn->x, at[1]), parameter(bn, b, 2, at));
  lower_store1(b, bn->y, at[0], kx_op3(b, KOP_FMA, d, scale, parameter(bn, b, 1, at)));
}

static Value *folded_factor(LowerCtx *ctx, Value *scale, Value *var, double epsilon) {
  int64_t n = type_count(scale->type);
  bool wide = scale->type->dtype == DT_F64;
  const Type *t = type_with_dtype(ctx->m->types, scale->type, wide ? DT_F64 : DT_F32);
  double *f64 = NEW_ARRAY(ctx->m->arena, double, n);
  float *f32 = NEW_ARRAY(ctx->m->arena, float, n);
  for (int64_t i = 0; i < n; i++) {
    f64[i] = const_f(ctx->m, scale->constant, i) / sqrt(const_f(ctx->m, var->constant, i) + epsilon);
    f32[i] = (float)f64[i];
  }
  return const_bytes(ctx->m, t, wide ? (void *)f64 : f32, "scale");
}

bool lower_batchnorm(LowerCtx *ctx, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  int64_t axis = lower_axis(op, A_BATCHNORM_axis), strides[MAX_RANK] = {0};
  Batchnorm bn = {.t = lower_compute_type(t->dtype), .epsilon = op_float(op, A_BATCHNORM_epsilon)};
  Value *scale = op_in(op, 1), *var = op_in(op, 4);
  bn.folded = value_is_const(scale) && value_is_const(var);
  if (bn.folded) scale = folded_factor(ctx, scale, var, bn.epsilon);
  Value *in[4] = {scale, op_in(op, 2), op_in(op, 3), var};
  PBuf *bufs[6] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0))};
  uint32_t n_in = bn.folded ? 3 : 4;
  Walk walk;
  KBuild b;
  lower_begin(ctx, &b, op);
  bn.walk = &walk;
  bn.y = lower_flat(&b, bufs[0]);
  bn.x = lower_flat(&b, bufs[1]);
  walk_init(&walk, t->rank, t->dims);
  walk_broadcast(&walk, t);
  strides[axis] = 1;
  for (uint32_t i = 0; i < n_in; i++) {
    bufs[2 + i] = lower_buf(ctx, in[i]);
    bn.in[i] = lower_flat(&b, bufs[2 + i]);
    walk_operand(&walk, 0, strides);
  }
  walk_collapse(&walk);
  walk_emit(&b, &walk, true, hoist, body, &bn);
  lower_step(ctx, &b, op, NULL, 2 + n_in, bufs);
  return true;
}
