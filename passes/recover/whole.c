// Contractions of bytes with whole weights, of which some may need nine bits: unsigned bytes less a zero point.
//
//   %2 = conv %x, (@w - 117)                      @w: u8, so weights lie in -117 .. 138
//   => %s = conv %x, 1 {x_zero = 3} : i32[1,1,14,14]        of one channel
//      %1 = conv %x, @v {x_zero = 3} : i32[1,32,14,14]      @v: i8, the weights less 11
//      %2 = %1 + %s * 11
//
// A channel is shifted by as little as brings it inside of a byte. Grouped convolutions, for which one channel of ones
// does not do, take what is beyond a byte as a second convolution of the same shape. Exact: integers throughout.
#include "passes/recover/whole.h"

#include "passes/graph_util.h"
#include "passes/recover/quantised.h"

enum { LEAST = -128, MOST = 127, SPAN = MOST - LEAST };

// Does what is beyond a byte become a contraction of its own?
static bool is_split(const Op *op) {
  if (op->kind == OP_MATMUL) return op_in(op, 1)->type->rank < 2;
  return op_int(op, op->kind == OP_CONV ? (int)A_CONV_group : (int)A_CONV_TRANSPOSE_group) != 1;
}

// What each channel is shifted by; false when all are 0. `shift` has room for the channels.
static bool shifts_of(Arena *arena, const WholeWeights *w, int64_t *shift) {
  ArenaMark mark = arena_mark(arena);
  int64_t *lo = NEW_ARRAY(arena, int64_t, w->of.channels), *hi = NEW_ARRAY(arena, int64_t, w->of.channels);
  for (int64_t c = 0; c < w->of.channels; c++) lo[c] = MOST, hi[c] = LEAST;
  for (int64_t i = 0, n = type_count(w->type); i < n; i++) {
    int64_t c = weight_channel(&w->of, i);
    if (w->v[i] < lo[c]) lo[c] = w->v[i];
    if (w->v[i] > hi[c]) hi[c] = w->v[i];
  }
  bool any = false;
  for (int64_t c = 0; c < w->of.channels; c++) {
    shift[c] = hi[c] > MOST ? hi[c] - MOST : lo[c] < LEAST ? lo[c] - LEAST : 0;
    any = any || shift[c] != 0;
  }
  arena_reset(arena, mark);
  return any;
}

bool whole_weights_fit(const Op *op, const WholeWeights *w) {
  Arena *arena = op->func->module->arena;
  ArenaMark mark = arena_mark(arena);
  int64_t *shift = NEW_ARRAY(arena, int64_t, w->of.channels);
  bool split = is_split(op), fits = true;
  shifts_of(arena, w, shift);
  for (int64_t i = 0, n = type_count(w->type); i < n && fits; i++) {
    int64_t v = w->v[i] - (split ? 0 : shift[weight_channel(&w->of, i)]);
    fits = w->v[i] >= -SPAN && w->v[i] <= SPAN && (split || (v >= LEAST && v <= MOST));
  }
  arena_reset(arena, mark);
  return fits;
}

static Value *contraction(Op *op, Value *x, int64_t zero, Value *w, Value *bias, const Type *type) {
  Op *now = op_new(op->func, op, op->kind, bias != NULL ? 3 : 2, (Value *[]){x, w, bias}, op->loc);
  op_copy_attrs(now, op);
  op_set_int(now,
             op->kind == OP_CONV             ? (int)A_CONV_x_zero
             : op->kind == OP_CONV_TRANSPOSE ? (int)A_CONV_TRANSPOSE_x_zero
                                             : (int)A_MATMUL_x_zero,
             zero);
  now->out[0]->type = type;
  return now->out[0];
}

// Byte weights v - shift of the channel, brought into a byte; or, with `beyond`, what that leaves of them.
static Value *byte_weights(PassCtx *ctx, const WholeWeights *w, const int64_t *shift, bool beyond) {
  Module *m = ctx->m;
  int64_t n = type_count(w->type);
  double *v = NEW_ARRAY(ctx->arena, double, n + 1);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = w->v[i] - (shift != NULL ? shift[weight_channel(&w->of, i)] : 0);
    int64_t in = at < LEAST ? LEAST : at > MOST ? MOST : at;
    v[i] = (double)(beyond ? at - in : in);
  }
  return const_of_doubles(m, type_with_dtype(m->types, w->type, DT_I8), v, beyond ? NULL : w->name);
}

// The same shape with one channel: of weights (`axis` is theirs) or of the result.
static const Type *of_one_channel(Module *m, const Type *t, uint32_t axis, DType d) {
  int64_t dims[MAX_RANK];
  for (uint32_t i = 0; i < t->rank; i++) dims[i] = i == axis ? 1 : t->dims[i];
  return type_tensor(m->types, d, t->rank, dims);
}

// Sums of x alone, times the shift of each channel.
static Value *shifted_part(PassCtx *ctx, Op *op, Value *x, int64_t zero, const WholeWeights *w, const int64_t *shift) {
  Module *m = ctx->m;
  const Type *y = op->out[0]->type, *word = type_with_dtype(m->types, y, DT_I32);
  uint32_t axis = w->of.axis;
  double *by = NEW_ARRAY(ctx->arena, double, w->of.channels);
  for (int64_t c = 0; c < w->of.channels; c++) by[c] = (double)shift[c];
  Value *ones = const_splat_int(m, of_one_channel(m, w->type, weight_channel_axis(op), DT_I8), 1);
  Value *sum = contraction(op, x, zero, ones, NULL, of_one_channel(m, y, axis, DT_I32));
  Value *k = channel_const(m, DT_I32, w->of.channels, axis, y->rank, by);
  return graph_emit(op, OP_MUL, 2, (Value *[]){sum, k}, k->type->rank == 0 ? sum->type : word, op->loc);
}

Value *whole_sum(PassCtx *ctx, Op *op, Value *x, int64_t zero, const WholeWeights *w, Value *bias) {
  Module *m = ctx->m;
  const Type *type = type_with_dtype(m->types, op->out[0]->type, DT_I32);
  int64_t *shift = NEW_ARRAY(ctx->arena, int64_t, w->of.channels);
  bool wide = shifts_of(ctx->arena, w, shift), split = is_split(op);
  if (!wide) return contraction(op, x, zero, byte_weights(ctx, w, NULL, false), bias, type);
  Value *rest = split ? contraction(op, x, zero, byte_weights(ctx, w, NULL, true), NULL, type)
                      : shifted_part(ctx, op, x, zero, w, shift);
  Value *most = contraction(op, x, zero, byte_weights(ctx, w, split ? NULL : shift, false), bias, type);
  return graph_emit(op, OP_ADD, 2, (Value *[]){most, rest}, type, op->loc);
}
