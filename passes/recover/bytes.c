// Quantised functions of one or two bytes, tabulated and replaced by arithmetic that gives the whole table.
//
//   %2 = dequantize %a, @s, @z    %3 = dequantize %b, @t    %4 = add %2, %3    %5 = relu %4    %6 = quantize %5, @u
//   => %6 = cast(round(%a * m + (%b * o + c)))        equal for all 65,536 pairs of bytes
//
// The table is what the interpreter gives. Where no arithmetic gives the table, the ops stay.
#include "passes/recover/bytes.h"

#include <math.h>

#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/quantised.h"
#include "passes/recover/requant_emit.h"

#define CHAIN_OPS 16
#define BYTES 256

// ---- chains

// a * q_a + b * q_b + c, limits left out.
typedef struct Linear {
  double by[2], c;
} Linear;

typedef struct Chain {
  PassCtx *ctx;
  Module *m;
  Op *quant;
  Value *in[2];  // bytes
  uint32_t n_in;
  Op *op[CHAIN_OPS];  // from the quantize upwards: users before what they use, but for those that read bytes
  uint32_t n;
} Chain;

static bool chain_has(const Chain *c, const Op *op) {
  for (uint32_t i = 0; i < c->n; i++)
    if (c->op[i] == op) return true;
  return false;
}

static bool reads_bytes(const Op *op) { return dtype_is_byte(op_in(op, 0)->type->dtype); }

static bool add_operand(Chain *c, Value *q, const Type *shape) {
  for (uint32_t i = 0; i < c->n_in; i++)
    if (c->in[i] == q) return true;
  if (c->n_in == 2 || value_is_const(q) || !type_same_shape(q->type, shape)) return false;
  c->in[c->n_in++] = q;
  return true;
}

// Takes in the op that makes v: element-wise from numbers and from what is taken in after it.
static bool add_value(Chain *c, Value *v, const Type *shape) {
  double all;
  Quantised d;
  if (value_is_splat(c->m, v, &all)) return true;
  if (v->kind != VALUE_RESULT || !type_same_shape(v->type, shape) || !dtype_is_float(v->type->dtype)) return false;
  if (chain_has(c, v->op)) return true;
  if (c->n == CHAIN_OPS || v->op->n_in > 3) return false;
  if (v->op->kind == OP_DEQUANTIZE || (v->op->kind == OP_CAST && reads_bytes(v->op))) {
    if (v->op->kind == OP_DEQUANTIZE && (!quantised_of(c->m, v, &d) || d.axis >= 0 || !dtype_is_byte(d.q->type->dtype)))
      return false;
    if (!add_operand(c, op_in(v->op, 0), shape)) return false;
  } else if (!(op_info(v->op->kind)->traits & TRAIT_ELTWISE) || value_sole_user(v) == NULL) {
    return false;
  }
  c->op[c->n++] = v->op;
  return true;
}

static bool read_chain(Chain *c) {
  const Type *shape = c->quant->out[0]->type;
  if (!add_value(c, op_in(c->quant, 0), shape)) return false;
  for (uint32_t i = 0; i < c->n; i++) {
    if (reads_bytes(c->op[i])) continue;
    for (uint32_t k = 0; k < c->op[i]->n_in; k++)
      if (op_in(c->op[i], k) == NULL || !add_value(c, op_in(c->op[i], k), shape)) return false;
  }
  return c->n_in > 0;
}

// ---- its factors, as the network states them

typedef struct Known {
  const Value *v[CHAIN_OPS];
  Linear l[CHAIN_OPS];
  uint32_t n;
} Known;

static void linear_of(const Chain *c, const Known *known, const Value *v, Linear *out) {
  *out = (Linear){.c = 0};
  if (value_is_splat(c->m, v, &out->c)) return;
  for (uint32_t i = 0; i < known->n; i++)
    if (known->v[i] == v) *out = known->l[i];
}

static bool is_number(const Linear *l) { return l->by[0] == 0 && l->by[1] == 0; }

static bool linear_step(const Chain *c, const Op *op, const Linear *x, const Linear *y, Linear *out) {
  double sign = op->kind == OP_SUB ? -1 : 1;
  Quantised d;
  switch (op->kind) {
    case OP_DEQUANTIZE: {
      if (!quantised_of(c->m, op->out[0], &d)) return false;
      double scale = quantised_scale(c->m, &d, 0);
      *out = (Linear){.c = -scale * (double)quantised_zero(c->m, &d, 0)};
      out->by[c->in[0] == d.q ? 0 : 1] = scale;
      return true;
    }
    case OP_CAST:
      *out = *x;
      if (reads_bytes(op)) out->by[c->in[0] == op_in(op, 0) ? 0 : 1] = 1;
      return true;
    case OP_ADD:
    case OP_SUB:
      *out = (Linear){{x->by[0] + sign * y->by[0], x->by[1] + sign * y->by[1]}, x->c + sign * y->c};
      return true;
    case OP_MUL:
    case OP_DIV: {
      bool first = is_number(y);
      if (!first && (op->kind == OP_DIV || !is_number(x))) return false;
      double by = op->kind == OP_DIV ? 1 / y->c : first ? y->c : x->c;
      const Linear *l = first ? x : y;
      *out = (Linear){{l->by[0] * by, l->by[1] * by}, l->c * by};
      return isfinite(by);
    }
    case OP_MIN:
    case OP_MAX: *out = is_number(y) ? *x : *y; return is_number(x) || is_number(y);
    case OP_RELU:
    case OP_CLIP: *out = *x; return true;
    default: return false;
  }
}

// Op i of n in an order in which operands come first.
static const Op *op_in_order(const Chain *c, uint32_t i) {
  uint32_t leaves = 0;
  for (uint32_t k = 0; k < c->n; k++)
    if (reads_bytes(c->op[k]) && leaves++ == i) return c->op[k];
  for (uint32_t k = c->n; k-- > 0;)
    if (!reads_bytes(c->op[k]) && leaves++ == i) return c->op[k];
  return NULL;
}

static bool read_factors(const Chain *c, Linear *out) {
  Known known = {.n = 0};
  for (uint32_t i = 0; i < c->n; i++) {
    const Op *op = op_in_order(c, i);
    Linear x, y = {.c = 0};
    linear_of(c, &known, op_in(op, 0), &x);
    if (op->n_in > 1 && op->kind != OP_DEQUANTIZE) linear_of(c, &known, op_in(op, 1), &y);
    if (!linear_step(c, op, &x, &y, out)) return false;
    known.v[known.n] = op->out[0];
    known.l[known.n++] = *out;
  }
  double scale = const_f(c->m, op_in(c->quant, 1)->constant, 0);
  const Value *zero = op_in(c->quant, 2);
  *out = (Linear){{out->by[0] / scale, out->by[1] / scale}, out->c / scale};
  if (zero != NULL) out->c += (double)const_i(c->m, zero->constant, 0);
  return true;
}

// ---- its table

// The chain and the quantize on given bytes, as a function of tensors of one axis.
static Func *table_func(const Chain *c, const Type *const *args) {
  Func *f = func_new(c->m, "table", c->n_in, args);
  const Value *from[CHAIN_OPS + 2];
  Value *to[CHAIN_OPS + 2];
  uint32_t n = 0;
  for (; n < c->n_in; n++) {
    from[n] = c->in[n];
    to[n] = f->args[n];
  }
  for (uint32_t i = 0; i <= c->n; i++) {
    const Op *op = i < c->n ? op_in_order(c, i) : c->quant;
    Value *in[3] = {NULL, NULL, NULL};
    for (uint32_t k = 0; k < op->n_in; k++) {
      double all;
      Value *v = op_in(op, k);
      const Type *one = v ? type_scalar(c->m->types, v->type->dtype) : NULL;
      bool number = v != NULL && dtype_is_float(v->type->dtype) && value_is_splat(c->m, v, &all);
      in[k] = number ? const_splat(c->m, one, all) : v;
      for (uint32_t j = 0; j < n; j++)
        if (from[j] == v) in[k] = to[j];
    }
    Op *copy = op_new(f, NULL, op->kind, op->n_in, in, op->loc);
    op_copy_attrs(copy, op);
    copy->out[0]->type = type_with_dtype(c->m->types, args[0], op->out[0]->type->dtype);
    from[n] = op->out[0];
    to[n++] = copy->out[0];
  }
  func_set_results(f, 1, &to[n - 1]);
  return f;
}

// table[j * BYTES + i]: of the i-th byte of the first operand and the j-th of the second one.
static int64_t *tabulate(const Chain *c) {
  Arena *arena = c->ctx->arena;
  int64_t n = c->n_in == 2 ? BYTES * BYTES : BYTES, *table = NEW_ARRAY(arena, int64_t, n);
  const Type *types[2];
  Tensor args[2], result;
  for (uint32_t k = 0; k < c->n_in; k++) {
    DType t = c->in[k]->type->dtype;
    types[k] = type_tensor(c->m->types, t, 1, &n);
    args[k] = tensor_new(arena, types[k]);
    for (int64_t i = 0; i < n; i++) elem_set_i(args[k].data, t, i, dtype_min(t) + (k ? i / BYTES : i % BYTES));
  }
  Func *f = table_func(c, types);
  bool ok = eval_func(f, args, &result, arena, NULL, NULL);
  graph_drop_scratch(f);
  for (int64_t i = 0; ok && i < n; i++) table[i] = elem_get_i(result.data, result.type->dtype, i);
  return ok ? table : NULL;
}

// Boundaries of a row of levels that only rises or only falls.
static bool row_boundaries(const int64_t *row, int64_t n, int64_t lo, Arena *arena, Boundaries *b) {
  *b = (Boundaries){.lo = lo, .hi = lo + n - 1, .first = row[0], .falls = row[n - 1] < row[0]};
  int64_t sign = b->falls ? -1 : 1, total = sign * (row[n - 1] - row[0]);
  b->at = NEW_ARRAY(arena, int64_t, total + 1);
  for (int64_t i = 1; i < n; i++) {
    int64_t step = sign * (row[i] - row[i - 1]);
    if (step < 0) return false;
    while (step-- > 0) b->at[b->n++] = lo + i;
  }
  return true;
}

static bool rewrite_chain(Chain *c, const int64_t *table, const Linear *l) {
  Arena *arena = c->ctx->arena;
  DType to = c->quant->out[0]->type->dtype;
  int64_t low = dtype_min(to), high = dtype_max(to), rows = c->n_in == 2 ? BYTES : 1, zero = 0;
  Boundaries *b = NEW_ARRAY(arena, Boundaries, rows);
  for (int64_t j = 0; j < rows; j++)
    if (!row_boundaries(&table[j * BYTES], BYTES, dtype_min(c->in[0]->type->dtype), arena, &b[j])) return false;
  for (int64_t j = 0; j < rows; j++)
    if (b[j].n > 0 && b[j].falls != (l->by[0] < 0)) return false;
  if (op_in(c->quant, 2) != NULL) zero = const_i(c->m, op_in(c->quant, 2)->constant, 0);
  RequantProblem p = {.channels = 1, .b = b, .low = &low, .high = &high, .mul = &l->by[0], .add = &l->c, .zero = zero};
  p.target = c->ctx->target;
  p.forms = 1u << REQUANT_F32 | 1u << REQUANT_F64;
  if (c->n_in == 2) {
    p.n_other = BYTES;
    p.other_lo = dtype_min(c->in[1]->type->dtype);
    p.other_mul = &l->by[1];
  }
  Requant r;
  if (!requant_find(&p, arena, &r)) return false;
  ChannelAxis one = {1, 0, c->quant->out[0]->type->rank};
  Value *y = requant_emit(c->quant, c->in[0], c->n_in == 2 ? c->in[1] : NULL, &r, &one, to, arena);
  for (uint32_t i = 0; i < c->n; i++) op_add_loc(y->op, c->op[i]);
  op_add_loc(y->op, c->quant);
  y->name = c->quant->out[0]->name;
  note_layer(c->m, c->quant, NOTE_PROOF, "bytes by %s, equal to the reference for all %lld inputs", requant_text(&r),
             (long long)(rows * BYTES));
  value_replace(c->quant->out[0], y);
  op_unlink(c->quant);
  return true;
}

bool bytes_chains(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (!quantize_is_plain(ctx->m, op)) continue;
    ArenaMark mark = arena_mark(ctx->arena);
    Chain c = {.ctx = ctx, .m = ctx->m, .quant = op};
    Linear l;
    const int64_t *table = read_chain(&c) && read_factors(&c, &l) ? tabulate(&c) : NULL;
    if (table != NULL) changed |= rewrite_chain(&c, table, &l);
    arena_reset(ctx->arena, mark);
  }
  return changed;
}
