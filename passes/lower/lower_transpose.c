// transpose. When the innermost axis stays innermost it is a walk with vector copies. Otherwise the two axes that are
// contiguous in the source and in the result are walked in square blocks that stay in the first-level cache, the
// result's axis unrolled, so that every cache line of the source is read once. A channel shuffle (2, 4 or 8 elements
// innermost in the result) is done on words that hold them together.
#include "passes/lower/walk.h"

#define BLOCK 16

typedef struct Blocks {
  const Walk *walk;
  uint32_t i, j;  // loops contiguous in the source and in the result
  KBuf *y, *x;
  Affine y0, x0;
} Blocks;

static void element(const Blocks *s, KBuild *b, Affine i, Affine j) {
  const Walk *w = s->walk;
  Affine y = aff_add(s->y0, aff_add(aff_mul(i, w->stride[0][s->i]), j));
  Affine x = aff_add(s->x0, aff_add(i, aff_mul(j, w->stride[1][s->j])));
  kb_store1(b, s->y, y, kx_load1(b, s->x, x));
}

// Rows [i0, i0 + ni) of columns [j0, j0 + nj).
static void block(const Blocks *s, KBuild *b, Affine i0, int64_t ni, Affine j0, int64_t nj, bool unroll) {
  KVar *i = kb_for(b, "i", 0, ni, 1, FOR_SEQ), *j = kb_for(b, "j", 0, nj, 1, unroll ? FOR_UNROLL : FOR_SEQ);
  element(s, b, aff_add(i0, aff_var(i)), aff_add(j0, aff_var(j)));
  kb_end(b);
  kb_end(b);
}

static void stripe(const Blocks *s, KBuild *b, Affine i0, int64_t ni) {
  int64_t n = s->walk->dims[s->j], side = n < BLOCK ? n : BLOCK, whole = n - n % side;
  bool loop = whole > side;
  Affine j = loop ? aff_var(kb_for(b, "jb", 0, whole, side, FOR_SEQ)) : aff(0);
  block(s, b, i0, ni, j, side, true);
  if (loop) kb_end(b);
  if (whole < n) block(s, b, i0, ni, aff(whole), n - whole, false);
}

static void blocked(Blocks *s, KBuild *b) {
  const Walk *w = s->walk;
  KForKind kind = walk_count(w) >= 8192 ? FOR_PAR : FOR_SEQ;
  uint32_t opened = 0;
  s->y0 = aff(w->first[0]);
  s->x0 = aff(w->first[1]);
  for (uint32_t l = 0; l < w->rank; l++) {
    if (l == s->i || l == s->j) continue;
    KVar *v = kb_for(b, "o", 0, w->dims[l], 1, kind);
    s->y0 = aff_add(s->y0, aff_term(v, w->stride[0][l]));
    s->x0 = aff_add(s->x0, aff_term(v, w->stride[1][l]));
    kind = FOR_SEQ;
    opened++;
  }
  int64_t n = w->dims[s->i], whole = n - n % BLOCK;
  if (whole && whole < n && kind == FOR_PAR) {  // the par loop is alone: the rest is its last iteration
    KVar *i = kb_for(b, "ib", 0, n, BLOCK, kind);
    kb_if(b, kx_op2(b, KOP_LT, kx_index(b, aff_var(i)), kx_i(b, DT_I64, whole)));
    stripe(s, b, aff_var(i), BLOCK);
    kb_else(b);
    stripe(s, b, aff(whole), n - whole);
    kb_end(b);
    kb_end(b);
  } else {
    if (whole) {
      KVar *i = kb_for(b, "ib", 0, whole, BLOCK, kind);
      stripe(s, b, aff_var(i), BLOCK);
      kb_end(b);
    }
    if (whole < n) stripe(s, b, aff(whole), n - whole);
  }
  while (opened--) kb_end(b);
}

static bool transpose_blocks(LowerCtx *ctx, const Op *op, const Walk *walk, uint32_t i, PBuf *y, PBuf *x) {
  Blocks s = {.walk = walk, .i = i, .j = walk->rank - 1};
  KBuild b;
  lower_begin(ctx, &b, op);
  s.y = lower_flat(&b, y);
  s.x = lower_flat(&b, x);
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
  for (uint32_t i = 0; i + 1 < walk.rank; i++) {
    if (walk.stride[1][i] == 1) return transpose_blocks(ctx, op, &walk, i, to, of);
  }
  return walk_copy(ctx, op, &walk, to, of);
}
