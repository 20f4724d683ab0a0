// The strategy tile8: shapes of tiles and weights. See tile8.h; the code of a block is in tile8_block.c.
//
// Weights of a step of the reduction by a tile of columns are rows of four bytes of the reduction per column, as dot4
// takes them: [copy][panel][outer reductions][step][tile of columns][chunk / 4][lane][4].
#include "passes/lower/tile8.h"

#include "ir/elem.h"
#include "passes/lower/dot8.h"
#include "passes/lower/nest_emit.h"
#include "passes/lower/stage.h"

enum { TILE_ROWS = 16, TILE_BYTES = 64 };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The most that fits `limit` when `extent` is cut into equal parts, in whole units.
static int64_t equal_part(int64_t extent, int64_t limit, int64_t unit) {
  int64_t parts = ceil_div(extent, limit);
  return ceil_div(ceil_div(extent, parts), unit) * unit;
}

void tile8_reduction(Nest *n) {
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
  n->matrix.rows = equal_part(t->mr, TILE_ROWS, 1);
  if (t->nv > 2) t->nv = 2;
  t->mb = ceil_div(t->mb, t->mr) * t->mr;
  n->matrix.chunk = equal_part(n->red[last], TILE_BYTES, 4);
}

// Steps of the reduction of one panel.
static int64_t steps_of(const Nest *n) {
  int64_t steps = 1;
  for (uint32_t i = 0; i < n->n_red; i++) steps *= nest_red_steps(n, i);
  return steps;
}

int64_t tile8_copy_elems(const Nest *n) {
  return ceil_div(n->n, n->tile.lanes) * n->tile.lanes * steps_of(n) * n->matrix.chunk;
}

typedef struct Packer {
  const Nest *n;
  const void *from;
  int64_t row, column;  // element strides
  int8_t *to;
} Packer;

// One tile: chunk `step` of the innermost reduction, which begins at row `first`, columns from `c` on. Rows that the
// step before has taken are zero in the last one.
static void pack_tile(Packer *p, int64_t from, int64_t first, int64_t step, int64_t c) {
  const Nest *n = p->n;
  int64_t k = n->red[n->n_red - 1], chunk = n->matrix.chunk, taken = step * chunk;
  int64_t begin = taken + chunk > k && k >= chunk ? k - chunk : taken;
  for (int64_t r = 0; r < chunk; r++)
    for (int64_t l = 0; l < n->tile.lanes; l++) {
      int64_t at = begin + r, column = c + l;
      bool here = at >= taken && at < k && column < n->n;
      int64_t v = here ? elem_get_i(p->from, DT_I8, from + (first + at) * p->row + column * p->column) : 0;
      p->to[(r / 4 * n->tile.lanes + l) * 4 + r % 4] = (int8_t)v;
    }
  p->to += chunk * n->tile.lanes;
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
  int8_t *bytes = arena_alloc(m->arena, (size_t)count);
  Packer p = {n, const_data(m, w), row, column, bytes};
  for (int64_t i = 0; i < copies; i++) pack_copy(&p, i * copy);
  return lower_const(ctx, const_borrowed(m, type_tensor(m->types, DT_I8, 1, &count), bytes, w->name));
}

// The bias of dot8, which reads signed x with 128 added.
Value *tile8_bias(LowerCtx *ctx, const Op *op, int64_t x_zero, int64_t rows, int64_t columns, int64_t row,
                  int64_t column) {
  int64_t shift = op_in(op, 0)->type->dtype == DT_I8 ? 128 : 0;
  return dot8_bias(ctx, op, x_zero - shift, rows, columns, row, column);
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
