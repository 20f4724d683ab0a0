// Pass unfloat: tails of integers that compute in floats, as integer arithmetic, on cores where floats are calls into a
// library: f32 where the target has none, chains with f64 where it has no doubles.
//
//   %1 = conv %x, @w : i32        %2 = cast %1 : f32    %3 = mul %2, 0.0036    %4 = round %3    %5 = add %4, -128
//   %6 = greater %5, -128         %7 = select %6, %5, -128                     %8 = cast %7 : i8
//   => %8 = cast(min(max((i64(%1) * m + b) >> r, lo), hi)) : i8
//
// The tail is the reference itself, in its own floats: every link rises or stays (sums and products with constants,
// limits, rounding, casts), so it is known when its boundaries are, and these are found by halving the range of the
// integer with the interpreter. requant.h proves the integer form at both sides of each. Without such a form, as behind
// ties of the rounding, the tail stays.
#include <math.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/note.h"
#include "passes/contraction.h"
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/recover/requant_emit.h"

enum { TAIL_OPS = 24, MOST_CHANNELS = 4096, MOST_SUM = 1 << 30 };

typedef struct Chain {
  PassCtx *ctx;
  Module *m;
  Value *base;       // of integers
  Op *op[TAIL_OPS];  // from the cast to bytes upwards, to the one that reads the base
  uint32_t n;
  int64_t channels;  // of its constants: 1, or those along `axis`
  uint32_t axis;
  bool doubles;
} Chain;

// ---- the links

// A constant with one value, or one per channel.
static bool read_constant(Chain *c, const Value *v) {
  uint32_t rank = c->op[0]->out[0]->type->rank, at = 0, longer = 0;
  if (v == NULL || !value_is_const(v) || !type_is_static(v->type) || v->type->rank > rank) return false;
  for (uint32_t i = 0; i < v->type->rank; i++)
    if (v->type->dims[i] != 1) longer++, at = i + rank - v->type->rank;
  if (longer == 0) return true;
  int64_t n = v->type->dims[at - (rank - v->type->rank)];
  if (longer > 1 || n > MOST_CHANNELS || (c->channels > 1 && (at != c->axis || n != c->channels))) return false;
  c->channels = n;
  c->axis = at;
  return true;
}

static bool all_positive(Module *m, const Value *v) {
  for (int64_t i = 0, n = type_count(v->type); i < n; i++)
    if (!(const_f(m, v->constant, i) > 0)) return false;
  return true;
}

static bool all_finite(Module *m, const Value *v) {
  for (int64_t i = 0, n = type_count(v->type); i < n; i++)
    if (!isfinite(const_f(m, v->constant, i))) return false;
  return true;
}

static Value *take(Chain *c, Op *op, Value *next) {
  if (c->n == TAIL_OPS) return NULL;
  c->op[c->n++] = op;
  return next;
}

// select(v > k, v, k): a limit.
static Value *read_select(Chain *c, Op *op) {
  Value *cond = op_in(op, 0), *v = op_in(op, 1);
  const Value *to[2] = {op_in(op, 2), NULL};
  double limit, other;
  if (cond->kind != VALUE_RESULT || value_sole_user(cond) != op || v->n_uses != 2) return NULL;
  Op *cmp = cond->op;
  if ((cmp->kind != OP_GREATER && cmp->kind != OP_LESS) || op_in(cmp, 0) != v) return NULL;
  to[1] = op_in(cmp, 1);
  if (!value_is_splat(c->m, to[0], &limit) || !value_is_splat(c->m, to[1], &other) || limit != other) return NULL;
  if (type_count(to[0]->type) != 1 || type_count(to[1]->type) != 1) return NULL;
  return take(c, op, v) && take(c, cmp, v) ? v : NULL;
}

static Value *read_binary(Chain *c, Op *op) {
  bool commutes = op->kind != OP_SUB && op->kind != OP_DIV;
  uint32_t by = commutes && value_is_const(op_in(op, 0)) ? 0 : 1;
  const Value *k = op_in(op, by);
  if (!read_constant(c, k) || !all_finite(c->m, k)) return NULL;
  if ((op->kind == OP_MUL || op->kind == OP_DIV) && !all_positive(c->m, k)) return NULL;
  Value *v = op_in(op, 1 - by);
  return value_sole_user(v) == op ? take(c, op, v) : NULL;
}

// The operand of a link that rises or stays with it, or NULL.
static Value *read_link(Chain *c, Op *op) {
  switch (op->kind) {
    case OP_ROUND:
    case OP_RELU:
    case OP_CAST: return value_sole_user(op_in(op, 0)) == op ? take(c, op, op_in(op, 0)) : NULL;
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_MIN:
    case OP_MAX: return read_binary(c, op);
    case OP_SELECT: return read_select(c, op);
    default: return NULL;
  }
}

static bool is_chain_float(DType t) { return t == DT_F32 || t == DT_F64; }

// From the cast to bytes up to the cast from integers.
static bool read_chain(Chain *c, Op *end) {
  const Type *shape = end->out[0]->type;
  if (end->kind != OP_CAST || !dtype_is_byte(shape->dtype) || !type_is_static(shape)) return false;
  c->channels = 1;
  take(c, end, NULL);
  Value *v = op_in(end, 0);
  if (!is_chain_float(v->type->dtype) || value_sole_user(v) != end) return false;
  while (is_chain_float(v->type->dtype)) {
    c->doubles = c->doubles || v->type->dtype == DT_F64;
    if (v->kind != VALUE_RESULT || !type_same_shape(v->type, shape)) return false;
    Op *op = v->op;
    if (op->kind == OP_CAST && !is_chain_float(op_in(op, 0)->type->dtype)) {
      c->base = op_in(op, 0);
      return take(c, op, c->base) != NULL;
    }
    v = read_link(c, op);
    if (v == NULL) return false;
  }
  return false;
}

// ---- what the integer can be

// Sums of a contraction of bytes with constant weights, of channel i; padding adds nothing.
static bool read_sums(const Chain *c, const Op *op, int64_t *lo, int64_t *hi) {
  const Value *w = op_in(op, 1), *bias = op_in(op, 2);
  if (!dtype_is_byte(op_in(op, 0)->type->dtype) || !value_is_const(w) || !dtype_is_byte(w->type->dtype)) return false;
  if (op->kind == OP_MATMUL && (w->type->rank != 2 || op_in(op, 0)->type->rank < 2)) return false;
  if (bias != NULL && (!value_is_const(bias) || bias->type->rank > 1)) return false;
  uint32_t axis = weight_channel_axis(op);
  int64_t n = w->type->dims[axis], inner = 1;
  uint32_t rank = op->out[0]->type->rank;
  bool first = op->kind == OP_CONV && op_enum(op, A_CONV_layout) == LAYOUT_NCHW;
  if (c->channels > 1 && (c->channels != n || c->axis != (first ? 1 : rank - 1))) return false;
  for (uint32_t i = axis + 1; i < w->type->rank; i++) inner *= w->type->dims[i];
  int64_t zero = op->kind == OP_CONV ? op_int(op, A_CONV_x_zero) : op_int(op, A_MATMUL_x_zero);
  DType t = op_in(op, 0)->type->dtype;
  int64_t least = dtype_min(t) - zero, most = dtype_max(t) - zero;
  int64_t *from = NEW_ARRAY(c->ctx->arena, int64_t, n), *to = NEW_ARRAY(c->ctx->arena, int64_t, n);
  for (int64_t i = 0, all = type_count(w->type); i < all; i++) {
    int64_t v = const_i(c->m, w->constant, i), k = i / inner % n, a = v * least, b = v * most;
    from[k] += a < b ? (a < 0 ? a : 0) : (b < 0 ? b : 0);
    to[k] += a > b ? (a > 0 ? a : 0) : (b > 0 ? b : 0);
  }
  for (int64_t k = 0; k < n; k++) {
    int64_t add = bias == NULL ? 0 : const_i(c->m, bias->constant, type_count(bias->type) == 1 ? 0 : k);
    int64_t at = c->channels > 1 ? k : 0;
    bool opens = c->channels > 1 || k == 0;
    if (from[k] + add < -MOST_SUM || to[k] + add > MOST_SUM) return false;
    if (opens || from[k] + add < lo[at]) lo[at] = from[k] + add;
    if (opens || to[k] + add > hi[at]) hi[at] = to[k] + add;
  }
  return n > 0 && (bias == NULL || type_count(bias->type) == 1 || type_count(bias->type) == n);
}

static bool read_range(const Chain *c, int64_t *lo, int64_t *hi) {
  DType t = c->base->type->dtype;
  for (int64_t i = 0; dtype_is_byte(t) && i < c->channels; i++) {
    lo[i] = dtype_min(t);
    hi[i] = dtype_max(t);
  }
  if (dtype_is_byte(t)) return true;
  if (t != DT_I32 || c->base->kind != VALUE_RESULT) return false;
  const Op *op = c->base->op;
  return (op->kind == OP_CONV || op->kind == OP_MATMUL) && read_sums(c, op, lo, hi);
}

// ---- the reference

// The tail as a function of integers [rows, channels].
static Func *tail_func(const Chain *c, const Type *arg) {
  Func *f = func_new(c->m, "tail", 1, &arg);
  const Value *from[TAIL_OPS + 1] = {c->base};
  Value *to[TAIL_OPS + 1] = {f->args[0]};
  uint32_t n = 1;
  for (uint32_t i = c->n; i-- > 0;) {
    const Op *op = c->op[i];
    Value *in[3] = {NULL, NULL, NULL};
    for (uint32_t k = 0; k < op->n_in; k++) {
      in[k] = op_in(op, k);
      for (uint32_t j = 0; j < n; j++)
        if (from[j] == in[k]) in[k] = to[j];
      if (in[k] != op_in(op, k)) continue;
      const Value *v = op_in(op, k);
      int64_t count = type_count(v->type);
      double *numbers = NEW_ARRAY(c->ctx->arena, double, count);
      for (int64_t j = 0; j < count; j++) numbers[j] = const_f(c->m, v->constant, j);
      in[k] = const_of_doubles(c->m, type_tensor(c->m->types, v->type->dtype, 1, &count), numbers, NULL);
    }
    Op *copy = op_new(f, NULL, op->kind, op->n_in, in, op->loc);
    op_copy_attrs(copy, op);
    copy->out[0]->type = type_with_dtype(c->m->types, arg, op->out[0]->type->dtype);
    from[n] = op->out[0];
    to[n++] = copy->out[0];
  }
  func_set_results(f, 1, &to[n - 1]);
  return f;
}

static Func *func_of_rows(const Chain *c, int64_t rows) {
  int64_t dims[2] = {rows, c->channels};
  return tail_func(c, type_tensor(c->m->types, c->base->type->dtype, 2, dims));
}

// The levels of sums[rows][channels].
static bool tail_levels(const Chain *c, Func *f, const int64_t *sums, int64_t *levels) {
  Arena *arena = c->ctx->arena;
  ArenaMark mark = arena_mark(arena);
  const Type *type = f->args[0]->type;
  int64_t n = type_count(type);
  Tensor arg = tensor_new(arena, type), result;
  for (int64_t i = 0; i < n; i++) elem_set_i(arg.data, type->dtype, i, sums[i]);
  bool ok = eval_func(f, &arg, &result, arena, NULL, NULL);
  for (int64_t i = 0; ok && i < n; i++) levels[i] = elem_get_i(result.data, result.type->dtype, i);
  arena_reset(arena, mark);
  return ok;
}

// The smallest sum of each channel that reaches each level: all of them halve their range at once.
static bool find_boundaries(const Chain *c, Boundaries *b, int64_t rows) {
  Arena *arena = c->ctx->arena;
  int64_t n = rows * c->channels;
  int64_t *lo = NEW_ARRAY(arena, int64_t, n), *hi = NEW_ARRAY(arena, int64_t, n), *mid = NEW_ARRAY(arena, int64_t, n);
  int64_t *level = NEW_ARRAY(arena, int64_t, n);
  for (int64_t i = 0; i < n; i++) {
    lo[i] = b[i % c->channels].lo;
    hi[i] = b[i % c->channels].hi;
  }
  Func *f = func_of_rows(c, rows);
  bool ok = true;
  for (bool open = true; ok && open;) {
    open = false;
    for (int64_t i = 0; i < n; i++) mid[i] = lo[i] + (hi[i] - lo[i]) / 2;
    ok = tail_levels(c, f, mid, level);
    for (int64_t i = 0; ok && i < n; i++) {
      const Boundaries *of = &b[i % c->channels];
      if (hi[i] - lo[i] <= 1) continue;
      *(level[i] - of->first > i / c->channels ? &hi[i] : &lo[i]) = mid[i];
      open = open || hi[i] - lo[i] > 1;
    }
  }
  graph_drop_scratch(f);
  for (int64_t i = 0; ok && i < n; i++) {
    Boundaries *of = &b[i % c->channels];
    if (i / c->channels < of->n) of->at[i / c->channels] = hi[i];
  }
  return ok;
}

static Boundaries *read_boundaries(const Chain *c, const int64_t *lo, const int64_t *hi, int64_t *low, int64_t *high) {
  Arena *arena = c->ctx->arena;
  Boundaries *b = NEW_ARRAY(arena, Boundaries, c->channels);
  int64_t rows = 0;
  Func *f = func_of_rows(c, 1);
  bool ok = tail_levels(c, f, lo, low) && tail_levels(c, f, hi, high);
  graph_drop_scratch(f);
  if (!ok) return NULL;
  for (int64_t i = 0; i < c->channels; i++) {
    b[i] = (Boundaries){.lo = lo[i], .hi = hi[i], .first = low[i], .n = high[i] - low[i]};
    if (b[i].n < 0) return NULL;
    b[i].at = NEW_ARRAY(arena, int64_t, b[i].n + 1);
    if (b[i].n > rows) rows = b[i].n;
  }
  return rows == 0 || find_boundaries(c, b, rows) ? b : NULL;
}

// ---- the rewrite

static bool rewrite(Chain *c) {
  Arena *arena = c->ctx->arena;
  int64_t n = c->channels, boundaries = 0;
  int64_t *lo = NEW_ARRAY(arena, int64_t, n), *hi = NEW_ARRAY(arena, int64_t, n);
  int64_t *low = NEW_ARRAY(arena, int64_t, n), *high = NEW_ARRAY(arena, int64_t, n);
  Op *end = c->op[0];
  if (!read_range(c, lo, hi)) return false;
  Boundaries *b = read_boundaries(c, lo, hi, low, high);
  if (b == NULL) return false;
  for (int64_t i = 0; i < n; i++) boundaries += b[i].n;
  RequantProblem p = {.channels = n, .b = b, .low = low, .high = high, .target = c->ctx->target};
  p.forms = 1u << REQUANT_SHIFT | 1u << REQUANT_WIDE;
  Requant r;
  if (!requant_find(&p, arena, &r)) return false;
  ChannelAxis axis = {n, c->axis, end->out[0]->type->rank};
  Value *y = requant_emit(end, c->base, NULL, &r, &axis, end->out[0]->type->dtype, arena);
  for (uint32_t i = 0; i < c->n; i++) op_add_loc(y->op, c->op[i]);
  y->name = end->out[0]->name;
  note_layer(c->m, end, NOTE_PROOF, "no floats behind the integers: %s, equal to the tail at %lld boundaries",
             requant_text(&r), (long long)boundaries);
  value_replace(end->out[0], y);
  return true;
}

PassResult pass_unfloat(PassCtx *ctx) {
  const Target *t = ctx->target;
  if (t == NULL || (!t->no_float && !t->no_double)) return PASS_SAME;
  Func *f = ctx->m->funcs.at[0];
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    Chain c = {.ctx = ctx, .m = ctx->m};
    if (op->kind != OP_CAST || !read_chain(&c, op) || !(t->no_float || c.doubles)) continue;
    ArenaMark mark = arena_mark(ctx->arena);
    changed |= rewrite(&c);
    arena_reset(ctx->arena, mark);
  }
  if (changed) graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}
