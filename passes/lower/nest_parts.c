// The register tile for results whose columns would not fill vectors: `parts` neighbouring lanes share a column, each
// with its own part of the reduction, so that a vector holds lanes / parts columns.
//
//   20 columns, 16 lanes, parts = 4: 5 vectors of 4 columns x 4 places of the reduction, where columns alone take 2
//   vectors that are 62 % full. A step multiplies 4 neighbouring elements of x, repeated along the lanes by the load:
//     acc[i, v, 4 c + j] += x[i, k + j] * w[k / 4, v, c, j]
//
// At the end the parts of a column are added up, and whole vectors of columns are stored. A last step that has fewer
// places than parts reads the window that ends with the last one; lanes that another step has had are zero. Weights are
// packed in groups of `parts` (pack.h), zeros first. See nest_emit.h.
#include "ir/base/intmath.h"
#include "passes/lower/nest_emit.h"

typedef struct Parts {
  Emit *e;
  const Tile *t;
  KBuf *acc, *row;  // [sum, pixel, vector, lane], [vector, lane]
  int64_t vectors, pixels, lanes, parts;
} Parts;

static KOp repeated(int64_t parts) { return parts == 2 ? KOP_LOOKUP2 : parts == 4 ? KOP_LOOKUP4 : KOP_LOOKUP8; }

// Lane l: x[at + l % parts], zero for the first `skip` parts.
static KExpr *load_parts(Parts *d, Affine at, Affine l, int64_t skip) {
  KBuild *b = &d->e->b;
  KExpr *lane = kx_cast(b, DT_I32, kx_index(b, l));
  KExpr *x = kx_op2(b, repeated(d->parts), kx_load(b, d->e->x, &at), lane);
  if (skip == 0) return x;
  KExpr *part = kx_op2(b, KOP_AND, kx_cast(b, DT_I32, kx_index(b, l)), kx_i(b, DT_I32, d->parts - 1));
  return kx_op3(b, KOP_SELECT, kx_op2(b, KOP_GE, part, kx_i(b, DT_I32, skip)), x, lower_number(b, DT_F32, 0.0));
}

// acc[sum] += x * w over `parts` neighbouring places of the reduction.
static void emit_step(Parts *d, const Pos *p, Affine sum, int64_t skip) {
  Emit *e = d->e;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine v = nest_open(e, "v", d->vectors, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, d->lanes, 1, FOR_VEC));
  Affine w_at = aff_add(p->w, aff_add(aff_mul(v, d->lanes), l)), row_at[2] = {v, l};
  kb_store(b, d->row, row_at, kx_load(b, e->w, &w_at));
  kb_end(b);
  nest_close(e, depth);
  Affine iy = nest_open(e, "iy", d->t->yi, FOR_UNROLL), ix = nest_open(e, "i", d->t->mi, FOR_UNROLL);
  Affine x_at = aff_add(p->x, aff_mul(ix, e->n->m.x));
  if (d->t->yi > 1) x_at = aff_add(x_at, aff_mul(iy, e->n->row[e->n->n_rows - 1].x));
  l = aff_var(kb_for(b, "l", 0, d->lanes, 1, FOR_VEC));
  KVar *x = kb_let(b, "xv", load_parts(d, x_at, l, skip));
  for (int64_t i = 0; i < d->vectors; i++) {
    Affine at[4] = {sum, aff_add(aff_mul(iy, d->t->mi), ix), aff(i), l}, r_at[2] = {aff(i), l};
    KExpr *w = kx_load(b, d->row, r_at);
    kb_store(b, d->acc, at, lower_mul_add(e->ctx, b, kx_var(b, x), w, kx_load(b, d->acc, at)));
  }
  kb_end(b);
  nest_close(e, depth);
}

// Steps from .. to - 1 of the innermost reduction, `sums` of them at a time.
static void emit_range(Parts *d, const Pos *p, int64_t from, int64_t to, int64_t sums, int64_t unroll) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  if (from == to) return;
  Affine k = aff(from);
  if (to - from > sums * unroll) {
    k = aff_var(kb_for(&e->b, "k", from, to, sums * unroll, FOR_SEQ));
    e->depth++;
  }
  Affine j = nest_open(e, "j", unroll, FOR_UNROLL), s = nest_open(e, "s", sums, FOR_UNROLL);
  Affine by = aff_add(k, aff_add(aff_mul(j, sums), s));
  Pos q = *p;
  q.x = aff_add(q.x, aff_mul(by, d->parts));
  q.w = aff_add(q.w, aff_mul(by, d->vectors * d->lanes));
  emit_step(d, &q, s, 0);
  nest_close(e, depth);
}

static void emit_reduction(Parts *d, const Pos *p) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  int64_t k = e->n->red[e->n->n_red - 1], steps = k / d->parts, rest = k % d->parts, sums = e->n->tile.ks;
  int64_t unroll = e->n->tile.ku, whole = steps - steps % (sums * unroll), even = steps - steps % sums;
  Pos q = nest_outer_reductions(e, p);
  q.w = aff_add(p->w, aff_mul(q.w, d->vectors * d->lanes));
  emit_range(d, &q, 0, whole, sums, unroll);
  emit_range(d, &q, whole, even, sums, 1);
  emit_range(d, &q, even, steps, 1, 1);
  if (rest > 0) {
    q.x = aff_plus(q.x, k - d->parts);
    q.w = aff_plus(q.w, steps * d->vectors * d->lanes);
    emit_step(d, &q, aff(0), d->parts - rest);
  }
  nest_close(e, depth);
}

static void emit_zero(Parts *d) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  Affine s = nest_open(e, "s", e->n->tile.ks, FOR_UNROLL), i = nest_open(e, "i", d->pixels, FOR_UNROLL);
  Affine v = nest_open(e, "v", d->vectors, FOR_UNROLL);
  Affine at[4] = {s, i, v, aff_var(kb_for(&e->b, "l", 0, d->lanes, 1, FOR_VEC))};
  kb_store(&e->b, d->acc, at, kx_f(&e->b, DT_F32, 0.0));
  kb_end(&e->b);
  nest_close(e, depth);
}

// sum[pixel, column] = all parts of the column, in all sums; columns `from` .. `from + lanes` - 1.
static void emit_columns(Parts *d, KBuf *flat, KBuf *sum, int64_t vector, int64_t lanes) {
  Emit *e = d->e;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  int64_t pixel = d->vectors * d->lanes;
  Affine i = nest_open(e, "i", d->pixels, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine column = aff_mul(aff_plus(l, vector * d->lanes), d->parts);
  KExpr *all = NULL;
  for (int64_t s = 0; s < e->n->tile.ks; s++)
    for (int64_t part = 0; part < d->parts; part++) {
      Affine at = aff_plus(aff_add(aff_mul(i, pixel), column), s * d->pixels * pixel + part);
      KExpr *x = kx_load(b, flat, &at);
      all = all == NULL ? x : kx_op2(b, KOP_ADD, all, x);
    }
  kb_store(b, sum, (Affine[]){aff(0), i, aff(vector), l}, all);
  kb_end(b);
  nest_close(e, depth);
}

void nest_emit_parts(Emit *e, Tile t, const Pos *p) {
  const NestTile *tile = &e->n->tile;
  Parts d = {.e = e, .t = &t, .pixels = t.mi * t.yi, .lanes = tile->lanes, .parts = tile->parts};
  d.vectors = ceil_div(e->n->n, tile->lanes / tile->parts);
  d.acc = kb_alloc(&e->b, "acc", DT_F32, 4, (int64_t[]){tile->ks, d.pixels, d.vectors, d.lanes}, SPACE_REG);
  d.row = kb_alloc(&e->b, "wv", DT_F32, 2, (int64_t[]){d.vectors, d.lanes}, SPACE_REG);
  t.acc = kb_alloc(&e->b, "sum", DT_F32, 4, (int64_t[]){1, d.pixels, t.nvec, d.lanes}, SPACE_REG);
  int64_t count = tile->ks * d.pixels * d.vectors * d.lanes;
  KBuf *flat = kb_view(&e->b, d.acc, "parts", DT_F32, 1, &count);
  Pos q = nest_base(e, p);
  emit_zero(&d);
  if (e->k > 0) emit_reduction(&d, &q);
  for (int64_t v = 0; v < t.nvec; v++) emit_columns(&d, flat, t.acc, v, v + 1 < t.nvec ? d.lanes : t.tail);
  nest_results(e, &t, &q);
}
