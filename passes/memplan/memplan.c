// Pass `memplan`: where every buffer of the program lives.
//
//   work %t: f32[1000]   work %u: f32[1000]   (relu %t -> %u, %t dead afterwards)
//     =>   work %t: f32[1000] at 0   work %u: f32[1000] in %t
//
// First buffers are merged: a result takes the place of an operand that dies in its step when the kernel allows it
// (inplace.h); copies that became copies onto themselves are dropped. Then every work buffer gets an offset, aligned to
// 64, so that buffers live at the same step never overlap: the largest first, each into the smallest gap that holds it;
// other orders are tried while the whole is larger than what lives at once.
// Programs with very many buffers are placed in the order of the steps instead, and by size classes when very many of
// them are live at once: both near-linear.
#include <stdlib.h>
#include <string.h>

#include "ir/base/map.h"
#include "ir/base/bitset.h"
#include "passes/memplan/inplace.h"
#include "passes/pass.h"

#define ALIGN 64
#define BY_SIZE_MAX 4096    // most buffers placed largest first (quadratic)
#define LIVE_MAX 4096       // most buffers live at once that are kept sorted (quadratic)
#define TRIES_MAX 256       // most orders tried
#define TRIES_COST 4000000  // pairs of buffers looked at over all orders

typedef struct MemPlan {
  Program *p;
  Arena *arena;
} MemPlan;

static int64_t aligned(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

// ---- liveness of root buffers

static void live_clear(Program *p) {
  for (uint32_t i = 0; i < p->bufs.n; i++) p->bufs.at[i]->first_step = p->bufs.at[i]->last_step = -1;
}

static void live_touch(PBuf *b, int32_t step) {
  if (b->first_step < 0 || step < b->first_step) b->first_step = step;
  if (step > b->last_step) b->last_step = step;
}

static void liveness(Program *p) {
  live_clear(p);
  for (uint32_t i = 0; i < p->steps.n; i++) {
    for (uint32_t a = 0; a < p->steps.at[i].n_args; a++)
      live_touch(pbuf_root(p->steps.at[i].args[a], NULL), (int32_t)i);
  }
}

// ---- merging

// Another argument of the step lives in the same root.
static bool shares_root(const Step *s, uint32_t arg) {
  const PBuf *root = pbuf_root(s->args[arg], NULL);
  for (uint32_t i = 0; i < s->n_args; i++) {
    if (i != arg && pbuf_root(s->args[i], NULL) == root) return true;
  }
  return false;
}

// The result of the step is a work buffer first touched here, the operand a work buffer last touched here.
static bool can_merge(const Step *s, int32_t step, uint32_t from, uint32_t to) {
  PBuf *y = s->args[to], *x = s->args[from], *root = pbuf_root(x, NULL);
  if (y->alias_of || y->kind != PBUF_WORK || y->first_step != step) return false;
  if (root->kind != PBUF_WORK || root->last_step != step || root->first_step == step) return false;
  return x->bytes == y->bytes && !shares_root(s, from) && !shares_root(s, to);
}

static void merge_step(MemPlan *mp, int32_t at) {
  Step *s = &mp->p->steps.at[at];
  bool *reads = NEW_ARRAY(mp->arena, bool, s->n_args + 1), *writes = NEW_ARRAY(mp->arena, bool, s->n_args + 1);
  kernel_access(s->kernel, reads, writes);
  for (uint32_t to = 0; to < s->n_args; to++) {
    if (!writes[to]) continue;
    for (uint32_t from = 0; from < s->n_args; from++) {
      bool identity;
      if (writes[from] || !reads[from] || !can_merge(s, at, from, to)) continue;
      if (!kernel_in_place(s->kernel, from, to, &identity)) continue;
      PBuf *root = pbuf_root(s->args[from], NULL);
      s->args[to]->alias_of = s->args[from];
      s->args[to]->alias_offset = 0;
      if (s->args[to]->last_step > root->last_step) root->last_step = s->args[to]->last_step;
      break;
    }
  }
}

// A copy of a buffer onto itself.
static bool is_idle(const Step *s) {
  bool reads[2] = {false}, writes[2] = {false}, identity = false;
  int64_t at[2];
  if (s->n_args != 2 || s->kernel->n_params != 2) return false;
  kernel_access(s->kernel, reads, writes);
  if (!writes[0] && !writes[1]) return false;
  uint32_t to = writes[0] ? 0 : 1, from = 1 - to;
  bool same = pbuf_root(s->args[0], &at[0]) == pbuf_root(s->args[1], &at[1]) && at[0] == at[1];
  return same && kernel_in_place(s->kernel, from, to, &identity) && identity;
}

static void drop_idle_steps(Program *p) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    if (!is_idle(&p->steps.at[i])) p->steps.at[n++] = p->steps.at[i];
  }
  p->steps.n = n;
}

static void mark_called(const KBlock *b, bool *used) {
  for (const KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_FOR) mark_called(&s->for_.body, used);
    if (s->kind == KS_IF) {
      mark_called(&s->if_.then, used);
      mark_called(&s->if_.other, used);
    }
    if (s->kind == KS_CALL) used[s->call.callee->id] = true;
  }
}

// Kernels no step needs any more leave the program.
static void drop_unused_kernels(MemPlan *mp) {
  Program *p = mp->p;
  bool *used = NEW_ARRAY(mp->arena, bool, p->kernels.n + 1);
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->steps.n; i++) used[p->steps.at[i].kernel->id] = true;
  for (uint32_t i = 0; i < p->kernels.n; i++) mark_called(&p->kernels.at[i]->body, used);
  for (uint32_t i = 0; i < p->kernels.n; i++) {
    if (!used[i]) continue;
    p->kernels.at[n] = p->kernels.at[i];
    p->kernels.at[n]->id = n;
    n++;
  }
  p->kernels.n = n;
}

// ---- placing

static int by_size(const void *pa, const void *pb) {
  const PBuf *a = *(PBuf *const *)pa, *b = *(PBuf *const *)pb;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  return a->id < b->id ? -1 : 1;
}

static int by_offset(const void *pa, const void *pb) {
  const PBuf *a = *(PBuf *const *)pa, *b = *(PBuf *const *)pb;
  if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
  return a->id < b->id ? -1 : 1;
}

static int by_step(const void *pa, const void *pb) {
  const PBuf *a = *(PBuf *const *)pa, *b = *(PBuf *const *)pb;
  if (a->first_step != b->first_step) return a->first_step < b->first_step ? -1 : 1;
  return by_size(pa, pb);
}

static bool live_together(const PBuf *a, const PBuf *b) {
  return a->first_step <= b->last_step && b->first_step <= a->last_step;
}

// Smallest gap between the neighbours (sorted by offset) that holds `bytes`; after the last one when there is none.
static int64_t best_gap(PBuf *const *near, uint32_t n, int64_t bytes) {
  int64_t at = 0, best = -1, best_size = INT64_MAX;
  for (uint32_t i = 0; i < n; i++) {
    int64_t size = near[i]->offset - at, end = near[i]->offset + aligned(near[i]->bytes);
    if (size >= bytes && size < best_size) {
      best = at;
      best_size = size;
    }
    if (end > at) at = end;
  }
  return best >= 0 ? best : at;
}

// Places the buffers in this order and returns the bytes they take; `highest` is the first one that ends there.
static int64_t place_in_order(PBuf **near, PBuf *const *bufs, uint32_t n, uint32_t *highest) {
  int64_t top = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t n_near = 0;
    for (uint32_t k = 0; k < i; k++) {
      if (live_together(bufs[i], bufs[k])) near[n_near++] = bufs[k];
    }
    qsort(near, n_near, sizeof *near, by_offset);
    bufs[i]->offset = best_gap(near, n_near, aligned(bufs[i]->bytes));
    if (bufs[i]->offset + bufs[i]->bytes <= top) continue;
    top = bufs[i]->offset + bufs[i]->bytes;
    *highest = i;
  }
  return top;
}

static void move_to_front(PBuf **bufs, uint32_t at) {
  PBuf *b = bufs[at];
  memmove(bufs + 1, bufs, at * sizeof *bufs);
  bufs[0] = b;
}

// The largest first. While that takes more than lives at once, the buffer that sticks out is placed before all others.
static void place_by_size(MemPlan *mp, PBuf **bufs, uint32_t n) {
  PBuf **near = NEW_ARRAY(mp->arena, PBuf *, n + 1), **best = NEW_ARRAY(mp->arena, PBuf *, n + 1);
  uint64_t tries = TRIES_COST / ((uint64_t)n * n + 1);
  uint32_t highest = 0;
  qsort(bufs, n, sizeof *bufs, by_size);
  int64_t least = place_in_order(near, bufs, n, &highest);
  memcpy(best, bufs, n * sizeof *bufs);
  for (uint64_t i = 0; i < tries && i < TRIES_MAX && least - mp->p->live_bytes > mp->p->live_bytes / 100; i++) {
    move_to_front(bufs, highest);
    int64_t top = place_in_order(near, bufs, n, &highest);
    if (top >= least) continue;
    least = top;
    memcpy(best, bufs, n * sizeof *bufs);
  }
  memcpy(bufs, best, n * sizeof *bufs);
  place_in_order(near, bufs, n, &highest);
}

// Keeps the buffers that are live, sorted by offset. False when they are too many for that.
static bool place_by_step(MemPlan *mp, PBuf **bufs, uint32_t n) {
  PBuf **live = NEW_ARRAY(mp->arena, PBuf *, n + 1);
  uint32_t n_live = 0;
  qsort(bufs, n, sizeof *bufs, by_step);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t kept = 0;
    for (uint32_t k = 0; k < n_live; k++) {
      if (live[k]->last_step >= bufs[i]->first_step) live[kept++] = live[k];
    }
    bufs[i]->offset = best_gap(live, kept, aligned(bufs[i]->bytes));
    uint32_t at = kept;
    for (; at > 0 && live[at - 1]->offset > bufs[i]->offset; at--) live[at] = live[at - 1];
    live[at] = bufs[i];
    n_live = kept + 1;
    if (n_live > LIVE_MAX) return false;
  }
  return true;
}

static int by_last_step(const void *pa, const void *pb) {
  const PBuf *a = *(PBuf *const *)pa, *b = *(PBuf *const *)pb;
  if (a->last_step != b->last_step) return a->last_step < b->last_step ? -1 : 1;
  return a->id < b->id ? -1 : 1;
}

// A dead buffer of the same size leaves its place; without one the workspace grows. `bufs` come by their first step.
static void place_by_class(MemPlan *mp, PBuf **bufs, uint32_t n) {
  PBuf **ends = arena_copy(mp->arena, bufs, n * sizeof *bufs);
  PBuf **next = NEW_ARRAY(mp->arena, PBuf *, mp->p->bufs.n + 1);  // of the dead of one size, by id
  Map *dead = map_new(mp->arena);                                 // aligned size + 1 -> one whose place is free
  int64_t top = 0;
  uint32_t ended = 0;
  qsort(ends, n, sizeof *ends, by_last_step);
  for (uint32_t i = 0; i < n; i++) {
    for (; ended < n && ends[ended]->last_step < bufs[i]->first_step; ended++) {
      uint64_t key = (uint64_t)aligned(ends[ended]->bytes) + 1;
      next[ends[ended]->id] = map_get(dead, key);
      map_set(dead, key, ends[ended]);
    }
    uint64_t key = (uint64_t)aligned(bufs[i]->bytes) + 1;
    const PBuf *place = map_get(dead, key);
    bufs[i]->offset = place ? place->offset : top;
    if (place) {
      map_set(dead, key, next[place->id]);
    } else {
      top += aligned(bufs[i]->bytes);
    }
  }
}

static void place(MemPlan *mp) {
  Program *p = mp->p;
  PBuf **bufs = NEW_ARRAY(mp->arena, PBuf *, p->bufs.n + 1);
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->bufs.n; i++) {
    PBuf *b = p->bufs.at[i];
    b->offset = -1;
    if (b->kind == PBUF_WORK && !b->alias_of && b->first_step >= 0) bufs[n++] = b;
  }
  if (n <= BY_SIZE_MAX) {
    place_by_size(mp, bufs, n);
  } else if (!place_by_step(mp, bufs, n)) {
    place_by_class(mp, bufs, n);
  }
  p->workspace_align = ALIGN;
  p->workspace_bytes = 0;
  for (uint32_t i = 0; i < n; i++) {
    int64_t end = bufs[i]->offset + bufs[i]->bytes;
    if (end > p->workspace_bytes) p->workspace_bytes = end;
  }
}

static void sum_live_bytes(MemPlan *mp) {
  Program *p = mp->p;
  int64_t *change = NEW_ARRAY(mp->arena, int64_t, p->steps.n + 1), sum = 0;
  for (uint32_t i = 0; i < p->bufs.n; i++) {
    const PBuf *b = p->bufs.at[i];
    if (b->kind != PBUF_WORK || b->alias_of || b->first_step < 0) continue;
    change[b->first_step] += b->bytes;
    change[b->last_step + 1] -= b->bytes;
  }
  p->live_bytes = 0;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    sum += change[i];
    if (sum > p->live_bytes) p->live_bytes = sum;
  }
}

// ---- noalias

static bool args_overlap(PBuf *a, PBuf *b) {
  int64_t at_a, at_b;
  if (pbuf_root(a, &at_a) != pbuf_root(b, &at_b)) return false;
  return at_a < at_b + b->bytes && at_b < at_a + a->bytes;
}

static bool step_overlaps(const Step *s) {
  for (uint32_t i = 0; i < s->n_args; i++) {
    for (uint32_t k = 0; k < i; k++) {
      if (args_overlap(s->args[i], s->args[k])) return true;
    }
  }
  return false;
}

// Two parameters of a kernel that steps call, and no other kernel does.
static bool params_overlap(const Program *p, const Kernel *k, const KBuf *a, const KBuf *b) {
  if (a->param < 0 || b->param < 0) return true;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *s = &p->steps.at[i];
    if (s->kernel == k && args_overlap(s->args[a->param], s->args[b->param])) return true;
  }
  return false;
}

typedef struct Spread {
  const Program *p;
  Bitset called;  // kernels that other kernels call
} Spread;

static void see_calls(Spread *sp, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_FOR) see_calls(sp, &s->for_.body);
    if (s->kind == KS_IF) {
      see_calls(sp, &s->if_.then);
      see_calls(sp, &s->if_.other);
    }
    if (s->kind == KS_CALL) bitset_add(&sp->called, s->call.callee->id);
  }
}

static bool call_overlaps(const Spread *sp, const Kernel *caller, const KStmt *call) {
  bool known = !bitset_has(&sp->called, caller->id);
  for (uint32_t i = 0; i < call->call.n; i++) {
    for (uint32_t k = 0; k < i; k++) {
      if (call->call.args[i] == call->call.args[k]) return true;
      if (caller->noalias) continue;
      if (!known || params_overlap(sp->p, caller, call->call.args[i], call->call.args[k])) return true;
    }
  }
  return false;
}

// Kernels called with buffers that may overlap, or with one buffer twice, are not noalias. True when something changed.
static bool spread_block(const Spread *sp, const Kernel *k, const KBlock *b) {
  bool changed = false;
  for (const KStmt *s = b->first; s; s = s->next) {
    if (s->kind == KS_FOR) changed |= spread_block(sp, k, &s->for_.body);
    if (s->kind == KS_IF) changed |= spread_block(sp, k, &s->if_.then) | spread_block(sp, k, &s->if_.other);
    if (s->kind != KS_CALL || !s->call.callee->noalias || !call_overlaps(sp, k, s)) continue;
    s->call.callee->noalias = false;
    changed = true;
  }
  return changed;
}

static void set_noalias(Program *p, Arena *arena) {
  for (uint32_t i = 0; i < p->kernels.n; i++) p->kernels.at[i]->noalias = true;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    if (step_overlaps(&p->steps.at[i])) p->steps.at[i].kernel->noalias = false;
  }
  Spread sp = {p, bitset_new(arena, p->kernels.n + 1)};
  for (uint32_t i = 0; i < p->kernels.n; i++) see_calls(&sp, &p->kernels.at[i]->body);
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = 0; i < p->kernels.n; i++) changed |= spread_block(&sp, p->kernels.at[i], &p->kernels.at[i]->body);
  }
}

PassResult pass_memplan(PassCtx *pc) {
  MemPlan mp = {.p = pc->m->program, .arena = pc->arena};
  if (!mp.p) return PASS_SAME;
  liveness(mp.p);
  for (uint32_t i = 0; i < mp.p->steps.n; i++) merge_step(&mp, (int32_t)i);
  drop_idle_steps(mp.p);
  drop_unused_kernels(&mp);
  liveness(mp.p);
  sum_live_bytes(&mp);
  place(&mp);
  set_noalias(mp.p, mp.arena);
  return PASS_CHANGED;
}
