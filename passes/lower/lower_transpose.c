// transpose. When the innermost axis stays innermost it is a walk with vector copies. Otherwise the two axes that are
// contiguous in the source and in the result are walked in square blocks that stay in the first-level cache, the
// result's axis unrolled, so that every cache line of the source is read once.
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
  for (uint32_t i = 0; i + 1 < walk.rank; i++) {
    if (walk.stride[1][i] == 1) return transpose_blocks(ctx, op, &walk, i, to, of);
  }
  return walk_copy(ctx, op, &walk, to, of);
}
