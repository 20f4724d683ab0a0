// transpose. When the innermost axis stays innermost it is a walk with vector copies. Otherwise the two axes that are
// contiguous in the source and in the result are walked in blocks: squares go through a register tile, written by rows
// and read by columns (the backend makes shuffles of that); what is left is copied element by element, in blocks that
// stay in the first-level cache. Three planes side by side, the colours of an image, go through a register
// tile that is read as it lies in the result. Bytes go by blocks of 16 by as many as a vector holds, the last ones of a
// row and of a column over those before. A channel shuffle (2, 4 or 8 elements innermost in the result) is done on
// words that hold them together.
#include "passes/lower/walk.h"

#define BLOCK 16  // most elements of a side of a block

typedef struct Blocks {
  const Walk *walk;
  uint32_t i, j;  // loops contiguous in the source and in the result
  int64_t side;   // of a square block; of bytes: the widest tile
  bool vectors;   // the target has some: bytes may go in tiles
  KBuf *y, *x;
  Affine y0, x0;
} Blocks;

static Affine y_at(const Blocks *s, Affine i, Affine j) {
  return aff_add(s->y0, aff_add(aff_mul(i, s->walk->stride[0][s->i]), j));
}

static Affine x_at(const Blocks *s, Affine i, Affine j) {
  return aff_add(s->x0, aff_add(i, aff_mul(j, s->walk->stride[1][s->j])));
}

// A square block through registers: its rows are read and its columns written by vectors.
static void square(const Blocks *s, KBuild *b, Affine i0, Affine j0) {
  KBuf *tile = kb_alloc(b, "tile", s->x->type, 2, (int64_t[]){s->side, s->side}, SPACE_REG);
  Affine r = aff_var(kb_for(b, "r", 0, s->side, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, s->side, 1, FOR_VEC));
  kb_store(b, tile, (Affine[]){r, l}, kx_load1(b, s->x, x_at(s, aff_add(i0, l), aff_add(j0, r))));
  kb_end(b);
  kb_end(b);
  r = aff_var(kb_for(b, "r", 0, s->side, 1, FOR_UNROLL));
  l = aff_var(kb_for(b, "l", 0, s->side, 1, FOR_VEC));
  kb_store1(b, s->y, y_at(s, aff_add(i0, r), aff_add(j0, l)), kx_load(b, tile, (Affine[]){l, r}));
  kb_end(b);
  kb_end(b);
}

// Any rectangle, element by element.
static void rectangle(const Blocks *s, KBuild *b, Affine i0, int64_t ni, Affine j0, int64_t nj) {
  KVar *i = kb_for(b, "i", 0, ni, 1, FOR_SEQ), *j = kb_for(b, "j", 0, nj, 1, nj <= BLOCK ? FOR_UNROLL : FOR_SEQ);
  Affine at_i = aff_add(i0, aff_var(i)), at_j = aff_add(j0, aff_var(j));
  kb_store1(b, s->y, y_at(s, at_i, at_j), kx_load1(b, s->x, x_at(s, at_i, at_j)));
  kb_end(b);
  kb_end(b);
}

// Rows [i0, i0 + ni), all columns.
static void stripe(const Blocks *s, KBuild *b, Affine i0, int64_t ni) {
  int64_t n = s->walk->dims[s->j], side = s->side ? s->side : n < BLOCK ? n : BLOCK, whole = n - n % side;
  bool loop = whole > side;
  if (whole) {
    Affine j = loop ? aff_var(kb_for(b, "jb", 0, whole, side, FOR_SEQ)) : aff(0);
    if (s->side == ni) {
      square(s, b, i0, j);
    } else {
      rectangle(s, b, i0, ni, j, side);
    }
    if (loop) kb_end(b);
  }
  if (whole < n) rectangle(s, b, i0, ni, aff(whole), n - whole);
}

// Vectors that fill at most 16 registers, where both sides are long enough; 0: no squares.
static int64_t square_side(LowerCtx *ctx, const Walk *w, uint32_t i, DType t) {
  int64_t lanes = target_lanes(ctx->target, dtype_info(t)->bits), shorter = w->dims[w->rank - 1];
  if (ctx->target->vector_bits < 128) return 0;
  if (w->dims[i] < shorter) shorter = w->dims[i];
  for (lanes = lanes < BLOCK ? lanes : BLOCK; lanes >= 4; lanes /= 2) {
    if (lanes <= shorter && lanes * 2 <= ctx->target->n_vregs) return lanes;
  }
  return 0;
}

// A par loop is alone in its kernel: the rest is its last iteration.
static void par_stripes(const Blocks *s, KBuild *b, int64_t n, int64_t side) {
  int64_t whole = n - n % side;
  Affine i = aff_var(kb_for(b, "ib", 0, n, side, FOR_PAR));
  if (whole < n) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, i), kx_i(b, DT_I64, whole)));
  stripe(s, b, i, side);
  if (whole < n) {
    kb_else(b);
    stripe(s, b, aff(whole), n - whole);
    kb_end(b);
  }
  kb_end(b);
}

static void stripes(const Blocks *s, KBuild *b, bool par) {
  int64_t n = s->walk->dims[s->i], side = s->side ? s->side : BLOCK, whole = n - n % side;
  if (par && whole) {
    par_stripes(s, b, n, side);
    return;
  }
  if (whole) {
    stripe(s, b, aff_var(kb_for(b, "ib", 0, whole, side, FOR_SEQ)), side);
    kb_end(b);
  }
  if (whole < n) stripe(s, b, aff(whole), n - whole);
}

// ---- bytes: the unpacking instructions work in groups of 16

// `n` columns of the result by 16 rows; the tile has a row per column, and a column is read as a whole vector.
static void byte_tile(const Blocks *s, KBuild *b, Affine i0, Affine j0, int64_t n) {
  KBuf *tile = kb_alloc(b, "tile", s->x->type, 2, (int64_t[]){n, 16}, SPACE_REG);
  Affine r = aff_var(kb_for(b, "r", 0, n, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, 16, 1, FOR_VEC));
  kb_store(b, tile, (Affine[]){r, l}, kx_load1(b, s->x, x_at(s, aff_add(i0, l), aff_add(j0, r))));
  kb_end(b);
  kb_end(b);
  r = aff_var(kb_for(b, "r", 0, 16, 1, FOR_UNROLL));
  l = aff_var(kb_for(b, "l", 0, n, 1, FOR_VEC));
  kb_store1(b, s->y, y_at(s, aff_add(i0, r), aff_add(j0, l)), kx_load(b, tile, (Affine[]){l, r}));
  kb_end(b);
  kb_end(b);
}

// All columns of 16 rows: wide tiles, narrower ones, and one that ends with the last column.
static void byte_stripe(const Blocks *s, KBuild *b, Affine i0) {
  int64_t n = s->walk->dims[s->j], done = 0;
  for (int64_t width = s->side; width >= 16; width /= 2) {
    int64_t end = done + (n - done) / width * width;
    if (end == done) continue;
    bool loop = end > done + width;
    byte_tile(s, b, i0, loop ? aff_var(kb_for(b, "jb", done, end, width, FOR_SEQ)) : aff(done), width);
    if (loop) kb_end(b);
    done = end;
  }
  if (done < n) byte_tile(s, b, i0, aff(n - 16), 16);
}

static void byte_stripes(const Blocks *s, KBuild *b, bool par) {
  int64_t n = s->walk->dims[s->i];
  Affine i = aff_var(kb_for(b, "ib", 0, n, 16, par ? FOR_PAR : FOR_SEQ));
  if (n % 16 != 0) i = aff_var(kb_let(b, "i0", kx_op2(b, KOP_MIN, kx_index(b, i), kx_i(b, DT_I64, n - 16))));
  byte_stripe(s, b, i);
  kb_end(b);
}

static bool by_bytes(const Blocks *s) {
  const Walk *w = s->walk;
  return s->vectors && dtype_info(s->x->type)->bits == 8 && s->x->type != DT_BOOL && w->dims[s->i] >= 16 &&
         w->dims[s->j] >= 16;
}

static void blocked(Blocks *s, KBuild *b) {
  const Walk *w = s->walk;
  bool par = walk_count(w) >= 8192;
  uint32_t opened = 0;
  s->y0 = aff(w->first[0]);
  s->x0 = aff(w->first[1]);
  for (uint32_t l = 0; l < w->rank; l++) {
    if (l == s->i || l == s->j) continue;
    KVar *v = kb_for(b, "o", 0, w->dims[l], 1, par && !opened ? FOR_PAR : FOR_SEQ);
    s->y0 = aff_add(s->y0, aff_term(v, w->stride[0][l]));
    s->x0 = aff_add(s->x0, aff_term(v, w->stride[1][l]));
    opened++;
  }
  if (by_bytes(s)) {
    byte_stripes(s, b, par && !opened);
  } else {
    stripes(s, b, par && !opened);
  }
  while (opened--) kb_end(b);
}

static bool transpose_blocks(LowerCtx *ctx, const Op *op, const Walk *walk, uint32_t i, PBuf *y, PBuf *x) {
  Blocks s = {.walk = walk, .i = i, .j = walk->rank - 1, .side = square_side(ctx, walk, i, x->type->dtype)};
  s.vectors = ctx->target->vector_bits >= 128;
  KBuild b;
  lower_begin(ctx, &b, op);
  s.y = lower_flat(&b, y);
  s.x = lower_flat(&b, x);
  if (by_bytes(&s)) s.side = target_lanes(ctx->target, 8);
  blocked(&s, &b);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}

// ---- few elements innermost in the result: they are put together in one word

typedef struct Words {
  KBuf *y, *x;  // y seen as words
  DType element, word;
  int64_t n, bits;  // elements per word, bits of an element
} Words;

static DType unsigned_of(int64_t bits) {
  return bits == 8 ? DT_U8 : bits == 16 ? DT_U16 : bits == 32 ? DT_U32 : bits == 64 ? DT_U64 : DT_NONE;
}

static void word_body(void *ctx, KBuild *b, const Affine *at) {
  const Words *w = ctx;
  KExpr *word = NULL;
  for (int64_t j = 0; j < w->n; j++) {
    KExpr *bits = kx_view(b, w->element, kx_load1(b, w->x, at[1 + j]));
    KExpr *part = kx_cast(b, w->word, bits);
    if (j) part = kx_op2(b, KOP_SHL, part, kx_i(b, w->word, j * w->bits));
    word = word ? kx_op2(b, KOP_OR, word, part) : part;
  }
  kb_store1(b, w->y, at[0], word);
}

// Interleaves n = 2, 4 or 8 rows when n elements make a word and the loop before is contiguous in the source.
static bool can_interleave(const Walk *walk, DType t) {
  int64_t bits = dtype_info(t)->bits, n = walk->dims[walk->rank - 1];
  if (t == DT_BOOL || (n & (n - 1)) || n * bits > 64 || walk->rank < 2) return false;
  uint32_t i = walk->rank - 2;
  return walk->stride[1][i] == 1 && walk->stride[0][i] == n && walk->dims[i] >= 8;
}

static bool interleave(LowerCtx *ctx, const Op *op, const Walk *walk, PBuf *y, PBuf *x) {
  uint32_t last = walk->rank - 1;
  Words w = {.n = walk->dims[last], .bits = dtype_info(y->type->dtype)->bits};
  int64_t strides[WALK_LOOPS], count = type_count(y->type) / w.n;
  Walk words;
  KBuild b;
  w.element = unsigned_of(w.bits);
  w.word = unsigned_of(w.bits * w.n);
  for (uint32_t l = 0; l < last; l++) strides[l] = walk->stride[0][l] / w.n;
  walk_init(&words, last, walk->dims);
  walk_result(&words, 0, strides);
  for (int64_t j = 0; j < w.n; j++) walk_operand(&words, j * walk->stride[1][last], walk->stride[1]);
  walk_collapse(&words);
  lower_begin(ctx, &b, op);
  w.y = kb_view(&b, lower_flat(&b, y), "words", w.word, 1, &count);
  w.x = lower_flat(&b, x);
  walk_emit(&b, &words, true, NULL, word_body, &w);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}

// ---- three planes side by side: a register tile written by planes, read as it lies in y

typedef struct Planes {
  KBuf *y, *x;
  int64_t n, plane, lanes;  // planes, elements between them in x, positions of a tile
  Affine y0, x0;
} Planes;

static void emit_planes(const Planes *s, KBuild *b, Affine at, int64_t lanes) {
  int64_t all = lanes * s->n;
  KBuf *tile = kb_alloc(b, "tile", s->x->type, 2, (int64_t[]){lanes, s->n}, SPACE_REG);
  KBuf *flat = kb_view(b, tile, "flat", s->x->type, 1, &all);
  Affine c = aff_var(kb_for(b, "c", 0, s->n, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  kb_store(b, tile, (Affine[]){l, c}, kx_load1(b, s->x, aff_add(aff_add(s->x0, at), aff_add(l, aff_mul(c, s->plane)))));
  kb_end(b);
  kb_end(b);
  Affine i = aff_var(kb_for(b, "i", 0, all, 1, FOR_VEC));
  kb_store1(b, s->y, aff_add(aff_add(s->y0, aff_mul(at, s->n)), i), kx_load1(b, flat, i));
  kb_end(b);
}

// Images outside, positions inside; few elements in a row at the end are a narrower tile.
static bool interleave_planes(LowerCtx *ctx, const Op *op, const Walk *walk, PBuf *y, PBuf *x) {
  uint32_t last = walk->rank - 1, i = last - 1;
  Planes s = {.n = walk->dims[last], .plane = walk->stride[1][last]};
  int64_t n = walk->dims[i], whole;
  s.lanes = target_lanes(ctx->target, dtype_info(x->type->dtype)->bits);
  if (s.lanes > BLOCK) s.lanes = BLOCK;
  whole = n - n % s.lanes;
  KBuild b;
  lower_begin(ctx, &b, op);
  s.y = lower_flat(&b, y);
  s.x = lower_flat(&b, x);
  s.y0 = aff(walk->first[0]);
  s.x0 = aff(walk->first[1]);
  for (uint32_t l = 0; l < i; l++) {
    KVar *v = kb_for(&b, "o", 0, walk->dims[l], 1, FOR_SEQ);
    s.y0 = aff_add(s.y0, aff_term(v, walk->stride[0][l]));
    s.x0 = aff_add(s.x0, aff_term(v, walk->stride[1][l]));
  }
  KVar *p = kb_for(&b, "p", 0, n, s.lanes, i == 0 && n * s.n >= 8192 ? FOR_PAR : FOR_SEQ);
  if (whole < n) kb_if(&b, kx_op2(&b, KOP_LT, kx_index(&b, aff_var(p)), kx_i(&b, DT_I64, whole)));
  emit_planes(&s, &b, aff_var(p), s.lanes);
  if (whole < n) {
    kb_else(&b);
    emit_planes(&s, &b, aff(whole), n - whole);
    kb_end(&b);
  }
  for (uint32_t l = 0; l <= i; l++) kb_end(&b);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}

// Three planes, over long rows of positions that are neighbours in both.
static bool has_three_planes(LowerCtx *ctx, const Walk *walk, DType t) {
  if (walk->rank < 2 || t == DT_BOOL || dtype_info(t)->bits > 32) return false;
  uint32_t last = walk->rank - 1, i = last - 1;
  int64_t n = walk->dims[last];
  return n == 3 && walk->stride[1][i] == 1 && walk->stride[0][i] == n && walk->dims[i] >= BLOCK &&
         2 * n <= ctx->target->n_vregs;
}

bool lower_transpose(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  int64_t from[MAX_RANK], strides[MAX_RANK];
  dense_strides(x->rank, x->dims, from);
  for (uint32_t i = 0; i < x->rank; i++) strides[i] = from[op_ints_at(op, A_TRANSPOSE_perm, i, i)];
  PBuf *to = lower_buf(ctx, op_out(op, 0)), *of = lower_buf(ctx, op_in(op, 0));
  Walk walk;
  walk_init(&walk, y->rank, y->dims);
  walk_operand(&walk, 0, strides);
  walk_collapse(&walk);
  if (walk.rank && can_interleave(&walk, y->dtype)) return interleave(ctx, op, &walk, to, of);
  if (has_three_planes(ctx, &walk, y->dtype)) return interleave_planes(ctx, op, &walk, to, of);
  bool few = walk.rank && walk.stride[1][walk.rank - 1] <= 4;  // vector loads with a stride
  for (uint32_t i = 0; i + 1 < walk.rank && !few; i++) {
    if (walk.stride[1][i] == 1) return transpose_blocks(ctx, op, &walk, i, to, of);
  }
  return walk_copy(ctx, op, &walk, to, of);
}
