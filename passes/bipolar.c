// Values of -1 and +1. See bipolar.h.
//
// Such a value is made by a choice between constants of -1 and +1 (a select, alone or at the end of a map or post
// function) and moved by ops that make no new values.
#include "passes/bipolar.h"

#define MOST_STEPS 1000

static bool const_is_bipolar(const Value *v) {
  if (!value_is_const(v) || v->type->dtype != DT_I8) return false;
  const Const *c = v->constant;
  if (c->gen == CONST_SPLAT) return c->splat_i == 1 || c->splat_i == -1;
  if (c->gen != CONST_BYTES || c->released) return false;
  const int8_t *q = c->bytes;
  for (int64_t i = 0, n = type_count(v->type); i < n; i++)
    if (q[i] != 1 && q[i] != -1) return false;
  return true;
}

// The value outside of the body that one of its values stands for; parameter i is operand first + i.
static const Value *outside(const Op *op, const Value *v, int64_t first) {
  if (v->kind != VALUE_ARG) return v;
  int64_t i = first + v->index;
  return i < 0 ? NULL : op_in(op, (uint32_t)i);
}

static bool chooses(const Op *op, const Op *select, int64_t first) {
  for (uint32_t i = 1; i < 3; i++) {
    const Value *v = outside(op, op_in(select, i), first);
    if (v == NULL || !const_is_bipolar(v)) return false;
  }
  return true;
}

static bool body_chooses(const Op *op, const Func *body, int64_t first) {
  const Value *y = body->results[0];
  return y->kind == VALUE_RESULT && y->op->kind == OP_SELECT && chooses(op, y->op, first);
}

// -1: no; 0: yes; 1: when operand 0 is.
static int makes_bipolar(const Op *op) {
  switch (op->kind) {
    case OP_SELECT: return op_in(op, 1)->kind == VALUE_CONST && chooses(op, op, 0) ? 0 : -1;
    case OP_MAP: return body_chooses(op, op_func(op, A_MAP_body), 0) ? 0 : -1;
    case OP_PAD: {
      double fill = op_float(op, A_PAD_value);
      return op_enum(op, A_PAD_mode) != PAD_CONSTANT || fill == 1 || fill == -1 ? 1 : -1;
    }
    case OP_MAXPOOL:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
    case OP_TILE: return 1;
    default: break;
  }
  const Func *post = (op_info(op->kind)->traits & TRAIT_POST) ? op_post(op) : NULL;
  // Parameter 0 is the sum; the others are the operands after the fixed ones.
  return post != NULL && body_chooses(op, post, (int64_t)op_info(op->kind)->max_in - 1) ? 0 : -1;
}

bool value_is_bipolar(const Value *v) {
  for (uint32_t step = 0; v->type->dtype == DT_I8 && step < MOST_STEPS; step++) {
    if (value_is_const(v)) return const_is_bipolar(v);
    if (v->kind != VALUE_RESULT || v->index != 0) return false;
    int how = makes_bipolar(v->op);
    if (how <= 0) return how == 0;
    v = op_in(v->op, 0);
  }
  return false;
}
