// Depthwise convolution: lanes along channels, a tile of output pixels in registers, every x vector loaded once per
// tile and used for all taps that want it. Nothing is padded: taps outside of x are left out.
//
// Rows whose taps all exist are walked in tiles of `my`; every other row runs alone with the range of its kernel rows
// found at run time. Columns are cut into tiles of `mr`; which taps of a tile exist is known here, and neighbouring
// tiles that miss none are a loop. The body of a tile is straight-line code.
#include "ir/base/intmath.h"
#include "passes/lower/lower_conv.h"

typedef struct Dw {
  LowerCtx *ctx;
  KBuild b;
  const Op *op;
  const ConvGeom *g;
  KBuf *x, *w, *y, *bias;
  PostParams pp;
  DType type, raw;  // of the arithmetic; of the sum
  int64_t x_zero;
  int64_t x_row;  // elements
  int64_t lanes, mr, my;
  bool weights_in_regs, post_again;
  bool overlaps;  // no operand can live where the result does, so results may be written twice
} Dw;

typedef struct DwTile {
  int64_t mi, yi, lanes;
  bool one_row;  // kernel rows ky_lo .. ky_hi - 1 of one output row; else all of `yi` rows
  Affine ky_lo, ky_hi;
  int64_t left;  // column of x under the first tap of the tile, when known
  bool known;    // left is known: columns outside x are left out; else all exist
  Affine n, row, column, channel;
  KBuf *acc, *taps;
} DwTile;

static Affine plus(Affine a, Affine b) { return aff_add(a, b); }

// Element of x under kernel row `ky`, window column `ix` of the tile's first row.
static Affine x_index(const Dw *d, const DwTile *t, Affine iy, int64_t ix, Affine l) {
  const ConvGeom *g = d->g;
  Affine row = plus(aff_plus(aff_mul(t->row, g->stride[1]), -g->pad[1]), iy);
  Affine column = aff_plus(aff_mul(t->column, g->stride[2]), ix - g->pad[2]);
  Affine at = plus(aff_mul(t->n, g->in[0] * g->in[1] * d->x_row), aff_mul(row, d->x_row));
  return plus(plus(at, aff_mul(column, g->c)), plus(t->channel, l));
}

static bool column_exists(const Dw *d, const DwTile *t, int64_t ix) {
  return !t->known || (t->left + ix >= 0 && t->left + ix < d->g->in[2]);
}

static KExpr *tap_weight(Dw *d, const DwTile *t, Affine tap, Affine l) {
  KBuild *b = &d->b;
  if (t->taps != NULL && aff_is_const(&tap)) {
    Affine reg[2] = {tap, l};
    return kx_load(b, t->taps, reg);
  }
  Affine mem = plus(aff_mul(tap, d->g->c), plus(t->channel, l));
  return kx_load(b, d->w, &mem);
}

static KExpr *load_x(Dw *d, Affine at) {
  KBuild *b = &d->b;
  KExpr *x = lower_load(b, d->x, &at);
  if (dtype_is_float(d->raw)) return x;
  x = kx_cast(b, d->type, kx_cast(b, DT_I32, x));
  return d->x_zero ? kx_op2(b, KOP_SUB, x, lower_number(b, d->type, (double)d->x_zero)) : x;
}

// acc[out] += x * w[tap], naming x on its first use.
static void emit_tap(Dw *d, const DwTile *t, KVar **xv, Affine x_at, int64_t out, Affine tap, Affine l) {
  KBuild *b = &d->b;
  Affine acc[2] = {aff(out), l};
  if (*xv == NULL) *xv = kb_let(b, "xv", load_x(d, x_at));
  KExpr *w = tap_weight(d, t, tap, l);
  kb_store(b, t->acc, acc, lower_mul_add(d->ctx, b, kx_var(b, *xv), w, kx_load(b, t->acc, acc)));
}

// Every kernel column that the x vector at window column `ix` serves in output row `y` under kernel row `ky`.
static void emit_columns_of(Dw *d, const DwTile *t, KVar **xv, Affine x_at, int64_t ix, int64_t y, Affine ky,
                            Affine l) {
  const ConvGeom *g = d->g;
  for (int64_t kx = 0; kx < g->kernel[2]; kx++) {
    int64_t x = ix - kx * g->dilation[2];
    if (x < 0 || x % g->stride[2] != 0 || x / g->stride[2] >= t->mi) continue;
    emit_tap(d, t, xv, x_at, y * t->mi + x / g->stride[2], aff_plus(aff_mul(ky, g->kernel[2]), kx), l);
  }
}

int64_t depthwise_window(const ConvGeom *g, int64_t mi) {
  return (mi - 1) * g->stride[2] + (g->kernel[2] - 1) * g->dilation[2] + 1;
}

// All kernel rows of a tile of rows, every one of which exists.
static void emit_all_rows(Dw *d, const DwTile *t) {
  const ConvGeom *g = d->g;
  Affine l = aff_var(kb_for(&d->b, "l", 0, t->lanes, 1, FOR_VEC));
  int64_t rows = (t->yi - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1] + 1;
  for (int64_t iy = 0; iy < rows; iy++) {
    for (int64_t ix = 0; ix < depthwise_window(g, t->mi); ix++) {
      KVar *xv = NULL;
      if (!column_exists(d, t, ix)) continue;
      for (int64_t ky = 0; ky < g->kernel[1]; ky++) {
        int64_t y = iy - ky * g->dilation[1];
        if (y < 0 || y % g->stride[1] != 0 || y / g->stride[1] >= t->yi) continue;
        emit_columns_of(d, t, &xv, x_index(d, t, aff(iy), ix, l), ix, y / g->stride[1], aff(ky), l);
      }
    }
  }
  kb_end(&d->b);
}

static void emit_one_row(Dw *d, const DwTile *t) {
  const ConvGeom *g = d->g;
  Affine ky = aff_var(kb_for_aff(&d->b, "ky", t->ky_lo, t->ky_hi, 1, FOR_SEQ));
  Affine l = aff_var(kb_for(&d->b, "l", 0, t->lanes, 1, FOR_VEC));
  for (int64_t ix = 0; ix < depthwise_window(g, t->mi); ix++) {
    KVar *xv = NULL;
    if (!column_exists(d, t, ix)) continue;
    emit_columns_of(d, t, &xv, x_index(d, t, aff_mul(ky, g->dilation[1]), ix, l), ix, 0, ky, l);
  }
  kb_end(&d->b);
  kb_end(&d->b);
}

// Stores a result of the tile: bias and post function; `again` is the walk that applies a long post function to what
// the first walk stored.
static void emit_out(Dw *d, const DwTile *t, Affine iy, Affine ix, Affine l, bool again) {
  KBuild *b = &d->b;
  Affine channel = plus(t->channel, l);
  uint32_t rank = op_out(d->op, 0)->type->rank;
  Affine idx[MAX_RANK] = {t->n};
  idx[rank - 1] = channel;
  idx[rank - 2] = plus(t->column, ix);
  if (rank > 3) idx[rank - 3] = plus(t->row, iy);
  if (rank > 4) idx[1] = aff(0);
  if (again) {
    lower_store(b, d->y, idx, lower_post(b, &d->pp, lower_load(b, d->y, idx), idx));
    return;
  }
  Affine acc[2] = {plus(aff_mul(iy, t->mi), ix), l};
  KExpr *value = kx_cast(b, d->raw, kx_load(b, t->acc, acc));
  if (d->bias != NULL) value = kx_op2(b, KOP_ADD, value, lower_load(b, d->bias, &channel));
  lower_store(b, d->y, idx, d->post_again ? value : lower_post(b, &d->pp, value, idx));
}

static void emit_outs(Dw *d, const DwTile *t, bool again) {
  KBuild *b = &d->b;
  KForKind kind = again ? FOR_SEQ : FOR_UNROLL;
  KVar *iy = kb_for(b, "iy", 0, t->yi, 1, kind), *ix = kb_for(b, "i", 0, t->mi, 1, kind);
  KVar *l = kb_for(b, "l", 0, t->lanes, 1, FOR_VEC);
  emit_out(d, t, aff_var(iy), aff_var(ix), aff_var(l), again);
  for (int i = 0; i < 3; i++) kb_end(b);
}

static void emit_tile(Dw *d, DwTile t) {
  KBuild *b = &d->b;
  t.acc = kb_alloc(b, "acc", d->type, 2, (int64_t[]){t.mi * t.yi, t.lanes}, SPACE_REG);
  KVar *i = kb_for(b, "i", 0, t.mi * t.yi, 1, FOR_UNROLL);
  Affine zero[2] = {aff_var(i), aff_var(kb_for(b, "l", 0, t.lanes, 1, FOR_VEC))};
  kb_store(b, t.acc, zero, lower_number(b, d->type, 0.0));
  kb_end(b);
  kb_end(b);
  if (t.one_row) {
    emit_one_row(d, &t);
  } else {
    emit_all_rows(d, &t);
  }
  emit_outs(d, &t, false);
  if (d->post_again) emit_outs(d, &t, true);
}

// Channels [t.channel, + t.lanes) of a tile.
static void emit_channels(Dw *d, DwTile t) {
  KBuild *b = &d->b;
  int64_t taps = d->g->kernel[1] * d->g->kernel[2];
  if (d->weights_in_regs && !t.one_row) {
    t.taps = kb_alloc(b, "taps", d->type, 2, (int64_t[]){taps, t.lanes}, SPACE_REG);
    KVar *k = kb_for(b, "t", 0, taps, 1, FOR_UNROLL);
    Affine l = aff_var(kb_for(b, "l", 0, t.lanes, 1, FOR_VEC));
    Affine reg[2] = {aff_var(k), l}, mem = plus(plus(t.channel, l), aff_term(k, d->g->c));
    kb_store(b, t.taps, reg, kx_load(b, d->w, &mem));
    kb_end(b);
    kb_end(b);
  }
  emit_tile(d, t);
}

// Every channel in full vectors, the last of which overlaps the one before: those results are written twice.
static void emit_overlapping_channels(Dw *d, DwTile t) {
  KBuild *b = &d->b;
  KVar *c = kb_for(b, "c", 0, d->g->c, d->lanes, FOR_SEQ);
  KExpr *last = kx_i(b, DT_I64, d->g->c - d->lanes);
  t.channel = aff_var(kb_let(b, "ch", kx_op2(b, KOP_MIN, kx_index(b, aff_var(c)), last)));
  t.lanes = d->lanes;
  emit_channels(d, t);
  kb_end(b);
}

// Neighbouring channels are neighbours in memory, so they are the inner loop.
static void emit_all_channels(Dw *d, DwTile t) {
  int64_t whole = d->g->c / d->lanes * d->lanes;
  if (whole > 0 && whole < d->g->c && d->overlaps) {
    emit_overlapping_channels(d, t);
    return;
  }
  if (whole > 0) {
    bool loop = whole > d->lanes;
    t.channel = loop ? aff_var(kb_for(&d->b, "c", 0, whole, d->lanes, FOR_SEQ)) : aff(0);
    t.lanes = d->lanes;
    emit_channels(d, t);
    if (loop) kb_end(&d->b);
  }
  if (whole < d->g->c) {
    t.channel = aff(whole);
    t.lanes = d->g->c - whole;
    emit_channels(d, t);
  }
}

static bool tile_misses_columns(const ConvGeom *g, int64_t column, int64_t mi) {
  int64_t left = column * g->stride[2] - g->pad[2];
  return left < 0 || left + depthwise_window(g, mi) > g->in[2];
}

bool depthwise_tiles(const ConvGeom *g, int64_t most, int64_t column, int64_t *end, int64_t *mi) {
  int64_t out = g->out[2];
  *mi = out - column < most ? out - column : most;
  *end = column + *mi;
  bool misses = tile_misses_columns(g, column, *mi);
  while (!misses && *end + *mi <= out && !tile_misses_columns(g, *end, *mi)) *end += *mi;
  return misses;
}

static void emit_rows(Dw *d, DwTile t) {
  for (int64_t column = 0, end; column < d->g->out[2]; column = end) {
    t.known = depthwise_tiles(d->g, d->mr, column, &end, &t.mi);
    bool loop = end > column + t.mi;
    t.left = column * d->g->stride[2] - d->g->pad[2];
    t.column = loop ? aff_var(kb_for(&d->b, "m", column, end, t.mi, FOR_SEQ)) : aff(column);
    emit_all_channels(d, t);
    if (loop) kb_end(&d->b);
  }
}

static KExpr *clamped(KBuild *b, KOp op, KExpr *x, int64_t k) { return kx_op2(b, op, x, kx_i(b, DT_I64, k)); }

// ceil(value / dilation) cut to 0 .. kernel rows.
static Affine kernel_row(Dw *d, const char *name, Affine value) {
  KBuild *b = &d->b;
  int64_t step = d->g->dilation[1];
  KExpr *v = clamped(b, KOP_MAX, kx_index(b, value), 0);
  if (step > 1) v = clamped(b, KOP_DIV, clamped(b, KOP_ADD, v, step - 1), step);
  return aff_var(kb_let(b, name, clamped(b, KOP_MIN, v, d->g->kernel[1])));
}

// Row `t.row` alone.
static void emit_single(Dw *d, DwTile t) {
  const ConvGeom *g = d->g;
  Affine top = aff_plus(aff_mul(t.row, -g->stride[1]), g->pad[1]);  // kernel offset of the first row of x
  t.yi = 1;
  t.one_row = true;
  t.ky_lo = kernel_row(d, "ky_lo", top);
  t.ky_hi = kernel_row(d, "ky_hi", aff_plus(top, g->in[1]));
  emit_rows(d, t);
}

// The par loop: first the tiles of whole rows, then the rows that are left, top ones first.
static void emit_dw(Dw *d) {
  KBuild *b = &d->b;
  const ConvGeom *g = d->g;
  int64_t reach = (g->kernel[1] - 1) * g->dilation[1] + 1;
  int64_t first = ceil_div(g->pad[1], g->stride[1]), end = (g->in[1] + g->pad[1] - reach) / g->stride[1] + 1;
  if (g->in[1] + g->pad[1] < reach) end = first;
  first = first < 0 ? 0 : first > g->out[1] ? g->out[1] : first;
  end = end > g->out[1] ? g->out[1] : end < first ? first : end;
  int64_t tiles = (end - first) / d->my, after = first + tiles * d->my, units = tiles + g->out[1] - tiles * d->my;
  KVar *p = kb_for(b, "p", 0, g->n * units, 1, FOR_PAR);
  DwTile t = {.n = aff(0)};
  Affine unit = aff_var(p);
  if (g->n > 1) {
    t.n = aff_var(kb_let(b, "n", kx_op2(b, KOP_DIV, kx_index(b, unit), kx_i(b, DT_I64, units))));
    unit = aff_var(kb_let(b, "u", kx_op2(b, KOP_MOD, kx_index(b, unit), kx_i(b, DT_I64, units))));
  }
  bool both = tiles > 0 && units > tiles;
  if (both) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, unit), kx_i(b, DT_I64, tiles)));
  if (tiles > 0) {
    t.row = aff_plus(aff_mul(unit, d->my), first);
    t.yi = d->my;
    emit_rows(d, t);
  }
  if (both) kb_else(b);
  if (units > tiles) {
    Affine rest = aff_plus(unit, -tiles);
    t.row = rest;
    if (tiles > 0) {
      KExpr *is_top = kx_op2(b, KOP_LT, kx_index(b, rest), kx_i(b, DT_I64, first));
      KExpr *bottom = kx_index(b, aff_plus(rest, after - first));
      t.row = aff_var(kb_let(b, "row", kx_op3(b, KOP_SELECT, is_top, kx_index(b, rest), bottom)));
    }
    emit_single(d, t);
  }
  if (both) kb_end(b);
  kb_end(b);
}

static KBuf *dw_param(Dw *d, const char *name, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return kb_param(&d->b, name, buf->type->dtype, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
}

static int64_t between(int64_t v, int64_t lo, int64_t hi) { return v > hi ? hi : v < lo ? lo : v; }

// Integers are multiplied as floats where every partial sum is exact.
static DType arithmetic_of(const Op *op, int64_t taps, DType raw) {
  if (dtype_is_float(raw)) return raw;
  return dtype_info(op_in(op, 0)->type->dtype)->bits <= 8 && dtype_info(op_in(op, 1)->type->dtype)->bits <= 8 &&
                 taps < (1 << 24) / (256 * 256)
             ? DT_F32
             : raw;
}

static Dw describe(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan) {
  Dw d = {.ctx = ctx, .op = op, .g = g, .raw = lower_arithmetic_type(op), .x_zero = op_int(op, A_CONV_x_zero)};
  d.type = arithmetic_of(op, g->kernel[1] * g->kernel[2], d.raw);
  d.x_row = g->in[2] * g->c;
  d.lanes = target_lanes(ctx->target, dtype_info(d.type)->bits);
  d.mr = between(plan_param(plan, "mr", 4), 1, between(g->out[2], 1, 16));
  d.my = between(plan_param(plan, "my", 1), 1, between(g->out[1], 1, 4));
  d.overlaps = !lower_operand_may_alias(op);
  return d;
}

// Large windows make straight-line code that passes the limit of a function (split.c).
bool conv_depthwise_fits(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan) {
  Dw d = describe(ctx, op, g, plan);
  int64_t size = 0, end, mi, channels = g->c > d.lanes && g->c % d.lanes != 0 && !d.overlaps ? 2 : 1;
  for (int64_t column = 0; column < g->out[2]; column = end) {
    depthwise_tiles(d.g, d.mr, column, &end, &mi);
    size += channels * mi * g->kernel[2] * (d.my * g->kernel[1] + 1) * 15 / 4;
  }
  return size <= 4900;
}

bool lower_conv_depthwise(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan) {
  Dw d = describe(ctx, op, g, plan);
  int64_t taps = g->kernel[1] * g->kernel[2];
  PackSpec s = {.n_red = 1, .red = {taps}, .red_stride = {g->c}, .n = g->c, .n_stride = 1, .nv = g->c, .lanes = 1};
  s.type = d.type;
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *w = stage_weights(ctx, op, op_in(op, 1), &s);
  PBuf *y = lower_buf(ctx, op_out(op, 0));
  if (w == NULL) return false;
  d.weights_in_regs = d.mr * d.my + taps + 2 <= (int64_t)ctx->target->n_vregs;
  d.post_again = lower_post_again(op, d.raw);
  kbuild_init(&d.b, ctx->m, arena_printf(ctx->m->arena, "conv_%u", op->id), op->loc);
  d.x = dw_param(&d, "x", x);
  d.w = dw_param(&d, "w", w);
  d.y = lower_param(&d.b, y, SPACE_ARG);
  PBuf *bufs[4] = {x, w, y, NULL};
  if (op_in(op, 2) != NULL) {
    bufs[3] = lower_buf(ctx, op_in(op, 2));
    d.bias = dw_param(&d, "bias", bufs[3]);
  }
  d.pp = lower_post_params(ctx, &d.b, op);
  emit_dw(&d);
  Step *step = lower_step(ctx, &d.b, op, &d.pp, bufs[3] != NULL ? 4 : 3, bufs);
  step->strategy = plan->strategy;
  step->macs = (double)type_count(y->type) * (double)taps;
  return true;
}
