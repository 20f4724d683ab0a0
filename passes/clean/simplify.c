// Pass simplify: local rewrites, one named rule each. A rule keeps the result type, shrinks the graph or its work,
// copies the location, and holds for every value of the operands, NaN, infinities and the sign of zero included.
//
//   %0 = transpose %x {perm = [1,0]} : f32[8,4]
//   %1 = transpose %0 {perm = [1,0]} : f32[4,8]
//   %2 = mul %1, 1.0 : f32[4,8]
//   => uses of %2 become %x
//
// A rule returns the value that takes the place of result 0, or NULL when it does not apply. It may emit ops before
// `op`.
#include <string.h>

#include "passes/graph_util.h"
#include "passes/pass.h"

#define MAX_FLAT_BYTES (INT64_C(1) << 26)  // weights that are put in another order

typedef struct Ctx {
  Module *m;
} Ctx;

typedef Value *Rule(Ctx *c, Op *op);

static Value *reshape_to(Op *op, Value *x) {
  if (x->type == op->out[0]->type) return x;
  return graph_emit(op, OP_RESHAPE, 1, &x, op->out[0]->type, op->loc);
}

// reshape(reshape(x)) -> reshape(x); a reshape to its own type is its operand
static Value *rule_reshape(Ctx *c, Op *op) {
  (void)c;
  Value *x = op_in(op, 0);
  Op *inner = value_def(x, OP_RESHAPE);
  if (inner) return reshape_to(op, op_in(inner, 0));
  return x->type == op->out[0]->type ? x : NULL;
}

// A transpose that keeps the order of all dims larger than 1 moves no element.
static bool moves_nothing(const Type *t, const int64_t *perm) {
  int64_t last = -1;
  for (uint32_t i = 0; i < t->rank; i++) {
    if (t->dims[perm[i]] == 1) continue;
    if (perm[i] < last) return false;
    last = perm[i];
  }
  return true;
}

// transpose(transpose(x)) -> one; one that moves nothing -> reshape
static Value *rule_transpose(Ctx *c, Op *op) {
  (void)c;
  uint32_t n;
  const int64_t *perm = op_ints(op, A_TRANSPOSE_perm, &n);
  Value *x = op_in(op, 0);
  if (moves_nothing(x->type, perm)) return reshape_to(op, x);
  Op *inner = value_def(x, OP_TRANSPOSE);
  if (!inner) return NULL;
  int64_t both[MAX_RANK];
  for (uint32_t i = 0; i < n; i++) both[i] = op_ints_at(inner, A_TRANSPOSE_perm, (uint32_t)perm[i], 0);
  Value *out = graph_emit(op, OP_TRANSPOSE, 1, (Value *[]){op_in(inner, 0)}, op->out[0]->type, op->loc);
  op_set_ints(out->op, A_TRANSPOSE_perm, n, both);
  return out;
}

// x op identity element -> x (never for float add of +0: -0 + +0 is +0)
static Value *rule_identity_element(Ctx *c, Op *op) {
  Value *x = op_in(op, 0);
  double v;
  if (x->type != op->out[0]->type || !value_is_splat(c->m, op_in(op, 1), &v)) {
    if (!(op_info(op->kind)->traits & TRAIT_COMMUTES)) return NULL;
    x = op_in(op, 1);
    if (x->type != op->out[0]->type || !value_is_splat(c->m, op_in(op, 0), &v)) return NULL;
  }
  bool is_float = dtype_is_float(x->type->dtype), minus_zero = v == 0 && __builtin_signbit(v) != 0;
  switch (op->kind) {
    case OP_MUL:
    case OP_DIV: return v == 1 ? x : NULL;
    case OP_ADD: return v == 0 && (!is_float || minus_zero) ? x : NULL;
    case OP_SUB: return v == 0 && (!is_float || !minus_zero) ? x : NULL;
    case OP_POW: return v == 1 ? x : NULL;
    default: return NULL;
  }
}

// pow(x, 2) -> mul(x, x)
static Value *rule_pow2(Ctx *c, Op *op) {
  double v;
  Value *x = op_in(op, 0);
  if (!value_is_splat(c->m, op_in(op, 1), &v) || v != 2 || x->type != op->out[0]->type) return NULL;
  return graph_emit(op, OP_MUL, 2, (Value *[]){x, x}, x->type, op->loc);
}

// div(x, 2^k) -> mul(x, 2^-k): exact
static Value *rule_div_pow2(Ctx *c, Op *op) {
  double v;
  Value *d = op_in(op, 1);
  if (!dtype_is_float(op->out[0]->type->dtype) || !value_is_splat(c->m, d, &v)) return NULL;
  int e;
  if (v == 0 || __builtin_fabs(__builtin_frexp(v, &e)) != 0.5 || e < -12 || e > 12) return NULL;
  Value *r = const_splat(c->m, d->type, 1 / v);
  return graph_emit(op, OP_MUL, 2, (Value *[]){op_in(op, 0), r}, op->out[0]->type, op->loc);
}

// relu(relu(x)) -> relu(x); the same for abs, floor, ceil, round, sign
static Value *rule_idempotent(Ctx *c, Op *op) {
  (void)c;
  return value_def(op_in(op, 0), op->kind) ? op_in(op, 0) : NULL;
}

// max(x, 0) -> relu(x)
static Value *rule_max_zero(Ctx *c, Op *op) {
  double v;
  for (uint32_t i = 0; i < 2; i++) {
    Value *x = op_in(op, i);
    if (!value_is_splat(c->m, op_in(op, 1 - i), &v) || v != 0 || __builtin_signbit(v)) continue;
    if (x->type != op->out[0]->type || !dtype_is_float(x->type->dtype)) continue;
    return graph_emit(op, OP_RELU, 1, &x, x->type, op->loc);
  }
  return NULL;
}

// cast to the own type -> operand
static Value *rule_same_type(Ctx *c, Op *op) {
  (void)c;
  return op_in(op, 0)->type == op->out[0]->type ? op_in(op, 0) : NULL;
}

// select with one condition everywhere -> that operand
static Value *rule_select(Ctx *c, Op *op) {
  double v;
  if (!value_is_splat(c->m, op_in(op, 0), &v)) return NULL;
  Value *x = op_in(op, v != 0 ? 1 : 2);
  if (x->type == op->out[0]->type) return x;
  return graph_emit(op, OP_EXPAND, 1, &x, op->out[0]->type, op->loc);
}

// An element-wise op broadcasts by itself: eltwise(expand(x), y) -> eltwise(x, y) when y keeps the result shape.
static Value *rule_expand_operand(Ctx *c, Op *op) {
  const Type *result = op->out[0]->type;
  for (uint32_t i = 0; op->n_in > 1 && i < op->n_in; i++) {
    Op *e = value_def(op_in(op, i), OP_EXPAND);
    bool kept = false;
    for (uint32_t j = 0; e && j < op->n_in; j++) {
      kept |= j != i && type_same_shape(op_in(op, j)->type, result);
    }
    if (!kept) continue;
    Value **in = NEW_ARRAY(c->m->arena, Value *, op->n_in);
    for (uint32_t j = 0; j < op->n_in; j++) in[j] = j == i ? op_in(e, 0) : op_in(op, j);
    Op *now = op_new(op->func, op, op->kind, op->n_in, in, op->loc);
    op_copy_attrs(now, op);
    now->out[0]->type = result;
    return now->out[0];
  }
  return NULL;
}

// slice of everything -> operand; slice(slice(x)) with unit steps -> one slice
static Value *rule_slice(Ctx *c, Op *op) {
  (void)c;
  Value *x = op_in(op, 0);
  uint32_t n;
  const int64_t *starts = op_ints(op, A_SLICE_starts, &n);
  bool unit = true, zero = true;
  for (uint32_t i = 0; i < n; i++) {
    unit &= op_ints_at(op, A_SLICE_steps, i, 1) == 1;
    zero &= starts[i] == 0;
  }
  if (x->type == op->out[0]->type && unit && zero) return x;
  Op *inner = value_def(x, OP_SLICE);
  if (!inner || !unit) return NULL;
  int64_t sum[MAX_RANK];
  for (uint32_t i = 0; i < n; i++) {
    if (op_ints_at(inner, A_SLICE_steps, i, 1) != 1) return NULL;
    sum[i] = starts[i] + op_ints_at(inner, A_SLICE_starts, i, 0);
  }
  Value *out = graph_emit(op, OP_SLICE, 1, (Value *[]){op_in(inner, 0)}, op->out[0]->type, op->loc);
  op_set_ints(out->op, A_SLICE_starts, n, sum);
  return out;
}

// gather with consecutive constant indices -> slice (and reshape when the index is a scalar)
static Value *rule_gather(Ctx *c, Op *op) {
  Value *x = op_in(op, 0), *index = op_in(op, 1);
  if (!value_is_const(index) || index->type->rank > 1 || type_count(index->type) == 0) return NULL;
  int64_t axis = op_int(op, A_GATHER_axis), n = type_count(index->type), dim;
  if (axis < 0) axis += x->type->rank;
  dim = x->type->dims[axis];
  int64_t first = const_i(c->m, index->constant, 0);
  if (first < 0) first += dim;
  if (first < 0 || first + n > dim) return NULL;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = const_i(c->m, index->constant, i);
    if ((at < 0 ? at + dim : at) != first + i) return NULL;
  }
  int64_t starts[MAX_RANK] = {0}, dims[MAX_RANK];
  memcpy(dims, x->type->dims, sizeof dims);
  starts[axis] = first;
  dims[axis] = n;
  const Type *t = type_with_dims(c->m->types, x->type, x->type->rank, dims);
  Value *out = graph_emit(op, OP_SLICE, 1, &x, t, op->loc);
  op_set_ints(out->op, A_SLICE_starts, x->type->rank, starts);
  return reshape_to(op, out);
}

// concat of one -> operand
static Value *rule_concat(Ctx *c, Op *op) {
  (void)c;
  return op->n_in == 1 ? op_in(op, 0) : NULL;
}

static bool ints_all(const Op *op, int slot, int64_t v) {
  uint32_t n;
  const int64_t *a = op_ints(op, slot, &n);
  for (uint32_t i = 0; i < n; i++)
    if (a[i] != v) return false;
  return true;
}

// pad by nothing -> operand; tile once -> operand; reduce over no axis (sum, mean, max, min, prod) -> operand
static Value *rule_nothing(Ctx *c, Op *op) {
  (void)c;
  Value *x = op_in(op, 0);
  if (x->type != op->out[0]->type) return NULL;
  if (op->kind == OP_PAD) return ints_all(op, A_PAD_pads, 0) ? x : NULL;
  if (op->kind == OP_TILE) return ints_all(op, A_TILE_repeats, 1) ? x : NULL;
  uint32_t n;
  op_ints(op, A_REDUCE_axes, &n);
  EnumValue r = op_enum(op, A_REDUCE_op);
  bool keeps = r == REDUCE_SUM || r == REDUCE_MEAN || r == REDUCE_MAX || r == REDUCE_MIN || r == REDUCE_PROD;
  return n == 0 && keeps ? x : NULL;
}

// conv(pad(x, constant 0 or the zero point)) -> conv with larger pads (spatial, non-negative pads only)
static Value *rule_conv_pad(Ctx *c, Op *op) {
  (void)c;
  Op *pad = value_def(op_in(op, 0), OP_PAD);
  if (!pad || op->n_in > 3 || op_enum(pad, A_PAD_mode) != PAD_CONSTANT) return NULL;
  if (op_float(pad, A_PAD_value) != (double)op_int(op, A_CONV_x_zero)) return NULL;
  uint32_t rank = op_in(op, 0)->type->rank, sp = rank - 2;
  uint32_t first = op_enum(op, A_CONV_layout) == LAYOUT_NCHW ? 2 : 1;
  int64_t pads[2 * MAX_RANK];
  for (uint32_t i = 0; i < 2 * rank; i++) {
    int64_t v = op_ints_at(pad, A_PAD_pads, i, 0);
    uint32_t axis = i % rank;
    bool spatial = axis >= first && axis < first + sp;
    if (v < 0 || (!spatial && v != 0)) return NULL;
    if (spatial)
      pads[(i / rank) * sp + axis - first] = v + op_ints_at(op, A_CONV_pads, (i / rank) * sp + axis - first, 0);
  }
  Value *in[3] = {op_in(pad, 0), op_in(op, 1), op_in(op, 2)};
  Op *now = op_new(op->func, op, OP_CONV, op->n_in, in, op->loc);
  op_copy_attrs(now, op);
  op_set_ints(now, A_CONV_pads, 2 * sp, pads);
  op_add_loc(now, pad);
  now->out[0]->type = op->out[0]->type;
  return now->out[0];
}

// matmul(transpose(a), b) -> matmul with trans_a, when the transpose swaps the last two dims; the same for b
static Value *rule_matmul_transpose(Ctx *c, Op *op) {
  (void)c;
  for (uint32_t i = 0; i < 2; i++) {
    Op *t = value_def(op_in(op, i), OP_TRANSPOSE);
    if (!t) continue;
    uint32_t n;
    const int64_t *perm = op_ints(t, A_TRANSPOSE_perm, &n);
    bool swaps = n >= 2 && perm[n - 1] == n - 2 && perm[n - 2] == n - 1;
    for (uint32_t d = 0; swaps && d + 2 < n; d++) swaps = perm[d] == d;
    if (!swaps) continue;
    Value **in = NEW_ARRAY(op->func->module->arena, Value *, op->n_in);
    for (uint32_t k = 0; k < op->n_in; k++) in[k] = op_in(op, k);
    in[i] = op_in(t, 0);
    Op *now = op_new(op->func, op, OP_MATMUL, op->n_in, in, op->loc);
    op_copy_attrs(now, op);
    int slot = i == 0 ? (int)A_MATMUL_trans_a : (int)A_MATMUL_trans_b;
    op_set_int(now, slot, !op_bool(op, slot));
    now->out[0]->type = op->out[0]->type;
    return now->out[0];
  }
  return NULL;
}

// The weights of a flattened tensor in the order the tensor has without the transpose: [transposed dims.., n], or
// [n, transposed dims..]. NULL: they are too large to be stored twice while compiling.
static Value *flat_weights(Ctx *c, const Op *op, const Op *t, uint32_t kept) {
  const Value *w = op_in(op, 1);
  const Type *y = t->out[0]->type;
  uint32_t n = y->rank - kept, before = op_bool(op, A_MATMUL_trans_b) ? 1 : 0;
  int64_t dims[MAX_RANK], perm[MAX_RANK];
  if (n + 1 > MAX_RANK || type_bytes(w->type) > MAX_FLAT_BYTES) return NULL;
  dims[before ? 0 : n] = w->type->dims[before ? 0 : 1];
  perm[before ? 0 : n] = before ? 0 : n;
  for (uint32_t i = 0; i < n; i++) {
    dims[before + i] = y->dims[kept + i];
    perm[before + op_ints_at(t, A_TRANSPOSE_perm, kept + i, 0) - kept] = before + i;
  }
  const Type *as = type_with_dims(c->m->types, w->type, n + 1, dims);
  Value *apart = const_borrowed(c->m, as, const_data(c->m, w->constant), w->constant->name);
  Value *moved = const_permuted(c->m, apart->constant, perm);
  return const_borrowed(c->m, w->type, const_data(c->m, moved->constant), w->constant->name);
}

// matmul(reshape(transpose(x)), w) -> matmul(reshape(x), w with its rows moved), when the reshape makes one row of what
// the transpose moves: the order a layer is flattened in is a matter of its weights
static Value *rule_matmul_flatten(Ctx *c, Op *op) {
  Op *flat = value_def(op_in(op, 0), OP_RESHAPE), *t = flat ? value_def(op_in(flat, 0), OP_TRANSPOSE) : NULL;
  const Value *w = op_in(op, 1);
  if (!t || op_bool(op, A_MATMUL_trans_a) || !value_is_const(w) || w->type->rank != 2) return NULL;
  const Type *y = t->out[0]->type, *rows = flat->out[0]->type;
  if (!type_is_static(y) || rows->rank < 2 || dtype_info(w->type->dtype)->bits % 8 != 0) return NULL;
  int64_t k = rows->dims[rows->rank - 1], moved = 1;
  uint32_t kept = y->rank;
  while (kept > 0 && moved < k) moved *= y->dims[--kept];
  if (moved != k || k == 0) return NULL;
  for (uint32_t i = 0; i < kept; i++)
    if (op_ints_at(t, A_TRANSPOSE_perm, i, 0) != i) return NULL;
  Value *in[3] = {graph_emit(op, OP_RESHAPE, 1, &t->in[0].value, rows, flat->loc), flat_weights(c, op, t, kept),
                  op_in(op, 2)};
  if (!in[1]) return NULL;
  Op *now = op_new(op->func, op, OP_MATMUL, op->n_in < 3 ? op->n_in : 3, in, op->loc);
  for (uint32_t i = 3; i < op->n_in; i++) op_add_operand(now, op_in(op, i));
  op_copy_attrs(now, op);
  now->out[0]->type = op->out[0]->type;
  return now->out[0];
}

// The rules, tried in this order on each op.
static const struct {
  OpKind kind;
  const char *name;
  Rule *apply;
} rules[] = {
    {OP_RESHAPE, "reshape-reshape", rule_reshape},
    {OP_TRANSPOSE, "transpose-transpose", rule_transpose},
    {OP_ADD, "add-zero", rule_identity_element},
    {OP_SUB, "sub-zero", rule_identity_element},
    {OP_MUL, "mul-one", rule_identity_element},
    {OP_DIV, "div-one", rule_identity_element},
    {OP_POW, "pow-one", rule_identity_element},
    {OP_POW, "pow-two", rule_pow2},
    {OP_DIV, "div-power-of-two", rule_div_pow2},
    {OP_RELU, "relu-relu", rule_idempotent},
    {OP_ABS, "abs-abs", rule_idempotent},
    {OP_FLOOR, "floor-floor", rule_idempotent},
    {OP_CEIL, "ceil-ceil", rule_idempotent},
    {OP_ROUND, "round-round", rule_idempotent},
    {OP_SIGN, "sign-sign", rule_idempotent},
    {OP_MAX, "max-zero", rule_max_zero},
    {OP_CAST, "cast-same", rule_same_type},
    {OP_EXPAND, "expand-same", rule_same_type},
    {OP_SELECT, "select-constant", rule_select},
    {OP_SLICE, "slice-slice", rule_slice},
    {OP_GATHER, "gather-consecutive", rule_gather},
    {OP_CONCAT, "concat-one", rule_concat},
    {OP_PAD, "pad-nothing", rule_nothing},
    {OP_TILE, "tile-once", rule_nothing},
    {OP_REDUCE, "reduce-nothing", rule_nothing},
    {OP_CONV, "conv-pad", rule_conv_pad},
    {OP_MATMUL, "matmul-transpose", rule_matmul_transpose},
    {OP_MATMUL, "matmul-flatten", rule_matmul_flatten},
};

static Value *op_simplified(Ctx *c, Op *op) {
  for (uint32_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
    if (rules[i].kind != op->kind) continue;
    Value *v = rules[i].apply(c, op);
    if (v) return v;
  }
  return (op_info(op->kind)->traits & TRAIT_ELTWISE) ? rule_expand_operand(c, op) : NULL;
}

#define MAX_SWEEPS 8

PassResult pass_simplify(PassCtx *ctx) {
  Ctx c = {ctx->m};
  Func *f = ctx->m->funcs.at[0];
  bool changed = false;
  for (uint32_t sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    bool again = false;
    for (Op *op = f->first, *next; op; op = next) {
      next = op->next;
      if (op->out[0]->n_uses == 0) continue;
      Value *v = op_simplified(&c, op);
      if (!v) continue;
      value_replace(op->out[0], v);
      again = true;
    }
    if (!again) break;
    changed = true;
    graph_drop_dead(f);
  }
  return changed ? PASS_CHANGED : PASS_SAME;
}
