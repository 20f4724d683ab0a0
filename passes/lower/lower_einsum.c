// einsum: a nest over the labels of the result around a sum over the other labels. Plain products were made matmuls
// before; this is for everything else, with any number of operands and repeated labels (diagonals).
//
// When the last label of the result walks every operand by 0 or 1, a tile of results is one vector each; else, when a
// summed label does, each result is a row of vector partial sums; else all is scalar.
#include <string.h>

#include "passes/lower/lanes.h"

#define LABELS 128

typedef struct Einsum {
  LowerCtx *ctx;
  DType t;
  uint32_t n_in, n_out, n_sum;
  char out[MAX_RANK], sum[LABELS];  // labels
  int64_t dims[LABELS];             // by label, 0: not seen
  int64_t (*stride)[LABELS];        // per operand
  KBuf **in, *y, *acc;
  Affine at[LABELS], y0;  // current value of every label
} Einsum;

static void read_operand(Einsum *e, const Op *op, uint32_t i, const char *labels) {
  const Type *t = op_in(op, i)->type;
  int64_t stride = 1;
  for (uint32_t k = t->rank; k-- > 0; stride *= t->dims[k]) {
    uint8_t label = (uint8_t)labels[k] % LABELS;
    if (t->dims[k] != 1) e->stride[i][label] += stride;
    if (e->dims[label] <= 1) e->dims[label] = t->dims[k];
  }
}

static bool read_equation(Einsum *e, const Op *op) {
  const char *text = op_str(op, A_EINSUM_equation), *arrow = strstr(text, "->"), *p = text;
  bool seen[LABELS] = {false}, kept[LABELS] = {false};
  memset(e->dims, 0xff, sizeof e->dims);  // -1: not seen
  for (uint32_t i = 0; i < e->n_in; i++) {
    read_operand(e, op, i, p);
    p += strcspn(p, ",-") + 1;
  }
  for (p = arrow + 2; *p; p++) {
    e->out[e->n_out++] = *p;
    kept[(uint8_t)*p % LABELS] = true;
  }
  for (p = text; p < arrow; p++) {
    uint8_t label = (uint8_t)*p % LABELS;
    if (*p == ',' || kept[label] || seen[label]) continue;
    seen[label] = true;
    e->sum[e->n_sum++] = *p;
  }
  if (e->n_sum <= MAX_RANK) return true;
  return diag_error(e->ctx->m->diag, DIAG_LIMIT, op->loc, "einsum sums over %u labels, at most %d", e->n_sum, MAX_RANK);
}

// The label walks all operands by 0 or 1.
static bool is_contiguous(const Einsum *e, char label) {
  for (uint32_t i = 0; i < e->n_in; i++) {
    if (e->stride[i][(uint8_t)label] > 1) return false;
  }
  return true;
}

// A summed label for vectors goes last. False when there is none.
static bool choose_row(Einsum *e) {
  for (uint32_t k = e->n_sum; k-- > 0;) {
    char label = e->sum[k];
    if (!is_contiguous(e, label) || e->dims[(uint8_t)label] < 4) continue;
    memmove(e->sum + k, e->sum + k + 1, e->n_sum - k - 1);
    e->sum[e->n_sum - 1] = label;
    return true;
  }
  return false;
}

static KExpr *product(const Einsum *e, KBuild *b) {
  KExpr *p = NULL;
  for (uint32_t i = 0; i < e->n_in; i++) {
    Affine at = aff(0);
    for (uint32_t l = 0; l < LABELS; l++) {
      if (e->stride[i][l]) at = aff_add(at, aff_mul(e->at[l], e->stride[i][l]));
    }
    KExpr *x = kx_cast(b, e->t, lower_load1(b, e->in[i], at));
    p = p ? kx_op2(b, KOP_MUL, p, x) : x;
  }
  return p;
}

static void set_labels(Einsum *e, const Affine *k, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) e->at[(uint8_t)e->sum[i]] = k[i];
}

static KExpr *row_term(void *ctx, KBuild *b, const Affine *k) {
  Einsum *e = ctx;
  set_labels(e, k, e->n_sum);
  return product(e, b);
}

static void column_term(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  Einsum *e = ctx;
  uint8_t last = (uint8_t)e->out[e->n_out - 1];
  Affine first = e->at[last];
  if (k) set_labels(e, k, e->n_sum);
  e->at[last] = aff_add(first, col);
  kb_store(b, e->acc, acc, kx_op2(b, KOP_ADD, kx_load(b, e->acc, acc), product(e, b)));
  e->at[last] = first;
}

static void column_result(void *ctx, KBuild *b, const Affine *k, Affine col, const Affine *acc) {
  (void)k;
  Einsum *e = ctx;
  lower_store1(b, e->y, aff_add(e->y0, col), kx_load(b, e->acc, acc));
}

static void emit_tile(void *ctx, KBuild *b, const Columns *c, Affine first) {
  Einsum *e = ctx;
  Affine y0 = e->y0;
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < e->n_sum; i++) dims[i] = e->dims[(uint8_t)e->sum[i]];
  e->at[(uint8_t)e->out[e->n_out - 1]] = first;
  e->y0 = aff_add(y0, first);
  e->acc = columns_alloc(b, c, "acc", e->t);
  columns_fill(b, c, e->acc, lower_number(b, e->t, 0));
  columns_over(b, c, e->n_sum, dims, column_term, e);
  columns_each(b, c, NULL, column_result, e);
  e->y0 = y0;
}

static void emit_scalar(Einsum *e, KBuild *b) {
  const int64_t one = 1;
  KBuf *sum = kb_alloc(b, "sum", e->t, 1, &one, SPACE_REG);
  kb_store1(b, sum, aff(0), lower_number(b, e->t, 0));
  for (uint32_t i = 0; i < e->n_sum; i++) {
    uint8_t label = (uint8_t)e->sum[i];
    e->at[label] = aff_var(kb_for(b, "k", 0, e->dims[label], 1, FOR_SEQ));
  }
  kb_store1(b, sum, aff(0), kx_op2(b, KOP_ADD, kx_load1(b, sum, aff(0)), product(e, b)));
  for (uint32_t i = 0; i < e->n_sum; i++) kb_end(b);
  lower_store1(b, e->y, e->y0, kx_load1(b, sum, aff(0)));
}

static void emit_row(Einsum *e, KBuild *b) {
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < e->n_sum; i++) dims[i] = e->dims[(uint8_t)e->sum[i]];
  KVar *total = lanes_row(e->ctx, b, e->t, KOP_ADD, e->n_sum, dims, row_term, e);
  lower_store1(b, e->y, e->y0, kx_var(b, total));
}

static void emit(Einsum *e, KBuild *b, const Type *y, bool par) {
  bool columns = e->n_out > 0 && is_contiguous(e, e->out[e->n_out - 1]) && y->dims[y->rank - 1] > 1;
  bool row = !columns && choose_row(e);
  uint32_t loops = columns ? e->n_out - 1 : e->n_out;
  int64_t strides[MAX_RANK], stride = 1;
  for (uint32_t i = y->rank; i-- > 0; stride *= y->dims[i]) strides[i] = stride;
  e->y0 = aff(0);
  for (uint32_t i = 0; i < loops; i++) {
    Affine v = aff_var(kb_for(b, "i", 0, y->dims[i], 1, par && i == 0 ? FOR_PAR : FOR_SEQ));
    e->at[(uint8_t)e->out[i]] = v;
    e->y0 = aff_add(e->y0, aff_mul(v, strides[i]));
  }
  if (columns) {
    columns_tiles(e->ctx, b, e->t, y->dims[loops], par && !loops, emit_tile, e);
  } else if (row) {
    emit_row(e, b);
  } else {
    emit_scalar(e, b);
  }
  for (uint32_t i = 0; i < loops; i++) kb_end(b);
}

bool lower_einsum(LowerCtx *ctx, const Op *op) {
  const Type *y = op_out(op, 0)->type;
  Arena *arena = ctx->m->arena;
  Einsum *e = NEW(arena, Einsum);
  *e = (Einsum){.ctx = ctx, .t = lower_compute_type(y->dtype), .n_in = op->n_in};
  PBuf **bufs = NEW_ARRAY(arena, PBuf *, op->n_in + 1);
  KBuild b;
  e->stride = arena_array(arena, op->n_in, sizeof *e->stride);
  e->in = NEW_ARRAY(arena, KBuf *, op->n_in);
  if (!read_equation(e, op)) return false;
  lower_begin(ctx, &b, op);
  bufs[0] = lower_buf(ctx, op_out(op, 0));
  e->y = lower_flat(&b, bufs[0]);
  for (uint32_t i = 0; i < op->n_in; i++) {
    bufs[i + 1] = lower_buf(ctx, op_in(op, i));
    e->in[i] = lower_flat(&b, bufs[i + 1]);
  }
  double macs = (double)type_count(y);
  for (uint32_t i = 0; i < e->n_sum; i++) macs *= (double)e->dims[(uint8_t)e->sum[i]];
  emit(e, &b, y, macs >= LANES_PAR_MIN);
  lower_step(ctx, &b, op, NULL, op->n_in + 1, bufs)->macs = macs;
  return true;
}
