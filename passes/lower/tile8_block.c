// The code of a block of matrix tiles (tile8.h, nest_emit.h).
//
//   tile_zero %c0 ...                                      up to 2 x 2 tiles of sums
//   for steps of the reduction {
//     weights of few bits: bytes of the tile from their codes, to a buffer in L1
//     tile_load %b0, weights   tile_load %a0, x by pixels   tile_dot %c0, %a0, %b0 ...
//   }
//   for each tile of rows {
//     tile_store %c0, %sums ...                            one row of sums behind the other
//     for its rows { bias, post function and stores as after any register tile }
//   }
//
// A smaller block at the end of a row of the result loads whole tiles too: they begin earlier, and the rows that are
// there already are not stored.
#include "passes/lower/nest_emit.h"
#include "passes/lower/tile8.h"

void nest_begin_matrix(Emit *e) {
  static const char *const c_names[2][2] = {{"c0", "c1"}, {"c2", "c3"}};
  static const char *const a_names[2] = {"a0", "a1"}, *const b_names[2] = {"b0", "b1"};
  const Nest *n = e->n;
  KBuild *b = &e->b;
  int64_t rows = n->matrix.rows, lanes = n->tile.lanes, k = n->matrix.chunk / 4;
  bool is_signed = n->x->type->dtype == DT_I8;
  e->tiles_m = n->tile.my * ((n->tile.mr + rows - 1) / rows);
  for (int64_t i = 0; i < e->tiles_m; i++)
    for (int64_t v = 0; v < n->tile.nv; v++)
      e->tile_c[i][v] = kb_alloc(b, c_names[i][v], DT_I32, 2, (int64_t[]){rows, lanes}, SPACE_TILE);
  for (int64_t i = 0; i < e->tiles_m; i++) {
    DType type = is_signed ? DT_I8X4 : DT_U8X4;
    e->tile_a[i] = kb_alloc(b, a_names[i], type, 2, (int64_t[]){rows, k}, SPACE_TILE);
  }
  for (int64_t v = 0; v < n->tile.nv; v++)
    e->tile_b[v] = kb_alloc(b, b_names[v], DT_I8X4, 2, (int64_t[]){k, lanes}, SPACE_TILE);
  bool codes = n->matrix.parts.width[0] < 8;
  int64_t sums = (codes && k > rows ? k : rows) * n->tile.nv * lanes, bytes = 4 * sums;
  e->sums = kb_alloc(b, "sums", DT_I32, 1, &sums, SPACE_STACK);
  if (codes) e->wide = kb_view(b, e->sums, "wide", DT_U8, 1, &bytes);
}

// Tiles of rows that a block needs, and where tile i of them begins: pixels before the first of the block are negative.
typedef struct Block {
  int64_t tiles, per_row;     // in all; in one row of the result
  int64_t begin[2];           // first pixel of its row of the result
  int64_t from[2], count[2];  // pixels it stores: first, how many
  int64_t row[2];
} Block;

static Block block_of(const Emit *e, const Tile *t) {
  int64_t rows = e->n->matrix.rows;
  Block k = {.per_row = (t->mi + rows - 1) / rows};
  for (int64_t y = 0; y < t->yi; y++)
    for (int64_t i = 0; i < k.per_row; i++, k.tiles++) {
      QCC_CHECK(k.tiles < e->tiles_m, "a block of %lld x %lld pixels", (long long)t->yi, (long long)t->mi);
      k.row[k.tiles] = y;
      k.from[k.tiles] = i * rows;
      k.count[k.tiles] = t->mi - i * rows < rows ? t->mi - i * rows : rows;
      k.begin[k.tiles] = (i + 1) * rows > t->mi ? t->mi - rows : i * rows;
    }
  return k;
}

// Where a run of codes lies, and where they go: `count` bytes of the memory, one field each.
typedef struct Field {
  Affine from;
  int64_t to, count;
  uint32_t bit, width, shift;  // in the byte; in the code
  bool last;                   // of the code: what it stands for can be told
} Field;

static void widen_field(Emit *e, const Field *f) {
  KBuild *b = &e->b;
  const NestMatrix *x = &e->n->matrix;
  Affine l = aff_var(kb_for(b, "l", 0, f->count, 1, FOR_VEC)), from = aff_add(f->from, l), to = aff_plus(l, f->to);
  KExpr *code = kx_load1(b, e->w, from);
  if (f->bit > 0) code = kx_op2(b, KOP_SHR, code, kx_i(b, DT_U8, f->bit));
  if (f->bit + f->width < 8) code = kx_op2(b, KOP_AND, code, kx_i(b, DT_U8, (1 << f->width) - 1));
  if (f->shift > 0) {
    code = kx_op2(b, KOP_SHL, code, kx_i(b, DT_U8, f->shift));
    code = kx_op2(b, KOP_OR, code, kx_load1(b, e->wide, to));
  }
  if (f->last && x->step > 1) code = kx_op2(b, KOP_MUL, code, kx_i(b, DT_U8, x->step));
  if (f->last && x->lo != 0) code = kx_op2(b, KOP_ADD, code, kx_i(b, DT_U8, x->lo));
  kb_store1(b, e->wide, to, code);
  kb_end(b);
}

// Bytes of a tile from its codes at w_at, to `to`.
static void widen(Emit *e, Affine w_at, int64_t to) {
  const LowBitParts *parts = &e->n->matrix.parts;
  int64_t bytes = 4 * e->n->tile.lanes;
  uint32_t shift = 0;
  for (uint32_t i = 0; i < parts->n; shift += parts->width[i++]) {
    uint32_t width = parts->width[i];
    TileRows r = tile8_rows(e->n->matrix.chunk / 4, bytes, width);
    Field f = {.width = width, .shift = shift, .last = i + 1 == parts->n};
    for (int64_t row = 0; row < r.groups * r.per; row++) {
      f.from = aff_plus(w_at, row / r.per * bytes);
      f.to = to + row * bytes;
      f.count = bytes;
      f.bit = (uint32_t)(row % r.per) * width;
      widen_field(e, &f);
    }
    f.from = aff_plus(w_at, r.groups * bytes);
    for (int64_t piece = 0; piece < r.pieces; piece++)
      for (int64_t row = 0; row < r.left && piece * r.piece < bytes; row++) {
        f.to = to + (r.groups * r.per + row) * bytes + piece * r.piece;
        f.count = bytes - piece * r.piece < r.piece ? bytes - piece * r.piece : r.piece;
        f.bit = (uint32_t)(piece * r.left + row) * width;
        widen_field(e, &f);
      }
    w_at = aff_plus(w_at, r.groups * bytes + r.piece);
  }
}

// The products of one step: weights at w_at (in tiles of the panel), x at x_at for the first pixel.
static void emit_step(Emit *e, const Tile *t, const Block *k, Affine x_at, Affine w_at) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  for (int64_t v = 0; v < t->nvec; v++) {
    Affine at = aff_plus(w_at, v * n->matrix.stored), wide = aff(v * n->matrix.chunk * n->tile.lanes);
    if (e->wide != NULL) widen(e, at, wide.base);
    kb_tile_load(b, e->tile_b[v], e->wide != NULL ? e->wide : e->w, e->wide != NULL ? &wide : &at, 4 * n->tile.lanes);
  }
  for (int64_t i = 0; i < k->tiles; i++) {
    int64_t moved = k->begin[i] * n->m.x + (k->row[i] > 0 ? k->row[i] * n->row[n->n_rows - 1].x : 0);
    Affine at = aff_plus(x_at, moved);
    kb_tile_load(b, e->tile_a[i], e->x, &at, n->m.x);
    for (int64_t v = 0; v < t->nvec; v++) kb_tile_dot(b, e->tile_c[i][v], e->tile_a[i], e->tile_b[v]);
  }
}

static void emit_reduction(Emit *e, const Tile *t, const Block *k, const Pos *p) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  uint32_t depth = e->depth, last = n->n_red - 1;
  int64_t chunk = n->matrix.chunk, rest = n->red[last] - chunk, steps = nest_red_steps(n, last);
  Pos q = nest_outer_reductions(e, p);
  Affine step = nest_open(e, "k", steps, FOR_SEQ), at = aff_mul(step, chunk);
  if (steps > 1 && n->red[last] % chunk != 0) {
    KExpr *begin = kx_op2(b, KOP_MIN, kx_index(b, at), kx_i(b, DT_I64, rest));
    at = aff_var(kb_let(b, "begin", begin));
  }
  Affine w = aff_mul(aff_add(q.w, step), t->nvec * n->matrix.stored);
  emit_step(e, t, k, aff_add(q.x, at), aff_add(p->w, w));
  nest_close(e, depth);
}

// Row `row` of the sums as a register tile of one pixel.
static void emit_pixel(Emit *e, const Tile *t, const Pos *p, Affine row) {
  const Nest *n = e->n;
  KBuild *b = &e->b;
  int64_t lanes = n->tile.lanes;
  Tile one = {.mi = 1, .yi = 1, .nvec = t->nvec, .tail = t->tail};
  one.acc = kb_alloc(b, "acc", DT_I32, 4, (int64_t[]){1, 1, t->nvec, lanes}, SPACE_REG);
  uint32_t depth = e->depth;
  Affine v = nest_open(e, "v", t->nvec, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  Affine from = aff_add(aff_mul(row, t->nvec * lanes), aff_add(aff_mul(v, lanes), l)), to[4] = {aff(0), aff(0), v, l};
  kb_store(b, one.acc, to, kx_load1(b, e->sums, from));
  kb_end(b);
  nest_close(e, depth);
  nest_results(e, &one, p);
}

// The row and the column of the result at a place among all rows in one; the column.
static KExpr *split_rows(Emit *e, Pos *p) {
  KBuild *b = &e->b;
  uint32_t axis = e->n->m.axis;
  KVar *at = kb_let(b, "at", kx_index(b, p->axis[axis]));
  KVar *row = kb_let(b, "row", kx_op2(b, KOP_DIV, kx_var(b, at), kx_i(b, DT_I64, e->n->matrix.pitch)));
  KVar *column = kb_let(b, "column", kx_op2(b, KOP_MOD, kx_var(b, at), kx_i(b, DT_I64, e->n->matrix.pitch)));
  p->axis[axis] = aff_var(column);
  p->axis[axis - 1] = aff_var(row);
  return kx_var(b, column);
}

static void emit_results(Emit *e, const Tile *t, const Block *k, const Pos *p, int64_t i) {
  const Nest *n = e->n;
  uint32_t depth = e->depth;
  int64_t lanes = n->tile.lanes;
  for (int64_t v = 0; v < t->nvec; v++) {
    Affine at = aff(v * lanes);
    kb_tile_store(&e->b, e->tile_c[i][v], e->sums, &at, t->nvec * lanes);
  }
  Pos q = k->row[i] > 0 ? pos_move(p, &n->row[n->n_rows - 1], aff(k->row[i])) : *p;
  Affine pixel = nest_open(e, "i", k->count[i], FOR_SEQ);
  q = pos_move(&q, &n->m, aff_plus(pixel, k->from[i]));
  if (n->matrix.pitch > 0) {
    KExpr *column = split_rows(e, &q);
    kb_if(&e->b, kx_op2(&e->b, KOP_LT, column, kx_i(&e->b, DT_I64, n->matrix.width)));
  }
  emit_pixel(e, t, &q, aff_plus(pixel, k->from[i] - k->begin[i]));
  if (n->matrix.pitch > 0) kb_end(&e->b);
  nest_close(e, depth);
}

void nest_emit_matrix(Emit *e, Tile t, const Pos *p) {
  Block k = block_of(e, &t);
  Pos q = nest_base(e, p);
  for (int64_t i = 0; i < k.tiles; i++)
    for (int64_t v = 0; v < t.nvec; v++) kb_tile_zero(&e->b, e->tile_c[i][v]);
  emit_reduction(e, &t, &k, &q);
  for (int64_t i = 0; i < k.tiles; i++) emit_results(e, &t, &k, &q, i);
}
