// The precision a file declares for its contractions, read off the graph as it was imported and kept as a note.
//
//   conv(dequantize(u8 ...), dequantize(i4 constant))    weights i4, inputs u8
//   conv(sub(cast(u8 ...), 3), i32 constant)             the same of the integer operators, which widen first
//   conv(round(mul(clip(x, 0, 1), 3)) ..., constant)     weights f32 with 4 values a channel, inputs rounded to 4
//   levels
//
// Weights in plain floats count as low-bit when few values make up many elements: at most 256 of a tensor or 16 of
// an output channel. Nothing here changes the graph or what is emitted; the report sets it against what passes found.
#include <math.h>
#include <string.h>

#include "frontend/driver/report.h"
#include "ir/note.h"

#define TENSOR_VALUES 256
#define CHANNEL_VALUES 16
#define FEW 4         // elements per value, at least, before a tensor counts as made of few values
#define TRACE_OPS 40  // ops looked at from a contraction backwards

static bool is_recurrent(OpKind k) { return k == OP_LSTM || k == OP_GRU || k == OP_RNN; }

static uint32_t bits_for(double levels) { return levels < 2 ? 1 : (uint32_t)ceil(log2(levels)); }

// ---- weights

typedef struct Values {
  double at[TENSOR_VALUES];
  uint32_t n, most;
} Values;

static bool values_add(Values *v, double x) {
  uint32_t lo = 0, hi = v->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (v->at[mid] < x) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  if (lo < v->n && v->at[lo] == x) return true;
  if (v->n == v->most || isnan(x)) return false;
  memmove(v->at + lo + 1, v->at + lo, (v->n - lo) * sizeof *v->at);
  v->at[lo] = x;
  v->n++;
  return true;
}

static uint32_t bytes_count(const uint8_t *at, int64_t n, int64_t step, uint32_t most) {
  bool seen[256] = {0};
  uint32_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    count += !seen[at[i * step]];
    seen[at[i * step]] = true;
  }
  return count <= most ? count : 0;
}

// Distinct values of n elements from `first` on, `step` apart; 0 when there are more than `most`.
static uint32_t values_count(Module *m, Const *w, int64_t first, int64_t n, int64_t step, uint32_t most) {
  DType t = w->type->dtype;
  Values v = {.most = most};
  if (t == DT_I8 || t == DT_U8) return bytes_count((const uint8_t *)const_data(m, w) + first, n, step, most);
  for (int64_t i = 0; i < n; i++)
    if (!values_add(&v, const_f(m, w, first + i * step))) return 0;
  return v.n;
}

// How the elements of one output channel lie in the weights of a contraction.
typedef struct Channels {
  int64_t n, first_step, step, elements;
} Channels;

static bool channels_of(const Op *op, Channels *c) {
  const Type *w = op_in(op, 1)->type;
  int64_t n = type_count(w);
  if (n == 0 || w->rank < 2) return false;
  if (is_recurrent(op->kind)) {  // gate rows
    *c = (Channels){n / w->dims[w->rank - 1], w->dims[w->rank - 1], 1, w->dims[w->rank - 1]};
    return true;
  }
  bool inner = false;  // channels are the last axis
  if (op->kind == OP_CONV) {
    inner = op_enum(op, A_CONV_layout) == LAYOUT_NHWC;
  } else if (op->kind == OP_MATMUL && w->rank == 2) {
    inner = !op_bool(op, A_MATMUL_trans_b);
  } else {
    return false;
  }
  c->n = inner ? w->dims[w->rank - 1] : w->dims[0];
  c->elements = n / c->n;
  c->first_step = inner ? 1 : c->elements;
  c->step = inner ? c->n : 1;
  return true;
}

// Largest number of values in one channel; 0 when they are not few.
static uint32_t channel_values(Module *m, const Op *op, Const *w) {
  Channels c;
  uint32_t most = 0;
  if (!channels_of(op, &c)) return 0;
  for (int64_t k = 0; k < c.n; k++) {
    uint32_t n = values_count(m, w, k * c.first_step, c.elements, c.step, CHANNEL_VALUES);
    if (n == 0) return 0;
    if (n > most) most = n;
  }
  return c.elements >= (int64_t)most * FEW ? most : 0;
}

typedef struct Precision {
  uint32_t bits;
  const char *text;
} Precision;

// Bits that hold the whole numbers of a constant of a wide integer type, less a zero point.
static uint32_t whole_bits(Module *m, Const *w) {
  double lo = INFINITY, hi = -INFINITY;
  for (int64_t i = 0, n = type_count(w->type); i < n; i++) {
    double v = const_f(m, w, i);
    lo = fmin(lo, v);
    hi = fmax(hi, v);
  }
  return bits_for(hi - lo + 1);
}

static Precision weights_precision(Module *m, const Op *op, uint32_t slot) {
  Value *w = op_in(op, slot);
  if (w->kind == VALUE_RESULT && w->op->kind == OP_DEQUANTIZE) w = op_in(w->op, 0);
  const DTypeInfo *t = dtype_info(w->type->dtype);
  if (!value_is_const(w)) return (Precision){t->bits, arena_printf(m->arena, "%s, not constant", t->name)};
  int64_t n = type_count(w->type);
  uint32_t all = values_count(m, w->constant, 0, n, 1, TENSOR_VALUES);
  if (n < (int64_t)all * FEW) all = 0;
  uint32_t one = slot == 1 || is_recurrent(op->kind) ? channel_values(m, op, w->constant) : 0;
  if (one && (!all || one < all))
    return (Precision){bits_for(one), arena_printf(m->arena, "%s, %u values per channel", t->name, one)};
  if (dtype_is_int(w->type->dtype) && t->bits > 16) {
    uint32_t bits = whole_bits(m, w->constant);
    if (bits < t->bits) return (Precision){bits, arena_printf(m->arena, "integers of %u bits", bits)};
  }
  if (all && bits_for(all) < t->bits)
    return (Precision){bits_for(all), arena_printf(m->arena, "%s, %u values", t->name, all)};
  return (Precision){t->bits, t->name};
}

// ---- inputs

// The number of a constant that is the same everywhere, or of its first element.
static bool number_of(Module *m, const Value *v, double *x) {
  if (!v || !value_is_const(v) || type_count(v->type) == 0) return false;
  *x = const_f(m, v->constant, 0);
  return true;
}

static uint32_t choices(const Op *op) {
  uint32_t n = 1;
  for (uint32_t i = 0; op && op->kind == OP_SELECT && i < TRACE_OPS; i++, n++) {
    const Value *next = value_is_const(op_in(op, 1)) ? op_in(op, 2) : op_in(op, 1);
    if (value_is_const(next)) return n + 1;
    op = next->kind == VALUE_RESULT ? next->op : NULL;
  }
  return 0;
}

// Levels of a rounding: the limits around it, in its own units. 0 when there are none.
static double rounded_levels(Module *m, const Op *op, double lo, double hi) {
  double unit = 1, k;
  const Value *v = op_in(op, 0);
  for (uint32_t i = 0; i < TRACE_OPS && !(lo > -INFINITY && hi < INFINITY) && v->kind == VALUE_RESULT; i++) {
    const Op *by = v->op;
    if (by->kind == OP_CLIP && number_of(m, op_in(by, 1), &lo) && number_of(m, op_in(by, 2), &hi))
      return (hi - lo) * unit + 1;
    if (by->kind == OP_MUL && number_of(m, op_in(by, 1), &k)) unit *= k;
    if (by->kind == OP_DIV && number_of(m, op_in(by, 1), &k)) unit /= k;
    if (by->kind != OP_MUL && by->kind != OP_DIV && by->kind != OP_ADD) break;
    v = op_in(by, 0);
  }
  return hi < INFINITY && lo > -INFINITY ? hi - lo + 1 : 0;
}

static Precision levels_precision(Module *m, double levels, const char *how) {
  if (!(levels >= 2 && levels <= 65536)) return (Precision){32, arena_printf(m->arena, "%s", how)};
  return (Precision){bits_for(levels), arena_printf(m->arena, "%s to %.0f levels", how, levels)};
}

// The narrow integers that a wide one is made of, less a zero point; the value itself where it is none.
static const Value *narrow_of(const Value *x) {
  const Value *v = x;
  if (v->kind == VALUE_RESULT && v->op->kind == OP_SUB && v->type->dtype == DT_I32) v = op_in(v->op, 0);
  if (v->kind != VALUE_RESULT || v->op->kind != OP_CAST) return x;
  DType from = op_in(v->op, 0)->type->dtype;
  return dtype_is_int(from) && dtype_info(from)->bits < 32 ? op_in(v->op, 0) : x;
}

static Precision input_precision(Module *m, const Value *x) {
  double lo = -INFINITY, hi = INFINITY;  // limits after a rounding, in its units
  if (x->type->dtype == DT_I32) x = narrow_of(x);
  for (uint32_t i = 0; i < TRACE_OPS; i++) {
    const DTypeInfo *t = dtype_info(x->type->dtype);
    if (!dtype_is_float(x->type->dtype) || x->kind != VALUE_RESULT) return (Precision){t->bits, t->name};
    const Op *op = x->op;
    switch (op->kind) {
      case OP_ROUND:
      case OP_FLOOR:
      case OP_CEIL: return levels_precision(m, rounded_levels(m, op, lo, hi), "rounded");
      case OP_SIGN: return (Precision){2, "sign"};
      case OP_SELECT: {
        uint32_t n = choices(op);
        return n ? levels_precision(m, n, "chosen") : (Precision){t->bits, t->name};
      }
      case OP_DEQUANTIZE:
      case OP_CAST:
      case OP_RESHAPE:
      case OP_TRANSPOSE:
      case OP_PAD:
      case OP_SLICE:
      case OP_EXPAND:
      case OP_CONCAT:
      case OP_RESIZE:
      case OP_MAXPOOL: break;
      case OP_CLIP:
        if (!number_of(m, op_in(op, 1), &lo) || !number_of(m, op_in(op, 2), &hi)) return (Precision){t->bits, t->name};
        break;
      case OP_MUL:
      case OP_DIV:
      case OP_ADD:
      case OP_SUB:
        if (!value_is_const(op_in(op, 1))) return (Precision){t->bits, t->name};
        break;
      default: return (Precision){t->bits, t->name};
    }
    x = op_in(op, 0);
  }
  return (Precision){32, "f32"};
}

// ---- layers

bool op_is_contraction(OpKind k) { return k == OP_CONV || k == OP_MATMUL || k == OP_CONV_TRANSPOSE || is_recurrent(k); }

static void declare(Session *s, const Op *op) {
  Precision w = weights_precision(s->m, op, 1), x = input_precision(s->m, op_in(op, 0));
  note_precision(s->m, op, NOTE_DECLARED, w.bits, x.bits, "weights %s; inputs %s", w.text, x.text);
  for (uint32_t slot = 1; slot < (is_recurrent(op->kind) ? 3u : 2u); slot++) {
    const Value *v = op_in(op, slot);
    if (v->kind == VALUE_RESULT && v->op->kind == OP_DEQUANTIZE) v = op_in(v->op, 0);
    if (!value_is_const(v)) continue;
    Precision p = slot == 1 ? w : weights_precision(s->m, op, slot);
    s->params.weights += type_count(v->type);
    s->params.weight_bits += (double)type_count(v->type) * p.bits;
  }
}

void declare_layers(Session *s) {
  const Func *f = s->m->funcs.at[0];
  bool *seen = NEW_ARRAY(s->arena, bool, s->m->n_consts + 1);
  s->params.elements = s->params.weights = 0;
  s->params.weight_bits = 0;
  for (const Op *op = f->first; op; op = op->next) {
    for (uint32_t i = 0; i < op->n_in; i++) {
      const Value *v = op_in(op, i);
      if (!v || !value_is_const(v) || seen[v->constant->id] || !type_is_static(v->type)) continue;
      seen[v->constant->id] = true;
      s->params.elements += type_count(v->type);
    }
    if (op_is_contraction(op->kind)) declare(s, op);
  }
}
