// The strategy tile8: shapes of tiles and weights. See tile8.h; the code of a block is in tile8_block.c.
//
// Weights of a step of the reduction by a tile of columns are rows of four bytes of the reduction per column, as dot4
// takes them: [copy][panel][outer reductions][step][tile of columns][chunk / 4][lane][4]. Codes of few bits are in the
// same order, but each tile in as few bytes as its bits need (TileRows), fields of one width after the other.
#include "passes/lower/tile8.h"

#include "ir/base/intmath.h"
#include "ir/elem.h"
#include "passes/lower/dot8.h"
#include "passes/lower/nest_emit.h"
#include "passes/lower/stage.h"
#include "passes/price.h"

enum { TILE_ROWS = 16 };

// Codes where the plan asks for them, all weights are on the grid, and so is zero where it is needed.
static void set_codes(LowerCtx *ctx, const Op *op, const Plan *plan, Nest *n) {
  NestMatrix *x = &n->matrix;
  int64_t k = n->red[n->n_red - 1], bits = plan_param(plan, "bits", 8);
  LowBit w;
  x->chunk = tile8_chunk(k, false);
  x->parts = lowbit_parts_of(8);
  x->lo = 0;
  x->step = 1;
  if (bits < 1 || bits > 6) return;
  lowbit_levels(ctx->m, op_in(op, 1)->constant, &w);
  int64_t exact = k % x->chunk == 0 ? x->chunk : tile8_chunk(k, true);
  if (w.bits > 6 || (exact == 0 && !lowbit_has_zero(&w))) return;
  if (!lowbit_has_zero(&w)) x->chunk = exact;
  x->parts = lowbit_parts_of(w.bits);
  x->lo = w.lo;
  x->step = w.step;
}

void tile8_flatten(Nest *n) {
  if (n->n_rows == 0) return;
  const NestLoop *row = &n->row[n->n_rows - 1], *m = &n->m;
  if (row->w != 0 || row->axis + 1 != m->axis || row->scale != 1 || m->scale != 1) return;
  if (m->x == 0 || row->x % m->x != 0 || row->x / m->x < m->extent) return;
  n->matrix.pitch = row->x / m->x;
  n->matrix.width = m->extent;
  n->m.extent += (row->extent - 1) * n->matrix.pitch;
  n->n_rows--;
}

TileRows tile8_rows(int64_t rows, int64_t bytes, uint32_t width) {
  TileRows r = {.per = 8 / (int64_t)width};
  r.groups = rows / r.per;
  r.left = rows % r.per;
  if (r.left == 0) return r;
  r.pieces = r.per / r.left;
  r.piece = ceil_div(bytes, r.pieces);
  return r;
}

static int64_t stored_bytes(const Nest *n) {
  int64_t rows = n->matrix.chunk / 4, bytes = 4 * n->tile.lanes, sum = 0;
  for (uint32_t i = 0; i < n->matrix.parts.n; i++) {
    TileRows r = tile8_rows(rows, bytes, n->matrix.parts.width[i]);
    sum += r.groups * bytes + r.piece;
  }
  return sum;
}

void tile8_reduction(LowerCtx *ctx, const Op *op, const Plan *plan, Nest *n) {
  nest_merge(n);
  uint32_t last = n->n_red - 1;
  if (n->x_red[last] != 1 && n->red[last] == 1) n->x_red[last] = 1;
  if (n->x_red[last] != 1) {
    n->red[n->n_red] = 1;
    n->x_red[n->n_red++] = 1;
    last++;
  }
  NestTile *t = &n->tile;
  if (t->lanes > 16) t->lanes = 16;
  if (t->mr > 2 * TILE_ROWS) t->mr = 2 * TILE_ROWS;
  t->my = t->mr > TILE_ROWS || t->my < 2 ? 1 : 2;
  t->ku = t->ks = 1;
  n->matrix.rows = ceil_div(t->mr, ceil_div(t->mr, TILE_ROWS));
  if (t->nv > 2) t->nv = 2;
  t->mb = ceil_div(t->mb, t->mr) * t->mr;
  set_codes(ctx, op, plan, n);
  n->matrix.stored = stored_bytes(n);
}

// Steps of the reduction of one panel.
static int64_t steps_of(const Nest *n) {
  int64_t steps = 1;
  for (uint32_t i = 0; i < n->n_red; i++) steps *= nest_red_steps(n, i);
  return steps;
}

int64_t tile8_copy_elems(const Nest *n) { return ceil_div(n->n, n->tile.lanes) * steps_of(n) * n->matrix.stored; }

typedef struct Packer {
  const Nest *n;
  const void *from;
  int64_t row, column;  // element strides
  uint8_t *to;
} Packer;

// Fields of `width` bits of the codes, from bit `shift` on, of a tile of bytes.
static void pack_fields(Packer *p, const uint8_t *tile, uint32_t shift, uint32_t width) {
  int64_t bytes = 4 * p->n->tile.lanes;
  TileRows r = tile8_rows(p->n->matrix.chunk / 4, bytes, width);
  for (int64_t row = 0; row < r.groups * r.per + r.left; row++)
    for (int64_t i = 0; i < bytes; i++) {
      bool left = row >= r.groups * r.per;
      int64_t field = left ? i / r.piece * r.left + row - r.groups * r.per : row % r.per;
      int64_t at = left ? r.groups * bytes + i % r.piece : row / r.per * bytes + i;
      uint32_t code = (uint32_t)tile[row * bytes + i] >> shift & ((1U << width) - 1);
      p->to[at] = (uint8_t)(p->to[at] | code << ((uint32_t)field * width));
    }
  p->to += r.groups * bytes + r.piece;
}

// One tile: step `step` of the innermost reduction, which begins at row `first`, columns from `c` on. Rows that the
// step before has taken are zero in the last one; columns past the last are anything.
static void pack_tile(Packer *p, int64_t from, int64_t first, int64_t step, int64_t c) {
  const Nest *n = p->n;
  const NestMatrix *x = &n->matrix;
  int64_t k = n->red[n->n_red - 1], chunk = x->chunk, taken = step * chunk;
  int64_t begin = taken + chunk > k && k >= chunk ? k - chunk : taken;
  uint8_t tile[1024] = {0};
  for (int64_t r = 0; r < chunk; r++)
    for (int64_t l = 0; l < n->tile.lanes; l++) {
      int64_t at = begin + r, column = c + l, v = 0;
      if (at >= taken && at < k && column < n->n)
        v = elem_get_i(p->from, DT_I8, from + (first + at) * p->row + column * p->column);
      tile[(r / 4 * n->tile.lanes + l) * 4 + r % 4] = (uint8_t)((v - x->lo) / x->step);
    }
  uint32_t shift = 0;
  for (uint32_t i = 0; i < x->parts.n; shift += x->parts.width[i++]) pack_fields(p, tile, shift, x->parts.width[i]);
}

static void pack_copy(Packer *p, int64_t from) {
  const Nest *n = p->n;
  int64_t panel = n->tile.nv * n->tile.lanes, inner = nest_red_steps(n, n->n_red - 1), steps = steps_of(n);
  for (int64_t column = 0; column < n->n; column += panel)
    for (int64_t step = 0; step < steps; step++)
      for (int64_t c = column; c < column + panel && c < n->n; c += n->tile.lanes)
        pack_tile(p, from, step / inner * n->red[n->n_red - 1], step % inner, c);
}

PBuf *tile8_weights(LowerCtx *ctx, const Op *op, const Nest *n, int64_t copies, int64_t copy, int64_t row,
                    int64_t column) {
  Module *m = ctx->m;
  Const *w = op_in(op, 1)->constant;
  int64_t count;
  if (!dims_count(2, (int64_t[]){copies, tile8_copy_elems(n)}, &count)) {
    diag_error(m->diag, DIAG_LIMIT, op->loc, "packed weights of %lld x %lld bytes are past the size limit",
               (long long)copies, (long long)tile8_copy_elems(n));
    return NULL;
  }
  uint8_t *bytes = arena_alloc(m->arena, (size_t)count);
  Packer p = {n, const_data(m, w), row, column, bytes};
  for (int64_t i = 0; i < copies; i++) pack_copy(&p, i * copy);
  DType type = n->matrix.parts.width[0] == 8 ? DT_I8 : DT_U8;
  return lower_const(ctx, const_borrowed(m, type_tensor(m->types, type, 1, &count), bytes, w->name));
}

// The bias of dot8, which reads signed x with 128 added.
Value *tile8_bias(LowerCtx *ctx, const Op *op, int64_t x_zero, int64_t rows, int64_t columns, int64_t row,
                  int64_t column) {
  int64_t shift = op_in(op, 0)->type->dtype == DT_I8 ? 128 : 0;
  Nest sums = {.op = op, .x_zero = x_zero - shift};
  return dot8_bias(ctx, &sums, rows, columns, row, column);
}

PBuf *tile8_room(LowerCtx *ctx, const Op *op, const Nest *n) {
  int64_t end = n->x0 + (n->m.extent - 1) * n->m.x + n->matrix.chunk, count = type_count(n->x->type);
  for (uint32_t i = 0; i < n->n_rows; i++) end += (n->row[i].extent - 1) * n->row[i].x;
  for (uint32_t i = 0; i + 1 < n->n_red; i++) end += (n->red[i] - 1) * n->x_red[i];
  if (n->red[n->n_red - 1] > n->matrix.chunk) end += n->red[n->n_red - 1] - n->matrix.chunk;
  if (end <= count) return n->x;
  Window w = {.n = 1, .c = count, .in = {1, 1, 1}, .extent = {1, 1, 1}, .room = end - count};
  return stage_window(ctx, op, n->x, &w, n->x->type->dtype);
}
