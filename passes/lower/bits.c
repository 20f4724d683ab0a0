// Which values are held as bits, and the words of those whose producer stored bytes. See bits.h.
//
// One walk from the last op to the first: the users of a value are known before the value itself.
#include "passes/lower/bits.h"

#include "passes/lower/bits_kernels.h"
#include "passes/lower/bits_move.h"
#include "passes/lower/lower_conv.h"

struct Bits {
  BitsValue **of;  // by value id
  uint32_t n;
};

BitsValue *bits_of(const LowerCtx *ctx, const Value *v) {
  return ctx->bits != NULL && v->id < ctx->bits->n ? ctx->bits->of[v->id] : NULL;
}

static bool same_codes(const PlanesX *a, const PlanesX *b) {
  return a->lo == b->lo && a->step == b->step && a->planes == b->planes && a->word == b->word;
}

// ---- what one use asks for

typedef struct Want {
  PlanesX form;
  bool rows;
} Want;

static bool contraction_wants(LowerCtx *ctx, const Op *op, Want *w) {
  Plan plan = lower_plan(ctx, op);
  w->rows = op->kind == OP_CONV;
  return plan_is(&plan, "planes") && planes_x(op, ctx->target, &w->form) && w->form.group == 1;
}

// A reshape whose rows become whole pieces of its result's rows.
static bool reshape_wants(const LowerCtx *ctx, const Op *op, const Value *v, Want *w) {
  const BitsValue *y = bits_of(ctx, op_out(op, 0));
  int64_t run = v->type->dims[v->type->rank - 1];
  if (y == NULL) return false;
  *w = (Want){y->form, y->rows};
  if (y->form.channels == run) return true;
  planes_set_channels(&w->form, run);
  bool pieces = y->form.channels % run == 0 && w->form.words * w->form.word <= 2 * run;  // at least half the bits used
  return !y->rows && pieces;
}

static bool use_wants(LowerCtx *ctx, const Operand *use, Want *w) {
  const Op *op = use->op;
  if (use->slot != 0 && op->kind != OP_MAP) return false;
  if (op->kind == OP_CONV || op->kind == OP_MATMUL) return contraction_wants(ctx, op, w);
  if (op->kind == OP_RESHAPE) return reshape_wants(ctx, op, use->value, w);
  const BitsValue *y = bits_of(ctx, op_out(op, 0));
  if (y == NULL || !bits_moves(ctx, op, use->slot, &y->form)) return false;
  *w = (Want){y->form, true};
  return true;
}

// ---- values

static bool value_wants(LowerCtx *ctx, const Value *v, Want *all) {
  uint32_t uses = 0;
  *all = (Want){0};
  bool bytes = v->type->dtype == DT_I8 || v->type->dtype == DT_U8;
  if (!bytes || v->kind != VALUE_RESULT || v->type->rank == 0 || v->uses == NULL || type_count(v->type) == 0)
    return false;
  for (const Operand *u = v->uses; u != NULL; u = u->next, uses++) {
    Want w;
    if (!use_wants(ctx, u, &w) || (uses > 0 && !same_codes(&w.form, &all->form))) return false;
    w.rows = w.rows || all->rows;
    *all = w;
  }
  return uses == v->n_uses && all->form.channels == v->type->dims[v->type->rank - 1];
}

void bits_analyse(LowerCtx *ctx, const Func *f) {
  Bits *bits = NEW(ctx->m->arena, Bits);
  bits->n = ctx->m->n_values;
  bits->of = NEW_ARRAY(ctx->m->arena, BitsValue *, bits->n + 1);
  ctx->bits = bits;
  for (const Op *op = f->last; op != NULL; op = op->prev) {
    Want w;
    if (op->n_out == 0 || !value_wants(ctx, op_out(op, 0), &w)) continue;
    BitsValue *held = NEW(ctx->m->arena, BitsValue);
    *held = (BitsValue){.form = w.form, .rows = w.rows};
    bits->of[op_out(op, 0)->id] = held;
  }
  for (const Op *op = f->first; op != NULL; op = op->next) {  // the reshape of words is the same words
    BitsValue *held = op->kind == OP_RESHAPE ? bits_of(ctx, op_in(op, 0)) : NULL;
    if (held != NULL) bits->of[op_out(op, 0)->id] = held;
  }
}

PBuf *bits_make(LowerCtx *ctx, const Value *v) {
  BitsValue *held = bits_of(ctx, v);
  int64_t count = type_count(v->type) / held->form.channels * planes_row(&held->form);
  return held->words = lower_work(ctx, "bits", type_tensor(ctx->m->types, planes_type(&held->form), 1, &count));
}

void bits_finish(LowerCtx *ctx, const Op *op) {
  BitsValue *held = op->n_out > 0 ? bits_of(ctx, op_out(op, 0)) : NULL;
  if (held == NULL || held->words != NULL || ctx->fused[op_out(op, 0)->id]) return;
  held->words = planes_pack(ctx, op, lower_buf(ctx, op_out(op, 0)), &held->form);
}

bool bits_lower(LowerCtx *ctx, const Op *op) {
  const BitsValue *y = op->n_out > 0 ? bits_of(ctx, op_out(op, 0)) : NULL;
  if (y == NULL) return false;
  if (y->words != NULL) return true;  // made together with its operand
  bool moves = op->kind == OP_RESHAPE || op->kind == OP_MAXPOOL || op->kind == OP_PAD || op->kind == OP_MAP;
  for (uint32_t i = 0; i < op->n_in && moves; i++) {
    if (bits_of(ctx, op_in(op, i)) == NULL) continue;
    bits_move(ctx, op);
    return true;
  }
  return (op->kind == OP_MAP || (op_info(op->kind)->traits & TRAIT_ELTWISE) != 0) && bits_map(ctx, op);
}
