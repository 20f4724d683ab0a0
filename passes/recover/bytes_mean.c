// Means of windows of bytes: exact sums with one factor. See bytes.h.
//
//   %2 = dequantize %a, @s, @z    %3 = avgpool %2 {kernel = [2,2]}    %4 = quantize %3, @u
//   => %3 = conv %a, ones {group = C, x_zero = z} : i32    %4 = cast(round(%3 * m + c))
//
// The reference is (sum * scale / count) in f64, rounded to f32 and quantised: means fall on ties of the quantiser,
// which partial sums in f32 would turn either way.
#include <math.h>

#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/recover/bytes.h"
#include "passes/recover/quantised.h"
#include "passes/recover/requant_emit.h"

#define MEAN_TAPS 65536
#define ROUNDINGS 0x1p-22  // of three f32 operations, relative, with room

static bool reads_bytes(const Op *op) { return dtype_is_byte(op_in(op, 0)->type->dtype); }

typedef struct Mean {
  PassCtx *ctx;
  Op *op, *quant;
  Value *x;  // bytes
  int64_t kernel[2], count;
  double scale, out_scale;  // scale: of the sum, without the count
  int64_t zero, out_zero;
  bool zero_first;
} Mean;

// The byte of an exact sum.
static int64_t mean_level(const Mean *n, int64_t sum) {
  DType t = n->quant->out[0]->type->dtype;
  float v = (float)((double)sum * n->scale / (double)n->count);
  double q = (double)(v / (float)n->out_scale), z = (double)n->out_zero;
  q = n->zero_first ? nearbyint((double)((float)q + (float)z)) : nearbyint(q) + z;
  return (int64_t)fmin(fmax(q, (double)dtype_min(t)), (double)dtype_max(t));
}

// A window over the last one or two of three or four axes, all of it inside or padding counted.
static bool read_window(Mean *n) {
  const Type *x = op_in(n->op, 0)->type;
  uint32_t n_axes = x->rank - 2, count;
  if (!type_is_static(x) || x->rank < 3 || x->rank > 4) return false;
  if (n->op->kind == OP_REDUCE) {
    const int64_t *axes = op_ints(n->op, A_REDUCE_axes, &count);
    for (uint32_t i = 0; i < count; i++)
      if (axes[i] != 2 + (int64_t)i) return false;
    for (uint32_t i = 0; i < n_axes; i++) n->kernel[i] = x->dims[2 + i];
    if (count != n_axes) return false;
  } else {
    const int64_t *pads = op_ints(n->op, A_AVGPOOL_pads, &count);
    bool padded = false;
    for (uint32_t i = 0; i < count; i++) padded = padded || pads[i] != 0;
    if (padded && !op_bool(n->op, A_AVGPOOL_count_include_pad)) return false;
    if (op_bool(n->op, A_AVGPOOL_ceil_mode) || op_enum(n->op, A_AVGPOOL_layout) != LAYOUT_NCHW) return false;
    for (uint32_t i = 0; i < n_axes; i++) {
      n->kernel[i] = op_ints_at(n->op, A_AVGPOOL_kernel, i, 1);
      if (op_ints_at(n->op, A_AVGPOOL_dilations, i, 1) != 1) return false;
    }
  }
  n->count = n->kernel[0] * (n_axes > 1 ? n->kernel[1] : 1);
  return n->count > 0 && n->count <= MEAN_TAPS;
}

// Dequantised bytes, also as QLinear operators are taken apart: f32(i32(q) - zero) * scale.
static bool read_bytes(Mean *n, Value *v) {
  Module *m = n->ctx->m;
  Quantised d;
  if (quantised_of(m, v, &d)) {
    n->x = d.q;
    n->scale = quantised_scale(m, &d, 0);
    n->zero = quantised_zero(m, &d, 0);
    return d.axis < 0 && dtype_is_byte(d.q->type->dtype);
  }
  double zero = 0;
  const Op *mul = value_def(v, OP_MUL), *real = mul ? value_def(op_in(mul, 0), OP_CAST) : NULL;
  const Op *sub = real ? value_def(op_in(real, 0), OP_SUB) : NULL;
  const Op *cast = real ? value_def(sub ? op_in(sub, 0) : op_in(real, 0), OP_CAST) : NULL;
  if (cast == NULL || v->type->dtype != DT_F32 || cast->out[0]->type->dtype != DT_I32 || !reads_bytes(cast))
    return false;
  if (!value_is_splat(m, op_in(mul, 1), &n->scale) || (sub && !value_is_splat(m, op_in(sub, 1), &zero))) return false;
  n->x = op_in(cast, 0);
  n->zero = (int64_t)zero;
  return n->scale > 0 && type_same_shape(n->x->type, v->type);
}

static bool read_mean(Mean *n, Op *quant) {
  Module *m = n->ctx->m;
  Value *v = op_in(quant, 0);
  if (!quantize_is_plain(m, quant) || v->kind != VALUE_RESULT || value_sole_user(v) != quant) return false;
  n->quant = quant;
  n->op = v->op;
  bool mean = n->op->kind == OP_AVGPOOL || (n->op->kind == OP_REDUCE && op_enum(n->op, A_REDUCE_op) == REDUCE_MEAN);
  if (!mean || v->type->dtype != DT_F32 || !read_bytes(n, op_in(n->op, 0))) return false;
  const Value *zero = op_in(quant, 2);
  n->out_scale = const_f(m, op_in(quant, 1)->constant, 0);
  n->out_zero = zero ? const_i(m, zero->constant, 0) : 0;
  n->zero_first = op_enum(quant, A_QUANTIZE_order) == ORDER_ZERO_THEN_ROUND;
  return read_window(n);
}

// Boundaries of a function that rises, by halving.
static Boundaries mean_boundaries(const Mean *n, int64_t lo, int64_t hi) {
  Boundaries b = {.lo = lo, .hi = hi, .first = mean_level(n, lo)};
  int64_t levels = mean_level(n, hi) - b.first;
  b.at = NEW_ARRAY(n->ctx->arena, int64_t, levels + 1);
  for (int64_t from = lo; b.n < levels; b.n++) {
    int64_t to = hi;
    while (to - from > 1) {
      int64_t mid = from + (to - from) / 2;
      if (mean_level(n, mid) > b.first + b.n) {
        to = mid;
      } else {
        from = mid;
      }
    }
    bool at_start = mean_level(n, from) > b.first + b.n;
    b.at[b.n] = at_start ? from : to;
  }
  return b;
}

// The sums of the windows: a depthwise convolution with ones.
static Value *emit_window_sum(const Mean *n) {
  Op *at = n->op;
  Module *m = n->ctx->m;
  const Type *x = n->x->type, *y = at->out[0]->type;
  int64_t zero = n->zero, dims[MAX_RANK] = {x->dims[1], 1, n->kernel[0], n->kernel[1]}, out[MAX_RANK];
  const Type *w = type_tensor(m->types, DT_I8, x->rank, dims);
  Value *in[2] = {emit_unsigned(at, n->x, &zero), const_splat_int(m, w, 1)};
  Op *sum = op_new(at->func, at, OP_CONV, 2, in, at->loc);
  op_set_int(sum, A_CONV_group, x->dims[1]);
  op_set_int(sum, A_CONV_x_zero, zero);
  for (uint32_t i = 0; i < x->rank; i++) out[i] = at->kind == OP_REDUCE && i >= 2 ? 1 : 0;
  if (at->kind == OP_AVGPOOL) {
    uint32_t count;
    const int64_t *v = op_ints(at, A_AVGPOOL_strides, &count);
    if (count > 0) op_set_ints(sum, A_CONV_strides, count, v);
    v = op_ints(at, A_AVGPOOL_pads, &count);
    if (count > 0) op_set_ints(sum, A_CONV_pads, count, v);
  }
  for (uint32_t i = 0; i < x->rank; i++) out[i] = out[i] ? 1 : i < 2 ? x->dims[i] : y->dims[i];
  sum->out[0]->type = type_tensor(m->types, DT_I32, x->rank, out);
  if (y->rank == x->rank) return sum->out[0];
  return graph_emit(at, OP_RESHAPE, 1, &sum->out[0], type_with_dtype(m->types, y, DT_I32), at->loc);
}

// Is every sum next to a boundary further from a tie than the roundings of the bytes reach?
static bool is_clear(const Mean *n, const Boundaries *b) {
  for (int64_t k = 0; k < 2 * b->n; k++) {
    int64_t sum = b->at[k / 2] - k % 2;
    double v = (double)sum * n->scale / (double)n->count / n->out_scale + (n->zero_first ? (double)n->out_zero : 0);
    if (fabs(fabs(v - floor(v)) - 0.5) < ROUNDINGS * (1 + fabs(v))) return false;
  }
  return true;
}

static bool rewrite_mean(Mean *n) {
  Arena *arena = n->ctx->arena;
  Module *m = n->ctx->m;
  DType t = n->x->type->dtype, to = n->quant->out[0]->type->dtype;
  int64_t low = dtype_min(to), high = dtype_max(to);
  Boundaries b = mean_boundaries(n, n->count * (dtype_min(t) - n->zero), n->count * (dtype_max(t) - n->zero));
  double mul = n->scale / (double)n->count / n->out_scale, add = (double)n->out_zero;
  RequantProblem p = {.channels = 1, .b = &b, .low = &low, .high = &high, .mul = &mul, .add = &add};
  p.zero = n->out_zero;
  p.target = n->ctx->target;
  p.forms = 1u << REQUANT_F32 | 1u << REQUANT_SPLIT | 1u << REQUANT_WHOLE | 1u << REQUANT_F64;
  Requant r;
  if (!is_clear(n, &b) || !requant_find(&p, arena, &r)) return false;
  Value *sum = emit_window_sum(n);
  ChannelAxis one = {1, 0, sum->type->rank};
  Value *y = requant_emit(n->op, sum, NULL, &r, &one, to, arena);
  op_add_loc(y->op, n->op);
  op_add_loc(y->op, n->quant);
  y->name = n->quant->out[0]->name;
  note_layer(m, n->quant, NOTE_PROOF, "sums of %lld bytes fit %lld bits; mean by %s, %lld boundaries compared",
             (long long)n->count, (long long)width_of_range(b.lo, b.hi), requant_text(&r), (long long)b.n);
  value_replace(n->quant->out[0], y);
  op_unlink(n->quant);
  op_unlink(n->op);
  return true;
}

bool bytes_means(PassCtx *ctx, Func *f) {
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    Mean n = {.ctx = ctx, .kernel = {1, 1}};
    if (op->kind != OP_QUANTIZE || !read_mean(&n, op)) continue;
    ArenaMark mark = arena_mark(ctx->arena);
    changed |= rewrite_mean(&n);
    arena_reset(ctx->arena, mark);
  }
  return changed;
}
