// The strategy dot8. See dot8.h.
//
//   sum over k of (x - z) w  =  sum over k of x w  -  z * sum over k of w
//
// Where the target multiplies bytes of one sign only, signed x is read as x + 128 or unsigned x as x - 128, its zero
// point moved alike. Sums wrap in 32 bits, so only the result has to fit, not
// what is in between.
#include "passes/lower/dot8.h"

#include "ir/elem.h"
#include "passes/range.h"

// Moved or not, the distance of a byte of x to its zero point is at most the first and the zero point's size.
enum { MOST_X = 256, MOST_W = 128 };

static int64_t magnitude(int64_t v) { return v < 0 ? -v : v; }

int64_t dot8_move(const Target *t, DType x) {
  if (x == DT_I8 && t->dot4_signs == DOT_UNSIGNED) return 128;
  return x == DT_U8 && t->dot4_signs == DOT_SIGNED ? -128 : 0;
}

// No result has more terms than this.
static int64_t most_terms(const Op *op) {
  const Type *w = op_in(op, 1)->type;
  MatmulGeom g;
  if (op->kind == OP_MATMUL && matmul_geom(op, &g)) return g.k;
  return type_count(w) / w->dims[w->rank - 1];
}

bool dot8_bits(const Op *op, PackBits *b) {
  const Value *w = op_in(op, 1), *bias = op_in(op, 2);
  if (!value_is_const(w) || w->type->dtype != DT_I8 || type_count(w->type) == 0 || !pack_bits_of(w, b)) return false;
  int64_t zero = 0, terms = most_terms(op), most = INT32_MAX;
  if (op->kind == OP_CONV) zero = op_int(op, A_CONV_x_zero);
  if (op->kind == OP_CONV_TRANSPOSE) zero = op_int(op, A_CONV_TRANSPOSE_x_zero);
  if (op->kind == OP_MATMUL) zero = op_int(op, A_MATMUL_x_zero);
  if (bias != NULL) {
    if (!value_is_const(bias)) return false;
    Range r = value_range(bias);
    int64_t largest = magnitude(r.lo) > magnitude(r.hi) ? magnitude(r.lo) : magnitude(r.hi);
    most -= largest * (INT64_C(1) << b->shift);
  }
  return most > 0 &&
         terms <= most / (MOST_W * (MOST_X + magnitude(zero + (op_in(op, 0)->type->dtype == DT_I8 ? 128 : 0))));
}

bool dot8_plan_bits(LowerCtx *ctx, const Op *op, const Plan *plan, PackBits *b) {
  int64_t bits = plan_param(plan, "bits", 8);
  *b = (PackBits){0};
  if (bits >= 8) return true;
  if (dot8_bits(op, b) && pack_bits_width(b) <= bits) return true;
  return diag_error(ctx->m->diag, DIAG_USAGE, op->loc,
                    "plan 'dot8' asks for weights of %lld bits, but these take %u; leave bits out", (long long)bits,
                    b->n > 0 ? pack_bits_width(b) : 8);
}

void dot8_reduction(Nest *n) {
  nest_merge(n);
  n->dot = true;
  if (n->x_red[n->n_red - 1] == 1) return;
  if (n->red[n->n_red - 1] == 1) {
    n->x_red[n->n_red - 1] = 1;
    return;
  }
  n->red[n->n_red] = 1;
  n->x_red[n->n_red++] = 1;
}

PackSpec dot8_weights(const Nest *n, int64_t row, int64_t column) {
  PackSpec s = {.n_red = n->n_red, .n = n->n, .n_stride = column, .by = 4, .type = DT_I8};
  s.bits = n->bits;
  s.nv = n->tile.nv;
  s.lanes = n->tile.lanes;
  s.dense = n->tile.dense;
  for (uint32_t i = n->n_red; i-- > 0;) {
    s.red[i] = n->red[i];
    s.red_stride[i] = row;
    row *= n->red[i];
  }
  return s;
}

Value *dot8_bias(LowerCtx *ctx, const Nest *n, int64_t rows, int64_t columns, int64_t row, int64_t column) {
  Module *m = ctx->m;
  const Op *op = n->op;
  const Value *bias = op_in(op, 2), *w = op_in(op, 1);
  const void *data = const_data(m, w->constant);
  int64_t zero = n->x_zero + dot8_move(ctx->target, op_in(op, 0)->type->dtype);
  if (zero == 0 && bias == NULL) return NULL;
  const Type *t = type_tensor(m->types, DT_I32, 1, &columns);
  void *sums = arena_alloc(m->arena, (size_t)type_bytes(t));
  for (int64_t c = 0; c < columns; c++) {
    int64_t sum = 0, b = 0;
    for (int64_t r = 0; r < rows; r++) sum += elem_get_i(data, w->type->dtype, r * row + c * column);
    if (bias != NULL) b = const_i(m, bias->constant, type_count(bias->type) == 1 ? 0 : c);
    elem_set_i(sums, DT_I32, c, int_wrap(DT_I32, (b - zero * sum) * (INT64_C(1) << n->bits.shift)));
  }
  return const_borrowed(m, t, sums, NULL);
}
