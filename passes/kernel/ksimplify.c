// ksimplify: cleans kernels after the other kernel passes.
//
//   let %c = mul(2, 3)  for %i in 0..1 seq { store %y[%i], mul(load %x[%i], 1.0) }
// becomes
//   store %y[0], load %x[0]
//
// Constants are folded and exact identities applied (kfold.c); lets that name a constant or another let are replaced
// by it; loops of one iteration become their body, empty loops and ifs go, an if on a constant becomes its branch; lets
// that do not change in a seq, vec or unroll loop move before it when what they load is not stored in the loop; lets
// nobody uses go. A par loop keeps its lets: it may be run in parts.
#include "passes/kernel/kfold.h"
#include "passes/kernel/kutil.h"
#include "passes/pass.h"

typedef struct Simplify {
  Arena *arena, *scratch;
  Kernel *k;
  uint32_t n_vars;  // size of the arrays by variable id
  KExpr **value;    // constant or other let that a let stands for
  uint32_t *uses;
  Bitset inside;  // variables defined in the loop at hand
  Bitset stored;  // buffers stored to in it, by root id
  bool calls;     // it holds a call
  bool changed;
} Simplify;

// ---- expressions

static Affine simplify_affine(const Simplify *s, Affine a) {
  for (uint32_t i = 0; i < a.n; i++) {
    const KVar *v = a.term[i].var;
    KExpr *by = v->id < s->n_vars ? s->value[v->id] : NULL;
    if (!by) continue;
    a = aff_subst(a, v, by->kind == KX_CONST ? aff(by->i) : aff_var(by->var));
    i = UINT32_MAX;  // terms have moved: once more from the start
  }
  return a;
}

static void simplify_indices(const Simplify *s, const KBuf *b, Affine *idx) {
  for (uint32_t i = 0; i < b->rank; i++) idx[i] = simplify_affine(s, idx[i]);
}

static KExpr *simplify_expr(Simplify *s, KExpr *x) {
  if (x->kind == KX_VAR && x->var->id < s->n_vars && s->value[x->var->id]) {
    s->changed = true;
    return arena_copy(s->arena, s->value[x->var->id], sizeof *x);
  }
  if (x->kind == KX_INDEX) x->index = simplify_affine(s, x->index);
  if (x->kind == KX_LOAD) simplify_indices(s, x->buf, x->idx);
  if (x->kind == KX_OP)
    for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) x->arg[i] = simplify_expr(s, x->arg[i]);
  KExpr *r = kfold(s->arena, x);
  s->changed |= r != x;
  return r;
}

// ---- what moves out of a loop

static void see_block(Simplify *s, const KBlock *b) {
  for (const KStmt *st = b->first; st; st = st->next) switch (st->kind) {
      case KS_FOR:
        bitset_add(&s->inside, st->for_.var->id);
        see_block(s, &st->for_.body);
        break;
      case KS_IF:
        see_block(s, &st->if_.then);
        see_block(s, &st->if_.other);
        break;
      case KS_LET: bitset_add(&s->inside, st->let.var->id); break;
      case KS_STORE:
      case KS_REDUCE: bitset_add(&s->stored, buf_root(st->store.buf)->id); break;
      case KS_ALLOC: bitset_add(&s->stored, st->alloc.buf->id); break;
      case KS_CALL: s->calls = true; break;
      case KS_TILE:
        if (st->tile.op == KOP_TILE_STORE) bitset_add(&s->stored, buf_root(st->tile.buf)->id);
        break;
    }
}

// Loads nothing the loop may store, or nothing at all.
static bool loads_stay(const Simplify *s, const KExpr *x, bool *loads) {
  if (x->kind == KX_LOAD) {
    *loads = true;
    return !s->calls && !bitset_has(&s->stored, buf_root(x->buf)->id);
  }
  if (x->kind == KX_OP)
    for (uint32_t i = 0; i < kop_info(x->op)->arity; i++)
      if (!loads_stay(s, x->arg[i], loads)) return false;
  return true;
}

static void hoist(Simplify *s, KBlock *b, KStmt *loop) {
  ArenaMark mark = arena_mark(s->scratch);
  s->inside = bitset_new(s->scratch, s->k->n_vars + 1);
  s->stored = bitset_new(s->scratch, s->k->n_bufs + 1);
  s->calls = false;
  bitset_add(&s->inside, loop->for_.var->id);
  see_block(s, &loop->for_.body);
  bool runs = loop_trips(loop) > 0;
  for (KStmt *st = loop->for_.body.first, *next; st; st = next) {
    next = st->next;
    bool loads = false;
    if (st->kind != KS_LET || expr_uses(st->let.value, &s->inside)) continue;
    if (!loads_stay(s, st->let.value, &loads) || (loads && !runs)) continue;
    bitset_drop(&s->inside, st->let.var->id);
    kblock_remove(&loop->for_.body, st);
    kblock_insert(b, loop, st);
    s->changed = true;
  }
  arena_reset(s->scratch, mark);
}

// ---- statements

static void simplify_block(Simplify *s, KBlock *b);

// Puts statements in the place of `st`; returns where to go on.
static KStmt *replace(Simplify *s, KBlock *b, KStmt *st, KBlock *by) {
  KStmt *before = st->prev;
  kblock_splice(b, st, by);
  kblock_remove(b, st);
  s->changed = true;
  return before ? before->next : b->first;
}

static KStmt *simplify_for(Simplify *s, KBlock *b, KStmt *st) {
  KStmt *next = st->next;
  st->for_.lo = simplify_affine(s, st->for_.lo);
  st->for_.hi = simplify_affine(s, st->for_.hi);
  int64_t trips = loop_trips(st);
  if (trips == 1) {
    KStmt *before = st->prev;
    if (st->for_.loop == FOR_VEC) block_reduce_scalar(s->arena, &st->for_.body);
    loop_copy_body(s->arena, s->scratch, s->k, b, st, st->for_.lo);
    kblock_remove(b, st);
    s->changed = true;
    return before ? before->next : b->first;
  }
  if (trips != 0) simplify_block(s, &st->for_.body);
  if (trips == 0 || !st->for_.body.first) {
    kblock_remove(b, st);
    s->changed = true;
  } else if (st->for_.loop != FOR_PAR) {
    hoist(s, b, st);
  }
  return next;
}

static KStmt *simplify_if(Simplify *s, KBlock *b, KStmt *st) {
  KStmt *next = st->next;
  st->if_.cond = simplify_expr(s, st->if_.cond);
  KBlock none = {0};
  if (st->if_.cond->kind == KX_CONST) return replace(s, b, st, st->if_.cond->i ? &st->if_.then : &st->if_.other);
  simplify_block(s, &st->if_.then);
  simplify_block(s, &st->if_.other);
  return st->if_.then.first || st->if_.other.first ? next : replace(s, b, st, &none);
}

static void simplify_let(Simplify *s, KStmt *st) {
  KExpr *x = st->let.value = simplify_expr(s, st->let.value);
  bool leaf = x->kind == KX_VAR || x->kind == KX_CONST;
  if (leaf && st->let.var->id < s->n_vars) s->value[st->let.var->id] = x;
}

static void simplify_store(Simplify *s, KStmt *st) {
  simplify_indices(s, st->store.buf, st->store.idx);
  st->store.value = simplify_expr(s, st->store.value);
}

static void simplify_block(Simplify *s, KBlock *b) {
  for (KStmt *st = b->first, *next; st; st = next) {
    next = st->next;
    switch (st->kind) {
      case KS_FOR: next = simplify_for(s, b, st); break;
      case KS_IF: next = simplify_if(s, b, st); break;
      case KS_LET: simplify_let(s, st); break;
      case KS_STORE:
      case KS_REDUCE: simplify_store(s, st); break;
      case KS_ALLOC: break;
      case KS_CALL:
        for (uint32_t i = 0; i < st->call.n; i++) st->call.offsets[i] = simplify_affine(s, st->call.offsets[i]);
        break;
      case KS_TILE:
        if (st->tile.idx) simplify_indices(s, st->tile.buf, st->tile.idx);
        break;
    }
  }
}

// ---- lets nobody uses

static void count_affine(uint32_t *uses, const Affine *a, uint32_t by) {
  for (uint32_t i = 0; i < a->n; i++) uses[a->term[i].var->id] += by;
}

// by: 1, or UINT32_MAX to take uses back.
static void count_expr(uint32_t *uses, const KExpr *x, uint32_t by) {
  if (x->kind == KX_INDEX) count_affine(uses, &x->index, by);
  if (x->kind == KX_VAR) uses[x->var->id] += by;
  if (x->kind == KX_LOAD)
    for (uint32_t i = 0; i < x->buf->rank; i++) count_affine(uses, &x->idx[i], by);
  if (x->kind == KX_OP)
    for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) count_expr(uses, x->arg[i], by);
}

static void count_block(uint32_t *uses, const KBlock *b) {
  for (const KStmt *st = b->first; st; st = st->next) switch (st->kind) {
      case KS_FOR:
        count_affine(uses, &st->for_.lo, 1);
        count_affine(uses, &st->for_.hi, 1);
        count_block(uses, &st->for_.body);
        break;
      case KS_IF:
        count_expr(uses, st->if_.cond, 1);
        count_block(uses, &st->if_.then);
        count_block(uses, &st->if_.other);
        break;
      case KS_LET: count_expr(uses, st->let.value, 1); break;
      case KS_STORE:
      case KS_REDUCE:
        for (uint32_t i = 0; i < st->store.buf->rank; i++) count_affine(uses, &st->store.idx[i], 1);
        count_expr(uses, st->store.value, 1);
        break;
      case KS_ALLOC: break;
      case KS_CALL:
        for (uint32_t i = 0; i < st->call.n; i++) count_affine(uses, &st->call.offsets[i], 1);
        break;
      case KS_TILE:
        for (uint32_t i = 0; st->tile.idx && i < st->tile.buf->rank; i++) count_affine(uses, &st->tile.idx[i], 1);
        break;
    }
}

// A let without uses, or a loop or if without statements; takes back the uses of what it names.
static bool dead(Simplify *s, const KStmt *st) {
  if (st->kind == KS_LET && !s->uses[st->let.var->id]) {
    count_expr(s->uses, st->let.value, UINT32_MAX);
    return true;
  }
  if (st->kind == KS_FOR && !st->for_.body.first) {
    count_affine(s->uses, &st->for_.lo, UINT32_MAX);
    count_affine(s->uses, &st->for_.hi, UINT32_MAX);
    return true;
  }
  if (st->kind == KS_IF && !st->if_.then.first && !st->if_.other.first) {
    count_expr(s->uses, st->if_.cond, UINT32_MAX);
    return true;
  }
  return false;
}

// From the end to the start, so that what only a dead let used is dead too.
static void drop_dead(Simplify *s, KBlock *b) {
  for (KStmt *st = b->last, *prev; st; st = prev) {
    prev = st->prev;
    if (st->kind == KS_FOR) drop_dead(s, &st->for_.body);
    if (st->kind == KS_IF) {
      drop_dead(s, &st->if_.then);
      drop_dead(s, &st->if_.other);
    }
    if (!dead(s, st)) continue;
    kblock_remove(b, st);
    s->changed = true;
  }
}

PassResult pass_ksimplify(PassCtx *ctx) {
  Simplify s = {.arena = ctx->m->arena, .scratch = ctx->arena};
  for (uint32_t i = 0; i < ctx->m->program->kernels.n; i++) {
    s.k = ctx->m->program->kernels.at[i];
    s.n_vars = s.k->n_vars;
    s.value = NEW_ARRAY(s.scratch, KExpr *, s.n_vars + 1);
    simplify_block(&s, &s.k->body);
    s.uses = NEW_ARRAY(s.scratch, uint32_t, s.k->n_vars + 1);
    count_block(s.uses, &s.k->body);
    drop_dead(&s, &s.k->body);
  }
  return s.changed ? PASS_CHANGED : PASS_SAME;
}
