// Pass levels: networks whose weights and activations are a few small integers times a scale become exact integer
// contractions, whatever way the exporter wrote them.
//
//   %1 = select %0, 1.0, -1.0 : f32[1,16,14,14]
//   %2 = conv %1, @w {pads = [1,1,1,1]} : f32[1,32,14,14]          every channel of @w holds -a, +a (or 0)
//   %3 = batchnorm %2, @s, @b, @m, @v : f32[1,32,14,14]
//   %4 = greater_equal %3, 0.0 : bool[1,32,14,14]
//   %5 = select %4, 1.0, -1.0 : f32[1,32,14,14]
//   => %1 = select %0, i8 1, i8 -1
//      %2 = conv %1, @q {pads = [1,1,1,1]} : i32[1,32,14,14]       @q: i8, -1, +1 (or 0)
//      %4 = greater_equal %2, @t : bool[1,32,14,14]                @t: one threshold per channel
//      %5 = select %4, @hi, @lo : i8[1,32,14,14]                   swapped where the batch norm falls
//
// Weights count only if a * q gives them back bit for bit. The sum of integers is exact as i32 and as f32 (below 2^24);
// scaled by a (and the bias added) in one rounding it equals the interpreter's float result bit for bit. What follows
// is searched for thresholds (thresholds.c); without any the scaled sum stays. A NaN that reaches a sign function is
// taken as level 0 or -1: a level has no other way to say it.
#include "passes/recover/levels.h"

#include <math.h>

#include "ir/base/map.h"
#include "ir/elem.h"
#include "ir/note.h"
#include "passes/graph_util.h"

typedef struct Ctx {
  PassCtx *pass;
  Module *m;
  Map *known;  // value id + 1 -> Discrete
  bool changed;
} Ctx;

// ---- shared with thresholds.c

Value *levels_const(Module *m, DType t, int64_t channels, uint32_t axis, uint32_t rank, const double *v) {
  bool equal = true;
  int64_t dims[MAX_RANK];
  for (int64_t c = 1; c < channels; c++) equal = equal && v[c] == v[0];
  for (uint32_t i = 0; i < MAX_RANK; i++) dims[i] = 1;
  dims[0] = channels;
  const Type *type = equal ? type_scalar(m->types, t) : type_tensor(m->types, t, rank - axis, dims);
  if (equal && !dtype_is_float(t)) return const_splat_int(m, type, (int64_t)v[0]);
  return equal ? const_splat(m, type, v[0]) : const_of_doubles(m, type, v, NULL);
}

Value *levels_emit(Op *at, OpKind kind, DType t, uint32_t n, Value *const *in, const Op *like) {
  Module *m = at->func->module;
  return graph_emit(at, kind, n, in, type_with_dtype(m->types, in[0]->type, t), like->loc);
}

// An op of the same kind and attributes on other operands, its results of element type t.
static Op *emit_again(Op *at, const Op *op, uint32_t n, Value *const *in, DType t) {
  Op *now = op_new(at->func, at, op->kind, n, in, op->loc);
  op_copy_attrs(now, op);
  for (uint32_t i = 0; i < op->n_out; i++) now->out[i]->type = op->out[i]->type;
  now->out[0]->type = type_with_dtype(at->func->module->types, op->out[0]->type, t);
  return now;
}

Value *levels_pool(Op *at, const Op *pool, Value *x) { return emit_again(at, pool, 1, &x, x->type->dtype)->out[0]; }

// ---- values with few integer levels

static const Discrete *known(const Ctx *c, const Value *v) { return v ? map_get(c->known, v->id + 1u) : NULL; }

static void remember(Ctx *c, const Value *v, Value *q, int64_t lo, int64_t hi) {
  Discrete *d = NEW(c->pass->arena, Discrete);
  *d = (Discrete){q, lo, hi, 1};
  map_set(c->known, v->id + 1u, d);
}

// A float constant whose elements are integers of a byte, as i8.
static bool const_levels(Ctx *c, const Value *v, Discrete *d) {
  if (!value_is_const(v) || !dtype_is_float(v->type->dtype) || type_count(v->type) > 65536) return false;
  int64_t n = type_count(v->type);
  double *q = NEW_ARRAY(c->pass->arena, double, n + 1);
  *d = (Discrete){.lo = INT64_MAX, .hi = INT64_MIN};
  for (int64_t i = 0; i < n; i++) {
    q[i] = const_f(c->m, v->constant, i);
    if (!(q[i] >= -128 && q[i] <= 127) || q[i] != rint(q[i])) return false;
    if ((int64_t)q[i] < d->lo) d->lo = (int64_t)q[i];
    if ((int64_t)q[i] > d->hi) d->hi = (int64_t)q[i];
  }
  const Type *t = type_with_dtype(c->m->types, v->type, DT_I8);
  d->q = d->lo == d->hi ? const_splat_int(c->m, type_scalar(c->m->types, DT_I8), d->lo)
                        : const_of_doubles(c->m, t, q, NULL);
  return n > 0;
}

static bool discrete_select(Ctx *c, Op *op) {
  Discrete yes, no;
  if (!const_levels(c, op_in(op, 1), &yes) || !const_levels(c, op_in(op, 2), &no)) return false;
  Value *in[3] = {op_in(op, 0), yes.q, no.q};
  Value *q = emit_again(op, op, 3, in, DT_I8)->out[0];
  remember(c, op->out[0], q, yes.lo < no.lo ? yes.lo : no.lo, yes.hi > no.hi ? yes.hi : no.hi);
  return true;
}

// sign(sign(x) + c) with 0 < |c| < 1 has two levels; a sign alone has three.
static bool discrete_sign(Ctx *c, Op *op) {
  Value *x = op_in(op, 0);
  double by;
  const Type *byte = type_scalar(c->m->types, DT_I8);
  Op *add = x->kind == VALUE_RESULT && x->op->kind == OP_ADD ? x->op : NULL;
  Op *inner = add && op_in(add, 0)->kind == VALUE_RESULT ? op_in(add, 0)->op : NULL;
  if (inner && inner->kind == OP_SIGN && value_is_splat(c->m, op_in(add, 1), &by) && fabs(by) < 1 && by != 0 &&
      type_same_shape(op_in(inner, 0)->type, op->out[0]->type)) {
    Value *of = op_in(inner, 0), *zero = const_splat(c->m, type_scalar(c->m->types, of->type->dtype), 0);
    OpKind kind = by > 0 ? OP_GREATER_EQUAL : OP_GREATER;
    Value *cond = levels_emit(op, kind, DT_BOOL, 2, (Value *[]){of, zero}, op);
    Value *in[3] = {cond, const_splat_int(c->m, byte, 1), const_splat_int(c->m, byte, -1)};
    remember(c, op->out[0], levels_emit(op, OP_SELECT, DT_I8, 3, in, op), -1, 1);
    return true;
  }
  remember(c, op->out[0], levels_emit(op, OP_CAST, DT_I8, 1, &op->out[0], op), -1, 1);
  op_move_before(known(c, op->out[0])->q->op, op->next);
  return true;
}

static bool discrete_cast(Ctx *c, Op *op) {
  if (op_in(op, 0)->type->dtype != DT_BOOL || !dtype_is_float(op->out[0]->type->dtype)) return false;
  remember(c, op->out[0], levels_emit(op, OP_CAST, DT_I8, 1, (Value *[]){op_in(op, 0)}, op), 0, 1);
  return true;
}

// A known value times, plus or minus a constant, where the result stays in a byte.
static bool discrete_affine(Ctx *c, Op *op) {
  uint32_t x = known(c, op_in(op, 0)) ? 0 : 1;
  const Discrete *d = known(c, op_in(op, x));
  Discrete by;
  if (d == NULL || (x == 1 && op->kind == OP_SUB) || !const_levels(c, op_in(op, 1 - x), &by) || by.lo != by.hi ||
      !type_same_shape(d->q->type, op->out[0]->type))
    return false;
  int64_t a = d->lo, b = d->hi, k = by.lo;
  a = op->kind == OP_MUL ? a * k : op->kind == OP_ADD ? a + k : a - k;
  b = op->kind == OP_MUL ? b * k : op->kind == OP_ADD ? b + k : b - k;
  if (a < -128 || a > 127 || b < -128 || b > 127) return false;
  Value *in[2] = {d->q, by.q};
  remember(c, op->out[0], emit_again(op, op, 2, in, DT_I8)->out[0], a < b ? a : b, a < b ? b : a);
  return true;
}

static bool discrete_move(Ctx *c, Op *op) {
  const Discrete *d = known(c, op_in(op, 0));
  if (d == NULL || (op->n_out > 1 && op->out[1]->n_uses > 0)) return false;
  int64_t lo = d->lo, hi = d->hi;
  if (op->kind == OP_PAD) {
    double fill = op_float(op, A_PAD_value);
    if (op_enum(op, A_PAD_mode) == PAD_CONSTANT) {
      if (fill != rint(fill) || fill < -128 || fill > 127) return false;
      lo = (int64_t)fill < lo ? (int64_t)fill : lo;
      hi = (int64_t)fill > hi ? (int64_t)fill : hi;
    }
  }
  remember(c, op->out[0], emit_again(op, op, 1, (Value *[]){d->q}, DT_I8)->out[0], lo, hi);
  return true;
}

static bool discrete_concat(Ctx *c, Op *op) {
  Value **in = NEW_ARRAY(c->pass->arena, Value *, op->n_in);
  int64_t lo = INT64_MAX, hi = INT64_MIN;
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Discrete *d = known(c, op_in(op, i));
    if (d == NULL) return false;
    in[i] = d->q;
    lo = d->lo < lo ? d->lo : lo;
    hi = d->hi > hi ? d->hi : hi;
  }
  remember(c, op->out[0], emit_again(op, op, op->n_in, in, DT_I8)->out[0], lo, hi);
  return true;
}

static bool find_discrete(Ctx *c, Op *op) {
  if (op->n_out == 0 || !op->out[0]->type || op->out[0]->type->dtype != DT_F32 || known(c, op->out[0])) return false;
  switch (op->kind) {
    case OP_SELECT: return discrete_select(c, op);
    case OP_SIGN: return discrete_sign(c, op);
    case OP_CAST: return discrete_cast(c, op);
    case OP_ADD:
    case OP_SUB:
    case OP_MUL: return discrete_affine(c, op);
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_MAXPOOL:
    case OP_SLICE:
    case OP_TILE:
    case OP_EXPAND:
    case OP_PAD: return discrete_move(c, op);
    case OP_CONCAT: return discrete_concat(c, op);
    default: return false;
  }
}

// ---- weights

typedef struct Layer {
  Ctx *c;
  Op *op;
  const Discrete *x;
  int64_t channels, w_inner;  // weight element i belongs to channel i / w_inner % channels
  uint32_t axis;              // of the channels in the result
  double *q, *a;              // weights and scales
  Sum s;
} Layer;

static bool read_geometry(Layer *l) {
  const Type *w = op_in(l->op, 1)->type, *y = l->op->out[0]->type;
  if (!type_is_static(y) || type_count(w) == 0) return false;
  if (l->op->kind == OP_CONV) {
    bool last = op_enum(l->op, A_CONV_layout) == LAYOUT_NHWC;
    l->axis = last ? y->rank - 1 : 1;
    l->channels = w->dims[last ? w->rank - 1 : 0];
    l->w_inner = last ? 1 : type_count(w) / l->channels;
    return true;
  }
  if (w->rank != 2 || y->rank < 2 || op_bool(l->op, A_MATMUL_trans_a)) return false;
  bool trans = op_bool(l->op, A_MATMUL_trans_b);
  l->axis = y->rank - 1;
  l->channels = w->dims[trans ? 0 : 1];
  l->w_inner = trans ? w->dims[1] : 1;
  return true;
}

// Every weight is -a, 0 or +a, a per channel.
static bool read_weights(Layer *l) {
  const Value *w = op_in(l->op, 1);
  int64_t n = type_count(w->type);
  l->q = NEW_ARRAY(l->c->pass->arena, double, n);
  l->a = NEW_ARRAY(l->c->pass->arena, double, l->channels);
  const AnyF32 *data = const_data(l->c->m, w->constant);
  for (int64_t i = 0; i < n; i++) {
    double v = (double)data[i], *a = &l->a[i / l->w_inner % l->channels];
    if (v == 0) continue;
    if (*a == 0) *a = fabs(v);
    if (!isfinite(v) || fabs(v) != *a) return false;
    l->q[i] = v > 0 ? 1 : -1;
  }
  for (int64_t c = 0; c < l->channels; c++)
    if (l->a[c] == 0) l->a[c] = 1;
  return true;
}

static bool has_pads(const Op *op) {
  uint32_t n = 0;
  const int64_t *pads = op->kind == OP_CONV ? op_ints(op, A_CONV_pads, &n) : NULL;
  for (uint32_t i = 0; i < n; i++)
    if (pads[i] != 0) return true;
  return false;
}

// The range of the sums; false when f32 could not hold them.
static bool read_range(Layer *l) {
  int64_t n = type_count(op_in(l->op, 1)->type), lo = l->x->lo, hi = l->x->hi;
  double *range = NEW_ARRAY(l->c->pass->arena, double, 2 * l->channels);
  if (has_pads(l->op)) {
    lo = lo > 0 ? 0 : lo;
    hi = hi < 0 ? 0 : hi;
  }
  l->s.lo = l->s.hi = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t c = i / l->w_inner % l->channels;
    range[2 * c] += l->q[i] > 0 ? (double)lo : l->q[i] < 0 ? (double)-hi : 0;
    range[2 * c + 1] += l->q[i] > 0 ? (double)hi : l->q[i] < 0 ? (double)-lo : 0;
  }
  for (int64_t c = 0; c < l->channels; c++) {
    if (range[2 * c] < -0x1p24 || range[2 * c + 1] > 0x1p24) return false;
    if ((int64_t)range[2 * c] < l->s.lo) l->s.lo = (int64_t)range[2 * c];
    if ((int64_t)range[2 * c + 1] > l->s.hi) l->s.hi = (int64_t)range[2 * c + 1];
  }
  return true;
}

static bool bias_fits(const Layer *l) {
  const Value *b = op_in(l->op, 2);
  if (b == NULL) return true;
  int64_t n = value_is_const(b) ? type_count(b->type) : 0;
  return n == 1 || (n == l->channels && b->type->dims[b->type->rank - 1] == n);
}

// ---- rewriting

static Value *scale_by(Layer *l, OpKind kind, DType t, Value *x, Value *by) {
  Value *y = levels_emit(l->op, kind, t, by ? 2 : 1, (Value *[]){x, by}, l->op);
  l->s.scale[l->s.n_scale++] = y->op;
  return y;
}

// sum * a + bias with one rounding: the product is exact where anything follows it.
static void emit_value(Layer *l) {
  const Value *bias = op_in(l->op, 2);
  uint32_t rank = l->op->out[0]->type->rank;
  bool unit = true;
  for (int64_t c = 0; c < l->channels; c++) unit = unit && l->a[c] == 1;
  DType t = unit || bias == NULL ? DT_F32 : DT_F64;
  Value *y = scale_by(l, OP_CAST, t, l->s.sum, NULL);
  if (!unit) y = scale_by(l, OP_MUL, t, y, levels_const(l->c->m, t, l->channels, l->axis, rank, l->a));
  if (bias != NULL) {
    double *b = NEW_ARRAY(l->c->pass->arena, double, l->channels);
    for (int64_t c = 0; c < l->channels; c++)
      b[c] = const_f(l->c->m, bias->constant, type_count(bias->type) == 1 ? 0 : c);
    y = scale_by(l, OP_ADD, t, y, levels_const(l->c->m, t, l->channels, l->axis, rank, b));
  }
  if (t == DT_F64) y = scale_by(l, OP_CAST, DT_F32, y, NULL);
  l->s.value = y;
}

// A maxpool that alone reads the result reads the sums instead: scales are positive.
static Op *pool_after(const Op *op) {
  Op *user = value_sole_user(op->out[0]);
  return user && user->kind == OP_MAXPOOL && user->out[1]->n_uses == 0 ? user : NULL;
}

static void rewrite(Layer *l) {
  Op *end = l->op;
  Value *w = op_in(l->op, 1);
  const Type *t = type_with_dtype(l->c->m->types, w->type, DT_I8);
  Value *in[2] = {l->x->q, const_of_doubles(l->c->m, t, l->q, w->constant->name)};
  l->s.sum = emit_again(l->op, l->op, 2, in, DT_I32)->out[0];
  l->s.channels = l->channels;
  l->s.axis = l->axis;
  l->s.pool = pool_after(l->op);
  if (l->s.pool) {
    end = l->s.pool;
    l->s.unpooled = l->s.sum;
    l->s.sum = levels_pool(l->op, end, l->s.sum);
  }
  emit_value(l);
  l->s.value->name = end->out[0]->name;
  value_replace(end->out[0], l->s.value);
}

static bool make_integer(Ctx *c, Op *op) {
  Layer l = {.c = c, .op = op, .x = known(c, op_in(op, 0))};
  const Value *w = op_in(op, 1);
  if (l.x == NULL || !value_is_const(w) || w->type->dtype != DT_F32 || op_post(op) != NULL) return false;
  if (op->out[0]->type->dtype != DT_F32 || !read_geometry(&l) || !read_weights(&l) || !bias_fits(&l)) return false;
  if (!read_range(&l)) return false;
  rewrite(&l);
  note_layer(c->m, op, NOTE_RECOVERED, "inputs %lld..%lld, weights -a, 0, +a per channel", (long long)l.x->lo,
             (long long)l.x->hi);
  note_layer(c->m, op, NOTE_PROOF, "sums %lld..%lld from the weights as they are, exact in i32 and f32",
             (long long)l.s.lo, (long long)l.s.hi);
  Discrete d;
  Value *value;
  if (levels_threshold(c->pass, &l.s, &d, &value)) remember(c, value, d.q, d.lo, d.hi);
  return true;
}

PassResult pass_levels(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  Ctx c = {.pass = ctx, .m = ctx->m, .known = map_new(ctx->arena)};
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (op->n_out > 0 && op->out[0]->n_uses == 0) continue;
    if (op->kind == OP_CONV || op->kind == OP_MATMUL) {
      changed |= make_integer(&c, op);
    } else {
      find_discrete(&c, op);
    }
  }
  graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}
