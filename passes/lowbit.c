// Weights of few bits. See lowbit.h.
#include "passes/lowbit.h"

#include "ir/base/intmath.h"
#include "ir/elem.h"

enum { BYTES = 256 };

static bool is_small_int(DType t) {
  DClass cls = dtype_info(t)->cls;
  return (cls == DC_INT || cls == DC_UINT) && dtype_info(t)->bits <= 8;
}

// ---- levels

static void see_bytes(Module *m, Const *q, bool *seen) {
  const uint8_t *data = const_data(m, q);
  int64_t count = type_count(q->type);
  DType t = q->type->dtype;
  if (dtype_info(t)->bits == 8) {
    for (int64_t i = 0; i < count; i++) seen[data[i]] = true;
    return;
  }
  for (int64_t i = 0; i < count; i++) seen[(uint8_t)elem_get_i(data, t, i)] = true;
}

// The coarsest grid the values lie on, and the bits its codes take.
static void find_levels(Module *m, LowBit *w) {
  bool seen[BYTES] = {false}, is_signed = dtype_info(w->q->type->dtype)->cls == DC_INT, any = false;
  see_bytes(m, w->q, seen);
  int64_t last = 0;
  w->lo = w->step = 0;
  for (int64_t v = is_signed ? -128 : 0; v < (is_signed ? 128 : 256); v++) {
    if (!seen[(uint8_t)v]) continue;
    if (!any) w->lo = v;
    any = true;
    w->step = gcd(v - w->lo, w->step);
    last = v;
  }
  if (w->step == 0) w->step = 1;
  int64_t most = (last - w->lo) / w->step;
  for (w->bits = 1; most >> w->bits != 0;) w->bits++;
}

void lowbit_levels(Module *m, Const *q, LowBit *w) {
  w->q = q;
  find_levels(m, w);
}

bool lowbit_has_zero(const LowBit *w) {
  return w->lo <= 0 && -w->lo % w->step == 0 && -w->lo / w->step >> w->bits == 0;
}

uint32_t lowbit_code(Module *m, const LowBit *w, int64_t k, int64_t n) {
  int64_t v = elem_get_i(const_data(m, w->q), w->q->type->dtype, k * w->k_step + n * w->n_step);
  return (uint32_t)((v - w->lo) / w->step);
}

// ---- scales

// A parameter of a dequantize of q, whose axis k_axis is the reduction.
static bool param_of(const Op *dq, uint32_t slot, uint32_t k_axis, LowBitParam *p) {
  const Value *v = op_in(dq, slot);
  *p = (LowBitParam){0};
  if (v == NULL) return true;
  if (!value_is_const(v)) return false;
  p->at = v->constant;
  const Type *t = v->type;
  if (type_count(t) == 1) return true;
  int64_t axis = op_int(dq, A_DEQUANTIZE_axis);
  if (axis < 0) axis += 2;
  if (op_int(dq, A_DEQUANTIZE_block) > 0) {
    if (axis != k_axis) return false;
    p->block_step = k_axis == 0 ? t->dims[1] : 1;
    p->n_step = k_axis == 0 ? 1 : t->dims[1];
    return true;
  }
  p->n_step = 1;
  return axis != k_axis && t->rank == 1;
}

static bool scales_of(const Op *dq, uint32_t k_axis, LowBit *w) {
  w->scaled = true;
  if (op_out(dq, 0)->type->dtype != DT_F32 || op_in(dq, 1)->type->dtype == DT_F8E8M0) return false;
  int64_t block = op_int(dq, A_DEQUANTIZE_block);
  if (block > 0 && block < w->k) w->block = block;
  if (w->block != w->k && w->block % 4 != 0) return false;  // no whole groups of four bytes
  return param_of(dq, 1, k_axis, &w->scale) && param_of(dq, 2, k_axis, &w->zero);
}

int64_t lowbit_blocks(const LowBit *w) { return (w->k + w->block - 1) / w->block; }

double lowbit_param(Module *m, const LowBitParam *p, int64_t b, int64_t n) {
  return const_f(m, p->at, b * p->block_step + n * p->n_step);
}

// ---- fields

LowBitParts lowbit_parts_of(uint32_t bits) {
  LowBitParts p = {0};
  for (uint32_t width = 8; width > 0; width /= 2) {
    if ((bits & width) == 0) continue;
    p.width[p.n++] = width;
    p.chunk = 32 / width;
  }
  return p;
}

LowBitParts lowbit_parts(const LowBit *w, bool single) {
  uint32_t bits = w->bits;
  while (single && (bits & (bits - 1)) != 0) bits++;
  LowBitParts p = lowbit_parts_of(bits);
  while (lowbit_blocks(w) > 1 && w->block % p.chunk != 0 && bits < 8) p = lowbit_parts_of(++bits);
  return p;
}

LowBitParts lowbit_book_parts(const LowBit *w) {
  LowBitParts p = lowbit_parts_of(w->bits <= 4 ? 4 : 8);
  return lowbit_blocks(w) > 1 && w->block % p.chunk != 0 ? lowbit_parts_of(8) : p;
}

// ---- the op

static bool is_bytes(const Value *v) {
  return v != NULL && value_is_const(v) && !v->constant->released && is_small_int(v->type->dtype) &&
         v->type->rank == 2 && type_count(v->type) > 0;
}

static bool is_book(const Value *v) {
  return value_is_const(v) && v->type->dtype == DT_F32 && v->type->rank == 1 && v->type->dims[0] <= BYTES;
}

bool lowbit_of(const Op *op, LowBit *w) {
  if (op->kind != OP_MATMUL) return false;
  const Value *v = op_in(op, 1);
  const Op *by = v->kind == VALUE_RESULT ? v->op : NULL, *dq = by != NULL && by->kind == OP_DEQUANTIZE ? by : NULL;
  bool looked_up = by != NULL && by->kind == OP_LOOKUP && is_book(op_in(by, 0));
  if (dq != NULL || looked_up) v = op_in(by, looked_up);
  if (!is_bytes(v)) return false;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  const int64_t *dims = v->type->dims;
  *w = (LowBit){.q = v->constant, .k = dims[trans ? 1 : 0], .n = dims[trans ? 0 : 1]};
  w->k_step = trans ? 1 : w->n;
  w->n_step = trans ? w->k : 1;
  w->block = w->k;
  if (looked_up) {
    w->book = op_in(by, 0)->constant;
    w->scaled = true;
    w->step = 1;
    while (w->book->type->dims[0] > INT64_C(1) << w->bits) w->bits++;
    return v->type->dtype == DT_U8;
  }
  if (dq != NULL && !scales_of(dq, trans ? 1 : 0, w)) return false;
  find_levels(op->func->module, w);
  return true;
}

bool lowbit_is_source(const Op *op) {
  const Value *v = op_out(op, 0);
  LowBit w;
  if ((op->kind != OP_DEQUANTIZE && op->kind != OP_LOOKUP) || v->uses == NULL || value_is_result_of_func(v))
    return false;
  for (const Operand *u = v->uses; u != NULL; u = u->next)
    if (u->slot != 1 || !lowbit_of(u->op, &w)) return false;
  return true;
}
