// Generators of element-wise ops, movement, gathers, reductions, order and quantisation. See gen.h.
#include "tests/fuzz/gen.h"

#include <string.h>

#include "ir/elem.h"

#define ANY ""

static const DType cast_types[] = {DT_F32,  DT_F16, DT_F64, DT_I64, DT_I32, DT_I8,  DT_U8,
                                   DT_BOOL, DT_I16, DT_U16, DT_U32, DT_U64, DT_BF16};

static DType any_cast_type(Gen *g) { return cast_types[rnd(g) % (sizeof cast_types / sizeof *cast_types)]; }

static int64_t any_axis(Gen *g, uint32_t rank) {
  int64_t r = rank, a = rnd_in(g, 0, r - 1);
  return rnd_p(g, 30) ? a - r : a;
}

// ---- element-wise: any row of the table

static OpKind any_eltwise(Gen *g) {
  static const OpKind common[] = {OP_ADD, OP_MUL, OP_SUB, OP_RELU, OP_DIV, OP_MAX, OP_SIGMOID, OP_CAST, OP_SELECT};
  if (rnd_p(g, 30)) return common[rnd(g) % (sizeof common / sizeof *common)];
  for (;;) {  // rows in turn, from another one for every seed
    OpKind k = (OpKind)(1 + g->row++ % (OP_COUNT - 1));
    if (op_info(k)->traits & TRAIT_ELTWISE) return k;
  }
}

static Value *condition_for(Gen *g, const Type *with) {
  Value *v = gen_pick(g, "o", 0, MAX_RANK);
  if (v && rnd_p(g, 70)) return v;
  return gen_mate(g, DT_BOOL, with);
}

static const char *operand_classes(OpKind k) {
  switch (k) {
    case OP_NOT: return "o";
    case OP_LOW_WORD: return "d";
    case OP_SHL:
    case OP_SHR:
    case OP_BIT_NOT: return "ilbu";
    case OP_AND:
    case OP_OR:
    case OP_XOR: return "oilbu";
    default: return ANY;
  }
}

static void eltwise_attrs(Gen *g, Op *op) {
  const OpInfo *info = op_info(op->kind);
  for (uint32_t i = 0; i < info->n_attrs; i++)
    if (info->attrs[i].kind == ATTR_FLOAT && (rnd_p(g, 50) || gen_tensor(g, op_in(op, 0)).type->dtype == DT_F64))
      op_set_float(op, (int)i, op->kind == OP_ISINF ? (double)rnd_in(g, 0, 1) : (double)rnd_in(g, -8, 24) / 16.0);
}

// An op whose results lie in the domain of `k`.
static OpKind into_domain(OpKind k) {
  switch (k) {
    case OP_ASIN:
    case OP_ACOS:
    case OP_ATANH: return OP_SIGMOID;
    case OP_ACOSH: return OP_COSH;
    case OP_LOG:
    case OP_SQRT:
    case OP_POW:
    case OP_RECIP: return OP_SOFTPLUS;
    default: return OP_NONE;
  }
}

static bool eltwise_of(Gen *g, OpKind k, const char *classes) {
  const OpInfo *info = op_info(k);
  Value *in[3], *x = gen_need(g, classes, 0, MAX_RANK);
  if (into_domain(k) != OP_NONE) {
    Op *domain = gen_op(g, into_domain(k), 1, &x);
    if (!gen_done(g, domain)) return false;
    x = op_out(domain, 0);
  }
  in[0] = x;
  if (k == OP_SELECT) {
    in[1] = x;
    in[2] = gen_mate(g, x->type->dtype, x->type);
    in[0] = condition_for(g, x->type);
  } else {
    for (uint32_t i = 1; i < info->min_in; i++)
      in[i] = gen_mate(g, k == OP_POW && rnd_p(g, 20) ? DT_I64 : x->type->dtype, x->type);
    if (info->min_in == 2 && rnd_p(g, 30)) in[0] = in[1], in[1] = x;
  }
  Op *op = gen_op(g, k, info->min_in, in);
  eltwise_attrs(g, op);
  if (k == OP_CAST) gen_result(g, op, any_cast_type(g), x->type->rank, x->type->dims);
  return gen_done(g, op);
}

bool gen_row(Gen *g, uint64_t row) {
  OpKind k = (OpKind)(1 + row % (OP_COUNT - 1));
  return (op_info(k)->traits & TRAIT_ELTWISE) && (eltwise_of(g, k, operand_classes(k)) || eltwise_of(g, k, "fhd"));
}

static bool make_eltwise(Gen *g) {
  OpKind k = any_eltwise(g);
  return eltwise_of(g, k, operand_classes(k)) || eltwise_of(g, k, "fhd");
}

// A map whose body is two or three element-wise ops on its parameters.
static bool make_map(Gen *g) {
  static const OpKind two[] = {OP_ADD, OP_MUL, OP_MAX, OP_MIN, OP_SUB};
  Value *in[3];
  uint32_t n = (uint32_t)rnd_in(g, 1, 3);
  in[0] = gen_need(g, "fhdil", 0, MAX_RANK);
  const Type *t = in[0]->type;
  for (uint32_t i = 1; i < n; i++)
    in[i] = gen_leaf(g, gen_type(g, t->dtype, t->rank ? 1 : 0, &t->dims[t->rank ? t->rank - 1 : 0]));
  const Type *params[3];
  for (uint32_t i = 0; i < n; i++) params[i] = type_scalar(g->m->types, t->dtype);
  Func *body = func_new(g->m, arena_printf(g->arena, "body%u", g->m->funcs.n), n, params);
  Value *v = body->args[0];
  for (uint32_t i = 0; i < 3; i++) {
    Value *pair[2] = {v, body->args[rnd_in(g, 0, n - 1)]};
    OpKind k = rnd_p(g, 25) ? OP_NEG : two[rnd(g) % 5];
    Op *b = op_new(body, NULL, k, op_info(k)->min_in, pair, gen_loc(g, k));
    value_set_type(op_out(b, 0), params[0]);
    v = op_out(b, 0);
  }
  func_set_results(body, 1, &v);
  body->result_names[0] = "r";
  Op *op = gen_op(g, OP_MAP, n, in);
  op_set_func(op, A_MAP_body, body);
  gen_result(g, op, t->dtype, t->rank, t->dims);
  return gen_done(g, op);
}

// ---- shapes

static uint32_t random_split(Gen *g, int64_t n, int64_t *dims, uint32_t most) {
  uint32_t rank = 0;
  while (n > 1 && rank + 1 < most) {
    int64_t d = rnd_in(g, 1, n);
    while (n % d) d--;
    dims[rank++] = d;
    n /= d;
    if (rnd_p(g, 15)) break;
  }
  if (n > 1 || rank == 0) dims[rank++] = n;
  while (rank < most && rnd_p(g, 20)) dims[rank++] = 1;
  return rank;
}

static bool make_reshape(Gen *g) {
  Value *x = gen_need(g, ANY, 0, MAX_RANK);
  int64_t n = type_count(x->type), dims[MAX_RANK];
  uint32_t rank = 0;
  if (n == 1 && rnd_p(g, 40)) {
    rank = (uint32_t)rnd_in(g, 0, 2);
    for (uint32_t i = 0; i < rank; i++) dims[i] = 1;
  } else if (n == 0) {
    dims[rank++] = rnd_in(g, 0, 3);
    dims[rank++] = 0;
  } else {
    rank = random_split(g, n, dims, 5);
  }
  Op *op = gen_op(g, OP_RESHAPE, 1, &x);
  gen_result(g, op, x->type->dtype, rank, dims);
  return gen_done(g, op);
}

static bool make_bitcast(Gen *g) {
  Value *x = gen_need(g, "filbu", 0, MAX_RANK);
  DType from = x->type->dtype;
  DType to = from == DT_I8 ? DT_U8 : from == DT_U8 ? DT_I8 : from == DT_I64 ? DT_U64 : from == DT_I32 ? DT_U32 : DT_I32;
  Op *op = gen_op(g, OP_BITCAST, 1, &x);
  gen_result(g, op, to, x->type->rank, x->type->dims);
  return gen_done(g, op);
}

static bool make_transpose(Gen *g) {
  Value *x = gen_need(g, ANY, 1, MAX_RANK);
  int64_t perm[MAX_RANK];
  uint32_t r = x->type->rank;
  for (uint32_t i = 0; i < r; i++) perm[i] = i;
  for (uint32_t i = r; i-- > 1;) {
    uint32_t j = (uint32_t)rnd_in(g, 0, i);
    int64_t t = perm[i];
    perm[i] = perm[j];
    perm[j] = t;
  }
  Op *op = gen_op(g, OP_TRANSPOSE, 1, &x);
  op_set_ints(op, A_TRANSPOSE_perm, r, perm);
  return gen_done(g, op);
}

static bool make_expand(Gen *g) {
  Value *x = gen_need(g, ANY, 0, 5);
  int64_t dims[MAX_RANK];
  uint32_t more = (uint32_t)rnd_in(g, 0, x->type->rank < 4 ? 2 : 0), r = x->type->rank + more;
  for (uint32_t i = 0; i < r; i++)
    dims[i] = i < more || x->type->dims[i - more] == 1 ? gen_extent(g) : x->type->dims[i - more];
  Op *op = gen_op(g, OP_EXPAND, 1, &x);
  gen_result(g, op, x->type->dtype, r, dims);
  return gen_done(g, op);
}

static bool make_tile(Gen *g) {
  Value *x = gen_need(g, ANY, 0, MAX_RANK);
  int64_t rep[MAX_RANK];
  for (uint32_t i = 0; i < x->type->rank; i++) rep[i] = rnd_p(g, 60) ? 1 : rnd_in(g, rnd_p(g, 5) ? 0 : 1, 3);
  Op *op = gen_op(g, OP_TILE, 1, &x);
  op_set_ints(op, A_TILE_repeats, x->type->rank, rep);
  return gen_done(g, op);
}

static bool make_concat(Gen *g) {
  Value *in[4], *x = gen_need(g, ANY, 1, MAX_RANK);
  uint32_t n = (uint32_t)rnd_in(g, 1, 4), axis = (uint32_t)rnd_in(g, 0, x->type->rank - 1);
  in[rnd(g) % n] = x;
  for (uint32_t i = 0; i < n; i++) {
    int64_t dims[MAX_RANK];
    Value *v = rnd_p(g, 60) ? gen_pick(g, ANY, x->type->rank, x->type->rank) : x;
    bool fits = v && v->type->dtype == x->type->dtype;
    for (uint32_t k = 0; fits && k < x->type->rank; k++) fits = k == axis || v->type->dims[k] == x->type->dims[k];
    memcpy(dims, x->type->dims, sizeof dims);
    dims[axis] = gen_extent(g);
    in[i] = fits ? v : gen_leaf(g, gen_type(g, x->type->dtype, x->type->rank, dims));
  }
  Op *op = gen_op(g, OP_CONCAT, n, in);
  op_set_int(op, A_CONCAT_axis, rnd_p(g, 20) ? (int64_t)axis - x->type->rank : axis);
  return gen_done(g, op);
}

static bool make_slice(Gen *g) {
  Value *x = gen_need(g, ANY, 1, MAX_RANK);
  int64_t starts[MAX_RANK], steps[MAX_RANK], dims[MAX_RANK];
  uint32_t r = x->type->rank;
  bool unit = true;
  for (uint32_t i = 0; i < r; i++) {
    int64_t n = x->type->dims[i];
    starts[i] = 0;
    steps[i] = 1;
    dims[i] = n;
    if (n == 0 || rnd_p(g, 40)) continue;
    starts[i] = rnd_in(g, 0, n - 1);
    steps[i] = rnd_p(g, 60) ? 1 : rnd_p(g, 50) ? rnd_in(g, 2, 3) : -rnd_in(g, 1, 3);
    int64_t room = steps[i] > 0 ? (n - 1 - starts[i]) / steps[i] + 1 : starts[i] / -steps[i] + 1;
    dims[i] = rnd_p(g, 3) ? 0 : rnd_in(g, 1, room);
    unit &= steps[i] == 1;
  }
  Op *op = gen_op(g, OP_SLICE, 1, &x);
  op_set_ints(op, A_SLICE_starts, r, starts);
  if (!unit || rnd_p(g, 30)) op_set_ints(op, A_SLICE_steps, r, steps);
  gen_result(g, op, x->type->dtype, r, dims);
  return gen_done(g, op);
}

static bool make_pad(Gen *g) {
  static const EnumValue modes[] = {PAD_CONSTANT, PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP};
  Value *x = gen_need(g, ANY, 1, MAX_RANK);
  int64_t pads[2 * MAX_RANK];
  for (uint32_t i = 0; i < 2 * x->type->rank; i++) pads[i] = rnd_p(g, 55) ? 0 : rnd_in(g, rnd_p(g, 25) ? -2 : 0, 3);
  Op *op = gen_op(g, OP_PAD, 1, &x);
  op_set_ints(op, A_PAD_pads, 2 * x->type->rank, pads);
  op_set_int(op, A_PAD_mode, modes[rnd(g) % 5]);
  if (rnd_p(g, 40)) op_set_float(op, A_PAD_value, (double)rnd_in(g, 0, 3));
  return gen_done(g, op);
}

static bool make_trilu(Gen *g) {
  Value *x = gen_need(g, ANY, 2, MAX_RANK);
  Op *op = gen_op(g, OP_TRILU, 1, &x);
  op_set_int(op, A_TRILU_upper, rnd_in(g, 0, 1));
  op_set_int(op, A_TRILU_k, rnd_in(g, -4, 4));
  return gen_done(g, op);
}

// ---- gathers and scatters

static DType index_type(Gen *g) { return rnd_p(g, 70) ? DT_I64 : DT_I32; }

static Value *index_of(Gen *g, uint32_t rank, const int64_t *dims, int64_t extent) {
  return gen_ints(g, gen_type(g, index_type(g), rank, dims), rnd_p(g, 40) ? -extent : 0, extent - 1);
}

static bool make_gather(Gen *g) {
  Value *x = gen_need(g, ANY, 1, 5);
  int64_t axis = any_axis(g, x->type->rank), dims[3];
  uint32_t r = (uint32_t)rnd_in(g, 0, 2);
  for (uint32_t i = 0; i < r; i++) dims[i] = gen_extent(g);
  int64_t n = x->type->dims[axis < 0 ? axis + x->type->rank : axis];
  if (n == 0) return false;
  Op *op = gen_op(g, OP_GATHER, 2, (Value *[]){x, index_of(g, r, dims, n)});
  op_set_int(op, A_GATHER_axis, axis);
  return gen_done(g, op);
}

// Dims inside those of x, free along `axis`.
static void inner_dims(Gen *g, const Type *x, uint32_t axis, int64_t *dims) {
  for (uint32_t i = 0; i < x->rank; i++)
    dims[i] = i == axis ? gen_extent(g) : rnd_p(g, 70) || x->dims[i] == 0 ? x->dims[i] : rnd_in(g, 1, x->dims[i]);
}

static bool make_gather_elements(Gen *g) {
  Value *x = gen_need(g, ANY, 1, MAX_RANK);
  int64_t axis = any_axis(g, x->type->rank), dims[MAX_RANK];
  uint32_t a = (uint32_t)(axis < 0 ? axis + x->type->rank : axis);
  inner_dims(g, x->type, a, dims);
  if (x->type->dims[a] == 0) return false;
  Op *op = gen_op(g, OP_GATHER_ELEMENTS, 2, (Value *[]){x, index_of(g, x->type->rank, dims, x->type->dims[a])});
  op_set_int(op, A_GATHER_ELEMENTS_axis, axis);
  return gen_done(g, op);
}

static const EnumValue scatter_modes[] = {SCATTER_NONE, SCATTER_ADD, SCATTER_MUL, SCATTER_MAX, SCATTER_MIN};

static bool make_scatter_elements(Gen *g) {
  Value *x = gen_need(g, ANY, 1, MAX_RANK);
  int64_t axis = any_axis(g, x->type->rank), dims[MAX_RANK];
  uint32_t a = (uint32_t)(axis < 0 ? axis + x->type->rank : axis);
  inner_dims(g, x->type, a, dims);
  if (x->type->dims[a] == 0) return false;
  Value *ix = index_of(g, x->type->rank, dims, x->type->dims[a]);
  Value *u = gen_leaf(g, gen_type(g, x->type->dtype, x->type->rank, dims));
  Op *op = gen_op(g, OP_SCATTER_ELEMENTS, 3, (Value *[]){x, ix, u});
  op_set_int(op, A_SCATTER_ELEMENTS_axis, axis);
  op_set_int(op, A_SCATTER_ELEMENTS_reduction, scatter_modes[x->type->dtype == DT_BOOL ? 0 : rnd(g) % 5]);
  return gen_done(g, op);
}

static Value *tuples(Gen *g, const Type *x, uint32_t batch, uint32_t *n) {
  int64_t dims[MAX_RANK], least = 1000;
  uint32_t r = 0;
  *n = (uint32_t)rnd_in(g, 1, x->rank - batch);
  for (uint32_t i = 0; i < batch; i++) dims[r++] = x->dims[i];
  for (uint32_t i = 0, more = (uint32_t)rnd_in(g, 0, 2); i < more; i++) dims[r++] = rnd_in(g, 1, 4);
  dims[r++] = *n;
  for (uint32_t i = batch; i < batch + *n; i++)
    if (x->dims[i] < least) least = x->dims[i];
  return least == 0 ? NULL : index_of(g, r, dims, least);
}

static bool make_gather_nd(Gen *g) {
  Value *x = gen_need(g, ANY, 1, 4);
  uint32_t n, batch = (uint32_t)rnd_in(g, 0, x->type->rank > 1 ? x->type->rank - 1 : 0);
  if (rnd_p(g, 60)) batch = 0;
  Value *ix = tuples(g, x->type, batch, &n);
  if (!ix) return false;
  Op *op = gen_op(g, OP_GATHER_ND, 2, (Value *[]){x, ix});
  op_set_int(op, A_GATHER_ND_batch_dims, batch);
  return gen_done(g, op);
}

static bool make_scatter_nd(Gen *g) {
  Value *x = gen_need(g, ANY, 1, 4);
  uint32_t n, r = 0;
  Value *ix = tuples(g, x->type, 0, &n);
  int64_t dims[2 * MAX_RANK];
  if (!ix) return false;
  for (uint32_t i = 0; i + 1 < ix->type->rank; i++) dims[r++] = ix->type->dims[i];
  for (uint32_t i = n; i < x->type->rank; i++) dims[r++] = x->type->dims[i];
  Op *op = gen_op(g, OP_SCATTER_ND, 3, (Value *[]){x, ix, gen_leaf(g, gen_type(g, x->type->dtype, r, dims))});
  op_set_int(op, A_SCATTER_ND_reduction, scatter_modes[x->type->dtype == DT_BOOL ? 0 : rnd(g) % 5]);
  return gen_done(g, op);
}

static bool make_one_hot(Gen *g) {
  int64_t dims[3], depth = rnd_in(g, 1, 7), two = 2;
  uint32_t r = (uint32_t)rnd_in(g, 0, 3);
  for (uint32_t i = 0; i < r; i++) dims[i] = gen_extent(g);
  Value *ix = gen_pick(g, "il", 0, 3);
  if (!ix || rnd_p(g, 50)) ix = gen_ints(g, gen_type(g, index_type(g), r, dims), -depth - 1, depth);
  DType t = gen_need(g, ANY, 0, MAX_RANK)->type->dtype;
  Op *op = gen_op(g, OP_ONE_HOT, 2, (Value *[]){ix, gen_leaf(g, gen_type(g, t, 1, &two))});
  op_set_int(op, A_ONE_HOT_axis, rnd_in(g, -(int64_t)ix->type->rank - 1, ix->type->rank));
  op_set_int(op, A_ONE_HOT_depth, depth);
  return gen_done(g, op);
}

static bool make_lookup(Gen *g) {
  int64_t dims[MAX_RANK];
  Value *table = gen_need(g, ANY, 1, 2);
  uint32_t r = (uint32_t)rnd_in(g, 0, 2), n = 0;
  for (uint32_t i = 0; i < r; i++) dims[n++] = rnd_in(g, 1, 6);
  if (table->type->dims[0] == 0) return false;
  Value *ix = gen_ints(g, gen_type(g, rnd_p(g, 50) ? DT_U8 : index_type(g), n, dims), 0, table->type->dims[0] - 1);
  for (uint32_t i = 1; i < table->type->rank; i++) dims[n++] = table->type->dims[i];
  Op *op = gen_op(g, OP_LOOKUP, 2, (Value *[]){table, ix});
  gen_result(g, op, table->type->dtype, n, dims);
  return gen_done(g, op);
}

// ---- reductions and order

static bool make_reduce(Gen *g) {
  static const EnumValue ops[] = {REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX,   REDUCE_MIN,    REDUCE_PROD,
                                  REDUCE_L1,  REDUCE_L2,   REDUCE_SUMSQ, REDUCE_LOGSUM, REDUCE_LOGSUMEXP};
  Value *x = gen_need(g, ANY, 0, MAX_RANK);
  int64_t axes[MAX_RANK];
  uint32_t n = 0;
  for (uint32_t i = 0; i < x->type->rank; i++)
    if (rnd_p(g, 50)) axes[n++] = i;
  Op *op = gen_op(g, OP_REDUCE, 1, &x);
  op_set_int(op, A_REDUCE_op, ops[rnd(g) % 10]);
  op_set_ints(op, A_REDUCE_axes, n, axes);
  op_set_int(op, A_REDUCE_keepdims, rnd_in(g, 0, 1));
  return gen_done(g, op);
}

static bool make_argreduce(Gen *g) {
  Value *x = gen_need(g, "fhdilbu", 1, MAX_RANK);
  Op *op = gen_op(g, OP_ARGREDUCE, 1, &x);
  op_set_int(op, A_ARGREDUCE_op, rnd_p(g, 50) ? REDUCE_MAX : REDUCE_MIN);
  op_set_int(op, A_ARGREDUCE_axis, any_axis(g, x->type->rank));
  op_set_int(op, A_ARGREDUCE_keepdims, rnd_in(g, 0, 1));
  op_set_int(op, A_ARGREDUCE_last, rnd_in(g, 0, 1));
  return gen_done(g, op);
}

static bool make_topk(Gen *g) {
  Value *x = gen_need(g, "fhdilbu", 1, MAX_RANK);
  int64_t axis = any_axis(g, x->type->rank), n = x->type->dims[axis < 0 ? axis + x->type->rank : axis];
  Op *op = gen_op(g, OP_TOPK, 1, &x);
  op_set_int(op, A_TOPK_axis, axis);
  op_set_int(op, A_TOPK_k, rnd_in(g, n > 0 && rnd_p(g, 90) ? 1 : 0, n));
  op_set_int(op, A_TOPK_largest, rnd_in(g, 0, 1));
  op_set_int(op, A_TOPK_sorted, 1);
  return gen_done(g, op);
}

static bool make_cumsum(Gen *g) {
  Value *x = gen_need(g, "fhdil", 1, MAX_RANK);
  Op *op = gen_op(g, OP_CUMSUM, 1, &x);
  op_set_int(op, A_CUMSUM_axis, any_axis(g, x->type->rank));
  op_set_int(op, A_CUMSUM_exclusive, rnd_in(g, 0, 1));
  op_set_int(op, A_CUMSUM_reverse, rnd_in(g, 0, 1));
  return gen_done(g, op);
}

// ---- quantisation

static const EnumValue rounds[] = {ROUND_HALF_EVEN, ROUND_HALF_AWAY, ROUND_HALF_UP,
                                   ROUND_FLOOR,     ROUND_CEIL,      ROUND_TRUNC};

static Value *positive(Gen *g, DType t, uint32_t rank, const int64_t *dims) {
  Tensor s = tensor_new(g->arena, gen_type(g, t, rank, dims));
  for (int64_t i = 0; i < type_count(s.type); i++)
    elem_set_f(s.data, t, i, g->grid ? 0.0625 * (double)rnd_in(g, 1, 4) : rnd_f(g, 0.01, 0.3));
  return const_bytes(g->m, s.type, s.data, NULL);
}

// Dims of a scale: none, [1], or one per slice of `axis`; blocks when *block is set.
static uint32_t scale_dims(Gen *g, const Type *x, int64_t axis, int64_t *block, int64_t *dims) {
  *block = 0;
  if (x->rank == 0 || rnd_p(g, 40)) {
    dims[0] = 1;
    return (uint32_t)rnd_in(g, 0, 1);
  }
  if (rnd_p(g, 25) && x->dims[axis] > 1) {
    *block = rnd_in(g, 1, x->dims[axis]);
    memcpy(dims, x->dims, sizeof x->dims);
    dims[axis] = (x->dims[axis] + *block - 1) / *block;
    return x->rank;
  }
  dims[0] = x->dims[axis];
  return 1;
}

static bool make_quantize(Gen *g) {
  static const DType to[] = {DT_I8, DT_U8, DT_I16, DT_U16};
  Value *x = gen_need(g, "fh", 0, MAX_RANK), *in[3];
  int64_t axis = x->type->rank ? rnd_in(g, 0, x->type->rank - 1) : 0, block, dims[MAX_RANK];
  uint32_t r = scale_dims(g, x->type, axis, &block, dims), n = rnd_p(g, 70) ? 3 : 2;
  DType t = to[rnd(g) % 4];
  in[0] = x;
  in[1] = positive(g, x->type->dtype, r, dims);
  if (n == 3) in[2] = gen_leaf(g, gen_type(g, t, r, dims));
  Op *op = gen_op(g, OP_QUANTIZE, n, in);
  op_set_int(op, A_QUANTIZE_axis, axis);
  op_set_int(op, A_QUANTIZE_block, block);
  if (rnd_p(g, 30)) op_set_int(op, A_QUANTIZE_round, rounds[rnd(g) % 6]);
  if (rnd_p(g, 20)) op_set_int(op, A_QUANTIZE_order, ORDER_ZERO_THEN_ROUND);
  gen_result(g, op, t, x->type->rank, x->type->dims);
  return gen_done(g, op);
}

static bool make_dequantize(Gen *g) {
  Value *x = gen_need(g, "bui", 0, MAX_RANK), *in[3];
  int64_t axis = x->type->rank ? rnd_in(g, 0, x->type->rank - 1) : 0, block, dims[MAX_RANK];
  uint32_t r = scale_dims(g, x->type, axis, &block, dims), n = rnd_p(g, 70) ? 3 : 2;
  DType t = rnd_p(g, 80) ? DT_F32 : DT_F16;
  in[0] = x;
  in[1] = positive(g, t, r, dims);
  if (n == 3) in[2] = gen_leaf(g, gen_type(g, x->type->dtype, r, dims));
  Op *op = gen_op(g, OP_DEQUANTIZE, n, in);
  op_set_int(op, A_DEQUANTIZE_axis, axis);
  op_set_int(op, A_DEQUANTIZE_block, block);
  gen_result(g, op, t, x->type->rank, x->type->dims);
  return gen_done(g, op);
}

static bool make_requant(Gen *g) {
  Value *x = gen_need(g, "il", 1, MAX_RANK);
  int64_t c = x->type->dims[x->type->rank - 1];
  uint32_t r = rnd_p(g, 50);
  Value *in[3] = {x, positive(g, DT_F32, r, &c), gen_leaf(g, gen_type(g, DT_F32, r, &c))};
  Op *op = gen_op(g, OP_REQUANT, 3, in);
  if (rnd_p(g, 50)) op_set_int(op, A_REQUANT_round, rounds[rnd(g) % 6]);
  if (rnd_p(g, 30)) op_set_int(op, A_REQUANT_order, ORDER_ZERO_THEN_ROUND);
  gen_result(g, op, rnd_p(g, 50) ? DT_I8 : DT_U8, x->type->rank, x->type->dims);
  return gen_done(g, op);
}

static bool make_threshold(Gen *g) {
  Value *x = gen_need(g, "fil", 1, MAX_RANK), *in[3];
  int64_t c = x->type->dims[x->type->rank - 1], dims[2] = {rnd_p(g, 50) ? c : 1, rnd_in(g, 1, 5)};
  Tensor t = tensor_new(g->arena, gen_type(g, x->type->dtype, 2, dims));
  for (int64_t i = 0; i < type_count(t.type); i++) elem_set_i(t.data, x->type->dtype, i, i % dims[1] * 2 - 3);
  in[0] = x;
  in[1] = const_bytes(g->m, t.type, t.data, NULL);
  uint32_t n = rnd_p(g, 50) ? 3 : 2;
  if (n == 3) in[2] = gen_const(g, gen_type(g, DT_BOOL, 1, &c));
  Op *op = gen_op(g, OP_THRESHOLD, n, in);
  gen_result(g, op, rnd_p(g, 50) ? DT_U8 : DT_I8, x->type->rank, x->type->dims);
  return gen_done(g, op);
}

const Generator gen_basic[] = {
    {"eltwise", G_ELTWISE, make_eltwise},
    {"eltwise again", G_ELTWISE, make_eltwise},
    {"map", G_ELTWISE, make_map},
    {"reshape", G_SHAPE, make_reshape},
    {"bitcast", G_SHAPE, make_bitcast},
    {"transpose", G_SHAPE, make_transpose},
    {"expand", G_SHAPE, make_expand},
    {"tile", G_SHAPE, make_tile},
    {"concat", G_SHAPE, make_concat},
    {"slice", G_SHAPE, make_slice},
    {"pad", G_SHAPE, make_pad},
    {"trilu", G_SHAPE, make_trilu},
    {"gather", G_INDEX, make_gather},
    {"gather_elements", G_INDEX, make_gather_elements},
    {"gather_nd", G_INDEX, make_gather_nd},
    {"scatter_elements", G_INDEX, make_scatter_elements},
    {"scatter_nd", G_INDEX, make_scatter_nd},
    {"one_hot", G_INDEX, make_one_hot},
    {"lookup", G_INDEX | G_QUANT, make_lookup},
    {"reduce", G_REDUCE, make_reduce},
    {"argreduce", G_REDUCE | G_ORDER, make_argreduce},
    {"topk", G_ORDER, make_topk},
    {"cumsum", G_ORDER, make_cumsum},
    {"quantize", G_QUANT, make_quantize},
    {"dequantize", G_QUANT, make_dequantize},
    {"requant", G_QUANT, make_requant},
    {"threshold", G_QUANT, make_threshold},
    {NULL, 0, NULL},
};
