// Border classes. See bits_border.h.
//
//   conv 3x3, pads 1, 5 columns:   class of the columns 0 1 1 1 2, taps inside 1..2, 0..2, 0..1
#include "passes/lower/bits_border.h"

#include "ir/elem.h"
#include "passes/lower/bits_steps.h"

static BorderAxis axis_classes(Module *m, const ConvGeom *g, uint32_t axis) {
  int64_t out = g->out[axis], kernel = g->kernel[axis];
  BorderAxis a = {.of = NEW_ARRAY(m->arena, int64_t, out)};
  a.lo = NEW_ARRAY(m->arena, int64_t, out);
  a.hi = NEW_ARRAY(m->arena, int64_t, out);
  for (int64_t o = 0; o < out; o++) {
    int64_t lo = 0, hi = kernel, at = o * g->stride[axis] - g->pad[axis], step = g->dilation[axis];
    while (lo < hi && at + lo * step < 0) lo++;
    while (hi > lo && at + (hi - 1) * step >= g->in[axis]) hi--;
    int64_t k = 0;
    while (k < a.n && (a.lo[k] != lo || a.hi[k] != hi)) k++;
    if (k == a.n) {
      a.lo[k] = lo;
      a.hi[k] = hi;
      a.n++;
    }
    a.of[o] = k;
  }
  return a;
}

Border border_of(Module *m, const ConvGeom *g) {
  Border b = {.n = 1};
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    b.axis[i] = axis_classes(m, g, i);
    b.n *= b.axis[i].n;
  }
  return b;
}

static void split3(int64_t i, int64_t d1, int64_t d2, int64_t *at) {
  at[2] = i % d2;
  at[1] = i / d2 % d1;
  at[0] = i / d2 / d1;
}

static bool is_inside(const Border *b, const int64_t *class_at, const int64_t *tap) {
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    const BorderAxis *a = &b->axis[i];
    if (tap[i] < a->lo[class_at[i]] || tap[i] >= a->hi[class_at[i]]) return false;
  }
  return true;
}

// [classes][o]: the sum of the weights of all taps outside. NULL when no tap ever is.
static int64_t *outside_sums(Module *m, const Border *b, const ConvGeom *g, const Value *w) {
  int64_t taps = g->kernel[0] * g->kernel[1] * g->kernel[2], o = g->o, channels = g->c / g->group;
  const void *data = const_data(m, w->constant);
  int64_t *tap_sum = NEW_ARRAY(m->arena, int64_t, taps *o), *sums = NEW_ARRAY(m->arena, int64_t, b->n *o);
  bool any = false;
  for (int64_t k = 0; k < taps * channels; k++)
    for (int64_t j = 0; j < o; j++) tap_sum[k / channels * o + j] += elem_get_i(data, w->type->dtype, k * o + j);
  for (int64_t i = 0; i < b->n * taps; i++) {
    int64_t class_at[CONV_AXES], tap[CONV_AXES];
    split3(i / taps, b->axis[1].n, b->axis[2].n, class_at);
    split3(i % taps, g->kernel[1], g->kernel[2], tap);
    if (is_inside(b, class_at, tap)) continue;
    any = true;
    for (int64_t j = 0; j < o; j++) sums[i / taps * o + j] += tap_sum[i % taps * o + j];
  }
  return any ? sums : NULL;
}

Value *border_const(Module *m, uint32_t rank, const int64_t *dims, const int64_t *v) {
  int64_t most = 0, count = 1;
  bool negative = false;
  for (uint32_t i = 0; i < rank; i++) count *= dims[i];
  for (int64_t i = 0; i < count; i++) {
    most = v[i] > most ? v[i] : -v[i] - 1 > most ? -v[i] - 1 : most;
    negative = negative || v[i] < 0;
  }
  DType type = most <= INT16_MAX ? DT_I16 : most <= INT32_MAX ? DT_I32 : DT_I64;
  if (most <= UINT8_MAX && !negative) type = DT_U8;
  if (most <= INT8_MAX) type = DT_I8;
  const Type *t = type_tensor(m->types, type, rank, dims);
  void *bytes = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t i = 0; i < count; i++) elem_set_i(bytes, type, i, v[i]);
  return const_borrowed(m, t, bytes, NULL);
}

// Where along the spatial axes of the result the row of a class begins.
static void class_tables(LowerCtx *ctx, Nest *n, const Border *b, int64_t o) {
  int64_t row = b->n * o;
  for (uint32_t i = 0; i < CONV_AXES; i++) {
    const BorderAxis *a = &b->axis[i];
    int64_t out = n->dims[1 + i], *at = NEW_ARRAY(ctx->m->arena, int64_t, out);
    row /= a->n;
    if (a->n == 1) continue;
    for (int64_t k = 0; k < out; k++) at[k] = a->of[k] * row;
    n->class_at[1 + i] = border_const(ctx->m, 1, &out, at);
  }
}

void border_bias(LowerCtx *ctx, Nest *n, const ConvGeom *g, int64_t factor) {
  Module *m = ctx->m;
  Border b = border_of(m, g);
  int64_t *table = factor == 0 ? NULL : outside_sums(m, &b, g, op_in(n->op, 1));
  if (table == NULL) return;
  int64_t biases = n->bias == NULL ? 0 : type_count(n->bias->type), *each = NEW_ARRAY(m->arena, int64_t, g->o);
  for (int64_t j = 0; j < g->o; j++) each[j] = biases == 0 ? 0 : const_i(m, n->bias->constant, biases == 1 ? 0 : j);
  for (int64_t i = 0; i < b.n * g->o; i++) table[i] = each[i % g->o] + factor * table[i];
  Border *classes = NEW(m->arena, Border);
  *classes = b;
  n->border = (NestBorder){classes, factor, each};
  n->bias = border_const(m, 2, (int64_t[]){b.n, g->o}, table);
  class_tables(ctx, n, &b, g->o);
}

// ---- rows at run time

enum { MOST_TERMS = 400 };  // of all rows

typedef struct Rows {
  const Nest *n;
  const ConvGeom *g;
  int64_t taps, words, channels, limits;
  int64_t most, shift;  // of the limits: counts, and the sum is the count shifted left by that
  int64_t *each;        // [limits][columns]; no table where all are equal
  KBuild b;
  KBuf *w, *from, *to;
  KVar *tap[MOST_TERMS];
} Rows;

static bool tap_is_inside(const Rows *r, int64_t class, int64_t tap) {
  const Border *classes = r->n->border.classes;
  int64_t class_at[CONV_AXES], at[CONV_AXES];
  split3(class, classes->axis[1].n, classes->axis[2].n, class_at);
  split3(tap, r->g->kernel[1], r->g->kernel[2], at);
  return is_inside(classes, class_at, at);
}

static bool opens(Rows *r) {
  const Nest *n = r->n;
  int64_t mul = -n->planes.mul, terms = 0;
  if (n->border.classes == NULL || r->g->group != 1 || n->planes.form != PLANES_XOR || n->planes.w != 1) return false;
  if (n->w->kind != PBUF_CONST || n->tile.k_lanes > 0 || n->steps.flip != NULL) return false;
  if (n->border.factor != 1 && n->border.factor != -1) return false;
  while (INT64_C(1) << r->shift < mul) r->shift++;
  if (INT64_C(1) << r->shift != mul || r->taps > MOST_TERMS) return false;
  for (int64_t c = 0; c < n->border.classes->n; c++)
    for (int64_t t = 0; t < r->taps; t++) terms += !tap_is_inside(r, c, t);
  return terms <= MOST_TERMS;
}

// What a row holds of a column besides the sums of weights: the bias, or for limits what the sum may still lose.
static void fill_each(Rows *r, Module *m) {
  const Nest *n = r->n;
  int64_t columns = n->n, far = 4 * r->most << r->shift;
  r->each = NEW_ARRAY(m->arena, int64_t, r->limits *columns);
  for (int64_t i = 0; i < r->limits * columns; i++) {
    r->each[i] = n->border.each[i % columns];
    if (n->steps.n == 0) continue;
    int64_t limit = n->steps.limit[i];
    r->each[i] += n->planes.base - limit;
    if (limit == INT64_MIN || r->each[i] > far) r->each[i] = far;
    if (limit == INT64_MAX || r->each[i] < -far) r->each[i] = -far;
  }
}

static KExpr *number(Rows *r, int64_t v) { return kx_i(&r->b, DT_I32, v); }

// each + factor * (sum of the weights of the taps outside), and the limit of counts that makes.
static KExpr *row_value(Rows *r, int64_t class, KVar *each) {
  KBuild *b = &r->b;
  KExpr *bits = NULL, *v = kx_var(b, each);
  int64_t outside = 0;
  bool adds = r->n->border.factor > 0;
  for (int64_t t = 0; t < r->taps; t++) {
    if (tap_is_inside(r, class, t)) continue;
    bits = bits == NULL ? kx_var(b, r->tap[t]) : kx_op2(b, KOP_ADD, bits, kx_var(b, r->tap[t]));
    outside++;
  }
  if (bits != NULL) {
    KExpr *sum = kx_op2(b, KOP_SUB, kx_op2(b, KOP_SHL, bits, number(r, 1)), number(r, outside * r->channels));
    v = kx_op2(b, adds ? KOP_ADD : KOP_SUB, v, sum);
  }
  if (r->n->steps.n == 0) return v;
  if (r->shift > 0) v = kx_op2(b, KOP_SHR, v, number(r, r->shift));
  v = kx_op2(b, KOP_ADD, v, number(r, 1));
  return kx_op2(b, KOP_MAX, kx_op2(b, KOP_MIN, v, number(r, r->most + 1)), number(r, -r->most));
}

// `lanes` columns from `column` on, whose weights begin at w and lie in rows of `width`.
static void emit_columns(Rows *r, Affine column, Affine w, int64_t width, int64_t lanes) {
  KBuild *b = &r->b;
  int64_t columns = r->n->n, classes = r->n->border.classes->n;
  Affine l = aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC));
  for (int64_t t = 0; t < r->taps; t++) {
    KExpr *bits = NULL;
    for (int64_t i = 0; i < r->words; i++) {
      KExpr *word = kx_load1(b, r->w, aff_add(aff_plus(w, (t * r->words + i) * width), l));
      KExpr *one = kx_cast(b, DT_I32, kx_op1(b, KOP_POPCNT, word));
      bits = bits == NULL ? one : kx_op2(b, KOP_ADD, bits, one);
    }
    r->tap[t] = kb_let(b, "tap", bits);
  }
  for (int64_t k = 0; k < r->limits; k++) {
    Affine from = aff_add(aff_plus(column, k * columns), l);
    KExpr *held = r->from != NULL ? kx_cast(b, DT_I32, kx_load1(b, r->from, from)) : number(r, r->each[0]);
    KVar *each = kb_let(b, "each", held);
    for (int64_t c = 0; c < classes; c++) {
      Affine to = aff_add(aff_plus(column, (k * classes + c) * columns), l);
      kb_store1(b, r->to, to, kx_cast(b, r->to->type, row_value(r, c, each)));
    }
  }
  kb_end(b);
}

// `vectors` whole vectors of the panels [first, first + n), then one of `tail` lanes.
static void emit_panels(Rows *r, int64_t first, int64_t n, int64_t vectors, int64_t tail) {
  const NestTile *t = &r->n->tile;
  int64_t all = vectors + (tail > 0), width = all * t->lanes, k = r->taps * r->words;
  Affine p = aff(first), v = aff(0);
  if (tail > 0 && t->dense) width = vectors * t->lanes + tail;
  if (n > 1) p = aff_var(kb_for(&r->b, "p", first, first + n, 1, FOR_SEQ));
  Affine column = aff_mul(p, t->nv * t->lanes), w = aff_mul(column, k);
  if (vectors > 1) v = aff_var(kb_for(&r->b, "v", 0, vectors, 1, FOR_SEQ));
  v = aff_mul(v, t->lanes);
  if (vectors > 0) emit_columns(r, aff_add(column, v), aff_add(w, v), width, t->lanes);
  if (vectors > 1) kb_end(&r->b);
  if (tail > 0) emit_columns(r, aff_plus(column, vectors * t->lanes), aff_plus(w, vectors * t->lanes), width, tail);
  if (n > 1) kb_end(&r->b);
}

static KBuf *flat(Rows *r, const char *name, const PBuf *buf) {
  int64_t count = type_count(buf->type);
  return kb_param(&r->b, name, buf->type->dtype, 1, &count, buf->kind == PBUF_CONST ? SPACE_CONST : SPACE_WORK);
}

void border_open(LowerCtx *ctx, Nest *n, const ConvGeom *g, int64_t words, int64_t channels) {
  Module *m = ctx->m;
  Rows r = {.n = n, .g = g, .words = words, .channels = channels, .limits = n->steps.n > 0 ? n->steps.n : 1};
  r.taps = g->kernel[0] * g->kernel[1] * g->kernel[2];
  if (!opens(&r)) return;
  r.most = bits_most_counts(n);
  fill_each(&r, m);
  PBuf *bufs[3] = {lower_work(ctx, "rows", n->bias->type), n->w, NULL};
  bool same = true;
  for (int64_t i = 1; i < r.limits * n->n; i++) same = same && r.each[i] == r.each[0];
  if (!same) bufs[2] = lower_const(ctx, border_const(m, 1, (int64_t[]){r.limits * n->n}, r.each));
  kbuild_init(&r.b, m, arena_printf(m->arena, "rows_%u", n->op->id), n->op->loc);
  r.to = flat(&r, "rows", bufs[0]);
  r.w = flat(&r, "w", bufs[1]);
  if (!same) r.from = flat(&r, "each", bufs[2]);
  int64_t panel = n->tile.nv * n->tile.lanes, full = n->n / panel, rest = n->n % panel;
  if (full > 0) emit_panels(&r, 0, full, n->tile.nv, 0);
  if (rest > 0) emit_panels(&r, full, 1, rest / n->tile.lanes, rest % n->tile.lanes);
  lower_step(ctx, &r.b, n->op, NULL, same ? 2 : 3, bufs)->strategy = "pack";
  n->rows = bufs[0];
}
