// Convolution: describes the op as a contraction nest (nest.h) over a window of x that has no borders.
//
// Channels-last only (the layout pass sees to it). Padding becomes a copy of the input into a work buffer with zeros
// around it; a 1x1 convolution over all pixels is a plain matrix product. Depthwise convolutions have a nest of their
// own (lower_conv_depthwise.c).
#include "passes/lower/lower_conv.h"

#include <string.h>

#include "passes/lower/bits.h"
#include "passes/lower/bits_border.h"
#include "passes/lower/code.h"
#include "passes/lower/codebook.h"
#include "passes/lower/dot8.h"
#include "passes/lower/lut.h"
#include "passes/lower/planar.h"
#include "passes/lower/planes.h"
#include "passes/lower/sparse.h"
#include "passes/lower/tile8.h"
#include "passes/lower/truth.h"
#include "passes/lower/winograd.h"
#include "passes/price.h"

Plan lower_plan(LowerCtx *ctx, const Op *op) {
  const Plan *p = op_plan(op);
  return p != NULL ? *p : plan_choose(op, ctx->target);
}

bool plan_is(const Plan *p, const char *strategy) { return strcmp(p->strategy, strategy) == 0; }

static int64_t clamp_param(const Plan *p, const char *name, int64_t missing, int64_t most) {
  int64_t v = plan_param(p, name, missing);
  if (v > most) v = most;
  return v < 1 ? 1 : v;
}

// Lanes that share a column, where x is read as it lies and one panel has all columns.
static void tile_parts(LowerCtx *ctx, const Plan *p, DType type, const Nest *n, NestTile *t) {
  int64_t parts = plan_param(p, "parts", 0), lanes = target_lanes(ctx->target, 32);
  bool power = parts == 2 || parts == 4 || parts == 8, conv = n->op->kind == OP_CONV && n->n == n->dims[n->rank - 1];
  if (!power || !conv || 2 * parts > lanes || !plan_is(p, "fma") || type != DT_F32 || n->n_red == 0 || n->words != NULL)
    return;
  Nest merged = *n;
  nest_merge(&merged);
  uint32_t last = merged.n_red - 1;
  bool reads = n->x->type->dtype == DT_F32 && merged.x_red[last] == 1 && merged.red[last] >= parts;
  if (!reads || !value_is_const(op_in(n->op, 1)) || n->n > 8 * lanes / parts) return;
  t->parts = parts;
  t->lanes = lanes;
  t->nv = (n->n + lanes - 1) / lanes;
  t->k_lanes = 0;
  t->panels_outer = t->dense = false;
}

NestTile nest_tile(LowerCtx *ctx, const Plan *p, DType type, const Nest *n) {
  NestTile t = {.lanes = 1, .mr = 1, .my = 1, .nv = 1, .ku = 1, .ks = 1};
  int64_t m = n->m.extent > 0 ? n->m.extent : 1, rows = n->n_rows > 0 ? n->row[n->n_rows - 1].extent : 1;
  t.mb = m;
  if (!plan_is(p, "fma") && !plan_is(p, "dot8") && !plan_is(p, "planes") && !plan_is(p, "lut") &&
      !plan_is(p, "codebook") && !plan_is(p, "tile8") && !plan_is(p, "planar"))
    return t;
  t.lanes = clamp_param(p, "lanes", target_lanes(ctx->target, dtype_info(type)->bits), 64);
  t.mr = clamp_param(p, "mr", 4, m < 32 ? m : 32);
  t.my = clamp_param(p, "my", 1, rows < 8 ? rows : 8);
  t.nv = clamp_param(p, "nv", 2, (n->n + t.lanes - 1) / t.lanes);
  t.ku = clamp_param(p, "ku", 1, 8);
  t.ks = clamp_param(p, "ks", 1, 8);
  t.mb = (clamp_param(p, "mb", m, m) + t.mr - 1) / t.mr * t.mr;
  t.panels_outer = plan_param(p, "panels_outer", 0) != 0;
  // A row padded at the end of a panel is needed only where weights are written at run time.
  t.dense =
      !plan_is(p, "fma") && !plan_is(p, "planar") && plan_param(p, "once", 0) == 0 && value_is_const(op_in(n->op, 1));
  bool contiguous = n->n_red > 0 && n->x_red[n->n_red - 1] == 1;
  if (plan_param(p, "k_lanes", 0) > 0 && contiguous && n->n <= 8 && dtype_is_float(type)) {
    t.k_lanes = clamp_param(p, "k_lanes", 1, 64);
    t.lanes = 1;
    t.nv = n->n;
    t.panels_outer = false;
  }
  tile_parts(ctx, p, type, n, &t);
  return t;
}

int64_t nest_panel(const NestTile *t) { return t->k_lanes > 0 ? 1 : t->nv; }

DType lower_arithmetic_type(const Op *op) {
  const Func *post = op_post(op);
  const Type *raw = post != NULL && post->n_args > 0 ? post->args[0]->type : op_out(op, 0)->type;
  return lower_compute_type(raw->dtype);
}

static const char *kernel_name(LowerCtx *ctx, const char *what, const Op *op) {
  return arena_printf(ctx->m->arena, "%s_%u", what, op->id);
}

// [K][O] view of channels-last weights: taps and input channels of a group are the reduction.
static PackSpec conv_weights(const ConvGeom *g, const NestTile *t, DType type) {
  int64_t cg = g->c / g->group, og = g->o / g->group;
  PackSpec s = {.n_red = 4, .n = og, .n_stride = 1, .nv = nest_panel(t), .lanes = t->lanes, .type = type};
  s.dense = t->dense;
  int64_t dims[4] = {g->kernel[0], g->kernel[1], g->kernel[2], cg}, stride = g->o;
  for (uint32_t i = 4; i-- > 0;) {
    s.red[i] = dims[i];
    s.red_stride[i] = stride;
    stride *= dims[i];
  }
  if (g->group > 1) {
    s.n_copies = 1;
    s.copy[0] = g->group;
    s.copy_stride[0] = og;
  }
  return s;
}

// The same in groups of the places that a vector has of a column.
static PackSpec part_weights(Nest *n, const ConvGeom *g) {
  nest_merge(n);
  PackSpec s = dot8_weights(n, g->o, 1);
  s.by = n->tile.parts;
  s.lanes = n->tile.lanes / n->tile.parts;
  s.nv = (n->n + s.lanes - 1) / s.lanes;
  s.type = DT_F32;
  return s;
}

static PackSpec dot_weights(const Nest *n, const ConvGeom *g) {
  PackSpec s = dot8_weights(n, g->o, 1);
  if (g->group == 1) return s;
  s.n_copies = 1;
  s.copy[0] = g->group;
  s.copy_stride[0] = g->o / g->group;
  return s;
}

static void nest_add_row(Nest *n, NestLoop l) {
  if (l.extent != 1) n->row[n->n_rows++] = l;
}

static void pointwise_nest(Nest *n, const ConvGeom *g, uint32_t rank) {
  int64_t cg = g->c / g->group, og = g->o / g->group;
  n->rank = 2;
  n->dims[0] = g->n * g->out[0] * g->out[1] * g->out[2];
  n->dims[1] = g->o;
  for (uint32_t i = 0; i + 1 < rank; i++) n->axis_of[i] = 0;
  n->axis_of[rank - 1] = 1;
  nest_add_row(n, (NestLoop){.extent = g->group, .x = cg, .axis = 1, .scale = og});
  n->m = (NestLoop){.extent = n->dims[0], .x = g->c, .axis = 0, .scale = 1};
  n->n_red = 1;
  n->red[0] = cg;
  n->x_red[0] = 1;
}

// x is the window: extents win[], element x0 is its first one.
static void window_nest(Nest *n, const ConvGeom *g, uint32_t rank, const int64_t *win) {
  int64_t cg = g->c / g->group, og = g->o / g->group;
  int64_t step[CONV_AXES] = {win[1] * win[2] * g->c, win[2] * g->c, g->c};
  n->rank = 5;
  n->dims[0] = g->n;
  n->dims[4] = g->o;
  n->axis_of[0] = 0;
  n->axis_of[rank - 1] = 4;
  for (uint32_t i = 0; i < CONV_AXES; i++) n->dims[1 + i] = g->out[i];
  for (uint32_t i = 1; i + 1 < rank; i++) n->axis_of[i] = 5 - rank + i;
  nest_add_row(n, (NestLoop){.extent = g->n, .x = win[0] * step[0], .axis = 0, .scale = 1});
  nest_add_row(n, (NestLoop){.extent = g->group, .x = cg, .axis = 4, .scale = og});
  nest_add_row(n, (NestLoop){.extent = g->out[0], .x = g->stride[0] * step[0], .axis = 1, .scale = 1});
  nest_add_row(n, (NestLoop){.extent = g->out[1], .x = g->stride[1] * step[1], .axis = 2, .scale = 1});
  n->m = (NestLoop){.extent = g->out[2], .x = g->stride[2] * g->c, .axis = 3, .scale = 1};
  n->n_red = 4;
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    n->red[i] = g->kernel[i];
    n->x_red[i] = g->dilation[i] * step[i];
  }
  n->red[3] = cg;
  n->x_red[3] = 1;
}

Window conv_window(const ConvGeom *g) {
  Window w = {.n = g->n, .c = g->c};
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    w.in[i] = g->in[i];
    w.from[i] = -g->pad[i];
    w.extent[i] = (g->out[i] - 1) * g->stride[i] + (g->kernel[i] - 1) * g->dilation[i] + 1;
  }
  return w;
}

bool lower_operand_may_alias(const Op *op) {
  for (uint32_t i = op_info(op->kind)->max_in; i < op->n_in; i++) {
    if (type_bytes(op_in(op, i)->type) == type_bytes(op_out(op, 0)->type)) return true;
  }
  return false;
}

bool lower_post_again(const Op *op, DType type) {
  const Func *post = op_post(op);
  const Type *y = op_out(op, 0)->type;
  if (post == NULL || price_post(op) <= 10 || y->dtype != type) return false;
  return !lower_operand_may_alias(op);
}

// Widening a scalar at every broadcast costs more than a copy once each element is used by a few vectors.
static bool widening_pays(const Op *op, DType from, DType type) {
  return from != type && type_count(op_in(op, 1)->type) >= 16 * op_in(op, 0)->type->dims[op_in(op, 0)->type->rank - 1];
}

// Extents of the buffer that holds a window, and the element where the window begins.
static void window_place(const Window *w, bool inside, int64_t *extent, int64_t *x0) {
  for (uint32_t i = 0; i < CONV_AXES; i++) extent[i] = inside ? w->in[i] : w->extent[i];
  *x0 = inside ? ((w->from[0] * w->in[1] + w->from[1]) * w->in[2] + w->from[2]) * w->c : 0;
}

PBuf *conv_stage(LowerCtx *ctx, const Op *op, const Window *w, DType type, int64_t *extent, int64_t *x0) {
  PBuf *x = lower_buf(ctx, op_in(op, 0));
  bool inside = window_is_inside(w) && !widening_pays(op, x->type->dtype, type);
  window_place(w, inside, extent, x0);
  return inside ? x : stage_window(ctx, op, x, w, type);
}

bool lower_contraction_check(LowerCtx *ctx, const Op *op, bool geom) {
  if (geom) return true;
  return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc,
                    "%s needs channels-last operands of fixed size here; give symbolic dims a value with --dim NAME=N",
                    op_info(op->kind)->name);
}

// Only the loop over groups walks the channel axis.
static void set_group_weights(Nest *n, int64_t elems) {
  for (uint32_t i = 0; i < n->n_rows; i++) {
    if (n->row[i].axis == n->rank - 1) n->row[i].w = elems;
  }
}

// Matrix tiles of bytes: the weights and the bias that takes the zero point back. False after diag_error.
static bool conv_tiles(LowerCtx *ctx, const Op *op, const Plan *plan, Nest *n, const ConvGeom *g) {
  tile8_reduction(ctx, op, plan, n);
  n->x = tile8_room(ctx, op, n);
  n->w = tile8_weights(ctx, op, n, g->group, g->o / g->group, g->o, 1);
  n->bias = tile8_bias(ctx, op, n->x_zero, type_count(op_in(op, 1)->type) / g->o, g->o, g->o, 1);
  set_group_weights(n, tile8_copy_elems(n));
  return n->x != NULL && n->w != NULL;
}

// Neighbouring columns as channels when the plan asks for it: other geometry, weights and bias, the same result bytes.
static Value *fold_columns(LowerCtx *ctx, const Op *op, const Plan *plan, ConvGeom *g, Value **bias) {
  int64_t fold = plan_param(plan, "fold", 1), step = g->stride[2], taps = g->kernel[2];
  Value *w = op_in(op, 1);
  if (!plan_is(plan, "fma") || fold < 2 || !conv_folds(op, g) || g->out[2] % fold != 0) return w;
  conv_fold(g, fold);
  if (*bias != NULL) *bias = pack_repeated(ctx->m, (*bias)->constant, fold);
  return pack_folded(ctx->m, w->constant, g->kernel[0] * g->kernel[1], taps, step, fold);
}

// x and the weights as bits: from here on a pixel is a row of words.
static Value *conv_planes(LowerCtx *ctx, const Op *op, Nest *n, ConvGeom *g, const PlanesX *x, const PlanesW *w) {
  int64_t taps = g->kernel[0] * g->kernel[1] * g->kernel[2];
  planes_sums(ctx, n, x, w, taps, g->o, g->o, 1);
  Value *weights = planes_weights(ctx, op, x, w, taps, g->o, g->o, 1);
  if (bits_of(ctx, op_in(op, 0)) == NULL) {
    n->x = planes_pack(ctx, op, n->x, x);
    n->x0 = n->x0 / g->c * planes_row(x);
  }
  g->c = planes_row(x);
  return weights;
}

// x as the nest reads it: bytes, or words that its producer made. False after diag_error.
static bool conv_x(LowerCtx *ctx, const Op *op, Nest *n, Window *w, DType staged, int64_t *extent) {
  const BitsValue *held = bits_of(ctx, op_in(op, 0));
  if (held == NULL) {
    n->x = conv_stage(ctx, op, w, staged, extent, &n->x0);
    return n->x != NULL;
  }
  w->c = planes_row(&held->form);
  w->fill = 0;
  bool inside = window_is_inside(w);
  window_place(w, inside, extent, &n->x0);
  n->x = inside ? held->words : stage_window(ctx, op, held->words, w, planes_type(&held->form));
  return n->x != NULL;
}

// The innermost reduction counts words, the planes of one lie side by side; planes of the weights lie outside.
static PackSpec planes_reduction(Nest *n, const ConvGeom *g, const PlanesX *x) {
  ConvGeom words = *g;
  n->red[n->n_red - 1] = x->words;
  n->x_red[n->n_red - 1] = x->planes;
  words.c = x->words * g->group;
  PackSpec s = conv_weights(&words, &n->tile, n->type);
  for (uint32_t i = s.n_red++; i > 0; i--) {
    s.red[i] = s.red[i - 1];
    s.red_stride[i] = s.red_stride[i - 1];
  }
  s.red[0] = n->planes.w + (n->planes.form == PLANES_SIGN);
  s.red_stride[0] = s.red[1] * s.red_stride[1];
  s.channels = x->channels;
  return s;
}

bool lower_conv(LowerCtx *ctx, const Op *op) {
  ConvGeom g, filter;
  Plan plan = lower_plan(ctx, op);
  if (plan_is(&plan, "sparse")) return lower_sparse(ctx, op, &plan);
  if (plan_is(&plan, "code")) return lower_code(ctx, op, &plan);
  if (plan_is(&plan, "planar")) return lower_planar(ctx, op, &plan);
  if (plan_is(&plan, "truth")) return lower_truth(ctx, op);
  if (plan_is(&plan, "winograd")) return lower_winograd(ctx, op, &plan);
  if (!lower_contraction_check(ctx, op, conv_geom(op, &g))) return false;
  if (type_count(op_out(op, 0)->type) == 0) return true;
  if (!plan_is(&plan, "loop") && conv_is_depthwise(&g) && g.in[0] * g.out[0] * g.kernel[0] == 1) {
    if (plan_is(&plan, "dot8") && dot8_depthwise_applies(ctx, op, &g)) return lower_dot8_depthwise(ctx, op, &g, &plan);
    if (conv_depthwise_fits(ctx, op, &g, &plan)) return lower_conv_depthwise(ctx, op, &g, &plan);
  }
  uint32_t rank = op_out(op, 0)->type->rank;
  Nest n = {.op = op, .name = kernel_name(ctx, "conv", op), .bias = op_in(op, 2), .type = lower_arithmetic_type(op)};
  Value *weights = fold_columns(ctx, op, &plan, &g, &n.bias);
  n.x_zero = op_int(op, A_CONV_x_zero);
  bool planes = plan_is(&plan, "planes");
  PlanesX bits;
  PlanesW signs;
  if (planes && !planes_check(ctx, op, &plan, &bits, &signs)) return false;
  if (planes && bits_of(ctx, op_in(op, 0)) != NULL) bits.fill = bits.lo;
  if (plan_is(&plan, "lut") && !lut_check(ctx, op)) return false;
  bool book = plan_is(&plan, "codebook"), once = book && plan_param(&plan, "once", 0) != 0;
  if (book && !codebook_check(ctx, op, &plan)) return false;
  DType staged = dtype_is_float(n.type) ? n.type : op_in(op, 0)->type->dtype;
  if (g.pointwise && result_axes_merge(op, 0, rank - 1)) {
    Window w = {.n = g.n, .c = g.c, .in = {g.in[0], g.in[1], g.in[2]}, .extent = {g.in[0], g.in[1], g.in[2]}};
    int64_t extent[CONV_AXES];
    if (!conv_x(ctx, op, &n, &w, staged, extent)) return false;
    if (planes) weights = conv_planes(ctx, op, &n, &g, &bits, &signs);
    pointwise_nest(&n, &g, rank);
  } else {
    Window w = conv_window(&g);
    w.fill = planes ? bits.fill : n.x_zero;
    w.room = plan_is(&plan, "tile8") ? TILE8_ROOM : 0;
    int64_t extent[CONV_AXES];
    if (!conv_x(ctx, op, &n, &w, staged, extent)) return false;
    filter = g;
    if (planes) weights = conv_planes(ctx, op, &n, &g, &bits, &signs);
    window_nest(&n, &g, rank, extent);
    if (plan_is(&plan, "tile8") && plan_param(&plan, "flat", 0) != 0) tile8_flatten(&n);
    if (planes) border_bias(ctx, &n, &filter, bits.zero - bits.fill);  // padding is to add nothing
  }
  n.n = g.o / g.group;
  n.tile = nest_tile(ctx, &plan, n.type, &n);
  if (g.group == 1 && !plan_is(&plan, "tile8")) nest_pool(ctx, &plan, &n);
  if (plan_is(&plan, "lut")) weights = lut_weights(ctx, op, &n);
  if (book && !once) weights = codebook_weights(ctx, op, &n);
  PackSpec s =
      planes ? planes_reduction(&n, &g, &bits) : conv_weights(&g, &n.tile, n.lookups + n.book > 0 ? DT_I8 : n.type);
  if (n.tile.parts > 0) s = part_weights(&n, &g);
  if (plan_is(&plan, "dot8")) {
    if (!dot8_plan_bits(ctx, op, &plan, &n.bits)) return false;
    dot8_reduction(&n);
    s = dot_weights(&n, &g);
    n.bias = dot8_bias(ctx, &n, type_count(op_in(op, 1)->type) / g.o, g.o, g.o, 1);
  }
  if (plan_is(&plan, "tile8")) {
    if (!conv_tiles(ctx, op, &plan, &n, &g)) return false;
  } else {
    set_group_weights(&n, pack_copy_elems(&s) / (n.dot && s.by > 1 ? s.by : 1));
    n.w = once ? codebook_open(ctx, op, weights, &s) : stage_weights(ctx, op, weights, &s);
  }
  if (n.w == NULL) return false;
  nest_result_buf(ctx, &n);
  if (planes && signs.unit == 1 && n.border.classes != NULL) border_open(ctx, &n, &filter, bits.words, bits.channels);
  n.post_again = n.words == NULL && !planes && lower_post_again(op, n.type);
  nest_settle(&n);
  return nest_lower(ctx, &n, plan.strategy);
}
