// Staging of contraction operands. See stage.h.
#include "passes/lower/stage.h"

#include "passes/lower/open.h"

static KBuf *flat_param(KBuild *b, const char *name, const PBuf *buf, KSpace space) {
  int64_t count = type_count(buf->type);
  return kb_param(b, name, buf->type->dtype, 1, &count, space);
}

// ---- weights

typedef struct PackEmit {
  KBuild b;
  const PackSpec *s;
  KBuf *from, *to;
} PackEmit;

static void emit_value(PackEmit *e, Affine from, Affine to) {
  lower_store(&e->b, e->to, &to, kx_cast(&e->b, e->s->type, lower_load(&e->b, e->from, &from)));
}

// Columns [column, column + width) of one row of the reduction; `have` of them exist.
static void emit_pack_row(PackEmit *e, Affine from, Affine to, int64_t have, int64_t width) {
  bool contiguous = e->s->n_stride == 1;
  KVar *j = kb_for(&e->b, "j", 0, have, 1, contiguous ? FOR_VEC : FOR_SEQ);
  emit_value(e, aff_add(from, aff_term(j, e->s->n_stride)), aff_add(to, aff_var(j)));
  kb_end(&e->b);
  if (have == width) return;
  j = kb_for(&e->b, "j", have, width, 1, FOR_SEQ);
  Affine at = aff_add(to, aff_var(j));
  DType t = e->s->type;
  kb_store(&e->b, e->to, &at, dtype_is_float(t) ? kx_f(&e->b, t, 0.0) : kx_i(&e->b, t, 0));
  kb_end(&e->b);
}

// Bytes of rows [first, end) of the innermost reduction as one word per column, the last one in its top byte unless
// `low`. `from` is the element of row 0; the packed weights are seen as words, `to` counts them.
static void emit_group(PackEmit *e, Affine from, Affine to, int64_t first, int64_t end, bool low, int64_t have) {
  KBuild *b = &e->b;
  int64_t stride = e->s->red_stride[e->s->n_red - 1], skipped = low ? 0 : e->s->by - (end - first);
  KVar *j = kb_for(b, "j", 0, have, 1, e->s->n_stride == 1 ? FOR_VEC : FOR_SEQ);
  KExpr *word = NULL;
  for (int64_t k = first; k < end; k++) {
    Affine at = aff_plus(aff_add(from, aff_term(j, e->s->n_stride)), k * stride);
    KExpr *byte = kx_cast(b, DT_I32, kx_load(b, e->from, &at));
    int64_t shift = 8 * (k - first + skipped);
    if (shift > 0) byte = kx_op2(b, KOP_SHL, byte, kx_i(b, DT_I32, shift));
    word = word == NULL ? byte : kx_op2(b, KOP_OR, word, byte);
  }
  Affine at = aff_add(to, aff_var(j));
  kb_store(b, e->to, &at, word);
  kb_end(b);
}

// A panel of groups of four bytes (pack.h) as words: whole groups in a loop, what is left of the reduction after it.
static void emit_group_rows(PackEmit *e, Affine from, Affine to, int64_t have, int64_t width) {
  KBuild *b = &e->b;
  const PackSpec *s = e->s;
  int64_t k = s->red[s->n_red - 1], whole = k / s->by, left = k % s->by;
  if (whole > 0) {
    KVar *g = kb_for(b, "g", 0, whole, 1, FOR_SEQ);
    Affine row = aff_add(from, aff_term(g, s->by * s->red_stride[s->n_red - 1]));
    emit_group(e, row, aff_add(to, aff_term(g, width)), 0, s->by, true, have);
    kb_end(b);
  }
  if (left > 0) emit_group(e, from, aff_plus(to, whole * width), k - left, k, whole == 0, have);
  if (have == width) return;
  KVar *g = kb_for(b, "g", 0, whole + (left > 0), 1, FOR_SEQ);
  KVar *j = kb_for(b, "j", have, width, 1, FOR_SEQ);
  Affine at = aff_add(to, aff_add(aff_term(g, width), aff_var(j)));
  kb_store(b, e->to, &at, kx_i(b, DT_I32, 0));
  kb_end(b);
  kb_end(b);
}

static void emit_pack_panel(PackEmit *e, Affine from, Affine to, int64_t have, int64_t width) {
  static const char *const names[PACK_DIMS] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"};
  const PackSpec *s = e->s;
  uint32_t n_loops = s->by > 1 ? s->n_red - 1 : s->n_red;
  int64_t inner = width * pack_k(s);
  for (uint32_t i = 0; i < n_loops; i++) {
    inner /= s->red[i];
    KVar *k = kb_for(&e->b, names[i], 0, s->red[i], 1, FOR_SEQ);
    from = aff_add(from, aff_term(k, s->red_stride[i]));
    to = aff_add(to, aff_term(k, inner));
  }
  if (s->by > 1) {
    emit_group_rows(e, from, to, have, width);
  } else {
    emit_pack_row(e, from, to, have, width);
  }
  for (uint32_t i = 0; i < n_loops; i++) kb_end(&e->b);
}

static void emit_pack(PackEmit *e) {
  static const char *const names[PACK_DIMS] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"};
  const PackSpec *s = e->s;
  Affine from = aff(s->first), to = aff(0);
  int64_t unit = s->by > 1 ? s->by : 1, panel = s->nv * s->lanes, k = pack_k(s);
  int64_t size = pack_copy_elems(s) / unit * pack_copies(s);
  uint32_t open = 0;
  for (uint32_t i = 0; i < s->n_copies; i++) {
    size /= s->copy[i];
    KVar *v = kb_for(&e->b, names[i], 0, s->copy[i], 1, i == 0 ? FOR_PAR : FOR_SEQ);
    from = aff_add(from, aff_term(v, s->copy_stride[i]));
    to = aff_add(to, aff_term(v, size));
    open++;
  }
  int64_t full = s->n / panel, rest = s->n % panel;
  if (full > 0) {
    KVar *v = kb_for(&e->b, "panel", 0, full, 1, s->n_copies == 0 && rest == 0 ? FOR_PAR : FOR_SEQ);
    emit_pack_panel(e, aff_add(from, aff_term(v, panel * s->n_stride)), aff_add(to, aff_term(v, panel * k)), panel,
                    panel);
    kb_end(&e->b);
  }
  if (rest > 0) {
    int64_t width = (rest + s->lanes - 1) / s->lanes * s->lanes;
    emit_pack_panel(e, aff_plus(from, full * panel * s->n_stride), aff_plus(to, full * panel * k), rest, width);
  }
  for (uint32_t i = 0; i < open; i++) kb_end(&e->b);
}

PBuf *stage_weights(LowerCtx *ctx, const Op *op, Value *w, const PackSpec *s) {
  if (value_is_const(w)) {
    Value *packed = pack_const(ctx->m, w->constant, s, op->loc);
    if (packed == NULL) return NULL;
    PackedWeights p = {.op = op, .buf = lower_const(ctx, packed), .from = w->constant, .spec = *s};
    open_remember(ctx, &p);
    return p.buf;
  }
  const Type *t = pack_type(ctx->m, s, op->loc);
  if (t == NULL) return NULL;
  PBuf *bufs[2] = {lower_buf(ctx, w), lower_work(ctx, "packed", t)};
  if (pack_k(s) == 0) return bufs[1];
  PackEmit e = {.s = s};
  kbuild_init(&e.b, ctx->m, arena_printf(ctx->m->arena, "pack_%u", op->id), op->loc);
  e.from = flat_param(&e.b, "w", bufs[0], SPACE_ARG);
  e.to = flat_param(&e.b, "packed", bufs[1], SPACE_WORK);
  if (s->by > 1) {
    int64_t bytes = type_count(w->type), words = type_count(t) / s->by;
    e.from = kb_view(&e.b, e.from, "bytes", DT_U8, 1, &bytes);
    e.to = kb_view(&e.b, e.to, "words", DT_I32, 1, &words);
  }
  emit_pack(&e);
  lower_step(ctx, &e.b, op, NULL, 2, bufs)->strategy = "pack";
  return bufs[1];
}

// ---- windows

bool window_is_inside(const Window *w) {
  for (int i = 0; i < CONV_AXES; i++)
    if (w->from[i] < 0 || w->from[i] + w->extent[i] > w->in[i]) return false;
  return true;
}

typedef struct Valid {
  int64_t lo, hi;  // window positions that exist in x
} Valid;

static Valid valid_range(const Window *w, int axis) {
  Valid v = {-w->from[axis], w->in[axis] - w->from[axis]};
  if (v.lo < 0) v.lo = 0;
  if (v.hi > w->extent[axis]) v.hi = w->extent[axis];
  if (v.lo > v.hi) v.lo = v.hi = 0;
  return v;
}

static void emit_fill(KBuild *b, KBuf *to, Affine at, int64_t count, int64_t fill) {
  if (count <= 0) return;
  KVar *e = kb_for(b, "e", 0, count, 1, FOR_VEC);
  Affine i = aff_add(at, aff_var(e));
  kb_store(b, to, &i, dtype_is_float(to->type) ? kx_f(b, to->type, (double)fill) : kx_i(b, to->type, fill));
  kb_end(b);
}

// lo <= v < hi, as two nested ifs would be; NULL when it always holds.
static KExpr *in_range(KBuild *b, Affine v, Valid r, int64_t extent) {
  KExpr *lo = r.lo > 0 ? kx_op2(b, KOP_GE, kx_index(b, v), kx_i(b, DT_I64, r.lo)) : NULL;
  KExpr *hi = r.hi < extent ? kx_op2(b, KOP_LT, kx_index(b, v), kx_i(b, DT_I64, r.hi)) : NULL;
  if (lo == NULL || hi == NULL) return lo == NULL ? hi : lo;
  return kx_op2(b, KOP_AND, lo, hi);
}

PBuf *stage_window(LowerCtx *ctx, const Op *op, PBuf *x, const Window *w, DType type) {
  int64_t dims[5] = {w->n, w->extent[0], w->extent[1], w->extent[2], w->c}, count;
  if (!dims_count(5, dims, &count)) {
    diag_error(ctx->m->diag, DIAG_LIMIT, op->loc, "the padded input is past the size limit");
    return NULL;
  }
  const Type *t = type_tensor(ctx->m->types, type, 5, dims);
  count += w->room;
  PBuf *all = lower_work(ctx, "padded", w->room > 0 ? type_tensor(ctx->m->types, type, 1, &count) : t);
  PBuf *to = w->room > 0 ? lower_alias(ctx, all, t, 0) : all;
  KBuild b;
  kbuild_init(&b, ctx->m, arena_printf(ctx->m->arena, "pad_%u", op->id), op->loc);
  KBuf *from = flat_param(&b, "x", x, SPACE_ARG), *dst = flat_param(&b, "padded", to, SPACE_WORK);
  Valid d = valid_range(w, 0), h = valid_range(w, 1), c = valid_range(w, 2);
  int64_t row = w->extent[2] * w->c, in_row = w->in[2] * w->c;
  KVar *p = kb_for(&b, "p", 0, w->n * w->extent[0] * w->extent[1], 1, FOR_PAR);
  KVar *rest = kb_let(&b, "rest", kx_op2(&b, KOP_DIV, kx_index(&b, aff_var(p)), kx_i(&b, DT_I64, w->extent[1])));
  KVar *ih = kb_let(&b, "h", kx_op2(&b, KOP_MOD, kx_index(&b, aff_var(p)), kx_i(&b, DT_I64, w->extent[1])));
  KVar *in = kb_let(&b, "n", kx_op2(&b, KOP_DIV, kx_index(&b, aff_var(rest)), kx_i(&b, DT_I64, w->extent[0])));
  KVar *id = kb_let(&b, "d", kx_op2(&b, KOP_MOD, kx_index(&b, aff_var(rest)), kx_i(&b, DT_I64, w->extent[0])));
  KExpr *in_d = in_range(&b, aff_var(id), d, w->extent[0]), *in_h = in_range(&b, aff_var(ih), h, w->extent[1]);
  KExpr *valid = in_d == NULL ? in_h : in_h == NULL ? in_d : kx_op2(&b, KOP_AND, in_d, in_h);
  Affine at = aff_term(p, row);
  if (valid != NULL) kb_if(&b, valid);
  if (c.lo < c.hi) {
    int64_t first = ((w->from[0] * w->in[1] + w->from[1]) * w->in[2] + w->from[2] + c.lo) * w->c;
    Affine src = aff_term(in, w->in[0] * w->in[1] * in_row);
    src = aff_plus(aff_add(src, aff_add(aff_term(id, w->in[1] * in_row), aff_term(ih, in_row))), first);
    emit_fill(&b, dst, at, c.lo * w->c, w->fill);
    KVar *e = kb_for(&b, "e", 0, (c.hi - c.lo) * w->c, 1, FOR_VEC);
    Affine s = aff_add(src, aff_var(e)), t = aff_add(aff_plus(at, c.lo * w->c), aff_var(e));
    lower_store(&b, dst, &t, kx_cast(&b, type, kx_load(&b, from, &s)));
    kb_end(&b);
    emit_fill(&b, dst, aff_plus(at, c.hi * w->c), (w->extent[2] - c.hi) * w->c, w->fill);
  } else {
    emit_fill(&b, dst, at, row, w->fill);
  }
  if (valid != NULL) {
    kb_else(&b);
    emit_fill(&b, dst, at, row, w->fill);
    kb_end(&b);
  }
  kb_end(&b);
  PBuf *bufs[2] = {x, to};
  lower_step(ctx, &b, op, NULL, 2, bufs)->strategy = "pad";
  return all;
}
