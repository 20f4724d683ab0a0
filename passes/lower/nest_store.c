// The end of a register tile: bias, post function and stores of the sums. See nest_emit.h.
#include "passes/lower/nest_emit.h"

static Affine extra_at(const Emit *e, uint32_t which, const Pos *p) {
  Affine at = which == 0 ? p->row : aff(0);
  for (uint32_t i = 0; i < e->n->rank; i++) at = aff_add(at, aff_mul(p->axis[i], e->stride[which][i]));
  return at;
}

Affine nest_bias_at(const Emit *e, const Pos *p) { return extra_at(e, 0, p); }

static KExpr *load_extra(Emit *e, uint32_t which, const Pos *p) {
  Affine at = extra_at(e, which, p);
  return lower_load(&e->b, e->extra[which], &at);
}

// Adds the border class along an axis to the row of the bias.
static void add_class(Emit *e, Pos *p, uint32_t axis) {
  if (e->class_at[axis] == NULL) return;
  KExpr *row = kx_cast(&e->b, DT_I64, kx_load(&e->b, e->class_at[axis], &p->axis[axis]));
  if (p->row.n > 0) row = kx_op2(&e->b, KOP_ADD, kx_index(&e->b, p->row), row);
  p->row = aff_var(kb_let(&e->b, "row", row));
}

// The axes that the columns and rows of a tile walk; the class along the others is the same for the whole tile.
static bool walks(const Emit *e, const Tile *t, uint32_t axis) {
  const Nest *n = e->n;
  return axis == n->m.axis || (t->yi > 1 && axis == n->row[n->n_rows - 1].axis);
}

void nest_add_classes(Emit *e, const Tile *t, Pos *p, bool walked) {
  for (uint32_t i = 0; i < e->n->rank; i++)
    if (walks(e, t, i) == walked) add_class(e, p, i);
}

static KExpr *post_value(Emit *e, const Pos *p, KExpr *value) {
  if (op_post(e->n->op) == NULL) return value;
  KExpr *args[17] = {value};
  uint32_t next = e->n->bias != NULL ? 1 : 0;
  for (uint32_t a = 0; a < e->pp.n; a++) args[1 + a] = load_extra(e, next++, p);
  return lower_body(&e->b, op_post(e->n->op), args);
}

KExpr *nest_held(Emit *e, const Tile *t, Affine i, Affine v, Affine l) {
  Affine at[4] = {aff(0), i, v, l};
  if (t->sums != NULL) at[0] = aff_add(aff_mul(aff_add(aff_mul(i, t->nvec), v), e->n->tile.lanes), l);
  return kx_load(&e->b, t->sums != NULL ? t->sums : t->acc, at);
}

// Bias and post function on what is held.
static KExpr *finished(Emit *e, const Pos *p, KExpr *value) {
  KBuild *b = &e->b;
  if (e->n->counts) value = nest_count(e, value);
  if (e->n->bias != NULL && !e->n->dot) {
    value = kx_op2(b, KOP_ADD, value, kx_cast(b, value->type, load_extra(e, 0, p)));
  }
  return e->n->post_again ? value : post_value(e, p, value);
}

KExpr *nest_value(Emit *e, const Tile *t, const Pos *p, Affine i, Affine v, Affine l) {
  return finished(e, p, nest_held(e, t, i, v, l));
}

// ---- pixels

int64_t nest_y_dim(const Nest *n, uint32_t axis) {
  return n->squares != NULL && (axis == 2 || axis == 3) ? n->dims[axis] / 2 : n->dims[axis];
}

static Affine halved(Emit *e, Affine at) {
  if (aff_is_const(&at)) return aff(at.base / 2);
  return aff_var(kb_let(&e->b, "half", kx_op2(&e->b, KOP_DIV, kx_index(&e->b, at), kx_i(&e->b, DT_I64, 2))));
}

Pixels nest_open_pixels(Emit *e, const Tile *t, const Pos *p, KForKind kind) {
  const Nest *n = e->n;
  int64_t step = n->squares != NULL ? 2 : 1;
  Pixels x = {.n = step == 2 ? 4 : 1};
  Affine iy = nest_open(e, "iy", step == 2 ? t->yi / 2 : t->yi, kind);
  Affine ix = nest_open(e, "i", t->mi / step, kind);
  for (uint32_t d = 0; d < x.n; d++) {
    Affine row = aff_plus(aff_mul(iy, step), d / 2), column = aff_plus(aff_mul(ix, step), d % 2);
    x.at[d] = pos_move(p, &n->m, column);
    if (t->yi > 1) x.at[d] = pos_move(&x.at[d], &n->row[n->n_rows - 1], row);
    x.i[d] = aff_add(aff_mul(row, t->mi), column);
    if (d == 0) x.y = x.at[0];
    nest_add_classes(e, t, &x.at[d], true);
  }
  for (uint32_t axis = 2; axis <= 3 && n->squares != NULL; axis++) x.y.axis[axis] = halved(e, x.y.axis[axis]);
  return x;
}

void nest_move_columns(const Emit *e, Pixels *x, Affine by) {
  NestLoop columns = {.axis = e->n->rank - 1, .scale = 1};
  for (uint32_t d = 0; d < x->n; d++) x->at[d] = pos_move(&x->at[d], &columns, by);
  x->y = pos_move(&x->y, &columns, by);
}

static void emit_store(Emit *e, const Tile *t, const Pixels *x, Affine v, Affine l) {
  Affine out = nest_result(e, &x->y);
  bool first = e->n->squares_first;
  KExpr *value = NULL;
  for (uint32_t d = 0; d < x->n; d++) {
    KExpr *one = first ? nest_held(e, t, x->i[d], v, l) : nest_value(e, t, &x->at[d], x->i[d], v, l);
    value = d == 0 ? one : kx_op2(&e->b, KOP_MAX, value, one);
  }
  lower_store(&e->b, e->y, &out, first ? finished(e, &x->at[0], value) : value);
}

static void emit_again(Emit *e, const Pos *p) {
  Affine out = nest_result(e, p);
  lower_store(&e->b, e->y, &out, post_value(e, p, lower_load(&e->b, e->y, &out)));
}

// A run of vectors of the tile: from .. to - 1, `group` of them at a time, the first `lanes` of each group.
typedef struct Run {
  int64_t from, to, group, lanes;
} Run;

#define MAX_RUNS 16

// The run out of registers, or once more in memory.
static void emit_stores(Emit *e, const Tile *t, const Pos *p, const Run *r, bool again) {
  const Nest *n = e->n;
  uint32_t depth = e->depth;
  KForKind kind = again ? FOR_SEQ : FOR_UNROLL;
  Pixels x = nest_open_pixels(e, t, p, kind);
  Affine v = aff_plus(aff_mul(nest_open(e, "v", (r->to - r->from) / r->group, kind), r->group), r->from);
  Affine l = aff_var(kb_for(&e->b, "l", 0, r->lanes, 1, FOR_VEC));
  nest_move_columns(e, &x, aff_add(aff_mul(v, n->tile.lanes), l));
  if (again) {
    emit_again(e, &x.y);
  } else {
    emit_store(e, t, &x, v, l);
  }
  kb_end(&e->b);
  nest_close(e, depth);
}

void nest_flat_sums(Emit *e, Tile *t) {
  int64_t sums = t->mi * t->yi * t->nvec * e->n->tile.lanes;  // partial sums behind them are added up already
  t->sums = kb_view(&e->b, t->acc, "sums", t->acc->type, 1, &sums);
}

// Whole vectors, then the last one; of a result of bytes up to four at a time, which make one vector of it.
static uint32_t tile_runs(Emit *e, Tile *t, Run *run) {
  int64_t lanes = e->n->tile.lanes, full = t->tail == lanes ? t->nvec : t->nvec - 1;
  uint32_t count = 0;
  if (dtype_info(e->y->type)->bits != 8 || lanes < 4 || lanes > 16 || t->nvec == 1) {
    if (full > 0) run[count++] = (Run){0, full, 1, lanes};
    if (full < t->nvec) run[count++] = (Run){full, t->nvec, 1, t->tail};
    return count;
  }
  nest_flat_sums(e, t);
  for (int64_t from = 0; from < t->nvec; from += 4) {
    int64_t group = t->nvec - from < 4 ? t->nvec - from : 4;
    bool last = from + group == t->nvec;
    QCC_CHECK(count < MAX_RUNS, "a tile of %lld vectors", (long long)t->nvec);
    run[count++] = (Run){from, from + group, group, last ? (group - 1) * lanes + t->tail : group * lanes};
  }
  return count;
}

void nest_results(Emit *e, const Tile *tile, const Pos *p) {
  Run run[MAX_RUNS];
  Tile t = *tile;
  Pos q = *p;
  nest_add_classes(e, &t, &q, false);
  if (e->n->words != NULL) {
    nest_words(e, &t, &q);
    return;
  }
  uint32_t count = tile_runs(e, &t, run);
  for (int again = 0; again <= e->n->post_again; again++) {
    for (uint32_t i = 0; i < count; i++) emit_stores(e, &t, &q, &run[i], again != 0);
  }
}

void nest_start_bias(Emit *e, const Tile *t, const Pos *p) {
  const Nest *n = e->n;
  int64_t lanes = n->tile.lanes;
  NestLoop columns = {.axis = n->rank - 1, .scale = 1};
  for (int64_t v = 0; v < t->nvec; v++) {
    uint32_t depth = e->depth;
    Affine i = nest_open(e, "i", t->mi * t->yi, FOR_UNROLL);
    Affine l = aff_var(kb_for(&e->b, "l", 0, v + 1 < t->nvec ? lanes : t->tail, 1, FOR_VEC));
    Pos q = pos_move(p, &columns, aff_plus(l, v * lanes));
    Affine at[4] = {aff(0), i, aff(v), l};
    kb_store(&e->b, t->acc, at, load_extra(e, 0, &q));
    kb_end(&e->b);
    nest_close(e, depth);
  }
}
