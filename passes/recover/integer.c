// Pass integer: contractions of dequantised 8-bit values become integer contractions with one requantisation.
//
//   %4 = dequantize %3, @s3, @z3 : f32[1,16,14,14]          %3: u8
//   %5 = dequantize @w, @sw {axis = 0} : f32[32,16,3,3]     @w: i8
//   %6 = conv %4, %5, @b {pads = [1,1,1,1]} : f32[1,32,14,14]
//   %7 = relu %6
//   %8 = quantize %7, @s8, @z8 : u8[1,32,14,14]
//   => %6 = conv %3, @w {pads = [1,1,1,1], x_zero = 128} : i32[1,32,14,14]
//      %8 = cast(min(max(round(%6 * @m + @a) + z8, lo), hi))
//
// The sum is exact: its range is computed from the weights, a layer whose range passes 31 bits is left alone. The
// requantisation equals the reference (tail.h) at every sum of that range, in f32 or f64 arithmetic; where no factors
// do, the reference itself is emitted. A sum that is not quantised again is scaled to float. Inputs of 16 bits are two
// bytes each, x = 256 h + l: two such sums, put together and scaled in f64, which is exact. Before, dequantize is
// moved below data movement; integer operators on widened bytes read the bytes (narrow.c); after, the quantize and
// dequantize ops that are left become element-wise code. Every layer that stays float leaves a note with
// the reason.
#include <math.h>
#include <stdlib.h>

#include "ir/note.h"
#include "passes/contraction.h"
#include "passes/graph_util.h"
#include "passes/recover/bytes.h"
#include "passes/recover/quantised.h"
#include "passes/recover/requant_emit.h"
#include "passes/recover/tail.h"
#include "passes/recover/whole.h"

typedef struct Layer {
  PassCtx *ctx;
  Module *m;
  Op *op;
  Quantised x, w, b;
  bool has_b;  // bias is dequantised
  bool pair;   // w is an activation too: all channels are one
  WeightChannels of;
  const Type *w_type;
  int64_t *w_values;
  WholeWeights whole;  // the same
  Op *links[TAIL_LINKS];
  Op *quant;  // NULL: the sum becomes float
  Tail tail;
} Layer;

static bool stays(Layer *l, const char *why) {
  note_layer(l->m, l->op, NOTE_FLOAT, "%s", why);
  return false;
}

// ---- operands

static bool read_geometry(Layer *l) {
  if (l->op->kind == OP_MATMUL && (op_in(l->op, 1)->type->rank != 2 || op_in(l->op, 0)->type->rank < 2)) return false;
  return weight_channels(l->op, &l->of);
}

// What stands for channel c among the scales of the weights: groups of a transposed convolution share theirs.
static int64_t w_scale_at(const Layer *l, int64_t c) { return c % l->of.per; }

static void read_scales(Layer *l, double *scale) {
  for (int64_t c = 0; c < l->of.channels; c++)
    scale[c] = quantised_scale(l->m, &l->x, 0) * quantised_scale(l->m, &l->w, w_scale_at(l, c));
}

static bool read_weights(Layer *l) {
  Module *m = l->m;
  if (!quantised_of(m, op_in(l->op, 1), &l->w) || !value_is_const(l->w.q)) return stays(l, "weights not quantised");
  if (l->w.axis >= 0 && l->w.axis != weight_channel_axis(l->op))
    return stays(l, "weight scales do not belong to output channels");
  l->w_type = l->w.q->type;
  int64_t n = type_count(l->w_type);
  l->w_values = NEW_ARRAY(l->ctx->arena, int64_t, n);
  for (int64_t i = 0; i < n; i++) {
    l->w_values[i] = const_i(m, l->w.q->constant, i) - quantised_zero(m, &l->w, i / l->of.inner % l->of.per);
  }
  l->whole = (WholeWeights){l->w_type, l->w_values, l->of, l->w.q->constant->name};
  return whole_weights_fit(l->op, &l->whole) || stays(l, "weights less their zero point pass 9 bits");
}

// Range of the sums of every channel: padding adds nothing, which lies inside.
static bool read_range(Layer *l, int64_t *lo, int64_t *hi) {
  DType t = l->x.q->type->dtype;
  int64_t zero = quantised_zero(l->m, &l->x, 0), least = dtype_min(t) - zero, most = dtype_max(t) - zero;
  for (int64_t c = 0; c < l->of.channels; c++) lo[c] = hi[c] = 0;
  for (int64_t i = 0, n = type_count(l->w_type); i < n; i++) {
    int64_t v = l->w_values[i], c = weight_channel(&l->of, i);
    lo[c] += v > 0 ? v * least : v * most;
    hi[c] += v > 0 ? v * most : v * least;
  }
  for (int64_t c = 0; c < l->of.channels; c++) {
    if (lo[c] < -(INT64_C(1) << 30) || hi[c] > (INT64_C(1) << 30)) return stays(l, "sums pass 31 bits");
  }
  return true;
}

// A constant that differs only along the channel axis of the result: one number or one per channel.
static bool channel_values(Layer *l, const Value *v, const double **out, bool *per_channel) {
  Module *m = l->m;
  uint32_t rank = l->op->out[0]->type->rank;
  if (v == NULL || !value_is_const(v) || v->type->rank > rank || !dtype_is_float(v->type->dtype)) return false;
  int64_t n = type_count(v->type), at = (int64_t)l->of.axis - (int64_t)(rank - v->type->rank);
  if (n != 1 && (n != l->of.channels || at < 0 || v->type->dims[at] != n)) return false;
  double *f = NEW_ARRAY(l->ctx->arena, double, n > 1 ? n : 1);
  for (int64_t i = 0; i < n; i++) f[i] = const_f(m, v->constant, i);
  *out = f;
  *per_channel = n > 1;
  return n > 0;
}

static int64_t whole_units(const Layer *l, int64_t c, double bias) {
  return (int64_t)fmin(fmax(rint(bias / l->tail.scale[c]), -0x1p40), 0x1p40);
}

// The f32 bias of each channel, and the nearest whole number of units of the sum: the number itself where it is
// quantised with the product of the other two scales.
static bool read_bias(Layer *l) {
  Module *m = l->m;
  const Value *b = op_in(l->op, 2);
  double *bias = NEW_ARRAY(l->ctx->arena, double, l->of.channels);
  int64_t *shift = NEW_ARRAY(l->ctx->arena, int64_t, l->of.channels);
  if (b == NULL) return true;
  l->has_b = quantised_of(m, b, &l->b) && value_is_const(l->b.q);
  const Value *data = l->has_b ? l->b.q : b;
  if (!value_is_const(data)) return stays(l, "bias not constant");
  int64_t n = type_count(data->type);
  if ((n != 1 && n != l->of.channels) || (n > 1 && data->type->dims[data->type->rank - 1] != n))
    return stays(l, "bias not per channel");
  bool small = true;
  for (int64_t c = 0; c < l->of.channels; c++) {
    int64_t i = n == 1 ? 0 : c;
    if (l->has_b) {
      shift[c] = const_i(m, data->constant, i) - quantised_zero(m, &l->b, i);
      double scale = quantised_scale(m, &l->b, i);
      bias[c] = (double)(float)((double)shift[c] * scale);
      if (fabs(scale - l->tail.scale[c]) > l->tail.scale[c] * 0x1p-20) shift[c] = whole_units(l, c, bias[c]);
    } else {
      bias[c] = const_f(m, data->constant, i);
      shift[c] = whole_units(l, c, bias[c]);
    }
    small = small && llabs(shift[c]) < INT64_C(1) << 29;
  }
  l->tail.bias = bias;
  l->tail.shift = small ? shift : NULL;
  return true;
}

// ---- what follows

static Op *sole_user(const Value *v) { return value_sole_user(v); }

// Adds a link for an element-wise op on `v` when it is monotone and increasing.
static bool read_link(Layer *l, Op *op, const Value *v) {
  TailLink *link = &l->tail.link[l->tail.n_links];
  if (l->tail.n_links == TAIL_LINKS || op->out[0]->type != v->type) return false;
  *link = (TailLink){.op = op_info(op->kind)->kop};
  bool per_channel = false;
  const double *by = NULL, *hi = NULL;
  switch (op->kind) {
    case OP_RELU: break;
    case OP_CLIP: {
      if (op_in(op, 0) != v || !channel_values(l, op_in(op, 1), &by, &per_channel) || per_channel) return false;
      if (!channel_values(l, op_in(op, 2), &hi, &per_channel) || per_channel || by[0] > hi[0]) return false;
      double *both = NEW_ARRAY(l->ctx->arena, double, 2);
      both[0] = by[0];
      both[1] = hi[0];
      by = both;
      link->n_by = 2;
      break;
    }
    case OP_ADD:
    case OP_MUL:
    case OP_MIN:
    case OP_MAX: {
      uint32_t other = op_in(op, 0) == v ? 1 : 0;
      if (op_in(op, other) == v || !channel_values(l, op_in(op, other), &by, &per_channel)) return false;
      link->n_by = 1;
      break;
    }
    case OP_SUB:
    case OP_DIV:
      if (op_in(op, 0) != v || !channel_values(l, op_in(op, 1), &by, &per_channel)) return false;
      link->n_by = 1;
      break;
    default: return false;
  }
  for (int64_t c = 0; (op->kind == OP_MUL || op->kind == OP_DIV) && c < (per_channel ? l->of.channels : 1); c++)
    if (!(by[c] > 0)) return false;
  link->by = by;
  link->per_channel = per_channel;
  l->links[l->tail.n_links++] = op;
  return true;
}

static bool read_quant(Layer *l, Op *op) {
  Module *m = l->m;
  const Value *scale = op_in(op, 1), *zero = op_in(op, 2);
  if (op->kind != OP_QUANTIZE || !dtype_is_byte(op->out[0]->type->dtype) || op_int(op, A_QUANTIZE_block) != 0)
    return false;
  if (!value_is_const(scale) || type_count(scale->type) != 1 || scale->type->dtype != DT_F32) return false;
  if (zero != NULL && (!value_is_const(zero) || type_count(zero->type) != 1)) return false;
  if (op_enum(op, A_QUANTIZE_round) != ROUND_HALF_EVEN) return false;
  l->tail.out_scale = const_f(m, scale->constant, 0);
  l->tail.out_zero = zero ? const_i(m, zero->constant, 0) : 0;
  l->tail.out_min = dtype_min(op->out[0]->type->dtype);
  l->tail.out_max = dtype_max(op->out[0]->type->dtype);
  l->tail.zero_first = op_enum(op, A_QUANTIZE_order) == ORDER_ZERO_THEN_ROUND;
  l->quant = op;
  return l->tail.out_scale > 0x1p-100 && l->tail.out_scale < 0x1p100;
}

// Follows the result through single users to a quantize; without one there are no links.
static void read_tail(Layer *l) {
  const Value *v = l->op->out[0];
  for (Op *user = sole_user(v); user != NULL; user = sole_user(v)) {
    if (read_quant(l, user)) return;
    if (!read_link(l, user, v)) break;
    v = user->out[0];
  }
  l->tail.n_links = 0;
  l->quant = NULL;
}

// ---- rewriting

// The integer contraction before the float one; `shift` as its bias.
static Value *emit_sum(Layer *l, const int64_t *shift) {
  Module *m = l->m;
  Op *op = l->op;
  if (l->pair) return emit_byte_product(op, l->x.q, quantised_zero(m, &l->x, 0), l->w.q, quantised_zero(m, &l->w, 0));
  int64_t zero = quantised_zero(m, &l->x, 0);
  Value *x = emit_unsigned(op, l->x.q, &zero), *bias = NULL;
  if (shift != NULL) {
    double *v = NEW_ARRAY(l->ctx->arena, double, l->of.channels);
    for (int64_t c = 0; c < l->of.channels; c++) v[c] = (double)shift[c];
    bias = const_of_doubles(m, type_tensor(m->types, DT_I32, 1, &l->of.channels), v, NULL);
  }
  return whole_sum(l->ctx, op, x, zero, &l->whole, bias);
}

static Value *per_channel(Layer *l, DType t, const double *v) {
  return channel_const(l->m, t, l->of.channels, l->of.axis, l->op->out[0]->type->rank, v);
}

// sum * scale + bias as f32: in f64 as the reference does, or in f32 where the result is not quantised.
static Value *emit_scaled(Layer *l, Value *sum, DType t) {
  Op *at = l->op;
  if (sum->type->dtype != t) sum = emit_cast_to(at, sum, t, at);
  Value *y = emit_with(at, OP_MUL, sum, per_channel(l, t, l->tail.scale), at);
  if (l->tail.bias != NULL) y = emit_with(at, OP_ADD, y, per_channel(l, t, l->tail.bias), at);
  return t == DT_F32 ? y : emit_cast_to(at, y, DT_F32, at);
}

static Value *emit_requant(Layer *l, const Requant *r) {
  ChannelAxis channels = {l->of.channels, l->of.axis, l->op->out[0]->type->rank};
  Value *sum = emit_sum(l, r->shifted ? l->tail.shift : NULL);
  return requant_emit(l->op, sum, NULL, r, &channels, l->quant->out[0]->type->dtype, l->ctx->arena);
}

static void drop(Op *op) {
  if (op != NULL) op_unlink(op);
}

static void note_integer(const Layer *l, const char *how, int64_t boundaries) {
  int64_t lo = l->tail.lo[0], hi = l->tail.hi[0];
  for (int64_t c = 1; c < l->of.channels; c++) {
    if (l->tail.lo[c] < lo) lo = l->tail.lo[c];
    if (l->tail.hi[c] > hi) hi = l->tail.hi[c];
  }
  const char *x = dtype_info(l->x.q->type->dtype)->name;
  if (l->pair) {
    note_layer(l->m, l->op, NOTE_RECOVERED, "%s by %s activations; %s", x, dtype_info(l->w.q->type->dtype)->name, how);
  } else {
    note_layer(l->m, l->op, NOTE_RECOVERED, "%s inputs, 8-bit weights with a scale per %s; %s", x,
               l->w.axis >= 0 ? "channel" : "tensor", how);
  }
  note_layer(l->m, l->op, NOTE_PROOF, "sums %lld..%lld from the %s fit %lld bits", (long long)lo, (long long)hi,
             l->pair ? "types of both" : "weights as they are", (long long)width_of_range(lo, hi));
  if (boundaries > 0)
    note_layer(l->m, l->op, NOTE_PROOF,
               "equal to the reference on both sides of %lld level boundaries of %lld channels", (long long)boundaries,
               (long long)l->of.channels);
}

static void rewrite(Layer *l) {
  Requant r;
  Value *y;
  Op *end = l->op;
  const char *how = "scaled to float";
  int64_t boundaries = 0;
  l->tail.target = l->ctx->target;
  if (l->quant != NULL && tail_requant(&l->tail, l->ctx->arena, &r)) {
    how = requant_text(&r);
    boundaries = r.boundaries;
    end = l->quant;
    y = emit_requant(l, &r);
    for (uint32_t i = 0; i < l->tail.n_links; i++) op_add_loc(y->op, l->links[i]);
    op_add_loc(y->op, end);
  } else {
    if (l->quant != NULL) how = "the reference expression";
    y = emit_scaled(l, emit_sum(l, NULL), l->quant != NULL ? DT_F64 : DT_F32);
  }
  note_integer(l, how, boundaries);
  y->name = end->out[0]->name;
  value_replace(end->out[0], y);
  if (end == l->op) {
    op_unlink(end);
    return;
  }
  drop(l->quant);
  for (uint32_t i = l->tail.n_links; i-- > 0;) drop(l->links[i]);
  op_unlink(l->op);
}

// A product of two dequantised activations: one channel, sums bounded by the types.
static bool make_integer_pair(Layer *l) {
  Module *m = l->m;
  const Quantised *q[2] = {&l->x, &l->w};
  int64_t most[2], k = op_in(l->op, 0)->type->dims[op_in(l->op, 0)->type->rank - 1];
  if (!byte_product_fits(l->op) || l->op->out[0]->type->dtype != DT_F32) return stays(l, "shape");
  if (l->w.axis >= 0 || !dtype_is_byte(l->w.q->type->dtype)) return stays(l, "input not 8 bits with one scale");
  for (int i = 0; i < 2; i++) {
    int64_t zero = quantised_zero(m, q[i], 0), low = zero - dtype_min(q[i]->q->type->dtype);
    int64_t high = dtype_max(q[i]->q->type->dtype) - zero;
    most[i] = low > high ? low : high;
  }
  if (k > (INT64_C(1) << 30) / (256 * 256)) return stays(l, "sums pass 31 bits");
  l->pair = true;
  l->of.channels = 1;
  l->of.axis = l->op->out[0]->type->rank - 1;
  int64_t range[2] = {-k * most[0] * most[1], k * most[0] * most[1]};
  double scale = quantised_scale(m, &l->x, 0) * quantised_scale(m, &l->w, 0);
  l->tail = (Tail){.channels = 1, .scale = &scale, .lo = &range[0], .hi = &range[1]};
  read_tail(l);
  rewrite(l);
  return true;
}

// ---- inputs of 16 bits

static bool is_short(DType t) { return t == DT_U16 || t == DT_I16; }

// The sum of one byte of x less that of the zero point, in f64.
static Value *sum_byte(Layer *l, Value *x, int64_t zero) {
  return emit_cast_to(l->op, whole_sum(l->ctx, l->op, emit_cast_to(l->op, x, DT_U8, l->op), zero, &l->whole, NULL),
                      DT_F64, l->op);
}

static Value *emit_two_bytes(Layer *l) {
  Module *m = l->m;
  Op *at = l->op;
  const Type *one = type_scalar(m->types, DT_U16);
  Value *x = l->x.q;
  int64_t zero = quantised_zero(m, &l->x, 0);
  if (x->type->dtype == DT_I16) {
    x = emit_with(at, OP_XOR, emit_cast_to(at, x, DT_U16, at), const_splat_int(m, one, 32768), at);
    zero += 32768;
  }
  Value *high = sum_byte(l, emit_with(at, OP_SHR, x, const_splat_int(m, one, 8), at), zero >> 8);
  Value *low = sum_byte(l, emit_with(at, OP_AND, x, const_splat_int(m, one, 255), at), zero & 255);
  high = emit_with(at, OP_MUL, high, const_splat(m, type_scalar(m->types, DT_F64), 256), at);
  return emit_with(at, OP_ADD, high, low, at);
}

// Sums of a byte times 8-bit weights, and of weights less a shift, fit 31 bits.
static bool short_range(Layer *l) {
  int64_t k = type_count(l->w_type) / l->of.channels;
  return k <= (INT64_C(1) << 30) / (256 * 512) || stays(l, "sums pass 31 bits");
}

static bool make_integer_short(Layer *l) {
  double *scale = NEW_ARRAY(l->ctx->arena, double, l->of.channels);
  read_scales(l, scale);
  l->tail = (Tail){.channels = l->of.channels, .scale = scale};
  if (!short_range(l) || !read_bias(l)) return false;
  Value *y = emit_scaled(l, emit_two_bytes(l), DT_F64);
  note_layer(l->m, l->op, NOTE_RECOVERED,
             "%s inputs as two bytes each, 8-bit weights with a scale per %s; two exact sums, put together and scaled "
             "in f64",
             dtype_info(l->x.q->type->dtype)->name, l->w.axis >= 0 ? "channel" : "tensor");
  note_layer(l->m, l->op, NOTE_PROOF, "at most 2^30 by %lld products of a byte and a weight in each of the two sums",
             (long long)(type_count(l->w_type) / l->of.channels));
  y->name = l->op->out[0]->name;
  value_replace(l->op->out[0], y);
  op_unlink(l->op);
  return true;
}

static bool make_integer(PassCtx *ctx, Op *op) {
  Layer l = {.ctx = ctx, .m = ctx->m, .op = op};
  Quantised any_weights;
  bool weights = quantised_of(ctx->m, op_in(op, 1), &any_weights);
  if (!quantised_of(ctx->m, op_in(op, 0), &l.x)) return weights ? stays(&l, "input not quantised") : false;
  DType x = l.x.q->type->dtype;
  if (op_post(op) != NULL || l.x.axis >= 0 || (!dtype_is_byte(x) && !is_short(x)) || value_is_const(l.x.q))
    return stays(&l, "input not 8 or 16 bits with one scale");
  if (!is_short(x) && quantised_of(ctx->m, op_in(op, 1), &l.w) && !value_is_const(l.w.q)) return make_integer_pair(&l);
  if (op->out[0]->type->dtype != DT_F32 || !read_geometry(&l)) return stays(&l, "shape");
  if (!read_weights(&l)) return false;
  if (is_short(x)) return make_integer_short(&l);
  double *scale = NEW_ARRAY(ctx->arena, double, l.of.channels);
  int64_t *lo = NEW_ARRAY(ctx->arena, int64_t, l.of.channels), *hi = NEW_ARRAY(ctx->arena, int64_t, l.of.channels);
  read_scales(&l, scale);
  l.tail = (Tail){.channels = l.of.channels, .scale = scale, .lo = lo, .hi = hi};
  if (!read_range(&l, lo, hi) || !read_bias(&l)) return false;
  read_tail(&l);
  rewrite(&l);
  return true;
}

static bool is_contraction(const Op *op) {
  return op->kind == OP_CONV || op->kind == OP_MATMUL || op->kind == OP_CONV_TRANSPOSE;
}

PassResult pass_integer(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  bool changed = quantised_sink(ctx, f);
  if (quantised_rise(ctx, f)) changed = quantised_sink(ctx, f) || true;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    bool transposed = op->kind == OP_CONV_TRANSPOSE;
    if (!is_contraction(op)) continue;
    ArenaMark mark = arena_mark(ctx->arena);
    Op *before = op->prev;
    if (!transposed && (quantised_narrow(ctx, op) || quantised_pair(ctx, op))) {
      changed = true;
    } else if (make_integer(ctx, op)) {
      changed = true;
      next = before ? before->next : f->first;  // the links and the quantize may have been next
      while (next && is_contraction(next) && op_in(next, 0)->type->dtype != DT_F32) next = next->next;
    }
    arena_reset(ctx->arena, mark);
  }
  changed |= bytes_chains(ctx, f);
  changed |= bytes_means(ctx, f);
  changed |= quantised_means(ctx, f);
  changed |= quantised_expand(ctx, f);
  if (changed) graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}
