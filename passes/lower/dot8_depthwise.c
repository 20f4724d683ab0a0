// Depthwise convolution of bytes by dot products: the taps of one column of the window lie in a vector, four rows of x
// interleaved, lanes along channels.
//
//   word(x)[c] = x[row 0][column x][c], x[row 1][..][c], x[row 2][..][c], x[row 3][..][c]
//   y[o][x][c] = sum over kx of dot4(word(x + kx)[c], weights[o][kx][c])
//
// A tile of `outs` rows by `mi` columns of the result shares the words: with a 3x3 window and stride 1, two rows of the
// result read the same four rows by the weights (w0 w1 w2 0) and (0 w0 w1 w2). More rows than four are a loop over
// words. Padding is made of words: a table names the row of x of every row of a tile, and which bytes of a word are the
// zero point instead. Columns of padding are known here. The bias takes the zero point back as everywhere (dot8.h).
#include "passes/lower/dot8.h"
#include "passes/lower/lower_conv.h"
#include "passes/lower/open.h"

#include "ir/elem.h"

#define MAX_ROWS 32
#define MAX_CODE 4000  // a function has at most 5,000 operations (split.c)

typedef struct Depthwise {
  LowerCtx *ctx;
  KBuild b;
  const Op *op;
  const ConvGeom *g;
  KBuf *x, *w, *y, *bias, *rows, *fill;
  PostParams pp;
  int64_t lanes, outs, mi;   // of a tile: lanes, rows and columns of the result
  int64_t n_rows, words;     // rows of x of a tile; words of four rows
  int64_t offset[MAX_ROWS];  // of the rows, from the first row of the window, ascending
  int64_t tiles;             // of rows
  int64_t zero;              // of bytes as they are multiplied (dot8_move)
  bool moves;                // these are not those that are stored
  DType four;                // lanes of four of them
  bool overlaps;             // results may be written twice
  bool post_again;
} Depthwise;

typedef struct DwTile {
  int64_t mi, left, lanes;      // columns; column of x under the first tap
  bool known;                   // left is known: columns outside of x are padding; else all exist
  Affine row, column, channel;  // of the result
  Affine n, number;             // image; number of the tile
  Affine word;
  Affine x_row[4];    // of the word: first element of the rows of x
  KVar *keep, *fill;  // of the word: the bits that are x; the zero point in the others
  KBuf *acc;
} DwTile;

// ---- the shape of tiles

static bool has_offset(const Depthwise *d, int64_t offset) {
  for (int64_t i = 0; i < d->n_rows; i++)
    if (d->offset[i] == offset) return true;
  return false;
}

// The rows that `outs` rows of the result read. False: too many.
static bool set_rows(Depthwise *d, int64_t outs) {
  const ConvGeom *g = d->g;
  int64_t reach = (outs - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1];
  d->outs = outs;
  d->n_rows = 0;
  for (int64_t offset = 0; offset <= reach; offset++) {
    bool read = false;
    for (int64_t o = 0; o < outs && !read; o++) {
      int64_t tap = offset - o * g->stride[1];
      read = tap >= 0 && tap % g->dilation[1] == 0 && tap / g->dilation[1] < g->kernel[1];
    }
    if (!read || has_offset(d, offset)) continue;
    if (d->n_rows == MAX_ROWS) return false;
    d->offset[d->n_rows++] = offset;
  }
  d->words = (d->n_rows + 3) / 4;
  return true;
}

// The kernel row that row `out` of a tile takes from row number `row`, or -1.
static int64_t kernel_row(const Depthwise *d, int64_t out, int64_t row) {
  if (row >= d->n_rows) return -1;
  int64_t tap = d->offset[row] - out * d->g->stride[1];
  if (tap < 0 || tap % d->g->dilation[1] != 0 || tap / d->g->dilation[1] >= d->g->kernel[1]) return -1;
  return tap / d->g->dilation[1];
}

// Operations per result of a tile; making a word costs about as much as four products.
static double tile_cost(const Depthwise *d, int64_t mi) {
  double products = (double)(d->outs * d->words * d->g->kernel[2] * mi);
  return (products + 4.0 * (double)(d->words * depthwise_window(d->g, mi))) / (double)(mi * d->outs);
}

// Cost of a row of tiles, the last one narrower.
static double row_cost(const Depthwise *d, int64_t mi) {
  int64_t out = d->g->out[2], rest = out % mi;
  return tile_cost(d, mi) * (double)(out - rest) + (rest > 0 ? tile_cost(d, rest) * (double)rest : 0);
}

// Operations of the kernel, about.
static int64_t code_size(Depthwise *d, int64_t mi) {
  const Func *post = op_post(d->op);
  int64_t body = 8, size = 0, end;
  for (const Op *op = post != NULL ? post->first : NULL; op != NULL; op = op->next) body += 3;
  d->mi = mi;
  for (int64_t column = 0; column < d->g->out[2]; column = end) {
    depthwise_tiles(d->g, d->mi, column, &end, &mi);
    size += 24 * depthwise_window(d->g, mi) + 5 * d->outs * d->g->kernel[2] * mi + d->outs * mi * body;
  }
  return d->g->c > d->lanes && d->g->c % d->lanes != 0 && !d->overlaps ? 2 * size : size;
}

// Rows and columns of a tile: the cheapest whose sums leave half of the registers and whose code is not too long.
static bool choose_tile(Depthwise *d) {
  int64_t sums = d->ctx->target->n_vregs / 2, best_outs = 0, best_mi = 1;
  double best = 0;
  for (int64_t outs = 1; outs <= 4 && outs <= d->g->out[1]; outs++) {
    if (!set_rows(d, outs)) break;
    if (!d->overlaps && d->g->out[1] % outs != 0) continue;
    for (int64_t mi = 1; mi <= d->g->out[2] && mi * outs <= sums; mi++) {
      if (code_size(d, mi) > MAX_CODE) continue;
      double cost = row_cost(d, mi);
      if (best_outs > 0 && cost >= best * 0.995) continue;
      best = cost;
      best_outs = outs;
      best_mi = mi;
    }
  }
  if (best_outs == 0) return false;
  d->mi = best_mi;
  d->tiles = (d->g->out[1] + best_outs - 1) / best_outs;
  return set_rows(d, best_outs);
}

// First result row of a tile: the last one overlaps the one before.
static int64_t tile_row(const Depthwise *d, int64_t tile) {
  int64_t row = tile * d->outs, last = d->g->out[1] - d->outs;
  return row < last ? row : last;
}

// ---- constants

// Weights [out][word][kx][channel], four bytes each; `map` becomes the element of each, -1 for none.
static Value *make_weights(const Depthwise *d, int32_t **map) {
  const ConvGeom *g = d->g;
  Module *m = d->ctx->m;
  const void *w = const_data(m, op_in(d->op, 1)->constant);
  int64_t count = d->outs * d->words * g->kernel[2] * g->c * 4, at = 0;
  const Type *t = type_tensor(m->types, DT_I8, 1, &count);
  void *bytes = arena_alloc(m->arena, (size_t)count);
  *map = NEW_ARRAY(m->arena, int32_t, count);
  for (int64_t o = 0; o < d->outs; o++)
    for (int64_t word = 0; word < d->words; word++)
      for (int64_t kx = 0; kx < g->kernel[2]; kx++)
        for (int64_t c = 0; c < 4 * g->c; c++) {
          int64_t ky = kernel_row(d, o, 4 * word + c % 4);
          int64_t from = ky < 0 ? -1 : (ky * g->kernel[2] + kx) * g->c + c / 4;
          (*map)[at] = (int32_t)from;
          elem_set_i(bytes, DT_I8, at++, from < 0 ? 0 : elem_get_i(w, DT_I8, from));
        }
  return const_borrowed(m, t, bytes, NULL);
}

static int64_t input_row(const Depthwise *d, int64_t tile, int64_t row) {
  int64_t number = row < d->n_rows ? row : d->n_rows - 1;
  return tile_row(d, tile) * d->g->stride[1] - d->g->pad[1] + d->offset[number];
}

static bool row_exists(const Depthwise *d, int64_t tile, int64_t row) {
  int64_t at = input_row(d, tile, row);
  return at >= 0 && at < d->g->in[1];
}

// Per tile: its first result row, then the first element of each row of x; rows of padding name any row.
static Value *make_rows(const Depthwise *d) {
  Module *m = d->ctx->m;
  int64_t per = 1 + 4 * d->words, count = d->tiles * per;
  const Type *t = type_tensor(m->types, DT_I64, 1, &count);
  int64_t *v = NEW_ARRAY(m->arena, int64_t, count);
  for (int64_t tile = 0; tile < d->tiles; tile++) {
    v[tile * per] = tile_row(d, tile);
    for (int64_t i = 0; i < 4 * d->words; i++) {
      int64_t row = row_exists(d, tile, i) ? input_row(d, tile, i) : 0;
      v[tile * per + 1 + i] = row * d->g->in[2] * d->g->c;
    }
  }
  return const_borrowed(m, t, v, NULL);
}

// Per tile and word: the bits that are x, then the zero point in the others. NULL when every row exists.
static Value *make_fill(const Depthwise *d) {
  Module *m = d->ctx->m;
  int64_t count = d->tiles * d->words * 2;
  const Type *t = type_tensor(m->types, DT_U32, 1, &count);
  uint32_t *v = NEW_ARRAY(m->arena, uint32_t, count);
  bool any = false;
  for (int64_t i = 0; i < d->tiles * d->words; i++) {
    v[2 * i] = UINT32_MAX;
    for (int64_t byte = 0; byte < 4; byte++) {
      if (row_exists(d, i / d->words, i % d->words * 4 + byte)) continue;
      v[2 * i] &= ~(UINT32_C(0xff) << 8 * byte);
      v[2 * i + 1] |= ((uint32_t)d->zero & 255) << 8 * byte;
      any = true;
    }
  }
  return any ? const_borrowed(m, t, v, NULL) : NULL;
}

// ---- code

static Affine plus(Affine a, Affine b) { return aff_add(a, b); }

// Four rows of x interleaved at a column of the window.
static KExpr *load_word(Depthwise *d, const DwTile *t, int64_t ix, Affine l) {
  KBuild *b = &d->b;
  KExpr *all = NULL;
  Affine column = aff_mul(aff_plus(aff_mul(t->column, d->g->stride[2]), ix - d->g->pad[2]), d->g->c);
  for (int64_t i = 0; i < 4; i++) {
    Affine at = plus(plus(t->x_row[i], column), plus(t->channel, l));
    KExpr *byte = kx_cast(b, DT_U32, kx_load(b, d->x, &at));
    if (i > 0) byte = kx_op2(b, KOP_SHL, byte, kx_i(b, DT_U32, 8 * i));
    all = i > 0 ? kx_op2(b, KOP_OR, all, byte) : byte;
  }
  if (d->moves) all = kx_op2(b, KOP_XOR, all, kx_i(b, DT_U32, 0x80808080));
  if (t->keep == NULL) return all;
  all = kx_op2(b, KOP_AND, all, kx_var(b, t->keep));
  return kx_op2(b, KOP_OR, all, kx_var(b, t->fill));
}

static KExpr *padding_word(Depthwise *d) { return kx_i(&d->b, DT_U32, (d->zero & 255) * 0x01010101); }

// Every product of the word at window column `ix`.
static void emit_products(Depthwise *d, const DwTile *t, int64_t ix, Affine l) {
  KBuild *b = &d->b;
  const ConvGeom *g = d->g;
  bool exists = !t->known || (t->left + ix >= 0 && t->left + ix < g->in[2]);
  KVar *x = NULL;
  for (int64_t kx = 0; kx < g->kernel[2]; kx++) {
    int64_t column = ix - kx * g->dilation[2];
    if (column < 0 || column % g->stride[2] != 0 || column / g->stride[2] >= t->mi) continue;
    for (int64_t o = 0; o < d->outs; o++) {
      if (x == NULL) x = kb_let(b, "xw", kx_view(b, d->four, exists ? load_word(d, t, ix, l) : padding_word(d)));
      Affine acc[2] = {aff(o * t->mi + column / g->stride[2]), l};
      Affine w = aff_plus(plus(t->channel, l), (o * d->words * g->kernel[2] + kx) * g->c);
      w = plus(w, aff_mul(t->word, g->kernel[2] * g->c));
      KExpr *sum = kx_op3(b, KOP_DOT4, kx_load(b, t->acc, acc), kx_var(b, x), kx_load(b, d->w, &w));
      kb_store(b, t->acc, acc, sum);
    }
  }
}

static void emit_start(Depthwise *d, const DwTile *t) {
  KBuild *b = &d->b;
  Affine i = aff_var(kb_for(b, "i", 0, d->outs * t->mi, 1, FOR_UNROLL));
  Affine l = aff_var(kb_for(b, "l", 0, t->lanes, 1, FOR_VEC)), acc[2] = {i, l}, at = plus(t->channel, l);
  kb_store(b, t->acc, acc, d->bias != NULL ? kx_load(b, d->bias, &at) : kx_i(b, DT_I32, 0));
  kb_end(b);
  kb_end(b);
}

// Where a result of a tile lies: row o, column i, channel l.
static void result_index(const Depthwise *d, const DwTile *t, Affine o, Affine i, Affine l, Affine *idx) {
  uint32_t rank = op_out(d->op, 0)->type->rank;
  for (uint32_t a = 0; a < rank; a++) idx[a] = aff(0);
  idx[0] = t->n;
  idx[rank - 1] = plus(t->channel, l);
  idx[rank - 2] = plus(t->column, i);
  if (rank > 3) idx[rank - 3] = plus(t->row, o);
}

// A result of the tile; `again` applies a long post function to what was stored.
static void emit_out(Depthwise *d, const DwTile *t, Affine o, Affine i, Affine l, bool again) {
  KBuild *b = &d->b;
  Affine idx[MAX_RANK], acc[2] = {plus(aff_mul(o, t->mi), i), l};
  result_index(d, t, o, i, l, idx);
  KExpr *value = again ? lower_load(b, d->y, idx) : kx_load(b, t->acc, acc);
  if (again || !d->post_again) value = lower_post(b, &d->pp, value, idx);
  lower_store(b, d->y, idx, value);
}

static void emit_again(Depthwise *d, const DwTile *t) {
  KBuild *b = &d->b;
  KVar *o = kb_for(b, "o", 0, d->outs, 1, FOR_SEQ), *i = kb_for(b, "i", 0, t->mi, 1, FOR_SEQ);
  KVar *l = kb_for(b, "l", 0, t->lanes, 1, FOR_VEC);
  emit_out(d, t, aff_var(o), aff_var(i), aff_var(l), true);
  for (int k = 0; k < 3; k++) kb_end(b);
}

// Post operand `which` of four results, in a register buffer as the sums are.
static KBuf *group_operand(Depthwise *d, const DwTile *t, uint32_t which, int64_t pixel) {
  KBuild *b = &d->b;
  KBuf *from = d->pp.buf[which];
  const Type *type = op_in(d->op, op_info(d->op->kind)->max_in + which)->type;
  KBuf *to = kb_alloc(b, "by", lower_compute_type(from->type), 1, (int64_t[]){4 * t->lanes}, SPACE_REG);
  for (int64_t i = 0; i < 4; i++) {
    Affine l = aff_var(kb_for(b, "l", 0, t->lanes, 1, FOR_VEC)), idx[MAX_RANK], at[MAX_RANK];
    result_index(d, t, aff((pixel + i) / t->mi), aff((pixel + i) % t->mi), l, idx);
    lower_broadcast_idx(type, op_out(d->op, 0)->type->rank, idx, at);
    kb_store1(b, to, aff_plus(l, i * t->lanes), lower_load(b, from, at));
    kb_end(b);
  }
  return to;
}

// Four neighbouring results become bytes together.
static void emit_group(Depthwise *d, const DwTile *t, KBuf *sums, int64_t pixel) {
  KBuild *b = &d->b;
  KBuf *bytes = kb_alloc(b, "bytes", d->y->type, 1, (int64_t[]){4 * t->lanes}, SPACE_REG), *by[16];
  for (uint32_t i = 0; i < d->pp.n; i++) by[i] = group_operand(d, t, i, pixel);
  Affine l = aff_var(kb_for(b, "l", 0, 4 * t->lanes, 1, FOR_VEC));
  KExpr *args[17] = {kx_load1(b, sums, aff_plus(l, pixel * t->lanes))};
  for (uint32_t i = 0; i < d->pp.n; i++) args[1 + i] = kx_load1(b, by[i], l);
  lower_store1(b, bytes, l, op_post(d->op) != NULL ? lower_body(b, op_post(d->op), args) : args[0]);
  kb_end(b);
  for (int64_t i = 0; i < 4; i++) {
    Affine idx[MAX_RANK];
    l = aff_var(kb_for(b, "l", 0, t->lanes, 1, FOR_VEC));
    result_index(d, t, aff((pixel + i) / t->mi), aff((pixel + i) % t->mi), l, idx);
    kb_store(b, d->y, idx, kx_load1(b, bytes, aff_plus(l, i * t->lanes)));
    kb_end(b);
  }
}

static void emit_outs(Depthwise *d, const DwTile *t) {
  KBuild *b = &d->b;
  int64_t pixels = d->outs * t->mi, sums = pixels * t->lanes, done = 0;
  bool bytes = dtype_info(d->y->type)->bits == 8 && !d->post_again && t->lanes == d->lanes && t->lanes <= 16;
  if (bytes && pixels >= 4) {
    KBuf *flat = kb_view(b, t->acc, "sums", DT_I32, 1, &sums);
    for (; done + 4 <= pixels; done += 4) emit_group(d, t, flat, done);
  }
  for (; done < pixels; done++) {
    Affine l = aff_var(kb_for(b, "l", 0, t->lanes, 1, FOR_VEC));
    emit_out(d, t, aff(done / t->mi), aff(done % t->mi), l, false);
    kb_end(b);
  }
  if (d->post_again) emit_again(d, t);
}

// What the tables say about a word.
static void read_word(Depthwise *d, DwTile *t, Affine word) {
  static const char *const names[4] = {"r0", "r1", "r2", "r3"};
  KBuild *b = &d->b;
  Affine image = aff_mul(t->n, d->g->in[1] * d->g->in[2] * d->g->c);
  t->word = word;
  for (int64_t i = 0; i < 4; i++) {
    Affine at = aff_plus(plus(aff_mul(t->number, 1 + 4 * d->words), aff_mul(word, 4)), 1 + i);
    t->x_row[i] = plus(aff_var(kb_let(b, names[i], kx_load(b, d->rows, &at))), image);
  }
  if (d->fill == NULL) return;
  Affine keep = plus(aff_mul(t->number, 2 * d->words), aff_mul(word, 2)), fill = aff_plus(keep, 1);
  t->keep = kb_let(b, "keep", kx_load(b, d->fill, &keep));
  t->fill = kb_let(b, "fill", kx_load(b, d->fill, &fill));
}

// Channels [t.channel, + t.lanes) of a tile.
static void emit_channels(Depthwise *d, DwTile t) {
  KBuild *b = &d->b;
  t.acc = kb_alloc(b, "acc", DT_I32, 2, (int64_t[]){d->outs * t.mi, t.lanes}, SPACE_REG);
  emit_start(d, &t);
  if (d->words > 1) read_word(d, &t, aff_var(kb_for(b, "q", 0, d->words, 1, FOR_SEQ)));
  Affine l = aff_var(kb_for(b, "l", 0, t.lanes, 1, FOR_VEC));
  for (int64_t ix = 0; ix < depthwise_window(d->g, t.mi); ix++) emit_products(d, &t, ix, l);
  kb_end(b);
  if (d->words > 1) kb_end(b);
  emit_outs(d, &t);
}

// Whole vectors, then a shorter one; where results may be written twice, a whole one that ends with the last channel.
static void emit_all_channels(Depthwise *d, DwTile t) {
  KBuild *b = &d->b;
  int64_t c = d->g->c, whole = c / d->lanes * d->lanes;
  bool again = d->overlaps && whole > 0 && whole < c;
  int64_t end = again ? c : whole;
  t.lanes = d->lanes;
  if (end > 0) {
    bool loop = end > d->lanes;
    t.channel = loop ? aff_var(kb_for(b, "c", 0, end, d->lanes, FOR_SEQ)) : aff(0);
    if (again) {
      KExpr *last = kx_i(b, DT_I64, c - d->lanes);
      t.channel = aff_var(kb_let(b, "ch", kx_op2(b, KOP_MIN, kx_index(b, t.channel), last)));
    }
    emit_channels(d, t);
    if (loop) kb_end(b);
  }
  if (end < c) {
    t.channel = aff(end);
    t.lanes = c - end;
    emit_channels(d, t);
  }
}

static void emit_columns(Depthwise *d, DwTile t) {
  for (int64_t column = 0, end; column < d->g->out[2]; column = end) {
    t.known = depthwise_tiles(d->g, d->mi, column, &end, &t.mi);
    bool loop = end > column + t.mi;
    t.left = column * d->g->stride[2] - d->g->pad[2];
    t.column = loop ? aff_var(kb_for(&d->b, "m", column, end, t.mi, FOR_SEQ)) : aff(column);
    emit_all_channels(d, t);
    if (loop) kb_end(&d->b);
  }
}

static void emit_depthwise(Depthwise *d) {
  KBuild *b = &d->b;
  KVar *p = kb_for(b, "p", 0, d->g->n * d->tiles, 1, FOR_PAR);
  DwTile t = {.n = aff(0)};
  Affine tile = aff_var(p);
  if (d->g->n > 1) {
    t.n = aff_var(kb_let(b, "n", kx_op2(b, KOP_DIV, kx_index(b, tile), kx_i(b, DT_I64, d->tiles))));
    tile = aff_var(kb_let(b, "t", kx_op2(b, KOP_MOD, kx_index(b, tile), kx_i(b, DT_I64, d->tiles))));
  }
  t.number = tile;
  Affine first = aff_mul(tile, 1 + 4 * d->words);
  t.row = aff_var(kb_let(b, "row", kx_load(b, d->rows, &first)));
  if (d->words == 1) read_word(d, &t, aff(0));
  emit_columns(d, t);
  kb_end(b);
}

static KBuf *flat_param(Depthwise *d, const char *name, PBuf *buf, uint32_t *n, PBuf **bufs) {
  int64_t count = type_count(buf->type);
  bufs[(*n)++] = buf;
  return kb_param(&d->b, name, buf->type->dtype, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_ARG);
}

// x and the weights as the kernel reads them: unsigned bytes, words.
static void view_operands(Depthwise *d) {
  int64_t x_count = d->x->dims[0], w_count = d->w->dims[0] / 4;
  if (d->x->type == DT_I8) d->x = kb_view(&d->b, d->x, "xu", DT_U8, 1, &x_count);
  d->w = kb_view(&d->b, d->w, "w4", DT_I8X4, 1, &w_count);
}

// What is known before code: the tile. False where dot products cannot be used.
static bool describe(Depthwise *d, LowerCtx *ctx, const Op *op, const ConvGeom *g) {
  const Value *w = op_in(op, 1), *bias = op_in(op, 2);
  DType x = op_in(op, 0)->type->dtype;
  *d = (Depthwise){.ctx = ctx, .op = op, .g = g, .lanes = target_lanes(ctx->target, 32)};
  if (!ctx->target->has_dot4 || (x != DT_U8 && x != DT_I8) || w->type->dtype != DT_I8) return false;
  if (!value_is_const(w) || (bias != NULL && !value_is_const(bias)) || lower_arithmetic_type(op) != DT_I32)
    return false;
  int64_t move = dot8_move(ctx->target, x);
  d->zero = op_int(op, A_CONV_x_zero) + move;
  d->moves = move != 0;
  d->four = (x == DT_I8) == d->moves ? DT_U8X4 : DT_I8X4;
  d->overlaps = !lower_operand_may_alias(op);
  d->post_again = lower_post_again(op, DT_I32);
  return choose_tile(d);
}

bool dot8_depthwise_applies(LowerCtx *ctx, const Op *op, const ConvGeom *g) {
  Depthwise d;
  return describe(&d, ctx, op, g);
}

bool lower_dot8_depthwise(LowerCtx *ctx, const Op *op, const ConvGeom *g, const Plan *plan) {
  Depthwise d;
  int64_t taps = g->kernel[1] * g->kernel[2];
  PBuf *bufs[8];
  uint32_t n = 0;
  int32_t *map;
  QCC_CHECK(describe(&d, ctx, op, g), "not a depthwise convolution of bytes");
  Nest sums = {.op = op, .x_zero = op_int(op, A_CONV_x_zero)};
  Value *bias = dot8_bias(ctx, &sums, taps, g->c, g->c, 1), *fill = make_fill(&d);
  kbuild_init(&d.b, ctx->m, arena_printf(ctx->m->arena, "conv_%u", op->id), op->loc);
  d.x = flat_param(&d, "x", lower_buf(ctx, op_in(op, 0)), &n, bufs);
  PackedWeights packed = {.op = op, .from = op_in(op, 1)->constant};
  packed.buf = lower_const(ctx, make_weights(&d, &map));
  packed.map = map;
  open_remember(ctx, &packed);
  d.w = flat_param(&d, "w", packed.buf, &n, bufs);
  bufs[n++] = lower_buf(ctx, op_out(op, 0));
  d.y = lower_param(&d.b, bufs[n - 1], SPACE_ARG);
  d.rows = flat_param(&d, "rows", lower_const(ctx, make_rows(&d)), &n, bufs);
  if (fill != NULL) d.fill = flat_param(&d, "fill", lower_const(ctx, fill), &n, bufs);
  if (bias != NULL) d.bias = flat_param(&d, "bias", lower_const(ctx, bias), &n, bufs);
  view_operands(&d);
  d.pp = lower_post_params(ctx, &d.b, op);
  emit_depthwise(&d);
  Step *step = lower_step(ctx, &d.b, op, &d.pp, n, bufs);
  step->strategy = plan->strategy;
  step->macs = (double)type_count(op_out(op, 0)->type) * (double)taps;
  return true;
}
