// Pass `unroll`: replaces `unroll` loops by copies of their bodies, innermost loops first.
//
// Bounds must be constant; a loop whose bounds are not stays as a plain one. Lets and allocs of a body become new in
// each copy, so afterwards every index into a `reg` buffer is constant but for the lane. A kernel that would grow past
// MAX_OPS operations is refused: no later pass could cut it in reasonable time.
//
//   for %u in 0..2 unroll { store %acc[%u], 0.0 }   =>   store %acc[0], 0.0  store %acc[1], 0.0
#include <string.h>

#include "passes/kernel/kutil.h"
#include "passes/pass.h"

#define MAX_OPS 200000

typedef struct Unroll {
  Arena *arena, *scratch;
  Kernel *k;
  bool changed;
} Unroll;

static void unroll_block(Unroll *u, KBlock *b);

static void unroll_loop(Unroll *u, KBlock *b, KStmt *loop) {
  if (!aff_is_const(&loop->for_.lo) || !aff_is_const(&loop->for_.hi)) {
    loop->for_.loop = FOR_SEQ;
    return;
  }
  ArenaMark mark = arena_mark(u->scratch);
  uint32_t n_bufs = u->k->n_bufs;
  KCopy c = kcopy_new(u->arena, u->scratch, u->k, u->k);  // each copy sets every entry for what the body declares
  int64_t hi = loop->for_.hi.base;
  for (int64_t at = loop->for_.lo.base; at < hi; at += loop->for_.step) {
    Affine place = aff(at);
    c.subst[loop->for_.var->id] = &place;
    memset(c.bufs, 0, n_bufs * sizeof *c.bufs);  // but views, which are copied on demand
    KBlock copy = kcopy_block(&c, &loop->for_.body);
    kblock_splice(b, loop, &copy);
  }
  arena_reset(u->scratch, mark);
  kblock_remove(b, loop);
  u->changed = true;
}

static void unroll_block(Unroll *u, KBlock *b) {
  for (KStmt *s = b->first, *next; s != NULL; s = next) {
    next = s->next;
    if (s->kind == KS_IF) {
      unroll_block(u, &s->if_.then);
      unroll_block(u, &s->if_.other);
    } else if (s->kind == KS_FOR) {
      unroll_block(u, &s->for_.body);
      if (s->for_.loop == FOR_UNROLL) unroll_loop(u, b, s);
    }
  }
}

PassResult pass_unroll(PassCtx *ctx) {
  Unroll u = {.arena = ctx->m->arena, .scratch = ctx->arena};
  for (uint32_t i = 0; i < ctx->m->program->kernels.n; i++) {
    u.k = ctx->m->program->kernels.at[i];
    int64_t ops = kernel_ops(u.k);
    if (ops > MAX_OPS) {
      diag_error(ctx->diag, DIAG_LIMIT, u.k->loc, "kernel %s would have %lld operations when unrolled, at most %d",
                 u.k->name, (long long)ops, MAX_OPS);
      return PASS_FAILED;
    }
    unroll_block(&u, &u.k->body);
  }
  return u.changed ? PASS_CHANGED : PASS_SAME;
}
