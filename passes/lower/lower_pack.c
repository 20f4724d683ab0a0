// Casts from and to integers below a byte, which lie packed in the caller's memory, lowest bits first. One kernel
// step per byte; the last byte may be partly filled, its unused bits are written as 0.
//
//   %1 = cast %x : u8[5] of %x: u4[5]  =>  for j in 0..2 { let v = load x[j]; y[2*j] = v & 15; y[2*j+1] = v >> 4 } ...
#include "passes/lower/lower.h"

bool lower_is_narrow(DType t) {
  uint32_t bits = dtype_info(t)->bits;
  return bits < 8 || (dtype_is_float(t) && bits == 8);
}

bool lower_is_packed_cast(const Op *op) {
  return op->kind == OP_CAST &&
         (dtype_info(op_in(op, 0)->type->dtype)->bits < 8 || dtype_info(op_out(op, 0)->type->dtype)->bits < 8);
}

static KBuf *bytes_param(KBuild *b, const PBuf *buf) {
  int64_t n = buf->bytes ? buf->bytes : 1;
  return kb_param(b, arena_printf(b->arena, "p%u", b->k->n_params), DT_U8, 1, &n,
                  buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
}

// Field k of the byte in v, as i32.
static KExpr *field(KBuild *b, KVar *v, DType t, uint32_t k) {
  uint32_t bits = dtype_info(t)->bits;
  KExpr *x = kx_op2(b, KOP_SHR, kx_var(b, v), kx_i(b, DT_I32, k * bits));
  x = kx_op2(b, KOP_AND, x, kx_i(b, DT_I32, (1 << bits) - 1));
  if (dtype_info(t)->cls != DC_INT) return x;
  int64_t top = INT64_C(1) << (bits - 1);
  return kx_op2(b, KOP_SUB, kx_op2(b, KOP_XOR, x, kx_i(b, DT_I32, top)), kx_i(b, DT_I32, top));
}

static void unpack_byte(KBuild *b, KBuf *x, KBuf *y, DType t, Affine at, uint32_t count) {
  KVar *v = kb_let(b, "v", kx_cast(b, DT_I32, kx_load1(b, x, at)));
  uint32_t per = 8 / dtype_info(t)->bits;
  for (uint32_t k = 0; k < count; k++) {
    KExpr *e = kx_cast(b, lower_compute_type(y->type), field(b, v, t, k));
    lower_store1(b, y, aff_plus(aff_mul(at, per), k), e);
  }
}

static void pack_byte(KBuild *b, KBuf *x, KBuf *y, DType t, Affine at, uint32_t count) {
  uint32_t bits = dtype_info(t)->bits, per = 8 / bits;
  KExpr *sum = NULL;
  for (uint32_t k = 0; k < count; k++) {
    KExpr *e = kx_cast(b, DT_I32, lower_load1(b, x, aff_plus(aff_mul(at, per), k)));
    e = kx_op2(b, KOP_SHL, kx_op2(b, KOP_AND, e, kx_i(b, DT_I32, (1 << bits) - 1)), kx_i(b, DT_I32, k * bits));
    sum = sum ? kx_op2(b, KOP_OR, sum, e) : e;
  }
  kb_store1(b, y, at, kx_cast(b, DT_U8, sum));
}

bool lower_packed_cast(LowerCtx *ctx, const Op *op) {
  DType from = op_in(op, 0)->type->dtype, to = op_out(op, 0)->type->dtype;
  bool packs = dtype_info(to)->bits < 8;
  DType narrow = packs ? to : from, wide = packs ? from : to;
  DClass cls = dtype_info(narrow)->cls;
  uint32_t bits = dtype_info(narrow)->bits;
  if (lower_is_narrow(wide) || 8 % bits != 0 || (cls != DC_INT && cls != DC_UINT) ||
      (packs && dtype_info(wide)->bits != 8))
    return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc, "no code for a cast of %s to %s", dtype_info(from)->name,
                      dtype_info(to)->name);
  PBuf *bufs[2] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0))};
  int64_t count = type_count(op_out(op, 0)->type), per = 8 / bits, whole = count / per;
  KBuild b;
  lower_begin(ctx, &b, op);
  KBuf *y = packs ? bytes_param(&b, bufs[0]) : lower_flat(&b, bufs[0]);
  KBuf *x = packs ? lower_flat(&b, bufs[1]) : bytes_param(&b, bufs[1]);
  void (*step)(KBuild *, KBuf *, KBuf *, DType, Affine, uint32_t) = packs ? pack_byte : unpack_byte;
  if (whole) {
    Affine j = aff_var(kb_for(&b, "j", 0, whole, 1, FOR_SEQ));
    step(&b, x, y, narrow, j, (uint32_t)per);
    kb_end(&b);
  }
  if (count % per) step(&b, x, y, narrow, aff(whole), (uint32_t)(count % per));
  lower_step(ctx, &b, op, NULL, 2, bufs);
  return true;
}

bool lower_copy_bytes(LowerCtx *ctx, const Op *op, PBuf *from, PBuf *to) {
  PBuf *bufs[2] = {to, from};
  if (to->bytes == 0) return true;
  KBuild b;
  lower_begin(ctx, &b, op);
  KBuf *y = bytes_param(&b, to), *x = bytes_param(&b, from);
  Affine i = aff_var(kb_for(&b, "i", 0, to->bytes, 1, FOR_VEC));
  kb_store1(&b, y, i, kx_load1(&b, x, i));
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, 2, bufs);
  return true;
}
