// The integers behind float values on a grid. See discrete.h.
//
//   %1 = round %0                       {0, 1, 2, 3}: q = cast(%1) : i8
//   %2 = div %1, 3.0                    {0, 0.33333334, 0.6666667, 1} = f32(1/3 * q), the same q
//   %3 = maxpool %2                     maxpool(q)
//   %4 = select %c, 1.614, %5           %5 = f32(0.538 * p): select(%c, 3, p)
//   %6 = log %7                         on a grid by chance: cast(round(%6 * (1 / scale)))
//
// The set of a value (sets.h) decides whether there is a grid (grid.h). Then the op that makes the value is repeated on
// the integers of its operands if every combination of numbers agrees with the floats; otherwise the float is scaled
// and rounded, which is checked for every number of the set too.
#include "passes/recover/discrete.h"

#include <math.h>

#include "ir/elem.h"
#include "passes/graph_util.h"
#include "passes/recover/grid.h"

#define CONST_STEPS (1 << 16)  // elements of a constant that is rewritten as steps

typedef struct Steps {
  double scale;
  DType type;
  int64_t lo, hi, zero;
} Steps;

// ---- what is known

Known known_new(PassCtx *ctx) {
  return (Known){ctx, ctx->m, sets_new(ctx->m, ctx->arena), map_new(ctx->arena), map_new(ctx->arena), {0}};
}

const Discrete *known_get(const Known *k, const Value *v) { return v ? map_get(k->of, v->id + 1u) : NULL; }

static Value *root_of(const Known *k, Value *q) {
  Value *root = map_get(k->roots, q->id + 1u);
  return root ? root : q;
}

static void remember(Known *k, Value *v, const Discrete *d, Op *reader) {
  Discrete *copy = NEW(k->pass->arena, Discrete);
  *copy = *d;
  map_set(k->of, v->id + 1u, copy);
  KnownValue found = {v, copy, reader, root_of(k, d->q)};
  vec_push(k->pass->arena, &k->found, found);
}

void known_set(Known *k, Value *v, const Discrete *d) {
  double numbers[SET_MAX];
  ValueSet set = {.v = numbers, .lo = (double)(float)(d->scale * (double)d->lo)};
  set.hi = (double)(float)(d->scale * (double)d->hi);
  for (int64_t q = d->lo; q <= d->hi && d->hi - d->lo < SET_MAX; q++)
    numbers[set.n++] = (double)(float)(d->scale * (double)q);
  sets_state(k->sets, v, &set);
  map_set(k->of, v->id + 1u, NULL);
  Discrete *copy = NEW(k->pass->arena, Discrete);
  *copy = *d;
  map_set(k->of, v->id + 1u, copy);
}

Op *emit_again(Op *at, const Op *op, uint32_t n, Value *const *in, DType t) {
  Op *now = op_new(at->func, at, op->kind, n, in, op->loc);
  op_copy_attrs(now, op);
  for (uint32_t i = 0; i < op->n_out; i++) now->out[i]->type = op->out[i]->type;
  now->out[0]->type = type_with_dtype(at->func->module->types, op->out[0]->type, t);
  return now;
}

// ---- operands as steps of the result's grid

// The step of a number, if it has one.
static bool step_of(const Steps *to, double v, int64_t *step) {
  double k = rint(v / to->scale);
  if (!(k >= (double)to->lo && k <= (double)to->hi) || (double)(float)(to->scale * k) != v) return false;
  *step = (int64_t)k;
  return true;
}

static Value *const_steps(Known *k, const Value *v, const Steps *to) {
  int64_t n = type_count(v->type), step;
  double all;
  if (v->type->dtype != DT_F32 || n == 0 || n > CONST_STEPS) return NULL;
  if (value_is_splat(k->m, v, &all)) {
    const Type *one = type_scalar(k->m->types, to->type);
    return step_of(to, all, &step) ? const_splat_int(k->m, one, step + to->zero) : NULL;
  }
  double *q = NEW_ARRAY(k->pass->arena, double, n);
  for (int64_t i = 0; i < n; i++) {
    if (!step_of(to, const_f(k->m, v->constant, i), &step)) return NULL;
    q[i] = (double)(step + to->zero);
  }
  return const_of_doubles(k->m, type_with_dtype(k->m->types, v->type, to->type), q, NULL);
}

static Value *emit_int(Op *at, OpKind kind, Value *x, int64_t by) {
  DType t = x->type->dtype;
  Value *c = const_splat_int(at->func->module, type_scalar(at->func->module->types, t), int_wrap(t, by));
  return levels_emit(at, kind, t, 2, (Value *[]){x, c}, at);
}

static Value *emit_type(Op *at, Value *x, DType t) {
  if (x->type->dtype == t) return x;
  bool of_bool = x->kind == VALUE_RESULT && x->op->kind == OP_CAST && op_in(x->op, 0)->type->dtype == DT_BOOL;
  Value *from = of_bool ? op_in(x->op, 0) : x;
  return levels_emit(at, OP_CAST, t, 1, &from, at);
}

// q * times + plus; bytes wrap, what comes out fits again.
static Value *emit_line(Op *at, Value *q, int64_t times, int64_t plus) {
  if (times != 1) q = emit_int(at, OP_MUL, q, times);
  return int_wrap(q->type->dtype, plus) != 0 ? emit_int(at, OP_ADD, q, plus) : q;
}

// The integers of a value on a coarser or the same grid as steps of `to`.
static Value *steps_of(Known *k, Op *at, Value *v, const Steps *to) {
  if (value_is_const(v)) return const_steps(k, v, to);
  const Discrete *d = known_get(k, v);
  const ValueSet *set = sets_of(k->sets, v);
  if (d == NULL || set->n == 0) return NULL;
  double times = rint(d->scale / to->scale);
  if (!(times >= 1 && times <= 255)) return NULL;
  for (uint32_t i = 0; i < set->n; i++) {
    int64_t step;
    if (!step_of(to, set->v[i], &step) || step != (int64_t)(rint(set->v[i] / d->scale) * times)) return NULL;
  }
  return emit_line(at, emit_type(at, d->q, to->type), (int64_t)times, to->zero - d->zero * (int64_t)times);
}

// ---- forms of the result, the cheapest first

static Value *form_move(Known *k, Op *op, const Steps *to) {
  if (op->n_out > 1 && op->out[1]->n_uses > 0) return NULL;
  Value *q = steps_of(k, op, op_in(op, 0), to);
  if (q == NULL) return NULL;
  int64_t fill = 0;
  bool fills = op->kind == OP_PAD && op_enum(op, A_PAD_mode) == PAD_CONSTANT;
  if (fills && !step_of(to, (double)(float)op_float(op, A_PAD_value), &fill)) return NULL;
  Value *in[8] = {q};
  if (op->n_in > 8) return NULL;
  for (uint32_t i = 1; i < op->n_in; i++) in[i] = op_in(op, i);
  Op *now = emit_again(op, op, op->n_in, in, to->type);
  if (fills) op_set_float(now, A_PAD_value, (double)(fill + to->zero));
  map_set(k->roots, now->out[0]->id + 1u, root_of(k, q));
  return now->out[0];
}

static Value *form_concat(Known *k, Op *op, const Steps *to) {
  Value **in = NEW_ARRAY(k->pass->arena, Value *, op->n_in);
  for (uint32_t i = 0; i < op->n_in; i++) {
    in[i] = steps_of(k, op, op_in(op, i), to);
    if (in[i] == NULL) return NULL;
    if (in[i]->type->rank == 0) {  // a constant with one value everywhere
      const Type *t = type_with_dtype(k->m->types, op_in(op, i)->type, to->type);
      in[i] = const_splat_int(k->m, t, const_i(k->m, in[i]->constant, 0));
    }
  }
  return emit_again(op, op, op->n_in, in, to->type)->out[0];
}

static Value *form_select(Known *k, Op *op, const Steps *to) {
  Value *in[3] = {op_in(op, 0), steps_of(k, op, op_in(op, 1), to), steps_of(k, op, op_in(op, 2), to)};
  return in[1] && in[2] ? emit_again(op, op, 3, in, to->type)->out[0] : NULL;
}

static Value *form_cast(Known *k, Op *op, const Steps *to) {
  const Type *from = op_in(op, 0)->type;
  bool whole = dtype_is_int(from->dtype) || from->dtype == DT_BOOL;
  (void)k;
  return whole && to->scale == 1 ? emit_line(op, emit_type(op, op_in(op, 0), to->type), 1, to->zero) : NULL;
}

// A sum or difference of two values on grids: their steps, added.
static Value *form_sum(Known *k, Op *op, const Steps *to) {
  Value *a = op_in(op, 0), *b = op_in(op, 1);
  const ValueSet *x = sets_of(k->sets, a), *y = sets_of(k->sets, b);
  if (a == b || x->n == 0 || y->n == 0) return NULL;
  for (uint32_t i = 0; i < x->n; i++) {
    for (uint32_t j = 0; j < y->n; j++) {
      int64_t sum, p = (int64_t)rint(x->v[i] / to->scale), q = (int64_t)rint(y->v[j] / to->scale);
      if (!step_of(to, sets_eval(op, (double[]){x->v[i], y->v[j]}), &sum)) return NULL;
      if (sum != (op->kind == OP_ADD ? p + q : p - q)) return NULL;
    }
  }
  Value *in[2] = {steps_of(k, op, a, to), steps_of(k, op, b, to)};
  if (in[0] == NULL || in[1] == NULL) return NULL;
  return emit_line(op, emit_again(op, op, 2, in, to->type)->out[0], 1, op->kind == OP_ADD ? -to->zero : to->zero);
}

// The one operand that is no constant, as steps of its own grid, and the steps of the result.
typedef struct Curve {
  const Discrete *x;
  uint32_t n;
  int64_t from[SET_MAX], to[SET_MAX];
} Curve;

static bool read_curve(Known *k, const Op *op, const Steps *to, Curve *c) {
  const ValueSet *sets[3], *x = NULL;
  const Value *var = NULL;
  if (op->n_in > 3) return false;
  for (uint32_t i = 0; i < op->n_in; i++) {
    sets[i] = sets_of(k->sets, op_in(op, i));
    if (sets[i]->n == 1) continue;
    if (var != NULL && op_in(op, i) != var) return false;
    var = op_in(op, i);
    x = sets[i];
  }
  if (var == NULL || (c->x = known_get(k, var)) == NULL || !type_same_shape(c->x->q->type, op->out[0]->type))
    return false;
  c->n = x->n;
  for (uint32_t s = 0; s < x->n; s++) {
    double in[3];
    for (uint32_t i = 0; i < op->n_in; i++) in[i] = op_in(op, i) == var ? x->v[s] : sets[i]->v[0];
    c->from[s] = (int64_t)rint(x->v[s] / c->x->scale);
    if (!step_of(to, sets_eval(op, in), &c->to[s])) return false;
  }
  return x->n > 1;
}

// q * times + plus, for every number.
static bool is_line(const Curve *c, int64_t *times, int64_t *plus) {
  uint32_t last = c->n - 1;
  int64_t run = c->from[last] - c->from[0], rise = c->to[last] - c->to[0];
  if (run == 0 || rise % run != 0) return false;
  *times = rise / run;
  *plus = c->to[0] - *times * c->from[0];
  for (uint32_t i = 0; i < c->n; i++)
    if (c->to[i] != *times * c->from[i] + *plus) return false;
  return *times != 0;
}

// q * times limited to lo .. hi, where no product leaves the type.
static bool is_clamp(const Curve *c, const Steps *to, double ratio, int64_t *times) {
  *times = (int64_t)rint(ratio);
  if (*times < 1 || *times > 255) return false;
  for (uint32_t i = 0; i < c->n; i++) {
    int64_t p = *times * c->from[i], byte = p + to->zero;
    if (byte < dtype_min(to->type) || byte > dtype_max(to->type)) return false;
    if (c->to[i] != (p < to->lo ? to->lo : p > to->hi ? to->hi : p)) return false;
  }
  return true;
}

static Value *form_curve(Known *k, Op *op, const Steps *to) {
  Curve c;
  int64_t times, plus;
  if (!read_curve(k, op, to, &c)) return NULL;
  bool line = is_line(&c, &times, &plus);
  if (!line && !is_clamp(&c, to, c.x->scale / to->scale, &times)) return NULL;
  if (!line) plus = 0;
  Value *q = emit_line(op, emit_type(op, c.x->q, to->type), times, plus + to->zero - times * c.x->zero);
  if (line) return q;
  return emit_int(op, OP_MIN, emit_int(op, OP_MAX, q, to->lo + to->zero), to->hi + to->zero);
}

// sign(sign(x) + c) with 0 < |c| < 1 has two levels: one comparison.
static Value *form_sign(Known *k, Op *op, const Steps *to) {
  double by;
  const Value *x = op_in(op, 0);
  Op *add = x->kind == VALUE_RESULT && x->op->kind == OP_ADD ? x->op : NULL;
  Op *inner = add && op_in(add, 0)->kind == VALUE_RESULT ? op_in(add, 0)->op : NULL;
  if (inner == NULL || inner->kind != OP_SIGN || !value_is_splat(k->m, op_in(add, 1), &by)) return NULL;
  if (!(fabs(by) < 1) || by == 0 || to->scale != 1 || to->zero != 0 ||
      !type_same_shape(op_in(inner, 0)->type, op->out[0]->type))
    return NULL;
  Value *of = op_in(inner, 0), *zero = const_splat(k->m, type_scalar(k->m->types, of->type->dtype), 0);
  Value *cond = levels_emit(op, by > 0 ? OP_GREATER_EQUAL : OP_GREATER, DT_BOOL, 2, (Value *[]){of, zero}, op);
  const Type *byte = type_scalar(k->m->types, to->type);
  Value *in[3] = {cond, const_splat_int(k->m, byte, 1), const_splat_int(k->m, byte, -1)};
  return levels_emit(op, OP_SELECT, to->type, 3, in, op);
}

// The float itself, scaled, rounded and converted; after the op.
static Value *form_round(Op *op, const ValueSet *set, const Steps *to, Op **reader) {
  Value *y = op->out[0], *q;
  Op *next = op->next;
  if (next == NULL) return NULL;
  if (to->scale == 1 && to->zero == 0) {
    q = levels_emit(next, OP_CAST, to->type, 1, &y, op);
    *reader = q->op;
    return q;
  }
  double by = (double)(float)(1 / to->scale);
  for (uint32_t i = 0; i < set->n; i++) {
    int64_t step;
    if (!step_of(to, set->v[i], &step) || rint(elem_round(DT_F32, set->v[i] * by)) != (double)step) return NULL;
  }
  Value *in[2] = {y, const_splat(op->func->module, type_scalar(op->func->module->types, DT_F32), by)};
  q = levels_emit(next, OP_MUL, DT_F32, 2, in, op);
  *reader = q->op;
  q = levels_emit(next, OP_ROUND, DT_F32, 1, &q, op);
  if (to->zero != 0) {
    Value *zero = const_splat(op->func->module, type_scalar(op->func->module->types, DT_F32), (double)to->zero);
    q = levels_emit(next, OP_ADD, DT_F32, 2, (Value *[]){q, zero}, op);
  }
  return levels_emit(next, OP_CAST, to->type, 1, &q, op);
}

static Value *form_of(Known *k, Op *op, const Steps *to) {
  Value *q;
  switch (op->kind) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_MAXPOOL:
    case OP_SLICE:
    case OP_TILE:
    case OP_EXPAND:
    case OP_GATHER:
    case OP_RESIZE:
    case OP_PAD: return form_move(k, op, to);
    case OP_CONCAT: return form_concat(k, op, to);
    case OP_SELECT: return form_select(k, op, to);
    case OP_CAST: return form_cast(k, op, to);
    case OP_SIGN: return (q = form_sign(k, op, to)) ? q : form_curve(k, op, to);
    case OP_ADD:
    case OP_SUB: return (q = form_curve(k, op, to)) ? q : form_sum(k, op, to);
    default: return (op_info(op->kind)->traits & TRAIT_ELTWISE) ? form_curve(k, op, to) : NULL;
  }
}

// ---- the walk

static bool fits(const ValueSet *set, Steps *to) {
  Grid g;
  int64_t step[SET_MAX];
  *to = (Steps){.type = DT_I8};
  if (!grid_fit(set->n, set->v, -255, 255, &g, step)) return false;
  to->scale = g.scale;
  to->lo = to->hi = step[0];
  for (uint32_t i = 0; i < set->n; i++) {
    to->lo = step[i] < to->lo ? step[i] : to->lo;
    to->hi = step[i] > to->hi ? step[i] : to->hi;
  }
  if (to->lo < 0 && to->lo >= -128 && to->hi <= 127) return true;
  to->type = DT_U8;
  to->zero = to->lo < 0 ? -to->lo : 0;
  return to->hi + to->zero <= 255;
}

void known_visit(Known *k, Op *op) {
  Steps to;
  if (op->n_out == 0 || op->out[0]->type == NULL || known_get(k, op->out[0])) return;
  sets_visit(k->sets, op);
  const ValueSet *set = sets_of(k->sets, op->out[0]);
  if (op->out[0]->type->dtype != DT_F32 || set->n == 0 || !fits(set, &to)) return;
  Op *reader = NULL;
  Value *q = form_of(k, op, &to);
  if (q == NULL) q = form_round(op, set, &to, &reader);
  if (q != NULL) remember(k, op->out[0], &(Discrete){q, to.lo, to.hi, to.scale, to.zero}, reader);
}

// ---- floats from integers

Value *levels_float(Op *at, const Discrete *d, const Op *like) {
  Module *m = at->func->module;
  float scale = (float)d->scale;
  DType t = DT_F32;
  for (int64_t q = d->lo; q <= d->hi; q++)
    if (scale * (float)q != (float)(d->scale * (double)q)) t = DT_F64;
  Value *q = d->q, *y = levels_emit(at, OP_CAST, t, 1, &q, like);
  if (d->zero != 0) {
    Value *zero = const_splat(m, type_scalar(m->types, t), (double)d->zero);
    y = levels_emit(at, OP_SUB, t, 2, (Value *[]){y, zero}, like);
  }
  if (d->scale == 1) return y;
  Value *by = const_splat(m, type_scalar(m->types, t), t == DT_F32 ? (double)scale : d->scale);
  y = levels_emit(at, OP_MUL, t, 2, (Value *[]){y, by}, like);
  return t == DT_F32 ? y : levels_emit(at, OP_CAST, DT_F32, 1, &y, like);
}

// Which values lead to a result, by id.
static bool *needed_values(Known *k) {
  Func *f = k->m->funcs.at[0];
  bool *needed = NEW_ARRAY(k->pass->arena, bool, k->m->n_values + 1);
  for (uint32_t i = 0; i < f->n_results; i++) needed[f->results[i]->id] = true;
  for (Op *op = f->last; op; op = op->prev) {
    bool some = false;
    for (uint32_t i = 0; i < op->n_out; i++) some = some || needed[op->out[i]->id];
    for (uint32_t i = 0; some && i < op->n_in; i++)
      if (op_in(op, i) != NULL) needed[op_in(op, i)->id] = true;
  }
  return needed;
}

// Everybody but the reader takes the float from q.
static void share(const KnownValue *v, const bool *needed) {
  uint32_t n = 0;
  for (const Operand *use = v->value->uses; use; use = use->next)
    n += use->op != v->reader && use->op->n_out > 0 && needed[use->op->out[0]->id];
  Op *after = v->reader ? v->d->q->op : v->value->op;
  if (n == 0 || after->next == NULL) return;
  Value *now = levels_float(after->next, v->d, v->value->op);
  value_replace(v->value, now);
  if (v->reader) op_set_operand(v->reader, 0, v->value);
}

void known_share(Known *k) {
  bool *needed = needed_values(k);
  for (uint32_t i = k->found.n; i-- > 0;) {
    const KnownValue *v = &k->found.at[i];
    if (!needed[v->value->id] || !needed[v->root->id] || value_is_result_of_func(v->value)) continue;
    share(v, needed);
  }
}
