// Element-wise groups: the body functions of map and post. See fuse.c.
//
// A body is a function of rank-0 values; each op in it is ELTWISE. Its parameters are the group's outside operands,
// each once; constants with one value become rank-0 constants inside the body.
#include <string.h>

#include "ir/base/map.h"
#include "passes/fuse/fuse.h"
#include "passes/graph_util.h"

#define MAX_OPS 48     // ops in one body
#define MAX_PARAMS 10  // outside operands of one body

// Elements below a byte stay outside of groups: only casts of their own read and write them.
static bool is_eltwise(const Op *op) {
  if (!(op_info(op->kind)->traits & TRAIT_ELTWISE)) return false;
  for (uint32_t i = 0; i < op->n_in; i++)
    if (dtype_info(op_in(op, i)->type->dtype)->bits < 8) return false;
  return dtype_info(op_out(op, 0)->type->dtype)->bits >= 8;
}

// A group under construction: ops in topological order are found by walking the function.
typedef struct Group {
  Op *ops[MAX_OPS];  // root first, then backwards
  uint32_t n;
  Value *params[MAX_PARAMS];
  uint32_t n_params;
} Group;

static bool group_has(const Group *g, const Op *op) {
  for (uint32_t i = 0; i < g->n; i++)
    if (g->ops[i] == op) return true;
  return false;
}

static bool used_only_inside(const Group *g, const Value *v) {
  if (v->n_uses > 2 * MAX_OPS) return false;
  uint32_t inside = 0;
  for (const Operand *o = v->uses; o; o = o->next) inside += group_has(g, o->op);
  return inside == v->n_uses;
}

// A splat constant lives inside the body and costs no parameter.
static bool is_inline_const(Module *m, const Value *v) {
  double x;
  return value_is_splat(m, v, &x);
}

// Outside operands of the group, each once. False when there are too many.
static bool group_params(Module *m, Group *g) {
  g->n_params = 0;
  for (uint32_t k = g->n; k-- > 0;)
    for (uint32_t i = 0; i < g->ops[k]->n_in; i++) {
      Value *v = op_in(g->ops[k], i);
      if ((v->kind == VALUE_RESULT && group_has(g, v->op)) || is_inline_const(m, v)) continue;
      uint32_t j = 0;
      while (j < g->n_params && g->params[j] != v) j++;
      if (j < g->n_params) continue;
      if (g->n_params == MAX_PARAMS) return false;
      g->params[g->n_params++] = v;
    }
  return true;
}

static bool joins(Module *m, Group *g, Op *op, const Type *shape) {
  if (!is_eltwise(op) || g->n == MAX_OPS || !type_same_shape(op->out[0]->type, shape)) return false;
  if (!used_only_inside(g, op->out[0])) return false;
  g->ops[g->n++] = op;
  if (group_params(m, g)) return true;
  g->n--;
  return false;
}

// Operand producers not yet in the group, nearest first. A producer whose users are not all inside yet may join later,
// so the walk goes backwards in program order, looking only at ops that feed the group.
static void group_grow(Module *m, Group *g) {
  const Type *shape = g->ops[0]->out[0]->type;
  for (uint32_t k = 0; k < g->n; k++)
    for (uint32_t i = 0; i < g->ops[k]->n_in; i++) {
      Value *v = op_in(g->ops[k], i);
      if (v->kind != VALUE_RESULT || group_has(g, v->op)) continue;
      if (joins(m, g, v->op, shape)) k = UINT32_MAX;  // start over: earlier refusals may now pass
      if (k == UINT32_MAX) break;
    }
}

static const char *fresh_name(Module *m, const char *stem) {
  for (uint32_t i = m->funcs.n;; i++) {
    char text[32];
    snprintf(text, sizeof text, "%s%u", stem, i);
    if (!module_func(m, text)) return intern(m->names, text);
  }
}

// Order of ops by id is not topological after rewrites; program order is. Sorts the group by walking from the earliest.
static void group_sort(Group *g, Func *f) {
  Op *sorted[MAX_OPS];
  uint32_t n = 0;
  // The root is the last in program order; walk backwards from it until all were met.
  for (Op *op = g->ops[0]; op && n < g->n; op = op->prev)
    if (group_has(g, op)) sorted[n++] = op;
  QCC_CHECK(n == g->n, "element-wise group of function %s is not in order", f->name);
  for (uint32_t i = 0; i < n; i++) g->ops[i] = sorted[n - 1 - i];
}

static const Type *scalar_of(Module *m, const Type *t) { return type_scalar(m->types, t->dtype); }

static Value *body_operand(Module *m, Map *to, Value *v) {
  Value *in = map_get(to, v->id + 1u);
  if (in) return in;
  QCC_CHECK(is_inline_const(m, v), "operand of a body is neither parameter nor constant");
  const Type *t = scalar_of(m, v->type);
  return dtype_is_float(t->dtype) ? const_splat(m, t, const_f(m, v->constant, 0))
                                  : const_splat_int(m, t, const_i(m, v->constant, 0));
}

// Copies ELTWISE ops (in order) into a body function, operands through `to`.
static void body_copy(Func *body, Map *to, Op *op) {
  Module *m = body->module;
  Value *in[8];
  for (uint32_t i = 0; i < op->n_in; i++) in[i] = body_operand(m, to, op_in(op, i));
  Op *c = op_new(body, NULL, op->kind, op->n_in, in, op->loc);
  op_copy_attrs(c, op);
  c->out[0]->type = scalar_of(m, op->out[0]->type);
  map_set(to, op->out[0]->id + 1u, c->out[0]);
}

static Func *group_body(Module *m, Group *g, Arena *scratch) {
  const Type *types[MAX_PARAMS];
  for (uint32_t i = 0; i < g->n_params; i++) types[i] = scalar_of(m, g->params[i]->type);
  Func *body = func_new(m, fresh_name(m, "map"), g->n_params, types);
  Map *to = map_new(scratch);
  for (uint32_t i = 0; i < g->n_params; i++) map_set(to, g->params[i]->id + 1u, body->args[i]);
  for (uint32_t k = 0; k < g->n; k++) body_copy(body, to, g->ops[k]);
  Value *result = map_get(to, g->ops[g->n - 1]->out[0]->id + 1u);
  func_set_results(body, 1, &result);
  return body;
}

bool fuse_maps(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->last, *prev; op; op = prev) {
    prev = op->prev;
    if (!is_eltwise(op) || op->out[0]->n_uses == 0) continue;
    Group g = {.ops = {op}, .n = 1};
    if (!group_params(ctx->m, &g)) continue;
    group_grow(ctx->m, &g);
    if (g.n < 2 || !group_params(ctx->m, &g) || g.n_params == 0) continue;
    group_sort(&g, f);
    group_params(ctx->m, &g);
    ArenaMark mark = arena_mark(ctx->arena);
    Func *body = group_body(ctx->m, &g, ctx->arena);
    arena_reset(ctx->arena, mark);
    Op *map = op_new(f, op, OP_MAP, g.n_params, g.params, NULL);
    op_set_func(map, A_MAP_body, body);
    map->out[0]->type = op->out[0]->type;
    map->out[0]->name = op->out[0]->name;
    for (uint32_t k = 0; k < g.n; k++) op_add_loc(map, g.ops[k]);
    value_replace(op->out[0], map->out[0]);
    for (uint32_t k = g.n; k-- > 0;) op_unlink(g.ops[k]);
    prev = map->prev;
    changed = true;
  }
  return changed;
}

// ---- post

// The consumer's own scalar code as a function of its operands: a map's body, or one element-wise op.
static void post_inline(Module *m, Func *post, Map *to, Op *user) {
  if (user->kind != OP_MAP) {
    body_copy(post, to, user);
    return;
  }
  Func *body = op_func(user, A_MAP_body);
  for (uint32_t i = 0; i < body->n_args; i++) map_set(to, body->args[i]->id + 1u, body_operand(m, to, op_in(user, i)));
  for (Op *op = body->first; op; op = op->next) body_copy(post, to, op);
  map_set(to, user->out[0]->id + 1u, body_operand(m, to, body->results[0]));
}

typedef struct PostBuild {
  Value *extra[MAX_PARAMS];  // operands past the fixed ones
  uint32_t n;
} PostBuild;

static bool post_operands(Module *m, const Op *op, const Op *user, PostBuild *b) {
  b->n = op_n_post(op);
  for (uint32_t i = 0; i < b->n; i++) b->extra[i] = op_in(op, op_info(op->kind)->max_in + i);
  for (uint32_t i = 0; i < user->n_in; i++) {
    Value *v = op_in(user, i);
    if (v == op->out[0] || is_inline_const(m, v)) continue;
    uint32_t j = 0;
    while (j < b->n && b->extra[j] != v) j++;
    if (j < b->n) continue;
    if (b->n == MAX_PARAMS) return false;
    b->extra[b->n++] = v;
  }
  return true;
}

static Func *post_body(PassCtx *ctx, Op *op, Op *user, const PostBuild *b) {
  Module *m = ctx->m;
  const Type *types[MAX_PARAMS + 1];
  Func *old = op_post(op);
  types[0] = old ? old->args[0]->type : scalar_of(m, op->out[0]->type);
  for (uint32_t i = 0; i < b->n; i++) types[i + 1] = scalar_of(m, b->extra[i]->type);
  Func *post = func_new(m, fresh_name(m, "post"), b->n + 1, types);
  Map *to = map_new(ctx->arena);
  Value *raw = post->args[0];
  if (old) {
    for (uint32_t i = 0; i < old->n_args; i++) map_set(to, old->args[i]->id + 1u, post->args[i]);
    for (Op *o = old->first; o; o = o->next) body_copy(post, to, o);
    raw = map_get(to, old->results[0]->id + 1u);
  }
  map_set(to, op->out[0]->id + 1u, raw);
  for (uint32_t i = 0; i < b->n; i++) map_set(to, b->extra[i]->id + 1u, post->args[i + 1]);
  post_inline(m, post, to, user);
  Value *result = map_get(to, user->out[0]->id + 1u);
  func_set_results(post, 1, &result);
  return post;
}

// The only user of the contraction's result, when every use is in that one op.
static Op *single_user(const Value *v) {
  if (!v->uses) return NULL;
  Op *op = v->uses->op;
  uint32_t n = 0;
  for (const Operand *o = v->uses; o && o->op == op; o = o->next) n++;
  return n == v->n_uses ? op : NULL;
}

// The fused op, standing where the user stood, or NULL.
static Op *fuse_post(PassCtx *ctx, Op *op) {
  Op *user = single_user(op->out[0]);
  if (!user || (!is_eltwise(user) && user->kind != OP_MAP) || user->func != op->func) return NULL;
  if (!type_same_shape(user->out[0]->type, op->out[0]->type)) return NULL;
  PostBuild b;
  if (!post_operands(ctx->m, op, user, &b)) return NULL;
  const OpInfo *info = op_info(op->kind);
  Func *post = post_body(ctx, op, user, &b);
  Value *in[MAX_PARAMS + 4];
  for (uint32_t i = 0; i < info->max_in; i++) in[i] = op_in(op, i);
  for (uint32_t i = 0; i < b.n; i++) in[info->max_in + i] = b.extra[i];
  Op *now = op_new(op->func, user, op->kind, info->max_in + b.n, in, op->loc);
  op_copy_attrs(now, op);
  op_set_func(now, info->post, post);
  op_add_loc(now, user);
  now->out[0]->type = user->out[0]->type;
  now->out[0]->name = user->out[0]->name;
  value_replace(user->out[0], now->out[0]);
  op_unlink(user);
  op_unlink(op);
  return now;
}

// Forwards: of two contractions added together the later one takes the sum, as its operand the earlier is ready then.
static bool later_contraction_feeds(const Op *op) {
  const Op *user = single_user(op->out[0]);
  if (!user || user->n_in < 2) return false;
  for (uint32_t i = 0; i < user->n_in; i++) {
    const Value *v = op_in(user, i);
    if (!v || v->kind != VALUE_RESULT || v->op == op || v->op->func != op->func) continue;
    if (!(op_info(v->op->kind)->traits & TRAIT_POST) || single_user(v) != user) continue;
    if (!type_same_shape(v->type, user->out[0]->type)) continue;
    for (const Op *o = op->next; o && o != user; o = o->next)
      if (o == v->op) return true;
  }
  return false;
}

bool fuse_posts(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (!(op_info(op->kind)->traits & TRAIT_POST) || later_contraction_feeds(op)) continue;
    const Op *user = single_user(op->out[0]);
    Op *fused = fuse_post(ctx, op);
    if (!fused) continue;
    changed = true;
    if (next == user) next = fused;  // else the walk meets the fused op where the user stood
  }
  return changed;
}
