// Products of two activations held in bytes: neither operand is known, so zero points leave by sums taken at run time.
//
//   sum over k of (a - za)(b - zb) = sum of a b - zb * (sums of the rows of a) - za * (sums of the columns of b) + K za
//   zb
//
//   %2 = matmul %a, %b : i32[8,64,64]       %a: u8, %b: u8, zero points 3 and 128
//   => %3 = cast(%b ^ 128) : i8             zero point 0
//      %4 = matmul %a, %3 : i32[8,64,64]
//      %5 = sub %4, (reduce %3 {axes = [1]}) * 3
//
// Exact: 32-bit sums wrap on both sides, the caller proves that the result fits.
#include "passes/graph_util.h"
#include "passes/recover/quantised.h"

static Value *signed_bytes(Op *at, Value *q, int64_t *zero) {
  Module *m = at->func->module;
  if (q->type->dtype != DT_U8) return q;
  *zero -= 128;
  Value *half = const_splat_int(m, type_scalar(m->types, DT_U8), 128);
  return emit_cast_to(at, emit_with(at, OP_XOR, q, half, at), DT_I8, at);
}

// Sums along `axis`, with extent 1 there, as i32.
static Value *sums_along(Op *at, Value *q, uint32_t axis) {
  Module *m = at->func->module;
  Value *wide = emit_cast_to(at, q, DT_I32, at);
  int64_t dims[MAX_RANK], axes = axis;
  for (uint32_t i = 0; i < q->type->rank; i++) dims[i] = i == axis ? 1 : q->type->dims[i];
  Value *sum = graph_emit(at, OP_REDUCE, 1, &wide, type_tensor(m->types, DT_I32, q->type->rank, dims), at->loc);
  op_set_int(sum->op, A_REDUCE_op, REDUCE_SUM);
  op_set_ints(sum->op, A_REDUCE_axes, 1, &axes);
  op_set_int(sum->op, A_REDUCE_keepdims, true);
  return sum;
}

// Sums of the columns of b as [.., 1, N].
static Value *column_sums(Op *at, Value *b, bool trans) {
  uint32_t rank = b->type->rank;
  Value *sum = sums_along(at, b, trans ? rank - 1 : rank - 2);
  if (!trans) return sum;
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < rank; i++) dims[i] = b->type->dims[i];
  dims[rank - 1] = dims[rank - 2];
  dims[rank - 2] = 1;
  return graph_emit(at, OP_RESHAPE, 1, &sum, type_tensor(at->func->module->types, DT_I32, rank, dims), at->loc);
}

static Value *less_scaled(Op *at, Value *y, Value *sums, int64_t zero) {
  Module *m = at->func->module;
  Value *factor = const_splat_int(m, type_scalar(m->types, DT_I32), zero);
  Value *part = emit_with(at, OP_MUL, sums, factor, at);
  return graph_emit(at, OP_SUB, 2, (Value *[]){y, part}, y->type, at->loc);
}

bool byte_product_fits(const Op *op) {
  const Value *a = op_in(op, 0), *b = op_in(op, 1);
  return op->kind == OP_MATMUL && op_in(op, 2) == NULL && op_post(op) == NULL && a->type->rank >= 2 &&
         b->type->rank >= 2 && type_is_static(a->type) && type_is_static(b->type) && !value_is_const(a) &&
         !value_is_const(b) && !op_bool(op, A_MATMUL_trans_a) && op_int(op, A_MATMUL_x_zero) == 0;
}

Value *emit_byte_product(Op *op, Value *a, int64_t a_zero, Value *b, int64_t b_zero) {
  Module *m = op->func->module;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  int64_t k = a->type->dims[a->type->rank - 1];
  a = emit_unsigned(op, a, &a_zero);
  b = signed_bytes(op, b, &b_zero);
  Op *product = op_new(op->func, op, OP_MATMUL, 2, (Value *[]){a, b}, op->loc);
  op_copy_attrs(product, op);
  Value *y = product->out[0];
  y->type = type_with_dtype(m->types, op->out[0]->type, DT_I32);
  if (a_zero != 0) y = less_scaled(op, y, column_sums(op, b, trans), a_zero);
  if (b_zero != 0) y = less_scaled(op, y, sums_along(op, a, a->type->rank - 1), b_zero);
  if (a_zero != 0 && b_zero != 0)
    y = emit_with(op, OP_ADD, y, const_splat_int(m, type_scalar(m->types, DT_I32), k * a_zero * b_zero), op);
  return y;
}
