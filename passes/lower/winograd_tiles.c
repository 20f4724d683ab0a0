// The transforms of Winograd tiles: inputs to V, M to results. See winograd.h.
//
//   for tiles of the row: for vectors of channels:
//     for rows y of the tile:  t[y][..] = B x[y][..]             zeros where x has no such row
//     for points j of x:       V[..][j] = B t[..][j]
//
// A transform is two passes over a small room t, each a loop around one row of straight code. Columns that x lacks are
// known for each tile at the ends of a row, which have code of their own.
#include "passes/lower/winograd.h"

#include "passes/price.h"

// A matrix times the vectors d (NULL: zero). Rows of neighbouring points p and -p share their even and odd parts.
static KExpr *row_sum(WinoEmit *e, const double *a, KVar *const *d, uint32_t n, int parity) {
  KBuild *b = &e->b;
  KExpr *sum = NULL;
  // A term with coefficient 1 begins the sum where there is one.
  uint32_t first = n;
  for (uint32_t pass = 0; pass < 3 && first == n; pass++)
    for (uint32_t j = 0; j < n && first == n; j++) {
      if (a[j] == 0 || d[j] == NULL || (parity >= 0 && (int)(j % 2) != parity)) continue;
      if (pass == 0 ? a[j] == 1 : pass == 1 ? a[j] != -1 : true) first = j;
    }
  if (first == n) return NULL;
  sum = kx_var(b, d[first]);
  if (a[first] == -1) sum = kx_op1(b, KOP_NEG, sum);
  if (a[first] != 1 && a[first] != -1) sum = kx_op2(b, KOP_MUL, sum, kx_f(b, DT_F32, (float)a[first]));
  for (uint32_t j = 0; j < n; j++) {
    if (j == first || a[j] == 0 || d[j] == NULL || (parity >= 0 && (int)(j % 2) != parity)) continue;
    if (a[j] == 1 || a[j] == -1) {
      sum = kx_op2(b, a[j] == 1 ? KOP_ADD : KOP_SUB, sum, kx_var(b, d[j]));
    } else {
      sum = kx_op3(b, KOP_FMA, kx_var(b, d[j]), kx_f(b, DT_F32, (float)a[j]), sum);
    }
  }
  return sum;
}

static KExpr *zero(WinoEmit *e) { return kx_f(&e->b, DT_F32, 0); }

// Row i + 1 is row i of -x.
static bool mirrored(const WinoMatrix *t, uint32_t i) {
  if (i + 1 >= t->rows) return false;
  for (uint32_t j = 0; j < t->cols; j++)
    if (t->a[i + 1][j] != (j % 2 == 1 ? -t->a[i][j] : t->a[i][j])) return false;
  return true;
}

static void apply_rows(WinoEmit *e, const WinoMatrix *t, KVar *const *d, KExpr **out) {
  KBuild *b = &e->b;
  for (uint32_t i = 0; i < t->rows; i++) {
    if (!mirrored(t, i)) {
      KExpr *sum = row_sum(e, t->a[i], d, t->cols, -1);
      out[i] = sum == NULL ? zero(e) : sum;
      continue;
    }
    KExpr *even = row_sum(e, t->a[i], d, t->cols, 0), *odd = row_sum(e, t->a[i], d, t->cols, 1);
    KVar *p = kb_let(b, "even", even == NULL ? zero(e) : even), *q = kb_let(b, "odd", odd == NULL ? zero(e) : odd);
    out[i] = kx_op2(b, KOP_ADD, kx_var(b, p), kx_var(b, q));
    out[i + 1] = kx_op2(b, KOP_SUB, kx_var(b, p), kx_var(b, q));
    i++;
  }
}

// Columns of p and -p are added and subtracted once: even rows take sums, odd rows differences.
static void apply_columns(WinoEmit *e, const WinoMatrix *t, KVar *const *d, KExpr **out) {
  KBuild *b = &e->b;
  KVar *part[2][WINO_POINTS];
  uint32_t n = 0;
  double a[WINO_TILE][WINO_POINTS];
  for (uint32_t i = 0; i < t->cols; i++, n++) {
    bool pair = t->rows > 1 && i + 1 < t->cols && t->a[1][i] != 0 && t->a[1][i + 1] == -t->a[1][i];
    for (uint32_t k = 0; k < t->rows; k++) a[k][n] = t->a[k][i];
    part[0][n] = part[1][n] = d[i];
    if (!pair) continue;
    part[0][n] = kb_let(b, "sum", kx_op2(b, KOP_ADD, kx_var(b, d[i]), kx_var(b, d[i + 1])));
    part[1][n] = kb_let(b, "difference", kx_op2(b, KOP_SUB, kx_var(b, d[i]), kx_var(b, d[i + 1])));
    i++;
  }
  for (uint32_t k = 0; k < t->rows; k++) out[k] = row_sum(e, a[k], part[k % 2], n, -1);
}

int64_t wino_rows_with(const WinoEmit *e, uint32_t point) {
  int64_t n = 0;
  for (uint32_t i = 0; i < e->n_y; i++)
    if (point < wino_points(e->y[i].m)) n += e->y[i].count;
  return n;
}

int64_t wino_columns_with(const WinoEmit *e, uint32_t point) {
  int64_t n = 0;
  for (uint32_t i = 0; i < e->n_x; i++)
    if (point < wino_points(e->x[i].m)) n += e->x[i].count;
  return n;
}

// ---- shared loops

// Where a tile is: first result along y and x, and offsets.
typedef struct At {
  const WinoKind *y, *x;
  Affine image, oy, ox;  // number of the image; first row and column of results
  Affine row, column;    // of tiles in the block
  Affine room, base;     // elements where t, and V or M, begin
} At;

static Affine settled(WinoEmit *e, const char *name, Affine a) {
  return a.n > 1 ? aff_var(kb_let(&e->b, name, kx_index(&e->b, a))) : a;
}

// The place of row `row` of tiles, which is of kind y.
static At row_place(WinoEmit *e, const WinoKind *y, Affine row, Affine room, Affine base) {
  KBuild *b = &e->b;
  At at = {.y = y, .row = row, .image = aff(0)};
  at.room = settled(e, "to", room);
  at.base = settled(e, "vo", base);
  Affine number = settled(e, "number", aff_add(aff_plus(row, -y->first), y->row));
  if (e->g.n > 1) {
    KExpr *per = kx_i(b, DT_I64, y->per_image), *again = kx_i(b, DT_I64, y->per_image);
    at.image = aff_var(kb_let(b, "image", kx_op2(b, KOP_DIV, kx_index(b, number), per)));
    number = aff_var(kb_let(b, "number", kx_op2(b, KOP_MOD, kx_index(b, number), again)));
  }
  at.oy = aff_plus(aff_mul(number, y->m), y->start);
  return at;
}

typedef void TileFn(WinoEmit *e, const At *at, Affine channel, int64_t lanes);

// The vectors of channels of a tile.
static void emit_vectors(WinoEmit *e, const At *at, int64_t channels, TileFn *fn) {
  int64_t full = channels / e->lanes, rest = channels % e->lanes;
  if (full > 0) {
    Affine c = full > 1 ? aff_var(kb_for(&e->b, "c", 0, full * e->lanes, e->lanes, FOR_SEQ)) : aff(0);
    fn(e, at, c, e->lanes);
    if (full > 1) kb_end(&e->b);
  }
  if (rest > 0) fn(e, at, aff(full * e->lanes), rest);
}

// Tiles [from, to) of kind x.
static void emit_tiles(WinoEmit *e, const At *row, const WinoKind *x, int64_t from, int64_t to, int64_t channels,
                       TileFn *fn) {
  if (from >= to) return;
  Affine i = to - from > 1 ? aff_var(kb_for(&e->b, "tile", from, to, 1, FOR_SEQ)) : aff(from);
  At at = *row;
  at.x = x;
  at.ox = aff_plus(aff_mul(i, x->m), x->start);
  at.column = aff_plus(i, x->first);
  emit_vectors(e, &at, channels, fn);
  if (to - from > 1) kb_end(&e->b);
}

typedef void RowFn(WinoEmit *e, const At *row);

// The row of tiles by its kind.
static void emit_row(WinoEmit *e, Affine row, Affine base, Affine room, RowFn *fn) {
  KBuild *b = &e->b;
  for (uint32_t i = 0; i < e->n_y; i++) {
    if (i + 1 < e->n_y) {
      kb_if(b, kx_op2(b, KOP_LT, kx_index(b, row), kx_i(b, DT_I64, e->y[i + 1].first)));
    }
    At at = row_place(e, &e->y[i], row, room, base);
    fn(e, &at);
    if (i + 1 < e->n_y) kb_else(b);
  }
  for (uint32_t i = 1; i < e->n_y; i++) kb_end(b);
}

// Element (i, j) of the room, lane l.
static Affine room_at(const WinoEmit *e, const At *at, Affine i, Affine j, Affine l) {
  Affine a = aff_add(aff_mul(i, e->points_x * e->lanes), aff_mul(j, e->lanes));
  return aff_add(aff_add(at->room, a), l);
}

// Runs of points of x that the same tiles have, opened one after the other.
static int64_t run_end(const WinoEmit *e, int64_t j, int64_t points) {
  int64_t end = j + 1;
  while (end < points && wino_columns_with(e, (uint32_t)end) == wino_columns_with(e, (uint32_t)j)) end++;
  return end;
}

// Element of V or M of the tile for point j of the run, channel 0; rows of channels are `width` long.
static Affine tile_at(const WinoEmit *e, const At *at, Affine j, int64_t run, int64_t step, int64_t width) {
  Affine tile = aff_add(aff_mul(at->row, wino_columns_with(e, (uint32_t)run)), at->column);
  return aff_add(at->base, aff_add(aff_mul(j, step), aff_mul(tile, width)));
}

// ---- inputs

static void first_pass(WinoEmit *e, const At *at, Affine iy, Affine y, Affine c, int64_t lanes) {
  KBuild *b = &e->b;
  const ConvGeom *g = &e->g;
  WinoMatrix t = wino_input(at->x->m);
  Affine ix = aff_plus(at->ox, -g->pad[2]);
  Affine from = aff_add(aff_mul(at->image, g->in[1]), iy);
  from = aff_add(aff_mul(aff_add(aff_mul(from, g->in[2]), ix), g->c), c);
  from = settled(e, "from", from);
  Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  KVar *d[WINO_POINTS];
  KExpr *out[WINO_POINTS];
  for (uint32_t j = 0; j < t.cols; j++) {
    Affine place = aff_add(aff_plus(from, j * g->c), l);
    bool known = aff_is_const(&ix), missing = known && (ix.base + j < 0 || ix.base + j >= g->in[2]);
    d[j] = missing ? NULL : kb_let(b, "d", lower_load(b, e->in, &place));
  }
  apply_rows(e, &t, d, out);
  for (uint32_t j = 0; j < t.rows; j++) kb_store1(b, e->t, room_at(e, at, y, aff(j), l), out[j]);
  kb_end(b);
}

static void zero_row(WinoEmit *e, const At *at, Affine y, int64_t lanes) {
  KBuild *b = &e->b;
  for (uint32_t j = 0; j < wino_points(at->x->m); j++) {
    Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
    kb_store1(b, e->t, room_at(e, at, y, aff(j), l), zero(e));
    kb_end(b);
  }
}

static void second_pass(WinoEmit *e, const At *at, Affine c, int64_t lanes) {
  KBuild *b = &e->b;
  WinoMatrix t = wino_input(at->y->m);
  int64_t points = wino_points(at->x->m);
  for (int64_t run = 0; run < points; run = run_end(e, run, points)) {
    int64_t end = run_end(e, run, points);
    Affine j = aff_var(kb_for(b, "j", run, end, 1, FOR_SEQ));
    Affine to = settled(e, "place", aff_add(tile_at(e, at, j, run, e->v_step, e->g.c), c));
    Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
    KVar *d[WINO_POINTS];
    KExpr *out[WINO_POINTS];
    for (uint32_t i = 0; i < t.cols; i++) d[i] = kb_let(b, "d", kx_load1(b, e->t, room_at(e, at, aff(i), j, l)));
    apply_rows(e, &t, d, out);
    for (uint32_t i = 0; i < t.rows; i++)
      kb_store1(b, e->v, aff_add(aff_plus(to, i * e->points_x * e->v_step), l), out[i]);
    kb_end(b);
    kb_end(b);
  }
}

static void input_tile(WinoEmit *e, const At *at, Affine c, int64_t lanes) {
  KBuild *b = &e->b;
  const ConvGeom *g = &e->g;
  Affine y = aff_var(kb_for(b, "y", 0, wino_points(at->y->m), 1, FOR_SEQ));
  Affine iy = settled(e, "iy", aff_add(aff_plus(at->oy, -g->pad[1]), y));
  bool above = g->pad[1] > 0 && at->y->start == 0;
  int64_t end = at->y->start + at->y->per_image * at->y->m + 2 - g->pad[1];  // rows read by the last tile of the kind
  bool below = end > g->in[1];
  KExpr *valid = NULL;
  if (above) valid = kx_op2(b, KOP_GE, kx_index(b, iy), kx_i(b, DT_I64, 0));
  if (below) {
    KExpr *test = kx_op2(b, KOP_LT, kx_index(b, iy), kx_i(b, DT_I64, g->in[1]));
    valid = valid == NULL ? test : kx_op2(b, KOP_AND, valid, test);
  }
  if (valid != NULL) kb_if(b, valid);
  first_pass(e, at, iy, y, c, lanes);
  if (valid != NULL) {
    kb_else(b);
    zero_row(e, at, y, lanes);
    kb_end(b);
  }
  kb_end(b);
  second_pass(e, at, c, lanes);
}

static void inputs_row(WinoEmit *e, const At *row) {
  for (uint32_t k = 0; k < e->n_x; k++) {
    const WinoKind *x = &e->x[k];
    int64_t lo = 0, hi = x->count;
    while (lo < hi && x->start + lo * x->m - e->g.pad[2] < 0) lo++;
    while (hi > lo && x->start + (hi - 1) * x->m - e->g.pad[2] + wino_points(x->m) > e->g.in[2]) hi--;
    for (int64_t i = 0; i < lo; i++) emit_tiles(e, row, x, i, i + 1, e->g.c, input_tile);
    emit_tiles(e, row, x, lo, hi, e->g.c, input_tile);
    for (int64_t i = hi; i < x->count; i++) emit_tiles(e, row, x, i, i + 1, e->g.c, input_tile);
  }
}

void wino_emit_inputs(WinoEmit *e, Affine row, Affine v, Affine t) { emit_row(e, row, v, t, inputs_row); }

// ---- results

static void results_first_pass(WinoEmit *e, const At *at, Affine c, int64_t lanes) {
  KBuild *b = &e->b;
  WinoMatrix t = wino_output(at->y->m);
  int64_t points = wino_points(at->x->m);
  for (int64_t run = 0; run < points; run = run_end(e, run, points)) {
    int64_t end = run_end(e, run, points);
    Affine j = aff_var(kb_for(b, "j", run, end, 1, FOR_SEQ));
    Affine from = settled(e, "place", aff_add(tile_at(e, at, j, run, e->m_step, e->columns), c));
    Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
    KVar *d[WINO_POINTS];
    KExpr *out[WINO_POINTS];
    for (uint32_t i = 0; i < t.cols; i++)
      d[i] = kb_let(b, "d", kx_load1(b, e->m, aff_add(aff_plus(from, i * e->points_x * e->m_step), l)));
    apply_columns(e, &t, d, out);
    for (uint32_t i = 0; i < t.rows; i++) kb_store1(b, e->t, room_at(e, at, aff(i), j, l), out[i]);
    kb_end(b);
    kb_end(b);
  }
}

// Bias, post function and store of the result at (oy + y, ox + x), channel c + l.
static void result_store(WinoEmit *e, const At *at, Affine y, Affine x, Affine channel, KExpr *value) {
  KBuild *b = &e->b;
  const ConvGeom *g = &e->g;
  Affine place[4] = {at->image, aff_add(at->oy, y), aff_add(at->ox, x), channel};
  if (e->bias != NULL) value = kx_op2(b, KOP_ADD, value, lower_load(b, e->bias, &channel));
  value = lower_post(b, &e->pp, value, place);
  Affine to = aff_add(aff_mul(aff_add(aff_mul(place[0], g->out[1]), place[1]), g->out[2]), place[2]);
  to = aff_add(aff_mul(to, g->o), channel);
  lower_store(b, e->out, &to, value);
}

static void result_tile(WinoEmit *e, const At *at, Affine c, int64_t lanes) {
  KBuild *b = &e->b;
  WinoMatrix t = wino_output(at->x->m);
  bool long_post = price_post(e->op) > 10;
  results_first_pass(e, at, c, lanes);
  Affine y = at->y->m > 1 ? aff_var(kb_for(b, "y", 0, at->y->m, 1, FOR_SEQ)) : aff(0);
  Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  KVar *d[WINO_POINTS];
  KExpr *out[WINO_POINTS];
  for (uint32_t j = 0; j < t.cols; j++) d[j] = kb_let(b, "d", kx_load1(b, e->t, room_at(e, at, y, aff(j), l)));
  apply_columns(e, &t, d, out);
  for (uint32_t x = 0; x < t.rows; x++) {
    if (long_post) {
      kb_store1(b, e->t, room_at(e, at, y, aff(x), l), out[x]);
    } else {
      result_store(e, at, y, aff(x), aff_add(c, l), out[x]);
    }
  }
  kb_end(b);
  if (long_post) {  // its code once, not per column
    Affine x = aff_var(kb_for(b, "x", 0, t.rows, 1, FOR_SEQ));
    Affine k = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
    result_store(e, at, y, x, aff_add(c, k), kx_load1(b, e->t, room_at(e, at, y, x, k)));
    kb_end(b);
    kb_end(b);
  }
  if (at->y->m > 1) kb_end(b);
}

static void results_row(WinoEmit *e, const At *row) {
  for (uint32_t k = 0; k < e->n_x; k++) emit_tiles(e, row, &e->x[k], 0, e->x[k].count, e->g.o, result_tile);
}

void wino_emit_results(WinoEmit *e, Affine row, Affine m, Affine t) { emit_row(e, row, m, t, results_row); }
