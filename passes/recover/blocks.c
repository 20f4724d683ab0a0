// Pass blocks: weights on a grid of at most four bits that multiply floats become a dequantize of their integers, which
// is how they are stored and multiplied (strategy stream).
//
//   %1 = matmul %x, @w : f32[1,192]                      @w: f32[784,192] of -0.3, 0 and 0.3
//   => %2 = dequantize @q, @s {axis = 0, block = 784}    @q: i8[784,192] of -1, 0, 1; @s: f32[1,192]
//      %1 = matmul %x, %2
//
// Only where the dequantize gives every weight back bit for bit, and where the price of what becomes of it is not far
// above that of the floats. Not with --fp=strict.
#include <string.h>

#include "ir/elem.h"
#include "ir/infer.h"
#include "ir/note.h"
#include "passes/lowbit.h"
#include "passes/pass.h"
#include "passes/price.h"
#include "passes/recover/slices.h"
#include "passes/recover/weights.h"

enum { MOST = 7, FEWEST = 1024 };  // largest integer; smallest number of weights

#define DEARER 1.25  // how much more time fewer bytes are worth

static bool price_by(const Op *op, const Target *t, const char *name, double *total) {
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    if (strcmp(s->name, name) != 0 || !s->applies(op, t)) continue;
    Price p;
    s->price(op, t, &p);
    *total = price_total(&p);
    return true;
  }
  return false;
}

// The geometry of operand 1 of a float matmul, its columns being the channels.
static bool read_weights(const Op *op, WeightGrid *g) {
  const Value *w = op_in(op, 1);
  if (op->kind != OP_MATMUL || !value_is_const(w) || w->type->dtype != DT_F32 || w->type->rank != 2) return false;
  if (op_in(op, 0)->type->dtype != DT_F32 || value_is_const(op_in(op, 0)) || type_count(w->type) < FEWEST) return false;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  const int64_t *dims = w->type->dims;
  *g = (WeightGrid){.n = dims[0] * dims[1], .channels = dims[trans ? 0 : 1], .inner = trans ? dims[1] : 1};
  return true;
}

// Every weight is f32(scale * q), the scales being floats.
static bool comes_back(Module *m, const Value *w, const WeightGrid *g) {
  const AnyF32 *v = const_data(m, w->constant);
  if (g->dorefa || g->most > MOST) return false;
  for (int64_t i = 0; i < g->n; i++) {
    double scale = g->scale[i / g->inner % g->channels];
    if ((double)(float)scale != scale || (float)(scale * (double)g->q[i]) != v[i]) return false;
  }
  return true;
}

static Value *dequantized(Op *op, const WeightGrid *g) {
  Module *m = op->func->module;
  bool trans = op_bool(op, A_MATMUL_trans_b);
  const Value *w = op_in(op, 1);
  int64_t dims[2] = {trans ? g->channels : 1, trans ? 1 : g->channels};
  const Type *byte = type_with_dtype(m->types, w->type, DT_I8), *row = type_tensor(m->types, DT_F32, 2, dims);
  int8_t *q = arena_alloc(m->arena, (size_t)g->n);
  float *scale = arena_alloc(m->arena, (size_t)type_bytes(row));
  for (int64_t i = 0; i < g->n; i++) q[i] = (int8_t)g->q[i];
  bool one = true;
  for (int64_t i = 0; i < g->channels; i++) {
    scale[i] = (float)g->scale[i];
    one = one && scale[i] == scale[0];
  }
  Value *scales =
      one ? const_splat(m, type_scalar(m->types, DT_F32), (double)scale[0]) : const_borrowed(m, row, scale, NULL);
  Value *in[2] = {const_borrowed(m, byte, q, w->constant->name), scales};
  Op *dq = op_new(op->func, op, OP_DEQUANTIZE, 2, in, op->loc);
  op_set_int(dq, A_DEQUANTIZE_axis, trans ? 1 : 0);
  op_set_int(dq, A_DEQUANTIZE_block, g->n / g->channels);
  value_set_type(op_out(dq, 0), w->type);
  QCC_CHECK(infer_op(dq), "blocks: dequantize");
  return op_out(dq, 0);
}

static bool recover(PassCtx *ctx, Op *op) {
  WeightGrid g;
  if (!read_weights(op, &g)) return false;
  Value *w = op_in(op, 1);
  if (!weights_fit(ctx->m, ctx->arena, w, 0, &g) || !comes_back(ctx->m, w, &g)) return false;
  double floats, bits;
  bool has_floats = price_by(op, ctx->target, "fma", &floats);
  Value *dq = dequantized(op, &g);
  op_set_operand(op, 1, dq);
  if (price_by(op, ctx->target, "stream", &bits) && (!has_floats || bits <= DEARER * floats)) return true;
  note_layer(ctx->m, op, NOTE_FLOAT, "weights of %lld levels take less time as floats", (long long)(2 * g.most + 1));
  op_set_operand(op, 1, w);
  op_unlink(dq->op);
  return false;
}

PassResult pass_blocks(PassCtx *ctx) {
  bool changed = false;
  if (ctx->opt->strict_fp) return PASS_SAME;
  for (Op *op = ctx->m->funcs.at[0]->first, *next; op != NULL; op = next) {
    next = op->next;
    changed |= recover(ctx, op) || slices_conv(ctx, op);
  }
  return changed ? PASS_CHANGED : PASS_SAME;
}
