// The loops of a chain: those that steps share around them, and in each step register tiles over what is left.
//
//   for both.. for vecs.. for rows..                         (outside of the tile, the last tile of a loop is smaller)
//     sum[rows, vecs, lanes] = 0
//     for k: v[vecs, lanes] = load; for rows: a = load; sum[row] += a * v
//     store sum where the next step reads it; at the end through the post function
#include "passes/lower/chain_emit.h"

// A loop over a letter: what one step moves in the operand of rows, that of vectors, the result, and along an axis of
// the result type.
typedef struct Loop {
  int64_t extent, row, vec, out, along;
  uint32_t axis;
} Loop;

typedef struct Place {
  Affine row, vec, out, axis[MAX_RANK];
} Place;

enum { MOST_LOOPS = CHAIN_LETTERS + 1 };

// A step while it is emitted.
typedef struct Stage {
  ChainEmit *e;
  const ChainStep *s;
  KBuf *row, *vec, *out;
  bool last;
  uint32_t n_both, n_k, n_rows, n_vecs;
  Loop both[MOST_LOOPS], k[MOST_LOOPS], rows[MOST_LOOPS], vecs[MOST_LOOPS];
  int64_t stored;  // lanes of the vectors at hand that are stored
} Stage;

static Place place_move(const Place *p, const Loop *l, Affine by) {
  Place q = *p;
  q.row = aff_add(q.row, aff_mul(by, l->row));
  q.vec = aff_add(q.vec, aff_mul(by, l->vec));
  q.out = aff_add(q.out, aff_mul(by, l->out));
  q.axis[l->axis] = aff_add(q.axis[l->axis], aff_mul(by, l->along));
  return q;
}

static void settle(KBuild *b, Affine *a) {
  if (a->n > 1) *a = aff_var(kb_let(b, "o", kx_index(b, *a)));
}

// Long sums become variables, outside of the loops that follow.
static void place_settle(Stage *g, Place *p) {
  KBuild *b = &g->e->b;
  settle(b, &p->row);
  settle(b, &p->vec);
  settle(b, &p->out);
  for (uint32_t i = 0; g->last && g->e->pp.n > 0 && i < MAX_RANK; i++) settle(b, &p->axis[i]);
}

static Affine open_loop(ChainEmit *e, const char *name, int64_t extent, KForKind kind) {
  if (extent == 1) return aff(0);
  e->depth++;
  return aff_var(kb_for(&e->b, name, 0, extent, 1, kind));
}

static void close_loops(ChainEmit *e, uint32_t depth) {
  for (; e->depth > depth; e->depth--) kb_end(&e->b);
}

// ---- the loops of a step

static Loop loop_over(const Stage *g, uint32_t letter, uint32_t step) {
  const ChainEmit *e = g->e;
  const ChainLayout *core = &e->core_at[step], *x = &e->at[step];
  Loop l = {.extent = e->f.size[letter], .out = e->at[step + 1].stride[letter]};
  l.row = g->s->core_lanes ? x->stride[letter] : core->stride[letter];
  l.vec = g->s->core_lanes ? core->stride[letter] : x->stride[letter];
  if (g->last && chain_term_has(&e->f.y, letter))
    QCC_CHECK(chain_axis(&e->f, op_out(e->op, 0)->type, letter, &l.axis, &l.along), "a letter in two axes");
  return l;
}

// Neighbours that both operands walk as one become one.
static void push_k(Stage *g, Loop l) {
  Loop *before = g->n_k > 0 ? &g->k[g->n_k - 1] : NULL;
  if (before != NULL && before->row == l.row * l.extent && before->vec == l.vec * l.extent) {
    before->extent *= l.extent;
    before->row = l.row;
    before->vec = l.vec;
  } else {
    g->k[g->n_k++] = l;
  }
}

static Stage stage_new(ChainEmit *e, uint32_t step) {
  Stage g = {.e = e, .s = &e->p.step[step], .last = step + 1 == e->p.n};
  g.row = g.s->core_lanes ? e->tensor[step] : e->core[step];
  g.vec = g.s->core_lanes ? e->core[step] : e->tensor[step];
  g.out = e->tensor[step + 1];
  for (uint32_t i = 0; i < g.s->both.n; i++) g.both[g.n_both++] = loop_over(&g, g.s->both.at[i], step);
  for (uint32_t i = 0; i < g.s->k.n; i++) push_k(&g, loop_over(&g, g.s->k.at[i], step));
  for (uint32_t i = 0; i < g.s->rows.n; i++) g.rows[g.n_rows++] = loop_over(&g, g.s->rows.letter[i], step);
  for (uint32_t i = 0; i < g.s->vecs.n; i++) g.vecs[g.n_vecs++] = loop_over(&g, g.s->vecs.letter[i], step);
  g.rows[g.n_rows++] = (Loop){.extent = 1};
  g.vecs[g.n_vecs++] = (Loop){.extent = g.s->vectors, .vec = g.s->lanes, .out = g.s->lanes};
  return g;
}

// ---- one register tile: loops `rows`, `vecs` with the extents given, all unrolled

typedef struct Unrolled {
  uint32_t n;
  const Loop *loop;
  int64_t first;  // iterations of the outermost one
} Unrolled;

typedef struct Tile {
  Unrolled rows, vecs;
  KBuf *sum, *v;
} Tile;

static int64_t unrolled_size(const Unrolled *u) {
  int64_t size = u->first;
  for (uint32_t i = 1; i < u->n; i++) size *= u->loop[i].extent;
  return size;
}

// Opens the loops; *index counts them as one.
static Place open_unrolled(ChainEmit *e, const Unrolled *u, const Place *p, Affine *index) {
  Place q = *p;
  *index = aff(0);
  for (uint32_t i = 0; i < u->n; i++) {
    int64_t extent = i == 0 ? u->first : u->loop[i].extent;
    Affine at = open_loop(e, "u", extent, FOR_UNROLL);
    q = place_move(&q, &u->loop[i], at);
    *index = aff_add(aff_mul(*index, extent), at);
  }
  return q;
}

static Affine open_lanes(ChainEmit *e, int64_t lanes) {
  e->depth++;
  return aff_var(kb_for(&e->b, "l", 0, lanes, 1, FOR_VEC));
}

static void emit_zero(Stage *g, const Tile *t) {
  ChainEmit *e = g->e;
  uint32_t depth = e->depth;
  Affine i = open_loop(e, "i", unrolled_size(&t->rows), FOR_UNROLL);
  Affine v = open_loop(e, "v", unrolled_size(&t->vecs), FOR_UNROLL);
  Affine at[3] = {i, v, open_lanes(e, g->s->lanes)};
  kb_store(&e->b, t->sum, at, kx_f(&e->b, e->type, 0.0));
  close_loops(e, depth);
}

static void emit_products(Stage *g, const Tile *t, const Place *p) {
  ChainEmit *e = g->e;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine v, i;
  Place q = open_unrolled(e, &t->vecs, p, &v);
  Affine l = open_lanes(e, g->s->lanes), from = aff_add(q.vec, l), to[2] = {v, l};
  kb_store(b, t->v, to, lower_load(b, g->vec, &from));
  close_loops(e, depth);
  q = open_unrolled(e, &t->rows, p, &i);
  KVar *a = kb_let(b, "a", lower_load(b, g->row, &q.row));
  v = open_loop(e, "v", unrolled_size(&t->vecs), FOR_UNROLL);
  l = open_lanes(e, g->s->lanes);
  Affine at[3] = {i, v, l}, of[2] = {v, l};
  kb_store(b, t->sum, at, lower_mul_add(e->ctx, b, kx_var(b, a), kx_load(b, t->v, of), kx_load(b, t->sum, at)));
  close_loops(e, depth);
}

// Terms of the innermost sum that one round of its loop does: up to four, such that at least two rounds and no single
// term are left. Without a loop around them, many loads could be moved out of the loops around the tile, and spilled.
static int64_t round_terms(int64_t extent, int64_t loads) {
  if (extent * loads <= 32) return extent;
  for (int64_t by = 4; by > 1; by--) {
    if (extent / by >= 2 && extent % by != 1) return by;
  }
  return 1;
}

static void emit_inner(Stage *g, const Tile *t, const Place *p) {
  ChainEmit *e = g->e;
  uint32_t depth = e->depth;
  const Loop *l = &g->k[g->n_k - 1];
  int64_t by = round_terms(l->extent, unrolled_size(&t->rows) + unrolled_size(&t->vecs)),
          whole = l->extent - l->extent % by;
  Affine k = aff(0);
  if (whole > by) {
    e->depth++;
    k = aff_var(kb_for(&e->b, "k", 0, whole, by, FOR_SEQ));
  }
  Place q = place_move(p, l, aff_add(k, open_loop(e, "j", by, FOR_UNROLL)));
  emit_products(g, t, &q);
  close_loops(e, depth);
  if (whole == l->extent) return;
  q = place_move(p, l, aff_plus(open_loop(e, "k", l->extent - whole, FOR_SEQ), whole));
  emit_products(g, t, &q);
  close_loops(e, depth);
}

static void emit_stores(Stage *g, const Tile *t, const Place *p) {
  ChainEmit *e = g->e;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine i, v;
  Place q = open_unrolled(e, &t->rows, p, &i);
  q = open_unrolled(e, &t->vecs, &q, &v);
  Affine l = open_lanes(e, g->stored), at[3] = {i, v, l}, out = aff_add(q.out, l);
  KExpr *sum = kx_load(b, t->sum, at);
  if (g->last) {
    uint32_t rank = op_out(e->op, 0)->type->rank;
    if (rank > 0 && e->pp.n > 0) {
      uint32_t axis = 0;
      int64_t step = 0;
      if (g->s->group > 0) chain_axis(&e->f, op_out(e->op, 0)->type, e->f.y.at[e->f.y.n - 1], &axis, &step);
      q.axis[axis] = aff_add(q.axis[axis], aff_mul(aff_add(l, aff(0)), 1));
    }
    sum = lower_post(b, &e->pp, sum, q.axis);
  }
  lower_store(b, g->out, &out, sum);
  close_loops(e, depth);
}

static void emit_tile(Stage *g, Tile t, const Place *p) {
  ChainEmit *e = g->e;
  uint32_t depth = e->depth;
  int64_t mr = unrolled_size(&t.rows), nv = unrolled_size(&t.vecs), lanes = g->s->lanes;
  t.sum = kb_alloc(&e->b, "sum", e->type, 3, (int64_t[]){mr, nv, lanes}, SPACE_REG);
  t.v = kb_alloc(&e->b, "v", e->type, 2, (int64_t[]){nv, lanes}, SPACE_REG);
  Place q = *p;
  place_settle(g, &q);
  emit_zero(g, &t);
  Place from = q;
  for (uint32_t i = 0; i + 1 < g->n_k; i++) {
    from = place_move(&from, &g->k[i], open_loop(e, "k", g->k[i].extent, FOR_SEQ));
    place_settle(g, &from);
  }
  if (g->n_k == 0) {
    emit_products(g, &t, &from);
  } else {
    emit_inner(g, &t, &from);
  }
  close_loops(e, depth);
  emit_stores(g, &t, &q);
}

// ---- the loops outside of tiles

typedef void SideFn(Stage *g, const Unrolled *u, const Unrolled *rows, const Place *p);

// Calls fn for the tiles of a side, the last of the loop that is cut being smaller.
static void emit_side(Stage *g, const ChainSide *side, const Loop *loops, uint32_t n, const Unrolled *outer,
                      const Place *p, SideFn *fn) {
  ChainEmit *e = g->e;
  uint32_t depth = e->depth;
  Place q = *p;
  for (uint32_t i = 0; i < side->at; i++) q = place_move(&q, &loops[i], open_loop(e, "o", loops[i].extent, FOR_SEQ));
  const Loop *cut = &loops[side->at];
  int64_t chunk = side->chunk < cut->extent ? side->chunk : cut->extent, tiles = cut->extent / chunk;
  int64_t rest = cut->extent % chunk;
  uint32_t inner = e->depth;
  Unrolled u = {.n = n - side->at, .loop = cut, .first = chunk};
  if (side->at > 0) place_settle(g, &q);
  Place r = place_move(&q, cut, aff_mul(open_loop(e, "t", tiles, FOR_SEQ), chunk));
  fn(g, &u, outer, &r);
  close_loops(e, inner);
  if (rest > 0) {
    u.first = rest;
    r = place_move(&q, cut, aff(tiles * chunk));
    fn(g, &u, outer, &r);
  }
  close_loops(e, depth);
}

static void tile_rows(Stage *g, const Unrolled *rows, const Unrolled *vecs, const Place *p) {
  emit_tile(g, (Tile){.rows = *rows, .vecs = *vecs}, p);
}

static void tile_vecs(Stage *g, const Unrolled *vecs, const Unrolled *none, const Place *p) {
  (void)none;
  emit_side(g, &g->s->rows, g->rows, g->n_rows, vecs, p, tile_rows);
}

// The vectors of the group from `first` on.
static void emit_vectors(Stage *g, const Place *p, int64_t vectors, int64_t first, int64_t stored) {
  Loop lanes = g->vecs[g->n_vecs - 1], whole = lanes;
  Place q = *p;
  q.vec = aff_plus(q.vec, first);
  q.out = aff_plus(q.out, first);
  whole.extent = vectors;
  if (g->last && g->s->group > 0) {
    uint32_t axis;
    int64_t step;
    chain_axis(&g->e->f, op_out(g->e->op, 0)->type, g->e->f.y.at[g->e->f.y.n - 1], &axis, &step);
    q.axis[axis] = aff_plus(q.axis[axis], first);
    whole.axis = axis;
    whole.along = lanes.out;
  }
  g->vecs[g->n_vecs - 1] = whole;
  g->stored = stored;
  emit_side(g, &g->s->vecs, g->vecs, g->n_vecs, NULL, &q, tile_vecs);
  g->vecs[g->n_vecs - 1] = lanes;
}

static void emit_step(ChainEmit *e, uint32_t step) {
  Stage g = stage_new(e, step);
  uint32_t depth = e->depth;
  const ChainStep *s = g.s;
  Place p = {.row = aff(0), .vec = aff(0), .out = aff(0)};
  for (uint32_t i = 0; i < MAX_RANK; i++) p.axis[i] = aff(0);
  for (uint32_t i = 0; i < s->level; i++) {
    Loop l = loop_over(&g, e->p.fused[i], step);
    p = place_move(&p, &l, e->index[e->p.fused[i]]);
  }
  for (uint32_t i = 0; i < g.n_both; i++) p = place_move(&p, &g.both[i], open_loop(e, "b", g.both[i].extent, FOR_SEQ));
  place_settle(&g, &p);
  int64_t rest = s->width % s->lanes, whole = s->width / s->lanes;
  if (rest == 0 || (!s->inside && !g.last)) {
    emit_vectors(&g, &p, s->vectors, 0, s->lanes);
  } else {
    if (whole > 0) emit_vectors(&g, &p, whole, 0, s->lanes);
    emit_vectors(&g, &p, 1, s->inside ? s->width - s->lanes : whole * s->lanes, s->inside ? s->lanes : rest);
  }
  close_loops(e, depth);
}

void chain_emit(ChainEmit *e) {
  for (uint32_t i = 0; i < e->p.n;) {
    uint32_t level = e->p.step[i].level;
    // Loops that are open: as many as the step is inside of; the next step is inside of no more.
    while (e->depth < level) {
      uint32_t letter = e->p.fused[e->depth];
      e->index[letter] = open_loop(e, e->depth == 0 ? "p" : "s", e->f.size[letter], FOR_SEQ);
    }
    emit_step(e, i++);
    close_loops(e, i < e->p.n ? e->p.step[i].level : 0);
  }
}
