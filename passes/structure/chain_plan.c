// The order of the cores of a chain, by dynamic programming over sets of cores done.
//
//   25088 x 4096, modes 2 7 8 8 7 4 and 4^6, ranks 4      =>   (5,6) then 4, 3, (1,2): 3.21 M of 102.8 M products
//
// A state is a set of cores done and the letters that make the lanes of the tensor then; a transition multiplies any
// set of the others (merged at compile time) in one step, priced with its register tile. One set with all cores is the
// dense layer, so a chain for which that is cheaper is densified by the same table. Then the loops that steps share are
// chosen by what the tensors between them cost outside the first-level cache.
#include <string.h>

#include "passes/price.h"
#include "passes/structure/chain.h"

enum { STATES = 4096, VARIANTS = 4, MERGED_ELEMS = 1 << 24 };

typedef struct State {
  uint32_t mask;
  ChainTerm group;  // letters of the lanes
  double cycles;
  int32_t prev;
  ChainStep step;
} State;

typedef struct Search {
  const ChainShape *s;
  const ChainForm *f;
  const Target *t;
  State *at;
  uint32_t n;
} Search;

static void term_push(ChainTerm *t, uint32_t letter) { t->at[t->n++] = (uint8_t)letter; }

static bool in_cores(const ChainForm *f, uint32_t cores, uint32_t letter) {
  for (uint32_t i = 0; i < f->n_cores; i++)
    if ((cores >> i & 1) && chain_term_has(&f->core[i], letter)) return true;
  return false;
}

static uint32_t all_cores(const ChainForm *f) { return (1u << f->n_cores) - 1; }

bool chain_needed(const ChainForm *f, uint32_t done, uint32_t letter) {
  return chain_term_has(&f->y, letter) || in_cores(f, all_cores(f) & ~done, letter);
}

bool chain_in_tensor(const ChainForm *f, uint32_t done, uint32_t letter) {
  return (chain_term_has(&f->x, letter) || in_cores(f, done, letter)) && chain_needed(f, done, letter);
}

// All letters, those of y in its order, the others in front of them.
static ChainTerm all_letters(const ChainForm *f) {
  ChainTerm all = {0};
  for (uint32_t i = 0; i < f->n_letters; i++)
    if (!chain_term_has(&f->y, i)) term_push(&all, i);
  for (uint32_t i = 0; i < f->y.n; i++) term_push(&all, f->y.at[i]);
  return all;
}

ChainTerm chain_merged(const ChainForm *f, uint32_t done, uint32_t cores) {
  ChainTerm all = all_letters(f), c = {0};
  for (uint32_t i = 0; i < all.n; i++) {
    uint32_t l = all.at[i];
    if (in_cores(f, cores, l) && (chain_in_tensor(f, done, l) || chain_needed(f, done | cores, l))) term_push(&c, l);
  }
  return c;
}

// ---- one step

// The letters at the end of y that `from` ends with too, or that it has at all when `order` does not matter; with
// last_axis only those of the last axis.
static ChainTerm result_group(const ChainShape *s, const ChainTerm *from, bool order) {
  const ChainForm *f = s->f;
  uint32_t n = 0, axis, last;
  int64_t step;
  ChainTerm g = {0};
  for (; n < f->y.n && n < from->n; n++) {
    uint32_t l = f->y.at[f->y.n - 1 - n];
    if (order ? from->at[from->n - 1 - n] != l : !chain_term_has(from, l)) break;
    if (!s->last_axis) continue;
    if (!chain_axis(f, s->y, f->y.at[f->y.n - 1], &last, &step) || !chain_axis(f, s->y, l, &axis, &step)) break;
    if (axis != last) break;
  }
  for (uint32_t i = f->y.n - n; i < f->y.n; i++) term_push(&g, f->y.at[i]);
  return g;
}

// The letters of the lanes in one of several ways: 0 those that pass through, 1 outputs of the core that the result
// has, 2 all of them, 3 none.
static bool step_group(const ChainShape *s, const ChainTerm *held, const ChainTerm *made, const ChainTerm *core,
                       bool last, uint32_t variant, ChainTerm *g) {
  const ChainForm *f = s->f;
  *g = (ChainTerm){0};
  if (variant == 3) return true;
  if (variant == 0) {
    uint32_t n = 0;
    while (n < held->n && !chain_term_has(core, held->at[held->n - 1 - n])) n++;
    for (uint32_t i = held->n - n; i < held->n; i++) term_push(g, held->at[i]);
    if (last) *g = result_group(s, g, true);
  } else if (last) {
    if (variant == 1) *g = result_group(s, made, false);
  } else {
    for (uint32_t i = 0; i < made->n; i++)
      if (variant == 2 || chain_term_has(&f->y, made->at[i])) term_push(g, made->at[i]);
  }
  return g->n > 0;
}

static void side_push(ChainSide *s, const ChainForm *f, uint32_t letter) {
  if (f->size[letter] > 1) s->letter[s->n++] = (uint8_t)letter;
}

// The step that multiplies `cores` after those of `from->mask`. False: not in this way.
static bool step_make(const Search *q, const State *from, uint32_t cores, uint32_t variant, ChainStep *s,
                      ChainTerm *group) {
  const ChainForm *f = q->f;
  uint32_t done = from->mask | cores;
  bool last = done == all_cores(f);
  ChainTerm core = chain_merged(f, from->mask, cores), made = {0}, pass = {0};
  int64_t elems;
  if (!chain_term_count(f, &core, &elems) || elems > MERGED_ELEMS) return false;
  *s = (ChainStep){.cores = cores, .core_lanes = variant != 0, .width = 1};
  for (uint32_t i = 0; i < core.n; i++) {
    uint32_t l = core.at[i];
    if (!chain_in_tensor(f, from->mask, l)) {
      term_push(&made, l);
    } else {
      term_push(chain_needed(f, done, l) ? &s->both : &s->k, l);
    }
  }
  for (uint32_t i = 0; i < f->n_letters; i++)
    if (chain_in_tensor(f, from->mask, i) && !chain_term_has(&core, i)) term_push(&pass, i);
  if (!step_group(q->s, &from->group, &made, &core, last, variant, group)) return false;
  for (uint32_t i = 0; i < group->n; i++) s->width *= f->size[group->at[i]];
  if (variant == 0 && s->width == 1) return false;
  s->group = group->n;
  s->inside = variant == 0 && (from->mask == 0 || group->n < from->group.n);
  s->lanes = chain_lanes(q->t, q->s->type, s->width, s->inside);
  s->vectors = (s->width + s->lanes - 1) / s->lanes;
  const ChainTerm *rows = s->core_lanes ? &pass : &made, *vecs = s->core_lanes ? &made : &pass;
  for (uint32_t i = 0; i < rows->n; i++) side_push(&s->rows, f, rows->at[i]);
  for (uint32_t i = 0; i < vecs->n; i++)
    if (!chain_term_has(group, vecs->at[i])) side_push(&s->vecs, f, vecs->at[i]);
  chain_tile(f, q->t, s);
  double bytes = (double)elems * (q->s->type == DT_F64 ? 8 : 4);
  if (bytes > q->t->l1_bytes / 2.0) s->cycles += bytes / price_bandwidth(q->t, bytes);
  return true;
}

// ---- the search

static bool same_term(const ChainTerm *a, const ChainTerm *b) {
  return a->n == b->n && memcmp(a->at, b->at, a->n) == 0;
}

static void state_offer(Search *q, const State *s) {
  for (uint32_t i = 0; i < q->n; i++) {
    State *o = &q->at[i];
    if (o->mask != s->mask || !same_term(&o->group, &s->group)) continue;
    if (s->cycles < o->cycles) *o = *s;
    return;
  }
  if (q->n < STATES) q->at[q->n++] = *s;
}

static void state_extend(Search *q, int32_t from, uint32_t cores) {
  for (uint32_t variant = 0; variant < VARIANTS; variant++) {
    State s = {.mask = q->at[from].mask | cores, .prev = from};
    if (!step_make(q, &q->at[from], cores, variant, &s.step, &s.group)) continue;
    s.cycles = q->at[from].cycles + s.step.cycles;
    state_offer(q, &s);
  }
}

// Every set of cores that are left, or the one that is asked for.
static void state_extend_all(Search *q, int32_t from, const ChainAsk *ask) {
  uint32_t mask = q->at[from].mask, left = all_cores(q->f) & ~mask;
  if (ask->n_steps > 0) {
    for (uint32_t i = 0, done = 0; i < ask->n_steps; done |= ask->cores[i++])
      if (done == mask) state_extend(q, from, ask->cores[i]);
    return;
  }
  for (uint32_t set = left; set; set = (set - 1) & left) state_extend(q, from, set);
}

// States come in the order of their masks: a set is larger than those it was made from.
static int32_t search(Search *q, const ChainAsk *ask) {
  uint32_t all = all_cores(q->f);
  int32_t best = -1;
  q->at[0] = (State){.group = q->f->x, .prev = -1};
  q->n = 1;
  for (uint32_t mask = 0; mask < all; mask++)
    for (uint32_t i = 0; i < q->n; i++)
      if (q->at[i].mask == mask) state_extend_all(q, (int32_t)i, ask);
  for (uint32_t i = 0; i < q->n; i++)
    if (q->at[i].mask == all && (best < 0 || q->at[i].cycles < q->at[best].cycles)) best = (int32_t)i;
  return best;
}

static void read_steps(const Search *q, int32_t last, ChainPlan *p) {
  p->n = 0;
  for (int32_t i = last; q->at[i].prev >= 0; i = q->at[i].prev) p->n++;
  uint32_t at = p->n;
  for (int32_t i = last; q->at[i].prev >= 0; i = q->at[i].prev) {
    ChainStep *s = &p->step[--at];
    *s = q->at[i].step;
    s->to = q->at[i].group;  // the letters in front are ordered by the shared loops
  }
}

static bool ask_is_whole(const ChainForm *f, const ChainAsk *ask) {
  uint32_t done = 0;
  for (uint32_t i = 0; i < ask->n_steps; i++) {
    if (ask->cores[i] == 0 || (ask->cores[i] & (done | ~all_cores(f)))) return false;
    done |= ask->cores[i];
  }
  return ask->n_steps == 0 || done == all_cores(f);
}

bool chain_plan(const ChainShape *s, const Target *t, const ChainAsk *ask, ChainPlan *p) {
  if (!ask_is_whole(s->f, ask)) return false;
  Arena *arena = arena_new("chain plan");
  Search q = {.s = s, .f = s->f, .t = t, .at = NEW_ARRAY(arena, State, STATES)};
  int32_t last = search(&q, ask);
  *p = (ChainPlan){0};
  if (last >= 0) read_steps(&q, last, p);
  arena_free(arena);
  if (last >= 0) chain_fuse(s, t, ask->fused, p);
  return last >= 0;
}
