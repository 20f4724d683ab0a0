// Inside of the contraction nest: what the loops around tiles (nest.c) and the two kinds of register tile (nest_tile.c,
// nest_k_lanes.c) share. Not for other lowerings.
#ifndef QCC_PASSES_LOWER_NEST_EMIT_H
#define QCC_PASSES_LOWER_NEST_EMIT_H

#include "passes/lower/bits_kernels.h"
#include "passes/lower/nest.h"

typedef struct Emit {
  LowerCtx *ctx;
  KBuild b;
  const Nest *n;
  KBuf *x, *w, *y, *table;
  BitsUnits units;   // of y, where it is words
  uint32_t n_extra;  // operands broadcast to the result: the bias (if any) first, then post operands
  KBuf *extra[17];
  int64_t stride[17][MAX_RANK];
  KBuf *class_at[MAX_RANK];  // tables of border classes, or NULL
  KBuf *flip;                // of steps, or NULL
  PostParams pp;
  int64_t k;        // length of the whole reduction
  int64_t rows;     // of the packed weights of a panel
  int64_t vectors;  // vectors of one group
  uint32_t depth;   // loops opened by nest_open and not closed
  bool words;       // dot: x is read in units of four bytes
  int64_t tiles_m;  // matrix tiles of rows in a block, and the tiles: sums, x, weights; a place for the sums of a row
  KBuf *tile_c[2][2], *tile_a[2], *tile_b[2], *sums;
  KBuf *wide;  // bytes of weights stored in few bits, in the place of sums; or NULL
} Emit;

// A place in the iteration space: element offsets in x and w, and result indices.
typedef struct Pos {
  Affine x, w, axis[MAX_RANK];
  Affine row;  // element of the bias where the row of the border class begins
} Pos;

typedef struct Tile {
  int64_t mi, yi, nvec, tail;  // columns, rows, vectors, lanes of the last vector that are stored
  KBuf *acc, *row;
  KBuf *sums;  // acc as one row, where several vectors are stored together, or NULL
} Tile;

// Elements from one row of the packed weights of a panel to the next.
int64_t nest_weights_row(const Emit *e, const Tile *t);
// A loop, or nothing and index 0 when it has one iteration.
Affine nest_open(Emit *e, const char *name, int64_t extent, KForKind kind);
void nest_close(Emit *e, uint32_t depth);  // closes loops down to `depth`
Pos pos_move(const Pos *p, const NestLoop *l, Affine by);
// Steps of a reduction loop: the innermost one goes by four with dot, by chunks with matrix tiles.
int64_t nest_red_steps(const Nest *n, uint32_t i);
// `by` steps of reduction loop `red`; the offset in w is counted in rows of the reduction.
Pos pos_step(const Emit *e, const Pos *p, uint32_t red, Affine by);
// Every reduction loop but the innermost; the caller closes them.
Pos nest_outer_reductions(Emit *e, const Pos *p);
// The pixels of a tile one result is made of: one, or the four of a square of which the largest counts.
typedef struct Pixels {
  uint32_t n;
  Affine i[4];  // numbers in the tile
  Pos at[4];    // with the rows of their border classes
  Pos y;        // place of the result
} Pixels;
// Opens the loops over the results of a tile.
Pixels nest_open_pixels(Emit *e, const Tile *t, const Pos *p, KForKind kind);
// Moves all pixels along the columns.
void nest_move_columns(const Emit *e, Pixels *x, Affine by);

// Element of the result at a place.
Affine nest_result(const Emit *e, const Pos *p);
// The place with its offsets in variables, for short addresses inside the tile.
Pos nest_base(Emit *e, const Pos *p);
// What the register of a count holds, as the sum of the op (without its bias).
KExpr *nest_count(Emit *e, KExpr *held);
// The result for lane l of vector v of pixel i, p being its place: bias (which dot sums began with) and post function
// on the sum.
KExpr *nest_value(Emit *e, const Tile *t, const Pos *p, Affine i, Affine v, Affine l);
// Where a row of the bias, known by its border class, has its element for the columns at p.
Affine nest_bias_at(const Emit *e, const Pos *p);
// What a register holds for lane l of vector v of pixel i.
KExpr *nest_held(Emit *e, const Tile *t, Affine i, Affine v, Affine l);
// Makes the registers readable across vectors: t->sums.
void nest_flat_sums(Emit *e, Tile *t);
// Adds to p->row the border class along the axes that the pixels of a tile walk, or along the others.
void nest_add_classes(Emit *e, const Tile *t, Pos *p, bool walked);
// The stores of a tile whose result is held as bits (nest_words.c).
void nest_words(Emit *e, const Tile *t, const Pos *p);
// Bias, post function and stores of a tile whose sums are in t->acc[0, pixel, vector, lane].
void nest_results(Emit *e, const Tile *t, const Pos *p);
// The sums of dot products begin with the bias.
void nest_start_bias(Emit *e, const Tile *t, const Pos *p);

// One register tile at a place: its reduction and its stores.
void nest_emit_tile(Emit *e, Tile t, const Pos *p);
// The reduction of a tile whose weights are fields of bytes: sums of products of bytes shifted by bits.shift.
void nest_bits_reduction(Emit *e, const Tile *t, const Pos *p);
// With dot: the bytes from .. to - 1 of the four at a place of x count, the others are zero and not read.
typedef struct Four {
  int64_t from, to;
} Four;
// acc[part, i, v] += x[i] * row[v] for the vectors in t->row.
void nest_emit_products(Emit *e, const Tile *t, const Pos *p, Affine part, Four four);
void nest_emit_planes(Emit *e, Tile t, const Pos *p);
void nest_emit_k_lanes(Emit *e, Tile t, const Pos *p);
void nest_emit_parts(Emit *e, Tile t, const Pos *p);
void nest_begin_matrix(Emit *e);  // at the top of the kernel
void nest_emit_matrix(Emit *e, Tile t, const Pos *p);

#endif
