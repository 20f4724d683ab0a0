// Pass widen: integers below a byte and floats of 8 and 4 bits are held in bytes, so that no later pass and no kernel
// meets packed elements. Only the casts at the interface still do.
//
//   func @f(%x: u4[9]) -> i4[9] {
//     %0 = cast %x : i4[9]
//     return %0
//   => %1 = cast %x : u8[9]              unpacks
//      %2 = cast %1 : i8[9]
//      %3 = shl %2, 4 : i8[9]            wraps into four bits
//      %4 = shr %3, 4 : i8[9]
//      %5 = cast %4 : i4[9]              packs
//
// Numbers stay what they were: a u4 is held in a u8 of the same value. Small floats are only moved; they travel as
// their codes. A function with an op that does more with such a type is left as it is, and lowering says so.
#include <string.h>

#include "ir/elem.h"
#include "passes/graph_util.h"
#include "passes/pass.h"

static bool is_packed_int(DType t) {
  DClass cls = dtype_info(t)->cls;
  return dtype_info(t)->bits < 8 && (cls == DC_INT || cls == DC_UINT);
}

static bool is_small_float(DType t) { return dtype_is_float(t) && dtype_info(t)->bits <= 8; }
static bool is_narrow(DType t) { return is_packed_int(t) || is_small_float(t); }
static DType byte_of(DType t) { return dtype_info(t)->cls == DC_INT ? DT_I8 : DT_U8; }

// ---- what can be widened

// Gives elements of operands, unchanged.
static bool moves(OpKind kind) {
  switch (kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_EXPAND:
    case OP_TILE:
    case OP_CONCAT:
    case OP_SLICE:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_SELECT:
    case OP_LOOKUP: return true;
    default: return false;
  }
}

static bool any_small_float(const Op *op) {
  bool any = false;
  for (uint32_t i = 0; i < op->n_in; i++) any |= op_in(op, i) && is_small_float(op_in(op, i)->type->dtype);
  for (uint32_t i = 0; i < op->n_out; i++) any |= is_small_float(op_out(op, i)->type->dtype);
  return any;
}

static bool any_narrow(const Op *op) {
  bool any = false;
  for (uint32_t i = 0; i < op->n_in; i++) any |= op_in(op, i) && is_narrow(op_in(op, i)->type->dtype);
  for (uint32_t i = 0; i < op->n_out; i++) any |= is_narrow(op_out(op, i)->type->dtype);
  return any;
}

// Same results in a byte as in the narrow type, integers only.
static bool byte_arithmetic(const Op *op) {
  switch (op->kind) {
    case OP_CAST:
    case OP_QUANTIZE:
    case OP_DEQUANTIZE:
    case OP_MIN:
    case OP_MAX:
    case OP_CLIP:
    case OP_EQUAL:
    case OP_LESS:
    case OP_LESS_EQUAL:
    case OP_GREATER:
    case OP_GREATER_EQUAL:
    case OP_MAXPOOL: return true;
    case OP_THRESHOLD: return dtype_info(op_out(op, 0)->type->dtype)->cls == DC_UINT;
    default: return false;
  }
}

static bool can_widen(const Op *op) {
  if (!any_narrow(op) || moves(op->kind) || op->kind == OP_BITCAST) return true;
  return byte_arithmetic(op) && !any_small_float(op);
}

// ---- values

static const Type *wide_type(Module *m, const Type *t) { return type_with_dtype(m->types, t, byte_of(t->dtype)); }

static Value *wide_const(Module *m, Const *c) {
  const Type *t = wide_type(m, c->type);
  int64_t n = type_count(t);
  uint8_t *bytes = arena_alloc(m->arena, (size_t)n + 8);
  const uint8_t *from = const_data(m, c);
  bool codes = is_small_float(c->type->dtype), nibbles = dtype_info(c->type->dtype)->bits == 4;
  for (int64_t i = 0; i < n; i++) {
    if (codes) {
      bytes[i] = (uint8_t)(nibbles ? (uint32_t)from[i / 2] >> (i % 2 * 4) & 15 : from[i]);
    } else {
      elem_set_i(bytes, t->dtype, i, const_i(m, c, i));
    }
  }
  return const_borrowed(m, t, bytes, c->name);
}

// The byte form of an argument, made before `at`; small floats as codes.
static Value *wide_arg(Module *m, Op *at, Value *v) {
  const Type *t = v->type;
  if (is_small_float(t->dtype)) {
    DType code = dtype_info(t->dtype)->bits == 4 ? DT_U4 : DT_U8;
    v = graph_emit(at, OP_BITCAST, 1, &v, type_with_dtype(m->types, t, code), at->loc);
    if (code == DT_U8) return v;
  }
  return graph_emit(at, OP_CAST, 1, &v, wide_type(m, t), at->loc);
}

static void wide_operands(Module *m, Op *op) {
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *v = op_in(op, i);
    if (!v || !is_narrow(v->type->dtype)) continue;
    if (v->kind == VALUE_CONST) {
      op_set_operand(op, i, wide_const(m, v->constant));
    } else if (v->kind == VALUE_ARG) {
      op_set_operand(op, i, wide_arg(m, op, v));
    }
  }
}

// ---- ops

static Value *emit2(Op *at, OpKind kind, Value *x, Value *y) {
  return graph_emit(at, kind, 2, (Value *[]){x, y}, x->type, at->loc);
}

static Value *clipped(Op *at, Value *x, DType to) {
  Module *m = at->func->module;
  const Type *scalar = type_scalar(m->types, x->type->dtype);
  Value *in[3] = {x, const_splat(m, scalar, (double)dtype_min(to)), const_splat(m, scalar, (double)dtype_max(to))};
  return graph_emit(at, OP_CLIP, 3, in, x->type, at->loc);
}

// The low bits of a byte, as the number they are in `to`.
static Value *wrapped(Op *at, Value *x, DType to) {
  Module *m = at->func->module;
  const Type *scalar = type_scalar(m->types, x->type->dtype);
  uint32_t bits = dtype_info(to)->bits;
  if (dtype_info(to)->cls == DC_UINT) return emit2(at, OP_AND, x, const_splat_int(m, scalar, (1 << bits) - 1));
  Value *shift = const_splat_int(m, scalar, 8 - (int64_t)bits);
  return emit2(at, OP_SHR, emit2(at, OP_SHL, x, shift), shift);
}

static Value *cast_at(Op *at, Value *x, const Type *t) {
  return x->type == t ? x : graph_emit(at, OP_CAST, 1, &x, t, at->loc);
}

// Casts and bitcasts to a narrow type: the value in a byte that takes the place of the result.
static Value *narrowing(Op *op) {
  Module *m = op->func->module;
  Value *x = op_in(op, 0);
  DType to = op_out(op, 0)->type->dtype;
  const Type *wide = wide_type(m, op_out(op, 0)->type);
  if (is_small_float(to)) {  // of a bitcast: the code
    if (dtype_info(to)->bits == 4) return wrapped(op, cast_at(op, x, wide), DT_U4);
    return x->type == wide ? x : graph_emit(op, OP_BITCAST, 1, &x, wide, op->loc);
  }
  if (dtype_is_float(x->type->dtype)) return cast_at(op, clipped(op, x, to), wide);
  return wrapped(op, cast_at(op, x, wide), to);
}

static void saturate_result(Op *op, DType to) {
  Value *y = op_out(op, 0), *stand_in = const_splat(op->func->module, y->type, 0);
  Module *m = op->func->module;
  const Type *scalar = type_scalar(m->types, y->type->dtype);
  Value *in[3] = {stand_in, const_splat(m, scalar, (double)dtype_min(to)),
                  const_splat(m, scalar, (double)dtype_max(to))};
  Op *clip = op_new(op->func, op->next, OP_CLIP, 3, in, op->loc);
  value_set_type(op_out(clip, 0), y->type);
  value_replace(y, op_out(clip, 0));
  op_set_operand(clip, 0, y);
}

static void widen_op(Module *m, Op *op) {
  const Value *y = op_out(op, 0);
  DType to = y->type->dtype;
  wide_operands(m, op);
  if (op->kind == OP_BITCAST && !is_narrow(to) && op_in(op, 0)->type == y->type) {
    value_replace(op_out(op, 0), op_in(op, 0));
    op_unlink(op);
    return;
  }
  if (!is_narrow(to)) return;
  if (op->kind == OP_CAST || op->kind == OP_BITCAST) {
    value_replace(op_out(op, 0), narrowing(op));
    op_unlink(op);
    return;
  }
  value_set_type(op_out(op, 0), wide_type(m, y->type));
  if (op->kind == OP_QUANTIZE) saturate_result(op, to);
}

// ---- results of the function

static void pack_result(Func *f, uint32_t i, const Type *was, const Loc *loc) {
  Module *m = f->module;
  Value *v = f->results[i];
  if (v->type == was) return;
  const Type *packed =
      is_small_float(was->dtype) && dtype_info(was->dtype)->bits == 4 ? type_with_dtype(m->types, was, DT_U4) : was;
  OpKind first = is_small_float(was->dtype) && packed == was ? OP_BITCAST : OP_CAST;
  Op *op = op_new(f, NULL, first, 1, &v, loc);
  value_set_type(op_out(op, 0), packed);
  if (packed != was) {
    Value *code = op_out(op, 0);
    op = op_new(f, NULL, OP_BITCAST, 1, &code, loc);
    value_set_type(op_out(op, 0), was);
  }
  func_set_result(f, i, op_out(op, 0));
}

PassResult pass_widen(PassCtx *ctx) {
  Module *m = ctx->m;
  Func *f = m->funcs.at[0];
  bool any = false;
  for (const Op *op = f->first; op; op = op->next) {
    if (!can_widen(op)) return PASS_SAME;
    any |= any_narrow(op);
  }
  if (!any) return PASS_SAME;
  const Type **was = NEW_ARRAY(ctx->arena, const Type *, f->n_results + 1);
  for (uint32_t i = 0; i < f->n_results; i++) was[i] = f->results[i]->type;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (any_narrow(op)) widen_op(m, op);
  }
  for (uint32_t i = 0; i < f->n_results; i++) pack_result(f, i, was[i], f->last ? f->last->loc : NULL);
  return PASS_CHANGED;
}
