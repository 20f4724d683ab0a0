// Sets and intervals of values, op by op. See sets.h.
//
//   %1 = clip %0, 0.0, 1.0       0 .. 1
//   %2 = mul %1, 3.0             0 .. 3
//   %3 = round %2                {0, 1, 2, 3}
//   %4 = div %3, 3.0             {0, 0.33333334, 0.6666667, 1}
//
// A row of the table names the rule of an op kind. Element-wise ops on sets have the image of all combinations,
// computed as the interpreter does; two operands that are one value count once. On an interval they are bounded at the
// corners, which is right for ops that rise or fall in each operand alone. Movement has the union of what it moves.
#include "passes/recover/sets.h"

#include <math.h>
#include <string.h>

#include "ir/base/map.h"
#include "ir/elem.h"

#define MAX_COMBINATIONS (1u << 16)
#define MAX_ARGS 8

typedef enum Rule {
  RULE_NONE,
  RULE_CORNERS,  // element-wise, monotone in each operand
  RULE_ABS,
  RULE_IMAGE,  // element-wise, bounded only on sets
  RULE_SELECT,
  RULE_MOVE,    // numbers of operand 0
  RULE_JOIN,    // numbers of every operand
  RULE_UPDATE,  // numbers of operands 0 and 2
  RULE_PAD,
  RULE_RESIZE,
  RULE_REDUCE,
  RULE_MEAN,
  RULE_UNIT,  // 0 .. 1
  RULE_DEQUANTIZE,
  RULE_THRESHOLD
} Rule;

static const Rule rules[OP_COUNT] = {
    [OP_NEG] = RULE_CORNERS,
    [OP_ABS] = RULE_ABS,
    [OP_SIGN] = RULE_CORNERS,
    [OP_FLOOR] = RULE_CORNERS,
    [OP_CEIL] = RULE_CORNERS,
    [OP_ROUND] = RULE_CORNERS,
    [OP_SQRT] = RULE_CORNERS,
    [OP_RECIP] = RULE_IMAGE,
    [OP_EXP] = RULE_CORNERS,
    [OP_LOG] = RULE_CORNERS,
    [OP_TANH] = RULE_CORNERS,
    [OP_ATAN] = RULE_CORNERS,
    [OP_ASINH] = RULE_CORNERS,
    [OP_ERF] = RULE_CORNERS,
    [OP_SIGMOID] = RULE_CORNERS,
    [OP_SOFTPLUS] = RULE_CORNERS,
    [OP_SOFTSIGN] = RULE_CORNERS,
    [OP_RELU] = RULE_CORNERS,
    [OP_LEAKY_RELU] = RULE_IMAGE,
    [OP_ELU] = RULE_IMAGE,
    [OP_CELU] = RULE_IMAGE,
    [OP_SELU] = RULE_IMAGE,
    [OP_HARD_SIGMOID] = RULE_CORNERS,
    [OP_HARD_SWISH] = RULE_IMAGE,
    [OP_THRESHOLDED_RELU] = RULE_IMAGE,
    [OP_SHRINK] = RULE_IMAGE,
    [OP_MISH] = RULE_IMAGE,
    [OP_SWISH] = RULE_IMAGE,
    [OP_GELU] = RULE_IMAGE,
    [OP_GELU_TANH] = RULE_IMAGE,
    [OP_SIN] = RULE_IMAGE,
    [OP_COS] = RULE_IMAGE,
    [OP_CAST] = RULE_CORNERS,
    [OP_ADD] = RULE_CORNERS,
    [OP_SUB] = RULE_CORNERS,
    [OP_MUL] = RULE_CORNERS,
    [OP_DIV] = RULE_CORNERS,
    [OP_POW] = RULE_IMAGE,
    [OP_MOD] = RULE_IMAGE,
    [OP_FMOD] = RULE_IMAGE,
    [OP_MIN] = RULE_CORNERS,
    [OP_MAX] = RULE_CORNERS,
    [OP_PRELU] = RULE_IMAGE,
    [OP_CLIP] = RULE_CORNERS,
    [OP_SELECT] = RULE_SELECT,
    [OP_RESHAPE] = RULE_MOVE,
    [OP_TRANSPOSE] = RULE_MOVE,
    [OP_EXPAND] = RULE_MOVE,
    [OP_TILE] = RULE_MOVE,
    [OP_SLICE] = RULE_MOVE,
    [OP_GATHER] = RULE_MOVE,
    [OP_GATHER_ELEMENTS] = RULE_MOVE,
    [OP_GATHER_ND] = RULE_MOVE,
    [OP_LOOKUP] = RULE_MOVE,
    [OP_MAXPOOL] = RULE_MOVE,
    [OP_TOPK] = RULE_MOVE,
    [OP_CONCAT] = RULE_JOIN,
    [OP_SCATTER_ELEMENTS] = RULE_UPDATE,
    [OP_SCATTER_ND] = RULE_UPDATE,
    [OP_PAD] = RULE_PAD,
    [OP_RESIZE] = RULE_RESIZE,
    [OP_REDUCE] = RULE_REDUCE,
    [OP_AVGPOOL] = RULE_MEAN,
    [OP_SOFTMAX] = RULE_UNIT,
    [OP_DEQUANTIZE] = RULE_DEQUANTIZE,
    [OP_THRESHOLD] = RULE_THRESHOLD,
};

struct Sets {
  Module *m;
  Arena *arena;
  Map *of;  // value id + 1 -> ValueSet
  ValueSet any;
};

// ---- numbers collected without order, then sorted

typedef struct Bag {
  uint32_t n;
  bool full;  // more than SET_MAX, or a NaN
  double v[SET_MAX];
  uint16_t slot[4 * SET_MAX];  // number + 1 by hash of its bits
} Bag;

static uint64_t bits_of(double v) {
  uint64_t b;
  memcpy(&b, &v, sizeof b);
  return b;
}

static void bag_add(Bag *b, double v) {
  if (b->full) return;
  if (isnan(v)) {
    b->full = true;
    return;
  }
  uint64_t h = bits_of(v) * UINT64_C(0x9e3779b97f4a7c15);
  uint32_t at = (uint32_t)(h >> 54);
  for (; b->slot[at] != 0; at = (at + 1) % (4 * SET_MAX))
    if (bits_of(b->v[b->slot[at] - 1]) == bits_of(v)) return;
  if (b->n == SET_MAX) {
    b->full = true;
    return;
  }
  b->v[b->n++] = v;
  b->slot[at] = (uint16_t)b->n;
}

static bool less(double a, double b) { return a < b || (a == b && signbit(a) && !signbit(b)); }

// The set of a bag that is not full and not empty; insertion sort, the numbers mostly come in order.
static ValueSet *set_of_bag(Sets *s, const Bag *b) {
  ValueSet *set = NEW(s->arena, ValueSet);
  double *v = NEW_ARRAY(s->arena, double, b->n);
  for (uint32_t i = 0; i < b->n; i++) {
    uint32_t at = i;
    for (; at > 0 && less(b->v[i], v[at - 1]); at--) v[at] = v[at - 1];
    v[at] = b->v[i];
  }
  *set = (ValueSet){b->n, v, v[0], v[b->n - 1], true};
  for (uint32_t i = 0; i < b->n; i++) set->whole = set->whole && v[i] == rint(v[i]) && isfinite(v[i]);
  return set;
}

static ValueSet *set_interval(Sets *s, double lo, double hi) {
  ValueSet *set = NEW(s->arena, ValueSet);
  *set = (ValueSet){.lo = isnan(lo) ? -INFINITY : lo, .hi = isnan(hi) ? INFINITY : hi};
  return set;
}

// Integers lo .. hi: a set when they are few. A float -0 may occur where numbers below zero are rounded.
static ValueSet *set_whole(Sets *s, double lo, double hi, bool minus_zero) {
  ValueSet *wide = set_interval(s, lo, hi);
  wide->whole = true;
  if (!(hi - lo < SET_MAX - 1) || !(fabs(lo) < 0x1p52)) return wide;
  Bag b = {0};
  for (double v = lo; v <= hi; v++) {
    if (v == 0 && minus_zero) bag_add(&b, -0.0);
    bag_add(&b, v == 0 ? 0.0 : v);
  }
  return b.full || b.n == 0 ? wide : set_of_bag(s, &b);
}

// ---- what is known without looking at ops

static bool whole_type(DType t) { return dtype_is_int(t) || t == DT_BOOL; }

static ValueSet *set_of_type(Sets *s, const Type *t) {
  if (t == NULL || !whole_type(t->dtype)) return set_interval(s, -INFINITY, INFINITY);
  if (t->dtype == DT_U64) return set_interval(s, 0, 0x1p64);
  if (t->dtype == DT_BOOL) return set_whole(s, 0, 1, false);
  return set_whole(s, (double)dtype_min(t->dtype), (double)dtype_max(t->dtype), false);
}

static ValueSet *set_of_const(Sets *s, const Value *v) {
  Const *c = v->constant;
  DType t = c->type->dtype;
  int64_t n = type_count(c->type);
  if ((!dtype_is_float(t) && !whole_type(t)) || n == 0) return set_of_type(s, c->type);
  Bag b = {0};
  const AnyF32 *f = t == DT_F32 ? const_data(s->m, c) : NULL;
  double lo = INFINITY, hi = -INFINITY;
  for (int64_t i = 0; i < n; i++) {
    double x = f ? (double)f[i] : dtype_is_float(t) ? const_f(s->m, c, i) : (double)const_i(s->m, c, i);
    if (isnan(x) || (f == NULL && fabs(x) > 0x1p53)) return set_of_type(s, c->type);
    bag_add(&b, x);
    lo = x < lo ? x : lo;
    hi = x > hi ? x : hi;
  }
  return b.full ? set_interval(s, lo, hi) : set_of_bag(s, &b);
}

static void note(Sets *s, const Value *v, const ValueSet *set) { map_set(s->of, v->id + 1u, (void *)(uintptr_t)set); }

Sets *sets_new(Module *m, Arena *arena) {
  Sets *s = NEW(arena, Sets);
  *s = (Sets){.m = m, .arena = arena, .of = map_new(arena), .any = {.lo = -INFINITY, .hi = INFINITY}};
  return s;
}

const ValueSet *sets_of(Sets *s, const Value *v) {
  if (v == NULL) return &s->any;
  ValueSet *set = map_get(s->of, v->id + 1u);
  if (set != NULL) return set;
  set = value_is_const(v) ? set_of_const(s, v) : set_of_type(s, v->type);
  note(s, v, set);
  return set;
}

void sets_state(Sets *s, const Value *v, const ValueSet *set) {
  ValueSet *copy = NEW(s->arena, ValueSet);
  double *numbers = NEW_ARRAY(s->arena, double, set->n + 1);
  if (set->n > 0) memcpy(numbers, set->v, set->n * sizeof *numbers);
  *copy = *set;
  copy->v = numbers;
  note(s, v, copy);
}

// ---- element-wise ops

static double cast_number(DType from, DType to, double x) {
  uint64_t place = 0;
  if (dtype_is_float(from)) {
    elem_set_f(&place, to, 0, x);
  } else {
    elem_set_int(&place, to, 0, (int64_t)x, false);
  }
  return dtype_is_float(to) ? elem_get_f(&place, to, 0) : (double)elem_get_i(&place, to, 0);
}

double sets_eval(const Op *op, const double *in) {
  const OpInfo *info = op_info(op->kind);
  DType to = op->out[0]->type->dtype;
  double f[MAX_ARGS];
  int64_t whole[MAX_ARGS];
  bool is_float = false;
  uint32_t n = op->n_in;
  for (uint32_t i = 0; i < op->n_in; i++) is_float |= dtype_is_float(op_in(op, i)->type->dtype);
  if (op->kind == OP_CAST) return cast_number(op_in(op, 0)->type->dtype, to, in[0]);
  if (op->kind == OP_SELECT) return in[0] != 0 ? in[1] : in[2];
  for (uint32_t i = 0; i < op->n_in; i++) f[i] = in[i];
  for (uint32_t k = 0; k < info->n_attrs; k++)
    if (info->attrs[k].kind == ATTR_FLOAT) f[n++] = (double)(float)op_float(op, (int)k);
  if (is_float) {
    double y = kop_eval_f(info->kop, f);
    return dtype_is_float(to) ? elem_round(to, y) : cast_number(DT_F64, to, y);
  }
  for (uint32_t i = 0; i < n; i++) whole[i] = (int64_t)f[i];
  int64_t y = kop_eval_i(info->kop, op_in(op, 0)->type->dtype, whole);
  return dtype_is_float(to) ? elem_round(to, (double)y) : (double)int_wrap(to, y);
}

// Operands of an op, those that are the same value once.
typedef struct Sources {
  const ValueSet *set[MAX_ARGS];
  uint32_t of[MAX_ARGS];  // operand -> source
  uint32_t n;
} Sources;

static bool read_sources(Sets *s, const Op *op, Sources *src) {
  src->n = 0;
  if (op->n_in > 4) return false;
  for (uint32_t i = 0; i < op->n_in; i++) {
    if (op_in(op, i) == NULL) return false;
    src->of[i] = src->n;
    for (uint32_t k = 0; k < i; k++)
      if (op_in(op, k) == op_in(op, i)) src->of[i] = src->of[k];
    if (src->of[i] == src->n) src->set[src->n++] = sets_of(s, op_in(op, i));
  }
  return true;
}

static ValueSet *image(Sets *s, const Op *op, const Sources *src) {
  uint32_t total = 1;
  for (uint32_t i = 0; i < src->n; i++) {
    if (src->set[i]->n == 0 || total > MAX_COMBINATIONS / src->set[i]->n) return NULL;
    total *= src->set[i]->n;
  }
  Bag b = {0};
  for (uint32_t k = 0; k < total && !b.full; k++) {
    double in[MAX_ARGS], from[MAX_ARGS];
    uint32_t rest = k;
    for (uint32_t i = 0; i < src->n; i++) {
      from[i] = src->set[i]->v[rest % src->set[i]->n];
      rest /= src->set[i]->n;
    }
    for (uint32_t i = 0; i < op->n_in; i++) in[i] = from[src->of[i]];
    bag_add(&b, sets_eval(op, in));
  }
  return b.full ? NULL : set_of_bag(s, &b);
}

// Compiled code may err by some units in the last place where the C library does not.
static double widened(const Op *op, double x, double by) {
  switch (op->kind) {
    case OP_EXP:
    case OP_LOG:
    case OP_TANH:
    case OP_ATAN:
    case OP_ASINH:
    case OP_ERF:
    case OP_SIGMOID:
    case OP_SOFTPLUS:
    case OP_SOFTSIGN: return x + by * fabs(x) * 0x1p-20;
    default: return x;
  }
}

static bool chooses(OpKind kind) { return kind == OP_MIN || kind == OP_MAX || kind == OP_CLIP || kind == OP_RELU; }

static ValueSet *corners(Sets *s, const Op *op, const Sources *src) {
  if (op->kind == OP_DIV && !(sets_of(s, op_in(op, 1))->lo > 0 || sets_of(s, op_in(op, 1))->hi < 0)) return NULL;
  DType to = op->out[0]->type->dtype, from = op_in(op, 0)->type->dtype;
  if (!dtype_is_float(to) && !chooses(op->kind) && !(op->kind == OP_CAST && dtype_is_float(from)))
    return NULL;  // may wrap
  double lo = INFINITY, hi = -INFINITY;
  for (uint32_t k = 0; k < 1u << src->n; k++) {
    double in[MAX_ARGS];
    for (uint32_t i = 0; i < op->n_in; i++) {
      const ValueSet *x = src->set[src->of[i]];
      in[i] = k >> src->of[i] & 1 ? x->hi : x->lo;
    }
    if (op->kind == OP_LOG || op->kind == OP_SQRT) in[0] = in[0] < 0 ? 0 : in[0];  // below is NaN
    double y = sets_eval(op, in);
    if (isnan(y)) return NULL;
    lo = y < lo ? y : lo;
    hi = y > hi ? y : hi;
  }
  return set_interval(s, widened(op, lo, -1), widened(op, hi, 1));
}

static bool makes_whole(const Op *op, const Sources *src) {
  switch (op->kind) {
    case OP_SIGN:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND: return true;
    case OP_CAST:
    case OP_NEG:
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_MIN:
    case OP_MAX:
    case OP_CLIP:
    case OP_RELU: break;
    default: return !dtype_is_float(op->out[0]->type->dtype);
  }
  for (uint32_t i = 0; i < src->n; i++)
    if (!src->set[i]->whole) return !dtype_is_float(op->out[0]->type->dtype);
  return true;
}

// Integers, where only integers come out; a float may be -0 where numbers below zero are rounded or products made.
static const ValueSet *bounded(Sets *s, const Op *op, const Sources *src) {
  const ValueSet *range = corners(s, op, src);
  if (range == NULL || !makes_whole(op, src)) return range;
  bool minus = dtype_is_float(op->out[0]->type->dtype) && op->kind != OP_SIGN && op->kind != OP_CAST;
  if (range->lo == 0 && (chooses(op->kind) || op->kind == OP_ROUND)) minus = minus && signbit(range->lo) != 0;
  return set_whole(s, range->lo, range->hi, minus);
}

static ValueSet *absolute(Sets *s, const ValueSet *x) {
  double lo = x->lo > 0 ? x->lo : x->hi < 0 ? -x->hi : 0;
  return set_interval(s, lo, fmax(fabs(x->lo), fabs(x->hi)));
}

// ---- unions

static ValueSet *join(Sets *s, uint32_t n, const ValueSet *const *sets) {
  Bag b = {0};
  bool whole = true;
  double lo = INFINITY, hi = -INFINITY;
  for (uint32_t i = 0; i < n; i++) {
    b.full = b.full || sets[i]->n == 0;
    for (uint32_t k = 0; k < sets[i]->n; k++) bag_add(&b, sets[i]->v[k]);
    lo = sets[i]->lo < lo ? sets[i]->lo : lo;
    hi = sets[i]->hi > hi ? sets[i]->hi : hi;
    whole = whole && sets[i]->whole;
  }
  if (!b.full && b.n > 0) return set_of_bag(s, &b);
  ValueSet *wide = set_interval(s, lo, hi);
  wide->whole = whole;
  return wide;
}

static ValueSet *join_operands(Sets *s, const Op *op) {
  const ValueSet **sets = NEW_ARRAY(s->arena, const ValueSet *, op->n_in);
  for (uint32_t i = 0; i < op->n_in; i++) sets[i] = sets_of(s, op_in(op, i));
  return join(s, op->n_in, sets);
}

static const ValueSet *with_number(Sets *s, const ValueSet *x, double v) {
  ValueSet one = {1, &v, v, v, v == rint(v)};
  return join(s, 2, (const ValueSet *[]){x, &one});
}

static const ValueSet *padded(Sets *s, const Op *op) {
  const ValueSet *x = sets_of(s, op_in(op, 0));
  if (op_enum(op, A_PAD_mode) != PAD_CONSTANT) return x;
  DType t = op->out[0]->type->dtype;
  return with_number(s, x, dtype_is_float(t) ? elem_round(t, op_float(op, A_PAD_value)) : op_float(op, A_PAD_value));
}

static const ValueSet *resized(Sets *s, const Op *op) {
  const ValueSet *x = sets_of(s, op_in(op, 0));
  if (op_enum(op, A_RESIZE_mode) != RESIZE_NEAREST) return NULL;
  if (op_enum(op, A_RESIZE_coord) != COORD_TF_CROP_AND_RESIZE) return x;
  return with_number(s, x, (double)(float)op_float(op, A_RESIZE_extrapolation));
}

// Means lie between the numbers, up to rounding.
static ValueSet *mean(Sets *s, const ValueSet *x, bool zero) {
  double lo = zero && x->lo > 0 ? 0 : x->lo, hi = zero && x->hi < 0 ? 0 : x->hi,
         by = fmax(fabs(lo), fabs(hi)) * 0x1p-10;
  return set_interval(s, lo - by, hi + by);
}

static const ValueSet *reduced(Sets *s, const Op *op) {
  const ValueSet *x = sets_of(s, op_in(op, 0));
  EnumValue how = op_enum(op, A_REDUCE_op);
  if (how == REDUCE_MAX || how == REDUCE_MIN) return type_is_static(op_in(op, 0)->type) ? x : NULL;
  return how == REDUCE_MEAN && dtype_is_float(op->out[0]->type->dtype) ? mean(s, x, false) : NULL;
}

// One scale and one zero point for all: as the interpreter computes them, (x - zero) * scale with one rounding.
static ValueSet *dequantized(Sets *s, const Op *op) {
  const ValueSet *x = sets_of(s, op_in(op, 0)), *scale = sets_of(s, op_in(op, 1));
  double zero = 0;
  if (op_in(op, 2) != NULL) {
    if (sets_of(s, op_in(op, 2))->n != 1) return NULL;
    zero = sets_of(s, op_in(op, 2))->v[0];
  }
  if (scale->n != 1 || x->n == 0) return NULL;
  Bag b = {0};
  for (uint32_t i = 0; i < x->n; i++) bag_add(&b, elem_round(op->out[0]->type->dtype, (x->v[i] - zero) * scale->v[0]));
  return b.full ? NULL : set_of_bag(s, &b);
}

// Counts of thresholds.
static const ValueSet *thresholded(Sets *s, const Op *op) {
  const Type *t = op_in(op, 1)->type;
  int64_t n = t->dims[t->rank - 1];
  DType to = op->out[0]->type->dtype;
  bool holds = dtype_is_float(to) ? n <= SET_MAX : whole_type(to) && n <= dtype_max(to);
  return n >= 0 && holds ? set_whole(s, 0, (double)n, false) : NULL;
}

// ---- the walk

static const ValueSet *element_wise(Sets *s, const Op *op, Rule rule) {
  Sources src;
  if (!read_sources(s, op, &src)) return NULL;
  const ValueSet *set = image(s, op, &src);
  if (set != NULL) return set;
  switch (rule) {
    case RULE_CORNERS: return bounded(s, op, &src);
    case RULE_ABS: return absolute(s, src.set[0]);
    default: return NULL;
  }
}

static const ValueSet *result_of(Sets *s, const Op *op) {
  switch (rules[op->kind]) {
    case RULE_NONE: return NULL;
    case RULE_CORNERS:
    case RULE_ABS:
    case RULE_IMAGE: return element_wise(s, op, rules[op->kind]);
    case RULE_SELECT: return join(s, 2, (const ValueSet *[]){sets_of(s, op_in(op, 1)), sets_of(s, op_in(op, 2))});
    case RULE_MOVE: return sets_of(s, op_in(op, 0));
    case RULE_JOIN: return join_operands(s, op);
    case RULE_UPDATE:
      if (op_enum(op, op->kind == OP_SCATTER_ND ? (int)A_SCATTER_ND_reduction : (int)A_SCATTER_ELEMENTS_reduction) !=
          SCATTER_NONE)
        return NULL;
      return join(s, 2, (const ValueSet *[]){sets_of(s, op_in(op, 0)), sets_of(s, op_in(op, 2))});
    case RULE_PAD: return padded(s, op);
    case RULE_RESIZE: return resized(s, op);
    case RULE_REDUCE: return reduced(s, op);
    case RULE_MEAN: return mean(s, sets_of(s, op_in(op, 0)), true);
    case RULE_UNIT: return set_interval(s, 0, 1 + 0x1p-16);
    case RULE_DEQUANTIZE: return dequantized(s, op);
    case RULE_THRESHOLD: return thresholded(s, op);
  }
  return NULL;
}

void sets_visit(Sets *s, const Op *op) {
  if (op->n_out == 0 || op->out[0]->type == NULL) return;
  const ValueSet *set = result_of(s, op);
  if (set != NULL) note(s, op->out[0], set);
}
