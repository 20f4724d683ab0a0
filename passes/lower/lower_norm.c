// instance_norm, group_norm, layer_norm and rms_norm: one kernel each. x is seen as [n, before, groups * size, inner];
// the statistics of one (n, group) are over before * size * inner elements, of which the last size * inner lie side by
// side. The mean is taken first and the variance from the differences to it, so large means cost no accuracy.
#include "passes/lower/lanes.h"

typedef struct Norm {
  LowerCtx *ctx;
  DType t;
  int64_t n, before, groups, size, inner;
  int64_t count;  // elements per statistic
  double epsilon;
  bool centre;  // subtract the mean
  KBuf *x, *y, *scale, *bias, *mean_out, *inv_out;
  int64_t n_scale, n_bias;  // elements: 1 or groups * size
  Affine x0, c0, stat;      // first element, first channel, number of the statistic
  KVar *mean, *inv;         // rows
  KBuf *means, *vars;       // columns
} Norm;

static int64_t row_stride(const Norm *n) { return n->groups * n->size * n->inner; }  // of `before`

static KExpr *mean_of(const Norm *n, KBuild *b, const Affine *acc) {
  return acc ? kx_load(b, n->means, acc) : kx_var(b, n->mean);
}

static KExpr *inv_of(const Norm *n, KBuild *b, const Affine *acc) {
  return acc ? kx_load(b, n->vars, acc) : kx_var(b, n->inv);
}

static KExpr *centred(const Norm *n, KBuild *b, Affine at, const Affine *acc) {
  KExpr *x = lower_load1(b, n->x, at);
  return n->centre ? kx_op2(b, KOP_SUB, x, mean_of(n, b, acc)) : x;
}

static KExpr *square(const Norm *n, KBuild *b, Affine at, const Affine *acc) {
  KVar *d = kb_let(b, "d", centred(n, b, at, acc));
  return kx_op2(b, KOP_MUL, kx_var(b, d), kx_var(b, d));
}

static KExpr *average(const Norm *n, KBuild *b, KExpr *sum) {
  return kx_op2(b, KOP_DIV, sum, kx_f(b, n->t, (double)n->count));
}

static KExpr *inverse(const Norm *n, KBuild *b, KExpr *sum) {
  KExpr *var = kx_op2(b, KOP_ADD, average(n, b, sum), kx_f(b, n->t, n->epsilon));
  return kx_op2(b, KOP_DIV, kx_f(b, n->t, 1), kx_op1(b, KOP_SQRT, var));
}

static KExpr *parameter(KBuild *b, DType t, KBuf *buf, int64_t count, Affine c) {
  return kx_cast(b, t, lower_load1(b, buf, count == 1 ? aff(0) : c));
}

static void store_y(const Norm *n, KBuild *b, Affine at, Affine c, const Affine *acc) {
  KExpr *v = kx_op2(b, KOP_MUL, centred(n, b, at, acc), inv_of(n, b, acc));
  if (n->scale) v = kx_op2(b, KOP_MUL, v, parameter(b, n->t, n->scale, n->n_scale, c));
  if (n->bias) v = kx_op2(b, KOP_ADD, v, parameter(b, n->t, n->bias, n->n_bias, c));
  lower_store1(b, n->y, at, v);
}

// ---- one statistic per row

static Affine row_at(const Norm *n, const Affine *k) {
  return aff_add(aff_add(n->x0, aff_mul(k[0], row_stride(n))), k[1]);
}

static KExpr *row_x(void *ctx, KBuild *b, const Affine *k) {
  Norm *n = ctx;
  return lower_load1(b, n->x, row_at(n, k));
}

static KExpr *row_square(void *ctx, KBuild *b, const Affine *k) {
  Norm *n = ctx;
  return square(n, b, row_at(n, k), NULL);
}

static void row_results(const Norm *n, KBuild *b) {
  bool outer = n->before > 1, channels = n->inner > 1 && n->size > 1;
  Affine at = n->x0, c = n->c0;
  if (outer) at = aff_add(at, aff_term(kb_for(b, "h", 0, n->before, 1, FOR_SEQ), row_stride(n)));
  if (channels) {
    KVar *v = kb_for(b, "c", 0, n->size, 1, FOR_SEQ);
    at = aff_add(at, aff_term(v, n->inner));
    c = aff_add(c, aff_var(v));
  }
  KVar *k = kb_for(b, "k", 0, n->inner > 1 ? n->inner : n->size, 1, FOR_VEC);
  at = aff_add(at, aff_var(k));
  if (n->inner == 1) c = aff_add(c, aff_var(k));
  store_y(n, b, at, c, NULL);
  kb_end(b);
  if (channels) kb_end(b);
  if (outer) kb_end(b);
}

static void norm_row(Norm *n, KBuild *b) {
  const int64_t dims[2] = {n->before, n->size * n->inner};
  if (n->centre) {
    KVar *sum = lanes_row(n->ctx, b, n->t, KOP_ADD, 2, dims, row_x, n);
    n->mean = kb_let(b, "mean", average(n, b, kx_var(b, sum)));
  }
  KVar *sum = lanes_row(n->ctx, b, n->t, KOP_ADD, 2, dims, row_square, n);
  n->inv = kb_let(b, "inv", inverse(n, b, kx_var(b, sum)));
  row_results(n, b);
  if (n->mean_out) lower_store1(b, n->mean_out, n->stat, kx_var(b, n->mean));
  if (n->inv_out) lower_store1(b, n->inv_out, n->stat, kx_var(b, n->inv));
}

// ---- one statistic per lane: channels innermost, each its own group

static Affine column_at(const Norm *n, const Affine *k, Affine col) {
  return aff_add(aff_add(n->x0, aff_mul(k[0], row_stride(n))), col);
}

static void column_sum(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Norm *n = ctx;
  KExpr *x = lower_load1(b, n->x, column_at(n, k, col));
  kb_store(b, n->means, acc, kx_op2(b, KOP_ADD, kx_load(b, n->means, acc), x));
}

static void column_mean(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)col;
  Norm *n = ctx;
  kb_store(b, n->means, acc, average(n, b, kx_load(b, n->means, acc)));
}

static void column_square(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Norm *n = ctx;
  KExpr *x = square(n, b, column_at(n, k, col), acc);
  kb_store(b, n->vars, acc, kx_op2(b, KOP_ADD, kx_load(b, n->vars, acc), x));
}

static void column_inverse(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k, (void)col;
  Norm *n = ctx;
  kb_store(b, n->vars, acc, inverse(n, b, kx_load(b, n->vars, acc)));
}

static void column_result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Norm *n = ctx;
  store_y(n, b, column_at(n, k, col), aff_add(n->c0, col), acc);
}

static void norm_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Norm save = *(Norm *)ctx, *n = ctx;
  n->x0 = aff_add(n->x0, first);
  n->c0 = aff_add(n->c0, first);
  n->means = columns_alloc(b, c, "mean", n->t);
  n->vars = columns_alloc(b, c, "var", n->t);
  columns_fill(b, c, n->means, kx_f(b, n->t, 0));
  columns_fill(b, c, n->vars, kx_f(b, n->t, 0));
  columns_over(b, c, 1, &n->before, column_sum, n);
  columns_each(b, c, NULL, column_mean, n);
  columns_over(b, c, 1, &n->before, column_square, n);
  columns_each(b, c, NULL, column_inverse, n);
  columns_over(b, c, 1, &n->before, column_result, n);
  *n = save;
}

// ---- the kernel

static void norm_loops(Norm *n, KBuild *b) {
  bool columns = n->size * n->inner == 1 && n->groups > 1 && n->centre;
  KForKind kind = n->n * n->groups * n->count >= LANES_PAR_MIN ? FOR_PAR : FOR_SEQ;
  uint32_t opened = 0;
  n->x0 = n->c0 = n->stat = aff(0);
  if (n->n > 1) {
    KVar *v = kb_for(b, "n", 0, n->n, 1, kind);
    n->x0 = aff_term(v, n->before * row_stride(n));
    n->stat = aff_term(v, n->groups);
    kind = FOR_SEQ;
    opened++;
  }
  if (columns) {
    columns_tiles(n->ctx, b, n->t, n->groups, kind == FOR_PAR, norm_tile, n);
  } else {
    if (n->groups > 1) {
      KVar *g = kb_for(b, "g", 0, n->groups, 1, kind);
      n->x0 = aff_add(n->x0, aff_term(g, n->size * n->inner));
      n->c0 = aff_term(g, n->size);
      n->stat = aff_add(n->stat, aff_var(g));
      opened++;
    }
    norm_row(n, b);
  }
  while (opened--) kb_end(b);
}

static KBuf *norm_operand(Norm *n, KBuild *b, const Op *op, uint32_t i, PBuf **bufs, uint32_t *n_bufs, int64_t *count) {
  if (!op_in(op, i)) return NULL;
  PBuf *buf = lower_buf(n->ctx, op_in(op, i));
  *count = type_count(buf->type);
  bufs[(*n_bufs)++] = buf;
  return lower_flat(b, buf);
}

static bool norm_emit(Norm *n, const Op *op) {
  KBuild b;
  PBuf *bufs[6] = {lower_buf(n->ctx, op_out(op, 0)), lower_buf(n->ctx, op_in(op, 0))};
  uint32_t n_bufs = 2;
  n->t = lower_compute_type(op_in(op, 0)->type->dtype);
  n->count = n->before * n->size * n->inner;
  lower_begin(n->ctx, &b, op);
  n->y = lower_flat(&b, bufs[0]);
  n->x = lower_flat(&b, bufs[1]);
  n->scale = norm_operand(n, &b, op, 1, bufs, &n_bufs, &n->n_scale);
  n->bias = norm_operand(n, &b, op, 2, bufs, &n_bufs, &n->n_bias);
  int64_t channels = n->groups * n->size;
  if ((n->scale && n->n_scale != 1 && n->n_scale != channels) || (n->bias && n->n_bias != 1 && n->n_bias != channels)) {
    return diag_error(n->ctx->m->diag, DIAG_UNSUPPORTED, op->loc,
                      "scale or bias of a normalisation has neither 1 nor %lld elements", (long long)channels);
  }
  for (uint32_t i = 1; i < op->n_out; i++) {
    if (!lower_is_used(op, i)) continue;
    bufs[n_bufs] = lower_buf(n->ctx, op_out(op, i));
    *(i == 1 ? &n->mean_out : &n->inv_out) = lower_flat(&b, bufs[n_bufs]);
    n_bufs++;
  }
  norm_loops(n, &b);
  lower_step(n->ctx, &b, op, NULL, n_bufs, bufs);
  return true;
}

// x as [n, before, channels, inner] around the channel axis.
static void around_channels(Norm *n, const Type *t, int64_t axis, int64_t groups) {
  AxisView v = lower_axis_view(t, axis);
  n->n = axis > 0 ? t->dims[0] : 1;
  n->before = n->n ? v.outer / n->n : 0;
  n->groups = groups;
  n->size = v.n / groups;
  n->inner = v.inner;
}

bool lower_instance_norm(LowerCtx *ctx, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  int64_t axis = lower_axis(op, A_INSTANCE_NORM_axis);
  Norm n = {.ctx = ctx, .centre = true, .epsilon = op_float(op, A_INSTANCE_NORM_epsilon)};
  around_channels(&n, t, axis, t->dims[axis]);
  return norm_emit(&n, op);
}

bool lower_group_norm(LowerCtx *ctx, const Op *op) {
  Norm n = {.ctx = ctx, .centre = true, .epsilon = op_float(op, A_GROUP_NORM_epsilon)};
  around_channels(&n, op_in(op, 0)->type, lower_axis(op, A_GROUP_NORM_axis), op_int(op, A_GROUP_NORM_groups));
  return norm_emit(&n, op);
}

static bool row_norm(LowerCtx *ctx, const Op *op, int64_t axis, double epsilon, bool centre) {
  const Type *t = op_in(op, 0)->type;
  Norm n = {.ctx = ctx, .centre = centre, .epsilon = epsilon, .n = 1, .before = 1, .groups = 1, .size = 1, .inner = 1};
  for (int64_t i = 0; i < (int64_t)t->rank; i++) *(i < axis ? &n.n : &n.size) *= t->dims[i];
  return norm_emit(&n, op);
}

bool lower_layer_norm(LowerCtx *ctx, const Op *op) {
  return row_norm(ctx, op, lower_axis(op, A_LAYER_NORM_axis), op_float(op, A_LAYER_NORM_epsilon), true);
}

bool lower_rms_norm(LowerCtx *ctx, const Op *op) {
  return row_norm(ctx, op, lower_axis(op, A_RMS_NORM_axis), op_float(op, A_RMS_NORM_epsilon), false);
}
