// The reduction of byte dot products whose weights are fields of bytes. See nest_emit.h and pack_bits.h.
//
//   for k over chunks { for steps of the chunk { wv = view(shift(load w) & mask | ones);  acc += dot4(x, wv) } }
//
// Taking a field out costs a shift and an `and` per vector of weights, which all columns of the tile share. Steps of a
// chunk are written out, so that shifts are constants and LLVM loads a vector once for all fields in it. Every step is
// a turn of a loop instead, with computed shifts, in what a loop has besides chunks, and in large tiles, most of all
// where columns read the same x at different steps of a chunk: LLVM would keep all of x in registers that do not exist.
#include "passes/lower/nest_emit.h"

enum { SMALL_TILE = 8, MOST_PRODUCTS = 112 };

typedef struct Fields {
  Emit *e;
  const Tile *t;
  PackRun run;
  int64_t tail;   // elements after the last whole group of the innermost loop
  Pos at;         // of the innermost loop in x
  uint32_t part;  // partial sums take turns
} Fields;

// Steps that lie together: rows from `row` on.
typedef struct Steps {
  Affine row;
  int64_t n;
} Steps;

// One of them: number `step` after the chunk `chunk`; or in a loop, rows and shifts of its fields.
typedef struct Place {
  const Steps *of;
  Affine chunk;
  int64_t step;
  KVar *row[PACK_FIELDS], *shift[PACK_FIELDS];  // from the first row of the field; to the right
} Place;

static int64_t bytes_mask(uint32_t bits) { return (int64_t)bits * 0x01010101; }

// Field number f of a step, where it belongs in the byte.
static KExpr *field(Fields *d, const Place *s, uint32_t f, Affine column) {
  Emit *e = d->e;
  KBuild *b = &e->b;
  const PackBits *p = &e->n->bits;
  int64_t width = p->width[f], shift = p->at[f];
  Affine row = aff_plus(s->of->row, pack_field_row(p, s->of->n, f, 0));
  if (s->row[f] != NULL) {
    row = aff_add(row, aff_var(s->row[f]));
  } else {
    row = aff_plus(aff_add(row, aff_mul(s->chunk, d->run.chunk * width / 8)), s->step * width / 8);
    shift -= s->step % (8 / width) * width;
  }
  Affine at = aff_add(aff_add(d->at.w, aff_mul(row, nest_weights_row(e, d->t))), column);
  KExpr *v = kx_load(b, e->w, &at);
  if (s->row[f] != NULL) v = kx_op2(b, KOP_SHR, v, kx_var(b, s->shift[f]));
  if (shift != 0) v = kx_op2(b, shift > 0 ? KOP_SHL : KOP_SHR, v, kx_i(b, DT_U32, shift > 0 ? shift : -shift));
  return kx_op2(b, KOP_AND, v, kx_i(b, DT_U32, bytes_mask(((1U << width) - 1) << p->at[f])));
}

static void emit_weights(Fields *d, const Place *s) {
  Emit *e = d->e;
  KBuild *b = &e->b;
  const PackBits *p = &e->n->bits;
  uint32_t depth = e->depth;
  Affine v = nest_open(e, "v", d->t->nvec, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, e->n->tile.lanes, 1, FOR_VEC));
  Affine column = aff_add(aff_mul(v, e->n->tile.lanes), l), at[2] = {v, l};
  KExpr *w = NULL;
  for (uint32_t f = 0; f < p->n; f++) {
    KExpr *one = field(d, s, f, column);
    w = w == NULL ? one : kx_op2(b, KOP_OR, w, one);
  }
  if (p->ones != 0) w = kx_op2(b, KOP_OR, w, kx_i(b, DT_U32, bytes_mask(p->ones)));
  kb_store(b, d->t->row, at, kx_view(b, DT_I8X4, w));
  kb_end(b);
  nest_close(e, depth);
}

// The products with group `group` of the innermost loop, or with what is left after the last whole one.
static void emit_step(Fields *d, const Place *s, Affine group, bool is_tail) {
  Emit *e = d->e;
  Pos q = pos_step(e, &d->at, e->n->n_red - 1, group);
  Four four = {0, 4};
  if (is_tail && d->run.whole + d->run.rest > 1) {
    q.x = aff_plus(q.x, d->tail - 4);  // four bytes that end with the last one, as the weights do (pack.h)
    four.from = 4 - d->tail;
  } else if (is_tail) {
    four.to = d->tail;
  }
  emit_weights(d, s);
  nest_emit_products(e, d->t, &q, aff(d->part++ % e->n->tile.ks), four);
}

// ---- steps as turns of a loop

// Where the fields of a step are.
static Place computed(Fields *d, const Steps *of, Affine step) {
  KBuild *b = &d->e->b;
  const PackBits *p = &d->e->n->bits;
  Place s = {.of = of};
  for (uint32_t f = 0; f < p->n; f++) {
    int64_t per = 8 / p->width[f];
    s.row[f] = kb_let(b, "row", kx_op2(b, KOP_DIV, kx_index(b, step), kx_i(b, DT_I64, per)));
    KExpr *place = kx_op2(b, KOP_MOD, kx_index(b, step), kx_i(b, DT_I64, per));
    place = kx_op2(b, KOP_MUL, place, kx_i(b, DT_I64, p->width[f]));
    s.shift[f] = kb_let(b, "shift", kx_cast(b, DT_U32, place));
  }
  return s;
}

// `count` steps from number `first` on, which are groups from `group` on of the innermost loop.
static void emit_computed(Fields *d, const Steps *of, Affine first, int64_t group, int64_t count) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  bool tail = d->tail > 0 && count > 0 && group + count == d->run.whole + d->run.rest;
  int64_t full = tail ? count - 1 : count;
  if (full > 0) {
    Affine k = nest_open(e, "k", full, FOR_SEQ);
    Place s = computed(d, of, aff_add(first, k));
    d->part = 0;
    emit_step(d, &s, aff_plus(k, group), false);
    nest_close(e, depth);
  }
  if (!tail) return;
  Place s = computed(d, of, aff_plus(first, full));
  emit_step(d, &s, aff(group + full), true);
}

// ---- steps written out

// `count` chunks from number `first` on, `unroll` at a time. The last group of the last chunk may be a tail.
static void emit_chunks(Fields *d, const Steps *of, int64_t first, int64_t count, int64_t unroll) {
  Emit *e = d->e;
  uint32_t depth = e->depth;
  int64_t size = d->run.chunk;
  Affine at = aff(first);
  if (count == 0) return;
  if (count > unroll) {
    at = aff_var(kb_for(&e->b, "k", first, first + count, unroll, FOR_SEQ));
    e->depth++;
  }
  for (int64_t i = 0; i < unroll * size; i++) {
    Place s = {.of = of, .chunk = at, .step = i};
    bool last = count == 1 && first * size + i + 1 == d->run.whole + d->run.rest;
    emit_step(d, &s, aff_plus(aff_mul(at, size), i), last && d->tail > 0);
  }
  nest_close(e, depth);
}

static void emit_whole(Fields *d, const Steps *of) {
  int64_t size = d->run.chunk, chunks = d->run.whole / size, unroll = d->e->n->tile.ku * d->e->n->tile.ks / size;
  int64_t alone = d->tail > 0 && d->run.rest == 0 && chunks > 0;  // the chunk that ends with the tail
  if (unroll > chunks - alone) unroll = chunks - alone;
  if (unroll < 1) unroll = 1;
  int64_t rest = (chunks - alone) % unroll;
  emit_chunks(d, of, 0, chunks - alone - rest, unroll);
  emit_chunks(d, of, chunks - alone - rest, rest, 1);
  emit_chunks(d, of, chunks - alone, alone, 1);
}

static void emit_rest(Fields *d, const Steps *of) {
  for (int64_t i = 0; i < d->run.rest; i++) {
    Place s = {.of = of, .chunk = aff(0), .step = i};
    emit_step(d, &s, aff(d->run.whole + i), d->tail > 0 && i + 1 == d->run.rest);
  }
}

// Do columns of a tile read the same x at different steps of a chunk.
static bool overlaps(const Emit *e, const Tile *t, int64_t chunk) {
  const Nest *n = e->n;
  int64_t reach = e->words ? chunk : 4 * chunk;
  bool columns = t->mi > 1 && n->m.x < reach, rows = t->yi > 1 && n->row[n->n_rows - 1].x < reach;
  return columns || rows;
}

// Must the steps of a chunk be a loop: more code than LLVM keeps in registers.
static bool rolls(const Emit *e, const Tile *t, int64_t chunk) {
  int64_t tile = t->mi * t->yi * t->nvec, most = e->words ? MOST_PRODUCTS : MOST_PRODUCTS / 4;
  if (tile <= SMALL_TILE) return false;
  return overlaps(e, t, chunk) || tile * chunk > most || !e->ctx->target->has_dot4;
}

void nest_bits_reduction(Emit *e, const Tile *t, const Pos *p) {
  static const char *const names[NEST_REDS] = {"ka", "kb", "kc", "kd", "ke"};
  const Nest *n = e->n;
  uint32_t depth = e->depth, last = n->n_red - 1;
  Fields d = {.e = e, .t = t, .run = pack_run(&n->bits, n->n_red, n->red), .at = *p};
  int64_t turns = d.run.runs, rows = pack_field_row(&n->bits, d.run.whole, n->bits.n, 0);
  Affine turn = aff(0);
  d.tail = n->red[last] % 4;
  for (uint32_t i = 0; i < last; i++) {
    Affine v = nest_open(e, names[i], n->red[i], FOR_SEQ);
    d.at.x = aff_add(d.at.x, aff_mul(v, n->x_red[i]));
    turns /= n->red[i];
    turn = aff_add(turn, aff_mul(v, turns));
  }
  Steps whole = {aff_mul(turn, rows), d.run.whole}, rest = {aff(d.run.runs * rows), d.run.runs * d.run.rest};
  bool loop = rolls(e, t, d.run.chunk);
  if (loop) {
    emit_computed(&d, &whole, aff(0), 0, d.run.whole);
  } else {
    emit_whole(&d, &whole);
  }
  if (d.run.runs == 1 && !loop) {
    emit_rest(&d, &rest);
  } else {
    emit_computed(&d, &rest, aff_mul(turn, d.run.rest), d.run.whole, d.run.rest);
  }
  nest_close(e, depth);
}
