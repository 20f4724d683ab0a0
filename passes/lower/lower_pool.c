// Pooling: maxpool (with places), avgpool, lppool; 1-D to 3-D, both layouts.
//
// Channels last: a tile of channels per output pixel, the window loops inside. Channels first: a tile of neighbouring
// output columns when the stride is small, else one pixel at a time. Windows are clipped: along the innermost axis the
// output splits into single border columns with constant windows and an interior whose window is whole; along the
// outer axes (and where borders are wide) the bounds of a window are computed once per row.
#include "passes/lower/bits_kernels.h"
#include "passes/lower/lanes.h"

#define BORDER_MAX 6  // border columns that get code of their own
#define STRIDE_MAX 4  // longest stride along which lanes run, channels first
#define UNROLL_MAX 5  // widest window row that is unrolled

// The taps [lo, hi) of a window along one axis; tap j reads element start + j * dilation.
typedef struct Window {
  Affine lo, hi, start;
  Affine count;  // taps that count for the mean
} Window;

typedef struct Axis {
  int64_t in, out, kernel, stride, dilation, begin, end;
  int64_t xs, ys;  // element strides
} Axis;

typedef struct Pool {
  LowerCtx *ctx;
  const Op *op;
  DType t;
  KOp combine;
  uint32_t nd;
  Axis axis[3];
  int64_t n, c;
  int64_t x_image, y_image;  // elements of one batch item (channels last) or of one channel
  int64_t words;             // a maximum of bits: words of a row, which take the place of the channels; 0: other
  bool last, include_pad, column_major;
  int64_t p;  // lppool; 0: other
  KBuf *x, *y, *places;
  KBuf *signs;  // [2][words]: bits kept and bits flipped in the result of a maximum of bits, or NULL
  // The current place.
  Affine x0, y0, plane;  // plane: first flat index of the image in channels-first order
  Affine word;           // of a maximum of bits: the first word of the tile
  Window w[3];
  Affine tap[3];  // window variables
  KVar *area;
  KBuf *acc, *where;
} Pool;

static void read_axes(Pool *p, const int slot[4]) {
  const Op *op = p->op;
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  p->nd = x->rank - 2;
  p->c = p->words > 0 ? p->words : x->dims[p->last ? x->rank - 1 : 1];
  int64_t xs = p->last ? p->c : 1, ys = xs;
  for (uint32_t i = p->nd; i-- > 0;) {
    uint32_t dim = p->last ? i + 1 : i + 2;
    Axis *a = &p->axis[i];
    *a = (Axis){.in = x->dims[dim], .out = y->dims[dim], .xs = xs, .ys = ys};
    a->kernel = op_ints_at(op, slot[0], i, 1);
    a->stride = op_ints_at(op, slot[1], i, 1);
    a->begin = op_ints_at(op, slot[2], i, 0);
    a->end = op_ints_at(op, slot[2], i + p->nd, 0);
    a->dilation = op_ints_at(op, slot[3], i, 1);
    xs *= a->in;
    ys *= a->out;
  }
  p->n = x->dims[0];
  p->x_image = xs;
  p->y_image = ys;
}

// ---- windows

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

static int64_t taps_below(const Axis *a, int64_t start, int64_t bound) {  // taps j with start + j * dilation < bound
  return clamp(bound > start ? (bound - start + a->dilation - 1) / a->dilation : 0, 0, a->kernel);
}

static Window window_at(const Pool *p, const Axis *a, int64_t o) {
  int64_t start = o * a->stride - a->begin;
  int64_t lo = taps_below(a, start, 0), hi = taps_below(a, start, a->in);
  int64_t count = p->include_pad ? taps_below(a, start, a->in + a->end) : hi - lo;
  return (Window){aff(lo), aff(hi), aff(start), aff(count)};
}

static bool sticks_out_behind(const Axis *a, int64_t o) {
  return o * a->stride - a->begin + (a->kernel - 1) * a->dilation >= a->in;
}

// The output positions [from, to) whose window is whole.
static void interior(const Axis *a, int64_t *from, int64_t *to) {
  int64_t lo = 0, hi = a->out;
  while (lo < hi && lo * a->stride - a->begin < 0) lo++;
  while (hi > lo && sticks_out_behind(a, hi - 1)) hi--;
  *from = lo;
  *to = hi;
}

static Affine let_taps_below(KBuild *b, const Axis *a, Affine start, int64_t bound, const char *name) {
  KExpr *room = kx_index(b, aff_sub(aff(bound + a->dilation - 1), start));
  if (a->dilation > 1) {
    room = kx_op2(b, KOP_DIV, kx_op2(b, KOP_MAX, room, kx_i(b, DT_I64, 0)), kx_i(b, DT_I64, a->dilation));
  }
  KExpr *low = kx_op2(b, KOP_MAX, room, kx_i(b, DT_I64, 0));
  return aff_var(kb_let(b, name, kx_op2(b, KOP_MIN, low, kx_i(b, DT_I64, a->kernel))));
}

// The window of a position known at run time.
static Window window_of(const Pool *p, KBuild *b, const Axis *a, Affine o) {
  Window w = {aff(0), aff(a->kernel), aff_plus(aff_mul(o, a->stride), -a->begin), aff(a->kernel)};
  if (aff_is_const(&o)) return window_at(p, a, o.base);
  if (a->begin > 0) w.lo = let_taps_below(b, a, w.start, 0, "lo");
  if (sticks_out_behind(a, a->out - 1)) w.hi = let_taps_below(b, a, w.start, a->in, "hi");
  w.count = aff_sub(w.hi, w.lo);
  if (!p->include_pad) return w;
  bool clipped = (a->out - 1) * a->stride - a->begin + (a->kernel - 1) * a->dilation >= a->in + a->end;
  w.count = clipped ? let_taps_below(b, a, w.start, a->in + a->end, "count") : aff(a->kernel);
  return w;
}

// ---- one tile

static Affine tap_offset(const Pool *p) {
  Affine at = aff(0);
  for (uint32_t i = 0; i < p->nd; i++) {
    Affine in = aff_add(p->w[i].start, aff_mul(p->tap[i], p->axis[i].dilation));
    at = aff_add(at, aff_mul(in, p->axis[i].xs));
  }
  return at;
}

// Flat index of the current tap in channels-first order.
static KExpr *place_of(const Pool *p, KBuild *b, Affine col) {
  Affine at = p->plane;
  int64_t run = 1, spatial = 1;
  for (uint32_t i = 0; i < p->nd; i++) spatial *= p->axis[i].in;
  for (uint32_t i = 0; i < p->nd; i++) {
    uint32_t d = p->column_major ? i : p->nd - 1 - i;
    Affine in = aff_add(p->w[d].start, aff_mul(p->tap[d], p->axis[d].dilation));
    at = aff_add(at, aff_mul(in, run));
    run *= p->axis[d].in;
  }
  int64_t per_col =
      p->last ? spatial : p->axis[p->nd - 1].stride * (p->column_major ? spatial / p->axis[p->nd - 1].in : 1);
  return kx_index(b, aff_add(at, aff_mul(col, per_col)));
}

// Distance in x between the results of neighbouring lanes.
static int64_t column_step(const Pool *p) { return p->last ? 1 : p->axis[p->nd - 1].stride; }

static KExpr *powered(const Pool *p, KBuild *b, KExpr *x) {
  if (!p->p) return x;
  KExpr *a = kx_op1(b, KOP_ABS, x);
  if (p->p == 1) return a;
  KVar *v = kb_let(b, "a", a);
  if (p->p == 2) return kx_op2(b, KOP_MUL, kx_var(b, v), kx_var(b, v));
  return kx_op2(b, KOP_POW, kx_var(b, v), lower_number(b, p->t, (double)p->p));
}

static void pool_step(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Pool *p = ctx;
  Affine at = aff_add(p->x0, aff_add(tap_offset(p), aff_mul(col, column_step(p))));
  KExpr *x = powered(p, b, lower_load1(b, p->x, at));
  if (!p->places) {
    kb_store(b, p->acc, acc, kx_op2(b, p->combine, kx_load(b, p->acc, acc), x));
    return;
  }
  KVar *v = kb_let(b, "x", x), *best = kb_let(b, "best", kx_load(b, p->acc, acc));
  KExpr *wins = kx_op2(b, KOP_GT, kx_var(b, v), kx_var(b, best));
  if (dtype_is_float(p->t)) {
    KExpr *first = kx_op2(b, KOP_AND, kx_op1(b, KOP_ISNAN, kx_var(b, v)),
                          kx_op1(b, KOP_NOT, kx_op1(b, KOP_ISNAN, kx_var(b, best))));
    wins = kx_op2(b, KOP_OR, wins, first);
  }
  KVar *w = kb_let(b, "wins", wins);
  kb_store(b, p->acc, acc, kx_op3(b, KOP_SELECT, kx_var(b, w), kx_var(b, v), kx_var(b, best)));
  kb_store(b, p->where, acc, kx_op3(b, KOP_SELECT, kx_var(b, w), place_of(p, b, col), kx_load(b, p->where, acc)));
}

static void pool_first_place(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Pool *p = ctx;
  for (uint32_t i = 0; i < p->nd; i++) p->tap[i] = p->w[i].lo;
  kb_store(b, p->where, acc, place_of(p, b, col));
}

static KExpr *with_signs(const Pool *p, KBuild *b, Affine word, KExpr *v) {
  KExpr *kept = kx_op2(b, KOP_AND, v, kx_load1(b, p->signs, word));
  return kx_op2(b, KOP_XOR, kept, kx_load1(b, p->signs, aff_plus(word, p->words)));
}

static void pool_result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Pool *p = ctx;
  KExpr *v = kx_load(b, p->acc, acc);
  if (p->signs) v = with_signs(p, b, aff_add(p->word, col), v);
  if (p->area) v = kx_op2(b, KOP_DIV, v, kx_var(b, p->area));
  if (p->p == 2) v = kx_op1(b, KOP_SQRT, v);
  if (p->p > 2) v = kx_op2(b, KOP_POW, v, lower_number(b, p->t, 1.0 / (double)p->p));
  lower_store1(b, p->y, aff_add(p->y0, col), v);
  if (p->places) kb_store1(b, p->places, aff_add(p->y0, col), kx_load(b, p->where, acc));
}

static void pool_window(Pool *p, KBuild *b, const Columns *c) {
  uint32_t opened = 0;
  for (uint32_t i = 0; i < p->nd; i++) {
    const Window *w = &p->w[i];
    bool fixed = aff_is_const(&w->lo) && aff_is_const(&w->hi);
    if (fixed && w->hi.base - w->lo.base == 1) {
      p->tap[i] = w->lo;
      continue;
    }
    bool unroll = i + 1 == p->nd && fixed && w->hi.base - w->lo.base <= UNROLL_MAX;
    p->tap[i] = aff_var(kb_for_aff(b, "k", w->lo, w->hi, 1, unroll ? FOR_UNROLL : FOR_SEQ));
    opened++;
  }
  columns_each(b, c, NULL, pool_step, p);
  while (opened--) kb_end(b);
}

static void pool_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Pool save = *(Pool *)ctx, *p = ctx;
  Window *w = &p->w[p->nd - 1];
  if (p->last) {
    int64_t spatial = p->x_image / (p->c ? p->c : 1);
    p->x0 = aff_add(p->x0, first);
    p->word = first;
    p->plane = aff_add(p->plane, aff_mul(first, spatial));
  } else {
    w->start = aff_add(w->start, aff_mul(first, p->axis[p->nd - 1].stride));
  }
  p->y0 = aff_add(p->y0, first);
  p->acc = columns_alloc(b, c, "acc", p->t);
  columns_fill(b, c, p->acc, lanes_neutral(b, p->t, p->combine));
  if (p->places) {
    p->where = columns_alloc(b, c, "where", DT_I64);
    columns_each(b, c, NULL, pool_first_place, p);
  }
  pool_window(p, b, c);
  columns_each(b, c, NULL, pool_result, p);
  *p = save;
}

// ---- one output row

// The divisor of a mean: the product of the counts along all axes.
static void pool_area(Pool *p, KBuild *b) {
  if (p->op->kind != OP_AVGPOOL) return;
  KExpr *area = NULL;
  for (uint32_t i = 0; i < p->nd; i++) {
    KExpr *count = kx_index(b, p->w[i].count);
    area = area ? kx_op2(b, KOP_MUL, area, count) : count;
  }
  p->area = kb_let(b, "area", kx_cast(b, p->t, area));
}

// The windows of output position o, or of `width` positions from o on.
static void pool_site(Pool *p, KBuild *b, const Window *w, Affine o, int64_t width) {
  Pool save = *p;
  p->w[p->nd - 1] = *w;
  p->y0 = aff_add(p->y0, aff_mul(o, p->axis[p->nd - 1].ys));
  pool_area(p, b);
  int64_t count = p->last ? p->c : width;
  if (count == 1) {
    Columns one = columns_new(p->ctx, p->t, 1);
    pool_tile(p, b, &one, aff(0));
  } else {
    columns_tiles(p->ctx, b, p->t, count, false, pool_tile, p);
  }
  *p = save;
}

static void pool_range(Pool *p, KBuild *b, int64_t from, int64_t to, bool whole) {
  const Axis *a = &p->axis[p->nd - 1];
  if (from >= to) return;
  Affine o = aff(from);
  if (whole && !p->last && a->stride <= STRIDE_MAX) {
    Window w = window_at(p, a, from);
    pool_site(p, b, &w, o, to - from);
    return;
  }
  bool loop = to - from > 1;
  if (loop) o = aff_var(kb_for(b, "o", from, to, 1, FOR_SEQ));
  Affine start = aff_plus(aff_mul(o, a->stride), -a->begin);
  Window w = {aff(0), aff(a->kernel), start, aff(a->kernel)};
  if (!whole) w = window_of(p, b, a, o);
  pool_site(p, b, &w, o, 1);
  if (loop) kb_end(b);
}

static void pool_row(Pool *p, KBuild *b) {
  const Axis *a = &p->axis[p->nd - 1];
  int64_t from, to;
  interior(a, &from, &to);
  if (from + a->out - to > BORDER_MAX) {
    pool_range(p, b, 0, a->out, false);
    return;
  }
  for (int64_t o = 0; o < from; o++) pool_range(p, b, o, o + 1, false);
  pool_range(p, b, from, to, true);
  for (int64_t o = to; o < a->out; o++) pool_range(p, b, o, o + 1, false);
}

// Loops over images and the outer axes; the outermost real one is par.
static void pool_rows(Pool *p, KBuild *b) {
  int64_t spatial = p->x_image / (p->last && p->c ? p->c : 1);
  int64_t images = p->last ? p->n : p->n * p->c;
  KForKind kind = p->n * p->c * spatial >= LANES_PAR_MIN ? FOR_PAR : FOR_SEQ;
  uint32_t opened = 0;
  p->x0 = p->y0 = p->plane = aff(0);
  if (images > 1) {
    KVar *i = kb_for(b, "n", 0, images, 1, kind);
    p->x0 = aff_term(i, p->x_image);
    p->y0 = aff_term(i, p->y_image);
    p->plane = aff_term(i, p->last ? spatial * p->c : spatial);
    kind = FOR_SEQ;
    opened++;
  }
  for (uint32_t i = 0; i + 1 < p->nd; i++) {
    const Axis *a = &p->axis[i];
    Affine o = aff(0);
    if (a->out > 1) {
      o = aff_var(kb_for(b, "y", 0, a->out, 1, kind));
      kind = FOR_SEQ;
      opened++;
    }
    p->w[i] = window_of(p, b, a, o);
    p->y0 = aff_add(p->y0, aff_mul(o, a->ys));
  }
  pool_row(p, b);
  while (opened--) kb_end(b);
}

static void pool_kernel(Pool *p, const int slot[4], PBuf *x, PBuf *y, PBuf *extra) {
  const Op *op = p->op;
  LowerCtx *ctx = p->ctx;
  KBuild b;
  read_axes(p, slot);
  p->t = lower_compute_type(x->type->dtype);
  lower_begin(ctx, &b, op);
  p->y = lower_flat(&b, y);
  p->x = lower_flat(&b, x);
  if (extra != NULL) *(p->words > 0 ? &p->signs : &p->places) = lower_flat(&b, extra);
  pool_rows(p, &b);
  double macs = (double)type_count(op_out(op, 0)->type);
  for (uint32_t i = 0; i < p->nd; i++) macs *= (double)p->axis[i].kernel;
  Step *step = lower_step(ctx, &b, op, NULL, extra != NULL ? 3 : 2, (PBuf *[]){y, x, extra});
  step->macs = macs;
  if (p->words > 0) step->strategy = "bits";
}

static bool lower_pool(Pool *p, const int slot[4]) {
  const Op *op = p->op;
  LowerCtx *ctx = p->ctx;
  uint32_t rank = op_in(op, 0)->type->rank;
  if (rank < 3 || rank > 5) {
    return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc, "pooling over %d axes, expected 1 to 3", (int)rank - 2);
  }
  bool places = op->n_out > 1 && lower_is_used(op, 1);
  pool_kernel(p, slot, lower_buf(ctx, op_in(op, 0)), lower_buf(ctx, op_out(op, 0)),
              places ? lower_buf(ctx, op_out(op, 1)) : NULL);
  return true;
}

static const int maxpool_slot[4] = {A_MAXPOOL_kernel, A_MAXPOOL_strides, A_MAXPOOL_pads, A_MAXPOOL_dilations};

void lower_maxpool_words(LowerCtx *ctx, const Op *op, PBuf *x, PBuf *y, int64_t row, Value *signs) {
  Pool p = {.ctx = ctx, .op = op, .combine = KOP_OR, .last = true, .words = row};
  pool_kernel(&p, maxpool_slot, x, y, signs != NULL ? lower_const(ctx, signs) : NULL);
}

bool lower_maxpool(LowerCtx *ctx, const Op *op) {
  Pool p = {.ctx = ctx, .op = op, .combine = KOP_MAX, .last = op_enum(op, A_MAXPOOL_layout) == LAYOUT_NHWC};
  p.column_major = op_bool(op, A_MAXPOOL_column_major);
  return lower_pool(&p, maxpool_slot);
}

bool lower_avgpool(LowerCtx *ctx, const Op *op) {
  Pool p = {.ctx = ctx, .op = op, .combine = KOP_ADD, .last = op_enum(op, A_AVGPOOL_layout) == LAYOUT_NHWC};
  p.include_pad = op_bool(op, A_AVGPOOL_count_include_pad);
  return lower_pool(&p, (int[]){A_AVGPOOL_kernel, A_AVGPOOL_strides, A_AVGPOOL_pads, A_AVGPOOL_dilations});
}

bool lower_lppool(LowerCtx *ctx, const Op *op) {
  Pool p = {.ctx = ctx, .op = op, .combine = KOP_ADD, .last = op_enum(op, A_LPPOOL_layout) == LAYOUT_NHWC};
  p.p = op_int(op, A_LPPOOL_p);
  return lower_pool(&p, (int[]){A_LPPOOL_kernel, A_LPPOOL_strides, A_LPPOOL_pads, A_LPPOOL_dilations});
}
