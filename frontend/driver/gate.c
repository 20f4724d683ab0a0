// See gate.h.
#include "frontend/driver/gate.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"

// Unit roundoff of the arithmetic a type is computed in, and spacing of the stored type relative to a value.
static double unit(DType t) { return t == DT_F64 ? 0x1p-53 : 0x1p-24; }

static double store_ulp(DType t, double v) {
  double a = fabs(v);
  switch (t) {
    case DT_F64: return fmax(a * 0x1p-52, 0x1p-1074);
    case DT_F32: return fmax(a * 0x1p-23, 0x1p-149);
    case DT_F16: return fmax(a * 0x1p-10, 0x1p-24);
    case DT_BF16: return fmax(a * 0x1p-7, 0x1p-133);
    default: return a * 0x1p-2;
  }
}

static bool same_special(double a, double b) { return (isnan(a) && isnan(b)) || a == b; }

static void gate_element(GateResult *r, int64_t i, double got, double want, double allowed) {
  if (same_special(got, want)) return;
  double d = fabs(got - want), ratio = allowed > 0 ? d / allowed : INFINITY;
  if (isnan(d) || isinf(d)) ratio = INFINITY;
  if (d > r->max_abs) r->max_abs = d;
  if (ratio > r->worst) {
    r->worst = ratio;
    r->at = i;
    r->got = got;
    r->want = want;
  }
  if (ratio <= 1) return;
  r->ok = false;
  r->outside++;
}

static double max_abs(const Tensor *t) {
  double m = 0;
  int64_t n = type_count(t->type);
  for (int64_t i = 0; i < n; i++) {
    double v = fabs(elem_get_f(t->data, t->type->dtype, i));
    if (isfinite(v) && v > m) m = v;
  }
  return m;
}

// Class of an op's float results. Movement, comparison and single arithmetic are exact, except that code in f32 on half
// tensors may keep more precision between fused steps, so fused code is class U or N.
static char op_class(const Op *op) {
  switch (op->kind) {
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_MATMUL:
    case OP_EINSUM:
    case OP_CHAIN:
    case OP_AVGPOOL: return 'C';
    case OP_REDUCE: {
      EnumValue r = op_enum(op, A_REDUCE_op);
      if (r == REDUCE_MAX || r == REDUCE_MIN) return 'E';
      return r == REDUCE_SUM || r == REDUCE_MEAN ? 'C' : 'N';
    }
    case OP_NEG:
    case OP_ABS:
    case OP_SIGN:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_RELU:
    case OP_CLIP:
    case OP_MIN:
    case OP_MAX:
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_SQRT:
    case OP_CAST:
    case OP_SELECT:
    case OP_MAXPOOL:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_EXPAND:
    case OP_TILE:
    case OP_CONCAT:
    case OP_SLICE:
    case OP_PAD:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_ONE_HOT:
    case OP_TRILU:
    case OP_TOPK:
    case OP_ARGREDUCE:
    case OP_QUANTIZE:
    case OP_DEQUANTIZE:
    case OP_THRESHOLD:
    case OP_LOOKUP: return 'E';
    default: return (op_info(op->kind)->traits & TRAIT_ELTWISE) || op->kind == OP_MAP ? 'U' : 'N';
  }
}

// What an error of `raw_error` in the raw elements does to the results of the post function: evaluated on both sides.
static void through_post(const Op *op, const Tensor *in, const double *mag, double gamma, const Tensor *want,
                         double *allowed, Arena *scratch) {
  Func *post = op_post(op);
  Module *m = op->func->module;
  int64_t n = type_count(want->type);
  uint32_t extra = op_n_post(op), fixed = op_info(op->kind)->max_in;
  Func *home = func_new(m, "qcc.gate", 0, NULL);
  m->funcs.n--;  // scratch function: never listed
  const Type *raw_type = type_with_dtype(m->types, want->type, post->args[0]->type->dtype);
  Value **none = NEW_ARRAY(scratch, Value *, op->n_in + 1);
  for (uint32_t i = 0; i < fixed && i < op->n_in; i++) none[i] = op_in(op, i);
  Op *bare = op_new(home, NULL, op->kind, fixed < op->n_in ? fixed : op->n_in, none, op->loc);
  op_copy_attrs(bare, op);
  op_set_func(bare, op_info(op->kind)->post, NULL);
  bare->out[0]->type = raw_type;
  Tensor raw;
  if (!eval_op(bare, in, &raw, scratch)) return;
  for (int side = -1; side <= 1; side += 2) {
    Tensor *args = NEW_ARRAY(scratch, Tensor, extra + 1), out;
    args[0] = tensor_new(scratch, raw_type);
    for (int64_t i = 0; i < n; i++)
      elem_set_f(args[0].data, raw_type->dtype, i, elem_get_f(raw.data, raw_type->dtype, i) + side * gamma * mag[i]);
    Value **ops = NEW_ARRAY(scratch, Value *, extra + 1);
    const Type **types = NEW_ARRAY(scratch, const Type *, extra + 1);
    types[0] = raw_type;
    for (uint32_t i = 0; i < extra; i++) {
      args[i + 1] = in[fixed + i];
      types[i + 1] = op_in(op, fixed + i)->type;
    }
    Func *holder = func_new(m, "qcc.gate", extra + 1, types);
    m->funcs.n--;
    for (uint32_t i = 0; i <= extra; i++) ops[i] = holder->args[i];
    Op *map = op_new(holder, NULL, OP_MAP, extra + 1, ops, op->loc);
    op_set_func(map, A_MAP_body, post);
    map->out[0]->type = want->type;
    if (!eval_op(map, args, &out, scratch)) return;
    for (int64_t i = 0; i < n; i++) {
      double v = elem_get_f(out.data, want->type->dtype, i), w = elem_get_f(want->data, want->type->dtype, i);
      double d = fabs(v - w);
      if (d > allowed[i] && isfinite(d)) allowed[i] = d;
    }
  }
}

static void gate_contraction(const Op *op, const Tensor *in, const Tensor *want, double *allowed, Arena *scratch) {
  int64_t n = type_count(want->type), terms = 0;
  double *mag = NEW_ARRAY(scratch, double, n + 1);
  if (!eval_op_magnitude(op, in, mag, &terms, scratch)) return;
  double u = unit(op_in(op, 0)->type->dtype == DT_F64 ? DT_F64 : DT_F32);
  double k = (double)(terms + 2), gamma = k * u / (1 - k * u);
  int64_t bits = op->kind == OP_MATMUL ? op_int(op, A_MATMUL_x_bits) : 0;
  if (bits > 0) gamma += ldexp(1, 4 - (int)bits);  // of the largest of a block, which is a few times the mean
  for (int64_t i = 0; i < n; i++) allowed[i] = gamma * mag[i];
  if (op_info(op->kind)->post >= 0 && op_post(op)) through_post(op, in, mag, gamma, want, allowed, scratch);
}

GateResult gate_layer(const Op *op, uint32_t index, const Tensor *in, const Tensor *want, const Tensor *got,
                      Arena *scratch) {
  GateResult r = {.ok = true, .cls = op_class(op)};
  DType t = want->type->dtype;
  int64_t n = type_count(want->type);
  (void)index;
  double *allowed = NEW_ARRAY(scratch, double, n + 1);
  double largest = dtype_is_float(t) ? max_abs(want) : 0;
  if (!dtype_is_float(t)) {
    r.cls = 'E';
  } else if (r.cls == 'C') {
    gate_contraction(op, in, want, allowed, scratch);
  }
  for (int64_t i = 0; i < n; i++) {
    double w = elem_get_f(want->data, t, i), g = elem_get_f(got->data, t, i);
    double a = allowed[i];
    // Storage rounding of both sides; code in f32 on f16 and bf16 tensors rounds elsewhere than step by step code does.
    double ulp = store_ulp(t, w);
    if (r.cls == 'U') a += 8 * ulp + 64 * unit(t) * fabs(w) + 8 * unit(t) * largest;
    if (r.cls == 'N') a += 16 * ulp + 64 * unit(t) * largest;
    if (r.cls == 'C') a += 8 * ulp;
    gate_element(&r, i, g, w, a);
  }
  return r;
}

GateResult gate_model(const Tensor *want, const Tensor *got) {
  GateResult r = {.ok = true, .cls = 'M'};
  DType t = want->type->dtype;
  int64_t n = type_count(want->type);
  double largest = dtype_is_float(t) ? max_abs(want) : 0;
  double floor_abs = largest * (t == DT_F16 || t == DT_BF16 ? 0x1p-9 : 1e-5);
  for (int64_t i = 0; i < n; i++) {
    double w = elem_get_f(want->data, t, i), g = elem_get_f(got->data, t, i);
    gate_element(&r, i, g, w, dtype_is_float(t) ? 1e-7 + 1e-3 * fabs(w) + floor_abs : 0);
  }
  return r;
}

const char *gate_text(Arena *arena, const GateResult *r) {
  if (r->worst == 0) return arena_printf(arena, "class %c, equal", r->cls);
  return arena_printf(arena, "class %c, %.3g of the gate, max |difference| %.3g; element %lld: %.9g, expected %.9g",
                      r->cls, r->worst, r->max_abs, (long long)r->at, r->got, r->want);
}
