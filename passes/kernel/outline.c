// Moving statements of a kernel into a callee (outline.h).
//
// Each buffer becomes a parameter as it is. A buffer whose indices name loops around the statements becomes one flat
// parameter per such place: the outer part of the index is the offset of the call, the inner part stays, shifted so
// that the smallest index is 0; its range follows from the bounds of the inner loops.
#include "passes/kernel/outline.h"

#include <string.h>

// ---- what statements use

static bool in_set(const KBuf *b, const Bitset *bufs) { return bitset_has(bufs, buf_root(b)->id); }

static bool place_uses(const KBuf *b, const Affine *idx, const Bitset *vars, const Bitset *bufs) {
  if (in_set(b, bufs)) return true;
  for (uint32_t i = 0; i < b->rank; i++)
    if (affine_uses(&idx[i], vars)) return true;
  return false;
}

static bool value_uses(const KExpr *x, const Bitset *vars, const Bitset *bufs) {
  if (x->kind == KX_LOAD) return place_uses(x->buf, x->idx, vars, bufs);
  if (x->kind != KX_OP) return expr_uses(x, vars);
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++)
    if (value_uses(x->arg[i], vars, bufs)) return true;
  return false;
}

static bool block_uses(const KBlock *b, const Bitset *vars, const Bitset *bufs) {
  for (const KStmt *s = b->first; s; s = s->next)
    if (stmt_uses(s, vars, bufs)) return true;
  return false;
}

static bool call_uses(const KStmt *s, const Bitset *vars, const Bitset *bufs) {
  for (uint32_t i = 0; i < s->call.n; i++)
    if (in_set(s->call.args[i], bufs) || affine_uses(&s->call.offsets[i], vars)) return true;
  return false;
}

static bool tile_uses(const KStmt *s, const Bitset *vars, const Bitset *bufs) {
  if (in_set(s->tile.tile, bufs) || (s->tile.b && in_set(s->tile.b, bufs))) return true;
  if (s->tile.idx) return place_uses(s->tile.buf, s->tile.idx, vars, bufs);
  return s->tile.buf && in_set(s->tile.buf, bufs);
}

bool stmt_uses(const KStmt *s, const Bitset *vars, const Bitset *bufs) {
  switch (s->kind) {
    case KS_FOR:
      return affine_uses(&s->for_.lo, vars) || affine_uses(&s->for_.hi, vars) || block_uses(&s->for_.body, vars, bufs);
    case KS_IF:
      return value_uses(s->if_.cond, vars, bufs) || block_uses(&s->if_.then, vars, bufs) ||
             block_uses(&s->if_.other, vars, bufs);
    case KS_LET: return value_uses(s->let.value, vars, bufs);
    case KS_STORE:
    case KS_REDUCE: return value_uses(s->store.value, vars, bufs) || place_uses(s->store.buf, s->store.idx, vars, bufs);
    case KS_ALLOC: return false;
    case KS_CALL: return call_uses(s, vars, bufs);
    case KS_TILE: return tile_uses(s, vars, bufs);
  }
  return false;
}

// ---- lets that can be repeated

static void see_stores(Outline *o, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) switch (s->kind) {
      case KS_FOR: see_stores(o, &s->for_.body); break;
      case KS_IF:
        see_stores(o, &s->if_.then);
        see_stores(o, &s->if_.other);
        break;
      case KS_STORE:
      case KS_REDUCE: bitset_add(&o->stored, buf_root(s->store.buf)->id); break;
      case KS_CALL:
        for (uint32_t i = 0; i < s->call.n; i++) bitset_add(&o->stored, buf_root(s->call.args[i])->id);
        break;
      case KS_TILE:
        if (s->tile.op == KOP_TILE_STORE) bitset_add(&o->stored, buf_root(s->tile.buf)->id);
        break;
      case KS_LET:
      case KS_ALLOC: break;
    }
}

static bool affine_repeats(const Outline *o, const Affine *a) {
  for (uint32_t i = 0; i < a->n; i++)
    if (!bitset_has(&o->repeatable, a->term[i].var->id)) return false;
  return true;
}

static bool expr_repeats(const Outline *o, const KExpr *x) {
  if (x->kind == KX_INDEX) return affine_repeats(o, &x->index);
  if (x->kind == KX_VAR) return bitset_has(&o->repeatable, x->var->id);
  if (x->kind == KX_LOAD) {
    if (in_set(x->buf, &o->stored)) return false;
    for (uint32_t i = 0; i < x->buf->rank; i++)
      if (!affine_repeats(o, &x->idx[i])) return false;
  }
  if (x->kind == KX_OP)
    for (uint32_t i = 0; i < kop_info(x->op)->arity; i++)
      if (!expr_repeats(o, x->arg[i])) return false;
  return true;
}

static void see_lets(Outline *o, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_FOR) see_lets(o, &s->for_.body);
    if (s->kind == KS_IF) {
      see_lets(o, &s->if_.then);
      see_lets(o, &s->if_.other);
    }
    if (s->kind == KS_LET && expr_repeats(o, s->let.value)) bitset_add(&o->repeatable, s->let.var->id);
  }
}

Outline outline_new(Module *m, Arena *scratch, Kernel *k) {
  Outline o = {.m = m, .scratch = scratch, .k = k};
  o.stored = bitset_new(scratch, k->n_bufs + 1);
  o.repeatable = bitset_new(scratch, k->n_vars + 1);
  see_stores(&o, &k->body);
  see_lets(&o, &k->body);
  return o;
}

bool outline_repeats(const Outline *o, const KStmt *let) { return bitset_has(&o->repeatable, let->let.var->id); }

void outline_see(Outline *o, const KBlock *b, const KStmt *until) {
  for (const KStmt *s = b->first; s != until; s = s->next)
    if (s->kind == KS_LET && outline_repeats(o, s)) vec_push(o->scratch, &o->visible, s);
}

// ---- the callee

typedef struct Range {
  int64_t lo, hi;
  bool known;
} Range;

// One parameter of the callee.
typedef struct Param {
  KBuf *buf;     // in the caller
  Affine outer;  // offset by loops around
  bool flat;     // outer is not 0: indices become one linear index
  Range range;   // of the inner linear index, when flat
  KBuf *made;
} Param;

typedef struct Callee {
  Outline *o;
  Kernel *k;
  Bitset inside;  // variables of the copied statements, by id in the callee's numbering
  Range *range;   // of them
  uint32_t n_ranges;
  VEC(Param) params;
  bool ok;
} Callee;

static bool is_inner(const Callee *c, const KVar *v) { return v->id < c->n_ranges && bitset_has(&c->inside, v->id); }

static Affine outer_part(const Callee *c, const Affine *a) {
  Affine r = aff(0);
  for (uint32_t i = 0; i < a->n; i++)
    if (!is_inner(c, a->term[i].var)) r = aff_add(r, aff_term(a->term[i].var, a->term[i].coef));
  return r;
}

static Range range_of(const Callee *c, const Affine *a) {
  Range r = {a->base, a->base, true};
  for (uint32_t i = 0; i < a->n; i++) {
    Range v = is_inner(c, a->term[i].var) ? c->range[a->term[i].var->id] : (Range){0, 0, false};
    int64_t k = a->term[i].coef;
    r.known &= v.known;
    r.lo += k * (k > 0 ? v.lo : v.hi);
    r.hi += k * (k > 0 ? v.hi : v.lo);
  }
  return r;
}

static bool is_local(const KBuf *b) { return b->space == SPACE_STACK || b->space == SPACE_REG; }

// Finds or makes the parameter for an access of something declared outside.
static Param *param_for(Callee *c, KBuf *b, const Affine *outer) {
  for (uint32_t i = 0; i < c->params.n; i++)
    if (c->params.at[i].buf == b && aff_equal(&c->params.at[i].outer, outer)) return &c->params.at[i];
  Param p = {.buf = b, .outer = *outer, .flat = outer->n > 0, .range = {INT64_MAX, INT64_MIN, true}};
  vec_push(c->o->scratch, &c->params, p);
  return &c->params.at[c->params.n - 1];
}

// First walk: which parameters there are, and the ranges of flat ones. Local buffers carry `param` -2 while copied.
static void visit_place(Callee *c, KBuf *b, const Affine *idx) {
  if (buf_root(b)->param == -2) return;
  if (buf_root(b)->space == SPACE_REG) c->ok = false;
  Affine at = access_linear(b, idx), outer = outer_part(c, &at);
  Param *p = param_for(c, b, &outer);
  if (!p->flat) return;
  Affine inner = aff_sub(at, outer);
  Range r = range_of(c, &inner);
  if (!r.known) c->ok = false;
  if (r.lo < p->range.lo) p->range.lo = r.lo;
  if (r.hi > p->range.hi) p->range.hi = r.hi;
}

static void rewrite_place(Callee *c, KBuf **b, Affine **idx) {
  if (buf_root(*b)->param == -2) return;
  Affine at = access_linear(*b, *idx), outer = outer_part(c, &at);
  Param *p = param_for(c, *b, &outer);
  if (p->flat) {
    Affine *flat = NEW(c->o->m->arena, Affine);
    *flat = aff_plus(aff_sub(at, outer), -p->range.lo);
    *idx = flat;
  }
  *b = p->made;
}

// No variable from outside may stay in a value or a bound.
static void visit_affine(Callee *c, const Affine *a) {
  if (outer_part(c, a).n > 0) c->ok = false;
}

static void walk_expr(Callee *c, KExpr *x, bool rewrite) {
  switch (x->kind) {
    case KX_CONST: break;
    case KX_INDEX: visit_affine(c, &x->index); break;
    case KX_VAR:
      if (!is_inner(c, x->var)) c->ok = false;
      break;
    case KX_LOAD:
      if (rewrite)
        rewrite_place(c, &x->buf, &x->idx);
      else
        visit_place(c, x->buf, x->idx);
      break;
    case KX_OP:
      for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) walk_expr(c, x->arg[i], rewrite);
      break;
  }
}

static void declare(Callee *c, const KVar *v, Range r) {
  bitset_add(&c->inside, v->id);
  c->range[v->id] = r;
}

static void walk_block(Callee *c, KBlock *b, bool rewrite);

static void walk_for(Callee *c, KStmt *s, bool rewrite) {
  visit_affine(c, &s->for_.lo);
  visit_affine(c, &s->for_.hi);
  Range lo = range_of(c, &s->for_.lo), hi = range_of(c, &s->for_.hi);
  declare(c, s->for_.var, (Range){lo.lo, hi.hi - 1, lo.known && hi.known});
  walk_block(c, &s->for_.body, rewrite);
}

static void walk_block(Callee *c, KBlock *b, bool rewrite) {
  for (KStmt *s = b->first; s; s = s->next) switch (s->kind) {
      case KS_FOR: walk_for(c, s, rewrite); break;
      case KS_IF:
        walk_expr(c, s->if_.cond, rewrite);
        walk_block(c, &s->if_.then, rewrite);
        walk_block(c, &s->if_.other, rewrite);
        break;
      case KS_LET:
        walk_expr(c, s->let.value, rewrite);
        declare(c, s->let.var, (Range){0, 0, false});
        break;
      case KS_STORE:
      case KS_REDUCE:
        walk_expr(c, s->store.value, rewrite);
        if (rewrite)
          rewrite_place(c, &s->store.buf, &s->store.idx);
        else
          visit_place(c, s->store.buf, s->store.idx);
        break;
      case KS_ALLOC: s->alloc.buf->param = rewrite ? s->alloc.buf->param : -2; break;
      case KS_CALL:
      case KS_TILE: c->ok = false; break;  // tiles belong to one function
    }
}

static void restore_allocs(KBlock *b) {
  for (KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_ALLOC) s->alloc.buf->param = -1;
    if (s->kind == KS_FOR) restore_allocs(&s->for_.body);
    if (s->kind == KS_IF) {
      restore_allocs(&s->if_.then);
      restore_allocs(&s->if_.other);
    }
  }
}

static void make_params(Callee *c) {
  Arena *arena = c->o->m->arena;
  c->k->n_params = c->params.n;
  c->k->params = NEW_ARRAY(arena, KBuf *, c->params.n + 1);
  for (uint32_t i = 0; i < c->params.n; i++) {
    Param *p = &c->params.at[i];
    KBuf *b = arena_copy(arena, p->buf, sizeof *b);
    b->id = c->k->n_bufs++;
    b->param = (int32_t)i;
    b->view_of = NULL;
    if (is_local(b)) b->space = SPACE_WORK;
    if (p->flat) {
      b->rank = 1;
      b->dims[0] = p->range.hi - p->range.lo + 1;
      b->strides[0] = 1;
    }
    p->made = c->k->params[i] = b;
    for (uint32_t j = 0; j < i; j++)
      if (buf_root(c->params.at[j].buf) == buf_root(p->buf)) c->k->noalias = false;
  }
}

static KStmt *make_call(const Callee *c, Kernel *callee) {
  Arena *arena = c->o->m->arena;
  KStmt *s = kstmt_new(arena, KS_CALL);
  s->call.callee = callee;
  s->call.n = c->params.n;
  s->call.args = NEW_ARRAY(arena, KBuf *, c->params.n + 1);
  s->call.offsets = NEW_ARRAY(arena, Affine, c->params.n + 1);
  for (uint32_t i = 0; i < c->params.n; i++) {
    const Param *p = &c->params.at[i];
    s->call.args[i] = p->buf;
    s->call.offsets[i] = p->flat ? aff_plus(p->outer, p->range.lo) : aff(0);
  }
  return s;
}

// A kernel whose body is the repeatable lets and a copy of [first, last]; variables get new numbers above the caller's.
static void copy_body(Callee *c, KStmt *first, KStmt *last) {
  KCopy copy = kcopy_new(c->o->m->arena, c->o->scratch, c->o->k, c->k);
  KBlock lets = {0};
  for (uint32_t i = 0; i < c->o->visible.n; i++) {
    KStmt *s = kstmt_new(c->o->scratch, KS_LET);
    s->let = c->o->visible.at[i]->let;
    kblock_append(&lets, s);
  }
  c->k->body = kcopy_block(&copy, &lets);
  KStmt *after = last->next;
  last->next = NULL;
  KBlock part = {first, last};
  KBlock body = kcopy_block(&copy, &part);
  last->next = after;
  kblock_splice(&c->k->body, NULL, &body);
}

// Backwards: lets of the front that nothing after them uses go.
static void drop_unused(Callee *c) {
  uint32_t n = c->o->visible.n;
  KStmt *s = c->k->body.first;
  for (uint32_t i = 1; i < n; i++) s = s->next;
  Bitset none = bitset_new(c->o->scratch, c->o->k->n_bufs + c->k->n_bufs + 1);
  for (KStmt *prev; n > 0; n--, s = prev) {
    prev = s->prev;
    Bitset var = bitset_new(c->o->scratch, c->k->n_vars + 1);
    bitset_add(&var, s->let.var->id);
    bool used = false;
    for (const KStmt *u = s->next; u && !used; u = u->next) used = stmt_uses(u, &var, &none);
    if (!used) kblock_remove(&c->k->body, s);
  }
}

bool outline_call(Outline *o, KBlock *b, KStmt *first, KStmt *last) {
  Callee c = {.o = o, .ok = true};
  c.k = NEW(o->m->arena, Kernel);
  *c.k = (Kernel){.loc = o->k->loc, .noalias = o->k->noalias, .n_vars = o->k->n_vars, .n_bufs = o->k->n_bufs};
  c.k->name = intern(o->m->names, arena_printf(o->scratch, "%s_part", o->k->name));
  copy_body(&c, first, last);
  drop_unused(&c);
  c.n_ranges = c.k->n_vars;
  c.inside = bitset_new(o->scratch, c.k->n_vars + 1);
  c.range = NEW_ARRAY(o->scratch, Range, c.k->n_vars + 1);
  walk_block(&c, &c.k->body, false);
  if (!c.ok) return false;
  make_params(&c);
  walk_block(&c, &c.k->body, true);
  restore_allocs(&c.k->body);
  KStmt *call = make_call(&c, program_kernel(o->m->program, c.k));
  KStmt *end = last->next;
  kblock_insert(b, end, call);
  for (KStmt *s = first, *next; s != call; s = next) {
    next = s->next;
    if (s->kind != KS_LET || !outline_repeats(o, s)) kblock_remove(b, s);
  }
  return true;
}
