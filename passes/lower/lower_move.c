// Movement without arithmetic: expand, tile, concat, slice, trilu. Each is a walk over the result (or, for concat, over
// one operand) in which the source has other strides.
#include "passes/lower/walk.h"

bool lower_expand(LowerCtx *ctx, const Op *op) {
  const Type *y = op_out(op, 0)->type;
  Walk walk;
  walk_init(&walk, y->rank, y->dims);
  walk_broadcast(&walk, op_in(op, 0)->type);
  return walk_copy(ctx, op, &walk, lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)));
}

// Every axis becomes two loops: repeat and element.
bool lower_tile(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type;
  int64_t dims[2 * MAX_RANK], strides[2 * MAX_RANK], stride = 1;
  for (uint32_t i = x->rank; i-- > 0; stride *= x->dims[i]) {
    dims[2 * i] = op_ints_at(op, A_TILE_repeats, i, 1);
    dims[2 * i + 1] = x->dims[i];
    strides[2 * i] = 0;
    strides[2 * i + 1] = stride;
  }
  Walk walk;
  walk_init(&walk, 2 * x->rank, dims);
  walk_operand(&walk, 0, strides);
  return walk_copy(ctx, op, &walk, lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)));
}

// Was the operand already written in place (lower.c)?
static bool is_placed(PBuf *part, PBuf *whole, int64_t offset) {
  int64_t part_at, whole_at;
  return pbuf_root(part, &part_at) == pbuf_root(whole, &whole_at) && part_at == whole_at + offset;
}

bool lower_concat(LowerCtx *ctx, const Op *op) {
  const Type *y = op_out(op, 0)->type;
  PBuf *to = lower_buf(ctx, op_out(op, 0));
  int64_t strides[MAX_RANK], first = 0, axis = lower_axis(op, A_CONCAT_axis);
  dense_strides(y->rank, y->dims, strides);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Type *x = op_in(op, i)->type;
    PBuf *from = lower_buf(ctx, op_in(op, i));
    int64_t x_strides[MAX_RANK], bytes = (int64_t)dtype_info(y->dtype)->bits / 8;
    Walk walk;
    walk_init(&walk, x->rank, x->dims);
    dense_strides(x->rank, x->dims, x_strides);
    walk_result(&walk, first, strides);
    walk_operand(&walk, 0, x_strides);
    if (!is_placed(from, to, first * bytes) && !walk_copy(ctx, op, &walk, to, from)) return false;
    first += x->dims[axis] * strides[axis];
  }
  return true;
}

bool lower_slice(LowerCtx *ctx, const Op *op) {
  const Type *x = op_in(op, 0)->type, *y = op_out(op, 0)->type;
  int64_t strides[MAX_RANK], first = 0;
  dense_strides(x->rank, x->dims, strides);
  for (uint32_t i = 0; i < x->rank; i++) {
    first += strides[i] * op_ints_at(op, A_SLICE_starts, i, 0);
    strides[i] *= op_ints_at(op, A_SLICE_steps, i, 1);
  }
  Walk walk;
  walk_init(&walk, y->rank, y->dims);
  walk_operand(&walk, first, strides);
  return walk_copy(ctx, op, &walk, lower_buf(ctx, op_out(op, 0)), lower_buf(ctx, op_in(op, 0)));
}

// ---- trilu

typedef struct Trilu {
  KBuf *x, *y;
  int64_t rows, cols, k;
  bool upper;
} Trilu;

static void trilu_part(const Trilu *t, KBuild *b, Affine base, Affine lo, Affine hi, bool keep) {
  Affine at = aff_add(base, aff_var(kb_for_aff(b, "j", lo, hi, 1, FOR_SEQ)));
  kb_store1(b, t->y, at, keep ? kx_load1(b, t->x, at) : lower_number(b, t->y->type, 0));
  kb_end(b);
}

// Row i is cut at column i + k (upper) or i + k + 1 (lower).
bool lower_trilu(LowerCtx *ctx, const Op *op) {
  const Type *t = op_in(op, 0)->type;
  PBuf *x = lower_buf(ctx, op_in(op, 0)), *y = lower_buf(ctx, op_out(op, 0));
  Trilu tr = {.rows = t->dims[t->rank - 2], .cols = t->dims[t->rank - 1], .k = op_int(op, A_TRILU_k)};
  KBuild b;
  tr.upper = op_bool(op, A_TRILU_upper);
  int64_t cut = tr.k < -tr.rows ? -tr.rows : tr.k > tr.cols ? tr.cols : tr.k;
  lower_begin(ctx, &b, op);
  tr.y = lower_flat(&b, y);
  tr.x = lower_flat(&b, x);
  int64_t matrices = type_count(t) / (tr.rows * tr.cols);
  KVar *m = kb_for(&b, "m", 0, matrices, 1, FOR_SEQ), *i = kb_for(&b, "i", 0, tr.rows, 1, FOR_SEQ);
  Affine base = aff_add(aff_term(m, tr.rows * tr.cols), aff_term(i, tr.cols));
  KExpr *at = kx_index(&b, aff_plus(aff_var(i), tr.upper ? cut : cut + 1));
  at = kx_op2(&b, KOP_MIN, kx_op2(&b, KOP_MAX, at, kx_i(&b, DT_I64, 0)), kx_i(&b, DT_I64, tr.cols));
  Affine split = aff_var(kb_let(&b, "split", at));
  trilu_part(&tr, &b, base, aff(0), split, !tr.upper);
  trilu_part(&tr, &b, base, split, aff(tr.cols), tr.upper);
  kb_end(&b);
  kb_end(&b);
  lower_step(ctx, &b, op, NULL, 2, (PBuf *[]){y, x});
  return true;
}
