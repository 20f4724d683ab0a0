// Thresholds by exhaustive search. See levels.h.
//
// The tail of a sum is everything computed from it and from constants per channel, element by element. It is run once
// by the interpreter on a tensor that holds every value the sum can take, for every channel. A result with few integer
// levels that rise or fall with the sum is then the same as comparisons with integers, whatever the tail was made of:
// scales, batch norms of either sign, sign functions with any meaning of zero, clips and roundings.
#include "ir/eval.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/levels.h"

#define TAIL_OPS 40
#define MAX_LEVELS 4
#define MAX_EVALS (INT64_C(1) << 25)  // elements of one tail op over the whole range

typedef struct Levels {
  uint32_t n;
  int64_t value[MAX_LEVELS];  // ascending
  int64_t *at;                // [channel][n - 1]: smallest sum past each threshold
  bool *falls;                // [channel]
} Levels;

typedef struct Search {
  PassCtx *ctx;
  Arena *arena;  // dropped after the search
  const Sum *s;
  Op *op[TAIL_OPS];
  uint32_t n;
  Tensor values[TAIL_OPS];
} Search;

// ---- the tail

static bool is_in_tail(const Search *t, const Value *v) {
  if (v == t->s->value) return true;
  for (uint32_t i = 0; i < t->n; i++)
    if (t->op[i]->out[0] == v) return true;
  return false;
}

// A constant that differs only along the channels.
static bool is_per_channel(const Sum *s, const Value *v, uint32_t rank) {
  double all;
  if (!value_is_const(v) || v->type->rank > rank) return false;
  if (value_is_splat(s->value->op->func->module, v, &all)) return true;
  for (uint32_t i = 0; i < v->type->rank; i++) {
    bool channels = rank - v->type->rank + i == s->axis;
    if (v->type->dims[i] != 1 && !(channels && v->type->dims[i] == s->channels)) return false;
  }
  return true;
}

static bool joins_tail(const Search *t, const Op *op) {
  const Type *y = t->s->value->type;
  bool norm = op->kind == OP_BATCHNORM, some = false;
  if (!norm && !(op_info(op->kind)->traits & TRAIT_ELTWISE)) return false;
  if (!type_same_shape(op->out[0]->type, y)) return false;
  if (norm) {
    int64_t axis = op_int(op, A_BATCHNORM_axis);
    if ((uint32_t)(axis < 0 ? axis + y->rank : axis) != t->s->axis || !is_in_tail(t, op_in(op, 0))) return false;
    for (uint32_t i = 1; i < op->n_in; i++)
      if (!value_is_const(op_in(op, i))) return false;
    return true;
  }
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    if (v != NULL && is_in_tail(t, v)) {
      some = true;
    } else if (v == NULL || !is_per_channel(t->s, v, y->rank)) {
      return false;
    }
  }
  return some;
}

static void collect_tail(Search *t) {
  const Value *y = t->s->value;
  uint32_t steps = 0;
  for (Op *op = y->op->next; op != NULL && t->n < TAIL_OPS && steps < 4 * TAIL_OPS; op = op->next, steps++)
    if (joins_tail(t, op)) t->op[t->n++] = op;
}

// ---- evaluation

typedef struct Copies {
  Func *f;
  const Type *shape;
  Value *from[TAIL_OPS + 8], *to[TAIL_OPS + 8];
  uint32_t n;
} Copies;

// Element-wise ops take a constant with one value as a scalar, which fits all dims.
static Value *operand(Module *m, const Op *op, Value *v) {
  double all;
  if (op->kind == OP_BATCHNORM || !value_is_splat(m, v, &all)) return v;
  const Type *t = type_scalar(m->types, v->type->dtype);
  return dtype_is_float(t->dtype) ? const_splat(m, t, all) : const_splat_int(m, t, const_i(m, v->constant, 0));
}

static void copy_op(Copies *c, const Op *op) {
  Module *m = c->f->module;
  Value *in[8];
  for (uint32_t i = 0; i < op->n_in; i++) {
    in[i] = operand(m, op, op_in(op, i));
    for (uint32_t k = 0; k < c->n; k++)
      if (op_in(op, i) == c->from[k]) in[i] = c->to[k];
  }
  Op *copy = op_new(c->f, NULL, op->kind, op->n_in, in, op->loc);
  op_copy_attrs(copy, op);
  const Type *t = type_with_dtype(m->types, c->shape, op->out[0]->type->dtype);
  copy->out[0]->type = t;
  c->from[c->n] = op->out[0];
  c->to[c->n++] = copy->out[0];
}

// The ops from the sum to its float value and the tail, on a tensor of other dims, as a function with the values of the
// tail as results.
static Func *tail_func(Search *t, const Type *arg) {
  Copies c = {.f = func_new(t->ctx->m, "tail", 1, &arg), .shape = arg, .from = {t->s->sum}, .n = 1};
  c.to[0] = c.f->args[0];
  for (uint32_t i = 0; i < t->s->n_scale; i++) copy_op(&c, t->s->scale[i]);
  for (uint32_t i = 0; i < t->n; i++) copy_op(&c, t->op[i]);
  func_set_results(c.f, t->n, c.to + 1 + t->s->n_scale);
  return c.f;
}

static void func_drop(Module *m, Func *f) {
  func_set_results(f, 0, NULL);
  for (Op *op = f->last, *prev; op; op = prev) {
    prev = op->prev;
    op_unlink(op);
  }
  m->funcs.n--;
}

// Values of the tail at every sum: row r of the first axis holds the sum lo + r.
static bool evaluate(Search *t) {
  const Sum *s = t->s;
  Module *m = t->ctx->m;
  int64_t rows = s->hi - s->lo + 1, dims[MAX_RANK], count;
  for (uint32_t i = 0; i < MAX_RANK; i++) dims[i] = 1;
  dims[0] = rows;
  dims[s->axis] = s->channels;
  if (!size_mul(rows, s->channels, &count) || count > MAX_EVALS) return false;
  const Type *arg = type_tensor(m->types, DT_I32, s->sum->type->rank, dims);
  Tensor x = tensor_new(t->arena, arg);
  for (int64_t i = 0; i < count; i++) ((int32_t *)x.data)[i] = (int32_t)(s->lo + i / s->channels);
  Func *f = tail_func(t, arg);
  bool ok = eval_func(f, &x, t->values, t->arena, NULL, NULL);
  func_drop(m, f);
  return ok;
}

// ---- levels

static bool level_add(Levels *l, int64_t level) {
  uint32_t at = 0;
  while (at < l->n && l->value[at] < level) at++;
  if (at < l->n && l->value[at] == level) return true;
  if (l->n == MAX_LEVELS) return false;
  for (uint32_t i = l->n++; i > at; i--) l->value[i] = l->value[i - 1];
  l->value[at] = level;
  return true;
}

// Distinct values of the whole range, which must be a few integers of a byte.
static bool level_values(const float *v, int64_t n, Levels *l) {
  l->n = 0;
  for (int64_t i = 0; i < n; i++) {
    if (i > 0 && v[i] == v[i - 1]) continue;
    if (!(v[i] >= -128 && v[i] <= 127) || v[i] != (float)(int)v[i] || !level_add(l, (int64_t)v[i])) return false;
  }
  return l->n > 1;
}

// Thresholds of one channel; false when its levels go up and down.
static bool channel_levels(const Sum *s, const float *v, int64_t c, Levels *l) {
  int64_t rows = s->hi - s->lo + 1, n = l->n - 1, passed = 0;
  l->falls[c] = v[c] > v[(rows - 1) * s->channels + c];
  for (int64_t r = 0; r < rows; r++) {
    int64_t level = 0;
    while (l->value[level] != (int64_t)v[r * s->channels + c]) level++;
    if (l->falls[c]) level = n - level;
    if (level < passed) return false;
    while (passed < level) l->at[c * n + passed++] = s->lo + r;
  }
  while (passed < n) l->at[c * n + passed++] = s->hi + 1;
  return true;
}

static bool levels_of(Search *t, uint32_t k, Levels *l) {
  const Sum *s = t->s;
  const float *v = t->values[k].data;
  if (t->values[k].type->dtype != DT_F32 || !level_values(v, type_count(t->values[k].type), l)) return false;
  l->at = NEW_ARRAY(t->arena, int64_t, s->channels *(l->n - 1));
  l->falls = NEW_ARRAY(t->arena, bool, s->channels);
  for (int64_t c = 0; c < s->channels; c++)
    if (!channel_levels(s, v, c, l)) return false;
  return true;
}

// ---- rewriting

typedef struct Emit {
  Op *at;
  const Op *like;
  const Sum *s;
  const Levels *l;
  Module *m;
  double *scratch;
} Emit;

static Value *rise_or_fall(const Emit *e, double rises, double falls) {
  for (int64_t c = 0; c < e->s->channels; c++) e->scratch[c] = e->l->falls[c] ? falls : rises;
  return levels_const(e->m, DT_I8, e->s->channels, e->s->axis, e->s->sum->type->rank, e->scratch);
}

static Value *compare(const Emit *e, Value *sum, int64_t level) {
  int64_t n = e->l->n - 1;
  for (int64_t c = 0; c < e->s->channels; c++) e->scratch[c] = (double)e->l->at[c * n + level];
  Value *t = levels_const(e->m, DT_I32, e->s->channels, e->s->axis, sum->type->rank, e->scratch);
  return levels_emit(e->at, OP_GREATER_EQUAL, DT_BOOL, 2, (Value *[]){sum, t}, e->like);
}

static Value *choose(const Emit *e, Value *cond, Value *yes, Value *no) {
  return levels_emit(e->at, OP_SELECT, DT_I8, 3, (Value *[]){cond, yes, no}, e->like);
}

static bool any_falls(const Emit *e) {
  bool some = false;
  for (int64_t c = 0; c < e->s->channels; c++) some = some || e->l->falls[c];
  return some;
}

// Two levels. Before a maxpool one bit per element is pooled instead of sums: with +1 past the threshold and -1 below,
// the largest says whether the largest sum is past it.
static Value *two_levels(const Emit *e) {
  double lo = (double)e->l->value[0], hi = (double)e->l->value[1];
  if (e->s->pool == NULL) return choose(e, compare(e, e->s->sum, 0), rise_or_fall(e, hi, lo), rise_or_fall(e, lo, hi));
  const Type *byte = type_scalar(e->m->types, DT_I8);
  Value *one = const_splat_int(e->m, byte, 1), *minus = const_splat_int(e->m, byte, -1);
  Value *past = levels_pool(e->at, e->s->pool, choose(e, compare(e, e->s->unpooled, 0), one, minus));
  if (lo == -1 && hi == 1 && !any_falls(e)) return past;
  Value *zero = const_splat_int(e->m, byte, 0);
  Value *cond = levels_emit(e->at, OP_GREATER, DT_BOOL, 2, (Value *[]){past, zero}, e->like);
  return choose(e, cond, rise_or_fall(e, hi, lo), rise_or_fall(e, lo, hi));
}

static Value *more_levels(const Emit *e) {
  uint32_t n = e->l->n - 1;
  const int64_t *v = e->l->value;
  Value *y = rise_or_fall(e, (double)v[0], (double)v[n]);
  Value *zero = const_splat_int(e->m, type_scalar(e->m->types, DT_I8), 0);
  for (uint32_t k = 0; k < n; k++) {
    Value *step = rise_or_fall(e, (double)(v[k + 1] - v[k]), (double)(v[n - k - 1] - v[n - k]));
    Value *more = choose(e, compare(e, e->s->sum, k), step, zero);
    y = levels_emit(e->at, OP_ADD, DT_I8, 2, (Value *[]){more, y}, e->like);
  }
  return y;
}

static Value *rewrite(Search *t, Op *op, const Levels *l) {
  Emit e = {.at = op, .like = op, .s = t->s, .l = l, .m = t->ctx->m};
  e.scratch = NEW_ARRAY(t->arena, double, t->s->channels);
  return l->n == 2 ? two_levels(&e) : more_levels(&e);
}

static Op *search(Search *t, Levels *best) {
  Levels l;
  Op *found = NULL;
  collect_tail(t);
  if (t->n == 0 || !evaluate(t)) return NULL;
  for (uint32_t i = 0; i < t->n; i++) {
    if (!levels_of(t, i, &l) || (found != NULL && l.n > best->n)) continue;
    *best = l;
    found = t->op[i];
  }
  return found;
}

bool levels_threshold(PassCtx *ctx, const Sum *s, Discrete *d, Value **value) {
  if (s->axis == 0) return false;
  Search t = {.ctx = ctx, .arena = arena_new("thresholds"), .s = s};
  Levels best = {0};
  Op *found = search(&t, &best);
  if (found != NULL) {
    *d = (Discrete){rewrite(&t, found, &best), best.value[0], best.value[best.n - 1], 1};
    *value = levels_emit(found, OP_CAST, DT_F32, 1, &d->q, found);
    (*value)->name = found->out[0]->name;
    value_replace(found->out[0], *value);
    note_thresholds(ctx->m, found, best.n - 1, s->channels);
    note_layer(ctx->m, found, NOTE_PROOF, "tail equal at every one of %lld sums x %lld channels",
               (long long)(s->hi - s->lo + 1), (long long)s->channels);
  }
  arena_free(t.arena);
  return found != NULL;
}
