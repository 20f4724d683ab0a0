// Cores of a chain multiplied together at compile time, in doubles, and packed for the register tile of their step.
//
//   [n5,m5,r4,r5] * [n6,m6,r5]  =>  [n5,n6][r4][m5,m6]      summed letters first, lanes last
#include "passes/graph_util.h"
#include "passes/lower/chain_emit.h"

// Numbers with their letters, outermost first.
typedef struct Numbers {
  ChainTerm t;
  double *v;
} Numbers;

static int64_t stride_of(const ChainForm *f, const ChainTerm *t, uint32_t letter) {
  int64_t stride = 1;
  for (uint32_t i = t->n; i-- > 0; stride *= f->size[t->at[i]])
    if (t->at[i] == letter) return stride;
  return 0;
}

static Numbers core_numbers(const ChainEmit *e, uint32_t core) {
  Const *c = op_in(e->op, core + 1)->constant;
  Numbers n = {e->f.core[core], NEW_ARRAY(e->ctx->m->arena, double, type_count(c->type))};
  for (int64_t i = 0; i < type_count(c->type); i++) n.v[i] = const_f(e->ctx->m, c, i);
  return n;
}

// Sums a * b into a tensor with the letters of `to`.
static Numbers product(const ChainEmit *e, const Numbers *a, const Numbers *b, const ChainTerm *to) {
  const ChainForm *f = &e->f;
  int64_t sa[CHAIN_LETTERS], sb[CHAIN_LETTERS], st[CHAIN_LETTERS], at[CHAIN_LETTERS] = {0};
  int64_t total = 1, count = 1, ia = 0, ib = 0, it = 0;
  uint32_t n = 0, letter[CHAIN_LETTERS];
  for (uint32_t l = 0; l < f->n_letters; l++) {
    if (!chain_term_has(&a->t, l) && !chain_term_has(&b->t, l)) continue;
    sa[n] = stride_of(f, &a->t, l), sb[n] = stride_of(f, &b->t, l), st[n] = stride_of(f, to, l);
    letter[n++] = l;
    total *= f->size[l];
    if (chain_term_has(to, l)) count *= f->size[l];
  }
  Numbers r = {*to, NEW_ARRAY(e->ctx->m->arena, double, count)};
  for (int64_t i = 0; i < total; i++) {
    r.v[it] += a->v[ia] * b->v[ib];
    for (uint32_t l = n; l-- > 0;) {
      int64_t size = f->size[letter[l]];
      ia += sa[l], ib += sb[l], it += st[l];
      if (++at[l] < size) break;
      ia -= sa[l] * size, ib -= sb[l] * size, it -= st[l] * size;
      at[l] = 0;
    }
  }
  return r;
}

// The letters of a * b that the merged core or a core merged later has.
static ChainTerm kept(const ChainEmit *e, const Numbers *a, const Numbers *b, uint32_t later, const ChainTerm *merged) {
  ChainTerm t = {0};
  for (uint32_t l = 0; l < e->f.n_letters; l++) {
    bool keep = chain_term_has(merged, l);
    for (uint32_t i = 0; i < e->f.n_cores; i++) keep |= (later >> i & 1) && chain_term_has(&e->f.core[i], l);
    if (keep && (chain_term_has(&a->t, l) || chain_term_has(&b->t, l))) t.at[t.n++] = (uint8_t)l;
  }
  return t;
}

static Numbers merged_numbers(const ChainEmit *e, const ChainTerm *merged, uint32_t cores) {
  double one = 1;
  Numbers now = {.v = &one};
  for (uint32_t i = 0; i < e->f.n_cores; i++) {
    if (!(cores >> i & 1)) continue;
    Numbers next = core_numbers(e, i);
    ChainTerm to = kept(e, &now, &next, cores & ~((2u << i) - 1), merged);
    now = product(e, &now, &next, &to);
  }
  return now;
}

static void put_letters(ChainTerm *t, const ChainTerm *merged, uint32_t n, const uint8_t *letters) {
  for (uint32_t i = 0; i < n; i++)
    if (chain_term_has(merged, letters[i]) && !chain_term_has(t, letters[i])) t->at[t->n++] = letters[i];
}

// The order of the letters, and how many at the end make the lanes.
static ChainTerm packed_order(const ChainStep *s, const ChainTerm *merged, uint32_t *lanes) {
  ChainTerm t = {0}, group = {0};
  *lanes = s->core_lanes ? s->group : 0;
  for (uint32_t i = 0; i < *lanes; i++) group.at[group.n++] = s->to.at[s->to.n - *lanes + i];
  put_letters(&t, merged, s->both.n, s->both.at);
  put_letters(&t, merged, s->k.n, s->k.at);
  for (uint32_t i = 0; i < merged->n; i++)
    if (!chain_term_has(&group, merged->at[i])) put_letters(&t, merged, 1, &merged->at[i]);
  put_letters(&t, merged, group.n, group.at);
  return t;
}

Value *chain_core(ChainEmit *e, uint32_t step, ChainLayout *at) {
  const ChainStep *s = &e->p.step[step];
  uint32_t done = 0, lanes;
  for (uint32_t i = 0; i < step; i++) done |= e->p.step[i].cores;
  ChainTerm merged = chain_merged(&e->f, done, s->cores), order = packed_order(s, &merged, &lanes);
  Numbers from = merged_numbers(e, &merged, s->cores);
  *at = (ChainLayout){.count = 1};
  for (uint32_t i = order.n; i-- > 0;) {
    at->stride[order.at[i]] = at->count;
    at->count *= e->f.size[order.at[i]];
    if (lanes > 0 && order.n - i == lanes) at->count = (at->count + s->lanes - 1) / s->lanes * s->lanes;
  }
  double *v = NEW_ARRAY(e->ctx->m->arena, double, at->count);
  int64_t place[CHAIN_LETTERS] = {0}, to = 0, total = 1;
  for (uint32_t i = 0; i < from.t.n; i++) total *= e->f.size[from.t.at[i]];
  for (int64_t i = 0; i < total; i++) {
    v[to] = from.v[i];
    for (uint32_t l = from.t.n; l-- > 0;) {
      uint32_t letter = from.t.at[l];
      to += at->stride[letter];
      if (++place[l] < e->f.size[letter]) break;
      to -= at->stride[letter] * e->f.size[letter];
      place[l] = 0;
    }
  }
  return const_of_doubles(e->ctx->m, type_tensor(e->ctx->m->types, e->type, 1, &at->count), v, NULL);
}
