// Ranges of values. See range.h.
//
// A span is a range of numbers of any type. The spans of the operands are worked out first, by an explicit stack, as
// far as MOST_VALUES; what lies beyond has the full span of its type. Few levels go through an element-wise op one by
// one, by its scalar meaning; wider spans through the ops that are monotone, by their corners.
#include "passes/range.h"

#include <math.h>

#include "ir/base/map.h"
#include "ir/elem.h"

enum { MOST_VALUES = 4000, MOST_COMBINATIONS = 4096, MOST_ELEMENTS = 1 << 24 };

typedef struct Span {
  double lo, hi;
  bool nan;    // may be NaN
  bool whole;  // only whole numbers (and NaN)
  uint32_t n;  // levels, 0: not few
  double level[RANGE_LEVELS];
} Span;

typedef struct Spans {
  Arena *arena;
  Map *of;  // by value id
} Spans;

// ---- spans

static Span span_full(DType t) {
  if (t == DT_BOOL) return (Span){.lo = 0, .hi = 1, .whole = true, .n = 2, .level = {0, 1}};
  if (!dtype_is_int(t)) return (Span){.lo = -INFINITY, .hi = INFINITY, .nan = true};
  return (Span){.lo = (double)dtype_min(t), .hi = (double)dtype_max(t), .whole = true};
}

static Span span_of(double lo, double hi, bool nan, bool whole) {
  Span s = {.lo = lo, .hi = hi, .nan = nan, .whole = whole};
  if (!whole || !(hi - lo < RANGE_LEVELS) || fabs(lo) > 0x1p52) return s;
  for (double v = lo; v <= hi; v++) s.level[s.n++] = v;
  return s;
}

// Adds a number; past the last level only the bounds are kept. An empty span has lo > hi.
static void span_add(Span *s, double v) {
  bool few = s->n > 0 || s->lo > s->hi;
  if (isnan(v)) {
    s->nan = true;
    return;
  }
  if (v < s->lo) s->lo = v;
  if (v > s->hi) s->hi = v;
  uint32_t at = 0;
  while (at < s->n && s->level[at] < v) at++;
  if (!few || (at < s->n && s->level[at] == v)) return;
  if (s->n == RANGE_LEVELS) {
    s->n = 0;
    return;
  }
  for (uint32_t i = s->n++; i > at; i--) s->level[i] = s->level[i - 1];
  s->level[at] = v;
}

static Span span_empty(void) { return (Span){.lo = INFINITY, .hi = -INFINITY, .whole = true}; }

static bool all_whole(const Span *s) {
  for (uint32_t i = 0; i < s->n; i++)
    if (s->level[i] != floor(s->level[i])) return false;
  return true;
}

static Span span_union(const Span *a, const Span *b) {
  if (a->lo > a->hi) return *b;
  if (a->n > 0 && b->n > 0) {
    Span s = *a;
    for (uint32_t i = 0; i < b->n; i++) span_add(&s, b->level[i]);
    s.nan |= b->nan;
    s.whole = a->whole && b->whole;
    return s;
  }
  return (Span){
      .lo = fmin(a->lo, b->lo), .hi = fmax(a->hi, b->hi), .nan = a->nan || b->nan, .whole = a->whole && b->whole};
}

// What fits the type; all of the type's values when something does not (integers wrap).
static Span span_in(DType t, Span s) {
  if (t == DT_BOOL || !dtype_is_int(t)) return s;
  if (s.nan || s.lo < (double)dtype_min(t) || s.hi > (double)dtype_max(t)) return span_full(t);
  if (fabs(s.lo) > 0x1p52 || fabs(s.hi) > 0x1p52) return span_full(t);
  s.whole = true;
  return s.n == 0 ? span_of(s.lo, s.hi, false, true) : s;
}

// The bytes that occur among `n` of them.
static Span span_bytes(DType t, const uint8_t *data, int64_t n) {
  bool seen[256] = {false};
  Span s = span_empty();
  for (int64_t i = 0; i < n; i++) seen[data[i]] = true;
  for (int b = 0; b < 256; b++)
    if (seen[b]) span_add(&s, t == DT_I8 && b > 127 ? b - 256 : b);
  return s;
}

static Span span_const(const Const *c) {
  DType t = c->type->dtype;
  int64_t n = type_count(c->type);
  bool floats = dtype_is_float(t);
  Span s = span_empty();
  if (c->gen == CONST_SPLAT && n > 0) {
    span_add(&s, floats ? elem_round(t, c->splat) : (double)c->splat_i);
  } else if (c->gen == CONST_BYTES && !c->released && (t == DT_I8 || t == DT_U8)) {
    s = span_bytes(t, c->bytes, n);
  } else if (c->gen == CONST_BYTES && !c->released && t != DT_STR && n <= MOST_ELEMENTS) {
    for (int64_t i = 0; i < n; i++)
      span_add(&s, floats ? elem_get_f(c->bytes, t, i) : (double)elem_get_i(c->bytes, t, i));
  }
  if (s.lo > s.hi) return span_full(t);
  s.whole = floats ? s.n > 0 && all_whole(&s) : true;
  return span_in(t, s);
}

// ---- element-wise ops

// What casting one number gives; NaN becomes 0 as an integer.
static double cast_one(DType from, DType to, double v) {
  uint64_t cell = 0;
  if (to == DT_BOOL) return v != 0;
  if (dtype_is_float(to)) return elem_round(to, v);
  if (!dtype_is_float(from)) return (double)int_wrap(to, (int64_t)v);
  elem_set_f(&cell, to, 0, v);
  return (double)elem_get_i(&cell, to, 0);
}

// One application of an element-wise op; `from` is the type of its operands.
static double apply(const Op *op, DType from, const double *x) {
  KOp kop = op_info(op->kind)->kop;
  int64_t i[3];
  DType to = op_out(op, 0)->type->dtype;
  if (kop == KOP_CAST) return cast_one(from, to, x[0]);
  if (kop == KOP_SELECT) return x[0] != 0 ? x[1] : x[2];
  if (dtype_is_float(from)) return to == DT_BOOL ? kop_eval_f(kop, x) : elem_round(to, kop_eval_f(kop, x));
  for (uint32_t k = 0; k < op->n_in; k++) i[k] = (int64_t)x[k];
  return (double)kop_eval_i(kop, from, i);
}

// Ops that go up or down in each operand: their values lie between those at the corners.
static bool is_monotone(KOp kop, const Span *in) {
  switch (kop) {
    case KOP_NEG:
    case KOP_FLOOR:
    case KOP_CEIL:
    case KOP_ROUND:
    case KOP_SIGN:
    case KOP_RELU:
    case KOP_ADD:
    case KOP_SUB:
    case KOP_MUL:
    case KOP_MIN:
    case KOP_MAX:
    case KOP_CLIP: return true;
    case KOP_DIV: return in[1].lo > 0 || in[1].hi < 0;
    case KOP_SHR: return in[1].lo >= 0;
    default: return false;
  }
}

// Every combination of levels; false when there are too many of them, or unbounded operands.
static bool by_levels(const Op *op, DType from, const Span *in, Span *out) {
  uint64_t count = 1;
  bool nan = false;
  for (uint32_t i = 0; i < op->n_in; i++) {
    count *= in[i].n;
    nan |= in[i].nan;
    if (count == 0 || count > MOST_COMBINATIONS) return false;
  }
  DType to = op_out(op, 0)->type->dtype;
  // Of NaN only the ops that keep it are known.
  if (nan && (to == DT_BOOL || !(op_info(op->kind)->kop == KOP_CAST || is_monotone(op_info(op->kind)->kop, in))))
    return false;
  *out = span_empty();
  for (uint64_t c = 0; c < count; c++) {
    double x[3] = {0};
    uint64_t rest = c;
    for (uint32_t i = 0; i < op->n_in; i++) {
      x[i] = in[i].level[rest % in[i].n];
      rest /= in[i].n;
    }
    span_add(out, apply(op, from, x));
  }
  if (nan && !dtype_is_float(to)) span_add(out, 0);
  out->nan |= nan && dtype_is_float(to);
  if (out->lo > out->hi) return false;
  out->whole = out->n > 0 && all_whole(out);
  return true;
}

static bool stays_whole(KOp kop, DType t) { return !dtype_is_float(t) || kop != KOP_DIV; }

// Integers are added and multiplied here without wrapping, so that span_in sees what does not fit.
static double corner(KOp kop, DType t, const double *x) {
  if (kop == KOP_ADD) return elem_round(DT_F64, x[0] + x[1]);
  if (kop == KOP_SUB) return x[0] - x[1];
  if (kop == KOP_MUL) return x[0] * x[1];
  if (kop == KOP_NEG) return -x[0];
  if (dtype_is_float(t)) return kop_eval_f(kop, x);
  int64_t i[3] = {(int64_t)x[0], (int64_t)x[1], (int64_t)x[2]};
  return (double)kop_eval_i(kop, t, i);
}

static Span by_corners(const Op *op, DType from, const Span *in) {
  KOp kop = op_info(op->kind)->kop;
  DType to = op_out(op, 0)->type->dtype;
  bool nan = false, whole = stays_whole(kop, from), floats = dtype_is_float(from);
  Span s = span_empty();
  if (!is_monotone(kop, in)) return span_full(to);
  for (uint32_t i = 0; i < op->n_in; i++) {
    nan |= in[i].nan;
    whole = whole && in[i].whole;
    if (!floats && (fabs(in[i].lo) > 0x1p52 || fabs(in[i].hi) > 0x1p52)) return span_full(to);
  }
  for (uint32_t c = 0; c < 1u << op->n_in; c++) {
    double x[3] = {0};
    for (uint32_t i = 0; i < op->n_in; i++) x[i] = c >> i & 1 ? in[i].hi : in[i].lo;
    double v = corner(kop, from, x);
    if (isnan(v)) return span_full(to);
    if (floats) v = elem_round(to, v);
    s.lo = fmin(s.lo, v);
    s.hi = fmax(s.hi, v);
  }
  if (kop == KOP_FLOOR || kop == KOP_CEIL || kop == KOP_ROUND || kop == KOP_SIGN) whole = true;
  return span_in(to, span_of(s.lo, s.hi, nan, whole));
}

static Span cast_span(DType from, DType to, const Span *x) {
  if (to == DT_BOOL) return span_full(to);
  if (dtype_is_float(to)) return span_of(elem_round(to, x->lo), elem_round(to, x->hi), x->nan, x->whole);
  if (!dtype_is_float(from)) return span_in(to, *x);
  Span s = span_of(cast_one(from, to, x->lo), cast_one(from, to, x->hi), false, true),
       zero = span_of(0, 0, false, true);
  return span_in(to, x->nan ? span_union(&s, &zero) : s);
}

static Span eltwise_span(const Op *op, const Span *in) {
  const OpInfo *info = op_info(op->kind);
  DType from = op_in(op, info->kop == KOP_SELECT ? 1 : 0)->type->dtype, to = op_out(op, 0)->type->dtype;
  Span s;
  if (info->n_attrs > 0 || op->n_in > 3 || kop_info(info->kop)->arity != op->n_in) return span_full(to);
  if (to == DT_STR || from == DT_STR || from == DT_U64 || to == DT_U64) return span_full(to);
  if (info->kop == KOP_SELECT) return span_union(&in[1], &in[2]);
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op_in(op, i)->type->dtype != from) return span_full(to);
  if (by_levels(op, from, in, &s)) return to == DT_BOOL || dtype_is_float(to) ? s : span_in(to, s);
  return info->kop == KOP_CAST ? cast_span(from, to, &in[0]) : by_corners(op, from, in);
}

// ---- other ops

// Operands whose spans the op's own depends on: from .. to - 1.
static void needs(const Op *op, uint32_t *from, uint32_t *to) {
  const OpInfo *info = op_info(op->kind);
  *from = *to = 0;
  if (info->traits & TRAIT_POST) {
    *from = op_post(op) != NULL ? info->max_in : op->n_in;
    *to = op->n_in;
    return;
  }
  if ((info->traits & TRAIT_ELTWISE) || op->kind == OP_MAP || op->kind == OP_CONCAT) *to = op->n_in;
  switch (op->kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
    case OP_TILE:
    case OP_PAD:
    case OP_MAXPOOL:
    case OP_RESIZE: *to = 1; break;
    default: break;
  }
}

static const Span *span_get(const Spans *s, const Value *v) { return v == NULL ? NULL : map_get(s->of, v->id); }

static void span_set(Spans *s, const Value *v, Span span) {
  Span *kept = NEW(s->arena, Span);
  *kept = span;
  map_set(s->of, v->id, kept);
}

// Known already, of a constant, or of the type.
static Span span_read(const Spans *s, const Value *v) {
  const Span *known = span_get(s, v);
  if (known != NULL) return *known;
  return value_is_const(v) ? span_const(v->constant) : span_full(v->type->dtype);
}

// The result of a body function whose parameters have spans.
static Span body_span(Spans *s, const Func *body) {
  for (const Op *op = body->first; op != NULL; op = op->next) {
    Span in[3];
    if (op->n_in > 3 || !(op_info(op->kind)->traits & TRAIT_ELTWISE)) return span_full(body->results[0]->type->dtype);
    for (uint32_t i = 0; i < op->n_in; i++) in[i] = span_read(s, op_in(op, i));
    span_set(s, op_out(op, 0), eltwise_span(op, in));
  }
  return span_read(s, body->results[0]);
}

// Every window of a pool reads at least one element.
static bool windows_have_taps(const Op *op) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  uint32_t n = 0, first = op_enum(op, A_MAXPOOL_layout) == LAYOUT_NHWC ? 1 : 2;
  const int64_t *kernel = op_ints(op, A_MAXPOOL_kernel, &n);
  if (type_count(x) <= 0) return false;
  for (uint32_t a = 0; a < n; a++) {
    int64_t stride = op_ints_at(op, A_MAXPOOL_strides, a, 1), pad = op_ints_at(op, A_MAXPOOL_pads, a, 0);
    int64_t dilation = op_ints_at(op, A_MAXPOOL_dilations, a, 1), in = x->dims[first + a];
    for (int64_t o = 0; o < y->dims[first + a]; o++) {
      bool any = false;
      for (int64_t k = 0; k < kernel[a] && !any; k++) {
        int64_t at = o * stride - pad + k * dilation;
        any = at >= 0 && at < in;
      }
      if (!any) return false;
    }
  }
  return true;
}

static Span pad_span(const Op *op, const Span *x) {
  DType t = op_in(op, 0)->type->dtype;
  double value = op_float(op, A_PAD_value);
  if (op_enum(op, A_PAD_mode) != PAD_CONSTANT) return *x;
  Span fill = span_empty();
  span_add(&fill, cast_one(DT_F64, t, value));
  fill.whole = value == floor(value);
  return span_union(x, &fill);
}

static Span threshold_span(const Op *op) {
  const Type *y = op_out(op, 0)->type, *limits = op_in(op, 1)->type;
  double levels = (double)limits->dims[1];
  bool plain = dtype_is_int(y->dtype) && y->dtype != DT_BIP && y->dtype != DT_TERN;
  return plain ? span_in(y->dtype, span_of(0, levels, false, true)) : span_full(y->dtype);
}

static Span op_span(Spans *s, const Op *op) {
  const OpInfo *info = op_info(op->kind);
  Span in[3], all = span_empty();
  if (info->traits & TRAIT_ELTWISE) {
    if (op->n_in > 3) return span_full(op_out(op, 0)->type->dtype);
    for (uint32_t i = 0; i < op->n_in; i++) in[i] = span_read(s, op_in(op, i));
    return eltwise_span(op, in);
  }
  const Func *body = op->kind == OP_MAP ? op_func(op, A_MAP_body) : NULL;
  if ((info->traits & TRAIT_POST) && op_post(op) != NULL) {
    body = op_post(op);
    span_set(s, body->args[0], span_full(body->args[0]->type->dtype));
  }
  if (body != NULL) {
    uint32_t first = op->kind == OP_MAP ? 0 : info->max_in, arg = op->kind == OP_MAP ? 0 : 1;
    for (uint32_t i = first; i < op->n_in; i++) span_set(s, body->args[arg++], span_read(s, op_in(op, i)));
    return body_span(s, body);
  }
  switch (op->kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
    case OP_TILE: return span_read(s, op_in(op, 0));
    case OP_MAXPOOL:
      if (windows_have_taps(op)) return span_read(s, op_in(op, 0));
      break;
    case OP_RESIZE:
      if (op_enum(op, A_RESIZE_mode) == RESIZE_NEAREST && op_enum(op, A_RESIZE_coord) != COORD_TF_CROP_AND_RESIZE)
        return span_read(s, op_in(op, 0));
      break;
    case OP_PAD: in[0] = span_read(s, op_in(op, 0)); return pad_span(op, in);
    case OP_CONCAT:
      for (uint32_t i = 0; i < op->n_in; i++) {
        in[0] = span_read(s, op_in(op, i));
        all = span_union(&all, in);
      }
      return all;
    case OP_THRESHOLD: return threshold_span(op);
    default: break;
  }
  return span_full(op_out(op, 0)->type->dtype);
}

// ---- a value and what it is made of

static bool is_open(const Spans *s, const Value *v) {
  return v != NULL && v->kind == VALUE_RESULT && v->index == 0 && span_get(s, v) == NULL;
}

static Span span_find(Spans *s, const Value *v) {
  const Value **stack = NEW_ARRAY(s->arena, const Value *, MOST_VALUES);
  uint32_t n = 0, seen = 0;
  if (is_open(s, v)) stack[n++] = v;
  while (n > 0) {
    const Op *op = stack[n - 1]->op;
    uint32_t from, to, before = n;
    needs(op, &from, &to);
    for (uint32_t i = from; i < to && seen < MOST_VALUES; i++) {
      if (!is_open(s, op_in(op, i)) || n == MOST_VALUES) continue;
      stack[n++] = op_in(op, i);
      seen++;
    }
    if (n > before) continue;
    span_set(s, op_out(op, 0), op_span(s, op));
    n--;
  }
  return span_read(s, v);
}

Range value_range(const Value *v) {
  DType t = v->type->dtype;
  Spans s = {.arena = arena_new("range")};
  s.of = map_new(s.arena);
  Span span = t == DT_BOOL || dtype_is_int(t) ? span_find(&s, v) : span_full(DT_I64);
  arena_free(s.arena);
  Range r = {.lo = INT64_MIN, .hi = INT64_MAX, .n = span.n};
  if (span.lo >= -0x1p62) r.lo = (int64_t)span.lo;
  if (span.hi <= 0x1p62) r.hi = (int64_t)span.hi;
  for (uint32_t i = 0; i < r.n; i++) r.level[i] = (int64_t)span.level[i];
  return r;
}

uint32_t value_levels(const Value *v, double level[RANGE_LEVELS]) {
  Spans s = {.arena = arena_new("levels")};
  s.of = map_new(s.arena);
  Span span = span_find(&s, v);
  arena_free(s.arena);
  for (uint32_t i = 0; i < span.n; i++) level[i] = span.level[i];
  return span.nan ? 0 : span.n;
}

int64_t range_step(const Range *r) {
  int64_t step = 0;
  if (r->n == 0) return 1;
  for (uint32_t i = 1; i < r->n; i++) {
    int64_t a = r->level[i] - r->level[0], b = step;
    while (b != 0) {
      int64_t rest = a % b;
      a = b;
      b = rest;
    }
    step = a;
  }
  return step;
}
