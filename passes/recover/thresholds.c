// From an exact integer sum to the quantised values computed from it. See levels.h.
//
//   %3 = batchnorm %2 ..    %4 = clip %3, 0, 1    %5 = mul %4, 3    %6 = round %5    %7 = div %6, 3
//   => %7 = q / 3, q = (sum >= @t0) + (sum >= @t1) + (sum >= @t2)        one threshold per channel and level
//
// The tail is evaluated by the interpreter (sumtail.h), at every sum of the range or, where that is too much and every
// step of the tail is monotone, by bisection. A value of it that takes few numbers of one grid, rising or falling with
// the sum in each channel, is a step function of the sum, whatever it was made of: scales, batch norms of either sign,
// sign functions with any meaning of zero, clips and roundings with their ties. It becomes, in this order,
// comparisons (up to 4 levels), one multiplication per channel (requant.h), comparisons (up to 16), or stays as it is
// and is divided by the grid, which is exact. Below a maxpool the steps are taken before it, on more but narrower
// elements, unless they fall where the pool's operand rises.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/requant_emit.h"
#include "passes/recover/thresholds.h"

#define FEW_LEVELS 4    // always comparisons
#define MORE_LEVELS 16  // comparisons where no multiplication is found

// ---- which values

bool levels_add(Levels *l, double v) {
  uint32_t at = 0;
  while (at < l->n && l->number[at] < v) at++;
  if (at < l->n && l->number[at] == v) return true;
  if (l->n == GRID_MAX) return false;
  for (uint32_t i = l->n++; i > at; i--) l->number[i] = l->number[i - 1];
  l->number[at] = v;
  return true;
}

bool levels_fit(Levels *l) {
  if (l->n < 2) return false;
  if (!grid_fit(l->n, l->number, -128, 127, &l->grid, l->q) && !grid_fit(l->n, l->number, 0, 255, &l->grid, l->q))
    return false;
  l->least = l->q[0];
  l->most = l->q[l->n - 1];
  return true;
}

// The numbers of all channels on one grid.
static bool fit_levels(const SumRuns *s, uint32_t op, Levels *l) {
  l->n = 0;
  for (int64_t c = 0; c < s->t->s->channels; c++)
    for (uint32_t i = 0; i < s->runs[op][c].n; i++)
      if (!levels_add(l, s->runs[op][c].value[i])) return false;
  return levels_fit(l);
}

// ---- the steps of each channel

// Levels are counted from the lowest: level k begins at threshold k - 1 where the channel rises and ends before
// threshold n - 1 - k where it falls.
typedef struct Steps {
  uint32_t n;   // thresholds
  int64_t *at;  // [channel][n] ascending
  bool *falls;  // [channel]
  bool *turns;  // [channel] falls where the operand of a pool above it rises
  bool any_turns;
} Steps;

uint32_t level_of(const Levels *l, double v) {
  uint32_t i = 0;
  while (l->number[i] != v) i++;
  return i;
}

static int pooled_direction(const SumRuns *s, uint32_t move, int64_t c) {
  const TailOp *o = &s->t->op[move];
  return move == 0 ? 1 : s->runs[o->from][c].direction;  // the sum itself rises
}

// False where a pool's operand is not in order.
static bool read_turns(const SumRuns *s, uint32_t op, Steps *st) {
  for (uint32_t m = s->t->op[op].move; m != NO_MOVE; m = sumtail_move_before(s->t, m)) {
    const TailOp *o = &s->t->op[m];
    if (o->op->kind != OP_MAXPOOL) continue;
    if (m > 0 && !s->ordered[o->from]) return false;
    for (int64_t c = 0; c < s->t->s->channels; c++) {
      bool turns = s->runs[op][c].direction * pooled_direction(s, m, c) < 0;
      if (m != s->t->op[op].move && s->t->op[op].move != NO_MOVE && turns != st->turns[c]) return false;
      st->turns[c] = turns;
      st->any_turns = st->any_turns || turns;
    }
  }
  return true;
}

static bool read_steps(const SumRuns *s, uint32_t op, const Levels *l, Steps *st) {
  const Sum *sum = s->t->s;
  *st = (Steps){.n = l->n - 1};
  st->at = NEW_ARRAY(s->t->arena, int64_t, sum->channels * st->n);
  st->falls = NEW_ARRAY(s->t->arena, bool, sum->channels);
  st->turns = NEW_ARRAY(s->t->arena, bool, sum->channels);
  for (int64_t c = 0; c < sum->channels; c++) {
    const Runs *r = &s->runs[op][c];
    uint32_t passed = 0;
    st->falls[c] = r->direction < 0;
    for (uint32_t i = 0; i < r->n; i++) {
      uint32_t level = level_of(l, r->value[i]);
      if (st->falls[c]) level = st->n - level;
      while (passed < level) st->at[c * st->n + passed++] = i == 0 ? sum->lo : r->at[i];
    }
    while (passed < st->n) st->at[c * st->n + passed++] = sum->hi + 1;
  }
  return read_turns(s, op, st);
}

// ---- rewriting

typedef struct Emit {
  SumRuns *s;
  uint32_t op;
  const Levels *l;
  const Steps *st;
  Op *at;
  Module *m;
  DType t;  // of the level
  double *scratch;
  const char *how;
  Op *keeps;  // goes on reading the value that is replaced
} Emit;

static Value *constant(const Emit *e, DType t) {
  const Sum *s = e->s->t->s;
  return levels_const(e->m, t, s->channels, s->axis, s->sum->type->rank, e->scratch);
}

static Value *number(const Emit *e, DType t, int64_t v) {
  return const_splat_int(e->m, type_scalar(e->m->types, t), v);
}

static Value *emit2(const Emit *e, OpKind kind, DType t, Value *x, Value *y) {
  return levels_emit(e->at, kind, t, 2, (Value *[]){x, y}, e->at);
}

static Value *choose_level(const Emit *e, Value *cond, Value *yes, Value *no) {
  return levels_emit(e->at, OP_SELECT, e->t, 3, (Value *[]){cond, yes, no}, e->at);
}

// A sum that rises with the level in every channel: its complement where the channel falls.
static Value *risen(const Emit *e) {
  bool any = false;
  for (int64_t c = 0; c < e->s->t->s->channels; c++) {
    any = any || e->st->falls[c];
    e->scratch[c] = e->st->falls[c] ? -1 : 0;
  }
  return any ? emit2(e, OP_XOR, DT_I32, e->s->t->base, constant(e, DT_I32)) : e->s->t->base;
}

// Is the level above k? ~sum >= ~(at - 1) is sum < at.
static Value *above(const Emit *e, Value *risen_sum, uint32_t k) {
  const Steps *st = e->st;
  for (int64_t c = 0; c < e->s->t->s->channels; c++) {
    const int64_t *at = &st->at[c * st->n];
    e->scratch[c] = (double)(st->falls[c] ? -at[st->n - 1 - k] : at[k]);
  }
  return emit2(e, OP_GREATER_EQUAL, DT_BOOL, risen_sum, constant(e, DT_I32));
}

static Value *by_comparisons(const Emit *e) {
  Value *sum = risen(e), *y = NULL;
  const int64_t *q = e->l->q;
  if (e->st->n == 1) return choose_level(e, above(e, sum, 0), number(e, e->t, q[1]), number(e, e->t, q[0]));
  for (uint32_t k = 0; k < e->st->n; k++) {
    Value *more = number(e, e->t, q[k + 1] - (k == 0 ? 0 : q[k])), *none = number(e, e->t, k == 0 ? q[0] : 0);
    Value *step = choose_level(e, above(e, sum, k), more, none);
    y = y == NULL ? step : emit2(e, OP_ADD, e->t, y, step);
  }
  return y;
}

static Boundaries boundaries_of(const Emit *e, int64_t c) {
  const Runs *r = &e->s->runs[e->op][c];
  const Sum *sum = e->s->t->s;
  const int64_t *q = e->l->q;
  Boundaries b = {.lo = sum->lo, .hi = sum->hi, .first = q[level_of(e->l, r->value[0])], .falls = r->direction < 0};
  b.at = NEW_ARRAY(e->s->t->arena, int64_t, e->l->most - e->l->least + 1);
  for (uint32_t i = 1; i < r->n; i++) {
    int64_t away = llabs(q[level_of(e->l, r->value[i])] - b.first);
    while (b.n < away) b.at[b.n++] = r->at[i];
  }
  return b;
}

static Value *by_multiplication(Emit *e) {
  Arena *arena = e->s->t->arena;
  const Sum *sum = e->s->t->s;
  int64_t n = sum->channels, *low = NEW_ARRAY(arena, int64_t, n), *high = NEW_ARRAY(arena, int64_t, n);
  Boundaries *b = NEW_ARRAY(arena, Boundaries, n);
  for (int64_t c = 0; c < n; c++) {
    b[c] = boundaries_of(e, c);
    low[c] = e->l->least;
    high[c] = e->l->most;
  }
  Requant r;
  RequantProblem p = {.channels = n, .b = b, .low = low, .high = high};
  p.target = e->s->t->ctx->target;
  p.forms = 1u << REQUANT_SHIFT | 1u << REQUANT_F32 | 1u << REQUANT_SPLIT | 1u << REQUANT_WHOLE | 1u << REQUANT_F64;
  if (!requant_find(&p, arena, &r)) return NULL;
  ChannelAxis channels = {n, sum->axis, sum->sum->type->rank};
  e->how = requant_text(&r);
  return requant_emit(e->at, e->s->t->base, NULL, &r, &channels, e->t, arena);
}

// The value as it is computed now, divided by the grid; once, not of what was made of it.
static Value *by_reference(Emit *e) {
  if (e->s->t->op[e->op].whole) return NULL;
  Value *v = e->s->t->op[e->op].op->out[0];
  float scale = (float)e->l->grid.scale;
  for (uint32_t i = 0; i < e->l->n; i++)
    if (nearbyintf((float)e->l->number[i] / scale) != (float)e->l->q[i]) return NULL;
  Op *after = e->at->next;
  if (after == NULL) return NULL;
  Value *by = const_splat(e->m, type_scalar(e->m->types, DT_F32), (double)scale);
  Value *y = levels_emit(after, OP_DIV, DT_F32, 2, (Value *[]){v, by}, e->at);
  e->keeps = y->op;
  y = levels_emit(after, OP_ROUND, DT_F32, 1, &y, e->at);
  return levels_emit(after, OP_CAST, e->t, 1, &y, e->at);
}

// The moves between the sum and the value, on bytes, the first one first.
static Value *replay(const Emit *e, Value *y) {
  uint32_t moves[TAIL_OPS], n = 0;
  const SumTail *t = e->s->t;
  for (uint32_t m = t->op[e->op].move; m != NO_MOVE; m = sumtail_move_before(t, m)) moves[n++] = m;
  while (n-- > 0) y = levels_pool(e->at, t->op[moves[n]].op, y);
  return y;
}

// Two levels below a pool that they turn over in some channels: what is pooled rises with the pool's operand.
static Value *by_turned_bits(const Emit *e) {
  Steps high = *e->st;
  Emit bits = *e;
  high.falls = NEW_ARRAY(e->s->t->arena, bool, e->s->t->s->channels);
  for (int64_t c = 0; c < e->s->t->s->channels; c++) high.falls[c] = e->st->falls[c] != e->st->turns[c];
  bits.st = &high;
  bits.t = DT_I8;
  Value *up = choose_level(&bits, above(&bits, risen(&bits), 0), number(e, DT_I8, 1), number(e, DT_I8, -1));
  Value *past = emit2(e, OP_GREATER, DT_BOOL, replay(e, up), number(e, DT_I8, 0));
  Value *level[2];
  for (int side = 0; side < 2; side++) {
    for (int64_t c = 0; c < e->s->t->s->channels; c++)
      e->scratch[c] = (double)e->l->q[e->st->turns[c] ? 1 - side : side];
    level[side] = constant(e, e->t);
  }
  return choose_level(e, past, level[1], level[0]);
}

static Value *rewrite(Emit *e) {
  Value *y = NULL;
  bool turns = e->st->any_turns;
  e->how = "comparisons";
  if (turns && e->l->n == 2) return by_turned_bits(e);
  if (!turns && e->l->n > FEW_LEVELS) y = by_multiplication(e);
  if (!turns && y == NULL && e->l->n <= MORE_LEVELS) y = by_comparisons(e);
  if (y != NULL) return replay(e, y);
  e->how = "the reference expression";
  return by_reference(e);
}

static void note_found(const Emit *e) {
  const Sum *s = e->s->t->s;
  if (strcmp(e->how, "comparisons") == 0) note_thresholds(e->m, e->at, e->st->n, s->channels);
  if (e->s->exhaustive) {
    note_layer(e->m, e->at, NOTE_PROOF, "%u levels by %s, exhaustive over %lld sums x %lld channels", e->l->n, e->how,
               (long long)(s->hi - s->lo + 1), (long long)s->channels);
  } else {
    int64_t boundaries = 0;
    for (int64_t c = 0; c < s->channels; c++) boundaries += e->s->runs[e->op][c].n - 1;
    note_layer(e->m, e->at, NOTE_PROOF, "%u levels by %s, every step monotone, %lld boundaries +-2 over %lld channels",
               e->l->n, e->how, (long long)boundaries, (long long)s->channels);
  }
}

static bool replace(SumRuns *s, uint32_t op, const Levels *l, Discrete *d, Value **value) {
  Steps st;
  if (!read_steps(s, op, l, &st)) return false;
  Op *found = s->t->op[op].op;
  Emit e = {.s = s, .op = op, .l = l, .st = &st, .at = found, .m = s->t->ctx->m, .t = l->least >= 0 ? DT_U8 : DT_I8};
  e.scratch = NEW_ARRAY(s->t->arena, double, s->t->s->channels);
  Value *q = rewrite(&e);
  if (q == NULL) return false;
  note_found(&e);
  *d = (Discrete){.q = q, .lo = l->least, .hi = l->most, .scale = l->grid.scale};
  *value = levels_float(e.keeps ? q->op->next : found, d, found);
  (*value)->name = found->out[0]->name;
  Value *old = found->out[0];
  value_replace(old, *value);
  if (e.keeps != NULL) op_set_operand(e.keeps, 0, old);
  return true;
}

// Replaces the last value of the tail that is read by something else; what only leads to it dies with it.
static bool replace_last(SumRuns *s, Discrete *d, Value **value) {
  bool leads[TAIL_OPS] = {false};  // to step functions only
  Levels l;
  for (uint32_t i = s->t->n; i-- > 1 && s->t->op[i].op != NULL;) {
    leads[i] = !sumtail_is_needed(s->t, i, leads);
    if (leads[i] || !s->few[i] || !fit_levels(s, i, &l)) continue;
    leads[i] = true;
    if (replace(s, i, &l, d, value)) return true;
  }
  return false;
}

bool levels_threshold(PassCtx *ctx, const Sum *sum, Discrete *d, Value **value) {
  if (sum->axis == 0 || sum->hi <= sum->lo) return false;
  Arena *arena = arena_new("thresholds");
  SumTail t;
  SumRuns s;
  bool found = sumtail_open(&t, ctx, sum, false, arena) && sumtail_has_levels(&t) && sumruns_find(&s, &t, 1);
  sumtail_close(&t);
  found = found && replace_last(&s, d, value);
  if (!found) found = thresholds_two(ctx, sum, arena, d, value);
  arena_free(arena);
  return found;
}
