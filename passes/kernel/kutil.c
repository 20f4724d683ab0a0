// Shared questions of the kernel passes (kutil.h).
#include "passes/kernel/kutil.h"

int64_t loop_trips(const KStmt *loop) {
  Affine d = aff_sub(loop->for_.hi, loop->for_.lo);
  if (!aff_is_const(&d)) return -1;
  return d.base <= 0 ? 0 : (d.base - 1) / loop->for_.step + 1;
}

Affine access_linear(const KBuf *b, const Affine *idx) {
  Affine r = aff(0);
  for (uint32_t i = 0; i < b->rank; i++) r = aff_add(r, aff_mul(idx[i], b->strides[i]));
  return r;
}

const KBuf *buf_root(const KBuf *b) {
  while (b->view_of) b = b->view_of;
  return b;
}

bool affine_uses(const Affine *a, const Bitset *vars) {
  for (uint32_t i = 0; i < a->n; i++)
    if (bitset_has(vars, a->term[i].var->id)) return true;
  return false;
}

bool expr_uses(const KExpr *x, const Bitset *vars) {
  switch (x->kind) {
    case KX_CONST: return false;
    case KX_INDEX: return affine_uses(&x->index, vars);
    case KX_VAR: return bitset_has(vars, x->var->id);
    case KX_LOAD:
      for (uint32_t i = 0; i < x->buf->rank; i++)
        if (affine_uses(&x->idx[i], vars)) return true;
      return false;
    case KX_OP:
      for (uint32_t i = 0; i < kop_info(x->op)->arity; i++)
        if (expr_uses(x->arg[i], vars)) return true;
      return false;
  }
  return false;
}

static void reduce_scalar(Arena *arena, KStmt *s) {
  KExpr *load = NEW(arena, KExpr), *x = NEW(arena, KExpr);
  load->kind = KX_LOAD;
  load->type = x->type = s->store.buf->type;
  load->buf = s->store.buf;
  load->idx = NEW_ARRAY(arena, Affine, s->store.buf->rank + 1);
  for (uint32_t i = 0; i < s->store.buf->rank; i++) load->idx[i] = s->store.idx[i];
  x->kind = KX_OP;
  x->op = s->store.op;
  x->arg[0] = load;
  x->arg[1] = s->store.value;
  s->kind = KS_STORE;
  s->store.op = KOP_NONE;
  s->store.value = x;
}

void block_reduce_scalar(Arena *arena, KBlock *b) {
  for (KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_REDUCE && !s->store.bits) reduce_scalar(arena, s);
    if (s->kind == KS_FOR && s->for_.loop != FOR_VEC) block_reduce_scalar(arena, &s->for_.body);
    if (s->kind != KS_IF) continue;
    block_reduce_scalar(arena, &s->if_.then);
    block_reduce_scalar(arena, &s->if_.other);
  }
}

void loop_copy_body(Arena *arena, Arena *scratch, Kernel *k, KBlock *b, KStmt *loop, Affine at) {
  ArenaMark mark = arena_mark(scratch);
  KCopy c = kcopy_new(arena, scratch, k, k);
  c.subst[loop->for_.var->id] = &at;
  KBlock copy = kcopy_block(&c, &loop->for_.body);
  kblock_splice(b, loop, &copy);
  arena_reset(scratch, mark);
}
