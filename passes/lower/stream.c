// The kernel of the strategy stream. See stream.h.
//
//   for columns by g vectors par { for rows of x by mr {
//     for blocks { sums = 0;  for chunks { v = stream;  for fields { c = v & mask;  sums += dot4(c, x) } }
//                  total += (sums put together - zero * sum of x) * unit * scale }
//     y = post(total + bias) } }
#include "ir/note.h"
#include "passes/lower/lower_conv.h"
#include "passes/lower/stream_emit.h"

#define MOST_UNROLLED 96  // products of vectors

typedef StreamEmit Emit;
typedef StreamTile Tile;
typedef StreamExtra Extra;

static KBuf *add_param(Emit *e, PBuf *buf) {
  e->bufs[e->n_bufs++] = buf;
  return lower_flat(&e->b, buf);
}

static KBuf *add_const(Emit *e, Value *v) { return add_param(e, lower_const(e->s->ctx, v)); }

static void add_extra(Emit *e, Value *v) {
  const Type *t = v->type;
  Extra *x = &e->extra[e->n_extra++];
  int64_t last = t->rank > 0 ? t->dims[t->rank - 1] : 1;
  *x = (Extra){.buf = add_param(e, lower_buf(e->s->ctx, v)), .step = last != 1};
  if (type_count(t) != last) x->row_step = last;
}

static KExpr *load_extra(Emit *e, const Extra *x, Affine row, Affine column) {
  return lower_load1(&e->b, x->buf, aff_add(aff_mul(row, x->row_step), aff_mul(column, x->step)));
}

// ---- loops

Affine stream_lanes(Emit *e, int64_t lanes) { return aff_var(kb_for(&e->b, "l", 0, lanes, 1, FOR_VEC)); }

static void store_reg(Emit *e, KBuf *buf, int64_t i, int64_t j, Affine lane, KExpr *value) {
  kb_store(&e->b, buf, (Affine[]){aff(i), aff(j), lane}, value);
}

KExpr *stream_reg(Emit *e, KBuf *buf, int64_t i, int64_t j, Affine lane) {
  return kx_load(&e->b, buf, (Affine[]){aff(i), aff(j), lane});
}

static void fill_reg(Emit *e, KBuf *buf) {
  for (int64_t i = 0; i < buf->dims[0]; i++)
    for (int64_t j = 0; j < buf->dims[1]; j++) {
      Affine l = stream_lanes(e, buf->dims[2]);
      DType t = buf->type;
      store_reg(e, buf, i, j, l, dtype_is_float(t) ? kx_f(&e->b, t, 0) : kx_i(&e->b, t, 0));
      kb_end(&e->b);
    }
}

// ---- integer sums

static int64_t sums_per_row(const Stream *s) {
  int64_t n = s->parts.n;
  if (s->book.n > 0) return s->book.n;
  if (!s->scaled) return n;
  n = 0;
  for (uint32_t p = 0; p < s->parts.n; p++) n += 8 / s->parts.width[p];
  return n;
}

// Field f of the vectors in t->v, below it what the sums are cleared of later.
static void take_field(Emit *e, const Tile *t, uint32_t width, uint32_t f) {
  KBuild *b = &e->b;
  int64_t mask = ((int64_t)1 << width) - 1;
  for (int64_t g = 0; g < t->g; g++) {
    Affine l = stream_lanes(e, e->s->lanes);
    KExpr *v = stream_reg(e, t->v, 0, g, l);
    if (!e->s->scaled && f > 0) v = kx_op2(b, KOP_SHR, v, kx_i(b, DT_U32, f * width));
    if (e->s->scaled) mask = (((int64_t)1 << width) - 1) << (f * width);
    if (width < 8) v = kx_op2(b, KOP_AND, v, kx_i(b, DT_U32, mask * 0x01010101));
    store_reg(e, t->c, 0, g, l, v);
    kb_end(b);
  }
}

void stream_products(Emit *e, const Tile *t, int64_t from, int64_t sum, int64_t slices, Affine x_at) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  for (int64_t r = 0; r < t->mi * s->slices; r++) {
    if (r % s->slices >= slices) continue;
    int64_t row = r / s->slices * s->blocks * s->slices + r % s->slices;
    KVar *x = kb_let(b, "x", kx_load1(b, e->x, aff_plus(x_at, row * s->padded / 4)));
    for (int64_t g = 0; g < t->g; g++) {
      Affine l = stream_lanes(e, s->lanes);
      KExpr *field = kx_view(b, DT_U8X4, stream_reg(e, t->c, from, g, l));
      KExpr *acc = stream_reg(e, t->acc, r, sum * t->g + g, l);
      store_reg(e, t->acc, r, sum * t->g + g, l, kx_op3(b, KOP_DOT4, acc, field, kx_var(b, x)));
      kb_end(b);
    }
  }
}

// Dwords of the stream from one group of vectors to the next.
static int64_t group_dwords(const Emit *e, const Tile *t) { return (t->g - 1) * e->s->lanes + t->tail; }

static void load_vectors(Emit *e, const Tile *t, Affine w_at) {
  for (int64_t g = 0; g < t->g; g++) {
    Affine l = stream_lanes(e, e->s->lanes);
    store_reg(e, t->v, 0, g, l, kx_load1(&e->b, e->w, aff_plus(aff_add(w_at, l), g * e->s->lanes)));
    kb_end(&e->b);
  }
}

// Chunk number `chunk` of the stream (counted over blocks), at `x_at` in x.
static void sum_chunk(Emit *e, const Tile *t, Affine chunk, Affine x_at) {
  const Stream *s = e->s;
  int64_t vector = group_dwords(e, t), first = 0, sum = 0;
  Affine w_at = aff_add(t->w, aff_mul(chunk, stream_groups(s) * vector));
  for (uint32_t p = 0; p < s->parts.n; p++) {
    uint32_t width = s->parts.width[p], fields = 8 / width;
    int64_t groups = s->parts.chunk * width / 32;
    Affine j = groups > 1 ? aff_var(kb_for(&e->b, "j", 0, groups, 1, FOR_SEQ)) : aff(0);
    load_vectors(e, t, aff_plus(aff_add(w_at, aff_mul(j, vector)), first * vector));
    for (uint32_t f = 0; f < fields; f++) {
      take_field(e, t, width, f);
      stream_products(e, t, 0, s->scaled ? sum + f : sum, s->slices, aff_plus(aff_add(x_at, aff_mul(j, fields)), f));
    }
    if (groups > 1) kb_end(&e->b);
    first += groups;
    sum += s->scaled ? fields : 1;
  }
}

// The sum of codes times x of one row and slice: every sum shifted to where its field belongs.
static KExpr *whole_sum(Emit *e, const Tile *t, int64_t r, int64_t g, Affine l) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  KExpr *whole = NULL;
  int64_t sum = 0;
  uint32_t below = 0;
  for (uint32_t p = 0; p < s->parts.n; p++) {
    uint32_t width = s->parts.width[p], sums = s->scaled ? 8 / width : 1;
    KExpr *part = NULL;
    for (uint32_t f = 0; f < sums; f++, sum++) {
      KExpr *v = stream_reg(e, t->acc, r, sum * t->g + g, l);
      if (f > 0) v = kx_op2(b, KOP_SHR, v, kx_i(b, DT_I32, f * width));
      part = part == NULL ? v : kx_op2(b, KOP_ADD, part, v);
    }
    if (below > 0) part = kx_op2(b, KOP_SHL, part, kx_i(b, DT_I32, below));
    whole = whole == NULL ? part : kx_op2(b, KOP_ADD, whole, part);
    below += width;
  }
  return s->w.step == 1 ? whole : kx_op2(b, KOP_MUL, whole, kx_i(b, DT_I32, s->w.step));
}

// Adds (value of code 0 - zero point) * sum of x.
static KExpr *add_zero(Emit *e, const Tile *t, KExpr *value, KVar *sum, Affine params, int64_t g, Affine l) {
  KBuild *b = &e->b;
  if (sum == NULL) return value;
  KExpr *by = kx_var(b, sum);
  if (e->zero != NULL) {
    KExpr *z = kx_load1(b, e->zero, aff_plus(aff_add(params, l), g * e->s->lanes));
    by = kx_op2(b, KOP_MUL, kx_cast(b, DT_I32, z), by);
  }
  (void)t;
  return kx_op2(b, KOP_ADD, value, by);
}

// ---- the sums of a block, as floats

static int64_t code_zero(const Stream *s) {
  if (s->book.n > 0) return -STREAM_BOOK_ZERO;
  return s->w.lo - (s->w.zero.at == NULL ? 0 : (int64_t)lowbit_param(s->ctx->m, &s->w.zero, 0, 0));
}

// The sum of x of one row and slice, times what code 0 stands for unless that differs from column to column.
static KVar *sum_of_x(Emit *e, Affine at) {
  KBuild *b = &e->b;
  if (e->sums == NULL) return NULL;
  KExpr *sum = kx_load1(b, e->sums, at);
  if (e->zero == NULL) sum = kx_op2(b, KOP_MUL, sum, kx_i(b, DT_I32, code_zero(e->s)));
  return kb_let(b, "sx", sum);
}

// The sum of one row and slice as a float.
static KExpr *slice_sum(Emit *e, const Tile *t, int64_t r, KVar *sum, Affine params, int64_t g, Affine l) {
  if (e->s->book.n > 0) return stream_book_sum(e, t, r, g, sum, l);
  return kx_cast(&e->b, DT_F32, add_zero(e, t, whole_sum(e, t, r, g, l), sum, params, g, l));
}

// What the sums of a block are multiplied with.
static KExpr *block_scale(Emit *e, Affine at) {
  const Stream *s = e->s;
  if (s->book.n > 0) return kx_f(&e->b, DT_F32, s->book.unit);
  if (e->scale != NULL) return kx_load1(&e->b, e->scale, at);
  return kx_f(&e->b, DT_F32, lowbit_param(s->ctx->m, &s->w.scale, 0, 0));
}

static void add_block(Emit *e, const Tile *t, Affine block) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  Affine params = aff_add(t->params, aff_mul(block, t->g * s->lanes));
  for (int64_t m = 0; m < t->mi; m++) {
    Affine at = aff_mul(aff_add(aff_mul(aff_plus(t->row, m), s->blocks), block), s->slices);
    KVar *sum[3] = {NULL}, *unit[3];
    for (int64_t i = 0; i < s->slices; i++) {
      sum[i] = sum_of_x(e, aff_plus(at, i));
      unit[i] = kb_let(b, "unit", kx_load1(b, e->units, aff_plus(at, i)));
    }
    for (int64_t g = 0; g < t->g; g++) {
      Affine l = stream_lanes(e, s->lanes);
      KExpr *value = NULL;
      for (int64_t i = s->slices; i-- > 0;) {  // small ones first
        KExpr *f = slice_sum(e, t, m * s->slices + i, sum[i], params, g, l), *u = kx_var(b, unit[i]);
        value = value == NULL ? kx_op2(b, KOP_MUL, f, u) : kx_op3(b, KOP_FMA, f, u, value);
      }
      KExpr *scale = block_scale(e, aff_plus(aff_add(params, l), g * s->lanes));
      store_reg(e, t->total, m, g, l, kx_op3(b, KOP_FMA, value, scale, stream_reg(e, t->total, m, g, l)));
      kb_end(b);
    }
  }
}

// ---- strict floats

// total += x * (code as a float, less its zero point, times its scale), one k after the other.
static void strict_chunk(Emit *e, const Tile *t, Affine chunk, Affine x_at, Affine params) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  uint32_t width = s->parts.width[0], fields = 8 / width;
  int64_t mask = ((int64_t)1 << width) - 1, row = s->blocks * s->padded;
  load_vectors(e, t, aff_add(t->w, aff_mul(chunk, group_dwords(e, t))));
  for (int64_t i = 0; i < 4 * fields; i++) {
    KVar *x[8];
    for (int64_t m = 0; m < t->mi; m++) x[m] = kb_let(b, "x", kx_load1(b, e->x, aff_plus(x_at, m * row + i)));
    for (int64_t g = 0; g < t->g; g++) {
      Affine l = stream_lanes(e, s->lanes), at = aff_plus(aff_add(params, l), g * s->lanes);
      KExpr *code = stream_reg(e, t->v, 0, g, l), *shift = kx_i(b, DT_U32, i % 4 * 8 + i / 4 * width);
      code = kx_op2(b, KOP_AND, kx_op2(b, KOP_SHR, code, shift), kx_i(b, DT_U32, mask));
      KExpr *v = kx_op2(b, KOP_MUL, kx_view(b, DT_I32, code), kx_i(b, DT_I32, s->w.step));
      KExpr *zero = e->zero != NULL ? kx_cast(b, DT_I32, kx_load1(b, e->zero, at)) : kx_i(b, DT_I32, code_zero(s));
      KExpr *scale =
          e->scale != NULL ? kx_load1(b, e->scale, at) : kx_f(b, DT_F32, lowbit_param(s->ctx->m, &s->w.scale, 0, 0));
      KExpr *f = kx_op2(b, KOP_MUL, kx_cast(b, DT_F32, kx_op2(b, KOP_ADD, v, zero)), scale);
      KVar *w = kb_let(b, "w", f);
      for (int64_t m = 0; m < t->mi; m++) {
        KExpr *sum = lower_mul_add(s->ctx, b, kx_var(b, x[m]), kx_var(b, w), stream_reg(e, t->total, m, g, l));
        store_reg(e, t->total, m, g, l, sum);
      }
      kb_end(b);
    }
  }
}

// ---- a tile

static void store_results(Emit *e, const Tile *t) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  const Func *post = op_post(s->op);
  for (int64_t m = 0; m < t->mi; m++) {
    Affine row = aff_plus(t->row, m);
    KVar *sum = s->w.scaled ? NULL : sum_of_x(e, row);
    for (int64_t g = 0; g < t->g; g++) {
      Affine l = stream_lanes(e, g + 1 < t->g ? s->lanes : t->tail);
      Affine column = aff_plus(aff_add(t->column, l), g * s->lanes);
      KExpr *value =
          s->w.scaled ? stream_reg(e, t->total, m, g, l) : add_zero(e, t, whole_sum(e, t, m, g, l), sum, aff(0), g, l);
      if (e->columns != NULL) value = kx_op2(b, KOP_ADD, value, kx_load1(b, e->columns, column));
      if (e->has_bias) value = kx_op2(b, KOP_ADD, value, load_extra(e, &e->extra[0], row, column));
      if (post != NULL) {
        KExpr *args[STREAM_MAX_EXTRA + 1] = {value};
        for (uint32_t i = e->has_bias; i < e->n_extra; i++)
          args[1 + i - e->has_bias] = load_extra(e, &e->extra[i], row, column);
        value = lower_body(b, post, args);
      }
      lower_store1(b, e->y, aff_add(aff_mul(row, s->w.n), column), value);
      kb_end(b);
    }
  }
}

// Chunks of one block.
static void emit_chunks(Emit *e, const Tile *t, Affine block) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  int64_t chunks = s->padded / s->parts.chunk, unit = s->strict ? 1 : 4;
  int64_t x_row = s->blocks * s->slices * s->padded / unit;
  Affine x_at = aff_add(aff_mul(t->row, x_row), aff_mul(block, s->slices * s->padded / unit));
  Affine first = aff_mul(block, chunks), params = aff_add(t->params, aff_mul(block, t->g * s->lanes));
  // Long straight code would be reordered until its values no longer fit registers.
  int64_t products = s->padded / 4 * t->g * t->mi * s->slices;
  bool loop = chunks > 1, copies = chunks <= 4 && products <= MOST_UNROLLED && s->parts.n == 1;
  Affine c = loop ? aff_var(kb_for(b, "c", 0, chunks, 1, copies ? FOR_UNROLL : FOR_SEQ)) : aff(0);
  x_at = aff_add(x_at, aff_mul(c, s->parts.chunk / unit));
  if (s->strict) {
    strict_chunk(e, t, aff_add(first, c), x_at, params);
  } else if (s->book.n > 0) {
    stream_book_chunk(e, t, aff_add(t->w, aff_mul(aff_add(first, c), group_dwords(e, t))), x_at);
  } else {
    sum_chunk(e, t, aff_add(first, c), x_at);
  }
  if (loop) kb_end(b);
}

static void emit_tile(Emit *e, Tile t) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  int64_t lanes = s->lanes;
  t.v = kb_alloc(b, "v", DT_U32, 3, (int64_t[]){1, t.g, lanes}, SPACE_REG);
  if (s->book.n > 0) {
    stream_book_alloc(e, &t);
  } else if (!s->strict) {
    t.c = kb_alloc(b, "c", DT_U32, 3, (int64_t[]){1, t.g, lanes}, SPACE_REG);
  }
  if (!s->strict)
    t.acc = kb_alloc(b, "acc", DT_I32, 3, (int64_t[]){t.mi * s->slices, sums_per_row(s) * t.g, lanes}, SPACE_REG);
  if (s->w.scaled) {
    t.total = kb_alloc(b, "total", DT_F32, 3, (int64_t[]){t.mi, t.g, lanes}, SPACE_REG);
    fill_reg(e, t.total);
  }
  Affine block = s->blocks > 1 ? aff_var(kb_for(b, "block", 0, s->blocks, 1, FOR_SEQ)) : aff(0);
  if (!s->strict) fill_reg(e, t.acc);
  emit_chunks(e, &t, block);
  if (s->w.scaled && !s->strict) add_block(e, &t, block);
  if (s->blocks > 1) kb_end(b);
  store_results(e, &t);
}

static void emit_rows(Emit *e, Tile t) {
  const Stream *s = e->s;
  int64_t whole = s->rows - s->rows % s->mr;
  if (whole > 0) {
    bool loop = whole > s->mr;
    t.mi = s->mr;
    t.row = loop ? aff_var(kb_for(&e->b, "m", 0, whole, s->mr, FOR_SEQ)) : aff(0);
    emit_tile(e, t);
    if (loop) kb_end(&e->b);
  }
  if (whole == s->rows) return;
  t.mi = s->rows - whole;
  t.row = aff(whole);
  emit_tile(e, t);
}

// The tile of column block `at`, whose vectors are full but for the last one.
static void emit_columns(Emit *e, Affine at, int64_t g, int64_t tail) {
  const Stream *s = e->s;
  int64_t per_vector = s->blocks * s->padded / s->parts.chunk * stream_groups(s) * s->lanes;
  Tile t = {.g = g, .tail = tail};
  t.w = aff_mul(at, s->g * per_vector);
  t.params = aff_mul(at, s->g * s->blocks * s->lanes);
  t.column = aff_mul(at, s->g * s->lanes);
  emit_rows(e, t);
}

static void emit_all(Emit *e) {
  KBuild *b = &e->b;
  const Stream *s = e->s;
  int64_t width = s->g * s->lanes, full = s->w.n / width, rest = s->w.n - full * width;
  int64_t vectors = (rest + s->lanes - 1) / s->lanes;
  Affine at = aff_var(kb_for(b, "p", 0, full + (rest > 0), 1, FOR_PAR));
  if (full > 0 && rest > 0) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, at), kx_i(b, DT_I64, full)));
  if (full > 0) emit_columns(e, at, s->g, s->lanes);
  if (full > 0 && rest > 0) kb_else(b);
  if (rest > 0) emit_columns(e, aff(full), vectors, rest - (vectors - 1) * s->lanes);
  if (full > 0 && rest > 0) kb_end(b);
  kb_end(b);
}

// ---- the op

static bool is_uniform(Module *m, const LowBitParam *p) {
  double v;
  return p->at == NULL || const_is_splat(m, p->at, &v);
}

// Integers: what x less its zero point differs from the bytes multiplied, times the sum of each column.
static Value *column_sums(const Stream *s, int64_t x_zero) {
  Module *m = s->ctx->m;
  int64_t by = (op_in(s->op, 0)->type->dtype == DT_U8 ? 128 : 0) - x_zero;
  if (s->w.scaled || by == 0) return NULL;
  const Type *t = type_tensor(m->types, DT_I32, 1, &s->w.n);
  int32_t *sums = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t n = 0; n < s->w.n; n++) {
    int64_t sum = 0;
    for (int64_t k = 0; k < s->w.k; k++) sum += s->w.lo + s->w.step * (int64_t)lowbit_code(m, &s->w, k, n);
    sums[n] = (int32_t)(uint32_t)(uint64_t)(by * sum);
  }
  return const_borrowed(m, t, sums, NULL);
}

static void emit_params(Emit *e, PBuf *weights, PBuf *y) {
  Stream *s = e->s;
  Module *m = s->ctx->m;
  e->x = add_param(e, s->x);
  int64_t fours = type_count(s->x->type) / 4;
  if (!s->strict) e->x = kb_view(&e->b, e->x, "x4", DT_I8X4, 1, &fours);
  e->w = add_param(e, weights);
  e->y = add_param(e, y);
  if (s->sums != NULL) e->sums = add_param(e, s->sums);
  if (s->units != NULL) e->units = add_param(e, s->units);
  if (s->book.n > 0) stream_book_params(e);
  if (s->w.scaled && !is_uniform(m, &s->w.scale)) e->scale = add_const(e, stream_pack_param(s, &s->w.scale, false));
  if (!is_uniform(m, &s->w.zero)) e->zero = add_const(e, stream_pack_param(s, &s->w.zero, true));
  Value *columns = column_sums(s, op_int(s->op, A_MATMUL_x_zero));
  if (columns != NULL) e->columns = add_const(e, columns);
  e->has_bias = op_in(s->op, 2) != NULL;
  if (e->has_bias) add_extra(e, op_in(s->op, 2));
  uint32_t first = op_info(OP_MATMUL)->max_in;
  for (uint32_t i = 0; i < op_n_post(s->op); i++) add_extra(e, op_in(s->op, first + i));
}

static void note_stream(const Stream *s) {
  static const char *const error[] = {"", "2^-7", "2^-15", "2^-22"};
  Module *m = s->ctx->m;
  if (!s->w.scaled) {
    note_layer(m, s->op, NOTE_RECOVERED, "weights stored in %u bits each", s->w.bits);
    return;
  }
  if (s->book.n > 0) {
    stream_book_note(s);
    return;
  }
  const char *scales = s->blocks > 1 ? "a block" : is_uniform(m, &s->w.scale) ? "all" : "a column";
  if (s->strict) {
    note_layer(m, s->op, NOTE_RECOVERED,
               "weights stored in %u bits each, a scale for %s; widened to floats in registers", s->w.bits, scales);
    return;
  }
  note_layer(
      m, s->op, NOTE_RECOVERED,
      "weights stored in %u bits each, a scale for %s; x as %lld slices of bytes, to within %s of the largest of a "
      "block",
      s->w.bits, scales, (long long)s->slices, error[s->slices]);
}

bool lower_stream(LowerCtx *ctx, const Op *op, const MatmulGeom *g, const Plan *plan) {
  Stream s = {.ctx = ctx, .op = op, .rows = g->m};
  if (!lowbit_of(op, &s.w))
    return diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
                      "plan 'stream' reads weights of at most 8 bits, but operand 1 is neither a constant of such "
                      "integers nor a dequantize of one; use another plan");
  for (uint32_t i = 0; i < g->n_batch; i++) s.rows *= g->batch[i];
  s.strict = s.w.scaled && ctx->opt != NULL && ctx->opt->strict_fp;
  if (!stream_book(&s)) return false;
  s.slices = s.w.scaled && !s.strict ? plan_param(plan, "slices", 3) : 1;
  s.scaled = plan_param(plan, "scaled", 0) != 0;
  s.parts = s.book.n > 0 ? lowbit_book_parts(&s.w) : lowbit_parts(&s.w, s.strict);
  s.lanes = target_lanes(ctx->target, 32);
  s.vectors = (s.w.n + s.lanes - 1) / s.lanes;
  s.g = plan_param(plan, "g", 1);
  s.mr = plan_param(plan, "mr", 1);
  s.blocks = lowbit_blocks(&s.w);
  s.padded = (s.w.block + s.parts.chunk - 1) / s.parts.chunk * s.parts.chunk;
  s.has_sums = !s.strict && (code_zero(&s) != 0 || !is_uniform(ctx->m, &s.w.zero));
  Value *weights = stream_pack(&s);
  if (weights == NULL) return diag_error(ctx->m->diag, DIAG_LIMIT, op->loc, "packed weights are past the size limit");
  note_stream(&s);
  stream_stage_x(&s, lower_buf(ctx, op_in(op, 0)));
  Emit e = {.s = &s};
  kbuild_init(&e.b, ctx->m, arena_printf(ctx->m->arena, "matmul_%u", op->id), op->loc);
  emit_params(&e, lower_const(ctx, weights), lower_buf(ctx, op_out(op, 0)));
  emit_all(&e);
  Step *step = lower_step(ctx, &e.b, op, NULL, e.n_bufs, e.bufs);
  step->strategy = plan->strategy;
  step->macs = (double)s.rows * (double)s.w.k * (double)s.w.n;
  return true;
}
