// What the strategy sparse does to x before the product and to its sums after it. See sparse.h.
//
//   channels first   planes with zeros around them, one part per phase of the strides     [n, c, h, w] => [n, c, plane]
//   channels last    planes are the columns of x, sums the columns of y                   [m, c] => [c, plane]
#include "passes/lower/sparse.h"
#include "passes/price.h"

#define MOST_POST 6  // operations after a sum that are copied for every row of a square

// ---- channels first

typedef struct Planes {
  SparseLower *l;
  KBuild b;
  KBuf *from, *to;
} Planes;

void sparse_inside(const Sparse *s, uint32_t axis, int64_t part, int64_t *lo, int64_t *hi) {
  int64_t step = s->stride[axis], first = part - s->pad[axis];  // place a is element first + a * step
  *lo = first >= 0 ? 0 : (-first + step - 1) / step;
  *hi = first >= s->in[axis] ? 0 : (s->in[axis] - first + step - 1) / step;
  if (*hi > s->phase[axis]) *hi = s->phase[axis];
  if (*lo > *hi) *lo = *hi;
}

static void fill_zero(Planes *p, Affine at, int64_t count) {
  if (count <= 0) return;
  Affine i = aff_var(kb_for(&p->b, "z", 0, count, 1, FOR_VEC));
  kb_store1(&p->b, p->to, aff_add(at, i), kx_f(&p->b, DT_F32, 0));
  kb_end(&p->b);
}

// Rows of zeros, one row after the other.
static void fill_rows(Planes *p, Affine at, int64_t rows) { fill_zero(p, at, rows * p->l->s.phase[2]); }

// One row of a phase; `from`: element 0 of the row of x.
static void copy_row(Planes *p, Affine from, Affine to, int64_t part) {
  const Sparse *s = &p->l->s;
  int64_t lo, hi;
  sparse_inside(s, 2, part, &lo, &hi);
  fill_zero(p, to, lo);
  if (lo < hi) {
    Affine i = aff_var(kb_for(&p->b, "i", 0, hi - lo, 1, FOR_VEC));
    Affine at = aff_plus(aff_add(from, aff_mul(i, s->stride[2])), part - s->pad[2] + lo * s->stride[2]);
    kb_store1(&p->b, p->to, aff_plus(aff_add(to, i), lo), kx_load1(&p->b, p->from, at));
    kb_end(&p->b);
  }
  fill_zero(p, aff_plus(to, hi), s->phase[2] - hi);
}

// The rows of one phase at one depth.
static void copy_rows(Planes *p, Affine from, Affine to, const int64_t *part) {
  const Sparse *s = &p->l->s;
  int64_t lo, hi;
  sparse_inside(s, 1, part[1], &lo, &hi);
  fill_rows(p, to, lo);
  if (lo < hi) {
    Affine y = aff_var(kb_for(&p->b, "y", 0, hi - lo, 1, FOR_SEQ));
    Affine row = aff_plus(aff_mul(y, s->stride[1]), part[1] - s->pad[1] + lo * s->stride[1]);
    Affine at = aff_add(to, aff_mul(aff_plus(y, lo), s->phase[2]));
    copy_row(p, aff_add(from, aff_mul(row, s->in[2])), at, part[2]);
    kb_end(&p->b);
  }
  fill_rows(p, aff_add(to, aff(hi * s->phase[2])), s->phase[1] - hi);
}

static void copy_phase(Planes *p, Affine from, Affine to, const int64_t *part) {
  const Sparse *s = &p->l->s;
  int64_t lo, hi, slice = s->phase[1];
  sparse_inside(s, 0, part[0], &lo, &hi);
  fill_rows(p, to, lo * slice);
  if (lo < hi) {
    bool loop = s->phase[0] > 1;
    Affine z = loop ? aff_var(kb_for(&p->b, "d", 0, hi - lo, 1, FOR_SEQ)) : aff(0);
    Affine depth = aff_plus(aff_mul(z, s->stride[0]), part[0] - s->pad[0] + lo * s->stride[0]);
    Affine at = aff_add(to, aff_mul(aff_plus(z, lo), slice * s->phase[2]));
    copy_rows(p, aff_add(from, aff_mul(depth, s->in[1] * s->in[2])), at, part);
    if (loop) kb_end(&p->b);
  }
  fill_rows(p, aff_plus(to, hi * slice * s->phase[2]), (s->phase[0] - hi) * slice);
}

static void planes_first(Planes *p) {
  const Sparse *s = &p->l->s;
  int64_t image = s->in[0] * s->in[1] * s->in[2], size = s->phase[0] * s->phase[1] * s->phase[2];
  size = (size + p->l->lanes - 1) / p->l->lanes * p->l->lanes;
  Affine c = aff_var(kb_for(&p->b, "c", 0, s->images * s->c, 1, FOR_PAR));
  for (int64_t i = 0; i < sparse_phases(s); i++) {
    int64_t part[CONV_AXES] = {i / s->phases[2] / s->phases[1], i / s->phases[2] % s->phases[1], i % s->phases[2]};
    copy_phase(p, aff_mul(c, image), aff_plus(aff_mul(c, p->l->plane), i * size), part);
  }
  kb_end(&p->b);
}

// ---- squares: lanes of rows become lanes of columns

KBuf *sparse_square(KBuild *b, KBuf *from, Affine at, int64_t step, int64_t side) {
  KBuf *tile = kb_alloc(b, "tile", from->type, 2, (int64_t[]){side, side}, SPACE_REG);
  Affine r = aff_var(kb_for(b, "r", 0, side, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
  kb_store(b, tile, (Affine[]){r, l}, kx_load1(b, from, aff_add(aff_add(at, aff_mul(r, step)), l)));
  kb_end(b);
  kb_end(b);
  return tile;
}

int64_t sparse_side(const SparseLower *l, int64_t rows, int64_t columns) {
  int64_t side = l->lanes < SPARSE_SQUARE ? l->lanes : SPARSE_SQUARE;
  while (side >= 4 && (side > rows || side > columns || side * 2 > l->ctx->target->n_vregs)) side /= 2;
  return side >= 4 ? side : 0;
}

Affine sparse_squares_begin(KBuild *b, int64_t n, int64_t side, KForKind kind) {
  if (n == side) return aff(0);
  Affine i = aff_var(kb_for(b, "ib", 0, n, side, kind));
  if (n % side != 0) i = aff_var(kb_let(b, "i0", kx_op2(b, KOP_MIN, kx_index(b, i), kx_i(b, DT_I64, n - side))));
  return i;
}

void sparse_squares_end(KBuild *b, int64_t n, int64_t side) {
  if (n != side) kb_end(b);
}

KExpr *sparse_unsigned(const SparseLower *l, KBuild *b, KExpr *x) {
  bool is_signed = l->s.bytes && op_in(l->op, 0)->type->dtype == DT_I8;
  return is_signed ? kx_op2(b, KOP_XOR, x, kx_i(b, DT_U32, 0x80808080)) : x;
}

static void planes_last(Planes *p) {
  KBuild *b = &p->b;
  const Sparse *s = &p->l->s;
  int64_t c = s->c, m = s->positions, side = sparse_side(p->l, m, INT64_MAX);
  if (side == 0 || c < side) {
    Affine i = aff_var(kb_for(b, "c", 0, c, 1, FOR_PAR)), j = aff_var(kb_for(b, "m", 0, m, 1, FOR_SEQ));
    KExpr *x = kx_load1(b, p->from, aff_add(aff_mul(j, c), i));
    kb_store1(b, p->to, aff_add(aff_mul(i, p->l->plane), j), sparse_unsigned(p->l, b, x));
    kb_end(b);
    kb_end(b);
    return;
  }
  Affine i = sparse_squares_begin(b, m, side, FOR_PAR), j = sparse_squares_begin(b, c, side, FOR_SEQ);
  KBuf *tile = sparse_square(b, p->from, aff_add(aff_mul(i, c), j), c, side);
  Affine r = aff_var(kb_for(b, "r", 0, side, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
  Affine to = aff_add(aff_add(aff_mul(aff_add(j, r), p->l->plane), i), l);
  kb_store1(b, p->to, to, sparse_unsigned(p->l, b, kx_load(b, tile, (Affine[]){l, r})));
  kb_end(b);
  kb_end(b);
  sparse_squares_end(b, c, side);
  sparse_squares_end(b, m, side);
}

PBuf *sparse_planes(SparseLower *l, PBuf *x) {
  if (l->s.direct) return x;
  int64_t count = l->s.images * l->s.c * l->plane + l->lanes;
  DType type = l->s.bytes ? DT_U32 : DT_F32;
  PBuf *to = lower_work(l->ctx, "planes", type_tensor(l->ctx->m->types, type, 1, &count));
  Planes p = {.l = l};
  kbuild_init(&p.b, l->ctx->m, arena_printf(l->ctx->m->arena, "planes_%u", l->op->id), l->op->loc);
  p.from = lower_flat(&p.b, x);
  p.to = kb_param(&p.b, "planes", type, 1, &count, SPACE_WORK);
  int64_t fours = type_count(op_in(l->op, 0)->type) / 4;
  if (l->s.bytes) p.from = kb_view(&p.b, p.from, "fours", DT_U32, 1, &fours);
  if (l->s.spatial) {
    sparse_pixels(l, &p.b, p.from, p.to);
  } else if (l->s.last) {
    planes_last(&p);
  } else {
    planes_first(&p);
  }
  lower_step(l->ctx, &p.b, l->op, NULL, 2, (PBuf *[]){x, to})->strategy = "planes";
  return to;
}

// ---- results

// A row of a square: `width` results of position m from channel j on; `sums`: of lane l.
static void store_row(SparseEmit *e, Affine m, Affine j, int64_t width, KBuf *sums, Affine r, bool column, bool guard) {
  KBuild *b = &e->b;
  const Sparse *s = &e->l->s;
  if (guard) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, m), kx_i(b, DT_I64, s->positions)));
  Affine l = aff_var(kb_for(b, "l", 0, width, 1, FOR_VEC)), o = aff_add(j, l);
  Affine at[2 + CONV_AXES] = {aff(0), o, aff(0), aff(0), m};
  KExpr *sum = kx_load(b, sums, column ? (Affine[]){l, r} : (Affine[]){r, l});
  sparse_finish(e, sum, at, aff_add(aff_mul(m, s->o), o));
  kb_end(b);
  if (guard) kb_end(b);
}

KBuf *sparse_square_rows(SparseEmit *e, int64_t side) {
  if (price_post(e->l->op) <= MOST_POST) return NULL;
  return kb_alloc(&e->b, "rows", e->l->type, 2, (int64_t[]){side, side}, SPACE_STACK);
}

// Long code after the sums is there once, in a loop over rows that wait in memory.
void sparse_store_square(SparseEmit *e, Affine from, Affine m, Affine j, int64_t side, int64_t width, KBuf *rows,
                         bool guard) {
  KBuild *b = &e->b;
  KBuf *tile = sparse_square(b, e->sums, from, e->l->row, side);
  if (rows == NULL) {
    for (int64_t r = 0; r < side; r++) store_row(e, aff_plus(m, r), j, width, tile, aff(r), true, guard);
    return;
  }
  Affine r = aff_var(kb_for(b, "r", 0, side, 1, FOR_UNROLL)), l = aff_var(kb_for(b, "l", 0, side, 1, FOR_VEC));
  kb_store(b, rows, (Affine[]){r, l}, kx_load(b, tile, (Affine[]){l, r}));
  kb_end(b);
  kb_end(b);
  r = aff_var(kb_for(b, "r", 0, side, 1, FOR_SEQ));
  store_row(e, aff_add(m, r), j, width, rows, r, false, guard);
  kb_end(b);
}

static void square_at(SparseEmit *e, Affine i, Affine j, int64_t side, int64_t width, KBuf *rows) {
  Affine from = aff_add(aff_mul(j, e->l->row), i);
  sparse_store_square(e, from, i, j, side, width, rows, e->l->s.positions % side != 0);
}

static void store_last(SparseEmit *e) {
  KBuild *b = &e->b;
  const SparseLower *w = e->l;
  const Sparse *s = &w->s;
  int64_t side = sparse_side(w, s->positions, INT64_MAX), m = s->positions, o = s->o;
  if (side == 0) {
    Affine i = aff_var(kb_for(b, "m", 0, m, 1, FOR_PAR)), j = aff_var(kb_for(b, "o", 0, o, 1, FOR_SEQ));
    Affine at[2 + CONV_AXES] = {aff(0), j, aff(0), aff(0), i};
    sparse_finish(e, kx_load1(b, e->sums, aff_add(aff_mul(j, w->row), i)), at, aff_add(aff_mul(i, o), j));
    kb_end(b);
    kb_end(b);
    return;
  }
  int64_t whole = o - o % side;
  Affine i = aff_var(kb_for(b, "ib", 0, m, side, FOR_PAR));
  KBuf *rows = sparse_square_rows(e, side);
  if (whole > 0) {
    bool loop = whole > side;
    Affine j = loop ? aff_var(kb_for(b, "jb", 0, whole, side, FOR_SEQ)) : aff(0);
    square_at(e, i, j, side, side, rows);
    if (loop) kb_end(b);
  }
  if (whole < o) square_at(e, i, aff(whole), side, o - whole, rows);
  kb_end(b);
}

// Rows of positions between which lie places without a result.
static void store_first(SparseEmit *e) {
  KBuild *b = &e->b;
  const SparseLower *w = e->l;
  const Sparse *s = &w->s;
  Affine p = aff_var(kb_for(b, "p", 0, s->images * s->o, 1, FOR_PAR)), image = aff(0), o = p;
  if (s->images > 1) {
    o = aff_var(kb_let(b, "o", kx_op2(b, KOP_MOD, kx_index(b, p), kx_i(b, DT_I64, s->o))));
    image = aff_var(kb_let(b, "image", kx_op2(b, KOP_DIV, kx_index(b, p), kx_i(b, DT_I64, s->o))));
  }
  Affine z = aff_var(kb_for(b, "d", 0, s->out[0], 1, FOR_SEQ)), y = aff_var(kb_for(b, "h", 0, s->out[1], 1, FOR_SEQ));
  Affine x = aff_var(kb_for(b, "i", 0, s->out[2], 1, FOR_VEC));
  Affine at[2 + CONV_AXES] = {image, o, z, y, x};
  Affine from = aff_add(aff_mul(aff_add(aff_mul(z, s->phase[1]), y), s->phase[2]), x);
  Affine to = aff_add(aff_mul(aff_add(aff_mul(z, s->out[1]), y), s->out[2]), x);
  KExpr *sum = kx_load1(b, e->sums, aff_add(aff_mul(p, w->row), from));
  sparse_finish(e, sum, at, aff_add(aff_mul(p, s->out[0] * s->out[1] * s->out[2]), to));
  for (uint32_t i = 0; i < 4; i++) kb_end(b);
}

void sparse_store(SparseLower *l) {
  SparseEmit e = {.l = l};
  kbuild_init(&e.b, l->ctx->m, arena_printf(l->ctx->m->arena, "results_%u", l->op->id), l->op->loc);
  e.sums = sparse_param(&e, l->sums);
  sparse_results(&e);
  if (l->s.spatial) {
    sparse_store_pixels(&e);
  } else if (l->s.last) {
    store_last(&e);
  } else {
    store_first(&e);
  }
  lower_step(l->ctx, &e.b, l->op, NULL, e.n_bufs, e.bufs)->strategy = "results";
}
