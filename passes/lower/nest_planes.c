// The register tile of bit planes: counts of nv weight vectors against mr * my broadcast words of x. See planes.h.
//
// Pairs of planes (i of x, j of w) are gone through by falling i + j; between the steps the sums are doubled, so no
// count is ever multiplied. Few pairs are copied, many are loops:
//
//   for s = m + k - 2 .. 0:  sums += sums;  for every i + j = s:  sums += popcount(plane i of x, plane j of w)
#include "passes/lower/nest_emit.h"

enum { MOST_COPIES = 4 };

typedef struct Count {
  Emit *e;
  const Tile *t;
  KBuf *sign;  // of the weights, in registers
  Pos at;      // of the tile
} Count;

// A pair of planes: of x (words), of w (rows of the panel); the top plane of negative weights is subtracted.
typedef struct Pair {
  Affine x, w;
  bool subtracts;
} Pair;

static KExpr *counted(Count *c, KExpr *x, KExpr *w, KExpr *sign) {
  KBuild *b = &c->e->b;
  switch (c->e->n->planes.form) {
    case PLANES_XOR: return kx_op2(b, KOP_XOR, x, w);
    case PLANES_SIGN: return kx_op2(b, KOP_AND, kx_op2(b, KOP_XOR, x, sign), w);
    case PLANES_AND: break;
  }
  return kx_op2(b, KOP_AND, x, w);
}

static void load_row(Count *c, KBuf *to, Affine from) {
  KBuild *b = &c->e->b;
  uint32_t depth = c->e->depth;
  int64_t lanes = c->e->n->tile.lanes;
  Affine v = nest_open(c->e, "v", c->t->nvec, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine at = aff_add(from, aff_add(aff_mul(v, lanes), l)), row_at[2] = {v, l};
  kb_store(b, to, row_at, kx_load(b, c->e->w, &at));
  kb_end(b);
  nest_close(c->e, depth);
}

// sums[i, v] += popcount at one place of the reduction; p->w counts rows of the panel.
static void emit_step(Count *c, const Pair *pair, const Pos *p) {
  Emit *e = c->e;
  const Nest *n = e->n;
  const Tile *t = c->t;
  KBuild *b = &e->b;
  int64_t width = nest_weights_row(e, t);
  uint32_t depth = e->depth;
  load_row(c, t->row, aff_add(c->at.w, aff_mul(aff_add(p->w, pair->w), width)));
  if (c->sign != NULL) load_row(c, c->sign, aff_add(c->at.w, aff_mul(aff_plus(p->w, n->planes.w * e->k), width)));
  Affine iy = nest_open(e, "iy", t->yi, FOR_UNROLL), ix = nest_open(e, "i", t->mi, FOR_UNROLL);
  Affine x_at = aff_add(aff_add(p->x, pair->x), aff_mul(ix, n->m.x));
  if (t->yi > 1) x_at = aff_add(x_at, aff_mul(iy, n->row[n->n_rows - 1].x));
  KVar *x = kb_let(b, "a", kx_load(b, e->x, &x_at));
  Affine v = nest_open(e, "v", t->nvec, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, n->tile.lanes, 1, FOR_VEC));
  Affine at[4] = {aff(0), aff_add(aff_mul(iy, t->mi), ix), v, l}, row_at[2] = {v, l};
  KExpr *sign = c->sign != NULL ? kx_load(b, c->sign, row_at) : NULL;
  KExpr *count = kx_op1(b, KOP_POPCNT, counted(c, kx_var(b, x), kx_load(b, t->row, row_at), sign));
  kb_store(b, t->acc, at, kx_op2(b, pair->subtracts ? KOP_SUB : KOP_ADD, kx_load(b, t->acc, at), count));
  kb_end(b);
  nest_close(e, depth);
}

// The innermost reduction loop, `unroll` steps at a time, then the rest one by one.
static void emit_pair(Count *c, const Pair *pair) {
  Emit *e = c->e;
  const Nest *n = e->n;
  uint32_t depth = e->depth, last = n->n_red - 1;
  int64_t k = n->red[last], unroll = n->tile.ku < k ? n->tile.ku : k, whole = k - k % unroll;
  Pos p = nest_outer_reductions(e, &c->at);
  uint32_t inside = e->depth;
  for (int64_t from = 0; from < k; from = whole) {
    int64_t step = from == 0 ? unroll : 1, to = from == 0 ? whole : k;
    Affine at = aff(from);
    if (to - from > step) {
      at = aff_var(kb_for(&e->b, "k", from, to, step, FOR_SEQ));
      e->depth++;
    }
    Affine j = nest_open(e, "j", step, FOR_UNROLL);
    Pos q = pos_step(e, &p, last, aff_add(at, j));
    emit_step(c, pair, &q);
    nest_close(e, inside);
    if (to == k) break;
  }
  nest_close(e, depth);
}

static void emit_sums(Count *c, bool doubles) {
  Emit *e = c->e;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine i = nest_open(e, "i", c->t->mi * c->t->yi, FOR_UNROLL), v = nest_open(e, "v", c->t->nvec, FOR_UNROLL);
  Affine at[4] = {aff(0), i, v, aff_var(kb_for(b, "l", 0, e->n->tile.lanes, 1, FOR_VEC))};
  KExpr *zero = kx_i(b, e->n->type, 0), *sum = kx_load(b, c->t->acc, at);
  kb_store(b, c->t->acc, at, doubles ? kx_op2(b, KOP_ADD, sum, kx_load(b, c->t->acc, at)) : zero);
  kb_end(b);
  nest_close(e, depth);
}

static void emit_copies(Count *c) {
  const NestPlanes *s = &c->e->n->planes;
  for (int64_t sum = s->x + s->w - 2; sum >= 0; sum--) {
    if (sum < s->x + s->w - 2) emit_sums(c, true);
    for (int64_t j = 0; j < s->w; j++) {
      if (sum - j < 0 || sum - j >= s->x) continue;
      Pair pair = {.x = aff(sum - j), .w = aff(j * c->e->k), .subtracts = s->negative && j + 1 == s->w};
      emit_pair(c, &pair);
    }
  }
}

// Step d has s = m + k - 2 - d and planes of x from max(0, m - 1 - d) to min(m - 1, s); the first of them meets the top
// plane of w.
static void emit_loops(Count *c) {
  Emit *e = c->e;
  KBuild *b = &e->b;
  const NestPlanes *s = &e->n->planes;
  int64_t top = s->x + s->w - 2;
  Affine d = aff_var(kb_for(b, "d", 0, top + 1, 1, FOR_SEQ)), first = aff_plus(aff_mul(d, -1), s->x - 1);
  emit_sums(c, true);
  if (s->negative) {
    Pair highest = {.x = first, .w = aff((s->w - 1) * e->k), .subtracts = true};
    kb_if(b, kx_op2(b, KOP_LT, kx_index(b, d), kx_i(b, DT_I64, s->x)));
    emit_pair(c, &highest);
    kb_end(b);
    first = aff_plus(first, 1);
  }
  KExpr *lo = kx_op2(b, KOP_MAX, kx_index(b, first), kx_i(b, DT_I64, 0));
  KExpr *hi = kx_op2(b, KOP_MIN, kx_index(b, aff_plus(aff_mul(d, -1), top + 1)), kx_i(b, DT_I64, s->x));
  Affine from = aff_var(kb_let(b, "first", lo)), to = aff_var(kb_let(b, "end", hi));
  Affine i = aff_var(kb_for_aff(b, "i", from, to, 1, FOR_SEQ));
  Affine j = aff_plus(aff_add(aff_mul(d, -1), aff_mul(i, -1)), top);
  emit_pair(c, &(Pair){.x = i, .w = aff_mul(j, e->k)});
  kb_end(b);
  kb_end(b);
}

// x times a positive number as a sum of shifted ones: nothing is multiplied.
static KExpr *times(KBuild *b, KExpr *x, int64_t by) {
  KExpr *sum = NULL;
  KVar *once = (by & (by - 1)) != 0 ? kb_let(b, "count", x) : NULL;
  for (int64_t i = 0; by >> i != 0; i++) {
    if ((by >> i & 1) == 0) continue;
    KExpr *one = once != NULL ? kx_var(b, once) : x;
    if (i > 0) one = kx_op2(b, KOP_SHL, one, kx_i(b, one->type, i));
    sum = sum != NULL ? kx_op2(b, KOP_ADD, sum, one) : one;
  }
  return sum;
}

KExpr *nest_count(Emit *e, KExpr *held) {
  const NestPlanes *s = &e->n->planes;
  KBuild *b = &e->b;
  DType t = lower_compute_type(op_post(e->n->op) != NULL ? op_post(e->n->op)->args[0]->type->dtype
                                                         : op_out(e->n->op, 0)->type->dtype);
  KExpr *sum = times(b, kx_cast(b, t, held), s->mul < 0 ? -s->mul : s->mul);
  if (s->mul < 0) return kx_op2(b, KOP_SUB, kx_i(b, t, s->base), sum);
  return s->base != 0 ? kx_op2(b, KOP_ADD, sum, kx_i(b, t, s->base)) : sum;
}

// Copies without a loop between them are one long block, and LLVM would take more registers than there are.
static bool has_loop(const Nest *n) { return n->n_red > 1 || n->red[0] >= 2 * n->tile.ku; }

void nest_emit_planes(Emit *e, Tile t, const Pos *p) {
  const Nest *n = e->n;
  t.acc = kb_alloc(&e->b, "acc", n->type, 4, (int64_t[]){1, t.mi * t.yi, t.nvec, n->tile.lanes}, SPACE_REG);
  t.row = kb_alloc(&e->b, "wv", n->type, 2, (int64_t[]){t.nvec, n->tile.lanes}, SPACE_REG);
  Count c = {.e = e, .t = &t, .at = nest_base(e, p)};
  if (n->planes.form == PLANES_SIGN)
    c.sign = kb_alloc(&e->b, "sign", n->type, 2, (int64_t[]){t.nvec, n->tile.lanes}, SPACE_REG);
  emit_sums(&c, false);
  if (n->planes.x * n->planes.w == 1 || (n->planes.x * n->planes.w <= MOST_COPIES && has_loop(n))) {
    emit_copies(&c);
  } else {
    emit_loops(&c);
  }
  nest_results(e, &t, &c.at);
}
