// The in-place test, on the loop tree. See inplace.h.
//
// A kernel writes every element of its result. So when its writes, counted over the loops, are as many as the result
// has elements, each element is written once, and it is enough to look at one block at a time: all loads of the operand
// there must be of an element this block writes, at or before the write. Anything unusual (conditions around the write,
// run-time bounds, calls, views, reductions into the result) is a no.
#include "passes/memplan/inplace.h"

typedef struct Scan {
  const KBuf *from, *to;
  int64_t written;  // elements of `to`, so far
  bool ok, identity;
} Scan;

static const KBuf *root_of(const KBuf *b) {
  while (b->view_of) b = b->view_of;
  return b;
}

static Affine flat(const KBuf *b, const Affine *idx) {
  Affine at = aff(0);
  for (uint32_t i = 0; i < b->rank; i++) at = aff_add(at, aff_mul(idx[i], b->strides[i]));
  return at;
}

// Is the element written in this block by `s` or a later statement?
static bool written_from(const Scan *c, const KStmt *s, const Affine *at) {
  for (; s; s = s->next) {
    if (s->kind != KS_STORE || s->store.buf != c->to) continue;
    Affine to = flat(c->to, s->store.idx);
    if (aff_equal(&to, at)) return true;
  }
  return false;
}

static void scan_expr(Scan *c, const KStmt *s, const KExpr *x) {
  if (x->kind == KX_LOAD && root_of(x->buf) == c->from) {
    Affine at = flat(x->buf, x->idx);
    if (x->buf != c->from || !written_from(c, s, &at)) c->ok = false;
  }
  if (x->kind != KX_OP) return;
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) scan_expr(c, s, x->arg[i]);
}

static void scan_store(Scan *c, const KStmt *s, int64_t times) {
  const KExpr *v = s->store.value;
  scan_expr(c, s, v);
  if (root_of(s->store.buf) == c->from) c->ok = false;
  if (root_of(s->store.buf) != c->to) return;
  if (s->store.buf != c->to || s->kind != KS_STORE || times < 0) c->ok = false;
  bool same = v->kind == KX_LOAD && v->buf == c->from;
  if (!same) c->identity = false;
  if (__builtin_add_overflow(c->written, times, &c->written)) c->ok = false;
}

// Iterations of a loop with constant bounds, -1 otherwise.
static int64_t trips(const KStmt *s) {
  if (!aff_is_const(&s->for_.lo) || !aff_is_const(&s->for_.hi)) return -1;
  int64_t span = s->for_.hi.base - s->for_.lo.base;
  return span <= 0 ? 0 : (span + s->for_.step - 1) / s->for_.step;
}

// times: how often the block runs, -1: unknown or under a condition.
static void scan_block(Scan *c, const KBlock *b, int64_t times) {
  for (const KStmt *s = b->first; s && c->ok; s = s->next) {
    switch (s->kind) {
      case KS_FOR: {
        int64_t n = trips(s), product;
        if (n < 0 || times < 0 || __builtin_mul_overflow(n, times, &product)) product = -1;
        scan_block(c, &s->for_.body, product);
        break;
      }
      case KS_IF:
        scan_expr(c, s, s->if_.cond);
        scan_block(c, &s->if_.then, -1);
        scan_block(c, &s->if_.other, -1);
        break;
      case KS_LET: scan_expr(c, s, s->let.value); break;
      case KS_STORE:
      case KS_REDUCE: scan_store(c, s, times); break;
      case KS_ALLOC: break;
      case KS_CALL: c->ok = false; break;
      case KS_TILE: c->ok &= !s->tile.idx || (root_of(s->tile.buf) != c->from && root_of(s->tile.buf) != c->to); break;
    }
  }
}

bool kernel_in_place(const Kernel *k, uint32_t from, uint32_t to, bool *identity) {
  Scan c = {.from = k->params[from], .to = k->params[to], .ok = true, .identity = true};
  int64_t count = 1;
  if (dtype_info(c.from->type)->bits != dtype_info(c.to->type)->bits || !kbuf_is_dense(c.to)) return false;
  for (uint32_t i = 0; i < c.to->rank; i++) count *= c.to->dims[i];
  scan_block(&c, &k->body, 1);
  *identity = c.identity;
  return c.ok && c.written == count;
}

// ---- reads and writes

static void reads_of(const KExpr *x, bool *reads) {
  if (x->kind == KX_LOAD && root_of(x->buf)->param >= 0) reads[root_of(x->buf)->param] = true;
  if (x->kind != KX_OP) return;
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) reads_of(x->arg[i], reads);
}

static void access_block(const KBlock *b, bool *reads, bool *writes) {
  for (const KStmt *s = b->first; s; s = s->next) {
    switch (s->kind) {
      case KS_FOR: access_block(&s->for_.body, reads, writes); break;
      case KS_IF:
        reads_of(s->if_.cond, reads);
        access_block(&s->if_.then, reads, writes);
        access_block(&s->if_.other, reads, writes);
        break;
      case KS_LET: reads_of(s->let.value, reads); break;
      case KS_REDUCE:
      case KS_STORE: {
        int32_t param = root_of(s->store.buf)->param;
        reads_of(s->store.value, reads);
        if (param >= 0) writes[param] = true;
        if (param >= 0 && s->kind == KS_REDUCE) reads[param] = true;
        break;
      }
      case KS_ALLOC: break;
      case KS_CALL:
        for (uint32_t i = 0; i < s->call.n; i++) {
          int32_t param = root_of(s->call.args[i])->param;
          if (param >= 0) reads[param] = writes[param] = true;
        }
        break;
      case KS_TILE: {
        int32_t param = s->tile.idx ? root_of(s->tile.buf)->param : -1;
        if (param >= 0) *(s->tile.op == KOP_TILE_LOAD ? &reads[param] : &writes[param]) = true;
        break;
      }
    }
  }
}

void kernel_access(const Kernel *k, bool *reads, bool *writes) { access_block(&k->body, reads, writes); }
