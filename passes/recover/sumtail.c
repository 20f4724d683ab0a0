// Collecting and evaluating the tail of a sum. See sumtail.h.
#include "passes/recover/sumtail.h"

#include <math.h>

#include "ir/elem.h"
#include "passes/graph_util.h"
#include "passes/recover/discrete.h"

#define ROW_ELEMENTS 32768  // of one evaluation
#define TWO_ELEMENTS 2048   // of one for each value of a second operand
#define SEARCH_OPS 400      // looked at after the sum

// ---- which ops belong to it

static Value *value_of(const SumTail *t, uint32_t i) { return t->op[i].op ? t->op[i].op->out[0] : t->s->value; }

static bool find(const SumTail *t, const Value *v, uint32_t *at) {
  for (uint32_t i = 0; i < t->n; i++) {
    if (value_of(t, i) != v) continue;
    *at = i;
    return true;
  }
  return false;
}

// A constant that differs only along the channels; behind moves other than pools, one number.
static bool is_per_channel(const SumTail *t, const Value *v, const Type *y) {
  double all;
  if (!value_is_const(v) || v->type->rank > y->rank) return false;
  if (value_is_splat(t->ctx->m, v, &all)) return true;
  if (y->rank != t->s->sum->type->rank || y->dims[t->s->axis] != t->s->channels) return false;
  for (uint32_t i = 0; i < v->type->rank; i++) {
    bool channels = y->rank - v->type->rank + i == t->s->axis;
    if (v->type->dims[i] != 1 && !(channels && v->type->dims[i] == t->s->channels)) return false;
  }
  return true;
}

uint32_t sumtail_move_before(const SumTail *t, uint32_t move) {
  return move == 0 ? NO_MOVE : t->op[t->op[move].from].move;
}

static bool moved_channels(const SumTail *t, uint32_t move) {
  for (; move != NO_MOVE; move = sumtail_move_before(t, move))
    if (t->op[move].op->kind != OP_MAXPOOL) return true;
  return false;
}

// The axis of the sum's channels behind a move, or NO_AXIS where they are no axis of their own.
static uint32_t axis_behind(const SumTail *t, uint32_t move) { return move == NO_MOVE ? t->s->axis : t->op[move].axis; }

static uint32_t moved_axis(const Op *op, uint32_t axis) {
  uint32_t n;
  if (op->kind == OP_MAXPOOL || axis == NO_AXIS) return axis;
  const int64_t *perm = op->kind == OP_TRANSPOSE ? op_ints(op, A_TRANSPOSE_perm, &n) : NULL;
  for (uint32_t i = 0; perm != NULL && i < n; i++)
    if (perm[i] == axis) return i;
  return NO_AXIS;
}

static bool is_move(const Op *op) {
  if (op->kind == OP_MAXPOOL) return op->out[1]->n_uses == 0;
  return op->kind == OP_RESHAPE || op->kind == OP_TRANSPOSE;
}

static bool makes_few(const Op *op) {
  switch (op->kind) {
    case OP_ROUND:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_SIGN:
    case OP_THRESHOLD:
    case OP_SELECT: return true;
    case OP_CAST: return !dtype_is_float(op->out[0]->type->dtype) || !dtype_is_float(op_in(op, 0)->type->dtype);
    default: return op->out[0]->type->dtype == DT_BOOL;
  }
}

static bool at_least_zero(Module *m, const Value *v) {
  for (int64_t i = 0, n = type_count(v->type); i < n; i++)
    if (!(const_f(m, v->constant, i) >= 0)) return false;
  return true;
}

// One step that only rises or only falls with operand `at`, the others being constants. Every float operation here is
// rounded correctly, which keeps the order.
static bool is_monotone(Module *m, const Op *op, uint32_t at) {
  switch (op->kind) {
    case OP_NEG:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_SIGN:
    case OP_RELU:
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_MIN:
    case OP_MAX:
    case OP_LESS:
    case OP_LESS_EQUAL:
    case OP_GREATER:
    case OP_GREATER_EQUAL:
    case OP_NOT: return true;
    case OP_DIV:
    case OP_CLIP:
    case OP_BATCHNORM:
    case OP_THRESHOLD:
    case OP_SELECT: return at == 0;
    case OP_CAST: {
      const DTypeInfo *to = dtype_info(op->out[0]->type->dtype), *from = dtype_info(op_in(op, 0)->type->dtype);
      return dtype_is_float(op_in(op, 0)->type->dtype) || to->bits > from->bits ||
             dtype_is_float(op->out[0]->type->dtype);
    }
    case OP_LEAKY_RELU: return op_float(op, A_LEAKY_RELU_alpha) >= 0;
    case OP_PRELU: return at == 0 && at_least_zero(m, op_in(op, 1));
    default: return false;
  }
}

static bool batchnorm_joins(const SumTail *t, const Op *op, uint32_t move) {
  int64_t axis = op_int(op, A_BATCHNORM_axis), rank = t->s->sum->type->rank;
  if (moved_channels(t, move) || (axis < 0 ? axis + rank : axis) != (int64_t)t->s->axis) return false;
  for (uint32_t i = 1; i < op->n_in; i++)
    if (!value_is_const(op_in(op, i))) return false;
  return true;
}

// One row of thresholds and one direction for all elements?
static bool is_uniform(const Op *op) {
  const Value *down = op_in(op, 2);
  return op_in(op, 1)->type->dims[0] == 1 && (down == NULL || type_count(down->type) == 1);
}

static bool threshold_joins(const SumTail *t, const Op *op, uint32_t move) {
  const Type *x = op_in(op, 0)->type;
  for (uint32_t i = 1; i < op->n_in; i++)
    if (op_in(op, i) != NULL && !value_is_const(op_in(op, i))) return false;
  if (is_uniform(op)) return true;
  return axis_behind(t, move) == x->rank - 1 && x->dims[x->rank - 1] == t->s->channels;
}

// May v be the second operand? Then *on is its grid.
static bool is_other(const SumTail *t, const Value *v, const Type *y, const Discrete **on) {
  if (!t->two || (t->other != NULL && t->other != v) || v->type->dtype != DT_F32) return false;
  *on = known_get(t->s->known, v);
  return *on != NULL && type_same_shape(v->type, y) && (*on)->hi - (*on)->lo < GRID_MAX;
}

// Fills in what `op` would be as a part of the tail.
static bool joins(SumTail *t, Op *op, TailOp *out) {
  const Value *other = NULL;
  const Discrete *on = NULL;
  uint32_t some = 0, at;
  const Type *y = op->out[0]->type;
  bool eltwise = (op_info(op->kind)->traits & TRAIT_ELTWISE) != 0, move = is_move(op);
  bool rows = op->kind == OP_BATCHNORM || op->kind == OP_THRESHOLD;
  if ((!eltwise && !move && !rows) || op->n_in > 8) return false;
  *out = (TailOp){.op = op, .move = NO_MOVE, .moves = move, .few = makes_few(op), .monotone = true};
  out->whole = dtype_is_int(y->dtype);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    if (v == NULL) return false;
    if (!find(t, v, &at)) {
      if (rows || is_per_channel(t, v, y)) continue;
      if (!is_other(t, v, y, &on)) return false;
      other = v;
      continue;
    }
    if (some > 0 && t->op[at].move != out->move) return false;
    out->from = at;
    out->move = t->op[at].move;
    out->few = out->few || t->op[at].few;
    out->whole = out->whole || t->op[at].whole;
    out->two = out->two || t->op[at].two;
    out->monotone = some == 0 && t->op[at].monotone && (move || is_monotone(t->ctx->m, op, i));
    some++;
    if (!move && !type_same_shape(v->type, y)) return false;
  }
  if (some == 0 || (rows && some > 1)) return false;
  if (op->kind == OP_BATCHNORM && !batchnorm_joins(t, op, out->move)) return false;
  if (op->kind == OP_THRESHOLD && !threshold_joins(t, op, out->move)) return false;
  if (eltwise && moved_channels(t, out->move)) {
    double all;
    for (uint32_t i = 0; i < op->n_in; i++)
      if (!find(t, op_in(op, i), &at) && !value_is_splat(t->ctx->m, op_in(op, i), &all)) return false;
  }
  if (move) {
    out->axis = moved_axis(op, axis_behind(t, out->move));
    out->move = t->n;
  }
  if (other == NULL) return true;
  if (out->move != NO_MOVE) return false;
  t->other = other;
  t->other_on = on;
  out->two = true;
  return true;
}

static void collect(SumTail *t) {
  uint32_t steps = 0;
  t->base = t->s->sum;
  t->op[t->n++] = (TailOp){.move = NO_MOVE, .monotone = true};
  if (t->s->pool != NULL) {
    t->base = t->s->unpooled;
    t->op[0] = (TailOp){.op = t->s->pool, .move = 0, .moves = true, .axis = t->s->axis, .monotone = true};
    t->op[t->n++] = (TailOp){.move = 0, .monotone = true};
  }
  for (Op *op = t->s->value->op->next; op != NULL && t->n < TAIL_OPS && steps < SEARCH_OPS; op = op->next, steps++)
    if (op->n_out > 0 && (op->out[0]->n_uses > 0) && joins(t, op, &t->op[t->n])) t->n++;
}

// ---- evaluation

typedef struct Copies {
  Func *f;
  const Type *shape;
  uint32_t axis;  // of the channels
  const Value *from[TAIL_OPS + 8];
  Value *to[TAIL_OPS + 8];
  uint32_t n;
} Copies;

// Element-wise ops take a constant with one value as a scalar, which fits all dims.
static Value *operand(Module *m, const Op *op, Value *v) {
  double all;
  if (op->kind == OP_BATCHNORM || op->kind == OP_THRESHOLD || !value_is_splat(m, v, &all)) return v;
  const Type *t = type_scalar(m->types, v->type->dtype);
  return dtype_is_float(t->dtype) ? const_splat(m, t, all) : const_splat_int(m, t, const_i(m, v->constant, 0));
}

static Value *copied(const Copies *c, Value *v) {
  for (uint32_t k = 0; k < c->n; k++)
    if (c->from[k] == v) return c->to[k];
  return NULL;
}

static void note_copy(Copies *c, const Value *from, Value *to) {
  c->from[c->n] = from;
  c->to[c->n++] = to;
}

// The channels and the last axis of a value in each other's place.
static Value *swapped(const Copies *c, Value *x, const Op *like) {
  int64_t perm[MAX_RANK], dims[MAX_RANK];
  uint32_t last = c->shape->rank - 1;
  if (c->axis == last) return x;
  for (uint32_t i = 0; i <= last; i++) perm[i] = i == c->axis ? last : i == last ? c->axis : i;
  for (uint32_t i = 0; i < MAX_RANK; i++) dims[i] = i <= last ? x->type->dims[perm[i]] : 1;
  Op *op = op_new(c->f, NULL, OP_TRANSPOSE, 1, &x, like->loc);
  op_set_ints(op, A_TRANSPOSE_perm, c->shape->rank, perm);
  op->out[0]->type = type_tensor(c->f->module->types, x->type->dtype, c->shape->rank, dims);
  return op->out[0];
}

static void copy_op(Copies *c, const Op *op) {
  Module *m = c->f->module;
  Value *in[8];
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *mine = copied(c, op_in(op, i));
    in[i] = mine ? mine : operand(m, op, op_in(op, i));
  }
  bool last = op->kind == OP_THRESHOLD && !is_uniform(op);
  if (last) in[0] = swapped(c, in[0], op);
  Op *copy = op_new(c->f, NULL, op->kind, op->n_in, in, op->loc);
  op_copy_attrs(copy, op);
  copy->out[0]->type = type_with_dtype(m->types, last ? in[0]->type : c->shape, op->out[0]->type->dtype);
  note_copy(c, op->out[0], last ? swapped(c, copy->out[0], op) : copy->out[0]);
}

static void build_func(SumTail *t, const Type *arg) {
  const Type *args[2] = {arg, type_with_dtype(t->ctx->m->types, arg, DT_F32)};
  Copies c = {.f = func_new(t->ctx->m, "tail", t->other ? 2 : 1, args), .shape = arg, .axis = t->s->axis};
  Value *results[TAIL_OPS];
  note_copy(&c, t->s->sum, c.f->args[0]);
  if (t->other != NULL) note_copy(&c, t->other, c.f->args[1]);
  for (uint32_t i = 0; i < t->s->n_scale; i++) copy_op(&c, t->s->scale[i]);
  for (uint32_t i = 0; i < t->n; i++) {
    const TailOp *o = &t->op[i];
    if (o->op == NULL || (o->moves && i == 0)) {
      results[i] = copied(&c, o->op == NULL ? t->s->value : t->s->sum);
      continue;
    }
    if (o->moves) {
      note_copy(&c, o->op->out[0], copied(&c, value_of(t, o->from)));
    } else {
      copy_op(&c, o->op);
    }
    results[i] = c.to[c.n - 1];
  }
  func_set_results(c.f, t->n, results);
  t->f = c.f;
}

bool sumtail_open(SumTail *t, PassCtx *ctx, const Sum *s, bool two, Arena *arena) {
  *t = (SumTail){.ctx = ctx, .arena = arena, .s = s, .two = two && s->known != NULL};
  collect(t);
  if (t->n < 2 || (two && t->other == NULL)) return false;
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < MAX_RANK; i++) dims[i] = 1;
  int64_t elements = two ? TWO_ELEMENTS : ROW_ELEMENTS;
  t->rows = elements / s->channels > 2 ? elements / s->channels : 2;
  dims[0] = t->rows;
  dims[s->axis] = s->channels;
  build_func(t, type_tensor(ctx->m->types, DT_I32, s->sum->type->rank, dims));
  t->sums = NEW_ARRAY(arena, int32_t, t->rows * s->channels);
  t->others = NEW_ARRAY(arena, float, t->rows * s->channels);
  return true;
}

// ---- which values matter

static bool is_alive(const Op *op) {
  for (uint32_t i = 0; i < op->n_out; i++)
    if (op->out[i]->n_uses > 0) return true;
  return false;
}

bool sumtail_is_needed(const SumTail *t, uint32_t op, const bool *leads) {
  const Value *v = t->op[op].op->out[0];
  uint32_t n = 0;
  for (const Operand *use = v->uses; use != NULL; use = use->next) {
    n++;
    bool inside = !is_alive(use->op);
    for (uint32_t i = op + 1; i < t->n && !inside; i++) inside = t->op[i].op == use->op && leads[i];
    if (!inside) return true;
  }
  return n < v->n_uses;  // a result of the function
}

static bool may_have_levels(const TailOp *o) { return o->few && !o->moves && o->op->out[0]->type->dtype == DT_F32; }

bool sumtail_has_levels(const SumTail *t) {
  bool leads[TAIL_OPS] = {false};
  for (uint32_t i = t->n; i-- > 1 && t->op[i].op != NULL;) {
    leads[i] = !sumtail_is_needed(t, i, leads);
    if (leads[i] || !may_have_levels(&t->op[i])) continue;
    if (!t->two || t->op[i].two) return true;
    leads[i] = true;
  }
  return false;
}

// ---- running

void sumtail_set_other(SumTail *t, int64_t step) {
  float v = (float)(t->other_on->scale * (double)step);
  for (int64_t i = 0; i < t->rows * t->s->channels; i++) t->others[i] = v;
}

bool sumtail_run(SumTail *t, Arena *scratch) {
  Tensor args[2] = {{t->f->args[0]->type, t->sums}, {NULL, t->others}};
  if (t->other != NULL) args[1].type = t->f->args[1]->type;
  return eval_func(t->f, args, t->value, scratch, NULL, NULL);
}

void sumtail_close(SumTail *t) {
  if (t->f == NULL) return;
  graph_drop_scratch(t->f);
}

double sumtail_at(const SumTail *t, uint32_t op, int64_t row, int64_t channel) {
  const Tensor *v = &t->value[op];
  int64_t i = row * t->s->channels + channel;
  return v->type->dtype == DT_F32 ? (double)((const float *)v->data)[i] : elem_get_f(v->data, v->type->dtype, i);
}
