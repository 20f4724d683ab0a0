// The forms of requant.h as element-wise ops. See requant_emit.h.
#include "passes/recover/requant_emit.h"

#include "passes/graph_util.h"
#include "passes/recover/quantised.h"

typedef struct Emit {
  Op *at;
  Module *m;
  const Requant *r;
  const ChannelAxis *c;
  Value *other;
  DType t;  // of the arithmetic
  double *scratch;
} Emit;

static Value *constant(const Emit *e, const double *v) {
  return channel_const(e->m, e->t, e->c->channels, e->c->axis, e->c->rank, v);
}

static Value *whole_constant(const Emit *e, const int64_t *v) {
  for (int64_t i = 0; i < e->c->channels; i++) e->scratch[i] = (double)v[i];
  return constant(e, e->scratch);
}

static bool any(const double *v, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (v[i] != 0) return true;
  return false;
}

static bool tightens(const Emit *e, const int64_t *limit, int64_t range) {
  for (int64_t c = 0; c < e->c->channels; c++)
    if (limit[c] != range) return true;
  return false;
}

static Value *with(const Emit *e, OpKind kind, Value *x, Value *by) { return emit_with(e->at, kind, x, by, e->at); }

static Value *rounded(const Emit *e, Value *y) { return graph_emit(e->at, OP_ROUND, 1, &y, y->type, e->at->loc); }

static Value *emit_float(const Emit *e, Value *sum, DType to) {
  const Requant *r = e->r;
  int64_t n = e->c->channels;
  Value *x = emit_cast_to(e->at, sum, e->t, e->at), *y = with(e, OP_MUL, x, constant(e, r->mul));
  if (r->form == REQUANT_SPLIT || r->other_mul != NULL) {
    Value *by = r->other_mul ? emit_cast_to(e->at, e->other, e->t, e->at) : x;
    Value *low = with(e, OP_MUL, by, constant(e, r->other_mul ? r->other_mul : r->mul_low));
    if (any(r->add, n)) low = with(e, OP_ADD, low, constant(e, r->add));
    y = with(e, OP_ADD, y, low);
  } else if (any(r->add, n)) {
    y = with(e, OP_ADD, y, constant(e, r->add));
  }
  if (r->zero != 0)
    y = with(e, OP_ADD, rounded(e, y), const_splat(e->m, type_scalar(e->m->types, e->t), (double)r->zero));
  // Whole limits: clamping before rounding is the same. The cast saturates.
  if (tightens(e, r->low, dtype_min(to))) y = emit_limit(e->at, OP_GREATER, y, whole_constant(e, r->low));
  if (tightens(e, r->high, dtype_max(to))) y = emit_limit(e->at, OP_LESS, y, whole_constant(e, r->high));
  return emit_cast_to(e->at, r->zero == 0 ? rounded(e, y) : y, to, e->at);
}

static Value *limited(const Emit *e, Value *y, DType to) {
  Emit ints = *e;
  ints.t = DT_I32;
  y = with(e, OP_MAX, y, whole_constant(&ints, e->r->low));
  y = with(e, OP_MIN, y, whole_constant(&ints, e->r->high));
  return emit_cast_to(e->at, y, to, e->at);
}

// The level in the low word of what the sum becomes: rounded by the sum with a large number, in the same step where
// summands are whole.
static Value *emit_word(const Emit *e, Value *sum, DType to) {
  const Requant *r = e->r;
  double rounder = r->form == REQUANT_WHOLE ? REQUANT_ROUNDER : 0;
  for (int64_t c = 0; c < e->c->channels; c++) e->scratch[c] = r->add[c] + rounder;
  Value *x = emit_cast_to(e->at, sum, DT_F64, e->at), *in[3] = {x, constant(e, r->mul), constant(e, e->scratch)};
  Value *y = graph_emit(e->at, OP_FMA, 3, in, x->type, e->at->loc);
  if (rounder == 0) y = with(e, OP_ADD, y, const_splat(e->m, type_scalar(e->m->types, DT_F64), REQUANT_ROUNDER));
  y = graph_emit(e->at, OP_LOW_WORD, 1, &y, type_with_dtype(e->m->types, y->type, DT_I32), e->at->loc);
  if (r->zero != 0) y = with(e, OP_ADD, y, const_splat_int(e->m, type_scalar(e->m->types, DT_I32), r->zero));
  return limited(e, y, to);
}

static Value *emit_shift(const Emit *e, Value *sum, DType to) {
  const Requant *r = e->r;
  if (sum->type->dtype != DT_I32) sum = emit_cast_to(e->at, sum, DT_I32, e->at);
  Value *y = with(e, OP_MUL, sum, constant(e, r->mul));
  if (r->other_mul != NULL) {
    Value *part = with(e, OP_MUL, emit_cast_to(e->at, e->other, DT_I32, e->at), constant(e, r->other_mul));
    y = with(e, OP_ADD, y, part);
  }
  if (any(r->add, e->c->channels)) y = with(e, OP_ADD, y, constant(e, r->add));
  return limited(e, with(e, OP_SHR, y, whole_constant(e, r->right)), to);
}

// The high word of the sum first: what is left of the shift is one of 32 bits.
static Value *emit_wide(const Emit *e, Value *sum, DType to) {
  const Requant *r = e->r;
  Emit ints = *e;
  ints.t = DT_I32;
  Value *y = with(e, OP_MUL, emit_cast_to(e->at, sum, DT_I64, e->at), constant(e, r->mul));
  if (r->other_mul != NULL) {
    Value *part = with(e, OP_MUL, emit_cast_to(e->at, e->other, DT_I64, e->at), constant(e, r->other_mul));
    y = with(e, OP_ADD, y, part);
  }
  if (any(r->add, e->c->channels)) y = with(e, OP_ADD, y, constant(e, r->add));
  y = with(e, OP_SHR, y, const_splat_int(e->m, type_scalar(e->m->types, DT_I64), 32));
  y = emit_cast_to(e->at, y, DT_I32, e->at);
  int64_t *left = NEW_ARRAY(e->m->arena, int64_t, e->c->channels), some = 0;
  for (int64_t c = 0; c < e->c->channels; c++) some |= left[c] = r->right[c] - 32;
  if (some != 0) y = with(&ints, OP_SHR, y, whole_constant(&ints, left));
  return limited(e, y, to);
}

Value *requant_emit(Op *at, Value *sum, Value *other, const Requant *r, const ChannelAxis *channels, DType to,
                    Arena *arena) {
  Emit e = {.at = at, .m = at->func->module, .r = r, .c = channels, .other = other};
  bool is_double = r->form == REQUANT_F64 || r->form == REQUANT_WHOLE;
  e.t = r->form == REQUANT_SHIFT ? DT_I32 : r->form == REQUANT_WIDE ? DT_I64 : is_double ? DT_F64 : DT_F32;
  e.scratch = NEW_ARRAY(arena, double, channels->channels);
  if (r->form == REQUANT_WHOLE || (r->form == REQUANT_F64 && r->word)) return emit_word(&e, sum, to);
  if (r->form == REQUANT_WIDE) return emit_wide(&e, sum, to);
  return r->form == REQUANT_SHIFT ? emit_shift(&e, sum, to) : emit_float(&e, sum, to);
}

int64_t width_of_range(int64_t lo, int64_t hi) {
  int64_t bits = 8;
  while (bits < 64 && (lo < -(INT64_C(1) << (bits - 1)) || hi >= INT64_C(1) << (bits - 1))) bits *= 2;
  return bits;
}
