// Quantised values computed from an exact sum and one other quantised value.
//
//   %3 = batchnorm %2 ..    %5 = add %3, %4    %6 = relu %5    %7 = quantiser of %6        %4 = f32(s * q), q in bytes
//   => %7's q = clamp((sum * m + q * o + b) >> r)        m, b (and o) per channel
//
// For each value of q the tail is a step function of the sum (sumruns.h), found as without it. One form of arithmetic
// must give all of them (requant.h). Where none does, the float code stays.
#include <math.h>
#include <stdlib.h>

#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/thresholds.h"

typedef struct Two {
  SumTail t;
  Arena *arena;
  SumRuns *at;             // [n_other]
  int64_t n_other, first;  // of the second operand, in steps of its grid
  double
      *slope[TAIL_OPS];  // [channels] of the value along one step of the second operand, limits left out; NULL unknown
} Two;

// ---- what the second operand is multiplied with

static double constant_at(const Two *t, const Value *v, int64_t c) {
  return const_f(t->t.ctx->m, v->constant, type_count(v->type) == 1 ? 0 : c);
}

static double batchnorm_factor(const Two *t, const Op *op, int64_t c) {
  double var = constant_at(t, op_in(op, 4), c);
  return constant_at(t, op_in(op, 1), c) / sqrt(var + op_float(op, A_BATCHNORM_epsilon));
}

static bool slope_through(const Two *t, const TailOp *o, uint32_t at, const double *from, int64_t c, double *out) {
  const Value *by = op_in(o->op, 1 - at);
  *out = from[c];
  switch (o->op->kind) {
    case OP_ADD:
    case OP_SUB:
      if (o->op->kind == OP_SUB && at == 1) *out = -*out;
      if (by == t->t.other) *out += o->op->kind == OP_SUB && at == 0 ? -t->t.other_on->scale : t->t.other_on->scale;
      return true;
    case OP_MUL: *out *= by == t->t.other ? NAN : constant_at(t, by, c); return by != t->t.other;
    case OP_DIV: *out /= at == 0 && by != t->t.other ? constant_at(t, by, c) : NAN; return isfinite(*out);
    case OP_BATCHNORM: *out *= batchnorm_factor(t, o->op, c); return true;
    case OP_NEG: *out = -*out; return true;
    case OP_RELU:
    case OP_CLIP:
    case OP_ROUND:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_MIN:
    case OP_MAX: return true;
    case OP_CAST: return true;
    default: return false;
  }
}

static void find_slopes(Two *t) {
  int64_t channels = t->t.s->channels;
  for (uint32_t i = 0; i < t->t.n; i++) {
    const TailOp *o = &t->t.op[i];
    t->slope[i] = NEW_ARRAY(t->arena, double, channels);
    if (o->op == NULL || o->moves) continue;
    uint32_t at = 0;
    while (at + 1 < o->op->n_in &&
           op_in(o->op, at) != (t->t.op[o->from].op ? t->t.op[o->from].op->out[0] : t->t.s->value))
      at++;
    bool ok = t->slope[o->from] != NULL && at < 2;
    for (int64_t c = 0; ok && c < channels; c++) ok = slope_through(t, o, at, t->slope[o->from], c, &t->slope[i][c]);
    if (!ok) t->slope[i] = NULL;
  }
}

// ---- the steps

static bool find_all(Two *t, PassCtx *ctx, const Sum *sum) {
  bool ok = sumtail_open(&t->t, ctx, sum, true, t->arena) && sumtail_has_levels(&t->t);
  if (ok) {
    t->first = t->t.other_on->lo;
    t->n_other = t->t.other_on->hi - t->first + 1;
    t->at = NEW_ARRAY(t->arena, SumRuns, t->n_other);
  }
  for (int64_t j = 0; ok && j < t->n_other; j++) {
    sumtail_set_other(&t->t, t->first + j);
    ok = sumruns_find(&t->at[j], &t->t, t->n_other);
  }
  sumtail_close(&t->t);
  return ok;
}

static bool is_few(const Two *t, uint32_t op) {
  for (int64_t j = 0; j < t->n_other; j++)
    if (!t->at[j].few[op]) return false;
  return true;
}

static bool fit_all(const Two *t, uint32_t op, Levels *l) {
  l->n = 0;
  for (int64_t j = 0; j < t->n_other; j++)
    for (int64_t c = 0; c < t->t.s->channels; c++)
      for (uint32_t i = 0; i < t->at[j].runs[op][c].n; i++)
        if (!levels_add(l, t->at[j].runs[op][c].value[i])) return false;
  return levels_fit(l);
}

// ---- rewriting

static Boundaries boundaries_of(const Two *t, const Levels *l, const Runs *r) {
  const Sum *sum = t->t.s;
  const int64_t *q = l->q;
  Boundaries b = {.lo = sum->lo, .hi = sum->hi, .first = q[level_of(l, r->value[0])], .falls = r->direction < 0};
  b.at = NEW_ARRAY(t->arena, int64_t, llabs(q[level_of(l, r->value[r->n - 1])] - b.first) + 1);
  for (uint32_t i = 1; i < r->n; i++) {
    int64_t away = llabs(q[level_of(l, r->value[i])] - b.first);
    while (b.n < away) b.at[b.n++] = r->at[i];
  }
  return b;
}

// False when a channel rises for one value of the second operand and falls for another.
static bool all_boundaries(const Two *t, uint32_t op, const Levels *l, Boundaries *b) {
  for (int64_t c = 0; c < t->t.s->channels; c++) {
    bool falls = false, rises = false;
    for (int64_t j = 0; j < t->n_other; j++) {
      const Runs *r = &t->at[j].runs[op][c];
      b[c * t->n_other + j] = boundaries_of(t, l, r);
      falls = falls || r->direction < 0;
      rises = rises || r->direction > 0;
    }
    if (falls && rises) return false;
    for (int64_t j = 0; j < t->n_other; j++) b[c * t->n_other + j].falls = falls;
  }
  return true;
}

static bool find_form(const Two *t, uint32_t op, const Levels *l, Requant *r) {
  int64_t n = t->t.s->channels, *low = NEW_ARRAY(t->arena, int64_t, n), *high = NEW_ARRAY(t->arena, int64_t, n);
  double *by = NEW_ARRAY(t->arena, double, n);
  Boundaries *b = NEW_ARRAY(t->arena, Boundaries, n * t->n_other);
  if (t->slope[op] == NULL || !all_boundaries(t, op, l, b)) return false;
  for (int64_t c = 0; c < n; c++) {
    low[c] = l->least;
    high[c] = l->most;
    by[c] = t->slope[op][c] / l->grid.scale;
  }
  RequantProblem p = {.channels = n, .b = b, .low = low, .high = high, .n_other = t->n_other, .other_mul = by};
  p.other_lo = t->first + t->t.other_on->zero;
  p.target = t->t.ctx->target;
  p.forms = 1u << REQUANT_SHIFT | 1u << REQUANT_F32 | 1u << REQUANT_F64;
  return requant_find(&p, t->arena, r);
}

static void note_found(const Two *t, const Op *found, const Levels *l, const Requant *r) {
  const Sum *s = t->t.s;
  note_layer(t->t.ctx->m, found, NOTE_PROOF,
             "%u levels by %s and one of the residual part, %s over %lld sums x %lld values x %lld channels", l->n,
             requant_text(r), t->at[0].exhaustive ? "exhaustive" : "every step monotone, by bisection",
             (long long)(s->hi - s->lo + 1), (long long)t->n_other, (long long)s->channels);
}

static bool replace(const Two *t, uint32_t op, const Levels *l, Discrete *d, Value **value) {
  const Sum *sum = t->t.s;
  Requant r;
  if (!find_form(t, op, l, &r)) return false;
  Op *found = t->t.op[op].op;
  ChannelAxis channels = {sum->channels, sum->axis, sum->sum->type->rank};
  DType to = l->least >= 0 ? DT_U8 : DT_I8;
  Value *q = requant_emit(found, t->t.base, t->t.other_on->q, &r, &channels, to, t->arena);
  note_found(t, found, l, &r);
  *d = (Discrete){.q = q, .lo = l->least, .hi = l->most, .scale = l->grid.scale};
  *value = levels_float(found, d, found);
  (*value)->name = found->out[0]->name;
  value_replace(found->out[0], *value);
  return true;
}

bool thresholds_two(PassCtx *ctx, const Sum *sum, Arena *arena, Discrete *d, Value **value) {
  Two t = {.arena = arena};
  bool leads[TAIL_OPS] = {false};
  Levels l;
  if (sum->pool != NULL || !find_all(&t, ctx, sum)) return false;
  find_slopes(&t);
  for (uint32_t i = t.t.n; i-- > 1;) {
    leads[i] = !sumtail_is_needed(&t.t, i, leads);
    if (leads[i] || !t.t.op[i].two || t.t.op[i].move != NO_MOVE || t.t.op[i].whole || !is_few(&t, i)) continue;
    if (!fit_all(&t, i, &l)) continue;
    leads[i] = true;
    if (replace(&t, i, &l, d, value)) return true;
  }
  return false;
}
