// resize: every mode through tables of source positions and weights (resize_taps.h), made at compile time.
//
// Neighbouring axes that are copied as they are become one loop; the innermost of them is walked by vectors. An axis
// enlarged by a whole factor in nearest mode needs no table: it becomes two loops, source position and repeat. Smooth
// modes sum the product of the taps of all resized axes, weights multiplied per output position.
#include "passes/lower/lanes.h"
#include "passes/lower/resize_taps.h"

#define UNROLL_TAPS 4
#define MAX_AXES (2 * MAX_RANK)

typedef struct Loop {
  int64_t extent, xs, ys;
  const ResizeAxis *axis;  // table of this loop, NULL: affine
  KBuf *index, *weight, *outside;
  Affine o;  // its variable
} Loop;

typedef struct Resize {
  LowerCtx *ctx;
  bool nearest;
  double extrapolation;
  DType t;
  uint32_t n;
  Loop loop[MAX_AXES];
  int64_t run;  // innermost elements copied as they are
  KBuf *x, *y, *acc;
  PBuf *bufs[2 + 3 * MAX_RANK];
  uint32_t n_bufs;
  Affine x0, y0;
  KExpr *outside;  // NULL: never
  KVar *weight;
} Resize;

// The whole factor of a nearest axis that reads o / factor, or 0.
static int64_t repeat_of(const ResizeAxis *a) {
  if (a->n != 1 || a->outside || !a->in || a->out % a->in) return 0;
  int64_t f = a->out / a->in;
  for (int64_t o = 0; o < a->out; o++) {
    if (a->index[o] != o / f) return 0;
  }
  return f;
}

static void add_loop(Resize *r, Loop l) {
  if (l.extent == 1 && !l.axis) return;
  r->loop[r->n++] = l;
}

static bool read_loops(Resize *r, const Op *op, Arena *arena) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  int64_t xs[MAX_RANK], ys[MAX_RANK], sx = 1, sy = 1;
  for (uint32_t i = x->rank; i-- > 0; sx *= x->dims[i], sy *= y->dims[i]) {
    xs[i] = sx;
    ys[i] = sy;
  }
  for (uint32_t i = 0; i < x->rank; i++) {
    ResizeAxis *a = NEW(arena, ResizeAxis);
    *a = resize_axis(op, i, arena);
    if (a->too_large) {
      return diag_error(r->ctx->m->diag, DIAG_LIMIT, op->loc,
                        "resize of axis %u needs a table of more than %lld entries", i, (long long)RESIZE_TABLE_MAX);
    }
    int64_t repeat = a->touched && r->nearest ? repeat_of(a) : 0;
    Loop *before = r->n ? &r->loop[r->n - 1] : NULL;
    if (repeat) {
      add_loop(r, (Loop){.extent = a->in, .xs = xs[i], .ys = ys[i] * repeat});
      add_loop(r, (Loop){.extent = repeat, .xs = 0, .ys = ys[i]});
    } else if (a->touched) {
      add_loop(r, (Loop){.extent = a->out, .xs = xs[i], .ys = ys[i], .axis = a});
    } else if (before && !before->axis && before->xs == xs[i] * a->in && before->ys == ys[i] * a->in) {
      before->extent *= a->in;
      before->xs = xs[i];
      before->ys = ys[i];
    } else {
      add_loop(r, (Loop){.extent = a->in, .xs = xs[i], .ys = ys[i]});
    }
  }
  r->run = 1;
  Loop *last = r->n ? &r->loop[r->n - 1] : NULL;
  if (last && !last->axis && last->xs == 1) {
    r->run = last->extent;
    r->n--;
  }
  return true;
}

// ---- tables

static KBuf *table(Resize *r, KBuild *b, DType t, int64_t n, const void *bytes, const char *name) {
  Module *m = r->ctx->m;
  PBuf *buf = lower_const(r->ctx, const_bytes(m, type_tensor(m->types, t, 1, &n), bytes, name));
  r->bufs[r->n_bufs++] = buf;
  return lower_flat(b, buf);
}

static void make_tables(Resize *r, KBuild *b) {
  for (uint32_t i = 0; i < r->n; i++) {
    Loop *l = &r->loop[i];
    if (!l->axis) continue;
    const ResizeAxis *a = l->axis;
    int64_t n = a->out * a->n;
    l->index = table(r, b, DT_I64, n, a->index, "source");
    if (!r->nearest && r->t == DT_F64) l->weight = table(r, b, DT_F64, n, a->weight, "weight");
    if (!r->nearest && r->t == DT_F32) {
      float *w = NEW_ARRAY(r->ctx->m->arena, float, n);
      for (int64_t k = 0; k < n; k++) w[k] = (float)a->weight[k];
      l->weight = table(r, b, DT_F32, n, w, "weight");
    }
    if (a->outside) l->outside = table(r, b, DT_BOOL, a->out, a->outside, "outside");
  }
}

// ---- one output position

static KExpr *or_extrapolated(const Resize *r, KBuild *b, KExpr *v) {
  if (!r->outside) return v;
  return kx_op3(b, KOP_SELECT, kx_clone(b, r->outside), lower_number(b, v->type, r->extrapolation), v);
}

static void copy_column(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)acc;
  Resize *r = ctx;
  lower_store1(b, r->y, aff_add(r->y0, col), or_extrapolated(r, b, lower_load1(b, r->x, aff_add(r->x0, col))));
}

static void tap_column(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Resize *r = ctx;
  KExpr *x = kx_cast(b, r->t, lower_load1(b, r->x, aff_add(r->x0, col)));
  kb_store(b, r->acc, acc, kx_op3(b, KOP_FMA, kx_var(b, r->weight), x, kx_load(b, r->acc, acc)));
}

static void sum_column(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Resize *r = ctx;
  KExpr *v = or_extrapolated(r, b, kx_load(b, r->acc, acc));
  lower_store1(b, r->y, aff_add(r->y0, col), kx_cast(b, lower_compute_type(r->y->type), v));
}

// Opens the tap loops of all resized axes; x0 and weight are those of one combination.
static uint32_t open_taps(Resize *r, KBuild *b) {
  uint32_t opened = 0;
  KExpr *weight = NULL;
  for (uint32_t i = 0; i < r->n; i++) {
    const Loop *l = &r->loop[i];
    if (!l->axis) continue;
    int64_t n = l->axis->n;
    KVar *k = kb_for(b, "k", 0, n, 1, n <= UNROLL_TAPS ? FOR_UNROLL : FOR_SEQ);
    Affine at = aff_add(aff_mul(l->o, n), aff_var(k));
    Affine from = aff_var(kb_let(b, "from", kx_load1(b, l->index, at)));
    r->x0 = aff_add(r->x0, aff_mul(from, l->xs));
    KExpr *w = kx_load1(b, l->weight, at);
    weight = weight ? kx_op2(b, KOP_MUL, weight, w) : w;
    opened++;
  }
  r->weight = kb_let(b, "w", weight ? weight : lower_number(b, r->t, 1));
  return opened;
}

static void smooth_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Resize save = *(Resize *)ctx, *r = ctx;
  r->x0 = aff_add(r->x0, first);
  r->y0 = aff_add(r->y0, first);
  r->acc = columns_alloc(b, c, "acc", r->t);
  columns_fill(b, c, r->acc, lower_number(b, r->t, 0));
  uint32_t opened = open_taps(r, b);
  columns_each(b, c, NULL, tap_column, r);
  while (opened--) kb_end(b);
  columns_each(b, c, NULL, sum_column, r);
  *r = save;
}

static void nearest_site(Resize *r, KBuild *b) {
  if (r->run == 1) {
    copy_column(r, b, NULL, aff(0), NULL);
    return;
  }
  KVar *i = kb_for(b, "i", 0, r->run, 1, FOR_VEC);
  copy_column(r, b, NULL, aff_var(i), NULL);
  kb_end(b);
}

static void smooth_site(Resize *r, KBuild *b) {
  if (r->run > 1) {
    columns_tiles(r->ctx, b, r->t, r->run, false, smooth_tile, r);
    return;
  }
  Columns one = columns_new(r->ctx, r->t, 1);
  smooth_tile(r, b, &one, aff(0));
}

static void emit_loops(Resize *r, KBuild *b, bool par) {
  r->x0 = r->y0 = aff(0);
  for (uint32_t i = 0; i < r->n; i++) {
    Loop *l = &r->loop[i];
    l->o = aff_var(kb_for(b, "o", 0, l->extent, 1, par && i == 0 ? FOR_PAR : FOR_SEQ));
    r->y0 = aff_add(r->y0, aff_mul(l->o, l->ys));
    Affine from = l->o;
    if (l->axis && r->nearest) from = aff_var(kb_let(b, "from", kx_load1(b, l->index, l->o)));
    if (!l->axis || r->nearest) r->x0 = aff_add(r->x0, aff_mul(from, l->xs));
    if (!l->outside) continue;
    KExpr *off = kx_load1(b, l->outside, l->o);
    r->outside = r->outside ? kx_op2(b, KOP_OR, r->outside, off) : off;
  }
  if (r->outside) r->outside = kx_var(b, kb_let(b, "outside", r->outside));
  if (r->nearest) {
    nearest_site(r, b);
  } else {
    smooth_site(r, b);
  }
  for (uint32_t i = 0; i < r->n; i++) kb_end(b);
}

bool lower_resize(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type;
  Resize r = {.ctx = ctx, .nearest = op_enum(op, A_RESIZE_mode) == RESIZE_NEAREST};
  KBuild b;
  if (!type_count(x)) return diag_error(ctx->m->diag, DIAG_REFUSED, op->loc, "resize of an empty tensor");
  r.extrapolation = op_float(op, A_RESIZE_extrapolation);
  r.t = dtype_is_float(x->dtype) ? lower_compute_type(x->dtype) : DT_F64;
  r.bufs[r.n_bufs++] = lower_buf(ctx, op_out(op, 0));
  r.bufs[r.n_bufs++] = lower_buf(ctx, op_in(op, 0));
  if (!read_loops(&r, op, ctx->m->arena)) return false;
  lower_begin(ctx, &b, op);
  r.y = lower_flat(&b, r.bufs[0]);
  r.x = lower_flat(&b, r.bufs[1]);
  make_tables(&r, &b);
  emit_loops(&r, &b, type_count(op_out(op, 0)->type) >= LANES_PAR_MIN);
  lower_step(ctx, &b, op, NULL, r.n_bufs, r.bufs);
  return true;
}
