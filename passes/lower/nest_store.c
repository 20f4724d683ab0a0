// The end of a register tile: bias, post function and stores of the sums. See nest_emit.h.
#include "passes/lower/nest_emit.h"

static KExpr *load_extra(Emit *e, uint32_t which, const Pos *p) {
  Affine at = which == 0 ? p->row : aff(0);
  for (uint32_t i = 0; i < e->n->rank; i++) at = aff_add(at, aff_mul(p->axis[i], e->stride[which][i]));
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

static void add_classes(Emit *e, const Tile *t, Pos *p, bool walked) {
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

// Bias, post function and store of one vector of the result.
static void emit_store(Emit *e, const Tile *t, const Pos *p, Affine i, Affine v, Affine l) {
  KBuild *b = &e->b;
  Affine at[4] = {aff(0), i, v, l}, out = nest_result(e, p);
  KExpr *value = nest_sum(e, kx_load(b, t->acc, at));
  if (e->n->bias != NULL) value = kx_op2(b, KOP_ADD, value, kx_cast(b, value->type, load_extra(e, 0, p)));
  if (!e->n->post_again) value = post_value(e, p, value);
  lower_store(b, e->y, &out, value);
}

static void emit_again(Emit *e, const Pos *p) {
  Affine out = nest_result(e, p);
  lower_store(&e->b, e->y, &out, post_value(e, p, lower_load(&e->b, e->y, &out)));
}

// Vectors from .. to - 1 of the tile, the first `lanes` of each: out of registers, or once more in memory.
static void emit_stores(Emit *e, const Tile *t, const Pos *p, int64_t from, int64_t to, int64_t lanes, bool again) {
  const Nest *n = e->n;
  uint32_t depth = e->depth;
  KForKind kind = again ? FOR_SEQ : FOR_UNROLL;
  NestLoop columns = {.axis = n->rank - 1, .scale = 1};
  Affine iy = nest_open(e, "iy", t->yi, kind), ix = nest_open(e, "i", t->mi, kind);
  Pos q = pos_move(p, &n->m, ix);
  if (t->yi > 1) q = pos_move(&q, &n->row[n->n_rows - 1], iy);
  add_classes(e, t, &q, true);
  Affine v = aff_plus(nest_open(e, "v", to - from, kind), from);
  Affine l = aff_var(kb_for(&e->b, "l", 0, lanes, 1, FOR_VEC));
  q = pos_move(&q, &columns, aff_add(aff_mul(v, n->tile.lanes), l));
  if (again) {
    emit_again(e, &q);
  } else {
    emit_store(e, t, &q, aff_add(aff_mul(iy, t->mi), ix), v, l);
  }
  kb_end(&e->b);
  nest_close(e, depth);
}

void nest_results(Emit *e, const Tile *t, const Pos *p) {
  Pos q = *p;
  add_classes(e, t, &q, false);
  int64_t lanes = e->n->tile.lanes, full = t->tail == lanes ? t->nvec : t->nvec - 1;
  for (int again = 0; again <= e->n->post_again; again++) {
    if (full > 0) emit_stores(e, t, &q, 0, full, lanes, again != 0);
    if (full < t->nvec) emit_stores(e, t, &q, full, t->nvec, t->tail, again != 0);
  }
}
