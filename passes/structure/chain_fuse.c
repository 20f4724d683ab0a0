// The loops that the steps of a chain share, and how the tensors between them lie in memory.
//
//   for n1 n2 { for n3 { step 1; step 2 }  step 3 }  step 4        each tensor holds what its reader sums, in L1
//
// A letter of x that is summed in step j may be a loop around all steps before j; one that is never summed around all.
// Those summed last come outermost. How many of them are loops is chosen by price: fewer make larger tiles, more make
// smaller tensors.
#include "passes/price.h"
#include "passes/structure/chain.h"

typedef struct Shared {
  uint32_t n;
  uint8_t letter[CHAIN_LETTERS];
  uint32_t last[CHAIN_LETTERS];  // the step it is a loop around, with all before it
} Shared;

static bool has_core_letter(const ChainStep *s, uint32_t letter) {
  return chain_term_has(&s->k, letter) || chain_term_has(&s->both, letter);
}

static bool is_lane(const ChainStep *s, uint32_t letter) {
  for (uint32_t i = 0; i < s->group; i++)
    if (s->to.at[s->to.n - 1 - i] == letter) return true;
  return false;
}

// The last step of the run from the first on that the letter passes through beside the lanes; -1: none.
static int32_t passes_until(const ChainPlan *p, uint32_t letter) {
  int32_t last = -1;
  for (uint32_t i = 0; i < p->n; i++) {
    if (has_core_letter(&p->step[i], letter) || is_lane(&p->step[i], letter)) break;
    last = (int32_t)i;
  }
  return last;
}

static Shared shared_of(const ChainForm *f, const ChainPlan *p) {
  Shared s = {0};
  for (int32_t last = (int32_t)p->n - 1; last >= 0; last--) {
    for (uint32_t i = 0; i < f->x.n; i++) {
      uint32_t l = f->x.at[i];
      if (f->size[l] == 1 || passes_until(p, l) != last) continue;
      s.letter[s.n] = (uint8_t)l;
      s.last[s.n++] = (uint32_t)last;
    }
  }
  return s;
}

static void side_drop(ChainSide *s, const uint8_t *letters, uint32_t n) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < s->n; i++) {
    bool drop = false;
    for (uint32_t k = 0; k < n; k++) drop |= letters[k] == s->letter[i];
    if (!drop) s->letter[kept++] = s->letter[i];
  }
  s->n = kept;
}

// ---- order of the letters in memory

static void push_new(ChainTerm *t, uint32_t letter) {
  if (!chain_term_has(t, letter)) t->at[t->n++] = (uint8_t)letter;
}

// The tensor after the cores of `done`, for `next` to read: shared loops, what passes on, what is summed, the lanes.
static ChainTerm between(const ChainForm *f, const ChainPlan *p, uint32_t done, const ChainTerm *group,
                         const ChainTerm *next_k) {
  ChainTerm t = {0};
  for (uint32_t i = 0; i < p->n_fused; i++)
    if (chain_in_tensor(f, done, p->fused[i]) && !chain_term_has(group, p->fused[i])) push_new(&t, p->fused[i]);
  for (uint32_t i = 0; i < f->n_letters; i++)
    if (chain_in_tensor(f, done, i) && !chain_term_has(group, i) && !chain_term_has(next_k, i)) push_new(&t, i);
  for (uint32_t i = 0; i < next_k->n; i++)
    if (!chain_term_has(group, next_k->at[i])) push_new(&t, next_k->at[i]);
  for (uint32_t i = 0; i < group->n; i++) push_new(&t, group->at[i]);
  return t;
}

static void order_letters(const ChainForm *f, ChainPlan *p) {
  ChainTerm from = f->x;
  uint32_t done = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    ChainStep *s = &p->step[i];
    ChainTerm group = {.n = s->group};
    for (uint32_t k = 0; k < s->group; k++) group.at[k] = s->to.at[s->to.n - s->group + k];
    done |= s->cores;
    s->from = from;
    s->to = i + 1 == p->n ? f->y : between(f, p, done, &group, &p->step[i + 1].k);
    from = s->to;
  }
}

static bool is_fused(const ChainPlan *p, uint32_t level, uint32_t letter) {
  for (uint32_t i = 0; i < level; i++)
    if (p->fused[i] == letter) return true;
  return false;
}

ChainLayout chain_layout(const ChainForm *f, const ChainPlan *p, uint32_t i) {
  const ChainTerm *t = i == 0 ? &f->x : &p->step[i - 1].to;
  const ChainStep *made = i == 0 || i == p->n ? NULL : &p->step[i - 1];
  ChainLayout l = {.count = 1};
  for (uint32_t k = t->n; k-- > 0;) {
    if (made != NULL && t->n - k == made->group + 1) l.count = (l.count + made->lanes - 1) / made->lanes * made->lanes;
    if (made != NULL && is_fused(p, p->step[i].level, t->at[k])) continue;
    l.stride[t->at[k]] = l.count;
    l.count *= f->size[t->at[k]];
  }
  if (made != NULL) l.count = (l.count + made->lanes - 1) / made->lanes * made->lanes;
  return l;
}

// ---- the choice

// Bytes of the tensors between steps that do not stay in the first-level cache, and what the loops themselves take.
static double shared_cycles(const ChainShape *s, const Target *t, const ChainPlan *p) {
  double bytes_each = s->type == DT_F64 ? 8 : 4, sum = 0, all = 0;
  for (uint32_t i = 1; i < p->n; i++) all += (double)chain_layout(s->f, p, i).count * bytes_each;
  for (uint32_t i = 1; i < p->n; i++) {
    double bytes = (double)chain_layout(s->f, p, i).count * bytes_each, times = 1;
    for (uint32_t k = 0; k < p->step[i].level; k++) times *= (double)s->f->size[p->fused[k]];
    if (all > 0.6 * t->l1_bytes)
      sum += 2 * bytes * times / price_bandwidth(t, 1.6 * (all < 2 * bytes ? all : 2 * bytes));
  }
  return sum;
}

static void fuse_first(const ChainShape *s, const Target *t, const Shared *shared, uint32_t n, ChainPlan *p) {
  p->compute = 0;
  p->n_fused = n;
  for (uint32_t i = 0; i < n; i++) p->fused[i] = shared->letter[i];
  for (uint32_t i = 0; i < p->n; i++) {
    ChainStep *step = &p->step[i];
    double times = 1;
    step->level = 0;
    while (step->level < n && shared->last[step->level] >= i) times *= (double)s->f->size[p->fused[step->level++]];
    side_drop(&step->rows, p->fused, step->level);
    side_drop(&step->vecs, p->fused, step->level);
    chain_tile(s->f, t, step);
    step->cycles *= times;
    p->compute += step->cycles;
  }
  order_letters(s->f, p);
  p->memory = shared_cycles(s, t, p);
}

static double macs_of(const ChainForm *f, const ChainPlan *p) {
  double sum = 0;
  uint32_t done = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    ChainTerm core = chain_merged(f, done, p->step[i].cores);
    double macs = 1;
    for (uint32_t l = 0; l < f->n_letters; l++)
      if (chain_term_has(&core, l) || chain_in_tensor(f, done, l)) macs *= (double)f->size[l];
    done |= p->step[i].cores;
    sum += macs;
  }
  return sum;
}

void chain_fuse(const ChainShape *s, const Target *t, int64_t asked, ChainPlan *p) {
  Shared shared = shared_of(s->f, p);
  ChainPlan plain = *p, best = *p;
  bool found = false;
  for (uint32_t n = 0; n <= shared.n; n++) {
    ChainPlan now = plain;
    if (asked >= 0 && n != (asked < (int64_t)shared.n ? (uint32_t)asked : shared.n)) continue;
    fuse_first(s, t, &shared, n, &now);
    if (found && now.compute + now.memory >= best.compute + best.memory) continue;
    best = now;
    found = true;
  }
  *p = best;
  p->macs = macs_of(s->f, p);
}
