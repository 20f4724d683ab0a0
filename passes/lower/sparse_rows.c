// The strategy sparse for few rows of x: lanes are results. See passes/sparse_rows.h for the two forms.
//
//   for groups of g vectors par { for rows by mr {
//     acc = 0;  for steps { x = window at base;  acc[v] += values[v] * permute(x, places[v]) }   y = acc } }
#include "passes/lower/sparse.h"
#include "passes/sparse_rows.h"

typedef struct Rows {
  SparseEmit e;
  KBuf *x, *values, *places, *at, *first;
  int64_t g, mr;  // vectors of a group; rows of x in a tile
  bool blocks;
} Rows;

// ---- packing

static int64_t group_steps(const Rows *r, const void *w, int64_t group, SparseRows *to) {
  const Sparse *s = &r->e.l->s;
  int64_t lanes = r->g * r->e.l->lanes;
  return r->blocks ? sparse_blocks(s, w, group * lanes, lanes, to) : sparse_window(s, w, group * lanes, lanes, to);
}

static Value *borrowed(const SparseLower *l, DType t, int64_t n, const void *data, const char *name) {
  return const_borrowed(l->ctx->m, type_tensor(l->ctx->m->types, t, 1, &n), data, name);
}

// Sets values, places, order (the columns) and first. False: past the size limits.
static bool pack(Rows *r, int64_t groups) {
  SparseLower *l = r->e.l;
  Module *m = l->ctx->m;
  const void *w = const_data(m, l->s.w);
  int32_t *first = NEW_ARRAY(m->arena, int32_t, groups + 1);
  int64_t steps = 0, slots;
  for (int64_t i = 0; i < groups; i++) {
    first[i] = (int32_t)steps;
    steps += group_steps(r, w, i, NULL);
    if (steps > INT32_MAX) return false;
  }
  first[groups] = (int32_t)steps;
  if (steps == 0) steps = 1;
  if (!dims_count(3, (int64_t[]){steps, r->g, l->lanes}, &slots)) return false;
  float *values = NEW_ARRAY(m->arena, float, slots);
  uint8_t *places = NEW_ARRAY(m->arena, uint8_t, slots);
  int32_t *at = NEW_ARRAY(m->arena, int32_t, steps);
  SparseRows to = {values, places, at};
  for (int64_t i = 0; i < groups; i++) group_steps(r, w, i, &to);
  l->values = borrowed(l, DT_F32, slots, values, l->s.w->name);
  l->places = borrowed(l, DT_U8, slots, places, "places");
  l->order = borrowed(l, DT_I32, steps, at, "columns");
  l->first = borrowed(l, DT_I32, groups + 1, first, "first");
  return true;
}

// ---- the kernel

static Affine lanes_begin(KBuild *b, int64_t lanes) { return aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC)); }

static KExpr *load_acc(KBuild *b, KBuf *acc, int64_t i, Affine l) { return kx_load(b, acc, (Affine[]){aff(i), l}); }

static void store_acc(KBuild *b, KBuf *acc, int64_t i, Affine l, KExpr *x) {
  kb_store(b, acc, (Affine[]){aff(i), l}, x);
}

// acc[m * g + v] += weights * x of one step.
static void window_step(Rows *r, KBuf *acc, Affine step, Affine row, int64_t mi) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  KVar *base = kb_let(b, "base", kx_load1(b, r->at, step));
  for (int64_t v = 0; v < r->g; v++)
    for (int64_t m = 0; m < mi; m++) {
      Affine l = lanes_begin(b, s->lanes);
      Affine slot = aff_add(aff_plus(aff_mul(step, r->g * s->lanes), v * s->lanes), l);
      Affine from = aff_add(aff_mul(aff_plus(row, m), s->s.c), aff_var(base));
      KExpr *place = kx_cast(b, DT_I32, kx_load1(b, r->places, slot));
      KExpr *x = kx_op2(b, KOP_LOOKUP32, kx_load1(b, r->x, from), place), *w = kx_load1(b, r->values, slot);
      store_acc(b, acc, m * r->g + v, l, lower_mul_add(s->ctx, b, x, w, load_acc(b, acc, m * r->g + v, l)));
      kb_end(b);
    }
}

static void block_step(Rows *r, KBuf *acc, Affine step, Affine row, int64_t mi) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  for (int64_t i = 0; i < SPARSE_FOURS; i++) {
    KVar *column = kb_let(b, "column", kx_load1(b, r->at, aff_plus(step, i)));
    for (int64_t m = 0; m < mi; m++) {
      Affine from = aff_add(aff_mul(aff_plus(row, m), s->s.c), aff_var(column));
      KVar *x = kb_let(b, "x", kx_load1(b, r->x, from));
      Affine l = lanes_begin(b, s->lanes), slot = aff_add(aff_mul(aff_plus(step, i), s->lanes), l);
      int64_t at = m * SPARSE_FOURS + i;
      store_acc(b, acc, at, l,
                lower_mul_add(s->ctx, b, kx_load1(b, r->values, slot), kx_var(b, x), load_acc(b, acc, at, l)));
      kb_end(b);
    }
  }
}

static KExpr *sum_of(Rows *r, KBuf *acc, int64_t m, int64_t v, Affine l) {
  KBuild *b = &r->e.b;
  if (!r->blocks) return load_acc(b, acc, m * r->g + v, l);
  KExpr *part[2];
  for (int64_t i = 0; i < 2; i++) {
    int64_t at = m * SPARSE_FOURS + 2 * i;
    part[i] = kx_op2(b, KOP_ADD, load_acc(b, acc, at, l), load_acc(b, acc, at + 1, l));
  }
  return kx_op2(b, KOP_ADD, part[0], part[1]);
}

// Results of `mi` rows; `lanes` of the last vector exist.
static void store_rows(Rows *r, KBuf *acc, Affine group, Affine row, int64_t mi, int64_t vectors, int64_t lanes) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  for (int64_t m = 0; m < mi; m++)
    for (int64_t v = 0; v < vectors; v++) {
      Affine l = lanes_begin(b, v + 1 < vectors ? s->lanes : lanes), at_row = aff_plus(row, m);
      Affine o = aff_add(aff_plus(aff_mul(group, r->g * s->lanes), v * s->lanes), l);
      Affine at[2 + CONV_AXES] = {aff(0), o, aff(0), aff(0), at_row};
      sparse_finish(&r->e, sum_of(r, acc, m, v, l), at, aff_add(aff_mul(at_row, s->s.o), o));
      kb_end(b);
    }
}

static void emit_tile(Rows *r, Affine group, Affine row, int64_t mi, int64_t filters) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  int64_t sums = mi * (r->blocks ? SPARSE_FOURS : r->g), step = r->blocks ? SPARSE_FOURS : 1;
  KBuf *acc = kb_alloc(b, "acc", DT_F32, 2, (int64_t[]){sums, s->lanes}, SPACE_REG);
  for (int64_t i = 0; i < sums; i++) {
    Affine l = lanes_begin(b, s->lanes);
    store_acc(b, acc, i, l, kx_f(b, DT_F32, 0));
    kb_end(b);
  }
  KVar *from = kb_let(b, "from", kx_load1(b, r->first, group)),
       *to = kb_let(b, "to", kx_load1(b, r->first, aff_plus(group, 1)));
  Affine i = aff_var(kb_for_aff(b, "s", aff_var(from), aff_var(to), step, FOR_SEQ));
  if (r->blocks) {
    block_step(r, acc, i, row, mi);
  } else {
    window_step(r, acc, i, row, mi);
  }
  kb_end(b);
  int64_t vectors = (filters + s->lanes - 1) / s->lanes;
  store_rows(r, acc, group, row, mi, vectors, filters - (vectors - 1) * s->lanes);
}

static void emit_group(Rows *r, Affine group, int64_t filters) {
  KBuild *b = &r->e.b;
  int64_t rows = r->e.l->s.positions, whole = rows - rows % r->mr;
  if (whole > 0) {
    bool loop = whole > r->mr;
    emit_tile(r, group, loop ? aff_var(kb_for(b, "m", 0, whole, r->mr, FOR_SEQ)) : aff(0), r->mr, filters);
    if (loop) kb_end(b);
  }
  if (whole < rows) emit_tile(r, group, aff(whole), rows - whole, filters);
}

bool sparse_rows(SparseLower *l, const Plan *plan) {
  Rows r = {.e = {.l = l}, .g = plan_param(plan, "g", 1), .mr = plan_param(plan, "mr", 1)};
  KBuild *b = &r.e.b;
  r.blocks = plan_param(plan, "blocks", 0) != 0;
  if (r.blocks || r.g < 1 || r.g > 8) r.g = 1;
  if (r.mr < 1 || r.mr * (r.blocks ? SPARSE_FOURS : r.g) > 16) r.mr = 1;
  int64_t width = r.g * l->lanes, groups = (l->s.o + width - 1) / width, full = l->s.o / width;
  if (!pack(&r, groups)) return false;
  kbuild_init(b, l->ctx->m, arena_printf(l->ctx->m->arena, "sparse_%u", l->op->id), l->op->loc);
  r.x = sparse_param(&r.e, lower_buf(l->ctx, op_in(l->op, 0)));
  r.values = sparse_param(&r.e, lower_const(l->ctx, l->values));
  if (!r.blocks) r.places = sparse_param(&r.e, lower_const(l->ctx, l->places));
  r.at = sparse_param(&r.e, lower_const(l->ctx, l->order));
  r.first = sparse_param(&r.e, lower_const(l->ctx, l->first));
  sparse_results(&r.e);
  Affine p = aff_var(kb_for(b, "p", 0, groups, 1, FOR_PAR));
  bool both = full > 0 && full < groups;
  if (both) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, p), kx_i(b, DT_I64, full)));
  if (full > 0) emit_group(&r, p, width);
  if (both) kb_else(b);
  if (full < groups) emit_group(&r, aff(full), l->s.o - full * width);
  if (both) kb_end(b);
  kb_end(b);
  Step *step = lower_step(l->ctx, b, l->op, NULL, r.e.n_bufs, r.e.bufs);
  step->strategy = "sparse";
  step->macs = (double)sparse_nonzeros(l->ctx->m, &l->s) * (double)l->s.positions;
  return true;
}
