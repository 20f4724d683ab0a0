// The kernel of the strategy sparse. See sparse.h.
#include "passes/lower/sparse.h"

#include "ir/note.h"
#include "passes/lower/dot8.h"
#include "passes/sparse_rows.h"

// A register tile: vectors, lanes of the last one that are results; its image and first position.
typedef struct Tile {
  int64_t v, tail;
  Affine image, at;
  KBuf *acc;
} Tile;

typedef struct Kernels {
  SparseEmit e;
  KBuf *x, *values, *places, *first, *order, *busy;
} Kernels;

static Affine lanes_begin(KBuild *b, int64_t lanes) { return aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC)); }

// ---- operands of the result

KBuf *sparse_param(SparseEmit *e, PBuf *buf) {
  e->bufs[e->n_bufs++] = buf;
  return lower_flat(&e->b, buf);
}

// Strides of an operand over the axes of the result, 0 where it is stretched.
static void axis_strides(const Type *t, const Type *y, int64_t *stride) {
  int64_t run = 1;
  for (uint32_t i = 0; i < MAX_RANK; i++) stride[i] = 0;
  for (uint32_t i = t->rank; i-- > 0;) {
    if (t->dims[i] != 1) stride[y->rank - t->rank + i] = run;
    run *= t->dims[i];
  }
}

static void add_extra(SparseEmit *e, Value *v, bool per_channel) {
  const Sparse *s = &e->l->s;
  const Type *y = op_out(e->l->op, 0)->type, *t = v->type;
  SparseExtra *x = &e->extra[e->n_extra++];
  int64_t stride[MAX_RANK], last = t->rank > 0 ? t->dims[t->rank - 1] : 1;
  *x = (SparseExtra){.buf = sparse_param(e, lower_buf(e->l->ctx, v))};
  if (per_channel) {
    x->stride[1] = type_count(t) > 1;
  } else if (s->last) {
    x->stride[1] = last != 1;
    x->stride[4] = type_count(t) != last ? last : 0;
  } else {
    axis_strides(t, y, stride);
    x->stride[0] = stride[0];
    x->stride[1] = stride[1];
    for (uint32_t i = 2; i < y->rank; i++) x->stride[5 + i - y->rank] = stride[i];
    if (e->l->in_order) {  // the spatial axes are one
      x->stride[4] = x->stride[2] + x->stride[3] + x->stride[4] > 0;
      x->stride[2] = x->stride[3] = 0;
    }
  }
}

void sparse_results(SparseEmit *e) {
  const Op *op = e->l->op;
  e->y = sparse_param(e, lower_buf(e->l->ctx, op_out(op, 0)));
  e->has_bias = e->l->bias != NULL;
  if (e->has_bias) add_extra(e, e->l->bias, op->kind == OP_CONV || e->l->s.bytes);
  for (uint32_t i = op_info(op->kind)->max_in; i < op->n_in; i++) add_extra(e, op_in(op, i), false);
}

static KExpr *load_extra(SparseEmit *e, const SparseExtra *x, const Affine *at) {
  Affine i = aff(0);
  for (uint32_t a = 0; a < 2 + CONV_AXES; a++) i = aff_add(i, aff_mul(at[a], x->stride[a]));
  return lower_load1(&e->b, x->buf, i);
}

void sparse_finish(SparseEmit *e, KExpr *sum, const Affine *at, Affine to) {
  KBuild *b = &e->b;
  const Func *post = op_post(e->l->op);
  if (e->has_bias) sum = kx_op2(b, KOP_ADD, sum, load_extra(e, &e->extra[0], at));
  if (post != NULL) {
    KExpr *args[SPARSE_EXTRA + 1] = {sum};
    for (uint32_t i = e->has_bias; i < e->n_extra; i++) args[1 + i - e->has_bias] = load_extra(e, &e->extra[i], at);
    sum = lower_body(b, post, args);
  }
  lower_store1(b, e->y, to, sum);
}

// ---- a row: the sums of one filter over a tile

static KExpr *load_sum(KBuild *b, const Tile *t, int64_t v, Affine l) {
  return kx_load(b, t->acc, (Affine[]){aff(v), l});
}

static void store_sum(KBuild *b, const Tile *t, int64_t v, Affine l, KExpr *x) {
  kb_store(b, t->acc, (Affine[]){aff(v), l}, x);
}

// Where sums of filter o lie between parts.
static Affine sums_at(const SparseLower *l, const Tile *t, Affine o) {
  return aff_add(aff_mul(aff_add(aff_mul(t->image, l->s.o), o), l->row), t->at);
}

static void start_row(Kernels *k, const Tile *t, Affine o, bool first) {
  KBuild *b = &k->e.b;
  const SparseLower *s = k->e.l;
  for (int64_t v = 0; v < t->v; v++) {
    Affine l = lanes_begin(b, s->lanes);
    Affine from = aff_add(aff_plus(sums_at(s, t, o), v * s->lanes), l);
    store_sum(b, t, v, l, first ? lower_number(b, s->type, 0) : kx_load1(b, k->e.sums, from));
    kb_end(b);
  }
}

static void end_row(Kernels *k, const Tile *t, Affine o, bool final) {
  SparseEmit *e = &k->e;
  KBuild *b = &e->b;
  const SparseLower *s = e->l;
  bool results = final && s->in_order;
  for (int64_t v = 0; v < t->v; v++) {
    Affine l = lanes_begin(b, results && v + 1 == t->v ? t->tail : s->lanes), lane = aff_plus(l, v * s->lanes);
    if (results) {
      Affine at[2 + CONV_AXES] = {t->image, o, aff(0), aff(0), aff_add(t->at, lane)};
      Affine to = aff_add(aff_mul(aff_add(aff_mul(t->image, s->s.o), o), s->s.positions), at[4]);
      sparse_finish(e, load_sum(b, t, v, l), at, to);
    } else {
      kb_store1(b, e->sums, aff_add(sums_at(s, t, o), lane), load_sum(b, t, v, l));
    }
    kb_end(b);
  }
}

static KExpr *product(Kernels *k, KExpr *x, KExpr *w, KExpr *sum) {
  KBuild *b = &k->e.b;
  return k->e.l->s.bytes ? kx_op3(b, KOP_DOT4, sum, x, w) : lower_mul_add(k->e.l->ctx, b, x, w, sum);
}

// The entries [from, to) of the packed weights.
static void add_entries(Kernels *k, const Tile *t, Affine x, KVar *from, KVar *to) {
  KBuild *b = &k->e.b;
  const SparseLower *s = k->e.l;
  Affine i = aff_var(kb_for_aff(b, "e", aff_var(from), aff_var(to), 1, FOR_SEQ));
  KVar *w = kb_let(b, "w", kx_load1(b, k->values, i)), *place = kb_let(b, "place", kx_load1(b, k->places, i));
  for (int64_t v = 0; v < t->v; v++) {
    Affine l = lanes_begin(b, s->lanes), at = aff_plus(aff_add(aff_add(x, aff_var(place)), l), v * s->lanes);
    store_sum(b, t, v, l, product(k, kx_load1(b, k->x, at), kx_var(b, w), load_sum(b, t, v, l)));
    kb_end(b);
  }
  kb_end(b);
}

// All rows of a part, or those that have entries in it when it is neither the first nor the last.
static void emit_part(Kernels *k, const Tile *t, Affine part, bool first, bool final) {
  KBuild *b = &k->e.b;
  const SparseLower *s = k->e.l;
  Affine x = aff_add(aff_mul(t->image, s->s.c * s->plane), aff_add(t->at, aff_mul(part, s->channels * s->plane)));
  KVar *x_at = kb_let(b, "xo", kx_index(b, x));
  Affine rows = first || final ? aff(s->s.o) : aff_var(kb_let(b, "busy", kx_load1(b, k->busy, part)));
  Affine r = aff_add(aff_mul(part, s->s.o), aff_var(kb_for_aff(b, "r", aff(0), rows, 1, FOR_SEQ)));
  KVar *o = kb_let(b, "o", kx_load1(b, k->order, r));
  KVar *from = kb_let(b, "from", kx_load1(b, k->first, r)),
       *to = kb_let(b, "to", kx_load1(b, k->first, aff_plus(r, 1)));
  start_row(k, t, aff_var(o), first);
  add_entries(k, t, aff_var(x_at), from, to);
  end_row(k, t, aff_var(o), final);
  kb_end(b);
}

static void emit_tile(Kernels *k, Tile t) {
  KBuild *b = &k->e.b;
  const SparseLower *s = k->e.l;
  t.acc = kb_alloc(b, "acc", s->type, 2, (int64_t[]){t.v, s->lanes}, SPACE_REG);
  emit_part(k, &t, aff(0), true, s->parts == 1);
  if (s->parts == 1) return;
  if (s->parts > 2) {
    emit_part(k, &t, aff_var(kb_for(b, "part", 1, s->parts - 1, 1, FOR_SEQ)), false, false);
    kb_end(b);
  }
  emit_part(k, &t, aff(s->parts - 1), false, true);
}

// ---- the kernel

static void emit_params(Kernels *k) {
  SparseEmit *e = &k->e;
  SparseLower *l = e->l;
  k->x = sparse_param(e, l->x);
  k->values = sparse_param(e, lower_const(l->ctx, l->values));
  if (l->s.bytes) {
    int64_t x = k->x->dims[0], w = k->values->dims[0];
    k->x = kb_view(&e->b, k->x, "x4", DT_U8X4, 1, &x);
    k->values = kb_view(&e->b, k->values, "w4", DT_I8X4, 1, &w);
  }
  k->places = sparse_param(e, lower_const(l->ctx, l->places));
  k->first = sparse_param(e, lower_const(l->ctx, l->first));
  k->order = sparse_param(e, lower_const(l->ctx, l->order));
  if (l->parts > 2) k->busy = sparse_param(e, lower_const(l->ctx, l->busy));
  if (l->sums != NULL) e->sums = sparse_param(e, l->sums);
  if (l->in_order) sparse_results(e);
}

void sparse_multiply(SparseLower *l) {
  Kernels k = {.e = {.l = l}};
  KBuild *b = &k.e.b;
  kbuild_init(b, l->ctx->m, arena_printf(l->ctx->m->arena, "sparse_%u", l->op->id), l->op->loc);
  emit_params(&k);
  int64_t width = l->v * l->lanes, full = l->s.positions / width, rest = l->s.positions % width;
  int64_t blocks = full + (rest > 0);
  Affine p = aff_var(kb_for(b, "p", 0, l->s.images * blocks, 1, FOR_PAR)), image = p, block = aff(0);
  if (blocks > 1) {
    block = aff_var(kb_let(b, "block", kx_op2(b, KOP_MOD, kx_index(b, p), kx_i(b, DT_I64, blocks))));
    image = aff_var(kb_let(b, "image", kx_op2(b, KOP_DIV, kx_index(b, p), kx_i(b, DT_I64, blocks))));
  }
  if (full > 0 && rest > 0) kb_if(b, kx_op2(b, KOP_LT, kx_index(b, block), kx_i(b, DT_I64, full)));
  if (full > 0) emit_tile(&k, (Tile){.v = l->v, .tail = l->lanes, .image = image, .at = aff_mul(block, width)});
  if (full > 0 && rest > 0) kb_else(b);
  if (rest > 0) {
    int64_t vectors = (rest + l->lanes - 1) / l->lanes;
    emit_tile(&k, (Tile){vectors, rest - (vectors - 1) * l->lanes, image, aff(full * width), NULL});
  }
  if (full > 0 && rest > 0) kb_end(b);
  kb_end(b);
  Step *step = lower_step(l->ctx, b, l->op, NULL, k.e.n_bufs, k.e.bufs);
  step->strategy = "sparse";
  step->macs = l->nonzeros * (double)(l->s.images * l->s.positions);
}

// ---- the op

static bool spatial_merges(const Sparse *s, const Op *op) {
  return s->last || result_axes_merge(op, 2, op_out(op, 0)->type->rank);
}

static PBuf *work(SparseLower *l, const char *name, int64_t n) {
  return lower_work(l->ctx, name, type_tensor(l->ctx->m->types, l->type, 1, &n));
}

static bool past_limits(const SparseLower *l) {
  return diag_error(l->ctx->m->diag, DIAG_LIMIT, l->op->loc, "the planes of a sparse layer are past the size limit");
}

// Vectors of positions.
static bool multiply(SparseLower *l, const Plan *plan) {
  l->v = plan_param(plan, "v", 4);
  l->channels = plan_param(plan, "channels", l->s.c);
  if (l->v < 1 || l->v > l->ctx->target->n_vregs - 2) l->v = 4;
  if (l->channels < 1 || l->channels > l->s.c) l->channels = l->s.c;
  l->parts = (l->s.c + l->channels - 1) / l->channels;
  l->plane = sparse_plane(&l->s, l->lanes);
  l->row = (l->s.positions + l->lanes - 1) / l->lanes * l->lanes;
  l->in_order = !l->s.last && l->s.dense && spatial_merges(&l->s, l->op);
  int64_t planes, sums;
  if (!dims_count(3, (int64_t[]){l->s.images, l->s.c, l->plane + l->lanes}, &planes) ||
      !dims_count(3, (int64_t[]){l->s.images, l->s.o + SPARSE_SQUARE, l->row}, &sums) || !sparse_pack(l))
    return past_limits(l);
  l->x = sparse_planes(l, lower_buf(l->ctx, op_in(l->op, 0)));
  if (!l->in_order || l->parts > 1) l->sums = work(l, "sums", (l->s.images * l->s.o + SPARSE_SQUARE) * l->row);
  sparse_multiply(l);
  if (!l->in_order) sparse_store(l);
  return true;
}

bool lower_sparse(LowerCtx *ctx, const Op *op, const Plan *plan) {
  SparseLower l = {.ctx = ctx, .op = op, .lanes = target_lanes(ctx->target, 32)};
  if (!sparse_of(op, &l.s))
    return diag_error(
        ctx->m->diag, DIAG_USAGE, op->loc,
        "plan 'sparse' reads constant f32 weights of a convolution with channels first, i8 ones of a convolution with "
        "channels last, or either of a 1x1 convolution or a matrix product of rows; use another plan");
  l.nonzeros = (double)sparse_nonzeros(ctx->m, &l.s);
  l.type = l.s.bytes ? DT_I32 : DT_F32;
  l.bias = op_in(op, 2);
  if (l.s.bytes) {
    Nest sums = {.op = op, .x_zero = op_int(op, op->kind == OP_CONV ? (int)A_CONV_x_zero : (int)A_MATMUL_x_zero)};
    l.bias = dot8_bias(ctx, &sums, sparse_taps(&l.s) * 4 * l.s.c, l.s.o, l.s.w_c, l.s.w_o);
  }
  double all = (double)sparse_entries(&l.s);
  note_layer(ctx->m, op, NOTE_RECOVERED, "%.0f of %.0f %s are not zero (%.1f %% zeros); only they are multiplied",
             l.nonzeros, all, l.s.bytes ? "fours of weights" : "weights", 100 * (1 - l.nonzeros / all));
  bool rows = plan_param(plan, "g", 0) > 0 || plan_param(plan, "blocks", 0) > 0;
  if (rows && l.s.last && !l.s.spatial && l.s.group == 1 && l.s.c >= SPARSE_WINDOW)
    return sparse_rows(&l, plan) || past_limits(&l);
  return multiply(&l, plan);
}
