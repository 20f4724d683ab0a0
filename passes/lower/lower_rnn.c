// lstm, gru, rnn. Per direction: the input projection of the whole sequence is one matmul (rnn.c); then one kernel
// walks the batch (par) and the time steps (seq). In a step, tiles of hidden units keep one accumulator vector per
// gate, start from the projected input and the biases, and add h[k] * R^T[k, gates, units] for all k. The weights of a
// tile lie together in the order they are read. Where all of them are more than half of L2, every other step takes the
// tiles from last to first: it begins with those that the step before has left in the cache.
//
// Recurrent weights of signs (signs.h) are stored as bits: every step makes tables of h, and the sums of a tile are
// looked up in them.
//
// Where the state h is read while the next one is made, there are two rows, copied after each step. Past the end of a
// sequence (sequence_lens) results are 0 and the state stays. The reverse direction starts at the end of each sequence.
#include "ir/note.h"
#include "passes/lower/rnn.h"
#include "passes/lower/signs.h"

#define MAX_PARTS 4
#define LATENCY_SUMS 8

typedef struct Cell {
  LowerCtx *ctx;
  const Op *op;
  RnnShape s;
  int64_t dir;
  bool after;                            // gru: linear_before_reset
  bool couple;                           // lstm: f = 1 - i
  KBuf *y, *y_h, *y_c;                   // NULL when unused
  KBuf *xw, *bias, *lens, *h0, *c0, *p;  // operands, NULL when absent
  KBuf *r[RNN_GATES];                    // of the phase that begins with this gate; see rnn_recurrent
  KBuf *h, *next, *c, *z, *reset;        // state rows per batch entry
  const Signs *signs;                    // of R, or NULL; then r is not there, but
  KBuf *tables, *pattern, *scale;        // sums of h; for making them; [planes][gates * hidden]
  KBuf *bits[RNN_GATES];                 // of the phase that begins with this gate
  KBuf *dword[RNN_GATES][SIGN_PLANES];   // of the current tile
  KVar *one;                             // 1, which LLVM does not know
  KBuf *sums;                            // [gates][hidden] of a step, for the activations after all tiles
  PBuf *bufs[24];
  uint32_t n_bufs;
  // The current step.
  Affine batch, row, x_row, y_row;           // batch entry; its state row; rows of xw and y
  KVar *odd;                                 // the number of the step is odd; NULL: tiles never go backwards
  Affine first;                              // first hidden unit of the tile
  const Columns *cols;                       // hidden units of the tile
  uint32_t from, to;                         // gates computed in this phase
  uint32_t parts;                            // partial sums per accumulator
  KBuf *acc[RNN_GATES][MAX_PARTS], *source;  // source: what R is multiplied with
} Cell;

static KBuf *operand(Cell *c, KBuild *b, PBuf *buf) {
  c->bufs[c->n_bufs++] = buf;
  return lower_flat(b, buf);
}

static KBuf *optional_in(Cell *c, KBuild *b, uint32_t i) {
  return op_in(c->op, i) ? operand(c, b, lower_buf(c->ctx, op_in(c->op, i))) : NULL;
}

static KBuf *optional_out(Cell *c, KBuild *b, uint32_t i) {
  bool used = i < c->op->n_out && lower_is_used(c->op, i);
  return used ? operand(c, b, lower_buf(c->ctx, op_out(c->op, i))) : NULL;
}

static KBuf *state_rows(Cell *c, KBuild *b, const char *name) {
  const Type *t = type_tensor(c->ctx->m->types, c->s.t, 2, (int64_t[]){c->s.batch, c->s.n_hidden});
  return operand(c, b, lower_work(c->ctx, name, t));
}

static Affine unit(const Cell *c, Affine col) { return aff_add(c->first, col); }
static Affine state_at(const Cell *c, Affine col) { return aff_add(c->row, unit(c, col)); }

// Element of a [dirs, blocks, hidden] parameter.
static KExpr *parameter(const Cell *c, KBuild *b, KBuf *buf, int64_t blocks, int64_t block, Affine col) {
  return lower_load1(b, buf, aff_plus(unit(c, col), (c->dir * blocks + block) * c->s.n_hidden));
}

// Gates of the first phase; the others have a phase of their own.
static uint32_t first_phase(const Cell *c) { return c->op->kind == OP_GRU && !c->after ? 2 : (uint32_t)c->s.gates; }

// ---- one tile of hidden units

static bool adds_recurrent_bias(const Cell *c, uint32_t g) { return !(c->after && g == 2); }

// What a gate is without R h.
static KExpr *gate_start(const Cell *c, KBuild *b, uint32_t g, Affine col) {
  bool input = adds_recurrent_bias(c, g);  // else R h + Rb stays apart from W x + Wb
  KExpr *v = input ? lower_load1(b, c->xw, aff_plus(aff_add(c->x_row, unit(c, col)), g * c->s.n_hidden)) : NULL;
  if (c->bias) {
    KExpr *rb = parameter(c, b, c->bias, 2 * c->s.gates, c->s.gates + g, col);
    KExpr *wb = parameter(c, b, c->bias, 2 * c->s.gates, g, col);
    v = input ? kx_op2(b, KOP_ADD, v, kx_op2(b, KOP_ADD, wb, rb)) : rb;
  }
  return v ? v : kx_f(b, c->s.t, 0);
}

static void start_gates(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  for (uint32_t g = c->from; g < c->to; g++) {
    kb_store(b, c->acc[g][0], acc, c->signs ? kx_f(b, c->s.t, 0) : gate_start(c, b, g, col));
    for (uint32_t p = 1; p < c->parts; p++) kb_store(b, c->acc[g][p], acc, kx_f(b, c->s.t, 0));
  }
}

// Weights of gate g in a row of a tile: [vectors][gates][lanes], then [gates][lanes of the rest].
static Affine weight_at(const Cell *c, uint32_t g, const Affine *acc) {
  const Columns *cols = c->cols;
  int64_t gates = c->to - c->from, whole = cols->vectors * cols->lanes;
  bool rest = acc[0].n == 0 && acc[0].base == cols->vectors;
  if (rest) return aff_plus(acc[1], whole * gates + (g - c->from) * cols->tail);
  return aff_plus(aff_add(aff_mul(acc[0], gates * cols->lanes), acc[1]), (g - c->from) * cols->lanes);
}

// k[0] counts groups of `parts` elements of h, one for each partial sum.
static void add_gates(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)col;
  Cell *c = ctx;
  int64_t gates = c->to - c->from;
  Affine tile = aff_mul(c->first, gates * c->s.n_hidden);
  for (uint32_t p = 0; p < c->parts; p++) {
    Affine at_h = aff_plus(aff_mul(k[0], c->parts), p), row = aff_add(tile, aff_mul(at_h, gates * c->cols->width));
    KVar *hk = kb_let(b, "hk", kx_load1(b, c->source, aff_add(c->row, at_h)));
    for (uint32_t g = c->from; g < c->to; g++) {
      KExpr *r = lower_load1(b, c->r[c->from], aff_add(row, weight_at(c, g, acc)));
      kb_store(b, c->acc[g][p], acc, kx_op3(b, KOP_FMA, kx_var(b, hk), r, kx_load(b, c->acc[g][p], acc)));
    }
  }
}

static void sum_parts(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)col;
  Cell *c = ctx;
  for (uint32_t g = c->from; g < c->to; g++) {
    for (uint32_t p = 1; p < c->parts; p++) {
      KExpr *sum = kx_op2(b, KOP_ADD, kx_load(b, c->acc[g][0], acc), kx_load(b, c->acc[g][p], acc));
      kb_store(b, c->acc[g][0], acc, sum);
    }
  }
}

// ---- weights of signs: one sum per gate and plane

static int64_t sign_tables(const Cell *c) { return signs_dwords(c->signs) * SIGN_TABLES * SIGN_ENTRIES; }

// k[0] counts dwords. A tile's dwords lie together, [dwords][gates][planes][units of the tile].
static void load_signs(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Cell *c = ctx;
  int64_t per_unit = (int64_t)(c->to - c->from) * c->signs->planes;
  Affine at = aff_mul(c->first, per_unit * signs_dwords(c->signs));
  at = aff_add(aff_add(at, aff_mul(k[0], per_unit * c->cols->width)), col);
  for (uint32_t g = c->from; g < c->to; g++)
    for (uint32_t p = 0; p < c->signs->planes; p++, at = aff_plus(at, c->cols->width))
      kb_store(b, c->dword[g][p], acc, kx_load1(b, c->bits[c->from], at));
}

// k[1] is the group. Products with 1 are exact; multiply-adds leave the adders, whose ports permutations need, alone.
static void add_signs(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)col;
  Cell *c = ctx;
  Affine at = aff_add(aff_mul(c->batch, sign_tables(c)), aff_mul(k[0], SIGN_TABLES * SIGN_ENTRIES));
  for (uint32_t g = c->from; g < c->to; g++)
    for (uint32_t p = 0; p < c->signs->planes; p++) {
      KExpr *sum = signs_lookup(b, c->tables, at, k[1].base, kx_load(b, c->dword[g][p], acc));
      kb_store(b, c->acc[g][p], acc, kx_op3(b, KOP_FMA, sum, kx_var(b, c->one), kx_load(b, c->acc[g][p], acc)));
    }
}

static void scale_signs(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  for (uint32_t g = c->from; g < c->to; g++) {
    KExpr *v = gate_start(c, b, g, col);
    for (uint32_t p = c->signs->planes; p-- > 0;) {
      KExpr *scale = kx_load1(b, c->scale, aff_plus(unit(c, col), (p * c->s.gates + g) * c->s.n_hidden));
      v = kx_op3(b, KOP_FMA, kx_load(b, c->acc[g][p], acc), scale, v);
    }
    kb_store(b, c->acc[g][0], acc, v);
  }
}

static void sum_signs(Cell *c, KBuild *b, const Columns *cols) {
  for (uint32_t g = c->from; g < c->to; g++)
    for (uint32_t p = 0; p < c->signs->planes; p++) c->dword[g][p] = columns_alloc(b, cols, "signs", DT_U32);
  c->one = kb_let(b, "one", kx_load1(b, c->pattern, aff(SIGN_ENTRIES - 1)));
  Affine k[2] = {aff_var(kb_for(b, "d", 0, signs_dwords(c->signs), 1, FOR_SEQ))};
  columns_each(b, cols, k, load_signs, c);
  for (int64_t group = 0; group < SIGN_TABLES; group++) {
    k[1] = aff(group);
    columns_each(b, cols, k, add_signs, c);
  }
  kb_end(b);
  columns_each(b, cols, NULL, scale_signs, c);
}

static Affine sums_at(const Cell *c, uint32_t g, Affine col) {
  return aff_plus(aff_add(aff_mul(c->row, c->s.gates), unit(c, col)), g * c->s.n_hidden);
}

static void keep_sums(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  for (uint32_t g = c->from; g < c->to; g++) kb_store1(b, c->sums, sums_at(c, g, col), kx_load(b, c->acc[g][0], acc));
}

static void take_sums(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  for (uint32_t g = c->from; g < c->to; g++) kb_store(b, c->acc[g][0], acc, kx_load1(b, c->sums, sums_at(c, g, col)));
}

static void store_h(Cell *c, KBuild *b, Affine col, KExpr *value) {
  KVar *h = kb_let(b, "h", value);
  kb_store1(b, c->next, state_at(c, col), kx_var(b, h));
  if (c->y) lower_store1(b, c->y, aff_add(c->y_row, unit(c, col)), kx_var(b, h));
}

// Gates i o f c; peepholes i o f.
static void lstm_finish(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  KExpr *pre[4];
  for (uint32_t g = 0; g < 4; g++) pre[g] = kx_load(b, c->acc[g][0], acc);
  KVar *old = kb_let(b, "c", kx_load1(b, c->c, state_at(c, col)));
  for (uint32_t g = 0; g < 3 && c->p; g += 2) {
    pre[g] = kx_op2(b, KOP_ADD, pre[g], kx_op2(b, KOP_MUL, parameter(c, b, c->p, 3, g, col), kx_var(b, old)));
  }
  KVar *i = kb_let(b, "i", rnn_activate(&c->s, b, c->dir, 0, pre[0]));
  KExpr *f =
      c->couple ? kx_op2(b, KOP_SUB, kx_f(b, c->s.t, 1), kx_var(b, i)) : rnn_activate(&c->s, b, c->dir, 0, pre[2]);
  KExpr *in = kx_op2(b, KOP_MUL, kx_var(b, i), rnn_activate(&c->s, b, c->dir, 1, pre[3]));
  KVar *cell = kb_let(b, "cell", kx_op2(b, KOP_ADD, kx_op2(b, KOP_MUL, f, kx_var(b, old)), in));
  kb_store1(b, c->c, state_at(c, col), kx_var(b, cell));
  if (c->p) {
    pre[1] = kx_op2(b, KOP_ADD, pre[1], kx_op2(b, KOP_MUL, parameter(c, b, c->p, 3, 1, col), kx_var(b, cell)));
  }
  KExpr *o = rnn_activate(&c->s, b, c->dir, 0, pre[1]);
  store_h(c, b, col, kx_op2(b, KOP_MUL, o, rnn_activate(&c->s, b, c->dir, 2, kx_var(b, cell))));
}

static void rnn_finish(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  store_h(c, b, col, rnn_activate(&c->s, b, c->dir, 0, kx_load(b, c->acc[0][0], acc)));
}

// (1 - z) * candidate + z * h
static void gru_blend(Cell *c, KBuild *b, Affine col, KExpr *z_value, KExpr *pre) {
  KVar *z = kb_let(b, "z", z_value);
  KExpr *keep = kx_op2(b, KOP_MUL, kx_var(b, z), kx_load1(b, c->h, state_at(c, col)));
  KExpr *rest = kx_op2(b, KOP_SUB, kx_f(b, c->s.t, 1), kx_var(b, z));
  KExpr *candidate = rnn_activate(&c->s, b, c->dir, 1, pre);
  store_h(c, b, col, kx_op2(b, KOP_ADD, kx_op2(b, KOP_MUL, rest, candidate), keep));
}

// Gates z r h, all in one phase: the reset gate multiplies R h + Rb.
static void gru_finish_after(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  KExpr *r = rnn_activate(&c->s, b, c->dir, 0, kx_load(b, c->acc[1][0], acc));
  KExpr *x = lower_load1(b, c->xw, aff_plus(aff_add(c->x_row, unit(c, col)), 2 * c->s.n_hidden));
  if (c->bias) x = kx_op2(b, KOP_ADD, x, parameter(c, b, c->bias, 6, 2, col));
  KExpr *pre = kx_op2(b, KOP_ADD, x, kx_op2(b, KOP_MUL, r, kx_load(b, c->acc[2][0], acc)));
  gru_blend(c, b, col, rnn_activate(&c->s, b, c->dir, 0, kx_load(b, c->acc[0][0], acc)), pre);
}

// First phase: z, and r * h for the product of the second.
static void gru_finish_gates(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  kb_store1(b, c->z, state_at(c, col), rnn_activate(&c->s, b, c->dir, 0, kx_load(b, c->acc[0][0], acc)));
  KExpr *r = rnn_activate(&c->s, b, c->dir, 0, kx_load(b, c->acc[1][0], acc));
  kb_store1(b, c->reset, state_at(c, col), kx_op2(b, KOP_MUL, r, kx_load1(b, c->h, state_at(c, col))));
}

static void gru_finish_candidate(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Cell *c = ctx;
  gru_blend(c, b, col, kx_load1(b, c->z, state_at(c, col)), kx_load(b, c->acc[2][0], acc));
}

static void tile(Cell *c, KBuild *b, const Columns *cols, Affine first, ColumnFn *finish) {
  static const char *const names[RNN_GATES] = {"g0", "g1", "g2", "g3"};
  const int64_t groups = c->s.n_hidden / c->parts;
  c->first = first;
  for (uint32_t g = c->from; g < c->to; g++) {
    for (uint32_t p = 0; p < c->parts; p++) c->acc[g][p] = columns_alloc(b, cols, names[g], c->s.t);
  }
  c->cols = cols;
  columns_each(b, cols, NULL, start_gates, c);
  if (c->signs) {
    sum_signs(c, b, cols);
  } else {
    columns_over(b, cols, 1, &groups, add_gates, c);
    if (c->parts > 1) columns_each(b, cols, NULL, sum_parts, c);
  }
  columns_each(b, cols, NULL, c->signs ? keep_sums : finish, c);
}

static int64_t lanes_of(const Cell *c) {
  int64_t lanes = target_lanes(c->ctx->target, dtype_info(c->s.t)->bits);
  return lanes < 1 ? 1 : lanes;
}

// Hidden units of one tile of so many gates. Eight sums hide the latency of each other; more only where the tile is
// the only one, so that the weights of the next tile arrive while the activations of this one are computed.
static int64_t tile_width(const Cell *c, int64_t gates) {
  int64_t most = c->ctx->target->n_vregs / (2 * gates), vectors = (LATENCY_SUMS + gates - 1) / gates;
  if (vectors > most || c->s.n_hidden <= lanes_of(c) * most) vectors = most;
  if (c->signs) vectors = 8 / (gates * c->signs->planes);  // each has a sum and a dword
  return lanes_of(c) * (vectors < 1 ? 1 : vectors > 4 ? 4 : vectors);
}

// Few accumulators wait for each other: they are split while there are registers and h divides.
static uint32_t parts_of(const Cell *c, int64_t gates) {
  int64_t h = c->s.n_hidden, chains = gates * ((h + lanes_of(c) - 1) / lanes_of(c));
  uint32_t parts = MAX_PARTS;
  while (parts > 1 && (h % parts || chains * parts > c->ctx->target->n_vregs / 2)) parts /= 2;
  return parts;
}

// The j-th place among whole tiles in the order of this step.
static Affine tile_first(const Cell *c, KBuild *b, Affine j, int64_t last) {
  if (c->odd == NULL) return j;
  KExpr *backwards = kx_index(b, aff_sub(aff(last), j));
  return aff_var(kb_let(b, "first", kx_op3(b, KOP_SELECT, kx_var(b, c->odd), backwards, kx_index(b, j))));
}

static void finish_columns(Cell *c, KBuild *b, const Columns *cols, Affine first, ColumnFn *finish) {
  c->first = first;
  for (uint32_t g = c->from; g < c->to; g++) c->acc[g][0] = columns_alloc(b, cols, "sum", c->s.t);
  columns_each(b, cols, NULL, take_sums, c);
  columns_each(b, cols, NULL, finish, c);
}

// The activations of tiles that kept their sums: chains of operations that wait for each other, so that many of them
// should lie together.
static void finish_sums(Cell *c, KBuild *b, ColumnFn *finish) {
  int64_t h = c->s.n_hidden, lanes = lanes_of(c), whole = h - h % lanes;
  if (whole > 0) {
    Columns cols = columns_new(c->ctx, c->s.t, lanes);
    finish_columns(c, b, &cols, aff_var(kb_for(b, "j", 0, whole, lanes, FOR_SEQ)), finish);
    kb_end(b);
  }
  if (whole == h) return;
  Columns rest = columns_new(c->ctx, c->s.t, h - whole);
  finish_columns(c, b, &rest, aff(whole), finish);
}

// All hidden units, for gates [from, to).
static void phase(Cell *c, KBuild *b, uint32_t from, uint32_t to, KBuf *source, ColumnFn *finish) {
  int64_t h = c->s.n_hidden, width = tile_width(c, to - from), whole = h - h % width;
  c->from = from;
  c->to = to;
  c->source = source;
  c->parts = c->signs ? c->signs->planes : parts_of(c, to - from);
  if (c->signs) {
    Affine tables = aff_mul(c->batch, sign_tables(c));
    signs_tables(b, c->signs, source, c->row, c->tables, tables, c->pattern);
  }
  if (whole) {
    Columns cols = columns_new(c->ctx, c->s.t, width);
    bool loop = whole > width;
    Affine j = loop ? aff_var(kb_for(b, "j", 0, whole, width, FOR_SEQ)) : aff(0);
    tile(c, b, &cols, loop ? tile_first(c, b, j, whole - width) : j, finish);
    if (loop) kb_end(b);
  }
  if (whole < h) {
    Columns cols = columns_new(c->ctx, c->s.t, h - whole);
    tile(c, b, &cols, aff(whole), finish);
  }
  if (c->signs) finish_sums(c, b, finish);
}

// The new state may overwrite the old one: no tile reads h after another one has written it.
static bool is_direct(const Cell *c) {
  if (c->op->kind == OP_GRU && !c->after) return true;  // the last phase multiplies reset * h
  if (c->signs) return true;                            // tables are made before
  return c->s.n_hidden <= tile_width(c, c->s.gates);
}

// ---- one sequence

static void copy_row(KBuild *b, KBuf *to, Affine to_at, KBuf *from, Affine from_at, int64_t n) {
  Affine j = aff_var(kb_for(b, "j", 0, n, 1, FOR_VEC));
  KExpr *v = from ? lower_load1(b, from, aff_add(from_at, j)) : lower_number(b, lower_compute_type(to->type), 0);
  lower_store1(b, to, aff_add(to_at, j), v);
  kb_end(b);
}

// Row of this batch entry in [dirs, batch, hidden], batch major [batch, dirs, hidden].
static Affine outer_row(const Cell *c) {
  Affine row =
      c->s.batch_major ? aff_plus(aff_mul(c->batch, c->s.dirs), c->dir) : aff_plus(c->batch, c->dir * c->s.batch);
  return aff_mul(row, c->s.n_hidden);
}

static void set_time(Cell *c, Affine t) {
  const RnnShape *s = &c->s;
  Affine x = s->batch_major ? aff_add(aff_mul(c->batch, s->steps), t) : aff_add(aff_mul(t, s->batch), c->batch);
  c->x_row = aff_mul(x, s->gates * s->n_hidden);
  Affine y = s->batch_major ? aff_plus(aff_mul(aff_add(aff_mul(c->batch, s->steps), t), s->dirs), c->dir)
                            : aff_add(aff_mul(aff_plus(aff_mul(t, s->dirs), c->dir), s->batch), c->batch);
  c->y_row = aff_mul(y, s->n_hidden);
}

static void cell_step(Cell *c, KBuild *b) {
  if (c->op->kind == OP_LSTM) {
    phase(c, b, 0, 4, c->h, lstm_finish);
  } else if (c->op->kind == OP_RNN) {
    phase(c, b, 0, 1, c->h, rnn_finish);
  } else if (c->after) {
    phase(c, b, 0, 3, c->h, gru_finish_after);
  } else {
    phase(c, b, 0, 2, c->h, gru_finish_gates);
    phase(c, b, 2, 3, c->reset, gru_finish_candidate);
  }
  if (c->next != c->h) copy_row(b, c->h, c->row, c->next, c->row, c->s.n_hidden);
}

static bool turns(const Cell *c) {
  int64_t bytes = c->s.gates * c->s.n_hidden * c->s.n_hidden * (dtype_info(c->s.t)->bits / 8);
  return c->signs == NULL && c->s.steps > 1 && 2 * bytes > (int64_t)c->ctx->target->l2_bytes;
}

static void time_loop(Cell *c, KBuild *b) {
  const RnnShape *s = &c->s;
  bool backward = s->reverse || c->dir == 1;
  Affine last = aff(s->steps - 1), len = aff(s->steps);
  if (c->lens) {
    KExpr *n = kx_cast(b, DT_I64, kx_load1(b, c->lens, c->batch));
    n = kx_op2(b, KOP_MIN, kx_op2(b, KOP_MAX, n, kx_i(b, DT_I64, 0)), kx_i(b, DT_I64, s->steps));
    len = aff_var(kb_let(b, "len", n));
    last = aff_plus(len, -1);
  }
  Affine t = aff_var(kb_for_aff(b, "t", aff(0), len, 1, FOR_SEQ));
  c->odd = NULL;
  if (turns(c)) {
    KExpr *bit = kx_op2(b, KOP_AND, kx_index(b, t), kx_i(b, DT_I64, 1));
    c->odd = kb_let(b, "odd", kx_op2(b, KOP_EQ, bit, kx_i(b, DT_I64, 1)));
  }
  set_time(c, backward ? aff_sub(last, t) : t);
  cell_step(c, b);
  kb_end(b);
  if (!c->lens || !c->y) return;
  set_time(c, aff_var(kb_for_aff(b, "t", len, aff(s->steps), 1, FOR_SEQ)));
  copy_row(b, c->y, c->y_row, NULL, aff(0), s->n_hidden);
  kb_end(b);
}

static void sequence(Cell *c, KBuild *b) {
  int64_t h = c->s.n_hidden;
  KForKind kind = c->s.batch > 1 ? FOR_PAR : FOR_SEQ;
  c->batch = aff_var(kb_for(b, "n", 0, c->s.batch, 1, kind));
  c->row = aff_mul(c->batch, h);
  copy_row(b, c->h, c->row, c->h0, outer_row(c), h);
  if (c->c) copy_row(b, c->c, c->row, c->c0, outer_row(c), h);
  time_loop(c, b);
  if (c->y_h) copy_row(b, c->y_h, outer_row(c), c->h, c->row, h);
  if (c->y_c) copy_row(b, c->y_c, outer_row(c), c->c, c->row, h);
  kb_end(b);
}

// ---- R as signs

// Dwords of the gates of a phase in the order of its tiles.
static Value *sign_bits(const Cell *c, uint32_t from, uint32_t to) {
  Module *m = c->ctx->m;
  const Signs *s = c->signs;
  int64_t h = c->s.n_hidden, dwords = signs_dwords(s), width = tile_width(c, to - from);
  int64_t count = h * dwords * (to - from) * s->planes, at = 0;
  const Type *t = type_tensor(m->types, DT_U32, 1, &count);
  uint32_t *bits = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t first = 0; first < h; first += first + width <= h ? width : h - first) {
    int64_t units = first + width <= h ? width : h - first;
    for (int64_t d = 0; d < dwords; d++)
      for (uint32_t g = from; g < to; g++)
        for (uint32_t p = 0; p < s->planes; p++)
          for (int64_t j = 0; j < units; j++) bits[at++] = signs_dword(s, g * h + first + j, p, d);
  }
  return const_borrowed(m, t, bits, op_in(c->op, 2)->constant->name);
}

static void sign_operands(Cell *c, KBuild *b) {
  Module *m = c->ctx->m;
  int64_t n = c->s.gates * c->s.n_hidden, count = c->signs->planes * n, sums = c->s.batch * sign_tables(c);
  uint32_t gates = (uint32_t)c->s.gates, middle = first_phase(c);
  c->bits[0] = operand(c, b, lower_const(c->ctx, sign_bits(c, 0, middle)));
  if (middle < gates) c->bits[middle] = operand(c, b, lower_const(c->ctx, sign_bits(c, middle, gates)));
  const Type *t = type_tensor(m->types, DT_F32, 1, &count);
  float *scale = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < count; i++) scale[i] = c->signs->scale[i / n][i % n];
  c->scale = operand(c, b, lower_const(c->ctx, const_borrowed(m, t, scale, NULL)));
  c->pattern = operand(c, b, lower_const(c->ctx, signs_pattern(m)));
  c->tables = operand(c, b, lower_work(c->ctx, "tables", type_tensor(m->types, DT_F32, 1, &sums)));
  const Type *gates_of_units = type_tensor(m->types, DT_F32, 2, (int64_t[]){c->s.batch, n});
  c->sums = operand(c, b, lower_work(c->ctx, "sums", gates_of_units));
}

// Lookups pay where a table of 32 floats is two registers and the loop over them is one.
static bool find_signs(const Cell *c, Signs *s) {
  const Value *r = op_in(c->op, 2);
  int64_t n = c->s.gates * c->s.n_hidden, h = c->s.n_hidden;
  if (c->s.t != DT_F32 || !value_is_const(r) || c->ctx->target->vector_bits < 512 || h <= 32) return false;
  if (c->ctx->opt != NULL && c->ctx->opt->strict_fp) return false;
  const char *data = const_data(c->ctx->m, r->constant);
  if (!signs_of(c->ctx->m->arena, data + c->dir * n * h * 4, n, h, s)) return false;
  note_layer(c->ctx->m, c->op, NOTE_RECOVERED,
             "recurrent weights are %u signs and as many scales per row, bit for bit; sums of h are looked up by bits",
             s->planes);
  return true;
}

static PBuf *phase_weights(const Cell *c, uint32_t from, uint32_t to) {
  RnnTiles tiles = {c->dir, from, to, tile_width(c, to - from), lanes_of(c)};
  return rnn_recurrent(c->ctx, c->op, &c->s, &tiles);
}

// R of all phases, NULL where a phase begins with another gate. False after an error.
static bool recurrent(const Cell *c, PBuf **r) {
  uint32_t gates = (uint32_t)c->s.gates, middle = first_phase(c);
  r[0] = phase_weights(c, 0, middle);
  if (middle < gates) r[middle] = phase_weights(c, middle, gates);
  return r[0] != NULL && (middle == gates || r[middle] != NULL);
}

static bool direction(Cell *c, int64_t dir) {
  KBuild b;
  bool lstm = c->op->kind == OP_LSTM;
  c->dir = dir;
  c->n_bufs = 0;
  Signs signs;
  c->signs = find_signs(c, &signs) ? &signs : NULL;
  PBuf *xw = rnn_project(c->ctx, c->op, &c->s, dir), *r[RNN_GATES] = {0};
  if (!xw || (!c->signs && !recurrent(c, r))) return false;
  lower_begin(c->ctx, &b, c->op);
  c->y = optional_out(c, &b, 0);
  c->y_h = optional_out(c, &b, 1);
  c->y_c = optional_out(c, &b, 2);
  c->xw = operand(c, &b, xw);
  if (c->signs) {
    sign_operands(c, &b);
  }
  for (uint32_t g = 0; g < RNN_GATES; g++)
    if (r[g] != NULL) c->r[g] = operand(c, &b, r[g]);
  c->bias = optional_in(c, &b, 3);
  c->lens = optional_in(c, &b, 4);
  c->h0 = optional_in(c, &b, 5);
  c->h = state_rows(c, &b, "h");
  c->next = is_direct(c) ? c->h : state_rows(c, &b, "next");
  if (lstm) {
    c->c0 = optional_in(c, &b, 6);
    c->p = optional_in(c, &b, 7);
    c->c = state_rows(c, &b, "c");
  } else if (c->op->kind == OP_GRU && !c->after) {
    c->z = state_rows(c, &b, "z");
    c->reset = state_rows(c, &b, "reset");
  }
  sequence(c, &b);
  Step *step = lower_step(c->ctx, &b, c->op, NULL, c->n_bufs, c->bufs);
  step->macs = (double)(c->s.steps * c->s.batch * c->s.gates) * (double)(c->s.n_hidden * c->s.n_hidden);
  return true;
}

static bool lower_cell(Cell *c, const RnnSlots *slots, int64_t gates, const char *acts) {
  if (!rnn_shape(c->ctx, c->op, slots, gates, acts, &c->s)) return false;
  for (int64_t d = 0; d < c->s.dirs; d++) {
    if (!direction(c, d)) return false;
  }
  return true;
}

bool lower_lstm(LowerCtx *ctx, const Op *op) {
  static const RnnSlots slots = {A_LSTM_direction, A_LSTM_activations, A_LSTM_alpha,
                                 A_LSTM_beta,      A_LSTM_clip,        A_LSTM_batch_major};
  Cell c = {.ctx = ctx, .op = op, .couple = op_bool(op, A_LSTM_input_forget)};
  return lower_cell(&c, &slots, 4, "Sigmoid,Tanh,Tanh");
}

bool lower_gru(LowerCtx *ctx, const Op *op) {
  static const RnnSlots slots = {A_GRU_direction, A_GRU_activations, A_GRU_alpha,
                                 A_GRU_beta,      A_GRU_clip,        A_GRU_batch_major};
  Cell c = {.ctx = ctx, .op = op, .after = op_bool(op, A_GRU_linear_before_reset)};
  return lower_cell(&c, &slots, 3, "Sigmoid,Tanh");
}

bool lower_rnn(LowerCtx *ctx, const Op *op) {
  static const RnnSlots slots = {A_RNN_direction, A_RNN_activations, A_RNN_alpha,
                                 A_RNN_beta,      A_RNN_clip,        A_RNN_batch_major};
  Cell c = {.ctx = ctx, .op = op};
  return lower_cell(&c, &slots, 1, "Tanh");
}
