// Pass `merge`: linear layers in a row that cost more than their product become the product (S23).
//
//   matmul [64 -> 48] ; matmul [48 -> 64]                  =>   matmul [64 -> 64]
//   conv 1x1 16 -> 64 ; conv 3x3 64 -> 16 (no bias first)  =>   conv 3x3 16 -> 16
//   x w + s (x a) b  (an adapter beside its layer)         =>   x (w + s a b)
//
// A pair is left alone where it is cheaper by the prices of the target, which is what low rank is for. Biases go along:
// b = w2 b1 + b2; a bias between a 1x1 and a convolution with padding does not, as the padding adds zeros, not the
// bias. Weights of few values stay: they are stored as bits. Sums are made in another order, so --fp=strict leaves all
// alone.
#include <string.h>

#include "ir/note.h"
#include "passes/compress/planted.h"
#include "passes/graph_util.h"
#include "passes/pass.h"

#define CHEAPER 0.97
#define MOST_MACS 1.5  // of the product, to those of the pair

enum { MOST_ELEMS = 1 << 25 };

typedef struct Pair {
  PassCtx *ctx;
  Arena *arena;
  Op *first, *second;
  FactorLayer a, b;
} Pair;

static bool is_vector(const Value *v, int64_t n) {
  return v == NULL || (value_is_const(v) && v->type->rank == 1 && v->type->dims[0] == n);
}

static bool pair_read(Pair *p) {
  const char *why;
  if (!layer_read(p->first, &p->a, p->arena, &why) || !layer_read(p->second, &p->b, p->arena, &why)) return false;
  if (p->a.group != 1 || p->b.group != 1 || p->a.dtype != p->b.dtype || p->a.out != p->b.in) return false;
  if (layer_has_few_values(&p->a, p->arena) || layer_has_few_values(&p->b, p->arena)) return false;
  return is_vector(op_in(p->first, 2), p->a.out) && is_vector(op_in(p->second, 2), p->b.out);
}

static bool is_pointwise(const FactorLayer *l) {
  if (layer_taps(l) != 1) return false;
  for (uint32_t i = 0; i < l->nd; i++)
    if (l->stride[i] != 1 || l->begin[i] != 0 || l->end[i] != 0) return false;
  return true;
}

static bool is_padded(const FactorLayer *l) {
  bool padded = false;
  for (uint32_t i = 0; i < l->nd; i++) padded |= l->begin[i] != 0 || l->end[i] != 0;
  return padded;
}

// w2 b1 + b2, NULL without either.
static Value *merged_bias(const Pair *p) {
  Value *b1 = op_in(p->first, 2), *b2 = op_in(p->second, 2);
  int64_t n = p->b.out, taps = layer_taps(&p->b);
  if (b1 == NULL) return b2;
  Module *m = p->ctx->m;
  double *v = NEW_ARRAY(p->arena, double, n);
  for (int64_t o = 0; o < n; o++) {
    v[o] = b2 != NULL ? const_f(m, b2->constant, o) : 0;
    for (int64_t k = 0; k < p->b.in; k++) {
      double x = const_f(m, b1->constant, k);
      if (p->b.nd == 0) {
        v[o] += p->b.w[k * n + o] * x;
      } else {
        for (int64_t t = 0; t < taps; t++) v[o] += p->b.w[(o * p->b.in + k) * taps + t] * x;
      }
    }
  }
  return const_of_doubles(m, type_tensor(m->types, p->b.dtype, 1, &n), v, b1->constant->name);
}

static Value *emit_dense(const Pair *p) {
  Module *m = p->ctx->m;
  int64_t dims[2] = {p->a.in, p->b.out};
  double *w = NEW_ARRAY(p->arena, double, dims[0] * dims[1]);
  matrix_mul(p->a.in, p->b.out, p->a.out, p->a.w, p->b.w, w);
  Value *bias = merged_bias(p);
  Value *in[3] = {op_in(p->first, 0), const_of_doubles(m, type_tensor(m->types, p->a.dtype, 2, dims), w, NULL), bias};
  return graph_emit(p->second, OP_MATMUL, bias != NULL ? 3 : 2, in, op_out(p->second, 0)->type, p->first->loc);
}

// One of the two is 1x1; the kernel, strides and pads are those of the other.
static Value *emit_conv(const Pair *p) {
  Module *m = p->ctx->m;
  bool point_last = is_pointwise(&p->b);
  const FactorLayer *spatial = point_last ? &p->a : &p->b;
  int64_t taps = layer_taps(spatial), n = p->b.out, c = p->a.in, r = p->a.out;
  const Op *from = spatial->op;
  int64_t dims[MAX_RANK];
  memcpy(dims, op_in(from, 1)->type->dims, sizeof dims);
  dims[0] = n;
  dims[1] = c;
  double *w = NEW_ARRAY(p->arena, double, n *c *taps);
  for (int64_t o = 0; o < n; o++)
    for (int64_t k = 0; k < r; k++)
      for (int64_t i = 0; i < c; i++)
        for (int64_t t = 0; t < taps; t++)
          w[(o * c + i) * taps + t] += point_last ? p->b.w[o * r + k] * p->a.w[(k * c + i) * taps + t]
                                                  : p->b.w[(o * r + k) * taps + t] * p->a.w[k * c + i];
  Value *bias = merged_bias(p);
  const Type *wt = type_tensor(m->types, p->a.dtype, op_in(from, 1)->type->rank, dims);
  Value *in[3] = {op_in(p->first, 0), const_of_doubles(m, wt, w, NULL), bias};
  Value *y = graph_emit(p->second, OP_CONV, bias != NULL ? 3 : 2, in, op_out(p->second, 0)->type, p->first->loc);
  op_copy_attrs(y->op, from);
  return y;
}

// ---- pairs

// Arithmetic decides most pairs before any price is asked for.
static bool can_merge(const Pair *p) {
  int64_t taps = layer_taps(&p->a) * layer_taps(&p->b), n;
  double macs = (double)type_count(op_out(p->second, 0)->type) * (double)p->a.in * (double)taps;
  if (macs > MOST_MACS * (layer_macs(&p->a) + layer_macs(&p->b))) return false;
  if (p->first->kind != p->second->kind || !size_mul(p->a.in, p->b.out, &n) || !size_mul(n, taps, &n)) return false;
  if (n > MOST_ELEMS) return false;
  if (p->a.nd == 0) return true;
  if (is_pointwise(&p->b)) return true;
  return is_pointwise(&p->a) && !(op_in(p->first, 2) != NULL && is_padded(&p->b));
}

static bool merge_pair(PassCtx *ctx, Op *second) {
  const Value *x = op_in(second, 0);
  Pair p = {.ctx = ctx, .second = second};
  if (x->kind != VALUE_RESULT || value_sole_user(x) != second) return false;
  p.first = x->op;
  if (p.first->kind != second->kind || p.first->func != second->func) return false;
  p.arena = arena_new("merge");
  bool merged = false;
  const char *why;
  FactorLayer whole;
  if (pair_read(&p) && can_merge(&p)) {
    Value *y = p.a.nd == 0 ? emit_dense(&p) : emit_conv(&p);
    double pair = layer_price(&p.a, ctx->target) + layer_price(&p.b, ctx->target);
    merged = layer_read(y->op, &whole, p.arena, &why) && layer_price(&whole, ctx->target) < pair * CHEAPER;
    if (merged) {
      op_add_loc(y->op, second);
      double per_us = 1e-3 / ctx->target->ghz;
      note_layer(ctx->m, second, NOTE_FACTORED, "two linear layers multiplied out: price %.2f -> %.2f us",
                 pair * per_us, layer_price(&whole, ctx->target) * per_us);
      y->name = op_out(second, 0)->name;
      value_replace(op_out(second, 0), y);
      op_unlink(second);
      op_unlink(p.first);
    } else {
      op_unlink(y->op);
    }
  }
  arena_free(p.arena);
  return merged;
}

// ---- adapters

// A product with a constant matrix whose only reader is `user`.
static Op *product_for(const Value *v, const Op *user) {
  Op *op = value_def(v, OP_MATMUL);
  const Value *w = op != NULL ? op_in(op, 1) : NULL;
  return w != NULL && value_is_const(w) && value_sole_user(v) == user ? op : NULL;
}

static bool merge_adapter(PassCtx *ctx, Op *add, uint32_t slot) {
  Op *base = product_for(op_in(add, slot), add), *scale = value_def(op_in(add, 1 - slot), OP_MUL);
  double s = 1;
  Module *m = ctx->m;
  const Op *reader = add;
  const Value *side = op_in(add, 1 - slot);
  if (scale != NULL && value_sole_user(op_out(scale, 0)) == add) {
    uint32_t which = value_is_splat(m, op_in(scale, 0), &s) ? 1 : value_is_splat(m, op_in(scale, 1), &s) ? 0 : 2;
    if (which == 2 || op_out(scale, 0)->type != op_in(scale, which)->type) return false;
    side = op_in(scale, which);
    reader = scale;
  }
  Op *up = product_for(side, reader), *down = up != NULL ? product_for(op_in(up, 0), up) : NULL;
  if (!base || !down || op_in(up, 2) || op_in(down, 2) || op_in(base, 0) != op_in(down, 0)) return false;
  Pair p = {.ctx = ctx, .first = down, .second = up, .arena = arena_new("merge")};
  FactorLayer whole;
  const char *why;
  bool ok = pair_read(&p) && layer_read(base, &whole, p.arena, &why) && whole.nd == 0 && whole.dtype == p.a.dtype &&
            op_out(base, 0)->type == op_out(up, 0)->type && !layer_has_few_values(&whole, p.arena);
  if (ok) {
    int64_t dims[2] = {whole.in, whole.out};
    double *w = NEW_ARRAY(p.arena, double, whole.n_w);
    matrix_mul(p.a.in, p.b.out, p.a.out, p.a.w, p.b.w, w);
    for (int64_t i = 0; i < whole.n_w; i++) w[i] = whole.w[i] + s * w[i];
    Value *bias = op_in(base, 2);
    Value *in[3] = {op_in(base, 0), const_of_doubles(m, type_tensor(m->types, whole.dtype, 2, dims), w, NULL), bias};
    Value *y = graph_emit(add, OP_MATMUL, bias != NULL ? 3 : 2, in, op_out(add, 0)->type, base->loc);
    op_add_loc(y->op, up);
    note_layer(m, y->op, NOTE_FACTORED, "an adapter of rank %lld added to the weights", (long long)p.a.out);
    y->name = op_out(add, 0)->name;
    value_replace(op_out(add, 0), y);
    graph_drop_dead(add->func);
  }
  arena_free(p.arena);
  return ok;
}

PassResult pass_merge(PassCtx *ctx) {
  PassResult result = PASS_SAME;
  if (ctx->opt->strict_fp) return PASS_SAME;
  Func *f = ctx->m->funcs.at[0];
  for (Op *op = f->first, *next; op != NULL; op = next) {
    next = op->next;
    bool changed = (op->kind == OP_MATMUL || op->kind == OP_CONV) && merge_pair(ctx, op);
    if (changed) result = PASS_CHANGED;
  }
  for (bool again = true; again;) {
    again = false;
    for (Op *op = f->first; op != NULL && !again; op = op->next)
      again = op->kind == OP_ADD && (merge_adapter(ctx, op, 0) || merge_adapter(ctx, op, 1));
    if (again) result = PASS_CHANGED;
  }
  return result;
}
