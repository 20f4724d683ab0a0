// The register tile of a contraction nest: an outer product of nv weight vectors and mr * my broadcast elements of x,
// summed over the reduction in registers. See nest_emit.h.
#include "passes/lower/dot8.h"
#include "passes/lower/nest_emit.h"

Affine nest_open(Emit *e, const char *name, int64_t extent, KForKind kind) {
  if (extent == 1) return aff(0);
  e->depth++;
  return aff_var(kb_for(&e->b, name, 0, extent, 1, kind));
}

void nest_close(Emit *e, uint32_t depth) {
  for (; e->depth > depth; e->depth--) kb_end(&e->b);
}

int64_t nest_weights_row(const Emit *e, const Tile *t) {
  if (e->n->w_row > 0) return e->n->w_row;
  return e->n->tile.dense ? (t->nvec - 1) * e->n->tile.lanes + t->tail : t->nvec * e->n->tile.lanes;
}

Pos pos_move(const Pos *p, const NestLoop *l, Affine by) {
  Pos q = *p;
  q.x = aff_add(q.x, aff_mul(by, l->x));
  q.w = aff_add(q.w, aff_mul(by, l->w));
  q.axis[l->axis] = aff_add(q.axis[l->axis], aff_mul(by, l->scale));
  return q;
}

// Long index sums are computed once per tile.
Pos nest_base(Emit *e, const Pos *p) {
  Pos q = *p;
  if (q.x.n > 1) q.x = aff_var(kb_let(&e->b, "xo", kx_index(&e->b, q.x)));
  if (q.w.n > 1) q.w = aff_var(kb_let(&e->b, "wo", kx_index(&e->b, q.w)));
  return q;
}

Affine nest_result(const Emit *e, const Pos *p) {
  Affine at = aff(0);
  int64_t run = 1;
  for (uint32_t i = e->n->rank; i-- > 0;) {
    at = aff_add(at, aff_mul(p->axis[i], run));
    run *= nest_y_dim(e->n, i);
  }
  return at;
}

// Four bytes of x as one lane, moved to a sign the target multiplies; missing ones are zero.
static KExpr *load_four(Emit *e, Affine at, Four have) {
  KBuild *b = &e->b;
  bool is_signed = e->n->x->type->dtype == DT_I8, moves = dot8_move(e->ctx->target, e->n->x->type->dtype) != 0;
  if (e->words && !moves) return kx_load(b, e->x, &at);
  KExpr *four = NULL;
  if (e->words) {
    four = kx_load(b, e->x, &at);
  } else {
    for (int64_t i = have.from; i < have.to; i++) {
      Affine byte = aff_plus(at, i);
      KExpr *x = kx_cast(b, DT_U32, kx_load(b, e->x, &byte));
      if (i > 0) x = kx_op2(b, KOP_SHL, x, kx_i(b, DT_U32, 8 * i));
      four = i > have.from ? kx_op2(b, KOP_OR, four, x) : x;
    }
  }
  int64_t sign = 0;
  for (int64_t i = have.from; i < have.to; i++) sign |= INT64_C(0x80) << (8 * i);
  if (moves) four = kx_op2(b, KOP_XOR, four, kx_i(b, DT_U32, sign));
  return kx_view(b, is_signed == moves ? DT_U8X4 : DT_I8X4, four);
}

// The place of the products of an element: rows of the table stand for the values of its type.
static KExpr *load_row(Emit *e, Affine at) {
  KBuild *b = &e->b;
  KExpr *x = kx_cast(b, DT_I64, kx_load(b, e->x, &at));
  int64_t lo = dtype_min(e->n->x->type->dtype);
  if (lo != 0) x = kx_op2(b, KOP_SUB, x, kx_i(b, DT_I64, lo));
  return kx_op2(b, KOP_SHL, x, kx_i(b, DT_I64, e->n->lookups > 1 ? 5 : 4));
}

static KExpr *load_x(Emit *e, Affine at, Four have) {
  if (e->n->dot) return load_four(e, at, have);
  if (e->n->lookups > 0) return load_row(e, at);
  if (e->n->pairs) return kx_load(&e->b, e->x, &at);
  KExpr *x = lower_load(&e->b, e->x, &at);
  if (dtype_is_float(e->n->type)) return x;
  x = kx_cast(&e->b, e->n->type, x);
  return e->n->x_zero ? kx_op2(&e->b, KOP_SUB, x, kx_i(&e->b, e->n->type, e->n->x_zero)) : x;
}

static KExpr *multiply_add(Emit *e, KExpr *x, KExpr *w, KExpr *acc) {
  if (e->n->pairs) return kx_op3(&e->b, KOP_DOT2, acc, x, w);
  return e->n->dot ? kx_op3(&e->b, KOP_DOT4, acc, x, w) : lower_mul_add(e->ctx, &e->b, x, w, acc);
}

// The products of a vector of codes, out of the row at x.
static KExpr *look_up(Emit *e, const Tile *t, KVar *x, Affine v, Affine l, KExpr *acc) {
  KBuild *b = &e->b;
  for (int64_t i = 0; i < e->n->lookups; i++) {
    Affine row = aff_plus(aff_var(x), 16 * i), at[2] = {aff_plus(v, i * t->nvec), l};
    acc = kx_op2(b, KOP_ADD, acc, kx_op2(b, KOP_LOOKUP16, kx_load(b, e->table, &row), kx_load(b, t->row, at)));
  }
  return acc;
}

// The floats that a vector of codes stands for.
static KExpr *open_book(Emit *e, KExpr *codes) {
  KBuild *b = &e->b;
  Affine low = aff(0), high = aff(16);
  KVar *code = kb_let(b, "c", kx_cast(b, DT_I32, codes));
  KExpr *w = kx_op2(b, KOP_LOOKUP16, kx_load(b, e->table, &low), kx_var(b, code));
  if (e->n->book == 1) return w;
  KExpr *other = kx_op2(b, KOP_LOOKUP16, kx_load(b, e->table, &high), kx_var(b, code));
  return kx_op3(b, KOP_SELECT, kx_op2(b, KOP_GT, kx_var(b, code), kx_i(b, DT_I32, 15)), other, w);
}

// A vector of weights at row v; of codes as whole lanes, and their high nibbles `nvec` rows on.
static void emit_weights(Emit *e, const Tile *t, Affine w_at, Affine v, Affine l) {
  KBuild *b = &e->b;
  Affine at[2] = {v, l}, high[2] = {aff_plus(v, t->nvec), l};
  KExpr *w = kx_load(b, e->w, &w_at);
  if (e->n->book > 0) w = open_book(e, w);
  if (e->n->lookups > 0) w = kx_cast(b, e->n->type, w);
  kb_store(b, t->row, at, w);
  if (e->n->lookups > 1) kb_store(b, t->row, high, kx_op2(b, KOP_SHR, kx_load(b, t->row, at), kx_i(b, e->n->type, 4)));
}

void nest_emit_products(Emit *e, const Tile *t, const Pos *p, Affine part, Four four) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine iy = nest_open(e, "iy", t->yi, FOR_UNROLL), ix = nest_open(e, "i", t->mi, FOR_UNROLL);
  Affine x_at = aff_add(p->x, aff_mul(ix, n->m.x));
  if (t->yi > 1) x_at = aff_add(x_at, aff_mul(iy, n->row[n->n_rows - 1].x));
  KVar *xv = kb_let(b, "a", load_x(e, x_at, four));
  Affine v = nest_open(e, "v", t->nvec, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, n->tile.lanes, 1, FOR_VEC));
  Affine at[4] = {part, aff_add(aff_mul(iy, t->mi), ix), v, l}, r_at[2] = {v, l};
  KExpr *acc = kx_load(b, t->acc, at);
  kb_store(
      b, t->acc, at,
      n->lookups > 0 ? look_up(e, t, xv, v, l, acc) : multiply_add(e, kx_var(b, xv), kx_load(b, t->row, r_at), acc));
  kb_end(b);
  nest_close(e, depth);
}

// acc[s, i, v] += x[i] * w[v] at one step of the reduction.
static void emit_step(Emit *e, const Tile *t, const Pos *p, Affine s, Four four) {
  int64_t lanes = e->n->tile.lanes;
  uint32_t depth = e->depth;
  Affine v = nest_open(e, "v", t->nvec, FOR_UNROLL);
  Affine l = aff_var(kb_for(&e->b, "l", 0, lanes, 1, FOR_VEC));
  emit_weights(e, t, aff_add(p->w, aff_add(aff_mul(v, lanes), l)), v, l);
  kb_end(&e->b);
  nest_close(e, depth);
  nest_emit_products(e, t, p, s, four);
}

Pos pos_step(const Emit *e, const Pos *p, uint32_t red, Affine by) {
  int64_t inner = 1;
  for (uint32_t i = red + 1; i < e->n->n_red; i++) inner *= nest_red_steps(e->n, i);
  bool by_four = e->n->dot && !e->words && red + 1 == e->n->n_red;
  Pos q = *p;
  q.x = aff_add(q.x, aff_mul(by, by_four ? 4 : e->n->x_red[red]));
  q.w = aff_add(q.w, aff_mul(by, inner));  // in rows of the panel; scaled by the caller
  return q;
}

// The innermost reduction loop: ku * ks steps unrolled, then the rest one by one.
static void emit_inner(Emit *e, const Tile *t, const Pos *p, const Affine *w_base) {
  const Nest *n = e->n;
  uint32_t last = n->n_red - 1, depth = e->depth;
  int64_t brow = nest_weights_row(e, t), unroll = n->tile.ku * n->tile.ks, tail = n->dot ? n->red[last] % 4 : 0;
  int64_t k = n->dot ? n->red[last] / 4 : n->red[last];
  if (unroll > k) unroll = k < n->tile.ks ? 1 : n->tile.ks;
  int64_t ks = unroll % n->tile.ks == 0 ? n->tile.ks : 1, whole = k - k % unroll;
  if (whole > 0) {
    Affine kv = aff(0);
    if (whole > unroll) {
      kv = aff_var(kb_for(&e->b, "k", 0, whole, unroll, FOR_SEQ));
      e->depth++;
    }
    Affine j = nest_open(e, "j", unroll / ks, FOR_UNROLL), s = nest_open(e, "s", ks, FOR_UNROLL);
    Pos q = pos_step(e, p, last, aff_add(kv, aff_add(aff_mul(j, ks), s)));
    q.w = aff_add(*w_base, aff_mul(q.w, brow));
    emit_step(e, t, &q, s, (Four){0, 4});
    nest_close(e, depth);
  }
  if (whole < k) {
    Affine kv = aff(whole);
    if (k - whole > 1) {
      kv = aff_var(kb_for(&e->b, "k", whole, k, 1, FOR_SEQ));
      e->depth++;
    }
    Pos q = pos_step(e, p, last, kv);
    q.w = aff_add(*w_base, aff_mul(q.w, brow));
    emit_step(e, t, &q, aff(0), (Four){0, 4});
    nest_close(e, depth);
  }
  if (tail > 0) {
    Pos q = pos_step(e, p, last, aff(k));
    q.w = aff_add(*w_base, aff_mul(q.w, brow));
    if (k > 0) q.x = aff_plus(q.x, tail - 4);  // four bytes that end with the last one, as the weights do (pack.h)
    emit_step(e, t, &q, aff(0), (Four){0, k > 0 ? 4 : tail});
  }
}

Pos nest_outer_reductions(Emit *e, const Pos *p) {
  static const char *const names[NEST_REDS] = {"ka", "kb", "kc", "kd", "ke"};
  Pos q = *p;
  q.w = aff(0);
  for (uint32_t i = 0; i + 1 < e->n->n_red; i++) {
    Affine v = nest_open(e, names[i], e->n->red[i], FOR_SEQ);
    q = pos_step(e, &q, i, v);
  }
  return q;
}

static void emit_reduction(Emit *e, const Tile *t, const Pos *p) {
  if (e->k == 0) return;
  if (e->n->bits.n > 0) {
    nest_bits_reduction(e, t, p);
    return;
  }
  uint32_t depth = e->depth;
  Pos q = nest_outer_reductions(e, p);
  emit_inner(e, t, &q, &p->w);
  nest_close(e, depth);
}

static void emit_zero(Emit *e, const Tile *t) {
  uint32_t depth = e->depth;
  Affine s = nest_open(e, "s", e->n->tile.ks, FOR_UNROLL), i = nest_open(e, "i", t->mi * t->yi, FOR_UNROLL);
  Affine v = nest_open(e, "v", t->nvec, FOR_UNROLL);
  Affine at[4] = {s, i, v, aff_var(kb_for(&e->b, "l", 0, e->n->tile.lanes, 1, FOR_VEC))};
  DType type = e->n->type;
  kb_store(&e->b, t->acc, at, dtype_is_float(type) ? kx_f(&e->b, type, 0.0) : kx_i(&e->b, type, 0));
  kb_end(&e->b);
  nest_close(e, depth);
}

// What sums of bytes shifted left are off by.
static void emit_shift(Emit *e, const Tile *t) {
  KBuild *b = &e->b;
  uint32_t depth = e->depth;
  Affine i = nest_open(e, "i", t->mi * t->yi, FOR_UNROLL), v = nest_open(e, "v", t->nvec, FOR_UNROLL);
  Affine at[4] = {aff(0), i, v, aff_var(kb_for(b, "l", 0, e->n->tile.lanes, 1, FOR_VEC))};
  kb_store(b, t->acc, at, kx_op2(b, KOP_SHR, kx_load(b, t->acc, at), kx_i(b, DT_I32, e->n->bits.shift)));
  kb_end(b);
  nest_close(e, depth);
}

static void emit_sum_parts(Emit *e, const Tile *t) {
  for (int64_t part = 1; part < e->n->tile.ks; part++) {
    uint32_t depth = e->depth;
    Affine i = nest_open(e, "i", t->mi * t->yi, FOR_UNROLL), v = nest_open(e, "v", t->nvec, FOR_UNROLL);
    Affine l = aff_var(kb_for(&e->b, "l", 0, e->n->tile.lanes, 1, FOR_VEC));
    Affine at[4] = {aff(0), i, v, l}, from[4] = {aff(part), i, v, l};
    kb_store(&e->b, t->acc, at, kx_op2(&e->b, KOP_ADD, kx_load(&e->b, t->acc, at), kx_load(&e->b, t->acc, from)));
    kb_end(&e->b);
    nest_close(e, depth);
  }
}

void nest_emit_tile(Emit *e, Tile t, const Pos *p) {
  const Nest *n = e->n;
  t.acc = kb_alloc(&e->b, "acc", n->type, 4, (int64_t[]){n->tile.ks, t.mi * t.yi, t.nvec, n->tile.lanes}, SPACE_REG);
  t.row = kb_alloc(&e->b, "wv",
                   n->dot     ? DT_I8X4
                   : n->pairs ? DT_BF16X2
                              : n->type,
                   2, (int64_t[]){n->lookups > 1 ? 2 * t.nvec : t.nvec, n->tile.lanes}, SPACE_REG);
  Pos q = nest_base(e, p);
  emit_zero(e, &t);
  if (n->dot && n->bias != NULL) nest_start_bias(e, &t, &q);
  emit_reduction(e, &t, &q);
  if (e->k > 0) emit_sum_parts(e, &t);
  if (n->bits.n > 0 && n->bits.shift > 0) emit_shift(e, &t);
  nest_results(e, &t, &q);
}
