// Copying kernel IR (kcopy.h). The copy shares no statement or expression with the original. Recursion follows the
// nesting of loops and expressions, which builder and parser bound.
#include "ir/kcopy.h"

KCopy kcopy_new(Arena *arena, Arena *scratch, const Kernel *from, Kernel *to) {
  return (KCopy){.arena = arena,
                 .to = to,
                 .subst = NEW_ARRAY(scratch, const Affine *, from->n_vars + 1),
                 .vars = NEW_ARRAY(scratch, KVar *, from->n_vars + 1),
                 .bufs = NEW_ARRAY(scratch, KBuf *, from->n_bufs + 1)};
}

void kblock_insert(KBlock *b, KStmt *before, KStmt *s) {
  s->next = before;
  s->prev = before ? before->prev : b->last;
  if (s->prev)
    s->prev->next = s;
  else
    b->first = s;
  if (before)
    before->prev = s;
  else
    b->last = s;
}

void kblock_append(KBlock *b, KStmt *s) { kblock_insert(b, NULL, s); }

void kblock_remove(KBlock *b, KStmt *s) {
  if (s->prev)
    s->prev->next = s->next;
  else
    b->first = s->next;
  if (s->next)
    s->next->prev = s->prev;
  else
    b->last = s->prev;
  s->prev = s->next = NULL;
}

void kblock_splice(KBlock *b, KStmt *before, KBlock *from) {
  while (from->first) {
    KStmt *s = from->first;
    kblock_remove(from, s);
    kblock_insert(b, before, s);
  }
}

KStmt *kstmt_new(Arena *arena, KStmtKind kind) {
  KStmt *s = NEW(arena, KStmt);
  s->kind = kind;
  return s;
}

KVar *kvar_new(Arena *arena, Kernel *k, const char *name, KVarKind kind, DType type) {
  KVar *v = NEW(arena, KVar);
  *v = (KVar){.id = k->n_vars++, .name = name, .kind = kind, .type = type};
  return v;
}

static KVar *copy_var(KCopy *c, const KVar *v) {
  KVar *r = kvar_new(c->arena, c->to, v->name, v->kind, v->type);
  c->vars[v->id] = r;
  c->subst[v->id] = NULL;
  return r;
}

KBuf *kcopy_buf(KCopy *c, KBuf *b) {
  if (c->bufs[b->id]) return c->bufs[b->id];
  if (!b->view_of) return b;
  KBuf *base = kcopy_buf(c, b->view_of);
  if (base == b->view_of) return b;
  KBuf *r = arena_copy(c->arena, b, sizeof *b);
  r->id = c->to->n_bufs++;
  r->view_of = base;
  c->bufs[b->id] = r;
  return r;
}

Affine kcopy_affine(const KCopy *c, const Affine *a) {
  Affine r = aff(a->base);
  for (uint32_t i = 0; i < a->n; i++) {
    KVar *v = a->term[i].var;
    const Affine *by = c->subst[v->id];
    Affine part = by ? *by : aff_var(c->vars[v->id] ? c->vars[v->id] : v);
    r = aff_add(r, aff_mul(part, a->term[i].coef));
  }
  return r;
}

static Affine *copy_indices(KCopy *c, const Affine *idx, uint32_t n) {
  Affine *r = NEW_ARRAY(c->arena, Affine, n + !n);
  for (uint32_t i = 0; i < n; i++) r[i] = kcopy_affine(c, &idx[i]);
  return r;
}

KExpr *kcopy_expr(const KCopy *c, const KExpr *x) {
  KExpr *r = arena_copy(c->arena, x, sizeof *x);
  switch (x->kind) {
    case KX_CONST: break;
    case KX_INDEX: r->index = kcopy_affine(c, &x->index); break;
    case KX_VAR: {
      const Affine *by = c->subst[x->var->id];
      if (by) {
        r->kind = KX_INDEX;
        r->index = *by;
      } else if (c->vars[x->var->id]) {
        r->var = c->vars[x->var->id];
      }
      break;
    }
    case KX_LOAD:
      r->buf = kcopy_buf((KCopy *)c, x->buf);
      r->idx = copy_indices((KCopy *)c, x->idx, x->buf->rank);
      break;
    case KX_OP:
      for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) r->arg[i] = kcopy_expr(c, x->arg[i]);
      break;
  }
  return r;
}

static void copy_call(KCopy *c, KStmt *r, const KStmt *s) {
  r->call = s->call;
  r->call.args = NEW_ARRAY(c->arena, KBuf *, s->call.n + 1);
  for (uint32_t i = 0; i < s->call.n; i++) r->call.args[i] = kcopy_buf(c, s->call.args[i]);
  r->call.offsets = copy_indices(c, s->call.offsets, s->call.n);
}

static KStmt *copy_stmt(KCopy *c, const KStmt *s) {
  KStmt *r = kstmt_new(c->arena, s->kind);
  switch (s->kind) {
    case KS_FOR:
      r->for_ = s->for_;
      r->for_.lo = kcopy_affine(c, &s->for_.lo);
      r->for_.hi = kcopy_affine(c, &s->for_.hi);
      r->for_.var = copy_var(c, s->for_.var);
      r->for_.body = kcopy_block(c, &s->for_.body);
      break;
    case KS_IF:
      r->if_.cond = kcopy_expr(c, s->if_.cond);
      r->if_.then = kcopy_block(c, &s->if_.then);
      r->if_.other = kcopy_block(c, &s->if_.other);
      break;
    case KS_LET:
      r->let.value = kcopy_expr(c, s->let.value);
      r->let.var = copy_var(c, s->let.var);
      break;
    case KS_STORE:
    case KS_REDUCE:
      r->store = s->store;
      r->store.buf = kcopy_buf(c, s->store.buf);
      r->store.idx = copy_indices(c, s->store.idx, s->store.buf->rank);
      r->store.value = kcopy_expr(c, s->store.value);
      break;
    case KS_ALLOC:
      r->alloc.buf = arena_copy(c->arena, s->alloc.buf, sizeof(KBuf));
      r->alloc.buf->id = c->to->n_bufs++;
      c->bufs[s->alloc.buf->id] = r->alloc.buf;
      break;
    case KS_CALL: copy_call(c, r, s); break;
    case KS_TILE:
      r->tile = s->tile;
      r->tile.tile = kcopy_buf(c, s->tile.tile);
      if (s->tile.buf) r->tile.buf = kcopy_buf(c, s->tile.buf);
      if (s->tile.b) r->tile.b = kcopy_buf(c, s->tile.b);
      if (s->tile.idx) r->tile.idx = copy_indices(c, s->tile.idx, s->tile.buf->rank);
      break;
  }
  return r;
}

KBlock kcopy_block(KCopy *c, const KBlock *b) {
  KBlock r = {0};
  for (const KStmt *s = b->first; s; s = s->next) kblock_append(&r, copy_stmt(c, s));
  return r;
}
