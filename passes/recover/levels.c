// Pass levels: layers whose inputs and weights are a few whole steps of some scale become exact integer contractions,
// whatever way the exporter wrote them.
//
//   %1 = select %0, 1.0, -1.0 : f32[1,16,14,14]
//   %2 = conv %1, @w {pads = [1,1,1,1]} : f32[1,32,14,14]          every channel of @w holds -a, +a (or 0)
//   %3 = batchnorm %2, @s, @b, @m, @v : f32[1,32,14,14]
//   %4 = greater_equal %3, 0.0 : bool[1,32,14,14]
//   %5 = select %4, 1.0, -1.0 : f32[1,32,14,14]
//   => %1 = select %0, i8 1, i8 -1
//      %2 = conv %1, @q {pads = [1,1,1,1]} : i32[1,32,14,14]       @q: i8, -1, +1 (or 0)
//      %4 = greater_equal %2, @t : bool[1,32,14,14]                @t: one threshold per channel
//      %5 = select %4, @hi, @lo : i8[1,32,14,14]                   swapped where the batch norm falls
//
//   %3 = div (round (mul (clip %x, 0, 1), 3)), 3                   f32(1/3 * q), q in 0 .. 3
//   %4 = conv %3, @w                                               f32(0.21 * k), k in -7 .. 7
//   => %4 = conv q, @k : i32, times 0.07
//
// Inputs: discrete.c; weights: weights.c. Both count only if scale * q gives the file's floats back bit for bit. The
// sum of products of steps is exact: its range is taken from the weights as they are and stays inside of 32 bits.
// Scaled by both scales (and the bias added) in f64 and rounded once it is the layer's value in real arithmetic; the
// interpreter, which sums rounded products, differs from it by rounding only, and not at all where the scales are
// powers of two. What follows is searched for thresholds (thresholds.c); without any the scaled sum stays. A NaN that
// reaches a sign or rounding is taken as a level: a level has no other way to say it.
#include "passes/recover/levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/contraction.h"
#include "passes/graph_util.h"
#include "passes/recover/discrete.h"
#include "passes/recover/weights.h"

// ---- shared with thresholds.c

Value *levels_const(Module *m, DType t, int64_t channels, uint32_t axis, uint32_t rank, const double *v) {
  bool equal = true;
  int64_t dims[MAX_RANK];
  for (int64_t c = 1; c < channels; c++) equal = equal && v[c] == v[0];
  for (uint32_t i = 0; i < MAX_RANK; i++) dims[i] = 1;
  dims[0] = channels;
  const Type *type = equal ? type_scalar(m->types, t) : type_tensor(m->types, t, rank - axis, dims);
  if (equal && !dtype_is_float(t)) return const_splat_int(m, type, (int64_t)v[0]);
  return equal ? const_splat(m, type, v[0]) : const_of_doubles(m, type, v, NULL);
}

Value *levels_emit(Op *at, OpKind kind, DType t, uint32_t n, Value *const *in, const Op *like) {
  Module *m = at->func->module;
  return graph_emit(at, kind, n, in, type_with_dtype(m->types, in[0]->type, t), like->loc);
}

Value *levels_pool(Op *at, const Op *pool, Value *x) { return emit_again(at, pool, 1, &x, x->type->dtype)->out[0]; }

// ---- one layer

typedef struct Layer {
  Known *known;
  Module *m;
  Op *op;
  const Discrete *x;
  WeightChannels of;
  WeightGrid w;
  double *a;  // scale of the sum of each channel
  Sum s;
} Layer;

static bool stays(Layer *l, const char *why) {
  note_layer(l->m, l->op, NOTE_FLOAT, "%s", why);
  return false;
}

static bool read_geometry(Layer *l) {
  const Op *op = l->op;
  const Type *w = op_in(op, 1)->type, *y = op->out[0]->type;
  if (op->kind == OP_MATMUL && (w->rank != 2 || y->rank < 2 || op_bool(op, A_MATMUL_trans_a))) return false;
  if (!type_is_static(y) || !weight_channels(op, &l->of)) return false;
  l->w = (WeightGrid){.n = l->of.n, .channels = l->of.channels, .inner = l->of.inner};
  return true;
}

static bool has_pads(const Op *op) {
  uint32_t n = 0;
  const int64_t *pads = op->kind == OP_CONV ? op_ints(op, A_CONV_pads, &n) : NULL;
  for (uint32_t i = 0; i < n; i++)
    if (pads[i] != 0) return true;
  return false;
}

// The range of the sums; false when 32 bits could not hold them.
static bool read_range(Layer *l) {
  int64_t lo = l->x->lo, hi = l->x->hi;
  int64_t *range = NEW_ARRAY(l->known->pass->arena, int64_t, 2 * l->w.channels);
  if (has_pads(l->op)) {
    lo = lo > 0 ? 0 : lo;
    hi = hi < 0 ? 0 : hi;
  }
  l->s.lo = INT64_MAX;
  l->s.hi = INT64_MIN;
  for (int64_t i = 0; i < l->w.n; i++) {
    int64_t q = l->w.q[i], *r = &range[2 * weight_channel(&l->of, i)];
    r[0] += q > 0 ? q * lo : q * hi;
    r[1] += q > 0 ? q * hi : q * lo;
  }
  for (int64_t c = 0; c < l->w.channels; c++) {
    l->s.lo = range[2 * c] < l->s.lo ? range[2 * c] : l->s.lo;
    l->s.hi = range[2 * c + 1] > l->s.hi ? range[2 * c + 1] : l->s.hi;
  }
  return l->s.lo >= INT32_MIN && l->s.hi <= INT32_MAX;
}

static bool bias_fits(const Layer *l) {
  const Value *b = op_in(l->op, 2);
  if (b == NULL) return true;
  int64_t n = value_is_const(b) ? type_count(b->type) : 0;
  return n == 1 || (n == l->w.channels && b->type->dims[b->type->rank - 1] == n);
}

// ---- rewriting

static Value *scale_by(Layer *l, OpKind kind, DType t, Value *x, Value *by) {
  Value *y = levels_emit(l->op, kind, t, by ? 2 : 1, (Value *[]){x, by}, l->op);
  l->s.scale[l->s.n_scale++] = y->op;
  return y;
}

static Value *per_channel(Layer *l, DType t, const double *v) {
  return levels_const(l->m, t, l->w.channels, l->of.axis, l->op->out[0]->type->rank, v);
}

// sum * a + bias with one rounding: in f32 where sum and product are exact before it.
static void emit_value(Layer *l) {
  const Value *bias = op_in(l->op, 2);
  bool unit = true, single = l->s.lo >= -(1 << 24) && l->s.hi <= 1 << 24;
  for (int64_t c = 0; c < l->w.channels; c++) {
    unit = unit && l->a[c] == 1;
    single = single && (l->a[c] == 1 || (bias == NULL && (double)(float)l->a[c] == l->a[c]));
  }
  DType t = single ? DT_F32 : DT_F64;
  Value *y = scale_by(l, OP_CAST, t, l->s.sum, NULL);
  if (!unit) y = scale_by(l, OP_MUL, t, y, per_channel(l, t, l->a));
  if (bias != NULL) {
    double *b = NEW_ARRAY(l->known->pass->arena, double, l->w.channels);
    for (int64_t c = 0; c < l->w.channels; c++)
      b[c] = const_f(l->m, bias->constant, type_count(bias->type) == 1 ? 0 : c);
    y = scale_by(l, OP_ADD, t, y, per_channel(l, t, b));
  }
  if (t == DT_F64) y = scale_by(l, OP_CAST, DT_F32, y, NULL);
  l->s.value = y;
}

// A maxpool that alone reads the result reads the sums instead: scales are positive.
static Op *pool_after(const Op *op) {
  Op *user = value_sole_user(op->out[0]);
  return user && user->kind == OP_MAXPOOL && user->out[1]->n_uses == 0 ? user : NULL;
}

static Value *byte_weights(const Layer *l) {
  const Value *w = op_in(l->op, 1);
  double *q = NEW_ARRAY(l->known->pass->arena, double, l->w.n);
  for (int64_t i = 0; i < l->w.n; i++) q[i] = (double)l->w.q[i];
  return const_of_doubles(l->m, type_with_dtype(l->m->types, w->type, DT_I8), q, w->constant->name);
}

static void rewrite(Layer *l) {
  Op *end = l->op;
  Value *in[2] = {l->x->q, byte_weights(l)};
  l->s.sum = emit_again(l->op, l->op, 2, in, DT_I32)->out[0];
  op_set_int(l->s.sum->op, l->op->kind == OP_CONV ? (int)A_CONV_x_zero : (int)A_MATMUL_x_zero, l->x->zero);
  l->s.channels = l->w.channels;
  l->s.axis = l->of.axis;
  l->s.known = l->known;
  l->s.pool = pool_after(l->op);
  if (l->s.pool) {
    end = l->s.pool;
    l->s.unpooled = l->s.sum;
    l->s.sum = levels_pool(l->op, end, l->s.sum);
  }
  emit_value(l);
  l->s.value->name = end->out[0]->name;
  value_replace(end->out[0], l->s.value);
}

// ---- notes

static uint32_t signed_bits(int64_t lo, int64_t hi) {
  uint32_t n = 1;
  while (lo < -(INT64_C(1) << (n - 1)) || hi >= INT64_C(1) << (n - 1)) n++;
  return n;
}

static const char *weight_words(const Layer *l) {
  const WeightGrid *g = &l->w;
  bool zero = false;
  for (int64_t i = 0; i < g->n && !zero; i++) zero = g->q[i] == 0;
  const char *levels = g->most > 1 ? arena_printf(l->m->arena, "-%lld..%lld", (long long)g->most, (long long)g->most)
                       : zero      ? "-1, 0, 1"
                                   : "-1, 1";
  const char *loose =
      g->miss > 0 ? arena_printf(l->m->arena, ", which they miss by up to %.3g of a step (--tolerate)", g->miss) : "";
  return arena_printf(l->m->arena, "%s x %s%s%s", levels,
                      g->one_scale ? arena_printf(l->m->arena, "%.6g", g->scale[0]) : "a scale per channel",
                      g->dorefa ? ", rounded as 2 j / n - 1" : "", loose);
}

static void note_found(const Layer *l) {
  const Discrete *x = l->x;
  note_layer(l->m, l->op, NOTE_RECOVERED, "inputs %lld..%lld x %.6g, weights %s", (long long)x->lo, (long long)x->hi,
             x->scale, weight_words(l));
  uint32_t bits = signed_bits(l->s.lo, l->s.hi);
  note_layer(l->m, l->op, NOTE_PROOF, "sums %lld..%lld from the weights as they are: %u bits hold them, i32 is exact",
             (long long)l->s.lo, (long long)l->s.hi,
             bits <= 8    ? 8
             : bits <= 16 ? 16
                          : 32);
}

static const char *no_grid_words(const Layer *l) {
  const WeightGrid *g = &l->w;
  if (g->distinct > SET_MAX || 4 * (int64_t)g->distinct > 3 * (g->n / g->channels))
    return "weights are float in the file";
  return arena_printf(l->m->arena, "weights have %u values in a channel on no grid of 8 bits", g->distinct);
}

// Why a layer without inputs on a grid stays float.
static bool float_input(Layer *l) {
  const ValueSet *set = sets_of(l->known->sets, op_in(l->op, 0));
  const Value *w = op_in(l->op, 1);
  const char *weights = "weights are no constants";
  if (value_is_const(w) && w->type->dtype == DT_F32 && read_geometry(l))
    weights = weights_fit(l->m, l->known->pass->arena, w, 0, &l->w)
                  ? arena_printf(l->m->arena, "weights are %s", weight_words(l))
                  : no_grid_words(l);
  if (set->n == 0) {
    note_layer(l->m, l->op, NOTE_FLOAT, "inputs are float in the file, %s", weights);
  } else {
    note_layer(l->m, l->op, NOTE_FLOAT, "inputs have %u values on no grid of 8 bits, %s", set->n, weights);
  }
  return false;
}

// ---- the pass

// levels{tolerate=0.01} is --tolerate=0.01.
static double tolerance(const PassCtx *ctx) {
  static const char key[] = "tolerate=";
  bool given = strncmp(ctx->args, key, sizeof key - 1) == 0;
  return given ? strtod(ctx->args + sizeof key - 1, NULL) : ctx->opt->tolerate;
}

static bool make_integer(Known *known, Op *op) {
  Layer l = {.known = known, .m = known->m, .op = op, .x = known_get(known, op_in(op, 0))};
  const Value *w = op_in(op, 1);
  if (op->out[0]->type->dtype != DT_F32 || op_post(op) != NULL) return false;
  if (l.x == NULL) return float_input(&l);
  if (!value_is_const(w)) return stays(&l, "weights are no constants");
  if (w->type->dtype != DT_F32 || !read_geometry(&l)) return stays(&l, "shape");
  if (!weights_fit(l.m, known->pass->arena, w, tolerance(known->pass), &l.w)) return stays(&l, no_grid_words(&l));
  if (!bias_fits(&l)) return stays(&l, "bias is not constant per channel");
  if (!read_range(&l)) return stays(&l, "sums pass 32 bits");
  l.a = NEW_ARRAY(known->pass->arena, double, l.w.channels);
  for (int64_t c = 0; c < l.w.channels; c++) l.a[c] = l.w.scale[c] * l.x->scale;
  rewrite(&l);
  note_found(&l);
  Discrete d;
  Value *value;
  while (levels_threshold(known->pass, &l.s, &d, &value)) known_set(known, value, &d);
  return true;
}

PassResult pass_levels(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  Known known = known_new(ctx);
  bool changed = false;
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (op->n_out > 0 && op->out[0]->n_uses == 0) continue;
    if (op->kind == OP_CONV || op->kind == OP_MATMUL) {
      changed |= make_integer(&known, op);
    } else {
      known_visit(&known, op);
    }
  }
  if (changed) known_share(&known);
  graph_drop_dead(f);
  return changed ? PASS_CHANGED : PASS_SAME;
}
