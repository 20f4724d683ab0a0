// The stores of a contraction nest whose result is held as bits: a comparison per channel, a unit of as many bits as
// the vector has lanes. See nest_emit.h and bits.h.
//
//   for l in 0..8 vec { reduce bits u8[..], gt(result of lane l, -1) }      per pixel, vector and plane of the code
//
// Channels that do not fill a unit go into smaller units and single bits; the rest of a row's last word is zero.
#include "passes/lower/bits_steps.h"
#include "passes/lower/nest_emit.h"

// Units of `bits` bits: the one where the channels at p, a multiple of `bits`, begin.
static Affine unit_at(Emit *e, const Pos *p, int64_t plane, int64_t bits) {
  const Nest *n = e->n;
  const PlanesX *f = n->words;
  uint32_t last = n->rank - 1;
  Affine row = aff(0), unit = aff(p->axis[last].base / bits);
  int64_t run = planes_row(f) * f->word / bits;
  for (uint32_t i = last; i-- > 0; run *= nest_y_dim(n, i)) row = aff_add(row, aff_mul(p->axis[i], run));
  for (uint32_t i = 0; i < p->axis[last].n; i++)
    unit = aff_add(unit, aff_term(p->axis[last].term[i].var, p->axis[last].term[i].coef / bits));
  if (f->planes == 1) return aff_add(row, unit);
  int64_t units = f->word / bits;  // of a word
  KExpr *word = kx_op2(&e->b, KOP_DIV, kx_index(&e->b, unit), kx_i(&e->b, DT_I64, units));
  Affine w = aff_var(kb_let(&e->b, "word", word));
  return aff_plus(aff_add(aff_add(row, unit), aff_mul(w, (f->planes - 1) * units)), plane * units);
}

// Where a tile keeps its channels from `from` on: vector and lane.
static void lane_at(const Emit *e, const Tile *t, Affine from, Affine l, Affine *v, Affine *lane) {
  int64_t lanes = e->n->tile.lanes;
  *v = aff(0);
  *lane = aff_add(from, l);
  if (t->sums != NULL) return;
  *v = aff(from.base / lanes);
  for (uint32_t i = 0; i < from.n; i++) *v = aff_add(*v, aff_term(from.term[i].var, from.term[i].coef / lanes));
  *lane = aff_plus(l, from.base % lanes);
}

// Bits of the code of one channel, the lowest first.
static void code_bits(Emit *e, const Tile *t, const Pos *p, Affine i, Affine v, Affine lane, KExpr **bit) {
  KBuild *b = &e->b;
  const PlanesX *f = e->n->words;
  const NestSteps *s = &e->n->steps;
  KVar *is[3];
  if (s->n == 0) {
    KVar *value = kb_let(b, "y", nest_value(e, t, p, i, v, lane));
    for (int64_t plane = 0; plane < f->planes; plane++) bit[plane] = bits_code(b, f, plane, kx_var(b, value));
    return;
  }
  KExpr *held = nest_held(e, t, i, v, lane);
  Affine at = nest_bias_at(e, p);
  const Affine *column = &p->axis[e->n->rank - 1];
  if (e->flip != NULL) held = kx_op2(b, KOP_XOR, held, kx_cast(b, e->n->type, kx_load(b, e->flip, column)));
  KVar *count = kb_let(b, "count", held);
  for (uint32_t k = 0; k < s->n; k++) {
    Affine limit_at = aff_plus(at, k * s->stride);
    KExpr *limit = kx_cast(b, e->n->type, kx_load(b, e->extra[0], &limit_at));
    is[k] = kb_let(b, "is", kx_op2(b, s->above ? KOP_GE : KOP_LT, kx_var(b, count), limit));
  }
  bit[0] = kx_var(b, is[0]);
  if (s->n == 1) return;
  bit[1] = kx_var(b, is[1]);
  bit[0] = kx_op2(b, KOP_XOR, bit[0], kx_var(b, is[1]));                // 1
  if (s->n == 3) bit[0] = kx_op2(b, KOP_OR, bit[0], kx_var(b, is[2]));  // or 3
}

// The same of a result: the larger one of codes of one bit is their disjunction.
static void pixel_bits(Emit *e, const Tile *t, const Pixels *x, Affine v, Affine lane, KExpr **bit) {
  code_bits(e, t, &x->at[0], x->i[0], v, lane, bit);
  for (uint32_t d = 1; d < x->n; d++) {
    KExpr *other[8];
    code_bits(e, t, &x->at[d], x->i[d], v, lane, other);
    bit[0] = kx_op2(&e->b, KOP_OR, bit[0], other[0]);
  }
}

// Channels from .. from + bits - 1 of the tile.
static void emit_unit(Emit *e, const Tile *t, const Pixels *pixels, Affine from, int64_t bits) {
  KBuild *b = &e->b;
  const PlanesX *f = e->n->words;
  Pixels x = *pixels;
  Affine at[8], v, lane;
  nest_move_columns(e, &x, from);
  for (int64_t plane = 0; plane < f->planes; plane++) at[plane] = unit_at(e, &x.y, plane, bits);
  Affine l = aff_var(kb_for(b, "l", 0, bits, 1, FOR_VEC));
  lane_at(e, t, from, l, &v, &lane);
  nest_move_columns(e, &x, l);
  KExpr *bit[8];
  pixel_bits(e, t, &x, v, lane, bit);
  for (int64_t plane = 0; plane < f->planes; plane++)
    kb_reduce_bits(b, bits_unit(&e->units, bits), &at[plane], bit[plane]);
  kb_end(b);
}

// Fewer than 8 channels, one by one.
static void emit_byte(Emit *e, const Tile *t, const Pixels *pixels, int64_t from, int64_t have) {
  KBuild *b = &e->b;
  const PlanesX *f = e->n->words;
  Pixels x = *pixels;
  KExpr *byte[8] = {0};
  nest_move_columns(e, &x, aff(from));
  for (int64_t l = 0; l < have; l++) {
    Affine v, lane;
    lane_at(e, t, aff(from), aff(l), &v, &lane);
    Pixels at = x;
    nest_move_columns(e, &at, aff(l));
    KExpr *is[8];
    pixel_bits(e, t, &at, v, lane, is);
    for (int64_t plane = 0; plane < f->planes; plane++) {
      KExpr *bit = kx_cast(b, DT_U8, is[plane]);
      if (l > 0) bit = kx_op2(b, KOP_OR, byte[plane], kx_op2(b, KOP_SHL, bit, kx_i(b, DT_U8, l)));
      byte[plane] = bit;
    }
  }
  for (int64_t plane = 0; plane < f->planes; plane++) {
    Affine at = unit_at(e, &x.y, plane, 8);
    kb_store1(b, bits_unit(&e->units, 8), at, byte[plane]);
  }
}

static int64_t tile_channels(const Emit *e, const Tile *t) { return (t->nvec - 1) * e->n->tile.lanes + t->tail; }

// The channels past the last one of a row, where the tile has its end.
static void emit_clear(Emit *e, const Tile *t, const Pos *p) {
  const Nest *n = e->n;
  uint32_t depth = e->depth, last = n->rank - 1;
  int64_t chunk = bits_chunk(n->words), used = n->words->channels % chunk,
          begin = n->words->channels - tile_channels(e, t);
  bool fixed = aff_is_const(&p->axis[last]);
  if (used == 0 || used > chunk - 8 || (fixed && p->axis[last].base != begin)) return;
  if (!fixed) kb_if(&e->b, kx_op2(&e->b, KOP_EQ, kx_index(&e->b, p->axis[last]), kx_i(&e->b, DT_I64, begin)));
  Pos q = nest_open_pixels(e, t, p, FOR_UNROLL).y;
  int64_t run = planes_row(n->words) * n->words->word / chunk;
  Affine at = aff(run - n->words->planes);
  for (uint32_t a = last; a-- > 0; run *= nest_y_dim(n, a)) at = aff_add(at, aff_mul(q.axis[a], run));
  bits_clear(&e->units, n->words, at, (used + 7) / 8 * 8);
  nest_close(e, depth);
  if (!fixed) kb_end(&e->b);
}

void nest_words(Emit *e, const Tile *tile, const Pos *p) {
  Tile t = *tile;
  int64_t lanes = e->n->tile.lanes, chunk = bits_chunk(e->n->words), count = tile_channels(e, &t);
  int64_t unit = lanes < 8 ? 8 : lanes > chunk ? chunk : lanes, from = count - count % unit;
  uint32_t depth = e->depth;
  if (lanes != unit) nest_flat_sums(e, &t);
  Pixels x = nest_open_pixels(e, &t, p, FOR_UNROLL);
  if (from > 0) {
    uint32_t inside = e->depth;
    emit_unit(e, &t, &x, aff_mul(nest_open(e, "v", count / unit, FOR_UNROLL), unit), unit);
    nest_close(e, inside);
  }
  for (int64_t bits = unit / 2; bits >= 8; bits /= 2)
    for (; from + bits <= count; from += bits) emit_unit(e, &t, &x, aff(from), bits);
  if (from < count) emit_byte(e, &t, &x, from, count - from);
  nest_close(e, depth);
  emit_clear(e, &t, p);
}

// Panels that begin with a unit, channels that are the rows of the words.
static bool stores_words(const Nest *n, const PlanesX *f) {
  int64_t lanes = n->tile.lanes, width = lanes * n->tile.nv;
  if (lanes != 4 && lanes != 8 && lanes != 16 && lanes != 32 && lanes != 64) return false;
  if (width % 8 != 0 && n->n > width) return false;
  for (uint32_t i = 0; i < n->n_rows; i++)
    if (n->row[i].axis == n->rank - 1) return false;
  return bits_can_store(f) && n->tile.k_lanes == 0 && n->tile.parts == 0 && n->n == f->channels &&
         n->dims[n->rank - 1] == n->n;
}

void nest_result_buf(LowerCtx *ctx, Nest *n) {
  Value *y = op_out(n->squares != NULL ? n->squares : n->op, 0);
  const BitsValue *held = bits_of(ctx, y);
  n->words = held != NULL && stores_words(n, &held->form) ? &held->form : NULL;
  n->y = n->words != NULL ? bits_make(ctx, y) : lower_buf(ctx, y);
  if (n->words != NULL && n->counts) bits_steps(ctx, n);
}
