// split: kernels of more than 5,000 operations are cut into callees, so that no function of the object is larger.
//
//   kernel @k(%x: f32[9] arg, %y: f32[9] arg) { A  B  C }
// becomes
//   kernel @k_part(%x: f32[9] arg, %y: f32[9] arg) { A  B }
//   kernel @k_part_2(%x: f32[9] arg, %y: f32[9] arg) { C }
//   kernel @k(...) { call @k_part(%x, %y)  call @k_part_2(%x, %y) }
//
// The block that is cut is the outermost one whose statements are small enough; equal parts become one callee. A buffer
// whose place depends on loops around the block is passed at that place. Lets from outside are computed again inside.
// Nothing is cut between the alloc of a register buffer and its last use. What cannot be cut is a limit error.
// `split{ops=100}` sets another limit (tests).
#include <stdlib.h>
#include <string.h>

#include "passes/kernel/kutil.h"
#include "passes/kernel/outline.h"
#include "passes/pass.h"

#define MAX_OPS 5000

typedef struct Split {
  Module *m;
  Arena *scratch;
  Diag *diag;
  int64_t limit;
  int64_t ops;  // of the kernel at hand, before cutting
  bool changed;
} Split;

static int64_t block_ops(const KBlock *b) {
  Kernel one = {.name = "", .body = *b};
  return kernel_ops(&one);
}

static int64_t stmt_ops(const KStmt *s) {
  KStmt copy = *s;
  copy.prev = copy.next = NULL;
  KBlock b = {&copy, &copy};
  return block_ops(&b);
}

// Lets and allocs of [first, last] that later statements use: a cut after last would tear them apart.
static bool torn(Split *sp, const Outline *o, const KStmt *first, const KStmt *last) {
  ArenaMark mark = arena_mark(sp->scratch);
  Bitset vars = bitset_new(sp->scratch, o->k->n_vars + 1), bufs = bitset_new(sp->scratch, o->k->n_bufs + 1);
  for (const KStmt *s = first; s != last->next; s = s->next) {
    if (s->kind == KS_LET && !outline_repeats(o, s)) bitset_add(&vars, s->let.var->id);
    if (s->kind == KS_ALLOC) bitset_add(&bufs, s->alloc.buf->id);
  }
  bool r = false;
  for (const KStmt *s = last->next; s && !r; s = s->next) r = stmt_uses(s, &vars, &bufs);
  arena_reset(sp->scratch, mark);
  return r;
}

// The block to cut: from the body down through the one statement that is too large by itself.
static KBlock *find_block(Split *sp, Kernel *k, Outline *o) {
  for (KBlock *b = &k->body;;) {
    KStmt *large = NULL;
    for (KStmt *s = b->first; s; s = s->next)
      if (stmt_ops(s) > sp->limit) large = s;
    if (!large) return b;
    outline_see(o, b, large);
    bool loop = large->kind == KS_FOR && (large->for_.loop == FOR_SEQ || large->for_.loop == FOR_PAR);
    if (loop)
      b = &large->for_.body;
    else if (large->kind == KS_IF)
      b = block_ops(&large->if_.then) > sp->limit ? &large->if_.then : &large->if_.other;
    else
      return NULL;
  }
}

// Lets that every part can repeat, calls, and par loops, which only the kernel itself can hand to threads.
static bool stays(const Outline *o, const KStmt *s) {
  if (s->kind == KS_LET) return outline_repeats(o, s);
  return s->kind == KS_CALL || (s->kind == KS_FOR && s->for_.loop == FOR_PAR);
}

// The last statement of a part that starts at `first`: small enough and nothing torn; NULL when there is no such place.
static KStmt *find_end(Split *sp, const Outline *o, KStmt *first) {
  KStmt *end = NULL;
  int64_t ops = 0;
  for (uint32_t i = 0; i < o->visible.n; i++) ops += stmt_ops(o->visible.at[i]);  // repeated in the callee
  for (KStmt *s = first; s; s = s->next) {
    ops += stmt_ops(s);
    if (ops > sp->limit || (s->kind != KS_LET && stays(o, s))) break;
    if (!s->next || !torn(sp, o, first, s)) end = s;
  }
  return end;
}

static bool too_large(const Split *sp, const Kernel *k) {
  return diag_error(sp->diag, DIAG_LIMIT, k->loc,
                    "kernel %s has %lld operations, at most %lld fit one function, and it can't be cut", k->name,
                    (long long)sp->ops, (long long)sp->limit);
}

// Replaces the statements of one block by calls.
static bool cut(Split *sp, Kernel *k) {
  sp->ops = kernel_ops(k);
  Outline o = outline_new(sp->m, sp->scratch, k);
  KBlock *b = find_block(sp, k, &o);
  if (!b) return too_large(sp, k);
  outline_see(&o, b, NULL);
  bool progress = false;
  for (KStmt *s = b->first, *next; s; s = next) {
    next = s->next;
    if (stays(&o, s)) continue;
    KStmt *end = find_end(sp, &o, s);
    if (!end) return too_large(sp, k);
    next = end->next;
    if (!outline_call(&o, b, s, end)) return too_large(sp, k);
    progress = true;
  }
  sp->changed = true;
  return progress || too_large(sp, k);
}

PassResult pass_split(PassCtx *ctx) {
  Split sp = {.m = ctx->m, .scratch = ctx->arena, .diag = ctx->diag, .limit = MAX_OPS};
  if (strncmp(ctx->args, "ops=", 4) == 0) sp.limit = strtoll(ctx->args + 4, NULL, 10);
  Program *p = ctx->m->program;
  for (uint32_t i = 0; i < p->kernels.n; i++)
    while (kernel_ops(p->kernels.at[i]) > sp.limit)
      if (!cut(&sp, p->kernels.at[i])) return PASS_FAILED;
  return sp.changed ? PASS_CHANGED : PASS_SAME;
}
