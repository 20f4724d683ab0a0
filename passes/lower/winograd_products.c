// The matrix products of Winograd tiles, one per pair of points, in register tiles. See winograd.h.
//
//   for panels of nv vectors of output channels: for tiles of up to mr rows (winograd tiles):
//     acc = 0;  for c: w[0 .. nv) = U[f][panel][c];  acc[r][v] += V[f][r][c] * w[v];  M[f][r][panel] = acc
#include "passes/lower/winograd.h"

// A register tile: rows and vectors; where its rows begin in V, M and its panel in U and in a row of M.
typedef struct Register {
  int64_t rows, vectors;
  Affine v, u, m;
  KBuf *acc, *w;
} Register;

static Affine opened(WinoEmit *e, const char *name, int64_t n, KForKind kind) {
  return n > 1 ? aff_var(kb_for(&e->b, name, 0, n, 1, kind)) : aff(0);
}

static void closed(WinoEmit *e, int64_t n) {
  if (n > 1) kb_end(&e->b);
}

static void emit_zero(WinoEmit *e, const Register *r) {
  Affine i = opened(e, "i", r->rows, FOR_UNROLL), v = opened(e, "v", r->vectors, FOR_UNROLL);
  Affine at[3] = {i, v, aff_var(kb_for(&e->b, "l", 0, e->lanes, 1, FOR_VEC))};
  kb_store(&e->b, r->acc, at, kx_f(&e->b, DT_F32, 0));
  kb_end(&e->b);
  closed(e, r->vectors);
  closed(e, r->rows);
}

static void emit_step(WinoEmit *e, const Register *r, Affine c) {
  KBuild *b = &e->b;
  Affine row = aff_add(r->u, aff_mul(c, r->vectors * e->lanes));
  Affine v = opened(e, "v", r->vectors, FOR_UNROLL), l = aff_var(kb_for(b, "l", 0, e->lanes, 1, FOR_VEC));
  Affine w_at[2] = {v, l};
  kb_store(b, r->w, w_at, kx_load1(b, e->u, aff_add(row, aff_add(aff_mul(v, e->lanes), l))));
  kb_end(b);
  closed(e, r->vectors);
  Affine i = opened(e, "i", r->rows, FOR_UNROLL);
  KVar *a = kb_let(b, "a", kx_load1(b, e->v, aff_add(aff_add(r->v, c), aff_mul(i, e->g.c))));
  v = opened(e, "v", r->vectors, FOR_UNROLL);
  l = aff_var(kb_for(b, "l", 0, e->lanes, 1, FOR_VEC));
  Affine at[3] = {i, v, l}, from[2] = {v, l};
  kb_store(b, r->acc, at, lower_mul_add(e->ctx, b, kx_var(b, a), kx_load(b, r->w, from), kx_load(b, r->acc, at)));
  kb_end(b);
  closed(e, r->vectors);
  closed(e, r->rows);
}

static void emit_sums(WinoEmit *e, const Register *r) {
  KBuild *b = &e->b;
  Affine i = opened(e, "i", r->rows, FOR_UNROLL), v = opened(e, "v", r->vectors, FOR_UNROLL);
  Affine l = aff_var(kb_for(b, "l", 0, e->lanes, 1, FOR_VEC)), at[3] = {i, v, l};
  Affine to = aff_add(aff_add(r->m, aff_mul(i, e->columns)), aff_add(aff_mul(v, e->lanes), l));
  kb_store1(b, e->m, to, kx_load(b, r->acc, at));
  kb_end(b);
  closed(e, r->vectors);
  closed(e, r->rows);
}

static void emit_register(WinoEmit *e, Register r) {
  KBuild *b = &e->b;
  int64_t sums = r.rows * r.vectors, unroll = sums <= 8 ? 4 : sums <= 16 ? 2 : 1, whole = e->g.c - e->g.c % unroll;
  r.acc = kb_alloc(b, "acc", DT_F32, 3, (int64_t[]){r.rows, r.vectors, e->lanes}, SPACE_REG);
  r.w = kb_alloc(b, "w", DT_F32, 2, (int64_t[]){r.vectors, e->lanes}, SPACE_REG);
  if (r.v.n > 1) r.v = aff_var(kb_let(b, "vo", kx_index(b, r.v)));
  if (r.u.n > 1) r.u = aff_var(kb_let(b, "uo", kx_index(b, r.u)));
  if (r.m.n > 1) r.m = aff_var(kb_let(b, "mo", kx_index(b, r.m)));
  emit_zero(e, &r);
  if (whole > 0) {
    Affine c = aff_var(kb_for(b, "c", 0, whole, unroll, FOR_SEQ)), j = opened(e, "j", unroll, FOR_UNROLL);
    emit_step(e, &r, aff_add(c, j));
    closed(e, unroll);
    kb_end(b);
  }
  for (int64_t c = whole; c < e->g.c; c++) emit_step(e, &r, aff(c));
  emit_sums(e, &r);
}

// `rows` of V in parts as even as they go, of at most mr.
static void emit_parts(WinoEmit *e, int64_t rows, Register r) {
  int64_t most = plan_param(e->plan, "mr", 8), parts = (rows + most - 1) / most, small = rows / parts;
  int64_t large = rows % parts;  // of them have one more
  Affine v = r.v, m = r.m;
  for (int kind = 0; kind < 2; kind++) {
    int64_t n = kind == 0 ? large : parts - large, first = kind == 0 ? 0 : large * (small + 1);
    r.rows = kind == 0 ? small + 1 : small;
    if (n == 0) continue;
    Affine at = aff_plus(aff_mul(opened(e, "part", n, FOR_SEQ), r.rows), first);
    r.v = aff_add(v, aff_mul(at, e->g.c));
    r.m = aff_add(m, aff_mul(at, e->columns));
    emit_register(e, r);
    closed(e, n);
  }
}

// The product of pair f of points, whose tiles are `rows`.
static void emit_panels(WinoEmit *e, Affine f, int64_t rows, Affine v, Affine m) {
  int64_t vectors = e->columns / e->lanes, nv = plan_param(e->plan, "nv", 2);
  if (nv > vectors) nv = vectors;
  int64_t full = vectors / nv, rest = vectors % nv, panel = nv * e->lanes;
  Affine u = aff_mul(f, e->u_step);
  v = aff_add(v, aff_mul(f, e->v_step));
  m = aff_add(m, aff_mul(f, e->m_step));
  Affine p = opened(e, "panel", full, FOR_SEQ);
  Register r = {.vectors = nv, .v = v, .u = aff_add(u, aff_mul(p, panel * e->g.c)), .m = aff_add(m, aff_mul(p, panel))};
  emit_parts(e, rows, r);
  closed(e, full);
  if (rest > 0) {
    r = (Register){.vectors = rest, .v = v, .u = aff_plus(u, full * panel * e->g.c), .m = aff_plus(m, full * panel)};
    emit_parts(e, rows, r);
  }
}

typedef int64_t CountFn(const WinoEmit *e, uint32_t point);

// The points from `from` on that as many tiles have.
static int64_t group_end(const WinoEmit *e, CountFn *count, int64_t from, int64_t points) {
  int64_t end = from + 1;
  while (end < points && count(e, (uint32_t)end) == count(e, (uint32_t)from)) end++;
  return end;
}

void wino_emit_products(WinoEmit *e, Affine v, Affine m) {
  KBuild *b = &e->b;
  for (int64_t i = 0, i_end; i < e->points_y; i = i_end) {
    i_end = group_end(e, wino_rows_with, i, e->points_y);
    for (int64_t j = 0, j_end; j < e->points_x; j = j_end) {
      j_end = group_end(e, wino_columns_with, j, e->points_x);
      Affine fi = aff_var(kb_for(b, "fy", i, i_end, 1, FOR_SEQ)), fj = aff_var(kb_for(b, "fx", j, j_end, 1, FOR_SEQ));
      Affine f = aff_add(aff_mul(fi, e->points_x), fj);
      emit_panels(e, f, wino_rows_with(e, (uint32_t)i) * wino_columns_with(e, (uint32_t)j), v, m);
      kb_end(b);
      kb_end(b);
    }
  }
}

// The last group of an axis is the else of all tests.
static bool open_group(WinoEmit *e, Affine at, int64_t end, int64_t points) {
  if (end < points) kb_if(&e->b, kx_op2(&e->b, KOP_LT, kx_index(&e->b, at), kx_i(&e->b, DT_I64, end)));
  return end < points;
}

static void emit_columns_of(WinoEmit *e, Affine f, Affine fj, int64_t rows, Affine v, Affine m) {
  uint32_t open = 0;
  for (int64_t j = 0, end; j < e->points_x; j = end) {
    end = group_end(e, wino_columns_with, j, e->points_x);
    bool test = open_group(e, fj, end, e->points_x);
    emit_panels(e, f, rows * wino_columns_with(e, (uint32_t)j), v, m);
    if (test) kb_else(&e->b);
    open += test;
  }
  while (open-- > 0) kb_end(&e->b);
}

void wino_emit_product(WinoEmit *e, Affine f, Affine v, Affine m) {
  KBuild *b = &e->b;
  KExpr *x = kx_i(b, DT_I64, e->points_x), *again = kx_i(b, DT_I64, e->points_x);
  Affine fi = aff_var(kb_let(b, "fy", kx_op2(b, KOP_DIV, kx_index(b, f), x)));
  Affine fj = aff_var(kb_let(b, "fx", kx_op2(b, KOP_MOD, kx_index(b, f), again)));
  uint32_t open = 0;
  for (int64_t i = 0, end; i < e->points_y; i = end) {
    end = group_end(e, wino_rows_with, i, e->points_y);
    bool test = open_group(e, fi, end, e->points_y);
    emit_columns_of(e, f, fj, wino_rows_with(e, (uint32_t)i), v, m);
    if (test) kb_else(b);
    open += test;
  }
  while (open-- > 0) kb_end(b);
}
