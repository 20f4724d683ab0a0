// Depthwise convolution in planes: channels first, lanes along the columns of a row.
//
// A layer that stands alone between channels-first neighbours would spend more time on the two transposes around it
// than on its products. Here a plane is read where it lies: a tile is `my` rows by one vector of columns, every vector
// of x is loaded once per tile and used for all rows that want it, and the taps of the plane's filter are scalars.
//
//   rows: tiles are a loop; a row of x that the first or the last of them lack is under a condition
//   columns: vectors whose windows are whole are a loop; at the borders vectors are shifted in registers and filled
//   with zeros, so nothing outside of x is read; the last vector overlaps the one before it or is a shorter one
//
// kernel-studies.md section 2 has the schedule with channels innermost; this is its counterpart for planes.
#include "passes/lower/planar.h"

#include "passes/lower/lower_conv.h"
#include "passes/lower/nest.h"
#include "passes/sparse.h"

enum { WINDOW = 16 };  // elements of a row that a shifted vector is taken out of

typedef struct Planar {
  LowerCtx *ctx;
  KBuild b;
  ConvGeom g;
  KBuf *x, *w, *y, *bias;
  PostParams pp;
  int64_t lanes, my;
  bool overlaps;
  Affine plane, n, c;
  KVar *tap[PLANAR_TAPS];  // of the plane, where they fit registers
} Planar;

typedef struct PlanarTile {
  int64_t rows, lanes;
  Affine row, column;          // of the result, first of the tile
  int64_t row_from, row_last;  // where the first and the last tile of the loop over rows begin
  int64_t column_at;
  bool column_known;  // column_at is it; else no window leaves its row
  KBuf *acc;
} PlanarTile;

bool planar_geom(const Op *op, int64_t lanes, ConvGeom *g) {
  Sparse s;
  if (op->kind != OP_CONV || !sparse_of(op, &s) || s.last || s.bytes || s.images < 1) return false;
  if (op_in(op, 0)->type->rank != 4 || op_in(op, 0)->type->dtype != DT_F32) return false;
  *g = sparse_conv(&s);
  for (int i = 0; i < CONV_AXES; i++) {
    if (g->stride[i] != 1 || g->dilation[i] != 1 || g->pad[i] < 0 || g->pad[i] >= g->kernel[i]) return false;
    if (g->out[i] < 1) return false;
  }
  // A vector may leave the row on one side only.
  bool wide = g->in[2] >= WINDOW && lanes <= WINDOW && g->out[2] >= lanes && g->kernel[2] <= 8 &&
              g->out[2] <= g->in[2] + g->pad[2];
  return wide && conv_is_depthwise(g) && g->kernel[1] * g->kernel[2] <= PLANAR_TAPS;
}

bool planar_pointwise(const Op *op, int64_t lanes, ConvGeom *g) {
  Sparse s;
  if (op->kind != OP_CONV || !sparse_of(op, &s) || s.last || s.bytes || s.images < 1 || s.group != 1) return false;
  if (op_in(op, 0)->type->rank != 4 || op_in(op, 0)->type->dtype != DT_F32) return false;
  *g = sparse_conv(&s);
  for (int i = 0; i < CONV_AXES; i++)
    if (g->stride[i] != 1 || g->kernel[i] != 1 || g->pad[i] != 0 || g->in[i] != g->out[i]) return false;
  const Value *bias = op_in(op, 2);
  bool simple = bias == NULL || (value_is_const(bias) && type_count(bias->type) == g->o);
  return simple && g->in[1] * g->in[2] % lanes == 0 && lanes > 1 && result_axes_merge(op, 2, 4);
}

static KExpr *tap_at(Planar *p, int64_t ky, int64_t kx) {
  int64_t tap = ky * p->g.kernel[2] + kx;
  if (p->tap[tap] != NULL) return kx_var(&p->b, p->tap[tap]);
  return kx_load1(&p->b, p->w, aff_plus(aff_mul(p->c, p->g.kernel[1] * p->g.kernel[2]), tap));
}

// Element of x in row `iy` of the tile's window, at the column of the result moved by `by`.
static Affine x_at(const Planar *p, const PlanarTile *t, int64_t iy, Affine column) {
  Affine row = aff_add(aff_mul(p->plane, p->g.in[1]), aff_plus(t->row, iy - p->g.pad[1]));
  return aff_add(aff_mul(row, p->g.in[2]), column);
}

// Columns of x that a vector under tap `kx` misses before and behind the row.
static int64_t missing(const Planar *p, const PlanarTile *t, int64_t kx, bool behind) {
  if (!t->column_known) return 0;
  int64_t from = t->column_at + kx - p->g.pad[2], out = behind ? from + t->lanes - p->g.in[2] : -from;
  return out > 0 ? out : 0;
}

// Lane l is element l + by of the first or the last WINDOW elements of the row, 0 where there is none.
static KExpr *load_shifted(Planar *p, Affine window, int64_t by, Affine l) {
  KBuild *b = &p->b;
  KExpr *at = kx_cast(b, DT_I32, kx_index(b, aff_plus(l, by)));
  KExpr *x = kx_op2(b, KOP_LOOKUP16, kx_load1(b, p->x, window), at);
  KExpr *lane = kx_index(b, aff_plus(l, by));
  KExpr *exists =
      by < 0 ? kx_op2(b, KOP_GE, lane, kx_i(b, DT_I64, 0)) : kx_op2(b, KOP_LT, lane, kx_i(b, DT_I64, WINDOW));
  return kx_op3(b, KOP_SELECT, exists, x, lower_number(b, DT_F32, 0.0));
}

// The vector under tap `kx`: out of memory, or shifted at a border.
static KExpr *load_columns(Planar *p, const PlanarTile *t, int64_t iy, int64_t kx, Affine l) {
  int64_t left = missing(p, t, kx, false), right = missing(p, t, kx, true), by = kx - p->g.pad[2];
  int64_t last = p->g.in[2] - WINDOW;
  if (left > 0) return load_shifted(p, x_at(p, t, iy, aff(0)), -left, l);
  if (right > 0) return load_shifted(p, x_at(p, t, iy, aff(last)), t->column_at + by - last, l);
  return kx_load1(&p->b, p->x, x_at(p, t, iy, aff_add(aff_plus(t->column, by), l)));
}

// Row `iy` of the window, for every row of the tile that reads it.
static void emit_products(Planar *p, const PlanarTile *t, int64_t iy) {
  KBuild *b = &p->b;
  Affine l = aff_var(kb_for(b, "l", 0, t->lanes, 1, FOR_VEC));
  for (int64_t kx = 0; kx < p->g.kernel[2]; kx++) {
    KVar *x = kb_let(b, "xv", load_columns(p, t, iy, kx, l));
    for (int64_t y = 0; y < t->rows; y++) {
      int64_t ky = iy - y;
      if (ky < 0 || ky >= p->g.kernel[1]) continue;
      Affine acc[2] = {aff(y), l};
      kb_store(b, t->acc, acc, lower_mul_add(p->ctx, b, kx_var(b, x), tap_at(p, ky, kx), kx_load(b, t->acc, acc)));
    }
  }
  kb_end(b);
}

// The same where that row of x exists: the first and the last tiles lack some.
static void emit_row(Planar *p, const PlanarTile *t, int64_t iy) {
  KBuild *b = &p->b;
  int64_t by = iy - p->g.pad[1];
  if (t->row_last + by < 0 || t->row_from + by >= p->g.in[1]) return;
  bool above = t->row_from + by < 0, below = t->row_last + by >= p->g.in[1];
  Affine row = aff_plus(t->row, by);
  if (above) kb_if(b, kx_op2(b, KOP_GE, kx_index(b, row), kx_i(b, DT_I64, 0)));
  if (below) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, row), kx_i(b, DT_I64, p->g.in[1])));
  emit_products(p, t, iy);
  if (below) kb_end(b);
  if (above) kb_end(b);
}

static void emit_results(Planar *p, const PlanarTile *t) {
  KBuild *b = &p->b;
  Affine y = aff_var(kb_for(b, "iy", 0, t->rows, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, t->lanes, 1, FOR_VEC));
  Affine idx[4] = {p->n, p->c, aff_add(t->row, y), aff_add(t->column, l)};
  KExpr *value = kx_load(b, t->acc, (Affine[]){y, l});
  if (p->bias != NULL) value = kx_op2(b, KOP_ADD, value, lower_load1(b, p->bias, p->c));
  lower_store(b, p->y, idx, lower_post(b, &p->pp, value, idx));
  kb_end(b);
  kb_end(b);
}

static void emit_tile(Planar *p, PlanarTile t) {
  KBuild *b = &p->b;
  t.acc = kb_alloc(b, "acc", DT_F32, 2, (int64_t[]){t.rows, t.lanes}, SPACE_REG);
  Affine i = aff_var(kb_for(b, "i", 0, t.rows, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, t.lanes, 1, FOR_VEC));
  kb_store(b, t.acc, (Affine[]){i, l}, lower_number(b, DT_F32, 0.0));
  kb_end(b);
  kb_end(b);
  for (int64_t iy = 0; iy < t.rows + p->g.kernel[1] - 1; iy++) emit_row(p, &t, iy);
  emit_results(p, &t);
}

// A vector of columns at a known place.
static void emit_known_columns(Planar *p, PlanarTile t, int64_t column, int64_t lanes) {
  t.column = aff(column);
  t.column_at = column;
  t.column_known = true;
  t.lanes = lanes;
  emit_tile(p, t);
}

// Vectors from `column` on whose windows lie within a row.
static int64_t whole_vectors(const Planar *p, int64_t column) {
  const ConvGeom *g = &p->g;
  int64_t end = column;
  if (column < g->pad[2]) return 0;
  while (end + p->lanes <= g->out[2] && end + p->lanes + g->kernel[2] - 1 - g->pad[2] <= g->in[2]) end += p->lanes;
  return (end - column) / p->lanes;
}

static void emit_columns(Planar *p, PlanarTile t) {
  KBuild *b = &p->b;
  for (int64_t column = 0; column < p->g.out[2];) {
    int64_t whole = whole_vectors(p, column), rest = p->g.out[2] - column;
    if (whole > 1) {
      t.column = aff_var(kb_for(b, "m", column, column + whole * p->lanes, p->lanes, FOR_SEQ));
      t.column_known = false;
      t.lanes = p->lanes;
      emit_tile(p, t);
      kb_end(b);
      column += whole * p->lanes;
    } else if (rest < p->lanes && p->overlaps) {
      emit_known_columns(p, t, p->g.out[2] - p->lanes, p->lanes);
      column = p->g.out[2];
    } else {
      emit_known_columns(p, t, column, rest < p->lanes ? rest : p->lanes);
      column += p->lanes;
    }
  }
}

static void emit_plane(Planar *p) {
  KBuild *b = &p->b;
  int64_t whole = p->g.out[1] - p->g.out[1] % p->my, rest = p->g.out[1] - whole;
  if (whole > 0) {
    Affine row = whole > p->my ? aff_var(kb_for(b, "r", 0, whole, p->my, FOR_SEQ)) : aff(0);
    emit_columns(p, (PlanarTile){.rows = p->my, .row = row, .row_last = whole - p->my});
    if (whole > p->my) kb_end(b);
  }
  if (rest > 0) emit_columns(p, (PlanarTile){.rows = rest, .row = aff(whole), .row_from = whole, .row_last = whole});
}

// The filter of a plane stays in registers beside the sums where it fits.
static void name_taps(Planar *p) {
  int64_t taps = p->g.kernel[1] * p->g.kernel[2];
  if (taps + p->my + 4 > (int64_t)p->ctx->target->n_vregs) return;
  for (int64_t i = 0; i < taps; i++)
    p->tap[i] = kb_let(&p->b, "tap", kx_load1(&p->b, p->w, aff_plus(aff_mul(p->c, taps), i)));
}

static void emit_planes(Planar *p) {
  KBuild *b = &p->b;
  const ConvGeom *g = &p->g;
  p->plane = p->c = aff_var(kb_for(b, "p", 0, g->n * g->c, 1, FOR_PAR));
  p->n = aff(0);
  if (g->n > 1) {
    p->n = aff_var(kb_let(b, "n", kx_op2(b, KOP_DIV, kx_index(b, p->plane), kx_i(b, DT_I64, g->c))));
    p->c = aff_var(kb_let(b, "c", kx_op2(b, KOP_MOD, kx_index(b, p->plane), kx_i(b, DT_I64, g->c))));
  }
  name_taps(p);
  emit_plane(p);
  kb_end(b);
}

// y[image, o, p] = sum over c of w[o, c] x[image, c, p]: rows are filters, lanes are pixels of planes as they lie.
static bool lower_pointwise(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan) {
  int64_t pixels = g->in[1] * g->in[2];
  Nest n = {.op = op, .type = DT_F32, .rank = 3, .dims = {g->n, g->o, pixels}, .axis_of = {0, 1, 2, 2}, .n = pixels};
  n.name = arena_printf(ctx->m->arena, "conv_%u", op->id);
  n.x = lower_buf(ctx, op_in(op, 1));
  n.w = lower_buf(ctx, op_in(op, 0));
  n.w_row = pixels;
  if (op_in(op, 2) != NULL) {
    const Type *column = type_tensor(ctx->m->types, op_in(op, 2)->type->dtype, 3, (int64_t[]){g->o, 1, 1});
    n.bias = const_borrowed(ctx->m, column, const_data(ctx->m, op_in(op, 2)->constant), NULL);
  }
  if (g->n > 1) n.row[n.n_rows++] = (NestLoop){.extent = g->n, .w = g->c * pixels, .axis = 0, .scale = 1};
  n.m = (NestLoop){.extent = g->o, .x = g->c, .axis = 1, .scale = 1};
  n.n_red = 1;
  n.red[0] = g->c;
  n.x_red[0] = 1;
  n.tile = nest_tile(ctx, plan, DT_F32, &n);
  nest_result_buf(ctx, &n);
  n.post_again = n.words == NULL && lower_post_again(op, n.type);
  nest_settle(&n);
  return nest_lower(ctx, &n, plan->strategy);
}

bool lower_planar(LowerCtx *ctx, const Op *op, const Plan *plan) {
  ConvGeom product;
  if (planar_pointwise(op, target_lanes(ctx->target, 32), &product)) return lower_pointwise(ctx, op, &product, plan);
  Planar p = {.ctx = ctx, .lanes = target_lanes(ctx->target, 32), .overlaps = !lower_operand_may_alias(op)};
  if (!planar_geom(op, p.lanes, &p.g)) {
    return diag_error(
        ctx->m->diag, DIAG_USAGE, op->loc,
        "plan 'planar' is for constant f32 filters with channels first and steps of 1: depthwise ones on rows "
        "of at least %lld elements, or of one tap on planes of a multiple of that; use another plan",
        (long long)p.lanes);
  }
  int64_t my = plan_param(plan, "my", 4);
  p.my = my < 1 ? 1 : my > 8 ? 8 : my;
  PBuf *bufs[4] = {lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_in(op, 1)), lower_buf(ctx, op_out(op, 0))};
  kbuild_init(&p.b, ctx->m, arena_printf(ctx->m->arena, "conv_%u", op->id), op->loc);
  p.x = lower_flat(&p.b, bufs[0]);
  p.w = lower_flat(&p.b, bufs[1]);
  p.y = lower_param(&p.b, bufs[2], SPACE_ARG);
  if (op_in(op, 2) != NULL) {
    bufs[3] = lower_buf(ctx, op_in(op, 2));
    p.bias = lower_flat(&p.b, bufs[3]);
  }
  p.pp = lower_post_params(ctx, &p.b, op);
  emit_planes(&p);
  Step *step = lower_step(ctx, &p.b, op, &p.pp, bufs[3] != NULL ? 4 : 3, bufs);
  step->strategy = plan->strategy;
  step->macs = (double)type_count(op_out(op, 0)->type) * (double)(p.g.kernel[1] * p.g.kernel[2]);
  return true;
}
