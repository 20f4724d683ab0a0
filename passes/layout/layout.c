// Pass layout: channels-last inside convolutional networks; transposes become bookkeeping and mostly vanish.
//
//   %0 = conv %x, @w {pads = [1,1,1,1]} : f32[1,16,8,8]          # nchw
//   %1 = relu %0 : f32[1,16,8,8]
//   %2 = conv %1, @v : f32[1,4,8,8]
//   => one transpose of %x, nhwc convs and relu, one transpose of the last result
//
// Every value of the entry function is seen as a stored tensor (`base`) read through a permutation:
// logical dim i is base dim perm[i]. A transpose only composes permutations, ops that treat axes alike run on the bases
// with their axis attributes mapped, contractions and poolings ask for the channels-last base, everything else for the
// identity. A real transpose op appears only where a base with another permutation is wanted; each is made once.
#include "passes/layout/layout.h"

#include <string.h>

#include "passes/graph_util.h"
#include "passes/price/tiles.h"

typedef struct View {
  Value *base;
  Perm perm;
} View;

typedef struct Made Made;  // a base already made for a value by a real transpose
struct Made {
  Perm perm;
  Value *base;
  Made *next;
};

struct Layout {
  PassCtx *ctx;
  Module *m;
  Func *f;
  Op *at;          // the op being rewritten: new ops go before it
  uint32_t n_old;  // values that existed before the pass
  View *view;      // by value id, of old values; base NULL: identity
  Made **made;
  bool changed;
};

Perm perm_identity(uint32_t rank) {
  Perm p = {.rank = rank};
  for (uint32_t i = 0; i < rank; i++) p.at[i] = (uint8_t)i;
  return p;
}

// Channels last: logical 0 (N) is base 0, logical 1 (C) is the last base dim, spatial dims follow N.
Perm perm_channels_last(uint32_t rank) {
  Perm p = perm_identity(rank);
  if (rank < 3) return p;
  p.at[1] = (uint8_t)(rank - 1);
  for (uint32_t i = 2; i < rank; i++) p.at[i] = (uint8_t)(i - 1);
  return p;
}

bool perm_equal(const Perm *a, const Perm *b) { return a->rank == b->rank && memcmp(a->at, b->at, a->rank) == 0; }

bool perm_is_identity(const Perm *p) {
  for (uint32_t i = 0; i < p->rank; i++)
    if (p->at[i] != i) return false;
  return true;
}

static View view_of(const Layout *l, Value *v) {
  if (v->id < l->n_old && l->view[v->id].base) return l->view[v->id];
  return (View){v, perm_identity(v->type->rank)};
}

Perm layout_perm(const Layout *l, Value *v) { return view_of(l, v).perm; }

static Value *emit_transpose(Layout *l, Value *x, const Perm *q, const Loc *loc) {
  int64_t dims[MAX_RANK], perm[MAX_RANK];
  for (uint32_t j = 0; j < q->rank; j++) {
    dims[j] = x->type->dims[q->at[j]];
    perm[j] = q->at[j];
  }
  const Type *t = type_with_dims(l->m->types, x->type, q->rank, dims);
  if (value_is_const(x) && dtype_info(t->dtype)->bits % 8 == 0) return const_permuted(l->m, x->constant, perm);
  Op *op = op_new(l->f, l->at, OP_TRANSPOSE, 1, &x, loc);
  op->out[0]->type = t;
  op_set_ints(op, A_TRANSPOSE_perm, q->rank, perm);
  return op->out[0];
}

static const Loc *value_loc(const Layout *l, const Value *v) {
  if (v->kind == VALUE_RESULT) return v->op->loc;
  return l->at ? l->at->loc : NULL;
}

Value *layout_base(Layout *l, Value *v, const Perm *want) {
  View view = view_of(l, v);
  if (perm_equal(&view.perm, want)) return view.base;
  for (Made *m = v->id < l->n_old ? l->made[v->id] : NULL; m; m = m->next)
    if (perm_equal(&m->perm, want)) return m->base;
  Perm q = {.rank = want->rank};  // base' dim want[i] is logical i, which is base dim perm[i]
  for (uint32_t i = 0; i < want->rank; i++) q.at[want->at[i]] = view.perm.at[i];
  Value *base = emit_transpose(l, view.base, &q, value_loc(l, v));
  if (v->id < l->n_old && v->kind != VALUE_CONST) {
    Made *m = NEW(l->ctx->arena, Made);
    *m = (Made){*want, base, l->made[v->id]};
    l->made[v->id] = m;
  }
  return base;
}

Value *layout_plain(Layout *l, Value *v) {
  Perm id = perm_identity(v->type->rank);
  return layout_base(l, v, &id);
}

void layout_set(Layout *l, Value *v, Value *base, const Perm *perm) {
  if (base != v && base->kind == VALUE_RESULT && !base->name) base->name = v->name;
  l->view[v->id] = (View){base, *perm};
  l->changed = true;
}

const Type *layout_type(Layout *l, const Type *logical, const Perm *perm) {
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < perm->rank; i++) dims[perm->at[i]] = logical->dims[i];
  return type_with_dims(l->m->types, logical, perm->rank, dims);
}

Op *layout_op(Layout *l, const Op *old, uint32_t n, Value *const *in) {
  Op *op = op_new(l->f, l->at, old->kind, n, in, old->loc);
  op_copy_attrs(op, old);
  return op;
}

Module *layout_module(const Layout *l) { return l->m; }
Op *layout_at(const Layout *l) { return l->at; }

void layout_read(Layout *l, Const *c) {
  if (l->ctx->opt && l->ctx->opt->release) const_release_read(l->m, c);
}

// Nothing but element-wise ops of one operand between the value and the caller.
static bool leads_out(const Value *v) {
  for (const Op *user = value_sole_user(v); user != NULL; user = value_sole_user(v)) {
    if (!(op_info(user->kind)->traits & TRAIT_ELTWISE) || user->n_in != 1) return false;
    v = user->out[0];
  }
  return value_is_result_of_func(v) && v->n_uses == 1;
}

// A layer alone in a graph that can work on planes: two transposes would cost as much as it, or too much beside it.
static bool is_alone(const Layout *l, const Op *op) {
  return op_in(op, 0)->kind == VALUE_ARG && strategy_planar_applies(op, l->ctx->target) && leads_out(op->out[0]);
}

bool layout_stays_first(const Layout *l, const Op *op) {
  if (op->kind != OP_CONV) return false;
  const Plan *plan = op_plan(op);
  if (plan != NULL) return strategy_drops_terms(plan->strategy) || strcmp(plan->strategy, "planar") == 0;
  return is_alone(l, op) || (!l->ctx->opt->strict_fp && price_stays_first(op, l->ctx->target));
}

// An op no rule speaks for: its operands are made plain in place.
static void op_plain(Layout *l, Op *op) {
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *v = op->in[i].value;
    if (!v) continue;
    Value *plain = layout_plain(l, v);
    if (plain != v) op_set_operand(op, i, plain);
  }
}

static bool any_permuted(const Layout *l, const Op *op) {
  for (uint32_t i = 0; i < op->n_in; i++) {
    if (!op->in[i].value) continue;
    Perm p = view_of(l, op->in[i].value).perm;
    if (!perm_is_identity(&p)) return true;
  }
  return false;
}

static void func_layout(Layout *l) {
  for (Op *op = l->f->first, *next; op; op = next) {
    next = op->next;
    l->at = op;
    const LayoutRule *rule = layout_rule(op->kind);
    bool wanted = rule && (rule->always || any_permuted(l, op));
    if (!wanted || !rule->apply(l, op)) op_plain(l, op);
  }
  l->at = NULL;
  for (uint32_t i = 0; i < l->f->n_results; i++) {
    Value *plain = layout_plain(l, l->f->results[i]);
    if (plain != l->f->results[i]) func_set_result(l->f, i, plain);
  }
}

PassResult pass_layout(PassCtx *ctx) {
  Layout l = {.ctx = ctx, .m = ctx->m, .f = ctx->m->funcs.at[0], .n_old = ctx->m->n_values};
  l.view = NEW_ARRAY(ctx->arena, View, l.n_old);
  l.made = NEW_ARRAY(ctx->arena, Made *, l.n_old);
  func_layout(&l);
  if (!l.changed) return PASS_SAME;
  graph_drop_dead(l.f);
  return PASS_CHANGED;
}
