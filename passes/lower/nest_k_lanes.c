// The register tile for results with very few columns: lanes run along the reduction, one vector of partial sums per
// result element, summed over its lanes at the end. Weights are packed [column][k]. See nest_emit.h.
#include "passes/lower/nest_emit.h"

typedef struct KLanes {
  Emit *e;
  const Tile *t;
  KBuf *acc, *row;  // [part, pixel, column, lane], [column, lane]
} KLanes;

// acc[part, pixel, column] += x[pixel] * w[column] over `lanes` neighbouring places of the reduction.
static void emit_step(KLanes *d, const Pos *p, Affine part, int64_t lanes) {
  Emit *e = d->e;
  KBuild *b = &e->b;
  const Nest *n = e->n;
  uint32_t depth = e->depth;
  Affine v = nest_open(e, "v", d->t->nvec, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine w_at = aff_add(p->w, aff_add(aff_mul(v, e->k), l)), row_at[2] = {v, l};
  kb_store(b, d->row, row_at, kx_load(b, e->w, &w_at));
  kb_end(b);
  nest_close(e, depth);
  Affine iy = nest_open(e, "iy", d->t->yi, FOR_UNROLL), ix = nest_open(e, "i", d->t->mi, FOR_UNROLL);
  v = nest_open(e, "v", d->t->nvec, FOR_UNROLL);
  l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine x_at = aff_add(aff_add(p->x, aff_mul(ix, n->m.x)), l);
  if (d->t->yi > 1) x_at = aff_add(x_at, aff_mul(iy, n->row[n->n_rows - 1].x));
  Affine at[4] = {part, aff_add(aff_mul(iy, d->t->mi), ix), v, l}, r_at[2] = {v, l};
  KExpr *x = lower_load(b, e->x, &x_at), *w = kx_load(b, d->row, r_at);
  kb_store(b, d->acc, at, lower_mul_add(e->ctx, b, x, w, kx_load(b, d->acc, at)));
  kb_end(b);
  nest_close(e, depth);
}

// Steps of the innermost reduction loop from `from` to `to`, `parts` vectors of `lanes` at a time.
static void emit_range(KLanes *d, const Pos *p, const Affine *w, int64_t from, int64_t to, int64_t parts,
                       int64_t lanes) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  if (from == to) return;
  Affine k = aff(from);
  if (to - from > parts * lanes) {
    k = aff_var(kb_for(&e->b, "k", from, to, parts * lanes, FOR_SEQ));
    e->depth++;
  }
  Affine part = nest_open(e, "s", parts, FOR_UNROLL);
  Pos q = pos_step(e, p, e->n->n_red - 1, aff_add(k, aff_mul(part, lanes)));
  q.w = aff_add(*w, q.w);
  emit_step(d, &q, part, lanes);
  nest_close(e, depth);
}

static void emit_reduction(KLanes *d, const Pos *p) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  int64_t lanes = e->n->tile.k_lanes, k = e->n->red[e->n->n_red - 1], whole = k - k % lanes;
  int64_t wide = k - k % (lanes * e->n->tile.ks);
  Pos q = nest_outer_reductions(e, p);
  emit_range(d, &q, &p->w, 0, wide, e->n->tile.ks, lanes);
  emit_range(d, &q, &p->w, wide, whole, 1, lanes);
  emit_range(d, &q, &p->w, whole, k, 1, k - whole);
  nest_close(e, depth);
}

static void emit_zero(KLanes *d) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  Affine s = nest_open(e, "s", e->n->tile.ks, FOR_UNROLL), i = nest_open(e, "i", d->t->mi * d->t->yi, FOR_UNROLL);
  Affine v = nest_open(e, "v", d->t->nvec, FOR_UNROLL);
  Affine at[4] = {s, i, v, aff_var(kb_for(&e->b, "l", 0, e->n->tile.k_lanes, 1, FOR_VEC))};
  kb_store(&e->b, d->acc, at, kx_f(&e->b, e->n->type, 0.0));
  kb_end(&e->b);
  nest_close(e, depth);
}

// sum[pixel, column] = everything in acc[.., pixel, column].
static void emit_sums(KLanes *d, KBuf *sum) {
  Emit *e = d->e;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine i = nest_open(e, "i", d->t->mi * d->t->yi, FOR_UNROLL), v = nest_open(e, "v", d->t->nvec, FOR_UNROLL);
  Affine to[4] = {aff(0), i, v, aff(0)};
  kb_store(b, sum, to, kx_f(b, e->n->type, 0.0));
  Affine l = aff_var(kb_for(b, "l", 0, e->n->tile.k_lanes, 1, FOR_VEC)), at[4] = {aff(0), i, v, l};
  KExpr *all = kx_load(b, d->acc, at);
  for (int64_t part = 1; part < e->n->tile.ks; part++) {
    Affine other[4] = {aff(part), i, v, l};
    all = kx_op2(b, KOP_ADD, all, kx_load(b, d->acc, other));
  }
  kb_reduce(b, KOP_ADD, sum, to, all);
  kb_end(b);
  nest_close(e, depth);
}

void nest_emit_k_lanes(Emit *e, Tile t, const Pos *p) {
  const NestTile *tile = &e->n->tile;
  KLanes d = {.e = e, .t = &t};
  int64_t pixels = t.mi * t.yi;
  d.acc = kb_alloc(&e->b, "acc", e->n->type, 4, (int64_t[]){tile->ks, pixels, t.nvec, tile->k_lanes}, SPACE_REG);
  d.row = kb_alloc(&e->b, "wv", e->n->type, 2, (int64_t[]){t.nvec, tile->k_lanes}, SPACE_REG);
  t.acc = kb_alloc(&e->b, "sum", e->n->type, 4, (int64_t[]){1, pixels, t.nvec, 1}, SPACE_REG);
  Pos q = nest_base(e, p);
  emit_zero(&d);
  if (e->k > 0) emit_reduction(&d, &q);
  emit_sums(&d, t.acc);
  nest_results(e, &t, &q);
}
