// Contractions over blocks of pixels. See pixel_blocks.h.
//
// Squares of T by T elements (T lanes of the target) go through a register tile that is written by rows and read by
// columns, which the backend makes shuffles of. Channels of x that do not fill the last square are read with some
// before them again; those of the result are taken from a wider column. A long post function stands once in a loop
// over the pixels of a square instead of once per pixel.
#include "passes/lower/pixel_blocks.h"

#include "ir/base/intmath.h"
#include "passes/lower/lower_conv.h"
#include "passes/lower/stage.h"
#include "passes/price.h"

#define LONG_POST 10  // operations

// An operand broadcast to the result: element row * row_step + channel * step.
typedef struct Extra {
  KBuf *buf;
  int64_t row_step, step;
  int64_t image_step;  // of channels first; row_step is that of a pixel, step that of a channel
} Extra;

typedef struct Emit {
  LowerCtx *ctx;
  const PixelBlocks *p;
  KBuild b;
  KBuf *x, *y, *xb, *yb, *inner[PIXEL_INNER];
  KBuf *rows;       // a square in the frame where the post function is long, else NULL
  Extra extra[17];  // the bias when there is one, then the operands of the post function
  uint32_t n_extra;
  bool has_bias;
  int64_t side;  // T
  PBuf *bufs[32];
  uint32_t n_bufs;
} Emit;

// ---- elements

DType pixel_blocks_type(const PixelBlocks *p) { return p->fours ? DT_I32 : DT_F32; }

static KExpr *zero(Emit *e) {
  DType t = pixel_blocks_type(e->p);
  return t == DT_F32 ? kx_f(&e->b, t, 0) : kx_i(&e->b, t, 0);
}

// An element of x as blocks hold it.
static KExpr *load_x(Emit *e, Affine at) {
  if (!e->p->fours) return kx_cast(&e->b, DT_F32, lower_load1(&e->b, e->x, at));
  KExpr *v = kx_load1(&e->b, e->x, at);
  return e->p->flip == 0 ? v : kx_op2(&e->b, KOP_XOR, v, kx_i(&e->b, DT_I32, e->p->flip));
}

// ---- geometry

void pixel_blocks_list(PixelBlocks *p, int64_t pixels, int64_t lanes) {
  if (!p->first) p->images = 1;
  p->rows = ceil_div(pixels, lanes);
  p->cols = p->lanes = p->step = lanes;
  p->pixels = pixels;
  p->x_first = p->x_image = p->halo = 0;
  p->x_row = lanes * p->c;
  p->x_stride = 1;
  if (!p->first) return;
  p->x_row = lanes;
  p->x_plane = pixels;
  p->x_image = pixels * p->c;
}

bool pixel_blocks_window(LowerCtx *ctx, PixelBlocks *p, const ConvGeom *g, int64_t lanes) {
  int64_t reach = (g->kernel[2] - 1) * g->dilation[2], extent[CONV_AXES];
  QCC_CHECK(reach < lanes && g->stride[2] == 1 && g->group == 1, "lower: no blocks of pixels for this convolution");
  p->images = g->n;
  p->rows = g->out[1];
  p->cols = g->out[2];
  p->pixels = p->rows * p->cols;
  p->lanes = lanes;
  p->step = lanes - reach;
  p->x_stride = g->stride[1];
  p->halo = (g->kernel[1] - 1) * g->dilation[1];
  if (p->first) {
    for (int i = 0; i < 2; i++) {
      p->in[i] = g->in[1 + i];
      p->pad[i] = g->pad[1 + i];
    }
    p->x_row = p->in[1];
    p->x_plane = p->in[0] * p->in[1];
    p->x_image = p->x_plane * p->c;
    return true;
  }
  Window w = conv_window(g);
  w.extent[2] = (ceil_div(p->cols, p->step) - 1) * p->step + lanes;
  w.fill = p->fours ? op_int(p->op, A_CONV_x_zero) : 0;
  p->x = conv_stage(ctx, p->op, &w, p->fours ? p->x->type->dtype : DT_F32, extent, &p->x_first);
  if (p->x == NULL) return false;
  if (p->fours) p->x_first /= 4;
  p->x_row = extent[2] * p->c;
  p->x_image = extent[1] * p->x_row;
  return true;
}

int64_t pixel_blocks_x_rows(const PixelBlocks *p) { return (p->chunk - 1) * p->x_stride + p->halo + 1; }
int64_t pixel_blocks_x_elems(const PixelBlocks *p) { return (pixel_blocks_x_rows(p) * p->c + 1) * p->lanes; }
int64_t pixel_blocks_y_elems(const PixelBlocks *p) { return p->chunk * p->o * p->lanes; }

// An operand of a result with channels first: steps between images, channels and pixels. False: it runs along some
// axes of the picture only.
static bool first_steps(const Op *op, const Type *t, int64_t *image, int64_t *channel, int64_t *pixel) {
  const Type *y = op_out(op, 0)->type;
  int64_t run = 1, pixels = 1;
  *image = *channel = *pixel = 0;
  for (uint32_t i = y->rank; i-- > 0;) {
    int64_t dim = i + t->rank < y->rank ? 1 : t->dims[i + t->rank - y->rank];
    if (dim != 1) *(i == 0 ? image : i == 1 ? channel : pixel) = i > 1 ? 1 : run;
    if (i > 1) pixels *= y->dims[i];
    run *= dim;
    if (i == 2 && run != 1 && run != pixels) return false;
  }
  return true;
}

static bool is_first(const Op *op) { return op->kind == OP_CONV && op_enum(op, A_CONV_layout) == LAYOUT_NCHW; }

bool pixel_blocks_applies(const Op *op, const Target *t) {
  uint32_t rank = op_out(op, 0)->type->rank;
  int64_t image, channel, pixel;
  for (uint32_t i = op_info(op->kind)->max_in; is_first(op) && i < op->n_in; i++)
    if (!first_steps(op, op_in(op, i)->type, &image, &channel, &pixel)) return false;
  if (is_first(op)) return t->vector_bits >= 128;
  return t->vector_bits >= 128 && rank > 0 && result_axes_merge(op, 0, rank - 1);
}

static int64_t blocks_per_row(const PixelBlocks *p) { return ceil_div(p->cols, p->step); }
static bool is_list(const PixelBlocks *p) { return p->lanes == p->cols && p->step == p->cols; }

// ---- parameters

static KBuf *add_param(Emit *e, PBuf *buf) {
  e->bufs[e->n_bufs++] = buf;
  return lower_flat(&e->b, buf);
}

static void add_extra(Emit *e, Value *v) {
  const Type *t = v->type;
  int64_t last = t->rank > 0 ? t->dims[t->rank - 1] : 1;
  Extra *x = &e->extra[e->n_extra++];
  *x = (Extra){.buf = add_param(e, lower_buf(e->ctx, v)), .step = last != 1};
  if (type_count(t) != last) x->row_step = last;
}

static void add_first_extra(Emit *e, Value *v, bool bias) {
  Extra *x = &e->extra[e->n_extra++];
  x->buf = add_param(e, lower_buf(e->ctx, v));
  x->step = 1;
  if (!bias) first_steps(e->p->op, v->type, &x->image_step, &x->step, &x->row_step);
}

static PBuf *work_buf(Emit *e, const char *name, int64_t groups, int64_t elems) {
  return lower_work(e->ctx, name,
                    type_tensor(e->ctx->m->types, pixel_blocks_type(e->p), 2, (int64_t[]){groups, elems}));
}

static void add_params(Emit *e, int64_t groups) {
  const Op *op = e->p->op;
  int64_t fours = type_count(e->p->x->type) / 4;
  e->x = add_param(e, e->p->x);
  if (e->p->fours) e->x = kb_view(&e->b, e->x, "x4", DT_I32, 1, &fours);
  e->y = add_param(e, lower_buf(e->ctx, op_out(op, 0)));
  e->xb = add_param(e, work_buf(e, "x_blocks", groups, pixel_blocks_x_elems(e->p)));
  e->yb = add_param(e, work_buf(e, "y_blocks", groups, pixel_blocks_y_elems(e->p)));
  for (uint32_t i = 0; i < e->p->n_inner; i++) e->inner[i] = add_param(e, e->p->inner[i]);
  e->has_bias = op_in(op, 2) != NULL && !e->p->fours;  // sums of bytes begin with it
  for (uint32_t i = 0; i < op_n_post(op) + e->has_bias; i++) {
    bool bias = e->has_bias && i == 0;
    Value *v = op_in(op, bias ? 2 : op_info(op->kind)->max_in + i - e->has_bias);
    if (e->p->first) {
      add_first_extra(e, v, bias);
    } else {
      add_extra(e, v);
    }
  }
}

// ---- into blocks

// One square: pixels from `from` on, `valid` of them there, to channels of the block at `to`.
static void square_in(Emit *e, Affine from, Affine to, int64_t valid) {
  KBuild *b = &e->b;
  int64_t side = e->side;
  KBuf *tile = kb_alloc(b, "tile", pixel_blocks_type(e->p), 2, (int64_t[]){side, side}, SPACE_REG);
  for (int64_t r = 0; r < side; r++) {
    Affine l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
    KExpr *v = r < valid ? load_x(e, aff_plus(aff_add(from, l), r * e->p->c)) : zero(e);
    kb_store(b, tile, (Affine[]){aff(r), l}, v);
    kb_end(b);
  }
  for (int64_t c = 0; c < side; c++) {
    Affine l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
    kb_store1(b, e->xb, aff_plus(aff_add(to, l), c * e->p->lanes), kx_load(b, tile, (Affine[]){l, aff(c)}));
    kb_end(b);
  }
}

// Fewer channels than a square has: element by element.
static void few_in(Emit *e, Affine from, Affine to, int64_t valid) {
  KBuild *b = &e->b;
  Affine c = aff_var(kb_for(b, "c", 0, e->p->c, 1, FOR_SEQ)), at = aff_add(to, aff_mul(c, e->p->lanes));
  for (int64_t r = 0; r < e->side; r++) {
    KExpr *v = r < valid ? load_x(e, aff_plus(aff_add(from, c), r * e->p->c)) : zero(e);
    kb_store1(b, e->xb, aff_plus(at, r), v);
  }
  kb_end(b);
}

// A row of a block: all channels of its pixels, `have` of which are there.
static void row_in(Emit *e, Affine from, Affine to, int64_t have) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  for (int64_t v = 0; v < p->lanes; v += e->side) {
    int64_t valid = have - v < 0 ? 0 : have - v < e->side ? have - v : e->side;
    Affine x = aff_plus(from, v * p->c), xb = aff_plus(to, v);
    if (p->c < e->side) {
      few_in(e, x, xb, valid);
      continue;
    }
    Affine c = aff_var(kb_for(b, "c", 0, p->c, e->side, FOR_SEQ));
    if (p->c % e->side != 0)
      c = aff_var(kb_let(b, "c0", kx_op2(b, KOP_MIN, kx_index(b, c), kx_i(b, DT_I64, p->c - e->side))));
    square_in(e, aff_add(x, c), aff_add(xb, aff_mul(c, p->lanes)), valid);
    kb_end(b);
  }
}

// ---- out of blocks

// `image` only matters to operands of a result with channels first.
static KExpr *result(Emit *e, KExpr *value, Affine image, Affine row, Affine channel) {
  KBuild *b = &e->b;
  const Func *post = op_post(e->p->op);
  KExpr *args[18] = {NULL};
  for (uint32_t i = 0; i < e->n_extra; i++) {
    const Extra *x = &e->extra[i];
    KExpr *v = lower_load1(
        b, x->buf,
        aff_add(aff_add(aff_mul(row, x->row_step), aff_mul(channel, x->step)), aff_mul(image, x->image_step)));
    if (e->has_bias && i == 0) {
      value = kx_op2(b, KOP_ADD, value, v);
    } else {
      args[1 + i - e->has_bias] = v;
    }
  }
  args[0] = value;
  return post == NULL ? value : lower_body(b, post, args);
}

// `n` results of pixel `row` from a row of registers or of the frame.
static void store_row(Emit *e, KBuf *from, Affine at, Affine row, Affine channel, int64_t n) {
  KBuild *b = &e->b;
  Affine l = aff_var(kb_for(b, "l", 0, n, 1, FOR_VEC)), c = aff_add(channel, l);
  KExpr *value = result(e, kx_load(b, from, (Affine[]){at, l}), aff(0), row, c);
  lower_store1(b, e->y, aff_add(aff_mul(row, e->p->o), c), value);
  kb_end(b);
}

// One square: `n` channels of the block at `from` to pixels from `row` on, `valid` of them.
static void square_out(Emit *e, Affine from, Affine row, Affine channel, int64_t valid, int64_t n) {
  KBuild *b = &e->b;
  int64_t side = e->side;
  bool loop = e->rows != NULL;
  KBuf *tile = kb_alloc(b, "tile", pixel_blocks_type(e->p), 2, (int64_t[]){side, side}, SPACE_REG);
  for (int64_t c = 0; c < side; c++) {
    Affine l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
    KExpr *v = c < n ? kx_load1(b, e->yb, aff_plus(aff_add(from, l), c * e->p->lanes)) : zero(e);
    kb_store(b, tile, (Affine[]){aff(c), l}, v);
    kb_end(b);
  }
  for (int64_t r = 0; r < valid; r++) {
    KBuf *to = loop ? e->rows : kb_alloc(b, "row", pixel_blocks_type(e->p), 2, (int64_t[]){1, side}, SPACE_REG);
    Affine l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
    kb_store(b, to, (Affine[]){aff(loop ? r : 0), l}, kx_load(b, tile, (Affine[]){l, aff(r)}));
    kb_end(b);
    if (!loop) store_row(e, to, aff(0), aff_plus(row, r), channel, n);
  }
  if (!loop) return;
  Affine r = aff_var(kb_for(b, "r", 0, valid, 1, FOR_SEQ));
  store_row(e, e->rows, r, aff_add(row, r), channel, n);
  kb_end(b);
}

// A row of a block: all channels of its first `have` pixels.
static void row_out(Emit *e, Affine from, Affine row, int64_t have) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  int64_t whole = p->o - p->o % e->side;
  for (int64_t v = 0; v < have; v += e->side) {
    int64_t valid = have - v < e->side ? have - v : e->side;
    Affine yb = aff_plus(from, v), at = aff_plus(row, v);
    if (whole > 0) {
      bool loop = whole > e->side;
      Affine c = loop ? aff_var(kb_for(b, "c", 0, whole, e->side, FOR_SEQ)) : aff(0);
      square_out(e, aff_add(yb, aff_mul(c, p->lanes)), at, c, valid, e->side);
      if (loop) kb_end(b);
    }
    if (whole < p->o) square_out(e, aff_plus(yb, whole * p->lanes), at, aff(whole), valid, p->o - whole);
  }
}

// ---- blocks of pictures with channels first

static void copy_lanes(Emit *e, Affine from, Affine to, int64_t lo, int64_t hi) {
  KBuild *b = &e->b;
  if (lo >= hi) return;
  Affine l = aff_plus(aff_var(kb_for(b, "l", 0, hi - lo, 1, FOR_VEC)), lo);
  kb_store1(b, e->xb, aff_add(to, l), load_x(e, aff_add(from, l)));
  kb_end(b);
}

static void zero_lanes(Emit *e, Affine to, int64_t lo, int64_t hi) {
  KBuild *b = &e->b;
  if (lo >= hi) return;
  Affine l = aff_plus(aff_var(kb_for(b, "l", 0, hi - lo, 1, FOR_VEC)), lo);
  kb_store1(b, e->xb, aff_add(to, l), zero(e));
  kb_end(b);
}

// All channels of a row of a block: lanes [lo, hi) from x, the others zero.
static void planes_in(Emit *e, Affine from, Affine to, int64_t lo, int64_t hi) {
  KBuild *b = &e->b;
  Affine c = aff_var(kb_for(b, "c", 0, e->p->c, 1, FOR_SEQ));
  Affine x = aff_add(from, aff_mul(c, e->p->x_plane)), xb = aff_add(to, aff_mul(c, e->p->lanes));
  zero_lanes(e, xb, 0, lo);
  copy_lanes(e, x, xb, lo, hi);
  zero_lanes(e, xb, hi, e->p->lanes);
  kb_end(b);
}

static int64_t between(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

// A row of the picture, from the block's first column (which may lie before the picture) on.
static void picture_row_in(Emit *e, Affine block, Affine from, Affine to) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  int64_t blocks = ceil_div(p->cols, p->step), open = 0;
  bool inner = false;
  for (int64_t i = 0; i < blocks; i++) {
    int64_t before = p->pad[1] - i * p->step, lo = between(before, 0, p->lanes);
    int64_t hi = between(before + p->in[1], 0, p->lanes);
    if (lo == 0 && hi == p->lanes) {
      inner = true;
      continue;
    }
    bool last = !inner && i + 1 == blocks;
    if (!last) kb_if(b, kx_op2(b, KOP_EQ, kx_index(b, block), kx_i(b, DT_I64, i)));
    planes_in(e, from, to, lo, hi);
    if (last) break;
    kb_else(b);
    open++;
  }
  if (inner) planes_in(e, from, to, 0, p->lanes);
  while (open-- > 0) kb_end(b);
}

static void planes_out(Emit *e, Affine from, Affine image, Affine pixel, int64_t have) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  Affine o = aff_var(kb_for(b, "o", 0, p->o, 1, FOR_SEQ)), l = aff_var(kb_for(b, "l", 0, have, 1, FOR_VEC));
  Affine at = aff_add(pixel, l), y = aff_add(aff_mul(image, p->o * p->pixels), aff_add(aff_mul(o, p->pixels), at));
  KExpr *sum = kx_load1(b, e->yb, aff_add(aff_add(from, aff_mul(o, p->lanes)), l));
  lower_store1(b, e->y, y, result(e, sum, image, at, o));
  kb_end(b);
  kb_end(b);
}

// ---- chunks

typedef struct Chunk {
  Affine image, row, block;  // number of the image, first row of the result, block in its rows
  Affine xb, yb;             // where the buffers of this group begin
} Chunk;

// A row of a block, with as many columns as it has there.
typedef void RowFn(Emit *e, const Chunk *c, Affine from, Affine to, int64_t have);

// Rows that are shorter than the others: the last of a list, the last block of the rows of a picture.
static void each_length(Emit *e, Affine at, int64_t last, int64_t full, int64_t rest, RowFn *fn, const Chunk *c,
                        Affine from, Affine to) {
  KBuild *b = &e->b;
  bool both = rest != full && last > 0;
  if (both) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, at), kx_i(b, DT_I64, last)));
  if (rest == full || last > 0) fn(e, c, from, to, full);
  if (both) kb_else(b);
  if (rest != full) fn(e, c, from, to, rest);
  if (both) kb_end(b);
}

static void any_row_in(Emit *e, const Chunk *c, Affine from, Affine to, int64_t have) {
  (void)c;
  if (e->p->first) {
    planes_in(e, from, to, 0, have);
  } else {
    row_in(e, from, to, have);
  }
}

static void any_row_out(Emit *e, const Chunk *c, Affine from, Affine pixel, int64_t have) {
  if (e->p->first) {
    planes_out(e, from, c->image, pixel, have);
  } else {
    row_out(e, from, aff_add(pixel, aff_mul(c->image, e->p->pixels)), have);
  }
}

// Rows of a picture with channels first, zeros before and behind them.
static void picture_in(Emit *e, const Chunk *c, Affine row, Affine to) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  Affine at = aff_plus(row, -p->pad[0]);
  kb_if(b, kx_op2(b, KOP_AND, kx_op2(b, KOP_GE, kx_index(b, at), kx_i(b, DT_I64, 0)),
                  kx_op2(b, KOP_LT, kx_index(b, at), kx_i(b, DT_I64, p->in[0]))));
  Affine from = aff_add(aff_mul(c->image, p->x_image), aff_mul(at, p->x_row));
  picture_row_in(e, c->block, aff_plus(aff_add(from, aff_mul(c->block, p->step)), -p->pad[1]), to);
  kb_else(b);
  planes_in(e, aff(0), to, 0, 0);
  kb_end(b);
}

static void chunk_in(Emit *e, const Chunk *c) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  int64_t rows = pixel_blocks_x_rows(p), most = (p->rows - 1) * p->x_stride + p->halo + 1;
  Affine i = aff_var(kb_for(b, "i", 0, rows, 1, FOR_SEQ)), row = aff_add(aff_mul(c->row, p->x_stride), i);
  bool guard = p->rows % p->chunk != 0;
  if (guard) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, row), kx_i(b, DT_I64, most)));
  Affine from = aff_add(aff_mul(c->image, p->x_image), aff_mul(row, p->x_row));
  from = aff_plus(aff_add(from, aff_mul(c->block, p->step * p->c)), p->x_first);
  Affine to = aff_add(c->xb, aff_mul(i, p->c * p->lanes));
  if (p->first && !is_list(p)) {
    picture_in(e, c, row, to);
    if (guard) kb_end(b);
    kb_end(b);
    return;
  }
  int64_t rest = is_list(p) ? p->pixels - (p->rows - 1) * p->lanes : p->lanes;
  each_length(e, row, p->rows - 1, p->lanes, rest, any_row_in, c, from, to);
  if (guard) kb_end(b);
  kb_end(b);
}

static void chunk_out(Emit *e, const Chunk *c) {
  KBuild *b = &e->b;
  const PixelBlocks *p = e->p;
  bool loop = p->chunk > 1, guard = p->rows % p->chunk != 0;
  Affine i = loop ? aff_var(kb_for(b, "i", 0, p->chunk, 1, FOR_SEQ)) : aff(0), row = aff_add(c->row, i);
  if (guard) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, row), kx_i(b, DT_I64, p->rows)));
  Affine from = aff_add(c->yb, aff_mul(i, p->o * p->lanes));
  Affine pixel = aff_add(aff_mul(row, p->cols), aff_mul(c->block, p->step));
  if (is_list(p)) {
    each_length(e, row, p->rows - 1, p->step, p->pixels - (p->rows - 1) * p->step, any_row_out, c, from, pixel);
  } else {
    int64_t last = blocks_per_row(p) - 1;
    each_length(e, c->block, last, p->step, p->cols - last * p->step, any_row_out, c, from, pixel);
  }
  if (guard) kb_end(b);
  if (loop) kb_end(b);
}

// rest % extent as a variable, rest becomes rest / extent.
static Affine split(Emit *e, const char *name, Affine *rest, int64_t extent) {
  KBuild *b = &e->b;
  if (extent == 1) return aff(0);
  KVar *at = kb_let(b, name, kx_op2(b, KOP_MOD, kx_index(b, *rest), kx_i(b, DT_I64, extent)));
  *rest = aff_var(kb_let(b, "rest", kx_op2(b, KOP_DIV, kx_index(b, *rest), kx_i(b, DT_I64, extent))));
  return aff_var(at);
}

static void call_inner(Emit *e, const Chunk *c, Kernel *inner) {
  KBuf *args[2 + PIXEL_INNER] = {e->xb, e->yb};
  Affine at[2 + PIXEL_INNER] = {c->xb, c->yb};
  for (uint32_t i = 0; i < e->p->n_inner; i++) {
    args[2 + i] = e->inner[i];
    at[2 + i] = aff(0);
  }
  kb_call(&e->b, inner, 2 + e->p->n_inner, args, at);
}

static void emit_chunk(Emit *e, Affine group, Affine number, Kernel *inner) {
  const PixelBlocks *p = e->p;
  Chunk c = {.xb = aff_mul(group, pixel_blocks_x_elems(p)), .yb = aff_mul(group, pixel_blocks_y_elems(p))};
  Affine rest = number;
  c.block = split(e, "block", &rest, blocks_per_row(p));
  int64_t chunks = ceil_div(p->rows, p->chunk);
  c.row = p->images == 1 ? rest : split(e, "row", &rest, chunks);
  c.row = chunks == 1 ? aff(0) : aff_mul(c.row, p->chunk);
  c.image = p->images == 1 ? aff(0) : rest;
  chunk_in(e, &c);
  call_inner(e, &c, inner);
  chunk_out(e, &c);
}

bool pixel_blocks_lower(LowerCtx *ctx, const PixelBlocks *p, Kernel *inner, double macs) {
  Emit e = {.ctx = ctx, .p = p, .side = target_lanes(ctx->target, 32)};
  if (e.side > 16) e.side = 16;
  QCC_CHECK(p->lanes % e.side == 0, "lower: blocks of %lld pixels", (long long)p->lanes);
  int64_t chunks = p->images * ceil_div(p->rows, p->chunk) * blocks_per_row(p);
  int64_t each = ceil_div(chunks, PIXEL_GROUPS), groups = ceil_div(chunks, each);
  KBuild *b = &e.b;
  kbuild_init(b, ctx->m, arena_printf(ctx->m->arena, "blocks_%u", p->op->id), p->op->loc);
  add_params(&e, groups);
  Affine group = aff_var(kb_for(b, "g", 0, groups, 1, FOR_PAR)), number = group;
  if (!p->first && price_post(p->op) > LONG_POST)
    e.rows = kb_alloc(b, "rows", pixel_blocks_type(p), 2, (int64_t[]){e.side, e.side}, SPACE_STACK);
  if (each > 1) {
    Affine lo = aff_mul(group, each), hi = aff_plus(lo, each);
    if (chunks % each != 0)
      hi = aff_var(kb_let(b, "end", kx_op2(b, KOP_MIN, kx_index(b, hi), kx_i(b, DT_I64, chunks))));
    number = aff_var(kb_for_aff(b, "q", lo, hi, 1, FOR_SEQ));
  }
  emit_chunk(&e, group, number, inner);
  if (each > 1) kb_end(b);
  kb_end(b);
  Step *step = lower_step(ctx, b, p->op, NULL, e.n_bufs, e.bufs);
  step->macs = macs;
  return true;
}
