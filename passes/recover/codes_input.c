// The input of a few-valued layer as bytes. See codes_layer.h.
//
//   %2 = select(%1 > 0.65885, 1.0, select(%1 > 0, 0.3177, 0.0)); %3 = maxpool %2
//   => %2 = select(%1 > 0.65885, 2, select(%1 > 0, 1, 0)) : u8; %3 = maxpool %2 : u8     places of the values
//      %4 = select(%3 >= 2, 39, select(%3 >= 1, 12, 0)) : i8                             a term's codes
//
// The thresholds are those of the float the values were made from, found again by codes_steps_of, so the float values
// are not needed; data movement between them and the layer moves bytes. Input of another kind is compared with its
// values.
#include "passes/graph_util.h"
#include "passes/recover/codes_layer.h"

enum { PATH = 8 };  // data movement that is followed

typedef struct Codes {
  const int16_t *of;  // by place of the value among those of x
  DType type;
} Codes;

static int32_t place_of(const CodedLayer *l, double v) {
  for (uint32_t i = 0; i < l->n; i++)
    if (l->v[i] == v) return (int32_t)i;
  return -1;
}

// The code of what lies past each threshold, where it changes. Thresholds of places (start NULL) are 1, 2, ...
static Value *emit_choice(CodedLayer *l, Value *x, uint32_t n, const float *start, const int16_t *code, DType type) {
  Module *m = l->m;
  const Type *one = type_scalar(m->types, type), *place = type_scalar(m->types, DT_U8);
  const Type *past = type_with_dtype(m->types, x->type, DT_BOOL);
  Value *q = const_splat_int(m, one, code[0]);
  for (uint32_t i = 1; i < n; i++) {
    if (code[i] == code[i - 1]) continue;
    Value *cond = start ? codes_past(l->op, x, start[i]) : NULL, *at[2] = {x, const_splat_int(m, place, i)};
    if (cond == NULL) cond = graph_emit(l->op, OP_GREATER_EQUAL, 2, at, past, l->op->loc);
    Value *in[3] = {cond, const_splat_int(m, one, code[i]), q};
    q = graph_emit(l->op, OP_SELECT, 3, in, type_with_dtype(m->types, x->type, type), l->op->loc);
  }
  return q;
}

// From the float that x is a function of, when it is one by few steps.
static Value *emit_from_source(CodedLayer *l, Value *x, const Codes *c) {
  Steps s;
  double cost;
  bool varies = false;
  int16_t code[STEPS_MAX];
  Value *source = codes_source(l->m, l->sources, x);
  if (source == NULL || source->type->dtype != DT_F32 || !codes_steps_of(l->ctx, x, source, &s, &cost)) return NULL;
  for (uint32_t i = 0; i < s.n; i++) {
    int32_t at = place_of(l, s.value[i]);
    if (at < 0) return NULL;
    code[i] = c->of[at];
    varies = varies || code[i] != code[0];
  }
  return !varies ? NULL : emit_choice(l, source, s.n, s.start, code, c->type);
}

static Value *emit_from_value(CodedLayer *l, Value *x, const Codes *c) {
  float start[TERMS_VALUES];
  Value *q = emit_from_source(l, x, c);
  for (uint32_t i = 0; i < l->n; i++) start[i] = (float)l->v[i];
  return q != NULL ? q : emit_choice(l, x, l->n, start, c->of, c->type);
}

// The same movement of codes. A maximum of codes is the code of the maximum, as codes rise with the values.
static Value *emit_moved(CodedLayer *l, const Op *op, Value *q) {
  Op *now = op_new(l->op->func, l->op, op->kind, 1, &q, op->loc);
  op_copy_attrs(now, op);
  for (uint32_t i = 0; i < op->n_out; i++) now->out[i]->type = op->out[i]->type;
  now->out[0]->type = type_with_dtype(l->m->types, op->out[0]->type, q->type->dtype);
  return now->out[0];
}

static bool is_moved(const Value *x) {
  if (x->kind != VALUE_RESULT || x->index != 0) return false;
  switch (x->op->kind) {
    case OP_MAXPOOL: return x->op->out[1]->n_uses == 0;
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE: return true;
    default: return false;
  }
}

static Value *emit_coded(CodedLayer *l, const Codes *c) {
  const Op *path[PATH];
  uint32_t n = 0;
  Value *x = op_in(l->op, 0);
  for (; n < PATH && is_moved(x); x = op_in(path[n - 1], 0)) path[n++] = x->op;
  Value *q = emit_from_value(l, x, c);
  while (n > 0) q = emit_moved(l, path[--n], q);
  return q;
}

// Places of values, from which the codes of every term are chosen.
static Value *emit_places(CodedLayer *l) {
  int16_t place[TERMS_VALUES];
  for (uint32_t i = 0; i < l->n; i++) place[i] = (int16_t)i;
  if (l->places == NULL) l->places = emit_coded(l, &(Codes){place, DT_U8});
  return l->places;
}

Value *codes_input(CodedLayer *l, const Terms *t, uint32_t k) {
  const int16_t *code = t->code[k];
  bool rises = true, byte = true;
  for (uint32_t i = 0; i < l->n; i++) {
    rises = rises && (i == 0 || code[i] >= code[i - 1]);
    byte = byte && code[i] <= 127;
  }
  DType type = byte ? DT_I8 : DT_U8;
  if (t->n == 1 && rises) return emit_coded(l, &(Codes){code, type});
  return emit_choice(l, emit_places(l), l->n, NULL, code, type);
}
