// pad, all modes, negative pads included.
//
// An axis that is not padded is merged into its padded outer neighbour, so rows are as long as possible. A row is
// [front | copy | back]. For constant padding, rows of the outer axes that lie outside are filled; for the other modes
// the source position of every outer axis and of the borders comes from a table made at compile time.
#include "passes/lower/walk.h"

#define TABLE_MAX (INT64_C(1) << 26)  // most entries of a table of source positions

typedef struct PadAxis {
  int64_t in, out, begin;  // result position o holds source position o - begin
  int64_t xs, ys;
} PadAxis;

typedef struct Pad {
  LowerCtx *ctx;
  EnumValue mode;
  double value;
  uint32_t n;
  PadAxis axis[MAX_RANK];
  KBuf *x, *y, *table[MAX_RANK];
  PBuf *bufs[2 + MAX_RANK];
  uint32_t n_bufs;
} Pad;

static void read_axes(Pad *p, const Op *op) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  int64_t xs = 1, ys = 1;
  PadAxis list[MAX_RANK];
  for (uint32_t i = x->rank; i-- > 0; xs *= x->dims[i], ys *= y->dims[i]) {
    int64_t begin = op_ints_at(op, A_PAD_pads, i, 0);
    PadAxis a = {.in = x->dims[i], .out = y->dims[i], .begin = begin, .xs = xs, .ys = ys};
    PadAxis *inner = p->n ? &list[p->n - 1] : NULL;
    bool padded = begin || a.in != a.out, constant = p->mode == PAD_CONSTANT;
    bool whole = inner && !inner->begin && inner->in == inner->out;  // may be merged into a
    if (inner && whole && (constant || !padded)) {
      int64_t run = inner->in;
      *inner = (PadAxis){a.in * run, a.out * run, a.begin * run, inner->xs, inner->ys};
    } else {
      list[p->n++] = a;
    }
  }
  if (!p->n) list[p->n++] = (PadAxis){1, 1, 0, 1, 1};
  for (uint32_t i = 0; i < p->n; i++) p->axis[i] = list[p->n - 1 - i];
}

static int64_t lo_of(const PadAxis *a) {  // first and last + 1 result position that has a source of its own
  int64_t lo = a->begin > 0 ? a->begin : 0;
  return lo < a->out ? lo : a->out;
}

static int64_t hi_of(const PadAxis *a) {
  int64_t hi = a->begin + a->in;
  if (hi > a->out) hi = a->out;
  return hi > lo_of(a) ? hi : lo_of(a);
}

// ---- source positions of the modes that repeat the source

static int64_t modulo(int64_t a, int64_t m) {
  int64_t r = a % m;
  return r < 0 ? r + m : r;
}

static int64_t source_of(EnumValue mode, int64_t at, int64_t n) {
  if (mode == PAD_EDGE) return at < 0 ? 0 : at >= n ? n - 1 : at;
  if (mode == PAD_WRAP) return modulo(at, n);
  if (n == 1) return 0;
  int64_t r = modulo(at, 2 * (n - 1));
  return r < n ? r : 2 * (n - 1) - r;
}

static bool make_tables(Pad *p, const Op *op, KBuild *b) {
  Module *m = p->ctx->m;
  for (uint32_t i = 0; i < p->n; i++) {
    const PadAxis *a = &p->axis[i];
    if (a->out > TABLE_MAX) {
      return diag_error(m->diag, DIAG_LIMIT, op->loc,
                        "pad to an extent of %lld in a mode that repeats elements, at most %lld", (long long)a->out,
                        (long long)TABLE_MAX);
    }
    int64_t *at = NEW_ARRAY(m->arena, int64_t, a->out + 1);
    for (int64_t o = 0; o < a->out; o++) at[o] = source_of(p->mode, o - a->begin, a->in);
    Value *v = const_bytes(m, type_tensor(m->types, DT_I64, 1, &a->out), at, "source");
    PBuf *buf = lower_const(p->ctx, v);
    p->table[i] = lower_flat(b, buf);
    p->bufs[p->n_bufs++] = buf;
  }
  return true;
}

// ---- one row

static void fill(const Pad *p, KBuild *b, Affine y0, int64_t lo, int64_t hi) {
  if (lo >= hi) return;
  Affine at = aff_add(y0, aff_var(kb_for(b, "j", lo, hi, 1, FOR_VEC)));
  lower_store1(b, p->y, at, lower_number(b, lower_compute_type(p->y->type), p->value));
  kb_end(b);
}

static void border(const Pad *p, KBuild *b, Affine y0, Affine x0, int64_t lo, int64_t hi) {
  if (lo >= hi) return;
  Affine j = aff_var(kb_for(b, "j", lo, hi, 1, FOR_SEQ));
  Affine from = aff_var(kb_let(b, "from", kx_load1(b, p->table[p->n - 1], j)));
  from = aff_mul(from, p->axis[p->n - 1].xs);
  kb_store1(b, p->y, aff_add(y0, j), kx_load1(b, p->x, aff_add(x0, from)));
  kb_end(b);
}

static void copied_row(const Pad *p, KBuild *b, Affine y0, Affine x0) {
  const PadAxis *a = &p->axis[p->n - 1];
  int64_t lo = lo_of(a), hi = hi_of(a);
  bool constant = p->mode == PAD_CONSTANT;
  if (constant) {
    fill(p, b, y0, 0, lo);
  } else {
    border(p, b, y0, x0, 0, lo);
  }
  if (lo < hi) {
    Affine j = aff_var(kb_for(b, "j", lo, hi, 1, FOR_VEC));
    kb_store1(b, p->y, aff_add(y0, j), kx_load1(b, p->x, aff_add(x0, aff_plus(j, -a->begin))));
    kb_end(b);
  }
  if (constant) {
    fill(p, b, y0, hi, a->out);
  } else {
    border(p, b, y0, x0, hi, a->out);
  }
}

// ---- loops over the outer axes

// Is position o of the axis inside the source? NULL: always.
static KExpr *inside(KBuild *b, const PadAxis *a, Affine o) {
  KExpr *c = NULL;
  int64_t lo = lo_of(a), hi = hi_of(a);
  if (lo > 0) c = kx_op2(b, KOP_GE, kx_index(b, o), kx_i(b, DT_I64, lo));
  if (hi >= a->out) return c;
  KExpr *below = kx_op2(b, KOP_LT, kx_index(b, o), kx_i(b, DT_I64, hi));
  return c ? kx_op2(b, KOP_AND, c, below) : below;
}

static void pad_rows(Pad *p, KBuild *b, bool par) {
  Affine y0 = aff(0), x0 = aff(0);
  KExpr *in = NULL;
  for (uint32_t i = 0; i + 1 < p->n; i++) {
    const PadAxis *a = &p->axis[i];
    Affine o = aff_var(kb_for(b, "i", 0, a->out, 1, par && i == 0 ? FOR_PAR : FOR_SEQ)), from = aff_plus(o, -a->begin);
    if (p->mode != PAD_CONSTANT) from = aff_var(kb_let(b, "from", kx_load1(b, p->table[i], o)));
    y0 = aff_add(y0, aff_mul(o, a->ys));
    x0 = aff_add(x0, aff_mul(from, a->xs));
    KExpr *c = p->mode == PAD_CONSTANT ? inside(b, a, o) : NULL;
    in = in && c ? kx_op2(b, KOP_AND, in, c) : c ? c : in;
  }
  if (in) kb_if(b, in);
  copied_row(p, b, y0, x0);
  if (in) {
    kb_else(b);
    fill(p, b, y0, 0, p->axis[p->n - 1].out);
    kb_end(b);
  }
  for (uint32_t i = 0; i + 1 < p->n; i++) kb_end(b);
}

bool lower_pad(LowerCtx *ctx, const Op *op) {
  Pad p = {.ctx = ctx, .mode = op_enum(op, A_PAD_mode), .value = op_float(op, A_PAD_value)};
  KBuild b;
  p.bufs[p.n_bufs++] = lower_buf(ctx, op_out(op, 0));
  p.bufs[p.n_bufs++] = lower_buf(ctx, op_in(op, 0));
  if (p.mode != PAD_CONSTANT && !type_count(op_in(op, 0)->type)) {
    return diag_error(ctx->m->diag, DIAG_REFUSED, op->loc, "pad of an empty tensor in a mode that repeats elements");
  }
  read_axes(&p, op);
  lower_begin(ctx, &b, op);
  p.y = lower_flat(&b, p.bufs[0]);
  p.x = lower_flat(&b, p.bufs[1]);
  if (p.mode != PAD_CONSTANT && !make_tables(&p, op, &b)) return false;
  pad_rows(&p, &b, type_count(op_out(op, 0)->type) >= 8192);
  lower_step(ctx, &b, op, NULL, p.n_bufs, p.bufs);
  return true;
}
