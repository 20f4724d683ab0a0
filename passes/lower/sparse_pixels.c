// Bytes under a kernel for the strategy sparse: pictures with channels last become planes of fours, and sums pixels
// again. See sparse.h.
//
//   x [n, h, w, 4 c] => planes [n, c, plane]: for every phase of the strides its rows, the zero point around them
//
// A square of pixels and fours is loaded and stored turned; the last square of a row begins early, so that it ends with
// the row. Rows of fewer than four pixels go one by one.
#include "passes/lower/sparse.h"

typedef struct Pixels {
  SparseLower *l;
  KBuild *b;
  KBuf *from, *to;
} Pixels;

static bool has_border(const Sparse *s) {
  for (int64_t i = 0; i < sparse_phases(s); i++) {
    int64_t part[CONV_AXES] = {i / s->phases[2] / s->phases[1], i / s->phases[2] % s->phases[1], i % s->phases[2]};
    for (uint32_t a = 0; a < CONV_AXES; a++) {
      int64_t lo, hi;
      sparse_inside(s, a, part[a], &lo, &hi);
      if (lo > 0 || hi < s->phase[a]) return true;
    }
  }
  return false;
}

// `fours` planes from `to` on hold the zero point, as it is stored in them.
static void fill_planes(Pixels *p, Affine to, int64_t fours) {
  KBuild *b = p->b;
  uint32_t zero = (uint32_t)op_int(p->l->op, A_CONV_x_zero) & 0xff;
  Affine i = aff_var(kb_for(b, "z", 0, fours * p->l->plane, 1, FOR_VEC));
  kb_store1(b, p->to, aff_add(to, i), sparse_unsigned(p->l, b, kx_i(b, DT_U32, zero * 0x01010101)));
  kb_end(b);
}

// `width` pixels of x, `step` fours apart, to neighbours of `fours` planes.
static void turn_row(Pixels *p, Affine from, Affine to, int64_t width, int64_t step, int64_t fours) {
  KBuild *b = p->b;
  int64_t side = sparse_side(p->l, width, fours);
  if (side == 0) {
    Affine m = aff_var(kb_for(b, "m", 0, width, 1, FOR_SEQ)), c = aff_var(kb_for(b, "f", 0, fours, 1, FOR_SEQ));
    KExpr *x = kx_load1(b, p->from, aff_add(aff_add(from, aff_mul(m, step)), c));
    kb_store1(b, p->to, aff_add(aff_add(to, aff_mul(c, p->l->plane)), m), sparse_unsigned(p->l, b, x));
    kb_end(b);
    kb_end(b);
    return;
  }
  Affine i = sparse_squares_begin(b, width, side, FOR_SEQ), j = sparse_squares_begin(b, fours, side, FOR_SEQ);
  KBuf *tile = sparse_square(b, p->from, aff_add(aff_add(from, aff_mul(i, step)), j), step, side);
  Affine r = aff_var(kb_for(b, "r", 0, side, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
  Affine at = aff_add(aff_add(aff_add(to, aff_mul(aff_add(j, r), p->l->plane)), i), l);
  kb_store1(b, p->to, at, sparse_unsigned(p->l, b, kx_load(b, tile, (Affine[]){l, r})));
  kb_end(b);
  kb_end(b);
  sparse_squares_end(b, fours, side);
  sparse_squares_end(b, width, side);
}

// The rows of a phase: `fours` of the channels of an image, which begin at `from`; their planes begin at `to`.
static void turn_phase(Pixels *p, Affine from, Affine to, const int64_t *part, int64_t fours) {
  KBuild *b = p->b;
  const Sparse *s = &p->l->s;
  int64_t lo[CONV_AXES], hi[CONV_AXES];
  for (uint32_t a = 0; a < CONV_AXES; a++) {
    sparse_inside(s, a, part[a], &lo[a], &hi[a]);
    if (lo[a] >= hi[a]) return;
  }
  Affine at[CONV_AXES] = {aff(lo[0]), aff(lo[1]), aff(lo[2])}, pixel = aff(0), place = aff(0);
  for (uint32_t a = 0; a < 2; a++)
    if (hi[a] - lo[a] > 1) at[a] = aff_plus(aff_var(kb_for(b, a ? "h" : "d", 0, hi[a] - lo[a], 1, FOR_SEQ)), lo[a]);
  for (uint32_t a = 0; a < CONV_AXES; a++) {
    Affine x = aff_plus(aff_mul(at[a], s->stride[a]), part[a] - s->pad[a]);
    pixel = aff_add(aff_mul(pixel, s->in[a]), x);
    place = aff_add(aff_mul(place, s->phase[a]), at[a]);
  }
  turn_row(p, aff_add(from, aff_mul(pixel, s->c)), aff_add(to, place), hi[2] - lo[2], s->stride[2] * s->c, fours);
  for (uint32_t a = 0; a < 2; a++)
    if (hi[a] - lo[a] > 1) kb_end(b);
}

// Fours of channels that are done together, a divisor of all.
static int64_t block_fours(int64_t c) {
  for (int64_t n = SPARSE_SQUARE; n >= 4; n /= 2)
    if (c > n && c % n == 0) return n;
  return c;
}

void sparse_pixels(SparseLower *l, KBuild *b, KBuf *from, KBuf *to) {
  Pixels p = {l, b, from, to};
  const Sparse *s = &l->s;
  int64_t pixels = s->in[0] * s->in[1] * s->in[2], size = s->phase[0] * s->phase[1] * s->phase[2];
  int64_t fours = block_fours(s->c), blocks = s->c / fours;
  size = (size + l->lanes - 1) / l->lanes * l->lanes;
  Affine at = aff_var(kb_for(b, "p", 0, s->images * blocks, 1, FOR_PAR)), n = at, c = aff(0);
  if (blocks > 1) {
    n = aff_var(kb_let(b, "n", kx_op2(b, KOP_DIV, kx_index(b, at), kx_i(b, DT_I64, blocks))));
    c = aff_var(kb_let(b, "c", kx_op2(b, KOP_MOD, kx_index(b, at), kx_i(b, DT_I64, blocks))));
  }
  Affine first = aff_add(aff_mul(n, pixels * s->c), aff_mul(c, fours));
  Affine plane = aff_mul(aff_add(aff_mul(n, s->c), aff_mul(c, fours)), l->plane);
  if (has_border(s)) fill_planes(&p, plane, fours);
  for (int64_t i = 0; i < sparse_phases(s); i++) {
    int64_t part[CONV_AXES] = {i / s->phases[2] / s->phases[1], i / s->phases[2] % s->phases[1], i % s->phases[2]};
    turn_phase(&p, first, aff_plus(plane, i * size), part, fours);
  }
  kb_end(b);
}

// ---- results

// A row of pixels from pixel m on, whose sums of channel 0 begin at `from`, `fours` of all channels.
static void store_pixels(SparseEmit *e, Affine from, Affine m) {
  KBuild *b = &e->b;
  const SparseLower *w = e->l;
  int64_t width = w->s.out[2], o = w->s.o, side = sparse_side(w, width, INT64_MAX);
  if (side == 0) {
    Affine i = aff_var(kb_for(b, "m", 0, width, 1, FOR_SEQ)), j = aff_var(kb_for(b, "o", 0, o, 1, FOR_SEQ));
    Affine pixel = aff_add(m, i), at[2 + CONV_AXES] = {aff(0), j, aff(0), aff(0), pixel};
    KExpr *sum = kx_load1(b, e->sums, aff_add(aff_add(from, aff_mul(j, w->row)), i));
    sparse_finish(e, sum, at, aff_add(aff_mul(pixel, o), j));
    kb_end(b);
    kb_end(b);
    return;
  }
  int64_t whole = o - o % side;
  Affine i = sparse_squares_begin(b, width, side, FOR_SEQ), pixel = aff_add(m, i), at = aff_add(from, i);
  KBuf *rows = sparse_square_rows(e, side);
  if (whole > 0) {
    Affine j = whole > side ? aff_var(kb_for(b, "jb", 0, whole, side, FOR_SEQ)) : aff(0);
    sparse_store_square(e, aff_add(at, aff_mul(j, w->row)), pixel, j, side, side, rows, false);
    if (whole > side) kb_end(b);
  }
  if (whole < o) sparse_store_square(e, aff_plus(at, whole * w->row), pixel, aff(whole), side, o - whole, rows, false);
  sparse_squares_end(b, width, side);
}

void sparse_store_pixels(SparseEmit *e) {
  KBuild *b = &e->b;
  const SparseLower *w = e->l;
  const Sparse *s = &w->s;
  Affine row = aff_var(kb_for(b, "p", 0, s->images * s->out[0] * s->out[1], 1, FOR_PAR)), n = aff(0), z = aff(0),
         y = row;
  if (s->images * s->out[0] > 1) {
    y = aff_var(kb_let(b, "h", kx_op2(b, KOP_MOD, kx_index(b, row), kx_i(b, DT_I64, s->out[1]))));
    z = aff_var(kb_let(b, "d", kx_op2(b, KOP_DIV, kx_index(b, row), kx_i(b, DT_I64, s->out[1]))));
  }
  if (s->images > 1 && s->out[0] > 1) {
    n = aff_var(kb_let(b, "n", kx_op2(b, KOP_DIV, kx_index(b, z), kx_i(b, DT_I64, s->out[0]))));
    z = aff_var(kb_let(b, "d", kx_op2(b, KOP_MOD, kx_index(b, z), kx_i(b, DT_I64, s->out[0]))));
  } else if (s->images > 1) {
    n = z;
    z = aff(0);
  }
  Affine place = aff_mul(aff_add(aff_mul(z, s->phase[1]), y), s->phase[2]);
  store_pixels(e, aff_add(aff_mul(n, s->o * w->row), place), aff_mul(row, s->out[2]));
  kb_end(b);
}
