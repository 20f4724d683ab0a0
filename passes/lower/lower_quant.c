// quantize, dequantize, threshold, requant, lookup as plain loops: what these ops mean when no contraction absorbed
// them. Rounding and saturation happen in float before the cast, so every input has one result.
#include <math.h>

#include "passes/lowbit.h"
#include "passes/lower/lower_conv.h"
#include "passes/lower/index.h"
#include "passes/lower/walk.h"

typedef struct Quant {
  const Op *op;
  DType t;       // of the arithmetic
  KBuf *buf[4];  // y, x, then the parameters
  uint32_t n_par;
} Quant;

// Strides of a scale or zero operand over the dims of x; block axes divide the index, which is not affine, so the walk
// gets an axis of its own for them (see split_block).
static void parameter_strides(const Type *p, uint32_t rank, int64_t axis, int64_t block, int64_t *strides) {
  for (uint32_t i = 0; i < rank + (block ? 1u : 0u); i++) strides[i] = 0;
  if (p->rank == 0 || type_count(p) == 1) return;
  if (p->rank == 1 && !block) {
    strides[axis] = 1;
    return;
  }
  int64_t stride = 1;
  for (uint32_t i = p->rank; i-- > 0; stride *= p->dims[i]) {
    strides[block && (int64_t)i > axis ? i + 1 : i] = p->dims[i] == 1 ? 0 : stride;
  }
}

// The dims of a part of x, the block axis as [blocks, block]. Part 0 has all whole blocks, part 1 what is left of the
// last one.
static uint32_t split_block(const Type *t, int64_t axis, int64_t block, uint32_t part, int64_t *dims) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->rank; i++) {
    bool split = block && (int64_t)i == axis;
    if (!split) dims[n++] = t->dims[i];
    if (!split) continue;
    dims[n++] = part ? 1 : t->dims[i] / block;
    dims[n++] = part ? t->dims[i] % block : block;
  }
  return n;
}

// Strides of x, which are those of the result, over the same loops.
static void element_strides(const Type *t, int64_t axis, int64_t block, int64_t *strides) {
  int64_t stride = 1;
  for (uint32_t i = t->rank; i-- > 0; stride *= t->dims[i]) {
    bool split = block && (int64_t)i == axis;
    strides[block && (int64_t)i > axis ? i + 1 : i] = split ? stride * block : stride;
    if (split) strides[i + 1] = stride;
  }
}

static KExpr *rounded(KBuild *b, EnumValue mode, KExpr *x) {
  DType t = x->type;
  if (mode == ROUND_FLOOR) return kx_op1(b, KOP_FLOOR, x);
  if (mode == ROUND_CEIL) return kx_op1(b, KOP_CEIL, x);
  if (mode == ROUND_HALF_EVEN) return kx_op1(b, KOP_ROUND, x);
  KVar *v = kb_let(b, "v", x);
  KVar *low = kb_let(b, "low", kx_op1(b, KOP_FLOOR, kx_var(b, v)));
  KExpr *up = kx_op2(b, KOP_ADD, kx_var(b, low), kx_f(b, t, 1));
  KExpr *rest = kx_op2(b, KOP_SUB, kx_var(b, v), kx_var(b, low));
  KExpr *negative = kx_op2(b, KOP_LT, kx_var(b, v), kx_f(b, t, 0));
  if (mode == ROUND_TRUNC) {
    return kx_op3(b, KOP_SELECT, negative, kx_op1(b, KOP_CEIL, kx_var(b, v)), kx_var(b, low));
  }
  KExpr *above = kx_op2(b, KOP_GT, kx_clone(b, rest), kx_f(b, t, 0.5));
  KExpr *tie = kx_op2(b, KOP_EQ, rest, kx_f(b, t, 0.5));
  if (mode == ROUND_HALF_AWAY) tie = kx_op2(b, KOP_AND, tie, kx_op1(b, KOP_NOT, negative));
  return kx_op3(b, KOP_SELECT, kx_op2(b, KOP_OR, above, tie), up, kx_var(b, low));
}

// Into the range of the integer type t, NaN to its smallest value.
static KExpr *saturated(KBuild *b, DType t, KExpr *x) {
  KVar *v = kb_let(b, "q", x);
  KExpr *nan = kx_op1(b, KOP_ISNAN, kx_var(b, v));
  KExpr *number = kx_op3(b, KOP_SELECT, nan, kx_f(b, x->type, -INFINITY), kx_var(b, v));
  KExpr *low = kx_op2(b, KOP_MAX, number, kx_f(b, x->type, (double)dtype_min(t)));
  return kx_cast(b, t, kx_op2(b, KOP_MIN, low, kx_f(b, x->type, (double)dtype_max(t))));
}

static KExpr *parameter(const Quant *q, KBuild *b, uint32_t i, const Affine *at) {
  return kx_cast(b, q->t, lower_load1(b, q->buf[2 + i], at[2 + i]));
}

// Rounds a quotient to the type of the scale, which it is written in.
static KExpr *to_precision(const Quant *q, KBuild *b, KExpr *x) {
  DType scale = q->buf[2]->type;
  if (scale != DT_F16 && scale != DT_BF16) return x;
  return kx_cast(b, x->type, kx_cast(b, scale, x));
}

static void quantize_element(void *ctx, KBuild *b, const Affine *at) {
  const Quant *q = ctx;
  DType to = q->buf[0]->type;
  EnumValue mode = op_enum(q->op, A_QUANTIZE_round);
  bool zero_first = op_enum(q->op, A_QUANTIZE_order) == ORDER_ZERO_THEN_ROUND;
  KExpr *x = kx_op2(b, KOP_DIV, kx_cast(b, q->t, lower_load1(b, q->buf[1], at[1])), parameter(q, b, 0, at));
  KExpr *zero = q->n_par > 1 ? parameter(q, b, 1, at) : NULL;
  x = to_precision(q, b, x);
  if (zero && zero_first) x = to_precision(q, b, kx_op2(b, KOP_ADD, x, zero));
  if (dtype_is_int(to)) x = rounded(b, mode, x);
  if (zero && !zero_first) x = kx_op2(b, KOP_ADD, x, zero);
  if (dtype_is_int(to)) {
    kb_store1(b, q->buf[0], at[0], saturated(b, to, x));
  } else {
    lower_store1(b, q->buf[0], at[0], x);
  }
}

static void dequantize_element(void *ctx, KBuild *b, const Affine *at) {
  const Quant *q = ctx;
  KExpr *x = kx_cast(b, q->t, lower_load1(b, q->buf[1], at[1]));
  if (q->n_par > 1) x = kx_op2(b, KOP_SUB, x, parameter(q, b, 1, at));
  KExpr *y = kx_op2(b, KOP_MUL, x, parameter(q, b, 0, at));
  lower_store1(b, q->buf[0], at[0], kx_cast(b, lower_compute_type(q->buf[0]->type), y));
}

static void requant_element(void *ctx, KBuild *b, const Affine *at) {
  const Quant *q = ctx;
  EnumValue mode = op_enum(q->op, A_REQUANT_round);
  KExpr *x = kx_cast(b, q->t, lower_load1(b, q->buf[1], at[1]));
  x = kx_op2(b, KOP_MUL, x, parameter(q, b, 0, at));
  if (op_enum(q->op, A_REQUANT_order) == ORDER_ROUND_THEN_ZERO) {
    x = kx_op2(b, KOP_ADD, rounded(b, mode, x), parameter(q, b, 1, at));
  } else {
    x = rounded(b, mode, kx_op2(b, KOP_ADD, x, parameter(q, b, 1, at)));
  }
  kb_store1(b, q->buf[0], at[0], saturated(b, q->buf[0]->type, x));
}

static void emit_part(KBuild *b, Quant *q, int64_t axis, int64_t block, uint32_t part, WalkFn *fn) {
  const Type *x = op_in(q->op, 0)->type;
  int64_t dims[MAX_RANK + 1], strides[MAX_RANK + 1], skip = part ? x->dims[axis] / block : 0;
  Walk walk;
  walk_init(&walk, split_block(x, axis, block, part, dims), dims);
  if (walk_count(&walk) == 0) return;
  element_strides(x, axis, block, strides);
  walk_result(&walk, part ? skip * strides[axis] : 0, strides);
  walk_operand(&walk, part ? skip * strides[axis] : 0, strides);
  for (uint32_t i = 1; i <= q->n_par; i++) {
    parameter_strides(op_in(q->op, i)->type, x->rank, axis, block, strides);
    walk_operand(&walk, part ? skip * strides[axis] : 0, strides);
  }
  walk_collapse(&walk);
  walk_emit(b, &walk, true, NULL, fn, q);
}

static bool emit(LowerCtx *ctx, const Op *op, DType t, int64_t axis, int64_t block, WalkFn *fn) {
  const Type *x = op_in(op, 0)->type;
  Quant q = {.op = op, .t = t};
  PBuf *bufs[4] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0))};
  KBuild b;
  if (axis < 0) axis += x->rank;
  lower_begin(ctx, &b, op);
  q.buf[0] = lower_flat(&b, bufs[0]);
  q.buf[1] = lower_flat(&b, bufs[1]);
  for (uint32_t i = 1; i < 3 && op_in(op, i); i++) {
    bufs[1 + i] = lower_buf(ctx, op_in(op, i));
    q.buf[1 + i] = lower_flat(&b, bufs[1 + i]);
    q.n_par++;
  }
  emit_part(&b, &q, axis, block, 0, fn);
  if (block && x->dims[axis] % block != 0) emit_part(&b, &q, axis, block, 1, fn);
  lower_step(ctx, &b, op, NULL, 2 + q.n_par, bufs);
  return true;
}

bool lower_quantize(LowerCtx *ctx, const Op *op) {
  DType t = lower_compute_type(op_in(op, 0)->type->dtype);
  int64_t axis = op_int(op, A_QUANTIZE_axis), block = op_int(op, A_QUANTIZE_block);
  return emit(ctx, op, dtype_is_float(t) ? t : DT_F32, axis, block, quantize_element);
}

// Nobody reads the floats: matrix products take the integers as they are stored.
static bool is_absorbed(LowerCtx *ctx, const Op *op) {
  if (!lowbit_is_source(op)) return false;
  for (const Operand *u = op_out(op, 0)->uses; u != NULL; u = u->next) {
    Plan plan = lower_plan(ctx, u->op);
    if (!plan_is(&plan, "stream")) return false;
  }
  return true;
}

bool lower_dequantize(LowerCtx *ctx, const Op *op) {
  if (is_absorbed(ctx, op)) return true;
  DType t = lower_compute_type(op_out(op, 0)->type->dtype);
  return emit(ctx, op, t, op_int(op, A_DEQUANTIZE_axis), op_int(op, A_DEQUANTIZE_block), dequantize_element);
}

bool lower_requant(LowerCtx *ctx, const Op *op) { return emit(ctx, op, DT_F32, -1, 0, requant_element); }

// ---- threshold: the number of thresholds passed, n of them per channel (last axis)

bool lower_threshold(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type, *t = op_in(op, 1)->type;
  PBuf *bufs[4] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  int64_t c = x->rank ? x->dims[x->rank - 1] : 1, n = t->dims[t->rank - 1], one = 1;
  bool has_dir = op_in(op, 2) != NULL, shared_t = type_count(t) == n;
  DType compute = lower_compute_type(x->dtype);
  KBuild b;
  lower_begin(ctx, &b, op);
  KBuf *buf[4] = {lower_flat(&b, bufs[0]), lower_flat(&b, bufs[1]), lower_flat(&b, bufs[2])};
  if (has_dir) buf[3] = lower_flat(&b, bufs[3] = lower_buf(ctx, op_in(op, 2)));
  Affine row = aff_var(kb_for(&b, "r", 0, type_count(x) / c, 1, FOR_SEQ));
  Affine ch = aff_var(kb_for(&b, "c", 0, c, 1, FOR_SEQ)), at = aff_add(aff_mul(row, c), ch);
  KVar *v = kb_let(&b, "x", lower_load1(&b, buf[1], at));
  KBuf *level = kb_alloc(&b, "level", DT_I32, 1, &one, SPACE_REG);
  kb_store1(&b, level, aff(0), kx_i(&b, DT_I32, 0));
  KVar *j = kb_for(&b, "j", 0, n, 1, FOR_SEQ);
  Affine t_at = aff_add(shared_t ? aff(0) : aff_mul(ch, n), aff_var(j));
  KVar *bound = kb_let(&b, "t", kx_cast(&b, compute, lower_load1(&b, buf[2], t_at)));
  KExpr *hit = kx_op2(&b, KOP_GE, kx_var(&b, v), kx_var(&b, bound));
  if (has_dir) {
    bool shared_dir = type_count(op_in(op, 2)->type) == 1;
    KExpr *down = kx_load1(&b, buf[3], shared_dir ? aff(0) : ch);
    hit = kx_op3(&b, KOP_SELECT, down, kx_op2(&b, KOP_LE, kx_var(&b, v), kx_var(&b, bound)), hit);
  }
  KExpr *more = kx_op2(&b, KOP_ADD, kx_load1(&b, level, aff(0)), kx_cast(&b, DT_I32, hit));
  kb_store1(&b, level, aff(0), more);
  kb_end(&b);
  KExpr *value = kx_load1(&b, level, aff(0));
  if (dtype_info(buf[0]->type)->cls == DC_INT)  // level 0 is the smallest value of the type
    value = kx_op2(&b, KOP_ADD, value, kx_i(&b, DT_I32, dtype_min(buf[0]->type)));
  kb_store1(&b, buf[0], at, kx_cast(&b, buf[0]->type, value));
  kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, has_dir ? 4 : 3, bufs);
  return true;
}

// ---- lookup: table [n, v..], index [..] -> [.., v..]

bool lower_lookup(LowerCtx *ctx, const Op *op) {
  if (is_absorbed(ctx, op)) return true;
  const Type *table = op_in(op, 0)->type;
  int64_t n = table->dims[0], count = type_count(op_in(op, 1)->type);
  PBuf *bufs[3] = {lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1))};
  KBuild b;
  if (!index_axis_check(ctx, op, n)) return false;
  int64_t width = type_count(table) / n;
  lower_begin(ctx, &b, op);
  KBuf *y = lower_flat(&b, bufs[0]), *x = lower_flat(&b, bufs[1]), *idx = lower_flat(&b, bufs[2]);
  Affine j = aff_var(kb_for(&b, "j", 0, count, 1, count * width >= LANES_PAR_MIN ? FOR_PAR : FOR_SEQ));
  Affine at = index_clamped(&b, kx_load1(&b, idx, j), n);
  Affine i = aff_var(kb_for(&b, "i", 0, width, 1, FOR_VEC));
  kb_store1(&b, y, aff_add(aff_mul(j, width), i), kx_load1(&b, x, aff_add(aff_mul(at, width), i)));
  kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, 3, bufs);
  return true;
}
