// Kernels and programs as data: creation, equality, copies and counts (kernel.h).
//
// Equality of kernels ignores every name and location: a kernel is written as a canonical byte string in which
// variables and buffers are numbered in order of first appearance, and two kernels are equal when the strings are.
#include "ir/kernel.h"

#include <string.h>

#include "ir/base/map.h"
#include "ir/kcopy.h"

// The program together with its private index: canonical hash -> kernel, and the set of taken names.
typedef struct IndexedProgram {
  Program p;
  Map *by_hash;
  Map *by_name;
} IndexedProgram;

Program *program_new(Module *m) {
  IndexedProgram *ip = NEW(m->arena, IndexedProgram);
  ip->p.module = m;
  ip->p.workspace_align = 64;
  ip->by_hash = map_new(m->arena);
  ip->by_name = map_new(m->arena);
  return &ip->p;
}

PBuf *program_buf(Program *p, PBufKind kind, const char *name, const Type *t) {
  PBuf *b = NEW(p->module->arena, PBuf);
  b->id = p->bufs.n;
  b->name = intern(p->module->names, name);
  b->type = t;
  b->kind = kind;
  b->bytes = type_bytes(t);
  b->offset = -1;
  b->first_step = b->last_step = -1;
  vec_push(p->module->arena, &p->bufs, b);
  return b;
}

PBuf *pbuf_root(PBuf *b, int64_t *offset) {
  int64_t at = 0;
  while (b->alias_of) {
    at += b->alias_offset;
    b = b->alias_of;
  }
  if (offset) *offset = at;
  return b;
}

// ---- canonical form

typedef struct Canon {
  StrBuf out;
  uint64_t ops;         // kop_bit of each
  uint32_t *var, *buf;  // number + 1 by id, 0: not seen
  uint32_t n_vars, n_bufs;
} Canon;

static void canon_int(Canon *c, int64_t v) { strbuf_put(&c->out, (const char *)&v, sizeof v); }

static void canon_var(Canon *c, const KVar *v) {
  if (!c->var[v->id]) {
    c->var[v->id] = ++c->n_vars;
    canon_int(c, -(int64_t)v->type);
  }
  canon_int(c, c->var[v->id]);
}

static void canon_buf(Canon *c, const KBuf *b) {
  bool first = !c->buf[b->id];
  if (first) c->buf[b->id] = ++c->n_bufs;
  canon_int(c, c->buf[b->id]);
  if (!first) return;
  canon_int(c, b->type);
  canon_int(c, b->rank);
  for (uint32_t i = 0; i < b->rank; i++) {
    canon_int(c, b->dims[i]);
    canon_int(c, b->strides[i]);
  }
  canon_int(c, b->space);
  canon_int(c, b->param);
  canon_int(c, b->view_of != NULL);
  if (b->data) strbuf_put(&c->out, b->data, (size_t)b->dims[0] * dtype_info(b->type)->bits / 8);
  if (b->view_of) canon_buf(c, b->view_of);
}

// Terms are sorted by id, which is creation order: equal builders give equal orders.
static void canon_affine(Canon *c, const Affine *a) {
  canon_int(c, a->base);
  canon_int(c, a->n);
  for (uint32_t i = 0; i < a->n; i++) {
    canon_var(c, a->term[i].var);
    canon_int(c, a->term[i].coef);
  }
}

static void canon_access(Canon *c, const KBuf *b, const Affine *idx) {
  canon_buf(c, b);
  for (uint32_t i = 0; i < b->rank; i++) canon_affine(c, &idx[i]);
}

static void canon_expr(Canon *c, const KExpr *x) {
  canon_int(c, x->kind);
  canon_int(c, x->type);
  switch (x->kind) {
    case KX_CONST:
      strbuf_put(&c->out, (const char *)&x->f, sizeof x->f);
      canon_int(c, x->i);
      break;
    case KX_INDEX: canon_affine(c, &x->index); break;
    case KX_VAR: canon_var(c, x->var); break;
    case KX_LOAD: canon_access(c, x->buf, x->idx); break;
    case KX_OP:
      canon_int(c, x->op);
      c->ops |= kop_bit(x->op);
      for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) canon_expr(c, x->arg[i]);
      break;
  }
}

static void canon_block(Canon *c, const KBlock *b);

static void canon_stmt(Canon *c, const KStmt *s) {
  canon_int(c, s->kind);
  switch (s->kind) {
    case KS_FOR:
      canon_var(c, s->for_.var);
      canon_affine(c, &s->for_.lo);
      canon_affine(c, &s->for_.hi);
      canon_int(c, s->for_.step);
      canon_int(c, s->for_.loop);
      canon_block(c, &s->for_.body);
      break;
    case KS_IF:
      canon_expr(c, s->if_.cond);
      canon_block(c, &s->if_.then);
      canon_block(c, &s->if_.other);
      break;
    case KS_LET:
      canon_expr(c, s->let.value);
      canon_var(c, s->let.var);
      break;
    case KS_STORE:
    case KS_REDUCE:
      canon_access(c, s->store.buf, s->store.idx);
      canon_int(c, s->store.op);
      canon_int(c, s->store.bits);
      canon_expr(c, s->store.value);
      break;
    case KS_ALLOC: canon_buf(c, s->alloc.buf); break;
    case KS_CALL:
      strbuf_puts(&c->out, s->call.callee->name);
      canon_int(c, s->call.n);
      for (uint32_t i = 0; i < s->call.n; i++) {
        canon_buf(c, s->call.args[i]);
        canon_affine(c, &s->call.offsets[i]);
      }
      break;
    case KS_TILE:
      canon_int(c, s->tile.op);
      c->ops |= kop_bit(s->tile.op);
      canon_buf(c, s->tile.tile);
      if (s->tile.idx) canon_access(c, s->tile.buf, s->tile.idx);
      if (s->tile.b) {
        canon_buf(c, s->tile.buf);
        canon_buf(c, s->tile.b);
      }
      canon_int(c, s->tile.step);
      break;
  }
}

static void canon_block(Canon *c, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) canon_stmt(c, s);
  canon_int(c, -1);
}

StrBuf kernel_canon(Arena *scratch, const Kernel *k, uint64_t *ops) {
  Canon c = {.var = NEW_ARRAY(scratch, uint32_t, k->n_vars + 1), .buf = NEW_ARRAY(scratch, uint32_t, k->n_bufs + 1)};
  strbuf_init(&c.out, scratch);
  canon_int(&c, k->n_params);
  for (uint32_t i = 0; i < k->n_params; i++) canon_buf(&c, k->params[i]);
  canon_block(&c, &k->body);
  if (ops) *ops = c.ops;
  return c.out;
}

static bool same_text(const StrBuf *a, const StrBuf *b) { return a->n == b->n && !memcmp(a->at, b->at, a->n); }

// The name itself, or with the first free number appended.
static const char *unique_name(const IndexedProgram *ip, const char *name) {
  const char *r = name;
  for (uint32_t n = 2; map_get_str(ip->by_name, r); n++) r = arena_printf(ip->p.module->arena, "%s_%u", name, n);
  return r;
}

Kernel *program_kernel(Program *p, Kernel *k) {
  IndexedProgram *ip = (IndexedProgram *)p;
  Arena *scratch = arena_new("kernel-equality");
  StrBuf text = kernel_canon(scratch, k, NULL);
  uint64_t hash = hash_bytes(text.at, text.n, 1);
  Kernel *old = map_get(ip->by_hash, hash);
  bool equal = false;
  if (old && old != k) {
    StrBuf other = kernel_canon(scratch, old, NULL);  // passes may have changed it since
    equal = same_text(&text, &other);
  }
  arena_free(scratch);
  if (equal || old == k) {
    old->noalias = old->noalias && k->noalias;
    return old;
  }
  if (p->module->build_arena) k = kernel_clone(p->module, k);
  k->id = p->kernels.n;
  k->name = intern(p->module->names, unique_name(ip, k->name));
  vec_push(p->module->arena, &p->kernels, k);
  map_set(ip->by_hash, hash, k);
  map_set_str(ip->by_name, k->name, k);
  return k;
}

void program_add_kernel(Program *p, Kernel *k) {
  IndexedProgram *ip = (IndexedProgram *)p;
  k->id = p->kernels.n;
  vec_push(p->module->arena, &p->kernels, k);
  map_set_str(ip->by_name, k->name, k);
}

Step *program_step(Program *p, Kernel *k, uint32_t n_args, PBuf *const *args, const Op *op) {
  QCC_CHECK(n_args == k->n_params, "step: kernel %s takes %u buffers, got %u", k->name, k->n_params, n_args);
  Step s = {.kernel = k, .n_args = n_args, .op = op, .loc = op ? op->loc : k->loc, .strategy = "loop"};
  s.args = NEW_ARRAY(p->module->arena, PBuf *, n_args + 1);
  for (uint32_t i = 0; i < n_args; i++) s.args[i] = args[i];
  vec_push(p->module->arena, &p->steps, s);
  return &p->steps.at[p->steps.n - 1];
}

// ---- copies and counts

Kernel *kernel_clone(Module *m, const Kernel *k) {
  Arena *scratch = arena_new("kernel-clone");
  Kernel *r = arena_copy(m->arena, k, sizeof *k);
  r->n_vars = r->n_bufs = 0;
  KCopy c = kcopy_new(m->arena, scratch, k, r);
  r->params = NEW_ARRAY(m->arena, KBuf *, k->n_params + 1);
  for (uint32_t i = 0; i < k->n_params; i++) {
    r->params[i] = arena_copy(m->arena, k->params[i], sizeof(KBuf));
    r->params[i]->id = r->n_bufs++;
    c.bufs[k->params[i]->id] = r->params[i];
  }
  r->body = kcopy_block(&c, &k->body);
  arena_free(scratch);
  return r;
}

static int64_t saturating_mul(int64_t a, int64_t b) {
  int64_t r;
  return __builtin_mul_overflow(a, b, &r) ? INT64_MAX / 4 : r;
}

static int64_t expr_ops(const KExpr *x) {
  if (x->kind == KX_LOAD) return 1;
  if (x->kind != KX_OP) return 0;
  int64_t n = 1;
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) n += expr_ops(x->arg[i]);
  return n;
}

static int64_t block_ops(const KBlock *b);

static int64_t for_trips(const KStmt *s) {
  if (!aff_is_const(&s->for_.lo) || !aff_is_const(&s->for_.hi) || s->for_.step <= 0) return -1;
  int64_t lo = s->for_.lo.base, hi = s->for_.hi.base;
  return hi <= lo ? 0 : (hi - lo - 1) / s->for_.step + 1;
}

static int64_t stmt_ops(const KStmt *s) {
  switch (s->kind) {
    case KS_FOR: {
      int64_t n = block_ops(&s->for_.body), trips = for_trips(s);
      if (s->for_.loop == FOR_UNROLL && trips >= 0) return saturating_mul(n, trips);
      return n < INT64_MAX / 4 ? n + 1 : n;
    }
    case KS_IF: return expr_ops(s->if_.cond) + block_ops(&s->if_.then) + block_ops(&s->if_.other);
    case KS_LET: return expr_ops(s->let.value);
    case KS_STORE: return 1 + expr_ops(s->store.value);
    case KS_REDUCE: return 2 + expr_ops(s->store.value);
    case KS_ALLOC: return 0;
    case KS_CALL: return 1 + s->call.n;
    case KS_TILE: return 1;
  }
  return 0;
}

static int64_t block_ops(const KBlock *b) {
  int64_t n = 0;
  for (const KStmt *s = b->first; s; s = s->next) {
    int64_t more = stmt_ops(s);
    n = more > INT64_MAX / 4 - n ? INT64_MAX / 4 : n + more;
  }
  return n;
}

int64_t kernel_ops(const Kernel *k) { return block_ops(&k->body); }

int64_t kernel_par_extent(const Kernel *k) {
  for (const KStmt *s = k->body.first; s; s = s->next)
    if (s->kind == KS_FOR && s->for_.loop == FOR_PAR) return for_trips(s) > 0 ? for_trips(s) : 0;
  return 0;
}

bool kbuf_is_dense(const KBuf *b) {
  int64_t expect = 1;
  for (uint32_t i = b->rank; i-- > 0;) {
    if (b->dims[i] != 1 && b->strides[i] != expect) return false;
    expect *= b->dims[i];
  }
  return true;
}
