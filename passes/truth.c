// Reading layers as boolean functions. See truth.h.
#include "passes/truth.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "passes/contraction.h"
#include "passes/range.h"

// ---- shape

static bool product_shape(const Op *op, TruthShape *s) {
  if (op->kind == OP_MATMUL) {
    MatmulGeom g;
    if (!matmul_geom(op, &g) || !matmul_rows_merge(op, &g) || g.b_vector || g.a_k != 1) return false;
    *s = (TruthShape){.rows = g.m, .k = g.k, .n = g.n, .w_k = g.b_k, .w_n = g.b_n};
    for (uint32_t i = 0; i < g.n_batch; i++) s->rows *= g.batch[i];
    return type_count(op_in(op, 1)->type) == g.k * g.n;
  }
  ConvGeom g;
  if (op->kind != OP_CONV || !conv_geom(op, &g) || !g.pointwise || g.group != 1) return false;
  *s = (TruthShape){.rows = g.n * g.out[0] * g.out[1] * g.out[2], .k = g.c, .n = g.o, .w_k = g.o, .w_n = 1};
  return true;
}

static bool type_fits(DType t) { return t == DT_F32 || t == DT_I8 || t == DT_U8; }

static uint32_t bits_for(uint32_t levels) {
  uint32_t bits = 1;
  while (1u << bits < levels) bits++;
  return bits;
}

// An operand of the post function that is constant and differs at most from column to column.
static bool is_per_column(const Value *v, int64_t n) {
  int64_t count = type_count(v->type);
  return value_is_const(v) && (count == 1 || (count == n && v->type->dims[v->type->rank - 1] == n));
}

static bool operands_fit(const Op *op, int64_t n) {
  const Value *bias = op_in(op, 2);
  if (bias != NULL && !is_per_column(bias, n)) return false;
  for (uint32_t i = op_info(op->kind)->max_in; i < op->n_in; i++)
    if (!is_per_column(op_in(op, i), n)) return false;
  return true;
}

static double number_at(const void *data, DType t, int64_t i) {
  return dtype_is_float(t) ? elem_get_f(data, t, i) : (double)elem_get_i(data, t, i);
}

// Non-zeros of the fullest column; more than `most` are not counted on.
static int64_t fullest_column(const Op *op, const TruthShape *s, int64_t most) {
  const Value *w = op_in(op, 1);
  const void *data = const_data(op->func->module, w->constant);
  int64_t full = 0;
  for (int64_t o = 0; o < s->n && full <= most; o++) {
    int64_t n = 0;
    for (int64_t k = 0; k < s->k; k++) n += number_at(data, w->type->dtype, k * s->w_k + o * s->w_n) != 0;
    if (n > full) full = n;
  }
  return full;
}

static bool levels_of(const Value *v, uint32_t *n, double *level) {
  double all[RANGE_LEVELS];
  *n = value_levels(v, all);
  if (*n < 2 || *n > TRUTH_LEVELS) return false;
  memcpy(level, all, *n * sizeof *level);
  return true;
}

// A zero among the levels is +0 wherever it comes out.
static bool zeros_are_plain(const Op *op, const TruthShape *s) {
  bool zero = false;
  for (uint32_t i = 0; i < s->y_n; i++) zero |= s->y_level[i] == 0;
  if (!zero || !dtype_is_float(op_out(op, 0)->type->dtype)) return true;
  Arena *arena = arena_new("truth");
  Truth t;
  bool plain = truth_tables(op, s, arena, &t);
  arena_free(arena);
  return plain;
}

bool truth_shape(const Op *op, TruthShape *s) {
  const Value *w = op_in(op, 1), *y = op_out(op, 0);
  if (!value_is_const(w) || op_post(op) == NULL || !product_shape(op, s) || s->k < 8 || s->n < 1) return false;
  if (!type_fits(op_in(op, 0)->type->dtype) || !type_fits(y->type->dtype)) return false;
  if ((w->type->dtype != DT_F32 && w->type->dtype != DT_I8) || !operands_fit(op, s->n)) return false;
  int64_t most = fullest_column(op, s, TRUTH_FAN);
  if (most < 1 || most > TRUTH_FAN) return false;
  if (!levels_of(op_in(op, 0), &s->x_n, s->x_level) || !levels_of(y, &s->y_n, s->y_level)) return false;
  s->x_bits = bits_for(s->x_n);
  s->y_bits = bits_for(s->y_n);
  s->fan = (uint32_t)most * s->x_bits;
  return s->fan <= TRUTH_FAN && zeros_are_plain(op, s);
}

bool truth_bit_flips(uint32_t to, uint32_t p) { return ((to ^ (to - 1)) >> p & 1) != 0; }

// ---- functions

// The inputs of column o; their number.
static uint32_t column_inputs(const Op *op, const TruthShape *s, int64_t o, int64_t *at, double *w) {
  const Value *v = op_in(op, 1);
  const void *data = const_data(op->func->module, v->constant);
  uint32_t n = 0;
  for (int64_t k = 0; k < s->k; k++) {
    double x = number_at(data, v->type->dtype, k * s->w_k + o * s->w_n);
    if (x == 0) continue;
    at[n] = k;
    w[n++] = x;
  }
  return n;
}

static double column_bias(const Op *op, int64_t o) {
  const Value *bias = op_in(op, 2);
  if (bias == NULL) return 0;
  return number_at(const_data(op->func->module, bias->constant), bias->type->dtype,
                   type_count(bias->type) == 1 ? 0 : o);
}

static int64_t x_zero(const Op *op) { return op_int(op, op->kind == OP_CONV ? A_CONV_x_zero : A_MATMUL_x_zero); }

// The sums of column o for all values of its index, as the interpreter makes them; codes past the last level stand for
// that.
static void column_sums(const Op *op, const TruthShape *s, int64_t o, double *sums, int32_t *input) {
  int64_t at[TRUTH_FAN], zero = x_zero(op);
  double w[TRUTH_FAN], bias = column_bias(op, o);
  uint32_t n = column_inputs(op, s, o, at, w), mask = (1u << s->x_bits) - 1;
  for (uint32_t j = 0; j < s->fan; j++)
    input[j] = j < n * s->x_bits ? (int32_t)(at[j / s->x_bits] * s->x_bits + j % s->x_bits) : -1;
  for (uint32_t i = 0; i < 1u << s->fan; i++) {
    double sum = 0;
    for (uint32_t k = 0; k < n; k++) {
      uint32_t code = i >> (k * s->x_bits) & mask;
      sum += (s->x_level[code < s->x_n ? code : s->x_n - 1] - (double)zero) * w[k];
    }
    sums[i] = sum + bias;
  }
}

// An operand of the post function as one number per column.
static Tensor operand_of(const Op *op, const Value *v) {
  Module *m = op->func->module;
  int64_t dims[2] = {type_count(v->type), 1};
  return (Tensor){type_tensor(m->types, v->type->dtype, 2, dims), (void *)const_data(m, v->constant)};
}

bool truth_tables(const Op *op, const TruthShape *s, Arena *arena, Truth *t) {
  Module *m = op->func->module;
  Func *post = op_post(op);
  int64_t size = INT64_C(1) << s->fan, dims[2] = {s->n, size};
  t->input = NEW_ARRAY(arena, int32_t, s->n * s->fan);
  t->result = NEW_ARRAY(arena, uint8_t, s->n *size);
  Tensor *in = NEW_ARRAY(arena, Tensor, 1 + op_n_post(op));
  in[0] = tensor_new(arena, type_tensor(m->types, post->args[0]->type->dtype, 2, dims));
  Tensor out = tensor_new(arena, type_tensor(m->types, op_out(op, 0)->type->dtype, 2, dims));
  double sums[1 << TRUTH_FAN];
  for (int64_t o = 0; o < s->n; o++) {
    column_sums(op, s, o, sums, t->input + o * s->fan);
    for (int64_t i = 0; i < size; i++) {
      if (dtype_is_float(in[0].type->dtype)) {
        elem_set_f(in[0].data, in[0].type->dtype, o * size + i, sums[i]);
      } else {
        elem_set_i(in[0].data, in[0].type->dtype, o * size + i, (int64_t)sums[i]);
      }
    }
  }
  for (uint32_t i = 0; i < op_n_post(op); i++) in[1 + i] = operand_of(op, op_in(op, op_info(op->kind)->max_in + i));
  eval_body(post, in, &out, arena);
  for (int64_t i = 0; i < s->n * size; i++) {
    double y = number_at(out.data, out.type->dtype, i);
    uint32_t code = 0;
    while (code < s->y_n && s->y_level[code] != y) code++;
    if (code == s->y_n || (y == 0 && signbit(y))) return false;
    t->result[i] = (uint8_t)code;
  }
  return true;
}
