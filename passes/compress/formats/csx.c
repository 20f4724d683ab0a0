// CSX (S46): horizontal, vertical, diagonal and anti-diagonal runs of constant step and dense blocks, found one after
// another, the (kind, step) that covers most first; what is left becomes delta units.
//
// An anti-diagonal is walked downwards: rows grow, columns shrink (row + column is constant; the transform printed in
// the paper is another one). Control stream, one unit after another in the order of first elements:
//
//   type   1 byte: number of the (kind, step) pair, bit 7: the unit is not in the row of the one before
//   size   1 byte: elements (BLOCK: rows)
//   row    varint, if bit 7: rows since the unit before; then columns count from 0
//   col    varint: columns since the first element of the unit before in this row
//   delta units: size - 1 varints, distances of neighbours
//
// in front of it a byte with the number of pairs and 2 bytes for each. Source: Kourtis et al., CSX (PPoPP 2011).
#include <stdlib.h>
#include <string.h>

#include "ir/base/diag.h"
#include "passes/compress/formats/formats.h"

enum { MAX_TYPES = 100, MAX_SIZE = 255, SHORTEST = 4, MAX_STEP = 255, MAX_SIDE = 8 };

typedef struct Element {
  int64_t row, col;
  double v;
  bool used;
} Element;

typedef struct Type {
  CsxKind kind;
  int64_t step;  // BLOCK: columns + 16 * rows
} Type;

typedef struct Csxer {
  Arena *arena;
  int64_t rows, cols, n;
  Element *e;                 // row-major
  int64_t *at;                // element of each place of the matrix, -1: zero
  int64_t *order[CSX_KINDS];  // elements in the order of a kind's runs
  Type type[MAX_TYPES];
  int64_t n_types;
  Csx *out;
} Csxer;

const char *csx_kind_name(CsxKind kind) {
  static const char *const names[] = {"delta", "horizontal", "vertical", "diagonal", "anti-diagonal", "block"};
  return names[kind];
}

// Elements with one key are on one line; `place` counts along it.
static int64_t line_key(CsxKind kind, const Element *e) {
  switch (kind) {
    case CSX_VERTICAL: return e->col;
    case CSX_DIAGONAL: return e->row - e->col;
    case CSX_ANTI: return e->row + e->col;
    default: return e->row;
  }
}

static int64_t line_place(CsxKind kind, const Element *e) { return kind == CSX_HORIZONTAL ? e->col : e->row; }

static int64_t bound(const Csxer *x, CsxKind kind) { return kind == CSX_VERTICAL ? x->cols : x->rows + x->cols; }

// Row-major order is the order along every line, so a counting sort by key gives the runs.
static void orders_make(Csxer *x) {
  for (int kind = CSX_HORIZONTAL; kind <= CSX_ANTI; kind++) {
    int64_t n = bound(x, (CsxKind)kind) + 1, low = kind == CSX_DIAGONAL ? x->cols : 0;
    int64_t *first = NEW_ARRAY(x->arena, int64_t, n + 1);
    x->order[kind] = NEW_ARRAY(x->arena, int64_t, x->n + 1);
    for (int64_t i = 0; i < x->n; i++) first[line_key((CsxKind)kind, &x->e[i]) + low + 1]++;
    for (int64_t k = 0; k < n; k++) first[k + 1] += first[k];
    for (int64_t i = 0; i < x->n; i++) x->order[kind][first[line_key((CsxKind)kind, &x->e[i]) + low]++] = i;
  }
}

static void unit_add(Csxer *x, const Type *t, int64_t n, const int64_t *member) {
  const Element *first = &x->e[member[0]];
  int64_t *places = NEW_ARRAY(x->arena, int64_t, n);
  for (int64_t k = 0; k < n; k++) {
    Element *e = &x->e[member[k]];
    e->used = true;
    places[k] = e->row * x->cols + e->col;
  }
  CsxUnit u = {t->kind, first->row, first->col, n, t->step, places};
  x->out->covered[t->kind] += n;
  vec_push(x->arena, &x->out->units, u);
}

// The length of the run that begins at live[0]: elements of one line at one distance.
static int64_t run_length(const Csxer *x, CsxKind kind, const int64_t *live, int64_t n, int64_t *step) {
  int64_t k = 1;
  *step = 0;
  for (; k < n && k < MAX_SIZE; k++) {
    const Element *e = &x->e[live[k]], *last = &x->e[live[k - 1]];
    int64_t d = line_place(kind, e) - line_place(kind, last);
    if (line_key(kind, e) != line_key(kind, last) || (k > 1 && d != *step)) break;
    *step = d;
  }
  return k;
}

// Walks all runs of a kind: counts what each step covers, or with `only` makes units of those of that step. The last
// element of a run that is too short may begin the next one.
static void runs_walk(Csxer *x, CsxKind kind, int64_t *cover, const Type *only) {
  ArenaMark mark = arena_mark(x->arena);
  int64_t *live = NEW_ARRAY(x->arena, int64_t, x->n + 1), n = 0, step;
  for (int64_t i = 0; i < x->n; i++)
    if (!x->e[x->order[kind][i]].used) live[n++] = x->order[kind][i];
  for (int64_t i = 0; i < n;) {
    int64_t k = run_length(x, kind, live + i, n - i, &step);
    bool fits = k >= SHORTEST && step <= MAX_STEP;
    if (fits && cover) cover[step] += k;
    if (fits && only && step == only->step) unit_add(x, only, k, live + i);
    i += fits || k == 1 ? k : k - 1;
  }
  if (cover) arena_reset(x->arena, mark);  // units live in the arena
}

// Is a block of unused non-zeros?
static bool is_block(const Csxer *x, int64_t row, int64_t col, int64_t h, int64_t w, int64_t *member) {
  int64_t n = 0;
  if (row + h > x->rows || col + w > x->cols) return false;
  for (int64_t i = row; i < row + h; i++)
    for (int64_t j = col; j < col + w; j++) {
      int64_t at = x->at[i * x->cols + j];
      if (at < 0 || x->e[at].used) return false;
      member[n++] = at;
    }
  return true;
}

static int64_t blocks_walk(Csxer *x, int64_t h, int64_t w, const Type *only) {
  int64_t covered = 0, member[MAX_SIDE * MAX_SIDE];
  for (int64_t row = 0; row + h <= x->rows; row += h)
    for (int64_t col = 0; col + w <= x->cols; col += w) {
      if (!is_block(x, row, col, h, w, member)) continue;
      covered += h * w;
      if (only) unit_add(x, only, h * w, member);
    }
  return covered;
}

// The pair that covers most of what is not used yet; returns how much.
static int64_t type_best(Csxer *x, Type *best) {
  int64_t most = 0, cover[MAX_STEP + 1];
  for (int kind = CSX_HORIZONTAL; kind <= CSX_ANTI; kind++) {
    memset(cover, 0, sizeof cover);
    runs_walk(x, (CsxKind)kind, cover, NULL);
    for (int64_t step = 1; step <= MAX_STEP; step++) {
      if (cover[step] <= most) continue;
      most = cover[step];
      *best = (Type){(CsxKind)kind, step};
    }
  }
  for (int64_t h = 2; h <= MAX_SIDE; h++)
    for (int64_t w = 2; w <= MAX_SIDE; w++) {
      int64_t covered = blocks_walk(x, h, w, NULL);
      if (covered <= most) continue;
      most = covered;
      *best = (Type){CSX_BLOCK, w + 16 * h};
    }
  return most;
}

// ---- the stream

static void put_varint(Csxer *x, int64_t v) {
  for (; v >= 128; v >>= 7) vec_push(x->arena, &x->out->control, (uint8_t)(v & 127) | 128);
  vec_push(x->arena, &x->out->control, (uint8_t)v);
}

static int64_t get_varint(const uint8_t **p) {
  int64_t v = 0;
  for (int shift = 0;; shift += 7) {
    uint8_t b = *(*p)++;
    v |= (int64_t)(b & 127) << shift;
    if (b < 128) return v;
  }
}

// What is left, row by row, in units of at most MAX_SIZE.
static void deltas_make(Csxer *x) {
  int64_t member[MAX_SIZE], n = 0;
  static const Type delta = {CSX_DELTA, 0};
  for (int64_t i = 0; i <= x->n; i++) {
    bool more = i < x->n && !x->e[i].used;
    bool full = n == MAX_SIZE || (n > 0 && more && x->e[member[0]].row != x->e[i].row) || (n > 0 && i == x->n);
    if (full) unit_add(x, &delta, n, member);
    if (full) n = 0;
    if (more) member[n++] = i;
  }
}

static int by_first(const void *a, const void *b) {
  const CsxUnit *u = a, *v = b;
  if (u->row != v->row) return u->row < v->row ? -1 : 1;
  return (u->col > v->col) - (u->col < v->col);
}

// Row and column of element k of a unit but a delta unit.
static void unit_place(const CsxUnit *u, int64_t k, int64_t *row, int64_t *col) {
  int64_t w = u->step % 16;
  *row = u->row + (u->kind == CSX_HORIZONTAL ? 0 : u->kind == CSX_BLOCK ? k / w : k * u->step);
  switch (u->kind) {
    case CSX_VERTICAL: *col = u->col; break;
    case CSX_ANTI: *col = u->col - k * u->step; break;
    case CSX_BLOCK: *col = u->col + k % w; break;
    default: *col = u->col + k * u->step;
  }
}

static int64_t type_of(const Csxer *x, const CsxUnit *u) {
  for (int64_t i = 0; i < x->n_types; i++)
    if (x->type[i].kind == u->kind && x->type[i].step == u->step) return i;
  qcc_bug("a unit of a type that is not in the table");
}

static void control_make(Csxer *x) {
  Csx *c = x->out;
  int64_t row = 0, col = 0, at = 0;
  vec_push(x->arena, &c->control, (uint8_t)x->n_types);
  for (int64_t i = 0; i < x->n_types; i++) {
    vec_push(x->arena, &c->control, (uint8_t)x->type[i].kind);
    vec_push(x->arena, &c->control, (uint8_t)x->type[i].step);
  }
  c->a = NEW_ARRAY(x->arena, double, x->n + 1);
  for (uint32_t i = 0; i < c->units.n; i++) {
    const CsxUnit *u = &c->units.at[i];
    bool jump = u->row != row;
    vec_push(x->arena, &c->control, (uint8_t)(type_of(x, u) | (jump ? 128 : 0)));
    vec_push(x->arena, &c->control, (uint8_t)u->size);
    if (jump) put_varint(x, u->row - row);
    put_varint(x, u->col - (jump ? 0 : col));
    row = u->row;
    col = u->col;
    for (int64_t k = 0; k < u->size; k++) {
      if (u->kind == CSX_DELTA && k > 0) put_varint(x, u->places[k] - u->places[k - 1]);
      c->a[at++] = x->e[x->at[u->places[k]]].v;
    }
  }
}

void csx_decode(const Csx *c, double *out) {
  for (int64_t i = 0; i < c->rows * c->cols; i++) out[i] = 0;
  const uint8_t *p = c->control.at, *types = p + 1, *end = p + c->control.n;
  int64_t at = 0;
  CsxUnit u = {0};
  for (p += 1 + 2 * p[0]; p < end;) {
    uint8_t type = *p++;
    u.size = *p++;
    u.kind = (CsxKind)types[2 * (type & 127)];
    u.step = types[2 * (type & 127) + 1];
    if (type & 128) u.row += get_varint(&p);
    u.col = get_varint(&p) + (type & 128 ? 0 : u.col);
    int64_t row = u.row, col = u.col;
    for (int64_t k = 0; k < u.size; k++) {
      if (u.kind == CSX_DELTA) {
        col += k > 0 ? get_varint(&p) : 0;
      } else {
        unit_place(&u, k, &row, &col);
      }
      out[row * c->cols + col] = c->a[at++];
    }
  }
}

int64_t csx_bytes(const Csx *c, int64_t value_bytes) { return c->n * value_bytes + c->control.n; }

static void elements_make(Csxer *x, const Matrix *m) {
  x->n = matrix_nonzeros(m);
  x->e = NEW_ARRAY(x->arena, Element, x->n + 1);
  x->at = NEW_ARRAY(x->arena, int64_t, m->rows * m->cols + 1);
  int64_t n = 0;
  for (int64_t i = 0; i < m->rows * m->cols; i++) {
    x->at[i] = -1;
    if (m->v[i] == 0) continue;
    x->at[i] = n;
    x->e[n++] = (Element){i / m->cols, i % m->cols, m->v[i], false};
  }
}

Csx csx_of(const Matrix *m, Arena *arena) {
  Csx out = {.rows = m->rows, .cols = m->cols};
  Csxer x = {.arena = arena, .rows = m->rows, .cols = m->cols, .out = &out};
  elements_make(&x, m);
  out.n = x.n;
  orders_make(&x);
  Type best;
  // A pair must cover a twentieth of what there is; the rest is cheaper as deltas.
  while (x.n_types + 1 < MAX_TYPES && x.n > 0 && type_best(&x, &best) * 20 >= x.n) {
    x.type[x.n_types++] = best;
    if (best.kind == CSX_BLOCK) {
      blocks_walk(&x, best.step / 16, best.step % 16, &best);
    } else {
      runs_walk(&x, best.kind, NULL, &best);
    }
  }
  uint32_t before = out.units.n;
  deltas_make(&x);
  if (out.units.n > before) x.type[x.n_types++] = (Type){CSX_DELTA, 0};
  if (out.units.n) qsort(out.units.at, out.units.n, sizeof *out.units.at, by_first);
  out.types = x.n_types;
  control_make(&x);
  return out;
}
