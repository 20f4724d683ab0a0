// The strategy sparse for few rows of x: lanes are results. See passes/sparse_rows.h for the two forms.
//
//   for groups of g vectors par { for rows by mr {
//     acc = 0;  for steps { x = window at base;  acc[v] += values[v] * permute(x, places[v]) }   y = acc } }
#include "passes/lower/sparse_rows.h"

enum { MOST_SUMS = 16 };

// ---- packing

int64_t rows_vectors(const Rows *r, int64_t group) {
  int64_t lanes = r->e.l->lanes, left = (r->e.l->s.o - group * r->g * lanes + lanes - 1) / lanes;
  return left < r->g ? left : r->g;
}

static int64_t group_steps(const Rows *r, int64_t group, SparseRows *to) {
  int64_t filter = group * r->g * r->e.l->lanes, width = rows_vectors(r, group) * r->e.l->lanes;
  return r->blocks ? sparse_blocks(&r->f, filter, width, to) : sparse_window(&r->f, filter, width, to);
}

static Value *borrowed(const SparseLower *l, DType t, int64_t n, const void *data, const char *name) {
  return const_borrowed(l->ctx->m, type_tensor(l->ctx->m->types, t, 1, &n), data, name);
}

// Sets values, places, order (the columns) and first. False: past the size limits.
static bool pack(Rows *r, int64_t groups) {
  SparseLower *l = r->e.l;
  Module *m = l->ctx->m;
  int32_t *first = NEW_ARRAY(m->arena, int32_t, groups + 1);
  int64_t steps = 0, slots;
  for (int64_t i = 0; i < groups; i++) {
    first[i] = (int32_t)steps;
    steps += group_steps(r, i, NULL);
    if (steps > INT32_MAX) return false;
  }
  first[groups] = (int32_t)steps;
  r->last_first = first[groups - 1];
  if (steps == 0) steps = 1;
  if (!dims_count(3, (int64_t[]){steps, r->g, l->lanes}, &slots)) return false;
  slots -= (steps - r->last_first) * (r->g - rows_vectors(r, groups - 1)) * l->lanes;
  uint32_t *values = NEW_ARRAY(m->arena, uint32_t, slots);
  uint8_t *places = NEW_ARRAY(m->arena, uint8_t, slots);
  int32_t *at = NEW_ARRAY(m->arena, int32_t, steps);
  SparseRows to = {values, places, at};
  for (int64_t i = 0; i < groups; i++) group_steps(r, i, &to);
  l->values = borrowed(l, l->s.bytes ? DT_U32 : DT_F32, slots, values, l->s.w->name);
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

// sum + x * w, of bytes four products; signed x are shifted into the range of unsigned ones.
static KExpr *product(Rows *r, KExpr *x, KExpr *w, KExpr *sum) {
  KBuild *b = &r->e.b;
  const SparseLower *l = r->e.l;
  if (!l->s.bytes) return lower_mul_add(l->ctx, b, x, w, sum);
  if (op_in(l->op, 0)->type->dtype == DT_I8) x = kx_op2(b, KOP_XOR, x, kx_i(b, DT_U32, 0x80808080));
  return kx_op3(b, KOP_DOT4, sum, kx_view(b, DT_U8X4, x), kx_view(b, DT_I8X4, w));
}

// acc[m * g + v] += weights * x of one step, whose weights begin at `from`.
static void window_step(Rows *r, KBuf *acc, Affine step, Affine from, Affine row, int64_t mi, int64_t g) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  KVar *base = kb_let(b, "base", kx_load1(b, r->at, step));
  for (int64_t v = 0; v < g; v++)
    for (int64_t m = 0; m < mi; m++) {
      Affine l = lanes_begin(b, s->lanes), slot = aff_add(aff_plus(from, v * s->lanes), l);
      Affine of = aff_add(aff_mul(aff_plus(row, m), s->s.c), aff_var(base));
      KExpr *place = kx_cast(b, DT_I32, kx_load1(b, r->places, slot));
      KExpr *x = kx_op2(b, KOP_LOOKUP32, kx_load1(b, r->x, of), place);
      store_acc(b, acc, m * g + v, l, product(r, x, kx_load1(b, r->values, slot), load_acc(b, acc, m * g + v, l)));
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

// The sums of a result together: of four entries, or of the slots of a word.
static KExpr *sum_of(Rows *r, KBuf *acc, int64_t at, int64_t sets, Affine l) {
  KExpr *part[SPARSE_FOURS];
  for (int64_t i = 0; i < sets; i++) part[i] = load_acc(&r->e.b, acc, sets * at + i, l);
  for (int64_t n = sets; n > 1; n = (n + 1) / 2) {
    for (int64_t i = 0; i < n / 2; i++) part[i] = kx_op2(&r->e.b, KOP_ADD, part[2 * i], part[2 * i + 1]);
    if (n % 2 == 1) part[n / 2] = part[n - 1];
  }
  return part[0];
}

// Results of `mi` rows; `lanes` of the last vector exist.
static void store_rows(Rows *r, KBuf *acc, Affine group, Affine row, int64_t mi, int64_t vectors, int64_t lanes) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  int64_t sets = acc->dims[0] / (mi * vectors);
  for (int64_t m = 0; m < mi; m++)
    for (int64_t v = 0; v < vectors; v++) {
      Affine l = lanes_begin(b, v + 1 < vectors ? s->lanes : lanes), at_row = aff_plus(row, m);
      Affine o = aff_add(aff_plus(aff_mul(group, r->g * s->lanes), v * s->lanes), l);
      if (r->filters != NULL) o = aff_var(kb_let(b, "o", kx_load1(b, r->filters, o)));
      Affine at[2 + CONV_AXES] = {aff(0), o, aff(0), aff(0), at_row};
      sparse_finish(&r->e, sum_of(r, acc, m * vectors + v, sets, l), at, aff_add(aff_mul(at_row, s->s.o), o));
      kb_end(b);
    }
}

// The steps, or words of codes, of a pass. Those of a group that is not full are narrower.
static void emit_steps(Rows *r, KBuf *acc, Affine group, Affine row, int64_t mi, int64_t g, int64_t pass) {
  KBuild *b = &r->e.b;
  int64_t lanes = r->e.l->lanes, passes = r->codes.bits > 0 ? r->codes.passes : 1, step = r->blocks ? SPARSE_FOURS : 1;
  Affine range = aff_plus(aff_mul(group, passes), pass);
  KVar *from = kb_let(b, "from", kx_load1(b, r->first, range)),
       *to = kb_let(b, "to", kx_load1(b, r->first, aff_plus(range, 1)));
  Affine i = aff_var(kb_for_aff(b, "s", aff_var(from), aff_var(to), step, FOR_SEQ));
  Affine weights = aff_plus(aff_mul(i, g * lanes), r->last_first * (r->g - g) * lanes);
  if (r->blocks) {
    block_step(r, acc, i, row, mi);
  } else if (r->codes.bits > 0) {
    codes_step(r, acc, i, weights, row, mi, g, pass);
  } else {
    window_step(r, acc, i, weights, row, mi, g);
  }
  kb_end(b);
}

// Sums per result: chains of multiply-adds are kept short where registers are left.
static int64_t rows_sets(const Rows *r, int64_t mi, int64_t vectors) {
  if (r->blocks) return SPARSE_FOURS;
  return r->codes.bits > 0 && mi * vectors * r->codes.slots <= MOST_SUMS ? r->codes.slots : 1;
}

static void emit_tile(Rows *r, Affine group, Affine row, int64_t mi, int64_t filters) {
  KBuild *b = &r->e.b;
  const SparseLower *s = r->e.l;
  int64_t vectors = (filters + s->lanes - 1) / s->lanes, sums = mi * vectors * rows_sets(r, mi, vectors);
  KBuf *acc = kb_alloc(b, "acc", s->type, 2, (int64_t[]){sums, s->lanes}, SPACE_REG);
  for (int64_t i = 0; i < sums; i++) {
    Affine l = lanes_begin(b, s->lanes);
    store_acc(b, acc, i, l, lower_number(b, s->type, 0));
    kb_end(b);
  }
  emit_steps(r, acc, group, row, mi, vectors, 0);
  if (r->codes.passes > 1) emit_steps(r, acc, group, row, mi, vectors, 1);
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

// What the plan asks for, where the weights allow it.
static void read_plan(Rows *r, const Plan *plan, SparseBook *book) {
  const SparseLower *l = r->e.l;
  Module *m = l->ctx->m;
  int64_t bits = plan_param(plan, "bits", 0);
  r->f = (SparseFilters){.s = &l->s, .w = const_data(m, l->s.w)};
  r->blocks = plan_param(plan, "blocks", 0) != 0 && !l->s.bytes;
  if (r->blocks || r->g < 1 || r->g > 8) r->g = 1;
  if (r->mr < 1 || r->mr * (r->blocks ? SPARSE_FOURS : r->g) > MOST_SUMS) r->mr = 1;
  if (r->blocks) return;
  if (plan_param(plan, "sort", 0) != 0) r->f.order = sparse_order(m->arena, &l->s, r->f.w);
  if (bits < 4 || bits > 8 || !sparse_book(m, &l->s, book)) return;
  if (sparse_codes(book, (uint32_t)bits, &r->codes)) {
    r->f.book = book;
  } else {
    r->codes = (SparseCodes){0};
  }
}

static void emit_params(Rows *r) {
  SparseLower *l = r->e.l;
  r->x = sparse_param(&r->e, lower_buf(l->ctx, op_in(l->op, 0)));
  int64_t fours = l->s.positions * l->s.c;
  if (l->s.bytes) r->x = kb_view(&r->e.b, r->x, "fours", DT_U32, 1, &fours);
  r->values = sparse_param(&r->e, lower_const(l->ctx, l->values));
  if (r->codes.bits > 0) {
    r->book = sparse_param(&r->e, lower_const(l->ctx, l->book));
  } else if (!r->blocks) {
    r->places = sparse_param(&r->e, lower_const(l->ctx, l->places));
  }
  r->at = sparse_param(&r->e, lower_const(l->ctx, l->order));
  r->first = sparse_param(&r->e, lower_const(l->ctx, l->first));
  if (r->f.order != NULL) {
    Value *filters = borrowed(l, DT_I32, l->s.o, r->f.order, "filters");
    r->filters = sparse_param(&r->e, lower_const(l->ctx, filters));
  }
  sparse_results(&r->e);
}

bool sparse_rows(SparseLower *l, const Plan *plan) {
  Rows r = {.e = {.l = l}, .g = plan_param(plan, "g", 1), .mr = plan_param(plan, "mr", 1)};
  SparseBook book;
  KBuild *b = &r.e.b;
  read_plan(&r, plan, &book);
  int64_t width = r.g * l->lanes, groups = (l->s.o + width - 1) / width, full = l->s.o / width;
  if (!(r.codes.bits > 0 ? codes_pack(&r, groups) : pack(&r, groups))) return false;
  kbuild_init(b, l->ctx->m, arena_printf(l->ctx->m->arena, "sparse_%u", l->op->id), l->op->loc);
  emit_params(&r);
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
