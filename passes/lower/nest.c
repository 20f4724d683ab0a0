// The contraction nest. See nest.h.
//
// Shape of the code: one par loop over (panels x) rows x blocks of columns; inside it panels and tiles; inside a tile
// the reduction loops around an unrolled outer product of nv weight vectors and mr * my broadcast elements.
#include "passes/lower/nest.h"

typedef struct Emit {
  LowerCtx *ctx;
  KBuild b;
  const Nest *n;
  KBuf *x, *w, *y;
  uint32_t n_extra;  // operands broadcast to the result: the bias (if any) first, then post operands
  KBuf *extra[17];
  int64_t stride[17][MAX_RANK];
  PostParams pp;
  int64_t k;        // length of the whole reduction
  int64_t vectors;  // vectors of one group
  uint32_t depth;   // loops opened by open_loop and not closed
  bool words;       // dot: x is read in units of four bytes
} Emit;

// A place in the iteration space: element offsets in x and w, and result indices.
typedef struct Pos {
  Affine x, w, axis[MAX_RANK];
} Pos;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void nest_merge(Nest *n) {
  uint32_t out = 0;
  for (uint32_t i = 0; i < n->n_red; i++) {
    if (n->red[i] == 1) continue;
    if (out > 0 && n->x_red[out - 1] == n->red[i] * n->x_red[i]) {
      n->red[out - 1] *= n->red[i];
      n->x_red[out - 1] = n->x_red[i];
    } else {
      n->red[out] = n->red[i];
      n->x_red[out++] = n->x_red[i];
    }
  }
  if (out == 0) {
    n->red[0] = n->n_red > 0 ? 1 : 0;
    for (uint32_t i = 0; i < n->n_red; i++) n->red[0] *= n->red[i];
    n->x_red[0] = 1;
    out = 1;
  }
  n->n_red = out;
}

void nest_settle(Nest *n) {
  if (!n->dot) nest_merge(n);
  if (n->n_rows == 0 || n->row[n->n_rows - 1].w != 0) n->tile.my = 1;
}

// Steps of a reduction loop: the innermost one goes by four with dot.
static int64_t red_steps(const Nest *n, uint32_t i) {
  return n->dot && i + 1 == n->n_red ? ceil_div(n->red[i], 4) : n->red[i];
}

static int64_t nest_k(const Nest *n) {
  int64_t k = 1;
  for (uint32_t i = 0; i < n->n_red; i++) k *= red_steps(n, i);
  return k;
}

double nest_macs(const Nest *n) {
  double macs = (double)n->m.extent * (double)n->n;
  for (uint32_t i = 0; i < n->n_red; i++) macs *= (double)n->red[i];
  for (uint32_t i = 0; i < n->n_rows; i++) macs *= (double)n->row[i].extent;
  return macs;
}

// ---- small builders

static Affine open_loop(Emit *e, const char *name, int64_t extent, KForKind kind) {
  if (extent == 1) return aff(0);
  e->depth++;
  return aff_var(kb_for(&e->b, name, 0, extent, 1, kind));
}

static void close_loops(Emit *e, uint32_t depth) {
  for (; e->depth > depth; e->depth--) kb_end(&e->b);
}

static Pos pos_move(const Pos *p, const NestLoop *l, Affine by) {
  Pos q = *p;
  q.x = aff_add(q.x, aff_mul(by, l->x));
  q.w = aff_add(q.w, aff_mul(by, l->w));
  q.axis[l->axis] = aff_add(q.axis[l->axis], aff_mul(by, l->scale));
  return q;
}

static Affine let_index(Emit *e, const char *name, Affine a) {
  return aff_var(kb_let(&e->b, name, kx_index(&e->b, a)));
}

// Element strides of an operand over the axes of the nest, 0 where it is stretched.
static void operand_strides(const Nest *n, const Type *t, int64_t *stride) {
  const Type *y = op_out(n->op, 0)->type;
  int64_t run = 1;
  for (uint32_t i = 0; i < n->rank; i++) stride[i] = 0;
  for (uint32_t i = t->rank; i-- > 0;) {
    uint32_t axis = n->axis_of[y->rank - t->rank + i];
    if (t->dims[i] != 1 && stride[axis] == 0) stride[axis] = run;
    run *= t->dims[i];
  }
}

static Affine result_index(const Emit *e, const Pos *p) {
  Affine at = aff(0);
  int64_t run = 1;
  for (uint32_t i = e->n->rank; i-- > 0;) {
    at = aff_add(at, aff_mul(p->axis[i], run));
    run *= e->n->dims[i];
  }
  return at;
}

// ---- one register tile

typedef struct Tile {
  int64_t mi, yi, nvec, tail;  // columns, rows, vectors, lanes of the last vector that are stored
  KBuf *acc, *row;
} Tile;

// Four bytes of x as one lane, signed ones shifted into the range of unsigned ones; missing ones are zero.
static KExpr *load_four(Emit *e, Affine at, int64_t have) {
  KBuild *b = &e->b;
  bool is_signed = e->n->x->type->dtype == DT_I8;
  if (e->words && !is_signed) return kx_load(b, e->x, &at);
  KExpr *four = NULL;
  if (e->words) {
    four = kx_load(b, e->x, &at);
  } else {
    for (int64_t i = 0; i < have; i++) {
      Affine byte = aff_plus(at, i);
      KExpr *x = kx_cast(b, DT_U32, kx_load(b, e->x, &byte));
      if (i > 0) x = kx_op2(b, KOP_SHL, x, kx_i(b, DT_U32, 8 * i));
      four = i > 0 ? kx_op2(b, KOP_OR, four, x) : x;
    }
  }
  if (is_signed) four = kx_op2(b, KOP_XOR, four, kx_i(b, DT_U32, 0x80808080));
  return kx_view(b, DT_U8X4, four);
}

static KExpr *load_x(Emit *e, Affine at, int64_t have) {
  if (e->n->dot) return load_four(e, at, have);
  KExpr *x = lower_load(&e->b, e->x, &at);
  if (dtype_is_float(e->n->type)) return x;
  x = kx_cast(&e->b, e->n->type, x);
  return e->n->x_zero ? kx_op2(&e->b, KOP_SUB, x, kx_i(&e->b, e->n->type, e->n->x_zero)) : x;
}

static KExpr *multiply_add(Emit *e, KExpr *x, KExpr *w, KExpr *acc) {
  return e->n->dot ? kx_op3(&e->b, KOP_DOT4, acc, x, w) : lower_mul_add(e->ctx, &e->b, x, w, acc);
}

// acc[s, i, v] += x[i] * w[v] at one step of the reduction; `have` bytes of x exist with dot.
static void emit_step(Emit *e, const Tile *t, const Pos *p, Affine s, int64_t have) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  int64_t lanes = n->tile.lanes;
  uint32_t depth = e->depth;
  Affine v = open_loop(e, "v", t->nvec, FOR_UNROLL);
  Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine w_at = aff_add(p->w, aff_add(aff_mul(v, lanes), l)), row_at[2] = {v, l};
  kb_store(b, t->row, row_at, kx_load(b, e->w, &w_at));
  kb_end(b);
  close_loops(e, depth);
  Affine iy = open_loop(e, "iy", t->yi, FOR_UNROLL), ix = open_loop(e, "i", t->mi, FOR_UNROLL);
  Affine x_at = aff_add(p->x, aff_mul(ix, n->m.x));
  if (t->yi > 1) x_at = aff_add(x_at, aff_mul(iy, n->row[n->n_rows - 1].x));
  KVar *xv = kb_let(b, "a", load_x(e, x_at, have));
  v = open_loop(e, "v", t->nvec, FOR_UNROLL);
  l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine at[4] = {s, aff_add(aff_mul(iy, t->mi), ix), v, l}, r_at[2] = {v, l};
  kb_store(b, t->acc, at, multiply_add(e, kx_var(b, xv), kx_load(b, t->row, r_at), kx_load(b, t->acc, at)));
  kb_end(b);
  close_loops(e, depth);
}

static Pos pos_step(const Emit *e, const Pos *p, uint32_t red, Affine by) {
  int64_t inner = 1;
  for (uint32_t i = red + 1; i < e->n->n_red; i++) inner *= red_steps(e->n, i);
  bool by_four = e->n->dot && !e->words && red + 1 == e->n->n_red;
  Pos q = *p;
  q.x = aff_add(q.x, aff_mul(by, by_four ? 4 : e->n->x_red[red]));
  q.w = aff_add(q.w, aff_mul(by, inner));  // in rows of the panel; scaled by emit_reduction
  return q;
}

// The innermost reduction loop: ku * ks steps unrolled, then the rest one by one.
static void emit_inner(Emit *e, const Tile *t, const Pos *p, const Affine *w_base) {
  const Nest *n = e->n;
  uint32_t last = n->n_red - 1, depth = e->depth;
  int64_t brow = t->nvec * n->tile.lanes, unroll = n->tile.ku * n->tile.ks, tail = n->dot ? n->red[last] % 4 : 0;
  int64_t k = n->dot ? n->red[last] / 4 : n->red[last];
  if (unroll > k) unroll = k < n->tile.ks ? 1 : n->tile.ks;
  int64_t ks = unroll % n->tile.ks == 0 ? n->tile.ks : 1, whole = k - k % unroll;
  if (whole > 0) {
    Affine kv = aff(0);
    if (whole > unroll) {
      kv = aff_var(kb_for(&e->b, "k", 0, whole, unroll, FOR_SEQ));
      e->depth++;
    }
    Affine j = open_loop(e, "j", unroll / ks, FOR_UNROLL), s = open_loop(e, "s", ks, FOR_UNROLL);
    Pos q = pos_step(e, p, last, aff_add(kv, aff_add(aff_mul(j, ks), s)));
    q.w = aff_add(*w_base, aff_mul(q.w, brow));
    emit_step(e, t, &q, s, 4);
    close_loops(e, depth);
  }
  if (whole < k) {
    Affine kv = aff(whole);
    if (k - whole > 1) {
      kv = aff_var(kb_for(&e->b, "k", whole, k, 1, FOR_SEQ));
      e->depth++;
    }
    Pos q = pos_step(e, p, last, kv);
    q.w = aff_add(*w_base, aff_mul(q.w, brow));
    emit_step(e, t, &q, aff(0), 4);
    close_loops(e, depth);
  }
  if (tail > 0) {
    Pos q = pos_step(e, p, last, aff(k));
    q.w = aff_add(*w_base, aff_mul(q.w, brow));
    emit_step(e, t, &q, aff(0), tail);
  }
}

static void emit_reduction(Emit *e, const Tile *t, const Pos *p) {
  static const char *const names[NEST_REDS] = {"ka", "kb", "kc", "kd", "ke"};
  if (e->k == 0) return;
  uint32_t depth = e->depth;
  Pos q = *p;
  Affine w_base = p->w;
  q.w = aff(0);
  for (uint32_t i = 0; i + 1 < e->n->n_red; i++) {
    Affine v = open_loop(e, names[i], e->n->red[i], FOR_SEQ);
    q = pos_step(e, &q, i, v);
  }
  emit_inner(e, t, &q, &w_base);
  close_loops(e, depth);
}

static void emit_zero(Emit *e, const Tile *t) {
  uint32_t depth = e->depth;
  Affine s = open_loop(e, "s", e->n->tile.ks, FOR_UNROLL), i = open_loop(e, "i", t->mi * t->yi, FOR_UNROLL);
  Affine v = open_loop(e, "v", t->nvec, FOR_UNROLL);
  Affine at[4] = {s, i, v, aff_var(kb_for(&e->b, "l", 0, e->n->tile.lanes, 1, FOR_VEC))};
  DType type = e->n->type;
  kb_store(&e->b, t->acc, at, dtype_is_float(type) ? kx_f(&e->b, type, 0.0) : kx_i(&e->b, type, 0));
  kb_end(&e->b);
  close_loops(e, depth);
}

static void emit_sum_parts(Emit *e, const Tile *t) {
  for (int64_t part = 1; part < e->n->tile.ks; part++) {
    uint32_t depth = e->depth;
    Affine i = open_loop(e, "i", t->mi * t->yi, FOR_UNROLL), v = open_loop(e, "v", t->nvec, FOR_UNROLL);
    Affine l = aff_var(kb_for(&e->b, "l", 0, e->n->tile.lanes, 1, FOR_VEC));
    Affine at[4] = {aff(0), i, v, l}, from[4] = {aff(part), i, v, l};
    kb_store(&e->b, t->acc, at, kx_op2(&e->b, KOP_ADD, kx_load(&e->b, t->acc, at), kx_load(&e->b, t->acc, from)));
    kb_end(&e->b);
    close_loops(e, depth);
  }
}

static KExpr *load_extra(Emit *e, uint32_t which, const Pos *p) {
  Affine at = aff(0);
  for (uint32_t i = 0; i < e->n->rank; i++) at = aff_add(at, aff_mul(p->axis[i], e->stride[which][i]));
  return lower_load(&e->b, e->extra[which], &at);
}

static KExpr *post_value(Emit *e, const Pos *p, KExpr *value) {
  if (op_post(e->n->op) == NULL) return value;
  KExpr *args[17] = {value};
  uint32_t next = e->n->bias != NULL ? 1 : 0;
  for (uint32_t a = 0; a < e->pp.n; a++) args[1 + a] = load_extra(e, next++, p);
  return lower_body(&e->b, op_post(e->n->op), args);
}

// Bias, post function and store of one vector of the result.
static void emit_store(Emit *e, const Tile *t, const Pos *p, Affine i, Affine v, Affine l) {
  KBuild *b = &e->b;
  Affine at[4] = {aff(0), i, v, l}, out = result_index(e, p);
  KExpr *value = kx_load(b, t->acc, at);
  if (e->n->bias != NULL) value = kx_op2(b, KOP_ADD, value, load_extra(e, 0, p));
  if (!e->n->post_again) value = post_value(e, p, value);
  lower_store(b, e->y, &out, value);
}

static void emit_again(Emit *e, const Pos *p) {
  Affine out = result_index(e, p);
  lower_store(&e->b, e->y, &out, post_value(e, p, lower_load(&e->b, e->y, &out)));
}

// Vectors from .. to - 1 of the tile, the first `lanes` of each: out of registers, or once more in memory.
static void emit_stores(Emit *e, const Tile *t, const Pos *p, int64_t from, int64_t to, int64_t lanes, bool again) {
  const Nest *n = e->n;
  uint32_t depth = e->depth;
  KForKind kind = again ? FOR_SEQ : FOR_UNROLL;
  NestLoop columns = {.axis = n->rank - 1, .scale = 1};
  Affine iy = open_loop(e, "iy", t->yi, kind), ix = open_loop(e, "i", t->mi, kind);
  Affine v = aff_plus(open_loop(e, "v", to - from, kind), from);
  Affine l = aff_var(kb_for(&e->b, "l", 0, lanes, 1, FOR_VEC));
  Pos q = pos_move(p, &n->m, ix);
  if (t->yi > 1) q = pos_move(&q, &n->row[n->n_rows - 1], iy);
  q = pos_move(&q, &columns, aff_add(aff_mul(v, n->tile.lanes), l));
  if (again) {
    emit_again(e, &q);
  } else {
    emit_store(e, t, &q, aff_add(aff_mul(iy, t->mi), ix), v, l);
  }
  kb_end(&e->b);
  close_loops(e, depth);
}

static void emit_results(Emit *e, const Tile *t, const Pos *p, bool again) {
  int64_t lanes = e->n->tile.lanes, full = t->tail == lanes ? t->nvec : t->nvec - 1;
  if (full > 0) emit_stores(e, t, p, 0, full, lanes, again);
  if (full < t->nvec) emit_stores(e, t, p, full, t->nvec, t->tail, again);
}

static void emit_tile(Emit *e, Tile t, const Pos *p) {
  const Nest *n = e->n;
  t.acc = kb_alloc(&e->b, "acc", n->type, 4, (int64_t[]){n->tile.ks, t.mi * t.yi, t.nvec, n->tile.lanes}, SPACE_REG);
  t.row = kb_alloc(&e->b, "wv", n->dot ? DT_I8X4 : n->type, 2, (int64_t[]){t.nvec, n->tile.lanes}, SPACE_REG);
  Pos q = *p;
  if (q.x.n > 1) q.x = let_index(e, "xo", q.x);
  if (q.w.n > 1) q.w = let_index(e, "wo", q.w);
  emit_zero(e, &t);
  emit_reduction(e, &t, &q);
  if (e->k > 0) emit_sum_parts(e, &t);
  emit_results(e, &t, &q, false);
  if (n->post_again) emit_results(e, &t, &q, true);
}

// ---- loops around tiles

// Tiles of one panel over a block of columns; `block` is the number of the block.
static void emit_columns(Emit *e, Tile t, const Pos *p, Affine block) {
  const Nest *n = e->n;
  int64_t m = n->m.extent, rest = m % n->tile.mr, whole = m - rest, blocks = ceil_div(m, n->tile.mb);
  KBuild *b = &e->b;
  if (whole > 0) {
    t.mi = n->tile.mr;
    Affine at = aff(0);
    bool loop = whole > n->tile.mr;
    if (loop) {
      Affine lo = aff_mul(block, n->tile.mb), hi = aff(whole);
      if (blocks > 1) {
        KExpr *end = kx_index(b, aff_plus(lo, n->tile.mb));
        hi = aff_var(kb_let(b, "m_end", kx_op2(b, KOP_MIN, end, kx_i(b, DT_I64, whole))));
      }
      at = aff_var(kb_for_aff(b, "m", lo, hi, n->tile.mr, FOR_SEQ));
    }
    Pos q = pos_move(p, &n->m, at);
    emit_tile(e, t, &q);
    if (loop) kb_end(b);
  }
  if (rest > 0) {
    t.mi = rest;
    if (blocks > 1) kb_if(b, kx_op2(b, KOP_EQ, kx_index(b, block), kx_i(b, DT_I64, blocks - 1)));
    Pos q = pos_move(p, &n->m, aff(whole));
    emit_tile(e, t, &q);
    if (blocks > 1) kb_end(b);
  }
}

// One panel over a block of columns and `my` rows starting at row number `row` of the innermost row loop.
static void emit_rows(Emit *e, Tile t, const Pos *p, Affine block, Affine row_tile) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  t.yi = 1;
  if (n->tile.my <= 1 || n->n_rows == 0) {
    emit_columns(e, t, p, block);
    return;
  }
  const NestLoop *rows = &n->row[n->n_rows - 1];
  int64_t tiles = rows->extent / n->tile.my, rest = rows->extent % n->tile.my;
  if (tiles > 0 && rest > 0) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, row_tile), kx_i(b, DT_I64, tiles)));
  Pos q = pos_move(p, rows, aff_mul(row_tile, n->tile.my));
  if (tiles > 0) {
    t.yi = n->tile.my;
    emit_columns(e, t, &q, block);
  }
  if (tiles > 0 && rest > 0) kb_else(b);
  if (rest > 0) {
    t.yi = rest;
    emit_columns(e, t, &q, block);
  }
  if (tiles > 0 && rest > 0) kb_end(b);
}

// The place of a panel: its weights and its first result column.
static Pos pos_panel(const Emit *e, const Pos *p, Affine panel) {
  int64_t width = e->n->tile.nv * e->n->tile.lanes;
  NestLoop l = {.w = width * e->k, .axis = e->n->rank - 1, .scale = width};
  return pos_move(p, &l, panel);
}

typedef struct Where {
  Affine panel, block, row_tile;
  bool has_panel;
} Where;

// All panels (or the one given) at one place of the par loop.
static void emit_panels(Emit *e, const Pos *p, const Where *at) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  int64_t width = n->tile.nv * n->tile.lanes, full = n->n / width, rest = n->n % width;
  Tile whole = {.nvec = n->tile.nv, .tail = n->tile.lanes};
  Tile last = {.nvec = ceil_div(rest, n->tile.lanes)};
  last.tail = rest - (last.nvec - 1) * n->tile.lanes;
  bool loop = !at->has_panel && full > 1, both = at->has_panel && full > 0 && rest > 0;
  if (both) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, at->panel), kx_i(b, DT_I64, full)));
  if (full > 0) {
    Affine panel = at->panel;
    if (loop) panel = aff_var(kb_for(b, "panel", 0, full, 1, FOR_SEQ));
    Pos q = pos_panel(e, p, panel);
    emit_rows(e, whole, &q, at->block, at->row_tile);
    if (loop) kb_end(b);
  }
  if (both) kb_else(b);
  if (rest > 0) {
    Pos q = pos_panel(e, p, aff(full));
    emit_rows(e, last, &q, at->block, at->row_tile);
  }
  if (both) kb_end(b);
}

// ---- the par loop

enum { DIM_PANEL = -1, DIM_BLOCK = -2 };

typedef struct ParDim {
  int which;  // row number, DIM_PANEL or DIM_BLOCK
  int64_t extent;
} ParDim;

static uint32_t par_dims(const Nest *n, ParDim *dim) {
  uint32_t count = 0;
  int64_t width = n->tile.nv * n->tile.lanes;
  if (n->tile.panels_outer) dim[count++] = (ParDim){DIM_PANEL, ceil_div(n->n, width)};
  for (uint32_t i = 0; i < n->n_rows; i++) {
    int64_t extent = n->row[i].extent;
    dim[count++] = (ParDim){(int)i, i + 1 == n->n_rows ? ceil_div(extent, n->tile.my) : extent};
  }
  dim[count++] = (ParDim){DIM_BLOCK, ceil_div(n->m.extent, n->tile.mb)};
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++)
    if (dim[i].extent != 1) dim[kept++] = dim[i];
  return kept;
}

static void place_dim(const Emit *e, const ParDim *d, Affine at, Where *where, Pos *p) {
  const Nest *n = e->n;
  if (d->which == DIM_PANEL) {
    where->panel = at;
  } else if (d->which == DIM_BLOCK) {
    where->block = at;
  } else if ((uint32_t)d->which + 1 == n->n_rows && n->tile.my > 1) {
    where->row_tile = at;
  } else {
    *p = pos_move(p, &n->row[d->which], at);
  }
}

// Opens the par loop and splits its variable into the dims.
static void emit_par(Emit *e, Where *where, Pos *p) {
  static const char *const names[] = {"p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11"};
  ParDim dim[NEST_ROWS + 2];
  KBuild *b = &e->b;
  uint32_t count = par_dims(e->n, dim);
  int64_t total = 1;
  for (uint32_t i = 0; i < count; i++) total *= dim[i].extent;
  Affine rest = aff_var(kb_for(b, "p", 0, total, 1, FOR_PAR));
  for (uint32_t i = count; i-- > 0;) {
    Affine at = rest;
    if (i > 0) {
      KExpr *extent = kx_i(b, DT_I64, dim[i].extent);
      at = aff_var(kb_let(b, names[i], kx_op2(b, KOP_MOD, kx_index(b, rest), extent)));
      KExpr *again = kx_i(b, DT_I64, dim[i].extent);
      rest = aff_var(kb_let(b, "rest", kx_op2(b, KOP_DIV, kx_index(b, rest), again)));
    }
    place_dim(e, &dim[i], at, where, p);
  }
}

static KBuf *flat_param(Emit *e, const char *name, const PBuf *buf, KSpace space) {
  int64_t count = type_count(buf->type);
  return kb_param(&e->b, name, buf->type->dtype, 1, &count, space);
}

static void add_extra(Emit *e, KBuf *buf, const Type *t) {
  int64_t count = type_count(t);
  e->extra[e->n_extra] = buf->rank == 1 ? buf : kb_view(&e->b, buf, "flat", t->dtype, 1, &count);
  operand_strides(e->n, t, e->stride[e->n_extra++]);
}

// Weights by four; x by four where every offset allows it, else as unsigned bytes.
static void view_bytes(Emit *e) {
  int64_t w_count = e->w->dims[0] / 4, x_count = e->x->dims[0];
  e->w = kb_view(&e->b, e->w, "w4", DT_I8X4, 1, &w_count);
  if (e->words) x_count /= 4;
  bool is_signed = e->n->x->type->dtype == DT_I8;
  if (e->words) {
    e->x = kb_view(&e->b, e->x, "x4", is_signed ? DT_U32 : DT_U8X4, 1, &x_count);
  } else if (is_signed) {
    e->x = kb_view(&e->b, e->x, "xu", DT_U8, 1, &x_count);
  }
}

static void emit_params(Emit *e) {
  const Nest *n = e->n;
  e->x = flat_param(e, "x", n->x, SPACE_ARG);
  e->w = flat_param(e, "w", n->w, n->w->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
  if (n->dot) view_bytes(e);
  e->y = flat_param(e, "y", n->y, SPACE_ARG);
  if (n->bias != NULL) {
    const PBuf *bias = lower_buf(e->ctx, n->bias);
    KBuf *param = flat_param(e, "bias", bias, bias->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
    e->extra[e->n_extra] = param;
    operand_strides(n, n->bias->type, e->stride[e->n_extra++]);
  }
  e->pp = lower_post_params(e->ctx, &e->b, n->op);
  uint32_t first = op_info(n->op->kind)->max_in;
  for (uint32_t i = 0; i < e->pp.n; i++) add_extra(e, e->pp.buf[i], op_in(n->op, first + i)->type);
}

// With every offset of x a multiple of four, x counts in units of four bytes.
static bool words_of_x(Nest *n) {
  int64_t count = type_count(n->x->type);
  bool fits = n->x0 % 4 == 0 && n->m.x % 4 == 0 && n->red[n->n_red - 1] % 4 == 0 && count % 4 == 0;
  for (uint32_t i = 0; i < n->n_rows; i++) fits = fits && n->row[i].x % 4 == 0;
  for (uint32_t i = 0; i + 1 < n->n_red; i++) fits = fits && n->x_red[i] % 4 == 0;
  if (!fits) return false;
  n->x0 /= 4;
  n->m.x /= 4;
  for (uint32_t i = 0; i < n->n_rows; i++) n->row[i].x /= 4;
  for (uint32_t i = 0; i + 1 < n->n_red; i++) n->x_red[i] /= 4;
  return true;
}

bool nest_lower(LowerCtx *ctx, const Nest *nest, const char *strategy) {
  Nest copy = *nest, *n = &copy;
  bool words = n->dot && words_of_x(n);
  Emit e = {.ctx = ctx, .n = n, .k = nest_k(n), .vectors = ceil_div(n->n, n->tile.lanes), .words = words};
  kbuild_init(&e.b, ctx->m, n->name, n->op->loc);
  emit_params(&e);
  Where where = {aff(0), aff(0), aff(0), n->tile.panels_outer};
  Pos p = {.x = aff(n->x0), .w = aff(0)};
  for (uint32_t i = 0; i < n->rank; i++) p.axis[i] = aff(n->first[i]);
  emit_par(&e, &where, &p);
  emit_panels(&e, &p, &where);
  kb_end(&e.b);
  PBuf *bufs[4] = {n->x, n->w, n->y, n->bias != NULL ? lower_buf(ctx, n->bias) : NULL};
  Step *step = lower_step(ctx, &e.b, n->op, &e.pp, n->bias != NULL ? 4 : 3, bufs);
  step->strategy = strategy;
  step->macs = nest_macs(n);
  return true;
}
