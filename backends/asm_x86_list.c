// Executes a kernel on symbols: loops over constants and tables run here, vectors of x and y stay symbols. See
// asm_x86.h. Refuses (false) whatever it does not know, so any kernel may be asked about.
#include "backends/asm_x86_list.h"

#include <string.h>

#include "ir/base/bitset.h"
#include "ir/elem.h"

#define MAX_TERMS 20000000

typedef struct Run {
  Arena *arena;
  const Kernel *k;
  AsmList *list;
  const KVar *trip;  // variable of the loop around everything, or NULL
  int64_t *value;    // of variables, by id
  Bitset known;
  const KBuf *acc;  // the row's sum
  bool open;        // acc holds a sum
} Run;

// ---- numbers

static bool number_of_affine(const Run *r, const Affine *a, int64_t *v) {
  *v = a->base;
  for (uint32_t i = 0; i < a->n; i++) {
    if (!bitset_has(&r->known, a->term[i].var->id)) return false;
    *v += a->term[i].coef * r->value[a->term[i].var->id];
  }
  return true;
}

static bool number_of(const Run *r, const KExpr *x, int64_t *v) {
  Affine var;
  if (x->kind == KX_INDEX) return number_of_affine(r, &x->index, v);
  if (x->kind == KX_VAR) {
    var = aff_var(x->var);
    return number_of_affine(r, &var, v);
  }
  if (x->kind == KX_CONST && !dtype_is_float(x->type)) {
    *v = x->i;
    return true;
  }
  if (x->kind != KX_LOAD || x->buf->space != SPACE_TABLE || dtype_is_float(x->buf->type)) return false;
  if (!number_of_affine(r, &x->idx[0], v) || *v < 0 || *v >= x->buf->dims[0]) return false;
  *v = elem_get_i(x->buf->data, x->buf->type, *v);
  return true;
}

// ---- vectors

// Element of the buffer in lane 0 and what one round of the outer loop adds; lanes are neighbours.
static bool vector_at(const Run *r, const KBuf *b, const Affine *idx, const KVar *lane, int64_t *at, int64_t *step) {
  if (b->rank != 1 || b->strides[0] != 1 || aff_coef(idx, lane) != 1) return false;
  Affine rest = aff_subst(*idx, lane, aff(0));
  *step = r->trip != NULL ? aff_coef(&rest, r->trip) : 0;
  if (r->trip != NULL) rest = aff_subst(rest, r->trip, aff(0));
  return number_of_affine(r, &rest, at) && *at >= 0;
}

static bool is_acc(const Run *r, const KBuf *b, const Affine *idx, const KVar *lane) {
  int64_t at, step;
  return b == r->acc && vector_at(r, b, idx, lane, &at, &step) && at == 0;
}

static bool same_buf(const KBuf **held, const KBuf *b) {
  if (b->param < 0 || (b->type != DT_F32 && b->type != DT_I32) || b->view_of != NULL) return false;
  if (*held == NULL) *held = b;
  return *held == b;
}

static bool same_step(int64_t *held, int64_t step, bool first) {
  if (first) *held = step;
  return *held == step;
}

// The bits of a weight: a float, or what `view` shows as four bytes.
static bool weight_of(const Run *r, const KExpr *x, DType t, uint32_t *w) {
  int64_t at;
  if (x->kind == KX_CONST && x->type == t) {
    float f = (float)x->f;
    if (t == DT_F32) memcpy(w, &f, sizeof f);
    if (t != DT_F32) *w = (uint32_t)x->i;
    return true;
  }
  if (x->kind != KX_LOAD || x->buf->space != SPACE_TABLE || x->buf->type != t) return false;
  if (!number_of_affine(r, &x->idx[0], &at) || at < 0 || at >= x->buf->dims[0]) return false;
  memcpy(w, (const uint8_t *)x->buf->data + 4 * at, sizeof *w);
  return true;
}

// acc + x * w
static bool add_term(Run *r, const KVar *lane, const KExpr *x, const KExpr *w, const KExpr *sum, AsmTermKind kind) {
  AsmTerm t = {.kind = kind};
  DType type = kind == ASM_DOT4 ? DT_I32 : DT_F32;
  int64_t step;
  AsmList *list = r->list;
  if (!r->open || sum->kind != KX_LOAD || !is_acc(r, sum->buf, sum->idx, lane)) return false;
  if (x->kind != KX_LOAD || !same_buf(&list->x, x->buf) || x->buf->type != type) return false;
  if (!weight_of(r, w, type, &t.w)) return false;
  if (!vector_at(r, x->buf, x->idx, lane, &t.at, &step) || !same_step(&list->x_step, step, list->terms.n == 0))
    return false;
  AsmRow *row = &list->rows.at[list->rows.n - 1];
  if (list->terms.n > row->first && list->terms.at[list->terms.n - 1].at >= t.at) return false;
  if (list->terms.n >= MAX_TERMS) return false;
  vec_push(r->arena, &list->terms, t);
  return true;
}

static bool is_op(const KExpr *x, KOp op) { return x->kind == KX_OP && x->op == op; }

// A sum begins: floats with 0, integers with any number.
static bool open_row(Run *r, const KExpr *v) {
  AsmRow row = {.first = r->list->terms.n};
  int64_t start = 0;
  if (r->open || (v->type == DT_F32 && (v->kind != KX_CONST || v->f != 0))) return false;
  if (v->type != DT_F32 && (v->type != DT_I32 || !number_of(r, v, &start))) return false;
  row.start = (int32_t)start;
  vec_push(r->arena, &r->list->rows, row);
  return r->open = true;
}

static bool store_acc(Run *r, const KVar *lane, const KExpr *v) {
  if (v->kind != KX_OP) return open_row(r, v);
  if (is_op(v, KOP_FMA)) return add_term(r, lane, v->arg[0], v->arg[1], v->arg[2], ASM_FUSED);
  if (is_op(v, KOP_DOT4)) {
    const KExpr *x = v->arg[1], *w = v->arg[2];
    if (!is_op(x, KOP_VIEW) || x->type != DT_U8X4 || !is_op(w, KOP_VIEW) || w->type != DT_I8X4) return false;
    return add_term(r, lane, x->arg[0], w->arg[0], v->arg[0], ASM_DOT4);
  }
  if (!is_op(v, KOP_ADD) || !is_op(v->arg[0], KOP_MUL)) return false;
  return add_term(r, lane, v->arg[0]->arg[0], v->arg[0]->arg[1], v->arg[1], ASM_TWO);
}

static bool store_y(Run *r, const KVar *lane, const KStmt *s) {
  AsmList *list = r->list;
  const KExpr *v = s->store.value;
  int64_t step;
  if (!r->open || v->kind != KX_LOAD || !is_acc(r, v->buf, v->idx, lane) || !same_buf(&list->y, s->store.buf))
    return false;
  AsmRow *row = &list->rows.at[list->rows.n - 1];
  if (!vector_at(r, s->store.buf, s->store.idx, lane, &row->to, &step)) return false;
  row->end = list->terms.n;
  r->open = false;
  return same_step(&list->y_step, step, list->rows.n == 1);
}

static bool run_lanes(Run *r, const KStmt *loop) {
  const KStmt *s = loop->for_.body.first;
  const Affine *lo = &loop->for_.lo, *hi = &loop->for_.hi;
  if (s == NULL || s->next != NULL || s->kind != KS_STORE || !aff_is_const(lo) || !aff_is_const(hi)) return false;
  if (lo->base != 0 || loop->for_.step != 1 || hi->base != (int64_t)r->list->lanes) return false;
  if (s->store.buf->space == SPACE_REG)
    return is_acc(r, s->store.buf, s->store.idx, loop->for_.var) && store_acc(r, loop->for_.var, s->store.value);
  return store_y(r, loop->for_.var, s);
}

// ---- statements

static bool run_block(Run *r, const KBlock *b);

static bool run_for(Run *r, const KStmt *s) {
  int64_t lo, hi;
  if (!number_of_affine(r, &s->for_.lo, &lo) || !number_of_affine(r, &s->for_.hi, &hi)) return false;
  bitset_add(&r->known, s->for_.var->id);
  for (int64_t v = lo; v < hi; v += s->for_.step) {
    r->value[s->for_.var->id] = v;
    if (!run_block(r, &s->for_.body)) return false;
  }
  return true;
}

static bool run_stmt(Run *r, const KStmt *s) {
  switch (s->kind) {
    case KS_FOR: return s->for_.loop == FOR_VEC ? run_lanes(r, s) : run_for(r, s);
    case KS_LET: bitset_add(&r->known, s->let.var->id); return number_of(r, s->let.value, &r->value[s->let.var->id]);
    case KS_ALLOC:
      if (s->alloc.buf->space == SPACE_TABLE) return true;
      r->acc = s->alloc.buf;
      r->list->lanes = (uint32_t)s->alloc.buf->dims[0];
      return s->alloc.buf->space == SPACE_REG && s->alloc.buf->rank == 1 && !r->open;
    case KS_STORE: return s->store.buf->space == SPACE_TABLE;  // lanes that are none
    default: return false;
  }
}

static bool run_block(Run *r, const KBlock *b) {
  for (const KStmt *s = b->first; s != NULL; s = s->next)
    if (!run_stmt(r, s)) return false;
  return true;
}

// Does the block read a table at a place that depends on the variable?
static bool reads_tables_by(const KBlock *b, const KVar *v) {
  for (const KStmt *s = b->first; s != NULL; s = s->next) {
    if (s->kind == KS_FOR && reads_tables_by(&s->for_.body, v)) return true;
    if (s->kind != KS_LET || s->let.value->kind != KX_LOAD) continue;
    if (s->let.value->buf->space == SPACE_TABLE && aff_coef(&s->let.value->idx[0], v) != 0) return true;
  }
  return false;
}

// The one loop of the top level that walks no table is left a loop.
static const KStmt *trip_loop(const Kernel *k) {
  const KStmt *loop = NULL;
  for (const KStmt *s = k->body.first; s != NULL; s = s->next) {
    if (s->kind == KS_ALLOC && s->alloc.buf->space == SPACE_TABLE) continue;
    if (loop != NULL || s->kind != KS_FOR || s->for_.loop != FOR_SEQ) return NULL;
    loop = s;
  }
  bool plain = loop != NULL && aff_is_const(&loop->for_.lo) && aff_is_const(&loop->for_.hi) &&
               loop->for_.lo.base == 0 && loop->for_.step == 1 && !reads_tables_by(&loop->for_.body, loop->for_.var);
  return plain ? loop : NULL;
}

static bool has_table(const Kernel *k) {
  for (const KStmt *s = k->body.first; s != NULL; s = s->next)
    if (s->kind == KS_ALLOC && s->alloc.buf->space == SPACE_TABLE) return true;
  return false;
}

bool asm_list_of(Arena *arena, const Kernel *k, AsmList *list) {
  *list = (AsmList){.trips = 1};
  if (!has_table(k) || !k->noalias) return false;
  Run r = {.arena = arena, .k = k, .list = list};
  r.value = NEW_ARRAY(arena, int64_t, k->n_vars + 1);
  r.known = bitset_new(arena, k->n_vars + 1);
  const KStmt *loop = trip_loop(k);
  if (loop != NULL) {
    list->trips = loop->for_.hi.base;
    r.trip = loop->for_.var;
  }
  if (!run_block(&r, loop != NULL ? &loop->for_.body : &k->body)) return false;
  return !r.open && list->rows.n > 0;
}
