// Constant sparse weights as straight-line code. See code.h.
#include "passes/lower/code.h"

#include <string.h>

#include "ir/base/intmath.h"
#include "ir/elem.h"
#include "passes/lower/lower_conv.h"
#include "passes/lower/pixel_blocks.h"
#include "passes/sparse.h"

#define CHUNK_ROWS 7  // rows after which reading the code again costs 5 % (zen5)

// ---- the op

// Geometry of a convolution with channels first.
static bool first_geom(const Op *op, ConvGeom *g) {
  Sparse s;
  if (!sparse_of(op, &s) || s.last) return false;
  *g = sparse_conv(&s);
  return true;
}

static bool conv_shape(const Op *op, int64_t lanes, CodeShape *s) {
  ConvGeom *g = &s->g;
  s->first = op_enum(op, A_CONV_layout) == LAYOUT_NCHW;
  if (!(s->first ? first_geom(op, g) : conv_geom(op, g)) || g->group != 1 || g->in[0] * g->out[0] * g->kernel[0] != 1)
    return false;
  s->w_o = 1;
  s->w_c = g->o;
  s->w_tap = g->c * g->o;
  if (s->first) {
    s->w_tap = 1;
    s->w_c = g->kernel[1] * g->kernel[2];
    s->w_o = g->c * s->w_c;
  }
  s->pixels = g->n * g->out[1] * g->out[2];
  s->window = !g->pointwise;
  return !s->window || (g->stride[2] == 1 && (g->kernel[2] - 1) * g->dilation[2] <= lanes / 2);
}

static bool matmul_shape(const Op *op, CodeShape *s) {
  MatmulGeom m;
  if (!matmul_geom(op, &m) || !matmul_rows_merge(op, &m) || m.b_vector) return false;
  s->pixels = m.m;
  for (uint32_t i = 0; i < m.n_batch; i++) s->pixels *= m.batch[i];
  s->g = (ConvGeom){.n = 1, .c = m.k, .o = m.n, .group = 1};
  for (int i = 0; i < CONV_AXES; i++) s->g.kernel[i] = s->g.dilation[i] = s->g.stride[i] = 1;
  s->w_c = m.b_k;
  s->w_o = m.b_n;
  return true;
}

// Sums of bytes begin with their bias: a constant, one number per column or for all.
static bool fours_fit(const Op *op, CodeShape *s) {
  const Value *bias = op_in(op, 2);
  if (s->first || s->g.c % 4 != 0) return false;
  if (bias != NULL && (!value_is_const(bias) || bias->type->dtype != DT_I32)) return false;
  if (bias != NULL && type_count(bias->type) != 1 && type_count(bias->type) != s->g.o) return false;
  if (bias != NULL && type_count(bias->type) != 1 && bias->type->dims[bias->type->rank - 1] != s->g.o) return false;
  s->g.c /= 4;
  return s->fours = true;
}

bool code_shape(const Op *op, int64_t lanes, CodeShape *s) {
  *s = (CodeShape){0};
  const Value *w = op_in(op, 1);
  DType x = op_in(op, 0)->type->dtype;
  bool bytes = (x == DT_U8 || x == DT_I8) && w->type->dtype == DT_I8;
  if (!value_is_const(w) || (!bytes && !dtype_is_float(w->type->dtype)) || w->type->dtype == DT_F64) return false;
  if (!bytes && lower_compute_type(x) != DT_F32) return false;
  if (op->kind == OP_CONV && !conv_shape(op, lanes, s)) return false;
  if (op->kind == OP_MATMUL && !matmul_shape(op, s)) return false;
  if ((op->kind != OP_CONV && op->kind != OP_MATMUL) || s->pixels <= 0 || s->g.c <= 0 || s->g.o <= 0) return false;
  return !bytes || fours_fit(op, s);
}

// Bits of the float weight or of the four whose first element is element i; 0 of zeros.
static uint32_t weight_at(const CodeShape *s, const void *data, DType t, int64_t i) {
  uint32_t bits = 0;
  if (s->fours) {
    for (int64_t k = 0; k < 4; k++) bits |= (uint32_t)((const uint8_t *)data)[i + k * s->w_c] << (8 * k);
    return bits;
  }
  float w = t == DT_F32 ? ((const AnyF32 *)data)[i] : (float)elem_get_f(data, t, i);
  memcpy(&bits, &w, sizeof bits);
  return w != 0 ? bits : 0;
}

static int64_t weight_place(const CodeShape *s, int64_t tap, int64_t c, int64_t o) {
  return tap * s->w_tap + c * (s->fours ? 4 : 1) * s->w_c + o * s->w_o;
}

int64_t code_nonzeros(const Op *op, const CodeShape *s) {
  DType t = op_in(op, 1)->type->dtype;
  const void *data = const_data(op->func->module, op_in(op, 1)->constant);
  int64_t n = 0, taps = s->g.kernel[1] * s->g.kernel[2];
  for (int64_t tap = 0; tap < taps; tap++)
    for (int64_t c = 0; c < s->g.c; c++)
      for (int64_t o = 0; o < s->g.o; o++) n += weight_at(s, data, t, weight_place(s, tap, c, o)) != 0;
  return n;
}

int64_t code_chunk(const CodeShape *s, const Target *t, int64_t lanes) {
  const ConvGeom *g = &s->g;
  if (!s->window) return 1;  // x and y of one row stay in the first-level cache
  int64_t rows = g->out[1], block = lanes * 4, halo = (g->kernel[1] - 1) * g->dilation[1];
  int64_t most = (t->l2_bytes / 2 / block - halo * g->c) / (g->c * g->stride[1] + g->o);
  int64_t shared = ceil_div(rows, PIXEL_GROUPS);  // threads want chunks, code is read once for a chunk
  if (shared < CHUNK_ROWS) shared = CHUNK_ROWS;
  if (most > shared) most = shared;
  if (most < 1) most = 1;
  return ceil_div(rows, ceil_div(rows, most < rows ? most : rows));
}

// ---- the kernel

typedef struct Matrix {
  int64_t n;       // non-zeros
  int32_t *first;  // [o + 1]
  int32_t *at;     // element of x in the lane of pixel 0, ascending in a row
  uint32_t *w;     // bits of floats, or fours of bytes
  int32_t *start;  // of fours: what the sum of a row begins with
} Matrix;

static void add_row(Matrix *m, const CodeShape *s, const void *data, DType t, int64_t o, int64_t lanes) {
  const ConvGeom *g = &s->g;
  for (int64_t ky = 0; ky < g->kernel[1]; ky++)
    for (int64_t c = 0; c < g->c; c++)
      for (int64_t kx = 0; kx < g->kernel[2]; kx++) {
        uint32_t w = weight_at(s, data, t, weight_place(s, ky * g->kernel[2] + kx, c, o));
        if (w == 0) continue;
        m->at[m->n] = (int32_t)((ky * g->dilation[1] * g->c + c) * lanes + kx * g->dilation[2]);
        m->w[m->n++] = w;
      }
}

static int64_t flip_of(const Op *op) { return op_in(op, 0)->type->dtype == DT_I8 ? (int32_t)0x80808080 : 0; }

// Wraps as sums do.
static int32_t start_of(const Op *op, const Matrix *m, int64_t o) {
  Module *module = op->func->module;
  const Value *bias = op_in(op, 2);
  int64_t zero = op_int(op, op->kind == OP_CONV ? A_CONV_x_zero : A_MATMUL_x_zero), sum = 0, start = 0;
  for (int32_t e = m->first[o]; e < m->first[o + 1]; e++)
    for (int k = 0; k < 4; k++) sum += (int8_t)(m->w[e] >> (8 * k));
  if (bias != NULL) start = elem_get_i(const_data(module, bias->constant), DT_I32, type_count(bias->type) == 1 ? 0 : o);
  return (int32_t)(uint32_t)(start - (zero + (flip_of(op) != 0 ? 128 : 0)) * sum);
}

static Matrix matrix_of(LowerCtx *ctx, const Op *op, const CodeShape *s, int64_t lanes) {
  int64_t n = code_nonzeros(op, s);
  const void *data = const_data(ctx->m, op_in(op, 1)->constant);
  Arena *arena = ctx->m->build_arena != NULL ? ctx->m->build_arena : ctx->m->arena;
  Matrix m = {.first = NEW_ARRAY(arena, int32_t, s->g.o + 1)};
  m.at = NEW_ARRAY(arena, int32_t, n + 1);
  m.w = NEW_ARRAY(arena, uint32_t, n + 1);
  m.start = NEW_ARRAY(arena, int32_t, s->g.o);
  for (int64_t o = 0; o < s->g.o; o++) {
    add_row(&m, s, data, op_in(op, 1)->type->dtype, o, lanes);
    m.first[o + 1] = (int32_t)m.n;
    if (s->fours) m.start[o] = start_of(op, &m, o);
  }
  return m;
}

static Affine lane_loop(KBuild *b, int64_t lanes) { return aff_var(kb_for(b, "l", 0, lanes, 1, FOR_VEC)); }

// acc + x * w, or acc + the dot product of two fours.
static KExpr *step(LowerCtx *ctx, KBuild *b, bool fours, KExpr *x, KExpr *w, KExpr *acc) {
  if (!fours) return lower_mul_add(ctx, b, x, w, acc);
  return kx_op3(b, KOP_DOT4, acc, kx_view(b, DT_U8X4, x), kx_view(b, DT_I8X4, w));
}

static Kernel *code_kernel(LowerCtx *ctx, const PixelBlocks *p, const Matrix *m) {
  KBuild b;
  kbuild_init(&b, ctx->m, arena_printf(ctx->m->arena, "code_%u", p->op->id), p->op->loc);
  int64_t x_elems = pixel_blocks_x_elems(p), y_elems = pixel_blocks_y_elems(p), L = p->lanes;
  DType t = pixel_blocks_type(p);
  KBuf *x = kb_param(&b, "x", t, 1, &x_elems, SPACE_ARG), *y = kb_param(&b, "y", t, 1, &y_elems, SPACE_ARG);
  KBuf *first = kb_table(&b, "first", DT_I32, p->o + 1, m->first);
  KBuf *at = kb_table(&b, "at", DT_I32, m->n, m->at), *w = kb_table(&b, "w", t, m->n, m->w);
  KBuf *start = p->fours ? kb_table(&b, "start", DT_I32, p->o, m->start) : NULL;
  Affine i = p->chunk > 1 ? aff_var(kb_for(&b, "i", 0, p->chunk, 1, FOR_SEQ)) : aff(0);
  Affine o = aff_var(kb_for(&b, "o", 0, p->o, 1, FOR_SEQ));
  Affine lo = aff_var(kb_let(&b, "lo", kx_load1(&b, first, o)));
  Affine hi = aff_var(kb_let(&b, "hi", kx_load1(&b, first, aff_plus(o, 1))));
  KBuf *acc = kb_alloc(&b, "acc", t, 1, &L, SPACE_REG);
  Affine l = lane_loop(&b, L);
  kb_store1(&b, acc, l, p->fours ? kx_load1(&b, start, o) : kx_f(&b, DT_F32, 0));
  kb_end(&b);
  Affine e = aff_var(kb_for_aff(&b, "e", lo, hi, 1, FOR_SEQ));
  Affine place = aff_var(kb_let(&b, "place", kx_load1(&b, at, e)));
  l = lane_loop(&b, L);
  Affine from = aff_add(aff_add(place, l), aff_mul(i, p->x_stride * p->c * L));
  kb_store1(&b, acc, l, step(ctx, &b, p->fours, kx_load1(&b, x, from), kx_load1(&b, w, e), kx_load1(&b, acc, l)));
  kb_end(&b);
  kb_end(&b);
  l = lane_loop(&b, L);
  kb_store1(&b, y, aff_add(aff_add(aff_mul(i, p->o * L), aff_mul(o, L)), l), kx_load1(&b, acc, l));
  kb_end(&b);
  kb_end(&b);
  if (p->chunk > 1) kb_end(&b);
  Kernel *k = kbuild_done(&b);
  k->noalias = true;
  return program_kernel(ctx->p, k);
}

bool lower_code(LowerCtx *ctx, const Op *op, const Plan *plan) {
  int64_t lanes = plan_param(plan, "lanes", target_lanes(ctx->target, 32));
  CodeShape s;
  if (lanes < 1 || lanes > 16 || lanes % target_lanes(ctx->target, 32) != 0 || !code_shape(op, lanes, &s) ||
      !pixel_blocks_applies(op, ctx->target))
    return diag_error(
        ctx->m->diag, DIAG_UNSUPPORTED, op->loc,
        "plan code needs a convolution without groups or a matrix product with constant weights, float or fours "
        "of bytes");
  PixelBlocks p = {
      .first = s.first, .images = s.g.n, .op = op, .x = lower_buf(ctx, op_in(op, 0)), .c = s.g.c, .o = s.g.o};
  p.fours = s.fours;
  if (s.fours) p.flip = flip_of(op);
  if (s.window) {
    ConvGeom bytes = s.g;
    bytes.c *= s.fours ? 4 : 1;
    if (!pixel_blocks_window(ctx, &p, &bytes, lanes)) return false;
  } else {
    pixel_blocks_list(&p, s.first ? s.pixels / s.g.n : s.pixels, lanes);
  }
  p.chunk = plan_param(plan, "chunk", 1);
  if (p.chunk < 1) p.chunk = 1;
  if (p.chunk > p.rows) p.chunk = p.rows;
  Matrix m = matrix_of(ctx, op, &s, lanes);
  return pixel_blocks_lower(ctx, &p, code_kernel(ctx, &p, &m), (double)m.n * (s.fours ? 4 : 1) * (double)s.pixels);
}
