// The contraction nest. See nest.h.
//
// Shape of the code: one par loop over (panels x) rows x blocks of columns; inside it panels and tiles; inside a tile
// the reduction loops around an unrolled outer product of nv weight vectors and mr * my broadcast elements.
#include "ir/base/intmath.h"
#include "passes/lower/bf16.h"
#include "passes/lower/dot8.h"
#include "passes/lower/nest_emit.h"

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
  if (!n->dot && n->matrix.rows == 0) nest_merge(n);
  if (n->n_rows == 0 || n->row[n->n_rows - 1].w != 0) n->tile.my = 1;
}

int64_t nest_red_steps(const Nest *n, uint32_t i) {
  if (n->matrix.rows > 0 && i + 1 == n->n_red) return ceil_div(n->red[i], n->matrix.chunk);
  if (n->tile.parts > 0 && i + 1 == n->n_red) return ceil_div(n->red[i], n->tile.parts);
  return n->dot && i + 1 == n->n_red ? ceil_div(n->red[i], 4) : n->red[i];
}

static int64_t nest_k(const Nest *n) {
  int64_t k = 1;
  for (uint32_t i = 0; i < n->n_red; i++) k *= nest_red_steps(n, i);
  return k;
}

double nest_macs(const Nest *n) {
  int64_t columns = n->m.extent;
  if (n->matrix.pitch > 0) columns = ((columns - n->matrix.width) / n->matrix.pitch + 1) * n->matrix.width;
  double macs = (double)columns * (double)n->n;
  for (uint32_t i = 0; i < n->n_red; i++) macs *= (double)n->red[i];
  if (n->pairs) macs *= 2;
  for (uint32_t i = 0; i < n->n_rows; i++) macs *= (double)n->row[i].extent;
  return macs;
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

// ---- loops around tiles

static void emit_any_tile(Emit *e, Tile t, const Pos *p) {
  if (e->n->matrix.rows > 0) {
    nest_emit_matrix(e, t, p);
  } else if (e->n->counts) {
    nest_emit_planes(e, t, p);
  } else if (e->n->tile.k_lanes > 0) {
    nest_emit_k_lanes(e, t, p);
  } else if (e->n->tile.parts > 0) {
    nest_emit_parts(e, t, p);
  } else {
    nest_emit_tile(e, t, p);
  }
}

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
    emit_any_tile(e, t, &q);
    if (loop) kb_end(b);
  }
  if (rest > 0) {
    t.mi = rest;
    if (blocks > 1) kb_if(b, kx_op2(b, KOP_EQ, kx_index(b, block), kx_i(b, DT_I64, blocks - 1)));
    Pos q = pos_move(p, &n->m, aff(whole));
    emit_any_tile(e, t, &q);
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
  int64_t matrix = e->n->tile.nv * e->k * e->n->matrix.stored;
  int64_t step = e->n->w_row > 0 ? width : width * e->rows;
  NestLoop l = {.w = e->n->matrix.rows > 0 ? matrix : step, .axis = e->n->rank - 1, .scale = width};
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
  e->w = kb_view(&e->b, e->w, "w4", e->n->bits.n > 0 ? DT_U32 : DT_I8X4, 1, &w_count);
  if (e->words) x_count /= 4;
  bool is_signed = e->n->x->type->dtype == DT_I8, moves = dot8_move(e->ctx->target, e->n->x->type->dtype) != 0;
  if (e->words) {
    e->x = kb_view(&e->b, e->x, "x4", moves ? DT_U32 : is_signed ? DT_I8X4 : DT_U8X4, 1, &x_count);
  } else if (is_signed) {
    e->x = kb_view(&e->b, e->x, "xu", DT_U8, 1, &x_count);
  }
}

// Two neighbours along the reduction as one lane.
static void view_pairs(Emit *e) {
  int64_t w_count = e->w->dims[0] / 2, x_count = e->x->dims[0] / 2;
  e->w = kb_view(&e->b, e->w, "w2", DT_BF16X2, 1, &w_count);
  e->x = kb_view(&e->b, e->x, "x2", DT_BF16X2, 1, &x_count);
}

// The bias is a row per border class: parameters for the tables that say where a place finds its row.
static bool class_params(Emit *e) {
  bool any = false;
  for (uint32_t i = 0; i < e->n->rank; i++) {
    if (e->n->class_at[i] == NULL) continue;
    any = true;
    e->class_at[i] = flat_param(e, "class", lower_buf(e->ctx, e->n->class_at[i]), SPACE_CONST);
  }
  return any;
}

static void emit_params(Emit *e) {
  const Nest *n = e->n;
  e->x = flat_param(e, "x", n->x, SPACE_ARG);
  e->w = flat_param(e, "w", n->w, n->w->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
  if (n->dot) view_bytes(e);
  if (n->pairs) view_pairs(e);
  e->y = flat_param(e, "y", n->y, SPACE_ARG);
  e->units = (BitsUnits){.b = &e->b, .words = e->y};
  if (n->lookups + n->book > 0) e->table = flat_param(e, "table", n->table, SPACE_CONST);
  if (n->bias != NULL) {
    const PBuf *bias = n->rows != NULL ? n->rows : lower_buf(e->ctx, n->bias);
    KBuf *param = flat_param(e, "bias", bias, bias->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
    e->extra[e->n_extra] = param;
    operand_strides(n, n->bias->type, e->stride[e->n_extra]);
    if (class_params(e) || n->steps.n > 0) {
      for (uint32_t i = 0; i + 1 < n->rank; i++) e->stride[e->n_extra][i] = 0;
    }
    e->n_extra++;
  }
  if (n->steps.n > 0) {
    if (n->steps.flip != NULL) e->flip = flat_param(e, "flip", lower_buf(e->ctx, n->steps.flip), SPACE_CONST);
    return;
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

static int64_t stored_rows(const Emit *e) {
  const NestPlanes *planes = &e->n->planes;
  if (e->n->counts) return e->k * (planes->w + (planes->form == PLANES_SIGN));
  if (e->n->bits.n == 0 || e->k == 0) return e->k;
  return pack_run(&e->n->bits, e->n->n_red, e->n->red).rows;
}

bool nest_lower(LowerCtx *ctx, const Nest *nest, const char *strategy) {
  Nest copy = *nest, *n = &copy;
  bf16_pairs(ctx, n);
  bool words = n->dot && words_of_x(n);
  Emit e = {.ctx = ctx, .n = n, .k = nest_k(n), .vectors = ceil_div(n->n, n->tile.lanes), .words = words};
  e.rows = stored_rows(&e);
  kbuild_init(&e.b, ctx->m, n->name, n->op->loc);
  emit_params(&e);
  if (n->matrix.rows > 0) nest_begin_matrix(&e);
  Where where = {aff(0), aff(0), aff(0), n->tile.panels_outer};
  Pos p = {.x = aff(n->x0), .w = aff(0)};
  for (uint32_t i = 0; i < n->rank; i++) p.axis[i] = aff(n->first[i]);
  emit_par(&e, &where, &p);
  emit_panels(&e, &p, &where);
  kb_end(&e.b);
  PBuf *bufs[6 + MAX_RANK] = {n->x, n->w, n->y};
  uint32_t n_bufs = 3;
  if (n->lookups + n->book > 0) bufs[n_bufs++] = n->table;
  if (n->bias != NULL) bufs[n_bufs++] = n->rows != NULL ? n->rows : lower_buf(ctx, n->bias);
  for (uint32_t i = 0; i < n->rank; i++)
    if (n->class_at[i] != NULL) bufs[n_bufs++] = lower_buf(ctx, n->class_at[i]);
  if (n->steps.flip != NULL) bufs[n_bufs++] = lower_buf(ctx, n->steps.flip);
  Step *step = lower_step(ctx, &e.b, n->op, &e.pp, n_bufs, bufs);
  step->strategy = strategy;
  step->macs = nest_macs(n);
  return true;
}
