// Dequantised values: reading them, moving them, taking them apart. See quantised.h.
#include "passes/recover/quantised.h"

#include <math.h>

#include "ir/elem.h"
#include "ir/infer.h"
#include "passes/graph_util.h"

#define RISE_VALUES 64

bool quantised_of(Module *m, const Value *v, Quantised *out) {
  if (v == NULL || v->kind != VALUE_RESULT || v->op->kind != OP_DEQUANTIZE) return false;
  const Op *op = v->op;
  Value *scale = op_in(op, 1), *zero = op_in(op, 2);
  if (op_int(op, A_DEQUANTIZE_block) != 0 || !value_is_const(scale) || scale->type->dtype != DT_F32) return false;
  if (v->type->dtype != DT_F32 || (zero != NULL && !value_is_const(zero)) || scale->type->rank > 1) return false;
  DType t = op_in(op, 0)->type->dtype;
  if (!dtype_is_int(t) || dtype_info(t)->bits > 32 || t == DT_U32) return false;
  int64_t n = type_count(scale->type), axis = op_int(op, A_DEQUANTIZE_axis);
  if (zero != NULL && type_count(zero->type) != n && type_count(zero->type) != 1) return false;
  for (int64_t i = 0; i < n; i++) {
    double s = const_f(m, scale->constant, i);
    if (!(s > 0x1p-100) || !(s < 0x1p100)) return false;
  }
  *out = (Quantised){op_in(op, 0), scale->constant, zero ? zero->constant : NULL, -1};
  if (n > 1) out->axis = axis < 0 ? axis + v->type->rank : axis;
  return n > 0;
}

double quantised_scale(Module *m, const Quantised *d, int64_t channel) {
  return const_f(m, d->scale, d->axis < 0 ? 0 : channel);
}

int64_t quantised_zero(Module *m, const Quantised *d, int64_t channel) {
  if (d->zero == NULL) return 0;
  return const_i(m, d->zero, type_count(d->zero->type) == 1 ? 0 : channel);
}

bool quantize_is_plain(Module *m, const Op *op) {
  const Value *scale = op_in(op, 1), *zero = op_in(op, 2);
  return op->kind == OP_QUANTIZE && dtype_is_byte(op->out[0]->type->dtype) && op_int(op, A_QUANTIZE_block) == 0 &&
         value_is_const(scale) && type_count(scale->type) == 1 && scale->type->dtype == DT_F32 &&
         (zero == NULL || (value_is_const(zero) && type_count(zero->type) == 1)) &&
         op_enum(op, A_QUANTIZE_round) == ROUND_HALF_EVEN && const_f(m, scale->constant, 0) > 0;
}

// ---- moving

static bool same_grid(Module *m, const Quantised *a, const Quantised *b) {
  return a->axis < 0 && b->axis < 0 && a->q->type->dtype == b->q->type->dtype &&
         quantised_scale(m, a, 0) == quantised_scale(m, b, 0) && quantised_zero(m, a, 0) == quantised_zero(m, b, 0);
}

// Ops that only move elements of operand 0 (of all operands: concat), or take the largest.
static bool moves(const Op *op) {
  switch (op->kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_CONCAT:
    case OP_SLICE:
    case OP_GATHER:
    case OP_EXPAND:
    case OP_TILE: return true;
    case OP_PAD: return op_enum(op, A_PAD_mode) != PAD_CONSTANT || op_float(op, A_PAD_value) == 0;
    case OP_MAXPOOL: return op->out[1]->n_uses == 0;
    default: return false;
  }
}

static bool sink(PassCtx *ctx, Op *op) {
  Module *m = ctx->m;
  Quantised d, other;
  if (!moves(op) || !quantised_of(m, op_in(op, 0), &d) || d.axis >= 0 || !dtype_is_byte(d.q->type->dtype)) return false;
  if (value_is_const(d.q)) return false;
  Value **in = NEW_ARRAY(m->arena, Value *, op->n_in);
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = op_in(op, i);
  uint32_t n = op->kind == OP_CONCAT ? op->n_in : 1;
  for (uint32_t i = 0; i < n; i++) {
    if (!quantised_of(m, in[i], &other) || !same_grid(m, &d, &other)) return false;
    in[i] = other.q;
  }
  const Op *from = op_in(op, 0)->op;
  Op *now = op_new(op->func, op, op->kind, op->n_in, in, op->loc);
  op_copy_attrs(now, op);
  for (uint32_t i = 0; i < op->n_out; i++) now->out[i]->type = op->out[i]->type;
  now->out[0]->type = type_with_dtype(m->types, op->out[0]->type, d.q->type->dtype);
  if (op->kind == OP_PAD) op_set_float(now, A_PAD_value, (double)quantised_zero(m, &d, 0));
  Value *params[3] = {now->out[0], op_in(from, 1), op_in(from, 2)};
  Value *y = graph_emit(op, OP_DEQUANTIZE, from->n_in, params, op->out[0]->type, op->loc);
  op_copy_attrs(y->op, from);
  value_replace(op->out[0], y);
  op_unlink(op);
  return true;
}

// quantize of a float by the reference, one number.
static int64_t requantised(const Op *quant, double x, double scale, int64_t zero) {
  double q = elem_round(DT_F32, x / scale), z = (double)zero;
  q = op_enum(quant, A_QUANTIZE_order) == ORDER_ZERO_THEN_ROUND ? nearbyint(elem_round(DT_F32, q + z))
                                                                : nearbyint(q) + z;
  DType t = quant->out[0]->type->dtype;
  return (int64_t)fmin(fmax(q, (double)dtype_min(t)), (double)dtype_max(t));
}

// Every byte comes back as itself.
static bool undoes(PassCtx *ctx, Op *quant, Quantised *d) {
  Module *m = ctx->m;
  Value *scale = op_in(quant, 1), *zero = op_in(quant, 2);
  if (!quantised_of(m, op_in(quant, 0), d) || d->axis >= 0 || d->q->type != quant->out[0]->type) return false;
  if (!dtype_is_byte(d->q->type->dtype) || !value_is_const(scale) || type_count(scale->type) != 1) return false;
  if ((zero && !value_is_const(zero)) || op_int(quant, A_QUANTIZE_block) != 0) return false;
  if (op_enum(quant, A_QUANTIZE_round) != ROUND_HALF_EVEN || scale->type->dtype != DT_F32) return false;
  double s = const_f(m, scale->constant, 0), from = quantised_scale(m, d, 0);
  int64_t z = zero ? const_i(m, zero->constant, 0) : 0, from_zero = quantised_zero(m, d, 0);
  for (int64_t q = dtype_min(d->q->type->dtype); q <= dtype_max(d->q->type->dtype); q++) {
    if (requantised(quant, elem_round(DT_F32, (double)(q - from_zero) * from), s, z) != q) return false;
  }
  return true;
}

// Moves that a quantize can go above: their result has no more elements than their operands have.
static bool lets_rise(const Op *op) {
  switch (op->kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_CONCAT: return true;
    default: return false;
  }
}

// Is every float at the top of the moves above v made of bytes?
static bool comes_from_bytes(const Value *v) {
  const Value *open[RISE_VALUES] = {v};
  uint32_t n = 1, steps = 0;
  while (n > 0 && steps++ < RISE_VALUES) {
    v = open[--n];
    if (v->kind != VALUE_RESULT) return false;
    if (v->op->kind == OP_DEQUANTIZE && dtype_is_byte(op_in(v->op, 0)->type->dtype)) continue;
    if (!lets_rise(v->op) || v->op->n_in + n > RISE_VALUES) return false;
    for (uint32_t i = 0; i < v->op->n_in; i++) open[n++] = op_in(v->op, i);
  }
  return n == 0;
}

// quantize(move(x)) -> move(quantize(x)): bytes are moved instead of floats, and the quantize meets what made them.
static bool rise(PassCtx *ctx, Op *quant) {
  Module *m = ctx->m;
  Op *move = op_in(quant, 0)->kind == VALUE_RESULT ? op_in(quant, 0)->op : NULL;
  if (move == NULL || !quantize_is_plain(m, quant) || !lets_rise(move)) return false;
  if (value_sole_user(move->out[0]) != quant || !comes_from_bytes(move->out[0])) return false;
  DType t = quant->out[0]->type->dtype;
  Value **in = NEW_ARRAY(m->arena, Value *, move->n_in);
  for (uint32_t i = 0; i < move->n_in; i++) {
    Value *params[3] = {op_in(move, i), op_in(quant, 1), op_in(quant, 2)};
    const Type *type = type_with_dtype(m->types, params[0]->type, t);
    in[i] = graph_emit(quant, OP_QUANTIZE, quant->n_in, params, type, quant->loc);
    op_copy_attrs(in[i]->op, quant);
  }
  Op *now = op_new(quant->func, quant, move->kind, move->n_in, in, move->loc);
  op_copy_attrs(now, move);
  now->out[0]->type = quant->out[0]->type;
  now->out[0]->name = quant->out[0]->name;
  value_replace(quant->out[0], now->out[0]);
  op_unlink(quant);
  op_unlink(move);
  return true;
}

bool quantised_rise(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->last, *prev; op; op = prev) {
    Op *after = op->next;
    prev = op->prev;
    if (op->kind != OP_QUANTIZE || !rise(ctx, op)) continue;
    changed = true;
    prev = after ? after->prev : f->last;  // the new ones may rise further
  }
  return changed;
}

bool quantised_sink(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    Quantised d;
    if (op->kind == OP_QUANTIZE && undoes(ctx, op, &d)) {
      value_replace(op->out[0], d.q);
      op_unlink(op);
      changed = true;
    } else {
      changed |= sink(ctx, op);
    }
  }
  return changed;
}

bool quantised_means(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    Quantised d;
    next = op->next;
    if (!op_is_mean(op) || !quantised_of(ctx->m, op_in(op, 0), &d) || !dtype_is_byte(d.q->type->dtype)) continue;
    const Op *user = value_sole_user(op->out[0]);
    if (user == NULL || user->kind != OP_QUANTIZE) continue;
    Value *x = emit_cast_to(op, op_in(op, 0), DT_F64, op);
    Value *y = graph_emit(op, op->kind, 1, &x, type_with_dtype(ctx->m->types, op->out[0]->type, DT_F64), op->loc);
    op_copy_attrs(y->op, op);
    value_replace(op->out[0], emit_cast_to(op, y, DT_F32, op));
    op_unlink(op);
    changed = true;
  }
  return changed;
}

// ---- element-wise code

Value *emit_cast_to(Op *at, Value *x, DType t, const Op *like) {
  Module *m = at->func->module;
  return graph_emit(at, OP_CAST, 1, &x, type_with_dtype(m->types, x->type, t), like->loc);
}

Value *emit_with(Op *at, OpKind kind, Value *x, Value *by, const Op *like) {
  return graph_emit(at, kind, 2, (Value *[]){x, by}, x->type, like->loc);
}

Value *emit_unsigned(Op *at, Value *q, int64_t *zero) {
  Module *m = at->func->module;
  if (q->type->dtype != DT_I8) return q;
  *zero += 128;
  Value *half = const_splat_int(m, type_scalar(m->types, DT_U8), 128);
  return emit_with(at, OP_XOR, emit_cast_to(at, q, DT_U8, at), half, at);
}

Value *channel_const(Module *m, DType t, int64_t channels, uint32_t axis, uint32_t rank, const double *v) {
  bool same = true;
  for (int64_t c = 1; c < channels; c++) same = same && v[c] == v[0];
  if (same) {
    const Type *one = type_scalar(m->types, t);
    return dtype_is_float(t) ? const_splat(m, one, v[0]) : const_splat_int(m, one, (int64_t)v[0]);
  }
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < rank - axis; i++) dims[i] = i == 0 ? channels : 1;
  return const_of_doubles(m, type_tensor(m->types, t, rank - axis, dims), v, NULL);
}

// A constant scale or zero point as f32 along the axis of x; NULL when it can't be one.
static Value *parameter(Module *m, const Value *p, const Type *x, int64_t axis) {
  if (p == NULL || !value_is_const(p) || p->type->rank > 1) return NULL;
  int64_t n = type_count(p->type);
  double *v = NEW_ARRAY(m->arena, double, n + 1);
  for (int64_t i = 0; i < n; i++) v[i] = const_f(m, p->constant, i);
  if (axis < 0) axis += x->rank;
  return channel_const(m, DT_F32, n, n == 1 ? 0 : (uint32_t)axis, x->rank, v);
}

static bool all_zero(Module *m, const Value *v) {
  double x;
  return v == NULL || (value_is_splat(m, v, &x) && x == 0);
}

static bool expandable(const Op *op, DType ints, int block_slot) {
  const Type *s = op_in(op, 1)->type, *x = op_in(op, 0)->type;
  DType floats = op->kind == OP_QUANTIZE ? x->dtype : op->out[0]->type->dtype;
  return floats == DT_F32 && s->dtype == DT_F32 && op_int(op, block_slot) == 0 && x->rank > 0 &&
         (dtype_is_byte(ints) || ints == DT_U16 || ints == DT_I16 || (op->kind == OP_DEQUANTIZE && ints == DT_I32));
}

static bool expand_dequantize(Module *m, Op *op) {
  Value *x = op_in(op, 0);
  if (!expandable(op, x->type->dtype, A_DEQUANTIZE_block) || value_is_const(x)) return false;
  int64_t axis = op_int(op, A_DEQUANTIZE_axis);
  Value *scale = parameter(m, op_in(op, 1), x->type, axis), *zero = parameter(m, op_in(op, 2), x->type, axis);
  if (scale == NULL || (op_in(op, 2) && zero == NULL)) return false;
  Value *y = emit_cast_to(op, x, DT_F32, op);
  if (!all_zero(m, zero)) y = emit_with(op, OP_SUB, y, zero, op);
  y = emit_with(op, OP_MUL, y, scale, op);
  value_replace(op->out[0], y);
  op_unlink(op);
  return true;
}

Value *emit_limit(Op *at, OpKind cmp, Value *y, Value *limit) {
  Module *m = at->func->module;
  Value *in = graph_emit(at, cmp, 2, (Value *[]){y, limit}, type_with_dtype(m->types, y->type, DT_BOOL), at->loc);
  return graph_emit(at, OP_SELECT, 3, (Value *[]){in, y, limit}, y->type, at->loc);
}

static bool expand_quantize(Module *m, Op *op) {
  Value *x = op_in(op, 0);
  DType to = op->out[0]->type->dtype;
  if (!expandable(op, to, A_QUANTIZE_block) || op_enum(op, A_QUANTIZE_round) != ROUND_HALF_EVEN) return false;
  int64_t axis = op_int(op, A_QUANTIZE_axis);
  Value *scale = parameter(m, op_in(op, 1), x->type, axis), *zero = parameter(m, op_in(op, 2), x->type, axis);
  if (scale == NULL || (op_in(op, 2) && zero == NULL)) return false;
  bool zero_first = op_enum(op, A_QUANTIZE_order) == ORDER_ZERO_THEN_ROUND, shift = !all_zero(m, zero);
  Value *y = emit_with(op, OP_DIV, x, scale, op);
  if (shift && zero_first) y = emit_with(op, OP_ADD, y, zero, op);
  y = graph_emit(op, OP_ROUND, 1, &y, y->type, op->loc);
  if (shift && !zero_first) y = emit_with(op, OP_ADD, y, zero, op);
  // The cast saturates and takes NaN to zero, quantize to the smallest value.
  if (dtype_min(to) < 0)
    y = emit_limit(op, OP_GREATER, y, const_splat(m, type_scalar(m->types, DT_F32), (double)dtype_min(to)));
  y = emit_cast_to(op, y, to, op);
  y->name = op->out[0]->name;
  value_replace(op->out[0], y);
  op_unlink(op);
  return true;
}

bool quantised_expand(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (op->kind == OP_DEQUANTIZE) changed |= expand_dequantize(ctx->m, op);
    if (op->kind == OP_QUANTIZE) changed |= expand_quantize(ctx->m, op);
  }
  return changed;
}
