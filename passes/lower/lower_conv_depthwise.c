// Depthwise convolution: lanes along channels, a tile of output pixels in registers, every x vector loaded once per
// tile and used for all taps that want it.
//
// The body of a tile is straight-line code made here (which taps an x vector serves depends on stride and dilation).
#include "passes/lower/lower_conv.h"

typedef struct Dw {
  LowerCtx *ctx;
  KBuild b;
  const Op *op;
  const ConvGeom *g;
  KBuf *x, *w, *y, *bias;
  PostParams pp;
  DType type;
  int64_t x0, x_row, x_image;  // elements
  int64_t lanes;
  bool weights_in_regs;
} Dw;

typedef struct DwTile {
  int64_t mi, yi, lanes;
  KBuf *acc, *taps;
} DwTile;

static Affine plus(Affine a, Affine b) { return aff_add(a, b); }

// All taps that the x vector at window place (iy, ix) of the tile serves; false when none.
static bool emit_taps(Dw *d, const DwTile *t, int64_t iy, int64_t ix, KExpr *load, Affine c, Affine l) {
  const ConvGeom *g = d->g;
  KBuild *b = &d->b;
  KVar *xv = NULL;
  for (int64_t ky = 0; ky < g->kernel[1]; ky++) {
    int64_t y = iy - ky * g->dilation[1];
    if (y < 0 || y % g->stride[1] != 0 || y / g->stride[1] >= t->yi) continue;
    for (int64_t kx = 0; kx < g->kernel[2]; kx++) {
      int64_t x = ix - kx * g->dilation[2];
      if (x < 0 || x % g->stride[2] != 0 || x / g->stride[2] >= t->mi) continue;
      if (xv == NULL) xv = kb_let(b, "xv", load);
      int64_t tap = ky * g->kernel[2] + kx;
      Affine acc[2] = {aff(y / g->stride[1] * t->mi + x / g->stride[2]), l};
      Affine reg[2] = {aff(tap), l}, mem = aff_plus(plus(c, l), tap * g->c);
      KExpr *w = t->taps != NULL ? kx_load(b, t->taps, reg) : kx_load(b, d->w, &mem);
      kb_store(b, t->acc, acc, kx_op3(b, KOP_FMA, kx_var(b, xv), w, kx_load(b, t->acc, acc)));
    }
  }
  return xv != NULL;
}

static void emit_dw_out(Dw *d, const DwTile *t, const Affine *out, int64_t iy, int64_t ix, Affine l) {
  KBuild *b = &d->b;
  Affine acc[2] = {aff(iy * t->mi + ix), l},
         at[4] = {out[0], aff_plus(out[1], iy), aff_plus(out[2], ix), plus(out[3], l)};
  uint32_t rank = op_out(d->op, 0)->type->rank;
  Affine idx[MAX_RANK] = {at[0]};
  idx[rank - 1] = at[3];
  idx[rank - 2] = at[2];
  if (rank > 3) idx[rank - 3] = at[1];
  if (rank > 4) idx[1] = aff(0);
  KExpr *value = kx_load(b, t->acc, acc);
  if (d->bias != NULL) value = kx_op2(b, KOP_ADD, value, lower_load(b, d->bias, &at[3]));
  lower_store(b, d->y, idx, lower_post(b, &d->pp, value, idx));
}

// One tile: `x_at` is the element of x under its first tap, `out` the place of its first result (n, y, x, channel).
static void emit_dw_tile(Dw *d, DwTile t, Affine x_at, const Affine *out) {
  const ConvGeom *g = d->g;
  KBuild *b = &d->b;
  t.acc = kb_alloc(b, "acc", d->type, 2, (int64_t[]){t.mi * t.yi, t.lanes}, SPACE_REG);
  Affine l = aff_var(kb_for(b, "l", 0, t.lanes, 1, FOR_VEC));
  for (int64_t i = 0; i < t.mi * t.yi; i++) {
    Affine acc[2] = {aff(i), l};
    kb_store(b, t.acc, acc, kx_f(b, d->type, 0.0));
  }
  int64_t rows = (t.yi - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1] + 1;
  int64_t columns = (t.mi - 1) * g->stride[2] + (g->kernel[2] - 1) * g->dilation[2] + 1;
  for (int64_t iy = 0; iy < rows; iy++) {
    for (int64_t ix = 0; ix < columns; ix++) {
      Affine at = aff_plus(plus(x_at, l), iy * d->x_row + ix * g->c);
      emit_taps(d, &t, iy, ix, lower_load(b, d->x, &at), out[3], l);
    }
  }
  for (int64_t iy = 0; iy < t.yi; iy++)
    for (int64_t ix = 0; ix < t.mi; ix++) emit_dw_out(d, &t, out, iy, ix, l);
  kb_end(b);
}

static void emit_dw_columns(Dw *d, DwTile t, int64_t mr, Affine x_at, const Affine *out) {
  KBuild *b = &d->b;
  const ConvGeom *g = d->g;
  int64_t whole = g->out[2] / mr * mr;
  Affine place[4] = {out[0], out[1], aff(0), out[3]};
  if (whole > 0) {
    bool loop = whole > mr;
    if (loop) place[2] = aff_var(kb_for(b, "m", 0, whole, mr, FOR_SEQ));
    t.mi = mr;
    emit_dw_tile(d, t, plus(x_at, aff_mul(place[2], g->stride[2] * g->c)), place);
    if (loop) kb_end(b);
  }
  if (whole < g->out[2]) {
    t.mi = g->out[2] - whole;
    place[2] = aff(whole);
    emit_dw_tile(d, t, aff_plus(x_at, whole * g->stride[2] * g->c), place);
  }
}

// Channels [c, c + t.lanes): weights into registers, then every column.
static void emit_dw_channels(Dw *d, DwTile t, int64_t mr, Affine x_at, Affine *out, Affine c) {
  KBuild *b = &d->b;
  int64_t taps = d->g->kernel[1] * d->g->kernel[2];
  out[3] = c;
  if (d->weights_in_regs) {
    t.taps = kb_alloc(b, "taps", d->type, 2, (int64_t[]){taps, t.lanes}, SPACE_REG);
    KVar *k = kb_for(b, "t", 0, taps, 1, FOR_UNROLL);
    Affine l = aff_var(kb_for(b, "l", 0, t.lanes, 1, FOR_VEC));
    Affine reg[2] = {aff_var(k), l}, mem = plus(plus(c, l), aff_term(k, d->g->c));
    kb_store(b, t.taps, reg, kx_load(b, d->w, &mem));
    kb_end(b);
    kb_end(b);
  }
  emit_dw_columns(d, t, mr, plus(x_at, c), out);
}

static void emit_dw_rows(Dw *d, DwTile t, int64_t mr, Affine x_at, Affine *out) {
  KBuild *b = &d->b;
  int64_t whole = d->g->c / d->lanes * d->lanes;
  if (whole > 0) {
    KVar *c = kb_for(b, "c", 0, whole, d->lanes, FOR_SEQ);
    t.lanes = d->lanes;
    emit_dw_channels(d, t, mr, x_at, out, aff_var(c));
    kb_end(b);
  }
  if (whole < d->g->c) {
    t.lanes = d->g->c - whole;
    emit_dw_channels(d, t, mr, x_at, out, aff(whole));
  }
}

static void emit_dw(Dw *d, int64_t mr, int64_t my) {
  KBuild *b = &d->b;
  const ConvGeom *g = d->g;
  int64_t tiles = (g->out[1] + my - 1) / my, rest = g->out[1] % my;
  KVar *p = kb_for(b, "p", 0, g->n * tiles, 1, FOR_PAR);
  Affine n = aff(0), row = aff_var(p);
  if (g->n > 1) {
    n = aff_var(kb_let(b, "n", kx_op2(b, KOP_DIV, kx_index(b, aff_var(p)), kx_i(b, DT_I64, tiles))));
    row = aff_var(kb_let(b, "r", kx_op2(b, KOP_MOD, kx_index(b, aff_var(p)), kx_i(b, DT_I64, tiles))));
  }
  Affine out[4] = {n, aff_mul(row, my)};
  Affine x_at = plus(aff_mul(n, d->x_image), aff_mul(row, my * g->stride[1] * d->x_row));
  KVar *xo = kb_let(b, "xo", kx_index(b, aff_plus(x_at, d->x0)));
  bool both = rest > 0 && tiles > 1;
  if (both) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, row), kx_i(b, DT_I64, tiles - 1)));
  if (tiles > 1 || rest == 0) emit_dw_rows(d, (DwTile){.yi = my}, mr, aff_var(xo), out);
  if (both) kb_else(b);
  if (rest > 0) emit_dw_rows(d, (DwTile){.yi = rest}, mr, aff_var(xo), out);
  if (both) kb_end(b);
  kb_end(b);
}

static KBuf *dw_param(Dw *d, const char *name, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return kb_param(&d->b, name, buf->type->dtype, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
}

bool lower_conv_depthwise(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan) {
  Dw d = {.ctx = ctx, .op = op, .g = g, .type = lower_arithmetic_type(op)};
  int64_t taps = g->kernel[1] * g->kernel[2], extent[CONV_AXES];
  Window win = conv_window(g);
  PBuf *x = conv_stage(ctx, op, &win, extent, &d.x0);
  if (x == NULL) return false;
  PackSpec s = {.n_red = 1, .red = {taps}, .red_stride = {g->c}, .n = g->c, .n_stride = 1, .nv = g->c, .lanes = 1};
  s.type = d.type;
  PBuf *w = stage_weights(ctx, op, op_in(op, 1), &s), *y = lower_buf(ctx, op_out(op, 0));
  if (w == NULL) return false;
  d.x_row = extent[2] * g->c;
  d.x_image = extent[0] * extent[1] * d.x_row;
  d.lanes = target_lanes(ctx->target, dtype_info(d.type)->bits);
  int64_t mr = plan_param(plan, "mr", 4), my = plan_param(plan, "my", 1);
  mr = mr < 1 ? 1 : mr > g->out[2] ? g->out[2] : mr > 16 ? 16 : mr;
  my = my < 1 ? 1 : my > g->out[1] ? g->out[1] : my > 4 ? 4 : my;
  d.weights_in_regs = mr * my + taps + 2 <= (int64_t)ctx->target->n_vregs;
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
  emit_dw(&d, mr, my);
  Step *step = lower_step(ctx, &d.b, op, &d.pp, bufs[3] != NULL ? 4 : 3, bufs);
  step->strategy = plan->strategy;
  step->macs = (double)type_count(y->type) * (double)taps;
  return true;
}
